package accesslog

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// field is what a part of a line means.
type field uint8

const (
	fieldIgnored field = iota
	fieldClient        // the peer's address, with or without port
	fieldForwarded
	fieldTime     // any of the forms of parseTime
	fieldSeconds  // Unix time
	fieldMillis   // Unix time in milliseconds
	fieldMicros   // Unix time in microseconds
	fieldLayout   // by the layout of time.Parse in the part
	fieldRequest  // "GET /path HTTP/1.1"
	fieldMethod   //
	fieldTarget   // path and query as received
	fieldPath     // path alone
	fieldQuery    // query without "?"
	fieldProtocol // "HTTP/1.1"
	fieldStatus
	fieldBytes
	fieldReferer
	fieldAgent
	fieldHost       // as the client sent it
	fieldServerName // the virtual host, used if there is no host
	fieldScheme
	fieldSecure     // "on" with TLS
	fieldDuration   // seconds with fraction
	fieldDurationMs // milliseconds
	fieldDurationUs
	fieldUpstream // seconds with fraction, several added up
	fieldHeader   // a request header that has no field of its own
)

// draft collects what a line says until finish makes an entry of it. It belongs
// to a parser and is used again.
type draft struct {
	client, forwarded string
	request           string
	path, query       string
	server            string

	header http.Header
	values []string // backs header's values
}

func (d *draft) reset() {
	*d = draft{header: d.header, values: d.values[:0]}
	clear(d.header)
}

// addHeader keeps a header under its canonical name.
func (d *draft) addHeader(name, value string) {
	if d.header == nil {
		d.header = make(http.Header, 24)
	}
	name = http.CanonicalHeaderKey(name)
	if _, taken := d.header[name]; taken {
		return
	}
	d.values = append(d.values, value)
	n := len(d.values)
	d.header[name] = d.values[n-1 : n : n]
}

// set gives a field its value, unescaped. "-" stands for nothing.
func (d *draft) set(f field, name, v string, e *Entry) error {
	if v == "-" {
		switch f {
		case fieldReferer:
			e.Referer.Presence = defense.Absent
		case fieldAgent:
			e.UserAgent.Presence = defense.Absent
		case fieldRequest:
			return ReasonNoRequest
		case fieldTime, fieldLayout, fieldSeconds, fieldMillis, fieldMicros:
			return ReasonTime
		}
		return nil
	}
	var ok bool
	switch f {
	case fieldIgnored:
	case fieldClient:
		d.client = v
	case fieldForwarded:
		if d.forwarded == "" {
			d.forwarded = v
		}
	case fieldTime:
		if e.Time, ok = parseTime(v); !ok {
			return ReasonTime
		}
	case fieldSeconds, fieldMillis, fieldMicros:
		if e.Time, ok = parseUnix(v, f); !ok {
			return ReasonTime
		}
	case fieldLayout:
		t, err := time.Parse(name, v)
		if err != nil {
			return ReasonTime
		}
		e.Time = t.UTC()
	case fieldRequest:
		d.request = v
	case fieldMethod:
		e.Method = v
	case fieldTarget:
		e.Target = v
	case fieldPath:
		d.path = v
	case fieldQuery:
		d.query = v
	case fieldProtocol:
		e.Protocol = protocol(v)
	case fieldStatus:
		n, ok := parseInt(v)
		if !ok || n > 999 {
			return ReasonStatus
		}
		e.Status = int(n)
	case fieldBytes:
		if n, ok := parseInt(v); ok {
			e.Bytes = n
		}
	case fieldReferer:
		e.Referer = observed(v)
	case fieldAgent:
		e.UserAgent = observed(v)
	case fieldHost:
		e.Host = v
	case fieldServerName:
		d.server = v
	case fieldScheme:
		if v == "http" || v == "https" {
			e.Scheme = v
		}
	case fieldSecure:
		if e.Scheme = "http"; v == "on" {
			e.Scheme = "https"
		}
	case fieldDuration:
		e.Duration = parseSeconds(v, time.Second)
	case fieldDurationMs:
		e.Duration = parseSeconds(v, time.Millisecond)
	case fieldDurationUs:
		e.Duration = parseSeconds(v, time.Microsecond)
	case fieldUpstream:
		e.Upstream = parseSecondsList(v)
	case fieldHeader:
		if v != "" {
			d.addHeader(name, v)
		}
	}
	return nil
}

// observed is the Text of a logged header; servers write an absent one as an empty one.
func observed(v string) defense.Text { return defense.Observed(v, v != "" && v != "-") }

