// Package visit reads some pages of a protected site as a polite robot would, to learn what the site looks like.
package visit

import (
	"bytes"
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"golang.org/x/net/html"

	"github.com/quickthorn/quickthorn/internal/likeness"
	"github.com/quickthorn/quickthorn/internal/robots"
)

// Page is an answer of the site.
type Page struct {
	Status  int
	Header  http.Header
	Body    []byte        // of at most MaxBody bytes
	Latency time.Duration // until its header
}

// MaxBody is the size of the largest answer that is of use, in bytes.
const MaxBody = 1 << 20

// Options say how the site is reached. Get, Scheme and Host are required.
type Options struct {
	// Get fetches a path with its query. Its error is one of reaching the site; a larger body than MaxBody is cut there.
	Get func(ctx context.Context, target string) (*Page, error)
	// Scheme and Host are those by which readers know the site: links to them are followed, others are not.
	Scheme, Host string
	Agent        string        // by which robots.txt knows the visitor
	Pages        int           // read at most, 3 to 200; 0: 40
	Every        time.Duration // from one request to the next; 0: 1 s
}

const (
	maxQueue  = 2000
	maxTarget = 1 << 10
	maxQuery  = 5 // pages with a query: more would be the same list in other orders
	maxFails  = 10
	maxHops   = 5
)

// visitor is one visit.
type visitor struct {
	o       Options
	rules   *robots.Rules
	queue   map[string][]string // by the first part of the path, so that one section does not stand for all
	order   []string            // of the parts
	known   map[string]bool
	read    map[string]int // pages by part
	queries int
	fails   int
	last    string // what the site answered last
}

