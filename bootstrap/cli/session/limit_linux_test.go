package session

import (
	"os"
	"os/signal"
	"syscall"
)

// limitFiles has writes beyond 64 KiB fail, as on a disk that is full.
func limitFiles() {
	if os.Getenv("SESSION_TEST_FULL") == "" {
		return
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
		panic(err)
	}
}
