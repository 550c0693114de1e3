package localgateway_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/localgateway"
	"github.com/jobgate/jobgate/domain"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

const stage = "arn:aws:execute-api:us-east-1:000000000000:jobgate/local/"

// granting is the answer of an authorizer that allows resources in the stage.
func granting(resources ...string) string {
	for i, r := range resources {
		resources[i] = `"` + stage + r + `"`
	}
	return `{"principalId":"alice","policyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["execute-api:Invoke"],"Resource":[` +
		strings.Join(resources, ",") + `]}]},"context":{"subject":"alice","decision_id":"D-1"}}`
}

// A stub is a Function that keeps its events and answers what it is told to.
type stub struct {
	answer func(ctx context.Context, event []byte) ([]byte, error)

	mu     sync.Mutex
	events [][]byte
}

func (s *stub) call(ctx context.Context, event []byte) ([]byte, error) {
	s.mu.Lock()
	s.events = append(s.events, event)
	s.mu.Unlock()
	return s.answer(ctx, event)
}

func (s *stub) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events)
}

func says(output string) func(context.Context, []byte) ([]byte, error) {
	return func(context.Context, []byte) ([]byte, error) { return []byte(output), nil }
}

func fails(err error) func(context.Context, []byte) ([]byte, error) {
	return func(context.Context, []byte) ([]byte, error) { return nil, err }
}

// A bench is a gateway with stubs behind it and a clock to move.
type bench struct {
	*localgateway.Gateway
	authorizer, integration *stub
	now                     time.Time
	log                     []localgateway.Access
}

func newBench(t testing.TB, changes ...func(*localgateway.Options)) *bench {
	t.Helper()
	b := &bench{
		authorizer:  &stub{answer: says(granting("*"))},
		integration: &stub{answer: says(`{"statusCode":200,"body":"ok"}`)},
		now:         time.Date(2026, 5, 4, 3, 2, 1, 987e6, time.UTC),
	}
	o := localgateway.Options{
		Authorizer: b.authorizer.call, Integration: b.integration.call, TTL: localgateway.DefaultTTL,
		Routes: append(slices.Clone(domain.Routes), domain.Route{Method: "GET", Pattern: "/openapi.json", Public: true}),
		Now:    func() time.Time { return b.now },
		Log:    func(_ context.Context, a localgateway.Access) { b.log = append(b.log, a) },
	}
	for _, change := range changes {
		change(&o)
	}
	g, err := localgateway.New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.Gateway = g
	return b
}

func (b *bench) do(method, target string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), method, target, nil)
	r.Header.Set("Authorization", "Bearer a")
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = values }
}

func body(s string) func(*http.Request) {
	return func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(s)) }
}

const id = "0198c0de-0000-7000-8000-000000000001"

func TestOneAnswerServesEveryMethodWithinItsTTL(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.authorizer.answer = says(granting("POST/jobs", "GET/jobs/*"))
	for _, step := range []struct {
		after          time.Duration
		method, target string
		token          string
		status, calls  int
	}{
		{0, "POST", "/jobs", "a", 200, 1},
		{0, "GET", "/jobs/" + id, "a", 200, 1},
		{0, "POST", "/jobs/" + id + "/cancel", "a", 403, 1},
		{0, "GET", "/jobs", "a", 403, 1},
		{0, "GET", "/jobs/" + id, "b", 200, 2},
		{299 * time.Second, "GET", "/jobs/" + id, "a", 200, 2},
		{time.Second, "GET", "/jobs/" + id, "a", 200, 3},
		{299 * time.Second, "GET", "/jobs/" + id, "a", 200, 3},
	} {
		b.now = b.now.Add(step.after)
		got := b.do(step.method, step.target, header("Authorization", "Bearer "+step.token)).Code
		if got != step.status || b.authorizer.calls() != step.calls {
			t.Errorf("%s %s with %s: %d after %d calls, want %d after %d", step.method, step.target, step.token, got, b.authorizer.calls(), step.status, step.calls)
		}
	}
}

func TestATTLOfZeroAsksEachTime(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(o *localgateway.Options) { o.TTL = 0 })
	b.do("GET", "/jobs")
	b.do("GET", "/jobs")
	if b.authorizer.calls() != 2 {
		t.Errorf("%d calls", b.authorizer.calls())
	}
}

