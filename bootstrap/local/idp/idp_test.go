package idp_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/jobgate/jobgate/bootstrap/local/idp"
)

const (
	audience = "jobgate-api"
	redirect = "http://127.0.0.1:50123/callback"
	nonce    = "n-0S6_WzA2Mj"
)

// server is a provider that is being served at /oidc of a loopback port.
type server struct {
	*idp.Provider
	issuer string
	dir    string
	ahead  atomic.Int64 // how far its clock is ahead of time.Now
	mux    atomic.Pointer[http.ServeMux]
}

func start(t *testing.T, dir string) *server {
	t.Helper()
	s := &server{dir: dir}
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.mux.Load().ServeHTTP(w, r) }))
	t.Cleanup(ts.Close)
	s.issuer = "http://" + ts.Listener.Addr().String() + "/oidc"
	s.restart(t, false)
	ts.Start()
	return s
}

// restart makes a provider of the directory anew, at the same address.
func (s *server) restart(t *testing.T, rotateKeys bool) {
	t.Helper()
	var err error
	s.Provider, err = idp.New(idp.Options{
		Issuer: s.issuer, Dir: s.dir, Audience: audience, RotateKeys: rotateKeys,
		Now: func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/oidc/", s.Handler())
	s.mux.Store(mux)
}

func (s *server) origin() string { return strings.TrimSuffix(s.issuer, "/oidc") }

func (s *server) password(t *testing.T, user string) string {
	t.Helper()
	for _, u := range s.Users() {
		if u.Name == user {
			return u.Password
		}
	}
	t.Fatalf("no user %q", user)
	return ""
}

func (s *server) secret(t *testing.T) string {
	t.Helper()
	for _, c := range s.Clients() {
		if c.ID == idp.MachineClientID {
			return c.Secret
		}
	}
	t.Fatal("no machine client")
	return ""
}

// app is the public client, with what it keeps between request and answer.
type app struct {
	oauth2.Config
	verifier string
}

func (s *server) app(scopes ...string) *app {
	return &app{
		Config: oauth2.Config{
			ClientID:    idp.PublicClientID,
			RedirectURL: redirect,
			Scopes:      scopes,
			Endpoint: oauth2.Endpoint{
				AuthURL: s.issuer + "/authorize", TokenURL: s.issuer + "/oauth/token", AuthStyle: oauth2.AuthStyleInParams,
			},
		},
		verifier: oauth2.GenerateVerifier(),
	}
}

func (a *app) url() string {
	return a.AuthCodeURL("the state", oauth2.S256ChallengeOption(a.verifier), oauth2.SetAuthURLParam("nonce", nonce))
}

// browser keeps cookies and follows redirects, except to an application.
type browser struct {
	t      *testing.T
	client *http.Client
}

type page struct {
	status int
	header http.Header
	body   string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{
		Jar:     jar,
		Timeout: 30 * time.Second,
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if r.URL.Path == "/callback" {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}}
}

func (b *browser) do(r *http.Request) page {
	b.t.Helper()
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return page{resp.StatusCode, resp.Header, string(body)}
}

func (b *browser) open(url string) page {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(r)
}

func (b *browser) post(url string, form url.Values, header http.Header) page {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, url, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	if header != nil {
		r.Header = header.Clone()
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(r)
}

var (
	formTag  = regexp.MustCompile(`<form method="post" action="([^"]*)">`)
	inputTag = regexp.MustCompile(`<input[^>]* name="([^"]*)"(?:[^>]* value="([^"]*)")?`)
)

// form returns what a browser would send if the form were submitted untouched.
func (p page) form(t *testing.T) (action string, values url.Values) {
	t.Helper()
	tag := formTag.FindStringSubmatch(p.body)
	if p.status != http.StatusOK || tag == nil {
		t.Fatalf("no form: %d %s", p.status, p.body)
	}
	values = url.Values{}
	for _, input := range inputTag.FindAllStringSubmatch(p.body, -1) {
		values.Set(input[1], html.UnescapeString(input[2]))
	}
	return html.UnescapeString(tag[1]), values
}

// begin asks for a login and returns its form.
func (s *server) begin(b *browser, a *app) url.Values {
	b.t.Helper()
	action, values := b.open(a.url()).form(b.t)
	if action != "/oidc/login" {
		b.t.Fatalf("the form goes to %q", action)
	}
	return values
}

// send posts a form as a browser does from the provider's own page.
func (s *server) send(b *browser, path string, form url.Values) page {
	b.t.Helper()
	return b.post(s.issuer+path, form, http.Header{"Origin": {s.origin()}, "Sec-Fetch-Site": {"same-origin"}})
}

// enter fills the login form in and sends it. A right password leads to the
// consent page.
func (s *server) enter(b *browser, form url.Values, user, password string) page {
	b.t.Helper()
	form.Set("username", user)
	form.Set("password", password)
	return s.send(b, "/login", form)
}

func (p page) asksForConsent() bool {
	return p.status == http.StatusOK && strings.Contains(p.body, `action="/oidc/consent"`)
}

// submit is enter, and allows what is asked for.
func (s *server) submit(b *browser, form url.Values, user, password string) page {
	b.t.Helper()
	p := s.enter(b, form, user, password)
	if !p.asksForConsent() {
		return p
	}
	_, consent := p.form(b.t)
	consent.Set("decision", "allow")
	return s.send(b, "/consent", consent)
}

// code logs the user in and returns the code that the application is given.
func (s *server) code(t *testing.T, a *app, user string) string {
	t.Helper()
	b := newBrowser(t)
	p := s.submit(b, s.begin(b, a), user, s.password(t, user))
	u, err := url.Parse(p.header.Get("Location"))
	if err != nil || p.status != http.StatusFound {
		t.Fatalf("login: %d %s %v", p.status, p.body, err)
	}
	q := u.Query()
	u.RawQuery = ""
	if u.String() != a.RedirectURL || q.Get("state") != "the state" || q.Get("iss") != s.issuer || q.Get("code") == "" {
		t.Fatalf("redirected to %s with %v", u, q)
	}
	return q.Get("code")
}

func (s *server) exchange(t *testing.T, a *app, user string) (*oauth2.Token, error) {
	t.Helper()
	return a.Exchange(t.Context(), s.code(t, a, user), oauth2.VerifierOption(a.verifier))
}

func (s *server) login(t *testing.T, a *app, user string) *oauth2.Token {
	t.Helper()
	token, err := s.exchange(t, a, user)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func idToken(t *testing.T, token *oauth2.Token) string {
	t.Helper()
	id, ok := token.Extra("id_token").(string)
	if !ok {
		t.Fatal("no id token")
	}
	return id
}

// verify checks a token as the jobs API will: by the key set, issuer and
// audience.
func (s *server) verify(t *testing.T, token string) jwt.MapClaims {
	t.Helper()
	keys, err := keyfunc.NewDefaultCtx(t.Context(), []string{s.issuer + "/keys"})
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(token, claims, keys.Keyfunc, jwt.WithValidMethods([]string{"RS256"}),
		jwt.WithIssuer(s.issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// oauthError is the error code of a refused token request, with its status.
func oauthError(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return "no error"
	}
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return fmt.Sprint(refused.Response.StatusCode, " ", refused.ErrorCode)
}

func TestLoginWithCodeAndPKCEGivesVerifiableTokens(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())

	// The application listens on a port of its own, as RFC 8252 has it.
	answers := make(chan url.Values, 1)
	application := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { answers <- r.URL.Query() }))
	t.Cleanup(application.Close)
	a := s.app("openid", "profile", "offline_access", "jobs:submit", "jobs:read")
	a.RedirectURL = application.URL + "/callback"
	b := newBrowser(t)
	b.client.CheckRedirect = nil
	if p := s.submit(b, s.begin(b, a), "alice", s.password(t, "alice")); p.status != http.StatusOK {
		t.Fatalf("login: %d %s", p.status, p.body)
	}
	answer := <-answers
	if answer.Get("state") != "the state" {
		t.Errorf("state = %q", answer.Get("state"))
	}
	token, err := a.Exchange(t.Context(), answer.Get("code"), oauth2.VerifierOption(a.verifier))
	if err != nil {
		t.Fatal(err)
	}

	claims := s.verify(t, token.AccessToken)
	want := map[string]any{
		"iss": s.issuer, "sub": "alice", "aud": []any{audience}, "client_id": idp.PublicClientID,
		"scope": "openid profile offline_access jobs:submit jobs:read",
	}
	for name, value := range want {
		if !cmp.Equal(claims[name], value) {
			t.Errorf("%s = %v, want %v", name, claims[name], value)
		}
	}
	if id, _ := claims["jti"].(string); len(id) < 20 {
		t.Errorf("jti = %q", id)
	}
	iat, err := claims.GetIssuedAt()
	if err != nil {
		t.Fatal(err)
	}
	exp, err := claims.GetExpirationTime()
	if err != nil {
		t.Fatal(err)
	}
	if d := exp.Sub(iat.Time) - 15*time.Minute; d.Abs() > time.Second {
		t.Errorf("the token lives from %v to %v, want 15 minutes", iat, exp)
	}
	if d := time.Until(token.Expiry); d > 15*time.Minute || d < 14*time.Minute {
		t.Errorf("expires_in is %v", d)
	}
	if token.RefreshToken == "" || token.TokenType != "Bearer" {
		t.Errorf("token = %+v", token)
	}

	party, err := rp.NewRelyingPartyOIDC(t.Context(), s.issuer, idp.PublicClientID, "", a.RedirectURL, a.Scopes,
		rp.WithVerifierOpts(rp.WithNonce(func(context.Context) string { return nonce })))
	if err != nil {
		t.Fatal(err)
	}
	id, err := rp.VerifyTokens[*oidc.IDTokenClaims](t.Context(), token.AccessToken, idToken(t, token), party.IDTokenVerifier())
	if err != nil {
		t.Fatal(err)
	}
	if id.Subject != "alice" || !slices.Equal(id.Audience, oidc.Audience{idp.PublicClientID}) {
		t.Errorf("the id token is about %q and for %v", id.Subject, id.Audience)
	}
}

func TestIDTokenIsGivenOnlyToThoseWhoAskForOpenID(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	token := s.login(t, s.app("jobs:read"), "alice")
	if token.Extra("id_token") != nil || token.RefreshToken != "" {
		t.Errorf("got id token %v and refresh token %q", token.Extra("id_token"), token.RefreshToken)
	}
}

func TestLoginGrantsWhatIsAskedForAndAllowed(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	const all = "jobs:submit jobs:read jobs:cancel jobs:redrive jobs:admin"
	tests := []struct{ user, asked, granted string }{
		{"alice", all, "jobs:submit jobs:read jobs:cancel jobs:redrive"},
		{"bob", all, "jobs:submit jobs:read"},
		{"admin", all, all},
		{"viewer", all, "jobs:read"},
		{"viewer", "jobs:submit", ""},
		{"alice", "jobs:read openid jobs:read", "jobs:read openid"},
		{"alice", "email jobs:read jobs:everything phone", "jobs:read"},
	}
	for _, tt := range tests {
		t.Run(tt.user+" "+tt.asked, func(t *testing.T) {
			t.Parallel()
			token := s.login(t, s.app(tt.asked), tt.user)
			if got := s.verify(t, token.AccessToken)["scope"]; got != tt.granted {
				t.Errorf("scope claim = %q, want %q", got, tt.granted)
			}
			if got, _ := token.Extra("scope").(string); got != tt.granted {
				t.Errorf("scope of the answer = %q, want %q", got, tt.granted)
			}
		})
	}
}

func TestWrongCredentialsShowTheSamePageAgain(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	var messages []string
	for _, tt := range []struct{ user, password string }{
		{"alice", "wrong"},
		{"nobody", "wrong"},
		{"alice", s.password(t, "bob")},
		{"", ""},
		{"alice", ""},
	} {
		b := newBrowser(t)
		p := s.submit(b, s.begin(b, s.app("openid")), tt.user, tt.password)
		if p.status != http.StatusOK || p.header.Get("Location") != "" {
			t.Fatalf("%q: %d to %q", tt.user, p.status, p.header.Get("Location"))
		}
		messages = append(messages, regexp.MustCompile(`role="alert">(.*)</p>`).FindString(p.body))
		_, form := p.form(t)
		if form.Get("username") != tt.user || form.Get("password") != "" {
			t.Errorf("%q: the form has %v", tt.user, form)
		}
		if p := s.submit(b, form, "alice", s.password(t, "alice")); p.status != http.StatusFound {
			t.Errorf("%q: the right password afterwards: %d", tt.user, p.status)
		}
	}
	if slices.Sort(messages); messages[0] == "" || len(slices.Compact(messages)) != 1 {
		t.Errorf("messages differ or are missing: %q", messages)
	}
}

func TestUserNameIsEscapedOnThePage(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	p := s.submit(b, s.begin(b, s.app("openid")), `"><script>alert(1)</script>`, "x")
	if strings.Contains(p.body, "<script") {
		t.Error(p.body)
	}
}

func TestForgedLoginFormIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	good := http.Header{"Origin": {s.origin()}}
	tests := []struct {
		name   string
		change func(b *browser, form url.Values)
		header http.Header
		status int
	}{
		{"as it should be", func(*browser, url.Values) {}, good, http.StatusOK},
		{"no browser, neither header", func(*browser, url.Values) {}, nil, http.StatusOK},
		{"no token", func(_ *browser, f url.Values) { f.Del("token") }, good, http.StatusForbidden},
		{"wrong token", func(_ *browser, f url.Values) { f.Set("token", f.Get("token")[1:]) }, good, http.StatusForbidden},
		{"another login's token", func(b *browser, f url.Values) {
			f.Set("token", s.begin(b, s.app("openid")).Get("token"))
		}, good, http.StatusForbidden},
		{"another browser", func(b *browser, _ url.Values) { b.client.Jar = newBrowser(b.t).client.Jar }, good, http.StatusForbidden},
		{"another browser, with a cookie of its own", func(b *browser, _ url.Values) {
			b.client.Jar = newBrowser(b.t).client.Jar
			s.begin(b, s.app("openid"))
		}, good, http.StatusForbidden},
		{"another origin", func(*browser, url.Values) {}, http.Header{"Origin": {"http://evil.example"}}, http.StatusForbidden},
		{"another port", func(*browser, url.Values) {}, http.Header{"Origin": {"http://127.0.0.1:1"}}, http.StatusForbidden},
		{"opaque origin", func(*browser, url.Values) {}, http.Header{"Origin": {"null"}}, http.StatusForbidden},
		{"cross-site", func(*browser, url.Values) {}, http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{"same site, another port", func(*browser, url.Values) {}, http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t)
			form := s.begin(b, s.app("openid"))
			form.Set("username", "alice")
			form.Set("password", s.password(t, "alice"))
			tt.change(b, form)
			p := b.post(s.issuer+"/login", form, tt.header)
			if p.status != tt.status || p.asksForConsent() != (tt.status == http.StatusOK) {
				t.Errorf("status %d, want %d: %s", p.status, tt.status, p.body)
			}
		})
	}
}

func TestTwoTabsOfOneBrowserCanBothLogIn(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	first, second := s.begin(b, s.app("openid")), s.begin(b, s.app("openid"))
	for _, form := range []url.Values{first, second} {
		if p := s.submit(b, form, "alice", s.password(t, "alice")); p.status != http.StatusFound {
			t.Errorf("status %d: %s", p.status, p.body)
		}
	}
}

func TestLoginIsGoodOnceAndForTenMinutes(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	used, late := s.begin(b, s.app("openid")), s.begin(b, s.app("openid"))
	if p := s.submit(b, used, "alice", s.password(t, "alice")); p.status != http.StatusFound {
		t.Fatalf("status %d", p.status)
	}
	if p := s.submit(b, used, "alice", s.password(t, "alice")); p.status != http.StatusBadRequest {
		t.Errorf("second use: status %d", p.status)
	}
	s.ahead.Add(int64(10 * time.Minute))
	if p := s.submit(b, late, "alice", s.password(t, "alice")); p.status != http.StatusBadRequest {
		t.Errorf("after ten minutes: status %d", p.status)
	}
	if p := b.open(s.issuer + "/login?id=" + late.Get("id")); p.status != http.StatusBadRequest || !strings.Contains(p.body, "expired") {
		t.Errorf("page of an expired login: %d %s", p.status, p.body)
	}
	// The library's callback would give the code to whoever knows the id.
	if p := b.open(s.issuer + "/authorize/callback?id=" + used.Get("id")); p.status != http.StatusNotFound {
		t.Errorf("callback endpoint: status %d", p.status)
	}
}

func TestLoginsUnderWayAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	oldest := s.begin(b, s.app("openid"))
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, s.app("openid").url(), http.NoBody)
	for range 1024 {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, request)
		if w.Code != http.StatusFound {
			t.Fatalf("status %d", w.Code)
		}
	}
	if p := s.submit(b, oldest, "alice", s.password(t, "alice")); p.status != http.StatusBadRequest {
		t.Errorf("the oldest login was kept: status %d", p.status)
	}
	for _, ahead := range []time.Duration{0, 10 * time.Minute} { // full of what is under way, then of what has expired
		s.ahead.Add(int64(ahead))
		if p := s.submit(b, s.begin(b, s.app("openid")), "alice", s.password(t, "alice")); p.status != http.StatusFound {
			t.Errorf("a new login %v later: status %d", ahead, p.status)
		}
	}
}

