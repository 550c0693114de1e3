// Package server is jobgate on servers: the REST API with bearer tokens verified in process, and the worker, in one
// process or in several that share a store and, where there is one, a broker.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/httpapi"
	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/opentelemetry"
	"github.com/jobgate/jobgate/adapters/prometheus"
	"github.com/jobgate/jobgate/adapters/rabbitmq"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/adapters/wire/bearer"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/intake"
	"github.com/jobgate/jobgate/bootstrap/config/runner"
	"github.com/jobgate/jobgate/bootstrap/config/service"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/access"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

const (
	poll            = time.Second // for what has become due
	prefetchTimeout = 5 * time.Second

	// gcPercent is GOGC where it is not set (https://pkg.go.dev/runtime#hdr-Environment_Variables). What a server keeps is
	// little beside what passes through it: with Go's default of 100 it collects many times a second, to save 10 MB.
	gcPercent = 200
)

// Main runs the program with the given handlers and exits; with none, and no webhooks, each job is logged and succeeds.
func Main(handlers jobs.Handlers) {
	config.Main(func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
		if getenv("GOGC") == "" {
			debug.SetGCPercent(gcPercent)
		}
		return Run(ctx, args, getenv, stdout, stderr, handlers)
	})
}

// Run is the program: it serves until ctx ends, then lets running jobs finish.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer, handlers jobs.Handlers) error {
	var cfg Config
	flags := config.NewFlags("server", "the API and the worker of jobgate, for servers", stderr)
	role := flags.String("role", roleAll, "what this process is: all, api or worker")
	if done, err := flags.Parse(args, stdout, func() (err error) {
		cfg, err = LoadConfig(getenv, *role, handlers)
		return err
	}); done {
		return err
	}
	s, err := start(ctx, cfg, handlers, zaplog.JSON(stderr, cfg.API.LogLevel))
	if err != nil {
		return err
	}
	defer s.close()
	if s.scraped != "" {
		if _, err := fmt.Fprintf(stdout, "metrics are at http://%s/metrics\n", s.scraped); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(stdout, "jobgate server (%s) listens on http://%s\n", cfg.Role, s.Listener.Addr()); err != nil {
		return err
	}
	return s.Run(ctx)
}

// server is the running whole.
type server struct {
	service.Service
	closers []func() error // in the order of opening
	checks  map[string]func(context.Context) error
	metrics *prometheus.Metrics
	scraped string                 // address of the metrics; empty: nowhere
	tracing *opentelemetry.Tracing // nil: there is none
}

// start opens and wires everything. What it returns is to be closed.
func start(ctx context.Context, cfg Config, handlers jobs.Handlers, log *zap.Logger) (_ *server, err error) {
	pattern := cfg.Worker.Handlers(handlers, log).Pattern
	s := &server{
		Service: service.Service{Drain: cfg.Drain, Log: log}, checks: map[string]func(context.Context) error{},
		metrics: prometheus.New(config.Version(), pattern),
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.trace(cfg.Tracing, pattern)
	if err := s.scrape(ctx, cfg.Metrics); err != nil {
		return nil, err
	}
	store, err := sqlstore.Open(ctx, string(cfg.Store), sqlstore.Options{Durability: cfg.Durability, Report: s.report("store")})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, store.Close)
	s.checks["store"] = store.Ready
	s.metrics.Queue(store.OldestDue)
	var worker *jobs.Worker
	if cfg.Role != roleAPI {
		worker = runner.New(cfg.Worker, store, handlers, log)
	}
	backend := intake.Backend{Store: store, Schedule: store}
	consumer, err := s.queue(cfg, store, &backend, worker)
	if err != nil {
		return nil, err
	}
	backend.Dispatcher = s.metrics.Dispatcher(zaplog.Dispatcher(backend.Dispatcher, log))
	if cfg.Broker == "" {
		s.Parts = append(s.Parts, service.Every(time.Minute, func(ctx context.Context) error {
			_, err := jobs.Expire(ctx, store)
			return err
		}, s.report("removal of expired jobs")))
	} else {
		sweep := &jobs.Sweep{Schedule: store, Dispatcher: backend.Dispatcher}
		s.Parts = append(s.Parts, service.Every(poll, func(ctx context.Context) error {
			_, err := sweep.Pass(ctx)
			return err
		}, s.report("due loop")))
	}
	if worker != nil {
		worker.Handler, worker.Settled = s.metrics.Handler(worker.Handler), s.metrics.Settled(worker.Settled)
		if s.tracing != nil {
			worker.Handler = s.tracing.Handler(worker.Handler)
		}
		deliver := s.metrics.Deliver(worker.Deliver)
		s.Parts = append(s.Parts, func(ctx, running context.Context) error {
			return consumer.Consume(ctx, func(_ context.Context, d domain.Delivery) domain.Disposition { return deliver(running, d) })
		})
	}
	api := http.NotFoundHandler()
	if cfg.Role != roleWorker {
		if api, err = s.api(ctx, cfg, backend); err != nil {
			return nil, err
		}
	}
	s.Handler = routes(service.Health(log, s.checks), api)
	if s.Listener, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	return s, nil
}

