package apigateway_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jobgate/jobgate/adapters/apigateway"
)

func TestParseMethodARNTakesTheDeploymentFromEveryPartition(t *testing.T) {
	t.Parallel()
	want := apigateway.Deployment{Partition: "aws", Region: "eu-central-1", Account: "123456789012", API: "abcdef123", Stage: "prod"}
	for arn, change := range map[string]func(*apigateway.Deployment){
		"arn:aws:execute-api:eu-central-1:123456789012:abcdef123/prod/GET/jobs":         func(*apigateway.Deployment) {},
		"arn:aws:execute-api:eu-central-1:123456789012:abcdef123/prod/GET/":             func(*apigateway.Deployment) {},
		"arn:aws:execute-api:eu-central-1:123456789012:abcdef123/prod/GET":              func(*apigateway.Deployment) {},
		"arn:aws:execute-api:eu-central-1:123456789012:abcdef123/prod/GET/jobs/*:?/${x": func(*apigateway.Deployment) {},
		"arn:aws-cn:execute-api:cn-north-1:123456789012:abcdef123/prod/POST/jobs": func(d *apigateway.Deployment) {
			d.Partition, d.Region = "aws-cn", "cn-north-1"
		},
		"arn:aws-us-gov:execute-api:us-gov-west-1:123456789012:abcdef123/v1_2-x/POST/jobs": func(d *apigateway.Deployment) {
			d.Partition, d.Region, d.Stage = "aws-us-gov", "us-gov-west-1", "v1_2-x"
		},
		"arn:aws:execute-api:eu-central-1:123456789012:abcdef123/$default/GET/jobs": func(d *apigateway.Deployment) { d.Stage = "$default" },
	} {
		expected := want
		change(&expected)
		got, err := apigateway.ParseMethodARN(arn)
		if err != nil || got != expected {
			t.Errorf("%s: got %+v, %v, want %+v", arn, got, err, expected)
		}
	}
}

// Each of these would put a wildcard, a separator or something of another's into a policy if it were taken.
func TestParseMethodARNRefusesWhatAWSWouldNotSend(t *testing.T) {
	t.Parallel()
	const good = "arn:aws:execute-api:eu-central-1:123456789012:abcdef123/prod/GET/jobs"
	for name, arn := range map[string]string{
		"empty":                 "",
		"no ARN":                "prod/GET/jobs",
		"another service":       strings.Replace(good, "execute-api", "s3", 1),
		"wildcard partition":    strings.Replace(good, "arn:aws:", "arn:*:", 1),
		"foreign partition":     strings.Replace(good, "arn:aws:", "arn:gcp:", 1),
		"wildcard region":       strings.Replace(good, "eu-central-1", "*", 1),
		"empty region":          strings.Replace(good, "eu-central-1", "", 1),
		"wildcard account":      strings.Replace(good, "123456789012", "*", 1),
		"short account":         strings.Replace(good, "123456789012", "123", 1),
		"wildcard API":          strings.Replace(good, "abcdef123", "*", 1),
		"single-character API":  strings.Replace(good, "abcdef123", "abc?", 1),
		"wildcard stage":        strings.Replace(good, "/prod/", "/*/", 1),
		"empty stage":           strings.Replace(good, "/prod/", "//", 1),
		"policy variable stage": strings.Replace(good, "/prod/", "/${aws:x}/", 1),
		"long stage":            strings.Replace(good, "prod", strings.Repeat("s", 129), 1),
		"wildcard method":       strings.Replace(good, "GET", "*", 1),
		"lower-case method":     strings.Replace(good, "GET", "get", 1),
		"no method":             "arn:aws:execute-api:eu-central-1:123456789012:abcdef123/prod",
		"line break before":     "\n" + good,
		"over 1,600 bytes":      good + strings.Repeat("x", 1600),
	} {
		if got, err := apigateway.ParseMethodARN(arn); err == nil {
			t.Errorf("%s: %q was taken as %+v", name, arn, got)
		}
	}
}

// methodARN is the grammar that ParseMethodARN reads by hand.
var methodARN = regexp.MustCompile(`^arn:(aws(?:-[a-z]{1,8}){0,3}):execute-api:([a-z]{2}[a-z0-9-]{1,30}):([0-9]{12}):` +
	`([a-z0-9]{1,64})/(\$default|[A-Za-z0-9_-]{1,128})/[A-Z]{1,16}(?:/|$)`)

func FuzzParseMethodARN(f *testing.F) {
	f.Add("arn:aws:execute-api:eu-central-1:123456789012:abcdef123/prod/GET/jobs")
	f.Add("arn:aws-us-gov:execute-api:us-gov-west-1:123456789012:abcdef123/$default/POST/a:b/*")
	f.Fuzz(func(t *testing.T, arn string) {
		d, err := apigateway.ParseMethodARN(arn)
		if (err == nil) != (len(arn) <= 1600 && methodARN.MatchString(arn)) {
			t.Fatalf("%q: %v, which is not what the grammar says", arn, err)
		}
		if err != nil {
			return
		}
		if got := []string{arn, d.Partition, d.Region, d.Account, d.API, d.Stage}; !slices.Equal(got[1:], methodARN.FindStringSubmatch(arn)[1:]) {
			t.Errorf("%q gave %q", arn, got)
		}
		parts := d.Partition + d.Region + d.Account + d.API + d.Stage
		if strings.ContainsAny(parts, "*?/:{} \n") {
			t.Errorf("%q gave %+v", arn, d)
		}
		if prefix := "arn:" + d.Partition + ":execute-api:" + d.Region + ":" + d.Account + ":" + d.API + "/" + d.Stage + "/"; !strings.HasPrefix(arn, prefix) {
			t.Errorf("%q does not begin with %q", arn, prefix)
		}
	})
}
