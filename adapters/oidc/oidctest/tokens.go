package oidctest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/jobgate/jobgate/domain"
)

// What a Lab's tokens are for, and the bounds that its table is made for.
const (
	Audience = "https://jobgate.example"
	Client   = "client-1"
	Subject  = "alice"
	Leeway   = time.Minute
	MaxToken = 8 << 10
)

// Claims returns the claims of an issuer's access token that is valid for an hour.
func Claims(issuer string, now time.Time) Object {
	return Object{
		"iss": issuer, "aud": Audience, "sub": Subject, "client_id": Client, "jti": "token-1",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "scope": "jobs:submit jobs:read",
	}
}

// A Lab is two issuers that are both trusted, for tokens with the Audience, and everything that is needed to make tokens
// that they did not issue.
type Lab struct {
	A, B *Issuer
	now  time.Time

	rsa, rs256Only, foreignRSA, strangerRSA Key
	p256, p384, p521, ed, foreignP256       Key
	stranger                                Key
	small                                   *rsa.PrivateKey
}

// NewLab returns a lab for tokens that are looked at now. The issuers' URLs are for the caller to set.
func NewLab(now time.Time) *Lab {
	l := &Lab{
		A: &Issuer{}, B: &Issuer{}, now: now,
		rsa: NewKey("rsa", "RS256", 0), foreignRSA: NewKey("rsa", "RS256", 1), strangerRSA: NewKey("rsa", "RS256", 2),
		p256: NewKey("p256", "ES256", 0), p384: NewKey("p384", "ES384", 0), p521: NewKey("p521", "ES512", 0),
		ed: NewKey("ed", "EdDSA", 0), foreignP256: NewKey("b-p256", "ES256", 0), stranger: NewKey("p256", "ES256", 0),
		small: must(rsa.GenerateKey(rand.Reader, 1024)), //nolint:gosec // what is to be refused
	}
	l.rs256Only = l.foreignRSA.As("rs256-only", Object{"alg": "RS256", "use": "sig", "key_ops": []string{"verify"}})
	off := l.p256.As("off-curve", Object{"y": l.p256.JWK()["x"]})
	l.A.Publish(
		l.rsa, l.rs256Only, l.p256, l.p384, l.p521, l.ed,
		// All of these are to be skipped.
		l.rsa.As("enc", Object{"use": "enc"}),
		l.rsa.As("sign-only", Object{"key_ops": []string{"sign"}}),
		l.rsa.As("e1", Object{"e": "AQ"}),
		l.rsa.As("e2", Object{"e": "Ag"}),
		l.rsa.As("not-base64", Object{"n": "!"}),
		l.rsa.As("mistyped", Object{"n": 5}),
		l.p256.As("wrong-alg", Object{"alg": "ES384"}),
		l.p256.As("wrong-curve", Object{"crv": "P-384"}),
		l.p256.As("koblitz", Object{"crv": "secp256k1"}),
		l.ed.As("x25519", Object{"crv": "X25519"}),
		Key{ID: "small", Secret: l.small},
		Key{ID: "oct", Secret: []byte(strings.Repeat("k", 32))},
		off,
	)
	l.B.Publish(l.foreignRSA, l.foreignP256)
	return l
}

// Claims returns the claims of a token of issuer A that is to be accepted.
func (l *Lab) Claims() Object { return Claims(l.A.URL, l.now) }

// Valid returns a token that is to be accepted.
func (l *Lab) Valid() string { return l.p256.Sign(nil, l.Claims()) }

// A Token is one line of the table.
type Token struct {
	Name   string
	Source string        // the rule or the flaw that it comes from
	Want   domain.Reason // empty: it is to be accepted
	Raw    string
}

// Tokens returns the table. The verdicts hold for a verifier of both issuers with the Lab's bounds and defaults for
// everything else.
func (l *Lab) Tokens() []Token {
	return slices.Concat(l.forms(), l.headers(), l.signatures(), l.confusions(), l.claims(), l.kinds(), l.accepted())
}

const (
	accepted  = domain.Reason("")
	malformed = domain.ReasonInvalidToken
	claims    = domain.ReasonInvalidClaims
	expired   = domain.ReasonTokenExpired
	unsigned  = domain.ReasonInvalidSignature
)

// null is JSON's null, which a Go nil is not in an Object.
var null = json.RawMessage("null")

