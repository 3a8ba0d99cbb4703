package maze

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
)

// writer makes one page after the other. Between pages it keeps memory only.
type writer struct {
	m *Maze
	q *Request
	b []byte // the page

	digest  [sha256.Size]byte // of site, host, path and query
	siteKey uint64            // of site and host
	host    string            // as it may be shown
	brand   string            // a name for the site
	scheme  string
	wayOut  string

	self    ref    // the page that is asked for
	tokened bool   // whether its address has a token
	given   string // the slug in the address, which the title of some pages comes from
	number  int    // of a page of a list, from 1
	r       rand.PCG
	t       rand.PCG // for titles, which have seeds of their own

	budget  int // links that are still to be made in the text
	heads   int // headings of sections so far
	title   []byte
	name    []byte // title of a link
	scratch []byte
}

// begin reads the request.
func (w *writer) begin(m *Maze, dst []byte, q *Request) {
	w.m, w.q, w.b = m, q, dst
	w.identify()
	w.readHost()
	w.wayOut = m.o.WayOut
	if q.WayOut != "" && validWayOut(q.WayOut) {
		w.wayOut = q.WayOut
	}
	w.number = pageNumber(q.Query)
	w.readPath()
	reseed(&w.r, binary.LittleEndian.Uint64(w.digest[:]), binary.LittleEndian.Uint64(w.digest[8:]))
	w.title = w.appendTitle(w.title[:0], w.self)
	w.budget = int(m.links.At(w.r.Uint64()))
	w.heads = 0
}

// end forgets the request.
func (w *writer) end() { *w = writer{title: w.title, name: w.name, scratch: w.scratch} }

// readPath finds out what is asked for.
func (w *writer) readPath() {
	path := w.q.Path
	if w.self, w.tokened = w.m.find(path); w.tokened {
		if w.self.named() {
			w.given = slugIn(path)
		}
		return
	}
	h := w.draw(aspectSelf)
	w.self = ref{role: rolePage, depth: uint16(w.m.Depth(path)), day: uint16(h & (days - 1)), nonce: uint16(h >> 16)}
	name := lastSegment(strings.TrimSuffix(path, "/"))
	switch {
	case path == "" || path == "/" || path == w.m.o.Prefix:
		w.self.role, w.given = roleList, w.brand
		return
	case foldIn(name, "search", "archive", "archives", "category", "tag", "tags", "blog", "news", "posts", "all"):
		w.self.role = roleList
	}
	w.given = slugIn(path)
}

// slugIn returns the words in the last segment of a path: nothing if there are others than plain letters, or none at all.
func slugIn(path string) string {
	name := lastSegment(strings.TrimSuffix(path, "/"))
	name = name[strings.LastIndexByte(name, ':')+1:] // a namespace of a wiki
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		name = name[:i]
	}
	if i := strings.LastIndexAny(name, "-_"); i >= 0 && len(name)-i-1 == tokenLen {
		name = name[:i]
	}
	letters := 0
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			letters++
		case '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return ""
		}
	}
	if len(name) > maxSlug || letters*2 < len(name) || letters < 3 {
		return ""
	}
	return name
}

// pageNumber returns the number in the query, or 1.
func pageNumber(query string) int {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if value, ok := strings.CutPrefix(pair, "page="); ok && len(value) <= 15 {
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				return n
			}
		}
	}
	return 1
}

// s writes markup.
func (w *writer) s(parts ...string) {
	for _, p := range parts {
		w.b = append(w.b, p...)
	}
}

// n writes a number.
func (w *writer) n(i int) { w.b = strconv.AppendInt(w.b, int64(i), 10) }

// grouped writes a number with commas between thousands.
func (w *writer) grouped(i int) {
	start := len(w.b)
	w.n(i)
	for at := len(w.b) - 3; at > start; at -= 3 {
		w.b = append(w.b, 0)
		copy(w.b[at+1:], w.b[at:])
		w.b[at] = ','
	}
}

// text writes a text, escaped.
func (w *writer) text(s []byte) { w.b = appendEscaped(w.b, s) }

// escapeFrom escapes what was written since start.
func (w *writer) escapeFrom(start int) {
	if n := plainTo(w.b[start:]); start+n < len(w.b) {
		w.scratch = append(w.scratch[:0], w.b[start+n:]...)
		w.b = appendEscaped(w.b[:start+n], w.scratch)
	}
}

// sentence writes a sentence of about so many words.
func (w *writer) sentence(words int) {
	start := len(w.b)
	w.b = w.m.o.Text.AppendSentence(w.b, &w.r, words)
	w.escapeFrom(start)
}

// sentences writes as many sentences as it takes for so many words; no fewer than one.
func (w *writer) sentences(words int) {
	for first := true; first || words > 0; first = false {
		n := between(&w.r, 6, 26)
		if !first {
			w.s(" ")
		}
		w.sentence(n)
		words -= n
	}
}

// phrase writes a heading of low to high words.
func (w *writer) phrase(low, high int) {
	start := len(w.b)
	w.b = w.m.o.Text.AppendTitle(w.b, &w.r, between(&w.r, low, high))
	w.b = cutTitle(w.b, start)
	w.escapeFrom(start)
}

// appendTitle appends the title of a place as it is, not escaped. It is the same wherever the place is named.
func (w *writer) appendTitle(dst []byte, f ref) []byte {
	start := len(dst)
	low, high := 3, 8
	switch f.role {
	case rolePerson:
		return w.appendName(dst, f)
	case roleList, roleTag:
		low, high = 1, 2
	}
	if f == w.self && w.given != "" {
		return appendWords(dst, w.given)
	}
	reseed(&w.t, f.pack(), w.siteKey)
	dst = w.m.o.Text.AppendTitle(dst, &w.t, between(&w.t, low, high))
	dst = cutTitle(dst, start)
	if len(bytes.TrimSpace(dst[start:])) == 0 {
		dst = append(dst[:start], "No. "...)
		dst = strconv.AppendUint(dst, uint64(f.nonce), 10)
	}
	return dst
}

// appendWords appends a slug as a title: "the-old-mill" is "The old mill".
func appendWords(dst []byte, slug string) []byte {
	start := len(dst)
	for i := range len(slug) {
		c := slug[i]
		if c == '-' || c == '_' {
			if len(dst) == start || dst[len(dst)-1] == ' ' {
				continue
			}
			c = ' '
		}
		if len(dst) == start && 'a' <= c && c <= 'z' {
			c -= 0x20
		}
		dst = append(dst, c)
	}
	return bytes.TrimRight(dst, " ")
}
