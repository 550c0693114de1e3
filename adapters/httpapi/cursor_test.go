package httpapi

import (
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/ports"
)

func TestCursorIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []ports.JobCursor{
		{CreatedAt: time.UnixMilli(0).UTC(), ID: "00000000-0000-0000-0000-000000000000"},
		{CreatedAt: time.Date(2026, 1, 2, 15, 4, 5, 678e6, time.UTC), ID: "0198c0de-0000-7000-8000-000000000001"},
		{CreatedAt: time.UnixMilli(latest).UTC(), ID: "ffffffff-ffff-ffff-ffff-ffffffffffff"},
	} {
		if got, ok := parseCursor(formatCursor(c)); !ok || got != c {
			t.Errorf("%v became %v, %v", c, got, ok)
		}
	}
	if got := formatCursor(ports.JobCursor{}); got != "" {
		t.Errorf("the beginning is %q", got)
	}
}

func TestCursorOfAnotherMakingIsRefused(t *testing.T) {
	t.Parallel()
	good := formatCursor(ports.JobCursor{CreatedAt: time.UnixMilli(1).UTC(), ID: "0198c0de-0000-7000-8000-000000000001"})
	for name, s := range map[string]string{
		"empty": "", "cut short": good[:31], "longer": good + "A", "padded": good[:31] + "=", "another alphabet": good[:31] + "+",
		"a line feed": good[:30] + "\nA", "before 1970": strings.Repeat("_", 32), "after 9999": formatCursor(ports.JobCursor{CreatedAt: time.UnixMilli(latest + 1), ID: "0198c0de-0000-7000-8000-000000000001"}),
	} {
		if c, ok := parseCursor(s); ok {
			t.Errorf("%s: %q was read as %v", name, s, c)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("AAABm4AAAAABmMDeAABwAIAAAAAAAAAB")
	f.Add(strings.Repeat("A", 32))
	f.Add(strings.Repeat("A", 30) + "\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := parseCursor(s); ok && formatCursor(c) != s {
			t.Errorf("%q is read as %v, which is written %q", s, c, formatCursor(c))
		}
	})
}
