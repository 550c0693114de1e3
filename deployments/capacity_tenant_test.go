package deployments_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// A bucket is the write capacity of one partition: so many units a second, of which none are saved up. DynamoDB saves
// some for five minutes (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/burst-adaptive-capacity.html),
// which a tenant that stays hot has used by then.
type bucket struct {
	units float64
	last  time.Time
}

func (b *bucket) take(units, perSecond float64) bool {
	now := time.Now()
	b.units = min(perSecond, b.units+perSecond*now.Sub(b.last).Seconds())
	b.last = now
	if b.units < units {
		return false
	}
	b.units -= units
	return true
}

// tenants is what became of the jobs of the hot one or of all others.
type tenants struct {
	offered, accepted, refused, done, returned int

	answers []time.Duration // that callers waited
}

func (who tenants) perSecond(n int) int { return int(float64(n)*heatScale/heatLasts.Seconds() + 0.5) }

func (who tenants) p99() time.Duration {
	slices.Sort(who.answers)
	return who.answers[len(who.answers)*99/100]
}

func (who tenants) String() string {
	return fmt.Sprintf("%d asked, %d refused, %d accepted, %d of those ended and %d returned, answered within %v",
		who.offered, who.refused, who.accepted, who.done, who.returned, who.p99())
}

// A heat is many jobs a second, of which nine of ten are one owner's, through the use cases and the store as they are, on
// a table whose indexes' partitions have a bound. Everything is a tenth of what it stands for.
type heat struct {
	hot, others tenants
}

const (
	heatScale = 10
	heatLasts = 30 * time.Second
)

// simulateHeat is called in a bubble of synctest, whose time it takes.
func simulateHeat(ctx context.Context, rate int, partition float64) heat {
	var h heat
	var mu sync.Mutex
	var wg sync.WaitGroup
	m := newMeteredTable()
	buckets := map[string]*bucket{}
	m.full = func(index, name string, units float64) bool {
		b := buckets[index+name]
		if b == nil {
			b = &bucket{units: partition / heatScale}
			buckets[index+name] = b
		}
		return !b.take(units, partition/heatScale)
	}
	who := func(job domain.Identity) *tenants {
		if job == owner(0).Identity {
			return &h.hot
		}
		return &h.others
	}
	// As many instances of the functions, each with a client and a retry quota of its own, as the load keeps busy: a call of
	// jobs takes 20 ms, one of worker 100 ms for ten jobs.
	var submits, workers []*deployment
	for range max(1, rate/50/heatScale) {
		submits = append(submits, newDeployment(m.client(), time.Now))
	}
	for range max(1, rate/100/heatScale) {
		d := newDeployment(m.client(), time.Now)
		d.outcome = func(ports.Run) ([]byte, error) {
			time.Sleep(100 * time.Millisecond)
			return nil, nil
		}
		workers = append(workers, d)
	}
	every := time.Second * heatScale / time.Duration(rate)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for n := range int(heatLasts / every) {
		<-ticker.C
		caller := owner(0)
		if n%10 == 9 {
			caller = owner(n)
		}
		wg.Go(func() {
			id := jobID(n)
			submit := *submits[n%len(submits)].submit
			submit.NewID = func() string { return id }
			start := time.Now()
			job, _, err := submit.Do(ctx, caller, submission(200))
			mu.Lock()
			of := who(caller.Identity)
			of.offered++
			of.answers = append(of.answers, time.Since(start))
			if err != nil {
				of.refused++
				mu.Unlock()
				return
			}
			of.accepted++
			mu.Unlock()
			d := workers[n%len(workers)].worker.Deliver(ctx, domain.Delivery{JobID: job.ID})
			mu.Lock()
			defer mu.Unlock()
			if d.Verdict == domain.Ack && d.Reason == "" {
				of.done++
			} else {
				of.returned++
			}
		})
	}
	wg.Wait()
	return h
}

// A line is jobs that wait for workers, of which the hot tenant sends more than its part.
type line struct {
	hotRate, otherRate, slots int
	run                       time.Duration
	lasts                     time.Duration
	fair                      bool // the quiet ones' messages first, while one has too much of what is in flight
}

