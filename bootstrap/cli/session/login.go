package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// The defaults are those of the service on a laptop.
	defaultServer   = "http://127.0.0.1:8080"
	defaultIssuer   = "/oidc" // on a server of this machine
	defaultClientID = "jobgate"

	loginWait   = 10 * time.Minute // for the person at the browser
	maxSecret   = 4 << 10          // of a client, in bytes
	offline     = "offline_access" // OpenID Connect Core 1.0 §11: asks for a refresh token
	openID      = "openid"
	revokeLimit = 5 * time.Second
)

// Options are how a login goes.
type Options struct {
	Keyring Keyring
	// Show tells the person where to log in.
	Show func(Prompt)
	// Open opens a page in a browser on this machine; nil: the person does.
	Open func(ctx context.Context, page string) error
	// Warn is told what the person should know although the login goes on.
	Warn func(string)
}

// A Prompt is what a person needs for a login.
type Prompt struct {
	URL      string
	Code     string        // to type in there; empty in a login without it
	Complete string        // the URL with the code in it, where the issuer has one
	Lasts    time.Duration // what there is time for
}

// A Login is what came of one.
type Login struct {
	Subject     string    // empty when no ID token names it
	Expires     time.Time // of the access token; zero: the issuer does not say
	Refreshable bool      // another access token can be had without a person
	Sealed      bool      // the tokens are sealed with a key in the keyring
}

// New returns a session to log in to. What p leaves out is as the profile of its name has it for the same server, else
// JOBGATE_SERVER's, else as the service on a laptop has it. The error wraps ErrInvalid.
func New(getenv func(string) string, p Profile, now func() time.Time) (*Session, error) {
	s, err := open(getenv, p.Name, now)
	if err != nil {
		return nil, err
	}
	old := s.profile
	for _, server := range []string{p.Server, getenv("JOBGATE_SERVER"), old.Server, defaultServer} {
		if server != "" {
			p.Server = server
			break
		}
	}
	if p.Server != old.Server {
		old = Profile{Name: old.Name} // another server's settings
	}
	p.Name = old.Name
	or(&p.Issuer, old.Issuer)
	or(&p.ClientID, old.ClientID)
	or(&p.Audience, old.Audience)
	or(&p.RedirectHost, old.RedirectHost)
	or(&p.RedirectHost, "127.0.0.1")
	if p.Scopes == nil {
		p.Scopes = old.Scopes
	}
	if p.RedirectPort == 0 {
		p.RedirectPort = old.RedirectPort
	}
	if err := checkServer(p.Server); err != nil {
		return nil, err
	}
	if u, err := url.Parse(p.Server); err == nil && p.Issuer == "" && loopback(u.Hostname()) {
		p.Issuer = strings.TrimRight(p.Server, "/") + defaultIssuer
	}
	p.RedirectHost = strings.Trim(p.RedirectHost, "[]")
	if !slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, p.RedirectHost) {
		return nil, invalid("the redirect host is 127.0.0.1, ::1 or localhost, and not %q: codes come to this machine alone", printable(p.RedirectHost))
	}
	if p.RedirectPort < 0 || p.RedirectPort > 65535 {
		return nil, invalid("%d is no port", p.RedirectPort)
	}
	for _, scope := range p.Scopes {
		if scope == "" || strings.ContainsFunc(scope, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return nil, invalid("%q is no scope (RFC 6749 §3.3)", printable(scope))
		}
	}
	s.profile = p
	return s, nil
}

func or(s *string, other string) {
	if *s == "" {
		*s = other
	}
}

