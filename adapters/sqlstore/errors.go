package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/jobgate/jobgate/domain"
)

var (
	errNotFound = domain.Errorf(domain.NotFound, domain.ReasonNotFound, "there is no such job")
	errClosed   = domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "the store is closed")
)

// translate is the one place that classifies the errors of database/sql and of SQLite
// (https://www.sqlite.org/rescode.html). It leaves a *domain.Error alone.
func translate(err error) error {
	if _, ok := errors.AsType[*domain.Error](err); ok || err == nil {
		return err
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store was not given the time to answer")
	case errors.Is(err, sql.ErrNoRows):
		return errNotFound
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff { // the primary code; the rest of an extended one says more of the same
		case sqlite3.SQLITE_FULL:
			return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store is full")
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
			return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store is busy")
		case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
			return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store did not answer")
		case sqlite3.SQLITE_TOOBIG:
			return domain.Wrap(err, domain.TooLarge, domain.ReasonTooLarge, "the job is larger than the store can hold")
		}
	}
	return domain.Wrap(err, domain.Internal, domain.ReasonInternal, "the store failed")
}
