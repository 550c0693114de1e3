package sqlstore

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/domain"
)

// A row is a job as the table has it. What a query selects or orders by is a column; the rest is in two JSON
// documents, of which one is written once and the other with every step: a row of few columns is read and written
// faster, and a new member needs no migration.
type row struct {
	id, issuer, subject, name, status                string
	createdAt, dueAt, checkAt, leaseUntil, expiresAt int64 // see millis
	revision                                         int64
	submission, state                                string
	output, payload                                  blob
}

// columns are the columns of a row, in the order of its fields in scan; those that may be large come last, so that
// nothing is read past them in vain.
const columns = `id, issuer, subject, name, status, created_at, due_at, check_at, lease_until, expires_at, revision, submission, state, output, payload`

// values are the row's values in the order of columns.
func (r *row) values() []any {
	return []any{
		r.id, r.issuer, r.subject, r.name, r.status, r.createdAt, r.dueAt, r.checkAt, r.leaseUntil, r.expiresAt, r.revision,
		r.submission, r.state, []byte(r.output), []byte(r.payload),
	}
}

// scan reads columns.
func (r *row) scan(s interface{ Scan(...any) error }) error {
	return s.Scan(
		&r.id, &r.issuer, &r.subject, &r.name, &r.status, &r.createdAt, &r.dueAt, &r.checkAt, &r.leaseUntil, &r.expiresAt, &r.revision,
		&r.submission, &r.state, &r.output, &r.payload,
	)
}

// submission is what a job was submitted with and nobody searches for. It never changes.
type submission struct {
	TokenID        string `json:"token,omitzero"`
	IdempotencyKey string `json:"key,omitzero"`
	Fingerprint    string `json:"fingerprint,omitzero"`
	TraceParent    string `json:"trace,omitzero"`
	Attempts       int    `json:"attempts,omitzero"`
	Base           nanos  `json:"base,omitzero"`
	Max            nanos  `json:"max,omitzero"`
	Timeout        nanos  `json:"timeout,omitzero"`
	KeepFinished   nanos  `json:"keep,omitzero"`
	KeepDead       nanos  `json:"keep_dead,omitzero"`
}

// state is what the steps of a job change and nobody searches for.
type state struct {
	Reason     string    `json:"reason,omitzero"`
	Attempts   int       `json:"attempts,omitzero"`
	Starts     int       `json:"starts,omitzero"`
	Dispatches int       `json:"dispatches,omitzero"`
	Checks     int       `json:"checks,omitzero"`
	Cancel     bool      `json:"cancel,omitzero"`
	UpdatedAt  int64     `json:"updated_at,omitzero"`
	FinishedAt int64     `json:"finished_at,omitzero"`
	Lease      string    `json:"lease,omitzero"`
	Worker     string    `json:"worker,omitzero"`
	Percent    int       `json:"percent,omitzero"`
	Message    string    `json:"message,omitzero"`
	History    []attempt `json:"history,omitempty"`
}

type attempt struct {
	Number    int    `json:"n"`
	StartedAt int64  `json:"start,omitzero"`
	EndedAt   int64  `json:"end,omitzero"`
	Worker    string `json:"worker,omitzero"`
	Error     string `json:"error,omitzero"`
}

// nanos is a duration in nanoseconds.
type nanos int64

// millis is t in milliseconds since 1970, 0 for the zero time: no job is as old as that.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// A blob keeps nil (NULL) and empty apart, which scanning into []byte does not.
type blob []byte

// Scan implements sql.Scanner.
func (b *blob) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*b = nil
	case []byte:
		*b = append(make([]byte, 0, len(v)), v...)
	default:
		return fmt.Errorf("a column of type %T where bytes are expected", value)
	}
	return nil
}

// encode returns the row of a job.
func encode(job domain.Job) (row, error) {
	fixed, err := json.Marshal(submission{
		TokenID: job.TokenID, IdempotencyKey: job.IdempotencyKey, Fingerprint: job.Fingerprint, TraceParent: job.TraceParent,
		Attempts: job.Retry.Attempts, Base: nanos(job.Retry.Base), Max: nanos(job.Retry.Max), Timeout: nanos(job.Retry.Timeout),
		KeepFinished: nanos(job.Retention.Finished), KeepDead: nanos(job.Retention.Dead),
	})
	if err != nil {
		return row{}, translate(fmt.Errorf("job %s: %w", job.ID, err))
	}
	moving, err := encodeState(job)
	if err != nil {
		return row{}, err
	}
	return row{
		id: job.ID, issuer: job.Owner.Issuer, subject: job.Owner.Subject, name: job.Name, status: string(job.Status),
		createdAt: millis(job.CreatedAt), dueAt: millis(job.DueAt), checkAt: millis(job.CheckAt),
		leaseUntil: millis(job.Lease.Until), expiresAt: millis(job.ExpiresAt), revision: job.Revision,
		submission: string(fixed), state: moving, output: job.Output, payload: job.Payload,
	}, nil
}

