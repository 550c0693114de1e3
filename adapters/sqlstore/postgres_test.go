//go:build unix

package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// TestPostgres is all that needs no server of its own.
func TestPostgres(t *testing.T) {
	t.Parallel()
	server := adaptertest.Postgres(t, "fsync=off", "max_connections=500")
	contracts(t, func(t *testing.T) string {
		t.Helper()
		return server.Database(t)
	})
	for name, test := range map[string]func(t *testing.T, url string){
		"an update is decided on what another wrote": decideAnew,
		"a take goes by what another wrote":          takeAnew,
		"an update tells a job from its successor":   tellSuccessor,
		"the jobs of callers are their own":          ownJobs,
		"two stores lose no write":                   loseNoWrite,
		"processes that start at once share one":     startAtOnce,
		"every member of a job is kept":              keepEveryMember,
		"odd members are kept as they are":           keepOddMembers,
		"rows of every version are read":             readEveryVersion,
		"a row that cannot be read stops no other":   passUnreadable,
		"a newer schema is used while it is compatible": func(t *testing.T, url string) {
			useNewerSchema(t, url, "UPDATE jobs_schema SET oldest = version")
		},
		"every version works beside the next":             workBeside,
		"the oldest due job is that which waited longest": oldestDue,
		"rare statuses are found among many jobs":         findRare,
		"a user without rights to the schema will do":     useWithoutRights,
		"an idle consumer of another store starts once":   wakeOther,
		"queries go by index":                             goByIndex,
		"a lock that is never released is outwaited":      outwaitLock,
		"an expired job is replaced once":                 replaceOnce,
		"a closed store is unavailable":                   closeStore,
		"commits are on disk whatever the server's mind":  commitOnDisk,
		"it cannot be had alone": func(t *testing.T, url string) {
			_, err := sqlstore.Open(t.Context(), url, sqlstore.Options{Exclusive: true})
			wantKind(t, err, domain.Invalid)
		},
		"a password is in no error": hidePassword,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, server.Database(t))
		})
	}
}

func keepEveryMember(t *testing.T, url string) {
	stores := [2]*sqlstore.Store{openURL(t, url, sqlstore.Options{}), openURL(t, url, sqlstore.Options{})}
	for _, job := range goldenJobs() {
		values := reflect.ValueOf(job)
		for i := range values.NumField() {
			if job.ID == goldenJobs()[0].ID && values.Field(i).IsZero() {
				t.Errorf("%s is to be set, or nobody sees it lost", values.Type().Field(i).Name)
			}
		}
		create(t, stores[0], job)
		wantStored(t, stores[1], job)
		page, err := stores[1].List(t.Context(), ports.JobQuery{Owner: &job.Owner, Limit: 1})
		if err != nil || len(page.Jobs) != 1 {
			t.Fatalf("List = %+v, %v", page, err)
		}
		if diff := cmp.Diff(job, page.Jobs[0]); diff != "" {
			t.Errorf("the listed job (-want +got):\n%s", diff)
		}
	}
}

