// Package answer writes the responses that the edge makes itself: refusals,
// challenge pages, gateway errors.
//
// Each answer comes in three forms, and the request's kind chooses: a page in the reader's language for
// what a person opens, application/problem+json (RFC 9457) for programs that speak JSON, plain text for
// the rest (git, feeds, command-line clients), these two in English. No answer may be stored by a cache or change what a search
// engine knows of a page: all are no-store, none says noindex.
package answer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/challenge/script"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/language"
	"github.com/quickthorn/quickthorn/internal/page"
)

// Form is the shape of an answer.
type Form uint8

// The forms.
const (
	FormPage Form = iota
	FormProblem
	FormText
)

// FormFor chooses the form for a request of that kind that accepts that.
func FormFor(kind defense.Kind, accept string) Form {
	switch kind {
	case defense.KindNavigation:
		return FormPage
	case defense.KindGit, defense.KindFeed, defense.KindRobots, defense.KindWellKnown, defense.KindAsset, defense.KindMedia:
		return FormText
	case defense.KindAPI:
		return FormProblem
	}
	if strings.Contains(accept, "json") {
		return FormProblem
	}
	return FormText
}

// Answer is one response of the edge's own. The view's language is chosen by Write.
type Answer struct {
	page.View
	Status     int
	RetryAfter time.Duration // 0: no Retry-After; rounded up to whole seconds
	Embedded   bool          // it may stand in frames on other sites
	// Directives of the Content-Security-Policy for what the page loads from elsewhere.
	Directives string
}

// New returns an answer with a title and a sentence.
func New(status int, title, text language.Key) *Answer {
	return &Answer{Status: status, View: page.View{Title: title, Text: text}}
}

// Writer writes answers, and has what their pages load. It is safe for concurrent use.
type Writer struct {
	*page.Pages
	languages *language.Catalogues
	scripts   *script.Scripts
}

// Open returns a writer with all languages, scripts, and the pages of which the files in dir replace the built-in ones; see page.Open.
func Open(dir string) (*Writer, error) {
	w := &Writer{}
	var err error
	if w.languages, err = language.Load(); err != nil {
		return nil, fmt.Errorf("messages: %w", err)
	}
	if w.scripts, err = script.Load(); err != nil {
		return nil, err
	}
	w.Pages, err = page.Open(dir, w.languages)
	return w, err
}

// Script is the address of the challenge page's script, Worker that of its worker.
func (w *Writer) Script() string { return page.AssetPrefix + w.scripts.Challenge() }

// Worker is the address of the script that a challenge page's workers run.
func (w *Writer) Worker() string { return page.AssetPrefix + w.scripts.Worker() }

// forever is the lifetime of what has a hash of its content in its name (RFC 8246).
var forever = []string{"public, max-age=31536000, immutable"}

// WriteAsset sends the style sheet, logo or script with that name, and reports how many bytes that were; ok is false if there is none.
func (w *Writer) WriteAsset(rw http.ResponseWriter, r *http.Request, name string) (n int, ok bool) {
	a, ok := w.Asset(name)
	if !ok {
		f, found := w.scripts.Find(name)
		if !found {
			return 0, false
		}
		a = page.Asset{Name: f.Name, ContentType: f.ContentType, Body: f.Body, Gzip: f.Gzip}
	}
	h := rw.Header()
	h["Cache-Control"], h["X-Content-Type-Options"] = forever, nosniff
	h.Set("Content-Type", a.ContentType)
	h.Set("Vary", "Accept-Encoding")
	body := a.Body
	if len(a.Gzip) > 0 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		body = a.Gzip
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	rw.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		n, _ = rw.Write(body) // an error means that the client is gone; there is nobody to tell
	}
	return n, true
}

// Language returns the language that a request's pages are in.
func (w *Writer) Language(h http.Header) *language.Language {
	return w.languages.Match(h.Get("Accept-Language"))
}

const policy = "default-src 'self'; base-uri 'none'; form-action 'self'"

