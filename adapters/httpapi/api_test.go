package httpapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/httpapi"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

var everything = ports.JobQuery{Limit: 1000}

// routeCall is a call of a route that succeeds when made of the right job.
func routeCall(r domain.Route, id string) call {
	c := call{method: r.Method, path: strings.ReplaceAll(r.Pattern, "{id}", id)}
	if r.Action == domain.ActionSubmit {
		c.body = `{"name":"test-job"}`
	}
	return c
}

func TestEveryRouteOfTheTableIsServed(t *testing.T) {
	t.Parallel()
	for _, route := range domain.Routes {
		t.Run(route.Method+" "+route.Pattern, func(t *testing.T) {
			t.Parallel()
			s := newService()
			s.accepted(t, call{method: http.MethodPost, path: "/jobs", token: "alice", body: `{"name":"test-job","delay":"1h"}`}, http.StatusCreated)
			if route.Action == domain.ActionRedrive {
				s.accepted(t, call{method: http.MethodPost, path: "/jobs/" + jobID(1) + "/cancel", token: "alice"}, http.StatusOK)
			}
			c := routeCall(route, jobID(1))
			if !route.Public {
				c.token = "alice"
			}
			if a := s.do(t, c); a.status != http.StatusOK && a.status != http.StatusCreated {
				t.Errorf("answer %d %s", a.status, a.body)
			}
		})
	}
}

func TestNothingButTheTableIsServed(t *testing.T) {
	t.Parallel()
	s := newService()
	allow := map[string]string{
		"/jobs": "GET, HEAD, POST", "/jobs/" + jobID(1): "GET, HEAD", "/jobs/" + jobID(1) + "/cancel": "POST",
		"/jobs/" + jobID(1) + "/redrive": "POST", "/openapi.json": "GET, HEAD",
	}
	for path, methods := range allow {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "get", "CONNECT"} {
			if strings.Contains(", "+methods+",", ", "+method+",") {
				continue
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
			r.Method = method // CONNECT's target would be read as an authority
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != methods {
				t.Errorf("%s %s: answer %d, Allow %q, want 405 and %q", method, path, w.Code, w.Header().Get("Allow"), methods)
			}
			check(t, r, "", answer{w.Code, w.Header(), w.Body.Bytes()})
		}
	}
}

func TestAPathThatIsNotThereIsNotFoundAndNeverARedirect(t *testing.T) {
	t.Parallel()
	s := newService()
	for _, path := range []string{
		"/", "/job", "/Jobs", "/jobs.json", "/healthz", "/jobs/" + jobID(1) + "/retry", "/jobs/" + jobID(1) + "/cancel/now",
		"//", "//jobs", "/jobs/", "/jobs//", "/./jobs", "/jobs/.", "/jobs/..", "/jobs/../jobs", "/openapi.json/",
		"/jobs//cancel", "/jobs/" + jobID(1) + "/", "/jobs/" + jobID(1) + "//cancel", "/jobs/" + jobID(1) + "/../cancel", "/jobs%2F" + jobID(1),
	} {
		p := s.refused(t, call{method: http.MethodGet, path: path}, http.StatusNotFound, domain.ReasonNotFound)
		if p.Detail == "" {
			t.Errorf("%s: no detail", path)
		}
	}
	for _, target := range []string{"*", ""} { // OPTIONS *, and CONNECT's authority
		r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/", http.NoBody)
		r.URL.Path, r.RequestURI = target, "*"
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if w.Code != http.StatusNotFound {
			t.Errorf("path %q: answer %d", target, w.Code)
		}
	}
}

func TestNothingIsSaidBeforeTheCallerIsKnown(t *testing.T) {
	t.Parallel()
	challenge := http.Header{"Authorization": {"Bearer nobody-knows-this-token"}}
	for _, route := range domain.Routes {
		if route.Public {
			continue
		}
		for name, tt := range map[string]struct {
			header    http.Header
			code      domain.Reason
			challenge string
		}{
			"no token":        {nil, domain.ReasonMissingToken, `Bearer realm="jobgate"`},
			"another scheme":  {http.Header{"Authorization": {"Basic YTpi"}}, domain.ReasonMissingToken, `Bearer realm="jobgate"`},
			"malformed token": {http.Header{"Authorization": {"Bearer a b"}}, domain.ReasonInvalidToken, `Bearer realm="jobgate", error="invalid_token", error_description="the token is not valid"`},
			"unknown token":   {challenge, domain.ReasonInvalidSignature, `Bearer realm="jobgate", error="invalid_token", error_description="the token has no valid signature"`},
		} {
			t.Run(route.Method+" "+route.Pattern+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newService(func(s *service) { s.MaxBody = 10 })
				c := call{method: route.Method, path: strings.ReplaceAll(route.Pattern, "{id}", "no-uuid") + "?no=parameter", body: `{"too":"large"`, header: tt.header}
				a := s.do(t, c)
				if p := decode[problemDocument](t, a.body); a.status != http.StatusUnauthorized || p.Code != tt.code || a.header.Get("WWW-Authenticate") != tt.challenge {
					t.Errorf("answer %d %s, challenge %q; want 401 %s", a.status, a.body, a.header.Get("WWW-Authenticate"), tt.code)
				}
				if strings.Contains(string(a.body), "nobody-knows") {
					t.Errorf("the token is in the answer: %s", a.body)
				}
			})
		}
	}
}

