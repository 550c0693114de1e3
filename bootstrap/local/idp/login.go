package idp

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
	"go.uber.org/zap"
)

//go:embed login.html
var loginHTML string

var loginTemplate = template.Must(template.New("login").Parse(loginHTML))

// loginCookie ties the login form to the browser that was shown it.
const loginCookie = "jobgate_login"

// page is what login.html shows: a form if there is a login, else a message.
type page struct {
	Action   string
	ID       string
	Token    string
	Client   string
	Username string
	Message  string
}

const (
	msgExpired  = "This login has expired or was already used. Go back to your application and start again."
	msgForged   = "This form was not sent from the login page. Go back to your application and start again."
	msgWrong    = "The user name or the password is wrong."
	msgTooOften = "Too many failed attempts. Wait a minute, then try again."
)

// loginPage shows the form for the login that an authorization request began.
func (p *Provider) loginPage(w http.ResponseWriter, r *http.Request) {
	login, ok := p.store.pending(r.URL.Query().Get("id"))
	if !ok {
		p.show(w, http.StatusBadRequest, nil, page{Message: msgExpired})
		return
	}
	nonce := ""
	if cookie, err := r.Cookie(loginCookie); err == nil {
		nonce = cookie.Value // kept, so that the form in another tab still works
	}
	if nonce == "" {
		nonce = rand.Text()
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: Secure needs https, and the issuer is http on loopback
			Name: loginCookie, Value: nonce, Path: p.base + "/login",
			HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
	}
	p.show(w, http.StatusOK, login, page{Token: p.formToken(nonce, login.id)})
}

// login takes the form, and sends a correct one straight back to the client.
// The library's callback endpoint is not in between: it would give the code to
// whoever knows the login's id, which the one who began the login does.
func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	id, token := r.PostFormValue("id"), r.PostFormValue("token")
	cookie, err := r.Cookie(loginCookie)
	if err != nil || !p.sameOrigin(r) || !hmac.Equal([]byte(token), []byte(p.formToken(cookie.Value, id))) {
		p.show(w, http.StatusForbidden, nil, page{Message: msgForged})
		return
	}
	login, ok := p.store.pending(id)
	if !ok {
		p.show(w, http.StatusBadRequest, nil, page{Message: msgExpired})
		return
	}

	name := r.PostFormValue("username")
	again := page{Token: token, Username: name}
	remote, _, _ := net.SplitHostPort(r.RemoteAddr)
	if wait := p.attempts.begin(name, remote, p.now()); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		again.Message = msgTooOften
		p.show(w, http.StatusTooManyRequests, login, again)
		return
	}
	user, ok := p.authenticate(name, r.PostFormValue("password"))
	if !ok {
		// Not the name: people type passwords into the wrong field.
		p.log.Info("login refused", zap.String("client", login.clientID), zap.String("remote", remote))
		again.Message = msgWrong
		// 200, as a 401 would need a WWW-Authenticate challenge (RFC 9110
		// section 15.5.2), which is no form.
		p.show(w, http.StatusOK, login, again)
		return
	}
	p.attempts.succeed(name, remote)
	done, ok := p.store.finish(id, user)
	if !ok {
		p.show(w, http.StatusBadRequest, nil, page{Message: msgExpired})
		return
	}
	p.log.Info("login", zap.String("user", user.Name), zap.String("client", login.clientID), zap.Strings("scopes", done.scopes))
	op.AuthResponse(done, p.op, w, r)
}

// authenticate compares with every user, so that its time does not tell which
// names exist.
func (p *Provider) authenticate(name, password string) (User, bool) {
	var found User
	for _, u := range p.users {
		sameName, samePassword := equal(name, u.Name), equal(password, u.Password)
		if sameName && samePassword {
			found = u
		}
	}
	return found, found.Name != ""
}

// sameOrigin refuses what a browser says another site sent. A client that is no
// browser sends neither header, and needs the cookie and the token all the same.
func (p *Provider) sameOrigin(r *http.Request) bool {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	return (site == "" || site == "same-origin") && (origin == "" || origin == p.origin)
}

// formToken is good for one browser and one login.
func (p *Provider) formToken(nonce, id string) string {
	mac := hmac.New(sha256.New, p.formKey)
	fmt.Fprintf(mac, "%d:%s%s", len(nonce), nonce, id)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// show renders the page: the login's form, or without a login only the message.
func (p *Provider) show(w http.ResponseWriter, status int, login *authRequest, data page) {
	forms := "'none'"
	if login != nil {
		data.Action, data.ID, data.Client = p.base+"/login", login.id, login.clientID
		forms = "'self' " + cspSource(login.redirectURI)
	}
	var body bytes.Buffer
	if err := loginTemplate.Execute(&body, data); err != nil {
		p.log.Error("login page", zap.Error(err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	_, style, _ := strings.Cut(loginHTML, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	w.Header().Set("Content-Security-Policy", fmt.Sprintf(
		"default-src 'none'; style-src 'sha256-%s'; form-action %s; base-uri 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(sum[:]), forms))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := body.WriteTo(w); err != nil {
		p.log.Debug("login page", zap.Error(err))
	}
}

// cspSource is the form-action source for the client's redirect URI: Chromium
// applies form-action to the redirect that answers a form, too. A source cannot
// be an IPv6 address (CSP Level 3, host-source), so that one is by its scheme.
func cspSource(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	if err != nil || strings.HasPrefix(u.Host, "[") {
		return "http:"
	}
	return u.Scheme + "://" + u.Host
}

const (
	maxFailures   = 5 // per user name and remote address, and attemptWindow
	attemptWindow = time.Minute
)

// attempts counts failed logins.
type attempts struct {
	mu       sync.Mutex
	failures table[window] // by user name and remote address, hashed to bound the size
}

type window struct {
	count int
	ends  time.Time
}

func newAttempts() *attempts { return &attempts{failures: newTable[window](maxEntries)} }

func attemptKey(name, remote string) string {
	sum := sha256.Sum256([]byte(remote + "\x00" + name))
	return string(sum[:])
}

// begin counts an attempt as failed until it succeeds, so that many at once are
// counted before any has been compared. If there were too many already, it says
// how long to wait.
func (a *attempts) begin(name, remote string, now time.Time) (wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := attemptKey(name, remote)
	w, ok := a.failures.get(key, now)
	if !ok {
		w.ends = now.Add(attemptWindow)
	}
	if w.count >= maxFailures {
		return w.ends.Sub(now)
	}
	w.count++
	a.failures.put(key, w, w.ends, now)
	return 0
}

func (a *attempts) succeed(name, remote string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures.remove(attemptKey(name, remote))
}
