package lambdaevents_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/domain"
)

const (
	streamARN  = "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream"
	firstSeq   = "49590338271490256608559692538361571095921575989136588898"
	secondSeq  = "49590338271490256608559692540925702759324208523137515618"
	bucketARN  = "arn:aws:s3:::amzn-s3-demo-bucket"
	tableARN   = "arn:aws:dynamodb:us-west-2:123456789012:table/my-table/stream/2024-06-10T19:26:16.525"
	instanceID = "6a7e8feb-b491-4cf7-a9f1-bf3703467718"
)

// rules map every event of testdata.
func rules(t testing.TB) lambdaevents.Rules {
	t.Helper()
	parsed, err := lambdaevents.ParseRules([]byte(`[
		{"source":"aws:s3","detail_type":"ObjectCreated:*","job":"upload.scan"},
		{"source":"aws:s3","arn":"` + bucketARN + `","job":"upload.other"},
		{"source":"aws.s3","arn":"arn:aws:s3:::amzn-*","job":"upload.scan"},
		{"source":"aws:dynamodb","detail_type":"INSERT","arn":"arn:aws:dynamodb:us-west-2:123456789012:table/my-table/*","job":"item.new"},
		{"source":"aws:dynamodb","job":"item.changed"},
		{"source":"aws:kinesis","job":"reading"},
		{"source":"aws.ec2","detail_type":"EC2 Instance State-change Notification","job":"instance.changed"}]`))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// recordsOf are an event's records, as they are in it.
func recordsOf(t testing.TB, event []byte) (records []json.RawMessage) {
	t.Helper()
	var e struct{ Records []json.RawMessage }
	if err := json.Unmarshal(event, &e); err != nil {
		t.Fatal(err)
	}
	return e.Records
}

// queued is the event of a queue with these messages.
func queued(bodies ...string) []byte {
	var list []lambdaevents.Message
	for i, body := range bodies {
		list = append(list, lambdaevents.Message{ID: fmt.Sprintf("m-%d", i), Body: body, SentAt: time.UnixMilli(1545082649183), Receives: 1})
	}
	return lambdaevents.SQSEvent(queueARN, list...)
}

// notification is a topic's envelope.
func notification(t testing.TB, message string) string {
	t.Helper()
	text, err := json.Marshal(map[string]string{"Type": "Notification", "MessageId": snsID, "TopicArn": topicARN, "Message": message})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each shape is of AWS's documentation, at the page named. The ids are written out: a release that derived others would run
// again what was delivered under the release before.
func TestEventsOfOtherSourcesBecomeJobs(t *testing.T) {
	t.Parallel()
	type job struct{ messageID, id, name, source string }
	tests := []struct {
		shape, page string
		want        []job
	}{
		{"eventbridge", "https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html", []job{
			{instanceID, "789009e8-c0f8-5b67-a151-719606a79cbb", "instance.changed", "aws.ec2"},
		}},
		{"eventbridge_s3", "https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html", []job{
			{"17793124-05d4-b198-2fde-7ededc63b103", "5623a3cd-acf5-5064-a8d4-dab818588e16", "upload.scan", "aws.s3"},
		}},
		{"s3", "https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html", []job{
			{"C3D13FE58DE4C810", "d10db8fe-d2d7-52f6-b8fd-737251dd7919", "upload.scan", "aws:s3"},
		}},
		{"s3_restore", "https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html", []job{
			{"C3D13FE58DE4C811", "df2e06b4-70f9-580c-a21f-2901bd6af275", "upload.other", "aws:s3"},
		}},
		{"s3_test", "https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-to-enable-disable-notification-intro.html", nil},
		{"dynamodb", "https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html", []job{
			{"111", "af19c4c7-42b6-576c-8960-2ed935cfff0c", "item.new", "aws:dynamodb"},
			{"222", "24b07a61-480b-5e8e-8532-243775d5dd37", "item.changed", "aws:dynamodb"},
		}},
		{"kinesis", "https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html", []job{
			{firstSeq, "8dbac3ea-c568-56d4-941e-5cae9c45adbc", "reading", "aws:kinesis"},
			{secondSeq, "9f0d8038-a89a-506d-9711-e484fd4a8e57", "reading", "aws:kinesis"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.shape, func(t *testing.T) {
			t.Parallel()
			direct := shape(t, tt.shape)
			var payloads [][]byte
			for _, record := range recordsOf(t, direct) {
				payloads = append(payloads, record)
			}
			if payloads == nil && tt.want != nil {
				payloads = [][]byte{direct}
			}
			var want []domain.Delivery
			for i, j := range tt.want {
				want = append(want, domain.Delivery{MessageID: j.messageID, Foreign: &domain.JobSpec{
					ID: j.id, Name: j.name, Payload: payloads[i], Owner: domain.Identity{Issuer: "urn:jobgate:system", Subject: j.source},
				}})
			}
			for way, event := range map[string][]byte{
				"directly": direct, "by way of a queue": queued(string(direct)), "by way of a topic and a queue": queued(notification(t, string(direct))),
				"by way of a topic": []byte(`{"Records":[{"EventSource":"aws:sns","Sns":` + notification(t, string(direct)) + `}]}`),
			} {
				var got []domain.Delivery
				w := lambdaevents.Worker{Rules: rules(t), Parallel: 1, Deliver: decide(func(d domain.Delivery) domain.Disposition {
					if way != "directly" {
						if d.MessageID != "m-0" && d.MessageID != snsID {
							t.Errorf("%s: the message's id is %s", way, d.MessageID)
						}
						d.MessageID, d.SentAt = want[len(got)].MessageID, time.Time{} // as if it had come directly
					}
					got = append(got, d)
					return ack(d)
				}).deliver}
				response, err := w.Invoke(t.Context(), event)
				if err != nil || string(response) != "null" && string(response) != `{"batchItemFailures":[]}` {
					t.Errorf("%s: response %s, error %v", way, response, err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", way, diff)
				}
			}
		})
	}
}

func TestAnEventWithoutARuleOrAnIdentityIsSetApart(t *testing.T) {
	t.Parallel()
	inS3 := func(old, text string) []byte { return []byte(strings.ReplaceAll(string(shape(t, "s3")), old, text)) }
	const noID, unmapped = "the event has no id of its own", "no rule makes a job"
	tests := map[string]struct {
		event  []byte
		rules  lambdaevents.Rules
		reason domain.Reason
		detail string
	}{
		"no rules":               {shape(t, "eventbridge"), nil, lambdaevents.ReasonUnmapped, unmapped + ` of events of the source "aws.ec2" and the type "EC2 Instance`},
		"another type":           {[]byte(strings.ReplaceAll(string(shape(t, "eventbridge")), "EC2 Instance", "EC2 Spot")), rules(t), lambdaevents.ReasonUnmapped, unmapped},
		"a tick by way of a bus": {shape(t, "eventbridge_scheduled"), rules(t), lambdaevents.ReasonUnmapped, unmapped},
		"no id":                  {[]byte(strings.ReplaceAll(string(shape(t, "eventbridge")), instanceID, "")), rules(t), domain.ReasonUndecodable, noID},
		"no source":              {[]byte(`{"detail-type":"secret","id":"1"}`), rules(t), domain.ReasonUndecodable, "has no source, or one of more than 256 bytes"},
		"a long source": {
			[]byte(`{"detail-type":"secret","id":"1","source":"` + strings.Repeat("x", 257) + `"}`), rules(t), domain.ReasonUndecodable, "one of more than 256 bytes",
		},
		"resources are no list": {[]byte(`{"detail-type":"secret","id":"1","source":"s","resources":5}`), rules(t), domain.ReasonUndecodable, "unexpected type, at byte 58"},
		"two ids":               {[]byte(`{"detail-type":"secret","id":"1","id":"2","source":"s"}`), rules(t), domain.ReasonUndecodable, "not JSON, at byte"},
		"S3: no key":            {inS3(`"red+flower.jpg"`, `""`), rules(t), domain.ReasonUndecodable, noID},
		"S3: nothing but a key": {
			bytes.ReplaceAll(inS3(`"0055AED6DCD90281E5"`, `""`), []byte("C3D13FE58DE4C810"), nil), rules(t), domain.ReasonUndecodable, noID,
		},
		"Kinesis: no event id": {[]byte(strings.ReplaceAll(string(shape(t, "kinesis")), `"eventID"`, `"id"`)), rules(t), domain.ReasonUndecodable, noID},
		"DynamoDB: no number": {
			[]byte(strings.ReplaceAll(string(shape(t, "dynamodb")), `"SequenceNumber"`, `"number"`)), rules(t), domain.ReasonUndecodable, noID,
		},
	}
	for name, tt := range tests {
		for way, event := range map[string][]byte{"directly": tt.event, "by way of a queue": queued(string(tt.event))} {
			var letters []lambdaevents.Letter
			w := lambdaevents.Worker{Rules: tt.rules, Parallel: 1, Deliver: decide(func(d domain.Delivery) domain.Disposition {
				if d.Err == nil || d.Foreign != nil {
					t.Errorf("%s, %s: delivery %+v", name, way, d)
				}
				return domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonUndecodable}
			}).deliver, DeadLetter: func(_ context.Context, letter lambdaevents.Letter) error {
				letters = append(letters, letter)
				return nil
			}}
			if _, err := w.Invoke(t.Context(), event); err != nil {
				t.Errorf("%s, %s: %v", name, way, err)
			}
			if len(letters) == 0 || letters[0].Reason != tt.reason || !strings.Contains(letters[0].Detail, tt.detail) || strings.Contains(letters[0].Detail, "secret") {
				t.Errorf("%s, %s: letters %+v, want %s and %q", name, way, letters, tt.reason, tt.detail)
			}
		}
	}
}

// Whoever has mended the rules puts the letters into the queue.
func TestALetterOfAnEventBecomesTheSameJobInAQueue(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"eventbridge", "s3", "s3_restore", "dynamodb", "kinesis"} {
		ids := func(mapping lambdaevents.Rules, event []byte, apart *[]string) (ids []string) {
			w := lambdaevents.Worker{Rules: mapping, Parallel: 1, Deliver: decide(func(d domain.Delivery) domain.Disposition {
				if d.Err != nil {
					return domain.Disposition{Verdict: domain.DeadLetter}
				}
				ids = append(ids, d.Foreign.ID)
				return ack(d)
			}).deliver, DeadLetter: func(_ context.Context, letter lambdaevents.Letter) error {
				*apart = append(*apart, string(letter.Body))
				return nil
			}}
			if _, err := w.Invoke(t.Context(), event); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return ids
		}
		var letters, none []string
		if got := ids(nil, shape(t, name), &letters); len(got) > 0 || len(letters) == 0 {
			t.Fatalf("%s: without rules the jobs %v and the letters %v", name, got, letters)
		}
		want, got := ids(rules(t), shape(t, name), &none), ids(rules(t), queued(letters...), &none)
		if diff := cmp.Diff(want, got); diff != "" || len(none) > 0 {
			t.Errorf("%s: jobs of the letters (-want +got):\n%s", name, diff)
		}
	}
}

func TestAStreamComesAgainFromItsFirstFailureOn(t *testing.T) {
	t.Parallel()
	const a, r, l = domain.Ack, domain.Return, domain.DeadLetter
	for name, tt := range map[string]struct {
		shape     string
		verdicts  []domain.Verdict
		letters   bool
		want      string
		delivered int
	}{
		"done":                         {"kinesis", []domain.Verdict{a, a}, false, "", 2},
		"the first":                    {"kinesis", []domain.Verdict{r, a}, false, firstSeq, 1},
		"the second":                   {"kinesis", []domain.Verdict{a, r}, false, secondSeq, 2},
		"a letter holds nothing up":    {"kinesis", []domain.Verdict{l, a}, true, "", 2},
		"a letter that cannot be sent": {"kinesis", []domain.Verdict{l, a}, false, firstSeq, 1},
		"a table":                      {"dynamodb", []domain.Verdict{a, r}, false, "222", 2},
		"a table, done":                {"dynamodb", []domain.Verdict{a, a}, false, "", 2},
	} {
		delivered := 0
		w := lambdaevents.Worker{Rules: rules(t), Deliver: decide(func(domain.Delivery) domain.Disposition {
			delivered++ // one after the other, or the race detector objects
			return domain.Disposition{Verdict: tt.verdicts[delivered-1]}
		}).deliver}
		if tt.letters {
			w.DeadLetter = func(context.Context, lambdaevents.Letter) error { return nil }
		}
		response, err := w.Invoke(t.Context(), shape(t, tt.shape))
		if err != nil {
			t.Fatal(err)
		}
		want := events.KinesisEventResponse{BatchItemFailures: []events.KinesisBatchItemFailure{}}
		if tt.want != "" {
			want.BatchItemFailures = append(want.BatchItemFailures, events.KinesisBatchItemFailure{ItemIdentifier: tt.want})
		}
		var got events.KinesisEventResponse
		if err := json.Unmarshal(response, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || delivered != tt.delivered {
			t.Errorf("%s: %d delivered, want %d; answer (-want +got):\n%s", name, delivered, tt.delivered, diff)
		}
	}
}

func TestAMessageWithSeveralEventsIsDoneWhenEachIs(t *testing.T) {
	t.Parallel()
	body := string(shape(t, "dynamodb"))
	for _, tt := range []struct {
		fails int // of the records; -1: none
		want  []string
	}{{-1, nil}, {0, []string{"m-0"}}, {1, []string{"m-0"}}} {
		delivered := 0
		w := lambdaevents.Worker{Rules: rules(t), Deliver: func(context.Context, domain.Delivery) (domain.Disposition, domain.Job) {
			delivered++
			if delivered-1 == tt.fails {
				return domain.Disposition{}, domain.Job{}
			}
			return domain.Disposition{Verdict: domain.Ack}, domain.Job{Status: domain.Queued, DueAt: time.Now()}
		}, Postpone: func(context.Context, string, string, time.Duration) (bool, error) {
			t.Error("the message is kept for one of its jobs, and would bring back the other")
			return true, nil
		}}
		response, err := w.Invoke(t.Context(), queued(body))
		if err != nil {
			t.Fatal(err)
		}
		sent := lambdaevents.Message{ID: "m-0"}
		if failed, err := lambdaevents.Failures(response, sent); err != nil || !slices.Equal(failed, tt.want) || delivered != 2 {
			t.Errorf("record %d fails: %v, %v after %d deliveries, want %v after 2", tt.fails, failed, err, delivered, tt.want)
		}
	}
}

// A sender's one message is no reason to send letters by the hundred thousand.
func TestAMessageWithTooManyEventsIsSetApartOnce(t *testing.T) {
	t.Parallel()
	record := string(recordsOf(t, shape(t, "kinesis"))[0])
	for n, want := range map[int]int{100: 100, 101: 1} {
		body := `{"Records":[` + strings.Repeat(record+",", n-1) + record + `]}`
		var letters []lambdaevents.Letter
		w := lambdaevents.Worker{Deliver: decide(func(domain.Delivery) domain.Disposition {
			return domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonUndecodable}
		}).deliver, DeadLetter: func(_ context.Context, letter lambdaevents.Letter) error {
			letters = append(letters, letter)
			return nil
		}}
		response, err := w.Invoke(t.Context(), queued(body))
		if err != nil || string(response) != `{"batchItemFailures":[]}` || len(letters) != want {
			t.Fatalf("%d events: %d letters, response %s, %v; want %d letters", n, len(letters), response, err, want)
		}
		if whole := string(letters[0].Body) == body; whole != (want == 1) {
			t.Errorf("%d events: a letter has the whole message: %v", n, whole)
		}
	}
}

func TestMistakesInRules(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want []string
	}{
		"none": {`[]`, nil},
		"all of it": {
			`[{"source":"com.example.*","detail_type":"Order*","arn":"arn:*","job":"order"},{"source":"com.example.*","detail_type":"*","job":"rest"},{"source":"*","job":"any"}]`, nil,
		},
		"several": {
			`[{"job":"a b"},{"source":"a*b","detail_type":"**","arn":"*x","job":"a"},{"source":"aws:s3","detail_type":"s3:ObjectCreated:*","job":"a"}]`,
			[]string{
				`[0] job: "a b" is no job name`, "[0] source: is missing",
				`[1] arn: "*x" has a * that is not at its end`, `[1] detail_type: "**" has a * that is not at its end`, `[1] source: "a*b" has a * that is not at its end`,
				"[2] detail_type: records name their event without s3:, like ObjectCreated:*",
			},
		},
		"never reached": {
			`[{"source":"a*","job":"x"},{"source":"ab","detail_type":"t","job":"y"},{"source":"b","detail_type":"t*","job":"x"},{"source":"b","job":"y"},{"source":"b","detail_type":"tt","arn":"c","job":"z"}]`,
			[]string{"[1] is never reached: [0] fits all of its events", "[4] is never reached: [2] fits all of its events"},
		},
		"unknown member": {`[{"source":"a","type":"t","job":"x"}]`, []string{`the member "/0/type" is not known, at byte 15; member names are case-sensitive`}},
		"no list":        {`{"source":"a","job":"x"}`, []string{`the document must be an array, at byte 0`}},
		"no JSON":        {`aws:s3=a`, []string{"this is not JSON: invalid character 'a' at start of value, at byte 0"}},
	}
	for name, tt := range tests {
		_, err := lambdaevents.ParseRules([]byte(tt.text))
		var got []string
		if err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheFirstRuleThatFitsNamesTheJob(t *testing.T) {
	t.Parallel()
	const bucket = `{"source":"aws:s3","arn":"` + bucketARN
	for text, want := range map[string]string{
		`[{"source":"aws:s3","job":"a"},{"source":"aws:s3*","job":"b"}]`:                                            "a",
		`[{"source":"aws:s","job":"a"},{"source":"aws.s3","job":"b"},{"source":"aws:*","job":"c"}]`:                 "c",
		`[{"source":"*","detail_type":"ObjectCreated","job":"a"},{"source":"*","detail_type":"Object*","job":"b"}]`: "b",
		`[` + bucket + `2","job":"a"},` + bucket + `/*","job":"b"},` + bucket + `","job":"c"}]`:                     "c",
		`[` + bucket + `-2*","job":"a"},` + bucket + `*","detail_type":"ObjectCreated:Put","job":"b"}]`:             "b",
		`[{"source":"aws.s3","job":"a"}]`: "",
	} {
		parsed, err := lambdaevents.ParseRules([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		w := lambdaevents.Worker{Rules: parsed, Deliver: decide(func(d domain.Delivery) domain.Disposition {
			if d.Foreign != nil {
				got = d.Foreign.Name
			}
			return ack(d)
		}).deliver}
		if _, err := w.Invoke(t.Context(), shape(t, "s3")); err != nil || got != want {
			t.Errorf("%s: job %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestADeadJobsMessageIsSetApartAndThenDoneWith(t *testing.T) {
	t.Parallel()
	dead := domain.Job{Status: domain.Dead, Name: "test-job", Reason: domain.ReasonPermanent}
	want := lambdaevents.Letter{Body: []byte("Test message."), MessageID: thirdID, Source: queueARN, Reason: domain.ReasonPermanent, JobName: "test-job"}
	for name, tt := range map[string]struct {
		reason domain.Reason // of the disposition: the death itself, or a delivery that comes after it
		failed error
		want   string
	}{
		"sent":                       {domain.ReasonPermanent, nil, `{"batchItemFailures":[]}`},
		"cannot be sent":             {domain.ReasonPermanent, errors.New("no queue"), `{"batchItemFailures":[{"itemIdentifier":"` + thirdID + `"}]}`},
		"sent by the next delivery":  {domain.ReasonFinished, nil, `{"batchItemFailures":[]}`},
		"cannot be sent then either": {domain.ReasonFinished, errors.New("no queue"), `{"batchItemFailures":[{"itemIdentifier":"` + thirdID + `"}]}`},
	} {
		var letters []lambdaevents.Letter
		w := lambdaevents.Worker{Deliver: func(_ context.Context, d domain.Delivery) (domain.Disposition, domain.Job) {
			if d.MessageID != thirdID {
				return ack(d), domain.Job{Status: domain.Succeeded}
			}
			return domain.Disposition{Verdict: domain.Ack, Reason: tt.reason}, dead
		}, DeadLetter: func(_ context.Context, letter lambdaevents.Letter) error {
			letter.Detail = "" // the shape's third message is no job
			letters = append(letters, letter)
			return tt.failed
		}}
		response, err := w.Invoke(t.Context(), shape(t, "sqs"))
		if err != nil || string(response) != tt.want {
			t.Errorf("%s: response %s, error %v, want %s", name, response, err, tt.want)
		}
		if diff := cmp.Diff([]lambdaevents.Letter{want}, letters); diff != "" {
			t.Errorf("%s: letters (-want +got):\n%s", name, diff)
		}
		w.DeadLetter = nil
		if response, err := w.Invoke(t.Context(), shape(t, "sqs")); err != nil || string(response) != `{"batchItemFailures":[]}` {
			t.Errorf("%s, but nowhere to set it apart: response %s, error %v, want it done with: the store has it", name, response, err)
		}
	}
}

func TestARetrysMessageIsKeptInItsQueueUntilTheDueTime(t *testing.T) {
	t.Parallel()
	const kept, done = `{"batchItemFailures":[{"itemIdentifier":"m-0"}]}`, `{"batchItemFailures":[]}`
	tests := map[string]struct {
		queue    string
		receives int
		wait     time.Duration
		answer   bool
		err      error
		asked    bool
		want     string
	}{
		"kept":                    {queueARN, 1, 90 * time.Second, true, nil, true, kept},
		"due already":             {queueARN, 1, -time.Second, true, nil, true, kept},
		"another queue":           {queueARN, 1, time.Second, false, nil, true, done},
		"an error":                {queueARN, 1, time.Second, false, errors.New("throttled"), true, done},
		"in a quarter of an hour": {queueARN, 1, 15 * time.Minute, true, nil, true, kept},
		"later than that":         {queueARN, 1, 15*time.Minute + time.Second, true, nil, false, done},
		"received often":          {queueARN, 49, time.Second, true, nil, true, kept},
		"received too often":      {queueARN, 50, time.Second, true, nil, false, done},
		"a FIFO queue":            {fifoARN, 1, time.Second, true, nil, false, done},
		"an error, and it moved":  {queueARN, 1, time.Second, true, errors.New("no answer"), true, done},
	}
	for name, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			var outcome lambdaevents.Outcome
			asked := false
			w := lambdaevents.Worker{
				Deliver: func(context.Context, domain.Delivery) (domain.Disposition, domain.Job) {
					return domain.Disposition{Verdict: domain.Ack}, domain.Job{Status: domain.Queued, DueAt: time.Now().Add(tt.wait)}
				},
				Postpone: func(ctx context.Context, queue, receipt string, wait time.Duration) (bool, error) {
					asked = true
					if _, bounded := ctx.Deadline(); !bounded || queue != tt.queue || receipt != "m-0" || wait != max(0, tt.wait) {
						t.Errorf("%s: asked to hide %s of %s for %v, bounded %v", name, receipt, queue, wait, bounded)
					}
					return tt.answer, tt.err
				},
				Log: func(_ context.Context, o lambdaevents.Outcome) { outcome = o },
			}
			event := lambdaevents.SQSEvent(tt.queue, lambdaevents.Message{ID: "m-0", Body: `"test-job"`, Receives: tt.receives})
			response, err := w.Invoke(t.Context(), event)
			if err != nil || string(response) != tt.want || asked != tt.asked {
				t.Errorf("%s: response %s, error %v, asked %v; want %s, asked %v", name, response, err, asked, tt.want, tt.asked)
			}
			if outcome.Disposition.Verdict != domain.Ack || !errors.Is(outcome.Err, tt.err) {
				t.Errorf("%s: logged %+v", name, outcome)
			}
		})
	}
	t.Run("of a topic none is kept", func(t *testing.T) {
		t.Parallel()
		w := lambdaevents.Worker{Deliver: func(context.Context, domain.Delivery) (domain.Disposition, domain.Job) {
			return domain.Disposition{Verdict: domain.Ack}, domain.Job{Status: domain.Queued, DueAt: time.Now()}
		}, Postpone: func(context.Context, string, string, time.Duration) (bool, error) { return true, nil }}
		if response, err := w.Invoke(t.Context(), shape(t, "sns")); err != nil || string(response) != "null" {
			t.Errorf("response %s, error %v, want success: the store has the due time", response, err)
		}
	})
}

func TestTicks(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"eventbridge_scheduled": true, "scheduler": true, "eventbridge": false, "s3": false, "sqs": false} {
		if got := lambdaevents.Scheduled(shape(t, name)); got != want {
			t.Errorf("%s is a tick: %v, want %v", name, got, want)
		}
	}
	if lambdaevents.Scheduled(queued(string(shape(t, "eventbridge_scheduled")))) {
		t.Error("a tick in a queue is taken for one")
	}
	for pattern, want := range map[string]bool{"aws.events": true, "aws.*": true, "aws.ec2": false} {
		if got := (lambdaevents.Rules{{Source: pattern, Job: "nightly"}}).Map(shape(t, "eventbridge_scheduled")); got != want {
			t.Errorf("a rule for %s maps a tick: %v, want %v", pattern, got, want)
		}
	}
	if (lambdaevents.Rules{{Source: "*", Job: "nightly"}}).Map([]byte(`"text"`)) {
		t.Error("what is no event is mapped")
	}
}

// seeds are every shape, and what a fuzzer does not find soon.
func seeds(f *testing.F) (list [][]byte) {
	f.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		list = append(list, shape(f, strings.TrimSuffix(filepath.Base(file), ".json")))
	}
	return append(list, []byte(`{"Records":[{"eventSource":"aws:sqs","eventSourceARN":".fifo","messageId":"\u0000"}]}`),
		[]byte(`{"Records":[{"eventSource":"aws:kinesis","kinesis":null},null,5]}`), []byte(`{"detail-type":"","source":"aws.ec2","id":"1","detail":{"a":1,"a":2}}`))
}

// fuzzInvoke delivers by turns to each end, and keeps the laws of an answer.
func fuzzInvoke(t *testing.T, mapping lambdaevents.Rules, event []byte) {
	t.Helper()
	delivered := 0
	w := lambdaevents.Worker{
		Rules:    mapping,
		Parallel: 1, // the same input takes the same way: the fuzzer measures it
		Deliver: func(_ context.Context, d domain.Delivery) (domain.Disposition, domain.Job) {
			if ours := d.JobID != ""; (d.Err == nil) != (ours != (d.Foreign != nil)) || ours && !domain.ValidID(d.JobID) {
				t.Errorf("delivery %+v", d)
			}
			if d.Foreign != nil {
				if !domain.ValidID(d.Foreign.ID) || !domain.ValidName(d.Foreign.Name) || d.Foreign.Payload != nil && !json.Valid(d.Foreign.Payload) {
					t.Errorf("job %+v", d.Foreign)
				}
			}
			delivered++
			switch delivered % 4 {
			case 0:
				return domain.Disposition{Verdict: domain.Ack}, domain.Job{Status: domain.Queued, DueAt: time.Now().Add(time.Minute)}
			case 1:
				return domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonOf(d.Err)}, domain.Job{}
			case 2:
				return domain.Disposition{Verdict: domain.Ack, Reason: domain.ReasonFinished}, domain.Job{Status: domain.Dead}
			default:
				return domain.Disposition{}, domain.Job{}
			}
		},
		DeadLetter: func(context.Context, lambdaevents.Letter) error { return nil },
		Postpone:   func(context.Context, string, string, time.Duration) (bool, error) { return delivered%8 == 0, nil },
	}
	response, err := w.Invoke(t.Context(), event)
	if (err == nil) != (response != nil) || response != nil && !json.Valid(response) {
		t.Errorf("response %q, error %v", response, err)
	}
	var answer events.SQSEventResponse
	if err == nil && json.Unmarshal(response, &answer) != nil {
		t.Errorf("response %s", response)
	}
	for _, failure := range answer.BatchItemFailures {
		if failure.ItemIdentifier == "" {
			t.Errorf("an empty id in %s", response)
		}
	}
}

func FuzzInvoke(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	mapping := rules(f)
	f.Fuzz(func(t *testing.T, event []byte) {
		lambdaevents.Scheduled(event)
		fuzzInvoke(t, mapping, event)
	})
}

// Bodies of messages are not Lambda's, but whoever's may send.
func FuzzMessageBody(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(string(seed))
	}
	mapping := rules(f)
	f.Fuzz(func(t *testing.T, body string) {
		fuzzInvoke(t, mapping, queued(body, notification(t, body), body))
	})
}

func FuzzParseRules(f *testing.F) {
	for _, seed := range []string{``, `[]`, `null`, `[{"source":"a*","detail_type":"b","arn":"c","job":"d"},{"source":"*","job":"e"}]`, `[{"source":"**"}]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := lambdaevents.ParseRules([]byte(text))
		if err != nil {
			return
		}
		for _, r := range parsed {
			if r.Source == "" || !domain.ValidName(r.Job) {
				t.Errorf("%q is accepted: %+v", text, r)
			}
		}
	})
}
