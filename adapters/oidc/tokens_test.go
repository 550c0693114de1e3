package oidc_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

// newLab returns a lab whose issuers are served until the test ends.
func newLab(t testing.TB) *oidctest.Lab {
	t.Helper()
	lab := oidctest.NewLab(start)
	for _, issuer := range []*oidctest.Issuer{lab.A, lab.B, lab.C} {
		serve(t, issuer)
	}
	return lab
}

// The tables of oidctest, against the verifier itself, and twice in a row against one that remembers tokens. None of their
// tokens may have a verifier ask anybody but the issuers, nor ask them more than the bound for unknown keys.
func TestTokens(t *testing.T) {
	t.Parallel()
	lab := newLab(t)
	tables := lab.Tables()
	t.Cleanup(func() {
		if n := lab.A.Requests(oidctest.KeysPath); n > 4*len(tables) {
			t.Errorf("two verifiers of %d tables had the key set fetched %d times, want at most 2 times each", len(tables), n)
		}
	})
	for _, table := range tables {
		var verifiers [2]*oidc.Verifier
		for i := range verifiers {
			opts := oidc.Options{Now: func() time.Time { return start }, Transport: http.DefaultTransport.(*http.Transport), Remember: i * len(table.Tokens)}
			v, err := table.Verifier(opts)
			if err != nil {
				t.Fatalf("%s: %v", table.Name, err)
			}
			t.Cleanup(func() { _ = v.Close() })
			verifiers[i] = v
		}
		seen := make(map[string]bool)
		for _, token := range table.Tokens {
			if seen[token.Name] || token.Source == "" {
				t.Errorf("%s: %s: the name is taken or the source missing", table.Name, token.Name)
			}
			seen[token.Name] = true
			t.Run(table.Name+"/"+token.Name, func(t *testing.T) {
				t.Parallel()
				who := checkVerdict(t, verifiers[0], token)
				for range 2 {
					if diff := cmp.Diff(who, checkVerdict(t, verifiers[1], token)); diff != "" {
						t.Errorf("where tokens are remembered (-not +so):\n%s", diff)
					}
				}
			})
		}
	}
}

// checkVerdict checks what v makes of a token of a table, and returns whom it speaks for.
func checkVerdict(t *testing.T, v *oidc.Verifier, token oidctest.Token) domain.Principal {
	t.Helper()
	who, err := v.Verify(t.Context(), token.Raw)
	if token.Want == "" {
		if err != nil || who.Subject == "" {
			t.Errorf("Verify: %+v, %v; want it accepted (%s)", who, err, token.Source)
		}
		return who
	}
	e, ok := errors.AsType[*domain.Error](err)
	if !ok || e.Kind != domain.Unauthenticated || e.Reason != token.Want {
		t.Fatalf("Verify: %v (%s), want %s (%s)", err, domain.ReasonOf(err), token.Want, token.Source)
	}
	if len(e.Err.Error()) > 400 || strings.Contains(err.Error(), "\n") {
		t.Errorf("what is logged is not bounded to one short line: %.500q", err)
	}
	return who
}

// The tables hold each class of attack in its breadth.
func TestTokensOfEachClass(t *testing.T) {
	t.Parallel()
	hostile, of := 0, make(map[oidctest.Class]int)
	for _, table := range newLab(t).Tables() {
		for _, token := range table.Tokens {
			of[token.Class]++
			if token.Want != "" {
				hostile++
			}
		}
	}
	for class, least := range map[oidctest.Class]int{
		oidctest.Accepted: 40, oidctest.Form: 40, oidctest.Size: 12, oidctest.Header: 35, oidctest.Injection: 20, oidctest.None: 12,
		oidctest.Confusion: 40, oidctest.Signature: 15, oidctest.Malleable: 18, oidctest.ECDSA: 18, oidctest.Kind: 25,
		oidctest.ClaimValue: 75, oidctest.SettingKept: 55,
	} {
		if of[class] < least {
			t.Errorf("%d tokens of class %s, want at least %d", of[class], class, least)
		}
	}
	if hostile < 350 {
		t.Errorf("%d tokens are to be refused, want at least 350", hostile)
	}
	t.Logf("%d tokens to be refused, by class %v", hostile, of)
}
