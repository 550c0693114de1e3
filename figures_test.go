package jobgate_test

import (
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// What jobgate costs beside what nothing can be faster than (floors) and what a user would take instead (peers):
// BENCHMARKS.md has the rows, make bench measures them. Nothing is asserted of time: a figure is a ratio to what was
// measured next to it, in the same rounds on the same machine, and a verdict is given only where all of its interval
// is on one side of the goal.

var figureRounds = flag.Int("figures", 0, "measure the rows of BENCHMARKS.md in so many rounds (make bench)")

// needFigures skips a test that measures unless it was asked for, and returns the number of rounds.
func needFigures(t *testing.T) int {
	t.Helper()
	if *figureRounds < 1 {
		t.Skip("make bench measures")
	}
	return *figureRounds
}

// A sample is what one contender came to in one round, by metric.
type sample map[string]float64

// A contender is one side of a comparison: jobgate, a floor or a peer.
type contender struct {
	name    string
	measure func() sample // does the work once; it fails its test where it cannot

	// missing says what is not installed that this one needs: it is named as left out.
	missing string
}

// A row is one line of the table: a metric of one contender, beside those of others.
type row struct {
	what   string
	metric string
	unit   string // printed behind the figure
	of     string // the contender whose row it is
	floor  string
	peers  []string

	// The goal: the figure, or its ratio to that of the contender that base names, is at most or at least bound. 0: the row has
	// no goal and no verdict, and is there to be compared.
	base            string
	atMost, atLeast float64
}

// A comparison is measured together: in each round every contender once, in an order that rotates, so that all have the
// machine alike.
type comparison struct {
	contenders []contender
	rows       []row
	warmUp     bool // the first round does not count

	samples map[string][]sample // by contender
}

func (c *comparison) run(rounds int) {
	c.samples = map[string][]sample{}
	for round := range rounds {
		if c.warmUp && round == 0 {
			for _, one := range c.present() {
				one.measure()
			}
		}
		present := c.present()
		for i := range present {
			one := present[(round+i)%len(present)]
			c.samples[one.name] = append(c.samples[one.name], one.measure())
		}
	}
}

func (c *comparison) present() []contender {
	return slices.DeleteFunc(slices.Clone(c.contenders), func(one contender) bool { return one.missing != "" })
}

// figures are a contender's values of a metric, round by round; divided, when base is not empty, by base's of the same round.
func (c *comparison) figures(name, metric, base string) []float64 {
	values := make([]float64, 0, len(c.samples[name]))
	for round, s := range c.samples[name] {
		value := s[metric]
		if base != "" {
			if round >= len(c.samples[base]) {
				return nil // it was left out
			}
			value /= c.samples[base][round][metric]
		}
		values = append(values, value)
	}
	return values
}

// report prints the rows, and who was left out.
func (c *comparison) report(t *testing.T) {
	t.Helper()
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	line := func(format string, cells ...any) { _, _ = fmt.Fprintf(table, format+"\n", cells...) } // Flush tells
	line("row\tgoal\tfigure\tfloor\tpeers\tratio\tinterval\tverdict")
	for _, r := range c.rows {
		figure := func(name string) string {
			if len(c.samples[name]) == 0 {
				return "–"
			}
			return quantity(median(c.figures(name, r.metric, ""))) + " " + r.unit
		}
		var peers []string
		for _, peer := range r.peers {
			peers = append(peers, peer+" "+figure(peer))
		}
		floor := "–"
		if r.floor != "" {
			floor = figure(r.floor)
		}
		values := c.figures(r.of, r.metric, r.base)
		ratio, span, verdict := "–", "–", "–"
		if len(values) > 0 {
			if r.base != "" {
				ratio = quantity(median(values)) + " × " + r.base
			}
			low, high := interval(values)
			span = quantity(low) + "–" + quantity(high)
			verdict = r.verdict(low, high, len(values))
		}
		line("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", r.what, r.goal(), figure(r.of), floor, strings.Join(peers, ", "), ratio, span, verdict)
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, one := range c.contenders {
		if one.missing != "" {
			fmt.Fprintf(&text, "left out: %s, for want of %s\n", one.name, one.missing)
			if os.Getenv("CI") == "true" {
				t.Errorf("%s is left out, and CI leaves nothing out: install %s", one.name, one.missing)
			}
		}
	}
	_, _ = fmt.Fprintf(os.Stdout, "%s\n%s\n", strings.TrimPrefix(t.Name(), "TestFigures"), text.String()) // go test shows it as it comes
}

func (r row) goal() string {
	unit := " " + r.unit
	if r.base != "" {
		unit = " × " + r.base
	}
	switch {
	case r.atMost > 0:
		return "≤ " + quantity(r.atMost) + unit
	case r.atLeast > 0:
		return "≥ " + quantity(r.atLeast) + unit
	default:
		return "–"
	}
}

// minRounds is how many rounds a verdict takes: the interval of fewer covers the median less than nine times in ten.
const minRounds = 5

// verdict is held or short where all between low and high is, else undecided.
func (r row) verdict(low, high float64, rounds int) string {
	switch {
	case r.atMost == 0 && r.atLeast == 0:
		return "–"
	case rounds < minRounds:
		return "undecided: too few rounds"
	case r.atMost > 0 && high <= r.atMost, r.atLeast > 0 && low >= r.atLeast:
		return "held"
	case r.atMost > 0 && low > r.atMost, r.atLeast > 0 && high < r.atLeast:
		return "short"
	default:
		return "undecided"
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// interval is where the median of what was sampled is, with a confidence of 99 %, whatever the distribution: between two of the
// ordered values, the binomial distribution says which (https://online.stat.psu.edu/stat415/lesson/19/19.1). Of few values it is
// the least and the greatest.
func interval(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	outside, drop := math.Pow(0.5, float64(n)), 0 // the probability that the median is below the value numbered drop
	for term := outside; ; drop++ {
		term *= float64(n-drop) / float64(drop+1)
		if outside += term; 2*outside > 0.01 {
			break
		}
	}
	return sorted[drop], sorted[n-1-drop]
}

// quantity prints three significant digits, or all of those before the point.
func quantity(v float64) string {
	switch size := math.Abs(v); {
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}
