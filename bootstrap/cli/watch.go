package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
	"github.com/jobgate/jobgate/domain"
)

const (
	// A job is asked for often at first, when most happens, and then every pollLast.
	pollFirst = 200 * time.Millisecond
	pollLast  = 2 * time.Second

	redraw = 200 * time.Millisecond
)

func (t terminal) watch() *cobra.Command {
	var out output
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "watch ID",
		Short: "Follow a job until it has finished",
		Long: `Watch follows a job until it has finished, and tells its outcome by the exit status: 0 when it succeeded, 1 when it is dead
or cancelled, 8 when --timeout was over first. How it comes along goes to standard error: as one line that is drawn anew on
a terminal, else as a line for each change. The job's output goes to standard output.`,
		Example: `  jobgate watch 0190b3a2-7c5e-7000-8000-000000000000
  jobgate watch 0190b3a2-7c5e-7000-8000-000000000000 --timeout 10m >output.json`,
		Args: oneID,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 {
				return misuse(errors.New("--timeout cannot be negative"))
			}
			c, err := t.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			job, err := c.Get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			changed := func(api.Job) error { return nil }
			if out == asJSON {
				changed = func(job api.Job) error { return t.document(job.Raw) }
			}
			job, err = t.follow(cmd.Context(), c, job, timeout, changed)
			if err != nil {
				return err
			}
			if out == asText {
				if err := t.result(job); err != nil {
					return err
				}
			}
			return outcome(job)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long to wait at most, like 90s; 0 is for ever")
	out.flag(cmd, "the API's document, a line for each change")
	return cmd
}

// result writes what the job's handler returned.
func (t terminal) result(job api.Job) error {
	if job.Output == nil {
		return nil
	}
	return t.document(job.Output)
}

// outcome is nil for a job that succeeded.
func outcome(job api.Job) error {
	switch job.Status {
	case domain.Succeeded:
		return nil
	case domain.Dead:
		return &failure{
			err:  Refused("the job is dead: " + api.Printable(string(job.Reason))),
			next: "see each attempt: jobgate get " + job.ID + "\n      once its cause is mended: jobgate redrive " + job.ID,
		}
	default:
		return &failure{err: Refused("the job is " + api.Printable(string(job.Status))), next: "run it after all: jobgate redrive " + job.ID}
	}
}

// follow tells how a job comes along until it has finished, and calls changed with its document whenever that is another,
// the first time at once. With a timeout of 0 it waits for ever.
func (t terminal) follow(ctx context.Context, c *api.Client, job api.Job, timeout time.Duration, changed func(api.Job) error) (api.Job, error) {
	waiting := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	v := t.view()
	defer v.clear()
	retrying := c.Retrying
	c.Retrying = func(r api.Retry) {
		v.clear()
		retrying(r)
	}
	defer func() { c.Retrying = retrying }()
	var last string
	for poll := pollFirst; ; poll = min(poll*3/2, pollLast) {
		if seen := string(job.Raw); seen != last {
			if err := changed(job); err != nil {
				return job, err
			}
			last, poll = seen, pollFirst
		}
		v.show(job)
		if job.Finished() {
			return job, nil
		}
		err := v.idle(waiting, poll, job)
		var next api.Job
		if err == nil {
			next, err = c.Get(waiting, job.ID)
		}
		switch {
		case err == nil:
			job = next
		case ctx.Err() == nil && waiting.Err() != nil:
			return job, &failure{
				status: exitTimeout, err: fmt.Errorf("after %v the job is still %s", timeout, api.Printable(string(job.Status))),
				next: "the job goes on; watch it: jobgate watch " + job.ID,
			}
		default:
			return job, &failure{err: err, next: "the job goes on; watch it: jobgate watch " + job.ID}
		}
	}
}

// A view shows a job on a terminal, or in a log.
type view struct {
	t     terminal
	p     painter
	width int // of the terminal, 0 without one
	began time.Time
	told  string // the last line, without one
	drawn bool
}

func (t terminal) view() *view {
	return &view{t: t, p: t.painter(t.stderr), width: t.width(t.stderr), began: t.now()}
}

// show tells how the job stands; without a terminal it does so once for each change.
func (v *view) show(job api.Job) {
	words := inShort(job)
	if job.Finished() {
		v.clear()
		v.t.say("%s%s", v.p.paint(colourOf(job.Status), string(job.Status)), words)
		return
	}
	if v.width > 0 {
		v.draw(job, words)
		return
	}
	if line := api.Printable(string(job.Status)) + words; line != v.told {
		v.told = line
		v.t.say("%s%s", line, v.after())
	}
}

func (v *view) after() string { return ", after " + span(v.t.now().Sub(v.began)) }

func (v *view) draw(job api.Job, words string) {
	status := api.Printable(string(job.Status))
	if job.Progress != nil {
		status = bar(job.Progress.Percent) + " " + status
	}
	if due := job.DueAt.Sub(v.t.now()); job.Status == domain.Queued && due > 0 {
		words += ", due in " + span(due)
	}
	words = cut(words+v.after(), v.width-1-utf8.RuneCountInString(status))
	fmt.Fprint(v.t.stderr, "\r\x1b[K", v.p.paint(colourOf(job.Status), status), words)
	v.drawn = true
}

// clear makes room for other lines.
func (v *view) clear() {
	if v.drawn {
		fmt.Fprint(v.t.stderr, "\r\x1b[K")
		v.drawn = false
	}
}

// idle waits, and keeps the line on a terminal moving.
func (v *view) idle(ctx context.Context, d time.Duration, job api.Job) error {
	wait := time.NewTimer(d)
	defer wait.Stop()
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
			return nil
		case <-tick.C:
			if v.width > 0 {
				v.show(job)
			}
		}
	}
}

// inShort is what there is to say of a job beyond its status.
func inShort(job api.Job) string {
	var b strings.Builder
	switch {
	case job.Finished():
		if job.Reason != "" && string(job.Reason) != string(job.Status) {
			fmt.Fprintf(&b, " (%s)", job.Reason)
		}
		b.WriteString(" after " + count(job.Attempts, "attempt"))
		if !job.FinishedAt.IsZero() {
			fmt.Fprintf(&b, " in %s", span(job.FinishedAt.Sub(job.CreatedAt)))
		}
		if problem := job.LastError(); problem != "" && job.Status == domain.Dead {
			b.WriteString(": " + problem)
		}
	case job.Status == domain.Queued && job.Attempts > 0:
		fmt.Fprintf(&b, ", attempt %d of %d failed", job.Attempts, job.MaxAttempts)
		if problem := job.LastError(); problem != "" {
			b.WriteString(": " + problem)
		}
	case job.Attempts > 0:
		fmt.Fprintf(&b, ", attempt %d of %d", job.Attempts, job.MaxAttempts)
	}
	if p := progress(job); p != "" && job.Status == domain.Running {
		b.WriteString(", " + p)
	}
	if job.CancelRequested && !job.Finished() {
		b.WriteString(", asked to stop")
	}
	return api.Printable(b.String())
}

// bar draws a percentage.
func bar(percent int) string {
	const length = 20
	full := min(max(percent, 0), 100) * length / 100
	return strings.Repeat("█", full) + strings.Repeat("░", length-full)
}
