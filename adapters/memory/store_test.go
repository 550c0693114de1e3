package memory_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/domain/jobs"
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
		store := memory.NewStore(time.Now)
		queue := jobs.NewQueue(store, time.Now, 4, 50*time.Millisecond)
		return portstest.JobConsumerHarness{
			JobDispatcherHarness: portstest.JobDispatcherHarness{Dispatcher: queue, Store: store, Now: time.Now},
			Consumer:             queue, Concurrency: 4,
		}
	})
}
