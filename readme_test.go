package jobgate_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/server"
)

// TestReadme does what the README says, in its order and word by word but for the address: the program of its Go block
// is built and started, the command that it prints sets the token, each curl has to do what the text around it says, and
// the settings of its env blocks have to be a server's.
func TestReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program := blocks(t, string(readme), "go")
	commands := blocks(t, string(readme), "sh")
	for _, policy := range blocks(t, string(readme), "json") {
		p, err := config.ParsePolicy([]byte(policy))
		if problems := p.Validate(2); err != nil || len(problems) > 0 {
			t.Errorf("the policy of the README cannot be used: %v %q", err, problems)
		}
	}
	for _, settings := range blocks(t, string(readme), "env") {
		env := map[string]string{}
		for line := range strings.Lines(settings) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			env[name] = value
		}
		if _, err := server.LoadConfig(func(name string) string { return env[name] }, "all", nil); err != nil {
			t.Errorf("the settings of the README cannot be used: %v\n%s", err, settings)
		}
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var curls, jobgate []string
	var explain string
	for _, command := range commands {
		switch {
		case strings.HasPrefix(command, "curl "):
			curls = append(curls, command)
		case strings.HasSuffix(command, "jobgate explain"):
			explain = command
		case strings.HasPrefix(command, "jobgate ") || command == "go install ./bootstrap/cmd/jobgate":
			jobgate = append(jobgate, command)
		case command == "make test": // what runs this test
		case command == "make package": // TestPackages does
		case command == "go run ./bootstrap/cmd/local": // below, with handlers
		case strings.Contains(string(makefile), "\t"+command+"\n"): // CI runs it
		default:
			t.Errorf("nothing runs this command of the README:\n%s", command)
		}
	}
	if len(program) != 1 || len(curls) != 4 {
		t.Fatalf("the README has %d programs and %d requests, want 1 and 4", len(program), len(curls))
	}
	for _, needed := range []string{"bash", "curl"} {
		adaptertest.Need(t, needed, "apt-get install "+needed)
	}

	dir := t.TempDir()
	address := freeAddress(t)
	printed := startProgram(t, dir, program[0], address)
	typeIn(t, jobgate, address, printed)
	token := regexp.MustCompile(`(?s)  TOKEN=\$\(.*?\)\n\n`).FindString(printed)
	if token == "" {
		t.Fatalf("the program printed no command that gets a token:\n%s", printed)
	}
	bash := func(command string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		script := "set -e -o pipefail\n" + token + "\n" + strings.ReplaceAll(command, "127.0.0.1:8080", address)
		out, err := exec.CommandContext(ctx, "bash", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", script, err, out)
		}
		return string(out)
	}
	eventually := func(what string, done func() bool) {
		t.Helper()
		for limit := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("in vain waited until %s", what)
			}
		}
	}

	first := bash(curls[0])
	location := regexp.MustCompile(`(?m)^Location: (\S+)\r$`).FindStringSubmatch(first)
	if !strings.HasPrefix(first, "HTTP/1.1 201 ") || location == nil {
		t.Fatalf("the first job was answered:\n%s", first)
	}
	eventually("the handler's output is in the job", func() bool {
		return strings.Contains(bash(`curl -sS -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080`+location[1]), `"output":"3 rows, attempt 1"`)
	})
	if answer := bash(curls[1]); !strings.HasPrefix(answer, "HTTP/1.1 201 ") {
		t.Errorf("the job with a key was answered:\n%s", answer)
	}
	if answer := bash(curls[1]); !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !strings.Contains(answer, "Idempotent-Replayed: true") {
		t.Errorf("the same request again was answered:\n%s", answer)
	}
	eventually("the list shows both jobs succeeded", func() bool {
		return strings.Count(bash(curls[2]), `"status":"succeeded"`) == 2 // TOKEN is a program's, who sees none of alice's
	})
	if answer := bash(curls[3]); !strings.HasPrefix(answer, "HTTP/1.1 401 ") || !strings.Contains(answer, `"code":"unauthorized"`) {
		t.Errorf("the request without a token was answered:\n%s", answer)
	}
	if answer := bash(explain); !strings.HasPrefix(answer, "allowed") || !strings.Contains(answer, "execute-api") {
		t.Errorf("the token was explained as:\n%s", answer)
	}
	// The commands that the program prints are held to the same.
	for line := range strings.SplitSeq(printed, "\n") {
		if command := strings.TrimSpace(line); strings.HasPrefix(command, "curl ") {
			if answer := bash(command); strings.Contains(answer, `"code"`) || !strings.Contains(answer, "test-job") {
				t.Errorf("%s\nwas answered:\n%s", command, answer)
			}
		}
	}
}

// browserEnv makes of this program the browser that a person sits at.
const browserEnv = "README_TEST_PASSWORD"

func TestMain(m *testing.M) {
	if password := os.Getenv(browserEnv); password != "" {
		who := adaptertest.Person{Name: "alice", Password: password, Decision: "allow"}
		if _, err := who.Visit(context.Background(), os.Args[1]); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// typeIn does what the README does with the command line, one command after the other.
func typeIn(t *testing.T, commands []string, address, printed string) {
	t.Helper()
	password := regexp.MustCompile(`(?m)^  alice +(\S+) `).FindStringSubmatch(printed)
	if password == nil {
		t.Fatalf("the program printed no password of alice's:\n%s", printed)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	says := map[string]string{
		"jobgate login": "logged in", "jobgate submit": "3 rows, attempt 1", "jobgate list": "succeeded", "jobgate doctor": "ok",
	}
	for _, command := range commands {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // go install may compile
		cmd := exec.CommandContext(ctx, "bash", "-c", strings.ReplaceAll(command, "127.0.0.1:8080", address))
		cmd.Env = append(os.Environ(), "GOBIN="+bin, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"),
			"JOBGATE_CONFIG_DIR="+filepath.Join(bin, "config"), "BROWSER="+self, browserEnv+"="+password[1])
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", command, err, out)
		}
		for what, want := range says {
			if strings.HasPrefix(command, what) && !strings.Contains(string(out), want) {
				t.Errorf("%s\nsaid nothing of %q:\n%s", command, want, out)
			}
		}
	}
	if len(commands) < 1+len(says) {
		t.Errorf("the README has the commands %q", commands)
	}
}

// blocks returns the fenced blocks of a language.
func blocks(t *testing.T, markdown, language string) []string {
	t.Helper()
	var found []string
	for _, m := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)\n```\n").FindAllStringSubmatch(markdown, -1) {
		found = append(found, m[1])
	}
	return found
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// startProgram builds a program of the README, starts it and returns what it printed up to its last line. It is asked
// to stop when the test ends, and has to do that well.
func startProgram(t *testing.T, dir, source, address string) string {
	t.Helper()
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(source+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "program")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, file).CombinedOutput(); err != nil {
		t.Fatalf("the program of the README does not build: %v\n%s", err, out)
	}
	cmd := exec.Command(binary) //nolint:noctx // ended below
	cmd.Dir = dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OIDC_") }), "LISTEN_ADDR="+address)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the program did not stop well: %v\n%s", err, stderr.String())
		}
	})
	var printed strings.Builder
	for lines := bufio.NewReader(stdout); ; {
		line, err := lines.ReadString('\n')
		printed.WriteString(line)
		if strings.HasPrefix(line, "Stop with") {
			return printed.String()
		}
		if err == io.EOF {
			t.Fatalf("the program ended:\n%s", printed.String())
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
