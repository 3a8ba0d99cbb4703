package drip

import "time"

// bucket is a budget that fills at a steady rate and holds a second's worth. A write takes from it what it wrote, so that it may go below
// zero; while it is, nobody writes.
type bucket struct {
	rate float64 // bytes a second; 0: no bound
	have float64
	at   time.Duration
}

// open reports whether there is anything left at the time.
func (b *bucket) open(now time.Duration) bool {
	if b.rate == 0 {
		return true
	}
	if d := now - b.at; d > 0 {
		b.have = min(b.rate, b.have+b.rate*d.Seconds())
		b.at = now
	}
	return b.have > 0
}

func (b *bucket) take(n int) { b.have -= float64(n) }
