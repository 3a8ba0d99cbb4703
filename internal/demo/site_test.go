package demo

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSampleSiteHasEveryKindOfPage(t *testing.T) {
	h, err := Handler("")
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	for path, want := range map[string]string{
		"/": "The Hedge Gazette", "/articles/gates": "A hedge without a gate", "/search?q=vole": "Wrens",
		"/search?q=%3Cscript%3E": "Nothing found", "/style.css": "color-scheme", "/robots.txt": "GPTBot",
	} {
		if w := get(path); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d without %q", path, w.Code, want)
		}
	}
	if w := get("/articles/none"); w.Code != 404 {
		t.Errorf("unknown article: %d", w.Code)
	}
	var list []article
	if err := json.Unmarshal(get("/api/articles").Body.Bytes(), &list); err != nil || len(list) < 3 {
		t.Errorf("API: %d articles, %v", len(list), err)
	}
	var f rss
	if err := xml.Unmarshal(get("/feed.xml").Body.Bytes(), &f); err != nil || len(f.Items) != len(list) {
		t.Errorf("feed: %d items, %v", len(f.Items), err)
	}
}

func TestASavedFileIsLiveAtOnce(t *testing.T) {
	dir := t.TempDir()
	save := func(name, from, to string) {
		t.Helper()
		b, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Handler(dir); err == nil {
		t.Error("a directory without the files is taken")
	}
	for _, name := range []string{"site.html", "style.css", "articles.json"} {
		save(name, "", "")
	}
	h, err := Handler(dir)
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	save("site.html", "</body>", "<p>saved</p></body>")
	save("style.css", "", "/* saved */")
	for _, path := range []string{"/", "/style.css"} {
		if code, body := get(path); code != http.StatusOK || !strings.Contains(body, "saved") {
			t.Errorf("%s: %d without what was saved", path, code)
		}
	}
	save("site.html", "</body>", "{{")
	if code, body := get("/"); code != http.StatusInternalServerError || !strings.Contains(body, "site.html") {
		t.Errorf("a broken file: %d %q, want 500 with its name", code, body)
	}
}
