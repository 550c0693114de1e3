package deployments_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/jobgate/jobgate/adapters/adaptertest"
)

// What follows reads the module as it is written, for where no provider can be had. Each check is a function over a
// configuration, and is itself tested against violations.

// A blockSchema is what a block may hold: of the provider's documentation, what both 5.46 and 6.x have.
type blockSchema struct {
	Required []string               `json:"required"`
	Optional []string               `json:"optional"`
	Exported []string               `json:"exported"`
	Blocks   map[string]blockSchema `json:"blocks"`
}

func (s blockSchema) argument(name string) bool {
	return slices.Contains(s.Required, name) || slices.Contains(s.Optional, name)
}

// A schema is what the provider has: by kind (resource, data) and type.
type schema map[string]map[string]blockSchema

func readSchema(t *testing.T) schema {
	t.Helper()
	var s schema
	decoder := json.NewDecoder(bytes.NewReader(readFile(t, "testdata", "provider.json")))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// examples are the root modules that show how the module is called.
func examples(t *testing.T) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(moduleDir, "examples", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("examples %v, %v", dirs, err)
	}
	return dirs
}

func TestTerraformIsFormatted(t *testing.T) {
	t.Parallel()
	needTerraform(t)
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "terraform", "fmt", "-check", "-diff", "-recursive", moduleDir)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, &out)
	}
}

func needTerraform(t *testing.T) {
	t.Helper()
	adaptertest.Need(t, "terraform", "https://developer.hashicorp.com/terraform/install")
}

func TestEveryReferenceResolves(t *testing.T) {
	t.Parallel()
	for _, dir := range append(examples(t), moduleDir) {
		want(t, checkReferences(readConfiguration(t, dir), readSchema(t)))
	}
}

// checkReferences looks up whatever an expression names, and the attribute that it takes of a resource.
func checkReferences(c *configuration, s schema) (found []string) {
	locals := c.locals()
	used := map[string]bool{}
	resolve := func(at hclsyntax.Node, address string, in *hclsyntax.Block, iterators []string) {
		used[address] = true
		root, rest, _ := strings.Cut(address, ".")
		var known bool
		switch root {
		case "var":
			known = c.find("variable."+rest) != nil
		case "local":
			known = locals[rest] != nil
		case "module":
			known = c.find(address) != nil
		case "path":
			known = rest == "module" || rest == "root"
		case "each":
			known = attribute(in.Body, "for_each") != nil && (rest == "key" || rest == "value")
		case "count":
			known = attribute(in.Body, "count") != nil && rest == "index"
		default:
			known = c.find(address) != nil || slices.Contains(iterators, root)
		}
		if !known {
			found = append(found, violation(at, "%s is not declared", address))
		}
	}
	var visit func(node hclsyntax.Node, in *hclsyntax.Block, iterators []string)
	visit = func(node hclsyntax.Node, in *hclsyntax.Block, iterators []string) {
		switch n := node.(type) {
		case *hclsyntax.Body:
			for name, a := range n.Attributes {
				if in.Type != "variable" || name != "type" { // which has the names of types
					visit(a.Expr, in, iterators)
				}
			}
			for _, b := range n.Blocks {
				inner := iterators
				if b.Type == "dynamic" {
					inner = append(slices.Clone(iterators), b.Labels[0])
				}
				visit(b.Body, in, inner)
			}
		case *hclsyntax.ForExpr:
			visit(n.CollExpr, in, iterators)
			inner := append(slices.Clone(iterators), n.KeyVar, n.ValVar)
			for _, e := range []hclsyntax.Expression{n.KeyExpr, n.ValExpr, n.CondExpr} {
				if e != nil {
					visit(e, in, inner)
				}
			}
		case *hclsyntax.ObjectConsKeyExpr:
			if hcl.ExprAsKeyword(n) == "" { // a bare word is a name and no reference
				visit(n.Wrapped, in, iterators)
			}
		case *hclsyntax.ScopeTraversalExpr:
			address := referee(n.Traversal)
			resolve(n, address, in, iterators)
			found = append(found, c.checkAttribute(s, n, address, n.Traversal)...)
		case *hclsyntax.RelativeTraversalExpr:
			if index, ok := n.Source.(*hclsyntax.IndexExpr); ok {
				if scope, ok := index.Collection.(*hclsyntax.ScopeTraversalExpr); ok {
					found = append(found, c.checkAttribute(s, n, referee(scope.Traversal), append(scope.Traversal, n.Traversal...))...)
				}
			}
			visit(n.Source, in, iterators)
		case *hclsyntax.SplatExpr:
			if each, ok := n.Each.(*hclsyntax.RelativeTraversalExpr); ok {
				if scope, ok := n.Source.(*hclsyntax.ScopeTraversalExpr); ok {
					found = append(found, c.checkAttribute(s, n, referee(scope.Traversal), append(scope.Traversal, each.Traversal...))...)
				}
			}
			visit(n.Source, in, iterators)
		case nil:
		default:
			for _, child := range children(node) {
				visit(child, in, iterators)
			}
		}
	}
	for _, b := range c.blocks {
		if b.Type != "terraform" { // its names are the language's own
			visit(b.Body, b, nil)
		}
	}
	for _, b := range c.each("variable", "") {
		if !used["var."+b.Labels[0]] {
			found = append(found, violation(b, "var.%s is not used", b.Labels[0]))
		}
	}
	for name, e := range locals {
		if !used["local."+name] {
			found = append(found, violation(e, "local.%s is not used", name))
		}
	}
	return found
}