func TestFailedAttemptsAreLimited(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	form := s.begin(b, s.app("openid"))
	for range 5 {
		if p := s.submit(b, form, "alice", "wrong"); p.status != http.StatusOK {
			t.Fatalf("status %d", p.status)
		}
	}
	p := s.submit(b, form, "alice", s.password(t, "alice"))
	if after := p.header.Get("Retry-After"); p.status != http.StatusTooManyRequests || after == "" || len(after) > 2 {
		t.Errorf("the sixth attempt: %d, Retry-After %q", p.status, after)
	}
	other := newBrowser(t)
	if p := s.submit(other, s.begin(other, s.app("openid")), "bob", s.password(t, "bob")); p.status != http.StatusFound {
		t.Errorf("another user: status %d", p.status)
	}
	s.ahead.Add(int64(time.Minute))
	if p := s.submit(b, form, "alice", s.password(t, "alice")); p.status != http.StatusFound {
		t.Errorf("a minute later: status %d", p.status)
	}
}

func TestParallelAttemptsAreLimitedTogether(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	form := s.begin(b, s.app("openid"))
	var compared atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			f := url.Values{"id": form["id"], "token": form["token"]}
			if s.enter(b, f, "alice", "wrong").status == http.StatusOK {
				compared.Add(1)
			}
		})
	}
	wg.Wait()
	if n := compared.Load(); n != 5 {
		t.Errorf("%d passwords were compared, want 5", n)
	}
}

