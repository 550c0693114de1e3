package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/sqs"
	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/bootstrap/cli/api"
	"github.com/jobgate/jobgate/domain"
)

const (
	queueCall    = 15 * time.Second // bounds one call to a broker, its tries included
	queueRelease = time.Minute      // bounds what gives back the messages that stay

	// A message is hidden while it is held, so that none is met twice. RabbitMQ lets one be held for 30 minutes
	// (https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout); what is begun when the taking ends takes far less
	// than the rest.
	queueHidden = 15 * time.Minute
	queueTaking = 10 * time.Minute

	queuePoll  = 2 * time.Second // for which SQS asks all of its servers
	queueBatch = 10              // the most messages of one call to SQS
)

// A letter is a message of a dead-letter queue.
type letter struct {
	id     string
	job    string // that it is about; empty when it names none
	reason string // why it was set apart, as far as it says
	back   bool   // it was moved by this run, and was set apart again

	move   func(context.Context) error // puts a copy where --to says; nil only when that is stored
	remove func(context.Context) error
}

// A letterbox is a dead-letter queue.
type letterbox interface {
	// take returns some of the next letters, at most so many, and none when there are no more. It returns none twice. An
	// interruption is for its caller to notice: a message that was on its way would stay hidden.
	take(ctx context.Context, most int) ([]letter, error)
	// close gives back what was taken and not removed.
	close(ctx context.Context) error
}

// A queueFlags is what of the command line is about a queue.
type queueFlags struct{ queue, to string }

func (q *queueFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.queue, "queue", "", "a dead-letter queue to empty: the URL of one of SQS, or the name of one of RabbitMQ")
	cmd.Flags().StringVar(&q.to, "to", "", "the queue, of the same broker, for messages of --queue that have no job; they stay otherwise")
}

func (q *queueFlags) check() error {
	for flag, name := range map[string]string{"--queue": q.queue, "--to": q.to} {
		if isSQS(name) {
			if _, _, err := sqs.ParseURL(name); err != nil {
				return misuse(fmt.Errorf("%s: %w", flag, err))
			}
		}
		if len(name) > 255 {
			return misuse(fmt.Errorf("%s: no queue has such a long name", flag))
		}
	}
	switch {
	case q.to == "":
		return nil
	case q.queue == "":
		return misuse(errors.New("--to is for the messages of a --queue"))
	case q.to == q.queue:
		return misuse(errors.New("--to is the queue that the messages come from"))
	case isSQS(q.to) != isSQS(q.queue):
		return misuse(errors.New("--to has to be a queue of the same broker: a URL for SQS, a name for RabbitMQ"))
	}
	return nil
}

func isSQS(queue string) bool { return strings.Contains(queue, "://") }

func (t terminal) openQueue(ctx context.Context, q queueFlags) (letterbox, error) {
	if isSQS(q.queue) {
		return openSQS(ctx, t.getenv, q)
	}
	return openAMQP(ctx, t.getenv("BROKER_URL"), q)
}

// What became of a letter.
const (
	letterRedriven = "redriven"
	letterDone     = "done" // its job needs no redrive
	letterMoved    = "moved"
	letterLeft     = "left"
)

// A letterRow is what -o json prints of a letter.
type letterRow struct {
	Message string `json:"message"`
	Job     string `json:"job,omitzero"`
	Reason  string `json:"reason,omitzero"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail,omitzero"`
	DryRun  bool   `json:"dry_run,omitzero"`
}

// An emptying takes letters one after the other.
type emptying struct {
	t     terminal
	c     *api.Client
	box   letterbox
	to    string
	out   output
	limit int
	dry   bool

	redriven map[string]bool // jobs, by this run
	counts   map[string]int  // letters by their outcome
	homeless int             // left for want of --to
	hidden   int             // left because their jobs may be another's

	everybody func() (bool, error) // see reachesEverybody, which is asked once
}

