package opentelemetry_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/jobgate/jobgate/adapters/opentelemetry"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
	caller       = "00-" + callersTrace + "-" + callersSpan + "-01"
	unsampled    = "00-" + callersTrace + "-" + callersSpan + "-00"
)

// collector is one that keeps what it gets, and answers as it is told.
type collector struct {
	url    string
	answer func(w http.ResponseWriter, r *http.Request, nth int)

	mu       sync.Mutex
	requests int
	header   http.Header
	service  map[string]string
	spans    []*tracepb.Span
}

func newCollector(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, nth int)) *collector {
	t.Helper()
	c := &collector{answer: answer}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL + "/v1/traces"
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var traces tracepb.TracesData
	if err = errors.Join(err, proto.Unmarshal(body, &traces)); err != nil || r.Method != http.MethodPost {
		http.Error(w, "no export", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.requests++
	nth := c.requests
	c.header, c.service = r.Header, map[string]string{}
	for _, resource := range traces.ResourceSpans {
		for _, attribute := range resource.Resource.Attributes {
			c.service[attribute.Key] = attribute.Value.GetStringValue()
		}
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	c.mu.Unlock()
	if c.answer != nil {
		c.answer(w, r, nth)
	}
}

// open returns tracing towards the collector, and what was reported. A test that wants spans closes it itself.
func (c *collector) open(t *testing.T, change func(*opentelemetry.Options)) (*opentelemetry.Tracing, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var reports []string
	opts := opentelemetry.Options{
		Endpoint: c.url, Headers: map[string]string{"authorization": "Bearer secret"}, Service: "jobgate", Version: "v1.2.3",
		Pattern: jobs.Handlers{"report.*": nil}.Pattern,
		Report: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, err.Error())
		},
	}
	if change != nil {
		change(&opts)
	}
	tracing := opentelemetry.New(opts)
	t.Cleanup(func() { _ = tracing.Close() })
	return tracing, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return reports
	}
}

// flushed closes tracing and returns the spans that came, by name.
func (c *collector) flushed(t *testing.T, tracing *opentelemetry.Tracing) map[string]*tracepb.Span {
	t.Helper()
	if err := tracing.Close(); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := map[string]*tracepb.Span{}
	for _, span := range c.spans {
		spans[span.Name] = span
	}
	return spans
}

func attributes(span *tracepb.Span) map[string]any {
	all := map[string]any{}
	for _, a := range span.Attributes {
		if n := a.Value.GetIntValue(); n != 0 {
			all[a.Key] = int(n)
		} else {
			all[a.Key] = a.Value.GetStringValue()
		}
	}
	return all
}

func id(b []byte) string { return hex.EncodeToString(b) }

// api is routes of the route table that answer with a status and tell what trace context they saw.
func api(status int, saw func(http.Header)) http.Handler {
	mux := http.NewServeMux()
	for _, pattern := range []string{"/jobs", "/jobs/{id}"} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			saw(r.Header)
			w.WriteHeader(status)
		})
	}
	return mux
}

