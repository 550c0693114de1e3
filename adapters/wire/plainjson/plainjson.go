// Package plainjson takes apart JSON objects of the plain kind that machines write to machines, in one pass and without
// allocating. It never judges a text: what is not plain is left to a full parser, which may accept it or refuse it. So
// whoever asks both, this package first, accepts and refuses the very texts that the full parser does.
package plainjson

import (
	"bytes"
	"encoding/binary"
)

// A Member is a member of an object. Both parts are of the text that was read.
type Member struct {
	Name  []byte
	Value []byte // as it was written: a string with its quotes
}

// The bounds of what is plain. Names are compared with one another, so that their number is bounded as is the depth.
const (
	maxMembers = 32
	maxDepth   = 8
)

// Members appends to room, which may be nil, the members of the object that text is, and reports whether it is plain:
// JSON (RFC 8259) without escapes, of ASCII only, with integers as its only numbers, and with no two members of one name
// in any object. It may hold at most 32 members in an object, and objects and arrays 8 deep.
func Members(room []Member, text []byte) (members []Member, plain bool) {
	p := parser{text}
	i := p.space(0)
	if !p.is(i, '{') {
		return room, false
	}
	members, i = p.object(room[len(room):], i, maxDepth)
	if i == 0 || p.space(i) != len(text) {
		return room, false
	}
	return append(room, members...), true // which are there already, where they had the room
}

// Text returns what the value says if it is a string. It may be asked of a Value of Members only.
func Text(value []byte) (text []byte, ok bool) {
	if value[0] != '"' {
		return nil, false
	}
	return value[1 : len(value)-1], true
}

// A parser's methods are given where in the text something begins and return where it ends: 0 when it is not plain.
type parser struct{ text []byte }

// object appends the members of the object that begins at i to members, which is empty and may have room.
func (p parser) object(members []Member, i, depth int) ([]Member, int) {
	if i = p.space(i + 1); p.is(i, '}') {
		return members, i + 1
	}
	for {
		if len(members) == maxMembers || !p.is(i, '"') {
			return nil, 0
		}
		start := i
		if i = p.string(i); i == 0 {
			return nil, 0
		}
		name := p.text[start+1 : i-1 : i-1]
		for _, m := range members {
			if bytes.Equal(m.Name, name) {
				return nil, 0
			}
		}
		if i = p.space(i); !p.is(i, ':') {
			return nil, 0
		}
		start = p.space(i + 1)
		if i = p.value(members, start, depth); i == 0 {
			return nil, 0
		}
		members = append(members, Member{name, p.text[start:i:i]})
		switch i = p.space(i); {
		case p.is(i, '}'):
			return members, i + 1
		case !p.is(i, ','):
			return nil, 0
		}
		i = p.space(i + 1)
	}
}

func (p parser) array(members []Member, i, depth int) int {
	if i = p.space(i + 1); p.is(i, ']') {
		return i + 1
	}
	for {
		if i = p.value(members, i, depth); i == 0 {
			return 0
		}
		switch i = p.space(i); {
		case p.is(i, ']'):
			return i + 1
		case !p.is(i, ','):
			return 0
		}
		i = p.space(i + 1)
	}
}

// value uses the room behind members for those of an object in it.
func (p parser) value(members []Member, i, depth int) int {
	if i == len(p.text) {
		return 0
	}
	switch c := p.text[i]; c {
	case '"':
		return p.string(i)
	case '{', '[':
		if depth--; depth == 0 {
			return 0
		}
		if c == '[' {
			return p.array(members, i, depth)
		}
		_, i = p.object(members[len(members):], i, depth)
		return i
	case 't':
		return p.literal(i, "true")
	case 'f':
		return p.literal(i, "false")
	case 'n':
		return p.literal(i, "null")
	default:
		return p.integer(i)
	}
}

func (p parser) string(i int) int {
	i++
	// Eight bytes at a time, as long as none of them ends the string or is not plain.
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(p.text); i += 8 {
		x := binary.LittleEndian.Uint64(p.text[i:])
		quote, escape := x^('"'*ones), x^('\\'*ones)
		// In each sum a byte has its high bit when it was below what is taken away, or when one before it was.
		if (x|(x-' '*ones)|(quote-ones)|(escape-ones))&highs != 0 {
			break
		}
	}
	for ; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			return i + 1
		case c < ' ' || c == '\\' || c >= 0x80:
			return 0
		}
	}
	return 0
}

// integer ends where the digits do. What follows is for the caller to know, or not: a fraction, an exponent and a digit
// after a leading zero are nothing that a value may be followed by.
func (p parser) integer(i int) int {
	if p.is(i, '-') {
		i++
	}
	first := i
	for i < len(p.text) && '0' <= p.text[i] && p.text[i] <= '9' {
		i++
	}
	if i == first || p.text[first] == '0' && i > first+1 {
		return 0
	}
	return i
}

func (p parser) literal(i int, want string) int {
	if end := i + len(want); end <= len(p.text) && string(p.text[i:end]) == want {
		return end
	}
	return 0
}

// space returns where the white space that begins at i ends: at i when there is none.
func (p parser) space(i int) int {
	for i < len(p.text) && (p.text[i] == ' ' || p.text[i] == '\t' || p.text[i] == '\n' || p.text[i] == '\r') {
		i++
	}
	return i
}

func (p parser) is(i int, c byte) bool { return i < len(p.text) && p.text[i] == c }
