package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
)

func TestMain(m *testing.M) {
	if os.Getenv("SESSION_TEST_TOKEN") != "" {
		printToken()
		return
	}
	goleak.VerifyTestMain(m)
}

// printToken is another process that needs a token.
func printToken() {
	limitFiles()
	s, err := Open(os.Getenv, "", time.Now)
	if err == nil && os.Getenv("SESSION_TEST_TOKEN") == "logout" {
		removed, err := s.Logout(context.Background())
		fmt.Println("removed:", removed, err)
		return
	}
	if err == nil {
		var token string
		if token, err = s.Token(context.Background()); err == nil {
			fmt.Println(token)
			return
		}
	}
	fmt.Println("error:", err)
}

// store puts tokens in the profile's file, as a login an hour ago.
func (d *desk) store(t *testing.T, is *testIssuer, tk tokens) *Session {
	t.Helper()
	s := d.begin(t, is, Profile{})
	if tk.Refresh != "" {
		is.mu.Lock()
		is.refresh = tk.Refresh
		is.mu.Unlock()
	}
	if _, err := s.keep(t.Context(), d.options(), grantCode, "", tk); err != nil {
		t.Fatal(err)
	}
	return d.open(t)
}

func expired() tokens {
	return tokens{
		Access: "access-old", Refresh: "refresh-old", Subject: "alice",
		Obtained: time.Now().Add(-time.Hour), Expires: time.Now().Add(-time.Minute),
	}
}

// wants checks an error, and that it tells no secret.
func wants(t *testing.T, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("the error is %v, want one that is %q and says %q", err, kind, text)
	}
	for _, secret := range []string{"refresh-", "access-", "code-", "secret-"} {
		if strings.Contains(strings.ReplaceAll(fmt.Sprint(err), "client-secret-file", ""), secret) {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
}

func TestALoginInTheBrowserGivesTokensThatOtherProcessesFind(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "[::1]", "localhost"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			if host == "[::1]" && !hasIPv6(t) {
				t.Skip("this machine has no IPv6 loopback address")
			}
			is, d := newIssuer(t), newDesk(t)
			is.redirect = func(back url.Values) { back.Set("iss", is.URL) }
			s := d.begin(t, is, Profile{RedirectHost: host, Audience: "jobs"})
			l, err := s.Browser(t.Context(), d.options())
			if err != nil {
				t.Fatal(err)
			}
			if l.Subject != "alice" || !l.Refreshable || l.Sealed || time.Until(l.Expires) < 50*time.Minute {
				t.Errorf("the login is %+v", l)
			}
			page, err := url.Parse(d.prompts[0].URL)
			if err != nil {
				t.Fatal(err)
			}
			q := page.Query()
			back, err := url.Parse(q.Get("redirect_uri"))
			if err != nil || back.Scheme != "http" || back.Host != host+":"+back.Port() || back.Path != "/callback" {
				t.Errorf("the redirect is %q: %v", q.Get("redirect_uri"), err)
			}
			if q.Get("scope") != "openid jobs:submit jobs:read jobs:cancel jobs:redrive offline_access" || q.Get("audience") != "jobs" ||
				q.Get("tenant") != "1" || len(q.Get("state")) < 26 || len(q.Get("nonce")) < 26 || q.Get("code_challenge_method") != "S256" {
				t.Errorf("the request is %v", q)
			}
			if verifier := is.sent("/token")[0].Get("code_verifier"); len(verifier) < 43 {
				t.Errorf("the verifier has %d characters, want 43 or more (RFC 7636 §4.1)", len(verifier))
			}
			token, err := d.open(t).Token(t.Context())
			if err != nil || !strings.HasPrefix(token, "access-") {
				t.Errorf("Token = %q, %v", token, err)
			}
			if n := len(is.sent("/token")); n != 1 {
				t.Errorf("the token endpoint was asked %d times", n)
			}
			if got := d.open(t).Profile(); got.RedirectHost != strings.Trim(host, "[]") || got.Audience != "jobs" || got.Server != "https://jobs.example" {
				t.Errorf("the profile is %+v", got)
			}
		})
	}
}

