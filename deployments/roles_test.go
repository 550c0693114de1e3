package deployments_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/jobgate/jobgate/adapters/dynamodb"
)

func TestPermissionsHaveNoWildcardButTheReviewedOnes(t *testing.T) {
	t.Parallel()
	want(t, checkWildcards(readConfiguration(t, moduleDir), reviewed))
}

// reviewed are the wildcards that there are, by the statement and what is written there; with the reason.
var reviewed = map[string]string{
	"data.aws_iam_policy_document.function Logs resources :*":       "the streams of one log group",
	"data.aws_iam_policy_document.function Traces resources *":      "X-Ray has no ARN for a segment",
	"local.secret_arns -??????":                                     "what Secrets Manager ends an ARN with",
	"data.aws_iam_policy_document.key Account actions kms:*":        "the account's administrators, as in AWS's own key policy",
	"data.aws_iam_policy_document.key Account resources *":          "in a key policy, this key",
	"data.aws_iam_policy_document.key FromTheTopic resources *":     "in a key policy, this key",
	"aws_lambda_permission.route source_arn *":                      "stands for a path parameter",
	"aws_iam_role_policy_attachment.api_gateway policy_arn managed": "API Gateway's role for its logs is AWS's own policy",
}

var wild = regexp.MustCompile(`[*?]`)

// checkWildcards looks for * and ? in whatever grants something, and for what grants without saying to whom.
func checkWildcards(c *configuration, reviewed map[string]string) (found []string) {
	seen := map[string]bool{}
	look := func(where string, e hclsyntax.Expression) {
		if e == nil {
			return
		}
		for _, text := range literals(e) {
			if !wild.MatchString(text) {
				continue
			}
			key := where + " " + text
			seen[key] = true
			if reviewed[key] == "" {
				found = append(found, violation(e, "%s has the wildcard %q, which nobody has reviewed", where, text))
			}
		}
	}
	for _, b := range c.each("data", "aws_iam_policy_document") {
		for _, s := range nested(b.Body, "statement") {
			sid, err := literal(attribute(s.Body, "sid"))
			if err != nil {
				found = append(found, violation(s, "%s: a sid is a constant", addressOf(b)))
			}
			where := addressOf(b) + " " + sid
			for _, name := range []string{"actions", "resources"} {
				look(where+" "+name, attribute(s.Body, name))
			}
			for _, p := range nested(s.Body, "principals") {
				look(where+" principals", attribute(p.Body, "identifiers"))
			}
			for _, condition := range nested(s.Body, "condition") {
				look(where+" condition", attribute(condition.Body, "values"))
			}
			if of := nested(s.Body, "principals"); len(of) > 0 && len(nested(s.Body, "condition")) == 0 {
				service, typeErr := literal(attribute(of[0].Body, "type"))
				assumed := attribute(s.Body, "actions")
				if typeErr == nil && service == "Service" && (assumed == nil || !slices.Equal(literals(assumed), []string{"sts:AssumeRole"})) {
					found = append(found, violation(s, "%s lets a service in for anybody", where))
				}
			}
			for _, name := range []string{"not_actions", "not_resources"} {
				if attribute(s.Body, name) != nil {
					found = append(found, violation(s, "%s grants all but something", where))
				}
			}
			if len(nested(s.Body, "not_principals")) > 0 {
				found = append(found, violation(s, "%s grants to all but somebody", where))
			}
			if e := attribute(s.Body, "actions"); e != nil {
				for _, action := range literals(e) {
					if !regexp.MustCompile(`^[a-z0-9-]+:[A-Za-z*]+$`).MatchString(action) {
						found = append(found, violation(e, "%s: %q is no action", where, action))
					}
				}
			}
		}
	}
	for name, e := range c.locals() {
		if strings.HasSuffix(name, "_arns") || strings.HasSuffix(name, "_prefix") || strings.HasSuffix(name, "_actions") {
			look("local."+name, e)
		}
	}
	for _, b := range c.each("resource", "aws_lambda_permission") {
		e := attribute(b.Body, "source_arn")
		if e == nil {
			found = append(found, violation(b, "%s lets anybody's %s call", addressOf(b), "resource"))
			continue
		}
		look(addressOf(b)+" source_arn", e)
	}
	for _, b := range c.blocks {
		for _, name := range []string{"policy", "assume_role_policy"} {
			e := attribute(b.Body, name)
			if b.Type == "resource" && e != nil && !strings.Contains(c.text(e), "data.aws_iam_policy_document.") {
				found = append(found, violation(e, "%s: a policy is written as a policy document", addressOf(b)))
			}
		}
		if b.Type == "resource" && b.Labels[0] == "aws_iam_role_policy_attachment" {
			if key := addressOf(b) + " policy_arn managed"; reviewed[key] == "" {
				found = append(found, violation(b, "%s attaches a policy that nobody has reviewed", addressOf(b)))
			} else {
				seen[key] = true
			}
		}
	}
	for key, why := range reviewed {
		if why != "" && !seen[key] {
			found = append(found, "the reviewed wildcard is gone: "+key)
		}
	}
	return found
}

