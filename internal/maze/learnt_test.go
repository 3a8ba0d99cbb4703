package maze

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/likeness"
)

// journal is a site whose looks are learnt.
func journal(i int) (path, page string) {
	path = fmt.Sprintf("/%d/%02d/article-%d.html", 2015+i, i+1, i)
	page = fmt.Sprintf(`<!doctype html><html lang="en-GB"><head><meta charset="utf-8"><title>Article %d | The Hedge Journal</title><link rel="stylesheet" href="/look.css">
<script>track()</script></head><body class="light"><header class="masthead"><a href="/">The Hedge Journal</a><nav><a href="/topics/">Topics</a> <a href="/about">About us</a></nav></header>
<main class="page"><article class="entry"><h1 class="entry-title">Article %d</h1>`, i, i)
	for p := range 3 + i%3 {
		page += fmt.Sprintf(`<p class="prose">This is paragraph %d of article %d, which has some words of its own: %d, and <a class="in" href="/2016/02/article-1.html">a link</a> here.</p>`, p, i, i*31+p)
	}
	return path, page + `</article></main><footer><p>All rights reserved by the Journal.</p></footer></body></html>`
}

func learn(t testing.TB, site func(i int) (path, page string)) *likeness.Likeness {
	t.Helper()
	var l likeness.Learner
	for i := range 6 {
		path, page := site(i)
		if err := l.Add("https://www.example.org"+path, []byte(page), time.Duration(20+i)*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	k, err := l.Likeness()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestLearntPagesLookLikeTheSite(t *testing.T) {
	for name, text := range map[string]Text{"plain": newPlainText(), "hostile": hostileText{}, "silent": silentText{}} {
		m := newMaze(t, Options{Skin: SkinLearnt, Likeness: learn(t, journal), Text: text, Streams: 40, Archives: 40})
		for _, path := range everyRole(m) {
			p, body := fetch(m, path)
			if bad := problems(body); len(bad) > 0 {
				t.Errorf("%s text, %s: %s", name, path, bad)
			}
			for _, want := range []string{
				`<html lang="en-GB">`, `<link rel="stylesheet" href="/look.css"/>`, ` | The Hedge Journal</title>`, `<header class="masthead">`, `<article class="entry"><h1 class="entry-title">`,
				`<p class="prose">`, `<a class="in" href="` + prefix, `All rights reserved by the Journal.`, `<a class="in" href="/">Are you a person? Continue to the site</a></p>`,
			} {
				if !strings.Contains(body, want) {
					t.Errorf("%s text, %s lacks %s", name, path, want)
				}
			}
			if strings.Contains(body, "words of its own") {
				t.Errorf("%s has the site's own content", path)
			}
			if p.Delay < 20*time.Millisecond || p.Delay > 25*time.Millisecond {
				t.Errorf("delay %v", p.Delay)
			}
		}
	}
}

func TestLearntAddressesHaveTheShapesOfTheSites(t *testing.T) {
	shape := regexp.MustCompile(`^` + prefix + `(20(1[5-9]|2[0-6])/(0[1-9]|1[0-2])/[a-z0-9-]+\.html|(authors|topics|sections)/[a-z0-9-]+/)$`)
	m := newMaze(t, Options{Skin: SkinLearnt, Likeness: learn(t, journal)})
	n := 0
	for i := range 50 {
		for _, u := range hrefs(second(fetch(m, fmt.Sprintf("%sx%d", prefix, i)))) {
			if strings.HasPrefix(u, prefix) {
				n++
				if !shape.MatchString(u) || m.Depth(u) == 0 {
					t.Errorf("%s looks like none of the site's", u)
				}
			}
		}
	}
	if n < 200 {
		t.Errorf("only %d links", n)
	}
}

// long is a site of longer pages without any classes.
func long(i int) (path, page string) {
	var b strings.Builder
	fmt.Fprintf(&b, "<!doctype html><title>Piece %d</title><header><a href=/>Long Reads</a><nav>%s</nav></header><main><h1>Piece %d</h1>", i, strings.Repeat(`<a href="/s">Section</a> `, 30), i)
	for p := range 12 + 6*i {
		fmt.Fprintf(&b, "<p>%d of %d: %s</p>", p, i, strings.Repeat("and so the long piece goes on and on ", 10+p%5))
	}
	b.WriteString("</main><footer>End of page</footer>")
	return fmt.Sprintf("/piece/%d", i), b.String()
}

func TestLearntPagesAreAsLongAsTheSites(t *testing.T) {
	m := newMaze(t, Options{Skin: SkinLearnt, Likeness: learn(t, long)})
	var sizes []int
	for i := range 300 {
		p, body := fetch(m, prefix+"piece/"+string(m.appendToken(nil, ref{depth: 3, nonce: uint16(i)})))
		if p.Kind != KindPage {
			t.Fatal(p.Kind)
		}
		sizes = append(sizes, len(body))
	}
	slices.Sort(sizes)
	want := int(m.o.Likeness.PageSize[3])
	if got := sizes[len(sizes)/2]; got < want*7/10 || got > want*13/10 {
		t.Errorf("half of the pages have more than %d bytes; of the site's, %d", got, want)
	}
	if bottom, top := sizes[3], sizes[len(sizes)-4]; bottom < int(m.o.Likeness.PageSize[0])/2 || top > int(m.o.Likeness.PageSize[7])*2 {
		t.Errorf("pages have %d to %d bytes; the site's %v", bottom, top, m.o.Likeness.PageSize)
	}
}

func TestADamagedLikenessIsRefused(t *testing.T) {
	k := *learn(t, journal)
	k.Shell = strings.Replace(k.Shell, "<footer>", "<script>x</script><footer>", 1)
	if _, err := New(Options{Seed: seed, Prefix: prefix, Text: newPlainText(), Skin: SkinLearnt, Likeness: &k}); err == nil {
		t.Error("a shell with a script is taken")
	}
}