func TestALoginInTheBrowserIsRefused(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*testIssuer) {
		return func(is *testIssuer) { is.redirect = func(back url.Values) { back.Set(name, value) } }
	}
	claim := func(name string, value any) func(*testIssuer) {
		return func(is *testIssuer) { is.claims = oidctest.Object{name: value} }
	}
	metadata := func(name string, value any) func(*testIssuer) {
		return func(is *testIssuer) { is.metadata = oidctest.Object{name: value} }
	}
	for name, c := range map[string]struct {
		hostile func(*testIssuer)
		kind    error
		says    string
	}{
		"wrong state":          {set("state", "other"), ErrRefused, "another state"},
		"no state":             {func(is *testIssuer) { is.redirect = func(back url.Values) { back.Del("state") } }, ErrRefused, "another state"},
		"state twice":          {func(is *testIssuer) { is.redirect = func(back url.Values) { back.Add("state", "x") } }, ErrRefused, "state twice"},
		"wrong iss":            {set("iss", "https://evil.example"), ErrRefused, `"https://evil.example"`},
		"empty iss":            {set("iss", ""), ErrRefused, "of the issuer"},
		"missing iss":          {metadata("authorization_response_iss_parameter_supported", true), ErrRefused, "RFC 9207"},
		"declined":             {set("error", "access_denied"), ErrRefused, "declined"},
		"unknown scope":        {set("error", "invalid_scope"), ErrRefused, "--scope"},
		"an escape sequence":   {set("error", "\x1b[31mred"), ErrRefused, "?[31mred"},
		"no code":              {set("code", ""), ErrRefused, "no code"},
		"another's code":       {set("code", "code-stolen"), ErrRefused, "the code is not yours"},
		"wrong nonce":          {claim("nonce", "other"), ErrRefused, "nonce"},
		"no nonce":             {claim("nonce", nil), ErrRefused, "nonce"},
		"ID token's iss":       {claim("iss", "https://evil.example"), ErrRefused, "iss"},
		"ID token's aud":       {claim("aud", "other"), ErrRefused, "aud"},
		"ID token without aud": {claim("aud", nil), ErrRefused, "client"},
		"an access token":      {func(is *testIssuer) { is.claims = oidctest.Object{"aud": nil, "azp": "jobgate"} }, ErrRefused, "it has no aud"},
		"ID token expired":     {claim("exp", time.Now().Add(-time.Hour).Unix()), ErrRefused, "expired"},
		"ID token's key":       {func(is *testIssuer) { is.key = oidctest.NewKey("k", "ES256", 0) }, ErrRefused, "signature"},
		"no ID token":          {func(is *testIssuer) { is.answer = oidctest.Object{"id_token": nil} }, ErrRefused, "no ID token"},
		"another type":         {func(is *testIssuer) { is.answer = oidctest.Object{"token_type": "DPoP"} }, ErrRefused, "DPoP"},
		"no access token":      {func(is *testIssuer) { is.answer = oidctest.Object{"access_token": nil} }, ErrRefused, "no bearer token"},
		"a malformed answer":   {func(is *testIssuer) { is.answer = oidctest.Object{"access_token": 1} }, ErrRefused, "malformed"},
		"a large answer":       {func(is *testIssuer) { is.answer = oidctest.Object{"x": strings.Repeat("x", maxAnswer)} }, ErrRefused, "64 KiB"},
		"out of order":         {func(is *testIssuer) { is.failing = http.StatusBadGateway }, ErrUnavailable, "502"},
		"a redirect":           {func(is *testIssuer) { is.failing = http.StatusTemporaryRedirect }, ErrRefused, "307"},
		"no keys":              {func(is *testIssuer) { is.keys.Break() }, ErrUnavailable, "keys"},
		"another's metadata":   {metadata("issuer", "https://other.example"), ErrRefused, "https://other.example"},
		"plain http":           {metadata("token_endpoint", "http://id.example/token"), ErrRefused, "token_endpoint is not https"},
		"a page that is none":  {metadata("authorization_endpoint", "file:///etc/passwd"), ErrRefused, "authorization_endpoint"},
		"no page":              {metadata("authorization_endpoint", nil), ErrRefused, "authorization_endpoint"},
		"PKCE without S256":    {metadata("code_challenge_methods_supported", []string{"plain"}), ErrRefused, "S256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is, d := newIssuer(t), newDesk(t)
			c.hostile(is)
			_, err := d.begin(t, is, Profile{}).Browser(t.Context(), d.options())
			wants(t, err, c.kind, c.says)
			if len(is.sent("/elsewhere")) > 0 {
				t.Error("the form went elsewhere")
			}
			if _, err := Open(d.getenv, "", d.now); !errors.Is(err, ErrLogin) {
				t.Errorf("after it, Open = %v, want that there is no profile", err)
			}
		})
	}
}

