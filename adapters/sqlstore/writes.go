package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// A dialect is what SQLite and PostgreSQL word differently.
type dialect struct {
	skipLocked       string // at the end of a query whose rows are changed next
	beforeOwned      string // isBefore in the list of one owner
	beforeEndedOwned string // isBefore in the list of one owner's dead or cancelled jobs
	filler           string // as many bytes as $1 says
}

// The statements, with parameters as SQLite and PostgreSQL both know them. SQLite plans a statement anew whenever a
// parameter is bound that is a LIMIT by itself, and not part of an expression.
const (
	// An expired job makes room for the new one of its id.
	insertSQL = `INSERT INTO jobs (` + columns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (id) DO UPDATE SET issuer = excluded.issuer, subject = excluded.subject, name = excluded.name, status = excluded.status,
			created_at = excluded.created_at, due_at = excluded.due_at, check_at = excluded.check_at, lease_until = excluded.lease_until,
			expires_at = excluded.expires_at, revision = excluded.revision, submission = excluded.submission, state = excluded.state,
			output = excluded.output, payload = excluded.payload
		WHERE jobs.expires_at > 0 AND jobs.expires_at <= $16`
	loadSQL = `SELECT ` + columns + ` FROM jobs WHERE id = $1`
	// Two jobs of one id, of which one has replaced the other, were created at different times; that they were is no
	// reason to go by the index of that.
	storeSQL = `UPDATE jobs SET status = $1, due_at = $2, check_at = $3, lease_until = $4, expires_at = $5, revision = $6, state = $7, output = $8
		WHERE id = $9 AND revision = $6 - 1 AND created_at + 0 = $10`

	// isOpen is word for word the condition of the index jobs_open: only so is that index used.
	isOpen      = `status IN ('queued', 'running')`
	postponeSQL = `UPDATE jobs SET check_at = $1, revision = revision + 1 WHERE id = $2`

	clearSQL = `DELETE FROM probe`
)

func (d dialect) dueSQL() string {
	return `SELECT ` + columns + ` FROM jobs WHERE ` + isOpen + ` AND check_at <= $1 ORDER BY check_at LIMIT $2 + 0` + d.skipLocked
}

func (d dialect) expireSQL() string {
	return `DELETE FROM jobs WHERE id IN (
		SELECT id FROM jobs WHERE expires_at > 0 AND expires_at <= $1 ORDER BY expires_at LIMIT $2 + 0` + d.skipLocked + `)`
}

func (d dialect) fillSQL() string {
	return `INSERT INTO probe (id, filler) VALUES (1, ` + d.filler + `) ON CONFLICT (id) DO UPDATE SET filler = excluded.filler`
}

// writes are the statements that change something, with the reads that go with them, prepared where they run.
type writes struct {
	insertStmt, loadStmt, storeStmt *sql.Stmt
	dueStmt, postponeStmt           *sql.Stmt
	expireStmt, fillStmt, clearStmt *sql.Stmt

	recent *recent
}

func prepareWrites(ctx context.Context, on preparer, d dialect) (w writes, err error) {
	err = prepare(ctx, on, map[**sql.Stmt]string{
		&w.insertStmt: insertSQL, &w.loadStmt: loadSQL, &w.storeStmt: storeSQL,
		&w.dueStmt: d.dueSQL(), &w.postponeStmt: postponeSQL,
		&w.expireStmt: d.expireSQL(), &w.fillStmt: d.fillSQL(), &w.clearStmt: clearSQL,
	})
	return w, err
}

type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// prepare prepares statements, which on closes.
func prepare(ctx context.Context, on preparer, statements map[**sql.Stmt]string) error {
	for stmt, text := range statements {
		var err error
		if *stmt, err = on.PrepareContext(ctx, text); err != nil { //nolint:sqlclosecheck // see above
			return err
		}
	}
	return nil
}

// insert stores a new row, over one that has expired, and reports whether there was none else with its id.
func (w *writes) insert(ctx context.Context, r *row, now time.Time) (bool, error) {
	n, err := exec(ctx, w.insertStmt, append(r.values(), now.UnixMilli())...)
	return n == 1, err
}

// load returns the job, whether or not it has expired.
func (w *writes) load(ctx context.Context, id string) (domain.Job, error) {
	job, err := loadJob(w.loadStmt.QueryRowContext(ctx, id))
	return job, translate(err)
}

// update moves the job by step and returns it as stored, or errStale when it is being changed by others.
func (w *writes) update(ctx context.Context, id string, step func(domain.Job) (domain.Job, error)) (domain.Job, error) {
	if old, ok := w.recent.take(id); ok {
		// When another process has changed the job since, the step may be another one, or refuse for no reason.
		if next, err := moveBy(step, old); err == nil {
			if err := w.store(ctx, next); !errors.Is(err, errStale) {
				return next, err
			}
		}
	}
	old, err := w.load(ctx, id)
	if err != nil {
		return domain.Job{}, err
	}
	next, err := moveBy(step, old)
	if err != nil {
		return domain.Job{}, err
	}
	return next, w.store(ctx, next)
}

// store writes what the steps of a job change. It returns errStale when that is no longer of the revision before.
func (w *writes) store(ctx context.Context, job domain.Job) error {
	values, err := moved(job)
	if err != nil {
		return err
	}
	n, err := exec(ctx, w.storeStmt, values...)
	switch {
	case err != nil:
		return err
	case n == 0:
		return errStale
	}
	w.recent.put(job)
	return nil
}

// moved are the values of storeSQL.
func moved(job domain.Job) ([]any, error) {
	state, err := encodeState(job)
	if err != nil {
		return nil, err
	}
	return []any{
		string(job.Status), millis(job.DueAt), millis(job.CheckAt), millis(job.Lease.Until), millis(job.ExpiresAt),
		job.Revision, state, job.Output, job.ID, millis(job.CreatedAt),
	}, nil
}

// due are the jobs whose check has come, as they are once they are taken. A row that cannot be read, or taken, is to be
// put off, so that it does not stand before the others for ever.
type due struct {
	jobs   []domain.Job
	unread []string // ids
	broken []error  // of unread
}

// due returns at most limit jobs, longest due first, each moved by step.
func (w *writes) due(ctx context.Context, now time.Time, limit int, step ports.Step) (found due, err error) {
	rows, err := w.dueStmt.QueryContext(ctx, now.UnixMilli(), limit)
	if err != nil {
		return due{}, translate(err)
	}
	err = eachRow(rows, func(r *row) error {
		job, ok := w.recent.take(r.id)
		var err error
		if !ok || job.Revision != r.revision || millis(job.CreatedAt) != r.createdAt {
			job, err = r.decode()
		}
		if err == nil {
			job, err = moveBy(func(job domain.Job) (domain.Job, error) { return step(job, now), nil }, job)
		}
		if err != nil {
			found.unread, found.broken = append(found.unread, r.id), append(found.broken, err)
			return nil
		}
		found.jobs = append(found.jobs, job)
		return nil
	})
	return found, translate(err)
}

// moveBy returns what step makes of a job, to be stored.
func moveBy(step func(domain.Job) (domain.Job, error), old domain.Job) (domain.Job, error) {
	next, err := protect(step, old)
	next = withSubmission(next, old)
	next.Revision = old.Revision + 1
	return next, err
}

func (w *writes) postpone(ctx context.Context, id string, now time.Time) error {
	_, err := exec(ctx, w.postponeStmt, now.Add(domain.LastCheck).UnixMilli(), id)
	return err
}

func (w *writes) expire(ctx context.Context, now time.Time, limit int) (int, error) {
	return exec(ctx, w.expireStmt, now.UnixMilli(), limit)
}

func (w *writes) fillProbe(ctx context.Context) error {
	_, err := exec(ctx, w.fillStmt, probeBytes)
	return err
}

func (w *writes) clearProbe(ctx context.Context) error {
	_, err := exec(ctx, w.clearStmt)
	return err
}

// exec returns how many rows the statement changed.
func exec(ctx context.Context, stmt *sql.Stmt, args ...any) (int, error) {
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, translate(err)
	}
	n, err := result.RowsAffected()
	return int(n), translate(err)
}

func loadJob(r *sql.Row) (domain.Job, error) {
	var found row
	if err := found.scan(r); err != nil {
		return domain.Job{}, err
	}
	return found.decode()
}

// eachRow calls do for every row, and closes rows.
func eachRow(rows *sql.Rows, do func(*row) error) error {
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := r.scan(rows); err != nil {
			return err
		}
		if err := do(&r); err != nil {
			return err
		}
	}
	return rows.Err()
}
