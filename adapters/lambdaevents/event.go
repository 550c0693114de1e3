package lambdaevents

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/domain"
)

// Sources, as records name them.
const (
	sourceSQS      = "aws:sqs"
	sourceSNS      = "aws:sns"
	sourceS3       = "aws:s3"
	sourceDynamoDB = "aws:dynamodb"
	sourceKinesis  = "aws:kinesis"
)

// form is how the answer to an event says what is to be delivered again.
type form int

const (
	whole  form = iota // not at all: the invocation fails, and all of its event comes again
	items              // each message by its id (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html)
	stream             // the first record, from which on all come again (https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html)
)

var forms = map[string]form{sourceSQS: items, sourceDynamoDB: stream, sourceKinesis: stream}

// batch is one event.
type batch struct {
	source  string
	records []record
}

// ordered reports whether a record may only be delivered when all before it are done with.
func (b batch) ordered() bool {
	return forms[b.source] == stream || b.source == sourceSQS && slices.ContainsFunc(b.records, record.fifo)
}

// record is what its source delivers again as one. It has no parts when there is nothing to do about it.
type record struct {
	id    string // by which the source knows it; may be empty where the answer does not need it
	arn   string // of the queue, topic, stream or bucket; of an EventBridge event its source
	parts []part

	// Of messages of SQS.
	receipt  string
	receives int
}

// part is what one job comes of.
type part struct {
	letter   []byte // what is set apart if it has to be: as it came, and readable here if it comes again
	delivery domain.Delivery
}

func (r record) fifo() bool { return strings.HasSuffix(r.arn, ".fifo") }

