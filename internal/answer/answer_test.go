package answer

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestFormFollowsKindThenAccept(t *testing.T) {
	tests := []struct {
		kind   defense.Kind
		accept string
		want   Form
	}{
		{defense.KindNavigation, "text/html", FormPage},
		{defense.KindNavigation, "application/json", FormPage},
		{defense.KindAPI, "*/*", FormProblem},
		{defense.KindGit, "*/*", FormText},
		{defense.KindFeed, "application/feed+json", FormText},
		{defense.KindAsset, "text/css,*/*", FormText},
		{defense.KindOther, "application/activity+json", FormProblem},
		{defense.KindOther, "", FormText},
	}
	for _, tt := range tests {
		if got := FormFor(tt.kind, tt.accept); got != tt.want {
			t.Errorf("%v %q: form %d, want %d", tt.kind, tt.accept, got, tt.want)
		}
	}
}

func write(t *testing.T, method string, f Form, a *Answer) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if _, err := Write(w, httptest.NewRequest(method, "/", nil), f, a); err != nil {
		t.Fatal(err)
	}
	return w
}

var denied = Answer{Status: 403, Title: `No <entry>`, Detail: `Ask "first" & often.`, RetryAfter: 1500 * time.Millisecond, RequestID: "01ABC", Contact: "owner@example.org"}

func TestNoFormIsStoredOrHidesThePageFromSearch(t *testing.T) {
	for _, f := range []Form{FormPage, FormProblem, FormText} {
		w := write(t, "GET", f, &denied)
		if w.Code != 403 || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Retry-After") != "2" {
			t.Errorf("form %d: %d %v", f, w.Code, w.Header())
		}
		if strings.Contains(strings.ToLower(w.Body.String()), "noindex") || w.Header().Get("X-Robots-Tag") != "" {
			t.Errorf("form %d asks search engines to drop the page", f)
		}
		if !strings.Contains(w.Body.String(), "01ABC") || !strings.Contains(w.Body.String(), "owner@example.org") {
			t.Errorf("form %d lacks request id or contact: %s", f, w.Body)
		}
	}
}

func TestPageEscapesWhatItShows(t *testing.T) {
	body := write(t, "GET", FormPage, &denied).Body.String()
	if strings.Contains(body, "<entry>") || !strings.Contains(body, "No &lt;entry&gt;") || !strings.Contains(body, `href="mailto:owner@example.org"`) {
		t.Fatal(body)
	}
	a := Answer{Status: 429, Title: "t", Refresh: `/.quickthorn/pass?to="><script>`, Delay: 2 * time.Second}
	if body := write(t, "GET", FormPage, &a).Body.String(); strings.Contains(body, "<script>") || !strings.Contains(body, `content="2;url=/.quickthorn/pass?to=&#34;`) {
		t.Fatal(body)
	}
}

func TestProblemIsJSON(t *testing.T) {
	w := write(t, "GET", FormProblem, &denied)
	var p map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p["status"] != 403.0 || p["title"] != "No <entry>" || p["requestId"] != "01ABC" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%v %v", p, w.Header())
	}
}

func TestHeadHasTheLengthButNoBody(t *testing.T) {
	g, h := write(t, "GET", FormPage, &denied), write(t, "HEAD", FormPage, &denied)
	if h.Body.Len() != 0 || h.Header().Get("Content-Length") != g.Header().Get("Content-Length") {
		t.Fatalf("HEAD: %d bytes, length %q", h.Body.Len(), h.Header().Get("Content-Length"))
	}
}

type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}

func BenchmarkDeniedPage(b *testing.B) {
	r := httptest.NewRequest("GET", "/", nil)
	w := nowhere{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Write(w, r, FormPage, &denied); err != nil {
			b.Fatal(err)
		}
	}
}

func TestPagesAreReadableByEverybody(t *testing.T) {
	for name, a := range map[string]Answer{
		"refusal":    denied,
		"challenge":  {Status: 429, Title: "One moment", Detail: "Wait.", Refresh: "/p?a=1&b=2", Delay: time.Second, Link: "/p?a=1&b=2", LinkText: "Go on"},
		"no contact": {Status: 502, Title: "Not available", Detail: "Try again."},
	} {
		page := write(t, "GET", FormPage, &a).Body.String()
		for _, want := range []string{`<!doctype html>`, `<html lang="en">`, `<meta charset="utf-8">`, `name="viewport"`, `<title>`, `<main><h1>`, `color-scheme:light dark`} {
			if strings.Count(page, want) != 1 {
				t.Errorf("%s: %d times %s in %s", name, strings.Count(page, want), want, page)
			}
		}
		for _, never := range []string{"<script", "src=", "http-equiv=\"refresh\" content=\"0", "<footer></footer>"} {
			if strings.Contains(page, never) {
				t.Errorf("%s: contains %s: %s", name, never, page)
			}
		}
		if a.Link != "" && !strings.Contains(page, `<a href="/p?a=1&amp;b=2">Go on</a>`) {
			t.Errorf("%s: who cannot be refreshed has no link: %s", name, page)
		}
	}
}
