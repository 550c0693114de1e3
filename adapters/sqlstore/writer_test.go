package sqlstore_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
)

// hold keeps the writer busy until release is called. The write that does it belongs to the transaction of those that
// wait behind it.
func hold(t *testing.T, store *sqlstore.Store) (release func()) {
	t.Helper()
	job := create(t, store, newJob(t, time.Now()))
	begun, end, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := store.Update(context.Background(), job.ID, func(j domain.Job) (domain.Job, error) {
			close(begun)
			<-end
			return j, nil
		})
		done <- err
	}()
	<-begun
	return sync.OnceFunc(func() {
		close(end)
		if err := <-done; err != nil {
			t.Errorf("the write that held the writer: %v", err)
		}
	})
}

// waitFor waits for a condition that is about to hold.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

func TestConcurrentWritesShareACommit(t *testing.T) {
	t.Parallel()
	store := open(t, newPath(t), sqlstore.Options{})
	release := hold(t, store)
	defer release()
	before := store.Commits()
	const n = sqlstore.MaxGroup - 1
	var wg sync.WaitGroup
	for range n {
		job := newJob(t, time.Now())
		wg.Go(func() {
			stored, created, err := store.Create(context.Background(), job)
			if err != nil || !created {
				t.Errorf("Create: created %v, error %v", created, err)
				return
			}
			wantStored(t, store, stored)
		})
	}
	waitFor(t, "all writes wait", func() bool { return store.Waiting() == n })
	release()
	wg.Wait()
	if got := store.Commits() - before; got != 1 {
		t.Errorf("%d writes took %d commits, want 1", n+1, got)
	}
}

func TestTheWriterWaitsForCallersThatComeBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		callers, coming int
		patience        time.Duration
		want            int
	}{
		{"all come", 9, 8, time.Hour, 8},
		{"nobody comes", 9, 0, time.Microsecond, 0},
		{"a caller who is alone", 1, 0, time.Hour, 0},
		{"the first of all", 0, 0, time.Hour, 0},
	} {
		if got := sqlstore.Gather(tt.callers, tt.coming, tt.patience); got != tt.want {
			t.Errorf("%s: %d are there, want %d", tt.name, got, tt.want)
		}
	}
}

func TestTheWriterForgetsCallersThatStayAway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		groups []int
		want   int
	}{
		{[]int{1, 1, 1}, 1},
		{[]int{8, 3}, 7},
		{append([]int{8}, slices.Repeat([]int{1}, 8)...), 1},
		{append([]int{sqlstore.MaxGroup}, slices.Repeat([]int{1}, 40)...), 1},
		{[]int{3, 20}, 20},
		{[]int{2 * sqlstore.MaxGroup}, sqlstore.MaxGroup}, // more than that share no commit
	} {
		if got := sqlstore.Callers(tt.groups...); got != tt.want {
			t.Errorf("after groups of %d the writer expects %d callers, want %d", tt.groups, got, tt.want)
		}
	}
}

