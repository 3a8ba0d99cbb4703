package answer

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/language"
	"github.com/quickthorn/quickthorn/internal/page"
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

func open(t testing.TB) *Writer {
	t.Helper()
	w, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func write(t *testing.T, method string, f Form, a Answer) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if _, err := open(t).Write(w, httptest.NewRequest(method, "/", nil), f, &a); err != nil {
		t.Fatal(err)
	}
	return w
}

var denied = Answer{
	Status: 403, RetryAfter: 1500 * time.Millisecond,
	View: page.View{Title: language.RefusedTitle, Text: language.RefusedText, Reason: `asks for <entry> "first" & often`, RequestID: "01ABC", Contact: "owner@example.org"},
}

func TestNoFormIsStoredOrHidesThePageFromSearch(t *testing.T) {
	for _, f := range []Form{FormPage, FormProblem, FormText} {
		w := write(t, "GET", f, denied)
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
	body := write(t, "GET", FormPage, denied).Body.String()
	if strings.Contains(body, "<entry>") || !strings.Contains(body, "asks for &lt;entry&gt; &#34;first&#34; &amp; often") || !strings.Contains(body, `href="mailto:owner@example.org"`) {
		t.Fatal(body)
	}
}

func TestProblemIsJSON(t *testing.T) {
	w := write(t, "GET", FormProblem, denied)
	var p map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p["status"] != 403.0 || p["title"] != "Not allowed" || p["detail"] != `This site does not serve this kind of request. The reason: asks for <entry> "first" & often.` || p["requestId"] != "01ABC" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%v %v", p, w.Header())
	}
}

func TestHeadHasTheLengthButNoBody(t *testing.T) {
	g, h := write(t, "GET", FormPage, denied), write(t, "HEAD", FormPage, denied)
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
	pages := open(b)
	b.ReportAllocs()
	for b.Loop() {
		a := denied
		if _, err := pages.Write(w, r, FormPage, &a); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAPageIsInTheReadersLanguage(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept-Language", "he;q=0.8, xx, de-AT;q=0.9")
	a := denied
	if _, err := open(t).Write(w, r, FormPage, &a); err != nil {
		t.Fatal(err)
	}
	if body := w.Body.String(); !strings.Contains(body, `<html lang="de" dir="ltr">`) || !strings.Contains(w.Header().Get("Vary"), "Accept-Language") {
		t.Errorf("%v %s", w.Header(), body)
	}
}

func TestAssetsAreKeptForEverAndCompressed(t *testing.T) {
	pages := open(t)
	for _, address := range []string{pages.Script(), pages.Worker()} {
		for _, encoding := range []string{"", "gzip"} {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", address, nil)
			r.Header.Set("Accept-Encoding", encoding)
			n, ok := pages.WriteAsset(w, r, strings.TrimPrefix(address, page.AssetPrefix))
			if !ok || n != w.Body.Len() || w.Header().Get("Content-Encoding") != encoding || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Length") != strconv.Itoa(n) {
				t.Errorf("%s %q: %d bytes, %v", address, encoding, n, w.Header())
			}
		}
	}
	if _, ok := pages.WriteAsset(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), "../answer.go"); ok {
		t.Error("it serves what is no asset")
	}
}

func TestAPageInAFrameElsewhereMayBeShownThere(t *testing.T) {
	embedded, with := denied, denied
	embedded.Embedded = true
	with.Directives = "script-src 'self' https://captcha.example.org"
	for want, a := range map[string]Answer{
		"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'": denied,
		"default-src 'self'; base-uri 'none'; form-action 'self'":                         embedded,
		"script-src 'self' https://captcha.example.org":                                   with,
	} {
		if got := write(t, "GET", FormPage, a).Header().Get("Content-Security-Policy"); !strings.Contains(got, want) || a.Embedded && strings.Contains(got, "frame-ancestors") {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
