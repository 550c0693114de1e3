package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// cancelTimeout bounds the attempt to cancel a job whose dispatch failed. Its client has its answer by then.
const cancelTimeout = 3 * time.Second

// Submit accepts jobs.
type Submit struct {
	Store      ports.JobStore
	Dispatcher ports.JobDispatcher
	Policy     domain.AccessPolicy
	Retries    domain.RetryPolicies
	Retention  domain.Retention
	Now        func() time.Time
	NewID      func() string // of jobs without an idempotency key: UUIDv7, so that ids grow with time

	// StoreIsQueue is set where workers take jobs from the store itself: a new job may be taken at once. Otherwise the
	// submitter dispatches it, and the sweep looks at it only later.
	StoreIsQueue bool
}

// A Submission is what a caller wants done.
type Submission struct {
	Name           string
	Payload        []byte        // JSON; nil for none
	Delay          time.Duration // from now; 0 for at once
	RunAt          time.Time     // zero for at once; not together with Delay
	IdempotencyKey string        // empty for none
	TraceParent    string
}

// Do stores the job and, if it is due, dispatches it. nil means stored, and confirmed by the broker if due. replayed is
// true when the idempotency key named a job that was there already.
//
// Errors: those of Standing and the policy; Invalid with the wrong members; Invalid with ReasonKeyReused when the key
// was used for another job; TooLarge; Unavailable when the job could not be stored or its dispatch was not confirmed.
// After the latter, with an idempotency key the job stays queued and the caller repeats the call; without one it is
// cancelled, best effort, so that a client's retry does not do the work twice.
func (s *Submit) Do(ctx context.Context, who domain.Principal, sub Submission) (job domain.Job, replayed bool, err error) {
	now := s.Now()
	if err := may(s.Policy, who, domain.ActionSubmit, now); err != nil {
		return domain.Job{}, false, err
	}
	spec, err := s.spec(who, sub)
	if err != nil {
		return domain.Job{}, false, err
	}
	job, err = domain.NewJob(spec, now)
	if err != nil {
		return domain.Job{}, false, err
	}
	if err := s.Policy.Decide(who, domain.ActionSubmit, job.Name, job.Owner).Err(); err != nil {
		return domain.Job{}, false, err
	}
	if err := s.Dispatcher.Fits(job); err != nil {
		return domain.Job{}, false, err
	}
	if !s.StoreIsQueue && job.Due(now) {
		job = job.Taken(now)
	}
	asked := job.Fingerprint
	job, created, err := s.Store.Create(ctx, job)
	if err != nil {
		return domain.Job{}, false, err
	}
	if !created && job.Fingerprint != asked {
		return domain.Job{}, false, domain.Errorf(domain.Invalid, domain.ReasonKeyReused, "the idempotency key was used for another job")
	}
	if job.Due(now) {
		if err := s.dispatch(ctx, job); err != nil {
			return domain.Job{}, false, err
		}
	}
	return job, !created, nil
}

func (s *Submit) spec(who domain.Principal, sub Submission) (domain.JobSpec, error) {
	spec := domain.JobSpec{
		Name: sub.Name, Payload: sub.Payload, Owner: who.Identity, TokenID: who.TokenID, IdempotencyKey: sub.IdempotencyKey,
		TraceParent: sub.TraceParent, Retry: s.Retries.For(sub.Name), Retention: s.Retention, Delay: sub.Delay, RunAt: sub.RunAt,
	}
	if sub.IdempotencyKey == "" {
		spec.ID = s.NewID()
		return spec, nil
	}
	if err := checkKey(sub.IdempotencyKey); err != nil {
		return domain.JobSpec{}, err
	}
	spec.ID = domain.KeyedID(who.Identity, sub.IdempotencyKey)
	return spec, nil
}

func checkKey(key string) error {
	ok := len(key) <= domain.MaxKeyLength
	for i := range len(key) {
		ok = ok && key[i] > ' ' && key[i] <= '~'
	}
	if !ok {
		return domain.Errorf(domain.Invalid, domain.ReasonInvalidKey, "the idempotency key must be 1 to 255 visible ASCII characters")
	}
	return nil
}

// dispatch hands a due job over. It is the promise behind an answer: nil only when confirmed.
func (s *Submit) dispatch(ctx context.Context, job domain.Job) error {
	err := s.Dispatcher.Dispatch(ctx, job)
	if err == nil {
		return nil
	}
	if job.IdempotencyKey == "" {
		s.giveUp(ctx, job.ID)
	}
	refusal := domain.Wrap(err, domain.Unavailable, domain.ReasonDispatchFailed, "the job was not accepted: try again")
	if cause, ok := errors.AsType[*domain.Error](err); ok {
		refusal.RetryAfter = cause.RetryAfter
	}
	return refusal
}

// giveUp cancels a job whose client is told that it was not accepted. The message may have arrived all the same: a
// job that a worker has begun is left to it.
func (s *Submit) giveUp(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	// Best effort: a job that cannot be cancelled now is run once more than its client asked for, and never lost.
	_, _ = s.Store.Update(ctx, id, func(job domain.Job) (domain.Job, error) {
		if job.Status != domain.Queued || job.Starts > 0 {
			return job, domain.Errorf(domain.Conflict, domain.ReasonConflict, "the job has begun")
		}
		return job.Cancel(s.Now(), domain.ReasonDispatchFailed)
	})
}

// may is what each use case asks first: is the caller still in good standing, and may they do this at all. A gate has
// asked the same, but its answer may be old.
func may(policy domain.AccessPolicy, who domain.Principal, action domain.Action, now time.Time) error {
	if err := policy.Standing(who, now); err != nil {
		return err
	}
	return policy.AtGate(who, action).Err()
}