func TestARequestsSpanStandsBetweenTheCallersAndTheJobs(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		header http.Header
		trace  string // of the caller; empty: a new one
		state  string
	}{
		"with a trace context":      {http.Header{"Traceparent": {caller}, "Tracestate": {"vendor=x"}}, callersTrace, "vendor=x"},
		"without one":               {http.Header{}, "", ""},
		"with a malformed one":      {http.Header{"Traceparent": {"00-nonsense-" + callersSpan + "-01"}}, "", ""},
		"with several":              {http.Header{"Traceparent": {caller, caller}}, "", ""},
		"with one that is all zero": {http.Header{"Traceparent": {"00-00000000000000000000000000000000-b7ad6b7169203331-01"}}, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t, nil)
			tracing, _ := c.open(t, nil)
			var got http.Header
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/jobs?secret=1", nil)
			req.Header = tt.header.Clone()
			tracing.API(api(http.StatusCreated, func(h http.Header) { got = h })).ServeHTTP(httptest.NewRecorder(), req)
			span := c.flushed(t, tracing)["POST /jobs"]
			if span == nil {
				t.Fatalf("no span came, but %v", c.spans)
			}
			if diff := cmp.Diff(tt.header, req.Header); diff != "" {
				t.Errorf("the caller's request was changed:\n%s", diff)
			}
			if want := []string{"00-" + id(span.TraceId) + "-" + id(span.SpanId) + "-01"}; !cmp.Equal(got["Traceparent"], want) {
				t.Errorf("the API saw %q, want the span's own, %q", got["Traceparent"], want)
			}
			parent := callersSpan
			if tt.trace == "" {
				parent = ""
			} else if id(span.TraceId) != tt.trace {
				t.Errorf("trace %s, want the caller's", id(span.TraceId))
			}
			if id(span.ParentSpanId) != parent || span.TraceState != tt.state || span.Kind != tracepb.Span_SPAN_KIND_SERVER {
				t.Errorf("parent %x, state %q, kind %v", span.ParentSpanId, span.TraceState, span.Kind)
			}
			if diff := cmp.Diff(map[string]any{
				"http.request.method": "POST", "http.route": "/jobs", "http.response.status_code": 201, "url.path": "/jobs", "url.scheme": "http",
			}, attributes(span)); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string]string{
				"service.name": "jobgate", "service.version": "v1.2.3", "telemetry.sdk.name": "opentelemetry", "telemetry.sdk.language": "go",
			}, c.service); diff != "" {
				t.Errorf("service (-want +got):\n%s", diff)
			}
			if c.header.Get("Authorization") != "Bearer secret" || c.header.Get("Content-Type") != "application/x-protobuf" {
				t.Errorf("exported with %v", c.header)
			}
		})
	}
}

func TestWhatARequestsSpanSays(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method, target string
		status         int
		name           string
		want           map[string]any
		failed         bool
	}{
		{
			"GET", "/jobs/8c5e", 404, "GET /jobs/{id}",
			map[string]any{"http.request.method": "GET", "http.route": "/jobs/{id}", "http.response.status_code": 404, "url.path": "/jobs/8c5e", "url.scheme": "http"}, false,
		},
		{
			"GET", "/jobs", 503, "GET /jobs",
			map[string]any{"http.request.method": "GET", "http.route": "/jobs", "http.response.status_code": 503, "url.path": "/jobs", "url.scheme": "http", "error.type": "503"}, true,
		},
		{
			"BREW", "/evil%ff", 0, "HTTP",
			map[string]any{"http.request.method": "_OTHER", "http.response.status_code": 404, "url.path": "/evil%ff", "url.scheme": "http"}, false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t, nil)
			tracing, _ := c.open(t, nil)
			req := httptest.NewRequestWithContext(t.Context(), tt.method, tt.target, nil)
			tracing.API(api(tt.status, func(http.Header) {})).ServeHTTP(httptest.NewRecorder(), req)
			span := c.flushed(t, tracing)[tt.name]
			if span == nil {
				t.Fatalf("no span came, but %v", c.spans)
			}
			if diff := cmp.Diff(tt.want, attributes(span)); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if failed := span.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR; failed != tt.failed {
				t.Errorf("status %v", span.Status)
			}
		})
	}
}

func TestARunsSpanContinuesTheJobsTrace(t *testing.T) {
	t.Parallel()
	c := newCollector(t, nil)
	tracing, _ := c.open(t, nil)
	var passed string
	handler := tracing.Handler(jobs.HandlerFunc(func(ctx context.Context, run jobs.Run) ([]byte, error) {
		passed = run.Job.TraceParent
		_, own := trace.SpanFromContext(ctx).TracerProvider().Tracer("mine").Start(ctx, "render")
		own.End()
		return []byte(`1`), nil
	}))
	out, err := handler.Handle(t.Context(), ports.Run{Job: domain.Job{ID: "8c5e", Name: "report.daily", TraceParent: caller}, Attempt: 3})
	if string(out) != "1" || err != nil {
		t.Errorf("Handle = %q, %v", out, err)
	}
	spans := c.flushed(t, tracing)
	span, own := spans["process report.*"], spans["render"]
	if span == nil || own == nil {
		t.Fatalf("spans %v", spans)
	}
	if id(span.TraceId) != callersTrace || id(span.ParentSpanId) != callersSpan || span.Kind != tracepb.Span_SPAN_KIND_CONSUMER || span.Status.GetCode() != 0 {
		t.Errorf("the run's span is %v", span)
	}
	if want := "00-" + callersTrace + "-" + id(span.SpanId) + "-01"; passed != want {
		t.Errorf("the handler would send on %q, want %q", passed, want)
	}
	if !cmp.Equal(own.ParentSpanId, span.SpanId) || !cmp.Equal(own.TraceId, span.TraceId) {
		t.Errorf("the handler's own span is %v", own)
	}
	if diff := cmp.Diff(map[string]any{
		"messaging.system": "jobgate", "messaging.operation.type": "process", "messaging.operation.name": "process",
		"messaging.destination.name": "report.daily", "messaging.destination.template": "report.*", "messaging.message.id": "8c5e", "jobgate.job.attempt": 3,
	}, attributes(span)); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}

