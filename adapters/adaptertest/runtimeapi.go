package adaptertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// maxPayload is the most that an event or a response of a synchronous invocation may hold, in bytes.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	maxPayload = 6 << 20

	accepted = `{"status":"OK"}`
)

// runtimeAPI is the server side of the Lambda Runtime API, for one function, and as much of the Extensions API as
// a function needs that asks for SIGTERM.
//
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
type runtimeAPI struct {
	function string
	mux      *http.ServeMux
	next     chan *invocation // unbuffered: an event is either with the function or still the caller's
	polled   chan struct{}    // closed at the first poll
	ended    chan struct{}    // closed when the function takes no more events

	mu         sync.Mutex
	inFlight   map[string]*invocation
	isPolled   bool
	polledAt   time.Time // for the first time
	cause      error     // why it ended
	registered bool      // as an extension
}

// invocation is one event on its way.
type invocation struct {
	id      string
	event   []byte
	timeout time.Duration
	done    chan outcome // holds one: whoever takes the invocation out of inFlight sends it
}

type outcome struct {
	response []byte
	failure  *FunctionError
}

func newRuntimeAPI(function string) *runtimeAPI {
	a := &runtimeAPI{
		function: function,
		mux:      http.NewServeMux(),
		next:     make(chan *invocation),
		polled:   make(chan struct{}),
		ended:    make(chan struct{}),
		inFlight: map[string]*invocation{},
	}
	a.mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", a.serveNext)
	a.mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", a.serveResponse)
	a.mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", a.serveError)
	a.mux.HandleFunc("POST /2018-06-01/runtime/init/error", a.serveInitError)
	a.mux.HandleFunc("POST /2020-01-01/extension/register", a.serveRegister)
	a.mux.HandleFunc("GET /2020-01-01/extension/event/next", func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // an extension that registered for no event gets none
	})
	return a
}

func (a *runtimeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mux.ServeHTTP(w, r)
}

// invoke gives one event to the function. It calls kill when the function does not answer within timeout.
func (a *runtimeAPI) invoke(ctx context.Context, timeout time.Duration, event []byte, kill func()) ([]byte, *FunctionError, error) {
	if len(event) > maxPayload {
		return nil, nil, fmt.Errorf("the event has %d bytes; Lambda takes %d", len(event), maxPayload)
	}
	inv := &invocation{id: uuid.NewString(), event: event, timeout: timeout, done: make(chan outcome, 1)}
	select {
	case a.next <- inv:
	case <-a.ended:
		return nil, nil, a.cause
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}

	expired := time.NewTimer(timeout)
	defer expired.Stop()
	select {
	case out := <-inv.done:
		return out.response, out.failure, nil
	case <-expired.C:
		a.finish(inv.id, outcome{failure: &FunctionError{
			Type:    "Sandbox.Timedout",
			Message: fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", inv.id, timeout.Seconds()),
		}})
		kill()
		out := <-inv.done // the above, or an answer that came just before it
		return out.response, out.failure, nil
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
}

// finish settles an invocation that is in flight, and reports whether there is such a one.
func (a *runtimeAPI) finish(id string, out outcome) bool {
	a.mu.Lock()
	inv, ok := a.inFlight[id]
	delete(a.inFlight, id)
	a.mu.Unlock()
	if ok {
		inv.done <- out
	}
	return ok
}

// end says that the function takes no more events, unless that is known already. What it still had is lost.
func (a *runtimeAPI) end(cause func(init bool) error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cause == nil {
		a.cause = cause(!a.isPolled)
		close(a.ended)
	}
	for id, inv := range a.inFlight {
		delete(a.inFlight, id)
		inv.lose()
	}
}

// lose settles an invocation whose function ended. Only the taker of the invocation calls it.
func (inv *invocation) lose() {
	inv.done <- outcome{failure: &FunctionError{
		Type:    "Runtime.ExitError",
		Message: fmt.Sprintf("RequestId: %s Error: Runtime exited before it answered", inv.id),
	}}
}

func (a *runtimeAPI) ready(ctx context.Context) error {
	select {
	case <-a.polled:
		return nil
	case <-a.ended:
		if a.polledOnce() {
			return nil // it was ready, and is a matter for Invoke
		}
		return a.cause
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *runtimeAPI) polledOnce() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.isPolled
}

func (a *runtimeAPI) firstPoll() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.polledAt
}

func (a *runtimeAPI) wantsSIGTERM() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.registered
}

// serveNext waits for as long as there is no event: the runtime is told to set no timeout on this call.
func (a *runtimeAPI) serveNext(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	if !a.isPolled {
		a.isPolled, a.polledAt = true, time.Now()
		close(a.polled)
	}
	a.mu.Unlock()

	var inv *invocation
	select {
	case inv = <-a.next:
	case <-a.ended:
		return
	case <-r.Context().Done():
		return
	}
	a.mu.Lock()
	lost := a.cause != nil // between the poll and here
	if !lost {
		a.inFlight[inv.id] = inv
	}
	a.mu.Unlock()
	if lost {
		inv.lose()
		return
	}

	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(inv.timeout).UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:"+a.function)
	h.Set("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1")
	_, _ = w.Write(inv.event) // a function that is gone is noticed by its exit
}

func (a *runtimeAPI) serveResponse(w http.ResponseWriter, r *http.Request) {
	response, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
	var tooLarge *http.MaxBytesError
	switch id := r.PathValue("id"); {
	case errors.As(err, &tooLarge):
		a.finish(id, outcome{failure: &FunctionError{
			Type:    "Function.ResponseSizeTooLarge",
			Message: fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxPayload),
		}})
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge")
	case err != nil:
		refuse(w, http.StatusBadRequest, "InvalidRequest")
	case r.Trailer.Get("Lambda-Runtime-Function-Error-Type") != "":
		// A response that broke off while the function wrote it.
		a.accept(w, id, outcome{failure: &FunctionError{
			Type:    r.Trailer.Get("Lambda-Runtime-Function-Error-Type"),
			Message: r.Trailer.Get("Lambda-Runtime-Function-Error-Body"),
		}})
	default:
		a.accept(w, id, outcome{response: response})
	}
}

func (a *runtimeAPI) serveError(w http.ResponseWriter, r *http.Request) {
	failure, err := readFailure(w, r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest")
		return
	}
	a.accept(w, r.PathValue("id"), outcome{failure: failure})
}

func (a *runtimeAPI) serveInitError(w http.ResponseWriter, r *http.Request) {
	failure, err := readFailure(w, r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequest")
		return
	}
	a.end(func(bool) error {
		return fmt.Errorf("the function reported its init as failed: %s: %s", failure.Type, failure.Message)
	})
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, accepted)
}

func (a *runtimeAPI) serveRegister(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	a.registered = true
	a.mu.Unlock()
	w.Header().Set("Lambda-Extension-Identifier", uuid.NewString())
	_, _ = fmt.Fprintf(w, `{"functionName":%q,"functionVersion":"$LATEST","handler":"bootstrap"}`, a.function)
}

func (a *runtimeAPI) accept(w http.ResponseWriter, id string, out outcome) {
	if !a.finish(id, out) {
		refuse(w, http.StatusBadRequest, "InvalidRequestID")
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, accepted)
}

func readFailure(w http.ResponseWriter, r *http.Request) (*FunctionError, error) {
	var failure FunctionError
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPayload)).Decode(&failure)
	return &failure, err
}

func refuse(w http.ResponseWriter, status int, errorType string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errorType":%q,"errorMessage":"the runtime's call is refused"}`, errorType)
}
