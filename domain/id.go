package domain

import (
	"crypto/sha1" //nolint:gosec // RFC 9562 §5.5 defines UUIDv5 over SHA-1: a name, not a signature
	"strconv"
)

// namespace is jobgate's own UUID namespace (RFC 9562 §6.6), drawn once at random. Changing it changes every id that
// is derived from an idempotency key or a foreign event.
var namespace = [16]byte{0x9d, 0x1c, 0x5b, 0x0e, 0x6a, 0x42, 0x4f, 0x7e, 0x8b, 0x57, 0x21, 0xd4, 0x3e, 0x90, 0xc6, 0x1f}

// KeyedID is the id of the job that owner submits under an idempotency key: a UUIDv5 over the length-prefixed parts,
// so that every layer recognises a repeat and no two owners can collide.
func KeyedID(owner Identity, key string) string {
	return nameID("key", owner.Issuer, owner.Subject, key)
}

// EventID is the id of the job that a foreign event stands for, derived from the event's own identity: the kind of
// source, the source itself (a queue, a topic) and the event's id there. A redelivered event is the same job.
func EventID(kind, source, event string) string {
	return nameID("event", kind, source, event)
}

func nameID(parts ...string) string {
	h := sha1.New() //nolint:gosec // see the import
	h.Write(namespace[:])
	var prefix []byte
	for _, part := range parts {
		prefix = strconv.AppendInt(prefix[:0], int64(len(part)), 10)
		h.Write(append(prefix, ':'))
		h.Write([]byte(part))
	}
	var id [16]byte
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x50 // version 5
	id[8] = id[8]&0x3f | 0x80 // variant of RFC 9562
	return formatID(id)
}

const hexDigits = "0123456789abcdef"

func formatID(id [16]byte) string {
	out := make([]byte, 0, 36)
	for i, b := range id {
		switch i {
		case 4, 6, 8, 10:
			out = append(out, '-')
		}
		out = append(out, hexDigits[b>>4], hexDigits[b&0x0f])
	}
	return string(out)
}

// ValidID reports whether id is a UUID in the one form jobgate writes: 36 characters, lower case, hyphenated
// (RFC 9562 §4). Anything else names no job.
func ValidID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
