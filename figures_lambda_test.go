package jobgate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
)

// helloWorld is what a function in Go costs that does nothing.
const helloWorld = `package main

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(_ context.Context, event json.RawMessage) (json.RawMessage, error) { return event, nil })
}
`

// helloWorldWithCalls is the same with the calls of AWS that its event lists, made with the SDK and nothing around them.
const helloWorldWithCalls = `package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
)

func main() {
	cfg := aws.Config{
		Region: os.Getenv("AWS_REGION"), BaseEndpoint: aws.String(os.Getenv("AWS_ENDPOINT_URL")),
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
	}
	db, topic := dynamodb.NewFromConfig(cfg), sns.NewFromConfig(cfg)
	key := map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: "JOB#1"}, "sk": &types.AttributeValueMemberS{Value: "JOB"}}
	item := map[string]types.AttributeValue{"doc": &types.AttributeValueMemberS{Value: strings.Repeat("x", 600)}}
	for name, value := range key {
		item[name] = value
	}
	call := map[string]func(context.Context) error{
		"GetItem": func(ctx context.Context) error {
			_, err := db.GetItem(ctx, &dynamodb.GetItemInput{TableName: aws.String("floor"), Key: key})
			return err
		},
		"PutItem": func(ctx context.Context) error {
			_, err := db.PutItem(ctx, &dynamodb.PutItemInput{TableName: aws.String("floor"), Item: item})
			return err
		},
		"Publish": func(ctx context.Context) error {
			_, err := topic.Publish(ctx, &sns.PublishInput{TopicArn: aws.String("floor"), Message: aws.String(strings.Repeat("x", 600))})
			return err
		},
	}
	lambda.Start(func(ctx context.Context, event json.RawMessage) (json.RawMessage, error) {
		var calls []string
		if err := json.Unmarshal(event, &calls); err != nil {
			return nil, err
		}
		for _, name := range calls {
			if err := call[name](ctx); err != nil {
				return nil, err
			}
		}
		return event, nil
	})
}
`

// coldStarts and warmCalls are how often something is done in a round: what counts is the median.
const (
	coldStarts = 5
	warmCalls  = 101
)

