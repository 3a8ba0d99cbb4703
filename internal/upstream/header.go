package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Field is one header field. Name is in canonical form
// ([http.CanonicalHeaderKey]).
type Field struct {
	Name, Value string
}

// Byte classes of RFC 9110 and RFC 3986.
const (
	tokenByte = 1 << iota // may stand in a field name or method
	valueByte             // may stand in a field value
	hostByte              // may stand in a Host field
)

var byteClass = func() (t [256]uint8) {
	for c := range t {
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if alnum || c != 0 && c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0 {
			t[c] |= tokenByte
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= valueByte
		}
		if alnum || c != 0 && c < 0x80 && strings.IndexByte("-._~%!$&'()*+,;=:[]", byte(c)) >= 0 {
			t[c] |= hostByte
		}
	}
	return t
}()

// allOf reports whether every byte of s is of the class.
func allOf(s string, class uint8) bool {
	for i := 0; i < len(s); i++ {
		if byteClass[s[i]]&class == 0 {
			return false
		}
	}
	return true
}

// sameField compares field names as the most careless upstream does: without
// case, and with "_" for "-", because CGI, WSGI and their kind make
// HTTP_X_FORWARDED_FOR of both X-Forwarded-For and X_Forwarded_For.
func sameField(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if foldByte(a[i]) != foldByte(b[i]) {
			return false
		}
	}
	return true
}

func foldByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	if c == '_' {
		return '-'
	}
	return c
}

// isHop reports whether a field belongs to one hop only (RFC 9110 §7.6.1) or is
// written by this package itself, because it frames or routes the message.
func isHop(name string) bool {
	switch len(name) {
	case 2:
		return sameField(name, "Te")
	case 4:
		return sameField(name, "Host")
	case 6:
		return sameField(name, "Expect")
	case 7:
		return sameField(name, "Upgrade") || sameField(name, "Trailer")
	case 10:
		return sameField(name, "Connection") || sameField(name, "Keep-Alive")
	case 14:
		return sameField(name, "Content-Length") || sameField(name, "Http2-Settings")
	case 16:
		return sameField(name, "Proxy-Connection")
	case 17:
		return sameField(name, "Transfer-Encoding")
	case 18:
		return sameField(name, "Proxy-Authenticate")
	case 19:
		return sameField(name, "Proxy-Authorization")
	}
	return false
}

// trailerAllowed reports whether a field may be relayed in a trailer section
// (RFC 9110 §6.5.1): nothing that frames, routes, authenticates or describes
// the content, whatever the sender says.
func trailerAllowed(name string) bool {
	if name == "" || !allOf(name, tokenByte) || isHop(name) {
		return false
	}
	for _, prefix := range [...]string{"Content-", "X-Forwarded-", "If-"} {
		if len(name) >= len(prefix) && sameField(name[:len(prefix)], prefix) {
			return false
		}
	}
	for _, f := range [...]string{
		"Authorization", "Cookie", "Set-Cookie", "Forwarded", "Via", "Range", "Cache-Control", "Max-Forwards",
		"Age", "Date", "Expires", "Location", "Retry-After", "Vary", "Warning", "Www-Authenticate", "X-Real-Ip",
	} {
		if sameField(name, f) {
			return false
		}
	}
	return true
}

// trimOWS takes optional white space (RFC 9110 §5.6.3) off both ends, and, unlike
// textproto.TrimString, leaves a stray CR where it is seen.
func trimOWS(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// nextToken cuts the first element off a comma-separated list.
func nextToken(list string) (token, rest string) {
	token, rest, _ = strings.Cut(list, ",")
	return trimOWS(token), rest
}

// hasToken reports whether a comma-separated list in any of the values has the
// token, compared without case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for v != "" {
			var t string
			if t, v = nextToken(v); len(t) == len(token) && strings.EqualFold(t, token) {
				return true
			}
		}
	}
	return false
}

// bodyKind is how a request's body is sent.
type bodyKind uint8

const (
	bodyNone    bodyKind = iota
	bodyShort            // read in full before a connection is taken
	bodySized            // streamed, with the client's Content-Length
	bodyChunked          // streamed, length unknown
)

// outgoing is the request as it will be sent.
type outgoing struct {
	r       *http.Request
	o       *Options
	target  string
	host    string
	via     string // the Via element's value, "" for none
	upgrade string // the protocol asked for, "" for none
	body    bodyKind
	short   []byte   // the body of bodyShort
	expect  bool     // the client waits for 100 (Continue)
	te      bool     // the client accepts trailers
	drop    []string // further names listed in Connection
	trailer []string // names of the trailer fields announced
}

