package profile

import (
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// engine is what renders the pages of a claimed browser, which decides the headers it sends.
type engine uint8

const (
	engineOther engine = iota // nothing is expected of it
	engineChromium
	engineGecko
	engineWebKit // Safari, and every browser on iOS
)

// browser is what a User-Agent lets one expect.
type browser struct {
	engine       engine
	major, minor int // of the engine: Chrome's, Firefox's or Safari's number
	// plain says that the program is one of those whose headers are known in full:
	// Chrome, Edge, Opera, Firefox, Safari. Others on the same engine may leave some out.
	plain bool
}

// secFetch reports whether the browser is new enough to send all of Sec-Fetch-Site,
// -Mode and -Dest with every request in a secure context: Chrome 80 (Site and
// Mode: 76), Firefox 90, Safari 16.4.
func (b browser) secFetch() bool {
	switch b.engine {
	case engineChromium:
		return b.major >= 80
	case engineGecko:
		return b.major >= 90
	case engineWebKit:
		return b.major > 16 || b.major == 16 && b.minor >= 4
	}
	return false
}

// browserOf reads the engine from a browser's User-Agent. It errs towards engineOther:
// web views, which apps configure as they like, browsers that fetch through a
// compressing relay, and old forks expect nothing.
func browserOf(a *defense.Agent) browser {
	if a.Family != defense.AgentBrowser {
		return browser{}
	}
	ua := a.Text.Value
	if strings.Contains(ua, "iPhone") || strings.Contains(ua, "iPad") || strings.Contains(ua, "iPod") {
		return browserOnIOS(ua)
	}
	if i := strings.Index(ua, "Chrome/"); i >= 0 {
		b := browser{engine: engineChromium, plain: true}
		b.major, b.minor = versionAt(ua[i+len("Chrome/"):])
		if strings.Contains(ua, "; wv)") {
			return browser{}
		}
		// What stands after the comment names the product and, in the case of a
		// fork, more than Chrome does.
		for tail := ua[i:]; tail != ""; {
			var token string
			token, tail, _ = strings.Cut(tail, " ")
			name, _, _ := strings.Cut(token, "/")
			switch name {
			case "Chrome", "Mobile", "Safari", "Edg", "EdgA", "OPR", "":
			case "UCBrowser", "MQQBrowser", "Puffin", "Silk", "Edge", "GSA", "Electron":
				return browser{}
			default:
				b.plain = false
			}
		}
		// "Version/4.0 Chrome/…" is Android's web view, "SamsungBrowser/27 Chrome/…" a fork.
		if before := ua[:i]; strings.Contains(before, "Version/") || strings.Contains(before, "UCBrowser") || strings.Contains(before, "Silk/") {
			return browser{}
		} else if !strings.HasSuffix(before, ") ") {
			b.plain = false
		}
		if b.major == 0 {
			return browser{}
		}
		return b
	}
	if i := strings.Index(ua, "Firefox/"); i >= 0 && strings.Contains(ua, "Gecko/") {
		for _, fork := range [...]string{"Goanna", "PaleMoon", "SeaMonkey", "Basilisk", "Waterfox", "K-Meleon", "Camino", "Ladybird", "like Firefox"} {
			if strings.Contains(ua, fork) {
				return browser{}
			}
		}
		b := browser{engine: engineGecko}
		b.major, b.minor = versionAt(ua[i+len("Firefox/"):])
		b.plain = strings.IndexByte(ua[i:], ' ') < 0
		return b
	}
	if strings.Contains(ua, "Macintosh") && strings.Contains(ua, "Safari/") {
		if i := strings.Index(ua, " Version/"); i >= 0 {
			b := browser{engine: engineWebKit}
			b.major, b.minor = versionAt(ua[i+len(" Version/"):])
			j := strings.Index(ua, "Safari/")
			b.plain = j > i && strings.IndexByte(ua[j:], ' ') < 0
			return b
		}
	}
	return browser{}
}

// browserOnIOS reads Safari's version, or for other browsers that of the system
// whose WebKit they must use. Apps that only show a page (no "Safari/") expect nothing.
func browserOnIOS(ua string) browser {
	if !strings.Contains(ua, "Safari/") || !strings.Contains(ua, "AppleWebKit/") {
		return browser{}
	}
	b := browser{engine: engineWebKit}
	if i := strings.Index(ua, " Version/"); i >= 0 {
		b.major, b.minor = versionAt(ua[i+len(" Version/"):])
		b.plain = true
	} else if i := strings.Index(ua, " OS "); i >= 0 {
		b.major, b.minor = versionAt(ua[i+len(" OS "):])
	}
	return b
}

// versionAt reads "141.0.…" or "18_7…" at the start of s; at most five digits a part.
func versionAt(s string) (major, minor int) {
	major, n := number(s)
	if n == 0 || n == len(s) || s[n] != '.' && s[n] != '_' {
		return major, 0
	}
	minor, _ = number(s[n+1:])
	return major, minor
}

// number reads up to five decimal digits and says how many there were.
func number(s string) (v, n int) {
	for n < len(s) && n < 5 && '0' <= s[n] && s[n] <= '9' {
		v = v*10 + int(s[n]-'0')
		n++
	}
	return v, n
}
