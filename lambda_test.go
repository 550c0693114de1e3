package jobgate_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
)

// What follows runs the artefacts that are deployed, as processes behind the Lambda Runtime API, on events in the
// shapes that AWS documents (testdata/lambda).

// functionTimeout is the timeout of a function in these tests. A worker begins no run that its own could cut short: the
// default policy's 30 s and a reserve.
const functionTimeout = time.Minute

// start starts an artefact and waits until it asks for its first event.
func start(t *testing.T, artefact string, env map[string]string) *adaptertest.Function {
	t.Helper()
	f := adaptertest.StartFunction(t, artefact, env)
	ctx, cancel := context.WithTimeout(t.Context(), functionTimeout)
	defer cancel()
	if err := f.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return f
}

// answered is what the function answers; one that fails instead ends the test.
func answered(t *testing.T, f *adaptertest.Function, event []byte) string {
	t.Helper()
	response, failure, err := f.InvokeWithin(t.Context(), functionTimeout, event)
	if failure != nil || err != nil {
		t.Fatalf("%s\nfailure %+v, error %v, want an answer", event, failure, err)
	}
	return string(response)
}

// refused is the message of the function's error; one that answers instead ends the test.
func refused(t *testing.T, f *adaptertest.Function, event []byte) string {
	t.Helper()
	response, failure, err := f.InvokeWithin(t.Context(), functionTimeout, event)
	if failure == nil || err != nil {
		t.Fatalf("%s\nanswer %s, error %v, want the function to fail", event, response, err)
	}
	return failure.Message
}

// lambdaFile is a file of testdata/lambda.
func lambdaFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "lambda", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// lambdaEvent is an event of testdata/lambda with changes: a path of names and indices, what to put there, and so on. A
// nil takes the member away.
func lambdaEvent(t *testing.T, file string, changes ...any) []byte {
	t.Helper()
	var event any
	if err := json.Unmarshal(lambdaFile(t, file), &event); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for change := range slices.Chunk(changes, 2) {
		path, _ := change[0].(string)
		steps := strings.Split(path, ".")
		last := len(steps) - 1
		at := event
		for _, step := range steps[:last] {
			if list, ok := at.([]any); ok {
				i, err := strconv.Atoi(step)
				if err != nil || i >= len(list) {
					t.Fatalf("%s has no %s", file, path)
				}
				at = list[i]
				continue
			}
			object, _ := at.(map[string]any)
			at = object[step]
		}
		object, ok := at.(map[string]any)
		if !ok {
			t.Fatalf("%s has no %s", file, path)
		}
		if change[1] == nil {
			delete(object, steps[last])
		} else {
			object[steps[last]] = change[1]
		}
	}
	text, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// wantAnswer compares an answer with a file of testdata/lambda, to the last member. What differs from run to run is
// given with the word that the file has for it.
func wantAnswer(t *testing.T, file, answer string, words ...string) {
	t.Helper()
	var want, got any
	if err := json.Unmarshal(lambdaFile(t, file), &want); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if err := json.Unmarshal([]byte(strings.NewReplacer(words...).Replace(answer)), &got); err != nil {
		t.Fatalf("the answer is not JSON: %v\n%s", err, answer)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the answer is not %s (-want +got):\n%s", file, diff)
	}
}

// A logLine is a line of a function's log, as far as it is looked at.
type logLine struct {
	Message    string `json:"message"`
	Reason     string `json:"reason"`
	DecisionID string `json:"decision_id"`
	RequestID  string `json:"request_id"`
	MessageID  string `json:"message_id"`
	JobID      string `json:"job_id"`
	Error      string `json:"error"`
}

// logged are the lines that a function has logged so far. The Lambda library reports each error beside them, in lines
// of its own form.
func logged(t *testing.T, f *adaptertest.Function) []logLine {
	t.Helper()
	var lines []logLine
	for line := range strings.Lines(f.Stderr()) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var l logLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("the log has a line that is no JSON object: %v\n%s", err, line)
		}
		lines = append(lines, l)
	}
	return lines
}

// wantUntold fails when what a function has written holds any of the words.
func wantUntold(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if strings.Contains(text, word) {
			t.Errorf("%q is told in\n%s", word, text)
		}
	}
}

// garbage are events that no function is configured for.
var garbage = []string{`{}`, `[]`, `null`, `"Bearer secret-word"`, `{"Records":[{"secret-word":1}]}`, `{"type":"TOKEN","authorizationToken":["secret-word"]}`}

// A tokenIssuer is an issuer that can be reached, and whose tokens are good for an hour.
type tokenIssuer struct {
	*oidctest.Issuer
	key    oidctest.Key
	claims oidctest.Object
}

func newTokenIssuer(t *testing.T) tokenIssuer {
	t.Helper()
	i := tokenIssuer{Issuer: &oidctest.Issuer{}, key: oidctest.NewKey("k1", "ES256", 0)}
	server := httptest.NewServer(i.Issuer)
	t.Cleanup(server.Close)
	i.URL, i.claims = server.URL, oidctest.Claims(server.URL, time.Now())
	i.Publish(i.key)
	return i
}

