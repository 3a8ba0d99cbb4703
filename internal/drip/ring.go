package drip

import "time"

const (
	// tick is how exactly a stream's time is kept.
	tick = 100 * time.Millisecond
	// slots is how many ticks ahead a stream can be placed. It is more than twice what the longest wait needs, so that those that
	// are placed while the wheel is late have room as well.
	slots = 256
)

// ring is the streams that wait, by the tick at which they are due. Each slot is a list through held.next, so that waiting needs no memory.
type ring struct {
	slot [slots]*held
	at   int64 // the latest tick whose streams were taken out
	held int
}

// put places a stream at a time, but not before the next tick and no further than the ring goes.
func (r *ring) put(h *held, now, at time.Duration) {
	if r.held == 0 { // nobody turned it meanwhile
		r.at = max(r.at, int64(now/tick))
	}
	ahead := min(max(int64((at+tick-1)/tick)-r.at, 1), slots-1)
	i := (r.at + ahead) % slots
	h.next, r.slot[i] = r.slot[i], h
	r.held++
}

// due takes out the streams that are due at the time, as a list.
func (r *ring) due(now time.Duration) *held {
	to := int64(now / tick)
	from := max(r.at+1, to-slots+1) // each slot once, however late it is
	var all list
	for t := from; t <= to; t++ {
		i := t % slots
		r.held -= all.join(r.slot[i])
		r.slot[i] = nil
	}
	r.at = max(r.at, to)
	return all.first
}

// before takes out the streams of generations older than the given one, as a list.
func (r *ring) before(generation uint32) *held {
	var old list
	for i, h := range r.slot {
		r.slot[i] = nil
		for h != nil {
			next := h.next
			if h.generation == generation {
				h.next, r.slot[i] = r.slot[i], h
			} else {
				h.next = nil
				r.held -= old.join(h)
			}
			h = next
		}
	}
	return old.first
}

// list is streams in the order in which they came.
type list struct{ first, last *held }

// join appends the list that begins with h and returns how many it has.
func (l *list) join(h *held) (n int) {
	if h == nil {
		return 0
	}
	if l.last == nil {
		l.first = h
	} else {
		l.last.next = h
	}
	for l.last = h; ; l.last = l.last.next {
		n++
		if l.last.next == nil {
			return n
		}
	}
}
