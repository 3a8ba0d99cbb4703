package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"
)

const (
	// shortBody is the length up to which a body is read before a connection
	// is taken: such a request needs no goroutine, can be sent again, and a slow
	// client does not keep a connection busy. It leaves room for the header in
	// the same buffer.
	shortBody = 8 << 10
	// trusted is for how long a connection is taken to be open without a look.
	trusted = 20 * time.Millisecond
	// maxInterim bounds the interim (1xx) answers to one request.
	maxInterim = 16
	// maxChunkLine bounds the line before a chunk.
	maxChunkLine = 4 << 10
)

var (
	errHeaderTimeout = errors.New("no header in time")
	errContinue      = errors.New("no 100 (Continue) in time")
)

// exchange is one request and its answer.
type exchange struct {
	u     *Upstream
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context
	begun time.Time
	q     outgoing
	res   Result

	c         *conn
	unwatch   func() bool // ends the watch on ctx, nil if there is none
	up        upload
	sent      time.Time // when the head, and a short body, had been written
	expecting bool      // the client waits for 100 (Continue)
	received  bool      // something of an answer has come
	answering bool      // the answer's header was handed to w
	stream    bool      // of unknown length: send on whatever there is
	unflushed bool      // w may hold something back
	broken    error     // w could not be flushed
	head      head
}

// roundTripH1 forwards the request over HTTP/1.1.
func (x *exchange) roundTripH1() error {
	now := x.begun
	if x.q.body == bodySized && x.r.ContentLength <= shortBody && !x.q.expect {
		slab := buffers.Get().(*[]byte)
		defer buffers.Put(slab)
		x.q.short = (*slab)[:x.r.ContentLength]
		if _, err := io.ReadFull(x.r.Body, x.q.short); err != nil {
			return bodyFailure(x.ctx, err)
		}
		x.q.body = bodyShort
		now = time.Now()
	}
	for again := false; ; again = true {
		c, err := x.connect(now, again)
		if err != nil {
			return err
		}
		err = x.attempt(c, now)
		if err == nil || again || !x.mayRepeat(c) {
			return err
		}
		now = time.Now()
	}
}

// connect takes a kept connection, or makes one.
func (x *exchange) connect(now time.Time, fresh bool) (*conn, error) {
	if !fresh {
		for c := x.u.pool.take(now); c != nil; c = x.u.pool.take(now) {
			c.arm(now, min(patience, x.u.cfg.ResponseHeaderTimeout))
			if now.Sub(c.idleSince) < trusted && x.repeatable() || !c.isStale() {
				c.reused = true
				return c, nil
			}
			c.nc.Close()
		}
	}
	nc, err := x.u.dial(x.ctx)
	if err != nil {
		kind := FailureConnect
		if isTimeout(err) {
			kind = FailureTimeout
		}
		return nil, fail(x.ctx, kind, err)
	}
	return newConn(nc), nil
}

// repeatable reports whether the request can be sent again (RFC 9110 §9.2.2).
func (x *exchange) repeatable() bool {
	if x.q.body != bodyNone && x.q.body != bodyShort {
		return false
	}
	switch x.r.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH", "QUERY":
		return true
	}
	return false
}

// mayRepeat reports whether an attempt that failed on c is to be made again: c
// had been kept, and broke before a byte of an answer came.
func (x *exchange) mayRepeat(c *conn) bool {
	return c.reused && x.res.Failure == FailureReset && x.repeatable() && x.ctx.Err() == nil
}

// attempt forwards the request over c, which it keeps or closes in the end.
func (x *exchange) attempt(c *conn, now time.Time) (err error) {
	x.c, c.x, c.large = c, x, false
	keep := false
	defer func() {
		x.stopUpload()
		if x.unwatch != nil && !x.unwatch() {
			keep = false
		}
		x.unwatch = nil
		c.x = nil
		if keep && c.r == c.w {
			c.release()
			x.keep(c)
			return
		}
		c.abort()
		c.r = c.w
		c.release()
	}()
	x.res.Failure = FailureNone
	failed := func(e *Error) error {
		x.res.Failure = e.Failure
		return e
	}

	c.hold()
	b, err := x.q.appendHead(c.buf[:0])
	if err != nil {
		keep = c.reused
		return failed(&Error{Failure: FailureRequest, Err: err})
	}
	if err := x.send(b); err != nil {
		return failed(err)
	}
	x.sent = now
	c.arm(now, min(patience, x.u.cfg.ResponseHeaderTimeout))
	if x.q.body == bodySized || x.q.body == bodyChunked {
		x.watch()
		if x.expecting = x.q.expect; x.expecting {
			c.arm(now, min(patience, x.u.cfg.ContinueTimeout))
		} else {
			x.startUpload()
		}
	}
	if err := x.await(); err != nil {
		return failed(err)
	}
	if x.head.status == http.StatusSwitchingProtocols {
		return x.tunnel()
	}
	if keep, err = x.answer(); err != nil {
		var e *Error
		if errors.As(err, &e) {
			return failed(e)
		}
	}
	return err
}