func keepOddMembers(t *testing.T, url string) {
	store := openURL(t, url, sqlstore.Options{})
	job := newJob(t, time.Now())
	job.Owner = domain.Identity{Issuer: "\x01", Subject: "\u2028'; DROP TABLE jobs; --\U0001F980"}
	job.TokenID, job.IdempotencyKey = "\x00", `"\`
	job.Payload, job.Output = []byte{}, []byte{0xff, 0x00}
	wantStored(t, store, create(t, store, job))

	// What a text of PostgreSQL cannot hold is refused, and no fault of ours.
	for _, bad := range []string{"a\x00b", "\xff"} {
		job := newJob(t, time.Now())
		job.Owner.Subject = bad
		_, _, err := store.Create(t.Context(), job)
		wantKind(t, err, domain.Invalid)
	}
	// A row holds 1 GB at most, and a message of the protocol as much.
	if _, err := store.Get(t.Context(), strings.Repeat("x", 1<<20)); domain.KindOf(err) != domain.NotFound {
		t.Errorf("Get of a long id: %v", err)
	}
}

func readEveryVersion(t *testing.T, url string) {
	files, err := filepath.Glob(filepath.Join("testdata", "rows-v*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	store := openURL(t, url, sqlstore.Options{})
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// They are SQLite's; PostgreSQL writes bytes another way.
		rows := regexp.MustCompile(`X'([0-9A-F]*)'`).ReplaceAllString(string(text), `'\x$1'`)
		if err := store.Exec(t.Context(), "TRUNCATE jobs;"+rows); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, job := range goldenJobs() {
			wantStored(t, store, job)
		}
	}
}

func passUnreadable(t *testing.T, url string) {
	reports := make(chan error, 10)
	store := openURL(t, url, sqlstore.Options{Report: func(err error) { reports <- err }})
	bad := create(t, store, newJob(t, time.Now()))
	good := create(t, store, newJob(t, time.Now().Add(time.Millisecond)))
	if err := store.Exec(t.Context(), "UPDATE jobs SET state = '{' WHERE id = $1", bad.ID); err != nil {
		t.Fatal(err)
	}
	page, err := store.List(t.Context(), ports.JobQuery{Limit: 10})
	if err != nil || len(page.Jobs) != 1 || page.Jobs[0].ID != good.ID {
		t.Errorf("List = %+v, %v; want the good job alone", page, err)
	}
	taken, err := store.Take(t.Context(), 10, domain.Job.Taken)
	for err == nil && len(taken) == 0 { // it was not due yet
		taken, err = store.Take(t.Context(), 10, domain.Job.Taken)
	}
	if err != nil || len(taken) != 1 || taken[0].ID != good.ID {
		t.Errorf("Take = %+v, %v; want the good job", taken, err)
	}
	for _, of := range []string{"the list", "the take"} {
		if err := <-reports; !strings.Contains(err.Error(), bad.ID) {
			t.Errorf("%s reported %v, want the bad job", of, err)
		}
	}
	if taken, err := store.Take(t.Context(), 10, domain.Job.Taken); err != nil || len(taken) != 0 || len(reports) != 0 {
		t.Errorf("Take = %+v, %v, %d reports; want the bad row put off", taken, err, len(reports))
	}
}

func useWithoutRights(t *testing.T, url string) {
	store := openURL(t, url, sqlstore.Options{})
	role := "app" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if err := store.Exec(t.Context(), fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'secret';
		GRANT SELECT ON jobs_schema TO %[1]s; GRANT SELECT, INSERT, UPDATE, DELETE ON jobs, probe TO %[1]s`, role)); err != nil {
		t.Fatal(err)
	}
	app := openURL(t, withUser(t, url, role, "secret"), sqlstore.Options{})
	claim(t, app, create(t, app, newJob(t, time.Now())).ID, time.Now())
	if err := app.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := store.Exec(t.Context(), fmt.Sprintf("REVOKE INSERT ON probe FROM %s", role)); err != nil {
		t.Fatal(err)
	}
	wantKind(t, app.Ready(t.Context()), domain.Internal)
}

