// Package intake is the REST API as every program that serves it wires it: its settings, and its handler over whatever
// keeps and dispatches the jobs.
package intake

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/httpapi"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// Config are the settings of the REST API, wherever its jobs are kept.
type Config struct {
	Policy    domain.AccessPolicy
	Retries   domain.RetryPolicies
	Retention domain.Retention
	MaxBody   int64
	Origin    string // that browsers let read the answers
	LogLevel  string
}

// LoadConfig reads the settings, and records every mistake in env. issuers is how many issuers are trusted.
func LoadConfig(env *config.Env, issuers int) Config {
	return Config{
		Policy:    env.AccessPolicy(issuers),
		Retries:   env.RetryPolicies(),
		Retention: env.Retention(),
		MaxBody:   env.Bytes("MAX_BODY", httpapi.DefaultMaxBody, httpapi.DefaultMaxBody),
		Origin:    env.CORSOrigin(),
		LogLevel:  env.OneOf("LOG_LEVEL", zaplog.Levels...),
	}
}

// Backend is where jobs are kept and how they reach a worker.
type Backend struct {
	Store        ports.JobStore
	Schedule     ports.JobSchedule
	Dispatcher   ports.JobDispatcher
	StoreIsQueue bool
}

// Front is what stands before the API, and tells it about a request.
type Front struct {
	Identify   func(*http.Request) (domain.Principal, error)
	RequestID  func(*http.Request) string // nil: a random one
	DecisionID func(*http.Request) string // nil: the request's
	Prefix     func(*http.Request) string // nil: none
	Refused    func(httpapi.Failure)      // told of each refusal, beside the log; nil: nobody is
}

// New returns the API behind front.
func New(cfg Config, b Backend, front Front, log *zap.Logger) http.Handler {
	return httpapi.New(httpapi.Options{
		Submit: &jobs.Submit{
			Store: b.Store, Dispatcher: b.Dispatcher, Policy: cfg.Policy, Retries: cfg.Retries, Retention: cfg.Retention,
			Now: time.Now, NewID: newID, StoreIsQueue: b.StoreIsQueue,
		},
		Query:      &jobs.Query{Store: b.Store, Policy: cfg.Policy, Now: time.Now},
		Change:     &jobs.Change{Store: b.Store, Dispatcher: b.Dispatcher, Policy: cfg.Policy, Now: time.Now, StoreIsQueue: b.StoreIsQueue},
		Identify:   front.Identify,
		RequestID:  front.RequestID,
		DecisionID: front.DecisionID,
		Prefix:     front.Prefix,
		CORSOrigin: cfg.Origin,
		MaxBody:    cfg.MaxBody,
		Log:        failures(log, front.Refused),
	})
}

// failures logs one line for each request that was answered with a problem document. It joins the request id that a
// caller was told to the reason.
func failures(log *zap.Logger, refused func(httpapi.Failure)) func(context.Context, httpapi.Failure) {
	return func(ctx context.Context, f httpapi.Failure) {
		level := zap.InfoLevel
		if f.Status >= http.StatusInternalServerError {
			level = zap.ErrorLevel
		}
		zaplog.From(ctx, log).Log(level, "a request was refused", zap.String("request_id", f.RequestID), zap.String("decision_id", f.DecisionID),
			zap.String("method", f.Method), zap.String("route", f.Route), zap.Int("status", f.Status), zap.Error(f.Err))
		if refused != nil {
			refused(f)
		}
	}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }
