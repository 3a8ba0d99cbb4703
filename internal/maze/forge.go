package maze

import "encoding/hex"

func forgeShape(_ *writer, f ref) shape {
	switch f.role {
	case roleList:
		return "explore/{slug}"
	case roleTag:
		return "topics/{slug}"
	case rolePerson:
		return "users/{slug}"
	case roleHistory:
		return "commits/{slug}"
	case roleChange:
		return "commit/{hash}"
	case roleTalk:
		return "issues/{slug}"
	case roleIssue:
		return "issues/{id}"
	case roleArchive:
		return "releases/{slug}"
	}
	return "repos/{slug}"
}

func (w *writer) forgePage() {
	size := w.size()
	w.head("Code")
	w.s("<body>\n<header class=\"top\">")
	w.home("Code")
	w.search()
	w.s("<nav aria-label=\"Main\"><ul>")
	w.categoryLinks()
	w.s("</ul></nav></header>\n")
	w.main("wide")
	switch w.self.role {
	case roleList, roleTag, rolePerson:
		w.h1()
		w.repositories()
	case roleHistory:
		w.h1()
		w.repositoryTabs()
		w.commits()
	case roleTalk:
		w.h1()
		w.repositoryTabs()
		w.issues()
	case roleChange:
		w.commit(size)
	case roleIssue:
		w.issue(size)
	default:
		w.repository(size)
	}
	w.s(`<p class="notice">`)
	w.wayOutNote("<a")
	w.s("</p>\n</main>\n")
	w.foot()
}

// repositoryTabs writes the tabs of a repository.
func (w *writer) repositoryTabs() {
	w.tabs(tab{"Code", rolePage}, tab{"Issues", roleTalk}, tab{"Commits", roleHistory})
}

func (w *writer) repository(size int) {
	w.s(`<p class="owner">`)
	w.link(w.author(w.self))
	w.s(" /</p>\n")
	w.h1()
	w.s("<p class=\"lead\">")
	w.sentence(between(&w.r, 6, 16))
	w.s("</p>\n")
	w.repositoryTabs()
	w.s("<div class=\"two\"><div>\n<table class=\"files\"><caption class=\"quiet\">Files</caption><tbody>\n")
	for range between(&w.r, 4, 18) {
		f := w.next(roleChange)
		w.s(`<tr><td class="name">`, w.noun())
		switch below(&w.r, 5) {
		case 0:
			w.s("/")
		case 1:
			w.s("_", w.verb(), ".go")
		case 2:
			w.s(".md")
		default:
			w.s(".go")
		}
		w.s("</td><td>")
		w.link(f)
		w.s("</td><td>")
		w.time(w.date(f), isoDay)
		w.s("</td></tr>\n")
	}
	w.s("</tbody></table>\n<article class=\"card\"><h2>README</h2>\n")
	w.article(size, blend{list: 30, table: 8, quote: 4, figure: 4, code: 60, weave: 40})
	w.s("</article></div>\n<aside aria-label=\"About\"><h2>About</h2><p>")
	w.sentence(between(&w.r, 5, 12))
	w.s("</p><dl><dt>Stars</dt><dd>")
	w.grouped(w.count(w.self, 9, 48000))
	w.s("</dd><dt>Forks</dt><dd>")
	w.grouped(w.count(w.self, 10, 3000))
	w.s("</dd><dt>Updated</dt><dd>")
	w.time(w.modified(), isoDay)
	w.s("</dd></dl><ul class=\"chips\">")
	for i := range 2 + int(w.of(w.self, 7)%4) {
		w.s("<li>")
		w.link(w.topic(w.self, i))
		w.s("</li>")
	}
	w.s("</ul><h2>Related</h2>\n")
	w.listOfLinks("<ul class=\"plain\">\n", between(&w.r, 3, 6))
	w.s("</aside></div>\n")
}

func (w *writer) repositories() {
	w.s("<p class=\"lead\">")
	w.sentence(between(&w.r, 6, 16))
	w.s("</p>\n<ol class=\"entries\">\n")
	per := 8 + int(w.of(w.self, 8)%18)
	for i := range per {
		f := w.entry(rolePage, i, per)
		w.s("<li><h2>")
		w.link(f)
		w.s("</h2><p>")
		w.sentence(between(&w.r, 6, 18))
		w.s("</p><p class=\"meta\">")
		w.link(w.author(f))
		w.s(" · ★ ")
		w.grouped(w.count(f, 9, 48000))
		w.s(" · ")
		w.time(w.date(f), isoDay)
		w.s("</p></li>\n")
	}
	w.s("</ol>\n")
	w.pages()
	w.s("<h2>See also</h2>\n")
	w.listOfLinks("<ul class=\"plain\">\n", between(&w.r, 2, 5))
}

