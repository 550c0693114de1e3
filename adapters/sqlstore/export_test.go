package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/jobgate/jobgate/domain"
)

// Commits returns how many transactions SQLite's writer has committed.
func (s *Store) Commits() int64 {
	if e, ok := s.engine.(*sqliteEngine); ok {
		return e.commits.Load()
	}
	return 0
}

// Waiting returns how many writes wait for SQLite's writer.
func (s *Store) Waiting() int { return len(s.engine.(*sqliteEngine).queue) }

// Gather has a writer wait that has seen so many callers, of whom some come, and returns how many are there in the end.
func Gather(callers, coming int, patience time.Duration) int {
	e := &sqliteEngine{queue: make(chan *write, maxWaiting), callers: callers}
	for range coming {
		go func() { e.queue <- nil }()
	}
	e.gather(patience)
	return len(e.queue)
}

// Callers returns how many callers a writer expects after groups of these sizes.
func Callers(groups ...int) int {
	var e sqliteEngine
	for _, n := range groups {
		e.answered(n)
	}
	return e.callers
}

// MaxRecent is how many jobs the writer has at hand at most.
const MaxRecent = 2 * maxRecent

// MaxGroup is the most writes in one transaction of SQLite's.
const MaxGroup = maxGroup

// SchemaVersion is the version that Open migrates to.
const SchemaVersion = len(migrations)

// Exec runs any SQL, on SQLite on the writer's connection between transactions of others.
func (s *Store) Exec(ctx context.Context, query string, args ...any) error {
	return s.engine.write(ctx, func(ctx context.Context, w *writes) error {
		w.recent.clear()
		_, err := s.connection().ExecContext(ctx, query, args...)
		return translate(err)
	})
}

// Query runs any SQL that reads, where Exec does, and hands each row to scan.
func (s *Store) Query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	return s.engine.write(ctx, func(ctx context.Context, _ *writes) error {
		rows, err := s.connection().QueryContext(ctx, query, args...)
		if err != nil {
			return translate(err)
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return translate(rows.Err())
	})
}

func (s *Store) connection() interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
} {
	if e, ok := s.engine.(*sqliteEngine); ok {
		return e.conn
	}
	return s.engine.(*postgresEngine).db
}

// Translate is the translation of the databases' own errors.
func Translate(err error) error { return translate(err) }

// Conn returns a connection of a PostgreSQL store's pool, to be closed.
func (s *Store) Conn(ctx context.Context) (*sql.Conn, error) {
	return s.engine.(*postgresEngine).db.Conn(ctx)
}

// A Statement is a query whose cost must not grow with the table, and the index that it has to go by.
type Statement struct{ SQL, Index string }

// SQLiteStatements and PostgresStatements are those, by name.
func SQLiteStatements() map[string]Statement {
	all := statements(sqliteDialect, "sqlite_autoindex_jobs_1")
	all["void running"] = Statement{voidRunningSQL, "jobs_open"}
	all["void queued"] = Statement{voidQueuedSQL, "jobs_open"}
	return all
}

func PostgresStatements() map[string]Statement { return statements(postgresDialect, "jobs_pkey") }

func statements(d dialect, key string) map[string]Statement {
	all := map[string]Statement{
		"take":     {d.dueSQL(), "jobs_open"},
		"expire":   {d.expireSQL(), "jobs_expired"},
		"get":      {loadSQL, key},
		"update":   {storeSQL, key},
		"postpone": {postponeSQL, key},
		"oldest":   {oldestSQL, "jobs_waiting"},
	}
	for name, of := range map[string]struct {
		list  list
		index string
	}{
		"all": {ofAll, "jobs_newest"}, "all of owner": {ofOwner, "jobs_owned"},
		"running": {ofRunning, "jobs_running"}, "running of owner": {ofRunningOwner, "jobs_running"},
		"ended": {ofEnded, "jobs_ended"}, "ended of owner": {ofEndedOwner, "jobs_ended_owned"},
	} {
		scan, page := d.listSQL(of.list)
		all["scan: "+name], all["page: "+name] = Statement{scan, of.index}, Statement{page, of.index}
	}
	return all
}

// OpenAt is Open by a program that knows the schema up to a version.
func OpenAt(ctx context.Context, url string, opts Options, version int) (*Store, error) {
	return open(ctx, url, opts, migrations[:version])
}

// Fill stores n new jobs in few steps, as job makes them, and leaves the database as it is some time after that.
func (s *Store) Fill(ctx context.Context, n int, job func(i int) domain.Job) error {
	// The rows come in the order of no index: there is to be room for all of them.
	before, after := []string{"PRAGMA cache_size = -400000"}, []string{"PRAGMA wal_checkpoint(TRUNCATE)"}
	if _, ok := s.engine.(*postgresEngine); ok {
		before, after = nil, []string{"SET statement_timeout = 0; SET lock_timeout = 0", "VACUUM ANALYZE jobs", "CHECKPOINT"}
	}
	if err := s.runAll(ctx, before); err != nil {
		return err
	}
	const step = 20_000
	for begin := 0; begin < n; begin += step {
		rows := make([]row, 0, step)
		for i := begin; i < min(begin+step, n); i++ {
			job := job(i)
			job.Revision = 1
			row, err := encode(job)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		if err := s.fill(ctx, rows); err != nil {
			return err
		}
	}
	return s.runAll(ctx, after)
}

// runAll runs statements on one connection, outside of any transaction.
func (s *Store) runAll(ctx context.Context, statements []string) error {
	conn := s.connection()
	if p, ok := s.engine.(*postgresEngine); ok {
		own, err := p.db.Conn(ctx)
		if err != nil {
			return err
		}
		defer own.Raw(func(any) error { return driver.ErrBadConn }) //nolint:errcheck // its settings are no other's
		conn = own
	}
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

func (s *Store) fill(ctx context.Context, rows []row) error {
	p, ok := s.engine.(*postgresEngine)
	if !ok {
		return s.engine.write(ctx, func(ctx context.Context, w *writes) error {
			for i := range rows {
				if _, err := w.insert(ctx, &rows[i], time.Time{}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool
	return conn.Raw(func(driverConn any) error {
		source := pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) { return rows[i].values(), nil })
		_, err := driverConn.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{"jobs"}, strings.Split(columns, ", "), source)
		return err
	})
}
