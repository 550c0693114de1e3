package oidc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

// A bench is an issuer and a verifier in a synctest bubble: real HTTP over connections in memory, and a clock that
// moves when everybody waits.
type bench struct {
	*testing.T
	issuer   *oidctest.Issuer
	key      oidctest.Key
	verifier *oidc.Verifier
	log      *logbook
	dials    *atomic.Int32
}

// inBubble runs test in a bubble, with a verifier that has fetched nothing yet.
func inBubble(t *testing.T, change func(*oidc.Issuer, *oidc.Options), test func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, issuer: &oidctest.Issuer{URL: "http://localhost"}, key: oidctest.NewKey("key-1", "ES256", 0), log: &logbook{}, dials: &atomic.Int32{}}
		b.issuer.Publish(b.key)
		l := &pipeListener{dials: b.dials, conns: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: b.issuer, ReadHeaderTimeout: time.Minute}
		var wg sync.WaitGroup
		wg.Go(func() { _ = server.Serve(l) }) // it ends with Close
		t.Cleanup(func() { _ = server.Close(); wg.Wait() })

		i := settings(b.issuer)
		opts := oidc.Options{Transport: &http.Transport{DialContext: l.dial}, Log: b.log.log}
		if change != nil {
			change(&i, &opts)
		}
		b.verifier = newVerifier(t, opts, i)
		test(b)
	})
}

func background(_ *oidc.Issuer, opts *oidc.Options) { opts.Background = true }

// warm fetches the keys.
func (b *bench) warm() {
	b.Helper()
	if err := b.verifier.Prefetch(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) token(key oidctest.Key) string {
	return key.Sign(nil, oidctest.Claims(b.issuer.URL, time.Now()))
}

// verify verifies a new token of key and checks the reason of its refusal, empty for none.
func (b *bench) verify(key oidctest.Key, want domain.Reason) {
	b.Helper()
	_, err := b.verifier.Verify(b.Context(), b.token(key))
	if got := reason(err); got != want {
		b.Errorf("Verify after %v with key %s: %q (%v), want %q", time.Since(b.began()), key.ID, got, err, want)
	}
}

// began is when every bubble begins.
func (b *bench) began() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

func reason(err error) domain.Reason {
	if err == nil {
		return ""
	}
	return domain.ReasonOf(err)
}

// fetches checks how often the key set has been fetched.
func (b *bench) fetches(want int) {
	b.Helper()
	if got := b.issuer.Requests(oidctest.KeysPath); got != want {
		b.Errorf("the key set was fetched %d times until %v, want %d", got, time.Since(b.began()), want)
	}
}

// pipeListener accepts what dial dials.
type pipeListener struct {
	dials  *atomic.Int32
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l.dials.Add(1)
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestRotationIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bench) {
		b.warm()
		next := oidctest.NewKey("key-2", "ES256", 0)
		b.issuer.Publish(b.key, next)
		b.verify(next, "")
		b.verify(b.key, "")
		b.fetches(2)
		if n := b.issuer.Requests(oidctest.DiscoveryPath); n != 1 {
			b.Errorf("the discovery document was fetched %d times, want once: it leads to the same keys", n)
		}
		if n := b.dials.Load(); n != 3 {
			b.Errorf("there were %d connections for 3 requests, want none to be kept", n)
		}
	})
}

func TestRotationLosesNoTokenWhoseKeyWasPublishedTenSecondsBefore(t *testing.T) {
	t.Parallel()
	inBubble(t, background, func(b *bench) {
		b.warm()
		stranger := oidctest.NewKey("nobody", "ES256", 0)
		old := b.key
		for n := range 20 {
			next := oidctest.NewKey(fmt.Sprint("next-", n), "ES256", 0)
			b.verify(stranger, domain.ReasonInvalidSignature) // uses the one fetch of the next 10 seconds up
			time.Sleep(time.Duration(n) * time.Millisecond)
			b.issuer.Publish(old, next)
			for range 10 {
				b.verify(stranger, domain.ReasonInvalidSignature)
				b.verify(old, "")
				time.Sleep(time.Second)
			}
			b.verify(next, "")
			old = next
		}
	})
}

