package profile

import (
	"github.com/quickthorn/quickthorn/internal/defense"
)

func noSecFetch(f facts) string {
	h := &f.p.Headers
	if !f.secure || h.Via.IsPresent() || !f.browser.secFetch() ||
		!h.SecFetchSite.IsAbsent() || !h.SecFetchMode.IsAbsent() || !h.SecFetchDest.IsAbsent() {
		return ""
	}
	if f.p.Scheme == "http" && f.browser.engine == engineWebKit {
		return "" // Safari does not count http://localhost as secure in every version
	}
	if !f.isPage() {
		return ""
	}
	if f.p.Scheme == "http" {
		return " on this computer but sends no Sec-Fetch headers"
	}
	return " over HTTPS but sends no Sec-Fetch headers"
}

func partialSecFetch(f facts) string {
	h := &f.p.Headers
	n := 0
	for _, t := range [...]*defense.Text{&h.SecFetchSite, &h.SecFetchMode, &h.SecFetchDest} {
		if t.IsPresent() {
			n++
		}
	}
	// Chrome 76 to 79 sent no Sec-Fetch-Dest.
	if n == 0 || n == 3 || f.browser.engine == engineChromium && f.browser.major < 80 || h.Via.IsPresent() || !f.isPage() {
		return ""
	}
	return "sends only some of Sec-Fetch-Site, Sec-Fetch-Mode and Sec-Fetch-Dest"
}

// impossibleSecFetch knows the values of the specification. A destination that it
// does not know is let pass: new ones are added.
func impossibleSecFetch(f facts) string {
	h := &f.p.Headers
	if h.SecFetchSite.IsPresent() {
		switch h.SecFetchSite.Value {
		case "none", "same-origin", "same-site", "cross-site":
		default:
			return "Sec-Fetch-Site: " + quote(h.SecFetchSite.Value) + " does not exist"
		}
	}
	if h.SecFetchUser.IsPresent() && h.SecFetchUser.Value != "?1" {
		return "Sec-Fetch-User: " + quote(h.SecFetchUser.Value) + " is never sent"
	}
	if !h.SecFetchMode.IsPresent() {
		return ""
	}
	mode, dest := h.SecFetchMode.Value, h.SecFetchDest.Value
	switch mode {
	case "navigate":
		if isSubresource(dest) {
			return "says that it navigates to a part of a page: " + dest
		}
	case "cors", "no-cors", "same-origin", "websocket", "webtransport":
		if dest == "document" && mode != "same-origin" { // same-origin: a service worker repeats a navigation
			return "Sec-Fetch-Dest: document with Sec-Fetch-Mode: " + mode
		}
		if h.SecFetchUser.IsPresent() && mode != "same-origin" {
			return "Sec-Fetch-User with Sec-Fetch-Mode: " + mode
		}
	default:
		return "Sec-Fetch-Mode: " + quote(mode) + " does not exist"
	}
	return ""
}

// isSubresource reports whether the destination can only be a part of a page.
func isSubresource(dest string) bool {
	switch dest {
	case "image", "style", "script", "font", "audio", "video", "track", "manifest", "worker", "sharedworker", "serviceworker",
		"audioworklet", "paintworklet", "xslt", "report", "json":
		return true
	}
	return false
}

func fetchContradictsAccept(f facts) string {
	h := &f.p.Headers
	switch dest := h.SecFetchDest.Value; dest {
	case "image", "style", "script", "font":
		if containsFold(h.Accept.Value, "text/html") {
			return "says that it loads a part of a page (" + dest + ") and asks for text/html"
		}
	}
	return ""
}

func fetchContradictsReferer(f facts) string {
	h := &f.p.Headers
	if h.SecFetchSite.Value != "none" || h.SecFetchMode.Value != "navigate" || !h.Referer.IsPresent() || h.Referer.Value == "" {
		return ""
	}
	return "says that nobody referred it (Sec-Fetch-Site: none) and sends the Referer " + quote(h.Referer.Value)
}
