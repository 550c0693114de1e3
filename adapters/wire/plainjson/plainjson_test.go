package plainjson_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/wire/plainjson"
)

// full takes an object apart with a full parser: RFC 8259 and RFC 7493.
func full(text []byte) (members []string, err error) {
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	if start, err := dec.ReadToken(); err != nil || start.Kind() != '{' {
		return nil, fmt.Errorf("no object: %w", err)
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		member := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		members = append(members, member+"="+string(value))
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows: %w", err)
	}
	return members, nil
}

// agree fails the test where what is plain is anything else to a full parser, and returns whether it is plain.
func agree(t *testing.T, text []byte) bool {
	t.Helper()
	before := bytes.Clone(text)
	members, plain := plainjson.Members(nil, text)
	if !bytes.Equal(text, before) {
		t.Fatalf("%q has become %q", before, text)
	}
	if !plain {
		if members != nil {
			t.Errorf("%q is not plain and has the members %q", text, members)
		}
		return false
	}
	want, err := full(text)
	if err != nil {
		t.Fatalf("%q is plain, and a full parser refuses it: %v", text, err)
	}
	var got []string
	for _, m := range members {
		got = append(got, string(m.Name)+"="+string(m.Value))
		said, ok := plainjson.Text(m.Value)
		if quoted := m.Value[0] == '"'; ok != quoted || ok && string(m.Value) != `"`+string(said)+`"` {
			t.Errorf("%q: the text of %q is %q, %t", text, m.Value, said, ok)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%q (-full parser +got):\n%s", text, diff)
	}
	return true
}

func TestPlainObjectsAreTakenApart(t *testing.T) {
	t.Parallel()
	many := make([]string, 32)
	for i := range many {
		many[i] = fmt.Sprintf(`"m%d":%d`, i, i)
	}
	for _, text := range []string{
		`{}`, ` { } `, "\t{\r\n}\n", `{"":""}`, `{"a":1}`, `{"a":-1,"b":0,"c":-0,"d":10203}`, `{"a":true,"b":false,"c":null}`,
		`{"a":[],"b":[1],"c":["x",2,[3],{"d":4}],"e":{},"f":{"g":{"h":[]}}}`, "{ \"a\" :\t1 ,\n\"b\" : [ 1 , 2 ] }",
		`{"a":{"x":1},"b":{"x":1},"x":1}`, `{"x":{"x":{"x":1}}}`, `{"a":1,"A":2,"a ":3}`,
		`{"all":" !#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_` + "`" + `abcdefghijklmnopqrstuvwxyz{|}~` + "\x7f" + `"}`,
		`{` + strings.Join(many, ",") + `}`, `{"a":{` + strings.Join(many, ",") + `},"b":{` + strings.Join(many, ",") + `}}`,
		`{"a":` + strings.Repeat("[", 7) + strings.Repeat("]", 7) + `}`,
		`{"a":` + strings.Repeat(`{"a":`, 7) + `1` + strings.Repeat("}", 8),
	} {
		if !agree(t, []byte(text)) {
			t.Errorf("%s is not plain", text)
		}
	}
	// Wherever a string ends, and whatever follows.
	for n := range 40 {
		for _, end := range []string{`"}`, `","b":"` + strings.Repeat("y", n) + `"}`, `"` + strings.Repeat(" ", n) + `}`} {
			if text := `{"a":"` + strings.Repeat("x", n) + end; !agree(t, []byte(text)) {
				t.Errorf("%s is not plain", text)
			}
		}
	}
}

func TestWhatAFullParserRefusesIsNotPlain(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, ` `, `{`, `}`, `[]`, `1`, `"a"`, `null`, `{}{}`, `{},`, `{} x`, "{}\x00", "\ufeff{}", "{}\v", "\u00a0{}",
		`{"a"}`, `{"a":}`, `{"a",1}`, `{"a":1,}`, `{,"a":1}`, `{"a":1,,"b":2}`, `{"a":1 "b":2}`, `{a:1}`, `{'a':1}`, `{1:1}`, `{null:1}`,
		`{"a":1`, `{"a":`, `{"a`, `{"a":"`, `{"a":"b`, `{"a":"b"`, `{"a":1,`, `{"a":[`, `{"a":[1`, `{"a":[1,`, `{"a":{`, `{"a":{"b":1}`,
		`{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[1}`, `{"a":{"b":1]}`, `{"a":1]`,
		`{"a":1,"a":1}`, `{"a":1,"b":2,"a":3}`, `{"":1,"":2}`, `{"x":{"a":1,"a":2}}`, `{"x":[{"a":1,"a":2}]}`, `{"x":{"y":{"a":1,"b":2,"a":3}}}`,
		`{"a":01}`, `{"a":-01}`, `{"a":00}`, `{"a":-}`, `{"a":+1}`, `{"a":1.}`, `{"a":.5}`, `{"a":1e}`, `{"a":0x1}`, `{"a":1_0}`, `{"a":--1}`, `{"a":1-}`,
		`{"a":tru}`, `{"a":True}`, `{"a":truee}`, `{"a":nul}`, `{"a":NaN}`, `{"a":Infinity}`, `{"a":undefined}`, `{"a":fals`, `{"a":t`, `{"a":t}`,
		`{"a":1/**/}`, `{"a":1}//`, `#{"a":1}`,
	} {
		if agree(t, []byte(text)) {
			t.Errorf("%q is plain", text)
		}
		if _, err := full([]byte(text)); err == nil {
			t.Errorf("%q is JSON to a full parser", text)
		}
	}
	// No string holds a control character or what is no UTF-8, at any place of it.
	for _, bad := range []string{"\x00", "\x1f", "\n", "\t", "\xff", "\x80", "\xc3", "\xed\xa0\x80"} {
		for n := range 20 {
			for _, text := range []string{
				`{"a":"` + strings.Repeat("x", n) + bad + strings.Repeat("x", 19-n) + `"}`,
				`{"` + strings.Repeat("x", n) + bad + strings.Repeat("x", 19-n) + `":1}`,
			} {
				if agree(t, []byte(text)) {
					t.Errorf("%q is plain", text)
				}
			}
		}
	}
}

