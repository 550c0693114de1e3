// Package adaptertest starts the real parts that contract suites and end-to-end tests run against: a RabbitMQ, an AWS in a box,
// and our own Lambda artefacts behind the Lambda Runtime API. Only tests import it.
//
// A part runs as a process of its own, on a port of its own, in a temporary directory, and ends with the test that
// started it. A program that is not installed skips the test, saying how to install it, and fails it where CI=true.
package adaptertest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// startTimeout bounds how long a part may take until it answers, on a machine that is busy with other tests.
const startTimeout = time.Minute

// Need returns the path of a program. Without the program it ends the test: skipped, or failed where CI=true.
func Need(t testing.TB, program, install string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed, and CI skips nothing; install it with: %s", program, install)
	}
	t.Skipf("%s is not installed; install it with: %s", program, install)
	return ""
}

// command prepares a process for start. The context of a test ends before its cleanups, which still need the process.
func command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
}

// process is a child that does not outlive the test.
type process struct {
	cmd    *exec.Cmd
	stdout string // path
	stderr string // path
	exited chan struct{}
}

// start runs cmd until it exits or the test ends. When the test fails, its log gets what the process wrote.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{
		cmd:    cmd,
		stdout: filepath.Join(dir, "stdout"),
		stderr: filepath.Join(dir, "stderr"),
		exited: make(chan struct{}),
	}
	// Files and not pipes: a pipe needs a reader for as long as any grandchild holds it open.
	stdout, err := os.Create(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	stderr, err := os.Create(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = dieWithParent()
	}

	started := make(chan error, 1)
	go func() {
		// The kernel's "parent" is the thread that started the child: it has to live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // the outcome stays in cmd.ProcessState
		close(p.exited)
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s: %v\n%s%s", cmd.Path, cmd.ProcessState, read(p.stdout), read(p.stderr))
		}
	})
	return p
}

// kill ends the process at once and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
