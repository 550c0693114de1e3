package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var mutate = flag.Bool("mutate", false, "switch off each check of the verifier in turn, and fail unless a test does; takes minutes")

// A mutation switches one check off.
type mutation struct {
	check    string
	file     string
	old, new string // what to replace, which is there once, and by what
	by       string // the tests of which one has to fail; empty: the tables of oidctest
}

// Tests that see what the tables do not: how keys are got and kept, what is told of them, what settings may be.
const (
	byAny      = "."
	bySettings = "^Test(Settings|SharedSecretsThatAreRefused)"
	byECDSA    = "^TestECDSA"
	byMemory   = "Remembered|ARefusal|EachCaller|ATokenIs|FoundGone"
	byMemSize  = "AreRemembered|LargePrincipal|TakeLittle"
)

var mutations = []mutation{
	{"there is a token", "verifier.go", `if raw == "" {`, `if false {`, byAny},
	{"a call that is over", "verifier.go", `err != nil && raw != ""`, `false && err != nil`, byAny},
	{"size before anything is parsed", "verifier.go", `if len(raw) > v.maxToken {`, `if false {`, ""},
	{"size, of each issuer", "verifier.go", `if size > a.maxToken {`, `if false {`, ""},
	{"iss of somebody trusted, byte for byte: case", "verifier.go", `a := v.byIssuer[string(issuer)]`, `a := v.byIssuer[strings.ToLower(string(issuer))]`, ""},
	{"iss of somebody trusted, byte for byte: slash", "verifier.go", `a := v.byIssuer[string(issuer)]`, `a := v.byIssuer[strings.TrimSuffix(string(issuer), "/")]`, ""},
	{"iss of somebody trusted, byte for byte: space", "verifier.go", `a := v.byIssuer[string(issuer)]`, `a := v.byIssuer[strings.TrimSpace(string(issuer))]`, ""},
	{"alg is among those of the issuer", "verifier.go", `method := a.methods[string(t.alg)]`, `method := jwt.GetSigningMethod(string(t.alg))`, ""},
	{"alg at all", "verifier.go", `n.ends(algCheck, err)`, `false`, ""},
	{"typ of another kind", "verifier.go", `t.hasType && !slices.Contains(a.types, normalType(t.typ)) || `, `false && slices.Contains(a.types, normalType(t.typ)) || `, ""},
	{"typ that is absent", "verifier.go", ` || !t.hasType && !a.noType`, ``, ""},
	{"typ at all", "verifier.go", `n.ends(typCheck, err)`, `false`, ""},
	{"a key for the token", "verifier.go", `n.endsAtKeys(err)`, `false`, ""},
	{"the signature", "verifier.go", `if method.Verify(t.signed, t.signature, key) == nil {`, `if _, _ = method, key; true {`, ""},
	{"the signature's verdict", "verifier.go", `n.ends(signatureCheck, err)`, `false`, ""},
	{"all that comes before the claims", "verifier.go", `	keys, err := a.verify(ctx, t, len(raw), n)
	if err != nil {`, `	keys, err := a.verify(ctx, t, len(raw), n)
	if false {`, ""},
	{"crit and b64 at all", "verifier.go", `n.ends(extensionsCheck, err)`, `false`, ""},

	{"three parts", "token.go", `if strings.Count(raw, ".") != 2 {`, `if false {`, ""},
	{"no line end", "token.go", `strings.IndexByte(raw, '\r') >= 0 || strings.IndexByte(raw, '\n') >= 0`, `false`, ""},
	{"no carriage return", "token.go", `strings.IndexByte(raw, '\r') >= 0 || `, ``, ""},
	{"no line feed", "token.go", ` || strings.IndexByte(raw, '\n') >= 0`, ``, ""},
	{"no stray bits", "token.go", `base64.RawURLEncoding.Strict()`, `base64.RawURLEncoding`, ""},
	{"kid is a string", "token.go", `if t.kid, _, err = t.header.characters("kid"); err != nil {`, `if t.kid, _, err = t.header.characters("kid"); false {`, ""},
	{"typ that is no string is there", "token.go", `t.typ, t.hasType, _ = t.header.text("typ")`, `t.typ, _, _ = t.header.text("typ"); t.hasType = t.typ != ""`, ""},
	{"crit", "token.go", `if _, ok := t.header.get("crit"); ok {`, `if false {`, ""},
	{"b64", "token.go", `ok && string(b64) != "true"`, `ok && string(b64) == ""`, ""},
	{"b64 is a boolean", "token.go", `ok && string(b64) != "true"`, `ok && string(b64) == "false"`, ""},
	{"the claims are an object", "token.go", `if t.claims, err = s.parseObject(text); err != nil {`, `if t.claims, err = s.parseObject(text); false {`, ""},
	{"what is not plain is parsed", "token.go", `if !plain {`, `if !plain && false {`, ""},
	{"names of members differ", "token.go", `dec.Reset(bytes.NewBuffer(text))`, `dec.Reset(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true))`, ""},
	{"UTF-8", "token.go", `dec.Reset(bytes.NewBuffer(text))`, `dec.Reset(bytes.NewBuffer(text), jsontext.AllowInvalidUTF8(true))`, ""},
	{"nothing behind the object", "token.go", `if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {`, `if _, _ = errors.Is, io.EOF; false {`, ""},
	{"escapes are read", "token.go", `if bytes.IndexByte(quoted, '\\') < 0 {`, `if _ = bytes.IndexByte; true {`, ""},
	{"names are case-sensitive", "token.go", `if string(m.Name) == name {`, `if strings.EqualFold(string(m.Name), name) {`, ""},
	{"strings are strings", "token.go", `if v.Kind() != '"' {`, `if false {`, ""},
	{"what is there and no string", "token.go", `value, ok = characters(v)
	if !ok {`, `value, ok = characters(v)
	if false {`, ""},

	{"required claims at all", "claims.go", `n.ends(requiredCheck, err)`, `false`, ""},
	{"the kind of token at all", "claims.go", `n.ends(kindCheck, err)`, `false`, ""},
	{"events", "claims.go", `if _, ok := claims.get("events"); ok {`, `if false {`, ""},
	{"cnf", "claims.go", `if _, ok := claims.get("cnf"); ok {`, `if false {`, ""},
	{"Keycloak's kind", "claims.go", `if v, ok := claims.get("typ"); ok {`, `if v, ok := claims.get("typ"); ok && false {`, ""},
	{"Keycloak's ID tokens", "claims.go", `(!strings.EqualFold(kind, "ID") || !r.acceptIDTokens)`, `!strings.EqualFold(kind, "ID")`, ""},
	{"Cognito's kind", "claims.go", `if v, ok := claims.get("token_use"); ok {`, `if v, ok := claims.get("token_use"); ok && false {`, ""},
	{"Cognito's ID tokens", "claims.go", `(use != "id" || !r.acceptIDTokens)`, `use != "id"`, ""},
	{"at_hash", "claims.go", `[...]string{"at_hash", "c_hash"}`, `[...]string{"c_hash"}`, ""},
	{"c_hash", "claims.go", `[...]string{"at_hash", "c_hash"}`, `[...]string{"at_hash"}`, ""},
	{"hashes where ID tokens are accepted", "claims.go", `if r.acceptIDTokens {
		return nil
	}`, ``, ""},
	{"nbf at all", "claims.go", `n.ends(nbfCheck, err)`, `false`, ""},
	{"nbf is honoured", "claims.go", `now.Add(r.leeway).Before(notBefore)`, `false && now.Before(notBefore)`, ""},
	{"nbf has the leeway", "claims.go", `now.Add(r.leeway).Before(notBefore)`, `now.Before(notBefore)`, ""},
	{"nbf is a date", "claims.go", `notBefore, ok, err := claims.date("nbf")`, `notBefore, ok, _ := claims.date("nbf")
	var err error`, ""},
	{"iat is a date", "claims.go", `n.ends(iatCheck, err)`, `false`, ""},
	{"exp at all", "claims.go", `n.ends(expCheck, err)`, `false`, ""},
	{"exp is a date", "claims.go", `if err != nil || !ok {
		return time.Time{}, err
	}
	expires`, `if err != nil || !ok {
		return time.Time{}, nil
	}
	expires`, ""},
	{"exp is over", "claims.go", `if !now.Before(expires) {`, `if false {`, ""},
	{"exp is over to the second", "claims.go", `if !now.Before(expires) {`, `if now.After(expires) {`, ""},
	{"exp has the leeway", "claims.go", `expires = expires.Add(r.leeway)`, ``, ""},
	{"the principal's expiry has the leeway", "claims.go", `return expires, nil`, `return expires.Add(-r.leeway), nil`, byAny},
	{"iss where it may be any", "claims.go", `n.ends(issuerCheck, err)`, `false`, ""},
	{"iss of what nobody submitted", "claims.go", `err == nil && who.Issuer == domain.SystemIssuer`, `false`, ""},
	{"the principal's issuer", "claims.go", `if who.Issuer = r.issuer; r.issuer == "" {`, `if r.issuer == "" {`, byAny},
	{"sub at all", "claims.go", `n.ends(subCheck, err)`, `false`, ""},
	{"sub that tokens without sub share", "claims.go", `case subject == SharedSubject:`, `case false:`, ""},
	{"jti", "claims.go", `n.ends(jtiCheck, err)`, `false`, ""},
	{"aud at all", "claims.go", `n.ends(audCheck, err)`, `false`, ""},
	{"aud is ours", "claims.go", `return "", refused(domain.ReasonInvalidClaims, "aud is not the audience in the settings")`, `return "", nil`, ""},
	{"aud is a whole string: beginning", "claims.go", `return slices.Contains(list, s)`, `return slices.ContainsFunc(list, func(l string) bool { return strings.HasPrefix(s, l) })`, ""},
	{"aud is a whole string: end", "claims.go", `return slices.Contains(list, s)`, `return slices.ContainsFunc(list, func(l string) bool { return s != "" && strings.HasPrefix(l, s) })`, ""},
	{"aud is a whole string: within", "claims.go", `return slices.Contains(list, s)`, `return slices.ContainsFunc(list, func(l string) bool { return strings.HasSuffix(s, l) })`, ""},
	{"aud is a whole string: case", "claims.go", `return slices.Contains(list, s)`, `return slices.ContainsFunc(list, func(l string) bool { return strings.EqualFold(s, l) })`, ""},
	{"aud is well formed where it may be any", "claims.go", `case err != nil:
		return "", err
	case slices.ContainsFunc(aud, in(r.audience)):`, `case slices.ContainsFunc(aud, in(r.audience)):`, ""},
	{"aud where a secret is shared", "claims.go", `case !r.checkParties && len(r.audience) == 0:`, `case !r.checkParties:`, ""},
	{"aud that is absent where a secret is shared", "claims.go", `case r.checkParties && !ok: // see checkClient`, `case !ok:`, ""},
	{"aud of ID tokens only where they are accepted", "claims.go", `; r.acceptIDTokens && i >= 0 {`, `; i >= 0 {`, ""},
	{"the client at all", "claims.go", `n.ends(clientCheck, err)`, `false`, ""},
	{"the client's claims are names", "claims.go", `c, ok, err := claims.name(name)
		if err != nil {`, `c, ok, err := claims.name(name)
		if err != nil && false {`, ""},
	{"the first claim of a client counts", "claims.go", `client = c
			break`, `client = c`, ""},
	{"azp is the first", "claims.go", `{"azp", "client_id", "appid", "cid"}`, `{"client_id", "azp", "appid", "cid"}`, ""},
	{"client_id comes before appid", "claims.go", `{"azp", "client_id", "appid", "cid"}`, `{"azp", "appid", "client_id", "cid"}`, ""},
	{"appid comes before cid", "claims.go", `{"azp", "client_id", "appid", "cid"}`, `{"azp", "client_id", "cid", "appid"}`, ""},
	{"client ids beside an audience", "claims.go", `(len(r.clientIDs) > 0 || !hasAud)`, `!hasAud`, ""},
	{"no aud and no client ids", "claims.go", `(len(r.clientIDs) > 0 || !hasAud)`, `(len(r.clientIDs) > 0 || false && hasAud)`, ""},
	{"the client is a whole string", "claims.go", `!slices.Contains(r.clientIDs, client)`, `!slices.ContainsFunc(r.clientIDs, func(c string) bool { return strings.HasPrefix(client, c) })`, ""},
	{"scopes at all", "claims.go", `n.ends(scopesCheck, err)`, `false`, ""},
	{"the first claim of scopes counts", "claims.go", `return nil, refused(domain.ReasonInvalidClaims, "%s is neither a string nor a list of strings", name)`, `continue`, ""},
	{"a scope is not empty", "claims.go", `return s != "" && !strings`, `return !strings`, ""},
	{"a scope has no white space", "claims.go", `c <= ' ' || `, ``, ""},
	{"a scope is ASCII", "claims.go", `c > '~' || `, ``, ""},
	{"a scope has no quote", "claims.go", `c == '"' || `, ``, ""},
	{"a scope has no backslash", "claims.go", ` || c == '\\'`, ``, ""},
	{"scopes of another service", "claims.go", `ok && s != "" {`, `ok || s != "" {`, byAny},
	{"a scope that is the prefix", "claims.go", `ok && s != "" {`, `ok {`, byAny},
	{"a name is not empty", "claims.go", `if value == "" || `, `if `, ""},
	{"a name is short", "claims.go", `utf8.RuneCountInString(value) > maxName`, `utf8.RuneCountInString(value) > 1<<20`, ""},
	{"a name is counted in characters", "claims.go", `utf8.RuneCountInString(value) > maxName`, `utf8.RuneLen('a')*len(value) > maxName`, ""},
	{"a name is printable", "claims.go", ` || strings.ContainsFunc(value, func(c rune) bool { return !unicode.IsPrint(c) })`, ` || unicode.IsPrint(0)`, ""},
	{"a list has strings only", "claims.go", `return values, dec.PeekKind() == ']'`, `return values, true`, ""},
	{"a date is a number", "claims.go", `if err != nil || math.Abs(seconds) > lastDate {`, `if math.Abs(seconds) > lastDate {`, ""},
	{"a date is in seconds", "claims.go", `|| math.Abs(seconds) > lastDate`, `|| math.IsNaN(seconds)`, ""},
	{"only claims that are to be kept", "claims.go", `for _, name := range r.keepClaims {`, `for _, name := range append([]string{"iss"}, r.keepClaims...) {`, byAny},

	{"a salt of PSS as long as the hash", "keys.go", `SaltLength: rsa.PSSSaltLengthEqualsHash`, `SaltLength: rsa.PSSSaltLengthAuto`, ""},
	{"kid where there are several keys", "keys.go", `case len(kid) == 0 && s.size > 1:`, `case false:`, ""},
	{"an issuer without keys", "keys.go", `case s.size == 0:`, `case false:`, byAny},
	{"a kid that is there is not unknown", "keys.go", `case len(kid) == 0 || s.kids[string(kid)]:`, `case false:`, byAny},
	{"a key is found by its kid", "keys.go", `found, ok := s.keys[keyUse{alg, string(kid)}]`, `found, ok := s.keys[keyUse{alg, ""}]`, ""},
	{"a bad key takes no other with it", "keys.go", `skipped(key.kid, err)
			continue`, `return nil, err`, ""},
	{"so many keys", "keys.go", `if len(entries) > maxKeys {`, `if false {`, byAny},
	{"use", "keys.go", `if raw.Use != "" && raw.Use != string(jwkset.UseSig) {`, `if false {`, ""},
	{"keys without use", "keys.go", `if raw.Use != "" && raw.Use`, `if raw.Use`, ""},
	{"key_ops", "keys.go", `if raw.Operations != nil && !slices`, `if false && !slices`, ""},
	{"keys without key_ops", "keys.go", `if raw.Operations != nil && !slices`, `if !slices`, ""},
	{"alg of a key", "keys.go", `algs = []string{raw.Algorithm}`, ``, ""},
	{"alg of a key fits its kind", "keys.go", `if !slices.Contains(algs, raw.Algorithm) {`, `if false {`, byAny},
	{"RSA keys are long enough", "keys.go", `bits < minRSABits || `, ``, ""},
	{"RSA keys are not too long", "keys.go", ` || bits > maxRSABits`, ``, byAny},
	{"an RSA modulus is odd", "keys.go", `key.N.Bit(0) == 0 || `, ``, byAny},
	{"an RSA exponent is odd", "keys.go", ` || key.E%2 == 0`, ``, byAny},
	{"an Ed25519 key is of large order", "keys.go", `if smallOrder(key) {`, `if false {`, byAny},
	{"an Ed25519 key is of large order, whatever the sign of x", "keys.go", `y[len(y)-1] &= 0x7f`, `y[len(y)-1] &= 0xff`, byAny},
	{"an ECDSA signature verifies", "ecdsa.go", `if !ecdsa.VerifyASN1(`, `if false && !ecdsa.VerifyASN1(`, ""},
	{"R and S are as long as the order", "ecdsa.go", `if len(signature) != 2*m.KeySize {`, `if len(signature) < 2 {`, byECDSA},
	{"R and S are not negative", "ecdsa.go", `if n[0] < 0x80 {`, `if true {`, byECDSA},
	{"R and S have no zeros before them", "ecdsa.go", `for len(n) > 1 && n[0] == 0 {`, `for false {`, byECDSA},
	{"long signatures are marked as such", "ecdsa.go", `if length < 0x80 {`, `if true {`, byECDSA},
	{"a key set is one", "keys.go", `err != nil || set.Keys == nil {`, `set.Keys == nil { _ = err; set.Keys = new([]jsontext.Value)
	}
	if false {`, byAny},

	{"every issuer's aud or client", "settings.go", `checkParties:   true,`, `checkParties:   false,`, ""},
	{"exp is required", "settings.go", `[]string{"exp", "sub"}`, `[]string{"sub"}`, ""},
	{"sub is required", "settings.go", `[]string{"exp", "sub"}`, `[]string{"exp"}`, ""},
	{"types in their normal form", "settings.go", `types = append(types, normalType(typ))`, `types = append(types, typ)`, ""},
	{"application/ before a type once", "settings.go", `ok && !strings.Contains(rest, "/") {`, `ok {
		rest = strings.TrimPrefix(rest, "application/")`, ""},
	{"a type of one's own must be there", "settings.go", `return types, false`, `return types, true`, ""},
	{"issuers that are templates", "settings.go", `if strings.ContainsAny(i.Issuer, "{}") {`, `if false {`, bySettings},
	{"issuers have no query", "settings.go", `strings.ContainsAny(i.Issuer, "?#")`, `false`, bySettings},
	{"an audience or a client", "settings.go", `if len(i.Audience) == 0 && len(i.ClientIDs) == 0 {`, `if false {`, bySettings},
	{"no empty audience", "settings.go", `slices.Contains(i.Audience, "") || `, ``, bySettings},
	{"no empty client", "settings.go", ` || slices.Contains(i.ClientIDs, "")`, ``, bySettings},
	{"ID tokens need a client", "settings.go", `if i.AcceptIDTokens && len(i.ClientIDs) == 0 {`, `if false {`, bySettings},
	{"no algorithm but asymmetric ones", "settings.go", `if methods[alg] == nil {`, `if methods[alg] == nil && jwt.GetSigningMethod(alg) == nil {`, bySettings},
	{"keys from one place", "settings.go", `if i.JWKSURL != "" && i.JWKSFile != "" {`, `if false {`, bySettings},
	{"keys over https", "settings.go", `if i.JWKSURL != "" {
		if err`, `if false {
		if err`, bySettings},
	{"issuers over https", "settings.go", `case u.Scheme == "https", u.Scheme == "http" && loopback(u):`, `case u.Scheme != "":`, bySettings},
	{"plain http on this machine alone", "settings.go", `return addr.IsLoopback()`, `return addr.IsPrivate() || addr.IsLoopback()`, bySettings},
	{"no password in a URL", "settings.go", ` || u.User != nil`, ``, bySettings},
	{"refresh is not too often", "settings.go", `if i.Refresh < minRefresh {`, `if false {`, bySettings},
	{"stale after refresh", "settings.go", `if i.MaxStale < i.Refresh {`, `if false {`, bySettings},
	{"an issuer once", "verifier.go", `if _, twice := v.byIssuer[settings.Issuer]; twice {`, `if false {`, bySettings},

	{"HS256 alone", "secret.go", `{jwt.SigningMethodHS256.Alg(): jwt.SigningMethodHS256}`, `{"HS256": jwt.SigningMethodHS256, "HS384": jwt.SigningMethodHS384}`, ""},
	{"exp is required of a shared secret", "secret.go", `s.Require = []string{"exp", "sub"}`, `s.Require = []string{"sub"}`, ""},
	{"sub is required of a shared secret", "secret.go", `s.Require = []string{"exp", "sub"}`, `s.Require = []string{"exp"}`, ""},
	{"the audience of a shared secret", "secret.go", `audience:    s.Audience,`, ``, ""},
	{"the default bound of a shared secret", "secret.go", `s.MaxToken = defaultMaxToken`, `s.MaxToken = limitMaxToken`, ""},
	{"a secret is long", "secret.go", `case len(secret) < minSecret && !s.AllowShort:`, `case false:`, bySettings},
	{"a secret is not empty", "secret.go", `case secret == "":`, `case false:`, bySettings},
	{"a secret is no public key", "secret.go", `strings.Contains(secret, "-----BEGIN ")`, `strings.Contains(secret, "\x00")`, bySettings},
	{"two secrets at most", "secret.go", `n < 1 || n > 2`, `n < 1`, bySettings},
	{"a secret at least", "secret.go", `n < 1 || n > 2`, `n > 2`, bySettings},
	{"a leeway of minutes", "secret.go", `leeway < 0 || leeway > maxLeeway`, `leeway < 0`, bySettings},
	{"a leeway that is not negative", "secret.go", `leeway < 0 || leeway > maxLeeway`, `leeway > maxLeeway`, bySettings},
	{"tokens of some bytes", "secret.go", `maxToken < 1 || maxToken > limitMaxToken`, `maxToken > limitMaxToken`, bySettings},
	{"tokens of not too many bytes", "secret.go", `maxToken < 1 || maxToken > limitMaxToken`, `maxToken < 1`, bySettings},

	{"the discovery document is the issuer's", "fetch.go", `if document.Issuer != f.issuer {`, `if false {`, byAny},
	{"jwks_uri is a URL", "fetch.go", `if err := checkURL(document.Keys); err != nil {`, `if err := checkURL(document.Keys); false {`, byAny},
	{"jwks_uri is https as the issuer is", "fetch.go", `if strings.HasPrefix(f.issuer, "https:") &&`, `if false &&`, byAny},
	{"no redirect to another host", "fetch.go", `if !sameOrigin(next.URL, via[0].URL) {`, `if false {`, byAny},
	{"so many redirects", "fetch.go", `if len(via) > maxRedirects {`, `if len(via) > 2*maxRedirects {`, byAny},
	{"a document is not too long", "fetch.go", `err == nil && len(text) > maxBody`, `false`, byAny},
	{"no more is read of a document", "fetch.go", `io.LimitReader(r, maxBody+1)`, `r`, byAny},
	{"an error is no document", "fetch.go", `resp.StatusCode != http.StatusOK`, `false`, byAny},
	{"a fetch has its time", "fetch.go", `context.WithTimeout(ctx, fetchTimeout)`, `context.WithTimeout(ctx, 100*fetchTimeout)`, byAny},
	{"TLS 1.2", "fetch.go", `transport.TLSClientConfig.MinVersion = max`, `_ = max`, byAny},
	{"a connection for each fetch", "fetch.go", `transport.DisableKeepAlives = true`, `transport.DisableKeepAlives = false`, byAny},
	{"the slash of an issuer", "fetch.go", `return strings.TrimSuffix(issuer, "/") +`, `return issuer +`, byAny},
	{"discovery is not repeated for a kid", "fetch.go", `if !again || f.discovered == "" {`, `if true {`, byAny},
	{"discovery is repeated at a refresh", "fetch.go", `if !again || f.discovered == "" {`, `if f.discovered == "" {`, byAny},
	{"discovery is repeated after a failure", "fetch.go", `		f.discovered = ""
`, ``, byAny},

	{"a failure cools down what is fetched ahead", "source.go", ` && !s.closed && !s.cooling(now) {
			s.begin`, ` && !s.closed {
			s.begin`, byAny},
	{"a failure cools down", "source.go", `if s.flight == nil && s.cooling(now) {`, `if false {`, byAny},
	{"keys are due once the clock was set back", "source.go", `if now.Before(s.fetched) {`, `if false {`, byAny},
	{"nothing cools down once the clock was set back", "source.go", `return !now.Before(t) && `, `return `, byAny},
	{"keys that are too stale", "source.go", `if set == nil || age >= s.maxStale {`, `if set == nil {`, byAny},
	{"a failure cools down unknown kids", "source.go", `if s.closed || s.cooling(now) || within(now, s.missed, cooldown) {`, `if s.closed || within(now, s.missed, cooldown) {`, byAny},
	{"unknown kids cool down", "source.go", `if s.closed || s.cooling(now) || within(now, s.missed, cooldown) {`, `if s.closed || s.cooling(now) {`, byAny},
	{"keys are used until their refresh", "source.go", `if set != nil && age < s.refresh {`, `if set != nil {`, byAny},
	{"a call ends its fetch", "source.go", `if last && !s.background {`, `if last && false {`, byAny},
	{"a call does not end another's fetch", "source.go", `if last && !s.background {`, `if last {`, byAny},
	{"a fetch that was abandoned is no failure", "source.go", `case !abandoned: //`, `default: //`, byAny},
	{"keys are as old as their fetch's beginning", "source.go", `s.set, s.fetched = f.set, now`, `s.set, s.fetched = f.set, s.now()`, byAny},
	{"keys are fetched ahead only where work may go on", "source.go", `if s.background && age`, `if age`, byAny},
	{"a call that is over is no outage", "source.go", `	if ctx.Err() != nil {
`, `	if false {
`, byAny},
	{"one fetch at a time", "source.go", `	if f == nil {
`, `	if true {
`, byAny},

	{"a remembered token is asked for its verdict", "verifier.go", `if seen.holds(keys, v.now()) {`, `if _ = seen.holds(keys, v.now()); true {`, byMemory},
	{"a remembered token is remembered", "verifier.go", `if seen.holds(keys, v.now()) {`, `if seen.holds(keys, v.now()) && false {`, byMemSize},
	{"a remembered token whose keys cannot be had", "verifier.go", `keys, err := seen.by.current(ctx)
		if err != nil {
			return domain.Principal{}, err
		}`, `keys, err := seen.by.current(ctx)
		if err != nil {
			keys = &keySet{text: seen.keys}
		}`, byMemory},
	{"a remembered token has its keys fetched", "verifier.go", `keys, err := seen.by.current(ctx)`, `keys, err := &keySet{text: seen.keys}, error(nil)`, byMemory},
	{"a remembered token is late once its keys are there", "verifier.go", `keys, err := seen.by.current(ctx)`, `now := v.now()
		v := &Verifier{now: func() time.Time { return now }, memory: v.memory, byIssuer: v.byIssuer, maxToken: v.maxToken}
		keys, err := seen.by.current(ctx)`, byMemory},
	{"a remembered token and a call that is over", "verifier.go", `seen != nil && ctx.Err() == nil {`, `seen != nil {`, byMemory},
	{"a token is remembered by all of it", "verifier.go", `id := digestOf(token)`, `id := digestOf(token[:strings.LastIndexByte(token, '.')+1])`, byMemory},
	{"only successes are remembered", "verifier.go", `	if err == nil {
		v.memory.put(id, found)
	}`, `	found.by = v.shared
	for _, a := range v.byIssuer {
		found.by = a
	}
	v.memory.put(id, found)`, byMemory},
	{"a verdict is as old as what it saw of the time", "verifier.go", `at: now.Round(0)}`, `}`, byMemory},
	{"a verdict has its keys", "verifier.go", `from = set.text`, `_ = set.text`, byMemSize},
	{"keys have their text", "keys.go", `, text: sha256.Sum256(text)}`, `}
	_ = sha256.Sum256`, byMemory},
	{"a verdict holds with its keys", "memory.go", `keys.text == v.keys && `, ``, byMemory},
	{"a verdict holds after it was made", "memory.go", `!now.Before(v.at) && `, ``, byMemory},
	{"a verdict holds as long as its token", "memory.go", ` && !v.who.Expired(now)`, ``, byMemory},
	{"a principal for each caller", "verifier.go", `return seen.principal(), nil`, `return seen.who, nil`, byMemory},
	{"claims for the memory", "memory.go", `v.who.Claims = maps.Clone(v.who.Claims)`, ``, byMemory},
	{"scopes for the memory", "memory.go", `= strings.Split(joined, " ")`, `= append(scopes[:0], strings.Fields(joined)...)`, byMemory},
	{"scopes of each caller", "memory.go", `slices.Clone(who.Scopes), maps.Clone(who.Claims)`, `slices.Clone(who.Scopes), who.Claims
	_ = maps.Clone[map[string]string]`, byMemory},
	{"claims of each caller", "memory.go", `slices.Clone(who.Scopes), maps.Clone(who.Claims)`, `who.Scopes, maps.Clone(who.Claims)
	_ = slices.Clone[[]string]`, byMemory},
	{"scopes without the text they were in", "memory.go", `if len(scopes) == 1 {`, `if false {`, byMemSize},
	{"principals of some size", "memory.go", `if sizeOf(v.who) > maxPrincipal {`, `if false {`, byMemSize},
	{"principals of the scopes' size", "memory.go", `n += ofElement + len(s)`, `n += len(s)`, byMemSize},
	{"principals of the claims' size", "memory.go", `n += ofMember + len(value)`, `n += ofMember + 0*len(value)`, byMemSize},
	{"principals of the names' size", "memory.go", `len(who.Issuer) + len(who.Subject) + len(who.ClientID) + len(who.TokenID)`, `0`, byMemSize},
	{"so many tokens are remembered", "memory.go", `len(m.verdicts) >= m.bound`, `false`, byMemSize},
	{"nothing is remembered without a bound", "verifier.go", `v.memory.bound <= 0`, `false`, byMemSize},
	{"a token takes nobody's place but one's", "memory.go", `			break
`, ``, byMemSize},

	{"a kid is cut in the log", "errors.go", `if runes := []rune(kid); len(runes) > maxLoggedKid {`, `if runes := []rune(kid); false {`, byAny},
}