func withUser(t *testing.T, text, user, password string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func wakeOther(t *testing.T, url string) {
	here, there := openURL(t, url, sqlstore.Options{}), openURL(t, url, sqlstore.Options{})
	queue := jobs.NewQueue(there, time.Now, 4, time.Minute)
	listening := listen(t, there, queue.Wake)
	started := make(chan string, 1)
	consume(t, queue, func(_ context.Context, d domain.Delivery) domain.Disposition {
		started <- d.JobID
		return domain.Disposition{Verdict: domain.Ack}
	})
	<-listening

	next := func(what string, do func() domain.Job) time.Duration {
		t.Helper()
		begin := time.Now()
		want := do()
		select {
		case got := <-started:
			if got != want.ID {
				t.Errorf("%s: job %s started, want %s", what, got, want.ID)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nothing started", what)
		}
		return time.Since(begin)
	}
	update := func(id string, step func(domain.Job) (domain.Job, error)) domain.Job {
		t.Helper()
		job, err := here.Update(t.Context(), id, step)
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
	fastest := time.Hour
	var job domain.Job
	for range 3 {
		fastest = min(fastest, next("a new job", func() domain.Job {
			job = create(t, here, newJob(t, time.Now()))
			return job
		}))
	}
	fastest = min(fastest, next("a job given back", func() domain.Job {
		return update(job.ID, func(j domain.Job) (domain.Job, error) { return j.Released(time.Now(), 0), nil })
	}))
	fastest = min(fastest, next("a job redriven", func() domain.Job {
		update(job.ID, func(j domain.Job) (domain.Job, error) { return j.Cancel(time.Now(), domain.ReasonCancelled) })
		return update(job.ID, func(j domain.Job) (domain.Job, error) { return j.Redrive(time.Now()) })
	}))
	if fastest > time.Second {
		t.Errorf("the fastest job started after %v, want one second at most", fastest)
	}
}

// listen has the store wake until the test ends, and closes the channel once it is heard.
func listen(t *testing.T, store *sqlstore.Store, wake func()) <-chan struct{} {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	heard, done := make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(heard) })
	go func() {
		done <- store.Listen(ctx, func() {
			wake()
			once()
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Listen = %v, want nil", err)
		}
	})
	return heard
}

func TestListenOnAFileEndsAtOnce(t *testing.T) {
	t.Parallel()
	store := open(t, newPath(t), sqlstore.Options{})
	if err := store.Listen(t.Context(), func() { t.Error("woken") }); err != nil {
		t.Error(err)
	}
}

func goByIndex(t *testing.T, url string) {
	store, ctx := openURL(t, url, sqlstore.Options{}), t.Context()
	create(t, store, goldenJobs()[1])
	// Nearly all jobs are one owner's, and most are open and due: what misleads a planner most.
	err := store.Exec(ctx, `INSERT INTO jobs (id, issuer, subject, name, status, created_at, due_at, check_at, lease_until, expires_at, revision, submission, state)
		SELECT 'job-' || n, 'issuer', CASE WHEN n % 1000 = 0 THEN 'rare' ELSE 'frequent' END, 'name', CASE WHEN n % 10 = 0 THEN 'succeeded' WHEN n % 999 = 1 THEN 'dead' WHEN n % 999 = 2 THEN 'cancelled' WHEN n % 999 = 3 THEN 'running' ELSE 'queued' END,
			n, 0, CASE WHEN n % 10 = 0 THEN 0 ELSE (n * 7919) % 20000 END, 0, CASE WHEN n % 10 = 0 THEN n ELSE 0 END, 1, '{}', '{}'
		FROM generate_series(1, 20000) AS n`)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Exec(ctx, "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	conn, err := store.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool
	// A page far down the list reads no more than the first.
	for _, owner := range []string{"frequent", "rare"} {
		for _, cursor := range []string{"9223372036854775807", "6000"} {
			plan := explain(t, conn, fmt.Sprintf("EXPLAIN (ANALYZE, BUFFERS) %s", strings.NewReplacer("$1", cursor, "$2", "''", "$3", "30000",
				"$4", "''", "$5", "''", "$6", "5", "$7", "'issuer'", "$8", "'"+owner+"'").Replace(sqlstore.PostgresStatements()["scan: all of owner"].SQL)))
			_, buffers, _ := strings.Cut(plan, "Buffers: ")
			var pages int
			if _, err := fmt.Sscanf(buffers, "shared hit=%d", &pages); err != nil || pages > 20 {
				t.Errorf("%d pages are read (%v):\n%s", pages, err, plan)
			}
		}
	}
	args := map[string][]string{
		"take": {"20000, 16", "20000, 500"}, "expire": {"20000, 100"}, "oldest": {""},
		"get": {"'job-7'"}, "update": {"'queued', 1, 1, 1, 1, 2, '{}', NULL, 'job-7', 7"}, "postpone": {"1, 'job-7'"},
	}
	for list, statuses := range map[string][]string{"all": {"", "queued"}, "running": {"running"}, "ended": {"dead", "cancelled"}} {
		for _, status := range statuses {
			for _, limit := range []int{21, 1000} {
				for _, step := range []string{"scan: ", "page: "} {
					values := fmt.Sprintf("9223372036854775807, '', 30000, '%s', '', %d", status, limit)
					args[step+list] = append(args[step+list], values)
					for _, owner := range []string{"frequent", "rare", "nobody"} {
						args[step+list+" of owner"] = append(args[step+list+" of owner"], fmt.Sprintf("%s, 'issuer', '%s'", values, owner))
					}
				}
			}
		}
	}
	for name, statement := range sqlstore.PostgresStatements() {
		if _, err := conn.ExecContext(ctx, fmt.Sprintf("PREPARE %q AS %s", name, statement.SQL)); err != nil {
			t.Fatal(err)
		}
		if len(args[name]) == 0 {
			t.Errorf("%s: no arguments to explain it with", name)
		}
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			if _, err := conn.ExecContext(ctx, "SET plan_cache_mode = "+mode); err != nil {
				t.Fatal(err)
			}
			for _, values := range args[name] {
				call := fmt.Sprintf("EXPLAIN EXECUTE %q (%s)", name, values)
				plan := explain(t, conn, strings.TrimSuffix(call, "()"))
				if !regexp.MustCompile(`Index (Only )?Scan (Backward )?using `+statement.Index+` `).MatchString(plan) ||
					strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Sort") || strings.Contains(plan, "Bitmap") {
					t.Errorf("%s of (%s) with %s does not go by %s alone:\n%s", name, values, mode, statement.Index, plan)
				}
				if strings.Contains(name, ": ") && strings.Count(plan, "ROW(created_at, id)") != 1 {
					t.Errorf("%s of (%s) with %s does not begin at its cursor:\n%s", name, values, mode, plan)
				}
			}
		}
	}
}

