package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// A shift is a worker and the store it works on, in a bubble of its own time.
type shift struct {
	*jobs.Worker
	store *stubStore
	start time.Time

	mu   sync.Mutex
	runs []int // the attempts that the handler was called for
}

// onShift runs test in a bubble, with a worker whose handler is handle.
func onShift(t *testing.T, handle jobs.HandlerFunc, test func(t *testing.T, s *shift)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		tokens := 0
		s := &shift{store: newStubStore(time.Now), start: time.Now()}
		s.Worker = &jobs.Worker{
			Store: s.store, Retries: domain.RetryPolicies{{Jobs: "report.*", Policy: retryPolicy}}, Retention: domain.DefaultRetention,
			Name: "worker-1", Now: time.Now, NewToken: func() string { tokens++; return fmt.Sprintf("lease-%d", tokens) },
			Random: func() float64 { return 0.5 },
			Handler: jobs.HandlerFunc(func(ctx context.Context, run jobs.Run) ([]byte, error) {
				s.mu.Lock()
				s.runs = append(s.runs, run.Attempt)
				s.mu.Unlock()
				return handle(ctx, run)
			}),
		}
		test(t, s)
	})
}

// deliver delivers alice's job.
func (s *shift) deliver(ctx context.Context) domain.Disposition {
	return s.Deliver(ctx, domain.Delivery{MessageID: "m-1", SentAt: time.Now(), JobID: alicesJob})
}

func (s *shift) step(t *testing.T, step func(domain.Job) (domain.Job, error)) {
	t.Helper()
	if _, err := s.store.Store.Update(context.WithoutCancel(t.Context()), alicesJob, step); err != nil {
		t.Error(err)
	}
}

func (s *shift) wantElapsed(t *testing.T, want time.Duration) {
	t.Helper()
	if got := time.Since(s.start); got != want {
		t.Errorf("took %v, want %v", got, want)
	}
}

func (s *shift) wantRuns(t *testing.T, want ...int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.runs, want) {
		t.Errorf("the handler ran as attempts %v, want %v", s.runs, want)
	}
}

func wantDisposition(t *testing.T, got, want domain.Disposition) {
	t.Helper()
	if got != want {
		t.Errorf("disposed of as %+v, want %+v", got, want)
	}
}

// wantSettled checks what alice's job came to; failure is how its last attempt's error begins.
func (s *shift) wantSettled(t *testing.T, status domain.Status, reason domain.Reason, attempts int, failure string) domain.Job {
	t.Helper()
	job := s.store.stored(t, alicesJob)
	if job.Status != status || job.Reason != reason || job.Attempts != attempts {
		t.Errorf("the job is %s (%s) after %d attempts, want %s (%s) after %d", job.Status, job.Reason, job.Attempts, status, reason, attempts)
	}
	if len(job.History) == 0 {
		t.Fatal("the job has no history")
	}
	last := job.History[len(job.History)-1]
	if !strings.HasPrefix(last.Error, failure) || (last.Error == "") != (failure == "") {
		t.Errorf("the last attempt's error is %q, want %q", last.Error, failure)
	}
	if (status == domain.Running) != last.EndedAt.IsZero() {
		t.Errorf("a %s job's last attempt ended at %v", status, last.EndedAt)
	}
	return job
}

var acked = domain.Disposition{Verdict: domain.Ack}

func ok(context.Context, jobs.Run) ([]byte, error) { return []byte(`{"ok":true}`), nil }

