package portstest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// settleTime is how long the suites watch for something that must not happen. A correct adapter never makes a case
// fail by being slow; a wrong one may now and then pass.
const settleTime = 300 * time.Millisecond

// JobDispatcherHarness is what the suite needs of a dispatcher.
type JobDispatcherHarness struct {
	Dispatcher ports.JobDispatcher

	// Store is set where the store is the queue: jobs are created in it before they are dispatched.
	Store ports.JobStore

	// Receive returns the next job that arrived on the other side, as the worker decodes it.
	Receive func(ctx context.Context) (domain.Delivery, error)

	// Now is the time that the jobs are made at.
	Now func() time.Time
}

// JobDispatcher is the contract of ports.JobDispatcher.
func JobDispatcher(t *testing.T, open func(t *testing.T) JobDispatcherHarness) {
	t.Helper()
	t.Run("a dispatched job arrives", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		want := map[string]bool{}
		for _, name := range []string{"a", "report.render", strings.Repeat("n", domain.MaxNameLength)} {
			want[h.send(t, ctx, name).ID] = true
		}
		for len(want) > 0 {
			d, err := h.Receive(ctx)
			if err != nil {
				t.Fatalf("%d jobs did not arrive: %v", len(want), err)
			}
			if d.Err != nil || d.Foreign != nil {
				t.Fatalf("a job of ours arrived as %+v", d)
			}
			delete(want, d.JobID)
		}
	})
	t.Run("a job may be dispatched again", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		job := h.send(t, ctx, "twice")
		if err := h.Dispatcher.Dispatch(ctx, job); err != nil {
			t.Fatal(err)
		}
		if d, err := h.Receive(ctx); err != nil || d.JobID != job.ID {
			t.Errorf("Receive = %+v, %v", d, err)
		}
	})
	t.Run("concurrent dispatches all arrive", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		const n = 24
		var mu sync.Mutex
		want := map[string]bool{}
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				job := h.send(t, ctx, "burst")
				mu.Lock()
				want[job.ID] = true
				mu.Unlock()
			})
		}
		wg.Wait()
		for len(want) > 0 {
			d, err := h.Receive(ctx)
			if err != nil {
				t.Fatalf("%d jobs did not arrive: %v", len(want), err)
			}
			delete(want, d.JobID)
		}
	})
	t.Run("the largest payload fits", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		job := NewJob(t, h.Now(), alice, "large")
		job.Payload = []byte(`"` + strings.Repeat("x", domain.MaxPayload-2) + `"`)
		if err := h.Dispatcher.Fits(job); err != nil {
			t.Fatalf("Fits: %v", err)
		}
		h.create(t, ctx, job)
		if err := h.Dispatcher.Dispatch(ctx, job); err != nil {
			t.Fatalf("Dispatch: %v", err)
		}
		if d, err := h.Receive(ctx); err != nil || d.JobID != job.ID {
			t.Errorf("Receive = %+v, %v", d, err)
		}
	})
	t.Run("a job that no broker holds does not fit", func(t *testing.T) {
		t.Parallel()
		h := open(t)
		job := NewJob(t, h.Now(), alice, "oversized")
		job.Payload = []byte(`"` + strings.Repeat("x", 2<<20) + `"`)
		wantKind(t, h.Dispatcher.Fits(job), domain.TooLarge)
	})
	t.Run("a cancelled context ends the dispatch as unavailable", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		job := NewJob(t, h.Now(), alice, "cancelled")
		h.create(t, ctx, job)
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		wantKind(t, h.Dispatcher.Dispatch(ctx, job), domain.Unavailable)
	})
}

func (h JobDispatcherHarness) create(t *testing.T, ctx context.Context, job domain.Job) {
	t.Helper()
	if h.Store == nil {
		return
	}
	if _, _, err := h.Store.Create(ctx, job); err != nil {
		t.Error(err)
	}
}

func (h JobDispatcherHarness) send(t *testing.T, ctx context.Context, name string) domain.Job {
	t.Helper()
	job := NewJob(t, h.Now(), alice, name)
	h.create(t, ctx, job)
	if err := h.Dispatcher.Dispatch(ctx, job); err != nil {
		t.Errorf("Dispatch: %v", err)
	}
	return job
}

// JobConsumerHarness is what the suite needs of a consumer.
type JobConsumerHarness struct {
	JobDispatcherHarness // Receive is not used

	Consumer    ports.JobConsumer
	Concurrency int // deliveries at once; at least 2
}

