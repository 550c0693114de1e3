package dynamodb

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// Take implements ports.JobSchedule. It looks at the first 1,000 due jobs at most. An error that comes after some jobs
// were taken is left to the next call: they would be lost until their next check.
func (s *Store) Take(ctx context.Context, limit int, step ports.Step) ([]domain.Job, error) {
	return s.work(ctx, duePrefix, limit, func(id string) (domain.Job, bool, error) {
		old, err := s.read(ctx, id, stored{})
		now := s.now()
		if err != nil || !old.live(now) || old.job.Status.Finished() || old.job.CheckAt.After(now) {
			return domain.Job{}, false, err
		}
		moved, err := moveBy(step, old.job, now)
		if err != nil {
			return domain.Job{}, false, err
		}
		taken, won, err := s.write(ctx, old, moved)
		return taken.job, won, err
	})
}

// moveBy returns what step makes of a job, or its panic as an error: it is called by a goroutine of this package.
func moveBy(step ports.Step, job domain.Job, now time.Time) (moved domain.Job, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = domain.Wrap(fmt.Errorf("panic: %v\n%s", p, debug.Stack()), domain.Internal, domain.ReasonInternal, "a step of job %s panicked", job.ID)
		}
	}()
	return step(job, now), nil
}

// expireMargin is how long after its expiry a job is removed by Expire, whose clock may be ahead of that of a process
// which redrives the job in its last second. Time to Live, which goes by the day, needs none.
const expireMargin = time.Hour

// Expire implements ports.JobSchedule: it removes expired jobs whose payload has an item of its own, and that item.
// All others are removed by Time to Live and not counted.
func (s *Store) Expire(ctx context.Context, limit int) (int, error) {
	removed, err := s.work(ctx, expirePrefix, limit, func(id string) (domain.Job, bool, error) {
		old, err := s.readItem(ctx, id)
		if err != nil || old.payloadKey == "" || old.live(s.now().Add(-expireMargin)) {
			return domain.Job{}, false, err
		}
		// The payload first: cut short between the two, the job's item is still on the agenda.
		if _, err = s.client.DeleteItem(ctx, &sdk.DeleteItemInput{TableName: &s.table, Key: key(old.payloadKey)}); err != nil {
			return domain.Job{}, false, translate(ctx, err)
		}
		_, err = s.client.DeleteItem(ctx, &sdk.DeleteItemInput{
			TableName: &s.table, Key: key(id), ConditionExpression: aws.String("#revision = :revision"),
			ExpressionAttributeNames:  map[string]string{"#revision": revisionAttr},
			ExpressionAttributeValues: map[string]types.AttributeValue{":revision": num(old.job.Revision)},
		})
		if _, refused := refusedBy(err); refused {
			return domain.Job{}, false, nil // removed or replaced by another
		}
		if err != nil {
			return domain.Job{}, false, translate(ctx, err)
		}
		return old.job, true, nil
	})
	return len(removed), err
}

// work does step for the jobs of an agenda whose time has come, in its order, until step was won for limit of them,
// and returns those. The agenda is an eventually consistent index that other workers are at as well: step has to look
// for itself whether there is anything to be done. A record that cannot be read holds up no other. An error is
// returned only when step was won for none: what was won is lost to the caller otherwise.
func (s *Store) work(ctx context.Context, agenda string, limit int, step func(id string) (domain.Job, bool, error)) ([]domain.Job, error) {
	entries := s.merge(lookup{
		index: agendaIndex, hash: agendaAttr, sort: agendaAtAttr, partitions: shards(agenda), bound: by(s.now()),
		chunk: max(1, min(roundSize/shardCount, limit)),
	})
	var done []domain.Job
	var failed error
	for len(done) < limit && (failed == nil || domain.KindOf(failed) == domain.Internal) {
		found, err := entries.next(ctx, limit-len(done))
		if err != nil {
			failed = err
			break
		}
		if len(found) == 0 {
			break
		}
		jobs, won := make([]domain.Job, len(found)), make([]bool, len(found))
		err = each(len(found), func(i int) (err error) {
			jobs[i], won[i], err = step(found[i].id())
			return err
		})
		if err != nil {
			failed = err
		}
		for i := range found {
			if won[i] {
				done = append(done, jobs[i])
			}
		}
	}
	if len(done) > 0 {
		return done, nil
	}
	return nil, failed
}
