package deployments_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jobgate/jobgate/domain"
)

// A burst is jobs that are dispatched at once to an empty queue, and the worker that is called with them.
type burst struct {
	jobs        int
	takes       time.Duration // of each run
	concurrency int           // maximum concurrency of the event source; 0: none, and reserved is what bounds
	reserved    int           // concurrency that the function has; 0: as much as is asked for
	batch       int
	maxReceives int
	visibility  time.Duration
	shuffled    bool // the queue hands out any message, not the oldest

	source, ramp int           // calls of the event source at once, and how many more it makes each minute
	every        time.Duration // the due loop's
	pass         int
}

// drained is what a burst came to.
type drained struct {
	after   time.Duration // until all jobs have ended
	again   int           // messages that the due loop published of jobs that waited
	handed  int           // receives
	most    int           // of one message
	letters int           // messages that SQS moved to the dead-letter queue
	ended   int           // jobs
}

// An sqsMessage is one of the queue.
type sqsMessage struct {
	job      int32
	receives int16
}

// A polled batch has been received, and runs or waits for the function.
type polled struct {
	messages []sqsMessage
	until    int // the tick at which its messages become visible again
}

// drain simulates the burst. The event source receives a batch for each call that it may make. What it cannot call the
// function with, because that has no concurrency left, it holds, and lets go when the visibility timeout has passed
// (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html): the messages have been received for nothing.
func (b burst) drain() drained {
	random := rand.New(rand.NewPCG(11, uint64(b.jobs)))
	var (
		d       drained
		all     = make([]simJob, b.jobs)
		queue   = make([]sqsMessage, 0, 2*b.jobs)
		checks  = agenda{jobs: map[int][]int32{}}
		waiting []polled // for the function
		running int
		ends    = map[int][]polled{}
		open    = b.jobs
		now     int
	)
	policy := domain.DefaultRetryPolicy
	policy.Timeout = max(policy.Timeout, b.takes)
	for id := range all {
		j := domain.Job{Status: domain.Queued, Retry: policy, DueAt: epoch, CheckAt: epoch}.Taken(epoch)
		all[id].set(j)
		queue = append(queue, sqsMessage{job: int32(id)})
		checks.plan(int32(id), all, now)
	}
	receive := func() (sqsMessage, bool) {
		for len(queue) > 0 {
			if b.shuffled {
				i := random.IntN(len(queue))
				queue[0], queue[i] = queue[i], queue[0]
			}
			m := queue[0]
			queue = queue[1:]
			if int(m.receives) == b.maxReceives {
				d.letters++
				continue
			}
			m.receives++
			d.handed++
			d.most = max(d.most, int(m.receives))
			return m, true
		}
		return sqsMessage{}, false
	}
	for ; open > 0 && now < ticks(horizon*24); now++ {
		ms := int64(now) * tick.Milliseconds()
		for _, p := range ends[now] {
			running--
			for _, m := range p.messages {
				sim := &all[m.job]
				j, err := sim.job(policy).Settle(at(ms), leaseToken, domain.Outcome{}, 0)
				if err == nil {
					sim.set(j)
					open--
				}
			}
		}
		delete(ends, now)
		if now > 0 && now%ticks(b.every) == 0 {
			for range b.pass {
				id, ok := checks.next(all, now)
				if !ok {
					break
				}
				sim := &all[id]
				sim.set(sim.job(policy).Taken(at(ms)))
				checks.plan(id, all, now)
				queue = append(queue, sqsMessage{job: id})
				d.again++
			}
		}
		// What waited too long is visible again.
		kept := waiting[:0]
		for _, p := range waiting {
			if p.until <= now {
				queue = append(queue, p.messages...)
			} else {
				kept = append(kept, p)
			}
		}
		waiting = kept
		pollers := min(b.source, 5+b.ramp*now/ticks(time.Minute))
		if b.concurrency > 0 {
			pollers = min(pollers, b.concurrency)
		}
		for running+len(waiting) < pollers {
			p := polled{until: now + ticks(b.visibility)}
			for len(p.messages) < b.batch {
				m, ok := receive()
				if !ok {
					break
				}
				p.messages = append(p.messages, m)
			}
			if len(p.messages) == 0 {
				break
			}
			waiting = append(waiting, p)
		}
		for len(waiting) > 0 && (b.reserved == 0 || running < b.reserved) {
			i := random.IntN(len(waiting)) // which of the held calls is tried again first is anybody's guess
			p := waiting[i]
			waiting[i] = waiting[len(waiting)-1]
			waiting = waiting[:len(waiting)-1]
			takes := time.Duration(0)
			var claimed []sqsMessage
			for _, m := range p.messages {
				sim := &all[m.job]
				if sim.status == domain.Running {
					continue // leased elsewhere: done with
				}
				j, err := sim.job(policy).Claim(at(ms), leaseToken, "")
				if err != nil {
					continue // finished
				}
				sim.set(j)
				checks.plan(m.job, all, now)
				claimed = append(claimed, m)
				takes = b.takes
			}
			if takes > 0 {
				running++
				end := now + ticks(takes)
				ends[end] = append(ends[end], polled{messages: claimed})
			}
		}
	}
	d.ended = b.jobs - open
	d.after = time.Duration(now) * tick
	return d
}

