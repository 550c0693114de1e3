package lambdaevents_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/lambdaevents"
	"github.com/jobgate/jobgate/domain"
)

var _ lambda.Handler = (*lambdaevents.Worker)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	queueARN = "arn:aws:sqs:us-east-2:123456789012:my-queue"
	fifoARN  = queueARN + ".fifo"
	topicARN = "arn:aws:sns:us-east-1:123456789012:sns-lambda"

	firstID  = "059f36b4-87a3-44ab-83d2-661975830a7d"
	secondID = "2e1424d4-f796-459a-8184-9c92662be6da"
	thirdID  = "11d6ee51-4cc7-4302-9e22-7cd8afdaadf5"
	snsID    = "95df01b4-ee98-5cb9-9903-4c221d41eb5e"
)

func jobID(n int) string { return fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n) }

// shape reads an event that has the shape of AWS's documentation.
func shape(t testing.TB, name string) []byte {
	t.Helper()
	event, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return event
}

// decide is a worker's decision by the delivery alone.
type decide func(domain.Delivery) domain.Disposition

func (d decide) deliver(_ context.Context, delivery domain.Delivery) (domain.Disposition, domain.Job) {
	return d(delivery), domain.Job{}
}

func ack(domain.Delivery) domain.Disposition { return domain.Disposition{Verdict: domain.Ack} }

