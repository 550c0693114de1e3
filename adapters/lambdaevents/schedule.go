package lambdaevents

import (
	"bytes"
	"slices"

	"github.com/go-json-experiment/json"
)

// Scheduled reports whether an event is the tick of an EventBridge rule with a schedule
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html) or of a schedule of EventBridge
// Scheduler without an input of its own (https://docs.aws.amazon.com/lambda/latest/dg/with-eventbridge-scheduler.html).
func Scheduled(event []byte) bool {
	const detailType = "Scheduled Event"
	if !bytes.Contains(event, []byte(detailType)) {
		return false
	}
	var e struct {
		Source     string `json:"source"`
		DetailType string `json:"detail-type"`
	}
	return json.Unmarshal(event, &e) == nil && slices.Contains([]string{"aws.events", "aws.scheduler"}, e.Source) && e.DetailType == detailType
}

// Map reports whether one of the rules makes a job of an event that EventBridge invokes a function with.
func (rules Rules) Map(event []byte) bool {
	e, err := fromEventBridge(event)
	return err == nil && rules.job(e) != ""
}
