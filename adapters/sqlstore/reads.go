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
	oldestStmt *sql.Stmt
	lists      [len(allLists)]listStmts
}

// A list is one that an index has in its order.
type list int

const (
	ofAll list = iota
	ofOwner
	ofRunning
	ofRunningOwner // there are no more running jobs than workers have hands: those of one owner are picked from all
	ofEnded        // the dead, or the cancelled: few among all that succeed
	ofEndedOwner
)

var allLists = [...]list{ofAll, ofOwner, ofRunning, ofRunningOwner, ofEnded, ofEndedOwner}

// listFor returns the list that has the jobs of query, and as few others as can be.
func listFor(query ports.JobQuery) list {
	of := ofAll
	switch query.Status {
	case domain.Running:
		of = ofRunning
	case domain.Dead, domain.Cancelled:
		of = ofEnded
	default: // there is no index for a status that most jobs have
	}
	if query.Owner != nil {
		of++
	}
	return of
}

// listStmts are one list, newest first: what a page comes to, and its jobs.
type listStmts struct{ scan, page *sql.Stmt }

const (
	// isBefore is the cursor, isMatch the filters and the clock.
	isBefore = `(created_at, id) < ($1, $2)`
	isMatch  = `(expires_at = 0 OR expires_at > $3) AND ($4 = '' OR status = $4) AND ($5 = '' OR name = $5)`
	newest   = ` ORDER BY created_at DESC, id DESC LIMIT $6 + 0`
	isOwned  = ` AND issuer = $7 AND subject = $8`
	// isOwnedToo is isOwned where another index than that of owners is to be used.
	isOwnedToo = ` AND issuer || '' = $7 AND subject || '' = $8`

	// These are word for word the conditions of indexes: only so are they used.
	isRunning = ` AND status = 'running'`
	isEnded   = ` AND status IN ('dead', 'cancelled') AND status = $4`

	oldestSQL = `SELECT due_at FROM jobs WHERE status = 'queued' ORDER BY due_at LIMIT 1`
)

// listSQL returns the two statements of a list. Of the first, the last column says whether a row belongs to the page.
func (d dialect) listSQL(of list) (scan, page string) {
	where, match := isBefore, isMatch
	switch of {
	case ofAll:
	case ofOwner:
		where = d.beforeOwned + isOwned
	case ofRunning:
		where += isRunning
	case ofRunningOwner:
		where, match = where+isRunning, isMatch+isOwnedToo
	case ofEnded:
		where += isEnded
	case ofEndedOwner:
		where = d.beforeEndedOwned + isEnded + isOwned
	}
	return `SELECT created_at, id, ` + match + ` FROM jobs WHERE ` + where + newest,
		`SELECT ` + columns + ` FROM jobs WHERE ` + where + ` AND ` + match + newest
}

func prepareReads(ctx context.Context, db *sql.DB, d dialect) (reads, error) {
	r := reads{db: db, snapshot: sql.TxOptions{ReadOnly: true}}
	statements := map[**sql.Stmt]string{&r.jobStmt: loadSQL, &r.oldestStmt: oldestSQL}
	for _, of := range allLists {
		statements[&r.lists[of].scan], statements[&r.lists[of].page] = d.listSQL(of)
	}
	err := prepare(ctx, db, statements)
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

// oldest returns when the queued job that is or was due first is due. sql.ErrNoRows when none is queued.
func (r *reads) oldest(ctx context.Context) (time.Time, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	var due int64
	err := r.oldestStmt.QueryRowContext(ctx).Scan(&due)
	return instant(due), err
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
	list := r.lists[listFor(query)]
	if query.Owner != nil {
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
