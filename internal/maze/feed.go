package maze

import (
	"strings"
	"time"
)

// feed writes an RSS or, when the address says so, an Atom feed, and returns its content type.
func (w *writer) feed() string {
	per := 10 + int(w.of(w.self, 8)%20)
	if strings.Contains(strings.ToLower(w.q.Path[max(0, len(w.q.Path)-tail):]), "atom") {
		w.atom(per)
		return "application/atom+xml; charset=utf-8"
	}
	w.s("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rss version=\"2.0\" xmlns:atom=\"http://www.w3.org/2005/Atom\"><channel>\n<title>")
	w.siteName("")
	w.s("</title>\n<link>")
	w.base()
	w.s(w.m.o.Prefix, "</link>\n<description>")
	w.sentence(between(&w.r, 6, 14))
	w.s("</description>\n<language>", w.m.language, "</language>\n<atom:link rel=\"next\" href=\"")
	w.nextFeed("feed.xml")
	w.s("\"/>\n")
	for i := range per {
		f := w.entry(rolePage, i, per)
		w.s("<item><title>")
		w.name = w.appendTitle(w.name[:0], f)
		w.text(w.name)
		w.s("</title><link>")
		w.base()
		w.address(f, w.name)
		w.s("</link><guid>")
		w.base()
		w.address(f, w.name)
		w.s("</guid><pubDate>")
		w.b = w.date(f).AppendFormat(w.b, time.RFC1123Z)
		w.s("</pubDate><description>")
		w.sentences(between(&w.r, 10, 60))
		w.s("</description></item>\n")
	}
	w.s("</channel></rss>\n")
	return "application/rss+xml; charset=utf-8"
}

func (w *writer) atom(per int) {
	w.s("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n<title>")
	w.siteName("")
	w.s("</title>\n<id>")
	w.base()
	w.s(w.m.o.Prefix, "</id>\n<updated>")
	w.b = w.date(w.entry(rolePage, 0, per)).AppendFormat(w.b, isoTime)
	w.s("</updated>\n<link rel=\"next\" href=\"")
	w.nextFeed("atom.xml")
	w.s("\"/>\n")
	for i := range per {
		f := w.entry(rolePage, i, per)
		w.s("<entry><title>")
		w.name = w.appendTitle(w.name[:0], f)
		w.text(w.name)
		w.s("</title><link href=\"")
		w.base()
		w.address(f, w.name)
		w.s("\"/><id>")
		w.base()
		w.address(f, w.name)
		w.s("</id><author><name>")
		w.name = w.appendName(w.name[:0], w.author(f))
		w.text(w.name)
		w.s("</name></author><updated>")
		w.b = w.date(f).AppendFormat(w.b, isoTime)
		w.s("</updated><summary>")
		w.sentences(between(&w.r, 10, 60))
		w.s("</summary></entry>\n")
	}
	w.s("</feed>\n")
}

// nextFeed writes the address of older entries (RFC 5005). There always are some.
func (w *writer) nextFeed(name string) {
	w.base()
	w.s(w.m.o.Prefix, name, "?page=")
	w.n(w.number + 1)
}
