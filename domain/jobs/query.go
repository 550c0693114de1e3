package jobs

import (
	"context"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Bounds of a listing.
const (
	DefaultPage = 20
	MaxPage     = 100
	maxExamined = 1000 // jobs looked at for one page, so that a rare filter costs no more than this
)

// Query shows jobs to those who may read them.
type Query struct {
	Store  ports.JobStore
	Policy domain.AccessPolicy
	Now    func() time.Time
}

// Get returns a job. NotFound when there is none, or it is another's and the caller may not read those: the two look
// alike.
func (q *Query) Get(ctx context.Context, who domain.Principal, id string) (domain.Job, error) {
	if err := may(q.Policy, who, domain.ActionRead, q.Now()); err != nil {
		return domain.Job{}, err
	}
	return reach(ctx, q.Store, q.Policy, who, domain.ActionRead, id)
}

// reach returns the job if the caller may take the action on it.
func reach(ctx context.Context, store ports.JobStore, policy domain.AccessPolicy, who domain.Principal, action domain.Action, id string) (domain.Job, error) {
	if !domain.ValidID(id) {
		return domain.Job{}, notFound()
	}
	job, err := store.Get(ctx, id)
	if err != nil {
		if domain.KindOf(err) == domain.NotFound {
			err = notFound()
		}
		return domain.Job{}, err
	}
	if err := decide(policy, who, action, job); err != nil {
		return domain.Job{}, err
	}
	return job, nil
}

// decide answers NotFound where a refusal would tell that another's job exists.
func decide(policy domain.AccessPolicy, who domain.Principal, action domain.Action, job domain.Job) error {
	err := policy.Decide(who, action, job.Name, job.Owner).Err()
	if err != nil && job.Owner != who.Identity && !policy.Decide(who, domain.ActionRead, job.Name, job.Owner).Allowed {
		return notFound()
	}
	return err
}

func notFound() error {
	return domain.Errorf(domain.NotFound, domain.ReasonNotFound, "there is no such job")
}

// A Filter selects the jobs of a listing. Zero members select everything.
type Filter struct {
	Status domain.Status
	Name   string
	Limit  int // 1 to MaxPage; 0 is DefaultPage
	After  ports.JobCursor
}

// List returns one page, newest first, of the jobs that the caller may read: their own, and everybody's where a rule
// says so. A page may have fewer jobs than asked for and a next one all the same.
func (q *Query) List(ctx context.Context, who domain.Principal, f Filter) (ports.JobPage, error) {
	if err := may(q.Policy, who, domain.ActionRead, q.Now()); err != nil {
		return ports.JobPage{}, err
	}
	limit := f.Limit
	if limit == 0 {
		limit = DefaultPage
	}
	query := ports.JobQuery{Status: f.Status, Name: f.Name, Limit: limit, After: f.After}
	if !q.Policy.SeesAll(who) {
		query.Owner = &who.Identity
	}
	var out ports.JobPage
	for examined := 0; examined < maxExamined; {
		page, err := q.Store.List(ctx, query)
		if err != nil {
			return ports.JobPage{}, err
		}
		for i, job := range page.Jobs {
			if !q.Policy.Decide(who, domain.ActionRead, job.Name, job.Owner).Allowed {
				continue
			}
			if out.Jobs = append(out.Jobs, job); len(out.Jobs) < limit {
				continue
			}
			if out.Next = page.Next; i < len(page.Jobs)-1 {
				out.Next = ports.JobCursor{CreatedAt: job.CreatedAt, ID: job.ID}
			}
			return out, nil
		}
		out.Next = page.Next
		if page.Next.IsZero() || len(page.Jobs) < query.Limit { // the last page, or one that the store itself has cut short
			return out, nil
		}
		// What the caller may not read is rare or all there is: look at more at once.
		examined += len(page.Jobs)
		query.After, query.Limit = page.Next, min(MaxPage, maxExamined-examined)
	}
	return out, nil
}
