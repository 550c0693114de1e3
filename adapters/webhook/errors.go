package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/jobgate/jobgate/domain"
)

var errNotAllowed = errors.New("the address is not on the public internet")

// A failure is an error in two parts: what the job's owner may read, and what only the operator may.
type failure struct {
	told  *domain.Error
	cause error
}

func (f *failure) Error() string { return f.told.Error() }
func (f *failure) Unwrap() error { return f.told }

// Cause returns what lies behind an error of a Handler, for the log alone: it may name addresses and quote the other
// side. nil when the error itself says all.
func Cause(err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.cause
	}
	return nil
}

// unanswered is the error of a call, with context ctx, that was not answered.
func unanswered(ctx context.Context, err error) error {
	return &failure{told: domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "%s", classify(ctx, err)), cause: err}
}

func classify(ctx context.Context, err error) string {
	_, unresolved := errors.AsType[*net.DNSError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	timed, _ := errors.AsType[net.Error](err)
	op, _ := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, errNotAllowed):
		return "the webhook's address is not allowed"
	case ctx.Err() != nil:
		return "the webhook did not answer in time"
	case unresolved:
		return "the webhook's host name could not be resolved"
	case timed != nil && timed.Timeout():
		return "the webhook did not answer in time"
	case noTLS, distrusted, op != nil && (op.Op == "local error" || op.Op == "remote error"): // of crypto/tls
		return "the webhook could not be reached by TLS"
	case op != nil && op.Op == "dial":
		return "the webhook could not be reached"
	default:
		return "the connection to the webhook broke"
	}
}
