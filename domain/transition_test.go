package domain_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/jobgate/jobgate/domain"
)

func TestTheTransitionTable(t *testing.T) {
	t.Parallel()
	table := map[domain.Status]string{
		"":               "queued",
		domain.Queued:    "running dead cancelled",
		domain.Running:   "queued running succeeded dead cancelled",
		domain.Succeeded: "",
		domain.Dead:      "queued",
		domain.Cancelled: "queued",
		"unknown":        "",
	}
	for from, want := range table {
		var got string
		for _, next := range domain.Statuses {
			if from.CanBecome(next) {
				got += " " + string(next)
			}
		}
		if want != "" {
			want = " " + want
		}
		if got != want {
			t.Errorf("%q can become%s; want%s", from, got, want)
		}
		if from.CanBecome("") || from.CanBecome("unknown") {
			t.Errorf("%q can become no status at all", from)
		}
	}
	for _, s := range domain.Statuses {
		if want := s == domain.Succeeded || s == domain.Dead || s == domain.Cancelled; s.Finished() != want {
			t.Errorf("%s: finished %t", s, s.Finished())
		}
	}
}

// Every step in every state of a job: the status it leads to, with the reason of one that ends there; "=" for a step
// that changes nothing; "!" and the reason of the Conflict for one that is refused.
func TestEveryStepInEveryState(t *testing.T) {
	t.Parallel()
	const minute = time.Minute // past every backoff and lease below
	running := claim(t, newJob(t, nil), t0)
	tired := running
	for range 2 {
		lost, err := tired.Claim(tired.Lease.Until, "lease-1b", "worker-1")
		if err != nil {
			t.Fatal(err)
		}
		lost.Lease.Token = "lease-1"
		tired = lost
	}
	states := []struct {
		name string
		job  domain.Job
		at   time.Time // when the steps are taken
	}{
		{"queued", newJob(t, nil), t0},
		{"delayed", newJob(t, func(s *domain.JobSpec) { s.Delay = minute }), t0.Add(minute - 1)},
		{"retrying", settle(t, running, t0, domain.Outcome{Err: errors.New("boom")}), t0.Add(minute)},
		{"running", running, running.Lease.Until.Add(-1)},
		{"abandoned", running, running.Lease.Until},
		{"abandoned last", tired, tired.Lease.Until},
		{"cancelling", cancel(t, running, t0), t0.Add(time.Second)},
		{"cancelling, abandoned", cancel(t, running, t0), running.Lease.Until},
		{"succeeded", settle(t, running, t0, domain.Outcome{Output: []byte(`1`)}), t0.Add(minute)},
		{"dead", settle(t, running, t0, domain.Outcome{Err: domain.Permanent(errors.New("boom"))}), t0.Add(minute)},
		{"cancelled", cancel(t, newJob(t, nil), t0), t0.Add(minute)},
	}
	steps := []struct {
		name string
		do   func(domain.Job, time.Time) (domain.Job, error)
	}{
		{"Claim", func(j domain.Job, now time.Time) (domain.Job, error) { return j.Claim(now, "lease-2", "worker-2") }},
		{"Claim again", func(j domain.Job, now time.Time) (domain.Job, error) { return j.Claim(now, "lease-1", "worker-1") }},
		{"Renew", func(j domain.Job, now time.Time) (domain.Job, error) { return j.Renew(now, "lease-1") }},
		{"Report", func(j domain.Job, now time.Time) (domain.Job, error) {
			return j.Report(now, "lease-1", domain.Progress{Percent: 50})
		}},
		{"Settle", func(j domain.Job, now time.Time) (domain.Job, error) {
			return j.Settle(now, "lease-1", domain.Outcome{}, 0)
		}},
		{"Settle failed", func(j domain.Job, now time.Time) (domain.Job, error) {
			return j.Settle(now, "lease-1", domain.Outcome{Err: errors.New("boom")}, 0)
		}},
		{"Cancel", func(j domain.Job, now time.Time) (domain.Job, error) { return j.Cancel(now, domain.ReasonCancelled) }},
		{"Redrive", func(j domain.Job, now time.Time) (domain.Job, error) { return j.Redrive(now) }},
		{"Taken", func(j domain.Job, now time.Time) (domain.Job, error) { return j.Taken(now), nil }},
		{"Released", func(j domain.Job, now time.Time) (domain.Job, error) { return j.Released(now, time.Second), nil }},
		{"Bar", func(j domain.Job, now time.Time) (domain.Job, error) { return j.Bar(now, domain.ReasonRevoked) }},
		{"Unclaim", func(j domain.Job, now time.Time) (domain.Job, error) { return j.Unclaim(now, "lease-1") }},
	}
	table := map[string][]string{
		//                        Claim             Claim again       Renew          Report         Settle         Settle failed            Cancel            Redrive            Taken      Released      Bar      Unclaim
		"queued":                {"running", "running", "!lease_lost", "!lease_lost", "!lease_lost", "!lease_lost", "cancelled cancelled", "!not_redrivable", "queued", "queued", "dead revoked", "!lease_lost"},
		"delayed":               {"!not_due", "!not_due", "!lease_lost", "!lease_lost", "!lease_lost", "!lease_lost", "cancelled cancelled", "!not_redrivable", "queued", "queued", "dead revoked", "!lease_lost"},
		"retrying":              {"running", "running", "!lease_lost", "!lease_lost", "!lease_lost", "!lease_lost", "cancelled cancelled", "!not_redrivable", "queued", "queued", "dead revoked", "!lease_lost"},
		"running":               {"!leased", "=", "running", "running", "succeeded", "queued", "running", "!not_redrivable", "running", "=", "!leased", "queued"},
		"abandoned":             {"running", "=", "running", "running", "succeeded", "queued", "running", "!not_redrivable", "running", "running", "dead revoked", "queued"},
		"abandoned last":        {"dead worker_lost", "=", "running", "running", "succeeded", "dead attempts_used_up", "running", "!not_redrivable", "running", "running", "dead revoked", "queued"},
		"cancelling":            {"!leased", "=", "running", "running", "succeeded", "cancelled cancelled", "running", "!not_redrivable", "running", "=", "!leased", "cancelled cancelled"},
		"cancelling, abandoned": {"cancelled cancelled", "=", "running", "running", "succeeded", "cancelled cancelled", "running", "!not_redrivable", "running", "running", "dead revoked", "cancelled cancelled"},
		"succeeded":             {"!finished", "!finished", "!lease_lost", "!lease_lost", "!lease_lost", "!lease_lost", "!finished", "!not_redrivable", "succeeded", "=", "!finished", "!lease_lost"},
		"dead":                  {"!finished", "!finished", "!lease_lost", "!lease_lost", "!lease_lost", "!lease_lost", "!finished", "queued", "dead permanent", "=", "!finished", "!lease_lost"},
		"cancelled":             {"!finished", "!finished", "!lease_lost", "!lease_lost", "!lease_lost", "!lease_lost", "!finished", "queued", "cancelled cancelled", "=", "!finished", "!lease_lost"},
	}
	for _, state := range states {
		for i, step := range steps {
			t.Run(state.name+"/"+step.name, func(t *testing.T) {
				t.Parallel()
				before := guarded(state.job)
				kept := guarded(state.job)
				after, err := step.do(before, state.at)

				got := string(after.Status)
				switch {
				case err != nil:
					got = "!" + string(domain.ReasonOf(err))
					if domain.KindOf(err) != domain.Conflict {
						t.Errorf("%v is no Conflict", err)
					}
					if diff := cmp.Diff(before, after); diff != "" {
						t.Errorf("refused, and changed (-before +after):\n%s", diff)
					}
				case cmp.Equal(before, after):
					got = "="
				case after.Reason != "":
					got += " " + string(after.Reason)
				}
				if want := table[state.name][i]; got != want {
					t.Errorf("leads to %q, want %q", got, want)
				}
				if diff := cmp.Diff(kept, before); diff != "" {
					t.Errorf("the receiver was changed (-before +after):\n%s", diff)
				}
				if diff := cmp.Diff(kept.History[:cap(kept.History)], before.History[:cap(before.History)]); diff != "" {
					t.Errorf("the receiver's history was written to (-before +after):\n%s", diff)
				}
				wantSound(t, after)
			})
		}
	}
}