func TestUnknownKidsHaveTheKeysFetchedOnceInTenSeconds(t *testing.T) {
	t.Parallel()
	inBubble(t, background, func(b *bench) {
		b.warm()
		var wg sync.WaitGroup
		for n := range 1000 {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * 9 * time.Millisecond)
				b.verify(b.key.As(fmt.Sprint("kid-", n), nil), domain.ReasonInvalidSignature)
			})
		}
		wg.Wait()
		b.fetches(2)
		time.Sleep(cooldown - time.Since(b.began()) - time.Nanosecond)
		b.verify(b.key.As("again", nil), domain.ReasonInvalidSignature)
		b.fetches(2)
		time.Sleep(time.Nanosecond)
		b.verify(b.key.As("again", nil), domain.ReasonInvalidSignature)
		b.fetches(3)
	})
}

const cooldown = 10 * time.Second

func TestAnUnknownKidIsRefusedWithoutWaitingDuringTheCoolDown(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bench) {
		b.warm()
		b.verify(b.key.As("one", nil), domain.ReasonInvalidSignature)
		b.issuer.Override(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		began := time.Now()
		b.verify(b.key.As("two", nil), domain.ReasonInvalidSignature)
		if waited := time.Since(began); waited != 0 {
			b.Errorf("the token waited %v, want not at all", waited)
		}
	})
}

func TestARemovedKeyDoesNotOutliveTheRefresh(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*oidc.Issuer, *oidc.Options){"on Lambda": nil, "in the background": background} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, change, func(b *bench) {
				b.warm()
				b.issuer.Publish(oidctest.NewKey("key-2", "ES256", 0))
				time.Sleep(15*time.Minute - time.Nanosecond)
				b.verify(b.key, "")
				time.Sleep(time.Nanosecond)
				b.verify(b.key, domain.ReasonInvalidSignature)
			})
		})
	}
}

func TestKeysAreFetchedAheadInTheBackgroundAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(*oidc.Issuer, *oidc.Options)
		fetches int
	}{"on Lambda": {nil, 1}, "in the background": {background, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, c.change, func(b *bench) {
				b.warm()
				time.Sleep(12*time.Minute - time.Nanosecond)
				b.verify(b.key, "")
				synctest.Wait()
				b.fetches(1)
				time.Sleep(time.Nanosecond)
				b.issuer.Override(nil)
				b.verify(b.key, "") // with the old keys: nobody waits
				synctest.Wait()
				b.fetches(c.fetches)
			})
		})
	}
}

func TestAKnownKidWithAnotherAlgorithmHasNothingFetched(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bench) {
		b.warm()
		b.verify(oidctest.NewKey(b.key.ID, "EdDSA", 0), domain.ReasonInvalidSignature)
		b.fetches(1)
	})
}

func TestTheAgeOfKeysCountsFromTheBeginningOfTheirFetch(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bench) {
		b.issuer.Override(func(w http.ResponseWriter, r *http.Request) {
			text := b.issuer.KeySet()
			time.Sleep(time.Second)
			if r.URL.Path == oidctest.DiscoveryPath {
				text = fmt.Appendf(nil, `{"issuer":%q,"jwks_uri":%q}`, b.issuer.URL, b.issuer.URL+oidctest.KeysPath)
			}
			_, _ = w.Write(text)
		})
		b.warm()
		b.issuer.Override(nil)
		b.issuer.Publish(oidctest.NewKey("key-2", "ES256", 0))
		time.Sleep(15*time.Minute - time.Since(b.began()))
		b.verify(b.key, domain.ReasonInvalidSignature)
	})
}

func TestAKeySetThatMovedIsFoundAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bench) {
		b.warm()
		moved := func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case oidctest.DiscoveryPath:
				_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, b.issuer.URL, b.issuer.URL+"/moved")
			case "/moved":
				_, _ = w.Write(b.issuer.KeySet())
			default:
				http.NotFound(w, r)
			}
		}
		b.issuer.Override(moved)
		next := oidctest.NewKey("key-2", "ES256", 0)
		b.issuer.Publish(next)
		b.verify(next, domain.ReasonKeysUnavailable) // where the keys were is nothing any more
		time.Sleep(cooldown)
		b.verify(next, "")
		// Moved back, with something still at the old place: the next refresh follows.
		b.issuer.Override(nil)
		time.Sleep(15 * time.Minute)
		b.verify(next, "")
		b.fetches(3)
	})
}

