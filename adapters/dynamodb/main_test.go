package dynamodb_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/dynamodb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service answers the calls of an SDK client in place of a network.
type service func(req *http.Request, operation string, body []byte) (status int, answer string, err error)

func (s service) Do(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	_, operation, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
	status, answer, err := s(req, operation, body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: io.NopCloser(strings.NewReader(answer)), ContentLength: int64(len(answer)), Request: req,
	}, nil
}

func (s service) client() *sdk.Client {
	return sdk.New(sdk.Options{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		BaseEndpoint: aws.String("http://dynamodb.invalid"), HTTPClient: s,
	})
}

// table is a DynamoDB of one table that checks no condition, with what moto does not offer: answers that end early, as
// real ones do at 1 MB and 16 MB, and a count of what they cost.
type table struct {
	mu        sync.Mutex
	items     map[string]attributes
	early     func(request []byte, n int) int // how many of n entries, at least 1, an answer holds
	evaluated int
}

func newTable() *table {
	return &table{items: map[string]attributes{}, early: func(_ []byte, n int) int { return n }}
}

func (tb *table) store(now time.Time) *dynamodb.Store {
	return dynamodb.NewStore(service(tb.answer).client(), "jobs", dynamodb.Options{Now: func() time.Time { return now }})
}

type attributes map[string]map[string]any

func (a attributes) s(name string) string { s, _ := a[name]["S"].(string); return s }

type call struct {
	Item                      attributes
	Key                       attributes
	RequestItems              map[string]struct{ Keys []attributes }
	IndexName                 string
	Limit                     int
	ScanIndexForward          bool
	ExclusiveStartKey         attributes
	FilterExpression          string
	ExpressionAttributeNames  map[string]string
	ExpressionAttributeValues attributes
}

func (tb *table) answer(_ *http.Request, operation string, body []byte) (int, string, error) {
	var in call
	if err := json.Unmarshal(body, &in); err != nil {
		return 0, "", err
	}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	out := map[string]any{}
	switch operation {
	case "PutItem":
		tb.items[in.Item.s("pk")] = in.Item
	case "GetItem":
		if i, ok := tb.items[in.Key.s("pk")]; ok {
			out["Item"] = i
		}
	case "BatchGetItem":
		for name, request := range in.RequestItems {
			n := tb.early(body, len(request.Keys))
			found := []attributes{}
			for _, key := range request.Keys[:n] {
				if i, ok := tb.items[key.s("pk")]; ok {
					found = append(found, i)
				}
			}
			out = map[string]any{"Responses": map[string]any{name: found}}
			if n < len(request.Keys) {
				out["UnprocessedKeys"] = map[string]any{name: map[string]any{"Keys": request.Keys[n:]}}
			}
		}
	case "Query":
		out = tb.query(in, body)
	default:
		return 0, "", errors.New(operation + " is not answered")
	}
	answer, err := json.Marshal(out)
	return http.StatusOK, string(answer), err
}

func (tb *table) query(in call, body []byte) map[string]any {
	hash, sort := in.ExpressionAttributeNames["#hash"], in.ExpressionAttributeNames["#sort"]
	value := in.ExpressionAttributeValues.s
	var all []attributes
	for _, i := range tb.items {
		if i.s(hash) == value(":partition") && i.s(sort) < value(":bound") {
			all = append(all, i)
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
			if in.ScanIndexForward {
				return i.s(sort) <= start.s(sort)
			}
			return i.s(sort) >= start.s(sort)
		})
	}
	n := min(in.Limit, len(all))
	if n > 0 {
		n = tb.early(body, n)
	}
	tb.evaluated += n
	out := map[string]any{"ScannedCount": n}
	found := []attributes{}
	for _, i := range all[:n] {
		expired := i["expires_at"] != nil && i.s("expires_at") <= value(":now")
		status, name := value(":status"), value(":name")
		if (in.FilterExpression == "" || !expired) && (status == "" || i.s("status") == status) && (name == "" || i.s("name") == name) {
			found = append(found, attributes{sort: i[sort]})
		}
	}
	out["Items"] = found
	if n > 0 && (n == in.Limit || n < len(all)) { // DynamoDB does not look whether the limit was the end
		key := attributes{}
		for _, attr := range []string{"pk", hash, sort} {
			key[attr] = all[n-1][attr]
		}
		out["LastEvaluatedKey"] = key
	}
	return out
}

// serial lets one request through at a time: moto's conditional writes are not atomic, and its transactions put back
// the whole table when they fail.
type serial struct {
	mu     sync.Mutex
	client sdk.HTTPClient
	seen   func(operation string, body []byte) // called for each request; nil: not at all
}

func (s *serial) Do(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if s.seen != nil {
		_, operation, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
		s.seen(operation, body)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	return s.client.Do(req)
}
