// Package httpapi is the REST API on net/http. What it serves is domain.Routes; openapi.json, which it serves too, is
// the contract that its tests hold every answer against.
package httpapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/jobgate/jobgate/adapters/wire/problem"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// DefaultMaxBody bounds a request's body where Options does not: 240 KiB, as much as the largest payload. An SNS
// message, which carries the payload and an envelope, holds 256 KiB
// (https://docs.aws.amazon.com/sns/latest/api/API_Publish.html).
const DefaultMaxBody = domain.MaxPayload

// Options are what an API needs. Submit, Query, Change and Identify must be set.
type Options struct {
	Submit *jobs.Submit
	Query  *jobs.Query
	Change *jobs.Change

	// Identify tells who a request speaks for: by its bearer token, or by what a gateway in front found out. Its error
	// is the answer. It is asked before anything else about a request to a known path and method is looked at, unless
	// the route is public.
	Identify func(*http.Request) (domain.Principal, error)

	// RequestID returns the id that a request is known by in logs, and that its answer bears as X-Request-Id. nil, or
	// an empty id: a random one.
	RequestID func(*http.Request) string

	// DecisionID returns the id of the decision that let a request in to here, which a 401 or 403 bears as decision_id and
	// the log of the gate has too; none is borne where it is empty. nil, where the request is decided here: its own id.
	DecisionID func(*http.Request) string

	// Prefix returns what a proxy in front cut off the path, a stage or a base path, with a leading and without a
	// trailing slash: Location begins with it. nil: nothing.
	Prefix func(*http.Request) string

	// CORSOrigin may read the answers: one origin, or * for any. It is a constant, whatever Origin a request names, and
	// credentials are never allowed: a bearer token is sent by script, not by the browser. Empty leaves CORS out.
	CORSOrigin string

	// MaxBody bounds a request's body in bytes; 0 is DefaultMaxBody. The payload and the rest of its document share it.
	MaxBody int64

	// Log is told why a request was answered with a problem document. nil: nobody is.
	Log func(context.Context, Failure)
}

// A Failure is a request that was answered with a problem document.
type Failure struct {
	RequestID  string
	DecisionID string // of a 401 or 403
	Method     string
	Route      string // pattern of the route table, empty for a path that is not there: a label that no caller can choose
	Status     int
	Err        error // why, with causes that its caller was not shown; it may quote a member or parameter's name
}

// New returns a handler that answers every request: with what a route has to say, or with a problem document. It
// panics only with http.ErrAbortHandler, and may be used by any number of requests at once. Bounds of time are the
// server's: the request's context is that of all that is done for it.
func New(opts Options) http.Handler {
	if opts.MaxBody == 0 {
		opts.MaxBody = DefaultMaxBody
	}
	a := &api{Options: opts, mux: http.NewServeMux()}
	endpoints := map[string]endpoint{
		"POST /jobs":              a.submit,
		"GET /jobs":               a.list,
		"GET /jobs/{id}":          a.get,
		"POST /jobs/{id}/cancel":  a.change(a.Change.Cancel),
		"POST /jobs/{id}/redrive": a.change(a.Change.Redrive),
		"GET /openapi.json":       describe,
	}
	paths := map[string]methods{}
	for _, route := range domain.Routes {
		serve := endpoints[route.Method+" "+route.Pattern]
		if serve == nil {
			panic("httpapi: the route table has " + route.Method + " " + route.Pattern + ", which nothing here serves")
		}
		if !route.Public {
			serve = a.identified(serve)
		}
		if paths[route.Pattern] == nil {
			paths[route.Pattern] = methods{}
		}
		paths[route.Pattern][route.Method] = serve
	}
	for pattern, served := range paths {
		a.mux.Handle(pattern, a.answer(pattern, a.preflight(served)))
	}
	a.unknown = a.answer("", func(http.ResponseWriter, *http.Request, domain.Principal) error { return notFound() })
	a.mux.Handle("/", a.unknown)
	return a
}

type api struct {
	Options
	mux     *http.ServeMux
	unknown http.Handler
}

// An endpoint writes the answer to a request, or returns the error that is the answer and has written nothing.
type endpoint func(w http.ResponseWriter, r *http.Request, who domain.Principal) error

// ServeHTTP answers one request. The mux would redirect a path that cleaning changes; here it is one that does not
// exist, because what stands in front may have decided about it as it was sent.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sent := r.URL.EscapedPath()
	if sent == "" || sent[0] != '/' || path.Clean(sent) != sent {
		a.unknown.ServeHTTP(w, r)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// answer makes a handler of an endpoint: it sets what every answer bears, and turns errors and panics into problem
// documents.
func (a *api) answer(route string, serve endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := ""
		if a.RequestID != nil {
			id = a.RequestID(r)
		}
		if id == "" {
			id = rand.Text()
		}
		h := w.Header()
		h.Set("X-Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if a.CORSOrigin != "" {
			h.Set("Access-Control-Allow-Origin", a.CORSOrigin)
			h.Set("Access-Control-Expose-Headers", "Idempotent-Replayed, Location, Retry-After, WWW-Authenticate, X-Request-Id")
		}
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				a.fail(w, r, id, route, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
			}
		}()
		if err := serve(w, r, domain.Principal{}); err != nil {
			a.fail(w, r, id, route, err)
		}
	})
}

func (a *api) fail(w http.ResponseWriter, r *http.Request, id, route string, err error) {
	p := problemOf(err, id)
	if p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden {
		if p.DecisionID = id; a.DecisionID != nil {
			p.DecisionID = a.DecisionID(r)
		}
	}
	if a.Log != nil {
		a.Log(r.Context(), Failure{RequestID: id, DecisionID: p.DecisionID, Method: r.Method, Route: route, Status: p.Status, Err: err})
	}
	problem.Write(w, p)
}

// identified asks who calls before the endpoint looks at anything.
func (a *api) identified(serve endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request, _ domain.Principal) error {
		who, err := a.Identify(r)
		if err != nil {
			return err
		}
		return serve(w, r, who)
	}
}

// preflight answers what a browser asks before a request of another origin's page, where one may read the answers.
func (a *api) preflight(served methods) endpoint {
	return func(w http.ResponseWriter, r *http.Request, who domain.Principal) error {
		if a.CORSOrigin == "" || r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			return served.serve(w, r, who)
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Methods", strings.Join(slices.Sorted(maps.Keys(served)), ", "))
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Traceparent")
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

// methods are the endpoints of one path.
type methods map[string]endpoint

// serve takes HEAD for GET: whoever writes the answer out leaves its body away.
func (m methods) serve(w http.ResponseWriter, r *http.Request, who domain.Principal) error {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if serve := m[method]; serve != nil {
		return serve(w, r, who)
	}
	allow := slices.Collect(maps.Keys(m))
	if m[http.MethodGet] != nil {
		allow = append(allow, http.MethodHead)
	}
	slices.Sort(allow)
	return methodNotAllowed(allow)
}
