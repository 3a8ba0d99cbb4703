package behaviour

import (
	"math"
	"math/bits"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// The times that measuring depends on.
const (
	// Part is half of the window: what is measured is of the current half hour and the one before it, so of
	// 30 to 60 minutes. The first navigations of a client stay for up to an hour.
	Part = 30 * time.Minute
	// Settling is how long after a document its assets may come. Before that a client is not said to fetch none.
	Settling = 10 * time.Second

	second    = 1000 // of the milliseconds that times are kept in
	minPause  = second / 2
	maxPause  = 30 * 60 * second
	idlePause = 5 * 60 * second // of a longer pause only so much counts as being active
	late      = 2 * second      // events of several edges come out of order by no more
	hour      = 3600 * second
)

// Context is what is known of the site when an event is observed. In the zero Context nothing is known, and what
// depends on it is not observed.
type Context struct {
	// Links is what readers have shown of the site's links; clients that behave like readers add to it. nil: unknown.
	Links *LinkGraph
	// Robots says whether robots.txt asks an agent (User-Agent as sent) not to fetch a path with query, and whether that is known.
	Robots func(site, agent, path string) (disallowed, known bool)
	// Assets says that requests for assets of this site are seen at all: not where they lie with a CDN.
	Assets bool
	// Referrers says that the source tells referrers. A source that shows the header shape does.
	Referrers bool
	// Sampled says that the source shows a part of the requests only: what is not among them may have happened.
	Sampled bool
	// Lean keeps the client small: what needs more than 200 bytes is not measured.
	Lean bool
}

// Client measures one client. The zero Client has seen nothing. It takes 200 bytes, and from the third navigation on
// 900 more. It belongs to one goroutine.
type Client struct {
	first, last int64 // milliseconds since 1970
	navigated   int64 // the latest navigation
	began       int64 // of the current part
	doubted     int64 // since when it has been shown challenges without passing one; 0: it is not
	now         tally
	more        *detail
	pages       [2]uint32 // of the first navigations, until there is more
	kinds       [2]uint32 // their path patterns
	hours       uint32    // bit for each hour of the day, UTC, of the last day
	navs        bucket    // navigations, in periods of ten seconds
	fresh       bucket    // documents whose assets may still come, in periods of five
	flags       flags
}

type flags uint16

const (
	flagFetched  flags = 1 << iota // has ever fetched assets
	flagCleared                    // has a clearance
	flagForgot                     // pages that it asked for have been forgotten
	flagSolved                     // has ever passed a challenge
	flagDirect                     // began with a page inside the site, and nothing had led there
	flagForged                     // began with a page of the site as the referrer, which it cannot have seen from this address
	flagFollowed                   // came to a page from another that it had asked for before
	flagSampled                    // was seen in a sample, so that it may have fetched assets
)

// detail is what is measured only of clients that go on.
type detail struct {
	before       tally // the part before the current
	seen         [2]filter
	patterns     [2]patterns
	numbers      [maxNumbers]int64
	stride       int64
	pattern      uint32 // of the latest navigation; 0: there is none yet
	numbersCount uint8
}

// bucket counts what happened in the current period and the last one.
type bucket struct {
	period    uint32
	now, last uint16
}

// The periods of buckets. [Settling] after a document it is in neither of two periods.
const (
	burstPeriod = 10 * second
	freshPeriod = int64(Settling/time.Millisecond) / 2
)

// add counts one at t and returns how many there were within the length of a period before, about.
func (b *bucket) add(t, length int64) uint16 {
	p := uint32(t / length)
	switch {
	case p == b.period:
	case p == b.period+1:
		b.period, b.last, b.now = p, b.now, 0
	case p < b.period: // late
	default:
		b.period, b.last, b.now = p, 0, 0
	}
	bump(&b.now)
	left := float64(length-t%length) / float64(length) // of the last period, within the length of one
	return uint16(min(float64(b.now)+math.Floor(float64(b.last)*left), math.MaxUint16))
}

// recent returns how many there were in this period and the one before.
func (b *bucket) recent(t, length int64) float64 {
	switch p := uint32(t / length); {
	case p <= b.period:
		return float64(b.now) + float64(b.last)
	case p == b.period+1:
		return float64(b.now)
	}
	return 0
}

// First returns when the client was first seen; zero when it never was.
func (c *Client) First() time.Time { return timeOf(c.first) }

// Last returns when the client was last seen.
func (c *Client) Last() time.Time { return timeOf(c.last) }

// Navigations returns how many documents the client asked for within the window.
func (c *Client) Navigations() int {
	n := int(c.now.navigations)
	if c.more != nil {
		n += int(c.more.before.navigations)
	}
	return n
}

// Grown reports whether the client takes the larger amount of memory.
func (c *Client) Grown() bool { return c.more != nil }

// Fetches reports whether the client has ever fetched assets, passed a challenge or shown a clearance.
func (c *Client) Fetches() bool { return c.behavesLikeReader() }

// Follows reports whether the client ever came to a page from another that it had asked for, and whether it ever fetched assets: of
// those that follow links, most do where assets are seen at all.
func (c *Client) Follows() (links, fetches bool) {
	return c.flags&flagFollowed != 0, c.flags&flagFetched != 0
}

// Shrink gives the larger amount of memory back: what the client did before the current half hour is forgotten, and which pages it asked for.
func (c *Client) Shrink() {
	if c.more != nil {
		c.more, c.pages, c.kinds = nil, [2]uint32{}, [2]uint32{}
		c.now.distinct, c.now.patterned, c.now.compared, c.now.sequential = 0, 0, 0, 0
		c.flags |= flagForgot
	}
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Observe takes in the next event of the client. Events may come up to two seconds out of order; of later ones
// only that they happened counts. Events of no plausible time and appeals are ignored.
func (c *Client) Observe(e *defense.Event, ctx Context) {
	t := e.Time.UnixMilli()
	if t <= 0 || t > math.MaxInt64/2 || e.Kind == "appeal" {
		return
	}
	c.advance(t)
	n := &c.now
	n.requests++
	n.score += uint32(max(0, min(e.Verdict.Score, defense.MaxScore)))
	n.agents |= 1 << (xxhash.Sum64String(e.Request.Agent) >> 58)
	if e.Client.Token != "" {
		c.flags |= flagCleared
	}
	switch {
	case e.Kind == "trap":
		bump(&n.traps)
		return
	case e.Kind == "challenge" && e.Challenge != nil && e.Challenge.Outcome == "issued":
		bump(&n.challenged)
		if c.doubted == 0 {
			c.doubted = t
		}
	case e.Kind == "challenge":
		if e.Challenge != nil && e.Challenge.Outcome == "passed" {
			bump(&n.solved)
			c.flags |= flagSolved
			c.doubted = 0
		}
		return // the edge's own page
	}
	switch e.Request.Kind {
	case defense.KindAsset:
		n.assets++
		c.flags |= flagFetched
		if e.Response.Status == 304 {
			n.revalidated++
		}
	case defense.KindNavigation:
		c.navigate(e, &ctx, t)
	}
}

// advance moves the window to an event at t.
func (c *Client) advance(t int64) {
	if c.first == 0 {
		c.first, c.began, c.last = t, t, t
	}
	if t > c.last {
		// The hours of the day that have passed since are no longer of the last day's.
		if passed := t/hour - c.last/hour; passed >= 24 {
			c.hours = 0
		} else {
			for h := c.last/hour + 1; h <= t/hour; h++ {
				c.hours &^= 1 << (h % 24)
			}
		}
		c.last = t
	}
	c.hours |= 1 << (c.last / hour % 24)
	const part = int64(Part / time.Millisecond)
	switch old := c.last - c.began; {
	case old < part:
	case old >= 2*part:
		if c.now.navigations > 0 || c.more != nil {
			c.flags |= flagForgot
		}
		c.now, c.began, c.pages, c.kinds = tally{}, c.last, [2]uint32{}, [2]uint32{}
		if c.more != nil { // it did nothing for so long that it may as well be small
			c.more = nil
		}
	case c.more != nil:
		d := c.more
		d.before, c.now = c.now, tally{}
		d.seen[1], d.seen[0] = d.seen[0], filter{}
		d.patterns[1], d.patterns[0] = d.patterns[0], patterns{}
		c.began += part
	}
}

// grow makes room for what is measured of clients that go on.
func (c *Client) grow() {
	c.more = new(detail)
	for i := range min(c.now.navigations, uint32(len(c.pages))) {
		if c.pages[i] == 0 { // forgotten when the client was made small
			continue
		}
		c.now.distinct += c.more.seen[0].add(c.pages[i])
		c.more.patterns[0].add(c.kinds[i], 1)
		c.now.patterned++
	}
}

// visited reports whether the client asked for the page within the window, as far as is known.
func (c *Client) visited(page uint32) bool {
	if d := c.more; d != nil {
		return d.seen[0].has(page) || d.seen[1].has(page)
	}
	for i := range min(c.now.navigations, uint32(len(c.pages))) {
		if c.pages[i] == page {
			return true
		}
	}
	return false
}

// navigate takes in that the client asked for a document.
func (c *Client) navigate(e *defense.Event, ctx *Context, t int64) {
	n, r := &c.now, &e.Request
	if c.more == nil && n.navigations >= uint32(len(c.pages)) && !ctx.Lean {
		c.grow()
	}
	page := PageOf(e.Site, r.Path, r.Query)
	pattern := uint32(defense.Fingerprints("", 1, "", r.Path, r.Query)[defense.FingerprintShape].Hash)
	first, inOrder := c.navigated == 0, t >= c.navigated-late
	n.depth += uint32(depthOf(r.Path))
	if inOrder {
		c.pace(t)
	}

	if n.judged < maxJudged {
		n.judged++
		c.judge(e, ctx, t, page, first)
	}

	switch {
	case c.more != nil:
		n.distinct += c.more.seen[0].add(uint32(page.Full))
		c.more.patterns[0].add(pattern, 1)
		bump(&n.patterned)
		c.sequence(r, pattern, inOrder)
	case n.navigations < uint32(len(c.pages)):
		c.pages[n.navigations], c.kinds[n.navigations] = uint32(page.Full), pattern
	default:
		c.flags |= flagForgot // lean: the page is not remembered
	}
	n.navigations++
	c.navigated = max(c.navigated, t)
}

// pace measures when navigations come.
func (c *Client) pace(t int64) {
	n := &c.now
	n.burst = max(n.burst, c.navs.add(t, burstPeriod))
	if c.navigated == 0 {
		return
	}
	gap := max(0, t-c.navigated)
	n.active += float32(min(gap, idlePause)) / second
	// Pages opened at once, as tabs are, say nothing of a rhythm.
	if gap >= minPause && gap <= maxPause && n.gaps < math.MaxUint16 {
		s := float32(gap) / second
		n.gaps++
		n.gapSum += s
		n.gapSquares += s * s
	}
}

// judge measures what a navigation asks for and what became of it.
func (c *Client) judge(e *defense.Event, ctx *Context, t int64, page Page, first bool) {
	n, r := &c.now, &e.Request
	shaped := r.Headers.Shape != ""
	if shaped {
		n.shapes |= 1 << (xxhash.Sum64String(r.Headers.Shape) >> 58)
		n.spoken++
		if r.Headers.AcceptLanguage == "" {
			n.speechless++
		}
	}
	if r.Query != "" {
		n.queried++
	}
	if !e.Verdict.Action.Stops() { // what the edge answered says nothing of what the client looks for
		status := e.Response.Status
		n.answered++
		n.kilobytes += float32(max(0, min(e.Response.Bytes, 1<<40))) / 1024
		switch {
		case status == 304:
			n.revalidated++
		case status == 404 || status == 410:
			n.notFound++
			n.errors++
		case status >= 400 && status < 500 && status != 429:
			n.errors++
		case status >= 200 && status < 300 && (ctx.Assets || ctx.Sampled) && r.Method == "GET":
			if ctx.Sampled {
				c.flags |= flagSampled
				break
			}
			n.views++
			// A page that took long has its assets later.
			wait := min(e.Response.Duration, 300)
			if !(wait > 0) { // nor is it NaN
				wait = 0
			}
			c.fresh.add(t+int64(wait*second), freshPeriod)
		}
	}
	if ctx.Robots != nil {
		target := r.Path
		if r.Query != "" {
			target += "?" + r.Query
		}
		if disallowed, known := ctx.Robots(e.Site, r.Agent, target); known {
			n.robotsKnown++
			if disallowed {
				n.disallowed++
			}
		}
	}
	if !first {
		c.follow(e, ctx, page, shaped)
		return
	}
	switch {
	case !shaped && !ctx.Referrers, ctx.Sampled:
	case r.Referrer == "":
		if r.Path != "/" {
			c.flags |= flagDirect
		}
	default:
		if from := parseReferrer(r.Referrer, r.Host, e.Site); from.sameSite && !from.root {
			c.flags |= flagForged
		}
	}
}

// follow measures how a navigation after the first came about: by a link, as far as can be told.
func (c *Client) follow(e *defense.Event, ctx *Context, page Page, shaped bool) {
	n, r := &c.now, &e.Request
	n.laterJudged++
	if shaped || ctx.Referrers {
		n.followed++
		if r.Referrer != "" {
			n.referred++
		}
	}
	var from referrer
	if r.Referrer != "" {
		from = parseReferrer(r.Referrer, r.Host, e.Site)
	}
	came := from.sameSite && c.visited(uint32(from.page.Full))
	// A small client's pages may have been forgotten; of a large one only what it did an hour ago and longer is.
	remembers := c.more != nil || c.flags&flagForgot == 0
	if from.sameSite && !came && !from.root && remembers {
		n.referrerOdd++ // it was never there
	}
	if came && from.page != page {
		c.flags |= flagFollowed
	}
	if ctx.Links == nil {
		return
	}
	again := c.visited(uint32(page.Full))
	if came && from.page != page && c.behavesLikeReader() {
		ctx.Links.Learn(from.page, page, neighbourhoodOf(e))
	} else if came && !again {
		if linked, known := ctx.Links.Linked(page, func(p uint32) bool { return p == uint32(from.page.Full) }); known && !linked {
			n.referrerOdd++ // there is no such link
		}
	}
	if !remembers {
		return // a page that is not remembered may have led here
	}
	if linked, known := ctx.Links.Linked(page, c.visited); known {
		n.linkKnown++
		if !linked && !again {
			n.unlinked++
		}
	}
}

// behavesLikeReader is what a client must do before it teaches others' links.
func (c *Client) behavesLikeReader() bool { return c.flags&(flagFetched|flagCleared|flagSolved) != 0 }

// neighbourhoodOf returns a hash of the client's /24 or /48.
func neighbourhoodOf(e *defense.Event) uint32 {
	text := e.Client.Prefix
	if text == "" {
		text = e.Client.Address
	}
	return uint32(xxhash.Sum64String(text))
}

// sequence compares the numbers of an address with those of the one before.
func (c *Client) sequence(r *defense.EventRequest, pattern uint32, inOrder bool) {
	d := c.more
	var numbers [maxNumbers]int64
	count := numbersOf(&numbers, r.Path, r.Query)
	if inOrder && d.pattern != 0 && c.now.compared < math.MaxUint16 {
		c.now.compared++
		if d.pattern == pattern && int(d.numbersCount) == count && count > 0 {
			// All numbers that differ differ by the same: 1, or as much as the time before.
			var stride int64
			follows := true
			for i := range count {
				switch diff := numbers[i] - d.numbers[i]; {
				case diff == 0:
				case stride == 0:
					stride = diff
				case diff != stride:
					follows = false
				}
			}
			if follows && stride != 0 && (stride == 1 || stride == -1 || stride == d.stride) {
				c.now.sequential++
			}
			d.stride = stride
		} else {
			d.stride = 0
		}
	}
	d.numbers, d.numbersCount, d.pattern = numbers, uint8(count), pattern
}

// sums returns what was counted within the window that ends at t.
func (c *Client) sums(t int64) sums {
	const part = int64(Part / time.Millisecond)
	var now, before tally
	switch old := t - c.began; {
	case old < part || c.more == nil && old < 2*part:
		now = c.now
		if c.more != nil {
			before = c.more.before
		}
	case old < 2*part:
		before = c.now
	}
	return now.plus(&before)
}

func ones(b uint64) int { return bits.OnesCount64(b) }
