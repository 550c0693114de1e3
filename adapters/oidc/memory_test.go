package oidc_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/access"
)

func remembering(_ *oidc.Issuer, opts *oidc.Options) { opts.Remember = 16 }

// again verifies a token and checks the reason of its refusal, empty for none.
func (b *bench) again(token string, want domain.Reason) {
	b.Helper()
	_, err := b.verifier.Verify(b.Context(), token)
	if got := reason(err); got != want {
		b.Errorf("Verify after %v: %q (%v), want %q", time.Since(b.began()), got, err, want)
	}
}

// lasting returns a token that is good for as long as any test takes.
func (b *bench) lasting() string {
	return b.key.Sign(nil, oidctest.Claims(b.issuer.URL, time.Now()).With(oidctest.Object{"exp": time.Now().AddDate(1, 0, 0).Unix()}))
}

func TestARememberedTokenExpires(t *testing.T) {
	t.Parallel()
	inBubble(t, remembering, func(b *bench) {
		token := b.token(b.key)
		b.again(token, "")
		time.Sleep(time.Hour + oidctest.Leeway - time.Nanosecond)
		b.again(token, "")
		time.Sleep(time.Nanosecond)
		b.again(token, domain.ReasonTokenExpired)
		b.again(token, domain.ReasonTokenExpired)
	})
}

func TestARememberedTokenThatExpiresWhileKeysAreFetchedIsRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, remembering, func(b *bench) {
		b.warm()
		claims := oidctest.Claims(b.issuer.URL, time.Now()).With(oidctest.Object{"exp": time.Now().Add(15*time.Minute + time.Second - oidctest.Leeway).Unix()})
		token := b.key.Sign(nil, claims)
		b.again(token, "")
		time.Sleep(15 * time.Minute)
		b.issuer.Override(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			http.Error(w, "out of order", http.StatusBadGateway) // the keys at hand serve on
		})
		b.again(token, domain.ReasonTokenExpired)
	})
}

func TestARememberedTokenIsJudgedByTheKeysOfNow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		publish func(key oidctest.Key) []oidctest.Key
		want    domain.Reason
	}{
		"another key is added":          {func(k oidctest.Key) []oidctest.Key { return []oidctest.Key{oidctest.NewKey("key-2", "ES256", 0), k} }, ""},
		"the key is removed":            {func(oidctest.Key) []oidctest.Key { return []oidctest.Key{oidctest.NewKey("key-2", "ES256", 0)} }, domain.ReasonInvalidSignature},
		"every key is removed":          {func(oidctest.Key) []oidctest.Key { return nil }, domain.ReasonKeysUnavailable},
		"its kid is that of another":    {func(k oidctest.Key) []oidctest.Key { return []oidctest.Key{oidctest.NewKey(k.ID, "ES256", 0)} }, domain.ReasonInvalidSignature},
		"its kid is that of two":        {func(k oidctest.Key) []oidctest.Key { return []oidctest.Key{oidctest.NewKey(k.ID, "ES256", 0), k} }, ""},
		"it is for encryption from now": {func(k oidctest.Key) []oidctest.Key { return []oidctest.Key{k.As(k.ID, oidctest.Object{"use": "enc"})} }, domain.ReasonKeysUnavailable},
		"its kid is another":            {func(k oidctest.Key) []oidctest.Key { return []oidctest.Key{k.As("key-2", nil)} }, domain.ReasonInvalidSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, remembering, func(b *bench) {
				token := b.lasting()
				b.again(token, "")
				b.issuer.Publish(c.publish(b.key)...)
				time.Sleep(15*time.Minute - time.Nanosecond)
				b.again(token, "") // nobody knows yet
				time.Sleep(time.Nanosecond)
				b.again(token, c.want)
				b.again(token, c.want)
				b.issuer.Publish(b.key)
				time.Sleep(15 * time.Minute)
				b.again(token, "")
			})
		})
	}
}

func TestAKeyThatIsFoundGoneForAnotherTokenIsGoneForARememberedOne(t *testing.T) {
	t.Parallel()
	inBubble(t, remembering, func(b *bench) {
		token := b.lasting()
		b.again(token, "")
		next := oidctest.NewKey("key-2", "ES256", 0)
		b.issuer.Publish(next)
		b.verify(next, "") // an unknown kid: the keys are fetched
		b.again(token, domain.ReasonInvalidSignature)
	})
}

