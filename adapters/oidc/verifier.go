// Package oidc verifies bearer tokens: JWTs that an OpenID Connect issuer signed, with the keys that the issuer
// publishes, or that were signed with a secret shared with the issuer. It follows RFC 7519 (JWT), RFC 8725 (its best
// current practices), RFC 9068 (JWT access tokens), RFC 7517 (keys) and OpenID Connect Discovery 1.0; where they leave
// a choice it takes the strict one.
//
// A token is checked in a fixed order: its size, its form, its issuer, its algorithm and kind, its signature, and only
// then what it claims. Nothing in a token names a key's place: keys come from the settings' issuer alone.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Issuer is one issuer whose tokens are accepted, and what is asked of them.
type Issuer struct {
	// Issuer is the iss of its tokens and of its discovery document, byte for byte: an https URL, or plain http on a
	// loopback host.
	Issuer string

	// Audience is who the tokens are for, any of. An aud that is there must match as a whole string. ClientIDs is who
	// they may have been issued to, by the first present of azp, client_id, appid and cid; when set it is checked as
	// well, and it alone suffices for a token without aud. At least one of the two is needed.
	Audience  []string
	ClientIDs []string

	// Algorithms is the allow-list; empty: RS, PS and ES 256 to 512, and EdDSA. No other algorithm is ever accepted.
	Algorithms []string

	// JWKSURL replaces discovery, JWKSFile the network. A file is read again after Refresh, as a set from the network
	// is fetched again.
	JWKSURL  string
	JWKSFile string

	// Types lists the accepted typ headers, without the application/ that may precede them; the header must then be
	// there. Empty: JWT, at+jwt, or no typ at all.
	Types []string

	// ScopeClaims are the claims that hold the scopes: the first present one counts, none is merged. Empty: scope, scp,
	// scopes. When ScopePrefix is set it is cut from each scope, and scopes without it are dropped: they are not meant
	// for this service.
	ScopeClaims []string
	ScopePrefix string

	// AcceptIDTokens also accepts ID tokens, whose aud is a client id: those of ClientIDs.
	AcceptIDTokens bool

	// Leeway is how far the clocks of issuer and verifier may differ, for exp and nbf alike: at most 10 minutes.
	Leeway time.Duration

	// Refresh is how long fetched keys are used before they are fetched again, and so the longest that a removed key
	// lives: at least a minute, 0 is 15 minutes. MaxStale is how long they serve on when they cannot be fetched: at least
	// Refresh, 0 is 24 hours.
	Refresh  time.Duration
	MaxStale time.Duration

	// MaxToken is the size in bytes above which a token is refused unread: at most 16 KiB, 0 is 8 KiB.
	MaxToken int

	// KeepClaims are the claims that become Principal.Claims: a string as it is, anything else as its JSON text.
	KeepClaims []string
}

// The bounds and defaults of an Issuer and a SharedSecret.
const (
	defaultRefresh  = 15 * time.Minute
	minRefresh      = time.Minute
	defaultMaxStale = 24 * time.Hour
	maxLeeway       = 10 * time.Minute
	defaultMaxToken = 8 << 10
	limitMaxToken   = 16 << 10
)

// Options are what the settings do not say. The zero Options are those of a Lambda function.
type Options struct {
	// Transport connects to the issuers; nil: net/http's default. It is cloned, and the clone held to TLS 1.2, one
	// request per connection and 64 KiB of response header.
	Transport *http.Transport

	// Now is the clock; nil: time.Now.
	Now func() time.Time

	// Background lets a fetch outlive the call that began it and lets keys be fetched ahead of their expiry. Without it
	// no work outlives a call, and a call that gives up may end the fetch that others wait for as well: a Lambda function
	// has one call at a time, is frozen between two, and would wake up with a dead connection.
	Background bool

	// Remember is how many verified tokens are remembered, at most 1.5 KiB each: what a token that is seen again costs is
	// little more than its SHA-256. It is verified again once anything in its issuer's key set has changed, which is
	// fetched as for every other token. 0: none.
	Remember int

	// Log is told what an operator should know: keys that were skipped, fetches that failed. It never gets a token or a
	// claim. nil: nobody is told.
	Log func(msg string, attrs ...slog.Attr)
}

