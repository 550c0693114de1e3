package jobs_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

func TestTheMostSpecificHandlerRuns(t *testing.T) {
	t.Parallel()
	says := func(output string) jobs.HandlerFunc {
		return func(context.Context, jobs.Run) ([]byte, error) { return []byte(output), nil }
	}
	some := jobs.Handlers{"report.*": says("reports"), "report.daily": says("daily"), "report.d*": says("d"), "mail": says("mail")}
	all := jobs.Handlers{"*": says("rest"), "report.*": says("reports")}
	tests := []struct {
		handlers     jobs.Handlers
		name         string
		pattern, out string // empty: none
	}{
		{some, "report.daily", "report.daily", "daily"},
		{some, "report.dull", "report.d*", "d"},
		{some, "report.daily2", "report.d*", "d"},
		{some, "report.weekly", "report.*", "reports"},
		{some, "mail", "mail", "mail"},
		{some, "mail.send", "", ""},
		{some, "report", "", ""},
		{all, "report.daily", "report.*", "reports"},
		{all, "mail", "*", "rest"},
		{nil, "mail", "", ""},
	}
	for _, tt := range tests {
		if got := tt.handlers.Pattern(tt.name); got != tt.pattern {
			t.Errorf("%s is handled by %q, want %q", tt.name, got, tt.pattern)
		}
		out, err := tt.handlers.Handle(t.Context(), jobs.Run{Job: domain.Job{Name: tt.name}})
		if string(out) != tt.out || (err == nil) != (tt.pattern != "") {
			t.Errorf("%s: output %q, %v; want %q", tt.name, out, err, tt.out)
		}
		if err != nil && domain.IsPermanent(err) {
			t.Errorf("%s: %v is permanent: another version of the worker may know the job", tt.name, err)
		}
	}
}

func TestHandlersGetTheRunAndTheContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	failure := errors.New("boom")
	handlers := jobs.Handlers{"*": func(ctx context.Context, run jobs.Run) ([]byte, error) {
		if ctx.Value(key{}) != "here" || run.Job.ID != alicesJob || run.Attempt != 7 {
			t.Errorf("run %+v", run)
		}
		return nil, failure
	}}
	ctx := context.WithValue(t.Context(), key{}, "here")
	if _, err := handlers.Handle(ctx, jobs.Run{Job: domain.Job{ID: alicesJob, Name: "a"}, Attempt: 7}); !errors.Is(err, failure) {
		t.Errorf("%v, want the handler's own error", err)
	}
}

func TestHandlersValidate(t *testing.T) {
	t.Parallel()
	handle := jobs.HandlerFunc(func(context.Context, jobs.Run) ([]byte, error) { return nil, nil })
	if got := (jobs.Handlers{"*": handle, "report.*": handle, "report.daily": handle}).Validate(); got != nil {
		t.Errorf("%q", got)
	}
	got := jobs.Handlers{"*": handle, "*.daily": handle, "": handle, "no name": nil, "mail": nil}.Validate()
	slices.Sort(got)
	want := []string{`handler "": no job name`, `handler "*.daily": no job name`, `handler "mail": is nil`, `handler "no name": is nil`, `handler "no name": no job name`}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("problems %q, want %q", got, want)
	}
}