// Visit reads pages and returns what they have in common. The error says why there were too few.
func Visit(ctx context.Context, o Options) (*likeness.Likeness, error) {
	if o.Pages == 0 {
		o.Pages = 40
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Pages < 3 || o.Pages > 200 || o.Get == nil || o.Host == "" {
		return nil, fmt.Errorf("visit: %d pages of %q: want 3 to 200 pages of a site", o.Pages, o.Host)
	}
	v := &visitor{o: o, queue: map[string][]string{}, known: map[string]bool{}, read: map[string]int{}, rules: robots.Parse(nil)}
	if err := v.prepare(ctx); err != nil {
		return nil, err
	}
	var l likeness.Learner
	for pages := 0; pages < o.Pages; {
		target, ok := v.next()
		if !ok {
			break
		}
		p, at, err := v.get(ctx, target)
		if err != nil {
			return nil, err
		}
		if p == nil {
			if v.fails++; v.fails > maxFails {
				break
			}
			continue
		}
		pages++
		v.follow(at, p.Body)
		// A page that is of no use, such as one of a single word, is no reason to stop.
		_ = l.Add(o.Scheme+"://"+o.Host+at, p.Body, p.Latency)
	}
	like, err := l.Likeness()
	if err != nil && v.last != "" {
		err = fmt.Errorf("%w (the site answered last: %s)", err, v.last)
	}
	return like, err
}

// prepare reads robots.txt and the first sitemap.
func (v *visitor) prepare(ctx context.Context) error {
	v.add("/")
	p, err := v.o.Get(ctx, "/robots.txt")
	if err != nil {
		return fmt.Errorf("visit: %w", err)
	}
	sitemap := "/sitemap.xml"
	switch {
	case p.Status == http.StatusOK:
		v.rules = robots.Parse(p.Body)
		for line := range bytes.Lines(p.Body) {
			name, value, _ := strings.Cut(string(bytes.TrimSpace(line)), ":")
			if strings.EqualFold(name, "sitemap") {
				if t, ok := v.local("/", strings.TrimSpace(value)); ok {
					sitemap = t
					break
				}
			}
		}
	case p.Status >= 500: // RFC 9309 section 2.3.1.4: everything is disallowed
		return fmt.Errorf("visit: robots.txt was answered %d: the site does not want to be read now", p.Status)
	}
	if err := v.pause(ctx); err != nil {
		return err
	}
	p, err = v.o.Get(ctx, sitemap)
	if err != nil {
		return fmt.Errorf("visit: %w", err)
	}
	if p.Status != http.StatusOK {
		return nil
	}
	rest := string(p.Body)
	for range maxQueue {
		_, after, ok := strings.Cut(rest, "<loc>")
		if !ok {
			break
		}
		var loc string
		loc, rest, _ = strings.Cut(after, "</loc>")
		if t, ok := v.local("/", html.UnescapeString(strings.TrimSpace(loc))); ok && !strings.HasSuffix(t, ".xml") {
			v.add(t)
		}
	}
	return nil
}

// get fetches a page; nil if it is none, or of no use. at is where it was in the end.
func (v *visitor) get(ctx context.Context, target string) (p *Page, at string, err error) {
	for range maxHops {
		if err := v.pause(ctx); err != nil {
			return nil, "", err
		}
		p, err := v.o.Get(ctx, target)
		if err != nil {
			return nil, "", fmt.Errorf("visit: %w", err)
		}
		v.last = fmt.Sprintf("%d %s", p.Status, p.Header.Get("Content-Type"))
		switch {
		case p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable:
			v.fails = maxFails // it does not want to be read now
			return nil, "", nil
		case p.Status >= 300 && p.Status < 400:
			to, ok := v.local(target, p.Header.Get("Location"))
			if !ok || v.known[to] || v.disallowed(to) {
				return nil, "", nil
			}
			v.known[to] = true
			target = to
			continue
		case p.Status != http.StatusOK || !isHTML(p.Header) || len(p.Body) >= MaxBody:
			return nil, "", nil
		}
		return p, target, nil
	}
	return nil, "", nil
}

func isHTML(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "text/html" && (h.Get("Content-Encoding") == "" || h.Get("Content-Encoding") == "identity")
}

func (v *visitor) pause(ctx context.Context) error {
	t := time.NewTimer(v.o.Every)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next takes a page of the part of the site of which the fewest were read.
func (v *visitor) next() (string, bool) {
	best := ""
	found := false
	for _, part := range v.order {
		if len(v.queue[part]) > 0 && (!found || v.read[part] < v.read[best]) {
			best, found = part, true
		}
	}
	if !found {
		return "", false
	}
	target := v.queue[best][0]
	v.queue[best] = v.queue[best][1:]
	v.read[best]++
	return target, true
}

// add puts a page into the queue, unless it is known or unwanted.
func (v *visitor) add(target string) {
	if v.known[target] || len(v.known) >= maxQueue || v.disallowed(target) || !isPage(target) {
		return
	}
	if strings.Contains(target, "?") {
		if v.queries++; v.queries > maxQuery {
			return
		}
	}
	v.known[target] = true
	part, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	part, _, _ = strings.Cut(part, "?")
	if _, ok := v.queue[part]; !ok {
		v.order = append(v.order, part)
	}
	v.queue[part] = append(v.queue[part], target)
}

func (v *visitor) disallowed(target string) bool {
	decoded, err := url.PathUnescape(target)
	return err != nil || v.rules.Disallowed(v.o.Agent, decoded)
}

// isPage reports whether an address looks like a page's.
func isPage(target string) bool {
	p, _, _ := strings.Cut(target, "?")
	switch strings.ToLower(path.Ext(p)) {
	case "", ".html", ".htm", ".xhtml", ".php", ".asp", ".aspx", ".jsp", ".cgi":
		return true
	}
	return false
}

// local returns the path and query of a link on the page at base, if it leads to the site itself.
func (v *visitor) local(base, link string) (string, bool) {
	if link == "" || len(link) > maxTarget {
		return "", false
	}
	b, err := url.Parse(v.o.Scheme + "://" + v.o.Host + base)
	if err != nil {
		return "", false
	}
	u, err := b.Parse(link)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !strings.EqualFold(u.Host, v.o.Host) || u.User != nil {
		return "", false
	}
	u.Fragment, u.RawFragment = "", ""
	target := u.RequestURI()
	if !strings.HasPrefix(target, "/") || len(target) > maxTarget {
		return "", false
	}
	return target, true
}

// maxLinks is how many links of a page are followed.
const maxLinks = 300

// follow puts the links of a page into the queue.
func (v *visitor) follow(at string, page []byte) {
	z := html.NewTokenizer(bytes.NewReader(page))
	z.SetMaxBuf(MaxBody)
	for links := 0; links < maxLinks; {
		if z.Next() == html.ErrorToken {
			return // the end, or as far as it can be read
		}
		t := z.Token()
		if t.Type != html.StartTagToken && t.Type != html.SelfClosingTagToken || t.Data != "a" {
			continue
		}
		href, rel := "", ""
		for _, a := range t.Attr {
			switch a.Key {
			case "href":
				href = a.Val
			case "rel":
				rel = strings.ToLower(a.Val)
			}
		}
		links++
		if target, ok := v.local(at, href); ok && !strings.Contains(rel, "nofollow") {
			v.add(target)
		}
	}
}
