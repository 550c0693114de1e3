package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
	"github.com/jobgate/jobgate/bootstrap/cli/session"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/domain"
)

// The statuses that the program ends with. They never change once released.
const (
	exitDone        = 0
	exitNo          = 1
	exitUsage       = 2
	exitLogin       = 3
	exitForbidden   = 4
	exitNotFound    = 5
	exitConflict    = 6
	exitUnavailable = 7
	exitTimeout     = 8
	exitInterrupted = 130 // what a shell makes of SIGINT
)

var exitStatuses = []struct {
	status int
	means  string
}{
	{exitDone, "done; the job succeeded, where it was waited for"},
	{exitNo, "the answer is no: the job is dead or cancelled, the token is refused, a check failed, a part of a batch was\n" +
		"refused; or something failed that has no status of its own"},
	{exitUsage, "the command line, the settings or the input are wrong, and will be the next time"},
	{exitLogin, "not logged in, or the token is not accepted"},
	{exitForbidden, "logged in, and not allowed"},
	{exitNotFound, "no such job, or another's"},
	{exitConflict, "the job's state does not allow it, or its idempotency key stands for another job"},
	{exitUnavailable, "the server or the issuer cannot be reached, or has too much to do; later it may work"},
	{exitTimeout, "the time to wait was over, and the job goes on"},
	{exitInterrupted, "interrupted"},
}

func exitCodes() *cobra.Command {
	var b strings.Builder
	b.WriteString("The statuses that jobgate exits with. They do not change from release to release.\n\n")
	for _, s := range exitStatuses {
		fmt.Fprintf(&b, "%5d  %s\n", s.status, strings.ReplaceAll(s.means, "\n", "\n       "))
	}
	return &cobra.Command{Use: "exit-codes", Short: "What the exit statuses mean", Long: strings.TrimSuffix(b.String(), "\n")}
}

// A failure is an error whose status and whose advice do not follow from its cause.
type failure struct {
	status int // 0: follows from err
	err    error
	next   string // what to do, empty: follows from err
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

// An interruptedError is what a command ended with because it was told to stop.
type interruptedError struct{ err error }

func (interruptedError) Error() string { return "interrupted" }

func (e interruptedError) Unwrap() error { return e.err }

// exit gives an error its status, and says what to do next.
func exit(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	status, next := judge(err)
	if ctx.Err() != nil {
		status, next = exitInterrupted, ""
	}
	if f, ok := errors.AsType[*failure](err); ok {
		if f.status != 0 && ctx.Err() == nil {
			status = f.status
		}
		if f.next != "" {
			next = f.next
		}
	}
	if ctx.Err() != nil {
		err = interruptedError{err}
	}
	if next != "" {
		err = fmt.Errorf("%w\nnext: %s", err, next)
	}
	return &config.ExitError{Status: status, Err: err}
}

// judge returns the status that an error stands for and what to do about it, empty when the error says it itself.
func judge(err error) (status int, next string) {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return judgeProblem(p)
	}
	switch {
	case errors.Is(err, config.ErrUsage):
		return exitUsage, ""
	case errors.Is(err, session.ErrLogin), errors.Is(err, session.ErrRefused):
		return exitLogin, ""
	case errors.Is(err, session.ErrInvalid):
		return exitUsage, ""
	case errors.Is(err, session.ErrUnavailable):
		return exitUnavailable, "see that the issuer runs and can be reached from here, or log in at the right one: jobgate login --server URL --issuer URL"
	case errors.Is(err, api.ErrServer):
		return exitUsage, "correct it in JOBGATE_SERVER, or log in to the right one: jobgate login --server URL"
	case errors.Is(err, api.ErrUnreachable):
		return exitUnavailable, "see what is wrong: jobgate doctor"
	case errors.Is(err, api.ErrAnswer):
		return exitNo, "see whether this is jobgate's address: jobgate doctor"
	}
	return exitNo, ""
}

func judgeProblem(p *api.Problem) (status int, next string) {
	switch p.Code {
	case domain.ReasonTokenExpired, domain.ReasonMissingToken:
		return exitLogin, "log in again: jobgate login"
	case domain.ReasonInsufficientScope:
		return exitForbidden, "log in with that scope, if you may have it: jobgate login --scope SCOPE"
	case domain.ReasonKeyReused:
		return exitConflict, "the job of that key had other members: send those, or use another --idempotency-key"
	case domain.ReasonFinished:
		return exitConflict, "see what it came to: jobgate get ID"
	case domain.ReasonNotRedrivable:
		return exitConflict, "only dead and cancelled jobs can be redriven; see this one: jobgate get ID"
	case domain.ReasonTooLarge:
		return exitUsage, "store the data elsewhere and send where it is"
	case domain.ReasonKeysUnavailable:
		return exitUnavailable, "the server cannot get the issuer's keys; try again later, or see: jobgate doctor"
	}
	switch p.Status {
	case http.StatusUnauthorized:
		return exitLogin, "see what is wrong with the token: jobgate doctor"
	case http.StatusForbidden:
		if p.Code == "" {
			return exitForbidden, "it is not jobgate that refused, but what stands in front of it: jobgate doctor"
		}
		return exitForbidden, "the token may lack a scope: jobgate login --scope SCOPE; else ask an operator, who finds the reason by the id"
	case http.StatusNotFound:
		return exitNotFound, "see your jobs: jobgate list"
	case http.StatusConflict:
		return exitConflict, "see what became of it: jobgate get ID"
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return exitUsage, ""
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return exitUnavailable, "try again later"
	}
	if p.Status >= http.StatusInternalServerError {
		return exitUnavailable, "it is a fault of the server; an operator finds it in the log by the request"
	}
	return exitNo, ""
}
