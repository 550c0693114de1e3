package sqlstore

import (
	"context"
	"database/sql"
	"math"
	"slices"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// reads are the statements that only read, prepared where they run.
type reads struct {
	db         *sql.DB
	snapshot   sql.TxOptions // of a transaction that sees one state of the database
	timeout    time.Duration // of a call; 0: none
	jobStmt    *sql.Stmt
	owned, any listStmts
}

// listStmts are one list, newest first: what a page comes to, and its jobs.
type listStmts struct{ scan, page *sql.Stmt }

const (
	// isBefore is the cursor, isMatch the filters and the clock.
	isBefore = `(created_at, id) < ($1, $2)`
	isMatch  = `(expires_at = 0 OR expires_at > $3) AND ($4 = '' OR status = $4) AND ($5 = '' OR name = $5)`
	newest   = ` ORDER BY created_at DESC, id DESC LIMIT $6`
	isOwned  = ` AND issuer = $7 AND subject = $8`

	scanAnySQL = `SELECT created_at, id, ` + isMatch + ` FROM jobs WHERE ` + isBefore + newest
	pageAnySQL = `SELECT ` + columns + ` FROM jobs WHERE ` + isBefore + ` AND ` + isMatch + newest
)

func (d dialect) scanOwnedSQL() string {
	return `SELECT created_at, id, ` + isMatch + ` FROM jobs WHERE ` + d.beforeOwned + isOwned + newest
}

func (d dialect) pageOwnedSQL() string {
	return `SELECT ` + columns + ` FROM jobs WHERE ` + d.beforeOwned + isOwned + ` AND ` + isMatch + newest
}

func prepareReads(ctx context.Context, db *sql.DB, d dialect) (reads, error) {
	r := reads{db: db, snapshot: sql.TxOptions{ReadOnly: true}}
	err := prepare(ctx, db, map[**sql.Stmt]string{
		&r.jobStmt:  loadSQL,
		&r.any.scan: scanAnySQL, &r.any.page: pageAnySQL,
		&r.owned.scan: d.scanOwnedSQL(), &r.owned.page: d.pageOwnedSQL(),
	})
	return r, err
}

// bounded is ctx with the timeout of a call.
func (r *reads) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, r.timeout)
}

// job returns the job, whether or not it has expired.
func (r *reads) job(ctx context.Context, id string) (domain.Job, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	return loadJob(r.jobStmt.QueryRowContext(ctx, id))
}

// page reads one page in one snapshot, in two steps. The first looks at no more than maxExamined rows, and of each at
// its small columns alone, to learn how many jobs the page has and where it ends; the second reads those jobs, which
// are the first ones it comes across. Rows that cannot be read are left out and returned as errors.
func (r *reads) page(ctx context.Context, query ports.JobQuery, now time.Time) (page ports.JobPage, broken []error, err error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	snapshot, err := r.db.BeginTx(ctx, &r.snapshot)
	if err != nil {
		return ports.JobPage{}, nil, err
	}
	defer snapshot.Rollback() //nolint:errcheck // nothing was written

	limit := min(max(query.Limit, 1), maxPage)
	args := []any{int64(math.MaxInt64), "", now.UnixMilli(), string(query.Status), query.Name, 0}
	if !query.After.IsZero() {
		args[0], args[1] = millis(query.After.CreatedAt), query.After.ID
	}
	list := r.any
	if query.Owner != nil {
		list = r.owned
		args = append(args, query.Owner.Issuer, query.Owner.Subject)
	}

	found, next, err := scanPage(ctx, snapshot.StmtContext(ctx, list.scan), limit, args)
	if err != nil || found == 0 {
		return ports.JobPage{Next: next}, nil, err
	}
	args[5] = found
	rows, err := snapshot.StmtContext(ctx, list.page).QueryContext(ctx, args...) //nolint:sqlclosecheck // eachRow does
	if err != nil {
		return ports.JobPage{}, nil, err
	}
	page = ports.JobPage{Jobs: make([]domain.Job, 0, found), Next: next}
	err = eachRow(rows, func(row *row) error {
		job, err := row.decode()
		if err != nil {
			broken = append(broken, err)
			return nil
		}
		page.Jobs = append(page.Jobs, job)
		return nil
	})
	return page, broken, err
}

// scanPage returns how many jobs the page has, at most limit, and where the next one begins. It looks at some rows
// more where filters and the clock let few of them through.
func scanPage(ctx context.Context, stmt *sql.Stmt, limit int, args []any) (found int, next ports.JobCursor, err error) {
	args = slices.Clone(args)
	for examined, size := 0, limit+1; examined < maxExamined; size *= 4 {
		rows := min(size, maxExamined-examined)
		args[5] = rows
		n, more := 0, false
		err := scanRows(ctx, stmt, args, func(at ports.JobCursor, match bool) bool {
			if more = match && found == limit; more {
				return false
			}
			if match {
				found++
			}
			next = at // all rows up to here are on this page or on none
			n++
			return true
		})
		switch {
		case err != nil:
			return 0, ports.JobCursor{}, err
		case more:
			return found, next, nil
		case n < rows:
			return found, ports.JobCursor{}, nil // there is nothing behind it
		}
		examined += n
		args[0], args[1] = millis(next.CreatedAt), next.ID
	}
	return found, next, nil
}

// scanRows calls do for every row until it returns false.
func scanRows(ctx context.Context, stmt *sql.Stmt, args []any, do func(at ports.JobCursor, match bool) bool) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			createdAt int64
			id        string
			match     bool
		)
		if err := rows.Scan(&createdAt, &id, &match); err != nil {
			return err
		}
		if !do(ports.JobCursor{CreatedAt: instant(createdAt), ID: id}, match) {
			return nil
		}
	}
	return rows.Err()
}
