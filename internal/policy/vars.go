package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// env is what a condition sees: one request while it is judged.
type env struct {
	p       *defense.Profile
	posture defense.Posture
	signals []defense.Signal
	sum     int    // of the signals' weights, not clamped
	cost    uint64 // of interpreted expressions so far
	err     error  // why the last condition came to nothing
}

// scope says where a condition stands; later scopes know more.
type scope uint8

const (
	inClass  scope = iota // the request profile
	inBudget              // also the path class
	inRule                // also the posture, the signals and the score
)

// kind is the type of a value that lowered code handles.
type kind uint8

const (
	kindNone kind = iota
	kindBool
	kindInt
	kindString
	kindList // of strings; only the variable signals
)

// variable is one name that conditions may use.
type variable struct {
	name string
	doc  string
	kind kind

	text   func(*env) string
	number func(*env) int64
	hi     int64 // greatest number; the least is 0
	flag   func(*env) bool

	values []string // all that text can be, when it is enumerated; "" included where possible
	// check returns why a constant can never equal text, or "".
	check func(string) string
	since scope // the first to know it
}

// Variable documents one name of the condition language.
type Variable struct {
	Name   string
	Type   string   // "text", "number", "true or false", "list of texts"
	Doc    string   // one sentence
	Values []string // all possible values of an enumerated text
}

// Variables lists what conditions may use, in the order of the documentation.
func Variables() []Variable {
	var out []Variable
	for _, v := range variables() {
		if strings.Contains(v.name, ":") {
			continue // a header, reached by header(), present() and absent()
		}
		t := [...]string{"", "true or false", "number", "text", "list of texts"}[v.kind]
		values := slices.DeleteFunc(slices.Clone(v.values), func(s string) bool { return s == "" })
		out = append(out, Variable{v.name, t, v.doc, values})
	}
	return out
}

func noCrawler(c *defense.Crawler) bool { return c == nil }