// obeys waits for its context's end and returns its error.
func obeys(ctx context.Context, _ jobs.Run) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestTheWorkerRecordsWhatAHandlerCameTo(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	returns := func(output string, err error) jobs.HandlerFunc {
		return func(context.Context, jobs.Run) ([]byte, error) { return []byte(output), err }
	}
	tests := []struct {
		name    string
		handle  jobs.HandlerFunc
		status  domain.Status
		reason  domain.Reason
		failure string
		output  string
	}{
		{"success", ok, domain.Succeeded, "", "", `{"ok":true}`},
		{"success without output", func(context.Context, jobs.Run) ([]byte, error) { return nil, nil }, domain.Succeeded, "", "", ""},
		{"failure", returns("", boom), domain.Queued, "", "boom", ""},
		{"permanent failure", returns("", domain.Permanent(boom)), domain.Dead, domain.ReasonPermanent, "boom", ""},
		{"permanent failure inside another", returns("", fmt.Errorf("render: %w", domain.Permanent(boom))), domain.Dead, domain.ReasonPermanent, "render: boom", ""},
		{"failure with output", returns(`1`, boom), domain.Queued, "", "boom", ""},
		{"a panic", func(context.Context, jobs.Run) ([]byte, error) { panic("boom") }, domain.Queued, "", "the handler panicked", ""},
		{"a panic with an error", func(context.Context, jobs.Run) ([]byte, error) { panic(boom) }, domain.Queued, "", "the handler panicked", ""},
		{"output that is not JSON", returns("done", nil), domain.Dead, domain.ReasonPermanent, "the handler's output is not JSON", ""},
		{"output that is empty", returns("", nil), domain.Succeeded, "", "", ""},
		{"output of two values", returns("1 2", nil), domain.Dead, domain.ReasonPermanent, "the handler's output is not JSON", ""},
		{"output that is not UTF-8", returns("\"\xff\"", nil), domain.Dead, domain.ReasonPermanent, "the handler's output is not JSON", ""},
		{"output too large", returns(`"`+strings.Repeat("x", domain.MaxOutput)+`"`, nil), domain.Dead, domain.ReasonPermanent, "the output has 32770 bytes", ""},
		{"no handler", jobs.Handlers{"mail.*": ok}.Handle, domain.Queued, "", `no handler for jobs named "report.daily"`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onShift(t, tt.handle, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, nil)
				wantDisposition(t, s.deliver(t.Context()), domain.Disposition{Verdict: domain.Ack, Reason: tt.reason})
				job := s.wantSettled(t, tt.status, tt.reason, 1, tt.failure)
				if string(job.Output) != tt.output {
					t.Errorf("output %q, want %q", job.Output, tt.output)
				}
				if want := s.start.Add(7500 * time.Millisecond).UTC(); tt.status == domain.Queued && job.DueAt != want {
					t.Errorf("due again at %v, want %v", job.DueAt, want)
				}
				s.wantRuns(t, 1)
				s.wantElapsed(t, 0)
			})
		})
	}
}

func TestTheHandlerGetsTheJobAsClaimed(t *testing.T) {
	t.Parallel()
	var got jobs.Run
	onShift(t, func(_ context.Context, run jobs.Run) ([]byte, error) {
		got = run
		return nil, nil
	}, func(t *testing.T, s *shift) {
		want := s.store.put(t, s.start, alicesJob, nil)
		claimed, err := want.Claim(s.start, "lease-1", "worker-1")
		if err != nil {
			t.Fatal(err)
		}
		s.deliver(t.Context())
		if diff := cmp.Diff(claimed, got.Job, ignoreRevision); diff != "" || got.Attempt != 1 {
			t.Errorf("attempt %d (-want +got):\n%s", got.Attempt, diff)
		}
	})
}

func TestEachAttemptIsKeptAndHasANumberOfItsOwn(t *testing.T) {
	t.Parallel()
	onShift(t, func(_ context.Context, run jobs.Run) ([]byte, error) {
		if run.Attempt < 3 {
			return nil, fmt.Errorf("failure %d", run.Attempt)
		}
		return []byte(`1`), nil
	}, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		for range 3 {
			wantDisposition(t, s.deliver(t.Context()), acked)
			wantDisposition(t, s.deliver(t.Context()), domain.Disposition{Verdict: domain.Ack, Reason: s.tooEarly(t)})
			time.Sleep(time.Minute)
		}
		job := s.wantSettled(t, domain.Succeeded, "", 3, "")
		for i, want := range []string{"failure 1", "failure 2", ""} {
			at := s.start.Add(time.Duration(i) * time.Minute).UTC()
			if diff := cmp.Diff(domain.Attempt{Number: i + 1, StartedAt: at, EndedAt: at, Worker: "worker-1", Error: want}, job.History[i]); diff != "" {
				t.Errorf("attempt %d (-want +got):\n%s", i+1, diff)
			}
		}
		s.wantRuns(t, 1, 2, 3)
	})
}

// tooEarly is why a second delivery right after the first runs nothing.
func (s *shift) tooEarly(t *testing.T) domain.Reason {
	t.Helper()
	if s.store.stored(t, alicesJob).Status == domain.Queued {
		return domain.ReasonNotDue
	}
	return domain.ReasonFinished
}

func TestTheLastFailureIsTheEnd(t *testing.T) {
	t.Parallel()
	onShift(t, func(context.Context, jobs.Run) ([]byte, error) { return nil, errors.New("boom") }, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		for range 2 {
			wantDisposition(t, s.deliver(t.Context()), acked)
			time.Sleep(time.Minute)
		}
		wantDisposition(t, s.deliver(t.Context()), domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonAttemptsUsedUp})
		s.wantSettled(t, domain.Dead, domain.ReasonAttemptsUsedUp, 3, "boom")
		wantDisposition(t, s.deliver(t.Context()), domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonFinished})
		s.wantRuns(t, 1, 2, 3)
	})
}

