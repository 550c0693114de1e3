package rabbitmq_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/rabbitmq"
	"github.com/jobgate/jobgate/domain"
)

// slack is what a bounded call may take longer on a busy machine.
const slack = 2 * time.Second

func TestTheBrokerIsKilledAndComesBack(t *testing.T) {
	t.Parallel()
	server := adaptertest.RabbitMQ(t)
	queue := newQueue()
	b := open(t, server.URL, rabbitmq.Options{Queue: queue})
	d := rabbitmq.NewDispatcher(b, source)
	for _, name := range []string{queue, queue + ".wait", queue + ".dead"} {
		server.AwaitDurable(name)
	}

	// A consumer of before is there after, with what was running at the time.
	early := &inbox{}
	early.next = []domain.Disposition{{Verdict: domain.Ack}}
	c := rabbitmq.NewConsumer(b, 2)
	running, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	stopEarly := consume(t, c, func(ctx context.Context, delivery domain.Delivery) domain.Disposition {
		once.Do(func() {
			close(running)
			<-release
		})
		return early.deliver(ctx, delivery)
	})
	if err := d.Dispatch(t.Context(), newJob(t)); err != nil {
		t.Fatal(err)
	}
	<-running

	clients := &clients{d: d, confirmed: map[string]bool{}, perClient: make([]int, 8)}
	clients.start(t)
	clients.wait(t, 20)
	server.Kill()
	close(release)
	// A refusal is quick while the broker is away.
	wantKind(t, d.Dispatch(t.Context(), newJob(t)), domain.Unavailable)
	server.Restart()
	ready(t, b)
	ready(t, c)
	clients.wait(t, 20)
	clients.stop()
	if clients.refused == 0 {
		t.Error("no dispatch failed: the broker was not killed in the midst of them")
	}
	eventually(t, "delivery of all that was confirmed", func() bool {
		early.mu.Lock()
		defer early.mu.Unlock()
		arrived := map[string]bool{}
		for _, d := range early.all {
			arrived[d.JobID] = true
		}
		for id := range clients.confirmed {
			if !arrived[id] {
				return false
			}
		}
		return true
	})
	stopEarly()
	other := operate(t, server.URL)
	other.wantEmpty(queue)
	other.wantEmpty(queue + ".dead")
}

func TestABrokerInTrouble(t *testing.T) { //nolint:tparallel // one broker, in one trouble after the other
	t.Parallel()
	server := adaptertest.RabbitMQ(t)
	for _, tt := range []struct {
		name string
		test func(*testing.T, *adaptertest.RabbitMQServer)
	}{
		{"without memory it takes no jobs and still gives them", testAlarm},
		{"while it is paused dispatches fail within their bound", testPaused},
		{"while it is paused a consumer ends", testPausedConsumer},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, server) })
	}
}

