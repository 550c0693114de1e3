package localgateway

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// request has the members that an integration event and a REQUEST authorizer event share; see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html.
type request struct {
	Resource          string              `json:"resource"`
	Path              string              `json:"path"`
	HTTPMethod        string              `json:"httpMethod"`
	Headers           map[string]string   `json:"headers"`
	MultiValueHeaders map[string][]string `json:"multiValueHeaders"`
	Query             map[string]string   `json:"queryStringParameters"`
	MultiValueQuery   map[string][]string `json:"multiValueQueryStringParameters"`
	PathParameters    map[string]string   `json:"pathParameters"`
	StageVariables    map[string]string   `json:"stageVariables"`
	RequestContext    requestContext      `json:"requestContext"`
}

type requestContext struct {
	ResourceID        string         `json:"resourceId"`
	ResourcePath      string         `json:"resourcePath"`
	HTTPMethod        string         `json:"httpMethod"`
	ExtendedRequestID string         `json:"extendedRequestId"`
	RequestTime       string         `json:"requestTime"` // common log format
	Path              string         `json:"path"`
	AccountID         string         `json:"accountId"`
	Protocol          string         `json:"protocol"`
	Stage             string         `json:"stage"`
	DomainPrefix      string         `json:"domainPrefix"`
	RequestTimeEpoch  int64          `json:"requestTimeEpoch"` // milliseconds
	RequestID         string         `json:"requestId"`
	Identity          identity       `json:"identity"`
	DomainName        string         `json:"domainName"`
	APIID             string         `json:"apiId"`
	Authorizer        map[string]any `json:"authorizer,omitzero"`
}

// identity holds null for what only IAM and Cognito callers have.
type identity struct {
	CognitoIdentityPoolID         *string `json:"cognitoIdentityPoolId"`
	AccountID                     *string `json:"accountId"`
	CognitoIdentityID             *string `json:"cognitoIdentityId"`
	Caller                        *string `json:"caller"`
	SourceIP                      string  `json:"sourceIp"`
	PrincipalOrgID                *string `json:"principalOrgId"`
	AccessKey                     *string `json:"accessKey"`
	CognitoAuthenticationType     *string `json:"cognitoAuthenticationType"`
	CognitoAuthenticationProvider *string `json:"cognitoAuthenticationProvider"`
	UserARN                       *string `json:"userArn"`
	UserAgent                     *string `json:"userAgent"`
	User                          *string `json:"user"`
}

// newRequest describes r as an event does. The query must have been checked.
func (g *Gateway) newRequest(r *http.Request, c *call) request {
	headers := r.Header.Clone()
	headers.Set("Host", r.Host)
	source := r.RemoteAddr
	if host, _, err := net.SplitHostPort(source); err == nil {
		source = host
	}
	headers.Set("X-Forwarded-For", strings.Join(append(r.Header.Values("X-Forwarded-For"), source), ", "))
	proto := "http"
	if r.TLS != nil {
		proto = "https"
	}
	headers.Set("X-Forwarded-Proto", proto)
	domain := r.Host
	if host, port, err := net.SplitHostPort(r.Host); err == nil {
		domain = host
		headers.Set("X-Forwarded-Port", port)
	}
	var agent *string
	if v := r.UserAgent(); v != "" {
		agent = &v
	}
	prefix, _, _ := strings.Cut(domain, ".")
	path := r.URL.EscapedPath()
	return request{
		Resource: c.resource.Pattern, Path: path, HTTPMethod: r.Method,
		Headers: last(headers), MultiValueHeaders: headers,
		Query: last(c.query), MultiValueQuery: c.query,
		PathParameters: c.parameters,
		RequestContext: requestContext{
			ResourceID: c.resource.id(), ResourcePath: c.resource.Pattern, HTTPMethod: r.Method, Path: path, Protocol: r.Proto,
			RequestID: c.requestID, ExtendedRequestID: c.extendedID,
			RequestTime: c.at.UTC().Format("02/Jan/2006:15:04:05 -0700"), RequestTimeEpoch: c.at.UnixMilli(),
			AccountID: g.accountID, Stage: g.stage, APIID: g.apiID, DomainName: domain, DomainPrefix: prefix,
			Identity: identity{SourceIP: source, UserAgent: agent},
		},
	}
}

// last keeps the last value of each, as the single-value members of an event do; nil when there are none.
func last(multi map[string][]string) map[string]string {
	if len(multi) == 0 {
		return nil
	}
	single := make(map[string]string, len(multi))
	for name, values := range multi {
		if len(values) > 0 {
			single[name] = values[len(values)-1]
		}
	}
	return single
}

// tokenEvent is the event of a TOKEN authorizer; see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-input.html.
func tokenEvent(token, methodARN string) ([]byte, error) {
	return marshal(struct {
		Type      string `json:"type"`
		MethodARN string `json:"methodArn"`
		Token     string `json:"authorizationToken"`
	}{"TOKEN", methodARN, token})
}

// requestEvent is the event of a REQUEST authorizer, in which what is absent is empty, not null.
func requestEvent(r request, methodARN string) ([]byte, error) {
	return marshal(struct {
		Type      string `json:"type"`
		MethodARN string `json:"methodArn"`
		request
	}{"REQUEST", methodARN, r}, json.FormatNilMapAsNull(false))
}

