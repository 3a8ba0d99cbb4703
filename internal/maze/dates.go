package maze

import "time"

// days is how far back pages go, a little more than eleven years.
const days = 1 << 12

// newest is the day of the newest pages. It is fixed, because a page must not change with the clock.
var newest = time.Date(2026, time.June, 30, 0, 0, 0, 0, time.UTC)

// date returns when the page was written, to the second.
func (w *writer) date(f ref) time.Time {
	second := w.of(f, 5) % 86400
	return newest.AddDate(0, 0, -int(f.day)).Add(time.Duration(second) * time.Second)
}

// modified returns when the page that is asked for was changed last: on the day that it is of or later.
func (w *writer) modified() time.Time {
	later := w.draw(aspectModified) % (uint64(w.self.day)/8 + 1)
	return w.date(ref{role: w.self.role, depth: w.self.depth, day: w.self.day - uint16(later), nonce: w.self.nonce})
}

// Layouts of dates: numeric ones are understood in every language.
const (
	isoDay  = "2006-01-02"
	longDay = "2 January 2006"
	isoTime = "2006-01-02T15:04:05Z"
)

// time writes a time element.
func (w *writer) time(t time.Time, layout string) {
	w.s(`<time datetime="`)
	w.b = t.AppendFormat(w.b, isoTime)
	w.s(`">`)
	w.b = t.AppendFormat(w.b, layout)
	w.s("</time>")
}
