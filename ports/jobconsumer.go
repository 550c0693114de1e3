package ports

import (
	"context"

	"github.com/jobgate/jobgate/domain"
)

// Deliver decides what one delivery comes to, usually by running the job. Its context ends when the consumer wants
// the run to stop.
type Deliver func(ctx context.Context, d domain.Delivery) domain.Disposition

// JobConsumer delivers the messages of a broker, or the due jobs of a store, to a function.
type JobConsumer interface {
	// Consume calls deliver for each message, several at once up to the consumer's own bound, and carries out each
	// disposition: Ack removes the message, DeadLetter sets it apart with its reason, Return has it delivered again,
	// Pause stops taking more for a while. A panic of deliver is contained: the message is delivered again. A message
	// whose disposition cannot be carried out is delivered again. One that carries a claim is delivered again once that
	// is undone or its lease has run out. A message that cannot be decoded is delivered too, with Err set. One slow
	// delivery delays no other while the bound is not reached.
	//
	// When ctx ends Consume takes no more messages, waits for the running deliveries, whose own context does
	// not end with ctx, gives back what was taken and not begun, and returns nil. It reconnects by itself; it returns
	// an error only for what waiting cannot mend.
	Consume(ctx context.Context, deliver Deliver) error
}
