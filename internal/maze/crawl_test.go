package maze

import (
	"crypto/sha256"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// crawl follows links breadth first, from the maze's beginning, until it has seen so many pages, and calls each with every one.
func crawl(t *testing.T, m *Maze, pages int, each func(path, body string)) {
	t.Helper()
	seen := map[string]bool{prefix: true}
	queue := []string{prefix}
	var buf []byte
	for n := 0; n < pages; n++ {
		if len(queue) == 0 {
			t.Fatalf("the maze ends after %d pages", n)
		}
		path := queue[0]
		queue = queue[1:]
		_, buf = m.Page(buf[:0], request(path))
		body := string(buf)
		each(path, body)
		for _, u := range hrefs(body) {
			if strings.HasPrefix(u, "?") {
				base, _, _ := strings.Cut(path, "?")
				u = base + u
			}
			if strings.HasPrefix(u, prefix) && m.Kind(u) == KindPage && !seen[u] && len(queue) < 2*pages {
				seen[u] = true
				queue = append(queue, u)
			}
		}
	}
}

// TestACrawlerFindsNoEnd looks at 20,000 pages of one skin and 2,000 of each other; with QUICKTHORN_LONG at 100,000 of each.
func TestACrawlerFindsNoEnd(t *testing.T) {
	for i, s := range append(chosen, SkinLearnt) {
		pages := 2000
		if i == 0 {
			pages = 20000
		}
		if os.Getenv("QUICKTHORN_LONG") != "" {
			pages = 100000
		}
		t.Run(string(s), func(t *testing.T) {
			o := Options{Skin: s, Streams: 40, Archives: 40}
			if s == SkinLearnt {
				o.Likeness = learn(t, journal)
			}
			m := newMaze(t, o)
			bodies := map[[sha256.Size]byte]string{}
			mains := map[[sha256.Size]byte]string{}
			crawl(t, m, pages, func(path, body string) {
				h := sha256.Sum256([]byte(body))
				if before, ok := bodies[h]; ok {
					t.Fatalf("%s is the same page as %s", path, before)
				}
				bodies[h] = path
				_, main, _ := strings.Cut(body, "<main")
				h = sha256.Sum256([]byte(main))
				if before, ok := mains[h]; ok {
					t.Fatalf("%s has the content of %s", path, before)
				}
				mains[h] = path
				deeper := 0
				for _, u := range hrefs(body) {
					if strings.HasPrefix(u, prefix) && m.Depth(u) > m.Depth(path) && m.Kind(u) == KindPage {
						deeper++
					}
				}
				if deeper == 0 {
					t.Fatalf("%s is a dead end", path)
				}
			})
		})
	}
}

func TestALinksTextIsTheTitleOfItsPage(t *testing.T) {
	for _, s := range chosen {
		m := newMaze(t, Options{Skin: s, Streams: 40, Archives: 40})
		checked := 0
		crawl(t, m, 60, func(path, body string) {
			root, err := html.Parse(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			for n := range root.Descendants() {
				if n.Data != "a" || n.FirstChild == nil || !strings.HasPrefix(attr(n, "href"), prefix) || attr(n, "class") == "brand" {
					continue
				}
				u, text := attr(n, "href"), n.FirstChild.Data
				f, ok := m.find(u)
				if !ok || f.role == roleArchive || checked > 800 {
					continue
				}
				if f.named() && n.Parent.Data == "li" {
					continue // a tab
				}
				checked++
				_, there := fetch(m, u)
				_, h1, _ := strings.Cut(there, "<h1>")
				h1, _, _ = strings.Cut(h1, "</h1>")
				if !strings.EqualFold(html.UnescapeString(h1), text) && !isPageNumber(n) {
					t.Errorf("%s: the link %q on %s leads to %q at %s", s, text, path, h1, u)
				}
			}
		})
		if checked < 300 {
			t.Errorf("%s: only %d links were looked at", s, checked)
		}
	}
}

// isPageNumber reports whether a link is to a page of the same list.
func isPageNumber(n *html.Node) bool {
	for p := n.Parent; p != nil; p = p.Parent {
		if attr(p, "class") == "pages" {
			return true
		}
	}
	return false
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func TestListsGoOnWithoutEnd(t *testing.T) {
	for _, s := range chosen {
		m := newMaze(t, Options{Skin: s})
		path := ""
		for _, u := range hrefs(second(fetch(m, prefix))) {
			if f, ok := m.find(u); ok && f.role == roleList {
				path = u
			}
		}
		for _, query := range []string{"", "?page=2", "?page=1000", "?page=999999999999999", "?page=99999999999999999999", "?page=-1", "?page=x", "?a=b&page=3"} {
			_, body := fetch(m, path+query)
			if !strings.Contains(body, `<a rel="next" href="?page=`) {
				t.Errorf("%s: %s has no next page", s, path+query)
			}
		}
		if _, body := fetch(m, path+"?page=2"); !strings.Contains(body, `<a rel="prev" href="`+path+`"`) {
			t.Errorf("%s: the second page does not lead back to %s", s, path)
		}
	}
}
