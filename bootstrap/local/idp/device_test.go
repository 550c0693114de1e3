package idp_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jobgate/jobgate/bootstrap/local/idp"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// device is what a device gets to show and to poll with.
type device struct {
	Code     string `json:"device_code"`
	UserCode string `json:"user_code"`
	Page     string `json:"verification_uri"`
	Complete string `json:"verification_uri_complete"`
	Expires  int    `json:"expires_in"`
	Interval int    `json:"interval"`
}

func (s *server) device(t *testing.T, scope string) device {
	t.Helper()
	p := newBrowser(t).post(s.issuer+"/device_authorization", url.Values{"client_id": {idp.PublicClientID}, "scope": {scope}}, nil)
	var d device
	if err := json.Unmarshal([]byte(p.body), &d); err != nil || p.status != http.StatusOK {
		t.Fatalf("device authorization: %d %s", p.status, p.body)
	}
	return d
}

type answer struct {
	Error   string `json:"error"`
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	Scope   string `json:"scope"`
}

// poll asks for the device's tokens once.
func (s *server) poll(t *testing.T, code string, change ...func(url.Values)) answer {
	t.Helper()
	form := url.Values{"grant_type": {deviceGrant}, "device_code": {code}, "client_id": {idp.PublicClientID}}
	for _, f := range change {
		f(form)
	}
	p := newBrowser(t).post(s.issuer+"/oauth/token", form, nil)
	var got answer
	if err := json.Unmarshal([]byte(p.body), &got); err != nil || (p.status == http.StatusOK) != (got.Error == "") {
		t.Fatalf("token: %d %s", p.status, p.body)
	}
	return got
}

// wait lets the device's interval pass.
func (s *server) wait(d time.Duration) { s.ahead.Add(int64(d)) }

// typeCode enters a code at the device page.
func (s *server) typeCode(b *browser, code string) page {
	b.t.Helper()
	action, form := b.open(s.issuer + "/device").form(b.t)
	if action != "/oidc/device" {
		b.t.Fatalf("the form goes to %q", action)
	}
	form.Set("user_code", code)
	return s.send(b, "/device", form)
}

// deviceConsent goes the way of the device's user to the form that asks.
func (s *server) deviceConsent(b *browser, d device) (p page, form url.Values) {
	b.t.Helper()
	_, login := s.typeCode(b, d.UserCode).form(b.t)
	p = s.enter(b, login, "alice", s.password(b.t, "alice"))
	if !p.asksForConsent() {
		b.t.Fatalf("no consent page: %d %s", p.status, p.body)
	}
	_, form = p.form(b.t)
	return p, form
}

func (s *server) decide(b *browser, form url.Values, decision string) page {
	b.t.Helper()
	form.Set("decision", decision)
	return s.send(b, "/consent", form)
}

