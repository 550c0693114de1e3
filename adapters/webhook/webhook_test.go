package webhook_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/adapters/webhook"
	"github.com/jobgate/jobgate/domain"
)

var (
	update = flag.Bool("update", false, "write the golden file anew")
	quiet  = zap.NewStdLog(zap.NewNop()) // for servers whose clients are meant to go
)

func TestTheRequestIsGolden(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(&got, "%s %s %s\n", r.Method, r.URL, r.Proto)
		for _, name := range sortedNames(r.Header) {
			fmt.Fprintf(&got, "%s: %s\n", name, strings.Join(r.Header[name], "; "))
		}
		fmt.Fprintf(&got, "\n%s\n", body)
	})
	h := newHandler(t, server.URL+"/jobs?tenant=a", func(e *webhook.Endpoint, o *webhook.Options) {
		e.Secrets = []string{oldSecret, newSecret}
		o.Now = func() time.Time { return created.Add(time.Hour) }
	})
	if _, err := h.Handle(ctx(t), aRun()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "request.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func sortedNames(h http.Header) []string {
	var names []string
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestARequestVerifiesByEachSecretAndByNoOther(t *testing.T) {
	t.Parallel()
	const otherSecret = "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"
	var calls int
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		calls++
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for secret, want := range map[string]bool{oldSecret: true, newSecret: true, otherSecret: false} {
			receiver, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Error(err)
			}
			if err := receiver.Verify(body, r.Header); (err == nil) != want {
				t.Errorf("verified by %s: %v, want %v", secret, err, want)
			}
			if err := receiver.Verify(append(body, ' '), r.Header); err == nil {
				t.Error("a changed body verifies")
			}
		}
	})
	h := newHandler(t, server.URL, func(e *webhook.Endpoint, _ *webhook.Options) { e.Secrets = []string{oldSecret, newSecret} })
	if _, err := h.Handle(ctx(t), aRun()); err != nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestARunWithoutATraceSendsNone(t *testing.T) {
	t.Parallel()
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		if values := r.Header.Values("Traceparent"); len(values) > 0 {
			t.Errorf("traceparent %q", values)
		}
	})
	run := aRun()
	run.Job.TraceParent = ""
	if _, err := newHandler(t, server.URL).Handle(ctx(t), run); err != nil {
		t.Error(err)
	}
}

func TestAJobThatCannotBeEncodedIsAPermanentError(t *testing.T) {
	t.Parallel()
	server := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	run := aRun()
	run.Job.Payload = []byte(`{`)
	if _, err := newHandler(t, server.URL).Handle(ctx(t), run); !domain.IsPermanent(err) {
		t.Errorf("%v, want a permanent error", err)
	}
}

func TestTheStatusDecides(t *testing.T) {
	t.Parallel()
	now := created
	in := func(d time.Duration) string { return now.Add(d).Truncate(time.Second).Format(http.TimeFormat) }
	tests := []struct {
		status     int
		retryAfter string
		want       string // error, empty for success
		permanent  bool
		wait       time.Duration
	}{
		{status: 200},
		{status: 201},
		{status: 204},
		{status: 299, retryAfter: "60"},
		{status: 101, want: "the webhook answered 101"},
		{status: 300, want: "the webhook answered 300: redirects are not followed"},
		{status: 304, want: "the webhook answered 304: redirects are not followed"},
		{status: 400, want: "the webhook answered 400"},
		{status: 401, want: "the webhook answered 401"},
		{status: 404, want: "the webhook answered 404"},
		{status: 410, retryAfter: "60", want: "the webhook answered 410", permanent: true},
		{status: 429, want: "the webhook answered 429"},
		{status: 429, retryAfter: "120", want: "the webhook answered 429", wait: 2 * time.Minute},
		{status: 500, retryAfter: "60", want: "the webhook answered 500"},
		{status: 502, want: "the webhook answered 502"},
		{status: 503, retryAfter: "0", want: "the webhook answered 503"},
		{status: 503, retryAfter: " 7 ", want: "the webhook answered 503", wait: 7 * time.Second},
		{status: 503, retryAfter: in(90 * time.Second), want: "the webhook answered 503", wait: 90*time.Second - 678*time.Millisecond},
		{status: 503, retryAfter: "99999999999999999999999", want: "the webhook answered 503", wait: domain.MaxBackoff},
		{status: 999, want: "the webhook answered 999"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status, tt.retryAfter), func(t *testing.T) {
			t.Parallel()
			server := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				answer(tt.status, "")(w, nil)
			})
			h := newHandler(t, server.URL, func(_ *webhook.Endpoint, o *webhook.Options) { o.Now = func() time.Time { return now } })
			output, err := h.Handle(ctx(t), aRun())
			if tt.want == "" {
				if err != nil || output != nil {
					t.Errorf("%q, %v, want success", output, err)
				}
				return
			}
			wantFailure(t, err, tt.want)
			if got := domain.IsPermanent(err); got != tt.permanent {
				t.Errorf("permanent: %v, want %v", got, tt.permanent)
			}
			if got := asked(err); got != tt.wait {
				t.Errorf("retry after %v, want %v", got, tt.wait)
			}
			if cause := webhook.Cause(err); cause != nil {
				t.Errorf("cause %v of an error that says all", cause)
			}
		})
	}
}

