package api

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/domain"
)

// A Job is a job's document.
type Job struct {
	ID              string        `json:"id"`
	Name            string        `json:"name"`
	Status          domain.Status `json:"status"`
	Reason          domain.Reason `json:"reason"`
	Owner           Owner         `json:"owner"`
	Attempts        int           `json:"attempts"`
	MaxAttempts     int           `json:"max_attempts"`
	CancelRequested bool          `json:"cancel_requested"`
	Progress        *Progress     `json:"progress"`
	CreatedAt       time.Time     `json:"created_at"`
	UpdatedAt       time.Time     `json:"updated_at"`
	DueAt           time.Time     `json:"due_at"`
	FinishedAt      time.Time     `json:"finished_at"`
	ExpiresAt       time.Time     `json:"expires_at"`
	History         []Attempt     `json:"history"`

	Payload jsontext.Value `json:"payload"`
	Output  jsontext.Value `json:"output"`

	Raw jsontext.Value `json:"-"` // the document as the server sent it, on one line
}

// Finished reports whether the job has come to its end.
func (j Job) Finished() bool {
	return j.Status.Finished()
}

// LastError is what the last attempt that failed came to, empty when none did.
func (j Job) LastError() string {
	for _, a := range slices.Backward(j.History) {
		if a.Error != "" {
			return a.Error
		}
	}
	return ""
}

// An Owner is whose job it is; a job that came as a bare message has none.
type Owner struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// Progress is what the handler last said of the run.
type Progress struct {
	Percent int    `json:"percent"`
	Message string `json:"message"`
}

// An Attempt is one start of the handler.
type Attempt struct {
	Number    int       `json:"number"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at"`
	Worker    string    `json:"worker"`
	Error     string    `json:"error"`
}

// A Submission is a job that is asked for.
type Submission struct {
	Name    string
	Payload jsontext.Value // sent byte for byte; nil: none
	Delay   time.Duration
	RunAt   time.Time
}

// Document returns the submission as POST /jobs takes it.
func (s Submission) Document() ([]byte, error) {
	members := struct {
		Name  string    `json:"name"`
		Delay string    `json:"delay,omitzero"`
		RunAt time.Time `json:"run_at,omitzero"`
	}{Name: s.Name, RunAt: s.RunAt}
	if s.Delay > 0 {
		members.Delay = s.Delay.Round(time.Millisecond).String()
	}
	document, err := json.Marshal(members)
	if err != nil || s.Payload == nil {
		return document, err
	}
	document = append(document[:len(document)-1], `,"payload":`...)
	return append(append(document, s.Payload...), '}'), nil
}

// Submit submits a job under a key, which makes it safe to repeat: on 429, 503, a gateway's fault and when there was no
// answer it is tried again. replayed tells that the job was accepted before.
func (c *Client) Submit(ctx context.Context, document []byte, key string) (job Job, replayed bool, err error) {
	a, err := c.do(ctx, call{method: http.MethodPost, path: []string{"jobs"}, body: document, key: key, repeatable: true})
	if err != nil {
		return Job{}, false, err
	}
	job, err = readJob(a.body)
	return job, a.status == http.StatusOK, err
}

// Get returns a job's document.
func (c *Client) Get(ctx context.Context, id string) (Job, error) {
	return c.one(ctx, call{method: http.MethodGet, path: []string{"jobs", id}, repeatable: true}, id)
}

// Cancel cancels a job, or asks it to stop when it is running. It is not tried again when its outcome is not known.
func (c *Client) Cancel(ctx context.Context, id string) (Job, error) {
	return c.one(ctx, call{method: http.MethodPost, path: []string{"jobs", id, "cancel"}}, id)
}

// Redrive sends a dead or cancelled job back to the queue. It is not tried again when its outcome is not known.
func (c *Client) Redrive(ctx context.Context, id string) (Job, error) {
	return c.one(ctx, call{method: http.MethodPost, path: []string{"jobs", id, "redrive"}}, id)
}

func (c *Client) one(ctx context.Context, k call, id string) (Job, error) {
	a, err := c.do(ctx, k)
	if err != nil {
		return Job{}, err
	}
	job, err := readJob(a.body)
	if err == nil && job.ID != id {
		err = fmt.Errorf("%w: it is about another job", ErrAnswer)
	}
	return job, err
}

func readJob(document []byte) (Job, error) {
	var job Job
	if err := decode(document, &job); err != nil {
		return Job{}, err
	}
	if !domain.ValidID(job.ID) || !domain.ValidName(job.Name) || job.Status == "" {
		return Job{}, fmt.Errorf("%w: it is no job; is this the address of jobgate?", ErrAnswer)
	}
	raw, err := compact(document)
	job.Raw = raw
	return job, err
}

// MaxPage is the largest page of a listing.
const MaxPage = 100

// A Query is which jobs a listing has: those with the status and the name, where they are given.
type Query struct {
	Status string
	Name   string
}

// List yields the jobs that match, the newest first, at most limit of them; limit 0: all. It asks for a page when the one
// before has been used, and ends with the first error.
func (c *Client) List(ctx context.Context, q Query, limit int) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		query := url.Values{}
		for name, value := range map[string]string{"status": q.Status, "name": q.Name} {
			if value != "" {
				query.Set(name, value)
			}
		}
		for left := limit; ; {
			size := MaxPage
			if limit > 0 {
				size = min(size, left)
			}
			query.Set("limit", strconv.Itoa(size))
			page, next, err := c.page(ctx, query)
			if err != nil {
				yield(Job{}, err)
				return
			}
			for _, job := range page {
				if !yield(job, nil) {
					return
				}
				left--
				if limit > 0 && left == 0 {
					return
				}
			}
			if next == "" {
				return
			}
			if next == query.Get("cursor") {
				yield(Job{}, fmt.Errorf("%w: the next page is the same page", ErrAnswer))
				return
			}
			query.Set("cursor", next)
		}
	}
}

func (c *Client) page(ctx context.Context, query url.Values) ([]Job, string, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: []string{"jobs"}, query: query, repeatable: true})
	if err != nil {
		return nil, "", err
	}
	var page struct {
		Jobs []jsontext.Value `json:"jobs"`
		Next string           `json:"next_cursor"`
	}
	if err := decode(a.body, &page); err != nil {
		return nil, "", err
	}
	if page.Jobs == nil {
		return nil, "", fmt.Errorf("%w: it is no page of jobs; is this the address of jobgate?", ErrAnswer)
	}
	jobs := make([]Job, 0, len(page.Jobs))
	for _, document := range page.Jobs {
		job, err := readJob(document)
		if err != nil {
			return nil, "", err
		}
		jobs = append(jobs, job)
	}
	return jobs, page.Next, nil
}
