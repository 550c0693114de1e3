package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// minSecret is the least length of a secret in bytes: that of the hash (RFC 7518 §3.2).
const minSecret = 32

// SharedSecret is the mode of services whose issuer and verifiers share a secret. Whoever can verify such a token can
// make one. The only algorithm is HS256.
type SharedSecret struct {
	// Secrets are one secret, or two while the issuer goes from one to the other. A short one, of less than 32 bytes, can
	// be guessed from any token; AllowShort accepts it all the same and says so in the log.
	Secrets    []string
	AllowShort bool

	// Require are the claims that a token must have; nil: exp and sub. Without exp a token never expires; tokens without
	// sub share SharedSubject, and so their jobs.
	Require []string

	// As those of an Issuer, but that aud is not looked at when Audience is empty.
	Audience    []string
	Types       []string
	ScopeClaims []string
	ScopePrefix string
	Leeway      time.Duration
	MaxToken    int
	KeepClaims  []string
}

// NewSharedSecretVerifier returns a verifier of tokens that were signed with a shared secret. The issuer of a principal
// is the token's iss, and empty when it has none. The error names everything that is wrong with the settings.
func NewSharedSecretVerifier(s SharedSecret, opts Options) (*Verifier, error) {
	opts = opts.withDefaults()
	if s.Require == nil {
		s.Require = []string{"exp", "sub"}
	}
	if len(s.ScopeClaims) == 0 {
		s.ScopeClaims = defaultScopeClaims()
	}
	if s.MaxToken == 0 {
		s.MaxToken = defaultMaxToken
	}
	if problems := s.problems(); len(problems) > 0 {
		joined := make([]error, len(problems))
		for i, p := range problems {
			joined[i] = errors.New("shared secret: " + p)
		}
		return nil, errors.Join(joined...)
	}
	var set keySet
	var keys jwt.VerificationKeySet
	for _, secret := range s.Secrets {
		if len(secret) < minSecret {
			opts.Log("the shared secret is short enough to be guessed from a token", slog.Int("bytes", len(secret)), slog.Int("least", minSecret))
		}
		keys.Keys = append(keys.Keys, []byte(secret))
	}
	a := &authority{
		rules: rules{
			audience:    s.Audience,
			require:     s.Require,
			scopeClaims: s.ScopeClaims,
			scopePrefix: s.ScopePrefix,
			keepClaims:  s.KeepClaims,
			leeway:      s.Leeway,
		},
		methods:  map[string]jwt.SigningMethod{jwt.SigningMethodHS256.Alg(): jwt.SigningMethodHS256},
		maxToken: s.MaxToken,
		keys: func(context.Context, string, []byte) (*keySet, jwt.VerificationKeySet, error) {
			return &set, keys, nil
		},
		current: func(context.Context) (*keySet, error) { return &set, nil },
	}
	a.types, a.noType = acceptedTypes(s.Types)
	return &Verifier{shared: a, maxToken: s.MaxToken, now: opts.Now, memory: newMemory(opts.Remember), end: func() {}}, nil
}

// problems returns everything that is wrong with s. It never names a secret.
func (s SharedSecret) problems() []string {
	var problems []string
	if n := len(s.Secrets); n < 1 || n > 2 {
		problems = append(problems, "one secret is needed, or two while rotating")
	}
	for i, secret := range s.Secrets {
		switch {
		case secret == "":
			problems = append(problems, fmt.Sprintf("secret %d is empty", i+1))
		case len(secret) < minSecret && !s.AllowShort:
			problems = append(problems, fmt.Sprintf("secret %d has less than %d bytes", i+1, minSecret))
		case strings.Contains(secret, "-----BEGIN "):
			problems = append(problems, fmt.Sprintf("secret %d is a key or certificate in PEM, which others may know", i+1))
		}
	}
	if slices.Contains(s.Audience, "") || slices.Contains(s.Require, "") || slices.Contains(s.Types, "") ||
		slices.Contains(s.ScopeClaims, "") || slices.Contains(s.KeepClaims, "") {
		problems = append(problems, "an audience, a type or the name of a claim is empty")
	}
	return append(problems, boundProblems(s.MaxToken, s.Leeway)...)
}

// boundProblems returns what is wrong with the bounds that every verifier has.
func boundProblems(maxToken int, leeway time.Duration) []string {
	var problems []string
	if maxToken < 1 || maxToken > limitMaxToken {
		problems = append(problems, fmt.Sprintf("max token must be 1 to %d bytes", limitMaxToken))
	}
	if leeway < 0 || leeway > maxLeeway {
		problems = append(problems, fmt.Sprintf("leeway must be 0 to %v", maxLeeway))
	}
	return problems
}
