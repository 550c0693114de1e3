package jobs_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// claimingQueue returns a queue over the shift's store that claims for its worker.
func (s *shift) claimingQueue(concurrency int) *jobs.Queue {
	q := jobs.NewQueue(s.store, s.Now, concurrency, poll)
	q.Claim = s.Claim
	return q
}

// claimed stores alice's job as a taker that claims for the worker does, and returns the delivery of it.
func (s *shift) claimed(t *testing.T, change func(*domain.Job)) domain.Delivery {
	t.Helper()
	s.store.put(t, s.start, alicesJob, change)
	taken, err := s.store.Store.Take(t.Context(), 1, func(job domain.Job, now time.Time) domain.Job {
		claimed, err := s.Claim(job, now)
		if err != nil {
			t.Error(err)
		}
		return claimed
	})
	if err != nil || len(taken) != 1 {
		t.Fatalf("took %d jobs, %v", len(taken), err)
	}
	return domain.Delivery{JobID: alicesJob, Claimed: &taken[0]}
}

// wantUntouched checks that alice's job can be taken at once, as if it had never been claimed.
func (s *shift) wantUntouched(t *testing.T) {
	t.Helper()
	job := s.store.stored(t, alicesJob)
	if job.Status != domain.Queued || job.Attempts != 0 || job.Starts != 0 || len(job.History) != 0 || job.CheckAt.After(s.Now()) {
		t.Errorf("the job is %s after %d attempts and %d starts %+v, next check at %v; want it queued as if never claimed",
			job.Status, job.Attempts, job.Starts, job.History, job.CheckAt)
	}
	s.wantRuns(t)
}

func TestAClaimedDeliveryIsRunUnderItsOwnLease(t *testing.T) {
	t.Parallel()
	var got jobs.Run
	onShift(t, func(_ context.Context, run jobs.Run) ([]byte, error) {
		got = run
		return nil, nil
	}, func(t *testing.T, s *shift) {
		d := s.claimed(t, nil)
		writes := 0
		s.store.update = func(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
			writes++
			return s.store.Store.Update(ctx, id, decide)
		}
		wantDisposition(t, s.Deliver(t.Context(), d), acked)
		s.wantSettled(t, domain.Succeeded, "", 1, "")
		if diff := cmp.Diff(*d.Claimed, got.Job); diff != "" || got.Attempt != 1 || writes != 1 {
			t.Errorf("attempt %d with %d writes (-want +got):\n%s", got.Attempt, writes, diff)
		}
	})
}

