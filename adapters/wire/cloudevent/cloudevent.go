// Package cloudevent writes and reads the messages about jobs: CloudEvents 1.0 in the JSON format, structured mode
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md), and the bare messages that
// other programs send.
//
// The members of a message are specversion, id (the job's), type (the job's name), source, subject (the job's owner,
// see Subject), time (when the job was created), data with datacontenttype (the payload), traceparent (W3C trace
// context, by the distributed tracing extension) and jobgateschema, the version of all this. A worker takes only the
// job's id from a message of ours, and the rest from the store; the other members are for subscribers, filters and
// people.
package cloudevent

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/domain"
)

// Schema is the version of the messages that Encode writes. Decode reads it and every version before it; one that is
// not known may mean anything, and is refused.
const Schema = "1"

const specVersion = "1.0"

// Encode returns the message about job, as a producer named source, a non-empty URI-reference. The payload is in it
// byte for byte. Internal when the job cannot be put into JSON: its payload is none, or a member is no UTF-8.
func Encode(job domain.Job, source string) ([]byte, error) {
	message, err := appendHead(make([]byte, 0, headRoom+len(job.Payload)), job, source)
	if err != nil {
		return nil, err
	}
	if job.Payload != nil {
		if !jsontext.Value(job.Payload).IsValid(jsontext.AllowDuplicateNames(true)) {
			return nil, domain.Errorf(domain.Internal, domain.ReasonInternal, "the payload of job %s is no JSON", job.ID)
		}
		message = append(append(message, dataMember...), job.Payload...)
	}
	return append(message, '}'), nil
}

// Size is the length of what Encode would return, in bytes, and costs nothing that grows with the payload.
func Size(job domain.Job, source string) (int, error) {
	message, err := appendHead(make([]byte, 0, headRoom), job, source)
	if err != nil {
		return 0, err
	}
	n := len(message) + len("}")
	if job.Payload != nil {
		n += len(dataMember) + len(job.Payload)
	}
	return n, nil
}

const (
	dataMember = `,"data":`
	headRoom   = 512 // for a message without its data, as a rule
)

// appendHead appends a message of ours up to its data, without the bracket that ends it.
func appendHead(message []byte, job domain.Job, source string) ([]byte, error) {
	var failed error
	member := func(name, value string) {
		message = append(message, name...)
		var err error
		if message, err = jsontext.AppendQuote(message, value); err != nil {
			failed = err
		}
	}
	member(`{"specversion":`, specVersion)
	member(`,"id":`, job.ID)
	member(`,"type":`, job.Name)
	member(`,"source":`, source)
	if subject := Subject(job.Owner); subject != "" {
		member(`,"subject":`, subject)
	}
	message = append(message, `,"time":"`...)
	message = append(job.CreatedAt.UTC().AppendFormat(message, time.RFC3339Nano), '"')
	if job.TraceParent != "" {
		member(`,"traceparent":`, job.TraceParent)
	}
	member(`,"jobgateschema":`, Schema)
	if job.Payload != nil {
		member(`,"datacontenttype":`, "application/json")
	}
	if failed != nil {
		return nil, domain.Wrap(failed, domain.Internal, domain.ReasonInternal, "encode the message about job %s", job.ID)
	}
	return message, nil
}

var subjectEscapes = strings.NewReplacer("%", "%25", "|", "%7C")

// Subject is how a message names an owner: issuer, "|", subject, where "%" and "|" of the issuer are
// percent-encoded. So the first "|" parts the two, and what follows it is the subject as its issuer wrote it. Nobody
// is "".
func Subject(owner domain.Identity) string {
	if owner.IsZero() {
		return ""
	}
	return subjectEscapes.Replace(owner.Issuer) + "|" + owner.Subject
}

// Origin is where a message came from.
type Origin struct {
	Kind      string // of source: "sqs", "sns", "rabbitmq"
	Source    string // the queue or topic
	MessageID string // the message's own id there
	SentAt    time.Time
}

// Decode reads a message. One of ours gives the id of its job; members that it has beyond ours are ignored, as
// CloudEvents wants. A bare message is a JSON string, or an object with the members name and, if wanted, payload: it
// gives a foreign job without an owner, whose id is derived from the message's origin, so that a redelivery is the same
// job. An object with any other member is no bare message: to run it would be to drop what its sender meant. Whatever
// else there is gives an Invalid error with domain.ReasonUndecodable.
func Decode(body []byte, from Origin) domain.Delivery {
	d := domain.Delivery{MessageID: from.MessageID, SentAt: from.SentAt}
	if jsontext.Value(body).Kind() != jsontext.KindBeginObject {
		d.Foreign, d.Err = decodeBare(body, from)
		return d
	}
	var members map[string]strictjson.Raw
	if err := json.Unmarshal(body, &members); err != nil {
		d.Err = undecodable("the message is not JSON")
		return d
	}
	_, isOurs := members["jobgateschema"]
	_, isEvent := members["specversion"]
	if isOurs || isEvent {
		d.JobID, d.Err = decodeOurs(members)
	} else {
		d.Foreign, d.Err = decodeBare(body, from)
	}
	return d
}

func decodeOurs(members map[string]strictjson.Raw) (jobID string, err error) {
	text := func(name string) (value string) {
		if json.Unmarshal(members[name], &value) != nil {
			return "" // absent or no string: the checks below refuse it
		}
		return value
	}
	switch {
	case members["jobgateschema"] == nil:
		return "", undecodable("the message is an event of another program")
	case text("jobgateschema") != Schema || text("specversion") != specVersion:
		return "", undecodable("the message has a version that this program does not know")
	case !domain.ValidID(text("id")):
		return "", undecodable("the message names no job")
	default:
		return text("id"), nil
	}
}

func decodeBare(body []byte, from Origin) (*domain.JobSpec, error) {
	var bare struct {
		Name    string         `json:"name"`
		Payload strictjson.Raw `json:"payload"`
	}
	var v any = &bare
	if jsontext.Value(body).Kind() == jsontext.KindString {
		v = &bare.Name
	}
	if err := strictjson.Decode(body, v); err != nil {
		return nil, undecodable("the message is neither an event nor a bare job")
	}
	switch {
	case !domain.ValidName(bare.Name):
		return nil, undecodable("the message has no valid job name")
	case from.MessageID == "": // all such messages would be one job
		return nil, undecodable("the bare message has no id of its own")
	}
	return &domain.JobSpec{
		ID:   domain.EventID(from.Kind, from.Source, from.MessageID),
		Name: bare.Name, Payload: bare.Payload,
	}, nil
}

// undecodable has no cause: it is logged, and a parser's error quotes the message.
func undecodable(message string) error {
	return domain.Errorf(domain.Invalid, domain.ReasonUndecodable, "%s", message)
}
