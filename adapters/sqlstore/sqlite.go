package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

const (
	// busyTimeout bounds the wait for another process's transaction, which lasts milliseconds.
	busyTimeout = 5 * time.Second

	// readConns is how many reads go on at once.
	readConns = 4

	// readCache and writeCache are what a connection keeps of the file at most, in KiB: of a million jobs the inner pages
	// of the indexes, and the pages that the writer comes back to. The default is 2000.
	readCache  = 8 << 10
	writeCache = 16 << 10

	// checkpointPages is the length of the write-ahead log, in pages, at which it is taken in: writes to a page that come
	// before cost the file one. The default is 1000, which is a few hundred writes to jobs that are not neighbours.
	checkpointPages = 4000
	// logLimit is what the write-ahead log is cut back to after a burst, in bytes.
	logLimit = 64 << 20
)

// sqliteDialect is how SQLite words what PostgreSQL words differently.
var sqliteDialect = dialect{beforeOwned: isBefore, beforeEndedOwned: isBefore, filler: `zeroblob($1)`}

// An open job that is looked at by $1 anyway is left alone, whatever its lease.
const (
	voidRunningSQL = `UPDATE jobs SET lease_until = min(lease_until, $1), check_at = $1, revision = revision + 1
		WHERE ` + isOpen + ` AND check_at > $1 AND status = 'running'`
	voidQueuedSQL = `UPDATE jobs SET check_at = max(due_at, $1), revision = revision + 1
		WHERE ` + isOpen + ` AND check_at > $1 AND status = 'queued' AND check_at > max(due_at, $1)`
)

// sqliteEngine is a database file: one connection that writes, by writer.go, and some that read.
type sqliteEngine struct {
	path                    string
	lock                    *os.File
	writer                  *sql.DB     // one connection
	conn                    *sql.Conn   // that connection
	prepared                []*sql.Stmt // on conn
	begin, commit, rollback *sql.Stmt
	statements              writes
	readers                 *sql.DB

	queue   chan *write
	closing chan struct{} // closed when close begins
	stopped chan struct{} // closed when the writer has ended
	commits atomic.Int64  // transactions committed
	callers int           // at once, lately; see gather
}

func openSQLite(ctx context.Context, path string, opts Options, known []migration) (engine, reads, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, reads{}, domain.Wrap(err, domain.Invalid, domain.ReasonInvalidFields, "the store's path cannot be resolved")
	}
	e := &sqliteEngine{path: path, queue: make(chan *write, maxWaiting), closing: make(chan struct{}), stopped: make(chan struct{})}
	r, err := e.open(ctx, opts, known)
	if err != nil {
		return nil, reads{}, errors.Join(inFile(translate(err), path), e.release())
	}
	go e.runWriter()
	return e, r, nil
}

func (e *sqliteEngine) open(ctx context.Context, opts Options, known []migration) (reads, error) {
	path := e.path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return reads{}, domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store's directory cannot be created")
	}
	var err error
	if e.lock, err = lockFile(path+".lock", opts.Exclusive); err != nil {
		if errors.Is(err, errLocked) {
			return reads{}, domain.Wrap(err, domain.Conflict, domain.ReasonConflict, "the store %s is in use by another process", path)
		}
		return reads{}, domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store's lock file cannot be used")
	}
	if err := e.openWriter(ctx, opts.Durability, known); err != nil {
		return reads{}, err
	}
	if opts.Exclusive {
		if err := e.voidLeases(ctx, opts.Now()); err != nil {
			return reads{}, err
		}
	}
	return e.openReaders(ctx)
}

// openWriter opens the connection that writes and brings the schema up to date.
func (e *sqliteEngine) openWriter(ctx context.Context, durability Durability, known []migration) (err error) {
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		fmt.Sprintf("cache_size(-%d)", writeCache),
		"journal_mode(WAL)", // https://www.sqlite.org/wal.html
		fmt.Sprintf("journal_size_limit(%d)", logLimit),
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages),
	}
	if durability == Power {
		// On macOS fsync alone leaves the drive's own cache.
		pragmas = append(pragmas, "synchronous(FULL)", "fullfsync(1)")
	} else {
		pragmas = append(pragmas, "synchronous(NORMAL)")
	}
	// The file gets the mode of the lock file, and its log and index get its own.
	query := url.Values{"modeof": {e.path + ".lock"}, "_pragma": pragmas}
	if e.writer, err = sql.Open("sqlite", dsn(e.path, query)); err != nil {
		return err
	}
	e.writer.SetMaxOpenConns(1)
	// The switch to WAL does not wait for the busy timeout when two processes are at it at once.
	err = whileBusy(ctx, func() (err error) {
		e.conn, err = e.writer.Conn(ctx)
		return err
	})
	if err != nil {
		return err
	}
	var mode string
	if err := e.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return domain.Errorf(domain.Internal, domain.ReasonInternal, "the file system of %s cannot hold a database in WAL mode", e.path)
	}
	if err := e.migrate(ctx, known); err != nil {
		return err
	}
	// Two that both read first and then write could not wait for each other, so the lock is taken at once.
	err = prepare(ctx, e, map[**sql.Stmt]string{&e.begin: "BEGIN IMMEDIATE", &e.commit: "COMMIT", &e.rollback: "ROLLBACK"})
	if err != nil {
		return err
	}
	e.statements, err = prepareWrites(ctx, e, sqliteDialect)
	e.statements.recent = newRecent()
	return err
}

