package backend

import (
	"bytes"
	"io"
)

// minSecret is the length from which on a key is searched for, in bytes; a shorter one could be any word.
const minSecret = 16

// maxCause bounds what an error repeats of the other side, in bytes.
const maxCause = 300

// secretOf is a key that must not come back; nil is none.
func secretOf(key string) []byte {
	if len(key) < minSecret {
		return nil
	}
	return []byte(key)
}

// masker replaces the key in a stream by as many asterisks, so that lengths stay right.
type masker struct {
	secret []byte
	held   []byte // the end of what came, which may be the beginning of a key
}

// next takes a piece and returns what can go on. A piece that ends as the key begins is held back in that part until more is known; an event ends
// in a line break, which is in no key, so a whole one never waits.
func (m *masker) next(piece []byte) []byte {
	if len(m.secret) == 0 {
		return piece
	}
	text := piece
	if len(m.held) > 0 {
		text = append(m.held, piece...)
	}
	if i := bytes.Index(text, m.secret); i >= 0 {
		text = bytes.ReplaceAll(text, m.secret, bytes.Repeat([]byte{'*'}, len(m.secret)))
	}
	n := min(len(m.secret)-1, len(text))
	for n > 0 && !bytes.HasSuffix(text, m.secret[:n]) {
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

// masked is a stream without the key.
type masked struct {
	from  io.Reader
	m     masker
	ready []byte // what can go on
	err   error
}

// Read reads what there is.
func (r *masked) Read(buf []byte) (int, error) {
	if len(r.m.secret) == 0 {
		return r.from.Read(buf)
	}
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		n, err := r.from.Read(buf)
		r.ready = r.m.next(buf[:n])
		if err != nil {
			r.ready, r.err = append(r.ready, r.m.rest()...), err
		}
		// The usual case: nothing was held back, and the piece is where it is to be.
		if len(r.ready) > 0 && n > 0 && &r.ready[0] == &buf[0] {
			n, r.ready = len(r.ready), nil
			return n, nil
		}
	}
	n := copy(buf, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}
