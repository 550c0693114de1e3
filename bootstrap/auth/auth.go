// Package auth is the Lambda function that decides at the gate: API Gateway's authorizer.
package auth

import (
	"context"
	"io"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/adapters/emf"
	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/ssm"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/invocation"
	"github.com/jobgate/jobgate/bootstrap/config/tokens"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/access"
	"github.com/jobgate/jobgate/ports"
)

// prefetchTimeout bounds the fetching of keys at init, for which Lambda gives 10 s in all.
const prefetchTimeout = 5 * time.Second

// Config are the function's settings.
type Config struct {
	Tokens   tokens.Settings
	Policy   domain.AccessPolicy
	LogLevel string
}

// LoadConfig reads settings none of which names a parameter, and returns every mistake in them at once.
func LoadConfig(getenv func(string) string) (Config, error) {
	env := config.From(getenv)
	cfg := load(env)
	return cfg, env.Err()
}

func load(env *config.Env) Config {
	cfg := Config{Tokens: tokens.Load(env), LogLevel: env.OneOf("LOG_LEVEL", zaplog.Levels...)}
	cfg.Policy = env.AccessPolicy(cfg.Tokens.Trusted())
	return cfg
}

// Function is the authorizer function.
type Function struct {
	verifier   *oidc.Verifier
	authorizer *apigateway.Authorizer
}

// New returns the function. background says that the process lives on between two calls, as it does everywhere but on
// Lambda, so that keys can be fetched ahead.
func New(cfg Config, background bool, log *zap.Logger) (*Function, error) {
	return create(cfg, background, log, func(v ports.TokenVerifier) ports.TokenVerifier { return v })
}

// create is New with a decorator of the verifier.
func create(cfg Config, background bool, log *zap.Logger, decorate func(ports.TokenVerifier) ports.TokenVerifier) (*Function, error) {
	verifier, err := cfg.Tokens.Verifier(oidc.Options{Background: background, Log: zaplog.Attrs(log)})
	if err != nil {
		return nil, err
	}
	gate := &access.Gate{Verifier: decorate(verifier), Policy: cfg.Policy}
	authorizer, err := apigateway.NewAuthorizer(gate, domain.Routes, decisions(log))
	if err != nil {
		_ = verifier.Close() // it has not been used
		return nil, err
	}
	return &Function{verifier: verifier, authorizer: authorizer}, nil
}

// Prefetch has the issuers' keys at hand before the first call.
func (f *Function) Prefetch(ctx context.Context) error { return f.verifier.Prefetch(ctx) }

// Invoke answers one authorizer event.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	return f.authorizer.Invoke(invocation.Context(ctx), event)
}

// Close ends the fetching of keys.
func (f *Function) Close() error { return f.verifier.Close() }

// decisions logs one line for each decision. A 403 at the gate bears the decision's id; a 401 has no more than the
// gateway's request id, whose access log line names the invocation that is logged here.
func decisions(log *zap.Logger) func(context.Context, apigateway.Decision) {
	return func(ctx context.Context, d apigateway.Decision) {
		level, line := zapcore.DebugLevel, "let in at the gate"
		switch {
		case d.Reason != "":
			level, line = zapcore.WarnLevel, "refused at the gate"
		case len(d.Refused) > 0:
			level, line = zapcore.InfoLevel, "let in at the gate, but not for every action"
		}
		if !log.Core().Enabled(level) { // asked before anything is made for a line that nobody reads
			return
		}
		fields := []zap.Field{zap.String("decision_id", d.ID)}
		if d.RequestID != "" {
			fields = append(fields, zap.String("request_id", d.RequestID))
		}
		switch {
		case d.Reason != "":
			fields = append(fields, zap.String("reason", string(d.Reason)))
		case len(d.Refused) > 0:
			fields = append(fields, zap.Object("refused", refusals(d.Refused)))
		}
		zaplog.From(ctx, log).Log(level, line, fields...)
	}
}

// refusals are an object in the log: the reason by the action.
type refusals []apigateway.Refusal

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (r refusals) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	for _, refusal := range r {
		enc.AddString(string(refusal.Action), string(refusal.Reason))
	}
	return nil
}

// Run is the program: it serves the Lambda Runtime API.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var cfg Config
	flags := config.NewFlags("auth", "the authorizer function of jobgate, run by AWS Lambda", stderr)
	if done, err := flags.ParseFunction(ctx, args, stdout, getenv, ssm.Parameters(getenv), func(env *config.Env) { cfg = load(env) }); done {
		return err
	}
	log := zaplog.JSON(stderr, cfg.LogLevel)
	metrics := emf.New(stdout, getenv("AWS_LAMBDA_FUNCTION_NAME"), nil)
	function, err := create(cfg, false, log, metrics.Verifier)
	if err != nil {
		return err
	}
	prefetch, cancel := context.WithTimeout(ctx, prefetchTimeout)
	defer cancel()
	if err := function.Prefetch(prefetch); err != nil {
		log.Warn("the keys could not be fetched ahead; the first call fetches them", zap.Error(err))
	}
	lambda.StartWithOptions(function, lambda.WithContext(ctx))
	return nil
}

// Main runs the program and exits.
func Main() { config.MainFunction(Run) }
