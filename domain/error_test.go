package domain_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jobgate/jobgate/domain"
)

func TestKindAndReasonOfAnError(t *testing.T) {
	t.Parallel()
	known := domain.Errorf(domain.Conflict, domain.ReasonLeased, "held by %s", "another")
	tests := []struct {
		name   string
		err    error
		kind   domain.Kind
		reason domain.Reason
		text   string
	}{
		{"of ours", known, domain.Conflict, domain.ReasonLeased, "held by another"},
		{"wrapped by another", fmt.Errorf("claim: %w", known), domain.Conflict, domain.ReasonLeased, "claim: held by another"},
		{"joined", errors.Join(io.EOF, known), domain.Conflict, domain.ReasonLeased, "EOF\nheld by another"},
		{"a stranger", io.ErrUnexpectedEOF, domain.Internal, domain.ReasonInternal, "unexpected EOF"},
		{"a stranger as the cause", domain.Wrap(io.EOF, domain.Unavailable, domain.ReasonUnavailable, "no answer"), domain.Unavailable, domain.ReasonUnavailable, "no answer: EOF"},
		{"the outer of two", domain.Wrap(known, domain.Unavailable, domain.ReasonUnavailable, "no answer"), domain.Unavailable, domain.ReasonUnavailable, "no answer: held by another"},
		{"without a reason", &domain.Error{Kind: domain.Throttled}, domain.Throttled, domain.ReasonInternal, "throttled"},
		{"without anything", &domain.Error{}, domain.Internal, domain.ReasonInternal, "internal"},
	}
	for _, tt := range tests {
		if kind, reason := domain.KindOf(tt.err), domain.ReasonOf(tt.err); kind != tt.kind || reason != tt.reason {
			t.Errorf("%s: %v, %s, want %v, %s", tt.name, kind, reason, tt.kind, tt.reason)
		}
		if got := tt.err.Error(); got != tt.text {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.text)
		}
	}
}

func TestWrapKeepsTheCauseOutOfTheMessage(t *testing.T) {
	t.Parallel()
	cause := errors.New("dial tcp 10.0.0.7: password=hunter2")
	err := domain.Wrap(cause, domain.Unavailable, domain.ReasonUnavailable, "the %s did not answer", "store")
	if err.Message != "the store did not answer" {
		t.Errorf("Message = %q", err.Message)
	}
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%q lost its cause: it is for the log", err)
	}
}

func TestEveryKindHasAName(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for kind := domain.Internal; kind <= domain.Unavailable; kind++ {
		name := kind.String()
		if name == "" || strings.HasPrefix(name, "Kind(") || seen[name] {
			t.Errorf("kind %d is called %q", int(kind), name)
		}
		seen[name] = true
	}
	for _, kind := range []domain.Kind{-1, domain.Unavailable + 1} {
		if want := fmt.Sprintf("Kind(%d)", int(kind)); kind.String() != want {
			t.Errorf("%q, want %q", kind.String(), want)
		}
	}
}

func TestPermanentMarksAnErrorAndAllThatWrapIt(t *testing.T) {
	t.Parallel()
	marked := domain.Permanent(io.EOF)
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"marked", marked, true},
		{"wrapped", fmt.Errorf("render: %w", marked), true},
		{"joined", errors.Join(io.ErrClosedPipe, marked), true},
		{"marked twice", domain.Permanent(marked), true},
		{"not marked", io.EOF, false},
		{"one of ours", domain.Errorf(domain.Invalid, domain.ReasonInvalidFields, "wrong"), false},
		{"nil", domain.Permanent(nil), false},
	}
	for _, tt := range tests {
		if got := domain.IsPermanent(tt.err); got != tt.want {
			t.Errorf("%s: IsPermanent = %t", tt.name, got)
		}
	}
	if domain.Permanent(nil) != nil {
		t.Error("Permanent(nil) is an error")
	}
	if !errors.Is(marked, io.EOF) || marked.Error() != "EOF" {
		t.Errorf("the mark changed the error: %v", marked)
	}
}
