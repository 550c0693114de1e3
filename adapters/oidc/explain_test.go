package oidc_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

// explain returns what v explains about a token, having held it to what v verifies.
func explain(t *testing.T, v *oidc.Verifier, raw string) oidc.Explanation {
	t.Helper()
	who, err := v.Verify(t.Context(), raw)
	e := v.Explain(t.Context(), raw)
	if diff := cmp.Diff(who, e.Principal); diff != "" {
		t.Errorf("Verify and Explain differ about the principal (-Verify +Explain):\n%s", diff)
	}
	if domain.KindOf(err) != domain.KindOf(e.Err) || reason(err) != reason(e.Err) || text(err) != text(e.Err) {
		t.Errorf("Verify and Explain differ:\n%v\n%v", err, e.Err)
	}
	failed, unchecked := 0, 0
	for _, f := range e.Findings {
		switch f.Result {
		case oidc.Failed:
			failed++
		case oidc.NotChecked:
			unchecked++
		case oidc.Passed:
		default:
			t.Errorf("%s: result %q", f.Check, f.Result)
		}
		if f.Check == "signature" && e.Verified != (f.Result == oidc.Passed) {
			t.Errorf("Verified is %t and the signature %s", e.Verified, f.Result)
		}
		if (f.Why != "") != (f.Result == oidc.Failed) {
			t.Errorf("%s %s, with the reason %q", f.Check, f.Result, f.Why)
		}
		for _, said := range []string{f.Why, f.Found, f.Wanted} {
			if strings.ContainsFunc(said, func(c rune) bool { return !unicode.IsPrint(c) }) || utf8.RuneCountInString(said) > 300 {
				t.Errorf("%s: not a bounded line: %q", f.Check, said)
			}
		}
	}
	switch {
	case err == nil && failed+unchecked > 0:
		t.Errorf("accepted with %d checks failed and %d not made", failed, unchecked)
	case err != nil && failed == 0:
		t.Error("refused with no check failed")
	}
	return e
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// One sequence of checks serves both, so that no explanation can be of another verdict than the one that callers get.
func TestExplainSaysWhatVerifyDecides(t *testing.T) {
	t.Parallel()
	for _, table := range newLab(t).Tables() {
		v, err := table.Verifier(oidc.Options{Now: func() time.Time { return start }})
		if err != nil {
			t.Fatalf("%s: %v", table.Name, err)
		}
		t.Cleanup(func() { _ = v.Close() })
		for _, token := range table.Tokens {
			t.Run(table.Name+"/"+token.Name, func(t *testing.T) {
				t.Parallel()
				e := explain(t, v, token.Raw)
				signature := token.Raw[strings.LastIndexByte(token.Raw, '.')+1:]
				for _, f := range e.Findings {
					for _, said := range []string{f.Why, f.Found, f.Wanted} {
						if len(signature) > 20 && strings.Contains(said, signature) {
							t.Errorf("%s shows the signature: %s", f.Check, said)
						}
					}
				}
			})
		}
	}
}

func FuzzExplain(f *testing.F) {
	table := newLab(f).Tables()[0]
	v := newVerifier(f, oidc.Options{Now: func() time.Time { return start }}, table.Issuers...)
	for _, token := range table.Tokens {
		f.Add(token.Raw)
	}
	f.Fuzz(func(t *testing.T, raw string) { explain(t, v, raw) })
}

func TestExplainGoesOnWhereSomethingIsLeftToJudge(t *testing.T) {
	t.Parallel()
	key, stranger := oidctest.NewKey("k", "ES256", 0), oidctest.NewKey("k", "ES256", 0)
	source := &oidctest.Issuer{}
	source.Publish(key)
	issuer := fromFile(t, source.KeySet())
	v := newVerifier(t, oidc.Options{Now: func() time.Time { return start }, Transport: noNetwork(t)}, issuer)
	type object = oidctest.Object
	claims := oidctest.Claims(issuer.Issuer, start)
	afterForm := []string{"header", "crit", "claims", "iss", "alg", "typ", "keys", "key", "signature", "required", "kind", "nbf", "iat", "exp", "sub", "jti", "aud", "client", "scope"}
	for name, c := range map[string]struct {
		token     string
		failed    []string
		unchecked []string
		verified  bool
	}{
		"a good one":          {key.Sign(nil, claims), nil, nil, true},
		"nothing":             {"", []string{"size"}, append([]string{"form"}, afterForm...), false},
		"junk":                {"junk", []string{"form"}, afterForm, false},
		"a header of no JSON": {key.SignText("{", "{}"), []string{"header"}, afterForm[1:], false},
		"claims of no JSON, and an extension": {
			key.SignText(`{"alg":"ES256","crit":["x"]}`, "["), []string{"crit", "claims"}, afterForm[3:], false,
		},
		"an unknown issuer": {key.Sign(nil, claims.With(object{"iss": "https://other.example"})), []string{"iss"}, afterForm[4:], false},
		"expired, and for others": {
			key.Sign(nil, claims.With(object{"exp": start.Add(-time.Hour).Unix(), "aud": "other"})), []string{"exp", "aud"}, nil, true,
		},
		"everything about the claims": {
			key.Sign(object{"typ": "logout+jwt"}, claims.With(object{
				"events": object{}, "nbf": start.Add(time.Hour).Unix(), "iat": "now", "exp": 1, "sub": "", "jti": 5, "aud": 7, "client_id": "", "scope": 1,
			})), []string{"typ", "kind", "nbf", "iat", "exp", "sub", "jti", "aud", "client", "scope"}, nil, true,
		},
		"no claims": {key.Sign(nil, object{"iss": issuer.Issuer}), []string{"required", "client"}, nil, true},
		"an algorithm that is not accepted": {
			key.SignText(`{"alg":"none","kid":"k"}`, `{"iss":"`+issuer.Issuer+`"}`), []string{"alg", "required", "client"}, []string{"keys", "key", "signature"}, false,
		},
		"an unknown key":       {key.As("other", nil).Sign(nil, claims), []string{"key"}, []string{"signature"}, false},
		"signed by a stranger": {stranger.Sign(nil, claims.With(object{"exp": 1})), []string{"signature", "exp"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := explain(t, v, c.token)
			var failed, unchecked []string
			for _, f := range e.Findings {
				switch f.Result {
				case oidc.Failed:
					failed = append(failed, f.Check)
				case oidc.NotChecked:
					unchecked = append(unchecked, f.Check)
				case oidc.Passed:
				}
			}
			if diff := cmp.Diff(c.failed, failed); diff != "" {
				t.Errorf("failed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.unchecked, unchecked); diff != "" {
				t.Errorf("not checked (-want +got):\n%s", diff)
			}
			if e.Verified != c.verified {
				t.Errorf("Verified is %t", e.Verified)
			}
		})
	}
}

func TestExplainQuotesTokenAndSettings(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("k", "ES256", 0)
	source := &oidctest.Issuer{}
	source.Publish(key)
	issuer := fromFile(t, source.KeySet())
	issuer.Algorithms, issuer.ClientIDs, issuer.AcceptIDTokens, issuer.ScopePrefix = []string{"ES256"}, []string{"c"}, true, "api/"
	issuer.MaxToken = 4 << 10
	lenient := issuer
	lenient.Issuer, lenient.MaxToken = "https://lenient.example", 8<<10
	v := newVerifier(t, oidc.Options{Now: func() time.Time { return start }}, issuer, lenient)
	e := explain(t, v, key.Sign(oidctest.Object{"typ": "x\u202ey"}, oidctest.Claims(issuer.Issuer, start).With(oidctest.Object{
		"aud": []string{"a", "b"}, "nbf": start.Add(72 * time.Hour).Unix(), "exp": start.Add(-90 * time.Minute).Unix(), "iat": start.Unix(),
		"token_use": "id", "at_hash": "h", "jti": nil, "client_id": strings.Repeat("é", 300), "sub": nil,
	})))
	got := make(map[string][2]string)
	for _, f := range e.Findings {
		got[f.Check] = [2]string{f.Found, f.Wanted}
	}
	want := map[string][2]string{
		"size":      {"1176 bytes", "at most 4096"},
		"form":      {"", "three parts in base64url"},
		"header":    {"", "a JSON object with alg"},
		"crit":      {"none", "no extension"},
		"claims":    {"", "a JSON object"},
		"iss":       {`"https://issuer.example"`, `"https://issuer.example", "https://lenient.example"`},
		"alg":       {`"ES256"`, `"ES256"`},
		"typ":       {"\"x\ufffdy\"", `"jwt", "at+jwt", or none`},
		"keys":      {"1 usable from " + issuer.JWKSFile, "at least one"},
		"key":       {`"k"`, `"k"`},
		"signature": {"", ""},
		"required":  {"", "exp, sub"},
		"kind":      {`token_use "id", at_hash "h"`, "an access token or an ID token"},
		"nbf":       {"2026-03-04T12:00:00Z, in 3 days", "past, with a leeway of 1m0s"},
		"iat":       {"2026-03-01T12:00:00Z, in 0s", "any date"},
		"exp":       {"2026-03-01T10:30:00Z, 1h30m0s ago", "ahead, with a leeway of 1m0s"},
		"sub":       {"none", ""},
		"jti":       {"none", ""},
		"aud":       {`["a","b"]`, `"https://jobgate.example", or that of the client`},
		"client":    {`client_id "` + strings.Repeat("é", 200-len(`client_id "`)) + "…", `"c"`},
		"scope":     {`scope "jobs:submit jobs:read"`, "the first of scope, scp, scopes, prefixed by api/"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestExplainTellsAnOutageFromARefusal(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("k", "ES256", 0)
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	issuer := settings(&oidctest.Issuer{URL: server.URL})
	v := newVerifier(t, oidc.Options{Now: func() time.Time { return start }}, issuer)
	e := explain(t, v, key.Sign(nil, oidctest.Claims(server.URL, start).With(oidctest.Object{"exp": 1})))
	if reason(e.Err) != domain.ReasonKeysUnavailable || e.Verified {
		t.Errorf("Explain without keys: %v, verified %t", e.Err, e.Verified)
	}
	results := make(map[string]oidc.Finding)
	for _, f := range e.Findings {
		results[f.Check] = f
	}
	if f := results["keys"]; f.Result != oidc.Failed || !strings.Contains(f.Why, "404") || !strings.Contains(f.Found, server.URL) {
		t.Errorf("keys: %+v", f)
	}
	if results["key"].Result != oidc.NotChecked || results["signature"].Result != oidc.NotChecked || results["exp"].Result != oidc.Failed {
		t.Errorf("the checks after the keys: %+v", results)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if e := v.Explain(gone, "a.b.c"); !errors.Is(e.Err, gone.Err()) {
		t.Errorf("Explain in a call that has ended: %v", e.Err)
	}
}

func TestExplainKnowsTheSharedSecretMode(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("", "HS256", 0)
	v := sharedSecret(t, oidc.Options{Now: func() time.Time { return start }}, oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}})
	claims := oidctest.Claims("https://issuer.example", start)
	e := explain(t, v, key.Sign(nil, claims.With(oidctest.Object{"iss": "", "exp": 1})))
	failed := []string{}
	for _, f := range e.Findings {
		if f.Result == oidc.Failed {
			failed = append(failed, f.Check)
		}
		for _, said := range []string{f.Why, f.Found, f.Wanted} {
			if strings.Contains(said, string(key.Secret.([]byte))) {
				t.Errorf("%s shows the secret", f.Check)
			}
		}
	}
	if diff := cmp.Diff([]string{"iss", "exp"}, failed); diff != "" || reason(e.Err) != domain.ReasonTokenExpired || !e.Verified {
		t.Errorf("failed (-want +got):\n%s\n%v", diff, e.Err)
	}
	explain(t, v, key.Sign(nil, claims))
}
