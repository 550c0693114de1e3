// Package bearer reads and writes the two HTTP header fields of bearer tokens (RFC 6750): Authorization and
// WWW-Authenticate.
package bearer

import (
	"errors"
	"slices"
	"strings"

	"github.com/jobgate/jobgate/domain"
)

// Token returns the token in the value of an Authorization field: the scheme Bearer in any case, one or more spaces,
// and a token68 (RFC 6750 §2.1, RFC 9110 §11.4). Errors are Unauthenticated: missing_token when there is no field or
// it has another scheme, invalid_token when what follows the scheme is no token. They hold no part of the value.
func Token(authorization string) (string, error) {
	// White space around a field's value is not part of it (RFC 9110 §5.5).
	scheme, token, _ := strings.Cut(strings.Trim(authorization, " \t"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return "", domain.Errorf(domain.Unauthenticated, domain.ReasonMissingToken, "there is no bearer token")
	}
	token = strings.TrimLeft(token, " ")
	if !isToken68(token) {
		return "", domain.Errorf(domain.Unauthenticated, domain.ReasonInvalidToken, "the bearer token is malformed")
	}
	return token, nil
}

// token68 has a bit for each byte of ASCII that may be in a token68, but for the "=" at its end.
var token68 = func() (set [2]uint64) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/") {
		set[c/64] |= 1 << (c % 64)
	}
	return set
}()

func isToken68(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || token68[c/64]>>(c%64)&1 == 0 {
			return false
		}
	}
	return s != ""
}

// Challenge returns the value of WWW-Authenticate (RFC 6750 §3) for the refusal err, or "" when a challenge would tell
// the caller nothing: a token that was good, and lacked no scope. It is a fixed text for each reason, but for the
// scopes that would have sufficed.
func Challenge(err error) string {
	const realm = `Bearer realm="jobgate"`
	e, ok := errors.AsType[*domain.Error](err)
	switch {
	case !ok:
		return ""
	case e.Kind == domain.Unauthenticated && (e.Reason == domain.ReasonMissingToken || e.Reason == domain.ReasonUnauthorized):
		return realm // §3.1: no error code for a request without authentication
	case e.Kind == domain.Unauthenticated:
		return realm + `, error="invalid_token", error_description="` + description(e.Reason) + `"`
	case e.Kind == domain.Forbidden && e.Reason == domain.ReasonInsufficientScope:
		challenge := realm + `, error="insufficient_scope"`
		if scopes := slices.DeleteFunc(slices.Clone(e.Scopes), unquotable); len(scopes) > 0 {
			challenge += `, scope="` + strings.Join(scopes, " ") + `"`
		}
		return challenge
	default:
		return ""
	}
}

func description(reason domain.Reason) string {
	switch reason {
	case domain.ReasonTokenExpired:
		return "the token has expired"
	case domain.ReasonInvalidClaims:
		return "the token is not meant for this service"
	case domain.ReasonInvalidSignature:
		return "the token has no valid signature"
	default:
		return "the token is not valid"
	}
}

// unquotable reports whether scope is no scope-token (RFC 6749 §3.3) and would break out of its quotes.
func unquotable(scope string) bool {
	return scope == "" || strings.ContainsFunc(scope, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
}
