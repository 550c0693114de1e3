package config_test

import (
	"strings"
	"testing"
)

func TestTopicsAreARNs(t *testing.T) {
	t.Parallel()
	for arn, ok := range map[string]bool{
		"arn:aws:sns:eu-west-1:123456789012:jobs": true, "arn:aws-us-gov:sns:us-gov-west-1:123456789012:Jobs_1-a.fifo": true,
		"arn:aws-cn:sns:cn-north-1:123456789012:" + strings.Repeat("j", 256): true, "arn:aws:sns:eu-west-1:123456789012:" + strings.Repeat("j", 257): false,
		"arn:aws:sqs:eu-west-1:123456789012:jobs": false, "arn:aws:sns:eu-west-1:12345678901:jobs": false, "arn:aws:sns:eu-west-1:12345678901x:jobs": false,
		"arn:aws:sns::123456789012:jobs": false, "arn:aws:sns:eu-west-1:123456789012:": false, "arn:aws:sns:eu-west-1:123456789012:.fifo": false,
		"arn:aws:sns:eu-west-1:123456789012:jobs:subscription": false, "arn:aws:sns:eu-west-1:123456789012:jo bs": false, "arn:AWS:sns:eu-west-1:123456789012:jobs": false,
		"aws:aws:sns:eu-west-1:123456789012:jobs": false, "arn:aws:sns:eu_west:123456789012:jobs": false, "jobs": false,
	} {
		e := from(map[string]string{"JOBS_TOPIC_ARN": arn})
		if got := e.Topic(true); got != arn || (e.Err() == nil) != ok {
			t.Errorf("%q: %v", arn, e.Err())
		}
	}
	e := from(nil)
	if e.Topic(false); e.Err() != nil {
		t.Error(e.Err())
	}
	if e.Topic(true); e.Err() == nil {
		t.Error("no topic is accepted where one is required")
	}
}
