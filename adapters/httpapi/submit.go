package httpapi

import (
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// submission is the body of POST /jobs. The times are strings here, so that a wrong one is told by its pointer.
type submission struct {
	Name    string         `json:"name"`
	Payload strictjson.Raw `json:"payload"`
	Delay   *string        `json:"delay"`
	RunAt   *string        `json:"run_at"`
}

func (a *api) submit(w http.ResponseWriter, r *http.Request, who domain.Principal) error {
	key, err := idempotencyKey(r.Header)
	if err != nil {
		return err
	}
	var body submission
	if present, err := a.read(w, r, &body); err != nil {
		return err
	} else if !present {
		return malformed("there is no body")
	}
	delay, runAt, err := body.due()
	if err != nil {
		return err
	}
	job, replayed, err := a.Submit.Do(r.Context(), who, jobs.Submission{
		Name: body.Name, Payload: body.Payload, Delay: delay, RunAt: runAt,
		IdempotencyKey: key, TraceParent: traceParent(r.Header),
	})
	if err != nil {
		return err
	}
	if replayed {
		w.Header().Set("Idempotent-Replayed", "true")
		writeJSON(w, http.StatusOK, encodeJob(job))
		return nil
	}
	prefix := ""
	if a.Prefix != nil {
		prefix = a.Prefix(r)
	}
	w.Header().Set("Location", prefix+"/jobs/"+job.ID)
	writeJSON(w, http.StatusCreated, encodeJob(job))
	return nil
}

// What the API takes of time's languages. Durations have no sign, no bare point, and no unit below what a job's times
// are kept in. Times are RFC 3339 to the letter, where time.Parse knows a comma and an hour of one digit.
var (
	duration = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`)
	instant  = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$`)
)

// due reads when the job is to start: after a delay, or at a time. Whether that is in bounds is the domain's to say.
func (s submission) due() (delay time.Duration, runAt time.Time, err error) {
	var wrong []domain.FieldError
	if s.Delay != nil {
		if delay, err = time.ParseDuration(*s.Delay); err != nil || !duration.MatchString(*s.Delay) {
			wrong = append(wrong, domain.FieldError{Pointer: "/delay", Detail: "must be a duration such as 90s, 15m or 1h30m"})
		}
	}
	if s.RunAt != nil {
		if runAt, err = time.Parse(time.RFC3339, *s.RunAt); err != nil || !instant.MatchString(*s.RunAt) {
			wrong = append(wrong, domain.FieldError{Pointer: "/run_at", Detail: "must be an RFC 3339 time such as 2006-01-02T15:04:05Z"})
		}
	}
	if s.Delay != nil && s.RunAt != nil {
		wrong = append(wrong, domain.FieldError{Pointer: "/delay", Detail: "must not be given together with run_at"})
	}
	if wrong != nil {
		return 0, time.Time{}, invalidFields(wrong)
	}
	return delay, runAt, nil
}

// idempotencyKey returns the one key of the header, empty for none. What a key may be is the use case's to say, but
// that an empty one is none.
func idempotencyKey(h http.Header) (string, error) {
	values := h.Values("Idempotency-Key")
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", invalidKey("the header Idempotency-Key is given more than once")
	case values[0] == "":
		return "", invalidKey("the idempotency key must be 1 to 255 visible ASCII characters")
	default:
		return values[0], nil
	}
}

// traceParent returns the header of W3C Trace Context (https://www.w3.org/TR/trace-context/#traceparent-header), in
// version 00, or "": a header that is malformed, repeated or of another version starts no error, only no trace.
func traceParent(h http.Header) string {
	values := h.Values("Traceparent")
	if len(values) != 1 {
		return ""
	}
	parts := strings.Split(values[0], "-")
	if len(parts) != 4 || parts[0] != "00" || !isHex(parts[1], 32) || !isHex(parts[2], 16) || !isHex(parts[3], 2) ||
		strings.Trim(parts[1], "0") == "" || strings.Trim(parts[2], "0") == "" {
		return ""
	}
	return values[0]
}

func isHex(s string, length int) bool {
	return len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}
