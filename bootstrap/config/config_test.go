package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/domain"
)

func from(settings map[string]string) *config.Env {
	return config.From(func(name string) string { return settings[name] })
}

func TestSettingsAreRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("in a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := from(map[string]string{
		"S": "text", "L": "a, b ,c", "D": "1m30s", "B": "true", "N": "240 KiB", "O": "two", "A": ":8080", "T": file, "I": "inline",
	})
	got := []any{
		e.String("S", ""), e.String("-", "fallback"), e.Required("S", ""), e.List("L"), e.List("-"), e.Duration("D", 0), e.Duration("-", time.Second),
		e.Bool("B", false), e.Bool("-", true), e.Bytes("N", 1, 1<<20), e.Bytes("-", 7, 9), e.OneOf("O", "one", "two"), e.OneOf("-", "one", "two"),
		e.Address("A", ""), e.Address("-", "127.0.0.1:1"), e.Text("T", ""), e.Text("I", ""), e.Text("-", ""),
	}
	want := []any{
		"text", "fallback", "text", []string{"a", "b", "c"}, []string(nil), 90 * time.Second, time.Second,
		true, true, int64(240 << 10), int64(7), "two", "one",
		":8080", "127.0.0.1:1", "in a file", "inline", "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if err := e.Err(); err != nil {
		t.Error(err)
	}
}

func TestEveryMistakeIsReportedOnceWithItsName(t *testing.T) {
	t.Parallel()
	e := from(map[string]string{
		"L": "a,,b", "D": "-1s", "B": "yes", "N": "0", "M": "2MiB", "O": "three", "A": "nowhere", "P": "127.0.0.1:99999", "T": "./no/such/file",
		"ACCESS_POLICY": `{"rules":[],"Rules":[]}`, "RETRY_POLICIES": `[{"jobs":"a.*.b","base":"x"},{"jobs":"*","attempts":1000,"max":"0s"}]`, "K": "one,,two",
	})
	for range 2 {
		e.Required("R", "this")
		e.List("L")
		e.Duration("D", time.Second)
		e.Bool("B", false)
		e.Bytes("N", 1, 1<<20)
		e.Bytes("M", 1, 1<<20)
		e.OneOf("O", "one", "two")
		e.Address("A", "127.0.0.1:1")
		e.Address("P", "127.0.0.1:1")
		e.Text("T", "{}")
		e.AccessPolicy(1)
		e.RetryPolicies()
		e.Secrets("K", "./secret")
	}
	problems, ok := errors.AsType[config.Problems](e.Err())
	if !ok {
		t.Fatalf("Err = %v", e.Err())
	}
	var names []string
	for _, p := range problems {
		names = append(names, p.Name)
	}
	want := []string{"R", "L", "D", "B", "N", "M", "O", "A", "P", "T", "ACCESS_POLICY", "RETRY_POLICIES", "K"}
	if !slices.Equal(names, want) {
		t.Errorf("the mistakes are in %v, want %v:\n%v", names, want, e.Err())
	}
	if text := e.Err().Error(); !strings.Contains(text, "R: is not set\n    example: R=this") {
		t.Errorf("the error does not name what is missing with an example:\n%s", text)
	}
}

