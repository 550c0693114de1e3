package deployments_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// passBound is how many jobs one pass of the due loop hands out at most, as it does.
func passBound(t *testing.T) int {
	t.Helper()
	store := memory.NewStore(func() time.Time { return epoch })
	const due = 3000
	for n := range due {
		if _, _, err := store.Create(t.Context(), domain.Job{ID: jobID(n), Status: domain.Queued, DueAt: epoch, CheckAt: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	swept, err := (&jobs.Sweep{Schedule: store, Dispatcher: &dispatched{}}).Pass(t.Context())
	if err != nil || swept.Dispatched == 0 || swept.Dispatched == due {
		t.Fatalf("a pass with %d jobs due: %+v, %v", due, swept, err)
	}
	return swept.Dispatched
}

// keeps are the bounds within which the worker function keeps the message of a job that is to be retried, as it does: the
// longest wait in whole minutes, and the last receive.
func keeps(t *testing.T) (wait time.Duration, receives int) {
	t.Helper()
	kept := func(wait time.Duration, receives int) bool {
		kept := false
		worker := lambdaevents.Worker{
			Deliver: func(context.Context, domain.Delivery) (domain.Disposition, domain.Job) {
				return domain.Disposition{Verdict: domain.Ack}, domain.Job{Status: domain.Queued, DueAt: time.Now().Add(wait)}
			},
			Postpone: func(context.Context, string, string, time.Duration) (bool, error) {
				kept = true
				return true, nil
			},
		}
		event := fmt.Sprintf(`{"Records":[{"messageId":"m","receiptHandle":"r","body":"{\"name\":\"x\"}","attributes":{"ApproximateReceiveCount":"%d","SentTimestamp":"1545082649183"},`+
			`"messageAttributes":{},"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:us-east-1:123456789012:jobs","awsRegion":"us-east-1"}]}`, receives)
		if _, err := worker.Invoke(t.Context(), []byte(event)); err != nil {
			t.Fatal(err)
		}
		return kept
	}
	for wait = time.Minute; kept(wait+time.Minute, 1); {
		wait += time.Minute
	}
	for receives = 1; kept(time.Minute, receives+1); {
		receives++
	}
	return wait, receives
}

// fallback is the number that a variable of the module has where nobody gives another.
func fallback(t *testing.T, variable string) int {
	t.Helper()
	b := readConfiguration(t, moduleDir).find("variable." + variable)
	return number(t, attribute(b.Body, "default"))
}

func number(t *testing.T, e hclsyntax.Expression) int {
	t.Helper()
	value, err := evaluate(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(value.AsBigFloat().Text('f', 0))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A way is how jobs get to their workers, and come back.
type way struct {
	name string

	every    time.Duration // between two passes of the due loop
	pass     int           // jobs that one pass hands out
	slots    int           // jobs that run at once
	keep     time.Duration // longest wait that a message is hidden for in its queue; 0: none is
	receives int           // last receive at which it is
	inFlight int           // messages of the queue that may be received or hidden; 0: any number
}

// A storm is a dependency that is down for a while. The jobs that need it fail; a tenth of all needs something else, and
// would never fail.
type storm struct {
	way    way
	rate   int           // jobs a second
	fails  time.Duration // that a failing run takes
	down   time.Duration
	policy domain.RetryPolicy

	// scale is of how much smaller a system the storm is simulated: rate and bounds are divided by it, and what comes out is
	// multiplied.
	scale int
}

// damage is what a storm came to.
type damage struct {
	runs      int           // of failing jobs in the worst minute, a second
	sweeps    int           // jobs handed out by the due loop in the worst minute, a second
	behind    time.Duration // longest that a job was late for its pass of the due loop
	hidden    int           // messages in flight at most
	dead      float64       // share of the jobs submitted meanwhile
	bystander time.Duration // that 99 of 100 others waited, of those submitted while the dependency was down
	over      time.Duration // from its return until no job that it held up is left
}

const (
	tick     = 100 * time.Millisecond
	succeeds = 100 * time.Millisecond // a run that does
	horizon  = 4 * time.Hour          // from the beginning
)

// simJob is what the simulation keeps of a job between two steps of the domain's.
type simJob struct {
	due, check int64 // milliseconds from the epoch
	submitted  int64
	attempts   uint8
	checks     uint8
	status     domain.Status
	bystander  bool
	inOutage   bool
	started    bool
	fails      bool // its run does
	lease      int64
}

func at(ms int64) time.Time     { return epoch.Add(time.Duration(ms) * time.Millisecond) }
func since(t time.Time) int64   { return t.Sub(epoch).Milliseconds() }
func ticks(d time.Duration) int { return int((d + tick - 1) / tick) }

const leaseToken = "token"

// job is s as the domain knows it, for one step.
func (s *simJob) job(policy domain.RetryPolicy) domain.Job {
	j := domain.Job{
		Status: s.status, Retry: policy, Retention: domain.DefaultRetention, Attempts: int(s.attempts), Checks: int(s.checks),
		DueAt: at(s.due), CheckAt: at(s.check),
	}
	if s.status == domain.Running {
		j.Lease = domain.Lease{Token: leaseToken, Until: at(s.lease)}
	}
	return j
}

func (s *simJob) set(j domain.Job) {
	s.status, s.attempts, s.checks = j.Status, uint8(j.Attempts), uint8(min(j.Checks, 255))
	s.due, s.check = since(j.DueAt), since(j.CheckAt)
	if j.Status == domain.Running {
		s.lease = since(j.Lease.Until)
	}
}

// A simMessage is about a job, and was received so many times before.
// An agenda has jobs by the tick of their check.
type agenda struct {
	jobs   map[int][]int32
	oldest int // before which nothing is left
}

// plan has a job looked at when its check comes, and after now.
func (a *agenda) plan(id int32, all []simJob, now int) {
	at := max(now+1, ticks(time.Duration(all[id].check)*time.Millisecond))
	a.jobs[at] = append(a.jobs[at], id)
}

// next takes the job whose check came first, if one has come. One that has moved on since it was planned is passed over.
func (a *agenda) next(all []simJob, now int) (id int32, ok bool) {
	for a.oldest <= now {
		list := a.jobs[a.oldest]
		if len(list) == 0 {
			delete(a.jobs, a.oldest)
			a.oldest++
			continue
		}
		id, a.jobs[a.oldest] = list[0], list[1:]
		if sim := &all[id]; !sim.status.Finished() && ticks(time.Duration(sim.check)*time.Millisecond) <= a.oldest {
			return id, true
		}
	}
	return 0, false
}

type simMessage struct {
	job      int32
	receives uint8
}

// blow simulates the storm in steps of a tick. What becomes of a job is the domain's to say: the steps are those of
// domain.Job, with its back-off, jitter, leases and checks.
func (s storm) blow() damage {
	w := s.way
	w.pass, w.slots, w.inFlight = w.pass/s.scale, max(1, w.slots/s.scale), w.inFlight/s.scale
	random := rand.New(rand.NewPCG(7, uint64(s.rate)))
	var (
		all      []simJob
		queue    []simMessage
		head     int
		hidden   = map[int][]simMessage{} // by the tick at which they come back
		ends     = map[int][]simMessage{} // runs, by the tick at which they end
		checks   = agenda{jobs: map[int][]int32{}}
		flying   int // messages received or hidden
		running  int
		pending  int // jobs of the outage that are not finished
		minute   = ticks(time.Minute)
		runs     = map[int]int{} // by minute
		sweeps   = map[int]int{}
		waits    []int64
		died     int
		affected int
		d        damage
	)
	down := ticks(s.down)
	submitted := 0.0
	for now := range ticks(horizon) {
		ms := int64(now) * tick.Milliseconds()
		if now >= down && pending == 0 {
			d.over = time.Duration(now-down) * tick
			break
		}
		for submitted += float64(s.rate) / float64(s.scale) * tick.Seconds(); submitted >= 1; submitted-- {
			j := domain.Job{Status: domain.Queued, Retry: s.policy, DueAt: at(ms), CheckAt: at(ms)}.Taken(at(ms))
			sim := simJob{submitted: ms, bystander: len(all)%10 == 0, inOutage: now < down}
			sim.set(j)
			all = append(all, sim)
			id := int32(len(all) - 1)
			if sim.inOutage && !sim.bystander {
				pending++
				affected++
			}
			queue = append(queue, simMessage{job: id})
			checks.plan(id, all, now)
		}
		queue = append(queue, hidden[now]...)
		flying -= len(hidden[now])
		delete(hidden, now)

		for _, m := range ends[now] {
			running--
			sim := &all[m.job]
			outcome := domain.Outcome{}
			if sim.fails {
				outcome.Err = errDown
			}
			j, err := sim.job(s.policy).Settle(at(ms), leaseToken, outcome, random.Float64())
			if err != nil {
				flying-- // another's by now
				continue
			}
			sim.set(j)
			wait := j.DueAt.Sub(at(ms))
			switch {
			case j.Status.Finished():
				flying--
				if sim.inOutage && !sim.bystander {
					pending--
				}
				if j.Status == domain.Dead {
					died++
				}
				continue
			case w.keep > 0 && wait <= w.keep && int(m.receives)+1 <= w.receives:
				back := now + max(1, ticks(wait.Truncate(time.Second)+time.Second)) // SQS hides by whole seconds
				hidden[back] = append(hidden[back], simMessage{m.job, m.receives + 1})
			default:
				flying--
			}
			checks.plan(m.job, all, now)
		}
		delete(ends, now)

		if now%ticks(w.every) == 0 {
			for range w.pass {
				id, ok := checks.next(all, now)
				if !ok {
					break
				}
				sim := &all[id]
				d.behind = max(d.behind, time.Duration(ms-sim.check)*time.Millisecond)
				sim.set(sim.job(s.policy).Taken(at(ms)))
				checks.plan(id, all, now)
				queue = append(queue, simMessage{job: id})
				sweeps[now/minute]++
			}
		}

		for head < len(queue) && running < w.slots && (w.inFlight == 0 || flying < w.inFlight) {
			m := queue[head]
			head++
			sim := &all[m.job]
			j, err := sim.job(s.policy).Claim(at(ms), leaseToken, "")
			if err != nil || sim.status == domain.Running && sim.lease > ms {
				continue // finished, leased or not due: done with, in no time to speak of
			}
			sim.set(j)
			if j.Status != domain.Running {
				if sim.inOutage && !sim.bystander {
					pending--
				}
				continue
			}
			flying++
			running++
			takes := succeeds
			sim.fails = false
			if !sim.bystander && now < down {
				takes, sim.fails = s.fails, true
				runs[now/minute]++
			}
			if sim.bystander && !sim.started && sim.inOutage {
				waits = append(waits, ms-sim.submitted)
			}
			sim.started = true
			ends[now+ticks(takes)] = append(ends[now+ticks(takes)], m)
			checks.plan(m.job, all, now)
		}
		if head > 1<<16 {
			queue, head = slices.Clone(queue[head:]), 0
		}
		d.hidden = max(d.hidden, flying)
	}
	per := func(minutes map[int]int) int {
		most := 0
		for _, n := range minutes {
			most = max(most, n)
		}
		return most * s.scale / 60
	}
	d.runs, d.sweeps, d.hidden = per(runs), per(sweeps), d.hidden*s.scale
	d.dead = float64(died) / float64(max(1, affected))
	// Of those that never started while the storm lasted, all that is known is that they still wait.
	for i := range all {
		if sim := &all[i]; sim.bystander && sim.inOutage && !sim.started {
			waits = append(waits, s.down.Milliseconds()+d.over.Milliseconds()-sim.submitted)
		}
	}
	slices.Sort(waits)
	d.bystander = time.Duration(waits[len(waits)*99/100]) * time.Millisecond
	if pending > 0 {
		d.over = horizon
	}
	return d
}

// outlasts is the least that a job is tried for under a policy: its back-offs without any jitter on top.
func outlasts(p domain.RetryPolicy) time.Duration {
	total := time.Duration(0)
	for attempt := 1; attempt < p.Attempts; attempt++ {
		total += p.Delay(attempt, 0)
	}
	return total
}

func TestCapacityRetryStorm(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("one goroutine simulates")
	}
	pass := passBound(t)
	keep, receives := keeps(t)
	slots := fallback(t, "worker_maximum_concurrency") * fallback(t, "worker_batch_size")
	inFlight := int(quotas(t)["SQS messages in flight in a queue"])
	const hang = 30 * time.Second // the default run timeout
	patient := domain.DefaultRetryPolicy
	patient.Attempts = 14

	server := way{name: "server", every: time.Second, pass: pass, slots: slots}
	queue := way{name: "Lambda, sqs", every: time.Minute, pass: pass, slots: slots, keep: keep, receives: receives, inFlight: inFlight}
	topic := way{name: "Lambda, sns", every: time.Minute, pass: pass, slots: slots}
	large := func(w way) way { // for 1,000 jobs a second
		w.slots = 10_000
		return w
	}
	four := large(server)
	four.name, four.pass = "four servers", 4*pass
	short := large(queue)
	short.name, short.keep = "Lambda, sqs, kept 30 s", 30*time.Second
	proposed := short
	proposed.name, proposed.every, proposed.pass = "the same, due loop of 4,000/s", time.Second, 4000

	storms := map[string]*storm{
		"server":          {way: server, rate: 10},
		"server, patient": {way: server, rate: 10, policy: patient},
		"sqs":             {way: queue, rate: 10},
		"sqs, patient":    {way: queue, rate: 10, policy: patient},
		"sqs, hanging":    {way: queue, rate: 10, fails: hang},
		"sns":             {way: topic, rate: 10},
		"server, 1,000":   {way: large(server), rate: 1000},
		"four, 1,000":     {way: four, rate: 1000},
		"sqs, 1,000":      {way: large(queue), rate: 1000},
		"short, 1,000":    {way: short, rate: 1000},
		"proposed, 1,000": {way: proposed, rate: 1000},
	}
	order := []string{
		"server", "server, patient", "sqs", "sqs, patient", "sqs, hanging", "sns",
		"server, 1,000", "four, 1,000", "sqs, 1,000", "short, 1,000", "proposed, 1,000",
	}
	came := map[string]damage{}
	tb := table{{
		"way", "jobs/s", "a failing run", "attempts", "failing runs/s", "due loop/s", "late by", "in flight", "dead", "others wait, p99", "over after",
	}}
	for _, name := range order {
		s := storms[name]
		s.down, s.scale = 30*time.Minute, max(1, s.rate/10)
		if s.fails == 0 {
			s.fails = succeeds
		}
		if s.policy.Attempts == 0 {
			s.policy = domain.DefaultRetryPolicy
		}
		d := s.blow()
		came[name] = d
		flying, over := "–", span(d.over)
		if s.way.inFlight > 0 {
			flying = thousands(d.hidden)
		}
		if d.over >= horizon {
			over = "> " + span(horizon)
		}
		tb = append(tb, []string{
			s.way.name, thousands(s.rate), span(s.fails), fmt.Sprint(s.policy.Attempts), thousands(d.runs), thousands(d.sweeps), span(d.behind),
			flying, fmt.Sprintf("%.0f %%", 100*d.dead), span(d.bystander), over,
		})
	}
	shown(t, tb)

	// What the document says in words.
	kept := 3 * outlasts(domain.DefaultRetryPolicy) / 2 // with the jitter's mean
	says(t, map[string]bool{
		"**The due loop of Lambda hands out 16 jobs a second**, 1,000 in its pass each minute":   pass == 1000 && pass/60 == 16,
		"retried within 15 minutes by its message":                                               keep == 15*time.Minute,
		"100,000 jobs due in the same minute take it 100 minutes":                                100_000/pass == 100,
		"**By default a job is tried for 4 to 9 minutes**: 10 attempts":                          outlasts(domain.DefaultRetryPolicy) > 4*time.Minute && 2*outlasts(domain.DefaultRetryPolicy) < 9*time.Minute,
		"With `attempts = 14` it is tried for more than half an hour, and none dies":             outlasts(patient) > 30*time.Minute,
		"leaves three of four of the jobs that need it dead":                                     about(came["server"].dead, 0.75) && about(came["sqs"].dead, 0.75),
		"with 14 attempts none does":                                                             came["server, patient"].dead == 0 && came["sqs, patient"].dead == 0,
		"At 10 jobs a second a server and a queue hold up nobody":                                came["server"].bystander < time.Second && came["sqs"].bystander < time.Second,
		"which falls behind at 2 jobs a second that fail, and at 10 by a quarter of an hour":     pass/60/(domain.DefaultRetryPolicy.Attempts-1) < 2 && about(came["sns"].behind.Minutes(), 15),
		"Runs that hang until their timeout take all slots, and the others wait, for 25 minutes": about(came["sqs, hanging"].bystander.Minutes(), 25),
		"At 1,000 jobs a second the queue reaches its bound of messages in flight":               came["sqs, 1,000"].hidden >= inFlight*99/100,
		"each job has one for 6 minutes":                                                         about(kept.Minutes(), 6),
		"| 300 failing |":                                                                        about(float64(inFlight)/kept.Seconds(), 300),
		"everybody waits for minutes":                                                            came["sqs, 1,000"].bystander > 3*time.Minute,
		"Kept for 30 s at most the queue stays below its bound, and nobody waits":                came["short, 1,000"].hidden < inFlight/2 && came["short, 1,000"].bystander < time.Second,
		"the due loop as it is cannot follow":                                                    came["short, 1,000"].over >= horizon,
		"one of 4,000/s can":                                                                     came["proposed, 1,000"].behind < time.Minute && came["proposed, 1,000"].bystander < time.Second,
		"One server process falls behind at 1,000/s, four do less":                               came["server, 1,000"].behind > 20*time.Minute && came["four, 1,000"].behind < came["server, 1,000"].behind/2,
		"it sees 1,900 runs a second instead of 9,000":                                           about(float64(came["server, 1,000"].runs), 1900) && about(float64(came["proposed, 1,000"].runs), 9000),
	})
}

// about is for what is rounded in a sentence.
func about(is, written float64) bool { return math.Abs(is-written) <= written/10 }

// span is a duration to two digits or so.
func span(d time.Duration) string {
	switch {
	case d < 50*time.Millisecond:
		return "0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	default:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
