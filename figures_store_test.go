//go:build linux

package jobgate_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

var figuresFull = flag.Bool("figures-full", false, "measure with as many jobs, and for as long, as the goals have it, where less has to do otherwise (make bench-full)")

// fillers are as many producers as one commit of SQLite takes in.
const fillers = 256

// The load on everything that keeps jobs, which is that of testdata/peers/internal/producers too.
const (
	producerCount = 8
	loadName      = "report.render"
	loadPayload   = `{"report":"2026-11","customer":"c-0001234","format":"pdf","pages":[1,2,3,4,5,6,7,8,9,10],"copies":1}`

	// loadWorkers is how many jobs run at once in jobgate, as in asynq; River has the number of its documentation.
	loadWorkers = 32

	loadTimeout = time.Minute
)

// loadCaller is somebody who logged in at an OIDC provider as they commonly are: a realm's URL and a UUID.
var loadCaller = domain.Principal{
	Identity: domain.Identity{Issuer: "https://login.example.com/realms/main", Subject: "6f1c2f0e-8a2b-4f5d-9c3e-1b2a3c4d5e6f"},
	ClientID: "web", Scopes: []string{"jobs:submit", "jobs:read"}, TokenID: "0b9f3e7a-54c1-4b8e-8e57-2d1f0a6c9b31",
}

// TestFiguresStore measures what it costs to keep jobs: from submission until they are done, among many others, and in
// bytes. It measures at the use case, as the peers are at their libraries' clients; what HTTP adds is a row of its own.
// Each contender of submit to done is a process of its own, ours being this program, started once more.
func TestFiguresStore(t *testing.T) { //nolint:paralleltest // it measures
	if text := os.Getenv(errandEnv); text != "" {
		runErrand(t, text)
		return
	}
	rounds := needFigures(t)
	t.Run("submit to done, survives kill -9", func(t *testing.T) {
		l := newStoreLab(t)
		redis, lacksRedis := startRedis(t)
		groups, lacksGroups := buildPeer(t, "groupcommit")
		nats, lacksNATS := buildPeer(t, "nats")
		asynq, lacksAsynq := buildPeer(t, "asynq")
		c := comparison{contenders: []contender{
			{name: "jobgate", measure: func() sample { return sendOut(t, errand{URL: newSQLite(t), Jobs: 20_000}) }},
			{name: "jobgate over HTTP", measure: l.overHTTP},
			{name: "SQLite, group commit", missing: lacksGroups, measure: func() sample {
				return runPeer(t, groups, "-mode", "sqlite-normal", "-dir", t.TempDir(), "-jobs", "60000")
			}},
			{name: "NATS", missing: lacksNATS, measure: func() sample { return runPeer(t, nats, "-dir", t.TempDir(), "-jobs", "40000") }},
			{name: "asynq on Redis", missing: lacksRedis + lacksAsynq, measure: func() sample { return runPeer(t, asynq, "-redis", redis, "-jobs", "8000") }},
		}, rows: []row{
			{what: "submit to done, SQLite", of: "jobgate", floor: "SQLite, group commit", peers: []string{"NATS", "asynq on Redis"}, atLeast: 12_000},
			{what: "over HTTP", of: "jobgate over HTTP"},
		}}
		measureJobs(t, &c, rounds)
	})
	t.Run("submit to done, on disk", func(t *testing.T) {
		groups, lacksGroups := buildPeer(t, "groupcommit")
		nats, lacksNATS := buildPeer(t, "nats")
		river, lacksRiver := buildPeer(t, "river")
		database, lacksPostgres := startPostgres(t)
		const onPostgres = 5_000
		c := comparison{contenders: []contender{
			{name: "jobgate", measure: func() sample {
				return sendOut(t, errand{URL: newSQLite(t), Durability: sqlstore.Power, Jobs: 10_000})
			}},
			{name: "jobgate on PostgreSQL", missing: lacksPostgres, measure: func() sample {
				return sendOut(t, errand{URL: database(), Durability: sqlstore.Power, Jobs: onPostgres})
			}},
			{name: "SQLite FULL, group commit", missing: lacksGroups, measure: func() sample {
				return runPeer(t, groups, "-mode", "sqlite-full", "-dir", t.TempDir(), "-jobs", "15000")
			}},
			{name: "log, group commit", missing: lacksGroups, measure: func() sample {
				return runPeer(t, groups, "-mode", "log", "-dir", t.TempDir(), "-jobs", "25000")
			}},
			{name: "River on PostgreSQL", missing: lacksPostgres + lacksRiver, measure: func() sample {
				return runPeer(t, river, "-url", database(), "-jobs", strconv.Itoa(onPostgres))
			}},
			{name: "River on SQLite", missing: lacksRiver, measure: func() sample {
				return runPeer(t, river, "-url", newSQLite(t), "-jobs", "1000")
			}},
			{name: "NATS SyncAlways", missing: lacksNATS, measure: func() sample { return runPeer(t, nats, "-sync", "-dir", t.TempDir(), "-jobs", "4000") }},
		}, rows: []row{
			{
				what: "submit to done, SQLite, DURABILITY=power", of: "jobgate", floor: "SQLite FULL, group commit",
				peers: []string{"River on SQLite", "NATS SyncAlways"}, atLeast: 5_000,
			},
			{what: "the floor of any file", of: "log, group commit"},
			{what: "submit to done, PostgreSQL", of: "jobgate on PostgreSQL", peers: []string{"River on PostgreSQL"}, base: "River on PostgreSQL", atLeast: 1.5},
		}}
		measureJobs(t, &c, rounds)
	})
	t.Run("among many", func(t *testing.T) { measureDepth(t, rounds) })
	t.Run("bytes", func(t *testing.T) {
		kept := 50_000
		if *figuresFull {
			kept = 500_000
		}
		c := comparison{contenders: []contender{
			{name: "jobgate", measure: func() sample { return sendOut(t, errand{URL: newSQLite(t), Jobs: kept, Keep: true}) }},
		}}
		of := fmt.Sprintf(" per job, of %d queued", kept)
		c.rows = []row{
			{what: "disk" + of, metric: "disk", unit: "B", of: "jobgate", atMost: 1024},
			{what: "heap" + of, metric: "heap", unit: "B", of: "jobgate", atMost: 200},
			{what: "resident memory" + of, metric: "resident", unit: "B", of: "jobgate", atMost: 200},
		}
		c.run(min(rounds, minRounds)) // bytes hardly differ
		c.report(t)
	})
}

