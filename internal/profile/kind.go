package profile

import (
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// kindOf decides what a request is for. raw is the target's path as received.
//
// The path speaks first, then the method, then the headers if they were observed.
// Where they disagree the reading is taken that cannot lock anybody out and is of no
// use to a scraper:
//
//   - Robots and well-known addresses, which nothing may stop, follow from the
//     path alone, and only if every server reads that path alike.
//   - A browser that says it navigates to a document is navigating, even to
//     a picture: it can show a page.
//   - Headers can turn a page into API or other, which are answered with a short text
//     instead of a page, but never into an asset, media, git or (without a feed reader's
//     name) feed. A policy must not let a request through for being API: its
//     score and budgets count as for a page.
//   - From a log, where no such header is known, a GET of what looks like a page is one.
func kindOf(p *defense.Profile, raw string) defense.Kind {
	h := &p.Headers
	if isUpgrade(h) {
		return defense.KindUpgrade
	}
	byPath := kindOfPath(raw, p.Path, p.Query)
	switch p.Method {
	case "GET", "HEAD":
	case "POST":
		return kindOfPost(p, byPath)
	case "PUT", "PATCH", "DELETE", "OPTIONS",
		"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "MKCALENDAR", "ACL", "QUERY",
		"VERSION-CONTROL", "CHECKOUT", "CHECKIN", "UNCHECKOUT", "MKWORKSPACE", "UPDATE", "LABEL", "MERGE", "BASELINE-CONTROL", "MKACTIVITY",
		"ORDERPATCH", "BIND", "UNBIND", "REBIND", "LINK", "UNLINK":
		if byPath == defense.KindGit { // LFS uploads and locks
			return byPath
		}
		return defense.KindAPI
	default:
		return defense.KindOther
	}

	switch byPath {
	case defense.KindRobots, defense.KindWellKnown, defense.KindGit, defense.KindFeed:
		if byPath != defense.KindFeed || !feedByQueryOnly(p) || wantsFeed(p) {
			return byPath
		}
		byPath = defense.KindNavigation
	}
	if k, ok := kindOfFetch(h, byPath); ok {
		return k
	}
	if c := p.Agent.Crawler; c != nil && c.Purpose == defense.PurposePreview {
		// Federated servers fetch previews and people's profiles under one name.
		if k := kindOfAccept(h); k == defense.KindAPI {
			return k
		}
		return defense.KindPreview
	}
	if byPath != defense.KindNavigation {
		return byPath
	}
	if h.RequestedWith.IsPresent() && strings.EqualFold(h.RequestedWith.Value, "XMLHttpRequest") {
		return defense.KindAPI
	}
	switch p.Agent.Family {
	case defense.AgentGit:
		return defense.KindOther // git reads no pages
	case defense.AgentFeed:
		if !h.Accept.IsPresent() || !wantsHTML(h) {
			return defense.KindFeed
		}
	}
	return kindOfAccept(h)
}

// isUpgrade reports whether the client asks to leave HTTP. The offers of h2c and TLS
// that some clients make with every request are not meant so (RFC 9110, 7.8).
func isUpgrade(h *defense.Headers) bool {
	if !h.Upgrade.IsPresent() || h.Connection.IsPresent() && !containsFold(h.Connection.Value, "upgrade") {
		return false
	}
	v := h.Upgrade.Value
	return v != "" && !hasPrefixFold(v, "h2") && !hasPrefixFold(v, "tls") && !hasPrefixFold(v, "http/")
}

// kindOfPost tells a submitted form from a call.
func kindOfPost(p *defense.Profile, byPath defense.Kind) defense.Kind {
	h := &p.Headers
	switch {
	case byPath == defense.KindGit:
		return byPath
	case h.SecFetchMode.IsPresent():
		if h.SecFetchMode.Value == "navigate" {
			return defense.KindNavigation
		}
		return defense.KindAPI
	case byPath != defense.KindNavigation, h.RequestedWith.IsPresent():
		return defense.KindAPI
	case h.Accept.Presence == defense.Unobserved:
		if p.Agent.Family == defense.AgentBrowser {
			return defense.KindNavigation
		}
		return defense.KindAPI
	}
	form := !h.ContentType.IsPresent() || hasPrefixFold(h.ContentType.Value, "application/x-www-form-urlencoded") ||
		hasPrefixFold(h.ContentType.Value, "multipart/form-data") || hasPrefixFold(h.ContentType.Value, "text/plain")
	if form && wantsHTML(h) {
		return defense.KindNavigation
	}
	return defense.KindAPI
}

// kindOfFetch reads the fetch metadata (W3C Fetch Metadata Request Headers), if there is any.
func kindOfFetch(h *defense.Headers, byPath defense.Kind) (defense.Kind, bool) {
	if !h.SecFetchMode.IsPresent() {
		return 0, false
	}
	file := byPath == defense.KindAsset || byPath == defense.KindMedia
	dest := h.SecFetchDest.Value
	switch h.SecFetchMode.Value {
	case "navigate":
		switch dest {
		case "document", "iframe", "frame", "fencedframe":
			return defense.KindNavigation, true
		}
		if file { // a download, or a plug-in's document
			return byPath, true
		}
		if dest == "embed" || dest == "object" {
			return defense.KindOther, true
		}
		return defense.KindNavigation, true // from a service worker
	case "websocket":
		return defense.KindUpgrade, h.Upgrade.IsPresent()
	case "cors", "same-origin", "no-cors":
		switch {
		case file || byPath == defense.KindAPI:
			return byPath, true
		case dest == "document" || dest == "iframe" || dest == "frame":
			return defense.KindNavigation, true // contradictory: a signal says so, the header earns nothing
		case dest != "" && dest != "empty":
			return defense.KindOther, true // a picture or script from a page's address
		case h.Purpose.IsPresent():
			return defense.KindNavigation, true // <link rel=prefetch> of a page
		}
		return defense.KindAPI, true
	}
	return 0, false
}

// kindOfAccept reads what a request for a page's address wants.
func kindOfAccept(h *defense.Headers) defense.Kind {
	if !h.Accept.IsPresent() || wantsHTML(h) {
		return defense.KindNavigation
	}
	first, _, _ := strings.Cut(h.Accept.Value, ",")
	first, _, _ = strings.Cut(first, ";")
	first = strings.TrimSpace(first)
	switch {
	case first == "", first == "*/*", first == "*", hasPrefixFold(first, "text/plain"), first == "text/*", hasPrefixFold(first, "text/markdown"):
		return defense.KindNavigation
	case containsFold(first, "json"), containsFold(first, "xml"), hasPrefixFold(first, "text/event-stream"),
		containsFold(first, "protobuf"), containsFold(first, "grpc"), containsFold(first, "msgpack"), containsFold(first, "cbor"):
		return defense.KindAPI
	}
	return defense.KindOther
}

func feedByQueryOnly(p *defense.Profile) bool {
	name, ext := lastSegment(p.Path)
	return !isFeedPath(p.Path, name, ext)
}

// wantsFeed says whether a request, of which only a parameter like "format=rss" speaks of
// a feed, is believed. Most servers ignore the parameter and give the page, so a
// browser's name with a wish for anything else is not.
func wantsFeed(p *defense.Profile) bool {
	accept := &p.Headers.Accept
	switch {
	case !accept.IsPresent():
		return true
	case p.Agent.Family == defense.AgentFeed:
		return true
	case p.Agent.Family == defense.AgentBrowser:
		return containsFold(accept.Value, "application/rss") || containsFold(accept.Value, "application/atom")
	}
	return !wantsHTML(&p.Headers)
}

func wantsHTML(h *defense.Headers) bool {
	return containsFold(h.Accept.Value, "text/html") || containsFold(h.Accept.Value, "application/xhtml")
}

// containsFold reports whether s holds the lower-case ASCII text sub, without regard to case.
func containsFold(s, sub string) bool {
	if strings.Contains(s, sub) {
		return true
	}
	for i := 0; i+len(sub) <= len(s); i++ {
		if s[i]|0x20 == sub[0]|0x20 && hasPrefixFold(s[i:], sub) {
			return true
		}
	}
	return false
}

// hasPrefixFold reports whether s begins with prefix, without regard to case.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