func (l *Lab) accepted() []Token {
	signed := func(k Key) string { return k.Sign(nil, l.Claims()) }
	changed := func(change Object) string { return l.p256.Sign(nil, l.Claims().With(change)) }
	typed := func(typ any) string { return l.p256.Sign(Object{"typ": typ}, l.Claims()) }
	return []Token{
		{"RS256", "RFC 7518 §3.3", accepted, signed(l.rsa)},
		{"RS384", "RFC 7518 §3.3", accepted, signed(l.rsa.For("RS384"))},
		{"RS512", "RFC 7518 §3.3", accepted, signed(l.rsa.For("RS512"))},
		{"PS256", "RFC 7518 §3.5", accepted, signed(l.rsa.For("PS256"))},
		{"PS384", "RFC 7518 §3.5", accepted, signed(l.rsa.For("PS384"))},
		{"PS512", "RFC 7518 §3.5", accepted, signed(l.rsa.For("PS512"))},
		{"ES256", "RFC 7518 §3.4", accepted, signed(l.p256)},
		{"ES384", "RFC 7518 §3.4", accepted, signed(l.p384)},
		{"ES512", "RFC 7518 §3.4", accepted, signed(l.p521)},
		{"EdDSA", "RFC 8037 §3.1", accepted, signed(l.ed)},
		{"a key for one algorithm, with it", "RFC 7517 §4.4", accepted, signed(l.rs256Only)},
		{"the other issuer's token", "RFC 7519 §4.1.1", accepted, l.foreignRSA.Sign(nil, l.Claims().With(Object{"iss": l.B.URL}))},
		{"no typ", "RFC 7519 §5.1", accepted, typed(nil)},
		{"typ at+jwt", "RFC 9068 §2.1", accepted, typed("at+jwt")},
		{"typ in capitals with its prefix", "RFC 7515 §4.1.9", accepted, typed("application/AT+JWT")},
		{"typ jwt in small letters", "RFC 7519 §5.1", accepted, typed("jwt")},
		{"jku, jwk, x5u and x5c are ignored", "RFC 8725 §3.10", accepted, l.p256.Sign(Object{
			"jku": "https://attacker.example/keys", "jwk": l.stranger.JWK(), "x5u": "https://attacker.example/cert", "x5c": []string{"AAAA"},
		}, l.Claims())},
		{"an unknown header member", "RFC 7515 §4", accepted, l.p256.Sign(Object{"x-app": true}, l.Claims())},
		{"b64 true", "RFC 7797 §3", accepted, l.p256.Sign(Object{"b64": true}, l.Claims())},
		{"aud in a list", "RFC 7519 §4.1.3", accepted, changed(Object{"aud": []string{"other", Audience}})},
		{"exp with a fraction", "RFC 7519 §2", accepted, changed(Object{"exp": float64(l.now.Unix()) + 0.5})},
		{"expired within the leeway", "RFC 7519 §4.1.4", accepted, changed(Object{"exp": l.now.Add(-Leeway / 2).Unix()})},
		{"nbf within the leeway", "RFC 7519 §4.1.5", accepted, changed(Object{"nbf": l.now.Add(Leeway / 2).Unix()})},
		{"iat ahead of the clock", "RFC 7519 §4.1.6", accepted, changed(Object{"iat": l.now.Add(time.Hour).Unix()})},
		{"sub of 255 characters", "OpenID Connect Core §2", accepted, changed(Object{"sub": strings.Repeat("é", 255)})},
		{"no jti and no scope", "RFC 7519 §4.1", accepted, changed(Object{"jti": nil, "scope": nil})},
		{"an empty scope", "RFC 6749 §3.3", accepted, changed(Object{"scope": ""})},
		{"scp as a list", "AWS-style and Okta tokens", accepted, changed(Object{"scope": nil, "scp": []string{"jobs:read"}})},
		{"Keycloak's typ Bearer", "Keycloak", accepted, changed(Object{"typ": "Bearer"})},
		{"Cognito's token_use access", "Cognito", accepted, changed(Object{"token_use": "access"})},
		{"claims with white space around", "RFC 8259 §2", accepted, l.p256.SignText(string(encode(l.p256.header())), " "+string(encode(l.Claims()))+"\n")},
		{"as long as may be", "the settings", accepted, l.sized(false)},
		// ECDSA signatures can be changed into another valid one without the key; the claims stay as they were signed.
		{"ECDSA with the other s", "RFC 7518 §3.4", accepted, l.otherS()},
	}
}

