package domain_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/jobgate/jobgate/domain"
)

// The golden ids were computed apart from this code, from RFC 9562 §5.5 and the length-prefixed parts. One that changes
// makes every repeat under an idempotency key, and every redelivered event, a second job.
func TestDerivedIDsNeverChange(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, got, want string
	}{
		{"a key", domain.KeyedID(alice, "order-1"), "a880ec9f-321d-5bd1-90a1-283f0d2db525"},
		{"a key of nobody", domain.KeyedID(domain.Identity{}, "k"), "af28af0f-83fd-5b19-8f92-7787cd3b7855"},
		{"lengths count bytes", domain.KeyedID(domain.Identity{Issuer: alice.Issuer, Subject: "zoë"}, "é"), "2d88fb23-60e7-5afc-82be-e1f165c704f0"},
		{"an event", domain.EventID("sqs", "arn:aws:sqs:eu-west-1:123456789012:jobs", "m-1"), "ecf2711b-9e5b-5580-9692-ff0eedd12119"},
		{"an event of kind key", domain.EventID("key", "", ""), "b85fd78d-7f4a-50af-865d-bc41de23c936"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: id %s, want %s", tt.name, tt.got, tt.want)
		}
	}
}

func TestDerivedIDsTellTheirPartsApart(t *testing.T) {
	t.Parallel()
	key := func(issuer, subject, key string) string {
		return domain.KeyedID(domain.Identity{Issuer: issuer, Subject: subject}, key)
	}
	tests := []struct {
		name, a, b string
	}{
		{"a character moved between key and subject", key("i", "a", "bc"), key("i", "ab", "c")},
		{"a character moved between issuer and subject", key("i", "ab", "c"), key("ia", "b", "c")},
		{"a part that looks like a length prefix", key("i", "a", "1:b"), key("i", "a1:", "b")},
		{"empty parts", key("", "a", ""), key("a", "", "")},
		{"two owners", key("i", "alice", "k"), key("i", "bob", "k")},
		{"two issuers", key("i", "alice", "k"), key("j", "alice", "k")},
		{"a key and an event", key("a", "b", "c"), domain.EventID("a", "b", "c")},
		{"two kinds of event", domain.EventID("sqs", "q", "1"), domain.EventID("sns", "q", "1")},
	}
	for _, tt := range tests {
		if tt.a == tt.b {
			t.Errorf("%s: the same id %s", tt.name, tt.a)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.StringMatching(`[a1:]{0,3}`), 3, 3)
		a, b := parts.Draw(t, "a"), parts.Draw(t, "b")
		same := a[0] == b[0] && a[1] == b[1] && a[2] == b[2]
		if got := key(a[0], a[1], a[2]) == key(b[0], b[1], b[2]); got != same {
			t.Errorf("ids of %q and %q equal: %t", a, b, got)
		}
	})
}

func TestDerivedIDsAreVersion5UUIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String()
		for _, id := range []string{
			domain.KeyedID(domain.Identity{Issuer: s.Draw(t, "issuer"), Subject: s.Draw(t, "subject")}, s.Draw(t, "key")),
			domain.EventID(s.Draw(t, "kind"), s.Draw(t, "source"), s.Draw(t, "event")),
		} {
			parsed, err := uuid.Parse(id)
			if err != nil {
				t.Fatalf("%q is no UUID: %v", id, err)
			}
			if parsed.Version() != 5 || parsed.Variant() != uuid.RFC4122 || !domain.ValidID(id) {
				t.Errorf("%s: version %d, variant %s, valid %t", id, parsed.Version(), parsed.Variant(), domain.ValidID(id))
			}
		}
	})
}

func TestValidID(t *testing.T) {
	t.Parallel()
	const id = "0190a5f0-7b1c-7def-8abc-0123456789ab"
	tests := []struct {
		name, id string
		want     bool
	}{
		{"canonical", id, true},
		{"nil UUID", uuid.Nil.String(), true},
		{"upper case", strings.ToUpper(id), false},
		{"one upper case digit", strings.Replace(id, "d", "D", 1), false},
		{"braces", "{" + id + "}", false},
		{"urn", "urn:uuid:" + id, false},
		{"without hyphens", strings.ReplaceAll(id, "-", ""), false},
		{"hyphens elsewhere", "0190a5f07-b1c-7def-8abc-0123456789ab", false},
		{"no hexadecimal digit", strings.Replace(id, "f", "g", 1), false},
		{"too short", id[:35], false},
		{"too long", id + "0", false},
		{"trailing newline", id[:35] + "\n", false},
		{"multi-byte characters", id[:34] + "é", false},
		{"empty", "", false},
	}
	for _, tt := range tests {
		if got := domain.ValidID(tt.id); got != tt.want {
			t.Errorf("%s: ValidID(%q) = %t", tt.name, tt.id, got)
		}
	}
}

func FuzzValidID(f *testing.F) {
	const id = "0190a5f0-7b1c-7def-8abc-0123456789ab"
	for _, s := range []string{id, strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""), ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := uuid.Parse(s)
		if want := err == nil && parsed.String() == s; domain.ValidID(s) != want {
			t.Errorf("ValidID(%q) = %t, want %t", s, !want, want)
		}
	})
}
