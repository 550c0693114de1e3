package jobs

import (
	"context"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Change cancels and redrives jobs.
type Change struct {
	Store        ports.JobStore
	Dispatcher   ports.JobDispatcher
	Policy       domain.AccessPolicy
	Now          func() time.Time
	StoreIsQueue bool // as in Submit
}

// Cancel ends a queued job and asks a running one to stop. Conflict with ReasonFinished when it has ended; NotFound as
// in Query.Get.
func (c *Change) Cancel(ctx context.Context, who domain.Principal, id string) (domain.Job, error) {
	return c.change(ctx, who, domain.ActionCancel, id, func(job domain.Job, now time.Time) (domain.Job, error) {
		return job.Cancel(now, domain.ReasonCancelled)
	})
}

// Redrive puts a dead or cancelled job back into the queue with fresh attempts. Conflict with ReasonNotRedrivable
// otherwise; NotFound as in Query.Get.
func (c *Change) Redrive(ctx context.Context, who domain.Principal, id string) (domain.Job, error) {
	job, err := c.change(ctx, who, domain.ActionRedrive, id, func(job domain.Job, now time.Time) (domain.Job, error) {
		job, err := job.Redrive(now)
		if err == nil && !c.StoreIsQueue {
			job = job.Taken(now)
		}
		return job, err
	})
	if err != nil {
		return domain.Job{}, err
	}
	// The job is queued, whatever the broker says now: the sweep hands it out if this does not.
	_ = c.Dispatcher.Dispatch(ctx, job)
	return job, nil
}

func (c *Change) change(ctx context.Context, who domain.Principal, action domain.Action, id string, step func(domain.Job, time.Time) (domain.Job, error)) (domain.Job, error) {
	if err := may(c.Policy, who, action, c.Now()); err != nil {
		return domain.Job{}, err
	}
	if _, err := reach(ctx, c.Store, c.Policy, who, action, id); err != nil {
		return domain.Job{}, err
	}
	// Name and owner of a job never change, so what was decided about it still holds inside the update.
	return c.Store.Update(ctx, id, func(job domain.Job) (domain.Job, error) { return step(job, c.Now()) })
}