func TestErrorsOfIdentifyAreTheAnswer(t *testing.T) {
	t.Parallel()
	secret := errors.New("dial tcp 10.0.0.7:443: refused")
	for name, tt := range map[string]struct {
		err    error
		status int
		code   domain.Reason
	}{
		"keys that cannot be had":  {domain.Wrap(secret, domain.Unavailable, domain.ReasonKeysUnavailable, "no keys"), http.StatusServiceUnavailable, domain.ReasonKeysUnavailable},
		"an error nobody foresaw":  {secret, http.StatusInternalServerError, domain.ReasonInternal},
		"a caller who may nothing": {domain.Errorf(domain.Forbidden, domain.ReasonForbidden, "no"), http.StatusForbidden, domain.ReasonForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(func(s *service) {
				s.Identify = func(*http.Request) (domain.Principal, error) { return domain.Principal{}, tt.err }
			})
			if p := s.refused(t, call{method: http.MethodGet, path: "/jobs"}, tt.status, tt.code); strings.Contains(p.Detail, "10.0.0.7") {
				t.Errorf("the cause is shown: %s", p.Detail)
			}
			want := httpapi.Failure{RequestID: "req-1", Method: "GET", Route: "/jobs", Status: tt.status}
			if tt.status == http.StatusForbidden {
				want.DecisionID = "req-1"
			}
			if len(s.failures) != 1 || !errors.Is(s.failures[0].Err, tt.err) {
				t.Fatalf("logged %+v", s.failures)
			}
			s.failures[0].Err = nil
			if diff := cmp.Diff(want, s.failures[0]); diff != "" {
				t.Errorf("logged (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryActionNeedsItsScope(t *testing.T) {
	t.Parallel()
	s := newService()
	s.accepted(t, call{method: http.MethodPost, path: "/jobs", token: "alice", body: `{"name":"test-job"}`}, http.StatusCreated)
	for _, route := range domain.Routes {
		if route.Public || route.Action == domain.ActionRead {
			continue
		}
		c := routeCall(route, jobID(1))
		c.token = "reader"
		a := s.do(t, c)
		p := decode[problemDocument](t, a.body)
		want := `Bearer realm="jobgate", error="insufficient_scope", scope="jobs:` + string(route.Action) + `"`
		if a.status != http.StatusForbidden || p.Code != domain.ReasonInsufficientScope || a.header.Get("WWW-Authenticate") != want {
			t.Errorf("%s %s: answer %d %s, challenge %q", route.Method, route.Pattern, a.status, a.body, a.header.Get("WWW-Authenticate"))
		}
	}
	if n := len(s.stored(t)); n != 1 {
		t.Errorf("%d jobs stored", n)
	}
}

func TestAnExpiredPrincipalIsRefusedBehindTheGate(t *testing.T) {
	t.Parallel()
	s := newService(func(s *service) {
		s.Identify = func(*http.Request) (domain.Principal, error) {
			who := callers["alice"]
			who.ExpiresAt = start
			return who, nil
		}
	})
	s.refused(t, call{method: http.MethodPost, path: "/jobs", body: `{"name":"test-job"}`}, http.StatusUnauthorized, domain.ReasonTokenExpired)
}

func TestHeadIsAnsweredAsGetWithoutABody(t *testing.T) {
	t.Parallel()
	s := newService()
	s.accepted(t, call{method: http.MethodPost, path: "/jobs", token: "alice", body: `{"name":"test-job"}`}, http.StatusCreated)
	server := httptest.NewServer(s.handler)
	defer server.Close()
	for _, c := range []call{
		{path: "/jobs", token: "alice"},
		{path: "/jobs/" + jobID(1), token: "alice"},
		{path: "/jobs/" + jobID(2), token: "alice"},
		{path: "/jobs?limit=0", token: "alice"},
		{path: "/jobs"},
		{path: "/openapi.json"},
		{path: "/nowhere"},
	} {
		get, head := over(t, server, http.MethodGet, c), over(t, server, http.MethodHead, c)
		get.header.Del("Date")
		head.header.Del("Date")
		if len(head.body) != 0 || head.status != get.status {
			t.Errorf("HEAD %s: %d %q, GET has %d", c.path, head.status, head.body, get.status)
		}
		if diff := cmp.Diff(get.header, head.header); diff != "" {
			t.Errorf("HEAD %s: header (-GET +HEAD):\n%s", c.path, diff)
		}
	}
	if a := over(t, server, http.MethodHead, call{path: "/jobs/" + jobID(1) + "/cancel", token: "alice"}); a.status != http.StatusMethodNotAllowed {
		t.Errorf("HEAD of a path without GET: %d", a.status)
	}
}

// over makes a call over a connection.
func over(t *testing.T, server *httptest.Server, method string, c call) answer {
	t.Helper()
	c.method = method
	r := c.request(t)
	r.RequestURI = ""
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(server.URL, "http://")
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, body}
}

func TestAPanicIsAnInternalErrorAndLogged(t *testing.T) {
	t.Parallel()
	s := newService(func(s *service) {
		s.Identify = func(*http.Request) (domain.Principal, error) { panic([]string{"the secret"}) }
	})
	p := s.refused(t, call{method: http.MethodGet, path: "/jobs"}, http.StatusInternalServerError, domain.ReasonInternal)
	if strings.Contains(p.Detail, "the secret") {
		t.Errorf("the panic is shown: %s", p.Detail)
	}
	if len(s.failures) != 1 || !strings.Contains(s.failures[0].Err.Error(), "the secret") || !strings.Contains(s.failures[0].Err.Error(), "api_test.go") {
		t.Errorf("logged %+v, want the value and the stack", s.failures)
	}
}

func TestAnAbortedAnswerIsLeftToTheServer(t *testing.T) {
	t.Parallel()
	s := newService(func(s *service) {
		s.Identify = func(*http.Request) (domain.Principal, error) { panic(http.ErrAbortHandler) }
	})
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("recovered %v", err)
		}
		if len(s.failures) != 0 {
			t.Errorf("logged %+v", s.failures)
		}
	}()
	s.handler.ServeHTTP(httptest.NewRecorder(), call{method: http.MethodGet, path: "/jobs"}.request(t))
	t.Error("the panic did not pass")
}

func TestARequestWithoutAnIDGetsARandomOne(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]func(*http.Request) string{
		"no source": nil, "an empty id": func(*http.Request) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(func(s *service) { s.RequestID, s.Log = own, nil })
			seen := map[string]bool{}
			for range 3 {
				a := s.do(t, call{method: http.MethodGet, path: "/jobs"})
				id := a.header.Get("X-Request-Id")
				if p := decode[problemDocument](t, a.body); p.RequestID != id || len(id) < 16 || seen[id] {
					t.Errorf("id %q in the header, %q in the document, seen before: %v", id, p.RequestID, seen[id])
				}
				seen[id] = true
			}
		})
	}
}

