package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/config"
	domainjobs "github.com/jobgate/jobgate/domain/jobs"
)

// The tests run the program in processes of its own: the test binary is started again with childEnv set, and is then
// the program with the handlers of childHandlers.
const (
	childEnv  = "JOBGATE_TEST_CHILD"  // "run", or "hold" to hold back each acknowledgement for ever
	startsEnv = "JOBGATE_TEST_STARTS" // file that gets a line for each start of a handler
	heldEnv   = "JOBGATE_TEST_HELD"   // file that gets a line for each acknowledgement held back
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		config.Main(runChild)
	}
	goleak.VerifyTestMain(m)
}

func runChild(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if getenv(childEnv) == "run" {
		return Run(ctx, args, getenv, stdout, stderr, childHandlers())
	}
	cfg, err := LoadConfig(getenv, childHandlers())
	if err != nil {
		return err
	}
	s, err := start(ctx, cfg, childHandlers(), zaplog.Console(stderr, "info"))
	if err != nil {
		return err
	}
	run := s.run
	s.run = func(ctx context.Context, event []byte) ([]byte, error) {
		response, err := run(ctx, event)
		appendLine(getenv(heldEnv), "held")
		<-make(chan struct{}) // until the process is killed
		return response, err
	}
	s.welcome(stdout)
	return s.serve(ctx)
}

// childHandlers records each start durably and then works for as many milliseconds as the payload says, in the first
// attempt only.
func childHandlers() domainjobs.Handlers {
	return domainjobs.Handlers{"*": domainjobs.Typed(func(ctx context.Context, run domainjobs.Run, in struct{ Millis int }) (any, error) {
		appendLine(os.Getenv(startsEnv), run.Job.ID)
		if run.Attempt > 1 {
			in.Millis = 0
		}
		timer := time.NewTimer(time.Duration(in.Millis) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})}
}

func appendLine(path, line string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
		err = firstError(err, f.Close())
	}
	if err != nil {
		panic(err)
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A child is one life of the program.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	ended  chan struct{}
	stderr *lockedBuffer
	url    string
	token  string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var (
	apiLine   = regexp.MustCompile(`(?m)^  API +(\S+)$`)
	tokenLine = regexp.MustCompile(`curl -sS -u '([^:]+):([^']+)'`)
)

// address returns where the program of dir listens: the same in each of its lives, because the built-in provider's URL
// is part of who its users are.
func address(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "address")
	if known, err := os.ReadFile(path); err == nil {
		return string(known)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	found := listener.Addr().String()
	if err := firstError(listener.Close(), os.WriteFile(path, []byte(found), 0o600)); err != nil {
		t.Fatal(err)
	}
	return found
}

// startChild starts the program on dir and waits until it says that it is ready. The mode may be followed by flags.
func startChild(t *testing.T, dir, mode string, env ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	mode, flags, _ := strings.Cut(mode, " ")
	c := &child{t: t, cmd: exec.Command(exe, strings.Fields(flags)...), ended: make(chan struct{}), stderr: &lockedBuffer{}} //nolint:noctx // this very binary, ended below
	c.cmd.Env = append([]string{
		childEnv + "=" + mode, startsEnv + "=" + filepath.Join(dir, "starts"), heldEnv + "=" + filepath.Join(dir, "held"),
		"DATA_DIR=" + filepath.Join(dir, "data"), "LISTEN_ADDR=" + address(t, dir),
	}, env...)
	c.cmd.Stderr = c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	go func() {
		var text strings.Builder
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			fmt.Fprintln(&text, lines.Text())
			if strings.HasPrefix(lines.Text(), "Stop with") {
				ready <- text.String()
			}
		}
		_ = c.cmd.Wait() // the state is looked at by whoever ended it
		close(c.ended)
	}()
	t.Cleanup(c.kill)
	select {
	case text := <-ready:
		c.url = apiLine.FindStringSubmatch(text)[1]
		credentials := tokenLine.FindStringSubmatch(text)
		c.token = c.fetchToken(credentials[1], credentials[2])
	case <-c.ended:
		t.Fatalf("the program ended before it was ready:\n%s", c.stderr)
	case <-time.After(time.Minute):
		t.Fatalf("the program did not become ready:\n%s", c.stderr)
	}
	return c
}

// kill ends the process as kill -9 does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
}

// terminate asks the process to stop and returns its exit code.
func (c *child) terminate() int {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		c.t.Fatalf("the program did not stop:\n%s", c.stderr)
	}
	return c.cmd.ProcessState.ExitCode()
}

func (c *child) fetchToken(id, secret string) string {
	c.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"jobs:submit jobs:read"}}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+"/oidc/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	req.SetBasicAuth(id, secret)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		Token string `json:"access_token"`
	}
	c.do(req, http.StatusOK, &answer)
	return answer.Token
}

// do makes a request on a connection of its own, and decodes the answer.
func (c *child) do(req *http.Request, want int, out any) {
	c.t.Helper()
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.stderr)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		c.t.Fatalf("%s %s: %s, %v, want %d\n%s\n%s", req.Method, req.URL, resp.Status, err, want, body, c.stderr)
	}
	if err := json.Unmarshal(body, out); err != nil {
		c.t.Fatal(err)
	}
}

// submit returns the id of a job that was answered 201, and whose handler works for that long.
func (c *child) submit(work time.Duration) string {
	c.t.Helper()
	body := fmt.Sprintf(`{"name":"test-job","payload":{"Millis":%d}}`, work.Milliseconds())
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+"/jobs", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	var job jobDocument
	c.do(req, http.StatusCreated, &job)
	return job.ID
}

func (c *child) job(id string) jobDocument {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.url+"/jobs/"+id, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	var job jobDocument
	c.do(req, http.StatusOK, &job)
	return job
}

