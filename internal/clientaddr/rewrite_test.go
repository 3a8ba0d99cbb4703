package clientaddr

import (
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rewrite does what the edge does: find the client, then rewrite.
func rewrite(r *Resolver, h http.Header, peer netip.Addr, encrypted bool, host string) http.Header {
	client, _ := r.Client(peer, h)
	r.Rewrite(h, peer, client, r.Scheme(peer, h, encrypted), host)
	return h
}

func TestRewriteRemovesWhatAnUntrustedPeerClaims(t *testing.T) {
	forged := []string{
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server",
		"X-Forwarded", "X-Forwarded-Uri", "X-Forwarded-User", "X-Forwarded-Ssl", "Forwarded", "Forwarded-For",
		"X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Remote-IP", "X-Remote-Addr", "X-Originating-IP", "X-ProxyUser-IP", "Client-IP",
		"True-Client-IP", "CF-Connecting-IP", "CF-Connecting-IPv6", "CF-Pseudo-IPv4", "Fastly-Client-IP", "Fly-Client-IP",
		"X-Azure-ClientIP", "X-Azure-SocketIP", "X-AppEngine-User-IP", "X-Envoy-External-Address", "Ali-CDN-Real-IP",
		"X-Original-URI", "X-Original-URL", "X-Rewrite-URL", "X-Original-Host", "X-Original-For", "X-Original-Method", "X-Original-Scheme",
		"X-Original-Forwarded-For", "X-Scheme", "X-URL-Scheme", "Front-End-Https",
		"Quickthorn-Client", "Quickthorn-Signature", "quickthorn-anything",
	}
	h := header("User-Agent", "curl/8", "X-Requested-With", "XMLHttpRequest", "X-Auth-Token", "t", "Cf-Ray", "1")
	kept := h.Clone()
	for _, name := range forged {
		h.Add(name, "6.6.6.6")
		h.Add(strings.ReplaceAll(name, "-", "_"), "6.6.6.6") // CGI cannot tell these apart
	}
	want := maps.Clone(kept)
	want["X-Forwarded-For"] = []string{"203.0.113.5"}
	want["X-Real-Ip"] = []string{"203.0.113.5"}
	want["X-Forwarded-Proto"] = []string{"https"}
	want["X-Forwarded-Host"] = []string{"example.org:8443"}
	rewrite(trusting(t, "10.0.0.0/8"), h, addr("203.0.113.5"), true, "example.org:8443")
	if d := cmp.Diff(want, h); d != "" {
		t.Error("(-want +got)", d)
	}
}

func TestRewriteKeepsAndAppendsForTrustedPeer(t *testing.T) {
	r := trusting(t, "10.0.0.0/8", "fd00::/8")
	tests := []struct {
		name, peer string
		in, want   http.Header
	}{
		{"chain is appended to", "10.0.0.1",
			header("X-Forwarded-For", "1.1.1.1, 203.0.113.5", "X-Forwarded-For", "10.0.0.2", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "www.example.org", "X-Forwarded-Port", "443", "CF-Connecting-IP", "203.0.113.5"),
			header("X-Forwarded-For", "1.1.1.1, 203.0.113.5, 10.0.0.2, 10.0.0.1", "X-Real-IP", "203.0.113.5", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "www.example.org", "X-Forwarded-Port", "443", "CF-Connecting-IP", "203.0.113.5")},
		{"what is missing is set", "10.0.0.1", header(),
			header("X-Forwarded-For", "10.0.0.1", "X-Real-IP", "10.0.0.1", "X-Forwarded-Proto", "http", "X-Forwarded-Host", "example.org")},
		{"forged X-Real-IP gives way to the client", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5", "X-Real-Ip", "6.6.6.6"),
			header("X-Forwarded-For", "203.0.113.5, 10.0.0.1", "X-Real-IP", "203.0.113.5", "X-Forwarded-Proto", "http", "X-Forwarded-Host", "example.org")},
		{"unfit proto and host are replaced", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5", "X-Forwarded-Proto", "https, http", "X-Forwarded-Host", "evil/<b>"),
			header("X-Forwarded-For", "203.0.113.5, 10.0.0.1", "X-Real-IP", "203.0.113.5", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "example.org")},
		{"Forwarded is appended to", "fd00::1", header("Forwarded", "for=203.0.113.5;proto=https"),
			header("Forwarded", `for=203.0.113.5;proto=https, for="[fd00::1]"`, "X-Forwarded-For", "fd00::1", "X-Real-IP", "203.0.113.5", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "example.org")},
		{"junk in the chain is passed on", "10.0.0.1", header("X-Forwarded-For", "203.0.113.5, unknown"),
			header("X-Forwarded-For", "203.0.113.5, unknown, 10.0.0.1", "X-Real-IP", "203.0.113.5", "X-Forwarded-Proto", "http", "X-Forwarded-Host", "example.org")},
		{"own headers and names with underscores never pass", "10.0.0.1", header("Quickthorn-Client", "6.6.6.6", "X_Real_IP", "6.6.6.6", "X_Forwarded-For", "6.6.6.6"),
			header("X-Forwarded-For", "10.0.0.1", "X-Real-IP", "10.0.0.1", "X-Forwarded-Proto", "http", "X-Forwarded-Host", "example.org")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, rewrite(r, tt.in, addr(tt.peer), false, "example.org")); d != "" {
				t.Error("(-want +got)", d)
			}
		})
	}
}

