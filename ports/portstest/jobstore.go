package portstest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// JobStoreHarness is what the suite needs of an adapter.
type JobStoreHarness struct {
	// Store is empty, and its clock is the now that the harness was opened with.
	Store interface {
		ports.JobStore
		ports.JobSchedule
	}
}

// Clock is a clock that a test moves. It starts at a whole millisecond.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock and returns its new time.
func (c *Clock) Advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

var (
	alice = domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"}
	bob   = domain.Identity{Issuer: "https://issuer.example/", Subject: "bob"}
	// The same subject of another issuer is another caller.
	otherAlice = domain.Identity{Issuer: "https://other.example/", Subject: "alice"}
)

// NewJob returns a queued job as a submission of owner at now makes it.
func NewJob(t testing.TB, now time.Time, owner domain.Identity, name string) domain.Job {
	t.Helper()
	job, err := domain.NewJob(domain.JobSpec{
		ID: uuid.NewString(), Name: name, Owner: owner, Payload: []byte(`{"n": 1.0}`),
		Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention,
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// JobStore is the contract of ports.JobStore and ports.JobSchedule. open is called for each case with the clock that
// the store must go by.
func JobStore(t *testing.T, open func(t *testing.T, now func() time.Time) JobStoreHarness) {
	t.Helper()
	cases := []struct {
		name string
		run  func(*storeSuite, *testing.T)
	}{
		{"a created job is read back to the last member", (*storeSuite).roundTrip},
		{"a job without optional members is read back without them", (*storeSuite).roundTripBare},
		{"create is idempotent by id and changes nothing", (*storeSuite).createTwice},
		{"of concurrent creates of one id exactly one creates", (*storeSuite).createAtOnce},
		{"an unknown id is not found", (*storeSuite).notFound},
		{"update stores what decide makes of the job", (*storeSuite).update},
		{"an error of decide comes back as it is and changes nothing", (*storeSuite).updateRefused},
		{"concurrent updates of one job lose nothing", (*storeSuite).updateAtOnce},
		{"a whole life is read back step by step", (*storeSuite).life},
		{"an expired job is absent at once", (*storeSuite).expired},
		{"an expired job's id can be used again", (*storeSuite).createOverExpired},
		{"expire removes expired jobs alone", (*storeSuite).expire},
		{"a list shows an owner's jobs alone, newest first", (*storeSuite).listOwner},
		{"owners whose names run into each other are told apart", (*storeSuite).listSimilarOwners},
		{"a list without owner shows everybody's jobs", (*storeSuite).listAll},
		{"pages join to the whole list, each job once, while jobs arrive", (*storeSuite).listPages},
		{"jobs of one instant are listed in the order of their ids", (*storeSuite).listTies},
		{"a list is filtered by status and name", (*storeSuite).listFilter},
		{"take hands out due jobs, longest due first, and moves their check", (*storeSuite).take},
		{"take hands a job that nobody claims out again, later each time", (*storeSuite).takeAgain},
		{"take leaves delayed, leased and finished jobs alone", (*storeSuite).takeOpen},
		{"take hands out a running job past its lease", (*storeSuite).takeLost},
		{"concurrent takers never share a job and leave none", func(s *storeSuite, t *testing.T) { s.takeAtOnce(t, domain.Job.Taken) }},
		{"concurrent takers that claim never share a job and leave none", func(s *storeSuite, t *testing.T) { s.takeAtOnce(t, claiming) }},
		{"take stores what its step makes of each job", (*storeSuite).takeBySteps},
		{"a job that a step leaves due is taken again", (*storeSuite).takeStillDue},
		{"a job on which a step panics holds up no other", (*storeSuite).takePanic},
		{"a cancelled context ends every call as unavailable", (*storeSuite).cancelled},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := NewClock()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			h := open(t, clock.Now)
			c.run(&storeSuite{JobStoreHarness: h, ctx: ctx, clock: clock}, t)
		})
	}
}

type storeSuite struct {
	JobStoreHarness
	ctx   context.Context
	clock *Clock
}

func (s *storeSuite) create(t *testing.T, job domain.Job) domain.Job {
	t.Helper()
	stored, created, err := s.Store.Create(s.ctx, job)
	if err != nil || !created {
		t.Fatalf("Create: created %v, error %v", created, err)
	}
	return stored
}

func (s *storeSuite) update(t *testing.T) {
	job := s.create(t, NewJob(t, s.clock.Now(), alice, "report.render"))
	now := s.clock.Advance(time.Second)
	got, err := s.Store.Update(s.ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		wantSame(t, "the job that decide is given", j, job)
		return j.Claim(now, "token", "worker")
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != domain.Running || got.Lease.Token != "token" || got.Starts != 1 {
		t.Errorf("Update returned %+v, want the claimed job", got)
	}
	s.wantStored(t, got)
	_, err = s.Store.Update(s.ctx, uuid.NewString(), func(j domain.Job) (domain.Job, error) { return j, nil })
	wantKind(t, err, domain.NotFound)
}

func (s *storeSuite) updateRefused(t *testing.T) {
	job := s.create(t, NewJob(t, s.clock.Now(), alice, "report.render"))
	refusal := errors.New("no")
	_, err := s.Store.Update(s.ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		j.Name = "changed"
		return j, refusal
	})
	if err != refusal { //nolint:errorlint // the very error is the contract
		t.Errorf("Update = %v, want decide's own error", err)
	}
	s.wantStored(t, job)
}

func (s *storeSuite) updateAtOnce(t *testing.T) {
	job := s.create(t, NewJob(t, s.clock.Now(), alice, "report.render"))
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				_, err := s.Store.Update(s.ctx, job.ID, func(j domain.Job) (domain.Job, error) {
					j.Dispatches++
					return j, nil
				})
				switch {
				case err == nil:
					done++
				case s.ctx.Err() != nil:
					t.Error("no progress within the time")
					return
				case domain.KindOf(err) != domain.Throttled && domain.KindOf(err) != domain.Unavailable:
					t.Errorf("Update: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := s.Store.Get(s.ctx, job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Dispatches != writers*each {
		t.Errorf("after %d updates the counter stands at %d", writers*each, got.Dispatches)
	}
}

func (s *storeSuite) roundTrip(t *testing.T) {
	now := s.clock.Now()
	job := domain.Job{
		ID: uuid.NewString(), Name: "report.render", Payload: []byte("{\"a\": 1.0, \"a\":2e0,\n \"é\": \"\\u0000\"}"), Owner: alice,
		TokenID: "jti-1", IdempotencyKey: "key 1", Fingerprint: "f00d", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Retry:     domain.RetryPolicy{Attempts: 3, Base: 1500 * time.Millisecond, Max: time.Hour, Timeout: 45 * time.Second},
		Retention: domain.Retention{Finished: time.Hour, Dead: 2 * time.Hour},
		CreatedAt: now, Status: domain.Running, Reason: domain.ReasonCancelled, Attempts: 2, Starts: 7, Dispatches: 9, Checks: 3, CancelRequested: true,
		DueAt: now.Add(time.Second), CheckAt: now.Add(time.Minute), UpdatedAt: now.Add(time.Millisecond),
		FinishedAt: now.Add(2 * time.Second), ExpiresAt: now.Add(24 * time.Hour),
		Lease:    domain.Lease{Token: "lease", Worker: "worker-1", Until: now.Add(time.Minute)},
		Progress: domain.Progress{Percent: 42, Message: "half-way, almost: \"é\""}, Output: []byte(`{"rows":12345678901234567890}`),
		History: []domain.Attempt{
			{Number: 6, StartedAt: now.Add(-time.Minute), EndedAt: now.Add(-time.Second), Worker: "worker-0", Error: "boom\nline two"},
			{Number: 7, StartedAt: now, Worker: "worker-1"},
		},
	}
	stored := s.create(t, job)
	wantSame(t, "Create returned", stored, job)
	s.wantStored(t, job)
	page, err := s.Store.List(s.ctx, ports.JobQuery{Owner: &alice, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Jobs) != 1 {
		t.Fatalf("the list has %d jobs, want 1", len(page.Jobs))
	}
	wantSame(t, "the listed job", page.Jobs[0], job)
}

func (s *storeSuite) roundTripBare(t *testing.T) {
	job := NewJob(t, s.clock.Now(), domain.Identity{}, "a")
	job.Payload = nil
	s.create(t, job)
	got, err := s.Store.Get(s.ctx, job.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "Get", got, job)
	if got.Payload != nil || got.Output != nil || got.History != nil || !got.FinishedAt.IsZero() || !got.Lease.Until.IsZero() {
		t.Errorf("absent members came back as present: %+v", got)
	}
	for _, size := range []int{4<<10 - 1, 4 << 10, 4<<10 + 1, domain.MaxPayload} {
		job := NewJob(t, s.clock.Now(), alice, "sized")
		job.Payload = slices.Repeat([]byte{'7'}, size)
		s.create(t, job)
		s.wantStored(t, job)
	}
}

func (s *storeSuite) createTwice(t *testing.T) {
	job := s.create(t, NewJob(t, s.clock.Now(), alice, "report.render"))
	second := job
	second.Name, second.Owner, second.Payload = "other", bob, nil
	stored, created, err := s.Store.Create(s.ctx, second)
	if err != nil || created {
		t.Fatalf("second Create: created %v, error %v", created, err)
	}
	wantSame(t, "the second Create returned", stored, job)
	s.wantStored(t, job)
}

func (s *storeSuite) createAtOnce(t *testing.T) {
	job := NewJob(t, s.clock.Now(), alice, "report.render")
	var mu sync.Mutex
	winners := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, created, err := s.Store.Create(s.ctx, job)
			if err != nil {
				t.Errorf("Create: %v", err)
			}
			if created {
				mu.Lock()
				winners++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if winners != 1 {
		t.Errorf("%d of 8 creates say they created the job, want 1", winners)
	}
}

func (s *storeSuite) notFound(t *testing.T) {
	for _, id := range []string{uuid.NewString(), "", "no-uuid", "'; DROP TABLE jobs; --"} {
		_, err := s.Store.Get(s.ctx, id)
		wantKind(t, err, domain.NotFound)
	}
}

func (s *storeSuite) life(t *testing.T) {
	job := s.create(t, NewJob(t, s.clock.Now(), alice, "report.render"))
	must := func(step func(domain.Job) (domain.Job, error)) {
		t.Helper()
		got, err := s.Store.Update(s.ctx, job.ID, step)
		if err != nil {
			t.Fatal(err)
		}
		s.wantStored(t, got)
		s.clock.Advance(time.Hour)
	}
	must(func(j domain.Job) (domain.Job, error) { return j.Claim(s.clock.Now(), "t1", "w1") })
	must(func(j domain.Job) (domain.Job, error) {
		return j.Report(s.clock.Now(), "t1", domain.Progress{Percent: 10, Message: "reading"})
	})
	must(func(j domain.Job) (domain.Job, error) {
		return j.Settle(s.clock.Now(), "t1", domain.Outcome{Err: errors.New("boom")}, 0.5)
	})
	must(func(j domain.Job) (domain.Job, error) { return j.Claim(s.clock.Now(), "t2", "w2") })
	must(func(j domain.Job) (domain.Job, error) {
		return j.Settle(s.clock.Now(), "t2", domain.Outcome{Err: domain.Permanent(errors.New("never"))}, 0)
	})
	must(func(j domain.Job) (domain.Job, error) { return j.Redrive(s.clock.Now()) })
	must(func(j domain.Job) (domain.Job, error) { return j.Claim(s.clock.Now(), "t3", "w3") })
	must(func(j domain.Job) (domain.Job, error) {
		return j.Settle(s.clock.Now(), "t3", domain.Outcome{Output: []byte("[1,2]")}, 0)
	})
}

func (s *storeSuite) finished(t *testing.T, owner domain.Identity) domain.Job {
	t.Helper()
	job := s.create(t, NewJob(t, s.clock.Now(), owner, "done"))
	job, err := s.Store.Update(s.ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		return j.Cancel(s.clock.Now(), domain.ReasonCancelled)
	})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func (s *storeSuite) expired(t *testing.T) {
	job := s.finished(t, alice)
	s.clock.Advance(job.ExpiresAt.Sub(s.clock.Now()) - time.Millisecond)
	s.wantStored(t, job)
	s.clock.Advance(time.Millisecond)
	_, err := s.Store.Get(s.ctx, job.ID)
	wantKind(t, err, domain.NotFound)
	_, err = s.Store.Update(s.ctx, job.ID, func(j domain.Job) (domain.Job, error) { return j.Redrive(s.clock.Now()) })
	wantKind(t, err, domain.NotFound)
	if ids := s.list(t, ports.JobQuery{Limit: 100}); len(ids) != 0 {
		t.Errorf("an expired job is listed: %v", ids)
	}
}

func (s *storeSuite) createOverExpired(t *testing.T) {
	job := s.finished(t, alice)
	s.clock.Advance(domain.DefaultRetention.Finished)
	again := NewJob(t, s.clock.Now(), alice, "again")
	again.ID, again.Payload = job.ID, slices.Repeat([]byte{'1'}, 5000)
	s.create(t, again)
	s.wantStored(t, again)
	if got := s.takeIDs(t, 10); !slices.Equal(got, []string{again.ID}) {
		t.Errorf("Take = %v, want the new job", got)
	}
}

func (s *storeSuite) expire(t *testing.T) {
	for range 3 {
		s.finished(t, alice)
	}
	open := s.create(t, NewJob(t, s.clock.Now(), alice, "open"))
	s.clock.Advance(domain.DefaultRetention.Finished)
	recent := s.finished(t, bob)
	for _, limit := range []int{2, 10, 10} {
		if n, err := s.Store.Expire(s.ctx, limit); err != nil || n > limit {
			t.Fatalf("Expire(%d) = %d, %v", limit, n, err)
		}
	}
	if n, err := s.Store.Expire(s.ctx, 10); err != nil || n != 0 {
		t.Errorf("Expire with nothing left = %d, %v", n, err)
	}
	s.wantStored(t, open)
	s.wantStored(t, recent)
}

func (s *storeSuite) listOwner(t *testing.T) {
	var want []string
	for range 3 {
		want = append([]string{s.create(t, NewJob(t, s.clock.Now(), alice, "mine")).ID}, want...)
		s.create(t, NewJob(t, s.clock.Now(), bob, "mine"))
		s.create(t, NewJob(t, s.clock.Now(), otherAlice, "mine"))
		s.create(t, NewJob(t, s.clock.Now(), domain.Identity{}, "mine"))
		s.clock.Advance(time.Millisecond)
	}
	if got := s.list(t, ports.JobQuery{Owner: &alice, Limit: 100}); !slices.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}
	if got := s.list(t, ports.JobQuery{Owner: &domain.Identity{}, Limit: 100}); len(got) != 3 {
		t.Errorf("List of jobs without an owner = %v, want 3", got)
	}
	if got := s.list(t, ports.JobQuery{Owner: &domain.Identity{Issuer: "https://nobody.example", Subject: "x"}, Limit: 100}); len(got) != 0 {
		t.Errorf("List of an owner without jobs = %v", got)
	}
}

func (s *storeSuite) listSimilarOwners(t *testing.T) {
	want := map[domain.Identity]string{}
	for _, owner := range []domain.Identity{
		{Issuer: "ab", Subject: "c"}, {Issuer: "a", Subject: "bc"}, {Issuer: "abc"}, {Subject: "abc"},
		{Issuer: "a#b", Subject: "c"}, {Issuer: "a", Subject: "b#c"}, {Issuer: "a:b", Subject: "c"}, {Issuer: "a", Subject: "b:c"},
		{Issuer: "1:a", Subject: "b"}, {Issuer: "1", Subject: "a:b"}, {Issuer: "a\nb", Subject: "c"}, {Issuer: "a", Subject: "b\nc"},
		{Issuer: "a\x00b", Subject: "c"}, {Issuer: "a", Subject: "b\x00c"}, {Issuer: "a", Subject: "b"}, {Issuer: "a", Subject: "b\x00"},
		{Issuer: "a", Subject: "B"}, {Issuer: "a", Subject: "b "}, {Issuer: "a", Subject: "b%"}, {Issuer: "a", Subject: "_"},
		{Issuer: "a", Subject: "\u00e9"}, {Issuer: "a", Subject: "e\u0301"}, // the same to a reader
	} {
		job := NewJob(t, s.clock.Advance(time.Millisecond), owner, "mine")
		switch _, _, err := s.Store.Create(s.ctx, job); {
		case err == nil:
			want[owner] = job.ID
		case domain.KindOf(err) != domain.Invalid: // a store may not hold every character
			t.Fatal(err)
		}
	}
	for owner, id := range want {
		if got := s.list(t, ports.JobQuery{Owner: &owner, Limit: 100}); !slices.Equal(got, []string{id}) {
			t.Errorf("List of %+q = %v, want %v alone", owner, got, id)
		}
	}
	if len(want) < 16 {
		t.Errorf("the store holds jobs of %d owners only", len(want))
	}
}

func (s *storeSuite) listAll(t *testing.T) {
	var want []string
	for i := range 12 {
		owner := []domain.Identity{alice, bob, otherAlice, {}}[i%4]
		want = append([]string{s.create(t, NewJob(t, s.clock.Now(), owner, "any")).ID}, want...)
		s.clock.Advance(time.Millisecond)
	}
	if got := s.list(t, ports.JobQuery{Limit: 5}); !slices.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}
}

func (s *storeSuite) listPages(t *testing.T) {
	var want []string
	for range 23 {
		want = append([]string{s.create(t, NewJob(t, s.clock.Now(), alice, "page")).ID}, want...)
		s.clock.Advance(time.Millisecond)
	}
	var got []string
	query := ports.JobQuery{Owner: &alice, Limit: 4}
	for {
		page, err := s.Store.List(s.ctx, query)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Jobs) > query.Limit {
			t.Fatalf("a page has %d jobs, the limit is %d", len(page.Jobs), query.Limit)
		}
		got = append(got, ids(page.Jobs)...)
		if page.Next.IsZero() {
			break
		}
		query.After = page.Next
		s.create(t, NewJob(t, s.clock.Now(), alice, "arrives"))
		s.clock.Advance(time.Millisecond)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages join to %v, want %v", got, want)
	}
}

func (s *storeSuite) listTies(t *testing.T) {
	var want []string
	for range 9 {
		want = append(want, s.create(t, NewJob(t, s.clock.Now(), alice, "tie")).ID)
	}
	slices.Sort(want)
	slices.Reverse(want)
	if got := s.list(t, ports.JobQuery{Owner: &alice, Limit: 2}); !slices.Equal(got, want) {
		t.Errorf("List of one owner = %v, want %v", got, want)
	}
	if got := s.list(t, ports.JobQuery{Limit: 2}); !slices.Equal(got, want) {
		t.Errorf("List of all = %v, want %v", got, want)
	}
}

func (s *storeSuite) listFilter(t *testing.T) {
	var queued, named []string
	for i := range 12 {
		name := []string{"a", "b", "c"}[i%3]
		job := NewJob(t, s.clock.Now(), alice, name)
		s.create(t, job)
		if name == "b" {
			named = append([]string{job.ID}, named...)
		}
		if i%2 == 0 {
			if _, err := s.Store.Update(s.ctx, job.ID, func(j domain.Job) (domain.Job, error) {
				return j.Cancel(s.clock.Now(), domain.ReasonCancelled)
			}); err != nil {
				t.Fatal(err)
			}
		} else {
			queued = append([]string{job.ID}, queued...)
		}
		s.clock.Advance(time.Millisecond)
	}
	for _, c := range []struct {
		query ports.JobQuery
		want  []string
	}{
		{ports.JobQuery{Owner: &alice, Status: domain.Queued, Limit: 2}, queued},
		{ports.JobQuery{Status: domain.Queued, Limit: 100}, queued},
		{ports.JobQuery{Owner: &alice, Name: "b", Limit: 1}, named},
		{ports.JobQuery{Name: "b", Limit: 100}, named},
		{ports.JobQuery{Owner: &alice, Status: domain.Dead, Limit: 100}, nil},
	} {
		if got := s.list(t, c.query); !slices.Equal(got, c.want) {
			t.Errorf("List(%+v) = %v, want %v", c.query, got, c.want)
		}
	}
}

func (s *storeSuite) take(t *testing.T) {
	var want []string
	for range 5 {
		want = append(want, s.create(t, NewJob(t, s.clock.Now(), alice, "due")).ID)
		s.clock.Advance(time.Millisecond)
	}
	first, err := s.Store.Take(s.ctx, 3, domain.Job.Taken)
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(first); !slices.Equal(got, want[:3]) {
		t.Errorf("Take(3) = %v, want the longest due %v", got, want[:3])
	}
	for _, job := range first {
		if !job.CheckAt.Equal(s.clock.Now().Add(domain.FirstCheck)) || job.Dispatches != 1 || job.Checks != 1 {
			t.Errorf("a taken job has CheckAt %v, Dispatches %d, Checks %d; want them moved", job.CheckAt, job.Dispatches, job.Checks)
		}
		s.wantStored(t, job)
	}
	if got := s.takeIDs(t, 10); !slices.Equal(got, want[3:]) {
		t.Errorf("the second Take = %v, want the rest %v", got, want[3:])
	}
	if got := s.takeIDs(t, 10); len(got) != 0 {
		t.Errorf("Take with nothing due = %v", got)
	}
}

func (s *storeSuite) takeAgain(t *testing.T) {
	job := s.create(t, NewJob(t, s.clock.Now(), alice, "due"))
	wait := domain.FirstCheck
	for i := range 4 {
		if got := s.takeIDs(t, 10); !slices.Equal(got, []string{job.ID}) {
			t.Fatalf("Take %d = %v, want the unclaimed job", i, got)
		}
		s.clock.Advance(wait - time.Millisecond)
		if got := s.takeIDs(t, 10); len(got) != 0 {
			t.Fatalf("Take %d: the job came before %v had passed", i, wait)
		}
		s.clock.Advance(time.Millisecond)
		wait *= 2
	}
}

func (s *storeSuite) takeOpen(t *testing.T) {
	s.finished(t, alice)
	delayed := NewJob(t, s.clock.Now(), alice, "delayed")
	delayed.DueAt = s.clock.Now().Add(time.Minute)
	delayed.CheckAt = delayed.DueAt
	s.create(t, delayed)
	leased := s.create(t, NewJob(t, s.clock.Now(), alice, "leased"))
	if _, err := s.Store.Update(s.ctx, leased.ID, func(j domain.Job) (domain.Job, error) {
		return j.Claim(s.clock.Now(), "t", "w")
	}); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(59 * time.Second)
	if got := s.takeIDs(t, 10); len(got) != 0 {
		t.Errorf("Take = %v, want nothing yet", got)
	}
	s.clock.Advance(time.Second)
	got := s.takeIDs(t, 10)
	slices.Sort(got)
	want := []string{delayed.ID, leased.ID}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("Take = %v, want the job that has become due and the one whose lease ran out", got)
	}
}