// Whatever happens to an issuer, it is asked as often, and its tokens come to the same, whether they are remembered or not.
func TestARememberedTokenHasKeysFetchedAsAnyOther(t *testing.T) {
	t.Parallel()
	type outcome struct {
		Reasons          []domain.Reason
		Discovery, Fetch int
	}
	for name, background := range map[string]bool{"on Lambda": false, "in the background": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outcomes := make(map[int]outcome)
			for _, remember := range []int{0, 16} {
				inBubble(t, func(_ *oidc.Issuer, opts *oidc.Options) { opts.Background, opts.Remember = background, remember }, func(b *bench) {
					var o outcome
					token := b.lasting()
					verify := func(each, until time.Duration) {
						for ; time.Since(b.began()) < until; time.Sleep(each) {
							_, err := b.verifier.Verify(b.Context(), token)
							o.Reasons = append(o.Reasons, reason(err))
						}
					}
					verify(time.Minute, 2*time.Hour)
					b.issuer.Break()
					verify(7*time.Minute, 30*time.Hour) // MaxStale and further
					b.issuer.Override(nil)
					verify(5*time.Second, 31*time.Hour)
					o.Discovery, o.Fetch = b.issuer.Requests(oidctest.DiscoveryPath), b.issuer.Requests(oidctest.KeysPath)
					outcomes[remember] = o
				})
			}
			if diff := cmp.Diff(outcomes[0], outcomes[16]); diff != "" {
				t.Errorf("(-not remembered +remembered):\n%s", diff)
			}
			of := make(map[domain.Reason]int)
			for _, r := range outcomes[16].Reasons {
				of[r]++
			}
			if len(of) != 2 || of[""] == 0 || of[domain.ReasonKeysUnavailable] == 0 {
				t.Errorf("the token came to %v, want it accepted first, keys_unavailable when they were too stale, and accepted at the end", of)
			}
		})
	}
}

func TestACallThatIsOverIsToldNothingOfARememberedToken(t *testing.T) {
	t.Parallel()
	inBubble(t, remembering, func(b *bench) {
		token := b.lasting()
		b.again(token, "")
		ctx, cancel := context.WithCancel(b.Context())
		cancel()
		if _, err := b.verifier.Verify(ctx, token); domain.KindOf(err) != domain.Unavailable || !errors.Is(err, context.Canceled) {
			b.Errorf("Verify: %v, want Unavailable", err)
		}
	})
}

func TestARememberedTokenIsNotValidYetWhenTheClockWentBack(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("", "HS256", 0)
	now := start
	v := sharedSecret(t, oidc.Options{Now: func() time.Time { return now }, Remember: 16}, oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}})
	token := key.Sign(nil, oidctest.Claims("", start).With(oidctest.Object{"nbf": start.Unix(), "iss": nil}))
	for _, step := range []struct {
		at   time.Duration
		want domain.Reason
	}{
		{-1, domain.ReasonInvalidClaims}, {0, ""}, {time.Hour - 1, ""}, {-1, domain.ReasonInvalidClaims}, {time.Hour, domain.ReasonTokenExpired}, {0, ""},
	} {
		now = start.Add(step.at)
		if _, err := v.Verify(t.Context(), token); reason(err) != step.want {
			t.Errorf("at %v: %v, want %q", step.at, err, step.want)
		}
	}
}

