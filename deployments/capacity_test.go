package deployments_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/dynamodb"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

// capacityDoc is written by these tests as far as its tables go that are marked with a test's name: they are made anew by
//
//	go test ./deployments -run TestCapacity -update
//
// and what else the document says of them is asserted by the test that makes the table.
const capacityDoc = "CAPACITY.md"

// writing is held while the document is rewritten, by tests that run side by side.
var writing sync.Mutex

// table is one of Markdown, first its heads.
type table [][]string

func (tb table) String() string {
	var text strings.Builder
	for i, row := range tb {
		text.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			text.WriteString("|" + strings.Repeat("---|", len(row)) + "\n")
		}
	}
	return text.String()
}

// shown compares a table with that of the document which is marked with the test's name, and prints it.
func shown(t *testing.T, got table) {
	t.Helper()
	compareTables(t, got, func(got, written string) bool { return got == written })
}

// shownAbout is shown for what differs from run to run: a number may be a quarter off, or by a little where it is small.
func shownAbout(t *testing.T, got table) {
	t.Helper()
	number := regexp.MustCompile(`[0-9][0-9,]*(\.[0-9]+)?`)
	compareTables(t, got, func(got, written string) bool {
		is, was := number.FindAllString(got, -1), number.FindAllString(written, -1)
		if number.ReplaceAllString(got, "") != number.ReplaceAllString(written, "") || len(is) != len(was) {
			return false
		}
		for i := range is {
			a, b := parse(t, is[i]), parse(t, was[i])
			if math.Abs(a-b) > max(a, b)/4 && math.Abs(a-b) > 1 {
				return false
			}
		}
		return true
	})
}

// compareTables compares cell by cell.
func compareTables(t *testing.T, got table, same func(got, written string) bool) {
	t.Helper()
	t.Logf("\n%s", got)
	writing.Lock()
	defer writing.Unlock()
	text := string(readFile(t, capacityDoc))
	section := regexp.MustCompile(`(<!-- ` + regexp.QuoteMeta(t.Name()) + ` -->\n\n)((?:\|.*\n)*)`)
	found := section.FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no table marked <!-- %s -->", capacityDoc, t.Name())
	}
	is, was := strings.Split(got.String(), "\n"), strings.Split(found[2], "\n")
	agree := slices.EqualFunc(is, was, func(is, was string) bool {
		return slices.EqualFunc(strings.Split(is, "|"), strings.Split(was, "|"), same)
	})
	switch {
	case agree: // what is written stays, also where it is only about the same
	case *update:
		updated := section.ReplaceAllString(text, "${1}"+strings.ReplaceAll(got.String(), "$", "$$"))
		if err := os.WriteFile(filepath.Clean(capacityDoc), []byte(updated), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s (-measured +written):\n%s", capacityDoc, cmp.Diff(got.String(), found[2]))
	}
}

// document returns the document when nobody writes to it.
func document(t *testing.T) string {
	t.Helper()
	writing.Lock()
	defer writing.Unlock()
	return string(readFile(t, capacityDoc))
}

// says checks that the document has each of the sentences, or parts of them, and that it is true.
func says(t *testing.T, sentences map[string]bool) {
	t.Helper()
	text := strings.Join(strings.Fields(document(t)), " ")
	for sentence, holds := range sentences {
		if !strings.Contains(text, sentence) {
			t.Errorf("%s does not say %q", capacityDoc, sentence)
		}
		if !holds {
			t.Errorf("it is not so that %q", sentence)
		}
	}
}

// epoch is when everything here happens: on a whole second, so that times have one length.
var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// owner is a caller as a user pool of Cognito would name them.
func owner(n int) domain.Principal {
	return domain.Principal{
		Identity: domain.Identity{Issuer: "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI", Subject: jobID(1000 + n)},
		Scopes:   []string{"jobs:submit", "jobs:read"}, TokenID: jobID(2000 + n),
	}
}

func jobID(n int) string { return fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n) }

// submission is a typical one: 200 bytes of payload.
func submission(payload int) jobs.Submission {
	return jobs.Submission{
		Name: "report.render", Payload: []byte(`"` + strings.Repeat("x", payload-2) + `"`),
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	}
}

// dispatched counts what is handed to a broker, and confirms it.
type dispatched struct{ n atomic.Int64 }

func (d *dispatched) Fits(domain.Job) error { return nil }

func (d *dispatched) Dispatch(context.Context, domain.Job) error {
	d.n.Add(1)
	return nil
}

