package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/domain"
)

// A registry is a server that knows jobs by their status. A redriven one is queued.
type registry struct {
	mu       sync.Mutex
	status   map[string]domain.Status
	redrives []string
	owners   []string            // of the jobs that the caller is shown in the listing
	before   func(id string) int // called at each redrive; a status other than 0 is the answer. May be nil.
	stubborn bool                // what is redriven is dead again at once
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, action, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/jobs/"), "/")
	refuse := func(status int, code domain.Reason, detail string) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"code":%q,"detail":%q}`, code, detail)
	}
	if req.URL.Path == "/jobs" && req.Method == http.MethodGet {
		var list []string
		for i, owner := range r.owners {
			list = append(list, fmt.Sprintf(`{"id":%q,"name":"test.echo","status":"queued","owner":{"issuer":%q,"subject":%q}}`, jobID(900+i), issuer, owner))
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jobs":[%s]}`, strings.Join(list, ","))
		return
	}
	status, known := r.status[id]
	if action == "redrive" && req.Method == http.MethodPost {
		if r.before != nil {
			if answer := r.before(id); answer != 0 {
				refuse(answer, domain.ReasonUnavailable, "not now")
				return
			}
		}
		switch {
		case !known:
		case status != domain.Dead && status != domain.Cancelled:
			refuse(http.StatusConflict, domain.ReasonNotRedrivable, "the job is "+string(status))
			return
		default:
			r.redrives = append(r.redrives, id)
			status = domain.Queued
			if !r.stubborn {
				r.status[id] = status
			}
		}
	} else if req.Method != http.MethodGet {
		refuse(http.StatusMethodNotAllowed, "", "")
		return
	}
	if !known {
		refuse(http.StatusNotFound, domain.ReasonNotFound, "no such job")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"id":%q,"name":"test.echo","status":%q}`, id, status)
}

// A message is one in a queue of either broker. Its attributes are headers of RabbitMQ.
type message struct {
	ID, Body   string
	Attributes map[string]string
}

// A broker is what the tests do with one, as its operator.
type broker struct {
	env    map[string]string
	create func(t testing.TB) string
	drop   func(t testing.TB, queue string)
	put    func(t testing.TB, queue string, messages ...message)
	get    func(t testing.TB, queue string) []message // all that are visible, and leaves them so
	bare   func(queue string) (message, string)       // a bare message and the id of its job
}

func motoBroker(t *testing.T) broker {
	endpoint := adaptertest.Moto(t)
	client := awssqs.NewFromConfig(adaptertest.AWSConfig(t, endpoint))
	made := 0
	const source = "arn:aws:sqs:us-east-1:123456789012:jobs"
	return broker{
		env: map[string]string{"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": endpoint},
		create: func(t testing.TB) string {
			t.Helper()
			made++
			out, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{QueueName: aws.String(fmt.Sprintf("queue-%d", made))})
			if err != nil {
				t.Fatal(err)
			}
			return aws.ToString(out.QueueUrl)
		},
		drop: func(t testing.TB, queue string) {
			t.Helper()
			if _, err := client.DeleteQueue(t.Context(), &awssqs.DeleteQueueInput{QueueUrl: &queue}); err != nil {
				t.Error(err)
			}
		},
		put: func(t testing.TB, queue string, messages ...message) {
			t.Helper()
			for _, m := range messages {
				attributes := map[string]types.MessageAttributeValue{}
				for name, value := range m.Attributes {
					attributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
				}
				_, err := client.SendMessage(t.Context(), &awssqs.SendMessageInput{QueueUrl: &queue, MessageBody: &m.Body, MessageAttributes: attributes})
				if err != nil {
					t.Fatal(err)
				}
			}
		},
		get: func(t testing.TB, queue string) (messages []message) {
			t.Helper()
			var entries []types.ChangeMessageVisibilityBatchRequestEntry
			out, err := client.ReceiveMessage(t.Context(), &awssqs.ReceiveMessageInput{
				QueueUrl: &queue, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"}, VisibilityTimeout: 60,
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, m := range out.Messages {
				attributes := map[string]string{}
				for name, value := range m.MessageAttributes {
					attributes[name] = aws.ToString(value.StringValue)
				}
				messages = append(messages, message{Body: aws.ToString(m.Body), Attributes: attributes})
				entries = append(entries, types.ChangeMessageVisibilityBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), ReceiptHandle: m.ReceiptHandle})
			}
			if len(entries) > 0 {
				if _, err := client.ChangeMessageVisibilityBatch(t.Context(), &awssqs.ChangeMessageVisibilityBatchInput{QueueUrl: &queue, Entries: entries}); err != nil {
					t.Fatal(err)
				}
			}
			return messages
		},
		bare: func(string) (message, string) {
			return message{Body: `"test.echo"`, Attributes: map[string]string{"source": source, "message_id": "m-1", "reason": "exhausted"}},
				domain.EventID("sqs", source, "m-1")
		},
	}
}

func rabbitBroker(t *testing.T) broker {
	server := adaptertest.RabbitMQ(t)
	conn, err := amqp.Dial(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // it goes with its broker
	channel := func(t testing.TB) *amqp.Channel {
		t.Helper()
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ch.Close() }) // some are closed by then
		return ch
	}
	made := 0
	return broker{
		env: map[string]string{"BROKER_URL": server.URL},
		create: func(t testing.TB) string {
			t.Helper()
			made++
			queue := fmt.Sprintf("queue-%d", made)
			if _, err := channel(t).QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
				t.Fatal(err)
			}
			return queue
		},
		drop: func(t testing.TB, queue string) {
			t.Helper()
			if _, err := channel(t).QueueDelete(queue, false, false, false); err != nil {
				t.Error(err)
			}
		},
		put: func(t testing.TB, queue string, messages ...message) {
			t.Helper()
			ch := channel(t)
			if err := ch.Confirm(false); err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				headers := amqp.Table{"CC": []any{"elsewhere"}, "number": int64(7)}
				for name, value := range m.Attributes {
					if name == "reason" {
						name = "jobgate-reason"
					}
					headers[name] = value
				}
				confirm, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{
					MessageId: m.ID, Body: []byte(m.Body), Headers: headers, ContentType: "text/x-test", UserId: "guest", Expiration: "600000",
				})
				if err != nil || !confirm.Wait() {
					t.Fatalf("publish: %v", err)
				}
			}
		},
		get: func(t testing.TB, queue string) (messages []message) {
			t.Helper()
			ch := channel(t)
			for {
				m, ok, err := ch.Get(queue, false)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				attributes := map[string]string{}
				for name, value := range m.Headers {
					attributes[name] = fmt.Sprint(value)
				}
				messages = append(messages, message{ID: m.MessageId, Body: string(m.Body), Attributes: attributes})
			}
			if len(messages) > 0 {
				if err := ch.Nack(0, true, true); err != nil {
					t.Fatal(err)
				}
			}
			if err := ch.Close(); err != nil { // by then they are back
				t.Fatal(err)
			}
			return messages
		},
		bare: func(string) (message, string) {
			return message{ID: "m-1", Body: `"test.echo"`, Attributes: map[string]string{"jobgate-queue": "jobs", "reason": "exhausted"}},
				domain.EventID("rabbitmq", "jobs", "m-1")
		},
	}
}

func jobID(n int) string { return fmt.Sprintf("0190b3a2-7c5e-7000-8000-%012d", n) }

func event(t testing.TB, id string) message {
	t.Helper()
	body, err := cloudevent.Encode(domain.Job{ID: id, Name: "test.echo", CreatedAt: clock}, "test")
	if err != nil {
		t.Fatal(err)
	}
	return message{ID: id, Body: string(body), Attributes: map[string]string{"reason": "permanent"}}
}

func undecodable() message {
	return message{ID: "strange", Body: "what is this", Attributes: map[string]string{"reason": "undecodable", "note": "kept"}}
}

// A desk runs the program against a registry.
type desk struct {
	*registry
	broker
	queue, to string
	server    *httptest.Server
}

func newDesk(t *testing.T, b broker, status map[string]domain.Status) *desk {
	t.Helper()
	d := &desk{registry: &registry{status: status, owners: []string{"operator", "alice"}}, broker: b, queue: b.create(t), to: b.create(t)}
	d.server = httptest.NewServer(d.registry)
	t.Cleanup(d.server.Close)
	return d
}

// operatorToken is as much of a token as a program looks at that does not verify it.
var operatorToken = "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"operator"}`)) + ".x"

