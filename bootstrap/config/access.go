package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/domain"
)

const (
	policyExample  = `{"rules":[{"effect":"allow","scopes":["jobs:submit"],"actions":["submit"]}]}`
	retriesExample = `[{"jobs":"report.*","attempts":10,"base":"1s","max":"15m","timeout":"30s"}]`
)

type policyDocument struct {
	Rules []struct {
		Effect   string   `json:"effect"`
		Issuers  []string `json:"issuers"`
		Subjects []string `json:"subjects"`
		Scopes   []string `json:"scopes"`
		Actions  []string `json:"actions"`
		Jobs     []string `json:"jobs"`
		AnyOwner bool     `json:"any_owner"`
	} `json:"rules"`
	Deny []struct {
		Issuer  string `json:"issuer"`
		Subject string `json:"subject"`
		TokenID string `json:"token_id"`
	} `json:"deny"`
}

// AccessPolicy returns the policy of ACCESS_POLICY, domain.DefaultPolicy where it is not set. issuers is how many
// issuers are trusted.
func (e *Env) AccessPolicy(issuers int) domain.AccessPolicy {
	const name = "ACCESS_POLICY"
	text := e.Text(name, policyExample)
	if text == "" {
		return domain.DefaultPolicy()
	}
	policy, err := ParsePolicy([]byte(text))
	if err != nil {
		e.Wrong(name, policyExample, "%v", err)
		return domain.AccessPolicy{}
	}
	for _, problem := range policy.Validate(issuers) {
		e.Wrong(name, policyExample, "%s", problem)
	}
	return policy
}

// ParsePolicy decodes an access policy from JSON. A document without rules keeps the default ones, so that a deny list
// can stand alone. The result is not validated.
func ParsePolicy(data []byte) (domain.AccessPolicy, error) {
	var doc policyDocument
	if err := strictjson.Decode(data, &doc); err != nil {
		return domain.AccessPolicy{}, err
	}
	var policy domain.AccessPolicy
	if doc.Rules == nil {
		policy = domain.DefaultPolicy()
	}
	for _, r := range doc.Rules {
		rule := domain.Rule{
			Effect: domain.Effect(r.Effect), Issuers: r.Issuers, Subjects: r.Subjects, Scopes: r.Scopes, Jobs: r.Jobs, AnyOwner: r.AnyOwner,
		}
		for _, a := range r.Actions {
			rule.Actions = append(rule.Actions, domain.Action(a))
		}
		policy.Rules = append(policy.Rules, rule)
	}
	for _, d := range doc.Deny {
		policy.Revoked = append(policy.Revoked, domain.Revocation{Issuer: d.Issuer, Subject: d.Subject, TokenID: d.TokenID})
	}
	return policy, nil
}

type retryDocument []struct {
	Jobs     string `json:"jobs"`
	Attempts *int   `json:"attempts"`
	Base     string `json:"base"`
	Max      string `json:"max"`
	Timeout  string `json:"timeout"`
}

// maxInvocation is the longest that a Lambda function may run
// (https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html), and reserve what a worker needs of it beside
// the run.
const (
	maxInvocation = 15 * time.Minute
	reserve       = 10 * time.Second
)

// FunctionRetryPolicies is RetryPolicies for programs whose jobs are run by a Lambda function: a job whose run timeout
// does not fit an invocation would never be begun.
func (e *Env) FunctionRetryPolicies() domain.RetryPolicies {
	policies := e.RetryPolicies()
	for i, rule := range policies {
		if rule.Policy.Timeout > maxInvocation-reserve {
			e.Wrong("RETRY_POLICIES", retriesExample, "[%d] %s: a Lambda function runs a job for at most %v", i, rule.Jobs, maxInvocation-reserve)
		}
	}
	return policies
}

// RetryPolicies returns the rules of RETRY_POLICIES; what a rule does not say is as in domain.DefaultRetryPolicy.
func (e *Env) RetryPolicies() domain.RetryPolicies {
	const name = "RETRY_POLICIES"
	text := e.Text(name, retriesExample)
	if text == "" {
		return nil
	}
	policies, err := parseRetries([]byte(text))
	if err != nil {
		e.Wrong(name, retriesExample, "%v", err)
		return nil
	}
	seen := map[string]bool{}
	for i, rule := range policies {
		if seen[rule.Jobs] {
			e.Wrong(name, retriesExample, "[%d] %s: has a rule already", i, rule.Jobs)
		}
		seen[rule.Jobs] = true
		for _, problem := range rule.Policy.Validate() {
			e.Wrong(name, retriesExample, "[%d] %s: %s", i, rule.Jobs, problem)
		}
	}
	return policies
}

func parseRetries(data []byte) (domain.RetryPolicies, error) {
	var doc retryDocument
	if err := strictjson.Decode(data, &doc); err != nil {
		return nil, err
	}
	var policies domain.RetryPolicies
	var wrong []error
	for i, r := range doc {
		if !domain.ValidNamePattern(r.Jobs) {
			wrong = append(wrong, fmt.Errorf(`[%d] jobs: %q is no job name or pattern like "report.*"`, i, r.Jobs))
		}
		policy := domain.DefaultRetryPolicy
		if r.Attempts != nil {
			policy.Attempts = *r.Attempts
		}
		for member, d := range map[string]struct {
			text string
			to   *time.Duration
		}{"base": {r.Base, &policy.Base}, "max": {r.Max, &policy.Max}, "timeout": {r.Timeout, &policy.Timeout}} {
			if d.text == "" {
				continue
			}
			value, err := time.ParseDuration(d.text)
			if err != nil {
				wrong = append(wrong, fmt.Errorf(`[%d] %s: %q is no duration`, i, member, d.text))
			}
			*d.to = value
		}
		policies = append(policies, domain.RetryRule{Jobs: r.Jobs, Policy: policy})
	}
	return policies, errors.Join(wrong...)
}

// minRetention is how long a finished job can be asked for at the least: whoever waits for it has to find it. Idempotency
// keys count for as long.
const minRetention = time.Minute

// Retention returns RETENTION (succeeded and cancelled jobs) and RETENTION_DEAD; what is not set is as in
// domain.DefaultRetention. It holds for jobs that are stored from then on.
func (e *Env) Retention() domain.Retention {
	read := func(name string, fallback time.Duration) time.Duration {
		keep := e.Duration(name, fallback)
		if keep < minRetention {
			e.Wrong(name, fallback.String(), "%v is under the least, %v", keep, minRetention)
		}
		return keep
	}
	return domain.Retention{
		Finished: read("RETENTION", domain.DefaultRetention.Finished),
		Dead:     read("RETENTION_DEAD", domain.DefaultRetention.Dead),
	}
}

func splitTrim(s string) []string {
	var out []string
	for element := range strings.SplitSeq(s, ",") {
		out = append(out, strings.TrimSpace(element))
	}
	return out
}
