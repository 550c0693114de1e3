package localgateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/localgateway"
)

const invokeAction = "execute-api:Invoke"

func parse(t testing.TB, document string) localgateway.Policy {
	t.Helper()
	p, err := localgateway.ParsePolicy([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func allow(resource string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"execute-api:Invoke","Resource":"` + resource + `"}]}`
}

// The examples are those of AWS's documentation: what they match is said there in words.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	const (
		// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-iam-policy-examples-for-api-execution.html
		anyPostBelow = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["execute-api:Invoke"],
			"Resource":["arn:aws:execute-api:us-east-1:*:a123456789/test/POST/my-demo-resource-path/*"]}]}`
		anyMethodOfPets = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["execute-api:Invoke"],
			"Resource":["arn:aws:execute-api:*:*:a123456789/*/*/petstorewalkthrough/pets"]}]}`
		// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-control-access-using-iam-policies-to-invoke-api.html
		listNotCreate = `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":["execute-api:Invoke"],"Resource":["arn:aws:execute-api:us-east-1:111111111111:api-id/*/GET/pets"]},
			{"Effect":"Deny","Action":["execute-api:Invoke"],"Resource":["arn:aws:execute-api:us-east-1:111111111111:api-id/*/POST/pets"]}]}`
		// The next five are the resource expressions of the same page's "Resource format".
		anyPathInStage = "arn:aws:execute-api:us-east-1:111111111111:api-id/test/*"
		anyStage       = "arn:aws:execute-api:us-east-1:111111111111:api-id/*"
		anyAPI         = "arn:aws:execute-api:*:*:*"
		inRegion       = "arn:aws:execute-api:us-east-1:*:*"
		verbInStage    = "arn:aws:execute-api:us-east-1:111111111111:api-id/test/GET/*"

		pets  = "arn:aws:execute-api:eu-west-1:222222222222:a123456789/prod/GET/petstorewalkthrough/pets"
		demo  = "arn:aws:execute-api:us-east-1:111111111111:a123456789/test/POST/my-demo-resource-path/"
		stage = "arn:aws:execute-api:us-east-1:111111111111:api-id/test/"
		other = "arn:aws:execute-api:us-east-1:111111111111:api-id/prod/"
	)
	for _, tt := range []struct {
		name, document, resource string
		want                     bool
	}{
		{"any POST below", anyPostBelow, demo + "x", true},
		{"and further below", anyPostBelow, demo + "x/y/z", true},
		{"not the resource itself", anyPostBelow, strings.TrimSuffix(demo, "/"), false},
		{"not GET", anyPostBelow, strings.Replace(demo, "POST", "GET", 1) + "x", false},
		{"not another stage", anyPostBelow, strings.Replace(demo, "/test/", "/prod/", 1) + "x", false},
		{"any stage, region and account", anyMethodOfPets, pets, true},
		{"not below the resource", anyMethodOfPets, pets + "/1", false},
		{"not another API", anyMethodOfPets, strings.Replace(pets, "a123456789", "b123456789", 1), false},
		{"list", listNotCreate, stage + "GET/pets", true},
		{"not create", listNotCreate, stage + "POST/pets", false},
		{"nothing else", listNotCreate, stage + "PUT/pets", false},
		{"any path in the stage", allow(anyPathInStage), stage + "DELETE/a/b", true},
		{"no other stage", allow(anyPathInStage), other + "GET/a", false},
		{"any stage", allow(anyStage), other + "GET/a", true},
		{"any API in any region", allow(anyAPI), pets, true},
		{"no other partition", allow(anyAPI), strings.Replace(pets, "aws", "aws-cn", 1), false},
		{"any API in the region", allow(inRegion), other + "GET/a", true},
		{"no other region", allow(inRegion), pets, false},
		{"GET in the stage", allow(verbInStage), stage + "GET/a/b", true},
		{"no POST in the stage", allow(verbInStage), stage + "POST/a/b", false},
	} {
		if got := parse(t, tt.document).Allows(invokeAction, tt.resource); got != tt.want {
			t.Errorf("%s: got %t for %s", tt.name, got, tt.resource)
		}
	}
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html lists which objects the
// pattern below reaches and which it does not.
func TestTheAsteriskExpandsOverSlashesAsDocumented(t *testing.T) {
	t.Parallel()
	p := parse(t, allow("arn:aws:s3:::amzn-s3-demo-bucket/*/test/*"))
	for object, want := range map[string]bool{
		"/1/test/object.jpg":       true,
		"/1/2/test/object.jpg":     true,
		"/1/2/test/3/object.jpg":   true,
		"/1/2/3/test/4/object.jpg": true,
		"/1///test///object.jpg":   true,
		"/1/test/.jpg":             true,
		"//test/object.jpg":        true,
		"/1/test/":                 true,
		"/1-test/object.jpg":       false,
		"/test/object.jpg":         false,
		"/1/2/test.jpg":            false,
	} {
		if got := p.Allows(invokeAction, "arn:aws:s3:::amzn-s3-demo-bucket"+object); got != want {
			t.Errorf("%s: got %t", object, got)
		}
	}
}