func TestAFailedRunsSpanSaysSo(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		handle jobs.HandlerFunc
		want   string
	}{
		"an error":           {func(context.Context, jobs.Run) ([]byte, error) { return nil, errors.New("boom") }, "boom"},
		"without a text":     {func(context.Context, jobs.Run) ([]byte, error) { return nil, errors.New("") }, "the handler failed"},
		"that is no UTF-8":   {func(context.Context, jobs.Run) ([]byte, error) { return nil, errors.New("bo\xffom") }, "bo\uFFFDom"},
		"longer than a book": {func(context.Context, jobs.Run) ([]byte, error) { return nil, errors.New(strings.Repeat("x", 5000)) }, strings.Repeat("x", domain.MaxErrorBytes)},
		"a panic":            {func(context.Context, jobs.Run) ([]byte, error) { panic("secret") }, "the handler panicked"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t, nil)
			tracing, reports := c.open(t, nil)
			func() {
				defer func() {
					if p := recover(); (p != nil) != (name == "a panic") {
						t.Errorf("recovered %v", p)
					}
				}()
				_, err := tracing.Handler(tt.handle).Handle(t.Context(), ports.Run{Job: domain.Job{Name: "unheard-of"}})
				if err == nil {
					t.Error("the error is gone")
				}
			}()
			span := c.flushed(t, tracing)["process"]
			if span == nil {
				t.Fatalf("no span came: %v", reports())
			}
			if span.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR || span.Status.Message != tt.want || len(span.ParentSpanId) > 0 {
				t.Errorf("span %v, want the message %.50q", span, tt.want)
			}
		})
	}
}

func TestSampling(t *testing.T) {
	t.Parallel()
	tests := []struct {
		sampler string
		ratio   float64
		parent  string
		want    bool
	}{
		{"", 1, "", true},
		{"parentbased_always_on", 0, caller, true},
		{"parentbased_always_on", 0, unsampled, false},
		{"parentbased_always_off", 1, "", false},
		{"parentbased_always_off", 1, caller, true},
		{"parentbased_traceidratio", 0, "", false},
		{"parentbased_traceidratio", 1, "", true},
		{"parentbased_traceidratio", 0, caller, true},
		{"always_on", 0, unsampled, true},
		{"always_off", 1, caller, false},
		{"traceidratio", 0, caller, false},
		{"traceidratio", 1, unsampled, true},
	}
	for _, tt := range tests {
		t.Run(tt.sampler+" "+tt.parent, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t, nil)
			tracing, _ := c.open(t, func(o *opentelemetry.Options) { o.Sampler, o.Ratio = tt.sampler, tt.ratio })
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/jobs", nil)
			if tt.parent != "" {
				req.Header.Set("Traceparent", tt.parent)
			}
			var sent string
			tracing.API(api(http.StatusCreated, func(h http.Header) { sent = h.Get("Traceparent") })).ServeHTTP(httptest.NewRecorder(), req)
			if got := len(c.flushed(t, tracing)) == 1; got != tt.want {
				t.Errorf("exported %t, want %t", got, tt.want)
			}
			flags := map[bool]string{true: "-01", false: "-00"}[tt.want]
			if !strings.HasSuffix(sent, flags) || tt.parent != "" && !strings.Contains(sent, callersTrace) {
				t.Errorf("the API saw %q, want flags %s", sent, flags)
			}
		})
	}
}

