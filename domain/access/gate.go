// Package access is the use case at the gate: who calls, and may they.
package access

import (
	"context"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Gate lets callers in. What it decides may be cached in front of the service, so the use cases behind it decide
// again, with the job's name and owner.
type Gate struct {
	Verifier ports.TokenVerifier
	Policy   domain.AccessPolicy
}

// Enter returns the principal that token speaks for. Errors are those of ports.TokenVerifier, and Unauthenticated
// with invalid_token for one whom the policy's deny list names.
func (g *Gate) Enter(ctx context.Context, token string) (domain.Principal, error) {
	who, err := g.Verifier.Verify(ctx, token)
	if err != nil {
		return domain.Principal{}, err
	}
	if g.Policy.Revokes(who.Identity, who.TokenID) {
		return domain.Principal{}, domain.Errorf(domain.Unauthenticated, domain.ReasonInvalidToken, "the token is no longer accepted")
	}
	return who, nil
}

// May decides whether who may take the action at all: on some job of theirs, or of anybody's where a rule says so.
func (g *Gate) May(who domain.Principal, action domain.Action) domain.Decision {
	return g.Policy.AtGate(who, action)
}
