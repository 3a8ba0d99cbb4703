package trap

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

const page = "<!doctype html><title>a</title><body><p>b</p></body></html>\n"

// paged returns page with the links that it gets at a path.
func paged(traps *Traps, path string) string {
	return strings.Replace(page, "</body>", linksOf(traps, path)+"</body>", 1)
}

func zip(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unzip(t testing.TB, b []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// exchange is a site behind traps, with nothing between.
func exchange(t testing.TB, traps *Traps, site http.HandlerFunc, r *http.Request) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	page, ok := traps.Wrap(w, r)
	if !ok {
		site(w, r)
		return w.Result()
	}
	defer page.Release()
	site(page, r)
	if err := page.Close(); err != nil {
		t.Error(err)
	}
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOnlyPagesGetLinks(t *testing.T) {
	traps := newTraps(t)
	const html = "text/html; charset=utf-8"
	type fields map[string]string
	for _, c := range []struct {
		name    string
		method  string
		status  int
		header  fields
		changed bool
	}{
		{"a page", "GET", 200, fields{"Content-Type": html}, true},
		{"a copy of a page", "GET", 203, fields{"Content-Type": html}, true},
		{"without a charset", "GET", 200, fields{"Content-Type": "text/html"}, true},
		{"in capitals", "GET", 200, fields{"Content-Type": "Text/HTML ; Charset = \"UTF-8\""}, true},
		{"in Latin 1", "GET", 200, fields{"Content-Type": "text/html;charset=iso-8859-1"}, true},
		{"in the Windows kind of Cyrillic", "GET", 200, fields{"Content-Type": "text/html;charset=windows-1251"}, true},
		{"that is said to be as it is", "GET", 200, fields{"Content-Type": html, "Content-Encoding": "identity"}, true},
		{"to be shown in place", "GET", 200, fields{"Content-Type": html, "Content-Disposition": "inline"}, true},
		{"that may be cached", "GET", 200, fields{"Content-Type": html, "Cache-Control": "public, max-age=60"}, true},
		{"not an answer to a form", "POST", 200, fields{"Content-Type": html}, false},
		{"not an error", "GET", 404, fields{"Content-Type": html}, false},
		{"not a part of a page", "GET", 206, fields{"Content-Type": html}, false},
		{"nor what says so", "GET", 200, fields{"Content-Type": html, "Content-Range": "bytes 0-1/2"}, false},
		{"not XHTML", "GET", 200, fields{"Content-Type": "application/xhtml+xml"}, false},
		{"not a type that begins alike", "GET", 200, fields{"Content-Type": "text/htmlx"}, false},
		{"nor one that is not said", "GET", 200, fields{}, false},
		{"not UTF-16", "GET", 200, fields{"Content-Type": "text/html; charset=utf-16le"}, false},
		{"nor UTF-7", "GET", 200, fields{"Content-Type": "text/html; charset=UTF-7"}, false},
		{"nor a charset with states", "GET", 200, fields{"Content-Type": "text/html; charset=iso-2022-jp"}, false},
		{"not what must not be transformed", "GET", 200, fields{"Content-Type": html, "Cache-Control": "public, No-Transform"}, false},
		{"not a file to keep", "GET", 200, fields{"Content-Type": html, "Content-Disposition": `attachment; filename="a.html"`}, false},
		{"not what has a checksum", "GET", 200, fields{"Content-Type": html, "Content-Md5": "x"}, false},
		{"or a digest", "GET", 200, fields{"Content-Type": html, "Repr-Digest": "sha-256=:x:"}, false},
		{"or one in the trailer", "GET", 200, fields{"Content-Type": html, "Trailer": "X, content-digest"}, false},
		{"or a signature", "GET", 200, fields{"Content-Type": html, "Signature": "a=:x:"}, false},
		{"not what is coded otherwise", "GET", 200, fields{"Content-Type": html, "Content-Encoding": "br"}, false},
		{"nor coded twice", "GET", 200, fields{"Content-Type": html, "Content-Encoding": "gzip, gzip"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := exchange(t, traps, func(w http.ResponseWriter, r *http.Request) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.Header().Set("ETag", `"x"`)
				w.Header().Set("Accept-Ranges", "bytes")
				w.Header().Set("Content-Length", strconv.Itoa(len(page)))
				w.WriteHeader(c.status)
				io.WriteString(w, page)
			}, httptest.NewRequest(c.method, "/a", nil))
			want, tag, length, ranges := page, `"x"`, strconv.Itoa(len(page)), "bytes"
			if c.changed {
				want, tag, length, ranges = paged(traps, "/a"), `"x`+traps.suffix+`"`, "", ""
			}
			if b := body(t, got); b != want {
				t.Errorf("body %q, want %q", b, want)
			}
			if h := got.Header; h.Get("ETag") != tag || h.Get("Content-Length") != length || h.Get("Accept-Ranges") != ranges || got.StatusCode != c.status {
				t.Errorf("status %d, header %v", got.StatusCode, h)
			}
		})
	}
}

func TestAHeadIsAnsweredAsTheGetWouldBe(t *testing.T) {
	traps := newTraps(t)
	got := exchange(t, traps, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("ETag", `"x"`)
		w.WriteHeader(200)
	}, httptest.NewRequest("HEAD", "/a", nil))
	if b := body(t, got); b != "" || got.Header.Get("Content-Length") != "" || got.Header.Get("ETag") != `W/"x`+traps.suffix+`"` {
		t.Errorf("%q, %v", b, got.Header)
	}
}

