// Package lambdaevents turns the events that AWS Lambda is invoked with into deliveries of jobs, and what the
// deliveries come to into the answer that Lambda expects.
//
// Messages about jobs come from Amazon SNS and Amazon SQS, the latter with raw delivery from a topic, in a topic's
// envelope, or sent by anybody. Events of EventBridge, S3, DynamoDB streams and Kinesis, which come from there or by way of
// a queue or topic, become jobs by Rules.
package lambdaevents

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jobgate/jobgate/domain"
)

const (
	// defaultParallel is how many records a batch has where nothing else is set.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
	defaultParallel = 10

	// letterTimeout and postponeTimeout bound what is done about one record beside its delivery, which is one call each.
	letterTimeout   = 5 * time.Second
	postponeTimeout = 3 * time.Second

	// maxPostponed is how long a message is kept in its queue at most. SQS would hide one for 12 hours from its receipt
	// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html), but counts it
	// among the 120,000 that may be in flight
	// (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html): what waits for long
	// is the due loop's, which is at most a minute late, or one failing dependency would stop the queue for all.
	maxPostponed = 15 * time.Minute

	// maxReceives is how often a message is received before it is no longer kept: half of what a queue should allow before it
	// takes the message for poison.
	maxReceives = 50
)

// Worker is a lambda.Handler that delivers the records of each event. An invocation ends when all its deliveries have.
type Worker struct {
	// Deliver decides each record, also one that cannot be decoded. It returns the job too where it has ended the job's
	// run, or found it finished; else the zero Job. A panic of it is contained: the record is returned.
	Deliver func(ctx context.Context, d domain.Delivery) (domain.Disposition, domain.Job)

	// Rules are what makes jobs of other sources' events.
	Rules Rules

	// DeadLetter sets a record apart; nil where there is nothing to put it in. It gets each record that is to be
	// dead-lettered, and each that Deliver returns a dead job for. A record that cannot be set apart is returned, so that it
	// is tried again, or the event source's own limit and dead-letter queue get it: a letter is sent at least once. With
	// nil, a dead job's record is done with.
	DeadLetter func(ctx context.Context, letter Letter) error

	// Postpone hides a message of the queue of that ARN until wait has passed; nil where messages are not kept. kept is
	// false when it has not, be it for an error or because the queue is another. It is asked for a job that is to be
	// retried: the store has its due time, and this brings it back to the second. A message that is not kept is done with.
	Postpone func(ctx context.Context, queueARN, receipt string, wait time.Duration) (kept bool, err error)

	// Parallel is how many records of one batch are delivered at once; 0 means 10. FIFO queues and streams are delivered
	// in order.
	Parallel int

	// Log is told of each delivery that ended; nil for no log. It is called concurrently.
	Log func(ctx context.Context, outcome Outcome)
}

// A Letter is a record to set apart.
type Letter struct {
	Body      []byte // of the message, as it came; of a record of another source, an event with this record alone
	MessageID string
	Source    string // ARN of the queue, topic, stream or bucket; of an EventBridge event its source
	Reason    domain.Reason
	Detail    string // for a person; may be empty
	JobID     string // of the job that it is about; empty when nothing is known of one
	JobName   string // with a dead job
}

// An Outcome is what became of one record. It holds nothing of the record's body.
type Outcome struct {
	MessageID   string
	JobID       string // empty when the record cannot be decoded
	Source      string // as in a Letter
	Disposition domain.Disposition
	Err         error // why it cannot be decoded, set apart or postponed; or the panic of its delivery, with the stack
}

// Invoke implements lambda.Handler.
//
// An event of SQS is answered with the ids of the messages that are to be delivered again. On a FIFO queue that is
// the first of them and all that follow it, which are not delivered now
// (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html). An event of a stream is answered with the
// first record to be delivered again, and all that follow it are, too
// (https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html). Any other event has no such
// answer: it fails as a whole when one of its records is to be delivered again, and Lambda retries it. The error holds
// nothing of an event but its source and ids.
func (w *Worker) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	b := w.Rules.read(payload)
	if b.ordered() {
		return b.answer(w.inOrder(ctx, b.records))
	}
	return b.answer(w.sideBySide(ctx, b.records))
}

