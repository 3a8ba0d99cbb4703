package simulate

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func rngOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func TestPageIsReadAsABrowserDoes(t *testing.T) {
	t.Parallel()
	p := parsePage(mustURL("https://wiki.example.org/wiki/Hedge?x=1"), []byte(`<!doctype html><html><head>
		<link rel="stylesheet" href="/static/style.css"><link rel="alternate" href="/feed.xml"><link rel="shortcut icon" href="/favicon.ico">
		<SCRIPT SRC="../static/site.js" defer></SCRIPT><script>"<a href='/not'>"</script>
		<meta http-equiv="Refresh" content="2;url=/.quickthorn/pass?token=a&amp;to=%2F">
		<body><a href="Thorn#top">1</a><a href="/w/index.php?a=1&amp;b=2">2</a><a href="Thorn">again</a><a href="https://other.example/">3</a><a href="mailto:a@b">4</a>
		<a href="#here">5</a><img src="a.png"><img src="a.png"><img src="data:image/png;base64,AAAA"><!-- <a href="/comment"> -->`))
	want := &page{
		links: []string{"/wiki/Thorn", "/w/index.php?a=1&b=2"},
		parts: []part{
			{"/static/style.css", "style"}, {"/favicon.ico", "image"}, {"/static/site.js", "script"}, {"/wiki/a.png", "image"},
		},
		refresh: &refresh{2 * time.Second, "/.quickthorn/pass?token=a&to=%2F"},
	}
	if diff := cmp.Diff(want, p, cmp.AllowUnexported(page{}, part{}, refresh{})); diff != "" {
		t.Error(diff)
	}
	sheet := parseSheet(mustURL("https://wiki.example.org/static/style.css"), []byte(`@font-face{src:url("serif.woff2")} a{background:url( /i.png )} b{background:url(https://other.example/x.png)} url(`))
	if diff := cmp.Diff([]part{{"/static/serif.woff2", "font"}, {"/i.png", "image"}}, sheet, cmp.AllowUnexported(part{})); diff != "" {
		t.Error(diff)
	}
}

