package dynamodb_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fill sets every member of a value, each to something of its own.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.UnixMilli(1_700_000_000_000 + int64(*n)*1001).UTC()))
	case v.Type() == reflect.TypeFor[time.Duration]():
		v.SetInt(int64(*n)*1e9 + 1)
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("text %d é \x00 \"", *n))
	case v.CanInt():
		v.SetInt(int64(*n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Type() == reflect.TypeFor[[]byte]():
		v.SetBytes([]byte{byte(*n), 0, 0xff})
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case v.Kind() == reflect.Struct:
		for _, member := range v.Fields() {
			fill(t, member, n)
		}
	default:
		t.Fatalf("a job has a member of type %v, which this test does not know", v.Type())
	}
}

func TestEveryMemberOfAJobComesBack(t *testing.T) {
	t.Parallel()
	var job domain.Job
	n := 0
	fill(t, reflect.ValueOf(&job).Elem(), &n)
	job.ID = uuid.NewString()
	bare := domain.Job{ID: uuid.NewString()}
	empty := domain.Job{ID: uuid.NewString(), Payload: []byte{}, Output: []byte{}}
	store := newTable().store(time.Time{})
	for _, want := range []domain.Job{job, bare, empty} {
		stored, created, err := store.Create(t.Context(), want)
		if err != nil || !created {
			t.Fatalf("Create: created %v, error %v", created, err)
		}
		got, err := store.Get(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, ignoreRevision); diff != "" {
			t.Errorf("Get (-want +got):\n%s", diff)
		}
		if got.Revision == 0 || got.Revision != stored.Revision {
			t.Errorf("the revision is %d, Create said %d", got.Revision, stored.Revision)
		}
	}
}

// goldenJobs are jobs in the states that make items of different shape.
func goldenJobs() map[string]domain.Job {
	created := time.Date(2026, 3, 1, 12, 0, 0, 7e6, time.UTC)
	queued := domain.Job{
		ID: "0195508c-1e58-7a3b-8f4d-2b6e9c0d1a2f", Name: "report.render", Payload: []byte(`{"n": 1.0}`),
		Owner: domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"}, TokenID: "jti-1",
		IdempotencyKey: "key 1", Fingerprint: "f00d", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention,
		CreatedAt: created, UpdatedAt: created, Status: domain.Queued, DueAt: created, CheckAt: created,
	}
	running := queued
	running.Status, running.Attempts, running.Starts, running.Dispatches, running.Checks, running.CancelRequested = domain.Running, 2, 2, 3, 1, true
	running.Lease = domain.Lease{Token: "lease-token", Worker: "worker-1", Until: created.Add(time.Minute)}
	running.CheckAt = running.Lease.Until
	running.Progress = domain.Progress{Percent: 42, Message: "half-way, almost"}
	running.History = []domain.Attempt{
		{Number: 1, StartedAt: created, EndedAt: created.Add(time.Second), Worker: "worker-0", Error: "boom"},
		{Number: 2, StartedAt: created.Add(3 * time.Second), Worker: "worker-1"},
	}
	succeeded := running
	succeeded.Status, succeeded.Lease, succeeded.CheckAt, succeeded.CancelRequested = domain.Succeeded, domain.Lease{}, time.Time{}, false
	succeeded.FinishedAt, succeeded.Output = created.Add(4*time.Second), []byte(`{"rows":3}`)
	succeeded.ExpiresAt = succeeded.FinishedAt.Add(7 * 24 * time.Hour)
	dead := succeeded
	dead.Status, dead.Reason, dead.Output = domain.Dead, domain.ReasonPermanent, nil
	dead.Payload = bytes.Repeat([]byte{'7'}, 4<<10+1)
	dead.History = nil
	return map[string]domain.Job{"queued": queued, "running": running, "succeeded": succeeded, "dead_large": dead}
}

