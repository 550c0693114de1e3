package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/rabbitmq"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
	"github.com/jobgate/jobgate/ports/portstest"
)

var (
	_ ports.JobDispatcher = (*rabbitmq.Dispatcher)(nil)
	_ ports.JobConsumer   = (*rabbitmq.Consumer)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	source = "/jobs"
	bound  = 20 * time.Second // for what is to happen, on a busy machine
)

var (
	alice  = domain.Identity{Issuer: "https://issuer.example", Subject: "alice"}
	queues atomic.Int64
)

// newQueue returns a name that no other test uses.
func newQueue() string { return fmt.Sprintf("queue-%d", queues.Add(1)) }

func newJob(t *testing.T) domain.Job {
	t.Helper()
	return portstest.NewJob(t, time.Now(), alice, "report.render")
}

// open returns a broker that is ready, with a queue of its own, whose waits are short.
func open(t *testing.T, url string, opts rabbitmq.Options) *rabbitmq.Broker {
	t.Helper()
	b, err := rabbitmq.OpenWith(url, opts, 500*time.Millisecond, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	ready(t, b)
	return b
}

func ready(t *testing.T, b interface{ Ready(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	if err := b.Ready(ctx); err != nil {
		t.Fatalf("Ready: %v", err)
	}
}

// consume runs the consumer until stop is called, or the test ends.
func consume(t *testing.T, c *rabbitmq.Consumer, deliver ports.Deliver) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Consume(ctx, deliver) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Consume = %v, want nil", err)
			}
		case <-time.After(bound):
			t.Error("Consume did not return")
		}
	})
	t.Cleanup(stop)
	return stop
}

// inbox keeps deliveries, and gives each the next of the dispositions that were asked for, then Ack.
type inbox struct {
	mu    sync.Mutex
	all   []domain.Delivery
	times []time.Time
	next  []domain.Disposition
}

func (i *inbox) deliver(_ context.Context, d domain.Delivery) domain.Disposition {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all, i.times = append(i.all, d), append(i.times, time.Now())
	if len(i.next) == 0 {
		return domain.Disposition{Verdict: domain.Ack}
	}
	disposition := i.next[0]
	i.next = i.next[1:]
	return disposition
}

// wait returns the deliveries once there are n of them.
func (i *inbox) wait(t *testing.T, n int) []domain.Delivery {
	t.Helper()
	eventually(t, fmt.Sprintf("%d deliveries", n), func() bool {
		i.mu.Lock()
		defer i.mu.Unlock()
		return len(i.all) >= n
	})
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.all)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	timeout := time.After(bound)
	for !done() {
		select {
		case <-poll.C:
		case <-timeout:
			t.Fatalf("no %s within %v", what, bound)
		}
	}
}

// operator is a program of somebody else on the same broker.
type operator struct {
	t    *testing.T
	conn *amqp.Connection
	*amqp.Channel
}

func operate(t *testing.T, url string) *operator {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the server may be gone
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return &operator{t: t, conn: conn, Channel: ch}
}

func (o *operator) send(queue string, m amqp.Publishing) {
	o.t.Helper()
	if err := o.PublishWithContext(o.t.Context(), "", queue, false, false, m); err != nil {
		o.t.Fatal(err)
	}
}

// receive removes the next message from a queue.
func (o *operator) receive(queue string) amqp.Delivery {
	o.t.Helper()
	var m amqp.Delivery
	eventually(o.t, "message in "+queue, func() (ok bool) {
		var err error
		if m, ok, err = o.Get(queue, true); err != nil {
			o.t.Fatal(err)
		}
		return ok
	})
	return m
}

// wantEmpty fails the test when a queue has messages that nobody is working on: all of them, once its consumers have
// ended.
func (o *operator) wantEmpty(queue string) {
	o.t.Helper()
	if n := o.ready(queue); n != 0 {
		o.t.Errorf("%d messages are left in %s", n, queue)
	}
}

// ready returns how many messages of a queue nobody has taken.
func (o *operator) ready(queue string) int {
	o.t.Helper()
	q, err := o.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	return q.Messages
}

// reports collects what a Broker reports.
type reports struct {
	mu  sync.Mutex
	all []error
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, err)
}

func (r *reports) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.all...).Error()
}

func wantKind(t *testing.T, err error, kind domain.Kind) {
	t.Helper()
	if e, ok := errors.AsType[*domain.Error](err); !ok || e.Kind != kind {
		t.Errorf("error %v, want %v", err, kind)
	}
}