func TestPagesAreLockedDown(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	consent := func(redirect string) page {
		a := s.app("openid")
		a.RedirectURL = redirect
		b := newBrowser(t)
		form := s.begin(b, a)
		p := s.enter(b, form, "alice", s.password(t, "alice"))
		if !p.asksForConsent() {
			t.Fatalf("no consent page: %d %s", p.status, p.body)
		}
		return p
	}
	a := s.app("openid")
	tests := []struct {
		name  string
		page  page
		forms string
	}{
		{"login", newBrowser(t).open(a.url()), "form-action 'self';"},
		{"device", newBrowser(t).open(s.issuer + "/device"), "form-action 'self';"},
		{"consent", consent(redirect), "form-action 'self' http://127.0.0.1:50123;"},
		{"consent for IPv6", consent("http://[::1]:50123/callback"), "form-action 'self' http:;"},
		{"expired login", newBrowser(t).open(s.issuer + "/login?id=x"), "form-action 'none';"},
	}
	for _, tt := range tests {
		p := tt.page
		for name, want := range map[string]string{
			"Content-Type":                "text/html; charset=utf-8",
			"Cache-Control":               "no-store",
			"X-Frame-Options":             "DENY",
			"X-Content-Type-Options":      "nosniff",
			"Referrer-Policy":             "same-origin",
			"Access-Control-Allow-Origin": "",
		} {
			if got := p.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		_, style, _ := strings.Cut(p.body, "<style>")
		style, _, _ = strings.Cut(style, "</style>")
		sum := sha256.Sum256([]byte(style))
		csp := p.header.Get("Content-Security-Policy")
		for _, want := range []string{
			"default-src 'none';", "frame-ancestors 'none'", "base-uri 'none'", tt.forms,
			"style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';",
		} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: no %q in %q", tt.name, want, csp)
			}
		}
		if strings.Contains(p.body, "<script") || strings.Contains(p.body, "http") {
			t.Errorf("%s: the page loads something: %s", tt.name, p.body)
		}
		if tt.name != "login" && tt.name != "device" {
			continue // the browser has its cookie, or needs none
		}
		cookie := p.header.Get("Set-Cookie")
		for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=/oidc/"} {
			if !slices.Contains(strings.Split(cookie, "; "), want) {
				t.Errorf("%s: no %s in cookie %q", tt.name, want, cookie)
			}
		}
	}
}

func TestBadAuthorizationRequestIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	challenge := oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())
	good := url.Values{
		"client_id": {idp.PublicClientID}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"openid"},
		"state": {"s"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	const page = "" // refused with a page, without a redirect
	tests := []struct{ name, param, value, want string }{
		{"redirect to another host", "redirect_uri", "https://evil.example/callback", page},
		{"redirect to another path", "redirect_uri", "http://127.0.0.1:5/other", page},
		{"redirect with a query", "redirect_uri", redirect + "?a=b", page},
		{"redirect with a fragment", "redirect_uri", redirect + "#a", page},
		{"redirect with user info", "redirect_uri", "http://u@127.0.0.1:5/callback", page},
		{"redirect over https", "redirect_uri", "https://127.0.0.1:5/callback", page},
		{"redirect to a name", "redirect_uri", "http://localhost:5/callback", page},
		{"redirect to a look-alike", "redirect_uri", "http://127.0.0.1.evil.example/callback", page},
		{"no redirect", "redirect_uri", "", page},
		{"unknown client", "client_id", "nobody", page},
		{"no client", "client_id", "", page},
		{"machine client", "client_id", idp.MachineClientID, page},
		{"huge state", "state", strings.Repeat("s", 5000), page},
		{"no PKCE", "code_challenge", "", "invalid_request"},
		{"short challenge", "code_challenge", "abc", "invalid_request"},
		{"plain PKCE", "code_challenge_method", "plain", "invalid_request"},
		{"PKCE without method, which means plain", "code_challenge_method", "", "invalid_request"},
		{"unknown PKCE method", "code_challenge_method", "S512", "invalid_request"},
		{"implicit flow", "response_type", "id_token token", "unauthorized_client"},
		{"no response type", "response_type", "", "invalid_request"},
		{"form_post", "response_mode", "form_post", "invalid_request"},
		{"fragment", "response_mode", "fragment", "invalid_request"},
		{"no scope", "scope", "", "invalid_scope"},
		{"unknown scopes only", "scope", "email jobs:everything", "invalid_scope"},
		{"no login wanted", "prompt", "none", "login_required"},
		{"request object", "request", "e30.e30.", "request_not_supported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			query := maps.Clone(good)
			query.Set(tt.param, tt.value)
			p := newBrowser(t).open(s.issuer + "/authorize?" + query.Encode())
			location, err := url.Parse(p.header.Get("Location"))
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == page {
				if p.status != http.StatusBadRequest || location.String() != "" {
					t.Errorf("%d to %q: %s", p.status, location, p.body)
				}
				return
			}
			answer := location.Query()
			if location.Fragment != "" { // where the implicit flow and response_mode=fragment want it
				if answer, err = url.ParseQuery(location.Fragment); err != nil {
					t.Fatal(err)
				}
			}
			if got := answer.Get("error"); p.status != http.StatusFound || got != tt.want || location.Host != "127.0.0.1:50123" || answer.Get("iss") != s.issuer {
				t.Errorf("%d %q, want %q: %s", p.status, got, tt.want, location)
			}
		})
	}
}

