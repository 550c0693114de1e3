package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
)

func (t terminal) cancel() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "cancel ID...",
		Short: "Cancel jobs",
		Long: `Cancel cancels jobs that are queued, and asks those that are running to stop; "jobgate watch" shows when they have. One that
has finished is a conflict. It goes on after a job that could not be cancelled.`,
		Example: `  jobgate cancel 0190b3a2-7c5e-7000-8000-000000000000
  jobgate cancel $(jobgate list --status queued --name report.render --all -o json | jq -r .id)`,
		Args: needIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := t.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return t.each(cmd.Context(), args, out, c.Cancel)
		},
	}
	out.flag(cmd, "the API's documents, a line for each job")
	return cmd
}

// each takes one step with each job, and goes on after one that was refused for its own sake. The error is that of the
// only job, or says how many failed, with the status of the first.
func (t terminal) each(ctx context.Context, ids []string, out output, step func(context.Context, string) (api.Job, error)) error {
	p := t.painter(t.stdout)
	var first error
	failed := 0
	for _, id := range ids {
		job, err := step(ctx, id)
		if err != nil {
			if len(ids) == 1 || !aboutOne(err) {
				return fmt.Errorf("%s: %w", id, err)
			}
			t.say("%s: %v", id, err)
			if first == nil {
				first = err
			}
			failed++
			continue
		}
		if out == asJSON {
			err = t.document(job.Raw)
		} else {
			err = writeLine(t.stdout, []byte(job.ID+"  "+p.paint(colourOf(job.Status), api.Printable(state(job)))))
		}
		if err != nil {
			return err
		}
	}
	if failed == 0 {
		return nil
	}
	status, _ := judge(first)
	return &failure{status: status, err: fmt.Errorf("%d of %s: not done", failed, count(len(ids), "job"))}
}

// aboutOne reports whether an error is about one job, such that the next may fare better.
func aboutOne(err error) bool {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return false
	}
	status, _ := judgeProblem(p)
	return status == exitNotFound || status == exitConflict || status == exitUsage
}

// state is a job's status in a few words.
func state(job api.Job) string {
	if job.CancelRequested && !job.Finished() {
		return string(job.Status) + ", asked to stop"
	}
	return string(job.Status)
}
