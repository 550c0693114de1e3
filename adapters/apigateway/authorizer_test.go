package apigateway_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/access"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	value := jsontext.Value(bytes.Clone(got))
	if err := value.Indent(); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, append(value, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(value)+"\n"); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Both are what a Lambda runtime takes as they are.
var _, _ lambda.Handler = (*apigateway.Authorizer)(nil), (*apigateway.Proxy)(nil)

type verifier func(ctx context.Context, token string) (domain.Principal, error)

func (v verifier) Verify(ctx context.Context, token string) (domain.Principal, error) {
	return v(ctx, token)
}

// verifies accepts the token "good" as who.
func verifies(who domain.Principal) verifier {
	return func(_ context.Context, token string) (domain.Principal, error) {
		if token != "good" {
			return domain.Principal{}, domain.Wrap(errors.New("library says "+token), domain.Unauthenticated, domain.ReasonInvalidSignature, "bad")
		}
		return who, nil
	}
}

var alice = domain.Principal{
	Identity: domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"},
	ClientID: "cli", Scopes: []string{"openid", "jobs:submit", "jobs:read"}, TokenID: "t-1",
	ExpiresAt: time.UnixMilli(1_800_000_000_250),
}

func newAuthorizer(t testing.TB, v verifier, policy domain.AccessPolicy) (*apigateway.Authorizer, *[]apigateway.Decision) {
	t.Helper()
	decisions := new([]apigateway.Decision)
	a, err := apigateway.NewAuthorizer(&access.Gate{Verifier: v, Policy: policy}, domain.Routes,
		func(_ context.Context, d apigateway.Decision) { *decisions = append(*decisions, d) })
	if err != nil {
		t.Fatal(err)
	}
	return a, decisions
}

