package localgateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/uuid"

	"github.com/jobgate/jobgate/adapters/wire/problem"
	"github.com/jobgate/jobgate/domain"
)

// Bounds that AWS documents; see https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html and
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html.
const (
	DefaultTTL         = 300 * time.Second
	MaxTTL             = 3600 * time.Second
	maxBody            = 10 << 20 // bytes of a request's body
	maxHead            = 10240    // bytes of request line and headers
	maxMethodARN       = 1600     // bytes
	maxPayload         = 6 << 20  // bytes of an event and of a function's output
	maxAnswer          = 8 << 10  // bytes of an authorizer's output; AWS documents it for WebSocket APIs, we keep to it
	authorizerTimeout  = 10 * time.Second
	integrationTimeout = 29 * time.Second
	concurrency        = 1000 // invocations of one function at a time: an account's default
	maxCached          = 10000
)

// A Function is a Lambda function: it answers one event. It must return soon after its context ends.
type Function func(ctx context.Context, event []byte) ([]byte, error)

// Options say what the gateway stands in front of.
type Options struct {
	Authorizer  Function
	Integration Function
	Routes      []domain.Route

	// AuthorizerType is TOKEN, the default, or REQUEST. The identity source of both is the Authorization header.
	AuthorizerType string
	// IdentityValidation must match the whole header for a TOKEN authorizer to be called; nil matches everything.
	IdentityValidation *regexp.Regexp
	// TTL is how long an authorizer's answer is used again, at most MaxTTL; 0 disables the cache.
	TTL time.Duration
	// CORSOrigin may read the gateway's own answers and preflights: one origin, or * for any, since a gateway response
	// has one fixed value. Empty leaves CORS out. The integration answers for its own responses, as it must behind AWS.
	CORSOrigin string

	BasePath  string // stands before every route in the path, as a custom domain's does; "" or like "/v1"
	Stage     string // default "local"
	Region    string // default "us-east-1"
	AccountID string // default "000000000000"
	APIID     string // default "jobgate"

	MaxBody int64                         // bytes; default and most are AWS's 10 MB
	Now     func() time.Time              // default time.Now
	Log     func(context.Context, Access) // is told of every request; may be nil
}

// An Access is a line of the access log. It holds nothing that a caller sent but the method.
type Access struct {
	RequestID  string
	Method     string
	Resource   string // the route's pattern; empty when none matched
	Status     int
	DecisionID string // from the authorizer's context

	// InvocationID is the request id of the authorizer's invocation, $context.authorizer.requestId at AWS: the
	// authorizer's log has it too. Empty when a cached answer served.
	InvocationID string

	Err  error // what a function did wrong, or how it failed; nil when the status says it all
	Took time.Duration
}

// A Gateway is an http.Handler. It is safe for concurrent use.
type Gateway struct {
	authorizer, integration function
	resources               []resource
	request                 bool // the authorizer is of type REQUEST
	validation              *regexp.Regexp
	cache                   *cache
	origin                  string
	basePath                string
	stage, accountID, apiID string
	arn                     string // of the stage
	maxBody                 int64
	now                     func() time.Time
	log                     func(context.Context, Access)
}

