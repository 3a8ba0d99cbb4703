package clientaddr

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// The names of the headers that can name the client, as [Config] and
// [Resolver.Client] use them.
const (
	XForwardedFor = "X-Forwarded-For"
	Forwarded     = "Forwarded" // RFC 7239
	XRealIP       = "X-Real-IP"
)

// Peer is what [Resolver.Client] calls its source when no header decided.
const Peer = "peer"

// Bounds on what is looked at for one request, counted from the right. What lies
// beyond them was written by whoever is farthest away, and is ignored.
const (
	maxHops  = 64
	maxBytes = 8 << 10
)

// Header keys in the canonical form of net/http.
const (
	keyXFF       = "X-Forwarded-For"
	keyForwarded = "Forwarded"
	keyRealIP    = "X-Real-Ip"
	keyProto     = "X-Forwarded-Proto"
	keyHost      = "X-Forwarded-Host"
)

// Config says whose word about the client is believed.
type Config struct {
	// Trusted are the addresses of the proxies in front of the edge. Empty:
	// every client is the peer itself.
	Trusted []netip.Prefix
	// TrustUnix trusts whoever connects by a Unix socket. Such a peer has no
	// address; untrusted, it is a client without one.
	TrustUnix bool
	// Headers are believed in this order: the first that holds a usable
	// address decides. Nil means X-Forwarded-For, Forwarded, X-Real-IP. Case does not matter.
	Headers []string
}

// Resolver finds the client of a request. It is immutable, so that any number
// of goroutines may use it.
type Resolver struct {
	trusted   bart.Lite
	trustUnix bool
	headers   []string // of the three names above
}

// New returns a Resolver. The error names the range or header that is wrong.
func New(c Config) (*Resolver, error) {
	r := &Resolver{trustUnix: c.TrustUnix}
	for _, p := range c.Trusted {
		if !p.IsValid() {
			return nil, fmt.Errorf("trusted proxies: %v is not a range", p)
		}
		if a := p.Addr(); a.Is4In6() {
			if p.Bits() < 96 {
				return nil, fmt.Errorf("trusted proxies: %v: write the IPv4 range itself", p)
			}
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		r.trusted.Insert(p.Masked())
	}
	known := []string{XForwardedFor, Forwarded, XRealIP}
	if c.Headers == nil {
		r.headers = known
		return r, nil
	}
	for _, name := range c.Headers {
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
		if i < 0 {
			return nil, fmt.Errorf("client headers: unknown header %q: use %s", name, strings.Join(known, ", "))
		}
		if slices.Contains(r.headers, known[i]) {
			return nil, fmt.Errorf("client headers: %s is named twice", known[i])
		}
		r.headers = append(r.headers, known[i])
	}
	return r, nil
}

// Trusts reports whether a peer's word is believed. The zero Addr stands for a
// peer on a Unix socket.
func (r *Resolver) Trusts(peer netip.Addr) bool {
	if !peer.IsValid() {
		return r.trustUnix
	}
	return r.trusted.Contains(plain(peer))
}

// Client returns the address of the client of a request that peer sent, and
// what named it: [Peer] or one of the headers' names. peer is the other end of the
// connection, the zero Addr on a Unix socket. The address is without zone and never
// IPv4-in-IPv6; it is the zero Addr only when peer is and no header names anybody.
//
// An untrusted peer is the client. For a trusted one the lists are read from right to left over all
// lines of the header: trusted hops are passed over, and so is what is no address ("unknown", "_hidden",
// empty elements, garbage). If every hop is trusted, the leftmost is the client: a request
// that began inside the trusted network. At most 64 elements and 8 KiB are looked at.
func (r *Resolver) Client(peer netip.Addr, h http.Header) (client netip.Addr, how string) {
	peer = plain(peer)
	if !r.Trusts(peer) {
		return peer, Peer
	}
	for _, name := range r.headers {
		var a netip.Addr
		switch name {
		case XForwardedFor:
			a = r.walkXFF(h[keyXFF])
		case Forwarded:
			a, _ = r.walkForwarded(h[keyForwarded])
		case XRealIP:
			if v := h[keyRealIP]; len(v) > 0 {
				a, _ = parseNode(v[len(v)-1])
			}
		}
		if a.IsValid() {
			return a, name
		}
	}
	return peer, Peer
}

// Scheme returns "https" or "http" as the client used it. encrypted says
// whether the connection to the edge is TLS; it decides unless a trusted peer says better in
// X-Forwarded-Proto (the leftmost of a list), or, if that header is believed, in the proto of the Forwarded
// element that names the client. ws and wss, as some proxies write for an upgrade, mean http and https.
func (r *Resolver) Scheme(peer netip.Addr, h http.Header, encrypted bool) string {
	if r.Trusts(peer) {
		// X-Forwarded-Proto goes with the two X- headers, at the place of the first.
		for _, name := range r.headers {
			var s string
			if name == Forwarded {
				if v := h[keyForwarded]; len(v) > 0 {
					_, s = r.walkForwarded(v)
				}
			} else if v := h[keyProto]; len(v) > 0 {
				s, _, _ = strings.Cut(v[0], ",")
			}
			if s = schemeOf(s); s != "" {
				return s
			}
		}
	}
	if encrypted {
		return "https"
	}
	return "http"
}

// walkXFF returns the client in the lines of X-Forwarded-For, or the zero Addr.
func (r *Resolver) walkXFF(lines []string) netip.Addr {
	var last netip.Addr
	for e := newElements(lines, false); e.next(); {
		a, ok := parseNode(e.element)
		if !ok {
			continue
		}
		if !r.trusted.Contains(a) {
			return a
		}
		last = a
	}
	return last
}

// walkForwarded does the same for Forwarded, and returns the proto of the
// element that names the client, "" if it has none.
func (r *Resolver) walkForwarded(lines []string) (netip.Addr, string) {
	var last netip.Addr
	var lastProto string
	for e := newElements(lines, true); e.next(); {
		node, proto := parseForwarded(e.element)
		a, ok := parseNode(node)
		if !ok {
			continue
		}
		if !r.trusted.Contains(a) {
			return a, proto
		}
		last, lastProto = a, proto
	}
	return last, lastProto
}

// schemeOf returns the canonical scheme for a protocol as proxies write it, or "".
func schemeOf(s string) string {
	s = textproto.TrimString(s)
	switch {
	case strings.EqualFold(s, "https"), strings.EqualFold(s, "wss"):
		return "https"
	case strings.EqualFold(s, "http"), strings.EqualFold(s, "ws"):
		return "http"
	}
	return ""
}

// plain folds IPv4-in-IPv6 and drops the zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
