package sns_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/sns"
	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
	"github.com/jobgate/jobgate/ports/portstest"
)

var _ ports.JobDispatcher = (*sns.Dispatcher)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	source = "/jobs"
	jobID  = "0198c0de-0000-7000-8000-000000000001"
)

func TestDispatcherAgainstMoto(t *testing.T) {
	t.Parallel()
	cfg := adaptertest.AWSConfig(t, adaptertest.Moto(t))
	for name, raw := range map[string]bool{"raw delivery": true, "envelope": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			portstest.JobDispatcher(t, func(t *testing.T) portstest.JobDispatcherHarness {
				t.Helper()
				drain := subscribe(t, cfg, raw, "")
				return portstest.JobDispatcherHarness{
					Dispatcher: sns.NewDispatcher(awssns.NewFromConfig(cfg), drain.topic, source),
					Receive: func(ctx context.Context) (domain.Delivery, error) {
						m, err := drain.receive(ctx)
						if err != nil {
							return domain.Delivery{}, err
						}
						body := aws.ToString(m.Body)
						if !raw {
							var envelope struct{ Message string }
							if err := json.Unmarshal([]byte(body), &envelope); err != nil {
								return domain.Delivery{}, err
							}
							body = envelope.Message
						}
						return cloudevent.Decode([]byte(body), cloudevent.Origin{MessageID: aws.ToString(m.MessageId)}), nil
					},
					Now: time.Now,
				}
			})
		})
	}
	t.Run("the job's name is an attribute", func(t *testing.T) {
		t.Parallel()
		drain := subscribe(t, cfg, true, "")
		if err := sns.NewDispatcher(awssns.NewFromConfig(cfg), drain.topic, source).Dispatch(t.Context(), aJob()); err != nil {
			t.Fatal(err)
		}
		m, err := drain.receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := m.MessageAttributes["name"]; aws.ToString(got.DataType) != "String" || aws.ToString(got.StringValue) != "report.render" {
			t.Errorf("attributes %+v", m.MessageAttributes)
		}
	})
	t.Run("on a FIFO topic a job is a group, and a second hand-over no duplicate", func(t *testing.T) {
		t.Parallel()
		drain := subscribe(t, cfg, true, ".fifo")
		d := sns.NewDispatcher(awssns.NewFromConfig(cfg), drain.topic, source)
		for _, dispatches := range []int{1, 2} {
			job := aJob()
			job.Dispatches = dispatches
			if err := d.Dispatch(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			m, err := drain.receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := m.Attributes["MessageGroupId"], jobID; got != want {
				t.Errorf("group %q, want %q", got, want)
			}
			if got, want := m.Attributes["MessageDeduplicationId"], fmt.Sprintf("%s/%d", jobID, dispatches); got != want {
				t.Errorf("deduplication id %q, want %q", got, want)
			}
		}
	})
	t.Run("a topic that is not there is a fault of the settings", func(t *testing.T) {
		t.Parallel()
		d := sns.NewDispatcher(awssns.NewFromConfig(cfg), "arn:aws:sns:us-east-1:123456789012:absent", source)
		if err := d.Dispatch(t.Context(), aJob()); err == nil || domain.KindOf(err) != domain.Internal {
			t.Errorf("error %v, want Internal", err)
		}
	})
	t.Run("what the topic calls too long is too large", func(t *testing.T) {
		t.Parallel()
		drain := subscribe(t, cfg, true, "")
		job := aJob()
		job.Payload = []byte(`"` + strings.Repeat("x", 256<<10) + `"`)
		err := sns.NewDispatcher(awssns.NewFromConfig(cfg), drain.topic, source).Dispatch(t.Context(), job)
		if domain.KindOf(err) != domain.TooLarge {
			t.Errorf("error %v, want TooLarge", err)
		}
	})
}

func aJob() domain.Job {
	return domain.Job{
		ID: jobID, Name: "report.render", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Owner: domain.Identity{Issuer: "https://issuer.example", Subject: "alice"}, Payload: []byte(`{"n":1.0}`),
	}
}

// queue is an SQS queue that is subscribed to a topic of its own.
type queue struct {
	client *sqs.Client
	url    string
	topic  string
}

var queues atomic.Int64

