package sqs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/sqs"
	"github.com/jobgate/jobgate/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const queueURL = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"

func TestURLs(t *testing.T) {
	t.Parallel()
	for queue, want := range map[string]string{
		queueURL:           "123456789012 jobs",
		queueURL + ".fifo": "123456789012 jobs.fifo",
		"http://127.0.0.1:5000/123456789012/a-b_C":   "123456789012 a-b_C",
		"https://queue.amazonaws.com/123456789012/q": "123456789012 q",
	} {
		if account, name, err := sqs.ParseURL(queue); err != nil || account+" "+name != want {
			t.Errorf("%s: %s %s, %v, want %s", queue, account, name, err, want)
		}
	}
	for _, queue := range []string{
		"", "jobs", "arn:aws:sqs:eu-west-1:123456789012:jobs", "/123456789012/jobs", "ftp://h/123456789012/jobs", "https://h/jobs", "https://h/1/jobs",
		queueURL + "/", queueURL + "?a", queueURL + "#a", queueURL + " ", "https://h/123456789012/a.b", "https://h\x7f/",
	} {
		if account, name, err := sqs.ParseURL(queue); err == nil {
			t.Errorf("%q is accepted: %s %s", queue, account, name)
		}
		if q, err := sqs.NewQueue(nil, queue); err == nil || q != nil {
			t.Errorf("%q is a queue", queue)
		}
	}
}

