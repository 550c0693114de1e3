// Package local is the whole service in one process on a laptop: an OIDC provider, the gateway in front of the very
// functions that are deployed to Lambda, and SQLite as their store and queue.
package local

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/localgateway"
	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/auth"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/intake"
	"github.com/jobgate/jobgate/bootstrap/config/service"
	"github.com/jobgate/jobgate/bootstrap/config/tokens"
	"github.com/jobgate/jobgate/bootstrap/jobs"
	"github.com/jobgate/jobgate/bootstrap/local/idp"
	"github.com/jobgate/jobgate/bootstrap/worker"
	"github.com/jobgate/jobgate/domain"
	domainjobs "github.com/jobgate/jobgate/domain/jobs"
)

const (
	audience    = "jobgate" // of the built-in provider's access tokens
	providerDir = "/oidc"   // where the built-in provider is mounted

	poll        = 250 * time.Millisecond // for what has become due
	expireEvery = time.Minute
)

// bearer is the validation expression of the identity source: what cannot be a bearer token is refused without asking
// the authorizer.
var bearer = regexp.MustCompile(`^(?i:bearer) +[A-Za-z0-9._~+/=-]+$`)

// Main runs the program with the given handlers and exits; with none, and no webhooks, each job is logged and succeeds.
func Main(handlers domainjobs.Handlers) {
	config.Main(func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
		return Run(ctx, args, getenv, stdout, stderr, handlers)
	})
}

// Run is the program: it serves until ctx ends, then lets running jobs finish. With -demo it shows a job's way on a
// service of its own and returns.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer, handlers domainjobs.Handlers) error {
	var cfg Config
	flags := config.NewFlags("local", "the whole of jobgate in one process, for a laptop", stderr)
	demo := flags.Bool("demo", false, "log in, submit a job, watch it succeed on free ports and a temporary directory, and exit")
	rotate := flags.Bool("rotate-keys", false, "sign tokens with a new key from this start on; those of the old key stay valid until they expire")
	if done, err := flags.Parse(args, stdout, func() (err error) {
		cfg, err = LoadConfig(getenv, handlers)
		return err
	}); done {
		return err
	}
	if *demo {
		return runDemo(ctx, stdout, stderr, handlers)
	}
	if *rotate && cfg.Tokens != nil {
		return fmt.Errorf("%w: -rotate-keys is about the built-in provider, and the settings name another", config.ErrUsage)
	}
	cfg.RotateKeys = *rotate
	s, err := start(ctx, cfg, handlers, zaplog.Console(stderr, cfg.API.LogLevel))
	if err != nil {
		return err
	}
	s.welcome(stdout)
	return s.serve(ctx)
}

// local is the running whole.
type local struct {
	cfg      Config
	log      *zap.Logger
	listener net.Listener
	url      string // of the API
	issuer   string // of the built-in provider, empty without it
	store    *sqlstore.Store
	queue    *domainjobs.Queue
	provider *idp.Provider // nil when tokens come from elsewhere
	auth     *auth.Function
	run      localgateway.Function // the worker's
	handler  http.Handler
}

// start opens and wires everything. What it returns is to be served, which closes it.
func start(ctx context.Context, cfg Config, handlers domainjobs.Handlers, log *zap.Logger) (_ *local, err error) {
	s := &local{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("DATA_DIR: %w", err)
	}
	// The store first: its lock is what keeps a second process out of the directory.
	s.store, err = sqlstore.Open(ctx, "sqlite:"+filepath.Join(cfg.DataDir, "jobs.sqlite"), sqlstore.Options{
		Durability: cfg.Durability, Exclusive: true, Report: report(log, "store"),
	})
	if err != nil {
		return nil, err
	}
	s.queue = domainjobs.NewQueue(s.store, time.Now, cfg.Concurrency, poll)
	s.queue.Report = report(log, "queue")
	s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	s.url = "http://" + s.listener.Addr().String()
	accepted, err := s.tokens()
	if err != nil {
		return nil, err
	}
	s.auth, err = auth.New(cfg.authConfig(accepted), true, log)
	if err != nil {
		return nil, err
	}
	api := jobs.New(cfg.API, intake.Backend{Store: s.store, Schedule: s.store, Dispatcher: s.queue, StoreIsQueue: true}, log)
	s.run = worker.New(cfg.Worker, s.store, handlers, log).Invoke
	gateway, err := localgateway.New(localgateway.Options{
		Authorizer: s.auth.Invoke, Integration: api.Invoke, Routes: domain.Routes, IdentityValidation: bearer,
		TTL: cfg.TTL, MaxBody: cfg.API.MaxBody, CORSOrigin: cfg.API.Origin, Log: accessLog(log),
	})
	if err != nil {
		return nil, err
	}
	s.handler = s.routes(gateway)
	return s, nil
}