// checkAttribute looks at what a reference takes of a resource, or of a module.
func (c *configuration) checkAttribute(s schema, at hclsyntax.Node, address string, traversal hcl.Traversal) []string {
	b := c.find(address)
	if b == nil || b.Type != "resource" && b.Type != "data" {
		return nil
	}
	many := attribute(b.Body, "count") != nil || attribute(b.Body, "for_each") != nil
	steps := traversal[len(strings.Split(address, ".")):]
	if len(steps) == 0 {
		return nil
	}
	if many {
		if _, attr := steps[0].(hcl.TraverseAttr); attr && !isSplat(at) {
			if !isIndexed(at) {
				return []string{violation(at, "%s is several: it needs an index", address)}
			}
		}
	}
	for _, step := range steps {
		if attr, ok := step.(hcl.TraverseAttr); ok {
			schema := s[b.Type][b.Labels[0]]
			if _, block := schema.Blocks[attr.Name]; !block && !schema.argument(attr.Name) && !slices.Contains(schema.Exported, attr.Name) {
				return []string{violation(at, "%s has no attribute %s", address, attr.Name)}
			}
			break
		}
	}
	return nil
}

func isSplat(n hclsyntax.Node) bool {
	_, ok := n.(*hclsyntax.SplatExpr)
	return ok
}

func isIndexed(n hclsyntax.Node) bool {
	_, ok := n.(*hclsyntax.RelativeTraversalExpr)
	return ok
}

// children are the nodes directly inside a node.
func children(node hclsyntax.Node) []hclsyntax.Node {
	w := &childWalker{}
	_ = hclsyntax.Walk(node, w)
	return w.nodes
}

type childWalker struct {
	depth int
	nodes []hclsyntax.Node
}

func (w *childWalker) Enter(node hclsyntax.Node) hcl.Diagnostics {
	if w.depth++; w.depth == 2 {
		w.nodes = append(w.nodes, node)
	}
	return nil
}

func (w *childWalker) Exit(hclsyntax.Node) hcl.Diagnostics {
	w.depth--
	return nil
}

func TestEveryReferenceResolvesRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text  string
		words []string
	}{
		"a variable":             {`output "x" { value = var.absent }`, []string{"var.absent is not declared"}},
		"a local in a template":  {`output "x" { value = "a-${local.absent}" }`, []string{"local.absent is not declared"}},
		"a resource":             {`output "x" { value = aws_sns_topic.absent.arn }`, []string{"aws_sns_topic.absent is not declared"}},
		"a data source":          {`output "x" { value = data.aws_partition.absent.id }`, []string{"data.aws_partition.absent is not declared"}},
		"a module":               {`output "x" { value = module.absent.y }`, []string{"module.absent is not declared"}},
		"each without for_each":  {`resource "aws_sns_topic" "x" { name = each.key }`, []string{"each.key is not declared"}},
		"a foreign iterator":     {`output "x" { value = statement.value }`, []string{"statement.value is not declared"}},
		"an attribute":           {"resource \"aws_sns_topic\" \"x\" {}\noutput \"x\" { value = aws_sns_topic.x.url }", []string{"aws_sns_topic.x has no attribute url"}},
		"an indexed attribute":   {"resource \"aws_sns_topic\" \"x\" { for_each = {} }\noutput \"x\" { value = aws_sns_topic.x[var.y].url }\nvariable \"y\" {}", []string{"has no attribute url"}},
		"a splat's attribute":    {"resource \"aws_sns_topic\" \"x\" { count = 1 }\noutput \"x\" { value = aws_sns_topic.x[*].url }", []string{"has no attribute url"}},
		"an index that is there": {"resource \"aws_sns_topic\" \"x\" { count = 1 }\noutput \"x\" { value = aws_sns_topic.x[0].arn }", nil},
		"a missing index":        {"resource \"aws_sns_topic\" \"x\" { count = 1 }\noutput \"x\" { value = aws_sns_topic.x.arn }", []string{"aws_sns_topic.x is several"}},
		"an unused variable":     {`variable "x" {}`, []string{"var.x is not used"}},
		"an unused local":        {`locals { x = 1 }`, []string{"local.x is not used"}},
		"a for's own variable":   {`output "x" { value = [for a in [1] : a] }`, nil},
		"a dynamic's iterator":   {"resource \"aws_sns_topic\" \"x\" {\ndynamic \"a\" {\nfor_each = []\ncontent { b = a.value }\n}\n}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want(t, checkReferences(snippet(t, tt.text), readSchema(t)), tt.words...)
		})
	}
}

