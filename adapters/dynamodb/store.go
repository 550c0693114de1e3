// Package dynamodb keeps jobs in one table of Amazon DynamoDB. Every write is conditional on what was read, every read
// that a decision hangs on is strongly consistent, and the indexes only propose: what they name is read again before
// anything is done about it.
package dynamodb

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

var (
	_ ports.JobStore    = (*Store)(nil)
	_ ports.JobSchedule = (*Store)(nil)
)

// Options are what a Store can do without.
type Options struct {
	Now func() time.Time // the store's clock; nil: time.Now
}

// Store is a ports.JobStore and ports.JobSchedule on a table that has the shape of Table.
//
// A job's item is written in whole each time, at one write unit for each KiB begun. A payload over 4 KiB has an item of
// its own, which is written once and deleted by Expire.
//
// Lists are eventually consistent: a job created or changed a moment ago may be missing from them, but what they show
// is as it is stored.
type Store struct {
	client *sdk.Client
	table  string
	now    func() time.Time

	claimed claimed
}

// NewStore returns the store in a table. It goes by client's settings but for the bounds of a call: a try lasts 3 s at
// most, and throttling and transient faults are tried 8 times, with jittered waits of up to 2 s, unless the settings
// (AWS_MAX_ATTEMPTS) say how often.
func NewStore(client *sdk.Client, table string, opts Options) *Store {
	s := &Store{client: bounded(client), table: table, now: opts.Now}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Create implements ports.JobStore.
func (s *Store) Create(ctx context.Context, job domain.Job) (domain.Job, bool, error) {
	var old stored // none, as far as is known; later an expired one
	for try := range maxTries {
		if err := pause(ctx, try); err != nil {
			return domain.Job{}, false, err
		}
		now, won, err := s.write(ctx, old, job)
		if err != nil {
			return domain.Job{}, false, err
		}
		if won {
			return now.job, true, nil
		}
		if old, err = s.read(ctx, job.ID, stored{}); err != nil {
			return domain.Job{}, false, err
		}
		if old.live(s.now()) {
			return old.job, false, nil
		}
	}
	return domain.Job{}, false, contended()
}

// Get implements ports.JobStore.
func (s *Store) Get(ctx context.Context, id string) (domain.Job, error) {
	found, err := s.read(ctx, id, stored{})
	if err != nil {
		return domain.Job{}, err
	}
	if !found.live(s.now()) {
		return domain.Job{}, notFound()
	}
	return found.job, nil
}

// Update implements ports.JobStore. The job of a run under way, which this store has claimed, is not read again but where
// somebody else has changed it.
func (s *Store) Update(ctx context.Context, id string, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
	old, remembered := s.claimed.take(id)
	for try := 0; try < maxTries; try++ {
		if err := pause(ctx, try); err != nil {
			return domain.Job{}, err
		}
		// Read anew after each wait: of many writers the one with the freshest record wins.
		if !remembered {
			var err error
			if old, err = s.read(ctx, id, old); err != nil {
				return domain.Job{}, err
			}
		}
		job, err := s.decide(old, decide)
		if err == nil {
			now, won, err := s.write(ctx, old, job)
			if err != nil {
				return domain.Job{}, err
			}
			if won {
				s.claimed.put(now)
				return now.job, nil
			}
		} else if !remembered {
			return domain.Job{}, err
		}
		if remembered {
			remembered, try = false, -1 // it may be to blame: look, without a wait
		}
	}
	return domain.Job{}, contended()
}

func (s *Store) decide(old stored, decide func(domain.Job) (domain.Job, error)) (domain.Job, error) {
	if !old.live(s.now()) {
		return domain.Job{}, notFound()
	}
	return decide(old.job)
}

// List implements ports.JobStore. It evaluates at most 1,000 entries of an index, so that a filter that matches little
// gives short pages, not slow ones.
func (s *Store) List(ctx context.Context, query ports.JobQuery) (ports.JobPage, error) {
	entries := s.merge(s.listing(query))
	found, err := entries.next(ctx, query.Limit)
	if err != nil {
		return ports.JobPage{}, err
	}
	ids := make([]string, len(found))
	for i, p := range found {
		ids[i] = p.id()
	}
	records, err := s.readAll(ctx, ids)
	if err != nil {
		return ports.JobPage{}, err
	}
	var page ports.JobPage
	for _, p := range found {
		// The index may lag behind the record.
		r := records[p.id()]
		if r.live(s.now()) && listed(r.job) == p && matches(r.job, query) {
			page.Jobs = append(page.Jobs, r.job)
		}
	}
	if !entries.done() {
		if page.Next, err = entries.at.cursor(); err != nil {
			return ports.JobPage{}, err
		}
	}
	return page, nil
}

func (s *Store) listing(query ports.JobQuery) lookup {
	l := lookup{
		index: allIndex, hash: allAttr, sort: listedAttr, partitions: shards(allPrefix), newestFirst: true, bound: last,
		names:  map[string]string{"#expires": expiresAttr},
		values: map[string]types.AttributeValue{":now": str(instant(s.now()))},
		filter: "(attribute_not_exists(#expires) OR #expires > :now)",
	}
	if query.Owner != nil {
		l.index, l.hash, l.partitions = ownerIndex, ownerAttr, []string{ownerKey(*query.Owner)}
	}
	if !query.After.IsZero() {
		l.bound = at(query.After.CreatedAt, query.After.ID)
	}
	l.chunk = max(1, roundSize/len(l.partitions))
	if query.Status == "" && query.Name == "" {
		l.chunk = min(l.chunk, query.Limit)
	}
	if query.Status != "" {
		l.filter += " AND #status = :status"
		l.names["#status"], l.values[":status"] = statusAttr, str(string(query.Status))
	}
	if query.Name != "" {
		l.filter += " AND #name = :name"
		l.names["#name"], l.values[":name"] = nameAttr, str(query.Name)
	}
	return l
}

func matches(job domain.Job, query ports.JobQuery) bool {
	return (query.Status == "" || job.Status == query.Status) && (query.Name == "" || job.Name == query.Name)
}

// read returns the record of a job, the zero stored when there is none. A payload that prev holds already is not
// fetched again: a payload's item never changes.
func (s *Store) read(ctx context.Context, id string, prev stored) (stored, error) {
	if !domain.ValidID(id) {
		return stored{}, nil
	}
	for range 2 {
		found, err := s.readItem(ctx, id)
		if err != nil || found.payloadKey == "" {
			return found, err
		}
		if found.payloadKey == prev.payloadKey {
			found.job.Payload = prev.job.Payload
			return found, nil
		}
		out, err := s.client.GetItem(ctx, &sdk.GetItemInput{TableName: &s.table, Key: key(found.payloadKey), ConsistentRead: aws.Bool(true)})
		if err != nil {
			return stored{}, translate(ctx, err)
		}
		if payload, ok := out.Item[payloadAttr].(*types.AttributeValueMemberB); ok {
			found.job.Payload = payload.Value
			return found, nil
		}
		// Gone between the two reads: the record was removed or replaced, and the second look tells.
	}
	return stored{}, damaged(errors.New("the payload's item is missing"))
}

// readItem is read without a payload in an item of its own.
func (s *Store) readItem(ctx context.Context, id string) (stored, error) {
	out, err := s.client.GetItem(ctx, &sdk.GetItemInput{TableName: &s.table, Key: key(id), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return stored{}, translate(ctx, err)
	}
	return decode(out.Item)
}

// readAll is read for many jobs, at most 100. Absent ones are absent from the map.
func (s *Store) readAll(ctx context.Context, ids []string) (map[string]stored, error) {
	items, err := s.readItems(ctx, ids)
	if err != nil {
		return nil, err
	}
	records := make(map[string]stored, len(items))
	var payloads []string
	for id, item := range items {
		if records[id], err = decode(item); err != nil {
			return nil, err
		}
		if k := records[id].payloadKey; k != "" {
			payloads = append(payloads, k)
		}
	}
	if items, err = s.readItems(ctx, payloads); err != nil {
		return nil, err
	}
	for id, r := range records {
		if r.payloadKey == "" {
			continue
		}
		payload, ok := items[r.payloadKey][payloadAttr].(*types.AttributeValueMemberB)
		if !ok {
			// Gone between the two reads, as in read.
			if r, err = s.read(ctx, id, stored{}); err != nil {
				return nil, err
			}
		} else {
			r.job.Payload = payload.Value
		}
		records[id] = r
	}
	return records, nil
}

// readItems returns the items of at most 100 keys, which is also what one BatchGetItem takes.
func (s *Store) readItems(ctx context.Context, keys []string) (map[string]item, error) {
	items := make(map[string]item, len(keys))
	var wanted []map[string]types.AttributeValue
	for _, k := range keys {
		wanted = append(wanted, key(k))
	}
	for try := 0; len(wanted) > 0; try++ {
		if try == maxTries {
			return nil, contended()
		}
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
		out, err := s.client.BatchGetItem(ctx, &sdk.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{
			s.table: {Keys: wanted, ConsistentRead: aws.Bool(true)},
		}})
		if err != nil {
			return nil, translate(ctx, err)
		}
		for _, i := range out.Responses[s.table] {
			k, ok := i[keyAttr].(*types.AttributeValueMemberS)
			if !ok {
				return nil, damaged(errors.New("an item has no key"))
			}
			items[k.Value] = i
			try = -1 // progress: an answer ends at 16 MB, and the rest is simply asked for next
		}
		wanted = out.UnprocessedKeys[s.table].Keys
	}
	return items, nil
}

// write stores job in place of old, the record as it was read; the zero stored stands for none. When the table holds
// something else by now, nothing is written and won is false.
func (s *Store) write(ctx context.Context, old stored, job domain.Job) (next stored, won bool, err error) {
	job.Revision = newRevision()
	next = stored{job: job, payloadKey: payloadKey(old, job)}
	body, err := next.encode()
	if err != nil {
		return stored{}, false, err
	}
	put := &types.Put{
		TableName: &s.table, Item: body,
		ConditionExpression:                 aws.String("attribute_not_exists(#key)"),
		ExpressionAttributeNames:            map[string]string{"#key": keyAttr},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	if old.exists() {
		put.ConditionExpression = aws.String("#revision = :revision")
		put.ExpressionAttributeNames = map[string]string{"#revision": revisionAttr}
		put.ExpressionAttributeValues = map[string]types.AttributeValue{":revision": num(old.job.Revision)}
	}
	if next.payloadKey == old.payloadKey {
		_, err = s.client.PutItem(ctx, &sdk.PutItemInput{
			TableName: put.TableName, Item: put.Item, ConditionExpression: put.ConditionExpression,
			ExpressionAttributeNames: put.ExpressionAttributeNames, ExpressionAttributeValues: put.ExpressionAttributeValues,
			ReturnValuesOnConditionCheckFailure: put.ReturnValuesOnConditionCheckFailure,
		})
	} else {
		writes := []types.TransactWriteItem{{Put: put}}
		if next.payloadKey != "" {
			payload := key(next.payloadKey)
			payload[payloadAttr] = &types.AttributeValueMemberB{Value: job.Payload}
			writes = append(writes, types.TransactWriteItem{Put: &types.Put{TableName: &s.table, Item: payload}})
		}
		if old.payloadKey != "" {
			writes = append(writes, types.TransactWriteItem{Delete: &types.Delete{TableName: &s.table, Key: key(old.payloadKey)}})
		}
		_, err = s.client.TransactWriteItems(ctx, &sdk.TransactWriteItemsInput{TransactItems: writes})
	}
	if err == nil {
		return next, true, nil
	}
	held, refused := refusedBy(err)
	if !refused {
		return stored{}, false, translate(ctx, err)
	}
	// The SDK repeats a write whose answer was lost, and the repeat is refused by the write itself.
	if now, err := decode(held); err == nil && now.job.Revision == job.Revision {
		return next, true, nil
	}
	return stored{}, false, nil
}

// pause waits before a try that is not the first.
func pause(ctx context.Context, try int) error {
	if try == 0 {
		return nil
	}
	timer := time.NewTimer(delay(try - 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return translate(ctx, ctx.Err())
	}
}
