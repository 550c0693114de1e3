package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/domain"
)

// redriveLimit is how many jobs a filter redrives unless told otherwise.
const redriveLimit = 100

func (t terminal) redrive() *cobra.Command {
	var out output
	var which filter
	var limit int
	var dry bool
	cmd := &cobra.Command{
		Use:   "redrive [ID...]",
		Short: "Send dead or cancelled jobs back to the queue",
		Long: `Redrive sends jobs that are dead or cancelled back to the queue, due at once and with fresh attempts: those that are named,
or those that a filter finds, the newest first. --dry-run shows which those would be. It goes on after a job that could not
be redriven.`,
		Example: `  jobgate redrive 0190b3a2-7c5e-7000-8000-000000000000
  jobgate redrive --status dead --name report.render --dry-run
  jobgate redrive --status dead --name report.render --limit 500`,
		Args: jobIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := which.query()
			switch {
			case err != nil:
				return err
			case len(args) == 0 && query.Status != string(domain.Dead) && query.Status != string(domain.Cancelled):
				return misuse(errors.New("name jobs by their ids, or by --status dead or --status cancelled, with --name where you can"))
			case len(args) > 0 && (query.Status != "" || query.Name != "" || cmd.Flags().Changed("limit")):
				return misuse(errors.New("name jobs by their ids or by a filter, not by both"))
			case limit < 0:
				return misuse(errors.New("--limit has to be at least 1, or 0 for all"))
			}
			c, err := t.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			w := t.lister(out)
			if len(args) > 0 {
				if !dry {
					return t.each(cmd.Context(), args, out, c.Redrive)
				}
				for _, id := range args {
					job, err := c.Get(cmd.Context(), id)
					if err != nil {
						return errors.Join(w.flush(), fmt.Errorf("%s: %w", id, err))
					}
					if err := w.add(job); err != nil {
						return err
					}
				}
				return w.flush()
			}
			// All are found before the first is redriven: one that dies again meanwhile is not taken twice.
			ask := limit
			if limit > 0 {
				ask++ // one more tells whether there are more
			}
			var ids []string
			more := false
			for job, err := range c.List(cmd.Context(), query, ask) {
				if err != nil {
					return errors.Join(w.flush(), err)
				}
				if limit > 0 && len(ids) == limit {
					more = true
					break
				}
				ids = append(ids, job.ID)
				if dry {
					if err := w.add(job); err != nil {
						return err
					}
				}
			}
			if err := w.flush(); err != nil {
				return err
			}
			if !dry {
				if err := t.each(cmd.Context(), ids, out, c.Redrive); err != nil {
					return err
				}
			}
			did := "redriven"
			if dry {
				did = "would be redriven"
			}
			if more {
				t.say("%s %s; there are more: --limit N, or --limit 0 for all.", count(len(ids), "job"), did)
			} else {
				t.say("%s %s.", count(len(ids), "job"), did)
			}
			return nil
		},
	}
	which.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", redriveLimit, "how many jobs a filter may redrive, 0 for all it finds")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show the jobs and redrive none")
	out.flag(cmd, "the API's documents, a line for each job")
	return cmd
}
