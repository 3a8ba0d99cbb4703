package simulate

import (
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// browser is a reader with a browser. It keeps cookies and a cache, loads what pages are made of, follows redirects and refreshes,
// reads, and follows links, until its plan is done or the site has turned it away.
type browser struct {
	client
	program  *program
	language string

	start      time.Duration
	entry      string
	from       where
	pages      int      // to open in all
	tabs       int      // links to open at once from the first page; 0: one after the other
	restored   []string // pages that a restarted browser opens again at once, instead of entry
	scriptsOff bool
	cookiesOff bool
	impatient  bool // leaves when it is asked to wait

	cookies jar
	cache   map[string]cached
	opened  int
	gone    bool // has left
	icon    bool // has asked for the site's icon
}

// cached is what a browser has of an address.
type cached struct {
	etag  string
	until time.Duration // fresh until then
	page  *page         // of a document
	parts []part        // of a style sheet
}

// maxCached bounds the addresses in one browser's cache.
const maxCached = 400

// visit is one page being opened.
type visit struct {
	target string
	from   where
	last   bool // a tab that is read later: it leads to no further page

	redirects int
	checks    int // challenges met
	failures  int
}

// step is what a request of a browser is for.
type step struct {
	visit *visit // of a document
	dest  string // of a part; "" for a document
	page  string // the part's page
}

const (
	maxRedirects = 10
	// maxChecks is how often a reader puts up with being checked for one page.
	maxChecks = 3
	// maxRetries is how often a reader tries again when the site is overloaded.
	maxRetries = 2
)

// Start opens the first page, or those of the last session.
func (b *browser) Start() []*Request {
	if len(b.restored) == 0 {
		return []*Request{b.open(b.start, &visit{target: b.entry, from: b.from})}
	}
	var list []*Request
	for i, target := range b.restored {
		list = append(list, b.open(b.start+time.Duration(i)*b.between(time.Millisecond, 40*time.Millisecond),
			&visit{target: target, from: where{site: "none"}, last: i > 0}))
	}
	return list
}

func (b *browser) open(at time.Duration, v *visit) *Request {
	b.opened++
	return b.ask(at, v)
}

func (b *browser) ask(at time.Duration, v *visit) *Request {
	return b.request(at, v.target, b.program.navigation(&b.client, b.language, v.from), step{visit: v})
}

// Send adds the cookies and what the browser has of the address.
func (b *browser) Send(q *Request) {
	if !b.cookiesOff {
		if line := b.cookies.line(q.Path(), q.Scheme); line != "" {
			set(q.Header, "Cookie", line)
		}
	}
	if c := b.cache[q.Target]; c.etag != "" {
		set(q.Header, "If-None-Match", c.etag)
	}
}

// Receive goes on.
func (b *browser) Receive(q *Request, r *Response) []*Request {
	if !b.cookiesOff {
		b.cookies.keep(r.Header)
	}
	s := q.step.(step)
	if s.visit == nil {
		return b.receivePart(q, r, s)
	}
	return b.receivePage(q, r, s.visit)
}

func (b *browser) receivePage(q *Request, r *Response, v *visit) []*Request {
	if b.gone {
		return nil
	}
	base := q.url()
	switch {
	case r.Status == http.StatusNotModified:
		return b.shown(q, r, v, b.cache[q.Target].page)
	case r.Status >= 301 && r.Status <= 308 && r.Header.Get("Location") != "":
		target := resolve(base, r.Header.Get("Location"))
		if v.redirects++; target == "" || v.redirects > maxRedirects {
			return b.leave()
		}
		v.target = target
		return []*Request{b.ask(r.At, v)}
	}

	var p *page
	if strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
		p = parsePage(base, r.Body)
		if p.refresh == nil {
			if value := r.Header.Get("Refresh"); value != "" {
				p.refresh = parseRefresh(base, value)
			}
		}
		if p.refresh != nil {
			return b.refreshed(q, r, v, p)
		}
	}
	switch {
	case r.Status == 0, r.Status == http.StatusTooManyRequests, r.Status >= 500:
		if v.failures++; v.failures > maxRetries || b.impatient {
			return b.leave()
		}
		again := *v
		again.from.reload = true
		return []*Request{b.ask(r.At+max(retryAfter(r.Header), 3*time.Second)+b.between(0, 15*time.Second), &again)}
	case r.Status == http.StatusNotFound || r.Status == http.StatusGone:
		return b.next(q, r.At, v, p)
	case r.Status >= 400:
		return b.leave()
	}
	if p == nil { // a picture or file in a tab of its own
		p = &page{}
	}
	b.store(q.Target, r, cached{page: p})
	return b.shown(q, r, v, p)
}

// refreshed follows a page that goes on by itself, as a check does. Text browsers show it as a link, which its reader follows.
func (b *browser) refreshed(q *Request, r *Response, v *visit, p *page) []*Request {
	if v.checks++; v.checks > maxChecks || b.impatient {
		return b.leave()
	}
	v.target, v.redirects = p.refresh.target, 0
	v.from = where{site: "same-origin", referrer: b.origin() + q.Target}
	var list []*Request
	if b.program.engine != text {
		list = b.load(r.At, p.parts, b.origin()+q.Target)
	}
	after := p.refresh.after + b.between(5*time.Millisecond, 50*time.Millisecond)
	if b.program.engine == text {
		after = b.between(2*time.Second, 9*time.Second)
	}
	return append(list, b.ask(r.At+after, v))
}