func TestTheRedirectTakesOneAnswerAndNothingForAnotherName(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	opts := d.options()
	get := func(ctx context.Context, target, host string) int {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
		if err != nil {
			t.Error(err)
			return 0
		}
		req.Host = host
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	opts.Open = func(ctx context.Context, page string) error {
		u, err := url.Parse(page)
		if err != nil {
			return err
		}
		back, err := url.Parse(u.Query().Get("redirect_uri"))
		if err != nil {
			return err
		}
		if got := get(ctx, back.String()+"?state=x", "evil.example"); got != http.StatusMisdirectedRequest {
			t.Errorf("another name got %d", got)
		}
		if got := get(ctx, "http://"+back.Host+"/favicon.ico", back.Host); got != http.StatusNotFound {
			t.Errorf("another path got %d", got)
		}
		if err := visit(ctx, page); err != nil {
			return err
		}
		if got := get(ctx, back.String()+"?state=x", back.Host); got != http.StatusGone {
			t.Errorf("a second answer got %d", got)
		}
		return nil
	}
	if _, err := d.begin(t, is, Profile{}).Browser(t.Context(), opts); err != nil {
		t.Error(err)
	}
}

func TestALoginEndsWhenItIsToldTo(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	opts := d.options()
	opts.Open = func(context.Context, string) error { cancel(); return nil }
	if _, err := d.begin(t, is, Profile{}).Browser(ctx, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("Browser = %v", err)
	}
}

func TestAClockThatIsOffIsNamed(t *testing.T) {
	t.Parallel()
	for side, off := range map[string]time.Duration{"10m0s ahead of": 10 * time.Minute, "10m0s behind": -10 * time.Minute} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			is, d := newIssuer(t), newDesk(t)
			begun := time.Now()
			d.now = func() time.Time { return begun.Add(off).Round(time.Second) }
			_, err := d.begin(t, is, Profile{}).Browser(t.Context(), d.options())
			if !errors.Is(err, ErrClock) || !strings.Contains(err.Error(), strings.Fields(side)[1]) {
				t.Errorf("Browser = %v", err)
			}
		})
	}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if err := clockError(at.Add(10*time.Minute), at); err == nil ||
		err.Error() != "the clock is wrong: this machine's is 10m0s ahead of the issuer's, which says 2026-03-01T12:00:00Z: set it, then log in again" {
		t.Error(err)
	}
	if err := clockError(at.Add(-maxSkew), at); err != nil {
		t.Error(err)
	}
}

func TestADeviceLoginWaitsAsItIsTold(t *testing.T) {
	t.Parallel()
	problem := func(code string) oidctest.Object { return oidctest.Object{"error": code} }
	for name, c := range map[string]struct {
		problems []oidctest.Object
		failing  int
		kind     error
		says     string
		slept    []time.Duration
	}{
		"granted": {
			problems: []oidctest.Object{problem("authorization_pending"), problem("slow_down"), problem("authorization_pending")},
			slept:    []time.Duration{time.Second, time.Second, 6 * time.Second, 6 * time.Second},
		},
		"declined": {[]oidctest.Object{problem("access_denied")}, 0, ErrRefused, "declined", []time.Duration{time.Second}},
		"expired":  {[]oidctest.Object{problem("expired_token")}, 0, ErrRefused, "expired", []time.Duration{time.Second}},
		"unknown":  {[]oidctest.Object{{"error": "odd", "error_description": "not secret-device-code"}}, 0, ErrRefused, "the issuer says odd (not [redacted])", []time.Duration{time.Second}},
		"out of order": {
			nil, http.StatusServiceUnavailable, ErrRefused, "nobody gave the code within 1m0s",
			[]time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is, d := newIssuer(t), newDesk(t)
			is.problems, is.failing = c.problems, c.failing
			is.claims = oidctest.Object{"nonce": nil}
			begun := time.Now()
			d.now = func() time.Time { return begun }
			opts := d.options()
			opts.Open = nil
			l, err := d.begin(t, is, Profile{}).Device(t.Context(), opts)
			if c.kind != nil {
				wants(t, err, c.kind, c.says)
			} else if err != nil || l.Subject != "alice" {
				t.Errorf("Device = %+v, %v", l, err)
			}
			if !reflect.DeepEqual(d.slept, c.slept) {
				t.Errorf("it waited %v, want %v", d.slept, c.slept)
			}
			want := Prompt{URL: is.URL + "/activate", Complete: is.URL + "/activate?code=ABCD-EFGH", Code: "ABCD-EFGH", Lasts: time.Minute}
			if d.prompts[0] != want {
				t.Errorf("the prompt is %+v", d.prompts[0])
			}
		})
	}
}

