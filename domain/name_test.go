package domain_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/jobgate/jobgate/domain"
)

// nameRule is what README.md and the OpenAPI document promise. \z, since $ is the end of the text only without flags.
var nameRule = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\z`)

func TestValidName(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		want bool
	}{
		{"test-job", true},
		{"a", true},
		{"0", true},
		{"Report.daily:v2_final-1", true},
		{strings.Repeat("a", 128), true},
		{strings.Repeat("a", 129), false},
		{"", false},
		{".hidden", false},
		{"-x", false},
		{"_x", false},
		{":x", false},
		{"a b", false},
		{"a/b", false},
		{"a*", false},
		{"a\n", false},
		{"a\x00", false},
		{"é", false},
		{"aé", false},
		{"a\xff", false},
		{"a\u202e", false},
	}
	for _, tt := range tests {
		if got := domain.ValidName(tt.name); got != tt.want {
			t.Errorf("ValidName(%q) = %t", tt.name, got)
		}
	}
}

func FuzzValidName(f *testing.F) {
	for _, s := range []string{"test-job", "a", "", ".x", "a\n", "aé", "a\xff", strings.Repeat("a", 128), strings.Repeat("a", 129)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := domain.ValidName(s), nameRule.MatchString(s); got != want {
			t.Errorf("ValidName(%q) = %t, want %t", s, got, want)
		}
	})
}

func TestMatchName(t *testing.T) {
	t.Parallel()
	const none = -1
	tests := []struct {
		pattern, name string
		want          int
	}{
		{"report.daily", "report.daily", domain.MaxNameLength + 1},
		{"report.daily", "report.daily2", none},
		{"report.daily", "Report.daily", none},
		{"report.*", "report.daily", 7},
		{"report.*", "report.", 7},
		{"report.*", "report", none},
		{"report*", "reporting", 6},
		{"*", "anything", 0},
		{"*", "", 0},
		{"", "", domain.MaxNameLength + 1},
		{"", "a", none},
		{"re*t", "report", none}, // a star counts only at the end
	}
	for _, tt := range tests {
		if got := domain.MatchName(tt.pattern, tt.name); got != tt.want {
			t.Errorf("MatchName(%q, %q) = %d, want %d", tt.pattern, tt.name, got, tt.want)
		}
	}
}

func TestLongerPatternsAreMoreSpecificAndTheNameItselfMost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`).Draw(t, "name")
		cut := rapid.IntRange(0, len(name)).Draw(t, "cut")
		shorter := rapid.IntRange(0, cut).Draw(t, "shorter")
		a, b := domain.MatchName(name[:shorter]+"*", name), domain.MatchName(name[:cut]+"*", name)
		if a < 0 || a > b || (a == b) != (shorter == cut) || b >= domain.MatchName(name, name) {
			t.Errorf("%d for %q, %d for %q, %d for the name itself", a, name[:shorter]+"*", b, name[:cut]+"*", domain.MatchName(name, name))
		}
	})
}

func TestValidNamePattern(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern string
		want    bool
	}{
		{"*", true},
		{"report.*", true},
		{"report*", true},
		{"report.daily", true},
		{strings.Repeat("a", 128) + "*", true},
		{"", false},
		{"**", false},
		{"a**", false},
		{"*a", false},
		{"a*b", false},
		{".*", false},
		{"a b*", false},
		{"a?", false},
		{strings.Repeat("a", 129) + "*", false},
	}
	for _, tt := range tests {
		if got := domain.ValidNamePattern(tt.pattern); got != tt.want {
			t.Errorf("ValidNamePattern(%q) = %t", tt.pattern, got)
		}
	}
}