func TestDeviceIsLoggedInByItsUser(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid offline_access jobs:submit jobs:admin")
	if !regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`).MatchString(d.UserCode) {
		t.Errorf("user code %q", d.UserCode)
	}
	if len(d.Code) < 22 || d.Page != s.issuer+"/device" || d.Complete != d.Page+"?user_code="+d.UserCode || d.Expires != 600 || d.Interval != 1 {
		t.Errorf("answer = %+v", d)
	}
	if got := s.poll(t, d.Code); got.Error != "authorization_pending" {
		t.Errorf("before anything: %+v", got)
	}
	b := newBrowser(t)
	p := b.open(d.Complete)
	if _, form := p.form(t); form.Get("user_code") != d.UserCode {
		t.Errorf("the code is not filled in: %v", form)
	}
	p, form := s.deviceConsent(b, d)
	for _, want := range []string{d.UserCode, "on a device", "<strong>alice</strong>", "<strong>jobgate</strong>", "jobs:submit"} {
		if !strings.Contains(p.body, want) {
			t.Errorf("no %q on the consent page:\n%s", want, p.body)
		}
	}
	s.wait(time.Second)
	if got := s.poll(t, d.Code); got.Error != "authorization_pending" {
		t.Errorf("before the consent: %+v", got)
	}
	if p := s.decide(b, form, "allow"); p.status != http.StatusOK || !strings.Contains(p.body, "The device is logged in") {
		t.Errorf("allowed: %d %s", p.status, p.body)
	}
	s.wait(time.Second)
	got := s.poll(t, d.Code)
	claims := s.verify(t, got.Access)
	const granted = "openid offline_access jobs:submit"
	if claims["sub"] != "alice" || claims["scope"] != granted || claims["client_id"] != idp.PublicClientID || got.Scope != granted {
		t.Errorf("claims = %v, scope %q", claims, got.Scope)
	}
	if got.ID == "" {
		t.Error("no id token")
	}
	if _, err := refresh(t, s.app(), got.Refresh); err != nil {
		t.Errorf("refresh token: %v", err)
	}
}

func TestDeviceGetsNoRefreshTokenUnlessItAsksForOne(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "jobs:read")
	b := newBrowser(t)
	_, form := s.deviceConsent(b, d)
	s.decide(b, form, "allow")
	if got := s.poll(t, d.Code); got.Access == "" || got.Refresh != "" || got.ID != "" {
		t.Errorf("got %+v", got)
	}
}

func TestRefusedDeviceIsTold(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid")
	b, late := newBrowser(t), newBrowser(t)
	_, form := s.deviceConsent(b, d)
	_, second := s.deviceConsent(late, d)
	if p := s.decide(b, form, "refuse"); p.status != http.StatusOK || !strings.Contains(p.body, "was refused") {
		t.Errorf("refused: %d %s", p.status, p.body)
	}
	if p := s.decide(late, second, "allow"); p.status != http.StatusBadRequest {
		t.Errorf("allowed after it was refused: %d %s", p.status, p.body)
	}
	if p := s.typeCode(b, d.UserCode); p.status != http.StatusOK || !strings.Contains(p.body, "No device waits") {
		t.Errorf("its code afterwards: %d %s", p.status, p.body)
	}
	if got := s.poll(t, d.Code); got.Error != "access_denied" {
		t.Errorf("the device got %+v", got)
	}
}

func TestCodeOfADeviceIsReadAsPeopleTypeIt(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid")
	for _, typed := range []string{
		d.UserCode, strings.ToLower(d.UserCode), strings.ReplaceAll(d.UserCode, "-", ""), " " + strings.ReplaceAll(d.UserCode, "-", " ") + " ",
	} {
		p := s.typeCode(newBrowser(t), typed)
		if action, _ := p.form(t); action != "/oidc/login" {
			t.Errorf("%q: led to %s", typed, action)
		}
	}
}

func TestGuessesOfDevicesCodesAreLimited(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid")
	for range 5 {
		b := newBrowser(t) // neither another browser each time helps, nor a right code in between
		if action, _ := s.typeCode(b, d.UserCode).form(t); action != "/oidc/login" {
			t.Fatalf("led to %s", action)
		}
		if p := s.typeCode(b, "XXXX-XXXX"); p.status != http.StatusOK || !strings.Contains(p.body, "No device waits") {
			t.Fatalf("%d %s", p.status, p.body)
		}
	}
	p := s.typeCode(newBrowser(t), d.UserCode)
	if p.status != http.StatusTooManyRequests || p.header.Get("Retry-After") == "" {
		t.Errorf("after five wrong codes: %d, Retry-After %q", p.status, p.header.Get("Retry-After"))
	}
	s.wait(10 * time.Minute)
	if action, _ := s.typeCode(newBrowser(t), s.device(t, "openid").UserCode).form(t); action != "/oidc/login" {
		t.Errorf("ten minutes later: led to %s", action)
	}
}

func TestParallelGuessesAreLimitedTogether(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	_, form := b.open(s.issuer + "/device").form(t)
	var compared atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if s.send(b, "/device", url.Values{"token": form["token"], "user_code": {"XXXX-XXXX"}}).status == http.StatusOK {
				compared.Add(1)
			}
		})
	}
	wg.Wait()
	if n := compared.Load(); n != 5 {
		t.Errorf("%d codes were compared, want 5", n)
	}
}

func TestForgedDeviceFormIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid")
	good := http.Header{"Origin": {s.origin()}}
	tests := []struct {
		name   string
		change func(b *browser, form url.Values)
		header http.Header
		status int
	}{
		{"as it should be", func(*browser, url.Values) {}, good, http.StatusOK},
		{"no token", func(_ *browser, f url.Values) { f.Del("token") }, good, http.StatusForbidden},
		{"wrong token", func(_ *browser, f url.Values) { f.Set("token", f.Get("token")[1:]) }, good, http.StatusForbidden},
		{"a login's token", func(b *browser, f url.Values) {
			f.Set("token", s.begin(b, s.app("openid")).Get("token"))
		}, good, http.StatusForbidden},
		{"another browser", func(b *browser, _ url.Values) { b.client.Jar = newBrowser(b.t).client.Jar }, good, http.StatusForbidden},
		{"another browser, with a cookie of its own", func(b *browser, _ url.Values) {
			b.client.Jar = newBrowser(b.t).client.Jar
			b.open(s.issuer + "/device")
		}, good, http.StatusForbidden},
		{"another origin", func(*browser, url.Values) {}, http.Header{"Origin": {"http://evil.example"}}, http.StatusForbidden},
		{"another port", func(*browser, url.Values) {}, http.Header{"Origin": {"http://127.0.0.1:1"}}, http.StatusForbidden},
		{"opaque origin", func(*browser, url.Values) {}, http.Header{"Origin": {"null"}}, http.StatusForbidden},
		{"same site, another port", func(*browser, url.Values) {}, http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t)
			_, form := b.open(s.issuer + "/device").form(t)
			form.Set("user_code", d.UserCode)
			tt.change(b, form)
			p := b.post(s.issuer+"/device", form, tt.header)
			if p.status != tt.status || strings.Contains(p.body, `action="/oidc/login"`) != (tt.status == http.StatusOK) {
				t.Errorf("status %d, want %d: %s", p.status, tt.status, p.body)
			}
		})
	}
}

func TestTypedCodeIsEscapedOnThePage(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	const hostile = `"><script>alert(1)</script>`
	b := newBrowser(t)
	for _, p := range []page{b.open(s.issuer + "/device?user_code=" + url.QueryEscape(hostile)), s.typeCode(b, hostile)} {
		if p.status != http.StatusOK || strings.Contains(p.body, "<script") {
			t.Error(p.status, p.body)
		}
	}
}

