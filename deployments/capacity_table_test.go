package deployments_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/jobgate/jobgate/adapters/dynamodb"
)

// A meteredTable is what a client of DynamoDB talks to: it keeps the items, and counts what AWS would charge for each
// call and each index. Sizes are by
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html, units by
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html, what an index is written by
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html#GSI.ThroughputConsiderations.Writes.
type meteredTable struct {
	mu      sync.Mutex
	indexes []types.GlobalSecondaryIndex
	items   map[string]attributes
	used    usage

	// next answers in place of this table, which then only counts and has to agree about what is refused; nil: nobody.
	next sdk.HTTPClient
	// full is asked before each write to a partition of an index, and refuses the whole write when it is true; nil: never.
	full func(index, partition string, units float64) bool
}

// attributes are an item as the protocol writes it: by name, a type and a value.
type attributes map[string]map[string]any

func (a attributes) s(name string) string { s, _ := a[name]["S"].(string); return s }

// size is that of the item in bytes.
func (a attributes) size() int {
	total := 0
	for name, value := range a {
		total += len(name)
		for kind, v := range value {
			text, _ := v.(string)
			switch kind {
			case "N": // a byte for two digits and one more; of a random revision that is 11, or rarely less
				total += 11
			case "B":
				raw, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					panic(err)
				}
				total += len(raw)
			default:
				total += len(text)
			}
		}
	}
	return total
}

// usage is what calls came to.
type usage struct {
	calls   map[string]int     // by operation
	writes  float64            // units of the table
	index   map[string]float64 // write units by index
	heat    map[string]float64 // write units by index and partition
	reads   float64            // units, a strongly consistent read of up to 4 KB being one
	largest int                // bytes of the largest item written
	stored  int                // bytes of the last item written, with those of its index entries and their overhead
}

func newUsage() usage {
	return usage{calls: map[string]int{}, index: map[string]float64{}, heat: map[string]float64{}}
}

func (u usage) indexWrites() float64 {
	total := 0.0
	for _, units := range u.index {
		total += units
	}
	return total
}

func (u usage) text() string {
	var all []string
	for _, operation := range slices.Sorted(maps.Keys(u.calls)) {
		all = append(all, fmt.Sprintf("%d %s", u.calls[operation], operation))
	}
	return strings.Join(all, ", ")
}

func newMeteredTable() *meteredTable {
	return &meteredTable{indexes: dynamodb.Table("jobs").GlobalSecondaryIndexes, items: map[string]attributes{}, used: newUsage()}
}

func (m *meteredTable) client() *sdk.Client {
	return sdk.New(sdk.Options{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		BaseEndpoint: aws.String("http://dynamodb.invalid"), HTTPClient: m,
	})
}

// reset returns what was used since the last call.
func (m *meteredTable) reset() usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	used := m.used
	m.used = newUsage()
	return used
}

// Do implements sdk.HTTPClient. One request is answered after the other.
func (m *meteredTable) Do(req *http.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	_, operation, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	var in tableCall
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	m.used.calls[operation]++
	status, out := m.answer(operation, in)
	if m.next != nil {
		req.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := m.next.Do(req)
		if err == nil && resp.StatusCode != status {
			return nil, fmt.Errorf("%s is answered with %d, where the count was made for %d", operation, resp.StatusCode, status)
		}
		return resp, err
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)), Request: req,
	}, nil
}

// A tableWrite is a put or a delete.
type tableWrite struct {
	Item, Key                 attributes
	ConditionExpression       string
	ExpressionAttributeValues attributes
}

type tableCall struct {
	tableWrite

	ConsistentRead            bool
	RequestItems              map[string]struct{ Keys []attributes }
	TransactItems             []struct{ Put, Delete *tableWrite }
	IndexName                 string
	Limit                     int
	ScanIndexForward          bool
	ExclusiveStartKey         attributes
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues attributes
}

type fault map[string]any

func refusal(code string) fault {
	return fault{"__type": "com.amazonaws.dynamodb.v20120810#" + code, "message": code}
}

