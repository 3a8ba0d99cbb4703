package reputation

import (
	linked "container/list"
	"net/netip"
	"sync"
	"time"
)

// cache keeps findings for a time, at most size of them, the least recently used go first.
type cache struct {
	size int
	mu   sync.Mutex
	byID map[netip.Prefix]*linked.Element
	used linked.List // of *cached, the latest first
}

type cached struct {
	client  netip.Prefix
	finding Finding
	expires time.Time
}

func newCache(size int) *cache {
	return &cache{size: size, byID: make(map[netip.Prefix]*linked.Element)}
}

func (c *cache) get(client netip.Prefix, now time.Time) (Finding, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[client]
	if e == nil {
		return Finding{}, false
	}
	entry := e.Value.(*cached)
	if !now.Before(entry.expires) {
		c.used.Remove(e)
		delete(c.byID, client)
		return Finding{}, false
	}
	c.used.MoveToFront(e)
	return entry.finding, true
}

func (c *cache) put(client netip.Prefix, f Finding, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[client]; e != nil {
		e.Value = &cached{client, f, expires}
		c.used.MoveToFront(e)
		return
	}
	c.byID[client] = c.used.PushFront(&cached{client, f, expires})
	if c.used.Len() > c.size {
		oldest := c.used.Back()
		delete(c.byID, c.used.Remove(oldest).(*cached).client)
	}
}

// budget allows a number of questions per period. The period begins with the first one.
type budget struct {
	limit  int
	period time.Duration

	mu    sync.Mutex
	start time.Time
	used  int
}

func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	// A clock that was set back begins a new period, lest it block for however long that was.
	if d := now.Sub(b.start); d < 0 || d >= b.period {
		b.start, b.used = now, 0
	}
	if b.used >= b.limit {
		return false
	}
	b.used++
	return true
}
