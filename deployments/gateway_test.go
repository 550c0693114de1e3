package deployments_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/jobgate/jobgate/adapters/localgateway"
	"github.com/jobgate/jobgate/adapters/wire/problem"
	"github.com/jobgate/jobgate/domain"
)

// A route is a line of routes.json.
type route struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Public bool   `json:"public"`
}

func routes(t *testing.T) []route {
	t.Helper()
	var all []route
	decode(t, readFile(t, moduleDir, "routes.json"), &all)
	return all
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func TestRoutesAreThoseOfTheDomain(t *testing.T) {
	t.Parallel()
	var wanted []route
	depth := 0
	for _, r := range domain.Routes {
		wanted = append(wanted, route{r.Method, r.Pattern, r.Public})
		depth = max(depth, strings.Count(r.Pattern, "/"))
	}
	if diff := cmp.Diff(wanted, routes(t)); diff != "" {
		t.Errorf("routes.json (-domain.Routes +routes.json):\n%s", diff)
	}
	if resources := readConfiguration(t, moduleDir).each("resource", "aws_api_gateway_resource"); depth > len(resources) {
		t.Errorf("a route has %d segments, and there are resources for %d", depth, len(resources))
	}
}

// The settings of a method are kept by its path with ~1 for each slash.
func TestThrottlingOfARouteNamesItsMethod(t *testing.T) {
	t.Parallel()
	settings := readConfiguration(t, moduleDir).find("aws_api_gateway_method_settings.route").Body
	for _, tt := range []struct{ method, path, want string }{
		{"POST", "/jobs", "~1jobs/POST"}, {"POST", "/jobs/{id}/cancel", "~1jobs~1{id}~1cancel/POST"},
	} {
		key := cty.StringVal(tt.method + " " + tt.path)
		got, err := evaluate(attribute(settings, "method_path"), map[string]cty.Value{
			"each": cty.ObjectVal(map[string]cty.Value{"key": key}),
			"local": cty.ObjectVal(map[string]cty.Value{"routes": cty.ObjectVal(map[string]cty.Value{
				key.AsString(): cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal(tt.path), "method": cty.StringVal(tt.method)}),
			})}),
		})
		if err != nil || !got.RawEquals(cty.StringVal(tt.want)) {
			t.Errorf("%s %s: %#v, %v, want %s", tt.method, tt.path, got, err, tt.want)
		}
	}
}

// An answer is what the gateway answers itself.
type answer struct {
	Status  int
	Headers map[string]string
	Body    map[string]any
}

// gatewayResponses are those of gateway-responses.json, by type, with the headers that all of them have.
func gatewayResponses(t *testing.T) map[string]answer {
	t.Helper()
	var problems []struct {
		Types   []string          `json:"types"`
		Headers map[string]string `json:"headers"`
		Body    map[string]any    `json:"body"`
	}
	decode(t, readFile(t, moduleDir, "gateway-responses.json"), &problems)
	all := map[string]answer{}
	for _, p := range problems {
		for _, kind := range p.Types {
			if _, twice := all[kind]; twice {
				t.Errorf("%s is there twice", kind)
			}
			status, _ := p.Body["status"].(float64)
			all[kind] = answer{int(status), p.Headers, p.Body}
		}
	}
	return all
}