//nolint:tparallel // the subtests take turns at one moto
func TestQueueAgainstMoto(t *testing.T) {
	t.Parallel()
	client := awssqs.NewFromConfig(adaptertest.AWSConfig(t, adaptertest.Moto(t)))
	create := func(t *testing.T, name string, attributes map[string]string) (queue *sqs.Queue, url, arn string) {
		t.Helper()
		created, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: aws.String(name), Attributes: attributes})
		if err != nil {
			t.Fatal(err)
		}
		url = aws.ToString(created.QueueUrl)
		got, err := client.GetQueueAttributes(t.Context(), &awssqs.GetQueueAttributesInput{
			QueueUrl: created.QueueUrl, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameQueueArn},
		})
		if err != nil {
			t.Fatal(err)
		}
		if queue, err = sqs.NewQueue(client, url); err != nil {
			t.Fatal(err)
		}
		return queue, url, got.Attributes["QueueArn"]
	}
	receive := func(t *testing.T, url string) []types.Message {
		t.Helper()
		out, err := client.ReceiveMessage(t.Context(), &awssqs.ReceiveMessageInput{
			QueueUrl: aws.String(url), MaxNumberOfMessages: 10, VisibilityTimeout: 300, MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.Messages
	}

	t.Run("a message is stored with its attributes", func(t *testing.T) {
		queue, url, _ := create(t, "letters", nil)
		err := queue.Send(t.Context(), []byte("a\x00b\ufffe\xffc\tä"), map[string]string{"reason": "permanent", "detail": "x\x01y", "job_id": ""})
		if err != nil {
			t.Fatal(err)
		}
		if err := queue.Send(t.Context(), nil, nil); err != nil {
			t.Errorf("an empty message: %v", err)
		}
		messages := receive(t, url)
		if len(messages) != 2 || aws.ToString(messages[0].Body) != "a\ufffdb\ufffd\ufffdc\tä" || aws.ToString(messages[1].Body) != "(empty)" {
			t.Fatalf("messages %+v", messages)
		}
		got := map[string]string{}
		for name, value := range messages[0].MessageAttributes {
			got[name] = aws.ToString(value.DataType) + " " + aws.ToString(value.StringValue)
		}
		if diff := cmp.Diff(map[string]string{"reason": "String permanent", "detail": "String x\ufffdy"}, got); diff != "" {
			t.Errorf("attributes (-want +got):\n%s", diff)
		}
	})
	t.Run("what does not fit is cut and says so", func(t *testing.T) {
		for name, most := range map[string]int{"large": 1 << 20, "small": 256 << 10} {
			queue, url, _ := create(t, name, map[string]string{"MaximumMessageSize": fmt.Sprint(most)})
			for _, length := range []int{200 << 10, 600 << 10, 2 << 20} {
				body := strings.Repeat("ä", length/2)
				if err := queue.Send(t.Context(), []byte(body), map[string]string{"reason": "too_large"}); err != nil {
					t.Errorf("%s, %d bytes: %v", name, length, err)
					continue
				}
				messages := receive(t, url)
				if len(messages) != 1 {
					t.Fatalf("%s, %d bytes: %d messages", name, length, len(messages))
				}
				text, bytes := aws.ToString(messages[0].Body), aws.ToString(messages[0].MessageAttributes["bytes"].StringValue)
				if length < most-100 {
					if text != body || bytes != "" {
						t.Errorf("%s, %d bytes: cut to %d, bytes %q", name, length, len(text), bytes)
					}
				} else if !strings.HasPrefix(body, text) || len(text) > most || len(text) < most-100 || bytes != fmt.Sprint(length) {
					t.Errorf("%s, %d bytes: %d are left, bytes %q", name, length, len(text), bytes)
				}
			}
		}
	})
	t.Run("a message is hidden for as long as is asked", func(t *testing.T) {
		queue, url, arn := create(t, "jobs", nil)
		if err := queue.Send(t.Context(), []byte("m"), nil); err != nil {
			t.Fatal(err)
		}
		receipt := aws.ToString(receive(t, url)[0].ReceiptHandle)
		if kept, err := queue.Postpone(t.Context(), arn, receipt, 90*time.Second); err != nil || !kept {
			t.Errorf("kept %v, %v", kept, err)
		}
		if got := receive(t, url); len(got) != 0 {
			t.Errorf("it is visible: %+v", got)
		}
		if kept, err := queue.Postpone(t.Context(), strings.Replace(arn, ":jobs", ":jobs2", 1), receipt, 0); err != nil || kept {
			t.Errorf("another queue's: kept %v, %v", kept, err)
		}
		if kept, err := queue.Postpone(t.Context(), arn, receipt, 0); err != nil || !kept {
			t.Errorf("kept %v, %v", kept, err)
		}
		if got := receive(t, url); len(got) != 1 {
			t.Errorf("it is hidden yet: %+v", got)
		}
		if kept, err := queue.Postpone(t.Context(), arn, "no receipt", time.Second); kept || domain.KindOf(err) != domain.Internal {
			t.Errorf("a receipt that is none: kept %v, %v", kept, err)
		}
	})
	t.Run("a queue that is not there is a fault of the settings", func(t *testing.T) {
		_, url, _ := create(t, "gone", nil)
		queue, err := sqs.NewQueue(client, url+"-or-not")
		if err != nil {
			t.Fatal(err)
		}
		if err := queue.Send(t.Context(), []byte("m"), nil); err == nil || domain.KindOf(err) != domain.Internal {
			t.Errorf("error %v, want Internal", err)
		}
	})
}

// answering is a queue whose every call gets the same answer.
func answering(t *testing.T, status int, code string) *sqs.Queue {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"__type":"com.amazonaws.sqs#%s","message":"no"}`, code)
	}))
	t.Cleanup(server.Close)
	return queueAt(t, server)
}

func queueAt(t *testing.T, server *httptest.Server) *sqs.Queue {
	t.Helper()
	queue, err := sqs.NewQueue(awssqs.New(awssqs.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		HTTPClient: server.Client(), Retryer: aws.NopRetryer{},
	}), queueURL)
	if err != nil {
		t.Fatal(err)
	}
	return queue
}

func TestAWaitIsRoundedUpToSeconds(t *testing.T) {
	t.Parallel()
	var asked map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = nil
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = w.Write([]byte(`{}`))
	}))
	t.Cleanup(server.Close)
	queue := queueAt(t, server)
	for wait, want := range map[time.Duration]float64{0: 0, 1: 1, time.Second: 1, 1001 * time.Millisecond: 2, 12 * time.Hour: 43200, 13 * time.Hour: 43200} {
		kept, err := queue.Postpone(t.Context(), "arn:aws:sqs:eu-west-1:123456789012:jobs", "r", wait)
		if err != nil || !kept || asked["VisibilityTimeout"] != want || asked["QueueUrl"] != queueURL || asked["ReceiptHandle"] != "r" {
			t.Errorf("%v: kept %v, %v, asked for %v, want %v s", wait, kept, err, asked, want)
		}
	}
}

func TestErrorsAreClassified(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		code   string
		want   domain.Kind
	}{
		{400, "QueueDoesNotExist", domain.Internal},
		{403, "AccessDeniedException", domain.Internal},
		{400, "RequestThrottled", domain.Throttled},
		{400, "ThrottlingException", domain.Throttled},
		{400, "KmsThrottled", domain.Throttled},
		{403, "ExpiredToken", domain.Unavailable},
		{500, "InternalFailure", domain.Unavailable},
		{503, "ServiceUnavailable", domain.Unavailable},
	} {
		queue := answering(t, tt.status, tt.code)
		if err := queue.Send(t.Context(), []byte("m"), nil); err == nil || domain.KindOf(err) != tt.want {
			t.Errorf("Send, %d %s: %v is %v, want %v", tt.status, tt.code, err, domain.KindOf(err), tt.want)
		}
		kept, err := queue.Postpone(t.Context(), "arn:aws:sqs:eu-west-1:123456789012:jobs", "r", time.Second)
		if kept || err == nil || domain.KindOf(err) != tt.want {
			t.Errorf("Postpone, %d %s: kept %v, %v, want %v", tt.status, tt.code, kept, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := answering(t, 200, "").Send(ctx, []byte("m"), nil); domain.KindOf(err) != domain.Unavailable {
		t.Errorf("without an answer: %v, want Unavailable", err)
	}
}
