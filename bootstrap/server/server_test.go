package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/httpapi/httpapitest"
	"github.com/jobgate/jobgate/bootstrap/server"
	"github.com/jobgate/jobgate/domain/jobs"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		childMain()
	}
	goleak.VerifyTestMain(m)
}

const secret = "the-secret-of-the-original" // short, as such secrets are

// original is the environment of a service that takes the place of Express with express-jwt: a shared secret, and a
// policy that lets any bearer of a token in.
func original(settings ...string) map[string]string {
	env := map[string]string{
		"JWT_SECRET": secret, "JWT_ALLOW_SHORT_SECRET": "true", "JWT_REQUIRE": "iat", "LISTEN_ADDR": "127.0.0.1:0",
		"ACCESS_POLICY": `{"rules":[{"effect":"allow","actions":["submit","read"]}]}`,
	}
	for i := 0; i < len(settings); i += 2 {
		env[settings[i]] = settings[i+1]
	}
	return env
}

type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var listens = regexp.MustCompile(`listens on (\S+)\n`)

// run runs the program until the test ends, and returns its URL.
func run(t *testing.T, env map[string]string, handlers jobs.Handlers, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	stdout, stderr := &log{}, &log{}
	done := make(chan error, 1)
	go func() {
		done <- server.Run(ctx, args, func(name string) string { return env[name] }, stdout, stderr, handlers)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run = %v\n%s", err, stderr)
		}
		if strings.Contains(stderr.String(), secret) {
			t.Errorf("the secret is in the log:\n%s", stderr)
		}
	})
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if m := listens.FindStringSubmatch(stdout.String()); m != nil {
			// What was not ready is asked again, so that the limit counts for both.
			if status, _ := (client{url: m[1]}).do(t, http.MethodGet, "/readyz", ""); status == http.StatusOK {
				return m[1]
			}
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("Run = %v\n%s", err, stderr)
		default:
		}
	}
	t.Fatalf("the program did not start\n%s", stderr)
	return ""
}

// client is one written for the original: it knows a URL, a token and one request.
type client struct {
	url, token string
}

func newClient(t *testing.T, url string) client {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iat": time.Now().Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return client{url, token}
}

func (c client) do(t *testing.T, method, path, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if path != "/healthz" && path != "/readyz" {
		if err := httpapitest.Breach(req, body, resp.StatusCode, resp.Header, data); err != nil {
			t.Errorf("%s %s: %d %s: %v", method, path, resp.StatusCode, data, err)
		}
	}
	var document map[string]any
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(data, &document); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
	}
	return resp.StatusCode, document
}

// travels submits the original's job and waits until it has succeeded.
func (c client) travels(t *testing.T) {
	t.Helper()
	c.travelsAs(t, "test-job")
}

func (c client) travelsAs(t *testing.T, name string) {
	t.Helper()
	status, job := c.do(t, http.MethodPost, "/jobs", fmt.Sprintf(`{"name":%q}`, name))
	if status != http.StatusCreated {
		t.Fatalf("POST /jobs: %d %v", status, job)
	}
	for limit := time.Now().Add(time.Minute); job["status"] != "succeeded"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("the job is still %v", job)
		}
		if status, job = c.do(t, http.MethodGet, fmt.Sprint("/jobs/", job["id"]), ""); status != http.StatusOK {
			t.Fatalf("GET: %d %v", status, job)
		}
	}
}

func TestAClientOfTheOriginalGoesOnWorking(t *testing.T) {
	t.Parallel()
	t.Run("SQLite as store and queue", func(t *testing.T) {
		t.Parallel()
		c := newClient(t, run(t, original("DATA_DIR", t.TempDir()), nil))
		c.travels(t)
		for _, path := range []string{"/healthz", "/readyz"} {
			if status, _ := (client{url: c.url}).do(t, http.MethodGet, path, ""); status != http.StatusOK {
				t.Errorf("GET %s: %d", path, status)
			}
		}
		if status, problem := (client{url: c.url}).do(t, http.MethodPost, "/jobs", `{"name":"test-job"}`); status != http.StatusUnauthorized || problem["code"] != "missing_token" {
			t.Errorf("without a token: %d %v", status, problem)
		}
		if status, problem := (client{c.url, c.token + "x"}).do(t, http.MethodPost, "/jobs", `{`); status != http.StatusUnauthorized || problem["decision_id"] == nil {
			t.Errorf("with a false token: %d %v", status, problem)
		}
		// The policy is asked before the body is looked at.
		_, job := c.do(t, http.MethodGet, "/jobs", "")
		id := job["jobs"].([]any)[0].(map[string]any)["id"]
		if status, problem := c.do(t, http.MethodPost, fmt.Sprintf("/jobs/%v/cancel", id), `{`); status != http.StatusForbidden {
			t.Errorf("an action that the policy does not allow: %d %v", status, problem)
		}
	})
	t.Run("RabbitMQ and SQLite", func(t *testing.T) {
		t.Parallel()
		broker := adaptertest.RabbitMQ(t)
		newClient(t, run(t, original("DATA_DIR", t.TempDir(), "BROKER_URL", broker.URL), nil)).travels(t)
	})
	t.Run("PostgreSQL as store and queue of several processes", func(t *testing.T) {
		t.Parallel()
		store := adaptertest.Postgres(t).Database(t)
		ran := make(chan string, 10)
		run(t, original("STORE_URL", store), jobs.Handlers{"*": func(context.Context, jobs.Run) ([]byte, error) {
			ran <- "here"
			return nil, nil
		}}, "-role=worker")
		one, two := run(t, original("STORE_URL", store), nil, "-role=api"), run(t, original("STORE_URL", store), nil, "-role=api")
		newClient(t, one).travels(t)
		newClient(t, two).travels(t)
		if len(ran) != 2 {
			t.Errorf("the worker's own handler ran %d of 2 jobs", len(ran))
		}
	})
}

func TestWrongSettingsAreAllReported(t *testing.T) {
	t.Parallel()
	err := server.Run(t.Context(), []string{"-role=nothing"}, func(name string) string {
		return map[string]string{"STORE_URL": "mysql://x", "BROKER_URL": "http://x:hunter2@y", "CONCURRENCY": "0", "DURABILITY": "x"}[name]
	}, io.Discard, io.Discard, nil)
	if err == nil {
		t.Fatal("no mistake is reported")
	}
	for _, want := range []string{"-role", "STORE_URL", "BROKER_URL", "CONCURRENCY", "DURABILITY", "OIDC_ISSUER"} {
		if !strings.Contains(err.Error(), want+": ") {
			t.Errorf("nothing is said of %s:\n%v", want, err)
		}
	}
	if err := server.Run(t.Context(), []string{"-check-config"}, func(name string) string {
		return original("BROKER_URL", "amqp://x/", "RETRY_POLICIES", `[{"jobs":"slow","timeout":"26m"}]`)[name]
	}, io.Discard, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "RETRY_POLICIES: slow: with a broker") {
		t.Errorf("a run timeout that no broker waits for: %v", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password is shown:\n%v", err)
	}
}