func TestTheUpstreamIsAskedForWhatCanBeRead(t *testing.T) {
	traps := newTraps(t)
	for _, c := range []struct {
		name   string
		accept []string
		want   string
		ok     bool
	}{
		{"nothing said is nothing said", nil, "", true},
		{"what a browser accepts", []string{"gzip, deflate, br, zstd"}, "gzip", true},
		{"in several lines", []string{"br", "gzip;q=0.5"}, "gzip", true},
		{"under its old name", []string{"X-Gzip"}, "gzip", true},
		{"anything", []string{"*"}, "gzip", true},
		{"anything but gzip", []string{"*, gzip;q=0"}, "identity", true},
		{"neither br nor gzip", []string{"br, deflate"}, "identity", true},
		{"an empty line", []string{""}, "identity", true},
		{"gzip and nothing else", []string{"gzip, *;q=0"}, "gzip, identity;q=0", true},
		{"no coding is refused", []string{"gzip ; Q = 0.8, identity;q=0"}, "gzip, identity;q=0", true},
		{"a broken quality is a refusal", []string{"gzip;q=x"}, "identity", true},
		{"nothing that can be read", []string{"br, identity;q=0"}, "br, identity;q=0", false},
		{"nothing at all", []string{"*;q=0.000"}, "*;q=0.000", false},
	} {
		r := httptest.NewRequest("GET", "/a", nil)
		if c.accept != nil {
			r.Header["Accept-Encoding"] = c.accept
		}
		w, ok := traps.Wrap(httptest.NewRecorder(), r)
		if got := strings.Join(r.Header["Accept-Encoding"], "|"); got != c.want || ok != c.ok {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, ok, c.want, c.ok)
		}
		if ok {
			w.Release()
		}
	}
}

func TestCompressedPagesGetLinks(t *testing.T) {
	traps := newTraps(t)
	plain := func(b []byte) string { return unzip(t, b) }
	raw := func(b []byte) string { return string(b) }
	zipped := zip(t, page)
	large := "<html><body>" + strings.Repeat("<p>Some text that is rather long, and again.</p>\n", 20_000)
	for _, c := range []struct {
		name, coding string
		body         []byte
		read         func([]byte) string
		want         string
	}{
		{"a page", "gzip", zipped, plain, paged(traps, "/a")},
		{"under the old name", "x-gzip", zipped, plain, paged(traps, "/a")},
		{"a large page", "gzip", zip(t, large), plain, large + linksOf(traps, "/a")},
		{"in two members", "gzip", append(zip(t, page[:50]), zip(t, page[50:])...), plain, paged(traps, "/a")},
		{"with zeros behind it", "gzip", append(bytes.Clone(zipped), make([]byte, 50)...), plain, paged(traps, "/a")},
		{"an empty page", "gzip", zip(t, ""), plain, ""},
		{"an empty body", "gzip", nil, raw, ""},
		{"a page that is not compressed after all", "gzip", []byte(page), raw, page},
		{"one that is too short to be", "gzip", []byte("\x1f\x8b"), raw, "\x1f\x8b"},
	} {
		for _, size := range []int{1, 2, 3, 7, 100, 1 << 20} {
			got := exchange(t, traps, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Content-Encoding", c.coding)
				for b := c.body; len(b) > 0; {
					n := min(size, len(b))
					if m, err := w.Write(b[:n]); m != n || err != nil {
						t.Fatalf("%s: Write: %d, %v", c.name, m, err)
					}
					b = b[n:]
				}
			}, httptest.NewRequest("GET", "/a", nil))
			if text := c.read([]byte(body(t, got))); text != c.want || got.Header.Get("Content-Encoding") != c.coding {
				t.Fatalf("%s in pieces of %d: %.200q, want %.200q", c.name, size, text, c.want)
			}
		}
	}
}

