package clientaddr

import (
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
)

// Rewrite makes the forwarding headers of a request fit for the upstream. h is
// the request's own header and is changed; peer is as for [Resolver.Client], client what that returned,
// scheme what [Resolver.Scheme] returned, host the request's Host.
//
// From an untrusted peer everything is removed by which a client could claim an address, host, scheme or
// path that is not its own: Forwarded, every X-Forwarded-*, and the headers in which CDNs and
// load balancers name the client (X-Real-IP, True-Client-IP, CF-Connecting-IP and their like) or the original
// address of the page (X-Original-URL, X-Rewrite-URL and their like). X-Forwarded-For, -Proto, -Host and X-Real-IP are then set afresh.
//
// From a trusted peer these headers are kept. X-Forwarded-For, and Forwarded where
// there is one, gain the peer's address at their end, X-Real-IP becomes the client's
// address, and X-Forwarded-Proto and -Host stay if they hold one usable value.
//
// From either, headers named Quickthorn-* are removed, and so are the same
// names written with underscores, which CGI-like upstreams cannot tell from the real ones. A Connection header cannot
// name any of them: if it did, the next proxy would drop what was set here.
func (r *Resolver) Rewrite(h http.Header, peer, client netip.Addr, scheme, host string) {
	peer = plain(peer)
	trusted := r.Trusts(peer)
	for name := range h {
		if strip, own := classify(name); strip && (own || !trusted || strings.IndexByte(name, '_') >= 0) {
			delete(h, name)
		}
	}
	protectFromConnection(h)

	values := make([]string, 4) // one allocation for all
	set := func(key, value string) {
		values[0] = value
		h[key] = values[:1:1]
		values = values[1:]
	}
	var peerText string
	if peer.IsValid() {
		peerText = peer.String()
		// What is left of the list is a trusted peer's.
		if before := h[keyXFF]; len(before) > 0 {
			set(keyXFF, strings.Join(before, ", ")+", "+peerText)
		} else {
			set(keyXFF, peerText)
		}
		if before := h[keyForwarded]; len(before) > 0 {
			node := peerText
			if peer.Is6() {
				node = `"[` + node + `]"`
			}
			h[keyForwarded] = []string{strings.Join(before, ", ") + ", for=" + node}
		}
	}
	switch {
	case client == peer && peer.IsValid():
		set(keyRealIP, peerText)
	case client.IsValid():
		set(keyRealIP, client.String())
	}
	if v := h[keyProto]; len(v) != 1 || v[0] != "http" && v[0] != "https" {
		set(keyProto, scheme)
	}
	if v := h[keyHost]; len(v) != 1 || !validHost(v[0]) {
		if validHost(host) {
			set(keyHost, host)
		} else {
			delete(h, keyHost)
		}
	}
}

// classify says whether a header speaks about the client or its request in the
// place of the connection, and whether it is one of quickthorn's own. Case and "_" for "-" do not matter.
func classify(name string) (forwarding, own bool) {
	if name == "" {
		return false, false
	}
	switch name[0] | 0x20 {
	case 'x':
		if hasFold(name, "x-forwarded") {
			return true, false
		}
		switch len(name) {
		case 8:
			return isFold(name, "x-scheme"), false
		case 9:
			return isFold(name, "x-real-ip"), false
		case 11:
			return isFold(name, "x-client-ip") || isFold(name, "x-remote-ip"), false
		case 12:
			return isFold(name, "x-url-scheme"), false
		case 13:
			return isFold(name, "x-remote-addr") || isFold(name, "x-rewrite-url"), false
		case 14:
			return isFold(name, "x-original-uri") || isFold(name, "x-original-url") || isFold(name, "x-original-for") || isFold(name, "x-proxyuser-ip"), false
		case 15:
			return isFold(name, "x-original-host"), false
		case 16:
			return isFold(name, "x-azure-clientip") || isFold(name, "x-azure-socketip") || isFold(name, "x-originating-ip"), false
		case 17:
			return isFold(name, "x-original-method") || isFold(name, "x-original-scheme"), false
		case 19:
			return isFold(name, "x-cluster-client-ip") || isFold(name, "x-appengine-user-ip"), false
		case 24:
			return isFold(name, "x-original-forwarded-for") || isFold(name, "x-envoy-external-address"), false
		}
	case 'f':
		return isFold(name, "forwarded") || isFold(name, "forwarded-for") || isFold(name, "front-end-https") ||
			isFold(name, "fastly-client-ip") || isFold(name, "fly-client-ip"), false
	case 't':
		return isFold(name, "true-client-ip"), false
	case 'c':
		return isFold(name, "client-ip") || isFold(name, "cf-connecting-ip") || isFold(name, "cf-connecting-ipv6") ||
			isFold(name, "cf-pseudo-ipv4"), false
	case 'a':
		return isFold(name, "ali-cdn-real-ip"), false
	case 'q':
		return hasFold(name, "quickthorn-"), true
	}
	return false, false
}

// isFold reports whether name is lower, in whatever case and with "_" for "-".
func isFold(name, lower string) bool { return len(name) == len(lower) && hasFold(name, lower) }

func hasFold(name, lower string) bool {
	if len(name) < len(lower) {
		return false
	}
	for i := 0; i < len(lower); i++ {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		} else if c == '_' {
			c = '-'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// protectFromConnection takes the names of forwarding headers out of
// Connection: a header that is named there is dropped on the way.
func protectFromConnection(h http.Header) {
	values := h["Connection"]
	for _, v := range values {
		if !namesForwarding(v) {
			continue
		}
		var kept []string
		for _, v := range values {
			for token := range strings.SplitSeq(v, ",") {
				token = textproto.TrimString(token)
				if forwarding, _ := classify(token); !forwarding && token != "" {
					kept = append(kept, token)
				}
			}
		}
		if len(kept) == 0 {
			delete(h, "Connection")
			return
		}
		h["Connection"] = []string{strings.Join(kept, ", ")}
		return
	}
}

func namesForwarding(v string) bool {
	for token := range strings.SplitSeq(v, ",") {
		if forwarding, _ := classify(textproto.TrimString(token)); forwarding {
			return true
		}
	}
	return false
}

// maxHost bounds a host with its port: the longest name DNS allows and a little more.
const maxHost = 262

// validHost reports whether s has the form of a host name or address with an
// optional port. What the name stands for is not checked.
func validHost(s string) bool {
	if s == "" || len(s) > maxHost {
		return false
	}
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return false
		}
		a, err := netip.ParseAddr(s[1:end])
		port := s[end+1:]
		return err == nil && a.Is6() && a.Zone() == "" && (port == "" || port[0] == ':' && digitPort(port[1:]))
	}
	name, port, hasPort := strings.Cut(s, ":")
	if name == "" || hasPort && !digitPort(port) {
		return false
	}
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

func digitPort(s string) bool { return isPort(s) && s[0] != '_' }