func report(log *zap.Logger, from string) func(error) {
	return func(err error) { log.Error(from, zap.Error(err)) }
}

// tokens returns whose tokens are accepted: the configured issuers', or the built-in provider's, which it creates.
func (s *local) tokens() (tokens.Settings, error) {
	if s.cfg.Tokens != nil {
		return *s.cfg.Tokens, nil
	}
	s.issuer = s.url + providerDir
	provider, err := idp.New(idp.Options{
		Issuer: s.issuer, Dir: filepath.Join(s.cfg.DataDir, "provider"), Audience: audience,
		RotateKeys: s.cfg.RotateKeys, Logger: s.log.Named("provider"),
	})
	if err != nil {
		return tokens.Settings{}, err
	}
	s.provider = provider
	// The provider's library logs what it refuses to slog's default, with more of the request than a log should have.
	slog.SetDefault(slog.New(slog.DiscardHandler)) //nolint:forbidigo // to silence it
	return tokens.Settings{Issuers: []oidc.Issuer{{
		Issuer: s.issuer, Audience: []string{audience}, Leeway: time.Minute,
	}}}, nil
}

// routes puts the provider and the health checks beside the gateway, all of them for this machine's names alone: a
// page of another site whose name was pointed here (DNS rebinding) gets 421.
func (s *local) routes(gateway http.Handler) http.Handler {
	health := service.Health(s.log, map[string]func(context.Context) error{"store": s.store.Ready})
	provider := http.NotFoundHandler()
	if s.provider != nil {
		provider = s.provider.Handler()
	}
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch host, p, err := net.SplitHostPort(r.Host); {
		case err != nil || p != port || !loopback(host):
			service.Answer(w, http.StatusMisdirectedRequest, "this service answers to 127.0.0.1, localhost and [::1] only")
		case r.URL.Path == "/healthz", r.URL.Path == "/readyz":
			health.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, providerDir+"/"):
			provider.ServeHTTP(w, r)
		default:
			gateway.ServeHTTP(w, r)
		}
	})
}

func accessLog(log *zap.Logger) func(context.Context, localgateway.Access) {
	return func(_ context.Context, a localgateway.Access) {
		fields := []zap.Field{
			zap.String("request_id", a.RequestID), zap.String("method", a.Method), zap.String("resource", a.Resource),
			zap.Int("status", a.Status), zap.Duration("took", a.Took),
		}
		if a.InvocationID != "" {
			fields = append(fields, zap.String("invocation_id", a.InvocationID))
		}
		if a.DecisionID != "" {
			fields = append(fields, zap.String("decision_id", a.DecisionID))
		}
		if a.Err != nil {
			log.Error("request", append(fields, zap.Error(a.Err))...)
			return
		}
		log.Info("request", fields...)
	}
}

// serve runs the service until ctx ends or a part of it fails, and closes it. Jobs that are interrupted at the end of
// the drain time are run again by the next start.
func (s *local) serve(ctx context.Context) error {
	defer s.close()
	return service.Service{
		Listener: s.listener, Handler: s.handler, Drain: s.cfg.Drain, Log: s.log,
		Parts: []service.Part{
			func(ctx, running context.Context) error { return s.queue.Consume(ctx, s.feed(running)) },
			service.Every(expireEvery, s.expire, report(s.log, "expired jobs could not be removed")),
		},
	}.Run(ctx)
}

func (s *local) expire(ctx context.Context) error {
	_, err := domainjobs.Expire(ctx, s.store)
	return err
}

func (s *local) close() {
	if s.listener != nil {
		_ = s.listener.Close() // usually closed by the server already
	}
	if s.auth != nil {
		_ = s.auth.Close() // ends its fetches
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("the store was not closed cleanly", zap.Error(err))
		}
	}
}
