//go:build !linux

package adaptertest

import "syscall"

// dieWithParent asks for nothing: only Linux ties a child's life to its parent's. Elsewhere a child ends in the test's
// cleanup, or with the terminal's Ctrl-C, which reaches it too.
func dieWithParent() *syscall.SysProcAttr { return nil }