// handler returns what it is asked to for each job.
type handler func(run ports.Run) ([]byte, error)

func (h handler) Handle(_ context.Context, run ports.Run) ([]byte, error) { return h(run) }

// A deployment is the use cases over a table, as an instance of each function has them.
type deployment struct {
	now     time.Time
	ids     int
	store   *dynamodb.Store
	sent    dispatched
	submit  *jobs.Submit
	query   *jobs.Query
	worker  *jobs.Worker
	sweep   *jobs.Sweep
	outcome func(run ports.Run) ([]byte, error)
}

// newDeployment goes by the clock now, or, where that is nil, by its own, which stands still.
func newDeployment(client *sdk.Client, now func() time.Time) *deployment {
	d := &deployment{now: epoch}
	if now == nil {
		now = func() time.Time { return d.now }
	}
	d.store = dynamodb.NewStore(client, "jobs", dynamodb.Options{Now: now})
	d.submit = &jobs.Submit{
		Store: d.store, Dispatcher: &d.sent, Policy: domain.DefaultPolicy(), Retention: domain.DefaultRetention, Now: now,
		NewID: func() string { d.ids++; return jobID(d.ids) },
	}
	d.query = &jobs.Query{Store: d.store, Policy: domain.DefaultPolicy(), Now: now}
	d.worker = &jobs.Worker{
		Store: d.store, Handler: handler(func(run ports.Run) ([]byte, error) { return d.outcome(run) }), Policy: domain.DefaultPolicy(),
		Retention: domain.DefaultRetention, Name: "jobgate-worker/0123456789abcdef0123456789abcdef", Now: now,
		NewToken: func() string { return jobID(3000) }, Random: func() float64 { return 0 },
	}
	d.sweep = &jobs.Sweep{Schedule: d.store, Dispatcher: &d.sent}
	return d
}

var errDown = errors.New("POST https://render.example.com/: 503 Service Unavailable")

// A lifeStep is one thing that happens to a job, and what it took.
type lifeStep struct {
	what      string
	used      usage
	published int64
}

// life runs jobs through everything that can happen to one, and tells what each step took.
func life(t *testing.T, m *meteredTable) []lifeStep {
	t.Helper()
	ctx := t.Context()
	d := newDeployment(m.client(), nil)
	m.reset()
	var steps []lifeStep
	step := func(what string, do func() error) {
		t.Helper()
		d.sent.n.Store(0)
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		steps = append(steps, lifeStep{what, m.reset(), d.sent.n.Load()})
		d.now = d.now.Add(time.Second)
	}
	submit := func(payload int, key string) func() error {
		return func() error {
			s := submission(payload)
			s.IdempotencyKey = key
			_, _, err := d.submit.Do(ctx, owner(1), s)
			return err
		}
	}
	deliver := func(id string, want domain.Reason, outcome func(run ports.Run) ([]byte, error)) func() error {
		return func() error {
			d.outcome = outcome
			if got := d.worker.Deliver(ctx, domain.Delivery{JobID: id}); got.Verdict != domain.Ack || got.Reason != want {
				return fmt.Errorf("%v, %s", got.Verdict, got.Reason)
			}
			return nil
		}
	}
	run := func(claim, settle, id string, outcome func(run ports.Run) ([]byte, error)) {
		t.Helper()
		step(settle, deliver(id, "", func(run ports.Run) ([]byte, error) {
			steps = append(steps, lifeStep{what: claim, used: m.reset()})
			return outcome(run)
		}))
	}

	step("submit", submit(200, ""))
	run("claim", "settle, to be retried", jobID(1), func(ports.Run) ([]byte, error) { return nil, errDown })
	step("due loop, a pass that finds one job due", func() error {
		swept, err := d.sweep.Pass(ctx)
		if err == nil && swept.Dispatched != 1 {
			err = fmt.Errorf("%d were dispatched", swept.Dispatched)
		}
		return err
	})
	run("claim, second attempt", "settle, succeeded", jobID(1), func(run ports.Run) ([]byte, error) {
		stored, err := d.store.Get(ctx, run.Job.ID)
		if err != nil {
			return nil, err
		}
		m.reset()
		step("progress report", func() error { return run.Progress(ctx, 50, "half of the pages") })
		step("renewal of the lease, each 20 s of a run", func() error {
			_, err := d.store.Update(ctx, stored.ID, func(job domain.Job) (domain.Job, error) { return job.Renew(d.now, stored.Lease.Token) })
			return err
		})
		return []byte(`{"pages":3}`), nil
	})
	step("another message of a finished job", deliver(jobID(1), domain.ReasonFinished, nil))
	step("due loop, a pass that finds nothing", func() error {
		_, err := d.sweep.Pass(ctx)
		return err
	})
	step("GET /jobs/{id}", func() error {
		_, err := d.query.Get(ctx, owner(1), jobID(1))
		return err
	})
	step("submit with an idempotency key", submit(200, "order-4711"))
	step("the same again", submit(200, "order-4711"))
	step("submit with 5 KB of payload", submit(5000, ""))
	run("claim of that", "settle of that", jobID(2), func(ports.Run) ([]byte, error) { return nil, nil })
	for range 20 {
		if err := submit(200, "")(); err != nil {
			t.Fatal(err)
		}
	}
	m.reset()
	step("GET /jobs, a page of 20", func() error {
		page, err := d.query.List(ctx, owner(1), jobs.Filter{})
		if err == nil && len(page.Jobs) != 20 {
			err = fmt.Errorf("the page has %d jobs", len(page.Jobs))
		}
		return err
	})
	return steps
}

