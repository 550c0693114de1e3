// Package exchange says what came of an HTTP request in words that no caller can choose, for metrics and traces.
package exchange

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/jobgate/jobgate/domain"
)

// Other stands for every method and path that is none of domain.Routes'.
const Other = "other"

// An Exchange is a request and its answer.
type Exchange struct {
	Method string // of domain.Routes, HEAD or OPTIONS; or Other
	Route  string // pattern of domain.Routes, or Other
	Status int    // 500 when the request was aborted before there was one
}

// Named reports whether the exchange was with a route of domain.Routes, whatever its method.
func (e Exchange) Named() bool { return e.Route != Other }

// Serve has next answer the request and tells what came of it. next, or what it hands this very request to, is an
// http.ServeMux. A panic of next is told of, too, and goes on.
func Serve(next http.Handler, w http.ResponseWriter, r *http.Request, told func(Exchange)) {
	answer := &recorder{ResponseWriter: w}
	unanswered := http.StatusInternalServerError
	defer func() {
		told(Exchange{Method: method(r.Method), Route: route(r.Pattern), Status: cmp.Or(answer.status, unanswered)})
	}()
	next.ServeHTTP(answer, r)
	unanswered = http.StatusOK // as net/http has it
}

func method(m string) string {
	if m == http.MethodHead || m == http.MethodOptions || slices.ContainsFunc(domain.Routes, func(r domain.Route) bool { return r.Method == m }) {
		return m
	}
	return Other
}

func route(pattern string) string {
	if _, path, ok := strings.Cut(pattern, " "); ok {
		pattern = path
	}
	if slices.ContainsFunc(domain.Routes, func(r domain.Route) bool { return r.Pattern == pattern }) {
		return pattern
	}
	return Other
}

// recorder remembers the first status that is no interim one (RFC 9110 §15.2).
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
