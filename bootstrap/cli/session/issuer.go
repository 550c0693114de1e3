package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/domain"
)

const (
	callTimeout = 15 * time.Second
	maxAnswer   = 64 << 10 // of the issuer, in bytes
	maxIDToken  = 16 << 10
)

// An issuer is what its discovery document says (OpenID Connect Discovery 1.0 §3, RFC 8414 §2).
type issuer struct {
	Issuer        string   `json:"issuer"`
	Keys          string   `json:"jwks_uri"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Device        string   `json:"device_authorization_endpoint"`
	Revocation    string   `json:"revocation_endpoint"`
	Scopes        []string `json:"scopes_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	SendsIss      bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3

	client *http.Client
}

// httpClient follows no redirect: what is posted to an issuer is for nobody else.
func httpClient() *http.Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if shared, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = shared.Clone()
	}
	transport.DisableKeepAlives = true // a command asks once or twice
	transport.MaxResponseHeaderBytes = maxAnswer
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	return &http.Client{
		Transport:     transport,
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// discover asks the profile's issuer where everything is.
func (s *Session) discover(ctx context.Context) (*issuer, error) {
	if s.profile.Issuer == "" {
		return nil, invalid("the profile %q has no issuer: name it by --issuer", s.profile.Name)
	}
	if err := checkURL(s.profile.Issuer); err != nil {
		return nil, invalid("the issuer %s %w", printable(s.profile.Issuer), err)
	}
	is := &issuer{client: httpClient()}
	at := strings.TrimSuffix(s.profile.Issuer, "/") + "/.well-known/openid-configuration"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return nil, invalid("issuer: %w", err)
	}
	r, err := is.do(req)
	switch {
	case err != nil:
		return nil, err
	case r.status != http.StatusOK:
		return nil, r.refusal("%s answered %d: is this the issuer?", at, r.status)
	}
	if err := json.Unmarshal(r.text, is); err != nil {
		return nil, refused("%s is no discovery document", at)
	}
	if is.Issuer != s.profile.Issuer { // §4.3: else one issuer could speak for another
		return nil, refused("the discovery document at %s is of the issuer %q, and the profile has %q: they have to be the same to the letter",
			at, printable(is.Issuer), s.profile.Issuer)
	}
	for name, endpoint := range map[string]string{
		"jwks_uri": is.Keys, "authorization_endpoint": is.Authorization, "token_endpoint": is.Token,
		"device_authorization_endpoint": is.Device, "revocation_endpoint": is.Revocation,
	} {
		if endpoint == "" {
			continue // asked for where it is needed
		}
		if err := checkURL(endpoint); err != nil {
			return nil, refused("the issuer's %s %w", name, err)
		}
	}
	if is.Token == "" {
		return nil, refused("the issuer has no token_endpoint")
	}
	return is, nil
}

// A reply is what was answered.
type reply struct {
	status int
	date   time.Time // by the issuer's clock; zero: it does not say
	text   []byte
}