func TestAProgramLogsInWithItsSecretAndAgainWhenItMust(t *testing.T) {
	t.Parallel()
	for _, methods := range [][]string{nil, {"client_secret_post"}} {
		is, d := newIssuer(t), newDesk(t)
		is.metadata = oidctest.Object{"token_endpoint_auth_methods_supported": methods}
		s := d.begin(t, is, Profile{ClientID: "ci", Scopes: []string{"jobs:read"}})
		_, err := s.ClientCredentials(t.Context(), d.options(), "")
		wants(t, err, ErrInvalid, "JOBGATE_CLIENT_SECRET")
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte("s3cr=t\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := s.ClientCredentials(t.Context(), d.options(), file)
		if err != nil || !l.Refreshable {
			t.Fatalf("ClientCredentials = %+v, %v", l, err)
		}
		form := is.sent("/token")[0]
		if methods == nil && (is.users[0] != "ci" || form.Has("client_secret")) || methods != nil && form.Get("client_secret") != "s3cr=t" {
			t.Errorf("the client showed %v as %q", form, is.users)
		}
		if form.Get("scope") != "jobs:read" || form.Get("grant_type") != "client_credentials" {
			t.Errorf("the form is %v", form)
		}
		text, err := os.ReadFile(s.store.file())
		if err != nil || strings.Contains(string(text), "s3cr") {
			t.Errorf("the secret is in the profile, or: %v", err)
		}
		d.now = func() time.Time { return time.Now().Add(59*time.Minute + 30*time.Second) }
		again := d.open(t)
		first, _, _, err := again.current()
		if err != nil {
			t.Fatal(err)
		}
		// That clock is off as well, which is found out.
		_, err = again.Token(t.Context())
		wants(t, err, ErrClock, "ahead")
		again.now = time.Now
		again.record.Grant = grantClient
		first.Expires = time.Now()
		if _, err := again.keep(t.Context(), d.options(), grantClient, file, first); err != nil {
			t.Fatal(err)
		}
		if token, err := again.Token(t.Context()); err != nil || token == first.Access {
			t.Errorf("Token = %q, %v, want a new one", token, err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if _, err := again.keep(t.Context(), d.options(), grantClient, file, first); err != nil {
			t.Fatal(err)
		}
		_, err = again.Token(t.Context())
		wants(t, err, ErrLogin, "jobgate login --client-credentials")
	}
}

func TestATokenFromElsewhereServesUntilItExpires(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	s := d.begin(t, is, Profile{})
	good := is.key.Sign(nil, oidctest.Object{"exp": time.Now().Add(time.Hour).Unix()})
	l, err := s.Adopt(t.Context(), d.options(), "Bearer "+good+"\n")
	if err != nil || l.Refreshable || time.Until(l.Expires) < 50*time.Minute {
		t.Errorf("Adopt = %+v, %v", l, err)
	}
	if token, err := d.open(t).Token(t.Context()); err != nil || token != good {
		t.Errorf("Token = %q, %v", token, err)
	}
	d.now = func() time.Time { return time.Now().Add(time.Hour) }
	_, err = d.open(t).Token(t.Context())
	wants(t, err, ErrLogin, "no refresh token; run: jobgate login --token-stdin")
	_, err = d.open(t).Adopt(t.Context(), d.options(), good)
	wants(t, err, ErrRefused, "expired")
	_, err = s.Adopt(t.Context(), d.options(), "access-1 access-2")
	wants(t, err, ErrInvalid, "malformed")
}

func TestARefreshKeepsWhatComesBack(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	s := d.store(t, is, expired())
	token, err := s.Token(t.Context())
	if err != nil || token == "access-old" {
		t.Fatalf("Token = %q, %v", token, err)
	}
	if again, err := s.Token(t.Context()); err != nil || again != token {
		t.Errorf("Token = %q, %v, want the same again", again, err)
	}
	now, _, _, err := s.current()
	if err != nil || now.Refresh != is.refresh || now.Subject != "alice" {
		t.Errorf("stored is %+v, %v", now, err)
	}

	// An issuer that does not rotate gives none back.
	is.answer = oidctest.Object{"refresh_token": nil}
	s = d.store(t, is, expired())
	if _, err := s.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now, _, _, err := s.current(); err != nil || now.Refresh != "refresh-old" {
		t.Errorf("stored is %+v, %v, want the old refresh token", now, err)
	}
}

func TestARefreshTokenThatIsNoGoodAsksForALogin(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*testIssuer){
		"expired or revoked": func(is *testIssuer) { is.refresh = "" },
		"used before":        func(is *testIssuer) { is.spent["refresh-old"], is.refresh = true, "refresh-newer" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is, d := newIssuer(t), newDesk(t)
			s := d.store(t, is, expired())
			spoil(is)
			_, err := s.Token(t.Context())
			wants(t, err, ErrLogin, "invalid_grant (no such token: [redacted])); run: jobgate login")
			if is.refresh != "" {
				t.Error("the issuer did not see the reuse")
			}
			leavesNothing(t, d)
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		is, d := newIssuer(t), newDesk(t)
		tk := expired()
		tk.Refresh = ""
		_, err := d.store(t, is, tk).Token(t.Context())
		wants(t, err, ErrLogin, "there is no refresh token; run: jobgate login")
	})
	t.Run("the issuer is down", func(t *testing.T) {
		t.Parallel()
		is, d := newIssuer(t), newDesk(t)
		s := d.store(t, is, expired())
		is.failing = http.StatusServiceUnavailable
		_, err := s.Token(t.Context())
		wants(t, err, ErrUnavailable, "503")
		is.failing = 0
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("later, Token = %v", err)
		}
	})
}

// inProcess runs Token in processes of their own, at once, and returns what each printed.
func inProcess(t *testing.T, d *desk, n int, env ...string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	printed := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), "SESSION_TEST_TOKEN=1", "JOBGATE_CONFIG_DIR="+d.env["JOBGATE_CONFIG_DIR"])
			cmd.Env = append(cmd.Env, env...)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			printed[i] = strings.TrimSpace(string(out))
		})
	}
	all.Wait()
	return printed
}

