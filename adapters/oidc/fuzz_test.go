package oidc_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

// No bytes but those of a token that an issuer signed are ever accepted, and every refusal is one of the port's.
func FuzzVerify(f *testing.F) {
	lab := newLab(f)
	table := lab.Tables()[0]
	v := newVerifier(f, oidc.Options{Now: func() time.Time { return start }, Remember: 16}, table.Issuers...)
	if err := v.Prefetch(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.Add("")
	signed := make(map[string]bool) // header and claims of what is to be accepted
	for _, token := range table.Tokens {
		if len(token.Raw) > oidctest.MaxToken+100 {
			continue
		}
		f.Add(token.Raw)
		if token.Want == "" {
			signed[token.Raw[:strings.LastIndexByte(token.Raw, '.')]] = true
		}
	}
	f.Fuzz(func(t *testing.T, raw string) {
		who, err := v.Verify(t.Context(), raw)
		if _, again := v.Verify(t.Context(), raw); reason(again) != reason(err) {
			t.Fatalf("Verify: %v, and then %v", err, again)
		}
		if err == nil {
			if dot := strings.LastIndexByte(raw, '.'); !signed[raw[:max(dot, 0)]] {
				t.Fatalf("accepted as %+v, and nobody signed it", who)
			}
			return
		}
		e, ok := errors.AsType[*domain.Error](err)
		if !ok || e.Kind != domain.Unauthenticated {
			t.Fatalf("Verify: %#v, want Unauthenticated", err)
		}
		switch e.Reason {
		case domain.ReasonMissingToken, domain.ReasonInvalidToken, domain.ReasonInvalidClaims, domain.ReasonTokenExpired, domain.ReasonInvalidSignature:
		default:
			t.Fatalf("Verify: reason %q", e.Reason)
		}
	})
}

// No key set has a verifier accept a token that its key did not sign, nor stops it.
func FuzzKeySet(f *testing.F) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA", "HS256"} {
		source := &oidctest.Issuer{}
		source.Publish(oidctest.NewKey("k", alg, 0).As("k", oidctest.Object{"use": "sig", "alg": alg, "key_ops": []string{"verify"}}))
		f.Add(source.KeySet())
	}
	f.Add([]byte(""))
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"}]}`))
	stranger := oidctest.NewKey("stranger", "ES256", 0)
	path := filepath.Join(f.TempDir(), "jwks.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		i := settings(&oidctest.Issuer{URL: "https://issuer.example"})
		i.JWKSFile = path
		v := newVerifier(t, oidc.Options{Now: func() time.Time { return start }}, i)
		for _, kid := range []any{nil, "k"} {
			if who, err := v.Verify(t.Context(), sign(stranger, oidctest.Object{"kid": kid})); err == nil {
				t.Fatalf("accepted as %+v, and no key of the set signed it", who)
			}
		}
	})
}
