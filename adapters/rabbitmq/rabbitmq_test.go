package rabbitmq_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/rabbitmq"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports/portstest"
)

func TestRabbitMQ(t *testing.T) {
	t.Parallel()
	url := adaptertest.RabbitMQ(t).URL

	t.Run("dispatcher", func(t *testing.T) {
		t.Parallel()
		portstest.JobDispatcher(t, func(t *testing.T) portstest.JobDispatcherHarness {
			t.Helper()
			b := open(t, url, rabbitmq.Options{Queue: newQueue()})
			arrived := make(chan domain.Delivery)
			consume(t, rabbitmq.NewConsumer(b, 16), func(_ context.Context, d domain.Delivery) domain.Disposition {
				select {
				case arrived <- d:
					return domain.Disposition{Verdict: domain.Ack}
				case <-t.Context().Done():
					return domain.Disposition{Verdict: domain.Return}
				}
			})
			return portstest.JobDispatcherHarness{
				Dispatcher: rabbitmq.NewDispatcher(b, source), Now: time.Now,
				Receive: func(ctx context.Context) (domain.Delivery, error) {
					select {
					case d := <-arrived:
						return d, nil
					case <-ctx.Done():
						return domain.Delivery{}, ctx.Err()
					}
				},
			}
		})
	})
	t.Run("consumer", func(t *testing.T) {
		t.Parallel()
		portstest.JobConsumer(t, func(t *testing.T) portstest.JobConsumerHarness {
			t.Helper()
			const concurrency = 4
			b := open(t, url, rabbitmq.Options{Queue: newQueue()})
			return portstest.JobConsumerHarness{
				JobDispatcherHarness: portstest.JobDispatcherHarness{Dispatcher: rabbitmq.NewDispatcher(b, source), Now: time.Now},
				Consumer:             rabbitmq.NewConsumer(b, concurrency), Concurrency: concurrency,
			}
		})
	})

	for name, test := range map[string]func(*testing.T, string){
		"the queues on the broker":                                      testArguments,
		"a message on the wire":                                         testWire,
		"a deleted queue is declared again":                             testUnroutable,
		"a message that was delivered too often is set apart":           testDeliveryLimit,
		"a dead letter has its reason and its queue":                    testDeadLetter,
		"a message that cannot be read is delivered as such":            testUndecodable,
		"a message that is returned with a wait waits aside":            testWait,
		"a fault that is not the message's pauses the consumer":         testPause,
		"a queue with other arguments is a fault of the settings":       testMismatch,
		"a bare message has the same identity whenever it is delivered": testBare,
		"a bare message without an id is given one":                     testAnonymous,
		"a queue of another program is taken from once it is there":     testLegacy,
		"what was taken and not begun is given back":                    testGiveBack,
		"a queue that is deleted under a consumer is declared again":    testDeletedUnderConsumer,
		"wrong credentials are reported and never ready":                testCredentials,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, url)
		})
	}
}

