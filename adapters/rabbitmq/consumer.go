package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Pauses of a consumer after a fault that is not a message's: the first, and what it doubles up to while faults follow one
// another.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// Consumer is a ports.JobConsumer.
//
// A message that is returned with a wait spends a minute in a queue of its own, in nobody's way. One that is returned
// without goes back to its place at once, and after the second time ever more slowly. A message that is set apart is in
// the queue for that, with its reason in the header jobgate-reason and the queue that it came by in jobgate-queue.
//
// A bare message without an id of its own is put into its queue again with one before it is delivered. Publishers that can
// should send a message id.
type Consumer struct {
	// LegacyQueue is a queue of another program to take jobs from as well, such as the original's task_queue. It is never
	// declared: whoever it belongs to does that, in whatever way, before or after. Empty for none; set before use.
	LegacyQueue string

	broker      *Broker
	concurrency int
	state       state
}

// NewConsumer takes jobs from the broker's queue, at most concurrency at once.
func NewConsumer(b *Broker, concurrency int) *Consumer {
	c := &Consumer{broker: b, concurrency: max(concurrency, 1)}
	c.state.lose(errNotYet)
	return c
}

// Ready returns nil when jobs are being taken, or a pause is on. It waits as Broker.Ready does.
func (c *Consumer) Ready(ctx context.Context) error {
	return c.state.ready(ctx)
}

// Consume implements ports.JobConsumer. It returns an Internal error when the broker refuses this program from the start: a
// queue that is there with other arguments, or no permission. Once it has been let in it goes on trying.
func (c *Consumer) Consume(ctx context.Context, deliver ports.Deliver) error {
	s := &consumption{
		Consumer: c, deliver: deliver,
		finished: make(chan domain.Disposition, c.concurrency),
		pauses:   backoff{first: firstPause, last: lastPause},
		timer:    time.NewTimer(lastPause), look: time.NewTimer(lastPause),
	}
	s.timer.Stop()
	s.look.Stop()
	defer s.timer.Stop()
	defer s.look.Stop()
	retry := newRetry()
	for ctx.Err() == nil {
		l, err := c.broker.dial(ctx, "jobgate consumer")
		if err == nil {
			err = s.serve(ctx, l)
		}
		if ctx.Err() != nil {
			err = errClosed
		}
		c.state.lose(err)
		l.close()
		switch {
		case ctx.Err() != nil: // the end that was asked for
		case !s.letIn && domain.KindOf(err) == domain.Internal:
			return err
		default:
			c.broker.report(err)
			sleep(ctx, retry.next())
		}
	}
	s.drain()
	return nil
}

// consumption is one call of Consume. It outlives connections: a delivery that is running when one is lost still counts
// against the bound.
type consumption struct {
	*Consumer
	deliver  ports.Deliver
	running  int
	finished chan domain.Disposition
	letIn    bool // messages were taken at least once

	paused bool
	pauses backoff
	timer  *time.Timer // of a pause
	look   *time.Timer // for the legacy queue
}

// serve takes messages from a link until it is lost or ctx ends. Then it gives back what was not begun and waits for what is
// running, which needs the link.
func (s *consumption) serve(ctx context.Context, l *link) error {
	ours, legacy := &source{queue: s.broker.queue, ch: l.ch}, &source{queue: s.LegacyQueue}
	begin := func() error {
		if s.LegacyQueue != "" {
			s.look.Reset(0)
		}
		return l.within(ctx, func() error { return ours.begin(s.concurrency) })
	}
	if !s.paused {
		if err := begin(); err != nil {
			return err
		}
	}
	s.letIn = true
	s.state.gain(l)
	for ctx.Err() == nil {
		from, fromLegacy := ours.messages, legacy.messages
		if s.running == s.concurrency {
			from, fromLegacy = nil, nil
		}
		select {
		case <-ctx.Done():
		case m, ok := <-from:
			if !ok {
				return ours.cause(l)
			}
			s.start(ctx, m, ours.queue)
		case m, ok := <-fromLegacy:
			if !ok {
				legacy.messages = nil
				s.look.Reset(s.broker.timing.look)
				continue
			}
			s.start(ctx, m, legacy.queue)
		case err := <-l.lost:
			return translateClose(err)
		case d := <-s.finished:
			if s.running--; !d.Pause {
				s.pauses.reset()
			} else if !s.paused { // once for all that fail together
				s.paused = true
				s.timer.Reset(s.pauses.next())
				ours.end(l)
				legacy.end(l)
			}
		case <-s.timer.C:
			s.paused = false
			if err := begin(); err != nil {
				return err
			}
		case <-s.look.C:
			if s.paused || legacy.messages != nil {
				continue
			}
			if err := l.within(ctx, func() error { return legacy.find(l, s.concurrency) }); err != nil {
				s.broker.report(err)
			}
			if legacy.messages == nil {
				s.look.Reset(s.broker.timing.look)
			}
		}
	}
	ours.end(l)
	legacy.end(l)
	s.drain()
	return nil
}

