package domain

import (
	"errors"
	"fmt"
	"time"
)

// Kind classifies an error by what a caller can do about it. Adapters translate native errors into a Kind once; one
// package, adapters/wire/problem, translates a Kind into a status code.
type Kind int

// The kinds of error. The zero Kind is Internal, so that an error nobody classified is never shown to a caller.
const (
	Internal        Kind = iota // a fault of ours; the cause is logged, never shown
	Invalid                     // the input is wrong and will stay wrong
	Unauthenticated             // no valid token
	Forbidden                   // a valid token that does not suffice
	NotFound                    // absent, expired, or another's
	Conflict                    // the step is illegal or stale in the present state
	TooLarge                    // over a documented bound
	Throttled                   // too much at once; retry later
	Unavailable                 // a dependency did not answer or did not confirm; retry
)

var kindNames = [...]string{
	Internal: "internal", Invalid: "invalid", Unauthenticated: "unauthenticated", Forbidden: "forbidden",
	NotFound: "not found", Conflict: "conflict", TooLarge: "too large", Throttled: "throttled", Unavailable: "unavailable",
}

func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kindNames[k]
}

// Reason is the stable code of an error, the only thing about a refusal that a caller is told. Reasons never change
// once released: clients branch on them.
type Reason string

// Reasons for refusing a caller. They leak nothing: no claim, key id, URL or library error goes with them.
const (
	ReasonMissingToken      Reason = "missing_token"
	ReasonInvalidToken      Reason = "invalid_token"
	ReasonInvalidClaims     Reason = "invalid_claims"
	ReasonTokenExpired      Reason = "token_expired"
	ReasonInvalidSignature  Reason = "invalid_signature"
	ReasonInsufficientScope Reason = "insufficient_scope"
	ReasonForbidden         Reason = "forbidden"
	ReasonKeysUnavailable   Reason = "keys_unavailable"

	// ReasonUnauthorized stands for all of the above at a gateway that cannot tell them apart.
	ReasonUnauthorized Reason = "unauthorized"
)

// Reasons for refusing a request.
const (
	ReasonInternal             Reason = "internal"
	ReasonMalformed            Reason = "malformed"
	ReasonInvalidFields        Reason = "invalid_fields"
	ReasonInvalidQuery         Reason = "invalid_query"
	ReasonInvalidKey           Reason = "invalid_idempotency_key"
	ReasonKeyReused            Reason = "idempotency_key_reused"
	ReasonNotFound             Reason = "not_found"
	ReasonMethodNotAllowed     Reason = "method_not_allowed"
	ReasonUnsupportedMediaType Reason = "unsupported_media_type"
	ReasonTooLarge             Reason = "too_large"
	ReasonThrottled            Reason = "throttled"
	ReasonUnavailable          Reason = "unavailable"
	ReasonConflict             Reason = "conflict"
)

// Reasons for refusing a step of a job, and for what a job came to.
const (
	ReasonFinished       Reason = "finished"         // the job has ended; it is never run again
	ReasonLeased         Reason = "leased"           // another worker holds the job
	ReasonNotDue         Reason = "not_due"          // the job waits for its due time
	ReasonLeaseLost      Reason = "lease_lost"       // the lease token is no longer the job's
	ReasonNotRedrivable  Reason = "not_redrivable"   // only dead and cancelled jobs are redriven
	ReasonWorkerLost     Reason = "worker_lost"      // the last attempt's worker never came back
	ReasonAttemptsUsedUp Reason = "attempts_used_up" // the last attempt failed
	ReasonPermanent      Reason = "permanent"        // the handler said that no retry will help
	ReasonRevoked        Reason = "revoked"          // who submitted it is no longer let in
	ReasonCancelled      Reason = "cancelled"        // somebody asked for it
	ReasonDispatchFailed Reason = "dispatch_failed"  // the broker did not confirm the job and its client was told so
	ReasonRecordMissing  Reason = "record_missing"   // a message of ours whose job is not in the store
	ReasonUndecodable    Reason = "undecodable"      // a message nobody can read
	ReasonTooLate        Reason = "too_late"         // too little of the delivery's time is left for a run
)

// A FieldError names one wrong member of a request.
type FieldError struct {
	Pointer string // JSON pointer (RFC 6901) to the member
	Detail  string // what is wrong with it, for a person
}

// Error is the one error type that crosses a port. Message and Fields may be shown to a caller unless Kind is
// Internal; Err is for the log alone.
type Error struct {
	Kind       Kind
	Reason     Reason
	Message    string
	Fields     []FieldError  // of an Invalid request that was well formed
	Scopes     []string      // scopes that would have sufficed, with ReasonInsufficientScope
	RetryAfter time.Duration // with Throttled and Unavailable: when a retry makes sense; 0 when unknown
	Err        error
}

func (e *Error) Error() string {
	msg := e.Message
	if msg == "" {
		msg = e.Kind.String()
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error of the given kind and reason without a cause. The message may be shown to a caller.
func Errorf(kind Kind, reason Reason, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Wrap is Errorf with a cause, which is logged and never shown.
func Wrap(cause error, kind Kind, reason Reason, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: reason, Message: fmt.Sprintf(format, args...), Err: cause}
}

// KindOf returns err's Kind: Internal for an error that is no *Error.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// ReasonOf returns err's Reason, or ReasonInternal for an error that is no *Error.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok && e.Reason != "" {
		return e.Reason
	}
	return ReasonInternal
}

// permanentError marks a handler's error that no retry will help.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent marks a handler's error as final: the job is dead at once, whatever attempts it has left. Permanent(nil)
// is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent reports whether err, or an error that it wraps, was marked by Permanent.
func IsPermanent(err error) bool {
	_, ok := errors.AsType[*permanentError](err)
	return ok
}