func (l *Lab) forms() []Token {
	valid := l.Valid()
	parts := strings.Split(valid, ".")
	header, payload, signature := parts[0], parts[1], parts[2]
	text := string(encode(l.p256.header()))
	body := string(encode(l.Claims()))
	signed := func(header, claims string) string { return l.p256.SignText(header, claims) }
	return []Token{
		{"not a token", "RFC 7515 §7.1", malformed, "junk"},
		{"two dots", "RFC 7515 §7.1", malformed, ".."},
		{"two parts", "RFC 7515 §7.1", malformed, header + "." + payload},
		{"four parts", "RFC 7515 §7.1", malformed, valid + "."},
		{"five parts, as a JWE has", "RFC 7516 §7.1", malformed, valid + "." + payload + "." + signature},
		{"JSON serialisation", "RFC 7515 §7.2", malformed, `{"payload":"` + payload + `","protected":"` + header + `","signature":"` + signature + `"}`},
		{"no header", "RFC 7515 §7.1", malformed, "." + payload + "." + signature},
		{"no payload", "RFC 7515 §7.1", malformed, header + ".." + signature},
		{"the scheme still in front", "RFC 6750 §2.1", malformed, "Bearer " + valid},
		{"a space in front", "RFC 7515 §2", malformed, " " + valid},
		{"a space behind", "RFC 7515 §2", malformed, valid + " "},
		{"a line end behind", "RFC 7515 §2", malformed, valid + "\n"},
		{"a line end within", "RFC 7515 §2", malformed, header[:8] + "\r\n" + header[8:] + "." + payload + "." + signature},
		{"padding", "RFC 7515 §2", malformed, valid + "=="},
		{"stray bits in the signature", "RFC 4648 §3.5", malformed, valid[:len(valid)-1] + string(nextLetter(valid[len(valid)-1]))},
		{"the letters of plain base64", "RFC 7515 §2", malformed, header + "." + payload + "." + plainLetters(signature)},
		{"a letter of no alphabet", "RFC 7515 §2", malformed, header + "." + payload + ".é" + signature},
		{"a NUL", "RFC 7515 §2", malformed, valid + "\x00"},
		{"too long", "the settings", malformed, l.sized(true)},
		{"too long, of a stranger", "size comes before any parsing", malformed, l.p256.Sign(nil, l.Claims().With(Object{"iss": "https://attacker.example", "filler": strings.Repeat("f", MaxToken)}))},
		{"far too long", "CVE-2025-30204", malformed, strings.Repeat(".", 1<<20)},
		{"header is a list", "RFC 7515 §4", malformed, signed("["+text+"]", body)},
		{"header is null", "RFC 7515 §4", malformed, signed("null", body)},
		{"header is empty", "RFC 7515 §4", malformed, signed("", body)},
		{"header with something behind", "RFC 8259 §2", malformed, signed(text+"{}", body)},
		{"header with a byte order mark", "RFC 8259 §8.1", malformed, signed("\ufeff"+text, body)},
		{"header that is not UTF-8", "RFC 7515 §5.2", malformed, signed(`{"x":"`+"\xff"+`",`+text[1:], body)},
		{"header cut short", "RFC 8259 §4", malformed, signed(text[:len(text)-1], body)},
		{"header with two alg", "RFC 7515 §4", malformed, signed(`{"alg":"none",`+text[1:], body)},
		{"header with two alg, one in escapes", "RFC 7515 §4", malformed, signed(`{"\u0061lg":"none",`+text[1:], body)},
		{"header with two kid", "RFC 7515 §4", malformed, signed(`{"kid":"x",`+text[1:], body)},
		{"header nested deep", "CWE-674", malformed, signed(`{"x":`+strings.Repeat("[", 2000)+`,`+text[1:], body)},
		{"claims are a list", "RFC 7519 §7.2", malformed, signed(text, "["+body+"]")},
		{"claims are a string", "RFC 7519 §7.2", malformed, signed(text, `"alice"`)},
		{"claims are another token", "RFC 7519 §5.2", malformed, signed(text, valid)},
		{"claims with something behind", "RFC 8259 §2", malformed, signed(text, body+"x")},
		{"claims that are not UTF-8", "RFC 7519 §7.2", malformed, signed(text, `{"name":"`+"\xc3\x28"+`",`+body[1:])},
		{"claims with half a surrogate pair", "RFC 7493 §2.1", malformed, signed(text, `{"name":"\ud800",`+body[1:])},
		{"claims with two sub", "RFC 7519 §4", malformed, signed(text, `{"sub":"root",`+body[1:])},
		{"claims with two sub, one in escapes", "RFC 7519 §4", malformed, signed(text, `{"s\u0075b":"root",`+body[1:])},
		{"claims with two iss", "RFC 7519 §4", malformed, signed(text, `{"iss":"`+l.B.URL+`",`+body[1:])},
		{"claims with two of a name further in", "RFC 7493 §2.3", malformed, signed(text, `{"x":{"a":1,"a":2},`+body[1:])},
		{"claims with a comment", "RFC 8259 §2", malformed, signed(text, `{/**/`+body[1:])},
	}
}

