package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jobgate/jobgate/bootstrap/config"
	domainjobs "github.com/jobgate/jobgate/domain/jobs"
)

func environment(settings map[string]string) func(string) string {
	return func(name string) string { return settings[name] }
}

func TestDemoGoesTheWholeWay(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if err := Run(t.Context(), []string{"-demo"}, environment(nil), &stdout, &stderr, nil); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	for _, want := range []string{"alice logged in", `POST /jobs {"name":"test-job"}: 201`, "attempt 1 begins", "succeeded", "without a token: 401"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the demo did not say %q:\n%s", want, stdout.String())
		}
	}
	if stderr.Len() > 0 {
		t.Errorf("the demo logged:\n%s", stderr.String())
	}
}

func TestDemoFailsWhenItsJobDoes(t *testing.T) {
	t.Parallel()
	handlers := domainjobs.Handlers{"*": func(context.Context, domainjobs.Run) ([]byte, error) { return []byte("not JSON"), nil }}
	err := Run(t.Context(), []string{"-demo"}, environment(nil), io.Discard, io.Discard, handlers)
	if err == nil || !strings.Contains(err.Error(), "the job is dead") {
		t.Errorf("the demo of a handler that fails ended with %v", err)
	}
}

func TestWrongSettingsAreAllReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	err := Run(t.Context(), []string{"-check-config"}, environment(map[string]string{
		"LISTEN_ADDR": "0.0.0.0:8080", "DATA_DIR": dir, "DURABILITY": "eternal", "LOG_LEVEL": "loud", "DRAIN_TIMEOUT": "soon",
		"RETRY_POLICIES": `[{"jobs":"*","attempts":0,"timeout":"1x"}]`, "ACCESS_POLICY": `{"rules":[{"effect":"permit","actions":["fly"]}]}`,
		"MAX_BODY": "1GiB", "OIDC_ISSUER": "http://id.example.com",
	}), io.Discard, io.Discard, domainjobs.Handlers{"report.*.x": func(context.Context, domainjobs.Run) ([]byte, error) { return nil, nil }})
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		t.Fatalf("Run = %v, want the problems", err)
	}
	named := map[string]bool{}
	for _, p := range problems {
		named[p.Name] = true
		if p.Reason == "" || p.Example == "" && p.Name != "handlers" {
			t.Errorf("the problem of %s has the reason %q and the example %q", p.Name, p.Reason, p.Example)
		}
	}
	for _, name := range []string{
		"LISTEN_ADDR", "DURABILITY", "LOG_LEVEL", "DRAIN_TIMEOUT", "RETRY_POLICIES", "ACCESS_POLICY", "MAX_BODY", "OIDC_ISSUER", "handlers",
	} {
		if !named[name] {
			t.Errorf("nothing is said about %s:\n%v", name, err)
		}
	}
	if entries, _ := filepath.Glob(filepath.Join(dir, "*")); len(entries) > 0 {
		t.Errorf("a program with wrong settings left %v", entries)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args  []string
		says  string
		usage bool
	}{
		{args: []string{"-check-config"}, says: "the settings are right"},
		{args: []string{"-version"}, says: "local "},
		{args: []string{"-nonsense"}, usage: true},
		{args: []string{"serve"}, usage: true},
	} {
		var stdout bytes.Buffer
		err := Run(t.Context(), c.args, environment(nil), &stdout, io.Discard, nil)
		if errors.Is(err, config.ErrUsage) != c.usage || err != nil && !c.usage {
			t.Errorf("%v: %v", c.args, err)
		}
		if !strings.Contains(stdout.String(), c.says) {
			t.Errorf("%v: said %q, want %q", c.args, stdout.String(), c.says)
		}
	}
}

func TestOnlyThisMachinesNamesAreAnswered(t *testing.T) {
	t.Parallel()
	process := startChild(t, t.TempDir(), "run")
	_, port, _ := strings.Cut(strings.TrimPrefix(process.url, "http://"), ":")
	for host, want := range map[string]int{
		"127.0.0.1:" + port: http.StatusOK, "localhost:" + port: http.StatusOK, "[::1]:" + port: http.StatusOK,
		"jobgate.example:" + port: http.StatusMisdirectedRequest, "127.0.0.1": http.StatusMisdirectedRequest,
		"127.0.0.1:1": http.StatusMisdirectedRequest, "127.0.0.1.example:" + port: http.StatusMisdirectedRequest,
	} {
		for _, path := range []string{
			"/healthz", "/readyz", "/openapi.json", "/oidc/.well-known/openid-configuration", "/oidc/keys", "/oidc/device",
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, process.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host, req.Close = host, true
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("GET %s with Host %s: %d, want %d", path, host, resp.StatusCode, want)
			}
		}
	}
}
