package dueloop_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/jobgate/jobgate/bootstrap/config/dueloop"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// schedule has one job due, or does not answer.
type schedule struct{ dead bool }

func (s schedule) Take(ctx context.Context, _ int, _ ports.Step) ([]domain.Job, error) {
	if s.dead {
		<-ctx.Done()
		return nil, domain.Wrap(ctx.Err(), domain.Unavailable, domain.ReasonUnavailable, "no answer")
	}
	return []domain.Job{{ID: "job"}}, nil
}

func (schedule) Expire(context.Context, int) (int, error) { return 0, nil }

type dispatcher struct{}

func (dispatcher) Fits(domain.Job) error                      { return nil }
func (dispatcher) Dispatch(context.Context, domain.Job) error { return nil }

func TestATickIsAnsweredBeforeItsInvocationEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var told []int
		tell := func(swept jobs.Swept) { told = append(told, swept.Dispatched) }
		response, err := dueloop.Tick(ctx, &jobs.Sweep{Schedule: schedule{}, Dispatcher: dispatcher{}}, tell, zap.New(core))
		if err != nil || string(response) != "null" {
			t.Errorf("response %s, error %v, want null", response, err)
		}
		began := time.Now()
		response, err = dueloop.Tick(ctx, &jobs.Sweep{Schedule: schedule{dead: true}}, tell, zap.New(core))
		if response != nil || err == nil || !strings.HasPrefix(err.Error(), "due loop: ") {
			t.Errorf("response %s, error %v, want the store's error", response, err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("a pass took %v of an invocation's 3 s, want it to end 2 s before", took)
		}
		for i, dispatched := range []int{1, 0} {
			if fields := logs.All()[i].ContextMap(); told[i] != dispatched || fields["dispatched"] != int64(dispatched) || (fields["error"] != nil) != (i == 1) {
				t.Errorf("line %d of the log has %v", i, fields)
			}
		}
	})
}
