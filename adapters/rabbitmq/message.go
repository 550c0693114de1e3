package rabbitmq

import (
	"maps"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
)

const (
	headerQueue  = "jobgate-queue"  // where a message that was moved came from
	headerReason = "jobgate-reason" // why a message was set apart
)

// decode reads a message that came by a queue. Where it came from at first belongs to the identity of a foreign message.
func decode(m amqp.Delivery, queue string) domain.Delivery {
	return cloudevent.Decode(m.Body, cloudevent.Origin{Kind: "rabbitmq", Source: origin(m, queue), MessageID: m.MessageId, SentAt: m.Timestamp})
}

// isAnonymous reports whether the message is a bare one without an id, which has no identity to know it by when it is
// delivered again.
func isAnonymous(m amqp.Delivery, queue string) bool {
	if m.MessageId != "" {
		return false
	}
	m.MessageId = "any"
	return decode(m, queue).Foreign != nil
}

func origin(m amqp.Delivery, queue string) string {
	if from, ok := m.Headers[headerQueue].(string); ok && from != "" {
		return from
	}
	return queue
}

// republishing returns the message as it was sent. What the broker added to it, and what would send it elsewhere too, is
// left out; and the user's name, which the broker would hold against ours.
func republishing(m amqp.Delivery) amqp.Publishing {
	headers := maps.Clone(m.Headers)
	maps.DeleteFunc(headers, func(name string, _ any) bool {
		return name == "CC" || name == "BCC" || name == deliveryCount || name == "x-acquired-count" ||
			strings.HasPrefix(name, "x-death") || strings.HasPrefix(name, "x-first-death-") || strings.HasPrefix(name, "x-last-death-")
	})
	return amqp.Publishing{
		Headers: headers, ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, Priority: m.Priority,
		CorrelationId: m.CorrelationId, ReplyTo: m.ReplyTo, Expiration: m.Expiration, MessageId: m.MessageId,
		Timestamp: m.Timestamp, Type: m.Type, AppId: m.AppId, Body: m.Body,
	}
}

// moved returns the message for another queue of ours, which it does not leave by expiring.
func moved(m amqp.Delivery, queue string) amqp.Publishing {
	p := republishing(m)
	p.Expiration = ""
	if p.Headers == nil {
		p.Headers = amqp.Table{}
	}
	p.Headers[headerQueue] = origin(m, queue)
	return p
}

const deliveryCount = "x-delivery-count"

// patience is how long a message that is to be delivered again is held before: not at all at first, then doubling with
// each time to half a minute, so that one that fails at once is no load and is not set apart by the broker's limit
// within hours.
func patience(m amqp.Delivery) time.Duration {
	count, ok := m.Headers[deliveryCount].(int64)
	if !ok && m.Redelivered { // classic queues do not count
		count = 7
	}
	if count <= 0 {
		return 0
	}
	return min(10*time.Millisecond<<min(count, 12), 30*time.Second)
}
