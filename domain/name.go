package domain

import "strings"

// MaxNameLength is the longest job name, in bytes.
const MaxNameLength = 128

// ValidName reports whether name is a job name: ^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$.
func ValidName(name string) bool {
	if name == "" || len(name) > MaxNameLength {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !isAlphanumeric(c) && (i == 0 || !strings.ContainsRune("._:-", rune(c))) {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// ValidNamePattern reports whether pattern can match a job name: a name, or a name's beginning (possibly empty)
// followed by one "*".
func ValidNamePattern(pattern string) bool {
	prefix, wild := strings.CutSuffix(pattern, "*")
	if !wild {
		return ValidName(pattern)
	}
	return prefix == "" || ValidName(prefix)
}

// MatchName returns how specifically pattern matches name: -1 not at all, else the greater the more specific. A
// pattern is a name, or a beginning followed by "*" ("report.*", or "*" for every name).
func MatchName(pattern, name string) int {
	prefix, wild := strings.CutSuffix(pattern, "*")
	switch {
	case !wild && pattern == name:
		return MaxNameLength + 1
	case wild && strings.HasPrefix(name, prefix):
		return len(prefix)
	default:
		return -1
	}
}
