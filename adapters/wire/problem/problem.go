// Package problem turns errors into HTTP problem documents (RFC 9457). It is the one place that knows a status code.
package problem

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/adapters/wire/bearer"
	"github.com/jobgate/jobgate/domain"
)

// ContentType is the media type of a problem document (RFC 9457 §6.1).
const ContentType = "application/problem+json"

// retryAfter is what Retry-After says when nothing is known of when a retry makes sense.
const retryAfter = 5 * time.Second

// A Problem is one problem document and the header fields that belong to it.
type Problem struct {
	Status    int
	Code      domain.Reason
	Title     string
	Detail    string
	RequestID string
	Errors    []domain.FieldError

	// DecisionID leads an operator from a refusal (401, 403) to the log line that has its reason.
	DecisionID string

	header http.Header // what goes with this problem alone
}

// From returns the problem that tells a caller of err, and no more than they may know: an error that is no
// *domain.Error, or an Internal one, shows nothing of itself; refusals and faults of a dependency are told in fixed
// texts by their reason. Only Invalid, Conflict and TooLarge carry the error's own message.
func From(err error, requestID string) Problem {
	e, ok := errors.AsType[*domain.Error](err)
	if !ok {
		e = &domain.Error{}
	}
	p := Problem{Status: status(e), Code: code(e), RequestID: requestID}
	switch e.Kind {
	case domain.Invalid:
		p.Detail, p.Errors = e.Message, e.Fields
	case domain.Conflict, domain.TooLarge:
		p.Detail = e.Message
	case domain.Unauthenticated, domain.Forbidden:
		p.set("WWW-Authenticate", bearer.Challenge(err))
	case domain.Throttled, domain.Unavailable:
		wait := e.RetryAfter
		if wait <= 0 {
			wait = retryAfter
		}
		p.set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	case domain.NotFound, domain.Internal:
	}
	p.describe()
	if p.Code == domain.ReasonInsufficientScope && len(e.Scopes) > 0 {
		p.Detail = "the token lacks the scope " + strings.Join(e.Scopes, " ")
	}
	return p
}

// MethodNotAllowed is the problem of a method that a known path does not have; allow lists those that it has.
func MethodNotAllowed(allow []string, requestID string) Problem {
	methods := strings.Join(allow, ", ")
	p := Problem{
		Status: http.StatusMethodNotAllowed, Code: domain.ReasonMethodNotAllowed, RequestID: requestID,
		Detail: "this path takes " + methods,
	}
	p.set("Allow", methods)
	p.describe()
	return p
}

// UnsupportedMediaType is the problem of a request whose body is not of the media type accept.
func UnsupportedMediaType(accept, requestID string) Problem {
	p := Problem{
		Status: http.StatusUnsupportedMediaType, Code: domain.ReasonUnsupportedMediaType, RequestID: requestID,
		Detail: "the body must be " + accept + " and the Content-Type must say so",
	}
	p.set("Accept", accept) // RFC 9110 §12.5.1
	p.describe()
	return p
}

func (p *Problem) set(name, value string) {
	if value == "" {
		return
	}
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
}