func (m *meteredTable) answer(operation string, in tableCall) (int, any) {
	in.tableWrite.ExpressionAttributeValues = in.ExpressionAttributeValues
	switch operation {
	case "CreateTable", "DescribeTable", "UpdateTimeToLive":
		return http.StatusOK, fault{}
	case "GetItem":
		return http.StatusOK, m.get(in.Key)
	case "BatchGetItem":
		responses := map[string][]attributes{}
		for name, request := range in.RequestItems {
			responses[name] = []attributes{}
			for _, key := range request.Keys {
				if found, ok := m.get(key)["Item"]; ok {
					responses[name] = append(responses[name], found)
				}
			}
		}
		return http.StatusOK, map[string]any{"Responses": responses}
	case "Query":
		return http.StatusOK, m.query(in)
	case "PutItem", "DeleteItem":
		return m.write(1, in.tableWrite)
	case "TransactWriteItems":
		var all []tableWrite
		for _, item := range in.TransactItems {
			if item.Put != nil {
				all = append(all, *item.Put)
			} else {
				all = append(all, *item.Delete)
			}
		}
		return m.write(2, all...) // each part of a transaction is charged twice
	default:
		return http.StatusBadRequest, refusal("UnknownOperationException")
	}
}

func (m *meteredTable) get(key attributes) map[string]attributes {
	found, ok := m.items[key.s("pk")]
	m.used.reads += float64(max(1, kilobytes(found.size(), 4)))
	if !ok {
		return nil
	}
	return map[string]attributes{"Item": found}
}

// kilobytes are the units of so many KB that have begun.
func kilobytes(bytes, unit int) int { return (bytes + unit<<10 - 1) / (unit << 10) }

// write carries out all the writes or none.
func (m *meteredTable) write(factor float64, all ...tableWrite) (int, any) {
	for _, w := range all {
		old := m.items[w.key()]
		held := true
		switch w.ConditionExpression {
		case "":
		case "attribute_not_exists(#key)":
			held = old == nil
		case "#revision = :revision":
			held = old != nil && old["revision"]["N"] == w.ExpressionAttributeValues[":revision"]["N"]
		default:
			panic("a condition that nobody evaluates here: " + w.ConditionExpression)
		}
		if !held {
			m.used.writes += factor * float64(max(1, kilobytes(max(old.size(), w.Item.size()), 1))) // refused, and charged
			if factor > 1 {
				return http.StatusBadRequest, refusal("TransactionCanceledException")
			}
			out := refusal("ConditionalCheckFailedException")
			if old != nil {
				out["Item"] = old
			}
			return http.StatusBadRequest, out
		}
	}
	if m.full != nil {
		for _, w := range all {
			if m.index(m.items[w.key()], w.Item, m.full) {
				return http.StatusBadRequest, refusal("ThrottlingException")
			}
		}
	}
	for _, w := range all {
		old := m.items[w.key()]
		m.used.writes += factor * float64(max(1, kilobytes(max(old.size(), w.Item.size()), 1)))
		m.used.largest = max(m.used.largest, w.Item.size())
		m.index(old, w.Item, func(index, partition string, units float64) bool {
			m.used.index[index] += units
			m.used.heat[index+" "+partition] += units
			return false
		})
		if w.Item == nil {
			delete(m.items, w.key())
			continue
		}
		m.items[w.key()] = w.Item
		m.used.stored = w.Item.size() + overhead
		for _, i := range m.indexes {
			if entry := project(i, w.Item); entry != nil {
				m.used.stored += entry.size() + overhead
			}
		}
	}
	return http.StatusOK, fault{}
}

// overhead is what AWS charges for, in storage, with each item and each entry of an index.
const overhead = 100

func (w tableWrite) key() string {
	if w.Item != nil {
		return w.Item.s("pk")
	}
	return w.Key.s("pk")
}

// index tells what writing next in place of old writes to each partition of each index, and ends when tell is true.
func (m *meteredTable) index(old, next attributes, tell func(index, partition string, units float64) bool) bool {
	for _, i := range m.indexes {
		name, hash := aws.ToString(i.IndexName), keyOf(i, types.KeyTypeHash)
		before, after := project(i, old), project(i, next)
		units := func(entry attributes) float64 { return float64(kilobytes(entry.size(), 1)) }
		moved := before == nil || after == nil || before.s(hash) != after.s(hash) || before.s(keyOf(i, types.KeyTypeRange)) != after.s(keyOf(i, types.KeyTypeRange))
		switch {
		case !moved && maps.EqualFunc(before, after, maps.Equal[map[string]any]):
		case !moved:
			if tell(name, after.s(hash), max(units(before), units(after))) {
				return true
			}
		default: // taken out where it was, and put in where it is
			if before != nil && tell(name, before.s(hash), units(before)) || after != nil && tell(name, after.s(hash), units(after)) {
				return true
			}
		}
	}
	return false
}

func keyOf(i types.GlobalSecondaryIndex, kind types.KeyType) string {
	for _, k := range i.KeySchema {
		if k.KeyType == kind {
			return aws.ToString(k.AttributeName)
		}
	}
	panic("an index without a key")
}

