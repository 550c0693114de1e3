package localgateway

import (
	"net/http"

	"github.com/jobgate/jobgate/adapters/wire/bearer"
	"github.com/jobgate/jobgate/adapters/wire/problem"
	"github.com/jobgate/jobgate/domain"
)

// malformed is the error for a function's output that cannot be read.
func malformed(cause error, what string) error {
	return domain.Wrap(cause, domain.Internal, domain.ReasonInternal, "malformed %s", what)
}

// The gateway responses: how each of API Gateway's own refusals looks. Their names are AWS's response types; see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html.

// unauthorized is UNAUTHORIZED. A template cannot tell the cases apart, so the challenge says that a token is needed.
func unauthorized(id string) (problem.Problem, http.Header) {
	err := domain.Errorf(domain.Unauthenticated, domain.ReasonUnauthorized, "")
	p := problem.From(err, id)
	return p, http.Header{"Www-Authenticate": {bearer.Challenge(err)}}
}

// accessDenied is ACCESS_DENIED, with the id that leads to the authorizer's log line.
func accessDenied(id, decision string) problem.Problem {
	p := problem.From(domain.Errorf(domain.Forbidden, domain.ReasonForbidden, ""), id)
	p.DecisionID = decision
	return p
}

// authorizerFailed is AUTHORIZER_FAILURE and AUTHORIZER_CONFIGURATION_ERROR, which AWS answers with 500: nothing is
// known of the token, and a retry may find out.
func authorizerFailed(id string) problem.Problem {
	return problem.From(domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, ""), id)
}

// notFound is RESOURCE_NOT_FOUND, and MISSING_AUTHENTICATION_TOKEN, which AWS answers with 403 for an unknown path or method.
func notFound(id string) problem.Problem {
	return problem.From(domain.Errorf(domain.NotFound, domain.ReasonNotFound, ""), id)
}

// badRequest is DEFAULT_4XX for a request that API Gateway itself cannot read.
func badRequest(id string) problem.Problem {
	return problem.From(domain.Errorf(domain.Invalid, domain.ReasonMalformed, ""), id)
}

// tooLarge is REQUEST_TOO_LARGE, or a request line or header over its bound, with the status that says which.
func tooLarge(id string, status int) problem.Problem {
	p := problem.From(domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, ""), id)
	p.Status = status
	return p
}

// integrationFailed is INTEGRATION_FAILURE (502) and INTEGRATION_TIMEOUT (504).
func integrationFailed(id string, status int) problem.Problem {
	p := problem.From(domain.Errorf(domain.Internal, domain.ReasonInternal, ""), id)
	p.Status = status
	return p
}
