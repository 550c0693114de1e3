package httpapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/httpapi"
	"github.com/jobgate/jobgate/domain"
)

// post is a submission by alice.
func post(body string) call {
	return call{method: http.MethodPost, path: "/jobs", token: "alice", body: body}
}

func with(c call, name string, values ...string) call {
	c.header = http.Header{name: values}
	return c
}

func TestSubmitStoresAndDispatchesTheJob(t *testing.T) {
	t.Parallel()
	s := newService()
	a := s.do(t, post(`{"name":"test-job"}`))
	job := decode[jobDocument](t, a.body)
	if a.status != http.StatusCreated || a.header.Get("Location") != "/jobs/"+jobID(1) || a.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("answer %d %v", a.status, a.header)
	}
	if job.ID != jobID(1) || job.Name != "test-job" || job.Status != domain.Queued || job.Owner.Subject != "alice" || job.Payload != nil {
		t.Errorf("job %s", a.body)
	}
	stored := s.stored(t)
	if len(stored) != 1 || stored[0].ID != job.ID || stored[0].Owner != callers["alice"].Identity || stored[0].Payload != nil || s.dispatcher.dispatched != 1 {
		t.Errorf("stored %+v, dispatched %d", stored, s.dispatcher.dispatched)
	}
	if got := s.do(t, call{method: http.MethodGet, path: a.header.Get("Location"), token: "alice"}); !bytes.Equal(got.body, a.body) {
		t.Errorf("Location has %s, the answer was %s", got.body, a.body)
	}
}

func TestLocationHasThePrefixInFront(t *testing.T) {
	t.Parallel()
	s := newService(func(s *service) { s.Prefix = func(*http.Request) string { return "/prod" } })
	if a := s.do(t, post(`{"name":"test-job"}`)); a.header.Get("Location") != "/prod/jobs/"+jobID(1) {
		t.Errorf("Location %q", a.header.Get("Location"))
	}
}

func TestPayloadIsKeptByteForByte(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		`null`, `true`, `0`, `""`, `[]`, `{}`, `-0`, `1E400`, `1.10`, `12345678901234567890123`,
		"{ \"b\" :\t1,\r\n \"a\" : [ 2 , 3 ] }", `{"a":1,"a":2}`, `"\u0041\/<&>` + "\u2028\u007f" + `é"`, `{"payload":{"output":null}}`,
	} {
		s := newService()
		a := s.do(t, post(`{"payload" : `+payload+` ,"name":"test-job"}`))
		if a.status != http.StatusCreated {
			t.Errorf("%s: answer %d %s", payload, a.status, a.body)
			continue
		}
		if got := s.stored(t)[0].Payload; string(got) != payload {
			t.Errorf("stored %q, sent %q", got, payload)
		}
		get := s.do(t, call{method: http.MethodGet, path: "/jobs/" + jobID(1), token: "alice"})
		if !bytes.HasSuffix(a.body, []byte(`,"payload":`+payload+`}`)) || !bytes.Equal(a.body, get.body) {
			t.Errorf("answers %q and %q, sent %q", a.body, get.body, payload)
		}
	}
}

func TestSubmitReadsWhenTheJobIsDue(t *testing.T) {
	t.Parallel()
	for member, want := range map[string]time.Time{
		`"delay":"0s"`:                              start,
		`"delay":"90s"`:                             start.Add(90 * time.Second),
		`"delay":"1h30m"`:                           start.Add(90 * time.Minute),
		`"delay":"0.5h"`:                            start.Add(30 * time.Minute),
		`"delay":"720h"`:                            start.Add(30 * 24 * time.Hour),
		`"run_at":"2026-01-02T16:00:00Z"`:           time.Date(2026, 1, 2, 16, 0, 0, 0, time.UTC),
		`"run_at":"2020-01-02T16:00:00Z"`:           start,
		`"run_at":"0001-01-01T00:00:00Z"`:           start,
		`"run_at":"2026-01-03T00:00:00.1239+09:00"`: time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC), // past
		`"run_at":"2026-01-03T01:00:00.1239+09:00"`: time.Date(2026, 1, 2, 16, 0, 0, 123e6, time.UTC),
	} {
		s := newService()
		job := s.accepted(t, post(`{"name":"test-job",`+member+`}`), http.StatusCreated)
		if want.Before(start) {
			want = start
		}
		if got := job.DueAt; got != want.Format("2006-01-02T15:04:05.000Z") {
			t.Errorf("%s: due at %s, want %s", member, got, want)
		}
		if now := !want.After(start); now != (s.dispatcher.dispatched == 1) {
			t.Errorf("%s: dispatched %d times", member, s.dispatcher.dispatched)
		}
	}
}