func (i tokenIssuer) token(changes oidctest.Object) string {
	return i.key.Sign(nil, i.claims.With(changes))
}

// env are the settings of a program that trusts the issuer.
func (i tokenIssuer) env() map[string]string {
	return map[string]string{"OIDC_ISSUER": i.URL, "OIDC_AUDIENCE": oidctest.Audience, "LOG_LEVEL": "debug"}
}

// wantPolicy compares an authorizer's answer to a token of the issuer, and returns the id of the decision.
func (i tokenIssuer) wantPolicy(t *testing.T, file, answer string) (decision string) {
	t.Helper()
	var parsed struct {
		Context struct {
			DecisionID string `json:"decision_id"`
		} `json:"context"`
	}
	if err := json.Unmarshal([]byte(answer), &parsed); err != nil || parsed.Context.DecisionID == "" {
		t.Fatalf("the answer has no decision id: %v\n%s", err, answer)
	}
	exp, _ := i.claims["exp"].(int64)
	until := time.Unix(exp, 0).Add(oidctest.Leeway) // the settings' default is the same
	wantAnswer(t, file, answer, parsed.Context.DecisionID, "DECISION", i.URL, "ISSUER", strconv.FormatInt(until.UnixMilli(), 10), "EXPIRES")
	return parsed.Context.DecisionID
}

