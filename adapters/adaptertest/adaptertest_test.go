package adaptertest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestMotoCarriesAMessageFromTopicToQueue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	endpoint := Moto(t)
	cfg := AWSConfig(t, endpoint)
	topics, queues := sns.NewFromConfig(cfg), sqs.NewFromConfig(cfg)

	topic, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("jobs")})
	if err != nil {
		t.Fatal(err)
	}
	queue, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("drain")})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(*queue.QueueUrl, endpoint) {
		t.Errorf("queue URL = %s, want one at %s", *queue.QueueUrl, endpoint)
	}
	attributes, err := queues.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl:       queue.QueueUrl,
		AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameQueueArn},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = topics.Subscribe(ctx, &sns.SubscribeInput{
		TopicArn:   topic.TopicArn,
		Protocol:   aws.String("sqs"),
		Endpoint:   aws.String(attributes.Attributes["QueueArn"]),
		Attributes: map[string]string{"RawMessageDelivery": "true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topics.Publish(ctx, &sns.PublishInput{TopicArn: topic.TopicArn, Message: aws.String("hello")}); err != nil {
		t.Fatal(err)
	}
	got, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl, WaitTimeSeconds: 5})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Messages) != 1 || *got.Messages[0].Body != "hello" {
		t.Errorf("received %+v, want one message: hello", got.Messages)
	}
}

