package dynamodb

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/jobgate/jobgate/domain"
)

// retryAfter is long enough for DynamoDB to have split a hot partition's burst, and short enough for a client to wait.
const retryAfter = time.Second

// translate returns an error of the SDK as a *domain.Error. What is known by name or status is told apart by
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html; without an answer
// nothing is known.
func translate(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		if !errors.Is(err, ended) {
			err = errors.Join(ended, err)
		}
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the job store did not answer in time")
	}
	if metAnother(err) {
		return throttled(err)
	}
	if cancelled, ok := errors.AsType[*types.TransactionCanceledException](err); ok {
		for _, reason := range cancelled.CancellationReasons {
			if tooLarge(deref(reason.Message)) {
				return large(err)
			}
		}
		return refused(err)
	}
	answer, answered := errors.AsType[smithy.APIError](err)
	if !answered {
		_, invalid := errors.AsType[smithy.InvalidParamsError](err)
		_, unwritable := errors.AsType[*smithy.SerializationError](err)
		if invalid || unwritable {
			return refused(err)
		}
	}
	status := 0
	if resp, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = resp.HTTPStatusCode()
	}
	switch {
	case answered && throttles(answer.ErrorCode()), status == http.StatusTooManyRequests:
		return throttled(err)
	case !answered, status >= http.StatusInternalServerError, answer.ErrorFault() == smithy.FaultServer:
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the job store is not available")
	case answer.ErrorCode() == "ValidationException" && tooLarge(answer.ErrorMessage()):
		return large(err)
	default:
		return refused(err) // no such table, no permission, a request that DynamoDB does not understand
	}
}

func throttles(code string) bool {
	switch code {
	case "ProvisionedThroughputExceededException", "ThrottlingException", "Throttling", "RequestLimitExceeded", "LimitExceededException":
		return true
	}
	return false
}

// tooLarge knows a breach of the 400 KB that an item may have, which has no code of its own, by its message.
func tooLarge(message string) bool {
	return strings.HasPrefix(message, "Item size ") && strings.Contains(message, "exceeded the maximum allowed size")
}

// metAnother reports whether a write was refused for no fault of its own but because another was under way, or
// because of throttling inside a transaction.
func metAnother(err error) bool {
	if cancelled, ok := errors.AsType[*types.TransactionCanceledException](err); ok {
		met := false
		for _, reason := range cancelled.CancellationReasons {
			switch deref(reason.Code) {
			case "None", "":
			case "TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded":
				met = true
			default:
				return false
			}
		}
		return met
	}
	answer, ok := errors.AsType[smithy.APIError](err)
	return ok && (answer.ErrorCode() == "TransactionConflictException" || answer.ErrorCode() == "TransactionInProgressException")
}

// refusedBy reports whether err is a condition that was not met, and the item that did not meet it; nil when there
// is none or the answer does not show it.
func refusedBy(err error) (held item, refused bool) {
	if check, ok := errors.AsType[*types.ConditionalCheckFailedException](err); ok {
		return check.Item, true
	}
	if cancelled, ok := errors.AsType[*types.TransactionCanceledException](err); ok {
		for _, reason := range cancelled.CancellationReasons {
			if deref(reason.Code) == "ConditionalCheckFailed" {
				return reason.Item, true
			}
		}
	}
	return nil, false
}

func throttled(err error) error {
	e := domain.Wrap(err, domain.Throttled, domain.ReasonThrottled, "the job store is asked for too much at once")
	e.RetryAfter = retryAfter
	return e
}

// contended is for a record that others changed each time it was to be written.
func contended() error { return throttled(nil) }

func large(err error) error {
	return domain.Wrap(err, domain.TooLarge, domain.ReasonTooLarge, "the job does not fit the job store, whose records hold 400 KB")
}

func refused(err error) error {
	return domain.Wrap(err, domain.Internal, domain.ReasonInternal, "the job store refused the request")
}

// damaged is for a record that cannot be written or read as this package does.
func damaged(err error) error {
	return domain.Wrap(err, domain.Internal, domain.ReasonInternal, "a record of the job store cannot be read or written")
}

func notFound() error {
	return domain.Errorf(domain.NotFound, domain.ReasonNotFound, "there is no such job")
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