// TestItemsAreAsReleased holds the format: what is in a table today has to be read by every later version.
func TestItemsAreAsReleased(t *testing.T) {
	t.Parallel()
	for name, job := range goldenJobs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wrote []attributes
			record := service(func(_ *http.Request, operation string, body []byte) (int, string, error) {
				var in struct {
					Item          attributes
					TransactItems []struct{ Put struct{ Item attributes } }
				}
				err := json.Unmarshal(body, &in)
				if operation == "PutItem" {
					wrote = append(wrote, in.Item)
				}
				for _, i := range in.TransactItems {
					wrote = append(wrote, i.Put.Item)
				}
				return 200, `{}`, err
			})
			stored, _, err := dynamodb.NewStore(record.client(), "jobs", dynamodb.Options{}).Create(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(wrote, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			// The revision is random.
			got = bytes.ReplaceAll(got, fmt.Appendf(nil, "%d", stored.Revision), []byte("1311768467463790321"))
			got = append(bytes.ReplaceAll(got, fmt.Appendf(nil, "#%x", stored.Revision), []byte("#123456789abcdef1")), '\n')

			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("the items of a job have changed (-released +now):\n%s", diff)
			}

			var released []attributes
			if err := json.Unmarshal(want, &released); err != nil {
				t.Fatal(err)
			}
			db := newTable()
			for _, i := range released {
				db.items[i.s("pk")] = i
			}
			read, err := db.store(job.CreatedAt).Get(t.Context(), job.ID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(job, read, ignoreRevision); diff != "" {
				t.Errorf("the released items are read as (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPagesJoinWhateverTheAnswers lists random tables through answers that end where they like.
func TestPagesJoinWhateverTheAnswers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		now := start.Add(time.Hour)
		db, seed := newTable(), rapid.Uint32().Draw(t, "answers")
		db.early = func(request []byte, n int) int {
			return 1 + int(crc32.Update(seed, crc32.IEEETable, request)%uint32(n)) // the same whichever request comes first
		}
		store := db.store(now)
		owners := []domain.Identity{{}, alice, {Issuer: alice.Issuer, Subject: "bob"}}
		var jobs []domain.Job
		for i := range rapid.IntRange(0, 60).Draw(t, "jobs") {
			job := domain.Job{
				ID:    domain.EventID("test", "jobs", fmt.Sprint(i)),
				Owner: rapid.SampledFrom(owners).Draw(t, "owner"), Name: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"),
				Status:    rapid.SampledFrom(domain.Statuses).Draw(t, "status"),
				CreatedAt: start.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "created")) * time.Millisecond),
			}
			if job.Status.Finished() {
				job.ExpiresAt = now.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "expires")) * time.Millisecond)
			}
			if _, _, err := store.Create(ctx, job); err != nil {
				t.Fatal(err)
			}
			jobs = append(jobs, job)
		}
		query := ports.JobQuery{Limit: rapid.IntRange(1, 30).Draw(t, "limit")}
		if rapid.Bool().Draw(t, "of one owner") {
			query.Owner = &owners[rapid.IntRange(0, len(owners)-1).Draw(t, "which")]
		}
		query.Name = rapid.SampledFrom([]string{"", "a"}).Draw(t, "by name")
		query.Status = rapid.SampledFrom([]domain.Status{"", domain.Queued, domain.Dead}).Draw(t, "by status")
		want := newest(jobs, query, now)
		got := []string{}
		for pages := 0; ; pages++ {
			if pages > 200 {
				t.Fatal("the list does not end")
			}
			page, err := store.List(ctx, query)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Jobs) > query.Limit {
				t.Fatalf("a page has %d jobs, the limit is %d", len(page.Jobs), query.Limit)
			}
			for _, j := range page.Jobs {
				got = append(got, j.ID)
			}
			if page.Next.IsZero() {
				break
			}
			query.After = page.Next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the pages join to (-want +got):\n%s", diff)
		}
	})
}

// newest is what a list should come to.
func newest(jobs []domain.Job, query ports.JobQuery, now time.Time) []string {
	ids := []string{}
	var found []domain.Job
	for _, j := range jobs {
		if (query.Owner == nil || j.Owner == *query.Owner) && (query.Name == "" || j.Name == query.Name) &&
			(query.Status == "" || j.Status == query.Status) && !j.Expired(now) {
			found = append(found, j)
		}
	}
	for len(found) > 0 {
		first := 0
		for i, j := range found {
			if c := j.CreatedAt.Compare(found[first].CreatedAt); c > 0 || c == 0 && j.ID > found[first].ID {
				first = i
			}
		}
		ids = append(ids, found[first].ID)
		found = append(found[:first], found[first+1:]...)
	}
	return ids
}

func TestAPageReadsAtMostAThousandEntries(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	db := newTable()
	store := db.store(start)
	const jobs = 2500
	for i := range jobs {
		name := "chaff"
		if i%1200 == 0 {
			name = "wheat"
		}
		job := domain.Job{
			ID: domain.EventID("test", "jobs", fmt.Sprint(i)), Owner: alice, Name: name, Status: domain.Queued,
			CreatedAt: start.Add(time.Duration(i) * time.Millisecond), CheckAt: start.Add(time.Hour),
		}
		if _, _, err := store.Create(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	for _, owner := range []*domain.Identity{nil, &alice} {
		query := ports.JobQuery{Owner: owner, Name: "wheat", Limit: 100}
		found, pages := 0, 0
		for {
			db.evaluated = 0
			page, err := store.List(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			if db.evaluated > 1000 {
				t.Errorf("a page read %d entries", db.evaluated)
			}
			found += len(page.Jobs)
			pages++
			if page.Next.IsZero() {
				break
			}
			query.After = page.Next
		}
		if found != 3 || pages < 3 || pages > 5 {
			t.Errorf("%d pages hold %d jobs, want 3 jobs on 3 to 5 pages", pages, found)
		}

		db.evaluated = 0
		if page, err := store.List(t.Context(), ports.JobQuery{Owner: owner, Limit: 20}); err != nil || len(page.Jobs) != 20 {
			t.Fatalf("List = %d jobs, %v", len(page.Jobs), err)
		}
		if db.evaluated > 256 {
			t.Errorf("a page of 20 jobs read %d entries", db.evaluated)
		}
	}
}

func FuzzRecordsThatAnyoneWrote(f *testing.F) {
	for _, text := range []string{
		``, `{}`, `[]`, `null`, `{"id":"x"}`, `{"id":"a","id":"b"}`, `{"history":[{}]}`, `{"created_at":"now"}`,
		`{"retry":{"base_ns":1e99}}`, `{"status":"queued","check_at":"2026-03-01T12:00:00Z"}`,
	} {
		f.Add(text, "1")
	}
	f.Fuzz(func(t *testing.T, text, revision string) {
		answer, err := json.Marshal(map[string]any{"Item": attributes{
			"pk": {"S": "x"}, "job": {"S": text}, "revision": {"N": revision},
		}})
		if err != nil {
			t.Fatal(err)
		}
		store := dynamodb.NewStore(service(func(*http.Request, string, []byte) (int, string, error) {
			return 200, string(answer), nil
		}).client(), "jobs", dynamodb.Options{})
		if _, err := store.Get(context.Background(), uuid.NewString()); err != nil {
			if kind := domain.KindOf(err); kind != domain.Internal && kind != domain.NotFound {
				t.Errorf("Get = %v (%v), want a damaged record to be ours", err, kind)
			}
		}
	})
}
