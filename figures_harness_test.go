package jobgate_test

import (
	"slices"
	"testing"
)

func TestAVerdictNeedsAnIntervalClearOfTheGoal(t *testing.T) {
	t.Parallel()
	atMost, atLeast := row{atMost: 1.25}, row{atLeast: 1.25}
	for _, tt := range []struct {
		name      string
		row       row
		low, high float64
		rounds    int
		want      string
	}{
		{"under a bound from above", atMost, 1.1, 1.25, 7, "held"},
		{"over it", atMost, 1.26, 1.3, 7, "short"},
		{"about it", atMost, 1.2, 1.3, 7, "undecided"},
		{"over a bound from below", atLeast, 1.25, 1.4, 7, "held"},
		{"under it", atLeast, 1.1, 1.24, 7, "short"},
		{"about that", atLeast, 1.2, 1.3, 7, "undecided"},
		{"of too few rounds", atMost, 1.1, 1.2, 4, "undecided: too few rounds"},
		{"without a goal", row{}, 1.1, 1.2, 7, "–"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.row.verdict(tt.low, tt.high, tt.rounds); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTheIntervalHoldsTheMedian(t *testing.T) {
	t.Parallel()
	values := func(n int) (v []float64) {
		for i := range n {
			v = append(v, float64((i*7)%n)) // 0 to n-1 in some order, for n that 7 does not divide
		}
		return v
	}
	// The numbers of the values are those of a table of the binomial distribution.
	for n, want := range map[int][2]float64{1: {0, 0}, 5: {0, 4}, 11: {0, 10}, 12: {1, 10}, 15: {2, 12}, 20: {3, 16}, 41: {11, 29}} {
		if low, high := interval(values(n)); [2]float64{low, high} != want {
			t.Errorf("the interval of %d values is %v to %v, want %v", n, low, high, want)
		}
	}
	if got := median([]float64{9, 1, 5, 3}); got != 4 {
		t.Errorf("the median is %v", got)
	}
}

func TestAComparisonDividesWhatWasMeasuredInOneRound(t *testing.T) {
	t.Parallel()
	var order []string
	counting := func(name string, by float64) contender {
		value := 0.0
		return contender{name: name, measure: func() sample {
			order = append(order, name)
			value += by
			return sample{"ns": value}
		}}
	}
	absent := contender{name: "peer", missing: "a program"}
	c := comparison{contenders: []contender{counting("jobgate", 3), counting("floor", 2), absent}}
	c.run(3)
	if want := []string{"jobgate", "floor", "floor", "jobgate", "jobgate", "floor"}; !slices.Equal(order, want) {
		t.Errorf("measured in the order %v, want %v", order, want)
	}
	if got, want := c.figures("jobgate", "ns", "floor"), []float64{1.5, 1.5, 1.5}; !slices.Equal(got, want) {
		t.Errorf("the ratios are %v, want %v", got, want)
	}
	if got := c.figures("jobgate", "ns", "peer"); got != nil {
		t.Errorf("beside one that was left out: %v", got)
	}
}
