package domain_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/jobgate/jobgate/domain"
)

func TestRoutesAreServableAndEachAsksForAnActionOrIsPublic(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	var actions []domain.Action
	for _, r := range domain.Routes {
		mux.HandleFunc(r.Method+" "+r.Pattern, func(http.ResponseWriter, *http.Request) {}) // panics at a bad pattern or a conflict
		if (r.Action == "") != r.Public {
			t.Errorf("%s %s: action %q, public %t", r.Method, r.Pattern, r.Action, r.Public)
		}
		if r.Action != "" && !slices.Contains(domain.Actions, r.Action) {
			t.Errorf("%s %s: unknown action %q", r.Method, r.Pattern, r.Action)
		}
		actions = append(actions, r.Action)
	}
	for _, a := range domain.Actions {
		if !slices.Contains(actions, a) {
			t.Errorf("no route takes the action %q", a)
		}
	}
}

func TestPrincipalExpires(t *testing.T) {
	t.Parallel()
	until := domain.Principal{ExpiresAt: t0}
	if until.Expired(t0.Add(-1)) || !until.Expired(t0) || !until.Expired(t0.Add(1)) {
		t.Error("a principal does not end exactly at ExpiresAt")
	}
	if (domain.Principal{}).Expired(t0) {
		t.Error("a principal without an end has ended")
	}
}

func TestIdentityIsZero(t *testing.T) {
	t.Parallel()
	for who, want := range map[domain.Identity]bool{{}: true, {Issuer: "i"}: false, {Subject: "s"}: false, alice: false} {
		if got := who.IsZero(); got != want {
			t.Errorf("%+v: IsZero() = %t", who, got)
		}
	}
}
