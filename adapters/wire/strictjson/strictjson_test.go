package strictjson_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/adapters/wire/strictjson"
	"github.com/jobgate/jobgate/domain"
)

type document struct {
	Name    string            `json:"name"`
	Payload strictjson.Raw    `json:"payload,omitzero"`
	Limit   int               `json:"limit,omitzero"`
	Ratio   float64           `json:"ratio,omitzero"`
	Ready   bool              `json:"ready,omitzero"`
	RunAt   time.Time         `json:"run_at,omitzero"`
	Tags    []string          `json:"tags,omitzero"`
	Nested  *document         `json:"nested,omitzero"`
	Labels  map[string]string `json:"labels,omitzero"`
}

func TestDecodeRefusesWhatIsNotStrictJSON(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ data, message string }{
		"empty":                {"", "the document is empty where JSON is expected"},
		"white space":          {" \r\n\t", "the document is empty where JSON is expected"},
		"not JSON":             {"name=x", `this is not JSON: invalid character 'a' in literal null (expecting 'u'), at byte 1`},
		"cut short at null":    {`{"name":nul`, "the JSON ends too early, at byte 11"},
		"byte order mark":      {"\ufeff{}", `this is not JSON: invalid character '\ufeff' at start of value, at byte 0`},
		"cut short":            {`{"name":"x`, "the JSON ends too early, at byte 10"},
		"trailing comma":       {`{"name":"x",}`, `this is not JSON: invalid character ',' at start of value, at byte 11`},
		"trailing data":        {`{"name":"x"} {}`, `this is not JSON: invalid character '{' after top-level value, at byte 13`},
		"comment":              {`{} // done`, `this is not JSON: invalid character '/' after top-level value, at byte 3`},
		"invalid UTF-8":        {"{\"name\":\"\xff\"}", "this is not JSON: invalid UTF-8, at byte 9"},
		"invalid UTF-8 in Raw": {"{\"payload\":\"\xff\"}", "this is not JSON: invalid UTF-8, at byte 12"},
		"lone surrogate":       {`{"name":"\ud800"}`, "this is not JSON: invalid surrogate pair `\\ud800\"}` in string, at byte 9"},
		"bad Raw":              {`{"payload":{"a":01}}`, `this is not JSON: invalid character '1' after object value (expecting ',' or '}'), at byte 17`},
		"unknown member":       {`{"colour":"red"}`, `the member "/colour" is not known, at byte 1; member names are case-sensitive`},
		"another case":         {`{"NAME":"x"}`, `the member "/NAME" is not known, at byte 1; member names are case-sensitive`},
		"unknown, nested":      {`{"nested":{"x":1}}`, `the member "/nested/x" is not known, at byte 11; member names are case-sensitive`},
		"duplicate":            {`{"name":"x","name":"y"}`, `the member "/name" is given twice, at byte 12`},
		"duplicate by escape":  {`{"name":"x","n\u0061me":"y"}`, `the member "/name" is given twice, at byte 12`},
		"duplicate Raw":        {`{"payload":1,"payload":2}`, `the member "/payload" is given twice, at byte 13`},
		"duplicate, nested":    {`{"nested":{"name":"x","name":"y"}}`, `the member "/nested/name" is given twice, at byte 22`},
		"duplicate in a map":   {`{"labels":{"a":"x","a":"y"}}`, `the member "/labels/a" is given twice, at byte 19`},
		"number for string":    {`{"name":5}`, `"/name" must be a string, at byte 8`},
		"string for number":    {`{"limit":"5"}`, `"/limit" must be an integer in range, at byte 9`},
		"fraction":             {`{"limit":1.5}`, `"/limit" must be an integer in range, at byte 9`},
		"out of range":         {`{"limit":1e30}`, `"/limit" must be an integer in range, at byte 9`},
		"float out of range":   {`{"ratio":1e999}`, `"/ratio" has a value that is out of range or not of the expected form, at byte 9`},
		"string for bool":      {`{"ready":"yes"}`, `"/ready" must be true or false, at byte 9`},
		"object for array":     {`{"tags":{}}`, `"/tags" must be an array, at byte 8`},
		"array for object":     {`{"nested":[]}`, `"/nested" must be an object, at byte 10`},
		"array for document":   {`[]`, `the document must be an object, at byte 0`},
		"number for time":      {`{"run_at":5}`, `"/run_at" must be a string, at byte 10`},
		"no time":              {`{"run_at":"soon"}`, `"/run_at" has a value that is out of range or not of the expected form, at byte 10`},
		"element":              {`{"tags":["a",1]}`, `"/tags/1" must be a string, at byte 13`},
		"null":                 {`null`, "the document must not be null, at byte 0"},
		"null member":          {`{"name":null}`, `"/name" must not be null, at byte 8`},
		"null for a pointer":   {`{"nested":null}`, `"/nested" must not be null, at byte 10`},
		"null element":         {`{"tags":[null]}`, `"/tags/0" must not be null, at byte 9`},
		"too deep":             {strings.Repeat("[", 101) + strings.Repeat("]", 101), "arrays and objects are nested more than 100 deep, at byte 100"},
		"Raw too deep":         {`{"payload":` + strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100) + `}`, "arrays and objects are nested more than 100 deep, at byte 110"},
		"far too deep":         {strings.Repeat(`{"a":`, 1e6), "arrays and objects are nested more than 100 deep, at byte 500"},
		"long name":            {`{"` + strings.Repeat("x", 1000) + `":1}`, `the member "/` + strings.Repeat("x", 99) + `"… is not known, at byte 1; member names are case-sensitive`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := strictjson.Decode([]byte(tt.data), &document{})
			e, ok := errors.AsType[*domain.Error](err)
			if !ok || e.Kind != domain.Invalid || e.Reason != domain.ReasonMalformed {
				t.Fatalf("error %v, want Invalid and malformed", err)
			}
			if e.Message != tt.message {
				t.Errorf("message\n\t%s\nwant\n\t%s", e.Message, tt.message)
			}
		})
	}
}

