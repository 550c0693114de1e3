package domain_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jobgate/jobgate/domain"
)

func TestDisposeUnclaimed(t *testing.T) {
	t.Parallel()
	missing := domain.Errorf(domain.NotFound, domain.ReasonNotFound, "there is no such job")
	var (
		wait  = domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonRecordMissing, After: time.Minute}
		lost  = domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonRecordMissing}
		pause = domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable, Pause: true}
	)
	tests := []struct {
		name string
		err  error
		sent time.Time
		want domain.Disposition
	}{
		{"finished", domain.Errorf(domain.Conflict, domain.ReasonFinished, ""), t0, domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonFinished}},
		{"leased", domain.Errorf(domain.Conflict, domain.ReasonLeased, ""), t0, domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonLeased}},
		{"not due", domain.Errorf(domain.Conflict, domain.ReasonNotDue, ""), t0, domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonNotDue}},
		{"no record yet", missing, t0, wait},
		{"no record for nearly an hour", missing, t0.Add(-domain.RecordWait + 1), wait},
		{"no record for an hour", missing, t0.Add(-domain.RecordWait), lost},
		{"no record for a year", missing, t0.AddDate(-1, 0, 0), lost},
		{"no record, sent by a clock ahead of ours", missing, t0.Add(time.Hour), wait},
		{"no record and no time of sending", missing, time.Time{}, wait},
		{"invalid", domain.Errorf(domain.Invalid, domain.ReasonInvalidFields, ""), t0, domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonInvalidFields}},
		{"too large", domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, ""), t0, domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonTooLarge}},
		{"store unavailable", domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, ""), t0, pause},
		{"store throttled", domain.Errorf(domain.Throttled, domain.ReasonThrottled, ""), t0, pause},
		{"a fault of ours", domain.Errorf(domain.Internal, domain.ReasonInternal, ""), t0, pause},
		{"an error nobody classified", errors.New("boom"), t0, pause},
	}
	for _, tt := range tests {
		if got := domain.DisposeUnclaimed(tt.err, domain.Delivery{SentAt: tt.sent}, t0); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for verdict, want := range map[domain.Verdict]string{domain.Return: "return", domain.Ack: "ack", domain.DeadLetter: "dead-letter"} {
		if got := verdict.String(); got != want {
			t.Errorf("Verdict(%d) is %q, want %q", int(verdict), got, want)
		}
	}
	var zero domain.Disposition
	if zero.Verdict != domain.Return {
		t.Error("a message that nobody decided about is not returned")
	}
}