func TestProcessesThatRefreshAtOnceSpendOneRefreshToken(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	d.store(t, is, expired())
	printed := inProcess(t, d, 4)
	for _, token := range printed {
		if token != printed[0] || !strings.HasPrefix(token, "access-") || token == "access-old" {
			t.Errorf("the processes have the tokens %q, want one and the same new one", printed)
		}
	}
	if n := len(is.sent("/token")); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// leavesNothing checks that no room is kept that was not used.
func leavesNothing(t *testing.T, d *desk) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(d.env["JOBGATE_CONFIG_DIR"], "*.new")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestAFullDiskKeepsNoTokensAfterALogout(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the limit that stands for the full disk is Linux's")
	}
	is, d := newIssuer(t), newDesk(t)
	s := d.store(t, is, expired())
	if out := inProcess(t, d, 1, "SESSION_TEST_FULL=1", "SESSION_TEST_TOKEN=logout")[0]; out != "removed: true <nil>" {
		t.Errorf("the process says %q", out)
	}
	if text, err := os.ReadFile(s.store.file()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is %s, %v", text, err)
	}
}

func TestASessionDoesNotTakeAnotherLoginsTokens(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	s := d.store(t, is, tokens{Access: "x"})
	other := d.begin(t, is, Profile{Server: "https://other.example"})
	if _, err := other.keep(t.Context(), d.options(), grantCode, "", tokens{Access: "y"}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Token(t.Context())
	wants(t, err, ErrLogin, "changed by another login")
}

func TestAFullDiskIsFoundBeforeTheRefreshTokenIsSpent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the limit that stands for the full disk is Linux's")
	}
	is, d := newIssuer(t), newDesk(t)
	d.store(t, is, expired())
	if out := inProcess(t, d, 1, "SESSION_TEST_FULL=1")[0]; !strings.Contains(out, "no room for new tokens") {
		t.Errorf("the process says %q", out)
	}
	if n := len(is.sent("/token")); n != 0 {
		t.Errorf("the refresh token was used %d times", n)
	}
	leavesNothing(t, d)
	if out := inProcess(t, d, 1)[0]; !strings.HasPrefix(out, "access-") {
		t.Errorf("with room again the process says %q", out)
	}
}

