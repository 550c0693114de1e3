// Package sns hands jobs over to Amazon SNS.
package sns

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
)

// maxMessage is the most that SNS takes in one message, in bytes, body and attributes together, where the topic was not
// given more. https://docs.aws.amazon.com/general/latest/gr/sns.html
const maxMessage = 256 << 10

// publishTimeout bounds one Dispatch, retries of the client included. A healthy publish takes some 20 ms, and a client
// of the REST API is waiting, behind a gateway that gives up after 29 s.
const publishTimeout = 5 * time.Second

const (
	attributeName = "name"
	attributeType = "String"
)

// Dispatcher is a ports.JobDispatcher that publishes to one topic. Each message has the job's name as its attribute
// "name", so that subscriptions can filter. On a FIFO topic each job is a group of its own: jobs wait for no other, and
// each hand-over of a job is a message of its own, so that a redrive is not swallowed as a duplicate.
type Dispatcher struct {
	client *sns.Client
	topic  string
	source string
	fifo   bool
}

// NewDispatcher publishes to the topic of that ARN; source is the producer that the messages name, a URI-reference.
// Retries are the client's, within the bound of each call.
func NewDispatcher(client *sns.Client, topicARN, source string) *Dispatcher {
	return &Dispatcher{client: client, topic: topicARN, source: source, fifo: strings.HasSuffix(topicARN, ".fifo")}
}

// Fits implements ports.JobDispatcher.
func (d *Dispatcher) Fits(job domain.Job) error {
	size, err := cloudevent.Size(job, d.source)
	if err != nil {
		return err
	}
	size += escapeGrowth(job.Payload) + escapeGrowth([]byte(cloudevent.Subject(job.Owner)))
	size += len(attributeName) + len(attributeType) + len(job.Name)
	if size > maxMessage {
		return domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "the job's message has %d bytes, at most %d can be handed over", size, maxMessage)
	}
	return nil
}

// Dispatch implements ports.JobDispatcher. SNS confirms a message once it is stored in several availability zones.
func (d *Dispatcher) Dispatch(ctx context.Context, job domain.Job) error {
	message, err := cloudevent.Encode(job, d.source)
	if err != nil {
		return err
	}
	input := &sns.PublishInput{
		TopicArn: aws.String(d.topic),
		Message:  aws.String(string(escape(message))),
		MessageAttributes: map[string]types.MessageAttributeValue{
			attributeName: {DataType: aws.String(attributeType), StringValue: aws.String(job.Name)},
		},
	}
	if d.fifo {
		input.MessageGroupId = aws.String(job.ID)
		input.MessageDeduplicationId = aws.String(job.ID + "/" + strconv.Itoa(job.Dispatches))
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err = d.client.Publish(ctx, input)
	return translate(err)
}

// U+FFFE and U+FFFF are Unicode and may be in JSON, but SQS refuses a message with them or puts U+FFFD in their place,
// long after SNS has confirmed it. In JSON they can only be inside strings, where an escape means the same.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
var unfit = [...]struct{ char, escape []byte }{
	{[]byte("\uFFFE"), []byte(`\ufffe`)},
	{[]byte("\uFFFF"), []byte(`\uffff`)},
}

func escape(message []byte) []byte {
	for _, u := range unfit {
		if bytes.Contains(message, u.char) {
			message = bytes.ReplaceAll(message, u.char, u.escape)
		}
	}
	return message
}

// escapeGrowth is how many bytes escape adds.
func escapeGrowth(text []byte) int {
	growth := 0
	for _, u := range unfit {
		growth += bytes.Count(text, u.char) * (len(u.escape) - len(u.char))
	}
	return growth
}
