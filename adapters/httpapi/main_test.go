package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/httpapi"
	"github.com/jobgate/jobgate/adapters/httpapi/httpapitest"
	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/adapters/wire/bearer"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

var update = flag.Bool("update", false, "write the golden files anew")

var start = time.Date(2026, 1, 2, 15, 4, 5, 678e6, time.UTC)

// callers are who can call, by their token.
var callers = map[string]domain.Principal{
	"alice":  caller("alice", "jobs:submit", "jobs:read", "jobs:cancel", "jobs:redrive"),
	"bob":    caller("bob", "jobs:submit", "jobs:read", "jobs:cancel", "jobs:redrive"),
	"reader": caller("reader", "jobs:read"),
	"admin":  caller("admin", "jobs:admin"),
}

func caller(subject string, scopes ...string) domain.Principal {
	return domain.Principal{Identity: domain.Identity{Issuer: "https://issuer.example", Subject: subject}, Scopes: scopes}
}

// A service is an API over a memory store, with all that it did in reach.
type service struct {
	httpapi.Options
	store      *memory.Store
	dispatcher *dispatcher
	handler    http.Handler
	now        time.Time

	mu       sync.Mutex
	failures []httpapi.Failure
}

// newService returns a service whose options change may adapt.
func newService(change ...func(*service)) *service {
	s := &service{now: start, dispatcher: &dispatcher{}}
	clock := func() time.Time { return s.now }
	s.store = memory.NewStore(clock)
	policy, ids := domain.DefaultPolicy(), 0
	s.Options = httpapi.Options{
		Submit: &jobs.Submit{
			Store: s.store, Dispatcher: s.dispatcher, Policy: policy, Retention: domain.DefaultRetention, Now: clock,
			NewID: func() string {
				ids++
				return jobID(ids)
			},
		},
		Query:     &jobs.Query{Store: s.store, Policy: policy, Now: clock},
		Change:    &jobs.Change{Store: s.store, Dispatcher: s.dispatcher, Policy: policy, Now: clock},
		Identify:  identify,
		RequestID: func(*http.Request) string { return "req-1" },
		Log: func(_ context.Context, f httpapi.Failure) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.failures = append(s.failures, f)
		},
	}
	for _, c := range change {
		c(s)
	}
	s.handler = httpapi.New(s.Options)
	return s
}

func jobID(n int) string { return fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n) }

func identify(r *http.Request) (domain.Principal, error) {
	token, err := bearer.Token(r.Header.Get("Authorization"))
	if err != nil {
		return domain.Principal{}, err
	}
	who, ok := callers[token]
	if !ok {
		return domain.Principal{}, domain.Errorf(domain.Unauthenticated, domain.ReasonInvalidSignature, "unknown token")
	}
	return who, nil
}

// A dispatcher counts what it is given, or fails.
type dispatcher struct {
	dispatched int
	err, fits  error
}

func (d *dispatcher) Fits(domain.Job) error { return d.fits }

func (d *dispatcher) Dispatch(context.Context, domain.Job) error {
	if d.err == nil {
		d.dispatched++
	}
	return d.err
}

// stored returns all jobs of the store.
func (s *service) stored(t testing.TB) []domain.Job {
	t.Helper()
	page, err := s.store.List(t.Context(), everything)
	if err != nil {
		t.Fatal(err)
	}
	return page.Jobs
}

// A call is a request.
type call struct {
	method, path string
	token        string
	body         string
	reader       io.Reader // instead of body: of a length that is not told
	header       http.Header
	ctx          context.Context
}

func (c call) request(t testing.TB) *http.Request {
	t.Helper()
	var body io.Reader = strings.NewReader(c.body)
	if c.reader != nil {
		body = c.reader
	}
	ctx := c.ctx
	if ctx == nil {
		ctx = t.Context()
	}
	r := httptest.NewRequestWithContext(ctx, c.method, c.path, body)
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.body != "" || c.reader != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	maps.Copy(r.Header, c.header)
	return r
}

// An answer is a response, read to its end and held against the contract.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes a call and checks the answer.
func (s *service) do(t testing.TB, c call) answer {
	t.Helper()
	w := httptest.NewRecorder()
	r := c.request(t)
	s.handler.ServeHTTP(w, r)
	a := answer{w.Code, w.Header(), w.Body.Bytes()}
	check(t, r, c.body, a)
	return a
}

// refused makes a call and expects a problem document.
func (s *service) refused(t testing.TB, c call, status int, code domain.Reason) problemDocument {
	t.Helper()
	a := s.do(t, c)
	p := decode[problemDocument](t, a.body)
	if a.status != status || p.Status != status || p.Code != code || p.RequestID != "req-1" {
		t.Errorf("answer %d %s, want %d %s of request req-1", a.status, a.body, status, code)
	}
	return p
}

// accepted makes a call and expects a job.
func (s *service) accepted(t testing.TB, c call, status int) jobDocument {
	t.Helper()
	a := s.do(t, c)
	if a.status != status {
		t.Fatalf("answer %d %s, want %d", a.status, a.body, status)
	}
	return decode[jobDocument](t, a.body)
}

type problemDocument struct {
	Status    int
	Code      domain.Reason
	Detail    string
	RequestID string `json:"request_id"`
	Errors    []struct{ Pointer, Detail string }
}

type jobDocument struct {
	ID, Name        string
	Status          domain.Status
	Payload         json.RawMessage
	Owner           struct{ Issuer, Subject string }
	Attempts        int
	CancelRequested bool   `json:"cancel_requested"`
	DueAt           string `json:"due_at"`
}

type pageDocument struct {
	Jobs       []jobDocument
	NextCursor string `json:"next_cursor"`
}

func decode[T any](t testing.TB, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return v
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	got = append(bytes.Clone(got), '\n')
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", file, got, want)
	}
}

// check fails the test when an answer breaks the contract: the OpenAPI document, and what holds for every answer.
func check(t testing.TB, r *http.Request, body string, a answer) {
	t.Helper()
	if err := httpapitest.Breach(r, body, a.status, a.header, a.body); err != nil {
		t.Errorf("%s %s, answer %d %s: %v", r.Method, r.URL, a.status, a.body, err)
	}
}
