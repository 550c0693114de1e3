package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	id       = "0190b3a2-7c5e-7000-8000-000000000000"
	other    = "0190b3a2-7c5e-7000-8000-000000000001"
	document = `{"id":"` + id + `","name":"a","status":"queued","attempts":0,"max_attempts":3}`
	secret   = "the-token"
)

func token(context.Context) (string, error) { return secret, nil }

// serve returns a client of a server that answers as h does.
func serve(t *testing.T, h http.HandlerFunc) *api.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := api.New(server.URL+"/stage/", token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func answer(w http.ResponseWriter, status int, kind, body string) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func TestATokenIsSentOnlyByWaysThatKeepIt(t *testing.T) {
	t.Parallel()
	for server, good := range map[string]bool{
		"https://jobs.example.com": true, "https://jobs.example.com/prod": true, "http://127.0.0.1:8080": true,
		"http://localhost:8080": true, "http://[::1]:8080": true,
		"http://jobs.example.com": false, "http://127.0.0.1.example.com": false, "http://10.0.0.1": false, "ftp://127.0.0.1": false,
		"": false, "jobs.example.com": false, "https://": false, "https://me:pass@jobs.example.com": false,
		"https://jobs.example.com?a=b": false, "https://jobs.example.com#a": false, "https:jobs.example.com": false, "https://a b": false,
	} {
		_, err := api.New(server, token)
		if (err == nil) != good || err != nil && !errors.Is(err, api.ErrServer) {
			t.Errorf("New(%q) = %v", server, err)
		}
		if err != nil && strings.Contains(err.Error(), "pass") {
			t.Errorf("New(%q) shows a password: %v", server, err)
		}
	}
}

func TestCallsAreThoseOfTheDocument(t *testing.T) {
	t.Parallel()
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, fmt.Sprintf("%s %s %s %s %s", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("Idempotency-Key"), body))
		if r.URL.Path == "/stage/jobs" && r.Method == http.MethodGet {
			answer(w, http.StatusOK, "application/json", `{"jobs":[`+document+`]}`)
			return
		}
		answer(w, http.StatusOK, "application/json; charset=utf-8", strings.ReplaceAll(document, ",", ", "))
	})
	submission, err := api.Submission{Name: "a", Payload: jsontext.Value(`{"x": 1}`), Delay: 90 * time.Second}.Document()
	if err != nil {
		t.Fatal(err)
	}
	job, replayed, err := c.Submit(t.Context(), submission, "key")
	if err != nil || !replayed || string(job.Raw) != document || job.MaxAttempts != 3 {
		t.Errorf("Submit = %+v, %t, %v", job, replayed, err)
	}
	for _, step := range []func(context.Context, string) (api.Job, error){c.Get, c.Cancel, c.Redrive} {
		if job, err := step(t.Context(), id); err != nil || string(job.Raw) != document {
			t.Errorf("a step = %+v, %v", job, err)
		}
	}
	for job, err := range c.List(t.Context(), api.Query{Status: "dead", Name: "a"}, 5) {
		if err != nil || job.ID != id {
			t.Errorf("List yields %+v, %v", job, err)
		}
	}
	auth := "Bearer " + secret
	want := []string{
		"POST /stage/jobs " + auth + ` key {"name":"a","delay":"1m30s","payload":{"x": 1}}`,
		"GET /stage/jobs/" + id + " " + auth + "  ",
		"POST /stage/jobs/" + id + "/cancel " + auth + "  ",
		"POST /stage/jobs/" + id + "/redrive " + auth + "  ",
		"GET /stage/jobs?limit=5&name=a&status=dead " + auth + "  ",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}

func TestListAsksForPagesAsTheyAreNeeded(t *testing.T) {
	t.Parallel()
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		page := map[string]string{
			"":   `{"jobs":[` + document + `,` + document + `],"next_cursor":"c1"}`,
			"c1": `{"jobs":[],"next_cursor":"c2"}`,
			"c2": `{"jobs":[` + document + `]}`,
		}[r.URL.Query().Get("cursor")]
		answer(w, http.StatusOK, "application/json", page)
	})
	for limit, want := range map[int]struct {
		jobs int
		asks []string
	}{
		0: {3, []string{"limit=100", "cursor=c1&limit=100", "cursor=c2&limit=100"}},
		2: {2, []string{"limit=2"}},
		3: {3, []string{"limit=3", "cursor=c1&limit=1", "cursor=c2&limit=1"}},
		9: {3, []string{"limit=9", "cursor=c1&limit=7", "cursor=c2&limit=7"}},
	} {
		asked = nil
		got := 0
		for _, err := range c.List(t.Context(), api.Query{}, limit) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got != want.jobs || !slices.Equal(asked, want.asks) {
			t.Errorf("List with limit %d has %d jobs and asks %q, want %v", limit, got, asked, want)
		}
	}
}

