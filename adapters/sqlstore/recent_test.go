package sqlstore_test

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports/portstest"
)

func TestAnUpdateIsDecidedOnWhatAnotherStoreWrote(t *testing.T) {
	t.Parallel()
	decideAnew(t, "sqlite:"+newPath(t))
}

func decideAnew(t *testing.T, url string) {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	mine, others := openURL(t, url, sqlstore.Options{}), openURL(t, url, sqlstore.Options{})
	claimed := func(j domain.Job) (domain.Job, error) { return j.Claim(now, "mine", "worker") }
	cancelled := func(j domain.Job) (domain.Job, error) { return j.Cancel(now, domain.ReasonCancelled) }

	job := create(t, mine, newJob(t, now))
	claim(t, others, job.ID, now)
	if _, err := mine.Update(ctx, job.ID, claimed); domain.ReasonOf(err) != domain.ReasonLeased {
		t.Errorf("a claim of what another has claimed: %v, want leased", err)
	}

	job = create(t, mine, newJob(t, now))
	if _, err := mine.Update(ctx, job.ID, claimed); err != nil {
		t.Fatal(err)
	}
	if _, err := others.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		return j.Settle(now, "mine", domain.Outcome{Interrupted: true}, 0)
	}); err != nil {
		t.Fatal(err)
	}
	// By what this store wrote last the job is running, and the claim is none.
	again, err := mine.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) { return j.Claim(now, "again", "worker") })
	if err != nil || again.Starts != 2 {
		t.Errorf("a claim of what another has given back: %+v, %v", again, err)
	}
	wantStored(t, mine, again)

	job = create(t, mine, newJob(t, now))
	if _, err := others.Update(ctx, job.ID, cancelled); err != nil {
		t.Fatal(err)
	}
	if _, err := mine.Update(ctx, job.ID, cancelled); domain.ReasonOf(err) != domain.ReasonFinished {
		t.Errorf("a cancel of what another has cancelled: %v, want finished", err)
	}
	if err := others.Exec(ctx, "DELETE FROM jobs WHERE id = $1", again.ID); err != nil {
		t.Fatal(err)
	}
	_, err = mine.Update(ctx, again.ID, cancelled)
	wantKind(t, err, domain.NotFound)
}

func TestATakeGoesByWhatAnotherStoreWrote(t *testing.T) {
	t.Parallel()
	takeAnew(t, "sqlite:"+newPath(t))
}

func takeAnew(t *testing.T, url string) {
	t.Helper()
	clock := portstest.NewClock()
	mine, others := openURL(t, url, sqlstore.Options{Now: clock.Now}), openURL(t, url, sqlstore.Options{Now: clock.Now})
	job := create(t, mine, newJob(t, clock.Now()))
	running := claim(t, others, job.ID, clock.Now())
	clock.Advance(running.LeaseTerm())
	taken, err := mine.Take(t.Context(), 1, domain.Job.Taken)
	if err != nil || len(taken) != 1 || taken[0].Status != domain.Running || taken[0].Starts != 1 {
		t.Errorf("Take = %+v, %v; want the job as the other store left it", taken, err)
	}
}

func TestAnUpdateTellsAJobFromItsSuccessor(t *testing.T) {
	t.Parallel()
	tellSuccessor(t, "sqlite:"+newPath(t))
}

// tellSuccessor has a job replaced by another of the same id and revision.
func tellSuccessor(t *testing.T, url string) {
	t.Helper()
	ctx, clock := t.Context(), portstest.NewClock()
	mine, others := openURL(t, url, sqlstore.Options{Now: clock.Now}), openURL(t, url, sqlstore.Options{Now: clock.Now})
	job := create(t, mine, newJob(t, clock.Now()))
	if _, err := others.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		return j.Cancel(clock.Now(), domain.ReasonCancelled)
	}); err != nil {
		t.Fatal(err)
	}
	next := newJob(t, clock.Advance(domain.DefaultRetention.Finished))
	next.ID, next.Payload, next.Name = job.ID, []byte(`"next"`), "next"
	next = create(t, others, next)
	if next.Revision != job.Revision {
		t.Fatalf("the successor has revision %d, and not %d", next.Revision, job.Revision)
	}
	updated, err := mine.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		j.Starts++
		return j, nil
	})
	if err != nil || updated.Name != next.Name || !bytes.Equal(updated.Payload, next.Payload) {
		t.Errorf("Update = %+v, %v; want the successor", updated, err)
	}
	wantStored(t, mine, updated)
}

