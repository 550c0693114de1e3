package dynamodb

import (
	"slices"
	"sync"

	"github.com/jobgate/jobgate/domain"
)

// maxClaimed is how many running jobs a store remembers: more than a function runs at once.
const maxClaimed = 128

// claimed are the running jobs as their last write by this store left them: whoever claimed a job renews and settles it
// without reading it again. It may be wrong of any of them, for somebody else may have written meanwhile. Who goes by
// it finds out: the write is conditional on the revision, and a refusal by the step itself is believed of a record alone
// that was read.
type claimed struct {
	mu   sync.Mutex
	jobs map[string]stored
}

// put remembers a running job, unless there are too many, or its payload is in an item of its own: that may be large.
func (c *claimed) put(s stored) {
	if s.job.Status != domain.Running || s.payloadKey != "" {
		return
	}
	// The caller has the job as well, and may write into it.
	s.job.Payload, s.job.Output, s.job.History = slices.Clone(s.job.Payload), slices.Clone(s.job.Output), slices.Clone(s.job.History)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.jobs == nil {
		c.jobs = map[string]stored{}
	}
	if len(c.jobs) < maxClaimed {
		c.jobs[s.job.ID] = s
	}
}

// take returns a job and forgets it: a write will tell how it is next.
func (c *claimed) take(id string) (stored, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.jobs[id]
	delete(c.jobs, id)
	return s, ok
}