func TestRecordsBecomeDeliveries(t *testing.T) {
	t.Parallel()
	sqsSent := time.UnixMilli(1545082649183).UTC()
	fifoSent := time.UnixMilli(1573251510774).UTC()
	snsSent := time.Date(2019, 1, 2, 12, 45, 7, 0, time.UTC)
	foreign := func(kind, source, id string) *domain.JobSpec {
		return &domain.JobSpec{ID: domain.EventID(kind, source, id), Name: "test-job"}
	}
	const enveloped = "dc1e94d9-56c5-5e96-808d-cc7f68faa162"
	undecodable := domain.Errorf(domain.Invalid, domain.ReasonUndecodable, "")
	tests := map[string][]domain.Delivery{
		"sqs": {
			{MessageID: firstID, SentAt: sqsSent, JobID: jobID(1)},
			{MessageID: secondID, SentAt: sqsSent, Foreign: foreign("sqs", queueARN, secondID)},
			{MessageID: thirdID, SentAt: sqsSent, Err: undecodable},
		},
		"sqs_sns_envelope": {
			{MessageID: firstID, SentAt: sqsSent, JobID: jobID(1)},
			{MessageID: secondID, SentAt: sqsSent, Foreign: foreign("sns", "arn:aws:sns:us-east-2:111122223333:ExampleTopic1", enveloped)},
			{MessageID: thirdID, SentAt: sqsSent, Err: undecodable},
		},
		"sqs_fifo": {
			{MessageID: firstID, SentAt: fifoSent, JobID: jobID(1)},
			{MessageID: secondID, SentAt: fifoSent, JobID: jobID(2)},
			{MessageID: thirdID, SentAt: fifoSent, JobID: jobID(3)},
		},
		"sns":             {{MessageID: snsID, SentAt: snsSent, JobID: jobID(1)}},
		"sns_bare":        {{MessageID: snsID, SentAt: snsSent, Foreign: foreign("sns", topicARN, snsID)}},
		"sns_undecodable": {{MessageID: snsID, SentAt: snsSent, Err: undecodable}},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var got []domain.Delivery
			w := lambdaevents.Worker{Deliver: decide(func(d domain.Delivery) domain.Disposition {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, d)
				return ack(d)
			}).deliver}
			response, err := w.Invoke(t.Context(), shape(t, name))
			if err != nil {
				t.Fatal(err)
			}
			wantResponse := `{"batchItemFailures":[]}`
			if strings.HasPrefix(name, "sns") {
				wantResponse = `null`
			}
			if string(response) != wantResponse {
				t.Errorf("response %s, want %s", response, wantResponse)
			}
			if strings.HasSuffix(name, "fifo") && !slices.IsSortedFunc(got, func(a, b domain.Delivery) int { return strings.Compare(a.JobID, b.JobID) }) {
				t.Errorf("a FIFO queue's messages were delivered out of order: %+v", got)
			}
			byID := cmpopts.SortSlices(func(a, b domain.Delivery) bool { return a.MessageID < b.MessageID })
			byReason := cmp.Comparer(func(a, b error) bool {
				return domain.ReasonOf(a) == domain.ReasonOf(b) && domain.KindOf(a) == domain.KindOf(b)
			})
			if diff := cmp.Diff(want, got, byID, byReason); diff != "" {
				t.Errorf("deliveries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestABatchIsAnsweredByWhatEachRecordCameTo(t *testing.T) {
	t.Parallel()
	verdicts := func(verdicts ...domain.Verdict) decide {
		return func(d domain.Delivery) domain.Disposition {
			i := slices.Index([]string{firstID, secondID, thirdID}, d.MessageID)
			return domain.Disposition{Verdict: verdicts[i], Reason: domain.ReasonRecordMissing}
		}
	}
	const a, r, l = domain.Ack, domain.Return, domain.DeadLetter
	type letters = map[string]bool // message id → whether it can be set apart
	tests := map[string]struct {
		event   string
		decide  decide
		letters letters // nil: no dead-letter function
		want    []string
	}{
		"all done":                             {"sqs", verdicts(a, a, a), nil, nil},
		"one returned":                         {"sqs", verdicts(a, r, a), nil, []string{secondID}},
		"all returned":                         {"sqs", verdicts(r, r, r), nil, []string{firstID, secondID, thirdID}},
		"set apart":                            {"sqs", verdicts(a, r, l), letters{thirdID: true}, []string{secondID}},
		"nowhere to set apart":                 {"sqs", verdicts(l, a, a), nil, []string{firstID}},
		"cannot be set apart":                  {"sqs", verdicts(l, l, a), letters{firstID: true}, []string{secondID}},
		"FIFO done":                            {"sqs_fifo", verdicts(a, a, a), nil, nil},
		"FIFO stops at the first returned":     {"sqs_fifo", verdicts(a, r, a), nil, []string{secondID, thirdID}},
		"FIFO goes on past a dead letter":      {"sqs_fifo", verdicts(l, a, r), letters{firstID: true}, []string{thirdID}},
		"FIFO stops when nowhere to set apart": {"sqs_fifo", verdicts(l, a, a), nil, []string{firstID, secondID, thirdID}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := lambdaevents.Worker{Deliver: tt.decide.deliver}
			if tt.letters != nil {
				w.DeadLetter = func(_ context.Context, letter lambdaevents.Letter) error {
					if !tt.letters[letter.MessageID] {
						return errors.New("no queue")
					}
					return nil
				}
			}
			response, err := w.Invoke(t.Context(), shape(t, tt.event))
			if err != nil {
				t.Fatal(err)
			}
			var got events.SQSEventResponse
			if err := json.Unmarshal(response, &got); err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, failure := range got.BatchItemFailures {
				ids = append(ids, failure.ItemIdentifier)
			}
			if diff := cmp.Diff(tt.want, ids); diff != "" {
				t.Errorf("returned (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFIFOQueueIsNotDeliveredBeyondTheFirstFailure(t *testing.T) {
	t.Parallel()
	var delivered []string
	w := lambdaevents.Worker{Deliver: decide(func(d domain.Delivery) domain.Disposition {
		delivered = append(delivered, d.JobID) // one after the other, or the race detector objects
		if d.JobID == jobID(2) {
			panic("a bug")
		}
		return ack(d)
	}).deliver}
	if _, err := w.Invoke(t.Context(), shape(t, "sqs_fifo")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{jobID(1), jobID(2)}, delivered); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
}

func TestATopicsEventFailsWhenItsRecordIsReturned(t *testing.T) {
	t.Parallel()
	letter := func(err error) func(context.Context, lambdaevents.Letter) error {
		return func(context.Context, lambdaevents.Letter) error { return err }
	}
	tests := map[string]struct {
		verdict    domain.Verdict
		deadLetter func(context.Context, lambdaevents.Letter) error
		fails      bool
	}{
		"acknowledged":         {domain.Ack, nil, false},
		"returned":             {domain.Return, nil, true},
		"set apart":            {domain.DeadLetter, letter(nil), false},
		"nowhere to set apart": {domain.DeadLetter, nil, true},
		"cannot be set apart":  {domain.DeadLetter, letter(errors.New("no queue")), true},
	}
	for name, tt := range tests {
		w := lambdaevents.Worker{DeadLetter: tt.deadLetter, Deliver: decide(func(domain.Delivery) domain.Disposition {
			return domain.Disposition{Verdict: tt.verdict, Reason: domain.ReasonUndecodable}
		}).deliver}
		response, err := w.Invoke(t.Context(), shape(t, "sns_undecodable"))
		switch {
		case tt.fails != (err != nil):
			t.Errorf("%s: error %v", name, err)
		case err != nil && (!strings.Contains(err.Error(), snsID) || strings.Contains(err.Error(), "Hello")):
			t.Errorf("%s: the error %q names the message by its id and nothing else", name, err)
		case err == nil && string(response) != "null":
			t.Errorf("%s: response %s", name, response)
		}
	}
}

func TestALetterIsTheMessageAsItCame(t *testing.T) {
	t.Parallel()
	const detail = "the message is neither an event nor a bare job"
	for event, want := range map[string]lambdaevents.Letter{
		"sqs":             {Body: []byte("Test message."), MessageID: thirdID, Source: queueARN, Reason: domain.ReasonUndecodable, Detail: detail},
		"sns_undecodable": {Body: []byte("Hello from SNS!"), MessageID: snsID, Source: topicARN, Reason: domain.ReasonUndecodable, Detail: detail},
	} {
		var got []lambdaevents.Letter
		w := lambdaevents.Worker{
			Deliver: decide(func(d domain.Delivery) domain.Disposition {
				if d.Err != nil {
					return domain.DisposeUnclaimed(d.Err, d, time.Now())
				}
				return ack(d)
			}).deliver,
			DeadLetter: func(ctx context.Context, letter lambdaevents.Letter) error {
				if _, bounded := ctx.Deadline(); !bounded {
					t.Error("setting apart has no bound")
				}
				got = append(got, letter)
				return nil
			},
		}
		if _, err := w.Invoke(t.Context(), shape(t, event)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]lambdaevents.Letter{want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", event, diff)
		}
	}
	t.Run("with its envelope", func(t *testing.T) {
		t.Parallel()
		var event struct{ Records []struct{ Body string } }
		if err := json.Unmarshal(shape(t, "sqs_sns_envelope"), &event); err != nil {
			t.Fatal(err)
		}
		w := lambdaevents.Worker{
			Parallel: 1,
			Deliver: decide(func(domain.Delivery) domain.Disposition {
				return domain.Disposition{Verdict: domain.DeadLetter}
			}).deliver,
			DeadLetter: func(_ context.Context, letter lambdaevents.Letter) error {
				if want := event.Records[0].Body; letter.MessageID == firstID && string(letter.Body) != want {
					t.Errorf("body %s, want %s", letter.Body, want)
				}
				return nil
			},
		}
		if _, err := w.Invoke(t.Context(), shape(t, "sqs_sns_envelope")); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEachOutcomeIsLoggedWithoutTheBody(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]lambdaevents.Outcome{}
	w := lambdaevents.Worker{
		Deliver: decide(func(d domain.Delivery) domain.Disposition {
			switch d.MessageID {
			case firstID:
				panic("a bug")
			case secondID:
				return domain.Disposition{Verdict: domain.Return, Reason: domain.ReasonUnavailable, Pause: true}
			default:
				return domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonUndecodable}
			}
		}).deliver,
		Log: func(_ context.Context, o lambdaevents.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			got[o.MessageID] = o
		},
	}
	if _, err := w.Invoke(t.Context(), shape(t, "sqs")); err != nil {
		t.Fatal(err)
	}
	want := map[string]lambdaevents.Outcome{
		firstID: {MessageID: firstID, JobID: jobID(1), Source: queueARN, Disposition: domain.Disposition{Reason: domain.ReasonInternal}},
		secondID: {
			MessageID: secondID, JobID: domain.EventID("sqs", queueARN, secondID), Source: queueARN,
			Disposition: domain.Disposition{Reason: domain.ReasonUnavailable, Pause: true},
		},
		thirdID: {MessageID: thirdID, Source: queueARN, Disposition: domain.Disposition{Reason: domain.ReasonUndecodable}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(lambdaevents.Outcome{}, "Err")); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	for id, contains := range map[string][]string{
		firstID: {"panic: a bug", "lambdaevents_test.go"}, // with the stack
		thirdID: {"neither an event nor a bare job", "nowhere to set a record apart"},
	} {
		for _, text := range contains {
			if err := got[id].Err; err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: error %v, want %q in it", id, err, text)
			}
		}
	}
	if text := fmt.Sprint(got[thirdID]); strings.Contains(text, "Test message") {
		t.Errorf("the log holds a body: %s", text)
	}
}

func TestOneRecordsPanicOrExitTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(){"panic": func() { panic("a bug") }, "exit of the goroutine": runtime.Goexit} {
		var others atomic.Int32
		w := lambdaevents.Worker{Deliver: decide(func(d domain.Delivery) domain.Disposition {
			if d.MessageID == secondID {
				fail()
			}
			others.Add(1)
			return ack(d)
		}).deliver}
		response, err := w.Invoke(t.Context(), shape(t, "sqs"))
		if want := `{"batchItemFailures":[{"itemIdentifier":"` + secondID + `"}]}`; err != nil || string(response) != want {
			t.Errorf("%s: response %s, %v, want %s", name, response, err, want)
		}
		if others.Load() != 2 {
			t.Errorf("%s: %d others were delivered, want 2", name, others.Load())
		}
	}
	t.Run("while it is set apart", func(t *testing.T) {
		t.Parallel()
		w := lambdaevents.Worker{
			Deliver:    decide(func(domain.Delivery) domain.Disposition { return domain.Disposition{Verdict: domain.DeadLetter} }).deliver,
			DeadLetter: func(context.Context, lambdaevents.Letter) error { panic("a bug") },
		}
		if _, err := w.Invoke(t.Context(), shape(t, "sns")); err == nil {
			t.Error("no error, want one: the record is nowhere")
		}
	})
}

func TestARecordThatCannotBeReadTakesNoOtherWithItWhereverItIs(t *testing.T) {
	t.Parallel()
	const unreadable = `{"messageId":"` + firstID + `","body":5,"eventSource":"aws:sqs","eventSourceARN":"` + queueARN + `"}`
	readable := `{"messageId":"` + secondID + `","body":"{\"name\":\"test-job\"}","eventSource":"aws:sqs","eventSourceARN":"` + queueARN + `"}`
	for _, records := range []string{unreadable + "," + readable, readable + "," + unreadable} {
		w := lambdaevents.Worker{Parallel: 1, Deliver: decide(func(d domain.Delivery) domain.Disposition {
			if d.Err != nil {
				return domain.Disposition{Verdict: domain.DeadLetter, Reason: domain.ReasonUndecodable}
			}
			return ack(d)
		}).deliver}
		response, err := w.Invoke(t.Context(), []byte(`{"Records":[`+records+`]}`))
		if want := `{"batchItemFailures":[{"itemIdentifier":"` + firstID + `"}]}`; err != nil || string(response) != want {
			t.Errorf("response %s, %v; want %s", response, err, want)
		}
	}
}

func TestRecordsRunSideBySideUpToTheBound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ parallel, want int }{{0, 10}, {3, 3}, {100, 25}} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			running, most := 0, 0
			count := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				running += n
				most = max(most, running)
			}
			w := lambdaevents.Worker{Parallel: tt.parallel, Deliver: decide(func(d domain.Delivery) domain.Disposition {
				count(1)
				time.Sleep(time.Second)
				count(-1)
				return ack(d)
			}).deliver}
			began := time.Now()
			if _, err := w.Invoke(t.Context(), lambdaevents.SQSEvent(queueARN, messages(25)...)); err != nil {
				t.Fatal(err)
			}
			if most != tt.want {
				t.Errorf("Parallel %d: %d ran at once, want %d", tt.parallel, most, tt.want)
			}
			if took, rounds := time.Since(began).Seconds(), (25+tt.want-1)/tt.want; took != float64(rounds) {
				t.Errorf("Parallel %d: took %v s, want %d rounds of 1 s", tt.parallel, took, rounds)
			}
		})
	}
}

