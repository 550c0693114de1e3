package sqlstore

import (
	"github.com/jobgate/jobgate/domain"
)

// A migration leads from one version of the schema to the next, in the words of each database. It runs in one
// transaction: writes wait meanwhile, or are refused as Unavailable, a few seconds for a million jobs.
type migration struct {
	// oldest is the oldest version whose programs can go on using the schema as it is then. The version before has to be
	// among them: it may be running beside, and be started again.
	oldest int

	sqlite, postgres string
}

// migrations are never changed once released.
var migrations = [...]migration{{
	oldest: 1,
	sqlite: `CREATE TABLE jobs (
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

	// Text is compared by its bytes, as in SQLite, and JSON is kept as text: jsonb refuses the character U+0000. The rows
	// of a queue die young, so they are vacuumed sooner than by default. The probe is to take the room it asks for.
	postgres: `CREATE TABLE jobs (
		id          TEXT COLLATE "C" PRIMARY KEY,
		issuer      TEXT COLLATE "C" NOT NULL,
		subject     TEXT COLLATE "C" NOT NULL,
		name        TEXT COLLATE "C" NOT NULL,
		status      TEXT COLLATE "C" NOT NULL,
		created_at  BIGINT NOT NULL, -- times are milliseconds since 1970, 0 for none
		due_at      BIGINT NOT NULL,
		check_at    BIGINT NOT NULL,
		lease_until BIGINT NOT NULL,
		expires_at  BIGINT NOT NULL,
		revision    BIGINT NOT NULL,
		submission  TEXT NOT NULL,   -- JSON, written once
		state       TEXT NOT NULL,   -- JSON, written with every step
		output      BYTEA,
		payload     BYTEA            -- as it was sent
	) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
	CREATE INDEX jobs_open ON jobs (check_at) WHERE status IN ('queued', 'running');
	CREATE INDEX jobs_expired ON jobs (expires_at) WHERE expires_at > 0;
	CREATE INDEX jobs_owned ON jobs (issuer, subject, created_at, id);
	CREATE INDEX jobs_newest ON jobs (created_at, id);
	CREATE TABLE probe (id INTEGER PRIMARY KEY, filler BYTEA NOT NULL);
	ALTER TABLE probe ALTER COLUMN filler SET STORAGE EXTERNAL;`,
}, {
	// The jobs of a status that few have are found among all others, and the one that has waited longest.
	oldest:   1,
	sqlite:   rareIndexes,
	postgres: rareIndexes,
}}

// rareIndexes cost a job that succeeds two small entries, and the others nothing until they have ended.
const rareIndexes = `
	CREATE INDEX jobs_waiting ON jobs (due_at) WHERE status = 'queued';
	CREATE INDEX jobs_running ON jobs (created_at, id) WHERE status = 'running';
	CREATE INDEX jobs_ended ON jobs (status, created_at, id) WHERE status IN ('dead', 'cancelled');
	CREATE INDEX jobs_ended_owned ON jobs (issuer, subject, status, created_at, id) WHERE status IN ('dead', 'cancelled');`

// errNewer is a schema that only programs from version oldest on can use.
func errNewer(oldest, known int) error {
	return domain.Errorf(domain.Internal, domain.ReasonInternal,
		"the store was written by a newer program and needs schema version %d; this one knows versions up to %d", oldest, known)
}
