package server_test

import (
	stdcmp "cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/httpapi/httpapitest"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/server"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
	traceParent  = "00-" + callersTrace + "-" + callersSpan + "-01"
)

// collector keeps the spans that are exported to it.
type collector struct {
	url string

	mu    sync.Mutex
	auth  string
	spans []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var traces tracepb.TracesData
		if err = errors.Join(err, proto.Unmarshal(body, &traces)); err != nil {
			t.Errorf("exported: %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.auth = r.Header.Get("Api-Key")
		for _, resource := range traces.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

// span waits for the span with the name, in the caller's trace.
func (c *collector) span(t *testing.T, name string) *tracepb.Span {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		c.mu.Lock()
		spans := slices.Clone(c.spans)
		c.mu.Unlock()
		for _, span := range spans {
			if span.Name == name && hex.EncodeToString(span.TraceId) == callersTrace {
				return span
			}
		}
	}
	t.Fatalf("no span %q came, but %v", name, c.spans)
	return nil
}

// scrape returns a counter or gauge's value, or a histogram's count, by labels; nil when there is no such metric.
func scrape(t *testing.T, url, name string) map[string]float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %d, %v", url, resp.StatusCode, err)
	}
	var series map[string]float64
	for _, m := range families[name].GetMetric() {
		var labels []string
		for _, label := range m.Label {
			labels = append(labels, label.GetValue())
		}
		if series == nil {
			series = map[string]float64{}
		}
		series[strings.Join(labels, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return series
}

// awaitMetric scrapes until the metric is as wanted.
func awaitMetric(t *testing.T, url, name string, want map[string]float64) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := scrape(t, url, name)
		if cmp.Equal(want, got) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%s (-want +got):\n%s", name, cmp.Diff(want, got))
		}
	}
}

// freeAddress is one that nobody listens at just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// submitTraced submits a job of the name, as part of the caller's trace.
func (c client) submitTraced(t *testing.T, name string) {
	t.Helper()
	body := fmt.Sprintf(`{"name":%q}`, name)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/jobs", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Traceparent", traceParent)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err == nil {
		err = httpapitest.Breach(req, body, resp.StatusCode, resp.Header, data)
	}
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("POST /jobs: %d %s, %v", resp.StatusCode, data, err)
	}
}

func TestATraceGoesFromTheRequestToTheRun(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T) []string{
		"the store is the queue": func(t *testing.T) []string { return []string{"DATA_DIR", t.TempDir()} },
		"RabbitMQ": func(t *testing.T) []string {
			return []string{"DATA_DIR", t.TempDir(), "BROKER_URL", adaptertest.RabbitMQ(t).URL}
		},
	}
	for name, settings := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			ran := make(chan string, 1)
			url := run(t, original(append(settings(t), "OTEL_EXPORTER_OTLP_ENDPOINT", c.url, "OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20key")...),
				jobs.Handlers{"test-*": func(_ context.Context, r jobs.Run) ([]byte, error) {
					ran <- r.Job.TraceParent
					return nil, nil
				}})
			newClient(t, url).submitTraced(t, "test-job")
			request, consumer := c.span(t, "POST /jobs"), c.span(t, "process test-*")
			if hex.EncodeToString(request.ParentSpanId) != callersSpan || request.Kind != tracepb.Span_SPAN_KIND_SERVER {
				t.Errorf("the request's span is %v, want a child of the caller's", request)
			}
			if !slices.Equal(consumer.ParentSpanId, request.SpanId) || consumer.Kind != tracepb.Span_SPAN_KIND_CONSUMER {
				t.Errorf("the run's span is %v, want a child of the request's, %x", consumer, request.SpanId)
			}
			if got, want := <-ran, fmt.Sprintf("00-%s-%x-01", callersTrace, consumer.SpanId); got != want {
				t.Errorf("the handler got %s, want %s", got, want)
			}
			if c.auth != "a key" {
				t.Errorf("exported with the key %q", c.auth)
			}
		})
	}
	t.Run("without tracing the caller's own is carried", func(t *testing.T) {
		t.Parallel()
		ran := make(chan string, 1)
		url := run(t, original("DATA_DIR", t.TempDir()), jobs.Handlers{"*": func(_ context.Context, r jobs.Run) ([]byte, error) {
			ran <- r.Job.TraceParent
			return nil, nil
		}})
		newClient(t, url).submitTraced(t, "test-job")
		if got := <-ran; got != traceParent {
			t.Errorf("the handler got %q", got)
		}
	})
	t.Run("a collector out of reach is in nobody's way", func(t *testing.T) {
		t.Parallel()
		nowhere := "http://" + freeAddress(t)
		newClient(t, run(t, original("DATA_DIR", t.TempDir(), "OTEL_EXPORTER_OTLP_ENDPOINT", nowhere), nil)).travels(t)
	})
}

