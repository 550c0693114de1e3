package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/jobgate/jobgate/domain"
)

var (
	errNotFound = domain.Errorf(domain.NotFound, domain.ReasonNotFound, "there is no such job")
	errClosed   = domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "the store is closed")

	// errStale is an update of a job that another has changed meanwhile. A caller sees it only when that happened over and
	// over.
	errStale = domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "the job is being changed by others")
)

// translate is the one place that classifies the errors of database/sql, of SQLite
// (https://www.sqlite.org/rescode.html) and of PostgreSQL (https://www.postgresql.org/docs/current/errcodes-appendix.html).
// It leaves a *domain.Error alone.
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
		case sqlite3.SQLITE_NOTADB:
			return domain.Wrap(err, domain.Internal, domain.ReasonInternal, "the store's file is no database")
		case sqlite3.SQLITE_CORRUPT:
			return domain.Wrap(err, domain.Internal, domain.ReasonInternal, "the store's file is damaged")
		case sqlite3.SQLITE_TOOBIG:
			return domain.Wrap(err, domain.TooLarge, domain.ReasonTooLarge, "the job is larger than the store can hold")
		}
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return translatePostgres(err, e.Code)
	}
	if lostConnection(err) {
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store cannot be reached")
	}
	return domain.Wrap(err, domain.Internal, domain.ReasonInternal, "the store failed")
}

func translatePostgres(err error, code string) error {
	switch code {
	case "53100": // disk_full
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store is full")
	case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store is busy")
	case "25006", "25P03": // read_only_sql_transaction: a standby; idle_in_transaction_session_timeout
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store cannot write")
	case "22021", "22P05": // character_not_in_repertoire: U+0000, or no UTF-8; untranslatable_character
		return domain.Wrap(err, domain.Invalid, domain.ReasonInvalidFields, "the job has a character that the store cannot hold")
	}
	switch code[:min(2, len(code))] {
	case "08", "53", "57", "58": // connection, resources, operator intervention with timeouts, system
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store did not answer")
	case "54": // program_limit_exceeded
		return domain.Wrap(err, domain.TooLarge, domain.ReasonTooLarge, "the job is larger than the store can hold")
	default:
		return domain.Wrap(err, domain.Internal, domain.ReasonInternal, "the store failed")
	}
}

// inFile has an error that came of SQLite name its file, in what is logged and not in what a caller is shown.
func inFile(err error, path string) error {
	e, ok := errors.AsType[*domain.Error](err)
	if !ok {
		return err
	}
	if _, ok := errors.AsType[*sqlite.Error](e.Err); !ok {
		return err
	}
	named := *e
	named.Err = fmt.Errorf("%s: %w", path, e.Err)
	return &named
}

// lostConnection reports whether err is of the connection to a server, and not of what the server said.
func lostConnection(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	return errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
