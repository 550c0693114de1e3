package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/jobgate/jobgate/domain"
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
	do    func(*transaction) error
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

// write has do run in a transaction and returns its error, or that of the commit, once that is durable. do shares the
// transaction with others: it must leave nothing half done when it returns an error of its own, and may only touch
// what its caller reads after write has returned nil. When ctx ends before do has begun, it never runs.
func (s *Store) write(ctx context.Context, do func(*transaction) error) error {
	if err := ctx.Err(); err != nil {
		return translate(err)
	}
	w := &write{ended: ctx.Err, do: do, done: make(chan error, 1)}
	select {
	case <-s.closing:
		return errClosed
	default:
	}
	select {
	case s.writes <- w:
	case <-ctx.Done():
		return translate(ctx.Err())
	case <-s.closing:
		return errClosed
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		if w.state.CompareAndSwap(waiting, abandoned) {
			return translate(ctx.Err())
		}
	case <-s.stopped:
	}
	// The write has begun, and its answer is a commit away; or the writer has ended, perhaps without having seen it.
	select {
	case err := <-w.done:
		return err
	case <-s.stopped:
	}
	select {
	case err := <-w.done:
		return err
	default:
		return errClosed
	}
}

// runWriter does the writes, until Close and then those that wait still.
func (s *Store) runWriter() {
	defer close(s.stopped)
	group := make([]*write, 0, maxGroup)
	for {
		select {
		case w := <-s.writes:
			s.commitGroup(w, group)
		case <-s.closing:
			for {
				select {
				case w := <-s.writes:
					s.commitGroup(w, group)
				default:
					return
				}
			}
		}
	}
}

// commitGroup does first, and whatever else arrives meanwhile, in one transaction, and answers them all.
func (s *Store) commitGroup(first *write, group []*write) {
	beginErr := s.tx.begin()
	err := beginErr
	for w := first; w != nil; w = s.nextWrite(len(group)) {
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
		if w.err = w.do(s.tx); endsTransaction(w.err) {
			err = w.err
			break
		}
	}
	if err == nil {
		err = s.tx.commit()
	}
	if err == nil {
		s.commits.Add(1)
	} else {
		s.tx.rollback()
	}
	for i, w := range group {
		if err != nil {
			w.err = err
		}
		w.done <- w.err
		group[i] = nil
	}
}

// nextWrite returns the next write that waits, nil when there is none or the group is large enough.
func (s *Store) nextWrite(size int) *write {
	if size >= maxGroup {
		return nil
	}
	select {
	case w := <-s.writes:
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

// protect calls decide and makes its panic an error, so that a bug in one caller's step does not end the writer.
func protect(decide func(domain.Job) (domain.Job, error), job domain.Job) (next domain.Job, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = domain.Wrap(fmt.Errorf("panic: %v\n%s", r, debug.Stack()), domain.Internal, domain.ReasonInternal, "a step of the job panicked")
		}
	}()
	return decide(job)
}