func (is *issuer) do(req *http.Request) (reply, error) {
	req.Header.Set("Accept", "application/json")
	resp, err := is.client.Do(req)
	if err != nil {
		return reply{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	r := reply{status: resp.StatusCode}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		r.date = date
	}
	r.text, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return reply{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(r.text) > maxAnswer {
		return reply{}, refused("the answer of %s has more than %d KiB", req.URL.Redacted(), maxAnswer>>10)
	}
	return r, nil
}

// refusal wraps ErrUnavailable when asking again may help.
func (r reply) refusal(format string, args ...any) error {
	if r.status >= http.StatusInternalServerError || r.status == http.StatusTooManyRequests {
		return fmt.Errorf("%w: "+format, append([]any{ErrUnavailable}, args...)...)
	}
	return refused(format, args...)
}

// An oauthError is an error answer of RFC 6749 §5.2.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (e *oauthError) Error() string {
	return "the login failed: the issuer says " + e.Code + suffix(e.Description)
}

func (e *oauthError) Unwrap() error { return ErrRefused }

// A credential is what a client has to show for itself: a public one has no secret.
type credential struct{ id, secret string }

// post sends a form and decodes the answer into v, unless that is nil. It returns the issuer's time.
func (is *issuer) post(ctx context.Context, endpoint string, who credential, form url.Values, v any) (time.Time, error) {
	basic := who.secret != "" && (len(is.AuthMethods) == 0 || slices.Contains(is.AuthMethods, "client_secret_basic"))
	if !basic {
		form.Set("client_id", who.id)
		if who.secret != "" {
			form.Set("client_secret", who.secret)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return time.Time{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if basic { // RFC 6749 §2.3.1
		req.SetBasicAuth(url.QueryEscape(who.id), url.QueryEscape(who.secret))
	}
	r, err := is.do(req)
	if err != nil {
		return time.Time{}, err
	}
	if r.status != http.StatusOK {
		problem := &oauthError{}
		if json.Unmarshal(r.text, problem) != nil || problem.Code == "" || r.status >= http.StatusInternalServerError {
			return r.date, r.refusal("%s answered %d", endpoint, r.status)
		}
		problem.Code, problem.Description = redact(problem.Code, form, who), redact(problem.Description, form, who)
		return r.date, problem
	}
	if v != nil && json.Unmarshal(r.text, v) != nil { // the parser's words would quote tokens
		return r.date, refused("the answer of %s is malformed", endpoint)
	}
	return r.date, nil
}

// redact makes text fit to be shown, should it repeat what was sent.
func redact(text string, form url.Values, who credential) string {
	secrets := []string{who.secret}
	for _, name := range []string{"code", "code_verifier", "refresh_token", "device_code", "token", "client_secret"} {
		secrets = append(secrets, form.Get(name))
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return printable(text)
}

// An answer is a successful one of the token endpoint (RFC 6749 §5.1).
type answer struct {
	Access  string  `json:"access_token"`
	Type    string  `json:"token_type"`
	Expires seconds `json:"expires_in"`
	Refresh string  `json:"refresh_token"`
	ID      string  `json:"id_token"`
}

// seconds are written as a number, and by some issuers as a string.
type seconds float64

// UnmarshalJSON implements json.Unmarshaler.
func (s *seconds) UnmarshalJSON(text []byte) error {
	return json.Unmarshal([]byte(strings.Trim(string(text), `"`)), (*float64)(s))
}

func (s seconds) duration() time.Duration {
	return time.Duration(min(max(float64(s), 0), maxLife.Seconds()) * float64(time.Second))
}

// maxLife is the longest that a token is believed to live.
const maxLife = 366 * 24 * time.Hour

// grant asks the token endpoint for tokens.
func (s *Session) grant(ctx context.Context, is *issuer, who credential, form url.Values) (answer, tokens, time.Time, error) {
	asked := s.now() // before the call: a token may end sooner than thought, not later
	var a answer
	date, err := is.post(ctx, is.Token, who, form, &a)
	if err != nil {
		return a, tokens{}, date, err
	}
	if !strings.EqualFold(a.Type, "Bearer") {
		return a, tokens{}, date, refused("the issuer's token is of the type %q, and only Bearer can be used", printable(a.Type))
	}
	access, err := parseToken(a.Access)
	if err != nil {
		return a, tokens{}, date, refused("the issuer's answer: %w", err)
	}
	t := tokens{Access: access, Refresh: a.Refresh, Obtained: asked.Round(0)}
	if a.Expires > 0 {
		t.Expires = t.Obtained.Add(a.Expires.duration())
	} else {
		t.Expires = expiry(access)
	}
	return a, t, date, nil
}

// refresh gets new tokens for the refresh token in t (RFC 6749 §6). An ID token that comes along is not used.
func (s *Session) refresh(ctx context.Context, t tokens) (tokens, error) {
	is, err := s.discover(ctx)
	if err != nil {
		return tokens{}, err
	}
	_, next, _, err := s.grant(ctx, is, credential{id: s.profile.ClientID}, url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {t.Refresh},
	})
	if problem, ok := errors.AsType[*oauthError](err); ok && (problem.Code == "invalid_grant" || problem.Code == "invalid_client") {
		return tokens{}, s.loginAgain("the issuer does not take the refresh token, which has expired, was revoked or was used before (%s%s)", problem.Code, suffix(problem.Description))
	}
	if err != nil {
		return tokens{}, fmt.Errorf("the access token was not refreshed: %w", err)
	}
	if next.Refresh == "" {
		next.Refresh = t.Refresh
	}
	next.Subject = t.Subject
	return next, nil
}

// revoke has the issuer forget what can be used again: the refresh token, or else the access token (RFC 7009 §2).
func (s *Session) revoke(ctx context.Context, t tokens) error {
	is, err := s.discover(ctx)
	if err != nil {
		return err
	}
	if is.Revocation == "" {
		return nil
	}
	who := credential{id: s.profile.ClientID}
	if s.record.Grant == grantClient {
		if who.secret, err = s.secret(s.record.SecretFile); err != nil {
			return err
		}
	}
	form := url.Values{"token": {t.Access}, "token_type_hint": {"access_token"}}
	if t.Refresh != "" {
		form = url.Values{"token": {t.Refresh}, "token_type_hint": {"refresh_token"}}
	}
	_, err = is.post(ctx, is.Revocation, who, form, nil)
	if problem, ok := errors.AsType[*oauthError](err); ok && problem.Code == "unsupported_token_type" { // RFC 7009 §2.2.1
		return nil
	}
	return err
}

// verify judges an ID token (OpenID Connect Core 1.0 §3.1.3.7) and returns its subject.
func (s *Session) verify(ctx context.Context, is *issuer, token, nonce string) (string, error) {
	verifier, err := oidc.NewVerifier([]oidc.Issuer{{
		Issuer: is.Issuer, ClientIDs: []string{s.profile.ClientID}, AcceptIDTokens: true, JWKSURL: is.Keys,
		Leeway: maxSkew, MaxToken: maxIDToken, KeepClaims: []string{"nonce", "aud"},
	}}, oidc.Options{Now: s.now})
	if err != nil {
		return "", refused("the ID token: %w", err)
	}
	defer func() { _ = verifier.Close() }() // it never fails
	who, err := verifier.Verify(ctx, token)
	switch {
	case err != nil && domain.KindOf(err) == domain.Unavailable:
		return "", fmt.Errorf("%w: the keys that ID tokens are signed with cannot be had: %w", ErrUnavailable, cause(err))
	case err != nil:
		return "", refused("the ID token: %w", cause(err))
	case who.Claims["aud"] == "":
		return "", refused("the ID token is for nobody: it has no aud")
	case nonce != "" && who.Claims["nonce"] != nonce:
		return "", refused("the ID token is of another login: its nonce is not this one's")
	}
	return who.Subject, nil
}

// cause is what lies under a message for callers: which check it was.
func cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// checkServer says whether tokens may go to a server.
func checkServer(server string) error {
	if err := checkURL(server); err != nil {
		return invalid("the server %s %w", printable(server), err)
	}
	return nil
}

// checkURL says what is wrong with a URL that tokens go to: it must be https, or stay on this machine.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New("is no URL like https://id.example.com")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("is not https, and plain http is for this machine alone")
}

func loopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// hostPort is net.JoinHostPort of a host that may have its brackets already.
func hostPort(host, port string) string { return net.JoinHostPort(strings.Trim(host, "[]"), port) }
