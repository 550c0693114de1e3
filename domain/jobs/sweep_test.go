package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
	"github.com/jobgate/jobgate/ports/portstest"
)

// broom is a sweep over a store and a broker, by the clock now.
type broom struct {
	*jobs.Sweep
	now    func() time.Time
	store  *stubStore
	broker *stubBroker
}

func newBroom(now func() time.Time) broom {
	store, broker := newStubStore(now), &stubBroker{}
	return broom{Sweep: &jobs.Sweep{Schedule: store, Dispatcher: broker}, now: now, store: store, broker: broker}
}

// fill stores n jobs that are due.
func (b broom) fill(t *testing.T, n int) (ids []string) {
	t.Helper()
	next := counter()
	for range n {
		ids = append(ids, b.store.put(t, b.now(), next(), nil).ID)
	}
	return ids
}

func (b broom) wantPass(t *testing.T, want jobs.Swept) {
	t.Helper()
	if got, err := b.Pass(t.Context()); got != want || err != nil {
		t.Errorf("swept %+v, %v; want %+v", got, err, want)
	}
}

func TestPassHandsOutWhatIsDueAndWhatWasAbandoned(t *testing.T) {
	t.Parallel()
	clock := portstest.NewClock()
	b := newBroom(clock.Now)
	next := counter()
	due := b.store.put(t, clock.Now(), next(), nil)
	delayed := b.store.put(t, clock.Now(), next(), func(j *domain.Job) {
		j.DueAt = j.DueAt.Add(time.Hour)
		j.CheckAt = j.DueAt
	})
	running := b.store.put(t, clock.Now(), next(), func(j *domain.Job) {
		claimed, err := j.Claim(clock.Now(), "lease-1", "worker-1")
		if err != nil {
			t.Fatal(err)
		}
		*j = claimed
	})
	finished := b.store.put(t, clock.Now(), next(), func(j *domain.Job) {
		cancelled, err := j.Cancel(clock.Now(), domain.ReasonCancelled)
		if err != nil {
			t.Fatal(err)
		}
		*j = cancelled
	})

	b.wantPass(t, jobs.Swept{Dispatched: 1}) // what is due
	b.wantPass(t, jobs.Swept{})
	clock.Advance(domain.FirstCheck)
	b.wantPass(t, jobs.Swept{Dispatched: 1}) // it again: nobody claimed it
	clock.Advance(running.LeaseTerm() - domain.FirstCheck)
	b.wantPass(t, jobs.Swept{Dispatched: 1}) // what was abandoned
	if want, got := []string{due.ID, due.ID, running.ID}, b.broker.dispatched(); !slices.Equal(got, want) {
		t.Errorf("dispatched %q, want %q", got, want)
	}
	if got := b.store.stored(t, due.ID); got.Dispatches != 2 || b.broker.sent[1].Dispatches != 2 {
		t.Errorf("dispatch %d is stored, %d was sent, want the second", got.Dispatches, b.broker.sent[1].Dispatches)
	}
	clock.Advance(time.Hour)
	b.wantPass(t, jobs.Swept{Dispatched: 3})
	if last := b.broker.dispatched()[3:]; !slices.Contains(last, delayed.ID) || slices.Contains(last, finished.ID) {
		t.Errorf("dispatched %q", last)
	}
}

func TestPassRemovesWhatHasExpired(t *testing.T) {
	t.Parallel()
	clock := portstest.NewClock()
	b := newBroom(clock.Now)
	for _, id := range b.fill(t, 3) {
		if _, err := b.store.Update(t.Context(), id, func(job domain.Job) (domain.Job, error) {
			return job.Cancel(clock.Now(), domain.ReasonCancelled)
		}); err != nil {
			t.Fatal(err)
		}
	}
	b.wantPass(t, jobs.Swept{})
	clock.Advance(domain.DefaultRetention.Finished)
	b.wantPass(t, jobs.Swept{Expired: 3})
	b.wantPass(t, jobs.Swept{})

	b.store.expire = func(_ context.Context, limit int) (int, error) {
		if limit < 1 || limit > 1000 {
			t.Errorf("expire up to %d", limit)
		}
		return 0, unavailable()
	}
	b.fill(t, 1)
	swept, err := b.Pass(t.Context())
	wantError(t, err, domain.Unavailable, domain.ReasonUnavailable)
	if swept != (jobs.Swept{Dispatched: 1}) {
		t.Errorf("swept %+v", swept)
	}
}

func TestPassIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const bound, atOnce = 1000, 16
		b := newBroom(time.Now)
		b.fill(t, bound+50)
		var running, most int
		slots := make(chan struct{}, 1) // guards the two
		slots <- struct{}{}
		b.broker.dispatch = func(context.Context, domain.Job) error {
			<-slots
			running++
			most = max(most, running)
			slots <- struct{}{}
			time.Sleep(time.Millisecond)
			<-slots
			running--
			slots <- struct{}{}
			return nil
		}
		b.store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			if limit < 1 || limit > 100 {
				t.Errorf("take up to %d", limit)
			}
			return b.store.Store.Take(ctx, limit, step)
		}
		b.wantPass(t, jobs.Swept{Dispatched: bound})
		if most != atOnce {
			t.Errorf("%d dispatches were under way at once, want %d", most, atOnce)
		}
		b.wantPass(t, jobs.Swept{Dispatched: 50})
	})
}

