package ssm

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/domain"
)

var (
	errNotFound   error = domain.Errorf(domain.NotFound, domain.ReasonNotFound, "there is no such parameter, or no such version of it")
	errUnreadable error = domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "the answer of Parameter Store cannot be read")
)

func missing(variable string) error {
	return domain.Errorf(domain.Internal, domain.ReasonInternal, "%s is not set, without which Parameter Store cannot be asked", variable)
}

// translate classifies an error of the way to Parameter Store and back.
func translate(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "Parameter Store cannot be reached")
}

// refusal classifies an answer that is no success by its code, and keeps nothing of the message, which may hold a name.
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html and
// https://docs.aws.amazon.com/systems-manager/latest/APIReference/CommonErrors.html
func refusal(status int, body []byte) error {
	var doc struct {
		Type string `json:"__type"`
	}
	_ = json.Unmarshal(body, &doc) // without a code, the status has to do
	code := doc.Type[strings.LastIndexByte(doc.Type, '#')+1:]
	switch code {
	case "ParameterNotFound", "ParameterVersionNotFound":
		return errNotFound
	case "AccessDeniedException", "AccessDenied":
		return domain.Errorf(domain.Forbidden, domain.ReasonForbidden, "this program may not read it: its role needs ssm:GetParameters "+
			"on it, kms:Decrypt on a key of yours, and secretsmanager:GetSecretValue on a secret")
	case "InvalidKeyId":
		return domain.Errorf(domain.Forbidden, domain.ReasonForbidden, "the key that it is encrypted with cannot be used")
	case "ValidationException":
		return domain.Errorf(domain.Invalid, domain.ReasonMalformed, "it is no name of a parameter")
	case "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException":
		return domain.Errorf(domain.Throttled, domain.ReasonThrottled, "Parameter Store takes no more calls at the moment")
	case "UnrecognizedClientException", "InvalidSignatureException", "IncompleteSignature", "ExpiredTokenException", "InvalidClientTokenId",
		"MissingAuthenticationToken", "OptInRequired":
		return domain.Errorf(domain.Internal, domain.ReasonInternal, "Parameter Store does not accept the credentials: %s", code)
	}
	switch {
	case status >= http.StatusInternalServerError:
		return domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "Parameter Store failed with status %d", status)
	case status == http.StatusTooManyRequests:
		return domain.Errorf(domain.Throttled, domain.ReasonThrottled, "Parameter Store takes no more calls at the moment")
	default:
		return domain.Errorf(domain.Internal, domain.ReasonInternal, "Parameter Store refuses the call with status %d", status)
	}
}
