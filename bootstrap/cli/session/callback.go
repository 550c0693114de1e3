package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	callbackPath = "/callback"
	portTries    = 10
)

// A callback is the redirect URI on the loopback interface (RFC 8252 §7.3), and what came there.
type callback struct {
	uri     string
	taken   atomic.Bool
	arrived chan url.Values // of the one that was taken, once its page is sent
	server  *http.Server
	serving sync.WaitGroup
}

// listen opens the redirect URI. A browser takes localhost for either address, so that one is ours on both.
func listen(ctx context.Context, host string, port int) (*callback, error) {
	addresses := []string{host}
	if host == "localhost" {
		addresses = []string{"127.0.0.1", "::1"}
	}
	var listeners []net.Listener
	var err error
	for range portTries {
		if listeners, err = listenAll(ctx, addresses, port); err == nil || port != 0 {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("no redirect of the browser can be taken: %w; try another --redirect-port, or --device, which needs none", err)
	}
	_, actual, err := net.SplitHostPort(listeners[0].Addr().String())
	if err != nil {
		return nil, err
	}
	c := &callback{arrived: make(chan url.Values, 1)}
	authority := hostPort(host, actual)
	c.uri = "http://" + authority + callbackPath
	c.server = &http.Server{
		Handler: c.handler(authority), ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: maxAnswer,
	}
	for _, l := range listeners {
		c.serving.Go(func() { _ = c.server.Serve(l) }) // ends with close
	}
	return c, nil
}

// listenAll listens on one port of every address that this machine has; port 0 is any.
func listenAll(ctx context.Context, addresses []string, port int) (listeners []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
		}
	}()
	var config net.ListenConfig
	for _, address := range addresses {
		if len(addresses) > 1 {
			probe, err := config.Listen(ctx, "tcp", net.JoinHostPort(address, "0"))
			if err != nil {
				continue // no such address here: nobody else can have its port
			}
			probe.Close()
		}
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
		if port == 0 {
			if a, ok := l.Addr().(*net.TCPAddr); ok {
				port = a.Port
			}
		}
	}
	if len(listeners) == 0 {
		return nil, errors.New("this machine has no loopback address")
	}
	return listeners, nil
}

// handler takes one redirect. A name that was pointed to this machine (DNS rebinding) gets nothing.
func (c *callback) handler(authority string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Referrer-Policy", "no-referrer") // the page's address has the code
		h.Set("X-Content-Type-Options", "nosniff")
		switch {
		case r.Host != authority:
			w.WriteHeader(http.StatusMisdirectedRequest)
			return
		case r.URL.Path != callbackPath || r.Method != http.MethodGet:
			w.WriteHeader(http.StatusNotFound)
			return
		}
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if !c.taken.CompareAndSwap(false, true) {
			w.WriteHeader(http.StatusGone)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(page)))
		_, _ = io.WriteString(w, page)            // a browser that is gone
		_ = http.NewResponseController(w).Flush() // has no use for it
		c.arrived <- query
	})
}

// page says nothing of how it went, which is not known yet.
const page = `<!DOCTYPE html>
<html lang="en">
<title>jobgate</title>
<h1>Back to the terminal</h1>
<p>jobgate has the answer, and says there how it went. This page can be closed.</p>
</html>
`

// wait returns the code that was sent for the given state.
func (c *callback) wait(ctx context.Context, is *issuer, state string) (string, error) {
	var query url.Values
	select {
	case query = <-c.arrived:
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	for _, name := range []string{"state", "iss", "error", "code"} {
		if len(query[name]) > 1 { // RFC 6749 §3.1
			return "", refused("what came back has %s twice", name)
		}
	}
	problem := query.Get("error")
	switch {
	case query.Get("state") != state:
		return "", refused("what came back has another state than this login: somebody may have tried to log you in as somebody else")
	case query.Has("iss") && query.Get("iss") != is.Issuer: // RFC 9207 §2.4
		return "", refused("what came back is of the issuer %q and not of %q: do not go on with it", printable(query.Get("iss")), is.Issuer)
	case !query.Has("iss") && is.SendsIss:
		return "", refused("what came back does not say that it is of the issuer, as this one always does (RFC 9207)")
	case problem == "access_denied":
		return "", refused("it was declined at the issuer%s", suffix(query.Get("error_description")))
	case problem == "invalid_scope":
		return "", refused("the issuer does not know a scope that was asked for%s: name those it has by --scope", suffix(query.Get("error_description")))
	case problem != "":
		return "", refused("the issuer says %s%s", printable(problem), suffix(query.Get("error_description")))
	case query.Get("code") == "":
		return "", refused("what came back has no code")
	}
	return query.Get("code"), nil
}

func suffix(description string) string {
	if description == "" {
		return ""
	}
	return " (" + printable(description) + ")"
}

// close ends the callback at once: a browser holds connections open that it makes on the chance of using them.
func (c *callback) close() {
	_ = c.server.Close() // of listeners that nobody needs any more
	c.serving.Wait()
}
