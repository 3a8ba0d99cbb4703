package config

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
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
	l.checkSources()
	l.checkSlowPath()
	l.checkModels()
	if c.Challenge.Captcha.Provider == "" && slices.Contains(c.Challenge.Kinds, "captcha") {
		l.contradiction("challenge.kinds", "captcha needs challenge.captcha.provider", "challenge.captcha.provider")
	}

	l.checkTarpit()

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
		l.require(at, "name", s.Name == "", "is missing: events and metrics call the site by it")
		l.require(at, "hosts", len(s.Hosts) == 0, "is missing: name the hosts of the site, or use upstream.url for a single site")
		l.require(at, "upstream", s.Upstream == "", "is missing: name the site's server, such as http://127.0.0.1:3000")
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

// checkSources reports sources that could not be told apart or believed.
func (l *loader) checkSources() {
	names := map[string]string{}
	for i, s := range l.config.Intake.Sources {
		at := element("intake.sources", i)
		l.checkName(at, s.Name, "is missing: the source's address is /v1/webhook/NAME", 64, names)
		l.require(at, "key", s.Key == "", "is missing: without one nobody could tell who sends")
		switch s.Client {
		case "", "client":
			if len(s.Trusted) > 0 {
				l.contradiction(at+".trustedProxies", "has no effect: set client to the header that these hops write")
			}
		case "X-Forwarded-For", "Forwarded", "X-Real-IP":
			if len(s.Trusted) == 0 {
				l.contradiction(at+".client", "needs trustedProxies: the header is believed from nobody else", at+".trustedProxies")
			}
		default:
			l.contradiction(at+".client", "use client, X-Forwarded-For, Forwarded or X-Real-IP")
		}
	}
}

