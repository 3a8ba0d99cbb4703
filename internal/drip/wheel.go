package drip

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// writers is how many goroutines write to connections on which a write may wait, and queue how many of these may wait for one.
	writers = 8
	queue   = 64
	// busyWait is how long a stream is put off for which there is no writer, and poorWait one for which there is no bandwidth.
	busyWait = 500 * time.Millisecond
	poorWait = time.Second
)

// Hijack takes the connection of an HTTP/1.1 request over from the server and drips the stream into it, beginning with s.Head. When it
// returns false, nothing was written and the caller is to answer: there is no place, or the connection cannot be taken over. Otherwise
// it has returned at once, and rw must not be used any more.
func (w *Wheel) Hijack(rw http.ResponseWriter, s Stream) bool {
	h := w.enter(&s, false)
	if h == nil {
		return false
	}
	// What the client sent ahead is of no interest.
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		w.forget(h)
		return false
	}
	w.hold(h, conn)
	return true
}

// Hijacked drips the stream into a connection that was taken over already. When it returns false there is no place, and the connection
// is still the caller's. Otherwise it is the wheel's, which closes it.
//
// Writes never wait if conn is a [syscall.Conn], as those of package net are; a wrapper should pass SyscallConn through, and promises by
// that to change nothing of what is written. With TLS, or where the socket is hidden, they are made by one of a few goroutines, and the
// connection must then honour a write deadline that is set during a write.
func (w *Wheel) Hijacked(conn net.Conn, s Stream) bool {
	h := w.enter(&s, false)
	if h == nil {
		return false
	}
	w.hold(h, conn)
	return true
}

// hold puts a connection into the ring.
func (w *Wheel) hold(h *held, conn net.Conn) {
	h.conn = conn
	h.raw, h.direct = socketOf(conn)
	// The server's deadlines are not ours. If that fails, so will the first write.
	_ = conn.SetDeadline(time.Time{})
	limitBuffers(conn)
	if !w.again(h, 0) {
		w.cut(h, &scratch{})
	}
}

// again puts a stream into the ring for a while. It returns false if the stream is to end instead.
func (w *Wheel) again(h *held, wait time.Duration) bool {
	w.mu.Lock()
	now := w.now()
	old, idle := h.generation != w.generation, w.ring.held == 0
	if !old {
		w.ring.put(h, now, now+wait)
	}
	w.mu.Unlock()
	if idle && !old {
		w.rouse()
	}
	return !old
}

// Run drips until ctx ends. It then ends all streams and returns ctx's error once the connections that were taken over are closed, which may take
// a second. It returns another error if the wheel runs already.
func (w *Wheel) Run(ctx context.Context) error {
	w.mu.Lock()
	if w.running {
		w.mu.Unlock()
		return errors.New("drip: the wheel runs already; one Run is enough")
	}
	w.running = true
	w.mu.Unlock()

	var (
		jobs  = make(chan *held, queue)
		group sync.WaitGroup
		mine  scratch
	)
	for range writers {
		group.Go(func() {
			var own scratch
			for h := range jobs {
				w.stepSlowly(h, &own)
			}
		})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			w.mu.Lock()
			w.running = false
			w.generation++
			w.mu.Unlock()
			w.endOld(&mine)
			close(jobs)
			group.Wait()
			return ctx.Err()
		case <-w.wake:
		case <-timer.C:
		}
		w.endOld(&mine)
		if more := w.revolve(jobs, &mine); more {
			timer.Reset(tick - w.now()%tick)
		}
	}
}

// endOld ends the streams in the ring that are older than the wheel's generation.
func (w *Wheel) endOld(b *scratch) {
	w.mu.Lock()
	var h *held
	if w.drained != w.generation {
		h = w.ring.before(w.generation)
		w.drained = w.generation
	}
	w.mu.Unlock()
	for h != nil {
		next := h.next
		h.next = nil
		w.cut(h, b)
		h = next
	}
}

// revolve lets the streams that are due have their next piece, and reports whether there are streams in the ring.
func (w *Wheel) revolve(jobs chan<- *held, b *scratch) (more bool) {
	w.mu.Lock()
	h := w.ring.due(w.now())
	w.mu.Unlock()
	for h != nil {
		next := h.next
		h.next = nil
		switch {
		case h.turn != nil:
			h.turn <- true // it has room for one, and gets one for each time that it was put into the ring
		case h.direct:
			w.step(h, b)
		default:
			select {
			case jobs <- h:
			default:
				if !w.again(h, busyWait) {
					w.cut(h, b)
				}
			}
		}
		h = next
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ring.held > 0
}

// affords reports whether there is bandwidth left.
func (w *Wheel) affords(now time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bandwidth.open(now)
}

// spend accounts for bytes that were written.
func (w *Wheel) spend(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bandwidth.take(n)
	w.count.bytes += int64(n)
}

// cut ends a stream before its time without waiting for anything.
func (w *Wheel) cut(h *held, b *scratch) {
	if h.turn != nil {
		h.turn <- false // the rest is its handler's
		return
	}
	if h.direct && h.chunked && len(h.rest) == 0 {
		// Whether it arrives does not matter any more.
		n, _ := b.exchange(h.raw, append(b.out[:0], lastChunk...))
		h.bytes += int64(n)
		w.spend(n)
	}
	shut(h.conn)
	w.finish(h, Ended)
}
