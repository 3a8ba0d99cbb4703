package maze

import "strings"

// sitemap writes an index when the name has no number, as "sitemap.xml", or a part such as "sitemap-7.xml", and returns the content type.
func (w *writer) sitemap() string {
	w.s("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	if strings.ContainsAny(lastSegment(w.q.Path), "0123456789") {
		w.sitemapPart()
	} else {
		w.sitemapIndex()
	}
	return "application/xml; charset=utf-8"
}

func (w *writer) sitemapIndex() {
	w.s("<sitemapindex xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n")
	first := (w.number - 1) * 64
	for i := range between(&w.r, 12, 48) {
		w.s("<sitemap><loc>")
		w.base()
		w.s(w.m.o.Prefix, "sitemap-")
		w.n(first + i + 1)
		w.s(".xml</loc><lastmod>")
		w.b = newest.AddDate(0, 0, -i).AppendFormat(w.b, isoDay)
		w.s("</lastmod></sitemap>\n")
	}
	w.s("</sitemapindex>\n")
}

func (w *writer) sitemapPart() {
	w.s("<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n")
	for range between(&w.r, 50, 160) {
		f := w.next(rolePage)
		if oneIn(&w.r, 12) {
			f = w.next(roleTag)
		}
		w.s("<url><loc>")
		w.base()
		w.addressOf(f)
		w.s("</loc><lastmod>")
		w.b = w.date(f).AppendFormat(w.b, isoDay)
		w.s("</lastmod></url>\n")
	}
	w.s("</urlset>\n")
}
