package jobgate_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	awsdynamodb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/adapters/httpapi/httpapitest"
	"github.com/jobgate/jobgate/adapters/localgateway"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

// A cloud is what a deployment has in AWS beside its functions: a table, a topic, and a queue that is subscribed to it
// with raw delivery. It is moto's, which is not safe for concurrent use: its users take turns.
type cloud struct {
	env      map[string]string // of the functions
	store    *dynamodb.Store
	table    *awsdynamodb.Client
	queue    *sqs.Client
	queueURL string
	queueARN string
}

const tableName = "jobs"

func newCloud(t *testing.T) *cloud {
	t.Helper()
	endpoint := adaptertest.Moto(t)
	cfg := adaptertest.AWSConfig(t, endpoint)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := &cloud{table: awsdynamodb.NewFromConfig(cfg), queue: sqs.NewFromConfig(cfg)}
	if err := dynamodb.CreateTable(ctx, c.table, tableName); err != nil {
		t.Fatal(err)
	}
	c.store = dynamodb.NewStore(c.table, tableName, dynamodb.Options{})

	topics := awssns.NewFromConfig(cfg)
	topic, err := topics.CreateTopic(ctx, &awssns.CreateTopicInput{Name: aws.String("jobs")})
	if err != nil {
		t.Fatal(err)
	}
	queue, err := c.queue.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("jobs")})
	if err != nil {
		t.Fatal(err)
	}
	c.queueURL = aws.ToString(queue.QueueUrl)
	c.queueARN = c.attribute(t, sqstypes.QueueAttributeNameQueueArn)
	_, err = topics.Subscribe(ctx, &awssns.SubscribeInput{
		TopicArn: topic.TopicArn, Protocol: aws.String("sqs"), Endpoint: aws.String(c.queueARN),
		Attributes: map[string]string{"RawMessageDelivery": "true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.env = map[string]string{"AWS_ENDPOINT_URL": endpoint, "JOBS_TABLE": tableName, "JOBS_TOPIC_ARN": aws.ToString(topic.TopicArn)}
	return c
}

func (c *cloud) attribute(t *testing.T, name sqstypes.QueueAttributeName) string {
	t.Helper()
	got, err := c.queue.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(c.queueURL), AttributeNames: []sqstypes.QueueAttributeName{name},
	})
	if err != nil {
		t.Fatal(err)
	}
	return got.Attributes[string(name)]
}

// job is what the table has of a job.
func (c *cloud) job(t *testing.T, id string) domain.Job {
	t.Helper()
	job, err := c.store.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("job %s: %v", id, err)
	}
	return job
}

