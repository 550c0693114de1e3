package jobs_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

const poll = time.Minute

// consuming has a queue over store deliver to deliver while test runs, in a bubble whose clock it goes by, and checks
// that it stops when told to. It returns what the queue reported.
func consuming(t *testing.T, store *stubStore, concurrency int, deliver ports.Deliver, test func(q *jobs.Queue)) (reports []error) {
	t.Helper()
	return consumingFrom(t, jobs.NewQueue(store, time.Now, concurrency, poll), deliver, test)
}

// consumingFrom is consuming with a queue of the test's own.
func consumingFrom(t *testing.T, q *jobs.Queue, deliver ports.Deliver, test func(q *jobs.Queue)) (reports []error) {
	t.Helper()
	var mu sync.Mutex
	q.Report = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- q.Consume(ctx, deliver) }()
	synctest.Wait()
	test(q)
	stop()
	if err := <-done; err != nil {
		t.Errorf("Consume = %v after its context ended, want nil", err)
	}
	return reports
}

// wantReports checks that as many errors were reported, each with the text.
func wantReports(t *testing.T, reports []error, n int, text string) {
	t.Helper()
	if len(reports) != n {
		t.Errorf("reported %d times, want %d: %v", len(reports), n, reports)
	}
	for _, err := range reports {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("reported %v, want %q", err, text)
		}
	}
}

// instants collects when something happened, since it was made.
type instants struct {
	mu    sync.Mutex
	start time.Time
	at    []time.Duration
}

func newInstants() *instants { return &instants{start: time.Now()} }

func (i *instants) add() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.at = append(i.at, time.Since(i.start))
	return len(i.at)
}

func (i *instants) want(t *testing.T, want ...time.Duration) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if !slices.Equal(i.at, want) {
		t.Errorf("at %v, want at %v", i.at, want)
	}
}

// finish acknowledges a delivery whose job has ended.
func finish(t *testing.T, store *stubStore, id string) domain.Disposition {
	t.Helper()
	if _, err := store.Store.Update(t.Context(), id, func(job domain.Job) (domain.Job, error) {
		return job.Cancel(time.Now(), domain.ReasonCancelled)
	}); err != nil {
		t.Error(err)
	}
	return domain.Disposition{Verdict: domain.Ack}
}

func TestATakeHasRoomForAllThatEndedTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, newID := newStubStore(time.Now), counter()
		for range 8 {
			store.put(t, time.Now(), newID(), nil)
		}
		var limits []int
		takes, slow := make(chan struct{}), false
		store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			limits = append(limits, limit)
			if slow {
				<-takes
			}
			return store.Store.Take(ctx, limit, step)
		}
		ends := make(chan struct{})
		consuming(t, store, 4, func(_ context.Context, d domain.Delivery) domain.Disposition {
			<-ends
			return finish(t, store, d.JobID)
		}, func(*jobs.Queue) {
			slow = true
			ends <- struct{}{} // its room is given to the fifth
			synctest.Wait()
			for range 3 { // the others end meanwhile
				ends <- struct{}{}
			}
			synctest.Wait()
			slow = false
			takes <- struct{}{}
			synctest.Wait()
			close(ends)
			synctest.Wait()
		})
		if want := []int{4, 1, 3}; !slices.Equal(limits[:3], want) {
			t.Errorf("jobs were taken %v at a time, want %v", limits, want)
		}
	})
}

func TestDispatchWakesAnIdleConsumer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, delivered := newStubStore(time.Now), newInstants()
		consuming(t, store, 2, func(_ context.Context, d domain.Delivery) domain.Disposition {
			if d.JobID != alicesJob || d.MessageID != alicesJob+"/1" || d.Foreign != nil || d.Err != nil {
				t.Errorf("delivered %+v", d)
			}
			delivered.add()
			return domain.Disposition{Verdict: domain.Ack}
		}, func(q *jobs.Queue) {
			time.Sleep(time.Second)
			job := store.put(t, time.Now(), alicesJob, nil)
			if err := q.Dispatch(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		})
		delivered.want(t, time.Second)
	})
}

