package maze

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// plainByte reports whether a byte may stand in HTML, XML and JSON texts as it is.
func plainByte(c byte) bool {
	// A bit for each: all from the space to the tilde but for < > & " ' and \.
	const low = 0xffffffff << ' ' &^ (1<<'<' | 1<<'>' | 1<<'&' | 1<<'"' | 1<<'\'')
	const high = (1<<63 - 1) &^ (1 << ('\\' - 64))
	if c < 64 {
		return uint64(low)>>c&1 == 1
	}
	return c < 128 && uint64(high)>>(c-64)&1 == 1
}

// plainTo returns the length of the beginning of s that needs no look at its runes.
func plainTo(s []byte) int {
	for i := 0; ; {
		switch {
		case i+8 <= len(s) && plainWord(binary.LittleEndian.Uint64(s[i:])):
			i += 8
		case i < len(s) && plainByte(s[i]): // what is plain may look otherwise to plainWord
			i++
		default:
			return i
		}
	}
}

// plainWord reports whether plainByte is surely true for all eight bytes. It takes eight at once, since nearly all of a page is plain.
func plainWord(x uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	// Of bytes below 0x80 each term has its high bit set where the byte is one of those looked for: the difference borrows from it only there.
	return (x| // not ASCII
		(x-' '*ones)| // below the space
		((x&^(0x02*ones)^'<'*ones)-ones)| // < >
		((x&^(0x05*ones)^'"'*ones)-ones)| // " # & '
		((x^'\\'*ones)-ones)|
		((x^0x7f*ones)-ones))&highs == 0
}

// allowed reports whether the rune may stand in HTML and XML: no control characters, no noncharacters.
func allowed(r rune) bool {
	return r >= ' ' && (r < 0x7f || r >= 0xa0) && r&0xfffe != 0xfffe && (r < 0xfdd0 || r > 0xfdef)
}

// appendEscaped appends a text for HTML or XML, also for their attributes in double or single quotes. Line ends become spaces, and what
// may not stand in them is left out.
func appendEscaped(dst, s []byte) []byte {
	n := plainTo(s)
	dst = append(dst, s[:n]...)
	for s = s[n:]; len(s) > 0; {
		r, size := utf8.DecodeRune(s)
		switch r {
		case '<':
			dst = append(dst, "&lt;"...)
		case '>':
			dst = append(dst, "&gt;"...)
		case '&':
			dst = append(dst, "&amp;"...)
		case '"':
			dst = append(dst, "&#34;"...)
		case '\'':
			dst = append(dst, "&#39;"...)
		case '\n', '\r', '\t':
			dst = append(dst, ' ')
		default:
			if allowed(r) {
				dst = utf8.AppendRune(dst, r)
			}
		}
		s = s[size:]
	}
	return dst
}

// appendJSON appends the inside of a JSON string, safe within HTML too.
func appendJSON(dst, s []byte) []byte {
	n := plainTo(s)
	dst = append(dst, s[:n]...)
	for s = s[n:]; len(s) > 0; {
		r, size := utf8.DecodeRune(s)
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '<' || r == '>' || r == '&':
			dst = append(dst, '\\', 'u', '0', '0', "0123456789abcdef"[r>>4], "0123456789abcdef"[r&15])
		case r == '\n' || r == '\r' || r == '\t':
			dst = append(dst, ' ')
		case allowed(r):
			dst = utf8.AppendRune(dst, r)
		}
		s = s[size:]
	}
	return dst
}

// maxTitle bounds titles and phrases, in bytes.
const maxTitle = 120

// cutTitle cuts a text that follows dst[:start] at its last word that has room, in whole runes.
func cutTitle(dst []byte, start int) []byte {
	if len(dst)-start <= maxTitle {
		return dst
	}
	end := start + maxTitle
	for end > start && !utf8.RuneStart(dst[end]) {
		end--
	}
	if i := bytes.LastIndexByte(dst[start:end], ' '); i > maxTitle/2 {
		end = start + i
	}
	return dst[:end]
}
