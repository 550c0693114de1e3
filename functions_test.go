package jobgate_test

import (
	"errors"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
)

// What follows is about what the artefacts take from AWS besides events, and give back besides answers: parameters, logs
// and metrics.

// onlyRead is a policy by which nobody submits.
const onlyRead = `{"rules":[{"effect":"allow","scopes":["jobs:read"],"actions":["read"]}]}`

func TestFunctionsTakeSettingsFromParameterStore(t *testing.T) {
	t.Parallel()
	moto := adaptertest.Moto(t)
	put := func(name, kind, value string) {
		adaptertest.CallAWS(t, moto, "ssm", "AmazonSSM.PutParameter", map[string]any{"Name": name, "Type": kind, "Value": value})
	}
	put("/jobgate/policy", "SecureString", onlyRead)
	put("/jobgate/wrong", "String", `{"rules":[{"effect":"hunter2"}]}`)
	put("/jobgate/retries", "String", `[{"jobs":"report.*","timeout":"1h"}]`)
	put("/jobgate/webhooks", "SecureString", `[{"jobs":"report.*","url":"http://hunter2.example","secret":"hunter2"}]`)
	secret := strings.Repeat("hunter2-", 8)
	adaptertest.CallAWS(t, moto, "secretsmanager", "secretsmanager.CreateSecret", map[string]any{"Name": "jobgate/jwt", "SecretString": secret})
	auth := adaptertest.BuildFunction(t, "auth")

	t.Run("the policy", func(t *testing.T) {
		t.Parallel()
		issuer := newTokenIssuer(t)
		f := start(t, auth, with(issuer.env(), "AWS_ENDPOINT_URL", moto, "ACCESS_POLICY", "ssm:/jobgate/policy"))
		for scope, want := range map[string]bool{"jobs:read": true, "jobs:submit": false} { // which another policy would allow
			token := issuer.token(oidctest.Object{"sub": "alice", "scope": scope})
			answer := answered(t, f, lambdaEvent(t, "authorizer-token.json", "authorizationToken", "Bearer "+token))
			if allows := strings.Contains(answer, `"Effect":"Allow"`); allows != want {
				t.Errorf("%s is answered %s", scope, answer)
			}
		}
	})
	t.Run("a secret of Secrets Manager", func(t *testing.T) {
		t.Parallel()
		f := start(t, auth, map[string]string{
			"JWT_SECRET": "ssm:/aws/reference/secretsmanager/jobgate/jwt", "OIDC_AUDIENCE": oidctest.Audience, "AWS_ENDPOINT_URL_SSM": moto,
		})
		event := func(key string) []byte {
			token := oidctest.Key{Alg: "HS256", Secret: []byte(key)}.Sign(nil, oidctest.Claims("", time.Now()).With(oidctest.Object{"iss": nil, "scope": "jobs:read"}))
			return lambdaEvent(t, "authorizer-token.json", "authorizationToken", "Bearer "+token)
		}
		if answer := answered(t, f, event(secret)); !strings.Contains(answer, `"Effect":"Allow"`) {
			t.Errorf("a token of the secret: %s", answer)
		}
		if message := refused(t, f, event(secret+"x")); message != "Unauthorized" {
			t.Errorf("a token of another: %s", message)
		}
	})
	t.Run("all mistakes at once, and no value", func(t *testing.T) {
		t.Parallel()
		for artefact, tt := range map[string]struct {
			env  map[string]string
			want []string
		}{
			auth: {
				map[string]string{"JWT_SECRET": "ssm:/jobgate/none", "ACCESS_POLICY": "ssm:/jobgate/wrong", "LOG_LEVEL": "loud"},
				[]string{"JWT_SECRET", "ACCESS_POLICY", "LOG_LEVEL"},
			},
			adaptertest.BuildFunction(t, "jobs"): {
				map[string]string{"JOBS_TABLE": "jobs", "ACCESS_POLICY": "ssm:/jobgate/wrong", "RETRY_POLICIES": "ssm:/jobgate/retries"},
				[]string{"JOBS_TOPIC_ARN", "ACCESS_POLICY", "RETRY_POLICIES"},
			},
			adaptertest.BuildFunction(t, "worker"): {
				map[string]string{"JOBS_TABLE": "jobs", "ACCESS_POLICY": "ssm:/jobgate/policy", "WEBHOOKS": "ssm:/jobgate/webhooks", "EVENT_JOBS": "ssm:/jobgate/none"},
				[]string{"WEBHOOKS", "EVENT_JOBS"},
			},
		} {
			f := adaptertest.StartFunction(t, artefact, with(tt.env, "AWS_ENDPOINT_URL", moto))
			exit, ok := errors.AsType[*adaptertest.ExitError](f.Ready(t.Context()))
			if !ok || !exit.Init || exit.Code != 1 {
				t.Errorf("%s: %+v, want it to end in its init", artefact, exit)
				continue
			}
			told := map[string]bool{}
			for _, mistake := range regexp.MustCompile(`(?m)^  ([A-Z_]+): `).FindAllStringSubmatch(exit.Stderr, -1) {
				told[mistake[1]] = true
			}
			if got := slices.Sorted(maps.Keys(told)); !slices.Equal(got, slices.Sorted(slices.Values(tt.want))) {
				t.Errorf("%s tells of %v, want %v:\n%s", artefact, got, tt.want, exit.Stderr)
			}
			for _, value := range []string{"hunter2", "/jobgate/"} {
				if strings.Contains(exit.Stderr, value) {
					t.Errorf("%s tells %s:\n%s", artefact, value, exit.Stderr)
				}
			}
		}
	})
	t.Run("the check of settings says whether it looked them up", func(t *testing.T) {
		t.Parallel()
		for want, env := range map[string][]string{
			"the settings are right; not looked up in Parameter Store, without AWS credentials: ACCESS_POLICY\n": nil,
			"the settings are right; as Parameter Store has them: ACCESS_POLICY\n": {
				"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL=" + moto,
			},
		} {
			cmd := exec.CommandContext(t.Context(), auth, "-check-config")
			cmd.Env = append([]string{"OIDC_ISSUER=https://issuer.example", "OIDC_AUDIENCE=jobgate", "ACCESS_POLICY=ssm:/jobgate/policy"}, env...)
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
				t.Errorf("%v: %s, want %s", err, out, want)
			}
		}
	})
}

