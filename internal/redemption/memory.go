package redemption

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Memory is what was redeemed in this process. It is safe for concurrent use.
//
// It keeps two generations of bounded size; a ticket that was redeemed is known for at least a generation's
// life, unless more are redeemed meanwhile than it has room for, which Stats tells.
type Memory struct {
	life   time.Duration
	room   int // of a shard's generation
	shards [64]memoryShard
	early  atomic.Uint64
}

type memoryShard struct {
	mu       sync.Mutex
	now, old map[defense.TokenID]kept
	began    time.Time
}

// kept is a redemption without its ticket.
type kept struct {
	visitor defense.TokenID
	at      int64 // Unix seconds
	share   uint8
}

// NewMemory returns a memory of about that many redemptions, 40 bytes each, that keeps each for a ticket's life.
func NewMemory(capacity int) *Memory {
	m := &Memory{life: Keep}
	m.room = max(capacity/2/len(m.shards), 16)
	return m
}

// Note notes a redemption and returns the first one of its ticket; known is false if there was none before.
func (m *Memory) Note(r defense.Redemption) (first defense.Redemption, known bool) {
	s := &m.shards[uint64(r.Ticket)%uint64(len(m.shards))] // ids are random
	s.mu.Lock()
	defer s.mu.Unlock()
	if full := len(s.now) >= m.room; full || r.At.Sub(s.began) > m.life {
		if full && r.At.Sub(s.began) <= m.life {
			m.early.Add(1)
		}
		s.old, s.now, s.began = s.now, map[defense.TokenID]kept{}, r.At
	}
	k, ok := s.now[r.Ticket]
	if !ok {
		k, ok = s.old[r.Ticket]
	}
	if ok {
		return defense.Redemption{Ticket: r.Ticket, Visitor: k.visitor, At: time.Unix(k.at, 0), Share: k.share}, true
	}
	s.now[r.Ticket] = kept{visitor: r.Visitor, at: r.At.Unix(), share: r.Share}
	return r, false
}

// Early is how often a generation was given up before its time for want of room: some tickets could then be redeemed twice.
func (m *Memory) Early() uint64 { return m.early.Load() }
