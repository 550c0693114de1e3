package domain_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/jobgate/jobgate/domain"
)

func TestDelayDoublesUpToItsBound(t *testing.T) {
	t.Parallel()
	policy := domain.RetryPolicy{Attempts: 10, Base: time.Second, Max: 15 * time.Minute, Timeout: time.Second}
	tests := []struct {
		attempt int
		random  float64
		want    time.Duration
	}{
		{1, 0, 500 * time.Millisecond},
		{1, 0.5, 750 * time.Millisecond},
		{2, 0, time.Second},
		{3, 0.5, 3 * time.Second},
		{10, 0, 256 * time.Second},
		{11, 0, 450 * time.Second}, // 1024 s are over the bound of 900 s
		{100, 0, 450 * time.Second},
		{100, 0.5, 675 * time.Second},
		{math.MaxInt, 0, 450 * time.Second},
		{0, 0, 500 * time.Millisecond},
		{-1, 0, 500 * time.Millisecond},
	}
	for _, tt := range tests {
		if got := policy.Delay(tt.attempt, tt.random); got != tt.want {
			t.Errorf("Delay(%d, %v) = %v, want %v", tt.attempt, tt.random, got, tt.want)
		}
	}
}

func drawRetryPolicy(t *rapid.T) domain.RetryPolicy {
	longest := time.Duration(rapid.Int64Range(1, int64(domain.MaxBackoff)).Draw(t, "max"))
	return domain.RetryPolicy{
		Attempts: rapid.IntRange(1, domain.MaxAttempts).Draw(t, "attempts"),
		Base:     time.Duration(rapid.Int64Range(1, int64(longest)).Draw(t, "base")),
		Max:      longest,
		Timeout:  time.Duration(rapid.Int64Range(1, int64(domain.MaxRunTimeout)).Draw(t, "timeout")),
	}
}

func TestDelayOfEveryValidPolicy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy := drawRetryPolicy(t)
		if problems := policy.Validate(); problems != nil {
			t.Fatalf("a policy within bounds is refused: %q", problems)
		}
		attempt := rapid.IntRange(1, domain.MaxAttempts).Draw(t, "attempt")
		random := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random")
		got, least := policy.Delay(attempt, random), policy.Delay(attempt, 0)
		if got < least || got > policy.Max || least < policy.Base/2 {
			t.Errorf("Delay(%d, %v) = %v of at least %v, base %v, max %v", attempt, random, got, least, policy.Base, policy.Max)
		}
		if got > 2*least+1 { // the upper half alone is jitter; 1 ns for rounding
			t.Errorf("Delay(%d, %v) = %v: more than half of it is jitter", attempt, random, got)
		}
		if next := policy.Delay(attempt+1, random); next < got {
			t.Errorf("attempt %d waits %v, the one before %v", attempt+1, next, got)
		}
	})
}

func TestRetryPolicyValidate(t *testing.T) {
	t.Parallel()
	good := domain.DefaultRetryPolicy
	tests := []struct {
		name   string
		change func(*domain.RetryPolicy)
		want   []string // beginnings
	}{
		{"the default", func(*domain.RetryPolicy) {}, nil},
		{"at the bounds", func(p *domain.RetryPolicy) {
			*p = domain.RetryPolicy{Attempts: domain.MaxAttempts, Base: domain.MaxBackoff, Max: domain.MaxBackoff, Timeout: domain.MaxRunTimeout}
		}, nil},
		{"no attempt", func(p *domain.RetryPolicy) { p.Attempts = 0 }, []string{"attempts"}},
		{"too many attempts", func(p *domain.RetryPolicy) { p.Attempts = domain.MaxAttempts + 1 }, []string{"attempts"}},
		{"no base", func(p *domain.RetryPolicy) { p.Base = 0 }, []string{"base"}},
		{"base over max", func(p *domain.RetryPolicy) { p.Base = p.Max + 1 }, []string{"base"}},
		{"max too long", func(p *domain.RetryPolicy) { p.Max = domain.MaxBackoff + 1 }, []string{"max"}},
		{"no timeout", func(p *domain.RetryPolicy) { p.Timeout = 0 }, []string{"timeout"}},
		{"timeout too long", func(p *domain.RetryPolicy) { p.Timeout = domain.MaxRunTimeout + 1 }, []string{"timeout"}},
		{"everything at once", func(p *domain.RetryPolicy) {
			*p = domain.RetryPolicy{Base: -1, Max: domain.MaxBackoff + 1}
		}, []string{"attempts", "base", "max", "timeout"}},
	}
	for _, tt := range tests {
		policy := good
		tt.change(&policy)
		if got := policy.Validate(); !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%s: %q, want problems of %q", tt.name, got, tt.want)
		}
	}
}

func TestTheMostSpecificRetryRuleDecides(t *testing.T) {
	t.Parallel()
	rule := func(jobs string, attempts int) domain.RetryRule {
		return domain.RetryRule{Jobs: jobs, Policy: domain.RetryPolicy{Attempts: attempts}}
	}
	rules := domain.RetryPolicies{
		rule("report.*", 2), rule("*", 1), rule("report.daily", 4), rule("report.d*", 3), rule("report.*", 20), rule("report.daily", 40),
	}
	tests := []struct {
		rules domain.RetryPolicies
		name  string
		want  int
	}{
		{rules, "other", 1},
		{rules, "report", 1},
		{rules, "report.weekly", 2}, // the first of equals
		{rules, "report.dull", 3},
		{rules, "report.daily", 4},
		{rules, "report.daily2", 3},
		{domain.RetryPolicies{rule("report.*", 2)}, "other", domain.DefaultRetryPolicy.Attempts},
		{nil, "other", domain.DefaultRetryPolicy.Attempts},
	}
	for _, tt := range tests {
		if got := tt.rules.For(tt.name).Attempts; got != tt.want {
			t.Errorf("%q has the policy of %d attempts, want %d", tt.name, got, tt.want)
		}
	}
	if got := rules.LargestAttempts(); got != 40 {
		t.Errorf("LargestAttempts() = %d, want 40", got)
	}
	// Names that no rule matches have the default's.
	if got := (domain.RetryPolicies{rule("a", 2)}).LargestAttempts(); got != domain.DefaultRetryPolicy.Attempts {
		t.Errorf("LargestAttempts() = %d, want the default's", got)
	}
}