// measureJobs measures jobs in a second, and what each takes of the processors, servers beside the process apart.
func measureJobs(t *testing.T, c *comparison, rounds int) {
	t.Helper()
	var rows []row
	for _, r := range c.rows {
		r.metric, r.unit = "jobs/s", "jobs/s"
		cpu := row{what: "CPU of its process per job", metric: "µs CPU", unit: "µs", of: r.of, floor: r.floor, peers: r.peers}
		rows = append(rows, r, cpu)
	}
	c.rows = rows
	c.run(rounds)
	c.report(t)
}

func newSQLite(t *testing.T) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "jobs.sqlite")
}

// errandEnv is what makes of this program, started with TestFiguresStore alone, a process that runs an errand.
const errandEnv = "JOBGATE_TEST_ERRAND"

// An errand is what is measured in a process of its own.
type errand struct {
	URL        string
	Durability sqlstore.Durability
	Jobs       int
	Keep       bool   // the jobs are submitted, and stay
	Sample     string // file to write the sample to
}

// sendOut has an errand run.
func sendOut(t *testing.T, e errand) sample {
	t.Helper()
	e.Sample = filepath.Join(t.TempDir(), "sample")
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.run", "^TestFiguresStore$")
	cmd.Env = append(os.Environ(), errandEnv+"="+string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err = os.ReadFile(e.Sample)
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func runErrand(t *testing.T, text string) {
	t.Helper()
	var e errand
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatal(err)
	}
	run := submitToDone
	if e.Keep {
		run = keep
	}
	measured, err := json.Marshal(run(t, e))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.Sample, measured, 0o600); err != nil {
		t.Fatal(err)
	}
}

