package ports

import (
	"context"
	"time"

	"github.com/jobgate/jobgate/domain"
)

// JobStore keeps jobs. It is the record of what was accepted and what it came to: when a method that writes returns
// nil, the write survives the death of every process.
type JobStore interface {
	// Create stores a new job and returns it with created true; when a job with its id is stored already and has not
	// expired, that job is returned, unchanged, with created false. An expired one is replaced.
	//
	// Errors: TooLarge when the store cannot hold the job; Throttled; Unavailable, which leaves it open whether the job
	// is stored.
	Create(ctx context.Context, job domain.Job) (stored domain.Job, created bool, err error)

	// Get returns the job, as of the last write that finished before the call. NotFound when there is none or it has
	// expired.
	Get(ctx context.Context, id string) (domain.Job, error)

	// Update replaces the job by what decide makes of it, in one atomic step, and returns it as stored. decide is a
	// pure function: it may be called several times, and an error of its own ends the update, unchanged, as that very
	// error. No two updates of one job overwrite each other. NotFound when there is none or it has expired.
	Update(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error)

	// List returns one page of jobs, newest first by (CreatedAt, ID). Expired jobs are absent.
	List(ctx context.Context, query JobQuery) (JobPage, error)
}

// JobQuery selects jobs. Zero members select everything.
type JobQuery struct {
	Owner  *domain.Identity // nil: every owner
	Status domain.Status
	Name   string
	Limit  int       // jobs per page, 1 to 100
	After  JobCursor // the page's jobs come after this position
}

// JobCursor is a position in a list: of the last job seen. The zero JobCursor is the beginning.
type JobCursor struct {
	CreatedAt time.Time
	ID        string
}

// IsZero reports whether c is the beginning.
func (c JobCursor) IsZero() bool { return c.ID == "" }

// JobPage is one page of a list.
type JobPage struct {
	Jobs []domain.Job
	Next JobCursor // where the next page begins; zero when this was the last. A page may be empty and have a next one
}
