package simulate

import (
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/temoto/robotstxt"
)

// spider is a program that follows links from page to page.
type spider struct {
	client
	header  http.Header // sent with every request, as it is
	start   time.Duration
	until   time.Duration
	entry   string
	pages   int           // to ask for at most
	pause   time.Duration // between an answer and the next request of the same worker, about
	workers int           // requests at a time
	obeys   string        // the name under which it keeps to robots.txt; "" ignores the file
	renders bool          // fetches style sheets and scripts of some pages, to see what readers see
	gentle  bool          // waits as long as it is told to, and stops when it is refused again and again
	lost    func() string // where to go when no link is left; nil: it stops

	rules    *robotstxt.Group
	tries    int // for robots.txt
	waiting  []string
	seen     map[string]bool
	parts    map[string]bool
	asked    int
	refusals int // in a row
}

const (
	// maxFrontier bounds the links that a crawler remembers.
	maxFrontier = 20_000
	// gentleRefusals is after how many refusals in a row a polite crawler stays away.
	gentleRefusals = 12
)

// crawl is what a request of a crawler is for.
type crawl uint8

const (
	crawlRobots crawl = iota
	crawlPage
	crawlPart
)

// Start reads robots.txt or begins at once.
func (c *spider) Start() []*Request {
	c.seen, c.parts = map[string]bool{c.entry: true}, map[string]bool{}
	c.waiting = []string{c.entry}
	if c.obeys != "" {
		return []*Request{c.ask(c.start, "/robots.txt", crawlRobots)}
	}
	return c.begin(c.start)
}

// begin sends the first page; the other workers join as soon as there are links.
func (c *spider) begin(at time.Duration) []*Request {
	q := c.next(at)
	if q == nil {
		return nil
	}
	return []*Request{q}
}

func (c *spider) ask(at time.Duration, target string, what crawl) *Request {
	return c.request(at, target, maps.Clone(c.header), what)
}

// Send changes nothing: crawlers keep no cookies.
func (c *spider) Send(*Request) {}

// Receive goes on.
func (c *spider) Receive(q *Request, r *Response) []*Request {
	switch q.step.(crawl) {
	case crawlPart:
		return nil
	case crawlRobots:
		return c.receiveRobots(r)
	}
	at := r.At + c.pause/2 + c.between(0, c.pause)
	refused := r.Status == http.StatusTooManyRequests || r.Status == http.StatusForbidden || r.Status == 0 || r.Status >= 500
	if refused {
		c.refusals++
		if c.gentle {
			if c.refusals >= gentleRefusals {
				return nil
			}
			at = max(at, r.At+retryAfter(r.Header), r.At+time.Duration(c.refusals)*10*time.Second)
			if r.Status != http.StatusForbidden && len(c.waiting) < maxFrontier {
				c.waiting = append(c.waiting, q.Target)
			}
		}
		return list(c.next(at))
	}
	c.refusals = 0
	if r.Status >= 301 && r.Status <= 308 {
		c.add(resolve(q.url(), r.Header.Get("Location")))
	}
	var out []*Request
	if r.Status == http.StatusOK && strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") {
		p := parsePage(q.url(), r.Body)
		first := c.asked == 1
		for _, target := range p.links {
			c.add(target)
		}
		if c.renders && c.chance(0.1) {
			for _, part := range p.parts {
				if part.dest != "image" && !c.parts[part.target] && c.allowed(part.target) {
					c.parts[part.target] = true
					out = append(out, c.ask(r.At+c.between(time.Second, 4*time.Second), part.target, crawlPart))
				}
			}
		}
		if first {
			for i := 1; i < c.workers; i++ {
				out = append(out, list(c.next(at+c.between(0, time.Second)))...)
			}
		}
	}
	return append(out, list(c.next(at))...)
}

// list returns q as a list, an empty one for nil.
func list(q *Request) []*Request {
	if q == nil {
		return nil
	}
	return []*Request{q}
}

// receiveRobots keeps to RFC 9309: no file allows everything, a server in trouble forbids everything for now.
func (c *spider) receiveRobots(r *Response) []*Request {
	switch {
	case r.Status == http.StatusOK:
		rules, err := robotstxt.FromBytes(r.Body)
		if err != nil { // cannot be read at all: as good as none
			break
		}
		c.rules = rules.FindGroup(c.obeys)
		c.pause = max(c.pause, c.rules.CrawlDelay)
	case r.Status == 0, r.Status == http.StatusTooManyRequests, r.Status >= 500:
		if c.tries++; c.tries > 3 {
			return nil
		}
		return []*Request{c.ask(r.At+max(time.Minute, retryAfter(r.Header)), "/robots.txt", crawlRobots)}
	}
	return c.begin(r.At + c.pause)
}

func (c *spider) allowed(target string) bool { return c.rules == nil || c.rules.Test(target) }

func (c *spider) add(target string) {
	if target == "" || c.seen[target] || len(c.seen) >= maxFrontier {
		return
	}
	c.seen[target] = true
	c.waiting = append(c.waiting, target)
}

// next takes the next page that robots.txt allows; nil when there is none, or enough.
func (c *spider) next(at time.Duration) *Request {
	for at < c.until && c.asked < c.pages {
		var target string
		switch {
		case len(c.waiting) > 0:
			if !c.gentle { // takes what comes; a polite one goes from the front page outwards
				i := c.rng.IntN(len(c.waiting))
				c.waiting[0], c.waiting[i] = c.waiting[i], c.waiting[0]
			}
			target, c.waiting = c.waiting[0], c.waiting[1:]
		case c.lost != nil:
			target = c.lost()
		default:
			return nil
		}
		if c.allowed(target) {
			c.asked++
			return c.ask(at, target, crawlPage)
		}
	}
	return nil
}
