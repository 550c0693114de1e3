// Package cloud reads the settings of the AWS SDK. It is apart from config so that only programs that call AWS link it.
package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// tryTimeout bounds each try of a call, body included. A function that was frozen wakes up with connections whose other end
// is gone, and the first call would spend all of its time on one.
const tryTimeout = 2 * time.Second

// Load reads of the SDKs' standard environment what a Lambda function has: AWS_REGION and the credentials, which Lambda
// sets, and AWS_ENDPOINT_URL, that with the name of a service behind it, AWS_USE_FIPS_ENDPOINT,
// AWS_USE_DUALSTACK_ENDPOINT, AWS_RETRY_MODE and AWS_MAX_ATTEMPTS, as described at
// https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html.
//
// The SDK's own loader also knows profiles, files, SSO and the metadata of machines, for which it links four more service
// clients: a seventh of a function's package, and of its cold start.
func Load(getenv func(string) string) (aws.Config, error) {
	id, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	cfg := aws.Config{
		Region:        cmp.Or(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION")),
		Credentials:   credentials.NewStaticCredentialsProvider(id, secret, getenv("AWS_SESSION_TOKEN")),
		ConfigSources: []any{environment(getenv)},
		HTTPClient:    awshttp.NewBuildableClient().WithTimeout(tryTimeout),
	}
	var problems []error
	if cfg.Region == "" {
		problems = append(problems, errors.New("AWS_REGION is not set"))
	}
	if id == "" || secret == "" {
		problems = append(problems, errors.New("AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set"))
	}
	if endpoint := getenv("AWS_ENDPOINT_URL"); endpoint != "" {
		cfg.BaseEndpoint = &endpoint
	}
	if text := getenv("AWS_RETRY_MODE"); text != "" {
		mode, err := aws.ParseRetryMode(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("AWS_RETRY_MODE: %w", err))
		}
		cfg.RetryMode = mode
	}
	if text := getenv("AWS_MAX_ATTEMPTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			problems = append(problems, fmt.Errorf("AWS_MAX_ATTEMPTS: %q is no whole number above 0", text))
		}
		cfg.RetryMaxAttempts = n
	}
	if err := errors.Join(problems...); err != nil {
		return aws.Config{}, fmt.Errorf("the settings of AWS cannot be used: %w", err)
	}
	return cfg, nil
}

// environment answers what each service client asks of its configuration by itself.
type environment func(string) string

// GetServiceBaseEndpoint returns the endpoint that is set for one service alone, as its client asks for it.
func (getenv environment) GetServiceBaseEndpoint(_ context.Context, sdkID string) (string, bool, error) {
	endpoint := getenv("AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(sdkID, " ", "_")))
	return endpoint, endpoint != "", nil
}

// GetUseFIPSEndpoint says whether endpoints are to be FIPS validated, as every client asks for it.
func (getenv environment) GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error) {
	if getenv("AWS_USE_FIPS_ENDPOINT") != "true" {
		return aws.FIPSEndpointStateUnset, false, nil
	}
	return aws.FIPSEndpointStateEnabled, true, nil
}

// GetUseDualStackEndpoint says whether endpoints are to have IPv6 as well, as every client asks for it.
func (getenv environment) GetUseDualStackEndpoint(context.Context) (aws.DualStackEndpointState, bool, error) {
	if getenv("AWS_USE_DUALSTACK_ENDPOINT") != "true" {
		return aws.DualStackEndpointStateUnset, false, nil
	}
	return aws.DualStackEndpointStateEnabled, true, nil
}
