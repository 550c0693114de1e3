package webhook_test

import (
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jobgate/jobgate/adapters/webhook"
)

// private are addresses, first and last of a block, that no webhook is posted to; public those next to them.
var private = []string{
	"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.100.100.200", "100.127.255.255", "127.0.0.1", "127.255.255.255",
	"168.63.129.16", "169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255", "172.16.0.0", "172.31.255.255",
	"192.0.0.0", "192.0.0.192", "192.0.0.255", "192.0.2.0", "192.0.2.255", "192.88.99.0", "192.88.99.255", "192.168.0.0", "192.168.255.255",
	"198.18.0.0", "198.19.255.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255",
	"224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255",

	"::", "::1", "::7f00:1", "::10.0.0.1", "::8.8.8.8", "64:ff9b::", "64:ff9b::8.8.8.8", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "100::", "100::1", "100:0:0:1::",
	"1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::", "2001:10::", "2001:20::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
	"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2002::", "2002:7f00:1::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "4000::", "5f00::", "fc00::", "fd00:ec2::254", "fd20:ce::254", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"fe80::", "fe80::a9fe:a9fe", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fec0::", "ff00::", "ff02::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"2a00:1450::5efe:10.0.0.1", "2a00:1450::200:5efe:8.8.8.8", // ISATAP
	"fe80::1%eth0", "2a00:1450::1%eth0",
}

var public = []string{
	"1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17",
	"169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0",
	"192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",

	"2000::", "2001:200::", "2001:4860:4860::8888", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2003::", "2606:4700:4700::1111",
	"2a00:1450::5efd:0:1", "2a00:1450::100:5efe:8.8.8.8", "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::",
}

func TestAddressesAreCheckedAtDial(t *testing.T) {
	t.Parallel()
	check := func(addr string, want bool) {
		t.Helper()
		if err := webhook.RefusePrivate(t.Context(), "tcp", net.JoinHostPort(addr, "443"), nil); (err == nil) != want {
			t.Errorf("%s: %v, want allowed %v", addr, err, want)
		}
	}
	for want, addresses := range map[bool][]string{false: private, true: public} {
		for _, addr := range addresses {
			check(addr, want)
			if parsed := netip.MustParseAddr(addr); parsed.Is4() {
				check("::ffff:"+addr, want)
			}
		}
	}
	for _, address := range []string{"", "localhost:443", "127.0.0.1", "8.8.8.8", "8.8.8.8:x", "unix"} {
		if webhook.RefusePrivate(t.Context(), "tcp", address, nil) == nil {
			t.Errorf("%q is no resolved address, and allowed", address)
		}
	}
}

func TestAURLThatNamesAPrivateAddressIsAMistakeAtStart(t *testing.T) {
	t.Parallel()
	for want, addresses := range map[bool][]string{false: private, true: public} {
		for _, addr := range addresses {
			host := strings.Replace(addr, "%", "%25", 1) // RFC 6874
			if strings.Contains(addr, ":") {
				host = "[" + host + "]"
			}
			endpoint := webhook.Endpoint{URL: "https://" + host + "/", Secrets: []string{oldSecret}}
			if _, err := webhook.NewHandler(endpoint, webhook.Options{Source: "jobgate"}); (err == nil) != want {
				t.Errorf("%s: %v, want allowed %v", endpoint.URL, err, want)
			}
			if _, err := webhook.NewHandler(endpoint, webhook.Options{Source: "jobgate", AllowPrivate: true}); err != nil {
				t.Errorf("%s: %v, where it is allowed", endpoint.URL, err)
			}
		}
	}
}

// A name is nothing to go by: it leads today here and tomorrow there.
func TestANameThatLeadsToThisMachineIsRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	seen := &counting{Listener: server.Listener}
	server.Listener = seen
	server.Config.ErrorLog = quiet
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for host, certain := range map[string]bool{
		"localhost":  true,
		"LOCALHOST":  true,
		"2130706433": false, "0x7f000001": false, "0177.0.0.1": false, "127.1": false, // left to the resolver: addresses, or names of nobody
	} {
		_, err := newHandler(t, "https://"+net.JoinHostPort(host, port)+"/", guarded).Handle(ctx(t), aRun())
		if err == nil {
			t.Errorf("%s was called", host)
			continue
		}
		if got := err.Error(); got != "the webhook's address is not allowed" && (certain || got != "the webhook's host name could not be resolved") {
			t.Errorf("%s: %v", host, err)
		}
		if certain {
			wantHidden(t, err, "not on the public internet: ")
		}
	}
	if n := seen.accepted.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	_, err = newHandler(t, "https://"+net.JoinHostPort("localhost", port)+"/").Handle(ctx(t), aRun())
	wantFailure(t, err, "the webhook could not be reached by TLS") // where it is allowed, it is reached
}

// counting counts the connections that were made to a listener.
type counting struct {
	net.Listener
	accepted atomic.Int64
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}