// shown loads what the page is made of and goes on reading.
func (b *browser) shown(q *Request, r *Response, v *visit, p *page) []*Request {
	v.failures = 0
	if p == nil {
		p = &page{}
	}
	list := b.next(q, r.At, v, p)
	if b.program.engine == text {
		return list
	}
	list = append(list, b.load(r.At, p.parts, b.origin()+q.Target)...)
	if !b.icon {
		b.icon = true
		if !hasIcon(p) {
			list = append(list, b.load(r.At+100*time.Millisecond, []part{{"/favicon.ico", "image"}}, b.origin()+q.Target)...)
		}
	}
	return list
}

func hasIcon(p *page) bool {
	for _, part := range p.parts {
		if strings.Contains(part.target, "favicon") {
			return true
		}
	}
	return false
}

// load asks for the parts that are not in the cache.
func (b *browser) load(at time.Duration, parts []part, page string) []*Request {
	var list []*Request
	for _, p := range parts {
		if p.dest == "script" && b.scriptsOff {
			continue
		}
		at += b.between(time.Millisecond, 15*time.Millisecond)
		c, kept := b.cache[p.target]
		if kept && at < c.until {
			if p.dest == "style" { // what a sheet loads is no sheet: a page cannot send a browser round in circles
				list = append(list, b.load(at, c.parts, b.origin()+p.target)...)
			}
			continue
		}
		delay := b.between(5*time.Millisecond, 60*time.Millisecond)
		if p.dest == "image" { // when the layout is known
			delay = b.between(60*time.Millisecond, 600*time.Millisecond)
		}
		if kept || len(b.cache) < maxCached {
			c.until = at + delay + 10*time.Second // on its way: other tabs wait for it
			b.cache[p.target] = c
		}
		list = append(list, b.request(at+delay, p.target, b.program.part(&b.client, b.language, p.dest, page), step{dest: p.dest, page: page}))
	}
	return list
}

func (b *browser) receivePart(q *Request, r *Response, s step) []*Request {
	switch r.Status {
	case http.StatusNotModified:
		c := b.cache[q.Target]
		b.store(q.Target, r, c)
		return b.load(r.At, c.parts, b.origin()+q.Target)
	case http.StatusOK:
		var c cached
		if s.dest == "style" {
			c.parts = parseSheet(q.url(), r.Body)
		}
		b.store(q.Target, r, c)
		return b.load(r.At, c.parts, b.origin()+q.Target)
	}
	delete(b.cache, q.Target)
	return nil
}

// store keeps an answer in the cache, if it may be kept.
func (b *browser) store(target string, r *Response, c cached) {
	if tag := r.Header.Get("Etag"); tag != "" {
		c.etag = tag
	}
	age := maxAge(r.Header)
	c.until = r.At + age
	if age == 0 && c.etag == "" || strings.Contains(r.Header.Get("Cache-Control"), "no-store") {
		delete(b.cache, target)
		return
	}
	if _, ok := b.cache[target]; ok || len(b.cache) < maxCached {
		b.cache[target] = c
	}
}

// next reads the page and opens the next one, or several in tabs.
func (b *browser) next(q *Request, at time.Duration, v *visit, p *page) []*Request {
	if v.last || b.opened >= b.pages || p == nil {
		return nil
	}
	from := where{site: "same-origin", referrer: b.origin() + q.Target, user: true}
	if b.tabs > 0 {
		var list []*Request
		at += b.between(2*time.Second, 6*time.Second)
		for i := range b.tabs {
			target := b.choose(q.Target, p)
			if target == "" {
				break
			}
			list = append(list, b.open(at, &visit{target: target, from: from, last: i > 0}))
			at += b.between(250*time.Millisecond, 900*time.Millisecond)
		}
		b.tabs = 0
		return list
	}
	at += b.dwell()
	if c := b.cache[q.Target]; c.etag != "" && b.chance(0.03) { // reloads
		again := where{site: "same-origin", referrer: v.from.referrer, user: true, reload: true}
		if v.from.referrer == "" {
			again.site = "none"
		}
		return []*Request{b.open(at, &visit{target: q.Target, from: again})}
	}
	if target := b.choose(q.Target, p); target != "" {
		return []*Request{b.open(at, &visit{target: target, from: from})}
	}
	return nil
}

// choose takes a link of the page, mostly one that leads to something new to read; "" if there is none.
func (b *browser) choose(here string, p *page) string {
	weight := func(i int) float64 {
		target := p.links[i]
		w := 1.0
		if strings.IndexByte(target, '?') >= 0 { // histories, listings, edits
			w = 0.04
		}
		if target == here {
			w = 0
		} else if _, ok := b.cache[target]; ok {
			w *= 0.1
		}
		return w
	}
	if len(p.links) == 0 {
		return ""
	}
	if target := p.links[weighted(b.rng, len(p.links), weight)]; target != here {
		return target
	}
	return ""
}

// dwell is how long a page is read: log-normal, half of them less than 20 s, from 5 s to 90 s.
func (b *browser) dwell() time.Duration {
	seconds := 20 * math.Exp(0.8*b.rng.NormFloat64())
	return time.Duration(min(max(seconds, 5), 90) * float64(time.Second))
}

func (b *browser) leave() []*Request {
	b.gone = true
	return nil
}

// url returns the request's whole address.
func (q *Request) url() *url.URL {
	u := &url.URL{Scheme: q.Scheme, Host: q.Host, Path: "/"}
	if t, err := url.ParseRequestURI(q.Target); err == nil {
		u.Path, u.RawPath, u.RawQuery = t.Path, t.RawPath, t.RawQuery
	}
	return u
}
