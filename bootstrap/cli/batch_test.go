package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// accepting accepts every job and counts the keys.
type accepting struct {
	mu      sync.Mutex
	keys    map[string]int
	running int
	most    int
	refuse  func(body string) (status int, problem string)
}

func (a *accepting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.running++
	a.most = max(a.most, a.running)
	a.mu.Unlock()
	runtime.Gosched()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
	w.Header().Set("Content-Type", "application/json")
	if a.refuse != nil {
		if status, problem := a.refuse(string(body)); status != 0 {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, problem)
			return
		}
	}
	if a.keys == nil {
		a.keys = make(map[string]int)
	}
	key := r.Header.Get("Idempotency-Key")
	status := http.StatusCreated
	if a.keys[key]++; a.keys[key] > 1 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"id":%q,"name":"a","status":"queued"}`, firstID)
}

// The keys of a batch never change: who goes on with an old batch by a new program must not submit it twice.
func TestKeysOfABatchAreWhatTheyWere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		batch  string
		number int
		text   string
		want   string
	}{
		{"jobs.ndjson", 1, `{"name":"a"}`, "jobgate-batch-80fdf6273a6b89b48b1dd73f92ae532b"},
		{"jobs.ndjson", 2, `{"name":"a"}`, "jobgate-batch-bc2c8fbce7269827a320458d382d8c5d"},
		{"jobs.ndjson:1", 2, `{"name":"a"}`, "jobgate-batch-3c3cfdc211b0dead8c089cf148c7869a"},
	} {
		if got := lineKey(c.batch, c.number, []byte(c.text)); got != c.want || !validKey(got) {
			t.Errorf("lineKey(%q, %d) = %q, want %q", c.batch, c.number, got, c.want)
		}
	}
}

func TestABatchIsStreamedWithBoundedConcurrency(t *testing.T) {
	t.Parallel()
	const lines = 3000
	server := &accepting{}
	reader, writer := io.Pipe()
	go func() { // ends when all is read
		for i := range lines {
			if _, err := fmt.Fprintf(writer, "{\"name\":\"a\",\"payload\":%d}\n", i); err != nil {
				break
			}
		}
		_ = writer.Close() // of a pipe, it never fails
	}()
	_, stderr, status := play(t, t.Context(), server.ServeHTTP, nil, 0, reader, "submit", "--batch", "-", "--batch-id", "x", "--concurrency", "4")
	if status != exitDone || len(server.keys) != lines || server.most > 4 || stderr != fmt.Sprintf("%d accepted, after 0s\n", lines) {
		t.Errorf("status %d, %d keys, %d at once, and it says %q", status, len(server.keys), server.most, stderr)
	}
}

func TestALineThatIsTooLongIsRefusedAndTheNextIsNot(t *testing.T) {
	t.Parallel()
	server := &accepting{}
	input := strings.NewReader("{\"name\":\"a\"}\n\"" + strings.Repeat("x", maxLine) + "\"\r\n{\"name\":\"b\"}")
	_, stderr, status := play(t, t.Context(), server.ServeHTTP, nil, 0, input, "submit", "--batch", "-")
	if status != exitNo || len(server.keys) != 2 || !strings.Contains(stderr, "standard input:2: it has more than 1048576 bytes\n") ||
		!strings.Contains(stderr, "1 of 3 lines refused\n") {
		t.Errorf("status %d, %d keys, and it says %q", status, len(server.keys), stderr)
	}
	_, stderr, status = play(t, t.Context(), server.ServeHTTP, nil, 0, strings.NewReader(strings.Repeat("x", 2*maxLine)), "submit", "--batch", "-")
	if status != exitNo || !strings.Contains(stderr, "1 of 1 line refused\n") {
		t.Errorf("status %d, and it says %q", status, stderr)
	}
}

func TestABatchStopsWhereNoOtherLineWouldFareBetterAndGoesOnLater(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "jobs.ndjson")
	var text bytes.Buffer
	for i := range 50 {
		fmt.Fprintf(&text, "{\"name\":\"a\",\"payload\":%d}\n", i)
	}
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	server := &accepting{}
	server.refuse = func(body string) (int, string) {
		if strings.Contains(body, ":20}") {
			return http.StatusUnauthorized, `{"code":"token_expired"}`
		}
		return 0, ""
	}
	_, stderr, status := play(t, t.Context(), server.ServeHTTP, nil, 0, nil, "submit", "--batch", file, "--concurrency", "1")
	if status != exitLogin || !strings.Contains(stderr, file+":21: token_expired\nnext: the same command goes on where this one ended") {
		t.Errorf("status %d, and it says %q", status, stderr)
	}
	before := len(server.keys)
	if before != 20 {
		t.Errorf("%d were submitted before it stopped, want 20", before)
	}
	server.refuse = nil
	_, stderr, status = play(t, t.Context(), server.ServeHTTP, nil, 0, nil, "submit", "--batch", file)
	if status != exitDone || len(server.keys) != 50 || stderr != fmt.Sprintf("%d accepted, %d accepted before, after 0s\n", 50-before, before) {
		t.Errorf("status %d, %d keys, and it says %q", status, len(server.keys), stderr)
	}
}

func TestAnInterruptEndsABatchThatWaitsForInput(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	server := &accepting{refuse: func(string) (int, string) { cancel(); return 0, "" }}
	go func() { _, _ = io.WriteString(writer, "{\"name\":\"a\"}\n") }() // ends when that is read
	_, stderr, status := play(t, ctx, server.ServeHTTP, nil, 0, reader, "submit", "--batch", "-", "--batch-id", "x")
	_ = writer.Close() // of a pipe, it never fails
	if status != exitInterrupted || !strings.Contains(stderr, "\ninterrupted\nnext: the same command goes on where this one ended\n") {
		t.Errorf("status %d, and it says %q", status, stderr)
	}
}

func TestABatchDoesNotRefuseLineByLineWhatIsNotAboutALine(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]int{
		http.StatusNotFound: exitNotFound, http.StatusMethodNotAllowed: exitNo, http.StatusForbidden: exitForbidden, http.StatusInternalServerError: exitUnavailable,
	} {
		server := &accepting{refuse: func(string) (int, string) { return code, "{}" }}
		stdout, stderr, status := play(t, t.Context(), server.ServeHTTP, nil, 0, strings.NewReader("{}\n{}\n{}\n"), "submit", "--batch", "-", "--concurrency", "1", "-o", "json")
		if status != want || stdout != "" || !strings.HasPrefix(stderr, "0 accepted, after 0s\nstandard input:1: ") {
			t.Errorf("after %d it ends with %d, and says %q and %q", code, status, stdout, stderr)
		}
	}
}

func TestATokenIsAskedForOnceInAWhile(t *testing.T) {
	t.Parallel()
	now, asked := clock, 0
	token := remember(func(context.Context) (string, error) {
		if asked++; asked == 1 {
			return "", io.ErrUnexpectedEOF
		}
		return fmt.Sprint(asked), nil
	}, func() time.Time { return now })
	for i, want := range []string{"", "2", "2", "2", "3", "3", "4"} {
		if got, _ := token(t.Context()); got != want {
			t.Errorf("call %d gives %q, want %q", i, got, want)
		}
		if i == 5 {
			now = now.Add(-time.Hour) // a clock that was set
		}
		now = now.Add(time.Second)
	}
}

func TestClocksAreComparedAroundTheQuestion(t *testing.T) {
	t.Parallel()
	at := func(seconds float64) time.Time { return clock.Add(time.Duration(seconds * float64(time.Second))) }
	for _, c := range []struct {
		before, after, date float64
		result, found       string
	}{
		{0, 1, 0, checkOK, "agrees with the server's"},
		{0.9, 1, 0, checkOK, "agrees with the server's"}, // a Date has no fractions
		{0, 100, 99, checkOK, "agrees with the server's"},
		{0, 1, 61, checkOK, "agrees with the server's"},
		{0, 1, 62, checkFailed, "1m1s behind the server's"},
		{61, 61, 0, checkFailed, "1m1s ahead of the server's"},
		{600, 601, 0, checkFailed, "10m0s ahead of the server's"},
	} {
		if f := clocks(at(c.before), at(c.after), at(c.date)); f.Result != c.result || f.Found != c.found || (f.Next == "") != (c.result == checkOK) {
			t.Errorf("clocks(%v, %v, %v) = %+v", c.before, c.after, c.date, f)
		}
	}
}