func TestWildcardsAndCase(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, resource string
		want              bool
	}{
		{"a", "a", true},
		{"a", "A", false},
		{"A", "a", false},
		{"a?c", "abc", true},
		{"a?c", "a/c", true},
		{"a?c", "aüc", true},
		{"a?c", "ac", false},
		{"a?c", "abbc", false},
		{"a*", "a", true},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"*a*b*", "xxayybzz", true},
		{"*a*b*", "xxbyyazz", false},
		{"a*b", "a*b", true},
		{"ab", "a*b", false}, // a wildcard in the resource is a character
		{"ab", "?b", false},
		{"GET/jobs/*", "GET/jobs/x/progress", true},
		{"POST/jobs/*", "POST/jobs/x/redrive", true},
		{"*/jobs", "GET/jobs/x/jobs", true},
		{"arn:*:x", "arn:a:b:x", true},
		{"**", "abc", true},
		{"?*", "", false},
	} {
		if got := parse(t, allow(tt.pattern)).Allows(invokeAction, tt.resource); got != tt.want {
			t.Errorf("%q on %q: got %t", tt.pattern, tt.resource, got)
		}
	}
}

func TestActionsEffectsAndForms(t *testing.T) {
	t.Parallel()
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":` + s + `}` }
	for _, tt := range []struct {
		name, document string
		want           bool
	}{
		{"a list of actions", statement(`[{"Effect":"Allow","Action":["s3:GetObject","execute-api:Invoke"],"Resource":["b","a"]}]`), true},
		{"any action of the service", statement(`[{"Effect":"Allow","Action":"execute-api:*","Resource":"a"}]`), true},
		{"any action", statement(`[{"Effect":"Allow","Action":"*","Resource":"a"}]`), true},
		{"actions are not case-sensitive", statement(`[{"Effect":"Allow","Action":"Execute-API:invoke","Resource":"a"}]`), true},
		{"another action", statement(`[{"Effect":"Allow","Action":"execute-api:InvalidateCache","Resource":"a"}]`), false},
		{"one statement, no list", statement(`{"Sid":"one","Effect":"Allow","Action":"*","Resource":"a"}`), true},
		{"without a version", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"a"}]}`, true},
		{"with the old version and an id", `{"Version":"2008-10-17","Id":"x","Statement":[{"Effect":"Allow","Action":"*","Resource":"a"}]}`, true},
		{"no statement matches", statement(`[]`), false},
		{"deny wins, after", statement(`[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"a"}]`), false},
		{"deny wins, before", statement(`[{"Effect":"Deny","Action":"*","Resource":"a"},{"Effect":"Allow","Action":"*","Resource":"*"}]`), false},
		{"a deny elsewhere", statement(`[{"Effect":"Deny","Action":"*","Resource":"b"},{"Effect":"Allow","Action":"*","Resource":"*"}]`), true},
		{"only a deny elsewhere", statement(`[{"Effect":"Deny","Action":"*","Resource":"b"}]`), false},
	} {
		if got := parse(t, tt.document).Allows(invokeAction, "a"); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
	}
}

func TestWhatIsNotEvaluatedIsRefused(t *testing.T) {
	t.Parallel()
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	for name, document := range map[string]string{
		"empty":                "",
		"null":                 "null",
		"no statement":         `{"Version":"2012-10-17"}`,
		"another version":      `{"Version":"2013-10-17","Statement":[]}`,
		"lower-case members":   `{"version":"2012-10-17","statement":[]}`,
		"condition":            statement(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}`),
		"not action":           statement(`{"Effect":"Allow","NotAction":"*","Resource":"*"}`),
		"not resource":         statement(`{"Effect":"Allow","Action":"*","NotResource":"*"}`),
		"principal":            statement(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`),
		"policy variable":      statement(`{"Effect":"Allow","Action":"*","Resource":"${aws:username}"}`),
		"effect of other case": statement(`{"Effect":"allow","Action":"*","Resource":"*"}`),
		"no effect":            statement(`{"Action":"*","Resource":"*"}`),
		"no action":            statement(`{"Effect":"Allow","Resource":"*"}`),
		"no resource":          statement(`{"Effect":"Allow","Action":"*"}`),
		"empty resource list":  statement(`{"Effect":"Allow","Action":"*","Resource":[]}`),
		"resource a number":    statement(`{"Effect":"Allow","Action":"*","Resource":1}`),
		"resource list of two": statement(`{"Effect":"Allow","Action":"*","Resource":["a",1]}`),
		"effect twice":         statement(`{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}`),
		"statement a string":   `{"Version":"2012-10-17","Statement":"x"}`,
	} {
		if _, err := localgateway.ParsePolicy([]byte(document)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestManyWildcardsTakeNoExponentialTime(t *testing.T) {
	t.Parallel()
	p := parse(t, allow(strings.Repeat("*a", 200)+"b"))
	began := time.Now()
	if p.Allows(invokeAction, strings.Repeat("a", 1600)) {
		t.Error("allowed")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(allow("arn:aws:execute-api:us-east-1:111111111111:api-id/*/GET/pets")), "arn:aws:execute-api:us-east-1:111111111111:api-id/x/GET/pets")
	f.Add([]byte(`{"Statement":{"Effect":"Deny","Action":["*"],"Resource":["?","*"]}}`), "a")
	f.Fuzz(func(t *testing.T, document []byte, resource string) {
		p, err := localgateway.ParsePolicy(document)
		if err != nil {
			return
		}
		// Escapes aside, nothing is allowed without the word.
		if p.Allows(invokeAction, resource) && !strings.Contains(string(document), "llow") && !strings.Contains(string(document), `\u`) {
			t.Errorf("%s allows %q", document, resource)
		}
	})
}
