// Package ssm reads parameters of AWS Systems Manager Parameter Store and, by names that begin with
// /aws/reference/secretsmanager/, secrets of Secrets Manager
// (https://docs.aws.amazon.com/systems-manager/latest/userguide/integration-ps-secretsmanager.html). It makes one call of
// one API, signed by the SDK's signer, and links no service client: that would be 2 MiB more of a function's cold start.
package ssm

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signature "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/domain"
)

// Bounds. All of it has to leave room in the 10 s that Lambda gives an init
// (https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib).
const (
	totalTimeout = 4 * time.Second
	tryTimeout   = 1500 * time.Millisecond
	// An account has 40 calls a second for all that starts at once
	// (https://docs.aws.amazon.com/general/latest/gr/ssm.html): the pauses add up to 3 s at most.
	tries      = 5
	firstPause = 200 * time.Millisecond // before a second try, at most; doubling

	// batch is how many names a call takes
	// (https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html).
	batch = 10
	// maxAnswer is far above ten secrets of Secrets Manager, the largest values, of 64 KiB each
	// (https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html).
	maxAnswer = 2 << 20
)

// Parameters returns a function that gets parameters by their names or ARNs, which may end in ":" and a version or a
// label. It decrypts a SecureString. Region, credentials and endpoint are taken from the variables that Lambda sets and
// the SDKs share: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL_SSM,
// AWS_ENDPOINT_URL, AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT
// (https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html).
//
// The function takes 4 s at most, retries included. Each name is in one of the two results. The errors are: NotFound;
// Forbidden, when the credentials do not allow it or its key; Invalid, when it is no name; Throttled; Unavailable; and
// Internal, when a variable is missing or AWS does not accept what it holds. None repeats a name or a value.
func Parameters(getenv func(string) string) func(ctx context.Context, names []string) (values map[string]string, errs map[string]error) {
	return func(ctx context.Context, names []string) (map[string]string, map[string]error) {
		values, errs := map[string]string{}, map[string]error{}
		c, err := newClient(getenv)
		if err != nil {
			for _, name := range names {
				errs[name] = err
			}
			return values, errs
		}
		defer c.http.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(ctx, totalTimeout)
		defer cancel()
		for some := range slices.Chunk(names, batch) {
			c.get(ctx, some, values, errs)
		}
		return values, errs
	}
}

// A client calls Parameter Store in one region.
type client struct {
	endpoint    string
	region      string
	credentials aws.Credentials
	signer      *signature.Signer
	http        *http.Client
}