// redrive returns the program's status and what it says.
func (d *desk) redrive(ctx context.Context, t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	env := map[string]string{"JOBGATE_SERVER": d.server.URL, "JOBGATE_TOKEN": operatorToken, "JOBGATE_CONFIG_DIR": t.TempDir()}
	maps.Copy(env, d.env)
	var out, said bytes.Buffer
	err := Run(ctx, append([]string{"redrive", "--queue", d.queue}, args...), func(name string) string { return env[name] }, strings.NewReader(""), &out, &said)
	if e, ok := errors.AsType[*config.ExitError](err); ok {
		status = e.Status
		fmt.Fprintln(&said, e.Err)
	} else if err != nil {
		t.Fatalf("no ExitError: %v", err)
	}
	return status, out.String(), said.String()
}

// outcomes are those of -o json by the job, or the message where there is none.
func outcomes(t *testing.T, stdout string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for line := range strings.Lines(stdout) {
		var row letterRow
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		name := row.Job
		if name == "" {
			name = "none"
		}
		if row.Reason == "" {
			t.Errorf("no reason: %s", line)
		}
		got[name] = strings.TrimSuffix(row.Outcome+": "+row.Detail, ": ")
	}
	return got
}

func bodies(messages []message) []string {
	texts := []string{}
	for _, m := range messages {
		texts = append(texts, m.Body)
	}
	slices.Sort(texts)
	return texts
}

