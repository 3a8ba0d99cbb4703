package relay

import (
	"bytes"
	"strings"
)

// minSecret is the length from which on a key is searched for, in bytes.
const minSecret = 16

// maxCause bounds what an error repeats of the other side, in bytes.
const maxCause = 300

// secret is a key that must not come back; "" is none.
type secret string

// in reports whether a text holds the key.
func (s secret) in(text string) bool { return s != "" && strings.Contains(text, string(s)) }

// short returns the beginning of a text without the key.
func (s secret) short(text string) string {
	if s != "" {
		text = strings.ReplaceAll(text, string(s), "***")
	}
	if len(text) > maxCause {
		text = strings.ToValidUTF8(text[:maxCause], "") + "…"
	}
	return text
}

// masker replaces the key in a stream by as many asterisks, so that lengths stay right.
type masker struct {
	secret secret
	held   []byte // the end of what came, which may be the beginning of a key
}

// next takes a piece and returns what can go on. A piece that ends as the key begins is held back in that part until more is known; an event ends
// in a line break, which is in no key, so a whole one never waits.
func (m *masker) next(piece []byte) []byte {
	if m.secret == "" {
		return piece
	}
	key := []byte(m.secret)
	text := bytes.ReplaceAll(append(m.held, piece...), key, bytes.Repeat([]byte{'*'}, len(key)))
	n := min(len(key)-1, len(text))
	for n > 0 && !bytes.HasSuffix(text, key[:n]) {
		n--
	}
	m.held = bytes.Clone(text[len(text)-n:])
	return text[:len(text)-n]
}

// rest returns what was held back, at the end.
func (m *masker) rest() []byte {
	held := m.held
	m.held = nil
	return held
}
