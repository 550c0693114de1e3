package ports

import (
	"context"

	"github.com/jobgate/jobgate/domain"
)

// JobSchedule is the clock of a store: it knows which jobs have to be looked at now.
type JobSchedule interface {
	// Take returns at most limit open jobs whose CheckAt has come, longest due first, and moves each by
	// domain.Job.Taken in the same atomic step, so that each is handed to one taker; the jobs are as after it. Queued
	// jobs that are due, jobs that were dispatched and never claimed, and running jobs past their lease come this way.
	// Any number of takers may be at it at once.
	Take(ctx context.Context, limit int) ([]domain.Job, error)

	// Expire removes at most limit records of jobs that have expired and returns how many it removed. A store that
	// removes them by itself returns 0.
	Expire(ctx context.Context, limit int) (int, error)
}
