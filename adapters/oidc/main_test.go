package oidc_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/ports/portstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves an issuer on this machine until the test ends, and sets its URL.
func serve(t testing.TB, issuer *oidctest.Issuer) *oidctest.Issuer {
	t.Helper()
	server := httptest.NewServer(issuer)
	t.Cleanup(server.Close)
	issuer.URL = server.URL
	return issuer
}

// newVerifier returns a verifier that is closed when the test ends.
func newVerifier(t testing.TB, opts oidc.Options, issuers ...oidc.Issuer) *oidc.Verifier {
	t.Helper()
	v, err := oidc.NewVerifier(issuers, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// settings returns those for tokens with oidctest.Audience.
func settings(issuer *oidctest.Issuer) oidc.Issuer {
	return oidc.Issuer{Issuer: issuer.URL, Audience: []string{oidctest.Audience}, Leeway: oidctest.Leeway}
}

// fromFile returns settings whose keys come from a file: there is no network at all.
func fromFile(t testing.TB, keySet []byte) oidc.Issuer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, keySet, 0o600); err != nil {
		t.Fatal(err)
	}
	i := settings(&oidctest.Issuer{URL: "https://issuer.example"})
	i.JWKSFile = path
	return i
}

// noNetwork is a transport that fails the test when it is used.
func noNetwork(t testing.TB) *http.Transport {
	t.Helper()
	return &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) {
		t.Errorf("there was a request to %s", r.URL)
		return nil, http.ErrAbortHandler
	}}
}

// A logbook collects what a verifier logs.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logbook) log(msg string, attrs ...slog.Attr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range attrs {
		msg += " " + a.String()
	}
	l.lines = append(l.lines, msg)
}

func (l *logbook) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

var start = portstest.NewClock().Now()
