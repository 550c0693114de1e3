package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/jobgate/jobgate/domain"
)

// openTimeout bounds the wait for other processes that start at the same time. A migration takes what it takes.
const openTimeout = 30 * time.Second

// Open opens the database that url names, and creates or migrates its tables when it has to.
//
// With sqlite:PATH it is a file, which Open creates with mode 0600, and missing directories with 0700. Beside the
// database it keeps PATH.lock, which tells processes that share it from one that wants it alone.
//
// With postgres://USER:PASSWORD@HOST:PORT/DATABASE it is a database that exists and is encoded in UTF-8; the parameters
// are those of https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS, and sslmode=verify-full
// is what a network that others use too needs. The tables are made in the first schema of the search_path. A user who
// may not create them does once they are there.
//
// Errors: Invalid for a URL of another form, and for Exclusive on PostgreSQL; Conflict when the database is in use and
// either side wants it alone; Unavailable when it cannot be opened now; Internal when it is no database of this or an
// older version, nor of a newer one that this one can go on using.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	return open(ctx, url, opts, migrations[:])
}

// open is Open by a program that knows the schema as far as known.
func open(ctx context.Context, url string, opts Options, known []migration) (*Store, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Store{opts: opts, closing: make(chan struct{})}
	var err error
	switch path, isFile := strings.CutPrefix(url, "sqlite:"); {
	case isFile && path != "":
		s.file = path
		s.engine, s.reads, err = openSQLite(ctx, path, opts, known)
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		s.engine, s.reads, err = openPostgres(ctx, url, opts, known)
	default:
		err = domain.Errorf(domain.Invalid, domain.ReasonInvalidFields, "the store's URL must be sqlite:PATH or postgres://HOST/DATABASE")
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}
