package adaptertest

import (
	"os/exec"
	"testing"
	"time"
)

func TestAProgramRunsUntilItIsKilled(t *testing.T) {
	t.Parallel()
	p := Start(t, exec.CommandContext(t.Context(), Need(t, "sh", "apt-get install dash"), "-c", "echo out; echo err >&2; exec sleep 60"))
	for end := time.Now().Add(startTimeout); ; time.Sleep(10 * time.Millisecond) {
		stdout, stderr := p.Output()
		if stdout == "out\n" && stderr == "err\n" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it wrote %q and %q", stdout, stderr)
		}
	}
	select {
	case <-p.Exited():
		t.Fatal("it ended by itself")
	default:
	}
	if p.PID() == 0 {
		t.Error("it has no id")
	}
	p.Kill()
	select {
	case <-p.Exited():
	default:
		t.Error("it is still there after Kill")
	}
}