func TestSubmitNamesEachInvalidMember(t *testing.T) {
	t.Parallel()
	for body, pointers := range map[string][]string{
		`{}`:                 {"/name"},
		`{"payload":1}`:      {"/name"},
		`{"name":""}`:        {"/name"},
		`{"name":"a b"}`:     {"/name"},
		`{"name":".a"}`:      {"/name"},
		`{"name":"größe"}`:   {"/name"},
		`{"name":"a\u0000"}`: {"/name"},
		`{"name":"` + strings.Repeat("a", 129) + `"}`:               {"/name"},
		`{"name":"a","delay":""}`:                                   {"/delay"},
		`{"name":"a","delay":"90"}`:                                 {"/delay"},
		`{"name":"a","delay":"PT90S"}`:                              {"/delay"},
		`{"name":"a","delay":"+1s"}`:                                {"/delay"},
		`{"name":"a","delay":"0"}`:                                  {"/delay"},
		`{"name":"a","delay":"1us"}`:                                {"/delay"},
		`{"name":"a","delay":".5s"}`:                                {"/delay"},
		`{"name":"a","delay":"1 s"}`:                                {"/delay"},
		`{"name":"a","delay":"-1s"}`:                                {"/delay"},
		`{"name":"a","delay":"720h1s"}`:                             {"/delay"},
		`{"name":"a","delay":"99999999h"}`:                          {"/delay"},
		`{"name":"a","run_at":""}`:                                  {"/run_at"},
		`{"name":"a","run_at":"tomorrow"}`:                          {"/run_at"},
		`{"name":"a","run_at":"2026-01-02"}`:                        {"/run_at"},
		`{"name":"a","run_at":"2026-01-02T16:00:00"}`:               {"/run_at"},
		`{"name":"a","run_at":"2026-01-02T6:00:00Z"}`:               {"/run_at"},
		`{"name":"a","run_at":"2026-01-02T16:00:00,5Z"}`:            {"/run_at"},
		`{"name":"a","run_at":"2026-02-30T16:00:00Z"}`:              {"/run_at"},
		`{"name":"a","run_at":"2026-03-02T16:00:00Z"}`:              {"/run_at"},
		`{"name":"a","delay":"0s","run_at":"2026-01-02T16:00:00Z"}`: {"/delay"},
		`{"name":"a","delay":"soon","run_at":"later"}`:              {"/delay", "/run_at", "/delay"},
		`{"name":"","delay":"1000h"}`:                               {"/name", "/delay"},
	} {
		s := newService()
		var got []string
		for _, e := range s.refused(t, post(body), http.StatusUnprocessableEntity, domain.ReasonInvalidFields).Errors {
			got = append(got, e.Pointer)
		}
		if fmt.Sprint(got) != fmt.Sprint(pointers) {
			t.Errorf("%s: wrong are %v, want %v", body, got, pointers)
		}
		untouched(t, s)
	}
}

// untouched fails the test when anything was stored or dispatched.
func untouched(t testing.TB, s *service) {
	t.Helper()
	if n := len(s.stored(t)); n != 0 || s.dispatcher.dispatched != 0 {
		t.Errorf("%d jobs stored, %d dispatched", n, s.dispatcher.dispatched)
	}
}

func TestBadInputIsRefusedAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	const good = `{"name":"test-job"}`
	large := `{"name":"test-job","payload":"` + strings.Repeat("x", 240<<10) + `"}`
	unsaid := func(body string) call {
		c := post("")
		c.reader = io.MultiReader(strings.NewReader(body)) // hides the length
		return c
	}
	tests := map[string]struct {
		call   call
		status int
		code   domain.Reason
	}{
		"no body":                    {post(""), 400, domain.ReasonMalformed},
		"no body, length unsaid":     {unsaid(""), 400, domain.ReasonMalformed},
		"white space":                {post(" \n"), 400, domain.ReasonMalformed},
		"malformed JSON":             {post(`{"name":"test-job"`), 400, domain.ReasonMalformed},
		"no JSON":                    {post(`name=test-job`), 400, domain.ReasonMalformed},
		"a byte order mark":          {post("\ufeff" + good), 400, domain.ReasonMalformed},
		"an array":                   {post(`[` + good + `]`), 400, domain.ReasonMalformed},
		"a string":                   {post(`"test-job"`), 400, domain.ReasonMalformed},
		"null":                       {post(`null`), 400, domain.ReasonMalformed},
		"an unknown member":          {post(`{"name":"test-job","priority":1}`), 400, domain.ReasonMalformed},
		"NAME for name":              {post(`{"NAME":"test-job"}`), 400, domain.ReasonMalformed},
		"NAME and name":              {post(`{"name":"test-job","NAME":"other"}`), 400, domain.ReasonMalformed},
		"a duplicate member":         {post(`{"name":"test-job","name":"test-job"}`), 400, domain.ReasonMalformed},
		"a duplicate payload":        {post(`{"name":"test-job","payload":1,"payload":2}`), 400, domain.ReasonMalformed},
		"trailing data":              {post(good + good), 400, domain.ReasonMalformed},
		"trailing garbage":           {post(good + "x"), 400, domain.ReasonMalformed},
		"invalid UTF-8":              {post("{\"name\":\"\xff\"}"), 400, domain.ReasonMalformed},
		"invalid UTF-8 in payload":   {post("{\"name\":\"test-job\",\"payload\":\"\xff\"}"), 400, domain.ReasonMalformed},
		"a number for name":          {post(`{"name":1}`), 400, domain.ReasonMalformed},
		"a number for delay":         {post(`{"name":"test-job","delay":90}`), 400, domain.ReasonMalformed},
		"null for name":              {post(`{"name":null}`), 400, domain.ReasonMalformed},
		"null for delay":             {post(`{"name":"test-job","delay":null}`), 400, domain.ReasonMalformed},
		"a payload that is not JSON": {post(`{"name":"test-job","payload":{a:1}}`), 400, domain.ReasonMalformed},
		"a payload of NaN":           {post(`{"name":"test-job","payload":NaN}`), 400, domain.ReasonMalformed},
		"a payload cut short":        {post(`{"name":"test-job","payload":[}`), 400, domain.ReasonMalformed},
		"a payload nested too deep":  {post(`{"name":"test-job","payload":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`), 400, domain.ReasonMalformed},
		"a bad name":                 {post(`{"name":"../etc"}`), 422, domain.ReasonInvalidFields},
		"no content type":            {with(post(good), "Content-Type"), 415, domain.ReasonUnsupportedMediaType},
		"a form":                     {with(post(good), "Content-Type", "application/x-www-form-urlencoded"), 415, domain.ReasonUnsupportedMediaType},
		"plain text":                 {with(post(good), "Content-Type", "text/plain"), 415, domain.ReasonUnsupportedMediaType},
		"another JSON":               {with(post(good), "Content-Type", "application/problem+json"), 415, domain.ReasonUnsupportedMediaType},
		"another charset":            {with(post(good), "Content-Type", "application/json; charset=latin1"), 415, domain.ReasonUnsupportedMediaType},
		"another parameter":          {with(post(good), "Content-Type", "application/json; profile=x"), 415, domain.ReasonUnsupportedMediaType},
		"a malformed content type":   {with(post(good), "Content-Type", "application/json; charset"), 415, domain.ReasonUnsupportedMediaType},
		"two content types":          {with(post(good), "Content-Type", "application/json", "application/json"), 415, domain.ReasonUnsupportedMediaType},
		"an oversized body":          {post(large), 413, domain.ReasonTooLarge},
		"oversized, length unsaid":   {unsaid(large), 413, domain.ReasonTooLarge},
		"oversized white space":      {unsaid(good + strings.Repeat(" ", 240<<10)), 413, domain.ReasonTooLarge},
		"an empty key":               {with(post(good), "Idempotency-Key", ""), 400, domain.ReasonInvalidKey},
		"a key with a space":         {with(post(good), "Idempotency-Key", "a b"), 400, domain.ReasonInvalidKey},
		"a key beyond ASCII":         {with(post(good), "Idempotency-Key", "ä"), 400, domain.ReasonInvalidKey},
		"a long key":                 {with(post(good), "Idempotency-Key", strings.Repeat("k", 256)), 400, domain.ReasonInvalidKey},
		"two keys":                   {with(post(good), "Idempotency-Key", "a", "a"), 400, domain.ReasonInvalidKey},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService()
			if p := s.refused(t, tt.call, tt.status, tt.code); p.Detail == "" {
				t.Error("the problem has no detail")
			}
			if len(s.failures) != 1 || s.failures[0].Status != tt.status || domain.ReasonOf(s.failures[0].Err) != tt.code {
				t.Errorf("logged %+v", s.failures)
			}
			untouched(t, s)
		})
	}
}

