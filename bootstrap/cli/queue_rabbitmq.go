package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/bootstrap/cli/api"
)

// amqpBox is a queue of RabbitMQ. What its connection has taken and not acknowledged is not delivered to it again.
type amqpBox struct {
	raw     net.Conn
	conn    *amqp.Connection
	taking  *amqp.Channel
	sending *amqp.Channel
	returns chan amqp.Return // messages that the broker had no queue for
	queue   string
	to      string
	held    int
}

var errBrokerURL = misuse(errors.New("BROKER_URL has to be the amqp:// or amqps:// URL of the RabbitMQ that has the queue"))

func openAMQP(ctx context.Context, url string, q queueFlags) (*amqpBox, error) {
	if _, err := amqp.ParseURI(url); err != nil {
		return nil, errBrokerURL // which has a password in it, and a parser's error may quote it
	}
	b := &amqpBox{queue: q.queue, to: q.to}
	if err := b.connect(ctx, url); err != nil {
		return nil, amqpFailure("connect", err)
	}
	if err := b.within(ctx, b.prepare); err != nil {
		return nil, errors.Join(amqpFailure("open the queue", err), b.hangUp(ctx))
	}
	return b, nil
}

func (b *amqpBox) connect(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, queueCall)
	defer cancel()
	stop := func() bool { return true }
	properties := amqp.NewConnectionProperties()
	properties.SetClientConnectionName("jobgate redrive")
	conn, err := amqp.DialConfig(url, amqp.Config{
		Properties: properties,
		Dial: func(network, addr string) (net.Conn, error) {
			raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				b.raw = raw
				stop = context.AfterFunc(ctx, func() { raw.Close() }) // the handshakes of TLS and AMQP heed no context
			}
			return raw, err
		},
	})
	stop()
	if err != nil && b.raw != nil {
		b.raw.Close()
	}
	b.conn = conn
	return err
}

// prepare finds the queues, so that one that is not there is told before anything is done.
func (b *amqpBox) prepare(context.Context) (err error) {
	if b.taking, err = b.conn.Channel(); err != nil {
		return err
	}
	// Its count of messages lags behind, so that only the end of the queue says that it is empty.
	if _, err = b.taking.QueueDeclarePassive(b.queue, true, false, false, false, nil); err != nil || b.to == "" {
		return err
	}
	if b.sending, err = b.conn.Channel(); err != nil {
		return err
	}
	if _, err = b.sending.QueueDeclarePassive(b.to, true, false, false, false, nil); err != nil {
		return err
	}
	b.returns = b.sending.NotifyReturn(make(chan amqp.Return, 1))
	return b.sending.Confirm(false)
}

// within calls f, and ends the connection when f has not returned by the end of ctx or queueCall: what waits for an answer
// of the broker heeds no context.
func (b *amqpBox) within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, queueCall)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { b.raw.Close() })
	defer stop()
	err := f(ctx)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (b *amqpBox) take(ctx context.Context, _ int) ([]letter, error) {
	var letters []letter
	err := b.within(context.WithoutCancel(ctx), func(context.Context) error {
		m, ok, err := b.taking.Get(b.queue, false)
		if err != nil || !ok {
			return err
		}
		b.held++
		letters = []letter{b.letter(m)}
		return nil
	})
	return letters, amqpFailure("take a message", err)
}

// The headers of letters, those of ours and those of the broker.
const (
	headerQueue      = "jobgate-queue"
	headerReason     = "jobgate-reason"
	headerDeathQueue = "x-first-death-queue"
	headerDeath      = "x-first-death-reason"
)

func (b *amqpBox) letter(m amqp.Delivery) letter {
	text := func(name string) string { s, _ := m.Headers[name].(string); return s }
	origin := cmp.Or(text(headerQueue), text(headerDeathQueue))
	return letter{
		id: m.MessageId, job: jobOf(m.Body, cloudevent.Origin{Kind: "rabbitmq", Source: origin, MessageID: m.MessageId}),
		reason: cmp.Or(text(headerReason), text(headerDeath)),
		move:   func(ctx context.Context) error { return b.move(ctx, m, origin) },
		remove: func(ctx context.Context) error {
			err := b.within(ctx, func(context.Context) error { return m.Ack(false) })
			if err == nil {
				b.held--
			}
			return amqpFailure("acknowledge it, which the next call does", err)
		},
	}
}

// move sends the message as it was sent first, without what the broker added, what would send it elsewhere too, its time to
// live, and the user's name, which the broker would hold against ours. Where it came from first stays with it: it is a part
// of the identity of a bare message.
func (b *amqpBox) move(ctx context.Context, m amqp.Delivery, origin string) error {
	headers := maps.Clone(m.Headers)
	maps.DeleteFunc(headers, func(name string, _ any) bool {
		return name == "CC" || name == "BCC" || name == "x-delivery-count" || name == "x-acquired-count" ||
			strings.HasPrefix(name, "x-death") || strings.HasPrefix(name, "x-first-death-") || strings.HasPrefix(name, "x-last-death-")
	})
	if origin != "" {
		headers[headerQueue] = origin // it is of a header, so that there is a table
	}
	message := amqp.Publishing{
		Headers: headers, ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, Priority: m.Priority,
		CorrelationId: m.CorrelationId, ReplyTo: m.ReplyTo, MessageId: m.MessageId, Timestamp: m.Timestamp, Type: m.Type,
		AppId: m.AppId, Body: m.Body, DeliveryMode: amqp.Persistent,
	}
	return amqpFailure("send it to the queue of --to", b.within(ctx, func(ctx context.Context) error {
		confirm, err := b.sending.PublishWithDeferredConfirm("", b.to, true, false, message)
		if err != nil {
			return err
		}
		acked, err := confirm.WaitContext(ctx)
		if err != nil {
			return err
		}
		select {
		case <-b.returns: // which comes before the confirm, or is closed with the channel
			return errors.New("there is no such queue any more")
		default:
		}
		if !acked {
			return errors.New("the broker did not take it")
		}
		return nil
	}))
}

func (b *amqpBox) close(ctx context.Context) error {
	var err error
	if b.held > 0 && !b.conn.IsClosed() { // or the broker has them back already
		err = b.within(ctx, func(context.Context) error { return b.taking.Nack(0, true, true) })
	}
	return errors.Join(amqpFailure("give the messages back, which the end of the connection does", err), b.hangUp(ctx))
}

// hangUp waits for the broker to have read all that was sent to it.
func (b *amqpBox) hangUp(ctx context.Context) error {
	defer b.raw.Close()
	err := b.within(ctx, func(context.Context) error { return b.conn.Close() })
	if errors.Is(err, amqp.ErrClosed) {
		return nil // which whoever noticed it has said
	}
	return amqpFailure("close the connection: messages that were acknowledged last may come again", err)
}

// amqpFailure gives an error of RabbitMQ its status (https://www.rabbitmq.com/amqp-0-9-1-reference#constants).
func amqpFailure(what string, err error) error {
	if err == nil {
		return nil
	}
	f := &failure{status: exitUnavailable, err: fmt.Errorf("RabbitMQ: could not %s: %s", what, api.Printable(cut(err.Error(), 300)))}
	if e, ok := errors.AsType[*amqp.Error](err); ok {
		switch e.Code {
		case amqp.NotFound, amqp.PreconditionFailed, amqp.NotAllowed:
			f.status, f.next = exitUsage, "compare the name with the queues of the virtual host that BROKER_URL ends with"
		case amqp.AccessRefused:
			f.status, f.next = exitForbidden, "see that the user of BROKER_URL has its password right, and may read that queue and write to that of --to"
		}
	}
	return f
}
