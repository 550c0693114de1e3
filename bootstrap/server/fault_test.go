//go:build linux

package server_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/adaptertest"
)

var (
	soak     = flag.Bool("soak", false, "the long form of TestFaults: 20 faults of each kind, and pauses of 20 s; takes half an hour")
	soakSeed = flag.Uint64("soak.seed", 0, "what the moments of TestFaults' faults are drawn from; 0: anything")
)

const (
	// clientCount is how many clients submit at once, each a job after the other.
	clientCount = 8
	// recoveryBound is how long after the end of a fault everything is done.
	recoveryBound = 120 * time.Second
	// maxGrowth is what the memory of a process may grow to in a fault, as a multiple.
	maxGrowth = 2
)

// A fault is what a round is about. undo ends it and returns when it is over: what was killed answers again.
type fault struct {
	name string
	do   func()
	hold func(*round) // how long; nil: up to a second
	undo func()
	long bool // happens in the long form only
}

func inLongForm(f fault) fault {
	f.long = true
	return f
}

// A deployment is a cluster and the faults that are to happen to it.
type deployment struct {
	name   string
	deploy func(*testing.T, *cluster) []fault
}

var deployments = []deployment{
	{"RabbitMQ and PostgreSQL, processes", func(t *testing.T, c *cluster) []fault {
		t.Helper()
		broker, store := adaptertest.RabbitMQ(t), adaptertest.Postgres(t)
		api, worker := withBroker(t, c, broker, store)
		return []fault{c.kill(api), c.kill(worker)}
	}},
	{"RabbitMQ and PostgreSQL, servers", func(t *testing.T, c *cluster) []fault {
		t.Helper()
		broker, store := adaptertest.RabbitMQ(t), adaptertest.Postgres(t)
		withBroker(t, c, broker, store)
		return []fault{
			{name: "kill -9 of RabbitMQ", do: broker.Kill, undo: broker.Restart},
			{name: "kill -9 of PostgreSQL", do: store.Kill, undo: store.Restart},
			{name: "RabbitMQ paused", do: broker.Pause, hold: pause, undo: broker.Continue},
			inLongForm(fault{name: "PostgreSQL paused", do: store.Pause, hold: pause, undo: store.Continue}),
		}
	}},
	{"PostgreSQL as store and queue", func(t *testing.T, c *cluster) []fault {
		t.Helper()
		store := adaptertest.Postgres(t)
		url := store.Database(t)
		api, worker := c.add("api", "STORE_URL="+url), c.add("worker", "STORE_URL="+url)
		return []fault{inLongForm(c.kill(api)), c.kill(worker), {name: "kill -9 of PostgreSQL", do: store.Kill, undo: store.Restart}}
	}},
	{"SQLite as store and queue", func(t *testing.T, c *cluster) []fault {
		t.Helper()
		return []fault{c.kill(c.add("all", "DATA_DIR="+t.TempDir()))}
	}},
	{"SQLite on a small disk", func(t *testing.T, c *cluster) []fault {
		t.Helper()
		dir := t.TempDir()
		all := c.add("all", "DATA_DIR="+dir, tmpfsEnv+"="+dir)
		all.attr = tmpfsAttr(t)
		return []fault{{
			name: "disk full",
			do:   func() { fillDisk(t, all.path(dir)) },
			hold: func(r *round) {
				r.load.wait("each client is refused", func(done tally) bool { return done.refused >= 3 })
				r.anyTime()
				if status := all.ready(); status != http.StatusServiceUnavailable {
					t.Errorf("GET /readyz with a full disk: %d, want 503", status)
				}
			},
			undo: func() { emptyDisk(t, all.path(dir)) },
		}}
	}},
}

// withBroker adds an API and a worker, which are not prepared before their queues outlive a kill of the broker.
func withBroker(t *testing.T, c *cluster, broker *adaptertest.RabbitMQServer, store *adaptertest.PostgresServer) (api, worker *node) {
	t.Helper()
	url := store.Database(t)
	api = c.add("api", "STORE_URL="+url, "BROKER_URL="+broker.URL)
	worker = c.add("worker", "STORE_URL="+url, "BROKER_URL="+broker.URL)
	c.prepared = func() {
		for _, queue := range []string{"jobgate.jobs", "jobgate.jobs.wait", "jobgate.jobs.dead"} {
			broker.AwaitDurable(queue)
		}
	}
	return api, worker
}

// pause is long enough for the program to notice: it gives a message 5 s to be confirmed, and, which the long form is for,
// the broker 15 s to say anything on a connection.
func pause(*round) {
	if *soak {
		time.Sleep(20 * time.Second)
	} else {
		time.Sleep(6 * time.Second)
	}
}

