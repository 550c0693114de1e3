package httpapi_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/domain"
)

func get(path, token string) call { return call{method: http.MethodGet, path: path, token: token} }

func TestAJobIsItsOwnersAndTheAdmins(t *testing.T) {
	t.Parallel()
	s := newService()
	s.accepted(t, post(`{"name":"test-job"}`), http.StatusCreated)
	path := "/jobs/" + jobID(1)
	for _, token := range []string{"alice", "admin"} {
		if job := s.accepted(t, get(path, token), http.StatusOK); job.ID != jobID(1) || job.Owner.Issuer != "https://issuer.example" || job.Owner.Subject != "alice" {
			t.Errorf("%s sees %+v", token, job)
		}
	}
	others := s.refused(t, get(path, "bob"), http.StatusNotFound, domain.ReasonNotFound)
	missing := s.refused(t, get("/jobs/"+jobID(2), "bob"), http.StatusNotFound, domain.ReasonNotFound)
	if diff := cmp.Diff(missing, others); diff != "" {
		t.Errorf("another's job and a missing one can be told apart:\n%s", diff)
	}
	for _, step := range []string{"/cancel", "/redrive"} {
		s.refused(t, call{method: http.MethodPost, path: path + step, token: "bob"}, http.StatusNotFound, domain.ReasonNotFound)
	}
	if job := s.accepted(t, get(path, "alice"), http.StatusOK); job.Status != domain.Queued {
		t.Errorf("the job became %s", job.Status)
	}
}

func TestWhatIsNoCanonicalUUIDNamesNoJob(t *testing.T) {
	t.Parallel()
	s := newService()
	s.accepted(t, with(post(`{"name":"test-job"}`), "Idempotency-Key", "k"), http.StatusCreated)
	id := domain.KeyedID(callers["alice"].Identity, "k")
	for _, other := range []string{
		"1", "no-uuid", strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""), id + "0", id[:35], "%00", "%ff", "..%2f" + id, "%2e%2e", strings.Repeat("a", 5000),
	} {
		path := "/jobs/" + url.PathEscape(other)
		if strings.Contains(other, "%") {
			path = "/jobs/" + other
		}
		s.refused(t, get(path, "alice"), http.StatusNotFound, domain.ReasonNotFound)
		s.refused(t, call{method: http.MethodPost, path: path + "/cancel", token: "alice"}, http.StatusNotFound, domain.ReasonNotFound)
	}
	s.accepted(t, get("/jobs/"+id, "alice"), http.StatusOK)
}

// fill submits n jobs, by alice and bob in turn and under two names, a second apart but for pairs.
func fill(t *testing.T, s *service, n int) {
	t.Helper()
	for i := range n {
		c := post(fmt.Sprintf(`{"name":"job-%d","payload":%d}`, i/2%2, i))
		if i%2 == 1 {
			c.token = "bob"
		} else {
			s.now = s.now.Add(time.Second)
		}
		s.accepted(t, c, http.StatusCreated)
	}
}

// walk follows the pages from the first and returns the ids on them.
func walk(t *testing.T, s *service, token string, query url.Values) []string {
	t.Helper()
	var ids []string
	for range 100 {
		a := s.do(t, get("/jobs?"+query.Encode(), token))
		if a.status != http.StatusOK {
			t.Fatalf("answer %d %s", a.status, a.body)
		}
		page := decode[pageDocument](t, a.body)
		for _, job := range page.Jobs {
			ids = append(ids, job.ID)
		}
		if page.NextCursor == "" {
			return ids
		}
		query.Set("cursor", page.NextCursor)
	}
	t.Fatal("the pages do not end")
	return nil
}