func TestARefusalIsCachedAndAnErrorIsNot(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.authorizer.answer = fails(errors.New("keys_unavailable"))
	if got := b.do("GET", "/jobs").Code; got != 503 {
		t.Errorf("fault: %d", got)
	}
	b.authorizer.answer = fails(errors.New("Unauthorized"))
	if got := b.do("GET", "/jobs").Code; got != 401 {
		t.Errorf("unauthorized: %d", got)
	}
	b.authorizer.answer = says(granting("POST/jobs"))
	if got := b.do("GET", "/jobs").Code; got != 403 {
		t.Errorf("refused: %d", got)
	}
	b.authorizer.answer = says(granting("*"))
	if got := b.do("GET", "/jobs").Code; got != 403 {
		t.Errorf("refused, cached: %d", got)
	}
	if b.authorizer.calls() != 3 || b.integration.calls() != 0 {
		t.Errorf("%d and %d calls", b.authorizer.calls(), b.integration.calls())
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	with := func(i int) int {
		return b.do("GET", "/jobs", header("Authorization", fmt.Sprint("Bearer ", i))).Code
	}
	for i := range 10001 {
		with(i)
		with(0) // stays, because it is used
	}
	before := b.authorizer.calls()
	with(0)
	with(10000)
	if got := b.authorizer.calls(); got != before {
		t.Errorf("%d calls for what was used last", got-before)
	}
	if with(1); b.authorizer.calls() != before+1 {
		t.Error("the least recently used answer was still there")
	}
}

func TestTheIdentitySourceIsCheckedBeforeTheAuthorizerIsCalled(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"TOKEN", "REQUEST"} {
		b := newBench(t, func(o *localgateway.Options) {
			if o.AuthorizerType = kind; kind == "TOKEN" {
				o.IdentityValidation = regexp.MustCompile(`Bearer [a-z]+|Basic`)
			}
		})
		for _, values := range [][]string{nil, {""}, {"Bearer a", "Bearer a"}, {"Bearer a", "Bearer b"}} {
			if got := b.do("GET", "/jobs", header("Authorization", values...)).Code; got != 401 {
				t.Errorf("%s %q: %d", kind, values, got)
			}
		}
		for _, value := range []string{"Bearer A", "Bearer a b", "xBearer a", "Basic a"} {
			if kind != "TOKEN" {
				break
			}
			if got := b.do("GET", "/jobs", header("Authorization", value)).Code; got != 401 {
				t.Errorf("%s %q: %d", kind, value, got)
			}
		}
		if b.authorizer.calls() != 0 {
			t.Errorf("%s: %d calls", kind, b.authorizer.calls())
		}
		if got := b.do("GET", "/jobs").Code; got != 200 {
			t.Errorf("%s: %d for a good one", kind, got)
		}
	}
}

func TestAPublicRouteNeedsNoToken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := b.do("GET", "/openapi.json", header("Authorization")).Code; got != 200 || b.authorizer.calls() != 0 {
		t.Errorf("%d after %d authorizer calls", got, b.authorizer.calls())
	}
	if strings.Contains(string(b.integration.events[0]), `"authorizer"`) {
		t.Error("there is an authorizer's context")
	}
}