func (l *Lab) headers() []Token {
	with := func(change Object) string { return l.p256.Sign(change, l.Claims()) }
	return []Token{
		{"no alg", "RFC 7515 §4.1.1", malformed, with(Object{"alg": nil})},
		{"alg is null", "RFC 7515 §4.1.1", malformed, with(Object{"alg": null})},
		{"alg is a number", "RFC 7515 §4.1.1", malformed, with(Object{"alg": 256})},
		{"alg is a list", "RFC 7515 §4.1.1", malformed, with(Object{"alg": []string{"ES256"}})},
		{"alg in small letters", "RFC 7515 §4.1.1", malformed, with(Object{"alg": "es256"})},
		{"alg with a space", "RFC 7515 §4.1.1", malformed, with(Object{"alg": "ES256 "})},
		{"ALG for alg", "RFC 7515 §4", malformed, with(Object{"alg": nil, "ALG": "ES256"})},
		{"alg of another curve", "RFC 8812", malformed, with(Object{"alg": "ES256K"})},
		{"alg of encryption", "RFC 7518 §4.1", malformed, with(Object{"alg": "RSA-OAEP"})},
		{"no kid, and several keys", "RFC 7515 §4.1.4", malformed, with(Object{"kid": nil})},
		{"kid is null", "RFC 7515 §4.1.4", malformed, with(Object{"kid": null})},
		{"kid is a number", "RFC 7515 §4.1.4", malformed, with(Object{"kid": 1})},
		{"kid is empty", "RFC 7515 §4.1.4", malformed, with(Object{"kid": ""})},
		{"kid is an object", "RFC 7515 §4.1.4", malformed, with(Object{"kid": Object{"p256": 1}})},
		{"kid of nobody", "RFC 7515 §4.1.4", unsigned, with(Object{"kid": "nobody"})},
		{"kid is a path", "RFC 8725 §3.10", unsigned, with(Object{"kid": "../../../../dev/null"})},
		{"kid is a URL", "RFC 8725 §3.10", unsigned, with(Object{"kid": "https://attacker.example/keys"})},
		{"kid is SQL", "RFC 8725 §3.10", unsigned, with(Object{"kid": "p256' OR '1'='1"})},
		{"kid has line ends", "CWE-117", unsigned, with(Object{"kid": "p256\nlevel=info msg=accepted"})},
		{"kid in capitals", "RFC 7515 §4.1.4", unsigned, with(Object{"kid": "P256"})},
		{"kid of 4,000 characters", "CWE-400", unsigned, with(Object{"kid": strings.Repeat("k", 4000)})},
		{"kid of another of the issuer's keys", "RFC 7515 §4.1.4", unsigned, with(Object{"kid": "p384"})},
		{"crit names a claim", "RFC 7515 §4.1.11", malformed, with(Object{"crit": []string{"exp"}, "exp": 1})},
		{"crit names what nobody knows", "RFC 7515 §4.1.11", malformed, with(Object{"crit": []string{"x"}, "x": 1})},
		{"crit is empty", "RFC 7515 §4.1.11", malformed, with(Object{"crit": []string{}})},
		{"crit is null", "RFC 7515 §4.1.11", malformed, with(Object{"crit": null})},
		{"crit names b64", "RFC 7797 §6", malformed, with(Object{"crit": []string{"b64"}, "b64": true})},
		{"b64 is false", "RFC 7797 §7", malformed, with(Object{"b64": false})},
		{"b64 is a string", "RFC 7797 §3", malformed, with(Object{"b64": "true"})},
		{"typ of a logout token", "RFC 8725 §3.11", malformed, with(Object{"typ": "logout+jwt"})},
		{"typ of a DPoP proof", "RFC 9449 §4.2", malformed, with(Object{"typ": "dpop+jwt"})},
		{"typ of a security event", "RFC 8417 §2.3", malformed, with(Object{"typ": "secevent+jwt"})},
		{"typ of an introspection response", "RFC 9701 §5", malformed, with(Object{"typ": "token-introspection+jwt"})},
		{"typ is empty", "RFC 7515 §4.1.9", malformed, with(Object{"typ": ""})},
		{"typ is a number", "RFC 7515 §4.1.9", malformed, with(Object{"typ": 1})},
		{"typ is null", "RFC 7515 §4.1.9", malformed, with(Object{"typ": null})},
		{"typ has its prefix twice", "RFC 7515 §4.1.9", malformed, with(Object{"typ": "application/application/jwt"})},
	}
}

