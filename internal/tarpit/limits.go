package tarpit

import (
	"sync"
	"time"
)

// bucket is a budget that fills at a steady rate and holds a second's worth. What is taken is known only afterwards, so it may
// go below zero; while it is, nobody is let in.
type bucket struct {
	mu   sync.Mutex
	rate float64 // per second
	have float64
	at   time.Time
}

func newBucket(rate float64, now time.Time) bucket { return bucket{rate: rate, have: rate, at: now} }

func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.have = min(b.rate, b.have+b.rate*d.Seconds())
		b.at = now
	}
}

func (b *bucket) positive(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	return b.have > 0
}

func (b *bucket) take(n float64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill(now)
	b.have -= n
}

// daily is a sum that starts anew at midnight UTC.
type daily struct {
	mu    sync.Mutex
	limit int64 // 0: none
	day   int64
	sum   int64
}

func (d *daily) take(n int64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if day := dayOf(now); day != d.day {
		d.day, d.sum = day, 0
	}
	d.sum += n
}

func (d *daily) spent(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.limit > 0 && d.day == dayOf(now) && d.sum >= d.limit
}
