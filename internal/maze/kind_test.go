package maze

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestAnAddressSaysWhatItLeadsTo(t *testing.T) {
	m := newMaze(t, Options{Streams: 40, Archives: 40})
	stream := prefix + "docs/" + string(m.appendToken([]byte("some-title-"), ref{role: roleStream, depth: 3})) + ".html"
	for path, want := range map[string]Kind{
		"": KindPage, "/": KindPage, prefix: KindPage, "/blog/post": KindPage, "/a.html": KindPage, "/a.php": KindPage, "/v1.2/notes": KindPage,
		"/feed": KindFeed, "/feed/": KindFeed, "/blog/rss": KindFeed, "/feed.xml": KindFeed, "/x/atom.xml": KindFeed, "/a.rss": KindFeed, "/FEED.XML": KindFeed,
		"/sitemap.xml": KindSitemap, "/sitemap_index.xml": KindSitemap, prefix + "sitemap-12.xml": KindSitemap, "/Sitemap.XML": KindSitemap,
		"/a.json": KindJSON, "/api/v1/posts": KindJSON, "/wp-json/wp/v2/posts": KindJSON, prefix + "api/items/x": KindJSON, "/apiary": KindPage,
		"/a.png": KindImage, "/a.JPG": KindImage, "/a.svg": KindImage, "/favicon.ico": KindImage, "/a.webp": KindImage,
		"/a.css": KindStyle, "/a.js": KindScript, "/a.mjs": KindScript,
		"/dump.zip": KindArchive, "/a.tar.gz": KindArchive, "/a.TAR.GZ": KindArchive, "/a.gz": KindPage, "/data.jsonl": KindArchive, "/data.csv": KindArchive,
		stream: KindStream, stream + "/": KindStream, strings.TrimPrefix(stream, prefix): KindPage, "/elsewhere" + stream: KindPage,
		"/robots.txt": KindPage, "/\x00\xff%zz": KindPage, "/.": KindPage, "/a.": KindPage, strings.Repeat("/x", 5000) + ".css": KindStyle,
	} {
		if got := m.Kind(path); got != want {
			t.Errorf("%q is of kind %v, want %v", path, got, want)
		}
	}
	none := newMaze(t, Options{})
	for _, path := range []string{stream, "/dump.zip", prefix + "files/x.csv"} {
		if got := none.Kind(path); got != KindPage {
			t.Errorf("%q is of kind %v where there are no streams and archives", path, got)
		}
	}
}

func TestATokenIsReadAgain(t *testing.T) {
	m := newMaze(t, Options{})
	r := rand.NewPCG(1, 2)
	for range 2000 {
		f := ref{role: role(below(r, int(roles))), depth: uint16(r.Uint64()), day: uint16(below(r, days)), nonce: uint16(r.Uint64())}
		for _, path := range []string{
			prefix + string(m.appendToken([]byte("a-b-"), f)), prefix + string(m.appendToken(nil, f)) + ".html", prefix + "x/" + string(m.appendToken(nil, f)) + "/",
			prefix + "commit/" + string(m.appendHash(nil, f)), prefix + "w/A_" + string(m.appendToken(nil, f)) + ".tar.gz",
		} {
			if got, ok := m.find(path); !ok || got != f {
				t.Fatalf("%s is read as %+v, %v, want %+v", path, got, ok, f)
			}
			if m.Depth(path) != int(f.depth) {
				t.Fatalf("%s lies at depth %d, want %d", path, m.Depth(path), f.depth)
			}
		}
	}
}

func TestATokenIsNobodyElses(t *testing.T) {
	m, other := newMaze(t, Options{}), newMaze(t, Options{Seed: []byte("a seed of somebody else")})
	r := rand.NewPCG(1, 2)
	known := 0
	for range 20000 {
		if _, ok := m.find(prefix + string(other.appendToken(nil, ref{role: rolePage, depth: 5, nonce: uint16(r.Uint64())}))); ok {
			known++
		}
	}
	if known > 3 { // one in 65,536, and of those 11 in 16
		t.Errorf("%d of 20,000 tokens of another seed are taken for our own", known)
	}
	hash := m.appendHash(nil, ref{depth: 5})
	hash[hashLen-1] ^= 1
	if _, ok := m.find(prefix + string(hash)); ok {
		t.Error("a hash with a wrong end is taken for our own")
	}
}