// drain waits for the running deliveries.
func (s *consumption) drain() {
	for ; s.running > 0; s.running-- {
		<-s.finished
	}
}

func (s *consumption) start(ctx context.Context, m amqp.Delivery, queue string) {
	s.running++
	go func() { s.finished <- s.handle(ctx, m, queue) }()
}

// handle has one message delivered and carries out what that comes to.
func (s *consumption) handle(ctx context.Context, m amqp.Delivery, queue string) domain.Disposition {
	working := context.WithoutCancel(ctx)
	if isAnonymous(m, queue) {
		return s.identify(ctx, m, queue)
	}
	delivery := decode(m, queue)
	d := s.decide(working, delivery)
	switch {
	case d.Verdict == domain.Ack:
		_ = m.Ack(false) // where it cannot be sent the message comes again
	case d.Verdict == domain.DeadLetter:
		letter := moved(m, queue)
		letter.Headers[headerReason] = string(d.Reason)
		if s.move(ctx, m, s.broker.deadQueue(), letter) {
			s.broker.report(domain.Wrap(delivery.Err, domain.Internal, d.Reason, "message %q of queue %q was set apart: %s", m.MessageId, queue, d.Reason))
		}
	case d.After > 0:
		s.move(ctx, m, s.broker.waitQueue(), moved(m, queue))
	case d.Pause:
		giveBack(m)
	default:
		s.hold(ctx, m)
	}
	return d
}

func (s *consumption) decide(ctx context.Context, delivery domain.Delivery) (d domain.Disposition) {
	defer func() {
		if p := recover(); p != nil {
			s.broker.report(fmt.Errorf("the delivery of message %q panicked: %v\n%s", delivery.MessageID, p, debug.Stack()))
			d = domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonInternal}
		}
	}()
	return s.deliver(ctx, delivery)
}

// identify puts a message into its queue again, with an id.
func (s *consumption) identify(ctx context.Context, m amqp.Delivery, queue string) domain.Disposition {
	named := republishing(m)
	named.MessageId = uuid.NewString()
	if named.Timestamp.IsZero() {
		named.Timestamp = time.Now()
	}
	s.move(ctx, m, queue, named)
	return domain.Disposition{}
}

// move puts the message into another queue, as p. When the broker does not confirm that, the message stays where it is,
// and may be in both.
func (s *consumption) move(ctx context.Context, m amqp.Delivery, queue string, p amqp.Publishing) (done bool) {
	if err := s.broker.publish(context.WithoutCancel(ctx), queue, p); err != nil {
		s.broker.report(fmt.Errorf("message %q is not moved to queue %q: %w", m.MessageId, queue, err))
		s.hold(ctx, m)
		return false
	}
	_ = m.Ack(false)
	return true
}

// hold gives a message back, after a while if it has been given back before.
func (s *consumption) hold(ctx context.Context, m amqp.Delivery) {
	sleep(ctx, patience(m))
	giveBack(m)
}

func giveBack(m amqp.Delivery) {
	_ = m.Nack(false, true) // where it cannot be sent the message comes again anyway
}

// source is a queue that messages are taken from.
type source struct {
	queue    string
	ch       *amqp.Channel
	messages <-chan amqp.Delivery // nil while none are taken
}

// begin takes messages, at most limit that are not acknowledged.
func (s *source) begin(limit int) error {
	if err := s.ch.Qos(min(limit, math.MaxUint16), 0, false); err != nil {
		return translate(err)
	}
	messages, err := s.ch.Consume(s.queue, s.queue, false, false, false, false, nil)
	if err != nil {
		return translate(err)
	}
	s.messages = messages
	return nil
}

// find is begin for a queue of another program, which may not be there. To ask for it costs a channel when it is not.
func (s *source) find(l *link, limit int) error {
	asking, err := l.conn.Channel()
	if err != nil {
		return translate(err)
	}
	if _, err := asking.QueueDeclarePassive(s.queue, true, false, false, false, nil); err != nil {
		if e, ok := errors.AsType[*amqp.Error](err); ok && e.Code == amqp.NotFound {
			return nil
		}
		return translate(err)
	}
	if s.ch == nil || s.ch.IsClosed() {
		s.ch = asking
	} else if err := asking.Close(); err != nil {
		return translate(err)
	}
	return s.begin(limit)
}

// end stops taking messages and gives back those that have come and were not begun.
func (s *source) end(l *link) {
	if s.messages == nil {
		return
	}
	timer := time.AfterFunc(closeTimeout, func() { l.raw.Close() })
	defer timer.Stop()
	_ = s.ch.Cancel(s.queue, false) // where it fails the link is lost, and messages is closed all the same
	for m := range s.messages {
		giveBack(m)
	}
	s.messages = nil
}

// cause returns why no more messages come.
func (s *source) cause(l *link) error {
	select {
	case err := <-l.lost:
		return translateClose(err)
	default:
		return domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "the queue %q was deleted", s.queue)
	}
}
