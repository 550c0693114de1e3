package oidctest

import (
	"slices"
	"strings"

	"github.com/jobgate/jobgate/domain"
)

// The tables of settings other than the defaults: what each of these settings lets in, and what it keeps out.

func (l *Lab) forClients() []Token {
	cognito := Object{"aud": nil, "token_use": "access", "scope": "openid jobgate/jobs:read jobgate/ other/jobs:submit jobs:submit"}
	with := func(change Object) string { return l.p256.Sign(nil, l.Claims().With(cognito).With(change)) }
	return SettingKept.of([]row{
		{"Cognito's access token has no aud", "Cognito", accepted, with(nil)},
		{"azp", "OpenID Connect Core §2", accepted, with(Object{"client_id": nil, "azp": Client})},
		{"appid", "Entra ID v1", accepted, with(Object{"client_id": nil, "appid": Client})},
		{"cid", "Okta", accepted, with(Object{"client_id": nil, "cid": Client})},
		{"another client's", "RFC 8693 §4.3", claims, with(Object{"client_id": "other"})},
		{"a client that begins alike", "whole strings", claims, with(Object{"client_id": Client + "0"})},
		{"a client that ours begins with", "whole strings", claims, with(Object{"client_id": Client[:6]})},
		{"a client in capitals", "whole strings", claims, with(Object{"client_id": strings.ToUpper(Client)})},
		{"ours among words", "whole strings", claims, with(Object{"client_id": "other " + Client})},
		{"no client", "the settings", claims, with(Object{"client_id": nil})},
		{"a client that is null", "RFC 8693 §4.3", claims, with(Object{"client_id": null})},
		{"another's azp before our client_id", "the first present", claims, with(Object{"azp": "other"})},
		{"another's client_id before our appid", "the first present", claims, with(Object{"client_id": "other", "appid": Client})},
		{"another's appid before our cid", "the first present", claims, with(Object{"client_id": nil, "appid": "other", "cid": Client})},
		{"a malformed azp before our client_id", "the first present", claims, with(Object{"azp": []string{Client}})},
		{"an aud that is there must match", "RFC 7519 §4.1.3", claims, with(Object{"aud": Audience})},
		{"an aud that is empty is there", "RFC 7519 §4.1.3", claims, with(Object{"aud": []string{}})},
		{"the client for an aud", "RFC 8725 §3.9", claims, with(Object{"aud": Client})},
		{"Cognito's ID token", "Cognito token_use", claims, with(Object{"aud": Client, "client_id": nil, "token_use": "id"})},
	})
}

func (l *Lab) forBoth() []Token {
	with := func(change Object) string { return l.p256.Sign(nil, l.Claims().With(change)) }
	return SettingKept.of([]row{
		{"both match", "the settings", accepted, with(nil)},
		{"another client's", "RFC 8693 §4.3", claims, with(Object{"client_id": "other"})},
		{"no client", "the settings", claims, with(Object{"client_id": nil})},
		{"another service's", "RFC 7519 §4.1.3", claims, with(Object{"aud": "https://other.example"})},
		{"no aud, and our client", "the settings", accepted, with(Object{"aud": nil})},
		{"no aud, and another client", "the settings", claims, with(Object{"aud": nil, "client_id": "other"})},
		{"the client for an aud", "RFC 8725 §3.9", claims, with(Object{"aud": Client})},
	})
}

func (l *Lab) idTokens() []Token {
	id := Object{"aud": Client, "client_id": nil, "scope": nil, "nonce": "n-0S6_WzA2Mj"}
	with := func(change Object) string { return l.p256.Sign(nil, l.Claims().With(id).With(change)) }
	return SettingKept.of([]row{
		{"Google's", "OpenID Connect Core §2", accepted, with(Object{"azp": Client, "at_hash": "x"})},
		{"Apple's, with the client in aud alone", "OpenID Connect Core §2", accepted, with(Object{"c_hash": "x"})},
		{"Cognito's", "Cognito token_use", accepted, with(Object{"token_use": "id"})},
		{"Keycloak's", "Keycloak typ", accepted, with(Object{"azp": Client, "typ": "ID"})},
		{"of several, with the client among them", "OpenID Connect Core §2", accepted, with(Object{"aud": []string{"other", Client}})},
		{"access tokens too", "the settings", accepted, l.Valid()},
		{"for another client", "OpenID Connect Core §3.1.3.7", claims, with(Object{"aud": "other"})},
		{"that another client asked for", "OpenID Connect Core §3.1.3.7", claims, with(Object{"azp": "other"})},
		{"without aud and client", "OpenID Connect Core §2", claims, with(Object{"aud": nil})},
		{"a logout token", "OpenID Connect Back-Channel Logout §2.4", claims, with(Object{"events": Object{}})},
		{"a refresh token", "Keycloak typ", claims, with(Object{"typ": "Refresh"})},
		{"Cognito's kind that is neither", "Cognito token_use", claims, with(Object{"token_use": "refresh"})},
		{"bound to a key", "RFC 7800 §3.1", claims, with(Object{"cnf": Object{"jkt": "x"}})},
		{"expired", "OpenID Connect Core §3.1.3.7", expired, with(Object{"exp": 1})},
	})
}