func TestLambdaAuth(t *testing.T) {
	t.Parallel()
	artefact := adaptertest.BuildFunction(t, "auth")
	byToken := func(authorization string) []byte {
		return lambdaEvent(t, "authorizer-token.json", "authorizationToken", authorization)
	}
	byRequest := func(authorization string) []byte {
		return lambdaEvent(t, "authorizer-request.json",
			"headers.Authorization", authorization, "multiValueHeaders.Authorization", []string{authorization})
	}

	t.Run("one event after the other", func(t *testing.T) {
		t.Parallel()
		issuer := newTokenIssuer(t)
		f := start(t, artefact, issuer.env())
		stranger := oidctest.NewKey("k1", "ES256", 0)
		good := issuer.token(nil)
		steps := []struct {
			name   string
			event  []byte
			want   string // a file of testdata/lambda; empty: an error
			reason string // in the log
		}{
			{"a TOKEN event", byToken("Bearer " + good), "authorizer-allow.json", ""},
			{"a REQUEST event", byRequest("bearer " + good), "authorizer-allow.json", ""},
			{"an administrator", byToken("Bearer " + issuer.token(oidctest.Object{"scope": "jobs:admin"})), "authorizer-allow-admin.json", ""},
			{"a scope that grants nothing", byToken("Bearer " + issuer.token(oidctest.Object{"scope": "openid"})), "authorizer-deny.json", "forbidden"},
			{"no token", byToken(""), "", "missing_token"},
			{"no header", lambdaEvent(t, "authorizer-request.json", "headers.Authorization", nil, "multiValueHeaders.Authorization", nil), "", "missing_token"},
			{"another scheme", byToken("Basic " + good), "", "missing_token"},
			{"no token at all", byToken("Bearer abc"), "", "invalid_token"},
			{"a stranger's signature", byToken("Bearer " + stranger.Sign(nil, issuer.claims)), "", "invalid_signature"},
			{"an expired token", byRequest("Bearer " + issuer.token(oidctest.Object{"exp": time.Now().Add(-time.Hour).Unix()})), "", "token_expired"},
			{"another audience", byToken("Bearer " + issuer.token(oidctest.Object{"aud": "https://other.example"})), "", "invalid_claims"},
			{"another issuer", byToken("Bearer " + issuer.token(oidctest.Object{"iss": "https://other.example"})), "", "invalid_claims"},
			{"a TOKEN event at the end", byToken("Bearer " + good), "authorizer-allow.json", ""},
		}
		var want, got []logLine
		for _, step := range steps {
			t.Log(step.name)
			line := logLine{Message: "refused at the gate", Reason: step.reason}
			switch {
			case step.want == "authorizer-allow.json":
				line.Message = "let in at the gate, but not for every action"
			case step.reason == "":
				line.Message = "let in at the gate"
			}
			if bytes.Contains(step.event, []byte(`"requestId"`)) {
				line.RequestID = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
			}
			if step.want == "" {
				if message := refused(t, f, step.event); message != "Unauthorized" {
					t.Errorf("%s: the error is %q, want Unauthorized: only that becomes a 401", step.name, message)
				}
			} else {
				line.DecisionID = issuer.wantPolicy(t, step.want, answered(t, f, step.event))
			}
			want = append(want, line)
		}
		for _, line := range logged(t, f) {
			if line.DecisionID == "" {
				t.Errorf("a line of the log leads to no decision: %+v", line)
			}
			if line.Reason != "" && line.Reason != "forbidden" {
				line.DecisionID = "" // a caller who is not let in is not told
			}
			got = append(got, line)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the log has not one line for each decision (-want +got):\n%s", diff)
		}
		wantUntold(t, f.Stderr(), append(strings.Split(good, "."),
			oidctest.Subject, oidctest.Client, "token-1", oidctest.Audience, "other.example", "://")...)
		if n := issuer.Requests(oidctest.KeysPath); n != 1 {
			t.Errorf("the keys were fetched %d times in one process, want once", n)
		}
	})

	t.Run("survives an event that is none", func(t *testing.T) {
		t.Parallel()
		issuer := newTokenIssuer(t)
		f := start(t, artefact, issuer.env())
		for _, event := range garbage {
			message := refused(t, f, []byte(event))
			if message == "Unauthorized" {
				t.Errorf("%s: the error is Unauthorized, though nothing is known of a token", event)
			}
			wantUntold(t, message, "secret-word")
		}
		issuer.wantPolicy(t, "authorizer-allow.json", answered(t, f, byToken("Bearer "+issuer.token(nil))))
		wantUntold(t, f.Stderr(), "secret-word")
	})

	t.Run("keys from a file, without the network", func(t *testing.T) {
		t.Parallel()
		issuer := newTokenIssuer(t)
		issuer.Override(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("the issuer was asked for %s", r.URL) })
		env := issuer.env()
		env["OIDC_JWKS_FILE"] = filepath.Join(t.TempDir(), "jwks.json")
		if err := os.WriteFile(env["OIDC_JWKS_FILE"], issuer.KeySet(), 0o600); err != nil {
			t.Fatal(err)
		}
		f := start(t, artefact, env)
		issuer.wantPolicy(t, "authorizer-allow.json", answered(t, f, byToken("Bearer "+issuer.token(nil))))
		// An unknown key is no reason to ask either.
		unknown := oidctest.NewKey("k2", "ES256", 0).Sign(nil, issuer.claims)
		if message := refused(t, f, byToken("Bearer "+unknown)); message != "Unauthorized" {
			t.Errorf("the error is %q, want Unauthorized", message)
		}
	})

	t.Run("a shared secret", func(t *testing.T) {
		t.Parallel()
		issuer := newTokenIssuer(t)
		secret := strings.Repeat("s3cret--", 4)
		f := start(t, artefact, map[string]string{"JWT_SECRET": secret, "OIDC_AUDIENCE": oidctest.Audience})
		shared := oidctest.Key{Alg: "HS256", Secret: []byte(secret)}
		issuer.wantPolicy(t, "authorizer-allow.json", answered(t, f, byToken("Bearer "+shared.Sign(nil, issuer.claims))))
		if message := refused(t, f, byToken("Bearer "+issuer.token(nil))); message != "Unauthorized" {
			t.Errorf("the error is %q, want Unauthorized", message)
		}
		wantUntold(t, f.Stderr(), secret)
	})

	t.Run("keys that cannot be had are no verdict on the token", func(t *testing.T) {
		t.Parallel()
		issuer := newTokenIssuer(t)
		issuer.Break()
		f := start(t, artefact, issuer.env()) // an issuer in trouble keeps no function from starting
		good := issuer.token(nil)
		for range 2 {
			message := refused(t, f, byToken("Bearer "+good))
			if !strings.HasPrefix(message, "keys_unavailable ") {
				t.Errorf("the error is %q, want keys_unavailable", message)
			}
			wantUntold(t, message, issuer.URL, "://")
		}
		wantUntold(t, f.Stderr(), append(strings.Split(good, "."), oidctest.Subject, oidctest.Client, "token-1", oidctest.Audience)...)
	})

	t.Run("settings", func(t *testing.T) {
		t.Parallel()
		wantSettings(t, artefact, map[string]string{"OIDC_ISSUER": "https://id.example.com/", "OIDC_AUDIENCE": "jobgate"}, []wrongSettings{
			{"none", nil, []string{"OIDC_ISSUER=https://id.example.com/"}},
			{"all of them wrong", map[string]string{
				"OIDC_ISSUER": "http://id.example.com", "OIDC_AUDIENCE": "jobgate", "OIDC_ALGORITHMS": "none", "LOG_LEVEL": "loud", "ACCESS_POLICY": `{"rules":[]}`,
			}, []string{"OIDC_ISSUER=", "OIDC_ISSUER=", "LOG_LEVEL=info", "ACCESS_POLICY="}},
			{"wrong each in another way", map[string]string{
				"OIDC_ISSUER": "http://id.example.com", "OIDC_AUDIENCE": "jobgate", "OIDC_LEEWAY": "soon", "OIDC_ACCEPT_ID_TOKENS": "maybe",
			}, []string{"OIDC_LEEWAY=", "OIDC_ACCEPT_ID_TOKENS=", "OIDC_ISSUER="}},
			{"two ways of naming issuers", map[string]string{"OIDC_ISSUER": "https://id.example.com/", "JWT_SECRET": "hush-hush"}, []string{"JWT_SECRET"}},
			{"a short secret", map[string]string{"JWT_SECRET": "hush-hush"}, []string{"JWT_SECRET="}},
		}, "hush-hush")
	})
}

// wrongSettings are settings with which no function starts, and what it has to say: of each problem the setting with an
// example, or without one where there can be none.
type wrongSettings struct {
	name string
	env  map[string]string
	want []string
}

