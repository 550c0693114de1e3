package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
	"github.com/jobgate/jobgate/domain"
)

// redriveLimit is how many jobs a filter redrives unless told otherwise.
const redriveLimit = 100

func (t terminal) redrive() *cobra.Command {
	var out output
	var which filter
	var from queueFlags
	var limit int
	var dry bool
	cmd := &cobra.Command{
		Use:   "redrive [ID...]",
		Short: "Send dead or cancelled jobs back to the queue",
		Long: `Redrive sends jobs that are dead or cancelled back to the queue, due at once and with fresh attempts: those that are named,
or those that a filter finds, the newest first. --dry-run shows which those would be. It goes on after a job that could not
be redriven.

With --queue, for operators, it redrives the jobs of the messages in a dead-letter queue, and deletes each message once the
server has confirmed that; also where the job needs no redrive any more. A message that names no job, or one without a record,
is moved to the queue that --to names, or stays where it is. The login has to reach everybody's jobs, as the scope jobs:admin
does: to another, somebody else's job has no record. So nothing is moved for want of a record where the newest jobs that are
listed are all the caller's own; a policy that shows others' by some names only is not noticed.

SQS goes by AWS_REGION and the credentials in the environment, RabbitMQ by BROKER_URL, and to look at a message is a delivery to
both, which a queue may have a limit for.`,
		Example: `  jobgate redrive 0190b3a2-7c5e-7000-8000-000000000000
  jobgate redrive --status dead --name report.render --dry-run
  jobgate redrive --status dead --name report.render --limit 500
  jobgate redrive --queue https://sqs.eu-west-1.amazonaws.com/123456789012/jobgate-dead-letters --dry-run
  jobgate redrive --queue jobgate.jobs.dead --to jobgate.jobs`,
		Args: jobIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := which.query()
			err = errors.Join(err, from.check())
			switch {
			case err != nil:
				return err
			case from.queue != "" && (len(args) > 0 || query != api.Query{}):
				return misuse(errors.New("name jobs by their ids or by a filter, or a --queue of messages, and not two of them"))
			case from.queue == "" && len(args) == 0 && query.Status != string(domain.Dead) && query.Status != string(domain.Cancelled):
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
			if from.queue != "" {
				return t.redriveQueue(cmd.Context(), c, from, out, limit, dry)
			}
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
	from.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", redriveLimit, "how many jobs a filter may redrive, or messages a queue may give, 0 for all")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would be done and do nothing")
	out.flag(cmd, "the API's documents, a line for each job; with --queue a line for each message")
	return cmd
}
