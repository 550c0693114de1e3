package oidc_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

// verifierOf returns a verifier with a key set and no network, and its log.
func verifierOf(t testing.TB, jwks ...any) (*oidc.Verifier, *logbook) {
	t.Helper()
	source := &oidctest.Issuer{}
	source.PublishJWKs(jwks...)
	log := &logbook{}
	now := func() time.Time { return start }
	return newVerifier(t, oidc.Options{Now: now, Log: log.log, Transport: noNetwork(t)}, fromFile(t, source.KeySet())), log
}

func sign(key oidctest.Key, header oidctest.Object) string {
	return key.Sign(header, oidctest.Claims("https://issuer.example", start))
}

func TestKeysThatCannotBeUsedAreSkippedOneByOneAndLogged(t *testing.T) {
	t.Parallel()
	ec, rsa, ed := oidctest.NewKey("bad", "ES256", 0), oidctest.NewKey("bad", "RS256", 0), oidctest.NewKey("bad", "EdDSA", 0)
	number := func(bits int) string { // with that many bits, odd
		n := make([]byte, bits/8)
		n[0], n[len(n)-1] = 0x80, 1
		return base64.RawURLEncoding.EncodeToString(n)
	}
	for name, c := range map[string]struct {
		jwk any
		log string
	}{
		"null":                       {nil, "no key that can be used"},
		"a number":                   {7, "malformed"},
		"an empty object":            {oidctest.Object{}, "no key that can be used"},
		"no type":                    {ec.JWK().With(oidctest.Object{"kty": nil}), "no key that can be used"},
		"a type nobody knows":        {ec.JWK().With(oidctest.Object{"kty": "AKP"}), "no key that can be used"},
		"a secret":                   {oidctest.NewKey("bad", "HS256", 0).JWK(), "no key that can be used"},
		"for encryption":             {ec.JWK().With(oidctest.Object{"use": "enc"}), "use is not sig"},
		"for another use":            {ec.JWK().With(oidctest.Object{"use": "SIG"}), "use is not sig"},
		"not for verifying":          {ec.JWK().With(oidctest.Object{"key_ops": []string{"sign", "encrypt"}}), "key_ops"},
		"for nothing":                {ec.JWK().With(oidctest.Object{"key_ops": []string{}}), "key_ops"},
		"alg of another curve":       {ec.JWK().With(oidctest.Object{"alg": "ES384"}), "alg"},
		"alg of another type":        {ec.JWK().With(oidctest.Object{"alg": "RS256"}), "alg"},
		"alg of encryption":          {rsa.JWK().With(oidctest.Object{"alg": "RSA-OAEP"}), "alg"},
		"alg of secrets":             {rsa.JWK().With(oidctest.Object{"alg": "HS256"}), "alg"},
		"kid is a number":            {ec.JWK().With(oidctest.Object{"kid": 1}), "malformed"},
		"off its curve":              {ec.JWK().With(oidctest.Object{"y": ec.JWK()["x"]}), "no key that can be used"},
		"no y":                       {ec.JWK().With(oidctest.Object{"y": nil}), "no key that can be used"},
		"a curve nobody knows":       {ec.JWK().With(oidctest.Object{"crv": "secp256k1"}), "no key that can be used"},
		"not base64":                 {ec.JWK().With(oidctest.Object{"x": "!"}), "no key that can be used"},
		"a short Ed25519 key":        {ed.JWK().With(oidctest.Object{"x": "AAAA"}), "no key that can be used"},
		"a key for key agreement":    {ed.JWK().With(oidctest.Object{"crv": "X25519"}), "not a kind of key that signs"},
		"RSA of 2040 bits":           {rsa.JWK().With(oidctest.Object{"n": number(2040)}), "2040 bits"},
		"RSA of 8200 bits":           {rsa.JWK().With(oidctest.Object{"n": number(8200)}), "8200 bits"},
		"RSA with an even modulus":   {rsa.JWK().With(oidctest.Object{"n": "gA" + strings.Repeat("A", 340)}), "odd"},
		"RSA with exponent 1":        {rsa.JWK().With(oidctest.Object{"e": "AQ"}), ""},
		"RSA with exponent 2":        {rsa.JWK().With(oidctest.Object{"e": "Ag"}), "odd"},
		"RSA with exponent 65536":    {rsa.JWK().With(oidctest.Object{"e": "AQAA"}), "odd"},
		"RSA with exponent 0":        {rsa.JWK().With(oidctest.Object{"e": "AA"}), ""},
		"RSA with exponent 2^64 + 3": {rsa.JWK().With(oidctest.Object{"e": "AQAAAAAAAAAD"}), ""},
		"RSA without exponent":       {rsa.JWK().With(oidctest.Object{"e": nil}), "no key that can be used"},
		"RSA without modulus":        {rsa.JWK().With(oidctest.Object{"n": ""}), "no key that can be used"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := oidctest.NewKey("good", "ES256", 0)
			v, log := verifierOf(t, c.jwk, good.JWK())
			if _, err := v.Verify(t.Context(), sign(good, nil)); err != nil {
				t.Errorf("the good key was lost: %v", err)
			}
			// The bad key is no usable one either: the good one is the only.
			if _, err := v.Verify(t.Context(), sign(good, oidctest.Object{"kid": nil})); err != nil {
				t.Errorf("the bad key counts: %v", err)
			}
			if lines := log.all(); len(lines) != 1 || !strings.Contains(lines[0], "skipped") || !strings.Contains(lines[0], c.log) {
				t.Errorf("logged %q, want that a key was skipped and %q", lines, c.log)
			}
		})
	}
}