func TestTheKeyringSealsTheTokens(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	opts := d.options()
	opts.Keyring = KeyringRequired
	l, err := d.begin(t, is, Profile{}).Browser(t.Context(), opts)
	if err != nil || !l.Sealed {
		t.Fatalf("Browser = %+v, %v", l, err)
	}
	s := d.open(t)
	sealed := func() string {
		text, err := os.ReadFile(s.store.file())
		if err != nil || strings.Contains(string(text), "access") || strings.Contains(string(text), "refresh") {
			t.Errorf("the file shows tokens: %s, %v", text, err)
		}
		return string(text)
	}
	before := sealed()
	if token, err := s.Token(t.Context()); err != nil || !strings.HasPrefix(token, "access-") {
		t.Errorf("Token = %q, %v", token, err)
	}
	is.life = 1
	s.now = func() time.Time { return time.Now().Add(time.Hour) }
	if _, err := s.Token(t.Context()); err != nil {
		t.Error(err)
	}
	if sealed() == before {
		t.Error("a refresh changed nothing")
	}

	// A file that somebody changed, to have the tokens sent to another server.
	s.now = time.Now
	text := strings.ReplaceAll(before, "https://jobs.example", "https://evil.example")
	if err := os.WriteFile(s.store.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = d.open(t).Token(t.Context())
	wants(t, err, ErrLogin, "do not fit the key")
	if err := os.WriteFile(s.store.file(), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}

	broken := errors.New("the collection is locked")
	d.keyring.fail(broken)
	_, err = s.Token(t.Context())
	wants(t, err, broken, "jobgate login --keyring off")
	if errors.Is(err, ErrLogin) {
		t.Errorf("a keyring that fails needs no login: %v", err)
	}
	d.keyring.fail(nil)
	d.keyring.entries = map[string]string{}
	_, err = s.Token(t.Context())
	wants(t, err, ErrLogin, "has no key")
}

func TestAKeyringThatFailsLeavesTheFileOrNothing(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	d.keyring.fail(errors.New("no session bus"))
	opts := d.options()
	opts.Keyring = KeyringRequired
	_, err := d.begin(t, is, Profile{}).Browser(t.Context(), opts)
	wants(t, err, d.keyring.err, "nothing was saved")
	if _, err := Open(d.getenv, "", d.now); !errors.Is(err, ErrLogin) {
		t.Errorf("Open = %v", err)
	}
	if len(is.sent("/revoke")) != 1 {
		t.Error("tokens that were not saved live on")
	}
	opts.Keyring = KeyringAuto
	l, err := d.begin(t, is, Profile{}).Browser(t.Context(), opts)
	if err != nil || l.Sealed || len(d.warned) != 1 || !strings.Contains(d.warned[0], "no session bus") {
		t.Errorf("Browser = %+v, %v, with the warnings %q", l, err, d.warned)
	}
	if _, err := d.open(t).Token(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheFileIsForItsUserAlone(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has other permissions")
	}
	is, d := newIssuer(t), newDesk(t)
	dir := filepath.Join(d.env["JOBGATE_CONFIG_DIR"], "a")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "default.json.new"), nil, 0o666); err != nil { // of a process that was killed
		t.Fatal(err)
	}
	d.env["JOBGATE_CONFIG_DIR"] = dir
	s := d.store(t, is, expired())
	for path, want := range map[string]os.FileMode{dir: 0o700, s.store.file(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

func TestLogoutRevokesAndRemoves(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*testIssuer)
		says   string
		sent   int
	}{
		"revoked":                {func(*testIssuer) {}, "", 1},
		"nothing to revoke at":   {func(is *testIssuer) { is.metadata = oidctest.Object{"revocation_endpoint": nil} }, "", 0},
		"a token that cannot be": {func(is *testIssuer) { is.revocation = oidctest.Object{"error": "unsupported_token_type"} }, "", 1},
		"refused":                {func(is *testIssuer) { is.revocation = oidctest.Object{"error": "invalid_client"} }, "invalid_client", 1},
		"an issuer that is off":  {func(is *testIssuer) { is.Close() }, "the tokens are removed, and were not revoked", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is, d := newIssuer(t), newDesk(t)
			s := d.store(t, is, expired())
			c.change(is)
			removed, err := s.Logout(t.Context())
			if !removed || (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("Logout = %v, %v", removed, err)
			}
			if sent := is.sent("/revoke"); len(sent) != c.sent || c.sent > 0 && sent[0].Get("token") != "refresh-old" {
				t.Errorf("revoked was %v", sent)
			}
			text, err := os.ReadFile(s.store.file())
			if err != nil || strings.Contains(string(text), "-old") || !strings.Contains(string(text), "https://jobs.example") {
				t.Errorf("the file is %s, %v", text, err)
			}
			_, err = d.open(t).Token(t.Context())
			wants(t, err, ErrLogin, "logged out; run: jobgate login")
			if removed, err := s.Logout(t.Context()); removed || err != nil {
				t.Errorf("again, Logout = %v, %v", removed, err)
			}
		})
	}
}