// checkSlowPath reports what the slow path could not work with.
func (l *loader) checkSlowPath() {
	c := l.config
	needs := func(path string, missing bool, other, message string) {
		if missing {
			l.contradiction(path, message, other)
		}
	}
	a := &c.Alerts
	mail := len(a.Email.To) > 0
	needs("alerts.email.to", mail && a.Email.Server == "", "alerts.email.server", "needs alerts.email.server, such as smtp.example.org:587")
	needs("alerts.email.to", mail && a.Email.From == "", "alerts.email.from", "needs alerts.email.from, the sender's address")
	needs("alerts.email.server", !mail && a.Email.Server != "", "alerts.email.to", "has no effect: set alerts.email.to as well")
	needs("alerts.webhook.url", a.Webhook.URL != "" && a.Webhook.Secret == "", "alerts.webhook.secret", "needs alerts.webhook.secret, which the receiver checks the signature with")
	needs("alerts.command", len(a.Command) > 0 && !filepath.IsAbs(a.Command[0]), "alerts.command[0]", "begins with the absolute path of a program; no shell has a part in this")
	needs("alerts.quietFrom", (a.QuietFrom == "") != (a.QuietTo == ""), "alerts.quietTo", "quiet hours need both quietFrom and quietTo")
	for _, clock := range [...]struct{ path, text string }{{"alerts.quietFrom", a.QuietFrom}, {"alerts.quietTo", a.QuietTo}} {
		if _, err := time.Parse("15:04", clock.text); clock.text != "" && err != nil {
			l.contradiction(clock.path, "a time of day such as 22:00")
		}
	}
	if _, err := time.LoadLocation(a.QuietZone); err != nil {
		l.contradiction("alerts.quietZone", "no such time zone: use a name such as Europe/Berlin")
	}
	needs("state.store", c.State.Store == "redis" && len(c.State.Redis.Addresses) == 0, "state.redis.addresses", "needs state.redis.addresses")
	needs("state.redis.cluster", c.State.Redis.Cluster && c.State.Redis.SentinelMaster != "", "state.redis.sentinelMaster", "a cluster has no Sentinels: set one of the two")
	needs("archive.store", c.Archive.Store == "postgres" && c.Archive.Postgres.URL == "", "archive.postgres.url", "needs archive.postgres.url")
	needs("internal.certificateFile", (c.Internal.CertificateFile == "") != (c.Internal.KeyFile == ""), "internal.keyFile", "needs internal.keyFile, and the other way round")
	e := &c.Escalation
	needs("escalation.stages", slices.Contains(e.Stages, "opinion") && e.Opinion.Model == "", "escalation.opinion.model", "opinion needs escalation.opinion.model, the name of a language model")
	for _, pair := range [...]struct {
		lower, higher string
		ok            bool
	}{{"challenge", "throttle", e.Challenge <= e.Throttle}, {"throttle", "tarpit", e.Throttle <= e.Tarpit}, {"tarpit", "deny", e.Tarpit <= e.Deny}} {
		needs("escalation."+pair.higher, !pair.ok, "escalation."+pair.lower, "must not be less than escalation."+pair.lower)
	}
	needs("escalation.longest", e.Longest < e.Base, "escalation.base", "must not be less than escalation.base")
	if u := c.Reputation.URL; u != "" && (!strings.HasPrefix(u, "https://") && !strings.HasPrefix(u, "http://") || !strings.Contains(u, "{address}")) {
		l.contradiction("reputation.url", "an http or https address with {address} in it")
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

// checkTarpit reports what keeps the maze from doing what it is told.
func (l *loader) checkTarpit() {
	t := &l.config.Tarpit
	if t.Text == "licensed" && t.Licence == "" {
		l.contradiction("tarpit.text", "licensed repeats your licence: set tarpit.licence", "tarpit.licence")
	}
	if t.MinRate > t.MaxRate {
		l.contradiction("tarpit.minRate", "must not be more than tarpit.maxRate", "tarpit.maxRate")
	}
	if t.MinDelay > t.MaxDelay {
		l.contradiction("tarpit.minDelay", "must not be more than tarpit.maxDelay", "tarpit.maxDelay")
	}
	for i, p := range t.Fronts {
		if p.IsValid() && p.Bits() == 0 {
			l.contradiction(element("tarpit.fronts", i), "trusts everybody: name the addresses of your own web servers")
		}
	}
}

// HashPrefix begins the hash of a key.
const HashPrefix = "sha256:"

// require reports a setting of a list's element that is missing, unless it has a problem already.
func (l *loader) require(at, name string, missing bool, message string) {
	if missing && !l.bad[at+"."+name] {
		l.fail(l.config.Origin(at), at+"."+name, "%s", message)
	}
}

// nameLetters are what names of callers and servers are made of.
const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// maxModelName is how long a name of a model's caller, server or route may be: an account has its kind before it.
const maxModelName = 56

// checkName reports a name of a list's element that is missing, odd, or another's. missing is what is said of none.
func (l *loader) checkName(at, name, missing string, most int, names map[string]string) {
	switch {
	case name == "":
		l.fail(l.config.Origin(at), at+".name", "%s", missing)
	case strings.Trim(name, nameLetters) != "" || len(name) > most:
		l.contradiction(at+".name", fmt.Sprintf("use at most %d letters, digits, - and _", most))
	case names[name] != "":
		l.contradiction(at+".name", "is the name of "+names[name]+" as well")
	}
	names[name] = at
}

// checkModels reports providers, keys and prices of language models that could not be used.
func (l *loader) checkModels() {
	c := l.config
	providers := map[string]string{}
	if c.CloudProxy.Provider.Key != "" {
		providers[c.CloudProxy.Provider.Kind] = "cloudProxy.provider"
	}
	if p := &c.CloudProxy.Provider; (p.Kind == "azure" || p.Kind == "compatible") && p.Key != "" && p.URL == "" {
		l.contradiction("cloudProxy.provider.kind", p.Kind+" needs cloudProxy.provider.url", "cloudProxy.provider.url")
	}
	l.checkPatterns("cloudProxy.provider.models", c.CloudProxy.Provider.Models)
	for i := range c.CloudProxy.Providers {
		p, at := &c.CloudProxy.Providers[i], element("cloudProxy.providers", i)
		l.checkName(at, p.Name, "is missing", maxModelName, providers)
		switch p.Kind {
		case "openai", "anthropic", "gemini", "mistral", "cohere", "azure":
			l.require(at, "url", p.Kind == "azure" && p.URL == "", "is missing: name your resource, such as https://NAME.openai.azure.com/openai/v1")
			l.require(at, "key", p.Key == "", "is missing: this provider answers nobody without one")
		case "compatible":
			l.require(at, "url", p.URL == "", "is missing: name the base of the server's API, such as http://127.0.0.1:8000/v1")
		default:
			l.contradiction(at+".kind", "use openai, anthropic, gemini, mistral, cohere, azure or compatible")
		}
		l.checkPatterns(at+".models", p.Models)
	}
	for i, k := range c.CloudProxy.ProviderKeys {
		at := element("cloudProxy.providerKeys", i)
		if providers[k.Provider] == "" {
			l.contradiction(at+".provider", "is the name of no provider that has a key")
		}
		l.require(at, "key", k.Key == "", "is missing")
	}
	names, hashes := map[string]string{}, map[string]string{}
	for i := range c.Gateway.Keys {
		k, at := &c.Gateway.Keys[i], element("gateway.keys", i)
		l.checkName(at, k.Name, "is missing", maxModelName, names)
		inside := k.Name == "prompt-router" || k.Name == "escalation-engine" || k.Name == "operator"
		sum, hashed := strings.CutPrefix(k.Hash, HashPrefix)
		switch {
		case inside && k.Hash != "":
			l.contradiction(at+".hash", "has no effect: "+k.Name+" has a key already")
		case inside:
		case !hashed || len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "":
			l.contradiction(at+".hash", "use what quickthorn llm key prints: sha256: and 64 digits of hexadecimal")
		case hashes[sum] != "":
			l.contradiction(at+".hash", "is that of "+hashes[sum]+" as well: give each its own key")
		}
		hashes[sum] = at
		l.checkPatterns(at+".models", k.Models)
	}
	l.checkRoutes()
	for i := range c.Gateway.Prices {
		l.require(element("gateway.prices", i), "model", c.Gateway.Prices[i].Model == "", "is missing")
	}
}

// checkPatterns reports models that are no patterns.
func (l *loader) checkPatterns(at string, models []string) {
	for i, m := range models {
		name, upstream, renamed := strings.Cut(m, "=")
		if _, err := path.Match(name, ""); err != nil || name == "" || renamed && (upstream == "" || strings.ContainsAny(name, "*?[")) {
			l.contradiction(element(at, i), "use a name, a pattern such as gpt-5*, or name=the provider's name")
		}
	}
}

// checkRoutes reports model servers and routes that could not be used.
func (l *loader) checkRoutes() {
	r := &l.config.PromptRouter
	servers := map[string]string{"cloud": "cloud-proxy", "local": "promptRouter.localUrl"}
	for i := range r.Servers {
		s, at := &r.Servers[i], element("promptRouter.servers", i)
		l.checkName(at, s.Name, "is missing", maxModelName, servers)
		if s.Kind != "ollama" && s.Kind != "compatible" {
			l.contradiction(at+".kind", "use ollama or compatible")
		}
		l.require(at, "url", s.URL == "", "is missing: name the base of the server's API, such as http://gpu-1:11434")
		l.checkPatterns(at+".models", s.Models)
	}
	if r.LocalURL == "" {
		delete(servers, "local")
	}
	tools := map[string]string{}
	for i := range r.Tools {
		s, at := &r.Tools[i], element("promptRouter.tools", i)
		l.checkName(at, s.Name, "is missing", maxModelName, tools)
		l.require(at, "url", s.URL == "", "is missing: name where the server answers, such as http://classifier:8010/mcp")
	}
	names := map[string]string{}
	for i := range r.Routes {
		route, at := &r.Routes[i], element("promptRouter.routes", i)
		l.checkName(at, route.Name, "is missing", maxModelName, names)
		l.checkPatterns(at+".models", route.Models)
		l.checkPatterns(at+".callers", route.Callers)
		l.require(at, "use", len(route.Use) == 0, "is missing: name a server, or cloud")
		for j, use := range route.Use {
			for _, t := range ParseUse(use) {
				if tool, ok := strings.CutPrefix(t.Server, ToolScheme); ok {
					if tools[tool] == "" || t.Model == "" {
						l.contradiction(element(at+".use", j), "there is no server "+quote(tool)+" in promptRouter.tools, or no tool is named: use mcp://SERVER/TOOL")
					}
				} else if servers[t.Server] == "" {
					l.contradiction(element(at+".use", j), "there is no server "+quote(t.Server)+" in promptRouter.servers")
				}
			}
		}
		switch route.Prefer {
		case "", "order", "cost", "latency":
		default:
			l.contradiction(at+".prefer", "use order, cost or latency")
		}
	}
}