var (
	stageARN = regexp.MustCompile(`^arn:aws:execute-api:[a-z]{2}[a-z0-9-]{1,30}:[0-9]{12}:[a-z0-9]{1,64}/[A-Za-z0-9_-]{1,128}/$`)
	basePath = regexp.MustCompile(`^(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)
)

// New returns a Gateway. The error names everything that is wrong with o.
func New(o Options) (*Gateway, error) {
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	g := &Gateway{
		authorizer:  function{o.Authorizer, authorizerTimeout, make(chan struct{}, concurrency)},
		integration: function{o.Integration, integrationTimeout, make(chan struct{}, concurrency)},
		resources:   newResources(o.Routes),
		request:     o.AuthorizerType == "REQUEST",
		cache:       newCache(o.TTL, maxCached),
		basePath:    o.BasePath,
		stage:       or(o.Stage, "local"), accountID: or(o.AccountID, "000000000000"), apiID: or(o.APIID, "jobgate"),
		origin: o.CORSOrigin, maxBody: o.MaxBody, now: o.Now, log: o.Log,
	}
	g.arn = "arn:aws:execute-api:" + or(o.Region, "us-east-1") + ":" + g.accountID + ":" + g.apiID + "/" + g.stage + "/"
	if o.Authorizer == nil || o.Integration == nil || len(o.Routes) == 0 {
		wrong("Authorizer, Integration and Routes are needed")
	}
	switch {
	case o.AuthorizerType != "" && o.AuthorizerType != "TOKEN" && o.AuthorizerType != "REQUEST":
		wrong("AuthorizerType %q is neither TOKEN nor REQUEST", o.AuthorizerType)
	case g.request && o.IdentityValidation != nil:
		wrong("IdentityValidation belongs to TOKEN authorizers")
	case o.IdentityValidation != nil:
		g.validation = regexp.MustCompile(`^(?:` + o.IdentityValidation.String() + `)$`)
	}
	if o.TTL < 0 || o.TTL > MaxTTL {
		wrong("TTL %v is not from 0 to 1h", o.TTL)
	}
	if !stageARN.MatchString(g.arn) {
		wrong("Region, AccountID, APIID and Stage make no ARN that AWS would: %s", g.arn)
	}
	if !basePath.MatchString(g.basePath) {
		wrong("BasePath %q is not like /v1", g.basePath)
	}
	if g.maxBody == 0 {
		g.maxBody = maxBody
	}
	if g.maxBody < 0 || g.maxBody > maxBody {
		wrong("MaxBody %d is not from 1 to %d", o.MaxBody, maxBody)
	}
	if g.now == nil {
		g.now = time.Now
	}
	if g.log == nil {
		g.log = func(context.Context, Access) {}
	}
	return g, errors.Join(problems...)
}

// A call is one request on its way through the gateway.
type call struct {
	requestID, extendedID string
	at                    time.Time
	resource              *resource
	parameters            map[string]string
	query                 url.Values
	decision              string
	invocation            string
	err                   error
}

// ServeHTTP answers one request as API Gateway would. A client that leaves does not stop what it asked for.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{requestID: uuid.NewString(), extendedID: rand.Text()[:15] + "=", at: g.now()}
	w.Header().Set("X-Amzn-Requestid", c.requestID)
	w.Header().Set("X-Amz-Apigw-Id", c.extendedID)
	status := g.serve(w, r, c)
	line := Access{RequestID: c.requestID, Method: r.Method, Status: status, DecisionID: c.decision, InvocationID: c.invocation, Err: c.err, Took: g.now().Sub(c.at)}
	if c.resource != nil {
		line.Resource = c.resource.Pattern
	}
	g.log(r.Context(), line)
}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, c *call) int {
	if headSize(r) > maxHead {
		return g.fail(w, tooLarge(c.requestID, http.StatusRequestHeaderFieldsTooLarge), nil)
	}
	methods, segments := g.route(r, c)
	if c.resource == nil {
		if r.Method == http.MethodOptions && g.origin != "" && len(methods) > 0 {
			return g.preflight(w, methods)
		}
		return g.fail(w, notFound(c.requestID), nil)
	}
	arn := g.arn + r.Method + "/" + strings.Join(segments, "/")
	if len(arn) > maxMethodARN {
		return g.fail(w, tooLarge(c.requestID, http.StatusRequestURITooLong), nil)
	}
	var err error
	if c.query, err = parseQuery(r.URL.RawQuery); err != nil {
		return g.fail(w, badRequest(c.requestID), nil)
	}
	event := g.newRequest(r, c)
	var granted *answer
	var latency time.Duration
	if !c.resource.Public {
		began := g.now()
		if granted, err = g.authorize(r, c, event, arn); err != nil {
			if errors.Is(err, errUnauthorized) {
				p, header := unauthorized(c.requestID)
				return g.fail(w, p, header)
			}
			c.err = err
			return g.fail(w, authorizerFailed(c.requestID), nil)
		}
		latency = g.now().Sub(began)
		c.decision = granted.context["decision_id"]
		if !granted.policy.Allows("execute-api:Invoke", arn) {
			return g.fail(w, accessDenied(c.requestID, c.decision), nil)
		}
	}
	return g.integrate(w, r, c, event, granted, latency)
}

// route finds the resource, and the methods that there are at its path.
func (g *Gateway) route(r *http.Request, c *call) (methods, segments []string) {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), g.basePath)
	if segments = split(path); !ok || segments == nil {
		return nil, nil
	}
	for i := range g.resources {
		candidate := &g.resources[i]
		parameters, ok := candidate.match(segments)
		if !ok {
			continue
		}
		methods = append(methods, candidate.Method)
		if candidate.Method == r.Method && c.resource == nil {
			c.resource, c.parameters = candidate, parameters
		}
	}
	return methods, segments
}

// headSize counts the request line and the headers as they are sent (RFC 9112 §3, §5).
func headSize(r *http.Request) int {
	size := len(r.Method) + len(r.RequestURI) + len(r.Proto) + len("  \r\n") + len("Host: \r\n") + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(": \r\n") + len(value)
		}
	}
	return size
}

// errUnauthorized ends in UNAUTHORIZED; every other error of authorize in AUTHORIZER_FAILURE.
var errUnauthorized = errors.New("unauthorized")

// authorize returns what the authorizer says of the request's identity source, from the cache if it is there. The
// policy is not evaluated here: that is done anew for each method.
func (g *Gateway) authorize(r *http.Request, c *call, event request, arn string) (*answer, error) {
	sources := r.Header.Values("Authorization")
	// Two credentials contradict each other: which one counts is not for a gateway to guess.
	if len(sources) != 1 || sources[0] == "" || g.validation != nil && !g.validation.MatchString(sources[0]) {
		return nil, errUnauthorized
	}
	if a := g.cache.get(sources[0], g.now()); a != nil {
		return a, nil
	}
	var input []byte
	var err error
	if g.request {
		input, err = requestEvent(event, arn)
	} else {
		input, err = tokenEvent(sources[0], arn)
	}
	if err != nil {
		return nil, malformed(err, "request")
	}
	c.invocation = uuid.NewString()
	output, err := g.authorizer.invoke(r.Context(), c.invocation, input)
	switch {
	case err != nil && err.Error() == "Unauthorized":
		return nil, errUnauthorized
	case err != nil:
		return nil, fmt.Errorf("authorizer: %w", err)
	}
	a, err := parseAnswer(output)
	if err != nil {
		return nil, err
	}
	g.cache.put(sources[0], a, g.now())
	return a, nil
}

func (g *Gateway) integrate(w http.ResponseWriter, r *http.Request, c *call, event request, granted *answer, latency time.Duration) int {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, g.maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return g.fail(w, tooLarge(c.requestID, http.StatusRequestEntityTooLarge), nil)
	}
	if err != nil {
		return g.fail(w, badRequest(c.requestID), nil)
	}
	input, err := integrationEvent(event, body, granted, latency)
	if err != nil {
		c.err = malformed(err, "request")
		return g.fail(w, badRequest(c.requestID), nil)
	}
	if len(input) > maxPayload {
		return g.fail(w, tooLarge(c.requestID, http.StatusRequestEntityTooLarge), nil)
	}
	output, err := g.integration.invoke(r.Context(), uuid.NewString(), input)
	if err != nil {
		c.err = fmt.Errorf("integration: %w", err)
		if errors.Is(err, errTimedOut) {
			return g.fail(w, integrationFailed(c.requestID, http.StatusGatewayTimeout), nil)
		}
		return g.fail(w, integrationFailed(c.requestID, http.StatusBadGateway), nil)
	}
	reply, err := parseReply(output)
	if err != nil {
		c.err = err
		return g.fail(w, integrationFailed(c.requestID, http.StatusBadGateway), nil)
	}
	maps.Copy(w.Header(), reply.header)
	w.WriteHeader(reply.status)
	if reply.status != http.StatusNoContent && reply.status != http.StatusNotModified {
		_, _ = w.Write(reply.body) // a client that is gone is not told
	}
	return reply.status
}

// fail answers with a gateway response.
func (g *Gateway) fail(w http.ResponseWriter, p problem.Problem, header http.Header) int {
	maps.Copy(w.Header(), p.Header())
	maps.Copy(w.Header(), header)
	g.cors(w)
	w.WriteHeader(p.Status)
	_, _ = w.Write(p.Marshal()) // a client that is gone is not told
	return p.Status
}

// cors lets the configured origin read the response. Nothing of the request's Origin is reflected, and credentials are
// never allowed: a bearer token is sent by script, not by the browser.
func (g *Gateway) cors(w http.ResponseWriter) {
	if g.origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", g.origin)
		w.Header().Set("Access-Control-Expose-Headers", "Location, Retry-After, WWW-Authenticate, x-amzn-RequestId")
	}
}

func (g *Gateway) preflight(w http.ResponseWriter, methods []string) int {
	g.cors(w)
	w.Header().Set("Access-Control-Allow-Methods", strings.Join(slices.Compact(slices.Sorted(slices.Values(methods))), ","))
	w.Header().Set("Access-Control-Allow-Headers", "Authorization,Content-Type,Idempotency-Key,Traceparent")
	w.Header().Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

// A function is a Function with the bounds that the gateway sets it.
type function struct {
	call    Function
	timeout time.Duration
	slots   chan struct{} // one is held while the function runs
}

var errTimedOut = errors.New("the function did not answer in time")

// invoke calls the function, detached from the client's connection, and turns a panic into its error. An answer that
// comes after the timeout does not count.
func (f function) invoke(ctx context.Context, id string, event []byte) (output []byte, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.timeout)
	defer cancel()
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: id})
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, errTimedOut // throttled all the while
	}
	defer func() {
		if v := recover(); v != nil {
			output, err = nil, fmt.Errorf("the function panicked: %v\n%s", v, debug.Stack())
		}
	}()
	output, err = f.call(ctx, event)
	if ctx.Err() != nil {
		return nil, errTimedOut
	}
	return output, err
}
