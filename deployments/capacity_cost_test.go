package deployments_test

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The prices and quotas are written in the document alone, each with where it is from; a row is
//
//	| name | number | …
//
// A price that falls with use has a row for each step, whose third column is from how many a month it holds.

// rowsUnder returns the cells of the table under a heading, without its head.
func rowsUnder(t *testing.T, heading string) [][]string {
	t.Helper()
	text := document(t)
	section := regexp.MustCompile(`(?s)\n#+ ` + regexp.QuoteMeta(heading) + `\n.*?\n\|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)`).FindStringSubmatch(text)
	if section == nil {
		t.Fatalf("%s has no table of %s", capacityDoc, heading)
	}
	var rows [][]string
	for line := range strings.Lines(section[1]) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

func parse(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil {
		t.Fatalf("%s: %v", capacityDoc, err)
	}
	return n
}

func quotas(t *testing.T) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, row := range rowsUnder(t, "Quotas") {
		all[row[0]] = parse(t, row[1])
	}
	return all
}

// A rate is a price that holds from so many a month.
type rate struct{ from, price float64 }

type prices map[string][]rate

func readPrices(t *testing.T) prices {
	t.Helper()
	all := prices{}
	for _, row := range rowsUnder(t, "Prices") {
		all[row[0]] = append(all[row[0]], rate{parse(t, row[2]), parse(t, row[1])})
	}
	return all
}

// of returns what so many a month cost.
func (p prices) of(name string, n float64) float64 {
	steps, ok := p[name]
	if !ok {
		panic("no price of " + name)
	}
	total := 0.0
	for i, s := range steps {
		until := math.Inf(1)
		if i+1 < len(steps) {
			until = steps[i+1].from
		}
		total += max(0, min(n, until)-s.from) * s.price
	}
	return total
}

const million = 1e6

// A load is jobs that succeed at once, of 200 bytes of payload.
type load struct {
	rate    float64 // jobs a second
	batch   float64 // messages of a call of the worker
	apiTime float64 // seconds of a call of the functions auth and jobs
	runTime float64 // seconds of a call of the worker
	callers float64 // authorizer's answers that a job needs: 1 without its cache
}

// The times are assumptions, which the document names: who has measured their own puts them here.
var loads = []load{
	{rate: 10, batch: 1, apiTime: 0.02, runTime: 0.1, callers: 0.01},
	{rate: 1000, batch: 10, apiTime: 0.02, runTime: 0.1, callers: 0.01},
	{rate: 100_000, batch: 10, apiTime: 0.02, runTime: 0.1, callers: 0.01},
}

// perJob is what one job that succeeds at once takes of the table.
type perJob struct {
	table, index, reads float64
	indexes             map[string]float64
	stored              float64 // bytes kept, with index entries, until the job expires
}

func takenByAJob(t *testing.T) perJob {
	t.Helper()
	j := perJob{indexes: map[string]float64{}}
	for _, s := range life(t, newMeteredTable()) {
		switch s.what {
		case "submit", "claim", "settle, succeeded":
			j.table += s.used.writes
			j.index += s.used.indexWrites()
			j.reads += s.used.reads
			j.stored = float64(s.used.stored)
			for name, units := range s.used.index {
				j.indexes[name] += units
			}
		}
	}
	return j
}

