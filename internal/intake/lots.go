package intake

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/semaphore"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Bounds of the memory between the goroutines of a Service.
const (
	observing      = 256      // lots waiting for the casebook
	observingBytes = 32 << 20 // which their events may take
	handedOver     = 128      // lots whose decoded events are kept for the archive
	handedBytes    = 32 << 20
	handedAge      = time.Minute // after which a lot makes room for others: its batch may never come
	rememberedIDs  = 1 << 17     // event ids of one generation, of two; about 3 MiB each
	rememberedKeys = 1 << 17     // bodies, likewise
)

// lot is the events of one queued body on their way through the goroutines. The casebook reads the events and the archive
// changes them, so the archive gets them when seen is closed.
type lot struct {
	events []*defense.Event
	show   []*defense.Event // those that the casebook is given
	weight int64            // about how many bytes they take
	at     time.Time        // when it was handed over
	seen   chan struct{}    // closed when the casebook has observed show; nil when it is given nothing
}

// weigh returns about how many bytes events take.
func weigh(events []*defense.Event) int64 {
	n := 0
	for _, e := range events {
		r := &e.Request
		n += 1024 + len(r.Agent) + len(r.Path) + len(r.Query) + len(r.Referrer) + len(e.Verdict.Reason)
		for i := range e.Signals {
			n += 48 + len(e.Signals[i].Sentence)
		}
	}
	return int64(n)
}

// What is remembered of an event's id.
const (
	idAccepted uint8 = 1 << iota // it is in the queue or the archive
	idShown                      // the casebook has it
)

// memory is what a Service remembers of events to know them again. Its ids and keys are kept in two
// generations, the younger first: when that is full, the older is forgotten.
type memory struct {
	*sync.Mutex
	ids    [2]map[ulid.ULID]uint8
	seen   [2]map[uint64]struct{} // bodies that the casebook has been given
	handed map[uint64]*lot        // decoded events of accepted bodies
	heavy  int64                  // weight of handed
	room   *semaphore.Weighted    // for lots that wait for the casebook
}

func newMemory() memory {
	m := memory{Mutex: new(sync.Mutex), handed: map[uint64]*lot{}, room: semaphore.NewWeighted(observingBytes)}
	for i := range m.ids {
		m.ids[i], m.seen[i] = map[ulid.ULID]uint8{}, map[uint64]struct{}{}
	}
	return m
}

// idOf returns the event's id, which checkEvent has found to be one.
func idOf(e *defense.Event) ulid.ULID {
	id, err := ulid.Parse(e.ID)
	if err != nil {
		return ulid.ULID{} // of who shows events to the casebook that were never accepted
	}
	return id
}

// id returns what is remembered of an id. The caller holds the lock.
func (m *memory) id(id ulid.ULID) uint8 { return m.ids[0][id] | m.ids[1][id] }

// note remembers something of events. The caller holds the lock.
func (m *memory) note(events []*defense.Event, what uint8) {
	for _, e := range events {
		id := idOf(e)
		known := m.id(id)
		if len(m.ids[0]) >= rememberedIDs {
			m.ids[1], m.ids[0] = m.ids[0], make(map[ulid.ULID]uint8, rememberedIDs)
		}
		m.ids[0][id] = known | what
	}
}

// fresh returns the events that were not accepted lately, and of those with one id only the first.
func (m *memory) fresh(events []*defense.Event) []*defense.Event {
	ids := make([]ulid.ULID, len(events))
	rising := true // as the ids of one edge are: then none is there twice
	for i, e := range events {
		ids[i] = idOf(e)
		rising = rising && (i == 0 || ids[i].Compare(ids[i-1]) > 0)
	}
	var within map[ulid.ULID]struct{}
	if !rising {
		within = make(map[ulid.ULID]struct{}, len(events))
	}
	m.Lock()
	defer m.Unlock()
	out, same := events, true
	for i, e := range events {
		_, again := within[ids[i]]
		if again = again || m.id(ids[i])&idAccepted != 0; !rising {
			within[ids[i]] = struct{}{}
		}
		switch {
		case again && same:
			out, same = append(make([]*defense.Event, 0, len(events)), events[:i]...), false // the slice is the caller's
		case !again && !same:
			out = append(out, e)
		}
	}
	return out
}

// wasSeen reports whether the casebook has been given a body. The caller holds the lock.
func (m *memory) wasSeen(key uint64) bool {
	_, young := m.seen[0][key]
	_, old := m.seen[1][key]
	return young || old
}

// markSeen notes that the casebook has been given a body. The caller holds the lock.
func (m *memory) markSeen(key uint64) {
	if len(m.seen[0]) >= rememberedKeys {
		m.seen[1], m.seen[0] = m.seen[0], map[uint64]struct{}{}
	}
	m.seen[0][key] = struct{}{}
}