// common are the headers that responses.tf adds to every gateway response.
var common = map[string]string{"Content-Type": "application/problem+json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

// golden are the gateway responses that the local gateway gives, by the golden file of it.
var golden = map[string]string{
	"ACCESS_DENIED": "access-denied", "AUTHORIZER_CONFIGURATION_ERROR": "authorizer-failure", "AUTHORIZER_FAILURE": "authorizer-failure",
	"BAD_REQUEST_BODY": "bad-request", "BAD_REQUEST_PARAMETERS": "bad-request", "DEFAULT_4XX": "bad-request",
	"INTEGRATION_FAILURE": "integration-failure", "MISSING_AUTHENTICATION_TOKEN": "not-found", "RESOURCE_NOT_FOUND": "not-found",
	"REQUEST_TOO_LARGE": "request-too-large", "UNAUTHORIZED": "unauthorized",
	// What looks like a signature of AWS's is refused as one only where no route is: none of ours takes them.
	"EXPIRED_TOKEN": "not-found", "INVALID_SIGNATURE": "not-found",
}

// others are those that it does not give.
var others = map[string]struct {
	err    error
	status int
}{
	"API_CONFIGURATION_ERROR": {errors.New("x"), 500},
	"DEFAULT_5XX":             {errors.New("x"), 500},
	"INTEGRATION_TIMEOUT":     {errors.New("x"), 504},
	"QUOTA_EXCEEDED":          {domain.Errorf(domain.Throttled, domain.ReasonThrottled, ""), 429},
	"THROTTLED":               {domain.Errorf(domain.Throttled, domain.ReasonThrottled, ""), 429},
	"WAF_FILTERED":            {domain.Errorf(domain.Forbidden, domain.ReasonForbidden, ""), 403},
}

func TestGatewayResponsesAreThoseOfTheLocalGateway(t *testing.T) {
	t.Parallel()
	const requestID = "$context.requestId"
	got := gatewayResponses(t)
	for kind, file := range golden {
		text := string(readFile(t, "..", "adapters", "localgateway", "testdata", "response-"+file+".txt"))
		text = strings.NewReplacer(`"REQUEST"`, strconv.Quote(requestID), `"D-1"`, `"$context.authorizer.decision_id"`).Replace(text)
		compare(t, kind, got[kind], parseGolden(t, text))
		delete(got, kind)
	}
	for kind, tt := range others {
		p := problem.From(tt.err, requestID)
		p.Status = tt.status
		wanted := answer{Status: p.Status, Headers: map[string]string{}}
		for name := range p.Header() {
			wanted.Headers[http.CanonicalHeaderKey(name)] = p.Header().Get(name)
		}
		decode(t, p.Marshal(), &wanted.Body)
		compare(t, kind, got[kind], wanted)
		delete(got, kind)
	}
	for kind := range got {
		t.Errorf("nobody says what %s has to be", kind)
	}
}

// compare compares a gateway response, with the headers that all have, with what it has to be. The headers of AWS's own
// ids and of CORS are apart.
func compare(t *testing.T, kind string, got, wanted answer) {
	t.Helper()
	headers := map[string]string{}
	for name, value := range got.Headers {
		headers[http.CanonicalHeaderKey(name)] = value
	}
	maps.Copy(headers, common)
	got.Headers = headers
	maps.DeleteFunc(wanted.Headers, func(name, _ string) bool {
		return strings.HasPrefix(name, "X-Am") || strings.HasPrefix(name, "Access-Control-")
	})
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", kind, diff)
	}
}

func parseGolden(t *testing.T, text string) answer {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	status, err := strconv.Atoi(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	a := answer{Status: status, Headers: map[string]string{}}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		a.Headers[name] = value
	}
	decode(t, []byte(body), &a.Body)
	return a
}

// A template substitutes what it finds in $context and nothing else: what a caller sent could break out of the JSON.
func TestGatewayResponsesHaveConstantsAndIdsAlone(t *testing.T) {
	t.Parallel()
	want(t, checkTemplates(string(readFile(t, moduleDir, "gateway-responses.json"))))
	want(t, checkTemplates(`"$context.error.messageString" "$context.requestId" "$input.body"`), "$context.error.messageString", "$input.body")
}

func checkTemplates(text string) (found []string) {
	for _, v := range regexp.MustCompile(`\$[A-Za-z][A-Za-z._]*`).FindAllString(text, -1) {
		if v != "$context.requestId" && v != "$context.authorizer.decision_id" {
			found = append(found, v)
		}
	}
	return found
}