func TestNoTextOfAnAnswerIsTold(t *testing.T) {
	t.Parallel()
	server := serve(t, answer(http.StatusInternalServerError, `{"password":"hunter2"}`))
	output, err := newHandler(t, server.URL).Handle(ctx(t), aRun())
	wantFailure(t, err, "the webhook answered 500")
	if output != nil {
		t.Errorf("output %q", output)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
		_, err := newHandler(t, server.URL).Handle(ctx(t), aRun())
		wantFailure(t, err, fmt.Sprintf("the webhook answered %d: redirects are not followed", status))
		if domain.IsPermanent(err) {
			t.Errorf("%d is permanent", status)
		}
	}
}

func TestTheOutputIsTheBodyIfThatIsSmallJSON(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	for name, tt := range map[string]struct {
		body string
		kept bool
	}{
		"object":                    {`{"pages": 3, "n": 1.0}`, true},
		"duplicate members":         {`{"a":1,"a":2}`, true}, // a payload may have them, too
		"null":                      {`null`, true},
		"as long as kept":           {long(domain.MaxOutput), true},
		"too long to keep":          {long(domain.MaxOutput + 1), false},
		"too long to read":          {long(webhook.MaxResponse + 1), false},
		"JSON as far as it is read": {`1` + strings.Repeat(" ", 4*webhook.MaxResponse) + `x`, false},
		"nothing":                   {"", false},
		"text":                      {"OK", false},
		"two values":                {`{} {}`, false},
		"invalid UTF-8":             {"\"\xff\"", false},
		"half a surrogate pair":     {`"\ud800"`, false},
		"too deep":                  {strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := ""
			if tt.kept {
				want = tt.body
			}
			got, err := newHandler(t, serve(t, answer(200, tt.body)).URL).Handle(ctx(t), aRun())
			if err != nil || string(got) != want {
				t.Errorf("%.80q, %v, want %.80q", got, err, want)
			}
		})
	}
}

func TestAConnectionIsUsedAgainUnlessItsAnswerIsTooLong(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body  string
		conns int
	}{
		"short": {`{}`, 1},
		"long":  {strings.Repeat(" ", 16*webhook.MaxResponse), 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			seen := map[string]bool{}
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				seen[r.RemoteAddr] = true
				mu.Unlock()
				answer(200, tt.body)(w, r)
			})
			h := newHandler(t, server.URL)
			for range 3 {
				if _, err := h.Handle(ctx(t), aRun()); err != nil {
					t.Fatal(err)
				}
			}
			if len(seen) != tt.conns {
				t.Errorf("%d connections, want %d", len(seen), tt.conns)
			}
		})
	}
}

func TestAWebhookThatDoesNotAnswerInTimeIsLeft(t *testing.T) {
	t.Parallel()
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is a client that goes noticed
		<-r.Context().Done()
	})
	accepts, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel does, and nobody reads
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepts.Close() })
	for name, url := range map[string]string{"no answer": server.URL, "no TLS": "https://" + accepts.Addr().String(), "no HTTP": "http://" + accepts.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newHandler(t, url, within(50*time.Millisecond)).Handle(ctx(t), aRun())
			wantFailure(t, err, "the webhook did not answer in time")
			wantHidden(t, err, "deadline")
		})
	}
	t.Run("the run ends first", func(t *testing.T) {
		t.Parallel()
		run, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := newHandler(t, server.URL, within(time.Hour)).Handle(run, aRun())
		wantFailure(t, err, "the webhook did not answer in time")
	})
	t.Run("the run is cancelled", func(t *testing.T) {
		t.Parallel()
		run, cancel := context.WithCancel(t.Context())
		called := make(chan struct{})
		waits := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			close(called)
			<-r.Context().Done()
		})
		go func() {
			<-called
			cancel()
		}()
		_, err := newHandler(t, waits.URL, within(time.Hour)).Handle(run, aRun())
		wantFailure(t, err, "the webhook did not answer in time")
	})
}

