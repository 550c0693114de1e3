package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/cli/api"
	"github.com/jobgate/jobgate/bootstrap/cli/session"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/domain"
)

// connect returns a client of the server that the profile names, logged in as it says. Whoever asks for it closes it.
func (t terminal) connect(cmd *cobra.Command) (*api.Client, error) {
	s, err := t.session(cmd)
	if err != nil {
		return nil, err
	}
	return t.client(s)
}

func (t terminal) session(cmd *cobra.Command) (*session.Session, error) {
	profile, err := cmd.Flags().GetString("profile")
	if err != nil {
		return nil, err
	}
	return session.Open(t.getenv, profile, t.now)
}

func (t terminal) client(s *session.Session) (*api.Client, error) {
	c, err := api.New(s.Profile().Server, remember(s.Token, t.now))
	if err != nil {
		return nil, err
	}
	c.UserAgent = "jobgate/" + strings.Fields(config.Version())[0]
	c.Retrying = func(r api.Retry) {
		t.say("%v; trying again in %v", r.Err, r.Wait.Round(100*time.Millisecond))
	}
	return c, nil
}

// tokenReuse is how long a token is used before the session is asked again, which reads a file and the keyring: far less
// than the time before a token's end at which the session replaces it.
const tokenReuse = 3 * time.Second

// remember spares a batch from asking for the token of each job.
func remember(token func(context.Context) (string, error), now func() time.Time) func(context.Context) (string, error) {
	var mu sync.Mutex
	var last string
	var at time.Time
	return func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if last != "" && now().Sub(at).Abs() < tokenReuse {
			return last, nil
		}
		got, err := token(ctx)
		if err == nil {
			last, at = got, now()
		}
		return got, err
	}
}

// say tells the person something that is no part of the output.
func (t terminal) say(format string, args ...any) { fmt.Fprintf(t.stderr, format+"\n", args...) }

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q: it takes no argument but flags", args[0])
	}
	return nil
}

// jobIDs checks arguments that are ids, so that a slip is told without asking a server.
func jobIDs(_ *cobra.Command, args []string) error {
	for _, id := range args {
		if !domain.ValidID(id) {
			return fmt.Errorf("%q is no job's id, which is like 0190b3a2-7c5e-7000-8000-000000000000", id)
		}
	}
	return nil
}

// needIDs is jobIDs with at least one.
func needIDs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("name a job by its id")
	}
	return jobIDs(cmd, args)
}

func oneID(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return errors.New("name one job by its id")
	}
	return jobIDs(cmd, args)
}

// A filter is the flags that say which jobs are meant.
type filter struct{ status, name string }

func (f *filter) flags(cmd *cobra.Command) {
	statuses := make([]string, len(domain.Statuses))
	for i, s := range domain.Statuses {
		statuses[i] = string(s)
	}
	cmd.Flags().StringVar(&f.status, "status", "", "only jobs with this status: "+strings.Join(statuses, ", "))
	cmd.Flags().StringVar(&f.name, "name", "", "only jobs with this name")
	if err := cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statuses, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag, or it has one already
	}
}

func (f *filter) query() (api.Query, error) {
	if f.status != "" && !slices.Contains(domain.Statuses, domain.Status(f.status)) {
		return api.Query{}, misuse(fmt.Errorf("--status %q is none of %v", f.status, domain.Statuses))
	}
	if f.name != "" && !domain.ValidName(f.name) {
		return api.Query{}, misuse(fmt.Errorf("--name %q is no job's name", f.name))
	}
	return api.Query{Status: f.status, Name: f.name}, nil
}
