package jobgate_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
)

const (
	// tokenSpan is how long a contender is measured in a round.
	tokenSpan = 150 * time.Millisecond
	// tokenCount is how many tokens, none like another, a contender is measured with.
	tokenCount = 256
	// tokenBlock is how many of them are done in one go, between as many bare verifications.
	tokenBlock = 32
)

// What a token costs, beside the bare verification of its signature by the standard library, which nobody can do without.
func TestFiguresTokens(t *testing.T) { //nolint:paralleltest // it measures
	rounds := needFigures(t)
	peer, missing := buildPeer(t, "tokens")
	node, lacks := npmPeer(t, "jwtverify")
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			c := newTokenCost(t, alg, tokenCount)
			library := func(what string) func() sample {
				return func() sample {
					return c.besideBare(func() sample {
						return runPeerWith(t, strings.Join(c.tokens, "\n"), peer,
							"-what", what, "-issuer", c.issuer, "-audience", oidctest.Audience, "-keys", c.keys, "-for", tokenSpan.String())
					})
				}
			}
			figures := comparison{warmUp: true, contenders: []contender{
				{name: "verify", measure: func() sample { return c.figure(false, c.verify) }},
				{name: "verify, remembered", measure: func() sample { return c.figure(true, c.verify) }},
				{name: "decide", measure: func() sample { return c.figure(false, c.decide) }},
				{name: "decide, remembered", measure: func() sample { return c.figure(true, c.decide) }},
				{name: "golang-jwt + keyfunc", measure: library("keyfunc"), missing: missing},
				{name: "simple Go authorizer", measure: library("authorizer"), missing: missing},
				{name: "go-oidc", measure: library("go-oidc"), missing: missing},
				{name: "aws-jwt-verify", missing: lacks, measure: func() sample {
					return c.besideBare(func() sample {
						return runPeerWith(t, strings.Join(c.tokens, "\n"), "node", filepath.Join(node, "main.mjs"),
							c.issuer, oidctest.Audience, c.keys, strconv.FormatInt(tokenSpan.Milliseconds(), 10))
					})
				}},
			}}
			goal := map[string]float64{"RS256": 1.25, "ES256": 1.12, "EdDSA": 1.15}[alg]
			figures.rows = []row{
				{what: alg + ", event to policy, a new token", metric: "ratio", unit: "× bare", of: "decide", peers: []string{"simple Go authorizer"}, atMost: goal},
				{what: "beyond the signature", metric: "beyond", unit: "µs", of: "decide", peers: []string{"simple Go authorizer"}, atMost: 8},
				{what: "allocations", metric: "allocs", of: "decide", atMost: 40},
				{what: "event to policy, a token seen before", metric: "ratio", unit: "× bare", of: "decide, remembered", atMost: 0.05},
				{what: "allocations", metric: "allocs", of: "decide, remembered"},
				{what: "token verified, a new one", metric: "ratio", unit: "× bare", of: "verify", peers: []string{"golang-jwt + keyfunc", "go-oidc", "aws-jwt-verify"}},
				{what: "token verified, one seen before", metric: "ratio", unit: "× bare", of: "verify, remembered"},
				{what: "bare signature", metric: "bare", unit: "µs", of: "decide"},
			}
			figures.run(rounds)
			figures.report(t)
		})
	}
}

// figure measures what with one token after the other, a block at a time, between blocks of bare verifications of the same
// tokens: whatever else the machine does meets both. Tokens are new to what, or known to it.
func (c *tokenCost) figure(known bool, what func(i int) error) sample {
	c.forget()
	do := func(from, n int) time.Duration {
		began := time.Now()
		for i := from; i < from+n; i++ {
			if err := what(i % len(c.tokens)); err != nil {
				panic(err) // it has been tried
			}
		}
		return time.Since(began)
	}
	runs := tokenBlock
	if known {
		do(0, len(c.tokens))
		runs *= 16 // else the clock is most of it
	}
	var took, bare time.Duration
	n := 0
	for blocks := 0; took+bare < tokenSpan; blocks++ {
		from := blocks * tokenBlock % len(c.tokens)
		if from == 0 && !known {
			c.forget()
		}
		took += do(from, runs)
		bare += c.bares(from, tokenBlock)
		n++
	}
	perBare := float64(bare.Nanoseconds()) / float64(n*tokenBlock)
	ns := float64(took.Nanoseconds()) / float64(n*runs)
	if !known {
		c.forget()
	}
	at := 0
	allocs := testing.AllocsPerRun(len(c.tokens)/2, func() { _ = what(at); at++ })
	return sample{"ratio": ns / perBare, "beyond": (ns - perBare) / 1e3, "bare": perBare / 1e3, "allocs": allocs}
}

// bares is what n bare verifications take.
func (c *tokenCost) bares(from, n int) time.Duration {
	began := time.Now()
	for i := from; i < from+n; i++ {
		if !c.bare(i % len(c.tokens)) {
			panic("the bare verification fails") // it has been tried
		}
	}
	return time.Since(began)
}

// besideBare measures in another process, and here before and after.
func (c *tokenCost) besideBare(measure func() sample) sample {
	bare := c.bares(0, 4*tokenCount)
	s := measure()
	bare += c.bares(0, 4*tokenCount)
	perBare := float64(bare.Nanoseconds()) / (8 * tokenCount)
	s["ratio"], s["beyond"], s["bare"] = s["ns"]/perBare, (s["ns"]-perBare)/1e3, perBare/1e3
	return s
}
