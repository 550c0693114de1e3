package jobs

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
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

	// Claim is Worker.Claim of the worker that Consume delivers to, where it goes by the same store: jobs are then claimed
	// as they are taken, in one write instead of two. nil where whoever gets the deliveries claims for itself. Set before
	// use.
	Claim func(job domain.Job, now time.Time) (domain.Job, error)

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
		running  = map[string]*domain.Delivery{} // by id: the job as it was taken again meanwhile, nil if it was not
		finished = make(chan delivered, q.concurrency)
		look     = true // there may be something to take
		paused   bool
		faults   pauses // of taking
		requests pauses // by deliveries
		timer    = time.NewTimer(q.poll)
	)
	defer timer.Stop()
	start := func(d domain.Delivery) {
		running[d.JobID] = nil
		go func() { finished <- delivered{d.JobID, q.deliver(context.WithoutCancel(ctx), d, deliver)} }()
	}
	end := func(d delivered) {
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
	for ctx.Err() == nil {
		if room := q.concurrency - len(running); look && !paused && room > 0 {
			taken, err := q.take(ctx, room, running)
			switch {
			case ctx.Err() != nil:
				for _, d := range q.giveBack(ctx, taken...) {
					start(d)
				}
				continue
			case err != nil:
				q.report(err)
				paused = true
				timer.Reset(faults.next())
			default:
				faults, look = 0, len(taken) == room
				timer.Reset(q.poll)
			}
			for _, d := range taken {
				// One that runs here is not begun beside itself: it was given back just now, or its lease ran out while the
				// machine slept. It is looked at again when its delivery has ended.
				if _, here := running[d.JobID]; here {
					running[d.JobID] = &d
					continue
				}
				start(d)
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
			end(d)
			for range len(finished) { // one take has room for all that ended together
				end(<-finished)
			}
		}
	}
	for range len(running) {
		if again := running[(<-finished).job]; again != nil {
			q.giveBack(ctx, *again)
		}
	}
	return nil
}

// delivered is a delivery that has ended.
type delivered struct {
	job string
	domain.Disposition
}

// take takes what is due, and claims it where the queue does. It does not claim what runs here: the lease that ran out is
// that run's own, by which it still settles, and a claim would be taken from it.
func (q *Queue) take(ctx context.Context, room int, running map[string]*domain.Delivery) ([]domain.Delivery, error) {
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var mu sync.Mutex
	claims := map[string]domain.Job{} // what the last call of step made of a job, if that was a claim
	step := func(job domain.Job, now time.Time) domain.Job {
		taken := job.Taken(now)
		if _, here := running[job.ID]; here || q.Claim == nil {
			return taken
		}
		claimed, err := q.Claim(taken, now)
		mu.Lock()
		defer mu.Unlock()
		if err != nil { // to be delivered all the same: that is where it is told why
			delete(claims, job.ID)
			return taken
		}
		claims[job.ID] = claimed
		return claimed
	}
	jobs, err := q.schedule.Take(call, room, step)
	if err != nil {
		// They may have been stored all the same, and nobody else knows of these leases.
		var lost []domain.Delivery
		for id, job := range claims {
			lost = append(lost, domain.Delivery{JobID: id, Claimed: &job})
		}
		q.giveBack(ctx, lost...)
		return nil, err
	}
	taken := make([]domain.Delivery, len(jobs))
	for i, job := range jobs {
		taken[i] = domain.Delivery{MessageID: job.ID + "/" + strconv.Itoa(job.Dispatches), JobID: job.ID}
		if _, ok := claims[job.ID]; ok {
			taken[i].Claimed = &job
		}
	}
	return taken, nil
}

// pauses counts the pauses that followed one another.
type pauses int

func (p *pauses) next() time.Duration {
	wait := min(firstPause<<min(*p, 10), lastPause)
	*p++
	return wait
}

// deliver has one job delivered and gives it back if it was not begun. The store knows what became of one that was.
func (q *Queue) deliver(ctx context.Context, d domain.Delivery, deliver ports.Deliver) (came domain.Disposition) {
	defer func() {
		if p := recover(); p != nil {
			q.report(fmt.Errorf("the delivery of job %s panicked: %v\n%s", d.JobID, p, debug.Stack()))
			came = domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonInternal}
		}
	}()
	came = deliver(ctx, d)
	switch came.Verdict {
	case domain.Ack: // the record says the rest
	case domain.DeadLetter: // there is no message to set apart; the job stays where it is, to be found there
		q.report(domain.Errorf(domain.Internal, came.Reason, "the delivery of job %s was dead-lettered: %s", d.JobID, came.Reason))
	default:
		ctx, cancel := q.bounded(ctx)
		defer cancel()
		q.release(ctx, d.JobID, came.After)
		if came.After <= 0 {
			q.Wake()
		}
	}
	return came
}

// giveBack has jobs that were taken and not begun looked at again at once, as if they had not been taken. Where it fails
// the next check brings them. It returns those that their claim has settled, which have to be told of.
func (q *Queue) giveBack(ctx context.Context, taken ...domain.Delivery) (settled []domain.Delivery) {
	ctx, cancel := q.bounded(ctx)
	defer cancel()
	for _, d := range taken {
		switch {
		case d.Claimed == nil:
			q.release(ctx, d.JobID, 0)
		case d.Claimed.Status == domain.Running:
			q.update(ctx, d.JobID, func(stored domain.Job) (domain.Job, error) {
				return stored.Unclaim(q.now(), d.Claimed.Lease.Token)
			})
		default:
			settled = append(settled, d)
		}
	}
	if len(taken) > 0 {
		q.Wake()
	}
	return settled
}

// release has a job looked at again after the wait, unless somebody has claimed it.
func (q *Queue) release(ctx context.Context, id string, after time.Duration) {
	q.update(ctx, id, func(stored domain.Job) (domain.Job, error) { return stored.Released(q.now(), after), nil })
}

func (q *Queue) update(ctx context.Context, id string, step func(domain.Job) (domain.Job, error)) {
	_, err := q.store.Update(ctx, id, step)
	// A job that is gone, or a lease that is no more or was never stored, is as good as given back.
	if err != nil && domain.KindOf(err) != domain.NotFound && domain.ReasonOf(err) != domain.ReasonLeaseLost {
		q.report(err)
	}
}

// bounded returns a context for giving back, which goes on when ctx has ended.
func (q *Queue) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
}

func (q *Queue) report(err error) {
	if q.Report != nil {
		q.Report(err)
	}
}
