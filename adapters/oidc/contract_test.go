package oidc_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports/portstest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA", "ES256, remembered"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			alg, remembered := strings.CutSuffix(alg, ", remembered")
			portstest.TokenVerifier(t, func(t *testing.T) portstest.TokenVerifierHarness {
				t.Helper()
				key := oidctest.NewKey("key-1", alg, 0)
				issuer := serve(t, &oidctest.Issuer{})
				issuer.Publish(key)
				clock := portstest.NewClock()
				h := harness(key, issuer.URL, clock)
				opts := oidc.Options{Now: clock.Now}
				if remembered {
					opts.Remember = 16
				}
				h.Verifier = newVerifier(t, opts, settings(issuer))
				h.Break, h.Restore = issuer.Break, func() { issuer.Override(nil) }
				return h
			})
		})
	}
	t.Run("shared secret", func(t *testing.T) {
		t.Parallel()
		portstest.TokenVerifier(t, func(t *testing.T) portstest.TokenVerifierHarness {
			t.Helper()
			key := oidctest.NewKey("", "HS256", 0)
			clock := portstest.NewClock()
			h := harness(key, "https://issuer.example", clock)
			h.Verifier = sharedSecret(t, oidc.Options{Now: clock.Now}, oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}, Leeway: oidctest.Leeway})
			h.AnyIssuer, h.AnyAudience = true, true
			return h
		})
	})
}

// harness returns all of a harness that does not depend on where the keys are.
func harness(key oidctest.Key, issuer string, clock *portstest.Clock) portstest.TokenVerifierHarness {
	return portstest.TokenVerifierHarness{
		Mint: func(_ *testing.T, changes map[string]any) string {
			return key.Sign(nil, oidctest.Claims(issuer, clock.Now()).With(maps.Clone(changes)))
		},
		Want: domain.Principal{
			Identity: domain.Identity{Issuer: issuer, Subject: oidctest.Subject},
			ClientID: oidctest.Client, Scopes: []string{"jobs:submit", "jobs:read"}, TokenID: "token-1",
		},
		Clock:  clock,
		Leeway: oidctest.Leeway,
	}
}

func sharedSecret(t testing.TB, opts oidc.Options, s oidc.SharedSecret) *oidc.Verifier {
	t.Helper()
	v, err := oidc.NewSharedSecretVerifier(s, opts)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
