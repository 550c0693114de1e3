package sqlstore

import (
	"slices"
	"sync"

	"github.com/jobgate/jobgate/domain"
)

const (
	// maxRecent is how many jobs one generation of recent holds, and maxRecentBytes what of a job may be of any size.
	maxRecent      = 1024
	maxRecentBytes = 2 << 10
)

// recent are open jobs as their last write left them, so that the next one need not read them again. It may be wrong of
// any of them, for another process may have written meanwhile: whoever goes by it has to say which revision it was, and
// to believe only a write that found it. Those written longest ago are dropped. A nil recent holds nothing.
type recent struct {
	mu         sync.Mutex
	young, old map[string]domain.Job
}

func newRecent() *recent { return &recent{young: map[string]domain.Job{}} }

// put has the job as it is now, or drops it where it is not worth its room.
func (r *recent) put(job domain.Job) {
	if r == nil {
		return
	}
	size := len(job.Payload) + len(job.Output)
	for _, a := range job.History {
		size += len(a.Error)
	}
	keep := !job.Status.Finished() && size <= maxRecentBytes
	if keep { // the caller goes on with the job, and may write into it
		job.Payload, job.Output, job.History = slices.Clone(job.Payload), slices.Clone(job.Output), slices.Clone(job.History)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.old, job.ID)
	if !keep {
		delete(r.young, job.ID)
		return
	}
	if len(r.young) == maxRecent {
		r.young, r.old = map[string]domain.Job{}, r.young
	}
	r.young[job.ID] = job
}

// take returns the job, which is then the caller's.
func (r *recent) take(id string) (domain.Job, bool) {
	if r == nil {
		return domain.Job{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, jobs := range []map[string]domain.Job{r.young, r.old} {
		if job, ok := jobs[id]; ok {
			delete(jobs, id)
			return job, true
		}
	}
	return domain.Job{}, false
}

// clear is for when writes have been undone.
func (r *recent) clear() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.young)
	clear(r.old)
}
