package likeness

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quickthorn/quickthorn/internal/demo"
)

// learn returns the likeness of pages by their paths, in the order given.
func learn(t testing.TB, pages ...[2]string) *Likeness {
	t.Helper()
	var l Learner
	for i, p := range pages {
		if err := l.Add("https://www.example.org"+p[0], []byte(p[1]), time.Duration(i+1)*10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	k, err := l.Likeness()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTheSampleSiteIsLearnt(t *testing.T) {
	h, err := demo.Handler("")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	defer s.Close()
	var l Learner
	for _, path := range []string{"/", "/articles/quickthorn", "/articles/laying", "/articles/gates", "/articles/wrens", "/articles/winter"} {
		res, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Add(s.URL+path, body, 40*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	k, err := l.Likeness()
	if err != nil {
		t.Fatal(err)
	}
	if k.Language != "en" || k.Title != (Title{}) {
		t.Errorf("language %q, title %+v", k.Language, k.Title)
	}
	if diff := cmp.Diff([]Shape{{"/articles/{slug}", 1000}}, k.Shapes); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{`<link rel="stylesheet" href="/style.css"/>`, `<header><a href="/">The Hedge Gazette</a></header>`, `<main>{{main}}{{wayout}}`, `<title>{{title}}</title>`,
		`<a href="/articles/winter">`, robots} {
		if !strings.Contains(k.Shell, want) {
			t.Errorf("the shell lacks %s:\n%s", want, k.Shell)
		}
	}
	for _, not := range []string{"feed.xml", "action=", "old name for hawthorn", "A sample site"} {
		if strings.Contains(k.Shell, not) {
			t.Errorf("the shell has %s:\n%s", not, k.Shell)
		}
	}
	if k.Latency[0] != 40000 || k.Links[3] != 6 {
		t.Errorf("latency %v, links %v", k.Latency, k.Links)
	}
}

// blog is a page as blogs have them, with all that a shell must not have.
func blog(i int) [2]string {
	return [2]string{fmt.Sprintf("/posts/%s-post-%d/", []string{"first", "second", "third", "fourth"}[i], i), fmt.Sprintf(`<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x"><html lang="de" onclick="x()">
<head><meta charset="utf-8"><title>Post number %[1]d – A Blog</title><meta property="og:title" content="Post %[1]d"><meta name="description" content="About %[1]d"><link rel="canonical" href="/posts/%[1]d/">
<link rel="stylesheet" href="css/a.css?v=1"><link rel="stylesheet" href="https://cdn.example.net/b.css" integrity="sha384-x" crossorigin="anonymous"><link rel="preload" href="/x.js" as="script"><link rel="icon" href="/i.png">
<style>body{background:URL( "/track?p=%[1]d" )} .a:before{content:"\201c"} @import "x.css"; p{color:red}</style>
<script type="application/ld+json">{"headline":"%[1]d"}</script><base href="/theme/"></head>
<body class="blog {{main}}"><!-- a comment --><noscript><img src="/pixel"></noscript><svg viewBox="0 0 1 1"><script>1</script><path d="M0 0" onload="x"/><foreignObject><p>x</p></foreignObject></svg>
<nav><a href="javascript:alert(1)">Menu</a> <a href="https://elsewhere.example/">Out</a> <a href="../about?x=1#y" onclick="z()" target="_blank">About</a> {{main}} {{nothing}}</nav><my-header class="c">Custom</my-header>
<div id="wrap"><h1 class="title"><span>Post number %[1]d</span></h1><div class="content" style="background:url(/x)"><p class="text big">Own words of post %[1]d, %[2]s.</p><p class="text big">More of it: %[1]d.</p><h2 class="sub">Head %[1]d</h2>
<ul class="ticks"><li>Item %[1]d</li></ul><p>Plain %[1]d</p><a class="more" href="/x">More %[1]d</a></div></div>
<form action="/login" method="post"><input type="hidden" name="csrf" value="secret%[1]d"><input type="password"><input type="text" value="typed"><button formaction="/x">Go</button></form>
<iframe src="/frame"></iframe><object data="/o"></object><embed src="/e"><img src="/logo.png" srcset="/l2.png 2x" onerror="x()" alt="Logo"><img src="https://tracker.example/p.gif"><video src="/v"></video><footer>Imprint of the blog</footer></body></html>`,
		i, strings.Repeat("and so on ", 10+i))}
}

func TestAShellHasNothingButLooks(t *testing.T) {
	k := learn(t, blog(0), blog(1), blog(2), blog(3))
	for _, want := range []string{
		`<html lang="de">`, `href="/theme/css/a.css?v=1"`, `href="https://cdn.example.net/b.css" integrity="sha384-x"`, `<link rel="icon" href="/i.png"/>`,
		`<h1 class="title">{{heading}}</h1>`, `<div class="content" style="background:none">{{main}}{{wayout}}</div>`, `<a href="/about?x=1#y">About</a>`, `<a>Menu</a>`, `<a>Out</a>`,
		`<img src="/logo.png" alt="Logo"/>`, `<path d="M0 0">`, `<div class="c">Custom</div>`, `Imprint of the blog`, `p{color:red}`, `<input type="text"/>`, `<button>Go</button>`,
	} {
		if !strings.Contains(k.Shell, want) {
			t.Errorf("the shell lacks %s", want)
		}
	}
	lower := strings.ToLower(k.Shell)
	for _, not := range []string{"script", "onclick", "onload", "onerror", "url(", "@import", "iframe", "object", "embed", "video", "action", "canonical", "og:", "description", "<!--", "javascript", "secret", "typed",
		"password", "tracker", "elsewhere", "own words", "{{nothing}}", "foreign", "pixel", "srcset", "base", "201c", "target", "preload"} {
		if strings.Contains(lower, not) {
			t.Errorf("the shell has %q", not)
		}
	}
	if n := strings.Count(k.Shell, "{{main}}"); n != 1 {
		t.Errorf("the page's own text passes for a slot: %d of them", n)
	}
	if t.Failed() {
		t.Log(k.Shell)
	}
}

func TestWhatElseIsLearnt(t *testing.T) {
	k := learn(t, blog(0), blog(1), blog(2), blog(3))
	if k.Language != "de" || k.Title != (Title{After: " – A Blog"}) {
		t.Errorf("language %q, title %+v", k.Language, k.Title)
	}
	want := Classes{"p": "text big", "h2": "sub", "ul": "ticks", "a": "more"}
	if diff := cmp.Diff(want, k.Classes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Shape{{"/posts/{slug}/", 1000}}, k.Shapes); diff != "" {
		t.Error(diff)
	}
	if k.Latency[0] != 10000 || k.Latency[7] != 40000 || k.Words[0] < 2 || k.Words[7] > 60 || k.PageSize[0] < 1900 {
		t.Errorf("%+v %+v %+v", k.Latency, k.Words, k.PageSize)
	}
	var names []Slot
	for _, p := range k.Pieces() {
		names = append(names, p.Slot)
	}
	if diff := cmp.Diff([]Slot{SlotNone, SlotTitle, SlotHeading, SlotMain, SlotWayOut}, names); diff != "" {
		t.Error(diff)
	}
}

func TestAProfileIsReadAsItWasWritten(t *testing.T) {
	k := learn(t, blog(0), blog(1))
	raw, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(k, again); diff != "" {
		t.Error(diff)
	}
	for range 3 {
		other, err := json.Marshal(learn(t, blog(0), blog(1)))
		if err != nil || string(other) != string(raw) {
			t.Error("the same pages have another profile")
		}
	}
}

func TestPagesOfOldSites(t *testing.T) {
	table := func(i int) [2]string {
		return [2]string{fmt.Sprintf("/show.asp?id=%d", i), fmt.Sprintf("<title>Seite %[1]d</title><table width=\"100%%\"><tr><td bgcolor=#eeeeee>Navigation</td><td><font face=Arial><b>Gr\xfc\xdfe %[1]d</b><br>Ein Text, der nur hier steht: %[1]d</font></td></tr></table>", i)}
	}
	k := learn(t, table(1), table(2), table(3))
	for _, want := range []string{"Navigation", "{{main}}{{wayout}}</td>", "<!DOCTYPE html>", `<td bgcolor="#eeeeee">`} {
		if !strings.Contains(k.Shell, want) {
			t.Errorf("the shell lacks %s:\n%s", want, k.Shell)
		}
	}
}

func TestWhatCannotBeLearntIsSaid(t *testing.T) {
	page := blog(0)[1]
	for _, c := range []struct {
		name, want string
		pages      [][2]string
	}{
		{"no page", "0 pages of use; at least 2", nil},
		{"one page", "1 pages of use; at least 2", [][2]string{blog(0)}},
		{"pages without text are none", "0 pages of use", [][2]string{{"/", ""}, {"/a", "<script>x</script>"}, {"/b", "<p> </p>"}}},
		{"the same page twice", "the same text", [][2]string{{"/a", page}, {"/b", page}}},
		{"a shell that is too large", "shell: ", [][2]string{{"/a", "<p>own one</p>" + strings.Repeat("<b>x</b> ", 40000)}, {"/b", "<p>own two</p>" + strings.Repeat("<b>x</b> ", 40000)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l Learner
			for _, p := range c.pages {
				_ = l.Add("http://example.org"+p[0], []byte(p[1]), 0)
			}
			if k, err := l.Likeness(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v, want an error with %q", k != nil, err, c.want)
			}
		})
	}
}

func TestPagesOfNoUseAreRefused(t *testing.T) {
	var l Learner
	for want, add := range map[string]func() error{
		"is not an http or https address": func() error { return l.Add("file:///etc/passwd", []byte("<p>x"), 0) },
		"has no text":                     func() error { return l.Add("http://a/", []byte("<style>x</style>"), 0) },
		"a page has at most":              func() error { return l.Add("http://a/", make([]byte, MaxPageSize+1), 0) },
	} {
		if err := add(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	for i := range MaxPages {
		if err := l.Add("http://a/", []byte(blog(i % 4)[1]), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Add("http://a/", []byte("<p>x"), 0); err == nil {
		t.Error("more pages than are bounded are taken")
	}
	if _, err := l.Likeness(); err != nil {
		t.Error(err)
	}
}

func TestHostileProfilesAreRefused(t *testing.T) {
	good := func() *Likeness { return learn(t, blog(0), blog(1)) }
	shell := func(from, to string) func(*Likeness) {
		return func(k *Likeness) {
			if !strings.Contains(k.Shell, from) {
				t.Fatalf("the shell lacks %s", from)
			}
			k.Shell = strings.Replace(k.Shell, from, to, 1)
		}
	}
	for name, change := range map[string]func(*Likeness){
		"another version":          func(k *Likeness) { k.Version = 2 },
		"a language of markup":     func(k *Likeness) { k.Language = `en"><script>` },
		"a long title":             func(k *Likeness) { k.Title.After = strings.Repeat("x", 300) },
		"a class with a quote":     func(k *Likeness) { k.Classes["p"] = `x" onclick="y` },
		"a class of an element":    func(k *Likeness) { k.Classes["script"] = "x" },
		"a shape of markup":        func(k *Likeness) { k.Shapes = []Shape{{`/"><b>{slug}`, 10}} },
		"a shape of another site":  func(k *Likeness) { k.Shapes = []Shape{{`//x/{slug}`, 10}} },
		"a shape without a slug":   func(k *Likeness) { k.Shapes = []Shape{{`/{year}/`, 10}} },
		"a shape with two":         func(k *Likeness) { k.Shapes = []Shape{{`/{slug}/{slug}`, 10}} },
		"an unknown part":          func(k *Likeness) { k.Shapes = []Shape{{`/{slug}/{user}`, 10}} },
		"a share of nothing":       func(k *Likeness) { k.Shapes = []Shape{{`/{slug}`, 0}} },
		"a share of too much":      func(k *Likeness) { k.Shapes = []Shape{{`/{slug}`, 1 << 40}} },
		"too many shapes":          func(k *Likeness) { k.Shapes = make([]Shape, 17) },
		"quantiles that descend":   func(k *Likeness) { k.Links[3] = 0 },
		"negative quantiles":       func(k *Likeness) { k.Words[0] = -1 },
		"huge pages":               func(k *Likeness) { k.PageSize[7] = 1 << 30 },
		"huge latencies":           func(k *Likeness) { k.Latency[7] = 1 << 41 },
		"huge paragraphs":          func(k *Likeness) { k.Words[7] = 1 << 20 },
		"no shell":                 func(k *Likeness) { k.Shell = "" },
		"a large shell":            func(k *Likeness) { k.Shell += strings.Repeat(" ", maxShell) },
		"a script":                 shell("<body", "<script>x</script><body"),
		"a handler":                shell("<body ", `<body onload="x" `),
		"a script address":         shell(`href="/about`, `href="javascript:x`),
		"another site's address":   shell(`href="/about`, `href="//evil.example/`),
		"a hidden address":         shell(`href="/about`, `href="/\evil.example/`),
		"an address of a style":    shell("p{color:red}", "p{background:url(x)}"),
		"an escaped one":           shell("p{color:red}", `p{background:\75 rl(x)}`),
		"a commented one":          shell("p{color:red}", `p{background:u/**/rl(x)}`),
		"a style that ends":        shell("p{color:red}", "</style><script>x</script><style>"),
		"a form's address":         shell("<form", `<form action="/x"`),
		"a frame":                  shell("</body>", `<iframe src="/x"></iframe></body>`),
		"a comment":                shell("</body>", "<!-- x --></body>"),
		"a refresh":                shell("<title>", `<meta http-equiv="refresh" content="0;url=/x"/><title>`),
		"no robots":                shell(robots, ""),
		"robots that are welcome":  shell("noindex, nofollow", "index, follow"),
		"no title":                 shell("{{title}}", ""),
		"no content":               shell("{{main}}", ""),
		"two contents":             shell("{{main}}", "{{main}}{{main}}"),
		"no way out":               shell("{{wayout}}", ""),
		"an unknown slot":          shell("{{wayout}}", "{{wayout}}{{other}}"),
		"a slot in an attribute":   shell(`class="content"`, `class="{{main}}"`),
		"content in a style":       shell("p{color:red}", "{{main}}"),
		"content in a title":       shell("{{title}}", "{{title}}{{main}}"),
		"content in a link":        shell("{{main}}", "<a href=\"/x\"><div>{{main}}</div></a>"),
		"markup that is misread":   shell("<body", "<p><div></p><body"),
		"a foreign element":        shell("</body>", "<math><mtext></mtext></math></body>"),
		"a foreign script":         shell("</svg>", "<script>x</script></svg>"),
		"a template with a script": shell("</body>", "<template><script>x</script></template></body>"),
	} {
		t.Run(name, func(t *testing.T) {
			k := good()
			change(k)
			raw, err := json.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Parse(raw); err == nil {
				t.Error("it is taken")
			}
		})
	}
	for _, raw := range []string{"", "[]", "null", "{}", `{"version":1}`, strings.Repeat(" ", MaxSize+1)} {
		if _, err := Parse([]byte(raw)); err == nil {
			t.Errorf("%.20q is taken", raw)
		}
	}
}

func TestShapes(t *testing.T) {
	for _, c := range []struct {
		name  string
		paths []string
		want  []Shape
	}{
		{"a blog", []string{"/", "/2024/05/one", "/2024/06/two", "/2023/01/three"}, []Shape{{"/{year}/{month}/{slug}", 1000}}},
		{"days", []string{"/2024/05/01/one.html", "/2024/05/02/two.html"}, []Shape{{"/{year}/{month}/{day}/{slug}.html", 1000}}},
		{"numbers", []string{"/item/1", "/item/22"}, []Shape{{"/item/{id}", 1000}}},
		{"numbers and words", []string{"/q/1/how", "/q/2/why"}, []Shape{{"/q/{id}/{slug}", 1000}}},
		{"shares", []string{"/a/x", "/a/y", "/a/z", "/about"}, []Shape{{"/a/{slug}", 750}, {"/{slug}", 250}}},
		{"only the beginning", []string{"/"}, nil},
		{"two parts that change", []string{"/x/y", "/z/w"}, nil},
		{"hostile parts", []string{"/%3Cb%3E/x", "/%3Cb%3E/y"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := shapesOf(c.paths)
			if len(got) == 0 {
				got = nil
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTitles(t *testing.T) {
	for _, c := range []struct {
		titles []string
		want   Title
	}{
		{[]string{"One - Site", "Two - Site"}, Title{After: " - Site"}},
		{[]string{"Site: One", "Site: Two"}, Title{Before: "Site: "}},
		{[]string{"Shop | One (new) | Shop", "Shop | Two (new) | Shop"}, Title{Before: "Shop | ", After: " | Shop"}},
		{[]string{"Anna", "Hanna"}, Title{}},
		{[]string{"Same", "Same"}, Title{}},
		{[]string{"A - B", "A - B"}, Title{}},
		{[]string{"", "x - y"}, Title{}},
	} {
		if got := titleOf(c.titles); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.titles, got, c.want)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var samples []int64
	for i := range 1001 {
		samples = append(samples, int64((i*389)%1001))
	}
	q := QuantilesOf(samples)
	if diff := cmp.Diff(Quantiles{0, 100, 250, 500, 750, 900, 990, 1000}, q); diff != "" {
		t.Error(diff)
	}
	if q.At(0) != 0 || q.At(1<<64-1) < 999 || q.At(1<<63) != 500 {
		t.Errorf("%d %d %d", q.At(0), q.At(1<<64-1), q.At(1<<63))
	}
	r := rand.NewPCG(1, 1)
	last := Quantiles{}
	sum := int64(0)
	for range 10000 {
		v := q.At(r.Uint64())
		sum += v
		if v < 0 || v > 1000 || last.At(r.Uint64()) != 0 {
			t.Fatal(v)
		}
	}
	if mean := sum / 10000; mean < 480 || mean > 520 {
		t.Errorf("the mean is %d", mean)
	}
	if got := QuantilesOf(nil); got != (Quantiles{}) {
		t.Errorf("of nothing: %v", got)
	}
	top := QuantilesOf([]int64{-5, 1 << 50})
	if err := top.Check(); err != nil || top.At(1<<64-1) < 1<<39 {
		t.Errorf("%v: %v", top, err)
	}
}

func FuzzParse(f *testing.F) {
	raw, err := json.Marshal(learn(f, blog(0), blog(1)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"version":1,"shell":"<!DOCTYPE html>"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := Parse(raw)
		if err != nil {
			return
		}
		if s := strings.ToLower(k.Shell); strings.Contains(s, "<script") || strings.Contains(s, "javascript:") {
			t.Errorf("taken: %s", k.Shell)
		}
		k.Links.At(1 << 63)
		if len(k.Pieces()) < 4 {
			t.Error("slots are missing")
		}
	})
}

// FuzzLearner checks that whatever is learnt passes the check of a stranger's profile.
func FuzzLearner(f *testing.F) {
	f.Add(blog(0)[1], blog(1)[1])
	f.Add("<p>a", "<p>b")
	f.Add("<table><tr><td>a<form><td>b", "<table><tr><td>a<form><td>c")
	f.Add("<svg><style><a title='</style><script>x'>", "<math><mi><script>y")
	f.Fuzz(func(t *testing.T, one, other string) {
		var l Learner
		_ = l.Add("http://example.org/a", []byte(one), 0)
		_ = l.Add("http://example.org/b", []byte(other), 0)
		k, err := l.Likeness()
		if err != nil {
			return
		}
		raw, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(raw); err != nil {
			t.Error(err)
		}
	})
}
