package sqlstore

import (
	"context"
	"database/sql"
)

// Commits returns how many transactions the writer has committed.
func (s *Store) Commits() int64 { return s.commits.Load() }

// Waiting returns how many writes wait for the writer.
func (s *Store) Waiting() int { return len(s.writes) }

// MaxGroup is the most writes in one transaction.
const MaxGroup = maxGroup

// SchemaVersion is the version that Open migrates to.
const SchemaVersion = len(migrations)

// Exec runs any SQL on the writer's connection, between transactions of others.
func (s *Store) Exec(ctx context.Context, query string, args ...any) error {
	return s.write(ctx, func(*transaction) error {
		_, err := s.conn.ExecContext(ctx, query, args...)
		return translate(err)
	})
}

// Query runs any SQL that reads, on the writer's connection, and hands each row to scan.
func (s *Store) Query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	return s.write(ctx, func(*transaction) error {
		rows, err := s.conn.QueryContext(ctx, query, args...)
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

// Statements are the queries whose cost must not grow with the table, and the index that each has to go by.
var Statements = map[string]struct{ SQL, Index string }{
	"take":          {dueSQL, "jobs_open"},
	"void running":  {voidRunningSQL, "jobs_open"},
	"void queued":   {voidQueuedSQL, "jobs_open"},
	"expire":        {expireSQL, "jobs_expired"},
	"get":           {loadSQL, "sqlite_autoindex_jobs_1"},
	"update":        {storeSQL, "sqlite_autoindex_jobs_1"},
	"remove":        {removeSQL, "sqlite_autoindex_jobs_1"},
	"scan of all":   {scanAnySQL, "jobs_newest"},
	"page of all":   {pageAnySQL, "jobs_newest"},
	"scan of owner": {scanOwnedSQL, "jobs_owned"},
	"page of owner": {pageOwnedSQL, "jobs_owned"},
}
