package config

import "strings"

const topicExample = "arn:aws:sns:eu-west-1:123456789012:jobgate-jobs"

// Topic returns JOBS_TOPIC_ARN, the topic through which jobs are dispatched; "" where it is not set, which is a mistake when
// it is required.
func (e *Env) Topic(required bool) string {
	const name = "JOBS_TOPIC_ARN"
	topic := e.String(name, "")
	if required {
		topic = e.Required(name, topicExample)
	}
	if topic != "" && !isTopic(topic) {
		e.Wrong(name, topicExample, "%q is no ARN of an SNS topic", topic)
	}
	return topic
}

// isTopic reports whether arn is the ARN of an SNS topic. It is no regular expression, for which every cold start would
// wait until it is compiled.
func isTopic(arn string) bool {
	const lower, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
	made := func(s, of string) bool { return s != "" && strings.Trim(s, of) == "" }
	parts := strings.Split(arn, ":")
	if len(parts) != 6 {
		return false
	}
	name := strings.TrimSuffix(parts[5], ".fifo")
	return parts[0] == "arn" && strings.HasPrefix(parts[1], "aws") && made(parts[1], lower+"-") && parts[2] == "sns" &&
		made(parts[3], lower+digits+"-") && len(parts[4]) == 12 && made(parts[4], digits) &&
		len(name) <= 256 && made(name, lower+strings.ToUpper(lower)+digits+"_-")
}
