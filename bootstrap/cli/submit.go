package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
	"github.com/jobgate/jobgate/domain"
)

// A submission is what the command line asks for.
type submission struct {
	t       terminal
	out     output
	data    string
	key     string
	delay   time.Duration
	runAt   string
	wait    bool
	timeout time.Duration
}

func (t terminal) submit() *cobra.Command {
	s := submission{t: t}
	var b batch
	cmd := &cobra.Command{
		Use:   "submit {NAME | --batch FILE}",
		Short: "Submit a job, or a file of jobs",
		Long: `Submit submits a job and prints its id. With --wait it follows the job as "jobgate watch" does, prints its output, and
tells its outcome by the exit status: 0 when it succeeded, 1 when it is dead or cancelled, 8 when --timeout was over first.

A submission has an idempotency key, a random one unless it is named: so it can be repeated, and is, when the server has
too much to do or does not answer, without becoming two jobs.

With --batch it submits the jobs in a file, each a line of JSON as POST /jobs takes it:

  {"name":"report.render","payload":{"month":"2026-03"},"delay":"90s"}

Each line's key is made of the batch's id, the line's number and the line itself. So the same command again goes on where
the one before ended: jobs that were accepted are not submitted twice, for as long as the service keeps them, and lines
that were refused can be corrected in place or others added at the end. The id of a batch is the file's name, without its
folder, unless --batch-id names another, under which all is submitted anew. A line that is refused is reported with its
number, and the batch goes on; it stops when the server refuses the caller or cannot be reached.`,
		Example: `  jobgate submit report.render -d '{"month":"2026-03"}'
  jobgate submit report.render -d @payload.json --wait --timeout 10m
  date -u +'{"at":"%FT%TZ"}' | jobgate submit audit -d - --delay 1h30m
  jobgate submit --batch jobs.ndjson --concurrency 16
  zcat jobs.ndjson.gz | jobgate submit --batch - --batch-id 2026-03`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case b.file == "" && len(args) == 0:
				return errors.New("name the job, or a file of jobs with --batch")
			case b.file == "" && len(args) > 1:
				return fmt.Errorf("%q: name one job; its payload goes with --data", args[1])
			case b.file != "" && len(args) > 0:
				return errors.New("the jobs of a --batch are named in its lines")
			case b.file == "" && !domain.ValidName(args[0]):
				return fmt.Errorf("%q is no job's name: letters, digits, and . _ : - after the first, at most 128", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if b.file != "" {
				for _, flag := range []string{"data", "idempotency-key", "delay", "run-at", "wait", "timeout"} {
					if cmd.Flags().Changed(flag) {
						return misuse(fmt.Errorf("--%s does not go with --batch", flag))
					}
				}
				return b.run(cmd, t, s.out)
			}
			for _, flag := range []string{"batch-id", "concurrency"} {
				if cmd.Flags().Changed(flag) {
					return misuse(fmt.Errorf("--%s goes with --batch", flag))
				}
			}
			return s.run(cmd, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&s.data, "data", "d", "", "the payload: JSON, @FILE, or - for standard input")
	flags.StringVar(&s.key, "idempotency-key", "", "what makes a repeat the same job (default random)")
	flags.DurationVar(&s.delay, "delay", 0, "how long to wait before the job is due, like 90s or 1h30m; at most 720h")
	flags.StringVar(&s.runAt, "run-at", "", "when the job is due, like 2026-03-01T12:00:00Z; at most 720h ahead")
	flags.BoolVar(&s.wait, "wait", false, "follow the job until it has finished")
	flags.DurationVar(&s.timeout, "timeout", 0, "how long to --wait at most, like 10m; 0 is for ever")
	flags.StringVar(&b.file, "batch", "", "submit the jobs in a file, a line of JSON each, or - for standard input")
	flags.StringVar(&b.id, "batch-id", "", "what the keys of the batch are made of (default the file's name)")
	flags.IntVar(&b.concurrency, "concurrency", 8, "how many jobs of a batch to submit at once, at most 64")
	s.out.flag(cmd, "the API's document; of a batch, a line with each line's number and its job or problem")
	return cmd
}

func (s *submission) run(cmd *cobra.Command, name string) error {
	if err := exclusive(cmd, "delay", "run-at"); err != nil {
		return err
	}
	switch {
	case s.delay < 0 || s.timeout < 0:
		return misuse(errors.New("--delay and --timeout cannot be negative"))
	case cmd.Flags().Changed("timeout") && !s.wait:
		return misuse(errors.New("--timeout goes with --wait"))
	case !validKey(s.key):
		return misuse(errors.New("--idempotency-key has to be 1 to 255 printable ASCII characters without spaces"))
	}
	what := api.Submission{Name: name, Delay: s.delay}
	if s.runAt != "" {
		at, err := time.Parse(time.RFC3339, s.runAt)
		if err != nil {
			return misuse(fmt.Errorf("--run-at %q is no time like 2026-03-01T12:00:00Z", s.runAt))
		}
		what.RunAt = at
	}
	if cmd.Flags().Changed("data") {
		payload, err := s.payload(cmd.Context())
		if err != nil {
			return misuse(err)
		}
		what.Payload = payload
	}
	document, err := what.Document()
	if err != nil {
		return err
	}
	c, err := s.t.connect(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	key := cmp.Or(s.key, "jobgate-"+rand.Text())
	job, replayed, err := c.Submit(cmd.Context(), document, key)
	if err != nil {
		if status, _ := judge(err); status == exitUnavailable || cmd.Context().Err() != nil {
			return &failure{err: err, next: "it is not known whether the job was accepted; with this the same command makes no second job: --idempotency-key " + key}
		}
		return err
	}
	if replayed {
		s.t.say("The job was accepted before, under the same key.")
	}
	if !s.wait {
		if s.out == asJSON {
			return s.t.document(job.Raw)
		}
		return writeLine(s.t.stdout, []byte(job.ID))
	}
	s.t.say("submitted %s", job.ID)
	job, err = s.t.follow(cmd.Context(), c, job, s.timeout, func(api.Job) error { return nil })
	if err != nil {
		return err
	}
	if s.out == asJSON {
		err = s.t.document(job.Raw)
	} else {
		err = s.t.result(job)
	}
	if err != nil {
		return err
	}
	return outcome(job)
}

// validKey reports whether key is one, or is not named.
func validKey(key string) bool {
	return len(key) <= 255 && strings.IndexFunc(key, func(r rune) bool { return r < '!' || r > '~' }) < 0
}

// payload returns the payload that --data means.
func (s *submission) payload(ctx context.Context) (jsontext.Value, error) {
	text, from := []byte(s.data), "--data"
	if s.data == "-" || strings.HasPrefix(s.data, "@") {
		in := s.t.stdin
		if from = "standard input"; s.data != "-" {
			from = s.data[1:]
			f, err := os.Open(from)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in = f
		}
		var err error
		if text, err = readAll(ctx, in); err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
	}
	value := jsontext.Value(bytes.TrimSpace(text))
	if !value.IsValid() {
		return nil, fmt.Errorf("%s: the payload is not JSON: a text needs quotes, as in -d '\"text\"'; a file is @FILE", from)
	}
	return value, nil
}

// maxInput bounds what is read of standard input or a file at once, in bytes: far above the largest payload or token that
// settings can allow.
const maxInput = 1 << 20

var errTooMuch = fmt.Errorf("it has more than %d bytes", maxInput)

// readAll reads at most maxInput bytes, until ctx ends.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type input struct {
		text []byte
		err  error
	}
	read := make(chan input, 1)
	go func() { // ends with its input, which a terminal has until the process ends
		text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
		read <- input{text, err}
	}()
	select {
	case in := <-read:
		if in.err == nil && len(in.text) > maxInput {
			return nil, errTooMuch
		}
		return in.text, in.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
