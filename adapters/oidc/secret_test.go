package oidc_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

func TestSharedSecret(t *testing.T) {
	t.Parallel()
	old, next := oidctest.NewKey("", "HS256", 0), oidctest.NewKey("", "HS256", 0)
	secret := func(k oidctest.Key) string { return string(k.Secret.([]byte)) }
	short := oidctest.Key{Alg: "HS256", Secret: []byte("secret")}
	claims := oidctest.Claims("https://issuer.example", start)
	bare := oidctest.Object{"scope": "jobs:submit"}
	both := oidc.SharedSecret{Secrets: []string{secret(next), secret(old)}}
	lax := oidc.SharedSecret{Secrets: []string{secret(next)}, Require: []string{}}
	audience := oidc.SharedSecret{Secrets: []string{secret(next)}, Audience: []string{oidctest.Audience}}
	none := strings.Join(strings.Split(next.Sign(oidctest.Object{"alg": "none"}, claims), ".")[:2], ".") + "."
	for name, c := range map[string]struct {
		settings oidc.SharedSecret
		token    string
		want     domain.Reason
		who      domain.Identity
	}{
		"the new secret":                {both, next.Sign(nil, claims), "", domain.Identity{Issuer: "https://issuer.example", Subject: oidctest.Subject}},
		"the old secret while rotating": {both, old.Sign(nil, claims), "", domain.Identity{Issuer: "https://issuer.example", Subject: oidctest.Subject}},
		"the old secret afterwards":     {lax, old.Sign(nil, claims), domain.ReasonInvalidSignature, domain.Identity{}},
		"a kid is of no interest":       {both, next.Sign(oidctest.Object{"kid": "x"}, claims), "", domain.Identity{Issuer: "https://issuer.example", Subject: oidctest.Subject}},
		"no issuer":                     {both, next.Sign(nil, claims.With(oidctest.Object{"iss": nil})), "", domain.Identity{Subject: oidctest.Subject}},
		"any audience":                  {both, next.Sign(nil, claims.With(oidctest.Object{"aud": "x"})), "", domain.Identity{Issuer: "https://issuer.example", Subject: oidctest.Subject}},
		"the audience that is set":      {audience, next.Sign(nil, claims), "", domain.Identity{Issuer: "https://issuer.example", Subject: oidctest.Subject}},
		"not the audience that is set":  {audience, next.Sign(nil, claims.With(oidctest.Object{"aud": "x"})), domain.ReasonInvalidClaims, domain.Identity{}},
		"no audience where one is set":  {audience, next.Sign(nil, claims.With(oidctest.Object{"aud": nil})), domain.ReasonInvalidClaims, domain.Identity{}},
		"no exp where it is required":   {both, next.Sign(nil, claims.With(oidctest.Object{"exp": nil})), domain.ReasonInvalidClaims, domain.Identity{}},
		"no sub where it is required":   {both, next.Sign(nil, claims.With(oidctest.Object{"sub": nil})), domain.ReasonInvalidClaims, domain.Identity{}},
		"neither where none is":         {lax, next.Sign(nil, bare), "", domain.Identity{Subject: oidc.SharedSubject}},
		"the shared subject by name":    {lax, next.Sign(nil, bare.With(oidctest.Object{"sub": oidc.SharedSubject})), domain.ReasonInvalidClaims, domain.Identity{}},
		"exp counts where none is":      {lax, next.Sign(nil, bare.With(oidctest.Object{"exp": 1})), domain.ReasonTokenExpired, domain.Identity{}},
		"a claim of one's own":          {oidc.SharedSecret{Secrets: []string{secret(next)}, Require: []string{"tenant"}}, next.Sign(nil, bare), domain.ReasonInvalidClaims, domain.Identity{}},
		"HS384":                         {both, next.For("HS384").Sign(nil, claims), domain.ReasonInvalidToken, domain.Identity{}},
		"none":                          {both, none, domain.ReasonInvalidToken, domain.Identity{}},
		"an issuer's RS256":             {both, oidctest.NewKey("", "RS256", 0).Sign(nil, claims), domain.ReasonInvalidToken, domain.Identity{}},
		"bound to a key":                {both, next.Sign(nil, claims.With(oidctest.Object{"cnf": oidctest.Object{}})), domain.ReasonInvalidClaims, domain.Identity{}},
		"a short secret, allowed":       {oidc.SharedSecret{Secrets: []string{"secret"}, AllowShort: true}, short.Sign(nil, claims), "", domain.Identity{Issuer: "https://issuer.example", Subject: oidctest.Subject}},
		"too long":                      {oidc.SharedSecret{Secrets: []string{secret(next)}, MaxToken: 100}, next.Sign(nil, claims), domain.ReasonInvalidToken, domain.Identity{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &logbook{}
			v := sharedSecret(t, oidc.Options{Now: func() time.Time { return start }, Log: log.log}, c.settings)
			who, err := v.Verify(t.Context(), c.token)
			if reason(err) != c.want || who.Identity != c.who {
				t.Errorf("Verify: %+v, %v; want %q, %+v", who, err, c.want, c.who)
			}
			if warned := len(log.all()) == 1; warned != c.settings.AllowShort {
				t.Errorf("warned of the secret: %v, want %v", warned, c.settings.AllowShort)
			}
			if err := v.Prefetch(t.Context()); err != nil {
				t.Error(err)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestATokenWithoutExpiryNeverExpires(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("", "HS256", 0)
	v := sharedSecret(t, oidc.Options{}, oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}, Require: []string{}})
	who, err := v.Verify(t.Context(), key.Sign(nil, oidctest.Object{}))
	if err != nil || !who.ExpiresAt.IsZero() {
		t.Errorf("Verify: %+v, %v; want no expiry", who, err)
	}
}

func TestSharedSecretsThatAreRefused(t *testing.T) {
	t.Parallel()
	const good = "0123456789abcdef0123456789abcdef"
	for name, c := range map[string]struct {
		settings oidc.SharedSecret
		want     string
	}{
		"none":              {oidc.SharedSecret{}, "one secret is needed"},
		"three":             {oidc.SharedSecret{Secrets: []string{good, good, good}}, "one secret is needed"},
		"empty":             {oidc.SharedSecret{Secrets: []string{good, ""}, AllowShort: true}, "secret 2 is empty"},
		"short":             {oidc.SharedSecret{Secrets: []string{good[:31]}}, "secret 1 has less than 32 bytes"},
		"a public key":      {oidc.SharedSecret{Secrets: []string{"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZI"}}, "PEM"},
		"an empty audience": {oidc.SharedSecret{Secrets: []string{good}, Audience: []string{""}}, "empty"},
		"a leeway of hours": {oidc.SharedSecret{Secrets: []string{good}, Leeway: time.Hour}, "leeway"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := oidc.NewSharedSecretVerifier(c.settings, oidc.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("NewSharedSecretVerifier: %v, want %q in it", err, c.want)
			}
			for _, s := range c.settings.Secrets {
				if s != "" && strings.Contains(err.Error(), s) {
					t.Errorf("the error has the secret in it: %v", err)
				}
			}
		})
	}
}
