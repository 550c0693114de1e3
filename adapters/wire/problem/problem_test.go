package problem_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/wire/problem"
	"github.com/jobgate/jobgate/domain"
)

var update = flag.Bool("update", false, "write the golden files anew")

var errSecret = errors.New("dial tcp 10.0.0.7:5432: password wrong")

// refused wraps a cause and a message that no caller may see.
func refused(kind domain.Kind, reason domain.Reason) error {
	return domain.Wrap(errSecret, kind, reason, "kid 7 of https://issuer.example/keys")
}

// documents are all the problem documents that there can be, by the name of their golden file.
var documents = map[string]struct {
	problem problem.Problem
	status  int
	header  http.Header
}{
	"malformed":               {of(domain.Errorf(domain.Invalid, domain.ReasonMalformed, "the JSON ends too early, at byte 10")), 400, nil},
	"invalid_query":           {of(domain.Errorf(domain.Invalid, domain.ReasonInvalidQuery, "limit must be 1 to 100")), 400, nil},
	"invalid_idempotency_key": {of(domain.Errorf(domain.Invalid, domain.ReasonInvalidKey, "")), 400, nil},
	"invalid_fields": {of(&domain.Error{
		Kind: domain.Invalid, Reason: domain.ReasonInvalidFields, Message: "the job has invalid members",
		Fields: []domain.FieldError{{Pointer: "/name", Detail: "must not be empty"}, {Pointer: "/delay", Detail: "must be 0 to 30 days"}},
	}), 422, nil},
	"idempotency_key_reused": {of(domain.Errorf(domain.Invalid, domain.ReasonKeyReused, "")), 422, nil},
	"missing_token":          {of(refused(domain.Unauthenticated, domain.ReasonMissingToken)), 401, http.Header{"Www-Authenticate": {`Bearer realm="jobgate"`}}},
	"invalid_token":          {of(refused(domain.Unauthenticated, domain.ReasonInvalidToken)), 401, http.Header{"Www-Authenticate": {`Bearer realm="jobgate", error="invalid_token", error_description="the token is not valid"`}}},
	"invalid_claims":         {of(refused(domain.Unauthenticated, domain.ReasonInvalidClaims)), 401, http.Header{"Www-Authenticate": {`Bearer realm="jobgate", error="invalid_token", error_description="the token is not meant for this service"`}}},
	"token_expired":          {of(refused(domain.Unauthenticated, domain.ReasonTokenExpired)), 401, http.Header{"Www-Authenticate": {`Bearer realm="jobgate", error="invalid_token", error_description="the token has expired"`}}},
	"invalid_signature":      {of(refused(domain.Unauthenticated, domain.ReasonInvalidSignature)), 401, http.Header{"Www-Authenticate": {`Bearer realm="jobgate", error="invalid_token", error_description="the token has no valid signature"`}}},
	"unauthorized":           {of(domain.Errorf(domain.Unauthenticated, domain.ReasonUnauthorized, "")), 401, http.Header{"Www-Authenticate": {`Bearer realm="jobgate"`}}},
	"insufficient_scope": {of(&domain.Error{
		Kind: domain.Forbidden, Reason: domain.ReasonInsufficientScope, Message: "kid 7", Scopes: []string{"jobs:submit"}, Err: errSecret,
	}), 403, http.Header{"Www-Authenticate": {`Bearer realm="jobgate", error="insufficient_scope", scope="jobs:submit"`}}},
	"forbidden":              {of(refused(domain.Forbidden, domain.ReasonForbidden)), 403, nil},
	"not_found":              {of(refused(domain.NotFound, domain.ReasonNotFound)), 404, nil},
	"method_not_allowed":     {problem.MethodNotAllowed([]string{"GET", "POST"}, "req-1"), 405, http.Header{"Allow": {"GET, POST"}}},
	"conflict":               {of(domain.Errorf(domain.Conflict, domain.ReasonConflict, "")), 409, nil},
	"finished":               {of(domain.Errorf(domain.Conflict, domain.ReasonFinished, "the job is succeeded")), 409, nil},
	"not_redrivable":         {of(domain.Errorf(domain.Conflict, domain.ReasonNotRedrivable, "the job is running; only dead and cancelled jobs are redriven")), 409, nil},
	"too_large":              {of(domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "the body has more than 245760 bytes")), 413, nil},
	"unsupported_media_type": {problem.UnsupportedMediaType("application/json", "req-1"), 415, http.Header{"Accept": {"application/json"}}},
	"throttled": {of(&domain.Error{
		Kind: domain.Throttled, Reason: domain.ReasonThrottled, Message: "kid 7", RetryAfter: 1500 * time.Millisecond, Err: errSecret,
	}), 429, http.Header{"Retry-After": {"2"}}},
	"unavailable":      {of(refused(domain.Unavailable, domain.ReasonUnavailable)), 503, http.Header{"Retry-After": {"5"}}},
	"keys_unavailable": {of(refused(domain.Unavailable, domain.ReasonKeysUnavailable)), 503, http.Header{"Retry-After": {"5"}}},
	"dispatch_failed":  {of(refused(domain.Unavailable, domain.ReasonDispatchFailed)), 503, http.Header{"Retry-After": {"5"}}},
	"internal":         {of(errSecret), 500, nil},
}