// prepare checks the request line and reads the connection's options off the header.
func (q *outgoing) prepare(r *http.Request, o *Options, defaultHost string) error {
	q.r, q.o = r, o
	if r.Method == http.MethodConnect {
		return errors.New("CONNECT is not for an origin")
	}
	if r.Method == "" || !allOf(r.Method, tokenByte) {
		return fmt.Errorf("method %.20q is not a token", r.Method)
	}
	var err error
	if q.target, err = requestTarget(r, o.Target); err != nil {
		return err
	}
	q.host = o.Host
	if q.host == "" {
		q.host = r.Host
	}
	if q.host == "" { // HTTP/1.0 without Host
		q.host = defaultHost
	}
	if !allOf(q.host, hostByte) {
		return fmt.Errorf("host %.60q has bytes that no host has", q.host)
	}

	h := r.Header
	upgrade := false
	for _, v := range h["Connection"] {
		for v != "" {
			var t string
			t, v = nextToken(v)
			switch {
			case t == "" || isHop(t) && !strings.EqualFold(t, "upgrade"):
			case strings.EqualFold(t, "close") || strings.EqualFold(t, "keep-alive"):
			case strings.EqualFold(t, "upgrade"):
				upgrade = true
			default:
				q.drop = append(q.drop, t)
			}
		}
	}
	if te := h["Te"]; te != nil {
		q.te = hasToken(te, "trailers")
	}

	switch {
	case r.ContentLength > 0:
		q.body = bodySized
	case r.ContentLength < 0:
		q.body = bodyChunked
		for name := range r.Trailer {
			if q.trailerField(name) {
				q.trailer = append(q.trailer, name)
			}
		}
	}
	if q.body != bodyNone {
		q.expect = h["Expect"] != nil && strings.EqualFold(h.Get("Expect"), "100-continue") && r.ProtoAtLeast(1, 1)
	} else if upgrade && r.ProtoMajor == 1 && r.ProtoMinor == 1 {
		q.upgrade = upgradeProtocol(h)
	}
	return nil
}

// upgradeProtocol returns the protocols that the client offers to switch to,
// or "" if any is one that must not pass an intermediary: a connection switched
// to HTTP/2 would carry further requests past every rule.
func upgradeProtocol(h http.Header) string {
	v := strings.Join(h["Upgrade"], ", ")
	if !allOf(v, valueByte) {
		return ""
	}
	for rest := v; rest != ""; {
		var t string
		t, rest = nextToken(rest)
		name, _, _ := strings.Cut(strings.ToLower(t), "/")
		if name == "h2c" || name == "h2" || name == "http" || name == "tls" {
			return ""
		}
	}
	return v
}

// keeps reports whether a field of the client's header goes on to the upstream.
func (q *outgoing) keeps(name string) bool {
	if isHop(name) {
		return false
	}
	for i := range q.o.Set {
		if len(name) == len(q.o.Set[i].Name) && (name == q.o.Set[i].Name || sameField(name, q.o.Set[i].Name)) {
			return false
		}
	}
	for _, d := range q.drop {
		if sameField(name, d) {
			return false
		}
	}
	if q.o.Drop == nil {
		return true
	}
	if strings.IndexByte(name, '_') >= 0 && q.o.Drop(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))) {
		return false
	}
	return !q.o.Drop(name)
}

// trailerField reports whether a trailer field goes on to the upstream.
func (q *outgoing) trailerField(name string) bool { return trailerAllowed(name) && q.keeps(name) }

// appendHead appends the request line and header section in HTTP/1.1's format.
// It fails rather than write a byte that could be read as the end of a line
// where none is meant.
func (q *outgoing) appendHead(b []byte) ([]byte, error) {
	start, lines := len(b), 0
	line := func() { b = append(b, "\r\n"...); lines++ }

	b = append(b, q.r.Method...)
	b = append(b, ' ')
	b = append(b, q.target...)
	b = append(b, " HTTP/1.1"...)
	line()
	b = append(b, "Host: "...)
	b = append(b, q.host...)
	line()
	field := func(name, value string) {
		b = append(b, name...)
		b = append(b, ": "...)
		b = append(b, value...)
		line()
	}
	for name, values := range q.r.Header {
		if !q.keeps(name) {
			continue
		}
		if name == "" || !allOf(name, tokenByte) {
			return b, fmt.Errorf("field name %.60q is not a token", name)
		}
		for _, v := range values {
			field(name, v)
		}
	}
	for _, f := range q.o.Set {
		if f.Value == "" {
			continue
		}
		if f.Name == "" || !allOf(f.Name, tokenByte) || isHop(f.Name) {
			return b, fmt.Errorf("field %.60q cannot be set", f.Name)
		}
		field(f.Name, f.Value)
	}
	if q.via != "" {
		field("Via", q.via)
	}
	switch {
	case q.upgrade != "":
		field("Connection", "Upgrade")
		field("Upgrade", q.upgrade)
	case q.te:
		field("Connection", "TE")
		field("TE", "trailers")
	}
	switch q.body {
	case bodyNone:
		if m := q.r.Method; m == "POST" || m == "PUT" || m == "PATCH" || q.r.Header["Content-Length"] != nil {
			field("Content-Length", "0")
		}
	case bodyShort, bodySized:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, q.r.ContentLength, 10)
		line()
	case bodyChunked:
		if len(q.trailer) > 0 {
			field("Trailer", strings.Join(q.trailer, ", "))
		}
		field("Transfer-Encoding", "chunked")
	}
	if q.expect {
		field("Expect", "100-continue")
	}
	line()
	if !hasLines(b[start:], lines) {
		return b, errors.New("a line break or NUL stands in a header field")
	}
	return b, nil
}

// hasLines reports whether b consists of n lines ending in CR LF, without
// another CR, LF or NUL. Where every line was written by appendHead, a
// surplus one was smuggled in by a value.
func hasLines(b []byte, n int) bool {
	return bytes.Count(b, []byte{'\n'}) == n && bytes.Count(b, []byte{'\r'}) == n && bytes.IndexByte(b, 0) < 0
}
