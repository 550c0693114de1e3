package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/jobgate/jobgate/adapters/wire/problem"
	"github.com/jobgate/jobgate/domain"
)

// problemOf is the problem document of an error. Two refusals are HTTP's own and have more to say than their reason.
func problemOf(err error, requestID string) problem.Problem {
	if allow, ok := errors.AsType[allowed](err); ok {
		return problem.MethodNotAllowed(allow, requestID)
	}
	if domain.ReasonOf(err) == domain.ReasonUnsupportedMediaType {
		return problem.UnsupportedMediaType(mediaType, requestID)
	}
	return problem.From(err, requestID)
}

// allowed are the methods that a path has.
type allowed []string

func (a allowed) Error() string { return "this path takes " + strings.Join(a, ", ") }

func methodNotAllowed(allow []string) error {
	return domain.Wrap(allowed(allow), domain.Invalid, domain.ReasonMethodNotAllowed, "method not allowed")
}

func unsupportedMediaType() error {
	return domain.Errorf(domain.Invalid, domain.ReasonUnsupportedMediaType, "the body is not %s", mediaType)
}

func notFound() error {
	return domain.Errorf(domain.NotFound, domain.ReasonNotFound, "there is nothing at this path")
}

// unreadable translates the error of reading a request's body.
func unreadable(err error) error {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	return domain.Wrap(err, domain.Invalid, domain.ReasonMalformed, "the body could not be read to its end")
}

func tooLarge(limit int64) error {
	return domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "the body has more than %d bytes", limit)
}

func malformed(format string, args ...any) error {
	return domain.Errorf(domain.Invalid, domain.ReasonMalformed, format, args...)
}

func invalidQuery(format string, args ...any) error {
	return domain.Errorf(domain.Invalid, domain.ReasonInvalidQuery, format, args...)
}

func invalidKey(message string) error {
	return domain.Errorf(domain.Invalid, domain.ReasonInvalidKey, "%s", message)
}

func invalidFields(wrong []domain.FieldError) error {
	return &domain.Error{Kind: domain.Invalid, Reason: domain.ReasonInvalidFields, Message: "the job has invalid members", Fields: wrong}
}