func TestCodeIsRefusedUnlessTheRequestIsTheOneItWasGivenFor(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	tests := []struct {
		name   string
		change func(a *app) []oauth2.AuthCodeOption
		want   string
	}{
		{"right", func(a *app) []oauth2.AuthCodeOption {
			return []oauth2.AuthCodeOption{oauth2.VerifierOption(a.verifier)}
		}, "no error"},
		{"no verifier", func(*app) []oauth2.AuthCodeOption { return nil }, "400 invalid_request"},
		{"wrong verifier", func(*app) []oauth2.AuthCodeOption {
			return []oauth2.AuthCodeOption{oauth2.VerifierOption(oauth2.GenerateVerifier())}
		}, "400 invalid_grant"},
		{"challenge as verifier", func(a *app) []oauth2.AuthCodeOption {
			return []oauth2.AuthCodeOption{oauth2.VerifierOption(oauth2.S256ChallengeFromVerifier(a.verifier))}
		}, "400 invalid_grant"},
		{"another redirect", func(a *app) []oauth2.AuthCodeOption {
			a.RedirectURL = "http://127.0.0.1:1/callback"
			return []oauth2.AuthCodeOption{oauth2.VerifierOption(a.verifier)}
		}, "400 invalid_grant"},
		{"unknown client", func(a *app) []oauth2.AuthCodeOption {
			a.ClientID = "nobody"
			return []oauth2.AuthCodeOption{oauth2.VerifierOption(a.verifier)}
		}, "401 invalid_client"},
		{"another client", func(a *app) []oauth2.AuthCodeOption {
			a.ClientID, a.ClientSecret = idp.MachineClientID, s.secret(t)
			return []oauth2.AuthCodeOption{oauth2.VerifierOption(a.verifier)}
		}, "400 invalid_grant"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := s.app("jobs:read")
			code := s.code(t, a, "alice")
			options := tt.change(a)
			_, err := a.Exchange(t.Context(), code, options...)
			if got := oauthError(t, err); got != tt.want {
				t.Errorf("got %s, want %s: %v", got, tt.want, err)
			}
		})
	}
}

func TestCodeIsGoodForAMinute(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	for _, tt := range []struct {
		later time.Duration
		want  string
	}{
		{59 * time.Second, "no error"},
		{time.Minute, "400 invalid_grant"},
	} {
		a := s.app("jobs:read")
		code := s.code(t, a, "alice")
		s.ahead.Add(int64(tt.later))
		_, err := a.Exchange(t.Context(), code, oauth2.VerifierOption(a.verifier))
		if got := oauthError(t, err); got != tt.want {
			t.Errorf("%v later: got %s, want %s", tt.later, got, tt.want)
		}
	}
}

func TestCodeUsedTwiceRevokesWhatItGave(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("openid", "offline_access")
	code := s.code(t, a, "alice")
	token, err := a.Exchange(t.Context(), code, oauth2.VerifierOption(a.verifier))
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Exchange(t.Context(), code, oauth2.VerifierOption(a.verifier))
	if got := oauthError(t, err); got != "400 invalid_grant" {
		t.Errorf("second use: %s", got)
	}
	_, err = refresh(t, a, token.RefreshToken)
	if got := oauthError(t, err); got != "400 invalid_grant" {
		t.Errorf("refresh token of the first use: %s", got)
	}
}

func refresh(t *testing.T, a *app, token string) (*oauth2.Token, error) {
	t.Helper()
	return a.TokenSource(t.Context(), &oauth2.Token{RefreshToken: token}).Token()
}

func TestRefreshTokenRotatesAndReuseRevokesTheChain(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("openid", "offline_access", "jobs:submit", "jobs:admin")
	first := s.login(t, a, "alice")
	second, err := refresh(t, a, first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	third, err := refresh(t, a, second.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if first.RefreshToken == second.RefreshToken || second.RefreshToken == third.RefreshToken {
		t.Error("the refresh token did not change")
	}
	claims, before := s.verify(t, third.AccessToken), s.verify(t, first.AccessToken)
	if claims["sub"] != "alice" || claims["scope"] != "openid offline_access jobs:submit" || claims["client_id"] != idp.PublicClientID {
		t.Errorf("claims = %v", claims)
	}
	if claims["jti"] == before["jti"] {
		t.Error("two access tokens have one jti")
	}
	idToken(t, third)
	for i, token := range []string{first.RefreshToken, third.RefreshToken} {
		_, err := refresh(t, a, token)
		if got := oauthError(t, err); got != "400 invalid_grant" {
			t.Errorf("token %d after reuse: %s", i, got)
		}
	}
}

func TestRefreshTokenUsedByManyAtOnceServesOneAtMostAndIsRevoked(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("offline_access")
	token := s.login(t, a, "alice")
	var mu sync.Mutex
	var renewed []string
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if next, err := refresh(t, a, token.RefreshToken); err == nil {
				mu.Lock()
				defer mu.Unlock()
				renewed = append(renewed, next.RefreshToken)
			}
		})
	}
	wg.Wait()
	if len(renewed) != 1 {
		t.Fatalf("%d requests were served, want 1", len(renewed))
	}
	if _, err := refresh(t, a, renewed[0]); err == nil {
		t.Error("the chain outlived the reuse")
	}
}

func TestRefreshTokenIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("offline_access", "jobs:read")
	id, _, _ := strings.Cut(s.login(t, a, "alice").RefreshToken, ".")
	for _, token := range []string{id, id + ".", id + ".x", ".", "x.y", "x"} {
		_, err := refresh(t, a, token)
		if got := oauthError(t, err); got != "400 invalid_grant" {
			t.Errorf("%q: %s", token, got)
		}
	}
	late := s.login(t, a, "alice")
	s.ahead.Add(int64(23 * time.Hour))
	late, err := refresh(t, a, late.RefreshToken)
	if err != nil {
		t.Fatalf("after 23 hours: %v", err)
	}
	s.ahead.Add(int64(time.Hour))
	if _, err = refresh(t, a, late.RefreshToken); oauthError(t, err) != "400 invalid_grant" {
		t.Errorf("24 hours after the login: %v", err)
	}
}