// status is the status code of an error's kind and reason.
func status(e *domain.Error) int {
	switch e.Kind {
	case domain.Invalid:
		switch e.Reason {
		case domain.ReasonMalformed, domain.ReasonInvalidQuery, domain.ReasonInvalidKey:
			return http.StatusBadRequest
		case domain.ReasonInvalidFields, domain.ReasonKeyReused:
			return http.StatusUnprocessableEntity
		}
		if len(e.Fields) > 0 {
			return http.StatusUnprocessableEntity
		}
		return http.StatusBadRequest
	case domain.Unauthenticated:
		return http.StatusUnauthorized
	case domain.Forbidden:
		return http.StatusForbidden
	case domain.NotFound:
		return http.StatusNotFound
	case domain.Conflict:
		return http.StatusConflict
	case domain.TooLarge:
		return http.StatusRequestEntityTooLarge
	case domain.Throttled:
		return http.StatusTooManyRequests
	case domain.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// code is the error's reason; an Internal error's is not the caller's business.
func code(e *domain.Error) domain.Reason {
	if e.Reason != "" && status(e) != http.StatusInternalServerError {
		return e.Reason
	}
	switch e.Kind {
	case domain.Invalid:
		return domain.ReasonMalformed
	case domain.Unauthenticated:
		return domain.ReasonInvalidToken
	case domain.Forbidden:
		return domain.ReasonForbidden
	case domain.NotFound:
		return domain.ReasonNotFound
	case domain.Conflict:
		return domain.ReasonConflict
	case domain.TooLarge:
		return domain.ReasonTooLarge
	case domain.Throttled:
		return domain.ReasonThrottled
	case domain.Unavailable:
		return domain.ReasonUnavailable
	default:
		return domain.ReasonInternal
	}
}

// texts are the title of each problem type, and its detail where the error has none that may be told.
var texts = map[domain.Reason]struct{ title, detail string }{
	domain.ReasonMalformed:            {"Malformed request", "the request cannot be read"},
	domain.ReasonInvalidFields:        {"Invalid members", "some members of the request are invalid"},
	domain.ReasonInvalidQuery:         {"Invalid query", "the query cannot be read"},
	domain.ReasonInvalidKey:           {"Invalid Idempotency-Key", "an Idempotency-Key is 1 to 255 visible ASCII characters"},
	domain.ReasonKeyReused:            {"Idempotency-Key reused", "another request was sent with this Idempotency-Key"},
	domain.ReasonMissingToken:         {"Token missing", "send a bearer token in the Authorization header"},
	domain.ReasonInvalidToken:         {"Token invalid", "the token is not valid"},
	domain.ReasonInvalidClaims:        {"Token not accepted", "the token is not meant for this service"},
	domain.ReasonTokenExpired:         {"Token expired", "the token has expired; get a new one"},
	domain.ReasonInvalidSignature:     {"Token signature invalid", "the token has no valid signature"},
	domain.ReasonUnauthorized:         {"Unauthorized", "send a valid bearer token in the Authorization header"},
	domain.ReasonInsufficientScope:    {"Scope missing", "the token lacks a scope"},
	domain.ReasonForbidden:            {"Not allowed", "the access policy does not allow this"},
	domain.ReasonNotFound:             {"Not found", "there is nothing here, or nothing that you may see"},
	domain.ReasonMethodNotAllowed:     {"Method not allowed", ""},
	domain.ReasonUnsupportedMediaType: {"Unsupported media type", ""},
	domain.ReasonConflict:             {"Conflict", "the job's state does not allow this"},
	domain.ReasonFinished:             {"Job finished", "the job has finished"},
	domain.ReasonNotRedrivable:        {"Job cannot be redriven", "only dead and cancelled jobs are redriven"},
	domain.ReasonTooLarge:             {"Too large", "the request is too large"},
	domain.ReasonThrottled:            {"Too many requests", "too much at once; try again after the time in Retry-After"},
	domain.ReasonUnavailable:          {"Temporarily unavailable", "a part that is needed here did not answer; try again after the time in Retry-After"},
	domain.ReasonDispatchFailed:       {"Job not dispatched", "the job could not be handed over; try again after the time in Retry-After"},
	domain.ReasonKeysUnavailable:      {"Token cannot be checked", "the issuer's keys cannot be had at the moment; try again after the time in Retry-After"},
	domain.ReasonInternal:             {"Internal error", "this is a fault of the service, not of the request; its log has the cause under the request_id"},
}

// describe fills in the texts of the problem's code. A reason that no text was written for gets its status's.
func (p *Problem) describe() {
	text := texts[p.Code]
	if text.title == "" {
		text.title = http.StatusText(p.Status)
	}
	p.Title = text.title
	if p.Detail == "" {
		p.Detail = text.detail
	}
}

// Type is the problem type: a URI that identifies, compared as a string, and does not locate. A URN needs no host
// name that somebody has to own and keep up, and reads the same at every deployment, which a relative reference or a
// deployment's own URL would not.
func (p Problem) Type() string { return "urn:jobgate:problem:" + string(p.Code) }

// Marshal returns the document.
func (p Problem) Marshal() []byte {
	type fieldError struct {
		Pointer string `json:"pointer"`
		Detail  string `json:"detail"`
	}
	document := struct {
		Type      string        `json:"type"`
		Title     string        `json:"title"`
		Status    int           `json:"status"`
		Detail    string        `json:"detail,omitzero"`
		Code      domain.Reason `json:"code"`
		RequestID string        `json:"request_id,omitzero"`
		Decision  string        `json:"decision_id,omitzero"`
		Errors    []fieldError  `json:"errors,omitzero"`
	}{Type: p.Type(), Title: p.Title, Status: p.Status, Detail: p.Detail, Code: p.Code, RequestID: p.RequestID, Decision: p.DecisionID}
	for _, e := range p.Errors {
		document.Errors = append(document.Errors, fieldError(e))
	}
	body, err := json.Marshal(document, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("problem: strings and numbers do not encode: " + err.Error())
	}
	return body
}

// Header returns the header fields of a response that tells the problem: those of the document, and those that the
// problem itself calls for (WWW-Authenticate, Retry-After, Allow, Accept).
func (p Problem) Header() http.Header {
	h := p.header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	return h
}

// Write answers a request with the problem.
func Write(w http.ResponseWriter, p Problem) {
	body := p.Marshal()
	maps.Copy(w.Header(), p.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // a client that is gone is not told
}
