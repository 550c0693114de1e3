package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/bootstrap/config"
)

const (
	firstID  = "0190b3a2-7c5e-7000-8000-000000000001"
	secondID = "0190b3a2-7c5e-7000-8000-000000000002"
)

// life is what becomes of a job, as its documents tell it one after the other.
var life = []string{
	`"status":"queued","attempts":0`,
	`"status":"running","attempts":1,"progress":{"percent":0}`,
	`"status":"running","attempts":1,"progress":{"percent":40,"message":"half\u001b[2Jway"}`,
	`"status":"queued","attempts":1,"due_at":"2026-03-01T12:00:30Z","history":[{"number":1,"started_at":"2026-03-01T12:00:00Z","error":"out of paper"}]`,
	`"status":"running","attempts":2,"cancel_requested":true`,
	`"status":"succeeded","attempts":2,"created_at":"2026-03-01T12:00:00Z","finished_at":"2026-03-01T12:01:30Z","output":{"pages": 3}`,
}

// play runs a command against a server, with the fixed clock, and returns what it said and its status.
func play(t *testing.T, ctx context.Context, h http.HandlerFunc, settings map[string]string, width int, stdin io.Reader, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	env := map[string]string{
		"JOBGATE_SERVER": server.URL, "JOBGATE_CONFIG_DIR": t.TempDir(),
		"JOBGATE_TOKEN": oidctest.Key{Alg: "HS256", Secret: []byte("0123456789abcdef0123456789abcdef")}.Sign(nil, oidctest.Claims(issuer, clock)),
	}
	maps.Copy(env, settings)
	var out, errs bytes.Buffer
	err := terminal{
		getenv: func(name string) string { return env[name] }, stdin: stdin, stdout: &out, stderr: &errs,
		now: func() time.Time { return clock }, columns: func(io.Writer) int { return width },
	}.run(ctx, args)
	if err != nil {
		exit, ok := errors.AsType[*config.ExitError](err)
		if !ok {
			t.Fatalf("the error has no status: %v", err)
		}
		status = exit.Status
		fmt.Fprintln(&errs, err)
	}
	if strings.Contains(out.String()+errs.String(), env["JOBGATE_TOKEN"]) {
		t.Error("the token is shown")
	}
	return out.String(), errs.String(), status
}

// living answers with one document after the other.
func living(documents []string) http.HandlerFunc {
	var mu sync.Mutex
	next := 0
	return func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":%q,"name":"report","max_attempts":3,%s}`, firstID, documents[min(next, len(documents)-1)])
		next++
	}
}

func TestWatchTellsEachChangeInALogAndDrawsALineOnATerminal(t *testing.T) {
	t.Parallel()
	const anew = "\r\x1b[K"
	for name, c := range map[string]struct {
		width    int
		settings map[string]string
		want     string
	}{
		"a log": {0, nil, `queued, after 0s
running, attempt 1 of 3, 0%, after 0s
running, attempt 1 of 3, 40% half\x1b[2Jway, after 0s
queued, attempt 1 of 3 failed: out of paper, after 0s
running, attempt 2 of 3, asked to stop, after 0s
succeeded after 2 attempts in 1m30s
`},
		"a terminal": {60, nil, anew + "queued, after 0s" +
			anew + "\x1b[36m░░░░░░░░░░░░░░░░░░░░ running\x1b[0m, attempt 1 of 3, 0%, after 0s" +
			anew + "\x1b[36m████████░░░░░░░░░░░░ running\x1b[0m, attempt 1 of 3, 40% half\\x1b…" +
			anew + "queued, attempt 1 of 3 failed: out of paper, due in 30s, a…" +
			anew + "\x1b[36mrunning\x1b[0m, attempt 2 of 3, asked to stop, after 0s" +
			anew + "\x1b[32msucceeded\x1b[0m after 2 attempts in 1m30s\n"},
		"a terminal without colours": {200, map[string]string{"NO_COLOR": "1"}, anew + "queued, after 0s" +
			anew + "░░░░░░░░░░░░░░░░░░░░ running, attempt 1 of 3, 0%, after 0s" +
			anew + "████████░░░░░░░░░░░░ running, attempt 1 of 3, 40% half\\x1b[2Jway, after 0s" +
			anew + "queued, attempt 1 of 3 failed: out of paper, due in 30s, after 0s" +
			anew + "running, attempt 2 of 3, asked to stop, after 0s" +
			anew + "succeeded after 2 attempts in 1m30s\n"},
		"a terminal that cannot draw": {60, map[string]string{"TERM": "dumb"}, `queued, after 0s
running, attempt 1 of 3, 0%, after 0s
running, attempt 1 of 3, 40% half\x1b[2Jway, after 0s
queued, attempt 1 of 3 failed: out of paper, after 0s
running, attempt 2 of 3, asked to stop, after 0s
succeeded after 2 attempts in 1m30s
`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, status := play(t, t.Context(), living(life), c.settings, c.width, nil, "watch", firstID)
			// A line is drawn anew while it waits, too.
			for line := range strings.SplitSeq(c.want, anew) {
				if line != "" {
					stderr = strings.ReplaceAll(stderr, anew+line+anew+line, anew+line)
				}
			}
			if stderr != c.want {
				t.Errorf("it says\n%q\nwant\n%q", stderr, c.want)
			}
			if stdout != `{"pages": 3}`+"\n" || status != exitDone {
				t.Errorf("status %d, and the output is %q", status, stdout)
			}
		})
	}
}

