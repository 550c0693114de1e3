package apigateway

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jobgate/jobgate/domain"
)

// maxResource is how long a Resource of an authorizer's policy may be; see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html.
const maxResource = 512

// A Compiler writes what one principal may do as an IAM policy over a whole route table. API Gateway caches the policy
// and evaluates it again for the caller's next method, so one that named the requested method alone would refuse it.
type Compiler struct {
	grants  []grant
	actions []domain.Action // of the grants, each once
	length  int             // of all patterns
}

// A grant is a route as IAM sees it.
type grant struct {
	action  domain.Action
	pattern string // METHOD/path, with * for a parameter
	within  []int  // the other grants whose pattern matches all that this one's does
}

// NewCompiler prepares a route table. IAM's * crosses slashes, so the patterns of two routes may match the same
// request; it returns every reason why the table cannot be written down exactly, joined.
func NewCompiler(routes []domain.Route) (*Compiler, error) {
	var c Compiler
	var problems []error
	for _, r := range routes {
		if r.Public {
			continue
		}
		pattern, err := iamPattern(r)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		c.grants = append(c.grants, grant{action: r.Action, pattern: pattern})
		c.length += len(pattern)
		if !slices.Contains(c.actions, r.Action) {
			c.actions = append(c.actions, r.Action)
		}
	}
	for i := range c.grants {
		for j := range c.grants {
			a, b := &c.grants[i], &c.grants[j]
			switch {
			case i == j:
			case contains(b.pattern, a.pattern):
				a.within = append(a.within, j)
				if i < j && contains(a.pattern, b.pattern) {
					problems = append(problems, fmt.Errorf("routes %s and %s are the same to IAM", a.pattern, b.pattern))
				}
			case i < j && !contains(a.pattern, b.pattern) && overlap(a.pattern, b.pattern):
				problems = append(problems, fmt.Errorf("routes %s and %s overlap and neither lies inside the other", a.pattern, b.pattern))
			}
		}
	}
	if err := errors.Join(append(problems, c.nested()...)...); err != nil {
		return nil, err
	}
	return &c, nil
}

// nested finds the chains that no policy can express: a refused route between two allowed ones needs a deny against the
// wider of them, which would hit the narrower as well.
func (c *Compiler) nested() (problems []error) {
	for _, inner := range c.grants {
		for _, m := range inner.within {
			middle := c.grants[m]
			for _, o := range middle.within {
				if outer := c.grants[o]; middle.action != inner.action && middle.action != outer.action {
					problems = append(problems, fmt.Errorf("route %s lies inside %s and that inside %s: refusing the middle one alone cannot be expressed",
						inner.pattern, middle.pattern, outer.pattern))
				}
			}
		}
	}
	return problems
}

// Append appends to b the policy, as JSON, of a principal who may take the actions that may says, at one deployment. Each
// route is decided by its action and written with its concrete verb and stage; a refused one that lies inside an allowed
// one is denied explicitly, the others by IAM's default. Somebody who may do nothing is denied everything.
//
// The deployment must be one that ParseMethodARN returned: neither in it nor in a pattern is there anything to escape.
func (c *Compiler) Append(b []byte, at Deployment, may func(domain.Action) bool) []byte {
	b = append(b, `{"Version":"2012-10-17","Statement":[`...)
	none := len(b)
	b = appendStatement(b, "Allow", &at, c.grants, func(g *grant) bool { return may(g.action) })
	if len(b) == none {
		b = appendStatement(b, "Deny", &at, []grant{{pattern: "*"}}, func(*grant) bool { return true })
	} else {
		b = appendStatement(b, "Deny", &at, c.grants, func(g *grant) bool {
			return !may(g.action) && slices.ContainsFunc(g.within, func(outer int) bool { return may(c.grants[outer].action) })
		})
	}
	return append(b, `]}`...)
}

// size returns how many bytes the resources of a policy take that has them all.
func (c *Compiler) size(at *Deployment) int {
	return c.length + len(c.grants)*(len(`"arn::execute-api::://",`)+len(at.Partition)+len(at.Region)+len(at.Account)+len(at.API)+len(at.Stage))
}

// appendStatement appends one statement with the grants that are in it, or nothing when none is.
func appendStatement(b []byte, effect string, at *Deployment, grants []grant, in func(*grant) bool) []byte {
	first := true
	for i := range grants {
		g := &grants[i]
		switch {
		case !in(g):
			continue
		case first:
			if b[len(b)-1] == '}' {
				b = append(b, ',')
			}
			b = append(append(append(b, `{"Action":["execute-api:Invoke"],"Effect":"`...), effect...), `","Resource":[`...)
		default:
			b = append(b, ',')
		}
		first = false
		b = append(at.appendResource(append(b, '"'), g.pattern), '"')
	}
	if first {
		return b
	}
	return append(b, `]}`...)
}

var (
	verb    = regexp.MustCompile(`^[A-Z]{1,16}$`)
	segment = regexp.MustCompile(`^(?:\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z0-9_~-][A-Za-z0-9._~-]*)$`)
)

// iamPattern returns METHOD/path with * for each parameter. Literal segments are of the characters that RFC 3986 §2.3
// never escapes, so that a path has one spelling.
func iamPattern(r domain.Route) (string, error) {
	path, rooted := strings.CutPrefix(r.Pattern, "/")
	if !rooted || !verb.MatchString(r.Method) || r.Action == "" {
		return "", fmt.Errorf("route %s %s: needs a verb, a path from the root and an action", r.Method, r.Pattern)
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if !segment.MatchString(s) && path != "" {
			return "", fmt.Errorf("route %s %s: %q is neither a plain segment nor a {parameter}", r.Method, r.Pattern, s)
		}
		if strings.HasPrefix(s, "{") {
			segments[i] = "*"
		}
	}
	return r.Method + "/" + strings.Join(segments, "/"), nil
}

// contains reports whether outer matches everything that inner does. A * of inner stands for any string, so only a * of
// outer can take it: as if it were a character that no literal has.
func contains(outer, inner string) bool {
	return overlap(outer, strings.ReplaceAll(inner, "*", "\x00"))
}

// overlap reports whether some string is matched by both a and b, in which * is any string.
func overlap(a, b string) bool {
	row := make([]bool, len(b)+1) // row[j]: a[i:] and b[j:] overlap
	for i := len(a); i >= 0; i-- {
		next := row // of i+1
		row = make([]bool, len(b)+1)
		for j := len(b); j >= 0; j-- {
			starA, starB := i < len(a) && a[i] == '*', j < len(b) && b[j] == '*'
			switch {
			case i == len(a) && j == len(b):
				row[j] = true
			case starA && (next[j] || j < len(b) && row[j+1]), starB && (row[j+1] || i < len(a) && next[j]):
				row[j] = true
			case i < len(a) && j < len(b) && !starA && !starB && a[i] == b[j]:
				row[j] = next[j+1]
			}
		}
	}
	return row[0]
}