func TestAnIssuerThatFailedIsLeftAloneForTenSeconds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*oidc.Issuer, *oidc.Options)
		age    time.Duration
	}{"past the refresh": {nil, 15 * time.Minute}, "ahead of it": {background, 12 * time.Minute}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, c.change, func(b *bench) {
				b.warm()
				b.issuer.Break()
				time.Sleep(c.age)
				for range 100 {
					b.verify(b.key, "")
					synctest.Wait()
					b.verify(b.key.As("nobody", nil), domain.ReasonInvalidSignature)
					time.Sleep(99 * time.Millisecond)
				}
				if n := b.issuer.Requests(oidctest.DiscoveryPath) + b.issuer.Requests(oidctest.KeysPath); n != 3 { // two when warming up
					b.Errorf("the issuer was asked %d times, want once after the first failure", n-2)
				}
			})
		})
	}
}

func TestACallerWhoGivesUpSaysNothingAboutTheIssuer(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bench) {
		giveUp := func() {
			b.Helper()
			b.issuer.Override(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			ctx, cancel := context.WithTimeout(b.Context(), time.Second)
			defer cancel()
			_, err := b.verifier.Verify(ctx, b.token(b.key))
			if domain.KindOf(err) != domain.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
				b.Errorf("Verify: %v, want Unavailable at the deadline", err)
			}
			b.issuer.Override(nil)
		}
		giveUp()
		b.verify(b.key, "") // no cool-down
		time.Sleep(15 * time.Minute)
		giveUp() // although there are old keys: nobody knows yet whether they may serve on
		b.verify(b.key, "")
		if lines := b.log.all(); len(lines) != 0 {
			b.Errorf("logged %q, want nothing", lines)
		}
	})
}

func TestAnEmptySetWithdrawsEveryKey(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bench) {
		b.warm()
		b.issuer.Publish()
		time.Sleep(15 * time.Minute)
		b.verify(b.key, domain.ReasonKeysUnavailable)
		b.issuer.Publish(b.key)
		time.Sleep(cooldown)
		b.verify(b.key, "") // as soon as may be, not at the next refresh
	})
}

func TestOutageAfterWarmUp(t *testing.T) {
	t.Parallel()
	inBubble(t, background, func(b *bench) {
		b.warm()
		b.issuer.Break()
		for range 24*60 - 1 { // a token a minute for 24 hours
			time.Sleep(time.Minute)
			b.verify(b.key, "")
		}
		time.Sleep(time.Minute)
		b.verify(b.key, domain.ReasonKeysUnavailable)
		b.issuer.Override(nil)
		b.verify(b.key, domain.ReasonKeysUnavailable) // the cool-down of the failure
		time.Sleep(cooldown)
		b.verify(b.key, "")
	})
}

func TestOutageAtStart(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bench) {
		b.issuer.Break()
		if err := b.verifier.Prefetch(b.Context()); domain.ReasonOf(err) != domain.ReasonKeysUnavailable {
			b.Errorf("Prefetch: %v, want keys_unavailable", err)
		}
		for range 100 {
			_, err := b.verifier.Verify(b.Context(), b.token(b.key))
			e, ok := errors.AsType[*domain.Error](err)
			if !ok || e.Kind != domain.Unavailable || e.Reason != domain.ReasonKeysUnavailable || e.RetryAfter <= 0 {
				b.Errorf("Verify: %#v, want Unavailable with a time for the next try", err)
			}
		}
		if n := b.issuer.Requests(oidctest.DiscoveryPath); n != 1 {
			b.Errorf("the issuer was asked %d times within the cool-down, want once", n)
		}
		b.issuer.Override(nil)
		time.Sleep(cooldown - time.Nanosecond)
		b.verify(b.key, domain.ReasonKeysUnavailable)
		time.Sleep(time.Nanosecond)
		b.verify(b.key, "")
	})
}

func TestAnUnknownKidDuringAnOutage(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(b *bench) {
		b.warm()
		b.issuer.Break()
		next := oidctest.NewKey("key-2", "ES256", 0)
		b.verify(next, domain.ReasonKeysUnavailable)  // it may be good: nobody could say
		b.verify(next, domain.ReasonInvalidSignature) // during the cool-down
		b.verify(b.key, "")
		b.fetches(2)
	})
}

func TestRequestsShareOneFetch(t *testing.T) {
	t.Parallel()
	inBubble(t, background, func(b *bench) {
		b.issuer.Override(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			if r.URL.Path == oidctest.KeysPath {
				_, _ = w.Write(b.issuer.KeySet())
				return
			}
			_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, b.issuer.URL, b.issuer.URL+oidctest.KeysPath)
		})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { b.verify(b.key, "") })
		}
		// One who gives up takes the fetch from nobody else.
		ctx, cancel := context.WithTimeout(b.Context(), time.Millisecond)
		defer cancel()
		_, err := b.verifier.Verify(ctx, b.token(b.key))
		if domain.KindOf(err) != domain.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
			b.Errorf("Verify: %v, want Unavailable at the deadline", err)
		}
		wg.Wait()
		b.fetches(1)
	})
}

