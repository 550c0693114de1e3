package apigateway

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/adapters/wire/bearer"
	"github.com/jobgate/jobgate/adapters/wire/plainjson"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/access"
)

// maxResult bounds an authorizer's answer in bytes. AWS documents 8 KB, for WebSocket APIs only; see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html.
const maxResult = 8000

// An Authorizer is the Lambda authorizer of a REST API (TOKEN or REQUEST) or of an HTTP API (payload 1.0 or 2.0 with
// IAM responses). It is safe for concurrent use.
type Authorizer struct {
	gate     *access.Gate
	compiler *Compiler
	scopes   []string // those that a rule names
	report   func(context.Context, Decision)
}

// A Decision is what one call of an Authorizer came to. It holds nothing of the token.
type Decision struct {
	ID        string        // random; in the context of the answer, and so in what a refused caller is told
	RequestID string        // API Gateway's; empty for TOKEN events, which have none
	Reason    domain.Reason // why there was no policy, or one that denies everything; else empty
	Refused   []Refusal     // what a verified caller may not do
}

// A Refusal is an action that a verified caller may not take, and why.
type Refusal struct {
	Action domain.Action
	Reason domain.Reason
}

// allows reports whether the action is none of those that were refused.
func (d *Decision) allows(action domain.Action) bool {
	return !slices.ContainsFunc(d.Refused, func(r Refusal) bool { return r.Action == action })
}

// NewAuthorizer returns an Authorizer for a route table. report, when not nil, is called once for each event. The error
// names everything about routes and the gate's policy that cannot be answered within API Gateway's bounds.
func NewAuthorizer(gate *access.Gate, routes []domain.Route, report func(context.Context, Decision)) (*Authorizer, error) {
	compiler, err := NewCompiler(routes)
	if err != nil {
		return nil, err
	}
	if report == nil {
		report = func(context.Context, Decision) {}
	}
	a := &Authorizer{gate: gate, compiler: compiler, report: report}
	if err := a.fits(); err != nil {
		return nil, err
	}
	return a, nil
}

// fits checks the longest answer that settings alone can cause: every route at the longest names AWS gives, with every
// scope that a rule names. Along the way it collects those scopes.
func (a *Authorizer) fits() error {
	longest := Deployment{
		Partition: "aws-us-gov", Region: "ap-southeast-99", Account: "123456789012", API: "abcdefghij", Stage: strings.Repeat("s", 128),
	}
	size := 0
	for _, g := range a.compiler.grants {
		resource := longest.appendResource(nil, g.pattern)
		if len(resource) > maxResource {
			return fmt.Errorf("route %s: its ARN would have %d characters at the longest stage name, of at most %d", g.pattern, len(resource), maxResource)
		}
		size += len(resource) + len(`"",`)
	}
	// The frame of a policy with both effects, and a context with a subject of the 255 bytes that are accepted.
	if size += 1024; size > maxResult {
		return fmt.Errorf("the route table makes policies of %d bytes, of at most %d", size, maxResult)
	}
	for i, r := range a.gate.Policy.Rules {
		for _, s := range r.Scopes {
			if !slices.Contains(a.scopes, s) {
				a.scopes = append(a.scopes, s)
				size += len(s) + len(" ")
			}
		}
		if size > maxResult {
			return fmt.Errorf("rules[%d]: with its scopes an authorizer's answer could have %d bytes, of at most %d", i, size, maxResult)
		}
	}
	return nil
}

// Invoke answers one authorizer event. The error is ErrUnauthorized when the token is missing or will not do, and
// another when the event is malformed or nothing is known of the token. A verified caller gets a policy for the whole
// API, which denies everything when they may do nothing.
func (a *Authorizer) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	d := Decision{ID: rand.Text()}
	answer, err := a.decide(ctx, event, &d)
	a.report(ctx, d)
	return answer, err
}

func (a *Authorizer) decide(ctx context.Context, event []byte, d *Decision) ([]byte, error) {
	request, err := parseAuthorizerEvent(event)
	if err != nil {
		d.Reason = domain.ReasonOf(err)
		return nil, fault(*d)
	}
	d.RequestID = request.id
	token, err := bearer.Token(request.authorization)
	var who domain.Principal
	if err == nil {
		who, err = a.gate.Enter(ctx, token)
	}
	if err != nil {
		if d.Reason = domain.ReasonOf(err); domain.KindOf(err) == domain.Unauthenticated {
			return nil, ErrUnauthorized
		}
		return nil, fault(*d)
	}
	answer, err := a.answer(request.at, who, d)
	if err != nil {
		d.Reason = domain.ReasonInternal
		return nil, fault(*d)
	}
	if len(answer) > maxResult {
		d.Reason = domain.ReasonTooLarge
		return a.refusal(request.at, d.ID), nil
	}
	return answer, nil
}