// guarded copies a job so that a write to its history is seen, past its end too.
func guarded(job domain.Job) domain.Job {
	history := make([]domain.Attempt, len(job.History)+3)
	for i := range history {
		history[i] = domain.Attempt{Number: -1, Error: "guard"}
	}
	copy(history, job.History)
	job.History = history[:len(job.History)]
	return job
}

// wantSound checks what holds of every job at every time.
func wantSound(t interface {
	Helper()
	Errorf(format string, args ...any)
}, j domain.Job) {
	t.Helper()
	finished := j.Status.Finished()
	for what, ok := range map[string]bool{
		"the status is one of the table":                    slices.Contains(domain.Statuses, j.Status),
		"an end has a time, and no other job":               finished != j.FinishedAt.IsZero(),
		"a finished job is forgotten, and no other":         finished != j.ExpiresAt.IsZero(),
		"a running job has a lease, and no other":           (j.Status == domain.Running) == (j.Lease != domain.Lease{}),
		"dead and cancelled have a reason, and no other":    (j.Status == domain.Dead || j.Status == domain.Cancelled) == (j.Reason != ""),
		"only a running job has a cancel open":              !j.CancelRequested || j.Status == domain.Running,
		"only a succeeded job has an output":                j.Output == nil || j.Status == domain.Succeeded,
		"attempts are within the policy":                    j.Attempts >= 0 && j.Attempts <= j.Retry.Attempts,
		"no attempt is charged that was not started":        j.Attempts <= j.Starts,
		"the history is bounded":                            len(j.History) == min(j.Starts, domain.MaxHistory) || len(j.History) == domain.MaxHistory-1, // after an Unclaim
		"the number of checks is not negative":              j.Checks >= 0,
		"only the attempt of a running job is under way":    openAttempts(j) == 0 || j.Status == domain.Running && openAttempts(j) == 1,
		"the attempt under way is the last one's":           j.Status != domain.Running || j.History[len(j.History)-1].Number == j.Starts,
		"an open job is looked at again":                    finished || !j.CheckAt.IsZero(),
		"a queued job is not looked at before it may start": j.Status != domain.Queued || !j.CheckAt.Before(j.DueAt) || j.Checks > 0,
	} {
		if !ok {
			t.Errorf("it does not hold that %s:\n%+v", what, j)
		}
	}
	for i, a := range j.History {
		if want := j.Starts - len(j.History) + 1 + i; a.Number != want {
			t.Errorf("attempt %d of the history has the number %d, want %d", i, a.Number, want)
		}
	}
	for what, at := range map[string]time.Time{"created": j.CreatedAt, "updated": j.UpdatedAt, "due": j.DueAt, "check": j.CheckAt, "finished": j.FinishedAt, "expires": j.ExpiresAt, "lease": j.Lease.Until} {
		if !at.Equal(at.Truncate(time.Millisecond)) || at.Location() != time.UTC {
			t.Errorf("%s at %v, want whole milliseconds of UTC", what, at)
		}
	}
}