// waits returns how long 99 of 100 of the hot one's jobs waited, and of the others'.
func (l line) waits() (hot, others time.Duration) {
	var queues [2][]int // by hot and others: the tick at which each was sent
	var heads [2]int
	var waited [2][]int
	var flying [2]int
	ends := map[int][2]int{}
	sent := [2]float64{}
	for now := 0; now < ticks(l.lasts) || heads[0] < len(queues[0]) || heads[1] < len(queues[1]); now++ {
		for who, rate := range []int{l.hotRate, l.otherRate} {
			if now < ticks(l.lasts) {
				for sent[who] += float64(rate) * tick.Seconds(); sent[who] >= 1; sent[who]-- {
					queues[who] = append(queues[who], now)
				}
			}
		}
		flying[0], flying[1] = flying[0]-ends[now][0], flying[1]-ends[now][1]
		delete(ends, now)
		for flying[0]+flying[1] < l.slots {
			next := -1
			for who := range queues {
				if heads[who] < len(queues[who]) && (next < 0 || queues[who][heads[who]] < queues[next][heads[next]]) {
					next = who
				}
			}
			if next < 0 {
				break
			}
			// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
			if noisy := flying[0] >= 30 && flying[0]*10 > flying[0]+flying[1]; l.fair && noisy && heads[1] < len(queues[1]) {
				next = 1
			}
			waited[next] = append(waited[next], now-queues[next][heads[next]])
			heads[next]++
			flying[next]++
			at := now + ticks(l.run)
			end := ends[at]
			end[next]++
			ends[at] = end
		}
	}
	p99 := func(waited []int) time.Duration {
		slices.Sort(waited)
		return time.Duration(waited[len(waited)*99/100]) * tick
	}
	return p99(waited[0]), p99(waited[1])
}

func TestCapacityHotTenant(t *testing.T) {
	t.Parallel()
	partition := quotas(t)["DynamoDB write units of a partition a second"]
	most := int(partition / takenByAJob(t).indexes["owner"])
	tb := table{{"jobs/s together", "whose", "asked, jobs/s", "refused", "ended, jobs/s", "answered within, p99"}}
	for _, rate := range []int{300, 1000} {
		var h heat
		synctest.Test(t, func(t *testing.T) { h = simulateHeat(t.Context(), rate, partition) })
		t.Logf("%d jobs/s: the hot one %s, the others %s", rate, h.hot, h.others)
		tooMany := h.hot.perSecond(h.hot.offered) > most
		for _, who := range []struct {
			name string
			tenants
			hot bool
		}{{"the hot one's", h.hot, tooMany}, {"all others'", h.others, false}} {
			row := []string{thousands(rate), who.name, fmt.Sprint(who.perSecond(who.offered)), "none", fmt.Sprint(who.perSecond(who.done)), "1 s"}
			ok := who.refused == 0 && who.done == who.offered && who.p99() < time.Second
			if who.hot {
				// How many of the rest are refused and how many accepted, to run when their message comes again, goes by whose
				// retries win, which is nobody's to say.
				row[3], row[4], row[5] = "some", fmt.Sprintf("at most %d", most), "5 s"
				ok = who.refused > 0 && who.done < who.offered && who.perSecond(who.done) <= most+most/20 && who.p99() < 5*time.Second
			}
			if !ok {
				t.Errorf("%d jobs/s, %s: %s; the document has %q", rate, who.name, who.tenants, row)
			}
			tb = append(tb, row)
		}
	}
	shown(t, tb)
	says(t, map[string]bool{fmt.Sprintf("Above %d jobs a second an owner's list refuses writes", most): true})
}

func TestCapacityFairness(t *testing.T) {
	t.Parallel()
	tb := table{{"queue", "the hot one's, jobs/s", "all others', jobs/s", "workers carry", "the hot one waits, p99", "the others wait, p99"}}
	for _, c := range []struct {
		name string
		line
	}{
		{"as shipped", line{hotRate: 900, otherRate: 100, slots: 50}},
		{"fair", line{hotRate: 900, otherRate: 100, slots: 50, fair: true}},
	} {
		c.run, c.lasts = 100*time.Millisecond, 10*time.Minute
		hot, others := c.waits()
		tb = append(tb, []string{c.name, fmt.Sprint(c.hotRate), fmt.Sprint(c.otherRate), fmt.Sprint(c.slots * 10), span(hot), span(others)})
		if c.fair != (others < time.Second) || hot < time.Minute {
			t.Errorf("%s: the hot one waits %v, the others %v", c.name, hot, others)
		}
	}
	shown(t, tb)
}
