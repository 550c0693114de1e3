package dynamodb

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

const (
	maxEvaluated = 1000 // entries of an index that one call evaluates, of all partitions together
	roundSize    = 256  // entries that one round of queries evaluates, of all partitions together
	parallel     = 8    // requests of one call under way at once; the SDK's transport keeps 10 idle connections
)

// lookup is a question to some partitions of an index.
type lookup struct {
	index, hash, sort string
	partitions        []string
	newestFirst       bool
	bound             position // entries before it alone
	filter            string   // may be empty
	names             map[string]string
	values            map[string]types.AttributeValue
	chunk             int // entries that one query evaluates
}

// merge reads the partitions of a lookup as one sequence in order of their sort keys.
type merge struct {
	store  *Store
	lookup lookup
	parts  []*part
	budget int
	at     position // everything up to here was handed out or did not match
}

// part is what was read of one partition and not yet handed out.
type part struct {
	partition string
	found     []position
	more      bool     // the partition goes on after what was read,
	from      item     // here,
	barrier   position // which is this position; empty before the first query, which all partitions have in one round
}

func (s *Store) merge(l lookup) *merge {
	m := &merge{store: s, lookup: l, budget: maxEvaluated}
	for _, p := range l.partitions {
		m.parts = append(m.parts, &part{partition: p, more: true})
	}
	return m
}

// next returns at most n further positions. Fewer are the last, or all that the budget allows.
func (m *merge) next(ctx context.Context, n int) ([]position, error) {
	var out []position
	for len(out) < n {
		p := m.first()
		switch {
		case p == nil:
			return out, nil
		case len(p.found) > 0:
			m.at = p.found[0]
			out = append(out, m.at)
			p.found = p.found[1:]
		default:
			// What this partition goes on with may come before all that is at hand.
			read, err := m.fill(ctx)
			if err != nil {
				return nil, err
			}
			if !read {
				m.at = p.barrier
				return out, nil
			}
		}
	}
	return out, nil
}

// done reports whether nothing is left.
func (m *merge) done() bool { return m.first() == nil }

// first returns the part whose next entry, or place to go on from, comes first; nil when all have ended.
func (m *merge) first() *part {
	var first *part
	var least position
	for _, p := range m.parts {
		head := p.barrier
		switch {
		case len(p.found) > 0:
			head = p.found[0]
		case !p.more:
			continue
		}
		if first == nil || (m.lookup.newestFirst && head > least) || (!m.lookup.newestFirst && head < least) {
			first, least = p, head
		}
	}
	return first
}

// fill reads on in every partition that has run dry, false when the budget does not suffice.
func (m *merge) fill(ctx context.Context) (bool, error) {
	var dry []*part
	for _, p := range m.parts {
		if p.more && len(p.found) == 0 {
			dry = append(dry, p)
		}
	}
	limit := min(m.lookup.chunk, m.budget/len(dry))
	if limit == 0 {
		return false, nil
	}
	evaluated := make([]int, len(dry))
	err := each(len(dry), func(i int) (err error) {
		evaluated[i], err = m.query(ctx, dry[i], limit)
		return err
	})
	for _, n := range evaluated {
		m.budget -= n
	}
	return true, err
}

func (m *merge) query(ctx context.Context, p *part, limit int) (evaluated int, err error) {
	l := m.lookup
	input := &sdk.QueryInput{
		TableName: &m.store.table, IndexName: &l.index, Limit: aws.Int32(int32(limit)), //nolint:gosec // at most roundSize
		ScanIndexForward: aws.Bool(!l.newestFirst), ExclusiveStartKey: p.from, ProjectionExpression: aws.String("#sort"),
		KeyConditionExpression:    aws.String("#hash = :partition AND #sort < :bound"),
		ExpressionAttributeNames:  map[string]string{"#hash": l.hash, "#sort": l.sort},
		ExpressionAttributeValues: map[string]types.AttributeValue{":partition": str(p.partition), ":bound": str(string(l.bound))},
	}
	if l.filter != "" {
		input.FilterExpression = &l.filter
	}
	maps.Copy(input.ExpressionAttributeNames, l.names)
	maps.Copy(input.ExpressionAttributeValues, l.values)
	out, err := m.store.client.Query(ctx, input)
	if err != nil {
		return 0, translate(ctx, err)
	}
	for _, i := range out.Items {
		found, err := sortKey(i, l.sort)
		if err != nil {
			return 0, err
		}
		p.found = append(p.found, found)
	}
	p.from, p.more = out.LastEvaluatedKey, len(out.LastEvaluatedKey) > 0
	if p.more {
		if p.barrier, err = sortKey(p.from, l.sort); err != nil {
			return 0, err
		}
	}
	return int(out.ScannedCount), nil
}

func sortKey(i item, attr string) (position, error) {
	s, ok := i[attr].(*types.AttributeValueMemberS)
	if !ok {
		return "", damaged(errors.New("an index entry has no sort key"))
	}
	return position(s.Value), nil
}

// each calls f for 0 to n-1, at most parallel at once, waits for all of them and returns the first error.
func each(n int, f func(int) error) error {
	errs := make([]error, n)
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
