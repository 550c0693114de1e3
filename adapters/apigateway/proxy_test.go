package apigateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/domain"
)

// edited returns the event of a golden file with one member set to a JSON value.
func edited(t testing.TB, name string, pointer ...string) []byte {
	t.Helper()
	var event map[string]any
	if err := json.Unmarshal(file(t, name), &event); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pointer); i += 2 {
		object, path := event, strings.Split(pointer[i], "/")
		for _, member := range path[:len(path)-1] {
			object = object[member].(map[string]any)
		}
		object[path[len(path)-1]] = jsontext.Value(pointer[i+1])
	}
	b, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seen is what a handler was given.
type seen struct {
	Method, URI, Path, ID, Host, Remote, Body, RequestID, Prefix, Decision string
	Length                                                                 int64
	Header                                                                 http.Header
	Query                                                                  map[string][]string
	Principal                                                              domain.Principal
	Reason                                                                 domain.Reason
}

// observer routes as the REST API does and keeps what it sees.
func observer(t testing.TB) (http.Handler, *seen) {
	t.Helper()
	var s seen
	mux := http.NewServeMux()
	handle := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		who, err := apigateway.Principal(r)
		s = seen{
			Method: r.Method, URI: r.RequestURI, Path: r.URL.Path, ID: r.PathValue("id"), Host: r.Host, Remote: r.RemoteAddr, Body: string(body),
			RequestID: apigateway.RequestID(r), Prefix: apigateway.Prefix(r), Decision: apigateway.DecisionID(r),
			Length: r.ContentLength, Header: r.Header, Query: r.URL.Query(), Principal: who,
		}
		if err != nil {
			s.Reason = domain.ReasonOf(err)
			if domain.KindOf(err) != domain.Unauthenticated {
				t.Errorf("principal: %v", err)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Add("X-Twice", "a")
		w.Header().Add("X-Twice", "b")
		w.Header().Set("Content-Length", "12")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"ü"}`)
	}
	for _, r := range domain.Routes {
		mux.HandleFunc(r.Method+" "+r.Pattern, handle)
	}
	return mux, &s
}

func TestARequestIsRebuiltFromRouteAndParameters(t *testing.T) {
	t.Parallel()
	who := alice
	who.Scopes = []string{"jobs:submit", "jobs:read"}
	who.ExpiresAt = alice.ExpiresAt.UTC()
	who.Claims = map[string]string{"tenant": "acme"}
	const path = "/jobs/0198c0de-0000-7000-8000-000000000001/cancel"
	base := seen{
		Method: "POST", Path: path, ID: "0198c0de-0000-7000-8000-000000000001",
		Host: "api.example.com", Remote: "203.0.113.7:0", Body: `{"why":"é"}`, Length: 12, Prefix: "/v1",
		RequestID: "c6af9ac6-7b61-11e6-9a41-93e8deadbeef", Decision: "DECISION", Principal: who,
		Query: map[string][]string{"parameter1": {"value1", "value2"}, "parameter2": {"a b&c"}},
		URI:   path + "?parameter1=value1&parameter1=value2&parameter2=a+b%26c",
	}
	for name, header := range map[string]http.Header{
		"proxy-rest.json": {
			"Content-Type": {"application/json"}, "X-Forwarded-For": {"203.0.113.7, 198.51.100.2"}, "Header2": {"value1", "value2"}},
		"proxy-http-api.json": {
			"Content-Type": {"application/json"}, "X-Forwarded-For": {"203.0.113.7, 198.51.100.2"}, "Header2": {"value1,value2"},
			"Cookie": {"cookie1=a; cookie2=b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := base
			want.Header = header
			handler, got := observer(t)
			answer, err := apigateway.NewProxy(handler, nil).Invoke(t.Context(), file(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, *got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			golden(t, strings.Replace(name, ".json", "-answer.json", 1), answer)
		})
	}
}

func invoke(t *testing.T, p *apigateway.Proxy, event []byte) (r events.APIGatewayProxyResponse) {
	t.Helper()
	out, err := p.Invoke(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return r
}

// Whatever was sent, a handler sees one clean segment where the route has a parameter, or is not called at all.
func TestPathOdditiesReachNoOtherRoute(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, id string // as API Gateway decoded it
		want     int
	}{
		{"plain", `"a"`, 201},
		{"asterisk", `"*"`, 201},
		{"question mark", `"?x=y"`, 201},
		{"escaped again", `"a%2Fredrive"`, 201},
		{"percent", `"%"`, 201},
		{"unicode", `"ü"`, 201},
		{"fragment", `"#"`, 201},
		{"semicolon", `";a=b"`, 201},
		{"slash", `"a/redrive"`, 404},
		{"climbing", `"../x"`, 404},
		{"backslash", `"a\\b"`, 404},
		{"dot", `"."`, 404},
		{"dots", `".."`, 404},
		{"empty", `""`, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var id string
			if err := json.Unmarshal([]byte(tt.id), &id); err != nil {
				t.Fatal(err)
			}
			handler, got := observer(t)
			r := invoke(t, apigateway.NewProxy(handler, nil), edited(t, "proxy-rest.json", "pathParameters/id", tt.id))
			if r.StatusCode != tt.want {
				t.Errorf("status %d, want %d: %s", r.StatusCode, tt.want, r.Body)
			}
			if want := map[bool]string{true: id}[tt.want == 201]; got.ID != want {
				t.Errorf("the handler saw %q, want %q", got.ID, want)
			}
		})
	}
}

func TestThePathAsSentDecidesNothing(t *testing.T) {
	t.Parallel()
	for name, event := range map[string][]byte{
		"path":           edited(t, "proxy-rest.json", "path", `"/jobs/x/redrive"`, "requestContext/path", `"/jobs/x/redrive"`),
		"HTTP API's":     edited(t, "proxy-http-api.json", "rawPath", `"/jobs/x/redrive"`, "requestContext/http/path", `"/jobs/x/redrive"`),
		"resource path":  edited(t, "proxy-rest.json", "requestContext/resourcePath", `"/jobs/{id}/redrive"`),
		"other versions": edited(t, "proxy-rest.json", "version", `"1.0"`, "routeKey", `"POST /jobs/{id}/redrive"`),
	} {
		handler, got := observer(t)
		if r := invoke(t, apigateway.NewProxy(handler, nil), event); r.StatusCode != http.StatusCreated || got.Path != "/jobs/0198c0de-0000-7000-8000-000000000001/cancel" {
			t.Errorf("%s: %d at %q", name, r.StatusCode, got.Path)
		}
	}
}

func TestWhatIsNoRouteIsNotFound(t *testing.T) {
	t.Parallel()
	for name, event := range map[string][]byte{
		"greedy resource":   edited(t, "proxy-rest.json", "resource", `"/{proxy+}"`, "pathParameters/proxy", `"jobs"`),
		"missing parameter": edited(t, "proxy-rest.json", "pathParameters", `null`),
		"no resource":       edited(t, "proxy-rest.json", "resource", `""`),
		"unknown resource":  edited(t, "proxy-rest.json", "resource", `"/elsewhere"`),
		"$default":          edited(t, "proxy-http-api.json", "routeKey", `"$default"`),
	} {
		handler, got := observer(t)
		if r := invoke(t, apigateway.NewProxy(handler, nil), event); r.StatusCode != http.StatusNotFound || got.Method != "" {
			t.Errorf("%s: %d, handler saw %q", name, r.StatusCode, got.Path)
		}
	}
}

func TestPrefixIsWhatStandsBeforeTheRoute(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]string{
		"/jobs/x/cancel":                  "",
		"/prod/jobs/x/cancel":             "/prod",
		"/prod/jobs/x/cancel/":            "/prod",
		"/api/v1.2/jobs/x/cancel":         "/api/v1.2",
		"/prod/jobs/a%2Fb/cancel":         "/prod",
		"//evil.example/jobs/x/cancel":    "",
		"/\\\\evil.example/jobs/x/cancel": "",
		"/%2F/jobs/x/cancel":              "",
		"/../jobs/x/cancel":               "",
		"/{x}/jobs/x/cancel":              "",
		"evil.example/jobs/x/cancel":      "",
		"/cancel":                         "",
		"":                                "",
	} {
		handler, got := observer(t)
		invoke(t, apigateway.NewProxy(handler, nil), edited(t, "proxy-rest.json", "requestContext/path", `"`+sent+`"`))
		if got.Prefix != want {
			t.Errorf("%q: got %q, want %q", sent, got.Prefix, want)
		}
	}
}

func TestAnAbsentOrMalformedContextIsUnauthenticated(t *testing.T) {
	t.Parallel()
	const at = "requestContext/authorizer"
	for _, tt := range []struct {
		name  string
		event []byte
		want  domain.Reason
	}{
		{"null", edited(t, "proxy-rest.json", at, `null`), domain.ReasonMissingToken},
		{"HTTP API without one", edited(t, "proxy-http-api.json", at, `null`), domain.ReasonMissingToken},
		{"HTTP API with a JWT authorizer", edited(t, "proxy-http-api.json", at, `{"jwt":{"claims":{"sub":"alice"}}}`), domain.ReasonMissingToken},
		{"HTTP API, not nested", edited(t, "proxy-http-api.json", at, `{"subject":"alice","expires_at":"never"}`), domain.ReasonMissingToken},
		{"no object", edited(t, "proxy-rest.json", at, `"alice"`), domain.ReasonInvalidToken},
		{"HTTP API, no object", edited(t, "proxy-http-api.json", at, `[]`), domain.ReasonInvalidToken},
		{"HTTP API, no object inside", edited(t, "proxy-http-api.json", at+"/lambda", `1`), domain.ReasonInvalidToken},
		{"empty", edited(t, "proxy-rest.json", at, `{}`), domain.ReasonInvalidToken},
		{"only a principal id", edited(t, "proxy-rest.json", at, `{"principalId":"alice"}`), domain.ReasonInvalidToken},
		{"empty subject", edited(t, "proxy-rest.json", at+"/subject", `""`), domain.ReasonInvalidToken},
		{"subject no string", edited(t, "proxy-rest.json", at+"/subject", `1`), domain.ReasonInvalidToken},
		{"issuer no string", edited(t, "proxy-rest.json", at+"/issuer", `null`), domain.ReasonInvalidToken},
		{"scopes a list", edited(t, "proxy-rest.json", at+"/scopes", `["jobs:admin"]`), domain.ReasonInvalidToken},
		{"kept claim an object", edited(t, "proxy-rest.json", at+"/claim_tenant", `{}`), domain.ReasonInvalidToken},
		{"no expiry", edited(t, "proxy-rest.json", at, `{"subject":"alice"}`), domain.ReasonInvalidToken},
		{"expiry a number", edited(t, "proxy-rest.json", at+"/expires_at", `1800000000250`), domain.ReasonInvalidToken},
		{"expiry no number", edited(t, "proxy-rest.json", at+"/expires_at", `"soon"`), domain.ReasonInvalidToken},
		{"expiry empty", edited(t, "proxy-rest.json", at+"/expires_at", `""`), domain.ReasonInvalidToken},
		{"expiry out of range", edited(t, "proxy-rest.json", at+"/expires_at", `"99999999999999999999"`), domain.ReasonInvalidToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			handler, got := observer(t)
			invoke(t, apigateway.NewProxy(handler, nil), tt.event)
			if got.Reason != tt.want || !cmp.Equal(got.Principal, domain.Principal{}) {
				t.Errorf("got %s and %+v, want %s", got.Reason, got.Principal, tt.want)
			}
		})
	}
}

func TestARequestFromElsewhereHasNoPrincipal(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/jobs", nil)
	if _, err := apigateway.Principal(r); domain.ReasonOf(err) != domain.ReasonMissingToken {
		t.Errorf("got %v", err)
	}
	if apigateway.RequestID(r)+apigateway.Prefix(r)+apigateway.DecisionID(r) != "" {
		t.Error("something is known of a request that came through no proxy")
	}
}

func TestMalformedProxyEventsAreErrors(t *testing.T) {
	t.Parallel()
	for name, event := range map[string][]byte{
		"no JSON":         []byte("{"),
		"no object":       []byte(`[]`),
		"unknown version": edited(t, "proxy-rest.json", "version", `"3.0"`),
		"no method":       edited(t, "proxy-rest.json", "httpMethod", `"GET /"`),
		"bad base64":      edited(t, "proxy-rest.json", "isBase64Encoded", `true`),
		"body an object":  edited(t, "proxy-rest.json", "body", `{}`),
	} {
		handler, got := observer(t)
		answer, err := apigateway.NewProxy(handler, nil).Invoke(t.Context(), event)
		if domain.KindOf(err) != domain.Invalid || answer != nil || got.Method != "" {
			t.Errorf("%s: got %s, %v", name, answer, err)
		}
	}
}

func TestResponses(t *testing.T) {
	t.Parallel()
	ignoreHeaders := cmpopts.IgnoreFields(events.APIGatewayProxyResponse{}, "Headers", "MultiValueHeaders")
	for _, tt := range []struct {
		name    string
		method  string
		handler http.HandlerFunc
		want    events.APIGatewayProxyResponse
	}{
		{"nothing written is 200", "GET", func(http.ResponseWriter, *http.Request) {}, events.APIGatewayProxyResponse{StatusCode: 200}},
		{"written without a status", "GET", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a") },
			events.APIGatewayProxyResponse{StatusCode: 200, Body: "a"}},
		{"the first status counts", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusConflict)
			w.WriteHeader(http.StatusOK)
		}, events.APIGatewayProxyResponse{StatusCode: 409}},
		{"bytes that are no text travel as base64", "GET", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte{0xff, 0}) },
			events.APIGatewayProxyResponse{StatusCode: 200, Body: "/wA=", IsBase64Encoded: true}},
		{"so does what is encoded", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "a")
		}, events.APIGatewayProxyResponse{StatusCode: 200, Body: "YQ==", IsBase64Encoded: true}},
		{"HEAD has no body", "HEAD", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a") },
			events.APIGatewayProxyResponse{StatusCode: 200}},
		{"204 has no body", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.WriteString(w, "a"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}, events.APIGatewayProxyResponse{StatusCode: 204}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := invoke(t, apigateway.NewProxy(tt.handler, nil), edited(t, "proxy-rest.json", "httpMethod", `"`+tt.method+`"`))
			if diff := cmp.Diff(tt.want, r, ignoreHeaders); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHeadersAreFrozenWithTheStatusAndCookiesStayApart(t *testing.T) {
	t.Parallel()
	p := apigateway.NewProxy(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header()["X"] = []string{"1", "2"}
		w.WriteHeader(http.StatusOK)
		w.Header().Set("Late", "x")
	}), nil)
	rest := invoke(t, p, file(t, "proxy-rest.json"))
	if diff := cmp.Diff(map[string][]string{"Set-Cookie": {"a=1", "b=2"}, "X": {"1", "2"}}, rest.MultiValueHeaders); diff != "" {
		t.Errorf("REST (-want +got):\n%s", diff)
	}
	out, err := p.Invoke(t.Context(), file(t, "proxy-http-api.json"))
	if err != nil {
		t.Fatal(err)
	}
	var two events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(out, &two); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"X": "1, 2"}, two.Headers); diff != "" || !cmp.Equal(two.Cookies, []string{"a=1", "b=2"}) {
		t.Errorf("HTTP API: cookies %v, headers (-want +got):\n%s", two.Cookies, diff)
	}
}

func TestAFaultyHandlerIsAn500ThatSaysNothing(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 1<<20)
	for name, handler := range map[string]http.HandlerFunc{
		"panic":               func(http.ResponseWriter, *http.Request) { panic("secret") },
		"panic after writing": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret"); panic("secret") },
		"too large": func(w http.ResponseWriter, _ *http.Request) {
			for range 7 {
				_, _ = io.WriteString(w, large)
			}
		},
		"too large once encoded": func(w http.ResponseWriter, _ *http.Request) {
			for range 5 {
				_, _ = w.Write([]byte(strings.Repeat("\xff", 1<<20)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reported []error
			p := apigateway.NewProxy(handler, func(_ context.Context, err error) { reported = append(reported, err) })
			r := invoke(t, p, file(t, "proxy-rest.json"))
			if r.StatusCode != http.StatusInternalServerError || strings.Contains(r.Body, "secret") || !strings.Contains(r.Body, "c6af9ac6-7b61-11e6-9a41-93e8deadbeef") {
				t.Errorf("got %d: %s", r.StatusCode, r.Body)
			}
			if len(reported) != 1 {
				t.Errorf("reported %v", reported)
			}
		})
	}
}

var plainPrefix = regexp.MustCompile(`^(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)

func FuzzProxyEvent(f *testing.F) {
	f.Add(file(f, "proxy-rest.json"))
	f.Add(file(f, "proxy-http-api.json"))
	f.Add(edited(f, "proxy-rest.json", "pathParameters/id", `"a/../b"`))
	f.Add([]byte(`{"resource":"/jobs/{id}","httpMethod":"GET","pathParameters":{"id":"%2e%2e"},"requestContext":{"path":"//x/jobs/y"}}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		p := apigateway.NewProxy(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			var e struct {
				Resource string `json:"resource"`
				RouteKey string `json:"routeKey"`
				Version  string `json:"version"`
			}
			if err := json.Unmarshal(event, &e); err != nil {
				t.Fatal(err)
			}
			resource := e.Resource
			if e.Version == "2.0" {
				_, resource, _ = strings.Cut(e.RouteKey, " ")
			}
			if path := r.URL.EscapedPath(); strings.Count(path, "/") != strings.Count(resource, "/") {
				t.Errorf("resource %q became %q", resource, path)
			}
			if prefix := apigateway.Prefix(r); !plainPrefix.MatchString(prefix) {
				t.Errorf("prefix %q", prefix)
			}
			if who, err := apigateway.Principal(r); err == nil && who.Subject == "" {
				t.Error("a principal without a subject")
			}
		}), func(_ context.Context, err error) { t.Error(err) })
		answer, err := p.Invoke(t.Context(), event)
		if (answer == nil) == (err == nil) {
			t.Fatalf("got %s, %v", answer, err)
		}
		if err == nil && !jsontext.Value(answer).IsValid() {
			t.Errorf("got %s", answer)
		}
	})
}