func testWire(t *testing.T, url string) {
	queue := newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	job := domain.Job{
		ID: "0198c0de-0000-7000-8000-000000000001", Name: "report.render", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Owner: alice, Payload: []byte(`{ "n":1.00 }`),
	}
	before := time.Now().Truncate(time.Second)
	if err := rabbitmq.NewDispatcher(b, source).Dispatch(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	got := other.receive(queue)
	if got.Timestamp.Before(before) || got.Timestamp.After(time.Now()) {
		t.Errorf("timestamp %v, want now", got.Timestamp)
	}
	want := amqp.Delivery{
		ContentType: "application/cloudevents+json", DeliveryMode: amqp.Persistent, MessageId: job.ID, Type: job.Name, Timestamp: got.Timestamp,
		Headers:    amqp.Table{"x-delivery-count": int64(0)}, // the broker's
		RoutingKey: queue, Acknowledger: got.Acknowledger, DeliveryTag: got.DeliveryTag,
		Body: []byte(`{"specversion":"1.0","id":"` + job.ID + `","type":"report.render","source":"/jobs","subject":"https://issuer.example|alice",` +
			`"time":"2026-01-02T03:04:05Z","jobgateschema":"1","datacontenttype":"application/json","data":{ "n":1.00 }}`),
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(amqp.Acknowledger, amqp.Acknowledger) bool { return true })); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// Every version has to declare the queues like this: the broker refuses to declare a queue again with other arguments.
func testArguments(t *testing.T, url string) {
	queue := newQueue()
	b, err := rabbitmq.Open(url, rabbitmq.Options{Queue: queue})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ready(t, b)
	other := operate(t, url)
	for name, args := range map[string]amqp.Table{
		queue: {
			"x-queue-type": "quorum", "x-delivery-limit": 1000,
			"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue + ".dead", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
		},
		queue + ".wait": {
			"x-queue-type": "quorum", "x-message-ttl": 60000,
			"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
		},
		queue + ".dead": {"x-queue-type": "quorum", "x-delivery-limit": 1000000},
	} {
		if _, err := other.QueueDeclare(name, true, false, false, false, args); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func testUnroutable(t *testing.T, url string) {
	queue := newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	d := rabbitmq.NewDispatcher(b, source)
	if _, err := other.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	wantKind(t, d.Dispatch(t.Context(), newJob(t)), domain.Unavailable)
	job := newJob(t)
	eventually(t, "dispatch", func() bool { return d.Dispatch(t.Context(), job) == nil })
	if got := other.receive(queue); got.MessageId != job.ID {
		t.Errorf("message %s, want %s", got.MessageId, job.ID)
	}
}

func testDeliveryLimit(t *testing.T, url string) {
	queue := newQueue()
	b, worker := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	job := newJob(t)
	if err := rabbitmq.NewDispatcher(b, source).Dispatch(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	messages, err := worker.Consume(queue, "dying", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	letters, err := worker.Consume(queue+".dead", "letters", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for count := 0; ; {
		select {
		case m := <-messages:
			count++
			if err := m.Nack(false, true); err != nil {
				t.Fatal(err)
			}
		case m := <-letters:
			if count <= 3*domain.MaxAttempts || count < rabbitmq.DeliveryLimit {
				t.Errorf("set apart after %d deliveries, want %d", count, rabbitmq.DeliveryLimit)
			}
			if m.MessageId != job.ID {
				t.Errorf("message %s is set apart, want %s", m.MessageId, job.ID)
			}
			if reason := m.Headers["x-first-death-reason"]; reason != "delivery_limit" {
				t.Errorf("reason %v, want delivery_limit", reason)
			}
			return
		case <-time.After(bound):
			t.Fatalf("nothing happened after %d deliveries", count)
		}
	}
}

func testDeadLetter(t *testing.T, url string) {
	queue := newQueue()
	var told reports
	b, other := open(t, url, rabbitmq.Options{Queue: queue, Report: told.add}), operate(t, url)
	box := &inbox{next: []domain.Disposition{{Verdict: domain.DeadLetter, Reason: domain.ReasonRecordMissing}}}
	stop := consume(t, rabbitmq.NewConsumer(b, 2), box.deliver)
	job := newJob(t)
	if err := rabbitmq.NewDispatcher(b, source).Dispatch(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	got := other.receive(queue + ".dead")
	if got.MessageId != job.ID || got.Type != job.Name || !strings.Contains(string(got.Body), job.ID) || got.ContentType != "application/cloudevents+json" {
		t.Errorf("the letter is not the message: %+v", got)
	}
	if diff := cmp.Diff(amqp.Table{"jobgate-reason": "record_missing", "jobgate-queue": queue, "x-delivery-count": int64(0)}, got.Headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	stop()
	other.wantEmpty(queue)
	if !strings.Contains(told.String(), "record_missing") {
		t.Errorf("reported: %v", &told)
	}
}

func testUndecodable(t *testing.T, url string) {
	queue := newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	box := &inbox{}
	consume(t, rabbitmq.NewConsumer(b, 2), box.deliver)
	at := time.Unix(1767322800, 0)
	other.send(queue, amqp.Publishing{Body: []byte("{"), MessageId: "m-1", Timestamp: at})
	got := box.wait(t, 1)[0]
	wantKind(t, got.Err, domain.Invalid)
	if got.MessageID != "m-1" || !got.SentAt.Equal(at) {
		t.Errorf("delivery %+v, want m-1 of %v", got, at)
	}
	other.send(queue, amqp.Publishing{Body: []byte("no JSON and no id")})
	wantKind(t, box.wait(t, 2)[1].Err, domain.Invalid)
}

func testWait(t *testing.T, url string) {
	queue := newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	box := &inbox{}
	for range 3 {
		box.next = append(box.next, domain.Disposition{Verdict: domain.Return, After: time.Minute})
	}
	// One at a time: a message that waited in the consumer would let no other by.
	stop := consume(t, rabbitmq.NewConsumer(b, 1), box.deliver)
	at := time.Unix(1767322800, 0)
	other.send(queue, amqp.Publishing{Body: []byte(`{"name":"test-job"}`), MessageId: "m-1", Timestamp: at, Headers: amqp.Table{"CC": []any{queue + ".dead"}}})
	got := box.wait(t, 4)
	for i, d := range got[1:] {
		if diff := cmp.Diff(got[0], d); diff != "" {
			t.Errorf("delivery %d differs from the first (-first +later):\n%s", i+2, diff)
		}
	}
	if got[0].Foreign == nil || !got[0].SentAt.Equal(at) {
		t.Errorf("delivery %+v", got[0])
	}
	for i := range 3 {
		if waited := box.times[i+1].Sub(box.times[i]); waited < 400*time.Millisecond {
			t.Errorf("wait %d was %v, want 500ms", i+1, waited)
		}
	}
	stop()
	other.wantEmpty(queue)
	other.wantEmpty(queue + ".wait")
	if n := other.ready(queue + ".dead"); n != 1 {
		t.Errorf("%d copies went where the sender's CC asked for one", n)
	}
}

func testPause(t *testing.T, url string) {
	legacy := newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: newQueue()}), operate(t, url)
	if _, err := other.QueueDeclare(legacy, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	other.send(legacy, amqp.Publishing{Body: []byte(`"legacy"`), MessageId: "m-1"})
	d := rabbitmq.NewDispatcher(b, source)
	for range 3 {
		if err := d.Dispatch(t.Context(), newJob(t)); err != nil {
			t.Fatal(err)
		}
	}
	pause := domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable, Pause: true}
	box := &inbox{next: []domain.Disposition{pause, pause}}
	c := rabbitmq.NewConsumer(b, 1)
	c.LegacyQueue = legacy
	release := make(chan struct{})
	consume(t, c, func(ctx context.Context, d domain.Delivery) domain.Disposition {
		<-release
		return box.deliver(ctx, d)
	})
	// One is begun, and one of the other queue on its way: the pause is not to keep that.
	eventually(t, "message taken from the other queue", func() bool { return other.ready(legacy) == 0 })
	close(release)
	box.wait(t, 1)
	ready(t, c)
	got := box.wait(t, 6)
	messages := map[string]int{}
	for _, d := range got {
		messages[d.MessageID]++
	}
	if len(messages) != 4 {
		t.Errorf("deliveries of %d messages, want 4", len(messages))
	}
	// The upper half of each pause is jitter.
	for i, least := range []time.Duration{500 * time.Millisecond, time.Second} {
		if paused := box.times[i+1].Sub(box.times[i]); paused < least {
			t.Errorf("pause %d took %v, want at least %v", i+1, paused, least)
		}
	}
}

func testMismatch(t *testing.T, url string) {
	queue := newQueue()
	other := operate(t, url)
	if _, err := other.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	b, err := rabbitmq.Open(url, rabbitmq.Options{Queue: queue})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	for what, err := range map[string]error{
		"Ready":    b.Ready(ctx),
		"Dispatch": rabbitmq.NewDispatcher(b, source).Dispatch(ctx, newJob(t)),
		"Consume":  rabbitmq.NewConsumer(b, 1).Consume(ctx, (&inbox{}).deliver),
	} {
		if err == nil || domain.KindOf(err) != domain.Internal || !strings.Contains(err.Error(), fmt.Sprintf("%q", queue)) {
			t.Errorf("%s: %v, want Internal and the queue's name", what, err)
		}
	}
}

func testBare(t *testing.T, url string) {
	queue := newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	box := &inbox{next: []domain.Disposition{{}}} // returned once
	consume(t, rabbitmq.NewConsumer(b, 1), box.deliver)
	other.send(queue, amqp.Publishing{Body: []byte(`{"name":"test-job","payload":{"n":1}}`), MessageId: "m-1"})
	want := &domain.JobSpec{ID: domain.EventID("rabbitmq", queue, "m-1"), Name: "test-job", Payload: []byte(`{"n":1}`)}
	for i, got := range box.wait(t, 2) {
		if diff := cmp.Diff(domain.Delivery{MessageID: "m-1", Foreign: want}, got); diff != "" {
			t.Errorf("delivery %d (-want +got):\n%s", i+1, diff)
		}
	}
}

func testAnonymous(t *testing.T, url string) {
	queue := newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	box := &inbox{}
	seen := map[string]int{}
	stop := consume(t, rabbitmq.NewConsumer(b, 1), func(ctx context.Context, d domain.Delivery) domain.Disposition {
		box.deliver(ctx, d)
		if seen[d.MessageID]++; seen[d.MessageID] == 1 {
			return domain.Disposition{}
		}
		return domain.Disposition{Verdict: domain.Ack}
	})
	before := time.Now().Truncate(time.Second)
	other.send(queue, amqp.Publishing{Body: []byte(`{"name":"test-job"}`)})
	other.send(queue, amqp.Publishing{Body: []byte(`"test-job"`)})
	ids := map[string]int{}
	for _, d := range box.wait(t, 4) {
		if d.Foreign == nil || d.Foreign.Name != "test-job" || d.MessageID == "" || d.SentAt.Before(before) {
			t.Errorf("delivery %+v", d)
			continue
		}
		ids[d.Foreign.ID]++
	}
	if len(ids) != 2 {
		t.Errorf("jobs and their deliveries %v, want 2 jobs", ids)
	}
	for id, n := range ids {
		if n != 2 {
			t.Errorf("%d deliveries of job %s, want 2", n, id)
		}
	}
	stop()
	other.wantEmpty(queue)
}

func testLegacy(t *testing.T, url string) {
	queue, legacy := newQueue(), newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	box := &inbox{next: []domain.Disposition{{Verdict: domain.Ack}, {Verdict: domain.DeadLetter, Reason: domain.ReasonUndecodable}}}
	c := rabbitmq.NewConsumer(b, 2)
	c.LegacyQueue = legacy
	stop := consume(t, c, box.deliver)
	if err := rabbitmq.NewDispatcher(b, source).Dispatch(t.Context(), newJob(t)); err != nil {
		t.Fatal(err)
	}
	box.wait(t, 1) // ours does not wait for it

	// The other program declares its queue as it likes.
	declare := func() {
		if _, err := other.QueueDeclare(legacy, true, false, false, false, amqp.Table{"x-max-length": 100}); err != nil {
			t.Fatal(err)
		}
	}
	declare()
	other.send(legacy, amqp.Publishing{Body: []byte(`{"name":"test-job"`), MessageId: "broken"})
	box.wait(t, 2)
	if got := other.receive(queue + ".dead"); got.MessageId != "broken" || got.Headers["jobgate-queue"] != legacy {
		t.Errorf("the letter %+v, want it to be of %s", got, legacy)
	}
	other.send(legacy, amqp.Publishing{Body: []byte(`{"name":"test-job"}`)})
	if d := box.wait(t, 3)[2]; d.Foreign == nil || d.Foreign.ID != domain.EventID("rabbitmq", legacy, d.MessageID) {
		t.Errorf("delivery %+v, want a job of %s", d, legacy)
	}

	// It goes and comes again.
	if _, err := other.QueueDelete(legacy, false, false, false); err != nil {
		t.Fatal(err)
	}
	declare()
	other.send(legacy, amqp.Publishing{Body: []byte(`{"name":"second"}`)})
	if d := box.wait(t, 4)[3]; d.Foreign == nil || d.Foreign.Name != "second" {
		t.Errorf("delivery %+v", d)
	}
	stop()
	other.wantEmpty(legacy)
}

func testGiveBack(t *testing.T, url string) {
	queue := newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	legacy := newQueue()
	if _, err := other.QueueDeclare(legacy, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	d := rabbitmq.NewDispatcher(b, source)
	for i := range 4 {
		if err := d.Dispatch(t.Context(), newJob(t)); err != nil {
			t.Fatal(err)
		}
		other.send(legacy, amqp.Publishing{Body: []byte(`"legacy"`), MessageId: fmt.Sprint(i)})
	}
	// Two queues have more on their way than may be begun.
	c := rabbitmq.NewConsumer(b, 2)
	c.LegacyQueue = legacy
	begun, release := make(chan struct{}, 8), make(chan struct{})
	stop := consume(t, c, func(context.Context, domain.Delivery) domain.Disposition {
		begun <- struct{}{}
		<-release
		return domain.Disposition{Verdict: domain.Ack}
	})
	<-begun
	<-begun
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	six := func() bool { return other.ready(queue)+other.ready(legacy) == 6 }
	eventually(t, "return of 6 messages while 2 are worked on", six)
	close(release)
	<-stopped
	eventually(t, "acknowledgement of those 2", six)
}

func testDeletedUnderConsumer(t *testing.T, url string) {
	queue := newQueue()
	b, other := open(t, url, rabbitmq.Options{Queue: queue}), operate(t, url)
	box := &inbox{}
	c := rabbitmq.NewConsumer(b, 2)
	consume(t, c, box.deliver)
	ready(t, c)
	if _, err := other.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	d, job := rabbitmq.NewDispatcher(b, source), newJob(t)
	eventually(t, "dispatch", func() bool { return d.Dispatch(t.Context(), job) == nil })
	if got := box.wait(t, 1)[0]; got.JobID != job.ID {
		t.Errorf("delivery %+v, want %s", got, job.ID)
	}
}

func testCredentials(t *testing.T, url string) {
	var told reports
	b, err := rabbitmq.Open(strings.Replace(url, "guest:guest", "guest:hunter2", 1), rabbitmq.Options{Queue: newQueue(), Report: told.add})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	eventually(t, "report", func() bool {
		told.mu.Lock()
		defer told.mu.Unlock()
		return len(told.all) > 0
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantKind(t, b.Ready(ctx), domain.Unavailable)
	wantKind(t, rabbitmq.NewDispatcher(b, source).Dispatch(t.Context(), newJob(t)), domain.Unavailable)
	if text := told.String(); !strings.Contains(text, "password") || strings.Contains(text, "hunter2") {
		t.Errorf("reported %s, want that the password is wrong, and not the password", text)
	}
}
