// Package rabbitmq hands jobs over to RabbitMQ and delivers them from it. It needs version 3.10 or later.
//
// Three quorum queues belong together, and are declared by whoever connects first:
//
//   - jobgate.jobs, or another name, has the jobs that are due;
//   - jobgate.jobs.wait has returned messages for a minute, after which the broker puts them back;
//   - jobgate.jobs.dead has what was set apart, for a person to look at. Nothing of ours takes anything from it.
//
// All three go by the default exchange, which nobody can delete or bind wrongly. Messages from one to the next are moved by
// the broker at least once, which takes the overflow behaviour reject-publish
// (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering).
package rabbitmq

import (
	"context"
	"crypto/tls"
	"net/url"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/domain"
)

// DefaultQueue is the queue of jobs where no other is named.
const DefaultQueue = "jobgate.jobs"

// MaxRunTimeout is the longest run timeout for jobs that come by RabbitMQ. A message that is not acknowledged within 30
// minutes is given to another worker, and the channel of the first is closed
// (https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout). The store's lease keeps such a job from being run
// twice at once, but the other messages of that channel are delivered again for nothing.
const MaxRunTimeout = 25 * time.Minute

const (
	// publishTimeout bounds one message from its hand-over to the broker's confirm. A healthy one takes some
	// milliseconds, and a client of the REST API is waiting.
	publishTimeout = 5 * time.Second

	// maxInFlight bounds the messages that are published and not confirmed, and with them memory: 256 of the largest
	// are 128 MiB.
	maxInFlight = 256
)

// Options are the settings of a Broker. The zero Options are its defaults.
type Options struct {
	Queue string      // of jobs; empty for DefaultQueue
	TLS   *tls.Config // of an amqps URL; nil for the system's roots, the URL's own parameters, and TLS 1.2 or later

	// Report is told of what no caller learns: a connection that was lost or refused, a message that could not be put
	// where it belongs. It is called from several goroutines and must not block. May be nil.
	Report func(error)
}

// Broker is a RabbitMQ, or a cluster of them behind one address. It keeps one connection for publishing, which
// it makes again whenever it is lost. Each Consumer has a connection of its own: a broker that is short of
// memory stops reading from the connections that publish to it, and acknowledgements have to get through then.
type Broker struct {
	url    string
	queue  string
	tls    *tls.Config
	report func(error)
	timing timing

	state    state
	inFlight chan struct{}
	stop     context.CancelFunc
	kept     chan struct{} // closed once the connection's goroutine has ended
}

// timing is what tests shorten.
type timing struct {
	wait time.Duration // that a message stays in the queue for waiting
	look time.Duration // between two looks for a queue that is not there
}

// Open returns the broker at the amqp:// or amqps:// URL and begins to connect. It waits for nothing, so that a program
// may start before its broker: see Ready. Invalid when the URL is none. Close ends it.
func Open(rawURL string, opts Options) (*Broker, error) {
	return open(rawURL, opts, timing{wait: time.Minute, look: 30 * time.Second})
}

func open(rawURL string, opts Options, timing timing) (*Broker, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errURL // which has a password in it, and a parser's error quotes it
	}
	q := u.Query()
	q.Set("heartbeat", heartbeatSeconds) // ours: silence is measured by it
	u.RawQuery = q.Encode()
	if _, err := amqp.ParseURI(u.String()); err != nil {
		return nil, errURL
	}
	b := &Broker{
		url: u.String(), queue: opts.Queue, tls: opts.TLS, report: opts.Report, timing: timing,
		inFlight: make(chan struct{}, maxInFlight), kept: make(chan struct{}),
	}
	if b.queue == "" {
		b.queue = DefaultQueue
	}
	if len(b.queue) > 200 || strings.HasPrefix(b.queue, "amq.") { // 255 with our endings; amq. is the broker's own
		return nil, domain.Errorf(domain.Invalid, domain.ReasonInvalidFields, "%.50q... is no name for a queue", b.queue)
	}
	if b.report == nil {
		b.report = func(error) {}
	}
	b.state.lose(errNotYet)
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	go b.keep(ctx)
	return b, nil
}

func (b *Broker) waitQueue() string { return b.queue + ".wait" }
func (b *Broker) deadQueue() string { return b.queue + ".dead" }

// Close gives up what is not confirmed yet, which fails as Unavailable, and returns once the connection is closed. Consumers
// are to have ended before.
func (b *Broker) Close() {
	b.stop()
	<-b.kept
}

// Ready returns nil when the broker takes jobs. While a connection is being made it waits for the outcome, and then for
// the next, until ctx ends or the broker refuses this program, which is Internal. A broker that is silent is noticed
// after 15 s.
func (b *Broker) Ready(ctx context.Context) error {
	return b.state.ready(ctx)
}

// keep makes the connection again and again until ctx ends.
func (b *Broker) keep(ctx context.Context) {
	defer close(b.kept)
	retry := newRetry()
	for {
		l, err := b.dial(ctx, "jobgate publisher")
		if err == nil {
			err = l.forPublishing()
		}
		if err == nil {
			b.state.gain(l)
			err = l.watch(ctx)
		}
		if ctx.Err() != nil {
			err = errClosed
		}
		b.state.lose(err)
		l.close()
		b.state.published.Wait()
		if ctx.Err() != nil {
			return
		}
		b.report(err)
		sleep(ctx, retry.next())
	}
}

// publish has the message put into the queue by the broker and waits for its confirm. While there is no connection it fails
// at once.
func (b *Broker) publish(ctx context.Context, queue string, m amqp.Publishing) error {
	if ctx.Err() != nil {
		return translate(ctx.Err())
	}
	timer := time.NewTimer(publishTimeout)
	defer timer.Stop()
	select {
	case b.inFlight <- struct{}{}:
	case <-ctx.Done():
		return translate(ctx.Err())
	case <-timer.C:
		return errUnconfirmed
	}
	l, err := b.state.begin()
	if err != nil {
		<-b.inFlight
		return err
	}
	confirm, err := l.publish(queue, m)
	if err != nil {
		b.ended()
		return err
	}
	where := address{queue, m.MessageId}
	select {
	case <-confirm.Done():
		defer b.ended()
		return l.outcome(where, confirm)
	case <-ctx.Done():
		err = translate(ctx.Err())
	case <-timer.C:
		err = errUnconfirmed
	}
	// The message is in flight still. The goroutine ends with the connection at the latest.
	go func() {
		defer b.ended()
		l.abandon(where, confirm)
	}()
	return err
}

// ended is called when a message that was published is not in flight any more.
func (b *Broker) ended() {
	<-b.inFlight
	b.state.published.Done()
}

// state is the connection that is there, or why there is none.
type state struct {
	mu        sync.Mutex
	link      *link
	err       error
	changed   chan struct{}
	published sync.WaitGroup // what has begun and not ended
}

func (s *state) gain(l *link)   { s.change(l, nil) }
func (s *state) lose(err error) { s.change(nil, err) }

func (s *state) change(l *link, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
	}
	s.link, s.err, s.changed = l, err, make(chan struct{})
}

// begin returns the connection that is there, and counts what is published with it.
func (s *state) begin() (*link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return nil, s.err
	}
	s.published.Add(1)
	return s.link, nil
}

func (s *state) ready(ctx context.Context) error {
	for {
		s.mu.Lock()
		l, err, changed := s.link, s.err, s.changed
		s.mu.Unlock()
		switch {
		case l != nil && l.blocked.Load():
			return errBlocked
		case l != nil:
			return nil
		case domain.KindOf(err) == domain.Internal:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return err
		}
	}
}