// JobConsumer is the contract of ports.JobConsumer, against the dispatcher that feeds it.
func JobConsumer(t *testing.T, open func(t *testing.T) JobConsumerHarness) {
	t.Helper()
	t.Run("each job is delivered, and once acknowledged not again", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		log := h.consume(t, ctx, func(context.Context, domain.Delivery) domain.Disposition {
			return domain.Disposition{Verdict: domain.Ack}
		})
		const n = 20
		var sent []string
		for range n {
			sent = append(sent, h.send(t, ctx, "ack").ID)
		}
		log.wait(t, ctx, func(seen map[string]int) bool { return len(seen) == n })
		time.Sleep(settleTime)
		for _, id := range sent {
			if got := log.count(id); got != 1 {
				t.Errorf("job %s was delivered %d times", id, got)
			}
		}
	})
	t.Run("jobs sent before anybody consumes are delivered", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		for range 5 {
			h.send(t, ctx, "early")
		}
		log := h.consume(t, ctx, func(context.Context, domain.Delivery) domain.Disposition {
			return domain.Disposition{Verdict: domain.Ack}
		})
		log.wait(t, ctx, func(seen map[string]int) bool { return len(seen) == 5 })
	})
	t.Run("a returned job is delivered again", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		var mu sync.Mutex
		tries := 0
		log := h.consume(t, ctx, func(context.Context, domain.Delivery) domain.Disposition {
			mu.Lock()
			defer mu.Unlock()
			if tries++; tries < 3 {
				return domain.Disposition{Verdict: domain.Return}
			}
			return domain.Disposition{Verdict: domain.Ack}
		})
		job := h.send(t, ctx, "again")
		log.wait(t, ctx, func(seen map[string]int) bool { return seen[job.ID] == 3 })
	})
	t.Run("a slow delivery delays no other", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		release := make(chan struct{})
		slow := h.send(t, ctx, "slow")
		log := h.consume(t, ctx, func(_ context.Context, d domain.Delivery) domain.Disposition {
			if d.JobID == slow.ID {
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			return domain.Disposition{Verdict: domain.Ack}
		})
		log.wait(t, ctx, func(seen map[string]int) bool { return seen[slow.ID] == 1 })
		for range 10 {
			h.send(t, ctx, "fast")
		}
		log.wait(t, ctx, func(seen map[string]int) bool { return len(seen) == 11 })
		close(release)
	})
	t.Run("no more run at once than the consumer's bound", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		var mu sync.Mutex
		running, most := 0, 0
		full := make(chan struct{})
		log := h.consume(t, ctx, func(context.Context, domain.Delivery) domain.Disposition {
			mu.Lock()
			running++
			if most = max(most, running); most == h.Concurrency {
				select {
				case <-full:
				default:
					close(full)
				}
			}
			mu.Unlock()
			select {
			case <-full:
			case <-ctx.Done():
			}
			mu.Lock()
			running--
			mu.Unlock()
			return domain.Disposition{Verdict: domain.Ack}
		})
		n := h.Concurrency*2 + 1
		for range n {
			h.send(t, ctx, "busy")
		}
		log.wait(t, ctx, func(seen map[string]int) bool { return len(seen) == n })
		mu.Lock()
		defer mu.Unlock()
		if most > h.Concurrency {
			t.Errorf("%d deliveries ran at once, the bound is %d", most, h.Concurrency)
		}
	})
	t.Run("when its context ends it waits for running deliveries and loses nothing", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		consuming, stop := context.WithCancel(ctx)
		begun, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		var mu sync.Mutex
		acked := map[string]bool{}
		done := make(chan error, 1)
		go func() {
			done <- h.Consumer.Consume(consuming, func(ctx context.Context, d domain.Delivery) domain.Disposition {
				once.Do(func() { close(begun) })
				select {
				case <-release:
				case <-ctx.Done():
					t.Error("the delivery's context ended with the consumer's")
				}
				mu.Lock()
				acked[d.JobID] = true
				mu.Unlock()
				return domain.Disposition{Verdict: domain.Ack}
			})
		}()
		want := map[string]bool{}
		for range h.Concurrency + 3 {
			want[h.send(t, ctx, "drain").ID] = true
		}
		receive(t, ctx, begun)
		stop()
		select {
		case err := <-done:
			t.Fatalf("Consume returned (%v) while a delivery was running", err)
		case <-time.After(settleTime):
		}
		close(release)
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("Consume = %v after its context ended, want nil", err)
			}
		case <-ctx.Done():
			t.Fatal("Consume did not return")
		}
		mu.Lock()
		for id := range acked {
			delete(want, id)
		}
		mu.Unlock()
		log := h.consume(t, ctx, func(context.Context, domain.Delivery) domain.Disposition {
			return domain.Disposition{Verdict: domain.Ack}
		})
		log.wait(t, ctx, func(seen map[string]int) bool {
			for id := range want {
				if seen[id] == 0 {
					return false
				}
			}
			return true
		})
	})
	t.Run("a panic while one is delivered stops no other", func(t *testing.T) {
		t.Parallel()
		h, ctx := open(t), deadline(t)
		var once sync.Once
		log := h.consume(t, ctx, func(context.Context, domain.Delivery) domain.Disposition {
			once.Do(func() { panic("a bug in a delivery") })
			return domain.Disposition{Verdict: domain.Ack}
		})
		for range 5 {
			h.send(t, ctx, "panic")
		}
		log.wait(t, ctx, func(seen map[string]int) bool { return len(seen) == 5 })
	})
}

// deliveries counts the deliveries of each job.
type deliveries struct {
	mu      sync.Mutex
	seen    map[string]int
	changed chan struct{}
}

// consume runs the consumer until the test ends and fails it when Consume does not return nil then.
func (h JobConsumerHarness) consume(t *testing.T, ctx context.Context, deliver ports.Deliver) *deliveries {
	t.Helper()
	log := &deliveries{seen: map[string]int{}, changed: make(chan struct{}, 1)}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- h.Consumer.Consume(ctx, func(ctx context.Context, d domain.Delivery) domain.Disposition {
			log.add(d.JobID)
			return deliver(ctx, d)
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Consume = %v, want nil", err)
		}
	})
	return log
}

func (l *deliveries) add(id string) {
	l.mu.Lock()
	l.seen[id]++
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *deliveries) count(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[id]
}

func (l *deliveries) wait(t *testing.T, ctx context.Context, done func(seen map[string]int) bool) {
	t.Helper()
	for {
		l.mu.Lock()
		ok, n := done(l.seen), len(l.seen)
		l.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-l.changed:
		case <-ctx.Done():
			t.Fatalf("deliveries of %d jobs came, and then no more", n)
		}
	}
}

func receive(t *testing.T, ctx context.Context, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatal("nothing happened in time")
	}
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
