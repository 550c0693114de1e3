package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

const (
	// maxConns is how many connections a store has at most, the one of Listen apart: a handful of servers fit in the 100
	// that PostgreSQL accepts unless told otherwise. What does not get one waits, as long as its context lets it.
	maxConns = 16
	// connIdle and connLife end connections, so that a burst gives its own back and a server that was added gets some.
	connIdle = 5 * time.Minute
	connLife = time.Hour

	connectTimeout = 5 * time.Second // to each host of the URL, whatever that says
	// callTimeout bounds a call, all its tries together: the server's own timeouts are of no use when it does not answer.
	callTimeout = 10 * time.Second

	// A try that failed because of another one is repeated after a random part of a pause that doubles.
	firstRetry = 2 * time.Millisecond
	lastRetry  = 50 * time.Millisecond

	// notifyPause is the least time between two notifications. Each wakes every idle worker there is; and since their
	// commits are one after the other on the whole server, they are kept out of the transactions that store jobs.
	notifyPause   = 20 * time.Millisecond
	notifyTimeout = 2 * time.Second
	channel       = "jobgate_jobs"

	// A listener that has heard nothing for a while asks whether it could have, and connects again after a pause.
	listenCheck  = 30 * time.Second
	firstRelearn = 100 * time.Millisecond
	lastRelearn  = 5 * time.Second

	// migrationLock is the advisory lock of whoever migrates: "jobgate" in ASCII.
	migrationLock = 0x6a6f6267617465
	// migrationTimeout bounds a migration, and the wait for that of another process.
	migrationTimeout = time.Hour
)

// postgresDialect is how PostgreSQL words what SQLite words differently. The owner in a second comparison is for the
// planner, which then sees more in jobs_owned: where one owner has had most of the jobs it would take jobs_newest, and
// search all of it for the few of another.
var postgresDialect = dialect{
	skipLocked:       ` FOR UPDATE SKIP LOCKED`,
	beforeOwned:      isBefore + ` AND (issuer, subject, created_at, id) < ($7, $8, $1, $2)`,
	beforeEndedOwned: isBefore + ` AND (issuer, subject, status, created_at, id) < ($7, $8, $4, $1, $2)`,
	filler:           `decode(repeat('00', $1), 'hex')`,
}

// sessionSQL is what every connection begins with. There is one index for each query, whatever the statistics say: a
// plan that changes as they age is how a queue on PostgreSQL comes to a halt. The plan is made once, and not for each
// call with more work than the call itself. JIT compilation, which starts at a cost that a ban of plans puts on others,
// costs more than any query here. A commit that is not on disk would be lost with the server's processes.
const sessionSQL = `
	SET statement_timeout = '10s';
	SET lock_timeout = '3s';
	SET idle_in_transaction_session_timeout = '5s';
	SET default_transaction_isolation = 'read committed';
	SET plan_cache_mode = force_generic_plan;
	SET enable_seqscan = off;
	SET enable_bitmapscan = off;
	SET enable_sort = off;
	SET jit = off;
	SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';`

// postgresEngine is a pool of connections.
type postgresEngine struct {
	config     *pgx.ConnConfig
	report     func(error)
	db         *sql.DB
	statements writes

	calls   sync.RWMutex  // held for reading by each write, and for good by close
	closing chan struct{} // closed when the writes are done
	due     chan struct{} // holds one: the listeners are to be told
	stopped chan struct{} // closed when the notifier has ended
}

