package sqlstore_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports/portstest"
)

func TestContracts(t *testing.T) {
	t.Parallel()
	contracts(t, func(t *testing.T) string {
		t.Helper()
		return "sqlite:" + newPath(t)
	})
}

// contracts holds stores on new databases to what is asked of a store, and of one that is the queue as well.
func contracts(t *testing.T, newURL func(t *testing.T) string) {
	t.Helper()
	t.Run("store", func(t *testing.T) {
		t.Parallel()
		portstest.JobStore(t, func(t *testing.T, now func() time.Time) portstest.JobStoreHarness {
			t.Helper()
			return portstest.JobStoreHarness{Store: openURL(t, newURL(t), sqlstore.Options{Now: now})}
		})
	})
	t.Run("dispatcher", func(t *testing.T) {
		t.Parallel()
		portstest.JobDispatcher(t, func(t *testing.T) portstest.JobDispatcherHarness {
			t.Helper()
			store := openURL(t, newURL(t), sqlstore.Options{})
			arrived := make(chan domain.Delivery)
			queue := jobs.NewQueue(store, time.Now, 16, time.Second)
			consume(t, queue, func(_ context.Context, d domain.Delivery) domain.Disposition {
				select {
				case arrived <- d:
					return domain.Disposition{Verdict: domain.Ack}
				case <-t.Context().Done():
					return domain.Disposition{Verdict: domain.Return}
				}
			})
			return portstest.JobDispatcherHarness{
				Dispatcher: queue, Store: store, Now: time.Now,
				Receive: func(ctx context.Context) (domain.Delivery, error) {
					select {
					case d := <-arrived:
						return d, nil
					case <-ctx.Done():
						return domain.Delivery{}, ctx.Err()
					}
				},
			}
		})
	})
	t.Run("consumer", func(t *testing.T) {
		t.Parallel()
		portstest.JobConsumer(t, func(t *testing.T) portstest.JobConsumerHarness {
			t.Helper()
			const concurrency = 4
			store := openURL(t, newURL(t), sqlstore.Options{})
			queue := jobs.NewQueue(store, time.Now, concurrency, time.Second)
			return portstest.JobConsumerHarness{
				JobDispatcherHarness: portstest.JobDispatcherHarness{Dispatcher: queue, Store: store, Now: time.Now},
				Consumer:             queue, Concurrency: concurrency,
			}
		})
	})
}

func TestAJobOnWhichAStepPanicsIsReportedAndPutOff(t *testing.T) {
	t.Parallel()
	clock := portstest.NewClock()
	var reports []error
	store := open(t, newPath(t), sqlstore.Options{Now: clock.Now, Report: func(err error) { reports = append(reports, err) }})
	job := create(t, store, newJob(t, clock.Now()))
	taken, err := store.Take(t.Context(), 1, func(domain.Job, time.Time) domain.Job { panic("a bug in a step") })
	if err != nil || len(taken) != 0 || len(reports) != 1 || domain.KindOf(reports[0]) != domain.Internal {
		t.Fatalf("took %d jobs, %v, and reported %v; want the panic reported alone", len(taken), err, reports)
	}
	clock.Advance(domain.LastCheck - time.Millisecond)
	if taken, err = store.Take(t.Context(), 1, domain.Job.Taken); err != nil || len(taken) != 0 {
		t.Errorf("took %d jobs before %v had passed, %v", len(taken), domain.LastCheck, err)
	}
	clock.Advance(time.Millisecond)
	if taken, err = store.Take(t.Context(), 1, domain.Job.Taken); err != nil || len(taken) != 1 || taken[0].ID != job.ID {
		t.Errorf("took %v after %v, %v; want the job", taken, domain.LastCheck, err)
	}
}

func newPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "data", "jobs.db")
}

func open(t testing.TB, path string, opts sqlstore.Options) *sqlstore.Store {
	t.Helper()
	return openURL(t, "sqlite:"+path, opts)
}

func openURL(t testing.TB, url string, opts sqlstore.Options) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.Open(context.Background(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return store
}

// consume runs the queue's consumer until the test ends.
func consume(t testing.TB, queue *jobs.Queue, deliver func(context.Context, domain.Delivery) domain.Disposition) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- queue.Consume(ctx, deliver) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Consume = %v, want nil", err)
		}
	})
}