func TestCapacityBurst(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("one goroutine simulates")
	}
	q := quotas(t)
	visibility := 6 * time.Duration(fallback(t, "worker_timeout")) * time.Second
	shipped := burst{
		jobs: 100_000, takes: time.Second, concurrency: fallback(t, "worker_maximum_concurrency"), batch: fallback(t, "worker_batch_size"),
		maxReceives: fallback(t, "queue_max_receive_count"), visibility: visibility,
		source: int(q["Lambda calls of an event source at once"]), ramp: int(q["Lambda calls that an event source adds a minute"]),
		every: time.Minute, pass: passBound(t),
	}
	with := func(change func(*burst)) burst {
		b := shipped
		change(&b)
		return b
	}
	long := with(func(b *burst) { b.takes = 10 * time.Second })
	reserved := func(receives int) burst {
		return with(func(b *burst) { *b, b.concurrency, b.reserved, b.maxReceives = long, 0, 10, receives })
	}
	cases := []struct {
		name string
		burst
	}{
		{"as shipped: 10", shipped},
		{"100", with(func(b *burst) { b.concurrency = 100 })},
		{"1,000", with(func(b *burst) { b.concurrency = 1000 })},
		{"as shipped: 10", long},
		{"10, in any order", with(func(b *burst) { *b, b.shuffled = long, true })},
		{"10, due loop of 4,000/s", with(func(b *burst) { *b, b.every, b.pass = long, time.Second, 4000 })},
		{"1,000", with(func(b *burst) { *b, b.concurrency = long, 1000 })},
		{"none, 10 reserved", reserved(shipped.maxReceives)},
		{"none, 10 reserved", reserved(5)},
		{"none, 10 reserved", reserved(3)},
	}
	tb := table{{"maximum concurrency", "a run", "max receives", "drained after", "receives", "published again", "most receives of one", "letters"}}
	var came []drained
	for _, c := range cases {
		d := c.drain()
		came = append(came, d)
		tb = append(tb, []string{
			c.name, span(c.takes), fmt.Sprint(c.maxReceives), span(d.after), thousands(d.handed), thousands(d.again), fmt.Sprint(d.most), thousands(d.letters),
		})
	}
	shown(t, tb)
	says(t, map[string]bool{
		"As shipped a burst of runs of 1 s is drained in a quarter of an hour":                         about(came[0].after.Minutes(), 16),
		"it takes about a minute, most of it until Lambda calls that often":                            about(came[2].after.Minutes(), 1) && came[2].after > 3*100*time.Second/10,
		"A message that is within the maximum concurrency is received once":                            came[0].most == 1 && came[1].most == 1 && came[2].most == 1 && came[3].most == 1,
		"has messages received for nothing, several times, and letters where few receives are allowed": came[7].most > 3 && came[7].handed > 4*shipped.jobs && came[9].letters > 1000,
		"allows at least 100 receives":                                                                 shipped.maxReceives == 100 && came[7].letters == 0,
		"No job is lost with such a letter":                                                            came[9].ended == shipped.jobs,
		"where they wait for hours, more often than there are jobs":                                    came[3].after > time.Hour && came[3].again > shipped.jobs,
		"copies in front of what still waits make it longer":                                           came[4].after > came[3].after*3/2,
		"a faster due loop would do it many times more":                                                came[5].again > 3*came[3].again,
	})
}