func TestRefreshMayNarrowScopesButNotWidenThem(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("offline_access", "jobs:read", "jobs:submit")
	token := s.login(t, a, "alice")
	form := url.Values{
		"grant_type": {"refresh_token"}, "client_id": {idp.PublicClientID},
		"refresh_token": {token.RefreshToken}, "scope": {"jobs:read"},
	}
	p := newBrowser(t).post(s.issuer+"/oauth/token", form, nil)
	var narrowed struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(p.body), &narrowed); err != nil || p.status != http.StatusOK {
		t.Fatalf("%d %s", p.status, p.body)
	}
	if got := s.verify(t, narrowed.AccessToken)["scope"]; got != "jobs:read" {
		t.Errorf("narrowed to %q", got)
	}
	form.Set("refresh_token", narrowed.RefreshToken)
	form.Set("scope", "jobs:read jobs:cancel")
	if p := newBrowser(t).post(s.issuer+"/oauth/token", form, nil); p.status != http.StatusBadRequest || !strings.Contains(p.body, "invalid_scope") {
		t.Errorf("widened: %d %s", p.status, p.body)
	}
	whole, err := refresh(t, a, narrowed.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.verify(t, whole.AccessToken)["scope"]; got != "offline_access jobs:read jobs:submit" {
		t.Errorf("afterwards: %q", got)
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("openid", "offline_access")
	machine := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("demo:"+s.secret(t)))}}
	tests := []struct {
		name    string
		form    func(token *oauth2.Token) url.Values
		header  http.Header
		status  int
		revoked bool
	}{
		{"refresh token", func(token *oauth2.Token) url.Values {
			return url.Values{"token": {token.RefreshToken}, "client_id": {idp.PublicClientID}}
		}, nil, http.StatusOK, true},
		{"refresh token, said to be an access token", func(token *oauth2.Token) url.Values {
			return url.Values{"token": {token.RefreshToken}, "token_type_hint": {"access_token"}, "client_id": {idp.PublicClientID}}
		}, nil, http.StatusOK, true},
		{"another client's", func(token *oauth2.Token) url.Values {
			return url.Values{"token": {token.RefreshToken}}
		}, machine, http.StatusOK, false},
		{"access token", func(token *oauth2.Token) url.Values {
			return url.Values{"token": {token.AccessToken}, "client_id": {idp.PublicClientID}}
		}, nil, http.StatusBadRequest, false},
		{"unknown token", func(*oauth2.Token) url.Values {
			return url.Values{"token": {"unknown"}, "client_id": {idp.PublicClientID}}
		}, nil, http.StatusOK, false},
		{"unknown client", func(token *oauth2.Token) url.Values {
			return url.Values{"token": {token.RefreshToken}, "client_id": {"nobody"}}
		}, nil, http.StatusUnauthorized, false},
		{"machine client without its secret", func(token *oauth2.Token) url.Values {
			return url.Values{"token": {token.RefreshToken}, "client_id": {idp.MachineClientID}}
		}, nil, http.StatusUnauthorized, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			token := s.login(t, a, "alice")
			p := newBrowser(t).post(s.issuer+"/revoke", tt.form(token), tt.header)
			if p.status != tt.status {
				t.Errorf("status %d, want %d: %s", p.status, tt.status, p.body)
			}
			if _, err := refresh(t, a, token.RefreshToken); (err != nil) != tt.revoked {
				t.Errorf("refresh afterwards: %v", err)
			}
		})
	}
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	tests := []struct {
		name, id, secret string
		scopes           []string
		want             string // the granted scopes, or status and error
	}{
		{"some scopes", "demo", s.secret(t), []string{"jobs:submit", "jobs:read"}, "jobs:submit jobs:read"},
		{"no scope", "demo", s.secret(t), nil, "jobs:submit jobs:read jobs:cancel jobs:redrive"},
		{"one too many", "demo", s.secret(t), []string{"jobs:read", "jobs:admin"}, "jobs:read"},
		{"none it may have", "demo", s.secret(t), []string{"jobs:admin"}, "400 invalid_scope"},
		{"wrong secret", "demo", "wrong", nil, "401 invalid_client"},
		{"no secret", "demo", "", nil, "401 invalid_client"},
		{"unknown client", "nobody", s.secret(t), nil, "401 invalid_client"},
		{"public client", idp.PublicClientID, "", nil, "401 invalid_client"},
	}
	for _, tt := range tests {
		for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
			t.Run(fmt.Sprint(tt.name, style), func(t *testing.T) {
				t.Parallel()
				config := clientcredentials.Config{
					ClientID: tt.id, ClientSecret: tt.secret, Scopes: tt.scopes, TokenURL: s.issuer + "/oauth/token", AuthStyle: style,
				}
				token, err := config.Token(t.Context())
				if err != nil {
					if got := oauthError(t, err); got != tt.want {
						t.Errorf("got %s, want %s", got, tt.want)
					}
					return
				}
				claims := s.verify(t, token.AccessToken)
				if claims["scope"] != tt.want || claims["sub"] != "demo" || claims["client_id"] != "demo" {
					t.Errorf("claims = %v, want scope %q", claims, tt.want)
				}
				if token.RefreshToken != "" || token.Extra("id_token") != nil {
					t.Error("a machine got a refresh token or an id token")
				}
			})
		}
	}
}

func TestTokenEndpointRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	grant := url.Values{"grant_type": {"client_credentials"}, "client_id": {"demo"}, "client_secret": {s.secret(t)}}
	if p := b.post(s.issuer+"/oauth/token", grant, nil); p.status != http.StatusOK || p.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a good request: %d %v", p.status, p.header)
	}
	tests := []struct {
		name  string
		query string
		form  url.Values
		want  string
	}{
		{"parameters in the URL", "?" + grant.Encode(), nil, "invalid_request"},
		{"no grant type", "", url.Values{}, "invalid_request"},
		{"unknown grant type", "", url.Values{"grant_type": {"password"}}, "unsupported_grant_type"},
		{"JWT bearer", "", url.Values{"grant_type": {string(oidc.GrantTypeBearer)}, "assertion": {"e30.e30.e30"}}, "unsupported_grant_type"},
		{"token exchange", "", url.Values{"grant_type": {string(oidc.GrantTypeTokenExchange)}}, "unsupported_grant_type"},
		{"huge body", "", url.Values{"grant_type": {"client_credentials"}, "x": {strings.Repeat("x", 1<<17)}}, "invalid_request"},
	}
	for _, tt := range tests {
		p := b.post(s.issuer+"/oauth/token"+tt.query, tt.form, nil)
		if p.status != http.StatusBadRequest || !strings.Contains(p.body, `"`+tt.want+`"`) {
			t.Errorf("%s: %d %s", tt.name, p.status, p.body)
		}
	}
	if p := b.open(s.issuer + "/oauth/token?" + grant.Encode()); p.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", p.status)
	}
	p := b.post(s.issuer+"/oauth/token", url.Values{"grant_type": {"client_credentials"}}, http.Header{"Authorization": {"Basic ZGVtbzp4"}})
	if p.status != http.StatusUnauthorized || !strings.HasPrefix(p.header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("wrong secret: %d, challenge %q", p.status, p.header.Get("WWW-Authenticate"))
	}
}

