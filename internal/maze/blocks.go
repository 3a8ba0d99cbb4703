package maze

import (
	"math/rand/v2"
	"strconv"
)

// blend is how often a block of the text is something else than a paragraph, in 256ths, and how often a sentence has a link.
type blend struct {
	list, table, quote, figure, code int
	weave                            int
}

// section numbers begin at 1; the address of a section within its page is "#s1".
const maxSections = 24

// heading is the title of the page's i-th section, the same in a table of contents.
func (w *writer) heading(i int) {
	var r rand.PCG
	w.t, r = r, w.t
	reseed(&w.t, w.draw(aspectLook), uint64(i))
	start := len(w.b)
	w.b = w.m.o.Text.AppendTitle(w.b, &w.t, between(&w.t, 1, 5))
	w.b = cutTitle(w.b, start)
	w.escapeFrom(start)
	w.t = r
}

// openSection writes the heading of the next section.
func (w *writer) openSection() {
	w.heads++
	w.s(w.m.tags.h2, ` id="s`)
	w.n(w.heads)
	w.s(`">`)
	w.heading(w.heads)
	w.s("</h2>\n")
}

// article writes blocks and, when there is room, sections until the page has size bytes.
func (w *writer) article(size int, bl blend) {
	w.stretch(min(size, len(w.b)+between(&w.r, 300, 3000)), bl)
	for len(w.b) < size {
		if w.heads < maxSections {
			w.openSection()
		}
		w.stretch(min(size, len(w.b)+between(&w.r, 800, 4000)), bl)
	}
}

// stretch writes blocks until the page has size bytes, at least one.
func (w *writer) stretch(size int, bl blend) {
	for first := true; first || len(w.b) < size; first = false {
		kind := below(&w.r, 256)
		switch {
		case first:
			w.paragraph(bl.weave)
		case kind < bl.list:
			w.list()
		case kind < bl.list+bl.table:
			w.table()
		case kind < bl.list+bl.table+bl.quote:
			w.quote()
		case kind < bl.list+bl.table+bl.quote+bl.figure:
			w.figure()
		case kind < bl.list+bl.table+bl.quote+bl.figure+bl.code:
			w.code()
		case kind > 250 && w.heads > 0:
			w.s(w.m.tags.h3)
			w.phrase(2, 5)
			w.s("</h3>\n")
			w.paragraph(bl.weave)
		default:
			w.paragraph(bl.weave)
		}
	}
}

// paragraph writes one of as many words as the site's have.
func (w *writer) paragraph(weave int) {
	words := int(w.m.words.At(w.r.Uint64()))
	w.s(w.m.tags.p)
	for first := true; first || words > 0; first = false {
		if !first {
			w.s(" ")
		}
		n := between(&w.r, 6, 26)
		words -= n
		start := len(w.b)
		w.sentence(n)
		if w.budget > 0 && below(&w.r, 256) < weave {
			w.weave(start)
		}
	}
	w.s("</p>\n")
}

func (w *writer) list() {
	open, end := w.m.tags.ul, "</ul>\n"
	if oneIn(&w.r, 4) {
		open, end = w.m.tags.ol, "</ol>\n"
	}
	w.s(open)
	short := oneIn(&w.r, 2)
	for range between(&w.r, 3, 9) {
		w.s("\n", w.m.tags.li)
		switch {
		case w.budget > 0 && oneIn(&w.r, 3):
			w.link(w.any())
			w.budget--
		case short:
			w.phrase(2, 6)
		default:
			w.sentence(between(&w.r, 4, 16))
		}
		w.s("</li>")
	}
	w.s("\n", end)
}

func (w *writer) table() {
	columns, rows := between(&w.r, 2, 5), between(&w.r, 3, 12)
	w.s(w.m.tags.table, "\n<thead><tr>")
	for range columns {
		w.s(`<th scope="col">`)
		w.phrase(1, 2)
		w.s("</th>")
	}
	w.s("</tr></thead>\n<tbody>\n")
	kinds := w.r.Uint64()
	for range rows {
		w.s("<tr>")
		for c := range columns {
			w.s("<td>")
			switch k := kinds >> (2 * c) & 3; {
			case c == 0:
				w.phrase(1, 3)
			case k == 0:
				w.b = w.date(w.beside(rolePage)).AppendFormat(w.b, isoDay)
			case k == 1:
				w.phrase(1, 4)
			case k == 2:
				w.decimal(below(&w.r, 10000), 2)
			default:
				w.grouped(below(&w.r, 40) * below(&w.r, 900))
			}
			w.s("</td>")
		}
		w.s("</tr>\n")
	}
	w.s("</tbody></table>\n")
}

// decimal writes n with its last places behind the point.
func (w *writer) decimal(n, places int) {
	unit := 1
	for range places {
		unit *= 10
	}
	w.n(n / unit)
	w.s(".")
	start := len(w.b)
	w.n(n%unit + unit) // the leading 1 keeps zeros
	w.b = append(w.b[:start], w.b[start+1:]...)
}

func (w *writer) quote() {
	w.s(w.m.tags.quote, w.m.tags.p)
	w.sentences(between(&w.r, 12, 50))
	w.s("</p>")
	if oneIn(&w.r, 2) {
		w.s("<footer>— <cite>")
		w.text(w.appendName(w.scratch[:0], w.next(rolePerson)))
		w.s("</cite></footer>")
	}
	w.s("</blockquote>\n")
}

