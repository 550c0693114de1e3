package localgateway

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A Policy is an IAM policy as a Lambda authorizer answers it.
type Policy struct {
	statements []statement
}

type statement struct {
	deny      bool
	actions   []string // lower case: action names are not case-sensitive
	resources []string
}

// oneOrMore is a member that IAM takes as a string or as a list of strings.
type oneOrMore []string

func (l *oneOrMore) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '"' {
		*l = oneOrMore{""}
		return json.UnmarshalDecode(d, &(*l)[0])
	}
	return json.UnmarshalDecode(d, (*[]string)(l))
}

// ParsePolicy reads a policy document. What it does not evaluate (Condition, NotAction, NotResource, Principal, policy
// variables) is an error rather than ignored, and so is anything outside the policy grammar; see
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html.
func ParsePolicy(document []byte) (Policy, error) {
	type element struct {
		Sid      string
		Effect   string
		Action   oneOrMore
		Resource oneOrMore
	}
	var doc struct {
		Version   string
		ID        string `json:"Id"`
		Statement jsontext.Value
	}
	if err := json.Unmarshal(document, &doc, json.RejectUnknownMembers(true)); err != nil {
		return Policy{}, fmt.Errorf("policy document: %w", err)
	}
	if doc.Version != "2012-10-17" && doc.Version != "2008-10-17" && doc.Version != "" {
		return Policy{}, fmt.Errorf("policy document: no version %q", doc.Version)
	}
	elements := make([]element, 1)
	var err error
	if doc.Statement.Kind() == '[' {
		err = json.Unmarshal(doc.Statement, &elements, json.RejectUnknownMembers(true))
	} else {
		err = json.Unmarshal(doc.Statement, &elements[0], json.RejectUnknownMembers(true))
	}
	if err != nil {
		return Policy{}, fmt.Errorf("policy statement: %w", err)
	}
	var p Policy
	for i, e := range elements {
		switch {
		case e.Effect != "Allow" && e.Effect != "Deny":
			return Policy{}, fmt.Errorf("policy statement %d: effect must be Allow or Deny", i)
		case len(e.Action) == 0 || len(e.Resource) == 0:
			return Policy{}, fmt.Errorf("policy statement %d: needs Action and Resource", i)
		case slices.ContainsFunc(e.Resource, func(s string) bool { return strings.Contains(s, "${") }):
			return Policy{}, fmt.Errorf("policy statement %d: policy variables are not evaluated", i)
		}
		s := statement{deny: e.Effect == "Deny", resources: e.Resource}
		for _, action := range e.Action {
			s.actions = append(s.actions, strings.ToLower(action))
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

// Allows evaluates the policy as IAM does: an explicit deny wins, and what nothing allows is denied. In a pattern * is
// any number of characters, slashes and colons among them, and ? is any one; resources are case-sensitive. In resource
// both are ordinary characters. See
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html.
func (p Policy) Allows(action, resource string) bool {
	action = strings.ToLower(action)
	allowed := false
	for _, s := range p.statements {
		hit := slices.ContainsFunc(s.actions, func(pattern string) bool { return matches(pattern, action) }) &&
			slices.ContainsFunc(s.resources, func(pattern string) bool { return matches(pattern, resource) })
		if hit && s.deny {
			return false
		}
		allowed = allowed || hit
	}
	return allowed
}

// matches takes time in the product of both lengths at most: after a mismatch only the last * is tried again.
func matches(pattern, name string) bool {
	p, n := []rune(pattern), []rune(name)
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(n) {
		switch {
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == n[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
