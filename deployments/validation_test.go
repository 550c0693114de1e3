package deployments_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/httpapi"
	"github.com/jobgate/jobgate/bootstrap/auth"
)

// What Terraform can say without a provider it is asked: the module's variables, and locals that depend on no resource,
// are taken out of it, and planned.

// terraform runs terraform in a folder, and returns what it says.
func terraform(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "terraform", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_INPUT=0")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("terraform %s: %w\n%s%s", args[0], err, &stdout, &stderr)
	}
	return stdout.String(), nil
}

// withoutResources writes the module's variables, what they look at, and the named locals to a folder.
func withoutResources(t *testing.T, dir string, locals ...string) {
	t.Helper()
	c := readConfiguration(t, moduleDir)
	var text strings.Builder
	all := c.locals()
	for _, name := range locals {
		fmt.Fprintf(&text, "locals {\n%s = %s\n}\n", name, c.text(all[name]))
	}
	files := map[string][]byte{"variables.tf": c.source[filepath.Join(moduleDir, "variables.tf")], "locals.tf": []byte(text.String())}
	for _, name := range []string{"routes.json", "gateway-responses.json", "functions/worker.json.tftpl"} {
		files[name] = readFile(t, moduleDir, name)
	}
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
}

func write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// good are values for what has no default.
func good(t *testing.T) map[string]any {
	t.Helper()
	packages := t.TempDir()
	for _, name := range []string{"auth", "jobs", "worker"} {
		write(t, filepath.Join(packages, name+".zip"), []byte(name))
	}
	return map[string]any{"packages_dir": packages, "oidc_issuer": "https://id.example.com/", "oidc_audience": []string{"jobgate"}}
}

