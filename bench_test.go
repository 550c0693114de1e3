package jobgate_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
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
)

// What a token costs, beside the one signature that nobody can do without:
//
//	go test -run '^$' -bench 'Verify|Authorizer' .

// A tokenCost is something that is done with one token after the other, and the bare verification of their signatures.
type tokenCost struct {
	tokens []string // fresh ones: no two are alike
	verify func(token string) error
	decide func(event []byte) ([]byte, error)
	events [][]byte
	bare   func(i int) bool
}

// newTokenCost has keys from a file and no network, as a function that is warm.
func newTokenCost(t testing.TB, alg string) *tokenCost {
	t.Helper()
	const issuer = "https://issuer.example"
	key := oidctest.NewKey("key", alg, 0)
	source := &oidctest.Issuer{URL: issuer}
	source.Publish(key)
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, source.KeySet(), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := oidc.NewVerifier([]oidc.Issuer{{Issuer: issuer, Audience: []string{oidctest.Audience}, JWKSFile: file}}, oidc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	settings := map[string]string{"OIDC_ISSUER": issuer, "OIDC_AUDIENCE": oidctest.Audience, "OIDC_JWKS_FILE": file}
	cfg, err := auth.LoadConfig(func(name string) string { return settings[name] })
	if err != nil {
		t.Fatal(err)
	}
	function, err := auth.New(cfg, false, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = function.Close() })

	c := &tokenCost{
		verify: func(token string) error { _, err := v.Verify(context.Background(), token); return err },
		decide: func(event []byte) ([]byte, error) { return function.Invoke(context.Background(), event) },
	}
	var bare []func() bool
	for n := range 64 {
		token := key.Sign(nil, oidctest.Claims(issuer, time.Now()).With(oidctest.Object{"jti": fmt.Sprintf("token-%02d", n)}))
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
	}
	t.Fatalf("no bare verification with a %T", key.Secret)
	return nil
}

// beside runs what with one token after the other, and between two rounds, so that both have the machine alike, as many
// bare verifications. It reports the ratio.
func (c *tokenCost) beside(b *testing.B, what func(i int) error) {
	b.Helper()
	b.ReportAllocs()
	n, bareN := 0, 0
	var bare time.Duration
	for b.Loop() {
		if err := what(n % len(c.tokens)); err != nil {
			b.Fatal(err)
		}
		if n++; n%len(c.tokens) != 0 {
			continue
		}
		b.StopTimer()
		began := time.Now()
		for i := range c.tokens {
			if !c.bare(i) {
				b.Fatal("the bare verification fails")
			}
		}
		bare += time.Since(began)
		bareN += len(c.tokens)
		b.StartTimer()
	}
	if bareN == 0 {
		return // too short a run to tell
	}
	perBare := float64(bare.Nanoseconds()) / float64(bareN)
	b.ReportMetric(perBare, "bare-ns/op")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/perBare, "×bare")
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			c := newTokenCost(b, alg)
			c.beside(b, func(i int) error { return c.verify(c.tokens[i]) })
		})
	}
}

// BenchmarkAuthorizer is the whole way from the event of a TOKEN authorizer to the text of the policy.
func BenchmarkAuthorizer(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			c := newTokenCost(b, alg)
			c.beside(b, func(i int) error { _, err := c.decide(c.events[i]); return err })
		})
	}
}

// What follows was measured with Go 1.26 on amd64. Fewer are welcome, and to be recorded.
//
//nolint:paralleltest // allocations of other tests would count
func TestAllocationsDoNotRise(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates for itself: run without -race")
	}
	for alg, most := range map[string]struct{ verify, decide float64 }{
		"RS256": {49, 95},
		"ES256": {61, 107},
		"EdDSA": {38, 84},
	} {
		c := newTokenCost(t, alg)
		n := 0
		measure := func(what string, most float64, do func(i int) error) {
			t.Helper()
			got := testing.AllocsPerRun(500, func() {
				if err := do(n % len(c.tokens)); err != nil {
					t.Fatal(err)
				}
				n++
			})
			if got > most {
				t.Errorf("%s: %s allocates %v times, want at most %v", alg, what, got, most)
			}
		}
		measure("a token", most.verify, func(i int) error { return c.verify(c.tokens[i]) })
		measure("an authorizer event", most.decide, func(i int) error { _, err := c.decide(c.events[i]); return err })
	}
}
