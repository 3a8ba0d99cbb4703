package casebook

import (
	"github.com/axiomhq/hyperloglog"
)

// exactly is how many different things a counter remembers one by one; beyond that it estimates.
const exactly = 128

// precision gives a sketch 2,048 registers: 2 KiB, and a standard error of 2.3 %.
const precision = 11

// counter counts different things, given as hashes of 32 bits: exactly up to 128, then by HyperLogLog (Flajolet and
// others, 2007) within about 2.3 %. The zero counter is empty.
type counter struct {
	few  []uint32
	many *hyperloglog.Sketch
}

// add adds a thing and reports whether it may be new; for a sketch it always may.
func (c *counter) add(tag uint32) bool {
	if c.many != nil {
		c.many.InsertHash(spread(tag))
		return true
	}
	if c.has(tag) {
		return false
	}
	if len(c.few) < exactly {
		c.few = append(c.few, tag)
		return true
	}
	c.sketch()
	c.many.InsertHash(spread(tag))
	return true
}

// sketch turns the counter into an estimating one.
func (c *counter) sketch() {
	c.many, _ = hyperloglog.NewSketch(precision, false) // the only error is a precision out of range
	for _, t := range c.few {
		c.many.InsertHash(spread(t))
	}
	c.few = nil
}

// has reports whether the thing was added, as long as the counter is exact.
func (c *counter) has(tag uint32) bool {
	for _, t := range c.few {
		if t == tag {
			return true
		}
	}
	return false
}

// remove takes a thing back, as long as the counter is exact.
func (c *counter) remove(tag uint32) {
	for i, t := range c.few {
		if t == tag {
			c.few[i] = c.few[len(c.few)-1]
			c.few = c.few[:len(c.few)-1]
			return
		}
	}
}

// spread makes 64 bits of a tag, as sketches want them (the finalizer of MurmurHash3, in the public domain).
func spread(tag uint32) uint64 {
	h := uint64(tag) + 0x9e3779b97f4a7c15
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// window counts different things within a sliding window, as the union of its current half and the one before.
type window struct {
	now, before counter
	only        int // of now, while both are exact: those that are not in before as well
	adds        int // since the estimate
	estimate    uint64
}

// add adds a thing to the current half and reports whether it may be new to it.
func (w *window) add(tag uint32) bool {
	if !w.now.add(tag) {
		return false
	}
	if w.exact() && !w.before.has(tag) {
		w.only++
	}
	w.adds++
	return true
}

func (w *window) remove(tag uint32) {
	if w.exact() && w.now.has(tag) && !w.before.has(tag) {
		w.only--
	}
	w.now.remove(tag)
	w.before.remove(tag)
}

// turn makes the current half the one before.
func (w *window) turn() {
	w.before, w.now = w.now, counter{}
	w.only, w.adds, w.estimate = 0, 0, 0
}

func (w *window) exact() bool { return w.now.many == nil && w.before.many == nil }

// count returns how many different things there are. An estimate costs some 10 µs and is made anew only after
// some hundred additions.
func (w *window) count() uint64 {
	if w.exact() {
		return uint64(len(w.before.few) + w.only)
	}
	if w.estimate == 0 || w.adds >= 256 {
		union, _ := hyperloglog.NewSketch(precision, false)
		for _, c := range [...]*counter{&w.now, &w.before} {
			for _, t := range c.few {
				union.InsertHash(spread(t))
			}
			if c.many != nil {
				// All sketches have one precision, which is the only thing that Merge refuses.
				if err := union.Merge(c.many); err != nil {
					panic(err)
				}
			}
		}
		w.estimate, w.adds = max(1, union.Estimate()), 0
	}
	return w.estimate
}

// sketches returns how many sketches the window holds.
func (w *window) sketches() int {
	n := 0
	if w.now.many != nil {
		n++
	}
	if w.before.many != nil {
		n++
	}
	return n
}
