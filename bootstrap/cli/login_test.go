package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/bootstrap/cli/session"
	"github.com/jobgate/jobgate/bootstrap/local"
)

// A laptop is the service on this machine with its built-in provider.
type laptop struct {
	url       string
	passwords map[string]string // by user
	secret    string            // of the client demo
}

// said is what a program has printed until now.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // has a value after each line
}

func newSaid() *said { return &said{more: make(chan struct{}, 1)} }

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// find waits until a program has said what matches.
func (s *said) find(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	for {
		if match := pattern.FindStringSubmatch(s.String()); match != nil {
			return match, nil
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: said was only %q", ctx.Err(), s)
		}
	}
}

var (
	laptopReady = regexp.MustCompile(`(?s)API +(http://\S+).*Stop with`)
	userLine    = regexp.MustCompile(`(?m)^  (\w+) +([A-Z2-7]{26}) `)
	machine     = regexp.MustCompile(`'demo:([A-Z2-7]{26})'`)
)

// startLaptop runs the service until the test ends.
func startLaptop(t *testing.T) *laptop {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	dir, out := t.TempDir(), newSaid()
	ended := make(chan error, 1)
	go func() {
		ended <- local.Run(ctx, nil, func(name string) string {
			return map[string]string{"LISTEN_ADDR": "127.0.0.1:0", "DATA_DIR": dir, "LOG_LEVEL": "error"}[name]
		}, out, io.Discard, nil)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	starting, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	match, err := out.find(starting, laptopReady)
	if err != nil {
		t.Fatal(err)
	}
	l := &laptop{url: match[1], passwords: map[string]string{}}
	for _, user := range userLine.FindAllStringSubmatch(out.String(), -1) {
		l.passwords[user[1]] = user[2]
	}
	l.secret = machine.FindStringSubmatch(out.String())[1]
	return l
}

// browser is the program that BROWSER names in the scripts: it plays the person that the environment describes.
func browser() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	who := adaptertest.Person{Name: os.Getenv("PERSON"), Password: os.Getenv("PERSON_PASSWORD"), Decision: os.Getenv("PERSON_DECISION")}
	page := os.Args[1]
	if forged := os.Getenv("PERSON_FORGES"); forged != "" { // another page sends the browser to the redirect
		u, err := url.Parse(page)
		if err != nil {
			panic(err)
		}
		page = u.Query().Get("redirect_uri") + "?" + forged
	}
	if _, err := who.Visit(ctx, page); err != nil {
		panic(err)
	}
}

// The scripts in testdata/login run the program against the service on a laptop, with the real clock.
func TestLoginScripts(t *testing.T) {
	t.Parallel()
	service := startLaptop(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/login",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TEST_CLOCK", "real")
			env.Setenv("BROWSER", "browser")
			env.Setenv("PERSON", "alice")
			env.Setenv("PERSON_PASSWORD", service.passwords["alice"])
			env.Setenv("PERSON_DECISION", "allow")
			env.Setenv("SERVER", service.url)
			env.Setenv("SERVER_PORT", service.url[strings.LastIndex(service.url, ":")+1:])
			env.Setenv("DEMO_SECRET", service.secret)
			env.Setenv("JOBGATE_CONFIG_DIR", filepath.Join(env.WorkDir, "config"))
			free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer free.Close()
			_, port, err := net.SplitHostPort(free.Addr().String())
			if err != nil {
				return err
			}
			env.Setenv("FREE_PORT", port)
			return os.WriteFile(filepath.Join(env.WorkDir, "secret"), []byte(service.secret+"\n"), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// secretive FILE checks that the output before, and what it left in standard error, show nothing of the token in FILE.
			"secretive": func(ts *testscript.TestScript, _ bool, args []string) {
				shown := ts.ReadFile("stdout") + ts.ReadFile("stderr")
				for part := range strings.SplitSeq(strings.TrimSpace(ts.ReadFile(args[0])), ".") {
					if strings.Contains(shown, part) {
						ts.Fatalf("a part of the token is shown: %s", part)
					}
				}
			},
		},
	})
}

// start runs the program in the background.
func start(t *testing.T, env map[string]string, args ...string) (stdout, stderr *said, ended chan error) {
	t.Helper()
	stdout, stderr, ended = newSaid(), newSaid(), make(chan error, 1)
	go func() {
		ended <- Run(t.Context(), args, func(name string) string { return env[name] }, strings.NewReader(""), stdout, stderr)
	}()
	return stdout, stderr, ended
}

var completeLine = regexp.MustCompile(`already,\s+(http://\S+)`)

func TestADeviceIsLoggedInByAPersonAtABrowser(t *testing.T) {
	t.Parallel()
	service := startLaptop(t)
	for decision, c := range map[string]struct {
		is   error
		says string
	}{
		"allow":  {nil, "The device is logged in."},
		"refuse": {session.ErrRefused, "The device was refused."},
	} {
		t.Run(decision, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"JOBGATE_CONFIG_DIR": t.TempDir()}
			stdout, stderr, ended := start(t, env, "login", "--device", "--keyring", "off", "--server", service.url)
			match, err := stderr.find(t.Context(), completeLine)
			if err != nil {
				t.Fatal(err)
			}
			who := adaptertest.Person{Name: "alice", Password: service.passwords["alice"], Decision: decision}
			page, err := who.Visit(t.Context(), match[1])
			if err != nil || !strings.Contains(page, c.says) {
				t.Errorf("the last page is %s, %v", page, err)
			}
			if err := <-ended; !errors.Is(err, c.is) || (err == nil) != (c.is == nil) {
				t.Errorf("login = %v", err)
			}
			if want := fmt.Sprintf("logged in to %s as \"alice\" (profile default)\n", service.url); c.is == nil && stdout.String() != want {
				t.Errorf("it printed %q, want %q", stdout, want)
			}
		})
	}
}
