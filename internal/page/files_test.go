package page

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quickthorn/quickthorn/internal/language"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const png = "\x89PNG\r\n\x1a\n…"

func TestFilesOfTheFolderReplaceTheBuiltInOnes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"site.yaml": "name: Moor & Mire\nlogoAlt: A heron\nlight:\n  accent: \"#800000\"\n",
		"logo.png":  png,
		"notes.txt": "not ours",
	})
	p, _ := open(t, dir)
	page := string(p.Append(nil, &View{Title: language.NotFoundTitle}))
	logo := p.current.Load().logo
	for _, want := range []string{"<title>Not found – Moor &amp; Mire</title>", `<img src="/.quickthorn/assets/` + logo.Name + `" alt="A heron">`, "<span>Moor &amp; Mire</span>"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in %s", want, page)
		}
	}
	if a, ok := p.Asset(logo.Name); !ok || string(a.Body) != png || a.ContentType != "image/png" {
		t.Errorf("logo: %v %v", a, ok)
	}
	css := string(p.current.Load().style.Body)
	if !strings.Contains(css, "--accent: #800000") || !strings.Contains(css, "--background: #fdfdfb") {
		t.Errorf("colours: %.200s", css)
	}
	if w := p.Warnings(); len(w) != 0 {
		t.Errorf("warnings %v", w)
	}
}

func TestOwnLayoutAndStyle(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"page.html": `<!doctype html><title>{{.Title}}</title><link rel="stylesheet" href="{{.Style}}"><h1>{{.T "tryAgain"}}</h1>{{with .RequestNumber}}<p title='{{.Value}}'>{{end}}`,
		"style.css": "h1 { color: var(--text) }",
	})
	p, _ := open(t, dir)
	page := string(p.Append(nil, &View{Title: language.NotFoundTitle, RequestID: "<'>"}))
	want := `<!doctype html><title>Not found</title><link rel="stylesheet" href="/.quickthorn/assets/` + p.current.Load().style.Name + `"><h1>Try again</h1><p title='&lt;&#39;&gt;'>`
	if page != want {
		t.Errorf("got  %s\nwant %s", page, want)
	}
	if !strings.HasSuffix(string(p.current.Load().style.Body), "h1 { color: var(--text) }") {
		t.Error("the style sheet is not the folder's")
	}
}

func TestErrorsNameFileAndLine(t *testing.T) {
	tests := map[string]struct {
		file, text string
		want       string // after the file's name
	}{
		"unclosed action":     {"page.html", "<!doctype html>\n{{if .Title}}", ":2: unexpected EOF"},
		"unknown field":       {"page.html", "<p>\n\n{{.Titel}}", ":3:2:"},
		"unknown message":     {"page.html", `<p>{{.T "titel"}}`, `no message is called "titel"`},
		"value in a script":   {"page.html", `<script>x = {{.Refresh}}</script>`, "(.Refresh) stands where it cannot be escaped"},
		"unquoted":            {"page.html", `{{with .Challenge}}<p title={{.Ticket}}>{{end}}`, "(.Challenge.Ticket) stands where"},
		"in a style":          {"page.html", `{{with .Reason}}<p style="color: {{.Value}}">{{end}}`, "where html/template does not let it stand"},
		"text as an address":  {"page.html", `{{with .Reason}}<a href="{{.Value}}">{{end}}`, "(.Reason.Value) stands where"},
		"in a query":          {"page.html", `<a href="/x?to={{.Link}}">`, "(.Link) stands where"},
		"a part of a value":   {"page.html", `{{with .RequestNumber}}{{printf "%.9s" .Value}}{{end}}`, "stands where"},
		"unknown key":         {"site.yaml", "name: a\ncolor: red\n", `:2: unknown key "color"`},
		"not a colour":        {"site.yaml", "light:\n  text: \"#12345g\"\n", ":2: text is not a colour"},
		"unquoted colour":     {"site.yaml", "dark:\n  text: #123456\n", ":2: text is not a colour"},
		"unknown colour":      {"site.yaml", "dark:\n  link: \"#123456\"\n", `:2: unknown colour "link"`},
		"name is a list":      {"site.yaml", "name: [a]\n", ":1: name is not a line of text"},
		"not yaml":            {"site.yaml", "name: a\n\t- b: [", ": "},
		"a logo that is text": {"logo.svg", "hello", " is not the image"},
		"too large":           {"style.css", strings.Repeat("x", maxFile+1), " is not a file of at most 256 KiB"},
	}
	c, err := language.Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{tt.file: tt.text})
			_, err := Open(dir, c)
			if err == nil {
				t.Fatal("was taken")
			}
			if !strings.Contains(err.Error(), filepath.Join(dir, tt.file)) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), c); err == nil {
		t.Error("a folder that does not exist was taken")
	}
}

func TestPaleColoursAreWarnedOf(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"site.yaml": "light:\n  accent: \"#cccccc\"\n"})
	p, _ := open(t, dir)
	if w := p.Warnings(); len(w) != 1 || !strings.Contains(w[0], "light.accent on light.background") {
		t.Errorf("warnings %v", w)
	}
}

