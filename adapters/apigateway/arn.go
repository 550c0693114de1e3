package apigateway

import (
	"errors"
	"regexp"
)

// A Deployment names one stage of one API, as the method ARN of an authorizer event does.
type Deployment struct {
	Partition string // aws, aws-cn, aws-us-gov, …
	Region    string
	Account   string
	API       string
	Stage     string
}

// maxMethodARN is the longest method ARN that API Gateway hands to an authorizer; see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html.
const maxMethodARN = 1600

// methodARN takes each part from the alphabet that AWS documents for it, so that none can hold a wildcard, a separator
// or a policy variable. A stage has at most 128 letters, digits, hyphens and underscores, or is an HTTP API's $default.
// What follows the method is the caller's and is not looked at.
var methodARN = regexp.MustCompile(`^arn:(aws(?:-[a-z]{1,8}){0,3}):execute-api:([a-z]{2}[a-z0-9-]{1,30}):([0-9]{12}):` +
	`([a-z0-9]{1,64})/(\$default|[A-Za-z0-9_-]{1,128})/[A-Z]{1,16}(?:/|$)`)

// ParseMethodARN returns the deployment that a method ARN belongs to:
// arn:PARTITION:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/path.
func ParseMethodARN(arn string) (Deployment, error) {
	if len(arn) > maxMethodARN {
		return Deployment{}, errors.New("method ARN over 1,600 bytes")
	}
	m := methodARN.FindStringSubmatch(arn)
	if m == nil {
		return Deployment{}, errors.New("not a method ARN of execute-api")
	}
	return Deployment{Partition: m[1], Region: m[2], Account: m[3], API: m[4], Stage: m[5]}, nil
}

// resource is the ARN of what lies at pattern ("METHOD/path") in the deployment.
func (d Deployment) resource(pattern string) string {
	return "arn:" + d.Partition + ":execute-api:" + d.Region + ":" + d.Account + ":" + d.API + "/" + d.Stage + "/" + pattern
}
