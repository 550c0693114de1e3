// Package runner is the worker as every program that runs jobs wires it: its settings, and the use case over whatever
// keeps the jobs.
package runner

import (
	"crypto/rand"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// Config are the settings of a worker, wherever its jobs are kept.
type Config struct {
	Policy    domain.AccessPolicy  // for its deny list
	Retries   domain.RetryPolicies // of jobs that arrive as bare messages
	Retention domain.Retention     // of the same
	Webhooks  Webhooks
	LogLevel  string
}

// LoadConfig reads the settings, and records every mistake in them and in the handlers' patterns in env. issuers is how
// many issuers are trusted.
func LoadConfig(env *config.Env, handlers jobs.Handlers, issuers int) Config {
	for _, problem := range handlers.Validate() {
		env.Wrong("handlers", "", "%s", problem)
	}
	return Config{
		Policy: env.AccessPolicy(issuers), Retries: env.RetryPolicies(), Retention: env.Retention(), Webhooks: loadWebhooks(env, handlers),
		LogLevel: env.OneOf("LOG_LEVEL", zaplog.Levels...),
	}
}

// Handlers are the program's own and the webhooks, by their patterns. Without any, each job is logged and succeeds; with
// some, a job that none of them matches fails and is retried.
func (c Config) Handlers(own jobs.Handlers, log *zap.Logger) jobs.Handlers {
	all := jobs.Handlers{}
	maps.Copy(all, own)
	for pattern, hook := range c.Webhooks {
		all[pattern] = logged(hook, log)
	}
	if len(all) == 0 {
		all["*"] = zaplog.LogJobs(log)
	}
	return all
}

// New returns the worker of cfg.Handlers.
func New(cfg Config, store ports.JobStore, handlers jobs.Handlers, log *zap.Logger) *jobs.Worker {
	return &jobs.Worker{
		Store: store, Handler: zaplog.Handler(cfg.Handlers(handlers, log), log), Policy: cfg.Policy, Retries: cfg.Retries, Retention: cfg.Retention,
		Name: name(), Now: time.Now, NewToken: rand.Text, Random: mathrand.Float64,
		Settled: zaplog.Settled(log),
	}
}

// name tells one worker from another in a job's attempts.
func name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return strings.Join([]string{host, strconv.Itoa(os.Getpid())}, "/")
}
