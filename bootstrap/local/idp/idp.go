// Package idp is the OpenID Connect provider of a laptop: it lets demo users
// log in (authorization code with PKCE), or allow a device without a browser to
// (device authorization), and a machine client fetch tokens (client
// credentials), so that everything behind it verifies real tokens of a real
// issuer with nothing installed.
//
// It speaks plain http and prints its users' passwords, and therefore refuses
// any issuer that is not a loopback address. Keys, passwords, client secrets and
// refresh tokens (hashed) live in its directory and survive a restart; logins
// under way and codes live in memory, bounded and expiring, and do not.
//
// Specifications: OpenID Connect Core 1.0 and Discovery 1.0, RFC 6749 (OAuth
// 2.0), RFC 7636 (PKCE), RFC 7009 (revocation), RFC 8252 (native apps), RFC
// 8628 (devices), RFC 9207 (the issuer in answers).
package idp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	httphelper "github.com/zitadel/oidc/v3/pkg/http"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"go.uber.org/zap"
)

// Scopes that the provider grants besides openid, profile and offline_access.
const (
	ScopeSubmit  = "jobs:submit"
	ScopeRead    = "jobs:read"
	ScopeCancel  = "jobs:cancel"
	ScopeRedrive = "jobs:redrive"
	ScopeAdmin   = "jobs:admin"
)

// Ids of the two clients.
const (
	// PublicClientID is a native client without a secret, the command line's:
	// authorization code with PKCE (S256), device authorization, and refresh
	// tokens.
	PublicClientID = "jobgate"
	// MachineClientID is a confidential client: client credentials only.
	MachineClientID = "demo"
)

const (
	// accessLife is the lifetime of an access token. A token is verified
	// without asking the provider, so this is also how long a stolen one works.
	accessLife = 15 * time.Minute
	// idLife is the lifetime of an id token, which is read once, at login.
	idLife = 5 * time.Minute
	// maxBody bounds the form of any request, in bytes.
	maxBody = 64 << 10
)

// Options say what New builds.
type Options struct {
	// Issuer is the "iss" of every token, byte for byte, and the prefix of
	// every endpoint. It is an http URL of a loopback address without query,
	// fragment or trailing slash: http://127.0.0.1:8080/oidc. Required.
	Issuer string
	// Dir holds the provider's secrets and nothing else. It is made if it is
	// missing, and closed to other users (0700) if it is not. Required.
	Dir string
	// Audience is the "aud" of access tokens. Required.
	Audience string
	// RotateKeys makes a new key to sign with. The old one stays published
	// until the last of its tokens has expired.
	RotateKeys bool
	// Now is the clock for what the provider keeps and for the expiry of access
	// tokens; time.Now if nil.
	Now func() time.Time
	// Logger gets a line per login, refused login and reused refresh token,
	// without a secret in it; nothing is logged if nil.
	Logger *zap.Logger
}

// Provider is an OpenID provider. It is safe for concurrent use, starts no
// goroutine and holds no file open: there is nothing to close.
type Provider struct {
	issuer   string
	origin   string // the issuer's scheme and authority, as browsers send it
	base     string // the issuer's path: empty, or /oidc
	audience string
	users    []User
	formKey  []byte    // makes the forms' tokens; logins end with the process, and so may it
	logins   *attempts // per user name and remote address
	guesses  *attempts // of devices' codes
	store    *store
	op       *op.Provider
	handler  http.Handler
	log      *zap.Logger
	now      func() time.Time
}

// User is a demo user. The name is the "sub" of the user's tokens.
type User struct {
	Name     string
	Password string
	Scopes   []string // what a login may be granted, besides openid, profile and offline_access
}

// Client is a registered client.
type Client struct {
	ID     string
	Secret string // empty for a public client
	// RedirectURIs are loopback addresses; a request may add any port to one
	// (RFC 8252 section 7.3) and otherwise has to repeat it exactly.
	RedirectURIs []string
	Scopes       []string
}