func TestMetricsAreServedAtAnAddressOfTheirOwn(t *testing.T) {
	t.Parallel()
	store, broker := adaptertest.Postgres(t).Database(t), adaptertest.RabbitMQ(t)
	settings := func(address string) map[string]string {
		return original("STORE_URL", store, "BROKER_URL", broker.URL, "METRICS_ADDR", address)
	}
	workers, apis := freeAddress(t), freeAddress(t)
	held := make(chan struct{})
	run(t, settings(workers), jobs.Handlers{
		"report.*": func(context.Context, jobs.Run) ([]byte, error) { return nil, nil },
		"doomed":   func(context.Context, jobs.Run) ([]byte, error) { return nil, domain.Permanent(errors.New("boom")) },
		"held": func(ctx context.Context, _ jobs.Run) ([]byte, error) {
			select {
			case <-held:
			case <-ctx.Done():
			}
			return nil, nil
		},
	}, "-role=worker")
	url := run(t, settings(apis), nil, "-role=api")
	worker, api := "http://"+workers+"/metrics", "http://"+apis+"/metrics"

	c := newClient(t, url)
	for _, name := range []string{"report.daily", "report.weekly", "report.x-" + strings.Repeat("y", 100), "doomed", "held"} {
		c.submitTraced(t, name)
	}
	if status, _ := (client{url, c.token + "x"}).do(t, http.MethodGet, "/jobs", ""); status != http.StatusUnauthorized {
		t.Errorf("with a false token: %d", status)
	}
	if status, _ := c.do(t, http.MethodPost, "/jobs", `{"name":"-"}`); status != http.StatusUnprocessableEntity {
		t.Errorf("with a bad name: %d", status)
	}
	awaitMetric(t, worker, "jobgate_jobs_settled_total", map[string]float64{"report.*  succeeded": 3, "doomed permanent dead": 1})
	awaitMetric(t, worker, "jobgate_runs_in_flight", map[string]float64{"report.*": 0, "doomed": 0, "held": 1})
	close(held)
	awaitMetric(t, worker, "jobgate_run_duration_seconds", map[string]float64{"succeeded report.*": 3, "failed doomed": 1, "succeeded held": 1})
	awaitMetric(t, worker, "jobgate_queue_wait_seconds", map[string]float64{"report.*": 3, "doomed": 1, "held": 1})
	awaitMetric(t, worker, "jobgate_deliveries_total", map[string]float64{" ack": 4, "permanent ack": 1})
	awaitMetric(t, api, "jobgate_token_verifications_total", map[string]float64{"ok": 6, "invalid_signature": 1})
	awaitMetric(t, api, "jobgate_submissions_total", map[string]float64{"created ": 5, "refused invalid_fields": 1})
	awaitMetric(t, api, "jobgate_dispatches_total", map[string]float64{"ok": 5})
	awaitMetric(t, api, "jobgate_http_requests_total", map[string]float64{"201 POST /jobs": 5, "422 POST /jobs": 1, "401 GET /jobs": 1})
	for _, url := range []string{worker, api} {
		awaitMetric(t, url, "jobgate_queue_age_seconds", map[string]float64{"": 0})
		awaitMetric(t, url, "jobgate_build_info", map[string]float64{config.Version(): 1})
	}
	if status, _ := (client{url: url}).do(t, http.MethodGet, "/metrics", ""); status != http.StatusNotFound {
		t.Errorf("GET /metrics of the API: %d", status)
	}
}

