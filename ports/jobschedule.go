package ports

import (
	"context"
	"time"

	"github.com/jobgate/jobgate/domain"
)

// JobSchedule is the clock of a store: it knows which jobs have to be looked at now.
type JobSchedule interface {
	// Take returns at most limit open jobs whose CheckAt has come, longest due first, and moves each by step, at the
	// store's time, in the same atomic step, so that each is handed to one taker; the jobs are as after it and as
	// stored. Queued jobs that are due, jobs that were dispatched and never claimed, and running jobs past their lease
	// come this way. Any number of takers may be at it at once.
	//
	// A job that step leaves open with a CheckAt that has come is due still, and the next Take brings it again. One on
	// which step panics is not handed out, and holds up no other.
	Take(ctx context.Context, limit int, step Step) ([]domain.Job, error)

	// Expire removes at most limit records of jobs that have expired and returns how many it removed. A store that
	// removes them by itself returns 0.
	Expire(ctx context.Context, limit int) (int, error)
}

// Step is what a taker makes of a job as it takes it: domain.Job.Taken, or more. It changes nothing that a submission
// fixed, and waits for nothing. It may be called several times for one job, of which the last counts, for jobs that
// another taker gets in the end, and by several goroutines at once, but not after Take has returned.
type Step func(job domain.Job, now time.Time) domain.Job
