package maze

func shopShape(_ *writer, f ref) shape {
	switch f.role {
	case roleList:
		return "c/{slug}"
	case roleTag:
		return "brands/{slug}"
	case rolePerson:
		return "reviews/{slug}"
	case roleArchive:
		return "catalogue/{slug}"
	}
	return "p/{slug}.html"
}

func (w *writer) shopPage() {
	size := w.size()
	w.head("Store")
	w.s("<body>\n<header class=\"top\">")
	w.home("Store")
	w.search()
	w.s("</header>\n<nav class=\"bar\" aria-label=\"Departments\"><ul>")
	w.categoryLinks()
	w.s("</ul></nav>\n")
	w.main("wide")
	switch w.self.role {
	case roleList, roleTag, rolePerson:
		w.department()
	default:
		w.product(size)
	}
	w.s(`<p class="notice">`)
	w.wayOutNote("<a")
	w.s("</p>\n</main>\n")
	w.foot()
}

// price writes what a product costs, the same wherever it is shown.
func (w *writer) price(f ref) {
	h := w.of(f, 11)
	cents := int(h>>8%90+1) * [...]int{100, 100, 1000, 200}[h&3]
	w.s(`<p class="price">$`)
	w.decimal(max(cents-[...]int{1, 5, 0, 51}[h>>2&3], 49), 2)
	w.s("</p>")
}

// stars writes what a product's buyers think.
func (w *writer) stars(f ref) {
	tenths := 28 + int(w.of(f, 12)%22)
	w.s(`<p class="stars"><span aria-hidden="true">`)
	for i := range 5 {
		if tenths >= 10*i+8 {
			w.s("★")
		} else {
			w.s("☆")
		}
	}
	w.s("</span> ")
	w.decimal(tenths, 1)
	w.s(" (")
	w.grouped(w.count(f, 13, 4000) + 1)
	w.s(")</p>")
}

func (w *writer) department() {
	w.h1()
	w.s("<p class=\"lead\">")
	w.sentences(between(&w.r, 8, 30))
	w.s("</p>\n<h2 class=\"quiet\">Products</h2>\n<ul class=\"grid\">\n")
	per := 12 + 4*int(w.of(w.self, 8)%7)
	for i := range per {
		w.card(w.entry(rolePage, i, per))
	}
	w.s("</ul>\n")
	w.pages()
	w.s("<h2>More</h2>\n")
	w.listOfLinks("<ul class=\"columns\">\n", between(&w.r, 3, 8))
}

// card writes a product as an item of a grid.
func (w *writer) card(f ref) {
	w.s("<li>")
	w.picture(320, 240)
	w.s("<h3>")
	w.link(f)
	w.s("</h3>")
	w.stars(f)
	w.price(f)
	w.s("</li>\n")
}

func (w *writer) product(size int) {
	w.s(`<nav class="crumbs" aria-label="Breadcrumb"><ol><li>`)
	w.home("Store")
	w.s("</li><li>")
	w.link(w.category(w.self))
	w.s("</li><li>")
	w.link(w.topic(w.self, 0))
	w.s("</li></ol></nav>\n<div class=\"product\"><div class=\"shots\">")
	w.picture(640, 480)
	w.s("</div><div>\n")
	w.h1()
	w.stars(w.self)
	w.price(w.self)
	w.s("<p>")
	w.sentences(between(&w.r, 12, 45))
	w.s("</p>\n<ul>\n")
	for range between(&w.r, 3, 7) {
		w.s("<li>")
		w.phrase(3, 9)
		w.s("</li>\n")
	}
	w.s("</ul>\n<p class=\"stock\">In stock. Item no. ")
	w.n(100000 + int(w.of(w.self, 14)%900000))
	w.s("</p></div></div>\n<section><h2>Description</h2>\n")
	w.stretch(min(size, len(w.b)+between(&w.r, 500, 3000)), blend{list: 40, figure: 10, weave: 30})
	w.s("</section>\n<section><h2>Details</h2>\n<table class=\"specs\"><tbody>\n")
	for range between(&w.r, 4, 14) {
		w.s(`<tr><th scope="row">`)
		w.phrase(1, 2)
		w.s("</th><td>")
		if oneIn(&w.r, 3) {
			w.n(between(&w.r, 2, 480))
			w.s([...]string{" mm", " cm", " g", " W", " ml"}[below(&w.r, 5)])
		} else {
			w.phrase(1, 4)
		}
		w.s("</td></tr>\n")
	}
	w.s("</tbody></table></section>\n<section><h2>Reviews</h2>\n")
	for n := 0; n == 0 || len(w.b) < size-3000; n++ {
		f := w.next(rolePage)
		w.s("<article class=\"review\"><h3>")
		w.phrase(2, 6)
		w.s("</h3><p class=\"meta\">")
		w.link(w.pool(rolePerson, below(&w.r, people)))
		w.s(", ")
		w.time(w.date(f), longDay)
		w.s("</p>")
		w.paragraph(20)
		w.s("</article>\n")
	}
	w.s("</section>\n<section><h2>Customers also bought</h2>\n<ul class=\"grid\">\n")
	for range 4 * between(&w.r, 1, 3) {
		w.card(w.next(rolePage))
	}
	w.s("</ul></section>\n<h2>More to explore</h2>\n")
	w.listOfLinks("<ul class=\"columns\">\n", between(&w.r, 2, 6))
}
