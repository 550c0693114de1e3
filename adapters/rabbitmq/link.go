package rabbitmq

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	// Both sides send something at least every half heartbeat, so that three halves of silence are a lost connection
	// (https://www.rabbitmq.com/docs/heartbeats).
	heartbeatSeconds = "10"
	maxSilence       = 15 * time.Second

	dialTimeout  = 5 * time.Second  // to connect and log in
	setUpTimeout = 15 * time.Second // to declare queues and to begin consuming, where the nodes of a cluster have to agree
	writeTimeout = 5 * time.Second  // of one write; a broker that reads nothing for so long is as good as gone
	closeTimeout = 2 * time.Second  // for the broker to agree to the end of a connection

	// confirmTimeout is when a confirm is given up for lost, and the link with it, long after the caller has gone.
	confirmTimeout = 30 * time.Second
)

// deliveryLimit is how often the broker delivers one message before it sets it apart by itself: a backstop, which is to
// be well above 3 deliveries for each of domain.MaxAttempts. It is no setting, for a queue cannot be declared again
// with another.
const deliveryLimit = 1000

// link is one connection with one channel of its own. It never comes back: a lost one is closed, and another made.
type link struct {
	conn *amqp.Connection
	raw  net.Conn
	ch   *amqp.Channel
	lost chan *amqp.Error // why the channel or the connection was closed

	// Of a link for publishing.
	blocks  chan amqp.Blocking
	blocked atomic.Bool // the broker takes no messages at the moment
	broken  chan error  // why the link is of no more use

	mu         sync.Mutex
	returns    chan amqp.Return
	unroutable map[address]int
}

// address is where a message was to go. Messages of one address in flight at once are the same message twice.
type address struct{ queue, messageID string }

// dial connects and declares our queues. name is what operators see of the connection. A link is returned with an error
// too, to be closed, but nil when there was no connection.
func (b *Broker) dial(ctx context.Context, name string) (*link, error) {
	l := &link{lost: make(chan *amqp.Error, 1)}
	if err := l.connect(ctx, b, name); err != nil {
		l.close()
		return nil, translate(err)
	}
	err := l.within(ctx, func() error {
		ch, err := l.conn.Channel()
		if err != nil {
			return translate(err)
		}
		l.ch, l.lost = ch, ch.NotifyClose(l.lost)
		return b.declare(ch)
	})
	return l, err
}

// within calls f, and ends the link when f has not returned by the end of ctx or setUpTimeout: what waits for an answer of
// the broker heeds no context.
func (l *link) within(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, setUpTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.raw.Close() })
	defer stop()
	return f()
}

func (l *link) connect(ctx context.Context, b *Broker, name string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName(name)
	stop := func() bool { return true }
	conn, err := amqp.DialConfig(b.url, amqp.Config{
		Properties: properties, TLSClientConfig: b.tls.Clone(),
		Dial: func(network, addr string) (net.Conn, error) {
			raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			l.raw = gather(impatientConn{raw})
			stop = context.AfterFunc(ctx, func() { l.raw.Close() }) // the handshakes of TLS and AMQP heed no context
			return l.raw, nil
		},
	})
	stop()
	if err != nil {
		return err
	}
	l.conn = conn
	return nil
}

// declare creates our queues where they are not there.
func (b *Broker) declare(ch *amqp.Channel) error {
	for _, queue := range []struct {
		name string
		args amqp.Table
	}{
		// Somebody who looks at a letter and puts it back is a delivery too, of which newer versions allow 20 by default.
		{b.deadQueue(), amqp.Table{"x-delivery-limit": 1_000_000}},
		{b.waitQueue(), movingTo(b.queue, amqp.Table{"x-message-ttl": b.timing.wait.Milliseconds()})},
		{b.queue, movingTo(b.deadQueue(), amqp.Table{"x-delivery-limit": deliveryLimit})},
	} {
		queue.args["x-queue-type"] = "quorum"
		if _, err := ch.QueueDeclare(queue.name, true, false, false, false, queue.args); err != nil {
			return translateDeclare(err, queue.name)
		}
	}
	return nil
}

// movingTo has what is to leave a queue put into another, and loses none of it.
func movingTo(queue string, args amqp.Table) amqp.Table {
	args["x-dead-letter-exchange"] = ""
	args["x-dead-letter-routing-key"] = queue
	args["x-dead-letter-strategy"] = "at-least-once"
	args["x-overflow"] = "reject-publish"
	return args
}

// close ends the link, with the broker's consent if it is quick.
func (l *link) close() {
	if l == nil || l.raw == nil {
		return
	}
	if l.conn != nil {
		timer := time.AfterFunc(closeTimeout, func() { l.raw.Close() })
		defer timer.Stop()
		_ = l.conn.Close() // that it was lost has been said
	}
	l.raw.Close()
}

// forPublishing prepares the link for publish and watch.
func (l *link) forPublishing() error {
	l.blocks = l.conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	l.returns = l.ch.NotifyReturn(make(chan amqp.Return, maxInFlight))
	l.unroutable = map[address]int{}
	l.broken = make(chan error, 1)
	return translate(l.ch.Confirm(false))
}

// watch returns why the link can be used no more.
func (l *link) watch(ctx context.Context) error {
	blocks := l.blocks
	for {
		select {
		case <-ctx.Done():
			return translate(ctx.Err())
		case err := <-l.broken:
			return err
		case err := <-l.lost:
			return translateClose(err)
		case b, ok := <-blocks:
			if !ok {
				blocks = nil
			}
			l.blocked.Store(b.Active)
		}
	}
}

// publish hands one message over, to be put into a queue. It waits for nothing.
func (l *link) publish(queue string, m amqp.Publishing) (*amqp.DeferredConfirmation, error) {
	if l.blocked.Load() {
		return nil, errBlocked
	}
	m.DeliveryMode = amqp.Persistent
	confirm, err := l.ch.PublishWithDeferredConfirm("", queue, true, false, m)
	return confirm, translate(err)
}

// outcome returns what became of a message, once its confirm is there or the link has ended.
func (l *link) outcome(a address, confirm *amqp.DeferredConfirmation) error {
	switch {
	case l.returned(a):
		// A queue of ours was deleted. A new link declares it again; what else is in flight goes nowhere either.
		l.breakOff(errUnroutable)
		return errUnroutable
	case confirm.Acked():
		return nil
	case l.ch.IsClosed():
		return errLost
	default:
		return errRefused
	}
}

// abandon is for a confirm that nobody waits for any more. It returns when it is there, or the link ends.
func (l *link) abandon(a address, confirm *amqp.DeferredConfirmation) {
	timer := time.NewTimer(confirmTimeout)
	defer timer.Stop()
	select {
	case <-confirm.Done():
		_ = l.outcome(a, confirm) // it may end the link
	case <-timer.C:
		l.breakOff(errLost)
	}
}

// breakOff ends watch.
func (l *link) breakOff(why error) {
	select {
	case l.broken <- why:
	default: // it ends already
	}
}

// returned reports whether the broker found no queue for the message, which it says before it confirms it.
func (l *link) returned(a address) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for more := true; more; {
		select {
		case r, ok := <-l.returns:
			if more = ok; ok {
				l.unroutable[address{r.RoutingKey, r.MessageId}]++
			}
		default:
			more = false
		}
	}
	if l.unroutable[a] == 0 {
		return false
	}
	if l.unroutable[a]--; l.unroutable[a] == 0 {
		delete(l.unroutable, a)
	}
	return true
}