func TestEveryArgumentIsDocumented(t *testing.T) {
	t.Parallel()
	for _, dir := range append(examples(t), moduleDir) {
		want(t, checkArguments(readConfiguration(t, dir), readSchema(t)))
	}
}

// checkArguments holds each resource and data source against the schema.
func checkArguments(c *configuration, s schema) (found []string) {
	for _, b := range c.blocks {
		if b.Type != "resource" && b.Type != "data" {
			continue
		}
		of, ok := s[b.Type][b.Labels[0]]
		if !ok {
			found = append(found, violation(b, "%s %s is not in the table", b.Type, b.Labels[0]))
			continue
		}
		found = append(found, checkBody(addressOf(b), b.Body, of, true)...)
	}
	return found
}

func checkBody(where string, body *hclsyntax.Body, of blockSchema, top bool) (found []string) {
	for name, a := range body.Attributes {
		meta := top && slices.Contains([]string{"count", "for_each", "depends_on", "provider"}, name)
		if !meta && !of.argument(name) {
			found = append(found, violation(a, "%s has no argument %s", where, name))
		}
	}
	for _, name := range of.Required {
		if body.Attributes[name] == nil {
			found = append(found, violation(body, "%s needs the argument %s", where, name))
		}
	}
	for _, b := range body.Blocks {
		name, inner := b.Type, b.Body
		if name == "lifecycle" && top {
			continue
		}
		if name == "dynamic" {
			name = b.Labels[0]
			content := nested(b.Body, "content")
			if len(content) != 1 {
				found = append(found, violation(b, "%s: dynamic %s needs one content", where, name))
				continue
			}
			inner = content[0].Body
		}
		sub, ok := of.Blocks[name]
		if !ok {
			found = append(found, violation(b, "%s has no block %s", where, name))
			continue
		}
		found = append(found, checkBody(where+"."+name, inner, sub, false)...)
	}
	return found
}

func TestEveryArgumentIsDocumentedRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text  string
		words []string
	}{
		"a resource that nobody looked up": {`resource "aws_instance" "x" {}`, []string{"aws_instance is not in the table"}},
		"another provider":                 {`resource "random_id" "x" {}`, []string{"random_id is not in the table"}},
		"an argument":                      {`resource "aws_sns_topic" "x" { title = "x" }`, []string{"has no argument title"}},
		"an argument of another block":     {"resource \"aws_lambda_function\" \"x\" {\nfunction_name = 1\nrole = 2\ntracing_config {\nmode = 1\nlevel = 2\n}\n}", []string{"tracing_config has no argument level"}},
		"a missing argument":               {`resource "aws_kms_alias" "x" { name = "x" }`, []string{"needs the argument target_key_id"}},
		"a block":                          {"resource \"aws_sns_topic\" \"x\" {\nencryption {}\n}", []string{"has no block encryption"}},
		"a dynamic block":                  {"resource \"aws_sns_topic\" \"x\" {\ndynamic \"encryption\" {\nfor_each = []\ncontent {}\n}\n}", []string{"has no block encryption"}},
		"an argument of a dynamic block":   {"data \"aws_iam_policy_document\" \"x\" {\ndynamic \"statement\" {\nfor_each = []\ncontent { action = 1 }\n}\n}", []string{"statement has no argument action"}},
		"what a later major has dropped":   {"resource \"aws_api_gateway_deployment\" \"x\" {\nrest_api_id = 1\nstage_name = 2\n}", []string{"has no argument stage_name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want(t, checkArguments(snippet(t, tt.text), readSchema(t)), tt.words...)
		})
	}
}

func TestModuleNeedsTheAWSProviderAlone(t *testing.T) {
	t.Parallel()
	want(t, checkProviders(readConfiguration(t, moduleDir)))
}

func checkProviders(c *configuration) (found []string) {
	constraints := map[string]string{}
	for _, b := range c.each("terraform", "") {
		if version, err := literal(attribute(b.Body, "required_version")); err == nil {
			constraints["terraform"] = version
		}
		for _, providers := range b.Body.Blocks {
			for name, a := range providers.Body.Attributes {
				v, err := evaluate(a.Expr, nil)
				if err != nil || providers.Type != "required_providers" || !v.Type().HasAttribute("version") {
					found = append(found, violation(a, "a terraform block has required_providers with source and version, and nothing else"))
					continue
				}
				constraints[v.GetAttr("source").AsString()] = v.GetAttr("version").AsString()
				if name != "aws" {
					found = append(found, violation(a, "the module needs the provider %s", name))
				}
			}
		}
	}
	if constraints["terraform"] != ">= 1.9" || constraints["hashicorp/aws"] != ">= 5.46" {
		found = append(found, "the versions are not Terraform >= 1.9 and hashicorp/aws >= 5.46")
	}
	for _, b := range c.each("provider", "") {
		found = append(found, violation(b, "a module that is called configures no provider"))
	}
	return found
}