func TestWhatAClaimHasSettledIsToldAndNotRun(t *testing.T) {
	t.Parallel()
	lost := func(change func(*domain.Job)) func(*domain.Job) {
		return func(j *domain.Job) {
			claimed, err := j.Claim(j.CreatedAt, "another", "worker-2")
			if err != nil {
				panic(err)
			}
			claimed.Lease.Until, claimed.CheckAt = j.CreatedAt, j.CreatedAt
			change(&claimed)
			*j = claimed
		}
	}
	tests := []struct {
		name   string
		job    func(*domain.Job)
		policy domain.AccessPolicy
		status domain.Status
		reason domain.Reason
	}{
		{"abandoned at the last attempt", lost(func(j *domain.Job) { j.Attempts = j.Retry.Attempts }), domain.AccessPolicy{}, domain.Dead, domain.ReasonWorkerLost},
		{"abandoned with its cancel asked for", lost(func(j *domain.Job) { j.CancelRequested = true }), domain.AccessPolicy{}, domain.Cancelled, domain.ReasonCancelled},
		{"of a revoked caller", nil, domain.AccessPolicy{
			Revoked: []domain.Revocation{{Issuer: alice.Issuer, Subject: alice.Subject}},
		}, domain.Dead, domain.ReasonRevoked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onShift(t, ok, func(t *testing.T, s *shift) {
				var told []domain.Job
				s.Policy, s.Settled = tt.policy, func(job domain.Job) { told = append(told, job) }
				d := s.claimed(t, tt.job)
				ctx, stop := context.WithCancel(t.Context())
				stop() // it is told all the same
				wantDisposition(t, s.Deliver(ctx, d), domain.Disposition{Verdict: domain.Ack, Reason: tt.reason})
				s.wantRuns(t)
				stored := s.store.stored(t, alicesJob)
				if stored.Status != tt.status || stored.Reason != tt.reason {
					t.Errorf("the job is %s (%s), want %s (%s)", stored.Status, stored.Reason, tt.status, tt.reason)
				}
				if diff := cmp.Diff([]domain.Job{stored}, told); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestAClaimThatIsNotRunIsUndoneAtOnce(t *testing.T) {
	t.Parallel()
	stopped := func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, stop := context.WithCancel(ctx)
		stop()
		return ctx, stop
	}
	late := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 25*time.Second-1)
	}
	tests := []struct {
		name    string
		ctx     func(context.Context) (context.Context, context.CancelFunc)
		silence time.Duration // of the store
		reason  domain.Reason
	}{
		{"the worker stops", stopped, 0, domain.ReasonUnavailable},
		{"too little time is left", late, 0, domain.ReasonTooLate},
		{"the worker stops, and the store answers only later", stopped, 10 * time.Second, domain.ReasonUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onShift(t, ok, func(t *testing.T, s *shift) {
				d := s.claimed(t, nil)
				s.store.update = func(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
					if time.Since(s.start) < tt.silence {
						return domain.Job{}, unavailable()
					}
					return s.store.Store.Update(ctx, id, decide)
				}
				ctx, cancel := tt.ctx(t.Context())
				defer cancel()
				wantDisposition(t, s.Deliver(ctx, d), domain.Disposition{Verdict: domain.Return, Reason: tt.reason})
				s.wantUntouched(t)
			})
		})
	}
}

func TestTheQueueClaimsWhatItTakesInOneWrite(t *testing.T) {
	t.Parallel()
	onShift(t, ok, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		writes := 0
		s.store.update = func(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
			writes++
			return s.store.Store.Update(ctx, id, decide)
		}
		consumingFrom(t, s.claimingQueue(2), func(ctx context.Context, d domain.Delivery) domain.Disposition {
			if diff := cmp.Diff(s.store.stored(t, alicesJob), *d.Claimed); diff != "" || d.MessageID != alicesJob+"/1" {
				t.Errorf("message %s carries not the job as stored (-want +got):\n%s", d.MessageID, diff)
			}
			return s.Deliver(ctx, d)
		}, func(*jobs.Queue) {})
		s.wantSettled(t, domain.Succeeded, "", 1, "")
		if s.wantRuns(t, 1); writes != 1 {
			t.Errorf("%d writes after the take, want that of the outcome alone", writes)
		}
	})
}

func TestWhatCannotBeClaimedIsDeliveredToBeClaimedThere(t *testing.T) {
	t.Parallel()
	onShift(t, ok, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, func(j *domain.Job) { j.DueAt = j.DueAt.Add(time.Second) }) // looked at too early
		consumingFrom(t, s.claimingQueue(2), func(ctx context.Context, d domain.Delivery) domain.Disposition {
			if d.Claimed != nil {
				t.Errorf("it carries a claim: %+v", d.Claimed)
			}
			got := s.Deliver(ctx, d)
			wantDisposition(t, got, domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonNotDue})
			return got
		}, func(*jobs.Queue) {})
		if job := s.store.stored(t, alicesJob); job.Dispatches != 1 || !job.CheckAt.Equal(s.start.Add(domain.FirstCheck)) {
			t.Errorf("next check at %v after %d dispatches, want it taken", job.CheckAt, job.Dispatches)
		}
	})
}

