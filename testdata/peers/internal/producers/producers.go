// Package producers is the load under which everything that keeps jobs is measured: 8 producers, each of which submits
// its next job as soon as its last one was accepted, and a clock that stops when all jobs are done.
package producers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Count is how many producers there are.
const Count = 8

// Name and Payload are those of every job; the payload has 100 bytes.
const (
	Name    = "report.render"
	Payload = `{"report":"2026-11","customer":"c-0001234","format":"pdf","pages":[1,2,3,4,5,6,7,8,9,10],"copies":1}`
)

// timeout bounds a measurement.
const timeout = time.Minute

// A Load is one measurement.
type Load struct {
	jobs int64
	left atomic.Int64
	done chan struct{}
}

// New returns a load of so many jobs.
func New(jobs int) *Load {
	l := &Load{jobs: int64(jobs), done: make(chan struct{})}
	l.left.Store(l.jobs)
	return l
}

// Done counts a job that is done.
func (l *Load) Done() {
	if l.left.Add(-1) == 0 {
		close(l.done)
	}
}

// Run submits the jobs, waits until all are done, and prints how many that were in a second, and the time of the processors
// that each took of this process. submit returns when a job is accepted. Where Done only says that a job's handler has returned, recorded says when that is known to the queue too;
// else it is nil.
func (l *Load) Run(submit func(ctx context.Context) error, recorded func(ctx context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	before, begin := cpu(), time.Now()
	var (
		next      atomic.Int64
		producers sync.WaitGroup
		failed    = make(chan error, Count)
	)
	for range Count {
		producers.Go(func() {
			for next.Add(1) <= l.jobs {
				if err := submit(ctx); err != nil {
					failed <- fmt.Errorf("submit: %w", err)
					cancel()
					return
				}
			}
		})
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		producers.Wait()
		close(failed)
		errs := []error{fmt.Errorf("%d of %d jobs are not done: %w", l.left.Load(), l.jobs, ctx.Err())}
		for err := range failed {
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	for recorded != nil {
		yes, err := recorded(ctx)
		if err != nil {
			return err
		}
		if yes {
			break
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(begin)
	producers.Wait()
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"jobs/s": float64(l.jobs) / took.Seconds(), "µs CPU": (cpu() - before).Seconds() * 1e6 / float64(l.jobs),
	})
}

// cpu is the time of the processors that this process has taken.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it takes no other arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
