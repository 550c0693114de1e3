package worker

import (
	"context"

	"github.com/jobgate/jobgate/adapters/lambdaevents"
)

// SetApart has the function send letters by send.
func (f *Function) SetApart(send func(context.Context, lambdaevents.Letter) error) {
	f.worker.DeadLetter = send
}

// SetRules has the function make jobs of events by rules.
func (f *Function) SetRules(rules lambdaevents.Rules) { f.worker.Rules = rules }
