package trap

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/race"
)

// article is a page of some 50 KB as sites have them: a script, a style, navigation and text.
func article() []byte {
	var b strings.Builder
	b.WriteString("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>An article</title><style>body { margin: 0 }</style></head><body>\n<nav><ul>")
	for i := range 40 {
		fmt.Fprintf(&b, "<li class=\"item item-%d\"><a href=\"/section/%d\">Section %d</a></li>", i, i, i)
	}
	b.WriteString("</ul></nav>\n<main>")
	for i := range 80 {
		fmt.Fprintf(&b, "<h2 id=\"h%d\">Heading %d</h2>\n<p>%s<a href=\"/note/%d\" title='a note'>note</a>.</p>\n", i, i, strings.Repeat(fmt.Sprintf("Some words %d that say little. ", i), 12), i)
	}
	b.WriteString("</main><script>window.data = " + strings.Repeat("{\"a\":1,\"b\":[2,3]},", 300) + "</script></body></html>\n")
	return []byte(b.String())
}

// serve sends a page through traps in pieces of 32 KiB, as package upstream does, and reports whether it went well.
func serve(traps *Traps, w *sink, r *http.Request, body []byte) error {
	page, ok := traps.Wrap(w, r)
	if !ok {
		return fmt.Errorf("not wrapped")
	}
	defer page.Release()
	page.WriteHeader(200)
	for len(body) > 0 {
		n := min(32<<10, len(body))
		if _, err := page.Write(body[:n]); err != nil {
			return err
		}
		body = body[n:]
	}
	return page.Close()
}

func BenchmarkPage(b *testing.B) {
	traps := newTraps(b)
	text := article()
	for _, coding := range []string{"identity", "gzip"} {
		body := text
		if coding == "gzip" {
			body = zip(b, string(text))
		}
		b.Run(coding, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			r := httptest.NewRequest("GET", "/a", nil)
			w := &sink{header: http.Header{"Content-Type": {"text/html; charset=utf-8"}, "Content-Encoding": {coding}}}
			for b.Loop() {
				if err := serve(traps, w, r, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSmallPage(b *testing.B) {
	traps := newTraps(b)
	b.ReportAllocs()
	r := httptest.NewRequest("GET", "/a", nil)
	w := &sink{header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}}
	for b.Loop() {
		if err := serve(traps, w, r, []byte(page)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	text := article()
	text = bytes.Replace(text, []byte("</body>"), nil, 1) // so that it is read to its end
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var s scanner
		s.scan(text)
	}
}

func BenchmarkUntouched(b *testing.B) {
	traps := newTraps(b)
	b.ReportAllocs()
	r := httptest.NewRequest("GET", "/a.png", nil)
	w := &sink{header: http.Header{"Content-Type": {"image/png"}}}
	for b.Loop() {
		if err := serve(traps, w, r, []byte(page)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAPageThatIsNotCompressedAllocatesNothing(t *testing.T) {
	race.SkipAllocations(t)
	traps := newTraps(t)
	text := article()
	for _, header := range []http.Header{{"Content-Type": {"text/html; charset=utf-8"}, "Cache-Control": {"private, max-age=0"}}, {"Content-Type": {"image/png"}}} {
		r := httptest.NewRequest("GET", "/a", nil)
		r.Header["Accept-Encoding"] = []string{"gzip, deflate, br, zstd"}
		w := &sink{header: header}
		if n := testing.AllocsPerRun(200, func() {
			r.Header["Accept-Encoding"][0] = "gzip, deflate, br, zstd"
			if err := serve(traps, w, r, text); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%v: %g allocations", header, n)
		}
	}
}

func TestACompressedPageAllocatesOnlyItsCoroutine(t *testing.T) {
	race.SkipAllocations(t)
	traps := newTraps(t)
	body := zip(t, string(article()))
	r := httptest.NewRequest("GET", "/a", nil)
	w := &sink{header: http.Header{"Content-Type": {"text/html"}, "Content-Encoding": {"gzip"}}}
	if n := testing.AllocsPerRun(200, func() {
		if err := serve(traps, w, r, body); err != nil {
			t.Fatal(err)
		}
	}); n > 40 {
		t.Errorf("%g allocations", n)
	}
}

// BenchmarkZippedMemory is what one compressed page that is under way holds.
func BenchmarkZippedMemory(b *testing.B) {
	b.ReportAllocs()
	body := zip(b, string(article()))
	for b.Loop() {
		z := newZipped()
		z.begin(&sink{}, func() []byte { return nil })
		if err := z.write(body); err != nil {
			b.Fatal(err)
		}
		if err := z.end(); err != nil && err != io.EOF {
			b.Fatal(err)
		}
		z.release()
	}
}
