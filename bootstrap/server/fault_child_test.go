package server_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jobgate/jobgate/bootstrap/server"
	"github.com/jobgate/jobgate/domain/jobs"
)

// The fault test runs the program in processes of its own: the test binary is started again with childEnv set, and is
// then the program, with a handler that records each of its starts.
const (
	childEnv  = "JOBGATE_TEST_CHILD"  // anything: be the program
	startsEnv = "JOBGATE_TEST_STARTS" // file that gets a line for each start of a handler
	tmpfsEnv  = "JOBGATE_TEST_TMPFS"  // directory to mount a file system of tmpfsBytes at, before anything else
	probeEnv  = "JOBGATE_TEST_PROBE"  // anything: do no more than that
)

// task is the payload of a job in the fault test: what it was submitted as, and how long its handler works.
type task struct {
	Key    string
	Millis int
}

func childMain() {
	if dir := os.Getenv(tmpfsEnv); dir != "" {
		if err := mountTmpfs(dir); err != nil {
			fmt.Fprintln(os.Stderr, "mount a tmpfs:", err)
			os.Exit(1)
		}
	}
	if os.Getenv(probeEnv) != "" {
		os.Exit(0)
	}
	// One write a line, each at the end of the file: what a killed process has recorded stays, and processes do not mix.
	starts, err := os.OpenFile(os.Getenv(startsEnv), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	server.Main(jobs.Handlers{"*": jobs.Typed(func(ctx context.Context, run jobs.Run, in task) (any, error) {
		if _, err := fmt.Fprintf(starts, "%s %s %d\n", in.Key, run.Job.ID, run.Attempt); err != nil {
			panic(err)
		}
		timer := time.NewTimer(time.Duration(in.Millis) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})})
}