func (l *Lab) signatures() []Token {
	valid := l.Valid()
	dot := strings.LastIndexByte(valid, '.')
	signed, signature := valid[:dot], unb64(valid[dot+1:])
	header, payload, _ := strings.Cut(signed, ".")
	ec := func(signature []byte) string { return signed + "." + b64(signature) }
	n := l.p256.ecdsa().Params().N
	pair := func(r, s *big.Int) string {
		return ec(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	}
	one, zero := big.NewInt(1), new(big.Int)

	rs := l.rsa.Sign(nil, l.Claims())
	rsDot := strings.LastIndexByte(rs, '.')
	rsSigned, rsSignature := rs[:rsDot], unb64(rs[rsDot+1:])
	rsWith := func(signature []byte) string { return rsSigned + "." + b64(signature) }
	modulus := l.rsa.rsa().N

	other := strings.Split(l.p256.Sign(nil, l.Claims().With(Object{"sub": "bob"})), ".")
	return []Token{
		{"no signature", "RFC 7515 §5.2", unsigned, signed + "."},
		{"another's claims under the signature", "RFC 7515 §5.2", unsigned, header + "." + other[1] + "." + valid[dot+1:]},
		{"another token's signature", "RFC 7515 §5.2", unsigned, signed + "." + other[2]},
		{"another header under the signature", "RFC 7515 §5.2", unsigned, b64(encode(l.p256.header().With(Object{"x": 1}))) + "." + payload + "." + valid[dot+1:]},
		{"a bit of the signature is flipped", "RFC 7515 §5.2", unsigned, ec(flip(signature))},
		{"ECDSA, both zero", "CVE-2022-21449", unsigned, pair(zero, zero)},
		{"ECDSA, r zero and s one", "CVE-2022-21449", unsigned, pair(zero, one)},
		{"ECDSA, both one", "RFC 7518 §3.4", unsigned, pair(one, one)},
		{"ECDSA, both the order", "CVE-2022-21449", unsigned, pair(n, n)},
		{"ECDSA, s zero", "RFC 7518 §3.4", unsigned, pair(new(big.Int).SetBytes(signature[:32]), zero)},
		{"ECDSA in ASN.1", "RFC 7518 §3.4", unsigned, ec(must(asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])})))},
		{"ECDSA with a byte more", "RFC 7518 §3.4", unsigned, ec(append([]byte{0}, signature...))},
		{"ECDSA with a byte less", "RFC 7518 §3.4", unsigned, ec(signature[:63])},
		{"ECDSA with zeros at each number's front", "RFC 7518 §3.4", unsigned, ec(slices.Concat([]byte{0}, signature[:32], []byte{0}, signature[32:]))},
		{"ECDSA by a stranger under the issuer's kid", "RFC 7515 §5.2", unsigned, l.stranger.Sign(nil, l.Claims())},
		{"RSA by a stranger under the issuer's kid", "RFC 7515 §5.2", unsigned, l.strangerRSA.Sign(nil, l.Claims())},
		{"RSA with a byte more", "RFC 8017 §8.2.2", unsigned, rsWith(append([]byte{0}, rsSignature...))},
		{"RSA with a byte less", "RFC 8017 §8.2.2", unsigned, rsWith(rsSignature[:255])},
		{"RSA zero", "RFC 8017 §8.2.2", unsigned, rsWith(make([]byte, 256))},
		{"RSA one", "RFC 8017 §8.2.2", unsigned, rsWith(one.FillBytes(make([]byte, 256)))},
		{"RSA with the modulus added", "RFC 8017 §5.2.2", unsigned, rsWith(new(big.Int).Add(new(big.Int).SetBytes(rsSignature), modulus).Bytes())},
		{"RSA-PSS with a short salt", "RFC 7518 §3.5", unsigned, l.pss(20)},
		{"RSA-PSS with no salt", "RFC 7518 §3.5", unsigned, l.pss(0)},
		{"EdDSA with the order added", "RFC 8032 §8.4", unsigned, l.edMalleable()},
		{"EdDSA by a stranger", "RFC 8032 §5.1.7", unsigned, NewKey("ed", "EdDSA", 0).Sign(nil, l.Claims())},
		{"EdDSA zero", "RFC 8032 §5.1.7", unsigned, strings.Join(strings.Split(l.ed.Sign(nil, l.Claims()), ".")[:2], ".") + "." + b64(make([]byte, ed25519.SignatureSize))},
	}
}

