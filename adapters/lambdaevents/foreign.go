package lambdaevents

import (
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/domain"
)

// ReasonUnmapped is why an event is set apart that no rule makes a job of.
const ReasonUnmapped domain.Reason = "unmapped_event"

// maxSource bounds what of an event gets into keys and logs, in bytes: AWS's own sources have some 20.
const maxSource = 256

// event is what an event of another source is mapped by and told apart by.
type event struct {
	source     string
	detailType string
	arns       []string
	kind       string // with scope and id the event's identity: the same however often and whichever way it comes
	scope      string
	id         string // empty when it has none
}

// The members by which events are known.
const (
	memberDetailType = "detail-type"
	memberRecords    = "Records"
)

// fromEventBridge reads an EventBridge event.
// https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html
func fromEventBridge(body []byte) (event, error) {
	var e struct {
		ID         string         `json:"id"`
		Source     string         `json:"source"`
		DetailType string         `json:"detail-type"`
		Resources  []string       `json:"resources"`
		Detail     strictjson.Raw `json:"detail"` // another's to check
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return event{}, unreadable(err)
	}
	return event{source: e.Source, detailType: e.DetailType, arns: e.Resources, kind: "eventbridge", scope: e.Source, id: e.ID}, nil
}

// foreign reads a record of S3, a DynamoDB stream or Kinesis.
func (r eventRecord) foreign() (event, error) {
	e := event{source: r.source(), detailType: r.EventName, arns: []string{r.EventSourceARN}, scope: r.EventSourceARN}
	switch e.source {
	case sourceS3:
		// Deletions and creations have a sequencer of their own; the rest is told apart by its request and time.
		object, moment := r.S3.Object, r.S3.Object.Sequencer
		if moment == "" && r.Response.RequestID != "" {
			moment = r.Response.RequestID + " " + r.EventTime
		}
		e.kind, e.arns, e.scope = "s3", []string{r.S3.Bucket.ARN}, r.S3.Bucket.Name
		if object.Key != "" && moment != "" {
			e.id = fmt.Sprintf("%+q %+q %+q %+q", object.Key, object.VersionID, moment, r.EventName)
		}
	case sourceDynamoDB:
		e.kind = "dynamodb"
		if r.EventID != "" && r.DynamoDB.SequenceNumber != "" {
			e.id = fmt.Sprintf("%+q %+q", r.EventID, r.DynamoDB.SequenceNumber)
		}
	case sourceKinesis:
		e.kind, e.id = "kinesis", r.EventID // the shard and the sequence number
	default:
		return e, undecodable("records of the source %.64q are not known here", e.source)
	}
	return e, nil
}

// delivery is what becomes of an event that came as payload, or could not be read because of err.
func (rules Rules) delivery(e event, payload []byte, err error) domain.Delivery {
	switch {
	case err != nil:
		return domain.Delivery{Err: err}
	case e.source == "" || len(e.source) > maxSource:
		return domain.Delivery{Err: undecodable("the event has no source, or one of more than %d bytes", maxSource)}
	case e.id == "":
		return domain.Delivery{Err: undecodable("the event has no id of its own")}
	}
	name := rules.job(e)
	if name == "" {
		return domain.Delivery{Err: domain.Errorf(domain.Invalid, ReasonUnmapped, "no rule makes a job of events of the source %.64q and the type %.64q", e.source, e.detailType)}
	}
	return domain.Delivery{Foreign: &domain.JobSpec{
		ID: domain.EventID(e.kind, e.scope, e.id), Name: name, Payload: payload,
		Owner: domain.Identity{Issuer: domain.SystemIssuer, Subject: e.source},
	}}
}

// isTest reports whether a message is the one that S3 sends when notifications are set up, which stands for nothing.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-to-enable-disable-notification-intro.html
func isTest(members map[string]strictjson.Raw) bool {
	return string(members["Event"]) == `"s3:TestEvent"` && members[memberRecords] == nil
}
