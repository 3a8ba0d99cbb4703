package behaviour

import "math"

// tally is what is counted of a client in a part of the window. The 16-bit counters are of judged navigations, of which
// a part of the window has at most maxJudged: shares beyond do not change, and none overflows.
type tally struct {
	requests, navigations uint32
	assets, revalidated   uint32
	score                 uint32 // points
	depth                 uint32 // segments
	kilobytes             float32
	active                float32 // seconds between navigations, long pauses cut short
	gapSum, gapSquares    float32 // of the pauses between navigations, seconds
	distinct              float32 // an estimate

	agents, shapes uint64 // bitmaps for linear counting

	judged      uint16 // navigations that the counters below are of
	gaps        uint16
	followed    uint16 // of judged: not the client's first, referrer observed
	referred    uint16
	laterJudged uint16 // of judged: not the client's first
	referrerOdd uint16
	linkKnown   uint16
	unlinked    uint16
	robotsKnown uint16
	disallowed  uint16
	answered    uint16 // by the site, not by the edge
	errors      uint16
	notFound    uint16
	queried     uint16
	spoken      uint16 // header shape observed
	speechless  uint16 // of spoken: without Accept-Language
	views       uint16 // documents that came with what would make a browser fetch assets
	compared    uint16 // of judged: with a navigation before it whose numbers are known
	sequential  uint16
	patterned   uint16 // of judged: counted by pattern
	burst       uint16
	traps       uint16
	challenged  uint16
	solved      uint16
}

// maxJudged is how many navigations of a part of the window are looked at closely.
const maxJudged = 60_000

// bump adds one where there is room.
func bump(n *uint16) {
	if *n < math.MaxUint16 {
		*n++
	}
}

// plus returns both together. The counters stay within bounds: each is at most half as large as what it is added up in.
func (t *tally) plus(o *tally) sums {
	f := func(a, b uint16) float64 { return float64(a) + float64(b) }
	return sums{
		requests: float64(t.requests) + float64(o.requests), navigations: float64(t.navigations) + float64(o.navigations),
		assets: float64(t.assets) + float64(o.assets), revalidated: float64(t.revalidated) + float64(o.revalidated),
		score: float64(t.score) + float64(o.score), depth: float64(t.depth) + float64(o.depth), kilobytes: float64(t.kilobytes) + float64(o.kilobytes),
		active: float64(t.active) + float64(o.active), gapSum: float64(t.gapSum) + float64(o.gapSum), gapSquares: float64(t.gapSquares) + float64(o.gapSquares),
		distinct: float64(t.distinct) + float64(o.distinct), agents: t.agents | o.agents, shapes: t.shapes | o.shapes,
		judged: f(t.judged, o.judged), gaps: f(t.gaps, o.gaps), followed: f(t.followed, o.followed), referred: f(t.referred, o.referred),
		laterJudged: f(t.laterJudged, o.laterJudged), referrerOdd: f(t.referrerOdd, o.referrerOdd), linkKnown: f(t.linkKnown, o.linkKnown), unlinked: f(t.unlinked, o.unlinked),
		robotsKnown: f(t.robotsKnown, o.robotsKnown), disallowed: f(t.disallowed, o.disallowed), answered: f(t.answered, o.answered), errors: f(t.errors, o.errors),
		notFound: f(t.notFound, o.notFound), queried: f(t.queried, o.queried), spoken: f(t.spoken, o.spoken), speechless: f(t.speechless, o.speechless), views: f(t.views, o.views),
		compared: f(t.compared, o.compared), sequential: f(t.sequential, o.sequential), patterned: f(t.patterned, o.patterned),
		burst: max(float64(t.burst), float64(o.burst)), traps: f(t.traps, o.traps), challenged: f(t.challenged, o.challenged), solved: f(t.solved, o.solved),
	}
}

// sums is what is counted of a client in the whole window.
type sums struct {
	requests, navigations, assets, revalidated, score, depth, kilobytes, active, gapSum, gapSquares, distinct float64
	agents, shapes                                                                                            uint64

	judged, gaps, followed, referred, laterJudged, referrerOdd, linkKnown, unlinked, robotsKnown, disallowed, answered, errors,
	notFound, queried, spoken, speechless, views, compared, sequential, patterned, burst, traps, challenged, solved float64
}

// filterWords is the size of a filter of pages.
const filterWords = 32

// filter is a Bloom filter with two bits for each page: it never denies a page that was asked for, and takes
// one that was not for one in (bits set / 2,048)² of all cases.
type filter struct {
	words [filterWords]uint64
	ones  uint16
}

func filterBits(page uint32) (a, b uint32) {
	h := page * 0x9e3779b1
	return page % (filterWords * 64), h >> (32 - 11)
}

func (f *filter) has(page uint32) bool {
	a, b := filterBits(page)
	return f.words[a/64]>>(a%64)&1 == 1 && f.words[b/64]>>(b%64)&1 == 1
}

// add adds a page and returns by how much the number of different pages has grown: 0, or 1 and a little
// more, which makes up for those that were taken for known.
func (f *filter) add(page uint32) float32 {
	if f.has(page) {
		return 0
	}
	fill := float32(f.ones) / (filterWords * 64)
	a, b := filterBits(page)
	for _, i := range [...]uint32{a, b} {
		if w := &f.words[i/64]; *w>>(i%64)&1 == 0 {
			*w |= 1 << (i % 64)
			f.ones++
		}
	}
	return 1 / max(1-fill*fill, 0.05)
}

// patternSlots is how many path patterns are counted.
const patternSlots = 6

// patterns counts path patterns by space-saving (Metwally and others, 2005): one that is the majority is never lost, and
// its count is too high by at most a sixth of all.
type patterns struct {
	hash  [patternSlots]uint32
	count [patternSlots]uint16
	over  [patternSlots]uint16 // by how much count may be too high
}

func (p *patterns) add(h uint32, n uint16) {
	least := 0
	for i := range p.hash {
		if p.hash[i] == h && p.count[i] > 0 {
			p.count[i] += min(n, math.MaxUint16-p.count[i])
			return
		}
		if p.count[i] < p.count[least] {
			least = i
		}
	}
	p.over[least] = p.count[least]
	p.hash[least] = h
	p.count[least] += min(n, math.MaxUint16-p.count[least])
}

// most returns how often the most frequent pattern of two parts of the window came, at least.
func most(a, b *patterns) (n float64) {
	for i := range a.hash {
		c := float64(a.count[i] - a.over[i])
		for j := range b.hash {
			if b.hash[j] == a.hash[i] {
				c += float64(b.count[j] - b.over[j])
			}
		}
		n = max(n, c)
	}
	for j := range b.hash {
		n = max(n, float64(b.count[j]-b.over[j]))
	}
	return n
}

// linear estimates how many different things a bitmap of 64 bits has seen: exact for one, within 10 % up to 30,
// and no more than 266 (Whang and others, 1990).
func linear(ones int) float64 {
	if ones >= 64 {
		return 266
	}
	return math.Round(64 * math.Log(64/float64(64-ones)))
}