func TestWhatTakesAFullParserIsLeftToIt(t *testing.T) {
	t.Parallel()
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprintf(`"m%d":%d`, i, i)
	}
	for name, text := range map[string]string{
		"an escape":             `{"a":"\""}`,
		"an escape in a name":   `{"\u0061":1}`,
		"names that are alike":  `{"a":"x","\u0061":1}`,
		"more than ASCII":       `{"a":"é"}`,
		"a fraction":            `{"a":1.5}`,
		"an exponent":           `{"a":1e3}`,
		"many members":          `{` + strings.Join(many, ",") + `}`,
		"many members, further": `{"a":{` + strings.Join(many, ",") + `}}`,
		"depth, of arrays":      `{"a":` + strings.Repeat("[", 8) + strings.Repeat("]", 8) + `}`,
		"depth, of objects":     `{"a":` + strings.Repeat(`{"a":`, 8) + `1` + strings.Repeat("}", 9),
		"much depth":            `{"a":` + strings.Repeat("[", 100_000),
	} {
		if agree(t, []byte(text)) {
			t.Errorf("%s is plain", name)
		}
	}
}

func TestMembersAreAppended(t *testing.T) {
	t.Parallel()
	room := make([]plainjson.Member, 1, 8)
	room[0] = plainjson.Member{Name: []byte("a"), Value: []byte("0")}
	members, plain := plainjson.Members(room, []byte(`{"a":{"b":1,"c":2},"d":3}`))
	if !plain || len(members) != 3 || &members[0] != &room[0] || string(members[1].Value) != `{"b":1,"c":2}` || string(members[2].Name) != "d" {
		t.Errorf("got %q, %t", members, plain)
	}
	if members, plain = plainjson.Members(room, []byte(`{"d":3,`)); plain || len(members) != 1 {
		t.Errorf("got %q, %t", members, plain)
	}
}

//nolint:paralleltest // allocations of other tests would count
func TestMembersAllocatesNothing(t *testing.T) {
	text := []byte(`{"iss":"https://issuer.example","aud":["a","b"],"realm_access":{"roles":["x"]},"exp":1800000000}`)
	if n := testing.AllocsPerRun(100, func() {
		var room [8]plainjson.Member
		if members, plain := plainjson.Members(room[:0], text); !plain || len(members) != 4 {
			t.Error("not as expected")
		}
	}); n != 0 {
		t.Errorf("allocates %v times", n)
	}
}

// What is plain is to a full parser the very same, and every part of it lies in the text.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, ` {"a" : [1, "b", {"c":null}], "d":-12 } `, `{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `{"a":"\u0041"}`, `{"a":01}`, `{"a":1.0e5}`,
		`{"iss":"https://issuer.example","aud":"jobs","exp":1800000000,"scope":"jobs:submit jobs:read"}`, `{"alg":"RS256","typ":"JWT","kid":"k"}`,
		`{"type":"TOKEN","methodArn":"arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/GET/jobs","authorizationToken":"Bearer x"}`,
		"{\"a\":\"é\"}", "{\"a\":\"\xff\"}", `{"12345678":"123456789012345`, `{"1234567":"1234567\n"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) { agree(t, text) })
}
