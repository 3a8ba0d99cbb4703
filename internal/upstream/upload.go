package upstream

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// linger is how long the rest of an upload is read and thrown away after the
// answer, so that closing the connection does not destroy the answer on its way.
const linger = 500 * time.Millisecond

// upload is the sending of a body beside the reading of the answer, which may
// come before the body has ended.
type upload struct {
	started  bool
	done     chan struct{} // closed when the goroutine has ended
	read     atomic.Bool   // the client's body was read to its end
	ended    atomic.Int64  // when sending ended, in Unix nanoseconds; 0 before
	answered atomic.Bool   // the answer's header has come
	stop     atomic.Bool   // nobody needs it any more

	// For use after done.
	bodyErr error // the client's body could not be read
	sendErr error // the upstream could not be written to
}

// startUpload begins to send the body.
func (x *exchange) startUpload() {
	x.up.started = true
	x.up.done = make(chan struct{})
	go func() {
		defer close(x.up.done)
		x.upload()
		x.up.ended.Store(time.Now().UnixNano())
		switch {
		case x.up.bodyErr != nil:
			// The upstream must not take the part for the whole, and the reader
			// of the answer has to learn of it.
			x.c.abort()
		case x.up.sendErr != nil && isTimeout(x.up.sendErr) && !x.up.answered.Load():
			x.c.abort()
		}
	}()
}

// upload copies the body, with or without the chunked coding. It reads the
// client's piece by piece and sends each at once.
func (x *exchange) upload() {
	const before, after = len("fff8\r\n"), len("\r\n")
	slab := largeBuffers.Get().(*[]byte)
	defer largeBuffers.Put(slab)
	buf := *slab
	chunked := x.q.body == bodyChunked
	left := x.r.ContentLength
	for {
		n, err := x.r.Body.Read(buf[before : len(buf)-after])
		last := err == io.EOF
		if last {
			x.up.read.Store(true)
		}
		if x.up.stop.Load() {
			return
		}
		out := buf[before : before+n]
		if chunked {
			out = appendChunk(buf, before, n)
			if last {
				out = x.appendTrailer(append(out, "0\r\n"...))
			}
		} else if left -= int64(n); left < 0 {
			x.up.bodyErr = errors.New("body is longer than its Content-Length")
			return
		}
		if len(out) > 0 {
			if serr := x.sendPiece(out); serr != nil {
				x.up.sendErr = serr
				return
			}
		}
		switch {
		case last && !chunked && left > 0:
			x.up.bodyErr = io.ErrUnexpectedEOF
			return
		case last:
			return
		case err != nil:
			x.up.bodyErr = err
			return
		}
	}
}

// appendChunk frames the n bytes at buf[at:] as a chunk, in place, and returns it.
// A chunk of none would end the body, so none gives nothing.
func appendChunk(buf []byte, at, n int) []byte {
	if n == 0 {
		return buf[at:at:cap(buf)]
	}
	var size [16]byte
	hex := append(strconv.AppendInt(size[:0], int64(n), 16), '\r', '\n')
	start := at - len(hex)
	copy(buf[start:], hex)
	return append(buf[start:at+n], '\r', '\n')
}

// appendTrailer appends the trailer section, empty or not, and the end of the body.
func (x *exchange) appendTrailer(b []byte) []byte {
	for name, values := range x.r.Trailer {
		if !x.q.trailerField(name) {
			continue
		}
		for _, v := range values {
			if allOf(v, valueByte) {
				b = append(b, name...)
				b = append(b, ": "...)
				b = append(b, v...)
				b = append(b, "\r\n"...)
			}
		}
	}
	return append(b, "\r\n"...)
}

func (x *exchange) sendPiece(p []byte) error {
	_ = x.c.nc.SetWriteDeadline(time.Now().Add(x.u.cfg.SendTimeout)) // fails as the write will
	_, err := x.c.nc.Write(p)
	return err
}

// bodyRead reports whether there was no body, or the client's was read to its end.
func (x *exchange) bodyRead() bool {
	return x.q.body == bodyNone || x.q.body == bodyShort || x.up.read.Load()
}

// uploadComplete reports whether the body, if any, was sent in full, so that the
// connection can be used again. If the last piece is just being sent it waits.
func (x *exchange) uploadComplete() bool {
	if x.q.body == bodyNone || x.q.body == bodyShort {
		return true
	}
	if !x.up.started || !x.up.read.Load() {
		return false
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-x.up.done:
		return x.up.bodyErr == nil && x.up.sendErr == nil && x.c.nc.SetWriteDeadline(time.Time{}) == nil
	case <-t.C:
		return false
	}
}

// stopUpload ends what is left of the upload and waits for it.
func (x *exchange) stopUpload() {
	refused := x.q.expect && !x.up.started && x.answering
	if !x.up.started && !refused {
		return
	}
	rc := http.NewResponseController(x.w)
	if x.up.started {
		select {
		case <-x.up.done:
		default:
			x.up.stop.Store(true)
			x.c.abort()
			interruptRead(rc, x.up.done)
		}
	}
	if x.r.ProtoMajor == 1 && !x.bodyRead() {
		// net/http reads some more of the body before it closes the connection.
		// If it cannot be given a deadline it has its own.
		_ = rc.SetReadDeadline(time.Now().Add(linger))
	}
}

// interruptRead makes a read of the client's body fail until done is closed.
// Once is not enough where the reader sets deadlines of its own.
func interruptRead(rc *http.ResponseController, done <-chan struct{}) {
	for {
		if err := rc.SetReadDeadline(time.Unix(1, 0)); err != nil {
			<-done // no connection below: the body cannot block for long
			return
		}
		t := time.NewTimer(5 * time.Millisecond)
		select {
		case <-done:
			t.Stop()
			return
		case <-t.C:
		}
	}
}
