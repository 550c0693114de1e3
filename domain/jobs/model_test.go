package jobs_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// The model runs the real use cases, several processes of each, against a store and a broker that misbehave in every
// way they are allowed to, in virtual time: calls are slow, fail before or after they took effect, messages are
// duplicated, delayed and lost, processes are killed between any two calls and told to stop in mid-run, machines sleep,
// handlers fail, panic, hang and ignore their context. Then the trouble ends, and nothing may be lost, stuck or settled
// twice, nor claimed for nothing.

var modelSeeds = flag.Int("model.seeds", 40, "how many worlds TestModel searches, each in every way of dispatching")

// A way is how jobs come to the workers of a world.
type way string

const (
	broker        way = "broker"
	storeQueue    way = "store is queue"
	claimingQueue way = "store is queue, and jobs are claimed as they are taken"
)

func TestModel(t *testing.T) {
	t.Parallel()
	for _, way := range []way{broker, storeQueue, claimingQueue} {
		for seed := range *modelSeeds {
			t.Run(fmt.Sprintf("%s, seed %d", way, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { newWorld(t, uint64(seed), way).run() })
			})
		}
	}
}

const (
	troubleLasts = 10 * time.Minute
	calmLasts    = 2 * time.Hour // attempts, backoff and doubling checks all fit
	modelWorkers = 3
	visibility   = time.Minute
	modelPoll    = 3 * time.Second
)

var modelPolicy = domain.RetryPolicies{{Jobs: "*", Policy: domain.RetryPolicy{
	Attempts: 4, Base: time.Second, Max: time.Minute, Timeout: 20 * time.Second,
}}}

type world struct {
	t            *testing.T
	way          way
	storeIsQueue bool
	store        *memory.Store
	clock        sync.Mutex // of slept

	mu        sync.Mutex
	rng       *rand.Rand
	calm      bool
	accepted  map[string]bool          // jobs whose submission was answered with success
	starts    map[string]map[int]bool  // attempts begun, by job
	live      map[string]*process      // who runs a job now, as far as anybody obeys
	excuses   map[string]int           // reasons for a job to be started once more
	claims    map[string]int           // starts that claims have counted
	claimants map[string]*process      // who holds the lease
	mishaps   map[string]int           // reasons for a claim that no run followed
	slept     time.Duration            // how long the machine of all processes has slept
	settled   map[string]domain.Status // jobs that ended, until they are redriven
	confirmed map[string]bool          // jobs that the broker has confirmed
	queue     []*message               // of the broker
	deaths    int
}

type message struct {
	job     string
	visible time.Time
	gone    bool
}

func newWorld(t *testing.T, seed uint64, way way) *world {
	w := &world{
		t: t, way: way, storeIsQueue: way != broker, rng: rand.New(rand.NewPCG(seed, 42)),
		accepted: map[string]bool{}, starts: map[string]map[int]bool{}, live: map[string]*process{}, excuses: map[string]int{},
		claims: map[string]int{}, claimants: map[string]*process{}, mishaps: map[string]int{},
		settled: map[string]domain.Status{}, confirmed: map[string]bool{},
	}
	w.store = memory.NewStore(w.now)
	return w
}

// A process is one life of an API server, a worker or a sweeper.
type process struct {
	*world
	ctx  context.Context // ends when it is killed: nothing it does after that has an effect
	kill context.CancelFunc
	stop context.CancelFunc // tells it to end; nil for an API process

	// Under the world's lock.
	delivered map[string]int // deliveries under way, by job
}

func (w *world) newProcess() *process {
	ctx, kill := context.WithCancel(w.t.Context())
	return &process{world: w, ctx: ctx, kill: kill, delivered: map[string]int{}}
}

func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.Float64() < p
}

// trouble is chance while there is trouble at all.
func (w *world) trouble(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.calm && w.rng.Float64() < p
}

func (w *world) random(most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rng.Int64N(int64(most))) + time.Microsecond
}

func (w *world) excuse(job string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.excuses[job]++
}

// mishap is a call about a job that came to nothing, or whose caller thinks so.
func (w *world) mishap(job string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mishapLocked(job)
}