func subscribe(t *testing.T, cfg aws.Config, raw bool, suffix string) queue {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	name := fmt.Sprintf("jobs-%d%s", queues.Add(1), suffix)
	attributes := map[string]string{}
	if suffix == ".fifo" {
		attributes["FifoTopic"] = "true"
	}
	topics := awssns.NewFromConfig(cfg)
	topic, err := topics.CreateTopic(ctx, &awssns.CreateTopicInput{Name: aws.String(name), Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	if suffix == ".fifo" {
		attributes = map[string]string{"FifoQueue": "true"}
	}
	q := queue{client: sqs.NewFromConfig(cfg), topic: aws.ToString(topic.TopicArn)}
	created, err := q.client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(name), Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	q.url = aws.ToString(created.QueueUrl)
	got, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: created.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameQueueArn},
	})
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	if raw {
		settings["RawMessageDelivery"] = "true"
	}
	_, err = topics.Subscribe(ctx, &awssns.SubscribeInput{
		TopicArn: topic.TopicArn, Protocol: aws.String("sqs"), Endpoint: aws.String(got.Attributes["QueueArn"]), Attributes: settings,
	})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// receive returns the next message, removed from the queue.
func (q queue) receive(ctx context.Context) (sqstypes.Message, error) {
	for {
		out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(q.url), MaxNumberOfMessages: 1, WaitTimeSeconds: 5, MessageAttributeNames: []string{"All"},
			MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameAll},
		})
		if err != nil {
			return sqstypes.Message{}, err
		}
		for _, m := range out.Messages {
			_, err := q.client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: aws.String(q.url), ReceiptHandle: m.ReceiptHandle})
			return m, err
		}
	}
}

// published answers each Publish with status and body, and keeps its form. The client does not retry.
func published(t *testing.T, status int, body string) (client *awssns.Client, last func() url.Values) {
	t.Helper()
	var form atomic.Pointer[url.Values]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		form.Store(&r.PostForm)
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	cfg := adaptertest.AWSConfig(t, server.URL)
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return awssns.NewFromConfig(cfg), func() url.Values { return *form.Load() }
}

const confirmed = `<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>`

func TestErrorsOfTheTopicAreClassified(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status        int
		code, message string
		want          domain.Kind
		reason        domain.Reason
	}{
		{429, "Throttled", "Rate exceeded", domain.Throttled, domain.ReasonThrottled},
		{400, "Throttling", "Rate exceeded", domain.Throttled, domain.ReasonThrottled},
		{400, "ThrottlingException", "Rate exceeded", domain.Throttled, domain.ReasonThrottled},
		{400, "KMSThrottling", "Rate exceeded", domain.Throttled, domain.ReasonThrottled},
		{400, "InvalidParameter", "Invalid parameter: Message too long", domain.TooLarge, domain.ReasonTooLarge},
		{400, "InvalidParameter", "Invalid parameter: TopicArn", domain.Internal, domain.ReasonInternal},
		{404, "NotFound", "Topic does not exist", domain.Internal, domain.ReasonInternal},
		{403, "AuthorizationError", "not authorized to perform: SNS:Publish", domain.Internal, domain.ReasonInternal},
		{403, "InvalidClientTokenId", "The security token is invalid", domain.Internal, domain.ReasonInternal},
		{403, "SignatureDoesNotMatch", "The request signature", domain.Internal, domain.ReasonInternal},
		{400, "KMSDisabled", "key is disabled", domain.Internal, domain.ReasonInternal},
		{403, "ExpiredToken", "The security token has expired", domain.Unavailable, domain.ReasonUnavailable},
		{500, "InternalError", "", domain.Unavailable, domain.ReasonUnavailable},
		{503, "ServiceUnavailable", "", domain.Unavailable, domain.ReasonUnavailable},
		{400, "SomethingNew", "", domain.Unavailable, domain.ReasonUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.code+" "+tt.message, func(t *testing.T) {
			t.Parallel()
			client, _ := published(t, tt.status, fmt.Sprintf(
				`<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>r</RequestId></ErrorResponse>`, tt.code, tt.message))
			wantError(t, sns.NewDispatcher(client, "arn:aws:sns:us-east-1:1:jobs", source).Dispatch(t.Context(), aJob()), tt.want, tt.reason)
		})
	}
	t.Run("no answer in the protocol", func(t *testing.T) {
		t.Parallel()
		client, _ := published(t, http.StatusBadGateway, "<html>")
		wantError(t, sns.NewDispatcher(client, "arn:aws:sns:us-east-1:1:jobs", source).Dispatch(t.Context(), aJob()), domain.Unavailable, domain.ReasonUnavailable)
	})
	t.Run("no connection", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.NotFoundHandler())
		server.Close()
		cfg := adaptertest.AWSConfig(t, server.URL)
		cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
		wantError(t, sns.NewDispatcher(awssns.NewFromConfig(cfg), "arn:aws:sns:us-east-1:1:jobs", source).Dispatch(t.Context(), aJob()), domain.Unavailable, domain.ReasonUnavailable)
	})
}

