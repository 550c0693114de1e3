package jobstest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/domain/jobs/jobstest"
)

var errBoom = errors.New("boom")

var handlers = jobs.Handlers{
	"report.render": jobs.Typed(func(ctx context.Context, run jobs.Run, in struct{ ID int }) (map[string]int, error) {
		return map[string]int{"pages": in.ID}, run.Progress(ctx, 50, "half of it")
	}),
	"fail":      func(context.Context, jobs.Run) ([]byte, error) { return nil, errBoom },
	"fail.good": func(context.Context, jobs.Run) ([]byte, error) { return nil, domain.Permanent(errBoom) },
	"panic":     func(context.Context, jobs.Run) ([]byte, error) { panic("a bug") },
	"slow": func(ctx context.Context, _ jobs.Run) ([]byte, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	},
	"third": func(_ context.Context, run jobs.Run) ([]byte, error) {
		if run.Attempt < 3 {
			return nil, errBoom
		}
		return []byte(`"at last"`), nil
	},
}

func TestRunIsWhatAWorkerWouldDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name, payload string
			status        domain.Status
			reason        domain.Reason
			output, err   string
		}{
			{"report.render", `{"id":7}`, domain.Succeeded, "", `{"pages":7}`, ""},
			{"report.render", ``, domain.Succeeded, "", `{"pages":0}`, ""},
			{"report.render", `{"id":"7"}`, domain.Dead, domain.ReasonPermanent, "", "decode payload"},
			{"fail", ``, domain.Queued, "", "", "boom"},
			{"fail.good", ``, domain.Dead, domain.ReasonPermanent, "", "boom"},
			{"panic", ``, domain.Queued, "", "", "panic: a bug"},
			{"slow", ``, domain.Queued, "", "", jobs.ErrTimeout.Error()},
			{"nobody", ``, domain.Queued, "", "", "no handler"},
		} {
			job, err := jobstest.Run(t, handlers, tt.name, tt.payload)
			if job.Status != tt.status || job.Reason != tt.reason || string(job.Output) != tt.output {
				t.Errorf("%s %s: %s (%s), output %s; want %s (%s), %s", tt.name, tt.payload, job.Status, job.Reason, job.Output, tt.status, tt.reason, tt.output)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s %s: %v, want %q", tt.name, tt.payload, err, tt.err)
			}
			if len(job.History) != 1 {
				t.Errorf("%s %s: attempts %v", tt.name, tt.payload, job.History)
			}
		}
	})
}

func TestRunGivesTheHandlersOwnErrorAndProgress(t *testing.T) {
	t.Parallel()
	if _, err := jobstest.Run(t, handlers, "fail.good", ""); !errors.Is(err, errBoom) {
		t.Errorf("%v", err)
	}
	if job, err := jobstest.Run(t, handlers["report.render"], "any.name", ""); job.Progress != (domain.Progress{Percent: 50, Message: "half of it"}) || err != nil {
		t.Errorf("progress %v, %v", job.Progress, err)
	}
}

func TestAgainGoesOnWithARetry(t *testing.T) {
	t.Parallel()
	job, err := jobstest.Run(t, handlers, "third", "")
	for range 2 {
		if job.Status != domain.Queued || !errors.Is(err, errBoom) || time.Until(job.DueAt) <= 0 {
			t.Fatalf("%s, due %v, %v", job.Status, job.DueAt, err)
		}
		job, err = jobstest.Again(t, handlers, job)
	}
	if job.Status != domain.Succeeded || job.Attempts != 3 || err != nil {
		t.Errorf("%s after %d attempts, %v", job.Status, job.Attempts, err)
	}
}
