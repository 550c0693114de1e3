package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Run is one start of a job's handler: the job, the number of the attempt, and a way to report progress.
type Run = ports.Run

// HandlerFunc is a function as a ports.JobHandler, whose comment is the law for it.
type HandlerFunc func(ctx context.Context, run Run) (output []byte, err error)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, run Run) ([]byte, error) { return f(ctx, run) }

// Handlers maps job names, and patterns like "report.*", to the code that runs them. The most specific pattern wins;
// "*" is the fallback.
type Handlers map[string]HandlerFunc

// Validate returns what is wrong with the patterns, nil when nothing is.
func (h Handlers) Validate() []string {
	var problems []string
	for pattern, handler := range h {
		if !domain.ValidNamePattern(pattern) {
			problems = append(problems, fmt.Sprintf("handler %q: no job name or pattern like \"report.*\"", pattern))
		}
		if handler == nil {
			problems = append(problems, fmt.Sprintf("handler %q: is nil", pattern))
		}
	}
	return problems
}

// Handle runs the handler of the job's name. A job that no pattern matches fails and is retried: another version of
// the worker may know it.
func (h Handlers) Handle(ctx context.Context, run Run) ([]byte, error) {
	_, handler := h.match(run.Job.Name)
	if handler == nil {
		return nil, fmt.Errorf("no handler for jobs named %q", run.Job.Name)
	}
	return handler(ctx, run)
}

// Pattern returns the pattern that a job name is handled by, "" for none: a label for logs and metrics that no caller
// can choose.
func (h Handlers) Pattern(name string) string {
	pattern, _ := h.match(name)
	return pattern
}

func (h Handlers) match(name string) (string, HandlerFunc) {
	best, bestPattern := -1, ""
	for pattern := range h {
		if s := domain.MatchName(pattern, name); s > best {
			best, bestPattern = s, pattern
		}
	}
	return bestPattern, h[bestPattern]
}

// Middleware wraps a handler in what is to happen around each of its runs.
type Middleware func(HandlerFunc) HandlerFunc

// With returns the handlers wrapped in middleware, the first outermost.
func (h Handlers) With(middleware ...Middleware) Handlers {
	wrapped := make(Handlers, len(h))
	for pattern, handler := range h {
		for _, wrap := range slices.Backward(middleware) {
			if handler != nil {
				handler = wrap(handler)
			}
		}
		wrapped[pattern] = handler
	}
	return wrapped
}

// A TypedOption changes how Typed decodes a payload.
type TypedOption int

// RefuseUnknownMembers makes a payload that has a member which In does not a permanent error.
const RefuseUnknownMembers TypedOption = 1

// Typed makes a handler of a function that takes the payload as a Go value and returns its output as one. A payload
// that does not decode into In is a permanent error: no retry will mend it. No payload is In's zero value. The payload
// is decoded as encoding/json does it: members that In does not have are ignored, unless RefuseUnknownMembers says
// otherwise, and names match in any case.
func Typed[In, Out any](handle func(ctx context.Context, run Run, in In) (Out, error), options ...TypedOption) HandlerFunc {
	strict := slices.Contains(options, RefuseUnknownMembers)
	return func(ctx context.Context, run Run) ([]byte, error) {
		var in In
		if run.Job.Payload != nil {
			decode := json.Unmarshal
			if strict {
				decode = unmarshalKnown
			}
			if err := decode(run.Job.Payload, &in); err != nil {
				return nil, domain.Permanent(fmt.Errorf("decode payload: %w", err))
			}
		}
		out, err := handle(ctx, run, in)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(out)
		if err != nil {
			return nil, domain.Permanent(fmt.Errorf("encode output: %w", err))
		}
		return data, nil
	}
}

// unmarshalKnown is json.Unmarshal that refuses unknown members.
func unmarshalKnown(data []byte, v any) error {
	if !json.Valid(data) { // a decoder would stop after the first value
		return json.Unmarshal(data, v)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