// variables returns the table of all variables, headers included.
func variables() []*variable {
	var purposes []string
	for _, p := range defense.Purposes() {
		purposes = append(purposes, string(p))
	}
	crawler := func(f func(*defense.Crawler) string) func(*env) string {
		return func(e *env) string {
			if noCrawler(e.p.Agent.Crawler) {
				return ""
			}
			return f(e.p.Agent.Crawler)
		}
	}
	vs := []*variable{
		{name: "request.method", kind: kindString, doc: "GET, POST, PROPFIND, …, as sent",
			text:  func(e *env) string { return e.p.Method },
			check: func(s string) string { return wantCase(s, strings.ToUpper(s), "methods are upper case") }},
		{name: "request.scheme", kind: kindString, doc: "how the client reached the edge; empty if unknown",
			text: func(e *env) string { return e.p.Scheme }, values: []string{"http", "https", ""}},
		{name: "request.host", kind: kindString, doc: "host name in lower case, without port",
			text:  func(e *env) string { return e.p.Host },
			check: func(s string) string { return wantCase(s, strings.ToLower(s), "host names are lower case") }},
		{name: "request.path", kind: kindString, doc: "path, decoded once, with dot segments and repeated slashes resolved",
			text: func(e *env) string { return e.p.Path }},
		{name: "request.query", kind: kindString, doc: "query as sent, without the question mark; empty if none",
			text: func(e *env) string { return e.p.Query }},
		{name: "request.target", kind: kindString, doc: "path and query exactly as received",
			text: func(e *env) string { return e.p.Target }},
		{name: "request.protocol", kind: kindString, doc: "HTTP version; empty if unknown",
			text: func(e *env) string { return e.p.Protocol }, values: []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0", ""}},
		{name: "request.kind", kind: kindString, doc: "what the request is for",
			text: func(e *env) string { return e.p.Kind.String() }, values: enumNames(func(i uint8) string { return defense.Kind(i).String() })},
		{name: "request.class", kind: kindString, since: inBudget, doc: "name of the policy's class that the path belongs to; empty if none",
			text: func(e *env) string { return e.p.Class }}, // values: filled in by the compiler

		{name: "request.trap", kind: kindBool, doc: "the path is one that only a hidden link leads to, which robots are told to leave alone",
			flag: func(e *env) bool { return e.p.Trap }},

		{name: "client.address", kind: kindString, doc: "IP address in its canonical form; see within and inList",
			text: func(e *env) string {
				if !e.p.Client.Address.IsValid() {
					return ""
				}
				return e.p.Client.Address.String()
			}, check: checkAddress},
		{name: "client.prefix", kind: kindString, doc: "the address's neighbourhood: its /24 (IPv4) or /48 (IPv6)",
			text: func(e *env) string {
				if !e.p.Client.Prefix.IsValid() {
					return ""
				}
				return e.p.Client.Prefix.String()
			}, check: checkPrefix},
		{name: "client.asn", kind: kindInt, hi: 1<<32 - 1, doc: "number of the network that announces the address; 0 if unknown",
			number: func(e *env) int64 { return int64(e.p.Client.ASN) }},
		{name: "client.country", kind: kindString, doc: "two-letter country code; empty if unknown",
			text: func(e *env) string { return e.p.Client.Country }, check: checkCountry},

		{name: "client.loggedIn", kind: kindBool, doc: "has a session cookie that the site was seen to set for who logs in",
			flag: func(e *env) bool { return e.p.LoggedIn }},

		{name: "agent.text", kind: kindString, doc: "the User-Agent header as sent; empty if absent",
			text: func(e *env) string { return e.p.Agent.Text.Value }},
		{name: "agent.family", kind: kindString, doc: "what the agent claims to be",
			text: func(e *env) string { return e.p.Agent.Family.String() }, values: enumNames(func(i uint8) string { return defense.AgentFamily(i).String() })},
		{name: "agent.name", kind: kindString, doc: "product: Chrome, Firefox, GPTBot, curl, …; empty if unknown",
			text: func(e *env) string { return e.p.Agent.Name }},
		{name: "agent.major", kind: kindInt, hi: maxMajor, doc: "the product's major version; 0 if unknown",
			number: func(e *env) int64 { return int64(min(max(e.p.Agent.Major, 0), maxMajor)) }},
		{name: "agent.os", kind: kindString, doc: "Windows, macOS, iOS, Android, Linux, ChromeOS, …; empty if unknown",
			text: func(e *env) string { return e.p.Agent.OS }},
		{name: "agent.mobile", kind: kindBool, doc: "claims a phone or tablet",
			flag: func(e *env) bool { return e.p.Agent.Mobile }},

		{name: "crawler.id", kind: kindString, doc: "key of the catalogue's entry that the agent names; empty if none",
			text: crawler(func(c *defense.Crawler) string { return c.ID })}, // values: from the vocabulary
		{name: "crawler.name", kind: kindString, doc: "its name as the operator writes it",
			text: crawler(func(c *defense.Crawler) string { return c.Name })},
		{name: "crawler.operator", kind: kindString, doc: "who runs it; empty if unknown",
			text: crawler(func(c *defense.Crawler) string { return c.Operator })},
		{name: "crawler.purpose", kind: kindString, doc: "what it says it fetches pages for",
			text: crawler(func(c *defense.Crawler) string { return string(c.Purpose) }), values: append(purposes, "")},
		{name: "crawler.respectsRobots", kind: kindString, doc: "what is published of it; empty if unknown",
			text: crawler(func(c *defense.Crawler) string { return c.RespectsRobots }), values: []string{"yes", "no", ""}},

		{name: "identity.status", kind: kindString, doc: "how far a crawler's claim has been proved",
			text: func(e *env) string { return e.p.Identity.Status.String() }, values: enumNames(func(i uint8) string { return defense.IdentityStatus(i).String() })},
		{name: "identity.how", kind: kindString, doc: "by what it was proved; empty if it was not",
			text: func(e *env) string { return e.p.Identity.How }, values: []string{"range", "dns", "signature", ""}},
		{name: "clearance.valid", kind: kindBool, doc: "the client has solved a challenge, or has a token that the owner issued, and it is good",
			flag: func(e *env) bool { return e.p.Clearance.Valid }},
		{name: "clearance.name", kind: kindString, doc: "the name of the token that the owner issued; empty for a solved challenge and for none",
			text: func(e *env) string { return e.p.Clearance.Name }},
		{name: "clearance.kind", kind: kindString, doc: "the challenge that was solved; none without one",
			text: func(e *env) string { return e.p.Clearance.Kind.String() }, values: enumNames(func(i uint8) string { return defense.ChallengeKind(i).String() })},

		{name: "tls.version", kind: kindString, doc: "TLS version; empty if unknown or none",
			text: func(e *env) string { return e.p.TLS.Version }, values: []string{"1.0", "1.1", "1.2", "1.3", ""}},
		{name: "tls.ja4", kind: kindString, doc: "TLS fingerprint; empty if not observed",
			text: func(e *env) string { return e.p.TLS.JA4 }},

		{name: "posture", kind: kindString, since: inRule, doc: "how tense the edge is",
			text: func(e *env) string { return e.posture.String() }, values: enumNames(func(i uint8) string { return defense.Posture(i).String() })},
		{name: "score", kind: kindInt, since: inRule, hi: defense.MaxScore, doc: "the score so far, 0 to 100: the signals and the score rules above",
			number: func(e *env) int64 { return int64(defense.ClampScore(e.sum)) }},
		{name: "signals", kind: kindList, since: inRule, doc: `names of the signals and score rules that have fired: "no-user-agent" in signals`},
		{name: "time.hour", kind: kindInt, hi: 23, doc: "hour of the request's time, in UTC",
			number: func(e *env) int64 { return int64(e.p.Time.UTC().Hour()) }},
	}
	for _, h := range headers() {
		if h.value != nil {
			vs = append(vs, &variable{name: "header:" + h.name, kind: kindString,
				text: func(e *env) string { return h.value(e.p).Value }})
		}
		vs = append(vs,
			&variable{name: "present:" + h.name, kind: kindBool, flag: func(e *env) bool { return h.presence(e.p) == defense.Present }},
			&variable{name: "absent:" + h.name, kind: kindBool, flag: func(e *env) bool { return h.presence(e.p) == defense.Absent }})
	}
	return vs
}

// maxMajor bounds agent.major: a version is text that the client made up.
const maxMajor = 1_000_000

// headerField is one request header that a profile keeps.
type headerField struct {
	name  string
	value func(*defense.Profile) *defense.Text // nil for credentials
	seen  func(*defense.Profile) defense.Presence
}

func (h headerField) presence(p *defense.Profile) defense.Presence {
	if h.seen != nil {
		return h.seen(p)
	}
	return h.value(p).Presence
}

// Headers lists the names that header, present and absent accept, sorted.
// Of cookie and authorization only the presence is kept.
func Headers() []string {
	var out []string
	for _, h := range headers() {
		out = append(out, h.name)
	}
	slices.Sort(out)
	return out
}

func headers() []headerField {
	type P = defense.Profile
	type T = defense.Text
	return []headerField{
		{name: "user-agent", value: func(p *P) *T { return &p.Agent.Text }},
		{name: "accept", value: func(p *P) *T { return &p.Headers.Accept }},
		{name: "accept-language", value: func(p *P) *T { return &p.Headers.AcceptLanguage }},
		{name: "accept-encoding", value: func(p *P) *T { return &p.Headers.AcceptEncoding }},
		{name: "referer", value: func(p *P) *T { return &p.Headers.Referer }},
		{name: "sec-fetch-site", value: func(p *P) *T { return &p.Headers.SecFetchSite }},
		{name: "sec-fetch-mode", value: func(p *P) *T { return &p.Headers.SecFetchMode }},
		{name: "sec-fetch-dest", value: func(p *P) *T { return &p.Headers.SecFetchDest }},
		{name: "sec-fetch-user", value: func(p *P) *T { return &p.Headers.SecFetchUser }},
		{name: "sec-ch-ua", value: func(p *P) *T { return &p.Headers.SecCHUA }},
		{name: "sec-ch-ua-mobile", value: func(p *P) *T { return &p.Headers.SecCHUAMobile }},
		{name: "sec-ch-ua-platform", value: func(p *P) *T { return &p.Headers.SecCHUAPlatform }},
		{name: "upgrade-insecure-requests", value: func(p *P) *T { return &p.Headers.UpgradeInsecure }},
		{name: "connection", value: func(p *P) *T { return &p.Headers.Connection }},
		{name: "upgrade", value: func(p *P) *T { return &p.Headers.Upgrade }},
		{name: "range", value: func(p *P) *T { return &p.Headers.Range }},
		{name: "content-type", value: func(p *P) *T { return &p.Headers.ContentType }},
		{name: "x-requested-with", value: func(p *P) *T { return &p.Headers.RequestedWith }},
		{name: "sec-purpose", value: func(p *P) *T { return &p.Headers.Purpose }},
		{name: "from", value: func(p *P) *T { return &p.Headers.From }},
		{name: "via", value: func(p *P) *T { return &p.Headers.Via }},
		{name: "if-none-match", value: func(p *P) *T { return &p.Headers.IfNoneMatch }},
		{name: "if-modified-since", value: func(p *P) *T { return &p.Headers.IfModifiedSince }},
		{name: "signature-agent", value: func(p *P) *T { return &p.Headers.SignatureAgent }},
		{name: "authorization", seen: func(p *P) defense.Presence { return p.Headers.Authorization }},
		{name: "cookie", seen: func(p *P) defense.Presence { return p.Headers.Cookie }},
	}
}

func wantCase(s, want, why string) string {
	if s == want {
		return ""
	}
	return fmt.Sprintf("%s (did you mean %q?)", why, want)
}

func checkAddress(s string) string {
	if s == "" {
		return ""
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		if _, err := netip.ParsePrefix(s); err == nil {
			return fmt.Sprintf("a range is asked for with client.address.within(%q)", s)
		}
		return "it is not an IP address"
	}
	return wantCase(s, a.Unmap().WithZone("").String(), "that is not the address's canonical form")
}

func checkPrefix(s string) string {
	if s == "" {
		return ""
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Bits() != 24 && p.Addr().Is4() || p.Bits() != 48 && p.Addr().Is6() {
		return "it is the /24 (IPv4) or /48 (IPv6) of an address"
	}
	return wantCase(s, p.Masked().String(), "that is not the prefix's canonical form")
}

func checkCountry(s string) string {
	if s == "" {
		return ""
	}
	if len(s) != 2 || strings.Trim(strings.ToUpper(s), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "a country is two letters (ISO 3166-1) such as DE"
	}
	return wantCase(s, strings.ToUpper(s), "countries are upper case")
}
