package idp

import "time"

// table is a map whose entries expire and whose size is bounded: when it is
// full, the entry that would expire first gives way. It is not safe for
// concurrent use.
type table[V any] struct {
	limit   int
	entries map[string]entry[V]
}

type entry[V any] struct {
	value   V
	expires time.Time
}

func newTable[V any](limit int) table[V] {
	return table[V]{limit: limit, entries: make(map[string]entry[V])}
}

func (t table[V]) get(key string, now time.Time) (V, bool) {
	e, ok := t.entries[key]
	if !ok || !now.Before(e.expires) {
		var none V
		return none, false
	}
	return e.value, true
}

func (t table[V]) put(key string, value V, expires, now time.Time) {
	if _, ok := t.entries[key]; !ok && len(t.entries) >= t.limit {
		t.makeRoom(now)
	}
	t.entries[key] = entry[V]{value: value, expires: expires}
}

func (t table[V]) remove(key string) { delete(t.entries, key) }

// makeRoom drops what has expired, and the entry closest to it if none has.
func (t table[V]) makeRoom(now time.Time) {
	var first string
	var soonest time.Time
	for key, e := range t.entries {
		if !now.Before(e.expires) {
			delete(t.entries, key)
		} else if soonest.IsZero() || e.expires.Before(soonest) {
			first, soonest = key, e.expires
		}
	}
	if len(t.entries) >= t.limit {
		delete(t.entries, first)
	}
}
