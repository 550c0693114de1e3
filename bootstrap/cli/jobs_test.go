package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/bootstrap/local"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

// handlers are what the scripts' jobs come to.
var handlers = jobs.Handlers{
	"test.echo": func(_ context.Context, run jobs.Run) ([]byte, error) { return run.Job.Payload, nil },
	"test.fail": func(context.Context, jobs.Run) ([]byte, error) {
		return nil, domain.Permanent(errors.New("the \x1b[31mprinter\x1b[0m burns"))
	},
	// test.flaky succeeds at the second attempt.
	"test.flaky": func(_ context.Context, run jobs.Run) ([]byte, error) {
		if run.Attempt == 1 {
			return nil, &domain.Error{Kind: domain.Unavailable, Message: "not yet", RetryAfter: 100 * time.Millisecond}
		}
		return []byte(`"at last"`), nil
	},
	// test.gate waits until the file that its payload names is there.
	"test.gate": jobs.Typed(func(ctx context.Context, run jobs.Run, file string) (string, error) {
		if err := run.Progress(ctx, 40, "at the gate"); err != nil {
			return "", err
		}
		for {
			if _, err := os.Stat(file); err == nil {
				return "through", nil
			}
			select {
			case <-ctx.Done():
				return "", context.Cause(ctx)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}),
}

// startLocal runs the service until the test ends, and returns its address.
func startLocal(t *testing.T, settings map[string]string) string {
	t.Helper()
	settings["LISTEN_ADDR"], settings["DATA_DIR"], settings["LOG_LEVEL"] = "127.0.0.1:0", t.TempDir(), "error"
	said, stdout := io.Pipe()
	var log bytes.Buffer
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := local.Run(ctx, nil, func(name string) string { return settings[name] }, stdout, &log, handlers)
		_ = stdout.Close() // of a pipe, it never fails
		ended <- err
	}()
	var url string
	lines := bufio.NewScanner(said)
	for url == "" && lines.Scan() {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "API "); ok {
			url = strings.TrimSpace(rest)
		}
	}
	rest := make(chan struct{})
	go func() { // ends when the service does
		defer close(rest)
		for lines.Scan() {
			continue
		}
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the service ended: %v\n%s", err, &log)
		}
		<-rest
	})
	if url == "" {
		t.Fatal("the service did not say where it is")
	}
	return url
}

// What differs from run to run, and what stands for it in golden output.
var varying = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]{3,4}`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "CLOCK"},
	{regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)?m?s\b`), "SPAN"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`\((request|decision) [0-9A-Za-z-]+\)`), "($1 ID)"},
	{regexp.MustCompile(`\b[A-Za-z][\w.-]*/\d+\b`), "WORKER"},
	{regexp.MustCompile(`(version +).* go1\..*`), "${1}VERSION"},
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// tidy puts names in the place of what varies; the first id of a job is JOB-1, and so on. Columns are apart by two
// spaces, whatever their width.
func tidy(text string) string {
	ids := make(map[string]string)
	text = uuid.ReplaceAllStringFunc(text, func(id string) string {
		if ids[id] == "" {
			ids[id] = fmt.Sprintf("JOB-%d", len(ids)+1)
		}
		return ids[id]
	})
	for _, v := range varying {
		text = v.is.ReplaceAllString(text, v.as)
	}
	return regexp.MustCompile(` {2,}(\S)`).ReplaceAllString(text, "  $1")
}

func TestCommandsAgainstARealService(t *testing.T) {
	t.Parallel()
	testscript.Run(t, realService(t, "testdata/jobs"))
}

// realService is how the scripts in a folder are run against a service of their own.
func realService(t *testing.T, dir string) testscript.Params {
	t.Helper()
	key := oidctest.NewKey("key-1", "ES256", 0)
	provider := &oidctest.Issuer{}
	provider.Publish(key)
	served := httptest.NewServer(provider)
	t.Cleanup(served.Close)
	provider.URL = served.URL
	server := startLocal(t, map[string]string{"OIDC_ISSUER": served.URL, "OIDC_AUDIENCE": oidctest.Audience})
	mint := func(changes oidctest.Object) string {
		return key.Sign(nil, oidctest.Claims(served.URL, time.Now()).With(changes))
	}
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TEST_CLOCK", "real")
			env.Setenv("TZ", "UTC")
			env.Setenv("JOBGATE_CONFIG_DIR", filepath.Join(env.WorkDir, "config"))
			env.Setenv("JOBGATE_SERVER", server)
			env.Setenv("JOBGATE_TOKEN", mint(oidctest.Object{
				"sub": filepath.Base(env.WorkDir), "scope": "jobs:submit jobs:read jobs:cancel jobs:redrive",
			}))
			env.Setenv("NOBODY", "00000000-0000-7000-8000-000000000000")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// tidy STREAM FILE writes what the program said to a file, with names in the place of what varies.
			"tidy": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(tidy(ts.ReadFile(args[0]))), 0o600))
			},
			// keep NAME sets a variable to the output before.
			"keep": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
			},
			// login CLAIMS... gives the script another token, with changes NAME=VALUE.
			"login": func(ts *testscript.TestScript, _ bool, args []string) {
				changes := oidctest.Object{"sub": filepath.Base(ts.Getenv("WORK"))}
				for _, arg := range args {
					name, value, _ := strings.Cut(arg, "=")
					changes[name] = value
					if name == "expired" {
						changes = changes.With(oidctest.Object{"exp": time.Now().Add(-time.Hour).Unix()})
					}
				}
				ts.Setenv("JOBGATE_TOKEN", mint(changes))
			},
			// status N PROGRAM ARGS... runs a program that has to end with that status.
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec("sh", append([]string{"-c", `n=$1; shift; "$@"; test $? -eq $n`, "sh"}, args...)...)
				ts.Check(err)
			},
			// until PROGRAM ARGS... REGEXP runs a program until it says that.
			"until": func(ts *testscript.TestScript, _ bool, args []string) {
				last := len(args) - 1
				want := regexp.MustCompile(args[last])
				for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
					err := ts.Exec(args[0], args[1:last]...)
					if said := ts.ReadFile("stdout"); want.MatchString(said) {
						return
					} else if time.Since(begun) > 20*time.Second {
						ts.Fatalf("it says %v and\n%s", err, said)
					}
				}
			},
			// secretive checks that the output before shows nothing of the token.
			"secretive": func(ts *testscript.TestScript, _ bool, _ []string) {
				shown := ts.ReadFile("stdout") + ts.ReadFile("stderr")
				for part := range strings.SplitSeq(ts.Getenv("JOBGATE_TOKEN"), ".") {
					if strings.Contains(shown, part) {
						ts.Fatalf("a part of the token is shown: %s", part)
					}
				}
			},
		},
	}
}