// problem is the line of a report that names one setting.
var problem = regexp.MustCompile(`(?m)^  [A-Za-z_]+: `)

// wantSettings starts an artefact with settings that are right and with some that are wrong, as a function and with the
// flags that a person gives.
func wantSettings(t *testing.T, artefact string, right map[string]string, wrong []wrongSettings, secrets ...string) {
	t.Helper()
	name := filepath.Base(filepath.Dir(artefact))
	run := func(env map[string]string, args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), artefact, args...)
		cmd.Env, cmd.Stdout, cmd.Stderr = []string{"PATH=/usr/bin:/bin"}, &out, &errs
		for name, value := range env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}
	if code, stdout, stderr := run(right, "-check-config"); code != 0 || stdout != "the settings are right\n" || stderr != "" {
		t.Errorf("-check-config of right settings: code %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := run(nil, "-version"); code != 0 || !strings.HasPrefix(stdout, name+" ") || stderr != "" {
		t.Errorf("-version: code %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := run(right, "-unheard-of"); code != 2 || stdout != "" || stderr == "" {
		t.Errorf("a flag that there is not: code %d\n%s%s", code, stdout, stderr)
	}
	for _, settings := range wrong {
		t.Run(settings.name, func(t *testing.T) {
			f := adaptertest.StartFunction(t, artefact, settings.env)
			ctx, cancel := context.WithTimeout(t.Context(), functionTimeout)
			defer cancel()
			err := f.Ready(ctx)
			exit, ok := errors.AsType[*adaptertest.ExitError](err)
			if !ok || !exit.Init || exit.Code != 1 {
				t.Fatalf("%v, want it to exit with 1 before it polls", err)
			}
			report := exit.Stderr
			if n := len(problem.FindAllString(report, -1)); n != len(settings.want) {
				t.Errorf("%d problems, want %d:\n%s", n, len(settings.want), report)
			}
			for _, want := range settings.want {
				setting, _, exampled := strings.Cut(want, "=")
				if exampled {
					want = "\n    example: " + want
				} else {
					want = "\n  " + setting + ": "
				}
				if !strings.Contains(report, want) || !strings.Contains(report, "\n  "+setting+": ") {
					t.Errorf("the report does not say %q:\n%s", want, report)
				}
			}
			wantUntold(t, report, secrets...)
			if code, stdout, stderr := run(settings.env, "-check-config"); code != 1 || stdout != "" || stderr != report {
				t.Errorf("-check-config: code %d\n%s%s\nwant 1 and\n%s", code, stdout, stderr, report)
			}
		})
	}
}

// jobOf is the job in the body of a proxy integration's response.
func jobOf(t *testing.T, answer string) (status int, job jobDocument) {
	t.Helper()
	var response struct {
		StatusCode int    `json:"statusCode"`
		Body       string `json:"body"`
	}
	if err := json.Unmarshal([]byte(answer), &response); err != nil {
		t.Fatalf("%v\n%s", err, answer)
	}
	if err := json.Unmarshal([]byte(response.Body), &job); err != nil {
		t.Fatalf("%v\n%s", err, answer)
	}
	return response.StatusCode, job
}

// A jobDocument is a job or a problem as a caller sees it, as far as it is looked at.
type jobDocument struct {
	ID        string `json:"id"`
	Status    any    `json:"status"` // of a job a word, of a problem a number
	Attempts  int    `json:"attempts"`
	CreatedAt string `json:"created_at"`
	Code      string `json:"code"`
}

func TestLambdaJobs(t *testing.T) {
	t.Parallel()
	artefact := adaptertest.BuildFunction(t, "jobs")
	t.Run("settings", func(t *testing.T) {
		t.Parallel()
		wantSettings(t, artefact, map[string]string{"JOBS_TABLE": "jobs", "JOBS_TOPIC_ARN": "arn:aws:sns:us-east-1:123456789012:jobs"}, []wrongSettings{
			{"none", nil, []string{"JOBS_TABLE=jobgate-jobs", "JOBS_TOPIC_ARN=arn:aws:sns:eu-west-1:123456789012:jobgate-jobs"}},
			{"all of them missing or wrong", map[string]string{
				"ACCESS_POLICY": `{"rules":[{"effect":"allow","actions":["fly"]}]}`, "RETRY_POLICIES": `[{"jobs":"report.*","attempts":0}]`,
				"MAX_BODY": "1 GiB", "LOG_LEVEL": "loud",
			}, []string{"ACCESS_POLICY=", "RETRY_POLICIES=", "MAX_BODY=", "LOG_LEVEL=info", "JOBS_TABLE=", "JOBS_TOPIC_ARN="}},
		})
	})
	t.Run("against AWS", func(t *testing.T) {
		t.Parallel()
		aws := newCloud(t)
		testJobsFunction(t, aws, start(t, artefact, aws.env))
		t.Run("a topic that takes nothing", func(t *testing.T) {
			env := maps.Clone(aws.env)
			env["JOBS_TOPIC_ARN"] += "-absent"
			stored := aws.stored(t)
			f := start(t, artefact, env)
			status, problem := jobOf(t, answered(t, f, lambdaEvent(t, "proxy-submit.json")))
			if status != http.StatusServiceUnavailable || problem.Code != "dispatch_failed" {
				t.Errorf("status %d, code %s, want 503 and dispatch_failed", status, problem.Code)
			}
			var lost []domain.Job
			for id := range aws.stored(t) {
				if _, before := stored[id]; !before {
					lost = append(lost, aws.job(t, id))
				}
			}
			if len(lost) != 1 || lost[0].Status != domain.Cancelled || lost[0].Reason != domain.ReasonDispatchFailed {
				t.Errorf("stored %+v, want one job, cancelled for dispatch_failed", lost)
			}
		})
	})
}

func testJobsFunction(t *testing.T, aws *cloud, f *adaptertest.Function) {
	t.Helper()
	nothingHappened := func(t *testing.T) {
		t.Helper()
		if stored, sent := aws.stored(t), aws.receive(t); len(stored) != 0 || len(sent) != 0 {
			t.Errorf("stored %v and dispatched %v, want nothing", stored, sent)
		}
	}
	t.Run("no authorizer in front", func(t *testing.T) {
		wantAnswer(t, "response-unauthenticated.json", answered(t, f, lambdaEvent(t, "proxy-submit.json", "requestContext.authorizer", nil)))
		for name, change := range map[string][]any{
			"a token that has expired in the cache": {"requestContext.authorizer.expires_at", "1583798639428"},
			"a context without a subject":           {"requestContext.authorizer.subject", nil},
			"a context without an expiry":           {"requestContext.authorizer.expires_at", nil},
		} {
			if status, problem := jobOf(t, answered(t, f, lambdaEvent(t, "proxy-submit.json", change...))); status != http.StatusUnauthorized {
				t.Errorf("%s: status %d (%s), want 401", name, status, problem.Code)
			}
		}
		nothingHappened(t)
	})

	t.Run("bad input", func(t *testing.T) {
		detail := regexp.MustCompile(`\\"detail\\":\\"(.*?)\\",`)
		answer := answered(t, f, lambdaEvent(t, "proxy-submit.json", "body", `{"name":`))
		wantAnswer(t, "response-malformed.json", detail.ReplaceAllString(answer, `\"detail\":\"DETAIL\",`))
		const tooLong = 256 << 10
		for _, tt := range []struct {
			name   string
			change []any
			status int
			code   string
		}{
			{"no body", []any{"body", nil}, 400, "malformed"},
			{"no object", []any{"body", `"test-job"`}, 400, "malformed"},
			{"an unknown member", []any{"body", `{"name":"test-job","colour":"red"}`}, 400, "malformed"},
			{"a member in capitals", []any{"body", `{"NAME":"test-job"}`}, 400, "malformed"},
			{"a duplicate member", []any{"body", `{"name":"test-job","name":"test-job"}`}, 400, "malformed"},
			{"trailing data", []any{"body", `{"name":"test-job"}{}`}, 400, "malformed"},
			{"a payload that is not JSON", []any{"body", `{"name":"test-job","payload":{n:1}}`}, 400, "malformed"},
			{"invalid UTF-8", []any{"body", base64.StdEncoding.EncodeToString([]byte("{\"name\":\"test-job\",\"payload\":\"\xff\"}")), "isBase64Encoded", true}, 400, "malformed"},
			{"a bad name", []any{"body", `{"name":"test job"}`}, 422, "invalid_fields"},
			{"a bad delay", []any{"body", `{"name":"test-job","delay":"soon"}`}, 422, "invalid_fields"},
			{"a bad key", []any{"headers.Idempotency-Key", "a b", "multiValueHeaders.Idempotency-Key", []string{"a b"}}, 400, "invalid_idempotency_key"},
			{"another content type", []any{"headers.Content-Type", "text/plain", "multiValueHeaders.Content-Type", []string{"text/plain"}}, 415, "unsupported_media_type"},
			{"too long", []any{"body", `{"name":"test-job","payload":"` + strings.Repeat("x", tooLong) + `"}`}, 413, "too_large"},
			{"a caller who may only read", []any{"requestContext.authorizer.scopes", "jobs:read"}, 403, "insufficient_scope"},
		} {
			if status, problem := jobOf(t, answered(t, f, lambdaEvent(t, "proxy-submit.json", tt.change...))); status != tt.status || problem.Code != tt.code {
				t.Errorf("%s: %d %s, want %d %s", tt.name, status, problem.Code, tt.status, tt.code)
			}
		}
		nothingHappened(t)
	})

	t.Run("an event that is none", func(t *testing.T) {
		for _, event := range append(slices.Clone(garbage), string(lambdaEvent(t, "sns.json")),
			`{"headers":{"secret-word":"1","secret-word":"2"}}`, `{"httpMethod":"secret-word here"}`,
		) {
			response, failure, err := f.Invoke(t.Context(), []byte(event))
			if err != nil {
				t.Fatal(err)
			}
			if failure != nil {
				wantUntold(t, failure.Message, "secret-word")
			} else if status, problem := jobOf(t, string(response)); status != http.StatusNotFound || problem.Code != "not_found" {
				t.Errorf("%s: %s, want an error or 404", event, response)
			}
		}
		wantUntold(t, f.Stderr(), "secret-word")
		nothingHappened(t)
	})

	var submitted domain.Job
	t.Run("a submission is stored and dispatched", func(t *testing.T) {
		answer := answered(t, f, lambdaEvent(t, "proxy-submit.json"))
		_, document := jobOf(t, answer)
		wantAnswer(t, "response-created.json", answer, document.ID, "ID", document.CreatedAt, "INSTANT")
		submitted = aws.job(t, document.ID)
		if submitted.Status != domain.Queued || submitted.Name != "test-job" || string(submitted.Payload) != `{ "n": 1.00 }` ||
			submitted.Owner != (domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"}) || submitted.TokenID != "token-1" ||
			submitted.TraceParent != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" || submitted.Dispatches != 1 {
			t.Errorf("the table has %+v", submitted)
		}
		messages := aws.receive(t)
		if len(messages) != 1 {
			t.Fatalf("dispatched %d messages, want 1", len(messages))
		}
		if d := cloudevent.Decode([]byte(*messages[0].Body), cloudevent.Origin{}); d.JobID != document.ID || d.Err != nil {
			t.Errorf("the message %s is not about job %s: %v", *messages[0].Body, document.ID, d.Err)
		}
		aws.remove(t, messages)
	})

	t.Run("only its owner can ask for it", func(t *testing.T) {
		get := []any{
			"resource", "/jobs/{id}", "path", "/jobs/" + submitted.ID, "httpMethod", "GET", "body", nil, "pathParameters", map[string]any{"id": submitted.ID},
			"requestContext.resourcePath", "/jobs/{id}", "requestContext.httpMethod", "GET", "requestContext.path", "/prod/jobs/" + submitted.ID,
		}
		if status, job := jobOf(t, answered(t, f, lambdaEvent(t, "proxy-submit.json", get...))); status != http.StatusOK || job.ID != submitted.ID || job.Status != "queued" {
			t.Errorf("status %d, %+v, want the job", status, job)
		}
		another := slices.Concat(get, []any{"requestContext.authorizer.subject", "bob"})
		if status, problem := jobOf(t, answered(t, f, lambdaEvent(t, "proxy-submit.json", another...))); status != http.StatusNotFound || problem.Code != "not_found" {
			t.Errorf("another's job: %d %s, want 404 not_found", status, problem.Code)
		}
	})

	t.Run("the schedule dispatches what is due, once", func(t *testing.T) {
		delayed := lambdaEvent(t, "proxy-submit.json", "body", `{"name":"test-job","delay":"1h"}`)
		_, later := jobOf(t, answered(t, f, delayed))
		_, due := jobOf(t, answered(t, f, delayed))
		tick := lambdaEvent(t, "scheduled.json")
		if answer := answered(t, f, tick); answer != "null" {
			t.Errorf("the answer is %s, want null", answer)
		}
		if messages := aws.receive(t); len(messages) != 0 {
			t.Errorf("dispatched %d messages before anything is due", len(messages))
		}
		aws.pass(t, due.ID, time.Hour)
		for range 2 { // the second finds nothing
			if answer := answered(t, f, tick); answer != "null" {
				t.Errorf("the answer is %s, want null", answer)
			}
		}
		messages := aws.receive(t)
		if len(messages) != 1 {
			t.Fatalf("dispatched %d messages, want 1", len(messages))
		}
		if d := cloudevent.Decode([]byte(*messages[0].Body), cloudevent.Origin{}); d.JobID != due.ID {
			t.Errorf("dispatched job %s, want %s", d.JobID, due.ID)
		}
		aws.remove(t, messages)
		if job := aws.job(t, due.ID); job.Dispatches != 1 || !job.CheckAt.After(time.Now()) {
			t.Errorf("%d dispatches, next check at %v; want 1 and a time to come", job.Dispatches, job.CheckAt)
		}
		if job := aws.job(t, later.ID); job.Dispatches != 0 {
			t.Errorf("a job that is not due was dispatched %d times", job.Dispatches)
		}
	})
	wantUntold(t, f.Stderr(), "TOKEN", "token-1", "client-1", "alice", "issuer.example")
}

func TestLambdaWorker(t *testing.T) {
	t.Parallel()
	artefact := adaptertest.BuildFunction(t, "worker")
	t.Run("settings", func(t *testing.T) {
		t.Parallel()
		wantSettings(t, artefact, map[string]string{
			"JOBS_TABLE": "jobs", "JOBS_TOPIC_ARN": "arn:aws:sns:us-east-1:123456789012:jobs", "FUNCTION_TIMEOUT": "40s", "EVENT_JOBS": eventJobs,
			"JOBS_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/jobs", "DEAD_LETTER_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/dead",
		}, []wrongSettings{
			{"none", nil, []string{"JOBS_TABLE=jobgate-jobs"}},
			{"each of AWS's wrong", map[string]string{
				"JOBS_TABLE": "jobs", "JOBS_TOPIC_ARN": "jobs", "FUNCTION_TIMEOUT": "39s", "JOBS_QUEUE_URL": "jobs", "DEAD_LETTER_QUEUE_URL": "https://h/123456789012/dead.fifo",
				"EVENT_JOBS": `[{"source":"a*b","job":"a b"}]`, "RETRY_POLICIES": `[{"jobs":"report.*","timeout":"30s"},{"jobs":"quick","timeout":"29s"}]`,
			}, []string{"JOBS_TOPIC_ARN=", "FUNCTION_TIMEOUT=40s", "RETRY_POLICIES=", "JOBS_QUEUE_URL=", "DEAD_LETTER_QUEUE_URL=", "EVENT_JOBS=", "EVENT_JOBS="}},
			{"rules and nowhere to put what they do not fit", map[string]string{"JOBS_TABLE": "jobs", "EVENT_JOBS": eventJobs, "FUNCTION_TIMEOUT": "16m"},
				[]string{"DEAD_LETTER_QUEUE_URL=", "FUNCTION_TIMEOUT=15m0s"}},
			{"all of them missing or wrong", map[string]string{"RETRY_POLICIES": `{"jobs":"report.*"}`, "LOG_LEVEL": "loud"},
				[]string{"RETRY_POLICIES=", "LOG_LEVEL=info", "JOBS_TABLE="}},
		})
	})
	t.Run("against AWS", func(t *testing.T) {
		t.Parallel()
		aws := newCloud(t)
		testWorkerFunction(t, aws, start(t, artefact, aws.env))
		t.Run("a tick, and no topic", func(t *testing.T) {
			env := maps.Clone(aws.env)
			delete(env, "JOBS_TOPIC_ARN")
			if said := refused(t, start(t, artefact, env), lambdaEvent(t, "scheduled.json")); !strings.Contains(said, "JOBS_TOPIC_ARN") {
				t.Errorf("the error %q does not say what is missing", said)
			}
		})
	})
}

// The ids of the messages in sqs-raw.json, in their order.
const (
	goodMessage      = "059f36b4-87a3-44ab-83d2-661975830a7d"
	poisonMessage    = "2e1424d4-f796-459a-8184-9c92662be6da"
	duplicateMessage = "11d6ee51-4cc7-4302-9e22-7cd8afdaadf5"
)

func testWorkerFunction(t *testing.T, aws *cloud, f *adaptertest.Function) {
	t.Helper()
	const none = `{"batchItemFailures":[]}`
	failed := func(id string) string { return `{"batchItemFailures":[{"itemIdentifier":"` + id + `"}]}` }
	// queued stores a job as the jobs function does, and returns the message about it.
	queued := func(t *testing.T) (id, message string) {
		t.Helper()
		job, err := domain.NewJob(domain.JobSpec{
			ID: uuid.Must(uuid.NewV7()).String(), Name: "test-job", Payload: []byte(`{"secret-word":1}`), Retry: domain.DefaultRetryPolicy,
			Retention: domain.DefaultRetention, Owner: domain.Identity{Issuer: "https://issuer.example/", Subject: "alice"},
		}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		job = job.Taken(time.Now())
		if _, _, err := aws.store.Create(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		body, err := cloudevent.Encode(job, "jobgate")
		if err != nil {
			t.Fatal(err)
		}
		return job.ID, string(body)
	}
	wantSucceeded := func(t *testing.T, id string) {
		t.Helper()
		job := aws.job(t, id)
		if job.Status != domain.Succeeded || job.Starts != 1 || len(job.History) != 1 || job.History[0].Error != "" || job.FinishedAt.IsZero() {
			t.Errorf("the table has %+v, want a job that succeeded at the first attempt", job)
		}
		if n := runs(t, f, id); n != 1 {
			t.Errorf("the handler has logged the job %d times, want once", n)
		}
	}

	t.Run("a batch with a poison record and a duplicate", func(t *testing.T) {
		finished, duplicate := queued(t)
		if answer := answered(t, f, lambdaEvent(t, "sqs-envelope.json", "Records.0.body", duplicate)); answer != none {
			t.Fatalf("the answer is %s, want %s", answer, none)
		}
		wantSucceeded(t, finished)
		before := aws.job(t, finished)

		good, message := queued(t)
		batch := lambdaEvent(t, "sqs-raw.json", "Records.0.body", message, "Records.1.body", "secret-word", "Records.2.body", duplicate)
		if answer := answered(t, f, batch); answer != failed(poisonMessage) {
			t.Errorf("the answer is %s, want %s", answer, failed(poisonMessage))
		}
		wantSucceeded(t, good)
		wantSucceeded(t, finished)
		if diff := cmp.Diff(before, aws.job(t, finished)); diff != "" {
			t.Errorf("the duplicate changed the finished job (-before +after):\n%s", diff)
		}
		byMessage := map[string]logLine{}
		for _, line := range logged(t, f) {
			if line.MessageID != "" {
				byMessage[line.MessageID] = line
			}
		}
		poison, again := byMessage[poisonMessage], byMessage[duplicateMessage]
		if poison.Reason != "undecodable" || poison.JobID != "" || poison.Error == "" {
			t.Errorf("of the poison record the log says %+v", poison)
		}
		if again.Reason != "finished" || again.JobID != finished {
			t.Errorf("of the duplicate the log says %+v", again)
		}
		if line, told := byMessage[goodMessage]; told {
			t.Errorf("of the good record the log says %+v beside its run", line)
		}
	})

	t.Run("a topic's envelope in the queue", func(t *testing.T) {
		id, message := queued(t)
		envelope := string(lambdaEvent(t, "sns-envelope.json", "Message", message))
		if answer := answered(t, f, lambdaEvent(t, "sqs-envelope.json", "Records.0.body", envelope)); answer != none {
			t.Errorf("the answer is %s, want %s", answer, none)
		}
		wantSucceeded(t, id)
	})

	t.Run("a topic without a queue", func(t *testing.T) {
		id, message := queued(t)
		for range 2 { // SNS delivers at least once
			if answer := answered(t, f, lambdaEvent(t, "sns.json", "Records.0.Sns.Message", message)); answer != "null" {
				t.Errorf("the answer is %s, want null", answer)
			}
		}
		wantSucceeded(t, id)
		said := refused(t, f, lambdaEvent(t, "sns.json", "Records.0.Sns.Message", "secret-word"))
		if !strings.Contains(said, "95df01b4-ee98-5cb9-9903-4c221d41eb5e") {
			t.Errorf("the error %q does not name the message", said)
		}
		wantUntold(t, said, "secret-word")
	})

	t.Run("a bare message is a job of its own, however it comes", func(t *testing.T) {
		const topicMessage = "95df01b4-ee98-5cb9-9903-4c221d41eb5e"
		bare := `{"name":"test-job"}`
		envelope := string(lambdaEvent(t, "sns-envelope.json", "Message", bare, "MessageId", topicMessage))
		if answer := answered(t, f, lambdaEvent(t, "sns.json", "Records.0.Sns.Message", bare)); answer != "null" {
			t.Errorf("the answer is %s, want null", answer)
		}
		if answer := answered(t, f, lambdaEvent(t, "sqs-envelope.json", "Records.0.body", envelope)); answer != none {
			t.Errorf("the answer is %s, want %s", answer, none)
		}
		id := domain.EventID("sns", "arn:aws:sns:us-east-1:123456789012:jobs", topicMessage)
		wantSucceeded(t, id)
		if owner := aws.job(t, id).Owner; !owner.IsZero() {
			t.Errorf("the job's owner is %+v, want none", owner)
		}
	})

	t.Run("a message whose job is not stored yet is returned", func(t *testing.T) {
		missing := strings.ReplaceAll(`{"specversion":"1.0","id":"ID","type":"test-job","source":"jobgate","jobgateschema":"1"}`, "ID", uuid.NewString())
		now := strconv.FormatInt(time.Now().UnixMilli(), 10)
		event := lambdaEvent(t, "sqs-envelope.json", "Records.0.body", missing, "Records.0.attributes.SentTimestamp", now)
		if answer := answered(t, f, event); answer != failed(goodMessage) {
			t.Errorf("the answer is %s, want %s", answer, failed(goodMessage))
		}
	})

	t.Run("a run that the function's timeout would cut is not begun", func(t *testing.T) {
		id, message := queued(t)
		event := lambdaEvent(t, "sqs-envelope.json", "Records.0.body", message)
		response, failure, err := f.InvokeWithin(t.Context(), 34*time.Second, event) // 30 s for the run and 5 s to settle it
		if err != nil || failure != nil || string(response) != failed(goodMessage) {
			t.Errorf("answer %s, failure %+v, error %v; want %s", response, failure, err, failed(goodMessage))
		}
		if job := aws.job(t, id); job.Status != domain.Queued || job.Starts != 0 {
			t.Errorf("the job is %s after %d starts, want queued and none", job.Status, job.Starts)
		}
		if answer := answered(t, f, event); answer != none {
			t.Errorf("the answer is %s, want %s", answer, none)
		}
		wantSucceeded(t, id)
	})

	t.Run("an event that is none", func(t *testing.T) {
		for _, event := range garbage {
			wantUntold(t, refused(t, f, []byte(event)), "secret-word")
		}
		if said := refused(t, f, lambdaEvent(t, "eventbridge.json")); !strings.Contains(said, "aws.ec2") {
			t.Errorf("the error %q does not name the source", said)
		}
		id, message := queued(t)
		if answer := answered(t, f, lambdaEvent(t, "sqs-envelope.json", "Records.0.body", message)); answer != none {
			t.Errorf("the answer is %s, want %s", answer, none)
		}
		wantSucceeded(t, id)
	})
	wantUntold(t, f.Stderr(), "secret-word", "alice", "issuer.example")
}

// runs counts how often the default handler has run a job.
func runs(t *testing.T, worker *adaptertest.Function, id string) (n int) {
	t.Helper()
	for _, line := range logged(t, worker) {
		if line.Message == "job" && line.JobID == id {
			n++
		}
	}
	return n
}
