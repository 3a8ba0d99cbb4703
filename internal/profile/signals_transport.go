package profile

import "strings"

func http10(f facts) string {
	if f.p.Protocol != "HTTP/1.0" {
		return ""
	}
	return " over HTTP/1.0"
}

func noKeepAlive(f facts) string {
	if f.p.Protocol != "HTTP/1.1" || !f.p.Headers.Connection.IsAbsent() {
		return ""
	}
	return " over HTTP/1.1 without a Connection header"
}

// malformedReferer: browsers send an absolute address without fragment, or only its origin.
func malformedReferer(f facts) string {
	t := &f.p.Headers.Referer
	if !t.IsPresent() || t.Value == "" {
		return ""
	}
	scheme, rest, ok := strings.Cut(t.Value, "://")
	if ok && rest != "" && isScheme(scheme) && !strings.ContainsAny(rest, "# \t\"<>\\^`{|}") {
		return ""
	}
	if strings.HasPrefix(t.Value, "about:") || len(t.Value) == maxValue {
		return ""
	}
	// Some browsers leave these characters in a query as they found them.
	if _, query, found := strings.Cut(rest, "?"); ok && isScheme(scheme) && found && !strings.ContainsAny(query, "# ") {
		return ""
	}
	return "the Referer is not a browser's: " + quote(t.Value)
}

func isScheme(s string) bool {
	if s == "" || len(s) > 20 {
		return false
	}
	for i := range len(s) {
		if c := s[i] | 0x20; (c < 'a' || c > 'z') && c != '-'|0x20 {
			return false
		}
	}
	return true
}

func revalidates(f facts) string {
	h := &f.p.Headers
	if !h.IfNoneMatch.IsPresent() && !h.IfModifiedSince.IsPresent() || !f.isPage() {
		return ""
	}
	return "asks whether the page that it has kept is still good"
}
