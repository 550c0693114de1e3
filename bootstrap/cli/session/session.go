// Package session is the login of the command line: profiles, the tokens of each, and the ways to get them. It follows
// OAuth 2.0 for native applications (RFC 8252, with PKCE of RFC 7636, S256 alone), the device grant (RFC 8628), client
// credentials (RFC 6749 §4.4), and OpenID Connect Core 1.0.
//
// A profile and its tokens are one file, replaced as a whole, so that no token is ever taken for another server's. Where
// the operating system has a keyring, the tokens in the file are sealed with a key that is kept there: a keyring holds
// little (2.5 KB on Windows, 3 KB on macOS, less than many issuers' tokens) and promises nothing about a crash, and a
// file has neither trouble. Without a keyring they are plain, for the user's eyes alone (0600 in a 0700 directory).
package session

import (
	"context"
	"regexp"
	"strings"
	"time"
)

// DefaultProfile is the profile that is meant when none is named.
const DefaultProfile = "default"

const (
	// maxSkew is how far the clocks of this machine and the issuer may differ.
	maxSkew = 5 * time.Minute
	// earlier is how long before its end a token is replaced; of a shorter one, a quarter of its life.
	earlier = time.Minute
)

// A Profile is a server and how one logs in to it.
type Profile struct {
	Name     string // [a-z0-9][a-z0-9_-]{0,63}
	Server   string // the URL of the REST API
	Issuer   string // as its discovery document has it, byte for byte
	ClientID string
	// Audience is asked for by the parameter audience, which some issuers need (Auth0) and others ignore; empty: not.
	Audience string
	// Scopes are what a login asks for; empty: those of jobs, and offline_access where the issuer lists it.
	Scopes []string
	// RedirectHost is 127.0.0.1, ::1 or localhost; RedirectPort 0 is a random one.
	RedirectHost string
	RedirectPort int
}

var profileName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// A Session is a profile and what it is logged in with. It is safe for concurrent use, by several processes too.
type Session struct {
	profile Profile
	record  record // as it was read
	fixed   string // JOBGATE_TOKEN
	getenv  func(string) string
	now     func() time.Time
	sleep   func(context.Context, time.Duration) error
	store   store
	keyring keyring
}

// Open opens a profile: the named one, or JOBGATE_PROFILE, or DefaultProfile. JOBGATE_TOKEN, a bearer token, stands in
// for a login, and needs JOBGATE_SERVER where there is no profile. JOBGATE_CONFIG_DIR is where profiles are kept, by
// default jobgate in the user's directory for settings. The error wraps ErrLogin when there is no such profile yet, and
// ErrInvalid when its settings, or these, are wrong.
func Open(getenv func(string) string, profile string, now func() time.Time) (*Session, error) {
	server, token := getenv("JOBGATE_SERVER"), getenv("JOBGATE_TOKEN")
	if token != "" && server != "" { // nothing else is asked for: in CI there may be no home
		return fixed(Profile{Name: DefaultProfile, Server: server}, token)
	}
	s, err := open(getenv, profile, now)
	if err != nil {
		return nil, err
	}
	if token != "" {
		return fixed(s.profile, token)
	}
	switch {
	case s.profile.Server == "":
		return nil, s.loginAgain("there is no profile %q", s.profile.Name)
	case server != "" && strings.TrimRight(server, "/") != strings.TrimRight(s.profile.Server, "/"):
		return nil, invalid("JOBGATE_SERVER is %s, and the profile %q is for %s, which its tokens are meant for: log in to a profile for the other server, or set JOBGATE_TOKEN as well",
			printable(server), s.profile.Name, s.profile.Server)
	}
	return s, checkServer(s.profile.Server)
}

// fixed returns a session whose token is given.
func fixed(p Profile, token string) (*Session, error) {
	access, err := parseToken(token)
	if err != nil {
		return nil, invalid("JOBGATE_TOKEN: %w", err)
	}
	if p.Server == "" {
		return nil, invalid("JOBGATE_TOKEN is for a server that JOBGATE_SERVER has to name, e.g. https://jobs.example.com")
	}
	return &Session{profile: p, fixed: access}, checkServer(p.Server)
}