func TestOnLambdaNoFetchOutlivesItsCall(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*oidc.Issuer, *oidc.Options){"on Lambda": nil, "in the background": background} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, change, func(b *bench) {
				ended := make(chan time.Duration, 1)
				began := time.Now()
				b.issuer.Override(func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					ended <- time.Since(began)
				})
				ctx, cancel := context.WithTimeout(b.Context(), 500*time.Millisecond)
				defer cancel()
				if _, err := b.verifier.Verify(ctx, b.token(b.key)); !errors.Is(err, context.DeadlineExceeded) {
					b.Errorf("Verify: %v, want it to end at the deadline", err)
				}
				want := 500 * time.Millisecond
				if change != nil {
					want = 2 * time.Second
				}
				if got := <-ended; got != want {
					b.Errorf("the fetch ended after %v, want %v", got, want)
				}
			})
		})
	}
}

func TestCloseEndsAFetch(t *testing.T) {
	t.Parallel()
	inBubble(t, background, func(b *bench) {
		b.issuer.Override(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { b.verify(b.key, domain.ReasonKeysUnavailable) })
		synctest.Wait()
		if err := b.verifier.Close(); err != nil {
			b.Error(err)
		}
		wg.Wait()
		b.verify(b.key, domain.ReasonKeysUnavailable)
		if waited := time.Since(began); waited != 0 {
			b.Errorf("Close and what it ended took %v, want no time", waited)
		}
	})
}

func TestAfterCloseNothingIsFetched(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("key-1", "ES256", 0)
	source := &oidctest.Issuer{}
	source.Publish(key)
	for name, warm := range map[string]bool{"keys at hand serve on": true, "none are fetched": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := fromFile(t, source.KeySet())
			v := newVerifier(t, oidc.Options{}, i)
			if warm {
				if err := v.Prefetch(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			if _, err := v.Verify(t.Context(), key.Sign(nil, oidctest.Claims(i.Issuer, time.Now()))); (err == nil) != warm {
				t.Errorf("Verify: %v, want accepted: %v", err, warm)
			}
		})
	}
}

