package ports

import (
	"context"

	"github.com/jobgate/jobgate/domain"
)

// JobHandler is a worker's own code: what is done about a job.
type JobHandler interface {
	// Handle does the work and returns its output: JSON of at most domain.MaxOutput bytes, or nil. It is called at
	// least once for each job and must be prepared to be called again for the same one: Run.Attempt tells the calls
	// apart. Its context ends at the run timeout, when the job's cancel is asked for (context.Cause tells), and when
	// the worker has to stop; a handler that returns soon after is settled properly.
	//
	// A nil error is success. An error is retried by the job's policy, unless domain.Permanent marks it; the RetryAfter of
	// a *domain.Error is the least wait, up to the policy's maximum. The job's owner can read the error's text. A panic
	// is an error.
	Handle(ctx context.Context, run Run) (output []byte, err error)
}

// Run is one start of a job's handler.
type Run struct {
	Job domain.Job // as claimed

	// Attempt counts the starts of this job over its whole life, from 1, redrives included. No other start of the job
	// has the same number and a later start a greater one, so that (Job.ID, Attempt) fences effects of the handler.
	Attempt int

	// Progress records how far the run has come, in percent and a line of at most domain.MaxProgress bytes. Conflict
	// with lease_lost tells that the job is no longer this run's.
	Progress func(ctx context.Context, percent int, message string) error
}