// literal is the value of an expression that is a constant string.
func literal(e hclsyntax.Expression) (string, error) {
	if e == nil {
		return "", nil
	}
	v, err := evaluate(e, nil)
	if err != nil || v.Type() != cty.String {
		return "", err
	}
	return v.AsString(), nil
}

func TestModuleNeedsTheAWSProviderAloneRefuses(t *testing.T) {
	t.Parallel()
	const good = `terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.46" }
  }
}
`
	want(t, checkProviders(snippet(t, good)))
	want(t, checkProviders(snippet(t, good+`provider "aws" {}`)), "configures no provider")
	want(t, checkProviders(snippet(t, strings.Replace(good, "    aws", "    random = { source = \"hashicorp/random\", version = \"3\" }\n    aws", 1))), "needs the provider random")
	want(t, checkProviders(snippet(t, strings.Replace(good, "5.46", "5.0", 1))), "the versions are not")
}

func TestVariablesAndOutputsAreDescribedTypedAndValidated(t *testing.T) {
	t.Parallel()
	want(t, checkVariables(readConfiguration(t, moduleDir)))
}

// checkVariables wants every variable described, typed and, unless each value of its type will do, validated.
func checkVariables(c *configuration) (found []string) {
	for _, b := range c.each("variable", "") {
		name := b.Labels[0]
		if text, err := literal(attribute(b.Body, "description")); err != nil || !strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "}") {
			found = append(found, violation(b, "var.%s is not described in a sentence", name))
		}
		kind := attribute(b.Body, "type")
		if kind == nil {
			found = append(found, violation(b, "var.%s has no type", name))
			continue
		}
		if hcl.ExprAsKeyword(kind) != "bool" && len(nested(b.Body, "validation")) == 0 {
			found = append(found, violation(b, "var.%s is not validated", name))
		}
		for _, v := range nested(b.Body, "validation") {
			if text, err := literal(attribute(v.Body, "error_message")); err != nil || len(text) < 20 || !strings.HasSuffix(text, ".") {
				found = append(found, violation(v, "var.%s: a message is a sentence that a user understands", name))
			}
		}
		// A null that the module does not expect is a riddle where it is used; null as a default says that it is expected.
		byDefault := attribute(b.Body, "default")
		nullable := byDefault != nil && c.text(byDefault) == "null"
		if strict := attribute(b.Body, "nullable"); nullable == (strict != nil) {
			found = append(found, violation(b, "var.%s is either null by default or not nullable", name))
		}
	}
	for _, b := range c.each("output", "") {
		if text, err := literal(attribute(b.Body, "description")); err != nil || !strings.HasSuffix(text, ".") {
			found = append(found, violation(b, "output %s is not described in a sentence", b.Labels[0]))
		}
	}
	return found
}

func TestVariablesAndOutputsAreDescribedTypedAndValidatedRefuses(t *testing.T) {
	t.Parallel()
	const good = `variable "x" {
  description = "Says what."
  type        = string
  nullable    = false
  validation {
    condition     = true
    error_message = "x is like this and not like that."
  }
}
`
	want(t, checkVariables(snippet(t, good)))
	for from, word := range map[string]string{
		"  description = \"Says what.\"\n": "not described", "  type        = string\n": "no type", "  nullable    = false\n": "null by default",
		"x is like this and not like that.": "a sentence that a user understands",
	} {
		want(t, checkVariables(snippet(t, strings.Replace(good, from, "", 1))), word)
	}
	want(t, checkVariables(snippet(t, regexp.MustCompile(`(?s)  validation \{.*?\n  \}\n`).ReplaceAllString(good, ""))), "not validated")
	want(t, checkVariables(snippet(t, `output "x" { value = 1 }`)), "output x is not described")
}

func TestEveryMethodHasTheAuthorizerOrIsPublic(t *testing.T) {
	t.Parallel()
	want(t, checkMethods(readConfiguration(t, moduleDir), routes(t)))
}

// openMethods are the methods without an authorizer, by resource and why.
var openMethods = map[string]string{
	"aws_api_gateway_method.preflight": "a preflight bears no token",
}