// literals are the constant parts of all strings of an expression.
func literals(e hclsyntax.Expression) (all []string) {
	_ = hclsyntax.VisitAll(e, func(n hclsyntax.Node) hcl.Diagnostics {
		if template, ok := n.(*hclsyntax.TemplateExpr); ok {
			for _, part := range template.Parts {
				if text, err := literal(part); err == nil && text != "" {
					all = append(all, text)
				}
			}
		}
		return nil
	})
	// What is looked for, and not written: the pattern of a replace.
	return slices.DeleteFunc(all, func(text string) bool { return strings.HasPrefix(text, "/{") })
}

func TestPermissionsHaveNoWildcardButTheReviewedOnesRefuses(t *testing.T) {
	t.Parallel()
	statement := func(body string) string {
		return "data \"aws_iam_policy_document\" \"x\" {\nstatement {\nsid = \"S\"\n" + body + "\n}\n}\n"
	}
	for name, tt := range map[string]struct{ text, word string }{
		"all of a service":         {statement(`actions = ["sqs:*"]`), `x S actions has the wildcard "sqs:*"`},
		"a family of actions":      {statement(`actions = ["kms:GenerateDataKey*"]`), "GenerateDataKey*"},
		"any resource":             {statement(`resources = ["*"]`), `x S resources has the wildcard "*"`},
		"any index":                {statement(`resources = ["${aws_dynamodb_table.jobs.arn}/index/*"]`), "/index/*"},
		"any character":            {statement(`resources = ["arn:aws:sns:eu-west-1:1:job?"]`), "job?"},
		"anybody":                  {statement("principals {\ntype = \"AWS\"\nidentifiers = [\"*\"]\n}"), "principals has the wildcard"},
		"any topic":                {statement("condition {\ntest = \"ArnLike\"\nvariable = \"aws:SourceArn\"\nvalues = [\"arn:aws:sns:*\"]\n}"), "condition has the wildcard"},
		"a service for anybody":    {statement("actions = [\"sqs:SendMessage\"]\nprincipals {\ntype = \"Service\"\nidentifiers = [\"sns.amazonaws.com\"]\n}"), "lets a service in for anybody"},
		"all but":                  {statement(`not_actions = ["iam:PassRole"]`), "grants all but something"},
		"all but somebody":         {statement("not_principals {\ntype = \"AWS\"\nidentifiers = [\"1\"]\n}"), "all but somebody"},
		"no action":                {statement(`actions = ["SendMessage"]`), "is no action"},
		"a dynamic statement":      {"data \"aws_iam_policy_document\" \"x\" {\ndynamic \"statement\" {\nfor_each = []\ncontent {\nresources = [\"*\"]\n}\n}\n}", "wildcard"},
		"a permission for anybody": {`resource "aws_lambda_permission" "x" {}`, "lets anybody's"},
		"a permission for any API": {`resource "aws_lambda_permission" "x" { source_arn = "${aws_api_gateway_rest_api.x.execution_arn}/*/*" }`, "wildcard"},
		"a policy in JSON":         {`resource "aws_iam_role_policy" "x" { policy = jsonencode({}) }`, "written as a policy document"},
		"a managed policy":         {`resource "aws_iam_role_policy_attachment" "x" {}`, "nobody has reviewed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want(t, checkWildcards(snippet(t, tt.text), nil), tt.word)
		})
	}
	want(t, checkWildcards(snippet(t, ""), map[string]string{"data.x S actions *": "why"}), "is gone")
}

