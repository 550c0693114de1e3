package ssm_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/ssm"
	"github.com/jobgate/jobgate/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lambda is the environment of a function whose Parameter Store is at endpoint.
func lambda(endpoint string, changes ...string) func(string) string {
	env := map[string]string{
		"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_SESSION_TOKEN": "session", "AWS_ENDPOINT_URL": endpoint,
	}
	for i := 0; i < len(changes); i += 2 {
		env[changes[i]] = changes[i+1]
	}
	return func(name string) string { return env[name] }
}

// kinds are errors by their kind.
func kinds(errs map[string]error) map[string]domain.Kind {
	result := map[string]domain.Kind{}
	for name, err := range errs {
		result[name] = domain.KindOf(err)
	}
	return result
}

func TestParametersOfEachKindAreHad(t *testing.T) {
	t.Parallel()
	moto := adaptertest.Moto(t)
	put := func(name, kind, value string) {
		adaptertest.CallAWS(t, moto, "ssm", "AmazonSSM.PutParameter", map[string]any{"Name": name, "Type": kind, "Value": value, "Overwrite": true})
	}
	put("/jobgate/policy", "String", `{"rules":[]}`)
	put("/jobgate/secret", "SecureString", "old")
	put("/jobgate/secret", "SecureString", "new")
	put("plain", "StringList", "a,b")
	adaptertest.CallAWS(t, moto, "secretsmanager", "secretsmanager.CreateSecret", map[string]any{"Name": "jobgate/jwt", "SecretString": "hunter3"})
	names := []string{"/jobgate/policy", "/jobgate/secret", "plain", "/aws/reference/secretsmanager/jobgate/jwt", "/jobgate/none", "/aws/reference/secretsmanager/jobgate/none"}
	want := map[string]string{"/jobgate/policy": `{"rules":[]}`, "/jobgate/secret": "new", "plain": "a,b", "/aws/reference/secretsmanager/jobgate/jwt": "hunter3"}
	for i := range 12 { // more than a call takes
		name := fmt.Sprintf("/jobgate/many/%02d", i)
		put(name, "String", fmt.Sprint("value ", i))
		names, want[name] = append(names, name), fmt.Sprint("value ", i)
	}
	get := ssm.Parameters(lambda(moto))
	values, errs := get(t.Context(), names)
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]domain.Kind{"/jobgate/none": domain.NotFound, "/aws/reference/secretsmanager/jobgate/none": domain.NotFound}, kinds(errs)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	values, errs = get(t.Context(), []string{"/jobgate/secret:1"})
	if diff := cmp.Diff(map[string]string{"/jobgate/secret:1": "old"}, values); diff != "" || len(errs) != 0 {
		t.Errorf("an old version (-want +got):\n%s\n%v", diff, errs)
	}
}

// A parameterStore answers each call as its script says, and the last way from then on.
type parameterStore struct {
	*httptest.Server
	mu    sync.Mutex
	calls []call
}

type call struct {
	Target, Type, Body, Token string
	authorization             string
}

