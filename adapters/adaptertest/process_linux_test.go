package adaptertest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The test runs itself as a child that starts a process, kills the child, and sees the grandchild go.
func TestProcessDoesNotOutliveAKilledTestBinary(t *testing.T) {
	t.Parallel()
	const inner = "ADAPTERTEST_INNER"
	if os.Getenv(inner) != "" {
		grandchild := start(t, command(t, "sleep", "60"))
		fmt.Printf("pid %d\n", grandchild.cmd.Process.Pid)
		<-grandchild.exited
		return
	}

	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), inner+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "pid ")))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Fatalf("process %d is not running before its parent is killed", pid)
	}

	_ = child.Process.Kill()
	_ = child.Wait() // "signal: killed"
	for deadline := time.Now().Add(startTimeout); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlives the test binary that started it", pid)
		}
	}
}

// alive says whether the process runs; a zombie that waits for init to reap it does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}