// TestFaults has clients submit jobs while one thing or another breaks. After each fault
//
//   - each job that was answered 2xx ends succeeded;
//   - a key that was refused is, sent again, the one job of its key;
//   - no job was started more often than once and once for each fault that it lived through, which is the one of its
//     round for those that were not yet done when it began and were submitted before it was over;
//   - all is done within two minutes of the recovery;
//   - no process has more than twice the memory that one of its role had before the first fault. Both are read when all is
//     done after some seconds of the same load, so that neither has a start or a peak in it; and the first value and not
//     the last is compared with, so that what leaks a little in each fault is found.
//
// A client is refused by a 503 that says when to try again. Only while an API is being killed may it get no answer.
func TestFaults(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes a minute or two")
	}
	seed, times := *soakSeed, 1
	if seed == 0 {
		seed = rand.Uint64()
	}
	if *soak {
		times = 20
	}
	t.Logf("the seed is %d", seed)
	// All at once, and not as many as there are processors: most of the time they wait for a lease to run out.
	var running sync.WaitGroup
	defer running.Wait()
	for n, d := range deployments {
		running.Go(func() {
			t.Run(d.name, func(t *testing.T) {
				c := newCluster(t, d.name, rand.New(rand.NewPCG(seed, uint64(n))))
				c.rounds(slices.DeleteFunc(d.deploy(t, c), func(f fault) bool { return f.long && !*soak }), times)
			})
		})
	}
}

// rounds has each fault happen that often, in any order.
func (c *cluster) rounds(faults []fault, times int) {
	c.t.Helper()
	c.start()
	c.round(fault{name: "warm-up", do: func() {}, hold: func(r *round) {
		r.load.wait("each client is served", func(done tally) bool { return done.accepted >= 30 })
	}, undo: func() {}})
	c.base = c.rss()
	sequence := slices.Repeat(faults, times)
	c.random.Shuffle(len(sequence), func(i, j int) { sequence[i], sequence[j] = sequence[j], sequence[i] })
	happened := map[string]int{}
	for _, f := range sequence {
		happened[f.name]++
		f.name = fmt.Sprintf("%s %d/%d", f.name, happened[f.name], times)
		c.round(f)
	}
	c.wantNothingElse()
}

// A round is one fault, and the jobs that are submitted before, in and after it.
type round struct {
	*cluster
	load         *load
	began, ended time.Time // of the fault
}

func (c *cluster) round(f fault) {
	c.t.Helper()
	r := &round{cluster: c, load: c.newLoad()}
	r.load.start()
	defer r.load.abort()
	r.load.wait("each client is served", func(done tally) bool { return done.accepted >= 2 })
	r.anyTime()
	r.began = time.Now()
	f.do()
	if r.load.mark(); f.hold != nil {
		f.hold(r)
	} else {
		r.anyTime()
	}
	f.undo()
	r.ended = time.Now()
	r.load.mark()
	r.load.wait("each client is served again", func(done tally) bool { return done.accepted >= 3 })
	r.load.stop(r.ended.Add(recoveryBound))
	r.awaitAll()
	took := time.Since(r.ended)
	if took > recoveryBound {
		c.t.Errorf("%s: all was done only %v after it", f.name, took)
	}
	again, most := r.checkStarts()
	c.t.Logf("%s: %s: %d jobs accepted, %d requests refused, %d unanswered, %d keys replayed, %d jobs started again, at most %d starts, all done after %.1f s, RSS %s",
		c.name, f.name, len(r.load.jobs), r.load.refused, r.load.unanswered, r.load.replayed, again, most, took.Seconds(), r.checkRSS())
	if c.t.Failed() {
		c.t.FailNow() // the next round would suffer from what went wrong
	}
}

// anyTime waits for up to a second.
func (r *round) anyTime() { time.Sleep(time.Duration(r.random.Int64N(int64(time.Second)))) }

// awaitAll waits until all jobs that were accepted have succeeded.
func (r *round) awaitAll() {
	r.t.Helper()
	open := slices.Clone(r.load.jobs)
	for ; ; time.Sleep(50 * time.Millisecond) {
		var last document
		open = slices.DeleteFunc(open, func(j *job) bool {
			found, ok := r.get(j.id)
			if !ok {
				return false
			}
			switch last = found; found.Status {
			case "queued", "running":
				return false
			case "succeeded":
			default:
				r.t.Fatalf("job %s ended as %s: %+v", j.id, found.Status, found)
			}
			if found.Payload.Key != j.key {
				r.t.Fatalf("job %s of the key %s has the payload of %s", j.id, j.key, found.Payload.Key)
			}
			j.finished = found.FinishedAt
			return true
		})
		if len(open) == 0 {
			return
		}
		if time.Since(r.ended) > recoveryBound {
			r.t.Fatalf("%d of %d jobs are not done %v after the fault (%v to %v), such as %+v", len(open), len(r.load.jobs), recoveryBound, r.began, r.ended, last)
		}
	}
}