func (w *writer) figure() {
	w.s("<figure>")
	w.picture(between(&w.r, 4, 8)*80, between(&w.r, 3, 5)*80)
	w.s("<figcaption>")
	w.phrase(3, 9)
	w.s("</figcaption></figure>\n")
}

// picture writes an image of the maze.
func (w *writer) picture(width, height int) {
	f := w.next(roleImage)
	w.s(`<img src="`, w.m.o.Prefix, `media/`)
	w.b = w.m.appendToken(w.b, f)
	if f.nonce&3 == 0 {
		w.s(".png")
	} else {
		w.s(".svg")
	}
	w.s(`" width="`)
	w.n(width)
	w.s(`" height="`)
	w.n(height)
	w.s(`" loading="lazy" alt="`)
	w.phrase(2, 5)
	w.s(`">`)
}

// Words that code is made of.
const (
	codeNouns = "account batch buffer bucket cache cursor entry event field filter frame handle header index item job key lease limit line list lock map node offset " +
		"order page part path plan pool queue range record region result row schema session shard size slot snapshot source span state store stream table task token value window"
	codeVerbs = "add apply build check clean close collect commit compare copy count decode drop encode expand fetch find flush load lookup mark merge move open parse push " +
		"read refresh release remove render reset resolve rotate save scan select send set sort split start store sync trim update verify wait walk write"
	codeTypes = "int string bool []byte error time.Time uint64 float64 map[string]int context.Context"
)

func (w *writer) noun() string  { return pick(w.m.lists.nouns, w.r.Uint64()>>8) }
func (w *writer) verb() string  { return pick(w.m.lists.verbs, w.r.Uint64()>>8) }
func (w *writer) ctype() string { return pick(w.m.lists.types, w.r.Uint64()>>8) }

// code writes a listing: a function or commands.
func (w *writer) code() {
	w.s(w.m.tags.pre, "<code>")
	if oneIn(&w.r, 3) {
		for range between(&w.r, 1, 5) {
			w.s("$ ", w.noun(), "ctl ", w.verb(), " --", w.noun(), "=")
			w.n(1 << below(&w.r, 14))
			w.s(" ", w.noun(), "-")
			w.n(below(&w.r, 90))
			w.s("\n")
		}
	} else {
		w.s("func ", w.verb(), "(", w.noun(), " ", w.ctype(), ", ", w.noun(), " ", w.ctype(), ") error {\n")
		for range between(&w.r, 2, 9) {
			w.statement("\t")
		}
		w.s("\treturn nil\n}\n")
	}
	w.s("</code></pre>\n")
}

// statement writes one or a few lines of code, each with indent before it.
func (w *writer) statement(indent string) {
	a, b := w.noun(), w.noun()
	switch below(&w.r, 6) {
	case 0:
		w.s(indent, a, " := ", b, ".", w.verb(), "(", w.noun(), ")\n")
	case 1:
		w.s(indent, "if err := ", a, ".", w.verb(), "(", b, "); err != nil {\n", indent, "\treturn err\n", indent, "}\n")
	case 2:
		w.s(indent, "for _, ", a, " := range ", b, "s {\n", indent, "\t", w.noun(), ".", w.verb(), "(", a, ")\n", indent, "}\n")
	case 3:
		w.s(indent, "if ", a, ".", w.noun(), " &gt; ", strconv.Itoa(1<<below(&w.r, 6)), " {\n", indent, "\t", a, ".", w.verb(), "()\n", indent, "}\n")
	case 4:
		w.s(indent, a, ".", w.noun(), " = ", b, "\n")
	default:
		w.s(indent, "// ")
		w.phrase(3, 8)
		w.s("\n")
	}
}

// listOfLinks writes a list of at least low links, and of those that are left of the budget.
func (w *writer) listOfLinks(open string, low int) {
	n := max(low, min(w.budget, 200))
	w.budget = 0
	w.s(open)
	for range n {
		w.s("<li>")
		w.link(w.any())
		w.s("</li>\n")
	}
	w.s("</ul>\n")
}

// wayOutNote writes the way out for people. It is in every page, within the main part.
func (w *writer) wayOutNote(open string) {
	w.s(open, ` href="`)
	start := len(w.b)
	w.b = append(w.b, w.wayOut...)
	w.escapeFrom(start)
	w.s(`">`, w.m.notice, "</a>")
}

// pages writes links to other pages of a list. There is always a next one.
func (w *writer) pages() {
	w.s(`<nav class="pages" aria-label="Pages"><ul>`)
	n := w.number
	if n > 1 {
		w.s(`<li><a rel="prev" href="`)
		w.pageAddress(n - 1)
		w.s(`">Previous</a></li>`)
	}
	for i := max(1, n-2); i <= n+4; i++ {
		if i == n {
			w.s(`<li><a aria-current="page" href="`)
		} else {
			w.s(`<li><a href="`)
		}
		w.pageAddress(i)
		w.s(`">`)
		w.n(i)
		w.s("</a></li>")
	}
	w.s(`<li><a rel="next" href="`)
	w.pageAddress(n + 1)
	w.s(`">Next</a></li></ul></nav>`, "\n")
}

// pageAddress writes the address of a page of the list that is shown. The first is the one that other pages lead to.
func (w *writer) pageAddress(n int) {
	if n == 1 && w.tokened {
		w.address(w.self, w.title)
		return
	}
	w.s("?page=")
	w.n(n)
}
