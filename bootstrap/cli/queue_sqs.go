package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/bootstrap/cli/api"
	"github.com/jobgate/jobgate/bootstrap/config/cloud"
	"github.com/jobgate/jobgate/domain"
)

// sqsBox is a queue of SQS.
type sqsBox struct {
	client *awssqs.Client
	http   *http.Client
	queue  string
	to     string
	held   map[string]string // receipts by the ids of messages
	gone   map[string]bool   // ids of messages that are removed
	moved  map[string]bool   // ids that messages have where they were moved to
}

func openSQS(ctx context.Context, getenv func(string) string, q queueFlags) (*sqsBox, error) {
	cfg, err := cloud.Load(getenv)
	if err != nil {
		return nil, misuse(err)
	}
	b := &sqsBox{
		// Longer than a poll, which the client of a function is not patient enough for.
		http:  &http.Client{Transport: awshttp.NewBuildableClient().GetTransport(), Timeout: queuePoll + 5*time.Second},
		queue: q.queue, to: q.to,
		held: make(map[string]string), gone: make(map[string]bool), moved: make(map[string]bool),
	}
	cfg.HTTPClient = b.http
	b.client = awssqs.NewFromConfig(cfg)
	if q.to == "" {
		return b, nil
	}
	// A destination that is not there is told before anything is done.
	ctx, cancel := context.WithTimeout(ctx, queueCall)
	defer cancel()
	if _, err := b.client.GetQueueAttributes(ctx, &awssqs.GetQueueAttributesInput{QueueUrl: &q.to}); err != nil {
		b.http.CloseIdleConnections()
		return nil, sqsFailure(ctx, "find the queue of --to", err)
	}
	return b, nil
}

func (b *sqsBox) take(ctx context.Context, most int) ([]letter, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueCall)
	defer cancel()
	var letters []letter
	for len(letters) == 0 {
		out, err := b.client.ReceiveMessage(ctx, &awssqs.ReceiveMessageInput{
			QueueUrl: &b.queue, MaxNumberOfMessages: int32(most), //nolint:gosec // at most queueBatch
			VisibilityTimeout: int32(queueHidden / time.Second), WaitTimeSeconds: int32(queuePoll / time.Second),
			MessageAttributeNames:       []string{"All"},
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		if err != nil {
			return nil, sqsFailure(ctx, "receive messages", err)
		}
		if len(out.Messages) == 0 {
			break
		}
		for _, m := range out.Messages {
			id := aws.ToString(m.MessageId)
			_, again := b.held[id]
			b.held[id] = aws.ToString(m.ReceiptHandle)
			switch {
			case b.gone[id]: // SQS may deliver a message once more that it has deleted
				if err := b.remove(ctx, id); err != nil {
					return nil, err
				}
			case !again:
				letters = append(letters, b.letter(m))
			}
		}
	}
	return letters, nil
}

func (b *sqsBox) letter(m types.Message) letter {
	id := aws.ToString(m.MessageId)
	text := func(name string) string { return aws.ToString(m.MessageAttributes[name].StringValue) }
	l := letter{
		id: id, job: text("job_id"), reason: text("reason"), back: b.moved[id] || b.moved[text("message_id")],
		move:   func(ctx context.Context) error { return b.move(ctx, m) },
		remove: func(ctx context.Context) error { return b.remove(ctx, id) },
	}
	if domain.ValidID(l.job) {
		return l
	}
	from := cloudevent.Origin{
		Kind:      "sqs",
		Source:    cmp.Or(text("source"), m.Attributes[string(types.MessageSystemAttributeNameDeadLetterQueueSourceArn)]),
		MessageID: cmp.Or(text("message_id"), id),
	}
	body := []byte(aws.ToString(m.Body))
	var notification struct {
		Type      string `json:"Type"`
		TopicARN  string `json:"TopicArn"`
		MessageID string `json:"MessageId"`
		Message   string `json:"Message"`
	}
	if json.Unmarshal(body, &notification) == nil && notification.Type == "Notification" && notification.TopicARN != "" {
		from = cloudevent.Origin{Kind: "sns", Source: notification.TopicARN, MessageID: notification.MessageID}
		body = []byte(notification.Message)
	}
	l.job = jobOf(body, from)
	return l
}

func (b *sqsBox) move(ctx context.Context, m types.Message) error {
	in := &awssqs.SendMessageInput{QueueUrl: &b.to, MessageBody: m.Body, MessageAttributes: m.MessageAttributes}
	if strings.HasSuffix(b.to, ".fifo") {
		in.MessageGroupId = aws.String(cmp.Or(m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)], aws.ToString(m.MessageId)))
		// A fresh one: a message that comes back here within five minutes and is moved again is not to be dropped.
		in.MessageDeduplicationId = aws.String(rand.Text())
	}
	out, err := b.client.SendMessage(ctx, in)
	if err != nil {
		return sqsFailure(ctx, "send it to the queue of --to", err)
	}
	b.moved[aws.ToString(out.MessageId)] = true
	return nil
}