func testAlarm(t *testing.T, server *adaptertest.RabbitMQServer) {
	b := open(t, server.URL, rabbitmq.Options{Queue: newQueue()})
	d := rabbitmq.NewDispatcher(b, source)
	want := map[string]bool{}
	for range 50 {
		job := newJob(t)
		want[job.ID] = true
		if err := d.Dispatch(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	server.Control("set_vm_memory_high_watermark", "0")
	// The first that is published has the broker say so.
	wantKind(t, d.Dispatch(t.Context(), newJob(t)), domain.Unavailable)
	wantKind(t, b.Ready(t.Context()), domain.Unavailable)
	began := time.Now()
	wantKind(t, d.Dispatch(t.Context(), newJob(t)), domain.Unavailable)
	if took := time.Since(began); took > time.Second {
		t.Errorf("the dispatch failed after %v, want at once", took)
	}
	// More than may be unacknowledged: acknowledgements get through.
	box := &inbox{}
	stop := consume(t, rabbitmq.NewConsumer(b, 2), box.deliver)
	for _, got := range box.wait(t, len(want)) {
		delete(want, got.JobID)
	}
	if len(want) > 0 {
		t.Errorf("%d jobs did not arrive", len(want))
	}
	stop()
	server.Control("set_vm_memory_high_watermark", "0.9")
	eventually(t, "dispatch", func() bool { return d.Dispatch(t.Context(), newJob(t)) == nil })
	ready(t, b)
}

func testPaused(t *testing.T, server *adaptertest.RabbitMQServer) {
	b := open(t, server.URL, rabbitmq.Options{Queue: newQueue()})
	d := rabbitmq.NewDispatcher(b, source)
	job := newJob(t)
	// Much more than sockets buffer, so that writes block too.
	job.Payload = []byte(`"` + strings.Repeat("x", domain.MaxPayload-2) + `"`)

	server.Pause()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			ctx, want := t.Context(), 5*time.Second
			if i%2 == 0 { // the caller's own bound
				want = time.Second
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, want)
				defer cancel()
			}
			began := time.Now()
			wantKind(t, d.Dispatch(ctx, job), domain.Unavailable)
			if took := time.Since(began); took > want+slack {
				t.Errorf("a dispatch took %v, want %v", took, want)
			}
		})
	}
	all.Wait()
	began := time.Now()
	unused, err := rabbitmq.Open(server.URL, rabbitmq.Options{})
	if err != nil {
		t.Fatal(err)
	}
	unused.Close()
	if took := time.Since(began); took > slack {
		t.Errorf("Close took %v while a connection was being made", took)
	}
	server.Continue()
	eventually(t, "dispatch", func() bool { return d.Dispatch(t.Context(), newJob(t)) == nil })
}

func testPausedConsumer(t *testing.T, server *adaptertest.RabbitMQServer) {
	b := open(t, server.URL, rabbitmq.Options{Queue: newQueue()})
	c := rabbitmq.NewConsumer(b, 2)
	stop := consume(t, c, (&inbox{}).deliver)
	ready(t, c)
	server.Pause()
	began := time.Now()
	stop()
	if took := time.Since(began); took > 2*time.Second+slack {
		t.Errorf("Consume returned after %v", took)
	}
	began = time.Now()
	b.Close()
	if took := time.Since(began); took > 2*time.Second+slack {
		t.Errorf("Close took %v", took)
	}
	wantKind(t, rabbitmq.NewDispatcher(b, source).Dispatch(t.Context(), newJob(t)), domain.Unavailable)
	server.Continue()
}

// clients dispatch as fast as they can.
type clients struct {
	d       *rabbitmq.Dispatcher
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	confirmed map[string]bool
	refused   int
	perClient []int // confirmed since the last wait
}

func (c *clients) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	t.Cleanup(c.stop)
	for i := range c.perClient {
		c.running.Go(func() {
			for ctx.Err() == nil {
				job := newJob(t)
				began := time.Now()
				err := c.d.Dispatch(context.WithoutCancel(ctx), job)
				if took := time.Since(began); took > 5*time.Second+slack {
					t.Errorf("a dispatch took %v", took)
				}
				c.mu.Lock()
				if err == nil {
					c.confirmed[job.ID] = true
					c.perClient[i]++
					c.mu.Unlock()
					continue
				}
				wantKind(t, err, domain.Unavailable)
				c.refused++
				c.mu.Unlock()
				pause := time.NewTimer(10 * time.Millisecond)
				select {
				case <-pause.C:
				case <-ctx.Done():
				}
				pause.Stop()
			}
		})
	}
}

// wait returns when each client has had n jobs confirmed since.
func (c *clients) wait(t *testing.T, n int) {
	t.Helper()
	c.mu.Lock()
	clear(c.perClient)
	c.mu.Unlock()
	eventually(t, "progress of all clients", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, got := range c.perClient {
			if got < n {
				return false
			}
		}
		return true
	})
}

func (c *clients) stop() {
	c.cancel()
	c.running.Wait()
}
