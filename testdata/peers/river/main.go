// The river program keeps jobs with River, in PostgreSQL or in SQLite, its client being producer and worker in one
// process. A producer goes on when the transaction of its insert is committed, which both databases have on disk then; a
// job is done when River says that it has stored so.
//
// River looks for jobs as soon as it can be told to after the last time, and runs as many at once as in the example of
// its documentation. On SQLite it is given one connection, which its documentation asks for.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	_ "modernc.org/sqlite"

	"github.com/jobgate/jobgate/testdata/peers/internal/producers"
)

const (
	maxWorkers   = 100
	pollInterval = 10 * time.Millisecond // where nothing wakes it: 1 and 100 ms make no difference that can be measured
	startTimeout = 30 * time.Second
)

// report is the job; its arguments are the payload.
type report json.RawMessage

func (report) Kind() string                   { return producers.Name }
func (r report) MarshalJSON() ([]byte, error) { return r, nil }

func (r *report) UnmarshalJSON(text []byte) error {
	*r = append((*r)[:0], text...)
	return nil
}

type worker struct{ river.WorkerDefaults[report] }

func (worker) Work(context.Context, *river.Job[report]) error { return nil }

func main() {
	url := flag.String("url", "", "postgres:// or sqlite:PATH")
	jobs := flag.Int("jobs", 1000, "how many")
	flag.Parse()
	var err error
	if path, ok := strings.CutPrefix(*url, "sqlite:"); ok {
		err = onSQLite(path, *jobs)
	} else {
		err = onPostgres(*url, *jobs)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func onPostgres(url string, jobs int) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	config.MaxConns = 20 // the producers, and as many again for the worker and River itself
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return err
	}
	defer pool.Close()
	return run(riverpgxv5.New(pool), jobs)
}

func onSQLite(path string, jobs int) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	return run(riversqlite.New(db), jobs)
}

func run[TTx any](driver riverdriver.Driver[TTx], jobs int) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: log})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	all := river.NewWorkers()
	river.AddWorker(all, worker{})
	client, err := river.NewClient(driver, &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: maxWorkers}}, Workers: all,
		FetchCooldown: river.FetchCooldownMin, FetchPollInterval: pollInterval, Logger: log,
	})
	if err != nil {
		return err
	}
	completed, unsubscribe := client.SubscribeConfig(&river.SubscribeConfig{ChanSize: jobs, Kinds: []river.EventKind{river.EventKindJobCompleted}})
	defer unsubscribe()
	if err := client.Start(context.Background()); err != nil {
		return err
	}
	load := producers.New(jobs)
	go func() {
		for range completed {
			load.Done()
		}
	}()
	err = load.Run(func(ctx context.Context) error {
		_, err := client.Insert(ctx, report(producers.Payload), nil)
		return err
	}, nil)
	stop, cancelStop := context.WithTimeout(context.Background(), startTimeout)
	defer cancelStop()
	if stopErr := client.Stop(stop); err == nil {
		err = stopErr
	}
	return err
}
