// Package jobstest tries job handlers in tests, without a broker or a store:
//
//	job, err := jobstest.Run(t, handlers, "report.render", `{"id":7}`)
//	if err != nil || string(job.Output) != `{"pages":3}` {
//		t.Errorf("output %s, %v", job.Output, err)
//	}
//
// The handler is run by the real worker: panics are contained, the run timeout and the retry policy hold, and the job
// that comes back is what a store would have. Inside a testing/synctest bubble no time passes.
package jobstest

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// Run submits a job with the given name and payload, JSON or "" for none, and runs it once. It returns the job as the
// run has left it (succeeded, queued for a retry, dead, with its output, progress and attempts) and the handler's own
// error; of a handler that panicked the error has the value. The retry policy is the default one.
func Run(t testing.TB, handler ports.JobHandler, name, payload string) (domain.Job, error) {
	t.Helper()
	spec := domain.JobSpec{
		ID: "00000000-0000-7000-8000-000000000001", Name: name, Owner: domain.Identity{Issuer: "https://issuer.example/", Subject: "jobstest"},
		Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention,
	}
	if payload != "" {
		spec.Payload = []byte(payload)
	}
	job, err := domain.NewJob(spec, time.Now())
	if err != nil {
		t.Fatalf("jobstest: no such job can be submitted: %v", err)
	}
	return Again(t, handler, job)
}

// Again runs a job that is queued, such as one that Run returned for a retry, as if it had become due.
func Again(t testing.TB, handler ports.JobHandler, job domain.Job) (domain.Job, error) {
	t.Helper()
	if job.Status != domain.Queued {
		t.Fatalf("jobstest: the job is %s, and only a queued one can be run", job.Status)
	}
	ahead := max(0, time.Until(job.DueAt))
	now := func() time.Time { return time.Now().Add(ahead) }
	store := &single{now: now, job: job}
	tried := &witness{JobHandler: handler}
	worker := &jobs.Worker{
		Store: store, Handler: tried, Retries: nil, Retention: job.Retention,
		Name: "jobstest", Now: now, NewToken: rand.Text, Random: func() float64 { return 0.5 },
	}
	worker.Deliver(t.Context(), domain.Delivery{JobID: job.ID})
	return store.stored(), tried.error()
}

// witness keeps what a handler said, which the job has only as text.
type witness struct {
	ports.JobHandler
	mu  sync.Mutex
	err error
}

func (w *witness) Handle(ctx context.Context, run ports.Run) (output []byte, err error) {
	defer func() {
		p := recover()
		if p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
		if p != nil {
			panic(p)
		}
	}()
	return w.JobHandler.Handle(ctx, run)
}

func (w *witness) error() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// single is a ports.JobStore of one job.
type single struct {
	now func() time.Time
	mu  sync.Mutex
	job domain.Job
}

func (s *single) stored() domain.Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.job
}

func (s *single) Create(context.Context, domain.Job) (domain.Job, bool, error) {
	return s.stored(), false, nil
}

func (s *single) Get(context.Context, string) (domain.Job, error) { return s.stored(), nil }

func (s *single) Update(_ context.Context, _ string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := decide(s.job)
	if err != nil {
		return domain.Job{}, err
	}
	s.job = next
	return next, nil
}

func (s *single) List(context.Context, ports.JobQuery) (ports.JobPage, error) {
	return ports.JobPage{Jobs: []domain.Job{s.stored()}}, nil
}
