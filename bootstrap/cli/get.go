package cli

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
)

// maxShown bounds what is shown to people of a payload or an output, in characters.
const maxShown = 2000

func (t terminal) get() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "get ID",
		Short: "Show a job",
		Long:  "Get shows a job: its state, what each attempt came to, its payload and its output.",
		Example: `  jobgate get 0190b3a2-7c5e-7000-8000-000000000000
  jobgate get 0190b3a2-7c5e-7000-8000-000000000000 -o json | jq .output`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := t.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			job, err := c.Get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if out == asJSON {
				return t.document(job.Raw)
			}
			return t.describe(t.stdout, job)
		},
	}
	out.flag(cmd, "the API's document, on one line")
	return cmd
}

// describe writes all of a job for people.
func (t terminal) describe(w io.Writer, job api.Job) error {
	var b bytes.Buffer
	p := t.painter(w)
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-10s%s\n", name, api.Printable(text))
		}
	}
	at := func(name string, when time.Time) {
		if !when.IsZero() {
			line(name, fmt.Sprintf("%s (%s)", when.Local().Format("2006-01-02 15:04:05 MST"), t.ago(when)))
		}
	}
	line("ID", job.ID)
	line("Name", job.Name)
	status := p.paint(colourOf(job.Status), api.Printable(string(job.Status)))
	switch {
	case job.Reason != "":
		status += " (" + api.Printable(string(job.Reason)) + ")"
	case job.CancelRequested:
		status += " (asked to stop)"
	}
	fmt.Fprintf(&b, "%-10s%s\n", "Status", status)
	line("Attempts", fmt.Sprintf("%d of %d", job.Attempts, job.MaxAttempts))
	line("Progress", progress(job))
	if job.Owner.Subject != "" {
		line("Owner", strings.TrimSpace(job.Owner.Subject+" "+job.Owner.Issuer))
	}
	at("Created", job.CreatedAt)
	at("Due", job.DueAt)
	at("Finished", job.FinishedAt)
	at("Expires", job.ExpiresAt)
	for _, part := range []struct{ name, text string }{{"Payload", string(job.Payload)}, {"Output", string(job.Output)}} {
		if short := cut(part.text, maxShown); short != part.text {
			line(part.name, short+" (-o json has all of it)")
		} else {
			line(part.name, part.text)
		}
	}
	if len(job.History) > 0 {
		b.WriteByte('\n')
		rows := [][]cell{cells("ATTEMPT", "STARTED", "TOOK", "WORKER", "RESULT")}
		for i, a := range job.History {
			took, result := "", "running"
			if !a.EndedAt.IsZero() {
				took, result = span(a.EndedAt.Sub(a.StartedAt)), "ended"
			}
			switch {
			case a.Error != "":
				result = a.Error
			case i == len(job.History)-1 && job.Finished():
				result = string(job.Status)
			}
			rows = append(rows, cells(strconv.Itoa(a.Number), a.StartedAt.Local().Format(time.TimeOnly), took, a.Worker, result))
		}
		if err := table(&b, p, rows); err != nil {
			return err
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// ago says how far a time is from now.
func (t terminal) ago(when time.Time) string {
	d := t.now().Sub(when)
	if d < 0 {
		return "in " + span(-d)
	}
	return span(d) + " ago"
}

// progress is what the handler said of the run, empty when it said nothing.
func progress(job api.Job) string {
	if job.Progress == nil {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("%d%% %s", job.Progress.Percent, job.Progress.Message))
}
