package oidc_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

// What tokens of real providers look like, and what settings they need.
func TestSettingsDecideWhatATokenIsGoodFor(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("k", "ES256", 0)
	source := &oidctest.Issuer{}
	source.Publish(key)
	type object = oidctest.Object
	with := func(change func(*oidc.Issuer)) func(*oidc.Issuer) { return change }
	audience := with(func(*oidc.Issuer) {})
	clients := with(func(i *oidc.Issuer) { i.Audience, i.ClientIDs = nil, []string{oidctest.Client} })
	both := with(func(i *oidc.Issuer) { i.ClientIDs = []string{oidctest.Client} })
	idTokens := with(func(i *oidc.Issuer) { i.ClientIDs, i.AcceptIDTokens = []string{oidctest.Client}, true })
	for name, c := range map[string]struct {
		settings func(*oidc.Issuer)
		header   object
		claims   object
		want     domain.Reason
		client   string
		scopes   []string
		kept     map[string]string
	}{
		"Cognito's access token has no aud": {
			settings: with(func(i *oidc.Issuer) { clients(i); i.ScopePrefix = "jobgate/" }),
			claims:   object{"aud": nil, "token_use": "access", "scope": "openid jobgate/jobs:read jobgate/ other/jobs:admin jobs:admin"},
			client:   oidctest.Client, scopes: []string{"jobs:read"},
		},
		"Cognito's access token for another client": {settings: clients, claims: object{"aud": nil, "client_id": "other"}, want: domain.ReasonInvalidClaims},
		"no aud and no client":                      {settings: clients, claims: object{"aud": nil, "client_id": nil}, want: domain.ReasonInvalidClaims},
		"an aud that is there must match":           {settings: clients, want: domain.ReasonInvalidClaims},
		"client ids are checked beside aud":         {settings: both, claims: object{"client_id": "other"}, want: domain.ReasonInvalidClaims},
		"client ids and aud match":                  {settings: both, client: oidctest.Client, scopes: []string{"jobs:submit", "jobs:read"}},
		"a client id that begins alike":             {settings: both, claims: object{"client_id": oidctest.Client + "0"}, want: domain.ReasonInvalidClaims},
		"the client for an aud, and no ID tokens":   {settings: both, claims: object{"aud": oidctest.Client}, want: domain.ReasonInvalidClaims},
		"azp comes before client_id":                {settings: both, claims: object{"azp": "other"}, want: domain.ReasonInvalidClaims},
		"Entra ID v1 has appid":                     {settings: both, claims: object{"client_id": nil, "appid": oidctest.Client, "scope": nil, "scp": "jobs:read"}, client: oidctest.Client, scopes: []string{"jobs:read"}},
		"Entra ID app-only has roles":               {settings: with(func(i *oidc.Issuer) { i.ScopeClaims = []string{"scp", "roles"} }), claims: object{"scope": nil, "roles": []string{"jobs:submit"}}, client: oidctest.Client, scopes: []string{"jobs:submit"}},
		"Okta has cid and a list":                   {settings: both, claims: object{"client_id": nil, "cid": oidctest.Client, "scope": nil, "scp": []string{"jobs:read", "jobs:submit"}}, client: oidctest.Client, scopes: []string{"jobs:read", "jobs:submit"}},
		"scopes are never merged":                   {settings: audience, claims: object{"scope": "jobs:read", "scp": []string{"jobs:admin"}, "scopes": "jobs:admin"}, client: oidctest.Client, scopes: []string{"jobs:read"}},
		"the third scope claim":                     {settings: audience, claims: object{"scope": nil, "scopes": []string{"jobs:read"}}, client: oidctest.Client, scopes: []string{"jobs:read"}},
		"an empty scope hides the next":             {settings: audience, claims: object{"scope": "", "scp": "jobs:admin"}, client: oidctest.Client, scopes: []string{}},
		"Keycloak's default aud is account":         {settings: audience, claims: object{"aud": "account", "typ": "Bearer"}, want: domain.ReasonInvalidClaims},
		"Google's ID token":                         {settings: idTokens, claims: object{"aud": oidctest.Client, "azp": oidctest.Client, "client_id": nil, "at_hash": "x", "scope": nil}, client: oidctest.Client},
		"Apple's ID token names the client in aud":  {settings: idTokens, claims: object{"aud": oidctest.Client, "client_id": nil, "c_hash": "x", "scope": nil}, client: oidctest.Client},
		"Cognito's ID token":                        {settings: idTokens, claims: object{"aud": oidctest.Client, "client_id": nil, "token_use": "id", "scope": nil}, client: oidctest.Client},
		"Keycloak's ID token":                       {settings: idTokens, claims: object{"aud": oidctest.Client, "azp": oidctest.Client, "client_id": nil, "typ": "ID", "scope": nil}, client: oidctest.Client},
		"an ID token for another client":            {settings: idTokens, claims: object{"aud": "other", "client_id": nil}, want: domain.ReasonInvalidClaims},
		"an ID token that another client asked for": {settings: idTokens, claims: object{"aud": oidctest.Client, "azp": "other", "client_id": nil}, want: domain.ReasonInvalidClaims},
		"ID tokens, yet no logout tokens":           {settings: idTokens, claims: object{"aud": oidctest.Client, "events": object{}}, want: domain.ReasonInvalidClaims},
		"ID tokens, yet no refresh tokens":          {settings: idTokens, claims: object{"aud": oidctest.Client, "typ": "Refresh"}, want: domain.ReasonInvalidClaims},
		"ID tokens, and access tokens":              {settings: idTokens, client: oidctest.Client, scopes: []string{"jobs:submit", "jobs:read"}},
		"a type of one's own":                       {settings: with(func(i *oidc.Issuer) { i.Types = []string{"application/Own+JWT"} }), header: object{"typ": "own+jwt"}, client: oidctest.Client, scopes: []string{"jobs:submit", "jobs:read"}},
		"a type of one's own excludes the others":   {settings: with(func(i *oidc.Issuer) { i.Types = []string{"own+jwt"} }), want: domain.ReasonInvalidToken},
		"a type of one's own must be there":         {settings: with(func(i *oidc.Issuer) { i.Types = []string{"jwt"} }), header: object{"typ": nil}, want: domain.ReasonInvalidToken},
		"an algorithm that is not listed":           {settings: with(func(i *oidc.Issuer) { i.Algorithms = []string{"RS256", "ES384"} }), want: domain.ReasonInvalidToken},
		"claims are kept where the settings say so": {
			settings: with(func(i *oidc.Issuer) { i.KeepClaims = []string{"tenant", "level", "groups", "absent"} }),
			claims:   object{"tenant": "ä\"1", "level": 3, "groups": []string{"a", "b"}, "email": "alice@example.com"},
			client:   oidctest.Client, scopes: []string{"jobs:submit", "jobs:read"},
			kept: map[string]string{"tenant": "ä\"1", "level": "3", "groups": `["a","b"]`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := fromFile(t, source.KeySet())
			c.settings(&i)
			v := newVerifier(t, oidc.Options{Now: func() time.Time { return start }}, i)
			who, err := v.Verify(t.Context(), key.Sign(c.header, oidctest.Claims(i.Issuer, start).With(c.claims)))
			if reason(err) != c.want {
				t.Fatalf("Verify: %v, want %q", err, c.want)
			}
			if c.want != "" {
				return
			}
			want := domain.Principal{
				Identity: domain.Identity{Issuer: i.Issuer, Subject: oidctest.Subject}, ClientID: c.client, Scopes: c.scopes,
				TokenID: "token-1", Claims: c.kept, ExpiresAt: start.Add(time.Hour + oidctest.Leeway),
			}
			if diff := cmp.Diff(want, who); diff != "" {
				t.Errorf("the principal is not as wanted (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEachIssuerHasItsOwnBound(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("k", "ES256", 0)
	source := &oidctest.Issuer{}
	source.Publish(key)
	small, large := fromFile(t, source.KeySet()), fromFile(t, source.KeySet())
	small.MaxToken, large.Issuer = 200, "https://large.example"
	v := newVerifier(t, oidc.Options{Now: func() time.Time { return start }}, small, large)
	for issuer, want := range map[string]domain.Reason{small.Issuer: domain.ReasonInvalidToken, large.Issuer: ""} {
		if _, err := v.Verify(t.Context(), key.Sign(nil, oidctest.Claims(issuer, start))); reason(err) != want {
			t.Errorf("%s: %v, want %q", issuer, err, want)
		}
	}
}
