//go:build unix

package adaptertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// debianPostgres is where Debian keeps the programs of each version; only those of the client are in its path.
	debianPostgres  = "/usr/lib/postgresql/*/bin"
	installPostgres = "apt-get install postgresql"
)

// PostgresServer is a PostgreSQL of a test's own. It listens on 127.0.0.1, and on a socket in its directory.
type PostgresServer struct {
	t        testing.TB
	dir      string // of its data, its socket and its password
	port     int
	password string
	settings []string
	process  *process
}

// Postgres starts an empty PostgreSQL that lives until t ends, which takes some 2 s: tests share one in their common
// parent, and each takes a Database of its own. A setting is "name=value", as in postgresql.conf; without any, what
// is committed is on disk. Its methods but Database are for the goroutine of t.
func Postgres(t testing.TB, settings ...string) *PostgresServer {
	t.Helper()
	initdb := postgresProgram(t, "initdb")
	dir, err := os.MkdirTemp("", "postgres") //nolint:usetesting // only its owner may enter t.TempDir, and a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &PostgresServer{t: t, dir: dir, password: rand.Text(), settings: settings}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(s.password), 0o600); err != nil {
		t.Fatal(err)
	}
	if owner := unprivileged(t); owner != nil {
		for _, path := range []string{dir, password} {
			if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.run(t, initdb, "--pgdata", s.data(), "--username", "jobgate", "--auth", "scram-sha-256", "--pwfile", password,
		"--encoding", "UTF8", "--no-locale", "--no-sync")
	for attempt := 1; ; attempt++ {
		// A free port may be another's by the time it is used.
		s.port = freePort(t)
		err := s.start()
		if err == nil {
			return s
		}
		if attempt == 3 {
			t.Fatal(err)
		}
	}
}

// Database creates an empty database and returns its URL. It is safe for concurrent use.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := "db" + strings.ToLower(rand.Text())
	s.run(t, postgresProgram(t, "createdb"), "--host", s.dir, "--port", strconv.Itoa(s.port), "--username", "jobgate", name)
	return fmt.Sprintf("postgres://jobgate:%s@%s/%s?sslmode=disable",
		url.QueryEscape(s.password), net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), name)
}

// Kill ends all processes of the server with SIGKILL.
func (s *PostgresServer) Kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	<-s.process.exited
}

// Restart kills the server if it runs, starts it again where it was, and waits until it answers.
func (s *PostgresServer) Restart() {
	s.t.Helper()
	s.Kill()
	for end := time.Now().Add(startTimeout); ; time.Sleep(100 * time.Millisecond) {
		err := s.start()
		if err == nil {
			return
		}
		// For a moment its port may be another's, or its shared memory still in use by a process that is about to end.
		if time.Now().After(end) {
			s.t.Fatal(err)
		}
	}
}

// Pause stops all processes of the server with SIGSTOP: its connections stay, and nothing answers.
func (s *PostgresServer) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Continue has a paused server go on.
func (s *PostgresServer) Continue() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

func (s *PostgresServer) start() error {
	s.t.Helper()
	port := strconv.Itoa(s.port)
	cmd := s.command(s.t, postgresProgram(s.t, "postgres"), "-D", s.data(), "-k", s.dir, "-h", "127.0.0.1", "-p", port)
	for _, setting := range s.settings {
		cmd.Args = append(cmd.Args, "-c", setting)
	}
	if attr := dieWithParent(); attr != nil {
		attr.Credential = cmd.SysProcAttr.Credential
		cmd.SysProcAttr = attr
	}
	server := start(s.t, cmd)
	s.process = server
	// Killed alone, it would leave its shared memory behind.
	s.t.Cleanup(func() {
		_ = server.cmd.Process.Signal(syscall.SIGQUIT)
		_ = signalTree(server.cmd.Process.Pid, syscall.SIGCONT)
		select {
		case <-server.exited:
		case <-time.After(10 * time.Second):
		}
	})

	isReady := postgresProgram(s.t, "pg_isready")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), startTimeout)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			if exec.CommandContext(ctx, isReady, "--quiet", "--host", "127.0.0.1", "--port", port).Run() == nil {
				return nil
			}
		case <-server.exited:
			return fmt.Errorf("postgres ended before it answered: %v\n%s", server.cmd.ProcessState, read(server.stderr))
		case <-ctx.Done():
			return fmt.Errorf("postgres did not answer within %v", startTimeout)
		}
	}
}

// signal sends sig to the server and its children.
func (s *PostgresServer) signal(sig syscall.Signal) {
	s.t.Helper()
	select {
	case <-s.process.exited:
		return
	default:
	}
	if err := signalTree(s.process.cmd.Process.Pid, sig); err != nil {
		s.t.Fatal(err)
	}
}

// signalTree sends sig to a process and its children, which it can tell on Linux alone; elsewhere those of a killed
// postgres notice and end by themselves.
func signalTree(pid int, sig syscall.Signal) error {
	if sig != syscall.SIGCONT {
		// It must not start another one meanwhile.
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// PID (NAME) STATE PARENT …, and the name may hold anything (proc_pid_stat(5)).
		text := string(stat)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		_ = syscall.Kill(child, sig) // it may have ended
	}
	return syscall.Kill(pid, sig)
}

// run runs a program as the server's user to its end.
func (s *PostgresServer) run(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := s.command(t, program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// command prepares a process as the server's user: postgres refuses to run as root.
func (s *PostgresServer) command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t, program, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "PGPASSWORD=" + s.password}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: unprivileged(t)}
	return cmd
}

// unprivileged is the user that a test that runs as root starts a server as; nil for any other, who does so as
// themselves.
func unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatal(err)
	}
	uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		t.Fatalf("the user %s has id %s and group %s", account.Username, account.Uid, account.Gid)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// postgresProgram returns the path of a program of PostgreSQL's.
func postgresProgram(t testing.TB, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(debianPostgres, name))
	if err == nil && len(found) > 0 {
		return found[len(found)-1]
	}
	return Need(t, name, installPostgres)
}