// Verifier is a ports.TokenVerifier.
type Verifier struct {
	byIssuer map[string]*authority
	shared   *authority // of the shared-secret mode: answers for every issuer
	maxToken int        // the largest of any authority
	now      func() time.Time
	memory   *memory
	end      context.CancelFunc
}

var _ ports.TokenVerifier = (*Verifier)(nil)

// An authority is whose signature counts: its keys, and what it may sign.
type authority struct {
	rules    rules
	types    []string // accepted typ headers, normalised
	noType   bool     // whether typ may be absent
	methods  map[string]jwt.SigningMethod
	maxToken int
	keys     keyFinder
	current  func(ctx context.Context) (*keySet, error) // what keys asks first
	source   *source                                    // of keys that are fetched; nil for a shared secret
}

// keyFinder finds the keys that may have signed a token with this algorithm and kid, and the set that they are of; kid
// is empty when the token has none. Its errors are *domain.Error.
type keyFinder func(ctx context.Context, alg string, kid []byte) (*keySet, jwt.VerificationKeySet, error)

// NewVerifier returns a verifier for the tokens of the issuers, each with its own keys, audience and algorithms. It does
// no I/O: see Prefetch. The error names everything that is wrong with the settings.
func NewVerifier(issuers []Issuer, opts Options) (*Verifier, error) {
	opts = opts.withDefaults()
	var problems []error
	if len(issuers) == 0 {
		problems = append(problems, errors.New("at least one issuer is needed"))
	}
	base, end := context.WithCancel(context.Background())
	v := &Verifier{byIssuer: make(map[string]*authority, len(issuers)), now: opts.Now, memory: newMemory(opts.Remember), end: end}
	for i, settings := range issuers {
		settings = settings.withDefaults()
		wrong := settings.problems()
		if _, twice := v.byIssuer[settings.Issuer]; twice {
			wrong = append(wrong, "is listed twice")
		}
		for _, w := range wrong {
			problems = append(problems, fmt.Errorf("issuer %d (%s): %s", i+1, settings.Issuer, w))
		}
		a := settings.authority(base, opts)
		v.byIssuer[settings.Issuer] = a
		v.maxToken = max(v.maxToken, a.maxToken)
	}
	if len(problems) > 0 {
		end()
		return nil, errors.Join(problems...)
	}
	return v, nil
}

// Verify implements ports.TokenVerifier. It waits for the network only when the keys it needs are not at hand or are
// due to be fetched again, and then at most 4 seconds: 2 for the discovery document and 2 for the keys.
func (v *Verifier) Verify(ctx context.Context, token string) (domain.Principal, error) {
	if v.memory.bound <= 0 || len(token) > v.maxToken {
		found, err := v.verify(ctx, token)
		return found.who, err
	}
	id := digestOf(token)
	if seen := v.memory.get(id); seen != nil && ctx.Err() == nil {
		keys, err := seen.by.current(ctx)
		if err != nil {
			return domain.Principal{}, err
		}
		if seen.holds(keys, v.now()) {
			return seen.principal(), nil
		}
	}
	found, err := v.verify(ctx, token)
	if err == nil {
		v.memory.put(id, found)
	}
	return found.who, err
}

func (v *Verifier) verify(ctx context.Context, token string) (verdict, error) {
	s, _ := scratches.Get().(*scratch)
	defer scratches.Put(s)
	s.members = s.members[:0]
	return v.examine(ctx, token, s, nil)
}

// examine asks everything of a token, in order. It ends at the first check that fails; with notes, which are Explain's
// and refer to the scratch, it goes on where there is something left to look at, and the notes have the verdict.
func (v *Verifier) examine(ctx context.Context, raw string, s *scratch, n *notes) (verdict, error) {
	if err := ctx.Err(); err != nil && raw != "" {
		return verdict{}, keysUnavailable(err, 0)
	}
	err := v.checkSize(raw)
	if n.ends(sizeCheck, err) || err != nil {
		return verdict{}, err
	}
	parts, err := s.decode(raw)
	if n.ends(formCheck, err) || err != nil {
		return verdict{}, err
	}
	t := token{signed: raw[:strings.LastIndexByte(raw, '.')], signature: parts[2]}
	err = s.readHeader(&t, parts[0])
	if n.saw(t, nil); n.ends(headerCheck, err) || err != nil {
		return verdict{}, err
	}
	if err = t.checkExtensions(); n.ends(extensionsCheck, err) {
		return verdict{}, err
	}
	err = s.readClaims(&t, parts[1])
	if n.ends(claimsCheck, err) || err != nil {
		return verdict{}, err
	}
	a, err := v.authorityOf(t)
	if n.saw(t, a); n.ends(issuerCheck, err) || err != nil {
		return verdict{}, err
	}
	keys, err := a.verify(ctx, t, len(raw), n)
	if err != nil {
		return verdict{}, err
	}
	now := v.now()
	who, err := a.rules.principal(t.claims, now, n)
	return verdict{who: who, by: a, keys: keys, at: now.Round(0)}, err
}

