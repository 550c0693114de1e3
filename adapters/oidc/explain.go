package oidc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jobgate/jobgate/domain"
)

// An Explanation is what Verify makes of a token, and why. It is for the operator whose token it is, never for a caller
// or a log: it quotes the token.
type Explanation struct {
	Findings  []Finding        // of every check, in the order in which Verify makes them
	Verified  bool             // whether the signature verified: if not, anybody may have written the claims that are quoted
	Principal domain.Principal // as Verify returns it
	Err       error            // as Verify returns it
}

// A Finding is what one check came to.
type Finding struct {
	Check  string // the stable name: size, form, header, …; that of a header member or a claim where it is about one
	Result Result
	Claim  bool   // the check is about what the token claims, which its signature vouches for
	Why    string // it failed
	Found  string // in the token: at most 200 characters, all printable; never the signature or the token as it is
	Wanted string // by the settings
}

// Result is what a check came to.
type Result string

// The results of a check.
const (
	Passed     Result = "passed"
	Failed     Result = "failed"
	NotChecked Result = "not checked" // an earlier failure left nothing to judge
)

// Explain makes the very checks of Verify, but goes on after one that failed, as far as the token has something left to
// judge, and tells what it found. It waits for the network as Verify does, and does so for some tokens that Verify
// refuses before.
func (v *Verifier) Explain(ctx context.Context, token string) Explanation {
	var n notes
	found, err := v.examine(ctx, token, new(scratch), &n)
	if err = cmp.Or(n.err, err); err != nil {
		found = verdict{}
	}
	e := Explanation{Verified: n.results[signatureCheck] == Passed, Principal: found.who, Err: err}
	for c := range numChecks {
		f := Finding{Check: checkNames[c], Result: cmp.Or(n.results[c], NotChecked), Claim: c.aboutClaims()}
		if f.Result == Failed {
			f.Why = cause(n.errs[c])
		}
		if f.Result != NotChecked {
			f.Found, f.Wanted = v.compare(c, &n, len(token))
		}
		e.Findings = append(e.Findings, f)
	}
	return e
}

// cause is why a check failed, as the log has it.
func cause(err error) string {
	if e, ok := errors.AsType[*domain.Error](err); ok && e.Err != nil {
		return printable(e.Err.Error())
	}
	return printable(err.Error())
}

// A check is one of the things that are asked of a token.
type check int

// The checks in the order in which they are made; what the settings of one issuer say about size is asked once the
// issuer is known, and the form of an iss that may be any with the other claims.
const (
	sizeCheck check = iota
	formCheck
	headerCheck
	extensionsCheck
	claimsCheck
	issuerCheck
	algCheck
	typCheck
	keysCheck
	keyCheck
	signatureCheck
	requiredCheck
	kindCheck
	nbfCheck
	iatCheck
	expCheck
	subCheck
	jtiCheck
	audCheck
	clientCheck
	scopesCheck
	numChecks
)

var checkNames = [numChecks]string{
	"size", "form", "header", "crit", "claims", "iss", "alg", "typ", "keys", "key", "signature",
	"required", "kind", "nbf", "iat", "exp", "sub", "jti", "aud", "client", "scope",
}

func (c check) aboutClaims() bool { return c == issuerCheck || c > signatureCheck }

// notes are what an examination came to, check by check. Those of Verify are nil.
type notes struct {
	token     token
	authority *authority // nil: not known
	results   [numChecks]Result
	errs      [numChecks]error
	err       error // of the check that failed first: the verdict
}

// ends notes what a check came to and reports whether the examination is over.
func (n *notes) ends(c check, err error) bool {
	if n == nil {
		return err != nil
	}
	n.results[c] = Passed
	if err != nil {
		n.results[c], n.errs[c] = Failed, err
		n.err = cmp.Or(n.err, err)
	}
	return false
}

// endsAtKeys is ends for two checks that are made in one go: that keys can be had, and that there is one for the token.
func (n *notes) endsAtKeys(err error) bool {
	if domain.KindOf(err) == domain.Unavailable {
		return n.ends(keysCheck, err)
	}
	return n.ends(keysCheck, nil) || n.ends(keyCheck, err)
}

// saw notes what the checks are about.
func (n *notes) saw(t token, a *authority) {
	if n != nil {
		n.token, n.authority = t, a
	}
}

