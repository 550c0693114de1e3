package httpapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/domain"
)

// A life is the steps that a job has taken when it is asked for.
type life func(t *testing.T, job domain.Job) domain.Job

func claim(after time.Duration) life {
	return func(t *testing.T, job domain.Job) domain.Job {
		t.Helper()
		return must(t)(job.Claim(start.Add(after), fmt.Sprint("lease-", after), "worker-1"))
	}
}

func report(after time.Duration, p domain.Progress) life {
	return func(t *testing.T, job domain.Job) domain.Job {
		t.Helper()
		return must(t)(job.Report(start.Add(after), job.Lease.Token, p))
	}
}

func settle(after time.Duration, o domain.Outcome) life {
	return func(t *testing.T, job domain.Job) domain.Job {
		t.Helper()
		return must(t)(job.Settle(start.Add(after), job.Lease.Token, o, 0))
	}
}

func cancel(after time.Duration) life {
	return func(t *testing.T, job domain.Job) domain.Job {
		t.Helper()
		return must(t)(job.Cancel(start.Add(after), domain.ReasonCancelled))
	}
}

func redrive(after time.Duration) life {
	return func(t *testing.T, job domain.Job) domain.Job {
		t.Helper()
		return must(t)(job.Redrive(start.Add(after)))
	}
}

func must(t *testing.T) func(domain.Job, error) domain.Job {
	t.Helper()
	return func(job domain.Job, err error) domain.Job {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
}

// lives are jobs in every status, by the name of their golden file.
var lives = map[string][]life{
	"queued":             nil,
	"queued-for-a-retry": {claim(time.Second), settle(2*time.Second, domain.Outcome{Err: errors.New("the printer is <on> fire & \"hot\"")})},
	"running":            {claim(time.Second), report(2*time.Second, domain.Progress{Percent: 40, Message: "4 of 10 pages"})},
	"running-cancelling": {claim(time.Second), report(2*time.Second, domain.Progress{Percent: 40}), cancel(3 * time.Second)},
	"succeeded": {
		claim(time.Second), settle(2*time.Second, domain.Outcome{Err: errors.New("not yet")}),
		claim(time.Minute), settle(2*time.Minute, domain.Outcome{Output: []byte("{ \"url\":\"https:\\/\\/x.example\\/?a=1&b=<2>\",\n \"pages\": 1.0 }")}),
	},
	"dead":      {claim(time.Second), settle(2*time.Second, domain.Outcome{Err: domain.Permanent(errors.New("there is no such report"))})},
	"cancelled": {cancel(time.Second)},
	"redriven": {
		claim(time.Second), settle(2*time.Second, domain.Outcome{Err: domain.Permanent(errors.New("there is no such report"))}),
		redrive(time.Minute),
	},
}

func lived(t *testing.T, s *service, n int, spec domain.JobSpec, steps []life) {
	t.Helper()
	spec.ID, spec.Name, spec.Retry, spec.Retention = jobID(n), "report.render", domain.DefaultRetryPolicy, domain.DefaultRetention
	job := must(t)(domain.NewJob(spec, start))
	for _, step := range steps {
		job = step(t, job)
	}
	if _, _, err := s.store.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
}

func TestJobDocumentsAreGolden(t *testing.T) {
	t.Parallel()
	for name, steps := range lives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService()
			lived(t, s, 1, domain.JobSpec{
				Owner: callers["alice"].Identity, TokenID: "secret-token-id", IdempotencyKey: "secret-key",
				TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Payload: []byte(`{"page": 1, "page":2.50}`),
			}, steps)
			a := s.do(t, get("/jobs/"+jobID(1), "alice"))
			if a.status != http.StatusOK {
				t.Fatalf("answer %d %s", a.status, a.body)
			}
			golden(t, "job/"+name+".json", a.body)
			for _, inner := range []string{"secret", "lease", "0af76519"} {
				if strings.Contains(string(a.body), inner) {
					t.Errorf("the document has %q: %s", inner, a.body)
				}
			}
		})
	}
}

// A job that came as a bare message has no owner and no payload.
func TestAnOwnerlessJobIsGolden(t *testing.T) {
	t.Parallel()
	s := newService()
	lived(t, s, 1, domain.JobSpec{}, nil)
	golden(t, "job/ownerless.json", s.do(t, get("/jobs/"+jobID(1), "admin")).body)
	s.refused(t, get("/jobs/"+jobID(1), "alice"), http.StatusNotFound, domain.ReasonNotFound)
}

func TestPagesAreGolden(t *testing.T) {
	t.Parallel()
	s := newService()
	for n, name := range []string{"queued", "running", "succeeded", "dead"} {
		lived(t, s, n+1, domain.JobSpec{Owner: callers["alice"].Identity, Payload: []byte(`{"page": 1}`)}, lives[name])
	}
	golden(t, "page/first.json", s.do(t, get("/jobs?limit=3", "alice")).body)
	golden(t, "page/last.json", s.do(t, get("/jobs?limit=4", "alice")).body)
	golden(t, "page/empty.json", s.do(t, get("/jobs", "bob")).body)
}

// What a worker is called is not in our hands.
func TestTextThatIsNoUTF8IsMended(t *testing.T) {
	t.Parallel()
	s := newService()
	lived(t, s, 1, domain.JobSpec{Owner: callers["alice"].Identity}, []life{func(t *testing.T, job domain.Job) domain.Job {
		t.Helper()
		return must(t)(job.Claim(start, "token", "worker-\xff"))
	}})
	if a := s.do(t, get("/jobs/"+jobID(1), "alice")); a.status != http.StatusOK || !strings.Contains(string(a.body), "\"worker\":\"worker-\ufffd\"") {
		t.Errorf("answer %d %s", a.status, a.body)
	}
}
