package sqs

import (
	"errors"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/jobgate/jobgate/domain"
)

// translate classifies an error by its code and status.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
func translate(err error) error {
	if err == nil {
		return nil
	}
	kind, reason, message := domain.Unavailable, domain.ReasonUnavailable, "the queue did not confirm"
	status := 0
	if resp, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = resp.HTTPStatusCode()
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		_, throttle := retry.DefaultThrottleErrorCodes[e.ErrorCode()]
		switch {
		case throttle, e.ErrorCode() == "KmsThrottled":
			kind, reason, message = domain.Throttled, domain.ReasonThrottled, "the queue is asked for too much at once"
		case status < http.StatusInternalServerError && e.ErrorCode() != "ExpiredToken": // credentials that ran out are renewed
			kind, reason, message = domain.Internal, domain.ReasonInternal, "the queue refuses this program: "+e.ErrorCode()
		}
	}
	return domain.Wrap(err, kind, reason, "%s", message)
}

// tooLong reports whether the queue takes only shorter messages than this one. There is no code of its own for that.
func tooLong(err error) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return ok && strings.Contains(e.ErrorMessage(), "must be shorter than")
}