// Tokens must not change with the version of the program, or links that were given out lead elsewhere.
func TestTokensStayTheSame(t *testing.T) {
	m := newMaze(t, Options{})
	if got, want := string(m.appendToken(nil, ref{role: roleList, depth: 7, day: 100, nonce: 12345})), "jc5bpavrt3v3c"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAddressesDoNotGrowWithDepth(t *testing.T) {
	for _, s := range chosen {
		m := newMaze(t, Options{Skin: s, Streams: 40, Archives: 40})
		r := rand.NewPCG(3, 4)
		path := prefix
		longest := 0
		depth := 0
		steps := 1500
		if s == SkinWiki { // the others make addresses by the same means
			steps = 10000
		}
		for range steps {
			_, body := fetch(m, path)
			next := ""
			for _, u := range hrefs(body) {
				longest = max(longest, len(u))
				if d := m.Depth(u); strings.HasPrefix(u, prefix) && d > depth && m.Kind(u) == KindPage && (next == "" || oneIn(r, 3)) {
					next = u
				}
			}
			if next == "" {
				t.Fatalf("%s: %s at depth %d leads no deeper", s, path, depth)
			}
			path, depth = next, m.Depth(next)
		}
		if longest >= 200 || depth < steps {
			t.Errorf("%s: the longest address has %d bytes at depth %d", s, longest, depth)
		}
	}
	m := newMaze(t, Options{})
	deepest := prefix + string(m.appendToken([]byte("x-"), ref{depth: 1<<16 - 1}))
	_, body := fetch(m, deepest)
	for _, u := range hrefs(body) {
		if d := m.Depth(u); d > 1<<16-1 {
			t.Errorf("%s lies at depth %d", u, d)
		}
	}
	if !strings.Contains(body, "</html>") {
		t.Error("the deepest page is none")
	}
}

func TestDepthBelowThePrefix(t *testing.T) {
	m := newMaze(t, Options{})
	for path, want := range map[string]int{"/": 0, "": 0, "/blog/x": 0, prefix: 1, prefix + "some-slug": 1, prefix[:len(prefix)-1]: 0} {
		if got := m.Depth(path); got != want {
			t.Errorf("%q lies at depth %d, want %d", path, got, want)
		}
	}
	for _, u := range hrefs(second(fetch(m, "/blog/x"))) {
		if d := m.Depth(u); strings.HasPrefix(u, prefix) && d != 1 {
			t.Errorf("from outside %s lies at depth %d", u, d)
		}
	}
}

func TestSomeLinksLeadToStreamsAndArchives(t *testing.T) {
	for _, s := range chosen {
		m := newMaze(t, Options{Skin: s, Streams: 40, Archives: 40})
		all, kinds := 0, map[Kind]int{}
		for i := range 400 {
			_, body := fetch(m, fmt.Sprintf("%sp%d", prefix, i))
			for _, u := range hrefs(body) {
				if strings.HasPrefix(u, prefix) {
					all++
					kinds[m.Kind(u)]++
				}
			}
		}
		t.Logf("%s: %d links: %v", s, all, kinds)
		for _, k := range []Kind{KindStream, KindArchive} {
			if n := kinds[k]; n*40 < all/10 || n*40 > all*2 {
				t.Errorf("%s: %d of %d links lead to a %v", s, n, all, k)
			}
		}
		none := newMaze(t, Options{Skin: s})
		for _, u := range hrefs(second(fetch(none, prefix+"p1"))) {
			if k := m.Kind(u); strings.HasPrefix(u, prefix) && k != KindPage {
				t.Errorf("%s: %s leads to a %v where there is none", s, u, k)
			}
		}
	}
}
