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

// principal returns whom verified claims speak for. Its errors are *domain.Error.
func (r *rules) principal(claims object, now time.Time) (domain.Principal, error) {
	var who domain.Principal
	for _, name := range r.require {
		if _, ok := claims.get(name); !ok {
			return domain.Principal{}, refused(domain.ReasonInvalidClaims, "%s is missing", name)
		}
	}
	err := r.checkKind(claims)
	if err != nil {
		return domain.Principal{}, err
	}
	if who.ExpiresAt, err = r.checkTimes(claims, now); err != nil {
		return domain.Principal{}, err
	}
	if who.Issuer = r.issuer; r.issuer == "" {
		if who.Issuer, _, err = claims.name("iss"); err != nil {
			return domain.Principal{}, err
		}
	}
	if who.Subject, err = r.subject(claims); err != nil {
		return domain.Principal{}, err
	}
	if who.TokenID, _, err = claims.name("jti"); err != nil {
		return domain.Principal{}, err
	}
	if who.ClientID, err = r.client(claims); err != nil {
		return domain.Principal{}, err
	}
	if who.Scopes, err = r.scopes(claims); err != nil {
		return domain.Principal{}, err
	}
	who.Claims = r.kept(claims)
	return who, nil
}

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
	// OpenID Connect Core 1.0 §3.1.3.6 and §3.3.2.11: hashes that tie an ID token to what came with it.
	for _, name := range [...]string{"at_hash", "c_hash"} {
		if _, ok := claims.get(name); ok {
			return refuse(name + ": an ID token")
		}
	}
	return nil
}

// checkTimes returns from when the token is to be refused, zero for never.
func (r *rules) checkTimes(claims object, now time.Time) (expires time.Time, err error) {
	notBefore, ok, err := claims.date("nbf")
	if err != nil {
		return time.Time{}, err
	}
	if ok && now.Add(r.leeway).Before(notBefore) {
		return time.Time{}, refused(domain.ReasonInvalidClaims, "the token is not valid yet")
	}
	// RFC 7519 §4.1.6 has no rule that a fresh iat be refused: clocks differ.
	if _, _, err := claims.date("iat"); err != nil {
		return time.Time{}, err
	}
	expires, ok, err = claims.date("exp")
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

// client returns the client that the token was issued to, having checked that token and client are meant for us.
func (r *rules) client(claims object) (string, error) {
	var client string
	for _, name := range [...]string{"azp", "client_id", "appid", "cid"} {
		c, ok, err := claims.name(name)
		if err != nil {
			return "", err
		}
		if ok {
			client = c
			break
		}
	}
	aud, hasAud, err := claims.list("aud")
	if err != nil {
		return "", err
	}
	if !r.checkParties {
		if len(r.audience) > 0 && !slices.ContainsFunc(aud, in(r.audience)) {
			return "", refused(domain.ReasonInvalidClaims, "aud is not the audience in the settings")
		}
		return client, nil
	}
	if hasAud && !slices.ContainsFunc(aud, in(r.audience)) {
		// The audience of an ID token is the client (OpenID Connect Core 1.0 §2), which some issuers name nowhere else.
		i := slices.IndexFunc(aud, in(r.clientIDs))
		if !r.acceptIDTokens || i < 0 {
			return "", refused(domain.ReasonInvalidClaims, "aud is not the audience in the settings")
		}
		if client == "" {
			client = aud[i]
		}
	}
	if (len(r.clientIDs) > 0 || !hasAud) && !slices.Contains(r.clientIDs, client) {
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

// list returns a claim that is a string or a list of strings: RFC 7519 §4.1.3 has it so for aud.
func (o object) list(claim string) (values []string, present bool, err error) {
	v, ok := o.get(claim)
	if !ok {
		return nil, false, nil
	}
	if s, ok := text(v); ok {
		return []string{s}, true, nil
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