func (l *Lab) confusions() []Token {
	with := func(k Key, header Object) string { return k.Sign(header, l.Claims()) }
	hs := func(secret []byte) string {
		return Key{ID: "rsa", Alg: "HS256", Secret: secret}.Sign(nil, l.Claims())
	}
	der := must(x509.MarshalPKIXPublicKey(l.rsa.public()))
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	none := func(alg string) string {
		return b64(encode(Object{"alg": alg, "typ": "JWT", "kid": "rsa"})) + "." + b64(encode(l.Claims())) + "."
	}
	relabelled := func(signer Key, alg string) string { // signed as signer does, and said to be alg
		signed := b64(encode(signer.header().With(Object{"alg": alg}))) + "." + b64(encode(l.Claims()))
		return signed + "." + b64(signer.signature(signed))
	}
	return []Token{
		{"alg none", "RFC 8725 §2.1", malformed, none("none")},
		{"alg None", "RFC 8725 §2.1", malformed, none("None")},
		{"alg NONE", "RFC 8725 §2.1", malformed, none("NONE")},
		{"alg nOnE", "RFC 8725 §2.1", malformed, none("nOnE")},
		{"alg empty", "RFC 7515 §4.1.1", malformed, none("")},
		{"alg none and a signature", "RFC 7518 §3.6", malformed, relabelled(l.rsa, "none")},
		{"HS256 with the public key in PEM", "CVE-2015-9235", malformed, hs(pemKey)},
		{"HS256 with the public key in DER", "CVE-2015-9235", malformed, hs(der)},
		{"HS256 with the modulus", "CVE-2015-9235", malformed, hs(l.rsa.rsa().N.Bytes())},
		{"HS256 with the JWK", "CVE-2015-9235", malformed, hs(encode(l.rsa.JWK()))},
		{"HS256 with an empty secret", "CVE-2019-20933", malformed, hmacToken(l.rsa.header().With(Object{"alg": "HS256"}), l.Claims())},
		{"HS256 with the oct key of the set", "RFC 7517 §4.1", malformed, Key{ID: "oct", Alg: "HS256", Secret: []byte(strings.Repeat("k", 32))}.Sign(nil, l.Claims())},
		{"HS512 with the public key in PEM", "CVE-2015-9235", malformed, Key{ID: "rsa", Alg: "HS512", Secret: pemKey}.Sign(nil, l.Claims())},
		{"RS256 by the name of PS256", "RFC 8725 §3.1", unsigned, relabelled(l.rsa, "PS256")},
		{"PS256 by the name of RS256", "RFC 8725 §3.1", unsigned, relabelled(l.rsa.For("PS256"), "RS256")},
		{"RS256 by the name of RS512", "RFC 8725 §3.1", unsigned, relabelled(l.rsa, "RS512")},
		{"ES256 by the name of ES384", "RFC 7518 §3.4", unsigned, relabelled(l.p256, "ES384")},
		{"ES256 by the name of EdDSA", "RFC 8725 §3.1", unsigned, relabelled(l.p256, "EdDSA")},
		{"RS256 with an elliptic key's kid", "RFC 8725 §3.1", unsigned, with(l.rsa, Object{"kid": "p256"})},
		{"a key for one algorithm, with another", "RFC 7517 §4.4", unsigned, with(l.rs256Only.For("PS256"), nil)},
		{"a key for encryption", "RFC 7517 §4.2", unsigned, with(l.rsa, Object{"kid": "enc"})},
		{"a key for signing only", "RFC 7517 §4.3", unsigned, with(l.rsa, Object{"kid": "sign-only"})},
		{"an RSA key of 1024 bits", "RFC 7518 §3.3", unsigned, with(Key{ID: "small", Alg: "RS256", Secret: l.small}, nil)},
		{"an RSA key with exponent one", "RFC 8017 §3.1", unsigned, l.exponentOne()},
		{"an elliptic key for another curve's algorithm", "RFC 7518 §3.4", unsigned, with(l.p256, Object{"kid": "wrong-alg"})},
		{"jku of a stranger", "RFC 8725 §3.10", unsigned, with(l.stranger, Object{"kid": "stranger", "jku": "https://attacker.example/keys"})},
		{"jwk of a stranger", "CVE-2018-0114", unsigned, with(l.stranger, Object{"kid": "stranger", "jwk": l.stranger.JWK()})},
		{"jwk of a stranger under the issuer's kid", "CVE-2018-0114", unsigned, with(l.stranger, Object{"jwk": l.stranger.JWK()})},
		{"x5u of a stranger", "RFC 8725 §3.10", unsigned, with(l.strangerRSA, Object{"x5u": "https://attacker.example/cert"})},
		{"x5c of a stranger", "RFC 7515 §4.1.6", unsigned, with(l.strangerRSA, Object{"x5c": []string{base64.StdEncoding.EncodeToString(der)}})},
		{"a key of the other trusted issuer", "RFC 8725 §3.8", unsigned, with(l.foreignP256, nil)},
		{"a key of the other trusted issuer with the same kid", "RFC 8725 §3.8", unsigned, with(l.foreignRSA, nil)},
	}
}

