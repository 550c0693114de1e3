package deployments_test

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
)

// What a job writes to the log of PostgreSQL is what its disk, its replicas and its archive have to take in.
func TestCapacityOfPostgreSQLsLog(t *testing.T) {
	t.Parallel()
	url := adaptertest.Postgres(t, "fsync=off", "autovacuum=off").Database(t)
	ctx := t.Context()
	store, err := sqlstore.Open(ctx, url, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })

	const many = 1000
	d := newDeployment(newMeteredTable().client(), nil)
	d.submit.Store, d.worker.Store = store, store
	claim := func(job domain.Job) (domain.Job, error) { return job.Claim(d.now, jobID(3000), d.worker.Name) }
	settle := func(job domain.Job) (domain.Job, error) {
		return job.Settle(d.now, jobID(3000), domain.Outcome{Output: []byte(`{"pages":3}`)}, 0)
	}
	update := func(decide func(domain.Job) (domain.Job, error)) func(n int) error {
		return func(n int) error {
			_, err := store.Update(ctx, jobID(n+1), decide)
			return err
		}
	}
	steps := []struct {
		name string
		do   func(n int) error
	}{
		{"submit", func(n int) error {
			_, _, err := d.submit.Do(ctx, owner(n%50), submission(200))
			return err
		}},
		{"claim", update(claim)},
		{"settle", update(settle)},
	}
	tb := table{{"step", "log, KiB a job"}}
	var total int64
	for _, s := range steps {
		var before, after int64
		const position = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
		if err := conn.QueryRow(ctx, position).Scan(&before); err != nil {
			t.Fatal(err)
		}
		for n := range many {
			if err := s.do(n); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
		}
		if err := conn.QueryRow(ctx, position).Scan(&after); err != nil {
			t.Fatal(err)
		}
		total += after - before
		tb = append(tb, []string{s.name, fmt.Sprintf("%.1f", float64(after-before)/many/1024)})
	}
	tb = append(tb, []string{"together", fmt.Sprintf("%.1f", float64(total)/many/1024)})
	shownAbout(t, tb)
	each := float64(total) / many
	says(t, map[string]bool{
		"42 KB/s at 10 jobs a second and 4 MB/s at 1,000": math.Abs(each*10/1e3-42) < 42/4 && math.Abs(each*1000/1e6-4) < 1,
		"0.4 GB/s at 100,000":                             math.Abs(each*1e5/1e9-0.4) < 0.1,
	})
}
