package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
)

// A testIssuer is an issuer that can be told to be hostile.
type testIssuer struct {
	*httptest.Server
	keys oidctest.Issuer
	key  oidctest.Key

	mu         sync.Mutex
	metadata   oidctest.Object   // changes to the discovery document
	redirect   func(url.Values)  // changes to what the browser brings back
	claims     oidctest.Object   // changes to the ID token's
	answer     oidctest.Object   // changes to the token endpoint's answer
	problems   []oidctest.Object // what the token endpoint answers first, in turn
	revocation oidctest.Object   // what a revocation is refused with
	failing    int               // the status of every token answer, when not 0
	life       int               // of access tokens, in seconds
	logins     map[string]url.Values
	refresh    string // the only one that is good
	spent      map[string]bool
	forms      map[string][]url.Values // by path
	users      []string                // of HTTP Basic
}

func newIssuer(t *testing.T) *testIssuer {
	t.Helper()
	is := &testIssuer{
		key: oidctest.NewKey("k", "ES256", 0), life: 3600,
		logins: map[string]url.Values{}, spent: map[string]bool{}, forms: map[string][]url.Values{},
	}
	is.keys.Publish(is.key)
	mux := http.NewServeMux()
	is.Server = httptest.NewServer(mux)
	t.Cleanup(is.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		is.mu.Lock()
		defer is.mu.Unlock()
		answerJSON(w, http.StatusOK, oidctest.Object{
			"issuer": is.URL, "jwks_uri": is.URL + "/keys", "authorization_endpoint": is.URL + "/authorize?tenant=1",
			"token_endpoint": is.URL + "/token", "device_authorization_endpoint": is.URL + "/device",
			"revocation_endpoint": is.URL + "/revoke", "scopes_supported": []string{"openid", "offline_access"},
			"code_challenge_methods_supported": []string{"S256"},
		}.With(is.metadata))
	})
	mux.Handle("GET /keys", &is.keys)
	mux.HandleFunc("GET /authorize", is.authorize)
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, r *http.Request) {
		is.note(r)
		answerJSON(w, http.StatusOK, oidctest.Object{
			"device_code": "secret-device-code", "user_code": "ABCD-EFGH", "verification_uri": is.URL + "/activate",
			"verification_uri_complete": is.URL + "/activate?code=ABCD-EFGH", "expires_in": 60, "interval": 1,
		})
	})
	mux.HandleFunc("POST /token", is.token)
	mux.HandleFunc("POST /elsewhere", func(_ http.ResponseWriter, r *http.Request) { is.note(r) })
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		is.note(r)
		if is.revocation != nil {
			answerJSON(w, http.StatusBadRequest, is.revocation)
		}
	})
	return is
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

func (is *testIssuer) note(r *http.Request) {
	if err := r.ParseForm(); err != nil {
		panic(err)
	}
	user, _, _ := r.BasicAuth()
	is.mu.Lock()
	defer is.mu.Unlock()
	is.forms[r.URL.Path] = append(is.forms[r.URL.Path], r.PostForm)
	is.users = append(is.users, user)
}

// sent returns the forms that were posted to a path.
func (is *testIssuer) sent(path string) []url.Values {
	is.mu.Lock()
	defer is.mu.Unlock()
	return is.forms[path]
}

