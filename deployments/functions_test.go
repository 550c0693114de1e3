package deployments_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/bootstrap/auth"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/jobs"
	"github.com/jobgate/jobgate/bootstrap/worker"
)

// programs are the functions, each with the door through which it checks its settings.
var programs = map[string]config.Program{
	"auth": auth.Run,
	"jobs": jobs.Run,
	"worker": func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
		return worker.Run(ctx, args, getenv, stdout, stderr, nil)
	},
}

// samples are values for what the settings files choose from, as functions.tf makes them.
var samples = map[string]string{
	"access_policy":         `{"rules":[{"effect":"allow","scopes":["jobs:submit"],"actions":["submit"]}]}`,
	"cors_origins":          "https://app.example.com",
	"dead_letter_queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/jobgate-dead-letters",
	"event_jobs":            `[{"job":"upload.scan","source":"aws:s3"}]`,
	"function_timeout":      "60s",
	"log_level":             "warn",
	"max_body":              "1000",
	"oidc_audience":         "jobgate,jobs",
	"oidc_client_ids":       "client",
	"oidc_issuer":           "https://id.example.com/",
	"queue_url":             "https://sqs.eu-west-1.amazonaws.com/123456789012/jobgate-jobs",
	"retry_policies":        `[{"attempts":3,"jobs":"report.*","timeout":"40s"}]`,
	"retention":             "168h",
	"retention_dead":        "720h",
	"table":                 "jobgate-jobs",
	"topic_arn":             "arn:aws:sns:eu-west-1:123456789012:jobgate-jobs",
	"webhook_allow_private": "true",
	"webhooks":              `[{"jobs":"*","secret":"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX","url":"http://hooks.example.com/"}]`,
}

// render fills in a settings file as Terraform's templatefile does, and decodes it strictly.
func render(t *testing.T, function string, values map[string]string) map[string]string {
	t.Helper()
	name := moduleDir + "/functions/" + function + ".json.tftpl"
	template, diags := hclsyntax.ParseTemplate(readFile(t, name), name, hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	variables := map[string]cty.Value{}
	for key, value := range values {
		variables[key] = cty.StringVal(value)
	}
	text, err := evaluate(template, variables)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	if err := strictjson.Decode([]byte(text.AsString()), &settings); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text.AsString())
	}
	return settings
}

// check has a function check its settings, and returns the names that it has asked for.
func check(t *testing.T, function string, settings map[string]string) (asked map[string]bool, err error) {
	t.Helper()
	asked = map[string]bool{}
	var out bytes.Buffer
	err = programs[function](t.Context(), []string{"-check-config"}, func(name string) string {
		asked[name] = true
		return settings[name]
	}, &out, &out)
	return asked, err
}

func TestEachFunctionReadsTheSettingsThatTheModuleGivesIt(t *testing.T) {
	t.Parallel()
	for function := range programs {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			settings := render(t, function, samples)
			asked, err := check(t, function, settings)
			if err != nil {
				t.Errorf("%v", err)
			}
			for name := range settings {
				if !asked[name] {
					t.Errorf("%s is read by nobody", name)
				}
				if settings[name] == "" {
					t.Errorf("%s is empty: nothing is tested of it", name)
				}
			}
		})
	}
}

func TestEachFunctionTakesTheModulesDefaults(t *testing.T) {
	t.Parallel()
	for function := range programs {
		values := maps.Clone(samples)
		for _, name := range []string{"access_policy", "cors_origins", "event_jobs", "oidc_client_ids", "queue_url", "retry_policies", "webhooks"} {
			values[name] = ""
		}
		values["webhook_allow_private"], values["max_body"], values["log_level"] = "false", "245760", "info"
		if _, err := check(t, function, render(t, function, values)); err != nil {
			t.Errorf("%s: %v", function, err)
		}
	}
}

func TestEachFunctionTakesParameters(t *testing.T) {
	t.Parallel()
	for function := range programs {
		values := maps.Clone(samples)
		for _, name := range []string{"access_policy", "webhooks"} {
			values[name] = "ssm:/jobgate/" + name + ":3"
		}
		if _, err := check(t, function, render(t, function, values)); err != nil {
			t.Errorf("%s: %v", function, err)
		}
	}
}

// A function whose settings are wrong in what the module passes on says so: the check above can fail.
func TestEachFunctionRefusesWrongSettings(t *testing.T) {
	t.Parallel()
	for function, wrong := range map[string][]string{
		"auth": {"oidc_issuer", "access_policy", "log_level"}, "jobs": {"topic_arn", "access_policy", "retry_policies", "retention", "retention_dead", "cors_origins", "max_body", "log_level"},
		"worker": {
			"access_policy", "dead_letter_queue_url", "event_jobs", "function_timeout", "log_level", "queue_url", "retention", "retention_dead", "retry_policies",
			"webhook_allow_private", "webhooks",
		},
	} {
		for _, name := range wrong {
			values := maps.Clone(samples)
			values[name] = "{"
			if _, err := check(t, function, render(t, function, values)); err == nil {
				t.Errorf("%s takes a wrong %s", function, name)
			}
		}
	}
}

func TestSettingsFilesChooseFromWhatTheModuleHas(t *testing.T) {
	t.Parallel()
	c := readConfiguration(t, moduleDir)
	object, ok := c.locals()["settings"].(*hclsyntax.ObjectConsExpr)
	if !ok {
		t.Fatal("local.settings is no object")
	}
	var has []string
	for _, item := range object.Items {
		has = append(has, hcl.ExprAsKeyword(item.KeyExpr))
	}
	slices.Sort(has)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(samples)), has); diff != "" {
		t.Errorf("local.settings (-samples +module):\n%s", diff)
	}
	used := map[string]bool{}
	for function := range programs {
		name := moduleDir + "/functions/" + function + ".json.tftpl"
		template, diags := hclsyntax.ParseTemplate(readFile(t, name), name, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		for _, traversal := range template.Variables() {
			used[traversal.RootName()] = true
		}
	}
	if diff := cmp.Diff(has, slices.Sorted(maps.Keys(used))); diff != "" {
		t.Errorf("what the files use (-module +files):\n%s", diff)
	}
}

// oidc_settings takes whatever of the token settings has no variable of its own, or no place on Lambda.
func TestOIDCSettingsAreThoseOfTheProgram(t *testing.T) {
	t.Parallel()
	elsewhere := []string{"OIDC_AUDIENCE", "OIDC_CLIENT_IDS", "OIDC_ISSUER", "OIDC_JWKS_FILE", "OIDC_PROVIDERS"}
	parsed, err := parser.ParseFile(token.NewFileSet(), "../bootstrap/config/tokens/tokens.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]bool{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if name, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(name, "OIDC_") && !slices.Contains(elsewhere, name) {
				wanted[name] = true
			}
		}
		return true
	})
	c := readConfiguration(t, moduleDir)
	validation := nested(c.find("variable.oidc_settings").Body, "validation")[0]
	got := map[string]bool{}
	_ = hclsyntax.VisitAll(attribute(validation.Body, "condition"), func(n hclsyntax.Node) hcl.Diagnostics {
		if e, ok := n.(*hclsyntax.TemplateExpr); ok {
			if name, err := literal(e); err == nil {
				got[name] = true
			}
		}
		return nil
	})
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("oidc_settings (-program +module):\n%s", diff)
	}
}