func TestMotoServersShareNothing(t *testing.T) {
	t.Parallel()
	first, second := Moto(t), Moto(t)
	_, err := sqs.NewFromConfig(AWSConfig(t, first)).CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("mine")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := sqs.NewFromConfig(AWSConfig(t, second)).ListQueues(t.Context(), &sqs.ListQueuesInput{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.QueueUrls) != 0 {
		t.Errorf("queues of the other server: %v", got.QueueUrls)
	}
}

func TestFunction(t *testing.T) {
	t.Parallel()
	hello := Build(t, "hello", "./adapters/adaptertest/testdata/hello")

	t.Run("answers event after event", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		if err := f.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		var first, second struct {
			Hello, RequestID, ARN string
			HomeIsSet             bool
			DeadlineMs            int64
		}
		before := time.Now()
		invoke(t, f, `{"name":"Ada"}`, &first)
		invoke(t, f, `{"name":"Grace"}`, &second)
		if first.Hello != "Ada" || second.Hello != "Grace" {
			t.Errorf("answers = %+v and %+v", first, second)
		}
		if first.RequestID == "" || first.RequestID == second.RequestID {
			t.Errorf("request ids = %q and %q, want two different ones", first.RequestID, second.RequestID)
		}
		if want := "arn:aws:lambda:us-east-1:123456789012:function:hello"; first.ARN != want {
			t.Errorf("function ARN = %s, want %s", first.ARN, want)
		}
		if first.HomeIsSet {
			t.Error("the function sees this process's environment")
		}
		if left := time.UnixMilli(first.DeadlineMs).Sub(before); left < 29*time.Second || left > time.Minute {
			t.Errorf("deadline in %v, want 30s from the start of the invocation", left)
		}
		if !strings.Contains(f.Stderr(), "greeting Ada") {
			t.Errorf("stderr = %q, want the function's log", f.Stderr())
		}
	})

	t.Run("takes concurrent events one at a time", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, failure, err := f.Invoke(t.Context(), []byte(`{"name":"Ada"}`)); failure != nil || err != nil {
					t.Errorf("failure = %+v, err = %v", failure, err)
				}
			})
		}
		all.Wait()
	})

	t.Run("reports a returned error and goes on", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		_, failure, err := f.Invoke(t.Context(), []byte(`{"name":"nobody"}`))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&FunctionError{Type: "errorString", Message: "Unauthorized"}, failure); diff != "" {
			t.Errorf("failure (-want +got):\n%s", diff)
		}
		invoke(t, f, `{"name":"Ada"}`, new(any))
	})

	t.Run("refuses a response that Lambda would not carry", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		_, failure, err := f.Invoke(t.Context(), []byte(`{"name":"large"}`))
		if err != nil || failure == nil || failure.Type != "Function.ResponseSizeTooLarge" {
			t.Errorf("failure = %+v, err = %v, want Function.ResponseSizeTooLarge", failure, err)
		}
	})

	t.Run("refuses an event that Lambda would not carry", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		if _, failure, err := f.Invoke(t.Context(), make([]byte, maxPayload+1)); err == nil {
			t.Errorf("failure = %+v, err = nil, want an error", failure)
		}
	})

	t.Run("ends at a panic, which is the answer", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		_, failure, err := f.Invoke(t.Context(), []byte(`{"name":"panic"}`))
		if err != nil || failure == nil || failure.Message != "on the floor" {
			t.Fatalf("failure = %+v, err = %v, want the panic", failure, err)
		}
		wantExit(t, f, ExitError{Init: false, Code: 1}, "on the floor")
	})

	t.Run("reports an exit in mid-event", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		_, failure, err := f.Invoke(t.Context(), []byte(`{"name":"exit"}`))
		if err != nil || failure == nil || failure.Type != "Runtime.ExitError" {
			t.Fatalf("failure = %+v, err = %v, want Runtime.ExitError", failure, err)
		}
		wantExit(t, f, ExitError{Init: false, Code: 4}, "greeting exit")
	})

	t.Run("is killed at its timeout", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		if err := f.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, failure, err := f.InvokeWithin(t.Context(), 50*time.Millisecond, []byte(`{"name":"hang"}`))
		if err != nil || failure == nil || failure.Type != "Sandbox.Timedout" || !strings.HasSuffix(failure.Message, "timed out after 0.05 seconds") {
			t.Fatalf("failure = %+v, err = %v, want Sandbox.Timedout", failure, err)
		}
		wantExit(t, f, ExitError{Init: false, Code: -1}, "")
	})

	t.Run("leaves the caller free to give up", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, _, err := f.Invoke(ctx, []byte(`{"name":"hang"}`)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v, want %v", err, context.DeadlineExceeded)
		}
	})

	t.Run("that exits in its init was never ready", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, map[string]string{"HELLO_INIT": "exit"})
		var exit *ExitError
		if err := f.Ready(t.Context()); !errors.As(err, &exit) {
			t.Fatalf("Ready = %v, want an *ExitError", err)
		}
		wantExit(t, f, ExitError{Init: true, Code: 3}, "no greeting configured")
	})

	t.Run("that reports its init as failed was never ready", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, map[string]string{"HELLO_INIT": "report"})
		const want = "Config: no greeting configured"
		if err := f.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Ready = %v, want %q in it", err, want)
		}
		if _, _, err := f.Invoke(t.Context(), []byte(`{}`)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Invoke = %v, want %q in it", err, want)
		}
	})

	t.Run("gets SIGTERM when it asked for it", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, map[string]string{"HELLO_INIT": "sigterm"})
		if err := f.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.Stop()
		wantExit(t, f, ExitError{Init: false, Code: 0}, "good bye")
	})

	t.Run("is killed when it did not ask for SIGTERM", func(t *testing.T) {
		t.Parallel()
		f := StartFunction(t, hello, nil)
		if err := f.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.Stop()
		f.Stop()
		wantExit(t, f, ExitError{Init: false, Code: -1}, "")
		if got, want := f.process.cmd.ProcessState.String(), "signal: killed"; got != want {
			t.Errorf("process state = %s, want %s", got, want)
		}
	})
}

func invoke(t *testing.T, f *Function, event string, answer any) {
	t.Helper()
	response, failure, err := f.Invoke(t.Context(), []byte(event))
	if failure != nil || err != nil {
		t.Fatalf("Invoke(%s): failure = %+v, err = %v", event, failure, err)
	}
	if err := json.Unmarshal(response, answer); err != nil {
		t.Fatalf("Invoke(%s) = %s: %v", event, response, err)
	}
}

// wantExit invokes a function that is down.
func wantExit(t *testing.T, f *Function, want ExitError, stderr string) {
	t.Helper()
	_, failure, err := f.Invoke(t.Context(), []byte(`{"name":"Ada"}`))
	var got *ExitError
	if failure != nil || !errors.As(err, &got) {
		t.Fatalf("Invoke of a function that is down: failure = %+v, err = %v, want an *ExitError", failure, err)
	}
	if got.Init != want.Init || got.Code != want.Code || !strings.Contains(got.Stderr, stderr) {
		t.Errorf("exit = %v\nwant Init %v, Code %d and %q in the log", got, want.Init, want.Code, stderr)
	}
}
