package idp

import (
	"context"
	"net/http"
	"slices"

	httphelper "github.com/zitadel/oidc/v3/pkg/http"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// token is the token endpoint (RFC 6749 section 3.2). The library validates and
// signs; the answer is put together here, because its own gives id tokens the
// API's audience, with which they would pass for access tokens, and gives them
// to those who did not ask for one.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	w = challenge{w}
	resp, err := p.exchange(r)
	if err != nil {
		op.RequestError(w, r, err, nil)
		return
	}
	httphelper.MarshalJSON(w, resp)
}

func (p *Provider) exchange(r *http.Request) (*oidc.AccessTokenResponse, error) {
	ctx := r.Context()
	if r.URL.RawQuery != "" {
		return nil, errQuery()
	}
	switch grantType := r.PostFormValue("grant_type"); oidc.GrantType(grantType) {
	case oidc.GrantTypeCode:
		req, err := op.ParseAccessTokenRequest(r, p.op.Decoder())
		if err != nil {
			return nil, err
		}
		login, client, err := op.ValidateAccessTokenRequest(ctx, req, p.op)
		if err != nil {
			return nil, err
		}
		return p.respond(ctx, login, loginAtClient{login}, client, req.Code, "")
	case oidc.GrantTypeDeviceCode:
		return p.exchangeDevice(r)
	case oidc.GrantTypeRefreshToken:
		req, err := op.ParseRefreshTokenRequest(r, p.op.Decoder())
		if err != nil {
			return nil, err
		}
		refresh, client, err := op.ValidateRefreshTokenRequest(ctx, req, p.op)
		if err != nil {
			return nil, err
		}
		return p.respond(ctx, refresh, refreshAtClient{refresh}, client, "", req.RefreshToken)
	case oidc.GrantTypeClientCredentials:
		req, err := op.ParseClientCredentialsRequest(r, p.op.Decoder())
		if err != nil {
			return nil, err
		}
		grant, client, err := op.ValidateClientCredentialsRequest(ctx, req, p.op)
		if err != nil {
			return nil, err
		}
		return op.CreateClientCredentialsTokenResponse(ctx, grant, p.op, client)
	case "":
		return nil, oidc.ErrInvalidRequest().WithDescription("grant_type missing")
	default:
		return nil, oidc.ErrUnsupportedGrantType()
	}
}

func errQuery() error {
	return oidc.ErrInvalidRequest().WithDescription("parameters belong in the body, where no log keeps them")
}

// respond makes a user's tokens: of an access token for the API, a refresh
// token if the request allows one, and an id token for the client if asked for.
func (p *Provider) respond(ctx context.Context, api, own op.IDTokenRequest, client op.Client, code, refresh string) (*oidc.AccessTokenResponse, error) {
	access, next, validity, err := op.CreateAccessToken(ctx, api, client.AccessTokenType(), p.op, client, refresh)
	if err != nil {
		return nil, err
	}
	resp := &oidc.AccessTokenResponse{
		AccessToken:  access,
		TokenType:    oidc.BearerToken,
		RefreshToken: next,
		ExpiresIn:    uint64(validity.Seconds()),
		Scope:        api.GetScopes(),
	}
	if slices.Contains(api.GetScopes(), oidc.ScopeOpenID) {
		resp.IDToken, err = op.CreateIDToken(ctx, p.issuer, own, client.IDTokenLifetime(), access, code, p.store, client)
	}
	return resp, err
}

// loginAtClient and refreshAtClient are meant for the client, not for the API.
type loginAtClient struct{ op.AuthRequest }

func (l loginAtClient) GetAudience() []string { return []string{l.GetClientID()} }

type refreshAtClient struct{ op.RefreshTokenRequest }

func (r refreshAtClient) GetAudience() []string { return []string{r.GetClientID()} }

// challenge adds to a 401 the header that RFC 6749 section 5.2 asks for.
type challenge struct{ http.ResponseWriter }

func (c challenge) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		c.Header().Set("WWW-Authenticate", `Basic realm="jobgate"`)
	}
	c.ResponseWriter.WriteHeader(status)
}
