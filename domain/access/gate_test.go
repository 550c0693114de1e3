package access_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/access"
)

type verifierFunc func(ctx context.Context, token string) (domain.Principal, error)

func (f verifierFunc) Verify(ctx context.Context, token string) (domain.Principal, error) {
	return f(ctx, token)
}

var alice = domain.Principal{
	Identity: domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"}, ClientID: "app", Scopes: []string{"jobs:read"}, TokenID: "token-1",
}

// knows is a verifier that knows one token.
func knows(t *testing.T) verifierFunc {
	t.Helper()
	return func(_ context.Context, token string) (domain.Principal, error) {
		if token != "alice's token" {
			t.Errorf("asked about the token %q", token)
		}
		return alice, nil
	}
}

func TestEnter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		revoked []domain.Revocation
		refused bool
	}{
		{"nobody is revoked", nil, false},
		{"another subject is revoked", []domain.Revocation{{Subject: "bob"}}, false},
		{"a namesake at another issuer is revoked", []domain.Revocation{{Issuer: "https://other.example/", Subject: "alice"}}, false},
		{"another token is revoked", []domain.Revocation{{TokenID: "token-2"}}, false},
		{"the subject is revoked", []domain.Revocation{{Issuer: alice.Issuer, Subject: "alice"}}, true},
		{"the token is revoked", []domain.Revocation{{TokenID: "token-1"}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			policy := domain.DefaultPolicy()
			policy.Revoked = tt.revoked
			gate := &access.Gate{Verifier: knows(t), Policy: policy}
			who, err := gate.Enter(t.Context(), "alice's token")
			if !tt.refused {
				if diff := cmp.Diff(alice, who); err != nil || diff != "" {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				return
			}
			if domain.KindOf(err) != domain.Unauthenticated || domain.ReasonOf(err) != domain.ReasonInvalidToken {
				t.Errorf("%v, want invalid_token", err)
			}
			if diff := cmp.Diff(domain.Principal{}, who); diff != "" {
				t.Errorf("a refused caller is named:\n%s", diff)
			}
		})
	}
}

func TestEnterPassesTheVerifiersErrorThrough(t *testing.T) {
	t.Parallel()
	for _, want := range []error{
		domain.Errorf(domain.Unauthenticated, domain.ReasonTokenExpired, "the token has expired"),
		domain.Wrap(errors.New("dial tcp"), domain.Unavailable, domain.ReasonKeysUnavailable, "the issuer's keys cannot be had"),
	} {
		gate := &access.Gate{Policy: domain.DefaultPolicy(), Verifier: verifierFunc(func(context.Context, string) (domain.Principal, error) {
			return alice, want
		})}
		who, err := gate.Enter(t.Context(), "a token")
		if err != want { //nolint:errorlint // it has to be that very error
			t.Errorf("%v, want %v", err, want)
		}
		if who.Subject != "" {
			t.Errorf("a refused caller is named %q", who.Subject)
		}
	}
}

func TestEnterGivesTheVerifierItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gate := &access.Gate{Verifier: verifierFunc(func(ctx context.Context, _ string) (domain.Principal, error) {
		return domain.Principal{}, domain.Wrap(ctx.Err(), domain.Unavailable, domain.ReasonKeysUnavailable, "cancelled")
	})}
	if _, err := gate.Enter(ctx, "a token"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's error", err)
	}
}

func TestMayDecidesAsTheGate(t *testing.T) {
	t.Parallel()
	gate := &access.Gate{Policy: domain.AccessPolicy{Rules: []domain.Rule{
		{Effect: domain.Allow, Actions: []domain.Action{domain.ActionRead}, Scopes: []string{"jobs:read"}, Jobs: []string{"report.*"}},
		{Effect: domain.Deny, Actions: []domain.Action{domain.ActionRead}, Jobs: []string{"*"}},
		{Effect: domain.Allow, Actions: []domain.Action{domain.ActionSubmit}, Scopes: []string{"jobs:submit"}},
	}}}
	want := map[domain.Action]domain.Decision{
		domain.ActionRead:   {Allowed: true, Rule: 0}, // what names jobs is decided behind the gate
		domain.ActionSubmit: {Rule: -1, Reason: domain.ReasonInsufficientScope, Scopes: []string{"jobs:submit"}},
		domain.ActionCancel: {Rule: -1, Reason: domain.ReasonForbidden},
	}
	for action, decision := range want {
		if diff := cmp.Diff(decision, gate.May(alice, action)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", action, diff)
		}
	}
}
