package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
)

// login gets a token as a native application does (RFC 8252): authorization code with PKCE, a redirect to a listener
// on the loopback interface, and a person, whom it plays, at the pages for login and consent.
func login(ctx context.Context, issuer, clientID, user, password string, scopes []string) (*oidc.Tokens[*oidc.IDTokenClaims], error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	arrived := make(chan url.Values, 1)
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case arrived <- r.URL.Query():
			_, _ = io.WriteString(w, "You are logged in.\n")
		default:
			http.NotFound(w, r)
		}
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with Close
	}()
	defer func() {
		_ = server.Close()
		<-served
	}()

	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	defer browser.CloseIdleConnections()
	nonce, state, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	party, err := rp.NewRelyingPartyOIDC(ctx, issuer, clientID, "", "http://"+listener.Addr().String()+"/callback", scopes,
		rp.WithHTTPClient(browser), rp.WithVerifierOpts(rp.WithNonce(func(context.Context) string { return nonce })))
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	address := rp.AuthURL(state, party, rp.WithCodeChallenge(oauth2.S256ChallengeFromVerifier(verifier)),
		rp.AuthURLOpt(rp.WithURLParam("nonce", nonce)))
	if err := fillIn(ctx, browser, address, user, password); err != nil {
		return nil, fmt.Errorf("login page: %w", err)
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case back := <-arrived:
		if back.Get("state") != state || back.Get("iss") != issuer {
			return nil, errors.New("the callback has another state or issuer than the request")
		}
		if problem := back.Get("error"); problem != "" {
			return nil, fmt.Errorf("the provider refused: %s", problem)
		}
		return rp.CodeExchange[*oidc.IDTokenClaims](ctx, back.Get("code"), party, rp.WithCodeVerifier(verifier))
	}
}

var (
	formAction  = regexp.MustCompile(`<form method="post" action="([^"]+)">`)
	hiddenInput = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)
)

// fillIn opens the login page, fills its form in, allows what is asked for, and follows where the provider leads.
func fillIn(ctx context.Context, browser *http.Client, address, user, password string) error {
	page, at, err := open(ctx, browser, http.MethodGet, address, nil)
	for _, form := range []url.Values{{"username": {user}, "password": {password}}, {"decision": {"allow"}}} {
		if err != nil {
			return err
		}
		action := formAction.FindStringSubmatch(page)
		if action == nil {
			return errors.New("there is no form")
		}
		for _, input := range hiddenInput.FindAllStringSubmatch(page, -1) {
			form.Set(html.UnescapeString(input[1]), html.UnescapeString(input[2]))
		}
		target, err2 := at.Parse(html.UnescapeString(action[1]))
		if err2 != nil {
			return err2
		}
		page, at, err = open(ctx, browser, http.MethodPost, target.String(), form)
	}
	if err == nil && formAction.MatchString(page) {
		return fmt.Errorf("%s was not let in", user)
	}
	return err
}

// open returns a page and the address it was found at.
func open(ctx context.Context, browser *http.Client, method, address string, form url.Values) (string, *url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", nil, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", req.URL.Scheme+"://"+req.URL.Host)
	}
	resp, err := browser.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("%s answered %s", resp.Request.URL.Redacted(), resp.Status)
	}
	return string(page), resp.Request.URL, nil
}