// What a server can answer to do harm, or because it is none of jobgate's.
func TestHostileAnswersAreRefused(t *testing.T) {
	t.Parallel()
	away := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the call was sent on, with the token %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(away.Close)
	const js = "application/json"
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		is     error
		says   string
	}{
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, away.URL, http.StatusTemporaryRedirect)
		}, api.ErrAnswer, "where the token does not go"},
		"a redirect that draws": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Location"] = []string{"https://x/\u009b2J"}
			w.WriteHeader(http.StatusFound)
		}, api.ErrAnswer, `\u009b2J`},
		"a page":  {func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, "text/html", document) }, api.ErrAnswer, `"text/html"`},
		"nothing": {func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, js, "") }, api.ErrAnswer, ""},
		"no job":  {func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, js, "{}") }, api.ErrAnswer, "it is no job"},
		"another job": {func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, js, strings.ReplaceAll(document, id, other))
		}, api.ErrAnswer, "another job"},
		"an id that draws": {func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, js, strings.ReplaceAll(document, id, `\u001b[2J`))
		}, api.ErrAnswer, "it is no job"},
		"a member twice": {func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, js, strings.Replace(document, "{", `{"id":"`+other+`",`, 1))
		}, api.ErrAnswer, "duplicate"},
		"too much": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", js)
			_, _ = io.Copy(w, io.LimitReader(endless{}, 5<<20))
		}, api.ErrAnswer, "more than 4 MiB"},
		"too much of a header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 100<<10))
			answer(w, 200, js, document)
		}, api.ErrUnreachable, ""},
		"a problem that draws": {func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 409, "application/problem+json", `{"code":"conflict","detail":"a\u001b[2Jb\u202ec","request_id":"\n\nroot#"}`)
		}, nil, `conflict: a\x1b[2Jb\u202ec (request \n\nroot#)`},
		"a problem without end": {func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 409, "application/problem+json", `{"code":"conflict","detail":"`+strings.Repeat("x", 1<<20)+`"}`)
		}, nil, strings.Repeat("x", 500) + "…"},
		"no problem": {func(w http.ResponseWriter, _ *http.Request) { answer(w, 403, "text/html", "<blink>") }, nil, "the server answered 403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := serve(t, c.handle)
			_, err := client.Cancel(t.Context(), id)
			if c.is != nil && !errors.Is(err, c.is) || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v, want %v that says %q", err, c.is, c.says)
			}
			if c.is == nil {
				if _, ok := errors.AsType[*api.Problem](err); !ok || len(err.Error()) > 2000 {
					t.Errorf("the error is %T of %d bytes", err, len(err.Error()))
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestAListThatGoesInCirclesEnds(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, "application/json", `{"jobs":[],"next_cursor":"c"}`)
	})
	for _, err := range c.List(t.Context(), api.Query{}, 0) {
		if !errors.Is(err, api.ErrAnswer) {
			t.Errorf("List ends with %v", err)
		}
	}
}

