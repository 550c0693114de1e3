package portstest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// TokenVerifierHarness is a verifier under test, new for each case, and everything that the suite needs to make tokens
// for it.
type TokenVerifierHarness struct {
	Verifier ports.TokenVerifier

	// Mint signs a token that is valid now and for an hour, with some claims changed: nil removes one.
	Mint func(t *testing.T, changes map[string]any) string

	// Want is whom a token without changes speaks for. Each member must have a value but ExpiresAt, which is looked at
	// by itself, and Claims.
	Want domain.Principal

	Clock  *Clock        // the verifier's
	Leeway time.Duration // how far it lets clocks differ

	// Break and Restore turn the source of keys off and on. nil: there is none outside the verifier.
	Break, Restore func()

	// AnyIssuer and AnyAudience tell that the verifier takes tokens whatever their iss or aud, as one does that shares a
	// secret with its issuer.
	AnyIssuer, AnyAudience bool
}

// TokenVerifier is the contract of ports.TokenVerifier. open returns a harness that has verified nothing yet.
func TokenVerifier(t *testing.T, open func(t *testing.T) TokenVerifierHarness) {
	t.Helper()

	t.Run("a valid token is accepted with all that it says", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		if w := h.Want; w.Issuer == "" || w.Subject == "" || w.ClientID == "" || len(w.Scopes) == 0 || w.TokenID == "" {
			t.Fatalf("the harness leaves members of Want empty: %+v", w)
		}
		who := h.accepted(t, h.Mint(t, nil))
		if want := h.Clock.Now().Add(time.Hour + h.Leeway); who.ExpiresAt.Sub(want).Abs() > time.Second {
			t.Errorf("ExpiresAt is %v, want %v", who.ExpiresAt, want)
		}
	})

	t.Run("a token may be verified again", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		token := h.Mint(t, nil)
		h.accepted(t, token)
		h.accepted(t, token)
	})

	t.Run("no token is missing_token", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		h.refused(t, "", domain.ReasonMissingToken)
	})

	t.Run("what is malformed is refused", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		valid := h.Mint(t, nil)
		parts := strings.Split(valid, ".")
		for name, token := range map[string]string{
			"junk":             "junk",
			"dots":             "..",
			"no signature":     parts[0] + "." + parts[1],
			"a part too many":  valid + "." + parts[2],
			"no header":        "." + parts[1] + "." + parts[2],
			"a line end":       valid + "\n",
			"padding":          valid + "=",
			"the scheme":       "Bearer " + valid,
			"header cut short": valid[1:],
			"alg none":         encodePart(t, map[string]any{"alg": "none"}) + "." + parts[1] + ".",
			"very long":        strings.Repeat("a", 1<<20),
		} {
			t.Run(name, func(t *testing.T) { h.refused(t, token, domain.ReasonInvalidToken) })
		}
	})

	t.Run("what was tampered with is refused", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		parts := strings.Split(h.Mint(t, nil), ".")
		other := strings.Split(h.Mint(t, map[string]any{"sub": "somebody-else"}), ".")
		signature, err := base64.RawURLEncoding.DecodeString(parts[2])
		if err != nil {
			t.Fatal(err)
		}
		signature[len(signature)/2] ^= 1
		for name, token := range map[string]string{
			"payload":    parts[0] + "." + other[1] + "." + parts[2],
			"signature":  parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(signature),
			"truncated":  parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(signature[:len(signature)-3]),
			"no bytes":   parts[0] + "." + parts[1] + ".",
			"of another": parts[0] + "." + parts[1] + "." + other[2],
			"header":     encodePart(t, map[string]any{"alg": alg(t, parts[0]), "kid": "nobody"}) + "." + parts[1] + "." + parts[2],
		} {
			t.Run(name, func(t *testing.T) { h.refused(t, token, domain.ReasonInvalidSignature) })
		}
	})

	t.Run("a token is refused from its expiry on, with the leeway", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		token := h.Mint(t, nil)
		who := h.accepted(t, token)
		h.Clock.Advance(time.Hour + h.Leeway - 2*time.Second)
		h.accepted(t, token)
		h.Clock.Advance(3 * time.Second)
		h.refused(t, token, domain.ReasonTokenExpired)
		if !who.Expired(h.Clock.Now()) {
			t.Errorf("the principal has not expired at %v, its token has; it says %v", h.Clock.Now(), who.ExpiresAt)
		}
	})

	t.Run("a token is refused before it is valid, with the leeway", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		token := h.Mint(t, map[string]any{"nbf": h.Clock.Now().Add(h.Leeway + 10*time.Second).Unix()})
		h.refused(t, token, domain.ReasonInvalidClaims)
		h.Clock.Advance(11 * time.Second)
		h.accepted(t, token)
	})

	t.Run("another issuer's token is refused", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		if h.AnyIssuer {
			t.Skip("the verifier takes any issuer")
		}
		h.refused(t, h.Mint(t, map[string]any{"iss": "https://issuer.invalid"}), domain.ReasonInvalidClaims)
		h.refused(t, h.Mint(t, map[string]any{"iss": h.Want.Issuer + "/"}), domain.ReasonInvalidClaims)
		h.refused(t, h.Mint(t, map[string]any{"iss": nil}), domain.ReasonInvalidClaims)
	})

	t.Run("a token for another service is refused", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		if h.AnyAudience {
			t.Skip("the verifier takes any audience")
		}
		h.refused(t, h.Mint(t, map[string]any{"aud": "https://service.invalid"}), domain.ReasonInvalidClaims)
		h.refused(t, h.Mint(t, map[string]any{"aud": []string{}}), domain.ReasonInvalidClaims)
	})

	t.Run("a token of nobody is refused", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		h.refused(t, h.Mint(t, map[string]any{"sub": nil}), domain.ReasonInvalidClaims)
		h.refused(t, h.Mint(t, map[string]any{"sub": ""}), domain.ReasonInvalidClaims)
		h.refused(t, h.Mint(t, map[string]any{"sub": 7}), domain.ReasonInvalidClaims)
	})

	t.Run("scopes that nobody can read make a token invalid", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		h.refused(t, h.Mint(t, map[string]any{"scope": 7}), domain.ReasonInvalidClaims)
		h.refused(t, h.Mint(t, map[string]any{"scope": []any{"jobs:read", 7}}), domain.ReasonInvalidClaims)
	})

	t.Run("verifies for many at once", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		valid, tampered := h.Mint(t, nil), h.Mint(t, nil)+"AAAA"
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { h.accepted(t, valid) })
			wg.Go(func() {
				if _, err := h.Verifier.Verify(t.Context(), tampered); err == nil {
					t.Error("a tampered token was accepted among others")
				}
			})
		}
		wg.Wait()
	})

	t.Run("a cancelled context ends the call", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		token := h.Mint(t, nil)
		_, err := h.Verifier.Verify(ctx, token)
		if domain.KindOf(err) != domain.Unavailable || !errors.Is(err, context.Canceled) {
			t.Errorf("Verify: %v, want Unavailable for context.Canceled", err)
		}
		h.accepted(t, token) // it did no harm
	})

	t.Run("without keys nothing is known of a token", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		if h.Break == nil {
			t.Skip("the verifier has no source of keys outside itself")
		}
		h.Break()
		token := h.Mint(t, nil)
		_, err := h.Verifier.Verify(t.Context(), token)
		h.check(t, token, err, domain.Unavailable, domain.ReasonKeysUnavailable)
		h.refused(t, "junk", domain.ReasonInvalidToken) // for which no key is needed
		h.Restore()
		h.Clock.Advance(time.Minute)
		h.accepted(t, token)
		h.Break()
		h.accepted(t, token) // with the keys at hand
	})
}