func (l *Lab) claims() []Token {
	with := func(change Object) string { return l.p256.Sign(nil, l.Claims().With(change)) }
	at := func(d time.Duration) int64 { return l.now.Add(d).Unix() }
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	return []Token{
		{"no iss", "RFC 7519 §4.1.1", claims, with(Object{"iss": nil})},
		{"iss with a slash behind", "OpenID Connect Discovery §4.3", claims, with(Object{"iss": l.A.URL + "/"})},
		{"iss in capitals", "RFC 7519 §4.1.1", claims, with(Object{"iss": strings.ToUpper(l.A.URL)})},
		{"iss of a stranger", "RFC 7519 §4.1.1", claims, with(Object{"iss": "https://attacker.example"})},
		{"iss that begins as the issuer", "RFC 7519 §4.1.1", claims, with(Object{"iss": l.A.URL + ".attacker.example"})},
		{"iss is a list", "RFC 7519 §4.1.1", claims, with(Object{"iss": []string{l.A.URL}})},
		{"iss is null", "RFC 7519 §4.1.1", claims, with(Object{"iss": null})},
		{"Iss for iss", "RFC 7519 §4", claims, with(Object{"iss": nil, "Iss": l.A.URL})},
		{"no aud", "RFC 7519 §4.1.3", claims, with(Object{"aud": nil})},
		{"aud of another service", "RFC 7519 §4.1.3", claims, with(Object{"aud": "https://other.example"})},
		{"aud that begins as ours", "RFC 7519 §4.1.3", claims, with(Object{"aud": Audience + ".attacker.example"})},
		{"aud that ours begins with", "RFC 7519 §4.1.3", claims, with(Object{"aud": Audience[:10]})},
		{"aud in capitals", "RFC 7519 §4.1.3", claims, with(Object{"aud": strings.ToUpper(Audience)})},
		{"aud with ours among words", "RFC 7519 §4.1.3", claims, with(Object{"aud": "other " + Audience})},
		{"aud is empty", "RFC 7519 §4.1.3", claims, with(Object{"aud": ""})},
		{"aud is an empty list", "CVE-2020-26160", claims, with(Object{"aud": []string{}})},
		{"aud is null", "RFC 7519 §4.1.3", claims, with(Object{"aud": null})},
		{"aud is an object", "RFC 7519 §4.1.3", claims, with(Object{"aud": Object{Audience: true}})},
		{"aud is a list with a number in it", "RFC 7519 §4.1.3", claims, with(Object{"aud": []any{Audience, 1}})},
		{"no sub", "RFC 9068 §2.2", claims, with(Object{"sub": nil})},
		{"sub is empty", "OpenID Connect Core §2", claims, with(Object{"sub": ""})},
		{"sub is null", "RFC 7519 §4.1.2", claims, with(Object{"sub": null})},
		{"sub is a number", "RFC 7519 §4.1.2", claims, with(Object{"sub": 1})},
		{"sub of 256 characters", "OpenID Connect Core §2", claims, with(Object{"sub": strings.Repeat("s", 256)})},
		{"sub with a line end", "CWE-117", claims, with(Object{"sub": "alice\nroot"})},
		{"sub with a NUL", "CWE-158", claims, with(Object{"sub": "alice\x00root"})},
		{"sub that turns the writing round", "CVE-2021-42574", claims, with(Object{"sub": "alice\u202etoor"})},
		{"sub that tokens without sub share", "the settings", claims, with(Object{"sub": "jwt:shared"})},
		{"Sub for sub", "RFC 7519 §4", claims, with(Object{"sub": nil, "Sub": Subject})},
		{"no exp", "RFC 9068 §2.2", claims, with(Object{"exp": nil})},
		{"exp is a string", "RFC 7519 §2", claims, with(Object{"exp": "4102444800"})},
		{"exp is null", "RFC 7519 §2", claims, with(Object{"exp": null})},
		{"exp is true", "RFC 7519 §2", claims, with(Object{"exp": true})},
		{"exp in milliseconds", "RFC 7519 §2", claims, with(Object{"exp": at(time.Hour) * 1000})},
		{"exp beyond 64 bits", "CWE-190", claims, with(Object{"exp": raw("9223372036854775808")})},
		{"exp beyond floating point", "CWE-190", claims, with(Object{"exp": raw("1e400")})},
		{"exp just expired", "RFC 7519 §4.1.4", expired, with(Object{"exp": at(-Leeway)})},
		{"exp long ago", "RFC 7519 §4.1.4", expired, with(Object{"exp": 1})},
		{"exp before 1970", "RFC 7519 §2", expired, with(Object{"exp": -1})},
		{"exp zero", "RFC 7519 §4.1.4", expired, with(Object{"exp": 0})},
		{"nbf ahead", "RFC 7519 §4.1.5", claims, with(Object{"nbf": at(time.Hour)})},
		{"nbf just ahead of the leeway", "RFC 7519 §4.1.5", claims, with(Object{"nbf": at(Leeway + time.Minute)})},
		{"nbf is a string", "RFC 7519 §2", claims, with(Object{"nbf": "0"})},
		{"nbf is null", "RFC 7519 §2", claims, with(Object{"nbf": null})},
		{"iat is a string", "RFC 7519 §2", claims, with(Object{"iat": "now"})},
		{"jti is a number", "RFC 7519 §4.1.7", claims, with(Object{"jti": 1})},
		{"jti with a line end", "CWE-117", claims, with(Object{"jti": "a\nb"})},
		{"jti of 256 characters", "CWE-400", claims, with(Object{"jti": strings.Repeat("j", 256)})},
		{"client_id is a list", "RFC 8693 §4.3", claims, with(Object{"client_id": []string{Client}})},
		{"scope is a number", "RFC 8693 §4.2", claims, with(Object{"scope": 1})},
		{"scope is null", "RFC 8693 §4.2", claims, with(Object{"scope": null})},
		{"scope is an object", "RFC 8693 §4.2", claims, with(Object{"scope": Object{"jobs:admin": true}})},
		{"scope is a list with a number in it", "RFC 8693 §4.2", claims, with(Object{"scope": []any{"jobs:read", 1}})},
		{"scope is a list with two in one", "RFC 6749 §3.3", claims, with(Object{"scope": []any{"jobs:read jobs:admin"}})},
		{"scope with a tab", "RFC 6749 §3.3", claims, with(Object{"scope": "jobs:read\tjobs:admin"})},
		{"scope with a quote", "RFC 6749 §3.3", claims, with(Object{"scope": `jobs:read "`})},
		{"scope malformed beside a good scp", "one scope claim counts", claims, with(Object{"scope": 1, "scp": "jobs:read"})},
	}
}