func (d *desk) wantBodies(t *testing.T, queue string, want ...message) {
	t.Helper()
	// SQS answers at once, RabbitMQ gives a message back a moment after it was told to.
	expected, until := bodies(want), time.Now().Add(5*time.Second)
	for {
		diff := cmp.Diff(expected, bodies(d.get(t, queue)))
		if diff == "" {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("messages (-want +got):\n%s", diff)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

//nolint:tparallel // the subtests take turns at one broker
func TestRedriveOfSQS(t *testing.T) {
	t.Parallel()
	testRedriveOfAQueue(t, motoBroker(t), "https://sqs.us-east-1.amazonaws.com/123456789012/nowhere")
}

//nolint:tparallel // the subtests take turns at one broker
func TestRedriveOfRabbitMQ(t *testing.T) {
	t.Parallel()
	testRedriveOfAQueue(t, rabbitBroker(t), "nowhere")
}

func testRedriveOfAQueue(t *testing.T, b broker, nowhere string) {
	dead, queued, missing := jobID(1), jobID(2), jobID(3)
	bare, bareID := b.bare("")

	t.Run("letters find their jobs, and others a place that is named", func(t *testing.T) {
		d := newDesk(t, b, map[string]domain.Status{dead: domain.Dead, queued: domain.Queued, bareID: domain.Cancelled})
		all := []message{event(t, dead), event(t, queued), event(t, missing), bare, undecodable()}
		d.put(t, d.queue, all...)

		want := map[string]string{
			dead: "redriven", queued: "done: the job is queued", bareID: "redriven",
			missing: "left: its job has no record", "none": "left: it names no job",
		}
		status, stdout, stderr := d.redrive(t.Context(), t, "--dry-run", "-o", "json")
		if diff := cmp.Diff(want, outcomes(t, stdout)); diff != "" || status != exitDone {
			t.Errorf("dry: status %d, outcomes (-want +got):\n%s\n%s", status, diff, stderr)
		}
		if strings.Count(stdout, `"dry_run":true`) != 5 || !strings.Contains(stderr, "5 messages would be: 2 redriven, 1 done, 2 left.") {
			t.Errorf("dry: %s\n%s", stdout, stderr)
		}
		if len(d.redrives) > 0 {
			t.Errorf("dry: redrives %v", d.redrives)
		}
		d.wantBodies(t, d.queue, all...)

		status, stdout, stderr = d.redrive(t.Context(), t, "-o", "json")
		if diff := cmp.Diff(want, outcomes(t, stdout)); diff != "" || status != exitNo {
			t.Errorf("status %d, outcomes (-want +got):\n%s\n%s", status, diff, stderr)
		}
		slices.Sort(d.redrives)
		redriven := []string{dead, bareID}
		slices.Sort(redriven)
		if diff := cmp.Diff(redriven, d.redrives); diff != "" {
			t.Errorf("redrives (-want +got):\n%s", diff)
		}
		if !strings.Contains(stderr, "5 messages: 2 redriven, 1 done, 2 left.") || !strings.Contains(stderr, "next: say where messages without a job go: --to QUEUE") {
			t.Errorf("stderr %s", stderr)
		}
		d.wantBodies(t, d.queue, event(t, missing), undecodable())

		status, stdout, stderr = d.redrive(t.Context(), t, "--to", d.to)
		if status != exitDone || !strings.Contains(stdout, missing+"  moved: its job has no record") ||
			!strings.Contains(stdout, "-  moved: it names no job") || !strings.Contains(stderr, "2 messages: 2 moved.") {
			t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
		}
		d.wantBodies(t, d.queue)
		d.wantBodies(t, d.to, event(t, missing), undecodable())
		for _, m := range d.get(t, d.to) {
			if m.Body == undecodable().Body && (m.Attributes["note"] != "kept" || m.Attributes["CC"] != "") {
				t.Errorf("moved with the attributes %v", m.Attributes)
			}
		}

		status, stdout, stderr = d.redrive(t.Context(), t)
		if status != exitDone || stdout != "" || stderr != "0 messages.\n" {
			t.Errorf("of an empty queue: status %d, %s, %s", status, stdout, stderr)
		}
	})

	t.Run("scripts", func(t *testing.T) { testscript.Run(t, queueScripts(t, b)) })

	t.Run("nothing is deleted that was not confirmed", func(t *testing.T) {
		d := newDesk(t, b, map[string]domain.Status{dead: domain.Dead})
		d.put(t, d.queue, event(t, dead))
		d.before = func(string) int { return http.StatusServiceUnavailable }
		if status, stdout, stderr := d.redrive(t.Context(), t); status != exitUnavailable || stdout != "" {
			t.Errorf("status %d, %s, %s", status, stdout, stderr)
		}
		d.wantBodies(t, d.queue, event(t, dead))

		ctx, interrupt := context.WithCancel(t.Context())
		d.before = func(string) int { interrupt(); return 0 }
		if status, stdout, stderr := d.redrive(ctx, t); status != exitInterrupted || stdout != "" {
			t.Errorf("interrupted: status %d, %s, %s", status, stdout, stderr)
		}
		d.wantBodies(t, d.queue, event(t, dead))

		d.before = nil // whether or not the server heard the call that was interrupted
		if status, stdout, stderr := d.redrive(t.Context(), t); status != exitDone || strings.Count(stdout, "\n") != 1 {
			t.Errorf("status %d, %s, %s", status, stdout, stderr)
		}
		d.wantBodies(t, d.queue)
	})

	t.Run("what could not be moved stays", func(t *testing.T) {
		d := newDesk(t, b, nil)
		d.put(t, d.queue, event(t, missing))
		d.before = func(string) int { d.drop(t, d.to); return 0 }
		status, stdout, stderr := d.redrive(t.Context(), t, "--to", d.to)
		if status != exitUnavailable && status != exitUsage || stdout != "" || !strings.Contains(stderr, "could not send it to the queue of --to") {
			t.Errorf("status %d, %s, %s", status, stdout, stderr)
		}
		d.wantBodies(t, d.queue, event(t, missing))
	})

	t.Run("what may be another's job stays", func(t *testing.T) {
		d := newDesk(t, b, map[string]domain.Status{dead: domain.Dead})
		for name, owners := range map[string][]string{"shown none": nil, "shown the caller's own": {"operator", "operator"}} {
			d.owners = owners
			d.status[dead] = domain.Dead
			d.put(t, d.queue, event(t, missing), event(t, dead), undecodable())
			status, stdout, stderr := d.redrive(t.Context(), t, "--to", d.to)
			if status != exitForbidden || !strings.Contains(stdout, missing+"  left: its job has no record, or is another's") ||
				!strings.Contains(stderr, "3 messages: 1 redriven, 1 moved, 1 left.") || !strings.Contains(stderr, "next: log in so that") {
				t.Errorf("%s: status %d\n%s\n%s", name, status, stdout, stderr)
			}
			d.wantBodies(t, d.queue, event(t, missing))
			d.owners = []string{"alice"}
			if status, stdout, stderr := d.redrive(t.Context(), t, "--to", d.to, "--dry-run"); status != exitDone || !strings.Contains(stdout, "would be moved") {
				t.Errorf("%s, and then others': status %d\n%s\n%s", name, status, stdout, stderr)
			}
			if status, stdout, stderr := d.redrive(t.Context(), t, "--to", d.to); status != exitDone || !strings.Contains(stderr, "1 message: 1 moved.") {
				t.Errorf("%s, and then others': status %d\n%s\n%s", name, status, stdout, stderr)
			}
		}
	})

	t.Run("a limit is kept", func(t *testing.T) {
		status := map[string]domain.Status{}
		d := newDesk(t, b, status)
		for n := range 3 {
			status[jobID(n)] = domain.Dead
			d.put(t, d.queue, event(t, jobID(n)))
		}
		if status, stdout, stderr := d.redrive(t.Context(), t, "--limit", "2"); status != exitDone || strings.Count(stdout, "redriven") != 2 || !strings.Contains(stderr, "there may be more") {
			t.Errorf("status %d, %s, %s", status, stdout, stderr)
		}
		if got := d.get(t, d.queue); len(got) != 1 || len(d.redrives) != 2 {
			t.Errorf("%d messages and the redrives %v, want 1 and 2", len(got), d.redrives)
		}
		if status, stdout, stderr := d.redrive(t.Context(), t, "--limit", "0"); status != exitDone || strings.Count(stdout, "redriven") != 1 || strings.Contains(stderr, "more") {
			t.Errorf("status %d, %s, %s", status, stdout, stderr)
		}
	})

	t.Run("a job that dies again is redriven once", func(t *testing.T) {
		d := newDesk(t, b, map[string]domain.Status{dead: domain.Dead})
		d.stubborn = true
		d.put(t, d.queue, event(t, dead), event(t, dead))
		status, stdout, stderr := d.redrive(t.Context(), t)
		if status != exitNo || len(d.redrives) != 1 || !strings.Contains(stdout, "left: the job was redriven, and is dead again") {
			t.Errorf("status %d, redrives %v, %s, %s", status, d.redrives, stdout, stderr)
		}
		d.wantBodies(t, d.queue, event(t, dead))
	})

	t.Run("a queue that is not there is told before anything is done", func(t *testing.T) {
		d := newDesk(t, b, map[string]domain.Status{dead: domain.Dead})
		d.put(t, d.queue, event(t, dead), undecodable())
		if status, stdout, stderr := d.redrive(t.Context(), t, "--to", nowhere); status != exitUsage || stdout != "" || len(d.redrives) > 0 {
			t.Errorf("status %d, %s, %s", status, stdout, stderr)
		}
		d.wantBodies(t, d.queue, event(t, dead), undecodable())
		d.queue = nowhere
		if status, stdout, stderr := d.redrive(t.Context(), t); status != exitUsage || stdout != "" {
			t.Errorf("status %d, %s, %s", status, stdout, stderr)
		}
	})
}

// queueScripts are the scripts in testdata/queue, against a real service and a broker.
func queueScripts(t *testing.T, b broker) testscript.Params {
	t.Helper()
	p := realService(t, "testdata/queue")
	type script struct{}
	setup := p.Setup
	p.Setup = func(env *testscript.Env) error {
		tb, ok := env.T().(testing.TB)
		if !ok {
			return fmt.Errorf("%T is no test", env.T())
		}
		env.Values[script{}] = tb
		for name, value := range b.env {
			env.Setenv(name, value)
		}
		env.Setenv("QUEUE", b.create(tb))
		env.Setenv("TO", b.create(tb))
		return setup(env)
	}
	of := func(ts *testscript.TestScript) testing.TB { return ts.Value(script{}).(testing.TB) } //nolint:forcetypeassert // set above
	// letters QUEUE ID|TEXT... puts letters there, of jobs or with a text that names none.
	p.Cmds["letters"] = func(ts *testscript.TestScript, _ bool, args []string) {
		for _, arg := range args[1:] {
			m := undecodable()
			if m.Body = arg; domain.ValidID(arg) {
				m = event(of(ts), arg)
			}
			m.ID = domain.EventID("test", args[0], rand.Text())
			b.put(of(ts), args[0], m)
		}
	}
	// holds QUEUE ID|TEXT... checks which letters are there, which takes a broker a moment.
	p.Cmds["holds"] = func(ts *testscript.TestScript, _ bool, args []string) {
		want := slices.Sorted(slices.Values(args[1:]))
		for until := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got := []string{}
			for _, m := range b.get(of(ts), args[0]) {
				name := jobOf([]byte(m.Body), cloudevent.Origin{})
				if name == "" {
					name = m.Body
				}
				got = append(got, name)
			}
			slices.Sort(got)
			if slices.Equal(got, want) {
				return
			}
			if time.Now().After(until) {
				ts.Fatalf("the queue holds %q", got)
			}
		}
	}
	return p
}

func TestALetterThatComesBackIsNotMovedAgain(t *testing.T) {
	t.Parallel()
	b := motoBroker(t)
	d := newDesk(t, b, nil)
	d.put(t, d.queue, undecodable())
	box, err := openSQS(t.Context(), func(name string) string { return b.env[name] }, queueFlags{queue: d.queue, to: d.to})
	if err != nil {
		t.Fatal(err)
	}
	first, err := box.take(t.Context(), 10)
	if err != nil || len(first) != 1 || first[0].back {
		t.Fatalf("letters %+v, %v", first, err)
	}
	if err := errors.Join(first[0].move(t.Context()), first[0].remove(t.Context())); err != nil {
		t.Fatal(err)
	}
	for id := range box.moved { // as a worker would that cannot read it
		d.put(t, d.queue, message{Body: undecodable().Body, Attributes: map[string]string{"message_id": id}})
	}
	second, err := box.take(t.Context(), 10)
	if err != nil || len(second) != 1 || !second[0].back {
		t.Errorf("letters %+v, %v, want one that is back", second, err)
	}
	if err := box.close(t.Context()); err != nil {
		t.Error(err)
	}
	d.wantBodies(t, d.queue, undecodable())
}

func TestAMessageKeepsItsGroupWhereThereAreGroups(t *testing.T) {
	t.Parallel()
	b := motoBroker(t)
	client := awssqs.NewFromConfig(adaptertest.AWSConfig(t, b.env["AWS_ENDPOINT_URL"]))
	d := newDesk(t, b, nil)
	created, err := client.CreateQueue(t.Context(), &awssqs.CreateQueueInput{
		QueueName: aws.String("jobs.fifo"), Attributes: map[string]string{"FifoQueue": "true", "ContentBasedDeduplication": "true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.put(t, d.queue, undecodable(), undecodable()) // the same body is no reason to drop one
	if status, stdout, stderr := d.redrive(t.Context(), t, "--to", aws.ToString(created.QueueUrl)); status != exitDone {
		t.Fatalf("status %d, %s, %s", status, stdout, stderr)
	}
	d.wantBodies(t, d.queue)
	d.wantBodies(t, aws.ToString(created.QueueUrl), undecodable(), undecodable())
}

func TestTheJobOfALetterOfSQS(t *testing.T) {
	t.Parallel()
	const queue, topic = "arn:aws:sqs:us-east-1:123456789012:jobs", "arn:aws:sns:us-east-1:123456789012:jobs"
	envelope := func(body string) string {
		document, err := json.Marshal(map[string]string{"Type": "Notification", "TopicArn": topic, "MessageId": "topical", "Message": body})
		if err != nil {
			t.Fatal(err)
		}
		return string(document)
	}
	for _, tt := range []struct {
		name, body  string
		attributes  map[string]string
		deadLetters string // the queue that SQS took it from
		want        string
	}{
		{"an event", event(t, jobID(1)).Body, nil, "", jobID(1)},
		{"an event by a topic", envelope(event(t, jobID(1)).Body), nil, "", jobID(1)},
		{"an attribute, which counts", event(t, jobID(1)).Body, map[string]string{"job_id": jobID(2)}, "", jobID(2)},
		{"an attribute that is no id", event(t, jobID(1)).Body, map[string]string{"job_id": "../2"}, "", jobID(1)},
		{"a bare message that SQS set apart", `"test.echo"`, nil, queue, domain.EventID("sqs", queue, "own")},
		{"a bare message by a topic", envelope(`"test.echo"`), nil, queue, domain.EventID("sns", topic, "topical")},
		{"a bare message from nowhere", `"test.echo"`, nil, "", ""},
		{"nothing", "(empty)", nil, queue, ""},
	} {
		m := types.Message{MessageId: aws.String("own"), Body: aws.String(tt.body), Attributes: map[string]string{}, MessageAttributes: map[string]types.MessageAttributeValue{}}
		for name, value := range tt.attributes {
			m.MessageAttributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(value)}
		}
		if tt.deadLetters != "" {
			m.Attributes["DeadLetterQueueSourceArn"] = tt.deadLetters
		}
		if got := (&sqsBox{}).letter(m).job; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestRedriveOfAQueueThatCannotBe(t *testing.T) {
	t.Parallel()
	const url = "https://sqs.eu-west-1.amazonaws.com/123456789012/letters"
	for _, tt := range []struct {
		name   string
		env    map[string]string
		queue  string
		args   []string
		status int
		says   string
	}{
		{"no queue's URL", nil, "https://example.com/", nil, exitUsage, "--queue: "},
		{"a destination of the other broker", nil, url, []string{"--to", "jobgate.jobs"}, exitUsage, "same broker"},
		{"the queue itself", nil, "letters", []string{"--to", "letters"}, exitUsage, "come from"},
		{"a destination alone", nil, "", []string{"--to", "letters"}, exitUsage, "--to is for"},
		{"ids as well", nil, "letters", []string{jobID(1)}, exitUsage, "not two of them"},
		{"a filter as well", nil, "letters", []string{"--status", "dead"}, exitUsage, "not two of them"},
		{"a limit below none", nil, "letters", []string{"--limit", "-1"}, exitUsage, "--limit"},
		{"no settings of AWS", nil, url, nil, exitUsage, "AWS_REGION"},
		{"no URL of a broker", nil, "letters", nil, exitUsage, "BROKER_URL"},
		{"a wrong URL of a broker", map[string]string{"BROKER_URL": "amqp://guest:hunter2@[::1"}, "letters", nil, exitUsage, "BROKER_URL"},
		{"a broker that is not there", map[string]string{"BROKER_URL": "amqp://guest:hunter2@127.0.0.1:1"}, "letters", nil, exitUnavailable, "RabbitMQ: could not connect"},
		{
			"an SQS that is not there",
			map[string]string{"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"},
			url, nil, exitUnavailable, "SQS: could not receive messages",
		},
	} {
		d := &desk{queue: tt.queue, broker: broker{env: tt.env}, server: httptest.NewServer(http.NotFoundHandler())}
		status, stdout, stderr := d.redrive(t.Context(), t, tt.args...)
		d.server.Close()
		if status != tt.status || stdout != "" || !strings.Contains(stderr, tt.says) || strings.Contains(stderr, "hunter2") {
			t.Errorf("%s: status %d, %s, %s, want %d and %q", tt.name, status, stdout, stderr, tt.status, tt.says)
		}
	}
}

// What names no job has none, whatever it is.
func FuzzJobOf(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","jobgateschema":"1","id":"0190b3a2-7c5e-7000-8000-000000000000"}`), "jobs")
	f.Add([]byte(`"test.echo"`), "")
	f.Add([]byte(`"test.echo"`), "jobs")
	f.Add([]byte(`{`), "jobs")
	f.Fuzz(func(t *testing.T, body []byte, source string) {
		if id := jobOf(body, cloudevent.Origin{Kind: "sqs", Source: source, MessageID: "m"}); id != "" && !domain.ValidID(id) {
			t.Errorf("%q of %q: %q is no id", body, source, id)
		}
	})
}
