package jobs

import (
	"context"
	"sync"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Bounds of one pass of a sweep.
const (
	sweepBatch    = 100  // jobs taken at once
	sweepJobs     = 1000 // jobs handed out in one pass
	sweepDispatch = 16   // dispatches under way at once

	dispatchTimeout = 10 * time.Second // of one

	expireBatch   = 500
	expireBatches = 200
)

// Sweep is the due loop: it dispatches what has become due, what was dispatched and never claimed, and what a lost
// worker left running, and removes what has expired. Any number of sweeps may run at once.
type Sweep struct {
	Schedule   ports.JobSchedule
	Dispatcher ports.JobDispatcher
}

// Swept counts what a pass did.
type Swept struct {
	Dispatched int
	Failed     int // not confirmed; a later pass hands them out again
	Expired    int
}

// Pass makes one bounded pass. It ends early, with the error, when the store or the broker is out of reach: what was
// taken is handed out again later. A job that the broker will not have is counted as failed and delays no other.
func (s *Sweep) Pass(ctx context.Context) (Swept, error) {
	var swept Swept
	for taken := 0; taken < sweepJobs; {
		batch, err := s.take(ctx)
		if err != nil {
			return swept, err
		}
		taken += len(batch)
		failed, err := s.dispatch(ctx, batch)
		swept.Dispatched += len(batch) - failed
		swept.Failed += failed
		if outOfReach(err) {
			return swept, err
		}
		if len(batch) < sweepBatch {
			break
		}
	}
	expired, err := Expire(ctx, s.Schedule)
	swept.Expired = expired
	return swept, err
}

// Expire removes the records of expired jobs, up to a bound that no service reaches in the minute between two calls, and
// returns how many it removed.
func Expire(ctx context.Context, schedule ports.JobSchedule) (removed int, err error) {
	for range expireBatches {
		call, cancel := context.WithTimeout(ctx, storeTimeout)
		n, err := schedule.Expire(call, expireBatch)
		cancel()
		removed += n
		if err != nil || n < expireBatch {
			return removed, err
		}
	}
	return removed, nil
}

func (s *Sweep) take(ctx context.Context) ([]domain.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.Schedule.Take(ctx, sweepBatch, domain.Job.Taken)
}

func outOfReach(err error) bool {
	kind := domain.KindOf(err)
	return err != nil && (kind == domain.Unavailable || kind == domain.Throttled)
}

// dispatch hands out a batch and returns how many were not confirmed, and why: that the broker is out of reach, when it
// was for any of them.
func (s *Sweep) dispatch(ctx context.Context, batch []domain.Job) (failed int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, sweepDispatch)
	for _, job := range batch {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, dispatchTimeout)
			defer cancel()
			if e := s.Dispatcher.Dispatch(ctx, job); e != nil {
				mu.Lock()
				failed++
				if !outOfReach(err) {
					err = e
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed, err
}

// Run makes a pass each interval until ctx ends. report is told of each pass; a failed one is no reason to stop.
func (s *Sweep) Run(ctx context.Context, interval time.Duration, report func(Swept, error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			swept, err := s.Pass(ctx)
			if ctx.Err() == nil {
				report(swept, err)
			}
		}
	}
}