func TestADamagedPageStaysDamaged(t *testing.T) {
	traps := newTraps(t)
	zipped := zip(t, "<html>"+strings.Repeat("abcdefgh", 100))
	wrong := bytes.Clone(zipped)
	wrong[len(wrong)-6] ^= 1
	for name, b := range map[string][]byte{"cut off": zipped[:len(zipped)-9], "a checksum is wrong": wrong} {
		w := httptest.NewRecorder()
		page, _ := traps.Wrap(w, httptest.NewRequest("GET", "/a", nil))
		page.Header().Set("Content-Type", "text/html")
		page.Header().Set("Content-Encoding", "gzip")
		_, err := page.Write(b)
		if err == nil {
			err = page.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "gzip is damaged") {
			t.Errorf("%s: error %v", name, err)
		}
		page.Release()
		r, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(r); err != io.ErrUnexpectedEOF || !strings.HasPrefix(string(text), "<html>abcdefgh") {
			t.Errorf("%s: the client reads %.20q, %v", name, text, err)
		}
	}
}

// failing is a client that is gone.
type failing struct{ sink }

func (f *failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// dying is a client whose writer panics, as net/http's may.
type dying struct{ sink }

func (d *dying) Write([]byte) (int, error) { panic(http.ErrAbortHandler) }

func TestAClientThatIsGoneEndsThePage(t *testing.T) {
	traps := newTraps(t)
	text := strings.Repeat("<p>abc", 100_000)
	for _, coding := range []string{"identity", "gzip"} {
		b := []byte(text)
		if coding == "gzip" {
			b = zip(t, text)
		}
		page, _ := traps.Wrap(&failing{sink{header: http.Header{"Content-Type": {"text/html"}, "Content-Encoding": {coding}}}}, httptest.NewRequest("GET", "/a", nil))
		for range 2 {
			if n, err := page.Write(b); n != 0 || err != io.ErrClosedPipe {
				t.Errorf("%s: %d, %v", coding, n, err)
			}
		}
		page.Release()

		page, _ = traps.Wrap(&dying{sink{header: http.Header{"Content-Type": {"text/html"}, "Content-Encoding": {coding}}}}, httptest.NewRequest("GET", "/a", nil))
		func() {
			defer page.Release()
			defer func() {
				if r := recover(); r != http.ErrAbortHandler {
					t.Errorf("%s: panic %v", coding, r)
				}
			}()
			page.Write(b)
		}()
	}
	// What they leave behind is as good as new.
	got := exchange(t, traps, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(zip(t, page))
	}, httptest.NewRequest("GET", "/a", nil))
	if text := unzip(t, []byte(body(t, got))); text != paged(traps, "/a") {
		t.Errorf("%q", text)
	}
}

func TestAPageThatBreaksOffIsGivenUp(t *testing.T) {
	traps := newTraps(t)
	half := zip(t, page)[:30]
	before := runtime.NumGoroutine()
	for range 100 {
		w := httptest.NewRecorder()
		page, _ := traps.Wrap(w, httptest.NewRequest("GET", "/a", nil))
		page.Header().Set("Content-Type", "text/html")
		page.Header().Set("Content-Encoding", "gzip")
		if _, err := page.Write(half); err != nil {
			t.Fatal(err)
		}
		page.Release()
	}
	if after := runtime.NumGoroutine(); after > before+50 {
		t.Errorf("%d coroutines are left", after-before)
	}
}

func TestNoMoreCompressedPagesAreChangedThanThereIsMemoryFor(t *testing.T) {
	traps, err := New(Options{Seed: seed, Compressed: 2})
	if err != nil {
		t.Fatal(err)
	}
	serve := func() (*Writer, http.Header) {
		w, _ := traps.Wrap(httptest.NewRecorder(), httptest.NewRequest("GET", "/a", nil))
		h := w.Header()
		h.Set("Content-Type", "text/html")
		h.Set("Content-Encoding", "gzip")
		h.Set("ETag", `"x"`)
		w.WriteHeader(200)
		return w, h
	}
	for range 3 {
		a, _ := serve()
		b, _ := serve()
		if c, h := serve(); c.mode != untouched || h.Get("ETag") != `"x"` {
			t.Errorf("a third page is changed: %v", h)
		} else {
			c.Release()
		}
		a.Release()
		if d, h := serve(); d.mode != changingZipped || h.Get("ETag") == `"x"` {
			t.Errorf("a page after another is not: %v", h)
		} else {
			d.Release()
		}
		b.Release()
	}
}

