package config

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// A Program is what stands behind a main: it runs until ctx ends or its work is done.
type Program func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error

// ErrUsage is wrapped by errors about the command line.
var ErrUsage = errors.New("wrong usage")

// MainFunction runs a Lambda function with the process's arguments and environment, and exits as Main does. Signals end
// the process: Lambda sends one only when no invocation runs
// (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown).
func MainFunction(run Program) {
	exit(run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// An ExitError is an error with the status that a process ends with because of it, where 1 and 2 do not say enough.
type ExitError struct {
	Status int
	Err    error
}

func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *ExitError) Unwrap() error { return e.Err }

// Main runs a program with the process's arguments, environment and signals, and exits: 0 when it is done, 1 when it
// failed, 2 when it was called wrongly, or as an ExitError says. SIGINT and SIGTERM end its context; a second one ends the process.
func Main(run Program) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop()
	}()
	exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

func exit(err error) {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(status(err))
}

func status(err error) int {
	if e, ok := errors.AsType[*ExitError](err); ok {
		return e.Status
	}
	if errors.Is(err, ErrUsage) {
		return 2
	}
	return 1
}

// Flags are what every program understands.
type Flags struct {
	*flag.FlagSet
	checkConfig bool
	version     bool
}

// NewFlags returns the common flags of the program name; about says in a sentence what it is.
func NewFlags(name, about string, stderr io.Writer) *Flags {
	f := &Flags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.SetOutput(stderr)
	f.BoolVar(&f.checkConfig, "check-config", false, "check the settings and exit: 0 when they are right, 1 with every mistake when not")
	f.BoolVar(&f.version, "version", false, "print the version and exit")
	f.Usage = func() {
		fmt.Fprintf(stderr, "%s: %s\n\nFlags:\n", name, about)
		f.PrintDefaults()
	}
	return f
}

// Parse reads the command line and then the settings, by a function that returns what is wrong with them. done is true
// when nothing is left to do: something is wrong, or a flag has asked for no more than an answer, which was given on
// stdout.
func (f *Flags) Parse(args []string, stdout io.Writer, settings func() error) (done bool, err error) {
	return f.parse(args, stdout, func() (string, error) { return "", settings() })
}

// ParseFunction is Parse for a Lambda function, whose settings may name parameters: load takes them from an Env and notes
// what they come to. It may be called more than once. With -check-config parameters are asked for where there are AWS
// credentials, and the answer says whether they were.
func (f *Flags) ParseFunction(
	ctx context.Context, args []string, stdout io.Writer, getenv func(string) string, parameters Parameters, load func(*Env),
) (done bool, err error) {
	return f.parse(args, stdout, func() (remark string, err error) {
		read, about := resolve, "as Parameter Store has them"
		if f.checkConfig && getenv("AWS_ACCESS_KEY_ID") == "" {
			read, about = unresolved, "not looked up in Parameter Store, without AWS credentials"
		}
		names, err := read(ctx, getenv, parameters, load)
		if len(names) > 0 {
			remark = "; " + about + ": " + strings.Join(names, ", ")
		}
		return remark, err
	})
}

func (f *Flags) parse(args []string, stdout io.Writer, settings func() (remark string, err error)) (done bool, err error) {
	if err := f.FlagSet.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return true, err
		}
		return true, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if f.NArg() > 0 {
		return true, fmt.Errorf("%w: unexpected argument %q", ErrUsage, f.Arg(0))
	}
	if f.version {
		fmt.Fprintln(stdout, f.Name(), Version())
		return true, nil
	}
	remark, err := settings()
	if err != nil {
		return true, err
	}
	if f.checkConfig {
		fmt.Fprintln(stdout, "the settings are right"+remark)
		return true, nil
	}
	return false, nil
}

// Version says what this binary was built from.
func Version() string {
	version, commit := "devel", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; v != "" && v != "(devel)" {
			version = v
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = " " + s.Value
			}
		}
	}
	return version + commit + " " + runtime.Version()
}
