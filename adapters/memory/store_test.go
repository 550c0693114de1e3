package memory_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
	"github.com/jobgate/jobgate/ports/portstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestJobStore(t *testing.T) {
	t.Parallel()
	portstest.JobStore(t, func(_ *testing.T, now func() time.Time) portstest.JobStoreHarness {
		return portstest.JobStoreHarness{Store: memory.NewStore(now)}
	})
}

func TestJobConsumer(t *testing.T) {
	t.Parallel()
	portstest.JobConsumer(t, func(*testing.T) portstest.JobConsumerHarness {
		queue, store := newQueue()
		return harness(queue, queue, store)
	})
}

func TestJobConsumerThatClaims(t *testing.T) {
	t.Parallel()
	portstest.JobConsumer(t, func(*testing.T) portstest.JobConsumerHarness {
		queue, store := newQueue()
		queue.Claim = func(job domain.Job, now time.Time) (domain.Job, error) { return job.Claim(now, rand.Text(), "worker") }
		return harness(queue, undoing{queue, store}, store)
	})
}

func newQueue() (*jobs.Queue, *memory.Store) {
	store := memory.NewStore(time.Now)
	return jobs.NewQueue(store, time.Now, 4, 50*time.Millisecond), store
}

func harness(queue *jobs.Queue, consumer ports.JobConsumer, store *memory.Store) portstest.JobConsumerHarness {
	return portstest.JobConsumerHarness{
		JobDispatcherHarness: portstest.JobDispatcherHarness{Dispatcher: queue, Store: store, Now: time.Now},
		Consumer:             consumer, Concurrency: 4,
	}
}

// undoing undoes the claims of what is returned or panics, as a worker that runs nothing does.
type undoing struct {
	*jobs.Queue
	store *memory.Store
}

func (u undoing) Consume(ctx context.Context, deliver ports.Deliver) error {
	return u.Queue.Consume(ctx, func(ctx context.Context, d domain.Delivery) (came domain.Disposition) {
		defer func() {
			if came.Verdict == domain.Ack || d.Claimed == nil {
				return
			}
			// No lease of a test outlasts it: an error is seen as a job that does not come again.
			_, _ = u.store.Update(ctx, d.JobID, func(job domain.Job) (domain.Job, error) { return job.Unclaim(time.Now(), d.Claimed.Lease.Token) })
		}()
		return deliver(ctx, d)
	})
}
