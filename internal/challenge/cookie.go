package challenge

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/session"
)

const (
	clearanceCookie = "quickthorn-clearance"
	visitorCookie   = "quickthorn-visitor"
	seenCookie      = "quickthorn-seen"
	cookiePrefix    = "quickthorn-"

	// visitorValidity is how long a browser is known to keep cookies.
	visitorValidity = 24 * time.Hour
	// maxCookies bounds how many cookies of one name are looked at in a line.
	maxCookies = 8
)

// eachCookie calls try with every value of that name until it returns true. Several cookies of one
// name are sent when they were set for other paths or domains: one good one is enough.
func eachCookie(h http.Header, name string, try func(value string) bool) bool {
	for _, line := range h["Cookie"] {
		for range maxCookies {
			value, rest, ok := nextCookie(line, name)
			if !ok {
				break
			}
			line = rest
			if try(value) {
				return true
			}
		}
	}
	return false
}

// nextCookie returns the value of the first cookie of that name in a Cookie line and
// what follows it; ok is false if there is none. It does not build the list of all cookies: this runs for every request.
func nextCookie(line, name string) (value, rest string, ok bool) {
	for line != "" {
		var pair string
		pair, line, _ = strings.Cut(line, ";")
		pair = strings.TrimLeft(pair, " \t")
		if len(pair) > len(name) && pair[len(name)] == '=' && pair[:len(name)] == name {
			return strings.Trim(pair[len(name)+1:], "\" \t"), line, true
		}
	}
	return "", "", false
}

// cookie returns a Set-Cookie value. A Secure cookie on plain HTTP would be dropped and the reader sent round in
// circles, so the attributes follow the scheme that the client uses. A page in a frame on another site gets no Lax
// cookie back; there it has a partition of its own (CHIPS), which needs Secure.
func cookie(name, value string, age time.Duration, secure, embedded bool) string {
	var b strings.Builder
	b.Grow(len(name) + len(value) + 80)
	b.WriteString(name)
	b.WriteByte('=')
	b.WriteString(value)
	// Max-Age, not Expires: the client's clock may be wrong by a day.
	b.WriteString("; Path=/; Max-Age=")
	b.WriteString(strconv.Itoa(int(age.Seconds())))
	switch {
	case secure && embedded:
		b.WriteString("; HttpOnly; SameSite=None; Secure; Partitioned")
	case secure:
		b.WriteString("; HttpOnly; SameSite=Lax; Secure")
	default:
		b.WriteString("; HttpOnly; SameSite=Lax")
	}
	return b.String()
}

// StripCookies removes our cookies from a request that goes on to the site: they are nothing to it, and
// many caches in front of an application do not serve a request that carries any cookie. A header without them is left as it is.
func StripCookies(h http.Header) {
	lines := h["Cookie"]
	for i, line := range lines {
		if !strings.Contains(line, cookiePrefix) {
			continue
		}
		kept := make([]byte, 0, len(line))
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.Trim(pair, " \t")
			if name, _, _ := strings.Cut(pair, "="); pair == "" || name == clearanceCookie || name == visitorCookie || name == seenCookie || name == session.Cookie {
				continue
			}
			if len(kept) > 0 {
				kept = append(kept, "; "...)
			}
			kept = append(kept, pair...)
		}
		lines[i] = string(kept)
	}
	all := lines[:0]
	for _, line := range lines {
		if line != "" {
			all = append(all, line)
		}
	}
	if len(all) == 0 && len(lines) > 0 {
		delete(h, "Cookie")
		return
	}
	if len(lines) > 0 {
		h["Cookie"] = all
	}
}