func TestDeliveriesThatRunNothing(t *testing.T) {
	t.Parallel()
	claimed := func(at time.Duration, change func(*domain.Job)) func(*domain.Job) {
		return func(j *domain.Job) {
			claimed, err := j.Claim(j.CreatedAt.Add(at), "another", "worker-2")
			if err != nil {
				panic(err)
			}
			if *j = claimed; change != nil {
				change(j)
			}
		}
	}
	longAgo := claimed(0, func(j *domain.Job) { j.Lease.Until = j.CreatedAt })
	conflict := func(reason domain.Reason) domain.Disposition {
		return domain.Disposition{Verdict: domain.Ack, Reason: reason}
	}
	tests := []struct {
		name   string
		job    func(*domain.Job) // nil: queued
		d      domain.Delivery   // JobID is set when it has none
		sent   time.Duration     // ago
		want   domain.Disposition
		status domain.Status
	}{
		{name: "leased elsewhere", job: claimed(0, nil), want: conflict(domain.ReasonLeased), status: domain.Running},
		{name: "not due", job: func(j *domain.Job) { j.DueAt = j.DueAt.Add(time.Hour) }, want: conflict(domain.ReasonNotDue), status: domain.Queued},
		{name: "finished", job: func(j *domain.Job) {
			cancelled, err := j.Cancel(j.CreatedAt, domain.ReasonCancelled)
			if err != nil {
				panic(err)
			}
			*j = cancelled
		}, want: conflict(domain.ReasonFinished), status: domain.Cancelled},
		{name: "abandoned at the last attempt", job: func(j *domain.Job) {
			longAgo(j)
			j.Attempts = j.Retry.Attempts
		}, want: conflict(domain.ReasonWorkerLost), status: domain.Dead},
		{name: "abandoned with its cancel asked for", job: func(j *domain.Job) {
			longAgo(j)
			j.CancelRequested = true
		}, want: conflict(domain.ReasonCancelled), status: domain.Cancelled},
		{name: "undecodable", d: domain.Delivery{Err: errors.New("no JSON")}, want: domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonUndecodable}, status: domain.Queued},
		{name: "no record yet", d: domain.Delivery{JobID: noJob}, sent: time.Hour - 1, want: domain.Disposition{
			Verdict: domain.Return, Reason: domain.ReasonRecordMissing, After: time.Minute,
		}, status: domain.Queued},
		{name: "no record for an hour", d: domain.Delivery{JobID: noJob}, sent: time.Hour, want: domain.Disposition{
			Verdict: domain.DeadLetter, Reason: domain.ReasonRecordMissing,
		}, status: domain.Queued},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onShift(t, ok, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, tt.job)
				if tt.d.JobID == "" && tt.d.Err == nil {
					tt.d.JobID = alicesJob
				}
				tt.d.SentAt = s.start.Add(-tt.sent)
				wantDisposition(t, s.Deliver(t.Context(), tt.d), tt.want)
				s.wantRuns(t)
				if job := s.store.stored(t, alicesJob); job.Status != tt.status {
					t.Errorf("the job is %s, want %s", job.Status, tt.status)
				}
			})
		})
	}
}

func TestADeliveryAfterTheEndIsReturnedUntouched(t *testing.T) {
	t.Parallel()
	onShift(t, ok, func(t *testing.T, s *shift) {
		before := s.store.put(t, s.start, alicesJob, nil)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		wantDisposition(t, s.deliver(ctx), domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable})
		s.wantRuns(t)
		if diff := cmp.Diff(before, s.store.stored(t, alicesJob)); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
	})
}

func TestARunEndsAtItsTimeout(t *testing.T) {
	t.Parallel()
	var cause error
	onShift(t, func(ctx context.Context, run jobs.Run) ([]byte, error) {
		defer func() { cause = context.Cause(ctx) }()
		return obeys(ctx, run)
	}, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		wantDisposition(t, s.deliver(t.Context()), acked)
		s.wantElapsed(t, 20*time.Second)
		s.wantSettled(t, domain.Queued, "", 1, "the run timeout has passed: ")
		if !errors.Is(cause, jobs.ErrTimeout) {
			t.Errorf("the handler's context ended because %v", cause)
		}
	})
}

