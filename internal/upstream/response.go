package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// maxFields bounds the number of fields in a header or trailer section.
const maxFields = 1000

// head is a parsed response head: what is to be relayed, and what framing says.
type head struct {
	status    int
	fields    []Field // end-to-end fields in order, names canonical
	length    int64   // of Content-Length, -1 without
	chunked   bool
	close     bool          // the connection ends with this answer
	keepAlive time.Duration // of "Keep-Alive: timeout=", 0 if not given
	upgrade   string        // of Upgrade
	trailer   []string      // names announced by Trailer
}

// parseHead parses a status line and header section, which end in an empty line.
// It is as strict as net/textproto, and refuses what could be framed in two
// ways (RFC 9112 §6.3): two different lengths, a length and a transfer coding,
// or a coding other than chunked. The result's strings share block's memory;
// mem is memory for the fields.
func parseHead(block string, mem []Field) (h head, err error) {
	h.length = -1
	h.fields = mem[:0]
	line, rest := cutLine(block)
	minor, err := h.parseStatus(line)
	if err != nil {
		return h, err
	}
	var connection []string
	var keepAlive, persistent, coded bool
	err = eachField(rest, func(name, value string) error {
		switch name {
		case "Content-Length":
			n, err := parseLength(value)
			switch {
			case err != nil:
				return err
			case h.length >= 0 && h.length != n:
				return errors.New("two different Content-Length fields")
			case h.length >= 0:
				return nil
			}
			h.length = n
		case "Transfer-Encoding":
			if coded || !strings.EqualFold(value, "chunked") {
				return fmt.Errorf("transfer coding %.40q", value)
			}
			coded = true
			return nil
		case "Connection", "Proxy-Connection":
			if value == "keep-alive" { // the one value that most send
				persistent = true
			} else {
				connection = append(connection, value)
			}
			return nil
		case "Keep-Alive":
			keepAlive = true
			h.keepAlive = parseKeepAlive(value)
			return nil
		case "Upgrade":
			h.upgrade = value
			return nil
		case "Trailer":
			for value != "" {
				var t string
				t, value = nextToken(value)
				if t = http.CanonicalHeaderKey(t); trailerAllowed(t) {
					h.trailer = append(h.trailer, t)
				}
			}
			return nil
		case "Te", "Proxy-Authenticate", "Proxy-Authorization", "Http2-Settings":
			return nil
		}
		h.fields = append(h.fields, Field{name, value})
		return nil
	})
	if err != nil {
		return h, err
	}
	h.chunked = coded
	if h.chunked && h.length >= 0 {
		return h, errors.New("both Content-Length and Transfer-Encoding")
	}
	for _, v := range connection {
		for v != "" {
			var t string
			t, v = nextToken(v)
			switch {
			case strings.EqualFold(t, "close"):
				h.close = true
			case strings.EqualFold(t, "keep-alive"):
				persistent = true
			case t == "" || strings.EqualFold(t, "content-length"):
			default:
				h.remove(t)
			}
		}
	}
	if minor == 0 {
		// A transfer coding is beyond HTTP/1.0: the framing is believed, the
		// connection is not (RFC 9112 §6.1).
		h.close = h.close || !persistent || h.chunked
	}
	if !keepAlive {
		h.keepAlive = 0
	}
	return h, nil
}

// parseStatus parses "HTTP/1.x NNN reason" and returns x.
func (h *head) parseStatus(line string) (minor int, err error) {
	version, rest, ok := strings.Cut(line, " ")
	switch {
	case !ok || version != "HTTP/1.1" && version != "HTTP/1.0":
		return 0, fmt.Errorf("status line %.40q", line)
	case version == "HTTP/1.1":
		minor = 1
	}
	rest = strings.TrimLeft(rest, " ")
	if len(rest) < 3 || len(rest) > 3 && rest[3] != ' ' {
		return 0, fmt.Errorf("status line %.40q", line)
	}
	for _, c := range []byte(rest[:3]) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("status line %.40q", line)
		}
		h.status = 10*h.status + int(c-'0')
	}
	if h.status < 100 {
		return 0, fmt.Errorf("status line %.40q", line)
	}
	return minor, nil
}

// remove takes a field named in Connection out of what is relayed.
func (h *head) remove(name string) {
	kept := h.fields[:0]
	for _, f := range h.fields {
		if !sameField(f.Name, name) {
			kept = append(kept, f)
		}
	}
	h.fields = kept
}