// accepted verifies a token that is to be accepted. It may be called from any goroutine.
func (h TokenVerifierHarness) accepted(t *testing.T, token string) domain.Principal {
	t.Helper()
	who, err := h.Verifier.Verify(t.Context(), token)
	if err != nil {
		t.Errorf("Verify: %v", err)
		return domain.Principal{}
	}
	if diff := cmp.Diff(h.Want, who, cmpopts.IgnoreFields(domain.Principal{}, "ExpiresAt")); diff != "" {
		t.Errorf("the principal is not as wanted (-want +got):\n%s", diff)
	}
	return who
}

// refused verifies a token that is to be refused.
func (h TokenVerifierHarness) refused(t *testing.T, token string, reason domain.Reason) {
	t.Helper()
	who, err := h.Verifier.Verify(t.Context(), token)
	if diff := cmp.Diff(domain.Principal{}, who); diff != "" {
		t.Errorf("a refusal comes with a principal (-want +got):\n%s", diff)
	}
	h.check(t, token, err, domain.Unauthenticated, reason)
}

// check looks at an error: its kind and reason, and that its message gives nothing away.
func (h TokenVerifierHarness) check(t *testing.T, token string, err error, kind domain.Kind, reason domain.Reason) {
	t.Helper()
	e, ok := errors.AsType[*domain.Error](err)
	if !ok {
		t.Fatalf("Verify: %v, want a *domain.Error", err)
	}
	if e.Kind != kind || e.Reason != reason {
		t.Errorf("Verify: %v (%v, %s), want %v, %s", err, e.Kind, e.Reason, kind, reason)
	}
	for _, secret := range append(secrets(token), h.Want.Subject, h.Want.Issuer, h.Want.TokenID, h.Want.ClientID) {
		if len(secret) >= 4 && strings.Contains(e.Message, secret) {
			t.Errorf("the message %q gives %q away", e.Message, secret)
		}
	}
	if token != "" && strings.Contains(err.Error(), token) {
		t.Errorf("the error, which is logged, has the whole token in it: %.200v", err)
	}
}

// secrets returns what of a token must be in no message: its parts, and every string in its header and claims.
func secrets(token string) []string {
	parts := strings.Split(token, ".")
	found := slices.Clone(parts)
	for _, part := range parts {
		text, err := base64.RawURLEncoding.DecodeString(part)
		var members map[string]any
		if err != nil || json.Unmarshal(text, &members) != nil {
			continue
		}
		for _, v := range members {
			if s, ok := v.(string); ok {
				found = append(found, s)
			}
		}
	}
	return found
}

func encodePart(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func alg(t *testing.T, header string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	var h struct {
		Alg string `json:"alg"`
	}
	if err := json.Unmarshal(text, &h); err != nil {
		t.Fatal(err)
	}
	return h.Alg
}
