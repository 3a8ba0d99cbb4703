// Package drip sends many answers very slowly: a few bytes now and then, often enough that the client does not give up.
//
// One goroutine with one timer serves all connections that could be taken over from the HTTP server. Such a connection holds no goroutine
// and no buffer of ours while it waits: about 200 bytes, and what the generator of its text keeps. Whatever a client does, it cannot hold
// up another: writes to sockets never wait, and those that may (TLS, connections that hide their socket) are made by a few goroutines
// of their own that give up soon. HTTP/2 streams cannot be taken over; [Wheel.Serve] paces them in their handler's goroutine, and
// [Options] bounds how many.
package drip

import (
	"fmt"
	"sync"
	"time"
)

// Options bound what a wheel takes of the machine and of the network. Connections is required; another field that is zero has its default.
type Options struct {
	// Connections is how many streams are held at once, and Handlers how many of these may be of Serve, which hold a goroutine.
	// Default of Handlers: a quarter of Connections, at least 1; below 0: none.
	Connections, Handlers int
	// MinRate and MaxRate bound the mean rate of a stream in bytes a second, which each draws for itself. 1 to 1,024; defaults 16 and 64.
	MinRate, MaxRate int
	// MinWait and MaxWait bound the time from one piece of a stream to the next, which is drawn anew each time. From 0.1 s to 9 s, because
	// many clients wait 10 s for the next byte; defaults 1 s and 8 s.
	MinWait, MaxWait time.Duration
	// Bandwidth bounds the bytes a second of all streams together; 0: no bound. A stream is refused when those that are held already
	// need what there is.
	Bandwidth int64
}

const (
	lowestWait  = 100 * time.Millisecond
	longestWait = 9 * time.Second
	highestRate = 1 << 10
	// overhead is what framing adds to a stream's rate, in bytes a second, when the bandwidth is shared out.
	overhead = 2
)

// complete fills in defaults. The error says which field is wrong and what would be right.
func (o *Options) complete() error {
	setDefault(&o.Handlers, max(1, o.Connections/4))
	setDefault(&o.MinRate, 16)
	setDefault(&o.MaxRate, 64)
	setDefault(&o.MinWait, time.Second)
	setDefault(&o.MaxWait, 8*time.Second)
	switch {
	case o.Connections <= 0:
		return fmt.Errorf("drip: %d connections: want at least one", o.Connections)
	case o.MinRate < 1 || o.MaxRate > highestRate || o.MinRate > o.MaxRate:
		return fmt.Errorf("drip: rates from %d to %d bytes a second: want the lower one first, from 1 to %d", o.MinRate, o.MaxRate, highestRate)
	case o.MinWait < lowestWait || o.MaxWait > longestWait || o.MinWait > o.MaxWait:
		return fmt.Errorf("drip: waits from %v to %v: want the shorter one first, from %v to %v", o.MinWait, o.MaxWait, lowestWait, longestWait)
	case o.Bandwidth < 0:
		return fmt.Errorf("drip: bandwidth of %d bytes a second: want 0 (no bound) or more", o.Bandwidth)
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Wheel holds the streams. It may be used by many goroutines at once.
type Wheel struct {
	o     Options
	epoch time.Time     // what times of the wheel are counted from
	wake  chan struct{} // tells Run that there is something to do; holds one

	mu         sync.Mutex // guards what follows
	ring       ring
	bandwidth  bucket
	running    bool
	off        bool
	generation uint32 // streams of an older one are to end
	drained    uint32 // what the ring holds is not older than this one
	count      counts
}

// counts are the wheel's numbers. Times are nanoseconds since the wheel's epoch.
type counts struct {
	held, handlers int
	rates          int64 // sum over the held ones, bytes a second, overhead included
	begun          uint64
	refused        uint64
	ended          [Reasons]uint64
	bytes          int64
	time           int64 // of those that have ended
	starts         int64 // sum over the held ones
}

// New returns a wheel that takes streams as soon as Run runs.
func New(o Options) (*Wheel, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	return &Wheel{
		o: o, epoch: time.Now(), wake: make(chan struct{}, 1),
		bandwidth: bucket{rate: float64(o.Bandwidth), have: float64(o.Bandwidth)},
	}, nil
}

// now is the time since the wheel was made.
func (w *Wheel) now() time.Duration { return time.Since(w.epoch) }

// SetOff switches the wheel off or on again. Off ends all streams at once and refuses others.
func (w *Wheel) SetOff(off bool) {
	w.mu.Lock()
	w.off = off
	w.mu.Unlock()
	if off {
		w.Drain()
	}
}

// Drain ends all streams that are held, at once. It does not wait for that; new ones are taken meanwhile.
func (w *Wheel) Drain() {
	w.mu.Lock()
	w.generation++
	w.mu.Unlock()
	w.rouse()
}

func (w *Wheel) rouse() {
	select {
	case w.wake <- struct{}{}:
	default: // it was told already
	}
}

// Stats are the wheel's numbers since it was made.
type Stats struct {
	Held     int             // streams now
	Handlers int             // of these, those that hold a goroutine
	Begun    uint64          // streams that were taken
	Refused  uint64          // streams for which there was no place
	Ended    [Reasons]uint64 // streams that have ended, by Reason
	Bytes    int64           // written, with headers and framing, without TLS
	Time     time.Duration   // sum over all streams, those held now included
}

// Stats returns the current numbers.
func (w *Wheel) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &w.count
	// The sum of starts may overflow, and so may the product, but their difference does not: both wrap alike.
	running := int64(c.held)*int64(w.now()) - c.starts
	return Stats{
		Held: c.held, Handlers: c.handlers, Begun: c.begun, Refused: c.refused, Ended: c.ended, Bytes: c.bytes, Time: time.Duration(c.time + running),
	}
}

// enter takes a place for a stream and returns what holds it; nil when there is none.
func (w *Wheel) enter(s *Stream, handler bool) *held {
	h := newHeld(s, &w.o)
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &w.count
	need := int64(h.rate) + overhead
	switch {
	case !w.running, w.off,
		c.held >= w.o.Connections,
		handler && c.handlers >= w.o.Handlers,
		w.o.Bandwidth > 0 && c.rates+need > w.o.Bandwidth:
		c.refused++
		return nil
	}
	h.handler, h.generation = handler, w.generation
	h.start = w.now()
	h.last, h.end = h.start, h.start+s.lasts()
	c.begun++
	c.held++
	if handler {
		c.handlers++
	}
	c.rates += need
	c.starts += int64(h.start)
	return h
}

// leave gives the stream's place back.
func (w *Wheel) leave(h *held) {
	c := &w.count
	c.held--
	if h.handler {
		c.handlers--
	}
	c.rates -= int64(h.rate) + overhead
	c.starts -= int64(h.start)
}

// forget takes back that the stream was taken: nothing was written.
func (w *Wheel) forget(h *held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leave(h)
	w.count.begun--
	w.count.refused++
}

// finish gives the stream's place back and tells whom it concerns.
func (w *Wheel) finish(h *held, r Reason) Stay {
	w.mu.Lock()
	w.leave(h)
	s := Stay{Held: w.now() - h.start, Bytes: h.bytes, Reason: r}
	w.count.ended[r]++
	w.count.time += int64(s.Held)
	w.mu.Unlock()
	if h.done != nil {
		h.done(s)
	}
	return s
}
