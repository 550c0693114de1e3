package idp_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// consent logs alice in and returns the form that asks for her consent.
func (s *server) consent(b *browser, a *app) url.Values {
	b.t.Helper()
	p := s.enter(b, s.begin(b, a), "alice", s.password(b.t, "alice"))
	if !p.asksForConsent() {
		b.t.Fatalf("no consent page: %d %s", p.status, p.body)
	}
	_, form := p.form(b.t)
	return form
}

func TestConsentPageSaysWhoAsksForWhat(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	tests := []struct {
		user, asked string
		want, not   []string
	}{
		{"alice", "openid offline_access jobs:submit jobs:admin", []string{
			"<strong>alice</strong>", "<strong>jobgate</strong>", "know that it is you", "stay logged in for 24 hours", "submit jobs in your name",
			"<code>jobs:submit</code>", `value="allow"`, `value="refuse"`,
		}, []string{"jobs:admin", "jobs:read", "on a device", "do nothing"}},
		{"admin", "profile jobs:read jobs:cancel jobs:redrive jobs:admin", []string{
			"see your name", "see your jobs", "cancel your jobs", "run your jobs again", "everybody&#39;s jobs",
		}, []string{"jobs:submit"}},
		{"viewer", "jobs:submit", []string{"do nothing"}, []string{"<code>"}},
	}
	for _, tt := range tests {
		b := newBrowser(t)
		p := s.enter(b, s.begin(b, s.app(tt.asked)), tt.user, s.password(t, tt.user))
		if !p.asksForConsent() {
			t.Fatalf("%s: no consent page: %d %s", tt.user, p.status, p.body)
		}
		for _, want := range tt.want {
			if !strings.Contains(p.body, want) {
				t.Errorf("%s asked for %s: no %q on the page:\n%s", tt.user, tt.asked, want, p.body)
			}
		}
		for _, not := range tt.not {
			if strings.Contains(p.body, not) {
				t.Errorf("%s asked for %s: %q is on the page:\n%s", tt.user, tt.asked, not, p.body)
			}
		}
	}
}

func TestPagesCanBeUsedWithoutSeeingThem(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	login := b.open(s.app("openid").url())
	_, form := login.form(t)
	refused := s.enter(b, form, "alice", "wrong")
	pages := map[string]struct {
		page page
		want []string
	}{
		"login":         {login, []string{`<label for="username">`, `<label for="password">`, `id="username"`, `id="password"`, "autofocus"}},
		"refused login": {refused, []string{`role="alert"`, `id="message"`, `aria-describedby="message"`}},
		"consent":       {s.enter(b, form, "alice", s.password(t, "alice")), []string{`<h1 tabindex="-1" autofocus>Allow access?</h1>`, "<h2>"}},
		"device":        {b.open(s.issuer + "/device"), []string{`<label for="user_code">`, `id="user_code"`, "autofocus"}},
		"message":       {b.open(s.issuer + "/login?id=x"), []string{`role="alert"`}},
	}
	for name, tt := range pages {
		for _, want := range append(tt.want, `<html lang="en">`, "<title>", "<h1", "<main>", `name="viewport"`) {
			if !strings.Contains(tt.page.body, want) {
				t.Errorf("%s: no %s on the page:\n%s", name, want, tt.page.body)
			}
		}
	}
}

