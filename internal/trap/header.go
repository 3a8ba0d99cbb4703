package trap

import (
	"net/http"
	"strconv"
	"strings"
)

// What is read of header fields. None of it allocates: it runs for every page.

// eachElement calls f with the elements of a comma-separated list, without space around, until it returns false.
func eachElement(lines []string, f func(string) bool) {
	for _, line := range lines {
		for e := range strings.SplitSeq(line, ",") {
			if e = strings.Trim(e, " \t"); e != "" && !f(e) {
				return
			}
		}
	}
}

// acceptable is what to ask an upstream for, so that a page can be read: the part of what the client accepts that is gzip or no coding. ok is
// false if that is nothing.
func acceptable(lines []string) (encoding string, ok bool) {
	const unsaid = -1
	gzip, identity, other := float64(unsaid), float64(unsaid), float64(unsaid)
	eachElement(lines, func(e string) bool {
		coding, q := quality(e)
		switch {
		case strings.EqualFold(coding, "gzip") || strings.EqualFold(coding, "x-gzip"):
			gzip = q
		case strings.EqualFold(coding, "identity"):
			identity = q
		case coding == "*":
			other = q
		}
		return true
	})
	if gzip == unsaid {
		gzip = max(other, 0)
	}
	if identity == unsaid && other != 0 {
		identity = 1
	}
	switch {
	case gzip > 0 && identity > 0:
		return "gzip", true
	case gzip > 0:
		return "gzip, identity;q=0", true
	case identity > 0:
		return "identity", true
	}
	return "", false
}

// quality splits "gzip;q=0.5". A quality that is malformed counts as 0: to send what a client may have refused is the worse mistake.
func quality(e string) (coding string, q float64) {
	coding, params, has := strings.Cut(e, ";")
	coding = strings.TrimRight(coding, " \t")
	if !has {
		return coding, 1
	}
	name, value, _ := strings.Cut(strings.Trim(params, " \t"), "=")
	if !strings.EqualFold(strings.TrimRight(name, " \t"), "q") {
		return coding, 1
	}
	q, err := strconv.ParseFloat(strings.TrimLeft(value, " \t"), 64)
	if err != nil || !(q > 0 && q <= 1) {
		return coding, 0
	}
	return coding, q
}

// coding is how a page's bytes are encoded.
type coding uint8

const (
	identity coding = iota
	gzipped
	unreadable
)

// contentCoding returns the coding of an answer.
func contentCoding(h http.Header) coding {
	c := identity
	eachElement(h["Content-Encoding"], func(e string) bool {
		switch {
		case strings.EqualFold(e, "identity"):
		case c == identity && (strings.EqualFold(e, "gzip") || strings.EqualFold(e, "x-gzip")):
			c = gzipped
		default:
			c = unreadable
		}
		return true
	})
	return c
}

// Fields over the bytes of an answer or its trailer, which a change would make wrong.
var signatures = [...]string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest", "Signature", "Signature-Input"}

// changeable reports whether an answer with that header is HTML that may be changed.
func changeable(h http.Header) bool {
	types := h["Content-Type"]
	if len(types) != 1 || !isHTML(types[0]) || h["Content-Range"] != nil {
		return false
	}
	for _, name := range signatures {
		if h[name] != nil {
			return false
		}
	}
	ok := true
	eachElement(h["Cache-Control"], func(e string) bool {
		ok = !strings.EqualFold(e, "no-transform")
		return ok
	})
	eachElement(h["Trailer"], func(e string) bool {
		for _, name := range signatures {
			ok = ok && !strings.EqualFold(e, name)
		}
		return ok
	})
	for _, d := range h["Content-Disposition"] {
		kind, _, _ := strings.Cut(d, ";")
		if !strings.EqualFold(strings.Trim(kind, " \t"), "inline") {
			return false // a file that somebody keeps, not a page
		}
	}
	return ok
}

// isHTML reports whether a media type is text/html in a charset of which ASCII is a part: in which a "<" is one byte that is a part of nothing else.
func isHTML(mediaType string) bool {
	kind, params, _ := strings.Cut(mediaType, ";")
	if !strings.EqualFold(strings.Trim(kind, " \t"), "text/html") {
		return false
	}
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		name, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.Trim(name, " \t"), "charset") && !extendsASCII(strings.Trim(value, " \t\"'")) {
			return false
		}
	}
	return true
}

func extendsASCII(charset string) bool {
	for _, known := range [...]string{
		"", "utf-8", "utf8", "us-ascii", "ascii", "latin1",
		"koi8-r", "koi8-u", "euc-jp", "euc-kr", "gb2312", "gbk", "gb18030", "big5", "shift_jis",
	} {
		if strings.EqualFold(charset, known) {
			return true
		}
	}
	for _, family := range [...]string{"iso-8859-", "iso8859-", "windows-125", "cp125"} {
		if len(charset) > len(family) && strings.EqualFold(charset[:len(family)], family) {
			return true
		}
	}
	return false
}