func openPostgres(ctx context.Context, url string, opts Options, known []migration) (engine, reads, error) {
	if opts.Exclusive {
		return nil, reads{}, domain.Errorf(domain.Invalid, domain.ReasonInvalidFields, "a PostgreSQL store is shared, it cannot be had alone")
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, reads{}, domain.Wrap(err, domain.Invalid, domain.ReasonInvalidFields, "the store's URL cannot be read")
	}
	config.ConnectTimeout = connectTimeout
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error { return conn.Exec(ctx, sessionSQL).Close() }
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "jobgate"
	}
	p := &postgresEngine{
		config: config, report: opts.Report, db: stdlib.OpenDB(*config),
		closing: make(chan struct{}), due: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	p.db.SetMaxOpenConns(maxConns)
	p.db.SetMaxIdleConns(maxConns)
	p.db.SetConnMaxIdleTime(connIdle)
	p.db.SetConnMaxLifetime(connLife)
	r, err := p.open(ctx, known)
	if err != nil {
		return nil, reads{}, errors.Join(translate(err), p.db.Close())
	}
	go p.runNotifier()
	return p, r, nil
}

func (p *postgresEngine) open(ctx context.Context, known []migration) (reads, error) {
	if err := p.check(ctx); err != nil {
		return reads{}, err
	}
	if err := p.migrate(ctx, known); err != nil {
		return reads{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	var err error
	if p.statements, err = prepareWrites(ctx, p.db, postgresDialect); err != nil {
		return reads{}, err
	}
	p.statements.recent = newRecent()
	r, err := prepareReads(ctx, p.db, postgresDialect)
	r.timeout, r.snapshot.Isolation = callTimeout, sql.LevelRepeatableRead
	return r, err
}

// check returns nil when the server answers and the database can hold any job.
func (p *postgresEngine) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	var encoding string
	if err := p.db.QueryRowContext(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return domain.Errorf(domain.Internal, domain.ReasonInternal, "the store's database is encoded in %s, and not in UTF8", encoding)
	}
	return nil
}

// migrate brings the schema up to date in one transaction. Of several processes at it one does, and the others see
// that it is done.
func (p *postgresEngine) migrate(ctx context.Context, known []migration) error {
	ctx, cancel := context.WithTimeout(ctx, migrationTimeout)
	defer cancel()
	if version, err := schemaVersion(ctx, p.db, known); err != nil || version >= len(known) {
		return err // without a lock, or the right to change anything
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after the commit there is nothing to roll back
	if _, err := tx.ExecContext(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, tx, known)
	if err != nil || version >= len(known) {
		return err
	}
	if version == 0 {
		_, err = tx.ExecContext(ctx, "CREATE TABLE jobs_schema (version INTEGER NOT NULL, oldest INTEGER NOT NULL); INSERT INTO jobs_schema VALUES (0, 0)")
		if err != nil {
			return err
		}
	}
	for _, m := range known[version:] {
		if _, err := tx.ExecContext(ctx, m.postgres); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE jobs_schema SET version = $1, oldest = $2", len(known), known[len(known)-1].oldest); err != nil {
		return err
	}
	return tx.Commit()
}

// schemaVersion returns 0 where there is no schema. That of a newer program will do while it says so.
func schemaVersion(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, known []migration,
) (version int, err error) {
	// Not to_regclass, which remembers in a transaction that there was none before it.
	const find = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relname = 'jobs_schema' AND pg_catalog.pg_table_is_visible(oid))"
	var exists bool
	if err := q.QueryRowContext(ctx, find).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var oldest int
	if err := q.QueryRowContext(ctx, "SELECT version, oldest FROM jobs_schema").Scan(&version, &oldest); err != nil {
		return 0, err
	}
	if oldest > len(known) {
		return 0, errNewer(oldest, len(known))
	}
	return version, nil
}

// write implements engine: each statement is a transaction of its own, and only the last of do changes anything.
func (p *postgresEngine) write(ctx context.Context, do func(context.Context, *writes) error) error {
	if !p.calls.TryRLock() {
		return errClosed
	}
	defer p.calls.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := do(ctx, &p.statements)
		if !isContention(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return translate(errors.Join(err, ctx.Err()))
		case <-time.After(rand.N(pause)): //nolint:gosec // anybody may know it
		}
	}
}

// isContention reports whether a transaction left nothing behind because of another one.
func isContention(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return errors.Is(err, errStale) || ok && (e.Code == "40001" || e.Code == "40P01") // serialization_failure, deadlock_detected
}

