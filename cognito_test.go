package jobgate_test

import (
	"bytes"
	"context"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/tokens"
	"github.com/jobgate/jobgate/bootstrap/local/idp"
	"github.com/jobgate/jobgate/domain"
)

// verifierOf is the verifier that a program with these settings has.
func verifierOf(t *testing.T, settings map[string]string) *oidc.Verifier {
	t.Helper()
	env := config.From(func(name string) string { return settings[name] })
	loaded := tokens.Load(env)
	if err := env.Err(); err != nil {
		t.Fatal(err)
	}
	v, err := loaded.Verifier(oidc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// A verdict is what settings are to make of a token.
type verdict struct {
	settings map[string]string // besides those that name the issuer
	token    string
	want     domain.Reason // empty: it is to be accepted
	scopes   []string      // of an accepted one
}

// wantVerdicts verifies tokens of a user, each with its settings.
func wantVerdicts(t *testing.T, issuer map[string]string, client string, verdicts map[string]verdict) {
	t.Helper()
	for name, c := range verdicts {
		settings := maps.Clone(issuer)
		maps.Copy(settings, c.settings)
		who, err := verifierOf(t, settings).Verify(t.Context(), c.token)
		if reason := reasonOf(err); reason != c.want {
			t.Errorf("%s: %q (%v), want %q", name, reason, err, c.want)
		}
		if c.want != "" {
			continue
		}
		if who.Issuer != issuer["OIDC_ISSUER"] || who.Subject == "" || who.ClientID != client || !who.ExpiresAt.After(time.Now()) {
			t.Errorf("%s: the token speaks for %+v", name, who)
		}
		if diff := cmp.Diff(c.scopes, who.Scopes); diff != "" {
			t.Errorf("%s: the scopes are not as wanted (-want +got):\n%s", name, diff)
		}
	}
}

// cognitoTokens are what a login at a user pool comes to.
type cognitoTokens struct {
	Access  string `json:"AccessToken"`
	ID      string `json:"IdToken"`
	Refresh string `json:"RefreshToken"`
}

// cognito calls an action of the Cognito user pools API, which needs no signature of moto's clients.
func cognito(t *testing.T, endpoint, action string, in map[string]any, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "AWSCognitoIdentityProviderService."+action)
	answer := page(t, http.DefaultClient, req)
	if answer.status != http.StatusOK {
		t.Fatalf("%s: %d\n%s", action, answer.status, answer.body)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal([]byte(answer.body), out); err != nil {
		t.Fatalf("%s: %v\n%s", action, err, answer.body)
	}
}

// cognitoPool makes a user pool with a user and clients, who all log the user in.
func cognitoPool(t *testing.T, endpoint string, clients ...string) (pool string, ids []string, tokens []cognitoTokens) {
	t.Helper()
	var made struct {
		UserPool struct {
			ID string `json:"Id"`
		}
	}
	cognito(t, endpoint, "CreateUserPool", map[string]any{"PoolName": "jobgate"}, &made)
	pool = made.UserPool.ID
	user := map[string]any{"UserPoolId": pool, "Username": "alice", "MessageAction": "SUPPRESS", "TemporaryPassword": "Temporary-1"}
	cognito(t, endpoint, "AdminCreateUser", user, nil)
	password := map[string]any{"UserPoolId": pool, "Username": "alice", "Password": "Permanent-1", "Permanent": true}
	cognito(t, endpoint, "AdminSetUserPassword", password, nil)
	for _, name := range clients {
		var client struct {
			UserPoolClient struct {
				ID string `json:"ClientId"`
			}
		}
		cognito(t, endpoint, "CreateUserPoolClient", map[string]any{
			"UserPoolId": pool, "ClientName": name, "ExplicitAuthFlows": []string{"ALLOW_ADMIN_USER_PASSWORD_AUTH"},
		}, &client)
		var login struct {
			AuthenticationResult cognitoTokens
		}
		cognito(t, endpoint, "AdminInitiateAuth", map[string]any{
			"UserPoolId": pool, "ClientId": client.UserPoolClient.ID, "AuthFlow": "ADMIN_USER_PASSWORD_AUTH",
			"AuthParameters": map[string]string{"USERNAME": "alice", "PASSWORD": "Permanent-1"},
		}, &login)
		ids = append(ids, client.UserPoolClient.ID)
		tokens = append(tokens, login.AuthenticationResult)
	}
	return pool, ids, tokens
}

// Cognito's access tokens have no aud and say the client in client_id; its ID tokens have the client for an aud.
func TestTokensOfACognitoUserPool(t *testing.T) {
	t.Parallel()
	endpoint := adaptertest.Moto(t)
	pool, clients, issued := cognitoPool(t, endpoint, "ours", "another")
	_, _, foreign := cognitoPool(t, endpoint, "ours") // which moto signs with the same key
	ours := map[string]string{"OIDC_CLIENT_IDS": clients[0]}
	idTokens := map[string]string{"OIDC_CLIENT_IDS": clients[0], "OIDC_ACCEPT_ID_TOKENS": "true"}
	scopes := []string{"aws.cognito.signin.user.admin"} // the one that a login without the hosted pages grants
	access, signature := issued[0].Access[:strings.LastIndexByte(issued[0].Access, '.')], issued[0].ID[strings.LastIndexByte(issued[0].ID, '.'):]
	wantVerdicts(t, map[string]string{
		"OIDC_ISSUER":   "https://cognito-idp.us-east-1.amazonaws.com/" + pool,
		"OIDC_JWKS_URL": endpoint + "/" + pool + "/.well-known/jwks.json",
	}, clients[0], map[string]verdict{
		"the access token": {ours, issued[0].Access, "", scopes},
		"the access token, of whose scopes a prefix is cut": {
			map[string]string{"OIDC_CLIENT_IDS": clients[0], "OIDC_SCOPE_PREFIX": "aws.cognito.signin."}, issued[0].Access, "", []string{"user.admin"},
		},
		"the access token, whose scopes are another service's": {
			map[string]string{"OIDC_CLIENT_IDS": clients[0], "OIDC_SCOPE_PREFIX": "jobgate/"}, issued[0].Access, "", []string{},
		},
		"the access token where one of several clients is ours": {map[string]string{"OIDC_CLIENT_IDS": "x," + clients[0]}, issued[0].Access, "", scopes},
		"the access token where ID tokens are accepted too":     {idTokens, issued[0].Access, "", scopes},
		"the access token where an audience is asked for":       {map[string]string{"OIDC_AUDIENCE": "jobgate"}, issued[0].Access, domain.ReasonInvalidClaims, nil},
		"another client's access token":                         {ours, issued[1].Access, domain.ReasonInvalidClaims, nil},
		"another pool's access token":                           {ours, foreign[0].Access, domain.ReasonInvalidClaims, nil},
		"the ID token":                                          {ours, issued[0].ID, domain.ReasonInvalidClaims, nil},
		"the ID token where its client is the audience":         {map[string]string{"OIDC_AUDIENCE": clients[0]}, issued[0].ID, domain.ReasonInvalidClaims, nil},
		"the ID token where ID tokens are accepted":             {idTokens, issued[0].ID, "", nil},
		"another client's ID token":                             {idTokens, issued[1].ID, domain.ReasonInvalidClaims, nil},
		"the refresh token":                                     {ours, issued[0].Refresh, domain.ReasonInvalidToken, nil},
		"the access token under the ID token's signature":       {ours, access + signature, domain.ReasonInvalidSignature, nil},
	})
}

// The built-in provider's access tokens are for the API, its ID tokens for the client.
func TestTokensOfTheBuiltInProvider(t *testing.T) {
	t.Parallel()
	const audience = "jobgate-api"
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(server.Close)
	origin := "http://" + server.Listener.Addr().String()
	issuer := origin + "/oidc"
	provider, err := idp.New(idp.Options{Issuer: issuer, Dir: t.TempDir(), Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/oidc/", provider.Handler())
	server.Config.Handler = mux
	server.Start()

	login := logIn(t, provider, origin, "openid", "offline_access", idp.ScopeSubmit, idp.ScopeRead)
	idToken, _ := login.Extra("id_token").(string)
	settings := map[string]string{"OIDC_ISSUER": issuer}
	api := map[string]string{"OIDC_AUDIENCE": audience}
	both := []string{"openid", "offline_access", idp.ScopeSubmit, idp.ScopeRead}
	wantVerdicts(t, settings, idp.PublicClientID, map[string]verdict{
		"a user's access token":                      {api, login.AccessToken, "", both},
		"a user's access token for a client":         {map[string]string{"OIDC_AUDIENCE": audience, "OIDC_CLIENT_IDS": idp.PublicClientID}, login.AccessToken, "", both},
		"a user's access token for another client":   {map[string]string{"OIDC_AUDIENCE": audience, "OIDC_CLIENT_IDS": "x"}, login.AccessToken, domain.ReasonInvalidClaims, nil},
		"a user's access token for another audience": {map[string]string{"OIDC_AUDIENCE": "other"}, login.AccessToken, domain.ReasonInvalidClaims, nil},
		"an ID token": {api, idToken, domain.ReasonInvalidClaims, nil},
		"an ID token where its client is the audience": {map[string]string{"OIDC_AUDIENCE": idp.PublicClientID}, idToken, domain.ReasonInvalidClaims, nil},
		"an ID token where ID tokens are accepted":     {map[string]string{"OIDC_CLIENT_IDS": idp.PublicClientID, "OIDC_ACCEPT_ID_TOKENS": "true"}, idToken, "", nil},
		"a refresh token": {api, login.RefreshToken, domain.ReasonInvalidToken, nil},
	})

	var secret string
	for _, c := range provider.Clients() {
		if c.ID == idp.MachineClientID {
			secret = c.Secret
		}
	}
	machine := clientcredentials.Config{ClientID: idp.MachineClientID, ClientSecret: secret, TokenURL: issuer + "/oauth/token", Scopes: []string{idp.ScopeSubmit}}
	token, err := machine.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, settings, idp.MachineClientID, map[string]verdict{
		"a machine's access token": {api, token.AccessToken, "", []string{idp.ScopeSubmit}},
	})
}

var (
	loginForm   = regexp.MustCompile(`<form method="post" action="([^"]+)">`)
	hiddenInput = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)
)

// logIn goes the way of the provider's first user through a browser: authorization code with PKCE.
func logIn(t *testing.T, provider *idp.Provider, origin string, scopes ...string) *oauth2.Token {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/callback" {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	app := oauth2.Config{
		ClientID: idp.PublicClientID, RedirectURL: "http://127.0.0.1:50123/callback", Scopes: scopes,
		Endpoint: oauth2.Endpoint{AuthURL: origin + "/oidc/authorize", TokenURL: origin + "/oidc/oauth/token", AuthStyle: oauth2.AuthStyleInParams},
	}
	verifier := oauth2.GenerateVerifier()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, app.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	user := provider.Users()[0]
	back := page(t, browser, req)
	for _, values := range []url.Values{{"username": {user.Name}, "password": {user.Password}}, {"decision": {"allow"}}} {
		action := loginForm.FindStringSubmatch(back.body)
		if action == nil {
			t.Fatalf("no form: %d\n%s", back.status, back.body)
		}
		for _, input := range hiddenInput.FindAllStringSubmatch(back.body, -1) {
			values.Set(html.UnescapeString(input[1]), html.UnescapeString(input[2]))
		}
		req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, origin+html.UnescapeString(action[1]), bytes.NewBufferString(values.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", origin)
		back = page(t, browser, req)
	}
	callback, err := url.Parse(back.header.Get("Location"))
	if err != nil || callback.Query().Get("code") == "" {
		t.Fatalf("no code: %d to %q\n%s", back.status, back.header.Get("Location"), back.body)
	}
	token, err := app.Exchange(t.Context(), callback.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A webPage is what a browser gets.
type webPage struct {
	status int
	header http.Header
	body   string
}

func page(t *testing.T, client *http.Client, req *http.Request) webPage {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return webPage{resp.StatusCode, resp.Header, string(body)}
}
