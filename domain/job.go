package domain

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Status is where a job stands.
type Status string

// The statuses of a job. Succeeded, Dead and Cancelled are final, but for a redrive of the latter two.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Dead      Status = "dead"
	Cancelled Status = "cancelled"
)

// Statuses lists every status in the order of a job's life.
var Statuses = []Status{Queued, Running, Succeeded, Dead, Cancelled}

// Finished reports whether a job in status s has ended.
func (s Status) Finished() bool { return s == Succeeded || s == Dead || s == Cancelled }

// Bounds of a job. They are part of the public contract: README.md and the OpenAPI document state them.
const (
	MaxHistory    = 20                  // attempts kept, the latest ones
	MaxErrorBytes = 1 << 10             // kept of an attempt's error
	MaxOutput     = 32 << 10            // bytes of a handler's output
	MaxDelay      = 30 * 24 * time.Hour // from submission to the due time
	MaxPayload    = 240 << 10           // bytes of payload; an SNS message holds 256 KiB in all
	MaxKeyLength  = 255                 // bytes of an idempotency key
	MaxProgress   = 256                 // bytes of a progress line
)

// Timing of leases and checks. LeaseMargin is what a lease lasts beyond the run timeout, so that a handler that
// obeys its context always settles under a lease of its own. A check that finds a job waiting or abandoned hands it
// out again; the next check comes after FirstCheck, doubling up to LastCheck while nobody claims the job.
const (
	LeaseMargin = 30 * time.Second
	FirstCheck  = 30 * time.Second
	LastCheck   = time.Hour
)

// Retention says how long a finished job can still be asked for. An expired job is absent at once, whenever its
// record is removed.
type Retention struct {
	Finished time.Duration // succeeded and cancelled
	Dead     time.Duration
}

// DefaultRetention keeps dead jobs longer: somebody has to find and redrive them.
var DefaultRetention = Retention{Finished: 7 * 24 * time.Hour, Dead: 30 * 24 * time.Hour}

// A Lease is the right to run and settle a job. Its random token, not the job's revision, is what settling,
// renewing and reporting need.
type Lease struct {
	Token  string
	Worker string
	Until  time.Time
}

// An Attempt is one start of a job's handler.
type Attempt struct {
	Number    int // counts from 1 over the job's whole life, redrives included
	StartedAt time.Time
	EndedAt   time.Time // zero while it runs
	Worker    string
	Error     string // empty when it succeeded or still runs
}

// Progress is what a handler says of a run under way.
type Progress struct {
	Percent int // 0 to 100
	Message string
}

// Job is one unit of work and everything known of it. A Job is a value: its steps return a changed copy and leave the
// receiver alone. Times are UTC, in whole milliseconds.
type Job struct {
	ID             string // canonical UUID
	Name           string
	Payload        []byte // JSON as it was sent; nil when there was none
	Owner          Identity
	TokenID        string // jti of the token it was submitted with
	IdempotencyKey string
	Fingerprint    string // of the request under the idempotency key: a repeat must have the same; empty without a key
	TraceParent    string // W3C trace context of the submission
	Retry          RetryPolicy
	Retention      Retention
	CreatedAt      time.Time

	Status          Status
	Reason          Reason // why it is dead or cancelled
	Attempts        int    // starts charged to the retry policy since submission or the last redrive
	Starts          int    // starts ever: a number no other start of this job has, for fencing effects
	Dispatches      int    // times it was handed to a broker or a taker
	Checks          int    // checks since it last moved
	CancelRequested bool
	DueAt           time.Time // when a queued job may start
	CheckAt         time.Time // when an open job is looked at again; zero once finished
	UpdatedAt       time.Time
	FinishedAt      time.Time
	ExpiresAt       time.Time // when a finished job is forgotten; zero while open
	Lease           Lease     // of a running job
	Progress        Progress
	Output          []byte
	History         []Attempt // the last MaxHistory attempts, oldest first

	Revision int64 // the store's own; no step reads or changes it
}

// A JobSpec is what a submission asks for.
type JobSpec struct {
	ID             string
	Name           string
	Payload        []byte
	Owner          Identity
	TokenID        string
	IdempotencyKey string
	TraceParent    string
	Retry          RetryPolicy
	Retention      Retention
	Delay          time.Duration // from now to the due time; 0: at once
	RunAt          time.Time     // the due time; zero or past: at once. Not together with Delay
}

