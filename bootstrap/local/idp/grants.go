package idp

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/zap"
)

const grantsFile = "grants.json"

// grant is a chain of refresh tokens that began with one login. A refresh token
// is the grant's id, a dot and a secret; only the latest secret is kept, hashed.
// An older one is thereby recognised as reused, however old it is.
type grant struct {
	ID       string            `json:"id"`
	Secret   [sha256.Size]byte `json:"secret"`
	ClientID string            `json:"client_id"`
	Subject  string            `json:"subject"`
	Scopes   []string          `json:"scopes"`
	AuthTime time.Time         `json:"auth_time"`
	Expires  time.Time         `json:"expires"`
}

// loadGrants reads the grants that a provider before this one has saved.
func (s *store) loadGrants(now time.Time) error {
	data, err := os.ReadFile(s.grantsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var saved []*grant
	if err == nil {
		err = json.Unmarshal(data, &saved, json.RejectUnknownMembers(true))
	}
	if err == nil && slices.Contains(saved, nil) {
		err = errors.New("a grant is null")
	}
	if err != nil {
		return fmt.Errorf("%s: %w; remove it, and everybody has to log in again", s.grantsFile, err)
	}
	for _, g := range saved {
		s.grants.put(g.ID, g, g.Expires, now)
	}
	return nil
}

// saveGrants makes the grants outlive the process. The caller holds the lock,
// so that they are saved in the order of their changes.
func (s *store) saveGrants(now time.Time) error {
	live := []*grant{}
	for _, id := range slices.Sorted(maps.Keys(s.grants.entries)) {
		if g, ok := s.grants.get(id, now); ok {
			live = append(live, g)
		}
	}
	data, err := json.Marshal(live, jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	return replaceFile(s.grantsFile, data)
}

// endGrant ends a chain of refresh tokens, for this process at any rate: the
// error says that the next one may not know. The caller holds the lock.
func (s *store) endGrant(id string) error {
	now := s.now()
	s.ended.put(id, struct{}{}, now.Add(codeLife), now) // longer than a request takes
	if _, ok := s.grants.entries[id]; !ok {
		return nil
	}
	s.grants.remove(id)
	err := s.saveGrants(now)
	if err != nil {
		s.log.Error("a revoked refresh token could not be forgotten on disk", zap.Error(err))
	}
	return err
}

// grantID is the part of a refresh token that names its grant.
func grantID(token string) string {
	id, _, _ := strings.Cut(token, ".")
	return id
}
