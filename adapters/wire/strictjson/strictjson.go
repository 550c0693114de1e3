// Package strictjson reads JSON from outside the way a careful service must: nothing is guessed, dropped or matched
// by another case, and what is wrong is said in words that help the sender.
package strictjson

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how deep arrays and objects may be nested, members kept as Raw included. RFC 8259 §9 leaves the bound
// to the reader. Nobody writes such documents by hand, and parsers that a payload is handed on to give up not far
// above it: Ruby's at 100, serde's at 128.
const MaxDepth = 100

// Decode reads the one JSON value that data holds into v. It returns nil, or an Invalid error with
// domain.ReasonMalformed whose message says what is wrong and where, by byte offset and JSON pointer (RFC 6901).
//
// Refused are: an empty document, anything that is not RFC 8259 JSON, invalid UTF-8, trailing data, nesting beyond
// MaxDepth, a member that v does not know or knows in another case, a member given twice, a value of the wrong type,
// and null for anything but a Raw: a member without a value is left out. After an error v holds nothing of use.
func Decode(data []byte, v any) error {
	if len(bytes.TrimLeft(data, " \t\r\n")) == 0 {
		return malformed("the document is empty where JSON is expected")
	}
	if offset := tooDeep(data); offset >= 0 {
		return malformed("arrays and objects are nested more than %d deep, at byte %d", MaxDepth, offset)
	}
	return translate(json.Unmarshal(data, v, strict))
}

// strict is made once: with each set of unmarshalers the library keeps what it has found out about types.
var strict = json.JoinOptions(json.RejectUnknownMembers(true), json.WithUnmarshalers(json.UnmarshalFromFunc(refuseNull)))

func refuseNull(d *jsontext.Decoder, v any) error {
	switch v.(type) {
	case *Raw, *jsontext.Value:
	default:
		if d.PeekKind() != jsontext.KindNull {
			break
		}
		if _, err := d.ReadToken(); err != nil { // it only begins like one
			return err
		}
		return errNull
	}
	return errors.ErrUnsupported // leave the value to the parser's own rules
}

// tooDeep returns the offset of the bracket that opens one level too many, -1 when there is none. It counts brackets
// outside strings and leaves every other check to the parser.
func tooDeep(data []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > MaxDepth {
				return i
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return -1
}

// Raw is a member that is kept byte for byte as it was sent. Syntax and UTF-8 are checked and nothing else: objects
// inside may name a member twice, and no number, string or order is rewritten. Encoding a Raw drops white space
// between its tokens, nothing else; a nil Raw is encoded as null.
type Raw []byte

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (r *Raw) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return json.UnmarshalDecode(d, (*jsontext.Value)(r), jsontext.AllowDuplicateNames(true))
}

// MarshalJSONTo implements json.MarshalerTo.
func (r Raw) MarshalJSONTo(e *jsontext.Encoder) error {
	return json.MarshalEncode(e, jsontext.Value(r), jsontext.AllowDuplicateNames(true), jsontext.PreserveRawStrings(true))
}
