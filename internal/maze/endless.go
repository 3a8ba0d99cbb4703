package maze

import (
	"encoding/binary"
	"math/rand/v2"
)

// Endless is the text of a page that has no end, for [KindStream]. It keeps where it was, in about a hundred bytes. It is for one goroutine
// at a time.
type Endless struct {
	m   *Maze
	rng rand.PCG // from which the sentence at hand comes
	out int      // how much of that is out
}

// Endless appends the beginning of an endless page for the request to dst, with its title and the way out, and returns what continues it.
func (m *Maze) Endless(dst []byte, q *Request) (*Endless, []byte) {
	w := m.writers.Get().(*writer)
	w.begin(m, dst, q)
	e := &Endless{m: m}
	e.rng.Seed(binary.LittleEndian.Uint64(w.digest[16:]), binary.LittleEndian.Uint64(w.digest[24:]))
	w.s("<!DOCTYPE html>", m.root, `<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex, nofollow"><title>`)
	w.text(w.title)
	w.s("</title></head><body><p>")
	w.wayOutNote("<a")
	w.s("</p><h1>")
	w.text(w.title)
	w.s("</h1><p>\n")
	dst = w.b
	w.end()
	m.writers.Put(w)
	return e, dst
}

// Seed is a number that depends on the page's address.
func (e *Endless) Seed() uint64 { r := e.rng; return r.Uint64() }

// Next appends n bytes of the text to dst: fewer only if there is no more, because the maze's text has nothing to say.
func (e *Endless) Next(dst []byte, n int) []byte {
	for end := len(dst) + n; len(dst) < end; {
		was, start := e.rng, len(dst)
		dst = e.sentence(dst)
		whole := len(dst) - start
		if whole == 0 {
			break
		}
		dst = append(dst[:start], dst[start+min(e.out, whole):]...)
		if len(dst) > end {
			e.rng, e.out = was, e.out+end-start
			return dst[:end]
		}
		e.out = 0
	}
	return dst
}

// sentence appends one, and now and then the end of a paragraph.
func (e *Endless) sentence(dst []byte) []byte {
	start := len(dst)
	draw := e.rng.Uint64()
	dst = e.m.o.Text.AppendSentence(dst, &e.rng, 8+int(draw%16))
	if n := plainTo(dst[start:]); start+n < len(dst) {
		dst = appendEscaped(dst[:start+n], append([]byte(nil), dst[start+n:]...))
	}
	switch {
	case len(dst) == start:
		return dst
	case draw>>32%6 == 0:
		return append(dst, "</p>\n<p>"...)
	}
	return append(dst, ' ')
}
