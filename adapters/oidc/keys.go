package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // a hash of the algorithms, as is SHA-256
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxKeys is how many keys of a set are looked at. Issuers publish a handful.
	maxKeys = 100
	// RSA keys below 2048 bits are forbidden by RFC 7518 §3.3; those above 8192 cost more time than any issuer's are worth.
	minRSABits = 2048
	maxRSABits = 8192
	// maxLoggedKid is how many characters of a kid, which anybody may have written, go to the log.
	maxLoggedKid = 64
)

// signingMethods returns the algorithms that can be verified with a public key (RFC 7518 §3.1, RFC 8037 §3.1).
func signingMethods() map[string]jwt.SigningMethod {
	methods := make(map[string]jwt.SigningMethod, 10)
	for _, m := range []jwt.SigningMethod{
		jwt.SigningMethodRS256, jwt.SigningMethodRS384, jwt.SigningMethodRS512,
		ecdsaMethod{jwt.SigningMethodES256}, ecdsaMethod{jwt.SigningMethodES384}, ecdsaMethod{jwt.SigningMethodES512},
		jwt.SigningMethodEdDSA,
	} {
		methods[m.Alg()] = m
	}
	// The library's own take any length of salt; RFC 7518 §3.5 has that of the hash.
	for _, m := range []*jwt.SigningMethodRSAPSS{jwt.SigningMethodPS256, jwt.SigningMethodPS384, jwt.SigningMethodPS512} {
		salted := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		methods[m.Alg()] = &jwt.SigningMethodRSAPSS{SigningMethodRSA: m.SigningMethodRSA, Options: salted}
	}
	return methods
}

// A keySet is what a JWK Set (RFC 7517) comes to: the usable keys, by what a token says of its own. It does not change.
type keySet struct {
	keys map[keyUse]jwt.VerificationKeySet // with an empty kid: of every key
	kids map[string]bool
	size int    // usable keys
	text digest // of the text: two sets of one text are the same
}

type keyUse struct{ alg, kid string }

// Why a set has no key for a token.
var (
	errNoKey      = errors.New("the issuer has no usable key")
	errNoKid      = errors.New("kid is missing and the issuer has several keys")
	errUnknownKid = errors.New("the issuer has no key of this kid")
	errMisfit     = errors.New("the key of this kid is not for this algorithm")
)

// find returns the keys that may have signed a token with this algorithm and kid. Several keys of one kid are all
// returned: RFC 7517 §4.5 only advises against them.
func (s *keySet) find(alg string, kid []byte) (jwt.VerificationKeySet, error) {
	found, ok := s.keys[keyUse{alg, string(kid)}]
	switch {
	case s.size == 0:
		return found, errNoKey
	case len(kid) == 0 && s.size > 1:
		return found, errNoKid
	case ok:
		return found, nil
	case len(kid) == 0 || s.kids[string(kid)]:
		return found, errMisfit
	}
	return found, errUnknownKid
}