func newParameterStore(t *testing.T, script ...http.HandlerFunc) *parameterStore {
	t.Helper()
	s := &parameterStore{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.calls = append(s.calls, call{r.Header.Get("X-Amz-Target"), r.Header.Get("Content-Type"), string(body), r.Header.Get("X-Amz-Security-Token"), r.Header.Get("Authorization")})
		answer := script[min(len(s.calls), len(script))-1]
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const hit = `{"InvalidParameters":[],"Parameters":[{"ARN":"arn:aws:ssm:us-east-1:123456789012:parameter/a","DataType":"text",` +
	`"LastModifiedDate":1.7E9,"Name":"/a","Type":"SecureString","Value":"value","Version":3}]}`

func TestTheCallIsSigned(t *testing.T) {
	t.Parallel()
	s := newParameterStore(t, answers(http.StatusOK, hit))
	values, errs := ssm.Parameters(lambda("http://192.0.2.1", "AWS_ENDPOINT_URL_SSM", s.URL))(t.Context(), []string{"/a"})
	if values["/a"] != "value" || len(errs) != 0 {
		t.Fatalf("%v, %v", values, errs)
	}
	want := []call{{Target: "AmazonSSM.GetParameters", Type: "application/x-amz-json-1.1", Body: `{"Names":["/a"],"WithDecryption":true}`, Token: "session"}}
	if diff := cmp.Diff(want, s.calls, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".authorization" }, cmp.Ignore())); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	signed := regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=AKID/\d{8}/us-east-1/ssm/aws4_request, ` +
		`SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature=[0-9a-f]{64}$`)
	if got := s.calls[0].authorization; !signed.MatchString(got) {
		t.Errorf("Authorization: %s", got)
	}
}

func TestAParameterIsKnownByEachOfItsNames(t *testing.T) {
	t.Parallel()
	selected := strings.Replace(hit, `"Type"`, `"Selector":":live","Type"`, 1)
	for name, tt := range map[string]struct {
		answer string
		want   bool
	}{
		"/a": {hit, true}, "/a:3": {selected, true}, "/a:live": {selected, true}, "/a:2": {hit, false}, "a": {hit, false},
		"arn:aws:ssm:us-east-1:123456789012:parameter/a": {hit, true}, "arn:aws:ssm:us-east-1:123456789012:parameter/a:live": {selected, true},
	} {
		s := newParameterStore(t, answers(http.StatusOK, tt.answer))
		values, errs := ssm.Parameters(lambda(s.URL))(t.Context(), []string{name})
		if (values[name] == "value") != tt.want || (errs[name] == nil) != tt.want {
			t.Errorf("%s: %v, %v", name, values, errs)
		}
	}
}

func TestOneParameterThatMayNotBeReadTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	const denied = `{"__type":"AccessDeniedException","Message":"User: u is not authorized to perform: ssm:GetParameters on resource: /hunter2"}`
	var script []http.HandlerFunc // for both, for the one, for the other
	for _, body := range []string{denied, hit, denied} {
		script = append(script, answers(map[string]int{hit: http.StatusOK, denied: http.StatusBadRequest}[body], body))
	}
	s := newParameterStore(t, script...)
	values, errs := ssm.Parameters(lambda(s.URL))(t.Context(), []string{"/a", "/hunter2"})
	if diff := cmp.Diff(map[string]string{"/a": "value"}, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]domain.Kind{"/hunter2": domain.Forbidden}, kinds(errs)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if strings.Contains(fmt.Sprint(errs["/hunter2"]), "hunter2") {
		t.Errorf("the error repeats the name: %v", errs["/hunter2"])
	}
}

func TestOnlyWhatAMomentMayMendIsTriedAgain(t *testing.T) {
	t.Parallel()
	coded := func(status int, code string) http.HandlerFunc {
		return answers(status, `{"__type":"com.amazonaws.ssm#`+code+`","message":"about hunter2"}`)
	}
	ok := answers(http.StatusOK, hit)
	for name, tt := range map[string]struct {
		script []http.HandlerFunc
		want   domain.Kind
		calls  int
	}{
		"a failure":           {[]http.HandlerFunc{coded(500, "InternalServerError"), ok}, -1, 2},
		"throttling":          {[]http.HandlerFunc{coded(400, "ThrottlingException"), answers(429, ""), coded(400, "ThrottlingException"), answers(429, ""), ok}, -1, 5},
		"an answer cut short": {[]http.HandlerFunc{answers(200, hit[:20]), ok}, -1, 2},
		"failures":            {[]http.HandlerFunc{coded(503, "ServiceUnavailable")}, domain.Unavailable, 5},
		"throttled for good":  {[]http.HandlerFunc{coded(400, "ThrottlingException")}, domain.Throttled, 5},
		"access":              {[]http.HandlerFunc{coded(400, "AccessDeniedException")}, domain.Forbidden, 1},
		"its key":             {[]http.HandlerFunc{coded(400, "InvalidKeyId")}, domain.Forbidden, 1},
		"no name":             {[]http.HandlerFunc{coded(400, "ValidationException")}, domain.Invalid, 1},
		"credentials":         {[]http.HandlerFunc{coded(400, "UnrecognizedClientException")}, domain.Internal, 1},
		"anything else":       {[]http.HandlerFunc{answers(418, "a teapot with hunter2")}, domain.Internal, 1},
		"a redirect":          {[]http.HandlerFunc{http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP}, domain.Internal, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newParameterStore(t, tt.script...)
			values, errs := ssm.Parameters(lambda(s.URL))(t.Context(), []string{"/a"})
			if len(s.calls) != tt.calls {
				t.Errorf("%d calls, want %d", len(s.calls), tt.calls)
			}
			if tt.want == -1 {
				if values["/a"] != "value" || len(errs) != 0 {
					t.Errorf("%v, %v", values, errs)
				}
				return
			}
			if err := errs["/a"]; len(values) != 0 || domain.KindOf(err) != tt.want || strings.Contains(fmt.Sprint(err), "hunter2") {
				t.Errorf("%v, %v; want %v, without what the answer says", values, err, tt.want)
			}
		})
	}
}

func TestASilentParameterStoreIsWaitedForSoLongOnly(t *testing.T) {
	t.Parallel()
	hangs := newParameterStore(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	gone := newParameterStore(t, answers(http.StatusOK, hit))
	gone.Close()
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for name, tt := range map[string]struct {
		ctx      context.Context
		endpoint string
		within   time.Duration
	}{
		"its context ends":  {soon, hangs.URL, time.Second},
		"it never answers":  {t.Context(), hangs.URL, 6 * time.Second},
		"it is not there":   {t.Context(), gone.URL, 5 * time.Second},
		"it speaks no HTTP": {t.Context(), "http://" + silent(t), 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			names := make([]string, 25)
			for i := range names {
				names[i] = fmt.Sprint("/", i)
			}
			values, errs := ssm.Parameters(lambda(tt.endpoint))(tt.ctx, names)
			if len(values) != 0 || len(errs) != len(names) || domain.KindOf(errs["/24"]) != domain.Unavailable {
				t.Errorf("%v, %v", values, errs)
			}
			if took := time.Since(began); took > tt.within {
				t.Errorf("took %v", took)
			}
		})
	}
}

// silent is the address of a listener that accepts and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestWhatTheEnvironmentLacksIsNamed(t *testing.T) {
	t.Parallel()
	for want, changes := range map[string][]string{
		"AWS_REGION":            {"AWS_REGION", ""},
		"AWS_ACCESS_KEY_ID":     {"AWS_ACCESS_KEY_ID", ""},
		"AWS_SECRET_ACCESS_KEY": {"AWS_SECRET_ACCESS_KEY", ""},
		"endpoint":              {"AWS_ENDPOINT_URL", "localhost:4566"},
	} {
		values, errs := ssm.Parameters(lambda("http://127.0.0.1:1", changes...))(t.Context(), []string{"a", "b"})
		for _, name := range []string{"a", "b"} {
			if err := errs[name]; len(values) != 0 || domain.KindOf(err) != domain.Internal || !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: %v, %v", want, values, err)
			}
		}
	}
}

// As service/ssm of the SDK resolves them.
func TestEndpointsAreThoseOfThePartition(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		region     string
		fips, dual bool
		want       string
	}{
		{"eu-west-1", false, false, "https://ssm.eu-west-1.amazonaws.com"},
		{"us-east-1", true, false, "https://ssm-fips.us-east-1.amazonaws.com"},
		{"ca-central-1", true, true, "https://ssm-fips.ca-central-1.api.aws"},
		{"us-east-1", false, true, "https://ssm.us-east-1.api.aws"},
		{"us-gov-west-1", false, false, "https://ssm.us-gov-west-1.amazonaws.com"},
		{"us-gov-west-1", true, false, "https://ssm.us-gov-west-1.amazonaws.com"},
		{"us-gov-west-1", true, true, "https://ssm-fips.us-gov-west-1.api.aws"},
		{"cn-north-1", false, false, "https://ssm.cn-north-1.amazonaws.com.cn"},
		{"cn-north-1", false, true, "https://ssm.cn-north-1.api.amazonwebservices.com.cn"},
		{"eusc-de-east-1", false, false, "https://ssm.eusc-de-east-1.amazonaws.eu"},
		{"us-iso-east-1", false, false, "https://ssm.us-iso-east-1.c2s.ic.gov"},
		{"us-isob-east-1", false, false, "https://ssm.us-isob-east-1.sc2s.sgov.gov"},
	} {
		if got := ssm.Endpoint(tt.region, tt.fips, tt.dual); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(200, []byte(hit))
	f.Add(200, []byte(`{"Parameters":[{"Name":"/a","Value":1}]}`))
	f.Add(400, []byte(`{"__type":"com.amazonaws.ssm#AccessDeniedException","Message":"no"}`))
	f.Add(400, []byte(`{"__type":"#"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		values, err := ssm.Parse(status, body)
		if err != nil && len(values) != 0 {
			t.Errorf("Parse = %v, %v", values, err)
		}
	})
}