// integrationEvent is the event of a Lambda proxy integration. A body that is no text travels as base64.
func integrationEvent(r request, body []byte, a *answer, latency time.Duration) ([]byte, error) {
	if a != nil {
		r.RequestContext.Authorizer = make(map[string]any, len(a.context)+2)
		for name, value := range a.context {
			r.RequestContext.Authorizer[name] = value
		}
		r.RequestContext.Authorizer["principalId"] = a.principalID
		r.RequestContext.Authorizer["integrationLatency"] = latency.Milliseconds()
	}
	event := struct {
		request
		Body            *string `json:"body"`
		IsBase64Encoded bool    `json:"isBase64Encoded"`
	}{request: r}
	if len(body) > 0 {
		text := string(body)
		if !utf8.ValidString(text) {
			text, event.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
		}
		event.Body = &text
	}
	return marshal(event, json.FormatNilMapAsNull(true))
}

// marshal replaces bytes that are no UTF-8, of headers and parameters, by U+FFFD: no token, key, cursor or id that is
// valid holds it, so that the functions refuse what has it.
func marshal(v any, options ...json.Options) ([]byte, error) {
	return json.Marshal(v, append(options, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))...)
}

// An answer is what an authorizer said of a caller.
type answer struct {
	principalID string
	policy      Policy
	context     map[string]string
}

// parseAnswer reads an authorizer's output as API Gateway does: the context is flat, and its numbers and booleans
// become strings.
func parseAnswer(output []byte) (*answer, error) {
	if len(output) > maxAnswer {
		return nil, fmt.Errorf("the authorizer's answer has %d bytes, of at most %d", len(output), maxAnswer)
	}
	var raw struct {
		PrincipalID    string                    `json:"principalId"`
		PolicyDocument jsontext.Value            `json:"policyDocument"`
		Context        map[string]jsontext.Value `json:"context"`
	}
	if err := json.Unmarshal(output, &raw); err != nil {
		return nil, malformed(err, "authorizer's answer")
	}
	if raw.PrincipalID == "" {
		return nil, fmt.Errorf("the authorizer's answer has no principalId")
	}
	policy, err := ParsePolicy(raw.PolicyDocument)
	if err != nil {
		return nil, malformed(err, "authorizer's answer")
	}
	a := &answer{principalID: raw.PrincipalID, policy: policy, context: make(map[string]string, len(raw.Context))}
	for name, value := range raw.Context {
		switch value.Kind() {
		case '"':
			var s string
			if err := json.Unmarshal(value, &s); err != nil {
				return nil, malformed(err, "authorizer's context")
			}
			a.context[name] = s
		case '0', 't', 'f':
			a.context[name] = string(value)
		default:
			return nil, fmt.Errorf("the authorizer's context has a member that is no string, number or boolean")
		}
	}
	return a, nil
}

// A reply is an integration's response.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// parseReply reads an integration's output. Anything that is not of the documented form is refused, as API Gateway
// does with a 502.
func parseReply(output []byte) (*reply, error) {
	var raw struct {
		StatusCode        int                 `json:"statusCode"`
		Headers           map[string]string   `json:"headers"`
		MultiValueHeaders map[string][]string `json:"multiValueHeaders"`
		Body              string              `json:"body"`
		IsBase64Encoded   bool                `json:"isBase64Encoded"`
	}
	if len(output) > maxPayload {
		return nil, fmt.Errorf("the integration's response has %d bytes, of at most %d", len(output), maxPayload)
	}
	if err := json.Unmarshal(output, &raw, json.RejectUnknownMembers(true)); err != nil {
		return nil, malformed(err, "integration's response")
	}
	if raw.StatusCode < 200 || raw.StatusCode > 599 {
		return nil, fmt.Errorf("the integration's response has status %d", raw.StatusCode)
	}
	p := &reply{status: raw.StatusCode, header: make(http.Header), body: []byte(raw.Body)}
	if raw.IsBase64Encoded {
		body, err := base64.StdEncoding.DecodeString(raw.Body)
		if err != nil {
			return nil, malformed(err, "integration's response")
		}
		p.body = body
	}
	for name, values := range raw.MultiValueHeaders {
		for _, value := range values {
			p.add(name, value)
		}
	}
	for name, value := range raw.Headers { // both are merged, a pair that is in both is taken once
		if !slices.Contains(raw.MultiValueHeaders[name], value) {
			p.add(name, value)
		}
	}
	for name := range p.header {
		if slices.ContainsFunc(p.header[name], func(v string) bool { return strings.ContainsAny(v, "\r\n\x00") }) {
			return nil, fmt.Errorf("the integration's response has a header with a line break")
		}
	}
	return p, nil
}

// remapped are the headers of an integration that reach the client under another name, dropped those that do not reach
// it; see https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html.
var (
	remapped = []string{
		"Authorization", "Connection", "Content-Length", "Content-Md5", "Date", "Expect", "Host", "Max-Forwards",
		"Proxy-Authenticate", "Server", "Trailer", "User-Agent", "Www-Authenticate",
	}
	dropped = []string{"Te", "Transfer-Encoding", "Upgrade"}
)

func (p *reply) add(name, value string) {
	name = http.CanonicalHeaderKey(name)
	switch {
	case slices.Contains(dropped, name):
		return
	case slices.Contains(remapped, name):
		name = "X-Amzn-Remapped-" + name
	}
	p.header.Add(name, value)
}

// parseQuery splits at semicolons as well, as API Gateway documents that it does.
func parseQuery(raw string) (url.Values, error) {
	values, err := url.ParseQuery(strings.ReplaceAll(raw, ";", "&"))
	if len(values) == 0 {
		values = nil
	}
	return values, err
}
