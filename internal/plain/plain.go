// Package plain says what may be shown on a terminal or in a report of texts that strangers wrote.
package plain

import "strings"

// Clip returns a text of at most that many bytes as it is, and of a longer one so much of its beginning as is text, with "…" after it.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// Unsafe reports whether a character of a text may act on whatever shows it instead of
// being shown: control characters (C0, DEL, C1), those that reverse the direction of
// writing (U+202A–202E, U+2066–2069), and U+FFFD, which stands for bytes that are no text.
func Unsafe(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffd || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}
