package gateway

import (
	"container/list"
	"crypto/sha256"
	"encoding/json"
	"sync"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/chat"
)

// Cache has answers to calls that may come again word by word, up to a size and an age. Of several such calls at once one is asked, and the
// others get its answer. A nil Cache has none.
type Cache struct {
	maxBytes int64
	maxAge   time.Duration
	now      func() time.Time

	mu     sync.Mutex
	byKey  map[cacheKey]*list.Element
	recent *list.List // of *cached, the last used first
	bytes  int64
	asked  map[cacheKey]*flight
}

type cacheKey [sha256.Size]byte

type cached struct {
	key    cacheKey
	answer *chat.Response // not to be changed
	size   int64
	at     time.Time
}

// flight is a call that is being asked.
type flight struct {
	done   chan struct{}
	answer *chat.Response
	err    *chat.Error
}

// NewCache returns a cache of at most so many bytes of answers, each for so long.
func NewCache(maxBytes int64, maxAge time.Duration, now func() time.Time) *Cache {
	return &Cache{maxBytes: maxBytes, maxAge: maxAge, now: now, byKey: map[cacheKey]*list.Element{}, recent: list.New(), asked: map[cacheKey]*flight{}}
}

// overhead is about what an entry takes beside its answer, in bytes.
const overhead = 512

func (c *Cache) get(k cacheKey) *chat.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[k]
	if e == nil {
		return nil
	}
	x := e.Value.(*cached)
	if c.now().Sub(x.at) > c.maxAge {
		c.remove(e)
		return nil
	}
	c.recent.MoveToFront(e)
	return x.answer
}

func (c *Cache) put(k cacheKey, answer *chat.Response) {
	size := int64(overhead + len(answer.Raw))
	if answer.Raw == nil {
		b, err := json.Marshal(answer)
		if err != nil {
			return // what cannot be written is not kept
		}
		size += int64(len(b))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byKey[k]; e != nil {
		c.remove(e)
	}
	if size > c.maxBytes {
		return
	}
	c.byKey[k] = c.recent.PushFront(&cached{k, answer, size, c.now()})
	for c.bytes += size; c.bytes > c.maxBytes; {
		c.remove(c.recent.Back())
	}
}

func (c *Cache) remove(e *list.Element) {
	x := e.Value.(*cached)
	c.recent.Remove(e)
	delete(c.byKey, x.key)
	c.bytes -= x.size
}

// Bytes is the size of what is in the cache.
func (c *Cache) Bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// keyOf is what calls have in common that may have the same answer: all that they say, where they may go, and who asks, since what one may
// know another need not.
func keyOf(caller string, r *chat.Request, route *Route) (cacheKey, bool) {
	q := *r
	q.User = ""
	b, err := json.Marshal(&q)
	if err != nil {
		return cacheKey{}, false
	}
	extra, err := json.Marshal(r.Extra)
	if err != nil {
		return cacheKey{}, false
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(caller), []byte(route.Name), b, extra} {
		var n [8]byte
		for i := range n {
			n[i] = byte(len(part) >> (8 * i))
		}
		h.Write(n[:])
		h.Write(part)
	}
	return cacheKey(h.Sum(nil)), true
}

// join returns a call of the same key that is under way, or begins one, which land ends.
func (c *Cache) join(k cacheKey) (f *flight, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f = c.asked[k]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	c.asked[k] = f
	return f, true
}

func (c *Cache) land(k cacheKey, f *flight) {
	c.mu.Lock()
	delete(c.asked, k)
	c.mu.Unlock()
	close(f.done)
}

// cachedOr returns an answer that was given before, if the route allows it, or asks.
func (c *call) cachedOr(r *chat.Request, ask func() (*chat.Response, *chat.Error)) (*chat.Response, *chat.Error) {
	cache := c.a.o.Cache
	if cache == nil || !c.route.Cache {
		return ask()
	}
	k, ok := keyOf(c.caller, r, &c.route)
	if !ok {
		return ask()
	}
	count := c.a.o.Metrics.cache
	if answer := cache.get(k); answer != nil {
		c.cached = true
		count.WithLabelValues("hit").Inc()
		return copied(answer), nil
	}
	f, first := cache.join(k)
	if !first {
		select {
		case <-f.done:
		case <-c.ctx.Done():
			return nil, gone()
		}
		if f.answer != nil {
			c.cached = true
			count.WithLabelValues("shared").Inc()
			return copied(f.answer), nil
		}
		if f.err != nil && f.err.Status < statusGone {
			return nil, f.err
		}
		count.WithLabelValues("miss").Inc()
		return ask() // what one was refused another may get
	}
	count.WithLabelValues("miss").Inc()
	defer cache.land(k, f)
	answer, err := ask()
	if err != nil {
		f.err = err
		return nil, err
	}
	f.answer = copied(answer)
	cache.put(k, f.answer)
	return answer, nil
}

// copied is an answer whose fields can be set.
func copied(r *chat.Response) *chat.Response {
	out := *r
	return &out
}