// With such a key a signature that nobody made is good: for the point of order 1 whatever it is for.
func TestAnEd25519KeyOfSmallOrderIsNone(t *testing.T) {
	t.Parallel()
	forged := append([]byte{1}, make([]byte, ed25519.SignatureSize-1)...)
	good := oidctest.NewKey("good", "ES256", 0)
	for _, y := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		for _, sign := range []byte{0, 0x80} {
			point, err := hex.DecodeString(y)
			if err != nil {
				t.Fatal(err)
			}
			point[31] |= sign
			forgeries := 0
			for n := range 100 {
				if ed25519.Verify(point, fmt.Append(nil, n), forged) {
					forgeries++
				}
			}
			if forgeries == 0 {
				t.Errorf("%x: there is no forgery, so that it need not be refused", point)
			}
			bad := oidctest.Object{"kty": "OKP", "crv": "Ed25519", "kid": "bad", "x": base64.RawURLEncoding.EncodeToString(point)}
			v, log := verifierOf(t, bad, good.JWK())
			signed := oidctest.NewKey("bad", "EdDSA", 0).Sign(nil, oidctest.Claims("https://issuer.example", start))
			token := signed[:strings.LastIndexByte(signed, '.')+1] + base64.RawURLEncoding.EncodeToString(forged)
			if _, err := v.Verify(t.Context(), token); reason(err) != domain.ReasonInvalidSignature {
				t.Errorf("%x: %v, want invalid_signature", point, err)
			}
			if lines := log.all(); len(lines) == 0 || !strings.Contains(lines[0], "small order") {
				t.Errorf("%x: logged %q, want that a key was skipped", point, lines)
			}
		}
	}
}

func TestAKeyWithTwoMembersOfOneNameIsSkippedAlone(t *testing.T) {
	t.Parallel()
	good := oidctest.NewKey("good", "ES256", 0)
	source := &oidctest.Issuer{}
	source.Publish(good)
	text := bytes.Replace(source.KeySet(), []byte(`[`), []byte(`[{"kty":"EC","kty":"RSA","x":"`+"\xff"+`"},`), 1)
	v := newVerifier(t, oidc.Options{Now: func() time.Time { return start }}, fromFile(t, text))
	if _, err := v.Verify(t.Context(), sign(good, nil)); err != nil {
		t.Error(err)
	}
}

func TestKeysThatCanBeUsed(t *testing.T) {
	t.Parallel()
	rsa, ec := oidctest.NewKey("k", "RS256", 0), oidctest.NewKey("k", "ES256", 0)
	for name, c := range map[string]struct {
		key  oidctest.Key
		algs []string // that the key's kind could sign with, of which want are accepted
		want []string
	}{
		"without alg, use and key_ops": {rsa, []string{"RS256", "PS512"}, []string{"RS256", "PS512"}},
		"for one algorithm":            {rsa.As("k", oidctest.Object{"alg": "PS512"}), []string{"RS256", "PS256", "PS512"}, []string{"PS512"}},
		"for signatures":               {ec.As("k", oidctest.Object{"use": "sig"}), []string{"ES256"}, []string{"ES256"}},
		"for signing and verifying":    {ec.As("k", oidctest.Object{"key_ops": []string{"sign", "verify", "x"}}), []string{"ES256"}, []string{"ES256"}},
		"with a certificate":           {ec.As("k", oidctest.Object{"x5c": []string{"junk"}, "x5t": "junk", "x5u": 5}), []string{"ES256"}, []string{"ES256"}},
		"with its private half":        {ec.As("k", oidctest.Object{"d": "AQ"}), []string{"ES256"}, []string{"ES256"}},
		"without kid":                  {ec.As("", nil), []string{"ES256"}, []string{"ES256"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, log := verifierOf(t, c.key.JWK())
			for _, alg := range c.algs {
				_, err := v.Verify(t.Context(), sign(c.key.For(alg), nil))
				if want := slices.Contains(c.want, alg); (err == nil) != want {
					t.Errorf("%s: %v, want accepted: %v", alg, err, want)
				}
			}
			if lines := log.all(); len(lines) != 0 {
				t.Errorf("logged %q, want nothing", lines)
			}
		})
	}
}

