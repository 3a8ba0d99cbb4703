package clientaddr

import (
	"net/netip"
	"net/textproto"
	"strings"
)

// elements walks over a comma-separated list that may be spread over several
// lines of a header, from right to left, within maxHops and maxBytes.
//
// With quotes, a comma inside a quoted string does not separate. Reading from
// the right matters there as well: a client that leaves a quote open can garble
// only what is to its left, never the element that a proxy appended after it.
type elements struct {
	element string // the current one, trimmed

	lines  []string // still to come
	rest   string   // of the current line
	open   bool     // rest has another element
	quotes bool
	hops   int
	bytes  int
}

func newElements(lines []string, quotes bool) elements {
	return elements{lines: lines, quotes: quotes, hops: maxHops, bytes: maxBytes}
}

// next moves to the next element, or reports that there is none within bounds.
func (e *elements) next() bool {
	if !e.open {
		if len(e.lines) == 0 {
			return false
		}
		last := len(e.lines) - 1
		e.rest, e.lines, e.open = e.lines[last], e.lines[:last], true
	}
	if e.hops == 0 {
		return false
	}
	e.hops--

	window, cut := e.rest, false
	if len(window) > e.bytes {
		window, cut = window[len(window)-e.bytes:], true
	}
	var i int
	if e.quotes {
		i = lastUnquotedComma(window)
	} else {
		i = strings.LastIndexByte(window, ',')
	}
	if i < 0 && cut {
		return false // the element begins beyond the bound
	}
	e.element = textproto.TrimString(window[i+1:])
	e.bytes -= len(window) - i - 1
	if i < 0 {
		e.open = false
		return true
	}
	e.bytes--
	e.rest = e.rest[:len(e.rest)-len(window)+i]
	return true
}

// lastUnquotedComma returns the index of the last comma of s outside quoted
// strings, or -1.
func lastUnquotedComma(s string) int {
	inside := false
	for i := len(s) - 1; i >= 0; i-- {
		switch s[i] {
		case ',':
			if !inside {
				return i
			}
		case '"':
			// An escaped quote follows an odd number of backslashes.
			j := i
			for j > 0 && s[j-1] == '\\' {
				j--
			}
			if (i-j)%2 == 0 {
				inside = !inside
			}
			i = j
		}
	}
	return -1
}

// parseForwarded returns the values of for and proto of one element of a
// Forwarded header (RFC 7239, section 4), "" where there is none or it is malformed.
// Of a parameter that is given twice the first counts.
func parseForwarded(element string) (node, proto string) {
	for element != "" {
		var pair string
		pair, element = cutPair(element)
		name, value, _ := strings.Cut(pair, "=")
		name, value = textproto.TrimString(name), unquote(textproto.TrimString(value))
		switch {
		case node == "" && strings.EqualFold(name, "for"):
			node = value
		case proto == "" && strings.EqualFold(name, "proto"):
			proto = value
		}
	}
	return node, proto
}

// cutPair cuts s at the first semicolon outside quoted strings.
func cutPair(s string) (pair, rest string) {
	inside := false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			inside = !inside
		case '\\':
			if inside {
				i++
			}
		case ';':
			if !inside {
				return s[:i], s[i+1:]
			}
		}
	}
	return s, ""
}

// unquote returns the content of a quoted string, or a token as it is. A quoted
// string that needs escapes holds neither an address nor a scheme: it gives "".
func unquote(s string) string {
	if len(s) == 0 || s[0] != '"' {
		return s
	}
	if len(s) < 2 || s[len(s)-1] != '"' {
		return ""
	}
	s = s[1 : len(s)-1]
	if strings.ContainsAny(s, `"\`) {
		return ""
	}
	return s
}

// maxNode bounds one address with brackets, zone and port.
const maxNode = 128

// parseNode reads an address as proxies write it: IPv4 or IPv6, with or without
// port, IPv6 with or without brackets and zone. The result has no zone and is never IPv4-in-IPv6.
// Unspecified and multicast addresses, which no client can have, are refused.
func parseNode(s string) (netip.Addr, bool) {
	s = textproto.TrimString(s)
	if s == "" || len(s) > maxNode {
		return netip.Addr{}, false
	}
	bracketed := s[0] == '['
	if bracketed {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return netip.Addr{}, false
		}
		if port := s[end+1:]; port != "" && (port[0] != ':' || !isPort(port[1:])) {
			return netip.Addr{}, false
		}
		s = s[1:end]
	} else if i := strings.IndexByte(s, ':'); i >= 0 && strings.IndexByte(s[i+1:], ':') < 0 {
		// One colon: not IPv6.
		if !isPort(s[i+1:]) {
			return netip.Addr{}, false
		}
		s = s[:i]
	}
	// The zone goes first: netip would intern it, and it is the sender's to choose.
	if i := strings.IndexByte(s, '%'); i >= 0 {
		s = s[:i]
	}
	if !addressBytes(s) {
		return netip.Addr{}, false // ParseAddr would say so too, and allocate its error
	}
	a, err := netip.ParseAddr(s)
	if err != nil || bracketed && a.Is4() {
		return netip.Addr{}, false
	}
	a = a.Unmap()
	return a, !a.IsUnspecified() && !a.IsMulticast()
}

// addressBytes reports whether s has only the bytes of an address, and a dot or colon.
func addressBytes(s string) bool {
	separated := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.' || c == ':':
			separated = true
		case c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f':
		default:
			return false
		}
	}
	return separated
}

// isPort reports whether s is a port or an obfuscated port (RFC 7239, section 6).
func isPort(s string) bool {
	if s == "" {
		return false
	}
	if s[0] == '_' {
		return len(s) > 1
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) <= 5
}
