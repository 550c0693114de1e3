//go:build linux

package jobgate_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/bootstrap/config/runner"
	"github.com/jobgate/jobgate/bootstrap/worker"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// TestFiguresWorker measures what a job's run costs beside its handler, which does nothing here, and what a worker costs
// that has nothing to run.
func TestFiguresWorker(t *testing.T) { //nolint:paralleltest // it measures
	rounds := needFigures(t)
	database, lacksPostgres := startPostgres(t)
	inSQL := func(newURL func() string, measure func(*testing.T, ports.JobStore, int) sample, size int) func() sample {
		return func() sample {
			store := openStore(t, newURL(), sqlstore.Process)
			defer closeStore(t, store)
			return measure(t, store, size)
		}
	}
	onSQLite := func() string { return newSQLite(t) }
	t.Run("a record", func(t *testing.T) {
		c := comparison{warmUp: true, contenders: []contender{
			{name: "memory", measure: func() sample { return besideTwoWrites(t, memory.NewStore(time.Now), 200) }},
			{name: "SQLite", measure: inSQL(onSQLite, besideTwoWrites, 20)},
			{name: "PostgreSQL", measure: inSQL(database, besideTwoWrites, 3), missing: lacksPostgres},
		}, rows: []row{
			{what: "a record beyond its handler, memory", metric: "µs", unit: "µs", of: "memory", atMost: 10},
			{what: "in CPU, with the collector of garbage", metric: "µs CPU", unit: "µs", of: "memory"},
			{what: "a record, SQLite", metric: "ratio", unit: "× its two writes", of: "SQLite", atMost: 1.2},
			{what: "in µs", metric: "µs", unit: "µs", of: "SQLite"},
			{what: "a record, PostgreSQL", metric: "ratio", unit: "× its two writes", of: "PostgreSQL", atMost: 1.2},
			{what: "in µs", metric: "µs", unit: "µs", of: "PostgreSQL"},
		}}
		c.run(rounds)
		c.report(t)
	})
	t.Run("a batch", func(t *testing.T) {
		c := comparison{warmUp: true, contenders: []contender{
			{name: "memory", measure: func() sample { return besideSingles(t, memory.NewStore(time.Now), 8) }},
			{name: "SQLite", measure: inSQL(onSQLite, besideSingles, 2)},
		}, rows: []row{
			{what: "an event of 10 records, memory", metric: "ratio", unit: "× 10 of one", of: "memory", atMost: 1},
			{what: "in CPU", metric: "CPU", unit: "× 10 of one", of: "memory"},
			{what: "an event of 10 records, SQLite", metric: "ratio", unit: "× 10 of one", of: "SQLite", atMost: 1},
			{what: "in CPU", metric: "CPU", unit: "× 10 of one", of: "SQLite"},
			{what: "in µs", metric: "µs", unit: "µs", of: "SQLite"},
		}}
		c.run(rounds)
		c.report(t)
	})
	t.Run("nothing to do", func(t *testing.T) { measureIdle(t, rounds) })
}

// recordBlocks is how many blocks of each side are measured in a round. They are many and short, so that both sides have
// whatever else the machine does alike.
const recordBlocks = 50

// queuedJobs stores jobs that a worker can run.
func queuedJobs(t *testing.T, store ports.JobStore, n int) []domain.Job {
	t.Helper()
	all := make([]domain.Job, 0, n)
	submit := loadSubmit(store, jobs.NewQueue(struct {
		ports.JobStore
		ports.JobSchedule
	}{store, nil}, time.Now, 1, time.Hour)) // nothing is consumed
	produce(t, producerCount, n, submit, func(job domain.Job, _ time.Duration) { all = append(all, job) })
	if len(all) != n {
		t.Fatalf("%d of %d jobs are stored", len(all), n)
	}
	return all
}

// besideTwoWrites has jobs of a store delivered to a worker, one after the other, and between blocks of that as many
// claimed and settled by the store alone.
func besideTwoWrites(t *testing.T, store ports.JobStore, block int) sample {
	t.Helper()
	w := loadWorker(store)
	w.Settled = func(job domain.Job) {
		if job.Status != domain.Succeeded {
			t.Errorf("job %s is %s", job.ID, job.Status)
		}
	}
	deliver := func(id string) {
		if d := w.Deliver(t.Context(), domain.Delivery{MessageID: id, JobID: id}); d.Verdict != domain.Ack {
			t.Errorf("%+v", d)
		}
	}
	write := func(id string) {
		const token = "token"
		for _, step := range []func(domain.Job) (domain.Job, error){
			func(j domain.Job) (domain.Job, error) { return j.Claim(time.Now(), token, w.Name) },
			func(j domain.Job) (domain.Job, error) { return j.Settle(time.Now(), token, domain.Outcome{}, 0) },
		} {
			if _, err := store.Update(t.Context(), id, step); err != nil {
				t.Error(err)
			}
		}
	}
	queued := queuedJobs(t, store, 2*recordBlocks*block)
	sides := []func(string){write, deliver}
	var took [2][]float64
	var cpu time.Duration
	for i := range 2 * recordBlocks {
		side := (i + i/2) % 2 // either goes first by turns
		before, began := cpuOf(t, os.Getpid()), time.Now()
		for _, job := range queued[:block] {
			sides[side](job.ID)
		}
		took[side] = append(took[side], float64(time.Since(began).Nanoseconds())/1e3/float64(block))
		if side == 1 {
			cpu += cpuOf(t, os.Getpid()) - before
		}
		queued = queued[block:]
	}
	each := cpu.Seconds() * 1e6 / float64(recordBlocks*block)
	return sample{"µs": median(took[1]), "µs CPU": each, "ratio": median(took[1]) / median(took[0])}
}

