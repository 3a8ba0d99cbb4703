package profile

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// AgentParser reads what a User-Agent header claims. It must accept absent,
// unobserved and hostile text, and be safe for concurrent use.
type AgentParser interface {
	Parse(defense.Text) defense.Agent
}

// Profiler fills profiles. It is immutable and safe for concurrent use.
type Profiler struct {
	agents AgentParser
}

// New returns a Profiler that asks agents about the User-Agent.
func New(agents AgentParser) *Profiler {
	return &Profiler{agents: agents}
}

// maxValue bounds the bytes of a header's value that are looked at. The longest
// that a real program sends, a Referer, rarely exceeds a few hundred. What
// lies beyond is not seen by rules; the request itself is not changed.
const maxValue = 2048

// FromRequest overwrites p with what is known of a request that net/http's server
// received. Of a header that was sent more than once the first value counts.
//
// The scheme is that of the connection: a caller that trusts a proxy's
// X-Forwarded-Proto corrects p.Scheme afterwards, before [Signals]. Site,
// RequestID, Class, Identity and Clearance are left empty for the caller.
func (f *Profiler) FromRequest(p *defense.Profile, r *http.Request, client defense.Client, now time.Time) {
	*p = defense.Profile{
		Time: now, Method: r.Method, Host: hostOf(r.Host), Target: r.RequestURI, Protocol: r.Proto, Scheme: "http", Client: client,
	}
	if r.TLS != nil {
		p.Scheme = "https"
		p.TLS.Version = tlsVersion(r.TLS.Version)
	}
	if p.Target == "" && r.URL != nil {
		p.Target = r.URL.RequestURI()
	}
	raw, query := splitTarget(p.Target)
	p.Path, p.Query = normalPath(raw), query

	fillHeaders(&p.Headers, r.Header, true)
	if isRelayed(r, client.Address) {
		// Hop-by-hop: what is seen here is the relay's, not the client's.
		p.Headers.Connection = defense.Text{}
	}
	p.Headers.Shape = shapeOf(&p.Headers)
	p.Agent = f.agents.Parse(text(r.Header, "User-Agent", true))
	p.Identity = claimed(&p.Agent)
	p.Kind = kindOf(p, raw)
}

// isRelayed reports whether something stands between the client and this
// server: the connection comes from another address than the client's, or the
// headers say so.
func isRelayed(r *http.Request, client netip.Addr) bool {
	h := r.Header
	if h["X-Forwarded-For"] != nil || h["Forwarded"] != nil || h["Via"] != nil || h["X-Real-Ip"] != nil {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err != nil || peer.Addr().Unmap().WithZone("") != client
}

// hostOf returns the host in lower case, without port, brackets or final dot.
func hostOf(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 &&
		(strings.IndexByte(host, ':') == i || host[0] == '[') {
		host = host[:i]
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func tlsVersion(v uint16) string {
	switch v {
	case tls.VersionTLS13:
		return "1.3"
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS11:
		return "1.1"
	case tls.VersionTLS10:
		return "1.0"
	}
	return ""
}

// claimed is the identity of whoever names a catalogued crawler: a claim, not a proof.
func claimed(a *defense.Agent) defense.Identity {
	if a.Crawler == nil {
		return defense.Identity{}
	}
	return defense.Identity{Crawler: a.Crawler.ID, Status: defense.IdentityUnverified}
}
