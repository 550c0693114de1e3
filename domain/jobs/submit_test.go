package jobs_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports/portstest"
)

type intake struct {
	*jobs.Submit
	clock  *portstest.Clock
	store  *stubStore
	broker *stubBroker
}

func newIntake() intake {
	clock := portstest.NewClock()
	store, broker := newStubStore(clock.Now), &stubBroker{}
	return intake{clock: clock, store: store, broker: broker, Submit: &jobs.Submit{
		Store: store, Dispatcher: broker, Policy: domain.DefaultPolicy(), Retention: domain.DefaultRetention, Now: clock.Now, NewID: counter(),
		Retries: domain.RetryPolicies{{Jobs: "report.*", Policy: retryPolicy}},
	}}
}

// ignoreRevision is for jobs that were stored meanwhile.
var ignoreRevision = cmpopts.IgnoreFields(domain.Job{}, "Revision")

func TestSubmitStoresAJobAndDispatchesItIfDue(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		storeIsQueue bool
		sub          jobs.Submission
		due          time.Duration // from now
		check        time.Duration
		dispatched   bool
		dispatches   int
	}{
		{"due, by a broker", false, jobs.Submission{}, 0, domain.FirstCheck, true, 1},
		{"due, the store is the queue", true, jobs.Submission{}, 0, 0, true, 0},
		{"delayed, by a broker", false, jobs.Submission{Delay: time.Hour}, time.Hour, time.Hour, false, 0},
		{"delayed, the store is the queue", true, jobs.Submission{Delay: time.Hour}, time.Hour, time.Hour, false, 0},
		{"at a time", false, jobs.Submission{RunAt: portstest.NewClock().Now().Add(time.Hour)}, time.Hour, time.Hour, false, 0},
		{"at a time that has passed", false, jobs.Submission{RunAt: portstest.NewClock().Now().Add(-time.Hour)}, 0, domain.FirstCheck, true, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := newIntake()
			in.StoreIsQueue = tt.storeIsQueue
			tt.sub.Name, tt.sub.Payload, tt.sub.TraceParent = "report.daily", []byte(`{"n": 1.0}`), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			got, replayed, err := in.Do(t.Context(), user(alice), tt.sub)
			if err != nil || replayed {
				t.Fatalf("replayed %t, %v", replayed, err)
			}
			now := in.clock.Now()
			want := domain.Job{
				ID: "00000000-0000-7000-8000-000000000001", Name: "report.daily", Payload: []byte(`{"n": 1.0}`), Owner: alice, TokenID: "token-1",
				TraceParent: tt.sub.TraceParent, Retry: retryPolicy, Retention: domain.DefaultRetention, CreatedAt: now, UpdatedAt: now, Status: domain.Queued,
				DueAt: now.Add(tt.due), CheckAt: now.Add(tt.check), Dispatches: tt.dispatches, Checks: tt.dispatches, Revision: 1,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("answered (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, in.store.stored(t, got.ID)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			var sent []domain.Job
			if tt.dispatched {
				sent = []domain.Job{want}
			}
			if diff := cmp.Diff(sent, in.broker.sent); diff != "" {
				t.Errorf("dispatched (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSubmitStoresBeforeItDispatches(t *testing.T) {
	t.Parallel()
	in := newIntake()
	in.broker.dispatch = func(ctx context.Context, job domain.Job) error {
		_, err := in.store.Get(ctx, job.ID)
		return err
	}
	if _, _, err := in.Do(t.Context(), user(alice), jobs.Submission{Name: "report.daily"}); err != nil {
		t.Error(err)
	}
}

func TestSubmitRefusesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	now := portstest.NewClock().Now()
	limited := domain.AccessPolicy{Rules: []domain.Rule{
		{Effect: domain.Allow, Actions: []domain.Action{domain.ActionSubmit}, Jobs: []string{"mail.*"}},
	}}
	expired := user(alice)
	expired.ExpiresAt = now
	tests := []struct {
		name   string
		who    domain.Principal
		sub    jobs.Submission
		change func(intake)
		kind   domain.Kind
		reason domain.Reason
	}{
		{"no scope", withScopes(alice, "jobs:read"), jobs.Submission{Name: "a"}, nil, domain.Forbidden, domain.ReasonInsufficientScope},
		{"a token that has expired since the gate", expired, jobs.Submission{Name: "a"}, nil, domain.Unauthenticated, domain.ReasonTokenExpired},
		{"a caller revoked since the gate", user(alice), jobs.Submission{Name: "a"}, func(in intake) {
			in.Policy.Revoked = []domain.Revocation{{Subject: "alice"}}
		}, domain.Unauthenticated, domain.ReasonInvalidToken},
		{"a name that the policy does not allow", user(alice), jobs.Submission{Name: "report.daily"}, func(in intake) { in.Policy = limited }, domain.Forbidden, domain.ReasonForbidden},
		{"a refused caller learns nothing of their mistakes", withScopes(alice), jobs.Submission{Name: "no name"}, nil, domain.Forbidden, domain.ReasonInsufficientScope},
		{"a bad name", user(alice), jobs.Submission{Name: "no name"}, nil, domain.Invalid, domain.ReasonInvalidFields},
		{"delay and time", user(alice), jobs.Submission{Name: "a", Delay: 1, RunAt: now}, nil, domain.Invalid, domain.ReasonInvalidFields},
		{"a payload too large", user(alice), jobs.Submission{Name: "a", Payload: make([]byte, domain.MaxPayload+1)}, nil, domain.TooLarge, domain.ReasonTooLarge},
		{"a message that does not fit the broker", user(alice), jobs.Submission{Name: "a"}, func(in intake) {
			in.broker.fits = func(domain.Job) error { return domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "too large") }
		}, domain.TooLarge, domain.ReasonTooLarge},
		{"a key with a space", user(alice), jobs.Submission{Name: "a", IdempotencyKey: "a b"}, nil, domain.Invalid, domain.ReasonInvalidKey},
		{"a key with a control character", user(alice), jobs.Submission{Name: "a", IdempotencyKey: "a\x7f"}, nil, domain.Invalid, domain.ReasonInvalidKey},
		{"a key that is not ASCII", user(alice), jobs.Submission{Name: "a", IdempotencyKey: "é"}, nil, domain.Invalid, domain.ReasonInvalidKey},
		{"a key too long", user(alice), jobs.Submission{Name: "a", IdempotencyKey: strings.Repeat("k", 256)}, nil, domain.Invalid, domain.ReasonInvalidKey},
		{"a store that does not answer", user(alice), jobs.Submission{Name: "a"}, func(in intake) {
			in.store.create = func(context.Context, domain.Job) (domain.Job, bool, error) { return domain.Job{}, false, unavailable() }
		}, domain.Unavailable, domain.ReasonUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := newIntake()
			if tt.change != nil {
				tt.change(in)
			}
			job, _, err := in.Do(t.Context(), tt.who, tt.sub)
			wantError(t, err, tt.kind, tt.reason)
			if diff := cmp.Diff(domain.Job{}, job); diff != "" {
				t.Errorf("answered with a job:\n%s", diff)
			}
			if stored, sent := in.store.all(t), in.broker.dispatched(); len(stored) > 0 || len(sent) > 0 {
				t.Errorf("stored %d jobs, dispatched %q", len(stored), sent)
			}
		})
	}
}

func TestSubmitLetsThroughWhatTheJobNameAllows(t *testing.T) {
	t.Parallel()
	in := newIntake()
	in.Policy = domain.AccessPolicy{Rules: []domain.Rule{
		{Effect: domain.Allow, Actions: []domain.Action{domain.ActionSubmit}, Jobs: []string{"mail.*"}},
	}}
	if _, _, err := in.Do(t.Context(), withScopes(alice), jobs.Submission{Name: "mail.send"}); err != nil {
		t.Error(err)
	}
}

func TestSubmitWhoseDispatchFails(t *testing.T) {
	t.Parallel()
	cause := domain.Errorf(domain.Throttled, domain.ReasonThrottled, "topic arn:aws:sns:eu-west-1:123456789012:jobs")
	tests := []struct {
		name   string
		key    string
		before func(t *testing.T, in intake, id string) // what happens before the dispatch fails
		status domain.Status
		reason domain.Reason
	}{
		{"without a key the job is cancelled", "", nil, domain.Cancelled, domain.ReasonDispatchFailed},
		{"with a key it stays queued for the repeat", "k", nil, domain.Queued, ""},
		{"without a key, but a worker has begun", "", func(t *testing.T, in intake, id string) {
			t.Helper()
			in.step(t, id, func(job domain.Job) (domain.Job, error) { return job.Claim(in.clock.Now(), "lease-1", "worker-1") })
		}, domain.Running, ""},
		{"without a key, but a worker has begun and waits for its retry", "", func(t *testing.T, in intake, id string) {
			t.Helper()
			in.step(t, id, func(job domain.Job) (domain.Job, error) { return job.Claim(in.clock.Now(), "lease-1", "worker-1") })
			in.step(t, id, func(job domain.Job) (domain.Job, error) {
				return job.Settle(in.clock.Now(), "lease-1", domain.Outcome{Err: errors.New("boom")}, 0)
			})
		}, domain.Queued, ""},
		{"without a key, but a worker has finished", "", func(t *testing.T, in intake, id string) {
			t.Helper()
			in.step(t, id, func(job domain.Job) (domain.Job, error) { return job.Claim(in.clock.Now(), "lease-1", "worker-1") })
			in.step(t, id, func(job domain.Job) (domain.Job, error) {
				return job.Settle(in.clock.Now(), "lease-1", domain.Outcome{}, 0)
			})
		}, domain.Succeeded, ""},
		{"without a key, and the store fails too", "", func(_ *testing.T, in intake, _ string) {
			in.store.update = func(context.Context, string, func(domain.Job) (domain.Job, error)) (domain.Job, error) {
				return domain.Job{}, unavailable()
			}
		}, domain.Queued, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := newIntake()
			in.broker.dispatch = func(_ context.Context, job domain.Job) error {
				if tt.before != nil {
					tt.before(t, in, job.ID)
				}
				return cause
			}
			job, replayed, err := in.Do(t.Context(), user(alice), jobs.Submission{Name: "report.daily", IdempotencyKey: tt.key})
			wantError(t, err, domain.Unavailable, domain.ReasonDispatchFailed)
			if !errors.Is(err, cause) || job.ID != "" || replayed {
				t.Errorf("job %q, replayed %t, error %v without its cause", job.ID, replayed, err)
			}
			if e, ok := errors.AsType[*domain.Error](err); ok && strings.Contains(e.Message, "arn:") {
				t.Errorf("the caller is told %q", e.Message)
			}
			if got := in.store.all(t)[0]; got.Status != tt.status || got.Reason != tt.reason {
				t.Errorf("the job is %s (%s), want %s (%s)", got.Status, got.Reason, tt.status, tt.reason)
			}
		})
	}
}

func (in intake) step(t *testing.T, id string, step func(domain.Job) (domain.Job, error)) {
	t.Helper()
	if _, err := in.store.Store.Update(t.Context(), id, step); err != nil {
		t.Error(err)
	}
}

func TestSubmitGivesUpAJobWhoseCallerHasLeft(t *testing.T) {
	t.Parallel()
	in := newIntake()
	ctx, leave := context.WithCancel(t.Context())
	in.broker.dispatch = func(ctx context.Context, _ domain.Job) error {
		leave()
		return domain.Wrap(ctx.Err(), domain.Unavailable, domain.ReasonUnavailable, "cancelled")
	}
	_, _, err := in.Do(ctx, user(alice), jobs.Submission{Name: "report.daily"})
	wantError(t, err, domain.Unavailable, domain.ReasonDispatchFailed)
	if got := in.store.all(t)[0]; got.Status != domain.Cancelled {
		t.Errorf("the job is %s, want cancelled", got.Status)
	}
}

func TestSubmitAgainUnderTheSameKey(t *testing.T) {
	t.Parallel()
	sub := jobs.Submission{Name: "report.daily", Payload: []byte(`{"n":1}`), IdempotencyKey: "order-1"}
	submit := func(t *testing.T, in intake) domain.Job {
		t.Helper()
		job, replayed, err := in.Do(t.Context(), user(alice), sub)
		if err != nil || replayed {
			t.Fatalf("replayed %t, %v", replayed, err)
		}
		return job
	}
	again := func(t *testing.T, in intake, want domain.Job) {
		t.Helper()
		job, replayed, err := in.Do(t.Context(), user(alice), sub)
		if diff := cmp.Diff(want, job, ignoreRevision); err != nil || !replayed || diff != "" {
			t.Errorf("replayed %t, %v (-want +got):\n%s", replayed, err, diff)
		}
		if all := in.store.all(t); len(all) != 1 {
			t.Errorf("%d jobs are stored", len(all))
		}
	}

	t.Run("queued and due is dispatched again", func(t *testing.T) {
		t.Parallel()
		in := newIntake()
		first := submit(t, in)
		if first.ID != domain.KeyedID(alice, "order-1") || first.IdempotencyKey != "order-1" {
			t.Errorf("id %s, key %q", first.ID, first.IdempotencyKey)
		}
		in.clock.Advance(time.Second)
		again(t, in, first)
		if got := in.broker.dispatched(); len(got) != 2 {
			t.Errorf("dispatched %q, want the job twice", got)
		}
	})
	t.Run("succeeds only once the broker confirms", func(t *testing.T) {
		t.Parallel()
		in := newIntake()
		in.broker.dispatch = func(context.Context, domain.Job) error { return unavailable() }
		for range 2 {
			_, _, err := in.Do(t.Context(), user(alice), sub)
			wantError(t, err, domain.Unavailable, domain.ReasonDispatchFailed)
		}
		if got := in.store.all(t); len(got) != 1 || got[0].Status != domain.Queued {
			t.Fatalf("stored: %+v", got)
		}
		in.broker.dispatch = nil
		again(t, in, in.store.all(t)[0])
		if got := in.broker.dispatched(); len(got) != 3 {
			t.Errorf("dispatched %q, want the job three times", got)
		}
	})
	t.Run("waiting for its due time is not dispatched", func(t *testing.T) {
		t.Parallel()
		in := newIntake()
		sub := sub
		sub.Delay = time.Hour
		first, _, err := in.Do(t.Context(), user(alice), sub)
		if err != nil {
			t.Fatal(err)
		}
		job, replayed, err := in.Do(t.Context(), user(alice), sub)
		if err != nil || !replayed || job.DueAt != first.DueAt || len(in.broker.dispatched()) != 0 {
			t.Errorf("replayed %t, %v, due %v instead of %v, dispatched %q", replayed, err, job.DueAt, first.DueAt, in.broker.dispatched())
		}
	})
	t.Run("running is left alone", func(t *testing.T) {
		t.Parallel()
		in := newIntake()
		in.step(t, submit(t, in).ID, func(job domain.Job) (domain.Job, error) { return job.Claim(in.clock.Now(), "lease-1", "worker-1") })
		again(t, in, in.store.all(t)[0])
		if got := in.broker.dispatched(); len(got) != 1 {
			t.Errorf("dispatched %q, want the job once", got)
		}
	})
	t.Run("finished gives the outcome and runs nothing", func(t *testing.T) {
		t.Parallel()
		in := newIntake()
		id := submit(t, in).ID
		in.step(t, id, func(job domain.Job) (domain.Job, error) { return job.Claim(in.clock.Now(), "lease-1", "worker-1") })
		in.step(t, id, func(job domain.Job) (domain.Job, error) {
			return job.Settle(in.clock.Now(), "lease-1", domain.Outcome{Output: []byte(`1`)}, 0)
		})
		again(t, in, in.store.all(t)[0])
		if got := in.broker.dispatched(); len(got) != 1 {
			t.Errorf("dispatched %q, want the job once", got)
		}
	})
	t.Run("after it has expired is a new job", func(t *testing.T) {
		t.Parallel()
		in := newIntake()
		in.step(t, submit(t, in).ID, func(job domain.Job) (domain.Job, error) {
			return job.Cancel(in.clock.Now(), domain.ReasonCancelled)
		})
		in.clock.Advance(domain.DefaultRetention.Finished)
		if got := submit(t, in); got.Status != domain.Queued || got.CreatedAt != in.clock.Now() {
			t.Errorf("%s, created %v", got.Status, got.CreatedAt)
		}
	})
	t.Run("for another job is refused", func(t *testing.T) {
		t.Parallel()
		for name, other := range map[string]jobs.Submission{
			"name":    {Name: "report.weekly", Payload: sub.Payload, IdempotencyKey: "order-1"},
			"payload": {Name: sub.Name, Payload: []byte(`{"n":2}`), IdempotencyKey: "order-1"},
			"delay":   {Name: sub.Name, Payload: sub.Payload, Delay: time.Second, IdempotencyKey: "order-1"},
			"time":    {Name: sub.Name, Payload: sub.Payload, RunAt: portstest.NewClock().Now().Add(time.Hour), IdempotencyKey: "order-1"},
		} {
			in := newIntake()
			first := submit(t, in)
			job, _, err := in.Do(t.Context(), user(alice), other)
			wantError(t, err, domain.Invalid, domain.ReasonKeyReused)
			if job.ID != "" || len(in.broker.dispatched()) != 1 {
				t.Errorf("another %s: answered with %q, dispatched %q", name, job.ID, in.broker.dispatched())
			}
			if diff := cmp.Diff([]domain.Job{first}, in.store.all(t)); diff != "" {
				t.Errorf("another %s: stored (-want +got):\n%s", name, diff)
			}
		}
	})
	t.Run("of another owner is another job", func(t *testing.T) {
		t.Parallel()
		in := newIntake()
		first := submit(t, in)
		job, replayed, err := in.Do(t.Context(), user(bob), sub)
		if err != nil || replayed || job.ID == first.ID || job.Owner != bob {
			t.Errorf("%s of %+v, replayed %t, %v", job.ID, job.Owner, replayed, err)
		}
	})
	t.Run("as long as a key may be", func(t *testing.T) {
		t.Parallel()
		in := newIntake()
		sub := sub
		sub.IdempotencyKey = strings.Repeat("~", 128) + strings.Repeat("!", 127)
		if _, _, err := in.Do(t.Context(), user(alice), sub); err != nil {
			t.Error(err)
		}
	})
	t.Run("without a scope is refused although the job is there", func(t *testing.T) {
		t.Parallel()
		in := newIntake()
		submit(t, in)
		_, _, err := in.Do(t.Context(), withScopes(alice), sub)
		wantError(t, err, domain.Forbidden, domain.ReasonInsufficientScope)
	})
}