// eventRecord is a record of any source, as far as it matters here.
//
// https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html, https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html,
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html,
// https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html and https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
type eventRecord struct {
	sqsRecord

	SNSEventSource string    `json:"EventSource"`
	SNS            snsRecord `json:"Sns"`

	EventID   string `json:"eventID"`
	EventName string `json:"eventName"`
	EventTime string `json:"eventTime"`
	Response  struct {
		RequestID string `json:"x-amz-request-id"`
	} `json:"responseElements"`
	S3 struct {
		Bucket struct {
			Name string `json:"name"`
			ARN  string `json:"arn"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			VersionID string `json:"versionId"`
			Sequencer string `json:"sequencer"`
		} `json:"object"`
	} `json:"s3"`
	DynamoDB struct {
		SequenceNumber string `json:"SequenceNumber"`
	} `json:"dynamodb"`
	Kinesis struct {
		SequenceNumber string `json:"sequenceNumber"`
	} `json:"kinesis"`
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

// decodeRecord returns what of a record can be read also with an error.
func decodeRecord(raw []byte) (r eventRecord, err error) {
	if err = json.Unmarshal(raw, &r); err != nil {
		err = unreadable(err)
	}
	return r, err
}

// read reads an invocation's event. The source of the first record that tells one is the event's, for Lambda mixes none.
func (rules Rules) read(payload []byte) batch {
	var event struct {
		Records []strictjson.Raw `json:"Records"`
	}
	if err := json.Unmarshal(payload, &event); err != nil || len(event.Records) == 0 {
		return batch{records: []record{rules.readEvent(payload)}}
	}
	var b batch
	for _, raw := range event.Records {
		r, err := decodeRecord(raw)
		b.source = cmp.Or(b.source, r.source())
		if err == nil && r.source() != b.source {
			err = undecodable("the records of the event come from several sources")
		}
		b.records = append(b.records, rules.readRecord(raw, r, err))
	}
	return b
}

// readEvent reads an event without records.
func (rules Rules) readEvent(payload []byte) record {
	members, err := membersOf(payload)
	var e event
	switch {
	case err != nil:
		err = unreadable(err)
	case isTest(members):
		return record{}
	case members[memberDetailType] != nil:
		e, err = fromEventBridge(payload)
	default:
		err = undecodable("the event is of no source that is known here")
	}
	d := rules.delivery(e, payload, err)
	d.MessageID = e.id
	return record{id: e.id, arn: e.source, parts: []part{{payload, d}}}
}

// readRecord reads one of an event's records; r is what raw says, as far as err let it be read.
func (rules Rules) readRecord(raw []byte, r eventRecord, err error) record {
	rec := record{id: r.MessageID, arn: r.EventSourceARN}
	switch source := r.source(); {
	case err == nil && source == sourceSQS:
		return rules.fromSQS(r.sqsRecord)
	case err == nil && source == sourceSNS:
		return rules.fromSNS(r.SNS)
	case source == sourceS3:
		rec.id, rec.arn = r.Response.RequestID, r.S3.Bucket.ARN
	case source == sourceDynamoDB:
		rec.id = r.DynamoDB.SequenceNumber
	case source == sourceKinesis:
		rec.id = r.Kinesis.SequenceNumber
	}
	rec.parts = []part{rules.foreignPart(raw, r, err)}
	rec.parts[0].delivery.MessageID = rec.id
	return rec
}

func (rules Rules) foreignPart(raw []byte, r eventRecord, err error) part {
	var e event
	if err == nil {
		e, err = r.foreign()
	}
	return part{alone(raw), rules.delivery(e, raw, err)}
}

// alone is an event that has no other record than raw.
func alone(raw []byte) []byte {
	return append(append([]byte(`{"Records":[`), raw...), `]}`...)
}

func (rules Rules) fromSQS(r sqsRecord) record {
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
	receives, err := strconv.Atoi(r.Attributes.ReceiveCount)
	if err != nil {
		receives = 0
	}
	return record{
		id: r.MessageID, arn: r.EventSourceARN, receipt: r.ReceiptHandle, receives: receives,
		parts: rules.parts([]byte(r.Body), []byte(body), from, r.MessageID),
	}
}

func (rules Rules) fromSNS(r snsRecord) record {
	sentAt, err := time.Parse(time.RFC3339, r.Timestamp)
	if err != nil {
		sentAt = time.Time{}
	}
	body := []byte(r.Message)
	from := cloudevent.Origin{Kind: "sns", Source: r.TopicARN, MessageID: r.MessageID, SentAt: sentAt}
	return record{id: r.MessageID, arn: r.TopicARN, parts: rules.parts(body, body, from, r.MessageID)}
}

// maxParts is how many events one message may bring, each of which is a job or a letter: S3 puts one into a message.
const maxParts = 100

// parts reads a message's body: a message about a job, or an event of another source that came by way of a queue or
// topic. message is what the body came in, and id the id of that.
func (rules Rules) parts(message, body []byte, from cloudevent.Origin, id string) (parts []part) {
	members, _ := membersOf(body) // what is no object is left to cloudevent
	var records []strictjson.Raw
	switch {
	case members["specversion"] != nil, members["jobgateschema"] != nil:
	case isTest(members):
		return nil
	case members[memberDetailType] != nil:
		e, err := fromEventBridge(body)
		parts = []part{{message, rules.delivery(e, body, err)}}
	case members[memberRecords] != nil && json.Unmarshal(members[memberRecords], &records) == nil:
		if len(records) > maxParts {
			parts = []part{{message, domain.Delivery{Err: undecodable("the message has more than %d events", maxParts)}}}
			break
		}
		for _, raw := range records {
			r, err := decodeRecord(raw)
			parts = append(parts, rules.foreignPart(raw, r, err))
		}
	}
	if len(parts) == 0 {
		parts = []part{{message, cloudevent.Decode(body, from)}}
	}
	for i := range parts {
		parts[i].delivery.MessageID, parts[i].delivery.SentAt = id, from.SentAt
	}
	return parts
}

// membersOf returns the members of an object. What their values are is not looked at.
func membersOf(body []byte) (members map[string]strictjson.Raw, err error) {
	err = json.Unmarshal(body, &members)
	return members, err
}

// answer is the response to an event whose given records are to be delivered again.
func (b batch) answer(again []record) ([]byte, error) {
	switch forms[b.source] {
	case items:
	case stream:
		again = again[:min(1, len(again))]
	default:
		if len(again) > 0 {
			return nil, b.failure(again)
		}
		return []byte("null"), nil
	}
	response := batchResponse{Failures: []batchFailure{}}
	for _, r := range again {
		if r.id == "" {
			return nil, errors.New("lambdaevents: a record without an id is to be delivered again, and so all of its batch")
		}
		response.Failures = append(response.Failures, batchFailure{r.id})
	}
	return json.Marshal(response)
}

// failure names the records by their ids, and says nothing else of them but why they cannot be read.
func (b batch) failure(again []record) error {
	var names []string
	for _, r := range again {
		words := []string{r.id}
		for _, p := range r.parts {
			if p.delivery.Err != nil {
				words = append(words, "("+p.delivery.Err.Error()+")")
			}
		}
		names = append(names, strings.TrimSpace(strings.Join(words, " ")))
	}
	return fmt.Errorf("lambdaevents: %d of %d records of %.64q are to be delivered again: %s",
		len(again), len(b.records), cmp.Or(b.source, b.records[0].arn), strings.Join(names, ", "))
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
		return undecodable("the event is not JSON, at byte %d", e.ByteOffset)
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		return undecodable("the event has a value of an unexpected type, at byte %d", e.ByteOffset)
	}
	return undecodable("the event cannot be read")
}

func undecodable(format string, args ...any) error {
	return domain.Errorf(domain.Invalid, domain.ReasonUndecodable, format, args...)
}
