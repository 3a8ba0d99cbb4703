package maze

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"image/png"
	"net/url"
	"strings"
	"testing"
	"time"
)

const base = "https://www.example.org"

// place returns the path of a full address of the maze.
func place(t *testing.T, m *Maze, address string) string {
	t.Helper()
	path, ok := strings.CutPrefix(address, base)
	if !ok || !strings.HasPrefix(path, prefix) {
		t.Fatalf("%q leads out of the maze", address)
	}
	if _, err := url.Parse(address); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFeedsLeadIntoTheMaze(t *testing.T) {
	m := newMaze(t, Options{Skin: SkinDocs})
	p, body := fetch(m, "/feed.xml")
	if p.Kind != KindFeed || p.ContentType != "application/rss+xml; charset=utf-8" {
		t.Errorf("%+v", p)
	}
	var rss struct {
		Channel struct {
			Title string `xml:"title"`
			Next  struct {
				Rel  string `xml:"rel,attr"`
				Href string `xml:"href,attr"`
			} `xml:"http://www.w3.org/2005/Atom link"`
			Items []struct {
				Title string `xml:"title"`
				Link  string `xml:"link"`
				Date  string `xml:"pubDate"`
			} `xml:"item"`
		} `xml:"channel"`
	}
	if err := xml.Unmarshal([]byte(body), &rss); err != nil {
		t.Fatal(err)
	}
	if len(rss.Channel.Items) < 10 || rss.Channel.Title != "Example" {
		t.Errorf("%q with %d items", rss.Channel.Title, len(rss.Channel.Items))
	}
	last := newest.AddDate(0, 0, 2)
	for _, i := range rss.Channel.Items {
		at, err := time.Parse(time.RFC1123Z, i.Date)
		if err != nil || at.After(last.AddDate(0, 0, 1)) {
			t.Errorf("%q comes after %v", i.Date, last)
		}
		last = at
		_, there := fetch(m, place(t, m, i.Link))
		if !strings.Contains(there, "<h1>"+i.Title+"</h1>") {
			t.Errorf("%s is not %q", i.Link, i.Title)
		}
	}
	next := place(t, m, rss.Channel.Next.Href)
	if p, older := fetch(m, next); rss.Channel.Next.Rel != "next" || p.Kind != KindFeed || older == body {
		t.Errorf("%s is no page of older entries", next)
	}
	p, body = fetch(m, prefix+"atom.xml")
	var atom struct {
		XMLName xml.Name `xml:"http://www.w3.org/2005/Atom feed"`
		Entries []struct {
			ID string `xml:"id"`
		} `xml:"entry"`
	}
	if err := xml.Unmarshal([]byte(body), &atom); err != nil || len(atom.Entries) < 10 || p.ContentType != "application/atom+xml; charset=utf-8" {
		t.Errorf("%v, %d entries, %s", err, len(atom.Entries), p.ContentType)
	}
}

func TestSitemapsLeadIntoTheMaze(t *testing.T) {
	m := newMaze(t, Options{Skin: SkinWiki})
	_, body := fetch(m, "/sitemap.xml")
	var index struct {
		XMLName  xml.Name `xml:"http://www.sitemaps.org/schemas/sitemap/0.9 sitemapindex"`
		Sitemaps []string `xml:"sitemap>loc"`
	}
	if err := xml.Unmarshal([]byte(body), &index); err != nil || len(index.Sitemaps) < 12 {
		t.Fatalf("%v, %d parts", err, len(index.Sitemaps))
	}
	seen := map[string]bool{}
	for _, s := range index.Sitemaps[:3] {
		p, part := fetch(m, place(t, m, s))
		var set struct {
			XMLName xml.Name `xml:"http://www.sitemaps.org/schemas/sitemap/0.9 urlset"`
			URLs    []string `xml:"url>loc"`
		}
		if err := xml.Unmarshal([]byte(part), &set); err != nil || p.Kind != KindSitemap || len(set.URLs) < 50 {
			t.Fatalf("%s: %v, %d addresses", s, err, len(set.URLs))
		}
		for _, u := range set.URLs {
			if seen[u] || m.Kind(place(t, m, u)) != KindPage {
				t.Errorf("%s is there twice, or is no page", u)
			}
			seen[u] = true
		}
	}
}

func TestWebServicesGoOnWithoutEnd(t *testing.T) {
	m := newMaze(t, Options{Skin: SkinShop})
	path := "/api/v2/posts"
	for range 3 {
		p, body := fetch(m, path)
		var page struct {
			Next  string
			Items []struct {
				Title, URL, Author, Related, Published string
			}
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil || p.Kind != KindJSON || p.ContentType != "application/json" || len(page.Items) < 10 {
			t.Fatalf("%s: %v, %d items, %+v", path, err, len(page.Items), p)
		}
		for _, i := range page.Items {
			if m.Kind(place(t, m, i.URL)) != KindPage || m.Kind(i.Related) != KindJSON || i.Title == "" || i.Author == "" {
				t.Errorf("%+v", i)
			}
			if _, err := time.Parse(time.RFC3339, i.Published); err != nil {
				t.Error(err)
			}
		}
		if page.Next == path || !strings.HasPrefix(page.Next, "/api/v2/posts?page=") {
			t.Fatalf("after %s comes %q", path, page.Next)
		}
		path = page.Next
	}
	if _, body := fetch(m, `/api/"},<script>`); !json.Valid([]byte(body)) || strings.Contains(body, "<script>") {
		t.Errorf("a hostile path gets %s", body)
	}
}

func TestImagesAreImages(t *testing.T) {
	m := newMaze(t, Options{})
	seen := map[string]bool{}
	for _, path := range []string{"/a.png", "/b.png", "/a.jpg", "/logo.gif", "/x.webp", "/favicon.ico", prefix + "media/x.png"} {
		p, body := fetch(m, path)
		if p.Kind != KindImage || p.ContentType != "image/png" || seen[body] {
			t.Errorf("%s: %+v", path, p)
		}
		seen[body] = true
		img, err := png.Decode(strings.NewReader(body))
		if err != nil || img.Bounds().Dx() != pngWidth || img.Bounds().Dy() != pngHeight {
			t.Errorf("%s: %v", path, err)
		}
	}
	p, body := fetch(m, "/a.SVG")
	if p.ContentType != "image/svg+xml" {
		t.Errorf("%+v", p)
	}
	d := xml.NewDecoder(strings.NewReader(body))
	for {
		tok, err := d.Token()
		if tok == nil {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestStylesAndScriptsAreHarmless(t *testing.T) {
	for _, s := range chosen {
		m := newMaze(t, Options{Skin: s})
		p, css := fetch(m, prefix+"assets/"+string(s)+".css")
		if p.Kind != KindStyle || p.ContentType != "text/css; charset=utf-8" || len(css) < 1000 || strings.Contains(css, "url(") || strings.Contains(css, "@import") {
			t.Errorf("%s: %+v, %d bytes", s, p, len(css))
		}
		if strings.Count(css, "{") != strings.Count(css, "}") {
			t.Errorf("%s: braces of the style sheet do not match", s)
		}
	}
	m := newMaze(t, Options{})
	p, js := fetch(m, "/static/app.js")
	if p.Kind != KindScript || p.ContentType != "text/javascript; charset=utf-8" || !strings.Contains(js, "classList") {
		t.Errorf("%+v: %s", p, js)
	}
	for _, word := range []string{"fetch(", "XMLHttpRequest", "eval", "cookie", "http"} {
		if strings.Contains(js, word) {
			t.Errorf("the script has %q", word)
		}
	}
}

func TestTextsAreEscapedInEveryFormat(t *testing.T) {
	m := newMaze(t, Options{Text: hostileText{}, Skin: SkinForum})
	for _, path := range []string{"/feed.xml", "/atom.xml", "/sitemap.xml", "/sitemap-1.xml"} {
		_, body := fetch(m, path)
		if err := xml.Unmarshal([]byte(body), new(struct{})); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, body := fetch(m, "/a.json"); !json.Valid([]byte(body)) || bytes.ContainsAny([]byte(body), "<>&") {
		t.Error("JSON is not escaped")
	}
}