func TestAWriteThatFailsFailsAlone(t *testing.T) {
	t.Parallel()
	store, ctx := open(t, newPath(t), sqlstore.Options{}), context.Background()
	old := create(t, store, newJob(t, time.Now()))
	refusal := errors.New("no")
	update := func(id string, decide func(domain.Job) (domain.Job, error)) func() error {
		return func() error {
			_, err := store.Update(ctx, id, decide)
			return err
		}
	}
	first, last := newJob(t, time.Now()), newJob(t, time.Now())
	abandoned, abandon := context.WithCancel(ctx)
	steps := []struct {
		name string
		do   func() error
		want func(error) bool
	}{
		{"the first create", func() error { _, _, err := store.Create(ctx, first); return err }, func(err error) bool { return err == nil }},
		{"a create of a stored job", func() error {
			stored, created, err := store.Create(ctx, old)
			if created || stored.ID != old.ID {
				t.Errorf("Create again = %+v, %v", stored, created)
			}
			return err
		}, func(err error) bool { return err == nil }},
		{"a decide that refuses", update(old.ID, func(j domain.Job) (domain.Job, error) {
			j.Starts = 99
			return j, refusal
		}), func(err error) bool { return err == refusal }}, //nolint:errorlint // the very error is the contract
		{"a decide that panics", update(old.ID, func(domain.Job) (domain.Job, error) { panic("a bug") }), func(err error) bool {
			return domain.KindOf(err) == domain.Internal
		}},
		{"an update of no job", update(uuid.NewString(), func(j domain.Job) (domain.Job, error) { return j, nil }), func(err error) bool {
			return domain.KindOf(err) == domain.NotFound
		}},
		{"a write whose caller has left", func() error {
			_, _, err := store.Create(abandoned, newJob(t, time.Now()))
			return err
		}, func(err error) bool {
			return domain.KindOf(err) == domain.Unavailable && errors.Is(err, context.Canceled)
		}},
		{"the last create", func() error { _, _, err := store.Create(ctx, last); return err }, func(err error) bool { return err == nil }},
	}
	release := hold(t, store)
	defer release()
	before := store.Commits()
	var wg sync.WaitGroup
	left := make(chan struct{})
	for i, step := range steps {
		wg.Go(func() {
			if err := step.do(); !step.want(err) {
				t.Errorf("%s: %v", step.name, err)
			}
			if step.name == "a write whose caller has left" {
				close(left)
			}
		})
		waitFor(t, step.name+" waits", func() bool { return store.Waiting() == i+1 })
	}
	abandon()
	<-left // at once, while the writer is busy
	release()
	wg.Wait()
	if got := store.Commits() - before; got != 1 {
		t.Errorf("the writes took %d commits, want 1: they were to be neighbours", got)
	}
	wantStored(t, store, old)
	for _, job := range []domain.Job{first, last} {
		if _, err := store.Get(ctx, job.ID); err != nil {
			t.Errorf("a neighbour is not stored: %v", err)
		}
	}
}

func TestAWriteThatHasBegunIsAnswered(t *testing.T) {
	t.Parallel()
	store := open(t, newPath(t), sqlstore.Options{})
	job := create(t, store, newJob(t, time.Now()))
	ctx, cancel := context.WithCancel(context.Background())
	updated, err := store.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		cancel()
		j.Starts++
		return j, nil
	})
	if err != nil {
		t.Fatalf("Update = %v; its write had begun when its context ended", err)
	}
	wantStored(t, store, updated)
}

func TestUpdateKeepsWhatTheSubmissionFixed(t *testing.T) {
	t.Parallel()
	store, ctx := open(t, newPath(t), sqlstore.Options{}), context.Background()
	job := create(t, store, newJob(t, time.Now()))
	updated, err := store.Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
		j.ID, j.Name, j.Payload, j.Revision = uuid.NewString(), "other", nil, 77
		return j, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	job.Revision++
	wantStored(t, store, job)
	wantStored(t, store, updated)
}

func TestCloseFinishesWhatWaits(t *testing.T) {
	t.Parallel()
	path, ctx := newPath(t), context.Background()
	store := open(t, path, sqlstore.Options{})
	release := hold(t, store)
	const n = 20
	var wg sync.WaitGroup
	var ids []string
	for range n {
		job := newJob(t, time.Now())
		ids = append(ids, job.ID)
		wg.Go(func() {
			if _, _, err := store.Create(ctx, job); err != nil {
				t.Errorf("Create: %v", err)
			}
		})
	}
	waitFor(t, "all writes wait", func() bool { return store.Waiting() == n })
	closed := make(chan error, 1)
	go func() { closed <- store.Close() }()
	waitFor(t, "the store refuses", func() bool {
		_, err := store.Get(ctx, "none")
		return domain.KindOf(err) == domain.Unavailable
	})
	release()
	wg.Wait()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	_, _, err := store.Create(ctx, newJob(t, time.Now()))
	wantKind(t, err, domain.Unavailable)
	_, err = store.Get(ctx, ids[0])
	wantKind(t, err, domain.Unavailable)
	wantKind(t, store.Ready(ctx), domain.Unavailable)

	store = open(t, path, sqlstore.Options{})
	for _, id := range ids {
		if _, err := store.Get(ctx, id); err != nil {
			t.Errorf("Get after Close and Open: %v", err)
		}
	}
}