// A metricLine is a line in CloudWatch's embedded metric format, as far as it is looked at.
type metricLine struct {
	AWS struct {
		CloudWatchMetrics []struct{ Metrics []struct{ Name string } }
	} `json:"_aws"`
	Function, Status, Pattern, Result string
	JobsSettled, RunTime, QueueWait   float64
}

// metricLines are what f has written to standard output, which holds metrics and nothing else.
func metricLines(t *testing.T, f *adaptertest.Function) map[string]metricLine {
	t.Helper()
	lines := map[string]metricLine{}
	for text := range strings.Lines(f.Stdout()) {
		var line metricLine
		if err := json.Unmarshal([]byte(text), &line); err != nil || len(line.AWS.CloudWatchMetrics) != 1 {
			t.Fatalf("no line of metrics: %v\n%s", err, text)
		}
		lines[line.AWS.CloudWatchMetrics[0].Metrics[0].Name] = line
	}
	return lines
}

func TestATraceGoesFromTheRequestToTheRun(t *testing.T) {
	t.Parallel()
	const traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" // the request's
	aws := newCloud(t)
	jobs := start(t, adaptertest.BuildFunction(t, "jobs"), aws.env)
	worker := start(t, adaptertest.BuildFunction(t, "worker"), aws.env)
	_, document := jobOf(t, answered(t, jobs, lambdaEvent(t, "proxy-submit.json")))
	messages := aws.receive(t)
	if len(messages) != 1 {
		t.Fatalf("dispatched %d messages, want 1", len(messages))
	}
	answered(t, worker, aws.event(t, messages))

	begun := false
	for text := range strings.Lines(worker.Stderr()) {
		var line struct {
			Message      string `json:"message"`
			JobID        string `json:"job_id"`
			TraceParent  string `json:"traceparent"`
			InvocationID string `json:"invocation_id"`
			XRay         string `json:"xray_trace_id"`
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("a line that is no JSON: %s", text)
		}
		begun = begun || line.Message == "run begins"
		if line.JobID != document.ID || line.TraceParent != traceParent || len(line.InvocationID) != 36 || line.XRay != "1-5bef4de7-ad49b0e87f6ef6c87fc2e700" {
			t.Errorf("a line without the job, its trace or the invocation: %s", text)
		}
	}
	if !begun {
		t.Errorf("the run is not logged:\n%s", worker.Stderr())
	}

	metrics := metricLines(t, worker)
	if m := metrics["JobsSettled"]; m.Function != "worker" || m.Status != "succeeded" || m.Pattern != "*" || m.JobsSettled != 1 {
		t.Errorf("settled: %+v", m)
	}
	if m := metrics["RunTime"]; m.Pattern != "*" || m.RunTime <= 0 || m.QueueWait <= 0 {
		t.Errorf("run: %+v", m)
	}
	answered(t, jobs, lambdaEvent(t, "scheduled.json"))
	if m, ok := metricLines(t, jobs)["JobsDispatched"]; !ok || m.Function != "jobs" {
		t.Errorf("the due loop: %+v", m)
	}
}

func TestEachVerificationIsCounted(t *testing.T) {
	t.Parallel()
	issuer := newTokenIssuer(t)
	f := start(t, adaptertest.BuildFunction(t, "auth"), issuer.env())
	event := func(token string) []byte {
		return lambdaEvent(t, "authorizer-token.json", "authorizationToken", "Bearer "+token)
	}
	answered(t, f, event(issuer.token(oidctest.Object{"scope": "jobs:read"})))
	refused(t, f, event(issuer.token(oidctest.Object{"exp": 1})))
	var results []string
	for text := range strings.Lines(f.Stdout()) {
		var line metricLine
		if err := json.Unmarshal([]byte(text), &line); err != nil || line.Function != "auth" {
			t.Fatalf("%v: %s", err, text)
		}
		results = append(results, line.Result)
	}
	if want := []string{"ok", "token_expired"}; !slices.Equal(results, want) {
		t.Errorf("counted %v, want %v", results, want)
	}
}
