package oidc

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/domain"
)

// SharedSubject is the subject of every token without sub where the settings do not require one.
const SharedSubject = "jwt:shared"

// maxName is how many characters a subject or another identifier of a principal may have. OpenID Connect Core 1.0 §2
// has it for sub.
const maxName = 255

// lastDate is the end of the year 9999 in seconds since 1970: what lies behind it is no date but a mistake, most often
// milliseconds where RFC 7519 §2 has seconds.
const lastDate = 253402300799

// rules are what an authority's tokens must claim.
type rules struct {
	issuer         string // what iss is known to be; empty: it is taken as it comes
	audience       []string
	clientIDs      []string
	checkParties   bool     // whether aud and client id must fit; else aud must only where audience is set
	require        []string // claims that must be present
	acceptIDTokens bool
	scopeClaims    []string
	scopePrefix    string
	keepClaims     []string
	leeway         time.Duration
}

// principal returns whom verified claims speak for. Its errors are *domain.Error; with notes there are none.
func (r *rules) principal(claims object, now time.Time, n *notes) (domain.Principal, error) {
	var who domain.Principal
	err := r.checkRequired(claims)
	if n.ends(requiredCheck, err) {
		return domain.Principal{}, err
	}
	if err = r.checkKind(claims); n.ends(kindCheck, err) {
		return domain.Principal{}, err
	}
	if err = r.checkNotBefore(claims, now); n.ends(nbfCheck, err) {
		return domain.Principal{}, err
	}
	// RFC 7519 §4.1.6 has no rule that a fresh iat be refused: clocks differ.
	if _, _, err = claims.date("iat"); n.ends(iatCheck, err) {
		return domain.Principal{}, err
	}
	if who.ExpiresAt, err = r.expiry(claims, now); n.ends(expCheck, err) {
		return domain.Principal{}, err
	}
	if who.Issuer = r.issuer; r.issuer == "" {
		if who.Issuer, _, err = claims.name("iss"); err == nil && who.Issuer == domain.SystemIssuer {
			err = refused(domain.ReasonInvalidClaims, "iss is the one of jobs that nobody submitted")
		}
		if n.ends(issuerCheck, err) {
			return domain.Principal{}, err
		}
	}
	if who.Subject, err = r.subject(claims); n.ends(subCheck, err) {
		return domain.Principal{}, err
	}
	if who.TokenID, _, err = claims.name("jti"); n.ends(jtiCheck, err) {
		return domain.Principal{}, err
	}
	client, err := r.checkAudience(claims)
	if n.ends(audCheck, err) {
		return domain.Principal{}, err
	}
	if who.ClientID, err = r.checkClient(claims, client); n.ends(clientCheck, err) {
		return domain.Principal{}, err
	}
	if who.Scopes, err = r.scopes(claims); n.ends(scopesCheck, err) {
		return domain.Principal{}, err
	}
	who.Claims = r.kept(claims)
	return who, nil
}

func (r *rules) checkRequired(claims object) error {
	for _, name := range r.require {
		if _, ok := claims.get(name); !ok {
			return refused(domain.ReasonInvalidClaims, "%s is missing", name)
		}
	}
	return nil
}

// hashClaims tie an ID token to what came with it (OpenID Connect Core 1.0 §3.1.3.6 and §3.3.2.11).
var hashClaims = [...]string{"at_hash", "c_hash"}

// checkKind refuses what is no access token for a bearer.
func (r *rules) checkKind(claims object) error {
	refuse := func(why string) error { return refused(domain.ReasonInvalidClaims, "%s", why) }
	if _, ok := claims.get("events"); ok {
		return refuse("events: a logout or security event token (RFC 8417)")
	}
	if _, ok := claims.get("cnf"); ok {
		return refuse("cnf: bound to a key, whose possession a bearer check does not see (RFC 7800)")
	}
	// Keycloak repeats the kind of a token in its payload: Bearer, ID, Refresh, Offline, Logout, DPoP.
	if v, ok := claims.get("typ"); ok {
		kind, _ := text(v)
		if !strings.EqualFold(kind, "Bearer") && (!strings.EqualFold(kind, "ID") || !r.acceptIDTokens) {
			return refuse("typ in the claims: no access token")
		}
	}
	// Cognito's kinds: access and id.
	if v, ok := claims.get("token_use"); ok {
		use, _ := text(v)
		if use != "access" && (use != "id" || !r.acceptIDTokens) {
			return refuse("token_use: no access token")
		}
	}
	if r.acceptIDTokens {
		return nil
	}
	for _, name := range hashClaims {
		if _, ok := claims.get(name); ok {
			return refuse(name + ": an ID token")
		}
	}
	return nil
}

func (r *rules) checkNotBefore(claims object, now time.Time) error {
	notBefore, ok, err := claims.date("nbf")
	if err == nil && ok && now.Add(r.leeway).Before(notBefore) {
		err = refused(domain.ReasonInvalidClaims, "the token is not valid yet")
	}
	return err
}

// expiry returns from when the token is to be refused, zero for never.
func (r *rules) expiry(claims object, now time.Time) (time.Time, error) {
	expires, ok, err := claims.date("exp")
	if err != nil || !ok {
		return time.Time{}, err
	}
	expires = expires.Add(r.leeway)
	if !now.Before(expires) {
		return time.Time{}, refused(domain.ReasonTokenExpired, "the token has expired")
	}
	return expires, nil
}

func (r *rules) subject(claims object) (string, error) {
	subject, ok, err := claims.name("sub")
	switch {
	case err != nil:
		return "", err
	case !ok:
		return SharedSubject, nil // where sub is required its absence was seen before
	case subject == SharedSubject:
		return "", refused(domain.ReasonInvalidClaims, "sub is the one that tokens without sub share")
	}
	return subject, nil
}