// What the locals come to is for Terraform to say: they are taken out of the module, with the variables.
func TestPreflightsAndCORSAreThoseOfTheLocalGateway(t *testing.T) {
	t.Parallel()
	needTerraform(t)
	for name, origins := range map[string][]string{"none": nil, "one": {"https://app.example"}, "several": {"https://a.example", "https://b.example"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got struct {
				Preflights map[string]map[string]string
				Responses  map[string]struct {
					Body    map[string]any    `json:"body"`
					Headers map[string]string `json:"headers"`
				}
			}
			evaluateLocals(t, map[string]any{"cors_origins": origins}, map[string]any{"preflights": &got.Preflights, "gateway_responses": &got.Responses})
			origin := ""
			switch len(origins) {
			case 0:
			case 1:
				origin = origins[0]
			default:
				origin = "*"
			}
			none := func(context.Context, []byte) ([]byte, error) { return nil, errors.New("not called") }
			gateway, err := localgateway.New(localgateway.Options{Authorizer: none, Integration: none, Routes: domain.Routes, CORSOrigin: origin})
			if err != nil {
				t.Fatal(err)
			}
			cors := func(method, path string) map[string]string {
				w := httptest.NewRecorder()
				gateway.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
				headers := map[string]string{}
				for name := range w.Header() {
					if strings.HasPrefix(name, "Access-Control-") {
						headers[name] = w.Header().Get(name)
					}
				}
				return headers
			}
			wanted := map[string]map[string]string{}
			for _, r := range domain.Routes {
				if origin != "" {
					wanted[strings.TrimPrefix(r.Pattern, "/")] = cors(http.MethodOptions, strings.ReplaceAll(r.Pattern, "{id}", "7"))
				}
			}
			if diff := cmp.Diff(wanted, got.Preflights); diff != "" {
				t.Errorf("preflights (-local gateway +module):\n%s", diff)
			}
			absent := cors(http.MethodGet, "/absent")
			maps.Copy(absent, common)
			response := got.Responses["MISSING_AUTHENTICATION_TOKEN"]
			if diff := cmp.Diff(absent, response.Headers); diff != "" {
				t.Errorf("headers of a gateway response (-local gateway +module):\n%s", diff)
			}
			if len(got.Responses) != len(golden)+len(others) {
				t.Errorf("%d gateway responses, want %d", len(got.Responses), len(golden)+len(others))
			}
		})
	}
}

func TestIdentityValidationIsThatOfTheLocalGateway(t *testing.T) {
	t.Parallel()
	parsed, err := parser.ParseFile(token.NewFileSet(), "../bootstrap/local/local.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var local string
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == "bearer" {
			local, _ = strconv.Unquote(spec.Values[0].(*ast.CallExpr).Args[0].(*ast.BasicLit).Value)
		}
		return true
	})
	if local == "" {
		t.Fatal("bootstrap/local has no expression for bearer tokens")
	}
	c := readConfiguration(t, moduleDir)
	var module string
	_ = hclsyntax.VisitAll(c.locals()["authorizer"], func(n hclsyntax.Node) hcl.Diagnostics {
		if e, ok := n.(*hclsyntax.TemplateExpr); ok {
			if v, err := literal(e); err == nil && strings.Contains(v, "^") {
				module = v
			}
		}
		return nil
	})
	if !strings.HasPrefix(module, "^") || !strings.HasSuffix(module, "$") {
		t.Fatalf("%q is not anchored", module)
	}
	for _, header := range []string{
		"Bearer a.b.c", "bearer a.b.c", "BEARER   a", "Bearer AZaz09-._~+/==", "Bearer", "Bearer ", "Bearera", "Basic a", "Bearer a b", "xBearer a",
		"Bearer a,b", "Bearer ä", "Bearer a\n", "Bearer\ta", "",
	} {
		ours, theirs := regexp.MustCompile(module).MatchString(header), regexp.MustCompile(local).MatchString(header)
		if ours != theirs {
			t.Errorf("%q: the module says %t, the local gateway %t", header, ours, theirs)
		}
	}
}

func TestAccessLogHoldsNothingOfARequestButItsMethodAndAddress(t *testing.T) {
	t.Parallel()
	c := readConfiguration(t, moduleDir)
	allowed := []string{
		"requestId", "extendedRequestId", "requestTime", "identity.sourceIp", "httpMethod", "resourcePath", "status", "error.responseType", "error.message",
		"responseLength", "responseLatency", "authorizer.status", "authorizer.error", "authorizer.latency", "authorizer.requestId", "authorizer.decision_id",
		"integration.status", "integration.error", "integration.latency", "integration.requestId",
	}
	text := c.text(c.locals()["access_log_format"])
	found := regexp.MustCompile(`\$context\.([A-Za-z._]+)`).FindAllStringSubmatch(text, -1)
	for _, v := range found {
		if !slices.Contains(allowed, v[1]) {
			t.Errorf("the access log has %s", v[0])
		}
	}
	if len(found) != len(allowed) {
		t.Errorf("the access log has %d variables, want %d", len(found), len(allowed))
	}
	// What the alarm on the authorizer's faults looks for.
	filter := c.find("aws_cloudwatch_log_metric_filter.authorizer_faults")
	if pattern, err := literal(attribute(filter.Body, "pattern")); err != nil || !strings.Contains(pattern, "$.response_type ") || !strings.Contains(text, "response_type ") {
		t.Errorf("the filter %q finds nothing in the access log", pattern)
	}
}