// compare returns what a check that was made has found, and what the settings want.
func (v *Verifier) compare(c check, n *notes, size int) (found, wanted string) {
	header, claims, a := n.token.header, n.token.claims, n.authority
	switch c {
	case sizeCheck:
		limit := v.maxToken
		if a != nil {
			limit = a.maxToken
		}
		return fmt.Sprintf("%d bytes", size), fmt.Sprintf("at most %d", limit)
	case formCheck:
		return "", "three parts in base64url"
	case headerCheck:
		return "", "a JSON object with alg"
	case extensionsCheck:
		return quote(header, "crit", "b64"), "no extension"
	case claimsCheck:
		return "", "a JSON object"
	case issuerCheck:
		return quote(claims, "iss"), anyOf(slices.Sorted(maps.Keys(v.byIssuer)))
	default:
	}
	if a == nil {
		return "", ""
	}
	r := &a.rules
	switch c {
	case algCheck:
		return quote(header, "alg"), anyOf(slices.Sorted(maps.Keys(a.methods)))
	case typCheck:
		wanted = anyOf(a.types)
		if a.noType {
			wanted += ", or none"
		}
		return quote(header, "typ"), wanted
	case keysCheck:
		if a.source == nil {
			return "the shared secret", ""
		}
		keys, _ := a.source.atHand()
		return fmt.Sprintf("%d usable from %s", keys, printable(a.source.from)), "at least one"
	case keyCheck:
		if a.source == nil {
			return quote(header, "kid"), ""
		}
		_, kids := a.source.atHand()
		return quote(header, "kid"), anyOf(kids)
	case requiredCheck:
		return "", strings.Join(r.require, ", ")
	case kindCheck:
		wanted = "an access token"
		if r.acceptIDTokens {
			wanted += " or an ID token"
		}
		return quote(claims, append([]string{"typ", "token_use", "events", "cnf"}, hashClaims[:]...)...), wanted
	case nbfCheck:
		return when(claims, "nbf", v.now()), fmt.Sprintf("past, with a leeway of %v", r.leeway)
	case iatCheck:
		return when(claims, "iat", v.now()), "any date"
	case expCheck:
		return when(claims, "exp", v.now()), fmt.Sprintf("ahead, with a leeway of %v", r.leeway)
	case audCheck:
		wanted = anyOf(r.audience)
		if r.acceptIDTokens {
			wanted += ", or that of the client"
		}
		return quote(claims, "aud"), wanted
	case clientCheck:
		return quote(claims, clientClaims[:]...), anyOf(r.clientIDs)
	case scopesCheck:
		wanted = "the first of " + strings.Join(r.scopeClaims, ", ")
		if r.scopePrefix != "" {
			wanted += ", prefixed by " + printable(r.scopePrefix)
		}
		return quote(claims, r.scopeClaims...), wanted
	case subCheck, jtiCheck:
		return quote(claims, checkNames[c]), ""
	default:
		return "", ""
	}
}

// atHand returns how many usable keys there are, and their ids.
func (s *source) atHand() (keys int, kids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		return 0, nil
	}
	return s.set.size, slices.Sorted(maps.Keys(s.set.kids))
}

// maxQuoted is how many characters of a value are quoted.
const maxQuoted = 200

// quote returns those of the members that are there, as they were written: JSON keeps a value in one line and in quotes.
// A single one goes without its name where only that was asked for.
func quote(o object, names ...string) string {
	var found []string
	for _, name := range names {
		v, ok := o.get(name)
		switch {
		case ok && len(names) == 1:
			found = append(found, string(v))
		case ok:
			found = append(found, name+" "+string(v))
		}
	}
	if found == nil {
		return "none"
	}
	return printable(strings.Join(found, ", "))
}

// when returns a date and how far it is from now.
func when(claims object, name string, now time.Time) string {
	t, ok, err := claims.date(name)
	if err != nil || !ok {
		return quote(claims, name)
	}
	away, form := t.Sub(now).Round(time.Second), "%s, in %s"
	if away < 0 {
		away, form = -away, "%s, %s ago"
	}
	distance := away.String()
	if days := away / (24 * time.Hour); days > 1 {
		distance = fmt.Sprintf("%d days", days)
	}
	return fmt.Sprintf(form, t.Format(time.RFC3339), distance)
}

// anyOf returns a list of the settings as quote returns values.
func anyOf(list []string) string {
	if len(list) == 0 {
		return "any"
	}
	quoted := make([]string, len(list))
	for i, element := range list {
		quoted[i] = strconv.Quote(element)
	}
	return printable(strings.Join(quoted, ", "))
}

// printable returns at most maxQuoted characters of s, none of which does anything to a terminal.
func printable(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return unicode.ReplacementChar
	}, s)
	if runes := []rune(s); len(runes) > maxQuoted {
		return string(runes[:maxQuoted]) + "…"
	}
	return s
}