func explain(t *testing.T, conn *sql.Conn, statement string) string {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(line + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

// A process that halts between two statements, as only Take has them, holds up others for a while.
func outwaitLock(t *testing.T, url string) {
	store := openURL(t, url, sqlstore.Options{})
	locked, other := create(t, store, newJob(t, time.Now())), create(t, store, newJob(t, time.Now()))
	defer lock(t, store, locked.ID)()

	// Takers pass it by, and readers do not mind.
	taken, err := store.Take(t.Context(), 10, domain.Job.Taken)
	if err != nil || len(taken) != 1 || taken[0].ID != other.ID {
		t.Errorf("Take = %+v, %v; want the other job", taken, err)
	}
	wantStored(t, store, locked)
	update := func(ctx context.Context) error {
		_, err := store.Update(ctx, locked.ID, func(j domain.Job) (domain.Job, error) { return j, nil })
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := update(ctx); domain.KindOf(err) != domain.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an update whose caller leaves: %v", err)
	}
	wantKind(t, update(t.Context()), domain.Unavailable) // it waited as long as it may
	waitFor(t, "the server ends the transaction that holds the lock", func() bool { return update(t.Context()) == nil })
}

// lock locks a row in a transaction of its own.
func lock(t *testing.T, store *sqlstore.Store, id string) (release func()) {
	t.Helper()
	conn, err := store.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tx, err := conn.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "SELECT FROM jobs WHERE id = $1 FOR UPDATE", id); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		_ = tx.Rollback()
		_ = conn.Close()
	})
}

func closeStore(t *testing.T, url string) {
	store := openURL(t, url, sqlstore.Options{})
	job := create(t, store, newJob(t, time.Now()))
	stopped := make(chan error, 1)
	heard := make(chan struct{}, 10)
	go func() { stopped <- store.Listen(context.Background(), func() { heard <- struct{}{} }) }()
	<-heard
	for range 2 {
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("Listen of a store that is closed = %v, want nil", err)
	}
	_, _, createErr := store.Create(t.Context(), newJob(t, time.Now()))
	_, getErr := store.Get(t.Context(), job.ID)
	_, listErr := store.List(t.Context(), ports.JobQuery{Limit: 1})
	_, takeErr := store.Take(t.Context(), 1, domain.Job.Taken)
	for _, err := range []error{createErr, getErr, listErr, takeErr, store.Ready(t.Context())} {
		wantKind(t, err, domain.Unavailable)
	}
}

func commitOnDisk(t *testing.T, url string) {
	for setting, want := range map[string]string{"off": "on", "remote_apply": "remote_apply", "on": "on"} {
		store := openURL(t, url+"&synchronous_commit="+setting, sqlstore.Options{})
		conn, err := store.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(explain(t, conn, "SHOW synchronous_commit")); got != want {
			t.Errorf("with %s on the server commits are %s, want %s", setting, got, want)
		}
		_ = conn.Close()
	}
}

