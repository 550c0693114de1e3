package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
	"github.com/jobgate/jobgate/ports/portstest"
)

var owner = domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"}

func newJob(t testing.TB, now time.Time) domain.Job {
	t.Helper()
	return portstest.NewJob(t, now, owner, "test-job")
}

func create(t testing.TB, store *sqlstore.Store, job domain.Job) domain.Job {
	t.Helper()
	stored, created, err := store.Create(context.Background(), job)
	if err != nil || !created {
		t.Fatalf("Create: created %v, error %v", created, err)
	}
	return stored
}

func claim(t testing.TB, store *sqlstore.Store, id string, now time.Time) domain.Job {
	t.Helper()
	job, err := store.Update(context.Background(), id, func(j domain.Job) (domain.Job, error) { return j.Claim(now, uuid.NewString(), "worker") })
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func wantKind(t testing.TB, err error, kind domain.Kind) {
	t.Helper()
	if err == nil || domain.KindOf(err) != kind {
		t.Errorf("error %v (%v), want %v", err, domain.KindOf(err), kind)
	}
}

// wantStored says that the store holds the job to its last member, the revision included.
func wantStored(t testing.TB, store *sqlstore.Store, want domain.Job) {
	t.Helper()
	got, err := store.Get(context.Background(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the stored job (-want +got):\n%s", cmp.Diff(want, got))
	}
}

func TestJobsOutliveTheStoreThatTookThem(t *testing.T) {
	t.Parallel()
	path, now := newPath(t), time.Now()
	for _, durability := range []sqlstore.Durability{sqlstore.Process, sqlstore.Power} {
		store := open(t, path, sqlstore.Options{Durability: durability})
		queued := create(t, store, newJob(t, now))
		running := claim(t, store, create(t, store, newJob(t, now)).ID, now)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		store = open(t, path, sqlstore.Options{Durability: durability})
		wantStored(t, store, queued)
		wantStored(t, store, running)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOddMembersAreKeptAsTheyAre(t *testing.T) {
	t.Parallel()
	store := open(t, newPath(t), sqlstore.Options{})
	job := newJob(t, time.Now())
	job.Owner = domain.Identity{Issuer: "a\x00b", Subject: "\u2028'; DROP TABLE jobs; --\U0001F980"}
	job.TokenID, job.IdempotencyKey = "\x00", `"\`
	job.Payload, job.Output = []byte{}, []byte{0xff, 0x00}
	stored := create(t, store, job)
	wantStored(t, store, stored)
	page, err := store.List(context.Background(), ports.JobQuery{Owner: &job.Owner, Limit: 1})
	if err != nil || len(page.Jobs) != 1 {
		t.Errorf("List = %+v, %v", page, err)
	}
}

func TestURLsThatNameNoDatabaseAreRefused(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "sqlite:", "jobs.db", "mysql://localhost/jobs"} {
		_, err := sqlstore.Open(context.Background(), url, sqlstore.Options{})
		wantKind(t, err, domain.Invalid)
	}
}

func TestPathsNeedNoEscaping(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b", "50% #1?mode=memory&x=y+z.db")
	store := open(t, path, sqlstore.Options{})
	create(t, store, newJob(t, time.Now()))
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestAFileThatIsNoDatabaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "jobs.db")
	text := []byte(strings.Repeat("this is somebody's letter\n", 100))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := sqlstore.Open(context.Background(), "sqlite:"+path, sqlstore.Options{})
	wantKind(t, err, domain.Internal)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
		t.Errorf("the file was changed (%v)", err)
	}
}

func TestADatabaseOfANewerProgramIsRefused(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	store := open(t, path, sqlstore.Options{})
	if err := store.Exec(context.Background(), fmt.Sprintf("PRAGMA user_version = %d", sqlstore.SchemaVersion+1)); err != nil {
		t.Fatal(err)
	}
	_, err := sqlstore.Open(context.Background(), "sqlite:"+path, sqlstore.Options{})
	wantKind(t, err, domain.Internal)
	if !strings.Contains(err.Error(), "newer") {
		t.Errorf("error %q does not say why", err)
	}
}

func TestANewerSchemaIsUsedWhileItIsCompatible(t *testing.T) {
	t.Parallel()
	useNewerSchema(t, "sqlite:"+newPath(t), "PRAGMA user_version = 100")
}

// useNewerSchema has a newer program migrate the database, in two steps of which the second is for its like alone.
func useNewerSchema(t *testing.T, url, exclude string) {
	t.Helper()
	old := openURL(t, url, sqlstore.Options{})
	if err := old.Exec(t.Context(), `ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0; UPDATE jobs_schema SET version = version + 1`); err != nil {
		t.Fatal(err)
	}
	for _, store := range []*sqlstore.Store{old, openURL(t, url, sqlstore.Options{})} {
		job := create(t, store, newJob(t, time.Now()))
		claim(t, store, job.ID, time.Now())
	}
	if err := old.Exec(t.Context(), exclude); err != nil {
		t.Fatal(err)
	}
	_, err := sqlstore.Open(t.Context(), url, sqlstore.Options{})
	wantKind(t, err, domain.Internal)
	if err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("error %v does not say why", err)
	}
}

func TestEveryVersionWorksBesideTheNext(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	workBeside(t, "sqlite:"+path)
	// The first version went by this number alone, and refuses a greater one than its own.
	err := open(t, path, sqlstore.Options{}).Query(t.Context(), func(rows *sql.Rows) error {
		var oldest int
		if err := rows.Scan(&oldest); err != nil {
			return err
		}
		if oldest != 1 {
			t.Errorf("the file's user_version is %d, and the first version of the program knows 1", oldest)
		}
		return nil
	}, "PRAGMA user_version")
	if err != nil {
		t.Fatal(err)
	}
}

// workBeside has each version of the program migrate a new database, twice at once, while the version before uses it.
func workBeside(t *testing.T, url string) {
	t.Helper()
	ctx := t.Context()
	openAt := func(version int) *sqlstore.Store {
		store, err := sqlstore.OpenAt(ctx, url, sqlstore.Options{}, version)
		if err != nil {
			t.Errorf("Open by version %d: %v", version, err)
			return nil
		}
		t.Cleanup(func() { _ = store.Close() })
		return store
	}
	stores := []*sqlstore.Store{openAt(1)}
	for version := 2; version <= sqlstore.SchemaVersion; version++ {
		var twins [2]*sqlstore.Store
		var wg sync.WaitGroup
		for i := range twins {
			wg.Go(func() { twins[i] = openAt(version) })
		}
		wg.Wait()
		stores = append(stores, openAt(version-1), twins[0], twins[1]) // the version before is started again
	}
	if t.Failed() {
		return
	}
	var all, dead []string
	for _, store := range stores {
		job := create(t, store, newJob(t, time.Now()))
		all = append(all, job.ID)
		job = create(t, store, newJob(t, time.Now()))
		dead = append(dead, job.ID)
	}
	for i, store := range stores {
		// Each has to do with what another one wrote.
		claim(t, store, all[len(all)-1-i], time.Now())
		if _, err := store.Update(ctx, dead[len(dead)-1-i], func(j domain.Job) (domain.Job, error) {
			return j.Bar(time.Now(), domain.ReasonPermanent)
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, store := range stores {
		for status, want := range map[domain.Status][]string{domain.Running: all, domain.Dead: dead, domain.Queued: nil} {
			page, err := store.List(ctx, ports.JobQuery{Status: status, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			wantIDs(t, string(status), page.Jobs, want)
		}
	}
}

// wantIDs compares jobs to ids in any order.
func wantIDs(t *testing.T, what string, jobs []domain.Job, want []string) {
	t.Helper()
	var got []string
	for _, j := range jobs {
		got = append(got, j.ID)
	}
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s: jobs %v, want %v", what, got, want)
	}
}

func TestAnErrorOfTheFileNamesIt(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(t *testing.T, path string){
		"no database": func(t *testing.T, path string) {
			if err := os.WriteFile(path, slices.Repeat([]byte("a letter "), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a directory": func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"a directory for a lock": func(t *testing.T, path string) {
			if err := os.Mkdir(path+".lock", 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"a file for a directory": func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(filepath.Dir(path)), os.WriteFile(filepath.Dir(path), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		"no permission": func(t *testing.T, path string) {
			if os.Geteuid() == 0 {
				t.Skip("root may do anything")
			}
			if err := errors.Join(os.WriteFile(path, nil, 0o000), os.WriteFile(path+".lock", nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			breakIt(t, path)
			store, err := sqlstore.Open(t.Context(), "sqlite:"+path, sqlstore.Options{})
			if err == nil {
				_ = store.Close()
				t.Fatal("Open took it for a database")
			}
			if !strings.Contains(err.Error(), filepath.Dir(path)) || name != "a file for a directory" && !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name %s", err, path)
			}
		})
	}
}

func TestAnErrorOfADamagedFileNamesItInTheLogAlone(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	store, err := sqlstore.Open(t.Context(), "sqlite:"+path, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	job := create(t, store, newJob(t, time.Now()))
	for range 100 {
		create(t, store, newJob(t, time.Now()))
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for i := page; i < len(content); i++ { // the first page, with the schema, stays
		content[i] = 0xff
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	store, err = sqlstore.Open(t.Context(), "sqlite:"+path, sqlstore.Options{})
	var errs []error
	if err != nil {
		errs = append(errs, err)
	} else {
		defer store.Close() //nolint:errcheck // it is damaged
		_, getErr := store.Get(t.Context(), job.ID)
		_, _, createErr := store.Create(t.Context(), newJob(t, time.Now()))
		errs = append(errs, getErr, createErr)
	}
	for _, err := range errs {
		wantKind(t, err, domain.Internal)
		e, ok := errors.AsType[*domain.Error](err)
		if !ok || !strings.Contains(err.Error(), path) || !strings.Contains(e.Message, "damaged") || strings.Contains(e.Message, path) {
			t.Errorf("error %v: want it to say that %s is damaged, and its message not to tell the path", err, path)
		}
	}
}

func TestDurabilityIsThatOfTheConnectionThatWrites(t *testing.T) {
	t.Parallel()
	// https://www.sqlite.org/pragma.html#pragma_synchronous: 1 is NORMAL, 2 FULL.
	for durability, want := range map[sqlstore.Durability]map[string]int{
		sqlstore.Process: {"synchronous": 1, "fullfsync": 0},
		sqlstore.Power:   {"synchronous": 2, "fullfsync": 1},
	} {
		store := open(t, newPath(t), sqlstore.Options{Durability: durability})
		create(t, store, newJob(t, time.Now()))
		for pragma, want := range want {
			var got int
			if err := store.Query(t.Context(), func(rows *sql.Rows) error { return rows.Scan(&got) }, "PRAGMA "+pragma); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("with durability %d %s is %d, want %d", durability, pragma, got, want)
			}
		}
	}
}

func TestTheOldestDueJobIsThatWhichWaitedLongest(t *testing.T) {
	t.Parallel()
	oldestDue(t, "sqlite:"+newPath(t))
}

func oldestDue(t *testing.T, url string) {
	t.Helper()
	clock, ctx := portstest.NewClock(), t.Context()
	store := openURL(t, url, sqlstore.Options{Now: clock.Now})
	want := func(what string, want time.Time) {
		t.Helper()
		due, ok, err := store.OldestDue(ctx)
		if err != nil || ok == want.IsZero() || !due.Equal(want) {
			t.Errorf("%s: OldestDue = %v, %v, %v; want %v", what, due, ok, err, want)
		}
	}
	want("no job", time.Time{})
	begin := clock.Now()
	delayed := newJob(t, begin)
	delayed.DueAt = begin.Add(time.Hour)
	delayed.CheckAt = delayed.DueAt
	create(t, store, delayed)
	want("a job that is delayed", time.Time{})
	first := create(t, store, newJob(t, begin))
	second := create(t, store, newJob(t, clock.Advance(time.Minute)))
	want("two jobs that are due", begin)
	if taken, err := store.Take(ctx, 10, domain.Job.Taken); err != nil || len(taken) != 2 {
		t.Fatalf("Take = %v, %v", taken, err)
	}
	clock.Advance(10 * time.Minute)
	want("both with a broker", begin)
	claimed := claim(t, store, first.ID, clock.Now())
	want("the first claimed", second.DueAt)
	if _, err := store.Update(ctx, second.ID, func(j domain.Job) (domain.Job, error) { return j.Cancel(clock.Now(), domain.ReasonCancelled) }); err != nil {
		t.Fatal(err)
	}
	want("the second cancelled", time.Time{})
	retried, err := store.Update(ctx, first.ID, func(j domain.Job) (domain.Job, error) {
		return j.Settle(clock.Now(), claimed.Lease.Token, domain.Outcome{Err: errors.New("no")}, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	if retried.DueAt.After(clock.Now()) {
		want("a retry that is delayed", time.Time{})
	}
	clock.Advance(2 * time.Hour)
	want("a retry that has become due", retried.DueAt)
	claim(t, store, first.ID, clock.Now())
	want("the delayed job has become due", delayed.DueAt)
}

func TestRareStatusesAreFoundAmongManyJobs(t *testing.T) {
	t.Parallel()
	findRare(t, "sqlite:"+newPath(t))
}

// findRare has the few jobs of a status stand behind more than one page examines.
func findRare(t *testing.T, url string) {
	t.Helper()
	clock, ctx := portstest.NewClock(), t.Context()
	store := openURL(t, url, sqlstore.Options{Now: clock.Now})
	other := domain.Identity{Issuer: owner.Issuer, Subject: "bob"}
	want := map[domain.Status]map[domain.Identity][]string{}
	for status, step := range map[domain.Status]func(domain.Job) (domain.Job, error){
		domain.Running:   func(j domain.Job) (domain.Job, error) { return j.Claim(clock.Now(), "token", "worker") },
		domain.Dead:      func(j domain.Job) (domain.Job, error) { return j.Bar(clock.Now(), domain.ReasonPermanent) },
		domain.Cancelled: func(j domain.Job) (domain.Job, error) { return j.Cancel(clock.Now(), domain.ReasonCancelled) },
	} {
		want[status] = map[domain.Identity][]string{}
		for range 5 {
			for _, who := range []domain.Identity{owner, other} {
				job, err := store.Update(ctx, create(t, store, portstest.NewJob(t, clock.Advance(time.Millisecond), who, "rare")).ID, step)
				if err != nil {
					t.Fatal(err)
				}
				want[status][who] = append(want[status][who], job.ID)
			}
		}
	}
	err := store.Fill(ctx, 3000, func(i int) domain.Job {
		return portstest.NewJob(t, clock.Advance(time.Millisecond), []domain.Identity{owner, other}[i%2], "frequent")
	})
	if err != nil {
		t.Fatal(err)
	}
	for status, ids := range want {
		for who, query := range map[string]ports.JobQuery{
			"everybody": {Status: status, Limit: 4},
			"one owner": {Status: status, Limit: 4, Owner: &owner},
			"by name":   {Status: status, Limit: 4, Owner: &other, Name: "rare"},
			"no name":   {Status: status, Limit: 4, Name: "frequent"},
		} {
			wanted := ids[owner]
			switch {
			case query.Name == "frequent":
				wanted = nil
			case query.Owner == &other:
				wanted = ids[other]
			case query.Owner == nil:
				wanted = slices.Concat(ids[owner], ids[other])
			}
			var found []domain.Job
			pages := 0
			for ; pages == 0 || !query.After.IsZero(); pages++ {
				page, err := store.List(ctx, query)
				if err != nil {
					t.Fatal(err)
				}
				found, query.After = append(found, page.Jobs...), page.Next
			}
			wantIDs(t, fmt.Sprintf("%s of %s", status, who), found, wanted)
			if most := max(1, (len(wanted)+3)/4); pages > most {
				t.Errorf("%s of %s took %d pages, want %d at most", status, who, pages, most)
			}
			if !slices.IsSortedFunc(found, func(a, b domain.Job) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
				t.Errorf("%s of %s are not newest first", status, who)
			}
		}
	}
}

func TestCloseLeavesAllInOneFile(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	store := open(t, path, sqlstore.Options{})
	job := create(t, store, newJob(t, time.Now()))
	wantStored(t, store, job)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || !slices.Equal(files, []string{path, path + ".lock"}) {
		t.Errorf("there are %q (%v), want the database and its lock alone", files, err)
	}
	moved := newPath(t)
	if err := errors.Join(os.Mkdir(filepath.Dir(moved), 0o700), os.Rename(path, moved)); err != nil {
		t.Fatal(err)
	}
	wantStored(t, open(t, moved, sqlstore.Options{}), job)
}

func TestFilesAreTheOwnersAlone(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	store := open(t, path, sqlstore.Options{})
	create(t, store, newJob(t, time.Now()))
	for file, want := range map[string]fs.FileMode{
		filepath.Dir(path): 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600, path + ".lock": 0o600,
	} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", filepath.Base(file), got, want)
		}
	}
}

func TestAnExclusiveStoreSharesWithNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ first, second bool }{
		"exclusive beside exclusive": {true, true},
		"shared beside exclusive":    {true, false},
		"exclusive beside shared":    {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			store := open(t, path, sqlstore.Options{Exclusive: c.first})
			_, err := sqlstore.Open(context.Background(), "sqlite:"+path, sqlstore.Options{Exclusive: c.second})
			wantKind(t, err, domain.Conflict)
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v does not name %s", err, path)
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			open(t, path, sqlstore.Options{Exclusive: c.second})
		})
	}
}

func TestOpeningExclusivelyVoidsLeases(t *testing.T) {
	t.Parallel()
	for _, exclusive := range []bool{true, false} {
		t.Run(fmt.Sprintf("exclusive %v", exclusive), func(t *testing.T) {
			t.Parallel()
			path, clock, ctx := newPath(t), portstest.NewClock(), context.Background()
			store := open(t, path, sqlstore.Options{Now: clock.Now})
			running := claim(t, store, create(t, store, newJob(t, clock.Now())).ID, clock.Now())
			taken := create(t, store, newJob(t, clock.Now()))
			if jobs, err := store.Take(ctx, 10, domain.Job.Taken); err != nil || len(jobs) != 1 || jobs[0].ID != taken.ID {
				t.Fatalf("Take = %v, %v", jobs, err)
			}
			delayed := newJob(t, clock.Now())
			delayed.DueAt = clock.Now().Add(time.Hour)
			delayed.CheckAt = delayed.DueAt
			delayed = create(t, store, delayed)
			finished, err := store.Update(ctx, create(t, store, newJob(t, clock.Now())).ID, func(j domain.Job) (domain.Job, error) {
				return j.Cancel(clock.Now(), domain.ReasonCancelled)
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}

			clock.Advance(time.Second)
			store = open(t, path, sqlstore.Options{Now: clock.Now, Exclusive: exclusive})
			wantStored(t, store, delayed)
			wantStored(t, store, finished)
			jobs, err := store.Take(ctx, 10, domain.Job.Taken)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, j := range jobs {
				got = append(got, j.ID)
			}
			if exclusive {
				want = []string{running.ID, taken.ID}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("Take after the restart = %v, want %v", got, want)
			}
			if !exclusive {
				wantStored(t, store, running)
				return
			}
			again := claim(t, store, running.ID, clock.Now())
			if again.Starts != 2 || again.History[0].Error == "" {
				t.Errorf("the job is %+v, want it started again and the first attempt ended", again)
			}
			claim(t, store, taken.ID, clock.Now())
		})
	}
}

func TestAJobOfAKilledProcessIsRunAgainAtOnce(t *testing.T) {
	t.Parallel()
	path, id := newPath(t), uuid.NewString()
	p := startChild(t, "sqlite:"+path, "exclusive", id)
	p.expect(t, "started")
	p.say("go")
	p.expect(t, "claimed")
	_, err := sqlstore.Open(context.Background(), "sqlite:"+path, sqlstore.Options{Exclusive: true})
	wantKind(t, err, domain.Conflict)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	store := open(t, path, sqlstore.Options{Exclusive: true})
	jobs, err := store.Take(context.Background(), 10, domain.Job.Taken)
	if err != nil || len(jobs) != 1 || jobs[0].ID != id || jobs[0].Status != domain.Running {
		t.Fatalf("Take = %+v, %v; want the job that the process ran", jobs, err)
	}
	claim(t, store, id, time.Now())
}

func TestProcessesThatStartAtOnceShareOneNewDatabase(t *testing.T) {
	t.Parallel()
	startAtOnce(t, "sqlite:"+newPath(t))
}

func startAtOnce(t *testing.T, url string) {
	t.Helper()
	const n = 4
	var children []*process
	var ids []string
	for range n {
		id := uuid.NewString()
		ids = append(ids, id)
		children = append(children, startChild(t, url, "shared", id))
	}
	for _, p := range children {
		p.expect(t, "started")
	}
	for _, p := range children {
		p.say("go")
	}
	for _, p := range children {
		p.expect(t, "claimed")
	}
	for _, p := range children {
		p.say("end")
		if err := p.Wait(); err != nil {
			t.Errorf("a process ended with %v", err)
		}
	}
	store := openURL(t, url, sqlstore.Options{})
	for _, id := range ids {
		if job, err := store.Get(context.Background(), id); err != nil || job.Status != domain.Running {
			t.Errorf("Get = %+v, %v", job, err)
		}
	}
}

func TestTwoStoresOnOneFileLoseNoWrite(t *testing.T) {
	t.Parallel()
	loseNoWrite(t, "sqlite:"+newPath(t))
}

// loseNoWrite has two stores on one new database update one job, and take many, at once.
func loseNoWrite(t *testing.T, url string) {
	t.Helper()
	ctx := context.Background()
	stores := []*sqlstore.Store{openURL(t, url, sqlstore.Options{}), openURL(t, url, sqlstore.Options{})}
	shared := create(t, stores[0], newJob(t, time.Now()))
	const writers, each = 4, 20
	var wg sync.WaitGroup
	for i := range writers {
		store := stores[i%2]
		wg.Go(func() {
			for range each {
				if _, err := store.Update(ctx, shared.ID, func(j domain.Job) (domain.Job, error) {
					j.Starts++
					return j, nil
				}); err != nil {
					t.Errorf("Update: %v", err)
				}
				if _, _, err := store.Create(ctx, newJob(t, time.Now())); err != nil {
					t.Errorf("Create: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for _, store := range stores {
		if job, err := store.Get(ctx, shared.ID); err != nil || job.Starts != writers*each {
			t.Errorf("the job counts %d updates (%v), want %d", job.Starts, err, writers*each)
		}
	}
	var mu sync.Mutex
	seen := map[string]int{}
	for i := range writers {
		store := stores[i%2]
		wg.Go(func() {
			for {
				jobs, err := store.Take(ctx, 7, domain.Job.Taken)
				if err != nil {
					t.Errorf("Take: %v", err)
				}
				if len(jobs) == 0 {
					return
				}
				mu.Lock()
				for _, j := range jobs {
					seen[j.ID]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != writers*each+1 {
		t.Errorf("%d jobs were taken, want %d", len(seen), writers*each+1)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("job %s was taken %d times", id, n)
		}
	}
}

func TestAnExpiredJobIsReplacedOnce(t *testing.T) {
	t.Parallel()
	replaceOnce(t, "sqlite:"+newPath(t))
}

// replaceOnce has two stores create the same job at once, over one that has expired and is being removed.
func replaceOnce(t *testing.T, url string) {
	t.Helper()
	clock, ctx := portstest.NewClock(), context.Background()
	stores := []*sqlstore.Store{openURL(t, url, sqlstore.Options{Now: clock.Now}), openURL(t, url, sqlstore.Options{Now: clock.Now})}
	for range 10 {
		job := create(t, stores[0], newJob(t, clock.Now()))
		if _, err := stores[0].Update(ctx, job.ID, func(j domain.Job) (domain.Job, error) {
			return j.Cancel(clock.Now(), domain.ReasonCancelled)
		}); err != nil {
			t.Fatal(err)
		}
		clock.Advance(domain.DefaultRetention.Finished)
		again := newJob(t, clock.Now())
		again.ID = job.ID
		var created atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				stored, isNew, err := stores[i%2].Create(ctx, again)
				if err != nil || !stored.CreatedAt.Equal(again.CreatedAt) {
					t.Errorf("Create = %+v, %v; want the new job", stored, err)
				}
				if isNew {
					created.Add(1)
				}
			})
		}
		wg.Go(func() {
			if _, err := stores[0].Expire(ctx, 10); err != nil {
				t.Errorf("Expire: %v", err)
			}
		})
		wg.Wait()
		if created.Load() != 1 {
			t.Errorf("%d creates say that they created the job, want 1", created.Load())
		}
		again.Revision = 1
		wantStored(t, stores[1], again)
	}
}

func TestAFilterExaminesABoundedNumberOfJobs(t *testing.T) {
	t.Parallel()
	clock, ctx := portstest.NewClock(), context.Background()
	store := open(t, newPath(t), sqlstore.Options{Now: clock.Now})
	rare := newJob(t, clock.Now())
	rare.Name = "rare"
	create(t, store, rare)
	var wg sync.WaitGroup
	for range 1500 {
		job := newJob(t, clock.Advance(time.Millisecond))
		wg.Go(func() {
			if _, _, err := store.Create(ctx, job); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, who := range []*domain.Identity{nil, &owner} {
		query := ports.JobQuery{Owner: who, Name: "rare", Limit: 10}
		first, err := store.List(ctx, query)
		if err != nil || len(first.Jobs) != 0 || first.Next.IsZero() {
			t.Fatalf("the first page has %d jobs, next %v, error %v; want it empty with a next one", len(first.Jobs), first.Next, err)
		}
		query.After = first.Next
		second, err := store.List(ctx, query)
		if err != nil || len(second.Jobs) != 1 || !second.Next.IsZero() {
			t.Fatalf("the second page has %d jobs, next %v, error %v; want the rare one and no next", len(second.Jobs), second.Next, err)
		}
	}
	page, err := store.List(ctx, ports.JobQuery{Limit: 1000})
	if err != nil || len(page.Jobs) != 100 || page.Next.IsZero() {
		t.Errorf("a page without bound has %d jobs, next %v, error %v; want 100 and a next one", len(page.Jobs), page.Next, err)
	}
}

func TestAFullLastPageHasNoNext(t *testing.T) {
	t.Parallel()
	clock := portstest.NewClock()
	store := open(t, newPath(t), sqlstore.Options{Now: clock.Now})
	for range 3 {
		create(t, store, newJob(t, clock.Now()))
	}
	page, err := store.List(context.Background(), ports.JobQuery{Limit: 3})
	if err != nil || len(page.Jobs) != 3 || !page.Next.IsZero() {
		t.Errorf("List = %d jobs, next %v, error %v", len(page.Jobs), page.Next, err)
	}
}

func TestAQueuedJobTakesLittleRoom(t *testing.T) {
	t.Parallel()
	store, ctx := open(t, newPath(t), sqlstore.Options{}), t.Context()
	const n, most = 5000, 1 << 10
	err := store.Fill(ctx, n, func(i int) domain.Job {
		job := newJob(t, time.Now())
		if i%2 == 0 { // as without an idempotency key
			job.ID = uuid.Must(uuid.NewV7()).String()
		}
		return job
	})
	if err != nil {
		t.Fatal(err)
	}
	var bytes int
	err = store.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&bytes) }, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
	if err != nil || bytes/n > most {
		t.Errorf("a job takes %d bytes (%v), want %d at most", bytes/n, err, most)
	}
	t.Logf("a job takes %d bytes", bytes/n)
}

func TestQueriesGoByIndex(t *testing.T) {
	t.Parallel()
	store := open(t, newPath(t), sqlstore.Options{})
	for name, statement := range sqlstore.SQLiteStatements() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var plan []string
			err := store.Query(context.Background(), func(rows *sql.Rows) error {
				var id, parent, unused int
				var detail string
				err := rows.Scan(&id, &parent, &unused, &detail)
				plan = append(plan, detail)
				return err
			}, "EXPLAIN QUERY PLAN "+statement.SQL, slices.Repeat([]any{"0"}, parameters(statement.SQL))...)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, step := range plan {
				found = found || strings.Contains(step, "INDEX "+statement.Index) &&
					(!strings.Contains(name, ": ") || strings.Contains(step, "(created_at,id)<(?,?)")) // a list begins at its cursor
				if strings.Contains(step, "TEMP B-TREE") || strings.HasPrefix(step, "SCAN") && !strings.Contains(step, "INDEX") {
					t.Errorf("the plan has %q", step)
				}
			}
			if !found {
				t.Errorf("the plan %q does not use %s", plan, statement.Index)
			}
		})
	}
}

func TestAFullDiskIsWaitedOut(t *testing.T) {
	t.Parallel()
	store, ctx := open(t, newPath(t), sqlstore.Options{}), context.Background()
	if err := store.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	small := create(t, store, newJob(t, time.Now()))
	if err := store.Exec(ctx, "PRAGMA max_page_count = 100"); err != nil { // 400 KiB
		t.Fatal(err)
	}
	var mu sync.Mutex
	stored := []domain.Job{small}
	untilRefused := func(size int) {
		for range 1000 {
			job := newJob(t, time.Now())
			job.Payload = slices.Repeat([]byte{'1'}, size)
			got, _, err := store.Create(ctx, job)
			if err != nil {
				wantKind(t, err, domain.Unavailable)
				return
			}
			mu.Lock()
			stored = append(stored, got)
			mu.Unlock()
		}
		t.Error("nothing was refused")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { untilRefused(20 << 10) })
	}
	wg.Wait()
	untilRefused(4 << 10) // of the others each may have been refused for what its neighbours wanted
	// A small job may still find room in a page that is begun; what is asked of Ready does not.
	wantKind(t, store.Ready(ctx), domain.Unavailable)
	for _, job := range stored {
		wantStored(t, store, job)
	}
	if err := store.Exec(ctx, "PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if err := store.Ready(ctx); err != nil {
		t.Errorf("Ready with room again: %v", err)
	}
	stored = append(stored, create(t, store, newJob(t, time.Now())))
	for _, job := range stored {
		wantStored(t, store, job)
	}
	err := store.Query(ctx, func(rows *sql.Rows) error {
		var result string
		if err := rows.Scan(&result); err != nil {
			return err
		}
		if result != "ok" {
			t.Errorf("the integrity check says %q", result)
		}
		return nil
	}, "PRAGMA integrity_check")
	if err != nil {
		t.Fatal(err)
	}
	page, err := store.List(ctx, ports.JobQuery{Limit: 100})
	if err != nil || len(page.Jobs) != min(len(stored), 100) {
		t.Errorf("the store lists %d jobs (%v), want the %d that were acknowledged", len(page.Jobs), err, len(stored))
	}
}

func TestReadyLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	store, ctx := open(t, newPath(t), sqlstore.Options{}), context.Background()
	pages := func() (n int) {
		t.Helper()
		if err := store.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&n) }, "PRAGMA page_count"); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := store.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	before := pages()
	for range 3 {
		if err := store.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if after := pages(); after != before {
		t.Errorf("the database has grown from %d to %d pages", before, after)
	}
}

func TestARowThatCannotBeReadStopsNoOther(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var reports []error
	clock, ctx := portstest.NewClock(), context.Background()
	store := open(t, newPath(t), sqlstore.Options{Now: clock.Now, Report: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, err)
	}})
	bad := create(t, store, newJob(t, clock.Now()))
	good := create(t, store, newJob(t, clock.Advance(time.Millisecond)))
	if err := store.Exec(ctx, "UPDATE jobs SET state = '{' WHERE id = $1", bad.ID); err != nil {
		t.Fatal(err)
	}
	_, err := store.Get(ctx, bad.ID)
	wantKind(t, err, domain.Internal)
	page, err := store.List(ctx, ports.JobQuery{Limit: 10})
	if err != nil || len(page.Jobs) != 1 || page.Jobs[0].ID != good.ID {
		t.Errorf("List = %+v, %v; want the good job alone", page, err)
	}
	jobs, err := store.Take(ctx, 1, domain.Job.Taken)
	if err != nil || len(jobs) != 0 {
		t.Errorf("the first Take = %+v, %v; want the bad row put off", jobs, err)
	}
	jobs, err = store.Take(ctx, 1, domain.Job.Taken)
	if err != nil || len(jobs) != 1 || jobs[0].ID != good.ID {
		t.Errorf("the second Take = %+v, %v; want the good job", jobs, err)
	}
	if len(reports) != 2 || !strings.Contains(errors.Join(reports...).Error(), bad.ID) {
		t.Errorf("reported: %v; want the bad job by the list and by the take", reports)
	}
}

// parameters returns how many parameters a statement has.
func parameters(statement string) int {
	n := 0
	for n < 16 && strings.Contains(statement, fmt.Sprintf("$%d", n+1)) {
		n++
	}
	return n
}