func TestWhatNobodyWokeTheConsumerForIsFoundByPolling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, delivered := newStubStore(time.Now), newInstants()
		consuming(t, store, 2, func(context.Context, domain.Delivery) domain.Disposition {
			delivered.add()
			return domain.Disposition{Verdict: domain.Ack}
		}, func(*jobs.Queue) {
			time.Sleep(time.Second)
			store.put(t, time.Now(), alicesJob, nil)
			time.Sleep(poll)
		})
		delivered.want(t, poll)
	})
}

func TestAWakeUpWhileTheConsumerIsBusyIsNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, delivered := newStubStore(time.Now), newInstants()
		slow := make(chan struct{})
		store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			taken, err := store.Store.Take(ctx, limit, step)
			<-slow // the job arrives after the store has looked
			return taken, err
		}
		consuming(t, store, 2, func(context.Context, domain.Delivery) domain.Disposition {
			delivered.add()
			return domain.Disposition{Verdict: domain.Ack}
		}, func(q *jobs.Queue) {
			store.put(t, time.Now(), alicesJob, nil)
			q.Wake()
			close(slow)
			synctest.Wait()
		})
		delivered.want(t, 0)
	})
}

func TestTheConsumerTakesNoMoreThanItCanBegin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const concurrency = 3
		store, ids := newStubStore(time.Now), counter()
		for range 5 {
			store.put(t, time.Now(), ids(), nil)
		}
		var mu sync.Mutex
		var limits []int
		store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			mu.Lock()
			limits = append(limits, limit)
			mu.Unlock()
			return store.Store.Take(ctx, limit, step)
		}
		release := make(chan struct{})
		consuming(t, store, concurrency, func(context.Context, domain.Delivery) domain.Disposition {
			<-release
			return domain.Disposition{Verdict: domain.Ack}
		}, func(*jobs.Queue) {
			for range 5 {
				release <- struct{}{}
				synctest.Wait()
			}
		})
		// All slots at first, then each that is free again; what finds nothing more waits for the poll.
		mu.Lock()
		defer mu.Unlock()
		if want := []int{3, 1, 1, 1}; !slices.Equal(limits, want) {
			t.Errorf("took up to %v, want %v", limits, want)
		}
	})
}

func TestTheConsumerWaitsForAStoreThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, takes := newStubStore(time.Now), newInstants()
		store.put(t, time.Now(), alicesJob, nil)
		delivered := newInstants()
		store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			if n := takes.add(); n <= 8 || n == 10 {
				return nil, unavailable()
			}
			return store.Store.Take(ctx, limit, step)
		}
		reports := consuming(t, store, 2, func(_ context.Context, d domain.Delivery) domain.Disposition {
			delivered.add()
			return finish(t, store, d.JobID)
		}, func(*jobs.Queue) {
			time.Sleep(151*time.Second + poll + 1500*time.Millisecond)
		})
		s := time.Second
		// Pauses double from one second to thirty; once the store has answered the next trouble begins anew.
		takes.want(t, 0, 1*s, 3*s, 7*s, 15*s, 31*s, 61*s, 91*s, 121*s, 121*s+poll, 122*s+poll)
		delivered.want(t, 121*s)
		wantReports(t, reports, 9, "no answer")
	})
}

func TestASilentStoreDoesNotStopTheConsumer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, takes, delivered := newStubStore(time.Now), newInstants(), newInstants()
		store.put(t, time.Now(), alicesJob, nil)
		store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			if takes.add() == 1 {
				<-ctx.Done() // a call without an end of its own would be the consumer's
				return nil, domain.Wrap(ctx.Err(), domain.Unavailable, domain.ReasonUnavailable, "cancelled")
			}
			return store.Store.Take(ctx, limit, step)
		}
		consuming(t, store, 2, func(_ context.Context, d domain.Delivery) domain.Disposition {
			delivered.add()
			return finish(t, store, d.JobID)
		}, func(*jobs.Queue) { time.Sleep(time.Minute) })
		delivered.mu.Lock()
		defer delivered.mu.Unlock()
		if len(delivered.at) != 1 {
			t.Errorf("delivered at %v within a minute, want once", delivered.at)
		}
	})
}

func TestADeliveryMayAskForAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, delivered := newStubStore(time.Now), newInstants()
		store.put(t, time.Now(), alicesJob, nil)
		consuming(t, store, 1, func(context.Context, domain.Delivery) domain.Disposition {
			if delivered.add() < 6 {
				return domain.Disposition{Verdict: domain.Return, Pause: true}
			}
			return domain.Disposition{Verdict: domain.Ack}
		}, func(*jobs.Queue) { time.Sleep(time.Minute) })
		delivered.mu.Lock()
		defer delivered.mu.Unlock()
		if len(delivered.at) != 6 {
			t.Fatalf("delivered at %v, want six times", delivered.at)
		}
		if took := delivered.at[5]; took < 10*time.Second { // pauses of 1, 2, 4 and 8 s, the first of which may come one delivery late
			t.Errorf("delivered at %v: no growing pauses", delivered.at)
		}
	})
}

func TestAReturnedDeliveryComesAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		after time.Duration
		want  time.Duration // until the second delivery
	}{
		{"at once", 0, 0},
		{"at the first look after its wait", 90 * time.Second, 2 * poll},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, delivered := newStubStore(time.Now), newInstants()
				store.put(t, time.Now(), alicesJob, nil)
				consuming(t, store, 2, func(_ context.Context, d domain.Delivery) domain.Disposition {
					if delivered.add() == 1 {
						return domain.Disposition{Verdict: domain.Return, After: tt.after}
					}
					return finish(t, store, d.JobID)
				}, func(*jobs.Queue) { time.Sleep(3*poll - 1) })
				delivered.want(t, 0, tt.want)
				if got := store.stored(t, alicesJob); got.Attempts != 0 || got.Starts != 0 {
					t.Errorf("%d attempts, %d starts: returning it was counted", got.Attempts, got.Starts)
				}
			})
		})
	}
}

func TestAPanicWhileDeliveringBringsTheJobAtItsNextCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, delivered := newStubStore(time.Now), newInstants()
		store.put(t, time.Now(), alicesJob, nil)
		reports := consuming(t, store, 2, func(_ context.Context, d domain.Delivery) domain.Disposition {
			if delivered.add() == 1 {
				panic("a bug in a delivery")
			}
			return finish(t, store, d.JobID)
		}, func(*jobs.Queue) { time.Sleep(2 * poll) })
		delivered.want(t, 0, poll) // not at once, over and over; the check comes after half a minute
		wantReports(t, reports, 1, "a bug in a delivery")
	})
}

func TestADeadLetteredDeliveryIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStubStore(time.Now)
		store.put(t, time.Now(), alicesJob, nil)
		reports := consuming(t, store, 2, func(context.Context, domain.Delivery) domain.Disposition {
			return domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonTooLarge}
		}, func(*jobs.Queue) { time.Sleep(time.Second) })
		wantReports(t, reports, 1, alicesJob+" was dead-lettered: too_large")
		store.stored(t, alicesJob) // to be found there
	})
}

func TestAJobThatCannotBeGivenBackComesAtItsNextCheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, delivered := newStubStore(time.Now), newInstants()
		store.put(t, time.Now(), alicesJob, nil)
		store.update = func(ctx context.Context, _ string, _ func(domain.Job) (domain.Job, error)) (domain.Job, error) {
			<-ctx.Done() // the call has to have an end of its own
			return domain.Job{}, unavailable()
		}
		reports := consuming(t, store, 2, func(_ context.Context, d domain.Delivery) domain.Disposition {
			if delivered.add() == 1 {
				return domain.Disposition{Verdict: domain.Return}
			}
			return finish(t, store, d.JobID)
		}, func(*jobs.Queue) { time.Sleep(2 * poll) })
		wantReports(t, reports, 1, "no answer")
		delivered.mu.Lock()
		defer delivered.mu.Unlock()
		if len(delivered.at) != 2 || delivered.at[1] < domain.FirstCheck || delivered.at[1] > domain.FirstCheck+poll {
			t.Errorf("delivered at %v", delivered.at)
		}
	})
}

