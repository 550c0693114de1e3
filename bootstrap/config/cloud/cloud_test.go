package cloud_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/bootstrap/config/cloud"
)

// lambda is the environment of a function, with changes.
func lambda(changes map[string]string) func(string) string {
	env := map[string]string{"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_SESSION_TOKEN": "session"}
	maps.Copy(env, changes)
	return func(name string) string { return env[name] }
}

// A recorder keeps requests, and answers none.
type recorder []*http.Request

func (r *recorder) Do(req *http.Request) (*http.Response, error) {
	*r = append(*r, req)
	return nil, errors.New("no answer")
}

func TestClientsHonourTheEnvironment(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env  map[string]string
		want []string // of DynamoDB and of SNS
	}{
		"a function's":            {nil, []string{"https://dynamodb.eu-west-1.amazonaws.com", "https://sns.eu-west-1.amazonaws.com"}},
		"another region":          {map[string]string{"AWS_REGION": "cn-north-1"}, []string{"https://dynamodb.cn-north-1.amazonaws.com.cn", "https://sns.cn-north-1.amazonaws.com.cn"}},
		"the older name":          {map[string]string{"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-2"}, []string{"https://dynamodb.us-east-2.amazonaws.com", "https://sns.us-east-2.amazonaws.com"}},
		"an endpoint":             {map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, []string{"http://127.0.0.1:1", "http://127.0.0.1:1"}},
		"an endpoint of one":      {map[string]string{"AWS_ENDPOINT_URL_SNS": "http://127.0.0.1:2"}, []string{"https://dynamodb.eu-west-1.amazonaws.com", "http://127.0.0.1:2"}},
		"one, and one of all":     {map[string]string{"AWS_ENDPOINT_URL_SNS": "http://127.0.0.1:2", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}},
		"FIPS":                    {map[string]string{"AWS_REGION": "us-east-1", "AWS_USE_FIPS_ENDPOINT": "true"}, []string{"https://dynamodb-fips.us-east-1.amazonaws.com", "https://sns-fips.us-east-1.amazonaws.com"}},
		"dual stack":              {map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, []string{"https://dynamodb.eu-west-1.api.aws", "https://sns.eu-west-1.api.aws"}},
		"both, which are not set": {map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "false", "AWS_USE_FIPS_ENDPOINT": "false"}, []string{"https://dynamodb.eu-west-1.amazonaws.com", "https://sns.eu-west-1.amazonaws.com"}},
	} {
		cfg, err := cloud.Load(lambda(tt.env))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var sent recorder
		cfg.HTTPClient, cfg.RetryMaxAttempts = &sent, 1
		_, _ = dynamodb.NewFromConfig(cfg).DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String("jobs")})
		_, _ = sns.NewFromConfig(cfg).ListTopics(t.Context(), &sns.ListTopicsInput{})
		var got []string
		for _, req := range sent {
			got = append(got, req.URL.Scheme+"://"+req.URL.Host)
			if auth := req.Header.Get("Authorization"); !strings.Contains(auth, "Credential=AKID/") || req.Header.Get("X-Amz-Security-Token") != "session" {
				t.Errorf("%s: signed as %s", name, auth)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: endpoints (-want +got):\n%s", name, diff)
		}
	}
}

func TestClientsRetryAsTheEnvironmentSays(t *testing.T) {
	t.Parallel()
	for attempts, want := range map[string]int{"": 3, "1": 1, "2": 2} {
		cfg, err := cloud.Load(lambda(map[string]string{"AWS_MAX_ATTEMPTS": attempts, "AWS_RETRY_MODE": "standard"}))
		if err != nil {
			t.Fatal(err)
		}
		if got := sns.NewFromConfig(cfg).Options().Retryer.MaxAttempts(); got != want || cfg.RetryMode != aws.RetryModeStandard {
			t.Errorf("AWS_MAX_ATTEMPTS=%s: %d attempts, %q, want %d", attempts, got, cfg.RetryMode, want)
		}
	}
}

// A function that was frozen wakes up with connections whose other end is gone.
func TestACallOutlivesATryThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see that the client hangs up
		if tries.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `<ListTopicsResponse><ListTopicsResult><Topics/></ListTopicsResult></ListTopicsResponse>`)
	}))
	t.Cleanup(server.Close)
	cfg, err := cloud.Load(lambda(map[string]string{"AWS_ENDPOINT_URL": server.URL}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // which a dispatch has
	defer cancel()
	if _, err := sns.NewFromConfig(cfg).ListTopics(ctx, &sns.ListTopicsInput{}); err != nil || tries.Load() != 2 {
		t.Errorf("after %d tries: %v", tries.Load(), err)
	}
}

func TestWhatIsMissingOrWrongIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	_, err := cloud.Load(lambda(map[string]string{"AWS_REGION": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_RETRY_MODE": "often", "AWS_MAX_ATTEMPTS": "0"}))
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{"AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret is told: %v", err)
	}
}