func TestTheDeliverysContextIsTheInvocations(t *testing.T) {
	t.Parallel()
	type key struct{}
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "request"), time.Hour)
	defer cancel()
	w := lambdaevents.Worker{Deliver: func(got context.Context, d domain.Delivery) (domain.Disposition, domain.Job) {
		deadline, _ := got.Deadline()
		if want, _ := ctx.Deadline(); got.Value(key{}) != "request" || !deadline.Equal(want) {
			t.Error("the context is another")
		}
		return ack(d), domain.Job{}
	}}
	if _, err := w.Invoke(ctx, shape(t, "sns")); err != nil {
		t.Error(err)
	}
}

func TestAnEventThatNobodyKnowsIsSetApartOrFails(t *testing.T) {
	t.Parallel()
	const unknown = "of no source that is known here"
	tests := map[string]struct {
		event string
		want  string
	}{
		"several sources":  {`{"Records":[{"EventSource":"aws:sns"},{"eventSource":"aws:sqs"}]}`, "come from several sources"},
		"another source":   {`{"Records":[{"eventSource":"aws:ses","secret":1}]}`, `records of the source "aws:ses" are not known here`},
		"long source":      {`{"Records":[{"eventSource":"` + strings.Repeat("x", 1000) + `"}]}`, `source "` + strings.Repeat("x", 64) + `" are`},
		"source of none":   {`{"Records":[{}]}`, `records of the source "" are not known here`},
		"null for records": {`{"Records":[null]}`, `records of the source "" are not known here`},
		"another case":     {`{"records":[{"eventSource":"aws:sqs"}]}`, unknown},
		"empty batch":      {`{"Records":[]}`, unknown},
		"empty":            {``, "not JSON, at byte 0"},
		"no JSON":          {`{"secret"`, "not JSON, at byte 9"},
		"list":             {`["secret"]`, "unexpected type, at byte 0"},
		"null":             {`null`, unknown},
		"a token":          {`{"type":"TOKEN","authorizationToken":"secret"}`, unknown},
		"a job":            {`{"name":"secret"}`, unknown},
		"list for text":    {`{"Records":[{"EventSource":"aws:sns","Sns":{"Message":[12345]}}]}`, "unexpected type, at byte 42"},
	}
	for name, tt := range tests {
		apart := lambdaevents.Worker{Deliver: decide(func(d domain.Delivery) domain.Disposition { return domain.DisposeUnclaimed(d.Err, d, time.Now()) }).deliver}
		response, err := apart.Invoke(t.Context(), []byte(tt.event))
		if response != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: response %s, error %v, want %q", name, response, err, tt.want)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "12345") {
			t.Errorf("%s: the error quotes the event: %v", name, err)
		}
		var letters []lambdaevents.Letter
		apart.Parallel = 1
		apart.DeadLetter = func(_ context.Context, letter lambdaevents.Letter) error {
			letters = append(letters, letter)
			return nil
		}
		response, err = apart.Invoke(t.Context(), []byte(tt.event))
		if err != nil || string(response) != "null" {
			t.Errorf("%s: response %s, error %v, want it set apart", name, response, err)
		}
		if len(letters) == 0 || letters[len(letters)-1].Reason != domain.ReasonUndecodable || !strings.Contains(letters[len(letters)-1].Detail, tt.want) {
			t.Errorf("%s: letters %+v, want undecodable and %q", name, letters, tt.want)
		}
	}
}