func (is *testIssuer) authorize(w http.ResponseWriter, r *http.Request) {
	is.mu.Lock()
	defer is.mu.Unlock()
	q := r.URL.Query()
	code := "code-" + rand.Text()
	is.logins[code] = q
	back := url.Values{"code": {code}, "state": {q.Get("state")}}
	if is.redirect != nil {
		is.redirect(back)
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (is *testIssuer) token(w http.ResponseWriter, r *http.Request) {
	is.note(r)
	is.mu.Lock()
	defer is.mu.Unlock()
	if is.failing != 0 {
		w.Header().Set("Location", "/elsewhere") // matters to a redirect
		w.WriteHeader(is.failing)
		return
	}
	if len(is.problems) > 0 {
		problem := is.problems[0]
		is.problems = is.problems[1:]
		answerJSON(w, http.StatusBadRequest, problem)
		return
	}
	form, nonce := r.PostForm, any(nil)
	refuse := func(why string) {
		answerJSON(w, http.StatusBadRequest, oidctest.Object{"error": "invalid_grant", "error_description": why})
	}
	switch form.Get("grant_type") {
	case "authorization_code":
		login, ok := is.logins[form.Get("code")]
		delete(is.logins, form.Get("code"))
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		if !ok || login.Get("redirect_uri") != form.Get("redirect_uri") || login.Get("code_challenge_method") != "S256" ||
			login.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) {
			refuse("the code is not yours")
			return
		}
		nonce = login.Get("nonce")
	case "refresh_token":
		used := form.Get("refresh_token")
		if used != is.refresh {
			if is.spent[used] { // reuse: the whole chain ends
				is.refresh = ""
			}
			refuse("no such token: " + used)
			return
		}
		is.spent[used] = true
	}
	is.refresh = "refresh-" + rand.Text()
	answerJSON(w, http.StatusOK, oidctest.Object{
		"access_token": "access-" + rand.Text(), "token_type": "bearer", "expires_in": is.life, "refresh_token": is.refresh,
		"id_token": is.key.Sign(nil, oidctest.Object{
			"iss": is.URL, "sub": "alice", "aud": "jobgate", "nonce": nonce,
			"iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(),
		}.With(is.claims)),
	}.With(is.answer))
}

// A memoryKeyring is a keyring that can fail.
type memoryKeyring struct {
	mu      sync.Mutex
	entries map[string]string
	err     error
}

func (k *memoryKeyring) get(name string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	secret, ok := k.entries[name]
	if k.err == nil && !ok {
		return "", errNoSecret
	}
	return secret, k.err
}

func (k *memoryKeyring) set(name, secret string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.entries[name] = secret
	}
	return k.err
}

func (k *memoryKeyring) remove(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.entries, name)
	return k.err
}

func (k *memoryKeyring) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// A desk is a user's machine.
type desk struct {
	env     map[string]string
	keyring *memoryKeyring
	now     func() time.Time
	slept   []time.Duration
	prompts []Prompt
	warned  []string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	return &desk{
		env:     map[string]string{"JOBGATE_CONFIG_DIR": t.TempDir()},
		keyring: &memoryKeyring{entries: map[string]string{}},
		now:     time.Now,
	}
}

func (d *desk) getenv(name string) string { return d.env[name] }

func (d *desk) options() Options {
	return Options{
		Keyring: KeyringOff,
		Show:    func(p Prompt) { d.prompts = append(d.prompts, p) },
		Open:    visit,
		Warn:    func(text string) { d.warned = append(d.warned, text) },
	}
}

// visit is a browser whose person clicks through.
func visit(ctx context.Context, page string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, http.NoBody)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %w", page, resp.Status, err)
	}
	return nil
}

// ready makes s use the desk's parts.
func (d *desk) ready(s *Session) *Session {
	s.keyring = d.keyring
	clock := d.now
	s.sleep = func(ctx context.Context, pause time.Duration) error {
		d.slept = append(d.slept, pause)
		before := s.now
		s.now = func() time.Time { return before().Add(pause) }
		return ctx.Err()
	}
	s.now = func() time.Time { return clock() }
	return s
}

// begin returns a session to log in to, of an issuer.
func (d *desk) begin(t *testing.T, is *testIssuer, p Profile) *Session {
	t.Helper()
	or(&p.Server, "https://jobs.example")
	or(&p.Issuer, is.URL)
	or(&p.ClientID, "jobgate")
	s, err := New(d.getenv, p, d.now)
	if err != nil {
		t.Fatal(err)
	}
	return d.ready(s)
}

// open opens what was logged in to before.
func (d *desk) open(t *testing.T) *Session {
	t.Helper()
	s, err := Open(d.getenv, "", d.now)
	if err != nil {
		t.Fatal(err)
	}
	return d.ready(s)
}
