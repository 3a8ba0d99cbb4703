package maze

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// problems returns what is wrong with a page's HTML.
func problems(body string) []string {
	var all []string
	add := func(format string, a ...any) { all = append(all, fmt.Sprintf(format, a...)) }
	if !utf8.ValidString(body) {
		add("it is not UTF-8")
	}
	for _, r := range body {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			add("it has the control character %q", r)
			break
		}
	}
	if !strings.HasPrefix(body, "<!DOCTYPE html>") {
		add("it has no document type")
	}
	all = append(all, unbalanced(body)...)
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		add("%v", err)
		return all
	}
	count := map[string]int{}
	ids := map[string]bool{}
	robots := false
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		if id := attr(n, "id"); id != "" {
			if ids[id] {
				add("the id %q is there twice", id)
			}
			ids[id] = true
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.Contains(a.Key, "<") || strings.Contains(strings.ToLower(a.Val), "javascript:") {
				add("it has the attribute %s=%q", a.Key, a.Val)
			}
		}
		switch n.DataAtom {
		case atom.Script, atom.Iframe, atom.Style:
			add("it has the element %q", n.Data)
		case atom.Html:
			if attr(n, "lang") == "" {
				add("it has no language")
			}
		case atom.Title, atom.H1:
			if n.FirstChild == nil || strings.TrimSpace(n.FirstChild.Data) == "" {
				add("the %s is empty", n.Data)
			}
		case atom.Img:
			if attr(n, "src") == "" || attr(n, "width") == "" || attr(n, "height") == "" {
				add("an image has no source or size")
			}
		case atom.Meta:
			robots = robots || attr(n, "name") == "robots" && attr(n, "content") == "noindex, nofollow"
		case atom.A:
			for p := n.Parent; p != nil; p = p.Parent {
				if p.Data == "a" {
					add("a link is within a link")
				}
			}
		}
	}
	if !robots {
		add("robots are not asked to leave")
	}
	for name, want := range map[string][2]int{"title": {1, 1}, "h1": {1, 1}, "main": {1, 1}, "header": {1, 1}, "nav": {1, 9}, "footer": {1, 99}, "html": {1, 1}, "body": {1, 1}} {
		if n := count[name]; n < want[0] || n > want[1] {
			add("it has %d of %s", n, name)
		}
	}
	return all
}

// unbalanced returns tags that do not match; a parser would hide that.
func unbalanced(body string) []string {
	void := []string{"meta", "link", "img", "input", "br", "hr"}
	var open []string
	z := html.NewTokenizer(strings.NewReader(body))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if len(open) > 0 {
				return []string{fmt.Sprintf("%v are left open", open)}
			}
			return nil
		case html.StartTagToken:
			name, _ := z.TagName()
			if !slices.Contains(void, string(name)) {
				open = append(open, string(name))
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			if len(open) == 0 || open[len(open)-1] != string(name) {
				return []string{fmt.Sprintf("</%s> comes within %v", name, open)}
			}
			open = open[:len(open)-1]
		case html.CommentToken:
			return []string{"it has a comment"}
		}
	}
}

// everyRole returns addresses of each role of a skin.
func everyRole(m *Maze) []string {
	paths := []string{"/", prefix, "/some/page.html", prefix + "search?q=x", prefix + "docs/x?page=3"}
	q := request(prefix)
	w := &writer{}
	w.begin(m, nil, q)
	for r := range roles {
		for d := range 3 {
			f := ref{role: r, depth: uint16(1 + d*20000), day: uint16(d * 2047), nonce: uint16(d * 9999)}
			w.b = w.b[:0]
			w.addressOf(f)
			paths = append(paths, string(w.b), string(w.b)+"?page=12")
		}
	}
	return paths
}

func TestEveryPageIsSoundHTML(t *testing.T) {
	for _, s := range chosen {
		for name, text := range map[string]Text{"plain": newPlainText(), "hostile": hostileText{}, "silent": silentText{}} {
			m := newMaze(t, Options{Skin: s, Text: text, Streams: 40, Archives: 40, Language: "ar"})
			for _, path := range everyRole(m) {
				_, body := fetch(m, path)
				if p := problems(body); len(p) > 0 {
					t.Errorf("%s, %s text, %s: %s", s, name, path, p)
				}
				if !strings.Contains(body, `<html lang="ar" dir="rtl">`) {
					t.Errorf("%s: the language is not said", s)
				}
			}
		}
	}
}

func TestHostileRequestsGetSoundPages(t *testing.T) {
	long := strings.Repeat("/%2e%2e%ff<x>", 800)
	for _, s := range chosen {
		m := newMaze(t, Options{Skin: s})
		for _, q := range []Request{
			{}, {Path: long}, {Path: long, Query: long, Host: long, Site: long, Scheme: long, WayOut: long},
			{Path: `/"><script>alert(1)</script>`}, {Path: "/a\x00b\r\nc", Host: "evil\r\nX: y"}, {Path: "/x", Host: `"><script>`}, {Path: "/\xff\xfe", Query: "page=\xff"},
			{Path: "/x", Host: "[::1]:8080"}, {Path: "/x", Host: "192.0.2.1"}, {Path: "/x", Host: "...."}, {Path: "/x", Host: ":"}, {Path: "/x", Host: "a."},
		} {
			_, body := m.Page(nil, &q)
			if p := problems(string(body)); len(p) > 0 {
				t.Errorf("%s: %.60q on %.60q: %s", s, q.Path, q.Host, p)
			}
		}
	}
}

func FuzzPage(f *testing.F) {
	mazes := map[Skin]*Maze{}
	for _, s := range chosen {
		mazes[s] = newMaze(f, Options{Skin: s, Streams: 40, Archives: 40})
	}
	m := mazes[SkinWiki]
	f.Add(0, "/", "", "example.org", "")
	f.Add(1, prefix+string(m.appendToken([]byte("a-"), ref{role: roleList, depth: 9})), "page=7", "[::1]:80", "/x")
	f.Add(2, prefix+"commit/"+string(m.appendHash(nil, ref{role: roleChange})), "a&page=x", "\x00", "javascript:x")
	f.Add(3, `/"><svg onload=x>.xml`, "<", "a.b.c.d", "//x")
	f.Add(4, "/%e2%80%a8.json", "", "localhost", "http://x\"y")
	f.Fuzz(func(t *testing.T, skin int, path, query, host, wayOut string) {
		m := mazes[chosen[uint(skin)%uint(len(chosen))]]
		m.Depth(path)
		p, body := m.Page(nil, &Request{Path: path, Query: query, Host: host, WayOut: wayOut, Site: host, Scheme: query})
		if len(body) > 400<<10 {
			t.Errorf("%d bytes", len(body))
		}
		if p.Kind == KindPage {
			if bad := problems(string(body)); len(bad) > 0 {
				t.Error(bad)
			}
		}
	})
}