func TestATokenIsRememberedByAllOfIt(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("", "HS256", 0)
	v := sharedSecret(t, oidc.Options{Remember: 16}, oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}})
	token := key.Sign(nil, oidctest.Claims("https://issuer.example", time.Now()))
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	for i := range token {
		c := byte('A')
		if token[i] == c {
			c = 'B'
		}
		if _, err := v.Verify(t.Context(), token[:i]+string(c)+token[i+1:]); err == nil {
			t.Errorf("byte %d was changed, and the token accepted", i)
		}
		if _, err := v.Verify(t.Context(), token[:i]); err == nil {
			t.Errorf("cut to %d bytes, the token was accepted", i)
		}
	}
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestARefusalIsNotRemembered(t *testing.T) {
	t.Parallel()
	inBubble(t, remembering, func(b *bench) {
		b.issuer.Publish()
		claims := oidctest.Claims(b.issuer.URL, time.Now()).With(oidctest.Object{"nbf": time.Now().Add(20 * time.Second).Unix(), "exp": time.Now().Add(30 * time.Second).Unix()})
		token := b.key.Sign(nil, claims)
		for range 2 {
			b.again(token, domain.ReasonKeysUnavailable)
		}
		b.issuer.Publish(b.key.As("another", nil))
		time.Sleep(cooldown)
		for range 2 {
			b.again(token, domain.ReasonInvalidSignature)
		}
		b.issuer.Publish(b.key)
		time.Sleep(cooldown)
		for range 2 {
			b.again(token, "")
		}
		time.Sleep(time.Minute + cooldown)
		for range 2 {
			b.again(token, domain.ReasonTokenExpired)
		}
	})
}

func TestEachCallerHasAPrincipalOfTheirOwn(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("", "HS256", 0)
	v := sharedSecret(t, oidc.Options{Remember: 16}, oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}, KeepClaims: []string{"tenant"}})
	for _, scope := range []any{"jobs:submit jobs:read", []string{"jobs:submit", "jobs:read"}, "", nil} {
		expires := time.Now().Add(time.Hour).Truncate(time.Second)
		token := key.Sign(nil, oidctest.Claims("https://issuer.example", expires.Add(-time.Hour)).With(oidctest.Object{"scope": scope, "tenant": "t-1"}))
		want := domain.Principal{
			Identity: domain.Identity{Issuer: "https://issuer.example", Subject: oidctest.Subject}, ClientID: oidctest.Client,
			TokenID: "token-1", Claims: map[string]string{"tenant": "t-1"}, ExpiresAt: expires.UTC(),
		}
		switch scope {
		case nil:
		case "":
			want.Scopes = []string{}
		default:
			want.Scopes = []string{"jobs:submit", "jobs:read"}
		}
		for range 3 {
			who, err := v.Verify(t.Context(), token)
			if diff := cmp.Diff(want, who); err != nil || diff != "" {
				t.Fatalf("%v (-want +got):\n%s", err, diff)
			}
			for i := range who.Scopes {
				who.Scopes[i] = "jobs:admin"
			}
			_ = append(who.Scopes[:0], "jobs:admin")
			who.Claims["tenant"] = "t-2"
		}
	}
}