func TestOpenGoesByTheEnvironment(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	for name, c := range map[string]struct {
		env    map[string]string
		server string
		kind   error
		says   string
	}{
		"a profile":           {nil, "https://jobs.example", nil, ""},
		"its own server":      {map[string]string{"JOBGATE_SERVER": "https://jobs.example/"}, "https://jobs.example", nil, ""},
		"another server":      {map[string]string{"JOBGATE_SERVER": "https://evil.example"}, "", ErrInvalid, "is for https://jobs.example"},
		"another with token":  {map[string]string{"JOBGATE_SERVER": "https://b.example", "JOBGATE_TOKEN": "t"}, "https://b.example", nil, ""},
		"a token":             {map[string]string{"JOBGATE_TOKEN": "t"}, "https://jobs.example", nil, ""},
		"neither home":        {map[string]string{"JOBGATE_TOKEN": "t", "JOBGATE_SERVER": "https://b.example", "JOBGATE_CONFIG_DIR": ""}, "https://b.example", nil, ""},
		"token, no server":    {map[string]string{"JOBGATE_TOKEN": "t", "JOBGATE_PROFILE": "new"}, "", ErrInvalid, "JOBGATE_SERVER"},
		"token in the clear":  {map[string]string{"JOBGATE_TOKEN": "t", "JOBGATE_SERVER": "http://b.example"}, "", ErrInvalid, "not https"},
		"a malformed token":   {map[string]string{"JOBGATE_TOKEN": "access-1 access-2"}, "", ErrInvalid, "JOBGATE_TOKEN"},
		"no profile":          {map[string]string{"JOBGATE_PROFILE": "new"}, "", ErrLogin, `no profile "new"; run: jobgate login --profile new`},
		"a name that is none": {map[string]string{"JOBGATE_PROFILE": "../x"}, "", ErrInvalid, "no name"},
		"no place":            {map[string]string{"JOBGATE_CONFIG_DIR": ""}, "", ErrInvalid, "JOBGATE_CONFIG_DIR"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.store(t, is, tokens{Access: "kept"})
			maps.Copy(d.env, c.env)
			s, err := Open(d.getenv, "", d.now)
			if c.kind != nil {
				wants(t, err, c.kind, c.says)
				return
			}
			if err != nil || s.Profile().Server != c.server {
				t.Fatalf("Open = %v, %v", s, err)
			}
			want := "kept"
			if c.env["JOBGATE_TOKEN"] != "" {
				want = c.env["JOBGATE_TOKEN"]
			}
			if token, err := s.Token(t.Context()); err != nil || token != want {
				t.Errorf("Token = %q, %v, want %q", token, err, want)
			}
		})
	}
}

