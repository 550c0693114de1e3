package webhook_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/webhook"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// proxied counts the requests that came to the proxy of the environment.
var proxied atomic.Int64

// behindProxy runs the tests with a proxy in the environment, which net/http reads once.
type behindProxy struct{ *testing.M }

func (m behindProxy) Run() int {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Add(1) }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		if err := os.Setenv(name, proxy.URL); err != nil {
			panic(err)
		}
	}
	return m.M.Run()
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(behindProxy{m}) }

const (
	oldSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
	newSecret = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
	jobID     = "0198c0de-0000-7000-8000-000000000001"
)

var created = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)

func aRun() jobs.Run {
	return jobs.Run{
		Attempt: 3,
		Job: domain.Job{
			ID: jobID, Name: "report.render", CreatedAt: created, Payload: []byte(`{ "n": 1.0 }`),
			Owner:       domain.Identity{Issuer: "https://id.example.com/", Subject: "alice"},
			TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		},
	}
}

// serve serves on this machine until the test ends, and then ends what still waits for it.
func serve(t testing.TB, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handle)
	server.Config.ErrorLog = quiet
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// newHandler returns a handler that may reach this machine.
func newHandler(t testing.TB, url string, change ...func(*webhook.Endpoint, *webhook.Options)) *webhook.Handler {
	t.Helper()
	endpoint, opts := webhook.Endpoint{URL: url, Secrets: []string{oldSecret}}, webhook.Options{Source: "jobgate", AllowPrivate: true}
	for _, c := range change {
		c(&endpoint, &opts)
	}
	h, err := webhook.NewHandler(endpoint, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	return h
}

// within bounds a call's time.
func within(d time.Duration) func(*webhook.Endpoint, *webhook.Options) {
	return func(e *webhook.Endpoint, _ *webhook.Options) { e.Timeout = d }
}

// guarded keeps a handler from private addresses, as it is deployed.
func guarded(_ *webhook.Endpoint, o *webhook.Options) { o.AllowPrivate = false }

// wantFailure checks what a job's owner reads, which is all of it.
func wantFailure(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %q", err, want)
	}
}

// wantHidden checks that an operator is told of err what its text does not say.
func wantHidden(t *testing.T, err error, part string) {
	t.Helper()
	if cause := webhook.Cause(err); cause == nil || !strings.Contains(cause.Error(), part) {
		t.Errorf("the cause of %v is %v, want one with %q", err, cause, part)
	}
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// ctx is a test's context, with a bound that only a broken handler reaches.
func ctx(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
