package maze

func forumShape(_ *writer, f ref) shape {
	switch f.role {
	case roleList:
		return "board/{slug}"
	case roleTag:
		return "tagged/{slug}"
	case rolePerson:
		return "members/{slug}"
	case roleArchive:
		return "attachments/{slug}"
	}
	return "threads/{slug}"
}

func (w *writer) forumPage() {
	size := w.size()
	w.head("Forum")
	w.s("<body>\n<header class=\"top\">")
	w.home("Forum")
	w.search()
	w.s("</header>\n<nav class=\"bar\" aria-label=\"Boards\"><ul>")
	w.categoryLinks()
	w.s("</ul></nav>\n")
	w.main("wide")
	switch w.self.role {
	case roleList, roleTag, rolePerson:
		w.h1()
		w.board()
	default:
		w.s(`<nav class="crumbs" aria-label="Breadcrumb"><ol><li>`)
		w.home("Forum")
		w.s("</li><li>")
		w.link(w.category(w.self))
		w.s("</li></ol></nav>\n")
		w.h1()
		w.thread(size)
	}
	w.s(`<p class="notice">`)
	w.wayOutNote("<a")
	w.s("</p>\n</main>\n")
	w.foot()
}

func (w *writer) board() {
	w.s("<table class=\"threads\"><thead><tr><th scope=\"col\">Topic</th><th scope=\"col\">Replies</th>",
		"<th scope=\"col\">Views</th><th scope=\"col\">Last post</th></tr></thead>\n<tbody>\n")
	per := 15 + int(w.of(w.self, 8)%30)
	for i := range per {
		f := w.entry(rolePage, i, per)
		w.s("<tr><td>")
		w.link(f)
		w.s(`<span class="meta"> by `)
		w.link(w.author(f))
		w.s("</span></td><td>")
		replies := w.count(f, 9, 900)
		w.grouped(replies)
		w.s("</td><td>")
		w.grouped(replies*(7+int(w.of(f, 10)%60)) + 11)
		w.s("</td><td>")
		w.time(w.date(f), longDay)
		w.s("</td></tr>\n")
	}
	w.s("</tbody></table>\n")
	w.pages()
	w.s("<h2>Elsewhere</h2>\n")
	w.listOfLinks("<ul class=\"columns\">\n", between(&w.r, 2, 6))
}

func (w *writer) thread(size int) {
	day := w.self.day
	for n := 0; n < 2 || len(w.b) < size-1500; n++ {
		who := w.pool(rolePerson, below(&w.r, people))
		if n == 0 {
			who = w.author(w.self)
		}
		w.post(n, who, day)
		day -= uint16(min(int(day), below(&w.r, 6)*below(&w.r, 6)))
	}
	w.pages()
	w.s("<h2>Similar topics</h2>\n")
	w.listOfLinks("<ul class=\"plain\">\n", between(&w.r, 3, 7))
}

// post writes the n-th post of a thread.
func (w *writer) post(n int, who ref, day uint16) {
	w.s(`<article class="post" id="p`)
	w.n(n + 1)
	w.s(`"><div class="who"><p>`)
	w.link(who)
	w.s("</p><p class=\"meta\">")
	w.grouped(w.count(who, 9, 9000) + 1)
	w.s(" posts</p></div><div class=\"said\"><p class=\"meta\">#")
	w.n(n + 1)
	w.s(" · ")
	w.time(w.date(ref{role: rolePage, day: day, nonce: uint16(n)}), longDay)
	w.s("</p>\n")
	if n > 0 && oneIn(&w.r, 5) {
		w.s("<blockquote><p>")
		w.sentences(between(&w.r, 6, 30))
		w.s("</p></blockquote>\n")
	}
	for range between(&w.r, 1, 3) {
		w.paragraph(46)
	}
	if oneIn(&w.r, 12) {
		w.picture(480, 320)
	}
	w.s("</div></article>\n")
}
