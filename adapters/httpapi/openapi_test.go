package httpapi_test

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/httpapi/httpapitest"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

func TestOpenAPIDocumentIsValidAndPublic(t *testing.T) {
	t.Parallel()
	a := newService().do(t, call{method: http.MethodGet, path: "/openapi.json"})
	if a.status != http.StatusOK || a.header.Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("answer %d %v", a.status, a.header)
	}
	file, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, a.body) {
		t.Error("what is served is not openapi.json")
	}
	doc, err := openapi3.NewLoader().LoadFromData(a.body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("OpenAPI %s, want 3.1", doc.OpenAPI)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenAPIDocumentHasTheRoutesOfTheTable(t *testing.T) {
	t.Parallel()
	doc := document(t)
	var want, got []string
	for _, r := range domain.Routes {
		want = append(want, r.Method+" "+r.Pattern)
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			got = append(got, method+" "+path)
			public := operation.Security != nil && len(*operation.Security) == 0
			if route := slices.IndexFunc(domain.Routes, func(r domain.Route) bool { return r.Method == method && r.Pattern == path }); route >= 0 && domain.Routes[route].Public != public {
				t.Errorf("%s %s: public %v, the table says %v", method, path, public, !public)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations (-table +document):\n%s", diff)
	}
}

// The problem package keeps a golden file of each code that was ever released.
func TestOpenAPIDocumentEnumeratesEveryCode(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../wire/problem/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	want := map[string]bool{}
	for _, file := range files {
		want[strings.TrimSuffix(filepath.Base(file), ".json")] = true
	}
	got := map[string]bool{}
	for _, code := range document(t).Components.Schemas["Code"].Value.Enum {
		got[code.(string)] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("codes (-problem +document):\n%s", diff)
	}
}

func TestOpenAPIDocumentStatesTheDomainsBounds(t *testing.T) {
	t.Parallel()
	doc := document(t)
	var statuses []domain.Status
	for _, s := range doc.Components.Schemas["Status"].Value.Enum {
		statuses = append(statuses, domain.Status(s.(string)))
	}
	if diff := cmp.Diff(domain.Statuses, statuses); diff != "" {
		t.Errorf("statuses (-domain +document):\n%s", diff)
	}
	if got := *doc.Components.Schemas["Job"].Value.Properties["history"].Value.MaxItems; got != domain.MaxHistory {
		t.Errorf("history of %d", got)
	}
	if got := *doc.Components.Parameters["IdempotencyKey"].Value.Schema.Value.MaxLength; got != domain.MaxKeyLength {
		t.Errorf("idempotency key of %d", got)
	}
	limit := doc.Paths.Find("/jobs").Get.Parameters.GetByInAndName("query", "limit").Schema.Value
	if *limit.Max != jobs.MaxPage || limit.Default != float64(jobs.DefaultPage) {
		t.Errorf("limit at most %v, %v by default", *limit.Max, limit.Default)
	}
}

// What holds an answer against the contract must see when it breaks it.
func TestCheckSeesABreach(t *testing.T) {
	t.Parallel()
	s := newService()
	s.accepted(t, call{method: http.MethodPost, path: "/jobs", token: "alice", body: `{"name":"test-job"}`}, http.StatusCreated)
	edit := func(old, replacement string) func(*answer) {
		return func(a *answer) {
			if !strings.Contains(string(a.body), old) {
				t.Errorf("there is no %s in %s", old, a.body)
			}
			a.body = []byte(strings.Replace(string(a.body), old, replacement, 1))
		}
	}
	get := call{method: http.MethodGet, path: "/jobs/" + jobID(1), token: "alice"}
	missing := call{method: http.MethodGet, path: "/jobs/" + jobID(2), token: "alice"}
	tests := map[string]struct {
		call  call
		spoil func(*answer)
	}{
		"an unknown member":             {get, edit(`"name"`, `"colour":"red","name"`)},
		"an unknown member, nested":     {get, edit(`"issuer"`, `"colour":"red","issuer"`)},
		"a member that is missing":      {get, edit(`"attempts":0,`, ``)},
		"a status that is none":         {get, edit(`"queued"`, `"waiting"`)},
		"a time without milliseconds":   {get, edit(`05.678Z`, `05Z`)},
		"another media type":            {get, func(a *answer) { a.header.Set("Content-Type", "text/plain") }},
		"a status code that is not its": {get, func(a *answer) { a.status = http.StatusTeapot }},
		"no request id":                 {get, func(a *answer) { a.header.Del("X-Request-Id") }},
		"an answer that may be cached":  {get, func(a *answer) { a.header.Set("Cache-Control", "public") }},
		"no nosniff":                    {get, func(a *answer) { a.header.Del("X-Content-Type-Options") }},
		"the code of another status":    {missing, edit(`"code":"not_found"`, `"code":"forbidden"`)},
		"an unknown member, problem":    {missing, edit(`"title"`, `"instance":"/","title"`)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := s.do(t, tt.call)
			tt.spoil(&a)
			if err := httpapitest.Breach(tt.call.request(t), "", a.status, a.header, a.body); err == nil {
				t.Errorf("nothing seen in %d %v %s", a.status, a.header, a.body)
			}
		})
	}
}

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := httpapitest.Document()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