// New opens the provider's state in opts.Dir, making what is missing there, and
// returns the provider. It reports every mistake in opts at once. A state file
// that cannot be read is an error and is left as it is.
func New(opts Options) (*Provider, error) {
	issuer, err := parseIssuer(opts.Issuer)
	errs := []error{err}
	if opts.Dir == "" {
		errs = append(errs, errors.New("no Dir, e.g. /var/tmp/jobgate/idp"))
	}
	if opts.Audience == "" {
		errs = append(errs, errors.New("no Audience, e.g. jobgate"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("idp: %w", err)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	st, err := openState(opts.Dir, opts.RotateKeys, opts.Now())
	if err != nil {
		return nil, fmt.Errorf("idp: %w", err)
	}

	p := &Provider{
		issuer:   opts.Issuer,
		origin:   issuer.Scheme + "://" + issuer.Host,
		base:     issuer.Path,
		audience: opts.Audience,
		users:    demoUsers(st.Passwords),
		formKey:  make([]byte, 32),
		logins:   newAttempts(5, time.Minute),
		guesses:  newAttempts(maxGuesses, deviceLife),
		log:      opts.Logger,
		now:      opts.Now,
	}
	rand.Read(p.formKey)
	if p.log == nil {
		p.log = zap.NewNop()
	}
	p.store = newStore(st, p)
	p.store.grantsFile = filepath.Join(opts.Dir, grantsFile)
	if err := p.store.loadGrants(p.now()); err != nil {
		return nil, fmt.Errorf("idp: %w", err)
	}
	// Its own router is not used: handler below serves what this provider has,
	// and without the CORS headers that router adds.
	p.op, err = op.NewProvider(
		&op.Config{CodeMethodS256: true, AuthMethodPost: true, GrantTypeRefreshToken: true},
		p.store,
		op.StaticIssuer(opts.Issuer),
		op.WithAllowInsecure(), // http, which parseIssuer allows on loopback alone
		// Authenticated encryption only: the library's default also reads
		// unauthenticated AES-CFB, for deployments older than this one.
		op.WithCrypto(op.NewAES256GCMCrypto([32]byte(st.CryptoKey), "codes")),
	)
	if err != nil {
		return nil, fmt.Errorf("idp: %w", err)
	}
	p.handler = p.routes()
	return p, nil
}

// Handler serves the whole provider. It expects the request's full path, the
// issuer's path included, so a mux mounts it without stripping a prefix.
func (p *Provider) Handler() http.Handler { return p.handler }

// Users returns the demo users with their passwords, for a person to log in.
func (p *Provider) Users() []User { return slices.Clone(p.users) }

// Clients returns the registered clients with their secrets.
func (p *Provider) Clients() []Client {
	var all []Client
	for _, c := range p.store.clients {
		all = append(all, c.Client)
	}
	return all
}

// demoUsers are the users there are, each with its password.
func demoUsers(passwords map[string]string) []User {
	users := []User{
		{Name: "alice", Scopes: []string{ScopeSubmit, ScopeRead, ScopeCancel, ScopeRedrive}},
		{Name: "bob", Scopes: []string{ScopeSubmit, ScopeRead}},
		{Name: "admin", Scopes: []string{ScopeSubmit, ScopeRead, ScopeCancel, ScopeRedrive, ScopeAdmin}},
		{Name: "viewer", Scopes: []string{ScopeRead}},
	}
	for i := range users {
		users[i].Password = passwords[users[i].Name]
	}
	return users
}

// identityScopes are about the login itself and open to every user.
func identityScopes() []string {
	return []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeOfflineAccess}
}

func jobScopes() []string {
	return []string{ScopeSubmit, ScopeRead, ScopeCancel, ScopeRedrive, ScopeAdmin}
}

// intersect returns what of requested is allowed, once each, in the order it
// was asked for.
func intersect(requested, allowed []string) []string {
	var granted []string
	for _, scope := range requested {
		if slices.Contains(allowed, scope) && !slices.Contains(granted, scope) {
			granted = append(granted, scope)
		}
	}
	return granted
}

// parseIssuer checks that the issuer can be compared byte for byte, routed by
// its path, and reached from this machine only.
func parseIssuer(issuer string) (*url.URL, error) {
	const example = ", e.g. http://127.0.0.1:8080/oidc"
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer is no URL%s: %w", example, err)
	}
	addr, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
	if u.Scheme != "http" || !loopback {
		return nil, fmt.Errorf("issuer %q is not http on a loopback address%s", issuer, example)
	}
	plain := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	clean := u.Path == "" || path.Clean(u.Path) == u.Path && u.Path != "/"
	if plain.String() != issuer || u.EscapedPath() != u.Path || !clean {
		return nil, fmt.Errorf("issuer %q is not just scheme, host and path without a slash at its end%s", issuer, example)
	}
	return u, nil
}

// routes is everything that is served; the library's other endpoints
// (introspection, end of session) are not.
func (p *Provider) routes() http.Handler {
	mux := http.NewServeMux()
	route := func(methods, path string, h http.HandlerFunc) {
		for method := range strings.FieldsSeq(methods) {
			mux.HandleFunc(method+" "+p.base+path, h)
		}
	}
	route("GET", oidc.DiscoveryEndpoint, p.discovery)
	route("GET", "/keys", func(w http.ResponseWriter, r *http.Request) { op.Keys(w, r, p.store) })
	route("GET POST", "/authorize", func(w http.ResponseWriter, r *http.Request) {
		op.Authorize(w, r, p.authorizer())
	})
	route("GET", "/login", p.loginPage)
	route("POST", "/login", p.login)
	route("GET", "/consent", p.consentPage)
	route("POST", "/consent", p.consent)
	route("POST", "/device_authorization", p.deviceAuthorization)
	route("GET", "/device", p.devicePage)
	route("POST", "/device", p.device)
	route("POST", "/oauth/token", p.token)
	route("POST", "/revoke", func(w http.ResponseWriter, r *http.Request) { op.Revoke(challenge{w}, r, p.op) })
	route("GET POST", "/userinfo", p.userinfo)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store") // RFC 6749 section 5.1; keys and discovery are cheap to ask again
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		// Not no-referrer: with it, browsers send "Origin: null" with the login
		// form, and its origin could not be checked (Fetch standard, "append a
		// request Origin header"). Other origins are sent no referrer either way.
		h.Set("Referrer-Policy", "same-origin")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r.WithContext(op.ContextWithIssuer(r.Context(), p.issuer)))
	})
}