func lifeTable(steps []lifeStep) table {
	tb := table{{"step", "calls of DynamoDB", "item, KiB", "write units: table", "owner", "all", "agenda", "read units", "publishes"}}
	for _, s := range steps {
		item := "–"
		if s.used.largest > 0 {
			item = fmt.Sprintf("%.1f", float64(s.used.largest)/1024)
		}
		tb = append(tb, []string{
			s.what, s.used.text(), item, fmt.Sprint(s.used.writes), fmt.Sprint(s.used.index["owner"]), fmt.Sprint(s.used.index["all"]),
			fmt.Sprint(s.used.index["agenda"]), fmt.Sprint(s.used.reads), fmt.Sprint(s.published),
		})
	}
	return tb
}

func TestCapacityOfAJobsLife(t *testing.T) {
	t.Parallel()
	steps := life(t, newMeteredTable())
	shown(t, lifeTable(steps))

	of := map[string]usage{}
	for _, s := range steps {
		of[s.what] = s.used
	}
	sum := func(steps ...string) (table, index, reads float64, calls int) {
		for _, s := range steps {
			table += of[s].writes
			index += of[s].indexWrites()
			reads += of[s].reads
			for _, n := range of[s].calls {
				calls += n
			}
		}
		return table, index, reads, calls
	}
	table, index, reads, calls := sum("submit", "claim", "settle, succeeded")
	again, againIndex, _, _ := sum("settle, to be retried", "claim, second attempt")
	loop, loopIndex, _, _ := sum("due loop, a pass that finds one job due")
	keyed := of["submit with an idempotency key"]
	says(t, map[string]bool{
		fmt.Sprintf("A job that succeeds at once takes %g units of the table, %g of its indexes and %g for reads, in %d calls", table, index, reads, calls): true,
		"a retry by its message takes 4 and 8 more; one by the due loop 2 and 2 on top":                                                                     again == 4 && againIndex == 8 && loop == 2 && loopIndex == 2,
		"An idempotency key costs nothing but the item's length":                                                                                            keyed.writes == of["submit"].writes && keyed.indexWrites() == of["submit"].indexWrites(),
		"at 1.1 KiB it is just above one unit":                                                                                                              fmt.Sprintf("%.1f", float64(of["submit"].largest)/1024) == "1.1",
	})
}

// The count is made for answers that the table gives itself; here it has to agree with moto about each.
func TestCapacityOfAJobsLifeAgainstMoto(t *testing.T) {
	t.Parallel()
	cfg := adaptertest.AWSConfig(t, adaptertest.Moto(t))
	if err := dynamodb.CreateTable(t.Context(), sdk.NewFromConfig(cfg), "jobs"); err != nil {
		t.Fatal(err)
	}
	m := newMeteredTable()
	m.next = redirected{cfg.HTTPClient, *cfg.BaseEndpoint}
	if diff := cmp.Diff(lifeTable(life(t, newMeteredTable())), lifeTable(life(t, m))); diff != "" {
		t.Errorf("-by itself +with moto:\n%s", diff)
	}
}

// redirected sends requests elsewhere.
type redirected struct {
	client   sdk.HTTPClient
	endpoint string
}

func (r redirected) Do(req *http.Request) (*http.Response, error) {
	next, err := http.NewRequestWithContext(req.Context(), req.Method, r.endpoint, req.Body)
	if err != nil {
		return nil, err
	}
	next.Header = req.Header
	return r.client.Do(next)
}