func TestWhatIsClaimedAsTheConsumerEnds(t *testing.T) {
	t.Parallel()
	for name, answered := range map[string]bool{"and the taker learns it": true, "and the taker learns nothing": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onShift(t, ok, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, nil)
				s.store.put(t, s.start, bobsJob, func(j *domain.Job) { j.Attempts = j.Retry.Attempts }) // its claim is its end
				ctx, stop := context.WithCancel(t.Context())
				s.store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
					taken, err := s.store.Store.Take(ctx, limit, step)
					stop()
					if !answered {
						return nil, unavailable()
					}
					return taken, err
				}
				var delivered []string
				if err := s.claimingQueue(4).Consume(ctx, func(ctx context.Context, d domain.Delivery) domain.Disposition {
					delivered = append(delivered, d.JobID)
					return s.Deliver(ctx, d)
				}); err != nil {
					t.Error(err)
				}
				s.wantUntouched(t)
				if job := s.store.stored(t, bobsJob); job.Status != domain.Dead {
					t.Errorf("the job that was used up is %s", job.Status)
				}
				want := bobsJob // its end is told
				if !answered {
					want = ""
				}
				if got := strings.Join(delivered, ", "); got != want {
					t.Errorf("delivered %q, want %q", got, want)
				}
			})
		})
	}
}

func TestClaimsOfATakeThatWasNotAnsweredAreUndone(t *testing.T) {
	t.Parallel()
	onShift(t, ok, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		takes := 0
		s.store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			taken, err := s.store.Store.Take(ctx, limit, step)
			if takes++; takes == 1 {
				return nil, unavailable()
			}
			return taken, err
		}
		reports := consumingFrom(t, s.claimingQueue(2), s.Deliver, func(*jobs.Queue) {
			s.wantUntouched(t)
			time.Sleep(2 * time.Second)
		})
		wantReports(t, reports, 1, "no answer")
		s.wantSettled(t, domain.Succeeded, "", 1, "")
		s.wantRuns(t, 1)
	})
}

func TestClaimsThatWereRolledBackTouchNobodyElses(t *testing.T) {
	t.Parallel()
	onShift(t, ok, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		var theirs domain.Job
		s.store.take = func(_ context.Context, _ int, step ports.Step) ([]domain.Job, error) {
			if theirs.ID != "" {
				return nil, nil
			}
			step(s.store.stored(t, alicesJob), s.Now())
			s.step(t, func(job domain.Job) (domain.Job, error) { return job.Claim(s.Now(), "theirs", "worker-2") })
			theirs = s.store.stored(t, alicesJob)
			return nil, unavailable()
		}
		reports := consumingFrom(t, s.claimingQueue(2), s.Deliver, func(*jobs.Queue) {})
		wantReports(t, reports, 1, "no answer")
		if diff := cmp.Diff(theirs, s.store.stored(t, alicesJob)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestALeaseThatRanOutInTheMachinesSleepIsLeftToItsRun(t *testing.T) {
	t.Parallel()
	onShift(t, func(context.Context, jobs.Run) ([]byte, error) {
		time.Sleep(10 * time.Second)
		return nil, nil
	}, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		slept := false
		s.store.take = func(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
			s.mu.Lock()
			begun := len(s.runs) > 0
			s.mu.Unlock()
			if slept || !begun {
				return s.store.Store.Take(ctx, limit, step)
			}
			slept = true
			s.step(t, func(job domain.Job) (domain.Job, error) { // the lease is over, as in a sleep
				job.Lease.Until, job.CheckAt = s.Now(), s.Now()
				return job, nil
			})
			return s.store.Store.Take(ctx, limit, step)
		}
		consumingFrom(t, s.claimingQueue(2), s.Deliver, func(q *jobs.Queue) {
			time.Sleep(time.Second)
			q.Wake()
			time.Sleep(time.Minute)
		})
		s.wantSettled(t, domain.Succeeded, "", 1, "")
		if s.wantRuns(t, 1); !slept {
			t.Error("the job was never due while it ran")
		}
	})
}

func TestAClaimedDeliveryThatPanicsComesAfterItsLease(t *testing.T) {
	t.Parallel()
	onShift(t, ok, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		delivered := newInstants()
		reports := consumingFrom(t, s.claimingQueue(2), func(ctx context.Context, d domain.Delivery) domain.Disposition {
			if delivered.add() == 1 {
				panic("a bug in a delivery")
			}
			return s.Deliver(ctx, d)
		}, func(*jobs.Queue) { time.Sleep(2 * poll) })
		delivered.want(t, 0, poll) // the lease lasts 50 s
		wantReports(t, reports, 1, "a bug in a delivery")
		s.wantSettled(t, domain.Succeeded, "", 2, "")
	})
}
