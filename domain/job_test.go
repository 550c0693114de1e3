package domain_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/domain"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var policy = domain.RetryPolicy{Attempts: 3, Base: 10 * time.Second, Max: time.Minute, Timeout: 20 * time.Second}

func spec(change func(*domain.JobSpec)) domain.JobSpec {
	s := domain.JobSpec{
		ID: "0190a5f0-7b1c-7def-8abc-0123456789ab", Name: "report.daily", Payload: []byte(`{"n": 1.0}`), Owner: alice, TokenID: "token-1",
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Retry: policy, Retention: domain.DefaultRetention,
	}
	if change != nil {
		change(&s)
	}
	return s
}

func newJob(t testing.TB, change func(*domain.JobSpec)) domain.Job {
	t.Helper()
	job, err := domain.NewJob(spec(change), t0)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestNewJobKeepsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	s := spec(nil)
	want := domain.Job{
		ID: s.ID, Name: s.Name, Payload: s.Payload, Owner: alice, TokenID: "token-1", TraceParent: s.TraceParent, Retry: policy,
		Retention: domain.DefaultRetention, CreatedAt: t0, UpdatedAt: t0, DueAt: t0, CheckAt: t0, Status: domain.Queued,
	}
	if diff := cmp.Diff(want, newJob(t, nil)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNewJobDueTime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*domain.JobSpec)
		want   time.Time
	}{
		{"at once", nil, t0},
		{"after a delay", func(s *domain.JobSpec) { s.Delay = time.Hour }, t0.Add(time.Hour)},
		{"after the longest delay", func(s *domain.JobSpec) { s.Delay = domain.MaxDelay }, t0.Add(domain.MaxDelay)},
		{"at a time", func(s *domain.JobSpec) { s.RunAt = t0.Add(time.Hour) }, t0.Add(time.Hour)},
		{"at the latest time", func(s *domain.JobSpec) { s.RunAt = t0.Add(domain.MaxDelay) }, t0.Add(domain.MaxDelay)},
		{"at a time in another zone", func(s *domain.JobSpec) { s.RunAt = t0.Add(time.Hour).In(time.FixedZone("", 3600)) }, t0.Add(time.Hour)},
		{"at a time that has passed", func(s *domain.JobSpec) { s.RunAt = t0.Add(-time.Hour) }, t0},
		{"at a time long past", func(s *domain.JobSpec) { s.RunAt = time.Unix(math.MinInt32, 0) }, t0},
		{"in whole milliseconds", func(s *domain.JobSpec) { s.Delay = time.Second + 999*time.Microsecond }, t0.Add(time.Second)},
	}
	for _, tt := range tests {
		job := newJob(t, tt.change)
		if job.DueAt != tt.want || job.CheckAt != tt.want {
			t.Errorf("%s: due at %v, checked at %v, want %v", tt.name, job.DueAt, job.CheckAt, tt.want)
		}
		if job.Due(tt.want.Add(-time.Millisecond)) || !job.Due(tt.want) {
			t.Errorf("%s: not due exactly at %v", tt.name, tt.want)
		}
	}
}

func TestNewJobRefusesWrongMembersAllAtOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*domain.JobSpec)
		want   []string // pointers
	}{
		{"no name", func(s *domain.JobSpec) { s.Name = "" }, []string{"/name"}},
		{"a bad name", func(s *domain.JobSpec) { s.Name = "no spaces" }, []string{"/name"}},
		{"a negative delay", func(s *domain.JobSpec) { s.Delay = -1 }, []string{"/delay"}},
		{"a delay too long", func(s *domain.JobSpec) { s.Delay = domain.MaxDelay + 1 }, []string{"/delay"}},
		{"the longest delay there is", func(s *domain.JobSpec) { s.Delay = math.MaxInt64 }, []string{"/delay"}},
		{"a time too far", func(s *domain.JobSpec) { s.RunAt = t0.Add(domain.MaxDelay + 1) }, []string{"/run_at"}},
		{"a time centuries ahead", func(s *domain.JobSpec) { s.RunAt = t0.AddDate(5000, 0, 0) }, []string{"/run_at"}},
		{"delay and time", func(s *domain.JobSpec) { s.Delay, s.RunAt = 1, t0 }, []string{"/delay"}},
		{"name and delay", func(s *domain.JobSpec) { s.Name, s.Delay = "*", -1 }, []string{"/name", "/delay"}},
		{"a bad name before a payload too large", func(s *domain.JobSpec) { s.Name, s.Payload = "", make([]byte, domain.MaxPayload+1) }, []string{"/name"}},
	}
	for _, tt := range tests {
		job, err := domain.NewJob(spec(tt.change), t0)
		e, ok := errors.AsType[*domain.Error](err)
		if !ok || e.Kind != domain.Invalid || e.Reason != domain.ReasonInvalidFields {
			t.Errorf("%s: %v, want invalid_fields", tt.name, err)
			continue
		}
		var got []string
		for _, f := range e.Fields {
			if f.Detail == "" {
				t.Errorf("%s: no detail for %s", tt.name, f.Pointer)
			}
			got = append(got, f.Pointer)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || job.ID != "" {
			t.Errorf("%s: job %q (-want +got):\n%s", tt.name, job.ID, diff)
		}
	}
}

