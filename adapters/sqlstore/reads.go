package sqlstore

import (
	"context"
	"database/sql"
	"math"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// reads are the statements of the read-only connections.
type reads struct {
	job        *sql.Stmt
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

	scanAnySQL   = `SELECT created_at, id, ` + isMatch + ` FROM jobs WHERE ` + isBefore + newest
	scanOwnedSQL = `SELECT created_at, id, ` + isMatch + ` FROM jobs WHERE ` + isBefore + isOwned + newest
	pageAnySQL   = `SELECT ` + columns + ` FROM jobs WHERE ` + isBefore + ` AND ` + isMatch + newest
	pageOwnedSQL = `SELECT ` + columns + ` FROM jobs WHERE ` + isBefore + isOwned + ` AND ` + isMatch + newest
)

func prepareReads(ctx context.Context, db *sql.DB) (reads, error) {
	var r reads
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&r.job, loadSQL},
		{&r.any.scan, scanAnySQL}, {&r.any.page, pageAnySQL},
		{&r.owned.scan, scanOwnedSQL}, {&r.owned.page, pageOwnedSQL},
	} {
		var err error
		if *s.stmt, err = db.PrepareContext(ctx, s.text); err != nil { //nolint:sqlclosecheck // closed with db
			return reads{}, err
		}
	}
	return r, nil
}

// page reads one page in one snapshot, in two steps. The first looks at no more than maxExamined rows, and of each at
// its small columns alone, to learn how many jobs the page has and where it ends; the second reads those jobs, which
// are the first ones it comes across. Rows that cannot be read are left out and returned as errors.
func (r *reads) page(ctx context.Context, db *sql.DB, query ports.JobQuery, now time.Time) (page ports.JobPage, broken []error, err error) {
	snapshot, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return ports.JobPage{}, nil, err
	}
	defer snapshot.Rollback() //nolint:errcheck // nothing was written

	limit := min(max(query.Limit, 1), maxPage)
	args := []any{int64(math.MaxInt64), "", now.UnixMilli(), string(query.Status), query.Name, maxExamined}
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

// scanPage returns how many jobs the page has, at most limit, and where the next one begins.
func scanPage(ctx context.Context, stmt *sql.Stmt, limit int, args []any) (found int, next ports.JobCursor, err error) {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return 0, ports.JobCursor{}, err
	}
	defer rows.Close()
	examined := 0
	var last ports.JobCursor
	for rows.Next() {
		var (
			createdAt int64
			id        string
			match     bool
		)
		if err := rows.Scan(&createdAt, &id, &match); err != nil {
			return 0, ports.JobCursor{}, err
		}
		if match {
			if found == limit {
				return found, last, nil
			}
			found++
		}
		// All rows up to here are on this page or on none.
		last = ports.JobCursor{CreatedAt: instant(createdAt), ID: id}
		examined++
	}
	if err := rows.Err(); err != nil {
		return 0, ports.JobCursor{}, err
	}
	if examined < maxExamined {
		last = ports.JobCursor{} // there is nothing behind it
	}
	return found, last, nil
}
