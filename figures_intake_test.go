//go:build linux

package jobgate_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/adapters/rabbitmq"
)

const (
	intakeConns  = 32
	intakeWarmUp = time.Second // that is not counted: connections, heaps, and the compiler of Node
	intakeTime   = 2 * time.Second

	// intakeTokens is how many requests there are at most where no token is to be seen twice: signing takes long.
	intakeTokens = 9_000
)

// TestFiguresIntake measures POST /jobs over RabbitMQ: jobgate, which stores a job and has it confirmed, beside a handler
// that does no more than to have it confirmed, and beside the service that jobgate replaces, which does neither. Each
// server is a process of its own, started anew in every round; the clients, the broker and the server share the machine.
func TestFiguresIntake(t *testing.T) { //nolint:paralleltest // it measures
	rounds := needFigures(t)
	l := newIntakeLab(t)
	c := comparison{contenders: []contender{l.jobgate("jobgate, remembered tokens", false), l.jobgate("jobgate, fresh tokens", true), l.bare(), l.express()}}
	for _, name := range []string{"jobgate, remembered tokens", "jobgate, fresh tokens"} {
		fresh := strings.Contains(name, "fresh")
		cpu := 0.20
		if fresh {
			cpu = 0.28
		}
		_, tokens, _ := strings.Cut(name, ", ")
		add := func(r row) {
			r.what, r.of, r.floor, r.peers = "POST /jobs, "+tokens+": "+r.what, name, "bare handler", []string{"Express"}
			c.rows = append(c.rows, r)
		}
		add(row{what: "requests", metric: "req/s", unit: "/s", base: "Express", atLeast: 2.5})
		add(row{what: "requests, beside the floor", metric: "req/s", unit: "/s", base: "bare handler", atLeast: 0.85})
		add(row{what: "CPU of the server", metric: "ms CPU", unit: "ms", atMost: cpu})
		add(row{what: "p99", metric: "ms p99", unit: "ms", atMost: 25})
		add(row{what: "most memory", metric: "MB", unit: "MB", atMost: 64})
	}
	c.run(rounds)
	c.report(t)
}

// intakeLab is a broker, an issuer's keys, and tokens.
type intakeLab struct {
	t       *testing.T
	missing string // what is needed by all, and not installed
	broker  *adaptertest.RabbitMQServer
	issuer  string
	keys    string   // file
	tokens  []string // no two are alike
}

func newIntakeLab(t *testing.T) *intakeLab {
	t.Helper()
	l := &intakeLab{t: t, issuer: "https://issuer.example", keys: filepath.Join(t.TempDir(), "jwks.json")}
	if _, err := exec.LookPath("rabbitmq-server"); err != nil {
		l.missing = "rabbitmq-server"
		return l
	}
	l.broker = adaptertest.RabbitMQ(t)
	key := oidctest.NewKey("key", "RS256", 0)
	source := &oidctest.Issuer{URL: l.issuer}
	source.Publish(key)
	if err := os.WriteFile(l.keys, source.KeySet(), 0o600); err != nil {
		t.Fatal(err)
	}
	l.tokens = make([]string, intakeTokens)
	claims := oidctest.Claims(l.issuer, time.Now())
	var signers sync.WaitGroup
	for i := range runtime.GOMAXPROCS(0) {
		signers.Go(func() {
			for n := i; n < len(l.tokens); n += runtime.GOMAXPROCS(0) {
				l.tokens[n] = key.Sign(nil, claims.With(oidctest.Object{"jti": fmt.Sprintf("token-%d", n)}))
			}
		})
	}
	signers.Wait()
	return l
}

// jobgate is the server itself, in the role of the API, on SQLite in the default durability. Fresh: with each request
// comes a token that it has not seen; else each connection has one of its own.
func (l *intakeLab) jobgate(name string, fresh bool) contender {
	if l.missing != "" {
		return contender{name: name, missing: l.missing}
	}
	binary := adaptertest.Build(l.t, "server", "./bootstrap/cmd/server")
	return contender{name: name, measure: func() sample {
		cmd := exec.CommandContext(context.WithoutCancel(l.t.Context()), binary, "-role=api")
		cmd.Env = []string{
			"LISTEN_ADDR=127.0.0.1:0", "DATA_DIR=" + l.t.TempDir(), "BROKER_URL=" + l.broker.URL,
			"OIDC_ISSUER=" + l.issuer, "OIDC_AUDIENCE=" + oidctest.Audience, "OIDC_JWKS_FILE=" + l.keys,
		}
		return l.load(cmd, rabbitmq.DefaultQueue, fresh)
	}}
}

func (l *intakeLab) bare() contender {
	c := contender{name: "bare handler", missing: l.missing}
	if l.missing != "" {
		return c
	}
	binary, missing := buildPeer(l.t, "bare")
	c.missing = missing
	c.measure = func() sample {
		const queue = "bare"
		cmd := exec.CommandContext(context.WithoutCancel(l.t.Context()), binary, "-broker", l.broker.URL, "-queue", queue,
			"-keys", l.keys, "-issuer", l.issuer, "-audience", oidctest.Audience)
		return l.load(cmd, queue, false)
	}
	return c
}

func (l *intakeLab) express() contender {
	c := contender{name: "Express", missing: l.missing}
	if l.missing != "" {
		return c
	}
	dir, missing := npmPeer(l.t, "express")
	c.missing = missing
	c.measure = func() sample {
		const queue = "task_queue"
		cmd := exec.CommandContext(context.WithoutCancel(l.t.Context()), "node", "--no-deprecation", "server.js")
		cmd.Dir = dir
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "NODE_ENV=production", "BROKER_URL=" + l.broker.URL, "QUEUE=" + queue,
			"KEYS=" + l.keys, "ISSUER=" + l.issuer, "AUDIENCE=" + oidctest.Audience,
		}
		return l.load(cmd, queue, false)
	}
	return c
}

