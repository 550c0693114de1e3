package oidc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

func (i Issuer) withDefaults() Issuer {
	if len(i.Algorithms) == 0 {
		for alg := range signingMethods() {
			i.Algorithms = append(i.Algorithms, alg)
		}
	}
	if len(i.ScopeClaims) == 0 {
		i.ScopeClaims = defaultScopeClaims()
	}
	if i.Refresh == 0 {
		i.Refresh = defaultRefresh
	}
	if i.MaxStale == 0 {
		i.MaxStale = max(defaultMaxStale, i.Refresh)
	}
	if i.MaxToken == 0 {
		i.MaxToken = defaultMaxToken
	}
	return i
}

// problems returns everything that is wrong with i.
func (i Issuer) problems() []string {
	var problems []string
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if strings.ContainsAny(i.Issuer, "{}") {
		wrong("is a template for many tenants: list the issuer of each tenant that is trusted")
	} else if err := checkURL(i.Issuer); err != nil {
		wrong("issuer %v", err)
	} else if strings.ContainsAny(i.Issuer, "?#") {
		wrong("issuer must have no query and no fragment (OpenID Connect Discovery 1.0 §3)")
	}
	if len(i.Audience) == 0 && len(i.ClientIDs) == 0 {
		wrong("audience or client ids are needed: else tokens meant for other services would be accepted")
	}
	if slices.Contains(i.Audience, "") || slices.Contains(i.ClientIDs, "") {
		wrong("an empty audience or client id matches nothing")
	}
	if i.AcceptIDTokens && len(i.ClientIDs) == 0 {
		wrong("client ids are needed to accept ID tokens: their audience is the client")
	}
	methods := signingMethods()
	for _, alg := range i.Algorithms {
		if methods[alg] == nil {
			wrong("%q is no algorithm that can be accepted; there are RS, PS and ES 256, 384 and 512, and EdDSA", alg)
		}
	}
	if i.JWKSURL != "" && i.JWKSFile != "" {
		wrong("keys come from a URL or from a file, not from both")
	}
	if i.JWKSURL != "" {
		if err := checkURL(i.JWKSURL); err != nil {
			wrong("JWKS URL %v", err)
		}
	}
	problems = append(problems, boundProblems(i.MaxToken, i.Leeway)...)
	if i.Refresh < minRefresh {
		wrong("refresh must be at least %v", minRefresh)
	}
	if i.MaxStale < i.Refresh {
		wrong("keys cannot be too stale before they are refreshed: max stale must be at least refresh")
	}
	if slices.Contains(i.Types, "") || slices.Contains(i.ScopeClaims, "") || slices.Contains(i.KeepClaims, "") {
		wrong("a type, scope claim or claim to keep must have a name")
	}
	return problems
}

// authority makes i work. Fetches end with base.
func (i Issuer) authority(base context.Context, opts Options) *authority {
	a := &authority{
		rules: rules{
			issuer:         i.Issuer,
			audience:       i.Audience,
			clientIDs:      i.ClientIDs,
			checkParties:   true,
			require:        []string{"exp", "sub"},
			acceptIDTokens: i.AcceptIDTokens,
			scopeClaims:    i.ScopeClaims,
			scopePrefix:    i.ScopePrefix,
			keepClaims:     i.KeepClaims,
			leeway:         i.Leeway,
		},
		methods:  make(map[string]jwt.SigningMethod, len(i.Algorithms)),
		maxToken: i.MaxToken,
	}
	a.types, a.noType = acceptedTypes(i.Types)
	methods := signingMethods()
	for _, alg := range i.Algorithms {
		a.methods[alg] = methods[alg]
	}
	a.source = newSource(base, i, opts)
	a.keys, a.current = a.source.find, a.source.current
	return a
}

// checkURL says what is wrong with the URL of an issuer or of its keys: it must be https, so that nobody on the way can
// put keys of their own in, or stay on this machine.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil:
		return fmt.Errorf("must be a URL like https://id.example.com")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u):
		return nil
	}
	return fmt.Errorf("must be https; plain http is for loopback hosts only")
}

func loopback(u *url.URL) bool {
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// sameOrigin reports whether a and b have the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return a.Scheme == b.Scheme && strings.EqualFold(net.JoinHostPort(a.Hostname(), port(a)), net.JoinHostPort(b.Hostname(), port(b)))
}

// acceptedTypes returns the typ headers to accept and whether there may be none. JWT is RFC 7519 §5.1, at+jwt RFC 9068
// §2.1.
func acceptedTypes(configured []string) (types []string, none bool) {
	if len(configured) == 0 {
		return []string{"jwt", "at+jwt"}, true
	}
	for _, typ := range configured {
		types = append(types, normalType(typ))
	}
	return types, false
}

// normalType returns typ in the form in which types are compared: without case, and without the application/ that a
// producer may leave out (RFC 7515 §4.1.9).
func normalType(typ string) string {
	typ = strings.ToLower(typ)
	if rest, ok := strings.CutPrefix(typ, "application/"); ok && !strings.Contains(rest, "/") {
		return rest
	}
	return typ
}

func defaultScopeClaims() []string { return []string{"scope", "scp", "scopes"} }