func openAttempts(j domain.Job) (n int) {
	for _, a := range j.History {
		if a.EndedAt.IsZero() {
			n++
		}
	}
	return n
}

// Any steps in any order, by workers that lose and keep their leases: the job stays sound, takes only steps of the
// table, and never gives two starts the same number.
func TestAnyLifeOfAJobIsSound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		job, err := domain.NewJob(spec(func(s *domain.JobSpec) { s.Retry = drawRetryPolicy(t) }), t0)
		if err != nil {
			t.Fatal(err)
		}
		now, holder := t0, map[string]int{} // the start that each lease token stands for
		for i := range rapid.IntRange(0, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*job.LeaseTerm())).Draw(t, "passes")))
			before := guarded(job)
			kept := guarded(job)
			token := job.Lease.Token
			if rapid.IntRange(0, 3).Draw(t, "stranger") == 0 {
				token = rapid.SampledFrom([]string{"", "lease-0", "lease-1", "lease-2"}).Draw(t, "token")
			}
			var next domain.Job
			switch rapid.SampledFrom([]string{"claim", "claim", "claim", "renew", "report", "settle", "settle", "cancel", "redrive", "taken", "released", "unclaim"}).Draw(t, "step") {
			case "claim":
				token = fmt.Sprintf("lease-%d", i)
				if next, err = before.Claim(now, token, "worker-1"); err == nil && next.Status == domain.Running {
					for other, start := range holder {
						if start >= next.Starts {
							t.Fatalf("start %d of %s was given before, to %s", next.Starts, token, other)
						}
					}
					holder[token] = next.Starts
				}
			case "renew":
				next, err = before.Renew(now, token)
			case "report":
				next, err = before.Report(now, token, domain.Progress{Percent: rapid.Int().Draw(t, "percent")})
			case "settle":
				next, err = before.Settle(now, token, rapid.SampledFrom([]domain.Outcome{
					{}, {Output: []byte(`1`)}, {Output: make([]byte, domain.MaxOutput+1)}, {Err: errors.New("boom")}, {Err: errors.New("boom"), RetryAfter: time.Hour},
					{Err: domain.Permanent(errors.New("boom"))}, {Interrupted: true}, {Interrupted: true, Err: errors.New("stopped")},
				}).Draw(t, "outcome"), rapid.Float64Range(0, 0.999).Draw(t, "random"))
			case "cancel":
				next, err = before.Cancel(now, domain.ReasonCancelled)
			case "redrive":
				next, err = before.Redrive(now)
			case "taken":
				next, err = before.Taken(now), nil
			case "released":
				next, err = before.Released(now, time.Second), nil
			case "unclaim":
				if next, err = before.Unclaim(now, token); err == nil {
					delete(holder, token) // its number was never used
				}
			}
			if diff := cmp.Diff(kept, before) + cmp.Diff(kept.History[:cap(kept.History)], before.History[:cap(before.History)]); diff != "" {
				t.Fatalf("the receiver was changed:\n%s", diff)
			}
			if err != nil && (domain.KindOf(err) != domain.Conflict || !cmp.Equal(before, next)) {
				t.Fatalf("refused with %v, changed %t", err, !cmp.Equal(before, next))
			}
			if next.Status != before.Status && !before.Status.CanBecome(next.Status) {
				t.Fatalf("from %s to %s", before.Status, next.Status)
			}
			if before.Status == domain.Succeeded && next.Status != domain.Succeeded {
				t.Fatal("a success was undone")
			}
			if _, held := holder[token]; next.Starts < before.Starts && (held || next.Starts != before.Starts-1) {
				t.Fatalf("starts went from %d to %d", before.Starts, next.Starts)
			}
			wantSound(t, next)
			job = next
		}
	})
}

