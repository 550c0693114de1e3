package adaptertest

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// invokeTimeout is the function timeout of Invoke.
	invokeTimeout = 30 * time.Second
	// shutdownTimeout is what Lambda leaves a function between SIGTERM and SIGKILL.
	// https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
	shutdownTimeout = 500 * time.Millisecond
)

// Function is a running Lambda artefact: one execution environment, which takes one event at a time.
type Function struct {
	process *process
	api     *runtimeAPI
	began   time.Time
	ended   chan struct{} // closed once the process is gone and api knows
}

// FunctionError is a failed invocation as Lambda shows it to whoever invoked the function: what the function answered
// (Type is the Go type of the error), or Runtime.ExitError and Sandbox.Timedout when it could not.
type FunctionError struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

// ExitError is a function that is not running: it ended by itself, was stopped, or was killed at its timeout.
type ExitError struct {
	Init   bool // before its first poll, so that no event ever reached it
	Code   int  // exit code; -1 when a signal ended it
	Stderr string
}

// Error says when the function ended and what it wrote until then.
func (e *ExitError) Error() string {
	when := "after its init"
	if e.Init {
		when = "in its init"
	}
	return fmt.Sprintf("the function exited %s with code %d:\n%s", when, e.Code, e.Stderr)
}

// BuildFunction builds bootstrap/cmd/<name> with the flags of `make functions`, for this machine, and returns the path
// of the artefact: dist/<name>/bootstrap in a directory that goes with t. Each call links anew, which costs about a
// second: tests that share an artefact build it in their common parent.
func BuildFunction(t testing.TB, name string) string {
	t.Helper()
	return Build(t, name, "./bootstrap/cmd/"+name)
}

// Build is BuildFunction for any main package of this module, or file that is one.
func Build(t testing.TB, name, pkg string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // the first build compiles all of the AWS SDK
	defer cancel()
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("go env GOMOD: %v", err)
	}
	artefact := filepath.Join(t.TempDir(), "dist", name, "bootstrap")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", artefact, pkg)
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(gomod)))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return artefact
}

// StartFunction starts an artefact as Lambda does: with the variables Lambda sets, made-up credentials and env, and
// nothing of this process's own environment. It returns at once; Ready waits for the init. The function is stopped
// when t ends.
func StartFunction(t testing.TB, binary string, env map[string]string) *Function {
	t.Helper()
	name := filepath.Base(filepath.Dir(binary))
	api := newRuntimeAPI(name)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)

	cmd := command(t, binary)
	cmd.Dir = filepath.Dir(binary)
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
	cmd.Env = []string{
		"AWS_LAMBDA_RUNTIME_API=" + server.Listener.Addr().String(),
		"AWS_LAMBDA_FUNCTION_NAME=" + name,
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/" + name,
		"AWS_LAMBDA_LOG_STREAM_NAME=test",
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_REGION=us-east-1",
		"AWS_DEFAULT_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=test",
		"AWS_SECRET_ACCESS_KEY=test",
		"LAMBDA_TASK_ROOT=" + filepath.Dir(binary),
		"_HANDLER=bootstrap",
		"LANG=en_US.UTF-8",
		"TZ=:UTC",
		"PATH=/usr/local/bin:/usr/bin:/bin",
	}
	for key, value := range env { // of two values of one name, the later counts
		cmd.Env = append(cmd.Env, key+"="+value)
	}

	f := &Function{api: api, began: time.Now(), ended: make(chan struct{})}
	f.process = start(t, cmd)
	go func() {
		defer close(f.ended)
		<-f.process.exited
		api.end(func(init bool) error {
			return &ExitError{Init: init, Code: cmd.ProcessState.ExitCode(), Stderr: f.Stderr()}
		})
	}()
	t.Cleanup(f.Stop)
	return f
}

// Ready waits until the function asks for its first event. A function that ended instead is an *ExitError, one that
// reported its init as failed an error with what it reported.
func (f *Function) Ready(ctx context.Context) error {
	return f.api.ready(ctx)
}

// ColdStart is the time from the start of the process to its first poll. Ready comes before it.
func (f *Function) ColdStart() time.Duration { return f.api.firstPoll().Sub(f.began) }

// Invoke hands the function an event, once it is free, and waits for the answer for at most 30 s.
//
// What the function answers is either the response or a *FunctionError. An error means that the function saw nothing
// of the event, because it is not running (*ExitError), or that ctx ended, which leaves the function at work.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, *FunctionError, error) {
	return f.InvokeWithin(ctx, invokeTimeout, event)
}

// InvokeWithin is Invoke with a function timeout of one's own. At the timeout the process is killed, as Lambda does,
// and stays down: start another.
func (f *Function) InvokeWithin(ctx context.Context, timeout time.Duration, event []byte) ([]byte, *FunctionError, error) {
	return f.api.invoke(ctx, timeout, event, f.kill)
}

// PID is the id of the function's process.
func (f *Function) PID() int { return f.process.cmd.Process.Pid }

// Stdout is what the function has written to standard output so far.
func (f *Function) Stdout() string {
	return read(f.process.stdout)
}

// Stderr is what the function has written to standard error so far.
func (f *Function) Stderr() string {
	return read(f.process.stderr)
}

// Stop ends the function as Lambda does: SIGTERM and half a second's grace if it asked for that by registering an
// extension, SIGKILL otherwise and then. It returns when the process is gone, and may be called again.
func (f *Function) Stop() {
	if f.api.wantsSIGTERM() {
		_ = f.process.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-f.process.exited:
		case <-time.After(shutdownTimeout):
		}
	}
	f.kill()
}

func (f *Function) kill() {
	f.process.kill()
	<-f.ended
}
