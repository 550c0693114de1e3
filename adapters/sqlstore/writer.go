package sqlstore

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// maxGroup is the most writes in one transaction: the first of them waits for the last.
	maxGroup = 256

	// maxWaiting is how many writes wait for the writer; further callers wait to be let in.
	maxWaiting = 1024
)

// A write is what one caller wants of the writer.
type write struct {
	ended func() error // of the caller's context
	do    func(context.Context, *writes) error
	state atomic.Int32
	err   error      // what do returned
	done  chan error // holds one: the answer, once it is durable
}

// The states of a write. Whoever moves it away from waiting, its caller or the writer, decides whether it is done.
const (
	waiting int32 = iota
	begun
	abandoned
)

// write implements engine. do shares its transaction with others: it must leave nothing half done when it returns an
// error of its own. Its context does not end: a write that has begun is a commit away from its end, and a cancelled one
// would take its neighbours along. When ctx ends before do has begun, it never runs.
func (e *sqliteEngine) write(ctx context.Context, do func(context.Context, *writes) error) error {
	if err := ctx.Err(); err != nil {
		return translate(err)
	}
	w := &write{ended: ctx.Err, do: do, done: make(chan error, 1)}
	select {
	case <-e.closing:
		return errClosed
	default:
	}
	select {
	case e.queue <- w:
	case <-ctx.Done():
		return translate(ctx.Err())
	case <-e.closing:
		return errClosed
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		if w.state.CompareAndSwap(waiting, abandoned) {
			return translate(ctx.Err())
		}
	case <-e.stopped:
	}
	// The write has begun, and its answer is a commit away; or the writer has ended, perhaps without having seen it.
	select {
	case err := <-w.done:
		return err
	case <-e.stopped:
	}
	select {
	case err := <-w.done:
		return err
	default:
		return errClosed
	}
}

// runWriter does the writes, until Close and then those that wait still.
func (e *sqliteEngine) runWriter() {
	defer close(e.stopped)
	group := make([]*write, 0, maxGroup)
	for {
		select {
		case w := <-e.queue:
			e.gather(comeBack)
			e.commitGroup(w, group)
		case <-e.closing:
			for {
				select {
				case w := <-e.queue:
					e.commitGroup(w, group)
				default:
					return
				}
			}
		}
	}
}

// comeBack is how long the writer waits for one caller more: some times what it takes to be woken and to come back.
const comeBack = 20 * time.Microsecond

// gather waits for the callers that the last commits have answered. Most come back at once with their next write, and
// one commit for all of them is cheaper than one for each that is quick. It ends when as many wait as lately, the one
// whose write is in hand included, or when none has come for a while; it keeps a processor busy meanwhile, for no timer
// is that short. A caller who is alone waits for nobody.
func (e *sqliteEngine) gather(patience time.Duration) {
	here, last := 0, time.Time{}
	for len(e.queue)+1 < e.callers {
		switch now := time.Now(); {
		case len(e.queue) > here, last.IsZero():
			here, last = len(e.queue), now
		case now.Sub(last) > patience:
			return
		}
		runtime.Gosched()
	}
}

// answered learns from a group how many callers there are. It forgets those who stay away within some groups.
func (e *sqliteEngine) answered(group int) {
	e.callers = min(max(group+len(e.queue), e.callers-(e.callers+7)/8), maxGroup)
}

// commitGroup does first, and whatever else arrives meanwhile, in one transaction, and answers them all.
func (e *sqliteEngine) commitGroup(first *write, group []*write) {
	ctx := context.Background()
	_, beginErr := exec(ctx, e.begin)
	err := beginErr
	for w := first; w != nil; w = e.nextWrite(len(group)) {
		if !w.state.CompareAndSwap(waiting, begun) {
			continue
		}
		group = append(group, w)
		if beginErr != nil {
			continue // nobody fares better by waiting for the same fault in turn
		}
		if w.err = w.ended(); w.err != nil {
			w.err = translate(w.err)
			continue
		}
		if w.err = w.do(ctx, &e.statements); endsTransaction(w.err) {
			err = w.err
			break
		}
	}
	if err == nil {
		_, err = exec(ctx, e.commit)
	}
	if err == nil {
		e.commits.Add(1)
	} else {
		e.statements.recent.clear()
		_, _ = exec(ctx, e.rollback) // it fails when SQLite has rolled back already, or when none was begun
	}
	e.answered(len(group))
	for i, w := range group {
		if err != nil {
			w.err = err
		}
		w.done <- inFile(w.err, e.path)
		group[i] = nil
	}
}

// nextWrite returns the next write that waits, nil when there is none or the group is large enough.
func (e *sqliteEngine) nextWrite(size int) *write {
	if size >= maxGroup {
		return nil
	}
	select {
	case w := <-e.queue:
		return w
	default:
		return nil
	}
}

// endsTransaction reports whether err leaves the transaction in doubt: SQLite itself rolls back on a full disk or a
// fault of I/O. A statement that broke a constraint or a limit has undone itself alone.
func endsTransaction(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT:
		return false
	default:
		return true
	}
}