// PrepareContext implements preparer on the connection that writes. Unlike those of a pool, the statements of one
// connection are not closed with it, and SQLite keeps the file open for them.
func (e *sqliteEngine) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	stmt, err := e.conn.PrepareContext(ctx, query)
	if err == nil {
		e.prepared = append(e.prepared, stmt)
	}
	return stmt, err
}

func (e *sqliteEngine) openReaders(ctx context.Context) (_ reads, err error) {
	query := url.Values{"mode": {"ro"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		fmt.Sprintf("cache_size(-%d)", readCache),
	}}
	if e.readers, err = sql.Open("sqlite", dsn(e.path, query)); err != nil {
		return reads{}, err
	}
	e.readers.SetMaxOpenConns(readConns)
	e.readers.SetMaxIdleConns(readConns)
	return prepareReads(ctx, e.readers, sqliteDialect)
}

// migrate brings the schema up to date in one transaction. Of several processes at it one does, and the others see
// that it is done.
func (e *sqliteEngine) migrate(ctx context.Context, known []migration) error {
	if version, err := e.schemaVersion(ctx, known); err != nil || version >= len(known) {
		return err // without a lock
	}
	return e.inTransaction(ctx, func() error {
		version, err := e.schemaVersion(ctx, known)
		if err != nil || version >= len(known) {
			return err
		}
		for _, m := range known[version:] {
			if _, err := e.conn.ExecContext(ctx, m.sqlite); err != nil {
				return err
			}
		}
		_, err = e.conn.ExecContext(ctx, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS jobs_schema (version INTEGER NOT NULL) STRICT;
			DELETE FROM jobs_schema;
			INSERT INTO jobs_schema VALUES (%d);
			PRAGMA user_version = %d`, len(known), known[len(known)-1].oldest))
		return err
	})
}

// schemaVersion returns 0 where there is no schema. The file's user_version is the oldest version that can use it,
// which in version 1 was all there was to know. That of a newer program will do while it says so.
func (e *sqliteEngine) schemaVersion(ctx context.Context, known []migration) (version int, err error) {
	var oldest int
	if err := e.conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&oldest); err != nil {
		return 0, err
	}
	if oldest > len(known) {
		return 0, errNewer(oldest, len(known))
	}
	var kept bool
	if err := e.conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'jobs_schema')").Scan(&kept); err != nil || !kept {
		return oldest, err
	}
	err = e.conn.QueryRowContext(ctx, "SELECT version FROM jobs_schema").Scan(&version)
	return version, err
}

// voidLeases has every open job looked at now, or when it is due.
func (e *sqliteEngine) voidLeases(ctx context.Context, now time.Time) error {
	return e.inTransaction(ctx, func() error {
		if _, err := e.conn.ExecContext(ctx, voidRunningSQL, now.UnixMilli()); err != nil {
			return err
		}
		_, err := e.conn.ExecContext(ctx, voidQueuedSQL, now.UnixMilli())
		return err
	})
}

// inTransaction is for the time before the writer runs.
func (e *sqliteEngine) inTransaction(ctx context.Context, do func() error) (err error) {
	err = whileBusy(ctx, func() error {
		_, err := e.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = e.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	if err := do(); err != nil {
		return err
	}
	_, err = e.conn.ExecContext(ctx, "COMMIT")
	return err
}

// take implements engine.
func (e *sqliteEngine) take(ctx context.Context, now time.Time, limit int, step ports.Step) (taken due, err error) {
	err = e.write(ctx, func(ctx context.Context, w *writes) (err error) {
		if taken, err = w.due(ctx, now, limit, step); err != nil {
			return err
		}
		for _, job := range taken.jobs {
			if err := w.store(ctx, job); err != nil {
				return err
			}
		}
		for _, id := range taken.unread {
			if err := w.postpone(ctx, id, now); err != nil {
				return err
			}
		}
		return nil
	})
	return taken, err
}

// signal implements engine: whoever shares the file finds by polling what is due.
func (e *sqliteEngine) signal() {}

// listen implements engine.
func (e *sqliteEngine) listen(context.Context, func()) error { return nil }

// close implements engine: writes that wait are still done.
func (e *sqliteEngine) close() error {
	close(e.closing)
	<-e.stopped
	return e.release()
}

// release closes whatever was opened.
func (e *sqliteEngine) release() error {
	var errs []error
	if e.readers != nil {
		errs = append(errs, e.readers.Close())
	}
	// Last, because the last connection to a database takes its write-ahead log in.
	for _, stmt := range e.prepared {
		errs = append(errs, stmt.Close())
	}
	if e.conn != nil {
		errs = append(errs, e.conn.Close())
	}
	if e.writer != nil {
		errs = append(errs, e.writer.Close())
	}
	if e.lock != nil {
		errs = append(errs, unlock(e.lock), e.lock.Close())
	}
	return errors.Join(errs...)
}

// dsn is the URI of a database file, https://www.sqlite.org/uri.html.
func dsn(path string, query url.Values) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // C:/…
		path = "/" + path
	}
	// SQLite takes a plus in a query for what it is.
	return (&url.URL{Scheme: "file", Path: path, RawQuery: strings.ReplaceAll(query.Encode(), "+", "%20")}).String()
}

// whileBusy does what another process may be at, again and again for as long as openTimeout.
func whileBusy(ctx context.Context, do func() error) error {
	for end := time.Now().Add(openTimeout); ; {
		err := do()
		if !isBusy(err) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func isBusy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY
}
