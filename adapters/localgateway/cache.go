package localgateway

import (
	"container/list"
	"crypto/sha256"
	"sync"
	"time"
)

// A cache keeps authorizer answers by identity source, the least recently used leaving first. It holds digests, so
// that no token stays in memory for its sake.
type cache struct {
	ttl time.Duration // 0: nothing is kept
	max int

	mu      sync.Mutex
	entries map[digest]*list.Element // of *entry
	order   list.List                // the most recently used first
}

type digest [sha256.Size]byte

type entry struct {
	key     digest
	answer  *answer
	expires time.Time
}

func newCache(ttl time.Duration, size int) *cache {
	return &cache{ttl: ttl, max: size, entries: make(map[digest]*list.Element)}
}

func (c *cache) get(source string, now time.Time) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[sha256.Sum256([]byte(source))]
	if !ok {
		return nil
	}
	if e, ok := element.Value.(*entry); ok && now.Before(e.expires) {
		c.order.MoveToFront(element)
		return e.answer
	}
	c.remove(element)
	return nil
}

func (c *cache) put(source string, a *answer, now time.Time) {
	if c.ttl == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := digest(sha256.Sum256([]byte(source)))
	if element, ok := c.entries[key]; ok {
		c.remove(element)
	}
	c.entries[key] = c.order.PushFront(&entry{key: key, answer: a, expires: now.Add(c.ttl)})
	if c.order.Len() > c.max {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(element *list.Element) {
	if e, ok := c.order.Remove(element).(*entry); ok {
		delete(c.entries, e.key)
	}
}
