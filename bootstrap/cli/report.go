package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/domain"
)

// The verdicts about a token and about a route.
const (
	allowed   = "allowed"
	refused   = "refused"
	undecided = "undecided" // the issuer's keys could not be had
)

// A report is what explain has to say; -o json prints it as it is.
type report struct {
	Verdict   string         `json:"verdict"`
	Reason    domain.Reason  `json:"reason,omitempty"`
	Why       string         `json:"why,omitempty"`
	Verified  bool           `json:"signature_verified"` // else anybody may have written the claims that are quoted
	Checks    []checkRow     `json:"checks"`
	Principal *principalRow  `json:"principal,omitempty"`
	Routes    []routeRow     `json:"routes"`
	Policy    jsontext.Value `json:"policy,omitempty"`
}

type checkRow struct {
	Check      string      `json:"check"`
	Result     oidc.Result `json:"result"`
	Found      string      `json:"found,omitempty"`
	Wanted     string      `json:"wanted,omitempty"`
	Why        string      `json:"why,omitempty"`
	Unverified bool        `json:"unverified,omitzero"` // about a claim, and the signature did not verify
}

type principalRow struct {
	Subject   string            `json:"subject"`
	Issuer    string            `json:"issuer,omitempty"`
	ClientID  string            `json:"client_id,omitempty"`
	TokenID   string            `json:"token_id,omitempty"`
	Scopes    []string          `json:"scopes,omitempty"`
	Claims    map[string]string `json:"claims,omitempty"`
	ExpiresAt time.Time         `json:"expires_at,omitzero"`
}

type routeRow struct {
	Method  string        `json:"method"`
	Path    string        `json:"path"`
	Action  domain.Action `json:"action,omitempty"`
	Public  bool          `json:"public,omitzero"`
	Verdict string        `json:"verdict"`
	Reason  domain.Reason `json:"reason,omitempty"`
	Scopes  []string      `json:"scopes,omitempty"` // that would have sufficed
	Rule    *int          `json:"rule,omitempty"`   // index of the rule that decided
	Says    string        `json:"says,omitempty"`   // the rule in words
}

// addCheck adds a check that is none of the verifier's.
func (r *report) addCheck(name string, err error) {
	row := checkRow{Check: name, Result: oidc.Passed}
	if err != nil {
		row.Result, row.Why = oidc.Failed, cause(err)
	}
	r.Checks = append(r.Checks, row)
}

func (r *report) addFindings(e oidc.Explanation) {
	r.Verified = e.Verified
	for _, f := range e.Findings {
		r.Checks = append(r.Checks, checkRow{
			Check: f.Check, Result: f.Result, Found: f.Found, Wanted: f.Wanted, Why: f.Why,
			Unverified: f.Claim && !e.Verified && f.Result != oidc.NotChecked,
		})
	}
}

func (r *report) addPrincipal(who domain.Principal) {
	r.Principal = &principalRow{
		Subject: who.Subject, Issuer: who.Issuer, ClientID: who.ClientID, TokenID: who.TokenID,
		Scopes: who.Scopes, Claims: who.Claims, ExpiresAt: who.ExpiresAt,
	}
}

func (r *report) addRoutes(routes []domain.Route, rules []domain.Rule, decide func(domain.Action) domain.Decision) {
	for _, route := range routes {
		row := routeRow{Method: route.Method, Path: route.Pattern, Action: route.Action, Public: route.Public, Verdict: allowed}
		if !route.Public {
			d := decide(route.Action)
			if !d.Allowed {
				row.Verdict = refused
			}
			row.Reason, row.Scopes = d.Reason, d.Scopes
			if d.Rule >= 0 {
				row.Rule, row.Says = &d.Rule, inWords(rules[d.Rule])
			}
			if d.Reason == domain.ReasonKeysUnavailable {
				row.Verdict = undecided
			}
		}
		r.Routes = append(r.Routes, row)
	}
}

// conclude draws the verdict from the routes, of which a public one counts only when it alone was asked about. err is
// why the token was not let in.
func (r *report) conclude(err error) {
	last := r.Routes[len(r.Routes)-1]
	r.Verdict = refused
	for _, row := range r.Routes {
		if row.Verdict == allowed && (!row.Public || len(r.Routes) == 1) {
			r.Verdict = allowed
			return
		}
	}
	switch {
	case err != nil:
		r.Reason = domain.ReasonOf(err)
		r.Why = string(r.Reason) + ": " + cause(err)
		if domain.KindOf(err) == domain.Unavailable {
			r.Verdict = undecided
		}
	case len(r.Routes) == 1:
		r.Reason, r.Why = last.Reason, last.why()
	default:
		r.Reason, r.Why = domain.ReasonForbidden, "no route is allowed"
	}
}