func TestRefreshesAreReadAsBrowsersDo(t *testing.T) {
	t.Parallel()
	base := mustURL("https://wiki.example.org/a?b=1")
	for in, want := range map[string]*refresh{
		"5":                            {5 * time.Second, "/a?b=1"},
		"0;url=/x":                     {0, "/x"},
		" 1.5 ; URL='x?y=1' ":          {1500 * time.Millisecond, "/x?y=1"},
		"2; /plain":                    {2 * time.Second, "/plain"},
		"0;url=https://other.example/": nil,
		"-1;url=/x":                    nil,
		"NaN;url=/x":                   nil,
		"1e9;url=/x":                   nil,
		"soon":                         nil,
		"":                             nil,
	} {
		if diff := cmp.Diff(want, parseRefresh(base, in), cmp.AllowUnexported(refresh{})); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

func TestCookiesAreKeptByPath(t *testing.T) {
	t.Parallel()
	var j jar
	j.keep(http.Header{"Set-Cookie": {"a=1; Path=/.quickthorn/", "b=2; Path=/; Secure", "c=3", "junk", "d=4; Path=/; Max-Age=0"}})
	j.keep(http.Header{"Set-Cookie": {"c=5; HttpOnly"}})
	for _, tt := range []struct{ path, scheme, want string }{
		{"/.quickthorn/pass", "https", "a=1; b=2; c=5"}, {"/wiki/a", "https", "b=2; c=5"}, {"/wiki/a", "http", "c=5"}, {"/.quickthornx", "http", "c=5"},
	} {
		if got := j.line(tt.path, tt.scheme); got != tt.want {
			t.Errorf("%s over %s: %q, want %q", tt.path, tt.scheme, got, tt.want)
		}
	}
	j.keep(http.Header{"Set-Cookie": {"b=; Path=/; Max-Age=-1", "c=; Max-Age=0"}})
	if got := j.line("/", "https"); got != "" {
		t.Errorf("after deletion: %q", got)
	}
}

func TestChromiumsHintsAreThoseOfItsVersion(t *testing.T) {
	t.Parallel()
	// Recorded from Chrome 141.
	if got, want := brandList(141, "Google Chrome", 141), `"Google Chrome";v="141", "Not?A_Brand";v="8", "Chromium";v="141"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSiteHasEveryPageThatItLinksTo(t *testing.T) {
	t.Parallel()
	s := NewSite(3)
	waiting, seen := []string{"/", "/robots.txt", "/feed.xml", "/favicon.ico"}, map[string]bool{}
	rng := rngOf(1)
	for range 200 {
		waiting = append(waiting, s.deepTarget(rng), s.popularTarget(rng))
	}
	classes := map[class]int{}
	for len(waiting) > 0 && len(seen) < 4000 {
		target := waiting[0]
		if waiting = waiting[1:]; seen[target] {
			continue
		}
		seen[target] = true
		r := &http.Request{Method: "GET", URL: mustURL("https://wiki.example.org" + target), Host: "wiki.example.org", Header: http.Header{}}
		rec := &recorder{header: http.Header{}}
		rec.serve(s, r)
		a := s.find(target)
		classes[a.class]++
		if rec.status != http.StatusOK || a.class == classMissing || s.Cost(target) <= 0 {
			t.Fatalf("%s: %d", target, rec.status)
		}
		again := &recorder{header: http.Header{}}
		r.Header = http.Header{"If-None-Match": {rec.sent.Get("Etag")}}
		again.serve(s, r)
		if again.status != http.StatusNotModified || again.body.Len() != 0 {
			t.Errorf("%s again: %d", target, again.status)
		}
		if strings.HasPrefix(rec.sent.Get("Content-Type"), "text/html") {
			p := parsePage(r.URL, rec.body.Bytes())
			if len(p.links) < 3 || len(p.parts) < 4 {
				t.Errorf("%s has %d links and %d parts", target, len(p.links), len(p.parts))
			}
			waiting = append(waiting, p.links...)
			for _, part := range p.parts {
				waiting = append(waiting, part.target)
			}
		}
	}
	if len(classes) < 14 {
		t.Errorf("only %d kinds of page: %v", len(classes), classes)
	}
	for target, want := range map[string]int{
		"/wiki/Nowhere": 404, "/items/0": 404, "/items/8001": 404, "/items/?page=99999": 404, "/w/index.php?title=x&oldid=1": 404,
		"/garden/hedge/commit/xyz": 404, "/static/img/300.jpg": 404, "/static/img/x": 404,
	} {
		rec := &recorder{header: http.Header{}}
		rec.serve(s, &http.Request{Method: "GET", URL: mustURL("https://wiki.example.org" + target), Header: http.Header{}})
		if rec.status != want {
			t.Errorf("%s: %d, want %d", target, rec.status, want)
		}
	}
}

func FuzzParsePage(f *testing.F) {
	f.Add([]byte(NewSite(1).page(address{class: classArticle, n: 1})))
	f.Add([]byte(`<meta http-equiv=refresh content="0;url=//x"><a href=%zz><img src="\\x"><link rel=icon href=javascript:x>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		base := mustURL("https://wiki.example.org/a/b?c")
		p := parsePage(base, body)
		if len(p.links) > maxLinks || len(p.parts) > maxParts {
			t.Fatalf("%d links, %d parts", len(p.links), len(p.parts))
		}
		targets := append([]string(nil), p.links...)
		for _, part := range append(p.parts, parseSheet(base, body)...) {
			targets = append(targets, part.target)
		}
		if p.refresh != nil {
			targets = append(targets, p.refresh.target)
		}
		for _, target := range targets {
			if target == "" || target[0] != '/' && target != "*" {
				t.Fatalf("target %q", target)
			}
			q := &Request{Scheme: "https", Host: "wiki.example.org", Target: target}
			if u := q.url(); u.Host != "wiki.example.org" {
				t.Fatalf("%q leads to %s", target, u)
			}
			if _, err := http.NewRequest("GET", q.url().String(), nil); err != nil {
				t.Fatalf("%q cannot be asked for: %v", target, err)
			}
		}
	})
}