func TestAHandlerThatIgnoresItsContextIsLeftToItself(t *testing.T) {
	t.Parallel()
	onShift(t, nil, func(t *testing.T, s *shift) {
		release, left := make(chan struct{}), make(chan struct{})
		s.Handler = jobs.HandlerFunc(func(context.Context, jobs.Run) ([]byte, error) {
			defer close(left)
			<-release
			return []byte(`"too late"`), nil
		})
		s.store.put(t, s.start, alicesJob, nil)
		wantDisposition(t, s.deliver(t.Context()), acked)
		job := s.wantSettled(t, domain.Queued, "", 1, "the run timeout has passed: the handler did not return")
		ended := job.History[0].EndedAt.Sub(s.start)
		if ended < 20*time.Second || ended >= job.LeaseTerm() { // the lease is that of the renewal at a third, at least
			t.Errorf("recorded after %v, the timeout is 20s and the lease at least %v", ended, job.LeaseTerm())
		}
		close(release)
		<-left
		synctest.Wait()
		if diff := cmp.Diff(job, s.store.stored(t, alicesJob)); diff != "" {
			t.Errorf("it came back and changed the job (-before +after):\n%s", diff)
		}
	})
}

func TestALongRunKeepsItsLease(t *testing.T) {
	t.Parallel()
	onShift(t, nil, func(t *testing.T, s *shift) {
		s.Handler = jobs.HandlerFunc(func(ctx context.Context, run jobs.Run) ([]byte, error) {
			for range 59 {
				time.Sleep(time.Minute)
				job := s.store.stored(t, alicesJob)
				if left := time.Until(job.Lease.Until); left < job.LeaseTerm()/2 || job.Lease.Token != run.Job.Lease.Token {
					t.Errorf("after %v the lease %+v has %v left", time.Since(s.start), job.Lease, left)
				}
			}
			return nil, ctx.Err()
		})
		s.store.put(t, s.start, alicesJob, func(j *domain.Job) { j.Retry.Timeout = time.Hour })
		wantDisposition(t, s.deliver(t.Context()), acked)
		s.wantSettled(t, domain.Succeeded, "", 1, "")
	})
}

func TestARunGoesOnWhileTheStoreDoesNotRenew(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(ctx context.Context) error{
		"it answers with an error": func(context.Context) error { return unavailable() },
		"it does not answer": func(ctx context.Context) error {
			<-ctx.Done()
			return domain.Wrap(ctx.Err(), domain.Unavailable, domain.ReasonUnavailable, "cancelled")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onShift(t, func(ctx context.Context, _ jobs.Run) ([]byte, error) {
				time.Sleep(19 * time.Second)
				return nil, ctx.Err()
			}, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, nil)
				renewals := 0
				s.store.update = func(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
					if passed := time.Since(s.start); passed > 0 && passed < 19*time.Second {
						renewals++
						return domain.Job{}, fail(ctx)
					}
					return s.store.Store.Update(ctx, id, decide)
				}
				wantDisposition(t, s.deliver(t.Context()), acked)
				s.wantSettled(t, domain.Succeeded, "", 1, "")
				if renewals != 1 {
					t.Errorf("%d renewals were tried", renewals)
				}
			})
		})
	}
}

func TestACancelEndsARunAtItsNextRenewal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answer  func(ctx context.Context) ([]byte, error) // once the context has ended
		status  domain.Status
		reason  domain.Reason
		failure string
	}{
		{"the handler stops", func(ctx context.Context) ([]byte, error) { return nil, ctx.Err() }, domain.Cancelled, domain.ReasonCancelled, "the job's cancel was asked for: context canceled"},
		{"the handler names the cause itself", func(ctx context.Context) ([]byte, error) { return nil, context.Cause(ctx) }, domain.Cancelled, domain.ReasonCancelled, "the job's cancel was asked for"},
		{"the handler fails for good", func(context.Context) ([]byte, error) { return nil, domain.Permanent(errors.New("boom")) }, domain.Cancelled, domain.ReasonCancelled, "boom"},
		{"the handler had succeeded", func(context.Context) ([]byte, error) { return []byte(`1`), nil }, domain.Succeeded, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var cause error
			onShift(t, func(ctx context.Context, _ jobs.Run) ([]byte, error) {
				<-ctx.Done()
				cause = context.Cause(ctx)
				return tt.answer(ctx)
			}, func(t *testing.T, s *shift) {
				job := s.store.put(t, s.start, alicesJob, nil)
				time.AfterFunc(time.Second, func() {
					s.step(t, func(job domain.Job) (domain.Job, error) { return job.Cancel(time.Now(), domain.ReasonCancelled) })
				})
				wantDisposition(t, s.deliver(t.Context()), domain.Disposition{Verdict: domain.Ack, Reason: tt.reason})
				s.wantElapsed(t, job.LeaseTerm()/3)
				s.wantSettled(t, tt.status, tt.reason, 1, tt.failure)
				if !errors.Is(cause, jobs.ErrCancelled) {
					t.Errorf("the handler's context ended because %v", cause)
				}
			})
		})
	}
}

