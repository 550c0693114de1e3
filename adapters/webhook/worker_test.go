package webhook_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/adapters/webhook"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// asked is the wait that an error asks for.
func asked(err error) time.Duration {
	if e, ok := errors.AsType[*domain.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

func TestAJobsLifeIsWhatItsWebhookAnswers(t *testing.T) {
	t.Parallel()
	now := created
	var status int
	var retryAfter string
	var calls []string
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls = append(calls, fmt.Sprintf("%s #%s at %s", r.Header.Get("webhook-id"), r.Header.Get("jobgate-attempt"), r.Header.Get("webhook-timestamp")))
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		answer(status, `{"pages":3}`)(w, r)
	})
	clock := func() time.Time { return now }
	store := memory.NewStore(clock)
	hook := newHandler(t, server.URL, func(_ *webhook.Endpoint, o *webhook.Options) { o.Now = clock })
	worker := &jobs.Worker{
		Store: store, Handler: jobs.Handlers{"report.*": hook.Handle}, Retention: domain.DefaultRetention, Name: "w",
		Now: clock, NewToken: func() string { return "lease" }, Random: func() float64 { return 0 },
	}
	policy := domain.RetryPolicy{Attempts: 5, Base: time.Second, Max: 10 * time.Minute, Timeout: time.Minute}
	job, err := domain.NewJob(domain.JobSpec{ID: jobID, Name: "report.render", Retry: policy, Retention: domain.DefaultRetention}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	deliver := func() domain.Job {
		t.Helper()
		if got := worker.Deliver(ctx(t), domain.Delivery{MessageID: "m", SentAt: now, JobID: jobID}); got.Verdict != domain.Ack {
			t.Errorf("disposed of as %+v", got)
		}
		job, err := store.Get(t.Context(), jobID)
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
	want := func(job domain.Job, status domain.Status, reason domain.Reason, failure string) {
		t.Helper()
		if got := job.History[len(job.History)-1].Error; job.Status != status || job.Reason != reason || got != failure {
			t.Errorf("the job is %s (%s): %q, want %s (%s): %q", job.Status, job.Reason, got, status, reason, failure)
		}
	}
	wantDue := func(job domain.Job, in time.Duration) {
		t.Helper()
		if got := job.DueAt.Sub(now); got != in {
			t.Errorf("due in %v, want %v", got, in)
		}
		now = job.DueAt
	}

	status, retryAfter = http.StatusServiceUnavailable, "120"
	job = deliver()
	want(job, domain.Queued, "", "the webhook answered 503")
	wantDue(job, 2*time.Minute)

	retryAfter = now.Add(time.Hour).Format(http.TimeFormat) // beyond what the policy allows
	job = deliver()
	want(job, domain.Queued, "", "the webhook answered 503")
	wantDue(job, policy.Max)

	status = http.StatusInternalServerError
	job = deliver()
	want(job, domain.Queued, "", "the webhook answered 500")
	wantDue(job, policy.Delay(3, 0))

	status = http.StatusGone
	job = deliver()
	want(job, domain.Dead, domain.ReasonPermanent, "the webhook answered 410")

	if _, err := store.Update(t.Context(), jobID, func(job domain.Job) (domain.Job, error) { return job.Redrive(now) }); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	status = http.StatusOK
	job = deliver()
	want(job, domain.Succeeded, "", "")
	if string(job.Output) != `{"pages":3}` {
		t.Errorf("output %q", job.Output)
	}

	var wantCalls []string
	for i, after := range []time.Duration{0, 120, 720, 722, 4322} {
		wantCalls = append(wantCalls, fmt.Sprintf("%s #%d at %d", jobID, i+1, created.Unix()+int64(after)))
	}
	if !slices.Equal(calls, wantCalls) {
		t.Errorf("the calls were\n%q, want\n%q", calls, wantCalls)
	}
}