func TestFaultsOfTheAuthorizer(t *testing.T) {
	t.Parallel()
	context503 := func(value string) string {
		return strings.Replace(granting("*"), `"D-1"`, `"D-1","x":`+value, 1)
	}
	for name, answer := range map[string]func(context.Context, []byte) ([]byte, error){
		"another error":               fails(errors.New("unauthorized")),
		"an error that contains it":   fails(errors.New("Unauthorized: secret")),
		"panic":                       func(context.Context, []byte) ([]byte, error) { panic("secret") },
		"nothing":                     says(""),
		"null":                        says("null"),
		"a list":                      says("[]"),
		"no principal":                says(strings.Replace(granting("*"), `"principalId":"alice",`, "", 1)),
		"empty principal":             says(strings.Replace(granting("*"), `"alice"`, `""`, 1)),
		"principal a number":          says(strings.Replace(granting("*"), `"alice"`, `1`, 1)),
		"no policy":                   says(`{"principalId":"alice"}`),
		"policy null":                 says(`{"principalId":"alice","policyDocument":null}`),
		"policy unreadable":           says(strings.Replace(granting("*"), "Allow", "Maybe", 1)),
		"context with an object":      says(context503(`{}`)),
		"context with a list":         says(context503(`["a"]`)),
		"context with null":           says(context503(`null`)),
		"context no object":           says(`{"principalId":"alice","policyDocument":{"Statement":[]},"context":"x"}`),
		"too large":                   says(context503(`"` + strings.Repeat("x", 8192) + `"`)),
		"a simple response":           says(`{"isAuthorized":true}`),
		"two documents":               says(granting("*") + granting("*")),
		"an answer and trailing junk": says(granting("*") + "x"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.authorizer.answer = answer
			r := b.do("GET", "/jobs")
			text := r.Body.String()
			if r.Code != http.StatusServiceUnavailable || r.Header().Get("Retry-After") == "" || strings.Contains(text, "secret") {
				t.Errorf("got %d %v: %s", r.Code, r.Header(), text)
			}
			if b.integration.calls() != 0 || b.log[0].Err == nil || b.log[0].Status != 503 {
				t.Errorf("%d integration calls, log %+v", b.integration.calls(), b.log)
			}
		})
	}
}

func TestContextValuesReachTheIntegrationAsStrings(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.authorizer.answer = says(`{"principalId":"alice","policyDocument":{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}},` +
		`"context":{"s":"é","n":1.50,"big":12345678901234567890,"t":true,"f":false,"principalId":"mallory"},"usageIdentifierKey":"k"}`)
	b.do("GET", "/jobs")
	var event struct {
		RequestContext struct {
			Authorizer map[string]any `json:"authorizer"`
		} `json:"requestContext"`
	}
	if err := json.Unmarshal(b.integration.events[0], &event); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"s": "é", "n": "1.50", "big": "12345678901234567890", "t": "true", "f": "false", "principalId": "alice", "integrationLatency": 0.0}
	if diff := cmp.Diff(want, event.RequestContext.Authorizer); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The functions see what they see in AWS.
func TestEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, kind, method, target, body string
		header                           http.Header
	}{
		{"rich", "REQUEST", "POST", "/v1/jobs/a%2Fb%20c/cancel/?b=2&a=1&a=%C3%BC;c", "{\"n\":\"é\"}", http.Header{
			"Accept": {"a", "b"}, "User-Agent": {"agent"}, "X-Forwarded-For": {"198.51.100.2"}}},
		{"plain", "TOKEN", "GET", "/v1/jobs", "", nil},
		{"binary", "TOKEN", "POST", "/v1/jobs", "\xff\x00", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(o *localgateway.Options) { o.AuthorizerType, o.BasePath = tt.kind, "/v1" })
			r := b.do(tt.method, tt.target, body(tt.body), func(r *http.Request) { maps.Copy(r.Header, tt.header) })
			if r.Code != http.StatusOK {
				t.Fatal(r.Code)
			}
			for kind, s := range map[string]*stub{"authorizer": b.authorizer, "integration": b.integration} {
				event := jsontext.Value(s.events[0])
				if err := event.Indent(); err != nil {
					t.Fatal(err)
				}
				event = bytes.ReplaceAll(event, []byte(r.Header().Get("X-Amzn-Requestid")), []byte("REQUEST"))
				event = bytes.ReplaceAll(event, []byte(r.Header().Get("X-Amz-Apigw-Id")), []byte("EXTENDED"))
				golden(t, kind+"-"+tt.name+".json", append(event, '\n'))
			}
		})
	}
}