func (w *world) mishapLocked(job string) {
	w.excuses[job]++
	w.mishaps[job]++
}

func nap(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (w *world) run() {
	ctx, end := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	for range modelWorkers {
		wg.Go(func() { w.livesOf(ctx, (*process).work) })
	}
	if !w.storeIsQueue {
		for range 2 {
			wg.Go(func() { w.livesOf(ctx, (*process).sweep) })
		}
	}
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() { w.client(ctx, i) })
	}
	nap(ctx, troubleLasts)
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	clients.Wait()
	nap(ctx, calmLasts)
	w.check(ctx)
	end()
	wg.Wait()
}

// livesOf runs a role, killed and started again for as long as there is trouble.
func (w *world) livesOf(ctx context.Context, role func(*process, context.Context)) {
	for ctx.Err() == nil {
		p := w.newProcess()
		stopping, stop := context.WithCancel(ctx)
		p.stop = stop
		var fate sync.WaitGroup
		fate.Go(func() {
			for stopping.Err() == nil {
				nap(stopping, w.random(2*time.Minute))
				switch {
				case stopping.Err() != nil:
				case w.trouble(0.5):
					p.die()
					stop()
				case w.trouble(0.4):
					stop()
				case w.trouble(0.6):
					w.sleep(w.random(5 * time.Minute))
				}
			}
		})
		role(p, stopping)
		stop()
		fate.Wait()
		p.kill()
	}
}

// die ends the process at once: what it ran is excused, and runs no more as far as the world can tell.
func (p *process) die() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaths++
	for job, by := range p.live {
		if by == p {
			p.excuses[job]++
			delete(p.live, job)
		}
	}
	for job, by := range p.claimants {
		if by == p {
			p.mishaps[job]++
		}
	}
	p.kill()
}

// now is the time of the one machine that all processes are on. Timers stand still while it sleeps.
func (w *world) now() time.Time {
	w.clock.Lock()
	defer w.clock.Unlock()
	return time.Now().Add(w.slept)
}

// sleep has the machine sleep: when it wakes, what one process runs may be another's.
func (w *world) sleep(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock.Lock()
	defer w.clock.Unlock()
	w.slept += d
	for job := range w.live {
		w.excuses[job]++
	}
	clear(w.live)
}

// The process as its own store, its calls slow and unreliable.

var errFault = domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "the store did not answer")