func (v *Verifier) checkSize(raw string) error {
	if raw == "" {
		return refused(domain.ReasonMissingToken, "there is no token")
	}
	if len(raw) > v.maxToken {
		return refused(domain.ReasonInvalidToken, "the token has %d bytes", len(raw))
	}
	return nil
}

// authorityOf selects who must have signed t, by the issuer that t, not yet verified, claims to have.
func (v *Verifier) authorityOf(t token) (*authority, error) {
	if v.shared != nil {
		return v.shared, nil
	}
	issuer, _, err := t.claims.characters("iss")
	if err != nil {
		return nil, err
	}
	a := v.byIssuer[string(issuer)]
	if a == nil {
		return nil, refused(domain.ReasonInvalidClaims, "iss is none of the issuers in the settings")
	}
	return a, nil
}

// verify checks everything about t but what it claims, and returns what the keys that it asked were read from. With
// notes it returns no error.
func (a *authority) verify(ctx context.Context, t token, size int, n *notes) (from digest, err error) {
	if err := a.checkSize(size); n.ends(sizeCheck, err) {
		return digest{}, err
	}
	method, err := a.method(t)
	if n.ends(algCheck, err) {
		return digest{}, err
	}
	if err := a.checkType(t); n.ends(typCheck, err) {
		return digest{}, err
	}
	if method == nil { // which only Explain gets past: no key is for no algorithm
		return digest{}, nil
	}
	set, keys, err := a.keys(ctx, method.Alg(), t.kid)
	switch {
	case n.endsAtKeys(err):
		return digest{}, err
	case err == nil:
		if err = checkSigned(t, method, keys); n.ends(signatureCheck, err) {
			return digest{}, err
		}
		from = set.text
	}
	return from, nil
}

func (a *authority) checkSize(size int) error {
	if size > a.maxToken {
		return refused(domain.ReasonInvalidToken, "the token has %d bytes", size)
	}
	return nil
}

func (a *authority) method(t token) (jwt.SigningMethod, error) {
	method := a.methods[string(t.alg)]
	if method == nil {
		return nil, refused(domain.ReasonInvalidToken, "alg is none of the algorithms in the settings")
	}
	return method, nil
}

func (a *authority) checkType(t token) error {
	if t.hasType && !slices.Contains(a.types, normalType(t.typ)) || !t.hasType && !a.noType {
		return refused(domain.ReasonInvalidToken, "typ is that of another kind of token")
	}
	return nil
}

func checkSigned(t token, method jwt.SigningMethod, keys jwt.VerificationKeySet) error {
	for _, key := range keys.Keys {
		if method.Verify(t.signed, t.signature, key) == nil {
			return nil
		}
	}
	return refused(domain.ReasonInvalidSignature, "the signature does not verify")
}

// Prefetch fetches the keys of every issuer that has none yet, all at once, so that the first token need not wait. Its
// error, Unavailable, names the issuers whose keys could not be had; Verify tries them again by itself.
func (v *Verifier) Prefetch(ctx context.Context) error {
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		problems []error
	)
	for issuer, a := range v.byIssuer {
		wg.Go(func() {
			if _, err := a.source.current(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				problems = append(problems, fmt.Errorf("%s: %w", issuer, err))
			}
		})
	}
	wg.Wait()
	if len(problems) > 0 {
		return keysUnavailable(errors.Join(problems...), 0)
	}
	return nil
}

// Close ends the fetches under way and returns when they have ended. Keys that are at hand serve on; none is fetched
// again. The error is always nil.
func (v *Verifier) Close() error {
	v.end()
	for _, a := range v.byIssuer {
		a.source.close()
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, ...slog.Attr) {}
	}
	return o
}
