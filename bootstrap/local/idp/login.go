package idp

import (
	"net"
	"net/http"
	"net/url"

	"go.uber.org/zap"
)

// loginPage shows the form for the login that an authorization request or a
// device's code began.
func (p *Provider) loginPage(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	login, ok := p.store.pending(id)
	if !ok {
		p.show(w, http.StatusBadRequest, page{Title: titleLogin, Message: msgExpired})
		return
	}
	p.show(w, http.StatusOK, p.loginForm(login, p.formToken("login", p.browser(w, r), id)))
}

func (p *Provider) loginForm(login *authRequest, token string) page {
	return page{
		Title: titleLogin, Action: p.base + "/login", ID: login.id, Token: token,
		Login: &loginForm{Client: login.clientID, UserCode: login.userCode()},
	}
}

// login takes the form. Who gets the password right is asked for consent next.
func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	id := r.PostFormValue("id")
	browser, ok := p.submitted(r, "login", id)
	if !ok {
		p.show(w, http.StatusForbidden, page{Title: titleLogin, Message: msgForged})
		return
	}
	login, ok := p.store.pending(id)
	if !ok {
		p.show(w, http.StatusBadRequest, page{Title: titleLogin, Message: msgExpired})
		return
	}

	name := r.PostFormValue("username")
	again := p.loginForm(login, r.PostFormValue("token"))
	again.Login.Username = name
	remote, _, _ := net.SplitHostPort(r.RemoteAddr)
	key := remote + "\x00" + name
	if wait := p.logins.begin(key, p.now()); wait > 0 {
		retryAfter(w, wait)
		again.Message = msgTooOften
		p.show(w, http.StatusTooManyRequests, again)
		return
	}
	user, ok := p.authenticate(name, r.PostFormValue("password"))
	if !ok {
		// Not the name: people type passwords into the wrong field.
		p.log.Info("login refused", zap.String("client", login.clientID), zap.String("remote", remote))
		again.Message = msgWrong
		// 200, as a 401 would need a WWW-Authenticate challenge (RFC 9110
		// section 15.5.2), which is no form.
		p.show(w, http.StatusOK, again)
		return
	}
	p.logins.forget(key)
	if !p.store.authenticate(id, user, browser) {
		p.show(w, http.StatusBadRequest, page{Title: titleLogin, Message: msgExpired})
		return
	}
	http.Redirect(w, r, p.issuer+"/consent?id="+url.QueryEscape(id), http.StatusSeeOther)
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