// call makes one call of the store or the broker: it may fail before it took effect, or after. job is excused either
// way. A dead process has no effect.
func (p *process) call(ctx context.Context, job string, effect func() error) error {
	nap(ctx, p.random(300*time.Millisecond))
	if p.trouble(0.05) {
		p.mishap(job)
		return errFault
	}
	if p.trouble(0.02) { // an outage as long as any bound
		p.mishap(job)
		nap(ctx, p.random(40*time.Second))
		return errFault
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || ctx.Err() != nil {
		p.mishapLocked(job)
		return errFault
	}
	err := effect()
	if !p.calm && p.rng.Float64() < 0.05 {
		p.mishapLocked(job)
		return errFault
	}
	return err
}

func (p *process) Create(ctx context.Context, job domain.Job) (stored domain.Job, created bool, err error) {
	err = p.call(ctx, job.ID, func() (err error) {
		stored, created, err = p.store.Create(ctx, job)
		return err
	})
	return stored, created, err
}

func (p *process) Get(ctx context.Context, id string) (job domain.Job, err error) {
	err = p.call(ctx, id, func() (err error) {
		job, err = p.store.Get(ctx, id)
		return err
	})
	return job, err
}

// Update watches each step of a job.
func (p *process) Update(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (job domain.Job, err error) {
	err = p.call(ctx, id, func() (err error) {
		job, err = p.store.Update(ctx, id, func(before domain.Job) (domain.Job, error) {
			after, err := decide(before)
			if err == nil {
				p.watch(before, after)
			}
			return after, err
		})
		return err
	})
	return job, err
}

func (p *process) watch(before, after domain.Job) {
	if before.Status != after.Status && !before.Status.CanBecome(after.Status) {
		p.t.Errorf("job %s went from %s to %s", before.ID, before.Status, after.Status)
	}
	ended, twice := p.settled[before.ID]
	switch {
	case after.Status.Finished() && before.Status.Finished():
	case after.Status.Finished() && twice:
		p.t.Errorf("job %s was settled %s and again %s", before.ID, ended, after.Status)
	case after.Status.Finished():
		p.settled[before.ID] = after.Status
	case before.Status.Finished(): // redriven
		delete(p.settled, before.ID)
		p.excuses[before.ID]++
	}
	if after.Starts > before.Starts && before.Status == domain.Running {
		p.excuses[before.ID]++ // its worker was lost
	}
	p.claims[before.ID] += after.Starts - before.Starts
	switch {
	case after.Status != domain.Running:
		delete(p.claimants, before.ID)
	case after.Lease.Token != before.Lease.Token:
		p.claimants[before.ID] = p
	}
}

func (p *process) List(ctx context.Context, query ports.JobQuery) (ports.JobPage, error) {
	return p.store.List(ctx, query)
}

func (p *process) Take(ctx context.Context, limit int, step ports.Step) (taken []domain.Job, err error) {
	err = p.call(ctx, "", func() (err error) {
		rolledBack := !p.calm && p.rng.Float64() < 0.1
		taken, err = p.store.Take(ctx, limit, func(before domain.Job, now time.Time) domain.Job {
			if rolledBack {
				_ = step(before, now)
				return before
			}
			after := step(before, now)
			p.watch(before, after)
			if before.Status == domain.Running && after.Lease != before.Lease && p.delivered[before.ID] > 0 {
				p.t.Errorf("job %s is taken from a run of the very process that takes it", before.ID)
			}
			return after
		})
		if rolledBack {
			return errFault
		}
		return err
	})
	if err == nil {
		switch {
		case len(taken) == 0:
		case p.trouble(0.1):
			p.stop()
		case p.trouble(0.12):
			p.die()
			p.stop()
		}
		nap(ctx, p.random(300*time.Millisecond)) // the answer is under way
	}
	if err == nil && ctx.Err() != nil && p.chance(0.5) {
		err = errFault
	}
	if err != nil {
		taken = nil // taken, and its taker never learnt it
	}
	return taken, err
}

func (p *process) Expire(context.Context, int) (int, error) { return 0, nil }

// The process as the broker's client.

func (p *process) Fits(domain.Job) error { return nil }

func (p *process) Dispatch(ctx context.Context, job domain.Job) error {
	return p.call(ctx, job.ID, func() error {
		p.confirmed[job.ID] = true
		copies := 1
		switch roll := p.rng.Float64(); {
		case p.calm:
		case roll < 0.1:
			copies = 2
		case roll < 0.13:
			copies = 0 // confirmed, and lost all the same: more than a broker may do
		}
		for range copies {
			p.queue = append(p.queue, &message{job: job.ID, visible: time.Now().Add(time.Duration(p.rng.Int64N(int64(5 * time.Second))))})
		}
		return nil
	})
}

// Consume is the broker's way to a worker: at least once, with a visibility timeout.
func (p *process) Consume(ctx context.Context, deliver ports.Deliver) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, 2)
	for ctx.Err() == nil {
		m := p.receive()
		if m == nil {
			nap(ctx, modelPoll)
			continue
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			d := deliver(ctx, domain.Delivery{JobID: m.job, MessageID: "m", SentAt: time.Now()})
			p.mu.Lock()
			defer p.mu.Unlock()
			switch {
			case p.ctx.Err() != nil:
			case d.Verdict == domain.Ack:
				m.gone = true
			case d.Verdict == domain.DeadLetter:
				p.t.Errorf("job %s was dead-lettered: %s", m.job, d.Reason)
			default:
				m.visible = time.Now().Add(max(d.After, time.Second))
			}
		})
	}
	return nil
}

func (p *process) receive() *message {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.queue {
		if !m.gone && !time.Now().Before(m.visible) && p.ctx.Err() == nil {
			m.visible = time.Now().Add(visibility)
			return m
		}
	}
	return nil
}