func of(err error) problem.Problem { return problem.From(err, "req-1") }

func TestProblemDocumentsAreGolden(t *testing.T) {
	t.Parallel()
	for name, tt := range documents {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			problem.Write(w, tt.problem)

			if w.Code != tt.status {
				t.Errorf("status %d, want %d", w.Code, tt.status)
			}
			want := tt.header.Clone()
			if want == nil {
				want = http.Header{}
			}
			want.Set("Content-Type", "application/problem+json")
			want.Set("Cache-Control", "no-store")
			want.Set("X-Content-Type-Options", "nosniff")
			want.Set("Content-Length", strconv.Itoa(w.Body.Len()))
			if diff := cmp.Diff(want, w.Header()); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			golden(t, filepath.Join("testdata", name+".json"), w.Body.Bytes())
		})
	}
}

func TestEveryGoldenFileHasItsDocument(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files %v, %v", files, err)
	}
	for _, file := range files {
		if _, ok := documents[strings.TrimSuffix(filepath.Base(file), ".json")]; !ok {
			t.Errorf("%s belongs to no document", file)
		}
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	var indented bytes.Buffer
	if err := json.Indent(&indented, got, "", "  "); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	indented.WriteByte('\n')
	if *update {
		if err := os.WriteFile(file, indented.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), indented.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// A reason is told to callers, or it only ever describes a job or a delivery.
func TestEveryReasonIsTold(t *testing.T) {
	t.Parallel()
	inside := []domain.Reason{
		domain.ReasonLeased, domain.ReasonNotDue, domain.ReasonLeaseLost, domain.ReasonWorkerLost, domain.ReasonAttemptsUsedUp,
		domain.ReasonPermanent, domain.ReasonRevoked, domain.ReasonCancelled, domain.ReasonRecordMissing, domain.ReasonUndecodable, domain.ReasonTooLate,
	}
	told := map[domain.Reason]bool{}
	for _, reason := range inside {
		told[reason] = true
	}
	for name, tt := range documents {
		told[tt.problem.Code] = true
		if name != string(tt.problem.Code) {
			t.Errorf("the document %s has the code %s", name, tt.problem.Code)
		}
	}
	reasons := reasonsOf(t, "../../../domain/error.go")
	if len(reasons) < len(documents) {
		t.Fatalf("found only %d reasons in the domain", len(reasons))
	}
	for _, reason := range reasons {
		if !told[reason] {
			t.Errorf("%s has no problem document in this test", reason)
		}
	}
}

// reasonsOf reads the values of the constants of type Reason from a file of the domain.
func reasonsOf(t *testing.T, file string) []domain.Reason {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []domain.Reason
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Reason" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, domain.Reason(value))
		}
		return true
	})
	return reasons
}

