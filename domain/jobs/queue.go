package jobs

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Pauses of a queue after a fault: the first, and what it doubles up to while faults follow one another.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Queue is what a store is without a broker: a ports.JobDispatcher and ports.JobConsumer over its schedule. A stored
// job is as good as dispatched, so Dispatch only wakes an idle consumer; what nobody woke it for it finds by polling.
// Use NewQueue.
type Queue struct {
	// Report is told what no caller learns: a take that failed, a delivery that panicked or was dead-lettered, a job
	// that could not be given back. It is called from several goroutines and must not block. May be nil; set before use.
	Report func(error)

	store       ports.JobStore
	schedule    ports.JobSchedule
	now         func() time.Time
	concurrency int
	poll        time.Duration
	wake        chan struct{}
}

// NewQueue returns the queue that store is. concurrency bounds the deliveries at once; poll is how long a job that
// becomes due, or that another process stores, may wait while nothing else happens.
func NewQueue(store interface {
	ports.JobStore
	ports.JobSchedule
}, now func() time.Time, concurrency int, poll time.Duration,
) *Queue {
	return &Queue{store: store, schedule: store, now: now, concurrency: concurrency, poll: poll, wake: make(chan struct{}, 1)}
}

// Fits returns nil up to domain.MaxPayload.
func (q *Queue) Fits(job domain.Job) error {
	if len(job.Payload) > domain.MaxPayload {
		return domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "the payload has %d bytes, at most %d are accepted", len(job.Payload), domain.MaxPayload)
	}
	return nil
}

// Dispatch wakes an idle consumer of this process.
func (q *Queue) Dispatch(ctx context.Context, _ domain.Job) error {
	if err := ctx.Err(); err != nil {
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the call was cancelled")
	}
	q.Wake()
	return nil
}

// Wake has an idle consumer look at the schedule at once.
func (q *Queue) Wake() {
	select {
	case q.wake <- struct{}{}:
	default: // one signal stands for any number
	}
}

// Consume takes due jobs, no more than it has room for, and delivers them, as ports.JobConsumer says. A job whose
// delivery comes to nothing, because its process dies or it panics, comes again at its next check.
func (q *Queue) Consume(ctx context.Context, deliver ports.Deliver) error {
	var (
		running  = map[string]*domain.Job{} // by id: the job as it was taken again meanwhile, nil if it was not
		finished = make(chan delivered, q.concurrency)
		look     = true // there may be something to take
		paused   bool
		faults   pauses // of taking
		requests pauses // by deliveries
		timer    = time.NewTimer(q.poll)
	)
	defer timer.Stop()
	start := func(job domain.Job) {
		running[job.ID] = nil
		go func() { finished <- delivered{job.ID, q.deliver(context.WithoutCancel(ctx), job, deliver)} }()
	}
	for ctx.Err() == nil {
		if room := q.concurrency - len(running); look && !paused && room > 0 {
			taken, err := q.take(ctx, room)
			switch {
			case ctx.Err() != nil:
				q.giveBack(ctx, 0, taken...)
				continue
			case err != nil:
				q.report(err)
				paused = true
				timer.Reset(faults.next())
			default:
				faults, look = 0, len(taken) == room
				timer.Reset(q.poll)
			}
			for _, job := range taken {
				// One that runs here is not begun beside itself: it was given back just now, or its lease ran out while the
				// machine slept. It is looked at again when its delivery has ended.
				if _, here := running[job.ID]; here {
					running[job.ID] = &job
					continue
				}
				start(job)
			}
		}
		wake := q.wake
		if paused || len(running) == q.concurrency {
			wake = nil // left for when there is room, or for another consumer
		}
		select {
		case <-ctx.Done():
		case <-wake:
			look = true
		case <-timer.C:
			look, paused = true, false
		case d := <-finished:
			again := running[d.job]
			delete(running, d.job)
			if again != nil {
				start(*again)
			}
			switch {
			case !d.Pause:
				requests = 0
			case !paused: // once for all that fail together
				paused = true
				timer.Reset(requests.next())
			}
		}
	}
	for range len(running) {
		if again := running[(<-finished).job]; again != nil {
			q.giveBack(ctx, 0, *again)
		}
	}
	return nil
}

// delivered is a delivery that has ended.
type delivered struct {
	job string
	domain.Disposition
}

func (q *Queue) take(ctx context.Context, room int) ([]domain.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return q.schedule.Take(ctx, room)
}

// pauses counts the pauses that followed one another.
type pauses int

func (p *pauses) next() time.Duration {
	wait := min(firstPause<<min(*p, 10), lastPause)
	*p++
	return wait
}

// deliver has one job delivered and gives it back if it was not begun. The store knows what became of one that was.
func (q *Queue) deliver(ctx context.Context, job domain.Job, deliver ports.Deliver) (d domain.Disposition) {
	defer func() {
		if p := recover(); p != nil {
			q.report(fmt.Errorf("the delivery of job %s panicked: %v\n%s", job.ID, p, debug.Stack()))
			d = domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonInternal}
		}
	}()
	d = deliver(ctx, domain.Delivery{MessageID: job.ID + "/" + strconv.Itoa(job.Dispatches), JobID: job.ID})
	switch d.Verdict {
	case domain.Ack: // the record says the rest
	case domain.DeadLetter: // there is no message to set apart; the job stays where it is, to be found there
		q.report(domain.Errorf(domain.Internal, d.Reason, "the delivery of job %s was dead-lettered: %s", job.ID, d.Reason))
	default:
		q.giveBack(ctx, d.After, job)
	}
	return d
}

// giveBack has jobs that were taken looked at again after the wait, as if they had not been taken. Where it fails the
// next check brings them.
func (q *Queue) giveBack(ctx context.Context, after time.Duration, taken ...domain.Job) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	for _, job := range taken {
		_, err := q.store.Update(ctx, job.ID, func(stored domain.Job) (domain.Job, error) {
			return stored.Released(q.now(), after), nil
		})
		if err != nil && domain.KindOf(err) != domain.NotFound {
			q.report(err)
		}
	}
	if after <= 0 {
		q.Wake()
	}
}

func (q *Queue) report(err error) {
	if q.Report != nil {
		q.Report(err)
	}
}