func TestJSONByAnyNameIsAccepted(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{
		"application/json", "application/json;charset=utf-8", `application/json; charset="UTF-8"`, "Application/JSON", "application/json;",
	} {
		s := newService()
		s.accepted(t, with(post(`{"name":"test-job"}`), "Content-Type", contentType), http.StatusCreated)
	}
}

func TestTheBodyIsBounded(t *testing.T) {
	t.Parallel()
	const frame = `{"name":"test-job","payload":""}`
	body := func(size int) string { return frame[:len(frame)-2] + strings.Repeat("x", size-len(frame)) + `"}` }
	for name, tt := range map[string]struct{ max, bound int }{
		"by default": {0, 240 << 10}, "by the settings": {1000, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(func(s *service) { s.MaxBody = int64(tt.max) })
			s.refused(t, post(body(tt.bound+1)), http.StatusRequestEntityTooLarge, domain.ReasonTooLarge)
			untouched(t, s)
			s.accepted(t, post(body(tt.bound)), http.StatusCreated)
		})
	}
}

// A settings' larger bound for bodies leaves the payload's in force.
func TestThePayloadIsBounded(t *testing.T) {
	t.Parallel()
	s := newService(func(s *service) { s.MaxBody = 2 * httpapi.DefaultMaxBody })
	payload := func(size int) string { return `{"name":"test-job","payload":"` + strings.Repeat("x", size-2) + `"}` }
	s.refused(t, post(payload(domain.MaxPayload+1)), http.StatusRequestEntityTooLarge, domain.ReasonTooLarge)
	untouched(t, s)
	s.accepted(t, post(payload(domain.MaxPayload)), http.StatusCreated)
}

func TestABodyThatBreaksOffIsRefused(t *testing.T) {
	t.Parallel()
	s := newService()
	c := post("")
	c.reader = io.MultiReader(strings.NewReader(`{"name":"test-job"}`), failingReader{})
	s.refused(t, c, http.StatusBadRequest, domain.ReasonMalformed)
	untouched(t, s)
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("the connection is gone") }

// An endless body must not be waited for: over a connection, the answer comes and the connection is closed.
func TestAnEndlessBodyIsCutOff(t *testing.T) {
	t.Parallel()
	s := newService()
	server := httptest.NewServer(s.handler)
	defer server.Close()
	c := post("")
	c.reader = endless{}
	if a := over(t, server, http.MethodPost, c); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("answer %d %s", a.status, a.body)
	}
	untouched(t, s)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestARepeatUnderTheSameKeyIsTheSameJob(t *testing.T) {
	t.Parallel()
	s := newService()
	key := strings.Repeat("k", domain.MaxKeyLength)
	first := s.do(t, with(post(`{"name":"test-job","payload":[1]}`), "Idempotency-Key", key))
	again := s.do(t, with(post(`{ "payload":[1], "name":"test-job" }`), "Idempotency-Key", key))
	if first.status != http.StatusCreated || first.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("first: %d %v", first.status, first.header)
	}
	if again.status != http.StatusOK || again.header.Get("Idempotent-Replayed") != "true" || again.header.Get("Location") != "" || !bytes.Equal(again.body, first.body) {
		t.Errorf("again: %d %v %s, first %s", again.status, again.header, again.body, first.body)
	}
	for _, other := range []string{`{"name":"test-job"}`, `{"name":"test-job","payload":[ 1]}`, `{"name":"other","payload":[1]}`, `{"name":"test-job","payload":[1],"delay":"1s"}`} {
		s.refused(t, with(post(other), "Idempotency-Key", key), http.StatusUnprocessableEntity, domain.ReasonKeyReused)
	}
	bob := with(post(`{"name":"other"}`), "Idempotency-Key", key)
	bob.token = "bob"
	s.accepted(t, bob, http.StatusCreated)
	if n := len(s.stored(t)); n != 2 {
		t.Errorf("%d jobs stored", n)
	}
}