func TestReloadKeepsTheOldPagesOnAnError(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"page.html": "one {{.Title}}"})
	p, _ := open(t, dir)
	v := &View{Title: language.NotFoundTitle}
	if got := string(p.Append(nil, v)); got != "one Not found" {
		t.Fatal(got)
	}
	write(t, dir, map[string]string{"page.html": "two {{.Titel}}"})
	if err := p.Reload(); err == nil {
		t.Fatal("no error")
	}
	if got := string(p.Append(nil, v)); got != "one Not found" {
		t.Fatal(got)
	}
	write(t, dir, map[string]string{"page.html": "three {{.Title}}", "style.css": "p { margin: 0 }"})
	old := p.current.Load().style.Name
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := string(p.Append(nil, v)); got != "three Not found" {
		t.Fatal(got)
	}
	if _, ok := p.Asset(old); !ok || old == p.current.Load().style.Name {
		t.Error("pages that are still being loaded lose their style sheet")
	}
}

func TestASavedTemplateIsLiveSoon(t *testing.T) {
	dir := t.TempDir()
	p, _ := open(t, dir)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		reports := make(chan error, 10)
		go p.Watch(ctx, time.Second, func(err error) { reports <- err })
		v := &View{Title: language.NotFoundTitle}
		steps := []struct {
			text, want string
			bad        bool
		}{
			{text: "new: {{.Title}}", want: "new: Not found"},
			{text: "broken: {{.Titel}}!", want: "new: Not found", bad: true},
			{text: "mended: {{.Title}}", want: "mended: Not found"},
		}
		for _, s := range steps {
			write(t, dir, map[string]string{"page.html": s.text})
			if err := <-reports; (err != nil) != s.bad {
				t.Errorf("%s: %v", s.text, err)
			}
			if got := string(p.Append(nil, v)); got != s.want {
				t.Errorf("%s: %s", s.text, got)
			}
		}
		time.Sleep(5 * time.Second)
		if len(reports) != 0 {
			t.Error("reloaded without a change")
		}
		if err := os.Remove(filepath.Join(dir, "page.html")); err != nil {
			t.Fatal(err)
		}
		if err := <-reports; err != nil || !strings.HasPrefix(string(p.Append(nil, v)), "<!doctype html>") {
			t.Errorf("the built-in layout is not back: %v", err)
		}
	})
}

// A layout that fails for one text only is not caught by Open.
func TestALayoutThatFailsIsReplacedForThatPage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"page.html": `{{if eq .Title "Not found"}}{{.T "nonsense"}}{{end}}own: {{.Title}}`})
	p, _ := open(t, dir)
	if got := string(p.Append(nil, &View{Title: language.RefusedTitle})); got != "own: Not allowed" {
		t.Error(got)
	}
	if got := string(p.Append(nil, &View{Title: language.NotFoundTitle})); !strings.Contains(got, "<h1>Not found</h1>") {
		t.Error(got)
	}
}

func TestAssetsAreCompressedAndNamedByContent(t *testing.T) {
	p, _ := open(t, "")
	name := p.current.Load().style.Name
	a, ok := p.Asset(name)
	if !ok || !regexp.MustCompile(`^style\.[0-9a-f]{12}\.css$`).MatchString(name) || a.ContentType != "text/css; charset=utf-8" {
		t.Fatalf("%v %q %q", ok, name, a.ContentType)
	}
	z, err := gzip.NewReader(bytes.NewReader(a.Gzip))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || !bytes.Equal(b, a.Body) {
		t.Errorf("%v: the compressed body is another", err)
	}
	for _, none := range []string{"", "style.css", "../page.html", "style.000000000000.css", "page.html"} {
		if _, ok := p.Asset(none); ok {
			t.Errorf("%q is served", none)
		}
	}
}

// WCAG 2.2, 1.4.3 and 1.4.11. The style sheet has no colours but these, the system's, and no
// opacity; so these pairs are all there are.
func TestColoursHaveContrast(t *testing.T) {
	p, _ := open(t, "")
	css := string(p.current.Load().style.Body)
	declared := regexp.MustCompile(`:root \{ --background: (#\w+); --text: (#\w+); --accent: (#\w+) \}`).FindAllStringSubmatch(css, -1)
	if len(declared) != 2 {
		t.Fatalf("%d schemes", len(declared))
	}
	for _, d := range declared {
		for _, on := range d[2:] {
			// Accent is the colour of links, and the ground of buttons whose text has the background's colour.
			if r := contrast(on, d[1]); r < 4.5 {
				t.Errorf("%s on %s: %.2f:1", on, d[1], r)
			}
		}
	}
	rest := css[strings.Index(css, "/*"):]
	if found := regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(|oklch|color-mix|opacity`).FindString(rest); found != "" {
		t.Errorf("the style sheet has a colour of its own: %s", found)
	}
	if found := regexp.MustCompile(`[\s;{](left|right|(margin|padding|border)-(left|right|top|bottom)|(min-|max-)?(width|height)):`).FindString(rest); found != "" {
		t.Errorf("%s is not a logical property", found)
	}
}

func TestContrastIsThatOfTheStandard(t *testing.T) {
	tests := []struct {
		a, b string
		want float64
	}{{"#000000", "#ffffff", 21}, {"#ffffff", "#ffffff", 1}, {"#777777", "#ffffff", 4.478}, {"#0000ff", "#ffffff", 8.592}}
	for _, tt := range tests {
		if got := contrast(tt.a, tt.b); got < tt.want-0.001 || got > tt.want+0.001 {
			t.Errorf("%s on %s: %f, want %f", tt.a, tt.b, got, tt.want)
		}
	}
}
