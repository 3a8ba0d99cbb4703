package demo

import (
	"encoding/json"
	"encoding/xml"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSampleSiteHasEveryKindOfPage(t *testing.T) {
	h, err := Handler()
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
