// Package jobs is the Lambda function behind the gate: it answers the REST API, and once a minute it dispatches what
// has become due.
package jobs

import (
	"context"
	"io"

	"github.com/aws/aws-lambda-go/lambda"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/adapters/emf"
	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/sns"
	"github.com/jobgate/jobgate/adapters/ssm"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/cloud"
	"github.com/jobgate/jobgate/bootstrap/config/dueloop"
	"github.com/jobgate/jobgate/bootstrap/config/intake"
	"github.com/jobgate/jobgate/bootstrap/config/invocation"
	"github.com/jobgate/jobgate/domain/jobs"
)

// Function is the jobs function.
type Function struct {
	proxy *apigateway.Proxy
	sweep *jobs.Sweep
	swept func(jobs.Swept) // told of each pass of the due loop
	log   *zap.Logger
}

// New returns the function.
func New(cfg intake.Config, b intake.Backend, log *zap.Logger) *Function {
	b.Dispatcher = zaplog.Dispatcher(b.Dispatcher, log)
	api := intake.New(cfg, b, intake.Front{
		Identify: apigateway.Principal, RequestID: apigateway.RequestID, DecisionID: apigateway.DecisionID, Prefix: apigateway.Prefix,
	}, log)
	return &Function{
		proxy: apigateway.NewProxy(api, func(ctx context.Context, err error) {
			zaplog.From(ctx, log).Error("a request failed", zap.Error(err))
		}),
		sweep: &jobs.Sweep{Schedule: b.Schedule, Dispatcher: b.Dispatcher},
		swept: func(jobs.Swept) {},
		log:   log,
	}
}

// Invoke answers one event of a proxy integration, or makes one pass of the due loop for the tick of a schedule.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	ctx = invocation.Context(ctx)
	if !lambdaevents.Scheduled(event) {
		return f.proxy.Invoke(ctx, event)
	}
	return dueloop.Tick(ctx, f.sweep, f.swept, zaplog.From(ctx, f.log))
}

// Run is the program: it serves the Lambda Runtime API, with the jobs in DynamoDB and their dispatch through SNS.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var cfg intake.Config
	var table, topic string
	flags := config.NewFlags("jobs", "the jobs function of jobgate, run by AWS Lambda", stderr)
	if done, err := flags.ParseFunction(ctx, args, stdout, getenv, ssm.Parameters(getenv), func(env *config.Env) {
		cfg = intake.LoadConfig(env, 1)
		cfg.Retries = env.FunctionRetryPolicies()
		table = env.Required("JOBS_TABLE", "jobgate-jobs")
		topic = env.Topic(true)
	}); done {
		return err
	}
	aws, err := cloud.Load(getenv)
	if err != nil {
		return err
	}
	store := dynamodb.NewStore(awsdynamodb.NewFromConfig(aws), table, dynamodb.Options{})
	metrics := emf.New(stdout, getenv("AWS_LAMBDA_FUNCTION_NAME"), nil)
	function := New(cfg, intake.Backend{
		Store: store, Schedule: store, Dispatcher: metrics.Dispatcher(sns.NewDispatcher(awssns.NewFromConfig(aws), topic, "jobgate")),
	}, zaplog.JSON(stderr, cfg.LogLevel))
	function.swept = metrics.Swept
	lambda.StartWithOptions(function, lambda.WithContext(ctx))
	return nil
}

// Main runs the program and exits.
func Main() { config.MainFunction(Run) }