// parseKeySet parses a JWK Set key by key, so that a malformed or foreign one takes no other with it (RFC 7517 §5);
// skipped is told of it. A set without a usable key is no error: the issuer may have withdrawn them all.
func parseKeySet(text []byte, skipped func(kid string, why error)) (*keySet, error) {
	var set struct {
		Keys *[]jsontext.Value `json:"keys"`
	}
	// What is wrong within one key is for parseKey to find.
	lenient := json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err := json.Unmarshal(text, &set, lenient); err != nil || set.Keys == nil {
		return nil, errors.New("not a JWK Set")
	}
	entries := *set.Keys
	if len(entries) > maxKeys {
		skipped("", fmt.Errorf("only %d of %d keys are looked at", maxKeys, len(entries)))
		entries = entries[:maxKeys]
	}
	stores := make(map[keyUse]*jwkset.MemoryJWKSet)
	s := &keySet{keys: make(map[keyUse]jwt.VerificationKeySet), kids: make(map[string]bool), text: sha256.Sum256(text)}
	for _, entry := range entries {
		key, err := parseKey(entry)
		if err != nil {
			skipped(key.kid, err)
			continue
		}
		s.size++
		s.kids[key.kid] = true
		for _, alg := range key.algs {
			uses := []keyUse{{alg, ""}, {alg, key.kid}}
			for _, use := range slices.Compact(uses) {
				if stores[use] == nil {
					stores[use] = jwkset.NewMemoryStorage()
				}
				if err := stores[use].KeyWrite(context.Background(), key.jwk); err != nil {
					return nil, err
				}
			}
		}
	}
	for use, store := range stores {
		keys, err := keyfunc.New(keyfunc.Options{Storage: store})
		if err != nil {
			return nil, err
		}
		if s.keys[use], err = keys.VerificationKeySet(context.Background()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// A usableKey is a public key and what it may be used for.
type usableKey struct {
	jwk  jwkset.JWK
	kid  string
	algs []string
}

// parseKey parses one key of a set. Members that only private keys and certificates have are not looked at. With an
// error only the kid is set, if that could be read.
func parseKey(text []byte) (usableKey, error) {
	var raw struct {
		Type       jwkset.KTY `json:"kty"`
		Use        string     `json:"use"`
		Operations []string   `json:"key_ops"`
		Algorithm  string     `json:"alg"`
		ID         string     `json:"kid"`
		Curve      jwkset.CRV `json:"crv"`
		X          string     `json:"x"`
		Y          string     `json:"y"`
		N          string     `json:"n"`
		E          string     `json:"e"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return usableKey{}, errors.New("malformed")
	}
	key := usableKey{kid: raw.ID}
	if raw.Use != "" && raw.Use != string(jwkset.UseSig) {
		return key, errors.New("use is not sig (RFC 7517 §4.2)")
	}
	if raw.Operations != nil && !slices.Contains(raw.Operations, string(jwkset.KeyOpsVerify)) {
		return key, errors.New("key_ops has no verify (RFC 7517 §4.3)")
	}
	// Without k there is no oct key: a secret that is published is none.
	material := jwkset.JWKMarshal{KTY: raw.Type, CRV: raw.Curve, X: raw.X, Y: raw.Y, N: raw.N, E: raw.E}
	jwk, err := jwkset.NewJWKFromMarshal(material, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key, errors.New("no key that can be used") // the library's own words stay here
	}
	algs, err := algorithms(jwk.Key())
	if err != nil {
		return key, err
	}
	if raw.Algorithm != "" {
		if !slices.Contains(algs, raw.Algorithm) {
			return key, errors.New("alg is none that a key of its kind has")
		}
		algs = []string{raw.Algorithm}
	}
	key.jwk, key.algs = jwk, algs
	return key, nil
}

// algorithms returns what a key can be used with, by its type and curve (RFC 7518 §3.1, RFC 8037 §3.1).
func algorithms(key any) ([]string, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("the modulus has %d bits and not %d to %d", bits, minRSABits, maxRSABits)
		}
		if key.N.Bit(0) == 0 || key.E%2 == 0 { // exponents below 2 are not parsed
			return nil, errors.New("the modulus and the exponent must be odd")
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return []string{"ES256"}, nil
		case elliptic.P384():
			return []string{"ES384"}, nil
		case elliptic.P521():
			return []string{"ES512"}, nil
		}
	case ed25519.PublicKey:
		if smallOrder(key) {
			return nil, errors.New("the point is of small order: anybody can sign for it")
		}
		return []string{"EdDSA"}, nil
	}
	return nil, errors.New("not a kind of key that signs")
}

// smallOrder reports whether an Ed25519 key is one of the points of order 1, 2, 4 and 8, for which signatures are made
// without a private key. RFC 8032 §5.1.7, and so crypto/ed25519, takes them; see Chalkias, Garillot and Nikolaenko,
// Taming the many EdDSAs (https://eprint.iacr.org/2020/1244), table 4.
func smallOrder(key ed25519.PublicKey) bool {
	y := slices.Clone(key)
	y[len(y)-1] &= 0x7f // the sign of x
	switch hex.EncodeToString(y) {
	case "0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 0 again, as p
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": // 1 again
		return true
	}
	return false
}