func TestAnAnswerThatNeverEndsIsSuccessWithoutOutput(t *testing.T) {
	t.Parallel()
	endless := func(pause time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			chunk := []byte(strings.Repeat(" ", 1<<10))
			for r.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
				if err := http.NewResponseController(w).Flush(); err != nil {
					return
				}
				select {
				case <-r.Context().Done():
				case <-time.After(pause):
				}
			}
		}
	}
	for name, tt := range map[string]struct {
		handle  http.HandlerFunc
		timeout time.Duration
	}{
		"fast": {endless(0), 30 * time.Second},
		"slow": {endless(time.Hour), 100 * time.Millisecond},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("1"))
		}, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			output, err := newHandler(t, serve(t, tt.handle).URL, within(tt.timeout)).Handle(t.Context(), aRun())
			if err != nil || output != nil {
				t.Errorf("%q, %v, want success", output, err)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestWhatIsNoAnswerIsAnErrorThatNamesNobody(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ sends, hidden string }{
		"no HTTP":           {"SSH-2.0-OpenSSH_9.6\r\n", "malformed HTTP"},
		"nothing":           {"", "EOF"},
		"too long a header": {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "exceeded"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				_, _ = io.WriteString(conn, tt.sends)
			})
			_, err := newHandler(t, server.URL).Handle(ctx(t), aRun())
			wantFailure(t, err, "the connection to the webhook broke")
			wantHidden(t, err, tt.hidden)
			if len(webhook.Cause(err).Error()) > 1<<10 {
				t.Error("the cause repeats what was sent")
			}
		})
	}
}

func TestNobodyThereIsAnErrorThatNamesNoAddress(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, err = newHandler(t, "http://"+address).Handle(ctx(t), aRun())
	wantFailure(t, err, "the webhook could not be reached")
	wantHidden(t, err, address)
	if domain.KindOf(err) != domain.Unavailable || domain.IsPermanent(err) {
		t.Errorf("%v is not to be retried", err)
	}
}

func TestTLSIsVerifiedAndModern(t *testing.T) {
	t.Parallel()
	start := func(version uint16) *httptest.Server {
		server := httptest.NewUnstartedServer(answer(200, `{"ok":true}`))
		server.Config.ErrorLog = quiet
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version}
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	trusting := func(server *httptest.Server) func(*webhook.Endpoint, *webhook.Options) {
		return func(_ *webhook.Endpoint, o *webhook.Options) {
			o.RootCAs = x509.NewCertPool()
			o.RootCAs.AddCert(server.Certificate())
		}
	}
	modern, oldest, dated := start(tls.VersionTLS13), start(tls.VersionTLS12), start(tls.VersionTLS11)
	for _, server := range []*httptest.Server{modern, oldest} {
		if output, err := newHandler(t, server.URL, trusting(server)).Handle(ctx(t), aRun()); err != nil || string(output) != `{"ok":true}` {
			t.Errorf("%q, %v", output, err)
		}
	}
	_, err := newHandler(t, dated.URL, trusting(dated)).Handle(ctx(t), aRun())
	wantFailure(t, err, "the webhook could not be reached by TLS")
	wantHidden(t, err, "protocol version")

	_, err = newHandler(t, modern.URL).Handle(ctx(t), aRun())
	wantFailure(t, err, "the webhook could not be reached by TLS")
	wantHidden(t, err, "certificate")

	plain := serve(t, answer(200, ""))
	_, err = newHandler(t, strings.Replace(plain.URL, "http:", "https:", 1)).Handle(ctx(t), aRun())
	wantFailure(t, err, "the webhook could not be reached by TLS")
}

