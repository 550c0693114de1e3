// Package cli is the command jobgate, for the people who use the service and those who operate it.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/jobgate/jobgate/bootstrap/config"
)

// A terminal is what a command talks to, with the clock that it goes by.
type terminal struct {
	getenv func(string) string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	now    func() time.Time

	// columns is how wide the terminal is that a writer leads to, 0 when it leads to none; nil: none does.
	columns func(io.Writer) int
}

// Run runs one command. Its error is a *config.ExitError with one of the statuses that "jobgate help exit-codes" lists. It
// wraps config.ErrUsage when the command was called wrongly, which wrong settings and missing input are too, and a
// Refused when the answer is no.
func Run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	return terminal{getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now, columns: columns}.run(ctx, args)
}

func columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return 80
	}
	return width
}

func (t terminal) run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "-version" { // as the other programs have it
		args = append([]string{"--version"}, args[1:]...)
	}
	began := false // what goes wrong before is the command line
	root := t.commands(&began)
	root.SetArgs(args)
	root.SetIn(t.stdin)
	root.SetOut(t.stdout)
	root.SetErr(t.stderr)
	called, err := root.ExecuteContextC(ctx)
	if err != nil && !began {
		err = &failure{err: misuse(err), next: "see how it is called: " + called.CommandPath() + " --help"}
	}
	return exit(ctx, err)
}

// commands returns the tree of commands; began is set once the command line has turned out to be right.
func (t terminal) commands(began *bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "jobgate",
		Short: "The command line of jobgate",
		Long: `jobgate submits jobs, follows them, and says why a token is let in or not.

It goes by a profile, which "jobgate login" makes: a server and a login. Where there is none, as in CI, JOBGATE_SERVER and
JOBGATE_TOKEN stand in for it.`,
		Example: `  jobgate submit report.render -d '{"month":"2026-03"}' --wait
  jobgate list --status dead
  jobgate doctor
  jobgate explain <token.txt`,
		Version:          config.Version(),
		SilenceUsage:     true,
		SilenceErrors:    true,
		PersistentPreRun: func(*cobra.Command, []string) { *began = true },
	}
	root.PersistentFlags().String("profile", "", "the profile to go by (default $JOBGATE_PROFILE, or \"default\")")
	root.AddCommand(
		t.login(), t.logout(), t.token(), t.submit(), t.get(), t.list(), t.watch(), t.cancel(), t.redrive(),
		t.explain(), t.doctor(), exitCodes(),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strict(root)
	return root
}

// strict has the commands that cobra adds refuse what they do not know, where they would show their help and be content.
func strict(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if _, _, err := root.Find(args); err != nil {
					return fmt.Errorf("there is no help about %q", strings.Join(args, " "))
				}
				return nil
			}
		case "completion":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("there is no completion for %q", args[0])
				}
				return nil
			}
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

func misuse(err error) error { return fmt.Errorf("%w: %w", config.ErrUsage, err) }

// Main runs the program and exits with one of the statuses that "jobgate help exit-codes" lists.
func Main() {
	config.Main(func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
		return Run(ctx, args, getenv, os.Stdin, stdout, stderr)
	})
}