// checkMethods evaluates what each method says about its authorization, for each route.
func checkMethods(c *configuration, all []route) (found []string) {
	methods := 0
	for _, b := range c.each("resource", "aws_api_gateway_method") {
		address := addressOf(b)
		if openMethods[address] != "" {
			if method, err := literal(attribute(b.Body, "http_method")); err != nil || method != "OPTIONS" {
				found = append(found, violation(b, "%s is open and not OPTIONS", address))
			}
			continue
		}
		if each := attribute(b.Body, "for_each"); each == nil || c.text(each) != "local.routes" {
			found = append(found, violation(b, "%s is no route of the route table", address))
			continue
		}
		for _, r := range all {
			methods++
			variables := map[string]cty.Value{
				"each": cty.ObjectVal(map[string]cty.Value{"value": cty.ObjectVal(map[string]cty.Value{"public": cty.BoolVal(r.Public)})}),
				"aws_api_gateway_authorizer": cty.ObjectVal(map[string]cty.Value{
					"auth": cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal("the authorizer")}),
				}),
			}
			authorization, err := evaluate(attribute(b.Body, "authorization"), variables)
			if err != nil {
				found = append(found, violation(b, "%s: %v", address, err))
				continue
			}
			authorizer := cty.NullVal(cty.String)
			if e := attribute(b.Body, "authorizer_id"); e != nil {
				if authorizer, err = evaluate(e, variables); err != nil {
					found = append(found, violation(b, "%s: %v", address, err))
					continue
				}
			}
			gated := authorization.AsString() == "CUSTOM" && !authorizer.IsNull()
			if gated == r.Public {
				found = append(found, violation(b, "%s: %s %s, public %t, has authorization %s", address, r.Method, r.Path, r.Public, authorization.AsString()))
			}
		}
	}
	if methods != len(all) {
		found = append(found, "not every route has one method")
	}
	return found
}

func TestEveryMethodHasTheAuthorizerOrIsPublicRefuses(t *testing.T) {
	t.Parallel()
	const good = `resource "aws_api_gateway_method" "route" {
  for_each      = local.routes
  authorization = each.value.public ? "NONE" : "CUSTOM"
  authorizer_id = each.value.public ? null : aws_api_gateway_authorizer.auth.id
}
`
	all := []route{{"POST", "/jobs", false}, {"GET", "/openapi.json", true}}
	want(t, checkMethods(snippet(t, good), all))
	want(t, checkMethods(snippet(t, strings.Replace(good, `each.value.public ? "NONE" : "CUSTOM"`, `"NONE"`, 1)), all), "POST /jobs, public false, has authorization NONE")
	want(t, checkMethods(snippet(t, strings.Replace(good, "each.value.public ? null : aws_api_gateway_authorizer.auth.id", "null", 1)), all), "POST /jobs")
	want(t, checkMethods(snippet(t, strings.ReplaceAll(good, "each.value.public ?", "false ?")), all), "GET /openapi.json, public true, has authorization CUSTOM")
	want(t, checkMethods(snippet(t, good+`resource "aws_api_gateway_method" "extra" { http_method = "GET" }`), all), "extra is no route")
	want(t, checkMethods(snippet(t, good+`resource "aws_api_gateway_method" "preflight" { http_method = "ANY" }`), all), "open and not OPTIONS")
	want(t, checkMethods(snippet(t, ""), all), "not every route")
}

func TestEveryQueueAndSubscriptionHasADeadLetterTarget(t *testing.T) {
	t.Parallel()
	want(t, checkDeadLetters(readConfiguration(t, moduleDir)))
}

// withoutDeadLetters are what needs no dead-letter target, by address and why.
var withoutDeadLetters = map[string]string{
	"aws_sqs_queue.dead_letters":                   "is one",
	"aws_sqs_queue.undelivered":                    "is one",
	"aws_lambda_function_event_invoke_config.jobs": "a tick that is lost is made up for by the next",
}

func checkDeadLetters(c *configuration) (found []string) {
	targets := map[string]bool{}
	for _, kind := range []string{"aws_sqs_queue", "aws_sns_topic_subscription", "aws_lambda_function_event_invoke_config"} {
		for _, b := range c.each("resource", kind) {
			e := attribute(b.Body, "redrive_policy")
			if kind == "aws_lambda_function_event_invoke_config" {
				for _, destination := range nested(b.Body, "destination_config") {
					for _, failure := range nested(destination.Body, "on_failure") {
						e = attribute(failure.Body, "destination")
					}
				}
			}
			if withoutDeadLetters[addressOf(b)] != "" {
				continue
			}
			named := false
			if e != nil {
				for address := range references(e) {
					named = named || strings.HasPrefix(address, "aws_sqs_queue.")
					targets[address] = true
				}
			}
			if !named {
				found = append(found, violation(b, "%s has no dead-letter queue", addressOf(b)))
			}
		}
	}
	for _, b := range c.each("resource", "aws_sqs_queue") {
		if withoutDeadLetters[addressOf(b)] != "" && !targets[addressOf(b)] {
			found = append(found, violation(b, "%s is nobody's dead-letter queue", addressOf(b)))
		}
		if e := attribute(b.Body, "message_retention_seconds"); e == nil || c.text(e) != "local.fourteen_days" {
			found = append(found, violation(b, "%s does not keep its messages for 14 days", addressOf(b)))
		}
	}
	for _, b := range c.each("resource", "aws_lambda_event_source_mapping") {
		if e := attribute(b.Body, "function_response_types"); e == nil || !strings.Contains(c.text(e), "ReportBatchItemFailures") {
			found = append(found, violation(b, "%s fails a whole batch for one record", addressOf(b)))
		}
	}
	return found
}

