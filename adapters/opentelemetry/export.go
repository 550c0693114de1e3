package opentelemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Pauses between two tries to export a batch that a later try may bring through, and how much of an answer is read.
const (
	firstPause = time.Second
	lastPause  = 4 * time.Second
	maxAnswer  = 64 << 10
)

// exporter reports what fails. The SDK would hand it to a handler that is global to the process.
type exporter struct {
	next   sdktrace.SpanExporter
	report func(error)

	mu       sync.Mutex
	lost     int // spans, since the last report
	err      error
	reported time.Time
}

func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.next.ExportSpans(ctx, spans); err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.err, e.lost = err, e.lost+len(spans)
		if time.Since(e.reported) >= reportEvery {
			e.tell()
		}
	}
	return nil
}

// Shutdown reports what has not been.
func (e *exporter) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		e.tell()
	}
	return e.next.Shutdown(ctx)
}

func (e *exporter) tell() {
	if e.report != nil {
		e.report(fmt.Errorf("%d spans were in exports that failed, the last because: %w", e.lost, e.err))
	}
	e.err, e.lost, e.reported = nil, 0, time.Now()
}

// client speaks OTLP/HTTP in its binary encoding (https://opentelemetry.io/docs/specs/otlp/#otlphttp). It is an
// otlptrace.Client; the SDK's own links gRPC.
type client struct {
	endpoint string
	header   http.Header
	http     *http.Client
	aborted  chan struct{}
	abort    func()
}

func newClient(endpoint string, headers map[string]string) *client {
	header := http.Header{}
	for name, value := range headers {
		header.Set(name, value)
	}
	header.Set("Content-Type", "application/x-protobuf")
	header.Set("User-Agent", "jobgate")
	aborted := make(chan struct{})
	return &client{
		endpoint: endpoint, header: header, aborted: aborted, abort: sync.OnceFunc(func() { close(aborted) }),
		http: &http.Client{
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxConnsPerHost: 1, IdleConnTimeout: time.Minute},
			// The headers are for nobody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (c *client) Start(context.Context) error { return nil }

func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces posts spans until the collector has them, will not have them, or ctx ends.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.aborted:
			cancel()
		case <-ctx.Done():
		}
	}()
	body, err := encode(spans)
	if err != nil {
		return err
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		again, after, err := c.post(ctx, body)
		if err == nil || !again {
			return err
		}
		select {
		case <-time.After(max(pause, after)):
		case <-ctx.Done():
			return err
		}
	}
}

// encode returns the spans as an ExportTraceServiceRequest, which TracesData is field for field. A span with a text that
// is no UTF-8, which protobuf has no way to send, is left out.
func encode(spans []*tracepb.ResourceSpans) ([]byte, error) {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err == nil {
		return body, nil
	}
	for _, resource := range spans {
		for _, scope := range resource.ScopeSpans {
			scope.Spans = slices.DeleteFunc(scope.Spans, func(span *tracepb.Span) bool {
				_, err := proto.Marshal(span)
				return err != nil
			})
		}
	}
	return proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
}

// post tries once. again says whether a later try may do better, and after is the least wait until then.
func (c *client) post(ctx context.Context, body []byte) (again bool, after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return false, 0, err
	}
	req.Header = c.header
	resp, err := c.http.Do(req)
	if err != nil {
		return true, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode/100 == 2:
		if n := rejected(answer); err == nil && n > 0 {
			return false, 0, fmt.Errorf("the collector rejected %d spans", n)
		}
		return false, 0, nil
	case slices.Contains(retryable, resp.StatusCode):
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
			after = time.Duration(min(seconds, math.MaxInt32)) * time.Second
		}
		return true, after, fmt.Errorf("the collector answered %s", resp.Status)
	default:
		return false, 0, fmt.Errorf("the collector answered %s", resp.Status)
	}
}

// retryable are the statuses after which a batch is sent again (https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes).
var retryable = []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}

// rejected returns how many spans an ExportTraceServiceResponse says were rejected: its field 1 is a message whose
// field 1 is that number. 0 when it does not say.
func rejected(answer []byte) uint64 {
	field := func(message []byte, want protowire.Type) (value []byte) {
		for len(message) > 0 {
			number, kind, n := protowire.ConsumeTag(message)
			if n < 0 {
				return nil
			}
			size := protowire.ConsumeFieldValue(number, kind, message[n:])
			if size < 0 {
				return nil
			}
			if number == 1 && kind == want {
				value = message[n : n+size]
			}
			message = message[n+size:]
		}
		return value
	}
	partial, n := protowire.ConsumeBytes(field(answer, protowire.BytesType))
	if n < 0 {
		return 0
	}
	number, n := protowire.ConsumeVarint(field(partial, protowire.VarintType))
	if n < 0 {
		return 0
	}
	return number
}
