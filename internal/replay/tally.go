package replay

import (
	"cmp"
	"slices"
	"strings"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// count is how often something was seen and what became of it.
type count struct {
	total   uint64
	actions [defense.Charge + 1]uint64 // by intended action
	bytes   int64
}

func (c *count) add(a defense.Action, bytes int64) {
	c.total++
	c.actions[a]++
	c.bytes += bytes
}

// stopped is how many requests the site would have been spared.
func (c *count) stopped() uint64 {
	return c.actions[defense.Throttle] + c.actions[defense.Challenge] + c.actions[defense.Tarpit] + c.actions[defense.Deny]
}

// tally counts by key in bounded memory: when it is full, the less frequent
// half is forgotten (lossy counting). What is frequent in a log survives; what was
// dropped is counted, so that a report can say when its tail is not exact.
type tally[K comparable] struct {
	m       map[K]*count
	max     int
	own     func(K) K // makes a key that may be kept; nil if every key may
	dropped uint64    // requests whose key was forgotten
}

func newTally[K comparable](max int) *tally[K] { return &tally[K]{m: map[K]*count{}, max: max} }

// newTextTally counts by texts of log lines, of which a part would keep the whole line in memory.
func newTextTally(max int) *tally[string] {
	return &tally[string]{m: map[string]*count{}, max: max, own: strings.Clone}
}

func (t *tally[K]) at(k K) *count {
	c, ok := t.m[k]
	if !ok {
		if len(t.m) >= t.max {
			t.halve()
		}
		if t.own != nil {
			k = t.own(k)
		}
		c = &count{}
		t.m[k] = c
	}
	return c
}

func (t *tally[K]) halve() {
	totals := make([]uint64, 0, len(t.m))
	for _, c := range t.m {
		totals = append(totals, c.total)
	}
	slices.Sort(totals)
	cut := totals[len(totals)/2]
	for k, c := range t.m {
		if c.total <= cut {
			t.dropped += c.total
			delete(t.m, k)
		}
	}
}

type counted[K comparable] struct {
	key K
	*count
}

// top returns the n keys that rank highest, ties broken by less.
func (t *tally[K]) top(n int, rank func(*count) uint64, less func(a, b K) int) []counted[K] {
	var all []counted[K]
	for k, c := range t.m {
		if rank(c) > 0 {
			all = append(all, counted[K]{k, c})
		}
	}
	slices.SortFunc(all, func(a, b counted[K]) int {
		return cmp.Or(cmp.Compare(rank(b.count), rank(a.count)), cmp.Compare(b.total, a.total), less(a.key, b.key))
	})
	return all[:min(n, len(all))]
}

// timeline counts by time in at most maxBuckets buckets: when there are more, their width doubles.
type timeline struct {
	width   int64 // seconds
	buckets map[int64]*count
}

const maxBuckets = 4096

func newTimeline() *timeline { return &timeline{width: 60, buckets: map[int64]*count{}} }

func (t *timeline) add(unix int64, a defense.Action, bytes int64) {
	k := floorDiv(unix, t.width)
	c, ok := t.buckets[k]
	if !ok {
		for len(t.buckets) >= maxBuckets {
			t.widen(2)
			k = floorDiv(unix, t.width)
		}
		if c, ok = t.buckets[k]; !ok {
			c = &count{}
			t.buckets[k] = c
		}
	}
	c.add(a, bytes)
}

func floorDiv(a, b int64) int64 {
	if a < 0 {
		return -((-a + b - 1) / b)
	}
	return a / b
}

func (t *timeline) widen(by int64) {
	old := t.buckets
	t.width *= by
	t.buckets = map[int64]*count{}
	for k, c := range old {
		to := floorDiv(k, by)
		into, ok := t.buckets[to]
		if !ok {
			t.buckets[to] = c
			continue
		}
		into.total += c.total
		into.bytes += c.bytes
		for a, n := range c.actions {
			into.actions[a] += n
		}
	}
}

// Widths that people read easily, in seconds.
var niceWidths = []int64{60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400, 28 * 86400}

// fold widens the buckets until the span takes at most n of them and returns them in order, empty ones included.
func (t *timeline) fold(n int64) (start int64, list []*count) {
	if len(t.buckets) == 0 {
		return 0, nil
	}
	span := func() (lo, hi int64) {
		first := true
		for k := range t.buckets {
			if first || k < lo {
				lo = k
			}
			if first || k > hi {
				hi = k
			}
			first = false
		}
		return
	}
	lo, hi := span()
	for _, w := range niceWidths {
		if hi-lo+1 <= n {
			break
		}
		if w > t.width && w%t.width == 0 {
			t.widen(w / t.width)
			lo, hi = span()
		}
	}
	for hi-lo+1 > n {
		t.widen(2)
		lo, hi = span()
	}
	for k := lo; k <= hi; k++ {
		c := t.buckets[k]
		if c == nil {
			c = &count{}
		}
		list = append(list, c)
	}
	return lo * t.width, list
}