func TestDevicePageMovesToTheIssuersName(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := newBrowser(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(s.origin(), "http://"), ":")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.issuer+"/device?user_code=ABCD", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "localhost:" + port
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if p := b.do(r); p.status != http.StatusFound || p.header.Get("Location") != s.issuer+"/device?user_code=ABCD" {
		t.Errorf("%d to %q", p.status, p.header.Get("Location"))
	}
}

func TestPollingIsHeldToItsInterval(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid")
	steps := []struct {
		later time.Duration
		want  string
	}{
		{0, "authorization_pending"}, // the first one may come at once
		{time.Second, "authorization_pending"},
		{500 * time.Millisecond, "slow_down"}, // from here on 6 s
		{3 * time.Second, "slow_down"},        // 11 s
		{11 * time.Second, "authorization_pending"},
		{10 * time.Second, "slow_down"}, // 16 s: what was added stays
		{16 * time.Second, "authorization_pending"},
	}
	for i, step := range steps {
		s.wait(step.later)
		if got := s.poll(t, d.Code); got.Error != step.want {
			t.Errorf("step %d: %+v, want %s", i, got, step.want)
		}
	}
	b := newBrowser(t)
	_, form := s.deviceConsent(b, d)
	s.decide(b, form, "allow")
	if got := s.poll(t, d.Code); got.Error != "slow_down" || got.Access != "" {
		t.Errorf("too early for its tokens: %+v", got)
	}
	s.wait(21 * time.Second)
	if got := s.poll(t, d.Code); got.Access == "" {
		t.Errorf("in time: %+v", got)
	}
}

func TestDeviceThatNeverSlowsDownIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid")
	s.poll(t, d.Code)
	var got answer
	slowed := 0
	for got = s.poll(t, d.Code); got.Error == "slow_down" && slowed < 100; got = s.poll(t, d.Code) {
		slowed++
	}
	if slowed != 11 || got.Error != "expired_token" {
		t.Errorf("was told %d times to slow down, then %+v", slowed, got)
	}
	s.wait(2 * time.Minute)
	if got := s.poll(t, d.Code); got.Error != "expired_token" {
		t.Errorf("two minutes later: %+v", got)
	}
}

func TestDeviceHasTenMinutes(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid")
	b := newBrowser(t)
	s.wait(5 * time.Minute)
	_, form := s.deviceConsent(b, d) // has ten minutes of its own
	s.wait(5 * time.Minute)
	if p := s.decide(b, form, "allow"); p.status != http.StatusBadRequest {
		t.Errorf("allowed: %d %s", p.status, p.body)
	}
	if p := s.typeCode(b, d.UserCode); !strings.Contains(p.body, "No device waits") {
		t.Errorf("its code: %d %s", p.status, p.body)
	}
	if got := s.poll(t, d.Code); got.Error != "expired_token" {
		t.Errorf("the device got %+v", got)
	}
	s.wait(10 * time.Minute)
	if got := s.poll(t, d.Code); got.Error != "invalid_grant" {
		t.Errorf("long afterwards: %+v", got)
	}
}

