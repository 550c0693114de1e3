// Package worker is the Lambda function that runs jobs. A program with handlers of its own is a main that calls Main
// with them.
package worker

import (
	"context"
	"io"

	"github.com/aws/aws-lambda-go/lambda"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/cloud"
	"github.com/jobgate/jobgate/bootstrap/config/runner"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// Function is the worker function.
type Function struct {
	worker *lambdaevents.Worker
}

// New returns the function. Without any handlers and webhooks each job is logged and succeeds.
func New(cfg runner.Config, store ports.JobStore, handlers jobs.Handlers, log *zap.Logger) *Function {
	worker := runner.New(cfg, store, handlers, log)
	return &Function{worker: &lambdaevents.Worker{Deliver: worker.Deliver, Log: outcomes(log)}}
}

// Invoke runs the jobs of one event.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	return f.worker.Invoke(ctx, event)
}

// settled are the reasons of a job, which is logged where it is settled; others are those of a message about a job that
// this delivery did nothing to.
var settled = map[domain.Reason]bool{
	domain.ReasonWorkerLost: true, domain.ReasonAttemptsUsedUp: true, domain.ReasonPermanent: true, domain.ReasonRevoked: true, domain.ReasonCancelled: true,
}

// outcomes logs one line for each record that is not simply done with.
func outcomes(log *zap.Logger) func(context.Context, lambdaevents.Outcome) {
	return func(_ context.Context, o lambdaevents.Outcome) {
		fields := []zap.Field{
			zap.String("message_id", o.MessageID), zap.String("job_id", o.JobID),
			zap.Stringer("verdict", o.Disposition.Verdict), zap.String("reason", string(o.Disposition.Reason)), zap.Error(o.Err),
		}
		switch {
		case o.Err != nil || o.Disposition.Verdict == domain.DeadLetter:
			log.Error("a message cannot be used", fields...)
		case o.Disposition.Reason == domain.ReasonTooLate:
			log.Error("the function's time is too short for this job's run timeout", fields...)
		case o.Disposition.Verdict == domain.Return:
			log.Warn("a message is returned", fields...)
		case o.Disposition.Reason != "" && !settled[o.Disposition.Reason]:
			log.Info("a message is done with", fields...)
		}
	}
}

// Run is the program: it serves the Lambda Runtime API, with the jobs in DynamoDB.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer, handlers jobs.Handlers) error {
	env := config.From(getenv)
	cfg := runner.LoadConfig(env, handlers, 1)
	cfg.Retries = env.FunctionRetryPolicies()
	table := env.Required("JOBS_TABLE", "jobgate-jobs")
	flags := config.NewFlags("worker", "the worker function of jobgate, run by AWS Lambda", stderr)
	if done, err := flags.Parse(args, stdout, env.Err); done {
		return err
	}
	aws, err := cloud.Load(ctx)
	if err != nil {
		return err
	}
	store := dynamodb.NewStore(awsdynamodb.NewFromConfig(aws), table, dynamodb.Options{})
	lambda.StartWithOptions(New(cfg, store, handlers, zaplog.JSON(stderr, cfg.LogLevel)), lambda.WithContext(ctx))
	return nil
}

// Main runs the program with the given handlers and exits; with none, and no webhooks, each job is logged and succeeds.
func Main(handlers jobs.Handlers) {
	config.MainFunction(func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
		return Run(ctx, args, getenv, stdout, stderr, handlers)
	})
}
