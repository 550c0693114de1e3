package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/domain"
)

// What a call's error wraps when it is no *Problem, no error of Token and no end of a context.
var (
	ErrServer      = errors.New("the server's address cannot be used")
	ErrUnreachable = errors.New("the server cannot be reached")
	ErrAnswer      = errors.New("the server's answer cannot be used")
)

// A Problem is an answer that refuses (RFC 9457). Everything in it is fit for a terminal.
type Problem struct { //nolint:errname // what RFC 9457 calls it
	Status     int
	Code       domain.Reason // empty when it is not jobgate that refused
	Detail     string
	RequestID  string
	DecisionID string
	Errors     []FieldError
	RetryAfter time.Duration // 0: the server does not say
}

// A FieldError is what is wrong with one member of a submission.
type FieldError struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

func (p *Problem) Error() string {
	var b strings.Builder
	if p.Code != "" {
		b.WriteString(string(p.Code))
	} else {
		fmt.Fprintf(&b, "the server answered %d %s", p.Status, http.StatusText(p.Status))
	}
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for i, e := range p.Errors {
		separator := "; "
		if i == 0 {
			separator = ": "
		}
		b.WriteString(separator + strings.TrimSpace(e.Pointer+" "+e.Detail))
	}
	switch {
	case p.DecisionID != "":
		b.WriteString(" (decision " + p.DecisionID + ")")
	case p.RequestID != "":
		b.WriteString(" (request " + p.RequestID + ")")
	}
	return b.String()
}

const maxFieldErrors = 20

// problem reads the answer of a server that refused; a body that is no problem document says nothing.
func problem(a answer) *Problem {
	var doc struct {
		Code       string       `json:"code"`
		Detail     string       `json:"detail"`
		RequestID  string       `json:"request_id"`
		DecisionID string       `json:"decision_id"`
		Errors     []FieldError `json:"errors"`
	}
	p := &Problem{Status: a.status, RetryAfter: retryAfter(a.header.Get("Retry-After"))}
	if json.Unmarshal(a.body, &doc) != nil {
		return p
	}
	shown := func(s string) string { return Printable(bound(s)) }
	p.Code, p.Detail = domain.Reason(shown(doc.Code)), shown(doc.Detail)
	p.RequestID, p.DecisionID = shown(doc.RequestID), shown(doc.DecisionID)
	for _, e := range doc.Errors[:min(len(doc.Errors), maxFieldErrors)] {
		p.Errors = append(p.Errors, FieldError{Pointer: shown(e.Pointer), Detail: shown(e.Detail)})
	}
	return p
}

// retryAfter reads the form of Retry-After that jobgate and API Gateway send (RFC 9110 §10.2.3): seconds.
func retryAfter(value string) time.Duration {
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// Printable returns s fit for one line of a terminal: what would move its cursor, change its colours or turn its text
// around is escaped as in a Go string.
func Printable(s string) string {
	plain := func(r rune) bool { return unicode.IsPrint(r) && r != unicode.ReplacementChar }
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if plain(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