// The roles.

func (p *process) work(stop context.Context) {
	worker := &jobs.Worker{
		Store: p, Handler: jobs.HandlerFunc(p.handle), Retries: modelPolicy, Retention: domain.DefaultRetention, Name: "worker",
		Now: p.now, NewToken: uuid.NewString, Random: func() float64 { return 0.5 },
	}
	var consumer ports.JobConsumer = p
	if p.storeIsQueue {
		queue := jobs.NewQueue(p, p.now, 2, modelPoll)
		if p.way == claimingQueue {
			queue.Claim = worker.Claim
		}
		consumer = queue
	}
	// The runs are interrupted a while after the stop, and at once by death.
	runs, interrupt := context.WithCancel(p.ctx)
	defer interrupt()
	context.AfterFunc(stop, func() {
		nap(p.ctx, 5*time.Second)
		interrupt()
	})
	if err := consumer.Consume(stop, func(_ context.Context, d domain.Delivery) domain.Disposition {
		p.delivering(d.JobID, 1)
		defer p.delivering(d.JobID, -1)
		return worker.Deliver(runs, d)
	}); err != nil {
		p.t.Errorf("Consume: %v", err)
	}
}

func (p *process) delivering(job string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delivered[job] += n
}

func (p *process) sweep(stop context.Context) {
	sweep := jobs.Sweep{Schedule: p, Dispatcher: p}
	sweep.Run(stop, modelPoll, func(jobs.Swept, error) {})
}

var errHandler = errors.New("the handler failed")

// handle is the worker's code, which does what such code does.
func (p *process) handle(ctx context.Context, run jobs.Run) ([]byte, error) {
	id := run.Job.ID
	p.mu.Lock()
	switch begun := p.starts[id]; {
	case p.ctx.Err() != nil: // the claim was the last thing it did
		p.mu.Unlock()
		return nil, ctx.Err()
	case begun == nil:
		p.starts[id] = map[int]bool{run.Attempt: true}
	case begun[run.Attempt]:
		p.t.Errorf("job %s: two starts have the number %d", id, run.Attempt)
	default:
		begun[run.Attempt] = true
	}
	if !p.now().Before(run.Job.Lease.Until) { // the machine slept in between, and the job may be another's
		p.excuses[id]++
	} else {
		if status, done := p.settled[id]; done {
			p.t.Errorf("job %s is run after it was %s", id, status)
		}
		if p.live[id] != nil {
			p.t.Errorf("job %s is run while another worker runs it", id)
		}
		p.live[id] = p
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.live[id] == p {
			delete(p.live, id)
		}
	}()

	switch {
	case p.trouble(0.05): // hangs past its context, and past being waited for
		p.mu.Lock()
		delete(p.live, id)
		p.mu.Unlock()
		p.excuse(id)
		nap(context.WithoutCancel(ctx), 2*time.Minute)
	case p.trouble(0.2):
		nap(ctx, p.random(40*time.Second))
	default:
		nap(ctx, p.random(5*time.Second))
	}
	if p.chance(0.3) {
		_ = run.Progress(ctx, 50, "half-way") // what it says is not this test's business
	}
	switch {
	case ctx.Err() != nil:
		p.excuse(id)
		return nil, ctx.Err()
	case p.trouble(0.15):
		p.excuse(id)
		return nil, errHandler
	case p.trouble(0.05):
		return nil, domain.Permanent(errHandler)
	case p.trouble(0.06):
		p.excuse(id)
		panic("a bug in a handler")
	}
	return []byte(`{"done":true}`), nil
}

