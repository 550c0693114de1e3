package rabbitmq

import (
	"context"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
)

// maxMessage is the most that is handed over in one message, in bytes: a payload of domain.MaxPayload and plenty around
// it. It is far below what any version takes, which is 16 MiB in 4.x and 128 MiB before.
const maxMessage = 512 << 10

// Dispatcher is a ports.JobDispatcher. A job is confirmed once a majority of the queue's nodes has it on disk.
type Dispatcher struct {
	broker *Broker
	source string
}

// NewDispatcher puts jobs into the broker's queue; source is the producer that the messages name, a URI-reference.
func NewDispatcher(b *Broker, source string) *Dispatcher {
	return &Dispatcher{broker: b, source: source}
}

// Fits implements ports.JobDispatcher.
func (d *Dispatcher) Fits(job domain.Job) error {
	size, err := cloudevent.Size(job, d.source)
	if err != nil {
		return err
	}
	return fits(size)
}

func fits(size int) error {
	if size > maxMessage {
		return domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "the job's message has %d bytes, at most %d can be handed over", size, maxMessage)
	}
	return nil
}

// Dispatch implements ports.JobDispatcher. It takes at most 5 s, and none while there is no connection: then it fails at
// once. Any number of calls wait for their confirms at the same time, of which 256 are in flight.
func (d *Dispatcher) Dispatch(ctx context.Context, job domain.Job) error {
	body, err := cloudevent.Encode(job, d.source)
	if err != nil {
		return err
	}
	if err := fits(len(body)); err != nil {
		return err
	}
	return d.broker.publish(ctx, d.broker.queue, amqp.Publishing{
		ContentType: amqp.MimeApplicationCloudEventsJSON,
		MessageId:   job.ID,
		Type:        job.Name,
		Timestamp:   time.Now(),
		Body:        body,
	})
}
