// Package opentelemetry traces requests and runs, and exports the spans by OTLP over HTTP. A trace goes from the request
// (W3C Trace Context, https://www.w3.org/TR/trace-context/) through the job's trace parent, which the store and the
// message keep, to each of its runs. Nothing of it is global.
package opentelemetry

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/jobgate/jobgate/adapters/wire/exchange"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Bounds of exporting. Spans wait in a queue of their own: one that finds it full is lost, and whoever made it goes on.
const (
	queueSize     = 2048            // spans
	batchSize     = 512             // spans in one request
	batchEvery    = 5 * time.Second // at the latest
	exportTimeout = 10 * time.Second
	closeTimeout  = 5 * time.Second
	reportEvery   = time.Minute
)

// Samplers are the values of Options.Sampler, as OTEL_TRACES_SAMPLER has them
// (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#general-sdk-configuration); the
// first is the default.
var Samplers = []string{"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio", "always_on", "always_off", "traceidratio"}

// Options are what tracing needs. Endpoint must be set.
type Options struct {
	Endpoint string            // http or https URL that spans are posted to
	Headers  map[string]string // of each such request: credentials, usually
	Service  string            // name of this service
	Version  string            // what the process was built from
	Sampler  string            // of Samplers; empty: the first
	Ratio    float64           // of new traces that are kept, 0 to 1, by a sampler that has one
	Pattern  func(name string) string

	// Report is told of spans that could not be exported, at most once a minute. It must not block. May be nil.
	Report func(error)
}

// Tracing makes spans. Use New, and Close at the end. All methods are safe for concurrent use.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	client   *client
	pattern  func(string) string
}

// New returns tracing that exports in the background. It does no I/O. Pattern returns the pattern of the handler that
// jobs of a name have, "" for none. OTEL_RESOURCE_ATTRIBUTES of the process's environment describe the service further.
func New(opts Options) *Tracing {
	c := newClient(opts.Endpoint, opts.Headers)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sampler(opts.Sampler, opts.Ratio)),
		sdktrace.WithResource(resource.NewWithAttributes(semconv.SchemaURL, semconv.ServiceName(opts.Service), semconv.ServiceVersion(opts.Version),
			semconv.TelemetrySDKName("opentelemetry"), semconv.TelemetrySDKLanguageGo)),
		sdktrace.WithBatcher(&exporter{next: otlptrace.NewUnstarted(c), report: opts.Report},
			sdktrace.WithMaxQueueSize(queueSize), sdktrace.WithMaxExportBatchSize(batchSize),
			sdktrace.WithBatchTimeout(batchEvery), sdktrace.WithExportTimeout(exportTimeout)),
	)
	return &Tracing{provider: provider, tracer: provider.Tracer("github.com/jobgate/jobgate"), client: c, pattern: opts.Pattern}
}

func sampler(name string, ratio float64) sdktrace.Sampler {
	switch name {
	case "always_on":
		return sdktrace.AlwaysSample()
	case "always_off":
		return sdktrace.NeverSample()
	case "traceidratio":
		return sdktrace.TraceIDRatioBased(ratio)
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample())
	case "parentbased_traceidratio":
		return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))
	default:
		return sdktrace.ParentBased(sdktrace.AlwaysSample())
	}
}

// Close exports what waits, for five seconds at most. Spans that end later are lost.
func (t *Tracing) Close() error {
	late := time.AfterFunc(closeTimeout, t.client.abort)
	defer late.Stop()
	return t.provider.Shutdown(context.Background())
}

const traceParent = "Traceparent"

var propagator propagation.TraceContext

// API makes a server span of each request: a child of the span that the request's trace context names, or the root of a
// new trace. The request that next gets has the span's own trace context in its header and in its Context.
func (t *Tracing) API(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if len(r.Header.Values(traceParent)) == 1 { // several are malformed (§3.2)
			ctx = propagator.Extract(ctx, propagation.HeaderCarrier(r.Header))
		}
		ctx, span := t.tracer.Start(ctx, "HTTP", trace.WithSpanKind(trace.SpanKindServer))
		r = r.Clone(ctx)
		propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
		exchange.Serve(next, w, r, func(e exchange.Exchange) {
			defer span.End()
			if span.IsRecording() {
				describe(span, r, e)
			}
		})
	})
}

// describe says of a span what the conventions for HTTP servers want
// (https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span).
func describe(span trace.Span, r *http.Request, e exchange.Exchange) {
	name, method := e.Method, semconv.HTTPRequestMethodKey.String(e.Method)
	if e.Method == exchange.Other {
		name, method = "HTTP", semconv.HTTPRequestMethodOther
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	attributes := []attribute.KeyValue{
		method, semconv.URLScheme(scheme), semconv.URLPath(r.URL.EscapedPath()), semconv.HTTPResponseStatusCode(e.Status),
	}
	if e.Named() {
		name += " " + e.Route
		attributes = append(attributes, semconv.HTTPRoute(e.Route))
	}
	if e.Status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
		attributes = append(attributes, semconv.ErrorTypeKey.String(strconv.Itoa(e.Status)))
	}
	span.SetName(name)
	span.SetAttributes(attributes...)
}

// Handler makes a consumer span of each run: a child of the job's trace parent, or the root of a new trace when it has
// none. The run that next gets has the span's own trace parent, so that what it sends on continues the trace, and a
// handler finds the span in its context by trace.SpanFromContext. A span within it is started by the provider of that
// one:
//
//	tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer("example.com/report")
//	ctx, span := tracer.Start(ctx, "render")
//	defer span.End()
func (t *Tracing) Handler(next ports.JobHandler) ports.JobHandler { return handler{next, t} }

type handler struct {
	next ports.JobHandler
	t    *Tracing
}

func (h handler) Handle(ctx context.Context, run ports.Run) (output []byte, err error) {
	pattern := h.t.pattern(run.Job.Name)
	carrier := propagation.HeaderCarrier{traceParent: {run.Job.TraceParent}}
	// https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
	ctx, span := h.t.tracer.Start(propagator.Extract(ctx, carrier), strings.TrimSpace("process "+pattern),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
			semconv.MessagingSystemKey.String("jobgate"), semconv.MessagingOperationTypeProcess, semconv.MessagingOperationName("process"),
			semconv.MessagingDestinationName(run.Job.Name), semconv.MessagingDestinationTemplate(pattern), semconv.MessagingMessageID(run.Job.ID),
			attribute.Int("jobgate.job.attempt", run.Attempt),
		))
	propagator.Inject(ctx, carrier)
	run.Job.TraceParent = carrier.Get(traceParent)
	failure := "the handler panicked"
	defer func() {
		if failure != "" {
			span.SetStatus(codes.Error, failure)
		}
		span.End()
	}()
	output, err = h.next.Handle(ctx, run)
	failure = ""
	if err != nil {
		failure = text(err)
		span.SetAttributes(semconv.ErrorType(err))
	}
	return output, err
}

// text is an error's text as a span may have it: never empty, bounded as in the job's own record, and UTF-8.
func text(err error) string {
	s := err.Error()
	s = strings.ToValidUTF8(s[:min(len(s), domain.MaxErrorBytes)], "\uFFFD")
	if s == "" {
		return "the handler failed"
	}
	return s
}