func (l *Lab) typed() []Token {
	typ := func(typ any) string { return l.p256.Sign(Object{"typ": typ}, l.Claims()) }
	return SettingKept.of([]row{
		{"ours", "RFC 8725 §3.11", accepted, typ("own+jwt")},
		{"ours with its prefix", "RFC 7515 §4.1.9", accepted, typ("application/OWN+jwt")},
		{"JWT", "RFC 8725 §3.11", malformed, typ("JWT")},
		{"at+jwt", "RFC 8725 §3.11", malformed, typ("at+jwt")},
		{"none", "RFC 8725 §3.11", malformed, typ(nil)},
		{"empty", "RFC 7515 §4.1.9", malformed, typ("")},
	})
}

func (l *Lab) perIssuer() []Token {
	a := func(k Key, change Object) string { return k.Sign(nil, l.Claims().With(change)) }
	b := func(k Key, change Object) string {
		return k.Sign(nil, l.Claims().With(Object{"iss": l.B.URL, "aud": "https://b.example"}).With(change))
	}
	groups := Object{"groups": slices.Repeat([]string{"4f6c1a52-7d2e-4a8e-9a59-0d9c6d0f9b13"}, 200)}
	return SettingKept.of([]row{
		{"the one's", "RFC 8725 §3.8", accepted, a(l.p256, nil)},
		{"the other's", "RFC 8725 §3.8", accepted, b(l.foreignRSA, nil)},
		{"the one's with the other's algorithm", "RFC 8725 §3.1", malformed, a(l.rsa, nil)},
		{"the other's with the one's algorithm", "RFC 8725 §3.1", malformed, b(l.foreignP256, nil)},
		{"the one's for the other's audience", "RFC 8725 §3.9", claims, a(l.p256, Object{"aud": "https://b.example"})},
		{"the other's for the one's audience", "RFC 8725 §3.9", claims, b(l.foreignRSA, Object{"aud": Audience})},
		{"the other's by a stranger", "RFC 7515 §5.2", unsigned, b(l.strangerRSA, nil)},
		{"the one's with 200 groups", "Entra ID", accepted, a(l.p256, groups)},
		{"the other's with 200 groups", "the settings", malformed, b(l.foreignRSA, groups)},
		{"the one's over its own bound", "the settings", malformed, a(l.p256, Object{"filler": strings.Repeat("f", 2*MaxToken)})},
		{"the one's with brackets without end", "CWE-674", malformed, l.p256.SignText(string(encode(l.p256.header())), strings.Repeat("[", 11000))},
	})
}

func (l *Lab) oneKey() []Token {
	with := func(k Key, header Object) string {
		return k.Sign(header, l.Claims().With(Object{"iss": l.C.URL}))
	}
	return SettingKept.of([]row{
		{"its kid", "RFC 7515 §4.1.4", accepted, with(l.p256, nil)},
		{"no kid", "RFC 7515 §4.1.4", accepted, with(l.p256, Object{"kid": nil})},
		{"a kid that is empty", "RFC 7515 §4.1.4", accepted, with(l.p256, Object{"kid": ""})},
		{"a kid that is a number", "RFC 7515 §4.1.4", malformed, with(l.p256, Object{"kid": 1})},
		{"a kid that is null", "RFC 7515 §4.1.4", malformed, with(l.p256, Object{"kid": null})},
		{"another kid", "RFC 7515 §4.1.4", unsigned, with(l.p256, Object{"kid": "nobody"})},
		{"a stranger's without kid", "RFC 7515 §5.2", unsigned, with(l.stranger, Object{"kid": nil})},
		{"another algorithm without kid", "RFC 8725 §3.1", unsigned, with(l.rsa, Object{"kid": nil})},
		{"HS256 without kid", "CVE-2015-9235", malformed, with(Key{Alg: "HS256", Secret: must(l.p256.ecdsa().PublicKey.Bytes())}, nil)},
	})
}