// open reads a profile, which need not be there.
func open(getenv func(string) string, name string, now func() time.Time) (*Session, error) {
	if name == "" {
		name = getenv("JOBGATE_PROFILE")
	}
	if name == "" {
		name = DefaultProfile
	}
	if !profileName.MatchString(name) {
		return nil, invalid("%q is no name for a profile: lower-case letters, digits, - and _, at most 64", printable(name))
	}
	dir, err := configDir(getenv)
	if err != nil {
		return nil, err
	}
	s := &Session{getenv: getenv, now: now, sleep: sleep, store: store{dir: dir, name: name}, keyring: systemKeyring{}}
	if s.record, err = s.store.load(); err != nil {
		return nil, err
	}
	s.profile = s.record.profile(name)
	return s, nil
}

// Profile returns the profile, with what the environment puts in its place.
func (s *Session) Profile() Profile { return s.profile }

// Token returns a valid access token: the one at hand, or a new one when that is about to expire. One process at a time
// gets a new one, and the others then use it. A refresh token is on disk before the call that follows can use it. The
// error wraps ErrLogin when only a new login helps, and says so.
func (s *Session) Token(ctx context.Context) (string, error) {
	if s.fixed != "" {
		return s.fixed, nil
	}
	if t, _, _, err := s.current(); err != nil || t.fresh(s.now()) {
		return t.Access, err
	}
	unlock, err := s.store.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	t, stored, b, err := s.current() // another process may have been faster
	if err != nil || t.fresh(s.now()) {
		return t.Access, err
	}
	// A refresh token may work once only: that what comes for it can be saved is made sure of before it is spent.
	place, err := s.store.reserve()
	if err != nil {
		return "", err
	}
	defer place.discard()
	next, err := s.renew(ctx, stored, t)
	if err != nil {
		return "", err
	}
	if err := place.save(stored, next, b); err != nil {
		return "", err
	}
	return next.Access, nil
}

// current returns the tokens as they are stored now.
func (s *Session) current() (tokens, record, *box, error) {
	r, err := s.store.load()
	if err != nil {
		return tokens{}, record{}, nil, err
	}
	if r.loggedIn() && (r.Server != s.record.Server || r.Issuer != s.record.Issuer) {
		return tokens{}, record{}, nil, s.loginAgain("the profile %q was changed by another login meanwhile", s.profile.Name)
	}
	t, b, err := s.unseal(r)
	return t, r, b, err
}

// renew gets new tokens in the place of t.
func (s *Session) renew(ctx context.Context, r record, t tokens) (tokens, error) {
	switch {
	case r.Grant == grantClient:
		secret, err := s.secret(r.SecretFile)
		if err != nil {
			return tokens{}, s.loginAgain("the access token has expired, and to get another: %w", err)
		}
		return s.clientCredentials(ctx, secret)
	case t.Refresh == "":
		return tokens{}, s.loginAgain("the access token expired at %s, and there is no refresh token", t.Expires.UTC().Format(time.RFC3339))
	default:
		return s.refresh(ctx, t)
	}
}

// Logout revokes the tokens where the issuer can (RFC 7009), and removes them in any case. The error says what could
// not be revoked, and lives on until it expires; removed is false when there was nothing to remove.
func (s *Session) Logout(ctx context.Context) (removed bool, err error) {
	unlock, err := s.store.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	r, err := s.store.load()
	if err != nil || !r.loggedIn() {
		return false, err
	}
	t, _, unsealed := s.unseal(r)
	if err := s.forget(r); err != nil {
		return false, err
	}
	if unsealed != nil {
		return true, notRevoked(unsealed)
	}
	if r.Grant == grantToken {
		return true, nil // it is not of our getting, and may serve elsewhere
	}
	if err := s.revoke(ctx, t); err != nil {
		return true, notRevoked(err)
	}
	return true, nil
}

// OpenForLogout opens a profile as Open does, without a look at what the environment puts in its place.
func OpenForLogout(getenv func(string) string, profile string, now func() time.Time) (*Session, error) {
	return open(getenv, profile, now)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
