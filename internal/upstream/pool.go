package upstream

import (
	"sync"
	"time"
)

// pool holds the idle connections of one upstream. The one used last is taken
// first: it is the least likely to have been closed by the other side, and the
// surplus of a busy hour grows old and is closed.
type pool struct {
	max int

	mu     sync.Mutex
	idle   []*conn // oldest first
	timer  *time.Timer
	armed  bool // the timer will fire
	closed bool
}

func newPool(max int) *pool { return &pool{max: max} }

// take returns an idle connection, or nil.
func (p *pool) take(now time.Time) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		if now.Before(c.idleUntil) {
			return c
		}
		c.nc.Close() // does not block: nothing is buffered to be sent
	}
	return nil
}

// put keeps c until c.idleUntil, or closes it when the pool is full or closed.
func (p *pool) put(c *conn, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.max {
		c.nc.Close()
		return
	}
	p.idle = append(p.idle, c)
	if !p.armed {
		p.arm(c.idleUntil.Sub(now))
	}
}

// arm has sweep called after d. The caller holds mu.
func (p *pool) arm(d time.Duration) {
	// Not more often than every second: the timer only bounds how long a
	// connection outlives its time; take never hands out one that did.
	d = max(d, time.Second)
	p.armed = true
	if p.timer == nil {
		p.timer = time.AfterFunc(d, func() { p.sweep(time.Now()) })
		return
	}
	p.timer.Reset(d)
}

// sweep closes what has been idle for too long.
func (p *pool) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = false
	kept := p.idle[:0]
	var next time.Time
	for _, c := range p.idle {
		if !now.Before(c.idleUntil) {
			c.nc.Close()
			continue
		}
		if next.IsZero() || c.idleUntil.Before(next) {
			next = c.idleUntil
		}
		kept = append(kept, c)
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	if len(kept) > 0 && !p.closed {
		p.arm(next.Sub(now))
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for _, c := range p.idle {
		c.nc.Close()
	}
	p.idle = nil
}
