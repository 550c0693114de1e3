package worker

import (
	"slices"
	"strings"
	"time"

	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/sqs"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/runner"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// settings are the program's.
type settings struct {
	runner      runner.Config
	table       string // JOBS_TABLE
	topic       string // JOBS_TOPIC_ARN, for the due loop; may be empty
	queue       string // JOBS_QUEUE_URL, of the queue that messages are kept in for their retry; may be empty
	deadLetters string // DEAD_LETTER_QUEUE_URL; may be empty
	rules       lambdaevents.Rules
	maxRun      time.Duration // what an invocation leaves for a run
}

const (
	queueExample  = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobgate-jobs"
	eventsExample = `[{"source":"aws:s3","detail_type":"ObjectCreated:*","job":"upload.scan"},{"source":"com.example.orders","job":"order.placed"}]`
)

// loadConfig reads the settings, and records every mistake in them in env.
func loadConfig(env *config.Env, handlers jobs.Handlers) settings {
	s := settings{runner: runner.LoadConfig(env, handlers, 1)}
	s.runner.Retries = env.FunctionRetryPolicies()
	s.maxRun = checkTimeouts(env, s.runner.Retries)
	s.table = env.Required("JOBS_TABLE", "jobgate-jobs")
	s.topic = env.Topic(false)
	s.queue = queueURL(env, "JOBS_QUEUE_URL")
	s.deadLetters = queueURL(env, "DEAD_LETTER_QUEUE_URL")
	if strings.HasSuffix(s.deadLetters, ".fifo") {
		env.Wrong("DEAD_LETTER_QUEUE_URL", queueExample, "is a FIFO queue: letters have no order to be kept in")
	}
	s.rules = loadRules(env)
	if len(s.rules) > 0 && s.deadLetters == "" {
		env.Wrong("DEAD_LETTER_QUEUE_URL", queueExample, "is needed with EVENT_JOBS: an event that no rule fits has to go somewhere")
	}
	return s
}

func queueURL(env *config.Env, name string) string {
	v := env.String(name, "")
	if v == "" {
		return ""
	}
	if _, _, err := sqs.ParseURL(v); err != nil {
		env.Wrong(name, queueExample, "%v", err)
	}
	return v
}

func loadRules(env *config.Env) lambdaevents.Rules {
	const name = "EVENT_JOBS"
	text := env.Text(name, eventsExample)
	if text == "" {
		return nil
	}
	rules, err := lambdaevents.ParseRules([]byte(text))
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			env.Wrong(name, eventsExample, "%s", line)
		}
	}
	return rules
}

const (
	// maxInvocation is the longest that a function may run
	// (https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html).
	maxInvocation = 15 * time.Minute

	// reserve is what an invocation needs beside a run: to claim and settle the job, and to send its letter.
	reserve = 10 * time.Second
)

// checkTimeouts compares run timeouts with FUNCTION_TIMEOUT, the function's own timeout, if that is told: a job whose run
// does not fit is cut short. It returns what there is for a run.
func checkTimeouts(env *config.Env, policies domain.RetryPolicies) (maxRun time.Duration) {
	const (
		name    = "FUNCTION_TIMEOUT"
		retries = "RETRY_POLICIES"
	)
	timeout := env.Duration(name, maxInvocation)
	switch {
	case timeout > maxInvocation:
		env.Wrong(name, maxInvocation.String(), "%v is more than a function can have, %v", timeout, maxInvocation)
		return 0
	case timeout == maxInvocation: // compared already, for every program whose jobs a function runs
		return timeout - reserve
	}
	for i, rule := range policies {
		if rule.Policy.Timeout > timeout-reserve {
			env.Wrong(retries, `[{"jobs":"report.*","timeout":"30s"}]`, "[%d] %s: a run of %v and %v more do not fit FUNCTION_TIMEOUT, %v", i, rule.Jobs, rule.Policy.Timeout, reserve, timeout)
		}
	}
	everything := slices.ContainsFunc(policies, func(r domain.RetryRule) bool { return r.Jobs == "*" })
	if run := domain.DefaultRetryPolicy.Timeout; !everything && run > timeout-reserve {
		env.Wrong(name, (run + reserve).String(), "%v is too short for a run of %v, which is the default, and %v more: let the function have more, or jobs less by a rule for * in RETRY_POLICIES", timeout, run, reserve)
	}
	return timeout - reserve
}