func (w *writer) commits() {
	w.s("<ol class=\"commits\">\n")
	per := between(&w.r, 14, 36)
	for i := range per {
		f := w.entry(roleChange, i, per)
		w.s("<li><p>")
		w.link(f)
		w.s("</p><p class=\"meta\">")
		w.link(w.author(f))
		w.s(" committed on ")
		w.time(w.date(f), longDay)
		w.s(" · <code>")
		w.shortHash(f)
		w.s("</code></p></li>\n")
	}
	w.s("</ol>\n")
	w.pages()
}

func (w *writer) issues() {
	w.s("<ol class=\"commits\">\n")
	per := between(&w.r, 10, 30)
	for i := range per {
		f := w.entry(roleIssue, i, per)
		w.s("<li><p>")
		w.link(f)
		w.s("</p><p class=\"meta\">#")
		w.n(f.number())
		w.s(" opened on ")
		w.time(w.date(f), longDay)
		w.s(" by ")
		w.link(w.author(f))
		w.s("</p></li>\n")
	}
	w.s("</ol>\n")
	w.pages()
}

// number is what an issue is called.
func (f ref) number() int { return int(f.nonce)%9000 + 12 }

// shortHash writes the beginning of a change's hash.
func (w *writer) shortHash(f ref) {
	h := w.m.hashOf(w.m.seal(f))
	w.b = hex.AppendEncode(w.b, h[:4])
}

func (w *writer) commit(size int) {
	w.h1()
	w.s("<p class=\"meta\">")
	w.link(w.author(w.self))
	w.s(" committed on ")
	w.time(w.date(w.self), longDay)
	w.s(" · <code>")
	h := w.m.hashOf(w.m.seal(w.self))
	w.b = hex.AppendEncode(w.b, h[:])
	w.s("</code></p>\n<p>")
	w.sentences(between(&w.r, 8, 50))
	w.s("</p>\n<p>In ")
	w.link(w.next(rolePage))
	w.s(". Parent: ")
	w.link(w.next(roleChange))
	w.s("</p>\n")
	size = min(size, 24<<10)
	for n := 0; n == 0 || len(w.b) < size; n++ {
		w.diff()
	}
	w.s("<h2>Refers to</h2>\n<ul class=\"plain\">\n")
	for range between(&w.r, 1, 5) {
		w.s("<li>")
		w.link(w.next(roleIssue))
		w.s("</li>\n")
	}
	w.s("</ul>\n")
}

// diff writes the change to one file.
func (w *writer) diff() {
	w.s("<section class=\"card\"><h2 class=\"file\">", w.noun(), "/", w.noun(), "_", w.verb(), ".go</h2>\n<pre class=\"diff\"><code>")
	line := between(&w.r, 1, 400)
	for range between(&w.r, 1, 3) {
		w.s("@@ -")
		w.n(line)
		w.s(",7 +")
		w.n(line + 1)
		w.s(",8 @@ func ", w.verb(), "\n")
		line += between(&w.r, 10, 80)
		w.statement(" \t")
		for range between(&w.r, 0, 3) {
			w.s("<del>")
			w.statement("-\t")
			w.s("</del>")
		}
		for range between(&w.r, 1, 4) {
			w.s("<ins>")
			w.statement("+\t")
			w.s("</ins>")
		}
		w.statement(" \t")
	}
	w.s("</code></pre></section>\n")
}

func (w *writer) issue(size int) {
	w.s(`<p class="owner">`)
	w.link(w.next(rolePage))
	w.s(" / Issues</p>\n")
	w.h1()
	w.s("<p class=\"meta\">#")
	w.n(w.self.number())
	w.s(" opened on ")
	w.time(w.date(w.self), longDay)
	w.s(" by ")
	w.link(w.author(w.self))
	w.s("</p>\n")
	size = min(size, 20<<10)
	day := w.self.day
	for n := 0; n < 2 || len(w.b) < size; n++ {
		w.s("<article class=\"card\"><p class=\"by\">")
		w.link(w.pool(rolePerson, below(&w.r, people)))
		w.s(" on ")
		w.time(w.date(ref{role: roleIssue, day: day, nonce: uint16(n)}), longDay)
		w.s("</p>\n")
		day -= uint16(min(int(day), below(&w.r, 4)))
		for range between(&w.r, 1, 3) {
			w.paragraph(50)
		}
		if oneIn(&w.r, 4) {
			w.code()
		}
		w.s("</article>\n")
	}
	w.s("<h2>Other issues</h2>\n<ul class=\"plain\">\n")
	for range between(&w.r, 3, 9) {
		w.s("<li>")
		w.link(w.next(roleIssue))
		w.s("</li>\n")
	}
	w.s("</ul>\n")
	w.listOfLinks("<ul class=\"plain\">\n", 2)
}
