// Package memory keeps jobs in the memory of the process. It passes every contract suite first and is the fake that
// all other tests use; nothing in it survives the process.
package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Store is a ports.JobStore and ports.JobSchedule. With jobs.NewQueue it is a queue too.
type Store struct {
	now  func() time.Time
	mu   sync.Mutex
	jobs map[string]domain.Job
}

// NewStore returns an empty store that goes by the clock now.
func NewStore(now func() time.Time) *Store {
	return &Store{now: now, jobs: map[string]domain.Job{}}
}

// Create stores a job.
func (s *Store) Create(ctx context.Context, job domain.Job) (domain.Job, bool, error) {
	if err := ctx.Err(); err != nil {
		return domain.Job{}, false, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored, ok := s.lookup(job.ID); ok {
		return clone(stored), false, nil
	}
	job = clone(job)
	job.Revision = 1
	s.jobs[job.ID] = job
	return clone(job), true, nil
}

// Get returns a job.
func (s *Store) Get(ctx context.Context, id string) (domain.Job, error) {
	if err := ctx.Err(); err != nil {
		return domain.Job{}, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	job, ok := s.lookup(id)
	if !ok {
		return domain.Job{}, notFound()
	}
	return clone(job), nil
}

// Update replaces a job by what decide makes of it.
func (s *Store) Update(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
	if err := ctx.Err(); err != nil {
		return domain.Job{}, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	job, ok := s.lookup(id)
	if !ok {
		return domain.Job{}, notFound()
	}
	changed, err := decide(clone(job))
	if err != nil {
		return domain.Job{}, err
	}
	changed.Revision = job.Revision + 1
	s.jobs[id] = clone(changed)
	return changed, nil
}

// List returns one page of jobs, newest first.
func (s *Store) List(ctx context.Context, query ports.JobQuery) (ports.JobPage, error) {
	if err := ctx.Err(); err != nil {
		return ports.JobPage{}, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var page ports.JobPage
	for _, job := range s.jobs {
		if !job.Expired(now) && matches(job, query) {
			page.Jobs = append(page.Jobs, clone(job))
		}
	}
	slices.SortFunc(page.Jobs, func(a, b domain.Job) int { return newestFirst(cursor(a), cursor(b)) })
	if len(page.Jobs) > query.Limit {
		page.Jobs = page.Jobs[:query.Limit]
		page.Next = cursor(page.Jobs[query.Limit-1])
	}
	return page, nil
}

// Take hands out the open jobs whose check has come. One on which step panics stays as it is.
func (s *Store) Take(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var due []domain.Job
	for _, job := range s.jobs {
		if !job.Status.Finished() && !now.Before(job.CheckAt) {
			due = append(due, job)
		}
	}
	slices.SortFunc(due, func(a, b domain.Job) int {
		return cmp.Or(a.CheckAt.Compare(b.CheckAt), cmp.Compare(a.ID, b.ID))
	})
	var taken []domain.Job
	for _, job := range due {
		if len(taken) >= limit {
			break
		}
		if next, ok := moveBy(step, job, now); ok {
			s.jobs[job.ID] = next
			taken = append(taken, clone(next))
		}
	}
	return taken, nil
}

// moveBy returns what step makes of a stored job, to be stored. ok is false when step panics.
func moveBy(step ports.Step, old domain.Job, now time.Time) (next domain.Job, ok bool) {
	defer func() { ok = recover() == nil }()
	next = clone(step(clone(old), now))
	next.Revision = old.Revision + 1
	return next, true
}

// Expire removes records of expired jobs.
func (s *Store) Expire(ctx context.Context, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, removed := s.now(), 0
	for id, job := range s.jobs {
		if removed < limit && job.Expired(now) {
			delete(s.jobs, id)
			removed++
		}
	}
	return removed, nil
}

func (s *Store) lookup(id string) (domain.Job, bool) {
	job, ok := s.jobs[id]
	return job, ok && !job.Expired(s.now())
}

func matches(job domain.Job, query ports.JobQuery) bool {
	return (query.Owner == nil || *query.Owner == job.Owner) &&
		(query.Status == "" || query.Status == job.Status) &&
		(query.Name == "" || query.Name == job.Name) &&
		(query.After.IsZero() || newestFirst(query.After, cursor(job)) < 0)
}

func cursor(job domain.Job) ports.JobCursor {
	return ports.JobCursor{CreatedAt: job.CreatedAt, ID: job.ID}
}

func newestFirst(a, b ports.JobCursor) int {
	return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
}

// clone copies what a caller could change behind the store's back.
func clone(job domain.Job) domain.Job {
	job.Payload = slices.Clone(job.Payload)
	job.Output = slices.Clone(job.Output)
	job.History = slices.Clone(job.History)
	return job
}

func notFound() error {
	return domain.Errorf(domain.NotFound, domain.ReasonNotFound, "there is no such job")
}

func unavailable(err error) error {
	return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the call was cancelled")
}
