package server_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/rabbitmq"
	"github.com/jobgate/jobgate/bootstrap/server"
	"github.com/jobgate/jobgate/domain/jobs"
)

// names remembers the names of the jobs that somebody ran.
type names struct {
	mu  sync.Mutex
	all []string
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, name)
}

func (n *names) sorted() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(slices.Values(n.all))
}

func (n *names) handlers() jobs.Handlers {
	return jobs.Handlers{"*": func(_ context.Context, run jobs.Run) ([]byte, error) {
		n.add(run.Job.Name)
		return nil, nil
	}}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// oldProgram is the original's side of the broker: its durable queue, and a channel.
func oldProgram(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("task_queue", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	return ch
}

// oldPublisher sends as the original's API did: transient, with no id.
func oldPublisher(t *testing.T, ch *amqp.Channel, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := ch.PublishWithContext(t.Context(), "", "task_queue", false, false, amqp.Publishing{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMigrationFromTheOriginal(t *testing.T) {
	t.Parallel()
	t.Run("the old worker beside the new one, each on its own queue", func(t *testing.T) {
		t.Parallel()
		broker := adaptertest.RabbitMQ(t)
		old := oldProgram(t, broker.URL)
		var oldRan, newRan names
		messages, err := old.ConsumeWithContext(t.Context(), "task_queue", "old worker", false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		t.Cleanup(func() { <-done }) // the channel is closed by its connection's end
		go func() {
			defer close(done)
			for m := range messages {
				oldRan.add(string(m.Body))
				_ = m.Ack(false)
			}
		}()
		c := newClient(t, run(t, original("DATA_DIR", t.TempDir(), "BROKER_URL", broker.URL), newRan.handlers()))
		oldPublisher(t, old, `"one"`, `{"name":"two"}`)
		c.travels(t)
		c.travels(t)
		eventually(t, "the old worker has run what the old API published", func() bool { return len(oldRan.sorted()) == 2 })
		if got, want := oldRan.sorted(), []string{`"one"`, `{"name":"two"}`}; !slices.Equal(got, want) {
			t.Errorf("the old worker ran %q, want %q", got, want)
		}
		if got, want := newRan.sorted(), []string{"test-job", "test-job"}; !slices.Equal(got, want) {
			t.Errorf("the new worker ran %q, want %q", got, want)
		}
	})
	t.Run("the old publisher and the new worker", func(t *testing.T) {
		t.Parallel()
		broker := adaptertest.RabbitMQ(t)
		old := oldProgram(t, broker.URL)
		oldPublisher(t, old, `"before"`, `{"name":"as-object"}`)
		var ran names
		c := newClient(t, run(t, original("DATA_DIR", t.TempDir(), "BROKER_URL", broker.URL, "LEGACY_QUEUE", "task_queue"), ran.handlers()))
		oldPublisher(t, old, `"after"`, `{"name":`, `{"name":"no job name!"}`)
		c.travels(t)
		eventually(t, "every message is run", func() bool { return len(ran.sorted()) >= 4 })
		if got, want := ran.sorted(), []string{"after", "as-object", "before", "test-job"}; !slices.Equal(got, want) {
			t.Errorf("the new worker ran %q, want %q", got, want)
		}
		// What nobody can run is set apart, with its reason, and is in nobody's way.
		for range 2 {
			eventually(t, "two letters", func() bool {
				letter, ok, err := old.Get(rabbitmq.DefaultQueue+".dead", true)
				return err == nil && ok && letter.Headers["jobgate-queue"] == "task_queue" && letter.Headers["jobgate-reason"] != nil
			})
		}
		// Jobs of nobody are for nobody but an admin to see.
		if _, page := c.do(t, "GET", "/jobs", ""); len(page["jobs"].([]any)) != 1 {
			t.Errorf("the caller sees %v, want the one job of their own", page["jobs"])
		}
	})
}

func TestALegacyQueueNeedsABroker(t *testing.T) {
	t.Parallel()
	env := original("LEGACY_QUEUE", "task_queue")
	if _, err := server.LoadConfig(func(name string) string { return env[name] }, "all", nil); err == nil {
		t.Error("a legacy queue without a broker is accepted")
	}
}