func TestRefusedConsentTellsTheApplication(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	form := s.consent(b, s.app("openid", "jobs:submit"))
	form.Set("decision", "refuse")
	p := s.send(b, "/consent", form)
	location, err := url.Parse(p.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	answer := location.Query()
	if p.status != http.StatusFound || !strings.HasPrefix(location.String(), redirect+"?") ||
		answer.Get("error") != "access_denied" || answer.Get("state") != "the state" || answer.Get("iss") != s.issuer || answer.Has("code") {
		t.Errorf("%d to %s: %s", p.status, location, p.body)
	}
	form.Set("decision", "allow")
	if p := s.send(b, "/consent", form); p.status != http.StatusBadRequest || p.header.Get("Location") != "" {
		t.Errorf("allowed after it was refused: %d to %q", p.status, p.header.Get("Location"))
	}
}

func TestConsentIsRefusedUnlessItsUserGivesItOnItsPage(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	good := http.Header{"Origin": {s.origin()}, "Sec-Fetch-Site": {"same-origin"}}
	tests := []struct {
		name   string
		change func(b *browser, form url.Values)
		header http.Header
		status int
	}{
		{"as it should be", func(*browser, url.Values) {}, good, http.StatusFound},
		{"no token", func(_ *browser, f url.Values) { f.Del("token") }, good, http.StatusForbidden},
		{"wrong token", func(_ *browser, f url.Values) { f.Set("token", f.Get("token")[1:]) }, good, http.StatusForbidden},
		{"another consent's token", func(b *browser, f url.Values) {
			f.Set("token", s.consent(b, s.app("openid")).Get("token"))
		}, good, http.StatusForbidden},
		{"the login form's token", func(b *browser, f url.Values) {
			f.Set("token", s.begin(b, s.app("openid")).Get("token"))
		}, good, http.StatusForbidden},
		{"the device form's token", func(b *browser, f url.Values) {
			_, device := b.open(s.issuer + "/device").form(b.t)
			f.Set("token", device.Get("token"))
		}, good, http.StatusForbidden},
		{"another browser", func(b *browser, _ url.Values) { b.client.Jar = newBrowser(b.t).client.Jar }, good, http.StatusForbidden},
		{"another login, not authenticated", func(b *browser, f url.Values) {
			f.Set("id", s.begin(b, s.app("openid")).Get("id"))
		}, good, http.StatusForbidden},
		{"another origin", func(*browser, url.Values) {}, http.Header{"Origin": {"http://evil.example"}}, http.StatusForbidden},
		{"another port", func(*browser, url.Values) {}, http.Header{"Origin": {"http://127.0.0.1:1"}}, http.StatusForbidden},
		{"opaque origin", func(*browser, url.Values) {}, http.Header{"Origin": {"null"}}, http.StatusForbidden},
		{"cross-site", func(*browser, url.Values) {}, http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{"no decision", func(_ *browser, f url.Values) { f.Del("decision") }, good, http.StatusBadRequest},
		{"unknown decision", func(_ *browser, f url.Values) { f.Set("decision", "Allow") }, good, http.StatusBadRequest},
		{"replayed", func(b *browser, f url.Values) { s.send(b, "/consent", f) }, good, http.StatusBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t)
			form := s.consent(b, s.app("openid"))
			form.Set("decision", "allow")
			tt.change(b, form)
			p := b.post(s.issuer+"/consent", form, tt.header)
			if p.status != tt.status || (p.header.Get("Location") != "") != (tt.status == http.StatusFound) {
				t.Errorf("%d to %q, want %d: %s", p.status, p.header.Get("Location"), tt.status, p.body)
			}
		})
	}
}

func TestTokenOfTheLoginFormIsNotOneForConsent(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	form := s.begin(b, s.app("openid"))
	if p := s.enter(b, form, "alice", s.password(t, "alice")); !p.asksForConsent() {
		t.Fatalf("%d %s", p.status, p.body)
	}
	if p := s.decide(b, url.Values{"id": form["id"], "token": form["token"]}, "allow"); p.status != http.StatusForbidden {
		t.Errorf("%d %s", p.status, p.body)
	}
}

// Who began a login knows its id, and must not consent in the name of who
// finishes it.
func TestConsentPageIsForTheBrowserOfTheLogin(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b, other := newBrowser(t), newBrowser(t)
	form := s.begin(b, s.app("openid"))
	address := s.issuer + "/consent?id=" + form.Get("id")
	if p := b.open(address); p.status != http.StatusBadRequest {
		t.Errorf("before the login: %d", p.status)
	}
	if p := s.enter(b, form, "alice", s.password(t, "alice")); !p.asksForConsent() {
		t.Fatalf("%d %s", p.status, p.body)
	}
	if p := b.open(address); !p.asksForConsent() {
		t.Errorf("loaded again: %d", p.status)
	}
	if p := other.open(address); p.status != http.StatusBadRequest || strings.Contains(p.body, "alice") {
		t.Errorf("in another browser: %d %s", p.status, p.body)
	}
	if p := b.open(s.issuer + "/login?id=" + form.Get("id")); p.status != http.StatusBadRequest {
		t.Errorf("login page after the login: %d", p.status)
	}
}

func TestConsentHasTenMinutes(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	for _, tt := range []struct {
		later time.Duration
		want  int
	}{
		{10*time.Minute - time.Second, http.StatusFound},
		{10 * time.Minute, http.StatusBadRequest},
	} {
		form := s.consent(b, s.app("openid"))
		s.ahead.Add(int64(tt.later))
		form.Set("decision", "allow")
		if p := s.send(b, "/consent", form); p.status != tt.want {
			t.Errorf("%v later: %d, want %d", tt.later, p.status, tt.want)
		}
	}
}

func TestCodeIsGoodForOneRequestWhateverItsVerifier(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("openid", "offline_access")
	code := s.code(t, a, "alice")
	_, err := a.Exchange(t.Context(), code, oauth2.VerifierOption(oauth2.GenerateVerifier()))
	if got := oauthError(t, err); got != "400 invalid_grant" {
		t.Errorf("wrong verifier: %s", got)
	}
	_, err = a.Exchange(t.Context(), code, oauth2.VerifierOption(a.verifier))
	if got := oauthError(t, err); got != "400 invalid_grant" {
		t.Errorf("right verifier afterwards: %s", got)
	}
}