func TestALostLeaseEndsTheRunAndSettlesNothing(t *testing.T) {
	t.Parallel()
	var cause, told error
	onShift(t, func(ctx context.Context, run jobs.Run) ([]byte, error) {
		<-ctx.Done()
		cause = context.Cause(ctx)
		told = run.Progress(context.WithoutCancel(ctx), 50, "half")
		return []byte(`1`), nil
	}, func(t *testing.T, s *shift) {
		job := s.store.put(t, s.start, alicesJob, nil)
		theirs := make(chan domain.Job, 1)
		time.AfterFunc(time.Second, func() {
			s.step(t, func(job domain.Job) (domain.Job, error) { return job.Claim(job.Lease.Until, "another", "worker-2") })
			theirs <- s.store.stored(t, alicesJob)
		})
		wantDisposition(t, s.deliver(t.Context()), domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonLeaseLost})
		s.wantElapsed(t, job.LeaseTerm()/3)
		if !errors.Is(cause, jobs.ErrLeaseLost) {
			t.Errorf("the handler's context ended because %v", cause)
		}
		wantError(t, told, domain.Conflict, domain.ReasonLeaseLost)
		if diff := cmp.Diff(<-theirs, s.store.stored(t, alicesJob)); diff != "" {
			t.Errorf("the other worker's run was changed (-before +after):\n%s", diff)
		}
	})
}

func TestAStopInterruptsARunWithoutChargingIt(t *testing.T) {
	t.Parallel()
	const stopAt = 5 * time.Second
	tests := []struct {
		name     string
		handle   jobs.HandlerFunc
		status   domain.Status
		reason   domain.Reason
		attempts int
		failure  string
		took     time.Duration
	}{
		{"the handler stops", obeys, domain.Queued, "", 0, "context canceled", stopAt},
		{"the handler fails", func(ctx context.Context, _ jobs.Run) ([]byte, error) {
			<-ctx.Done()
			return nil, errors.New("boom")
		}, domain.Queued, "", 0, "context canceled: boom", stopAt},
		{"the handler finishes a little later", func(ctx context.Context, _ jobs.Run) ([]byte, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			return nil, nil
		}, domain.Succeeded, "", 1, "", stopAt + time.Second},
		{"the handler fails for good", func(ctx context.Context, _ jobs.Run) ([]byte, error) {
			<-ctx.Done()
			return nil, domain.Permanent(errors.New("boom"))
		}, domain.Dead, domain.ReasonPermanent, 1, "boom", stopAt},
		{"the handler does not listen", func(context.Context, jobs.Run) ([]byte, error) {
			time.Sleep(time.Hour)
			return nil, nil
		}, domain.Queued, "", 0, "context canceled: the handler did not return", stopAt + 10*time.Second},
		{"the handler had failed before", func(context.Context, jobs.Run) ([]byte, error) {
			time.Sleep(time.Second)
			return nil, errors.New("boom")
		}, domain.Queued, "", 1, "boom", time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onShift(t, tt.handle, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, nil)
				ctx, stop := context.WithCancel(t.Context())
				time.AfterFunc(stopAt, stop)
				wantDisposition(t, s.deliver(ctx), domain.Disposition{Verdict: domain.Ack, Reason: tt.reason})
				s.wantElapsed(t, tt.took)
				job := s.wantSettled(t, tt.status, tt.reason, tt.attempts, tt.failure)
				if job.Starts != 1 {
					t.Errorf("%d starts: the number of one that was interrupted must not be given again", job.Starts)
				}
				if now := time.Now().UTC(); tt.status == domain.Queued && tt.attempts == 0 && job.DueAt != now {
					t.Errorf("due at %v, want at once, %v", job.DueAt, now)
				}
				time.Sleep(2 * time.Hour) // for a handler that was left to itself
			})
		})
	}
}

func TestARunThatTimedOutBeforeTheStopIsCharged(t *testing.T) {
	t.Parallel()
	onShift(t, func(context.Context, jobs.Run) ([]byte, error) {
		time.Sleep(28 * time.Second) // past the timeout, and deaf to it
		return nil, errors.New("boom")
	}, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(25*time.Second, stop)
		wantDisposition(t, s.deliver(ctx), acked)
		s.wantSettled(t, domain.Queued, "", 1, "the run timeout has passed: boom")
	})
}

