// Package prometheus counts what a process does, by decorators over ports, for Prometheus to scrape. No label is a
// caller's free text: a job is counted by the pattern of its handler and a request by the pattern of its route, so that
// the number of series is bounded by the program and its settings.
package prometheus

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/jobgate/jobgate/adapters/wire/exchange"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Buckets of the histograms, in seconds. A run may take milliseconds or the 15 minutes of a Lambda function; a job may
// wait behind a backlog of an hour.
var (
	requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	runBuckets     = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900}
	waitBuckets    = []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}
)

// Bounds of a scrape: those under way at once, and the time that one gets.
const (
	scrapes       = 3
	scrapeTimeout = 10 * time.Second
)

// Metrics are the counts of one process, in a registry of their own. Use New. All methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	pattern  func(name string) string

	submissions   *prometheus.CounterVec
	settled       *prometheus.CounterVec
	runs          *prometheus.HistogramVec
	waits         *prometheus.HistogramVec
	inFlight      *prometheus.GaugeVec
	deliveries    *prometheus.CounterVec
	dispatches    *prometheus.CounterVec
	verifications *prometheus.CounterVec
	requests      *prometheus.CounterVec
	durations     *prometheus.HistogramVec
	faults        *prometheus.CounterVec
}

// New returns metrics that are all zero. pattern returns the pattern of the handler that jobs of a name have, "" for
// none, as jobs.Handlers does; version is what the process was built from.
func New(version string, pattern func(name string) string) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		pattern:  pattern,

		submissions: counter("jobgate_submissions_total",
			"Answers to submissions by outcome (created, replayed, refused) and the refusal's reason.", "outcome", "reason"),
		settled: counter("jobgate_jobs_settled_total",
			"What runs and claims of jobs came to, by handler pattern, status (succeeded, retried, dead, cancelled) and reason.",
			"pattern", "status", "reason"),
		runs: histogram("jobgate_run_duration_seconds",
			"How long handlers ran, by handler pattern and outcome (succeeded, failed, panicked).", runBuckets, "pattern", "outcome"),
		waits: histogram("jobgate_queue_wait_seconds",
			"How long jobs waited from their due time to the start of their run, by handler pattern.", waitBuckets, "pattern"),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "jobgate_runs_in_flight", Help: "Handlers that run now, by handler pattern.",
		}, []string{"pattern"}),
		deliveries: counter("jobgate_deliveries_total",
			"What deliveries came to, by verdict (ack, return, dead-letter) and reason.", "verdict", "reason"),
		dispatches: counter("jobgate_dispatches_total",
			"Jobs handed to the broker, by result: ok, or the kind of error.", "result"),
		verifications: counter("jobgate_token_verifications_total",
			"Tokens verified, by result: ok, or the reason of the refusal.", "result"),
		requests: counter("jobgate_http_requests_total",
			"Requests to the API by method, route pattern and status code.", "method", "route", "code"),
		durations: histogram("jobgate_http_request_duration_seconds",
			"How long answers of the API took, by method and route pattern.", requestBuckets, "method", "route"),
		faults: counter("jobgate_faults_total",
			"Faults of the process's own parts that no caller was told of, by part.", "part"),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "jobgate_build_info", Help: "Always 1; its label says what the process was built from.",
	}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(
		m.submissions, m.settled, m.runs, m.waits, m.inFlight, m.deliveries, m.dispatches, m.verifications, m.requests, m.durations, m.faults,
		build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Scrape returns a handler that answers GET /metrics, and nothing else.
func (m *Metrics) Scrape() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: scrapes, Timeout: scrapeTimeout,
	}))
	return mux
}

// API counts and times the requests to the REST API.
func (m *Metrics) API(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		exchange.Serve(next, w, r, func(e exchange.Exchange) {
			m.requests.WithLabelValues(e.Method, e.Route, strconv.Itoa(e.Status)).Inc()
			m.durations.WithLabelValues(e.Method, e.Route).Observe(time.Since(begin).Seconds())
			switch {
			case !submits(e.Method, e.Route):
			case e.Status == http.StatusCreated:
				m.submissions.WithLabelValues("created", "").Inc()
			case e.Status == http.StatusOK:
				m.submissions.WithLabelValues("replayed", "").Inc()
			}
		})
	})
}