// submitToDone is how many jobs in a second are submitted by the producers, run by a handler that does nothing, and
// stored as succeeded.
func submitToDone(t *testing.T, e errand) sample {
	t.Helper()
	store := openStore(t, e.URL, e.Durability)
	defer closeStore(t, store)
	queue := jobs.NewQueue(store, time.Now, loadWorkers, time.Second)
	queue.Report = func(err error) { t.Error(err) }
	done := make(chan struct{})
	var left atomic.Int64
	left.Store(int64(e.Jobs))
	worker := loadWorker(store)
	worker.Settled = func(job domain.Job) {
		if job.Status != domain.Succeeded {
			t.Errorf("job %s is %s", job.ID, job.Status)
		}
		if left.Add(-1) == 0 {
			close(done)
		}
	}
	queue.Claim = worker.Claim
	ctx, stop := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	for _, part := range []func() error{
		func() error { return queue.Consume(ctx, worker.Deliver) },
		func() error { return store.Listen(ctx, queue.Wake) },
	} {
		parts.Go(func() {
			if err := part(); err != nil {
				t.Error(err)
			}
		})
	}
	defer parts.Wait()
	defer stop()
	submit := loadSubmit(store, queue)
	timeout := time.NewTimer(loadTimeout)
	defer timeout.Stop()
	before, began := cpuOf(t, os.Getpid()), time.Now()
	produce(t, producerCount, e.Jobs, submit, nil)
	select {
	case <-done:
	case <-timeout.C:
		t.Fatalf("%d of %d jobs are not done", left.Load(), e.Jobs)
	}
	return jobsIn(time.Since(began), cpuOf(t, os.Getpid())-before, e.Jobs)
}

func jobsIn(took, cpu time.Duration, n int) sample {
	return sample{"jobs/s": float64(n) / took.Seconds(), "µs CPU": cpu.Seconds() * 1e6 / float64(n)}
}