// take implements engine.
func (p *postgresEngine) take(ctx context.Context, now time.Time, limit int, step ports.Step) (taken due, err error) {
	err = p.write(ctx, func(ctx context.Context, w *writes) (err error) {
		taken, err = p.takeOnce(ctx, w, now, limit, step)
		return translate(err)
	})
	return taken, err
}

func (p *postgresEngine) takeOnce(ctx context.Context, w *writes, now time.Time, limit int, step ports.Step) (due, error) {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return due{}, err
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool, or away if it is broken
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return due{}, err
	}
	defer tx.Rollback() //nolint:errcheck // after the commit there is nothing to roll back
	found, err := (&writes{dueStmt: tx.StmtContext(ctx, w.dueStmt)}).due(ctx, now, limit, step)
	if err != nil {
		return due{}, err
	}
	// In one go: a round trip for each would be the larger part of it.
	var batch pgx.Batch
	for _, job := range found.jobs {
		values, err := moved(job)
		if err != nil {
			return due{}, err
		}
		batch.Queue(storeSQL, values...)
	}
	for _, id := range found.unread {
		batch.Queue(postponeSQL, now.Add(domain.LastCheck).UnixMilli(), id)
	}
	if batch.Len() == 0 {
		return due{}, nil
	}
	err = conn.Raw(func(driverConn any) error {
		c, ok := driverConn.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("a connection of type %T", driverConn)
		}
		return c.Conn().SendBatch(ctx, &batch).Close()
	})
	if err != nil {
		return due{}, err
	}
	if err := tx.Commit(); err != nil {
		return due{}, err
	}
	for _, job := range found.jobs {
		w.recent.put(job)
	}
	return found, nil
}

// signal implements engine.
func (p *postgresEngine) signal() {
	select {
	case p.due <- struct{}{}:
	default: // one stands for any number
	}
}

// runNotifier tells the listeners what is signalled, until close and then what is signalled still.
func (p *postgresEngine) runNotifier() {
	defer close(p.stopped)
	for {
		select {
		case <-p.due:
			p.notify()
		case <-p.closing:
			select {
			case <-p.due:
				p.notify()
			default:
			}
			return
		}
		select {
		case <-time.After(notifyPause):
		case <-p.closing:
		}
	}
}

func (p *postgresEngine) notify() {
	ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
	defer cancel()
	if _, err := p.db.ExecContext(ctx, "NOTIFY "+channel); err != nil {
		p.tell(translate(err))
	}
}

// listen implements engine. It has a connection of its own.
func (p *postgresEngine) listen(ctx context.Context, wake func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	pause := firstRelearn
	for {
		err := p.listenOnce(ctx, func() {
			pause = firstRelearn
			wake()
		})
		if ctx.Err() != nil {
			return nil
		}
		p.tell(translate(err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
			pause = min(2*pause, lastRelearn)
		}
	}
}

// listenOnce listens until ctx ends or its connection does.
func (p *postgresEngine) listenOnce(ctx context.Context, wake func()) error {
	conn, err := pgx.ConnectConfig(ctx, p.config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // says good-bye, and nothing is lost if it cannot
	}()
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	_, err = conn.Exec(bounded, "LISTEN "+channel)
	cancel()
	if err != nil {
		return err
	}
	wake() // for what was signalled while nobody listened here
	for {
		bounded, cancel := context.WithTimeout(ctx, listenCheck)
		_, err := conn.WaitForNotification(bounded)
		cancel()
		switch {
		case err == nil:
			wake()
		case ctx.Err() == nil && pgconn.Timeout(err):
			bounded, cancel := context.WithTimeout(ctx, connectTimeout)
			err := conn.Ping(bounded)
			cancel()
			if err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// tell reports what no caller learns.
func (p *postgresEngine) tell(err error) {
	if p.report != nil {
		p.report(err)
	}
}

// close implements engine.
func (p *postgresEngine) close() error {
	p.calls.Lock()
	close(p.closing)
	<-p.stopped
	return p.db.Close()
}
