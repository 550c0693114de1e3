package sns

import (
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"

	"github.com/jobgate/jobgate/domain"
)

// translate classifies an error of Publish by its code.
// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html and
// https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html
func translate(err error) error {
	if err == nil {
		return nil
	}
	kind, reason, message := domain.Unavailable, domain.ReasonUnavailable, "the topic did not confirm the job"
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code := e.ErrorCode()
		_, throttle := retry.DefaultThrottleErrorCodes[code]
		switch {
		case throttle, code == "Throttled", code == "KMSThrottling":
			kind, reason, message = domain.Throttled, domain.ReasonThrottled, "the topic takes no more jobs at the moment"
		case code == "InvalidParameter" && strings.Contains(e.ErrorMessage(), "too long"):
			kind, reason, message = domain.TooLarge, domain.ReasonTooLarge, "the job's message is larger than the topic takes"
		case isSettings(code):
			kind, reason, message = domain.Internal, domain.ReasonInternal, "the topic refuses this program: "+code
		}
	}
	return domain.Wrap(err, kind, reason, "%s", message)
}

// isSettings reports whether the code tells of a fault that only a change of settings, keys or permissions mends.
// ExpiredToken is not among them: credentials that ran out are renewed.
func isSettings(code string) bool {
	switch code {
	case "NotFound", "ResourceNotFound", "InvalidParameter", "ParameterValueInvalid", "ValidationException", "InvalidSecurity",
		"AuthorizationError", "AccessDenied", "AccessDeniedException", "EndpointDisabled", "PlatformApplicationDisabled",
		"KMSAccessDenied", "KMSDisabled", "KMSInvalidState", "KMSNotFound", "KMSOptInRequired",
		"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "IncompleteSignature",
		"MissingAuthenticationToken", "NotAuthorized", "OptInRequired", "InvalidAction":
		return true
	default:
		return false
	}
}
