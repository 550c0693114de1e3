package domain

import "time"

// A Delivery is one message about a job, as a consumer decoded it.
type Delivery struct {
	MessageID string    // the broker's own id, for logs only: duplicates are recognised by the job's id
	SentAt    time.Time // when the message was first sent; zero when the broker does not say
	JobID     string    // the job that the message is about
	Foreign   *JobSpec  // set when the message is not one of ours: the job it stands for, to be stored first
	Err       error     // set when the message cannot be decoded; the other members but MessageID and SentAt mean nothing

	// Claimed is set when the consumer claimed the job as it took it: the job as stored since, leased to this very
	// delivery or settled by the claim. Whoever returns the delivery without a run undoes the claim first, by
	// Job.Unclaim; the job waits for the end of its lease otherwise.
	Claimed *Job
}

// Verdict is what a consumer does with a message.
type Verdict int

// The verdicts. The zero Verdict is Return: a message nobody decided about is never lost.
const (
	Return     Verdict = iota // give it back: it is delivered again
	Ack                       // done with: the store says the rest
	DeadLetter                // set it apart, with its reason, for a person to look at
)

func (v Verdict) String() string {
	switch v {
	case Ack:
		return "ack"
	case DeadLetter:
		return "dead-letter"
	default:
		return "return"
	}
}

// A Disposition is what a delivery comes to: decided in one place, carried out by each adapter.
type Disposition struct {
	Verdict Verdict
	Reason  Reason        // why it was returned or dead-lettered
	After   time.Duration // with Return: the least time until the next delivery; an optimisation a broker may ignore
	Pause   bool          // with Return: stop consuming for a while, the fault is not this message's
}

// RecordWait is how long a message of ours whose job is not in the store is retried: the store may be behind.
const RecordWait = time.Hour

// DisposeUnclaimed decides a delivery whose job could not be claimed because of err.
func DisposeUnclaimed(err error, d Delivery, now time.Time) Disposition {
	switch KindOf(err) {
	case Conflict: // finished, leased elsewhere or not due: the store's schedule has it
		return Disposition{Verdict: Ack, Reason: ReasonOf(err)}
	case NotFound:
		if !d.SentAt.IsZero() && now.Sub(d.SentAt) >= RecordWait {
			return Disposition{Verdict: DeadLetter, Reason: ReasonRecordMissing}
		}
		return Disposition{Verdict: Return, Reason: ReasonRecordMissing, After: time.Minute}
	case Invalid, TooLarge:
		return Disposition{Verdict: DeadLetter, Reason: ReasonOf(err)}
	default:
		return Disposition{Verdict: Return, Reason: ReasonUnavailable, Pause: true}
	}
}