// client submits, cancels and redrives jobs through API processes that die under it.
func (w *world) client(ctx context.Context, i int) {
	who := domain.Principal{Identity: domain.Identity{Issuer: "https://issuer.example", Subject: fmt.Sprint("client ", i)}, Scopes: []string{"jobs:admin"}}
	for n := range 4 {
		nap(ctx, w.random(time.Minute))
		sub := jobs.Submission{Name: "test-job"}
		if w.chance(0.5) {
			sub.IdempotencyKey = fmt.Sprint("key-", n)
		}
		if w.chance(0.3) {
			sub.Delay = w.random(2 * time.Minute)
		}
		var job domain.Job
		for {
			var err error
			w.api(func(p *process) {
				submit := jobs.Submit{
					Store: p, Dispatcher: p.dispatcher(), Policy: domain.DefaultPolicy(), Retries: modelPolicy, Retention: domain.DefaultRetention,
					Now: w.now, NewID: uuid.NewString, StoreIsQueue: w.storeIsQueue,
				}
				call, cancel := context.WithTimeout(p.ctx, 30*time.Second)
				defer cancel()
				job, _, err = submit.Do(call, who, sub)
				if err == nil && p.ctx.Err() == nil {
					w.accept(job, sub)
				}
			})
			if err == nil || sub.IdempotencyKey == "" && w.chance(0.5) {
				break
			}
			nap(ctx, time.Second)
		}
		if job.ID == "" || !w.chance(0.3) {
			continue
		}
		nap(ctx, w.random(time.Minute))
		w.api(func(p *process) {
			change := jobs.Change{Store: p, Dispatcher: p.dispatcher(), Policy: domain.DefaultPolicy(), Now: w.now, StoreIsQueue: w.storeIsQueue}
			call, cancel := context.WithTimeout(p.ctx, 30*time.Second)
			defer cancel()
			if _, err := change.Cancel(call, who, job.ID); err != nil && w.chance(0.5) {
				return
			}
			nap(call, w.random(20*time.Second))
			_, _ = change.Redrive(call, who, job.ID) // a refusal is as good: the invariants hold either way
		})
	}
}

// accept is a client's seeing that its job was accepted: from now on it is owed an end.
func (w *world) accept(job domain.Job, sub jobs.Submission) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepted[job.ID] = true
	if sub.Delay == 0 && !w.storeIsQueue && !w.confirmed[job.ID] {
		w.t.Errorf("job %s was accepted before the broker confirmed it", job.ID)
	}
}

// api runs one request in an API process that may be killed in the middle.
func (w *world) api(request func(*process)) {
	p := w.newProcess()
	defer p.kill()
	if w.trouble(0.2) {
		timer := time.AfterFunc(w.random(2*time.Second), p.die)
		defer timer.Stop()
	}
	request(p)
}

func (p *process) dispatcher() ports.JobDispatcher {
	if p.storeIsQueue {
		return jobs.NewQueue(p, p.now, 1, time.Second)
	}
	return p
}

// check looks at what is left once the trouble is long over.
func (w *world) check(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	page, err := w.store.List(ctx, ports.JobQuery{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	missing := maps.Clone(w.accepted)
	for _, job := range page.Jobs {
		delete(missing, job.ID)
		if !job.Status.Finished() {
			w.t.Errorf("job %s is stuck: %+v", job.ID, job)
		}
		if w.accepted[job.ID] && job.Reason == domain.ReasonDispatchFailed {
			w.t.Errorf("job %s was accepted, and then cancelled because its dispatch failed", job.ID)
		}
		if n, most := len(w.starts[job.ID]), 1+w.excuses[job.ID]; n > most {
			w.t.Errorf("job %s was started %d times, with %d reasons for a start", job.ID, n, most)
		}
		if idle := w.claims[job.ID] - len(w.starts[job.ID]); idle > w.mishaps[job.ID] {
			w.t.Errorf("job %s was claimed %d times for no run, with %d mishaps", job.ID, idle, w.mishaps[job.ID])
		}
		if job.Status == domain.Succeeded && len(w.starts[job.ID]) == 0 {
			w.t.Errorf("job %s succeeded and was never run", job.ID)
		}
	}
	for id := range missing {
		w.t.Errorf("job %s was accepted and is lost", id)
	}
	for _, m := range w.queue {
		if !m.gone {
			w.t.Errorf("a message about job %s is never done with", m.job)
		}
	}
	if len(w.accepted) == 0 || w.deaths == 0 {
		w.t.Errorf("a world of %d accepted jobs and %d deaths proves nothing", len(w.accepted), w.deaths)
	}
}