// project returns the entry of an item in an index, nil when it has none.
func project(i types.GlobalSecondaryIndex, item attributes) attributes {
	entry := attributes{}
	for _, k := range i.KeySchema {
		name := aws.ToString(k.AttributeName)
		if item[name] == nil {
			return nil
		}
		entry[name] = item[name]
	}
	for _, name := range append(slices.Clone(i.Projection.NonKeyAttributes), "pk") {
		if item[name] != nil {
			entry[name] = item[name]
		}
	}
	return entry
}

// query evaluates a partition of an index, without its filter: what it reads is charged all the same.
func (m *meteredTable) query(in tableCall) any {
	at := slices.IndexFunc(m.indexes, func(i types.GlobalSecondaryIndex) bool { return aws.ToString(i.IndexName) == in.IndexName })
	hash, sort := in.ExpressionAttributeNames["#hash"], in.ExpressionAttributeNames["#sort"]
	value := in.ExpressionAttributeValues.s
	var all []attributes
	for _, item := range m.items {
		if entry := project(m.indexes[at], item); entry.s(hash) == value(":partition") && entry.s(sort) < value(":bound") {
			all = append(all, entry)
		}
	}
	slices.SortFunc(all, func(a, b attributes) int {
		if !in.ScanIndexForward {
			a, b = b, a
		}
		return strings.Compare(a.s(sort), b.s(sort))
	})
	if start := in.ExclusiveStartKey; start != nil {
		all = slices.DeleteFunc(all, func(i attributes) bool {
			return in.ScanIndexForward == (i.s(sort) <= start.s(sort)) || i.s(sort) == start.s(sort)
		})
	}
	n := min(in.Limit, len(all))
	size := 0
	found := []attributes{}
	for _, i := range all[:n] {
		size += i.size()
		found = append(found, attributes{sort: i[sort]})
	}
	m.used.reads += max(1, float64(kilobytes(size, 4))) / 2 // an index is read eventually consistent
	out := map[string]any{"ScannedCount": n, "Items": found}
	if n > 0 && n == in.Limit {
		out["LastEvaluatedKey"] = attributes{"pk": all[n-1]["pk"], hash: all[n-1][hash], sort: all[n-1][sort]}
	}
	return out
}

// The rules above, on items whose sizes and entries can be counted by hand.
func TestMeteredTableCountsAsAWSDoes(t *testing.T) {
	t.Parallel()
	text := func(s string) map[string]any { return map[string]any{"S": s} }
	item := attributes{
		"pk": text("0123456789"), "revision": {"N": "1234567890123456789"}, "payload": {"B": "AAECAw=="},
		"owner": text("o"), "listed": text("l"), "status": text("queued"),
	}
	// pk 2+10, revision 8+11, payload 7+4, owner 5+1, listed 6+1, status 6+6
	if size := item.size(); size != 67 {
		t.Errorf("the item has %d bytes, by hand 67", size)
	}
	m := newMeteredTable()
	put := func(item attributes) usage {
		if status, out := m.write(1, tableWrite{Item: item}); status != http.StatusOK {
			t.Fatal(out)
		}
		return m.reset()
	}
	with := func(change attributes) attributes {
		next := maps.Clone(item)
		maps.Copy(next, change)
		return next
	}
	for _, step := range []struct {
		name          string
		item          attributes
		writes, index float64
	}{
		{"a new item is one entry of the one index that has its key", item, 1, 1},
		{"what no index projects is written to none", with(attributes{"revision": {"N": "2"}}), 1, 0},
		{"a projected attribute is one write", with(attributes{"status": text("running")}), 1, 1},
		{"a key that changes is two", with(attributes{"status": text("running"), "listed": text("m")}), 1, 2},
		{"the larger of old and new counts", with(attributes{"output": text(strings.Repeat("x", 1024))}), 2, 2},
		{"and once more when it shrinks", with(attributes{"status": text("done")}), 2, 1},
		{"an entry goes with its key", attributes{"pk": item["pk"]}, 1, 1},
	} {
		if used := put(step.item); used.writes != step.writes || used.indexWrites() != step.index {
			t.Errorf("%s: %v writes and %v of indexes, by hand %v and %v", step.name, used.writes, used.indexWrites(), step.writes, step.index)
		}
	}
	if status, _ := m.write(1, tableWrite{Item: item, ConditionExpression: "attribute_not_exists(#key)"}); status != http.StatusBadRequest || m.reset().writes != 1 {
		t.Error("a write that is refused is charged all the same")
	}
	if m.get(attributes{"pk": text("none")}); m.reset().reads != 1 {
		t.Error("a read that finds nothing is charged all the same")
	}
}