func (l *Lab) shared() []Token {
	with := func(change Object) string { return l.secret.Sign(nil, l.Claims().With(change)) }
	valid := takeApart(with(nil))
	return SettingKept.of([]row{
		{"the new secret", "RFC 7518 §3.2", accepted, with(nil)},
		{"the old secret", "the settings", accepted, l.oldSecret.Sign(nil, l.Claims())},
		{"any issuer", "the settings", accepted, with(Object{"iss": "https://any.example"})},
		{"a kid is of no interest", "RFC 7515 §4.1.4", accepted, l.secret.Sign(Object{"kid": "x"}, l.Claims())},
		{"a stranger's secret", "RFC 7518 §3.2", unsigned, l.strangerSecret.Sign(nil, l.Claims())},
		{"an empty secret", "CVE-2019-20933", unsigned, hmacToken(l.secret.header(), l.Claims())},
		{"no signature", "RFC 7515 §5.2", unsigned, valid.with(nil)},
		{"a bit of the signature is flipped", "RFC 7518 §3.2", unsigned, valid.with(flip(valid.signature))},
		{"a shortened signature", "CWE-354", unsigned, valid.with(valid.signature[:16])},
		{"a lengthened signature", "CWE-354", unsigned, valid.with(append(slices.Clip(valid.signature), 0))},
		{"HS384", "RFC 8725 §3.1", malformed, l.secret.For("HS384").Sign(nil, l.Claims())},
		{"HS512", "RFC 8725 §3.1", malformed, l.secret.For("HS512").Sign(nil, l.Claims())},
		{"RS256", "RFC 8725 §3.1", malformed, l.rsa.Sign(nil, l.Claims())},
		{"ES256", "RFC 8725 §3.1", malformed, l.p256.Sign(nil, l.Claims())},
		{"alg none", "RFC 8725 §2.1", malformed, b64(encode(Object{"alg": "none"})) + "." + b64(encode(l.Claims())) + "."},
		{"typ of a logout token", "RFC 8725 §3.11", malformed, l.secret.Sign(Object{"typ": "logout+jwt"}, l.Claims())},
		{"another service's", "RFC 7519 §4.1.3", claims, with(Object{"aud": "https://other.example"})},
		{"no aud", "RFC 7519 §4.1.3", claims, with(Object{"aud": nil})},
		{"no exp", "the settings", claims, with(Object{"exp": nil})},
		{"no sub", "the settings", claims, with(Object{"sub": nil})},
		{"iss is a number", "RFC 7519 §4.1.1", claims, with(Object{"iss": 1})},
		{"iss with a line end", "CWE-117", claims, with(Object{"iss": "https://any.example\n"})},
		{"an ID token by its hash", "OpenID Connect Core §3.1.3.6", claims, with(Object{"at_hash": "x"})},
		{"bound to a key", "RFC 7800 §3.1", claims, with(Object{"cnf": Object{"jkt": "x"}})},
		{"expired", "RFC 7519 §4.1.4", expired, with(Object{"exp": 1})},
		{"too long", "the settings", malformed, with(Object{"filler": strings.Repeat("f", MaxToken)})},
	})
}

func (l *Lab) lax() []Token {
	with := func(claims Object) string { return l.secret.Sign(nil, Object{"jti": "token-1"}.With(claims)) }
	return SettingKept.of([]row{
		{"neither sub nor exp nor aud", "the settings", accepted, with(nil)},
		{"any audience", "the settings", accepted, with(Object{"sub": Subject, "aud": "https://other.example"})},
		{"no jti", "the settings", claims, with(Object{"jti": nil, "sub": Subject})},
		{"the subject that such tokens share, by name", "the settings", claims, with(Object{"sub": "jwt:shared"})},
		{"the issuer of what nobody submitted", "the settings", claims, with(Object{"sub": Subject, "iss": domain.SystemIssuer})},
		{"exp counts where it is", "RFC 7519 §4.1.4", expired, with(Object{"exp": 1})},
		{"nbf counts where it is", "RFC 7519 §4.1.5", claims, with(Object{"nbf": l.now.Add(2 * LabLeeway).Unix()})},
		{"a malformed aud", "RFC 7519 §4.1.3", claims, with(Object{"aud": 1})},
	})
}