// Every way in which an issuer can misbehave is a failed fetch, in bounded time and memory, and is told to the log.
func TestMisbehavingIssuers(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	keys := func(h http.HandlerFunc) func(*bench) http.HandlerFunc { // for the key set; discovery works
		return func(b *bench) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == oidctest.KeysPath {
					h(w, r)
					return
				}
				_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, b.issuer.URL, b.issuer.URL+oidctest.KeysPath)
			}
		}
	}
	discovery := func(format string) func(*bench) http.HandlerFunc {
		return func(b *bench) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == oidctest.DiscoveryPath {
					_, _ = w.Write([]byte(strings.ReplaceAll(format, "$URL", b.issuer.URL)))
					return
				}
				_, _ = w.Write(b.issuer.KeySet())
			}
		}
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
	}
	for name, c := range map[string]struct {
		handler func(*bench) http.HandlerFunc
		log     string
		within  time.Duration
	}{
		"discovery never answers":             {func(*bench) http.HandlerFunc { return hang }, "deadline exceeded", 2 * time.Second},
		"the key set never comes":             {keys(hang), "deadline exceeded", 2 * time.Second},
		"the key set comes a byte at a time":  {keys(drip), "deadline exceeded", 2 * time.Second},
		"the key set has 50 MB":               {keys(flood(t)), "more than 1048576 bytes", 0},
		"the key set is not found":            {keys(http.NotFound), "404 Not Found", 0},
		"the key set is elsewhere":            {keys(redirect("https://keys.example/keys")), "redirected to another host", 0},
		"the key set is on another port":      {keys(redirect("http://localhost:81/keys")), "redirected to another host", 0},
		"the key set is in a circle":          {keys(redirect("/keys")), "too many redirects", 0},
		"the key set is HTML":                 {keys(text("<html>")), "not a JWK Set", 0},
		"the key set is empty text":           {keys(text("")), "not a JWK Set", 0},
		"the key set has no keys":             {keys(text(`{}`)), "not a JWK Set", 0},
		"the key set has null for keys":       {keys(text(`{"keys":null}`)), "not a JWK Set", 0},
		"the key set's keys are no list":      {keys(text(`{"keys":{}}`)), "not a JWK Set", 0},
		"the key set is cut off":              {keys(text(`{"keys":[`)), "not a JWK Set", 0},
		"the document is another issuer's":    {discovery(`{"issuer":"https://attacker.example","jwks_uri":"$URL/keys"}`), "that of the issuer", 0},
		"the document's issuer has a slash":   {discovery(`{"issuer":"$URL/","jwks_uri":"$URL/keys"}`), "that of the issuer", 0},
		"the document has no issuer":          {discovery(`{"jwks_uri":"$URL/keys"}`), "that of the issuer", 0},
		"the document has no key set":         {discovery(`{"issuer":"$URL"}`), "jwks_uri", 0},
		"the document's key set is plain":     {discovery(`{"issuer":"$URL","jwks_uri":"http://keys.example/keys"}`), "jwks_uri must be https", 0},
		"the document's key set is a file":    {discovery(`{"issuer":"$URL","jwks_uri":"file:///etc/passwd"}`), "jwks_uri", 0},
		"the document has two issuers":        {discovery(`{"issuer":"https://attacker.example","issuer":"$URL","jwks_uri":"$URL/keys"}`), "malformed", 0},
		"the document is a list":              {discovery(`[]`), "malformed", 0},
		"the document's members are in CAPS":  {discovery(`{"ISSUER":"$URL","JWKS_URI":"$URL/keys"}`), "that of the issuer", 0},
		"the document's issuer is no string":  {discovery(`{"issuer":["$URL"],"jwks_uri":"$URL/keys"}`), "malformed", 0},
		"the document's key set is no string": {discovery(`{"issuer":"$URL","jwks_uri":1}`), "malformed", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(b *bench) {
				b.issuer.Override(c.handler(b))
				b.verify(b.key, domain.ReasonKeysUnavailable)
				if took := time.Since(b.began()); took != c.within {
					b.Errorf("the token waited %v, want %v", took, c.within)
				}
				if lines := b.log.all(); len(lines) != 1 || !strings.Contains(lines[0], c.log) || !strings.Contains(lines[0], "issuer="+b.issuer.URL) {
					b.Errorf("logged %q, want a line with %q and the issuer", lines, c.log)
				}
				if n := b.issuer.Requests(oidctest.KeysPath); n > 4 {
					b.Errorf("the key set was asked for %d times, want once and after at most 3 redirects", n)
				}
				// A failure is never kept as an answer.
				b.issuer.Override(nil)
				time.Sleep(cooldown)
				b.verify(b.key, "")
			})
		})
	}
}

// drip sends a byte each 100 ms, for as long as somebody listens.
func drip(w http.ResponseWriter, r *http.Request) {
	for {
		if _, err := w.Write([]byte(" ")); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

// flood sends 50 MB and checks that hardly more than the bound was taken.
func flood(t *testing.T) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, _ *http.Request) {
		sent := 0
		for chunk := make([]byte, 64<<10); sent < 50<<20; {
			n, err := w.Write(chunk)
			sent += n
			if err != nil {
				break
			}
		}
		if sent > 2<<20 {
			t.Errorf("the verifier took %d bytes, want it to stop at 1 MiB", sent)
		}
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
}

func TestARedirectOnTheSameHostIsFollowed(t *testing.T) {
	t.Parallel()
	inBubble(t, func(i *oidc.Issuer, _ *oidc.Options) { i.JWKSURL = "http://localhost/old" }, func(b *bench) {
		b.issuer.Override(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/old" {
				http.Redirect(w, r, "http://LOCALHOST:80/new", http.StatusMovedPermanently)
				return
			}
			_, _ = w.Write(b.issuer.KeySet())
		})
		b.verify(b.key, "")
		if n := b.issuer.Requests(oidctest.DiscoveryPath); n != 0 {
			b.Error("the discovery document was fetched although the settings have the URL of the keys")
		}
	})
}

