// Package service runs the parts of a program that serves until it is told to stop, and then lets what runs finish.
package service

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Bounds of HTTP. A request that waits for a function behind a gateway gets as long as API Gateway would give it.
const (
	headerTimeout   = 5 * time.Second
	readTimeout     = 30 * time.Second
	writeTimeout    = time.Minute
	idleTimeout     = 2 * time.Minute
	maxHeader       = 16 << 10         // bytes
	shutdownTimeout = 10 * time.Second // for requests under way, once told to stop
)

// A Part of a service runs until ctx ends. What it has begun by then may go on for as long as running does.
type Part func(ctx, running context.Context) error

// Service is a listener with a handler, and whatever else runs beside it.
type Service struct {
	Listener net.Listener // nil: nothing is served
	Handler  http.Handler
	Parts    []Part
	Drain    time.Duration // what running jobs get to finish in once the service is told to stop
	Log      *zap.Logger
}

// Run serves until ctx ends or a part fails. Then it takes nothing more, gives requests under way ten seconds and jobs
// the drain time, interrupts what is left, and returns when everything has ended: nil when it all went well.
func (s Service) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running, interrupt := context.WithCancel(context.WithoutCancel(ctx))
	defer interrupt()

	parts := s.Parts
	if s.Listener != nil {
		parts = append([]Part{Serve(s.Listener, s.Handler, s.Log)}, parts...)
	}
	ended := make(chan error, len(parts))
	for _, part := range parts {
		go func() { ended <- part(ctx, running) }()
	}
	left := len(parts)
	var failures []error
	select {
	case <-ctx.Done():
	case err := <-ended:
		left--
		failures = append(failures, err)
	}
	s.Log.Info("stopping", zap.Duration("running_jobs_have", s.Drain))
	stop()
	grace := time.AfterFunc(s.Drain, interrupt)
	defer grace.Stop()
	for range left {
		failures = append(failures, <-ended)
	}
	s.Log.Info("stopped")
	return errors.Join(failures...)
}

// Serve returns a part that answers requests, with bounds on every phase of them. When it is told to stop it takes no
// more, and gives those under way ten seconds.
func Serve(listener net.Listener, handler http.Handler, log *zap.Logger) Part {
	return func(ctx, running context.Context) error {
		server := &http.Server{
			Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
			IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: zap.NewStdLog(log),
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve(listener) }()
		select {
		case err := <-served: // it never ends well by itself
			return err
		case <-ctx.Done():
		}
		shutdown, cancel := context.WithTimeout(running, shutdownTimeout)
		defer cancel()
		err := server.Shutdown(shutdown)
		if err != nil {
			err = server.Close()
		}
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	}
}

// Every returns a part that calls do each interval. A call that fails is reported, and no reason to stop.
func Every(interval time.Duration, do func(context.Context) error, report func(error)) Part {
	return func(ctx, _ context.Context) error {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				if err := do(ctx); err != nil && ctx.Err() == nil {
					report(err)
				}
			}
		}
	}
}

// Health answers GET /healthz, always, and GET /readyz, when each check passes. What a failed check says is logged and
// not shown. The checks are made at most once a second, however often anybody asks.
func Health(log *zap.Logger, checks map[string]func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { Answer(w, http.StatusOK, "ok") })
	ready := &readiness{log: log, checks: checks}
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if missing := ready.missing(r.Context()); missing != "" {
			Answer(w, http.StatusServiceUnavailable, "not ready: "+missing)
			return
		}
		Answer(w, http.StatusOK, "ok")
	})
	return mux
}

const (
	checkEvery   = time.Second
	checkTimeout = 5 * time.Second
)

// readiness remembers what the checks said.
type readiness struct {
	log    *zap.Logger
	checks map[string]func(context.Context) error

	mu    sync.Mutex
	asked time.Time
	last  string
}

// missing returns the name of a check that fails, "" when none does.
func (r *readiness) missing(ctx context.Context) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked.IsZero() && time.Since(r.asked) < checkEvery {
		return r.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	r.last = ""
	for name, check := range r.checks {
		if err := check(ctx); err != nil {
			r.log.Error("not ready", zap.String("check", name), zap.Error(err))
			r.last = name
		}
	}
	r.asked = time.Now()
	return r.last
}

// Answer answers a request with a line of text.
func Answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