// keep puts a connection whose answer was read to the end into the pool.
func (x *exchange) keep(c *conn) {
	now := time.Now()
	idle := x.u.cfg.IdleTimeout
	if announced := x.head.keepAlive; announced > 0 {
		// Leave before the other side does: half a second for what is on its way.
		idle = min(idle, announced-500*time.Millisecond)
	}
	clear(c.fields[:cap(c.fields)])
	c.idleSince, c.idleUntil = now, now.Add(idle)
	x.u.pool.put(c, now)
}

// send writes the head, in b, and a short body.
func (x *exchange) send(b []byte) *Error {
	c := x.c
	if cap(b) > cap(c.buf) {
		c.buf = b[:cap(b)] // it grew: read into the larger one, too
	}
	c.r, c.w = 0, 0
	rest := x.q.short
	if len(b)+len(rest) <= cap(b) {
		b = append(b, rest...)
		rest = nil
	}
	if large := len(b)+len(rest) > bufferSize; large {
		_ = c.nc.SetWriteDeadline(time.Now().Add(x.u.cfg.SendTimeout))
		defer c.nc.SetWriteDeadline(time.Time{})
	}
	_, err := c.nc.Write(b)
	if err == nil && rest != nil {
		_, err = c.nc.Write(rest)
	}
	if err != nil {
		if isTimeout(err) {
			return &Error{Failure: FailureTimeout, Err: err}
		}
		// The other side has closed, perhaps after an answer: reading tells.
		x.up.sendErr = err
	}
	return nil
}

// watch has the connection closed when the request's context ends.
func (x *exchange) watch() {
	if x.unwatch == nil {
		x.unwatch = context.AfterFunc(x.ctx, x.c.abort)
	}
}

// fill reads at least one more byte into the buffer, however long that takes
// within the limits of the phase.
func (x *exchange) fill(limit int) error {
	for {
		err := x.c.read(limit)
		if err == nil {
			x.received = true
			return nil
		}
		if !isTimeout(err) {
			return err
		}
		if err := x.impatient(); err != nil {
			return err
		}
	}
}

// pause is called when a read is about to wait. What the client has not been
// sent of an answer without a length is sent now; of one with a length, which
// mostly comes in several pieces close together, when patience runs out.
func (x *exchange) pause() {
	if !x.answering || !x.unflushed {
		return
	}
	if x.stream {
		x.flush()
		return
	}
	x.c.arm(time.Now(), patience)
}

// flush sends on what w holds back. A client that cannot be sent to ends the read.
func (x *exchange) flush() {
	x.unflushed = false
	err := http.NewResponseController(x.w).Flush()
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		x.broken = err
		x.c.abort()
	}
}

// impatient is called when a read has met its deadline. It says by its error
// that this was the last, or sets the next.
func (x *exchange) impatient() error {
	now := time.Now()
	c := x.c
	c.armed = time.Time{}
	x.watch()
	if x.answering {
		if x.unflushed {
			x.flush()
		}
		return c.nc.SetReadDeadline(time.Time{})
	}
	limit := x.sent.Add(x.u.cfg.ResponseHeaderTimeout)
	switch {
	case x.expecting:
		limit = x.sent.Add(x.u.cfg.ContinueTimeout)
		if !now.Before(limit) {
			return errContinue
		}
	case x.up.started:
		// The wait for the header counts from the end of the upload.
		if end := x.up.ended.Load(); end != 0 {
			limit = time.Unix(0, end).Add(x.u.cfg.ResponseHeaderTimeout)
		} else {
			limit = now.Add(x.u.cfg.ResponseHeaderTimeout)
		}
	}
	if !now.Before(limit) {
		return errHeaderTimeout
	}
	c.armed = limit
	return c.nc.SetReadDeadline(limit)
}