func (s *storeSuite) takeLost(t *testing.T) {
	job := s.create(t, NewJob(t, s.clock.Now(), alice, "lost"))
	claimed, err := s.Store.Update(s.ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		return j.Claim(s.clock.Now(), "t", "w")
	})
	if err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(claimed.LeaseTerm())
	taken, err := s.Store.Take(s.ctx, 10, domain.Job.Taken)
	if err != nil {
		t.Fatal(err)
	}
	if len(taken) != 1 || taken[0].Status != domain.Running || taken[0].Lease.Token != "t" {
		t.Errorf("Take = %+v, want the running job, its lease as it was", taken)
	}
}

// claiming is the step of a taker that claims what it takes.
func claiming(job domain.Job, now time.Time) domain.Job {
	claimed, err := job.Claim(now, uuid.NewString(), "w")
	if err != nil {
		return job.Taken(now)
	}
	return claimed
}

func (s *storeSuite) takeBySteps(t *testing.T) {
	queued := s.create(t, NewJob(t, s.clock.Now(), alice, "queued"))
	lost := s.create(t, NewJob(t, s.clock.Now(), alice, "lost"))
	ended := s.create(t, NewJob(t, s.clock.Now(), alice, "ended"))
	for _, id := range []string{lost.ID, ended.ID} {
		if _, err := s.Store.Update(s.ctx, id, func(j domain.Job) (domain.Job, error) { return j.Claim(s.clock.Now(), "lost", "w") }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Store.Update(s.ctx, ended.ID, func(j domain.Job) (domain.Job, error) { return j.Cancel(s.clock.Now(), domain.ReasonCancelled) }); err != nil {
		t.Fatal(err)
	}
	now := s.clock.Advance(time.Hour)
	taken, err := s.Store.Take(s.ctx, 10, func(job domain.Job, at time.Time) domain.Job {
		if !at.Equal(now) {
			t.Errorf("the step is told that it is %v, want the store's time %v", at, now)
		}
		return claiming(job, at)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]domain.Status{queued.ID: domain.Running, lost.ID: domain.Running, ended.ID: domain.Cancelled}
	for _, job := range taken {
		if job.Status != want[job.ID] || job.Status == domain.Running && (job.Lease.Token == "lost" || !job.Lease.Until.Equal(now.Add(job.LeaseTerm()))) {
			t.Errorf("job %s was taken as %s with the lease %+v, want it %s by the step", job.Name, job.Status, job.Lease, want[job.ID])
		}
		delete(want, job.ID)
		s.wantStored(t, job)
	}
	if len(want) > 0 {
		t.Errorf("not taken: %v", want)
	}
	if got := s.takeIDs(t, 10); len(got) != 0 {
		t.Errorf("the next Take = %v, want nothing: all are leased or have ended", got)
	}
	s.clock.Advance(queued.LeaseTerm())
	got, want2 := s.takeIDs(t, 10), []string{queued.ID, lost.ID}
	slices.Sort(got)
	slices.Sort(want2)
	if !slices.Equal(got, want2) {
		t.Errorf("Take after the leases = %v, want %v", got, want2)
	}
}

func (s *storeSuite) takeStillDue(t *testing.T) {
	job := s.create(t, NewJob(t, s.clock.Now(), alice, "due"))
	for i := range 3 {
		taken, err := s.Store.Take(s.ctx, 10, func(job domain.Job, _ time.Time) domain.Job {
			job.Dispatches++
			return job
		})
		if err != nil || len(taken) != 1 || taken[0].ID != job.ID || taken[0].Dispatches != i+1 {
			t.Fatalf("Take %d = %+v, %v, want the job each time", i, taken, err)
		}
	}
}

func (s *storeSuite) takePanic(t *testing.T) {
	broken := s.create(t, NewJob(t, s.clock.Now(), alice, "broken"))
	s.clock.Advance(time.Millisecond)
	var want []string
	for range 3 {
		want = append(want, s.create(t, NewJob(t, s.clock.Now(), alice, "due")).ID)
		s.clock.Advance(time.Millisecond)
	}
	var got []string
	for range 10 {
		taken, err := s.Store.Take(s.ctx, 1, func(job domain.Job, now time.Time) domain.Job {
			if job.ID == broken.ID {
				panic("a bug in a step")
			}
			return job.Taken(now)
		})
		if err != nil && domain.KindOf(err) != domain.Internal {
			t.Fatal(err)
		}
		got = append(got, ids(taken)...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("taken %v, want the others %v", got, want)
	}
	stored, err := s.Store.Get(s.ctx, broken.ID)
	if err != nil || stored.Status != domain.Queued || stored.Dispatches != 0 {
		t.Errorf("the job is %s after %d dispatches, %v; want it as it was", stored.Status, stored.Dispatches, err)
	}
}

func (s *storeSuite) takeAtOnce(t *testing.T, step ports.Step) {
	const jobs = 40
	for range jobs {
		s.create(t, NewJob(t, s.clock.Now(), alice, "due"))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for s.ctx.Err() == nil {
				taken, err := s.Store.Take(s.ctx, 7, step)
				if err != nil {
					t.Errorf("Take: %v", err)
					return
				}
				mu.Lock()
				for _, job := range taken {
					seen[job.ID]++
				}
				all := len(seen) == jobs
				mu.Unlock()
				if all {
					return
				}
			}
		})
	}
	wg.Wait()
	if len(seen) != jobs {
		t.Errorf("%d of %d jobs were taken", len(seen), jobs)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("job %s was taken %d times", id, n)
		}
	}
}

func (s *storeSuite) cancelled(t *testing.T) {
	job := s.create(t, NewJob(t, s.clock.Now(), alice, "a"))
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, _, createErr := s.Store.Create(ctx, NewJob(t, s.clock.Now(), alice, "b"))
	_, getErr := s.Store.Get(ctx, job.ID)
	_, updateErr := s.Store.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) { return j, nil })
	_, listErr := s.Store.List(ctx, ports.JobQuery{Limit: 1})
	_, takeErr := s.Store.Take(ctx, 1, domain.Job.Taken)
	for method, err := range map[string]error{"Create": createErr, "Get": getErr, "Update": updateErr, "List": listErr, "Take": takeErr} {
		if domain.KindOf(err) != domain.Unavailable || !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context = %v, want Unavailable wrapping context.Canceled", method, err)
		}
	}
}

