package lambdaevents

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/domain"
)

// A Rule says which job the events of another source become. Source, DetailType and ARN are what an event has to have, as
// it is or, with a * at the end, as its beginning; an empty DetailType or ARN is any.
type Rule struct {
	Source     string // "aws:s3", "aws:dynamodb", "aws:kinesis", or what an EventBridge event has as its source
	DetailType string // the detail-type of an EventBridge event, the eventName of any other
	ARN        string // of the bucket or stream; of an EventBridge event one of its resources
	Job        string // the job's name
}

// Rules are tried in their order; the first that fits decides.
type Rules []Rule

// ParseRules reads rules from a JSON list of objects with the members source, detail_type, arn and job, of which source and
// job are needed. The error joins one for each mistake.
func ParseRules(text []byte) (Rules, error) {
	var document []struct {
		Source     string `json:"source"`
		DetailType string `json:"detail_type"`
		ARN        string `json:"arn"`
		Job        string `json:"job"`
	}
	if err := strictjson.Decode(text, &document); err != nil {
		return nil, err
	}
	var rules Rules
	var mistakes []error
	for i, d := range document {
		rule := Rule{Source: d.Source, DetailType: d.DetailType, ARN: d.ARN, Job: d.Job}
		for _, problem := range rule.problems() {
			mistakes = append(mistakes, fmt.Errorf("[%d] %s", i, problem))
		}
		if earlier := slices.IndexFunc(rules, func(r Rule) bool { return r.covers(rule) }); earlier >= 0 {
			mistakes = append(mistakes, fmt.Errorf("[%d] is never reached: [%d] fits all of its events", i, earlier))
		}
		rules = append(rules, rule)
	}
	return rules, errors.Join(mistakes...)
}

func (r Rule) problems() (problems []string) {
	if r.Source == "" {
		problems = append(problems, "source: is missing")
	}
	for member, pattern := range map[string]string{"source": r.Source, "detail_type": r.DetailType, "arn": r.ARN} {
		if strings.Contains(strings.TrimSuffix(pattern, "*"), "*") {
			problems = append(problems, fmt.Sprintf("%s: %q has a * that is not at its end", member, pattern))
		}
	}
	if r.Source == sourceS3 && strings.HasPrefix(r.DetailType, "s3:") {
		problems = append(problems, fmt.Sprintf("detail_type: records name their event without s3:, like %s", strings.TrimPrefix(r.DetailType, "s3:")))
	}
	if !domain.ValidName(r.Job) {
		problems = append(problems, fmt.Sprintf("job: %q is no job name", r.Job))
	}
	slices.Sort(problems) // members of a map come in any order
	return problems
}

// covers reports whether r fits each event that other fits.
func (r Rule) covers(other Rule) bool {
	return fits(r.Source, other.Source) && (r.DetailType == "" || fits(r.DetailType, other.DetailType)) && (r.ARN == "" || fits(r.ARN, other.ARN))
}

func (r Rule) fits(e event) bool {
	return fits(r.Source, e.source) && (r.DetailType == "" || fits(r.DetailType, e.detailType)) &&
		(r.ARN == "" || slices.ContainsFunc(e.arns, func(arn string) bool { return fits(r.ARN, arn) }))
}

func fits(pattern, text string) bool {
	beginning, open := strings.CutSuffix(pattern, "*")
	return pattern == text || open && strings.HasPrefix(text, beginning)
}

// job returns the name of the job that an event becomes, "" when no rule fits.
func (rules Rules) job(e event) string {
	for _, r := range rules {
		if r.fits(e) {
			return r.Job
		}
	}
	return ""
}