// Browser logs a person in by authorization code with PKCE, through a browser on this machine (RFC 8252).
func (s *Session) Browser(ctx context.Context, opts Options) (Login, error) {
	or(&s.profile.ClientID, defaultClientID)
	is, err := s.discover(ctx)
	if err != nil {
		return Login{}, err
	}
	if is.Authorization == "" {
		return Login{}, refused("the issuer has no authorization_endpoint")
	}
	if len(is.Challenges) > 0 && !slices.Contains(is.Challenges, "S256") {
		return Login{}, refused("the issuer does not do PKCE with S256 (RFC 7636), without which a code could be stolen")
	}
	back, err := listen(ctx, s.profile.RedirectHost, s.profile.RedirectPort)
	if err != nil {
		return Login{}, err
	}
	defer back.close()

	state, nonce, verifier := rand.Text(), rand.Text(), rand.Text()+rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	page, err := url.Parse(is.Authorization)
	if err != nil {
		return Login{}, err
	}
	query := page.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": s.profile.ClientID, "redirect_uri": back.uri, "scope": s.scopes(is, true),
		"state": state, "nonce": nonce, "code_challenge_method": "S256",
		"code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]),
	} {
		query.Set(name, value)
	}
	if s.profile.Audience != "" {
		query.Set("audience", s.profile.Audience)
	}
	page.RawQuery = query.Encode()

	wait, cancel := context.WithTimeoutCause(ctx, loginWait, refused("nobody logged in within %v", loginWait))
	defer cancel()
	opts.Show(Prompt{URL: page.String(), Lasts: loginWait})
	if opts.Open != nil {
		if err := opts.Open(ctx, page.String()); err != nil {
			opts.Warn(fmt.Sprintf("no browser could be opened: %v", err))
		}
	}
	code, err := back.wait(wait, is, state)
	if err != nil {
		return Login{}, err
	}
	return s.redeem(ctx, is, opts, grantCode, nonce, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {back.uri}, "code_verifier": {verifier},
	})
}

// redeem ends a login of a person: the form asks for tokens, and the ID token among them is judged.
func (s *Session) redeem(ctx context.Context, is *issuer, opts Options, grant, nonce string, form url.Values) (Login, error) {
	a, t, date, err := s.grant(ctx, is, credential{id: s.profile.ClientID}, form)
	if err != nil {
		return Login{}, err
	}
	if err := clockError(s.now(), date); err != nil {
		return Login{}, err
	}
	switch {
	case a.ID != "":
		if t.Subject, err = s.verify(ctx, is, a.ID, nonce); err != nil {
			return Login{}, err
		}
	case grant == grantCode:
		return Login{}, refused("the issuer gave no ID token, which says that the answer belongs to this login")
	}
	return s.keep(ctx, opts, grant, "", t)
}

// ClientCredentials logs a program in (RFC 6749 §4.4). The secret is in the file, or without one in
// JOBGATE_CLIENT_SECRET; it is not kept, and read again when there is need of another access token.
func (s *Session) ClientCredentials(ctx context.Context, opts Options, file string) (Login, error) {
	if s.profile.ClientID == "" {
		return Login{}, invalid("whose credentials? Name the client by --client-id")
	}
	if file != "" {
		var err error
		if file, err = filepath.Abs(file); err != nil {
			return Login{}, err
		}
	}
	secret, err := s.secret(file)
	if err != nil {
		return Login{}, err
	}
	t, err := s.clientCredentials(ctx, secret)
	if err != nil {
		return Login{}, err
	}
	return s.keep(ctx, opts, grantClient, file, t)
}

func (s *Session) clientCredentials(ctx context.Context, secret string) (tokens, error) {
	is, err := s.discover(ctx)
	if err != nil {
		return tokens{}, err
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {s.scopes(is, false)}}
	if s.profile.Audience != "" {
		form.Set("audience", s.profile.Audience)
	}
	_, t, date, err := s.grant(ctx, is, credential{s.profile.ClientID, secret}, form)
	if err != nil {
		return tokens{}, err
	}
	t.Refresh = "" // RFC 6749 §4.4.3: there should be none, and nothing is gained by one
	return t, clockError(s.now(), date)
}