func TestKidsThatSeveralKeysHave(t *testing.T) {
	t.Parallel()
	keys := []oidctest.Key{oidctest.NewKey("same", "RS256", 0), oidctest.NewKey("same", "RS256", 1), oidctest.NewKey("same", "ES256", 0), oidctest.NewKey("same", "EdDSA", 0)}
	var jwks []any
	for _, k := range keys {
		jwks = append(jwks, k.JWK())
	}
	v, _ := verifierOf(t, jwks...)
	for i, k := range keys {
		if _, err := v.Verify(t.Context(), sign(k, nil)); err != nil {
			t.Errorf("key %d: %v", i, err)
		}
	}
	stranger := oidctest.NewKey("same", "RS256", 2)
	if _, err := v.Verify(t.Context(), sign(stranger, nil)); domain.ReasonOf(err) != domain.ReasonInvalidSignature {
		t.Errorf("a stranger's key of that kid: %v, want invalid_signature", err)
	}
	if _, err := v.Verify(t.Context(), sign(keys[0], oidctest.Object{"kid": nil})); domain.ReasonOf(err) != domain.ReasonInvalidToken {
		t.Errorf("no kid: %v, want invalid_token", err)
	}
}

func TestOnlySoManyKeysAreLookedAt(t *testing.T) {
	t.Parallel()
	first, last := oidctest.NewKey("first", "ES256", 0), oidctest.NewKey("last", "ES256", 0)
	jwks := []any{first.JWK()}
	for range 99 {
		jwks = append(jwks, first.As("filler", nil).JWK())
	}
	v, log := verifierOf(t, append(jwks, last.JWK())...)
	if _, err := v.Verify(t.Context(), sign(first, nil)); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), sign(last, nil)); err == nil {
		t.Error("the 101st key was used")
	}
	if lines := log.all(); len(lines) == 0 || !strings.Contains(lines[0], "100 of 101") {
		t.Errorf("logged %q, want that keys were left out", lines)
	}
}

func TestALongKidIsCutInTheLog(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("key", "ES256", 0)
	long := strings.Repeat("k", 65)
	v, log := verifierOf(t, key.JWK(), key.As(long, oidctest.Object{"use": "enc"}).JWK())
	_, err := v.Verify(t.Context(), sign(key.As(long, nil), nil))
	if err == nil || strings.Contains(err.Error(), long) || !strings.Contains(err.Error(), long[:64]) {
		t.Errorf("Verify: %v, want 64 characters of the kid in it", err)
	}
	if lines := log.all(); len(lines) == 0 || strings.Contains(lines[0], long) || !strings.Contains(lines[0], long[:64]) {
		t.Errorf("logged %q, want 64 characters of the kid in it", lines)
	}
}

func TestTheKeysOfAnHTTPSIssuerAreFetchedOverHTTPS(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("key", "ES256", 0)
	plain := serve(t, &oidctest.Issuer{})
	plain.Publish(key)
	issuer := &oidctest.Issuer{}
	server := httptest.NewTLSServer(issuer)
	t.Cleanup(server.Close)
	issuer.URL = server.URL
	issuer.Override(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer.URL, plain.URL+oidctest.KeysPath)
	})
	v := newVerifier(t, oidc.Options{Now: func() time.Time { return start }, Transport: server.Client().Transport.(*http.Transport)}, settings(issuer))
	_, err := v.Verify(t.Context(), key.Sign(nil, oidctest.Claims(issuer.URL, start)))
	if reason(err) != domain.ReasonKeysUnavailable || plain.Requests(oidctest.KeysPath) != 0 {
		t.Errorf("Verify: %v, want keys_unavailable and no request over plain http", err)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	for version, want := range map[uint16]domain.Reason{tls.VersionTLS11: domain.ReasonKeysUnavailable, tls.VersionTLS12: ""} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			key := oidctest.NewKey("key", "ES256", 0)
			issuer := &oidctest.Issuer{}
			issuer.Publish(key)
			server := httptest.NewUnstartedServer(issuer)
			server.Config.ErrorLog = log.New(io.Discard, "", 0) //nolint:forbidigo // net/http wants one
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version}
			server.StartTLS()
			t.Cleanup(server.Close)
			issuer.URL = server.URL
			transport := server.Client().Transport.(*http.Transport).Clone()
			transport.TLSClientConfig.MinVersion = tls.VersionTLS10 // which the verifier does not follow
			v := newVerifier(t, oidc.Options{Now: func() time.Time { return start }, Transport: transport}, settings(issuer))
			_, err := v.Verify(t.Context(), key.Sign(nil, oidctest.Claims(issuer.URL, start)))
			if reason(err) != want {
				t.Errorf("Verify: %v, want %q", err, want)
			}
		})
	}
}