func hidePassword(t *testing.T, good string) {
	const password = "correct-horse%zebra"
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for bad, want := range map[string]domain.Kind{
		"postgres://jobgate:" + password + "@localhost:5432/jobs":                                                          domain.Invalid, // no escape
		"postgres://jobgate:" + url.QueryEscape(password) + "@localhost:port/jobs":                                         domain.Invalid,
		"postgresql://jobgate:" + url.QueryEscape(password) + "@localhost/jobs?sslmode=perhaps":                            domain.Invalid,
		"postgres://jobgate:" + url.QueryEscape(password) + "@" + closed.Addr().String() + "/jobs":                         domain.Unavailable,
		withUser(t, good, "jobgate", password):                                                                             domain.Internal,
		strings.Replace(withUser(t, good, "jobgate", password), "sslmode=disable", "sslmode=require&connect_timeout=2", 1): domain.Unavailable,
	} {
		_, err := sqlstore.Open(t.Context(), bad, sqlstore.Options{})
		wantKind(t, err, want)
		if err != nil && (strings.Contains(err.Error(), password) || strings.Contains(err.Error(), url.QueryEscape(password))) {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func TestWhatPostgresAcknowledgedOutlivesIt(t *testing.T) {
	t.Parallel()
	server := adaptertest.Postgres(t)
	store := openURL(t, server.Database(t), sqlstore.Options{})
	var wakes atomic.Int64
	<-listen(t, store, func() { wakes.Add(1) })
	var (
		mu      sync.Mutex
		stored  []domain.Job
		updates = map[string]int{} // acknowledged, by id
	)
	for round := range 2 {
		ctx, stop := context.WithCancel(t.Context())
		var acknowledged, refused atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			mine := create(t, store, newJob(t, time.Now()))
			wg.Go(func() {
				for ctx.Err() == nil {
					job, created, err := store.Create(context.Background(), newJob(t, time.Now()))
					if err == nil && created {
						acknowledged.Add(1)
						mu.Lock()
						stored = append(stored, job)
						mu.Unlock()
						_, err = store.Update(context.Background(), mine.ID, func(j domain.Job) (domain.Job, error) {
							j.Starts++
							return j, nil
						})
						if err == nil {
							mu.Lock()
							updates[mine.ID]++
							mu.Unlock()
						}
					}
					if err != nil {
						wantKind(t, err, domain.Unavailable)
						refused.Add(1)
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		waitFor(t, "jobs are stored", func() bool { return acknowledged.Load() > 50 })
		server.Kill()
		waitFor(t, "jobs are refused", func() bool { return refused.Load() > 4 })
		wantKind(t, store.Ready(t.Context()), domain.Unavailable)
		before, woken := acknowledged.Load(), wakes.Load()
		server.Restart()
		waitFor(t, "jobs are stored again", func() bool { return acknowledged.Load() > before+20 })
		stop()
		wg.Wait()
		waitFor(t, "the listener hears again", func() bool { return wakes.Load() > woken })
		if err := store.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		t.Logf("round %d: %d jobs stored, %d calls refused", round, acknowledged.Load(), refused.Load())
	}
	for _, job := range stored {
		wantStored(t, store, job)
	}
	for id, n := range updates {
		// Each kill leaves one update open for which nobody knows.
		if job, err := store.Get(t.Context(), id); err != nil || job.Starts < n || job.Starts > n+1 {
			t.Errorf("job %s has %d updates, %v; %d were acknowledged", id, job.Starts, err, n)
		}
	}
}

func TestAPausedPostgresKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	server := adaptertest.Postgres(t)
	store := openURL(t, server.Database(t), sqlstore.Options{})
	job := create(t, store, newJob(t, time.Now()))
	server.Pause()
	for name, call := range map[string]func(ctx context.Context) error{
		"Create": func(ctx context.Context) error { _, _, err := store.Create(ctx, newJob(t, time.Now())); return err },
		"Get":    func(ctx context.Context) error { _, err := store.Get(ctx, job.ID); return err },
		"List":   func(ctx context.Context) error { _, err := store.List(ctx, ports.JobQuery{Limit: 1}); return err },
		"Take":   func(ctx context.Context) error { _, err := store.Take(ctx, 1, domain.Job.Taken); return err },
		"Ready":  store.Ready,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		begin := time.Now()
		err := call(ctx)
		cancel()
		if domain.KindOf(err) != domain.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s = %v, want Unavailable at the end of its context", name, err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s took %v, 100ms were given", name, took)
		}
	}
	server.Continue()
	waitFor(t, "the store is ready", func() bool { return store.Ready(t.Context()) == nil })
	wantStored(t, store, job)
}

// BenchmarkPostgresSubmitToDone is BenchmarkSubmitToDone on PostgreSQL.
func BenchmarkPostgresSubmitToDone(b *testing.B) {
	submitToDone(b, openURL(b, adaptertest.Postgres(b).Database(b), sqlstore.Options{}))
}
