package config

import (
	"context"
	"maps"
	"slices"
	"strings"
)

// parameterPrefix begins a setting whose value is the name of a parameter that has it.
const parameterPrefix = "ssm:"

// Parameters returns the values of the parameters of the given names and, for each that cannot be had, the reason, which
// repeats neither a name nor a value. Each name is in one of the two.
type Parameters func(ctx context.Context, names []string) (values map[string]string, errs map[string]error)

// A lookup is what is known of the parameters that settings name.
type lookup struct {
	values  map[string]string
	errs    map[string]error
	awaited map[string]string // settings whose parameter has not been asked for → the parameter
}

func newLookup() *lookup {
	return &lookup{values: map[string]string{}, errs: map[string]error{}, awaited: map[string]string{}}
}

func (l *lookup) awaits(setting string) bool { return l != nil && l.awaited[setting] != "" }

// parameter returns the value of a setting that is a parameter's. One that nobody has asked for yet is awaited.
func (e *Env) parameter(setting, example, parameter string) string {
	value, found := e.parameters.values[parameter]
	err, failed := e.parameters.errs[parameter]
	switch {
	case parameter == "":
		e.Wrong(setting, example, "names no parameter behind %s", parameterPrefix)
	case failed:
		e.Wrong(setting, example, "is taken for the name of a parameter, which cannot be had: %v", err)
	case found && strings.TrimSpace(value) == "":
		e.Wrong(setting, example, "names a parameter that is empty")
	case !found:
		e.parameters.awaited[setting] = parameter
	}
	return value
}

// resolve reads settings by load, and returns every mistake in them at once. All parameters that load comes to are asked
// for together, if there are any; load is called again once they are there, and once more for any that it then comes to
// first.
func resolve(ctx context.Context, getenv func(string) string, parameters Parameters, load func(*Env)) (asked []string, err error) {
	known := newLookup()
	for {
		env := &Env{getenv: getenv, parameters: known}
		load(env)
		if len(known.awaited) == 0 {
			slices.Sort(asked)
			return asked, env.Err()
		}
		asked = slices.AppendSeq(asked, maps.Keys(known.awaited))
		values, errs := parameters(ctx, slices.Compact(slices.Sorted(maps.Values(known.awaited))))
		maps.Copy(known.values, values)
		maps.Copy(known.errs, errs)
		clear(known.awaited)
	}
}

// unresolved is resolve that asks for no parameter: it returns the mistakes that can be found without, and the settings
// that remain.
func unresolved(_ context.Context, getenv func(string) string, _ Parameters, load func(*Env)) (remain []string, err error) {
	env := &Env{getenv: getenv, parameters: newLookup()}
	load(env)
	return slices.Sorted(maps.Keys(env.parameters.awaited)), env.Err()
}