// besideSingles has the worker function run events of 10 messages, and between them the same in events of one.
func besideSingles(t *testing.T, store ports.JobStore, events int) sample {
	t.Helper()
	const batch = 10
	f := worker.New(runner.Config{Policy: domain.DefaultPolicy(), Retention: domain.DefaultRetention}, store, jobs.Handlers{
		"*": func(context.Context, jobs.Run) ([]byte, error) { return nil, nil },
	}, zap.NewNop())
	invoke := func(event []byte) {
		if answer, err := f.Invoke(t.Context(), event); err != nil || string(answer) != `{"batchItemFailures":[]}` {
			t.Errorf("%s, %v", answer, err)
		}
	}
	const queue = "arn:aws:sqs:eu-west-1:123456789012:jobs"
	var messages []lambdaevents.Message
	for _, job := range queuedJobs(t, store, 2*recordBlocks*events*batch) {
		body, err := cloudevent.Encode(job, "jobgate")
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, lambdaevents.Message{ID: job.ID, Body: string(body), SentAt: time.Now(), Receives: 1})
	}
	var took, cpu [2][]float64
	for i := range 2 * recordBlocks {
		side := (i + i/2) % 2 // 0: of one
		size := []int{1, batch}[side]
		var block [][]byte
		for range events * batch / size {
			block = append(block, lambdaevents.SQSEvent(queue, messages[:size]...))
			messages = messages[size:]
		}
		before, began := cpuOf(t, os.Getpid()), time.Now()
		for _, event := range block {
			invoke(event)
		}
		took[side] = append(took[side], float64(time.Since(began).Nanoseconds())/1e3/float64(events))
		cpu[side] = append(cpu[side], float64(cpuOf(t, os.Getpid())-before))
	}
	return sample{"µs": median(took[1]), "ratio": median(took[1]) / median(took[0]), "CPU": median(cpu[1]) / median(cpu[0])}
}

// measureIdle measures the CPU of workers that wait, all at once: they do next to nothing.
func measureIdle(t *testing.T, rounds int) {
	span := 10 * time.Second
	if *figuresFull {
		span = time.Minute
	}
	binary := adaptertest.Build(t, "server", "./bootstrap/cmd/server")
	database, lacksPostgres := startPostgres(t)
	lacksRabbitMQ := ""
	if _, err := exec.LookPath("rabbitmq-server"); err != nil {
		lacksRabbitMQ = "rabbitmq-server"
	}
	var c comparison
	workers := map[string]int{} // their pids
	idle := func(name, missing string, env func() []string) {
		if missing == "" {
			workers[name], _, _ = serve(t, binary, "worker", env()...)
		}
		c.rows = append(c.rows, row{what: "CPU of an idle worker, " + name, metric: name, unit: "%", of: "jobgate", atMost: 0.5})
	}
	idle("SQLite", "", func() []string { return []string{"DATA_DIR=" + t.TempDir()} })
	idle("PostgreSQL", lacksPostgres, func() []string { return []string{"STORE_URL=" + database()} })
	idle("SQLite and RabbitMQ", lacksRabbitMQ, func() []string {
		return []string{"DATA_DIR=" + t.TempDir(), "BROKER_URL=" + adaptertest.RabbitMQ(t).URL}
	})
	c.contenders = []contender{{name: "jobgate", measure: func() sample {
		before := map[string]time.Duration{}
		for name, pid := range workers {
			before[name] = cpuOf(t, pid)
		}
		began := time.Now()
		time.Sleep(span)
		s := sample{}
		for name, pid := range workers {
			s[name] = 100 * (cpuOf(t, pid) - before[name]).Seconds() / time.Since(began).Seconds()
		}
		return s
	}}}
	time.Sleep(2 * time.Second)   // they begin with more than idling
	c.run(min(rounds, minRounds)) // what else the machine does, they hardly notice
	c.report(t)
}
