package config

import (
	"net"
	"net/netip"
	"strings"
)

// check reports settings that contradict each other. A setting that already has
// a problem is left out.
func (l *loader) check() {
	c := l.config

	tls := &c.Edge.TLS
	switch {
	case tls.Listen != "" && tls.CertificateFile == "":
		l.contradiction("edge.tls.listen", "HTTPS needs edge.tls.certificateFile", "edge.tls.certificateFile")
	case tls.Listen != "" && tls.KeyFile == "":
		l.contradiction("edge.tls.listen", "HTTPS needs edge.tls.keyFile", "edge.tls.keyFile")
	case tls.Listen == "" && tls.CertificateFile != "":
		l.contradiction("edge.tls.certificateFile", "has no effect: set edge.tls.listen as well, to :8443 for example", "edge.tls.listen")
	}
	if len(c.Edge.Listen) == 0 && tls.Listen == "" {
		l.contradiction("edge.listen", "nothing to listen on: set it to :8080 for example", "edge.tls.listen")
	}
	if c.Edge.ProxyProtocol != "off" && len(c.Edge.Trusted) == 0 && !c.Edge.TrustUnix {
		l.contradiction("edge.proxyProtocol", "needs edge.trustedProxies: the PROXY protocol is believed from nobody else", "edge.trustedProxies", "edge.trustUnix")
	}
	for i, p := range c.Edge.Trusted {
		if p.IsValid() && p.Bits() == 0 {
			l.contradiction(element("edge.trustedProxies", i), "trusts everybody, so that any client could claim any address: name the ranges of your own proxies")
		}
	}
	if c.Private.Pprof && !isLocal(c.Private.Listen) {
		l.contradiction("private.pprof", "needs a loopback address or a Unix socket in private.listen", "private.listen")
	}
	l.checkSites()

	p := &c.Posture
	for _, pair := range [...]struct {
		name string
		ok   bool
	}{
		{"Latency", p.GuardedLatency < p.SiegeLatency},
		{"Errors", p.GuardedErrors < p.SiegeErrors},
		{"InFlight", p.GuardedInFlight < p.SiegeInFlight},
	} {
		if !pair.ok {
			l.contradiction("posture.siege"+pair.name, "must be more than posture.guarded"+pair.name, "posture.guarded"+pair.name)
		}
	}
}

// contradiction reports a problem of path unless it or one of the others has one already.
// If path was not written, the place of the other that was is shown.
func (l *loader) contradiction(path, message string, others ...string) {
	o := l.config.Origin(path)
	for _, other := range others {
		if l.bad[other] {
			return
		}
		if o.Kind == FromDefault {
			o = l.config.Origin(other)
		}
	}
	if !l.bad[path] {
		l.fail(o, path, "%s", message)
	}
}

func (l *loader) checkSites() {
	names, hosts := map[string]string{}, map[string]string{}
	for i, s := range l.config.Sites {
		at := element("sites", i)
		require := func(name string, missing bool, message string) {
			if missing && !l.bad[at+"."+name] {
				l.fail(l.config.Origin(at), at+"."+name, "%s", message)
			}
		}
		require("name", s.Name == "", "is missing: events and metrics call the site by it")
		require("hosts", len(s.Hosts) == 0, "is missing: name the hosts of the site, or use upstream.url for a single site")
		require("upstream", s.Upstream == "", "is missing: name the site's server, such as http://127.0.0.1:3000")
		if other, taken := names[s.Name]; taken && s.Name != "" {
			l.contradiction(at+".name", "is the name of "+other+" as well")
		}
		names[s.Name] = at
		for j, h := range s.Hosts {
			place := element(at+".hosts", j)
			if other, taken := hosts[strings.ToLower(h)]; taken && h != "" {
				l.contradiction(place, quote(h)+" is a host of "+other+" as well")
			}
			hosts[strings.ToLower(h)] = at
		}
	}
}

// isLocal reports whether only this machine can reach a listening address.
func isLocal(listen string) bool {
	if strings.HasPrefix(listen, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