func (a *Authorizer) answer(at Deployment, who domain.Principal, d *Decision) ([]byte, error) {
	actions := a.compiler.actions
	for _, action := range actions {
		if may := a.gate.May(who, action); !may.Allowed {
			if d.Refused == nil {
				d.Refused = make([]Refusal, 0, len(actions))
			}
			d.Refused = append(d.Refused, Refusal{action, may.Reason})
		}
	}
	if len(d.Refused) == len(actions) {
		d.Reason = domain.ReasonForbidden
	}
	const rest = 640 // a context is of some 300 bytes
	b := append(make([]byte, 0, a.compiler.size(&at)+rest), `{"principalId":`...)
	var err error // which the context has as well
	b = append(appendText(b, who.Subject, &err), `,"policyDocument":`...)
	b = append(a.compiler.Append(b, at, d.allows), `,"context":`...)
	b, err = appendContext(b, &who, a.scopes, d.ID)
	return append(b, '}'), err
}

// refusal is the answer that denies everything to somebody of whom nothing is told.
func (a *Authorizer) refusal(at Deployment, decision string) []byte {
	b := append([]byte(`{"principalId":"`+decision), `","policyDocument":`...)
	b = a.compiler.Append(b, at, func(domain.Action) bool { return false })
	return append(b, `,"context":{"`+keyDecision+`":"`+decision+`"}}`...)
}

// An authorizerRequest is what an authorizer event asks.
type authorizerRequest struct {
	id            string
	at            Deployment
	authorization string // the value of the Authorization header; empty when there is none
}

func parseAuthorizerEvent(event []byte) (authorizerRequest, error) {
	if request, ok := parsePlainTokenEvent(event); ok {
		return request, nil
	}
	return parseAnyEvent(event)
}

// parsePlainTokenEvent parses the TOKEN events that API Gateway sends, a fifth of whose authorizer's work would else be to
// read them. Whatever is unusual about one is for parseAnyEvent to judge.
func parsePlainTokenEvent(event []byte) (request authorizerRequest, ok bool) {
	var room [8]plainjson.Member
	members, plain := plainjson.Members(room[:0], event)
	if !plain {
		return authorizerRequest{}, false
	}
	var kind, arn, authorization []byte
	for _, m := range members {
		var text *[]byte
		switch string(m.Name) {
		case "type":
			text = &kind
		case "methodArn":
			text = &arn
		case "authorizationToken":
			text = &authorization
		default: // it has no others
			return authorizerRequest{}, false
		}
		if *text, ok = plainjson.Text(m.Value); !ok {
			return authorizerRequest{}, false
		}
	}
	var both strings.Builder // one copy of what is kept of the event
	both.Grow(len(arn) + len(authorization))
	both.Write(arn)
	both.Write(authorization)
	at, err := ParseMethodARN(both.String()[:len(arn)])
	if err != nil || string(kind) != "TOKEN" {
		return authorizerRequest{}, false
	}
	return authorizerRequest{at: at, authorization: both.String()[len(arn):]}, true
}

func parseAnyEvent(event []byte) (authorizerRequest, error) {
	var e struct {
		Version            string              `json:"version"`
		Type               string              `json:"type"`
		MethodARN          string              `json:"methodArn"`
		RouteARN           string              `json:"routeArn"` // HTTP APIs, payload 2.0
		AuthorizationToken string              `json:"authorizationToken"`
		Headers            map[string]string   `json:"headers"`
		MultiValueHeaders  map[string][]string `json:"multiValueHeaders"`
		RequestContext     struct {
			RequestID string `json:"requestId"`
		} `json:"requestContext"`
	}
	if err := json.Unmarshal(event, &e); err != nil {
		return authorizerRequest{}, malformedEvent("no authorizer event")
	}
	request := authorizerRequest{id: e.RequestContext.RequestID, authorization: e.AuthorizationToken}
	arn := e.MethodARN
	switch {
	case e.Type == "REQUEST" && (e.Version == "" || e.Version == "1.0" || e.Version == "2.0"):
		if e.Version == "2.0" {
			arn = e.RouteARN
		}
		values := headerValues(e.Headers, e.MultiValueHeaders, "Authorization")
		// Two credentials are no credential: joined, they have a space or a comma too many for any bearer token.
		request.authorization = strings.Join(values, ", ")
	case e.Type != "TOKEN":
		return authorizerRequest{}, malformedEvent("type is neither TOKEN nor REQUEST")
	}
	at, err := ParseMethodARN(arn)
	if err != nil {
		return authorizerRequest{}, malformedEvent("method ARN")
	}
	request.at = at
	return request, nil
}

// headerValues returns the values of a header whatever its case. API Gateway repeats in headers the last value of what
// multiValueHeaders has, so the former counts only where the latter is absent, as in payload 2.0.
func headerValues(single map[string]string, multi map[string][]string, name string) (values []string) {
	if multi != nil {
		for k, v := range multi {
			if strings.EqualFold(k, name) {
				values = append(values, v...)
			}
		}
		return values
	}
	for k, v := range single {
		if strings.EqualFold(k, name) {
			values = append(values, v)
		}
	}
	return values
}
