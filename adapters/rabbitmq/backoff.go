package rabbitmq

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is a wait that doubles from first to last. Where nothing was waited for in a while it begins anew.
type backoff struct {
	first, last time.Duration
	n           int
	asked       time.Time // for the last wait
}

// newRetry returns the waits between connections. The last is what a broker that is back may go unnoticed.
func newRetry() *backoff { return &backoff{first: 100 * time.Millisecond, last: 5 * time.Second} }

func (b *backoff) reset() { b.n = 0 }

// next returns the next wait, the upper half of which is jitter: workers that lost one broker do not come back at once.
func (b *backoff) next() time.Duration {
	now := time.Now()
	if now.Sub(b.asked) > 4*b.last { // more than a wait and a failure to connect
		b.reset()
	}
	b.asked = now
	wait := min(b.first<<min(b.n, 20), b.last)
	b.n++
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // spreads load, guards nothing
}

// sleep returns when d has passed or ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