func (t terminal) redriveQueue(ctx context.Context, c *api.Client, q queueFlags, out output, limit int, dry bool) error {
	box, err := t.openQueue(ctx, q)
	if err != nil {
		return err
	}
	e := &emptying{
		t: t, c: c, box: box, to: q.to, out: out, limit: limit, dry: dry,
		redriven: make(map[string]bool), counts: make(map[string]int),
		everybody: sync.OnceValues(func() (bool, error) { return reachesEverybody(ctx, c) }),
	}
	end, err := e.run(ctx)
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueRelease)
	defer cancel()
	if err := errors.Join(err, box.close(release)); err != nil {
		return err
	}
	return e.sum(end)
}

// run returns why it took no more letters.
func (e *emptying) run(ctx context.Context) (end string, err error) {
	began := e.t.now()
	for taken := 0; e.limit == 0 || taken < e.limit; {
		if e.t.now().Sub(began) > queueTaking {
			return fmt.Sprintf("; there may be more: %v are over, call it again", queueTaking), nil
		}
		most := queueBatch
		if e.limit > 0 {
			most = min(most, e.limit-taken)
		}
		letters, err := e.box.take(ctx, most)
		if err != nil {
			return "", err
		}
		if len(letters) == 0 {
			return "", nil
		}
		for _, l := range letters {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			taken++
			row := letterRow{Message: shownID(l.id), Job: l.job, Reason: shownID(l.reason), DryRun: e.dry}
			row.Outcome, row.Detail, err = e.settle(ctx, l)
			if err != nil {
				return "", fmt.Errorf("message %s: %w", api.Printable(cmp.Or(row.Message, "without an id")), err)
			}
			e.counts[row.Outcome]++
			if err := e.write(row); err != nil {
				return "", err
			}
		}
	}
	return "; there may be more: --limit N, or --limit 0 for all", nil
}

// shownID bounds what a stranger wrote.
func shownID(id string) string { return cut(strings.ToValidUTF8(id, "\ufffd"), 128) }

// settle does what is to be done with a letter, or with dry says what that is. An error ends the run; the letter is still
// there then, unless what it asks for has been confirmed.
func (e *emptying) settle(ctx context.Context, l letter) (outcome, detail string, err error) {
	switch {
	case l.back:
		return letterLeft, "it was moved, and has come back", nil
	case l.job == "":
		return e.rehouse(ctx, l, "it names no job")
	}
	outcome, detail, err = e.bring(ctx, l.job)
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Code == domain.ReasonNotFound {
		return e.rehouseRecordless(ctx, l)
	}
	if err != nil && aboutOne(err) {
		return letterLeft, err.Error(), nil
	}
	if err != nil || outcome == letterLeft || e.dry {
		return outcome, detail, err
	}
	return outcome, detail, finish(ctx, l.remove)
}

// bring sends a job back to the queue.
func (e *emptying) bring(ctx context.Context, id string) (outcome, detail string, err error) {
	if e.dry || e.redriven[id] {
		job, err := e.c.Get(ctx, id)
		switch {
		case err != nil:
			return "", "", err
		case job.Status != domain.Dead && job.Status != domain.Cancelled:
			return letterDone, fmt.Sprintf("the job is %s", job.Status), nil
		case e.dry:
			return letterRedriven, "", nil
		}
		// To redrive it for each of the letters that it leaves would go on for as long as it fails.
		return letterLeft, fmt.Sprintf("the job was redriven, and is %s again", job.Status), nil
	}
	_, err = e.c.Redrive(ctx, id)
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Code == domain.ReasonNotRedrivable {
		return letterDone, p.Detail, nil
	}
	if err == nil {
		e.redriven[id] = true
	}
	return letterRedriven, "", err
}

// rehouseRecordless moves a letter whose job was not found, unless the job may be one that this login is not shown: its
// letter is all that is left to call attention to it.
func (e *emptying) rehouseRecordless(ctx context.Context, l letter) (outcome, detail string, err error) {
	if e.to != "" {
		all, err := e.everybody()
		if err != nil {
			return "", "", err
		}
		if !all {
			e.hidden++
			return letterLeft, "its job has no record, or is another's", nil
		}
	}
	return e.rehouse(ctx, l, "its job has no record")
}

