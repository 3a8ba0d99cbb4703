package profile

import (
	"strconv"
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// SignalInfo documents one signal.
type SignalInfo struct {
	Name        string
	Weight      int    // −100..100, what a policy may override
	Description string // when it fires, and for whom it must not
	Needs       Part   // what must have been observed for it to run
}

// signal is a documented check. run returns the sentence if it fires, otherwise "". A
// sentence that begins with a space or comma goes on from "claims Chrome 141", which is
// then written once for all of them.
type signal struct {
	SignalInfo
	browsersOnly bool // runs only on agents that claim a browser whose engine is known
	run          func(facts) string
}

// facts are what several signals need to know of one request. They are passed by
// value: behind a pointer they would be allocated for every request.
type facts struct {
	p       *defense.Profile
	browser browser
	secure  bool // a secure context, where browsers send Sec-Fetch and client hints
}

// isPage reports whether the request reads an address that, by its path
// alone, is a page's. It does not ask p.Kind: a client must not silence a signal by an
// Accept header. Ranges and upgrades follow rules of their own in every browser.
//
// It is the dearest question of all, so signals ask it last.
func (f facts) isPage() bool {
	h := &f.p.Headers
	if f.p.Method != "GET" && f.p.Method != "HEAD" || h.Range.IsPresent() || isUpgrade(h) {
		return false
	}
	raw, _ := splitTarget(f.p.Target)
	return kindOfPath(raw, f.p.Path, f.p.Query) == defense.KindNavigation
}

// signals is the catalogue, in the order in which signals are recorded. It is never changed.
var signals = [...]signal{
	// signals_agent.go
	{SignalInfo{"no-user-agent", 50, "Sends no User-Agent. Every browser, crawler and feed reader names itself.", PartAgent}, false, noUserAgent},
	{SignalInfo{"bare-user-agent", 30, "The User-Agent is \"Mozilla/5.0\" or another browser's first word and nothing else.", PartAgent}, false, bareUserAgent},
	{SignalInfo{"template-user-agent", 40, "The User-Agent holds what a broken program left in it: a placeholder, markup, quotes around it, the header's own name, an injection.", PartAgent}, false, templateUserAgent},
	{SignalInfo{"truncated-user-agent", 25, "Begins like a browser's User-Agent and ends in the middle.", PartAgent}, false, truncatedUserAgent},
	{SignalInfo{"impossible-user-agent", 30, "Combines engines, versions and systems that no build of that browser has; typical of generated strings.", PartAgent}, false, impossibleUserAgent},
	{SignalInfo{"future-browser", 10, "Claims a version far beyond what can have been released at the request's time.", PartAgent | PartTime}, true, futureBrowser},
	{SignalInfo{"ancient-browser", 5, "Claims a Chrome or Firefox that was eight years old at the request's time. Old devices are real: the weight is small.", PartAgent | PartTime}, true, ancientBrowser},
	{SignalInfo{"headless-browser", 40, "Names itself a headless or driven browser.", PartAgent}, false, headlessBrowser},
	{SignalInfo{"undocumented-bot", 20, "Says that it is a bot but is not in the crawler catalogue.", PartAgent}, false, undocumentedBot},
	{SignalInfo{"tool-on-page", 15, "A library or command-line client reads a page rather than a file, feed or API.", PartAgent}, false, toolOnPage},

	// signals_fetch.go
	{SignalInfo{"no-sec-fetch", 30, "A current Chrome, Firefox or Safari reads a page over HTTPS without any Sec-Fetch header. Not for web views, relaying browsers and forks, nor where a Via header shows a proxy that may have taken them out.", PartAgent | PartScheme | PartFetch | PartCircumstance}, true, noSecFetch},
	{SignalInfo{"partial-sec-fetch", 18, "Sends some of Sec-Fetch-Site, -Mode and -Dest; browsers that know them send all three.", PartFetch | PartCircumstance}, false, partialSecFetch},
	{SignalInfo{"impossible-sec-fetch", 45, "Sec-Fetch values that no browser sends, or sends together.", PartFetch}, false, impossibleSecFetch},
	{SignalInfo{"sec-fetch-contradicts-accept", 40, "Says that it loads a picture, script, style or font, and asks for HTML.", PartFetch | PartAccept}, false, fetchContradictsAccept},
	{SignalInfo{"sec-fetch-contradicts-referer", 12, "Says that nobody referred it (Sec-Fetch-Site: none) and sends a Referer.", PartFetch | PartReferer}, false, fetchContradictsReferer},

	// signals_hints.go
	{SignalInfo{"no-client-hints", 15, "A Chrome, Edge or Opera from 95 on reads a page over HTTPS without Sec-CH-UA. Some hardened builds do so too. Not where a Via header shows a proxy.", PartAgent | PartScheme | PartHints | PartCircumstance}, true, noClientHints},
	{SignalInfo{"foreign-client-hints", 35, "Firefox or Safari by its User-Agent, but sends Sec-CH-UA, which only Chromium does.", PartAgent | PartHints}, true, foreignClientHints},
	{SignalInfo{"client-hints-contradict-version", 30, "Sec-CH-UA names another Chromium version than the User-Agent.", PartAgent | PartHints}, true, hintsContradictVersion},
	{SignalInfo{"client-hints-contradict-platform", 35, "Sec-CH-UA-Platform names another system than the User-Agent. Android, Linux and ChromeOS count as one: phones asked for the desktop site say Linux.", PartAgent | PartHints}, true, hintsContradictPlatform},
	{SignalInfo{"client-hints-contradict-mobile", 12, "Sec-CH-UA-Mobile and the User-Agent disagree about being a phone.", PartAgent | PartHints}, true, hintsContradictMobile},
	{SignalInfo{"headless-client-hints", 40, "Sec-CH-UA names HeadlessChrome while the User-Agent does not.", PartHints}, false, headlessClientHints},

	// signals_accept.go
	{SignalInfo{"library-headers", 25, "Claims a browser but reads a page with neither a language nor an Accept of its own, as HTTP libraries do.", PartAgent | PartAccept | PartLanguage | PartCircumstance}, true, libraryHeaders},
	{SignalInfo{"no-accept", 18, "Claims a browser and reads a page without Accept.", PartAgent | PartAccept | PartCircumstance}, true, noAccept},
	{SignalInfo{"generic-accept", 15, "Claims a browser and reads a page with \"Accept: */*\", unless it may be a script's fetch.", PartAgent | PartAccept | PartFetch | PartReferer | PartCircumstance}, true, genericAccept},
	{SignalInfo{"foreign-accept", 12, "The Accept of a page request is another browser's.", PartAgent | PartAccept | PartCircumstance}, true, foreignAccept},
	{SignalInfo{"no-accept-language", 18, "Claims a browser and reads a page without Accept-Language.", PartAgent | PartLanguage | PartCircumstance}, true, noAcceptLanguage},
	{SignalInfo{"no-accept-encoding", 10, "Claims a browser, directly connected, that accepts no compression.", PartAgent | PartEncoding | PartConnection | PartCircumstance}, true, noAcceptEncoding},
	{SignalInfo{"no-brotli", 8, "Claims a current browser over HTTPS, directly connected, that does not know brotli. Some virus scanners cause it.", PartAgent | PartScheme | PartEncoding | PartConnection | PartCircumstance}, true, noBrotli},
	{SignalInfo{"no-upgrade-insecure", 10, "Claims Chrome or Firefox and opens a page without Upgrade-Insecure-Requests.", PartAgent | PartAccept | PartInsecure | PartCircumstance}, true, noUpgradeInsecure},

	// signals_transport.go
	{SignalInfo{"http-1.0", 10, "A browser of this century's second decade over HTTP/1.0, directly connected.", PartAgent | PartProtocol | PartConnection}, true, http10},
	{SignalInfo{"no-keep-alive", 6, "Claims a browser, directly connected over HTTP/1.1, without a Connection header.", PartAgent | PartProtocol | PartConnection}, true, noKeepAlive},
	{SignalInfo{"malformed-referer", 12, "The Referer is not an absolute address, or holds a fragment or spaces.", PartAgent | PartReferer}, true, malformedReferer},
	{SignalInfo{"revalidates", -5, "A browser asks whether the page that it has kept is still good; scrapers seldom do.", PartAgent | PartValidators | PartCircumstance}, true, revalidates},
}

// SignalCatalogue lists every signal that [Signals] can append.
func SignalCatalogue() []SignalInfo {
	list := make([]SignalInfo, len(signals))
	for i := range signals {
		list[i] = signals[i].SignalInfo
	}
	return list
}

// Unrunnable lists the signals that could not run on requests of which only the
// parts in seen were ever observed; a replay names them in its report. Collect seen by or-ing
// [Observed] over the requests.
func Unrunnable(seen Part) []SignalInfo {
	var list []SignalInfo
	for i := range signals {
		if signals[i].Needs&^seen != 0 {
			list = append(list, signals[i].SignalInfo)
		}
	}
	return list
}

// Signals appends to dst the signals that the profile raises and returns it. No signal runs
// on what was not observed. It allocates only for the sentences of signals that
// fire; text from the client is quoted and bounded in them.
func Signals(dst []defense.Signal, p *defense.Profile) []defense.Signal {
	f := facts{p: p, browser: browserOf(&p.Agent), secure: isSecureContext(p)}
	known := f.browser.engine != engineOther
	unseen := ^Observed(p)
	claims := ""
	for i := range signals {
		s := &signals[i]
		if s.Needs&unseen != 0 || s.browsersOnly && !known {
			continue
		}
		sentence := s.run(f)
		if sentence == "" {
			continue
		}
		if c := sentence[0]; c == ' ' || c == ',' {
			if claims == "" {
				claims = "claims " + claim(p)
			}
			sentence = claims + sentence
		}
		dst = append(dst, defense.Signal{Name: s.Name, Weight: s.Weight, Sentence: sentence})
	}
	return dst
}

// isSecureContext reports whether browsers treat the address as potentially
// trustworthy (W3C Secure Contexts): only there do they send Sec-Fetch and client hints.
func isSecureContext(p *defense.Profile) bool {
	return p.Scheme == "https" || p.Scheme == "http" && isLocalhost(p.Host)
}

func isLocalhost(host string) bool {
	return host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1" || strings.HasSuffix(host, ".localhost")
}

// claim names what the agent says it is: "Chrome 141".
func claim(p *defense.Profile) string {
	name := p.Agent.Name
	if name == "" {
		return "a browser"
	}
	if !isPlainName(name) {
		name = quote(name)
	}
	if p.Agent.Major > 0 {
		return name + " " + strconv.Itoa(p.Agent.Major)
	}
	return name
}

func isPlainName(s string) bool {
	if len(s) > 40 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', c == ' ', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// maxQuoted bounds the bytes of client text in a sentence, before escaping.
const maxQuoted = 60

// quote makes client text safe to show: quoted, ASCII, escaped, bounded.
func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.QuoteToASCII(s[:maxQuoted]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
