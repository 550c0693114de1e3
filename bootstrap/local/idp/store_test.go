package idp

import (
	"errors"
	"testing"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// The two tests here put requests into an order that parallel requests rarely
// take.

func newTestStore(t *testing.T) *store {
	t.Helper()
	p, err := New(Options{Issuer: "http://127.0.0.1:8080", Dir: t.TempDir(), Audience: "jobgate"})
	if err != nil {
		t.Fatal(err)
	}
	return p.store
}

func TestOfTwoLoginsWithOneFormOneWins(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	login, err := s.CreateAuthRequest(t.Context(), &oidc.AuthRequest{ClientID: PublicClientID}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.finish(login.GetID(), User{Name: "alice"}); !ok {
		t.Error("the first login was refused")
	}
	if _, ok := s.finish(login.GetID(), User{Name: "bob"}); ok {
		t.Error("the second login took over the first")
	}
}

func TestRefreshTokenThatWasRenewedMeanwhileEndsTheChain(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	ctx := t.Context()
	_, token, _, err := s.CreateAccessAndRefreshTokens(ctx, &authRequest{grantID: "g", subject: "alice"}, "")
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.TokenRequestByRefreshToken(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.TokenRequestByRefreshToken(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	_, renewed, _, err := s.CreateAccessAndRefreshTokens(ctx, first, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err = s.CreateAccessAndRefreshTokens(ctx, second, token); !errors.Is(err, oidc.ErrInvalidGrant()) {
		t.Errorf("the second request got %v", err)
	}
	if _, err := s.TokenRequestByRefreshToken(ctx, renewed); err == nil {
		t.Error("the chain outlived the reuse")
	}
}