// span makes one span.
func span(t *testing.T, tracing *opentelemetry.Tracing) {
	t.Helper()
	_, _ = tracing.Handler(jobs.HandlerFunc(func(context.Context, jobs.Run) ([]byte, error) { return nil, nil })).
		Handle(t.Context(), ports.Run{Job: domain.Job{Name: "report.daily"}})
}

func TestACollectorThatIsBusyIsAskedAgain(t *testing.T) {
	t.Parallel()
	c := newCollector(t, func(w http.ResponseWriter, _ *http.Request, nth int) {
		if nth == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	tracing, reports := c.open(t, nil)
	span(t, tracing)
	c.flushed(t, tracing)
	if c.requests != 2 || len(reports()) > 0 {
		t.Errorf("%d requests, reported %v", c.requests, reports())
	}
}

func TestWhatACollectorWillNotHaveIsReported(t *testing.T) {
	t.Parallel()
	elsewhere := newCollector(t, nil)
	tests := map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, nth int)
		want   string
	}{
		"refused": {func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(http.StatusUnauthorized) }, "the collector answered 401 Unauthorized"},
		"redirected": {func(w http.ResponseWriter, r *http.Request, _ int) {
			http.Redirect(w, r, elsewhere.url, http.StatusTemporaryRedirect)
		}, "the collector answered 307 Temporary Redirect"},
		"rejected": {func(w http.ResponseWriter, _ *http.Request, _ int) {
			partial := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
			partial = protowire.AppendString(protowire.AppendTag(partial, 2, protowire.BytesType), "too old")
			_, _ = w.Write(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), partial))
		}, "the collector rejected 1 spans"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t, tt.answer)
			tracing, reports := c.open(t, nil)
			span(t, tracing)
			c.flushed(t, tracing)
			if got := reports(); len(got) != 1 || !strings.Contains(got[0], "1 spans") || !strings.HasSuffix(got[0], tt.want) || c.requests != 1 {
				t.Errorf("reported %q after %d requests, want %q after one", got, c.requests, tt.want)
			}
		})
	}
	t.Cleanup(func() {
		if elsewhere.requests > 0 {
			t.Error("a redirect was followed")
		}
	})
}

func TestACollectorThatHangsDelaysNobody(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	c := newCollector(t, func(_ http.ResponseWriter, r *http.Request, _ int) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	})
	defer close(over)
	tracing, reports := c.open(t, nil)
	begin := time.Now()
	for range 10_000 { // more than can wait
		span(t, tracing)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("10,000 spans took %v", took)
	}
	begin = time.Now()
	if err := tracing.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < 4*time.Second || took > 7*time.Second {
		t.Errorf("closed after %v, want the five seconds it has", took)
	}
	if got := reports(); len(got) == 0 || len(got) > 2 {
		t.Errorf("reported %q, want no more than one a minute and one at the end", got)
	}
	span(t, tracing) // after the end: no panic, no wait
}

func TestASpanThatCannotBeSentTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	c := newCollector(t, nil)
	tracing, reports := c.open(t, nil)
	_, _ = tracing.Handler(jobs.HandlerFunc(func(ctx context.Context, _ jobs.Run) ([]byte, error) {
		_, own := trace.SpanFromContext(ctx).TracerProvider().Tracer("mine").Start(ctx, "no UTF-8: \xff")
		own.End()
		return nil, nil
	})).Handle(t.Context(), ports.Run{Job: domain.Job{Name: "report.daily"}})
	spans := c.flushed(t, tracing)
	if len(spans) != 1 || spans["process report.*"] == nil {
		t.Errorf("came %v, reported %v", spans, reports())
	}
}

func FuzzRejected(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x02, 0x08, 0x07})
	f.Add([]byte{0x0a, 0x7f, 0x08})
	f.Add([]byte{0x12, 0x01, 0x61, 0x0a, 0x05, 0x12, 0x01, 0x61, 0x08, 0x02})
	f.Fuzz(func(t *testing.T, answer []byte) {
		n := opentelemetry.Rejected(answer)
		message := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), n)
		if again := opentelemetry.Rejected(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), message)); again != n {
			t.Errorf("%d rejected became %d", n, again)
		}
	})
}