// queue sets how jobs reach a worker, this process's unless it is nil, and returns the worker's side of it: a broker, or
// the store itself.
func (s *server) queue(cfg Config, store *sqlstore.Store, backend *intake.Backend, worker *jobs.Worker) (ports.JobConsumer, error) {
	if cfg.Broker == "" {
		queue := jobs.NewQueue(store, time.Now, cfg.Concurrency, poll)
		queue.Report = s.report("queue")
		backend.Dispatcher, backend.StoreIsQueue = queue, true
		if worker != nil {
			queue.Claim = worker.Claim
			s.Parts = append(s.Parts, func(ctx, _ context.Context) error {
				if err := store.Listen(ctx, queue.Wake); err != nil {
					return err
				}
				<-ctx.Done() // a store that tells nobody is done at once
				return nil
			})
		}
		return queue, nil
	}
	broker, err := rabbitmq.Open(string(cfg.Broker), rabbitmq.Options{Report: s.report("broker")})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() error {
		broker.Close()
		return nil
	})
	s.checks["broker"] = broker.Ready
	backend.Dispatcher = rabbitmq.NewDispatcher(broker, "jobgate")
	consumer := rabbitmq.NewConsumer(broker, cfg.Concurrency)
	consumer.LegacyQueue = cfg.LegacyQueue
	if worker != nil {
		worker.MaxRun = rabbitmq.MaxRunTimeout
		s.checks["consumer"] = consumer.Ready
	}
	return consumer, nil
}

// api returns the REST API behind a gate of its own.
func (s *server) api(ctx context.Context, cfg Config, backend intake.Backend) (http.Handler, error) {
	verifier, err := cfg.Tokens.Verifier(oidc.Options{Background: true, Log: zaplog.Attrs(s.Log)})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, verifier.Close)
	s.checks["keys"] = verifier.Prefetch // no more than a look once they are there
	prefetch, cancel := context.WithTimeout(ctx, prefetchTimeout)
	defer cancel()
	if err := verifier.Prefetch(prefetch); err != nil {
		s.Log.Warn("the keys could not be fetched ahead; the first request fetches them", zap.Error(err))
	}
	gate := &access.Gate{Verifier: s.metrics.Verifier(verifier), Policy: cfg.API.Policy}
	api := s.metrics.API(intake.New(cfg.API, backend, intake.Front{
		Identify: identify(gate),
		Refused:  func(f httpapi.Failure) { s.metrics.Refused(f.Method, f.Route, f.Err) },
	}, s.Log))
	if s.tracing != nil {
		api = s.tracing.API(api)
	}
	return api, nil
}

// identify lets the bearer of a token in whom the policy allows the route's action at all: it is decided here, before
// anything of the request is looked at, as a gateway would.
func identify(gate *access.Gate) func(*http.Request) (domain.Principal, error) {
	actions := map[string]domain.Action{}
	for _, route := range domain.Routes {
		actions[route.Method+" "+route.Pattern] = route.Action
	}
	return func(r *http.Request) (domain.Principal, error) {
		if len(r.Header.Values("Authorization")) > 1 {
			return domain.Principal{}, domain.Errorf(domain.Unauthenticated, domain.ReasonInvalidToken, "there are several credentials")
		}
		token, err := bearer.Token(r.Header.Get("Authorization"))
		if err != nil {
			return domain.Principal{}, err
		}
		who, err := gate.Enter(r.Context(), token)
		if err != nil {
			return domain.Principal{}, err
		}
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		return who, gate.May(who, actions[method+" "+r.Pattern]).Err()
	}
}

// routes puts the health checks beside the API, which has to see every other path as it was sent.
func routes(health, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			health.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// report returns what a part of the process tells of faults that no caller is told of.
func (s *server) report(part string) func(error) {
	return func(err error) {
		s.metrics.Fault(part)
		s.Log.Error(part, zap.Error(err))
	}
}

func (s *server) close() {
	var errs []error
	for _, closer := range slices.Backward(s.closers) {
		errs = append(errs, closer())
	}
	if s.Listener != nil {
		_ = s.Listener.Close() // usually closed by the server already
	}
	if err := errors.Join(errs...); err != nil {
		s.Log.Error("not closed cleanly", zap.Error(err))
	}
}