func TestTheRequestsContextIsPassedOn(t *testing.T) {
	t.Parallel()
	s := newService()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, route := range domain.Routes {
		if !route.Public {
			c := routeCall(route, jobID(1))
			c.token, c.ctx = "alice", ctx
			s.refused(t, c, http.StatusServiceUnavailable, domain.ReasonUnavailable)
		}
	}
	if n := len(s.stored(t)); n != 0 {
		t.Errorf("%d jobs stored", n)
	}
}

func TestOneConstantOriginMayReadTheAnswers(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"", "*", "https://app.example"} {
		s := newService(func(s *service) { s.CORSOrigin = want })
		for _, c := range []call{
			{method: http.MethodGet, path: "/jobs", token: "alice", header: http.Header{"Origin": {"https://other.example"}}},
			{method: http.MethodGet, path: "/nothing", header: http.Header{"Origin": {"https://other.example"}}},
		} {
			a := s.do(t, c)
			if got := a.header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("GET %s: Access-Control-Allow-Origin %q, want %q", c.path, got, want)
			}
			if a.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("GET %s: credentials are allowed", c.path)
			}
		}
	}
}

func TestAPreflightIsAnsweredWhereAnOriginMayRead(t *testing.T) {
	t.Parallel()
	ask := call{method: http.MethodOptions, path: "/jobs", header: http.Header{"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"POST"}}}
	s := newService(func(s *service) { s.CORSOrigin = "https://app.example" })
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), ask.method, ask.path, http.NoBody)
	r.Header = ask.header
	httpapi.New(s.Options).ServeHTTP(w, r)
	if w.Code != http.StatusNoContent || w.Header().Get("Access-Control-Allow-Methods") != "GET, POST" || w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" {
		t.Errorf("answer %d, %v", w.Code, w.Header())
	}
	newService().refused(t, ask, http.StatusMethodNotAllowed, domain.ReasonMethodNotAllowed)
}
