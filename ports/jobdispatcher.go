package ports

import (
	"context"

	"github.com/jobgate/jobgate/domain"
)

// JobDispatcher hands due jobs to whatever runs them.
type JobDispatcher interface {
	// Fits returns nil when the job's encoded message fits the broker, TooLarge otherwise. It is asked before the job
	// is stored, and does no I/O.
	Fits(job domain.Job) error

	// Dispatch hands one stored job over. It returns nil only once the broker has confirmed the message durably;
	// where the store is the queue the job is durable already and Dispatch is a wake-up. A job may be dispatched any
	// number of times: consumers recognise duplicates by its id.
	//
	// Errors: TooLarge; Throttled; Unavailable when the broker refused, did not answer or did not confirm, which
	// leaves it open whether the message will arrive; Internal for a fault of the settings (no such topic, no
	// permission). Dispatch may retry transient faults, but never past the context's end.
	Dispatch(ctx context.Context, job domain.Job) error
}
