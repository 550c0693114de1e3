package worker_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
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

// store fails Get as long as it is told to, and counts its calls; the answers of as many settles as silent says are lost.
type store struct {
	*memory.Store
	get    error
	gets   int
	silent int
}

func (s *store) Update(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
	job, err := s.Store.Update(ctx, id, decide)
	if err == nil && job.Status != domain.Running && s.silent > 0 {
		s.silent--
		return domain.Job{}, domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "no answer")
	}
	return job, err
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

func TestTheLetterOfADeadJobIsSentWhenTheStoreDidNotAnswerItsSettling(t *testing.T) {
	t.Parallel()
	s := &store{Store: memory.NewStore(time.Now), silent: 1}
	f := worker.New(runner.Config{Retention: domain.DefaultRetention}, s, jobs.Handlers{"*": func(context.Context, jobs.Run) ([]byte, error) {
		return nil, domain.Permanent(errors.New("no"))
	}}, zap.NewNop())
	var letters []domain.Reason
	f.SetApart(func(_ context.Context, l lambdaevents.Letter) error {
		letters = append(letters, l.Reason)
		return nil
	})
	event := lambdaevents.SQSEvent("arn:aws:sqs:eu-west-1:123456789012:jobs", lambdaevents.Message{ID: "m", Body: `"test-job"`, SentAt: time.Now(), Receives: 1})
	response, err := f.Invoke(t.Context(), event)
	if err != nil || string(response) != `{"batchItemFailures":[]}` || !slices.Equal(letters, []domain.Reason{domain.ReasonPermanent}) || s.silent != 0 {
		t.Errorf("response %s, %v, letters %v; want one letter and success", response, err, letters)
	}
}

func TestATickIsAJobWhereARuleSaysSoAndNoTopicIsGiven(t *testing.T) {
	t.Parallel()
	tick, err := os.ReadFile("../../adapters/lambdaevents/testdata/eventbridge_scheduled.json")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	f := worker.New(runner.Config{Retention: domain.DefaultRetention}, memory.NewStore(time.Now), jobs.Handlers{"nightly": func(context.Context, jobs.Run) ([]byte, error) {
		ran++
		return nil, nil
	}}, zap.NewNop())
	for _, step := range []struct {
		rules lambdaevents.Rules
		runs  int
		fails bool
	}{
		{nil, 0, true},
		{lambdaevents.Rules{{Source: "aws.ec2", Job: "nightly"}}, 0, true},
		{lambdaevents.Rules{{Source: "aws.events", Job: "nightly"}}, 1, false},
		{lambdaevents.Rules{{Source: "aws.events", Job: "nightly"}}, 1, false}, // the same tick again
	} {
		f.SetRules(step.rules)
		if _, err := f.Invoke(t.Context(), tick); (err != nil) != step.fails || ran != step.runs {
			t.Errorf("rules %v: error %v, %d runs; want an error %v and %d", step.rules, err, ran, step.fails, step.runs)
		}
	}
}

func TestABatchOfAHundredRunsSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size, run = 100, 20 * time.Second
		f := worker.New(runner.Config{Retention: domain.DefaultRetention}, memory.NewStore(time.Now), jobs.Handlers{"*": func(context.Context, jobs.Run) ([]byte, error) {
			time.Sleep(run)
			return nil, nil
		}}, zap.NewNop())
		var messages []lambdaevents.Message
		for i := range size {
			messages = append(messages, lambdaevents.Message{ID: strconv.Itoa(i), Body: `"test-job"`, SentAt: time.Now(), Receives: 1})
		}
		began := time.Now()
		response, err := f.Invoke(t.Context(), lambdaevents.SQSEvent("arn:aws:sqs:eu-west-1:123456789012:jobs", messages...))
		if took := time.Since(began); err != nil || string(response) != `{"batchItemFailures":[]}` || took != run {
			t.Errorf("response %s, %v, after %v; want it after %v", response, err, took, run)
		}
	})
}
