package maze

import (
	"bytes"
	"fmt"
	"github.com/quickthorn/quickthorn/internal/prose"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/race"
)

var seed = []byte("a seed that nobody else knows")

const prefix = "/archive-k3p7/"

// chosen are the skins that need no likeness.
var chosen = []Skin{SkinWiki, SkinForge, SkinShop, SkinDocs, SkinForum}

func newMaze(t testing.TB, o Options) *Maze {
	t.Helper()
	if o.Seed == nil {
		o.Seed = seed
	}
	if o.Prefix == "" {
		o.Prefix = prefix
	}
	if o.Text == nil {
		o.Text = newPlainText()
	}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func request(path string) *Request {
	path, query, _ := strings.Cut(path, "?")
	return &Request{Site: "gazette", Scheme: "https", Host: "www.example.org", Path: path, Query: query}
}

// fetch returns the page at a path with its query.
func fetch(m *Maze, path string) (Page, string) {
	p, b := m.Page(nil, request(path))
	return p, string(b)
}

// hrefs returns the addresses that a page links to, without those of its style sheet and feed.
func hrefs(body string) []string {
	var all []string
	for {
		_, after, ok := strings.Cut(body, "<a ")
		if !ok {
			return all
		}
		tag, rest, _ := strings.Cut(after, ">")
		_, value, _ := strings.Cut(tag, `href="`)
		value, _, _ = strings.Cut(value, `"`)
		if value != "" && value[0] != '#' {
			all = append(all, value)
		}
		body = rest
	}
}

func TestOptionsThatCannotBeAreSaidToBeWrong(t *testing.T) {
	good := Options{Seed: seed, Prefix: prefix, Text: newPlainText()}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"the seed has 5 bytes":       func(o *Options) { o.Seed = []byte("short") },
		`prefix "archive/"`:          func(o *Options) { o.Prefix = "archive/" },
		`prefix "/archive"`:          func(o *Options) { o.Prefix = "/archive" },
		`prefix "/"`:                 func(o *Options) { o.Prefix = "/" },
		`prefix "/a//b/"`:            func(o *Options) { o.Prefix = "/a//b/" },
		`prefix "/a\"><script>/"`:    func(o *Options) { o.Prefix = `/a"><script>/` },
		"there is no text":           func(o *Options) { o.Text = nil },
		"one link in -1":             func(o *Options) { o.Streams = -1 },
		`skin "dungeon" is unknown`:  func(o *Options) { o.Skin = "dungeon" },
		"needs a likeness":           func(o *Options) { o.Skin = SkinLearnt },
		`language "en\""`:            func(o *Options) { o.Language = `en"` },
		`way out "javascript:x()"`:   func(o *Options) { o.WayOut = "javascript:x()" },
		`way out "//elsewhere.test"`: func(o *Options) { o.WayOut = "//elsewhere.test" },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}

func TestAPageIsAFunctionOfItsAddressAlone(t *testing.T) {
	for _, s := range chosen {
		one, other := newMaze(t, Options{Skin: s, Streams: 40, Archives: 40}), newMaze(t, Options{Skin: s, Streams: 40, Archives: 40})
		paths := []string{prefix, "/", "/blog/how-to", prefix + "feed.xml", prefix + "sitemap.xml", "/api/posts", prefix + "media/a.png", prefix + "x?page=7"}
		for _, p := range paths {
			fetch(other, p+"z") // what came before does not matter
			a, body := fetch(one, p)
			b, again := fetch(other, p)
			if a != b || body != again {
				t.Errorf("%s: %s differs from one process to another", s, p)
			}
		}
		for name, change := range map[string]func(*Request){
			"site": func(q *Request) { q.Site = "x" }, "host": func(q *Request) { q.Host = "example.net" },
			"path": func(q *Request) { q.Path += "x" }, "query": func(q *Request) { q.Query = "page=2" },
		} {
			q := request(prefix + "x")
			_, a := one.Page(nil, q)
			change(q)
			if _, b := one.Page(nil, q); bytes.Equal(a, b) {
				t.Errorf("%s: another %s has the same page", s, name)
			}
		}
		if _, a := fetch(one, prefix); a == second(fetch(newMaze(t, Options{Seed: []byte("a seed of somebody else"), Skin: s}), prefix)) {
			t.Errorf("%s: another seed has the same page", s)
		}
	}
}

func second(_ Page, body string) string { return body }

func TestTheBodyIsAppended(t *testing.T) {
	m := newMaze(t, Options{})
	_, b := m.Page([]byte("before"), request(prefix))
	if _, want := fetch(m, prefix); string(b) != "before"+want && len(b) != len("before")+len(want) {
		t.Error("what was there before is gone or changes the page")
	}
}

func TestHeadersArePlausible(t *testing.T) {
	m := newMaze(t, Options{})
	tags := map[string]bool{}
	var delays []time.Duration
	for i := range 500 {
		p, body := fetch(m, fmt.Sprintf("%spage-%d", prefix, i))
		if p.Status != 200 || p.Kind != KindPage || p.ContentType != "text/html; charset=utf-8" {
			t.Fatalf("%+v", p)
		}
		if p.Modified.After(newest.AddDate(0, 0, 1)) || p.Modified.Before(newest.AddDate(-12, 0, 0)) || p.Modified.Nanosecond() != 0 {
			t.Errorf("modified %v", p.Modified)
		}
		if len(p.ETag) != 26 || tags[p.ETag] {
			t.Errorf("tag %s is not one page's own", p.ETag)
		}
		tags[p.ETag] = true
		delays = append(delays, p.Delay)
		if len(body) < 2000 || len(body) > 300<<10 {
			t.Errorf("a page of %d bytes", len(body))
		}
	}
	var sum time.Duration
	for _, d := range delays {
		if d < 18*time.Millisecond || d > 2400*time.Millisecond {
			t.Errorf("delay %v", d)
		}
		sum += d
	}
	if mean := sum / 500; mean < 60*time.Millisecond || mean > 400*time.Millisecond {
		t.Errorf("the mean delay is %v", mean)
	}
}

func TestEveryPageShowsPeopleTheWayOut(t *testing.T) {
	for _, s := range chosen {
		m := newMaze(t, Options{Skin: s, WayOut: "/help?a=1&b=2", WayOutText: `People & "others": this way`})
		for _, way := range []struct{ asked, want string }{
			{"", `href="/help?a=1&amp;b=2"`},
			{"/.quickthorn/way-out", `href="/.quickthorn/way-out"`},
			{"https://example.org/x", `href="https://example.org/x"`},
			{"javascript:alert(1)", `href="/help?a=1&amp;b=2"`},
			{`/"><script>`, `href="/&#34;&gt;&lt;script&gt;"`},
			{"//elsewhere.test/", `href="/help?a=1&amp;b=2"`},
		} {
			q := request(prefix + "wiki/x")
			q.WayOut = way.asked
			_, b := m.Page(nil, q)
			main, _, _ := strings.Cut(string(b), "</main>")
			if !strings.Contains(main, "<a "+way.want+">People &amp; &#34;others&#34;: this way</a>") {
				t.Errorf("%s: way out %q: there is no link with %s in the main part", s, way.asked, way.want)
			}
		}
	}
}

func TestPageAllocatesLittle(t *testing.T) {
	race.SkipAllocations(t)
	for _, s := range chosen {
		m := newMaze(t, Options{Skin: s, Streams: 40, Archives: 40})
		buf := make([]byte, 0, 512<<10)
		q := request(prefix + "docs/a")
		m.Page(buf, q)
		// The tag, and the scratch space of a writer when the collector has taken the last one.
		if n := testing.AllocsPerRun(200, func() { m.Page(buf[:0], q) }); n > 4 {
			t.Errorf("%s: %v allocations a page", s, n)
		}
	}
}

func TestKindAndDepthDoNotAllocate(t *testing.T) {
	race.SkipAllocations(t)
	m := newMaze(t, Options{Streams: 40, Archives: 40})
	path := prefix + "docs/" + string(m.appendToken([]byte("a-title-"), ref{role: roleStream, depth: 9})) + ".html"
	if n := testing.AllocsPerRun(100, func() { m.Kind(path); m.Depth(path) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkPage makes pages: with text that costs little, and with that of the built-in model.
func BenchmarkPage(b *testing.B) {
	model, err := prose.Builtin()()
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]Text{"plain": newPlainText(), "prose": model} {
		for _, s := range chosen {
			b.Run(name+"/"+string(s), func(b *testing.B) {
				m := newMaze(b, Options{Skin: s, Streams: 40, Archives: 40, Text: text})
				var buf []byte
				q := request("")
				b.ReportAllocs()
				bytes := 0
				for i := 0; b.Loop(); i++ {
					q.Path = prefix + "docs/page-" + string(rune('a'+i%26)) + string(rune('a'+i/26%26))
					_, buf = m.Page(buf[:0], q)
					bytes += len(buf)
				}
				b.ReportMetric(float64(bytes)/float64(b.N), "bytes/page")
				b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(bytes)*10240, "µs/10KiB")
			})
		}
	}
}

func BenchmarkKindAndDepth(b *testing.B) {
	m := newMaze(b, Options{Streams: 40, Archives: 40})
	path := prefix + "docs/" + string(m.appendToken([]byte("a-title-of-some-length-"), ref{role: roleStream, depth: 9})) + ".html"
	b.ReportAllocs()
	for b.Loop() {
		m.Kind(path)
		m.Depth(path)
	}
}
