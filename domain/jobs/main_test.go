package jobs_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	alice = domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"}
	bob   = domain.Identity{Issuer: "https://issuer.example/", Subject: "bob"}
)

var retryPolicy = domain.RetryPolicy{Attempts: 3, Base: 10 * time.Second, Max: time.Minute, Timeout: 20 * time.Second}

// user may do everything to jobs of their own.
func user(who domain.Identity) domain.Principal {
	return domain.Principal{Identity: who, TokenID: "token-1", Scopes: []string{"jobs:submit", "jobs:read", "jobs:cancel", "jobs:redrive"}}
}

func withScopes(who domain.Identity, scopes ...string) domain.Principal {
	return domain.Principal{Identity: who, Scopes: scopes}
}

// counter returns ids that grow, each in the one valid form.
func counter() func() string {
	var mu sync.Mutex
	n := 0
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return fmt.Sprintf("00000000-0000-7000-8000-%012d", n)
	}
}

// stubStore is the memory store, but for the calls that a test takes over.
type stubStore struct {
	*memory.Store
	create func(context.Context, domain.Job) (domain.Job, bool, error)
	get    func(context.Context, string) (domain.Job, error)
	update func(context.Context, string, func(domain.Job) (domain.Job, error)) (domain.Job, error)
	list   func(context.Context, ports.JobQuery) (ports.JobPage, error)
	take   func(context.Context, int, ports.Step) ([]domain.Job, error)
	expire func(context.Context, int) (int, error)
}

func newStubStore(now func() time.Time) *stubStore { return &stubStore{Store: memory.NewStore(now)} }

func (s *stubStore) Create(ctx context.Context, job domain.Job) (domain.Job, bool, error) {
	if s.create != nil {
		return s.create(ctx, job)
	}
	return s.Store.Create(ctx, job)
}

func (s *stubStore) Get(ctx context.Context, id string) (domain.Job, error) {
	if s.get != nil {
		return s.get(ctx, id)
	}
	return s.Store.Get(ctx, id)
}

func (s *stubStore) Update(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
	if s.update != nil {
		return s.update(ctx, id, decide)
	}
	return s.Store.Update(ctx, id, decide)
}

func (s *stubStore) List(ctx context.Context, query ports.JobQuery) (ports.JobPage, error) {
	if s.list != nil {
		return s.list(ctx, query)
	}
	return s.Store.List(ctx, query)
}

func (s *stubStore) Take(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
	if s.take != nil {
		return s.take(ctx, limit, step)
	}
	return s.Store.Take(ctx, limit, step)
}

func (s *stubStore) Expire(ctx context.Context, limit int) (int, error) {
	if s.expire != nil {
		return s.expire(ctx, limit)
	}
	return s.Store.Expire(ctx, limit)
}

// stored returns the job as the store has it.
func (s *stubStore) stored(t *testing.T, id string) domain.Job {
	t.Helper()
	job, err := s.Store.Get(context.WithoutCancel(t.Context()), id)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// put stores a queued job, made at now, that change alters.
func (s *stubStore) put(t *testing.T, now time.Time, id string, change func(*domain.Job)) domain.Job {
	t.Helper()
	job, err := domain.NewJob(domain.JobSpec{
		ID: id, Name: "report.daily", Payload: []byte(`{"n":1}`), Owner: alice, Retry: retryPolicy, Retention: domain.DefaultRetention,
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&job)
	}
	job, created, err := s.Store.Create(t.Context(), job)
	if err != nil || !created {
		t.Fatalf("created %t, %v", created, err)
	}
	return job
}

// all returns every job in the store, newest first.
func (s *stubStore) all(t *testing.T) []domain.Job {
	t.Helper()
	page, err := s.Store.List(t.Context(), ports.JobQuery{Limit: 100})
	if err != nil || !page.Next.IsZero() {
		t.Fatalf("more jobs than a page holds, or %v", err)
	}
	return page.Jobs
}

// stubBroker remembers what was dispatched and confirms it, unless a test takes that over.
type stubBroker struct {
	fits     func(domain.Job) error
	dispatch func(context.Context, domain.Job) error

	mu   sync.Mutex
	sent []domain.Job
}

func (b *stubBroker) Fits(job domain.Job) error {
	if b.fits != nil {
		return b.fits(job)
	}
	return nil
}

func (b *stubBroker) Dispatch(ctx context.Context, job domain.Job) error {
	b.mu.Lock()
	b.sent = append(b.sent, job)
	b.mu.Unlock()
	if b.dispatch != nil {
		return b.dispatch(ctx, job)
	}
	return nil
}

func (b *stubBroker) dispatched() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []string
	for _, job := range b.sent {
		ids = append(ids, job.ID)
	}
	return ids
}

func unavailable() error {
	return domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "no answer")
}

func wantError(t *testing.T, err error, kind domain.Kind, reason domain.Reason) {
	t.Helper()
	if err == nil || domain.KindOf(err) != kind || domain.ReasonOf(err) != reason {
		t.Errorf("error %v (%v, %s), want %v, %s", err, domain.KindOf(err), domain.ReasonOf(err), kind, reason)
	}
}
