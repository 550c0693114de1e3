// Package lambdaevents turns the events that AWS Lambda is invoked with into deliveries of jobs, and what the
// deliveries come to into the answer that Lambda expects: records of Amazon SNS and Amazon SQS, the latter with raw
// delivery from a topic, in a topic's envelope, or sent by anybody.
package lambdaevents

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

const (
	// defaultParallel is how many records a batch has where nothing else is set.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
	defaultParallel = 10

	// letterTimeout bounds the setting apart of one record, which is one message sent.
	letterTimeout = 5 * time.Second
)

// Worker is a lambda.Handler that delivers the records of each event. An invocation ends when all its deliveries have.
type Worker struct {
	// Deliver decides each record, also one that cannot be decoded. A panic of it is contained: the record is returned.
	Deliver ports.Deliver

	// DeadLetter sets a record apart; nil where there is nothing to put it in. A record that is to be dead-lettered and
	// cannot be is returned, so that the event source's own limit and dead-letter queue get it.
	DeadLetter func(ctx context.Context, letter Letter) error

	// Parallel is how many records of one batch are delivered at once; 0 means 10. FIFO queues are delivered in order.
	Parallel int

	// Log is told of each delivery that ended; nil for no log. It is called concurrently.
	Log func(ctx context.Context, outcome Outcome)
}

// A Letter is a record to set apart.
type Letter struct {
	Body      []byte // of the message, as it came
	MessageID string
	Source    string // ARN of the queue or topic
	Reason    domain.Reason
}

// An Outcome is what became of one record. It holds nothing of the record's body.
type Outcome struct {
	MessageID   string
	JobID       string // empty when the record cannot be decoded
	Source      string // ARN of the queue or topic
	Disposition domain.Disposition
	Err         error // why it cannot be decoded or set apart; or the panic of its delivery, with the stack
}

// Invoke implements lambda.Handler.
//
// An event of SQS is answered with the ids of the messages that are to be delivered again. On a FIFO queue that is
// the first of them and all that follow it, which are not delivered now
// (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html). An event of SNS has no such answer:
// it fails as a whole when one of its records is to be delivered again, and Lambda retries it.
//
// Anything else is an error that names the source of the event, and holds nothing else of it.
func (w *Worker) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	batch, err := parse(payload)
	if err != nil {
		return nil, err
	}
	var returned []record
	if batch.ordered() {
		returned = w.inOrder(ctx, batch.records)
	} else {
		returned = w.sideBySide(ctx, batch.records)
	}
	if batch.source == sourceSQS {
		return answer(returned)
	}
	if len(returned) > 0 {
		var ids []string
		for _, r := range returned {
			ids = append(ids, r.delivery.MessageID)
		}
		return nil, fmt.Errorf("lambdaevents: %d of %d records of %s are to be delivered again: %s",
			len(returned), len(batch.records), batch.source, strings.Join(ids, ", "))
	}
	return []byte("null"), nil
}

// inOrder delivers one record after the other, and returns the first that is not done with and all after it.
func (w *Worker) inOrder(ctx context.Context, records []record) (returned []record) {
	for i, r := range records {
		if !w.handle(ctx, r) {
			return records[i:]
		}
	}
	return nil
}

// sideBySide delivers the records at once, up to the bound, and returns those that are not done with.
func (w *Worker) sideBySide(ctx context.Context, records []record) (returned []record) {
	parallel := w.Parallel
	if parallel <= 0 {
		parallel = defaultParallel
	}
	done := make([]bool, len(records))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, r := range records {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			done[i] = w.handle(ctx, r)
		})
	}
	wg.Wait()
	for i, r := range records {
		if !done[i] {
			returned = append(returned, r)
		}
	}
	return returned
}

// handle delivers one record and carries out what that comes to. It reports whether the record is done with.
func (w *Worker) handle(ctx context.Context, r record) (done bool) {
	outcome := w.deliver(ctx, r)
	if w.Log != nil {
		w.Log(ctx, outcome)
	}
	return outcome.Disposition.Verdict != domain.Return
}

var errNoDeadLetter = errors.New("there is nowhere to set a record apart")

func (w *Worker) deliver(ctx context.Context, r record) (outcome Outcome) {
	outcome = Outcome{MessageID: r.delivery.MessageID, JobID: r.delivery.JobID, Source: r.arn, Err: r.delivery.Err}
	if r.delivery.Foreign != nil {
		outcome.JobID = r.delivery.Foreign.ID
	}
	defer func() {
		if p := recover(); p != nil {
			outcome.Disposition = domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonInternal}
			outcome.Err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	outcome.Disposition = w.Deliver(ctx, r.delivery)
	if outcome.Disposition.Verdict != domain.DeadLetter {
		return outcome
	}
	err := errNoDeadLetter
	if w.DeadLetter != nil {
		ctx, cancel := context.WithTimeout(ctx, letterTimeout)
		defer cancel()
		err = w.DeadLetter(ctx, Letter{
			Body: []byte(r.body), MessageID: r.delivery.MessageID, Source: r.arn, Reason: outcome.Disposition.Reason,
		})
	}
	if err != nil {
		outcome.Disposition.Verdict = domain.Return
		outcome.Err = errors.Join(outcome.Err, fmt.Errorf("dead letter: %w", err))
	}
	return outcome
}
