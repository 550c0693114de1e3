package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Why a handler's context ended, as context.Cause tells.
var (
	ErrCancelled = errors.New("the job's cancel was asked for")
	ErrTimeout   = errors.New("the run timeout has passed")
	ErrLeaseLost = errors.New("the job was given to another worker")
)

// Timing of a run, beside the domain's.
const (
	// settleReserve is the time that a run leaves for its settling: a run that would end later than this before the
	// delivery's deadline is not begun.
	settleReserve = 5 * time.Second
	// overstay is how long past the end of its context a handler is waited for. It is well under
	// domain.LeaseMargin, so that the outcome is settled while the lease holds.
	overstay = 10 * time.Second
	// settleBound bounds the tries to record an outcome; when it has passed the job is run again after its lease.
	settleBound = 15 * time.Second
	// lastRenewal is the longest between two renewals of a lease, each of which looks for a cancel request.
	lastRenewal = 20 * time.Second
	// storeTimeout bounds each call of the store that a worker makes.
	storeTimeout = 5 * time.Second
)

// Worker runs jobs: it decides what each delivery comes to.
type Worker struct {
	Store     ports.JobStore
	Handler   ports.JobHandler
	Policy    domain.AccessPolicy  // whose deny list is asked once more before a job is run
	Retries   domain.RetryPolicies // of the jobs that foreign messages stand for
	Retention domain.Retention
	Name      string // kept with each attempt
	Now       func() time.Time
	NewToken  func() string  // unguessable lease tokens
	Random    func() float64 // from [0, 1), for jitter

	// MaxRun is the longest run that this worker can give; 0 for no bound. A job whose run timeout is longer, because it
	// was stored under other settings, is run for so long: it would never be begun otherwise.
	MaxRun time.Duration

	// Settled is told of each job that a run or a claim has settled, as it is stored. May be nil.
	Settled func(domain.Job)
}

// Deliver claims the delivery's job, unless its consumer has, runs its handler and records the outcome. It is a
// ports.Deliver. When ctx is cancelled the handler's context is too, and an attempt that does not succeed then is not
// charged; a deadline of ctx keeps runs from starting that could not end before it.
func (w *Worker) Deliver(ctx context.Context, d domain.Delivery) domain.Disposition {
	if d.Err != nil {
		return domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonUndecodable}
	}
	job, err := w.claimed(ctx, d)
	switch {
	case errors.Is(err, errStopping):
		return domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable}
	case errors.Is(err, errTooLate):
		return domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonTooLate}
	case err != nil:
		return domain.DisposeUnclaimed(err, d, w.Now())
	case job.Status != domain.Running: // used up, cancelled or barred: the claim has settled it
		w.settled(job)
		return domain.Disposition{Verdict: domain.Ack, Reason: job.Reason}
	}
	return w.settle(ctx, job, w.run(ctx, job))
}

// Why a run is not begun.
var (
	errStopping = errors.New("the worker has to stop")
	errTooLate  = errors.New("too little time is left for a run")
)

// claimed returns the delivery's job as claimed, by its consumer or here. A lease that is not going to be used goes back.
func (w *Worker) claimed(ctx context.Context, d domain.Delivery) (domain.Job, error) {
	switch {
	case d.Claimed == nil && ctx.Err() != nil:
		return domain.Job{}, errStopping
	case d.Claimed == nil:
		return w.claim(ctx, d, w.NewToken())
	}
	job := *d.Claimed
	if job.Status != domain.Running {
		return job, nil
	}
	err := w.hindrance(ctx, job, w.Now())
	if err != nil {
		// Where even that fails the job comes back at the end of its lease.
		_, _ = w.record(ctx, job.ID, func(stored domain.Job) (domain.Job, error) {
			return stored.Unclaim(w.Now(), job.Lease.Token)
		})
	}
	return job, err
}

