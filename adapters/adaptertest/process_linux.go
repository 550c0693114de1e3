package adaptertest

import "syscall"

// dieWithParent has the kernel kill the child when the test binary ends without its cleanups: by a panic, a test
// timeout or kill -9.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