// eventually waits until done, and fails the test when it is not in time.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("in vain waited until %s", what)
		}
	}
}

// lines returns how often each line stands in a file that may not be there yet.
func lines(t *testing.T, path string) map[string]int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
		if line != "" {
			counts[line]++
		}
	}
	return counts
}

func TestEveryJobOutlivesKilledProcesses(t *testing.T) {
	t.Parallel()
	kills := 20
	if testing.Short() {
		kills = 3
	}
	for _, c := range []struct {
		name string
		mode string
		work time.Duration
		// wait returns when the moment to kill the process has come: nth is the number of lives so far.
		wait func(t *testing.T, dir, id string, nth int)
	}{
		{"right after a 201", "run", 0, func(*testing.T, string, string, int) {}},
		{"in mid-handler", "run", 20 * time.Second, func(t *testing.T, dir, id string, _ int) {
			eventually(t, "the handler has begun", func() bool { return lines(t, filepath.Join(dir, "starts"))[id] > 0 })
		}},
		{"between settle and acknowledge", "hold", 0, func(t *testing.T, dir, _ string, nth int) {
			eventually(t, "the outcome is settled", func() bool { return lines(t, filepath.Join(dir, "held"))["held"] >= nth })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var ids []string
			var killed []time.Time
			for n := range kills {
				process := startChild(t, dir, c.mode)
				id := process.submit(c.work)
				ids = append(ids, id)
				c.wait(t, dir, id, n+1)
				killed = append(killed, time.Now())
				process.kill()
			}
			process := startChild(t, dir, "run")
			most := 0
			for _, id := range ids {
				var job jobDocument
				eventually(t, "the job succeeds", func() bool {
					job = process.job(id)
					return job.Status == "succeeded"
				})
				allowed := 1
				for _, at := range killed {
					if at.After(job.CreatedAt) && at.Before(job.FinishedAt) {
						allowed++
					}
				}
				starts := lines(t, filepath.Join(dir, "starts"))
				if starts[id] < 1 || starts[id] > allowed {
					t.Errorf("the handler of job %s was started %d times, it lived through %d kills", id, starts[id], allowed-1)
				}
				most = max(most, starts[id])
			}
			if code := process.terminate(); code != 0 {
				t.Errorf("the last process ended with %d, want 0", code)
			}
			t.Logf("%d kills, %d jobs, all succeeded; no handler was started more than %d times", kills, len(ids), most)
		})
	}
}

func TestStopLetsRunningJobsFinish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	process := startChild(t, dir, "run")
	id := process.submit(700 * time.Millisecond)
	eventually(t, "the handler has begun", func() bool { return lines(t, filepath.Join(dir, "starts"))[id] > 0 })
	if code := process.terminate(); code != 0 {
		t.Errorf("the program ended with %d, want 0:\n%s", code, process.stderr)
	}
	process = startChild(t, dir, "run")
	if job := process.job(id); job.Status != "succeeded" || len(job.History) != 1 {
		t.Errorf("after the stop the job is %s with %d attempts, want succeeded with 1", job.Status, len(job.History))
	}
}

func TestStopInterruptsJobsPastTheDrainTimeAndLosesNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	process := startChild(t, dir, "run", "DRAIN_TIMEOUT=100ms", `RETRY_POLICIES=[{"jobs":"*","attempts":1}]`)
	id := process.submit(25 * time.Second)
	eventually(t, "the handler has begun", func() bool { return lines(t, filepath.Join(dir, "starts"))[id] > 0 })
	if code := process.terminate(); code != 0 {
		t.Errorf("the program ended with %d, want 0:\n%s", code, process.stderr)
	}
	process = startChild(t, dir, "run")
	eventually(t, "the job succeeds in its one attempt, for the interrupted one is not charged", func() bool {
		return process.job(id).Status == "succeeded"
	})
	if starts := lines(t, filepath.Join(dir, "starts"))[id]; starts != 2 {
		t.Errorf("the handler was started %d times, want 2", starts)
	}
}

func TestKeysAreRotatedByAStartAndOldTokensStayValid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	process := startChild(t, dir, "run")
	id, old := process.submit(0), process.token
	if code := process.terminate(); code != 0 {
		t.Fatalf("the program ended with %d:\n%s", code, process.stderr)
	}
	process = startChild(t, dir, "run -rotate-keys")
	header := func(token string) string { h, _, _ := strings.Cut(token, "."); return h }
	if header(process.token) == header(old) {
		t.Error("the key that signs did not change")
	}
	process.job(id) // by the new key
	process.token = old
	process.job(id)
}

func TestKeysOfAnotherProviderCannotBeRotated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	err := Run(t.Context(), []string{"-rotate-keys"}, environment(map[string]string{
		"DATA_DIR": dir, "LISTEN_ADDR": "127.0.0.1:0", "OIDC_ISSUER": "https://id.example.com", "OIDC_AUDIENCE": "jobgate",
	}), io.Discard, io.Discard, nil)
	if !errors.Is(err, config.ErrUsage) {
		t.Errorf("Run = %v, want a usage error", err)
	}
}

func TestSecondProcessOnOneDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startChild(t, dir, "run")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	second := exec.CommandContext(t.Context(), exe)
	second.Env = []string{childEnv + "=run", "DATA_DIR=" + filepath.Join(dir, "data"), "LISTEN_ADDR=127.0.0.1:0"}
	out, err := second.CombinedOutput()
	if code := second.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(out), "data") || strings.Contains(string(out), "ready") {
		t.Errorf("a second process ended with %s (%v) and said:\n%s", strconv.Itoa(code), err, out)
	}
}
