package jobgate_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// peersModule is a module of its own: what the peers need is no dependency of jobgate.
const peersModule = "testdata/peers"

// buildPeer builds a program of the module of peers. missing says why it cannot be built here: its modules cannot be had.
func buildPeer(t *testing.T, name string) (binary, missing string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./"+name)
	cmd.Dir = peersModule
	if out, err := cmd.CombinedOutput(); err != nil {
		text := strings.TrimSpace(string(out))
		if strings.Contains(text, "dial tcp") || strings.Contains(text, "module lookup disabled") {
			return "", "the modules of " + name
		}
		t.Fatalf("%s: %v\n%s", name, err, text) // it does not compile
	}
	return binary, ""
}

// runPeer runs a program that ends by itself and prints its sample as JSON.
func runPeer(t *testing.T, binary string, args ...string) sample {
	t.Helper()
	return runPeerWith(t, "", binary, args...)
}

// runPeerWith is runPeer for one that reads its work from stdin.
func runPeerWith(t *testing.T, stdin, binary string, args ...string) sample {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(binary), err, complaints.String())
	}
	var s sample
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%s printed %q: %v", filepath.Base(binary), out, err)
	}
	return s
}

// npmPeer installs a peer for Node, as its lock file says, in a directory of the test's own.
func npmPeer(t *testing.T, name string) (dir, missing string) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", program
		}
	}
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(peersModule, name))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("%s: %v\n%s", cmd, err, out)
		return "", "its npm packages"
	}
	return dir, ""
}

// cpuOf is the time that the threads of a process have had of the processors. It is finer than the ticks of the usual
// counters (https://docs.kernel.org/scheduler/sched-stats.html), and known on Linux alone: elsewhere it is 0.
func cpuOf(t *testing.T, pid int) (total time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		total += time.Duration(ns)
	}
	return total
}