func TestNewJobBoundsThePayload(t *testing.T) {
	t.Parallel()
	newJob(t, func(s *domain.JobSpec) { s.Payload = make([]byte, domain.MaxPayload) })
	_, err := domain.NewJob(spec(func(s *domain.JobSpec) { s.Payload = make([]byte, domain.MaxPayload+1) }), t0)
	if domain.KindOf(err) != domain.TooLarge || domain.ReasonOf(err) != domain.ReasonTooLarge {
		t.Errorf("one byte more: %v, want too_large", err)
	}
}

func TestFingerprintTellsRequestsUnderOneKeyApart(t *testing.T) {
	t.Parallel()
	keyed := func(change func(*domain.JobSpec)) func(*domain.JobSpec) {
		return func(s *domain.JobSpec) {
			s.IdempotencyKey = "k"
			if change != nil {
				change(s)
			}
		}
	}
	first := newJob(t, keyed(nil))
	if newJob(t, nil).Fingerprint != "" {
		t.Error("a job without a key has a fingerprint")
	}
	if len(first.Fingerprint) != 64 {
		t.Errorf("fingerprint %q, want a SHA-256 in hexadecimal", first.Fingerprint)
	}
	tests := []struct {
		name   string
		change func(*domain.JobSpec)
		same   bool
	}{
		{"another moment's settings, token and trace", func(s *domain.JobSpec) {
			s.TokenID, s.TraceParent, s.Retry, s.Retention = "token-2", "", domain.DefaultRetryPolicy, domain.Retention{}
		}, true},
		{"another name", func(s *domain.JobSpec) { s.Name = "report.weekly" }, false},
		{"another payload", func(s *domain.JobSpec) { s.Payload = []byte(`{"n": 1}`) }, false},
		{"no payload", func(s *domain.JobSpec) { s.Payload = nil }, false},
		{"a delay", func(s *domain.JobSpec) { s.Delay = time.Second }, false},
		{"a time", func(s *domain.JobSpec) { s.RunAt = t0.Add(time.Second) }, false},
		{"a time that has passed", func(s *domain.JobSpec) { s.RunAt = t0.Add(-time.Second) }, false},
	}
	for _, tt := range tests {
		if got := newJob(t, keyed(tt.change)).Fingerprint == first.Fingerprint; got != tt.same {
			t.Errorf("%s: same fingerprint %t", tt.name, got)
		}
	}

	at := func(when time.Time) string {
		return newJob(t, keyed(func(s *domain.JobSpec) { s.RunAt = when })).Fingerprint
	}
	if when := t0.Add(time.Hour); at(when) != at(when.In(time.FixedZone("", 3600))) {
		t.Error("the same time in another zone is another request")
	}
	apart := func(name, payload string) string {
		return newJob(t, keyed(func(s *domain.JobSpec) { s.Name, s.Payload = name, []byte(payload) })).Fingerprint
	}
	if apart("a1", "") == apart("a", "1") {
		t.Error("name and payload run into each other")
	}
	later, err := domain.NewJob(spec(keyed(nil)), t0.Add(time.Hour))
	if err != nil || later.Fingerprint != first.Fingerprint {
		t.Errorf("a later repeat is another request (%v)", err)
	}
}

func TestTimesOfAJobAreWholeMillisecondsOfUTC(t *testing.T) {
	t.Parallel()
	odd := time.Date(2026, 3, 1, 13, 0, 0, 123456789, time.FixedZone("", 3600))
	job, err := domain.NewJob(spec(nil), odd)
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 3, 1, 12, 0, 0, 123000000, time.UTC); job.CreatedAt != want || job.DueAt != want || job.UpdatedAt != want {
		t.Errorf("created %v, due %v, updated %v, want %v", job.CreatedAt, job.DueAt, job.UpdatedAt, want)
	}
}