func encodeState(job domain.Job) (string, error) {
	s := state{
		Reason: string(job.Reason), Attempts: job.Attempts, Starts: job.Starts, Dispatches: job.Dispatches, Checks: job.Checks,
		Cancel: job.CancelRequested, UpdatedAt: millis(job.UpdatedAt), FinishedAt: millis(job.FinishedAt),
		Lease: job.Lease.Token, Worker: job.Lease.Worker, Percent: job.Progress.Percent, Message: job.Progress.Message,
	}
	for _, a := range job.History {
		s.History = append(s.History, attempt{
			Number: a.Number, StartedAt: millis(a.StartedAt), EndedAt: millis(a.EndedAt), Worker: a.Worker, Error: a.Error,
		})
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "", translate(fmt.Errorf("job %s: %w", job.ID, err))
	}
	return string(text), nil
}

// decode returns the job of a row. Unknown members are ignored: a newer version may run beside this one.
func (r *row) decode() (domain.Job, error) {
	var (
		fixed submission
		moved state
	)
	if err := json.Unmarshal([]byte(r.submission), &fixed); err != nil {
		return domain.Job{}, unreadable(r.id, err)
	}
	if err := json.Unmarshal([]byte(r.state), &moved); err != nil {
		return domain.Job{}, unreadable(r.id, err)
	}
	job := domain.Job{
		ID: r.id, Name: r.name, Payload: r.payload, Owner: domain.Identity{Issuer: r.issuer, Subject: r.subject},
		TokenID: fixed.TokenID, IdempotencyKey: fixed.IdempotencyKey, Fingerprint: fixed.Fingerprint, TraceParent: fixed.TraceParent,
		Retry: domain.RetryPolicy{
			Attempts: fixed.Attempts, Base: time.Duration(fixed.Base), Max: time.Duration(fixed.Max), Timeout: time.Duration(fixed.Timeout),
		},
		Retention: domain.Retention{Finished: time.Duration(fixed.KeepFinished), Dead: time.Duration(fixed.KeepDead)},
		CreatedAt: instant(r.createdAt),

		Status: domain.Status(r.status), Reason: domain.Reason(moved.Reason), Attempts: moved.Attempts, Starts: moved.Starts,
		Dispatches: moved.Dispatches, Checks: moved.Checks, CancelRequested: moved.Cancel,
		DueAt: instant(r.dueAt), CheckAt: instant(r.checkAt), UpdatedAt: instant(moved.UpdatedAt), FinishedAt: instant(moved.FinishedAt),
		ExpiresAt: instant(r.expiresAt),
		Lease:     domain.Lease{Token: moved.Lease, Worker: moved.Worker, Until: instant(r.leaseUntil)},
		Progress:  domain.Progress{Percent: moved.Percent, Message: moved.Message},
		Output:    r.output, Revision: r.revision,
	}
	for _, a := range moved.History {
		job.History = append(job.History, domain.Attempt{
			Number: a.Number, StartedAt: instant(a.StartedAt), EndedAt: instant(a.EndedAt), Worker: a.Worker, Error: a.Error,
		})
	}
	return job, nil
}

func unreadable(id string, cause error) error {
	return domain.Wrap(cause, domain.Internal, domain.ReasonInternal, "the row of job %s cannot be read", id)
}

// withSubmission returns next with what a submission fixed taken from old: these columns are never written again.
func withSubmission(next, old domain.Job) domain.Job {
	next.ID, next.Name, next.Payload, next.Owner = old.ID, old.Name, old.Payload, old.Owner
	next.TokenID, next.IdempotencyKey, next.Fingerprint, next.TraceParent = old.TokenID, old.IdempotencyKey, old.Fingerprint, old.TraceParent
	next.Retry, next.Retention, next.CreatedAt = old.Retry, old.Retention, old.CreatedAt
	return next
}
