package sqlstore_test

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// BenchmarkSubmitToDone is a job's whole life through the use cases: submitted by one of 8 producers, taken by the
// store's own queue, and run by a handler that does nothing.
func BenchmarkSubmitToDone(b *testing.B) {
	for name, durability := range map[string]sqlstore.Durability{"process": sqlstore.Process, "power": sqlstore.Power} {
		b.Run(name, func(b *testing.B) {
			store := open(b, newPath(b), sqlstore.Options{Durability: durability})
			submitToDone(b, store)
			b.ReportMetric(float64(store.Commits())/float64(b.N), "commits/job")
		})
	}
}

func submitToDone(b *testing.B, store *sqlstore.Store) {
	b.Helper()
	queue := jobs.NewQueue(store, time.Now, 32, time.Second)
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	worker := &jobs.Worker{
		Store: store, Handler: jobs.HandlerFunc(func(context.Context, jobs.Run) ([]byte, error) { return nil, nil }),
		Name: "worker", Now: time.Now, NewToken: rand.Text, Random: func() float64 { return 0 },
		Settled: func(job domain.Job) {
			if job.Status != domain.Succeeded {
				b.Errorf("job %s is %s", job.ID, job.Status)
			}
			if left.Add(-1) == 0 {
				close(done)
			}
		},
	}
	queue.Claim = worker.Claim
	submit := &jobs.Submit{
		Store: store, Dispatcher: queue, Policy: domain.DefaultPolicy(), Retention: domain.DefaultRetention,
		Retries: domain.RetryPolicies{{Jobs: "*", Policy: domain.RetryPolicy{Attempts: 3, Base: time.Second, Max: time.Minute, Timeout: time.Minute}}},
		Now:     time.Now, NewID: func() string { return uuid.Must(uuid.NewV7()).String() }, StoreIsQueue: true,
	}
	who := domain.Principal{Identity: owner, Scopes: []string{"jobs:submit"}}
	consume(b, queue, worker.Deliver)
	var next atomic.Int64
	var producers sync.WaitGroup
	b.ResetTimer()
	for range 8 {
		producers.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if _, _, err := submit.Do(context.Background(), who, jobs.Submission{Name: "test-job", Payload: []byte(`{"n":1}`)}); err != nil {
					b.Error(err)
					left.Add(-1)
				}
			}
		})
	}
	producers.Wait()
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