func TestDeviceThatWasAllowedInTimeHasToAskInTime(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid")
	b := newBrowser(t)
	_, form := s.deviceConsent(b, d)
	s.decide(b, form, "allow")
	s.wait(10 * time.Minute)
	if got := s.poll(t, d.Code); got.Error != "expired_token" {
		t.Errorf("the device got %+v", got)
	}
}

func TestDeviceCodeUsedTwiceRevokesWhatItGave(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid offline_access")
	b := newBrowser(t)
	_, form := s.deviceConsent(b, d)
	s.decide(b, form, "allow")
	first := s.poll(t, d.Code)
	s.wait(time.Second)
	if got := s.poll(t, d.Code); got.Error != "invalid_grant" {
		t.Errorf("second use: %+v", got)
	}
	_, err := refresh(t, s.app(), first.Refresh)
	if got := oauthError(t, err); got != "400 invalid_grant" {
		t.Errorf("refresh token of the first use: %s", got)
	}
}

func TestDeviceCodeIsForItsClient(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	d := s.device(t, "openid")
	tests := []struct {
		name   string
		code   string
		change func(url.Values)
		want   string
	}{
		{"unknown code", "x", func(url.Values) {}, "invalid_grant"},
		{"no code", "", func(url.Values) {}, "invalid_grant"},
		{"the user code", d.UserCode, func(url.Values) {}, "invalid_grant"},
		{"no client", d.Code, func(f url.Values) { f.Del("client_id") }, "invalid_client"},
		{"unknown client", d.Code, func(f url.Values) { f.Set("client_id", "nobody") }, "invalid_client"},
		{"machine client", d.Code, func(f url.Values) { f.Set("client_id", idp.MachineClientID) }, "unauthorized_client"},
	}
	for _, tt := range tests {
		if got := s.poll(t, tt.code, tt.change); got.Error != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, got, tt.want)
		}
	}
	if got := s.poll(t, d.Code); got.Error != "authorization_pending" {
		t.Errorf("afterwards the device got %+v", got)
	}
}

func TestDeviceAuthorizationIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	good := url.Values{"client_id": {idp.PublicClientID}, "scope": {"openid jobs:read"}}
	tests := []struct {
		name   string
		query  string
		form   url.Values
		header http.Header
		status int
		want   string
	}{
		{"right", "", good, nil, http.StatusOK, "device_code"},
		{"parameters in the URL", "?" + good.Encode(), nil, nil, http.StatusBadRequest, "invalid_request"},
		{"a page of another site", "", good, http.Header{"Origin": {"http://evil.example"}}, http.StatusBadRequest, "invalid_request"},
		{"no scope", "", url.Values{"client_id": {idp.PublicClientID}}, nil, http.StatusBadRequest, "invalid_scope"},
		{"unknown scopes only", "", url.Values{"client_id": {idp.PublicClientID}, "scope": {"email"}}, nil, http.StatusBadRequest, "invalid_scope"},
		{"no client", "", url.Values{"scope": {"openid"}}, nil, http.StatusUnauthorized, "invalid_client"},
		{"unknown client", "", url.Values{"client_id": {"nobody"}, "scope": {"openid"}}, nil, http.StatusUnauthorized, "invalid_client"},
		{"machine client", "", url.Values{"client_id": {idp.MachineClientID}, "scope": {"jobs:read"}}, nil, http.StatusBadRequest, "unauthorized_client"},
	}
	for _, tt := range tests {
		p := newBrowser(t).post(s.issuer+"/device_authorization"+tt.query, tt.form, tt.header)
		if p.status != tt.status || !strings.Contains(p.body, `"`+tt.want+`"`) || p.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", tt.name, p.status, p.body)
		}
	}
	if p := newBrowser(t).open(s.issuer + "/device_authorization"); p.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", p.status)
	}
}

func TestWaitingDevicesAreBounded(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	oldest := s.device(t, "openid")
	s.wait(time.Second)
	form := url.Values{"client_id": {idp.PublicClientID}, "scope": {"openid"}}.Encode()
	for range 1024 {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, s.issuer+"/device_authorization", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		if s.Handler().ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if got := s.poll(t, oldest.Code); got.Error != "invalid_grant" {
		t.Errorf("the oldest device got %+v", got)
	}
	newest := s.device(t, "openid")
	if got := s.poll(t, newest.Code); got.Error != "authorization_pending" {
		t.Errorf("a new device got %+v", got)
	}
}