func TestRouting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, target string
		want           string // the resource; empty: 404
	}{
		{"GET", "/v1/jobs", "/jobs"},
		{"GET", "/v1/jobs/", "/jobs"},
		{"GET", "/v1/jobs/a", "/jobs/{id}"},
		{"GET", "/v1/jobs/special", "/jobs/special"},
		{"GET", "/v1/jobs/a/", "/jobs/{id}"},
		{"GET", "/v1/jobs/*", "/jobs/{id}"},
		{"GET", "/v1/jobs/%3F", "/jobs/{id}"},
		{"GET", "/v1/jobs/a%2Fcancel", "/jobs/{id}"},
		{"GET", "/v1/jobs/...", "/jobs/{id}"},
		{"GET", "/v1", ""},
		{"GET", "/v1/", ""},
		{"GET", "/jobs", ""},
		{"GET", "/v2/jobs", ""},
		{"GET", "/v1jobs", ""},
		{"GET", "/V1/jobs", ""},
		{"GET", "/v1/Jobs", ""},
		{"GET", "/v1/%6Aobs", ""},
		{"GET", "/v1//jobs", ""},
		{"GET", "//v1/jobs", ""},
		{"GET", "/v1/jobs//", ""},
		{"GET", "/v1/jobs/.", ""},
		{"GET", "/v1/jobs/..", ""},
		{"GET", "/v1/jobs/%2e%2e", ""},
		{"GET", "/v1/x/../jobs", ""},
		{"GET", "/v1/jobs/a/b", ""},
		{"POST", "/v1/jobs//cancel", ""},
		{"POST", "/v1/jobs/a/cancel/x", ""},
		{"POST", "/v1/jobs/a", ""},
		{"PUT", "/v1/jobs", ""},
		{"HEAD", "/v1/jobs", ""},
		{"OPTIONS", "/v1/jobs", ""},
		{"get", "/v1/jobs", ""},
	} {
		b := newBench(t, func(o *localgateway.Options) {
			o.BasePath = "/v1"
			o.Routes = append(slices.Clone(o.Routes), domain.Route{Method: "GET", Pattern: "/jobs/special", Action: domain.ActionRead})
		})
		got := b.do(tt.method, tt.target)
		want := map[bool]int{true: 404, false: 200}[tt.want == ""]
		if got.Code != want || b.log[0].Resource != tt.want {
			t.Errorf("%s %s: %d at %q, want %d at %q", tt.method, tt.target, got.Code, b.log[0].Resource, want, tt.want)
		}
		if tt.want == "" && b.authorizer.calls()+b.integration.calls() > 0 {
			t.Errorf("%s %s: a function was called", tt.method, tt.target)
		}
	}
}

// What is escaped in a path is escaped in the ARN too, and a wildcard in it is a character.
func TestThePolicyIsEvaluatedOnThePathAsSent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		allowed, method, target string
		want                    int
	}{
		{"GET/jobs/*", "GET", "/jobs/a%2Fb", 200},
		{"GET/jobs/x", "GET", "/jobs/*", 403},
		{"GET/jobs/x", "GET", "/jobs/?", 403},
		{"GET/jobs", "GET", "/jobs/", 200},
		{"GET/jobs/*", "GET", "/jobs", 403},
		{"POST/jobs/*/cancel", "POST", "/jobs/a/redrive", 403},
		{"POST/jobs/*/cancel", "POST", "/jobs/x%2Fcancel/redrive", 403},
		{"post/jobs", "POST", "/jobs", 403},
	} {
		b := newBench(t)
		b.authorizer.answer = says(granting(tt.allowed))
		if got := b.do(tt.method, tt.target).Code; got != tt.want {
			t.Errorf("%s with %s: %d, want %d", tt.target, tt.allowed, got, tt.want)
		}
	}
}

