package jobgate_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/adapters/httpapi/httpapitest"
	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/bootstrap/config/intake"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

type jobStore interface {
	ports.JobStore
	ports.JobSchedule
}

// stores opens each store there is.
var stores = map[string]func(t *testing.T) jobStore{
	"memory": func(*testing.T) jobStore { return memory.NewStore(time.Now) },
	"sqlite": func(t *testing.T) jobStore {
		return openSQL(t, "sqlite:"+filepath.Join(t.TempDir(), "jobs.sqlite"))
	},
	"postgres": func(t *testing.T) jobStore { return openSQL(t, adaptertest.Postgres(t).Database(t)) },
	"dynamodb": func(t *testing.T) jobStore {
		client := awsdynamodb.NewFromConfig(adaptertest.AWSConfig(t, adaptertest.Moto(t)))
		if err := dynamodb.CreateTable(t.Context(), client, tableName); err != nil {
			t.Fatal(err)
		}
		return dynamodb.NewStore(client, tableName, dynamodb.Options{})
	},
}

func openSQL(t *testing.T, url string) jobStore {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), url, sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// Issuer and subject are one identity: none of these is another, however the two are put together.
var strangers = []domain.Identity{
	{Issuer: "https://id.example.com", Subject: "bob"},
	{Issuer: "https://other.example.com", Subject: "alice"},
	{Issuer: "https://id.example.com", Subject: "Alice"},
	{Issuer: "https://id.example.com", Subject: "alice "},
	{Issuer: "https://id.example.com/alice", Subject: ""},
	{Issuer: "https://id.example.coma", Subject: "lice"},
	{Issuer: "", Subject: "https://id.example.com\x1falice"},
	{}, // who owns what came as a bare message
}

func TestAnothersJobIsNoJobWhateverTheStore(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			queue := jobs.NewQueue(store, time.Now, 1, time.Hour)
			api := intake.New(
				intake.Config{Policy: domain.DefaultPolicy(), Retention: domain.DefaultRetention, MaxBody: 1 << 20},
				intake.Backend{Store: store, Schedule: store, Dispatcher: queue, StoreIsQueue: true},
				intake.Front{Identify: func(r *http.Request) (domain.Principal, error) {
					var who domain.Identity
					err := json.Unmarshal([]byte(r.Header.Get("Test-Caller")), &who)
					return domain.Principal{Identity: who, Scopes: strings.Fields(r.Header.Get("Test-Scopes"))}, err
				}}, zap.NewNop())
			o := office{t: t, api: api}

			alice := caller{domain.Identity{Issuer: "https://id.example.com", Subject: "alice"}, "jobs:submit jobs:read jobs:cancel jobs:redrive"}
			var hers []string // one queued, one running, one dead, one cancelled, one succeeded
			for range 5 {
				_, job := o.call(alice, http.MethodPost, "/jobs", `{"name":"report"}`)
				hers = append(hers, job["id"].(string))
			}
			step := func(id string, change func(domain.Job) (domain.Job, error)) {
				if _, err := store.Update(t.Context(), id, change); err != nil {
					t.Fatal(err)
				}
			}
			claim := func(j domain.Job) (domain.Job, error) { return j.Claim(time.Now(), "token", "worker") }
			for _, id := range []string{hers[1], hers[4]} {
				step(id, claim)
			}
			step(hers[2], func(j domain.Job) (domain.Job, error) { return j.Bar(time.Now(), domain.ReasonRevoked) })
			step(hers[3], func(j domain.Job) (domain.Job, error) { return j.Cancel(time.Now(), domain.ReasonCancelled) })
			step(hers[4], func(j domain.Job) (domain.Job, error) {
				return j.Settle(time.Now(), "token", domain.Outcome{Output: []byte(`"hers"`)}, 0)
			})
			_, before := o.call(alice, http.MethodGet, "/jobs", "")
			_, first := o.call(alice, http.MethodGet, "/jobs?limit=1", "")

			for _, who := range strangers {
				stranger := caller{who, alice.scopes}
				_, nothing := o.call(stranger, http.MethodGet, "/jobs/00000000-0000-7000-8000-00000000000f", "")
				for _, id := range hers {
					for _, request := range [][2]string{{http.MethodGet, "/jobs/" + id}, {http.MethodPost, "/jobs/" + id + "/cancel"}, {http.MethodPost, "/jobs/" + id + "/redrive"}} {
						status, got := o.call(stranger, request[0], request[1], "")
						if diff := cmp.Diff(nothing, got); status != http.StatusNotFound || diff != "" {
							t.Errorf("%+v: %s: %d; it differs from a job that is not there (-not there +got):\n%s", who, request, status, diff)
						}
					}
				}
				for _, query := range []string{"", "?status=queued", "?status=dead", "?name=report", "?cursor=" + first["next_cursor"].(string)} {
					if status, page := o.call(stranger, http.MethodGet, "/jobs"+query, ""); status != http.StatusOK || !cmp.Equal(page["jobs"], []any{}) {
						t.Errorf("%+v: the list %s: %d %v", who, query, status, page)
					}
				}
			}
			if _, after := o.call(alice, http.MethodGet, "/jobs", ""); !cmp.Equal(before, after) || len(after["jobs"].([]any)) != len(hers) {
				t.Errorf("her jobs are no longer what they were:\n%s", cmp.Diff(before, after))
			}

			// And yet an admin finds every one of them.
			admin := caller{strangers[0], "jobs:admin"}
			var seen []string
			_, all := o.call(admin, http.MethodGet, "/jobs", "")
			for _, job := range all["jobs"].([]any) {
				seen = append(seen, job.(map[string]any)["id"].(string))
			}
			slices.Reverse(seen)
			if !slices.Equal(seen, hers) {
				t.Errorf("an admin sees %v, want %v", seen, hers)
			}
			if status, job := o.call(admin, http.MethodPost, "/jobs/"+hers[2]+"/redrive", ""); status != http.StatusOK {
				t.Errorf("an admin's redrive: %d %v", status, job)
			}
		})
	}
}

type caller struct {
	who    domain.Identity
	scopes string
}

type office struct {
	t   *testing.T
	api http.Handler
}

// call returns the status and the body, without what is another for each request.
func (o office) call(c caller, method, path, body string) (int, map[string]any) {
	o.t.Helper()
	who, err := json.Marshal(c.who)
	if err != nil {
		o.t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(o.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Test-Caller", string(who))
	r.Header.Set("Test-Scopes", c.scopes)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	o.api.ServeHTTP(w, r)
	if err := httpapitest.Breach(r, body, w.Code, w.Header(), w.Body.Bytes()); err != nil {
		o.t.Errorf("%s %s: %v", method, path, err)
	}
	var document map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil {
		o.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	delete(document, "request_id")
	return w.Code, document
}