func TestStatusFollowsKindAndReason(t *testing.T) {
	t.Parallel()
	fields := []domain.FieldError{{Pointer: "/x", Detail: "y"}}
	tests := map[string]struct {
		err    error
		status int
		code   domain.Reason
	}{
		"no reason, invalid":         {&domain.Error{Kind: domain.Invalid}, 400, "malformed"},
		"no reason, unauthenticated": {&domain.Error{Kind: domain.Unauthenticated}, 401, "invalid_token"},
		"no reason, forbidden":       {&domain.Error{Kind: domain.Forbidden}, 403, "forbidden"},
		"no reason, not found":       {&domain.Error{Kind: domain.NotFound}, 404, "not_found"},
		"no reason, conflict":        {&domain.Error{Kind: domain.Conflict}, 409, "conflict"},
		"no reason, too large":       {&domain.Error{Kind: domain.TooLarge}, 413, "too_large"},
		"no reason, throttled":       {&domain.Error{Kind: domain.Throttled}, 429, "throttled"},
		"no reason, unavailable":     {&domain.Error{Kind: domain.Unavailable}, 503, "unavailable"},
		"no reason, internal":        {&domain.Error{}, 500, "internal"},
		"unknown kind":               {&domain.Error{Kind: 99}, 500, "internal"},
		"unknown kind with a reason": {&domain.Error{Kind: 99, Reason: "x"}, 500, "internal"},
		"internal with a reason":     {&domain.Error{Kind: domain.Internal, Reason: "table_missing"}, 500, "internal"},
		"fields, new reason":         {&domain.Error{Kind: domain.Invalid, Reason: "new", Fields: fields}, 422, "new"},
		"malformed with fields":      {&domain.Error{Kind: domain.Invalid, Reason: "malformed", Fields: fields}, 400, "malformed"},
		"wrapped":                    {fmt.Errorf("get: %w", &domain.Error{Kind: domain.NotFound}), 404, "not_found"},
		"no domain error":            {errSecret, 500, "internal"},
		"nil":                        {nil, 500, "internal"},
	}
	for name, tt := range tests {
		p := problem.From(tt.err, "")
		if p.Status != tt.status || p.Code != tt.code {
			t.Errorf("%s: %d %s, want %d %s", name, p.Status, p.Code, tt.status, tt.code)
		}
		if p.Title == "" {
			t.Errorf("%s: no title", name)
		}
	}
}

func TestRetryAfterIsInWholeSecondsFromOne(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]string{
		-time.Second: "5", 0: "5", 1: "1", time.Second: "1", time.Second + 1: "2", time.Hour: "3600",
	} {
		p := problem.From(&domain.Error{Kind: domain.Throttled, RetryAfter: wait}, "")
		if got := p.Header().Get("Retry-After"); got != want {
			t.Errorf("after %v: %q, want %q", wait, got, want)
		}
	}
}

func TestMarshalBearsWhateverARequestHeld(t *testing.T) {
	t.Parallel()
	p := problem.From(domain.Errorf(domain.Conflict, "", "the job is \xff\x00\"é"), "$context.requestId")
	var got struct {
		Detail    string `json:"detail"`
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal(p.Marshal(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Detail != "the job is \ufffd\x00\"é" || got.RequestID != "$context.requestId" {
		t.Errorf("got %+v", got)
	}
}

func TestHeaderIsTheCallersOwn(t *testing.T) {
	t.Parallel()
	p := problem.MethodNotAllowed([]string{"GET"}, "")
	p.Header().Set("Allow", "PUT")
	if got := p.Header().Get("Allow"); got != "GET" {
		t.Errorf("Allow is %q, want GET", got)
	}
}
