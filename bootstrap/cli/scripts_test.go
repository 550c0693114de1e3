package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestEveryCommandAndFlagIsInAScript(t *testing.T) {
	t.Parallel()
	var scripts []string
	for _, pattern := range []string{"testdata/*.txtar", "testdata/*/*.txtar"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			scripts = append(scripts, string(archive.Comment))
		}
	}
	if missing := uncalled(scripts); len(missing) > 0 {
		t.Errorf("no script in testdata makes use of these, but for calls that are wrong usage:\n  %s", strings.Join(missing, "\n  "))
	}
}

func TestWhatIsInNoScriptIsFound(t *testing.T) {
	t.Parallel()
	all := uncalled(nil)
	for script, want := range map[string][]string{
		"exec jobgate logout --profile x":                                       {"jobgate logout", "jobgate --profile"},
		"exec jobgate get $ID -o json":                                          {"jobgate get", "jobgate get --output"},
		"exec jobgate explain --path=/jobs":                                     {"jobgate explain", "jobgate explain --path"},
		"exec jobgate help exit-codes":                                          {"jobgate help", "jobgate exit-codes"},
		"status 4 jobgate cancel $A":                                            {"jobgate cancel"},
		"until jobgate list --name 'a b' done":                                  {"jobgate list", "jobgate list --name"},
		"exec jobgate watch $ID &w&":                                            {"jobgate watch"},
		"exec sh -c 'jobgate token --help; jobgate explain <t|jobgate get x'  ": {"jobgate explain", "jobgate get", "jobgate token", "jobgate token --help"},
		"status 2 jobgate logout":                                               nil,
		"! exec jobgate logout":                                                 nil,
		"# exec jobgate logout":                                                 nil,
		"exec jobgate logout --loud":                                            nil,
		"exec jobgate lagout":                                                   nil,
		"exec jobgate login --redirect-port $PORT":                              {"jobgate login", "jobgate login --redirect-port"},
		"exec echo jobgate logout":                                              nil,
		"exec jobgate submit -d --wait":                                         {"jobgate submit", "jobgate submit --data"},
	} {
		left := uncalled([]string{script})
		if len(left) != len(all)-len(want) {
			t.Errorf("%s: it makes use of %d, want %d", script, len(all)-len(left), len(want))
		}
		for _, name := range want {
			if slices.Contains(left, name) {
				t.Errorf("%s: it makes no use of %s", script, name)
			}
		}
	}
	want := []string{"jobgate completion fish", "jobgate help", "jobgate login --redirect-port", "jobgate redrive", "jobgate --profile", "jobgate --version", "jobgate explain --help"}
	for _, name := range want {
		if !slices.Contains(all, name) {
			t.Errorf("%s is not asked for in %q", name, all)
		}
	}
}

// uncalled returns the commands and flags that no script makes use of.
func uncalled(scripts []string) []string {
	missing := map[string]bool{}
	walk(newTree(), func(cmd *cobra.Command) {
		if cmd.Runnable() || !cmd.HasAvailableSubCommands() {
			missing[cmd.CommandPath()] = true
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { missing[flagName(cmd, f)] = true })
	})
	for _, script := range scripts {
		for _, args := range calls(variable.ReplaceAllString(script, "1")) { // which is a number, too
			root := newTree()
			cmd, rest, err := root.Find(args)
			if err != nil || cmd.ParseFlags(rest) != nil {
				continue
			}
			delete(missing, cmd.CommandPath())
			if topic, _, err := root.Find(cmd.Flags().Args()); cmd.Name() == "help" && err == nil {
				delete(missing, topic.CommandPath())
			}
			cmd.Flags().Visit(func(f *pflag.Flag) { delete(missing, flagName(cmd, f)) })
		}
	}
	return slices.Sorted(maps.Keys(missing))
}

// newTree returns all commands, with those and the flags that cobra adds when it runs one.
func newTree() *cobra.Command {
	root := terminal{getenv: os.Getenv, stdout: io.Discard, stderr: io.Discard}.commands(new(bool))
	root.InitDefaultVersionFlag()
	for _, cmd := range append(root.Commands(), root) {
		if cmd.Name() != "help" && cmd.Name() != "completion" {
			cmd.InitDefaultHelpFlag()
		}
	}
	return root
}

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}

// flagName names a flag by the command that defines it.
func flagName(cmd *cobra.Command, f *pflag.Flag) string {
	for cmd.LocalFlags().Lookup(f.Name) != f {
		cmd = cmd.Parent()
	}
	return fmt.Sprintf("%s --%s", cmd.CommandPath(), f.Name)
}

// The words of a script before a call that is made for more than to be refused as wrong usage.
var (
	callLine   = regexp.MustCompile(`^(exec|status [013-9]\d*|until) (jobgate .*|sh .*)$`)
	wordOrText = regexp.MustCompile(`(?s)(?:'[^']*'|[^\s'])+`)
	variable   = regexp.MustCompile(`\$\w+`)
	shellCall  = regexp.MustCompile(`\bjobgate ([^;|&<>\n)]*)`)
)

// calls returns the arguments of the program's calls in a script, in a shell's script as in its own lines.
func calls(script string) (found [][]string) {
	for line := range strings.Lines(script) {
		match := callLine.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			continue
		}
		words := wordOrText.FindAllString(match[2], -1)
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "'", "")
		}
		if words[0] == "jobgate" {
			found = append(found, words[1:])
			continue
		}
		for _, call := range shellCall.FindAllStringSubmatch(match[2], -1) {
			found = append(found, strings.Fields(call[1]))
		}
	}
	return found
}