func TestAccessPolicy(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(domain.DefaultPolicy(), from(nil).AccessPolicy(2)); diff != "" {
		t.Errorf("no setting is not the default policy (-want +got):\n%s", diff)
	}
	got := from(map[string]string{"ACCESS_POLICY": `{
		"rules": [
			{"effect": "allow", "issuers": ["https://a"], "subjects": ["s"], "scopes": ["x"], "actions": ["submit", "read"], "jobs": ["report.*"], "any_owner": true},
			{"effect": "deny", "actions": ["redrive"]}],
		"deny": [{"issuer": "https://a", "subject": "gone"}, {"token_id": "stolen"}]}`}).AccessPolicy(1)
	want := domain.AccessPolicy{
		Rules: []domain.Rule{
			{
				Effect: domain.Allow, Issuers: []string{"https://a"}, Subjects: []string{"s"}, Scopes: []string{"x"},
				Actions: []domain.Action{domain.ActionSubmit, domain.ActionRead}, Jobs: []string{"report.*"}, AnyOwner: true,
			},
			{Effect: domain.Deny, Actions: []domain.Action{domain.ActionRedrive}},
		},
		Revoked: []domain.Revocation{{Issuer: "https://a", Subject: "gone"}, {TokenID: "stolen"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	alone := from(map[string]string{"ACCESS_POLICY": `{"deny":[{"token_id":"stolen"}]}`})
	if p := alone.AccessPolicy(1); len(p.Rules) != len(domain.DefaultPolicy().Rules) || len(p.Revoked) != 1 || alone.Err() != nil {
		t.Errorf("a deny list alone gives %+v, %v", p, alone.Err())
	}
}

func TestRetryPolicies(t *testing.T) {
	t.Parallel()
	e := from(map[string]string{"RETRY_POLICIES": `[{"jobs":"report.*","attempts":3,"base":"2s","max":"1m","timeout":"2m"},{"jobs":"quick","timeout":"1s"}]`})
	got := e.RetryPolicies()
	quick := domain.DefaultRetryPolicy
	quick.Timeout = time.Second
	want := domain.RetryPolicies{
		{Jobs: "report.*", Policy: domain.RetryPolicy{Attempts: 3, Base: 2 * time.Second, Max: time.Minute, Timeout: 2 * time.Minute}},
		{Jobs: "quick", Policy: quick},
	}
	if diff := cmp.Diff(want, got); diff != "" || e.Err() != nil {
		t.Errorf("policies (-want +got):\n%s\n%v", diff, e.Err())
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		finished, dead string
		want           domain.Retention // zero: a mistake
	}{
		{"", "", domain.DefaultRetention},
		{"24h", "", domain.Retention{Finished: 24 * time.Hour, Dead: domain.DefaultRetention.Dead}},
		{"1m", "2160h", domain.Retention{Finished: time.Minute, Dead: 90 * 24 * time.Hour}},
		{"59s", "", domain.Retention{}},
		{"", "0s", domain.Retention{}},
		{"7d", "", domain.Retention{}},
	} {
		e := from(map[string]string{"RETENTION": tt.finished, "RETENTION_DEAD": tt.dead})
		got := e.Retention()
		if tt.want == (domain.Retention{}) {
			if e.Err() == nil {
				t.Errorf("%+v is accepted", tt)
			}
		} else if got != tt.want || e.Err() != nil {
			t.Errorf("%+v: got %+v, %v", tt, got, e.Err())
		}
	}
}

func TestCORSOrigin(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"": "", "*": "*", "https://app.example": "https://app.example", "http://127.0.0.1:3000": "http://127.0.0.1:3000",
		"https://a.example, https://b.example": "*",
	} {
		e := from(map[string]string{"CORS_ORIGINS": setting})
		if got := e.CORSOrigin(); got != want || e.Err() != nil {
			t.Errorf("CORS_ORIGINS=%s: %q, %v; want %q", setting, got, e.Err(), want)
		}
	}
	for _, setting := range []string{"app.example", "https://app.example/", "https://app.example/x", "ftp://app.example", "null", "https://user@app.example"} {
		e := from(map[string]string{"CORS_ORIGINS": setting})
		if e.CORSOrigin(); e.Err() == nil {
			t.Errorf("CORS_ORIGINS=%s is accepted", setting)
		}
	}
}

func TestSecretsDoNotPrintThemselves(t *testing.T) {
	t.Parallel()
	secrets := from(map[string]string{"K": "hunter2, hunter3"}).Secrets("K", "")
	if len(secrets) != 2 || string(secrets[0]) != "hunter2" || string(secrets[1]) != "hunter3" {
		t.Errorf("%d secrets were read", len(secrets))
	}
	encoded, err := json.Marshal(struct{ K []config.Secret }{secrets})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprint(secrets), fmt.Sprintf("%v %+v %#v %s %q", secrets, secrets, secrets, secrets[0], secrets[0]), string(encoded)} {
		if strings.Contains(printed, "hunter") {
			t.Errorf("a secret prints as %s", printed)
		}
	}
}

func TestNoMistakeRepeatsASecret(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"/q8Jw3nA0mS2e7Zk1P4v6Yx9bD5fGhTcUuRrLoIi", "./q8Jw3nA0mS2e7Zk1P4v6", "../q8Jw3nA0mS2e7Zk1P4v6", "ssm:/q8Jw3nA0mS2e7Zk1P4v6", "~/q8Jw3nA0mS2e7Zk1P4v6"} {
		e := from(map[string]string{"JWT_SECRET": secret})
		if got := e.Secrets("JWT_SECRET", "./jwt.secret"); len(got) != 0 {
			t.Errorf("%.6s… is taken for the secret itself", secret)
		}
		if err := e.Err(); err == nil || strings.Contains(err.Error(), "q8Jw3nA0mS2e7Zk1P4v6") {
			t.Errorf("%.6s…: the mistake is told as %v", secret, err)
		}
	}
}

func TestRunTimeoutsOfAFunctionFitAnInvocation(t *testing.T) {
	t.Parallel()
	for setting, ok := range map[string]bool{`[{"jobs":"*","timeout":"14m50s"}]`: true, `[{"jobs":"*","timeout":"14m51s"}]`: false} {
		e := from(map[string]string{"RETRY_POLICIES": setting})
		if e.FunctionRetryPolicies(); (e.Err() == nil) != ok {
			t.Errorf("%s: %v", setting, e.Err())
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(`{"rules":[{"effect":"allow","actions":["read"]}]}`))
	f.Add([]byte(`{"deny":[{"subject":"a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		policy, err := config.ParsePolicy(data)
		if err != nil && domain.KindOf(err) != domain.Invalid {
			t.Errorf("ParsePolicy = %v, want Invalid", err)
		}
		if err == nil && len(policy.Validate(1)) == 0 {
			policy.AtGate(domain.Principal{Scopes: []string{"jobs:read"}}, domain.ActionRead)
		}
	})
}