// openStore opens a store, for the caller to close.
func openStore(t *testing.T, url string, durability sqlstore.Durability) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), url, sqlstore.Options{Durability: durability, Report: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func closeStore(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

func loadSubmit(store ports.JobStore, queue *jobs.Queue) *jobs.Submit {
	return &jobs.Submit{
		Store: store, Dispatcher: queue, StoreIsQueue: true, Policy: domain.DefaultPolicy(), Retention: domain.DefaultRetention,
		Now: time.Now, NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
	}
}

func loadWorker(store ports.JobStore) *jobs.Worker {
	return &jobs.Worker{
		Store: store, Handler: jobs.HandlerFunc(func(context.Context, jobs.Run) ([]byte, error) { return nil, nil }),
		Policy: domain.DefaultPolicy(), Retention: domain.DefaultRetention, Name: "worker",
		Now: time.Now, NewToken: rand.Text, Random: mathrand.Float64,
	}
}

// produce has n jobs submitted by so many producers, each of which begins its next when its last is accepted. accepted is
// told of each, and how long it took, by one producer at a time; it may be nil.
func produce(t *testing.T, producerCount, n int, submit *jobs.Submit, accepted func(domain.Job, time.Duration)) {
	t.Helper()
	var next atomic.Int64
	var told sync.Mutex
	var producers sync.WaitGroup
	for range producerCount {
		producers.Go(func() {
			for next.Add(1) <= int64(n) {
				began := time.Now()
				job, _, err := submit.Do(t.Context(), loadCaller, jobs.Submission{Name: loadName, Payload: []byte(loadPayload)})
				took := time.Since(began)
				if err != nil {
					t.Error(err)
					return
				}
				if accepted != nil {
					told.Lock()
					accepted(job, took)
					told.Unlock()
				}
			}
		})
	}
	producers.Wait()
}

// keep is what a queued job costs in bytes: on disk once the store is closed, in the heap after a collection, and in
// memory that is resident once what was freed is given back. What a store takes anyway is there before, its cache of
// pages above all, which is not in the heap.
func keep(t *testing.T, e errand) sample {
	t.Helper()
	store := openStore(t, e.URL, e.Durability)
	submit := loadSubmit(store, jobs.NewQueue(store, time.Now, loadWorkers, time.Second))
	const before = 40_000
	produce(t, fillers, before, submit, nil)
	heap, resident := memoryOf(t)
	produce(t, fillers, e.Jobs, submit, nil)
	heapAfter, residentAfter := memoryOf(t)
	closeStore(t, store)
	disk := 0.0
	err := filepath.WalkDir(filepath.Dir(strings.TrimPrefix(e.URL, "sqlite:")), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			disk += float64(info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n := float64(e.Jobs)
	return sample{"disk": disk / (before + n), "heap": (heapAfter - heap) / n, "resident": (residentAfter - resident) / n}
}

// memoryOf is what this process has in its heap, and what of it is resident, in bytes.
func memoryOf(t *testing.T) (heap, resident float64) {
	t.Helper()
	debug.FreeOSMemory() // collects, too
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	// The second of the numbers that proc_pid_statm(5) describes.
	pages, err := strconv.ParseFloat(strings.Fields(string(text))[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return float64(stats.HeapAlloc), pages * float64(os.Getpagesize())
}

// The depths of the queue that calls are measured at, beside an empty store or one of few.
const (
	few       = 1_000
	deepQueue = 50_000 // for submissions; ten times that in full
	deepStore = 100_000
)

// measureDepth measures what calls cost in a store of many queued jobs, as a ratio to what they cost, between the same
// blocks of calls, in one of none or few. make bench-depth has every call, and PostgreSQL.
func measureDepth(t *testing.T, rounds int) {
	queued, stored := deepQueue, deepStore
	if *figuresFull {
		queued, stored = 10*queued, 10*stored
	}
	deep, shallow := newShelf(t), newShelf(t)
	defer deep.close()
	defer shallow.close()
	shallow.fill(few)
	deep.fill(queued)
	over := fmt.Sprintf("with %d queued, and those of the rounds", queued)
	submission := comparison{warmUp: true, contenders: []contender{{name: "submit", measure: func() sample {
		const blocks, block = 16, 500
		empty := newShelf(t)
		defer empty.close()
		sides := []*shelf{empty, deep}
		took := make([][]time.Duration, len(sides))
		for i := range 2 * blocks {
			side := (i + i/2) % 2 // either goes first by turns
			sides[side].produce(block, func(_ domain.Job, d time.Duration) { took[side] = append(took[side], d) })
		}
		p99 := func(side int) float64 {
			slices.Sort(took[side])
			return float64(took[side][len(took[side])*99/100].Nanoseconds()) / 1e6
		}
		return sample{"empty": p99(0), "deep": p99(1), "ratio": p99(1) / p99(0)}
	}}}, rows: []row{
		{what: "submit p99 " + over, metric: "ratio", unit: "× empty", of: "submit", atMost: 1.5},
		{what: "in an empty store", metric: "empty", unit: "ms", of: "submit"},
		{what: "in the other", metric: "deep", unit: "ms", of: "submit"},
	}}
	submission.run(rounds)
	submission.report(t)

	deep.fill(max(0, stored-deep.jobs)) // it has those of the rounds
	calls := comparison{warmUp: true}
	for _, call := range []struct {
		name string
		do   func(*shelf) error
		undo func(*shelf) error
	}{{"claim", (*shelf).claim, (*shelf).restore}, {"page", (*shelf).page, nil}, {"get", (*shelf).get, nil}} {
		calls.contenders = append(calls.contenders, contender{name: call.name, measure: func() sample {
			const blocks, block = 50, 10
			sides := []*shelf{shallow, deep}
			var took [2][]float64
			for i := range 2 * blocks {
				side := (i + i/2) % 2
				began := time.Now()
				for range block {
					if err := call.do(sides[side]); err != nil {
						t.Fatalf("%s: %v", call.name, err)
					}
				}
				took[side] = append(took[side], float64(time.Since(began).Nanoseconds())/1e3/block)
				if call.undo == nil {
					continue
				}
				if err := call.undo(sides[side]); err != nil {
					t.Fatalf("%s: %v", call.name, err)
				}
			}
			return sample{"µs": median(took[1]), "ratio": median(took[1]) / median(took[0])}
		}})
		calls.rows = append(calls.rows,
			row{what: fmt.Sprintf("%s with %d jobs", call.name, deep.jobs), metric: "ratio", unit: fmt.Sprintf("× %d", few), of: call.name, atMost: 1.5},
			row{what: "in µs", metric: "µs", unit: "µs", of: call.name})
	}
	calls.run(rounds)
	calls.report(t)
}

// A shelf is a store of queued jobs that nobody works at.
type shelf struct {
	t      *testing.T
	store  *sqlstore.Store
	submit *jobs.Submit
	jobs   int
	ids    []string              // of some, spread over all
	taken  map[string]domain.Job // as they were
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	store := openStore(t, newSQLite(t), sqlstore.Process)
	return &shelf{t: t, store: store, submit: loadSubmit(store, jobs.NewQueue(store, time.Now, loadWorkers, time.Second)), taken: map[string]domain.Job{}}
}

func (s *shelf) close() { closeStore(s.t, s.store) }

// produce adds jobs as they are measured.
func (s *shelf) produce(n int, accepted func(domain.Job, time.Duration)) {
	s.t.Helper()
	produce(s.t, producerCount, n, s.submit, accepted)
	s.jobs += n
}

// fill adds jobs, as many at once as go into one commit.
func (s *shelf) fill(n int) {
	s.t.Helper()
	produce(s.t, fillers, n, s.submit, nil)
	s.jobs += n
	s.ids = s.ids[:0]
	every := s.jobs / few
	after := ports.JobCursor{}
	for seen := 0; len(s.ids) < few; {
		page, err := s.store.List(s.t.Context(), ports.JobQuery{Owner: &loadCaller.Identity, Limit: 100, After: after})
		if err != nil || len(page.Jobs) == 0 {
			s.t.Fatalf("a page of %d jobs: %v", len(page.Jobs), err)
		}
		for _, job := range page.Jobs {
			if seen++; seen%every == 0 {
				s.ids = append(s.ids, job.ID)
			}
		}
		after = page.Next
	}
}

func (s *shelf) get() error {
	_, err := s.store.Get(s.t.Context(), s.ids[mathrand.IntN(len(s.ids))])
	return err
}

func (s *shelf) page() error {
	page, err := s.store.List(s.t.Context(), ports.JobQuery{Owner: &loadCaller.Identity, Limit: 20})
	if err == nil && len(page.Jobs) != 20 {
		err = fmt.Errorf("it has %d jobs", len(page.Jobs))
	}
	return err
}

// claim takes the next job for a worker, as a queue does.
func (s *shelf) claim() error {
	taken, err := s.store.Take(s.t.Context(), 1, func(job domain.Job, now time.Time) domain.Job {
		s.taken[job.ID] = job
		claimed, err := job.Claim(now, "token", "worker")
		if err != nil {
			s.t.Error(err)
		}
		return claimed
	})
	if err == nil && len(taken) != 1 {
		err = fmt.Errorf("%d jobs were taken", len(taken))
	}
	return err
}

func (s *shelf) restore() error {
	for id, job := range s.taken {
		if _, err := s.store.Update(s.t.Context(), id, func(domain.Job) (domain.Job, error) { return job, nil }); err != nil {
			return err
		}
	}
	clear(s.taken)
	return nil
}

// startPostgres returns what makes databases in a server whose settings are PostgreSQL's own.
func startPostgres(t *testing.T) (newDatabase func() string, missing string) {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) == 0 { // the pattern is good
		if _, err := exec.LookPath("postgres"); err != nil {
			return nil, "postgres"
		}
	}
	server := adaptertest.Postgres(t)
	return func() string { return server.Database(t) }, ""
}

// startRedis starts a Redis that keeps what it answered through kill -9, and is on disk with it each second. It returns
// its address.
func startRedis(t *testing.T) (address, missing string) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", "redis-server"
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	started := adaptertest.Start(t, exec.CommandContext(context.WithoutCancel(t.Context()), program, "--port", port, "--bind", "127.0.0.1",
		"--dir", t.TempDir(), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"))
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err == nil {
			conn.Close()
			return address, ""
		}
		select {
		case <-started.Exited():
			stdout, _ := started.Output()
			t.Fatalf("redis-server ended:\n%s", stdout)
		default:
		}
		if time.Now().After(limit) {
			t.Fatalf("redis-server does not listen: %v", err)
		}
	}
}

// A storeLab is what the program needs to be measured as a whole.
type storeLab struct {
	t      *testing.T
	binary string
	keys   string // file
	token  string
}

const labIssuer = "https://login.example.com/realms/main"

func newStoreLab(t *testing.T) *storeLab {
	t.Helper()
	l := &storeLab{t: t, binary: adaptertest.Build(t, "server", "./bootstrap/cmd/server"), keys: filepath.Join(t.TempDir(), "jwks.json")}
	key := oidctest.NewKey("key", "RS256", 0)
	issuer := &oidctest.Issuer{URL: labIssuer}
	issuer.Publish(key)
	if err := os.WriteFile(l.keys, issuer.KeySet(), 0o600); err != nil {
		t.Fatal(err)
	}
	l.token = key.Sign(nil, oidctest.Claims(labIssuer, time.Now()).With(oidctest.Object{"scope": "jobs:submit jobs:read"}))
	return l
}

// overHTTP is submitToDone by the server itself, on as many connections as there are producers, all with one token, which
// the server remembers.
func (l *storeLab) overHTTP() sample {
	t := l.t
	const count = 8_000
	pid, address, stop := serve(t, l.binary, "all", "DATA_DIR="+t.TempDir(), "LOG_LEVEL=error", "CONCURRENCY="+strconv.Itoa(loadWorkers),
		"OIDC_ISSUER="+labIssuer, "OIDC_AUDIENCE="+oidctest.Audience, "OIDC_JWKS_FILE="+l.keys)
	defer stop()
	body := `{"name":"` + loadName + `","payload":` + loadPayload + `}`
	request := fmt.Appendf(nil, "POST /jobs HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		address, l.token, len(body), body)
	var next atomic.Int64
	var producers sync.WaitGroup
	before, began := cpuOf(t, pid), time.Now()
	for range producerCount {
		producers.Go(func() {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for answers := bufio.NewReader(conn); next.Add(1) <= count; {
				_, err := conn.Write(request)
				if err == nil {
					err = created(answers)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	producers.Wait()
	for _, status := range []domain.Status{domain.Queued, domain.Running} {
		for limit := time.Now().Add(loadTimeout); l.any(address, status); time.Sleep(time.Millisecond) {
			if t.Failed() || time.Now().After(limit) {
				t.Fatalf("there are still jobs that are %s", status)
			}
		}
	}
	return jobsIn(time.Since(began), cpuOf(t, pid)-before, count)
}

// any asks whether there is a job of that status.
func (l *storeLab) any(address string, status domain.Status) bool {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/jobs?limit=1&status="+string(status), http.NoBody)
	if err != nil {
		l.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+l.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	defer response.Body.Close()
	var page struct {
		Jobs []json.RawMessage `json:"jobs"`
	}
	if err := json.NewDecoder(response.Body).Decode(&page); err != nil || response.StatusCode != http.StatusOK {
		l.t.Fatalf("status %d, %v", response.StatusCode, err)
	}
	return len(page.Jobs) > 0
}

// serve starts a server in a role, and returns its address once it listens.
func serve(t *testing.T, binary, role string, env ...string) (pid int, address string, stop func()) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary, "-role="+role)
	cmd.Env = append([]string{"LISTEN_ADDR=127.0.0.1:0"}, env...)
	program := adaptertest.Start(t, cmd)
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		stdout, stderr := program.Output()
		if m := servesAt.FindStringSubmatch(stdout); m != nil {
			return program.PID(), m[1], program.Kill
		}
		if time.Now().After(limit) {
			t.Fatalf("the server does not listen:\n%s%s", stdout, stderr)
		}
	}
}
