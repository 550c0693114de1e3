package local

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

const (
	queueARN     = "arn:aws:sqs:us-east-1:000000000000:jobgate-jobs"
	storeTimeout = 5 * time.Second
	visibility   = 5 * time.Second // until a message that the worker returned is delivered again
)

// feed returns what delivers due jobs to the worker function, in the events that SQS would deliver them with. The
// function's context is ctx, so that a stop interrupts it only when the drain time is over.
func (s *local) feed(ctx context.Context) ports.Deliver {
	again := domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable, After: visibility}
	return func(_ context.Context, d domain.Delivery) domain.Disposition {
		get, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		job, err := s.store.Get(get, d.JobID)
		if err != nil {
			return domain.DisposeUnclaimed(err, d, time.Now())
		}
		body, err := cloudevent.Encode(job, "jobgate")
		if err != nil {
			s.log.Error("a job cannot be encoded", zap.String("job_id", job.ID), zap.Error(err))
			return again
		}
		message := lambdaevents.Message{ID: d.MessageID, Body: string(body), SentAt: job.UpdatedAt, Receives: 1}
		response, err := s.run(ctx, lambdaevents.SQSEvent(queueARN, message))
		if err != nil {
			s.log.Error("the worker failed", zap.String("job_id", job.ID), zap.Error(err))
			return again
		}
		failed, err := lambdaevents.Failures(response, message)
		if err != nil {
			s.log.Error("the worker's answer cannot be used", zap.String("job_id", job.ID), zap.Error(err))
			return again
		}
		if len(failed) > 0 {
			return again
		}
		return domain.Disposition{Verdict: domain.Ack}
	}
}
