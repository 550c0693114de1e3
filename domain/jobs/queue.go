package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Pauses of a queue whose store does not answer.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Queue is what a store is without a broker: a ports.JobDispatcher and ports.JobConsumer over its schedule. A stored
// job is as good as dispatched, so Dispatch only wakes an idle consumer; what nobody woke it for it finds by polling.
// Use NewQueue.
type Queue struct {
	store       ports.JobStore
	schedule    ports.JobSchedule
	now         func() time.Time
	concurrency int
	poll        time.Duration
	wake        chan struct{}
}

// NewQueue returns the queue that store is. concurrency bounds the deliveries at once; poll is how long a job that
// becomes due may wait while nothing else happens.
func NewQueue(store interface {
	ports.JobStore
	ports.JobSchedule
}, now func() time.Time, concurrency int, poll time.Duration) *Queue {
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
func (q *Queue) Wake() { offer(q.wake) }

// Consume takes due jobs and delivers them, as ports.JobConsumer says. It takes no more than it can begin at once.
func (q *Queue) Consume(ctx context.Context, deliver ports.Deliver) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, q.concurrency)
	trouble := make(chan struct{}, 1) // a delivery asked for a pause
	pause := firstPause
	for {
		free := acquire(ctx, slots)
		if free == 0 {
			return nil
		}
		taken, err := q.schedule.Take(ctx, free)
		for range free - len(taken) {
			<-slots
		}
		for _, job := range taken {
			running.Go(func() {
				defer func() { <-slots }()
				if q.deliver(context.WithoutCancel(ctx), job, deliver).Pause {
					offer(trouble)
				}
			})
		}
		select {
		case <-trouble:
			err = errPause
		default:
		}
		switch {
		case err != nil:
			wait(ctx, nil, pause)
			pause = min(2*pause, lastPause)
		case len(taken) == free: // there may be more
			pause = firstPause
		default:
			pause = firstPause
			wait(ctx, q.wake, q.poll)
		}
	}
}

var errPause = errors.New("a delivery asked for a pause")

// acquire waits for one slot and takes what others are free; 0 means that ctx has ended.
func acquire(ctx context.Context, slots chan<- struct{}) int {
	if ctx.Err() != nil {
		return 0
	}
	select {
	case <-ctx.Done():
		return 0
	case slots <- struct{}{}:
	}
	for n := 1; ; n++ {
		select {
		case slots <- struct{}{}:
		default:
			return n
		}
	}
}

// deliver carries out one delivery. The store knows what became of a job that was run; only one that was not begun is
// given back.
func (q *Queue) deliver(ctx context.Context, job domain.Job, deliver ports.Deliver) (d domain.Disposition) {
	defer func() {
		if recover() != nil {
			d = domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonInternal}
		}
		if d.Verdict != domain.Return {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		// If this fails the schedule has the job all the same, at its next check.
		_, _ = q.store.Update(ctx, job.ID, func(stored domain.Job) (domain.Job, error) {
			return stored.Released(q.now(), d.After), nil
		})
		if d.After <= 0 {
			q.Wake()
		}
	}()
	return deliver(ctx, domain.Delivery{MessageID: fmt.Sprintf("%s/%d", job.ID, job.Dispatches), JobID: job.ID})
}

func offer(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is enough
	}
}

// wait returns when ctx ends, wake receives, or d has passed.
func wait(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timer.C:
	}
}
