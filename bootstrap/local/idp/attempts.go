package idp

import (
	"crypto/sha256"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// attempts bounds how often something secret may be guessed.
type attempts struct {
	limit    int           // failures per key and window
	window   time.Duration // begins with a key's first failure
	mu       sync.Mutex
	failures table[window] // by key, hashed to bound the size
}

type window struct {
	count int
	ends  time.Time
}

func newAttempts(limit int, length time.Duration) *attempts {
	return &attempts{limit: limit, window: length, failures: newTable[window](maxEntries)}
}

func hashed(key string) string {
	sum := sha256.Sum256([]byte(key))
	return string(sum[:])
}

// begin counts an attempt as failed until it is taken back, so that many at
// once are counted before any has been compared. If there were too many
// already, it says how long to wait.
func (a *attempts) begin(key string, now time.Time) (wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key = hashed(key)
	w, ok := a.failures.get(key, now)
	if !ok {
		w.ends = now.Add(a.window)
	}
	if w.count >= a.limit {
		return w.ends.Sub(now)
	}
	w.count++
	a.failures.put(key, w, w.ends, now)
	return 0
}

// takeBack uncounts an attempt that succeeded.
func (a *attempts) takeBack(key string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key = hashed(key)
	if w, ok := a.failures.get(key, now); ok && w.count > 0 {
		w.count--
		a.failures.put(key, w, w.ends, now)
	}
}

// forget begins anew after a success that proves who is asking.
func (a *attempts) forget(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures.remove(hashed(key))
}

func retryAfter(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
}