func TestWatchAsDocumentsHasALineForEachChange(t *testing.T) {
	t.Parallel()
	stdout, _, status := play(t, t.Context(), living(append(life[:1:1], life...)), nil, 0, nil, "watch", firstID, "-o", "json")
	if status != exitDone || strings.Count(stdout, "\n") != len(life) || strings.Count(stdout, `"status":"running"`) != 3 {
		t.Errorf("status %d and\n%s", status, stdout)
	}
}

func TestNothingThatAHandlerSaysDrivesATerminal(t *testing.T) {
	t.Parallel()
	done := living([]string{`"status":"succeeded","attempts":1,"progress":{"percent":1,"message":"a\u001b[2J\u009b2J"},` +
		"\"payload\":\"\u009b2J\",\"output\":\"\u009b2J\u202e\""})
	for _, args := range [][]string{{"watch", firstID}, {"watch", firstID, "-o", "json"}, {"get", firstID}, {"get", firstID, "-o", "json"}, {"cancel", firstID, "-o", "json"}} {
		stdout, stderr, status := play(t, t.Context(), done, map[string]string{"NO_COLOR": "1"}, 80, nil, args...)
		if shown := stdout + stderr; status != exitDone || strings.ContainsAny(strings.ReplaceAll(shown, "\r\x1b[K", ""), "\x1b\u009b\u202e") {
			t.Errorf("%v ends with %d and shows %q", args, status, shown)
		}
	}
	stdout, _, _ := play(t, t.Context(), done, nil, 0, nil, "watch", firstID)
	if stdout != "\"\u009b2J\u202e\"\n" {
		t.Errorf("into a file the output is %q", stdout)
	}
}

func TestTheStatusTellsTheOutcome(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]struct {
		status int
		says   string
	}{
		`"status":"succeeded","attempts":1`:                      {exitDone, "succeeded after 1 attempt\n"},
		`"status":"dead","reason":"permanent","attempts":1`:      {exitNo, "the job is dead: permanent\nnext: see each attempt: jobgate get " + firstID},
		`"status":"cancelled","reason":"cancelled","attempts":0`: {exitNo, "the job is cancelled\nnext: "},
	} {
		for _, args := range [][]string{{"watch", firstID}, {"submit", "report", "--wait"}} {
			_, stderr, status := play(t, t.Context(), living([]string{state}), nil, 0, nil, args...)
			if status != want.status || !strings.Contains(stderr, want.says) {
				t.Errorf("%v of %s ends with %d and says %q", args, state, status, stderr)
			}
		}
	}
}

func TestAnInterruptLeavesTheJobAlone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	running := living([]string{`"status":"running","attempts":1`})
	asked := 0
	_, stderr, status := play(t, ctx, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 3 {
			cancel()
		}
		running(w, r)
	}, nil, 0, nil, "watch", firstID)
	if status != exitInterrupted || !strings.Contains(stderr, "interrupted\nnext: the job goes on; watch it: jobgate watch "+firstID) {
		t.Errorf("it ends with %d and says %q", status, stderr)
	}
}

// Each code of a problem has a status and, where there is one, a way on.
func TestProblemsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for problem, want := range map[string]struct {
		status int
		next   string
	}{
		`401 {"code":"token_expired"}`:          {exitLogin, "next: log in again: jobgate login"},
		`401 {"code":"missing_token"}`:          {exitLogin, "next: log in again: jobgate login"},
		`401 {"code":"invalid_claims"}`:         {exitLogin, "next: see what is wrong with the token: jobgate doctor"},
		`401 {"message":"Unauthorized"}`:        {exitLogin, "next: see what is wrong with the token: jobgate doctor"},
		`403 {"code":"insufficient_scope"}`:     {exitForbidden, "jobgate login --scope"},
		`403 {"code":"forbidden"}`:              {exitForbidden, "ask an operator"},
		`403 <html>`:                            {exitForbidden, "not jobgate that refused"},
		`404 {"code":"not_found"}`:              {exitNotFound, "next: see your jobs: jobgate list"},
		`409 {"code":"finished"}`:               {exitConflict, "jobgate get ID"},
		`409 {"code":"not_redrivable"}`:         {exitConflict, "only dead and cancelled jobs"},
		`409 {"code":"conflict"}`:               {exitConflict, "jobgate get ID"},
		`413 {"code":"too_large"}`:              {exitUsage, "store the data elsewhere"},
		`422 {"code":"invalid_fields"}`:         {exitUsage, ""},
		`422 {"code":"idempotency_key_reused"}`: {exitConflict, "another --idempotency-key"},
		`500 {"code":"internal"}`:               {exitUnavailable, "a fault of the server"},
		`418 {}`:                                {exitNo, "418"},
	} {
		t.Run(problem, func(t *testing.T) {
			t.Parallel()
			_, stderr, status := play(t, t.Context(), func(w http.ResponseWriter, _ *http.Request) {
				var code int
				var body string
				code, body = 0, problem[4:]
				_, _ = fmt.Sscan(problem, &code)
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(code)
				_, _ = io.WriteString(w, body)
			}, nil, 0, nil, "redrive", firstID)
			if status != want.status || !strings.Contains(stderr, want.next) || want.next == "" && strings.Contains(stderr, "next:") {
				t.Errorf("it ends with %d and says %q", status, stderr)
			}
		})
	}
}