func TestEveryQueueAndSubscriptionHasADeadLetterTargetRefuses(t *testing.T) {
	t.Parallel()
	const kept = "message_retention_seconds = local.fourteen_days\n"
	const good = "resource \"aws_sqs_queue\" \"dead_letters\" {\n" + kept + "}\n" +
		"resource \"aws_sqs_queue\" \"jobs\" {\n" + kept + "redrive_policy = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead_letters.arn })\n}\n"
	want(t, checkDeadLetters(snippet(t, good)))
	want(t, checkDeadLetters(snippet(t, good+"resource \"aws_sqs_queue\" \"x\" {\n"+kept+"}")), "aws_sqs_queue.x has no dead-letter queue")
	want(t, checkDeadLetters(snippet(t, good+"resource \"aws_sqs_queue\" \"undelivered\" {\n"+kept+"}")), "is nobody's dead-letter queue")
	want(t, checkDeadLetters(snippet(t, good+`resource "aws_sns_topic_subscription" "x" {}`)), "aws_sns_topic_subscription.x has no")
	want(t, checkDeadLetters(snippet(t, good+`resource "aws_lambda_function_event_invoke_config" "x" {}`)), "aws_lambda_function_event_invoke_config.x has no")
	want(t, checkDeadLetters(snippet(t, good+`resource "aws_lambda_event_source_mapping" "x" {}`)), "fails a whole batch")
	want(t, checkDeadLetters(snippet(t, strings.Replace(good, kept, "", 1))), "14 days")
}

func TestVisibilityIsSixTimesTheTimeoutAndWaitsForTheWindow(t *testing.T) {
	t.Parallel()
	c := readConfiguration(t, moduleDir)
	for _, tt := range []struct{ timeout, window, want int64 }{{40, 0, 240}, {60, 1, 361}, {900, 300, 5700}} {
		got, err := evaluate(attribute(c.find("aws_sqs_queue.jobs").Body, "visibility_timeout_seconds"), map[string]cty.Value{
			"var": cty.ObjectVal(map[string]cty.Value{
				"worker_timeout": cty.NumberIntVal(tt.timeout), "worker_batching_window": cty.NumberIntVal(tt.window),
			}),
		})
		if err != nil || !got.RawEquals(cty.NumberIntVal(tt.want)) {
			t.Errorf("timeout %d, window %d: visibility %#v, %v, want %d", tt.timeout, tt.window, got, err, tt.want)
		}
	}
}

func TestRedeploymentHashNamesEverythingOfTheAPI(t *testing.T) {
	t.Parallel()
	want(t, checkRedeployment(readConfiguration(t, moduleDir)))
}

// deployed are the resources that a deployment is a snapshot of.
var deployed = []string{
	"aws_api_gateway_authorizer", "aws_api_gateway_gateway_response", "aws_api_gateway_integration", "aws_api_gateway_integration_response",
	"aws_api_gateway_method", "aws_api_gateway_method_response", "aws_api_gateway_resource",
}

// deployedToo are attributes of the API itself that come into effect with a deployment alone
// (https://docs.aws.amazon.com/apigateway/latest/developerguide/rest-api-disable-default-endpoint.html).
var deployedToo = []string{"disable_execute_api_endpoint"}

// notDeployed are locals that the resources of the API use and the hash need not name, by why.
var notDeployed = map[string]string{
	"local.nodes":        "follows from the routes",
	"local.resource_ids": "follows from the resources",
}

