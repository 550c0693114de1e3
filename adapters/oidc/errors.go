package oidc

import (
	"errors"
	"fmt"
	"time"

	"github.com/jobgate/jobgate/domain"
)

// refused is an Unauthenticated error. why is for the log: it may say which check failed, never what a token claims.
func refused(reason domain.Reason, why string, args ...any) error {
	return domain.Wrap(fmt.Errorf(why, args...), domain.Unauthenticated, reason, "%s", message(reason))
}

// message is all that a caller is told besides the reason.
func message(reason domain.Reason) string {
	switch reason {
	case domain.ReasonMissingToken:
		return "a bearer token is needed"
	case domain.ReasonInvalidClaims:
		return "the token is not meant for this service"
	case domain.ReasonTokenExpired:
		return "the token has expired"
	case domain.ReasonInvalidSignature:
		return "the signature of the token does not verify"
	default:
		return "the token is malformed or of a kind that is not accepted"
	}
}

// keysUnavailable is the error of a token about which nothing is known.
func keysUnavailable(cause error, retryAfter time.Duration) error {
	err := domain.Wrap(cause, domain.Unavailable, domain.ReasonKeysUnavailable, "tokens cannot be verified at the moment")
	err.RetryAfter = retryAfter
	return err
}

// keyError turns why a set has no key for a token into the error to return.
func keyError(err error, kid []byte) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoKey):
		return keysUnavailable(err, cooldown)
	case errors.Is(err, errNoKid):
		return refused(domain.ReasonInvalidToken, "%w", err)
	default:
		return refused(domain.ReasonInvalidSignature, "%w: %q", err, cutKid(string(kid)))
	}
}

// cutKid returns as much of a kid, which anybody may have written, as may go to the log.
func cutKid(kid string) string {
	if runes := []rune(kid); len(runes) > maxLoggedKid {
		return string(runes[:maxLoggedKid])
	}
	return kid
}