// front serves a site through package upstream and traps, as an edge does.
func front(t *testing.T, traps *Traps, site http.HandlerFunc) *httptest.Server {
	t.Helper()
	back := httptest.NewServer(site)
	t.Cleanup(back.Close)
	up, err := upstream.New(upstream.Config{URL: back.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := traps.Wrap(w, r)
		if !ok {
			t.Errorf("%s %s is not wrapped", r.Method, r.URL)
			return
		}
		defer page.Release()
		if _, err := up.Forward(page, r, &upstream.Options{}); err != nil {
			panic(http.ErrAbortHandler)
		}
		if err := page.Close(); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestAPageThatComesInPiecesArrivesInPieces(t *testing.T) {
	traps := newTraps(t)
	for _, coding := range []string{"", "gzip"} {
		t.Run("coding "+coding, func(t *testing.T) {
			arrived := make(chan bool)
			s := front(t, traps, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				send := func(s string) { io.WriteString(w, s) }
				if coding != "" {
					w.Header().Set("Content-Encoding", coding)
					z := gzip.NewWriter(w)
					defer z.Close()
					send = func(s string) { io.WriteString(z, s); z.Flush() }
				}
				for i := range 3 {
					send(fmt.Sprintf("<html><p>%d</p>", i))
					http.NewResponseController(w).Flush()
					<-arrived // it is only sent more when the client has this
				}
				send("</body>")
			})
			r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/a", nil)
			r.Header.Set("Accept-Encoding", "gzip, br")
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			read := io.Reader(resp.Body)
			if coding != "" {
				if read, err = gzip.NewReader(resp.Body); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 3 {
				want := fmt.Sprintf("<html><p>%d</p>", i)
				got := make([]byte, len(want))
				if _, err := io.ReadFull(read, got); err != nil || string(got) != want {
					t.Fatalf("piece %d: %q, %v", i, got, err)
				}
				arrived <- true
			}
			if rest, err := io.ReadAll(read); err != nil || string(rest) != linksOf(traps, "/a")+"</body>" {
				t.Errorf("the rest: %q, %v", rest, err)
			}
		})
	}
}

func TestAConnectionServesOnePageAfterAnother(t *testing.T) {
	traps := newTraps(t)
	zipped := zip(t, page)
	s := front(t, traps, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("ETag", `"x"`)
		if r.Header.Get("If-None-Match") == `"x"` || r.Header.Get("If-None-Match") == `W/"x"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if r.Header.Get("Accept-Encoding") == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Length", strconv.Itoa(len(zipped)))
			w.Write(zipped)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(page)))
		io.WriteString(w, page)
	})
	client := s.Client()
	for i := range 20 {
		path := "/" + strconv.Itoa(i)
		for _, method := range []string{"GET", "HEAD"} {
			for _, coding := range []string{"identity", "gzip"} {
				ask := func(tag string) *http.Response {
					r, _ := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
					r.Header.Set("Accept-Encoding", coding)
					if tag != "" {
						r.Header.Set("If-None-Match", tag)
					}
					resp, err := client.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					return resp
				}
				first := ask("")
				b := body(t, first)
				first.Body.Close()
				switch {
				case method == "HEAD" && b != "", method == "GET" && coding == "identity" && b != paged(traps, path),
					method == "GET" && coding == "gzip" && unzip(t, []byte(b)) != paged(traps, path):
					t.Fatalf("%s %s %s: %q", method, path, coding, b)
				}
				tag := first.Header.Get("ETag")
				second := ask(tag)
				if b := body(t, second); second.StatusCode != http.StatusNotModified || second.Header.Get("ETag") != tag || b != "" {
					t.Fatalf("%s %s %s with %s: %s, ETag %s", method, path, coding, tag, second.Status, second.Header.Get("ETag"))
				}
				second.Body.Close()
			}
		}
	}
}

// FuzzZipped checks that no bytes that are said to be compressed do harm, in whatever pieces.
func FuzzZipped(f *testing.F) {
	f.Add(zip(f, page), uint(20))
	f.Add(append(zip(f, page), zip(f, page)...), uint(1))
	f.Add([]byte("\x1f\x8b\x08"), uint(2))
	f.Add([]byte("\x1f\x8b\x08\x1c\x00\x00\x00\x00\x00\x00\xff\xff"), uint(5))
	traps := newTraps(f)
	f.Fuzz(func(t *testing.T, b []byte, cut uint) {
		at := int(cut % uint(len(b)+1))
		w := httptest.NewRecorder()
		page, _ := traps.Wrap(w, httptest.NewRequest("GET", "/a", nil))
		defer page.Release()
		page.Header().Set("Content-Type", "text/html")
		page.Header().Set("Content-Encoding", "gzip")
		for _, p := range [][]byte{b[:at], b[at:]} {
			if _, err := page.Write(p); err != nil {
				return
			}
			if err := page.FlushError(); err != nil {
				t.Fatal(err)
			}
		}
		if page.Close() != nil {
			return
		}
		if !bytes.HasPrefix(b, []byte("\x1f\x8b\x08")) {
			if !bytes.Equal(w.Body.Bytes(), b) {
				t.Errorf("%q came as %q", b, w.Body)
			}
			return
		}
		if r, err := gzip.NewReader(w.Body); err != nil {
			t.Error(err)
		} else if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
	})
}
