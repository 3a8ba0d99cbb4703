package drip

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// writeTime is how long a client of Serve may leave a piece unread.
const writeTime = 5 * time.Second

// Serve drips the stream's body into an answer from its handler's goroutine: for HTTP/2, whose connections cannot be taken over. The
// header is what rw has; it is sent at once. ctx is the request's. When it returns false, nothing was written and the caller is to answer:
// there is no place, or rw cannot send pieces one by one.
//
// A client that does not take a piece within 5 s loses its stream; until then Drain and SetOff cannot end it either.
func (w *Wheel) Serve(ctx context.Context, rw http.ResponseWriter, s Stream) (stay Stay, taken bool) {
	s.Head, s.Chunked = nil, false // the server's business
	h := w.enter(&s, true)
	if h == nil {
		return Stay{}, false
	}
	h.turn = make(chan bool, 1)
	control := http.NewResponseController(rw)
	// Where there are no deadlines, the server's own bounds hold.
	_ = control.SetWriteDeadline(time.Now().Add(writeTime))
	err := control.Flush()
	if errors.Is(err, http.ErrNotSupported) {
		w.forget(h)
		return Stay{}, false
	}
	reason := Gone // also when something panics to abort the handler
	defer func() { stay = w.finish(h, reason) }()
	if err == nil {
		reason = w.serve(ctx, h, rw, control)
	}
	return Stay{}, true
}

// serve writes pieces until the stream ends, and returns why.
func (w *Wheel) serve(ctx context.Context, h *held, rw http.ResponseWriter, control *http.ResponseController) Reason {
	var b scratch
	for wait := time.Duration(0); ; {
		if !w.again(h, wait) {
			return Ended
		}
		select {
		case <-ctx.Done():
			return Gone // the ring forgets the stream when it would be due
		case due := <-h.turn:
			if !due {
				return Ended
			}
		}
		now := w.now()
		if now < h.end && !w.affords(now) {
			wait = poorWait
			continue
		}
		last := h.compose(&b, now, &w.o)
		if last {
			return Finished
		}
		begin := time.Now()
		_ = control.SetWriteDeadline(begin.Add(writeTime))
		n, err := rw.Write(b.out)
		w.spend(n)
		h.wrote(n, b.out, now)
		if err == nil {
			err = control.Flush()
		}
		switch {
		case err == nil:
		case time.Since(begin) >= writeTime: // HTTP/2 only says that the stream is closed
			return Stalled
		default:
			return Gone
		}
		wait = h.pause(now, &w.o)
	}
}
