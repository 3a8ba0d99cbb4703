// Package budget counts how fast clients ask, in token buckets whose memory is
// bounded whatever number of clients there is.
//
// All memory is allocated by [New]. When a new client needs a bucket and there is no
// room, the bucket that is nearest to being full is forgotten: one that is full
// already if there is any, which loses nothing, because a new bucket is full too. So a flood of
// addresses that are seen once cannot push out the few that ask all the time,
// and nobody is refused because the store is full. [Stats] counts what was forgotten; if
// Evictions grows steadily, give the store more capacity.
//
// The store has no clock: time is given with each call, so that a log can be
// replayed at the time of its lines.
package budget

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"net/netip"
	"sync"
	"time"
)

// Key names a bucket. Fields that do not matter to a limit are left zero:
// a limit per client sets Limit and Client, one for a whole site Limit and Site.
//
// A bucket lives on while its key stays the same, so that a policy can be
// reloaded without giving every client a fresh budget.
type Key struct {
	Limit  string       // name of the limit
	Client netip.Prefix // the client's address or neighbourhood
	Site   string
	Class  string // path class
	Token  uint64 // public number of a clearance or issued token
}

// Store holds the buckets. It is safe for concurrent use.
type Store struct {
	seed   maphash.Seed // random, so that nobody can choose addresses that share a set
	sets   []set
	shards [shardCount]shard
}

// ways is the number of buckets in which a key may be. With 15 the store is
// nearly full before a set runs over: at half load one set in 200 does.
const ways = 15

// set is a few buckets, which fill four cache lines. A look-up reads two or
// three of them, and the collector none, for there are no pointers.
//
// A bucket is held as the time at which it will be full: every token taken puts
// that off by 1/rate, and what is missing from burst at any time is (full - now) × rate.
type set struct {
	last int64        // latest time at which one of the buckets was used, Unix nanoseconds
	hash [ways]uint64 // of the key; 0: unused
	full [ways]int64  // when the bucket will be full, Unix nanoseconds
	_    int64
}

// shardCount is the number of locks; set i belongs to shard i modulo shardCount.
const shardCount = 256

// shard is a lock with counters, alone in its cache line.
type shard struct {
	mu        sync.Mutex
	entries   uint64
	evictions uint64
	recycled  uint64
	_         [64 - 8 - 3*8]byte
}

// New returns a store for at least capacity buckets, in 17 bytes each.
func New(capacity int) *Store {
	n := (max(capacity, 1) + ways - 1) / ways
	return &Store{seed: maphash.MakeSeed(), sets: make([]set, n)}
}

// maxSkew is how far time may run backwards without being taken for a clock
// that was set: lines of a log, and requests that wait for a lock, come a little out of order.
const maxSkew = int64(10 * time.Second)

// maxSpan bounds the time that a bucket takes to fill, about 30 years in nanoseconds.
const maxSpan = 1e18

// Take takes cost tokens from the key's bucket, which holds at most burst tokens and
// gains rate tokens per second; a bucket never used before is full. If there are too few
// tokens it takes none and returns how long until there are enough, more than 0.
//
// rate and burst may change between calls: the bucket then goes on to be full at the
// time at which it would have been, or sooner if the new limit fills it sooner.
// A cost above burst counts as burst, so that it is possible at all. A rate or burst
// that is not above 0 limits nothing, and a cost that is not costs nothing.
//
// Time may run backwards. If now is up to 10 s earlier than a call before, it may
// count as that call's time; if it is earlier still, the clock was set, and
// the buckets are as full as they were.
func (s *Store) Take(key Key, rate, burst, cost float64, now time.Time) (ok bool, retryAfter time.Duration) {
	// Written so that NaN is refused as well.
	if !(rate > 0) || !(burst > 0) || !(cost > 0) {
		return true, 0
	}
	// The cost is rounded down and the room up: a burst of n requests must pass whole.
	room := int64(math.Min(math.Ceil(burst/rate*1e9), maxSpan))
	price := int64(math.Min(math.Min(cost, burst)/rate*1e9, maxSpan))
	at := now.UnixNano()

	h := s.hash(&key)
	i, _ := bits.Mul64(h, uint64(len(s.sets)))
	set, shard := &s.sets[i], &s.shards[i%shardCount]
	shard.mu.Lock()
	at = set.advance(at)
	w := set.find(h)
	if w < 0 {
		w = set.make(h, at, shard)
	}
	// A bucket is never less than empty, whatever the limit was before.
	full := min(max(set.full[w], at), at+room)
	over := full + price - (at + room)
	if over <= 0 {
		full += price
	}
	set.full[w] = full
	shard.mu.Unlock()
	return over <= 0, time.Duration(max(over, 0))
}

// advance moves the set's time to at and returns what counts as now: the time
// that the set had, if at is only a little earlier.
func (s *set) advance(at int64) int64 {
	if back := s.last - at; back > 0 {
		if back <= maxSkew {
			return s.last
		}
		for w := range s.full {
			s.full[w] -= back
		}
	}
	s.last = at
	return at
}

// find returns the place of the bucket with hash h, or -1.
func (s *set) find(h uint64) int {
	for w := range s.hash {
		if s.hash[w] == h {
			return w
		}
	}
	return -1
}

// make finds a place for a bucket with hash h and makes it full. An unused
// place is the first choice, then the bucket that is or will be full the earliest.
func (s *set) make(h uint64, at int64, c *shard) int {
	w := 0
	for i := range s.full {
		if s.hash[i] == 0 {
			w = i
			break
		}
		if s.full[i] < s.full[w] {
			w = i
		}
	}
	switch {
	case s.hash[w] == 0:
		c.entries++
	case s.full[w] <= at:
		c.recycled++
	default:
		c.evictions++
	}
	s.hash[w], s.full[w] = h, at
	return w
}

// hash returns the key's hash, never 0. Two keys with the same hash would share a
// bucket; with 64 random bits that does not happen.
func (s *Store) hash(k *Key) uint64 {
	var b [8 + 8 + 8 + 16 + 1 + 8]byte
	binary.LittleEndian.PutUint64(b[0:], maphash.String(s.seed, k.Limit))
	if k.Site != "" {
		binary.LittleEndian.PutUint64(b[8:], maphash.String(s.seed, k.Site))
	}
	if k.Class != "" {
		binary.LittleEndian.PutUint64(b[16:], maphash.String(s.seed, k.Class))
	}
	if k.Client.IsValid() {
		a := k.Client.Addr().As16()
		copy(b[24:], a[:])
		// IPv4 and the IPv6 addresses that map it differ by their number of bits.
		bits := k.Client.Bits()
		if k.Client.Addr().Is4() {
			bits += 129
		}
		b[40] = byte(bits + 1)
	}
	binary.LittleEndian.PutUint64(b[41:], k.Token)
	return max(maphash.Bytes(s.seed, b[:]), 1)
}

// Stats are the store's numbers since it was made.
type Stats struct {
	Capacity  int    // buckets that have room
	Entries   uint64 // buckets in use, full ones included
	Recycled  uint64 // full buckets whose place was given to another client
	Evictions uint64 // buckets that were forgotten before they were full
}

// Stats returns the current numbers.
func (s *Store) Stats() Stats {
	st := Stats{Capacity: len(s.sets) * ways}
	for i := range s.shards {
		c := &s.shards[i]
		c.mu.Lock()
		st.Entries += c.entries
		st.Recycled += c.recycled
		st.Evictions += c.evictions
		c.mu.Unlock()
	}
	return st
}