func wantError(t *testing.T, err error, kind domain.Kind, reason domain.Reason) {
	t.Helper()
	e, ok := errors.AsType[*domain.Error](err)
	if !ok || e.Kind != kind || e.Reason != reason {
		t.Fatalf("error %v, want %v and %s", err, kind, reason)
	}
	if e.Err == nil {
		t.Errorf("%v hides its cause from the log", err)
	}
}

// silence is a topic that never answers.
type silence struct{}

func (silence) Do(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestATopicThatDoesNotAnswerIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := awssns.New(awssns.Options{
			Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: silence{},
		})
		d := sns.NewDispatcher(client, "arn:aws:sns:us-east-1:1:jobs", source)

		began := time.Now()
		wantError(t, d.Dispatch(t.Context(), aJob()), domain.Unavailable, domain.ReasonUnavailable)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("gave up after %v, want 5s", took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		err := d.Dispatch(ctx, aJob())
		wantError(t, err, domain.Unavailable, domain.ReasonUnavailable)
		if took := time.Since(began); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("gave up after %v with %v, want 1s, the caller's own bound", took, err)
		}
	})
}

func TestWhatIsPublishedIsTheMessageAndCanBeQueued(t *testing.T) {
	t.Parallel()
	client, last := published(t, http.StatusOK, confirmed)
	job := aJob()
	job.Payload = []byte("{ \"a\":\"<\uFFFE\uFFFF\u00e9\", \"n\":1.00 }")
	if err := sns.NewDispatcher(client, "arn:aws:sns:us-east-1:1:jobs", source).Dispatch(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	want := `{"specversion":"1.0","id":"` + jobID + `","type":"report.render","source":"/jobs","subject":"https://issuer.example|alice",` +
		`"time":"2026-01-02T03:04:05Z","jobgateschema":"1","datacontenttype":"application/json","data":{ "a":"<\ufffe\uffff` + "\u00e9" + `", "n":1.00 }}`
	if got := last().Get("Message"); got != want {
		t.Errorf("message\n\t%s\nwant\n\t%s", got, want)
	}
	if form := last(); form.Has("MessageGroupId") || form.Has("MessageDeduplicationId") {
		t.Errorf("a standard topic takes no group and no deduplication id: %v", form)
	}
}

func TestFitsIsExactToTheByte(t *testing.T) {
	t.Parallel()
	client, last := published(t, http.StatusOK, confirmed)
	d := sns.NewDispatcher(client, "arn:aws:sns:us-east-1:1:jobs", source)
	for _, special := range []string{"", "\uFFFE", strings.Repeat("\uFFFF", 1000)} {
		job := aJob()
		job.Owner.Subject = "bob" + special
		fill := func(n int) { job.Payload = []byte(`"` + special + strings.Repeat("x", n) + `"`) }
		fill(0)
		if err := d.Dispatch(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		free := 262144 - len(last().Get("Message")) - len("name"+"String") - len(job.Name)
		fill(free)
		if err := d.Fits(job); err != nil {
			t.Errorf("a message of exactly 262144 bytes: %v", err)
		}
		fill(free + 1)
		if err := d.Fits(job); domain.KindOf(err) != domain.TooLarge {
			t.Errorf("a message of 262145 bytes: %v, want TooLarge", err)
		}
	}
}

func TestAJobThatCannotBeEncodedIsNotPublished(t *testing.T) {
	t.Parallel()
	d := sns.NewDispatcher(awssns.New(awssns.Options{}), "arn:aws:sns:us-east-1:1:jobs", source)
	job := aJob()
	job.Owner.Subject = "\xff"
	if err := d.Fits(job); err == nil || domain.KindOf(err) != domain.Internal {
		t.Errorf("Fits: %v, want Internal", err)
	}
	if err := d.Dispatch(t.Context(), job); err == nil || domain.KindOf(err) != domain.Internal {
		t.Errorf("Dispatch: %v, want Internal", err)
	}
}
