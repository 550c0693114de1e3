// Package jobs is the Lambda function behind the gate: it answers the REST API, and once a minute it dispatches what
// has become due.
package jobs

import (
	"context"
	"fmt"
	"io"
	"regexp"

	"github.com/aws/aws-lambda-go/lambda"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/sns"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/cloud"
	"github.com/jobgate/jobgate/bootstrap/config/intake"
	"github.com/jobgate/jobgate/domain/jobs"
)

// Function is the jobs function.
type Function struct {
	proxy *apigateway.Proxy
	sweep *jobs.Sweep
	log   *zap.Logger
}

// New returns the function.
func New(cfg intake.Config, b intake.Backend, log *zap.Logger) *Function {
	b.Dispatcher = zaplog.Dispatcher(b.Dispatcher, log)
	api := intake.New(cfg, b, intake.Front{
		Identify: apigateway.Principal, RequestID: apigateway.RequestID, DecisionID: apigateway.DecisionID, Prefix: apigateway.Prefix,
	}, log)
	return &Function{
		proxy: apigateway.NewProxy(api, func(_ context.Context, err error) { log.Error("a request failed", zap.Error(err)) }),
		sweep: &jobs.Sweep{Schedule: b.Schedule, Dispatcher: b.Dispatcher},
		log:   log,
	}
}

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

const topicExample = "arn:aws:sns:eu-west-1:123456789012:jobgate-jobs"

var topicARN = regexp.MustCompile(`^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$`)

// Run is the program: it serves the Lambda Runtime API, with the jobs in DynamoDB and their dispatch through SNS.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	env := config.From(getenv)
	cfg := intake.LoadConfig(env, 1)
	cfg.Retries = env.FunctionRetryPolicies()
	table := env.Required("JOBS_TABLE", "jobgate-jobs")
	topic := env.Required("JOBS_TOPIC_ARN", topicExample)
	if topic != "" && !topicARN.MatchString(topic) {
		env.Wrong("JOBS_TOPIC_ARN", topicExample, "%q is no ARN of an SNS topic", topic)
	}
	flags := config.NewFlags("jobs", "the jobs function of jobgate, run by AWS Lambda", stderr)
	if done, err := flags.Parse(args, stdout, env.Err); done {
		return err
	}
	aws, err := cloud.Load(ctx)
	if err != nil {
		return err
	}
	store := dynamodb.NewStore(awsdynamodb.NewFromConfig(aws), table, dynamodb.Options{})
	function := New(cfg, intake.Backend{
		Store: store, Schedule: store, Dispatcher: sns.NewDispatcher(awssns.NewFromConfig(aws), topic, "jobgate"),
	}, zaplog.JSON(stderr, cfg.LogLevel))
	lambda.StartWithOptions(function, lambda.WithContext(ctx))
	return nil
}

// Main runs the program and exits.
func Main() { config.MainFunction(Run) }
