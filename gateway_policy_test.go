package jobgate_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/adapters/localgateway"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/access"
)

// The authorizer's policy is written in one adapter and evaluated in another, as it is by two parties in AWS. What
// follows holds them to one meaning.

type verifies func(token string) (domain.Principal, error)

func (v verifies) Verify(_ context.Context, token string) (domain.Principal, error) { return v(token) }

// A gatedAPI is the whole way in: local gateway, authorizer and jobs function around a handler.
type gatedAPI struct {
	http.Handler
	authorizerCalls int
	served          string           // the pattern that the handler last served
	caller          domain.Principal // for whom
	prefix          string
}

func newGatedAPI(t interface{ Fatal(...any) }, gate *access.Gate, routes []domain.Route, o localgateway.Options) *gatedAPI {
	api := new(gatedAPI)
	authorizer, err := apigateway.NewAuthorizer(gate, routes, nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.HandleFunc(r.Method+" "+r.Pattern, func(_ http.ResponseWriter, r *http.Request) {
			api.served, api.prefix = r.Pattern, apigateway.Prefix(r)
			if api.caller, err = apigateway.Principal(r); err != nil {
				t.Fatal(err)
			}
		})
	}
	o.Routes = routes
	o.Authorizer = func(ctx context.Context, event []byte) ([]byte, error) {
		api.authorizerCalls++
		return authorizer.Invoke(ctx, event)
	}
	o.Integration = apigateway.NewProxy(mux, func(_ context.Context, err error) { t.Fatal(err) }).Invoke
	if api.Handler, err = localgateway.New(o); err != nil {
		t.Fatal(err)
	}
	return api
}

// do sends one request and returns its status.
func (a *gatedAPI) do(method, target, token string) int {
	a.served = ""
	r := httptest.NewRequestWithContext(context.Background(), method, target, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w.Code
}

const canonicalID = "0198c0de-0000-7000-8000-000000000001"

func TestOneTokenServesEveryCallThatItsScopesAllow(t *testing.T) {
	t.Parallel()
	scopes := map[string][]string{
		"both": {"jobs:submit", "jobs:read"}, "read": {"jobs:read"}, "admin": {"jobs:admin"}, "other": {"openid"},
	}
	gate := &access.Gate{Policy: domain.DefaultPolicy(), Verifier: verifies(func(token string) (domain.Principal, error) {
		if scopes[token] == nil {
			return domain.Principal{}, domain.Errorf(domain.Unauthenticated, domain.ReasonInvalidToken, "no")
		}
		return domain.Principal{
			Identity: domain.Identity{Issuer: "https://issuer.example", Subject: token}, Scopes: scopes[token], TokenID: "t", ClientID: "c",
			Claims: map[string]string{"tenant": "acme"}, ExpiresAt: time.UnixMilli(1_900_000_000_000).UTC(),
		}, nil
	})}
	for _, kind := range []string{"TOKEN", "REQUEST"} {
		api := newGatedAPI(t, gate, domain.Routes, localgateway.Options{AuthorizerType: kind, TTL: localgateway.DefaultTTL, BasePath: "/v1"})
		for _, tt := range []struct {
			token, method, target string
			status, calls         int
		}{
			{"both", "POST", "/v1/jobs", 200, 1},
			{"both", "GET", "/v1/jobs/" + canonicalID, 200, 1},
			{"both", "POST", "/v1/jobs/" + canonicalID + "/cancel", 403, 1},
			{"read", "POST", "/v1/jobs", 403, 2},
			{"read", "GET", "/v1/jobs", 200, 2},
			{"admin", "POST", "/v1/jobs/" + canonicalID + "/redrive", 200, 3},
			{"other", "GET", "/v1/jobs", 403, 4},
			{"bad", "GET", "/v1/jobs", 401, 5},
			{"bad", "GET", "/v1/jobs", 401, 6}, // an error is not cached
		} {
			got := api.do(tt.method, tt.target, tt.token)
			if got != tt.status || api.authorizerCalls != tt.calls || (got == 200) != (api.served != "") {
				t.Errorf("%s: %s %s as %s: %d after %d calls, served by %q, want %d after %d",
					kind, tt.method, tt.target, tt.token, got, api.authorizerCalls, api.served, tt.status, tt.calls)
			}
			if got != 200 {
				continue
			}
			want, _ := gate.Enter(t.Context(), tt.token)
			if diff := cmp.Diff(want, api.caller); diff != "" || api.prefix != "/v1" {
				t.Errorf("%s: behind %q the caller is (-want +got):\n%s", kind, api.prefix, diff)
			}
		}
	}
}

var (
	someIssuers  = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"i1", "i2"}), rapid.ID)
	someSubjects = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"s1", "s2"}), rapid.ID)
	someScopes   = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 2, rapid.ID)
	someActions  = rapid.SliceOfNDistinct(rapid.SampledFrom(domain.Actions), 1, -1, rapid.ID)
	someJobs     = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"report.*", "x"}), 0, 1, rapid.ID)

	aRule = rapid.Custom(func(t *rapid.T) domain.Rule {
		r := domain.Rule{
			Effect:   rapid.SampledFrom([]domain.Effect{domain.Allow, domain.Allow, domain.Allow, domain.Deny}).Draw(t, "effect"),
			Subjects: someSubjects.Draw(t, "subjects"), Scopes: someScopes.Draw(t, "scopes"),
			Actions: someActions.Draw(t, "actions"), Jobs: someJobs.Draw(t, "jobs"),
		}
		if r.Issuers = someIssuers.Draw(t, "issuers"); len(r.Issuers) == 0 {
			r.Subjects = nil
		}
		return r
	})

	aPolicy = rapid.Custom(func(t *rapid.T) domain.AccessPolicy {
		return domain.AccessPolicy{Rules: rapid.SliceOfN(aRule, 1, 5).Draw(t, "rules")}
	})

	aPrincipal = rapid.Custom(func(t *rapid.T) domain.Principal {
		return domain.Principal{
			Identity: domain.Identity{Issuer: rapid.SampledFrom([]string{"i1", "i2"}).Draw(t, "issuer"), Subject: rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "subject")},
			Scopes:   rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.ID).Draw(t, "scopes"),
		}
	})

	aRoute = rapid.Custom(func(t *rapid.T) domain.Route {
		pattern := ""
		for i, s := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "{}", "{}"}), 1, 4).Draw(t, "segments") {
			if s == "{}" {
				s = fmt.Sprintf("{p%d}", i)
			}
			pattern += "/" + s
		}
		return domain.Route{
			Method: rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method"), Pattern: pattern, Action: rapid.SampledFrom(domain.Actions).Draw(t, "action"),
		}
	})

	// Routes that can be compiled: the rest is refused at start, which has tests of its own.
	someRoutes = rapid.Custom(func(t *rapid.T) []domain.Route {
		var routes []domain.Route
		for _, r := range rapid.SliceOfN(aRoute, 1, 8).Draw(t, "candidates") {
			if _, err := apigateway.NewCompiler(append(slices.Clone(routes), r)); err == nil {
				routes = append(routes, r)
			}
		}
		return routes
	})

	// A path as a hostile client spells it.
	aPath = rapid.Custom(func(t *rapid.T) string {
		segments := rapid.SliceOfN(rapid.SampledFrom([]string{
			"a", "b", "c", "a", "b", "c", "A", "", ".", "..", "*", "?", "%2F", "a%2Fb", "b%2fc", "%2E%2E", "%61", "a;b", ":", "%25", "%00", "%", canonicalID,
		}), 1, 6).Draw(t, "segments")
		return "/" + strings.Join(segments, "/")
	})
)