func (l *Lab) kinds() []Token {
	with := func(change Object) string { return l.p256.Sign(nil, l.Claims().With(change)) }
	return []Token{
		{"an ID token by its hash", "OpenID Connect Core §3.1.3.6", claims, with(Object{"at_hash": "x"})},
		{"an ID token by its code's hash", "OpenID Connect Core §3.3.2.11", claims, with(Object{"c_hash": "x"})},
		{"an ID token for the client", "OpenID Connect Core §2", claims, with(Object{"aud": Client, "azp": Client})},
		{"Cognito's ID token", "Cognito token_use", claims, with(Object{"token_use": "id"})},
		{"Cognito's kind as a number", "Cognito token_use", claims, with(Object{"token_use": 1})},
		{"Keycloak's ID token", "Keycloak typ", claims, with(Object{"typ": "ID"})},
		{"Keycloak's refresh token", "Keycloak typ", claims, with(Object{"typ": "Refresh"})},
		{"Keycloak's offline token", "Keycloak typ", claims, with(Object{"typ": "Offline"})},
		{"Keycloak's logout token", "Keycloak typ", claims, with(Object{"typ": "Logout"})},
		{"a typ claim that is no string", "Keycloak typ", claims, with(Object{"typ": []string{"Bearer"}})},
		{"a logout token", "OpenID Connect Back-Channel Logout §2.4", claims, with(Object{"events": Object{"http://schemas.openid.net/event/backchannel-logout": Object{}}})},
		{"an events claim that is null", "RFC 8417 §2.2", claims, with(Object{"events": null})},
		{"bound to a key", "RFC 7800 §3.1", claims, with(Object{"cnf": Object{"jkt": "x"}})},
		{"bound to a certificate", "RFC 8705 §3.1", claims, with(Object{"cnf": Object{"x5t#S256": "x"}})},
		{"a cnf that is null", "RFC 7800 §3.1", claims, with(Object{"cnf": null})},
	}
}

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
