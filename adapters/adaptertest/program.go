package adaptertest

import (
	"os/exec"
	"testing"
)

// Program is a process of one of our programs, for a test to kill.
type Program struct {
	process *process
}

// Start runs a command until it ends, is killed, or the test is over. What it writes to stdout and stderr is kept, and
// logged when the test fails. It is for the goroutine of t; the methods of what it returns are for any.
func Start(t testing.TB, cmd *exec.Cmd) *Program {
	t.Helper()
	return &Program{start(t, cmd)}
}

// PID is the process's id.
func (p *Program) PID() int { return p.process.cmd.Process.Pid }

// Kill ends the process with SIGKILL and returns when it is gone.
func (p *Program) Kill() { p.process.kill() }

// Exited is closed when the process has ended.
func (p *Program) Exited() <-chan struct{} { return p.process.exited }

// Output returns what the process has written to stdout and to stderr so far.
func (p *Program) Output() (stdout, stderr string) {
	return read(p.process.stdout), read(p.process.stderr)
}