func TestPassEndsEarlyWhenTheBrokerIsOutOfReach(t *testing.T) {
	t.Parallel()
	for _, kind := range []domain.Kind{domain.Unavailable, domain.Throttled} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			b := newBroom(portstest.NewClock().Now)
			b.fill(t, 250)
			b.broker.dispatch = func(context.Context, domain.Job) error {
				return domain.Errorf(kind, domain.ReasonUnavailable, "no answer")
			}
			swept, err := b.Pass(t.Context())
			wantError(t, err, kind, domain.ReasonUnavailable)
			if swept != (jobs.Swept{Failed: 100}) {
				t.Errorf("swept %+v, want one batch", swept)
			}
		})
	}
	t.Run("whatever else fails", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := newBroom(time.Now)
			ids := b.fill(t, 250)
			b.broker.dispatch = func(_ context.Context, job domain.Job) error {
				if job.ID == ids[0] {
					time.Sleep(time.Second) // the last to answer
					return domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "too large")
				}
				return unavailable()
			}
			swept, err := b.Pass(t.Context())
			wantError(t, err, domain.Unavailable, domain.ReasonUnavailable)
			if swept != (jobs.Swept{Failed: 100}) {
				t.Errorf("swept %+v, want one batch", swept)
			}
		})
	})
}

func TestAJobThatTheBrokerWillNotHaveDelaysNoOther(t *testing.T) {
	t.Parallel()
	for _, kind := range []domain.Kind{domain.TooLarge, domain.Internal, domain.Invalid} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			b := newBroom(portstest.NewClock().Now)
			ids := b.fill(t, 250)
			b.broker.dispatch = func(_ context.Context, job domain.Job) error {
				if job.ID == ids[0] || job.ID == ids[120] {
					return domain.Errorf(kind, domain.ReasonTooLarge, "will not do")
				}
				return nil
			}
			b.wantPass(t, jobs.Swept{Dispatched: 248, Failed: 2})
		})
	}
}

func TestPassWhoseStoreIsOutOfReach(t *testing.T) {
	t.Parallel()
	b := newBroom(portstest.NewClock().Now)
	b.fill(t, 150)
	takes := 0
	b.store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
		if takes++; takes > 1 {
			return nil, unavailable()
		}
		return b.store.Store.Take(ctx, limit, step)
	}
	swept, err := b.Pass(t.Context())
	wantError(t, err, domain.Unavailable, domain.ReasonUnavailable)
	if swept != (jobs.Swept{Dispatched: 100}) {
		t.Errorf("swept %+v, want the first batch", swept)
	}
}

func TestRunSweepsAtEachIntervalUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroom(time.Now)
		start := time.Now()
		b.store.put(t, start, alicesJob, nil)
		trouble := errors.New("out of reach")
		b.store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			if time.Since(start) == 2*time.Second {
				return nil, trouble
			}
			return b.store.Store.Take(ctx, limit, step)
		}
		ctx, stop := context.WithCancel(t.Context())
		var reports []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Run(ctx, time.Second, func(swept jobs.Swept, err error) {
				reports = append(reports, fmt.Sprintf("%v %+v %v", time.Since(start), swept, err))
			})
		}()
		time.Sleep(3500 * time.Millisecond)
		stop()
		<-done
		want := []string{
			"1s {Dispatched:1 Failed:0 Expired:0} <nil>",
			"2s {Dispatched:0 Failed:0 Expired:0} out of reach",
			"3s {Dispatched:0 Failed:0 Expired:0} <nil>",
		}
		if !slices.Equal(reports, want) {
			t.Errorf("reports %q, want %q", reports, want)
		}
	})
}

func TestRunReportsNoPassThatItsOwnEndCutShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroom(time.Now)
		ctx, stop := context.WithCancel(t.Context())
		b.store.take = func(ctx context.Context, _ int, _ ports.Step) ([]domain.Job, error) {
			stop()
			return nil, domain.Wrap(ctx.Err(), domain.Unavailable, domain.ReasonUnavailable, "cancelled")
		}
		b.Run(ctx, time.Second, func(swept jobs.Swept, err error) { t.Errorf("reported %+v, %v", swept, err) })
	})
}

// A call without an end would be the end of the sweep.
func TestASilentStoreOrBrokerDoesNotStopTheSweep(t *testing.T) {
	t.Parallel()
	for _, silent := range []string{"take", "dispatch", "expire"} {
		t.Run(silent, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBroom(time.Now)
				b.fill(t, 1)
				silence := func(ctx context.Context) error {
					<-ctx.Done()
					return domain.Wrap(ctx.Err(), domain.Unavailable, domain.ReasonUnavailable, "cancelled")
				}
				switch silent {
				case "take":
					b.store.take = func(ctx context.Context, _ int, _ ports.Step) ([]domain.Job, error) { return nil, silence(ctx) }
				case "dispatch":
					b.broker.dispatch = func(ctx context.Context, _ domain.Job) error { return silence(ctx) }
				case "expire":
					b.store.expire = func(ctx context.Context, _ int) (int, error) { return 0, silence(ctx) }
				}
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				failed := 0
				b.Run(ctx, time.Second, func(_ jobs.Swept, err error) {
					if err != nil {
						failed++
					}
				})
				if failed == 0 {
					t.Error("no pass ended within a minute")
				}
			})
		})
	}
}

func TestExpireGoesOnUntilNothingIsLeft(t *testing.T) {
	t.Parallel()
	left, calls := 1234, 0
	b := newBroom(portstest.NewClock().Now)
	b.store.expire = func(_ context.Context, limit int) (int, error) {
		calls++
		n := min(limit, left)
		left -= n
		return n, nil
	}
	removed, err := jobs.Expire(t.Context(), b.store)
	if err != nil || removed != 1234 || left != 0 || calls > 10 {
		t.Errorf("removed %d in %d calls, %v; %d are left", removed, calls, err, left)
	}
}
