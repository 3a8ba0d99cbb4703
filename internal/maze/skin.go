package maze

import (
	_ "embed" // style sheets

	"github.com/quickthorn/quickthorn/internal/likeness"
)

// Skin is what the pages of a maze look like.
type Skin string

// The skins.
const (
	SkinLearnt Skin = "learnt" // the site's own looks, from a Likeness
	SkinWiki   Skin = "wiki"
	SkinForge  Skin = "forge" // repositories of code
	SkinShop   Skin = "shop"
	SkinDocs   Skin = "docs"
	SkinForum  Skin = "forum"
)

// Skins returns all skins.
func Skins() []Skin {
	return []Skin{SkinLearnt, SkinWiki, SkinForge, SkinShop, SkinDocs, SkinForum}
}

// skin is what differs between skins.
type skin struct {
	css   string
	page  func(*writer)            // writes a whole page
	shape func(*writer, ref) shape // of the address of a place
}

var (
	//go:embed style/wiki.css
	wikiCSS string
	//go:embed style/forge.css
	forgeCSS string
	//go:embed style/shop.css
	shopCSS string
	//go:embed style/docs.css
	docsCSS string
	//go:embed style/forum.css
	forumCSS string
)

func skinOf(s Skin) (skin, bool) {
	switch s {
	case SkinLearnt:
		return skin{css: docsCSS, page: (*writer).learntPage, shape: learntShape}, true
	case SkinWiki:
		return skin{css: wikiCSS, page: (*writer).wikiPage, shape: wikiShape}, true
	case SkinForge:
		return skin{css: forgeCSS, page: (*writer).forgePage, shape: forgeShape}, true
	case SkinShop:
		return skin{css: shopCSS, page: (*writer).shopPage, shape: shopShape}, true
	case SkinDocs:
		return skin{css: docsCSS, page: (*writer).docsPage, shape: docsShape}, true
	case SkinForum:
		return skin{css: forumCSS, page: (*writer).forumPage, shape: forumShape}, true
	}
	return skin{}, false
}

// head writes the beginning of a page up to its body. kind is what sites of this skin call themselves.
func (w *writer) head(kind string) {
	w.s("<!DOCTYPE html>\n", w.m.root, "\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
		"<meta name=\"robots\" content=\"noindex, nofollow\">\n<title>")
	w.text(w.title)
	if w.number > 1 {
		w.s(", page ")
		w.n(w.number)
	}
	w.s(" – ")
	w.siteName(kind)
	w.s("</title>\n<link rel=\"stylesheet\" href=\"", w.m.o.Prefix, "assets/", string(w.m.o.Skin), ".css\">\n",
		"<link rel=\"alternate\" type=\"application/rss+xml\" title=\"")
	w.siteName(kind)
	w.s("\" href=\"", w.m.o.Prefix, "feed.xml\">\n</head>\n")
}

// siteName writes what the site is called: the brand is plain letters, digits and hyphens.
func (w *writer) siteName(kind string) {
	start := len(w.b)
	w.s(w.brand)
	if c := w.b[start]; 'a' <= c && c <= 'z' {
		w.b[start] -= 0x20
	}
	if kind != "" {
		w.s(" ", kind)
	}
}

// home writes a link to the maze's beginning with the site's name.
func (w *writer) home(kind string) {
	w.s(`<a class="brand" href="`, w.m.o.Prefix, `">`)
	w.siteName(kind)
	w.s("</a>")
}

func (w *writer) search() {
	w.s(`<form role="search" action="`, w.m.o.Prefix, `search"><label class="quiet" for="q">Search</label><input id="q" name="q" type="search" placeholder="Search">`,
		`<button>Search</button></form>`)
}

// categoryLinks writes the site's categories, the same on each of its pages, as items of a list.
func (w *writer) categoryLinks() {
	for i := range categories {
		f := w.pool(roleList, i)
		if f == w.self {
			w.s(`<li aria-current="true">`)
		} else {
			w.s("<li>")
		}
		w.link(f)
		w.s("</li>")
	}
}

// size returns how many bytes the page ought to have.
func (w *writer) size() int { return int(w.m.sizes.At(w.r.Uint64())) }

// main opens the main part, with its heading unless that comes elsewhere.
func (w *writer) main(class string) { w.s(`<main id="content" class="`, class, `">`, "\n") }

// h1 writes the page's title as its heading.
func (w *writer) h1() {
	w.s(w.m.tags.h1)
	w.text(w.title)
	w.s("</h1>\n")
}

// tab is a view of a page.
type tab struct {
	name string
	role role
}

// tabs writes links to the views of the page that is shown. A role that is no view of its own is the first.
func (w *writer) tabs(tabs ...tab) {
	current := 0
	for i, t := range tabs {
		if t.role == w.self.role {
			current = i
		}
	}
	w.s(`<ul class="tabs">`)
	for i, t := range tabs {
		if i == current {
			w.s(`<li aria-current="true">`, t.name, "</li>")
			continue
		}
		f := w.self
		f.role, f.depth = t.role, uint16(min(int(f.depth)+1, 1<<16-1))
		if t.role == rolePage {
			f.role = roleTerm // its title is known here only from the address
		}
		w.s(`<li><a href="`)
		w.address(f, w.title)
		w.s(`">`, t.name, "</a></li>")
	}
	w.s("</ul>\n")
}

// foot writes the footer and the end of the page.
func (w *writer) foot() {
	w.s("<footer class=\"foot\"><ul>")
	for i := range 4 {
		w.s("<li>")
		w.link(w.pool(roleTag, i))
		w.s("</li>")
	}
	w.s("</ul><p>© ")
	w.n(newest.Year())
	w.s(" ")
	w.siteName("")
	w.s("</p></footer>\n</body>\n</html>\n")
}

// dayOn returns the age of the i-th of the per entries of the list's page: newest first, as far back as pages go.
func (w *writer) dayOn(i, per int) uint16 {
	return uint16(min(days-1, (min(w.number, days)-1)*per/4+i/4))
}

// entry returns the i-th of the per places of the list's page.
func (w *writer) entry(r role, i, per int) ref {
	f := w.next(r)
	f.day = w.dayOn(i, per)
	return f
}

// count returns a number for a place, mostly small, at most limit.
func (w *writer) count(f ref, aspect uint64, limit int) int {
	q := likeness.Quantiles{0, 1, 2, 5, 14, 60, int64(limit) / 2, int64(limit)}
	return int(q.At(w.of(f, aspect)))
}
