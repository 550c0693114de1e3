package lambdaevents

import (
	"crypto/md5" //nolint:gosec // SQS names an MD5 sum in its records; nothing is protected by it
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Message is one message of a queue that is not SQS and feeds a function as if it were.
type Message struct {
	ID       string // not empty, and no other's in its batch
	Body     string // UTF-8
	SentAt   time.Time
	Receives int // times it was delivered, this one included
}

// SQSEvent is the event that Lambda invokes a function with for a batch of messages from the queue of that ARN.
func SQSEvent(queueARN string, messages ...Message) []byte {
	var region string
	if parts := strings.Split(queueARN, ":"); len(parts) > 3 {
		region = parts[3]
	}
	records := []sqsRecord{}
	for _, m := range messages {
		sum := md5.Sum([]byte(m.Body)) //nolint:gosec // see the import
		sent := strconv.FormatInt(m.SentAt.UnixMilli(), 10)
		records = append(records, sqsRecord{
			MessageID: m.ID, ReceiptHandle: m.ID, Body: m.Body,
			Attributes:        sqsAttributes{ReceiveCount: strconv.Itoa(m.Receives), SentTimestamp: sent, FirstReceived: sent},
			MessageAttributes: map[string]struct{}{},
			MD5OfBody:         hex.EncodeToString(sum[:]), EventSource: sourceSQS, EventSourceARN: queueARN, Region: region,
		})
	}
	payload, err := json.Marshal(map[string]any{"Records": records}, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("lambdaevents: strings do not encode: " + err.Error())
	}
	return payload
}

// Failures returns the ids of those of the sent messages that the function's response wants to have delivered again,
// by Lambda's rules: nothing, null or an empty list is success. It is an error, and the whole batch is to be delivered
// again, when the response is not JSON or names an id that is empty or not one of the sent messages'.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
func Failures(response []byte, sent ...Message) ([]string, error) {
	if len(response) == 0 {
		return nil, nil
	}
	var r batchResponse
	if err := json.Unmarshal(response, &r); err != nil {
		return nil, fmt.Errorf("lambdaevents: the response is no list of batch item failures: %w", err)
	}
	var ids []string
	for _, failure := range r.Failures {
		switch known := slices.ContainsFunc(sent, func(m Message) bool { return m.ID == failure.ID }); {
		case failure.ID == "":
			return nil, errors.New("lambdaevents: the response has a batch item failure without an id")
		case !known:
			return nil, fmt.Errorf("lambdaevents: the response has a batch item failure with the unknown id %.64q", failure.ID)
		}
		ids = append(ids, failure.ID)
	}
	return ids, nil
}
