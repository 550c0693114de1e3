package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jobgate/jobgate/domain"
)

// migrations lead from each version of the schema to the next; a database's user_version says how many it has seen.
// They are never changed once released, and leave the schema such that the version before can go on using it: it may
// be running beside.
var migrations = [...]string{
	`CREATE TABLE jobs (
		id          TEXT PRIMARY KEY,
		issuer      TEXT NOT NULL,
		subject     TEXT NOT NULL,
		name        TEXT NOT NULL,
		status      TEXT NOT NULL,
		created_at  INTEGER NOT NULL, -- times are milliseconds since 1970, 0 for none
		due_at      INTEGER NOT NULL,
		check_at    INTEGER NOT NULL,
		lease_until INTEGER NOT NULL,
		expires_at  INTEGER NOT NULL,
		revision    INTEGER NOT NULL,
		submission  TEXT NOT NULL,    -- JSON, written once
		state       TEXT NOT NULL,    -- JSON, written with every step
		output      BLOB,
		payload     BLOB              -- as it was sent
	) STRICT;
	CREATE INDEX jobs_open ON jobs (check_at) WHERE status IN ('queued', 'running');
	CREATE INDEX jobs_expired ON jobs (expires_at) WHERE expires_at > 0;
	CREATE INDEX jobs_owned ON jobs (issuer, subject, created_at, id);
	CREATE INDEX jobs_newest ON jobs (created_at, id);
	CREATE TABLE probe (id INTEGER PRIMARY KEY, filler BLOB NOT NULL) STRICT;`,
}

// migrate brings the schema up to date in one transaction. Of several processes at it one does, and the others see
// that it is done.
func migrate(ctx context.Context, conn *sql.Conn) (err error) {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	var version int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return domain.Errorf(domain.Internal, domain.ReasonInternal,
			"the store has schema version %d, written by a newer program; this one knows versions up to %d", version, len(migrations))
	}
	for _, text := range migrations[version:] {
		if _, err := conn.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(migrations))); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}