// await reads interim answers until the header of the final one, or of 101.
func (x *exchange) await() *Error {
	for interim := 0; ; interim++ {
		err := x.readHead()
		for errors.Is(err, errContinue) {
			x.proceed()
			err = x.readHead()
		}
		if err != nil {
			return x.readFailure(err)
		}
		switch h := &x.head; {
		case h.status == http.StatusSwitchingProtocols:
			if x.q.upgrade == "" || h.upgrade == "" || !hasToken([]string{x.q.upgrade}, h.upgrade) {
				return &Error{Failure: FailureResponse, Err: fmt.Errorf("switches to protocol %.40q, which was not asked for", h.upgrade)}
			}
		case h.status >= 200:
		case interim == maxInterim:
			return &Error{Failure: FailureResponse, Err: errors.New("too many interim answers")}
		case h.status == http.StatusContinue:
			if x.expecting {
				x.proceed()
			}
			continue
		default:
			if x.r.ProtoAtLeast(1, 1) {
				relayInterim(x.w, h)
			}
			continue
		}
		x.res.Status = x.head.status
		x.res.HeaderDuration = time.Since(x.begun)
		return nil
	}
}

// proceed lets a client that waits for 100 (Continue) send its body.
func (x *exchange) proceed() {
	x.expecting = false
	now := time.Now()
	x.sent = now
	if x.r.ProtoMajor == 1 {
		// By hand and not by the first read of the body, which will happen in
		// another goroutine, while this one may write other interim answers.
		relayInterim(x.w, &head{status: http.StatusContinue})
	}
	x.c.arm(now, min(patience, x.u.cfg.ResponseHeaderTimeout))
	x.startUpload()
}

// relayInterim sends an interim answer to the client. What w's header holds for
// the final answer is kept for that.
func relayInterim(w http.ResponseWriter, in *head) {
	h := w.Header()
	saved := maps.Clone(h)
	clear(h)
	in.addTo(h)
	w.WriteHeader(in.status)
	clear(h)
	maps.Copy(h, saved)
}

// readFailure explains an error met before the answer's header was complete.
func (x *exchange) readFailure(err error) *Error {
	if x.up.started {
		x.stopUpload()
		switch {
		case x.up.bodyErr != nil:
			return bodyFailure(x.ctx, x.up.bodyErr)
		case x.up.sendErr != nil && isTimeout(x.up.sendErr):
			return fail(x.ctx, FailureTimeout, x.up.sendErr)
		}
	}
	switch {
	case errors.Is(err, errHeaderTimeout):
		return fail(x.ctx, FailureTimeout, err)
	case !x.received:
		return fail(x.ctx, FailureReset, err)
	}
	return fail(x.ctx, FailureResponse, unexpected(err))
}

// unexpected turns the end of a connection into an error.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readHead reads and parses one head into x.head.
func (x *exchange) readHead() error {
	c, limit := x.c, x.u.cfg.MaxResponseHeaderBytes
	block, err := x.readSection(limit)
	if err != nil {
		return err
	}
	x.head, err = parseHead(block, c.fields)
	c.fields = x.head.fields[:0]
	return err
}

// readSection reads up to and with the next empty line.
func (x *exchange) readSection(limit int) (string, error) {
	c := x.c
	for searched := 0; ; {
		b := c.buffered()
		if n := headEnd(b, searched); n >= 0 && n <= limit {
			c.r += n
			return string(b[:n]), nil
		}
		if len(b) > limit {
			return "", errTooLarge
		}
		searched = len(b)
		if err := x.fill(limit + 1); err != nil {
			return "", err
		}
	}
}

// answer relays the final answer. keep says that the connection can be used again.
func (x *exchange) answer() (keep bool, err error) {
	h := &x.head
	bodyless := h.bodyless(x.r.Method)
	header := x.w.Header()
	h.addTo(header)
	if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = nil // or net/http would guess one
	}
	// An upload of which the client has not sent everything cannot be followed
	// by another request on its connection, and net/http must not try to read
	// the rest before it sends the answer.
	if x.r.ProtoMajor == 1 && !x.bodyRead() {
		header["Connection"] = []string{"close"}
	}
	if h.chunked && !bodyless && len(h.trailer) > 0 {
		header["Trailer"] = []string{strings.Join(h.trailer, ", ")}
	}
	if x.q.o.OnHeader != nil {
		x.q.o.OnHeader(h.status, header)
	}
	x.w.WriteHeader(h.status)
	x.res.Started, x.answering, x.unflushed = true, true, true
	x.up.answered.Store(true)

	switch {
	case bodyless:
	case h.chunked:
		x.stream = true
		err = x.relayChunked()
	case h.length >= 0:
		err = x.relay(h.length, true)
	default:
		x.stream = true
		h.close = true
		err = x.relayToEnd()
	}
	if err != nil {
		return false, x.relayFailure(err)
	}
	return !h.close && x.uploadComplete() && x.up.sendErr == nil, nil
}

