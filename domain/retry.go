package domain

import (
	"math"
	"time"
)

// RetryPolicy says how often and how long a job is tried. It is fixed when the job is stored, so that a change of
// settings never alters a job under way.
type RetryPolicy struct {
	Attempts int           // claims until the job is dead; at least 1
	Base     time.Duration // delay after the first failure
	Max      time.Duration // bound of the doubled delay
	Timeout  time.Duration // bound of one run
}

// DefaultRetryPolicy applies to job names that the settings do not mention.
var DefaultRetryPolicy = RetryPolicy{Attempts: 10, Base: time.Second, Max: 15 * time.Minute, Timeout: 30 * time.Second}

// Bounds of a RetryPolicy.
const (
	MaxAttempts   = 100
	MaxBackoff    = 24 * time.Hour
	MaxRunTimeout = 12 * time.Hour // the longest that an SQS message can stay invisible
)

// Validate returns what is wrong with p, nil when nothing is.
func (p RetryPolicy) Validate() []string {
	var problems []string
	if p.Attempts < 1 || p.Attempts > MaxAttempts {
		problems = append(problems, "attempts must be 1 to 100")
	}
	if p.Base <= 0 || p.Base > p.Max {
		problems = append(problems, "base must be above 0 and at most max")
	}
	if p.Max > MaxBackoff {
		problems = append(problems, "max must be at most 24h")
	}
	if p.Timeout <= 0 || p.Timeout > MaxRunTimeout {
		problems = append(problems, "timeout must be above 0 and at most 12h")
	}
	return problems
}

// Delay is the wait after the given failed attempt (1 is the first): Base doubled for each failure before it, at most
// Max, of which the upper half is jitter. random is drawn from [0, 1).
func (p RetryPolicy) Delay(attempt int, random float64) time.Duration {
	delay := float64(p.Base) * math.Exp2(float64(max(attempt, 1)-1))
	delay = min(delay, float64(p.Max))
	return time.Duration(delay/2 + delay/2*random)
}

// A RetryRule gives a RetryPolicy to the job names that a pattern matches.
type RetryRule struct {
	Jobs   string // name pattern, see MatchName
	Policy RetryPolicy
}

// RetryPolicies are the settings' rules; the most specific pattern decides.
type RetryPolicies []RetryRule

// For returns the policy of a job name, DefaultRetryPolicy where no rule matches.
func (r RetryPolicies) For(name string) RetryPolicy {
	best, policy := -1, DefaultRetryPolicy
	for _, rule := range r {
		if s := MatchName(rule.Jobs, name); s > best {
			best, policy = s, rule.Policy
		}
	}
	return policy
}

// LargestAttempts is the greatest number of attempts that any job may be given: what a broker's own delivery limit
// must stay well above.
func (r RetryPolicies) LargestAttempts() int {
	largest := DefaultRetryPolicy.Attempts
	for _, rule := range r {
		largest = max(largest, rule.Policy.Attempts)
	}
	return largest
}