// handOver keeps a lot for the keeper if there is room. The caller holds the lock.
func (m *memory) handOver(key uint64, l *lot) {
	full := func() bool { return len(m.handed) >= handedOver || m.heavy+l.weight > handedBytes }
	if full() {
		for k, old := range m.handed {
			if l.at.Sub(old.at) > handedAge {
				m.drop(k, old)
			}
		}
		if full() {
			return
		}
	}
	if old := m.handed[key]; old != nil {
		m.drop(key, old)
	}
	m.handed[key] = l
	m.heavy += l.weight
}

func (m *memory) drop(key uint64, l *lot) {
	delete(m.handed, key)
	m.heavy -= l.weight
}

// takeBack returns the lot of a body, nil when it is not there.
func (m *memory) takeBack(key uint64) *lot {
	m.Lock()
	defer m.Unlock()
	l := m.handed[key]
	if l != nil {
		m.drop(key, l)
	}
	return l
}

// offer has the casebook look at a lot, and reports whether there was room.
func (s *Service) offer(l *lot) bool {
	if !s.memory.room.TryAcquire(min(l.weight, observingBytes)) {
		return false
	}
	select {
	case s.observe <- l:
		return true
	default:
		s.memory.room.Release(min(l.weight, observingBytes))
		return false
	}
}

// kept hands what the queue has taken to the keeper and to the casebook, as far as there is room. What is not is read from the queue.
func (s *Service) kept(key uint64, events []*defense.Event) {
	l := &lot{events: events, weight: weigh(events), at: s.o.Now()}
	m := &s.memory
	m.Lock()
	defer m.Unlock()
	if m.wasSeen(key) { // the keeper was faster, or the casebook has seen these when the queue was full
		m.note(events, idAccepted)
		return
	}
	m.handOver(key, l)
	// The casebook is given a body now or by the keeper, under the same lock: so it gets each once.
	if l.show = m.notShown(events); len(l.show) > 0 {
		if l.seen = make(chan struct{}); !s.offer(l) {
			l.show, l.seen = nil, nil
			m.note(events, idAccepted)
			return
		}
	}
	m.note(events, idAccepted|idShown)
	m.markSeen(key)
}

// notShown returns the events that the casebook has not been given. The caller holds the lock.
func (m *memory) notShown(events []*defense.Event) []*defense.Event {
	shown := func(e *defense.Event) bool { return m.id(idOf(e))&idShown != 0 }
	if !slices.ContainsFunc(events, shown) {
		return events
	}
	return slices.DeleteFunc(slices.Clone(events), shown)
}

// showRefused has the casebook look at events that the queue could not take. They stay the caller's, so it gets copies.
func (s *Service) showRefused(key uint64, events []*defense.Event) {
	m := &s.memory
	m.Lock()
	defer m.Unlock()
	if m.wasSeen(key) {
		return
	}
	show := m.notShown(events)
	if len(show) == 0 || !s.offer(&lot{show: copies(show), weight: weigh(show)}) {
		return
	}
	m.note(show, idShown)
	m.markSeen(key)
}

// present has the casebook look at a lot that the keeper has in hand, unless it has seen the body. It waits for room.
func (s *Service) present(ctx context.Context, key uint64, l *lot) error {
	m := &s.memory
	m.Lock()
	if m.wasSeen(key) {
		m.Unlock()
		return nil
	}
	m.markSeen(key)
	l.show = m.notShown(l.events)
	m.note(l.events, idAccepted|idShown) // also those of before a restart
	m.Unlock()
	if len(l.show) == 0 {
		return nil
	}
	l.seen = make(chan struct{})
	if err := m.room.Acquire(ctx, min(l.weight, observingBytes)); err != nil {
		return err
	}
	select {
	case s.observe <- l:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look gives the casebook a lot. Its goroutine calls it.
func (s *Service) look(l *lot) {
	for _, e := range l.show {
		s.o.Book.Observe(e)
		s.notice(e)
	}
	if l.seen != nil {
		close(l.seen)
	}
	s.memory.room.Release(min(l.weight, observingBytes))
}

// wait waits until the casebook has observed the lot, if it is given it, or ctx ends.
func (l *lot) wait(ctx context.Context) error {
	if l.seen == nil {
		return nil
	}
	select {
	case <-l.seen:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copies returns events that share nothing with the given ones that is ever changed.
func copies(events []*defense.Event) []*defense.Event {
	block := make([]defense.Event, len(events))
	out := make([]*defense.Event, len(events))
	for i, e := range events {
		c := &block[i]
		*c = *e
		c.Signals, c.Verdict.Shadow = slices.Clone(e.Signals), slices.Clone(e.Verdict.Shadow)
		c.Request.TLS, c.Challenge, c.Tarpit = clone(e.Request.TLS), clone(e.Challenge), clone(e.Tarpit)
		out[i] = c
	}
	return out
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