// list returns the ids of all pages.
func (s *storeSuite) list(t *testing.T, query ports.JobQuery) []string {
	t.Helper()
	var all []string
	for range 100 {
		page, err := s.Store.List(s.ctx, query)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ids(page.Jobs)...)
		if page.Next.IsZero() {
			return all
		}
		query.After = page.Next
	}
	t.Fatal("the list does not end")
	return nil
}

func (s *storeSuite) takeIDs(t *testing.T, limit int) []string {
	t.Helper()
	jobs, err := s.Store.Take(s.ctx, limit, domain.Job.Taken)
	if err != nil {
		t.Fatal(err)
	}
	return ids(jobs)
}

func (s *storeSuite) wantStored(t *testing.T, want domain.Job) {
	t.Helper()
	got, err := s.Store.Get(s.ctx, want.ID)
	if err != nil {
		t.Fatalf("Get(%s): %v", want.ID, err)
	}
	wantSame(t, "the stored job", got, want)
}

func ids(jobs []domain.Job) []string {
	var out []string
	for _, j := range jobs {
		out = append(out, j.ID)
	}
	return out
}

func wantSame(t *testing.T, what string, got, want domain.Job) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(domain.Job{}, "Revision")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func wantKind(t *testing.T, err error, kind domain.Kind) {
	t.Helper()
	if err == nil || domain.KindOf(err) != kind {
		t.Errorf("error %v (%v), want %v", err, domain.KindOf(err), kind)
	}
}
