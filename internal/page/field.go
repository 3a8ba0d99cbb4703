package page

import (
	"html/template"
	"strconv"
	"strings"
)

// field is one value that differs from request to request.
type field uint8

const (
	fieldReason field = iota
	fieldRequestID
	fieldLink
	fieldRefresh
	fieldDelay
	fieldTicket
	fieldPass
	fieldReturn
	fieldFallback
	fieldAlgorithm
	fieldPuzzles
	fieldBits
	fieldLeast
	fieldLimit
	fieldWorker
	fieldScript
	fieldSeen
	fieldWord
	fieldDecoy
	fieldAction
	fieldToken
	fieldWords // and the words after it
	fields     = fieldWords + maxWords
)

// isAddress tells the fields that lead somewhere.
func (f field) isAddress() bool {
	switch f {
	case fieldLink, fieldRefresh, fieldPass, fieldReturn, fieldFallback, fieldWorker, fieldScript, fieldSeen, fieldAction:
		return true
	}
	return false
}

// The mark of a field begins and ends with what no text contains, has two letters for
// the field, and between them characters that html/template writes differently in each context. How they come out
// tells where the mark is.
const (
	markBegin = "qtmark"
	markEnd   = "krammq"
	probe     = "'\"<> &"
)

var (
	probeHTML = template.HTMLEscapeString(probe) // text and quoted attributes
	probeURL  = "%27%22%3c%3e%20&amp;"           // attributes that hold an address
)

func (f field) mark() string {
	return markBegin + string([]byte{'a' + byte(f)/26, 'a' + byte(f)%26}) + probe + markEnd
}

// place is how a value is written where it stands.
type place uint8

const (
	inText place = iota
	inURL
)

// segment is a piece of a page: text as it is, then a value, unless it is the last.
type segment struct {
	text  string
	field field
	place place
	last  bool
}

// cutMarks cuts a rendered page at its marks. The second value names the field that
// stands where its value could not be escaped, -1 if there is none.
func cutMarks(s string) (segments []segment, wrong int) {
	for {
		text, rest, found := strings.Cut(s, markBegin)
		if !found {
			return append(segments, segment{text: s, last: true}), -1
		}
		if len(rest) < 2 {
			return nil, 0
		}
		f := field((rest[0]-'a')*26 + rest[1] - 'a')
		between, after, found := strings.Cut(rest[2:], markEnd)
		g := segment{text: text, field: f}
		switch {
		case !found || f >= fields:
			return nil, int(f)
		case between == probeHTML:
		case strings.EqualFold(between, probeURL) && f.isAddress(): // any other value could be "javascript:"
			g.place = inURL
		default:
			return nil, int(f)
		}
		segments, s = append(segments, g), after
	}
}

// appendField appends the value of a field, escaped for its context.
func appendField(b []byte, v *View, g *segment) []byte {
	t, h := v.Challenge, v.Hold
	var s string
	switch f := g.field; f {
	case fieldReason:
		s = strings.TrimSuffix(v.Reason, ".")
	case fieldRequestID:
		s = v.RequestID
	case fieldLink:
		s = v.Link
	case fieldRefresh:
		s = v.Refresh
	case fieldDelay:
		return strconv.AppendInt(b, int64(min(max(v.Delay, 0), 3600)), 10)
	case fieldTicket:
		s = t.Ticket
	case fieldPass:
		s = t.Pass
	case fieldReturn:
		s = t.Return
	case fieldFallback:
		s = t.Fallback
	case fieldAlgorithm:
		s = t.Algorithm
	case fieldPuzzles:
		return strconv.AppendInt(b, int64(t.Puzzles), 10)
	case fieldBits:
		return strconv.AppendInt(b, int64(t.Bits), 10)
	case fieldLeast:
		return strconv.AppendInt(b, int64(t.Least), 10)
	case fieldLimit:
		return strconv.AppendInt(b, int64(t.Limit), 10)
	case fieldWorker:
		s = t.Worker
	case fieldScript:
		s = t.Script
	case fieldSeen:
		s = t.Seen
	case fieldWord:
		s = t.Word
	case fieldDecoy:
		s = t.Decoy
	case fieldAction:
		s = h.Action
	case fieldToken:
		s = h.Token
	default:
		s = t.Words[f-fieldWords]
	}
	if g.field.isAddress() && !(g.field == fieldScript && strings.HasPrefix(s, "https://")) {
		s = sameSite(s)
	}
	if g.place == inURL {
		return appendURL(b, s)
	}
	return appendText(b, s)
}

// sameSite returns an address of this site as it is, and "/" for any other: "//x" and
// "/\x" would lead to another host, and browsers take tabs and line ends out before they look.
func sameSite(s string) string {
	if s == "" {
		return s
	}
	if s[0] != '/' || len(s) > 1 && (s[1] == '/' || s[1] == '\\') {
		return "/"
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 {
			return "/"
		}
	}
	return s
}

// appendText escapes for text and quoted attributes. A NUL, which HTML has no way to
// write, becomes U+FFFD.
func appendText(b []byte, s string) []byte {
	from := 0
	for i := 0; i < len(s); i++ {
		var e string
		switch s[i] {
		case '<':
			e = "&lt;"
		case '>':
			e = "&gt;"
		case '&':
			e = "&amp;"
		case '"':
			e = "&#34;"
		case '\'':
			e = "&#39;"
		case 0:
			e = "\uFFFD"
		default:
			continue
		}
		b = append(append(b, s[from:i]...), e...)
		from = i + 1
	}
	return append(b, s[from:]...)
}

// appendURL escapes an address for a quoted attribute, so that it arrives byte for
// byte where it can: only what may not stand in an attribute or a URL is percent-encoded.
func appendURL(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '&':
			b = append(b, "&amp;"...)
		case c <= ' ', c >= 0x7f, strings.IndexByte("\"'<>`()\\^{|}", c) >= 0:
			b = append(b, '%', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}
