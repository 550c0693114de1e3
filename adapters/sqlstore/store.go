package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Durability is what an acknowledged write survives.
type Durability int

// The durabilities.
const (
	Process Durability = iota // the death of every process; a power cut may take the last writes, never the database
	Power                     // a power cut: the write is on disk before the call returns
)

// Options are the settings of a Store. The zero Options are usable.
type Options struct {
	// Now is the store's clock; nil: time.Now.
	Now func() time.Time

	Durability Durability

	// Exclusive says that this process alone uses the database. Open then fails at once while another has it open,
	// and voids the leases it finds: their owners are dead, so that what they ran is run again without waiting.
	Exclusive bool

	// Report is told what no caller learns: a row that cannot be read. It is called from several goroutines and must not
	// block. May be nil.
	Report func(error)
}

// Store is a database of jobs. Its methods are safe for concurrent use.
type Store struct {
	opts Options
	lock *os.File

	writer *sql.DB   // one connection
	conn   *sql.Conn // that connection
	tx     *transaction
	writes chan *write

	readers *sql.DB
	reads   reads

	close    sync.Once
	closeErr error
	closing  chan struct{} // closed when Close begins
	stopped  chan struct{} // closed when the writer has ended

	commits atomic.Int64 // transactions committed
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
		<-s.stopped
		s.closeErr = s.release()
	})
	return s.closeErr
}

// release closes whatever Open has opened.
func (s *Store) release() error {
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	// Last, because the last connection to a database takes its write-ahead log in.
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Create implements ports.JobStore.
func (s *Store) Create(ctx context.Context, job domain.Job) (stored domain.Job, created bool, err error) {
	job.Revision = 1
	row, err := encode(job)
	if err != nil {
		return domain.Job{}, false, err
	}
	err = s.write(ctx, func(tx *transaction) (err error) {
		if created, err = tx.insert(&row); created || err != nil {
			stored = job
			return err
		}
		if stored, err = tx.load(job.ID); err != nil || !stored.Expired(s.opts.Now()) {
			return err
		}
		if err := tx.remove(job.ID); err != nil {
			return err
		}
		stored = job
		created, err = tx.insert(&row)
		return err
	})
	if err != nil {
		return domain.Job{}, false, err
	}
	return stored, created, nil
}

// Get implements ports.JobStore.
func (s *Store) Get(ctx context.Context, id string) (domain.Job, error) {
	job, err := loadJob(s.reads.job.QueryRowContext(ctx, id))
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
	var stored domain.Job
	err := s.write(ctx, func(tx *transaction) error {
		old, err := tx.load(id)
		if err != nil {
			return err
		}
		if old.Expired(s.opts.Now()) {
			return errNotFound
		}
		next, err := protect(decide, old)
		if err != nil {
			return err
		}
		stored = withSubmission(next, old)
		stored.Revision = old.Revision + 1
		return tx.store(stored)
	})
	if err != nil {
		return domain.Job{}, err
	}
	return stored, nil
}

// List implements ports.JobStore.
func (s *Store) List(ctx context.Context, query ports.JobQuery) (ports.JobPage, error) {
	if err := ctx.Err(); err != nil {
		return ports.JobPage{}, s.translate(err)
	}
	page, broken, err := s.reads.page(ctx, s.readers, query, s.opts.Now())
	if err != nil {
		return ports.JobPage{}, s.translate(err)
	}
	for _, err := range broken {
		s.report(err)
	}
	return page, nil
}

// Take implements ports.JobSchedule. It hands out at most 500 jobs at a time.
func (s *Store) Take(ctx context.Context, limit int) ([]domain.Job, error) {
	limit = min(limit, maxTake)
	if limit < 1 {
		return nil, nil
	}
	var (
		jobs   []domain.Job
		broken []error
	)
	err := s.write(ctx, func(tx *transaction) (err error) {
		jobs, broken, err = tx.take(s.opts.Now(), limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, err := range broken {
		s.report(err)
	}
	return jobs, nil
}

// Expire implements ports.JobSchedule.
func (s *Store) Expire(ctx context.Context, limit int) (int, error) {
	removed := 0
	err := s.write(ctx, func(tx *transaction) (err error) {
		removed, err = tx.expire(s.opts.Now(), max(limit, 0)) // a negative LIMIT is none
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
	if err := s.write(ctx, (*transaction).fillProbe); err != nil {
		return err
	}
	return s.write(ctx, (*transaction).clearProbe)
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
		return translate(err)
	}
}
