package zaplog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

type dispatcher func() error

func (d dispatcher) Fits(domain.Job) error                      { return nil }
func (d dispatcher) Dispatch(context.Context, domain.Job) error { return d() }

// lines decodes what a JSON logger wrote.
func lines(t *testing.T, b *bytes.Buffer) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range strings.Lines(b.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, m)
	}
	return out
}

// run delivers one job, with a single attempt, to a handler whose decorator logs, and returns the job and the log.
func run(t *testing.T, handle jobs.HandlerFunc) (domain.Job, []map[string]any) {
	t.Helper()
	var b bytes.Buffer
	log := zaplog.JSON(&b, "info")
	store := memory.NewStore(time.Now)
	worker := &jobs.Worker{
		Store: store, Handler: zaplog.Handler(jobs.Handlers{"*": handle}, log), Retention: domain.DefaultRetention, Name: "w",
		Now: time.Now, NewToken: uuid.NewString, Random: func() float64 { return 0 }, Settled: zaplog.Settled(log),
	}
	policy := domain.DefaultRetryPolicy
	policy.Attempts = 1
	job, err := domain.NewJob(domain.JobSpec{
		ID: uuid.NewString(), Name: "report.daily", Payload: []byte(`"secret payload"`), Retry: policy, Retention: domain.DefaultRetention,
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	worker.Deliver(t.Context(), domain.Delivery{JobID: job.ID})
	job, err = store.Get(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "secret payload") {
		t.Errorf("the payload is in the log:\n%s", b.String())
	}
	return job, lines(t, &b)
}

func TestARunIsLoggedFromItsStartToWhatItCameTo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		handle  jobs.HandlerFunc
		status  domain.Status
		message string
		level   string
	}{
		{"success", func(context.Context, jobs.Run) ([]byte, error) { return nil, nil }, domain.Succeeded, "job is succeeded", "info"},
		{"failure", func(context.Context, jobs.Run) ([]byte, error) { return nil, errors.New("boom") }, domain.Dead, "job is dead", "error"},
		{"panic", func(context.Context, jobs.Run) ([]byte, error) { panic("boom") }, domain.Dead, "job is dead", "error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			job, log := run(t, tt.handle)
			if job.Status != tt.status {
				t.Errorf("the job is %s, want %s: logging changed what it came to", job.Status, tt.status)
			}
			first, last := log[0], log[len(log)-1]
			if first["message"] != "run begins" || first["job_id"] != job.ID || first["attempt"] != 1.0 || first["traceparent"] == nil {
				t.Errorf("the start is logged as %v", first)
			}
			if last["message"] != tt.message || last["level"] != tt.level || last["job_id"] != job.ID || last["traceparent"] != job.TraceParent {
				t.Errorf("the end is logged as %v, want %q at %s", last, tt.message, tt.level)
			}
			if tt.name != "panic" {
				return
			}
			if m := log[1]; m["message"] != "run panicked" || m["panic"] != "boom" || !strings.Contains(m["stack"].(string), "zaplog_test") {
				t.Errorf("the panic is logged as %v", m)
			}
			if strings.Contains(job.History[0].Error, "boom") {
				t.Errorf("the job's owner reads the panic's value: %q", job.History[0].Error)
			}
		})
	}
}

func TestADispatchThatFailsIsLogged(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	refusal := errors.New("no broker")
	err := refusal
	d := zaplog.Dispatcher(dispatcher(func() error { return err }), zaplog.JSON(&b, "info"))
	if got := d.Dispatch(t.Context(), domain.Job{ID: "job-1"}); !errors.Is(got, refusal) {
		t.Errorf("Dispatch = %v, want what the broker said", got)
	}
	err = nil
	if got := d.Dispatch(t.Context(), domain.Job{ID: "job-2"}); got != nil {
		t.Errorf("Dispatch = %v", got)
	}
	log := lines(t, &b)
	if len(log) != 1 || log[0]["level"] != "error" || log[0]["job_id"] != "job-1" || log[0]["error"] != "no broker" {
		t.Errorf("logged %v, want the failure alone", log)
	}
}

func TestLinesOfACallBearWhatItBelongsTo(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := zaplog.JSON(&b, "info")
	ctx := zaplog.With(zaplog.With(t.Context(), zap.String("one", "1")), zap.String("two", "2"))
	run := ports.Run{Job: domain.Job{ID: "job-1"}}
	_, _ = zaplog.Handler(jobs.HandlerFunc(zaplog.LogJobs(log)), log).Handle(ctx, run)
	_ = zaplog.Dispatcher(dispatcher(func() error { return errors.New("no broker") }), log).Dispatch(ctx, run.Job)
	zaplog.From(ctx, log).Info("a line")
	written := lines(t, &b)
	if len(written) != 4 {
		t.Errorf("%d lines, want 4", len(written))
	}
	for _, line := range written {
		if line["one"] != "1" || line["two"] != "2" {
			t.Errorf("logged %v", line)
		}
	}
	b.Reset()
	zaplog.From(t.Context(), log).Info("a line")
	if line := lines(t, &b)[0]; line["one"] != nil {
		t.Errorf("another call's line is %v", line)
	}
}

func TestLevelsAndForms(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	zaplog.Attrs(zaplog.JSON(&b, "warn"))("keys", slog.String("kid", "k1"), slog.Int("n", 2))
	zaplog.JSON(&b, "warn").Info("not this")
	if log := lines(t, &b); len(log) != 1 || log[0]["message"] != "keys" || log[0]["kid"] != "k1" || log[0]["n"] != 2.0 || log[0]["time"] == nil {
		t.Errorf("logged %v", log)
	}
	b.Reset()
	zaplog.Console(&b, "no such level").Info("for a person")
	if !strings.Contains(b.String(), "info\tfor a person") {
		t.Errorf("the console says %q", b.String())
	}
	b.Reset()
	if _, err := zaplog.LogJobs(zaplog.JSON(&b, "info"))(t.Context(), ports.Run{Job: domain.Job{ID: "job-1", Payload: []byte("secret")}}); err != nil {
		t.Error(err)
	}
	if log := lines(t, &b); len(log) != 1 || log[0]["job_id"] != "job-1" || log[0]["payload_bytes"] != 6.0 || strings.Contains(b.String(), "secret") {
		t.Errorf("logged %v", log)
	}
}
