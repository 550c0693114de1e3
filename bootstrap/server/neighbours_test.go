package server_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/domain/jobs"
)

// TestSlowJobsAndWaitingRetriesDelayNoOther is promise 6 of the worker: what waits for its retry is in nobody's way, and
// what runs long only takes its own place.
func TestSlowJobsAndWaitingRetriesDelayNoOther(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]func(t *testing.T) []string{
		"SQLite":   func(*testing.T) []string { return nil },
		"Postgres": func(t *testing.T) []string { return []string{"STORE_URL", adaptertest.Postgres(t).Database(t)} },
		"RabbitMQ": func(t *testing.T) []string { return []string{"BROKER_URL", adaptertest.RabbitMQ(t).URL} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const retries, slow = 1000, 10
			var failed, running atomic.Int32
			release := make(chan struct{})
			handlers := jobs.Handlers{
				"fails": func(context.Context, jobs.Run) ([]byte, error) {
					failed.Add(1)
					return nil, errors.New("try again in a while")
				},
				"slow": func(ctx context.Context, _ jobs.Run) ([]byte, error) {
					running.Add(1)
					select {
					case <-release:
					case <-ctx.Done():
					}
					return nil, nil
				},
				"fast": func(context.Context, jobs.Run) ([]byte, error) { return []byte(`"done"`), nil },
			}
			settings := append([]string{
				"DATA_DIR", t.TempDir(), "CONCURRENCY", "11",
				"RETRY_POLICIES", `[{"jobs":"fails","base":"1h","max":"1h"},{"jobs":"slow","timeout":"5m"}]`,
			}, way(t)...)
			c := newClient(t, run(t, original(settings...), handlers))
			t.Cleanup(sync.OnceFunc(func() { close(release) })) // before the program is told to stop
			c.submit(t, "fails", retries)
			eventually(t, "every retry waits", func() bool { return failed.Load() == retries })
			c.submit(t, "slow", slow)
			eventually(t, "every slow job runs", func() bool { return running.Load() == slow })

			c.travelsAs(t, "fast")
			if failed.Load() != retries {
				t.Errorf("jobs failed %d times, so that their retries did not wait", failed.Load())
			}
		})
	}
}

func (c client) submit(t *testing.T, name string, n int) {
	t.Helper()
	for range n {
		if status, job := c.do(t, http.MethodPost, "/jobs", `{"name":"`+name+`"}`); status != http.StatusCreated {
			t.Fatalf("POST /jobs: %d %v", status, job)
		}
	}
}