func TestARecordThatCannotBeNamedFailsItsBatch(t *testing.T) {
	t.Parallel()
	for _, event := range []string{
		`{"Records":[{"eventSource":"aws:sqs","body":"secret"}]}`,
		`{"Records":[{"eventSource":"aws:kinesis"}]}`,
		`{"Records":[{"eventSource":"aws:dynamodb","dynamodb":{"SequenceNumber":""}}]}`,
	} {
		w := lambdaevents.Worker{Deliver: decide(func(domain.Delivery) domain.Disposition { return domain.Disposition{} }).deliver}
		if response, err := w.Invoke(t.Context(), []byte(event)); response != nil || err == nil || !strings.Contains(err.Error(), "without an id") {
			t.Errorf("%s: response %s, error %v", event, response, err)
		}
	}
}

func TestWithoutATimestampTheTimeIsUnknown(t *testing.T) {
	t.Parallel()
	for _, event := range []string{
		`{"Records":[{"eventSource":"aws:sqs","messageId":"m","attributes":{"SentTimestamp":"soon"}}]}`,
		`{"Records":[{"eventSource":"aws:sqs","messageId":"m"}]}`,
		`{"Records":[{"EventSource":"aws:sns","Sns":{"Timestamp":"soon"}}]}`,
	} {
		w := lambdaevents.Worker{Deliver: decide(func(d domain.Delivery) domain.Disposition {
			if !d.SentAt.IsZero() {
				t.Errorf("%s: sent at %v", event, d.SentAt)
			}
			return ack(d)
		}).deliver}
		if _, err := w.Invoke(t.Context(), []byte(event)); err != nil {
			t.Errorf("%s: %v", event, err)
		}
	}
}

