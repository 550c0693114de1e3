// Package worker is the Lambda function that runs jobs, and that can make the passes of the due loop beside that. A program
// with handlers of its own is a main that calls Main with them.
package worker

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/adapters/emf"
	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/sns"
	"github.com/jobgate/jobgate/adapters/sqs"
	"github.com/jobgate/jobgate/adapters/ssm"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/cloud"
	"github.com/jobgate/jobgate/bootstrap/config/dueloop"
	"github.com/jobgate/jobgate/bootstrap/config/invocation"
	"github.com/jobgate/jobgate/bootstrap/config/runner"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// Function is the worker function.
type Function struct {
	jobs   *jobs.Worker
	worker *lambdaevents.Worker
	sweep  *jobs.Sweep // nil where nothing is dispatched from here
	log    *zap.Logger

	settled func(*zap.Logger) func(domain.Job) // told of each job that was settled, with the logger of the invocation
	swept   func(jobs.Swept)                   // told of each pass of the due loop
}

// parallel is how many records run side by side: as many as a batch may have by deployments/terraform, so that none of it
// waits until too little time is left.
const parallel = 100

// New returns the function. Without any handlers and webhooks each job is logged and succeeds.
func New(cfg runner.Config, store ports.JobStore, handlers jobs.Handlers, log *zap.Logger) *Function {
	f := &Function{jobs: runner.New(cfg, store, handlers, log), log: log, settled: zaplog.Settled, swept: func(jobs.Swept) {}}
	f.worker = &lambdaevents.Worker{Deliver: f.deliver, Parallel: parallel, Log: outcomes(log)}
	return f
}

// Invoke runs the jobs of one event, or makes one pass of the due loop for the tick of a schedule. Where no pass can be made,
// a tick is a job if a rule says so, as any event.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	ctx = invocation.Context(ctx)
	switch {
	case !lambdaevents.Scheduled(event), f.sweep == nil && f.worker.Rules.Map(event):
		return f.worker.Invoke(ctx, event)
	case f.sweep == nil:
		return nil, errNoTopic
	}
	return dueloop.Tick(ctx, f.sweep, f.swept, zaplog.From(ctx, f.log))
}

var errNoTopic = errors.New("due loop: the tick of a schedule needs JOBS_TOPIC_ARN, or a rule of EVENT_JOBS, or is for the jobs function")

// storeTimeout bounds a look at a finished job.
const storeTimeout = 5 * time.Second

// deliver decides a delivery, and tells how its job stands where the message's fate hangs on that.
//
// A delivery that finds its job finished may be the next of one that has ended the job, and could not send its letter; and
// one that finds its lease gone may have ended the job by a call that was not answered. So a dead job is told each time:
// its letter is sent at least once.
func (f *Function) deliver(ctx context.Context, d domain.Delivery) (domain.Disposition, domain.Job) {
	var job domain.Job
	worker := *f.jobs
	worker.Settled = func(settled domain.Job) {
		job = settled
		f.settled(zaplog.From(ctx, f.log))(settled)
	}
	disposition := worker.Deliver(ctx, d)
	mayBeDead := disposition.Reason == domain.ReasonFinished || disposition.Reason == domain.ReasonLeaseLost
	if disposition.Verdict != domain.Ack || !mayBeDead || f.worker.DeadLetter == nil {
		return disposition, job
	}
	id := d.JobID
	if d.Foreign != nil {
		id = d.Foreign.ID
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	job, err := f.jobs.Store.Get(ctx, id)
	if err != nil && domain.KindOf(err) != domain.NotFound { // it has expired meanwhile
		return domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable, Pause: true}, domain.Job{}
	}
	return disposition, job
}

// settled are the reasons of a job, which is logged where it is settled; others are those of a message about a job that
// this delivery did nothing to.
var settled = map[domain.Reason]bool{
	domain.ReasonWorkerLost: true, domain.ReasonAttemptsUsedUp: true, domain.ReasonPermanent: true, domain.ReasonRevoked: true, domain.ReasonCancelled: true,
}

// outcomes logs one line for each record that is not simply done with.
func outcomes(log *zap.Logger) func(context.Context, lambdaevents.Outcome) {
	return func(ctx context.Context, o lambdaevents.Outcome) {
		log := zaplog.From(ctx, log)
		fields := []zap.Field{
			zap.String("message_id", o.MessageID), zap.String("job_id", o.JobID),
			zap.Stringer("verdict", o.Disposition.Verdict), zap.String("reason", string(o.Disposition.Reason)), zap.Error(o.Err),
		}
		switch {
		case o.Err != nil && o.Disposition.Verdict == domain.Ack:
			log.Warn("a message is not kept for its retry, which the due loop has", fields...)
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
	var cfg settings
	flags := config.NewFlags("worker", "the worker function of jobgate, run by AWS Lambda", stderr)
	if done, err := flags.ParseFunction(ctx, args, stdout, getenv, ssm.Parameters(getenv), func(env *config.Env) {
		cfg = loadConfig(env, handlers)
	}); done {
		return err
	}
	aws, err := cloud.Load(getenv)
	if err != nil {
		return err
	}
	store := dynamodb.NewStore(awsdynamodb.NewFromConfig(aws), cfg.table, dynamodb.Options{})
	log := zaplog.JSON(stderr, cfg.runner.LogLevel)
	f := New(cfg.runner, store, handlers, log)
	metrics := emf.New(stdout, getenv("AWS_LAMBDA_FUNCTION_NAME"), cfg.runner.Handlers(handlers, log).Pattern)
	f.jobs.Handler = metrics.Handler(f.jobs.Handler)
	f.settled = func(log *zap.Logger) func(domain.Job) { return metrics.Settled(zaplog.Settled(log)) }
	f.swept = metrics.Swept
	f.worker.Rules, f.jobs.MaxRun = cfg.rules, cfg.maxRun
	queues := awssqs.NewFromConfig(aws)
	if cfg.queue != "" {
		queue, err := sqs.NewQueue(queues, cfg.queue)
		if err != nil {
			return err
		}
		f.worker.Postpone = queue.Postpone
	}
	if cfg.deadLetters != "" {
		queue, err := sqs.NewQueue(queues, cfg.deadLetters)
		if err != nil {
			return err
		}
		f.worker.DeadLetter = send(queue)
	}
	if cfg.topic != "" {
		dispatcher := sns.NewDispatcher(awssns.NewFromConfig(aws), cfg.topic, "jobgate")
		f.sweep = &jobs.Sweep{Schedule: store, Dispatcher: metrics.Dispatcher(zaplog.Dispatcher(dispatcher, log))}
	}
	lambda.StartWithOptions(f, lambda.WithContext(ctx))
	return nil
}

// send returns what puts letters into a queue: what is known of one beside its body is in the message's attributes.
func send(queue *sqs.Queue) func(context.Context, lambdaevents.Letter) error {
	return func(ctx context.Context, l lambdaevents.Letter) error {
		return queue.Send(ctx, l.Body, map[string]string{
			"reason": string(l.Reason), "detail": l.Detail, "source": l.Source, "message_id": l.MessageID, "job_id": l.JobID, "job_name": l.JobName,
		})
	}
}

// Main runs the program with the given handlers and exits; with none, and no webhooks, each job is logged and succeeds.
func Main(handlers jobs.Handlers) {
	config.MainFunction(func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
		return Run(ctx, args, getenv, stdout, stderr, handlers)
	})
}
