package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

// A Key signs tokens with one algorithm.
type Key struct {
	ID     string
	Alg    string
	Secret any    // *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey or []byte
	Extra  Object // changes to the JWK
}

// NewKey returns a key for the algorithm. Every key but an RSA one is new; an RSA one is one of three, by n, because
// they take long to make.
func NewKey(id, alg string, n int) Key {
	var secret any
	switch alg {
	case "ES256":
		secret = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case "ES384":
		secret = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case "ES512":
		secret = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	case "EdDSA":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		secret = must(key, err)
	case "HS256":
		secret = []byte(rand.Text() + rand.Text())
	default:
		secret = rsaKeys[n]()
	}
	return Key{ID: id, Alg: alg, Secret: secret}
}

func newRSAKey() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) }

var rsaKeys = [...]func() *rsa.PrivateKey{sync.OnceValue(newRSAKey), sync.OnceValue(newRSAKey), sync.OnceValue(newRSAKey)}

// As returns the key with another id and changes to its JWK.
func (k Key) As(id string, extra Object) Key {
	k.ID, k.Extra = id, extra
	return k
}

// For returns the key for another algorithm.
func (k Key) For(alg string) Key {
	k.Alg = alg
	return k
}

// JWK returns the public key with its id, without alg and use unless they are among the changes: as Entra ID does.
func (k Key) JWK() Object {
	jwk := Object{}
	if k.ID != "" {
		jwk["kid"] = k.ID
	}
	switch secret := k.Secret.(type) {
	case *rsa.PrivateKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", b64(secret.N.Bytes()), b64(big.NewInt(int64(secret.E)).Bytes())
	case *ecdsa.PrivateKey:
		point := must(secret.PublicKey.Bytes())[1:] // after the format byte, X and Y
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", secret.Params().Name, b64(point[:len(point)/2]), b64(point[len(point)/2:])
	case ed25519.PrivateKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", b64(secret[32:])
	case []byte:
		jwk["kty"], jwk["k"] = "oct", b64(secret)
	}
	return jwk.With(k.Extra)
}

// Sign returns a token with the key's alg, its kid if it has one, and the typ JWT, changed as header says.
func (k Key) Sign(header, claims Object) string {
	return k.SignText(string(encode(k.header().With(header))), string(encode(claims)))
}

// SignText returns a token whose header and claims are the texts, which need not be JSON.
func (k Key) SignText(header, claims string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(claims))
	return signed + "." + b64(k.signature(signed))
}

func (k Key) header() Object {
	header := Object{"alg": k.Alg, "typ": "JWT"}
	if k.ID != "" {
		header["kid"] = k.ID
	}
	return header
}

func (k Key) signature(signed string) []byte {
	method := jwt.GetSigningMethod(k.Alg)
	if method == nil {
		panic(fmt.Sprintf("no algorithm %q", k.Alg))
	}
	return must(method.Sign(signed, k.Secret))
}

// rsa and ecdsa return the key's secret, which must be of that kind.
func (k Key) rsa() *rsa.PrivateKey     { return kind[*rsa.PrivateKey](k.Secret) }
func (k Key) ecdsa() *ecdsa.PrivateKey { return kind[*ecdsa.PrivateKey](k.Secret) }

func kind[T any](secret any) T {
	s, ok := secret.(T)
	if !ok {
		panic(fmt.Sprintf("the key is a %T", secret))
	}
	return s
}

func (k Key) public() crypto.PublicKey {
	return kind[crypto.Signer](k.Secret).Public()
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