// Every answer that the gateway gives itself, as a client sees it.
func TestGatewayResponses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1600)
	for name, tt := range map[string]struct {
		authorizer, integration func(context.Context, []byte) ([]byte, error)
		method, target          string
		edit                    func(*http.Request)
		maxBody                 int64
	}{
		"unauthorized":        {authorizer: fails(errors.New("Unauthorized"))},
		"access-denied":       {authorizer: says(granting("POST/jobs"))},
		"authorizer-failure":  {authorizer: fails(errors.New("keys_unavailable"))},
		"not-found":           {target: "/nothing"},
		"bad-request":         {target: "/jobs?%zz"},
		"request-too-large":   {method: "POST", edit: body(strings.Repeat("x", 101)), maxBody: 100},
		"headers-too-large":   {edit: header("X", strings.Repeat("x", 10240))},
		"uri-too-long":        {target: "/jobs/" + long},
		"integration-failure": {integration: fails(errors.New("secret"))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(o *localgateway.Options) { o.CORSOrigin, o.MaxBody = "https://app.example", tt.maxBody })
			if tt.authorizer != nil {
				b.authorizer.answer = tt.authorizer
			}
			if tt.integration != nil {
				b.integration.answer = tt.integration
			}
			if tt.method == "" {
				tt.method = "GET"
			}
			if tt.target == "" {
				tt.target = "/jobs"
			}
			edits := []func(*http.Request){header("Origin", "https://evil.example")}
			if tt.edit != nil {
				edits = append(edits, tt.edit)
			}
			r := b.do(tt.method, tt.target, edits...)
			text := r.Body.String()
			var out bytes.Buffer
			fmt.Fprintln(&out, r.Code)
			if err := r.Header().Write(&out); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "\n%s\n", text)
			got := strings.ReplaceAll(out.String(), "\r\n", "\n")
			got = strings.ReplaceAll(got, r.Header().Get("X-Amzn-Requestid"), "REQUEST")
			got = strings.ReplaceAll(got, r.Header().Get("X-Amz-Apigw-Id"), "EXTENDED")
			golden(t, "response-"+name+".txt", []byte(got))
		})
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, output string
		status       int
		header       http.Header
		body         string
	}{
		{"text", `{"statusCode":201,"headers":{"Location":"/jobs/x"},"body":"é"}`, 201, http.Header{"Location": {"/jobs/x"}}, "é"},
		{"base64", `{"statusCode":200,"body":"/wA=","isBase64Encoded":true}`, 200, http.Header{}, "\xff\x00"},
		{"no body", `{"statusCode":204,"body":null}`, 204, http.Header{}, ""},
		{"nulls", `{"statusCode":200,"headers":null,"multiValueHeaders":null,"body":null}`, 200, http.Header{}, ""},
		{"headers are merged", `{"statusCode":200,"headers":{"X":"1","Y":"1"},"multiValueHeaders":{"X":["1","2"]}}`, 200,
			http.Header{"X": {"1", "2"}, "Y": {"1"}}, ""},
		{"headers are remapped or dropped", `{"statusCode":401,"headers":{"WWW-Authenticate":"Bearer","server":"x","Transfer-Encoding":"chunked","Content-Length":"9"}}`, 401,
			http.Header{"X-Amzn-Remapped-Www-Authenticate": {"Bearer"}, "X-Amzn-Remapped-Server": {"x"}, "X-Amzn-Remapped-Content-Length": {"9"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(o *localgateway.Options) { o.CORSOrigin = "*" })
			b.integration.answer = says(tt.output)
			r := b.do("GET", "/jobs")
			text := r.Body.String()
			for _, own := range []string{"X-Amzn-Requestid", "X-Amz-Apigw-Id"} {
				if r.Header().Get(own) == "" {
					t.Errorf("no %s", own)
				}
				r.Header().Del(own)
			}
			if tt.header.Get("Content-Type") == "" { // net/http's own guess
				r.Header().Del("Content-Type")
			}
			if diff := cmp.Diff(tt.header, r.Header()); diff != "" || r.Code != tt.status || text != tt.body {
				t.Errorf("got %d %q, header (-want +got):\n%s", r.Code, text, diff)
			}
		})
	}
}

func TestMalformedRepliesAre502(t *testing.T) {
	t.Parallel()
	for name, output := range map[string]string{
		"nothing":             "",
		"text":                "ok",
		"null":                "null",
		"no status":           `{"body":"ok"}`,
		"status a string":     `{"statusCode":"200"}`,
		"status out of range": `{"statusCode":99}`,
		"informational":       `{"statusCode":100}`,
		"body an object":      `{"statusCode":200,"body":{}}`,
		"unknown member":      `{"statusCode":200,"cookies":[]}`,
		"another case":        `{"StatusCode":200}`,
		"header a number":     `{"statusCode":200,"headers":{"X":1}}`,
		"header injection":    `{"statusCode":200,"headers":{"X":"a\r\nSet-Cookie: b"}}`,
		"bad base64":          `{"statusCode":200,"body":"%","isBase64Encoded":true}`,
		"too large":           `{"statusCode":200,"body":"` + strings.Repeat("x", 6<<20) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.integration.answer = says(output)
			if got := b.do("GET", "/jobs").Code; got != 502 || b.log[0].Err == nil {
				t.Errorf("got %d, log %+v", got, b.log)
			}
		})
	}
}

