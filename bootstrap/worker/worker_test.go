package worker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/bootstrap/config/runner"
	"github.com/jobgate/jobgate/bootstrap/worker"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store fails Get as long as it is told to, and counts its calls.
type store struct {
	*memory.Store
	get  error
	gets int
}

func (s *store) Get(ctx context.Context, id string) (domain.Job, error) {
	if s.gets++; s.get != nil {
		return domain.Job{}, s.get
	}
	return s.Store.Get(ctx, id)
}

func TestTheLetterOfADeadJobIsSentAtLeastOnce(t *testing.T) {
	t.Parallel()
	const done, again = `{"batchItemFailures":[]}`, `{"batchItemFailures":[{"itemIdentifier":"m"}]}`
	s := &store{Store: memory.NewStore(time.Now)}
	calls := 0
	f := worker.New(runner.Config{Retention: domain.DefaultRetention}, s, jobs.Handlers{"*": func(context.Context, jobs.Run) ([]byte, error) {
		calls++
		return nil, domain.Permanent(errors.New("no"))
	}}, zap.NewNop())
	const queue = "arn:aws:sqs:eu-west-1:123456789012:jobs"
	event := lambdaevents.SQSEvent(queue, lambdaevents.Message{ID: "m", Body: `"test-job"`, SentAt: time.Now(), Receives: 1})
	id := domain.EventID("sqs", queue, "m")
	var letters []domain.Reason
	var refusal error
	f.SetApart(func(_ context.Context, l lambdaevents.Letter) error {
		if l.JobID != id || l.JobName != "test-job" || string(l.Body) != `"test-job"` {
			t.Errorf("letter %+v", l)
		}
		letters = append(letters, l.Reason)
		return refusal
	})
	expired := domain.Errorf(domain.NotFound, domain.ReasonNotFound, "gone")
	down := domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "down")
	permanent := []domain.Reason{domain.ReasonPermanent}
	for _, step := range []struct {
		name    string
		refusal error // of the letter
		get     error
		letters []domain.Reason
		answer  string
	}{
		{"it dies, and the queue refuses its letter", errors.New("refused"), nil, permanent, again},
		{"the store is away", nil, down, nil, again},
		{"the queue refuses again", errors.New("refused"), nil, permanent, again},
		{"the letter is sent", nil, nil, permanent, done},
		{"and once more, for a duplicate", nil, nil, permanent, done},
		{"it has expired meanwhile", nil, expired, nil, done},
	} {
		letters, refusal, s.get = nil, step.refusal, step.get
		response, err := f.Invoke(t.Context(), event)
		if err != nil || string(response) != step.answer || !slices.Equal(letters, step.letters) {
			t.Errorf("%s: response %s, %v, letters %v; want %s and %v", step.name, response, err, letters, step.answer, step.letters)
		}
	}
	if calls != 1 {
		t.Errorf("the job ran %d times, want once", calls)
	}

	// Where letters go nowhere, nothing is asked.
	f.SetApart(nil)
	s.gets = 0
	if response, err := f.Invoke(t.Context(), event); err != nil || string(response) != done || s.gets != 0 {
		t.Errorf("without a queue: response %s, %v, %d looks at the store; want %s and none", response, err, s.gets, done)
	}
}
