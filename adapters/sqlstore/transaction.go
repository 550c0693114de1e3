package sqlstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/jobgate/jobgate/domain"
)

// transaction is the writer's connection and what is done on it. Its statements run without a context: a write that
// has begun is a commit away from its end, and a cancelled one would take its neighbours along.
type transaction struct {
	beginStmt, commitStmt, rollbackStmt         *sql.Stmt
	insertStmt, loadStmt, storeStmt, removeStmt *sql.Stmt
	dueStmt, postponeStmt, expireStmt           *sql.Stmt
	voidQueuedStmt, voidRunningStmt             *sql.Stmt
	fillStmt, clearStmt                         *sql.Stmt
}

// The statements, with parameters as SQLite and PostgreSQL both know them.
const (
	insertSQL = `INSERT INTO jobs (` + columns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT (id) DO NOTHING`
	loadSQL  = `SELECT ` + columns + ` FROM jobs WHERE id = $1`
	storeSQL = `UPDATE jobs SET status = $1, due_at = $2, check_at = $3, lease_until = $4, expires_at = $5, revision = $6, state = $7, output = $8
		WHERE id = $9`
	removeSQL = `DELETE FROM jobs WHERE id = $1`

	// isOpen is word for word the condition of the index jobs_open: only so is that index used.
	isOpen      = `status IN ('queued', 'running')`
	dueSQL      = `SELECT ` + columns + ` FROM jobs WHERE ` + isOpen + ` AND check_at <= $1 ORDER BY check_at LIMIT $2`
	postponeSQL = `UPDATE jobs SET check_at = $1 WHERE id = $2`
	expireSQL   = `DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE expires_at > 0 AND expires_at <= $1 ORDER BY expires_at LIMIT $2)`

	// An open job that is looked at by $1 anyway is left alone, whatever its lease.
	voidRunningSQL = `UPDATE jobs SET lease_until = min(lease_until, $1), check_at = $1, revision = revision + 1
		WHERE ` + isOpen + ` AND check_at > $1 AND status = 'running'`
	voidQueuedSQL = `UPDATE jobs SET check_at = max(due_at, $1), revision = revision + 1
		WHERE ` + isOpen + ` AND check_at > $1 AND status = 'queued' AND check_at > max(due_at, $1)`

	fillSQL  = `INSERT INTO probe (id, filler) VALUES (1, zeroblob($1)) ON CONFLICT (id) DO UPDATE SET filler = excluded.filler`
	clearSQL = `DELETE FROM probe`
)

func prepareTransaction(ctx context.Context, conn *sql.Conn) (*transaction, error) {
	tx := &transaction{}
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&tx.beginStmt, "BEGIN IMMEDIATE"}, {&tx.commitStmt, "COMMIT"}, {&tx.rollbackStmt, "ROLLBACK"},
		{&tx.insertStmt, insertSQL}, {&tx.loadStmt, loadSQL}, {&tx.storeStmt, storeSQL}, {&tx.removeStmt, removeSQL},
		{&tx.dueStmt, dueSQL}, {&tx.postponeStmt, postponeSQL}, {&tx.expireStmt, expireSQL},
		{&tx.voidRunningStmt, voidRunningSQL}, {&tx.voidQueuedStmt, voidQueuedSQL},
		{&tx.fillStmt, fillSQL}, {&tx.clearStmt, clearSQL},
	} {
		var err error
		if *s.stmt, err = conn.PrepareContext(ctx, s.text); err != nil { //nolint:sqlclosecheck // closed with conn
			return nil, err
		}
	}
	return tx, nil
}

// begin waits for other processes, bounded by the connection's busy timeout. Two that both read first and then write
// could not wait for each other, so the lock is taken at once.
func (tx *transaction) begin() error {
	_, err := exec(tx.beginStmt)
	return err
}

func (tx *transaction) commit() error {
	_, err := exec(tx.commitStmt)
	return err
}

// rollback leaves no transaction open. It fails when SQLite has rolled back already, or when none was begun.
func (tx *transaction) rollback() {
	_, _ = exec(tx.rollbackStmt)
}

// insert stores a new row and reports whether there was none with its id.
func (tx *transaction) insert(r *row) (bool, error) {
	n, err := exec(tx.insertStmt, r.values()...)
	return n == 1, err
}

// load returns the job, whether or not it has expired.
func (tx *transaction) load(id string) (domain.Job, error) {
	job, err := loadJob(tx.loadStmt.QueryRowContext(context.Background(), id))
	return job, translate(err)
}

// store writes what the steps of a job change.
func (tx *transaction) store(job domain.Job) error {
	moved, err := encodeState(job)
	if err != nil {
		return err
	}
	_, err = exec(tx.storeStmt, string(job.Status), millis(job.DueAt), millis(job.CheckAt), millis(job.Lease.Until), millis(job.ExpiresAt),
		job.Revision, moved, job.Output, job.ID)
	return err
}

func (tx *transaction) remove(id string) error {
	_, err := exec(tx.removeStmt, id)
	return err
}

// take hands out at most limit jobs. A row that cannot be read is put off, so that it does not stand before the
// others for ever, and returned as an error of its own.
func (tx *transaction) take(now time.Time, limit int) (jobs []domain.Job, broken []error, err error) {
	rows, err := tx.dueStmt.QueryContext(context.Background(), now.UnixMilli(), limit)
	if err != nil {
		return nil, nil, translate(err)
	}
	var unread []string
	err = eachRow(rows, func(r *row) error {
		job, err := r.decode()
		if err != nil {
			unread, broken = append(unread, r.id), append(broken, err)
			return nil
		}
		job = job.Taken(now)
		job.Revision++
		jobs = append(jobs, job)
		return nil
	})
	if err != nil {
		return nil, nil, translate(err)
	}
	for _, job := range jobs {
		if err := tx.store(job); err != nil {
			return nil, nil, err
		}
	}
	for _, id := range unread {
		if _, err := exec(tx.postponeStmt, now.Add(domain.LastCheck).UnixMilli(), id); err != nil {
			return nil, nil, err
		}
	}
	return jobs, broken, nil
}

func (tx *transaction) expire(now time.Time, limit int) (int, error) {
	return exec(tx.expireStmt, now.UnixMilli(), limit)
}

// voidLeases has every open job looked at now, or when it is due.
func (tx *transaction) voidLeases(now time.Time) error {
	if _, err := exec(tx.voidRunningStmt, now.UnixMilli()); err != nil {
		return err
	}
	_, err := exec(tx.voidQueuedStmt, now.UnixMilli())
	return err
}

func (tx *transaction) fillProbe() error {
	_, err := exec(tx.fillStmt, probeBytes)
	return err
}

func (tx *transaction) clearProbe() error {
	_, err := exec(tx.clearStmt)
	return err
}

// exec returns how many rows the statement changed.
func exec(stmt *sql.Stmt, args ...any) (int, error) {
	result, err := stmt.ExecContext(context.Background(), args...)
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