func TestAStoreThatDoesNotAnswerAClaim(t *testing.T) {
	t.Parallel()
	paused := domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable, Pause: true}
	tests := []struct {
		name string
		fail func(ctx context.Context) error
		took time.Duration
		max  int // calls
	}{
		{"unavailable", func(context.Context) error { return unavailable() }, 0, 2},
		{"silent", func(ctx context.Context) error {
			<-ctx.Done()
			return domain.Wrap(ctx.Err(), domain.Unavailable, domain.ReasonUnavailable, "cancelled")
		}, 10 * time.Second, 2},
		{"throttled", func(context.Context) error {
			return domain.Errorf(domain.Throttled, domain.ReasonThrottled, "slow down")
		}, 0, 2},
		{"at fault", func(context.Context) error { return errors.New("no such table") }, 0, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onShift(t, ok, func(t *testing.T, s *shift) {
				before, calls := s.store.put(t, s.start, alicesJob, nil), 0
				s.store.update = func(ctx context.Context, _ string, _ func(domain.Job) (domain.Job, error)) (domain.Job, error) {
					calls++
					return domain.Job{}, tt.fail(ctx)
				}
				wantDisposition(t, s.deliver(t.Context()), paused)
				s.wantElapsed(t, tt.took)
				s.wantRuns(t)
				if calls > tt.max {
					t.Errorf("the store was asked %d times", calls)
				}
				if diff := cmp.Diff(before, s.store.stored(t, alicesJob)); diff != "" {
					t.Errorf("(-before +after):\n%s", diff)
				}
			})
		})
	}
}

// unanswered has the store carry out the nth update and not say so.
func (s *shift) unanswered(nth int) {
	calls := 0
	s.store.update = func(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
		job, err := s.store.Store.Update(ctx, id, decide)
		if calls++; calls == nth {
			return domain.Job{}, unavailable()
		}
		return job, err
	}
}

func TestAClaimThatWasMadeButNotAnsweredRunsOnce(t *testing.T) {
	t.Parallel()
	onShift(t, ok, func(t *testing.T, s *shift) {
		s.store.put(t, s.start, alicesJob, nil)
		s.unanswered(1)
		wantDisposition(t, s.deliver(t.Context()), acked)
		s.wantRuns(t, 1)
		s.wantSettled(t, domain.Succeeded, "", 1, "")
	})
}

func TestAnOutcomeThatWasRecordedButNotAnsweredIsRecordedOnce(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]jobs.HandlerFunc{"success": ok, "failure": func(context.Context, jobs.Run) ([]byte, error) {
		return nil, errors.New("boom")
	}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onShift(t, handle, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, nil)
				s.unanswered(2)
				wantDisposition(t, s.deliver(t.Context()), domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonLeaseLost})
				s.wantRuns(t, 1)
				job := s.store.stored(t, alicesJob)
				if job.Attempts != 1 || job.Lease.Token != "" || job.History[0].EndedAt.IsZero() {
					t.Errorf("%s after %d attempts, lease %+v, history %+v", job.Status, job.Attempts, job.Lease, job.History)
				}
			})
		})
	}
}

func TestAnOutcomeIsRecordedOnceTheStoreAnswersAgain(t *testing.T) {
	t.Parallel()
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped meanwhile %t", stopped), func(t *testing.T) {
			t.Parallel()
			onShift(t, ok, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, nil)
				const back = 5 * time.Second
				claimed := false
				s.store.update = func(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
					if claimed && time.Since(s.start) < back {
						return domain.Job{}, domain.Errorf(domain.Throttled, domain.ReasonThrottled, "slow down")
					}
					claimed = true
					return s.store.Store.Update(ctx, id, decide)
				}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				if stopped {
					time.AfterFunc(time.Second, stop)
				}
				wantDisposition(t, s.deliver(ctx), acked)
				s.wantRuns(t, 1)
				s.wantSettled(t, domain.Succeeded, "", 1, "")
				if took := time.Since(s.start); took < back || took > back+time.Second {
					t.Errorf("recorded after %v, the store was back after %v", took, back)
				}
			})
		})
	}
}

func TestAnOutcomeThatCannotBeRecordedIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		err      error
		deadline time.Duration // of the delivery; 0: none
		took     time.Duration
		reason   domain.Reason
	}{
		{"unavailable", unavailable(), 0, 15 * time.Second, domain.ReasonUnavailable},
		{"unavailable up to the delivery's deadline", unavailable(), 26 * time.Second, 26 * time.Second, domain.ReasonUnavailable},
		{"at fault", domain.Errorf(domain.Internal, domain.ReasonInternal, "no such table"), 0, 0, domain.ReasonInternal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const slow = 19 * time.Second
			onShift(t, func(context.Context, jobs.Run) ([]byte, error) {
				if tt.deadline > 0 {
					time.Sleep(slow)
				}
				return nil, nil
			}, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, nil)
				claimed := false
				s.store.update = func(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
					if claimed {
						return domain.Job{}, tt.err
					}
					claimed = true
					return s.store.Store.Update(ctx, id, decide)
				}
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				wantDisposition(t, s.deliver(ctx), domain.Disposition{Verdict: domain.Return, Reason: tt.reason, Pause: true})
				s.wantElapsed(t, tt.took)
				s.wantSettled(t, domain.Running, "", 1, "")
			})
		})
	}
}

