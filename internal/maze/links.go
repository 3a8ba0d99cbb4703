package maze

import (
	"strings"
	"unicode/utf8"
)

// maxSlug bounds the words in an address, in bytes.
const maxSlug = 64

// shape is how addresses of a role look: "wiki/{slug}.html". {slug} is the words of the title and the token, {id} the token, {hash} the
// token as a commit's hash; {year}, {month} and {day} are of the date.
type shape string

// next returns a place one step deeper. A page is now and then a slow stream.
func (w *writer) next(r role) ref { return w.place(r, int(w.self.depth)+1) }

// beside returns a place as deep as this one.
func (w *writer) beside(r role) ref { return w.place(r, max(1, int(w.self.depth))) }

func (w *writer) place(r role, depth int) ref {
	if r == rolePage && oneIn(&w.r, w.m.o.Streams) {
		r = roleStream
	}
	h := w.r.Uint64()
	// The product of two: newer pages are more frequent than older ones.
	day := (h & (days - 1)) * (h >> 12 & (days - 1)) / days
	return ref{role: r, depth: uint16(min(depth, 1<<16-1)), day: uint16(day), nonce: uint16(h >> 24)}
}

// any returns what a list of links may lead to: mostly deeper pages, some beside, some people and lists, now and then an archive.
func (w *writer) any() ref {
	if oneIn(&w.r, w.m.o.Archives) {
		return w.next(roleArchive)
	}
	switch n := below(&w.r, 100); {
	case n < 72:
		return w.next(rolePage)
	case n < 86:
		return w.beside(rolePage)
	case n < 92:
		return w.next(roleTag)
	case n < 97:
		return w.pool(roleTag, below(&w.r, topics))
	}
	return w.pool(rolePerson, below(&w.r, people))
}

// link writes a link with the title of its place.
func (w *writer) link(f ref) {
	w.s(w.m.tags.a, ` href="`)
	w.name = w.appendTitle(w.name[:0], f)
	w.address(f, w.name)
	w.s(`">`)
	w.text(w.name)
	if f.role == roleArchive {
		w.s(" (", strings.ToUpper(strings.TrimPrefix(w.archiveExt(f), ".")), ")")
	}
	w.s("</a>")
}

// address writes the address of the place, which is called title.
func (w *writer) address(f ref, title []byte) {
	w.s(w.m.o.Prefix)
	w.fill(w.m.skin.shape(w, f), f, title)
	if f.role == roleArchive {
		w.s(w.archiveExt(f))
	}
}

// addressOf writes the address of the place.
func (w *writer) addressOf(f ref) {
	w.name = w.appendTitle(w.name[:0], f)
	w.address(f, w.name)
}

// base writes the scheme and host of full addresses.
func (w *writer) base() { w.s(w.scheme, "://", w.host) }

func (w *writer) archiveExt(f ref) string {
	return [...]string{".zip", ".tar.gz", ".jsonl", ".csv"}[w.of(f, 6)&3]
}

// fill writes a shape's address. Without a {slug}, {id} is the token; beside one it is only a number.
func (w *writer) fill(sh shape, f ref, title []byte) {
	rest := string(sh)
	token := !strings.Contains(rest, "{slug}")
	for rest != "" {
		before, after, ok := strings.Cut(rest, "{")
		w.s(before)
		if !ok {
			return
		}
		var name string
		name, rest, _ = strings.Cut(after, "}")
		switch name {
		case "slug", "Slug":
			start := len(w.b)
			sep := byte('-')
			if name == "Slug" {
				sep = '_'
			}
			if w.b = appendSlug(w.b, title, sep); len(w.b) > start {
				w.b = append(w.b, sep)
			}
			w.b = w.m.appendToken(w.b, f)
		case "hash":
			w.b = w.m.appendHash(w.b, f)
		case "id":
			if token {
				w.b = w.m.appendToken(w.b, f)
			} else {
				w.n(int(f.nonce)*16 + 1024)
			}
		case "year":
			w.b = w.date(f).AppendFormat(w.b, "2006")
		case "month":
			w.b = w.date(f).AppendFormat(w.b, "01")
		case "day":
			w.b = w.date(f).AppendFormat(w.b, "02")
		}
	}
}

// latin1 holds plain letters for U+00C0 to U+00FF.
const latin1 = "aaaaaaaceeeeiiiidnooooo ouuuuy saaaaaaaceeeeiiiidnooooo ouuuuy y"

// appendSlug appends the words of a title for an address: plain lower-case letters and digits, with sep between words; with '_' letters
// keep their case and the first is a capital. A title in another script has none.
func appendSlug(dst, title []byte, sep byte) []byte {
	start := len(dst)
	gap := false
	for i := 0; i < len(title) && len(dst)-start < maxSlug-tokenLen; {
		c := title[i]
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			r, size = utf8.DecodeRune(title[i:])
			c = ' '
			switch {
			case r >= 0xc0 && r <= 0xff:
				c = latin1[r-0xc0]
			case r == '’':
				c = '\''
			}
		}
		i += size
		switch {
		case isAlnum(c):
			if gap && len(dst) > start {
				dst = append(dst, sep)
			}
			gap = false
			switch {
			case 'A' <= c && c <= 'Z' && sep != '_':
				c |= 0x20
			case 'a' <= c && c <= 'z' && sep == '_' && len(dst) == start:
				c -= 0x20
			}
			dst = append(dst, c)
		case c != '\'':
			gap = true
		}
	}
	if len(dst)-start < 3 {
		return dst[:start]
	}
	return dst
}

// weave turns a phrase within the sentence that was written since start into a link.
func (w *writer) weave(start int) {
	s := w.b[start:]
	// A word not too near to either end, and at most two more.
	begin := len(s)/4 + below(&w.r, len(s)/2+1)
	for begin < len(s) && s[begin] != ' ' {
		begin++
	}
	begin++
	end := begin
	for words := between(&w.r, 1, 3); words > 0 && end < len(s); words-- {
		at := end
		if at > begin {
			at++ // the space
		}
		stop := at
		for stop < len(s) && isAlnum(s[stop]) {
			stop++
		}
		if stop == at || stop < len(s) && s[stop] != ' ' && s[stop] != ',' && s[stop] != '.' {
			break
		}
		end = stop
		if stop == len(s) || s[stop] != ' ' {
			break
		}
	}
	if end-begin < 4 {
		return
	}
	// A phrase is a title only if it can be read out of the address again.
	w.name = append(w.name[:0], s[begin:end]...)
	w.scratch = append(w.scratch[:0], s[end:]...)
	w.b = w.b[:start+begin]
	w.s(w.m.tags.a, ` href="`)
	w.address(w.next(roleTerm), w.name)
	w.s(`">`)
	w.b = append(w.b, w.name...)
	w.s("</a>")
	w.b = append(w.b, w.scratch...)
	w.budget--
}
