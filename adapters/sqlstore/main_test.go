package sqlstore_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/sqlstore"
	"github.com/jobgate/jobgate/domain"
)

// childEnv tells the test binary to be another process on the database that it names.
const childEnv = "SQLSTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if url := os.Getenv(childEnv); url != "" {
		if err := child(url, os.Args[1] == "exclusive", os.Args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child opens the database once it is told to, creates and claims a job of the given id, and stays until its input
// ends.
func child(url string, exclusive bool, id string) error {
	ctx := context.Background()
	in := bufio.NewReader(os.Stdin)
	fmt.Println("started")
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	store, err := sqlstore.Open(ctx, url, sqlstore.Options{Exclusive: exclusive})
	if err != nil {
		return err
	}
	job, err := domain.NewJob(domain.JobSpec{ID: id, Name: "child", Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention}, time.Now())
	if err != nil {
		return err
	}
	if _, _, err := store.Create(ctx, job); err != nil {
		return err
	}
	if _, err := store.Update(ctx, id, func(j domain.Job) (domain.Job, error) { return j.Claim(time.Now(), "token", "child") }); err != nil {
		return err
	}
	fmt.Println("claimed")
	_, _ = in.ReadString('\n')
	return store.Close()
}

// A process is a child under test.
type process struct {
	*exec.Cmd
	say   func(string)
	lines *bufio.Scanner
}

func startChild(t *testing.T, url, mode, id string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, self, mode, id)
	cmd.Env = append(os.Environ(), childEnv+"="+url)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		cancel()
	})
	return &process{Cmd: cmd, lines: bufio.NewScanner(out), say: func(line string) { _, _ = fmt.Fprintln(in, line) }}
}

// expect reads the child's next line.
func (p *process) expect(t *testing.T, want string) {
	t.Helper()
	if !p.lines.Scan() {
		t.Fatalf("the process ended before it said %q", want)
	}
	if got := p.lines.Text(); got != want {
		t.Fatalf("the process said %q, want %q", got, want)
	}
}
