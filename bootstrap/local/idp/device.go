package idp

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	httphelper "github.com/zitadel/oidc/v3/pkg/http"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"go.uber.org/zap"
)

const (
	deviceLife = 10 * time.Minute // of both codes
	// pollInterval is what a device leaves between two requests for its tokens.
	// The RFC's five seconds spare a server with many devices.
	pollInterval = time.Second
	// pollSlack is by how much a request may be early: it is what the way to
	// here may take longer for one request than for the next.
	pollSlack = 250 * time.Millisecond
	// slowDown is added to a device's interval each time it does not keep it
	// (RFC 8628 section 3.5). One that has not listened twelve times is past
	// maxInterval, and is refused for good.
	slowDown    = 5 * time.Second
	maxInterval = time.Minute

	// maxGuesses is how many wrong user codes there may be per deviceLife, from
	// everywhere: on loopback an address says nothing. With it, a user code's 34
	// bits are guessed with a chance of 2^-32 (RFC 8628 section 5.1).
	maxGuesses = 5
)

// device is a device that waits for its user (RFC 8628). What it asked for stays
// as it is; the rest belongs to who has the store's lock.
type device struct {
	userCode string
	clientID string
	scopes   []string
	expires  time.Time

	interval time.Duration
	next     time.Time    // before it, a poll is too early
	refused  bool         // by the user
	login    *authRequest // allowed by the user
	spent    bool         // its tokens were fetched
}

// userAlphabet has no vowels, so that no word is spelt, and no digits, which
// are taken for letters (RFC 8628 section 6.1).
const userAlphabet = op.CharSetBase20

// plainUserCode undoes what a person may do to a code while typing it.
func plainUserCode(typed string) string {
	return strings.Map(func(r rune) rune {
		if !strings.ContainsRune(userAlphabet, r) {
			return -1
		}
		return r
	}, strings.ToUpper(typed))
}

// deviceAuthorization is the endpoint of RFC 8628 section 3.1.
func (p *Provider) deviceAuthorization(w http.ResponseWriter, r *http.Request) {
	w = challenge{w}
	resp, err := p.beginDevice(r)
	if err != nil {
		op.RequestError(w, r, err, nil)
		return
	}
	httphelper.MarshalJSON(w, resp)
}

func (p *Provider) beginDevice(r *http.Request) (*oidc.DeviceAuthorizationResponse, error) {
	switch {
	case r.URL.RawQuery != "":
		return nil, errQuery()
	case !p.sameOrigin(r): // no device is a page of another site
		return nil, oidc.ErrInvalidRequest().WithDescription("sent by a page of another origin")
	}
	req, err := op.ParseDeviceCodeRequest(r, p.op)
	if err != nil {
		return nil, err
	}
	c, err := p.store.client(req.ClientID)
	if err != nil {
		return nil, err
	}
	scopes := intersect(req.Scopes, append(identityScopes(), c.Scopes...))
	if len(scopes) == 0 {
		return nil, oidc.ErrInvalidScope().WithDescription("no known scope is asked for")
	}
	code, d, err := p.store.createDevice(c.ID, scopes)
	if err != nil {
		return nil, err
	}
	return &oidc.DeviceAuthorizationResponse{
		DeviceCode:              code,
		UserCode:                d.userCode,
		VerificationURI:         p.issuer + "/device",
		VerificationURIComplete: p.issuer + "/device?user_code=" + url.QueryEscape(d.userCode),
		ExpiresIn:               int(deviceLife / time.Second),
		Interval:                int(pollInterval / time.Second),
	}, nil
}

// devicePage asks for a device's code. A code in the address is filled in, and
// still to be confirmed (RFC 8628 section 3.3.1).
func (p *Provider) devicePage(w http.ResponseWriter, r *http.Request) {
	if r.Host != strings.TrimPrefix(p.origin, "http://") {
		// Typed with another of this machine's names: the form has to come from
		// the issuer's origin.
		http.Redirect(w, r, p.issuer+"/device?"+r.URL.RawQuery, http.StatusFound) //nolint:gosec // G710: the issuer comes first
		return
	}
	p.show(w, http.StatusOK, p.deviceForm(r.URL.Query().Get("user_code"), p.formToken("device", p.browser(w, r), "")))
}

func (p *Provider) deviceForm(userCode, token string) page {
	return page{
		Title: titleDevice, Action: p.base + "/device", Token: token,
		Device: &deviceForm{UserCode: userCode},
	}
}