func TestTheEnvironmentsProxyIsNotAsked(t *testing.T) {
	t.Parallel()
	const nowhere = "http://webhook.invalid/" // RFC 2606: no such name
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, nowhere, nil)
	if proxy, err := http.ProxyFromEnvironment(req); proxy == nil || err != nil {
		t.Fatalf("there is no proxy to ask: %v, %v", proxy, err)
	}
	_, err := newHandler(t, nowhere).Handle(ctx(t), aRun())
	wantFailure(t, err, "the webhook's host name could not be resolved")
	wantHidden(t, err, "webhook.invalid")
	if n := proxied.Load(); n != 0 {
		t.Errorf("the proxy was asked %d times", n)
	}
}

func TestEveryMistakeOfAnEndpointIsReported(t *testing.T) {
	t.Parallel()
	short, long := "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=", "whsec_"+strings.Repeat("AAAA", 22)
	const noURL, noSecret = "url: must be a URL like https://hooks.example.com/jobs", "secret: must be whsec_ and the base64 of 24 to 64 bytes"
	tests := []struct {
		endpoint webhook.Endpoint
		private  bool
		want     []string
	}{
		{endpoint: webhook.Endpoint{URL: "https://hooks.example.com", Secrets: []string{oldSecret}}},
		{endpoint: webhook.Endpoint{URL: "HTTPS://hooks.example.com:8443/a?b=c", Secrets: []string{oldSecret, newSecret}, Timeout: domain.MaxRunTimeout}},
		{endpoint: webhook.Endpoint{URL: "http://localhost:8081/", Secrets: []string{oldSecret}}, private: true},
		{endpoint: webhook.Endpoint{}, want: []string{noURL, "secret: there must be one, or two while rotating"}},
		{
			endpoint: webhook.Endpoint{URL: "http://hooks.example.com/hunter2", Secrets: []string{oldSecret, newSecret, "hunter2"}, Timeout: -1},
			want: []string{
				"url: must be https, unless private addresses are allowed", "timeout: must be above 0 and at most 12h",
				"secret: there must be one, or two while rotating", noSecret,
			},
		},
		{endpoint: webhook.Endpoint{URL: "/hunter2", Secrets: []string{short}, Timeout: domain.MaxRunTimeout + 1}, want: []string{noURL, "timeout: must be above 0 and at most 12h", noSecret}},
		{endpoint: webhook.Endpoint{URL: "ftp://hunter2.example", Secrets: []string{long}}, want: []string{noURL, noSecret}},
		{endpoint: webhook.Endpoint{URL: "https://", Secrets: []string{""}}, want: []string{noURL, noSecret}},
		{endpoint: webhook.Endpoint{URL: "https://:443/", Secrets: []string{strings.TrimPrefix(oldSecret, "whsec_")}}, want: []string{noURL, noSecret}},
		{endpoint: webhook.Endpoint{URL: "https:hunter2", Secrets: []string{oldSecret + "!"}}, want: []string{noURL, noSecret}},
		{endpoint: webhook.Endpoint{URL: "https://hunter2 .example", Secrets: []string{oldSecret}}, want: []string{noURL}},
		{endpoint: webhook.Endpoint{URL: "https://user:hunter2@hooks.example.com", Secrets: []string{oldSecret}}, want: []string{"url: must have no user and no password"}},
		{endpoint: webhook.Endpoint{URL: "https://hooks.example.com/#", Secrets: []string{oldSecret}}, want: []string{"url: must have no fragment"}},
		{endpoint: webhook.Endpoint{URL: "https://hooks.example.com:0", Secrets: []string{oldSecret}}, want: []string{"url: has a port that there is not"}},
		{endpoint: webhook.Endpoint{URL: "https://hooks.example.com:65536", Secrets: []string{oldSecret}}, want: []string{"url: has a port that there is not"}},
	}
	for i, tt := range tests {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			_, err := webhook.NewHandler(tt.endpoint, webhook.Options{Source: "jobgate", AllowPrivate: tt.private})
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.endpoint.URL, diff)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "-1", "+1", "1.5", "18446744073709551616", "Fri, 02 Jan 2026 03:05:00 GMT", "Friday, 02-Jan-26 03:05:00 GMT", "Fri Jan  2 03:05:00 2026", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := webhook.RetryAfter(value, created)
		if got < 0 || got > domain.MaxBackoff {
			t.Errorf("%q is %v", value, got)
		}
		if seconds, err := strconv.ParseUint(value, 10, 16); err == nil && got != time.Duration(seconds)*time.Second {
			t.Errorf("%q is %v", value, got)
		}
	})
}