// With any one check switched off, some test fails. That the list is about the code as it is, is checked at all times.
func TestEveryCheckOfTheVerifierIsNeeded(t *testing.T) {
	t.Parallel()
	sources := make(map[string]string)
	for _, m := range mutations {
		if _, ok := sources[m.file]; !ok {
			text, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			sources[m.file] = string(text)
		}
		if n := strings.Count(sources[m.file], m.old); n != 1 {
			t.Errorf("%s: %s has %d times, want once:\n%s", m.check, m.file, n, m.old)
		}
	}
	if !*mutate || t.Failed() {
		t.Skip("mutations take minutes: go test -run TestEveryCheckOfTheVerifierIsNeeded -mutate -timeout 1h")
	}
	var killed atomic.Int64
	t.Cleanup(func() { t.Logf("%d of %d mutations are noticed", killed.Load(), len(mutations)) })
	for _, m := range mutations {
		t.Run(m.check, func(t *testing.T) {
			t.Parallel()
			if m.noticed(t, sources[m.file]) {
				killed.Add(1)
			} else {
				t.Errorf("%s: no test notices that this replaced\n%s\nby\n%s", m.file, m.old, m.new)
			}
		})
	}
}

// noticed runs the tests on the mutated source, of which nothing is left behind, and reports whether one failed.
func (m mutation) noticed(t *testing.T, source string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	dir := t.TempDir()
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	mutated, overlay, binary := filepath.Join(dir, m.file), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "oidc.test")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{mutated: []byte(strings.Replace(source, m.old, m.new, 1)), overlay: replace} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags", "-s -w", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("the mutated source does not compile: %v\n%s", err, out)
	}
	by := m.by
	if by == "" {
		by = "^TestTokens$"
	}
	out, err := exec.CommandContext(ctx, binary, "-test.run", by, "-test.failfast", "-test.timeout", "1m").CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatalf("%v\n%s", err, out)
	}
	return err != nil
}