func TestCapacityCostOfAMillionJobs(t *testing.T) {
	t.Parallel()
	p, job := readPrices(t), takenByAJob(t)
	const gib = 1 << 30
	memory := 1.0 / 4 // GB of auth and jobs, by default
	workerMemory := 1.0 / 2
	days := float64(7)
	tb := table{{"part", "for each job", "at 10/s", "at 1,000/s", "at 100,000/s"}}
	totals := make([]float64, len(loads))
	add := func(part, each string, cost func(l load, jobs float64) float64) {
		row := []string{part, each}
		for i, l := range loads {
			jobs := l.rate * 86400 * 30 // a month's
			c := cost(l, jobs) / jobs * million
			totals[i] += c
			row = append(row, fmt.Sprintf("%.2f", c))
		}
		tb = append(tb, row)
	}
	add("API Gateway, REST", "1 request", func(_ load, jobs float64) float64 { return p.of("API Gateway, REST request", jobs) })
	add("DynamoDB, writes", fmt.Sprintf("%g + %g units (table + indexes)", job.table, job.index), func(_ load, jobs float64) float64 {
		return p.of("DynamoDB, write unit", jobs*(job.table+job.index))
	})
	add("DynamoDB, reads", fmt.Sprintf("units: %g", job.reads), func(_ load, jobs float64) float64 { return p.of("DynamoDB, read unit", jobs*job.reads) })
	add("DynamoDB, kept for 7 days", fmt.Sprintf("%.1f KiB with index entries", job.stored/1024), func(_ load, jobs float64) float64 {
		return p.of("DynamoDB, GB kept for a month", jobs*job.stored/gib*days/30) + p.of("DynamoDB, GB of point-in-time recovery for a month", jobs*job.stored/gib*days/30)
	})
	add("SNS", "1 publish", func(_ load, jobs float64) float64 { return p.of("SNS, publish", jobs) })
	add("SQS", "1 send; 1 receive and 1 delete a batch", func(l load, jobs float64) float64 { return p.of("SQS, request", jobs*(1+2/l.batch)) })
	add("Lambda auth", "0.01 calls of 20 ms, 256 MB", func(l load, jobs float64) float64 {
		return p.of("Lambda, request", jobs*l.callers) + p.of("Lambda, GB-second on arm64", jobs*l.callers*l.apiTime*memory)
	})
	add("Lambda jobs", "1 call of 20 ms, 256 MB", func(l load, jobs float64) float64 {
		return p.of("Lambda, request", jobs) + p.of("Lambda, GB-second on arm64", jobs*l.apiTime*memory)
	})
	add("Lambda worker", "a call a batch, of 100 ms, 512 MB", func(l load, jobs float64) float64 {
		return p.of("Lambda, request", jobs/l.batch) + p.of("Lambda, GB-second on arm64", jobs/l.batch*l.runTime*workerMemory)
	})
	add("CloudWatch Logs", "for each KB that is logged", func(_ load, jobs float64) float64 { return p.of("CloudWatch Logs, GB", jobs*1000/1e9) })
	row, monthly := []string{"**together**", ""}, []string{"**a month**", ""}
	for i, total := range totals {
		row = append(row, fmt.Sprintf("**%.2f**", total))
		monthly = append(monthly, fmt.Sprintf("**%s**", thousands(int(total*loads[i].rate*86400*30/million))))
	}
	shown(t, append(tb, row, monthly))

	calls := p.of("Lambda, request", 1) + p.of("Lambda, GB-second on arm64", loads[0].apiTime*memory)
	month := func(i int) float64 { return totals[i] * loads[i].rate * 86400 * 30 / million }
	idle := newMeteredTable()
	if _, err := newDeployment(idle.client(), nil).sweep.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	dollars := func(sum float64) string { return fmt.Sprintf("$%.2f", sum) }
	says(t, map[string]bool{
		"its cost a month | $450 | $38,000 | $3.5 million":             about(month(0), 450) && about(month(1), 38_000) && about(month(2), 3.5e6),
		"a call for each job is added, $0.26":                          dollars(million*calls*(1-loads[0].callers)) == "$0.26",
		"1 s at 512 MB is $6.67 for a million calls of the worker":     dollars(p.of("Lambda, GB-second on arm64", million*workerMemory)) == "$6.67" && moduleMemory(t) == "auth 256, jobs 256, worker 512",
		"A retry adds 12 units, $7.50 for a million":                   dollars(p.of("DynamoDB, write unit", 12*million)) == "$7.50",
		"the due loop of an idle deployment reads for 9 cents a month": dollars(p.of("DynamoDB, read unit", idle.reset().reads*60*24*30)) == "$0.09",
		"The writes of the table are more than half the cost":          p.of("DynamoDB, write unit", million*(job.table+job.index))*2 > totals[1],
		"kept for 7 days": strings.Contains(string(readFile(t, moduleDir, "variables.tf")), "finished = optional(number, 168)"),
		"| no list of all jobs, for who needs none but their own | 3 |": job.indexes["all"] == 3,
	})
}

func moduleMemory(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile(`(auth|jobs|worker) +?= optional\(number, ([0-9]{3,})\)`).FindAllStringSubmatch(string(readFile(t, moduleDir, "variables.tf")), -1)
	var all []string
	for _, f := range found {
		all = append(all, f[1]+" "+f[2])
	}
	return strings.Join(all, ", ")
}

// A bound is one that the rate of jobs meets.
type bound struct {
	what   string
	quota  float64
	each   float64 // taken of it by one job a second
	change string
}