// Refused counts a request to a route of domain.Routes that was answered with err.
func (m *Metrics) Refused(method, route string, err error) {
	if submits(method, route) {
		m.submissions.WithLabelValues("refused", string(domain.ReasonOf(err))).Inc()
	}
}

func submits(method, route string) bool {
	for _, r := range domain.Routes {
		if r.Method == method && r.Pattern == route {
			return r.Action == domain.ActionSubmit
		}
	}
	return false
}

// Verifier counts what verifications come to.
func (m *Metrics) Verifier(next ports.TokenVerifier) ports.TokenVerifier { return verifier{next, m} }

type verifier struct {
	next ports.TokenVerifier
	m    *Metrics
}

func (v verifier) Verify(ctx context.Context, token string) (domain.Principal, error) {
	who, err := v.next.Verify(ctx, token)
	result := "ok"
	if err != nil {
		result = string(domain.ReasonOf(err))
	}
	v.m.verifications.WithLabelValues(result).Inc()
	return who, err
}

// Dispatcher counts what dispatches come to.
func (m *Metrics) Dispatcher(next ports.JobDispatcher) ports.JobDispatcher {
	return dispatcher{next, m}
}

type dispatcher struct {
	ports.JobDispatcher
	m *Metrics
}

func (d dispatcher) Dispatch(ctx context.Context, job domain.Job) error {
	err := d.JobDispatcher.Dispatch(ctx, job)
	result := "ok"
	if err != nil {
		result = strings.ReplaceAll(domain.KindOf(err).String(), " ", "_")
	}
	d.m.dispatches.WithLabelValues(result).Inc()
	return err
}

// Deliver counts what deliveries come to.
func (m *Metrics) Deliver(next ports.Deliver) ports.Deliver {
	return func(ctx context.Context, d domain.Delivery) domain.Disposition {
		disposition := next(ctx, d)
		m.deliveries.WithLabelValues(disposition.Verdict.String(), string(disposition.Reason)).Inc()
		return disposition
	}
}

// Handler counts the runs under way, and times them and what their jobs have waited.
func (m *Metrics) Handler(next ports.JobHandler) ports.JobHandler { return handler{next, m} }

type handler struct {
	next ports.JobHandler
	m    *Metrics
}

func (h handler) Handle(ctx context.Context, run ports.Run) (output []byte, err error) {
	pattern := h.m.label(run.Job.Name)
	if wait, ok := run.Job.Waited(); ok {
		h.m.waits.WithLabelValues(pattern).Observe(wait.Seconds())
	}
	running := h.m.inFlight.WithLabelValues(pattern)
	running.Inc()
	begin, outcome := time.Now(), "panicked"
	defer func() {
		running.Dec()
		h.m.runs.WithLabelValues(pattern, outcome).Observe(time.Since(begin).Seconds())
	}()
	output, err = h.next.Handle(ctx, run)
	outcome = "succeeded"
	if err != nil {
		outcome = "failed"
	}
	return output, err
}

// Settled counts what each run, or each claim that is no run, came to, and then tells next of it.
func (m *Metrics) Settled(next func(domain.Job)) func(domain.Job) {
	return func(job domain.Job) {
		status := string(job.Status)
		if job.Status == domain.Queued {
			status = "retried"
		}
		m.settled.WithLabelValues(m.label(job.Name), status, string(job.Reason)).Inc()
		next(job)
	}
}

func (m *Metrics) label(name string) string {
	if pattern := m.pattern(name); pattern != "" {
		return pattern
	}
	return "none"
}

// Fault counts a fault of a part of the process, whose name is the program's own.
func (m *Metrics) Fault(part string) { m.faults.WithLabelValues(part).Inc() }
