package profile

import (
	"fmt"
	"strings"
)

// hintsSince is the Chromium from which all three hints are sent unasked:
// Sec-CH-UA and -Mobile came with 89, -Platform with 93; 95 leaves room for forks that lag.
const hintsSince = 95

func noClientHints(f facts) string {
	b, h := f.browser, &f.p.Headers
	if b.engine != engineChromium || !b.plain || b.major < hintsSince || !f.secure || !h.SecCHUA.IsAbsent() || h.Via.IsPresent() || !f.isPage() {
		return ""
	}
	return " but sends no Sec-CH-UA"
}

func foreignClientHints(f facts) string {
	h := &f.p.Headers
	if !h.SecCHUA.IsPresent() {
		return ""
	}
	switch f.browser.engine {
	case engineGecko:
		return " and sends Sec-CH-UA, which Firefox never does"
	case engineWebKit:
		return " and sends Sec-CH-UA, which Safari never does"
	}
	return ""
}

func hintsContradictVersion(f facts) string {
	if f.browser.engine != engineChromium || !f.browser.plain {
		return ""
	}
	hint := chromiumOf(f.p.Headers.SecCHUA.Value)
	if hint == 0 || hint == f.browser.major {
		return ""
	}
	return fmt.Sprintf("claims Chrome %d, while Sec-CH-UA says Chromium %d", f.browser.major, hint)
}

// chromiumOf reads Chromium's version from a Sec-CH-UA value, as in
// `"Chromium";v="141", "Not?A_Brand";v="8"`; 0 if it is not there.
func chromiumOf(hints string) int {
	_, rest, ok := strings.Cut(hints, `"Chromium"`)
	if !ok {
		return 0
	}
	rest = strings.TrimLeft(rest, "; ")
	rest, ok = strings.CutPrefix(rest, `v="`)
	if !ok {
		return 0
	}
	v, _ := number(rest)
	return v
}

func hintsContradictPlatform(f facts) string {
	if f.browser.engine != engineChromium {
		return ""
	}
	said := strings.Trim(f.p.Headers.SecCHUAPlatform.Value, `"`)
	claimed := system(f.p.Agent.OS)
	if hint := system(said); hint == 0 || claimed == 0 || hint == claimed {
		return ""
	}
	return "claims " + f.p.Agent.OS + ", while Sec-CH-UA-Platform says " + quote(said)
}

// system groups the names that one device may use; 0 for others.
func system(name string) int {
	switch name {
	case "Windows":
		return 1
	case "macOS", "Mac OS X":
		return 2
	case "Linux", "Android", "ChromeOS", "Chrome OS", "Chromium OS":
		return 3
	case "iOS":
		return 4
	}
	return 0
}

func hintsContradictMobile(f facts) string {
	if f.browser.engine != engineChromium || !f.browser.plain {
		return ""
	}
	// Tablets say Android without Mobile, and ?0.
	phone := strings.Contains(f.p.Agent.Text.Value, " Mobile ")
	switch hint := f.p.Headers.SecCHUAMobile.Value; {
	case hint == "?1" && !phone:
		return "Sec-CH-UA-Mobile says a phone, the User-Agent does not"
	case hint == "?0" && phone:
		return "the User-Agent says a phone, Sec-CH-UA-Mobile does not"
	}
	return ""
}

func headlessClientHints(f facts) string {
	if !strings.Contains(f.p.Headers.SecCHUA.Value, "HeadlessChrome") || strings.Contains(f.p.Agent.Text.Value, "HeadlessChrome") {
		return ""
	}
	return "Sec-CH-UA names HeadlessChrome, the User-Agent does not"
}