var servesAt = regexp.MustCompile(`listens on http://(\S+)`)

// load starts a server, lets clients ask as fast as they get answers, and ends it. What it published is thrown away.
func (l *intakeLab) load(cmd *exec.Cmd, queue string, fresh bool) sample {
	t := l.t
	t.Helper()
	program := adaptertest.Start(t, cmd)
	defer l.purge(queue)
	defer program.Kill()
	address := ""
	for limit := time.Now().Add(30 * time.Second); address == ""; time.Sleep(5 * time.Millisecond) {
		stdout, stderr := program.Output()
		if m := servesAt.FindStringSubmatch(stdout); m != nil {
			address = m[1]
		} else if time.Now().After(limit) {
			t.Fatalf("%s does not listen:\n%s%s", cmd, stdout, stderr)
		}
	}
	tokens := l.tokens[:intakeConns]
	if fresh {
		tokens = l.tokens
	}
	clients := newClients(t, address, tokens)
	defer clients.close()
	for limit := time.Now().Add(30 * time.Second); !clients.accepted(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s accepts no job", cmd)
		}
	}
	clients.run(intakeWarmUp)
	before := usageOf(t, program.PID())
	began := time.Now()
	took := clients.run(intakeTime)
	elapsed := time.Since(began)
	after := usageOf(t, program.PID())
	if failure := clients.failed.Load(); failure != nil {
		t.Fatalf("%s: %v", cmd, *failure)
	}
	if len(took) < 100 {
		t.Fatalf("%s answered %d requests", cmd, len(took))
	}
	slices.Sort(took)
	n := float64(len(took))
	return sample{
		"req/s": n / elapsed.Seconds(), "ms CPU": (after.cpu - before.cpu).Seconds() * 1000 / n,
		"ms p99": took[len(took)*99/100].Seconds() * 1000, "MB": after.memory / 1e6,
	}
}

func (l *intakeLab) purge(queue string) {
	conn, err := amqp.Dial(l.broker.URL)
	if err != nil {
		l.t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err == nil {
		_, err = ch.QueuePurge(queue, false)
	}
	if err != nil {
		l.t.Error(err)
	}
}

// usage is what a process has taken so far.
type usage struct {
	cpu    time.Duration
	memory float64 // bytes, at most
}

func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	const tick = 10 * time.Millisecond // of /proc, on every architecture that Go knows
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):])) // from the second on: the name may have spaces
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, most, _ := strings.Cut(string(status), "VmHWM:")
	number := func(text string) float64 {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return usage{
		cpu:    time.Duration(number(fields[12])+number(fields[13])) * tick, // 14 and 15 of all: proc_pid_stat(5)
		memory: number(strings.Fields(most)[0]) * 1024,
	}
}

// clients are connections that are kept, each with one request on its way at a time. They are as little work as can be,
// for they share the machine with what is measured.
type clients struct {
	conns    []net.Conn
	readers  []*bufio.Reader
	requests [][]byte
	next     atomic.Int64 // request, where they are for one time
	failed   atomic.Pointer[error]
}

func newClients(t *testing.T, address string, tokens []string) *clients {
	t.Helper()
	c := &clients{}
	for range intakeConns {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.conns, c.readers = append(c.conns, conn), append(c.readers, bufio.NewReader(conn))
	}
	const body = `{"name":"test-job"}`
	for _, token := range tokens {
		c.requests = append(c.requests, fmt.Appendf(nil, "POST /jobs HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", address, token, len(body), body))
	}
	return c
}

func (c *clients) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
}

// accepted reports whether a job is accepted at last: a server may listen before it has a broker.
func (c *clients) accepted() bool {
	_, err := c.conns[0].Write(c.requests[0])
	return err == nil && created(c.readers[0]) == nil
}

// run asks for so long and returns how long each answer took. Where there are more tokens than connections no two requests
// have the same, and the end is where there are no more.
func (c *clients) run(d time.Duration) []time.Duration {
	end := time.Now().Add(d)
	took := make([][]time.Duration, len(c.conns))
	var all sync.WaitGroup
	for i, conn := range c.conns {
		all.Go(func() {
			for began := time.Now(); began.Before(end); {
				request := c.requests[i%len(c.requests)]
				if len(c.requests) > len(c.conns) {
					n := int(c.next.Add(1)) - 1
					if n >= len(c.requests) {
						return
					}
					request = c.requests[n]
				}
				if _, err := conn.Write(request); err != nil {
					c.fail(err)
					return
				}
				if err := created(c.readers[i]); err != nil {
					c.fail(err)
					return
				}
				now := time.Now()
				took[i] = append(took[i], now.Sub(began))
				began = now
			}
		})
	}
	all.Wait()
	return slices.Concat(took...)
}

func (c *clients) fail(err error) { c.failed.CompareAndSwap(nil, &err) }

// created reads an answer with a length, which has to be 201.
func created(r *bufio.Reader) error {
	status, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); len(name) == len("Content-Length") && strings.EqualFold(string(name), "Content-Length") {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if !strings.Contains(status, " "+strconv.Itoa(http.StatusCreated)+" ") {
		body, _ := io.ReadAll(io.LimitReader(r, int64(length)))
		return fmt.Errorf("%s: %s", strings.TrimSpace(status), body)
	}
	_, err = r.Discard(length)
	return err
}
