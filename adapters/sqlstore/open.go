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
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/jobgate/jobgate/domain"
)

const (
	// openTimeout bounds the wait for other processes that start, or migrate, at the same time.
	openTimeout = 30 * time.Second
	// busyTimeout bounds the wait for another process's transaction, which lasts milliseconds.
	busyTimeout = 5 * time.Second

	// readConns is how many reads go on at once.
	readConns = 4
	// logLimit is what the write-ahead log is cut back to after a burst, in bytes.
	logLimit = 64 << 20
)

// Open opens the database that url names, sqlite:PATH, and creates or migrates it when it has to: the file with mode
// 0600, missing directories with 0700. Beside the database it keeps PATH.lock, which tells processes that share it
// from one that wants it alone.
//
// Errors: Invalid for a URL of another form; Conflict when the database is in use and either side wants it alone;
// Unavailable when it cannot be opened now; Internal when it is no database of this or an older version.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	path, ok := strings.CutPrefix(url, "sqlite:")
	if !ok || path == "" {
		return nil, domain.Errorf(domain.Invalid, domain.ReasonInvalidFields, "the store's URL must be sqlite:PATH")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, domain.Wrap(err, domain.Invalid, domain.ReasonInvalidFields, "the store's path cannot be resolved")
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Store{
		opts: opts, writes: make(chan *write, maxWaiting),
		closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := s.open(ctx, path); err != nil {
		return nil, errors.Join(err, s.release())
	}
	go s.runWriter()
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store's directory cannot be created")
	}
	var err error
	if s.lock, err = lockFile(path+".lock", s.opts.Exclusive); err != nil {
		if errors.Is(err, errLocked) {
			return domain.Wrap(err, domain.Conflict, domain.ReasonConflict, "the store %s is in use by another process", path)
		}
		return domain.Wrap(err, domain.Unavailable, domain.ReasonUnavailable, "the store's lock file cannot be used")
	}
	if err := s.openWriter(ctx, path); err != nil {
		return translate(err)
	}
	if err := s.openReaders(ctx, path); err != nil {
		return translate(err)
	}
	if !s.opts.Exclusive {
		return nil
	}
	if err := s.tx.begin(); err != nil {
		return err
	}
	if err := s.tx.voidLeases(s.opts.Now()); err != nil {
		s.tx.rollback()
		return err
	}
	return s.tx.commit()
}

// openWriter opens the connection that writes and brings the schema up to date.
func (s *Store) openWriter(ctx context.Context, path string) (err error) {
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)", // https://www.sqlite.org/wal.html
		fmt.Sprintf("journal_size_limit(%d)", logLimit),
	}
	if s.opts.Durability == Power {
		// On macOS fsync alone leaves the drive's own cache.
		pragmas = append(pragmas, "synchronous(FULL)", "fullfsync(1)")
	} else {
		pragmas = append(pragmas, "synchronous(NORMAL)")
	}
	// The file gets the mode of the lock file, and its log and index get its own.
	query := url.Values{"modeof": {path + ".lock"}, "_pragma": pragmas}
	if s.writer, err = sql.Open("sqlite", dsn(path, query)); err != nil {
		return err
	}
	s.writer.SetMaxOpenConns(1)
	// The switch to WAL does not wait for the busy timeout when two processes are at it at once.
	for {
		if s.conn, err = s.writer.Conn(ctx); !isBusy(err) {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err != nil {
		return err
	}
	var mode string
	if err := s.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return domain.Errorf(domain.Internal, domain.ReasonInternal, "the file system of %s cannot hold a database in WAL mode", path)
	}
	if err := migrate(ctx, s.conn); err != nil {
		return err
	}
	s.tx, err = prepareTransaction(ctx, s.conn)
	return err
}

func (s *Store) openReaders(ctx context.Context, path string) (err error) {
	query := url.Values{"mode": {"ro"}, "_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())}}
	if s.readers, err = sql.Open("sqlite", dsn(path, query)); err != nil {
		return err
	}
	s.readers.SetMaxOpenConns(readConns)
	s.readers.SetMaxIdleConns(readConns)
	s.reads, err = prepareReads(ctx, s.readers)
	return err
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

func isBusy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY
}