func TestRequestsOverTheBoundsOfAFunctionAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	// Escaping doubles it: under the body's bound, over that of an event.
	if got := b.do("POST", "/jobs", body(strings.Repeat(`"`, 4<<20))).Code; got != 413 || b.integration.calls() != 0 {
		t.Errorf("got %d after %d calls", got, b.integration.calls())
	}
}

func TestFunctionsAreGivenAWSsTime(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return []byte(granting("*")), nil // too late to count
	}
	for _, tt := range []struct {
		name       string
		authorizer bool
		took       time.Duration
		status     int
	}{
		{"authorizer", true, 10 * time.Second, 503},
		{"integration", false, 29 * time.Second, 504},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, func(o *localgateway.Options) { o.Now = time.Now })
				if tt.authorizer {
					b.authorizer.answer = hang
				} else {
					b.integration.answer = hang
				}
				began := time.Now()
				got := b.do("GET", "/jobs").Code
				if took := time.Since(began); got != tt.status || took != tt.took {
					t.Errorf("%d after %v, want %d after %v", got, took, tt.status, tt.took)
				}
			})
		})
	}
}

func TestInvocationsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const callers, bound = 1100, 1000
		b := newBench(t, func(o *localgateway.Options) { o.Log = nil })
		release := make(chan struct{})
		b.integration.answer = func(context.Context, []byte) ([]byte, error) {
			<-release
			return []byte(`{"statusCode":200}`), nil
		}
		var served atomic.Int32
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				if b.do("GET", "/jobs").Code == http.StatusOK {
					served.Add(1)
				}
			})
		}
		synctest.Wait()
		if got := b.integration.calls(); got != bound {
			t.Errorf("%d at once", got)
		}
		close(release)
		wg.Wait()
		if got := served.Load(); got != callers {
			t.Errorf("%d were served in the end", got)
		}
	})
}

func TestAClientThatLeavesDoesNotStopTheFunction(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var seen error
	b.integration.answer = func(ctx context.Context, _ []byte) ([]byte, error) {
		seen = ctx.Err()
		return []byte(`{"statusCode":200}`), nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/jobs", nil)
	r.Header.Set("Authorization", "Bearer a")
	b.ServeHTTP(httptest.NewRecorder(), r)
	if b.integration.calls() != 1 || seen != nil {
		t.Errorf("%d calls, context %v", b.integration.calls(), seen)
	}
}

func TestBytesThatAreNoTextReachTheFunctionsAsReplacementCharacters(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := b.do("GET", "/jobs/%ff?a=%ff", header("Authorization", "Bearer \xff")).Code; got != 200 {
		t.Fatal(got)
	}
	if want := "\"authorizationToken\":\"Bearer \ufffd\""; !strings.Contains(string(b.authorizer.events[0]), want) {
		t.Errorf("no %s in %s", want, b.authorizer.events[0])
	}
	for _, want := range []string{"\"pathParameters\":{\"id\":\"\ufffd\"}", "\"queryStringParameters\":{\"a\":\"\ufffd\"}"} {
		if !strings.Contains(string(b.integration.events[0]), want) {
			t.Errorf("no %s in %s", want, b.integration.events[0])
		}
	}
}

func TestAPanickingIntegrationIs502(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.integration.answer = func(context.Context, []byte) ([]byte, error) { panic("secret") }
	r := b.do("GET", "/jobs")
	text := r.Body.String()
	if r.Code != http.StatusBadGateway || strings.Contains(text, "secret") {
		t.Errorf("got %d: %s", r.Code, text)
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		want string
	}{
		{"none", ""},
		{"one", "https://app.example"},
		{"any", "*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, func(o *localgateway.Options) { o.CORSOrigin = tt.want })
			origin := header("Origin", "https://other.example")
			failed := b.do("GET", "/jobs", origin, header("Authorization"))
			preflight := b.do("OPTIONS", "/jobs", origin, header("Authorization"), header("Access-Control-Request-Method", "POST"))
			served := b.do("GET", "/jobs", origin)
			if got := failed.Header().Get("Access-Control-Allow-Origin"); got != tt.want {
				t.Errorf("gate error: %q", got)
			}
			if got := served.Header().Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("the integration's response: %q", got)
			}
			if tt.want == "" {
				if preflight.Code != http.StatusNotFound {
					t.Errorf("preflight: %d", preflight.Code)
				}
				return
			}
			want := http.Header{
				"Access-Control-Allow-Origin":   {tt.want},
				"Access-Control-Expose-Headers": {"Location, Retry-After, WWW-Authenticate, x-amzn-RequestId"},
				"Access-Control-Allow-Methods":  {"GET,POST"},
				"Access-Control-Allow-Headers":  {"Authorization,Content-Type,Idempotency-Key,Traceparent"},
				"Access-Control-Max-Age":        {"600"},
			}
			preflight.Header().Del("X-Amzn-Requestid")
			preflight.Header().Del("X-Amz-Apigw-Id")
			if diff := cmp.Diff(want, preflight.Header()); diff != "" || preflight.Code != http.StatusNoContent {
				t.Errorf("preflight %d (-want +got):\n%s", preflight.Code, diff)
			}
			if got := b.do("OPTIONS", "/nothing", origin).Code; got != 404 {
				t.Errorf("preflight of nothing: %d", got)
			}
		})
	}
}

