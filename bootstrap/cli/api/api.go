// Package api is a client of the REST API for a command line: it waits where it may, repeats what is safe to repeat,
// and trusts nothing that a server answers.
package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	callTimeout = 30 * time.Second // API Gateway gives an integration 29
	dialTimeout = 10 * time.Second
	maxAnswer   = 4 << 20 // many times the largest job's document

	// tries is how often a call is made at most, maxWait the longest wait between two that a server can ask for.
	tries    = 5
	maxWait  = time.Minute
	baseWait = 500 * time.Millisecond
)

// A Client calls one server on behalf of one caller. It is safe for concurrent use once its fields are set.
type Client struct {
	// Server is the address of the API, with its base path if it has one: https, or http on a loopback host.
	Server string

	// Token returns the bearer token of a call. It is asked before each, and its error is returned as it is.
	Token func(context.Context) (string, error)

	// HTTP makes the calls; see New for what it has to be.
	HTTP *http.Client

	// UserAgent names the program.
	UserAgent string

	// Retrying is told before each wait for another try; nil: nobody is told.
	Retrying func(Retry)
}

// A Retry is a call that failed and is about to be made again.
type Retry struct {
	Err  error
	Wait time.Duration
}

// New returns a client with time limits that follows no redirect: a token is for the server it was given for.
func New(server string, token func(context.Context) (string, error)) (*Client, error) {
	if _, err := base(server); err != nil {
		return nil, err
	}
	return &Client{Server: server, Token: token, HTTP: &http.Client{
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:    dialTimeout,
			MaxIdleConnsPerHost:    64,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		},
	}}, nil
}

// Close closes the connections that are kept for further calls.
func (c *Client) Close() { c.HTTP.CloseIdleConnections() }

// base returns the address that paths are appended to.
func base(server string) (*url.URL, error) {
	u, err := url.Parse(server)
	switch {
	case err == nil && u.User != nil:
		return nil, fmt.Errorf("%w: it has a user in it, and the server goes by tokens", ErrServer)
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Errorf("%w: %s is no address like https://jobs.example.com", ErrServer, Printable(server))
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, fmt.Errorf("%w: %s has to begin with https://, for the token is sent there", ErrServer, Printable(server))
	}
	return u, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// A call is one request of the API.
type call struct {
	method string
	path   []string
	query  url.Values
	key    string // Idempotency-Key
	body   []byte // JSON

	// repeatable says that a call which may have been carried out is safe to make again.
	repeatable bool
	anonymous  bool // without a token
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes a call until it is answered, its tries are used up, or the server asks for more patience than maxWait.
func (c *Client) do(ctx context.Context, k call) (answer, error) {
	for try := 1; ; try++ {
		a, err := c.once(ctx, k)
		if err == nil || try == tries || !k.worthwhile(err) {
			return a, err
		}
		wait := time.Duration(float64(baseWait<<(try-1)) * (0.5 + rand.Float64())) //nolint:gosec // spreads load, hides nothing
		if p, ok := errors.AsType[*Problem](err); ok && p.RetryAfter > 0 {
			wait = p.RetryAfter + time.Duration(rand.Int64N(int64(baseWait))) //nolint:gosec // as above
		}
		if wait > maxWait+baseWait {
			return a, err
		}
		if c.Retrying != nil {
			c.Retrying(Retry{Err: err, Wait: wait})
		}
		if err := pause(ctx, wait); err != nil {
			return a, err
		}
	}
}

// worthwhile reports whether another try may succeed and does no harm.
func (k call) worthwhile(err error) bool {
	if p, ok := errors.AsType[*Problem](err); ok {
		switch p.Status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return true
		case http.StatusBadGateway, http.StatusGatewayTimeout:
			return k.repeatable
		}
		return false
	}
	if !errors.Is(err, ErrUnreachable) {
		return false
	}
	op, ok := errors.AsType[*net.OpError](err)
	return k.repeatable || ok && op.Op == "dial" // then nothing was sent
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// once makes a call, and has its answer when that is JSON with a status of 2xx.
func (c *Client) once(ctx context.Context, k call) (answer, error) {
	a, err := c.send(ctx, k)
	switch {
	case err != nil:
		return answer{}, err
	case a.status/100 == 3:
		return answer{}, fmt.Errorf("%w: it sends the call on to %s, where the token does not go", ErrAnswer, Printable(bound(a.header.Get("Location"))))
	case a.status/100 != 2:
		return answer{}, problem(a)
	}
	if kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type")); err != nil || kind != "application/json" {
		return answer{}, fmt.Errorf("%w: it is %s and not application/json; is this the address of jobgate?", ErrAnswer, Printable(bound(strconv.Quote(kind))))
	}
	return a, nil
}

func (c *Client) send(ctx context.Context, k call) (answer, error) {
	u, err := base(c.Server)
	if err != nil {
		return answer{}, err
	}
	u = u.JoinPath(k.path...)
	u.RawQuery = k.query.Encode()
	req, err := http.NewRequestWithContext(ctx, k.method, u.String(), bytes.NewReader(k.body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.UserAgent)
	if k.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if k.key != "" {
		req.Header.Set("Idempotency-Key", k.key)
	}
	if !k.anonymous {
		token, err := c.Token(ctx)
		if err != nil {
			return answer{}, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return answer{}, c.failed(ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, c.failed(ctx, err)
	}
	if len(body) > maxAnswer {
		return answer{}, fmt.Errorf("%w: it has more than %d MiB", ErrAnswer, maxAnswer>>20)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// failed translates the error of a call that was not answered. The URL in it is left out: it says no more than the
// server's address does.
func (c *Client) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, Printable(c.Server), err)
}

// decode reads the body of an answer into v, which members that v does not have are no mistake for.
func decode(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %s", ErrAnswer, Printable(bound(err.Error())))
	}
	return nil
}

// compact returns a document on one line, with its strings and numbers as they are.
func compact(document []byte) (jsontext.Value, error) {
	v := jsontext.Value(bytes.Clone(document))
	if err := v.Compact(); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrAnswer, Printable(bound(err.Error())))
	}
	return v, nil
}

// A Probe is the answer to an anonymous question, whatever its status.
type Probe struct {
	Status int
	Date   time.Time // of the server's clock, to the second; zero when it does not say
	Body   []byte
}

// Ask asks once for a public document like readyz. Its error is that there was no answer.
func (c *Client) Ask(ctx context.Context, path string) (Probe, error) {
	a, err := c.send(ctx, call{method: http.MethodGet, path: []string{path}, anonymous: true})
	return Probe{Status: a.status, Date: date(a.header), Body: a.body}, err
}

func date(h http.Header) time.Time {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}

// bound cuts what a server says to what a person will read.
func bound(s string) string {
	const most = 500
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
