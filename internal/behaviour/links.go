package behaviour

// LinkGraph is what readers have shown of a site's links: a page leads to another when readers
// of different neighbourhoods came from the one to the other. It asks the site nothing and learns only from
// clients that behave like readers, and one neighbourhood alone teaches it nothing, so that a scraper cannot explain its own way.
//
// Memory is bounded: pages that nobody was led to lately are forgotten first. A LinkGraph belongs to one goroutine.
type LinkGraph struct {
	limit      int // of each generation
	young, old map[uint64]target
	Forgotten  uint64 // targets that there was no room for
}

// DefaultTargets is how many pages a LinkGraph remembers at most, in about 130 bytes each.
const DefaultTargets = 1 << 16

// arrivals is how many times readers must have been led to a page, from any page, before where they came from
// is taken for all that there is to know.
const arrivals = 4

// sources is how many pages that lead to one are remembered. A page that more lead to, such as the
// contents or the login, counts as linked from everywhere.
const sources = 8

// target is a page that readers were led to.
type target struct {
	from      [sources]source
	n         uint8
	overflow  bool
	arrivals  uint8  // saturates
	confirmed uint8  // sources that two neighbourhoods have shown
	teacher   uint32 // the neighbourhood of the first arrival
	taught    bool   // by a second one
}

type source struct {
	page      uint32
	teacher   uint32
	confirmed bool
}

// NewLinkGraph returns a graph that remembers at most limit pages; 0: DefaultTargets.
func NewLinkGraph(limit int) *LinkGraph {
	if limit <= 0 {
		limit = DefaultTargets
	}
	return &LinkGraph{limit: max(1, limit/2), young: map[uint64]target{}}
}

// Len returns how many pages are remembered.
func (g *LinkGraph) Len() int { return len(g.young) + len(g.old) }

// Learn takes in that a reader of the neighbourhood, given as a hash, came from one page to another.
func (g *LinkGraph) Learn(from, to Page, neighbourhood uint32) {
	g.learn(from.Full, to.Full, neighbourhood)
	if to.Path != to.Full {
		g.learn(from.Full, to.Path, neighbourhood)
	}
}

func (g *LinkGraph) learn(from, to uint64, neighbourhood uint32) {
	t, ok := g.find(to)
	if !ok {
		t.teacher = neighbourhood
	} else if t.teacher != neighbourhood {
		t.taught = true
	}
	if t.arrivals < 255 {
		t.arrivals++
	}
	page, known := uint32(from), false
	for i := range t.from[:t.n] {
		if s := &t.from[i]; s.page == page {
			if known = true; !s.confirmed && s.teacher != neighbourhood {
				s.confirmed = true
				t.confirmed++
			}
			break
		}
	}
	switch {
	case known || t.overflow:
	case t.n < sources:
		t.from[t.n] = source{page: page, teacher: neighbourhood}
		t.n++
	default:
		t.overflow = true
	}
	g.put(to, t)
}

// Linked reports whether one of the visited pages leads to the page. known is false when too few readers were led
// there to say.
func (g *LinkGraph) Linked(to Page, visited func(page uint32) bool) (linked, known bool) {
	t, ok := g.find(to.Full)
	if !ok || !t.known() {
		if to.Path == to.Full {
			return false, false
		}
		if t, ok = g.find(to.Path); !ok || !t.known() {
			return false, false
		}
	}
	if t.overflow {
		return true, true
	}
	for _, s := range t.from[:t.n] {
		// One that a single neighbourhood has shown may be a link: the doubt is the client's.
		if visited(s.page) {
			return true, true
		}
	}
	return false, true
}

func (t *target) known() bool {
	return t.taught && t.arrivals >= arrivals && (t.confirmed > 0 || t.overflow)
}

// find looks a page up.
func (g *LinkGraph) find(page uint64) (target, bool) {
	if t, ok := g.young[page]; ok {
		return t, true
	}
	t, ok := g.old[page]
	return t, ok
}

func (g *LinkGraph) put(page uint64, t target) {
	if _, ok := g.young[page]; !ok && len(g.young) >= g.limit {
		g.Forgotten += uint64(len(g.old))
		g.young, g.old = make(map[uint64]target, g.limit/4), g.young
	}
	delete(g.old, page)
	g.young[page] = t
}
