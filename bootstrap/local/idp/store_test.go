package idp

import (
	"errors"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// The tests here put requests into an order that parallel requests rarely take,
// or look at what no answer shows.

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
	if !s.authenticate(login.GetID(), User{Name: "alice"}, "her browser") {
		t.Error("the first login was refused")
	}
	if s.authenticate(login.GetID(), User{Name: "bob"}, "his browser") {
		t.Error("the second login took over the first")
	}
	if _, ok := s.decide(login.GetID(), "his browser", true); ok {
		t.Error("another browser consented")
	}
	if done, ok := s.decide(login.GetID(), "her browser", true); !ok || done.subject != "alice" {
		t.Errorf("consent came to %+v, %v", done, ok)
	}
	if _, ok := s.decide(login.GetID(), "her browser", false); ok {
		t.Error("what was allowed was refused before its code was made")
	}
}

func TestCodeThatWasUsedAgainMeanwhileGivesNoRefreshToken(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	ctx := t.Context()
	login, err := s.CreateAuthRequest(ctx, &oidc.AuthRequest{ClientID: PublicClientID}, "")
	if err != nil {
		t.Fatal(err)
	}
	if !s.authenticate(login.GetID(), User{Name: "alice"}, "her browser") {
		t.Fatal("not authenticated")
	}
	if _, ok := s.decide(login.GetID(), "her browser", true); !ok {
		t.Fatal("not allowed")
	}
	if err := s.SaveAuthCode(ctx, login.GetID(), "the code"); err != nil {
		t.Fatal(err)
	}
	first, err := s.AuthRequestByCode(ctx, "the code")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AuthRequestByCode(ctx, "the code"); err == nil {
		t.Fatal("the code was good twice")
	}
	if _, _, _, err := s.CreateAccessAndRefreshTokens(ctx, first, ""); !errors.Is(err, oidc.ErrInvalidGrant()) {
		t.Errorf("the first request got %v", err)
	}
}

func TestDeviceCodeIsOfNoUseToAnotherClient(t *testing.T) {
	t.Parallel()
	s := newTestStore(t)
	code, _, err := s.createDevice(PublicClientID, []string{ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.poll(code, "another client with the same grant"); !errors.Is(err, oidc.ErrInvalidGrant()) {
		t.Errorf("another client got %v", err)
	}
	if _, err := s.poll(code, PublicClientID); !errors.Is(err, oidc.ErrAuthorizationPending()) {
		t.Errorf("its own client got %v", err)
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

// FuzzUserCode: what a person types is read as letters of the alphabet alone,
// and a code however it is typed as the code.
func FuzzUserCode(f *testing.F) {
	for _, seed := range []string{"WDJB-MJHT", "wdjb mjht", " wdjbmjht\n", "", "\xff", "AEIOU-0189", "ſK"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		plain := plainUserCode(typed)
		if strings.Trim(plain, userAlphabet) != "" || len(plain) > len(typed) {
			t.Errorf("%q is read as %q", typed, plain)
		}
		if plainUserCode(strings.ToLower(plain)+"-") != plain {
			t.Errorf("%q is not read as itself", plain)
		}
	})
}