func TestAnUpdateForgetsWhatWasRolledBack(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), newPath(t)
	store, others := open(t, path, sqlstore.Options{}), open(t, path, sqlstore.Options{})
	job, large := create(t, store, newJob(t, time.Now())), newJob(t, time.Now())
	large.Payload = make([]byte, domain.MaxPayload)
	if err := store.Exec(ctx, "PRAGMA max_page_count = 50"); err != nil { // 200 KiB
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	begun, end := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		_, err := store.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
			close(begun)
			<-end
			j.Starts = 99
			return j, nil
		})
		wantKind(t, err, domain.Unavailable)
	})
	<-begun
	wg.Go(func() {
		_, _, err := store.Create(ctx, large)
		wantKind(t, err, domain.Unavailable)
	})
	waitFor(t, "what does not fit waits", func() bool { return store.Waiting() == 1 })
	close(end)
	wg.Wait()
	wantStored(t, store, job)
	// Another write makes the revision that was undone.
	if _, err := others.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		j.Attempts = 7
		return j, nil
	}); err != nil {
		t.Fatal(err)
	}
	updated, err := store.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) { return j, nil })
	if err != nil || updated.Starts != 0 || updated.Attempts != 7 {
		t.Errorf("Update = %+v, %v; want it to know nothing of the step that was undone", updated, err)
	}
}

func TestTheJobsOfCallersAreTheirOwn(t *testing.T) {
	t.Parallel()
	ownJobs(t, "sqlite:"+newPath(t))
}

func ownJobs(t *testing.T, url string) {
	t.Helper()
	ctx, store, now := t.Context(), openURL(t, url, sqlstore.Options{}), time.Now()
	job := newJob(t, now)
	job.Payload = []byte(`"as it was sent"`)
	spoil := func(j domain.Job) {
		clear(j.Payload)
		clear(j.Output)
		clear(j.History)
	}
	var want domain.Job
	check := func(what string, j domain.Job, err error) {
		t.Helper()
		if err != nil || string(j.Payload) != `"as it was sent"` {
			t.Fatalf("%s = %+v, %v", what, j, err)
		}
		want = j
		want.Payload, want.Output, want.History = slices.Clone(j.Payload), slices.Clone(j.Output), slices.Clone(j.History)
		spoil(j)
		wantStored(t, store, want)
	}
	created, _, err := store.Create(ctx, job)
	check("Create", created, err)
	taken, err := store.Take(ctx, 1, func(j domain.Job, now time.Time) domain.Job {
		j, err := j.Claim(now, "token", "worker")
		if err != nil {
			t.Error(err)
		}
		return j
	})
	if len(taken) != 1 {
		t.Fatalf("Take = %v, %v", taken, err)
	}
	check("Take", taken[0], err)
	if len(want.History) != 1 || want.History[0].Worker != "worker" {
		t.Errorf("the history is %+v", want.History)
	}
	reported, err := store.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		return j.Report(now, "token", domain.Progress{Percent: 50})
	})
	check("Update", reported, err)
	refusal := errors.New("no")
	if _, err := store.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		spoil(j)
		return j, refusal
	}); !errors.Is(err, refusal) {
		t.Errorf("Update = %v, want the refusal", err)
	}
	settled, err := store.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		return j.Settle(now, "token", domain.Outcome{Output: []byte(`1`)}, 0)
	})
	check("the last Update", settled, err)
}

func TestMoreJobsThanAreAtHandAreUpdated(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), open(t, newPath(t), sqlstore.Options{})
	var jobs []domain.Job
	var mu sync.Mutex
	var wg sync.WaitGroup
	each := func(do func(i int)) {
		const at = 16
		for first := range at {
			wg.Go(func() {
				for i := first; i < sqlstore.MaxRecent+100; i += at {
					do(i)
				}
			})
		}
		wg.Wait()
	}
	each(func(int) {
		job := newJob(t, time.Now())
		job, _, err := store.Create(ctx, job)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		jobs = append(jobs, job)
	})
	each(func(i int) {
		job, err := store.Update(ctx, jobs[i].ID, func(j domain.Job) (domain.Job, error) {
			j.Starts++
			return j, nil
		})
		if err != nil || job.Revision != 2 || job.Starts != 1 {
			t.Errorf("Update = %+v, %v", job, err)
		}
	})
}
