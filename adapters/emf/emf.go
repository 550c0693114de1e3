// Package emf counts what a Lambda function does, by decorators over ports, in CloudWatch's embedded metric format: log
// lines of which CloudWatch makes metrics
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
// A function that is frozen between two calls cannot be scraped, and has nothing to send: each line is written at once. No
// dimension is a caller's free text: a job is counted by the pattern of its handler, so that the number of metrics, each of
// which costs, is bounded by the program and its settings.
package emf

import (
	"context"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// Namespace is where CloudWatch has the metrics.
const Namespace = "jobgate"

// Units that CloudWatch knows
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html).
const (
	count        = "Count"
	milliseconds = "Milliseconds"
)

// Metrics writes the metrics of one function. Use New. All methods are safe for concurrent use.
type Metrics struct {
	function string
	pattern  func(name string) string

	mu  sync.Mutex
	out io.Writer
}

// New returns metrics that are written to out, a line and a call of Write each. function is the function's name, by which
// two deployments in one account are told apart. pattern returns the pattern of the handler that jobs of a name have, ""
// for none, as jobs.Handlers does; nil where no job is run.
func New(out io.Writer, function string, pattern func(name string) string) *Metrics {
	if function == "" {
		function = "unknown" // CloudWatch drops a metric with an empty dimension
	}
	return &Metrics{function: function, pattern: pattern, out: out}
}

// A metric is one value.
type metric struct {
	name, unit string
	value      float64
}

// A dimension is what values are counted by.
type dimension struct{ name, value string }

// emit writes one line. A metric is made of each value for the function, if together, and for the function with the first
// dimension, with the first two and so on: CloudWatch adds up none by itself.
func (m *Metrics) emit(metrics []metric, together bool, dimensions ...dimension) {
	b := make([]byte, 0, 512)
	b = append(b, `{"_aws":{"Timestamp":`...)
	b = strconv.AppendInt(b, time.Now().UnixMilli(), 10)
	b = append(b, `,"CloudWatchMetrics":[{"Namespace":"`+Namespace+`","Dimensions":[`...)
	for n := range len(dimensions) + 1 {
		if n == 0 && !together {
			continue
		}
		b = append(b, `["Function"`...)
		for _, d := range dimensions[:n] {
			b = append(append(append(b, `,"`...), d.name...), '"')
		}
		b = append(b, `],`...)
	}
	b = append(b[:len(b)-1], `],"Metrics":[`...)
	for _, v := range metrics {
		b = append(append(append(append(append(b, `{"Name":"`...), v.name...), `","Unit":"`...), v.unit...), `"},`...)
	}
	b = append(b[:len(b)-1], `]}]},"Function":`...)
	b = quote(b, m.function)
	for _, d := range dimensions {
		b = quote(append(append(append(b, `,"`...), d.name...), `":`...), d.value)
	}
	for _, v := range metrics {
		b = strconv.AppendFloat(append(append(append(b, `,"`...), v.name...), `":`...), v.value, 'f', -1, 64)
	}
	b = append(b, "}\n"...)

	m.mu.Lock()
	defer m.mu.Unlock()
	_, _ = m.out.Write(b) // where metrics cannot be written nothing can be said of it either
}

// quote appends a JSON string.
func quote(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // what is no UTF-8 is replaced
	return b
}

// Verifier counts what verifications come to: Verifications by Result, which is ok or the reason of the refusal.
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
	v.m.emit([]metric{{"Verifications", count, 1}}, false, dimension{"Result", result})
	return who, err
}

// Dispatcher counts dispatches that fail: DispatchFailures by Kind of error, and all together.
func (m *Metrics) Dispatcher(next ports.JobDispatcher) ports.JobDispatcher {
	return dispatcher{next, m}
}

type dispatcher struct {
	ports.JobDispatcher
	m *Metrics
}

func (d dispatcher) Dispatch(ctx context.Context, job domain.Job) error {
	err := d.JobDispatcher.Dispatch(ctx, job)
	if err != nil {
		kind := strings.ReplaceAll(domain.KindOf(err).String(), " ", "_")
		d.m.emit([]metric{{"DispatchFailures", count, 1}}, true, dimension{"Kind", kind})
	}
	return err
}

// Handler times runs and what their jobs have waited for them: RunTime and QueueWait by Pattern, and all together.
func (m *Metrics) Handler(next ports.JobHandler) ports.JobHandler { return handler{next, m} }

type handler struct {
	next ports.JobHandler
	m    *Metrics
}

func (h handler) Handle(ctx context.Context, run ports.Run) ([]byte, error) {
	begin := time.Now()
	defer func() { // of a handler that panics as well
		metrics := []metric{{"RunTime", milliseconds, inMilliseconds(time.Since(begin))}}
		if wait, ok := run.Job.Waited(); ok {
			metrics = append(metrics, metric{"QueueWait", milliseconds, inMilliseconds(wait)})
		}
		h.m.emit(metrics, true, dimension{"Pattern", h.m.label(run.Job.Name)})
	}()
	return h.next.Handle(ctx, run)
}

func inMilliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// Settled counts what each run, or each claim that is no run, came to, and then tells next of it: JobsSettled by Status,
// which is succeeded, retried, dead or cancelled, and by Status and Pattern.
func (m *Metrics) Settled(next func(domain.Job)) func(domain.Job) {
	return func(job domain.Job) {
		status := string(job.Status)
		if job.Status == domain.Queued {
			status = "retried"
		}
		m.emit([]metric{{"JobsSettled", count, 1}}, false, dimension{"Status", status}, dimension{"Pattern", m.label(job.Name)})
		next(job)
	}
}

func (m *Metrics) label(name string) string {
	if m.pattern != nil {
		if pattern := m.pattern(name); pattern != "" {
			return pattern
		}
	}
	return "none"
}

// Swept counts what a pass of the due loop did: JobsDispatched, JobsNotDispatched, JobsExpired. A pass that did nothing is
// counted as well: a metric that is missing tells that there was none.
func (m *Metrics) Swept(swept jobs.Swept) {
	m.emit([]metric{
		{"JobsDispatched", count, float64(swept.Dispatched)}, {"JobsNotDispatched", count, float64(swept.Failed)}, {"JobsExpired", count, float64(swept.Expired)},
	}, true)
}