func TestARunThatCouldNotEndInTimeIsNotBegun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		left   time.Duration
		job    func(*domain.Job)
		want   domain.Disposition
		status domain.Status
		starts int
	}{
		{"too little", 25*time.Second - 1, nil, domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonTooLate}, domain.Queued, 0},
		{"just enough", 25 * time.Second, nil, acked, domain.Succeeded, 1},
		{"too little, but there is nothing to run", time.Second, func(j *domain.Job) {
			j.Status, j.CancelRequested = domain.Running, true
			j.Lease = domain.Lease{Token: "another", Until: j.CreatedAt}
		}, domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonCancelled}, domain.Cancelled, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onShift(t, ok, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, tt.job)
				ctx, cancel := context.WithTimeout(t.Context(), tt.left)
				defer cancel()
				wantDisposition(t, s.deliver(ctx), tt.want)
				if job := s.store.stored(t, alicesJob); job.Status != tt.status || job.Starts != tt.starts || job.Attempts != tt.starts {
					t.Errorf("%s after %d starts and %d attempts, want %s after %d", job.Status, job.Starts, job.Attempts, tt.status, tt.starts)
				}
			})
		})
	}
}

func TestAJobStoredUnderLongerTimeoutsRunsForAsLongAsTheWorkerCan(t *testing.T) {
	t.Parallel()
	wait := func(ctx context.Context, _ jobs.Run) ([]byte, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	for _, tt := range []struct {
		max, want time.Duration
	}{{0, 20 * time.Second}, {time.Minute, 20 * time.Second}, {12 * time.Second, 12 * time.Second}} {
		onShift(t, wait, func(t *testing.T, s *shift) {
			s.MaxRun = tt.max
			s.store.put(t, s.start, alicesJob, nil)
			ctx, cancel := context.WithTimeout(t.Context(), tt.want+5*time.Second) // the least that a run of that length needs
			defer cancel()
			wantDisposition(t, s.deliver(ctx), acked)
			s.wantElapsed(t, tt.want)
			if job := s.store.stored(t, alicesJob); job.Status != domain.Queued || job.Attempts != 1 || !strings.Contains(job.History[0].Error, jobs.ErrTimeout.Error()) {
				t.Errorf("with at most %v: %s after %+v", tt.max, job.Status, job.History)
			}
		})
	}
}

func TestAForeignMessageIsOneJobHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	onShift(t, ok, func(t *testing.T, s *shift) {
		id := domain.EventID("sqs", "arn:aws:sqs:eu-west-1:123456789012:jobs", "m-1")
		d := domain.Delivery{MessageID: "m-1", SentAt: s.start, Foreign: &domain.JobSpec{ID: id, Name: "report.daily", Payload: []byte(`{"n":1}`)}}
		wantDisposition(t, s.Deliver(t.Context(), d), acked)
		wantDisposition(t, s.Deliver(t.Context(), d), domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonFinished})
		s.wantRuns(t, 1)
		all := s.store.all(t)
		if len(all) != 1 {
			t.Fatalf("%d jobs are stored", len(all))
		}
		got := all[0]
		if got.ID != id || got.Name != "report.daily" || !got.Owner.IsZero() || !bytes.Equal(got.Payload, []byte(`{"n":1}`)) || got.Retry != retryPolicy ||
			got.Retention != domain.DefaultRetention || got.Dispatches != 1 || got.Status != domain.Succeeded {
			t.Errorf("stored as %+v", got)
		}
	})
}

func TestAForeignMessageThatFailsIsRetriedAsOurs(t *testing.T) {
	t.Parallel()
	onShift(t, func(context.Context, jobs.Run) ([]byte, error) { return nil, errors.New("boom") }, func(t *testing.T, s *shift) {
		wantDisposition(t, s.Deliver(t.Context(), domain.Delivery{Foreign: &domain.JobSpec{ID: alicesJob, Name: "report.daily"}}), acked)
		s.wantSettled(t, domain.Queued, "", 1, "boom")
		time.Sleep(time.Minute)
		wantDisposition(t, s.deliver(t.Context()), acked) // by its id, as the sweep dispatches it
		s.wantRuns(t, 1, 2)
	})
}