func TestADispatchThatIsNotConfirmedIsUnavailable(t *testing.T) {
	t.Parallel()
	s := newService()
	s.dispatcher.err = domain.Wrap(errors.New("broker.internal:5672 refused"), domain.Unavailable, domain.ReasonUnavailable, "refused")
	a := s.do(t, post(`{"name":"test-job"}`))
	if p := decode[problemDocument](t, a.body); a.status != http.StatusServiceUnavailable || p.Code != domain.ReasonDispatchFailed || a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "broker.internal") {
		t.Errorf("answer %d %v %s", a.status, a.header, a.body)
	}
	if jobs := s.stored(t); len(jobs) != 1 || jobs[0].Status != domain.Cancelled {
		t.Errorf("stored %+v", jobs)
	}
	// With a key, the repeat completes it.
	keyed := with(post(`{"name":"test-job"}`), "Idempotency-Key", "k")
	s.refused(t, keyed, http.StatusServiceUnavailable, domain.ReasonDispatchFailed)
	s.dispatcher.err = nil
	s.accepted(t, keyed, http.StatusOK)
}

func TestAJobThatDoesNotFitTheBrokerIsTooLarge(t *testing.T) {
	t.Parallel()
	s := newService()
	s.dispatcher.fits = domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "the message has 300000 bytes")
	s.refused(t, post(`{"name":"test-job"}`), http.StatusRequestEntityTooLarge, domain.ReasonTooLarge)
	untouched(t, s)
}

func TestTraceContextIsKeptWhenItIsValid(t *testing.T) {
	t.Parallel()
	const (
		valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		trace = "0af7651916cd43dd8448eb211c80319c"
		span  = "b7ad6b7169203331"
	)
	for name, tt := range map[string]struct {
		sent []string
		kept string
	}{
		"valid":          {[]string{valid}, valid},
		"not sampled":    {[]string{"00-" + trace + "-" + span + "-00"}, "00-" + trace + "-" + span + "-00"},
		"none":           {nil, ""},
		"empty":          {[]string{""}, ""},
		"repeated":       {[]string{valid, valid}, ""},
		"upper case":     {[]string{strings.ToUpper(valid)}, ""},
		"no trace":       {[]string{"00-" + strings.Repeat("0", 32) + "-" + span + "-01"}, ""},
		"no span":        {[]string{"00-" + trace + "-0000000000000000-01"}, ""},
		"another":        {[]string{"01-" + trace + "-" + span + "-01"}, ""},
		"version ff":     {[]string{"ff-" + trace + "-" + span + "-01"}, ""},
		"more":           {[]string{valid + "-00"}, ""},
		"short trace":    {[]string{"00-" + trace[1:] + "-" + span + "-01"}, ""},
		"short span":     {[]string{"00-" + trace + "-" + span[1:] + "-01"}, ""},
		"short flags":    {[]string{"00-" + trace + "-" + span + "-1"}, ""},
		"no hexadecimal": {[]string{"00-" + trace + "-" + span + "-0x"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService()
			c := post(`{"name":"test-job"}`)
			if tt.sent != nil {
				c = with(c, "Traceparent", tt.sent...)
			}
			s.accepted(t, c, http.StatusCreated)
			if got := s.stored(t)[0].TraceParent; got != tt.kept {
				t.Errorf("kept %q, want %q", got, tt.kept)
			}
		})
	}
}

func FuzzSubmit(f *testing.F) {
	for _, body := range []string{
		`{"name":"test-job"}`, `{"name":"a","payload":{"a":1,"a":[true,null,-1.5e3]},"delay":"1h"}`, `{"name":"a","run_at":"2026-01-02T16:00:00Z"}`,
		`{"NAME":"a"}`, `{"name":"a","payload":"\ud800"}`, "{\"name\":\"\xff\"}", `{"name":"a"} x`, ``, `[[[[`, `{"name":"a","payload": 1 }`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		s := newService()
		a := s.do(t, with(post(body), "Content-Type", "application/json"))
		switch a.status {
		case http.StatusCreated:
			stored := s.stored(t)
			if len(stored) != 1 || !strings.Contains(body, string(stored[0].Payload)) {
				t.Errorf("stored %+v of %q", stored, body)
			}
			if p := stored[0].Payload; p != nil && !bytes.HasSuffix(a.body, append([]byte(`,"payload":`), append(bytes.Clone(p), '}')...)) {
				t.Errorf("answer %q for the payload %q", a.body, p)
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			untouched(t, s)
		default:
			t.Errorf("answer %d %s", a.status, a.body)
		}
	})
}
