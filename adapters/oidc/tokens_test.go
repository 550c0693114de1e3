package oidc_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

// The table of oidctest, against the verifier itself. None of its tokens may have the verifier ask anybody but the two
// issuers, nor ask them more than the bound for unknown keys.
func TestTokens(t *testing.T) {
	t.Parallel()
	lab := oidctest.NewLab(start)
	serve(t, lab.A)
	serve(t, lab.B)
	now := func() time.Time { return start }
	v := newVerifier(t, oidc.Options{Now: now, Transport: http.DefaultTransport.(*http.Transport)}, settings(lab.A), settings(lab.B))
	t.Cleanup(func() {
		if n := lab.A.Requests(oidctest.KeysPath) + lab.B.Requests(oidctest.KeysPath); n > 4 {
			t.Errorf("the table had the key sets fetched %d times, want at most 2 times each", n)
		}
	})
	seen := make(map[string]bool)
	for _, token := range lab.Tokens() {
		if seen[token.Name] || token.Source == "" {
			t.Errorf("%s: the name is taken or the source missing", token.Name)
		}
		seen[token.Name] = true
		t.Run(token.Name, func(t *testing.T) {
			t.Parallel()
			who, err := v.Verify(t.Context(), token.Raw)
			if token.Want == "" {
				if err != nil || who.Issuer == "" || who.Subject == "" {
					t.Errorf("Verify: %+v, %v; want it accepted (%s)", who, err, token.Source)
				}
				return
			}
			e, ok := errors.AsType[*domain.Error](err)
			if !ok || e.Kind != domain.Unauthenticated || e.Reason != token.Want {
				t.Errorf("Verify: %v (%s), want %s (%s)", err, domain.ReasonOf(err), token.Want, token.Source)
			}
			if ok && len(e.Err.Error()) > 400 || strings.Contains(err.Error(), "\n") {
				t.Errorf("what is logged is not bounded to one short line: %.500q", err)
			}
		})
	}
}