// What the Lambda functions weigh and how fast they are, beside a function that does nothing. See package_test.go for what
// each may link.
func TestFiguresLambda(t *testing.T) { //nolint:paralleltest // it measures
	rounds := needFigures(t)
	hello, helloWithCalls := build(t, helloWorld), build(t, helloWorldWithCalls)
	auth, jobs, worker := adaptertest.BuildFunction(t, "auth"), adaptertest.BuildFunction(t, "jobs"), adaptertest.BuildFunction(t, "worker")
	l := newLambdaLab(t)

	t.Run("size", func(t *testing.T) {
		size := func(name, artefact string) contender {
			s := sample{"binary": mebibytes(t, artefact), "zip": mebibytes(t, pack(t, artefact))}
			return contender{name: name, measure: func() sample { return s }}
		}
		figures := comparison{
			contenders: []contender{size("hello", hello), size("auth", auth), size("jobs", jobs), size("worker", worker)},
			rows: []row{
				{what: "auth, zip", metric: "zip", unit: "MiB", of: "auth", floor: "hello", atMost: 3.5},
				{what: "jobs, zip", metric: "zip", unit: "MiB", of: "jobs", floor: "hello", atMost: 7},
				{what: "worker, zip", metric: "zip", unit: "MiB", of: "worker", floor: "hello", atMost: 7},
				{what: "auth, binary", metric: "binary", unit: "MiB", of: "auth", floor: "hello"},
				{what: "jobs, binary", metric: "binary", unit: "MiB", of: "jobs", floor: "hello"},
				{what: "worker, binary", metric: "binary", unit: "MiB", of: "worker", floor: "hello"},
			},
		}
		figures.run(max(rounds, minRounds)) // which all come to the same
		figures.report(t)
		reportLinked(t, "auth", "jobs", "worker")
	})

	t.Run("cold start", func(t *testing.T) {
		cold := func(name, artefact string, env map[string]string) contender {
			return contender{name: name, measure: func() sample { return sample{"ms": l.coldStart(artefact, env)} }}
		}
		dir, missing := npmPeer(t, "jwtverify")
		peer := contender{name: "Node authorizer", missing: missing}
		if missing == "" {
			node, err := exec.LookPath("node")
			if err != nil {
				t.Fatal(err)
			}
			artefact := filepath.Join(t.TempDir(), "bootstrap")
			script := fmt.Sprintf("#!/bin/sh\nexec '%s' '%s'\n", node, filepath.Join(dir, "authorizer.mjs"))
			if err := os.WriteFile(artefact, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			peer = cold(peer.name, artefact, l.fileEnv)
		}
		figures := comparison{
			warmUp: true,
			contenders: []contender{
				cold("hello", hello, nil), cold("auth", auth, l.fileEnv), cold("auth, fetching", auth, l.loopbackEnv),
				cold("auth, parameter", auth, l.parameterEnv), cold("jobs", jobs, l.env), cold("worker", worker, l.env), peer,
			},
			rows: []row{
				{what: "auth, keys from a file", metric: "ms", unit: "ms", of: "auth", floor: "hello", peers: []string{peer.name}, base: "hello", atMost: 1.5},
				{what: "auth, keys fetched over loopback", metric: "ms", unit: "ms", of: "auth, fetching", floor: "hello", base: "hello"},
				{what: "auth, policy from Parameter Store over loopback", metric: "ms", unit: "ms", of: "auth, parameter", floor: "hello", base: "hello"},
				{what: "jobs", metric: "ms", unit: "ms", of: "jobs", floor: "hello", base: "hello", atMost: 2.5},
				{what: "worker", metric: "ms", unit: "ms", of: "worker", floor: "hello", base: "hello", atMost: 2.5},
			},
		}
		figures.run(rounds)
		figures.report(t)
	})

	t.Run("warm", func(t *testing.T) {
		job := l.queued()
		calling := start(t, helloWithCalls, l.replayEnv)
		warm := func(name, artefact string, env map[string]string, event func() []byte, calls ...string) contender {
			f := start(t, artefact, env)
			same, err := json.Marshal(slices.Concat([]string{}, calls))
			if err != nil {
				t.Fatal(err)
			}
			return contender{name: name, measure: func() sample {
				made := l.calls.Load()
				own := l.warm(f, event)
				if n := l.calls.Load() - made; n != int64(len(calls)*warmCalls) {
					t.Errorf("%s makes %d calls in %d events, not %v each time", name, n, warmCalls, calls)
				}
				bare := l.warm(calling, func() []byte { return same })
				return sample{"µs": own, "bare": bare, "beyond": own - bare}
			}}
		}
		get, work, remembered := l.get(job.ID), l.work(job), l.authorizerEvent()
		l.warm(start(t, jobs, l.replayEnv), func() []byte { return get }) // and so the job is on record
		figures := comparison{
			warmUp: true,
			contenders: []contender{
				warm("submit", jobs, l.replayEnv, func() []byte { return lambdaEvent(t, "proxy-submit.json") }, "PutItem", "Publish"),
				warm("get", jobs, l.replayEnv, func() []byte { return get }, "GetItem"),
				warm("worker", worker, l.replayEnv, func() []byte { return work }, "GetItem", "PutItem", "PutItem"),
				warm("auth, new", auth, l.fileEnv, l.authorizerEvent), warm("auth, remembered", auth, l.fileEnv, func() []byte { return remembered }),
			},
		}
		for of, what := range map[string]string{"submit": "jobs, POST /jobs", "get": "jobs, GET /jobs/{id}", "worker": "worker, a job"} {
			figures.rows = append(figures.rows,
				row{what: what + ", beyond its calls of AWS", metric: "beyond", unit: "µs", of: of, atMost: 150},
				row{what: what + ", all of it", metric: "µs", unit: "µs", of: of},
				row{what: what + ", the bare calls", metric: "bare", unit: "µs", of: of},
			)
		}
		slices.SortFunc(figures.rows, func(a, b row) int { return strings.Compare(a.what, b.what) })
		figures.rows = append(figures.rows,
			row{what: "auth, a new token", metric: "beyond", unit: "µs", of: "auth, new"},
			row{what: "auth, a token seen before", metric: "beyond", unit: "µs", of: "auth, remembered"})
		figures.run(rounds)
		figures.report(t)
	})
}

// linked are the parts of a function that are told apart in its binary, by what the names of their symbols begin with; of
// two that fit, the first counts.
var linked = []struct{ what, prefix string }{
	{"SDK: DynamoDB", "github.com/aws/aws-sdk-go-v2/service/dynamodb"},
	{"SDK: SNS", "github.com/aws/aws-sdk-go-v2/service/sns"},
	{"SDK: SQS", "github.com/aws/aws-sdk-go-v2/service/sqs"},
	{"SDK: what they share", "github.com/aws/aws-sdk-go-v2"},
	{"SDK: what they share", "github.com/aws/smithy-go"},
	{"aws-lambda-go", "github.com/aws/aws-lambda-go"},
	{"go-json-experiment", "github.com/go-json-experiment"},
	{"keyfunc, golang-jwt", "github.com/MicahParks"},
	{"keyfunc, golang-jwt", "github.com/golang-jwt"},
	{"zap", "go.uber.org"},
	{"jobgate", "github.com/jobgate"},
	{"net, HTTP, TLS", "net/"}, {"net, HTTP, TLS", "net."}, {"net, HTTP, TLS", "vendor/"}, {"net, HTTP, TLS", "crypto/tls"},
	{"crypto", "crypto"}, {"math/big", "math/big"},
	{"runtime", "runtime"}, {"runtime", "internal/"},
	{"the rest", ""},
}

// reportLinked prints what the symbols of each function take in its file, in KiB, by where they come from.
func reportLinked(t *testing.T, functions ...string) {
	t.Helper()
	sizes := map[string]map[string]int{}
	for _, name := range functions {
		binary := filepath.Join(t.TempDir(), name)
		build := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-trimpath", "-o", binary, "./bootstrap/cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		file, err := os.Stat(binary)
		if err != nil {
			t.Fatal(err)
		}
		symbols, err := exec.CommandContext(t.Context(), "go", "tool", "nm", "-size", binary).Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(symbols)) {
			// An address, which what is undefined has not, a size, a kind, and the name; b and B take room in memory alone.
			fields := strings.Fields(line)
			if len(fields) < 4 || strings.EqualFold(fields[2], "b") {
				continue
			}
			size, err := strconv.Atoi(fields[1])
			if err != nil || int64(size) > file.Size() { // crypto's buffer of 32 MiB, which is zero and not in the file
				continue
			}
			symbol := strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(fields[3], "type:"), "go:"), "itab."), ".*")
			for _, part := range linked {
				if strings.HasPrefix(symbol, part.prefix) {
					if sizes[part.what] == nil {
						sizes[part.what] = map[string]int{}
					}
					sizes[part.what][name] += size
					break
				}
			}
		}
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "symbols, KiB\t%s\n", strings.Join(functions, "\t"))
	for _, what := range slices.Sorted(maps.Keys(sizes)) {
		_, _ = fmt.Fprint(table, what)
		for _, name := range functions {
			_, _ = fmt.Fprintf(table, "\t%d", sizes[what][name]>>10)
		}
		_, _ = fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintln(os.Stdout, text.String())
}

