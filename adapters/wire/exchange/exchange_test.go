package exchange_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jobgate/jobgate/adapters/wire/exchange"
	"github.com/jobgate/jobgate/domain"
)

// serve has a mux with every route answer one request, and returns what was told of it.
func serve(t *testing.T, method, target string, answer http.HandlerFunc) (got exchange.Exchange, rec *httptest.ResponseRecorder) {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range domain.Routes {
		mux.HandleFunc(route.Method+" "+route.Pattern, answer)
	}
	mux.HandleFunc("/", answer)
	rec = httptest.NewRecorder()
	told := 0
	func() {
		defer func() { _ = recover() }()
		exchange.Serve(mux, rec, httptest.NewRequestWithContext(t.Context(), method, target, nil), func(e exchange.Exchange) { got, told = e, told+1 })
	}()
	if told != 1 {
		t.Fatalf("told %d times", told)
	}
	return got, rec
}

func TestAnExchangeIsToldInWordsNoCallerChooses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method, target string
		want           exchange.Exchange
	}{
		{"GET", "/jobs/8c5e", exchange.Exchange{Method: "GET", Route: "/jobs/{id}", Status: 418}},
		{"HEAD", "/jobs/8c5e?secret=1", exchange.Exchange{Method: "HEAD", Route: "/jobs/{id}", Status: 418}},
		{"POST", "/jobs", exchange.Exchange{Method: "POST", Route: "/jobs", Status: 418}},
		{"POST", "/jobs/a/cancel", exchange.Exchange{Method: "POST", Route: "/jobs/{id}/cancel", Status: 418}},
		{"OPTIONS", "/elsewhere", exchange.Exchange{Method: "OPTIONS", Route: exchange.Other, Status: 418}},
		{"BREW", "/jobs", exchange.Exchange{Method: exchange.Other, Route: exchange.Other, Status: 418}},
		{"GET", "/" + strings.Repeat("x", 1000), exchange.Exchange{Method: "GET", Route: exchange.Other, Status: 418}},
	}
	for _, tt := range tests {
		got, _ := serve(t, tt.method, tt.target, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		if got != tt.want {
			t.Errorf("%s %.40s: told %+v, want %+v", tt.method, tt.target, got, tt.want)
		}
		if got.Named() != (tt.want.Route != exchange.Other) {
			t.Errorf("%s %.40s: named %t", tt.method, tt.target, got.Named())
		}
	}
}

func TestTheStatusIsTheOneThatWasSent(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer http.HandlerFunc
		want   int
	}{
		"nothing written": {func(http.ResponseWriter, *http.Request) {}, 200},
		"a body alone": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "ok")
			w.WriteHeader(http.StatusInternalServerError)
		}, 200},
		"the first counts": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			w.WriteHeader(http.StatusInternalServerError)
		}, 404},
		"after an interim one": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusNotFound)
		}, 404},
		"aborted": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 500},
		"aborted after it": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			panic(http.ErrAbortHandler)
		}, 201},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, _ := serve(t, "POST", "/jobs", tt.answer); got.Status != tt.want {
				t.Errorf("told %d, want %d", got.Status, tt.want)
			}
		})
	}
}

func TestAPanicGoesOn(t *testing.T) {
	t.Parallel()
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // the very value
			t.Errorf("recovered %v", p)
		}
	}()
	abort := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	exchange.Serve(abort, httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), func(exchange.Exchange) {})
}

func TestTheConnectionCanBeControlled(t *testing.T) {
	t.Parallel()
	_, rec := serve(t, "GET", "/jobs", func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})
	if !rec.Flushed {
		t.Error("not flushed")
	}
}
