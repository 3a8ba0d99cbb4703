package accesslog

import (
	"net/netip"
	"strings"
	"time"
)

// clf reads the Common Log Format and what has become of it: Combined, either of
// them with the virtual host in front, nginx's "main" with X-Forwarded-For
// behind, Traefik's with router and duration, and any of them followed by
// something else, which is ignored. Lines of one file may differ.
type clf struct{ d draft }

func (c *clf) parse(line string, e *Entry) error {
	// host ident user [time] "request" status bytes ["referer" "agent" [...]]
	head, rest, ok := strings.Cut(line, " [")
	if !ok {
		return ReasonLayout
	}
	c.d.reset()
	stamp, rest, ok := strings.Cut(rest, `] "`)
	if !ok {
		return ReasonLayout
	}
	if e.Time, ok = parseTime(stamp); !ok {
		return ReasonTime
	}
	if !c.head(head) {
		return ReasonLayout
	}
	request, rest, ok := quoted(rest, isStatus)
	if !ok {
		return ReasonLayout
	}
	status, rest, _ := strings.Cut(strings.TrimPrefix(rest, " "), " ")
	if err := c.d.set(fieldStatus, "", status, e); err != nil {
		return err
	}
	size, rest, _ := strings.Cut(rest, " ")
	if n, ok := parseInt(size); ok {
		e.Bytes = n
	} else if size != "-" {
		return ReasonLayout
	}
	if s, ok := strings.CutPrefix(rest, `"`); ok {
		var referer, agent string
		if referer, rest, ok = quoted(s, isQuote); !ok {
			return ReasonLayout
		}
		e.Referer = observed(unescape(referer))
		if s, ok = strings.CutPrefix(rest, ` "`); ok {
			if agent, rest, ok = quoted(s, isAny); !ok {
				return ReasonLayout
			}
			e.UserAgent = observed(unescape(agent))
			if rest != "" {
				c.tail(rest, e)
			}
		}
	}
	if request == "-" || request == "" {
		return ReasonNoRequest
	}
	c.d.request = unescape(request)
	return c.d.finish(e)
}

// head reads what stands in front of the time: the client, the two names that are
// hardly ever set, and perhaps the virtual host before it.
func (c *clf) head(s string) bool {
	first, rest, ok := strings.Cut(s, " ")
	if !ok {
		return false
	}
	c.d.client = first
	if strings.HasSuffix(first, ",") { // a list of forwarded addresses
		i := strings.LastIndex(s, ", ")
		last, _, _ := strings.Cut(s[i+2:], " ")
		c.d.client, c.d.forwarded = "", s[:i+2]+last
		return true
	}
	if _, err := netip.ParseAddr(first); err == nil {
		return true
	}
	// The first is no address. If the second is, the first is the virtual host.
	if second, _, _ := strings.Cut(rest, " "); second != "-" {
		if a, _ := parseAddress(second); a.IsValid() {
			c.d.server, c.d.client = first, second
		}
	}
	return true
}

// tail reads what follows a Combined line as far as it is known.
func (c *clf) tail(s string, e *Entry) {
	s = strings.TrimPrefix(s, " ")
	if inner, ok := strings.CutPrefix(s, `"`); ok {
		// nginx's "main": "$http_x_forwarded_for".
		if list, _, ok := quoted(inner, isAny); ok && list != "-" && list != "" && (list[0] == '[' || list[0] >= '0' && list[0] <= '9' || strings.IndexByte(list, ':') > 0) {
			c.d.forwarded = list
		}
		return
	}
	// Traefik: number "router" "url" 12ms
	if i := strings.LastIndexByte(s, ' '); i > 0 && s[0] >= '0' && s[0] <= '9' && strings.HasSuffix(s, "ms") {
		e.Duration = parseSeconds(s[i+1:len(s)-2], time.Millisecond)
	}
}

// quoted returns what stands in front of the closing quote of a text whose opening
// quote is already read, and what follows. A quote closes if it is not escaped and is
// followed by nothing, or by a space and what must come next: old servers escape
// none of the quotes that clients send.
func quoted(s string, next func(byte) bool) (inner, rest string, ok bool) {
	for at := 0; ; {
		i := strings.IndexByte(s[at:], '"')
		if i < 0 {
			return "", "", false
		}
		i += at
		if (i+1 == len(s) || s[i+1] == ' ' && i+2 < len(s) && next(s[i+2])) && !escaped(s, i) {
			return s[:i], s[i+1:], true
		}
		at = i + 1
	}
}

// What comes next: a status behind the request, a quote behind the referrer, anything behind the agent.
func isStatus(c byte) bool { return '0' <= c && c <= '9' || c == '-' }
func isQuote(c byte) bool  { return c == '"' }
func isAny(byte) bool      { return true }

// escaped reports whether an odd number of backslashes stands in front of s[i].
func escaped(s string, i int) bool {
	n := 0
	for i > n && s[i-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}