// discovery says what routes serves and no more.
func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	httphelper.MarshalJSON(w, struct {
		*oidc.DiscoveryConfiguration
		Iss bool `json:"authorization_response_iss_parameter_supported"` // RFC 9207 section 3
	}{&oidc.DiscoveryConfiguration{
		Issuer:                      p.issuer,
		DeviceAuthorizationEndpoint: p.issuer + "/device_authorization",
		AuthorizationEndpoint:       p.issuer + "/authorize",
		TokenEndpoint:               p.issuer + "/oauth/token",
		UserinfoEndpoint:            p.issuer + "/userinfo",
		RevocationEndpoint:          p.issuer + "/revoke",
		JwksURI:                     p.issuer + "/keys",
		ScopesSupported:             append(identityScopes(), jobScopes()...),
		ResponseTypesSupported:      []string{string(oidc.ResponseTypeCode)},
		ResponseModesSupported:      []string{string(oidc.ResponseModeQuery)},
		GrantTypesSupported: []oidc.GrantType{
			oidc.GrantTypeCode, oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeClientCredentials,
		},
		SubjectTypesSupported:             []string{"public"},
		IDTokenSigningAlgValuesSupported:  []string{string(signingAlgorithm)},
		TokenEndpointAuthMethodsSupported: []oidc.AuthMethod{oidc.AuthMethodNone, oidc.AuthMethodBasic, oidc.AuthMethodPost},
		RevocationEndpointAuthMethodsSupported: []oidc.AuthMethod{
			oidc.AuthMethodNone, oidc.AuthMethodBasic, oidc.AuthMethodPost,
		},
		ClaimsSupported:               []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "name", "preferred_username"},
		CodeChallengeMethodsSupported: []oidc.CodeChallengeMethod{oidc.CodeChallengeMethodS256},
	}, true})
}