// roundTrip is a server in a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestCallsAreMadeAgainWhereThatIsSafe(t *testing.T) {
	t.Parallel()
	reset := errors.New("connection reset")
	unsent := &net.OpError{Op: "dial", Err: errors.New("refused")}
	type step struct {
		status int
		after  string
		err    error
	}
	submit := func(ctx context.Context, c *api.Client) error {
		_, _, err := c.Submit(ctx, []byte(`{"name":"a"}`), "key")
		return err
	}
	cancel := func(ctx context.Context, c *api.Client) error { _, err := c.Cancel(ctx, id); return err }
	for name, c := range map[string]struct {
		call  func(context.Context, *api.Client) error
		steps []step
		tries int
		least time.Duration
		most  time.Duration
	}{
		"as the server asks":            {submit, []step{{503, "3", nil}, {429, "7", nil}, {201, "", nil}}, 3, 10 * time.Second, 11 * time.Second},
		"with patience of its own":      {submit, []step{{503, "", nil}, {503, "", nil}, {201, "", nil}}, 3, 750 * time.Millisecond, 2250 * time.Millisecond},
		"not for ever":                  {submit, []step{{503, "1", nil}}, 5, 4 * time.Second, 6 * time.Second},
		"not with patience for an age":  {submit, []step{{503, "3600", nil}}, 1, 0, 0},
		"nor for an odd one":            {submit, []step{{503, "Wed, 21 Oct 2065 07:28:00 GMT", nil}, {201, "", nil}}, 2, 0, time.Second},
		"when it was cut off":           {submit, []step{{0, "", reset}, {201, "", nil}}, 2, 0, time.Second},
		"when a gateway gave up":        {submit, []step{{504, "", nil}, {502, "", nil}, {200, "", nil}}, 3, 0, 3 * time.Second},
		"not when it was refused":       {submit, []step{{422, "1", nil}}, 1, 0, 0},
		"not after a fault":             {submit, []step{{500, "1", nil}}, 1, 0, 0},
		"a cancel as the server asks":   {cancel, []step{{503, "2", nil}, {200, "", nil}}, 2, 2 * time.Second, 3 * time.Second},
		"not a cancel that was cut off": {cancel, []step{{0, "", reset}}, 1, 0, 0},
		"not one that a gateway lost":   {cancel, []step{{504, "", nil}}, 1, 0, 0},
		"a cancel that never left":      {cancel, []step{{0, "", unsent}, {200, "", nil}}, 2, 0, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries, told := 0, 0
				var keys []string
				client := &api.Client{Server: "https://jobs.example.com", Token: token, HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					s := c.steps[min(tries, len(c.steps)-1)]
					tries++
					keys = append(keys, r.Header.Get("Idempotency-Key"))
					if s.err != nil {
						return nil, s.err
					}
					return &http.Response{
						StatusCode: s.status, Header: http.Header{"Retry-After": {s.after}, "Content-Type": {"application/json"}},
						Body: io.NopCloser(strings.NewReader(document)),
					}, nil
				})}, Retrying: func(api.Retry) { told++ }}
				begun := time.Now()
				err := c.call(t.Context(), client)
				took := time.Since(begun)
				last := c.steps[len(c.steps)-1]
				if (err == nil) != (last.err == nil && last.status < 300) {
					t.Errorf("it ended with %v", err)
				}
				if tries != c.tries || told != tries-1 || took < c.least || took > c.most {
					t.Errorf("%d tries, %d told, in %v; want %d in %v to %v", tries, told, took, c.tries, c.least, c.most)
				}
				if len(slices.Compact(keys)) != 1 {
					t.Errorf("the keys are %q", keys)
				}
			})
		})
	}
}

func TestAWaitForAnotherTryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := &api.Client{Server: "https://jobs.example.com", Token: token, HTTP: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"30"}}, Body: http.NoBody}, nil
		})}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.Get(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get = %v", err)
		}
	})
}

func TestWithoutATokenNothingIsSent(t *testing.T) {
	t.Parallel()
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a call was sent") })
	gone := errors.New("gone")
	c.Token = func(context.Context) (string, error) { return "", gone }
	if _, err := c.Get(t.Context(), id); !errors.Is(err, gone) {
		t.Errorf("Get = %v", err)
	}
}

func TestAskSendsNoTokenAndTakesAnyAnswer(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.URL.Path != "/stage/readyz" {
			t.Errorf("asked %s with %q", r.URL, r.Header)
		}
		answer(w, http.StatusServiceUnavailable, "text/plain", "not ready: store")
	})
	probe, err := c.Ask(t.Context(), "readyz")
	if err != nil || probe.Status != http.StatusServiceUnavailable || string(probe.Body) != "not ready: store" || time.Since(probe.Date).Abs() > time.Minute {
		t.Errorf("Ask = %+v, %v", probe, err)
	}
}

func FuzzSubmissionKeepsThePayload(f *testing.F) {
	f.Add("a", `{"b":  1.0}`)
	f.Add("a", `null`)
	f.Fuzz(func(t *testing.T, name, payload string) {
		value := jsontext.Value(payload)
		if !value.IsValid() || strings.TrimSpace(payload) != payload {
			t.Skip()
		}
		document, err := api.Submission{Name: name, Payload: value}.Document()
		if err != nil {
			t.Skip() // no UTF-8
		}
		var back map[string]json.RawMessage
		if err := json.Unmarshal(document, &back); err != nil || string(back["payload"]) != payload || len(back) != 2 {
			t.Errorf("%q became %s", payload, document)
		}
	})
}

func FuzzPrintableIsPrintable(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[2J\u202e\n\xff\ufffd")
	f.Fuzz(func(t *testing.T, text string) {
		shown := api.Printable(text)
		for _, r := range shown {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
				t.Errorf("%q is shown as %q", text, shown)
			}
		}
		if again := api.Printable(shown); again != shown {
			t.Errorf("%q is shown as %q and then as %q", text, shown, again)
		}
	})
}
