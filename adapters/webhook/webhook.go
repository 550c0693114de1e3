// Package webhook hands jobs to another program: a handler that POSTs each one to a URL, signed by Standard Webhooks
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
//
// The body is the job's message of package cloudevent. webhook-id is the job's id, of a retry and of a redrive as well,
// so that the receiver can tell a job that it had already; webhook-timestamp is when the attempt was made,
// webhook-signature has a signature by each secret, and jobgate-attempt, which is not signed, is Run.Attempt.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/ports"
)

// DefaultTimeout is how long a webhook has to answer where its Endpoint does not say.
const DefaultTimeout = 15 * time.Second

// The bounds of one call, beside its timeout.
const (
	connectTimeout   = 10 * time.Second // and again for TLS
	idleTimeout      = 10 * time.Second // of a connection that is kept for the next job
	maxIdle          = 16               // such connections
	maxHeaderBytes   = 16 << 10
	maxResponse      = 64 << 10 // read of an answer's body, so that its connection can be used again
	maxSecrets       = 2        // while rotating
	secretPrefix     = "whsec_"
	minKey, maxKey   = 24, 64 // bytes, by Standard Webhooks
	attemptHeader    = "Jobgate-Attempt"
	eventContentType = "application/cloudevents+json" // CloudEvents JSON format §3
)

// An Endpoint is where jobs are posted to.
type Endpoint struct {
	URL     string        // https, without user, password and fragment
	Secrets []string      // one, or two while rotating: whsec_ and the base64 of 24 to 64 bytes
	Timeout time.Duration // of one call, answer included; 0: DefaultTimeout. The end of a run ends its call, too
}

// Options are what a handler needs beside its endpoint.
type Options struct {
	Source       string           // of the CloudEvents: a non-empty URI-reference
	AllowPrivate bool             // plain http and addresses that are not on the public internet: for laptops
	RootCAs      *x509.CertPool   // nil: the system's
	Now          func() time.Time // nil: time.Now
}

// Handler is a ports.JobHandler. An answer 2xx is success, whose output is the answer's body if that is JSON of at most
// domain.MaxOutput bytes, and else nothing. 410 is a permanent error, 429 and 503 are retried not before their
// Retry-After, and everything else is retried: other answers, a redirect, which is not followed, no answer in time, no
// connection.
//
// The text of an error says no more than the status or the kind of failure. It holds nothing of the answer, and neither
// the URL nor an address, which may be the operator's secret: see Cause.
type Handler struct {
	url       string
	timeout   time.Duration
	signers   []*standardwebhooks.Webhook
	source    string
	now       func() time.Time
	transport *http.Transport
}

var _ ports.JobHandler = (*Handler)(nil)

// NewHandler returns the handler that posts to e, or all that is wrong with e, joined; no error repeats the URL or a
// secret. It does no I/O.
func NewHandler(e Endpoint, opts Options) (*Handler, error) {
	h := &Handler{url: e.URL, timeout: e.Timeout, source: opts.Source, now: opts.Now, transport: newTransport(opts)}
	if h.timeout == 0 {
		h.timeout = DefaultTimeout
	}
	if h.now == nil {
		h.now = time.Now
	}
	problems := []error{checkURL(e.URL, opts.AllowPrivate)}
	if h.timeout < 0 || h.timeout > domain.MaxRunTimeout {
		problems = append(problems, errors.New("timeout: must be above 0 and at most 12h"))
	}
	if len(e.Secrets) == 0 || len(e.Secrets) > maxSecrets {
		problems = append(problems, errors.New("secret: there must be one, or two while rotating"))
	}
	for _, secret := range e.Secrets {
		signer, err := newSigner(secret)
		problems = append(problems, err)
		h.signers = append(h.signers, signer)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return h, nil
}

// newTransport returns HTTP/1.1 that asks no proxy, not even the environment's: a proxy would resolve the name, past the
// address check.
func newTransport(opts Options) *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout}
	if !opts.AllowPrivate {
		dialer.ControlContext = refusePrivate
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: opts.RootCAs},
		TLSHandshakeTimeout:    connectTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true,
	}
}

func checkURL(raw string, allowPrivate bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("url: must be a URL like https://hooks.example.com/jobs")
	case u.Scheme == "http" && !allowPrivate:
		return errors.New("url: must be https, unless private addresses are allowed")
	case u.User != nil:
		return errors.New("url: must have no user and no password")
	case strings.Contains(raw, "#"):
		return errors.New("url: must have no fragment")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("url: has a port that there is not")
		}
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && !allowPrivate && !public(addr) {
		return errors.New("url: names an address that is not on the public internet")
	}
	return nil
}

func newSigner(secret string) (*standardwebhooks.Webhook, error) {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < minKey || len(key) > maxKey {
		return nil, errors.New("secret: must be whsec_ and the base64 of 24 to 64 bytes")
	}
	return standardwebhooks.NewWebhookRaw(key)
}

// Handle posts the job.
func (h *Handler) Handle(ctx context.Context, run ports.Run) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	req, err := h.request(ctx, run)
	if err != nil {
		return nil, domain.Permanent(err)
	}
	resp, err := h.transport.RoundTrip(req)
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if err := h.refusal(resp); err != nil {
		return nil, err
	}
	return output(resp.Body), nil
}

// CloseIdleConnections ends the connections that are kept for the next job. They end by themselves as well, ten
// seconds after the last job.
func (h *Handler) CloseIdleConnections() { h.transport.CloseIdleConnections() }

// request is the signed call about a job.
func (h *Handler) request(ctx context.Context, run ports.Run) (*http.Request, error) {
	body, err := cloudevent.Encode(run.Job, h.source)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	now := h.now()
	var signatures []string
	for _, signer := range h.signers {
		signature, err := signer.Sign(run.Job.ID, now, body)
		if err != nil {
			return nil, err
		}
		signatures = append(signatures, signature)
	}
	req.Header.Set("User-Agent", "jobgate")
	req.Header.Set("Content-Type", eventContentType)
	req.Header.Set(standardwebhooks.HeaderWebhookID, run.Job.ID)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	req.Header.Set(attemptHeader, strconv.Itoa(run.Attempt))
	if run.Job.TraceParent != "" {
		req.Header.Set("Traceparent", run.Job.TraceParent)
	}
	return req, nil
}

// refusal is the error that an answer's status comes to, nil for 2xx.
func (h *Handler) refusal(resp *http.Response) error {
	status := resp.StatusCode
	err := domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "the webhook answered %d", status)
	switch {
	case status >= 200 && status < 300:
		return nil
	case status >= 300 && status < 400:
		err.Message += ": redirects are not followed"
	case status == http.StatusGone:
		return domain.Permanent(err)
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		err.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), h.now())
	}
	return err
}

// retryAfter reads a Retry-After (RFC 9110 §10.2.3): seconds or a date. What it does not say, or says wrongly, is 0;
// nothing waits longer than domain.MaxBackoff.
func retryAfter(value string, now time.Time) time.Duration {
	const most = uint64(domain.MaxBackoff / time.Second)
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, most)) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), domain.MaxBackoff)
}

// output is what of an answer's body the job keeps. An answer that breaks off or never ends has been 2xx all the same.
func output(body io.Reader) []byte {
	data, err := io.ReadAll(io.LimitReader(body, maxResponse))
	if err != nil || len(data) > domain.MaxOutput || !jsontext.Value(data).IsValid(jsontext.AllowDuplicateNames(true)) {
		return nil
	}
	return data
}