func TestRewriteForPeerOnUnixSocket(t *testing.T) {
	in := header("X-Forwarded-For", "203.0.113.5", "X-Real-Ip", "6.6.6.6")
	untrusted := rewrite(trusting(t), in.Clone(), netip.Addr{}, false, "example.org")
	if d := cmp.Diff(header("X-Forwarded-Proto", "http", "X-Forwarded-Host", "example.org"), untrusted); d != "" {
		t.Error("untrusted (-want +got)", d)
	}
	trusted := rewrite(newResolver(t, Config{TrustUnix: true}), in.Clone(), netip.Addr{}, false, "example.org")
	if d := cmp.Diff(header("X-Forwarded-For", "203.0.113.5", "X-Real-Ip", "203.0.113.5", "X-Forwarded-Proto", "http", "X-Forwarded-Host", "example.org"), trusted); d != "" {
		t.Error("trusted (-want +got)", d)
	}
}

func TestConnectionCannotNameForwardingHeaders(t *testing.T) {
	tests := []struct {
		in, want []string
	}{
		{[]string{"keep-alive"}, []string{"keep-alive"}},
		{[]string{"Upgrade"}, []string{"Upgrade"}},
		{[]string{"close, X-Custom"}, []string{"close, X-Custom"}},
		{[]string{"close, x-real-ip , X-FORWARDED-FOR", "Quickthorn-Client, X-Custom"}, []string{"close, X-Custom"}},
		{[]string{"X-Forwarded-For"}, nil},
	}
	for _, tt := range tests {
		h := http.Header{"Connection": tt.in}
		rewrite(trusting(t), h, addr("203.0.113.5"), false, "example.org")
		if d := cmp.Diff(tt.want, h["Connection"]); d != "" {
			t.Errorf("%q (-want +got) %s", tt.in, d)
		}
		if h.Get("X-Real-IP") != "203.0.113.5" {
			t.Errorf("%q: X-Real-IP is %q", tt.in, h.Get("X-Real-IP"))
		}
	}
}

func TestHostMustLookLikeOne(t *testing.T) {
	for _, s := range []string{"example.org", "EXAMPLE.org:8080", "xn--bcher-kva.example", "a_b.example", "192.0.2.1:80", "[2001:db8::1]", "[2001:db8::1]:80"} {
		if !validHost(s) {
			t.Errorf("%q refused", s)
		}
	}
	for _, s := range []string{"", ":80", "a b", "a/b", "a,b", "a\r\nb", "b\u00fccher.example", "[::1", "[1.2.3.4]", "[::1%eth0]", "a:b", "a:123456", "a:_x", "[::1]x", strings.Repeat("a", 300)} {
		if validHost(s) {
			t.Errorf("%q accepted", s)
		}
	}
	h := rewrite(trusting(t), header("X-Forwarded-Host", "evil.example"), addr("203.0.113.5"), false, "a,b")
	if _, ok := h["X-Forwarded-Host"]; ok {
		t.Errorf("an unfit Host was passed on: %q", h)
	}
}

func BenchmarkRewrite(b *testing.B) {
	r := trusting(b, "10.0.0.0/8")
	base := header("Accept", "*/*", "Accept-Encoding", "gzip", "Accept-Language", "en", "Cookie", "a=b", "User-Agent", "Mozilla/5.0",
		"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Upgrade-Insecure-Requests", "1", "Connection", "keep-alive")
	for _, bm := range []struct {
		name   string
		peer   netip.Addr
		client netip.Addr
		xff    []string
	}{
		{"direct", addr("203.0.113.5"), addr("203.0.113.5"), nil},
		{"behind-proxy", addr("10.0.0.1"), addr("203.0.113.5"), []string{"203.0.113.5"}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			h := base.Clone()
			b.ReportAllocs()
			for b.Loop() {
				delete(h, keyXFF)
				if bm.xff != nil {
					h[keyXFF] = bm.xff
				}
				r.Rewrite(h, bm.peer, bm.client, "https", "example.org")
			}
		})
	}
}
