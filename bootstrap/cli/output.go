package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
	"github.com/jobgate/jobgate/domain"
)

// An output is how a command writes what it found: for people, or for scripts. For scripts it is the API's own documents,
// each on a line of its own.
type output string

const (
	asText output = "text"
	asJSON output = "json"
)

func (o *output) flag(cmd *cobra.Command, json string) {
	*o = asText
	cmd.Flags().VarP(o, "output", "o", "text, or json for scripts: "+json)
	if err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag, or it has one already
	}
}

// String, Set and Type make an output a flag.
func (o *output) String() string { return string(*o) }

// Set implements pflag.Value.
func (o *output) Set(s string) error {
	if s != string(asText) && s != string(asJSON) {
		return fmt.Errorf("%q is neither text nor json", s)
	}
	*o = output(s)
	return nil
}

// Type implements pflag.Value.
func (o *output) Type() string { return "format" }

// writeLine writes a line and its end at once.
func writeLine(w io.Writer, line []byte) error {
	_, err := w.Write(append(slices.Clip(line), '\n'))
	return err
}

// document writes JSON to standard output: as it is, but on a terminal with everything escaped that a terminal would obey.
func (t terminal) document(document []byte) error {
	if t.width(t.stdout) > 0 {
		document = []byte(api.Printable(string(document)))
	}
	return writeLine(t.stdout, document)
}

// A colour is a parameter of SGR (ECMA-48).
type colour string

const (
	plain  colour = ""
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	cyan   colour = "36"
)

func colourOf(s domain.Status) colour {
	switch s {
	case domain.Succeeded:
		return green
	case domain.Dead:
		return red
	case domain.Cancelled:
		return yellow
	case domain.Running:
		return cyan
	default:
		return plain
	}
}

// width returns the columns of the terminal that w leads to, 0 when it leads to none.
func (t terminal) width(w io.Writer) int {
	if t.columns == nil || t.getenv("TERM") == "dumb" {
		return 0
	}
	return t.columns(w)
}

// A painter colours text where that is wanted: on a terminal, unless NO_COLOR is set (https://no-color.org).
type painter bool

func (t terminal) painter(w io.Writer) painter { return t.width(w) > 0 && t.getenv("NO_COLOR") == "" }

func (p painter) paint(c colour, text string) string {
	if !p || c == plain {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// A cell is one field of a table.
type cell struct {
	text   string
	colour colour
}

// table writes rows in aligned columns, the first one being their names.
func table(w io.Writer, p painter, rows [][]cell) error {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var b bytes.Buffer
	for n, row := range rows {
		last := len(row) - 1
		for last >= 0 && row[last].text == "" {
			last--
		}
		for i, c := range row[:last+1] {
			if n == 0 {
				c.colour = bold
			}
			b.WriteString(p.paint(c.colour, c.text))
			if i < last {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

func cells(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i].text = api.Printable(text)
	}
	return row
}

// cut shortens a text to so many characters.
func cut(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:max(0, most-1)]) + "…"
}

// count is a number of things.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// span is a duration as people say it: two digits or so are enough.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}