// relayFailure explains an error met after the answer's header was relayed.
func (x *exchange) relayFailure(err error) *Error {
	if x.broken != nil {
		return &Error{Failure: FailureClientGone, Err: x.broken}
	}
	return fail(x.ctx, FailureResponse, unexpected(err))
}

// write hands a part of the body to the client.
func (x *exchange) write(p []byte) error {
	n, err := x.w.Write(p)
	x.res.Bytes += int64(n)
	x.unflushed = true
	if x.stream && x.res.Bytes >= largeSize {
		x.c.large = true
	}
	if err != nil {
		return &Error{Failure: FailureClientGone, Err: err}
	}
	return nil
}

// relay relays n bytes of body: all of it when it is sized, or one chunk, whose
// length says nothing of the whole.
func (x *exchange) relay(n int64, sized bool) error {
	c := x.c
	for n > 0 {
		if c.r == c.w {
			if sized {
				c.large = n >= largeSize
			}
			if err := x.fill(0); err != nil {
				return err
			}
		}
		b := c.buffered()
		b = b[:min(int64(len(b)), n)]
		c.r += len(b)
		n -= int64(len(b))
		if err := x.write(b); err != nil {
			return err
		}
	}
	return nil
}

// relayToEnd relays the body that the end of the connection ends.
func (x *exchange) relayToEnd() error {
	c := x.c
	for {
		if c.r < c.w {
			b := c.buffered()
			c.r = c.w
			if err := x.write(b); err != nil {
				return err
			}
		}
		if err := x.fill(0); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// relayChunked relays a chunked body and its trailer section.
func (x *exchange) relayChunked() error {
	for {
		line, err := x.readLine()
		if err != nil {
			return err
		}
		n, err := parseChunkSize(line)
		if err != nil {
			return err
		}
		if n == 0 {
			return x.relayTrailer()
		}
		if err := x.relay(n, false); err != nil {
			return err
		}
		if line, err = x.readLine(); err != nil {
			return err
		}
		if len(line) != 0 {
			return errors.New("chunk is longer than its size")
		}
	}
}

// readLine reads a line of the chunked coding and returns it without its CR LF.
// It is valid until the next read. A bare LF does not end it: servers that
// disagree on that have been made to see different messages.
func (x *exchange) readLine() ([]byte, error) {
	c := x.c
	for searched := 0; ; {
		b := c.buffered()
		for i := searched; i < len(b); i++ {
			if b[i] != '\n' {
				continue
			}
			if i == 0 || b[i-1] != '\r' {
				return nil, errors.New("chunk line ends in a bare LF")
			}
			c.r += i + 1
			return b[:i-1], nil
		}
		if len(b) > maxChunkLine {
			return nil, errors.New("chunk line too long")
		}
		searched = len(b)
		if err := x.fill(0); err != nil {
			return nil, err
		}
	}
}

// relayTrailer reads the trailer section after the last chunk, and hands the
// fields that may be relayed to the client.
func (x *exchange) relayTrailer() error {
	c, limit := x.c, x.u.cfg.MaxResponseHeaderBytes
	// Usually it is empty: one more CR LF.
	for c.w-c.r < 2 {
		if err := x.fill(0); err != nil {
			return err
		}
	}
	if c.buf[c.r] == '\r' && c.buf[c.r+1] == '\n' {
		c.r += 2
		return nil
	}
	block, err := x.readSection(limit)
	if err != nil {
		return err
	}
	var trailer http.Header
	err = eachField(block, func(name, value string) error {
		if trailerAllowed(name) {
			if trailer == nil {
				trailer = http.Header{}
			}
			trailer[name] = append(trailer[name], value)
		}
		return nil
	})
	if err != nil || trailer == nil {
		return err
	}
	x.sendTrailer(trailer, x.head.trailer)
	return nil
}

// sendTrailer sends trailer fields after the body; announced are those that the
// header named.
func (x *exchange) sendTrailer(trailer http.Header, announced []string) {
	// Or net/http sends a short body with a length, and no trailer. A client
	// that is gone needs none.
	_ = http.NewResponseController(x.w).Flush()
	h := x.w.Header()
	for _, name := range announced {
		delete(h, name) // a header field of that name has been sent
	}
	for name, values := range trailer {
		if hasToken(announced, name) {
			h[name] = values
		} else {
			h[http.TrailerPrefix+name] = values
		}
	}
}
