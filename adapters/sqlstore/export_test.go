package sqlstore

import (
	"context"
	"database/sql"
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

// MaxGroup is the most writes in one transaction of SQLite's.
const MaxGroup = maxGroup

// SchemaVersion is the version that Open migrates to.
const SchemaVersion = len(migrations)

// Exec runs any SQL, on SQLite on the writer's connection between transactions of others.
func (s *Store) Exec(ctx context.Context, query string, args ...any) error {
	return s.engine.write(ctx, func(ctx context.Context, _ *writes) error {
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
	return map[string]Statement{
		"take":          {d.dueSQL(), "jobs_open"},
		"expire":        {d.expireSQL(), "jobs_expired"},
		"get":           {loadSQL, key},
		"update":        {storeSQL, key},
		"postpone":      {postponeSQL, key},
		"scan of all":   {scanAnySQL, "jobs_newest"},
		"page of all":   {pageAnySQL, "jobs_newest"},
		"scan of owner": {d.scanOwnedSQL(), "jobs_owned"},
		"page of owner": {d.pageOwnedSQL(), "jobs_owned"},
	}
}
