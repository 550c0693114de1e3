package jobgate_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/bootstrap/auth"
	"github.com/jobgate/jobgate/bootstrap/config/tokens"
)

// What a token costs, beside the one signature that nobody can do without:
//
//	go test -run '^$' -bench 'Verify|Authorizer' .

// A tokenCost is something that is done with one token after the other, and the bare verification of their signatures.
type tokenCost struct {
	tokens []string // no two are alike
	events [][]byte // each with one of the tokens
	bare   func(i int) bool

	issuer string
	keys   string // file

	verifier *oidc.Verifier
	function *auth.Function
	forget   func() // has verifier and function start anew, with the keys at hand and no token remembered
}

func (c *tokenCost) verify(i int) error {
	_, err := c.verifier.Verify(context.Background(), c.tokens[i%len(c.tokens)])
	return err
}

func (c *tokenCost) decide(i int) error {
	_, err := c.function.Invoke(context.Background(), c.events[i%len(c.events)])
	return err
}

// newTokenCost has n tokens, keys from a file and no network, as a function that is warm.
func newTokenCost(t testing.TB, alg string, n int) *tokenCost {
	t.Helper()
	const issuer = "https://issuer.example"
	key := oidctest.NewKey("key", alg, 0)
	source := &oidctest.Issuer{URL: issuer}
	if alg != "HS256" {
		source.Publish(key)
	}
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, source.KeySet(), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"OIDC_ISSUER": issuer, "OIDC_AUDIENCE": oidctest.Audience, "OIDC_JWKS_FILE": file}
	cfg, err := auth.LoadConfig(func(name string) string { return settings[name] })
	if err != nil {
		t.Fatal(err)
	}
	if secret, shared := key.Secret.([]byte); shared {
		cfg.Tokens = tokens.Settings{Shared: &oidc.SharedSecret{Secrets: []string{string(secret)}, Audience: []string{oidctest.Audience}}}
	}
	c := &tokenCost{issuer: issuer, keys: file}
	stop := func() {
		if c.verifier != nil {
			_ = c.verifier.Close()
			_ = c.function.Close()
		}
	}
	t.Cleanup(func() { stop() })
	c.forget = func() {
		stop()
		var err error
		if c.verifier, err = cfg.Tokens.Verifier(oidc.Options{}); err == nil {
			err = c.verifier.Prefetch(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.function, err = auth.New(cfg, false, zap.NewNop()); err == nil {
			err = c.function.Prefetch(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.forget()
	var bare []func() bool
	for i := range n {
		token := key.Sign(nil, oidctest.Claims(issuer, time.Now()).With(oidctest.Object{"jti": fmt.Sprintf("token-%03d", i)}))
		event, err := json.Marshal(map[string]string{
			"type": "TOKEN", "methodArn": "arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/GET/jobs", "authorizationToken": "Bearer " + token,
		})
		if err != nil {
			t.Fatal(err)
		}
		c.tokens, c.events, bare = append(c.tokens, token), append(c.events, event), append(bare, bareVerification(t, key, token))
	}
	c.bare = func(i int) bool { return bare[i]() }
	return c
}

// bareVerification verifies a token's signature, decoded beforehand, with the standard library alone.
func bareVerification(t testing.TB, key oidctest.Key, token string) func() bool {
	t.Helper()
	dot := strings.LastIndexByte(token, '.')
	message := []byte(token[:dot])
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	switch key := key.Secret.(type) {
	case *rsa.PrivateKey:
		return func() bool {
			digest := sha256.Sum256(message)
			return rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], signature) == nil
		}
	case *ecdsa.PrivateKey:
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		encoded, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		return func() bool {
			digest := sha256.Sum256(message)
			return ecdsa.VerifyASN1(&key.PublicKey, digest[:], encoded)
		}
	case ed25519.PrivateKey:
		public, _ := key.Public().(ed25519.PublicKey)
		return func() bool { return ed25519.Verify(public, message, signature) }
	case []byte:
		return func() bool {
			mac := hmac.New(sha256.New, key)
			mac.Write(message)
			return hmac.Equal(mac.Sum(nil), signature)
		}
	}
	t.Fatalf("no bare verification with a %T", key.Secret)
	return nil
}

// beside runs what with one token after the other, and between two rounds, so that both have the machine alike, bare
// verifications of them. Of all rounds it reports the median of the ratio, and that of what is beyond the bare one: of the
// decision on an event that is parsing, claims and policy. Tokens are new to what in each round, or known to it in all.
func (c *tokenCost) beside(b *testing.B, known bool, what func(i int) error) {
	b.Helper()
	b.ReportAllocs()
	var ratios, beyond, bares []float64
	n, round := 0, len(c.tokens)
	if known {
		for i := range c.tokens {
			if err := what(i); err != nil {
				b.Fatal(err)
			}
		}
		round *= 64 // else it would take minutes, nearly all of them bare
	}
	began := time.Now()
	for b.Loop() {
		if err := what(n); err != nil {
			b.Fatal(err)
		}
		if n++; n%round != 0 {
			continue
		}
		took := float64(time.Since(began)) / float64(round)
		b.StopTimer()
		began = time.Now()
		for i := range c.tokens {
			if !c.bare(i) {
				b.Fatal("the bare verification fails")
			}
		}
		bare := float64(time.Since(began)) / float64(len(c.tokens))
		ratios, beyond, bares = append(ratios, took/bare), append(beyond, took-bare), append(bares, bare)
		if !known {
			c.forget()
		}
		b.StartTimer()
		began = time.Now()
	}
	if len(ratios) == 0 {
		return // too short a run to tell
	}
	b.ReportMetric(median(bares), "bare-ns/op")
	b.ReportMetric(median(ratios), "×bare")
	if !known {
		b.ReportMetric(median(beyond), "beyond-ns/op")
	}
}

// besides runs a benchmark for each algorithm, with tokens never seen before and with tokens that are remembered.
func besides(b *testing.B, what func(c *tokenCost) func(i int) error) {
	b.Helper()
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		c := newTokenCost(b, alg, 256)
		b.Run(alg+"/fresh", func(b *testing.B) {
			c.forget()
			c.beside(b, false, what(c))
		})
		b.Run(alg+"/remembered", func(b *testing.B) { c.beside(b, true, what(c)) })
	}
}

func BenchmarkVerify(b *testing.B) {
	besides(b, func(c *tokenCost) func(int) error { return c.verify })
}

// BenchmarkVerifyRemembered is of many callers at once, who share one memory.
func BenchmarkVerifyRemembered(b *testing.B) {
	c := newTokenCost(b, "EdDSA", 256)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := c.verify(i); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkAuthorizer is the whole way from the event of a TOKEN authorizer to the text of the policy.
func BenchmarkAuthorizer(b *testing.B) {
	besides(b, func(c *tokenCost) func(int) error { return c.decide })
}

// BenchmarkAuthorizerBeyondCrypto is parsing, claims and policy together: beyond-ns/op is what an event costs beyond the
// bare verification of a signature so cheap, an HMAC, that neither is lost in the noise of the other.
func BenchmarkAuthorizerBeyondCrypto(b *testing.B) {
	c := newTokenCost(b, "HS256", 256)
	c.beside(b, false, c.decide)
}

// What follows was measured with Go 1.26 on amd64. Fewer are welcome, and to be recorded.
//
//nolint:paralleltest // allocations of other tests would count
func TestAllocationsDoNotRise(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates for itself: run without -race")
	}
	const runs = 200
	type most struct{ verify, decide float64 }
	for alg, most := range map[string]struct{ fresh, remembered most }{
		"RS256": {most{22, 26}, most{1, 5}},
		"ES256": {most{24, 28}, most{1, 5}},
		"EdDSA": {most{11, 15}, most{1, 5}},
	} {
		c := newTokenCost(t, alg, runs+1)
		measure := func(what string, most float64, do func(i int) error) {
			t.Helper()
			n := 0
			got := testing.AllocsPerRun(runs, func() {
				if err := do(n); err != nil {
					t.Fatal(err)
				}
				n++
			})
			if got > most {
				t.Errorf("%s: %s allocates %v times, want at most %v", alg, what, got, most)
			}
		}
		measure("a token", most.fresh.verify, c.verify)
		measure("an authorizer event", most.fresh.decide, c.decide)
		measure("a remembered token", most.remembered.verify, c.verify)
		measure("an authorizer event with a remembered token", most.remembered.decide, c.decide)
	}
}
