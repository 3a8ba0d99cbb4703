package drip

import (
	"crypto/tls"
	"net"
	"time"
)

// scratch is what one goroutine needs to write pieces; nothing in it outlasts a piece.
type scratch struct {
	out, text []byte
	socket
}

// step writes a stream's next piece without waiting.
func (w *Wheel) step(h *held, b *scratch) {
	now := w.now()
	if now < h.end && !w.affords(now) {
		if !w.again(h, poorWait) {
			w.cut(h, b)
		}
		return
	}
	last := h.compose(b, now, &w.o)
	n, err := b.exchange(h.raw, b.out)
	w.spend(n)
	reads := h.wrote(n, b.out, now)
	switch {
	case err != nil:
		w.drop(h, Gone)
	case !reads, last && n < len(b.out):
		w.drop(h, Stalled)
	case last:
		w.drop(h, Finished)
	default:
		if !w.again(h, h.pause(now, &w.o)) {
			w.cut(h, b)
		}
	}
}

// patience is how long a write may take that may wait. Nobody who reads needs it: pieces are far smaller than a socket's buffer.
const patience = 250 * time.Millisecond

// stepSlowly writes a stream's next piece and waits a little if it must.
func (w *Wheel) stepSlowly(h *held, b *scratch) {
	now := w.now()
	if now < h.end && !w.affords(now) {
		if !w.again(h, poorWait) {
			w.cut(h, b)
		}
		return
	}
	if h.raw != nil {
		if _, err := b.exchange(h.raw, nil); err != nil {
			w.drop(h, Gone)
			return
		}
	}
	last := h.compose(b, now, &w.o)
	var n int
	var err error
	late := hurry(h.conn, func() { n, err = h.conn.Write(b.out) })
	w.spend(n)
	h.wrote(n, b.out, now)
	switch {
	case late: // the rest of a TLS record cannot be sent any more, and what follows could not be told from it
		w.drop(h, Stalled)
	case err != nil:
		w.drop(h, Gone)
	case last:
		hurry(h.conn, func() { _ = h.conn.Close() }) // TLS says good-bye first
		w.finish(h, Finished)
	default:
		if !w.again(h, h.pause(now, &w.o)) {
			w.cut(h, b)
		}
	}
}

// hurry calls f, which writes to conn, ends the write if it takes too long, and reports whether it had to. The deadline is set during
// the write because a wrapper may set its own at the beginning of one.
func hurry(conn net.Conn, f func()) (late bool) {
	t := time.AfterFunc(patience, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	f()
	return !t.Stop()
}

// drop closes the connection at once and ends the stream.
func (w *Wheel) drop(h *held, r Reason) {
	shut(h.conn)
	w.finish(h, r)
}

// shut closes a connection without saying good-bye, for which TLS might wait.
func shut(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.Close()
}