// userinfo answers with the user's claims (OpenID Connect Core section 5.3),
// and refuses as RFC 6750 section 3 says. The scopes are those in the token, so
// that one issued before a restart works after it.
func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, challenge string) {
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(status)
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, oidc.BearerToken) {
		refuse(http.StatusUnauthorized, "Bearer")
		return
	}
	claims, err := op.VerifyAccessToken[*oidc.AccessTokenClaims](r.Context(), token, p.op.AccessTokenVerifier(r.Context()))
	// An id token has the same signature and issuer; its audience tells it apart.
	if err != nil || !slices.Contains(claims.Audience, p.audience) {
		refuse(http.StatusUnauthorized, `Bearer error="invalid_token"`)
		return
	}
	if !slices.Contains(claims.Scopes, oidc.ScopeOpenID) {
		refuse(http.StatusForbidden, `Bearer error="insufficient_scope", scope="openid"`)
		return
	}
	info := &oidc.UserInfo{Subject: claims.Subject}
	if slices.Contains(claims.Scopes, oidc.ScopeProfile) {
		info.Name, info.PreferredUsername = claims.Subject, claims.Subject
	}
	httphelper.MarshalJSON(w, info)
}

// authorizer adds to the library's checks of an authorization request what it
// leaves open: a redirect URI that is exactly a registered one but for its
// port, PKCE with S256, and nothing that this provider would ignore. It says who
// answers (RFC 9207).
type authorizer struct {
	*op.Provider
	store  *store
	issuer string
}

func (p *Provider) authorizer() authorizer { return authorizer{p.op, p.store, p.issuer} }

// Encoder makes the query of every answer, error or not.
func (a authorizer) Encoder() httphelper.Encoder { return issEncoder{a.Provider.Encoder(), a.issuer} }

type issEncoder struct {
	httphelper.Encoder
	issuer string
}

func (e issEncoder) Encode(src any, dst map[string][]string) error {
	dst["iss"] = []string{e.issuer}
	return e.Encoder.Encode(src, dst)
}

// maxOpaque bounds, in bytes, what a client may have kept for the time of a
// login: state and nonce.
const maxOpaque = 4 << 10

// ValidateAuthRequest implements op.AuthorizeValidator. The first checks answer
// with a page: until they pass, nobody knows whether the redirect URI is the
// client's. The rest is the client's to hear.
func (a authorizer) ValidateAuthRequest(ctx context.Context, r *oidc.AuthRequest, _ op.Storage, hint *op.IDTokenHintVerifier) (string, error) {
	c, err := a.store.client(r.ClientID)
	if err != nil {
		return "", oidc.ErrInvalidRequestRedirectURI().WithDescription("unknown client_id")
	}
	if !c.redirectsTo(r.RedirectURI) {
		return "", oidc.ErrInvalidRequestRedirectURI().WithDescription("redirect_uri is not registered")
	}
	if len(r.State) > maxOpaque || len(r.Nonce) > maxOpaque {
		return "", oidc.ErrInvalidRequestRedirectURI().WithDescription("state or nonce is longer than 4 KiB")
	}
	subject, err := op.ValidateAuthRequestClient(ctx, r, c, hint)
	if err != nil {
		return "", err
	}
	r.Scopes = intersect(r.Scopes, append(identityScopes(), c.Scopes...))
	switch {
	case len(r.Scopes) == 0:
		return "", oidc.ErrInvalidScope().WithDescription("no known scope is asked for")
	case r.ResponseMode != "" && r.ResponseMode != oidc.ResponseModeQuery:
		return "", oidc.ErrInvalidRequest().WithDescription("response_mode has to be query")
	// A challenge is the base64url of a SHA-256 sum: 43 characters (RFC 7636
	// section 4.2). A missing method would mean plain (section 4.3).
	case r.CodeChallengeMethod != oidc.CodeChallengeMethodS256 || len(r.CodeChallenge) != 43:
		return "", oidc.ErrInvalidRequest().WithDescription("PKCE is required: code_challenge with code_challenge_method S256")
	case slices.Contains(r.Prompt, oidc.PromptNone):
		return "", oidc.ErrLoginRequired().WithDescription("there are no sessions: every request is a login")
	}
	return subject, nil
}