var (
	// Shared header values: assigning these slices costs no allocation. They are never appended to.
	noStore     = []string{"no-store"}
	vary        = []string{"Accept, Accept-Language, Cookie, User-Agent"}
	nosniff     = []string{"nosniff"}
	csp         = []string{policy + "; frame-ancestors 'self'"}
	cspEmbedded = []string{policy}
	typePage    = []string{"text/html; charset=utf-8"}
	typeText    = []string{"text/plain; charset=utf-8"}
	typeProb    = []string{"application/problem+json"}
	noReferrer  = []string{"same-origin"}
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8192); return &b }}

// maxBuffer bounds what is kept for the next answer: a held form makes a page large.
const maxBuffer = 64 << 10

// Write sends the answer in that form. For HEAD the header alone is sent.
// It returns the number of body bytes written; an error means that the client is gone.
func (w *Writer) Write(rw http.ResponseWriter, r *http.Request, f Form, a *Answer) (int, error) {
	h := rw.Header()
	h["Cache-Control"], h["Vary"], h["X-Content-Type-Options"] = noStore, vary, nosniff
	if a.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((a.RetryAfter+time.Second-1)/time.Second)))
	}
	bp := buffers.Get().(*[]byte)
	b := (*bp)[:0]
	switch f {
	case FormPage:
		h["Content-Type"], h["Content-Security-Policy"], h["Referrer-Policy"] = typePage, a.policy(), noReferrer
		if a.Language == nil {
			a.Language = w.Language(r.Header)
		}
		b = w.Append(b, &a.View)
	case FormProblem:
		h["Content-Type"] = typeProb
		b = a.problem(b, w.languages.Match(""))
	default:
		h["Content-Type"] = typeText
		b = a.text(b, w.languages.Match(""))
	}
	if cap(b) <= maxBuffer {
		*bp = b
		defer buffers.Put(bp)
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	rw.WriteHeader(a.Status)
	if r.Method == http.MethodHead {
		return 0, nil
	}
	return rw.Write(b)
}

func (a *Answer) policy() []string {
	switch {
	case a.Directives != "" && a.Embedded:
		return []string{policy + "; " + a.Directives}
	case a.Directives != "":
		return []string{policy + "; " + a.Directives + "; frame-ancestors 'self'"}
	case a.Embedded:
		return cspEmbedded
	}
	return csp
}

// Detail is the answer's text in that language: its sentences, and the reason if there is one.
func (a *Answer) Detail(l *language.Language) string {
	var parts []string
	args := []language.Arg{language.Count("seconds", a.Count), language.Count("minutes", a.Count)}
	for _, k := range []language.Key{a.Text, a.More} {
		if s := l.Text(k, args...); s != "" {
			parts = append(parts, s)
		}
	}
	if a.Reason != "" {
		parts = append(parts, l.Text(language.Reason, language.Text("reason", a.Reason)))
	}
	return strings.Join(parts, " ")
}

type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	RequestID string `json:"requestId,omitempty"`
	Contact   string `json:"contact,omitempty"`
}

func (a *Answer) problem(b []byte, l *language.Language) []byte {
	j, err := json.Marshal(problem{Type: "about:blank", Title: l.Text(a.Title), Status: a.Status, Detail: a.Detail(l), RequestID: a.RequestID, Contact: a.Contact})
	if err != nil { // strings and an int always marshal
		panic(err)
	}
	return append(append(b, j...), '\n')
}

func (a *Answer) text(b []byte, l *language.Language) []byte {
	b = strconv.AppendInt(b, int64(a.Status), 10)
	b = append(b, ' ')
	b = append(b, l.Text(a.Title)...)
	b = append(b, '\n')
	b = append(b, a.Detail(l)...)
	b = append(b, '\n')
	if a.Contact != "" {
		b = append(b, "Contact: "...)
		b = append(b, a.Contact...)
		b = append(b, '\n')
	}
	if a.RequestID != "" {
		b = append(b, "Request: "...)
		b = append(b, a.RequestID...)
		b = append(b, '\n')
	}
	return b
}
