package domain

import "time"

// Identity names a caller: a subject is unique only within its issuer (RFC 7519 §4.1.2). The zero Identity belongs to
// jobs without an owner.
type Identity struct {
	Issuer  string
	Subject string
}

// SystemIssuer is the issuer of what no caller submitted: the owner of a job that another source's event became has that
// source as its subject. No token has it.
const SystemIssuer = "urn:jobgate:system"

// IsZero reports whether i names nobody.
func (i Identity) IsZero() bool { return i == Identity{} }

// Principal is a caller whose token was verified.
type Principal struct {
	Identity
	ClientID  string            // the OAuth client that the token was issued to; may be empty
	Scopes    []string          // what the token grants, in its own order
	TokenID   string            // the token's jti; may be empty
	Claims    map[string]string // further claims that the settings keep; usually nil
	ExpiresAt time.Time         // from when the token is refused, the verifier's leeway included; zero: never
}

// Expired reports whether the principal's token is to be refused at now.
func (p Principal) Expired(now time.Time) bool {
	return !p.ExpiresAt.IsZero() && !now.Before(p.ExpiresAt)
}
