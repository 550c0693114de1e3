// Package oidctest is what tests of anything that verifies tokens need: an OpenID Connect issuer under their control,
// and a table of tokens with the verdict that each deserves. Only tests import it.
package oidctest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// The paths of an Issuer.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/keys"
)

// An Issuer serves a discovery document and a key set. It is an http.Handler; URL must be set to where it is served
// before it is asked anything.
type Issuer struct {
	URL string

	mu       sync.Mutex
	keys     []any
	requests map[string]int
	override http.Handler
}

// Publish replaces the key set.
func (i *Issuer) Publish(keys ...Key) {
	jwks := make([]any, len(keys))
	for n, k := range keys {
		jwks[n] = k.JWK()
	}
	i.PublishJWKs(jwks...)
}

// PublishJWKs replaces the key set by whatever is given: it need not be keys.
func (i *Issuer) PublishJWKs(jwks ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = slices.Clone(jwks)
}

// Override has h answer every request in the Issuer's place; nil ends it. Requests are counted all the same.
func (i *Issuer) Override(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.override = nil
	if h != nil {
		i.override = h
	}
}

// Break has every request fail, until Override(nil).
func (i *Issuer) Break() {
	i.Override(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "out of order", http.StatusBadGateway) })
}

// Requests returns how many requests there were for a path.
func (i *Issuer) Requests(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests[path]
}

// Discovery returns the members of the discovery document.
func (i *Issuer) Discovery() map[string]any {
	return map[string]any{"issuer": i.URL, "jwks_uri": i.URL + KeysPath}
}

// KeySet returns the key set as it is served.
func (i *Issuer) KeySet() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return encode(map[string]any{"keys": append([]any{}, i.keys...)})
}

// ServeHTTP implements http.Handler.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	if i.requests == nil {
		i.requests = make(map[string]int)
	}
	i.requests[r.URL.Path]++
	override := i.override
	i.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case override != nil:
		override.ServeHTTP(w, r)
	case r.URL.Path == DiscoveryPath:
		_, _ = w.Write(encode(i.Discovery())) // the other end may have given up
	case r.URL.Path == KeysPath:
		_, _ = w.Write(i.KeySet())
	default:
		http.NotFound(w, r)
	}
}

// Object is a JSON object. In a change to one, a nil removes the member.
type Object map[string]any

// With returns a copy of o with the changes made.
func (o Object) With(changes Object) Object {
	out := maps.Clone(o)
	for name, value := range changes {
		if value == nil {
			delete(out, name)
		} else {
			out[name] = value
		}
	}
	return out
}

// encode returns v as JSON. It is called with what the tests themselves made up.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}
