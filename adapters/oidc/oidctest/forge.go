package oidctest

import (
	"bytes"
	"compress/flate"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"strings"
)

// What nobody who means well would make.

// sized returns a valid token of the greatest length up to MaxToken, or with more the next longer one.
func (l *Lab) sized(more bool) string {
	token := func(filler int) string {
		return l.p256.Sign(nil, l.Claims().With(Object{"filler": strings.Repeat("f", filler)}))
	}
	filler := sort.Search(MaxToken, func(n int) bool { return len(token(n)) > MaxToken })
	if !more {
		filler--
	}
	return token(filler)
}

// otherS returns a token whose ECDSA signature has n-s for s.
func (l *Lab) otherS() string {
	valid := l.Valid()
	dot := strings.LastIndexByte(valid, '.')
	signature := unb64(valid[dot+1:])
	n := l.p256.ecdsa().Params().N
	new(big.Int).Sub(n, new(big.Int).SetBytes(signature[32:])).FillBytes(signature[32:])
	return valid[:dot+1] + b64(signature)
}

// edMalleable returns a token whose Ed25519 signature has s plus the order of the group for s.
func (l *Lab) edMalleable() string {
	valid := l.ed.Sign(nil, l.Claims())
	dot := strings.LastIndexByte(valid, '.')
	signature := unb64(valid[dot+1:])
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	s := slices.Clone(signature[32:])
	slices.Reverse(s) // little-endian
	sum := new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	return valid[:dot+1] + b64(append(signature[:32:32], sum...))
}

// pss returns a PS256 token with a salt of the given length.
func (l *Lab) pss(salt int) string {
	signed := b64(encode(l.rsa.For("PS256").header())) + "." + b64(encode(l.Claims()))
	digest := sha256.Sum256([]byte(signed))
	options := &rsa.PSSOptions{SaltLength: salt}
	if salt == 0 { // which the package takes to mean any
		return signed + "." + b64(l.saltless(digest[:]))
	}
	return signed + "." + b64(must(rsa.SignPSS(rand.Reader, l.rsa.rsa(), crypto.SHA256, digest[:], options)))
}

// saltless is RSASSA-PSS-SIGN (RFC 8017 §8.1.1) with SHA-256 and an empty salt.
func (l *Lab) saltless(digest []byte) []byte {
	key := l.rsa.rsa()
	h := sha256.Sum256(append(make([]byte, 8), digest...))
	em := make([]byte, 256)
	db := em[:256-sha256.Size-1]
	db[len(db)-1] = 1
	for i, n := 0, uint32(0); i < len(db); n++ {
		mask := sha256.Sum256(append(h[:], byte(n>>24), byte(n>>16), byte(n>>8), byte(n)))
		for _, b := range mask {
			if i < len(db) {
				db[i] ^= b
				i++
			}
		}
	}
	db[0] &= 0x7f // the encoded message has a bit less than the modulus
	copy(em[len(db):], h[:])
	em[255] = 0xbc
	return new(big.Int).Exp(new(big.Int).SetBytes(em), key.D, key.N).FillBytes(make([]byte, 256))
}

// exponentOne returns a token that verifies, without any private key, against the set's key whose exponent is one: the
// signature is the padded digest itself.
func (l *Lab) exponentOne() string {
	signed := b64(encode(Object{"alg": "RS256", "kid": "e1"})) + "." + b64(encode(l.Claims()))
	digest := sha256.Sum256([]byte(signed))
	info := slices.Concat([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest[:])
	padded := slices.Concat([]byte{0, 1}, slices.Repeat([]byte{0xff}, 256-3-len(info)), []byte{0}, info)
	return signed + "." + b64(padded)
}

func hmacToken(header, claims Object) string {
	signed := b64(encode(header)) + "." + b64(encode(claims))
	mac := hmac.New(sha256.New, nil)
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}

func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func unb64(s string) []byte { return must(base64.RawURLEncoding.DecodeString(s)) }

// nextLetter returns the letter of base64url behind c: as the last of a signature of 64 bytes, one whose spare bits are
// not all zero.
func nextLetter(c byte) byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return letters[strings.IndexByte(letters, c)+1]
}

