package maze

func docsShape(_ *writer, f ref) shape {
	switch f.role {
	case roleList:
		return "guide/{slug}/"
	case roleTag:
		return "topics/{slug}/"
	case rolePerson:
		return "authors/{slug}/"
	case roleArchive:
		return "files/{slug}"
	}
	return "docs/{slug}.html"
}

func (w *writer) docsPage() {
	size := w.size()
	w.head("Docs")
	w.s("<body>\n<header class=\"top\">")
	w.home("Docs")
	w.search()
	w.s("</header>\n<div class=\"frame\">\n<nav class=\"side\" aria-label=\"Guide\"><h2>Guide</h2><ul>")
	w.categoryLinks()
	w.s("</ul><h2>This chapter</h2><ul>")
	// What lies beside a page follows from its chapter, so that a chapter's pages show the same ones.
	chapter := w.category(w.self)
	for i := range 8 {
		w.s("<li>")
		w.link(w.pool(rolePage, int(chapter.nonce)*8+i))
		w.s("</li>")
	}
	w.s("</ul></nav>\n")
	w.main("text")
	w.s(`<nav class="crumbs" aria-label="Breadcrumb"><ol><li>`)
	w.home("Docs")
	w.s("</li><li>")
	w.link(chapter)
	w.s("</li></ol></nav>\n")
	w.h1()
	switch w.self.role {
	case roleList, roleTag, rolePerson:
		w.chapter()
	default:
		w.article(size, blend{list: 28, table: 16, quote: 4, figure: 6, code: 34, weave: 70})
		w.s("<h2>Related</h2>\n")
		w.listOfLinks(w.m.tags.ul, between(&w.r, 3, 6))
		w.s("<nav class=\"turn\" aria-label=\"Previous and next\"><p>← ")
		w.link(w.beside(rolePage))
		w.s("</p><p>")
		w.link(w.next(rolePage))
		w.s(" →</p></nav>\n<p class=\"when\">Updated ")
		w.time(w.modified(), longDay)
		w.s(" by ")
		w.link(w.author(w.self))
		w.s("</p>\n")
	}
	w.s(`<p class="notice">`)
	w.wayOutNote("<a")
	w.s("</p>\n</main></div>\n")
	w.foot()
}

func (w *writer) chapter() {
	w.paragraph(40)
	w.s("<ol class=\"entries\">\n")
	per := 6 + int(w.of(w.self, 8)%24)
	for i := range per {
		f := w.entry(rolePage, i, per)
		w.s("<li><h2>")
		w.link(f)
		w.s("</h2><p>")
		w.sentence(between(&w.r, 6, 22))
		w.s("</p><p class=\"meta\">")
		w.time(w.date(f), longDay)
		w.s("</p></li>\n")
	}
	w.s("</ol>\n")
	w.pages()
	w.s("<h2>See also</h2>\n")
	w.listOfLinks(w.m.tags.ul, between(&w.r, 2, 5))
}