// coldStart is the median time from the start of a process to its first poll of the Runtime API, in milliseconds.
func (l *lambdaLab) coldStart(artefact string, env map[string]string) float64 {
	took := make([]float64, coldStarts)
	for i := range took {
		f := start(l.t, artefact, env)
		took[i] = float64(f.ColdStart().Nanoseconds()) / 1e6
		f.Stop()
	}
	return median(took)
}

// pack packs an artefact as it is deployed.
func pack(t *testing.T, artefact string) (packed string) {
	t.Helper()
	packed = artefact + ".zip"
	if out, err := exec.CommandContext(t.Context(), "go", "run", "./deployments/pack", artefact, packed).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return packed
}

// build builds a program of one file, called hello.
func build(t *testing.T, program string) (artefact string) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	return adaptertest.Build(t, "hello", source)
}

func mebibytes(t *testing.T, file string) float64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return float64(info.Size()) / (1 << 20)
}

// A lambdaLab is what the functions talk to.
type lambdaLab struct {
	t            *testing.T
	aws          *cloud
	issuer       tokenIssuer
	env          map[string]string // of jobs and worker
	loopbackEnv  map[string]string // of auth
	fileEnv      map[string]string // of auth
	parameterEnv map[string]string // of auth
	calls        atomic.Int64      // of replayEnv's AWS
	replayEnv    map[string]string // of jobs and worker, with an AWS that answers at once, as if about one job always
	record       string            // of that job, once it was asked for: the functions are called one at a time
}

