// Package sqs does the two things about queues of Amazon SQS that Lambda's own polling leaves to a function: it keeps a
// message for later, and sends what is set apart.
package sqs

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// What SQS takes in one message, in bytes, body and attributes together: at most, and where a queue was not given more.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
const (
	maxMessage  = 1 << 20
	safeMessage = 256 << 10
)

// attributeCut says with a message that is cut how many bytes there were.
const attributeCut = "bytes"

// ParseURL returns the account and the name of the queue of that URL, or what is wrong with it.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-message-identifiers.html
func ParseURL(queueURL string) (account, name string, err error) {
	u, err := url.Parse(queueURL)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return "", "", fmt.Errorf("%q is no URL of a queue", queueURL)
	}
	account, name, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	base := strings.TrimSuffix(name, ".fifo")
	if len(account) != 12 || !only(account, digits) || base == "" || len(name) > 80 || !only(base, digits+letters+"_-") || u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("%q does not end in an account and the name of a queue", queueURL)
	}
	return account, name, nil
}

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

func only(text, chars string) bool { return strings.Trim(text, chars) == "" }

// Queue is one queue.
type Queue struct {
	client *sqs.Client
	url    string
	arn    string // its end: account and name
}

// NewQueue returns the queue of that URL, which ParseURL accepts. Retries are the client's, within the bound of each call.
func NewQueue(client *sqs.Client, queueURL string) (*Queue, error) {
	account, name, err := ParseURL(queueURL)
	if err != nil {
		return nil, err
	}
	return &Queue{client: client, url: queueURL, arn: ":" + account + ":" + name}, nil
}

// Postpone hides a message that is received and not deleted until wait has passed, rounded up to seconds. It returns false
// when the message is another queue's; so does an error, with which the message may be hidden all the same.
//
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html
func (q *Queue) Postpone(ctx context.Context, queueARN, receipt string, wait time.Duration) (bool, error) {
	if !strings.HasSuffix(queueARN, q.arn) {
		return false, nil
	}
	seconds := (wait + time.Second - 1) / time.Second
	_, err := q.client.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: aws.String(q.url), ReceiptHandle: aws.String(receipt), VisibilityTimeout: int32(min(seconds, 12*60*60)), //nolint:gosec // in range
	})
	return err == nil, translate(err)
}

// Send puts a message into the queue, with those of the attributes that are not empty; nil only when SQS has stored it. A
// character that SQS does not take becomes U+FFFD, and a body that does not fit is cut: its attribute "bytes" then says how
// many it had.
//
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func (q *Queue) Send(ctx context.Context, body []byte, attributes map[string]string) error {
	text := cmp.Or(fit(string(body)), "(empty)") // SQS wants a body
	values, size := map[string]types.MessageAttributeValue{}, 0
	add := func(name, kind, value string) {
		values[name] = types.MessageAttributeValue{DataType: aws.String(kind), StringValue: aws.String(value)}
		size += len(name) + len(kind) + len(value)
	}
	for name, value := range attributes {
		if value = fit(value); value != "" {
			add(name, "String", value)
		}
	}
	send := func(most int) error {
		if most -= size; len(text) > most {
			if _, told := values[attributeCut]; !told {
				add(attributeCut, "Number", strconv.Itoa(len(body)))
				most -= len(attributeCut) + len("Number") + len(strconv.Itoa(len(body)))
			}
			text = cut(text, max(1, most))
		}
		_, err := q.client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(q.url), MessageBody: aws.String(text), MessageAttributes: values})
		return err
	}
	err := send(maxMessage)
	if tooLong(err) && len(text)+size > safeMessage {
		err = send(safeMessage)
	}
	return translate(err)
}

// fit replaces what SQS refuses: it takes #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF.
func fit(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(text, string(utf8.RuneError)))
}

// cut returns at most the first n bytes of text, and no part of a character.
func cut(text string, n int) string {
	for n = min(n, len(text)); n > 0 && n < len(text) && !utf8.RuneStart(text[n]); {
		n--
	}
	return text[:n]
}
