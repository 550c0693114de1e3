package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
)

func (t terminal) list() *cobra.Command {
	var out output
	var which filter
	var limit int
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List jobs",
		Long: `List shows your jobs, the newest first, and everybody's to who has the scope jobs:admin. It asks for as many pages as it
needs.`,
		Example: `  jobgate list
  jobgate list --status dead --name report.render
  jobgate list --all -o json | jq -r .id`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := exclusive(cmd, "limit", "all"); err != nil {
				return err
			}
			if limit < 1 {
				return misuse(errors.New("--limit has to be at least 1"))
			}
			query, err := which.query()
			if err != nil {
				return err
			}
			c, err := t.connect(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			if all {
				limit = 0
			}
			w := t.lister(out)
			more := false
			ask := limit
			if limit > 0 {
				ask++ // one more tells whether there are more
			}
			for job, err := range c.List(cmd.Context(), query, ask) {
				if err != nil {
					return errors.Join(w.flush(), err)
				}
				if limit > 0 && w.count == limit {
					more = true
					break
				}
				if err := w.add(job); err != nil {
					return err
				}
			}
			if err := w.flush(); err != nil {
				return err
			}
			switch {
			case more:
				t.say("There are more: --limit N, or --all.")
			case w.count == 0 && out == asText:
				t.say("There are no such jobs.")
			}
			return nil
		},
	}
	which.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 20, "how many jobs to list")
	cmd.Flags().BoolVar(&all, "all", false, "list all of them")
	out.flag(cmd, "the API's documents, a line for each job")
	return cmd
}

// A lister writes jobs as they come, for people in tables of a page each.
type lister struct {
	t     terminal
	out   output
	rows  [][]cell
	count int
}

func (t terminal) lister(out output) *lister { return &lister{t: t, out: out} }

func (l *lister) add(job api.Job) error {
	l.count++
	if l.out == asJSON {
		return l.t.document(job.Raw)
	}
	if l.rows == nil {
		l.rows = append(l.rows, cells("ID", "NAME", "STATUS", "ATTEMPTS", "CREATED", "PROGRESS"))
	}
	row := cells(job.ID, job.Name, string(job.Status), fmt.Sprintf("%d/%d", job.Attempts, job.MaxAttempts), l.t.ago(job.CreatedAt), cut(progress(job), 40))
	row[2].colour = colourOf(job.Status)
	l.rows = append(l.rows, row)
	if len(l.rows) <= api.MaxPage {
		return nil
	}
	return l.flush()
}

func (l *lister) flush() error {
	rows := l.rows
	l.rows = nil
	if rows == nil {
		return nil
	}
	return table(l.t.stdout, l.t.painter(l.t.stdout), rows)
}
