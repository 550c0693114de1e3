package idp

import (
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"go.uber.org/zap"
)

// words says what a scope lets an application do.
func words(scope string) string {
	switch scope {
	case oidc.ScopeOpenID:
		return "know that it is you"
	case oidc.ScopeProfile:
		return "see your name"
	case oidc.ScopeOfflineAccess:
		return "stay logged in for 24 hours"
	case ScopeSubmit:
		return "submit jobs in your name"
	case ScopeRead:
		return "see your jobs"
	case ScopeCancel:
		return "cancel your jobs"
	case ScopeRedrive:
		return "run your jobs again that failed or were cancelled"
	case ScopeAdmin:
		return "see, cancel and run again everybody's jobs"
	default:
		return scope
	}
}

// consentPage asks whether the application may have what it asks for, each time
// anew: any program on this machine can pretend to be a client without a secret
// (RFC 8252 section 8.6).
func (p *Provider) consentPage(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	browser := p.browser(w, r)
	login, ok := p.store.undecided(id, browser)
	if !ok {
		p.show(w, http.StatusBadRequest, page{Title: titleConsent, Message: msgExpired})
		return
	}
	form := &consentForm{Client: login.clientID, UserCode: login.userCode(), User: login.subject}
	for _, name := range login.scopes {
		form.Scopes = append(form.Scopes, scope{name, words(name)})
	}
	p.show(w, http.StatusOK, page{
		Title: titleConsent, Action: p.base + "/consent", ID: id, Token: p.formToken("consent", browser, id),
		Consent: form, redirectURI: login.redirectURI,
	})
}

// consent takes the decision, and carries it to the client: straight back to
// the application, or to where a device asks for it. The library's callback
// endpoint is not in between: it would give the code to whoever knows the
// login's id, which the one who began the login does.
func (p *Provider) consent(w http.ResponseWriter, r *http.Request) {
	id, decision := r.PostFormValue("id"), r.PostFormValue("decision")
	browser, ok := p.submitted(r, "consent", id)
	if !ok {
		p.show(w, http.StatusForbidden, page{Title: titleConsent, Message: msgForged})
		return
	}
	if decision != "allow" && decision != "refuse" {
		p.show(w, http.StatusBadRequest, page{Title: titleConsent, Message: "The form has neither allowed nor refused."})
		return
	}
	login, ok := p.store.decide(id, browser, decision == "allow")
	if !ok {
		p.show(w, http.StatusBadRequest, page{Title: titleConsent, Message: msgExpired})
		return
	}
	fields := []zap.Field{zap.String("user", login.subject), zap.String("client", login.clientID), zap.Bool("device", login.device != nil)}
	if login.done {
		p.log.Info("login", append(fields, zap.Strings("scopes", login.scopes))...)
	} else {
		p.log.Info("consent refused", fields...)
	}
	switch {
	case login.device != nil && login.done:
		p.show(w, http.StatusOK, page{Title: titleDevice, Done: "The device is logged in. Go back to it; this page can be closed."})
	case login.device != nil:
		p.show(w, http.StatusOK, page{Title: titleDevice, Done: "The device was refused. This page can be closed."})
	case login.done:
		op.AuthResponse(login, p.authorizer(), w, r)
	default:
		op.AuthRequestError(w, r, login, oidc.ErrAccessDenied(), p.authorizer())
	}
}
