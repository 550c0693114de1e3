package deployments_test

import (
	"archive/zip"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jobgate/jobgate/adapters/adaptertest"
)

// What follows needs the provider: terraform init has to succeed, from the registry, a mirror or a plugin cache. It is
// asked for, since the provider is 600 MB to download.
var withProvider = flag.Bool("provider", false, "run what needs the AWS provider of Terraform; make terraform-moto does")

// needProvider skips the test where the provider is not asked for, or cannot be had.
func needProvider(t *testing.T, dir string) {
	t.Helper()
	if !*withProvider {
		t.Skip("needs the AWS provider of Terraform: make terraform-moto")
	}
	needTerraform(t)
	if _, err := terraform(t, dir, "init", "-no-color"); err != nil {
		why := fmt.Sprintf("terraform init cannot get the AWS provider here: give it a network, or a mirror "+
			"(https://developer.hashicorp.com/terraform/cli/config/config-file#provider-installation)\n%.300s", err)
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip("SKIPPED: " + why)
	}
}

// copyOfModule is the module in a folder of its own, where init may write, with packages where the examples look for them.
func copyOfModule(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	for name, content := range packages(t) {
		write(t, filepath.Join(top, "dist", name), content)
	}
	dir := filepath.Join(top, "deployments", moduleDir)
	if err := os.CopyFS(dir, os.DirFS(moduleDir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTerraformValidatesModuleAndExamples(t *testing.T) {
	t.Parallel()
	module := copyOfModule(t)
	dirs := []string{module}
	for _, example := range examples(t) {
		dirs = append(dirs, filepath.Join(module, "examples", filepath.Base(example)))
	}
	for _, dir := range dirs {
		needProvider(t, dir)
		if _, err := terraform(t, dir, "validate", "-no-color"); err != nil {
			t.Error(err)
		}
	}
}

func TestTerraformTests(t *testing.T) {
	t.Parallel()
	dir := copyOfModule(t)
	needProvider(t, dir)
	for name, content := range packages(t) {
		write(t, filepath.Join(dir, "tests", "packages", name), content)
	}
	out, err := terraform(t, dir, "test", "-no-color")
	if err != nil || !strings.Contains(out, "0 failed.") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The module is applied to moto through endpoints that are its caller's to set.
func TestApplyAgainstMoto(t *testing.T) {
	t.Parallel()
	module := copyOfModule(t)
	needProvider(t, module)
	for name, settings := range map[string]string{
		"to a queue": `worker_delivery = "sqs"
  cors_origins    = ["https://app.example.com"]
  retry_policies  = [{ jobs = "report.*", timeout = "45s" }]
  create_kms_key  = true`,
		"to the worker": `worker_delivery = "sns"
  authorizer_type = "REQUEST"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, content := range packages(t) {
				write(t, filepath.Join(dir, "packages", name), content)
			}
			write(t, filepath.Join(dir, "main.tf"), []byte(fmt.Sprintf(root, provider(adaptertest.Moto(t)), module, settings)))
			for _, step := range [][]string{
				{"init"}, {"plan", "-out=first"}, {"apply", "first"},
				{"plan", "-detailed-exitcode"}, // exits with 2 when there is anything to change
				{"destroy", "-auto-approve"},
			} {
				if out, err := terraform(t, dir, append(step, "-no-color")...); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
		})
	}
}

// root is the caller of the module.
const root = `terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

%s

module "jobgate" {
  source = %q

  packages_dir        = "${path.root}/packages"
  oidc_issuer         = "https://id.example.com/"
  oidc_audience       = ["jobgate"]
  deletion_protection = false
  %s
}
`

// provider is the configuration of one that talks to moto.
func provider(endpoint string) string {
	var endpoints strings.Builder
	for _, service := range []string{"apigateway", "cloudwatch", "dynamodb", "events", "iam", "kms", "lambda", "logs", "sns", "sqs", "ssm", "sts"} {
		fmt.Fprintf(&endpoints, "    %s = %q\n", service, endpoint)
	}
	return fmt.Sprintf(`provider "aws" {
  region                      = "us-east-1"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true

  endpoints {
%s  }
}`, &endpoints)
}

// packages are zips that nothing runs.
func packages(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, name := range []string{"auth", "jobs", "worker"} {
		var text strings.Builder
		archive := zip.NewWriter(&text)
		w, err := archive.Create("bootstrap")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(name)); err != nil {
			t.Fatal(err)
		}
		if err := archive.Close(); err != nil {
			t.Fatal(err)
		}
		all[name+".zip"] = []byte(text.String())
	}
	return all
}
