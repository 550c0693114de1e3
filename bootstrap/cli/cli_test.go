package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/bootstrap/config"
)

// The scripts in testdata run the program with this clock, and with keys from a file: there is no network.
var clock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const issuer = "https://issuer.example"

var update = flag.Bool("update", false, "rewrite the golden output in the scripts")

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"browser": browser, "jobgate": func() {
		config.Main(func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
			t := terminal{getenv: getenv, stdin: os.Stdin, stdout: stdout, stderr: stderr, now: func() time.Time { return clock }}
			if getenv("TEST_CLOCK") == "real" {
				t.now = time.Now
			}
			if off, err := time.ParseDuration(getenv("TEST_CLOCK_OFF")); err == nil {
				t.now = func() time.Time { return time.Now().Add(off) }
			}
			if width, err := strconv.Atoi(getenv("TEST_COLUMNS")); err == nil {
				t.columns = func(io.Writer) int { return width }
			}
			return t.run(ctx, args)
		})
	}})
}

// leakless is a run of tests that has to leave no goroutine behind.
type leakless struct{ m *testing.M }

func (l leakless) Run() int {
	status := l.m.Run()
	if err := goleak.Find(); status == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

func TestScripts(t *testing.T) {
	t.Parallel()
	keys := map[string]oidctest.Key{
		"key-1":    oidctest.NewKey("key-1", "ES256", 0),
		"stranger": oidctest.NewKey("key-1", "ES256", 0),
		"other":    oidctest.NewKey("other-1", "EdDSA", 0),
		"shared":   {Alg: "HS256", Secret: []byte("0123456789abcdef0123456789abcdef")},
	}
	lineEnds := strings.NewReplacer(`\r`, "\r", `\n`, "\n")
	publish := func(path, key string) error {
		source := &oidctest.Issuer{}
		source.PublishJWKs(keys[key].JWK(), oidctest.Object{"kty": "oct", "kid": "odd", "k": "c2VjcmV0"})
		return os.WriteFile(path, source.KeySet(), 0o600)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("OIDC_ISSUER", issuer)
			env.Setenv("OIDC_AUDIENCE", oidctest.Audience)
			env.Setenv("OIDC_JWKS_FILE", "jwks.json")
			return errors.Join(
				publish(filepath.Join(env.WorkDir, "jwks.json"), "key-1"),
				publish(filepath.Join(env.WorkDir, "other.json"), "other"),
			)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// mint FILE KEY [CLAIMS [HEADER]] writes a token; CLAIMS and HEADER are changes in JSON.
			"mint": func(ts *testscript.TestScript, _ bool, args []string) {
				changes := [2]oidctest.Object{}
				for i, text := range args[2:] {
					ts.Check(json.Unmarshal([]byte(text), &changes[i]))
				}
				raw := keys[args[1]].Sign(changes[1], oidctest.Claims(issuer, clock).With(changes[0]))
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(raw), 0o600))
			},
			// secretive FILE checks that the output before shows nothing of the token in FILE.
			"secretive": func(ts *testscript.TestScript, _ bool, args []string) {
				shown := ts.ReadFile("stdout") + ts.ReadFile("stderr")
				for part := range strings.SplitSeq(ts.ReadFile(args[0]), ".") {
					if part != "" && strings.Contains(shown, part) {
						ts.Fatalf("a part of the token is shown: %s", part)
					}
				}
			},
			// wrap TO FROM BEFORE AFTER writes a token with text around it, in which \r and \n end lines.
			"wrap": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(lineEnds.Replace(args[2]+ts.ReadFile(args[1])+args[3])), 0o600))
			},
		},
	})
}

func TestExplainEndsWhenItIsToldToWhileItWaitsForInput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stdin, keyboard := io.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		settings := map[string]string{"JWT_SECRET": strings.Repeat("x", 32)}
		var stdout, stderr bytes.Buffer
		err := Run(ctx, []string{"explain"}, func(name string) string { return settings[name] }, stdin, &stdout, &stderr)
		if !errors.Is(err, context.DeadlineExceeded) || stdout.Len() > 0 {
			t.Errorf("Run = %v, with the output %q", err, &stdout)
		}
		if err := keyboard.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestRunTellsRefusalMisuseAndFailureApart(t *testing.T) {
	t.Parallel()
	settings := map[string]string{"JWT_SECRET": strings.Repeat("x", 32)}
	good := oidctest.Key{Alg: "HS256", Secret: []byte(settings["JWT_SECRET"])}.Sign(nil, oidctest.Claims(issuer, time.Now()))
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		args  []string
		stdin io.Reader
		is    error
	}{
		"allowed":         {[]string{"explain"}, strings.NewReader(good), nil},
		"refused":         {[]string{"explain"}, strings.NewReader("x"), Refused("refused: invalid_token: the token has not three parts")},
		"empty":           {[]string{"explain"}, strings.NewReader("\n"), config.ErrUsage},
		"too much":        {[]string{"explain"}, io.LimitReader(endless{}, maxInput+1), config.ErrUsage},
		"unknown flag":    {[]string{"explain", "--loud"}, strings.NewReader(good), config.ErrUsage},
		"unknown command": {[]string{"explode"}, strings.NewReader(good), config.ErrUsage},
		"no input":        {[]string{"explain"}, broken{gone}, gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Run(t.Context(), c.args, func(name string) string { return settings[name] }, c.stdin, io.Discard, io.Discard)
			if !errors.Is(err, c.is) || errors.Is(err, config.ErrUsage) != errors.Is(c.is, config.ErrUsage) {
				t.Errorf("Run = %v, want %v", err, c.is)
			}
		})
	}
}

// Claims that are kept travel in the authorizer's answer, which API Gateway bounds.
func TestExplainTellsWhenTheAnswerIsTooLarge(t *testing.T) {
	t.Parallel()
	settings := map[string]string{"JWT_SECRET": strings.Repeat("x", 32), "OIDC_KEEP_CLAIMS": "groups", "OIDC_MAX_TOKEN": "16KiB"}
	key := oidctest.Key{Alg: "HS256", Secret: []byte(settings["JWT_SECRET"])}
	for size, want := range map[int]error{6000: nil, 9000: Refused("refused: too_large: the authorizer's answer would be too large, and so denies everything")} {
		token := key.Sign(nil, oidctest.Claims(issuer, time.Now()).With(oidctest.Object{"groups": strings.Repeat("g", size)}))
		var stdout bytes.Buffer
		err := Run(t.Context(), []string{"explain"}, func(name string) string { return settings[name] }, strings.NewReader(token), &stdout, io.Discard)
		if !errors.Is(err, want) || strings.Contains(stdout.String(), `"Allow"`) != (want == nil) {
			t.Errorf("with %d bytes of groups Run = %v and\n%.500s\nwant %v", size, err, &stdout, want)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "x"), nil }

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
