package cloudevent_test

import (
	stdjson "encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
)

var update = flag.Bool("update", false, "write the golden files of the present version anew")

const (
	jobID  = "0198c0de-0000-7000-8000-000000000001"
	source = "https://jobs.example.com/"
)

var created = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)

// jobs are what the golden files of the present version were encoded from.
var jobs = map[string]domain.Job{
	"full": {
		ID: jobID, Name: "report.render", CreatedAt: created,
		Owner:       domain.Identity{Issuer: "https://login.example.com/a%7Cb|c", Subject: "auth0|5f7c%7"},
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Payload:     []byte(`{ "n": 123456789012345678901234567890.10 , "a":"\u0041\/<&>","n":1e+2, "b": [ ] }`),
	},
	"minimal":      {ID: jobID, Name: "test-job", CreatedAt: created.Truncate(time.Second)},
	"null_payload": {ID: jobID, Name: "test-job", CreatedAt: created, Payload: []byte(`null`)},
}

func TestEncodedMessagesAreGolden(t *testing.T) {
	t.Parallel()
	for name, job := range jobs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := cloudevent.Encode(job, source)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "v"+cloudevent.Schema, name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// The files of a version that was released are never written again.
func TestEveryVersionEverReleasedStaysReadable(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/v*/*.json")
	if err != nil || len(files) < len(jobs) {
		t.Fatalf("golden files %v, %v", files, err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := cloudevent.Decode(body, cloudevent.Origin{MessageID: "m", SentAt: created})
		if diff := cmp.Diff(domain.Delivery{MessageID: "m", SentAt: created, JobID: jobID}, d); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestEncodeRefusesWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*domain.Job){
		"payload":       func(j *domain.Job) { j.Payload = []byte(`{"a":}`) },
		"empty payload": func(j *domain.Job) { j.Payload = []byte{} },
		"two payloads":  func(j *domain.Job) { j.Payload = []byte(`{},"id":"x"`) },
		"UTF-8":         func(j *domain.Job) { j.Payload = []byte("\"\xff\"") },
		"owner":         func(j *domain.Job) { j.Owner.Subject = "\xff" },
	} {
		job := jobs["full"]
		change(&job)
		if body, err := cloudevent.Encode(job, source); body != nil || err == nil || domain.KindOf(err) != domain.Internal {
			t.Errorf("%s: %q, %v, want Internal", name, body, err)
		}
	}
	if n, err := cloudevent.Size(domain.Job{Owner: domain.Identity{Subject: "\xff"}}, source); n != 0 || err == nil {
		t.Errorf("Size = %d, %v, want an error", n, err)
	}
}

func TestDecodeTellsOursFromForeign(t *testing.T) {
	t.Parallel()
	from := cloudevent.Origin{Kind: "sqs", Source: "arn:aws:sqs:eu-west-1:1:q", MessageID: "m-1", SentAt: created}
	eventID := domain.EventID(from.Kind, from.Source, from.MessageID)
	foreign := func(name, payload string) domain.Delivery {
		spec := &domain.JobSpec{ID: eventID, Name: name}
		if payload != "" {
			spec.Payload = []byte(payload)
		}
		return domain.Delivery{Foreign: spec}
	}
	ours := domain.Delivery{JobID: jobID}
	tests := map[string]struct {
		body string
		want domain.Delivery
	}{
		"bare":                  {`{"name":"test-job"}`, foreign("test-job", "")},
		"bare, spaced":          {" {\n\"name\" : \"test-job\" }\r\n", foreign("test-job", "")},
		"bare with payload":     {`{"payload": {"a":1.0,"a":"\u0041"} ,"name":"a.b"}`, foreign("a.b", `{"a":1.0,"a":"\u0041"}`)},
		"bare, payload null":    {`{"name":"a","payload":null}`, foreign("a", `null`)},
		"string":                {` "test-job" `, foreign("test-job", "")},
		"ours, least":           {`{"specversion":"1.0","jobgateschema":"1","id":"` + jobID + `"}`, ours},
		"ours, further members": {`{"specversion":"1.0","jobgateschema":"1","id":"` + jobID + `","name":5,"x":{"a":1,"a":2},"data":{"b":1,"b":2}}`, ours},
	}
	for name, tt := range tests {
		tt.want.MessageID, tt.want.SentAt = from.MessageID, from.SentAt
		if diff := cmp.Diff(tt.want, cloudevent.Decode([]byte(tt.body), from)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDecodeRefusesEverythingElse(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"empty":                 ``,
		"not JSON":              `test-job`,
		"cut short":             `{"name":"a"`,
		"trailing data":         `{"name":"a"}{"name":"b"}`,
		"trailing after string": `"a" "b"`,
		"invalid UTF-8":         "{\"name\":\"a\",\"payload\":\"\xff\"}",
		"number":                `5`,
		"null":                  `null`,
		"list":                  `["test-job"]`,
		"object without name":   `{}`,
		"another case":          `{"Name":"test-job"}`,
		"invalid name":          `{"name":"no spaces"}`,
		"empty name":            `{"name":""}`,
		"null name":             `{"name":null}`,
		"empty string":          `""`,
		"name is no string":     `{"name":1}`,
		"unknown member":        `{"name":"a","user":"b"}`,
		"duplicate member":      `{"name":"a","name":"b"}`,
		"too deep":              `{"name":"a","payload":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`,
		"another's event":       `{"specversion":"1.0","id":"` + jobID + `","type":"a","source":"b"}`,
		"future schema":         `{"specversion":"1.0","jobgateschema":"2","id":"` + jobID + `"}`,
		"schema is no string":   `{"specversion":"1.0","jobgateschema":1,"id":"` + jobID + `"}`,
		"schema is null":        `{"specversion":"1.0","jobgateschema":null,"id":"` + jobID + `"}`,
		"future CloudEvents":    `{"specversion":"2.0","jobgateschema":"1","id":"` + jobID + `"}`,
		"no CloudEvents":        `{"jobgateschema":"1","id":"` + jobID + `"}`,
		"no id":                 `{"specversion":"1.0","jobgateschema":"1"}`,
		"id is no UUID":         `{"specversion":"1.0","jobgateschema":"1","id":"7"}`,
		"two ids":               `{"specversion":"1.0","jobgateschema":"1","id":"` + jobID + `","id":"` + jobID + `"}`,
	} {
		d := cloudevent.Decode([]byte(body), cloudevent.Origin{Kind: "sqs", Source: "q", MessageID: "m", SentAt: created})
		if domain.KindOf(d.Err) != domain.Invalid || domain.ReasonOf(d.Err) != domain.ReasonUndecodable {
			t.Errorf("%s: error %v, want Invalid and undecodable", name, d.Err)
		}
		if d.JobID != "" || d.Foreign != nil || d.MessageID != "m" || !d.SentAt.Equal(created) {
			t.Errorf("%s: delivery %+v", name, d)
		}
	}
}

func TestABareMessageWithoutAnIDIsRefused(t *testing.T) {
	t.Parallel()
	d := cloudevent.Decode([]byte(`{"name":"a"}`), cloudevent.Origin{Kind: "sqs", Source: "q"})
	if d.Foreign != nil || domain.ReasonOf(d.Err) != domain.ReasonUndecodable {
		t.Errorf("delivery %+v, want undecodable: every such message would be the same job", d)
	}
}

func TestWhatIsEncodedIsDecodedAndKeepsItsPayload(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		job := domain.Job{
			ID: domain.EventID("test", rapid.String().Draw(t, "id"), ""), Name: rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`).Draw(t, "name"),
			CreatedAt: time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, "created")),
			Owner:     domain.Identity{Issuer: rapid.String().Draw(t, "issuer"), Subject: rapid.String().Draw(t, "subject")},
		}
		if rapid.Bool().Draw(t, "has payload") {
			job.Payload = payload(t, 3)
		}
		body, err := cloudevent.Encode(job, source)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := cloudevent.Size(job, source); err != nil || n != len(body) {
			t.Errorf("Size = %d, %v; the message has %d bytes", n, err, len(body))
		}
		var read struct {
			ID, Type, Subject string
			Time              time.Time
			Data              stdjson.RawMessage
		}
		if err := stdjson.Unmarshal(body, &read); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if read.ID != job.ID || read.Type != job.Name || !read.Time.Equal(job.CreatedAt) || read.Subject != cloudevent.Subject(job.Owner) {
			t.Errorf("%+v became %s", job, body)
		}
		if job.Payload == nil && strings.Contains(string(body), `"data`) {
			t.Errorf("data without a payload: %s", body)
		}
		if want := strings.Trim(string(job.Payload), " \t\r\n"); string(read.Data) != want {
			t.Errorf("payload %s became %s", want, read.Data)
		}
		if d := cloudevent.Decode(body, cloudevent.Origin{}); d.Err != nil || d.JobID != job.ID || d.Foreign != nil {
			t.Errorf("delivery %+v of %s", d, body)
		}
	})
}

// payload draws JSON as a careless client writes it.
func payload(t *rapid.T, depth int) []byte {
	space := rapid.SampledFrom([]string{"", " ", "\n\t"})
	leaf := rapid.SampledFrom([]string{
		`null`, `true`, `1.0`, `-0`, `1e999`, `123456789012345678901234567890`, `""`, `"\u0041\/\ud83d\ude00"`, `"é<&>"`, `"}],\"data\":{"`,
	})
	var write func(depth int) string
	write = func(depth int) string {
		kind := rapid.IntRange(0, 2).Draw(t, "kind")
		if depth == 0 || kind == 0 {
			return space.Draw(t, "space") + leaf.Draw(t, "leaf") + space.Draw(t, "space")
		}
		var parts []string
		for range rapid.IntRange(1, 3).Draw(t, "members") {
			part := write(depth - 1)
			if kind == 1 {
				part = rapid.SampledFrom([]string{`"a":`, `"b" :`, `"id":`}).Draw(t, "name") + part
			}
			parts = append(parts, part)
		}
		open, end := "[", "]"
		if kind == 1 {
			open, end = "{", "}"
		}
		return open + strings.Join(parts, ",") + end
	}
	return []byte(write(depth))
}

func TestSubjectNamesOneOwner(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		owner domain.Identity
		want  string
	}{
		{domain.Identity{}, ""},
		{domain.Identity{Issuer: "https://issuer.example/", Subject: "auth0|5f7c"}, "https://issuer.example/|auth0|5f7c"},
		{domain.Identity{Issuer: "a|b%7C", Subject: "%|"}, "a%7Cb%257C|%|"},
		{domain.Identity{Issuer: "jwt:shared"}, "jwt:shared|"},
	} {
		if got := cloudevent.Subject(tt.owner); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.owner, got, tt.want)
		}
	}
	part := rapid.StringMatching(`[ab|%7C25]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a := domain.Identity{Issuer: part.Draw(t, "issuer a"), Subject: part.Draw(t, "subject a")}
		b := domain.Identity{Issuer: part.Draw(t, "issuer b"), Subject: part.Draw(t, "subject b")}
		if a != b && cloudevent.Subject(a) == cloudevent.Subject(b) {
			t.Errorf("%+v and %+v have the same subject", a, b)
		}
		if issuer, subject, found := strings.Cut(cloudevent.Subject(a), "|"); found {
			back := domain.Identity{Issuer: strings.NewReplacer("%7C", "|", "%25", "%").Replace(issuer), Subject: subject}
			if back != a {
				t.Errorf("%+v is read back as %+v", a, back)
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/v*/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	for _, seed := range []string{``, `"a"`, `{"name":"a","payload":[1]}`, `{"specversion":"1.0"}`, `null`, `{"jobgateschema":null}`} {
		f.Add([]byte(seed))
	}
	from := cloudevent.Origin{Kind: "sqs", Source: "q", MessageID: "m"}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := cloudevent.Decode(body, from)
		var outcomes []string
		if d.Err != nil {
			outcomes = append(outcomes, fmt.Sprint(domain.KindOf(d.Err), domain.ReasonOf(d.Err)))
			if domain.ReasonOf(d.Err) != domain.ReasonUndecodable {
				t.Errorf("reason %s, want undecodable", domain.ReasonOf(d.Err))
			}
		}
		if d.JobID != "" {
			outcomes = append(outcomes, "ours")
			if !domain.ValidID(d.JobID) {
				t.Errorf("job id %q", d.JobID)
			}
		}
		if d.Foreign != nil {
			outcomes = append(outcomes, "foreign")
			if !domain.ValidName(d.Foreign.Name) || d.Foreign.Payload != nil && !stdjson.Valid(d.Foreign.Payload) || d.Foreign.Owner != (domain.Identity{}) {
				t.Errorf("spec %+v", d.Foreign)
			}
		}
		if len(outcomes) != 1 {
			t.Errorf("a message comes to one thing, not %q", outcomes)
		}
	})
}