func TestNewRefusesSettingsThatWouldGiveTokensAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		p    Profile
		says string
	}{
		"server in the clear": {Profile{Server: "http://jobs.example"}, "not https"},
		"server with a user":  {Profile{Server: "https://u:p@jobs.example"}, "no URL"},
		"redirect elsewhere":  {Profile{RedirectHost: "0.0.0.0"}, "redirect host"},
		"no port":             {Profile{RedirectPort: 70000}, "port"},
		"no scope":            {Profile{Scopes: []string{"a b"}}, "scope"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			_, err := New(d.getenv, c.p, d.now)
			wants(t, err, ErrInvalid, c.says)
		})
	}
}

func TestNewFillsInWhatTheProfileHas(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	s, err := New(d.getenv, Profile{}, d.now)
	if err != nil || s.Profile().Server != "http://127.0.0.1:8080" || s.Profile().Issuer != "http://127.0.0.1:8080/oidc" {
		t.Errorf("New = %+v, %v", s.Profile(), err)
	}
	_, err = d.begin(t, is, Profile{ClientID: "mine", Scopes: []string{"a"}}).keep(t.Context(), d.options(), grantCode, "", tokens{Access: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := New(d.getenv, Profile{}, d.now); err != nil || s.Profile().ClientID != "mine" || s.Profile().Issuer != is.URL || s.Profile().Scopes[0] != "a" {
		t.Errorf("New = %+v, %v", s.Profile(), err)
	}
	if s, err := New(d.getenv, Profile{Server: "https://other.example"}, d.now); err != nil || s.Profile().ClientID != "" || s.Profile().Issuer != "" {
		t.Errorf("for another server New = %+v, %v", s.Profile(), err)
	}
}

func TestAnIssuerThatIsNotThereIsUnavailable(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	is.Close()
	_, err := d.begin(t, is, Profile{}).Browser(t.Context(), d.options())
	wants(t, err, ErrUnavailable, "connect")
}

func TestADamagedFileIsNotQuoted(t *testing.T) {
	t.Parallel()
	is, d := newIssuer(t), newDesk(t)
	s := d.store(t, is, expired())
	if err := os.WriteFile(s.store.file(), []byte(`{"tokens":{"access_token":"access-old"`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(d.getenv, "", d.now)
	wants(t, err, ErrInvalid, "is damaged")
}

func hasIPv6(t *testing.T) bool {
	t.Helper()
	back, err := listen(t.Context(), "::1", 0)
	if err == nil {
		back.close()
	}
	return err == nil
}

func FuzzExpiry(f *testing.F) {
	f.Add("a.eyJleHAiOjF9.b")
	f.Add("a.eyJleHAiOjFlOTl9.b")
	f.Fuzz(func(t *testing.T, token string) {
		if at := expiry(token); !at.IsZero() && (at.Year() < 1970 || at.Year() > 9999) {
			t.Errorf("expiry(%q) = %v", token, at)
		}
	})
}

func TestTheLifeOfATokenIsReadAsIssuersWriteIt(t *testing.T) {
	t.Parallel()
	is := newIssuer(t)
	jwt := is.key.Sign(nil, oidctest.Object{"exp": time.Now().Add(time.Hour).Unix()})
	for name, c := range map[string]struct {
		answer oidctest.Object
		lasts  time.Duration // zero: nobody knows
	}{
		"a number":        {oidctest.Object{"expires_in": 3600}, time.Hour},
		"a fraction":      {oidctest.Object{"expires_in": 3600.5}, time.Hour},
		"a string":        {oidctest.Object{"expires_in": "3600"}, time.Hour},
		"in a JWT":        {oidctest.Object{"expires_in": nil, "access_token": jwt}, time.Hour},
		"beyond measure":  {oidctest.Object{"expires_in": 1e300}, maxLife},
		"not said at all": {oidctest.Object{"expires_in": nil}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is, d := newIssuer(t), newDesk(t)
			is.answer = c.answer
			l, err := d.begin(t, is, Profile{}).Browser(t.Context(), d.options())
			if err != nil || l.Expires.IsZero() != (c.lasts == 0) || c.lasts > 0 && (time.Until(l.Expires)-c.lasts).Abs() > time.Minute {
				t.Errorf("the token lasts until %v (%v), want for %v", l.Expires, err, c.lasts)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":"1e9"}`))
	f.Add([]byte(`{"expires_in":-1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var a answer
		if json.Unmarshal(text, &a) == nil && (a.Expires.duration() < 0 || a.Expires.duration() > maxLife) {
			t.Errorf("%s lasts for %v", text, a.Expires.duration())
		}
	})
}
