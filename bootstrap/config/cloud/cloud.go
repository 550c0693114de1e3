// Package cloud loads the settings of the AWS SDK. It is apart from config so that only programs that call AWS link it.
package cloud

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// Load reads the SDK's standard environment (AWS_REGION, AWS_ENDPOINT_URL, the credentials, …), as described at
// https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html.
func Load(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load the AWS settings: %w", err)
	}
	return cfg, nil
}
