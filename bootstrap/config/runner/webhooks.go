package runner

import (
	"context"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/webhook"
	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

const webhooksExample = `[{"jobs":"report.*","url":"https://hooks.example.com/jobs","secret":"whsec_…"}]`

// Webhooks are handlers that post the jobs of a name pattern to a URL.
type Webhooks map[string]*webhook.Handler

type webhookDocument []struct {
	Jobs    string `json:"jobs"`
	URL     string `json:"url"`
	Secret  string `json:"secret"` // two, comma-separated, while rotating
	Timeout string `json:"timeout"`
}

// loadWebhooks reads WEBHOOKS and WEBHOOK_ALLOW_PRIVATE, and records every mistake in them in env: a URL may be as
// secret as a secret, and is not repeated either. No pattern may be one of handlers.
func loadWebhooks(env *config.Env, handlers jobs.Handlers) Webhooks {
	const name = "WEBHOOKS"
	opts := webhook.Options{Source: "jobgate", AllowPrivate: env.Bool("WEBHOOK_ALLOW_PRIVATE", false)}
	text := env.Text(name, webhooksExample)
	if text == "" {
		return nil
	}
	var doc webhookDocument
	if err := strictjson.Decode([]byte(text), &doc); err != nil {
		env.Wrong(name, webhooksExample, "%v", err)
		return nil
	}
	webhooks := Webhooks{}
	for i, hook := range doc {
		wrong := func(format string, args ...any) {
			env.Wrong(name, webhooksExample, "[%d] "+format, append([]any{i}, args...)...)
		}
		if !domain.ValidNamePattern(hook.Jobs) {
			wrong(`jobs: %q is no job name or pattern like "report.*"`, hook.Jobs)
		} else if _, taken := webhooks[hook.Jobs]; taken {
			wrong("jobs: %s has a webhook already", hook.Jobs)
		} else if _, taken := handlers[hook.Jobs]; taken {
			wrong("jobs: %s has a handler in this program already", hook.Jobs)
		}
		endpoint := webhook.Endpoint{URL: hook.URL}
		for secret := range strings.SplitSeq(hook.Secret, ",") {
			endpoint.Secrets = append(endpoint.Secrets, strings.TrimSpace(secret))
		}
		if hook.Timeout != "" {
			var err error
			if endpoint.Timeout, err = time.ParseDuration(hook.Timeout); err != nil || endpoint.Timeout <= 0 {
				wrong("timeout: %q is no duration above 0", hook.Timeout)
				endpoint.Timeout = 0
			}
		}
		handler, err := webhook.NewHandler(endpoint, opts)
		if err != nil {
			for _, problem := range joined(err) {
				wrong("%v", problem)
			}
		}
		webhooks[hook.Jobs] = handler
	}
	return webhooks
}

// joined returns the errors that errors.Join has joined.
func joined(err error) []error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return several.Unwrap()
	}
	return []error{err}
}

// logged logs what a job's owner is not told of a webhook that failed.
func logged(handler *webhook.Handler, log *zap.Logger) jobs.HandlerFunc {
	return func(ctx context.Context, run jobs.Run) ([]byte, error) {
		output, err := handler.Handle(ctx, run)
		if cause := webhook.Cause(err); cause != nil {
			zaplog.From(ctx, log).Warn("a webhook was not reached", zap.String("job_id", run.Job.ID), zap.String("job_name", run.Job.Name), zap.Int("attempt", run.Attempt), zap.Error(cause))
		}
		return output, err
	}
}
