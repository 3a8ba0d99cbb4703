// Package answer writes the responses that the edge makes itself: refusals,
// challenge pages, gateway errors.
//
// Each answer comes in three forms, and the request's kind chooses: a page for
// what a person opens, application/problem+json (RFC 9457) for programs that speak JSON, plain text for
// the rest (git, feeds, command-line clients). No answer may be stored by a cache or change what a search
// engine knows of a page: all are no-store, none says noindex.
package answer

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
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

// Answer is one response of the edge's own.
type Answer struct {
	Status     int
	Title      string        // short: the problem's title, the page's heading
	Detail     string        // one or two sentences of plain text
	RetryAfter time.Duration // 0: no Retry-After; rounded up to whole seconds
	RequestID  string        // what a reader quotes when they ask the owner; "" if none
	Contact    string        // how to reach the owner: mail address or URL; "" if not set
	Refresh    string        // same-site address that the page goes on to; "" for none
	Delay      time.Duration // before the refresh
	Link       string        // same-site address offered as a link, used with LinkText
	LinkText   string
}

const style = `:root{color-scheme:light dark}body{font:1.125rem/1.6 system-ui,sans-serif;max-width:38rem;margin:12vh auto;padding:0 1.25rem}` +
	`h1{font-size:1.6rem;line-height:1.25}code{font-size:.9em;overflow-wrap:anywhere}footer{margin-top:3rem;font-size:.875rem;opacity:.8}` +
	`a{color:LinkText}`

var (
	policy = "default-src 'none'; style-src 'sha256-" + styleHash() + "'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
	// Shared header values: assigning these slices costs no allocation. They are never appended to.
	noStore    = []string{"no-store"}
	vary       = []string{"Accept, Cookie, User-Agent"}
	nosniff    = []string{"nosniff"}
	csp        = []string{policy}
	typePage   = []string{"text/html; charset=utf-8"}
	typeText   = []string{"text/plain; charset=utf-8"}
	typeProb   = []string{"application/problem+json"}
	noReferrer = []string{"same-origin"}
)

func styleHash() string {
	sum := sha256.Sum256([]byte(style))
	return base64.StdEncoding.EncodeToString(sum[:])
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// Write sends the answer in that form. For HEAD the header alone is sent.
// It returns the number of body bytes written; an error means that the client is gone.
func Write(w http.ResponseWriter, r *http.Request, f Form, a *Answer) (int, error) {
	h := w.Header()
	h["Cache-Control"], h["Vary"], h["X-Content-Type-Options"] = noStore, vary, nosniff
	if a.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((a.RetryAfter+time.Second-1)/time.Second)))
	}
	bp := buffers.Get().(*[]byte)
	defer buffers.Put(bp)
	b := (*bp)[:0]
	switch f {
	case FormPage:
		h["Content-Type"], h["Content-Security-Policy"], h["Referrer-Policy"] = typePage, csp, noReferrer
		b = a.page(b)
	case FormProblem:
		h["Content-Type"] = typeProb
		b = a.problem(b)
	default:
		h["Content-Type"] = typeText
		b = a.text(b)
	}
	*bp = b
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(a.Status)
	if r.Method == http.MethodHead {
		return 0, nil
	}
	return w.Write(b)
}

func (a *Answer) page(b []byte) []byte {
	b = append(b, `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">`...)
	if a.Refresh != "" {
		b = append(b, `<meta http-equiv="refresh" content="`...)
		b = strconv.AppendInt(b, int64((a.Delay+time.Second-1)/time.Second), 10)
		b = append(b, `;url=`...)
		b = append(b, html.EscapeString(a.Refresh)...)
		b = append(b, `">`...)
	}
	b = append(b, `<title>`...)
	b = append(b, html.EscapeString(a.Title)...)
	b = append(b, `</title><style>`+style+`</style></head><body><main><h1>`...)
	b = append(b, html.EscapeString(a.Title)...)
	b = append(b, `</h1><p>`...)
	b = append(b, html.EscapeString(a.Detail)...)
	b = append(b, `</p>`...)
	if a.Link != "" {
		b = append(b, `<p><a href="`...)
		b = append(b, html.EscapeString(a.Link)...)
		b = append(b, `">`...)
		b = append(b, html.EscapeString(a.LinkText)...)
		b = append(b, `</a></p>`...)
	}
	b = append(b, `</main>`...)
	if a.Contact == "" && a.RequestID == "" {
		return append(b, `</body></html>`...)
	}
	b = append(b, `<footer>`...)
	if a.Contact != "" {
		b = append(b, `<p>Is this wrong? Tell the site’s owner: `...)
		if href := contactHref(a.Contact); href != "" {
			b = append(b, `<a href="`...)
			b = append(b, html.EscapeString(href)...)
			b = append(b, `">`...)
			b = append(b, html.EscapeString(a.Contact)...)
			b = append(b, `</a>`...)
		} else {
			b = append(b, html.EscapeString(a.Contact)...)
		}
		b = append(b, `</p>`...)
	}
	if a.RequestID != "" {
		// A name that a reader can quote: the owner finds the request by it.
		b = append(b, `<p>Request number: <code>`...)
		b = append(b, html.EscapeString(a.RequestID)...)
		b = append(b, `</code></p>`...)
	}
	return append(b, `</footer></body></html>`...)
}

func contactHref(c string) string {
	switch {
	case strings.HasPrefix(c, "https://"), strings.HasPrefix(c, "http://"), strings.HasPrefix(c, "mailto:"):
		return c
	case strings.Count(c, "@") == 1 && !strings.ContainsAny(c, " \t<>\"'"):
		return "mailto:" + c
	}
	return ""
}

type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail,omitempty"`
	RequestID string `json:"requestId,omitempty"`
	Contact   string `json:"contact,omitempty"`
}

func (a *Answer) problem(b []byte) []byte {
	j, err := json.Marshal(problem{Type: "about:blank", Title: a.Title, Status: a.Status, Detail: a.Detail, RequestID: a.RequestID, Contact: a.Contact})
	if err != nil { // strings and an int always marshal
		panic(err)
	}
	return append(append(b, j...), '\n')
}

func (a *Answer) text(b []byte) []byte {
	b = strconv.AppendInt(b, int64(a.Status), 10)
	b = append(b, ' ')
	b = append(b, a.Title...)
	b = append(b, '\n')
	b = append(b, a.Detail...)
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
