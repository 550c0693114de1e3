package apigateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/adapters/wire/problem"
	"github.com/jobgate/jobgate/domain"
)

// maxResponse bounds an answer in bytes; see https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html:
// 6 MB for a synchronous invocation's response.
const maxResponse = 6 << 20

// A Proxy answers the events of a Lambda proxy integration with an http.Handler. It is safe for concurrent use.
type Proxy struct {
	handler http.Handler
	report  func(context.Context, error)
}

// NewProxy returns a Proxy in front of handler. report, when not nil, is told what the handler did wrong: a panic or a
// response that is too large, both of which the client sees as a 500.
func NewProxy(handler http.Handler, report func(context.Context, error)) *Proxy {
	if report == nil {
		report = func(context.Context, error) {}
	}
	return &Proxy{handler: handler, report: report}
}

// Invoke answers one proxy event, of payload 1.0 or 2.0, in the form that the event's version asks for. The error is
// not nil only for an event that API Gateway would not send.
func (p *Proxy) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	call, r, err := parseProxyEvent(ctx, event)
	if err != nil {
		return nil, err
	}
	w := &response{header: make(http.Header)}
	if r == nil {
		problem.Write(w, problem.From(domain.Errorf(domain.NotFound, domain.ReasonNotFound, "there is nothing at this path"), call.requestID))
	} else {
		w.head = r.Method == http.MethodHead
		err = p.serve(w, r)
	}
	var answer []byte
	if err == nil {
		answer, err = w.encode(call.version)
	}
	if err != nil {
		p.report(ctx, err)
		w = &response{header: make(http.Header)}
		problem.Write(w, problem.From(domain.Wrap(err, domain.Internal, domain.ReasonInternal, "internal error"), call.requestID))
		return w.encode(call.version)
	}
	return answer, nil
}

// serve runs the handler. A panic ends this request, not the process with its other state.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", v, debug.Stack())
		}
	}()
	p.handler.ServeHTTP(w, r)
	return nil
}

// A response collects what a handler writes.
type response struct {
	header http.Header // the handler's, until frozen
	frozen http.Header // as it was when the status was written
	status int
	body   bytes.Buffer
	head   bool
	err    error
}

var errTooLarge = errors.New("the handler's response exceeds 6 MB")

func (w *response) Header() http.Header { return w.header }

func (w *response) WriteHeader(status int) {
	if status < 200 || w.status != 0 { // API Gateway passes no informational responses on
		return
	}
	w.status, w.frozen = status, w.header.Clone()
	w.frozen.Del("Content-Length") // the gateway counts for itself
}

func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.status == http.StatusNoContent || w.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case w.head:
		return len(b), nil
	case w.err == nil && w.body.Len()+len(b) > maxResponse:
		w.err = errTooLarge
	}
	if w.err != nil {
		return 0, w.err
	}
	return w.body.Write(b)
}

func (w *response) encode(version string) ([]byte, error) {
	w.WriteHeader(http.StatusOK)
	if w.err != nil {
		return nil, w.err
	}
	// Text travels as it is; bytes that are none would be mangled in a JSON string.
	body, binary := w.body.String(), false
	if !utf8.ValidString(body) || w.frozen.Get("Content-Encoding") != "" {
		body, binary = base64.StdEncoding.EncodeToString(w.body.Bytes()), true
	}
	var v any
	if version == version2 {
		two := events.APIGatewayV2HTTPResponse{StatusCode: w.status, Headers: make(map[string]string), Body: body, IsBase64Encoded: binary}
		two.Cookies = w.frozen.Values("Set-Cookie") // the one header that a comma would break
		w.frozen.Del("Set-Cookie")
		for name, values := range w.frozen {
			two.Headers[name] = strings.Join(values, ", ")
		}
		v = two
	} else {
		v = events.APIGatewayProxyResponse{StatusCode: w.status, MultiValueHeaders: w.frozen, Body: body, IsBase64Encoded: binary}
	}
	answer, err := json.Marshal(v, json.Deterministic(true))
	if err == nil && len(answer) > maxResponse {
		err = errTooLarge
	}
	return answer, err
}