func TestEveryKindOfAuthorizerEventGetsTheSameAnswer(t *testing.T) {
	t.Parallel()
	for name, requestID := range map[string]string{
		"authorizer-token.json":    "",
		"authorizer-request.json":  "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
		"authorizer-http-api.json": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
	} {
		a, decisions := newAuthorizer(t, verifies(alice), domain.DefaultPolicy())
		answer, err := a.Invoke(t.Context(), file(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d := (*decisions)[0]
		if len(d.ID) < 20 || d.RequestID != requestID || d.Reason != "" {
			t.Errorf("%s: decision %+v", name, d)
		}
		want := []apigateway.Refusal{
			{Action: domain.ActionCancel, Reason: domain.ReasonInsufficientScope},
			{Action: domain.ActionRedrive, Reason: domain.ReasonInsufficientScope},
		}
		if diff := cmp.Diff(want, d.Refused); diff != "" {
			t.Errorf("%s: refused (-want +got):\n%s", name, diff)
		}
		golden(t, "authorizer-answer.json", bytes.ReplaceAll(answer, []byte(d.ID), []byte("DECISION")))
	}
}

func token(header string) string {
	return `{"type":"TOKEN","authorizationToken":"` + header + `","methodArn":"` + deployed + `GET/jobs"}`
}

func TestAMissingOrInvalidTokenIsExactlyUnauthorized(t *testing.T) {
	t.Parallel()
	request := func(headers string) string {
		return `{"type":"REQUEST","methodArn":"` + deployed + `GET/jobs",` + headers + `,"requestContext":{"requestId":"r"}}`
	}
	for _, tt := range []struct {
		name, event string
		want        domain.Reason
	}{
		{"no header", token(""), domain.ReasonMissingToken},
		{"another scheme", token("Basic good"), domain.ReasonMissingToken},
		{"no token", token("Bearer "), domain.ReasonInvalidToken},
		{"a bad token", token("Bearer bad"), domain.ReasonInvalidSignature},
		{"two tokens", token("Bearer good or"), domain.ReasonInvalidToken},
		{"no headers at all", request(`"headers":null,"multiValueHeaders":null`), domain.ReasonMissingToken},
		{"other headers", request(`"headers":{"X-Authorization":"Bearer good"},"multiValueHeaders":{"X-Authorization":["Bearer good"]}`), domain.ReasonMissingToken},
		{"the header twice", request(`"multiValueHeaders":{"Authorization":["Bearer good","Bearer good"]}`), domain.ReasonInvalidToken},
		{"the header in two cases", request(`"headers":{"Authorization":"Bearer good","authorization":"Bearer good"}`), domain.ReasonInvalidToken},
		{"only in the single-value headers, beside others", request(`"headers":{"Authorization":"Bearer good"},"multiValueHeaders":{"A":["b"]}`), domain.ReasonMissingToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, decisions := newAuthorizer(t, verifies(alice), domain.DefaultPolicy())
			answer, err := a.Invoke(t.Context(), []byte(tt.event))
			if answer != nil || err == nil || err.Error() != "Unauthorized" {
				t.Errorf("got %s, %v", answer, err)
			}
			if d := (*decisions)[0]; len(*decisions) != 1 || d.Reason != tt.want || d.ID == "" {
				t.Errorf("decisions %+v, want one of %s", *decisions, tt.want)
			}
		})
	}
}

func TestASingleValueHeaderCountsWhereThereIsNoOther(t *testing.T) {
	t.Parallel()
	a, _ := newAuthorizer(t, verifies(alice), domain.DefaultPolicy())
	if _, err := a.Invoke(t.Context(), []byte(`{"type":"REQUEST","methodArn":"`+deployed+`GET/jobs","headers":{"AUTHORIZATION":"bearer good"}}`)); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeDecidedIsAnotherError(t *testing.T) {
	t.Parallel()
	unavailable := verifier(func(context.Context, string) (domain.Principal, error) {
		return domain.Principal{}, domain.Wrap(errors.New("dial tcp: secret"), domain.Unavailable, domain.ReasonKeysUnavailable, "keys")
	})
	broken := verifier(func(context.Context, string) (domain.Principal, error) {
		return domain.Principal{}, errors.New("secret")
	})
	good := verifies(alice)
	for _, tt := range []struct {
		name, event string
		verifier    verifier
		want        domain.Reason
	}{
		{"keys unavailable", token("Bearer good"), unavailable, domain.ReasonKeysUnavailable},
		{"an unclassified error", token("Bearer good"), broken, domain.ReasonInternal},
		{"no JSON", "{", good, domain.ReasonMalformed},
		{"no object", `"Bearer secret"`, good, domain.ReasonMalformed},
		{"another type", strings.Replace(token("Bearer good"), "TOKEN", "token", 1), good, domain.ReasonMalformed},
		{"no type", strings.Replace(token("Bearer good"), `"type":"TOKEN",`, "", 1), good, domain.ReasonMalformed},
		{"a member twice", strings.Replace(token("Bearer good"), `{`, `{"authorizationToken":"Bearer secret",`, 1), good, domain.ReasonMalformed},
		{"invalid UTF-8", token("Bearer \xff"), good, domain.ReasonMalformed},
		{"a wildcard stage", strings.Replace(token("Bearer good"), "/prod/", "/*/", 1), good, domain.ReasonMalformed},
		{"no ARN", `{"type":"TOKEN","authorizationToken":"Bearer good"}`, good, domain.ReasonMalformed},
		{"an unknown version", `{"type":"REQUEST","version":"3.0","headers":{"Authorization":"Bearer good"},"methodArn":"` + deployed + `GET/jobs"}`, good, domain.ReasonMalformed},
		{"2.0 with the ARN of 1.0", `{"type":"REQUEST","version":"2.0","headers":{"Authorization":"Bearer good"},"methodArn":"` + deployed + `GET/jobs"}`, good, domain.ReasonMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, decisions := newAuthorizer(t, tt.verifier, domain.DefaultPolicy())
			answer, err := a.Invoke(t.Context(), []byte(tt.event))
			if answer != nil || err == nil {
				t.Fatalf("got %s, %v", answer, err)
			}
			d := (*decisions)[0]
			if want := string(tt.want) + " (decision " + d.ID + ")"; err.Error() != want || d.Reason != tt.want {
				t.Errorf("got %q and %+v, want %q", err, d, want)
			}
		})
	}
}

func answerOf(t *testing.T, a *apigateway.Authorizer) events.APIGatewayCustomAuthorizerResponse {
	t.Helper()
	out, err := a.Invoke(t.Context(), []byte(token("Bearer good")))
	if err != nil {
		t.Fatal(err)
	}
	var answer events.APIGatewayCustomAuthorizerResponse
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestAVerifiedCallerWhoMayDoNothingIsDeniedEverything(t *testing.T) {
	t.Parallel()
	who := alice
	who.Scopes = []string{"openid"}
	a, decisions := newAuthorizer(t, verifies(who), domain.DefaultPolicy())
	answer := answerOf(t, a)
	if diff := cmp.Diff([]string{"Deny *"}, rendered(t, answer.PolicyDocument)); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	d := (*decisions)[0]
	if d.Reason != domain.ReasonForbidden || len(d.Refused) != 4 || answer.Context["decision_id"] != d.ID {
		t.Errorf("decision %+v, context %v", d, answer.Context)
	}
}

func TestARevokedSubjectIsUnauthorized(t *testing.T) {
	t.Parallel()
	policy := domain.DefaultPolicy()
	policy.Revoked = []domain.Revocation{{Subject: "alice"}}
	a, _ := newAuthorizer(t, verifies(alice), policy)
	if _, err := a.Invoke(t.Context(), []byte(token("Bearer good"))); !errors.Is(err, apigateway.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
}

func TestTheContextHoldsOnlyStringsAndOnlyScopesThatThePolicyNames(t *testing.T) {
	t.Parallel()
	who := alice
	who.Claims = map[string]string{"tenant": "acme"}
	who.ExpiresAt = time.Time{}
	who.ClientID = ""
	a, decisions := newAuthorizer(t, verifies(who), domain.DefaultPolicy())
	want := map[string]any{
		"subject": "alice", "issuer": "https://issuer.example/", "token_id": "t-1", "scopes": "jobs:submit jobs:read",
		"expires_at": "never", "claim_tenant": "acme",
	}
	got := answerOf(t, a).Context
	want["decision_id"] = (*decisions)[0].ID
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("context (-want +got):\n%s", diff)
	}
}

func TestAnAnswerOverTheBoundBecomesALoggedDeny(t *testing.T) {
	t.Parallel()
	who := alice
	who.Claims = map[string]string{"groups": strings.Repeat("g", 8000)}
	a, decisions := newAuthorizer(t, verifies(who), domain.DefaultPolicy())
	answer := answerOf(t, a)
	d := (*decisions)[0]
	if got := rendered(t, answer.PolicyDocument); !slices.Equal(got, []string{"Deny *"}) || answer.PrincipalID != d.ID {
		t.Errorf("got %v for %q", got, answer.PrincipalID)
	}
	if d.Reason != domain.ReasonTooLarge {
		t.Errorf("decision %+v", d)
	}
}

func TestNewAuthorizerNamesWhatCannotFit(t *testing.T) {
	t.Parallel()
	longScopes := func(n int) (scopes []string) {
		for i := range n {
			scopes = append(scopes, strings.Repeat("s", 1000)+string(rune('a'+i)))
		}
		return scopes
	}
	rules := domain.DefaultPolicy()
	rules.Rules = append(rules.Rules, domain.Rule{Effect: domain.Allow, Actions: domain.Actions, Scopes: longScopes(8)})
	var many []domain.Route
	for i := range 60 {
		many = append(many, domain.Route{Method: "GET", Pattern: "/r" + strings.Repeat("x", i), Action: domain.ActionRead})
	}
	for _, tt := range []struct {
		name   string
		policy domain.AccessPolicy
		routes []domain.Route
		want   string
	}{
		{"scopes", rules, domain.Routes, "rules[5]"},
		{"routes", domain.DefaultPolicy(), many, "route table"},
		{"one route", domain.DefaultPolicy(), []domain.Route{{Method: "GET", Pattern: "/" + strings.Repeat("x", 400), Action: domain.ActionRead}}, "of at most 512"},
		{"overlap", domain.DefaultPolicy(), []domain.Route{{Method: "GET", Pattern: "/a/{x}", Action: "read"}, {Method: "GET", Pattern: "/{y}/b", Action: "read"}}, "overlap"},
	} {
		_, err := apigateway.NewAuthorizer(&access.Gate{Policy: tt.policy}, tt.routes, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func FuzzAuthorizerEvent(f *testing.F) {
	for _, name := range []string{"authorizer-token.json", "authorizer-request.json", "authorizer-http-api.json"} {
		f.Add(file(f, name))
	}
	f.Add([]byte(token("Basic x")))
	f.Add([]byte(`{"type":"REQUEST","headers":{"authorization":"Bearer a"},"multiValueHeaders":null}`))
	a, err := apigateway.NewAuthorizer(&access.Gate{Verifier: verifies(alice), Policy: domain.DefaultPolicy()}, domain.Routes, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		answer, err := a.Invoke(t.Context(), event)
		if (answer == nil) == (err == nil) {
			t.Fatalf("got %s, %v", answer, err)
		}
		if err != nil {
			return
		}
		var out events.APIGatewayCustomAuthorizerResponse
		if err := json.Unmarshal(answer, &out); err != nil || out.PrincipalID != "alice" {
			t.Fatalf("got %s, %v", answer, err)
		}
		for _, s := range out.PolicyDocument.Statement {
			for _, r := range s.Resource {
				if strings.Count(r, "*") > 1 || strings.ContainsAny(r, "? ") || !strings.HasPrefix(r, "arn:aws") {
					t.Errorf("resource %q", r)
				}
			}
		}
	})
}