func TestTheAccessLogJoinsTheAuthorizersByDecision(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.do("GET", "/jobs/"+id+"?secret=1")
	want := []localgateway.Access{{
		RequestID: r.Header().Get("X-Amzn-Requestid"), Method: "GET", Resource: "/jobs/{id}", Status: 200, DecisionID: "D-1",
	}}
	if len(b.log) == 1 {
		if b.log[0].InvocationID == "" {
			t.Error("the log does not name the authorizer's invocation")
		}
		b.log[0].InvocationID = ""
	}
	if diff := cmp.Diff(want, b.log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewNamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := localgateway.New(localgateway.Options{
		AuthorizerType: "JWT", TTL: 2 * time.Hour, Stage: "a/b", BasePath: "v1/", MaxBody: 11 << 20,
	})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"Authorizer, Integration and Routes", "AuthorizerType", "TTL", "Stage", "BasePath", "MaxBody"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among:\n%v", want, err)
		}
	}
	_, err = localgateway.New(localgateway.Options{AuthorizerType: "REQUEST", IdentityValidation: regexp.MustCompile("x")})
	if err == nil || !strings.Contains(err.Error(), "IdentityValidation") {
		t.Errorf("got %v", err)
	}
}

// Over a real connection, where net/http has its say as well.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	server := httptest.NewServer(b)
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/jobs", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer a")
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || string(text) != "ok" {
		t.Errorf("got %d %q, %v", response.StatusCode, text, err)
	}
	if !strings.Contains(string(b.integration.events[0]), `"body":"{}"`) {
		t.Errorf("event %s", b.integration.events[0])
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("GET", "/jobs/a%2Fb?x=1;y", "Bearer a", "")
	f.Add("POST", "//jobs/../x", "Basic", "\xff")
	f.Add("OPTIONS", "/jobs/*/cancel/", "", "{}")
	f.Fuzz(func(t *testing.T, method, target, authorization, payload string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+target, strings.NewReader(payload))
		if err != nil {
			return
		}
		r.RequestURI, r.RemoteAddr = target, "192.0.2.1:1"
		r.Header.Set("Authorization", authorization)
		b := newBench(t)
		b.authorizer.answer = says(granting("GET/jobs"))
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		switch b.log[0].Status {
		case 200:
			if r.Method != http.MethodGet || strings.TrimSuffix(r.URL.EscapedPath(), "/") != "/jobs" && r.URL.EscapedPath() != "/openapi.json" {
				t.Errorf("%s %s was let in", method, target)
			}
		case 400, 401, 403, 404, 413, 414, 431:
			if b.integration.calls() != 0 {
				t.Errorf("%s %s: refused and yet called", method, target)
			}
		default:
			t.Errorf("%s %s: %d, %v", method, target, b.log[0].Status, b.log[0].Err)
		}
	})
}