// plainLetters returns s, which is base64url, in the alphabet of plain base64, with at least one letter that differs.
func plainLetters(s string) string {
	return "+" + strings.NewReplacer("-", "+", "_", "/").Replace(s)[1:]
}

// A jws is a token taken apart, to be put together in another way.
type jws struct {
	signed    string // header and claims, as the signature is over them
	signature []byte
}

func takeApart(token string) jws {
	dot := strings.LastIndexByte(token, '.')
	return jws{token[:dot], unb64(token[dot+1:])}
}

// with returns the token with another signature.
func (j jws) with(signature []byte) string { return j.signed + "." + b64(signature) }

// numbers returns the two halves of an ECDSA signature.
func (j jws) numbers() (r, s *big.Int) {
	half := len(j.signature) / 2
	return new(big.Int).SetBytes(j.signature[:half]), new(big.Int).SetBytes(j.signature[half:])
}

// pair returns the token with an ECDSA signature of these two numbers.
func (j jws) pair(r, s *big.Int) string {
	half := len(j.signature) / 2
	return j.with(append(r.FillBytes(make([]byte, half)), s.FillBytes(make([]byte, half))...))
}

// edIdentity returns a token whose Ed25519 signature is the identity of the group and zero: it verifies any text where
// the key is the identity too.
func (l *Lab) edIdentity() string {
	return takeApart(l.ed.Sign(nil, l.Claims())).with(append([]byte{1}, make([]byte, ed25519.SignatureSize-1)...))
}

// deflated returns a token whose claims are compressed, as those of a JWE may be (RFC 7516 §4.1.3).
func (l *Lab) deflated() string {
	var text bytes.Buffer
	w := must(flate.NewWriter(&text, flate.BestCompression))
	_ = must(w.Write(encode(l.Claims())))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return l.p256.SignText(string(encode(l.p256.header().With(Object{"zip": "DEF"}))), text.String())
}

// texts returns the header and the claims of a token that is to be accepted.
func (l *Lab) texts() (header, claims string) {
	return string(encode(l.p256.header())), string(encode(l.Claims()))
}

// manyMembers returns the beginning of an object with n members, up to the comma behind them.
func manyMembers(n int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		fmt.Fprintf(&b, `"a%d":0,`, i)
	}
	return b.String()
}

// rawRSA is RSA's private operation on a digest without any padding.
func (l *Lab) rawRSA(digest [sha256.Size]byte) []byte {
	key := l.rsa.rsa()
	return new(big.Int).Exp(new(big.Int).SetBytes(digest[:]), key.D, key.N).FillBytes(make([]byte, 256))
}

// edPrehashed returns a token signed with Ed25519ph (RFC 8032 §5.1), which no algorithm of JWS is.
func (l *Lab) edPrehashed() string {
	valid := takeApart(l.ed.Sign(nil, l.Claims()))
	digest := sha512.Sum512([]byte(valid.signed))
	return valid.with(must(kind[ed25519.PrivateKey](l.ed.Secret).Sign(rand.Reader, digest[:], crypto.SHA512)))
}

// strayHeader returns a valid token but for the last letter of its header, which has spare bits that are not zero. The
// signature is over the text as it is.
func (l *Lab) strayHeader() string {
	header := encode(l.p256.header())
	for len(header)%3 == 0 {
		header = append(header, ' ')
	}
	text := b64(header)
	text = text[:len(text)-1] + string(nextLetter(text[len(text)-1]))
	signed := text + "." + b64(encode(l.Claims()))
	return signed + "." + b64(l.p256.signature(signed))
}

// relabelled returns a token that is signed as the key's algorithm has it, and said to be alg.
func (k Key) relabelled(alg string, claims Object) string {
	signed := b64(encode(k.header().With(Object{"alg": alg}))) + "." + b64(encode(claims))
	return signed + "." + b64(k.signature(signed))
}
