package idp

import (
	"net/url"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// client is what the library asks about a Client.
type client struct {
	Client
	loginURL string
}

var _ op.Client = (*client)(nil)

func (c *client) public() bool { return c.Secret == "" }

// redirectsTo compares as strings (RFC 9700 section 4.1.3), but for the port of
// a loopback address (RFC 8252 section 7.3).
func (c *client) redirectsTo(uri string) bool {
	asked, err := url.Parse(uri)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(c.Client.RedirectURIs, func(registered string) bool {
		u, err := url.Parse(registered)
		if err != nil {
			return false
		}
		if port := asked.Port(); port != "" {
			u.Host += ":" + port
		}
		return u.String() == uri
	})
}

func (c *client) GetID() string                    { return c.ID }
func (c *client) RedirectURIs() []string           { return c.Client.RedirectURIs }
func (c *client) PostLogoutRedirectURIs() []string { return nil }
func (c *client) LoginURL(id string) string        { return c.loginURL + "?id=" + url.QueryEscape(id) }
func (c *client) IsScopeAllowed(scope string) bool { return slices.Contains(c.Scopes, scope) }
func (c *client) IDTokenLifetime() time.Duration   { return idLife }
func (c *client) ClockSkew() time.Duration         { return 0 }

// DevMode would allow redirects over http to other hosts.
func (c *client) DevMode() bool { return false }

// AccessTokenType is JWT: the jobs API verifies tokens by the key set, without asking
// the provider.
func (c *client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

// IDTokenUserinfoClaimsAssertion is false: profile claims are asked for at userinfo
// (OpenID Connect Core section 5.4).
func (c *client) IDTokenUserinfoClaimsAssertion() bool { return false }

func (c *client) ApplicationType() op.ApplicationType {
	if c.public() {
		return op.ApplicationTypeNative
	}
	return op.ApplicationTypeWeb
}

func (c *client) AuthMethod() oidc.AuthMethod {
	if c.public() {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodBasic
}

func (c *client) ResponseTypes() []oidc.ResponseType {
	if c.public() {
		return []oidc.ResponseType{oidc.ResponseTypeCode}
	}
	return nil
}

func (c *client) GrantTypes() []oidc.GrantType {
	if c.public() {
		return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken}
	}
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}

func (c *client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}

func (c *client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}
