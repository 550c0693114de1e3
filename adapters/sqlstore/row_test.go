package sqlstore_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
)

var update = flag.Bool("update", false, "write the golden file of the present version")

// goldenJobs have every member set, and as few as possible.
func goldenJobs() []domain.Job {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123e6, time.UTC)
	return []domain.Job{
		{
			ID: "0195513f-3a7b-7c1e-9a54-5f2d7f0b6a01", Name: "report.render", Payload: []byte(`{"a": 1.0, "a":2e0}`), Owner: owner,
			TokenID: "jti-1", IdempotencyKey: "key 1", Fingerprint: "f00d", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			Retry:     domain.RetryPolicy{Attempts: 3, Base: 1500 * time.Millisecond, Max: time.Hour, Timeout: 45 * time.Second},
			Retention: domain.Retention{Finished: time.Hour, Dead: 2 * time.Hour},
			CreatedAt: now, Status: domain.Running, Reason: domain.ReasonCancelled, Attempts: 2, Starts: 7, Dispatches: 9, Checks: 3, CancelRequested: true,
			DueAt: now.Add(time.Second), CheckAt: now.Add(time.Minute), UpdatedAt: now.Add(time.Millisecond),
			FinishedAt: now.Add(2 * time.Second), ExpiresAt: now.Add(100 * 365 * 24 * time.Hour),
			Lease:    domain.Lease{Token: "lease", Worker: "worker-1", Until: now.Add(time.Minute)},
			Progress: domain.Progress{Percent: 42, Message: `half-way, almost: "é"`}, Output: []byte(`[1]`),
			History: []domain.Attempt{
				{Number: 6, StartedAt: now.Add(-time.Minute), EndedAt: now.Add(-time.Second), Worker: "worker-0", Error: "boom\nline two"},
				{Number: 7, StartedAt: now, Worker: "worker-1"},
			},
			Revision: 1,
		},
		{
			ID: "0195513f-3a7b-7c1e-9a54-5f2d7f0b6a02", Name: "a", CreatedAt: now, UpdatedAt: now, DueAt: now, CheckAt: now,
			Status: domain.Queued, Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention, Revision: 1,
		},
	}
}

const goldenColumns = "id, issuer, subject, name, status, created_at, due_at, check_at, lease_until, expires_at, revision, submission, state, output, payload"

func TestRowsAreAsReleased(t *testing.T) {
	t.Parallel()
	store, ctx := open(t, newPath(t), sqlstore.Options{}), context.Background()
	for _, job := range goldenJobs() {
		create(t, store, job)
	}
	var quoted []string
	for c := range strings.SplitSeq(goldenColumns, ", ") {
		quoted = append(quoted, "quote("+c+")")
	}
	var text strings.Builder
	err := store.Query(ctx, func(rows *sql.Rows) error {
		var values string
		err := rows.Scan(&values)
		fmt.Fprintf(&text, "INSERT INTO jobs (%s)\nVALUES (%s);\n", goldenColumns, values)
		return err
	}, "SELECT "+strings.Join(quoted, " || ', ' || ")+" FROM jobs ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", fmt.Sprintf("rows-v%d.sql", sqlstore.SchemaVersion))
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("the rows are\n%s\nwant those of %s\n%s", text.String(), file, want)
	}
}

func TestRowsOfEveryVersionAreRead(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "rows-v*.sql"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	slices.Sort(files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			store := open(t, newPath(t), sqlstore.Options{})
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Exec(context.Background(), string(text)); err != nil {
				t.Fatal(err)
			}
			for _, job := range goldenJobs() {
				wantStored(t, store, job)
			}
		})
	}
}
