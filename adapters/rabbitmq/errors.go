package rabbitmq

import (
	"context"
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/domain"
)

var (
	errURL         = domain.Errorf(domain.Invalid, domain.ReasonInvalidFields, "the broker's URL is none, or not one of amqp:// or amqps://")
	errNotYet      = unavailable("the broker is not connected yet")
	errLost        = unavailable("the connection to the broker was lost")
	errClosed      = unavailable("the connection to the broker was closed")
	errRefused     = unavailable("the broker refused the job")
	errUnroutable  = unavailable("the broker had no queue for the job")
	errUnconfirmed = unavailable("the broker did not confirm in time")
	errBlocked     = unavailable("the broker is short of memory or disk and takes no jobs")
)

func unavailable(message string) *domain.Error {
	return domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "%s", message)
}

// translate is the one place that classifies the errors of the client and of the broker. It leaves a *domain.Error
// alone.
func translate(err error) error {
	if _, ok := errors.AsType[*domain.Error](err); ok || err == nil {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the broker did not confirm in time")
	}
	if e, ok := errors.AsType[*amqp.Error](err); ok && isSettings(e) {
		return domain.Wrap(err, domain.Internal, domain.ReasonInternal, "the broker refuses this program")
	}
	return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "%s", errLost.Message)
}

// translateClose is translate for what a closed channel tells, which is nothing when nobody said why.
func translateClose(err *amqp.Error) error {
	if err == nil {
		return errLost
	}
	return translate(err)
}

// translateDeclare is translate for the declaring of a queue.
func translateDeclare(err error, queue string) error {
	if e, ok := errors.AsType[*amqp.Error](err); ok && e.Code == amqp.PreconditionFailed {
		return domain.Wrap(err, domain.Internal, domain.ReasonInternal,
			"the queue %q is there with other arguments: name another queue, or delete it once it is empty", queue)
	}
	return translate(err)
}

// isSettings reports whether the broker said that only a change of settings or permissions will help
// (https://www.rabbitmq.com/amqp-0-9-1-reference#constants). What the client itself makes of a broken handshake, that the
// password was wrong, may as well be a broker that was killed.
func isSettings(err *amqp.Error) bool {
	if !err.Server {
		return false
	}
	switch err.Code {
	case amqp.InvalidPath, amqp.AccessRefused, amqp.NotFound, amqp.ResourceLocked, amqp.PreconditionFailed,
		amqp.SyntaxError, amqp.CommandInvalid, amqp.NotAllowed, amqp.NotImplemented:
		return true
	default:
		return false
	}
}
