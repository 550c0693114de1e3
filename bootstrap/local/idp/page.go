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
	"net/http"
	"net/url"
	"strings"

	"go.uber.org/zap"
)

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// browserCookie ties the forms to the browser that was shown them, and a login
// to the browser it was done with. Other services of this host are sent it too,
// as cookies do not tell ports apart (RFC 6265 section 8.5); a form's Origin does.
const browserCookie = "jobgate_login"

// page is what page.html shows: a form, if it has one, and a message.
type page struct {
	Title   string
	Message string // something is wrong
	Done    string // nothing is
	Action  string
	ID      string // of the login
	Token   string
	Login   *loginForm
	Device  *deviceForm
	Consent *consentForm

	// redirectURI is where the form's answer may send the browser.
	redirectURI string
}

type loginForm struct{ Client, UserCode, Username string }

type deviceForm struct{ UserCode string }

type consentForm struct {
	Client, UserCode, User string
	Scopes                 []scope
}

type scope struct{ Name, Words string }

const (
	titleLogin   = "Log in"
	titleDevice  = "Connect a device"
	titleConsent = "Allow access?"

	msgExpired  = "This login has expired or was already used. Go back to your application and start again."
	msgForged   = "This form was not sent from this provider's page. Go back to your application and start again."
	msgWrong    = "The user name or the password is wrong."
	msgTooOften = "Too many failed attempts. Wait a minute, then try again."
)

// browser returns what is known of a browser by its cookie, and gives it one if
// it has none. It is kept, so that the form in another tab still works.
func (p *Provider) browser(w http.ResponseWriter, r *http.Request) string {
	if cookie, err := r.Cookie(browserCookie); err == nil && cookie.Value != "" {
		return cookie.Value
	}
	browser := rand.Text()
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: Secure needs https, and the issuer is http on loopback
		Name: browserCookie, Value: browser, Path: p.base + "/",
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return browser
}

// submitted says which browser sent a form, if that browser was shown this form
// for this login by a page of this provider.
func (p *Provider) submitted(r *http.Request, form, id string) (browser string, ok bool) {
	cookie, err := r.Cookie(browserCookie)
	if err != nil || cookie.Value == "" || !p.sameOrigin(r) {
		return "", false
	}
	token := p.formToken(form, cookie.Value, id)
	return cookie.Value, hmac.Equal([]byte(r.PostFormValue("token")), []byte(token))
}

// sameOrigin refuses what a browser says another site sent. A client that is no
// browser sends neither header, and needs the cookie and the token all the same.
func (p *Provider) sameOrigin(r *http.Request) bool {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	return (site == "" || site == "same-origin") && (origin == "" || origin == p.origin)
}

// formToken is good for one form, one browser and one login.
func (p *Provider) formToken(form, browser, id string) string {
	mac := hmac.New(sha256.New, p.formKey)
	fmt.Fprintf(mac, "%s %d:%s%s", form, len(browser), browser, id)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// show renders a page.
func (p *Provider) show(w http.ResponseWriter, status int, data page) {
	forms := "'none'"
	if data.Action != "" {
		forms = "'self'"
	}
	if data.redirectURI != "" {
		forms += " " + cspSource(data.redirectURI)
	}
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, data); err != nil {
		p.log.Error("page", zap.Error(err))
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	_, style, _ := strings.Cut(pageHTML, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	w.Header().Set("Content-Security-Policy", fmt.Sprintf(
		"default-src 'none'; style-src 'sha256-%s'; form-action %s; base-uri 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(sum[:]), forms))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if _, err := body.WriteTo(w); err != nil {
		p.log.Debug("page", zap.Error(err))
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