// hindrance returns why a run of job is not to be begun now, nil when it may.
func (w *Worker) hindrance(ctx context.Context, job domain.Job, now time.Time) error {
	if ctx.Err() != nil {
		return errStopping
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Sub(now) < w.runTimeout(job)+settleReserve {
		return errTooLate
	}
	return nil
}

// Claim decides what becomes of a job that is taken for this worker: it is leased to it, or settled where it must not be
// run. The errors are those of domain.Job.Claim. It is for whoever takes jobs in the worker's own process, and is the
// claim that Deliver makes otherwise; the job is then delivered as domain.Delivery.Claimed.
func (w *Worker) Claim(job domain.Job, now time.Time) (domain.Job, error) {
	return w.lease(job, now, w.NewToken())
}

func (w *Worker) lease(job domain.Job, now time.Time, token string) (domain.Job, error) {
	claimed, err := job.Claim(now, token, w.Name)
	if err == nil && claimed.Status == domain.Running && w.Policy.Revokes(job.Owner, job.TokenID) {
		return job.Bar(now, domain.ReasonRevoked)
	}
	return claimed, err
}

// claim stores what a foreign message stands for and leases the job. It asks twice when the store does not answer:
// the first claim may have been made, and the same token finds it.
func (w *Worker) claim(ctx context.Context, d domain.Delivery, token string) (domain.Job, error) {
	claim := func() (domain.Job, error) {
		id := d.JobID
		if d.Foreign != nil {
			job, err := w.adopt(ctx, *d.Foreign)
			if err != nil {
				return domain.Job{}, err
			}
			id = job.ID
		}
		call, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		return w.Store.Update(call, id, func(job domain.Job) (domain.Job, error) {
			now := w.Now()
			claimed, err := w.lease(job, now, token)
			if err != nil || claimed.Status != domain.Running {
				return claimed, err
			}
			return claimed, w.hindrance(ctx, job, now)
		})
	}
	job, err := claim()
	if domain.KindOf(err) == domain.Unavailable && ctx.Err() == nil {
		job, err = claim()
	}
	return job, err
}

// adopt stores the job that a foreign message stands for, unless an earlier delivery has.
func (w *Worker) adopt(ctx context.Context, spec domain.JobSpec) (domain.Job, error) {
	spec.Retry, spec.Retention = w.Retries.For(spec.Name), w.Retention
	now := w.Now()
	job, err := domain.NewJob(spec, now)
	if err != nil {
		return domain.Job{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	job, _, err = w.Store.Create(ctx, job.Taken(now))
	return job, err
}

// run calls the handler and waits for it, renewing the lease meanwhile. It returns before the lease of the last
// renewal has run out, whatever the handler does: one that goes on past its context is left to itself, and its outcome
// is that of an attempt that timed out.
func (w *Worker) run(ctx context.Context, job domain.Job) domain.Outcome {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ctx, cancel := context.WithTimeoutCause(ctx, w.runTimeout(job), ErrTimeout)
	defer cancel()

	done := make(chan domain.Outcome, 1)
	go func() { done <- w.handle(ctx, job) }()

	renewal := time.NewTicker(min(job.LeaseTerm()/3, lastRenewal))
	defer renewal.Stop()
	for {
		select {
		case outcome := <-done:
			return explain(ctx, outcome)
		case <-renewal.C:
			if cause := w.renew(ctx, job); cause != nil {
				stop(cause)
			}
		case <-ctx.Done():
			return explain(ctx, await(done, overstay))
		}
	}
}

func (w *Worker) runTimeout(job domain.Job) time.Duration {
	if w.MaxRun > 0 {
		return min(job.Retry.Timeout, w.MaxRun)
	}
	return job.Retry.Timeout
}

// await returns the outcome of a handler whose context has ended, or the lack of one.
func await(done <-chan domain.Outcome, bound time.Duration) domain.Outcome {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case outcome := <-done:
		return outcome
	case <-timer.C:
		return domain.Outcome{Err: errors.New("the handler did not return")}
	}
}

// explain adds to a failed outcome why its context had ended: for a reason of the run's own, or because the worker has to
// stop, which is no fault of the attempt.
func explain(ctx context.Context, o domain.Outcome) domain.Outcome {
	cause := context.Cause(ctx)
	if o.Err == nil || cause == nil || domain.IsPermanent(o.Err) {
		return o
	}
	own := errors.Is(cause, ErrTimeout) || errors.Is(cause, ErrCancelled) || errors.Is(cause, ErrLeaseLost)
	o.Interrupted = !own
	if !errors.Is(o.Err, cause) {
		o.Err = fmt.Errorf("%w: %w", cause, o.Err)
	}
	return o
}

// handle calls the handler and turns whatever it does into an outcome.
func (w *Worker) handle(ctx context.Context, job domain.Job) (outcome domain.Outcome) {
	defer func() {
		if p := recover(); p != nil {
			outcome = domain.Outcome{Err: errors.New("the handler panicked")} // the value may be anything, and the owner reads this
		}
	}()
	output, err := w.Handler.Handle(ctx, Run{Job: job, Attempt: job.Starts, Progress: w.progress(job)})
	if err != nil {
		outcome.Err = err
		if asked, ok := errors.AsType[*domain.Error](err); ok {
			outcome.RetryAfter = asked.RetryAfter
		}
		return outcome
	}
	switch {
	case len(output) == 0:
		return domain.Outcome{}
	case !json.Valid(output) || !utf8.Valid(output):
		return domain.Outcome{Err: domain.Permanent(errors.New("the handler's output is not JSON"))}
	default:
		return domain.Outcome{Output: output}
	}
}

func (w *Worker) progress(job domain.Job) func(context.Context, int, string) error {
	return func(ctx context.Context, percent int, message string) error {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		_, err := w.Store.Update(ctx, job.ID, func(stored domain.Job) (domain.Job, error) {
			return stored.Report(w.Now(), job.Lease.Token, domain.Progress{Percent: percent, Message: message})
		})
		return err
	}
}

// renew extends the lease and returns why the run has to stop, nil when it may go on. A store that does not answer is
// no reason: the lease outlasts the run.
func (w *Worker) renew(ctx context.Context, job domain.Job) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	renewed, err := w.Store.Update(ctx, job.ID, func(stored domain.Job) (domain.Job, error) {
		return stored.Renew(w.Now(), job.Lease.Token)
	})
	switch {
	case domain.KindOf(err) == domain.Conflict, domain.KindOf(err) == domain.NotFound:
		return ErrLeaseLost
	case err == nil && renewed.CancelRequested:
		return ErrCancelled
	default:
		return nil
	}
}

// settle records the outcome.
func (w *Worker) settle(ctx context.Context, job domain.Job, outcome domain.Outcome) domain.Disposition {
	random := w.Random()
	settled, err := w.record(ctx, job.ID, func(stored domain.Job) (domain.Job, error) {
		return stored.Settle(w.Now(), job.Lease.Token, outcome, random)
	})
	switch kind := domain.KindOf(err); {
	case err == nil:
		w.settled(settled)
		return domain.Disposition{Verdict: domain.Ack, Reason: settled.Reason}
	case kind == domain.Conflict, kind == domain.NotFound:
		// Recorded by an earlier try that was not answered, or another worker's by now: either way the store has it.
		return domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonLeaseLost}
	case kind == domain.Unavailable, kind == domain.Throttled:
		return domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable, Pause: true}
	default:
		return domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonOf(err), Pause: true}
	}
}

// record writes the last step of a lease, again and again while the store does not answer. It goes on when ctx is
// cancelled, for the work is done, but not past ctx's deadline nor settleBound.
func (w *Worker) record(ctx context.Context, id string, step func(domain.Job) (domain.Job, error)) (domain.Job, error) {
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleBound)
	defer cancel()
	if deadline, ok := ctx.Deadline(); ok {
		recording, cancel = context.WithDeadline(recording, deadline)
		defer cancel()
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		call, done := context.WithTimeout(recording, storeTimeout)
		job, err := w.Store.Update(call, id, step)
		done()
		if kind := domain.KindOf(err); err == nil || kind != domain.Unavailable && kind != domain.Throttled {
			return job, err
		}
		if sleep(recording, pause); recording.Err() != nil {
			return job, err
		}
	}
}

func (w *Worker) settled(job domain.Job) {
	if w.Settled != nil {
		w.Settled(job)
	}
}

// sleep returns when d has passed or ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
