package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports/portstest"
)

type office struct {
	*jobs.Change
	clock  *portstest.Clock
	store  *stubStore
	broker *stubBroker
}

func newOffice() office {
	clock := portstest.NewClock()
	store, broker := newStubStore(clock.Now), &stubBroker{}
	return office{clock: clock, store: store, broker: broker, Change: &jobs.Change{
		Store: store, Dispatcher: broker, Policy: domain.DefaultPolicy(), Now: clock.Now,
	}}
}

// put stores a job of alice's in the given status.
func (o office) put(t *testing.T, status domain.Status) domain.Job {
	t.Helper()
	now := o.clock.Now()
	return o.store.put(t, now, alicesJob, func(job *domain.Job) {
		var err error
		if status == domain.Cancelled {
			*job, err = job.Cancel(now, domain.ReasonCancelled)
		} else if status != domain.Queued {
			*job, err = job.Claim(now, "lease-1", "worker-1")
		}
		if err == nil && status == domain.Succeeded {
			*job, err = job.Settle(now, "lease-1", domain.Outcome{Output: []byte(`1`)}, 0)
		}
		if err == nil && status == domain.Dead {
			*job, err = job.Settle(now, "lease-1", domain.Outcome{Err: domain.Permanent(context.Canceled)}, 0)
		}
		if err != nil || job.Status != status {
			t.Fatalf("%s, %v, want %s", job.Status, err, status)
		}
	})
}

func TestCancelAndRedriveInEveryStatus(t *testing.T) {
	t.Parallel()
	type outcome struct {
		status    domain.Status
		requested bool
		refused   domain.Reason // of the Conflict
	}
	tests := []struct {
		status          domain.Status
		cancel, redrive outcome
	}{
		{domain.Queued, outcome{status: domain.Cancelled}, outcome{refused: domain.ReasonNotRedrivable}},
		{domain.Running, outcome{status: domain.Running, requested: true}, outcome{refused: domain.ReasonNotRedrivable}},
		{domain.Succeeded, outcome{refused: domain.ReasonFinished}, outcome{refused: domain.ReasonNotRedrivable}},
		{domain.Dead, outcome{refused: domain.ReasonFinished}, outcome{status: domain.Queued}},
		{domain.Cancelled, outcome{refused: domain.ReasonFinished}, outcome{status: domain.Queued}},
	}
	for _, tt := range tests {
		for _, action := range []domain.Action{domain.ActionCancel, domain.ActionRedrive} {
			t.Run(string(action)+" "+string(tt.status), func(t *testing.T) {
				t.Parallel()
				o := newOffice()
				before := o.put(t, tt.status)
				o.clock.Advance(time.Second)
				call, want := o.Cancel, tt.cancel
				if action == domain.ActionRedrive {
					call, want = o.Redrive, tt.redrive
				}
				got, err := call(t.Context(), user(alice), alicesJob)
				stored := o.store.stored(t, alicesJob)
				if want.refused != "" {
					wantError(t, err, domain.Conflict, want.refused)
					if diff := cmp.Diff(before, stored); diff != "" || got.ID != "" {
						t.Errorf("refused, and answered with %q; stored (-before +after):\n%s", got.ID, diff)
					}
					return
				}
				if err != nil || got.Status != want.status || got.CancelRequested != want.requested {
					t.Errorf("%s, cancel requested %t, %v; want %+v", got.Status, got.CancelRequested, err, want)
				}
				if diff := cmp.Diff(stored, got); diff != "" {
					t.Errorf("answered with another job than is stored (-stored +got):\n%s", diff)
				}
				if dispatched := len(o.broker.dispatched()); (dispatched == 1) != (action == domain.ActionRedrive) || dispatched > 1 {
					t.Errorf("dispatched %d times", dispatched)
				}
			})
		}
	}
}

