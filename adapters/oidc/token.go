package oidc

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/adapters/wire/plainjson"
	"github.com/jobgate/jobgate/domain"
)

// A token is a JWS in compact serialisation (RFC 7515 §7.1), decoded and not yet believed.
type token struct {
	header    object
	alg       []byte
	kid       []byte // empty: none, which an empty one is taken for
	typ       string
	hasType   bool
	claims    object
	signed    string // what the signature is over
	signature []byte
}

// base64url is that of RFC 7515 §2, without padding and with nothing in the bits that no byte needs.
var base64url = base64.RawURLEncoding.Strict()

func malformed(why string) error { return refused(domain.ReasonInvalidToken, "%s", why) }

// A scratch is what a token is taken apart in. Whatever outlives the examination of the token is a copy.
type scratch struct {
	text    []byte // of all parts, decoded
	members object
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// decode takes raw apart into header, claims and signature. Its errors are *domain.Error, as are those of all that
// follows.
func (s *scratch) decode(raw string) (parts [3][]byte, err error) {
	if strings.Count(raw, ".") != 2 {
		return parts, malformed("the token has not three parts")
	}
	first, last := strings.IndexByte(raw, '.'), strings.LastIndexByte(raw, '.')
	// Go's decoder skips line ends, which RFC 7515 §2 does not allow.
	if strings.IndexByte(raw, '\r') >= 0 || strings.IndexByte(raw, '\n') >= 0 {
		return parts, malformed("the token has line ends in it")
	}
	buf := slices.Grow(s.text[:0], len(raw))
	s.text = buf
	for i, encoded := range [3]string{raw[:first], raw[first+1 : last], raw[last+1:]} {
		start := len(buf)
		if buf, err = base64url.AppendDecode(buf, []byte(encoded)); err != nil {
			return parts, malformed("a part of the token is not base64url (RFC 7515 §2)")
		}
		parts[i] = buf[start:len(buf):len(buf)]
	}
	return parts, nil
}

func (s *scratch) readHeader(t *token, text []byte) (err error) {
	if t.header, err = s.parseObject(text); err != nil {
		return malformed("the header is not one JSON object with members of different names")
	}
	var hasAlg bool
	if t.alg, hasAlg, err = t.header.characters("alg"); err != nil || !hasAlg {
		return malformed("the header has no alg, or not as a string (RFC 7515 §4.1.1)")
	}
	if t.kid, _, err = t.header.characters("kid"); err != nil {
		return malformed("kid is not a string (RFC 7515 §4.1.4)")
	}
	t.typ, t.hasType, _ = t.header.text("typ") // one that is no string comes out empty, which no accepted type is
	return nil
}

// checkExtensions refuses a header that asks for more than RFC 7515.
func (t *token) checkExtensions() error {
	// No extension is understood, so that a crit header either names one that is not or breaks RFC 7515 §4.1.11.
	if _, ok := t.header.get("crit"); ok {
		return malformed("the header names critical extensions")
	}
	// RFC 7797: an unencoded payload, which must not be used with JWTs (§7).
	if b64, ok := t.header.get("b64"); ok && string(b64) != "true" {
		return malformed("the payload is not base64url encoded")
	}
	return nil
}

func (s *scratch) readClaims(t *token, text []byte) (err error) {
	if t.claims, err = s.parseObject(text); err != nil {
		return malformed("the claims are not one JSON object with members of different names")
	}
	return nil
}

// An object is a JSON object whose values are left as they were written. It refers to the text it was parsed from.
type object []plainjson.Member

// decoders keep what they need to find names that come twice.
var decoders = sync.Pool{New: func() any { return jsontext.NewDecoder(new(bytes.Buffer)) }}

// parseObject parses exactly one JSON object: RFC 7493, and so no two members of one name at any depth and no invalid
// UTF-8.
func (s *scratch) parseObject(text []byte) (object, error) {
	before := len(s.members)
	members, plain := plainjson.Members(s.members, text)
	if !plain {
		return parseAny(text)
	}
	s.members = members
	return members[before:len(members):len(members)], nil
}

// parseAny is parseObject for those that are not plain, and has the last word on them.
func parseAny(text []byte) (object, error) {
	dec, _ := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(dec)
	dec.Reset(bytes.NewBuffer(text)) // which reads the text itself, and no copy
	if dec.PeekKind() != '{' {
		return nil, errors.New("no object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	next := func() (jsontext.Value, error) {
		v, err := dec.ReadValue()
		end := dec.InputOffset()
		return text[end-int64(len(v)) : end : end], err
	}
	o := make(object, 0, 16)
	for dec.PeekKind() != '}' {
		quoted, err := next()
		if err != nil {
			return nil, err
		}
		name, err := unquote(quoted)
		if err != nil {
			return nil, err
		}
		value, err := next()
		if err != nil {
			return nil, err
		}
		o = append(o, plainjson.Member{Name: name, Value: value})
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return o, nil
}

// unquote returns what the JSON string says, in place when it has no escapes.
func unquote(quoted []byte) ([]byte, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], nil
	}
	return jsontext.AppendUnquote(nil, quoted)
}

// get returns the member's value. Names are case-sensitive (RFC 7519 §4).
func (o object) get(name string) (jsontext.Value, bool) {
	for _, m := range o {
		if string(m.Name) == name {
			return m.Value, true
		}
	}
	return nil, false
}

// text returns the value of a member that must be a string where it is present. Its error is a *domain.Error.
func (o object) text(name string) (value string, present bool, err error) {
	s, present, err := o.characters(name)
	return string(s), present, err
}

// characters is text without a copy where there need not be one.
func (o object) characters(name string) (value []byte, present bool, err error) {
	v, ok := o.get(name)
	if !ok {
		return nil, false, nil
	}
	value, ok = characters(v)
	if !ok {
		return nil, true, refused(domain.ReasonInvalidClaims, "%s is not a string", name)
	}
	return value, true, nil
}

// text returns what v says if it is a string.
func text(v jsontext.Value) (string, bool) {
	s, ok := characters(v)
	return string(s), ok
}

// characters is text without a copy where there need not be one.
func characters(v jsontext.Value) ([]byte, bool) {
	if v.Kind() != '"' {
		return nil, false
	}
	s, err := unquote(v)
	return s, err == nil
}
