package apigateway

import (
	"context"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// version2 marks the events of HTTP APIs. Those of REST APIs have no version, or 1.0 when an HTTP API sends them.
const version2 = "2.0"

// A call is what an event tells beyond the HTTP request in it.
type call struct {
	version    string
	requestID  string
	prefix     string
	authorizer jsontext.Value // the request context's member of that name, whatever it holds
}

type callKey struct{}

// RequestID returns the gateway's id of the request, empty when r came through no Proxy.
func RequestID(r *http.Request) string {
	if c, ok := r.Context().Value(callKey{}).(*call); ok {
		return c.requestID
	}
	return ""
}

// Prefix returns what stands before the route in the path that the client sent, a stage ("/prod") or the base path of a
// custom domain, for links that lead back through the same door. It is empty when there is none, or none that can
// stand in a link safely.
func Prefix(r *http.Request) string {
	if c, ok := r.Context().Value(callKey{}).(*call); ok {
		return c.prefix
	}
	return ""
}

// A proxyEvent has the members of both payload versions that make a request; see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html and
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html.
type proxyEvent struct {
	Version         string              `json:"version"`
	Headers         map[string]string   `json:"headers"`
	MultiHeaders    map[string][]string `json:"multiValueHeaders"`
	PathParameters  map[string]string   `json:"pathParameters"`
	Body            string              `json:"body"`
	IsBase64Encoded bool                `json:"isBase64Encoded"`

	// Payload 1.0.
	Resource   string              `json:"resource"`
	Method     string              `json:"httpMethod"`
	Query      map[string]string   `json:"queryStringParameters"`
	MultiQuery map[string][]string `json:"multiValueQueryStringParameters"`

	// Payload 2.0.
	RouteKey string   `json:"routeKey"`
	RawQuery string   `json:"rawQueryString"`
	Cookies  []string `json:"cookies"`

	RequestContext struct {
		RequestID  string         `json:"requestId"`
		DomainName string         `json:"domainName"`
		Authorizer jsontext.Value `json:"authorizer"`

		// Payload 1.0.
		Path     string `json:"path"`
		Identity struct {
			SourceIP string `json:"sourceIp"`
		} `json:"identity"`

		// Payload 2.0.
		HTTP struct {
			Method   string `json:"method"`
			Path     string `json:"path"`
			SourceIP string `json:"sourceIp"`
		} `json:"http"`
	} `json:"requestContext"`
}

// parseProxyEvent returns the call and the request in an event. The request is nil when no route of ours can be what
// the client asked for.
func parseProxyEvent(ctx context.Context, event []byte) (*call, *http.Request, error) {
	var e proxyEvent
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, nil, malformedEvent("no proxy event")
	}
	c := &call{version: e.Version, requestID: e.RequestContext.RequestID, authorizer: e.RequestContext.Authorizer}
	var resource, method, sent, query, source string
	switch e.Version {
	case "", "1.0":
		resource, method, sent, query, source = e.Resource, e.Method, e.RequestContext.Path, e.query(), e.RequestContext.Identity.SourceIP
	case version2:
		_, resource, _ = strings.Cut(e.RouteKey, " ") // METHOD /path, or $default
		two := e.RequestContext.HTTP
		method, sent, query, source = two.Method, two.Path, e.RawQuery, two.SourceIP
	default:
		return nil, nil, malformedEvent("version is neither 1.0 nor 2.0")
	}
	body, err := e.body()
	if err != nil {
		return nil, nil, err
	}
	r, err := http.NewRequestWithContext(context.WithValue(ctx, callKey{}, c), method, "/", strings.NewReader(body))
	if err != nil {
		return nil, nil, malformedEvent("method")
	}
	path, ok := fill(resource, e.PathParameters)
	if !ok {
		return c, nil, nil
	}
	c.prefix = prefix(sent, resource)
	r.URL.RawPath, r.URL.RawQuery = path, query
	if r.URL.Path, err = url.PathUnescape(path); err != nil {
		return nil, nil, malformedEvent("resource")
	}
	r.RequestURI = r.URL.RequestURI()
	if source != "" {
		r.RemoteAddr = net.JoinHostPort(source, "0") // the port is not told
	}
	e.header(r)
	return c, r, nil
}

func (e *proxyEvent) query() string {
	values := url.Values(e.MultiQuery)
	if values == nil {
		values = make(url.Values, len(e.Query))
		for name, value := range e.Query {
			values.Set(name, value)
		}
	}
	return values.Encode()
}

func (e *proxyEvent) body() (string, error) {
	if !e.IsBase64Encoded {
		return e.Body, nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(e.Body)
	if err != nil {
		return "", malformedEvent("body is not base64")
	}
	return string(b), nil
}

func (e *proxyEvent) header(r *http.Request) {
	if e.MultiHeaders != nil {
		for name, values := range e.MultiHeaders {
			for _, value := range values {
				r.Header.Add(name, value)
			}
		}
	} else {
		for name, value := range e.Headers {
			r.Header.Add(name, value)
		}
	}
	if len(e.Cookies) > 0 {
		r.Header.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	if r.Host = r.Header.Get("Host"); r.Host == "" {
		r.Host = e.RequestContext.DomainName
	}
	// As net/http's own server leaves them: told by the request's members.
	for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding"} {
		r.Header.Del(name)
	}
}

// fill returns the escaped path of a resource with its parameters. A parameter is one segment: one that would be more,
// or that cleaning would take away, names nothing, and so does the greedy {proxy+}.
func fill(resource string, parameters map[string]string) (path string, ok bool) {
	rest, ok := strings.CutPrefix(resource, "/")
	if !ok {
		return "", false
	}
	segments := strings.Split(rest, "/")
	for i, s := range segments {
		name, isParameter := strings.CutPrefix(s, "{")
		if !isParameter {
			continue
		}
		value, given := parameters[strings.TrimSuffix(name, "}")]
		if !given || value == "" || value == "." || value == ".." || strings.ContainsAny(value, `/\`) {
			return "", false
		}
		segments[i] = url.PathEscape(value)
	}
	return "/" + strings.Join(segments, "/"), true
}

// prefix cuts the resource off the end of the path as it was sent. Only a plain path may stand before it: what follows
// "//" would be another host in a link.
func prefix(sent, resource string) string {
	sent = strings.TrimSuffix(sent, "/")
	for range strings.Count(strings.TrimSuffix(resource, "/"), "/") {
		i := strings.LastIndexByte(sent, '/')
		if i < 0 {
			return ""
		}
		sent = sent[:i]
	}
	path, rooted := strings.CutPrefix(sent, "/")
	if !rooted {
		return ""
	}
	for s := range strings.SplitSeq(path, "/") {
		if !segment.MatchString(s) || s[0] == '{' {
			return ""
		}
	}
	return sent
}
