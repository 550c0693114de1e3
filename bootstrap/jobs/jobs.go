// Package jobs is the Lambda function behind the gate: it answers the REST API, and once a minute it dispatches what
// has become due.
package jobs

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/adapters/httpapi"
	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/sns"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/cloud"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// Config are the settings of the REST API, wherever its jobs are kept.
type Config struct {
	Policy   domain.AccessPolicy
	Retries  domain.RetryPolicies
	MaxBody  int64
	Origin   string // that browsers let read the answers
	LogLevel string
}

// LoadConfig reads the settings, and records every mistake in env. issuers is how many issuers are trusted.
func LoadConfig(env *config.Env, issuers int) Config {
	return Config{
		Policy:   env.AccessPolicy(issuers),
		Retries:  env.RetryPolicies(),
		MaxBody:  env.Bytes("MAX_BODY", httpapi.DefaultMaxBody, httpapi.DefaultMaxBody),
		Origin:   env.CORSOrigin(),
		LogLevel: env.OneOf("LOG_LEVEL", zaplog.Levels...),
	}
}

// Backend is where jobs are kept and how they reach a worker.
type Backend struct {
	Store        ports.JobStore
	Schedule     ports.JobSchedule
	Dispatcher   ports.JobDispatcher
	StoreIsQueue bool
}

// Function is the jobs function.
type Function struct {
	proxy *apigateway.Proxy
	sweep *jobs.Sweep
	log   *zap.Logger
}

// New returns the function.
func New(cfg Config, b Backend, log *zap.Logger) *Function {
	dispatcher := zaplog.Dispatcher(b.Dispatcher, log)
	api := httpapi.New(httpapi.Options{
		Submit: &jobs.Submit{
			Store: b.Store, Dispatcher: dispatcher, Policy: cfg.Policy, Retries: cfg.Retries, Retention: domain.DefaultRetention,
			Now: time.Now, NewID: newID, StoreIsQueue: b.StoreIsQueue,
		},
		Query:      &jobs.Query{Store: b.Store, Policy: cfg.Policy, Now: time.Now},
		Change:     &jobs.Change{Store: b.Store, Dispatcher: dispatcher, Policy: cfg.Policy, Now: time.Now, StoreIsQueue: b.StoreIsQueue},
		Identify:   apigateway.Principal,
		RequestID:  apigateway.RequestID,
		DecisionID: apigateway.DecisionID,
		Prefix:     apigateway.Prefix,
		CORSOrigin: cfg.Origin,
		MaxBody:    cfg.MaxBody,
		Log:        failures(log),
	})
	return &Function{
		proxy: apigateway.NewProxy(api, func(_ context.Context, err error) { log.Error("a request failed", zap.Error(err)) }),
		sweep: &jobs.Sweep{Schedule: b.Schedule, Dispatcher: dispatcher},
		log:   log,
	}
}

// failures logs one line for each request that was answered with a problem document. It joins the request id that a
// caller was told to the reason.
func failures(log *zap.Logger) func(context.Context, httpapi.Failure) {
	return func(_ context.Context, f httpapi.Failure) {
		level := zap.InfoLevel
		if f.Status >= http.StatusInternalServerError {
			level = zap.ErrorLevel
		}
		log.Log(level, "a request was refused", zap.String("request_id", f.RequestID), zap.String("decision_id", f.DecisionID),
			zap.String("method", f.Method), zap.String("route", f.Route), zap.Int("status", f.Status), zap.Error(f.Err))
	}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// Invoke answers one event of a proxy integration, or makes one pass of the due loop for the tick of a schedule.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	if !lambdaevents.Scheduled(event) {
		return f.proxy.Invoke(ctx, event)
	}
	swept, err := f.sweep.Pass(ctx)
	f.log.Info("due loop", zap.Int("dispatched", swept.Dispatched), zap.Int("failed", swept.Failed), zap.Int("expired", swept.Expired), zap.Error(err))
	if err != nil {
		return nil, fmt.Errorf("due loop: %w", err)
	}
	return []byte("null"), nil
}

// Run is the program: it serves the Lambda Runtime API, with the jobs in DynamoDB and their dispatch through SNS.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	env := config.From(getenv)
	cfg := LoadConfig(env, 1)
	table := env.Required("JOBS_TABLE", "jobgate-jobs")
	topic := env.Required("JOBS_TOPIC_ARN", "arn:aws:sns:eu-west-1:123456789012:jobgate-jobs")
	flags := config.NewFlags("jobs", "the jobs function of jobgate, run by AWS Lambda", stderr)
	if done, err := flags.Parse(args, stdout, env.Err()); done {
		return err
	}
	aws, err := cloud.Load(ctx)
	if err != nil {
		return err
	}
	store := dynamodb.NewStore(awsdynamodb.NewFromConfig(aws), table, dynamodb.Options{})
	function := New(cfg, Backend{
		Store: store, Schedule: store, Dispatcher: sns.NewDispatcher(awssns.NewFromConfig(aws), topic, "jobgate"),
	}, zaplog.JSON(stderr, cfg.LogLevel))
	lambda.StartWithOptions(function, lambda.WithContext(ctx))
	return nil
}

// Main runs the program and exits.
func Main() { config.Main(Run) }