func TestHistoryKeepsTheLatestAttempts(t *testing.T) {
	t.Parallel()
	job := newJob(t, func(s *domain.JobSpec) { s.Retry.Attempts = domain.MaxAttempts })
	now := t0
	for n := 1; n <= domain.MaxHistory+5; n++ {
		job = claim(t, job, now)
		if len(job.History) != min(n, domain.MaxHistory) {
			t.Fatalf("start %d: %d attempts kept", n, len(job.History))
		}
		if last := job.History[len(job.History)-1]; last != (domain.Attempt{Number: n, StartedAt: now, Worker: "worker-1"}) {
			t.Fatalf("start %d is recorded as %+v", n, last)
		}
		job = settle(t, job, now.Add(time.Second), domain.Outcome{Err: errors.New("boom")})
		now = job.DueAt
	}
	for i, attempt := range job.History {
		if attempt.Number != i+6 || attempt.Error != "boom" || attempt.EndedAt != attempt.StartedAt.Add(time.Second) {
			t.Errorf("attempt %d of the history is %+v", i, attempt)
		}
	}
}

func TestErrorsAndMessagesAreCutBetweenRunes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		wantError  string // of at most 1024 bytes
	}{
		{"as long as is kept", strings.Repeat("x", domain.MaxErrorBytes), strings.Repeat("x", domain.MaxErrorBytes)},
		{"one byte more", strings.Repeat("x", domain.MaxErrorBytes+1), strings.Repeat("x", domain.MaxErrorBytes)},
		{"a rune of three bytes on the bound", strings.Repeat("x", domain.MaxErrorBytes-2) + "€€", strings.Repeat("x", domain.MaxErrorBytes-2)},
		{"a rune of three bytes up to the bound", strings.Repeat("x", domain.MaxErrorBytes-3) + "€€", strings.Repeat("x", domain.MaxErrorBytes-3) + "€"},
		{"invalid UTF-8", "a\xffb", "a\uFFFDb"},
		{"invalid UTF-8 that grows over the bound", strings.Repeat("x", domain.MaxErrorBytes-1) + "\xff", strings.Repeat("x", domain.MaxErrorBytes-1)},
	}
	for _, tt := range tests {
		job := settle(t, claim(t, newJob(t, nil), t0), t0, domain.Outcome{Err: errors.New(tt.text)})
		if got := job.History[0].Error; got != tt.wantError {
			t.Errorf("%s: kept %d bytes ending in %q, want %d", tt.name, len(got), got[max(0, len(got)-5):], len(tt.wantError))
		}
	}

	job, err := claim(t, newJob(t, nil), t0).Report(t0, "lease-1", domain.Progress{Message: strings.Repeat("x", domain.MaxProgress-1) + "é"})
	if want := strings.Repeat("x", domain.MaxProgress-1); err != nil || job.Progress.Message != want {
		t.Errorf("progress of %d bytes, want %d (%v)", len(job.Progress.Message), len(want), err)
	}
}

func TestPercentIsCutToItsRange(t *testing.T) {
	t.Parallel()
	for percent, want := range map[int]int{math.MinInt: 0, -1: 0, 0: 0, 42: 42, 100: 100, 101: 100, math.MaxInt: 100} {
		job, err := claim(t, newJob(t, nil), t0).Report(t0, "lease-1", domain.Progress{Percent: percent})
		if err != nil || job.Progress.Percent != want {
			t.Errorf("%d percent became %d (%v)", percent, job.Progress.Percent, err)
		}
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	tooMuch := bytes.Repeat([]byte("1"), domain.MaxOutput+1)
	const queued, succeeded, dead, cancelled = domain.Queued, domain.Succeeded, domain.Dead, domain.Cancelled
	tests := []struct {
		name      string
		starts    int // claims before this one that failed
		cancelled bool
		outcome   domain.Outcome
		random    float64
		status    domain.Status
		reason    domain.Reason
		attempts  int
		wait      time.Duration // until it is due, when queued again
		failure   string
	}{
		{name: "success", outcome: domain.Outcome{Output: []byte(`1`)}, status: succeeded, attempts: 1},
		{name: "success without output", status: succeeded, attempts: 1},
		{name: "success with as much output as is kept", outcome: domain.Outcome{Output: tooMuch[1:]}, status: succeeded, attempts: 1},
		{name: "success at the last attempt", starts: 2, status: succeeded, attempts: 3},
		{name: "success although its cancel was asked for", cancelled: true, status: succeeded, attempts: 1},
		{name: "output too large", outcome: domain.Outcome{Output: tooMuch}, status: dead, reason: domain.ReasonPermanent, attempts: 1, failure: "the output has 32769 bytes, at most 32768 are kept"},

		{name: "failure, no jitter", outcome: domain.Outcome{Err: boom}, status: queued, attempts: 1, wait: 5 * time.Second, failure: "boom"},
		{name: "failure, half the jitter", outcome: domain.Outcome{Err: boom}, random: 0.5, status: queued, attempts: 1, wait: 7500 * time.Millisecond, failure: "boom"},
		{name: "second failure", starts: 1, outcome: domain.Outcome{Err: boom}, status: queued, attempts: 2, wait: 10 * time.Second, failure: "boom"},
		{name: "last failure", starts: 2, outcome: domain.Outcome{Err: boom}, status: dead, reason: domain.ReasonAttemptsUsedUp, attempts: 3, failure: "boom"},
		{name: "permanent failure", outcome: domain.Outcome{Err: domain.Permanent(boom)}, status: dead, reason: domain.ReasonPermanent, attempts: 1, failure: "boom"},
		{name: "permanent failure at the last attempt", starts: 2, outcome: domain.Outcome{Err: domain.Permanent(boom)}, status: dead, reason: domain.ReasonPermanent, attempts: 3, failure: "boom"},
		{name: "a failure's output is not kept", outcome: domain.Outcome{Output: []byte(`1`), Err: boom}, status: queued, attempts: 1, wait: 5 * time.Second, failure: "boom"},

		{name: "a wait longer than the backoff", outcome: domain.Outcome{Err: boom, RetryAfter: 30 * time.Second}, status: queued, attempts: 1, wait: 30 * time.Second, failure: "boom"},
		{name: "a wait shorter than the backoff", outcome: domain.Outcome{Err: boom, RetryAfter: time.Second}, status: queued, attempts: 1, wait: 5 * time.Second, failure: "boom"},
		{name: "a wait longer than the policy's bound", outcome: domain.Outcome{Err: boom, RetryAfter: 24 * time.Hour}, status: queued, attempts: 1, wait: policy.Max, failure: "boom"},
		{name: "a negative wait", outcome: domain.Outcome{Err: boom, RetryAfter: -time.Hour}, status: queued, attempts: 1, wait: 5 * time.Second, failure: "boom"},
		{name: "a wait does not add attempts", starts: 2, outcome: domain.Outcome{Err: boom, RetryAfter: time.Second}, status: dead, reason: domain.ReasonAttemptsUsedUp, attempts: 3, failure: "boom"},

		{name: "interrupted", outcome: domain.Outcome{Interrupted: true}, status: queued, attempts: 0, failure: "interrupted: the worker stopped"},
		{name: "interrupted with an error", outcome: domain.Outcome{Interrupted: true, Err: boom}, status: queued, attempts: 0, failure: "boom"},
		{name: "interrupted at the last attempt", starts: 2, outcome: domain.Outcome{Interrupted: true, Err: boom}, status: queued, attempts: 2, failure: "boom"},

		{name: "failure after its cancel was asked for", cancelled: true, outcome: domain.Outcome{Err: boom}, status: cancelled, reason: domain.ReasonCancelled, attempts: 1, failure: "boom"},
		{name: "permanent failure after its cancel was asked for", cancelled: true, outcome: domain.Outcome{Err: domain.Permanent(boom)}, status: cancelled, reason: domain.ReasonCancelled, attempts: 1, failure: "boom"},
		{name: "last failure after its cancel was asked for", starts: 2, cancelled: true, outcome: domain.Outcome{Err: boom}, status: cancelled, reason: domain.ReasonCancelled, attempts: 3, failure: "boom"},
		{name: "interrupted after its cancel was asked for", cancelled: true, outcome: domain.Outcome{Interrupted: true}, status: cancelled, reason: domain.ReasonCancelled, attempts: 1, failure: "interrupted: the worker stopped"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			job, now := newJob(t, nil), t0
			for range tt.starts {
				job = settle(t, claim(t, job, now), now, domain.Outcome{Err: errors.New("earlier")})
				now = job.DueAt
			}
			job = claim(t, job, now)
			if tt.cancelled {
				job = cancel(t, job, now)
			}
			now = now.Add(time.Second)
			running := job
			job, err := job.Settle(now, "lease-1", tt.outcome, tt.random)
			if err != nil {
				t.Fatal(err)
			}

			want := running
			want.Status, want.Reason, want.Attempts, want.UpdatedAt = tt.status, tt.reason, tt.attempts, now
			want.Lease, want.CancelRequested = domain.Lease{}, false
			want.History = append([]domain.Attempt(nil), running.History...)
			want.History[tt.starts].EndedAt, want.History[tt.starts].Error = now, tt.failure
			switch tt.status {
			case queued:
				want.DueAt = now.Add(tt.wait)
				want.CheckAt = want.DueAt
			case dead:
				want.FinishedAt, want.ExpiresAt, want.CheckAt = now, now.Add(30*24*time.Hour), time.Time{}
			default:
				want.FinishedAt, want.ExpiresAt, want.CheckAt = now, now.Add(7*24*time.Hour), time.Time{}
			}
			if tt.status == succeeded {
				want.Output = tt.outcome.Output
			}
			if diff := cmp.Diff(want, job); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFinishedJobExpires(t *testing.T) {
	t.Parallel()
	retention := domain.Retention{Finished: time.Hour, Dead: 2 * time.Hour}
	running := claim(t, newJob(t, func(s *domain.JobSpec) { s.Retention = retention }), t0)
	tests := []struct {
		name string
		job  domain.Job
		want time.Duration // 0: never
	}{
		{"running", running, 0},
		{"succeeded", settle(t, running, t0, domain.Outcome{}), time.Hour},
		{"cancelled", cancel(t, newJob(t, func(s *domain.JobSpec) { s.Retention = retention }), t0), time.Hour},
		{"dead", settle(t, running, t0, domain.Outcome{Err: domain.Permanent(errors.New("boom"))}), 2 * time.Hour},
		{"redriven", redrive(t, settle(t, running, t0, domain.Outcome{Err: domain.Permanent(errors.New("boom"))}), t0), 0},
	}
	for _, tt := range tests {
		if tt.want == 0 {
			if tt.job.Expired(t0.AddDate(100, 0, 0)) {
				t.Errorf("%s: expires", tt.name)
			}
			continue
		}
		if tt.job.Expired(t0.Add(tt.want-1)) || !tt.job.Expired(t0.Add(tt.want)) {
			t.Errorf("%s: expires at %v, want after %v", tt.name, tt.job.ExpiresAt, tt.want)
		}
	}
}

func claim(t testing.TB, job domain.Job, now time.Time) domain.Job {
	t.Helper()
	job, err := job.Claim(now, "lease-1", "worker-1")
	if err != nil || job.Status != domain.Running {
		t.Fatalf("claim: %s, %v", job.Status, err)
	}
	return job
}

func settle(t testing.TB, job domain.Job, now time.Time, o domain.Outcome) domain.Job {
	t.Helper()
	job, err := job.Settle(now, "lease-1", o, 0)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func cancel(t testing.TB, job domain.Job, now time.Time) domain.Job {
	t.Helper()
	job, err := job.Cancel(now, domain.ReasonCancelled)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func redrive(t testing.TB, job domain.Job, now time.Time) domain.Job {
	t.Helper()
	job, err := job.Redrive(now)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestWhatAJobWaited(t *testing.T) {
	t.Parallel()
	claim := func(j domain.Job, at time.Duration) domain.Job {
		t.Helper()
		j, err := j.Claim(t0.Add(at), "token "+at.String(), "worker")
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	fail := func(j domain.Job, at time.Duration) domain.Job {
		t.Helper()
		j, err := j.Settle(t0.Add(at), j.Lease.Token, domain.Outcome{Err: errors.New("boom")}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	queued := newJob(t, nil)
	first := claim(queued, 3*time.Second)
	retry := fail(first, 4*time.Second) // due 5 s later, half of the base
	for name, tt := range map[string]struct {
		job  domain.Job
		want time.Duration
		ok   bool
	}{
		"not claimed":               {queued, 0, false},
		"claimed":                   {first, 3 * time.Second, true},
		"claimed at once":           {claim(queued, 0), 0, true},
		"delayed":                   {claim(newJob(t, func(s *domain.JobSpec) { s.Delay = time.Minute }), 62*time.Second), 2 * time.Second, true},
		"a retry":                   {claim(retry, 11*time.Second), 2 * time.Second, true},
		"taken over from its lease": {claim(first, time.Hour), 0, false},
	} {
		if got, ok := tt.job.Waited(); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %v, %t; want %v, %t", name, got, ok, tt.want, tt.ok)
		}
	}
}
