package visit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/demo"
	"github.com/quickthorn/quickthorn/internal/maze"
)

// reader reads pages of a handler and remembers which.
type reader struct {
	h     http.Handler
	asked []string
}

func (r *reader) get(_ context.Context, target string) (*Page, error) {
	r.asked = append(r.asked, target)
	w := httptest.NewRecorder()
	r.h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return &Page{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()[:min(w.Body.Len(), MaxBody)], Latency: 5 * time.Millisecond}, nil
}

func (r *reader) options() Options {
	return Options{Get: r.get, Scheme: "https", Host: "www.example.org", Agent: "quickthorn", Every: time.Millisecond}
}

// words is a text.
type words struct{}

func (words) AppendSentence(dst []byte, _ maze.Source, _ int) []byte {
	return append(dst, "Brambles."...)
}
func (words) AppendTitle(dst []byte, _ maze.Source, _ int) []byte {
	return append(dst, "Brambles"...)
}

func TestTheMazeLooksLikeTheSiteThatWasVisited(t *testing.T) {
	h, err := demo.Handler("")
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{h: h}
	like, err := Visit(t.Context(), r.options())
	if err != nil {
		t.Fatal(err)
	}
	m, err := maze.New(maze.Options{Seed: []byte("a seed that nobody knows"), Prefix: "/archive-k3p7/", Text: words{}, Skin: maze.SkinLearnt, Likeness: like})
	if err != nil {
		t.Fatal(err)
	}
	_, page := m.Page(nil, &maze.Request{Site: "default", Scheme: "https", Host: "www.example.org", Path: "/articles/brambles"})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	own := w.Body.String()
	for _, part := range []string{`rel="stylesheet"`, "<nav", "<footer"} {
		if strings.Contains(own, part) && !strings.Contains(string(page), part) {
			t.Errorf("the site has %s, the maze has not:\n%s", part, page)
		}
	}
	if slices.ContainsFunc(r.asked, func(s string) bool { return strings.HasPrefix(s, "/search") }) {
		t.Errorf("robots.txt asks not to search: %v", r.asked)
	}
}

// site is a small one whose pages link to whatever a test wants.
func site(pages map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := pages[r.URL.RequestURI()]
		switch {
		case !ok:
			http.NotFound(w, r)
		case strings.HasPrefix(body, "->"):
			w.Header().Set("Location", body[2:])
			w.WriteHeader(http.StatusFound)
		case strings.HasSuffix(r.URL.Path, ".txt"):
			fmt.Fprint(w, body)
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprintf(w, "<!DOCTYPE html><html lang=en><head><title>%s – Gazette</title></head><body><nav><a href=/>Home</a></nav><main><h1>%s</h1><p>%s</p></main></body></html>",
				r.URL.Path, r.URL.Path, body)
		}
	})
}

func TestAVisitIsPolite(t *testing.T) {
	r := &reader{h: site(map[string]string{
		"/robots.txt": "User-agent: *\nDisallow: /private/\nSitemap: https://www.example.org/map.xml\n",
		"/map.xml":    "<urlset><url><loc>https://www.example.org/mapped</loc></url><url><loc>https://evil.example/x</loc></url></urlset>",
		"/": `<a href="/a/1">1</a> <a href="a/2#top">2</a> <a href="/private/x">p</a> <a href="https://elsewhere.example/y">e</a> <a rel="nofollow" href="/nofollow">n</a>
			<a href="/picture.png">i</a> <a href="//www.example.org/b">b</a> <a href="javascript:alert(1)">j</a> <a href="/moved">m</a> <a href="/away">w</a> <a href="http://u:p@www.example.org/u">u</a>`,
		"/a/1": "one page", "/a/2": "another page", "/b": "a third page", "/mapped": "a page of the map", "/moved": "->/to", "/to": "where it went", "/away": "->https://evil.example/",
	})}
	if _, err := Visit(t.Context(), r.options()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(r.asked)
	want := []string{"/", "/a/1", "/a/2", "/away", "/b", "/map.xml", "/mapped", "/moved", "/robots.txt", "/to"}
	if !slices.Equal(r.asked, want) {
		t.Errorf("asked for %v, want %v", r.asked, want)
	}
}

func TestAVisitIsBounded(t *testing.T) {
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<html><head><title>%s - x</title></head><body><h1>%s</h1><p>words enough</p>", r.URL.Path, r.URL.Path)
		for i := range 500 {
			fmt.Fprintf(w, `<a href="%s/%d">x</a><a href="?page=%d">y</a>`, strings.TrimSuffix(r.URL.Path, "/"), i, i)
		}
	})
	r := &reader{h: endless}
	o := r.options()
	o.Pages = 20
	if _, err := Visit(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if len(r.asked) > 20+3 {
		t.Errorf("%d requests for 20 pages", len(r.asked))
	}
	queries := 0
	for _, a := range r.asked {
		if strings.Contains(a, "?") {
			queries++
		}
	}
	if queries > maxQuery {
		t.Errorf("%d pages with a query", queries)
	}
}

func TestSitesThatCannotBeLearntAreExplained(t *testing.T) {
	for name, c := range map[string]struct {
		h    http.Handler
		want string
	}{
		"nothing":  {http.NotFoundHandler(), "404"},
		"too busy": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), "503"},
		"one page": {site(map[string]string{"/": "alone"}), "at least"},
		"no page":  {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }), "text/plain"},
		"huge page": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, strings.Repeat("x", MaxBody+1))
		}), "text/html"},
	} {
		r := &reader{h: c.h}
		if _, err := Visit(t.Context(), r.options()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Visit(ctx, (&reader{h: site(map[string]string{"/": "x"})}).options()); !errors.Is(err, context.Canceled) {
		t.Errorf("a visit that was ended: %v", err)
	}
	broken := Options{Scheme: "http", Host: "x", Every: 1, Get: func(context.Context, string) (*Page, error) { return nil, errors.New("connection refused") }}
	if _, err := Visit(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a site that is away: %v", err)
	}
}
