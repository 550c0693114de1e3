package webhook

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// unicast6 is all of IPv6 that IANA has given out to be reached from anywhere. Everything else is outside: loopback,
// unique local (fd00:ec2::254 of AWS among it), link-local, site-local, multicast, discard, SRv6, NAT64 and the forms
// of an IPv4 address (https://www.iana.org/assignments/ipv6-address-space/).
var unicast6 = netip.MustParsePrefix("2000::/3")

// special are the blocks of IPv4, and of unicast6, that are not somebody's own on the public internet
// (https://www.iana.org/assignments/iana-ipv4-special-registry/ and …/iana-ipv6-special-registry/).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network (RFC 791)
	netip.MustParsePrefix("10.0.0.0/8"),      // private (RFC 1918)
	netip.MustParsePrefix("100.64.0.0/10"),   // shared (RFC 6598)
	netip.MustParsePrefix("127.0.0.0/8"),     // loopback (RFC 1122)
	netip.MustParsePrefix("169.254.0.0/16"),  // link-local (RFC 3927), and metadata of most clouds
	netip.MustParsePrefix("172.16.0.0/12"),   // private (RFC 1918)
	netip.MustParsePrefix("192.0.0.0/24"),    // IETF protocols (RFC 6890), and metadata of Oracle's cloud
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation (RFC 5737)
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays (RFC 7526)
	netip.MustParsePrefix("192.168.0.0/16"),  // private (RFC 1918)
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks (RFC 2544)
	netip.MustParsePrefix("198.51.100.0/24"), // documentation (RFC 5737)
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation (RFC 5737)
	netip.MustParsePrefix("224.0.0.0/4"),     // multicast (RFC 5771)
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved (RFC 1112), and broadcast (RFC 919)

	// Azure's platform, which every machine there reaches by it
	// (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
	netip.MustParsePrefix("168.63.129.16/32"),

	netip.MustParsePrefix("2001::/23"),     // IETF protocols (RFC 2928): Teredo, benchmarks, ORCHID
	netip.MustParsePrefix("2001:db8::/32"), // documentation (RFC 3849)
	netip.MustParsePrefix("2002::/16"),     // 6to4 (RFC 3056): holds an IPv4 address
	netip.MustParsePrefix("3fff::/20"),     // documentation (RFC 9637)
}

// public reports whether addr is a unicast address of the public internet. A network's own NAT64 prefix (RFC 6052 §2.2)
// cannot be told from other addresses.
func public(addr netip.Addr) bool {
	addr = addr.Unmap()
	if addr.Is6() && (!unicast6.Contains(addr) || isatap(addr)) {
		return false
	}
	return addr.IsValid() && !slices.ContainsFunc(special, func(block netip.Prefix) bool { return block.Contains(addr) })
}

// isatap reports whether addr ends in an IPv4 address to tunnel to (RFC 5214 §6.1).
func isatap(addr netip.Addr) bool {
	const universal = 0x02 // set when the IPv4 address is globally unique
	a := addr.As16()
	return a[8]&^universal == 0 && a[9] == 0 && a[10] == 0x5e && a[11] == 0xfe
}

// refusePrivate is asked by a net.Dialer before each connection: address is what the name has been resolved to, so that
// no name, and no change of one, leads anywhere else.
func refusePrivate(_ context.Context, _, address string, _ syscall.RawConn) error {
	if to, err := netip.ParseAddrPort(address); err != nil || !public(to.Addr()) {
		return fmt.Errorf("%w: %s", errNotAllowed, address)
	}
	return nil
}