// actions are those that a policy document allows on a service, by its statements' literals.
func actions(c *configuration, document, service string) []string {
	all := map[string]bool{}
	for _, s := range nested(c.find("data.aws_iam_policy_document."+document).Body, "statement") {
		for _, action := range literals(attribute(s.Body, "actions")) {
			if of, name, _ := strings.Cut(action, ":"); of == service {
				all[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// called are the methods of its SDK client that an adapter calls.
func called(t *testing.T, adapter string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "adapters", adapter, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", adapter, files, err)
	}
	all := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || filepath.Base(name) == "table.go" { // which is for tests and local tools
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			method, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if client, ok := method.X.(*ast.SelectorExpr); ok && client.Sel.Name == "client" && method.Sel.Name != "Do" { // Do is HTTP's
				all[method.Sel.Name] = true
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(all))
}

func TestRolesMayDoWhatTheAdaptersCall(t *testing.T) {
	t.Parallel()
	c := readConfiguration(t, moduleDir)
	wanted := map[string]bool{}
	for _, method := range called(t, "dynamodb") {
		if method == "TransactWriteItems" { // is allowed by the writes in it
			wanted["PutItem"], wanted["DeleteItem"] = true, true
			continue
		}
		wanted[method] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(wanted)), actions(c, "jobs", "dynamodb")); diff != "" {
		t.Errorf("the jobs function and the table (-adapter +role):\n%s", diff)
	}
	// The worker works on single jobs: it neither lists nor sweeps.
	if diff := cmp.Diff([]string{"DeleteItem", "GetItem", "PutItem"}, actions(c, "worker", "dynamodb")); diff != "" {
		t.Errorf("the worker and the table:\n%s", diff)
	}
	// Beside what the poller of the queue needs.
	polled := []string{"DeleteMessage", "GetQueueAttributes", "ReceiveMessage"}
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(called(t, "sqs"), polled...))), actions(c, "worker", "sqs")); diff != "" {
		t.Errorf("the worker and its queues (-adapter +role):\n%s", diff)
	}
	target := regexp.MustCompile(`"AmazonSSM\.(\w+)"`).FindStringSubmatch(string(readFile(t, "..", "adapters", "ssm", "ssm.go")))
	if len(target) != 2 || !slices.Equal(actions(c, "function", "ssm"), target[1:]) {
		t.Errorf("functions and parameters: the adapter calls %q, the roles may %q", target, actions(c, "function", "ssm"))
	}
	if diff := cmp.Diff(called(t, "sns"), actions(c, "jobs", "sns")); diff != "" {
		t.Errorf("the jobs function and the topic (-adapter +role):\n%s", diff)
	}
	// A worker that published would feed itself, which Lambda ends at about the sixteenth call; auth has what all have.
	for document, services := range map[string][]string{"worker": {"sns"}, "jobs": {"sqs"}, "function": {"dynamodb", "sns", "sqs"}} {
		for _, service := range services {
			if got := actions(c, document, service); len(got) > 0 {
				t.Errorf("%s may do %s of %s", document, got, service)
			}
		}
	}
}

// An index is a hash and a range key and what is projected beside them.
type index struct {
	Hash, Range, Projection string
	Projected               []string
}

func TestTableIsThatOfTheAdapter(t *testing.T) {
	t.Parallel()
	c := readConfiguration(t, moduleDir)
	table := c.find("aws_dynamodb_table.jobs").Body
	text := func(body *hclsyntax.Body, name string) string {
		v, err := literal(attribute(body, name))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	attributes, indexes := map[string]string{}, map[string]index{}
	for _, b := range nested(table, "attribute") {
		attributes[text(b.Body, "name")] = text(b.Body, "type")
	}
	for _, b := range nested(table, "global_secondary_index") {
		i := index{Hash: text(b.Body, "hash_key"), Range: text(b.Body, "range_key"), Projection: text(b.Body, "projection_type")}
		if e := attribute(b.Body, "non_key_attributes"); e != nil {
			i.Projected = slices.Sorted(slices.Values(literals(e)))
		}
		indexes[text(b.Body, "name")] = i
	}

	input := dynamodb.Table("x")
	wantedAttributes, wantedIndexes := map[string]string{}, map[string]index{}
	for _, a := range input.AttributeDefinitions {
		wantedAttributes[aws.ToString(a.AttributeName)] = string(a.AttributeType)
	}
	for _, i := range input.GlobalSecondaryIndexes {
		wantedIndexes[aws.ToString(i.IndexName)] = index{
			Hash: aws.ToString(i.KeySchema[0].AttributeName), Range: aws.ToString(i.KeySchema[1].AttributeName),
			Projection: string(i.Projection.ProjectionType), Projected: slices.Sorted(slices.Values(i.Projection.NonKeyAttributes)),
		}
	}
	if diff := cmp.Diff(wantedAttributes, attributes); diff != "" {
		t.Errorf("attributes (-adapter +module):\n%s", diff)
	}
	if diff := cmp.Diff(wantedIndexes, indexes); diff != "" {
		t.Errorf("indexes (-adapter +module):\n%s", diff)
	}
	if got, wanted := text(table, "billing_mode"), string(input.BillingMode); got != wanted {
		t.Errorf("billing mode %s, want %s", got, wanted)
	}
	if len(input.KeySchema) != 1 || text(table, "hash_key") != aws.ToString(input.KeySchema[0].AttributeName) || attribute(table, "range_key") != nil {
		t.Errorf("the key is not the adapter's %v", input.KeySchema)
	}
	ttl, recovery := nested(table, "ttl")[0].Body, nested(table, "point_in_time_recovery")[0].Body
	if text(ttl, "attribute_name") != dynamodb.TTLAttribute || c.text(attribute(ttl, "enabled")) != "true" {
		t.Error("Time to Live is not on the adapter's attribute")
	}
	if c.text(attribute(recovery, "enabled")) != "true" {
		t.Error("there is no point-in-time recovery")
	}
	// The role that may ask the indexes names them.
	var named []string
	for _, s := range nested(c.find("data.aws_iam_policy_document.jobs").Body, "statement") {
		if sid := text(s.Body, "sid"); sid == "Lists" {
			named = slices.DeleteFunc(literals(attribute(s.Body, "resources")), func(part string) bool { return part == "/index/" })
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(wantedIndexes)), slices.Sorted(slices.Values(named))); diff != "" {
		t.Errorf("indexes of the role (-adapter +module):\n%s", diff)
	}
}
