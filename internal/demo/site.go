// Package demo is a small sample site for `quickthorn demo`: pages, a feed, an
// API, a style sheet and robots.txt, enough to see what the edge does with each kind of request.
package demo

import (
	"embed"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"
)

//go:embed site.html style.css articles.json
var files embed.FS

type article struct {
	Slug  string `json:"slug"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

// content is what the files say.
type content struct {
	articles []article
	page     *template.Template
	css      []byte
}

func read(from fs.FS) (*content, error) {
	c := &content{}
	raw, err := fs.ReadFile(from, "articles.json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &c.articles); err != nil {
		return nil, fmt.Errorf("read articles.json: %w", err)
	}
	if c.page, err = template.ParseFS(from, "site.html"); err != nil {
		return nil, err
	}
	c.css, err = fs.ReadFile(from, "style.css")
	return c, err
}

// Handler returns the sample site. With a directory its files are read from there, for every request, so that a saved one is live at
// once; with "" they are those built in. The error says which file is broken; later ones are answered with status 500 and the error.
func Handler(dir string) (http.Handler, error) {
	if dir == "" {
		c, err := read(files)
		if err != nil {
			return nil, err
		}
		return c.handler(), nil
	}
	if _, err := read(os.DirFS(dir)); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := read(os.DirFS(dir))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		c.handler().ServeHTTP(w, r)
	}), nil
}

func (c *content) handler() http.Handler {
	articles := c.articles
	mux := http.NewServeMux()
	show := func(w http.ResponseWriter, title, text string) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		// An error here means that the client went away.
		_ = c.page.Execute(w, map[string]any{"Title": title, "Text": text, "Articles": articles})
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		show(w, "The Hedge Gazette", "A sample site, protected by quickthorn. Follow a link, or ask for a page as a crawler would.")
	})
	mux.HandleFunc("GET /articles/{slug}", func(w http.ResponseWriter, r *http.Request) {
		for _, a := range articles {
			if a.Slug == r.PathValue("slug") {
				show(w, a.Title, a.Text)
				return
			}
		}
		http.NotFound(w, r)
	})
	mux.HandleFunc("GET /search", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query().Get("q")
		for _, a := range articles {
			if q != "" && strings.Contains(strings.ToLower(a.Title+a.Text), strings.ToLower(q)) {
				show(w, a.Title, a.Text)
				return
			}
		}
		show(w, "Nothing found", "No article has these words.")
	})
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write(c.css)
	})
	mux.HandleFunc("GET /robots.txt", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "User-agent: GPTBot\nUser-agent: ClaudeBot\nUser-agent: CCBot\nDisallow: /\n\nUser-agent: *\nDisallow: /search\n")
	})
	mux.HandleFunc("GET /api/articles", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(articles)
	})
	mux.HandleFunc("GET /feed.xml", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/rss+xml; charset=utf-8")
		_, _ = w.Write([]byte(xml.Header))
		_ = xml.NewEncoder(w).Encode(feed(r.Host, articles))
	})
	return mux
}

type rss struct {
	XMLName xml.Name `xml:"rss"`
	Version string   `xml:"version,attr"`
	Title   string   `xml:"channel>title"`
	Link    string   `xml:"channel>link"`
	Text    string   `xml:"channel>description"`
	Items   []item   `xml:"channel>item"`
}

type item struct {
	Title string `xml:"title"`
	Link  string `xml:"link"`
	Date  string `xml:"pubDate"`
	Text  string `xml:"description"`
}

func feed(host string, articles []article) rss {
	f := rss{Version: "2.0", Title: "The Hedge Gazette", Link: "http://" + host + "/", Text: "A sample site behind quickthorn"}
	day := time.Date(2026, time.March, 1, 9, 0, 0, 0, time.UTC)
	for i, a := range articles {
		f.Items = append(f.Items, item{
			Title: a.Title, Link: "http://" + host + "/articles/" + a.Slug,
			Date: day.AddDate(0, 0, 7*i).Format(time.RFC1123Z), Text: a.Text,
		})
	}
	return f
}
