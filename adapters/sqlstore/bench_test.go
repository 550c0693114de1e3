package sqlstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// BenchmarkSubmitToDone is a job's whole life in the store, by 8 producers and the store's own queue.
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
	consume(b, queue, func(ctx context.Context, d domain.Delivery) domain.Disposition {
		token := uuid.NewString()
		if _, err := store.Update(ctx, d.JobID, func(j domain.Job) (domain.Job, error) { return j.Claim(time.Now(), token, "worker") }); err != nil {
			b.Error(err)
		}
		if _, err := store.Update(ctx, d.JobID, func(j domain.Job) (domain.Job, error) {
			return j.Settle(time.Now(), token, domain.Outcome{}, 0)
		}); err != nil {
			b.Error(err)
		}
		if left.Add(-1) == 0 {
			close(done)
		}
		return domain.Disposition{Verdict: domain.Ack}
	})
	var next atomic.Int64
	b.ResetTimer()
	for range 8 {
		go func() {
			for next.Add(1) <= int64(b.N) {
				job := newJob(b, time.Now())
				if _, _, err := store.Create(context.Background(), job); err != nil {
					b.Error(err)
				}
				if err := queue.Dispatch(context.Background(), job); err != nil {
					b.Error(err)
				}
			}
		}()
	}
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