func TestTheQueueAgesWhileNobodyWorks(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	newClient(t, run(t, original("DATA_DIR", t.TempDir(), "METRICS_ADDR", address), nil, "-role=api")).submitTraced(t, "test-job")
	age := func() float64 { return scrape(t, "http://"+address+"/metrics", "jobgate_queue_age_seconds")[""] }
	for limit := time.Now().Add(30 * time.Second); age() < .5; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the queue's age is %v s", age())
		}
	}
}

func TestAnAddressInUseIsNamed(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	env := original("DATA_DIR", t.TempDir(), "METRICS_ADDR", listener.Addr().String())
	err = server.Run(t.Context(), nil, func(name string) string { return env[name] }, io.Discard, io.Discard, nil)
	if err == nil || !strings.Contains(err.Error(), "METRICS_ADDR") {
		t.Errorf("Run = %v", err)
	}
}

func TestTheSettingsOfTelemetry(t *testing.T) {
	t.Parallel()
	const base, traces = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	load := func(settings ...string) (server.Config, error) {
		env := original(settings...)
		return server.LoadConfig(func(name string) string { return env[name] }, "all", nil)
	}
	good := map[string]struct {
		settings []string
		want     server.Tracing
	}{
		"nothing":                    {nil, server.Tracing{}},
		"nothing says where to":      {[]string{"OTEL_TRACES_SAMPLER", "nonsense", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, server.Tracing{}},
		"a collector":                {[]string{base, "http://127.0.0.1:4318"}, server.Tracing{Endpoint: "http://127.0.0.1:4318/v1/traces", Ratio: 1}},
		"a collector below a path":   {[]string{base, "https://otlp.example.com/otlp/"}, server.Tracing{Endpoint: "https://otlp.example.com/otlp/v1/traces", Ratio: 1}},
		"one for traces comes first": {[]string{base, "http://other", traces, "https://traces.example.com/in?x=1"}, server.Tracing{Endpoint: "https://traces.example.com/in?x=1", Ratio: 1}},
		"all of it": {
			[]string{
				base, "http://c", "OTEL_SERVICE_NAME", "intake", "OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0.25",
				"OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%2Cb==, x = y ", "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf",
			},
			server.Tracing{
				Endpoint: "http://c/v1/traces", Service: "intake", Sampler: "parentbased_traceidratio", Ratio: .25,
				Headers: map[string]config.Secret{"api-key": "a,b==", "x": "y"},
			},
		},
		"headers for traces come first": {
			[]string{base, "http://c", "OTEL_EXPORTER_OTLP_HEADERS", "a=b", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "c=d"},
			server.Tracing{Endpoint: "http://c/v1/traces", Ratio: 1, Headers: map[string]config.Secret{"c": "d"}},
		},
	}
	for name, tt := range good {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.want.Endpoint != "" {
				tt.want.Service = stdcmp.Or(tt.want.Service, "jobgate")
				tt.want.Sampler = stdcmp.Or(tt.want.Sampler, "parentbased_always_on")
				if tt.want.Headers == nil {
					tt.want.Headers = map[string]config.Secret{}
				}
			}
			cfg, err := load(tt.settings...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, cfg.Tracing); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if printed := fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg); strings.Contains(printed, "a,b==") {
				t.Error("the secret is printed")
			}
		})
	}
	bad := []struct {
		name     string
		settings []string
		want     []string // each named
	}{
		{"no URL", []string{base, "collector:4318"}, []string{base}},
		{"another scheme", []string{traces, "grpc://collector:4317"}, []string{traces}},
		{"credentials", []string{base, "http://user:hunter2@collector"}, []string{base}},
		{"all at once", []string{
			base, "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_TRACES_SAMPLER", "sometimes", "OTEL_TRACES_SAMPLER_ARG", "NaN",
			"OTEL_EXPORTER_OTLP_HEADERS", "fine=1,hunter2,a b=hunter2,c=hunter2%0a,d=hunter2%zz", "METRICS_ADDR", "9090",
		}, []string{
			"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_SAMPLER: ", "OTEL_TRACES_SAMPLER_ARG", "METRICS_ADDR",
			"element 2", "element 3", "element 4", "element 5",
		}},
	}
	for _, tt := range bad {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(tt.settings...)
			if err == nil {
				t.Fatal("no mistake was found")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "element 1 ") {
				t.Errorf("said too much: %v", err)
			}
		})
	}
}