func TestChangeAsksWhoIsAsking(t *testing.T) {
	t.Parallel()
	expired := user(alice)
	expired.ExpiresAt = portstest.NewClock().Now()
	// bob's jobs may be read by everybody and changed by nobody but him.
	readable := domain.AccessPolicy{Rules: []domain.Rule{
		{Effect: domain.Allow, Actions: []domain.Action{domain.ActionRead}, AnyOwner: true},
		{Effect: domain.Allow, Actions: []domain.Action{domain.ActionCancel, domain.ActionRedrive}},
	}}
	denied := domain.AccessPolicy{Rules: []domain.Rule{
		{Effect: domain.Allow, Actions: domain.Actions},
		{Effect: domain.Deny, Actions: []domain.Action{domain.ActionCancel, domain.ActionRedrive}, Jobs: []string{"report.*"}},
	}}
	tests := []struct {
		name   string
		who    domain.Principal
		id     string
		policy *domain.AccessPolicy
		kind   domain.Kind
		reason domain.Reason
	}{
		{"absent", user(bob), noJob, nil, domain.NotFound, domain.ReasonNotFound},
		{"no UUID", user(bob), "1", nil, domain.NotFound, domain.ReasonNotFound},
		{"another's", user(bob), alicesJob, nil, domain.NotFound, domain.ReasonNotFound},
		{"another's that may be read", user(bob), alicesJob, &readable, domain.Forbidden, domain.ReasonForbidden},
		{"no scope", withScopes(alice, "jobs:read"), alicesJob, nil, domain.Forbidden, domain.ReasonInsufficientScope},
		{"no scope, absent", withScopes(alice, "jobs:read"), noJob, nil, domain.Forbidden, domain.ReasonInsufficientScope},
		{"a name that is denied", user(alice), alicesJob, &denied, domain.Forbidden, domain.ReasonForbidden},
		{"expired since the gate", expired, alicesJob, nil, domain.Unauthenticated, domain.ReasonTokenExpired},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOffice()
			before := o.put(t, domain.Dead)
			if tt.policy != nil {
				o.Policy = *tt.policy
			}
			for name, call := range map[string]func(context.Context, domain.Principal, string) (domain.Job, error){"cancel": o.Cancel, "redrive": o.Redrive} {
				job, err := call(t.Context(), tt.who, tt.id)
				wantError(t, err, tt.kind, tt.reason)
				if job.ID != "" || len(o.broker.dispatched()) > 0 {
					t.Errorf("%s: answered with %q, dispatched %q", name, job.ID, o.broker.dispatched())
				}
			}
			if diff := cmp.Diff(before, o.store.stored(t, alicesJob)); diff != "" {
				t.Errorf("stored (-before +after):\n%s", diff)
			}
		})
	}
}

func TestAnAdminChangesAnybodysJob(t *testing.T) {
	t.Parallel()
	o := newOffice()
	o.put(t, domain.Queued)
	admin := withScopes(bob, "jobs:admin")
	if job, err := o.Cancel(t.Context(), admin, alicesJob); err != nil || job.Status != domain.Cancelled {
		t.Errorf("cancel: %s, %v", job.Status, err)
	}
	if job, err := o.Redrive(t.Context(), admin, alicesJob); err != nil || job.Status != domain.Queued || job.Owner != alice {
		t.Errorf("redrive: %s of %+v, %v", job.Status, job.Owner, err)
	}
}

func TestRedriveHandsTheJobOut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		storeIsQueue bool
		refused      bool // by the broker
		dispatches   int
		check        time.Duration
	}{
		{"by a broker", false, false, 1, domain.FirstCheck},
		{"by a broker that refuses: the sweep has it", false, true, 1, domain.FirstCheck},
		{"the store is the queue", true, false, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOffice()
			o.StoreIsQueue = tt.storeIsQueue
			if tt.refused {
				o.broker.dispatch = func(context.Context, domain.Job) error { return unavailable() }
			}
			dead := o.put(t, domain.Dead)
			now := o.clock.Advance(time.Minute)
			got, err := o.Redrive(t.Context(), user(alice), alicesJob)
			if err != nil {
				t.Fatal(err)
			}
			want := dead
			want.Status, want.Reason, want.Attempts, want.DueAt, want.UpdatedAt = domain.Queued, "", 0, now, now
			want.FinishedAt, want.ExpiresAt = time.Time{}, time.Time{}
			want.CheckAt, want.Dispatches, want.Checks = now.Add(tt.check), tt.dispatches, tt.dispatches
			if diff := cmp.Diff(want, got, ignoreRevision); diff != "" {
				t.Errorf("answered (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(got, o.store.stored(t, alicesJob)); diff != "" {
				t.Errorf("stored (-answered +stored):\n%s", diff)
			}
			if diff := cmp.Diff([]domain.Job{got}, o.broker.sent); diff != "" {
				t.Errorf("dispatched (-answered +dispatched):\n%s", diff)
			}
		})
	}
}

func TestChangePassesTheStoresTroubleOn(t *testing.T) {
	t.Parallel()
	o := newOffice()
	o.put(t, domain.Dead)
	o.store.update = func(context.Context, string, func(domain.Job) (domain.Job, error)) (domain.Job, error) {
		return domain.Job{}, unavailable()
	}
	_, err := o.Redrive(t.Context(), user(alice), alicesJob)
	wantError(t, err, domain.Unavailable, domain.ReasonUnavailable)
	if sent := o.broker.dispatched(); len(sent) > 0 {
		t.Errorf("dispatched %q", sent)
	}
}