// bodyless reports whether an answer with this head to that method has no body,
// whatever its fields say (RFC 9112 §6.3).
func (h *head) bodyless(method string) bool {
	return method == http.MethodHead || h.status < 200 || h.status == http.StatusNoContent || h.status == http.StatusNotModified
}

// addTo adds the fields to a header.
func (h *head) addTo(dst http.Header) {
	memory := make([]string, len(h.fields))
	for i, f := range h.fields {
		if have, ok := dst[f.Name]; ok {
			dst[f.Name] = append(have, f.Value)
			continue
		}
		memory[i] = f.Value
		dst[f.Name] = memory[i : i+1 : i+1]
	}
}

// cutLine cuts the first line off s, without its line ending.
func cutLine(s string) (line, rest string) {
	i := strings.IndexByte(s, '\n')
	if i < 0 {
		return s, ""
	}
	line, rest = s[:i], s[i+1:]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, rest
}

// eachField calls f with the fields of a header or trailer section, which an
// empty line ends. Names are canonical, values trimmed and free of control
// characters; a folded line (RFC 9112 §5.2) is unfolded. A name with a space
// within is left out: no client could be sent it.
func eachField(s string, f func(name, value string) error) error {
	for n := 0; ; n++ {
		var line string
		if line, s = cutLine(s); line == "" {
			return nil
		}
		if n == maxFields {
			return errTooLarge
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("header line %.40q has no colon", line)
		}
		for s != "" && (s[0] == ' ' || s[0] == '\t') {
			var more string
			more, s = cutLine(s)
			value = strings.TrimRight(value, " \t") + " " + trimOWS(more)
		}
		name = strings.TrimRight(name, " \t")
		value = trimOWS(value)
		if !allOf(value, valueByte) {
			return fmt.Errorf("control character in field %.40q", name)
		}
		canonical, class := fieldName(name)
		switch class {
		case nameBad:
			return fmt.Errorf("field name %.40q", name)
		case nameSpaced:
			continue
		}
		if err := f(canonical, value); err != nil {
			return err
		}
	}
}

type nameClass uint8

const (
	nameGood nameClass = iota
	nameSpaced
	nameBad
)

// fieldName returns a field's name in canonical form, without allocating if it
// is in that form already.
func fieldName(s string) (string, nameClass) {
	if s == "" || s[0] == ' ' || s[0] == '\t' {
		return s, nameBad
	}
	upper, canonical, spaced := true, true, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		if byteClass[c]&tokenByte == 0 {
			if c != ' ' {
				return s, nameBad
			}
			spaced = true
		}
		if upper && 'a' <= c && c <= 'z' || !upper && 'A' <= c && c <= 'Z' {
			canonical = false
		}
		upper = c == '-'
	}
	switch {
	case spaced:
		return s, nameSpaced
	case canonical:
		return s, nameGood
	}
	return textproto.CanonicalMIMEHeaderKey(s), nameGood
}

// parseLength parses a Content-Length: digits only.
func parseLength(s string) (int64, error) {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, fmt.Errorf("Content-Length %.40q", s)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("Content-Length %.40q", s)
	}
	return n, nil
}

// parseKeepAlive returns the time of "timeout=5, max=100", 0 if there is none.
func parseKeepAlive(s string) time.Duration {
	for s != "" {
		var t string
		t, s = nextToken(s)
		if v, ok := strings.CutPrefix(strings.ToLower(t), "timeout="); ok {
			if n, err := strconv.Atoi(v); err == nil && n >= 0 && n < 1<<20 {
				return time.Duration(n) * time.Second
			}
		}
	}
	return 0
}

// parseChunkSize parses the line before a chunk, without its CR LF. Extensions
// are ignored.
func parseChunkSize(line []byte) (int64, error) {
	var n int64
	i := 0
	for ; i < len(line); i++ {
		c := line[i]
		var d byte
		switch {
		case '0' <= c && c <= '9':
			d = c - '0'
		case 'a' <= c && c <= 'f':
			d = c - 'a' + 10
		case 'A' <= c && c <= 'F':
			d = c - 'A' + 10
		default:
			d = 0xff
		}
		if d == 0xff {
			break
		}
		if i == 15 { // 60 bits: a length no disk has, and no overflow
			return 0, fmt.Errorf("chunk size %.40q", line)
		}
		n = n<<4 | int64(d)
	}
	for j := i; j < len(line); j++ {
		if c := line[j]; c == ';' {
			break
		} else if c != ' ' && c != '\t' {
			return 0, fmt.Errorf("chunk size %.40q", line)
		}
	}
	if i == 0 {
		return 0, fmt.Errorf("chunk size %.40q", line)
	}
	return n, nil
}
