package oidc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// cooldown is how long nothing is fetched for the sake of an unknown kid after something was, and for no reason at all
// after a fetch failed: anybody can make up kids, and an issuer in trouble needs no more of it.
const cooldown = 10 * time.Second

// A source keeps the keys of one issuer. They are fetched when they are used, never by a timer, one fetch at a time.
type source struct {
	from       string // where the keys come from, for people
	load       func(ctx context.Context, again bool) ([]byte, error)
	refresh    time.Duration
	maxStale   time.Duration
	background bool
	now        func() time.Time
	log        func(msg string, attrs ...slog.Attr)
	base       context.Context //nolint:containedctx // ends with the verifier: a fetch belongs to all who wait for it, not to the first
	fetches    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	flight  *flight   // the fetch under way; nil: none
	set     *keySet   // nil: never fetched
	fetched time.Time // when the fetch of set began: what was published before is in it
	missed  time.Time // when a fetch for an unknown kid last began
	failed  time.Time // when a fetch last failed
	failure error     // why
}

// A flight is a fetch under way.
type flight struct {
	done    chan struct{} // closed when set and err are there
	set     *keySet
	err     error
	abandon context.CancelFunc
	waiters int // guarded by source.mu
}

var errClosed = errors.New("the verifier is closed")

func newSource(base context.Context, i Issuer, opts Options) *source {
	s := &source{
		refresh:    i.Refresh,
		maxStale:   i.MaxStale,
		background: opts.Background,
		// The monotonic clock of a machine that was frozen, as Lambda's are, may have stood still: only the wall clock counts.
		now:  func() time.Time { return opts.Now().Round(0) },
		log:  func(msg string, attrs ...slog.Attr) { opts.Log(msg, append(attrs, slog.String("issuer", i.Issuer))...) },
		base: base,
	}
	switch {
	case i.JWKSFile != "":
		s.from, s.load = i.JWKSFile, fileLoader(i.JWKSFile)
	case i.JWKSURL != "":
		s.from, s.load = i.JWKSURL, newFetcher(i, opts.Transport).load
	default:
		s.from, s.load = "the jwks_uri of "+discoveryURL(i.Issuer), newFetcher(i, opts.Transport).load
	}
	return s
}

// find is a keyFinder.
func (s *source) find(ctx context.Context, alg string, kid []byte) (*keySet, jwt.VerificationKeySet, error) {
	set, err := s.current(ctx)
	if err != nil {
		return nil, jwt.VerificationKeySet{}, err
	}
	keys, err := set.find(alg, kid)
	if errors.Is(err, errUnknownKid) || errors.Is(err, errNoKey) {
		if set, err = s.newer(ctx); err != nil {
			return nil, jwt.VerificationKeySet{}, err
		}
		keys, err = set.find(alg, kid)
	}
	return set, keys, keyError(err, kid)
}

// current returns the keys that may be used now: those at hand until they are due to be fetched again, then what a
// fetch brings, and only when that fails those at hand, until they are too stale. Its errors are *domain.Error.
func (s *source) current(ctx context.Context) (*keySet, error) {
	s.mu.Lock()
	now := s.now()
	if now.Before(s.fetched) { // the clock was set back: nobody knows how old the keys are
		s.fetched = now.Add(-s.refresh)
	}
	set, age := s.set, now.Sub(s.fetched)
	if set != nil && age < s.refresh {
		if s.background && age >= s.refresh/5*4 && s.flight == nil && !s.closed && !s.cooling(now) {
			s.begin(now, false)
		}
		s.mu.Unlock()
		return set, nil
	}
	if s.flight == nil && s.cooling(now) {
		err := s.failure
		s.mu.Unlock()
		return s.fallBack(set, age, err)
	}
	fresh, err := s.fetch(ctx, now, false)
	if err == nil {
		return fresh, nil
	}
	if ctx.Err() != nil {
		return nil, keysUnavailable(ctx.Err(), 0)
	}
	return s.fallBack(set, age, err)
}

// fallBack returns what serves when set, of the given age, could not be fetched anew.
func (s *source) fallBack(set *keySet, age time.Duration, err error) (*keySet, error) {
	if set == nil || age >= s.maxStale {
		return nil, keysUnavailable(err, cooldown)
	}
	return set, nil
}

// newer returns the issuer's keys of now, after those at hand turned out to lack one, or the latest at hand during a
// cool-down. Its errors are *domain.Error.
func (s *source) newer(ctx context.Context) (*keySet, error) {
	s.mu.Lock()
	now := s.now()
	if s.flight == nil {
		if s.closed || s.cooling(now) || within(now, s.missed, cooldown) {
			set := s.set
			s.mu.Unlock()
			return set, nil
		}
		s.missed = now
	}
	set, err := s.fetch(ctx, now, true)
	if err != nil {
		return nil, keysUnavailable(err, cooldown) // nothing is known of the kid
	}
	return set, nil
}

// cooling reports whether an issuer that failed is left alone. s.mu is held.
func (s *source) cooling(now time.Time) bool { return within(now, s.failed, cooldown) }

// within reports whether now is less than d after t. Before t it is not: the clock was set back.
func within(now, t time.Time, d time.Duration) bool { return !now.Before(t) && now.Sub(t) < d }

// fetch waits for the fetch under way, or for one that it begins. It is called with s.mu held and releases it.
func (s *source) fetch(ctx context.Context, now time.Time, again bool) (*keySet, error) {
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	f := s.flight
	if f == nil {
		f = s.begin(now, again)
	}
	f.waiters++
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.set, f.err
	case <-ctx.Done():
		s.leave(f)
		return nil, ctx.Err()
	}
}

// leave ends the wait of one for f. Where no work may outlive a call, the last one ends f too.
func (s *source) leave(f *flight) {
	s.mu.Lock()
	f.waiters--
	last := f.waiters == 0
	s.mu.Unlock()
	if last && !s.background {
		f.abandon()
		<-f.done
	}
}

// begin starts a fetch. s.mu is held.
func (s *source) begin(now time.Time, again bool) *flight {
	ctx, cancel := context.WithCancel(s.base)
	f := &flight{done: make(chan struct{}), abandon: cancel}
	s.flight = f
	s.fetches.Go(func() {
		defer cancel()
		defer close(f.done)
		f.set, f.err = s.parse(s.load(ctx, again))
		abandoned := ctx.Err() != nil
		if f.err != nil && !abandoned {
			s.log("the issuer's keys could not be fetched", slog.Any("error", f.err))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flight = nil
		switch {
		case f.err == nil:
			s.set, s.fetched = f.set, now
		case !abandoned: // which says nothing about the issuer
			s.failed, s.failure = s.now(), f.err
		}
	})
	return f
}

func (s *source) parse(text []byte, err error) (*keySet, error) {
	if err != nil {
		return nil, err
	}
	set, err := parseKeySet(text, func(kid string, why error) {
		s.log("a key of the issuer was skipped", slog.String("kid", cutKid(kid)), slog.Any("error", why))
	})
	if err == nil && set.size == 0 {
		s.log("the issuer has no usable key")
	}
	return set, err
}

// close ends the fetch under way and waits for its end.
func (s *source) close() {
	s.mu.Lock()
	s.closed = true
	if s.flight != nil {
		s.flight.abandon()
	}
	s.mu.Unlock()
	s.fetches.Wait()
}
