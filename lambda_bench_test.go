package jobgate_test

import (
	"context"
	"flag"
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

var measureLambda = flag.Bool("lambda", false, "measure the Lambda functions, for a minute or two (make bench-lambda)")

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

// helloWorldWithACall is the same with one HTTP call, as a call of AWS needs one.
const helloWorldWithACall = `package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	url := os.Getenv("AWS_ENDPOINT_URL") + "/floor"
	lambda.Start(func(_ context.Context, event json.RawMessage) (json.RawMessage, error) {
		resp, err := http.Get(url)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return event, err
	})
}
`

// coldRounds and warmRounds are how often everything is measured, one after the other, so that all have the machine alike.
const (
	coldRounds = 41
	warmRounds = 201
)

// What the functions weigh and how fast they are, beside a function that does nothing, measured in the same run:
// nothing is asserted here. See package_test.go for the bound of each size.
func TestLambdaFigures(t *testing.T) { //nolint:paralleltest // it measures
	if !*measureLambda {
		t.Skip("make bench-lambda measures")
	}
	hello, helloWithACall := build(t, helloWorld), build(t, helloWorldWithACall)
	auth, jobs, worker := adaptertest.BuildFunction(t, "auth"), adaptertest.BuildFunction(t, "jobs"), adaptertest.BuildFunction(t, "worker")

	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(format string, cells ...any) { _, _ = fmt.Fprintf(table, format+"\t\n", cells...) } // Flush tells
	row("size\tbinary MiB\tzip MiB\t× hello")
	helloZip := 0.0
	for _, artefact := range []string{hello, auth, jobs, worker} {
		packed := artefact + ".zip"
		if out, err := exec.CommandContext(t.Context(), "go", "run", "./deployments/pack", artefact, packed).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		binary, zip := mebibytes(t, artefact), mebibytes(t, packed)
		if artefact == hello {
			helloZip = zip
		}
		row("%s\t%.2f\t%.2f\t%.2f", filepath.Base(filepath.Dir(artefact)), binary, zip, zip/helloZip)
	}

	l := newLambdaLab(t)
	var cold []*figure
	for _, tt := range []struct {
		name, artefact string
		env            map[string]string
	}{
		{"hello", hello, nil},
		{"auth, keys from a file", auth, l.fileEnv},
		{"auth, keys fetched over loopback", auth, l.loopbackEnv},
		{"auth, policy from Parameter Store over loopback", auth, l.parameterEnv},
		{"jobs", jobs, l.env},
		{"worker", worker, l.env},
	} {
		cold = append(cold, &figure{name: tt.name, measure: func() time.Duration {
			f := start(t, tt.artefact, tt.env)
			defer f.Stop()
			return f.ColdStart()
		}})
	}
	measure(cold, coldRounds)
	report := func(title string, figures []*figure) {
		row("\n%s\tmedian ms\tquartiles\t× hello", title)
		for _, f := range figures {
			low, median, high := f.quartiles()
			_, floor, _ := figures[0].quartiles()
			row("%s\t%.3f\t%.3f–%.3f\t%.2f", f.name, median, low, high, median/floor)
		}
	}
	report("cold start: process start to first poll", cold)

	helloFunction := start(t, hello, nil)
	callingFunction := start(t, helloWithACall, l.env)
	authFunction := start(t, auth, l.fileEnv)
	jobsFunction := start(t, jobs, l.env)
	workerFunction := start(t, worker, l.env)
	greeting := func() []byte { return []byte(`{"name":"test-job"}`) }
	get := l.get()
	remembered := l.authorizerEvent()
	warm := []*figure{
		{name: "hello", measure: l.warm(helloFunction, greeting)},
		{name: "hello with a call, less the call", measure: l.warm(callingFunction, greeting)},
		{name: "auth, a token not seen before", measure: l.warm(authFunction, l.authorizerEvent)},
		{name: "auth, a token seen before", measure: l.warm(authFunction, func() []byte { return remembered })},
		{name: "jobs, POST /jobs less its 2 AWS calls", measure: l.warm(jobsFunction, func() []byte { return lambdaEvent(t, "proxy-submit.json") })},
		{name: "jobs, GET /jobs/{id} less its AWS call", measure: l.warm(jobsFunction, func() []byte { return get })},
		{name: "worker, a job less its AWS calls", measure: l.warm(workerFunction, l.work)},
	}
	measure(warm, warmRounds)
	report("warm: event to answer, less the time in AWS", warm)
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
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

// A figure is what is measured in each round.
type figure struct {
	name    string
	measure func() time.Duration
	took    []time.Duration
}

// measure measures each figure in turn, round by round. The first round warms up and does not count.
func measure(figures []*figure, rounds int) {
	for round := range rounds + 1 {
		for _, f := range figures {
			if took := f.measure(); round > 0 {
				f.took = append(f.took, took)
			}
		}
	}
}

// quartiles are in milliseconds.
func (f *figure) quartiles() (low, median, high float64) {
	took := slices.Sorted(slices.Values(f.took))
	at := func(quarter int) float64 {
		return float64(took[(len(took)-1)*quarter/4].Nanoseconds()) / 1e6
	}
	return at(1), at(2), at(3)
}

// A lambdaLab is what the functions talk to. What stands for AWS is behind a clock of its own.
type lambdaLab struct {
	t            *testing.T
	aws          *cloud
	issuer       tokenIssuer
	env          map[string]string // of jobs and worker
	loopbackEnv  map[string]string // of auth
	fileEnv      map[string]string // of auth
	parameterEnv map[string]string // of auth
	inAWS        atomic.Int64      // nanoseconds
}

func newLambdaLab(t *testing.T) *lambdaLab {
	t.Helper()
	l := &lambdaLab{t: t, aws: newCloud(t), issuer: newTokenIssuer(t)}
	moto, err := url.Parse(l.aws.env["AWS_ENDPOINT_URL"])
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(moto) }}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		if r.URL.Path == "/floor" {
			_, _ = io.WriteString(w, "{}")
		} else {
			forward.ServeHTTP(w, r)
		}
		l.inAWS.Add(int64(time.Since(began)))
	}))
	t.Cleanup(proxy.Close)
	l.env = with(l.aws.env, "AWS_ENDPOINT_URL", proxy.URL)

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

// warm measures the answering of an event, less the time that AWS took of it.
func (l *lambdaLab) warm(f *adaptertest.Function, event func() []byte) func() time.Duration {
	return func() time.Duration {
		text := event()
		before, began := l.inAWS.Load(), time.Now()
		answer, failure, err := f.InvokeWithin(context.Background(), functionTimeout, text)
		took := time.Since(began)
		if failure != nil || err != nil || strings.Contains(string(answer), `"itemIdentifier"`) {
			l.t.Fatalf("%s\n%s, %+v, %v", text, answer, failure, err)
		}
		return took - time.Duration(l.inAWS.Load()-before)
	}
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
func (l *lambdaLab) get() []byte {
	id := l.queued().ID
	return lambdaEvent(l.t, "proxy-submit.json",
		"resource", "/jobs/{id}", "path", "/jobs/"+id, "httpMethod", "GET", "body", nil, "pathParameters", map[string]any{"id": id},
		"requestContext.resourcePath", "/jobs/{id}", "requestContext.httpMethod", "GET", "requestContext.path", "/prod/jobs/"+id)
}

// work is a message about a job that waits.
func (l *lambdaLab) work() []byte {
	body, err := cloudevent.Encode(l.queued(), "jobgate")
	if err != nil {
		l.t.Fatal(err)
	}
	return lambdaEvent(l.t, "sqs-envelope.json", "Records.0.body", string(body))
}
