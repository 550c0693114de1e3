package oidc

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jobgate/jobgate/domain"
)

// maxPrincipal is how many bytes what hangs on a principal may take for its token to be remembered. Most take 300; one
// that is larger is verified each time. With what else an entry takes, some 300 bytes, and what the allocator rounds up,
// that makes at most 1.5 KiB.
const maxPrincipal = 1 << 10

// A verdict is who a token speaks for, and what that rests on besides the token and the settings. It does not change.
type verdict struct {
	who  domain.Principal
	by   *authority
	keys digest    // of the text of the key set that was asked; that of a shared secret has none
	at   time.Time // on the wall clock
}

type digest = [sha256.Size]byte

func digestOf(token string) digest {
	return sha256.Sum256(append(make([]byte, 0, 1<<10), token...)) // on the stack, where it fits
}

// holds reports whether a token that has a verdict would get the same one now, with the given keys.
func (v *verdict) holds(keys *keySet, now time.Time) bool {
	// A clock that was set back may be before nbf again.
	return keys.text == v.keys && !now.Before(v.at) && !v.who.Expired(now)
}

// principal returns whom the token speaks for: a copy for the caller to keep.
func (v *verdict) principal() domain.Principal {
	who := v.who
	who.Scopes, who.Claims = slices.Clone(who.Scopes), maps.Clone(who.Claims)
	return who
}

// A memory keeps the verdicts on tokens that were accepted, none on others: whoever has no valid token cannot fill it.
// It knows a token by its SHA-256, so that it holds no credential, no two tokens are taken for one, and the time of a
// lookup tells nothing of a token: nobody can choose digests near that of a token they do not have.
//
// When it is full a verdict makes room for the next, whichever comes first in Go's random order. No order of use is
// kept: what is lost by mistake costs one verification, and is only lost when another was made.
type memory struct {
	bound int // 0: nothing is remembered

	mu       sync.Mutex
	verdicts map[digest]*verdict
}

func newMemory(bound int) *memory {
	return &memory{bound: bound, verdicts: make(map[digest]*verdict)}
}

// get returns the verdict on a token, nil when there is none. Whether it still holds is for the caller to ask.
func (m *memory) get(token digest) *verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.verdicts[token]
}

// put remembers the verdict on a token.
func (m *memory) put(token digest, v verdict) {
	if sizeOf(v.who) > maxPrincipal {
		return
	}
	v.who.Claims = maps.Clone(v.who.Claims)
	if scopes := v.who.Scopes; len(scopes) > 0 { // in a list that is the caller's, of a text that may be long
		joined := strings.Join(scopes, " ")
		if len(scopes) == 1 { // which is no copy
			joined = strings.Clone(joined)
		}
		v.who.Scopes = strings.Split(joined, " ")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.verdicts[token] == nil && len(m.verdicts) >= m.bound {
		for other := range m.verdicts {
			delete(m.verdicts, other)
			break
		}
	}
	m.verdicts[token] = &v
}

// sizeOf returns about how many bytes hang on a principal.
func sizeOf(who domain.Principal) int {
	const ofElement, ofMap, ofMember = 16, 320, 80 // on 64 bits, with the room that a map keeps
	n := len(who.Issuer) + len(who.Subject) + len(who.ClientID) + len(who.TokenID)
	for _, s := range who.Scopes {
		n += ofElement + len(s)
	}
	if who.Claims != nil {
		n += ofMap
	}
	for _, value := range who.Claims { // their names are those in the settings
		n += ofMember + len(value)
	}
	return n
}