func canonical(r domain.Route) string {
	segments := strings.Split(r.Pattern, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[i] = canonicalID
		}
	}
	return strings.Join(segments, "/")
}

// For each route with canonical ids the compiled policy means what AccessPolicy says, and elsewhere it means nothing.
func TestTheCompiledPolicyMeansWhatThePolicySays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy, who, routes := aPolicy.Draw(t, "policy"), aPrincipal.Draw(t, "principal"), someRoutes.Draw(t, "routes")
		compiler, err := apigateway.NewCompiler(routes)
		if err != nil {
			t.Fatal(err)
		}
		at := apigateway.Deployment{Partition: "aws", Region: "eu-central-1", Account: "123456789012", API: "abcdef123", Stage: "prod"}
		document := compiler.Append(nil, at, func(a domain.Action) bool { return policy.AtGate(who, a).Allowed })
		compiled, err := localgateway.ParsePolicy(document)
		if err != nil {
			t.Fatal(err)
		}
		const api = "arn:aws:execute-api:eu-central-1:123456789012:abcdef123/prod/"
		for _, r := range routes {
			want := policy.AtGate(who, r.Action).Allowed
			path := r.Method + canonical(r)
			if got := compiled.Allows("execute-api:Invoke", api+path); got != want {
				t.Errorf("%s: IAM says %t, the policy %t, by %s", path, got, want, document)
			}
			for _, elsewhere := range []string{
				strings.Replace(api, "prod", "test", 1), strings.Replace(api, "abcdef123", "abcdef124", 1),
				strings.Replace(api, "123456789012", "210987654321", 1), strings.Replace(api, "eu-central-1", "us-east-1", 1),
				strings.Replace(api, "arn:aws:", "arn:aws-cn:", 1),
			} {
				if compiled.Allows("execute-api:Invoke", elsewhere+path) {
					t.Errorf("%s is allowed at %s", path, elsewhere)
				}
			}
		}
	})
}

// However a path is spelt, no handler runs for an action that the policy refuses, and with canonical ids every handler
// runs whose action it allows.
func TestNoSpellingOfAPathWidensThePolicy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy, who, routes := aPolicy.Draw(t, "policy"), aPrincipal.Draw(t, "principal"), someRoutes.Draw(t, "routes")
		gate := &access.Gate{Policy: policy, Verifier: verifies(func(string) (domain.Principal, error) { return who, nil })}
		api := newGatedAPI(t, gate, routes, localgateway.Options{TTL: localgateway.DefaultTTL})
		may := make(map[string]bool) // by pattern
		for _, r := range routes {
			may[r.Method+" "+r.Pattern] = policy.AtGate(who, r.Action).Allowed
		}
		for _, r := range routes {
			status, want := api.do(r.Method, canonical(r), "t"), http.StatusForbidden
			if may[r.Method+" "+r.Pattern] {
				want = http.StatusOK
			}
			if status != want || status == http.StatusOK && api.served != r.Method+" "+r.Pattern {
				t.Errorf("%s %s: %d by %q, want %d", r.Method, canonical(r), status, api.served, want)
			}
		}
		for range 20 {
			method, path := rapid.SampledFrom([]string{"GET", "POST", "HEAD", "get"}).Draw(t, "method"), aPath.Draw(t, "path")
			if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))); err != nil {
				continue // refused by net/http before a handler sees it
			}
			if api.do(method, path, "t"); api.served != "" && !may[api.served] {
				t.Errorf("%s %s was served by %s, which the policy refuses", method, path, api.served)
			}
		}
	})
}
