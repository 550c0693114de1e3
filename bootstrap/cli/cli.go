// Package cli is the command jobgate, for the people who operate the service.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/bootstrap/config"
)

// A terminal is what a command talks to, with the clock that it goes by.
type terminal struct {
	getenv func(string) string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	now    func() time.Time
}

// Run runs one command. Its error wraps config.ErrUsage when the command was called wrongly, which wrong settings and
// missing input are too; it is a Refused when the answer is no.
func Run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	return terminal{getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now}.run(ctx, args)
}

func (t terminal) run(ctx context.Context, args []string) error {
	began := false // what goes wrong before is the command line
	root := &cobra.Command{
		Use:               "jobgate",
		Short:             "The command line of jobgate, for the people who operate it",
		Example:           "  jobgate explain <token.txt",
		Version:           config.Version(),
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRun:  func(*cobra.Command, []string) { began = true },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(t.explain())
	root.SetArgs(args)
	root.SetIn(t.stdin)
	root.SetOut(t.stdout)
	root.SetErr(t.stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && !began {
		return misuse(err)
	}
	return err
}

func misuse(err error) error { return fmt.Errorf("%w: %w", config.ErrUsage, err) }

// Main runs the program and exits: 0 when the answer is yes, 1 when it is no or cannot be had, 2 when the program was
// called wrongly.
func Main() {
	config.Main(func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
		return Run(ctx, args, getenv, os.Stdin, stdout, stderr)
	})
}