func TestUserinfo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	full := s.login(t, s.app("openid", "profile"), "alice")
	tests := []struct {
		name, authorization string
		status              int
		want                string // the body, or the challenge
	}{
		{"with profile", "Bearer " + full.AccessToken, 200, `{"sub":"alice","name":"alice","preferred_username":"alice"}`},
		{"any case of the scheme", "bearer " + full.AccessToken, 200, `{"sub":"alice","name":"alice","preferred_username":"alice"}`},
		{"without profile", "Bearer " + s.login(t, s.app("openid"), "bob").AccessToken, 200, `{"sub":"bob"}`},
		{"without openid", "Bearer " + s.login(t, s.app("jobs:read"), "bob").AccessToken, 403, `Bearer error="insufficient_scope", scope="openid"`},
		{"id token", "Bearer " + idToken(t, full), 401, `Bearer error="invalid_token"`},
		{"broken token", "Bearer " + full.AccessToken[:len(full.AccessToken)-4], 401, `Bearer error="invalid_token"`},
		{"no token", "", 401, "Bearer"},
		{"other scheme", "Basic ZGVtbzp4", 401, "Bearer"},
	}
	for _, tt := range tests {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.issuer+"/userinfo", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", tt.authorization)
		p := newBrowser(t).do(r)
		got := p.header.Get("WWW-Authenticate")
		if p.status == http.StatusOK {
			var have, want any
			if json.Unmarshal([]byte(p.body), &have) != nil || json.Unmarshal([]byte(tt.want), &want) != nil || !cmp.Equal(have, want) {
				t.Errorf("%s: %s", tt.name, p.body)
			}
			got = tt.want
		}
		if p.status != tt.status || got != tt.want {
			t.Errorf("%s: %d %q, want %d %q", tt.name, p.status, got, tt.status, tt.want)
		}
	}
}