func TestClaim(t *testing.T) {
	t.Parallel()
	t.Run("leases the job and counts the attempt", func(t *testing.T) {
		t.Parallel()
		queued := newJob(t, nil).Taken(t0)
		now := t0.Add(time.Second)
		want := queued
		want.Status, want.Attempts, want.Starts, want.Checks, want.UpdatedAt = domain.Running, 1, 1, 0, now
		want.Lease = domain.Lease{Token: "lease-1", Worker: "worker-1", Until: now.Add(50 * time.Second)} // run timeout + margin
		want.CheckAt = want.Lease.Until
		want.History = []domain.Attempt{{Number: 1, StartedAt: now, Worker: "worker-1"}}
		if diff := cmp.Diff(want, claim(t, queued, now)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("again with the token that holds the lease changes nothing", func(t *testing.T) {
		t.Parallel()
		running := claim(t, newJob(t, nil), t0)
		for _, now := range []time.Time{t0, running.Lease.Until.Add(-1), running.Lease.Until.Add(time.Hour)} {
			if diff := cmp.Diff(running, claim(t, running, now)); diff != "" {
				t.Errorf("at %v (-want +got):\n%s", now, diff)
			}
		}
	})
	t.Run("of an abandoned run ends the lost attempt", func(t *testing.T) {
		t.Parallel()
		running := claim(t, newJob(t, nil), t0)
		running, err := running.Report(t0, "lease-1", domain.Progress{Percent: 50, Message: "half"})
		if err != nil {
			t.Fatal(err)
		}
		now := running.Lease.Until
		got, err := running.Claim(now, "lease-2", "worker-2")
		if err != nil {
			t.Fatal(err)
		}
		want := []domain.Attempt{
			{Number: 1, StartedAt: t0, EndedAt: now, Worker: "worker-1", Error: "the worker was lost: its lease ran out"},
			{Number: 2, StartedAt: now, Worker: "worker-2"},
		}
		if diff := cmp.Diff(want, got.History); diff != "" || got.Attempts != 2 || got.Lease.Token != "lease-2" || got.Progress != (domain.Progress{}) {
			t.Errorf("attempts %d, lease %+v, progress %+v, history (-want +got):\n%s", got.Attempts, got.Lease, got.Progress, diff)
		}
		if _, err := got.Settle(now, "lease-1", domain.Outcome{}, 0); domain.ReasonOf(err) != domain.ReasonLeaseLost {
			t.Errorf("the lost worker settles: %v", err)
		}
	})
	t.Run("that finds the attempts used up ends the job", func(t *testing.T) {
		t.Parallel()
		running := claim(t, newJob(t, func(s *domain.JobSpec) { s.Retry.Attempts = 1 }), t0)
		now := running.Lease.Until
		got, err := running.Claim(now, "lease-2", "worker-2")
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != domain.Dead || got.Reason != domain.ReasonWorkerLost || got.Starts != 1 || got.Attempts != 1 || got.History[0].Error == "" || got.FinishedAt != now {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("without a token never passes for the holder", func(t *testing.T) {
		t.Parallel()
		job, err := claim(t, newJob(t, nil), t0).Claim(t0, "", "worker-2")
		if domain.ReasonOf(err) != domain.ReasonLeased {
			t.Errorf("%s, %v, want leased", job.Status, err)
		}
		unnamed, err := newJob(t, nil).Claim(t0, "", "worker-1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unnamed.Settle(t0, "", domain.Outcome{}, 0); domain.ReasonOf(err) != domain.ReasonLeaseLost {
			t.Errorf("an empty token settles: %v", err)
		}
	})
}

func TestAnUndoneClaimLeavesNoTrace(t *testing.T) {
	t.Parallel()
	running := claim(t, newJob(t, nil), t0)
	lost := running.Lease.Until
	abandoned := running // as its loss is recorded
	abandoned.Status, abandoned.Lease = domain.Queued, domain.Lease{}
	abandoned.History = []domain.Attempt{{Number: 1, StartedAt: t0, EndedAt: lost, Worker: "worker-1", Error: "the worker was lost: its lease ran out"}}
	retrying := settle(t, running, t0, domain.Outcome{Err: errors.New("boom")})
	tests := []struct {
		name string
		job  domain.Job
		now  time.Time
		want domain.Job
	}{
		{"queued", newJob(t, nil), t0.Add(time.Second), newJob(t, nil)},
		{"retrying", retrying, retrying.DueAt.Add(time.Second), retrying},
		{"abandoned", running, lost, abandoned},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			claimed, err := tt.job.Claim(tt.now, "lease-9", "worker-9")
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			want.UpdatedAt, want.CheckAt, want.Checks = tt.now.Add(time.Second), tt.want.DueAt, 0
			got, err := claimed.Unclaim(tt.now.Add(time.Second), "lease-9")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}

			cancelled, err := cancel(t, claimed, tt.now).Unclaim(tt.now.Add(time.Second), "lease-9")
			if err != nil || cancelled.Status != domain.Cancelled || cancelled.Starts != tt.want.Starts || cancelled.Attempts != tt.want.Attempts {
				t.Errorf("with its cancel asked for it is %s after %d attempts, %v", cancelled.Status, cancelled.Attempts, err)
			}
		})
	}
}

func TestRenewExtendsTheLeaseByItsWholeTerm(t *testing.T) {
	t.Parallel()
	running := claim(t, newJob(t, nil), t0).Taken(t0)
	now := t0.Add(15 * time.Second)
	want := running
	want.UpdatedAt, want.Checks, want.Lease.Until, want.CheckAt = now, 0, now.Add(50*time.Second), now.Add(50*time.Second)
	got, err := running.Renew(now, "lease-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A cancel that was asked for is there for the worker to see.
	if got, err = cancel(t, running, now).Renew(now, "lease-1"); err != nil || !got.CancelRequested {
		t.Errorf("cancel requested %t, %v", got.CancelRequested, err)
	}
}

func TestALeaseThatRanOutStillSettlesUntilSomebodyElseClaims(t *testing.T) {
	t.Parallel()
	running := claim(t, newJob(t, nil), t0)
	late := running.Lease.Until.Add(time.Hour)
	if got := settle(t, running, late, domain.Outcome{}); got.Status != domain.Succeeded {
		t.Errorf("settled as %s", got.Status)
	}
	taken, err := running.Claim(late, "lease-2", "worker-2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := taken.Settle(late, "lease-1", domain.Outcome{}, 0); domain.ReasonOf(err) != domain.ReasonLeaseLost {
		t.Errorf("settled after another claimed it: %v", err)
	}
}

func TestRedriveGivesFreshAttemptsAndNoStartTwice(t *testing.T) {
	t.Parallel()
	job := newJob(t, func(s *domain.JobSpec) { s.Retry.Attempts = 1 })
	for life := 1; life <= 3; life++ {
		job = claim(t, job, t0)
		if job.Starts != life || job.Attempts != 1 {
			t.Fatalf("life %d: start %d, attempt %d", life, job.Starts, job.Attempts)
		}
		job = settle(t, job, t0, domain.Outcome{Err: errors.New("boom")})
		if job.Status != domain.Dead || job.Reason != domain.ReasonAttemptsUsedUp {
			t.Fatalf("life %d ended %s, %s", life, job.Status, job.Reason)
		}
		dead, now := job, t0.Add(time.Hour)
		job = redrive(t, job, now)
		want := dead
		want.Status, want.Reason, want.Attempts, want.UpdatedAt, want.DueAt, want.CheckAt = domain.Queued, "", 0, now, now, now
		want.FinishedAt, want.ExpiresAt, want.Progress = time.Time{}, time.Time{}, domain.Progress{}
		if diff := cmp.Diff(want, job); diff != "" {
			t.Errorf("life %d redriven (-want +got):\n%s", life, diff)
		}
		job = job.Released(t0, 0) // t0 again, for the next life
		job.DueAt = t0
	}
}

func TestTakenMovesTheNextCheckAwayUpToAnHour(t *testing.T) {
	t.Parallel()
	job, now := newJob(t, nil), t0
	for i, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour, time.Hour} {
		job = job.Taken(now)
		if got := job.CheckAt.Sub(now); got != want || job.Dispatches != i+1 || job.Checks != i+1 {
			t.Fatalf("taken %d times: next check after %v (%d dispatches, %d checks), want %v", i+1, got, job.Dispatches, job.Checks, want)
		}
		now = job.CheckAt
	}
	for range 100 { // no overflow
		if job = job.Taken(now); job.CheckAt.Sub(now) != time.Hour {
			t.Fatalf("next check after %v", job.CheckAt.Sub(now))
		}
	}
	running := claim(t, job, now)
	if got := running.Taken(running.Lease.Until).CheckAt.Sub(running.Lease.Until); got != 30*time.Second {
		t.Errorf("after a claim the next check comes after %v, want 30s again", got)
	}
}

func TestReleasedIsLookedAtAgainSoon(t *testing.T) {
	t.Parallel()
	taken := newJob(t, nil).Taken(t0).Taken(t0)
	delayed := newJob(t, func(s *domain.JobSpec) { s.Delay = time.Hour })
	running := claim(t, newJob(t, nil), t0).Taken(t0)
	tests := []struct {
		name   string
		job    domain.Job
		now    time.Time
		check  time.Time
		checks int
	}{
		{"queued", taken, t0, t0.Add(time.Second), 1},
		{"queued and never taken", newJob(t, nil), t0, t0.Add(time.Second), 0},
		{"not due", delayed, t0, t0.Add(time.Hour), 0},
		{"claimed meanwhile", running, running.Lease.Until.Add(-1), running.CheckAt, 1},
		{"abandoned", running, running.Lease.Until, running.Lease.Until.Add(time.Second), 0},
		{"finished meanwhile", settle(t, running, t0, domain.Outcome{}), t0, time.Time{}, 0},
	}
	for _, tt := range tests {
		got := tt.job.Released(tt.now, time.Second)
		if got.CheckAt != tt.check || got.Checks != tt.checks || got.Status != tt.job.Status || got.Dispatches != tt.job.Dispatches {
			t.Errorf("%s: %s, check at %v after %d checks, want %v after %d", tt.name, got.Status, got.CheckAt, got.Checks, tt.check, tt.checks)
		}
	}
}
