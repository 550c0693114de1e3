//go:build linux

package server_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/httpapi/httpapitest"
)

// A cluster is processes of the program that work together, the first of which serves the API.
type cluster struct {
	t          *testing.T
	name       string
	random     *mathrand.Rand
	secret     string
	token      string
	client     *http.Client
	nodes      []*node
	prepared   func() // called once all are ready; may be nil
	startsFile string
	base       map[string]int // memory, by role
	done       map[string]int // starts of each key of the rounds so far
	clients    [clientCount]int

	mu      sync.Mutex
	outages []outage       // of the API
	checked map[string]int // answers held against the contract in this round, by method and status
}

// An outage is a time in which requests to the API may get no answer. One that goes on has no end.
type outage struct{ began, ended time.Time }

// A node is a role in a cluster: one process after the other.
type node struct {
	cluster  *cluster
	role     string
	settings []string
	attr     *syscall.SysProcAttr // nil: any
	program  *adaptertest.Program

	mu  sync.Mutex
	url string
}

func newCluster(t *testing.T, name string, random *mathrand.Rand) *cluster {
	t.Helper()
	c := &cluster{
		t: t, name: name, random: random, secret: rand.Text() + rand.Text(), done: map[string]int{},
		startsFile: filepath.Join(t.TempDir(), "starts"),
		// Far more than any bound of the program's own.
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clientCount}, Timeout: 40 * time.Second},
	}
	t.Cleanup(c.client.CloseIdleConnections)
	claims := jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(24 * time.Hour).Unix(), "scope": "jobs:submit jobs:read"}
	var err error
	if c.token, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(c.secret)); err != nil {
		t.Fatal(err)
	}
	return c
}

// add adds a node, to be started by start. A run's timeout is what a killed worker's jobs wait for, and half a minute.
func (c *cluster) add(role string, settings ...string) *node {
	n := &node{cluster: c, role: role, settings: append([]string{
		childEnv + "=run", startsEnv + "=" + c.startsFile, "JWT_SECRET=" + c.secret, "LISTEN_ADDR=127.0.0.1:0",
		`RETRY_POLICIES=[{"jobs":"*","timeout":"5s"}]`, "LOG_LEVEL=warn",
	}, settings...)}
	c.nodes = append(c.nodes, n)
	return n
}

// start starts all nodes and returns when they are ready.
func (c *cluster) start() {
	c.t.Helper()
	for _, n := range c.nodes {
		n.start()
	}
	for _, n := range c.nodes {
		for limit := time.Now().Add(time.Minute); n.ready() != http.StatusOK; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(limit) {
				c.t.Fatalf("%s does not become ready", n.role)
			}
		}
	}
	if c.prepared != nil {
		c.prepared()
	}
}

// kill is the fault that a node's process is killed, and another one started.
func (c *cluster) kill(n *node) fault {
	f := fault{name: "kill -9 of " + n.role, do: func() { n.program.Kill() }, undo: n.start}
	if n != c.nodes[0] {
		return f
	}
	f.do = func() {
		c.mu.Lock()
		c.outages = append(c.outages, outage{began: time.Now()})
		c.mu.Unlock()
		n.program.Kill()
	}
	f.undo = func() {
		n.start()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.outages[len(c.outages)-1].ended = time.Now()
	}
	return f
}

// wasOut reports whether the API was being killed at any time since.
func (c *cluster) wasOut(since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.outages) == 0 {
		return false
	}
	last := c.outages[len(c.outages)-1]
	return last.ended.IsZero() || last.ended.After(since)
}

func (n *node) start() {
	t := n.cluster.t
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), exe, "-role="+n.role)
	cmd.Env = n.settings
	cmd.SysProcAttr = n.attr
	n.program = adaptertest.Start(t, cmd)
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		stdout, stderr := n.program.Output()
		if m := listens.FindStringSubmatch(stdout); m != nil {
			n.mu.Lock()
			n.url = m[1]
			n.mu.Unlock()
			return
		}
		select {
		case <-n.program.Exited():
			t.Fatalf("%s ended at once:\n%s", n.role, stderr)
		default:
		}
	}
	t.Fatalf("%s does not listen", n.role)
}

// address returns the URL of the process that is there, or was.
func (n *node) address() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.url
}

// path returns the path of a file as the process sees it.
func (n *node) path(file string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", n.program.PID()), file)
}

// ready returns what GET /readyz is answered with; 0 for no answer.
func (n *node) ready() int {
	t := n.cluster.t
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.address()+"/readyz", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := n.cluster.client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// document is a job as the API shows it.
type document struct {
	ID         string
	Status     string
	Payload    task
	FinishedAt time.Time `json:"finished_at"`
	History    any
}

// get asks for a job; ok is false when the API cannot tell at the moment.
func (c *cluster) get(id string) (found document, ok bool) {
	c.t.Helper()
	switch status := c.call("/jobs/"+id, &found); status {
	case http.StatusOK:
		return found, true
	case http.StatusServiceUnavailable:
		return document{}, false
	default:
		c.t.Fatalf("GET /jobs/%s: %d, and it was accepted", id, status)
		return document{}, false
	}
}

// call makes a GET request to the API.
func (c *cluster) call(path string, out any) (status int) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.nodes[0].address()+path, http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	c.check(req, "", resp, body)
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, out); err != nil {
			c.t.Fatalf("%v: %s", err, body)
		}
	}
	return resp.StatusCode
}

// check holds the first answers of each kind in a round against the API's contract: under the race detector that takes
// longer than to answer, and would have the test wait for itself.
func (c *cluster) check(req *http.Request, body string, resp *http.Response, answer []byte) {
	kind := fmt.Sprint(req.Method, " ", resp.StatusCode)
	c.mu.Lock()
	c.checked[kind]++
	enough := c.checked[kind] > 3
	c.mu.Unlock()
	if enough {
		return
	}
	if err := httpapitest.Breach(req, body, resp.StatusCode, resp.Header, answer); err != nil {
		c.t.Errorf("%s %s: %d %s: %v", req.Method, req.URL, resp.StatusCode, answer, err)
	}
}

// tmpfsBytes is room for thousands of jobs, and quick to fill.
const tmpfsBytes = 24 << 20

func mountTmpfs(dir string) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", tmpfsBytes))
}

// tmpfsAttr returns how to start a process that may mount a tmpfs: in a mount namespace of its own, so that the mount ends
// with it, and, for those who need it, in a user namespace.
func tmpfsAttr(t *testing.T) *syscall.SysProcAttr {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, users := range []bool{false, true} {
		attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Unshareflags: syscall.CLONE_NEWNS}
		if users {
			attr.Cloneflags = syscall.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = []string{childEnv + "=probe", probeEnv + "=1", tmpfsEnv + "=" + t.TempDir()}
		cmd.SysProcAttr = attr
		out, err := cmd.CombinedOutput()
		if err == nil {
			return attr
		}
		reasons = append(reasons, fmt.Sprintf("%v: %s", err, out))
	}
	const missing = "a disk can be filled only where a tmpfs may be mounted: run this as root with CAP_SYS_ADMIN, or allow user namespaces\n"
	if os.Getenv("CI") == "true" {
		t.Fatal(missing + strings.Join(reasons, "\n"))
	}
	t.Skip(missing + strings.Join(reasons, "\n"))
	return nil
}

const filler = "filler"

// fillDisk writes until no byte is left.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, filler), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err = f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

func emptyDisk(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, filler)); err != nil {
		t.Fatal(err)
	}
}