func TestDecodeReadsTheDocument(t *testing.T) {
	t.Parallel()
	var got document
	data := ` {"name":"\u0061","limit":3,"ready":true,"tags":["[[","\"{"],"run_at":"2026-01-02T03:04:05Z","nested":{"name":"b"}} `
	if err := strictjson.Decode([]byte(data), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "a" || got.Limit != 3 || !got.Ready || got.RunAt.Year() != 2026 || got.Nested.Name != "b" || got.Payload != nil {
		t.Errorf("got %+v", got)
	}
}

func TestDecodeAcceptsTheDeepestNesting(t *testing.T) {
	t.Parallel()
	data := `{"payload":` + strings.Repeat("[", 99) + `"[[\"[["` + strings.Repeat("]", 99) + `}`
	if err := strictjson.Decode([]byte(data), &document{}); err != nil {
		t.Error(err)
	}
}

func TestRawIsKeptAsSent(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		`null`, `true`, `"\u0041\/é"`, `1.0e+2`, `123456789012345678901234567890.10`, `-0`,
		`{ "b" : 1 , "a" : [ ] , "b" : { "x":1,"x":2 } }`, "[\n\t1 ]",
	} {
		var got document
		if err := strictjson.Decode([]byte(`{"payload":  `+raw+`  ,"name":"x"}`), &got); err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if string(got.Payload) != raw {
			t.Errorf("kept %s, want %s", got.Payload, raw)
		}
	}
}

func TestRawDoesNotAliasItsInput(t *testing.T) {
	t.Parallel()
	data := []byte(`{"payload":"abc"}`)
	var got document
	if err := strictjson.Decode(data, &got); err != nil {
		t.Fatal(err)
	}
	clear(data)
	if string(got.Payload) != `"abc"` {
		t.Errorf("the kept member changed with its input: %q", got.Payload)
	}
}

func TestRawIsEncodedWithoutRewriting(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"b":1.50,"a":"\u0041\/","b":1e2}`:      `{"name":"x","payload":{"b":1.50,"a":"\u0041\/","b":1e2}}`,
		`{ "a" : [ 1 , 123456789012345678901 ]}`: `{"name":"x","payload":{"a":[1,123456789012345678901]}}`,
		"":                                       `{"name":"x"}`,
	} {
		doc := document{Name: "x"}
		if raw != "" {
			doc.Payload = strictjson.Raw(raw)
		}
		got, err := jsonv2.Marshal(doc)
		if err != nil || string(got) != want {
			t.Errorf("encoded %s, %v, want %s", got, err, want)
		}
	}
	if got, err := jsonv2.Marshal(strictjson.Raw(nil)); err != nil || string(got) != "null" {
		t.Errorf("a nil Raw is encoded as %s, %v, want null", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"name":"x","payload":{"a":1,"a":2}}`, `{"NAME":"x"}`, `[[]]`, `null`, `"\ud800"`, "\xff", `{"tags":["a"]} x`,
		`{"run_at":"2026-01-02T03:04:05Z","nested":{"labels":{"a":"b"}}}`, `{"payload":1e999,"ratio":1e999}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var doc document
		var raw strictjson.Raw
		for _, v := range []any{&doc, &raw} {
			if err := strictjson.Decode(data, v); err == nil {
				if !json.Valid(data) {
					t.Errorf("accepted as %T what is not JSON: %q", v, data)
				}
			} else if domain.KindOf(err) != domain.Invalid || domain.ReasonOf(err) != domain.ReasonMalformed {
				t.Errorf("error %v, want Invalid and malformed", err)
			}
		}
		if raw != nil && !json.Valid(raw) {
			t.Errorf("kept what is not JSON: %q", raw)
		}
	})
}
