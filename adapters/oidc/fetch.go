package oidc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// The bounds of one fetch.
const (
	fetchTimeout   = 2 * time.Second
	maxBody        = 1 << 20
	maxHeaderBytes = 64 << 10
	maxRedirects   = 3
)

// A fetcher gets the JWK Set of an issuer: from where the settings say, else from where its discovery document does.
type fetcher struct {
	client *http.Client
	issuer string
	given  string // the URL in the settings; empty: see discovery

	discovered string // of the last discovery, empty when that failed; a source fetches one at a time
}

func newFetcher(i Issuer, transport *http.Transport) *fetcher {
	if transport == nil {
		transport, _ = http.DefaultTransport.(*http.Transport)
	}
	if transport == nil { // somebody replaced net/http's own
		transport = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	transport = transport.Clone()
	transport.DisableKeepAlives = true // the next fetch is minutes away
	transport.MaxResponseHeaderBytes = maxHeaderBytes
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = &tls.Config{}
	}
	transport.TLSClientConfig.MinVersion = max(transport.TLSClientConfig.MinVersion, tls.VersionTLS12)
	return &fetcher{
		client: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		issuer: i.Issuer,
		given:  i.JWKSURL,
	}
}

// checkRedirect keeps a fetch with the host that it was meant for.
func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if !sameOrigin(next.URL, via[0].URL) {
		return errors.New("redirected to another host")
	}
	return nil
}

// load returns the JWK Set. again: only its URL's content may have changed, not the URL.
func (f *fetcher) load(ctx context.Context, again bool) ([]byte, error) {
	from := f.given
	if from == "" {
		if !again || f.discovered == "" {
			var err error
			if f.discovered, err = f.discover(ctx); err != nil {
				return nil, fmt.Errorf("discovery: %w", err)
			}
		}
		from = f.discovered
	}
	text, err := f.get(ctx, from)
	if err != nil {
		f.discovered = ""
		return nil, fmt.Errorf("JWK Set: %w", err)
	}
	return text, nil
}

// discover returns the jwks_uri of the issuer's discovery document (OpenID Connect Discovery 1.0 §4).
func (f *fetcher) discover(ctx context.Context) (string, error) {
	text, err := f.get(ctx, discoveryURL(f.issuer))
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return "", errors.New("the document is malformed")
	}
	if document.Issuer != f.issuer { // §4.3: else one host could speak for another
		return "", fmt.Errorf("the document is that of the issuer %.200q", document.Issuer)
	}
	if err := checkURL(document.Keys); err != nil {
		return "", fmt.Errorf("jwks_uri %w", err)
	}
	if strings.HasPrefix(f.issuer, "https:") && !strings.HasPrefix(document.Keys, "https:") {
		return "", errors.New("jwks_uri must be https, as the issuer is")
	}
	return document.Keys, nil
}

// discoveryURL is where an issuer's discovery document is (OpenID Connect Discovery 1.0 §4.1).
func discoveryURL(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// get fetches one document, in fetchTimeout and maxBody.
func (f *fetcher) get(ctx context.Context, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	u, err := url.Parse(from)
	if err != nil {
		return nil, err
	}
	req := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{"Accept": {"application/json"}}}).WithContext(ctx)
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", u.Redacted(), resp.Status)
	}
	return readBounded(resp.Body)
}

func fileLoader(path string) func(context.Context, bool) ([]byte, error) {
	return func(context.Context, bool) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read
		return readBounded(f)
	}
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err == nil && len(text) > maxBody {
		return nil, fmt.Errorf("the document has more than %d bytes", maxBody)
	}
	return text, err
}
