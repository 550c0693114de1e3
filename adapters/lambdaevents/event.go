package lambdaevents

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
)

const (
	sourceSQS = "aws:sqs"
	sourceSNS = "aws:sns"
)

// batch is one event; record is one of its messages.
type batch struct {
	source  string
	records []record
}

type record struct {
	arn      string // of the queue or topic
	body     string // as it came
	delivery domain.Delivery
}

// ordered reports whether a message may only be delivered when all before it are done with.
func (b batch) ordered() bool {
	return b.source == sourceSQS && strings.HasSuffix(b.records[0].arn, ".fifo")
}

// event is an invocation's payload, as far as it matters here.
//
// https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html and https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
type event struct {
	Source  string        `json:"source"` // EventBridge says here who it is
	Records []eventRecord `json:"Records"`
}

type eventRecord struct {
	sqsRecord

	SNSEventSource string    `json:"EventSource"`
	SNS            snsRecord `json:"Sns"`
}

type sqsRecord struct {
	MessageID         string              `json:"messageId"`
	ReceiptHandle     string              `json:"receiptHandle"`
	Body              string              `json:"body"`
	Attributes        sqsAttributes       `json:"attributes"`
	MessageAttributes map[string]struct{} `json:"messageAttributes"`
	MD5OfBody         string              `json:"md5OfBody"`
	EventSource       string              `json:"eventSource"`
	EventSourceARN    string              `json:"eventSourceARN"`
	Region            string              `json:"awsRegion"`
}

type sqsAttributes struct {
	ReceiveCount  string `json:"ApproximateReceiveCount"`
	SentTimestamp string `json:"SentTimestamp"` // milliseconds since 1970
	FirstReceived string `json:"ApproximateFirstReceiveTimestamp"`
}

// snsRecord is a topic's notification, as a record and as the envelope of a message in a queue.
type snsRecord struct {
	Type      string `json:"Type"`
	MessageID string `json:"MessageId"`
	TopicARN  string `json:"TopicArn"`
	Message   string `json:"Message"`
	Timestamp string `json:"Timestamp"`
}

func (r eventRecord) source() string {
	if r.SNSEventSource != "" {
		return r.SNSEventSource
	}
	return r.EventSource
}

// parse reads an event whose records are all of one source that is known.
func parse(payload []byte) (batch, error) {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return batch{}, unreadable(err)
	}
	if len(e.Records) == 0 {
		return batch{}, unknownSource(e.Source)
	}
	b := batch{source: e.Records[0].source()}
	for _, r := range e.Records {
		switch source := r.source(); {
		case source != b.source:
			return batch{}, errors.New("lambdaevents: the records of the event come from several sources")
		case source == sourceSQS:
			b.records = append(b.records, r.fromSQS())
		case source == sourceSNS:
			b.records = append(b.records, r.SNS.record())
		default:
			return batch{}, unknownSource(source)
		}
	}
	return b, nil
}

func (r sqsRecord) fromSQS() record {
	var sentAt time.Time
	if ms, err := strconv.ParseInt(r.Attributes.SentTimestamp, 10, 64); err == nil {
		sentAt = time.UnixMilli(ms).UTC()
	}
	from := cloudevent.Origin{Kind: "sqs", Source: r.EventSourceARN, MessageID: r.MessageID, SentAt: sentAt}
	body := r.Body
	// A message that came through a topic has the topic's id too, and that is the one it keeps however it comes.
	var envelope snsRecord
	if err := json.Unmarshal([]byte(body), &envelope); err == nil && envelope.Type == "Notification" && envelope.TopicARN != "" {
		from.Kind, from.Source, from.MessageID = "sns", envelope.TopicARN, envelope.MessageID
		body = envelope.Message
	}
	d := cloudevent.Decode([]byte(body), from)
	d.MessageID = r.MessageID // the one that the queue knows
	return record{arn: r.EventSourceARN, body: r.Body, delivery: d}
}

func (r snsRecord) record() record {
	sentAt, err := time.Parse(time.RFC3339, r.Timestamp)
	if err != nil {
		sentAt = time.Time{}
	}
	return record{arn: r.TopicARN, body: r.Message, delivery: cloudevent.Decode([]byte(r.Message), cloudevent.Origin{
		Kind: "sns", Source: r.TopicARN, MessageID: r.MessageID, SentAt: sentAt,
	})}
}

// answer is the response to an event of SQS.
func answer(returned []record) ([]byte, error) {
	response := batchResponse{Failures: []batchFailure{}}
	for _, r := range returned {
		id := r.delivery.MessageID
		if id == "" {
			return nil, errors.New("lambdaevents: a message without an id is to be delivered again, and so all of its batch")
		}
		response.Failures = append(response.Failures, batchFailure{id})
	}
	return json.Marshal(response)
}

// batchResponse is what Lambda reads from a function that reports batch item failures.
type batchResponse struct {
	Failures []batchFailure `json:"batchItemFailures"`
}

type batchFailure struct {
	ID string `json:"itemIdentifier"`
}

// unreadable says where an event cannot be read, and keeps the parser's text back: that may quote the event.
func unreadable(err error) error {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("lambdaevents: the event is not JSON, at byte %d", e.ByteOffset)
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		return fmt.Errorf("lambdaevents: the event has a value of an unexpected type, at byte %d", e.ByteOffset)
	}
	return errors.New("lambdaevents: the event cannot be read")
}

func unknownSource(source string) error {
	if source == "" {
		return errors.New("lambdaevents: the event has no records and no source")
	}
	return fmt.Errorf("lambdaevents: events of the source %.64q are not handled", source)
}
