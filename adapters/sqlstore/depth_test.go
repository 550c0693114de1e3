//go:build unix

package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
	"github.com/jobgate/jobgate/ports/portstest"
)

const (
	shallow = 1_000
	deep    = 1_000_000

	// depthRounds is how often each call is measured, on the one store and on the other in turn.
	depthRounds = 31
)

// BenchmarkDepth is what a call costs with 1,000 jobs in the store and with 1,000,000, in medians over the rounds, and
// x, the one over the other. PostgreSQL does not wait for its disk here: that takes the same time at any depth, and
// would hide what depth costs. The stores are filled in about a minute, and take 2 GB of temporary files.
func BenchmarkDepth(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) {
		depth(b, func() string { return "sqlite:" + newPath(b) })
	})
	b.Run("postgres", func(b *testing.B) {
		server := adaptertest.Postgres(b, "fsync=off", "max_wal_size=8GB")
		depth(b, func() string { return server.Database(b) })
	})
}

func depth(b *testing.B, newURL func() string) {
	b.Helper()
	stores := []*backlog{newBacklog(b, newURL(), shallow), newBacklog(b, newURL(), deep)}
	list := func(query ports.JobQuery, want int) func(*backlog) error {
		return func(s *backlog) error {
			page, err := s.store.List(context.Background(), query)
			if err == nil && len(page.Jobs) != want {
				err = fmt.Errorf("the page has %d jobs, want %d", len(page.Jobs), want)
			}
			return err
		}
	}
	for _, call := range []struct {
		name  string
		times int // in a round
		do    func(*backlog) error
		undo  func(*backlog) error // what the round did, outside of the time
	}{
		{"submit", 50, func(s *backlog) error { return s.submit(uuid.Must(uuid.NewV7())) }, (*backlog).remove},
		{"submit-with-key", 50, func(s *backlog) error { return s.submit(uuid.New()) }, (*backlog).remove},
		{"get", 100, (*backlog).get, nil},
		{"list-own-of-many", 50, list(ports.JobQuery{Owner: &frequent, Limit: 20}, 20), nil},
		{"list-own-of-few", 50, list(ports.JobQuery{Owner: &rare, Limit: 20}, 10), nil},
		{"list-all", 50, list(ports.JobQuery{Limit: 20}, 20), nil},
		{"list-queued", 50, list(ports.JobQuery{Status: domain.Queued, Limit: 20}, 20), nil},
		{"list-dead", 50, list(ports.JobQuery{Status: domain.Dead, Limit: 20}, 10), nil},
		{"list-running", 50, list(ports.JobQuery{Status: domain.Running, Limit: 20}, 10), nil},
		{"list-own-dead", 50, list(ports.JobQuery{Owner: &frequent, Status: domain.Dead, Limit: 20}, 10), nil},
		{"list-name", 50, list(ports.JobQuery{Name: "frequent", Limit: 20}, 20), nil},
		{"list-rare-name", 10, list(ports.JobQuery{Name: "nobody's", Limit: 20}, 0), nil},
		{"claim-next-due", 50, func(s *backlog) error { return s.claim(s.nextDue()) }, (*backlog).restore},
		{"claim-any", 50, func(s *backlog) error { return s.claim(s.any()) }, (*backlog).restore},
		{"take-10-due", 10, (*backlog).take, (*backlog).restore},
		{"take-none-due", 50, (*backlog).takeEarly, nil},
		{"oldest-due", 50, (*backlog).oldest, nil},
		{"expire-none", 50, (*backlog).expire, nil},
	} {
		b.Run(call.name, func(b *testing.B) {
			for b.Loop() {
				var took [2][]time.Duration
				for round := range depthRounds {
					for i := range stores {
						i ^= round % 2 // either goes first by turns
						store := stores[i]
						begin := time.Now()
						for range call.times {
							if err := call.do(store); err != nil {
								b.Fatal(err)
							}
						}
						took[i] = append(took[i], time.Since(begin)/time.Duration(call.times))
						if call.undo == nil {
							continue
						}
						if err := call.undo(store); err != nil {
							b.Fatal(err)
						}
					}
				}
				few, many := median(took[0]), median(took[1])
				b.ReportMetric(float64(few.Nanoseconds())/1e3, "µs/1k")
				b.ReportMetric(float64(many.Nanoseconds())/1e3, "µs/1M")
				b.ReportMetric(float64(many)/float64(few), "x")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// frequent has every second job, and rare ten of them.
var (
	frequent = domain.Identity{Issuer: "https://issuer.example/", Subject: "frequent"}
	rare     = domain.Identity{Issuer: "https://issuer.example/", Subject: "rare"}
)

// A backlog is a store of many jobs. Nearly all are queued and due, longest due first, and their ids are of both kinds
// that submissions make; ten each are running, dead and cancelled.
type backlog struct {
	store   *sqlstore.Store
	early   *sqlstore.Store // the same, at a time when no job was due
	begin   time.Time
	queued  []string // the ids of some, spread over all
	due     []string // of those that are due first
	next    int
	changed []domain.Job
}

func newBacklog(b *testing.B, url string, jobs int) *backlog {
	b.Helper()
	start := time.Now()
	s := &backlog{begin: time.Now().Add(-time.Duration(jobs+1000) * time.Millisecond)}
	filler := openURL(b, url, sqlstore.Options{})
	err := filler.Fill(b.Context(), jobs, func(i int) domain.Job {
		at := s.begin.Add(time.Duration(i) * time.Millisecond)
		job := portstest.NewJob(b, at, domain.Identity{Issuer: frequent.Issuer, Subject: fmt.Sprintf("user-%d", i%997)}, "frequent")
		if i%4 < 2 {
			job.ID = uuid.Must(uuid.NewV7()).String()
		}
		if i%2 == 0 {
			job.Owner = frequent
		}
		var err error
		switch i % (jobs / 10) {
		case 1:
			job.Owner = rare
		case 2:
			job, err = job.Claim(at, "token", "worker")
		case 4:
			job, err = job.Bar(at, domain.ReasonPermanent)
		case 6:
			job, err = job.Cancel(at, domain.ReasonCancelled)
		default:
			if i%(jobs/shallow) == 0 {
				s.queued = append(s.queued, job.ID)
			}
			if len(s.due) < 500 {
				s.due = append(s.due, job.ID)
			}
		}
		if err != nil {
			b.Fatal(err)
		}
		return job
	})
	// What is measured is another store, which has not grown by that.
	if err := errors.Join(err, filler.Close()); err != nil {
		b.Fatal(err)
	}
	s.store = openURL(b, url, sqlstore.Options{})
	s.early = openURL(b, url, sqlstore.Options{Now: func() time.Time { return s.begin.Add(-time.Hour) }})
	b.Logf("%d jobs stored in %v", jobs, time.Since(start))
	return s
}

func (s *backlog) nextDue() string {
	s.next++
	return s.due[s.next%len(s.due)]
}

func (s *backlog) any() string {
	s.next++
	// A step that shares no factor with the length, so that neighbours are not asked for in turn.
	return s.queued[s.next*379%len(s.queued)]
}

func (s *backlog) get() error {
	_, err := s.store.Get(context.Background(), s.any())
	return err
}

func (s *backlog) submit(id uuid.UUID) error {
	job, err := domain.NewJob(domain.JobSpec{
		ID: id.String(), Name: "frequent", Owner: frequent, Payload: []byte(`{"n": 1.0}`),
		Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention,
	}, time.Now())
	if err != nil {
		return err
	}
	job, _, err = s.store.Create(context.Background(), job)
	s.changed = append(s.changed, job)
	return err
}

func (s *backlog) claim(id string) error {
	var old domain.Job
	_, err := s.store.Update(context.Background(), id, func(j domain.Job) (domain.Job, error) {
		old = j
		return j.Claim(time.Now(), "token", "worker")
	})
	s.changed = append(s.changed, old)
	return err
}

func (s *backlog) take() error {
	jobs, err := s.store.Take(context.Background(), 10, domain.Job.Taken)
	if err == nil && len(jobs) != 10 {
		err = fmt.Errorf("%d jobs were taken, want 10", len(jobs))
	}
	for _, job := range jobs {
		job.CheckAt, job.Checks, job.Dispatches = job.DueAt, 0, 0
		s.changed = append(s.changed, job)
	}
	return err
}

func (s *backlog) takeEarly() error {
	jobs, err := s.early.Take(context.Background(), 10, domain.Job.Taken)
	if err == nil && len(jobs) != 0 {
		err = fmt.Errorf("%d jobs were taken, want none", len(jobs))
	}
	return err
}

func (s *backlog) oldest() error {
	_, ok, err := s.store.OldestDue(context.Background())
	if err == nil && !ok {
		err = errors.New("no job is due")
	}
	return err
}

func (s *backlog) expire() error {
	_, err := s.store.Expire(context.Background(), 100)
	return err
}

func (s *backlog) remove() error {
	for _, job := range s.changed {
		if err := s.store.Exec(context.Background(), "DELETE FROM jobs WHERE id = $1", job.ID); err != nil {
			return err
		}
	}
	s.changed = nil
	return nil
}

func (s *backlog) restore() error {
	for _, job := range s.changed {
		if _, err := s.store.Update(context.Background(), job.ID, func(domain.Job) (domain.Job, error) { return job, nil }); err != nil {
			return err
		}
	}
	s.changed = nil
	return nil
}
