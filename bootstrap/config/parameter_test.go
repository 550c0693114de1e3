package config_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/bootstrap/config"
)

// A store has parameters, and remembers each call.
type store struct {
	values map[string]string
	errs   map[string]error
	calls  [][]string
}

func (s *store) get(_ context.Context, names []string) (values map[string]string, errs map[string]error) {
	s.calls = append(s.calls, slices.Clone(names))
	values, errs = map[string]string{}, map[string]error{}
	for _, name := range names {
		if err := s.errs[name]; err != nil {
			errs[name] = err
		} else {
			values[name] = s.values[name]
		}
	}
	return values, errs
}

// parse runs a function's flags over settings.
func parse(settings map[string]string, parameters config.Parameters, load func(*config.Env), args ...string) (stdout string, done bool, err error) {
	var out bytes.Buffer
	getenv := func(name string) string { return settings[name] }
	done, err = config.NewFlags("f", "a function", io.Discard).ParseFunction(context.Background(), args, &out, getenv, parameters, load)
	return out.String(), done, err
}

func TestParametersAreAskedForTogether(t *testing.T) {
	t.Parallel()
	s := &store{values: map[string]string{"/a": "one", "b:3": "two", "secret": "hunter2, hunter3", "late": "four"}}
	settings := map[string]string{"A": "ssm:/a", "B": "ssm:b:3", "K": "ssm:secret", "SAME": "ssm:/a", "I": "inline", "LATE": "ssm:late"}
	var got []string
	stdout, done, err := parse(settings, s.get, func(env *config.Env) {
		a := env.Text("A", "")
		got = []string{a, env.Text("B", ""), env.Text("SAME", ""), env.Text("I", ""), env.Text("-", "")}
		for _, secret := range env.Secrets("K", "") {
			got = append(got, string(secret))
		}
		if a == "one" { // only now does it matter
			got = append(got, env.Text("LATE", ""))
		}
	})
	if stdout != "" || done || err != nil {
		t.Fatalf("%q, %v, %v", stdout, done, err)
	}
	if diff := cmp.Diff([]string{"one", "two", "one", "inline", "", "hunter2", "hunter3", "four"}, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]string{{"/a", "b:3", "secret"}, {"late"}}, s.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestNothingIsAskedForWithoutAParameter(t *testing.T) {
	t.Parallel()
	s := &store{}
	if _, _, err := parse(map[string]string{"A": "inline"}, s.get, func(env *config.Env) { env.Text("A", "") }); err != nil || s.calls != nil {
		t.Errorf("%v after the calls %v", err, s.calls)
	}
}

func TestEveryMistakeAboutParametersIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	s := &store{
		values: map[string]string{"wrong": `{"rules":1}`, "blank": " \n"},
		errs:   map[string]error{"gone": errors.New("there is none"), "denied": errors.New("access is denied")},
	}
	_, done, err := parse(map[string]string{
		"GONE": "ssm:gone", "DENIED": "ssm:denied", "BLANK": "ssm:blank", "NONE": "ssm:", "ACCESS_POLICY": "ssm:wrong", "D": "soon",
	}, s.get, func(env *config.Env) {
		for _, name := range []string{"GONE", "DENIED", "BLANK", "NONE"} {
			env.Text(name, "{}")
		}
		env.Duration("D", 0)
		env.AccessPolicy(1)
	})
	problems, _ := errors.AsType[config.Problems](err)
	var names []string
	for _, p := range problems {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff([]string{"GONE", "DENIED", "BLANK", "NONE", "D", "ACCESS_POLICY"}, names); diff != "" || !done {
		t.Errorf("done %v, mistakes (-want +got):\n%s\n%v", done, diff, err)
	}
	if len(s.calls) != 1 {
		t.Errorf("calls: %v, want one", s.calls)
	}
	for _, text := range []string{"gone", "denied", "blank", "wrong"} {
		if err != nil && strings.Contains(err.Error(), "ssm:"+text) {
			t.Errorf("a mistake repeats its setting: %v", err)
		}
	}
}

func TestCheckConfigSaysWhatItCouldNotCheck(t *testing.T) {
	t.Parallel()
	load := func(env *config.Env) {
		env.AccessPolicy(1)
		env.Secrets("K", "")
		if env.Text("B", "") == "" {
			env.Wrong("B", "", "is not set") // by a reader that knows nothing of parameters
		}
		env.Bool("FLAG", false)
	}
	right := map[string]string{"ACCESS_POLICY": "ssm:/policy", "B": "ssm:b", "K": "inline"}
	with := func(name, value string) map[string]string {
		settings := map[string]string{name: value}
		maps.Copy(settings, right)
		return settings
	}
	s := &store{values: map[string]string{"/policy": `{"rules":[{"effect":"allow","actions":["read"]}]}`, "b": "text"}}
	for name, tt := range map[string]struct {
		settings map[string]string
		want     string // on stdout
		mistake  string
		calls    int
	}{
		"without credentials": {right, "the settings are right; not looked up in Parameter Store, without AWS credentials: ACCESS_POLICY, B\n", "", 0},
		"with credentials":    {with("AWS_ACCESS_KEY_ID", "id"), "the settings are right; as Parameter Store has them: ACCESS_POLICY, B\n", "", 1},
		"a mistake elsewhere": {with("FLAG", "yes"), "", "FLAG", 0},
		"no parameters":       {map[string]string{"B": "text"}, "the settings are right\n", "", 0},
	} {
		s.calls = nil
		stdout, done, err := parse(tt.settings, s.get, load, "-check-config")
		if !done || stdout != tt.want || len(s.calls) != tt.calls || (err != nil) != (tt.mistake != "") {
			t.Errorf("%s: %q, %v, %v after the calls %v", name, stdout, done, err, s.calls)
		}
		if problems, _ := errors.AsType[config.Problems](err); tt.mistake != "" && (len(problems) != 1 || problems[0].Name != tt.mistake) {
			t.Errorf("%s: %v, want one mistake, of %s", name, err, tt.mistake)
		}
	}
}

func TestOtherProgramsRefuseParameters(t *testing.T) {
	t.Parallel()
	e := from(map[string]string{"T": "ssm:/name"})
	if got := e.Text("T", "{}"); got != "" {
		t.Errorf("Text = %q", got)
	}
	if err := e.Err(); err == nil || !strings.Contains(err.Error(), "outside a Lambda function") || strings.Contains(err.Error(), "/name") {
		t.Errorf("Err = %v", err)
	}
}