// secret reads a client's secret.
func (s *Session) secret(file string) (string, error) {
	if file == "" {
		if secret := s.getenv("JOBGATE_CLIENT_SECRET"); secret != "" {
			return secret, nil
		}
		return "", invalid("the client's secret is in JOBGATE_CLIENT_SECRET, or in a file that --client-secret-file names; there is none")
	}
	f, err := os.Open(file)
	if err != nil {
		return "", invalid("client secret: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", invalid("client secret: %w", err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" || len(text) > maxSecret {
		return "", invalid("%s does not hold a client's secret: it is empty, or larger than %d KiB", file, maxSecret>>10)
	}
	return secret, nil
}

// Adopt logs in with a token that was had elsewhere.
func (s *Session) Adopt(ctx context.Context, opts Options, token string) (Login, error) {
	access, err := parseToken(token)
	if err != nil {
		return Login{}, invalid("standard input: %w", err)
	}
	t := tokens{Access: access, Obtained: s.now().Round(0), Expires: expiry(access)}
	if !t.Expires.IsZero() && !s.now().Before(t.Expires) {
		return Login{}, refused("the token expired at %s", t.Expires.Format(time.RFC3339))
	}
	return s.keep(ctx, opts, grantToken, "", t)
}

// scopes are what a login asks for.
func (s *Session) scopes(is *issuer, person bool) string {
	scopes := slices.Clone(s.profile.Scopes)
	if len(scopes) == 0 {
		scopes = []string{"jobs:submit", "jobs:read", "jobs:cancel", "jobs:redrive"}
		if person && slices.Contains(is.Scopes, offline) { // some refuse what they do not know
			scopes = append(scopes, offline)
		}
	}
	if person && !slices.Contains(scopes, openID) {
		scopes = append([]string{openID}, scopes...)
	}
	return strings.Join(scopes, " ")
}

// keep puts the profile and its tokens on disk.
func (s *Session) keep(ctx context.Context, opts Options, grant, secretFile string, t tokens) (l Login, err error) {
	defer func() {
		if err != nil && grant != grantToken { // nobody will use them
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeLimit)
			defer cancel()
			_ = s.revoke(limited, t) // they expire in any case
		}
	}()
	p := s.profile
	s.record = record{
		Server: p.Server, Issuer: p.Issuer, ClientID: p.ClientID, Audience: p.Audience, Scopes: p.Scopes,
		RedirectHost: p.RedirectHost, RedirectPort: p.RedirectPort, Grant: grant, SecretFile: secretFile,
	}
	unlock, err := s.store.lock(ctx)
	if err != nil {
		return Login{}, err
	}
	defer unlock()
	b, err := s.newBox(opts)
	if err != nil {
		return Login{}, err
	}
	place, err := s.store.reserve()
	if err != nil {
		return Login{}, err
	}
	defer place.discard()
	if err := place.save(s.record, t, b); err != nil {
		return Login{}, err
	}
	return Login{
		Subject: t.Subject, Expires: t.Expires, Refreshable: t.Refresh != "" || grant == grantClient, Sealed: b != nil,
	}, nil
}

// newBox returns what new tokens are sealed with, nil when they are not.
func (s *Session) newBox(opts Options) (*box, error) {
	if opts.Keyring == KeyringOff {
		return nil, nil //nolint:nilnil // a nil box leaves tokens plain
	}
	err := s.makeKey()
	if err == nil {
		var b *box
		if b, err = s.box(s.record); err == nil {
			return b, nil
		}
	}
	if opts.Keyring == KeyringRequired {
		return nil, fmt.Errorf("the keyring failed, and nothing was saved: %w", err)
	}
	opts.Warn(fmt.Sprintf("there is no keyring to be used (%v): the tokens are in %s, as they are, for your eyes alone", printableError(err), s.store.file()))
	return nil, nil //nolint:nilnil // a nil box leaves tokens plain
}

func printableError(err error) error { return errors.New(printable(err.Error())) }