// inOrder delivers one record after the other, and returns the first that is not done with and all after it.
func (w *Worker) inOrder(ctx context.Context, records []record) (again []record) {
	for i, r := range records {
		if !w.handle(ctx, r) {
			return records[i:]
		}
	}
	return nil
}

// sideBySide delivers the records at once, up to the bound, and returns those that are not done with.
func (w *Worker) sideBySide(ctx context.Context, records []record) (again []record) {
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
			again = append(again, r)
		}
	}
	return again
}

// handle delivers one record and carries out what that comes to. It reports whether the source is done with it.
func (w *Worker) handle(ctx context.Context, r record) (done bool) {
	done = true
	for _, p := range r.parts {
		outcome, kept := w.deliver(ctx, r, p)
		if w.Log != nil {
			w.Log(ctx, outcome)
		}
		if kept || outcome.Disposition.Verdict == domain.Return {
			done = false
		}
	}
	return done
}

var errNoDeadLetter = errors.New("there is nowhere to set a record apart")

func (w *Worker) deliver(ctx context.Context, r record, p part) (outcome Outcome, kept bool) {
	outcome = Outcome{MessageID: p.delivery.MessageID, JobID: p.delivery.JobID, Source: r.arn, Err: p.delivery.Err}
	if p.delivery.Foreign != nil {
		outcome.JobID = p.delivery.Foreign.ID
	}
	defer func() {
		if p := recover(); p != nil {
			outcome.Disposition = domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonInternal}
			outcome.Err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			kept = false
		}
	}()
	disposition, job := w.Deliver(ctx, p.delivery)
	if disposition.Verdict == domain.DeadLetter && p.delivery.Err != nil {
		disposition.Reason = domain.ReasonOf(p.delivery.Err)
	}
	outcome.Disposition = disposition
	var err error
	switch {
	case disposition.Verdict == domain.DeadLetter:
		if err = w.setApart(ctx, r, p, outcome, domain.Job{}); err != nil {
			outcome.Disposition.Verdict = domain.Return
		}
	case disposition.Verdict == domain.Ack && job.Status == domain.Dead && w.DeadLetter != nil:
		if err = w.setApart(ctx, r, p, outcome, job); err != nil {
			outcome.Disposition.Verdict = domain.Return
		}
	case disposition.Verdict == domain.Ack && job.Status == domain.Queued && len(r.parts) == 1:
		kept, err = w.postpone(ctx, r, job.DueAt)
	}
	outcome.Err = errors.Join(outcome.Err, err)
	return outcome, kept
}

// setApart sends the letter about a record, and about the job that died, if one has.
func (w *Worker) setApart(ctx context.Context, r record, p part, outcome Outcome, job domain.Job) error {
	if w.DeadLetter == nil {
		return fmt.Errorf("dead letter: %w", errNoDeadLetter)
	}
	letter := Letter{
		Body: p.letter, MessageID: outcome.MessageID, Source: r.arn, Reason: outcome.Disposition.Reason, JobID: outcome.JobID, JobName: job.Name,
	}
	if job.Reason != "" {
		letter.Reason = job.Reason
	}
	if p.delivery.Err != nil {
		letter.Detail = p.delivery.Err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, letterTimeout)
	defer cancel()
	if err := w.DeadLetter(ctx, letter); err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	return nil
}

// postpone keeps the message of a job that is due again then, where that is of use: a FIFO queue would keep back what is
// behind it.
func (w *Worker) postpone(ctx context.Context, r record, due time.Time) (kept bool, err error) {
	wait := max(0, time.Until(due))
	if w.Postpone == nil || r.receipt == "" || r.fifo() || r.receives >= maxReceives || wait > maxPostponed {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, postponeTimeout)
	defer cancel()
	if kept, err = w.Postpone(ctx, r.arn, r.receipt, wait); err != nil {
		return false, fmt.Errorf("postpone: %w", err)
	}
	return kept, nil
}
