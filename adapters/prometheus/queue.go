package prometheus

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of the question for the queue's age: a scrape waits no longer for the answer, which is good for a while
// however many ask.
const (
	ageTimeout = 2 * time.Second
	ageEvery   = time.Second
)

// Queue adds the age of the queue: oldest returns the due time of the job that has been due the longest, and ok false
// when none is due. It is asked at a scrape. While it fails the age is left out, and the failures are counted.
func (m *Metrics) Queue(oldest func(context.Context) (due time.Time, ok bool, err error)) {
	m.registry.MustRegister(&queue{
		oldest: oldest,
		age: prometheus.NewDesc("jobgate_queue_age_seconds",
			"How long the job has been due that waits the longest, in the whole store; 0 when none waits.", nil, nil),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "jobgate_queue_age_failures_total", Help: "Times that the store did not tell the queue's age.",
		}),
	})
}

type queue struct {
	oldest   func(context.Context) (time.Time, bool, error)
	age      *prometheus.Desc
	failures prometheus.Counter

	mu    sync.Mutex
	asked time.Time
	due   time.Time
	ok    bool
	err   error
}

func (q *queue) Describe(ch chan<- *prometheus.Desc) {
	ch <- q.age
	q.failures.Describe(ch)
}

func (q *queue) Collect(ch chan<- prometheus.Metric) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.asked.IsZero() || time.Since(q.asked) >= ageEvery {
		ctx, cancel := context.WithTimeout(context.Background(), ageTimeout)
		defer cancel()
		q.due, q.ok, q.err = q.oldest(ctx)
		q.asked = time.Now()
		if q.err != nil {
			q.failures.Inc()
		}
	}
	ch <- q.failures
	if q.err != nil {
		return
	}
	age := 0.0
	if q.ok {
		age = max(0, time.Since(q.due).Seconds())
	}
	ch <- prometheus.MustNewConstMetric(q.age, prometheus.GaugeValue, age)
}
