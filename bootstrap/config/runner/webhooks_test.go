package runner_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/runner"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
	jobID  = "0198c0de-0000-7000-8000-000000000001"
)

// load returns what the settings come to, and each mistake in them.
func load(settings map[string]string, handlers jobs.Handlers) (runner.Config, []string) {
	env := config.From(func(name string) string { return settings[name] })
	cfg := runner.LoadConfig(env, handlers, 1)
	problems, _ := errors.AsType[config.Problems](env.Err())
	var mistakes []string
	for _, p := range problems {
		mistakes = append(mistakes, p.Name+": "+p.Reason)
	}
	return cfg, mistakes
}

func returns(output string) jobs.HandlerFunc {
	return func(context.Context, jobs.Run) ([]byte, error) { return []byte(output), nil }
}

func TestEveryMistakeInWebhooksIsReportedWithoutSecrets(t *testing.T) {
	t.Parallel()
	const (
		noURL    = "url: must be a URL like https://hooks.example.com/jobs"
		noSecret = "secret: must be whsec_ and the base64 of 24 to 64 bytes"
	)
	handlers := jobs.Handlers{"mail.*": returns("")}
	tests := map[string]struct {
		webhooks string
		private  string
		want     []string
	}{
		"none":           {"", "", nil},
		"an empty list":  {"[]", "true", nil},
		"one":            {`[{"jobs":"report.*","url":"https://hooks.example.com/a","secret":"` + secret + `"}]`, "", nil},
		"all of it":      {`[{"jobs":"*","url":"https://hooks.example.com/a","secret":"` + secret + ", " + secret + `","timeout":"1m30s"}]`, "false", nil},
		"on this laptop": {`[{"jobs":"a","url":"http://127.0.0.1:8081/","secret":"` + secret + `"}]`, "true", nil},
		"private": {
			`[{"jobs":"a","url":"https://127.0.0.1/hunter2","secret":"` + secret + `"},{"jobs":"b","url":"http://hooks.example.com/hunter2","secret":"` + secret + `"}]`, "",
			[]string{"WEBHOOKS: [0] url: names an address that is not on the public internet", "WEBHOOKS: [1] url: must be https, unless private addresses are allowed"},
		},
		"several": {
			`[{"jobs":"a b","url":"hunter2","secret":"hunter2","timeout":"soon"},{"jobs":"mail.*","url":"https://u:hunter2@h.example","secret":"` + secret + `,hunter2,"},
				{"jobs":"c","url":"https://h.example","secret":"` + secret + `","timeout":"0s"},{"jobs":"c","url":"https://h.example","secret":"` + secret + `","timeout":"13h"}]`, "yes",
			[]string{
				`WEBHOOK_ALLOW_PRIVATE: "yes" is neither true nor false`,
				`WEBHOOKS: [0] jobs: "a b" is no job name or pattern like "report.*"`, `WEBHOOKS: [0] timeout: "soon" is no duration above 0`,
				"WEBHOOKS: [0] " + noURL, "WEBHOOKS: [0] " + noSecret,
				"WEBHOOKS: [1] jobs: mail.* has a handler in this program already", "WEBHOOKS: [1] url: must have no user and no password",
				"WEBHOOKS: [1] secret: there must be one, or two while rotating", "WEBHOOKS: [1] " + noSecret,
				`WEBHOOKS: [2] timeout: "0s" is no duration above 0`,
				"WEBHOOKS: [3] jobs: c has a webhook already", "WEBHOOKS: [3] timeout: must be above 0 and at most 12h",
			},
		},
		"empty members": {
			`[{}]`, "", []string{`WEBHOOKS: [0] jobs: "" is no job name or pattern like "report.*"`, "WEBHOOKS: [0] " + noURL, "WEBHOOKS: [0] " + noSecret},
		},
		"unknown member":    {`[{"job":"a"}]`, "", []string{`WEBHOOKS: the member "/0/job" is not known, at byte 2; member names are case-sensitive`}},
		"a list of secrets": {`[{"jobs":"a","url":"https://h.example","secret":["hunter2"]}]`, "", []string{`WEBHOOKS: "/0/secret" must be a string, at byte 48`}},
		"no JSON":           {`hunter2`, "", []string{"WEBHOOKS: this is not JSON: invalid character 'h' at start of value, at byte 0"}},
		"no file":           {"./hunter2/webhooks.json", "", []string{"WEBHOOKS: is taken for the path of a file, which cannot be read: no such file or directory"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, got := load(map[string]string{"WEBHOOKS": tt.webhooks, "WEBHOOK_ALLOW_PRIVATE": tt.private}, handlers)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("mistakes (-want +got):\n%s", diff)
			}
			if strings.Contains(strings.Join(got, ""), "hunter2") {
				t.Errorf("a mistake repeats a secret: %q", got)
			}
		})
	}
}