func TestTheTrailingSlashOfAnIssuerIsNotDoubledForDiscovery(t *testing.T) {
	t.Parallel()
	inBubble(t, func(i *oidc.Issuer, _ *oidc.Options) { i.Issuer += "/" }, func(b *bench) {
		b.issuer.Override(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case oidctest.DiscoveryPath:
				_, _ = w.Write([]byte(`{"issuer":"http://localhost/","jwks_uri":"http://localhost/keys"}`))
			case oidctest.KeysPath:
				_, _ = w.Write(b.issuer.KeySet())
			default:
				http.NotFound(w, r)
			}
		})
		b.verify(b.key, domain.ReasonInvalidClaims) // its iss has no slash
		token := b.key.Sign(nil, oidctest.Claims("http://localhost/", time.Now()))
		if _, err := b.verifier.Verify(b.Context(), token); err != nil {
			b.Error(err)
		}
	})
}

func TestAFileWorksWithoutNetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key, next := oidctest.NewKey("key-1", "ES256", 0), oidctest.NewKey("key-2", "ES256", 0)
		source := &oidctest.Issuer{}
		source.Publish(key)
		i := fromFile(t, source.KeySet())
		v := newVerifier(t, oidc.Options{Transport: noNetwork(t)}, i)
		check := func(key oidctest.Key, want domain.Reason) {
			t.Helper()
			_, err := v.Verify(t.Context(), key.Sign(nil, oidctest.Claims(i.Issuer, time.Now())))
			if reason(err) != want {
				t.Errorf("Verify: %v, want %q", err, want)
			}
		}
		if err := v.Prefetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(key, "")
		check(next, domain.ReasonInvalidSignature)

		// A file that was replaced is read as a key set that has changed is fetched.
		source.Publish(next)
		if err := os.WriteFile(i.JWKSFile, source.KeySet(), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(cooldown)
		check(next, "")
		check(key, domain.ReasonInvalidSignature)

		if err := os.Remove(i.JWKSFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Minute)
		check(next, "") // an outage like any other
	})
}

// A clock that was wrong and is set right goes back by any time.
func TestAClockThatIsSetBackKeepsNothingAsItWas(t *testing.T) {
	t.Parallel()
	key, next, last := oidctest.NewKey("key-1", "ES256", 0), oidctest.NewKey("key-2", "ES256", 0), oidctest.NewKey("key-3", "ES256", 0)
	type desk struct {
		publish func(keys ...oidctest.Key) // none: what is no key set
		move    func(time.Duration)
		check   func(key oidctest.Key, want domain.Reason)
	}
	for name, test := range map[string]func(d desk, back time.Duration){
		"a key that was removed": func(d desk, back time.Duration) {
			d.check(key, "")
			d.publish(next)
			d.check(key, "")
			d.move(-back)
			d.check(key, domain.ReasonInvalidSignature)
		},
		"an unknown kid": func(d desk, back time.Duration) {
			d.check(next, domain.ReasonInvalidSignature)
			d.move(-back)
			d.check(key, "")
			d.publish(key, last)
			d.check(last, "")
		},
		"a failure": func(d desk, back time.Duration) {
			d.publish()
			d.check(next, domain.ReasonKeysUnavailable)
			d.publish(key, next)
			d.move(-back)
			d.check(next, "")
		},
		"an outage": func(d desk, back time.Duration) {
			d.check(key, "")
			d.publish()
			d.move(-back)
			d.check(key, "")
			d.move(24*time.Hour - 15*time.Minute - 1)
			d.check(key, "")
			d.move(1)
			d.check(key, domain.ReasonKeysUnavailable)
		},
	} {
		for _, back := range []time.Duration{1, 365 * 24 * time.Hour} {
			t.Run(fmt.Sprint(name, " ", back), func(t *testing.T) {
				t.Parallel()
				now := start.Add(back)
				i := fromFile(t, nil)
				v := newVerifier(t, oidc.Options{Now: func() time.Time { return now }, Transport: noNetwork(t)}, i)
				d := desk{
					publish: func(keys ...oidctest.Key) {
						source := &oidctest.Issuer{}
						source.Publish(keys...)
						text := source.KeySet()
						if len(keys) == 0 {
							text = nil
						}
						if err := os.WriteFile(i.JWKSFile, text, 0o600); err != nil {
							t.Fatal(err)
						}
					},
					move: func(d time.Duration) { now = now.Add(d) },
					check: func(key oidctest.Key, want domain.Reason) {
						t.Helper()
						_, err := v.Verify(t.Context(), key.Sign(nil, oidctest.Claims(i.Issuer, now)))
						if reason(err) != want {
							t.Errorf("Verify with %s at %v: %v, want %q", key.ID, now, err, want)
						}
					},
				}
				d.publish(key)
				d.check(key, "")
				test(d, back)
			})
		}
	}
}