// fingerprint tells two requests under one idempotency key apart: a hash of the members that the caller chose.
func (s JobSpec) fingerprint() string {
	if s.IdempotencyKey == "" {
		return ""
	}
	var runAt string
	if !s.RunAt.IsZero() {
		runAt = s.RunAt.UTC().Format(time.RFC3339Nano)
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(s.Name), s.Payload, []byte(s.Delay.String()), []byte(runAt)} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// NewJob returns the queued job that spec asks for, or an Invalid or TooLarge error that names each wrong member.
func NewJob(spec JobSpec, now time.Time) (Job, error) {
	now = instant(now)
	due := now
	var wrong []FieldError
	if !ValidName(spec.Name) {
		wrong = append(wrong, FieldError{"/name", "must be 1 to 128 characters: a letter or digit, then letters, digits and . _ : -"})
	}
	switch {
	case spec.Delay != 0 && !spec.RunAt.IsZero():
		wrong = append(wrong, FieldError{"/delay", "must not be given together with run_at"})
	case spec.Delay < 0 || spec.Delay > MaxDelay:
		wrong = append(wrong, FieldError{"/delay", "must be 0 to 30 days"})
	case spec.RunAt.Sub(now) > MaxDelay:
		wrong = append(wrong, FieldError{"/run_at", "must be at most 30 days ahead"})
	case spec.RunAt.After(now):
		due = instant(spec.RunAt)
	default:
		due = instant(now.Add(spec.Delay))
	}
	if len(wrong) > 0 {
		return Job{}, &Error{Kind: Invalid, Reason: ReasonInvalidFields, Message: "the job has invalid members", Fields: wrong}
	}
	if problems := spec.Retry.Validate(); len(problems) > 0 {
		return Job{}, Errorf(Internal, ReasonInternal, "the job's retry policy cannot be used: %s", strings.Join(problems, "; "))
	}
	if len(spec.Payload) > MaxPayload {
		return Job{}, Errorf(TooLarge, ReasonTooLarge, "the payload has %d bytes, at most %d are accepted", len(spec.Payload), MaxPayload)
	}
	return Job{
		ID: spec.ID, Name: spec.Name, Payload: spec.Payload, Owner: spec.Owner, TokenID: spec.TokenID,
		IdempotencyKey: spec.IdempotencyKey, Fingerprint: spec.fingerprint(), TraceParent: spec.TraceParent, Retry: spec.Retry, Retention: spec.Retention,
		CreatedAt: now, UpdatedAt: now, Status: Queued, DueAt: due, CheckAt: due,
	}, nil
}

// instant is t as jobs keep times: UTC, whole milliseconds, no monotonic reading, so that every store gives back
// exactly what it was given.
func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// Due reports whether a queued job may start at now.
func (j Job) Due(now time.Time) bool { return j.Status == Queued && !now.Before(j.DueAt) }

// Waited returns how long a job that was just claimed had been due. One taken over from a lost worker had not been: its
// due time is that of the start before.
func (j Job) Waited() (wait time.Duration, ok bool) {
	n := len(j.History)
	if n == 0 || n > 1 && !j.History[n-2].StartedAt.Before(j.DueAt) {
		return 0, false
	}
	return max(0, j.History[n-1].StartedAt.Sub(j.DueAt)), true
}

// Expired reports whether the job is to be treated as absent at now.
func (j Job) Expired(now time.Time) bool { return !j.ExpiresAt.IsZero() && !now.Before(j.ExpiresAt) }

// transitions is the one table of a job's life; "" is a job not yet stored.
var transitions = map[Status][]Status{
	"":        {Queued},
	Queued:    {Running, Dead, Cancelled},
	Running:   {Running, Queued, Succeeded, Dead, Cancelled},
	Succeeded: {},
	Dead:      {Queued},
	Cancelled: {Queued},
}

// CanBecome reports whether the table allows the step from s to next.
func (s Status) CanBecome(next Status) bool { return slices.Contains(transitions[s], next) }

// to is the only place where a status changes. Every step asks the table first and answers a Conflict, so the panic
// is a bug of this package and never an input's.
func (j Job) to(next Status, now time.Time) Job {
	if !j.Status.CanBecome(next) {
		panic(fmt.Sprintf("domain: illegal step of a job from %q to %q", j.Status, next))
	}
	j.Status, j.UpdatedAt, j.Checks = next, instant(now), 0
	j.Lease = Lease{}
	return j
}

func (j Job) finish(next Status, reason Reason, now time.Time) Job {
	j = j.to(next, now)
	j.Reason, j.FinishedAt, j.CheckAt, j.CancelRequested = reason, j.UpdatedAt, time.Time{}, false
	keep := j.Retention.Finished
	if next == Dead {
		keep = j.Retention.Dead
	}
	j.ExpiresAt = instant(j.FinishedAt.Add(keep))
	return j
}

func (j Job) enqueue(due, now time.Time) Job {
	j = j.to(Queued, now)
	j.DueAt = instant(due)
	j.CheckAt = j.DueAt
	return j
}

// Taken is the step of whoever hands an open job out, to a broker or a worker: the next check moves away, further
// each time, so that neither a second taker nor a long backlog has it handed out over and over.
func (j Job) Taken(now time.Time) Job {
	wait := LastCheck
	if doubled := FirstCheck << min(j.Checks, 10); doubled < LastCheck {
		wait = doubled
	}
	j.CheckAt = instant(now.Add(wait))
	j.Checks++
	j.Dispatches++
	return j
}

// Released is the step of a taker that gives an open job back unclaimed: it is looked at again once after has passed.
// A job that somebody claimed or finished meanwhile stays as it is.
func (j Job) Released(now time.Time, after time.Duration) Job {
	if j.Status.Finished() || j.Status == Running && now.Before(j.Lease.Until) {
		return j
	}
	j.CheckAt = instant(now.Add(after))
	if j.Status == Queued && j.CheckAt.Before(j.DueAt) {
		j.CheckAt = j.DueAt
	}
	j.Checks = max(0, j.Checks-1)
	return j
}

// Claim gives a worker the lease to run the job and counts the attempt. The lease lasts the run timeout and
// LeaseMargin. A job whose cancel was asked for becomes cancelled instead, one whose attempts are used up becomes
// dead: the caller looks at the status. Claiming again with the token that holds the lease changes nothing, so that a
// worker whose claim was not answered may ask again. Conflict with ReasonFinished, ReasonLeased or ReasonNotDue otherwise.
func (j Job) Claim(now time.Time, token, worker string) (Job, error) {
	switch {
	case token != "" && j.holds(token) == nil:
		return j, nil
	case !j.Status.CanBecome(Running):
		return j, Errorf(Conflict, ReasonFinished, "the job is %s", j.Status)
	case j.Status == Running && now.Before(j.Lease.Until):
		return j, Errorf(Conflict, ReasonLeased, "the job is leased to another worker")
	case j.Status == Queued && now.Before(j.DueAt):
		return j, Errorf(Conflict, ReasonNotDue, "the job is not due")
	}
	if j.Status == Running {
		j = j.endAttempt(now, errWorkerLost)
	}
	if j.CancelRequested {
		return j.finish(Cancelled, ReasonCancelled, now), nil
	}
	if j.Attempts >= j.Retry.Attempts {
		return j.finish(Dead, ReasonWorkerLost, now), nil
	}
	j = j.to(Running, now)
	j.Attempts++
	j.Starts++
	j.Progress = Progress{}
	j.Lease = Lease{Token: token, Worker: worker}
	j = j.extend(now)
	j.History = append(slices.Clone(j.History[max(0, len(j.History)-MaxHistory+1):]),
		Attempt{Number: j.Starts, StartedAt: j.UpdatedAt, Worker: worker})
	return j, nil
}

// Unclaim undoes a claim that no run followed: the job is queued again, due as it was, and there is neither an attempt
// nor a start to be seen of it. One whose cancel was asked for meanwhile is cancelled. Conflict with ReasonLeaseLost when
// token is not the job's lease.
func (j Job) Unclaim(now time.Time, token string) (Job, error) {
	if err := j.holds(token); err != nil {
		return j, err
	}
	j.Attempts--
	j.Starts--
	j.History = slices.Clone(j.History[:max(0, len(j.History)-1)])
	if j.CancelRequested {
		return j.finish(Cancelled, ReasonCancelled, now), nil
	}
	return j.enqueue(j.DueAt, now), nil
}

// Bar ends a job that must not be run, for the given reason: it is dead, and can be redriven once the reason is gone.
// Conflict with ReasonFinished when it has ended, with ReasonLeased while a worker holds it.
func (j Job) Bar(now time.Time, reason Reason) (Job, error) {
	switch {
	case !j.Status.CanBecome(Dead):
		return j, Errorf(Conflict, ReasonFinished, "the job is %s", j.Status)
	case j.Status == Running && now.Before(j.Lease.Until):
		return j, Errorf(Conflict, ReasonLeased, "the job is leased to another worker")
	case j.Status == Running:
		j = j.endAttempt(now, errWorkerLost)
	}
	return j.finish(Dead, reason, now), nil
}

// LeaseTerm is how long a claim or a renewal lasts.
func (j Job) LeaseTerm() time.Duration { return j.Retry.Timeout + LeaseMargin }

const errWorkerLost = "the worker was lost: its lease ran out"

func (j Job) extend(now time.Time) Job {
	j.Lease.Until = instant(now.Add(j.LeaseTerm()))
	j.CheckAt = j.Lease.Until
	return j
}

// holds returns a Conflict unless token is the job's lease. A lease that ran out still settles while nobody else
// claimed the job: its work is done, and running it again would be worse.
func (j Job) holds(token string) error {
	if j.Status != Running || token == "" || j.Lease.Token != token {
		return Errorf(Conflict, ReasonLeaseLost, "the lease is no longer held")
	}
	return nil
}

// Renew extends the lease by its whole term. The caller looks at CancelRequested. Conflict with ReasonLeaseLost when
// token is not the job's lease.
func (j Job) Renew(now time.Time, token string) (Job, error) {
	if err := j.holds(token); err != nil {
		return j, err
	}
	j.UpdatedAt, j.Checks = instant(now), 0
	return j.extend(now), nil
}

// Report records the progress of a run. Percent is cut to 0–100 and the message to MaxProgress bytes. Conflict with
// ReasonLeaseLost when token is not the job's lease.
func (j Job) Report(now time.Time, token string, p Progress) (Job, error) {
	if err := j.holds(token); err != nil {
		return j, err
	}
	j.UpdatedAt = instant(now)
	j.Progress = Progress{Percent: min(max(p.Percent, 0), 100), Message: cut(p.Message, MaxProgress)}
	return j, nil
}

// An Outcome is what a run came to.
type Outcome struct {
	Output      []byte        // JSON; nil for none
	Err         error         // nil: succeeded
	RetryAfter  time.Duration // the least wait before a retry that the handler asked for; at most the policy's Max counts
	Interrupted bool          // the worker had to stop before the handler was done: the attempt is not charged
}

// Settle records what a run came to, and ends its lease: succeeded, dead, cancelled when that was asked for and the
// run did not succeed, or queued again with a due time. random, from [0, 1), is the jitter of that due time. Conflict
// with ReasonLeaseLost when token is not the job's lease.
func (j Job) Settle(now time.Time, token string, o Outcome, random float64) (Job, error) {
	if err := j.holds(token); err != nil {
		return j, err
	}
	if o.Err == nil && len(o.Output) > MaxOutput {
		o.Err = Permanent(fmt.Errorf("the output has %d bytes, at most %d are kept", len(o.Output), MaxOutput))
	}
	if o.Err == nil && !o.Interrupted {
		j = j.endAttempt(now, "")
		j.Output = o.Output
		return j.finish(Succeeded, "", now), nil
	}
	message := "interrupted: the worker stopped"
	if o.Err != nil {
		message = o.Err.Error()
	}
	j = j.endAttempt(now, message)
	switch {
	case j.CancelRequested:
		return j.finish(Cancelled, ReasonCancelled, now), nil
	case o.Interrupted:
		j.Attempts--
		return j.enqueue(now, now), nil
	case IsPermanent(o.Err):
		return j.finish(Dead, ReasonPermanent, now), nil
	case j.Attempts >= j.Retry.Attempts:
		return j.finish(Dead, ReasonAttemptsUsedUp, now), nil
	default:
		wait := max(j.Retry.Delay(j.Attempts, random), min(o.RetryAfter, j.Retry.Max))
		return j.enqueue(now.Add(wait), now), nil
	}
}

// endAttempt closes the attempt under way in the history.
func (j Job) endAttempt(now time.Time, message string) Job {
	if n := len(j.History); n > 0 {
		j.History = slices.Clone(j.History)
		j.History[n-1].EndedAt = instant(now)
		j.History[n-1].Error = cut(message, MaxErrorBytes)
	}
	return j
}

// Cancel ends a queued job and asks a running one to stop. Conflict with ReasonFinished otherwise.
func (j Job) Cancel(now time.Time, reason Reason) (Job, error) {
	switch {
	case !j.Status.CanBecome(Cancelled):
		return j, Errorf(Conflict, ReasonFinished, "the job is %s", j.Status)
	case j.Status == Queued:
		return j.finish(Cancelled, reason, now), nil
	default:
		j.CancelRequested, j.UpdatedAt = true, instant(now)
		return j, nil
	}
}

// Redrive puts a dead or cancelled job back into the queue, due at once, with fresh attempts. Conflict with
// ReasonNotRedrivable otherwise.
func (j Job) Redrive(now time.Time) (Job, error) {
	if !j.Status.Finished() || !j.Status.CanBecome(Queued) {
		return j, Errorf(Conflict, ReasonNotRedrivable, "the job is %s; only dead and cancelled jobs are redriven", j.Status)
	}
	j = j.enqueue(now, now)
	j.Attempts, j.Reason, j.Progress, j.Output = 0, "", Progress{}, nil
	j.FinishedAt, j.ExpiresAt = time.Time{}, time.Time{}
	return j, nil
}

// cut returns s as valid UTF-8 of at most n bytes.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
