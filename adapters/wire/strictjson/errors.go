package strictjson

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/domain"
)

var errNull = errors.New("null")

// malformed has no cause: the parser's error quotes values, which belong in no log.
func malformed(format string, args ...any) error {
	return domain.Errorf(domain.Invalid, domain.ReasonMalformed, format, args...)
}

// translate puts the parser's error into words for the sender of the document, who knows nothing of Go.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		switch {
		case errors.Is(e, jsontext.ErrDuplicateName):
			return malformed("the member %s is given twice, at byte %d", name(e.JSONPointer), e.ByteOffset)
		case errors.Is(e, io.ErrUnexpectedEOF):
			return malformed("the JSON ends too early, at byte %d", e.ByteOffset)
		default:
			// The parser's text names the offending characters and the grammar's expectation.
			return malformed("this is not JSON: %v, at byte %d", e.Err, e.ByteOffset)
		}
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		switch {
		case errors.Is(e, json.ErrUnknownName):
			return malformed("the member %s is not known, at byte %d; member names are case-sensitive", name(e.JSONPointer), e.ByteOffset)
		case errors.Is(e, errNull):
			return malformed("%s must not be null, at byte %d", name(e.JSONPointer), e.ByteOffset)
		default:
			return malformed("%s %s, at byte %d", name(e.JSONPointer), expected(e), e.ByteOffset)
		}
	}
	return malformed("this JSON cannot be read")
}

// name is a member's JSON pointer as a message shows it: bounded, and quoted because its sender chose it.
func name(p jsontext.Pointer) string {
	const most = 100
	switch {
	case p == "":
		return "the document"
	case len(p) > most:
		return fmt.Sprintf("%.*q…", most, string(p))
	default:
		return fmt.Sprintf("%q", string(p))
	}
}

// expected says what a value of the wrong type should have been.
func expected(e *json.SemanticError) string {
	const wrongForm = "has a value that is out of range or not of the expected form"
	if e.GoType == nil {
		return wrongForm
	}
	want, kind := "", jsontext.Kind(0)
	switch t := e.GoType; {
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		want, kind = "a string", jsontext.KindString
	default:
		switch t.Kind() {
		case reflect.String:
			want, kind = "a string", jsontext.KindString
		case reflect.Bool:
			want = "true or false"
		case reflect.Struct, reflect.Map:
			want, kind = "an object", jsontext.KindBeginObject
		case reflect.Slice, reflect.Array:
			want, kind = "an array", jsontext.KindBeginArray
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
			reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			want = "an integer in range"
		case reflect.Float32, reflect.Float64:
			want, kind = "a number", jsontext.KindNumber
		}
	}
	if want == "" || e.JSONKind == kind {
		return wrongForm
	}
	return "must be " + want
}