func TestWhatIsTakenAsTheConsumerEndsIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStubStore(time.Now)
		before := store.put(t, time.Now(), alicesJob, nil)
		ctx, stop := context.WithCancel(t.Context())
		store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			taken, err := store.Store.Take(ctx, limit, step)
			stop()
			return taken, err
		}
		q := jobs.NewQueue(store, time.Now, 2, poll)
		err := q.Consume(ctx, func(context.Context, domain.Delivery) domain.Disposition {
			t.Error("it was begun")
			return domain.Disposition{}
		})
		if err != nil {
			t.Error(err)
		}
		if got := store.stored(t, alicesJob); got.CheckAt != before.CheckAt || got.Checks != 0 {
			t.Errorf("the next check is at %v after %d checks, want at once", got.CheckAt, got.Checks)
		}
	})
}

func TestAtItsEndTheConsumerWaitsForWhatItBegan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStubStore(time.Now)
		store.put(t, time.Now(), alicesJob, nil)
		q := jobs.NewQueue(store, time.Now, 2, poll)
		ctx, stop := context.WithCancel(t.Context())
		start, finished := time.Now(), false
		time.AfterFunc(time.Second, stop)
		err := q.Consume(ctx, func(ctx context.Context, _ domain.Delivery) domain.Disposition {
			time.Sleep(time.Minute)
			finished = ctx.Err() == nil
			return domain.Disposition{Verdict: domain.Ack}
		})
		if err != nil || !finished || time.Since(start) != time.Minute {
			t.Errorf("returned %v after %v, delivery finished undisturbed: %t", err, time.Since(start), finished)
		}
	})
}

func TestAConsumerWhoseContextHasEndedTakesNothing(t *testing.T) {
	t.Parallel()
	store := newStubStore(time.Now)
	store.take = func(context.Context, int, ports.Step) ([]domain.Job, error) {
		t.Error("it looked for jobs")
		return nil, nil
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	q := jobs.NewQueue(store, time.Now, 2, poll)
	if err := q.Consume(ctx, func(context.Context, domain.Delivery) domain.Disposition { return domain.Disposition{} }); err != nil {
		t.Error(err)
	}
	wantError(t, q.Dispatch(ctx, domain.Job{}), domain.Unavailable, domain.ReasonUnavailable)
}

func TestDispatchNeverBlocks(t *testing.T) {
	t.Parallel()
	q := jobs.NewQueue(newStubStore(time.Now), time.Now, 1, poll)
	for range 10 { // nobody consumes
		if err := q.Dispatch(t.Context(), domain.Job{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQueueFits(t *testing.T) {
	t.Parallel()
	q := jobs.NewQueue(newStubStore(time.Now), time.Now, 1, poll)
	if err := q.Fits(domain.Job{Payload: make([]byte, domain.MaxPayload)}); err != nil {
		t.Error(err)
	}
	wantError(t, q.Fits(domain.Job{Payload: make([]byte, domain.MaxPayload+1)}), domain.TooLarge, domain.ReasonTooLarge)
}

func TestAJobIsNotRunBesideItselfWhenTheMachineSlept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var slept time.Duration
		now := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(slept)
		}
		store := newStubStore(now)
		store.put(t, now(), alicesJob, nil)
		running, most, deliveries := 0, 0, 0
		consuming(t, store, 4, func(ctx context.Context, d domain.Delivery) domain.Disposition {
			mu.Lock()
			running++
			deliveries++
			most = max(most, running)
			first := deliveries == 1
			mu.Unlock()
			if first {
				if _, err := store.Store.Update(ctx, d.JobID, func(job domain.Job) (domain.Job, error) { return job.Claim(now(), "lease", "w") }); err != nil {
					t.Error(err)
				}
				time.Sleep(3 * poll)
			}
			mu.Lock()
			running--
			mu.Unlock()
			return domain.Disposition{Verdict: domain.Ack}
		}, func(*jobs.Queue) {
			time.Sleep(poll / 2)
			mu.Lock()
			slept = time.Hour // the lease runs out in its sleep
			mu.Unlock()
			time.Sleep(5 * poll)
		})
		if most != 1 || deliveries < 2 {
			t.Errorf("%d deliveries, %d of them at once; want more than one, one after the other", deliveries, most)
		}
	})
}