func messages(n int) []lambdaevents.Message {
	var list []lambdaevents.Message
	for i := range n {
		list = append(list, lambdaevents.Message{
			ID: fmt.Sprintf("m-%d", i), Body: `{"name":"test-job"}`, SentAt: time.UnixMilli(1545082649183), Receives: 1,
		})
	}
	return list
}

func TestSQSEventHasTheShapeOfSQS(t *testing.T) {
	t.Parallel()
	event := lambdaevents.SQSEvent(queueARN, lambdaevents.Message{
		ID: "m-1", Body: "{\"a\":\"é\u0000<\"}", SentAt: time.UnixMilli(1545082649183), Receives: 2,
	})
	var got events.SQSEvent
	if err := json.Unmarshal(event, &got); err != nil {
		t.Fatal(err)
	}
	want := events.SQSEvent{Records: []events.SQSMessage{{
		MessageId: "m-1", ReceiptHandle: "m-1", Body: "{\"a\":\"é\u0000<\"}", Md5OfBody: "d210c4eab45bc28b66108ce2cd23a271",
		Attributes: map[string]string{
			"ApproximateReceiveCount": "2", "SentTimestamp": "1545082649183", "ApproximateFirstReceiveTimestamp": "1545082649183",
		},
		MessageAttributes: map[string]events.SQSMessageAttribute{},
		EventSourceARN:    queueARN, EventSource: "aws:sqs", AWSRegion: "us-east-2",
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	var none events.SQSEvent
	if err := json.Unmarshal(lambdaevents.SQSEvent("queue", lambdaevents.Message{ID: "\xff"}), &none); err != nil || none.Records[0].AWSRegion != "" {
		t.Errorf("%+v, %v", none, err)
	}
}

func TestFailuresReadsWhatInvokeAnswers(t *testing.T) {
	t.Parallel()
	sent := messages(3)
	w := lambdaevents.Worker{Deliver: decide(func(d domain.Delivery) domain.Disposition {
		if d.MessageID == "m-1" {
			return domain.Disposition{}
		}
		return ack(d)
	}).deliver}
	response, err := w.Invoke(t.Context(), lambdaevents.SQSEvent(queueARN, sent...))
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := lambdaevents.Failures(response, sent...); err != nil || !slices.Equal(ids, []string{"m-1"}) {
		t.Errorf("failures %v, %v, want m-1", ids, err)
	}
}

func TestFailuresFollowsLambdasRules(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		response string
		want     []string
		fails    bool
	}{
		"nothing":       {``, nil, false},
		"null":          {`null`, nil, false},
		"empty object":  {`{}`, nil, false},
		"null list":     {`{"batchItemFailures":null}`, nil, false},
		"empty list":    {`{"batchItemFailures":[]}`, nil, false},
		"two":           {`{"batchItemFailures":[{"itemIdentifier":"m-0"},{"itemIdentifier":"m-2"}]}`, []string{"m-0", "m-2"}, false},
		"unknown id":    {`{"batchItemFailures":[{"itemIdentifier":"m-9"}]}`, nil, true},
		"empty id":      {`{"batchItemFailures":[{"itemIdentifier":""}]}`, nil, true},
		"null id":       {`{"batchItemFailures":[{"itemIdentifier":null}]}`, nil, true},
		"bad key":       {`{"batchItemFailures":[{"id":"m-0"}]}`, nil, true},
		"not JSON":      {`oops`, nil, true},
		"another shape": {`[]`, nil, true},
	}
	for name, tt := range tests {
		got, err := lambdaevents.Failures([]byte(tt.response), messages(3)...)
		if !slices.Equal(got, tt.want) || tt.fails != (err != nil) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, tt.want)
		}
	}
}

func FuzzFailures(f *testing.F) {
	for _, seed := range []string{``, `null`, `{"batchItemFailures":[{"itemIdentifier":"m-0"}]}`, `{"batchItemFailures":[{}]}`} {
		f.Add([]byte(seed))
	}
	sent := messages(2)
	f.Fuzz(func(t *testing.T, response []byte) {
		ids, err := lambdaevents.Failures(response, sent...)
		if err != nil && ids != nil {
			t.Errorf("ids %q with error %v", ids, err)
		}
		for _, id := range ids {
			if id != "m-0" && id != "m-1" {
				t.Errorf("id %q was not sent", id)
			}
		}
	})
}
