package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Durability is what an acknowledged write survives.
type Durability int

// The durabilities.
const (
	Process Durability = iota // the death of every process; a power cut may take the last writes, never the database
	Power                     // a power cut: the write is on disk before the call returns. On PostgreSQL always, unless its fsync is off
)

// Options are the settings of a Store. The zero Options are usable.
type Options struct {
	// Now is the store's clock; nil: time.Now.
	Now func() time.Time

	Durability Durability

	// Exclusive says that this process alone uses the database. Open then fails at once while another has it open,
	// and voids the leases it finds: their owners are dead, so that what they ran is run again without waiting. Not on
	// PostgreSQL.
	Exclusive bool

	// Report is told what no caller learns: a row that cannot be read, or whose job cannot be taken. It is called from
	// several goroutines and must not block. May be nil.
	Report func(error)
}

// Store is a database of jobs. Its methods are safe for concurrent use.
type Store struct {
	opts   Options
	engine engine
	reads  reads

	file     string // of SQLite's
	close    sync.Once
	closeErr error
	closing  chan struct{} // closed when Close begins
}

// An engine is what SQLite and PostgreSQL do differently.
type engine interface {
	// write has do run, which makes one change at most, and returns its error, or that of the commit, once the change is
	// durable. do may run several times, and may only touch what its caller reads after write has returned nil. The
	// errors of do and its own are as they come out of translate.
	write(ctx context.Context, do func(context.Context, *writes) error) error

	// take finds what is due, and stores it as step moves it, in one transaction.
	take(ctx context.Context, now time.Time, limit int, step ports.Step) (due, error)

	// signal tells the other processes that a job is due. It does not wait.
	signal()

	// listen calls wake for what other processes signal, until ctx ends; nil where they do not.
	listen(ctx context.Context, wake func()) error

	// close ends the engine once its writes are done.
	close() error
}

var (
	_ ports.JobStore    = (*Store)(nil)
	_ ports.JobSchedule = (*Store)(nil)
)

const (
	// maxPage is the most jobs that one page of a list holds, whatever the query says.
	maxPage = 100

	// maxExamined is how many rows one page of a list looks at: a filter that matches almost nothing must not make a
	// page cost as much as the whole table.
	maxExamined = 1000

	// maxTake is the most jobs that one Take hands out, so that it does not hold up the writes behind it.
	maxTake = 500

	// probeBytes is the room that Ready asks for: some pages more than the next few writes need.
	probeBytes = 64 << 10
)

// Close ends the store: writes that wait are still done, later calls fail as Unavailable.
func (s *Store) Close() error {
	s.close.Do(func() {
		close(s.closing)
		s.closeErr = s.engine.close()
	})
	return s.closeErr
}

// Create implements ports.JobStore.
func (s *Store) Create(ctx context.Context, job domain.Job) (stored domain.Job, created bool, err error) {
	job.Revision = 1
	row, err := encode(job)
	if err != nil {
		return domain.Job{}, false, err
	}
	err = s.engine.write(ctx, func(ctx context.Context, w *writes) (err error) {
		if created, err = w.insert(ctx, &row, s.opts.Now()); err != nil {
			return err
		}
		if created {
			stored = job
			w.recent.put(job)
			return nil
		}
		stored, err = w.load(ctx, job.ID)
		if errors.Is(err, errNotFound) {
			return errStale // the job with its id was removed in between
		}
		return err
	})
	if err != nil {
		return domain.Job{}, false, err
	}
	if created {
		s.signal(stored)
	}
	return stored, created, nil
}

// Get implements ports.JobStore.
func (s *Store) Get(ctx context.Context, id string) (domain.Job, error) {
	job, err := s.reads.job(ctx, id)
	switch {
	case err != nil:
		return domain.Job{}, s.translate(err)
	case job.Expired(s.opts.Now()):
		return domain.Job{}, errNotFound
	}
	return job, nil
}

