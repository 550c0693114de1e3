package domain

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Effect is what a matching rule does.
type Effect string

// The effects of a rule. Deny beats allow; nothing matched is denied.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny"
)

// A Rule matches a caller and what they want when each of its members does; an empty list matches everything, but
// for Actions, which must be named.
type Rule struct {
	Effect   Effect
	Issuers  []string // any of
	Subjects []string // any of
	Scopes   []string // all of
	Actions  []Action // any of
	Jobs     []string // any of these name patterns, see MatchName
	AnyOwner bool     // an allow that reaches every owner's jobs, not the caller's alone
}

// Revocation names what is no longer let in although its token verifies: a subject, or a single token.
type Revocation struct {
	Issuer  string
	Subject string // empty: see TokenID
	TokenID string // jti; empty: see Subject
}

// AccessPolicy is data: who may do what. It decides at the gate, where only the caller and the action are known, and
// again behind it, where the job is.
type AccessPolicy struct {
	Rules   []Rule
	Revoked []Revocation
}

// DefaultPolicy grants each action by the scope of its name, and everything on every owner's jobs by jobs:admin.
func DefaultPolicy() AccessPolicy {
	p := AccessPolicy{}
	for _, a := range Actions {
		p.Rules = append(p.Rules, Rule{Effect: Allow, Scopes: []string{"jobs:" + string(a)}, Actions: []Action{a}})
	}
	p.Rules = append(p.Rules, Rule{Effect: Allow, Scopes: []string{"jobs:admin"}, Actions: slices.Clone(Actions), AnyOwner: true})
	return p
}

// Validate returns everything that is wrong with p, nil when nothing is. issuers is how many issuers are trusted:
// with several, a subject alone names nobody.
func (p AccessPolicy) Validate(issuers int) []string {
	var problems []string
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if len(p.Rules) == 0 {
		wrong("there is no rule: nobody would be let in")
	}
	for i, r := range p.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if r.Effect != Allow && r.Effect != Deny {
			wrong(`%s: effect must be "allow" or "deny"`, at)
		}
		if r.Effect == Deny && r.AnyOwner {
			wrong("%s: any_owner belongs to allow rules: a deny holds whoever owns the job", at)
		}
		if len(r.Actions) == 0 {
			wrong("%s: actions must name at least one action", at)
		}
		for _, a := range r.Actions {
			if !slices.Contains(Actions, a) {
				wrong("%s: %q is no action; there are submit, read, cancel and redrive", at, a)
			}
		}
		for _, s := range r.Scopes {
			if !validScope(s) {
				wrong("%s: %q is no scope (RFC 6749 §3.3)", at, s)
			}
		}
		for _, j := range r.Jobs {
			if !ValidNamePattern(j) {
				wrong(`%s: %q is no job name or pattern like "report.*"`, at, j)
			}
		}
		if slices.Contains(r.Issuers, "") || slices.Contains(r.Subjects, "") {
			wrong("%s: an empty issuer or subject matches nobody", at)
		}
		if len(r.Subjects) > 0 && len(r.Issuers) == 0 && issuers > 1 {
			wrong("%s: subjects needs issuers when several issuers are trusted: a subject is unique only within its issuer", at)
		}
	}
	for i, r := range p.Revoked {
		if (r.Subject == "") == (r.TokenID == "") {
			wrong("revoked[%d]: name either a subject or a token id", i)
		}
		if r.Issuer == "" && issuers > 1 {
			wrong("revoked[%d]: issuer is needed when several issuers are trusted", i)
		}
	}
	return problems
}

func validScope(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
}

// A Decision is what a policy says, and why.
type Decision struct {
	Allowed bool
	Rule    int      // index of the rule that decided; -1 when none did
	Reason  Reason   // of a refusal
	Scopes  []string // the scopes that would have sufficed, with ReasonInsufficientScope
}

// Err returns nil when allowed, else the Forbidden error for the caller.
func (d Decision) Err() error {
	if d.Allowed {
		return nil
	}
	e := Errorf(Forbidden, d.Reason, "the access policy does not allow this")
	if e.Scopes = d.Scopes; len(d.Scopes) > 0 {
		e.Message = "the token lacks the scope " + strings.Join(d.Scopes, " ")
	}
	return e
}

// AtGate decides where only the caller and the action are known: an allow that is limited to job names counts, a deny
// that is limited to job names does not, and jobs are taken to be the caller's own.
func (p AccessPolicy) AtGate(who Principal, action Action) Decision {
	return p.decide(&who, action, func(r *Rule) bool { return len(r.Jobs) == 0 || r.Effect == Allow })
}

// Decide decides about a job of the given name and owner. What AtGate refuses, Decide refuses. A job without an owner is
// nobody's own.
func (p AccessPolicy) Decide(who Principal, action Action, name string, owner Identity) Decision {
	return p.decide(&who, action, func(r *Rule) bool {
		if r.Effect == Allow && !r.AnyOwner && (owner != who.Identity || owner.IsZero()) {
			return false
		}
		return len(r.Jobs) == 0 || slices.ContainsFunc(r.Jobs, func(pattern string) bool { return MatchName(pattern, name) >= 0 })
	})
}

// SeesAll reports whether some rule lets the caller read jobs of every owner, so that a listing has to look at all of
// them. Each listed job is still decided by Decide.
func (p AccessPolicy) SeesAll(who Principal) bool {
	return p.decide(&who, ActionRead, func(r *Rule) bool { return r.Effect == Deny && len(r.Jobs) == 0 || r.AnyOwner }).Allowed
}

func (p *AccessPolicy) decide(who *Principal, action Action, applies func(*Rule) bool) Decision {
	decision := Decision{Rule: -1, Reason: ReasonForbidden}
	if p.Revokes(who.Identity, who.TokenID) {
		return decision
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.names(who.Identity) || !slices.Contains(r.Actions, action) || !applies(r) {
			continue
		}
		if !containsAll(who.Scopes, r.Scopes) {
			if r.Effect == Allow && decision.Rule < 0 && decision.Scopes == nil {
				decision.Reason, decision.Scopes = ReasonInsufficientScope, r.Scopes
			}
			continue
		}
		if r.Effect == Deny {
			return Decision{Rule: i, Reason: ReasonForbidden}
		}
		if !decision.Allowed {
			decision = Decision{Allowed: true, Rule: i}
		}
	}
	return decision
}

func (r *Rule) names(who Identity) bool {
	return (len(r.Issuers) == 0 || slices.Contains(r.Issuers, who.Issuer)) &&
		(len(r.Subjects) == 0 || slices.Contains(r.Subjects, who.Subject))
}

// Revokes reports whether the policy's deny list names the subject or the token. An entry without an issuer means the
// only one there is.
func (p AccessPolicy) Revokes(who Identity, tokenID string) bool {
	return slices.ContainsFunc(p.Revoked, func(r Revocation) bool {
		if r.Issuer != "" && r.Issuer != who.Issuer {
			return false
		}
		return r.Subject != "" && r.Subject == who.Subject || r.TokenID != "" && r.TokenID == tokenID
	})
}

func containsAll(have, want []string) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// Standing returns nil while the principal may still act at now: its token has not ended and the policy does not
// revoke it. A gate's decision is cached, so this is asked again behind it.
func (p AccessPolicy) Standing(who Principal, now time.Time) error {
	switch {
	case who.Expired(now):
		return Errorf(Unauthenticated, ReasonTokenExpired, "the token has expired")
	case p.Revokes(who.Identity, who.TokenID):
		return Errorf(Unauthenticated, ReasonInvalidToken, "the token is no longer accepted")
	default:
		return nil
	}
}