// checkStarts returns how many jobs were started more than once, and the most starts of any.
func (r *round) checkStarts() (again, most int) {
	r.t.Helper()
	all := r.starts()
	for _, j := range r.load.jobs {
		starts, allowed := all[j.key], 1
		// Jobs keep times in whole milliseconds, cut off.
		if j.submitted.Before(r.ended) && j.finished.Add(time.Millisecond).After(r.began) {
			allowed++
		}
		if len(starts) < 1 || len(starts) > allowed {
			r.t.Errorf("job %s was started %d times, want 1 to %d; it was submitted at %v and done at %v, the fault was from %v to %v",
				j.id, len(starts), allowed, j.submitted, j.finished, r.began, r.ended)
		}
		attempts := map[string]bool{}
		for _, s := range starts {
			if s.id != j.id {
				r.t.Errorf("the key %s is job %s and was started as job %s", j.key, j.id, s.id)
			}
			if attempts[s.attempt] {
				r.t.Errorf("attempt %s of job %s was started twice", s.attempt, j.id)
			}
			attempts[s.attempt] = true
		}
		if len(starts) > 1 {
			again++
		}
		most = max(most, len(starts))
		r.done[j.key] = len(starts)
	}
	return again, most
}

// A start is one of a handler.
type start struct{ id, attempt string }

// starts returns what the handlers have recorded, by key.
func (c *cluster) starts() map[string][]start {
	c.t.Helper()
	data, err := os.ReadFile(c.startsFile)
	if err != nil {
		c.t.Fatal(err)
	}
	all := map[string][]start{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			c.t.Fatalf("a start was recorded as %q", line)
		}
		all[fields[0]] = append(all[fields[0]], start{fields[1], fields[2]})
	}
	return all
}

// wantNothingElse fails the test when there are other jobs than those of the rounds, or a job was started after its round.
func (c *cluster) wantNothingElse() {
	c.t.Helper()
	if all := c.starts(); !maps.EqualFunc(all, c.done, func(starts []start, n int) bool { return len(starts) == n }) {
		for key, starts := range all {
			if len(starts) != c.done[key] {
				c.t.Errorf("the job of key %s was started %d times, %d of them when it was not yet done", key, len(starts), c.done[key])
			}
		}
	}
	listed := 0
	for path := "/jobs?limit=100"; path != ""; {
		var page struct {
			Jobs []document
			Next string `json:"next_cursor"`
		}
		if status := c.call(path, &page); status != http.StatusOK {
			c.t.Fatalf("GET %s: %d", path, status)
		}
		for _, found := range page.Jobs {
			if listed++; found.Status != "succeeded" {
				c.t.Errorf("nobody was told of job %s, which is %s", found.ID, found.Status)
			}
		}
		if path = ""; page.Next != "" {
			path = "/jobs?limit=100&cursor=" + page.Next
		}
	}
	if listed != len(c.done) {
		c.t.Errorf("%d keys have come to %d jobs", len(c.done), listed)
	}
}

// rss returns the resident memory of each process, by role, in bytes.
func (c *cluster) rss() map[string]int {
	c.t.Helper()
	all := map[string]int{}
	for _, n := range c.nodes {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.program.PID()))
		if err != nil {
			c.t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(status), "VmRSS:")
		kib, err := strconv.Atoi(strings.Fields(after + " ?")[0])
		if err != nil {
			c.t.Fatalf("%v in\n%s", err, status)
		}
		all[n.role] = kib << 10
	}
	return all
}

// checkRSS returns the figures to be printed.
func (r *round) checkRSS() string {
	r.t.Helper()
	if r.base == nil {
		return "not yet compared"
	}
	var figures []string
	now := r.rss()
	for _, role := range slices.Sorted(maps.Keys(now)) {
		if now[role] > maxGrowth*r.base[role] {
			r.t.Errorf("the RSS of %s is %d bytes, and was %d before", role, now[role], r.base[role])
		}
		figures = append(figures, fmt.Sprintf("of %s %.1f MiB then and %.1f now", role, mib(r.base[role]), mib(now[role])))
	}
	return strings.Join(figures, ", ")
}

func mib(bytes int) float64 { return float64(bytes) / (1 << 20) }