// Update implements ports.JobStore. decide runs between other writes and must not wait for any of them. What a
// submission fixed (the name, the payload, the owner, …) is never changed.
func (s *Store) Update(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
	step := func(old domain.Job) (domain.Job, error) {
		if old.Expired(s.opts.Now()) {
			return domain.Job{}, errNotFound
		}
		return decide(old)
	}
	var stored domain.Job
	err := s.engine.write(ctx, func(ctx context.Context, w *writes) (err error) {
		stored, err = w.update(ctx, id, step)
		return err
	})
	if err != nil {
		return domain.Job{}, err
	}
	s.signal(stored)
	return stored, nil
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

// List implements ports.JobStore.
func (s *Store) List(ctx context.Context, query ports.JobQuery) (ports.JobPage, error) {
	if err := ctx.Err(); err != nil {
		return ports.JobPage{}, s.translate(err)
	}
	page, broken, err := s.reads.page(ctx, query, s.opts.Now())
	if err != nil {
		return ports.JobPage{}, s.translate(err)
	}
	for _, err := range broken {
		s.report(err)
	}
	return page, nil
}

// Take implements ports.JobSchedule. It hands out at most 500 jobs at a time. step runs between other writes and must
// not wait for any of them. A job on which it panics is reported and put off by domain.LastCheck.
func (s *Store) Take(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
	limit = min(limit, maxTake)
	if limit < 1 {
		return nil, nil
	}
	taken, err := s.engine.take(ctx, s.opts.Now(), limit, step)
	if err != nil {
		return nil, err
	}
	for _, err := range taken.broken {
		s.report(err)
	}
	return taken.jobs, nil
}

// OldestDue returns when the longest-waiting job became due: the earliest due time of all queued jobs, whether nobody
// has taken them yet, a broker has them, or they wait for their retry, unless that time is still to come. A job that a
// worker has claimed waits no longer, even if it has lost that worker. ok is false when no queued job is due. It reads
// one entry of an index, however many jobs there are. Errors are those of Get.
func (s *Store) OldestDue(ctx context.Context) (due time.Time, ok bool, err error) {
	due, err = s.reads.oldest(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return time.Time{}, false, nil
	case err != nil:
		return time.Time{}, false, s.translate(err)
	case due.After(s.opts.Now()):
		return time.Time{}, false, nil
	}
	return due, true, nil
}

// Expire implements ports.JobSchedule.
func (s *Store) Expire(ctx context.Context, limit int) (int, error) {
	removed := 0
	err := s.engine.write(ctx, func(ctx context.Context, w *writes) (err error) {
		removed, err = w.expire(ctx, s.opts.Now(), max(limit, 0)) // a negative LIMIT is none
		return err
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// Ready returns nil when the store can take jobs in: it writes, and removes again, as much as the next few jobs
// need. Unavailable otherwise, a full disk among the reasons; it is nil again once there is room.
func (s *Store) Ready(ctx context.Context) error {
	// Two transactions: room that is given back before the commit was never asked of the disk.
	err := s.engine.write(ctx, func(ctx context.Context, w *writes) error { return w.fillProbe(ctx) })
	if err != nil {
		return err
	}
	return s.engine.write(ctx, func(ctx context.Context, w *writes) error { return w.clearProbe(ctx) })
}

// Listen calls wake whenever another process has stored a job that is due, or given one back, so that an idle consumer
// need not wait for its next poll; and once for what may have come before. It returns nil when ctx ends. What it
// cannot hear while the database is away is reported, and made good by the wake that follows. On SQLite, which tells
// nobody, it returns nil at once.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	return s.engine.listen(ctx, wake)
}

// signal tells listeners of a job that somebody could take now.
func (s *Store) signal(job domain.Job) {
	if !job.Status.Finished() && !job.CheckAt.After(s.opts.Now()) {
		s.engine.signal()
	}
}

func (s *Store) report(err error) {
	if s.opts.Report != nil {
		s.opts.Report(err)
	}
}

// translate is translate for a caller of s, who may have closed it meanwhile.
func (s *Store) translate(err error) error {
	select {
	case <-s.closing:
		return errClosed
	default:
		return inFile(translate(err), s.file)
	}
}
