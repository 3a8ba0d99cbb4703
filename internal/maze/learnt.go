package maze

import (
	"strings"

	"github.com/quickthorn/quickthorn/internal/likeness"
)

// shell is the site's page around the content, cut at its slots.
type shell struct {
	pieces []likeness.Piece
	after  int // bytes of markup after the content
	shapes []shape
	shares []int // ascending, of thousandths
	heads  bool  // whether the shell has the page's h1
	links  int   // in the shell

	titleBefore, titleAfter []byte // what the site writes around a title, escaped
}

// newShell makes a shell of a likeness that was checked.
func newShell(l *likeness.Likeness) *shell {
	s := &shell{pieces: l.Pieces(), links: strings.Count(l.Shell, "<a ")}
	s.titleBefore = appendEscaped(nil, []byte(l.Title.Before))
	s.titleAfter = appendEscaped(nil, []byte(l.Title.After))
	main := false
	for _, p := range s.pieces {
		main = main || p.Slot == likeness.SlotMain
		s.heads = s.heads || p.Slot == likeness.SlotHeading
		if main {
			s.after += len(p.Markup)
		}
	}
	sum := 0
	for _, sh := range l.Shapes {
		sum += sh.Share
		s.shapes = append(s.shapes, shape(strings.TrimPrefix(sh.Pattern, "/")))
		s.shares = append(s.shares, sum)
	}
	return s
}

func learntShape(w *writer, f ref) shape {
	switch f.role {
	case roleList:
		return "sections/{slug}/"
	case roleTag:
		return "topics/{slug}/"
	case rolePerson:
		return "authors/{slug}/"
	case roleArchive:
		return "files/{slug}"
	}
	s := w.m.shell
	if len(s.shapes) > 0 {
		at := int(w.of(f, 15) % uint64(s.shares[len(s.shares)-1]))
		for i, sum := range s.shares {
			if at < sum {
				return s.shapes[i]
			}
		}
	}
	return "{slug}/"
}

func (w *writer) learntPage() {
	size := w.size()
	for _, p := range w.m.shell.pieces {
		switch p.Slot {
		case likeness.SlotTitle:
			w.b = append(w.b, w.m.shell.titleBefore...)
			w.text(w.title)
			w.b = append(w.b, w.m.shell.titleAfter...)
		case likeness.SlotHeading:
			w.text(w.title)
		case likeness.SlotMain:
			w.learntContent(size)
		case likeness.SlotWayOut:
			w.s(w.m.tags.p)
			w.wayOutNote(w.m.tags.a)
			w.s("</p>\n")
		}
		w.s(p.Markup)
	}
}

// bytesPerLink is about what an item of a list of links takes.
const bytesPerLink = 90

// learntContent writes the content in the site's own tags: no words but those of the text.
func (w *writer) learntContent(size int) {
	w.budget = min(max(w.budget-w.m.shell.links, 4), 400)
	if !w.m.shell.heads {
		w.h1()
	}
	switch w.self.role {
	case roleList, roleTag, rolePerson:
		w.learntList()
		return
	}
	w.s(w.m.tags.p)
	w.time(w.date(w.self), isoDay)
	w.s(" ")
	w.link(w.author(w.self))
	w.s("</p>\n")
	w.article(size-w.m.shell.after-w.budget*bytesPerLink, blend{list: 16, table: 5, quote: 8, figure: 5, weave: 60})
	w.listOfLinks(w.m.tags.ul, between(&w.r, 3, 6))
	w.s(w.m.tags.p)
	w.link(w.beside(rolePage))
	w.s(" · ")
	w.link(w.next(rolePage))
	w.s("</p>\n")
}

func (w *writer) learntList() {
	per := 6 + int(w.of(w.self, 8)%20)
	for i := range per {
		f := w.entry(rolePage, i, per)
		w.s(w.m.tags.h2, ">")
		w.link(f)
		w.s("</h2>\n", w.m.tags.p)
		w.time(w.date(f), isoDay)
		w.s(" ")
		w.sentences(between(&w.r, 6, 40))
		w.s("</p>\n")
	}
	w.s(w.m.tags.p)
	for i := max(1, w.number-2); i <= w.number+4; i++ {
		w.linkPage(i)
		w.s(" ")
	}
	w.s("</p>\n")
	w.listOfLinks(w.m.tags.ul, 3)
}

// linkPage writes a link to the i-th page of the list that is shown.
func (w *writer) linkPage(i int) {
	w.s(w.m.tags.a, ` href="`)
	w.pageAddress(i)
	w.s(`">`)
	w.n(i)
	w.s("</a>")
}