// device takes the code, and leads to the login that it begins.
func (p *Provider) device(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.submitted(r, "device", ""); !ok {
		p.show(w, http.StatusForbidden, page{Title: titleDevice, Message: msgForged})
		return
	}
	typed := r.PostFormValue("user_code")
	again := p.deviceForm(typed, r.PostFormValue("token"))
	if wait := p.guesses.begin("", p.now()); wait > 0 {
		retryAfter(w, wait)
		again.Message = "Too many wrong codes. Wait ten minutes, then start again on the device."
		p.show(w, http.StatusTooManyRequests, again)
		return
	}
	login, ok := p.store.beginDeviceLogin(plainUserCode(typed))
	if !ok {
		p.log.Info("unknown device code")
		again.Message = "No device waits with this code: it is mistyped, used or older than ten minutes."
		p.show(w, http.StatusOK, again)
		return
	}
	// Not forget: with codes of its own a guesser could begin anew at will.
	p.guesses.takeBack("", p.now())
	http.Redirect(w, r, p.issuer+"/login?id="+url.QueryEscape(login.id), http.StatusSeeOther)
}

// exchangeDevice answers a device that asks for its tokens (RFC 8628 section
// 3.4).
func (p *Provider) exchangeDevice(r *http.Request) (*oidc.AccessTokenResponse, error) {
	id, _, err := op.ClientIDFromRequest(r, p.op)
	if err != nil {
		return nil, err
	}
	c, err := p.store.client(id)
	if err != nil {
		return nil, err
	}
	if !op.ValidateGrantType(c, oidc.GrantTypeDeviceCode) {
		return nil, oidc.ErrUnauthorizedClient()
	}
	login, err := p.store.poll(r.PostFormValue("device_code"), id)
	if err != nil {
		return nil, err
	}
	return p.respond(r.Context(), login, loginAtClient{login}, c, "", "")
}

// createDevice begins to wait for a device's user.
func (s *store) createDevice(clientID string, scopes []string) (code string, d *device, err error) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	d = &device{clientID: clientID, scopes: scopes, expires: now.Add(deviceLife), interval: pollInterval}
	for taken := true; taken; {
		if d.userCode, err = op.NewUserCode([]rune(userAlphabet), 8, 4); err != nil {
			return "", nil, err
		}
		_, taken = s.userCodes.get(plainUserCode(d.userCode), now)
	}
	code = rand.Text()
	s.userCodes.put(plainUserCode(d.userCode), d, d.expires, now)
	// It is known for longer than it is good, to tell an expired code from none.
	s.devices.put(code, d, d.expires.Add(deviceLife), now)
	return code, d, nil
}

// waits says whether the device still waits for its user's decision. The caller
// holds the lock.
func (d *device) waits(now time.Time) bool {
	return now.Before(d.expires) && !d.refused && d.login == nil
}

// beginDeviceLogin begins the login of a device's user.
func (s *store) beginDeviceLogin(plain string) (*authRequest, bool) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.userCodes.get(plain, now)
	if !ok || !d.waits(now) {
		return nil, false
	}
	login := &authRequest{
		id: rand.Text(), clientID: d.clientID, audience: []string{s.audience}, scopes: d.scopes, device: d,
	}
	s.logins.put(login.id, login, now.Add(loginLife), now)
	return login, true
}

// poll returns the login that the device's user has allowed. A second use of a
// device code ends what the first one was given, as it does for an
// authorization code.
func (s *store) poll(code, clientID string) (*authRequest, error) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.devices.get(code, now)
	switch {
	case !ok || d.clientID != clientID:
		return nil, oidc.ErrInvalidGrant().WithDescription("no such device code")
	case !now.Before(d.expires):
		return nil, oidc.ErrExpiredDeviceCode()
	case d.spent:
		_ = s.endGrant(d.login.grantID) // which has logged why
		s.log.Warn("device code used twice: its refresh tokens are revoked", zap.String("subject", d.login.subject))
		return nil, oidc.ErrInvalidGrant().WithParent(errors.New("device code was used before"))
	}
	early := now.Before(d.next)
	if early {
		d.interval += slowDown
	}
	if d.interval > maxInterval {
		return nil, oidc.ErrExpiredDeviceCode().WithDescription("the device did not slow down")
	}
	d.next = now.Add(d.interval - pollSlack)
	switch {
	case early:
		return nil, oidc.ErrSlowDown()
	case d.refused:
		return nil, oidc.ErrAccessDenied()
	case d.login == nil:
		return nil, oidc.ErrAuthorizationPending()
	}
	d.spent = true
	return d.login, nil
}
