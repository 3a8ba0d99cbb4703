package proxy

import (
	"runtime/debug"
	"runtime/metrics"
)

// heapRoom is how much may be allocated between two garbage collections at least. What lives in a small
// site's program is a few MiB, and by the runtime's default a busy server would collect it many times a second.
const heapRoom = 24 << 20

// defaultPercent is the runtime's own: the heap may double.
const defaultPercent = 100

// collector keeps the garbage collector's target such that there is heapRoom, or the default
// where the default gives more: a large decision set must not make it wait for hundreds of MiB.
type collector struct {
	found   int // the percentage before; 0: not looked at yet
	percent int
	sample  [1]metrics.Sample
}

// adjust is called about once a second. A percentage that the owner has set by GOGC is left alone.
func (c *collector) adjust() {
	if c.found == 0 {
		c.sample[0].Name = "/gc/gogc:percent"
		metrics.Read(c.sample[:])
		if c.sample[0].Value.Kind() != metrics.KindUint64 || c.sample[0].Value.Uint64() != defaultPercent {
			c.found = -1
			return
		}
		c.found, c.percent = defaultPercent, defaultPercent
		c.sample[0].Name = "/gc/heap/live:bytes"
	}
	if c.found < 0 {
		return
	}
	metrics.Read(c.sample[:])
	if c.sample[0].Value.Kind() != metrics.KindUint64 {
		return
	}
	want := percentFor(c.sample[0].Value.Uint64())
	// Setting it stops the world for a moment: small changes are not worth that.
	if want > c.percent*5/4 || want < c.percent*4/5 {
		debug.SetGCPercent(want)
		c.percent = want
	}
}

func percentFor(live uint64) int {
	const most = 1000
	if live == 0 {
		return defaultPercent
	}
	return int(min(most, max(defaultPercent, heapRoom*100/live)))
}

// reset gives the runtime its percentage back, for programs that go on after this one (tests).
func (c *collector) reset() {
	if c.found > 0 {
		debug.SetGCPercent(c.found)
	}
}