func (b *sqsBox) remove(ctx context.Context, id string) error {
	_, err := b.client.DeleteMessage(ctx, &awssqs.DeleteMessageInput{QueueUrl: &b.queue, ReceiptHandle: aws.String(b.held[id])})
	if err != nil {
		return sqsFailure(ctx, "delete it, which the next call does", err)
	}
	delete(b.held, id)
	b.gone[id] = true
	return nil
}

func (b *sqsBox) close(ctx context.Context) error {
	defer b.http.CloseIdleConnections()
	entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, 0, queueBatch)
	failed := 0
	var first error
	release := func() {
		out, err := b.client.ChangeMessageVisibilityBatch(ctx, &awssqs.ChangeMessageVisibilityBatchInput{QueueUrl: &b.queue, Entries: entries})
		if err != nil {
			failed += len(entries)
			first = cmp.Or(first, err)
		} else {
			failed += len(out.Failed)
		}
		entries = entries[:0]
	}
	for _, receipt := range b.held {
		entries = append(entries, types.ChangeMessageVisibilityBatchRequestEntry{
			Id: aws.String(strconv.Itoa(len(entries))), ReceiptHandle: &receipt, VisibilityTimeout: 0,
		})
		if len(entries) == queueBatch {
			release()
		}
	}
	if len(entries) > 0 {
		release()
	}
	if failed > 0 {
		return sqsFailure(ctx, fmt.Sprintf("show %s again, which happens by itself within %v", count(failed, "message"), queueHidden),
			cmp.Or(first, errors.New("refused")))
	}
	return nil
}

// sqsFailure gives an error of SQS its status.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
func sqsFailure(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	f := &failure{status: exitUnavailable, err: fmt.Errorf("SQS: could not %s: %w", what, err)}
	if ctx.Err() != nil {
		f.err = fmt.Errorf("SQS: could not %s in time", what)
		return f
	}
	resp, ok := errors.AsType[*awshttp.ResponseError](err)
	e, refused := errors.AsType[smithy.APIError](err)
	if !ok || !refused || resp.HTTPStatusCode() >= http.StatusInternalServerError {
		return f
	}
	f.err = fmt.Errorf("SQS: could not %s: %s", what, api.Printable(cut(e.ErrorCode()+": "+e.ErrorMessage(), 300)))
	switch _, missing := errors.AsType[*types.QueueDoesNotExist](err); {
	case missing:
		f.status, f.next = exitUsage, "compare the URL with AWS_REGION and the account"
	case strings.Contains(e.ErrorCode(), "Throttl"), e.ErrorCode() == "OverLimit":
	case resp.HTTPStatusCode() == http.StatusForbidden, strings.Contains(e.ErrorCode(), "AccessDenied"):
		f.status, f.next = exitForbidden, "see that the credentials of AWS in the environment are valid, and may receive from and delete of that queue"
	default:
		f.status = exitNo
	}
	return f
}