// cause is what stands in the log about a refusal, which says more than its caller is told.
func cause(err error) string {
	if e, ok := errors.AsType[*domain.Error](err); ok && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

// why says in words what decided.
func (r routeRow) why() string {
	var why []string
	if r.Public {
		why = append(why, "public: no token is asked for")
	}
	if r.Rule != nil {
		why = append(why, fmt.Sprintf("rules[%d]: %s", *r.Rule, r.Says))
	}
	if r.Reason != "" {
		why = append(why, string(r.Reason))
	}
	if len(r.Scopes) > 0 {
		why = append(why, "needs "+strings.Join(r.Scopes, " "))
	}
	return strings.Join(why, ": ")
}

// inWords returns a rule as a line for people.
func inWords(r domain.Rule) string {
	actions := make([]string, len(r.Actions))
	for i, a := range r.Actions {
		actions[i] = string(a)
	}
	words := []string{string(r.Effect) + " " + strings.Join(actions, ", ")}
	add := func(name string, list []string) {
		if len(list) > 0 {
			words = append(words, name+" "+strings.Join(list, ", "))
		}
	}
	add("scope", r.Scopes)
	add("issuer", r.Issuers)
	add("subject", r.Subjects)
	add("job", r.Jobs)
	if len(r.Jobs) > 0 {
		words = append(words, "the job is looked at behind the gate")
	}
	if r.AnyOwner {
		words = append(words, "any owner")
	}
	return strings.Join(words, "; ")
}

func (r *report) json(w io.Writer) error {
	if err := json.MarshalWrite(w, r, jsontext.WithIndent("  "), json.Deterministic(true)); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (r *report) text(w io.Writer) error {
	var b bytes.Buffer
	b.WriteString(r.Verdict)
	if r.Why != "" {
		b.WriteString(": " + r.Why)
	}
	b.WriteString("\n\nChecks\n")
	for _, c := range r.Checks {
		c.text(&b)
	}
	if r.Principal != nil {
		b.WriteString("\nCaller\n")
		r.Principal.text(&b)
	}
	b.WriteString("\nRoutes\n")
	for _, row := range r.Routes {
		line(&b, 11, row.Verdict, fmt.Sprintf("%-31s%s", row.Method+" "+row.Path, row.why()))
	}
	if r.Policy != nil {
		policy := r.Policy.Clone()
		if err := policy.Indent(jsontext.WithIndent("  ")); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\nIAM policy, here of an example API\n%s\n", policy)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (c checkRow) text(b *bytes.Buffer) {
	found := c.Found
	if c.Unverified && found != "" {
		found += " (unverified)"
	}
	result := string(c.Result)
	if c.Result == oidc.Failed {
		result = "FAILED"
	}
	const column = 13
	line(b, column, result, fmt.Sprintf("%-11s%s", c.Check, found))
	if c.Result != oidc.Failed {
		return
	}
	line(b, column+11, "", c.Why)
	if c.Wanted != "" {
		line(b, column+11, "", "wanted: "+c.Wanted)
	}
}

func (p *principalRow) text(b *bytes.Buffer) {
	until := "for ever"
	if !p.ExpiresAt.IsZero() {
		until = p.ExpiresAt.Format(time.RFC3339)
	}
	const column = 11
	line(b, column, "subject", p.Subject)
	line(b, column, "issuer", cmp.Or(p.Issuer, "none"))
	line(b, column, "client", cmp.Or(p.ClientID, "none"))
	line(b, column, "token id", cmp.Or(p.TokenID, "none"))
	line(b, column, "scopes", cmp.Or(strings.Join(p.Scopes, " "), "none"))
	for _, name := range slices.Sorted(maps.Keys(p.Claims)) {
		line(b, column, "claim", fmt.Sprintf("%s %q", name, p.Claims[name]))
	}
	line(b, column, "until", until)
}

// line writes one line, indented, of a word and what goes with it.
func line(b *bytes.Buffer, column int, word, rest string) {
	b.WriteString(strings.TrimRight(fmt.Sprintf("  %-*s%s", column, word, rest), " ") + "\n")
}
