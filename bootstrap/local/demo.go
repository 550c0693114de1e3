package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jobgate/jobgate/adapters/zaplog"
	"github.com/jobgate/jobgate/bootstrap/local/idp"
	domainjobs "github.com/jobgate/jobgate/domain/jobs"
)

const (
	demoTimeout = time.Minute
	demoUser    = "alice"
	demoJob     = `{"name":"test-job"}`
	demoPoll    = 50 * time.Millisecond
)

// runDemo starts the service on a free port and a temporary directory, uses it as a stranger would, and stops it.
func runDemo(ctx context.Context, stdout, stderr io.Writer, handlers domainjobs.Handlers) (err error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	begun := time.Now()
	dir, err := os.MkdirTemp("", "jobgate-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cfg, err := LoadConfig(func(name string) string {
		return map[string]string{"LISTEN_ADDR": "127.0.0.1:0", "DATA_DIR": dir, "LOG_LEVEL": "warn"}[name]
	}, handlers)
	if err != nil {
		return err
	}
	s, err := start(ctx, cfg, handlers, zaplog.Console(stderr, cfg.API.LogLevel))
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- s.serve(serving) }()
	fmt.Fprintf(stdout, "jobgate, for a moment, at %s\n", s.url)
	shown := s.show(ctx, stdout)
	stop()
	if err := errors.Join(shown, <-served); err != nil {
		return fmt.Errorf("the demo failed: %w", err)
	}
	fmt.Fprintf(stdout, "\nDone in %v: the service is stopped and its data removed. Keep one: go run ./bootstrap/cmd/local\n", time.Since(begun).Round(time.Millisecond))
	return nil
}

// show goes the whole way as a client.
func (s *local) show(ctx context.Context, w io.Writer) error {
	var password string
	for _, user := range s.provider.Users() {
		if user.Name == demoUser {
			password = user.Password
		}
	}
	tokens, err := login(ctx, s.issuer, idp.PublicClientID, demoUser, password, []string{"openid", idp.ScopeSubmit, idp.ScopeRead})
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	fmt.Fprintf(w, "\n1. %s logged in (OpenID Connect, authorization code with PKCE) and has a token for %v.\n",
		tokens.IDTokenClaims.Subject, time.Until(tokens.Expiry).Round(time.Minute))

	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	var job jobDocument
	status, location, err := call(ctx, client, http.MethodPost, s.url+"/jobs", tokens.AccessToken, demoJob, &job)
	if err != nil {
		return err
	}
	if status != http.StatusCreated {
		return fmt.Errorf("POST /jobs answered %d, want 201", status)
	}
	fmt.Fprintf(w, "2. POST /jobs %s: %d, %s is stored.\n", demoJob, status, location)

	for job.Status != "succeeded" {
		switch job.Status {
		case "dead", "cancelled":
			return fmt.Errorf("the job is %s: %s", job.Status, job.Reason)
		}
		if err := pause(ctx, demoPoll); err != nil {
			return fmt.Errorf("the job is still %s: %w", job.Status, err)
		}
		status, _, err := call(ctx, client, http.MethodGet, s.url+location, tokens.AccessToken, "", &job)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("GET %s answered %d, want 200", location, status)
		}
	}
	fmt.Fprintf(w, "3. GET %s: %s.\n\n", location, job.Status)
	job.timeline(w)

	var refusal struct{ Code string }
	status, _, err = call(ctx, client, http.MethodPost, s.url+"/jobs", "", demoJob, &refusal)
	if err != nil {
		return err
	}
	if status != http.StatusUnauthorized {
		return fmt.Errorf("POST /jobs without a token answered %d, want 401", status)
	}
	fmt.Fprintf(w, "\n4. POST /jobs without a token: %d, %s.\n", status, refusal.Code)
	return nil
}

// jobDocument is what a client reads of a job.
type jobDocument struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason"`
	CreatedAt  time.Time `json:"created_at"`
	FinishedAt time.Time `json:"finished_at"`
	History    []struct {
		Number    int       `json:"number"`
		StartedAt time.Time `json:"started_at"`
		EndedAt   time.Time `json:"ended_at"`
		Worker    string    `json:"worker"`
		Error     string    `json:"error"`
	} `json:"history"`
}

func (j jobDocument) timeline(w io.Writer) {
	line := func(at time.Time, format string, args ...any) {
		fmt.Fprintf(w, "   %s  %+7dms  %s\n", at.Local().Format("15:04:05.000"), at.Sub(j.CreatedAt).Milliseconds(), fmt.Sprintf(format, args...))
	}
	line(j.CreatedAt, "%s submitted", j.Name)
	for _, a := range j.History {
		line(a.StartedAt, "attempt %d begins on %s", a.Number, a.Worker)
		if a.Error != "" {
			line(a.EndedAt, "attempt %d failed: %s", a.Number, a.Error)
		}
	}
	line(j.FinishedAt, "%s", strings.TrimSpace(j.Status+" "+j.Reason))
}

// call makes a request, decodes the JSON answer into out and returns the status and the Location.
func call(ctx context.Context, client *http.Client, method, address, token, body string, out any) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewBufferString(body))
	if err != nil {
		return 0, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(out); err != nil {
		return 0, "", fmt.Errorf("%s %s: %s: %w", method, address, resp.Status, err)
	}
	return resp.StatusCode, resp.Header.Get("Location"), nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