// The verifier reads one token where it has read another.
func TestAPrincipalIsNotTouchedByTheNextToken(t *testing.T) {
	t.Parallel()
	for _, remember := range []int{0, 16} {
		t.Run(fmt.Sprintf("remembering %d", remember), func(t *testing.T) {
			t.Parallel()
			key := oidctest.NewKey("", "HS256", 0)
			v := sharedSecret(t, oidc.Options{Remember: remember}, oidc.SharedSecret{
				Secrets: []string{string(key.Secret.([]byte))}, KeepClaims: []string{"tenant", "roles", "limits"},
			})
			expires := time.Now().Add(time.Hour).Truncate(time.Second)
			var got, want []domain.Principal
			for i := range 64 {
				mark := strings.Repeat(string(rune('a'+i%26)), 20)
				who, err := v.Verify(t.Context(), key.Sign(nil, oidctest.Object{
					"iss": "https://" + mark, "sub": "sub-" + mark, "aud": []string{oidctest.Audience, mark}, "client_id": "client-" + mark,
					"jti": "jti-" + mark, "scope": "read:" + mark + " write:" + mark, "exp": expires.Unix(),
					"tenant": "tenant-" + mark, "roles": []string{mark}, "limits": oidctest.Object{"of": mark, "n": i},
				}))
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, who)
				want = append(want, domain.Principal{
					Identity: domain.Identity{Issuer: "https://" + mark, Subject: "sub-" + mark}, ClientID: "client-" + mark, TokenID: "jti-" + mark,
					Scopes: []string{"read:" + mark, "write:" + mark}, ExpiresAt: expires.UTC(),
					Claims: map[string]string{"tenant": "tenant-" + mark, "roles": `["` + mark + `"]`, "limits": fmt.Sprintf(`{"n":%d,"of":%q}`, i, mark)},
				})
				_, _ = v.Verify(t.Context(), key.Sign(nil, oidctest.Object{"sub": strings.Repeat("z", i)})) // refused
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("after other tokens (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheDenyListHoldsForARememberedToken(t *testing.T) {
	t.Parallel()
	key := oidctest.NewKey("", "HS256", 0)
	v := sharedSecret(t, oidc.Options{Remember: 16}, oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}})
	gate := &access.Gate{Verifier: v, Policy: domain.DefaultPolicy()}
	token := key.Sign(nil, oidctest.Claims("https://issuer.example", time.Now()))
	for range 2 {
		if _, err := gate.Enter(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	for _, revoked := range []domain.Revocation{{TokenID: "token-1"}, {Subject: oidctest.Subject}} {
		gate.Policy.Revoked = []domain.Revocation{revoked}
		if who, err := gate.Enter(t.Context(), token); domain.ReasonOf(err) != domain.ReasonInvalidToken || !who.IsZero() {
			t.Errorf("%+v is revoked: %+v, %v; want invalid_token", revoked, who, err)
		}
	}
}

func TestExplainRemembersNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, remembering, func(b *bench) {
		token := b.lasting()
		b.warm()
		first := b.verifier.Explain(b.Context(), token)
		b.again(token, "")
		if diff := cmp.Diff(first, b.verifier.Explain(b.Context(), token)); diff != "" || !first.Verified || first.Findings[len(first.Findings)-1].Result != oidc.Passed {
			b.Errorf("%+v, and once the token is remembered (-want +got):\n%s", first, diff)
		}
	})
}

func TestManyWithFewTokens(t *testing.T) {
	t.Parallel()
	inBubble(t, func(_ *oidc.Issuer, opts *oidc.Options) { opts.Background, opts.Remember = true, 3 }, func(b *bench) {
		next := oidctest.NewKey("key-2", "ES256", 0)
		b.issuer.Publish(b.key, next)
		const n = 5
		var good, gone, bad [n]string
		for i := range n {
			claims := oidctest.Claims(b.issuer.URL, time.Now()).With(oidctest.Object{"sub": fmt.Sprint("user-", i)})
			good[i], gone[i] = next.Sign(nil, claims), b.key.Sign(nil, claims)
			bad[i] = oidctest.NewKey(next.ID, "ES256", 0).Sign(nil, claims)
		}
		removed := b.began().Add(15 * time.Minute)
		var wg sync.WaitGroup
		for worker := range 16 {
			wg.Go(func() {
				for turn := range 100 {
					i := (worker + turn) % n
					if who, err := b.verifier.Verify(b.Context(), good[i]); err != nil || who.Subject != fmt.Sprint("user-", i) {
						b.Errorf("a good token: %+v, %v", who, err)
					}
					if _, err := b.verifier.Verify(b.Context(), bad[i]); reason(err) != domain.ReasonInvalidSignature {
						b.Errorf("a forged token: %v", err)
					}
					began := time.Now()
					if _, err := b.verifier.Verify(b.Context(), gone[i]); err == nil && !began.Before(removed) {
						b.Errorf("a key that was removed is good %v later", began.Sub(removed))
					}
					if worker == 0 && turn == 10 {
						b.issuer.Publish(next)
					}
					time.Sleep(20 * time.Second)
				}
			})
		}
		wg.Wait()
	})
}

// cheaply reports whether a token that is accepted was remembered, by what verifying it allocates.
func cheaply(t *testing.T, v *oidc.Verifier, token string) bool {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := v.Verify(t.Context(), token)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	return after.Mallocs-before.Mallocs < 6
}

//nolint:paralleltest // allocations of other tests would count
func TestSoManyTokensAreRemembered(t *testing.T) {
	key := oidctest.NewKey("", "HS256", 0)
	for _, bound := range []int{-1, 0, 1, 10} {
		v := sharedSecret(t, oidc.Options{Remember: bound}, oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}})
		token := func(n int) string {
			return key.Sign(nil, oidctest.Claims("https://issuer.example", time.Now()).With(oidctest.Object{"jti": fmt.Sprint("token-", n)}))
		}
		var tokens []string
		for n := range max(bound, 0) {
			tokens = append(tokens, token(n))
			if cheaply(t, v, tokens[n]) {
				t.Errorf("of %d: token %d was known before", bound, n)
			}
		}
		for n, token := range tokens {
			if !cheaply(t, v, token) {
				t.Errorf("of %d: token %d is forgotten", bound, n)
			}
		}
		more := token(len(tokens))
		if cheaply(t, v, more) || cheaply(t, v, more) == (bound < 1) {
			t.Errorf("of %d: one more is not remembered when there is room to be made, or is when there can be none", bound)
		}
		if bound == 10 { // each that is forgotten takes the place of another
			forgotten := 0
			for _, token := range tokens {
				if !cheaply(t, v, token) {
					forgotten++
				}
			}
			if forgotten == 0 || forgotten == len(tokens) {
				t.Errorf("%d of 10 tokens are forgotten when there is an 11th, want one or a few", forgotten)
			}
		}
	}
}