func TestTyped(t *testing.T) {
	t.Parallel()
	type in struct {
		N    int    `json:"n"`
		Fail string `json:"fail"`
	}
	type out struct {
		Double int `json:"double"`
	}
	handle := jobs.Typed(func(_ context.Context, run jobs.Run, v in) (out, error) {
		switch {
		case run.Job.ID != alicesJob:
			t.Errorf("run of %q", run.Job.ID)
		case v.Fail == "now":
			return out{Double: 1}, errors.New("boom")
		case v.Fail == "for good":
			return out{}, domain.Permanent(errors.New("boom"))
		}
		return out{2 * v.N}, nil
	})
	tests := []struct {
		name, payload string
		want, failure string
		permanent     bool
	}{
		{"a payload", `{"n":21}`, `{"double":42}`, "", false},
		{"no payload", "", `{"double":0}`, "", false},
		{"null", "null", `{"double":0}`, "", false},
		{"a payload of another shape", `"n"`, "", "decode payload:", true},
		{"a payload out of range", `{"n":1e99}`, "", "decode payload:", true},
		{"a failure", `{"fail":"now"}`, "", "boom", false},
		{"a permanent failure", `{"fail":"for good"}`, "", "boom", true},
	}
	for _, tt := range tests {
		run := jobs.Run{Job: domain.Job{ID: alicesJob}}
		if tt.payload != "" {
			run.Job.Payload = []byte(tt.payload)
		}
		got, err := handle(t.Context(), run)
		if string(got) != tt.want || domain.IsPermanent(err) != tt.permanent || (err == nil) != (tt.failure == "") {
			t.Errorf("%s: %s, %v (permanent %t)", tt.name, got, err, domain.IsPermanent(err))
		}
		if err != nil && !strings.HasPrefix(err.Error(), tt.failure) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.failure)
		}
	}

	unencodable := jobs.Typed(func(context.Context, jobs.Run, struct{}) (func(), error) { return func() {}, nil })
	if _, err := unencodable(t.Context(), jobs.Run{}); !domain.IsPermanent(err) || !strings.HasPrefix(err.Error(), "encode output:") {
		t.Errorf("an output that is no JSON: %v", err)
	}
}

func TestTypedRefusesUnknownMembersByChoice(t *testing.T) {
	t.Parallel()
	type in struct{ N int }
	handle := func(_ context.Context, _ jobs.Run, v in) (int, error) { return v.N, nil }
	loose, strict := jobs.Typed(handle), jobs.Typed(handle, jobs.RefuseUnknownMembers)
	for _, tt := range []struct {
		payload       string
		loose, strict bool // accepted
	}{
		{`{"N":1}`, true, true},
		{``, true, true},
		{`{"N":1,"M":2}`, true, false},
		{`{"N":"1"}`, false, false},
		{`{"N":1} {"N":2}`, false, false},
		{`{"N":1}]`, false, false},
		{`{"N":1`, false, false},
	} {
		run := jobs.Run{}
		if tt.payload != "" {
			run.Job.Payload = []byte(tt.payload)
		}
		if _, err := loose(t.Context(), run); (err == nil) != tt.loose || err != nil && !domain.IsPermanent(err) {
			t.Errorf("loose: %s: %v", tt.payload, err)
		}
		if _, err := strict(t.Context(), run); (err == nil) != tt.strict || err != nil && !domain.IsPermanent(err) {
			t.Errorf("strict: %s: %v", tt.payload, err)
		}
	}
}

func TestMiddlewareRunsAroundEachHandlerTheFirstOutermost(t *testing.T) {
	t.Parallel()
	note := func(name string) jobs.Middleware {
		return func(next jobs.HandlerFunc) jobs.HandlerFunc {
			return func(ctx context.Context, run jobs.Run) ([]byte, error) {
				out, err := next(ctx, run)
				return []byte(name + "(" + string(out) + ")"), err
			}
		}
	}
	says := func(output string) jobs.HandlerFunc {
		return func(context.Context, jobs.Run) ([]byte, error) { return []byte(output), nil }
	}
	plain := jobs.Handlers{"mail": says("mail"), "*": says("rest"), "nil": nil}
	wrapped := plain.With(note("outer"), note("inner"))
	for name, want := range map[string]string{"mail": "outer(inner(mail))", "else": "outer(inner(rest))"} {
		if out, err := wrapped.Handle(t.Context(), jobs.Run{Job: domain.Job{Name: name}}); string(out) != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", name, out, err, want)
		}
	}
	if out, err := plain.Handle(t.Context(), jobs.Run{Job: domain.Job{Name: "mail"}}); string(out) != "mail" || err != nil {
		t.Errorf("the handlers themselves are changed: %s, %v", out, err)
	}
	if got := wrapped.Validate(); len(got) != 1 {
		t.Errorf("a nil handler is hidden by its middleware: %q", got)
	}
}
