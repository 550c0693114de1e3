// Package config reads settings from an injected environment. It reports every mistake at once, each with the
// setting's name, what is wrong and an example, and it reads JSON settings and secrets inline, from a file or, for Lambda
// functions, from Parameter Store.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Env is an environment under reading: take each setting from it, then ask Err.
type Env struct {
	getenv     func(string) string
	problems   []Problem
	parameters *lookup // nil: none are to be had
}

// From returns an Env that reads settings by getenv.
func From(getenv func(string) string) *Env { return &Env{getenv: getenv} }

// A Problem is one setting that is missing or wrong.
type Problem struct {
	Name    string
	Reason  string
	Example string // of a value that would do; may be empty
}

// Problems is every mistake in the settings, as one error.
type Problems []Problem //nolint:errname // read aloud at the call site: config.Problems

func (p Problems) Error() string {
	var b strings.Builder
	b.WriteString("the settings cannot be used:")
	for _, problem := range p {
		fmt.Fprintf(&b, "\n  %s: %s", problem.Name, problem.Reason)
		if problem.Example != "" {
			fmt.Fprintf(&b, "\n    example: %s=%s", problem.Name, problem.Example)
		}
	}
	return b.String()
}

// Wrong records a mistake in the setting name, once.
func (e *Env) Wrong(name, example, format string, args ...any) {
	if e.parameters.awaits(name) {
		return // nothing is known of it yet
	}
	problem := Problem{Name: name, Reason: fmt.Sprintf(format, args...), Example: example}
	if !slices.Contains(e.problems, problem) {
		e.problems = append(e.problems, problem)
	}
}

// Err returns every mistake found so far as Problems, nil when there is none.
func (e *Env) Err() error {
	if len(e.problems) == 0 {
		return nil
	}
	return Problems(e.problems)
}

// String returns a setting, or fallback where it is not set.
func (e *Env) String(name, fallback string) string {
	if v := e.getenv(name); v != "" {
		return v
	}
	return fallback
}

// Required returns a setting that has no fallback.
func (e *Env) Required(name, example string) string {
	v := e.getenv(name)
	if v == "" {
		e.Wrong(name, example, "is not set")
	}
	return v
}

// List returns a comma-separated setting, without the spaces around its elements; nil where it is not set.
func (e *Env) List(name string) []string {
	v := e.getenv(name)
	if v == "" {
		return nil
	}
	var list []string
	for _, element := range splitTrim(v) {
		if element == "" {
			e.Wrong(name, "one,two", "has an empty element")
			continue
		}
		list = append(list, element)
	}
	return list
}

// Duration returns a setting like "90s" or "15m", or fallback where it is not set.
func (e *Env) Duration(name string, fallback time.Duration) time.Duration {
	v := e.getenv(name)
	if v == "" {
		return fallback
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		e.Wrong(name, fallback.String(), "%q is no duration", v)
		return fallback
	}
	return d
}

// Bool returns a setting that is true or false, or fallback where it is not set.
func (e *Env) Bool(name string, fallback bool) bool {
	switch v := e.getenv(name); v {
	case "":
		return fallback
	case "true":
		return true
	case "false":
		return false
	default:
		e.Wrong(name, strconv.FormatBool(!fallback), "%q is neither true nor false", v)
		return fallback
	}
}

// Int returns a setting that is a whole number from 1 to most, or fallback where it is not set.
func (e *Env) Int(name string, fallback, most int) int {
	v := e.getenv(name)
	if v == "" {
		return fallback
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > most {
		e.Wrong(name, strconv.Itoa(fallback), "%q is no whole number from 1 to %d", v, most)
		return fallback
	}
	return n
}

// Bytes returns a setting that is a number of bytes, plain or with KiB or MiB behind it, or fallback where it is not
// set. It is from 1 to most.
func (e *Env) Bytes(name string, fallback, most int64) int64 {
	v := e.getenv(name)
	if v == "" {
		return fallback
	}
	digits, factor := strings.TrimSpace(v), int64(1)
	for suffix, f := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if cut, ok := strings.CutSuffix(digits, suffix); ok {
			digits, factor = strings.TrimSpace(cut), f
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > most/factor {
		e.Wrong(name, strconv.FormatInt(fallback, 10), "%q is no number of bytes from 1 to %d", v, most)
		return fallback
	}
	return n * factor
}

// OneOf returns a setting that has one of the given values; the first is what an unset one means.
func (e *Env) OneOf(name string, values ...string) string {
	v := e.String(name, values[0])
	if !slices.Contains(values, v) {
		e.Wrong(name, values[0], "%q is none of %s", v, strings.Join(values, ", "))
		return values[0]
	}
	return v
}

// Address returns a setting that is the host and port to listen on, or fallback where it is not set.
func (e *Env) Address(name, fallback string) string {
	v := e.String(name, fallback)
	_, port, err := net.SplitHostPort(v)
	if _, numberErr := strconv.ParseUint(port, 10, 16); err != nil || numberErr != nil {
		e.Wrong(name, fallback, "%q is no host:port", v)
		return fallback
	}
	return v
}

// CORSOrigin returns what CORS_ORIGINS comes to: a response can name one origin only and never repeats what a request
// says, so that several are "*". "" where it is not set.
func (e *Env) CORSOrigin() string {
	const name = "CORS_ORIGINS"
	origins := e.List(name)
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.Scheme+"://"+u.Host != origin) {
			e.Wrong(name, "https://app.example.com", "%q is no origin: scheme, host and port, and nothing behind them", origin)
		}
	}
	switch len(origins) {
	case 0:
		return ""
	case 1:
		return origins[0]
	default:
		return "*"
	}
}

// Text returns a setting that is given inline, as the path of a file that holds it, or as the parameter that does: a
// path begins with /, ./ or ../, and a parameter, of a Lambda function, with ssm:. "" where it is not set or cannot be
// had. No mistake repeats the value: it may be a secret that looks like a path.
func (e *Env) Text(name, example string) string {
	v := e.getenv(name)
	if parameter, ok := strings.CutPrefix(v, parameterPrefix); ok && e.parameters != nil {
		return e.parameter(name, example, parameter)
	}
	for prefix, remark := range map[string]string{parameterPrefix: " outside a Lambda function", "~": "", "file:": ""} {
		if strings.HasPrefix(v, prefix) {
			e.Wrong(name, example, "begins with %s, which nothing resolves%s: give the value, or a path that begins with / or ./", prefix, remark)
			return ""
		}
	}
	if !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "./") && !strings.HasPrefix(v, "../") {
		return v
	}
	data, err := os.ReadFile(filepath.Clean(v))
	if failure, ok := errors.AsType[*fs.PathError](err); ok {
		err = failure.Err
	}
	switch {
	case err != nil:
		e.Wrong(name, example, "is taken for the path of a file, which cannot be read: %v", err)
		return ""
	case strings.TrimSpace(string(data)) == "":
		e.Wrong(name, example, "names a file that is empty")
		return ""
	}
	return string(data)
}
