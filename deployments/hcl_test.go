package deployments_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

const moduleDir = "terraform"

// A configuration is a Terraform module as it is written.
type configuration struct {
	blocks []*hclsyntax.Block // at the top of its files
	source map[string][]byte  // of its files
}

// parseConfiguration reads a module from its files.
func parseConfiguration(files map[string][]byte) (*configuration, error) {
	c := &configuration{source: files}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file, diags := hclsyntax.ParseConfig(files[name], name, hcl.InitialPos)
		if diags.HasErrors() {
			return nil, diags
		}
		body, _ := file.Body.(*hclsyntax.Body)
		c.blocks = append(c.blocks, body.Blocks...)
	}
	return c, nil
}

// readConfiguration reads the module in a folder.
func readConfiguration(t *testing.T, dir string) *configuration {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %v", dir, names, err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		files[name] = readFile(t, name)
	}
	c, err := parseConfiguration(files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// snippet is a module of one file, for violations.
func snippet(t *testing.T, text string) *configuration {
	t.Helper()
	c, err := parseConfiguration(map[string][]byte{"snippet.tf": []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func readFile(t *testing.T, elements ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// each returns the blocks of a kind ("resource", "data", …), and of a type where it is not "".
func (c *configuration) each(kind, of string) []*hclsyntax.Block {
	var blocks []*hclsyntax.Block
	for _, b := range c.blocks {
		if b.Type == kind && (of == "" || b.Labels[0] == of) {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// find returns the block of an address like aws_sqs_queue.jobs, data.aws_partition.current or variable.name; nil when
// there is none.
func (c *configuration) find(address string) *hclsyntax.Block {
	for _, b := range c.blocks {
		if addressOf(b) == address {
			return b
		}
	}
	return nil
}

func addressOf(b *hclsyntax.Block) string {
	labels := strings.Join(b.Labels, ".")
	if b.Type == "resource" {
		return labels
	}
	return b.Type + "." + labels
}

// locals are the expressions of all locals blocks.
func (c *configuration) locals() map[string]hclsyntax.Expression {
	all := map[string]hclsyntax.Expression{}
	for _, b := range c.each("locals", "") {
		for name, a := range b.Body.Attributes {
			all[name] = a.Expr
		}
	}
	return all
}

// text is an expression as it is written.
func (c *configuration) text(e hclsyntax.Expression) string {
	r := e.Range()
	return string(c.source[r.Filename][r.Start.Byte:r.End.Byte])
}

// attribute is an attribute's expression; nil when there is none.
func attribute(body *hclsyntax.Body, name string) hclsyntax.Expression {
	if a := body.Attributes[name]; a != nil {
		return a.Expr
	}
	return nil
}

// nested are a body's blocks of a type, those of dynamic blocks among them.
func nested(body *hclsyntax.Body, of string) []*hclsyntax.Block {
	var blocks []*hclsyntax.Block
	for _, b := range body.Blocks {
		switch {
		case b.Type == of:
			blocks = append(blocks, b)
		case b.Type == "dynamic" && b.Labels[0] == of:
			blocks = append(blocks, nested(b.Body, "content")...)
		}
	}
	return blocks
}

// references are the objects that a node names, as addresses: local.x, var.x, aws_x.y, data.aws_x.y, each.value, ….
func references(node hclsyntax.Node) map[string]bool {
	all := map[string]bool{}
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		if scope, ok := n.(*hclsyntax.ScopeTraversalExpr); ok {
			all[referee(scope.Traversal)] = true
		}
		return nil
	})
	return all
}

// referee is the address of what a traversal begins at.
func referee(traversal hcl.Traversal) string {
	steps := []string{traversal.RootName()}
	length := 2
	if steps[0] == "data" {
		length = 3
	}
	for _, step := range traversal[1:] {
		attr, ok := step.(hcl.TraverseAttr)
		if !ok || len(steps) == length {
			break
		}
		steps = append(steps, attr.Name)
	}
	return strings.Join(steps, ".")
}

// evaluate gives an expression its value.
func evaluate(e hcl.Expression, variables map[string]cty.Value) (cty.Value, error) {
	v, diags := e.Value(&hcl.EvalContext{Variables: variables, Functions: map[string]function.Function{
		"jsonencode": stdlib.JSONEncodeFunc, "replace": stdlib.ReplaceFunc,
	}})
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	return v, nil
}

// A violation is a place and what is wrong there.
func violation(at hclsyntax.Node, format string, args ...any) string {
	r := at.Range()
	return fmt.Sprintf("%s:%d: ", r.Filename, r.Start.Line) + fmt.Sprintf(format, args...)
}

// want compares what a check found with what it has to find: as many violations, each with its words.
func want(t *testing.T, found []string, words ...string) {
	t.Helper()
	slices.Sort(found)
	if len(found) != len(words) {
		t.Fatalf("found %d violations, want %d (%q):\n%s", len(found), len(words), words, strings.Join(found, "\n"))
	}
	for _, w := range words {
		if !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, w) }) {
			t.Errorf("no violation says %q:\n%s", w, strings.Join(found, "\n"))
		}
	}
}