// reachLooked is how many jobs are looked at for one that tells whom a login reaches.
const reachLooked = 1000

// reachesEverybody reports whether the caller has been shown a job of somebody else, which the server does only where a
// rule is for every owner's jobs. Nothing else tells a job without a record from another's, which the server answers alike,
// and what the scopes of a token come to is the server's policy. False is no proof: all jobs may be the caller's own.
func reachesEverybody(ctx context.Context, c *api.Client) (bool, error) {
	token, err := c.Token(ctx)
	if err != nil {
		return false, err
	}
	said, ok := claimed(token)
	if !ok {
		return false, nil // whose own jobs would be is not known
	}
	for job, err := range c.List(ctx, api.Query{}, reachLooked) {
		if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusForbidden {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		// The issuer may have other names than the one that a server goes by, the subject has none.
		if job.Owner.Subject != cmp.Or(said.subject, oidc.SharedSubject) {
			return true, nil
		}
	}
	return false, nil
}

// rehouse moves a letter that no job can be brought back for.
func (e *emptying) rehouse(ctx context.Context, l letter, why string) (outcome, detail string, err error) {
	switch {
	case e.to == "":
		e.homeless++
		return letterLeft, why, nil
	case e.dry:
		return letterMoved, why, nil
	}
	if err := finish(ctx, l.move); err != nil {
		return "", "", err
	}
	return letterMoved, why, finish(ctx, l.remove)
}

// finish takes a step that is not to be left half done when the program is interrupted.
func finish(ctx context.Context, step func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueCall)
	defer cancel()
	return step(ctx)
}

func (e *emptying) write(row letterRow) error {
	if e.out == asJSON {
		document, err := json.Marshal(row)
		if err != nil {
			return err
		}
		return e.t.document(document)
	}
	c := green
	if row.Outcome == letterLeft {
		c = yellow
	}
	said := row.Outcome
	if e.dry {
		said = "would be " + said
	}
	if row.Detail != "" {
		said += ": " + row.Detail
	}
	line := api.Printable(cmp.Or(row.Message, "-")) + "  " + cmp.Or(row.Job, "-") + "  " + e.t.painter(e.t.stdout).paint(c, api.Printable(said))
	return writeLine(e.t.stdout, []byte(line))
}

// sum says what it came to.
func (e *emptying) sum(end string) error {
	total := 0
	var parts []string
	for _, outcome := range []string{letterRedriven, letterDone, letterMoved, letterLeft} {
		if n := e.counts[outcome]; n > 0 {
			total += n
			parts = append(parts, fmt.Sprintf("%d %s", n, outcome))
		}
	}
	text := count(total, "message")
	if e.dry {
		text += " would be"
	}
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	e.t.say("%s%s.", text, end)
	left := e.counts[letterLeft]
	if left == 0 || e.dry {
		return nil
	}
	f := &failure{status: exitNo, err: fmt.Errorf("%d of %s: left in the queue", left, count(total, "message"))}
	switch {
	case e.hidden > 0:
		f.status = exitForbidden
		f.next = "log in so that others' jobs are shown, as with the scope jobs:admin: jobgate login --scope SCOPE; see by: jobgate list"
	case e.homeless > 0:
		f.next = "say where messages without a job go: --to QUEUE"
	}
	return f
}

// jobOf returns the id of the job that a message is about. That of a bare message follows from where the message was sent
// first, without which it is not known.
func jobOf(body []byte, from cloudevent.Origin) string {
	switch d := cloudevent.Decode(body, from); {
	case d.Err != nil:
		return ""
	case d.Foreign == nil:
		return d.JobID
	case from.Source != "":
		return d.Foreign.ID
	}
	return ""
}