//nolint:paralleltest // as above
func TestIssuersTokensAreRemembered(t *testing.T) {
	key, source := oidctest.NewKey("key-1", "ES256", 0), &oidctest.Issuer{}
	source.Publish(key)
	i := fromFile(t, source.KeySet())
	v := newVerifier(t, oidc.Options{Remember: 1}, i)
	token := key.Sign(nil, oidctest.Claims(i.Issuer, time.Now()))
	for call, want := range []bool{false, true, true} {
		if got := cheaply(t, v, token); got != want {
			t.Errorf("call %d: remembered: %v, want %v", call+1, got, want)
		}
	}
}

//nolint:paralleltest // as above
func TestALargePrincipalIsNotRemembered(t *testing.T) {
	key := oidctest.NewKey("", "HS256", 0)
	v := sharedSecret(t, oidc.Options{Remember: 10}, oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}, Require: []string{}, KeepClaims: []string{"kept"}})
	for size, want := range map[int]bool{500: true, 1100: false} {
		for name, claims := range map[string]oidctest.Object{
			"a claim":    {"kept": strings.Repeat("x", size)},
			"a scope":    {"scope": strings.Repeat("x", size)},
			"scopes":     {"scope": strings.Repeat("x ", size/17)},
			"names":      {"sub": strings.Repeat("ü", size/8), "jti": strings.Repeat("ü", size/8), "iss": strings.Repeat("ü", size/8), "azp": strings.Repeat("ü", size/8)},
			"other ones": {"scopes": strings.Split(strings.Repeat("x ", size/17), " ")[:size/17]},
		} {
			token := key.Sign(nil, claims)
			_ = cheaply(t, v, token)
			if got := cheaply(t, v, token); got != want {
				t.Errorf("%s of %d bytes: remembered: %v, want %v", name, size, got, want)
			}
		}
	}
}

// However large tokens are, those that are remembered take little memory.
//
//nolint:paralleltest // as above
func TestTokensTakeLittleMemory(t *testing.T) {
	const bound = 512
	key := oidctest.NewKey("", "HS256", 0)
	settings := oidc.SharedSecret{Secrets: []string{string(key.Secret.([]byte))}, Require: []string{}, ScopePrefix: "our/", KeepClaims: []string{"kept"}}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for name, claims := range map[string]oidctest.Object{
		"at the bound":       {"kept": strings.Repeat("x", 570), "scope": "our/a"},
		"over it":            {"kept": strings.Repeat("x", 4000)},
		"many small scopes":  {"scope": strings.Repeat("our/a ", 58)},
		"many other scopes":  {"scope": "our/a " + strings.Repeat("other ", 600)},
		"a long claim apart": {"scope": "our/a", "apart": strings.Repeat("x", 4000)},
	} {
		v := sharedSecret(t, oidc.Options{Remember: bound}, settings)
		before := heap()
		for n := range 4 * bound {
			if _, err := v.Verify(t.Context(), key.Sign(nil, claims.With(oidctest.Object{"jti": fmt.Sprint(name, n)}))); err != nil {
				t.Fatal(err)
			}
		}
		if grown := heap() - before; grown > bound*1536 {
			t.Errorf("%s: %d tokens take %d bytes each", name, bound, grown/bound)
		} else {
			t.Logf("%s: %d bytes each", name, grown/bound)
		}
		runtime.KeepAlive(v)
	}
}
