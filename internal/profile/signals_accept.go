package profile

import "strings"

// What a page request of the current browsers asks for:
//
//	Chrome   text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7
//	Firefox  text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8   (66 to 131 with image types, never apng)
//	Safari   text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
//
// and of the parts of a page "*/*" or the types of the part. A script's fetch asks for
// "*/*" too, and comes with the languages and, unless the page forbids it, a Referer.

func libraryHeaders(f facts) string {
	h := &f.p.Headers
	if h.AcceptLanguage.IsPresent() || !isGeneric(f) || !f.isPage() {
		return ""
	}
	return " with the headers of an HTTP library: no language, no wish for HTML"
}

// isGeneric reports whether the request asks for nothing in particular.
func isGeneric(f facts) bool {
	t := &f.p.Headers.Accept
	return !t.IsPresent() || t.Value == "" || t.Value == "*/*"
}

func noAccept(f facts) string {
	if t := &f.p.Headers.Accept; t.IsPresent() && t.Value != "" || !f.isPage() {
		return ""
	}
	return " but sends no Accept"
}

func genericAccept(f facts) string {
	h := &f.p.Headers
	if h.Accept.Value != "*/*" {
		return ""
	}
	if h.SecFetchMode.IsPresent() && h.SecFetchMode.Value != "navigate" {
		return ""
	}
	if h.SecFetchMode.IsAbsent() && (!f.secure || !f.browser.secFetch()) && h.Referer.IsPresent() && h.AcceptLanguage.IsPresent() {
		return "" // may be a script's fetch
	}
	if !f.isPage() {
		return ""
	}
	return " and reads a page with Accept: */*"
}

func foreignAccept(f facts) string {
	accept := f.p.Headers.Accept.Value
	if !strings.Contains(accept, "text/html") {
		return ""
	}
	apng := strings.Contains(accept, "image/apng") || strings.Contains(accept, "application/signed-exchange")
	switch b := f.browser; b.engine {
	case engineGecko, engineWebKit:
		if apng {
			return " and asks for a page as Chrome does"
		}
	case engineChromium: // image/apng since 59
		if b.plain && b.major >= 65 && !apng && f.isPage() {
			return " and asks for a page as Chrome does not"
		}
	}
	return ""
}

func noAcceptLanguage(f facts) string {
	if t := &f.p.Headers.AcceptLanguage; t.IsPresent() && t.Value != "" || !f.isPage() {
		return ""
	}
	return " but sends no Accept-Language"
}

func noAcceptEncoding(f facts) string {
	if t := &f.p.Headers.AcceptEncoding; t.IsPresent() && t.Value != "" && t.Value != "identity" || !f.isPage() {
		return ""
	}
	return " but accepts no compression"
}

func noBrotli(f facts) string {
	t, b := &f.p.Headers.AcceptEncoding, f.browser
	if !f.secure || f.p.Scheme != "https" || !t.IsPresent() || !containsFold(t.Value, "gzip") || hasToken(t.Value, "br") {
		return ""
	}
	// Chrome 50, Firefox 44, Safari 11, over HTTPS only.
	switch {
	case b.engine == engineChromium && b.major >= 55, b.engine == engineGecko && b.major >= 50, b.engine == engineWebKit && b.major >= 12:
	default:
		return ""
	}
	if !f.isPage() {
		return ""
	}
	return " over HTTPS but does not know brotli"
}

// hasToken reports whether a comma-separated list holds the token, parameters aside.
func hasToken(list, token string) bool {
	for list != "" {
		var item string
		item, list, _ = strings.Cut(list, ",")
		item, _, _ = strings.Cut(item, ";")
		if strings.EqualFold(strings.TrimSpace(item), token) {
			return true
		}
	}
	return false
}

func noUpgradeInsecure(f facts) string {
	h, b := &f.p.Headers, f.browser
	if !h.UpgradeInsecure.IsAbsent() || !b.plain || !strings.HasPrefix(h.Accept.Value, "text/html") {
		return ""
	}
	// Chrome 44, Firefox 48. Safari sends it in some cases only.
	if !(b.engine == engineChromium && b.major >= 44 || b.engine == engineGecko && b.major >= 48) {
		return ""
	}
	if h.SecFetchMode.IsPresent() && h.SecFetchMode.Value != "navigate" || h.Purpose.IsPresent() || h.RequestedWith.IsPresent() || !f.isPage() {
		return ""
	}
	return " and opens a page without Upgrade-Insecure-Requests"
}
