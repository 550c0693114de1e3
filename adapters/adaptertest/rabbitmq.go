package adaptertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// debianRabbitMQ is the server's own script. The one in Debian's path changes to another user and directory first.
	debianRabbitMQ   = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	installRabbitMQ  = "apt-get install rabbitmq-server"
	nodeName         = "test@localhost"
	settingsRabbitMQ = `
log.console = true
log.console.level = warning
disk_free_limit.absolute = 10MB
raft.wal_max_size_bytes = 33554432
`
)

// RabbitMQServer is a rabbitmq-server of one node, without plugins, which keeps what it has over a restart.
type RabbitMQServer struct {
	URL string // amqp://, with the user guest, who may do everything

	t       testing.TB
	program string
	dir     string
	ports   struct{ amqp, dist, epmd int }
	process *process
}

// RabbitMQ starts a rabbitmq-server that lives until t ends, and waits until it accepts AMQP, which takes some 5 s on
// an idle machine: tests share one in their common parent. Its methods are for the goroutine of t.
func RabbitMQ(t testing.TB) *RabbitMQServer {
	t.Helper()
	program := debianRabbitMQ
	if _, err := os.Stat(program); err != nil {
		program = Need(t, "rabbitmq-server", installRabbitMQ)
	}
	s := &RabbitMQServer{t: t, program: program, dir: t.TempDir()}
	err := os.WriteFile(filepath.Join(s.dir, "rabbitmq.conf"), []byte(settingsRabbitMQ), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for attempt := 1; ; attempt++ {
		// A free port may be another's by the time it is used.
		s.ports.amqp, s.ports.dist, s.ports.epmd = freePort(t), freePort(t), freePort(t)
		s.URL = fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/", s.ports.amqp)
		s.startNames()
		err := s.start()
		if err == nil {
			return s
		}
		if attempt == 3 {
			t.Fatal(err)
		}
	}
}

// Kill ends the server with SIGKILL. What it has not written is lost, as when its machine loses power but for the
// kernel's buffers.
func (s *RabbitMQServer) Kill() { s.process.kill() }

// Restart kills the server if it runs, starts it again where it was, and waits until it accepts AMQP.
func (s *RabbitMQServer) Restart() {
	s.t.Helper()
	s.Kill()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// AwaitDurable waits until a kill no longer loses the quorum queue of that name, which was declared already. For up to
// 3 s the server has the names of new queues in memory alone, and a queue whose name it does not find after a kill is
// empty, without a leader, and of no more use (https://github.com/rabbitmq/rabbitmq-server/issues/15725).
func (s *RabbitMQServer) AwaitDurable(queue string) {
	s.t.Helper()
	names := filepath.Join(s.dir, "data", nodeName, "quorum", nodeName, "names.dets")
	atom := "%2F_" + queue
	atom = string([]byte{byte(len(atom))}) + atom // in Erlang's external term format the byte before an atom is its length
	ctx, cancel := context.WithTimeout(s.t.Context(), startTimeout)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !strings.Contains(read(names), atom) {
		select {
		case <-poll.C:
		case <-ctx.Done():
			s.t.Fatalf("rabbitmq-server did not write the name of the queue %s within %v", queue, startTimeout)
		}
	}
}

// Control runs rabbitmqctl with the arguments, which takes some seconds.
func (s *RabbitMQServer) Control(args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(s.program), "rabbitmqctl"), args...)
	cmd.Dir = s.dir
	cmd.Env = s.environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// startNames runs the port mapper that Erlang's nodes need, one of the server's own: the machine's would outlive the test
// and know the nodes of others.
func (s *RabbitMQServer) startNames() {
	s.t.Helper()
	cmd := command(s.t, Need(s.t, "epmd", installRabbitMQ), "-port", strconv.Itoa(s.ports.epmd), "-address", "127.0.0.1")
	cmd.Dir = s.dir
	start(s.t, cmd)
}

func (s *RabbitMQServer) start() error {
	s.t.Helper()
	cmd := command(s.t, s.program)
	cmd.Dir = s.dir
	// With RABBITMQ_ALLOW_INPUT the script becomes Erlang's virtual machine instead of waiting for it, so that a signal
	// reaches the server itself, whose few helpers end with it.
	cmd.Env = append(s.environment(),
		"RABBITMQ_ALLOW_INPUT=true",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-noinput -start_epmd false +S 2:2",
	)
	s.process = start(s.t, cmd)

	ctx, cancel := context.WithTimeout(s.t.Context(), startTimeout)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		if s.accepts(ctx) {
			return nil
		}
		select {
		case <-poll.C:
		case <-s.process.exited:
			return fmt.Errorf("rabbitmq-server ended before it accepted AMQP: %v\n%s", s.process.cmd.ProcessState, read(s.process.stdout))
		case <-ctx.Done():
			s.Kill()
			return fmt.Errorf("rabbitmq-server did not accept AMQP within %v", startTimeout)
		}
	}
}

// environment is what the server and its tools agree on.
func (s *RabbitMQServer) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + s.dir, // for the cookie
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_EPMD_PORT=" + strconv.Itoa(s.ports.epmd),
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE=" + filepath.Join(s.dir, "rabbitmq"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(s.dir, "plugins"),
		"RABBITMQ_LOGS=-",
		"RABBITMQ_LOG_BASE=" + filepath.Join(s.dir, "log"),
		"RABBITMQ_MNESIA_BASE=" + filepath.Join(s.dir, "data"),
		"RABBITMQ_NODENAME=" + nodeName,
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT=" + strconv.Itoa(s.ports.amqp),
		"RABBITMQ_DIST_PORT=" + strconv.Itoa(s.ports.dist),
	}
}

// accepts reports whether the server answers the protocol header with a method, which is connection.start
// (https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 4.2.2).
func (s *RabbitMQServer) accepts(ctx context.Context) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.ports.amqp)))
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(5*time.Second)) != nil {
		return false
	}
	if _, err := io.WriteString(conn, "AMQP\x00\x00\x09\x01"); err != nil {
		return false
	}
	first := make([]byte, 1)
	_, err = io.ReadFull(conn, first)
	return err == nil && first[0] == 1
}

// freePort returns a port that nothing listened on a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("%v is no TCP address", l.Addr())
	}
	return addr.Port
}
