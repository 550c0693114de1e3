package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// document is a job as callers see it, without its payload and output, which are spliced in as they are. How a job is
// leased, checked and dispatched is not theirs to build on.
type document struct {
	ID              string        `json:"id"`
	Name            string        `json:"name"`
	Status          domain.Status `json:"status"`
	Reason          domain.Reason `json:"reason,omitzero"`
	Owner           *owner        `json:"owner,omitzero"`
	Attempts        int           `json:"attempts"`
	MaxAttempts     int           `json:"max_attempts"`
	CancelRequested bool          `json:"cancel_requested,omitzero"`
	Progress        *progress     `json:"progress,omitzero"`
	CreatedAt       string        `json:"created_at"`
	UpdatedAt       string        `json:"updated_at"`
	DueAt           string        `json:"due_at"`
	FinishedAt      string        `json:"finished_at,omitzero"`
	ExpiresAt       string        `json:"expires_at,omitzero"`
	History         []attempt     `json:"history,omitzero"`
}

type owner struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

type progress struct {
	Percent int    `json:"percent"`
	Message string `json:"message,omitzero"`
}

type attempt struct {
	Number    int    `json:"number"`
	StartedAt string `json:"started_at"`
	EndedAt   string `json:"ended_at,omitzero"`
	Worker    string `json:"worker,omitzero"`
	Error     string `json:"error,omitzero"`
}

// summary is a job's document as a listing has it: what grows with the job is left away, because a page of the largest
// jobs would exceed the 6 MB of a Lambda function's answer many times over.
func summary(job domain.Job) document {
	d := document{
		ID: job.ID, Name: job.Name, Status: job.Status, Reason: job.Reason,
		Attempts: job.Attempts, MaxAttempts: job.Retry.Attempts, CancelRequested: job.CancelRequested,
		CreatedAt: stamp(job.CreatedAt), UpdatedAt: stamp(job.UpdatedAt), DueAt: stamp(job.DueAt),
		FinishedAt: stamp(job.FinishedAt), ExpiresAt: stamp(job.ExpiresAt),
	}
	if !job.Owner.IsZero() {
		d.Owner = &owner{job.Owner.Issuer, job.Owner.Subject}
	}
	if job.Progress != (domain.Progress{}) {
		d.Progress = &progress{job.Progress.Percent, job.Progress.Message}
	}
	return d
}

// encodeJob returns a job's whole document. Payload and output are in it byte for byte.
func encodeJob(job domain.Job) []byte {
	d := summary(job)
	d.History = make([]attempt, 0, len(job.History)) // there, if empty
	for _, h := range job.History {
		d.History = append(d.History, attempt{
			Number: h.Number, StartedAt: stamp(h.StartedAt), EndedAt: stamp(h.EndedAt), Worker: h.Worker, Error: h.Error,
		})
	}
	return splice(splice(encode(d), "payload", job.Payload), "output", job.Output)
}

// splice adds a member to an object, its value as it is; nil adds none.
func splice(object []byte, name string, value []byte) []byte {
	if value == nil {
		return object
	}
	object = slices.Grow(object, len(name)+len(value)+len(`,"":`))
	object = append(object[:len(object)-1], `,"`+name+`":`...)
	object = append(object, value...)
	return append(object, '}')
}

func encodePage(page ports.JobPage) []byte {
	out := struct {
		Jobs       []document `json:"jobs"`
		NextCursor string     `json:"next_cursor,omitzero"`
	}{make([]document, 0, len(page.Jobs)), formatCursor(page.Next)}
	for _, job := range page.Jobs {
		out.Jobs = append(out.Jobs, summary(job))
	}
	return encode(out)
}

func encode(v any) []byte {
	data, err := json.Marshal(v, jsontext.AllowInvalidUTF8(true)) // a worker's name may be anything
	if err != nil {
		panic("httpapi: strings and numbers do not encode: " + err.Error())
	}
	return data
}

// stamp writes a time as RFC 3339 in UTC with milliseconds, as exact as jobs keep it; the zero time is "".
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON that may not be sniffed is no page; a client that is gone is not told
}
