package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// document is a JSON object that is being written: of a job as callers see it, or of a page of them. How a job is leased,
// checked and dispatched is not theirs to build on.
type document []byte

// documentRoom is room for most documents of a job without its payload and output.
const documentRoom = 512

// summary writes a job's document as a listing has it: what grows with the job is left away, because a page of the largest
// jobs would exceed the 6 MB of a Lambda function's answer many times over.
func (d *document) summary(job domain.Job) {
	d.text("id", job.ID)
	d.text("name", job.Name)
	d.text("status", string(job.Status))
	d.optional("reason", string(job.Reason))
	if !job.Owner.IsZero() {
		d.object("owner")
		d.text("issuer", job.Owner.Issuer)
		d.text("subject", job.Owner.Subject)
		d.end()
	}
	d.number("attempts", job.Attempts)
	d.number("max_attempts", job.Retry.Attempts)
	if job.CancelRequested {
		d.raw("cancel_requested", []byte("true"))
	}
	if job.Progress != (domain.Progress{}) {
		d.object("progress")
		d.number("percent", job.Progress.Percent)
		d.optional("message", job.Progress.Message)
		d.end()
	}
	d.time("created_at", job.CreatedAt)
	d.time("updated_at", job.UpdatedAt)
	d.time("due_at", job.DueAt)
	d.time("finished_at", job.FinishedAt)
	d.time("expires_at", job.ExpiresAt)
}

// encodeJob returns a job's whole document. Payload and output are in it byte for byte.
func encodeJob(job domain.Job) []byte {
	d := make(document, 0, documentRoom+len(job.Payload)+len(job.Output))
	d.begin()
	d.summary(job)
	d.list("history") // there, if empty
	for _, h := range job.History {
		d.begin()
		d.number("number", h.Number)
		d.time("started_at", h.StartedAt)
		d.time("ended_at", h.EndedAt)
		d.optional("worker", h.Worker)
		d.optional("error", h.Error)
		d.end()
	}
	d.endList()
	d.raw("payload", job.Payload)
	d.raw("output", job.Output)
	d.end()
	return d
}

func encodePage(page ports.JobPage) []byte {
	d := make(document, 0, documentRoom*(len(page.Jobs)+1))
	d.begin()
	d.list("jobs")
	for _, job := range page.Jobs {
		d.begin()
		d.summary(job)
		d.end()
	}
	d.endList()
	d.optional("next_cursor", formatCursor(page.Next))
	d.end()
	return d
}

// begin begins an object in a list, or the document.
func (d *document) begin() {
	d.comma()
	*d = append(*d, '{')
}

func (d *document) end()               { *d = append(*d, '}') }
func (d *document) endList()           { *d = append(*d, ']') }
func (d *document) object(name string) { *d = append(d.member(name), '{') }
func (d *document) list(name string)   { *d = append(d.member(name), '[') }

// text writes a string. What is no UTF-8 in it, as a worker's name may be anything, becomes U+FFFD.
func (d *document) text(name, value string) {
	*d, _ = jsontext.AppendQuote(d.member(name), value) // its error tells of U+FFFD
}

func (d *document) optional(name, value string) {
	if value != "" {
		d.text(name, value)
	}
}

func (d *document) number(name string, n int) { *d = strconv.AppendInt(d.member(name), int64(n), 10) }

// time writes a time as RFC 3339 in UTC with milliseconds, as exact as jobs keep it; the zero time is left out.
func (d *document) time(name string, t time.Time) {
	if !t.IsZero() {
		*d = append(t.UTC().AppendFormat(append(d.member(name), '"'), "2006-01-02T15:04:05.000Z"), '"')
	}
}

// raw writes JSON as it is; nil is left out.
func (d *document) raw(name string, value []byte) {
	if value != nil {
		*d = append(d.member(name), value...)
	}
}

// member appends what is in front of a value. Our names need no escapes.
func (d *document) member(name string) []byte {
	d.comma()
	return append(append(append(*d, '"'), name...), `":`...)
}

func (d *document) comma() {
	if n := len(*d); n > 0 && (*d)[n-1] != '{' && (*d)[n-1] != '[' {
		*d = append(*d, ',')
	}
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone is not told
}