// evaluateLocals gives locals of the module their values.
func evaluateLocals(t *testing.T, variables map[string]any, into map[string]any) {
	t.Helper()
	dir := t.TempDir()
	withoutResources(t, dir, "routes", "cors_origin", "cors_headers", "problems", "gateway_responses", "preflights")
	var outputs strings.Builder
	for name := range into {
		fmt.Fprintf(&outputs, "output %q {\nvalue = jsonencode(local.%s)\n}\n", name, name)
	}
	write(t, filepath.Join(dir, "outputs.tf"), []byte(outputs.String()))
	values := good(t)
	maps.Copy(values, variables)
	maps.DeleteFunc(values, func(_ string, v any) bool { list, ok := v.([]string); return ok && list == nil })
	write(t, filepath.Join(dir, "terraform.tfvars.json"), encode(t, values))
	for _, args := range [][]string{{"init", "-no-color"}, {"apply", "-no-color", "-auto-approve"}} {
		if _, err := terraform(t, dir, args...); err != nil {
			t.Fatal(err)
		}
	}
	out, err := terraform(t, dir, "output", "-json")
	if err != nil {
		t.Fatal(err)
	}
	var evaluated map[string]struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal([]byte(out), &evaluated); err != nil {
		t.Fatal(err)
	}
	for name, v := range into {
		if err := json.Unmarshal([]byte(evaluated[name].Value), v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// plan plans calls of the module's variables, and returns what is wrong with each. What a validation that looks at another
// variable says comes only when nothing else is wrong anywhere: those calls are planned again by themselves.
func plan(t *testing.T, calls []map[string]any) [][]string {
	t.Helper()
	wrong := make([][]string, len(calls))
	left := make([]int, len(calls))
	for i := range calls {
		left[i] = i
	}
	for {
		said := planOnce(t, calls, left, wrong)
		left = slices.DeleteFunc(left, func(i int) bool { return len(wrong[i]) > 0 })
		if !said || len(left) == 0 {
			return wrong
		}
	}
}

// planOnce plans the calls that are left, all at once, and reports whether anything is wrong.
func planOnce(t *testing.T, calls []map[string]any, left []int, wrong [][]string) bool {
	t.Helper()
	dir := t.TempDir()
	withoutResources(t, filepath.Join(dir, "module"))
	for _, i := range left {
		module := good(t)
		maps.Copy(module, calls[i])
		module["source"] = "./module"
		name := fmt.Sprintf("call%d", i)
		write(t, filepath.Join(dir, name+".tf.json"), encode(t, map[string]any{"module": map[string]any{name: module}}))
	}
	if _, err := terraform(t, dir, "init", "-no-color"); err != nil {
		t.Fatal(err)
	}
	out, planErr := terraform(t, dir, "plan", "-json")
	said := false
	for line := range strings.Lines(out) {
		var message struct {
			Diagnostic struct {
				Severity string `json:"severity"`
				Summary  string `json:"summary"`
				Detail   string `json:"detail"`
				Range    struct {
					Filename string `json:"filename"`
				} `json:"range"`
			} `json:"diagnostic"`
		}
		if err := json.Unmarshal([]byte(line), &message); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		d := message.Diagnostic
		if d.Severity != "error" {
			continue
		}
		var i int
		if _, err := fmt.Sscanf(d.Range.Filename, "call%d.tf.json", &i); err != nil {
			t.Fatalf("an error that belongs to no call: %s", line)
		}
		said = true
		wrong[i] = append(wrong[i], d.Summary+": "+d.Detail)
	}
	if (planErr != nil) != said {
		t.Fatalf("what terraform says and how it ends differ: %v", planErr)
	}
	return said
}

func TestVariablesTakeWhatIsRight(t *testing.T) {
	t.Parallel()
	needTerraform(t)
	calls := []map[string]any{
		{},
		{"name": "a1", "lambda_architecture": "x86_64", "tags": map[string]string{"team": "platform"}},
		{"name": strings.Repeat("a", 32), "worker_delivery": "sns", "reserved_concurrency": map[string]any{"worker": 1}},
		{"oidc_audience": []string{}, "oidc_client_ids": []string{"7abc"}, "oidc_settings": map[string]string{"OIDC_SCOPE_PREFIX": "jobgate/"}},
		{"access_policy": `{"rules":[]}`, "authorizer_type": "REQUEST", "authorizer_ttl": 0},
		{"access_policy": "ssm:/jobgate/access-policy:7"}, {"access_policy": "ssm:/aws/reference/secretsmanager/policy", "authorizer_ttl": 3600},
		{"cors_origins": []string{"https://app.example.com", "http://localhost:5173"}, "max_body": 1},
		{"cors_origins": []string{"*"}, "throttling": map[string]any{"rate": 0.5}, "route_throttling": map[string]any{"POST /jobs/{id}/cancel": map[string]any{"rate": 0, "burst": 0}}},
		{"domain": map[string]any{"name": "api.example.com", "certificate_arn": "arn:aws:acm:eu-west-1:123456789012:certificate/x"}},
		{"domain": map[string]any{"name": "a.b.example.com", "certificate_arn": "x", "base_path": "jobs-v1"}},
		{"retention": map[string]any{"dead": 1}},
		{"retry_policies": []any{map[string]any{"jobs": "report.*", "attempts": 33, "base": "500ms", "max": "1h30m", "timeout": "50s"}, map[string]any{"jobs": "*"}}},
		{"retry_policies": []any{map[string]any{"jobs": "a", "timeout": "14m50s"}}, "worker_timeout": 900},
		{"webhooks": []any{map[string]any{"jobs": "*", "url": "https://hooks.example.com", "secret": "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB, whsec_QUFB", "timeout": "5s"}}},
		{"webhooks": []any{map[string]any{"jobs": "*", "url": "http://10.0.0.1", "secret": "whsec_QUFB"}}, "webhook_allow_private": true},
		{"event_jobs": []any{
			map[string]any{"source": "aws:s3", "detail_type": "ObjectCreated:*", "arn": "arn:aws:s3:::uploads", "job": "upload.scan"}, map[string]any{"source": "com.example.*", "job": "order"},
		}},
		{"worker_batch_size": 100, "worker_batching_window": 1, "worker_maximum_concurrency": 20, "reserved_concurrency": map[string]any{"worker": 20}},
		{"worker_environment": map[string]string{"REPORT_BUCKET": "reports"}, "memory": map[string]any{"auth": 128}, "log_level": "debug", "log_retention_days": 3653},
		{"kms_key_arn": "arn:aws:kms:eu-west-1:123456789012:key/1", "alarm_topic_arn": "arn:aws-us-gov:sns:us-gov-west-1:123456789012:alarms"},
		{"create_kms_key": true, "permissions_boundary_arn": "arn:aws:iam::123456789012:policy/boundary", "alarm_thresholds": map[string]any{"server_errors": 0}},
		{"queue_max_receive_count": 301, "retry_policies": []any{map[string]any{"jobs": "a", "attempts": 100}}},
	}
	for i, wrong := range plan(t, calls) {
		if len(wrong) > 0 {
			t.Errorf("%v:\n%s", calls[i], strings.Join(wrong, "\n"))
		}
	}
}

func TestVariablesRefuseWhatIsWrongInWordsThatHelp(t *testing.T) {
	t.Parallel()
	needTerraform(t)
	retry := func(members ...any) []any {
		policy := map[string]any{"jobs": "a"}
		for pair := range slices.Chunk(members, 2) {
			policy[pair[0].(string)] = pair[1]
		}
		return []any{policy}
	}
	hook := func(url, secret string) []any {
		return []any{map[string]any{"jobs": "a", "url": url, "secret": secret}}
	}
	const secret = "whsec_QUFB"
	tests := []struct {
		values map[string]any
		word   string
	}{
		{map[string]any{"name": "Jobs"}, "name has 2 to 32 lower-case letters"},
		{map[string]any{"name": strings.Repeat("a", 33)}, "name has 2 to 32"},
		{map[string]any{"name": "jobs-"}, "does not end with a hyphen"},
		{map[string]any{"tags": map[string]string{"AWS:x": "y"}}, "does not begin with aws:"},
		{map[string]any{"packages_dir": "/absent"}, "build them with make package"},
		{map[string]any{"lambda_architecture": "amd64"}, "which is what AWS calls amd64"},
		{map[string]any{"oidc_issuer": "http://id.example.com"}, "plain http is for loopback hosts only"},
		{map[string]any{"oidc_audience": []string{}}, "oidc_audience or oidc_client_ids is needed"},
		{map[string]any{"oidc_audience": []string{"a,b"}}, "without a comma"},
		{map[string]any{"oidc_client_ids": []string{""}}, "one client id"},
		{map[string]any{"oidc_settings": map[string]string{"OIDC_LEAWAY": "1s"}}, "OIDC_LEEWAY"},
		{map[string]any{"oidc_settings": map[string]string{"OIDC_ISSUER": "x"}}, "names of the auth function's settings"},
		{map[string]any{"access_policy": "policy.json"}, "access_policy is a JSON object"},
		{map[string]any{"access_policy": "[]"}, "access_policy is a JSON object"},
		{map[string]any{"authorizer_type": "JWT"}, "TOKEN or REQUEST"},
		{map[string]any{"authorizer_ttl": 3601}, "from 0 to 3600"},
		{map[string]any{"stage_name": "v1/x"}, "stage_name has 1 to 128"},
		{map[string]any{"cors_origins": []string{"https://app.example.com/"}}, "nothing behind them"},
		{map[string]any{"max_body": 245761}, "240 KiB"},
		{map[string]any{"throttling": map[string]any{"rate": 0}}, "0 would shut the API"},
		{map[string]any{"route_throttling": map[string]any{"GET /absent": map[string]any{"rate": 1, "burst": 1}}}, "a route of routes.json"},
		{map[string]any{"route_throttling": map[string]any{"POST /jobs": map[string]any{"rate": -1, "burst": 1}}}, "not negative"},
		{map[string]any{"domain": map[string]any{"name": "https://api.example.com", "certificate_arn": "x"}}, "a host name in lower case"},
		{map[string]any{"domain": map[string]any{"name": "api.example.com", "certificate_arn": "x", "base_path": "a/b"}}, "one segment without slashes"},
		{map[string]any{"domain": map[string]any{"name": "api.example.com", "certificate_arn": "x", "base_path": "ping"}}, "keeps for itself"},
		{map[string]any{"retention": map[string]any{"finished": 0}}, "whole numbers of hours"},
		{map[string]any{"retention": map[string]any{"dead": 1.5}}, "whole numbers of hours"},
		{map[string]any{"retry_policies": retry("jobs", "*.pdf")}, "a pattern that ends in *"},
		{map[string]any{"retry_policies": append(retry(), retry()...)}, "has one retry policy"},
		{map[string]any{"retry_policies": retry("attempts", 101)}, "from 1 to 100"},
		{map[string]any{"retry_policies": retry("base", "5 s")}, "durations like"},
		{map[string]any{"retry_policies": retry("timeout", "51s")}, "10 s more have to fit worker_timeout"},
		{map[string]any{"retry_policies": retry("timeout", "1h")}, "10 s more have to fit worker_timeout"},
		{map[string]any{"webhooks": hook("http://hooks.example.com", secret)}, "begins with https://"},
		{map[string]any{"webhooks": hook("https://hooks.example.com", "hunter2")}, "whsec_ and base64"},
		{map[string]any{"webhooks": append(hook("https://a.example", secret), hook("https://a.example", secret)...)}, "each has one webhook"},
		{map[string]any{"webhooks": hook("https://"+strings.Repeat("a", 8192), secret)}, "8 KB of JSON"},
		{map[string]any{"event_jobs": []any{map[string]any{"source": "aws:s3", "job": "up load"}}}, "is a job's name"},
		{map[string]any{"event_jobs": []any{map[string]any{"source": "*.orders", "job": "order"}}}, "a * at their end only"},
		{map[string]any{"worker_delivery": "kinesis"}, "sqs or sns"},
		{map[string]any{"worker_timeout": 39}, "from 40"},
		{map[string]any{"worker_timeout": 901}, "Lambda's bound"},
		{map[string]any{"worker_batch_size": 0}, "from 1 to 100"},
		{map[string]any{"worker_batch_size": 101, "worker_batching_window": 1}, "from 1 to 100"},
		{map[string]any{"worker_batching_window": 301}, "from 0 to 300"},
		{map[string]any{"worker_batch_size": 11, "worker_batching_window": 0}, "at least 1 second"},
		{map[string]any{"worker_maximum_concurrency": 1}, "from 2 to 1000"},
		{map[string]any{"queue_max_receive_count": 99}, "from 100 to 1000"},
		{map[string]any{"queue_max_receive_count": 300, "retry_policies": retry("attempts", 100)}, "above 3 times"},
		{map[string]any{"worker_environment": map[string]string{"AWS_REGION": "x"}}, "does not begin with AWS_"},
		{map[string]any{"worker_environment": map[string]string{"JOBS_TABLE": "x"}}, "a setting of the worker itself"},
		{map[string]any{"memory": map[string]any{"auth": 64}}, "from 128 to 10240"},
		{map[string]any{"reserved_concurrency": map[string]any{"auth": 0}}, "0 would shut the function"},
		{map[string]any{"reserved_concurrency": map[string]any{"worker": 9}}, "at least worker_maximum_concurrency"},
		{map[string]any{"log_level": "trace"}, "debug, info, warn or error"},
		{map[string]any{"log_retention_days": 31}, "a number that CloudWatch Logs has"},
		{map[string]any{"permissions_boundary_arn": "boundary"}, "the ARN of an IAM policy"},
		{map[string]any{"create_kms_key": true, "kms_key_arn": "arn:aws:kms:eu-west-1:123456789012:key/1"}, "exclude each other"},
		{map[string]any{"kms_key_arn": "alias/jobs"}, "not of an alias"},
		{map[string]any{"alarm_topic_arn": "arn:aws:sns:eu-west-1:123456789012:alarms.fifo"}, "the ARN of an SNS topic"},
		{map[string]any{"alarm_thresholds": map[string]any{"oldest_message": -1}}, "not negative"},
	}
	calls := make([]map[string]any, len(tests))
	for i, tt := range tests {
		calls[i] = tt.values
	}
	said := map[string]bool{}
	for i, wrong := range plan(t, calls) {
		if !slices.ContainsFunc(wrong, func(text string) bool { return strings.Contains(unwrapped(text), tests[i].word) }) {
			t.Errorf("%v: says %q, want %q", tests[i].values, wrong, tests[i].word)
		}
		for _, text := range wrong {
			said[unwrapped(text)] = true
		}
	}
	for _, b := range readConfiguration(t, moduleDir).each("variable", "") {
		for _, v := range nested(b.Body, "validation") {
			message, err := literal(attribute(v.Body, "error_message"))
			if err != nil || !slices.ContainsFunc(slices.Collect(maps.Keys(said)), func(text string) bool { return strings.Contains(text, message) }) {
				t.Errorf("no case makes var.%s say: %s", b.Labels[0], message)
			}
		}
	}
}

// unwrapped is a message in one line.
func unwrapped(text string) string { return strings.Join(strings.Fields(text), " ") }

func TestIssuersAreThoseThatTheProgramTakes(t *testing.T) {
	t.Parallel()
	needTerraform(t)
	issuers := []string{
		"https://id.example.com", "https://id.example.com/", "https://id.example.com:8443/realms/jobs", "https://id.example.com/a//b/", "HTTPS://id.example.com",
		"https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbC123", "https://login.microsoftonline.com/72f988bf/v2.0", "https://[2001:db8::1]/", "https://10.0.0.1",
		"https://localhost", "https://id.example.com/a@b", "https://id_x.example.com", "https://bücher.example", "https://id.example.com/%7Ejobs",
		"http://localhost", "http://LOCALHOST:8080/oidc", "http://127.0.0.1:8080/oidc", "http://127.255.0.9", "http://[::1]:8080",
		"http://id.example.com", "http://localhost.example.com", "http://10.0.0.1", "http://[::2]", "http://128.0.0.1", "http://1127.0.0.1",
		"ftp://id.example.com", "id.example.com", "//id.example.com", "https://", "https:///path", "https:id.example.com",
		"https://user@id.example.com", "https://user:pw@id.example.com/", "https://id.example.com?x=1", "https://id.example.com/?x", "https://id.example.com/#top",
		"https://login.microsoftonline.com/{tenantid}/v2.0", "https://id.example.com:port", "https://id example.com", " https://id.example.com", "https://id.example.com\n",
	}
	calls := make([]map[string]any, len(issuers))
	for i, issuer := range issuers {
		calls[i] = map[string]any{"oidc_issuer": issuer}
	}
	for i, wrong := range plan(t, calls) {
		env := map[string]string{"OIDC_ISSUER": issuers[i], "OIDC_AUDIENCE": "jobgate"}
		err := auth.Run(t.Context(), []string{"-check-config"}, func(name string) string { return env[name] }, io.Discard, io.Discard)
		if (err == nil) != (len(wrong) == 0) {
			t.Errorf("%q: the program says %v, the module %q", issuers[i], err, wrong)
		}
	}
}

func TestMaxBodyIsTheProgramsOwn(t *testing.T) {
	t.Parallel()
	c := readConfiguration(t, moduleDir)
	variable := c.find("variable.max_body")
	if most := fmt.Sprintf("var.max_body <= %d ", httpapi.DefaultMaxBody); !strings.Contains(c.text(attribute(nested(variable.Body, "validation")[0].Body, "condition")), most) {
		t.Errorf("the validation of max_body has no %q", most)
	}
	if got := c.text(attribute(variable.Body, "default")); got != strconv.Itoa(httpapi.DefaultMaxBody) {
		t.Errorf("max_body is %s by default, the program's %d", got, httpapi.DefaultMaxBody)
	}
}