func TestAForeignMessageThatCannotBeStored(t *testing.T) {
	t.Parallel()
	good := domain.JobSpec{ID: alicesJob, Name: "report.daily"}
	tests := []struct {
		name string
		spec domain.JobSpec
		err  error // of the store
		want domain.Disposition
	}{
		{"a bad name", domain.JobSpec{ID: alicesJob, Name: "no name"}, nil, domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonInvalidFields}},
		{"a payload too large", domain.JobSpec{ID: alicesJob, Name: "a", Payload: make([]byte, domain.MaxPayload+1)}, nil, domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonTooLarge}},
		{"too large for the store", good, domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "too large"), domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonTooLarge}},
		{"a store that does not answer", good, unavailable(), domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable, Pause: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onShift(t, ok, func(t *testing.T, s *shift) {
				if tt.err != nil {
					s.store.create = func(context.Context, domain.Job) (domain.Job, bool, error) { return domain.Job{}, false, tt.err }
				}
				wantDisposition(t, s.Deliver(t.Context(), domain.Delivery{SentAt: s.start, Foreign: &tt.spec}), tt.want)
				s.wantRuns(t)
				if all := s.store.all(t); len(all) > 0 {
					t.Errorf("stored %+v", all)
				}
			})
		})
	}
}

func TestProgressIsSeenWhileTheJobRuns(t *testing.T) {
	t.Parallel()
	onShift(t, nil, func(t *testing.T, s *shift) {
		s.Handler = jobs.HandlerFunc(func(ctx context.Context, run jobs.Run) ([]byte, error) {
			for _, percent := range []int{10, 150} {
				if err := run.Progress(ctx, percent, "rendering"); err != nil {
					t.Error(err)
				}
				want := domain.Progress{Percent: min(percent, 100), Message: "rendering"}
				if got := s.store.stored(t, alicesJob); got.Progress != want || got.Status != domain.Running {
					t.Errorf("%s with progress %+v, want %+v", got.Status, got.Progress, want)
				}
			}
			return nil, nil
		})
		s.store.put(t, s.start, alicesJob, nil)
		wantDisposition(t, s.deliver(t.Context()), acked)
		s.wantSettled(t, domain.Succeeded, "", 1, "")
	})
}

// The store as its own queue, end to end: submitted, run, retried when due, and answered for.
func TestAJobGoesThroughTheStoreAlone(t *testing.T) {
	t.Parallel()
	onShift(t, func(_ context.Context, run jobs.Run) ([]byte, error) {
		if run.Attempt == 1 {
			return nil, errors.New("boom")
		}
		return []byte(`{"ok":true}`), nil
	}, func(t *testing.T, s *shift) {
		consuming(t, s.store, 2, s.Deliver, func(q *jobs.Queue) {
			submit := &jobs.Submit{
				Store: s.store, Dispatcher: q, Policy: domain.DefaultPolicy(), Retries: s.Retries, Retention: domain.DefaultRetention,
				Now: time.Now, NewID: counter(), StoreIsQueue: true,
			}
			job, _, err := submit.Do(t.Context(), user(alice), jobs.Submission{Name: "report.daily"})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := s.store.stored(t, job.ID); got.Status != domain.Queued || got.Attempts != 1 {
				t.Errorf("%s after %d attempts, want queued after one", got.Status, got.Attempts)
			}
			time.Sleep(poll)
			synctest.Wait()
			query := &jobs.Query{Store: s.store, Policy: domain.DefaultPolicy(), Now: time.Now}
			got, err := query.Get(t.Context(), user(alice), job.ID)
			if err != nil || got.Status != domain.Succeeded || string(got.Output) != `{"ok":true}` {
				t.Errorf("%s with output %q, %v", got.Status, got.Output, err)
			}
		})
		s.wantRuns(t, 1, 2)
	})
}

func TestAJobOfARevokedCallerIsNotRun(t *testing.T) {
	t.Parallel()
	for name, revoked := range map[string]domain.Revocation{
		"the subject": {Issuer: alice.Issuer, Subject: alice.Subject},
		"the token":   {Issuer: alice.Issuer, TokenID: "jti-stolen"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onShift(t, ok, func(t *testing.T, s *shift) {
				s.store.put(t, s.start, alicesJob, func(job *domain.Job) { job.TokenID = "jti-stolen" })
				s.Policy = domain.AccessPolicy{Revoked: []domain.Revocation{revoked}}
				wantDisposition(t, s.deliver(t.Context()), domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonRevoked})
				s.wantRuns(t)
				if job := s.store.stored(t, alicesJob); job.Status != domain.Dead || job.Reason != domain.ReasonRevoked || job.Attempts != 0 {
					t.Errorf("the job is %s (%s) after %d attempts, want dead (revoked) after none", job.Status, job.Reason, job.Attempts)
				}
				// Once the reason is gone it can be redriven and is run.
				s.Policy = domain.AccessPolicy{}
				s.step(t, func(job domain.Job) (domain.Job, error) { return job.Redrive(time.Now()) })
				wantDisposition(t, s.deliver(t.Context()), acked)
				s.wantRuns(t, 1)
			})
		})
	}
}