func checkRedeployment(c *configuration) (found []string) {
	b := c.find("aws_api_gateway_deployment.jobs")
	if b == nil {
		return []string{"there is no deployment"}
	}
	hash := attribute(b.Body, "triggers")
	if hash == nil {
		return []string{violation(b, "the deployment has no triggers")}
	}
	named := references(hash)
	for _, kind := range deployed {
		for _, r := range c.each("resource", kind) {
			if !named[addressOf(r)] {
				found = append(found, violation(r, "the redeployment hash does not name %s: a change of it would not go live", addressOf(r)))
			}
			for address := range references(r.Body) {
				if strings.HasPrefix(address, "local.") && notDeployed[address] == "" && !named[address] {
					found = append(found, violation(r, "the redeployment hash does not name %s, which %s uses", address, addressOf(r)))
				}
				if strings.HasPrefix(address, "var.") {
					found = append(found, violation(r, "%s uses %s past the locals that the redeployment hash names", addressOf(r), address))
				}
			}
		}
	}
	for _, api := range c.each("resource", "aws_api_gateway_rest_api") {
		for _, of := range deployedToo {
			if attribute(api.Body, of) != nil && !strings.Contains(c.text(hash), addressOf(api)+"."+of) {
				found = append(found, violation(api, "the redeployment hash does not name %s.%s: a change of it would not go live", addressOf(api), of))
			}
		}
	}
	_ = hclsyntax.VisitAll(hash, func(n hclsyntax.Node) hcl.Diagnostics {
		if each, ok := n.(*hclsyntax.ForExpr); ok && hcl.ExprAsKeyword(each.ValExpr) != "" {
			found = append(found, violation(n, "the redeployment hash takes whole resources: attributes that are not set change at the first refresh"))
		}
		return nil
	})
	stable := false
	for _, l := range nested(b.Body, "lifecycle") {
		if e := attribute(l.Body, "create_before_destroy"); e != nil {
			stable = c.text(e) == "true"
		}
	}
	if !stable {
		found = append(found, violation(b, "the deployment is not created before the last one is destroyed"))
	}
	return found
}

func TestRedeploymentHashNamesEverythingOfTheAPIRefuses(t *testing.T) {
	t.Parallel()
	const good = `resource "aws_api_gateway_method" "route" {
  for_each = local.routes
}
resource "aws_api_gateway_deployment" "jobs" {
  triggers = { hash = sha1(jsonencode([local.routes, { for k, m in aws_api_gateway_method.route : k => m.id }])) }
  lifecycle {
    create_before_destroy = true
  }
}
`
	want(t, checkRedeployment(snippet(t, good)))
	for _, kind := range deployed {
		want(t, checkRedeployment(snippet(t, good+`resource "`+kind+`" "x" {}`)), "does not name "+kind+".x")
	}
	const api = `resource "aws_api_gateway_rest_api" "jobs" {
  disable_execute_api_endpoint = true
}
`
	const shut = "aws_api_gateway_rest_api.jobs.disable_execute_api_endpoint"
	want(t, checkRedeployment(snippet(t, good+api)), "does not name "+shut)
	want(t, checkRedeployment(snippet(t, strings.Replace(good, "[local.routes, ", "[local.routes, "+shut+", ", 1)+api)))
	want(t, checkRedeployment(snippet(t, strings.Replace(good, "[local.routes, ", "[", 1))), "does not name local.routes")
	want(t, checkRedeployment(snippet(t, strings.Replace(good, "for_each = local.routes", "for_each = var.routes", 1))), "uses var.routes past")
	want(t, checkRedeployment(snippet(t, strings.Replace(good, "m.id", "m", 1))), "whole resources")
	want(t, checkRedeployment(snippet(t, strings.Replace(good, "= true", "= false", 1))), "not created before")
	want(t, checkRedeployment(snippet(t, "")), "no deployment")
}

func TestWhatLosesOrDelaysJobsHasAnAlarm(t *testing.T) {
	t.Parallel()
	want(t, checkAlarms(readConfiguration(t, moduleDir)))
}

// watched are the metrics that an alarm looks at. The authorizer's faults are counted in the access log.
var watched = []string{
	"AWS/ApiGateway 5XXError", "AWS/Events Invocations", "AWS/Lambda AsyncEventsDropped", "AWS/Lambda DestinationDeliveryFailures", "AWS/Lambda Duration",
	"AWS/Lambda Errors", "AWS/Lambda Throttles", "AWS/SNS NumberOfNotificationsFailed", "AWS/SNS NumberOfNotificationsFailedToRedriveToDlq",
	"AWS/SQS ApproximateAgeOfOldestMessage", "AWS/SQS ApproximateNumberOfMessagesVisible",
}

func checkAlarms(c *configuration) (found []string) {
	rows := map[string]bool{}
	if alarms := c.locals()["alarms"]; alarms != nil {
		_ = hclsyntax.VisitAll(alarms, func(n hclsyntax.Node) hcl.Diagnostics {
			row, ok := n.(*hclsyntax.ObjectConsExpr)
			if !ok {
				return nil
			}
			of := map[string]string{}
			for _, item := range row.Items {
				if value, err := literal(item.ValueExpr); err == nil {
					of[hcl.ExprAsKeyword(item.KeyExpr)] = value
				}
			}
			rows[of["namespace"]+" "+of["metric"]] = true
			return nil
		})
	}
	for _, metric := range watched {
		if !rows[metric] {
			found = append(found, "no alarm looks at "+metric)
		}
	}
	return found
}

