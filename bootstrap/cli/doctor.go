package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/bootstrap/cli/api"
	"github.com/jobgate/jobgate/bootstrap/cli/session"
	"github.com/jobgate/jobgate/bootstrap/config"
)

// maxSkew is how far this machine's clock and the server's may differ: the leeway that a service gives a token by default.
const maxSkew = time.Minute

// The results of a check-up's lines.
const (
	checkOK      = "ok"
	checkFailed  = "failed"
	checkSkipped = "not checked" // there is nothing to look at
)

// A finding is one line of a check-up.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Found  string `json:"found,omitzero"`
	Next   string `json:"next,omitzero"` // what to do about it
}

func (t terminal) doctor() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the server, the login and this machine",
		Long: `Doctor checks what stands between this command line and a job, one line each: whether the profile can be used, the server
is there and ready, this machine's clock is right, the login is valid, the issuer can be reached and its keys verify the
token, who the token is for, and whether the server accepts it. What failed says what to do next. It sends the token to the
profile's server alone, and never prints it.`,
		Example: `  jobgate doctor
  jobgate doctor --profile production -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			failed := 0
			for f := range t.checkUp(cmd) {
				if f.Result == checkFailed {
					failed++
				}
				if err := t.tell(f, out); err != nil {
					return err
				}
			}
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if failed > 0 {
				return Refused(count(failed, "check") + " failed")
			}
			return nil
		},
	}
	out.flag(cmd, "a line for each check")
	return cmd
}

func (t terminal) tell(f finding, out output) error {
	f.Found = api.Printable(f.Found)
	if out == asJSON {
		document, err := json.Marshal(f)
		if err != nil {
			return err
		}
		return t.document(document)
	}
	c := map[string]colour{checkOK: green, checkFailed: red}[f.Result]
	text := t.painter(t.stdout).paint(c, fmt.Sprintf("%-11s", f.Result)) + strings.TrimRight(fmt.Sprintf("  %-10s%s", f.Check, f.Found), " ")
	if f.Next != "" {
		text += "\n" + strings.Repeat(" ", 23) + "next: " + f.Next
	}
	return writeLine(t.stdout, []byte(text))
}

// checkUp yields the findings as they come.
func (t terminal) checkUp(cmd *cobra.Command) func(yield func(finding) bool) {
	return func(yield func(finding) bool) {
		ctx := cmd.Context()
		if !yield(finding{Check: "version", Result: checkOK, Found: config.Version()}) {
			return
		}
		s, err := t.session(cmd)
		var c *api.Client
		if err == nil {
			c, err = t.client(s)
		}
		if err != nil {
			yield(wrong("profile", err))
			return
		}
		defer c.Close()
		p := s.Profile()
		ok := yield(finding{Check: "profile", Result: checkOK, Found: p.Name + ": " + p.Server})
		served, clock := t.server(ctx, c)
		ok = ok && yield(served) && (clock.Check == "" || yield(clock))
		if ok && served.Result == checkOK {
			ok = yield(ready(ctx, c))
		}
		if !ok {
			return
		}
		token, err := s.Token(ctx)
		if err != nil {
			yield(wrong("login", err))
			return
		}
		for _, f := range t.inspect(ctx, token, p) {
			if !yield(f) {
				return
			}
		}
		if served.Result == checkOK {
			yield(accepted(ctx, c))
		}
	}
}

// wrong is a check that failed by an error, whose advice may be a line of its own.
func wrong(check string, err error) finding {
	_, next := judge(err)
	if errors.Is(err, api.ErrUnreachable) {
		next = "check the address, the network and any proxy (HTTPS_PROXY)"
	} else if errors.Is(err, api.ErrAnswer) {
		next = "check the address: it is of the API itself, with its base path or stage"
	}
	return finding{Check: check, Result: checkFailed, Found: err.Error(), Next: next}
}

// server looks at the API's document, and at the clock by its answer's date.
func (t terminal) server(ctx context.Context, c *api.Client) (served, clock finding) {
	before := t.now()
	probe, err := c.Ask(ctx, "openapi.json")
	if err != nil {
		return wrong("server", err), finding{}
	}
	if !probe.Date.IsZero() {
		clock = clocks(before, t.now(), probe.Date)
	}
	var document struct {
		Info struct {
			Title   string `json:"title"`
			Version string `json:"version"`
		} `json:"info"`
	}
	if probe.Status != http.StatusOK || json.Unmarshal(probe.Body, &document) != nil || document.Info.Title != "jobgate" {
		return finding{
			Check: "server", Result: checkFailed, Found: fmt.Sprintf("it answers %d, and not as jobgate does", probe.Status),
			Next: "check the address: it is of the API itself, with its base path or stage",
		}, clock
	}
	served = finding{Check: "server", Result: checkOK, Found: "jobgate, version " + document.Info.Version + " of the API"}
	if document.Info.Version != "1" {
		served.Result, served.Next = checkFailed, "this jobgate speaks version 1: install another"
	}
	return served, clock
}

// clocks compares this machine's clock around a question with the date of the answer, which is without fractions.
func clocks(before, after, date time.Time) finding {
	skew, side := time.Duration(0), ""
	switch {
	case before.Add(-time.Second).After(date):
		skew, side = before.Sub(date), "ahead of"
	case date.After(after):
		skew, side = date.Sub(after), "behind"
	}
	if skew <= maxSkew {
		return finding{Check: "clock", Result: checkOK, Found: "agrees with the server's"}
	}
	return finding{
		Check: "clock", Result: checkFailed, Found: fmt.Sprintf("%v %s the server's", skew.Round(time.Second), side),
		Next: "set this machine's clock: tokens seem to have expired, or not to be valid yet",
	}
}

func ready(ctx context.Context, c *api.Client) finding {
	probe, err := c.Ask(ctx, "readyz")
	switch {
	case err != nil:
		return wrong("ready", err)
	case probe.Status == http.StatusOK:
		return finding{Check: "ready", Result: checkOK}
	case probe.Status == http.StatusServiceUnavailable:
		return finding{
			Check: "ready", Result: checkFailed, Found: strings.TrimSpace(string(probe.Body[:min(len(probe.Body), 200)])),
			Next: "an operator finds the reason in the server's log",
		}
	}
	return finding{Check: "ready", Result: checkSkipped, Found: "there is no /readyz, as behind API Gateway"}
}

// accepted asks for a job, as the token allows it.
func accepted(ctx context.Context, c *api.Client) finding {
	for _, err := range c.List(ctx, api.Query{}, 1) {
		p, ok := errors.AsType[*api.Problem](err)
		switch {
		case err == nil:
		case ok && p.Status == http.StatusForbidden && p.Code != "":
			return finding{Check: "access", Result: checkOK, Found: "the server accepts the token, which may not list jobs: " + p.Error()}
		case ok && p.Status == http.StatusUnauthorized:
			return finding{
				Check: "access", Result: checkFailed, Found: "the server refuses the token: " + p.Error(),
				Next: "log in again: jobgate login; if that does not help, an operator sees why by: jobgate explain",
			}
		default:
			return wrong("access", err)
		}
	}
	return finding{Check: "access", Result: checkOK, Found: "the server accepts the token"}
}

// inspect looks at the access token as a service does that trusts the profile's issuer.
func (t terminal) inspect(ctx context.Context, token string, p session.Profile) []finding {
	login := finding{Check: "login", Result: checkOK, Found: "there is a token"}
	said, ok := claimed(token)
	if !ok {
		login.Found = "there is a token, and it is no JWT: its issuer alone can read it"
		return []finding{login}
	}
	trusted := oidc.Issuer{Issuer: p.Issuer, Audience: said.audience, Leeway: maxSkew}
	if trusted.Issuer == "" {
		trusted.Issuer = said.issuer
	}
	if p.Audience != "" {
		trusted.Audience = []string{p.Audience}
	}
	if len(trusted.Audience) == 0 && p.ClientID != "" {
		trusted.ClientIDs = []string{p.ClientID}
	}
	verifier, err := oidc.NewVerifier([]oidc.Issuer{trusted}, oidc.Options{Now: t.now, Log: func(string, ...slog.Attr) {}})
	if err != nil { // as with a secret that issuer and service share
		return []finding{login, {Check: "issuer", Result: checkSkipped, Found: fmt.Sprintf("the token names %q, and no keys can be looked up for that", said.issuer)}}
	}
	defer func() { _ = verifier.Close() }() // it never fails
	explained := verifier.Explain(ctx, token)
	issuer := finding{Check: "issuer", Result: checkOK, Found: trusted.Issuer}
	audience := finding{Check: "audience", Result: checkOK, Found: strings.Join(said.audience, ", ")}
	for _, f := range explained.Findings {
		switch {
		case f.Check == "exp" && f.Result == oidc.Passed:
			login.Found = "valid until " + f.Found
		case f.Check == "keys" && f.Result == oidc.Passed:
			issuer.Found += ", keys: " + f.Found
		case f.Result != oidc.Failed:
		case f.Check == "keys" || f.Check == "key" || f.Check == "signature" || f.Check == "iss":
			issuer.Result, issuer.Found = checkFailed, f.Check+": "+f.Why
			issuer.Next = "check the issuer's address and this machine's way there; else log in again: jobgate login"
		case f.Check == "aud" || f.Check == "client":
			audience.Result, audience.Found = checkFailed, f.Found+" "+f.Why
			audience.Next = "the service expects " + f.Wanted + ": log in with --audience, or have the issuer set it"
		case login.Result == checkOK:
			login.Result, login.Found = checkFailed, f.Check+": "+f.Why
			login.Next = "log in again: jobgate login"
		}
	}
	return []finding{login, issuer, audience}
}

// claims are what a token says of itself, which nobody has verified.
type claims struct {
	issuer   string
	subject  string
	audience []string
}

func claimed(token string) (claims, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, false
	}
	var said struct {
		Iss string         `json:"iss"`
		Sub string         `json:"sub"`
		Aud jsontext.Value `json:"aud"`
	}
	if json.Unmarshal(text, &said) != nil {
		return claims{}, false
	}
	c := claims{issuer: said.Iss, subject: said.Sub}
	var one string
	if json.Unmarshal(said.Aud, &one) == nil {
		c.audience = []string{one}
	} else if json.Unmarshal(said.Aud, &c.audience) != nil {
		c.audience = nil
	}
	return c, true
}
