package lambdaevents

import (
	"bytes"

	"github.com/go-json-experiment/json"
)

// Scheduled reports whether an event is the tick of an EventBridge rule with a schedule
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html).
func Scheduled(event []byte) bool {
	const detailType = "Scheduled Event"
	if !bytes.Contains(event, []byte(detailType)) {
		return false
	}
	var e struct {
		Source     string `json:"source"`
		DetailType string `json:"detail-type"`
	}
	return json.Unmarshal(event, &e) == nil && e.Source == "aws.events" && e.DetailType == detailType
}
