package apigateway_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/domain"
)

var deployment = apigateway.Deployment{Partition: "aws", Region: "eu-central-1", Account: "123456789012", API: "abcdef123", Stage: "prod"}

const deployed = "arn:aws:execute-api:eu-central-1:123456789012:abcdef123/prod/"

// rendered is a document as "effect METHOD/path" lines.
func rendered(t *testing.T, doc events.APIGatewayCustomAuthorizerPolicy) (lines []string) {
	t.Helper()
	if doc.Version != "2012-10-17" {
		t.Errorf("version %q", doc.Version)
	}
	for _, s := range doc.Statement {
		if !slices.Equal(s.Action, []string{"execute-api:Invoke"}) {
			t.Errorf("action %q", s.Action)
		}
		for _, r := range s.Resource {
			path, ok := strings.CutPrefix(r, deployed)
			if !ok {
				t.Errorf("resource %q is outside the deployment", r)
			}
			lines = append(lines, s.Effect+" "+path)
		}
	}
	return lines
}

func TestCompileCoversTheWholeRouteTable(t *testing.T) {
	t.Parallel()
	nested := []domain.Route{
		{Method: "GET", Pattern: "/jobs/{id}", Action: domain.ActionRead},
		{Method: "GET", Pattern: "/jobs/{id}/audit", Action: domain.ActionRedrive},
		{Method: "GET", Pattern: "/open", Public: true},
	}
	for _, tt := range []struct {
		name   string
		routes []domain.Route
		may    []domain.Action
		want   []string
	}{
		{"everything", domain.Routes, domain.Actions, []string{
			"Allow POST/jobs", "Allow GET/jobs", "Allow GET/jobs/*", "Allow POST/jobs/*/cancel", "Allow POST/jobs/*/redrive"}},
		{"read only", domain.Routes, []domain.Action{domain.ActionRead}, []string{"Allow GET/jobs", "Allow GET/jobs/*"}},
		{"submit only", domain.Routes, []domain.Action{domain.ActionSubmit}, []string{"Allow POST/jobs"}},
		{"nothing is denied explicitly", domain.Routes, nil, []string{"Deny *"}},
		{"a refused route inside an allowed one is denied", nested, []domain.Action{domain.ActionRead},
			[]string{"Allow GET/jobs/*", "Deny GET/jobs/*/audit"}},
		{"an allowed route inside a refused one stands alone", nested, []domain.Action{domain.ActionRedrive},
			[]string{"Allow GET/jobs/*/audit"}},
		{"public routes are not in the policy", nested, []domain.Action{domain.ActionRead, domain.ActionRedrive},
			[]string{"Allow GET/jobs/*", "Allow GET/jobs/*/audit"}},
		{"no route at all", nil, domain.Actions, []string{"Deny *"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := apigateway.NewCompiler(tt.routes)
			if err != nil {
				t.Fatal(err)
			}
			before := []byte(`{"policyDocument":`)
			text, ok := bytes.CutPrefix(c.Append(before, deployment, func(a domain.Action) bool { return slices.Contains(tt.may, a) }), before)
			var doc events.APIGatewayCustomAuthorizerPolicy
			if err := json.Unmarshal(text, &doc, json.RejectUnknownMembers(true)); err != nil || !ok {
				t.Fatalf("%v in %s", err, text)
			}
			if diff := cmp.Diff(tt.want, rendered(t, doc)); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewCompilerRefusesTablesThatIAMCannotExpress(t *testing.T) {
	t.Parallel()
	get := func(pattern string, action domain.Action) domain.Route {
		return domain.Route{Method: "GET", Pattern: pattern, Action: action}
	}
	for _, tt := range []struct {
		name   string
		routes []domain.Route
		want   string
	}{
		{"overlap", []domain.Route{get("/a/{x}", "read"), get("/{y}/b", "submit")}, "neither lies inside"},
		{"overlap only because * crosses slashes", []domain.Route{get("/a/{x}/b", "read"), get("/a/b/{y}/c/{z}", "submit")}, "neither lies inside"},
		{"same", []domain.Route{get("/a/{x}", "read"), get("/a/{y}", "submit")}, "are the same"},
		{"chain", []domain.Route{get("/a/{x}", "read"), get("/a/{x}/{y}", "submit"), get("/a/{x}/b", "cancel")}, "refusing the middle one"},
		{"greedy parameter", []domain.Route{get("/a/{x...}", "read")}, "plain segment"},
		{"end anchor", []domain.Route{get("/a/{$}", "read")}, "plain segment"},
		{"wildcard in a literal", []domain.Route{get("/a*", "read")}, "plain segment"},
		{"policy variable in a literal", []domain.Route{get("/${x}", "read")}, "plain segment"},
		{"escape in a literal", []domain.Route{get("/a%2Fb", "read")}, "plain segment"},
		{"dot segment", []domain.Route{get("/a/..", "read")}, "plain segment"},
		{"empty segment", []domain.Route{get("/a//b", "read")}, "plain segment"},
		{"relative", []domain.Route{get("a", "read")}, "path from the root"},
		{"wildcard verb", []domain.Route{{Method: "*", Pattern: "/a", Action: "read"}}, "needs a verb"},
		{"no action", []domain.Route{get("/a", "")}, "an action"},
	} {
		_, err := apigateway.NewCompiler(tt.routes)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestNewCompilerTakesRoutesThatOnlyLookAlike(t *testing.T) {
	t.Parallel()
	for name, routes := range map[string][]domain.Route{
		"other verb":      {{Method: "GET", Pattern: "/a/{x}", Action: "read"}, {Method: "POST", Pattern: "/{y}/b", Action: "submit"}},
		"other suffix":    {{Method: "GET", Pattern: "/a/{x}/b", Action: "read"}, {Method: "GET", Pattern: "/a/{x}/c", Action: "submit"}},
		"other length":    {{Method: "GET", Pattern: "/a", Action: "read"}, {Method: "GET", Pattern: "/a/{x}", Action: "submit"}},
		"chain of two":    {{Method: "GET", Pattern: "/a/{x}", Action: "read"}, {Method: "GET", Pattern: "/a/{x}/{y}", Action: "read"}, {Method: "GET", Pattern: "/a/{x}/b", Action: "cancel"}},
		"root":            {{Method: "GET", Pattern: "/", Action: "read"}},
		"the route table": domain.Routes,
	} {
		if _, err := apigateway.NewCompiler(routes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
