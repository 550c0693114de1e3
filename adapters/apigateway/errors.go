package apigateway

import (
	"errors"
	"fmt"

	"github.com/jobgate/jobgate/domain"
)

// ErrUnauthorized is what an Authorizer answers for a missing or invalid token. API Gateway turns an error with exactly
// this message into a 401 and any other into a 500; see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html.
var ErrUnauthorized = errors.New("Unauthorized")

// malformedEvent is the error for an event that API Gateway would not send: a wrong setting, or somebody else calls.
// It has no cause: a decoder's error may quote the event, and Lambda logs what a function returns.
func malformedEvent(what string) error {
	return domain.Errorf(domain.Invalid, domain.ReasonMalformed, "malformed event: %s", what)
}

// fault is what an Authorizer answers when it could not decide. API Gateway's access log shows the message, so it has
// the two things that lead to the authorizer's own log line and no more.
func fault(d Decision) error { return fmt.Errorf("%s (decision %s)", d.Reason, d.ID) }