func newClient(getenv func(string) string) (*client, error) {
	c := &client{
		endpoint: cmp.Or(getenv("AWS_ENDPOINT_URL_SSM"), getenv("AWS_ENDPOINT_URL")),
		region:   cmp.Or(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION")),
		credentials: aws.Credentials{
			AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: getenv("AWS_SESSION_TOKEN"),
		},
		signer: signature.NewSigner(),
		http: &http.Client{
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	switch {
	case c.region == "":
		return nil, missing("AWS_REGION")
	case c.credentials.AccessKeyID == "":
		return nil, missing("AWS_ACCESS_KEY_ID")
	case c.credentials.SecretAccessKey == "":
		return nil, missing("AWS_SECRET_ACCESS_KEY")
	}
	if c.endpoint == "" {
		c.endpoint = endpoint(c.region, getenv("AWS_USE_FIPS_ENDPOINT") == "true", getenv("AWS_USE_DUALSTACK_ENDPOINT") == "true")
	}
	if u, err := url.Parse(c.endpoint); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, domain.Errorf(domain.Internal, domain.ReasonInternal, "the endpoint of Parameter Store is no URL")
	}
	return c, nil
}

// endpoint returns the service's URL, as the SDK's table of partitions has it.
func endpoint(region string, fips, dualStack bool) string {
	suffix, dual := "amazonaws.com", "api.aws"
	for _, partition := range []struct{ prefix, suffix, dual string }{
		{"cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"},
		{"eusc-", "amazonaws.eu", "api.amazonwebservices.eu"},
		{"us-iso-", "c2s.ic.gov", "api.aws.ic.gov"},
		{"us-isob-", "sc2s.sgov.gov", "api.aws.scloud"},
		{"eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"},
		{"us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"},
	} {
		if strings.HasPrefix(region, partition.prefix) {
			suffix, dual = partition.suffix, partition.dual
		}
	}
	if dualStack {
		suffix = dual
	}
	service := "ssm"
	if fips && (dualStack || !strings.HasPrefix(region, "us-gov-")) { // there the plain endpoint is a FIPS one
		service = "ssm-fips"
	}
	return "https://" + service + "." + region + "." + suffix
}

// get adds what is to be had of at most a batch of names to values, and to errs why the others are not. A call for
// several fails as a whole when one of them may not be read, or is a secret that is not there, so that each is then asked
// for alone.
func (c *client) get(ctx context.Context, names []string, values map[string]string, errs map[string]error) {
	found, err := c.call(ctx, names)
	switch kind := domain.KindOf(err); {
	case err == nil:
	case len(names) > 1 && (kind == domain.NotFound || kind == domain.Forbidden || kind == domain.Invalid):
		for _, name := range names {
			c.get(ctx, []string{name}, values, errs)
		}
		return
	}
	for _, name := range names {
		if value, ok := found[name]; ok {
			values[name] = value
			continue
		}
		errs[name] = cmp.Or(err, errNotFound)
	}
}

// call makes one call, and again what a moment may mend. The result has each parameter by every name that it goes by.
func (c *client) call(ctx context.Context, names []string) (map[string]string, error) {
	for try := 1; ; try++ {
		answer, err := c.try(ctx, names)
		if kind := domain.KindOf(err); err == nil || try == tries || kind != domain.Unavailable && kind != domain.Throttled {
			return answer.byName(), err
		}
		timer := time.NewTimer(rand.N(firstPause << (try - 1))) //nolint:gosec // jitter
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		case <-timer.C:
		}
	}
}

type request struct {
	Names          []string
	WithDecryption bool
}

type answer struct {
	Parameters []struct {
		ARN, Name, Selector, SourceResult, Value string
		Version                                  int64
	}
}

// secrets begins the names of Secrets Manager's secrets.
const secrets = "/aws/reference/secretsmanager/"

// byName returns the values by the names that may have been asked for: with the version or the label that they were
// asked by, and plain where they were asked by none.
func (a answer) byName() map[string]string {
	values := map[string]string{}
	for _, p := range a.Parameters {
		if p.SourceResult != "" && !strings.HasPrefix(p.Name, secrets) {
			p.Name = secrets + p.Name // a secret, which moto calls by its own name
		}
		for _, name := range []string{p.Name, p.ARN} {
			values[name+":"+strconv.FormatInt(p.Version, 10)] = p.Value
			if selector := strings.TrimPrefix(p.Selector, ":"); selector != "" {
				values[name+":"+selector] = p.Value
			} else {
				values[name] = p.Value
			}
		}
	}
	return values
}

func (c *client) try(ctx context.Context, names []string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	body, err := json.Marshal(request{Names: names, WithDecryption: true})
	if err != nil {
		return answer{}, domain.Wrap(err, domain.Invalid, domain.ReasonMalformed, "it is no name of a parameter")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return answer{}, translate(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "AmazonSSM.GetParameters")
	hash := sha256.Sum256(body)
	if err := c.signer.SignHTTP(ctx, c.credentials, req, hex.EncodeToString(hash[:]), "ssm", c.region, time.Now()); err != nil {
		return answer{}, translate(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, translate(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, translate(err)
	}
	if resp.StatusCode != http.StatusOK {
		return answer{}, refusal(resp.StatusCode, text)
	}
	return parse(text)
}

// parse reads the answer of a call. A member that is not known is no fault: services add members.
func parse(text []byte) (answer, error) {
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return answer{}, errUnreadable // and not err, which may quote a value
	}
	return a, nil
}
