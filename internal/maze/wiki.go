package maze

func wikiShape(_ *writer, f ref) shape {
	switch f.role {
	case roleList, roleTag:
		return "wiki/Category:{Slug}"
	case rolePerson:
		return "wiki/User:{Slug}"
	case roleHistory:
		return "history/{Slug}"
	case roleChange:
		return "wiki/Revision:{Slug}"
	case roleTalk:
		return "wiki/Talk:{Slug}"
	case roleArchive:
		return "dumps/{slug}"
	}
	return "wiki/{Slug}"
}

func (w *writer) wikiPage() {
	size := w.size()
	w.head("Wiki")
	w.s("<body>\n<header class=\"top\">")
	w.home("Wiki")
	w.search()
	w.s("</header>\n<div class=\"frame\">\n<nav class=\"side\" aria-label=\"Main\"><h2>Contents</h2><ul>")
	w.categoryLinks()
	w.s("</ul></nav>\n")
	w.main("sheet")
	w.tabs(tab{"Article", rolePage}, tab{"Talk", roleTalk}, tab{"History", roleHistory})
	w.h1()
	switch w.self.role {
	case roleList, roleTag, rolePerson:
		w.wikiList()
	case roleHistory:
		w.wikiHistory()
	case roleTalk:
		w.wikiTalk(size)
	default:
		w.wikiArticle(size)
	}
	w.s(`<p class="notice">`)
	w.wayOutNote("<a")
	w.s("</p>\n<nav class=\"cats\" aria-label=\"Categories\"><ul>")
	for i := range 1 + int(w.of(w.self, 7)%5) {
		w.s("<li>")
		w.link(w.topic(w.self, i))
		w.s("</li>")
	}
	w.s("</ul></nav>\n</main></div>\n")
	w.foot()
}

func (w *writer) wikiArticle(size int) {
	if below(&w.r, 3) > 0 {
		w.infobox()
	}
	for range between(&w.r, 1, 3) {
		w.paragraph(120)
	}
	sections := between(&w.r, 2, 8)
	if sections > 3 {
		w.s("<nav class=\"toc\" aria-label=\"Contents\"><h2>Contents</h2><ol>")
		for i := range sections {
			w.s(`<li><a href="#s`)
			w.n(i + 1)
			w.s(`">`)
			w.heading(i + 1)
			w.s("</a></li>")
		}
		w.s("</ol></nav>\n")
	}
	per := max(600, (size-len(w.b))/(sections+1))
	for range sections {
		w.openSection()
		w.stretch(len(w.b)+per, blend{list: 22, table: 9, quote: 8, figure: 10, weave: 110})
	}
	w.s("<h2>See also</h2>\n")
	w.listOfLinks(w.m.tags.ul, between(&w.r, 3, 6))
	w.s("<h2>References</h2>\n<ol class=\"refs\">\n")
	for range between(&w.r, 2, 14) {
		w.s("<li>")
		w.text(w.appendName(w.name[:0], w.pool(rolePerson, below(&w.r, people))))
		w.s(" (")
		w.n(between(&w.r, 1931, 2025))
		w.s("). <cite>")
		w.phrase(3, 9)
		w.s("</cite>, pp. ")
		p := between(&w.r, 1, 400)
		w.n(p)
		w.s("–")
		w.n(p + between(&w.r, 1, 30))
		w.s(".</li>\n")
	}
	w.s("</ol>\n<p class=\"when\">This page was last edited on ")
	w.time(w.modified(), longDay)
	w.s(" by ")
	w.link(w.author(w.self))
	w.s(".</p>\n")
}

// infobox writes the table of facts at the side.
func (w *writer) infobox() {
	w.s("<aside class=\"facts\"><table><caption>")
	w.text(w.title)
	w.s("</caption><tbody>\n")
	if oneIn(&w.r, 2) {
		w.s(`<tr><td colspan="2">`)
		w.picture(260, 180)
		w.s("</td></tr>\n")
	}
	for range between(&w.r, 3, 9) {
		w.s(`<tr><th scope="row">`)
		w.phrase(1, 2)
		w.s("</th><td>")
		switch below(&w.r, 4) {
		case 0:
			w.time(w.date(w.beside(rolePage)), longDay)
		case 1:
			w.grouped(below(&w.r, 900) * below(&w.r, 900))
		case 2:
			w.link(w.next(rolePage))
		default:
			w.phrase(1, 4)
		}
		w.s("</td></tr>\n")
	}
	w.s("</tbody></table></aside>\n")
}

func (w *writer) wikiList() {
	w.paragraph(60)
	if w.self.role == rolePerson {
		w.s("<h2>Contributions</h2>\n")
	} else {
		w.s("<h2>Pages in this category</h2>\n")
	}
	per := 12 + int(w.of(w.self, 8)%60)
	w.s("<ul class=\"columns\">\n")
	for i := range per {
		f := w.entry(rolePage, i, per)
		if oneIn(&w.r, w.m.o.Archives) {
			f.role = roleArchive
		}
		w.s("<li>")
		w.link(f)
		if w.self.role == rolePerson {
			w.s(" ")
			w.time(w.date(f), longDay)
		}
		w.s("</li>\n")
	}
	w.s("</ul>\n")
	w.budget = 0
	w.pages()
}

// wikiTalk writes what people say of the page.
func (w *writer) wikiTalk(size int) {
	for n := 0; n == 0 || len(w.b) < min(size, 16<<10); n++ {
		w.openSection()
		for range between(&w.r, 1, 4) {
			w.s("<p>")
			w.sentences(between(&w.r, 6, 60))
			w.s(" — ")
			w.link(w.pool(rolePerson, below(&w.r, people)))
			w.s(", ")
			w.time(w.date(w.beside(roleTalk)), longDay)
			w.s("</p>\n")
		}
	}
	w.listOfLinks(w.m.tags.ul, between(&w.r, 2, 5))
}

func (w *writer) wikiHistory() {
	w.s("<p>Revisions, newest first.</p>\n<ol class=\"revisions\">\n")
	per := between(&w.r, 12, 40)
	for i := range per {
		f := w.entry(roleChange, i, per)
		w.s("<li>")
		w.time(w.date(f), longDay)
		w.s(" ")
		w.link(w.author(f))
		w.s(" (")
		w.grouped(between(&w.r, 900, 90000))
		w.s(" bytes) <em>")
		w.link(f)
		w.s("</em></li>\n")
	}
	w.s("</ol>\n")
	w.pages()
}