func TestListPagesThroughTheCallersJobsNewestFirst(t *testing.T) {
	t.Parallel()
	s := newService()
	fill(t, s, 60)
	var all, alices, named []string
	for i := 60; i >= 1; i-- {
		all = append(all, jobID(i))
		if i%2 == 1 {
			alices = append(alices, jobID(i))
			if (i-1)/2%2 == 1 {
				named = append(named, jobID(i))
			}
		}
	}
	for name, tt := range map[string]struct {
		token, query string
		want         []string
	}{
		"an owner's":         {"alice", "", alices},
		"by ones":            {"alice", "limit=1", alices},
		"by sevens":          {"alice", "limit=7", alices},
		"all at once":        {"alice", "limit=100", alices},
		"an admin's":         {"admin", "limit=7", all},
		"by name":            {"alice", "name=job-1&limit=4", named},
		"by status":          {"alice", "status=queued&limit=20", alices},
		"by name and status": {"alice", "name=job-1&status=queued", named},
		"by another status":  {"alice", "status=dead", nil},
		"of nobody's":        {"reader", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			query, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, walk(t, s, tt.token, query)); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAListHasTwentyJobsUnlessAskedOtherwise(t *testing.T) {
	t.Parallel()
	s := newService()
	fill(t, s, 60)
	for query, want := range map[string]int{"": 20, "?limit=1": 1, "?limit=25": 25} {
		if page := decode[pageDocument](t, s.do(t, get("/jobs"+query, "alice")).body); len(page.Jobs) != want || page.NextCursor == "" {
			t.Errorf("%q: %d jobs, next %q", query, len(page.Jobs), page.NextCursor)
		}
	}
}

func TestAPageOfTheLargestJobsFitsALambdasAnswer(t *testing.T) {
	t.Parallel()
	s := newService()
	payload := []byte(`"` + strings.Repeat("x", domain.MaxPayload-2) + `"`)
	output := []byte(`"` + strings.Repeat("x", domain.MaxOutput-2) + `"`)
	for n := range 100 {
		lived(t, s, n+1, domain.JobSpec{Owner: callers["alice"].Identity, Payload: payload}, []life{
			claim(time.Second), settle(2*time.Second, domain.Outcome{Output: output}),
		})
	}
	if a := s.do(t, get("/jobs?limit=100", "alice")); a.status != http.StatusOK || len(a.body) > 6<<20 {
		t.Errorf("answer %d of %d bytes", a.status, len(a.body))
	}
}

// A cursor of one caller's list is a position, and opens nothing in another's.
func TestACursorNamesNoOwner(t *testing.T) {
	t.Parallel()
	s := newService()
	fill(t, s, 6)
	page := decode[pageDocument](t, s.do(t, get("/jobs?limit=1", "alice")).body)
	got := walk(t, s, "bob", url.Values{"cursor": {page.NextCursor}})
	if want := []string{jobID(4), jobID(2)}; !slices.Equal(got, want) {
		t.Errorf("bob sees %v, want %v", got, want)
	}
}

func TestAWrongQueryIsRefusedByName(t *testing.T) {
	t.Parallel()
	s := newService()
	for query, detail := range map[string]string{
		"page=2":                    `the parameter "page" is not known; there are status, name, limit and cursor`,
		"Status=dead":               `the parameter "Status" is not known; there are status, name, limit and cursor`,
		"owner=bob":                 `the parameter "owner" is not known; there are status, name, limit and cursor`,
		"=1":                        `the parameter "" is not known; there are status, name, limit and cursor`,
		"%ff":                       `the parameter "\xff" is not known; there are status, name, limit and cursor`,
		strings.Repeat("x", 1000):   `the parameter "` + strings.Repeat("x", 40) + `" is not known; there are status, name, limit and cursor`,
		"limit=1&limit=1":           "the parameter limit is given more than once",
		"status=dead&status=queued": "the parameter status is given more than once",
		"limit=0":                   "limit must be 1 to 100",
		"limit=101":                 "limit must be 1 to 100",
		"limit=-1":                  "limit must be 1 to 100",
		"limit=%2B1":                "limit must be 1 to 100",
		"limit=1.0":                 "limit must be 1 to 100",
		"limit=257":                 "limit must be 1 to 100",
		"limit":                     "limit must be 1 to 100",
		"status=":                   "status must be one of queued, running, succeeded, dead and cancelled",
		"status=QUEUED":             "status must be one of queued, running, succeeded, dead and cancelled",
		"name=":                     "name must be a job name",
		"name=a*":                   "name must be a job name",
		"cursor=":                   "cursor must be the next_cursor of another page",
		"cursor=AAAA":               "cursor must be the next_cursor of another page",
		"limit=%zz":                 "the query is not URL-encoded",
		"limit=1;status=dead":       "the query is not URL-encoded",
	} {
		if p := s.refused(t, get("/jobs?"+query, "alice"), http.StatusBadRequest, domain.ReasonInvalidQuery); p.Detail != detail {
			t.Errorf("%s: detail %q, want %q", query, p.Detail, detail)
		}
	}
}

func FuzzCursor(f *testing.F) {
	s := newService()
	for range 3 {
		s.now = s.now.Add(time.Second)
		s.accepted(f, post(`{"name":"test-job"}`), http.StatusCreated)
	}
	page := decode[pageDocument](f, s.do(f, get("/jobs?limit=1", "alice")).body)
	for _, cursor := range []string{page.NextCursor, page.NextCursor + "=", page.NextCursor[:31] + "\n", strings.Repeat("_", 32), strings.Repeat("A", 32), ""} {
		f.Add(cursor)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		a := s.do(t, get("/jobs?cursor="+url.QueryEscape(cursor), "alice"))
		if a.status != http.StatusOK && a.status != http.StatusBadRequest {
			t.Errorf("answer %d %s", a.status, a.body)
		}
	})
}

func TestCancelAndRedrive(t *testing.T) {
	t.Parallel()
	s := newService()
	s.accepted(t, post(`{"name":"test-job","payload":{"a": 1}}`), http.StatusCreated)
	step := func(name string) call {
		return call{method: http.MethodPost, path: "/jobs/" + jobID(1) + name, token: "alice"}
	}
	s.refused(t, step("/redrive"), http.StatusConflict, domain.ReasonNotRedrivable)
	if job := s.accepted(t, step("/cancel"), http.StatusOK); job.Status != domain.Cancelled {
		t.Errorf("cancelled: %+v", job)
	}
	s.refused(t, step("/cancel"), http.StatusConflict, domain.ReasonFinished)
	if job := s.accepted(t, step("/redrive"), http.StatusOK); job.Status != domain.Queued || string(job.Payload) != `{"a": 1}` || s.dispatcher.dispatched != 2 {
		t.Errorf("redriven: %+v, dispatched %d", job, s.dispatcher.dispatched)
	}
	if _, err := s.store.Update(t.Context(), jobID(1), func(job domain.Job) (domain.Job, error) {
		return job.Claim(s.now, "token", "worker-1")
	}); err != nil {
		t.Fatal(err)
	}
	if job := s.accepted(t, step("/cancel"), http.StatusOK); job.Status != domain.Running || !job.CancelRequested {
		t.Errorf("a running job, cancelled: %+v", job)
	}
	missing := step("/cancel")
	missing.path = "/jobs/" + jobID(9) + "/cancel"
	s.refused(t, missing, http.StatusNotFound, domain.ReasonNotFound)
}

func TestAStepTakesNoBodyButAnEmptyObject(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body   string
		header http.Header
		status int
		code   domain.Reason
	}{
		"none":             {"", nil, 200, ""},
		"none, of a type":  {"", http.Header{"Content-Type": {"text/plain"}}, 200, ""},
		"an empty object":  {"{ }", nil, 200, ""},
		"a member":         {`{"reason":"x"}`, nil, 400, domain.ReasonMalformed},
		"null":             {`null`, nil, 400, domain.ReasonMalformed},
		"an array":         {`[]`, nil, 400, domain.ReasonMalformed},
		"no JSON":          {`now`, nil, 400, domain.ReasonMalformed},
		"two objects":      {`{}{}`, nil, 400, domain.ReasonMalformed},
		"of another type":  {`{}`, http.Header{"Content-Type": {"text/plain"}}, 415, domain.ReasonUnsupportedMediaType},
		"an oversized one": {strings.Repeat(" ", 240<<10) + "{}", nil, 413, domain.ReasonTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService()
			s.accepted(t, post(`{"name":"test-job","delay":"1h"}`), http.StatusCreated)
			c := call{method: http.MethodPost, path: "/jobs/" + jobID(1) + "/cancel", token: "alice", body: tt.body, header: tt.header}
			if tt.code == "" {
				s.accepted(t, c, tt.status)
				return
			}
			s.refused(t, c, tt.status, tt.code)
			if job := s.stored(t)[0]; job.Status != domain.Queued {
				t.Errorf("the job became %s", job.Status)
			}
		})
	}
}