func TestDiscoverySaysWhatIsServed(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	p := newBrowser(t).open(s.issuer + "/.well-known/openid-configuration")
	var got map[string]any
	if err := json.Unmarshal([]byte(p.body), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"issuer":                        s.issuer,
		"authorization_endpoint":        s.issuer + "/authorize",
		"token_endpoint":                s.issuer + "/oauth/token",
		"userinfo_endpoint":             s.issuer + "/userinfo",
		"revocation_endpoint":           s.issuer + "/revoke",
		"device_authorization_endpoint": s.issuer + "/device_authorization",
		"jwks_uri":                      s.issuer + "/keys",
		"authorization_response_iss_parameter_supported": true,
		"response_types_supported":                       []any{"code"},
		"response_modes_supported":                       []any{"query"},
		"grant_types_supported": []any{
			"authorization_code", "urn:ietf:params:oauth:grant-type:device_code", "refresh_token", "client_credentials",
		},
		"code_challenge_methods_supported":           []any{"S256"},
		"id_token_signing_alg_values_supported":      []any{"RS256"},
		"subject_types_supported":                    []any{"public"},
		"token_endpoint_auth_methods_supported":      []any{"none", "client_secret_basic", "client_secret_post"},
		"revocation_endpoint_auth_methods_supported": []any{"none", "client_secret_basic", "client_secret_post"},
		"request_uri_parameter_supported":            false,
		"scopes_supported": []any{
			"openid", "profile", "offline_access", "jobs:submit", "jobs:read", "jobs:cancel", "jobs:redrive", "jobs:admin",
		},
		"claims_supported": []any{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "name", "preferred_username"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNothingElseIsServedAndNoOtherOriginIsLetIn(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	for _, path := range []string{"/", "/healthz", "/ready", "/oauth/introspect", "/end_session", "/nothing"} {
		if p := b.open(s.issuer + path); p.status != http.StatusNotFound {
			t.Errorf("%s: status %d", path, p.status)
		}
	}
	for _, path := range []string{"/.well-known/openid-configuration", "/keys", "/oauth/token", "/device_authorization", "/device", "/consent", "/revoke", "/userinfo"} {
		for _, method := range []string{"GET", "OPTIONS"} {
			r, err := http.NewRequestWithContext(t.Context(), method, s.issuer+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Origin", "http://evil.example")
			r.Header.Set("Access-Control-Request-Method", "POST")
			for name := range b.do(r).header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s answers with %s", method, path, name)
				}
			}
		}
	}
}

func TestKeySetHasNoPrivateKey(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal([]byte(newBrowser(t).open(s.issuer+"/keys").body), &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 1 {
		t.Fatalf("%d keys", len(set.Keys))
	}
	for member := range set.Keys[0] {
		if !slices.Contains([]string{"kty", "use", "alg", "kid", "n", "e"}, member) {
			t.Errorf("the key has a member %q", member)
		}
	}
	if set.Keys[0]["alg"] != "RS256" || set.Keys[0]["use"] != "sig" || set.Keys[0]["kid"] == "" {
		t.Errorf("key = %v", set.Keys[0])
	}
}

func TestRestartKeepsKeysAndSecrets(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "idp")
	before, err := idp.New(idp.Options{Issuer: "http://127.0.0.1:8080", Dir: dir, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	after, err := idp.New(idp.Options{Issuer: "http://127.0.0.1:8080", Dir: dir, Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	other, err := idp.New(idp.Options{Issuer: "http://127.0.0.1:8080", Dir: t.TempDir(), Audience: audience})
	if err != nil {
		t.Fatal(err)
	}
	keys := func(p *idp.Provider) string {
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:8080/keys", http.NoBody))
		return w.Body.String()
	}
	if diff := cmp.Diff(before.Users(), after.Users()); diff != "" {
		t.Errorf("users: %s", diff)
	}
	if diff := cmp.Diff(before.Clients(), after.Clients()); diff != "" {
		t.Errorf("clients: %s", diff)
	}
	if keys(before) != keys(after) {
		t.Error("the signing key changed")
	}
	if keys(before) == keys(other) || cmp.Equal(before.Users(), other.Users()) || cmp.Equal(before.Clients(), other.Clients()) {
		t.Error("two directories share a key, a password or a secret")
	}
	seen := map[string]bool{}
	for _, u := range before.Users() {
		if len(u.Password) < 20 || seen[u.Password] {
			t.Errorf("%s has a short password or another's", u.Name)
		}
		seen[u.Password] = true
	}
}

func TestStateIsReadableByItsOwnerOnly(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("modes are not kept on Windows")
	}
	for _, made := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "idp")
		if made {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := idp.New(idp.Options{Issuer: "http://127.0.0.1:8080", Dir: dir, Audience: audience}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("the directory has mode %v", info.Mode())
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != 1 {
			t.Errorf("files = %v", files)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
			}
		}
	}
}

func TestDamagedStateIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	if _, err := idp.New(idp.Options{Issuer: "http://127.0.0.1:8080", Dir: whole, Audience: audience}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(whole, "provider.json"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"empty":           "",
		"cut off":         string(data[:len(data)/2]),
		"unknown member":  strings.Replace(string(data), "{", `{"more": 1,`, 1),
		"bad signing key": strings.Replace(string(data), `"signing_key": "`, `"signing_key": "AAAA`, 1),
		"bad retired key": strings.Replace(string(data), "{", `{"retired_keys": [{"public_key": "AAAA", "until": "2100-01-01T00:00:00Z"}],`, 1),
		"bad crypto key":  strings.Replace(string(data), `"crypto_key": "`, `"crypto_key": "AAAA`, 1),
	}
	for name, damaged := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "provider.json")
			if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := idp.New(idp.Options{Issuer: "http://127.0.0.1:8080", Dir: filepath.Dir(file), Audience: audience})
			if err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("err = %v", err)
			}
			if after, err := os.ReadFile(file); err != nil || string(after) != damaged {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestNewUserGetsAPasswordWhileOthersKeepTheirs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := idp.Options{Issuer: "http://127.0.0.1:8080", Dir: dir, Audience: audience}
	before, err := idp.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "provider.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data = regexp.MustCompile(`"bob": "[^"]*",`).ReplaceAll(data, nil)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := idp.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range after.Users() {
		kept := u.Password == before.Users()[i].Password
		if u.Password == "" || kept != (u.Name != "bob") {
			t.Errorf("%s: password kept: %v", u.Name, kept)
		}
	}
}

func TestBadOptionsAreReportedTogether(t *testing.T) {
	t.Parallel()
	_, err := idp.New(idp.Options{Issuer: "https://example.com"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"https://example.com", "Dir", "Audience"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: no word of %s", err, want)
		}
	}
}

func TestIssuerHasToBeLoopbackHTTP(t *testing.T) {
	t.Parallel()
	seeded := t.TempDir()
	for _, tt := range []struct {
		issuer string
		ok     bool
	}{
		{"http://127.0.0.1:8080", true},
		{"http://127.0.0.1:8080/oidc", true},
		{"http://127.9.8.7/a/b", true},
		{"http://[::1]:8080/oidc", true},
		{"http://localhost:8080", true},
		{"https://127.0.0.1:8080", false},
		{"https://example.com", false},
		{"http://example.com", false},
		{"http://localhost.example.com", false},
		{"http://0.0.0.0:8080", false},
		{"http://10.0.0.1", false},
		{"http://127.0.0.1:8080/", false},
		{"http://127.0.0.1:8080/oidc/", false},
		{"http://127.0.0.1:8080/a//b", false},
		{"http://127.0.0.1:8080/a/../b", false},
		{"http://127.0.0.1:8080/{x}", false},
		{"http://127.0.0.1:8080/%7Bx%7D", false},
		{"http://127.0.0.1:8080?a=b", false},
		{"http://127.0.0.1:8080?", false},
		{"http://127.0.0.1:8080#a", false},
		{"http://u:p@127.0.0.1:8080", false},
		{"HTTP://127.0.0.1:8080", false},
		{"127.0.0.1:8080", false},
		{"", false},
	} {
		p, err := idp.New(idp.Options{Issuer: tt.issuer, Dir: seeded, Audience: audience})
		if (err == nil) != tt.ok || (p != nil) != tt.ok {
			t.Errorf("%q: %v", tt.issuer, err)
		}
	}
}

// FuzzRedirectURI: whatever is asked for, a browser is sent to the login page
// or to the application, and only if that is on this machine.
func FuzzRedirectURI(f *testing.F) {
	p, err := idp.New(idp.Options{Issuer: "http://127.0.0.1:8080/oidc", Dir: f.TempDir(), Audience: audience})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		redirect, "http://127.0.0.1/callback", "http://[::1]:9/callback", "http://127.0.0.1:/callback", "http://127.0.0.1:5/callback#x",
		"//127.0.0.1/callback", "http://127.0.0.1:5@evil.example/callback", "http://127.0.0.1\\@evil.example/callback", "javascript:alert(1)", "",
	} {
		f.Add(seed)
	}
	allowed := regexp.MustCompile(`^http://(127\.0\.0\.1|\[::1\])(:[0-9]+)?/callback$`)
	f.Fuzz(func(t *testing.T, uri string) {
		for _, method := range []string{"S256", "plain"} { // accepted, and refused to the application
			query := url.Values{
				"client_id": {idp.PublicClientID}, "redirect_uri": {uri}, "response_type": {"code"}, "scope": {"openid"},
				"code_challenge": {oauth2.S256ChallengeFromVerifier("v")}, "code_challenge_method": {method},
			}
			w := httptest.NewRecorder()
			p.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:8080/oidc/authorize?"+query.Encode(), http.NoBody))
			if moved := w.Header().Get("Location") != ""; moved != allowed.MatchString(uri) {
				t.Errorf("%q with %s: %d to %q", uri, method, w.Code, w.Header().Get("Location"))
			}
		}
	})
}
