package ports

import (
	"context"

	"github.com/jobgate/jobgate/domain"
)

// TokenVerifier tells who a bearer token speaks for.
type TokenVerifier interface {
	// Verify returns the principal of a token that an accepted issuer signed for this service and that is valid now.
	//
	// Errors: Unauthenticated with one of missing_token, invalid_token, invalid_claims, token_expired or
	// invalid_signature when the token will not do; Unavailable with keys_unavailable when the issuer's keys cannot be
	// had, so that nothing is known of the token. No error's Message holds any part of the token, a claim, a key id or
	// a URL. Verify is a pure check: the same token may be verified any number of times.
	Verify(ctx context.Context, token string) (domain.Principal, error)
}