// finish makes an entry of what was collected. Where several things are wrong, the
// first in the order of their weight is told: time, request, client.
func (d *draft) finish(e *Entry) error {
	if e.Time.IsZero() {
		return ReasonTime
	}
	if d.request != "" {
		if !splitRequest(d.request, e) {
			return ReasonRequest
		}
	}
	if e.Target == "" && d.path != "" {
		e.Target = d.path
		if q := strings.TrimPrefix(d.query, "?"); q != "" {
			e.Target = d.path + "?" + q
		}
	}
	switch {
	case e.Method == "" && e.Target == "":
		return ReasonNoRequest
	case !isMethod(e.Method) || !isTarget(e.Target):
		return ReasonRequest
	}
	if e.Host == "" {
		e.Host = d.server
	}
	if len(d.values) > 0 {
		e.Header = d.header
	}
	peer, hostName := parseAddress(d.client)
	if d.forwarded != "" && (!peer.IsValid() || isInside(peer)) {
		if a := lastPublic(d.forwarded); a.IsValid() {
			peer = a
		}
	}
	switch {
	case peer.IsValid():
		e.Client = peer
		return nil
	case hostName:
		return ReasonHostName
	}
	return ReasonNoClient
}

// splitRequest splits a request line. The target may hold spaces, as servers log
// what they were sent; a request of HTTP/0.9 has no protocol.
func splitRequest(s string, e *Entry) bool {
	method, rest, ok := strings.Cut(s, " ")
	if !ok {
		return false
	}
	e.Method = method
	if i := strings.LastIndexByte(rest, ' '); i >= 0 && strings.HasPrefix(rest[i+1:], "HTTP/") {
		e.Protocol = protocol(rest[i+1:])
		rest = strings.TrimRight(rest[:i], " ")
	}
	e.Target = rest
	return isMethod(method) && isTarget(rest)
}

// isMethod reports whether s is a token (RFC 9110, section 5.6.2) of reasonable length.
func isMethod(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', c == '-', c == '_', '0' <= c && c <= '9':
		default:
			return false
		}
	}
	return true
}

// isTarget reports whether s begins as one of the forms of a request target
// (RFC 9112, section 3.2): a path, an absolute URI, an authority or "*".
func isTarget(s string) bool {
	switch {
	case s == "":
		return false
	case s[0] == '/', s == "*":
		return true
	}
	scheme, _, ok := strings.Cut(s, ":") // http://…, or host:443 for CONNECT
	return ok && scheme != "" && !strings.ContainsAny(scheme, " \"'|<>\\")
}

// protocol brings the names that servers give to HTTP/2 and HTTP/3 together, as net/http writes them.
func protocol(s string) string {
	switch s {
	case "HTTP/2", "h2":
		return "HTTP/2.0"
	case "HTTP/3", "h3":
		return "HTTP/3.0"
	}
	if strings.HasPrefix(s, "HTTP/") && len(s) <= len("HTTP/1.1") {
		return s
	}
	return ""
}

// parseAddress reads an address, with a port or brackets or the first of a list.
// Otherwise it says whether the text looks like a host's name.
func parseAddress(s string) (a netip.Addr, hostName bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), false
	}
	if first, _, ok := strings.Cut(s, ","); ok {
		s = strings.TrimSpace(first)
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), false
	}
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return a.Unmap().WithZone(""), false
	}
	if s == "" || s == "-" || len(s) > 253 || strings.HasPrefix(s, "unix:") {
		return netip.Addr{}, false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == ':':
		default:
			return netip.Addr{}, false
		}
	}
	return netip.Addr{}, true
}

// isInside reports whether an address is one of a private network or of this machine.
func isInside(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified()
}

// maxForwarded bounds how many addresses of a list are looked at, from the right.
const maxForwarded = 32

// lastPublic returns the last address of an X-Forwarded-For list that is not that
// of an inner proxy, or else the first that was looked at.
func lastPublic(list string) netip.Addr {
	var first netip.Addr
	for range maxForwarded {
		i := strings.LastIndexByte(list, ',')
		if a, _ := parseAddress(strings.Trim(list[i+1:], " \"")); a.IsValid() {
			first = a
			if !isInside(a) {
				return a
			}
		}
		if i < 0 {
			break
		}
		list = list[:i]
	}
	return first
}

// unescape undoes what servers do to quotes, control characters and non-ASCII
// bytes: nginx writes \xHH, Apache \" \\ \n \t \xhh, JSON also \uHHHH.
// An escape that is none of these is left as it is.
func unescape(s string) string {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for {
		b = append(b, s[:i]...)
		s = s[i:]
		n := 2
		if len(s) < 2 {
			return string(append(b, s...))
		}
		switch s[1] {
		case '"', '\\', '/', '\'':
			b = append(b, s[1])
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'v':
			b = append(b, '\v')
		case 'x':
			if v, ok := hex(s, 2, 2); ok {
				b, n = append(b, byte(v)), 4
			} else {
				b = append(b, s[:2]...)
			}
		case 'u':
			b, n = appendUnicode(b, s)
		default:
			b = append(b, s[:2]...)
		}
		s = s[n:]
		if i = strings.IndexByte(s, '\\'); i < 0 {
			return string(append(b, s...))
		}
	}
}