func TestCapacityWhereItBreaks(t *testing.T) {
	t.Parallel()
	q, job := quotas(t), takenByAJob(t)
	m := newMeteredTable()
	d := newDeployment(m.client(), nil)
	if _, err := d.sweep.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Half of what a pass asks for is about expired jobs.
	shards := float64(m.reset().calls["Query"]) / 2
	l := loads[1]
	concurrency := l.apiTime*(1+l.callers) + l.runTime/l.batch
	batch := float64(fallback(t, "worker_batch_size"))
	throttle := regexp.MustCompile(`rate +?= optional\(number, ([0-9]+)\)`).FindStringSubmatch(string(readFile(t, moduleDir, "variables.tf")))
	if throttle == nil {
		t.Fatal("the module does not throttle")
	}
	bounds := []bound{
		{"the due loop of Lambda, of jobs that are delayed or retried by it", float64(passBound(t)), 60, "a pass that goes on while it has time; sweepers side by side"},
		{"the module's `throttling`", parse(t, throttle[1]), 1, "`throttling`, `route_throttling`"},
		{"one owner's list (index owner)", q["DynamoDB write units of a partition a second"], job.indexes["owner"], "shards in the index's key; owners that are not all the same"},
		{"`worker_maximum_concurrency`", float64(fallback(t, "worker_maximum_concurrency")), l.runTime / batch, "up to 1,000; then a second queue, or provisioned mode"},
		{"a table on demand that is new", q["DynamoDB write units a second of a new table on demand"], job.table, "warm throughput, before the load comes"},
		{"shards of the agenda", q["DynamoDB write units of a partition a second"] * shards, job.indexes["agenda"], "more shards"},
		{"shards of the list of all jobs", q["DynamoDB write units of a partition a second"] * shards, job.indexes["all"], "more shards, or no such index"},
		{"the table's writes", q["DynamoDB write units a second of a table"], job.table, "ask for more; smaller items; then tables side by side"},
		{"API Gateway", q["API Gateway requests a second"], 1, "ask for more; then accounts or regions side by side"},
		{"calls of the event source at once", q["Lambda calls of an event source at once"], l.runTime / batch, "a second queue, or provisioned mode"},
		{"Lambda's calls at once", q["Lambda calls at once"], concurrency, "ask for more; `reserved_concurrency` apart"},
		{"SNS", q["SNS messages a second"], 1, "ask for more; topics in several accounts"},
		{"messages in flight", q["SQS messages in flight in a queue"], l.runTime, "more queues"},
	}
	tb := table{{"bound", "it is", "of which a job a second takes", "reached at, jobs/s", "at 10", "at 1,000", "at 100,000", "what to change"}}
	reached := map[string]float64{}
	for _, b := range bounds {
		at := b.quota / b.each
		reached[b.what] = at
		row := []string{b.what, thousands(int(b.quota)), strconv.FormatFloat(b.each, 'g', 3, 64), thousands(int(at))}
		if at < 100 {
			row[3] = strconv.FormatFloat(at, 'f', 1, 64)
		}
		for _, l := range loads {
			switch used := l.rate / at; {
			case used > 10:
				row = append(row, fmt.Sprintf("**× %s**", thousands(int(used))))
			case used > 1:
				row = append(row, fmt.Sprintf("**× %.1f**", used))
			case used >= 0.01:
				row = append(row, fmt.Sprintf("%.0f %%", 100*used))
			default:
				row = append(row, "< 1 %")
			}
		}
		tb = append(tb, append(row, b.change))
	}
	shown(t, tb)

	passed := 0
	for _, b := range bounds {
		if 100_000 > reached[b.what] {
			passed++
		}
	}
	partition := q["DynamoDB write units of a partition a second"]
	says(t, map[string]bool{
		fmt.Sprintf("%d of the %d bounds below are passed", passed, len(bounds)):        true,
		"There are 16 shards: the agenda's carry 4,000 jobs a second, the list's 5,333": shards == 16 && int(reached["shards of the agenda"]) == 4000 && int(reached["shards of the list of all jobs"]) == 5333,
		"at 1,000 jobs a second they are a quarter full":                                1000/reached["shards of the agenda"] == 0.25,
		"512 shards would carry 100,000":                                                512*partition/job.indexes["agenda"] > 100_000,
		"one owner gets 333 jobs a second":                                              int(reached["one owner's list (index owner)"]) == 333,
		"takes 4,000 write units a second":                                              q["DynamoDB write units a second of a new table on demand"] == 4000,
		"Throttling** of the module is 100 requests a second":                           parse(t, throttle[1]) == 100,
	})
}