// checkAudience checks that the token is meant for us. The audience of an ID token is the client (OpenID Connect Core 1.0
// §2), which some issuers name nowhere else; then it is returned.
func (r *rules) checkAudience(claims object) (client string, err error) {
	var room [4]string
	aud, ok, err := claims.list(room[:0], "aud", r.audience)
	switch {
	case err != nil:
		return "", err
	case slices.ContainsFunc(aud, in(r.audience)):
		return "", nil
	case r.checkParties && !ok: // see checkClient
		return "", nil
	case !r.checkParties && len(r.audience) == 0:
		return "", nil
	}
	if i := slices.IndexFunc(aud, in(r.clientIDs)); r.acceptIDTokens && i >= 0 {
		return aud[i], nil
	}
	return "", refused(domain.ReasonInvalidClaims, "aud is not the audience in the settings")
}

// clientClaims say who a token was issued to: the first present one counts.
var clientClaims = [...]string{"azp", "client_id", "appid", "cid"}

// checkClient checks that the token was issued to a client of ours, where that is asked: always of a token without aud.
// It returns the client, which is the given one where no claim names it.
func (r *rules) checkClient(claims object, client string) (string, error) {
	for _, name := range clientClaims {
		c, ok, err := claims.name(name)
		if err != nil {
			return "", err
		}
		if ok {
			client = c
			break
		}
	}
	_, hasAud := claims.get("aud")
	if r.checkParties && (len(r.clientIDs) > 0 || !hasAud) && !slices.Contains(r.clientIDs, client) {
		return "", refused(domain.ReasonInvalidClaims, "the client is none of those in the settings")
	}
	return client, nil
}

func in(list []string) func(string) bool {
	return func(s string) bool { return slices.Contains(list, s) }
}

// scopes returns what the first present of the scope claims grants.
func (r *rules) scopes(claims object) ([]string, error) {
	for _, name := range r.scopeClaims {
		v, ok := claims.get(name)
		if !ok {
			continue
		}
		var scopes []string
		if s, ok := text(v); ok {
			scopes = strings.Split(s, " ")
			scopes = slices.DeleteFunc(scopes, func(s string) bool { return s == "" })
		} else if scopes, ok = texts(v); !ok {
			return nil, refused(domain.ReasonInvalidClaims, "%s is neither a string nor a list of strings", name)
		}
		if !slices.ContainsFunc(scopes, func(s string) bool { return !validScope(s) }) {
			return r.ours(scopes), nil
		}
		return nil, refused(domain.ReasonInvalidClaims, "%s holds what is no scope (RFC 6749 §3.3)", name)
	}
	return nil, nil
}

// ours returns the scopes without the prefix that marks those of this service.
func (r *rules) ours(scopes []string) []string {
	if r.scopePrefix == "" {
		return scopes
	}
	kept := scopes[:0]
	for _, s := range scopes {
		if s, ok := strings.CutPrefix(s, r.scopePrefix); ok && s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// validScope reports whether s is a scope-token of RFC 6749 §3.3.
func validScope(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' })
}

func (r *rules) kept(claims object) map[string]string {
	var kept map[string]string
	for _, name := range r.keepClaims {
		v, ok := claims.get(name)
		if !ok {
			continue
		}
		if kept == nil {
			kept = make(map[string]string, len(r.keepClaims))
		}
		if s, ok := text(v); ok {
			kept[name] = s
		} else {
			kept[name] = string(v)
		}
	}
	return kept
}

// name returns a claim that identifies something: where it is present, 1 to 255 printable characters.
func (o object) name(claim string) (value string, present bool, err error) {
	value, present, err = o.text(claim)
	if err != nil || !present {
		return "", present, err
	}
	if value == "" || utf8.RuneCountInString(value) > maxName || strings.ContainsFunc(value, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return "", true, refused(domain.ReasonInvalidClaims, "%s is not 1 to %d printable characters", claim, maxName)
	}
	return value, true, nil
}

// list returns a claim that is a string or a list of strings: RFC 7519 §4.1.3 has it so for aud. It may use room, which is
// empty, and usual values instead of copies of them.
func (o object) list(room []string, claim string, usual []string) (values []string, present bool, err error) {
	v, ok := o.get(claim)
	if !ok {
		return nil, false, nil
	}
	if s, ok := characters(v); ok {
		for _, u := range usual {
			if u == string(s) {
				return append(room, u), true, nil
			}
		}
		return append(room, string(s)), true, nil
	}
	if values, ok = texts(v); !ok {
		return nil, true, refused(domain.ReasonInvalidClaims, "%s is neither a string nor a list of strings", claim)
	}
	return values, true, nil
}

// date returns a claim that is a NumericDate (RFC 7519 §2): seconds since 1970, which may have fractions.
func (o object) date(claim string) (t time.Time, present bool, err error) {
	v, ok := o.get(claim)
	if !ok {
		return time.Time{}, false, nil
	}
	seconds, err := strconv.ParseFloat(string(v), 64)
	if err != nil || math.Abs(seconds) > lastDate {
		return time.Time{}, true, refused(domain.ReasonInvalidClaims, "%s is no date in seconds", claim)
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*float64(time.Second))).UTC(), true, nil
}

// texts returns what v says if it is a list of strings.
func texts(v jsontext.Value) ([]string, bool) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(v))
	if start, err := dec.ReadToken(); err != nil || start.Kind() != '[' {
		return nil, false
	}
	values := []string{}
	for dec.PeekKind() == '"' {
		s, err := dec.ReadToken()
		if err != nil {
			return nil, false
		}
		values = append(values, s.String())
	}
	return values, dec.PeekKind() == ']'
}