func newLambdaLab(t *testing.T) *lambdaLab {
	t.Helper()
	l := &lambdaLab{t: t, aws: newCloud(t), issuer: newTokenIssuer(t)}
	moto, err := url.Parse(l.aws.env["AWS_ENDPOINT_URL"])
	if err != nil {
		t.Fatal(err)
	}
	l.env = l.aws.env
	// What DynamoDB says of a job is recorded, and said again: moto takes the same processors, and many times as much of them.
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(moto) }}
	replay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.calls.Add(1)
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		answer := l.record
		switch {
		case operation == "GetItem" && answer == "":
			recorder := httptest.NewRecorder()
			forward.ServeHTTP(recorder, r)
			answer = recorder.Body.String()
			l.record = answer
		case operation != "GetItem" && operation != "":
			answer = "{}"
		case operation == "":
			answer = `<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>`
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", map[bool]string{true: "text/xml", false: "application/x-amz-json-1.0"}[operation == ""])
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(replay.Close)
	l.replayEnv = with(l.env, "AWS_ENDPOINT_URL", replay.URL)

	keys := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(keys, l.issuer.KeySet(), 0o600); err != nil {
		t.Fatal(err)
	}
	l.loopbackEnv = with(l.issuer.env(), "LOG_LEVEL", "info")
	l.fileEnv = with(l.loopbackEnv, "OIDC_JWKS_FILE", keys)
	parameters := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"Parameters":[{"Name":"/policy","Value":"{\"deny\":[]}","Version":1}]}`)
	}))
	t.Cleanup(parameters.Close)
	l.parameterEnv = with(l.fileEnv, "ACCESS_POLICY", "ssm:/policy", "AWS_ENDPOINT_URL", parameters.URL)
	return l
}

// with returns env with changes, name and value in turn.
func with(env map[string]string, changes ...string) map[string]string {
	changed := map[string]string{}
	maps.Copy(changed, env)
	for change := range slices.Chunk(changes, 2) {
		changed[change[0]] = change[1]
	}
	return changed
}

// warm has the function answer events, and returns what its process takes of the processor for one, in microseconds: what
// AWS and the Runtime API take, no function can help.
func (l *lambdaLab) warm(f *adaptertest.Function, event func() []byte) float64 {
	events := make([][]byte, warmCalls)
	for i := range events {
		events[i] = event()
	}
	before := cpuOf(l.t, f.PID())
	for _, text := range events {
		answer, failure, err := f.InvokeWithin(context.Background(), functionTimeout, text)
		if failure != nil || err != nil || strings.Contains(string(answer), `"itemIdentifier"`) {
			l.t.Fatalf("%s\n%s, %+v, %v", text, answer, failure, err)
		}
	}
	return float64((cpuOf(l.t, f.PID()) - before).Nanoseconds()) / 1e3 / warmCalls
}

// authorizerEvent asks about a token that nobody has asked about.
func (l *lambdaLab) authorizerEvent() []byte {
	token := l.issuer.token(oidctest.Object{"sub": "alice", "scope": "jobs:submit", "jti": uuid.NewString()})
	return lambdaEvent(l.t, "authorizer-token.json", "authorizationToken", "Bearer "+token)
}

// queued stores a job of alice's.
func (l *lambdaLab) queued() domain.Job {
	l.t.Helper()
	job, err := domain.NewJob(domain.JobSpec{
		ID: uuid.Must(uuid.NewV7()).String(), Name: "test-job", Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention,
		Owner: domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"},
	}, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	job = job.Taken(time.Now())
	if _, _, err := l.aws.store.Create(l.t.Context(), job); err != nil {
		l.t.Fatal(err)
	}
	return job
}

// get asks for one job.
func (l *lambdaLab) get(id string) []byte {
	return lambdaEvent(l.t, "proxy-submit.json",
		"resource", "/jobs/{id}", "path", "/jobs/"+id, "httpMethod", "GET", "body", nil, "pathParameters", map[string]any{"id": id},
		"requestContext.resourcePath", "/jobs/{id}", "requestContext.httpMethod", "GET", "requestContext.path", "/prod/jobs/"+id)
}

// work is a message about a job that waits.
func (l *lambdaLab) work(job domain.Job) []byte {
	body, err := cloudevent.Encode(job, "jobgate")
	if err != nil {
		l.t.Fatal(err)
	}
	return lambdaEvent(l.t, "sqs-envelope.json", "Records.0.body", string(body))
}