// stored are the keys of all items of the table.
func (c *cloud) stored(t *testing.T) map[string]struct{} {
	t.Helper()
	out, err := c.table.Scan(t.Context(), &awsdynamodb.ScanInput{TableName: aws.String(tableName), ConsistentRead: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]struct{}{}
	for _, item := range out.Items {
		key, ok := item["pk"].(*dynamodbtypes.AttributeValueMemberS)
		if !ok {
			t.Fatalf("an item has no key: %v", item)
		}
		keys[key.Value] = struct{}{}
	}
	return keys
}

// pass lets time pass for a job alone: everything that is set for a time of it is d earlier.
func (c *cloud) pass(t *testing.T, id string, d time.Duration) {
	t.Helper()
	_, err := c.store.Update(t.Context(), id, func(job domain.Job) (domain.Job, error) {
		job.DueAt, job.CheckAt = job.DueAt.Add(-d), job.CheckAt.Add(-d)
		return job, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// receive returns the messages that wait in the queue, at most ten, which stay there and are hidden meanwhile. It does
// not wait: moto has delivered a message before it confirms it.
func (c *cloud) receive(t *testing.T) []sqstypes.Message { return c.receiveFrom(t, c.queueURL) }

func (c *cloud) receiveFrom(t *testing.T, queueURL string) []sqstypes.Message {
	t.Helper()
	out, err := c.queue.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: aws.String(queueURL), MaxNumberOfMessages: 10, VisibilityTimeout: 300,
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameAll},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Messages
}

// show ends the hiding of messages that were received: they are delivered again.
func (c *cloud) show(t *testing.T, messages []sqstypes.Message) {
	t.Helper()
	for _, m := range messages {
		_, err := c.queue.ChangeMessageVisibility(t.Context(), &sqs.ChangeMessageVisibilityInput{
			QueueUrl: aws.String(c.queueURL), ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 0,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cloud) remove(t *testing.T, messages []sqstypes.Message) {
	t.Helper()
	for _, m := range messages {
		_, err := c.queue.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(c.queueURL), ReceiptHandle: m.ReceiptHandle})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// event is the event that Lambda's poller makes of messages.
func (c *cloud) event(t *testing.T, messages []sqstypes.Message) []byte {
	t.Helper()
	var event events.SQSEvent
	for _, m := range messages {
		record := events.SQSMessage{
			MessageId: aws.ToString(m.MessageId), ReceiptHandle: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body),
			Md5OfBody: aws.ToString(m.MD5OfBody), Md5OfMessageAttributes: aws.ToString(m.MD5OfMessageAttributes),
			Attributes: m.Attributes, MessageAttributes: map[string]events.SQSMessageAttribute{},
			EventSource: "aws:sqs", EventSourceARN: c.queueARN, AWSRegion: "us-east-1",
		}
		for name, attribute := range m.MessageAttributes {
			record.MessageAttributes[name] = events.SQSMessageAttribute{
				DataType: aws.ToString(attribute.DataType), StringValue: attribute.StringValue, BinaryValue: attribute.BinaryValue,
				StringListValues: []string{}, BinaryListValues: [][]byte{},
			}
		}
		event.Records = append(event.Records, record)
	}
	text, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A deployment is the whole of it: a cloud, the functions in it, and a gateway in front of two of them.
type deployment struct {
	*cloud
	issuer       tokenIssuer
	jobs, worker *adaptertest.Function
	hooked       *adaptertest.Function // a worker whose jobs are posted to hooks
	hooks        *hooks
	authorized   atomic.Int64 // calls of the authorizer
	client       *http.Client
	url          string

	deadURL string      // of the dead-letter queue
	noSQS   atomic.Bool // the workers' calls of SQS are refused
}

// hooks are the other end of webhooks.
type hooks struct {
	fails func(job string, calls int) bool // whether a job's call fails, by its name and how many there were before

	mu    sync.Mutex
	calls map[string]int // by job id
}

func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := r.Header.Get("Webhook-Id")
	if h.calls[id]++; h.fails(strings.TrimPrefix(r.URL.Path, "/"), h.calls[id]-1) {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// Retry policies and rules of a deployment.
const (
	retryPolicies = `[{"jobs":"flaky","base":"100ms","max":"200ms"},{"jobs":"doomed","attempts":1}]`
	eventJobs     = `[{"source":"aws.ec2","detail_type":"EC2 Instance State-change Notification","job":"instance.changed"},
		{"source":"aws:s3","detail_type":"ObjectCreated:*","job":"upload.scan"},
		{"source":"aws:dynamodb","arn":"arn:aws:dynamodb:us-west-2:123456789012:table/my-table/*","job":"item.changed"},
		{"source":"aws:kinesis","job":"reading"}]`
)

// workers starts the two workers. Their calls of SQS go by way of a proxy that can refuse them.
func (d *deployment) workers(t *testing.T) {
	t.Helper()
	created, err := d.queue.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("dead-letters")})
	if err != nil {
		t.Fatal(err)
	}
	d.deadURL = aws.ToString(created.QueueUrl)
	endpoint, err := url.Parse(d.env["AWS_ENDPOINT_URL"])
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(endpoint) }}
	queues := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.noSQS.Load() {
			w.WriteHeader(http.StatusForbidden) // which no client retries
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(queues.Close)
	d.hooks = &hooks{calls: map[string]int{}}
	hooks := httptest.NewServer(d.hooks)
	t.Cleanup(hooks.Close)

	env := maps.Clone(d.env)
	maps.Copy(env, map[string]string{
		"AWS_ENDPOINT_URL_SQS": queues.URL, "JOBS_QUEUE_URL": d.queueURL, "DEAD_LETTER_QUEUE_URL": d.deadURL, "EVENT_JOBS": eventJobs,
		"FUNCTION_TIMEOUT": functionTimeout.String(),
	})
	artefact := unpacked(t, adaptertest.BuildFunction(t, "worker"))
	d.worker = start(t, artefact, env)
	const hook = `{"jobs":"NAME","url":"URL/NAME","secret":"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"}`
	env["WEBHOOKS"] = strings.ReplaceAll("["+strings.ReplaceAll(hook, "NAME", "flaky")+","+strings.ReplaceAll(hook, "NAME", "doomed")+"]", "URL", hooks.URL)
	env["WEBHOOK_ALLOW_PRIVATE"] = "true"
	d.hooked = start(t, artefact, env)
}

// letters are the messages in the dead-letter queue, which are there no more then: their bodies, and their attributes.
func (d *deployment) letters(t *testing.T) (bodies []string, attributes []map[string]string) {
	t.Helper()
	for _, m := range d.receiveFrom(t, d.deadURL) {
		told := map[string]string{}
		for name, value := range m.MessageAttributes {
			told[name] = aws.ToString(value.StringValue)
		}
		bodies, attributes = append(bodies, aws.ToString(m.Body)), append(attributes, told)
		_, err := d.queue.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: aws.String(d.deadURL), ReceiptHandle: m.ReceiptHandle})
		if err != nil {
			t.Fatal(err)
		}
	}
	return bodies, attributes
}

// awaited are the messages that wait in the queue, as soon as there are any.
func (d *deployment) awaited(t *testing.T) []sqstypes.Message {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for began := time.Now(); time.Since(began) < functionTimeout; <-poll.C {
		if messages := d.receive(t); len(messages) > 0 {
			return messages
		}
	}
	t.Fatal("no message comes")
	return nil
}

// deploy builds and starts everything. The gateway caches policies as API Gateway does.
func deploy(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{cloud: newCloud(t), issuer: newTokenIssuer(t)}
	auth := start(t, unpacked(t, adaptertest.BuildFunction(t, "auth")), d.issuer.env())
	env := maps.Clone(d.env)
	env["RETRY_POLICIES"] = retryPolicies
	d.jobs = start(t, unpacked(t, adaptertest.BuildFunction(t, "jobs")), env)
	d.workers(t)
	gateway, err := localgateway.New(localgateway.Options{
		Authorizer: func(ctx context.Context, event []byte) ([]byte, error) {
			d.authorized.Add(1)
			return invoked(auth)(ctx, event)
		},
		Integration: invoked(d.jobs), Routes: domain.Routes, TTL: localgateway.DefaultTTL,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gateway)
	t.Cleanup(server.Close)
	d.client, d.url = server.Client(), server.URL
	return d
}

// invoked is an artefact as API Gateway invokes it.
func invoked(f *adaptertest.Function) localgateway.Function {
	return func(ctx context.Context, event []byte) ([]byte, error) {
		response, failure, err := f.Invoke(ctx, event)
		if failure != nil {
			return nil, errors.New(failure.Message)
		}
		return response, err
	}
}

// token is a valid token of a subject, and no other's that was made before.
func (d *deployment) token(subject, scope string) string {
	return d.issuer.token(oidctest.Object{"sub": subject, "scope": scope, "jti": uuid.NewString()})
}

// A reply is what a client gets.
type reply struct {
	status int
	header http.Header
	jobDocument
}

// call sends a request as a client does; token may be empty, and header are more fields, name and value in turn.
func (d *deployment) call(t *testing.T, method, path, token, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for field := range slices.Chunk(header, 2) {
		req.Header.Set(field[0], field[1])
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := httpapitest.Breach(req, body, resp.StatusCode, resp.Header, text); err != nil {
		t.Errorf("%s %s: %d %s: %v", method, path, resp.StatusCode, text, err)
	}
	r := reply{status: resp.StatusCode, header: resp.Header}
	if err := json.Unmarshal(text, &r.jobDocument); err != nil {
		t.Fatalf("%s %s: %d with a body that is no document: %v\n%s", method, path, r.status, err, text)
	}
	return r
}

// submit has a job accepted and returns its id.
func (d *deployment) submit(t *testing.T, token string) string {
	t.Helper()
	return d.submitNamed(t, token, "test-job")
}

func (d *deployment) submitNamed(t *testing.T, token, name string) string {
	t.Helper()
	r := d.call(t, http.MethodPost, "/jobs", token, `{"name":"`+name+`"}`)
	if r.status != http.StatusCreated || r.Status != "queued" || r.header.Get("Location") != "/jobs/"+r.ID {
		t.Fatalf("POST /jobs: %+v, want 201 and where the job is", r)
	}
	return r.ID
}

// work is one round of Lambda's poller: it hands over what waits in the queue, and deletes all that the worker does not
// report as failed. It returns the ids of the messages, and of those that failed.
func (d *deployment) work(t *testing.T) (handed, failed []string) {
	t.Helper()
	messages := d.receive(t)
	failed = d.run(t, messages)
	for _, m := range messages {
		handed = append(handed, aws.ToString(m.MessageId))
		if !slices.Contains(failed, aws.ToString(m.MessageId)) {
			d.remove(t, []sqstypes.Message{m})
		}
	}
	return handed, failed
}

// run hands messages to the worker and returns the ids of those that it reports as failed.
func (d *deployment) run(t *testing.T, messages []sqstypes.Message) (failed []string) {
	t.Helper()
	if len(messages) == 0 {
		return nil
	}
	var response events.SQSEventResponse
	if err := json.Unmarshal([]byte(answered(t, d.worker, d.event(t, messages))), &response); err != nil {
		t.Fatal(err)
	}
	for _, item := range response.BatchItemFailures {
		if !slices.ContainsFunc(messages, func(m sqstypes.Message) bool { return aws.ToString(m.MessageId) == item.ItemIdentifier }) {
			t.Fatalf("the worker reports %q, which was not in the batch: Lambda would deliver all of it again", item.ItemIdentifier)
		}
		failed = append(failed, item.ItemIdentifier)
	}
	return failed
}

// wantSucceeded asks as the owner, and looks at the table and the handler's log.
func (d *deployment) wantSucceeded(t *testing.T, id, token string) domain.Job {
	t.Helper()
	if r := d.call(t, http.MethodGet, "/jobs/"+id, token, ""); r.status != http.StatusOK || r.ID != id || r.Status != "succeeded" || r.Attempts != 1 {
		t.Errorf("GET /jobs/%s: %+v, want a job that succeeded at the first attempt", id, r)
	}
	job := d.job(t, id)
	if job.Status != domain.Succeeded || job.Starts != 1 {
		t.Errorf("the table has the job as %s after %d starts, want succeeded after 1", job.Status, job.Starts)
	}
	if n := runs(t, d.worker, id); n != 1 {
		t.Errorf("the handler ran %d times, want once", n)
	}
	return job
}

// From a token to a finished job: gateway, auth, policy, jobs, SNS, SQS, worker, DynamoDB.
//
//nolint:tparallel // the subtests take turns at one moto
func TestCloud(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	const both = "jobs:submit jobs:read"

	t.Run("a job goes all the way, and its token is looked at once", func(t *testing.T) {
		token, before := d.token("alice", both), d.authorized.Load()
		id := d.submit(t, token)
		if job := d.job(t, id); job.Status != domain.Queued || job.Owner != (domain.Identity{Issuer: d.issuer.URL, Subject: "alice"}) {
			t.Errorf("behind the 201 the table has %+v", job)
		}
		if handed, failed := d.work(t); len(handed) != 1 || len(failed) != 0 {
			t.Errorf("handed over %v, of which failed %v; want one that did not", handed, failed)
		}
		d.wantSucceeded(t, id, token)
		if calls := d.authorized.Load() - before; calls != 1 {
			t.Errorf("the authorizer was called %d times for a POST and a GET, want once", calls)
		}
		if handed, _ := d.work(t); len(handed) != 0 {
			t.Errorf("the queue still has %v", handed)
		}
		if r := d.call(t, http.MethodGet, "/jobs/"+id, d.token("bob", both), ""); r.status != http.StatusNotFound {
			t.Errorf("another's GET /jobs/%s: %d, want 404", id, r.status)
		}
	})

	t.Run("a token that may only read", func(t *testing.T) {
		token, before, stored := d.token("alice", "jobs:read"), d.authorized.Load(), d.stored(t)
		r := d.call(t, http.MethodPost, "/jobs", token, `{"name":"test-job"}`)
		if r.status != http.StatusForbidden || r.Code != "forbidden" {
			t.Errorf("POST /jobs: %d %s, want 403 forbidden", r.status, r.Code)
		}
		if r := d.call(t, http.MethodGet, "/jobs", token, ""); r.status != http.StatusOK {
			t.Errorf("GET /jobs: %d, want 200", r.status)
		}
		if calls := d.authorized.Load() - before; calls != 1 {
			t.Errorf("the authorizer was called %d times for a refused POST and a GET, want once", calls)
		}
		if diff := cmp.Diff(stored, d.stored(t)); diff != "" {
			t.Errorf("the refused call changed the table (-before +after):\n%s", diff)
		}
	})

	t.Run("nobody gets in without a valid token", func(t *testing.T) {
		stored, before := d.stored(t), d.authorized.Load()
		good := d.token("alice", both)
		for name, token := range map[string]string{
			"none":    "",
			"cut off": good[:len(good)-10],
			"forged":  oidctest.NewKey("k1", "ES256", 0).Sign(nil, d.issuer.claims),
		} {
			r := d.call(t, http.MethodPost, "/jobs", token, `{"name":"test-job"}`)
			if r.status != http.StatusUnauthorized || !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: %d with the challenge %q, want 401 and Bearer", name, r.status, r.header.Get("WWW-Authenticate"))
			}
		}
		if calls := d.authorized.Load() - before; calls != 2 {
			t.Errorf("the authorizer was called %d times, want twice: without a token there is nothing to ask", calls)
		}
		if diff := cmp.Diff(stored, d.stored(t)); diff != "" {
			t.Errorf("the refused calls changed the table (-before +after):\n%s", diff)
		}
	})

	t.Run("a message that is lost is sent again when its check has come", func(t *testing.T) {
		token := d.token("alice", both)
		id := d.submit(t, token)
		lost := d.receive(t)
		if len(lost) != 1 {
			t.Fatalf("the queue has %d messages, want 1", len(lost))
		}
		d.remove(t, lost)
		tick := func() {
			t.Helper()
			if answer := answered(t, d.jobs, lambdaEvent(t, "scheduled.json")); answer != "null" {
				t.Errorf("the schedule's answer is %s, want null", answer)
			}
		}
		tick()
		if handed, _ := d.work(t); len(handed) != 0 {
			t.Errorf("the job was sent again before its check: %v", handed)
		}
		d.pass(t, id, domain.FirstCheck)
		tick()
		if handed, failed := d.work(t); len(handed) != 1 || len(failed) != 0 {
			t.Errorf("handed over %v, of which failed %v; want one that did not", handed, failed)
		}
		if job := d.wantSucceeded(t, id, token); job.Dispatches != 2 {
			t.Errorf("the job was dispatched %d times, want twice", job.Dispatches)
		}
		tick()
		if handed, _ := d.work(t); len(handed) != 0 {
			t.Errorf("the finished job was sent again: %v", handed)
		}
	})

	t.Run("a message that comes twice runs its job once", func(t *testing.T) {
		token := d.token("alice", both)
		id := d.submit(t, token)
		var last []sqstypes.Message
		for _, count := range []string{"1", "2"} {
			d.show(t, last)
			last = d.receive(t)
			if len(last) != 1 || last[0].Attributes["ApproximateReceiveCount"] != count {
				t.Fatalf("received %+v, want one message, received %s times", last, count)
			}
			if failed := d.run(t, last); len(failed) != 0 {
				t.Errorf("delivery %s failed", count)
			}
			d.wantSucceeded(t, id, token)
		}
		d.remove(t, last)
	})

	t.Run("a request that is repeated runs its job once", func(t *testing.T) {
		token := d.token("alice", both)
		first := d.call(t, http.MethodPost, "/jobs", token, `{"name":"test-job"}`, "Idempotency-Key", "order-1")
		again := d.call(t, http.MethodPost, "/jobs", token, `{"name":"test-job"}`, "Idempotency-Key", "order-1")
		if first.status != http.StatusCreated || again.status != http.StatusOK || again.ID != first.ID || again.header.Get("Idempotent-Replayed") != "true" {
			t.Fatalf("the first %+v\nthe second %+v\nwant 201, then 200 and the same job", first, again)
		}
		// A batch at a time: both messages at once would be two writers, which moto does not keep apart.
		messages := d.receive(t)
		if len(messages) != 2 {
			t.Fatalf("the queue has %d messages, want 2", len(messages))
		}
		for _, m := range messages {
			if failed := d.run(t, []sqstypes.Message{m}); len(failed) != 0 {
				t.Errorf("message %s failed", aws.ToString(m.MessageId))
			}
		}
		d.remove(t, messages)
		d.wantSucceeded(t, first.ID, token)
	})

	t.Run("a poison message is set apart and holds up no other", func(t *testing.T) {
		token := d.token("alice", both)
		poison, err := d.queue.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(d.queueURL), MessageBody: aws.String("not a job")})
		if err != nil {
			t.Fatal(err)
		}
		id := d.submit(t, token)
		d.noSQS.Store(true)
		handed, failed := d.work(t)
		d.noSQS.Store(false)
		if len(handed) != 2 || len(failed) != 1 || failed[0] != aws.ToString(poison.MessageId) {
			t.Errorf("handed over %v, of which failed %v; want two, and %s alone failed: its letter was refused", handed, failed, aws.ToString(poison.MessageId))
		}
		d.wantSucceeded(t, id, token)
		if hidden := d.attribute(t, sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible); hidden != "1" {
			t.Errorf("%s messages wait for another delivery, want the poison one", hidden)
		}
		again, err := d.queue.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(d.queueURL), MessageBody: aws.String("no job either")})
		if err != nil {
			t.Fatal(err)
		}
		if handed, failed := d.work(t); len(handed) != 1 || len(failed) != 0 {
			t.Errorf("handed over %v, of which failed %v; want one that did not", handed, failed)
		}
		bodies, attributes := d.letters(t)
		want := []map[string]string{{
			"reason": "undecodable", "detail": "the message is neither an event nor a bare job", "source": d.queueARN, "message_id": aws.ToString(again.MessageId),
		}}
		if diff := cmp.Diff(want, attributes); diff != "" || !slices.Equal(bodies, []string{"no job either"}) {
			t.Errorf("the letters %q (-want +got):\n%s", bodies, diff)
		}
	})

	t.Run("a job that fails twice then succeeds", func(t *testing.T) {
		usual := d.worker
		d.worker = d.hooked
		defer func() { d.worker = usual }()
		d.hooks.fails = func(_ string, calls int) bool { return calls < 2 }
		id := d.submitNamed(t, d.token("alice", both), "flaky")
		for attempt := 1; attempt <= 3; attempt++ {
			messages := d.awaited(t) // nobody sends it again: it is kept in the queue until the job is due
			if count := messages[0].Attributes["ApproximateReceiveCount"]; len(messages) != 1 || count != strconv.Itoa(attempt) {
				t.Fatalf("received %d messages, the first %s times, want one, %d times", len(messages), count, attempt)
			}
			failed := d.run(t, messages)
			job := d.job(t, id)
			if attempt < 3 {
				if len(failed) != 1 || job.Status != domain.Queued || job.Attempts != attempt || job.Reason != "" {
					t.Errorf("attempt %d: failed %v, the job is %s after %d attempts, want its message kept and the job queued", attempt, failed, job.Status, job.Attempts)
				}
				continue
			}
			if len(failed) != 0 || job.Status != domain.Succeeded || job.Attempts != 3 || job.Dispatches != 1 {
				t.Errorf("failed %v, the job is %s after %d attempts and %d dispatches, want success after 3 and 1", failed, job.Status, job.Attempts, job.Dispatches)
			}
			d.remove(t, messages)
		}
		if bodies, _ := d.letters(t); len(bodies) != 0 {
			t.Errorf("letters %q", bodies)
		}
	})

	t.Run("a retry whose message cannot be kept is the due loop's", func(t *testing.T) {
		usual := d.worker
		d.worker = d.hooked
		defer func() { d.worker = usual }()
		d.hooks.fails = func(_ string, calls int) bool { return calls < 1 }
		id := d.submitNamed(t, d.token("alice", both), "flaky")
		d.noSQS.Store(true)
		handed, failed := d.work(t)
		d.noSQS.Store(false)
		if job := d.job(t, id); len(handed) != 1 || len(failed) != 0 || job.Status != domain.Queued {
			t.Fatalf("handed over %v, of which failed %v; the job is %s; want one that did not, and the job queued", handed, failed, job.Status)
		}
		d.pass(t, id, time.Minute)
		if answer := answered(t, d.hooked, lambdaEvent(t, "scheduled.json")); answer != "null" { // the worker makes passes as well
			t.Errorf("the schedule's answer is %s, want null", answer)
		}
		if handed, failed := d.work(t); len(handed) != 1 || len(failed) != 0 {
			t.Errorf("handed over %v, of which failed %v; want one that did not", handed, failed)
		}
		if job := d.job(t, id); job.Status != domain.Succeeded || job.Dispatches != 2 {
			t.Errorf("the job is %s after %d dispatches, want success after 2", job.Status, job.Dispatches)
		}
	})

	t.Run("a job that dies is told with its reason, and can be redriven", func(t *testing.T) {
		usual := d.worker
		d.worker = d.hooked
		defer func() { d.worker = usual }()
		d.hooks.fails = func(string, int) bool { return true }
		token := d.token("alice", both+" jobs:redrive")
		id := d.submitNamed(t, token, "doomed")
		messages := d.receive(t)
		if len(messages) != 1 {
			t.Fatalf("received %d messages, want one", len(messages))
		}
		d.noSQS.Store(true)
		if failed := d.run(t, messages); len(failed) != 1 {
			t.Errorf("failed %v, want the message: its letter could not be sent", failed)
		}
		d.noSQS.Store(false)
		if job := d.job(t, id); job.Status != domain.Dead || job.Reason != domain.ReasonAttemptsUsedUp {
			t.Fatalf("the job is %s for %s, want dead for attempts_used_up", job.Status, job.Reason)
		}
		if bodies, _ := d.letters(t); len(bodies) != 0 {
			t.Errorf("letters %q, though SQS has refused them", bodies)
		}
		d.show(t, messages)
		if handed, failed := d.work(t); len(handed) != 1 || len(failed) != 0 {
			t.Errorf("handed over %v, of which failed %v; want one that did not", handed, failed)
		}
		bodies, attributes := d.letters(t)
		want := []map[string]string{{
			"reason": "attempts_used_up", "source": d.queueARN, "message_id": aws.ToString(messages[0].MessageId), "job_id": id, "job_name": "doomed",
		}}
		if diff := cmp.Diff(want, attributes); diff != "" || !slices.Equal(bodies, []string{aws.ToString(messages[0].Body)}) {
			t.Errorf("the letters %q (-want +got):\n%s", bodies, diff)
		}

		d.hooks.fails = func(string, int) bool { return false }
		if r := d.call(t, http.MethodPost, "/jobs/"+id+"/redrive", token, ""); r.status != http.StatusOK || r.Status != "queued" {
			t.Fatalf("redrive: %+v, want 200 and a queued job", r)
		}
		if handed, failed := d.work(t); len(handed) != 1 || len(failed) != 0 {
			t.Errorf("handed over %v, of which failed %v; want one that did not", handed, failed)
		}
		if job := d.job(t, id); job.Status != domain.Succeeded || job.Starts != 2 {
			t.Errorf("the job is %s after %d starts, want success after 2", job.Status, job.Starts)
		}
		if bodies, _ := d.letters(t); len(bodies) != 0 {
			t.Errorf("letters %q of a job that succeeded", bodies)
		}
	})

	t.Run("an event of each other source is a job that runs once", func(t *testing.T) {
		const none = `{"batchItemFailures":[]}`
		for file, source := range map[string]struct {
			answer, name, owner string
			jobs                int
		}{
			"eventbridge.json": {"null", "instance.changed", "aws.ec2", 1},
			"s3.json":          {"null", "upload.scan", "aws:s3", 1},
			"dynamodb.json":    {none, "item.changed", "aws:dynamodb", 2},
			"kinesis.json":     {none, "reading", "aws:kinesis", 2},
		} {
			before, event := d.stored(t), lambdaEvent(t, file)
			for range 2 { // each source delivers at least once
				if answer := answered(t, d.worker, event); answer != source.answer {
					t.Errorf("%s: the answer is %s, want %s", file, answer, source.answer)
				}
			}
			if _, err := d.queue.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(d.queueURL), MessageBody: aws.String(string(event))}); err != nil {
				t.Fatal(err)
			}
			if handed, failed := d.work(t); len(handed) != 1 || len(failed) != 0 { // and may come by way of a queue too
				t.Errorf("%s: handed over %v, of which failed %v; want one that did not", file, handed, failed)
			}
			made := 0
			for id := range d.stored(t) {
				if _, there := before[id]; there || !domain.ValidID(id) {
					continue
				}
				made++
				job := d.job(t, id)
				if job.Name != source.name || job.Status != domain.Succeeded || job.Starts != 1 || job.Owner != (domain.Identity{Issuer: "urn:jobgate:system", Subject: source.owner}) {
					t.Errorf("%s: the table has %+v", file, job)
				}
				if n := runs(t, d.worker, id); n != 1 {
					t.Errorf("%s: job %s ran %d times, want once", file, id, n)
				}
				if r := d.call(t, http.MethodGet, "/jobs/"+id, d.token("alice", both), ""); r.status != http.StatusNotFound {
					t.Errorf("%s: GET /jobs/%s by anybody: %d, want 404", file, id, r.status)
				}
				if r := d.call(t, http.MethodGet, "/jobs/"+id, d.token("root", "jobs:admin"), ""); r.status != http.StatusOK || r.Status != "succeeded" {
					t.Errorf("%s: GET /jobs/%s by an administrator: %+v, want 200", file, id, r)
				}
			}
			if made != source.jobs {
				t.Errorf("%s: %d jobs, want %d", file, made, source.jobs)
			}
		}
	})

	t.Run("an event that no rule fits is set apart", func(t *testing.T) {
		stored := d.stored(t)
		if answer := answered(t, d.worker, lambdaEvent(t, "eventbridge.json", "detail-type", "EC2 Spot Instance Interruption Warning")); answer != "null" {
			t.Errorf("the answer is %s, want null", answer)
		}
		large := lambdaEvent(t, "eventbridge.json", "id", "too-large", "detail.state", strings.Repeat("x", domain.MaxPayload))
		if answer := answered(t, d.worker, large); answer != "null" {
			t.Errorf("the answer is %s, want null", answer)
		}
		bodies, attributes := d.letters(t)
		var reasons []string
		for i, a := range attributes {
			reasons = append(reasons, a["reason"])
			if a["source"] != "aws.ec2" || !strings.Contains(bodies[i], `"source":"aws.ec2"`) {
				t.Errorf("a letter of %v", a)
			}
		}
		if slices.Sort(reasons); !slices.Equal(reasons, []string{"too_large", "unmapped_event"}) {
			t.Errorf("letters for %v, want one for its size and one that no rule fits", reasons)
		}
		if diff := cmp.Diff(stored, d.stored(t)); diff != "" {
			t.Errorf("they changed the table (-before +after):\n%s", diff)
		}
	})

	t.Run("every job of it has an end", func(t *testing.T) {
		for _, id := range slices.Sorted(maps.Keys(d.stored(t))) {
			if job := d.job(t, id); job.Status != domain.Succeeded {
				t.Errorf("job %s is %s", id, job.Status)
			}
		}
	})
}