func TestWebhooksAndHandlersAreMatchedTogether(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "webhooks.json")
	text := `[{"jobs":"report.*","url":"https://hooks.example.com/a","secret":"` + secret + `"},{"jobs":"mail.send","url":"https://hooks.example.com/b","secret":"` + secret + `"}]`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	own := jobs.Handlers{"mail.*": returns(`"own"`), "report.render": returns(`"own"`)}
	cfg, mistakes := load(map[string]string{"WEBHOOKS": file}, own)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	all := cfg.Handlers(own, zap.NewNop())
	for name, want := range map[string]string{"report.render": "report.render", "report.send": "report.*", "mail.send": "mail.send", "mail.read": "mail.*", "other": ""} {
		if got := all.Pattern(name); got != want {
			t.Errorf("%s is handled by %q, want %q", name, got, want)
		}
	}
	if len(own) != 2 {
		t.Errorf("the program's handlers are now %v", own)
	}
}

func TestJobsAreLoggedOnlyWhereNothingElseIsSet(t *testing.T) {
	t.Parallel()
	hook := `[{"jobs":"report.*","url":"https://hooks.example.com/a","secret":"` + secret + `"}]`
	for name, tt := range map[string]struct {
		webhooks string
		own      jobs.Handlers
		want     string
	}{
		"nothing":   {"", nil, "*"},
		"no hook":   {"[]", jobs.Handlers{}, "*"},
		"a handler": {"", jobs.Handlers{"mail.*": returns("")}, ""},
		"a webhook": {hook, nil, ""},
	} {
		cfg, mistakes := load(map[string]string{"WEBHOOKS": tt.webhooks}, tt.own)
		if got := cfg.Handlers(tt.own, zap.NewNop()).Pattern("other"); got != tt.want || len(mistakes) > 0 {
			t.Errorf("%s: another job is handled by %q, want %q; %v", name, got, tt.want, mistakes)
		}
	}
}

func TestAWebhookRunsAJobAndOnlyTheLogNamesItsAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte(`{"by":"` + r.Header.Get("webhook-id") + `"}`))
	}))
	t.Cleanup(server.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	address := gone.Listener.Addr().String()
	cfg, mistakes := load(map[string]string{
		"WEBHOOKS": `[{"jobs":"report.*","url":"` + server.URL + `","secret":"` + secret + `"},
			{"jobs":"mail.*","url":"` + gone.URL + `","secret":"` + secret + `"}]`,
		"WEBHOOK_ALLOW_PRIVATE": "true",
	}, nil)
	if len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	core, logs := observer.New(zap.WarnLevel)
	store := memory.NewStore(time.Now)
	worker := runner.New(cfg, store, nil, zap.New(core))
	deliver := func(id, name string) domain.Job {
		t.Helper()
		job, err := domain.NewJob(domain.JobSpec{ID: id, Name: name, Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := store.Create(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		worker.Deliver(t.Context(), domain.Delivery{MessageID: "m", SentAt: time.Now(), JobID: id})
		if job, err = store.Get(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		return job
	}
	if job := deliver(jobID, "report.render"); job.Status != domain.Succeeded || string(job.Output) != `{"by":"`+jobID+`"}` {
		t.Errorf("the job is %s: %q, %+v", job.Status, job.Output, job.History)
	}
	job := deliver("0198c0de-0000-7000-8000-000000000002", "mail.send")
	if got := job.History[0].Error; job.Status != domain.Queued || got != "the webhook could not be reached" {
		t.Errorf("the job is %s: %q", job.Status, got)
	}
	lines := logs.FilterMessage("a webhook was not reached").All()
	if len(lines) != 1 || !strings.Contains(lines[0].ContextMap()["error"].(string), address) || lines[0].ContextMap()["job_id"] != job.ID {
		t.Errorf("logged: %+v, want the address %s", lines, address)
	}
}

func FuzzWebhooks(f *testing.F) {
	for _, seed := range []string{
		``, `[]`, `null`, `[null]`, `{}`, `[{}]`, `[{"jobs":"a","url":"https://h.example","secret":"` + secret + `","timeout":"15s"}]`,
		`[{"jobs":"*","url":"https://[::1]:443","secret":"whsec_,whsec_"}]`, `[{"jobs":"a"},{"jobs":"a"}]`, `ssm:webhooks`, `./webhooks.json`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg, mistakes := load(map[string]string{"WEBHOOKS": text}, nil)
		if len(mistakes) > 0 {
			return
		}
		for pattern := range cfg.Webhooks {
			if !domain.ValidNamePattern(pattern) || cfg.Webhooks[pattern] == nil {
				t.Errorf("%q is accepted: the pattern %q", text, pattern)
			}
		}
		if problems := cfg.Handlers(nil, zap.NewNop()).Validate(); len(problems) > 0 {
			t.Errorf("%q is accepted: %v", text, problems)
		}
	})
}