func TestWhatLosesOrDelaysJobsHasAnAlarmRefuses(t *testing.T) {
	t.Parallel()
	text := string(readFile(t, moduleDir, "alarms.tf"))
	for _, metric := range watched {
		_, name, _ := strings.Cut(metric, " ")
		want(t, checkAlarms(snippet(t, strings.ReplaceAll(text, `"`+name+`"`, `"Other"`))), "no alarm looks at "+metric)
	}
}

func TestFunctionsRunAndLogAsTheyShould(t *testing.T) {
	t.Parallel()
	want(t, checkFunctions(readConfiguration(t, moduleDir)))
}

func checkFunctions(c *configuration) (found []string) {
	for _, b := range c.each("resource", "aws_cloudwatch_log_group") {
		if attribute(b.Body, "retention_in_days") == nil {
			found = append(found, violation(b, "%s keeps its logs for ever", addressOf(b)))
		}
	}
	for _, b := range c.each("resource", "aws_lambda_function") {
		after := attribute(b.Body, "depends_on")
		if after == nil || !references(after)["aws_cloudwatch_log_group.function"] {
			found = append(found, violation(b, "%s may be called before its log group is there", addressOf(b)))
		}
		if attribute(b.Body, "source_code_hash") == nil {
			found = append(found, violation(b, "%s does not notice a new package", addressOf(b)))
		}
		for name, value := range map[string]string{"runtime": "provided.al2023", "handler": "bootstrap"} {
			if got, err := literal(attribute(b.Body, name)); err != nil || got != value {
				found = append(found, violation(b, "%s is not built for its %s %q", addressOf(b), name, got))
			}
		}
	}
	return found
}

func TestFunctionsRunAndLogAsTheyShouldRefuses(t *testing.T) {
	t.Parallel()
	want(t, checkFunctions(snippet(t, `resource "aws_cloudwatch_log_group" "x" {}`)), "for ever")
	want(t, checkFunctions(snippet(t, `resource "aws_lambda_function" "x" { runtime = "go1.x" }`)), "before its log group", "new package", `runtime "go1.x"`, `handler ""`)
}

func TestExamplesCallTheModuleAsItIs(t *testing.T) {
	t.Parallel()
	for _, dir := range examples(t) {
		want(t, checkCalls(readConfiguration(t, dir), readConfiguration(t, moduleDir)))
	}
}

// checkCalls holds a caller against the module's variables and outputs.
func checkCalls(c, callee *configuration) (found []string) {
	calls := c.each("module", "")
	if len(calls) != 1 {
		return []string{"an example calls the module once"}
	}
	call := calls[0]
	if source, err := literal(attribute(call.Body, "source")); err != nil || source != "../.." {
		found = append(found, violation(call, "the module is at ../.."))
	}
	for name, a := range call.Body.Attributes {
		if name != "source" && callee.find("variable."+name) == nil {
			found = append(found, violation(a, "the module has no variable %s", name))
		}
	}
	for _, v := range callee.each("variable", "") {
		if attribute(v.Body, "default") == nil && attribute(call.Body, v.Labels[0]) == nil {
			found = append(found, violation(call, "the module needs %s", v.Labels[0]))
		}
	}
	for _, b := range c.blocks {
		_ = hclsyntax.VisitAll(b.Body, func(n hclsyntax.Node) hcl.Diagnostics {
			if scope, ok := n.(*hclsyntax.ScopeTraversalExpr); ok && scope.Traversal.RootName() == "module" && len(scope.Traversal) > 2 {
				if attr, ok := scope.Traversal[2].(hcl.TraverseAttr); ok && callee.find("output."+attr.Name) == nil {
					found = append(found, violation(n, "the module has no output %s", attr.Name))
				}
			}
			return nil
		})
	}
	return found
}

func TestExamplesCallTheModuleAsItIsRefuses(t *testing.T) {
	t.Parallel()
	callee := snippet(t, "variable \"a\" {}\noutput \"b\" { value = 1 }")
	want(t, checkCalls(snippet(t, "module \"x\" {\nsource = \"../..\"\na = 1\n}\noutput \"b\" { value = module.x.b }"), callee))
	want(t, checkCalls(snippet(t, "module \"x\" {\nsource = \"../..\"\na = 1\nc = 2\n}"), callee), "no variable c")
	want(t, checkCalls(snippet(t, "module \"x\" {\nsource = \"../..\"\n}"), callee), "needs a")
	want(t, checkCalls(snippet(t, "module \"x\" {\nsource = \"..\"\na = 1\n}"), callee), "is at ../..")
	want(t, checkCalls(snippet(t, "module \"x\" {\nsource = \"../..\"\na = 1\n}\noutput \"c\" { value = module.x.c }"), callee), "no output c")
	want(t, checkCalls(snippet(t, ""), callee), "once")
}
