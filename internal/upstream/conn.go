package upstream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// bufferSize is the size of the buffer that a request is written from, and its
// answer read into: most pages take one read. largeSize is that for the rest of
// long bodies; with it, copying is no slower than having the kernel move the
// bytes from socket to socket (splice(2)).
const (
	bufferSize = 16 << 10
	largeSize  = 64 << 10
)

// The buffers are shared by all upstreams: a connection has one only while it
// has something to hold, so that ten thousand waiting event streams hold none.
var (
	buffers      = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}
	largeBuffers = sync.Pool{New: func() any { b := make([]byte, largeSize); return &b }}
)

// patience is how long a read waits before anything is spent on the chance that
// it will be a long wait: watching the client, and sending on what is
// buffered of an answer with a known length.
const patience = 40 * time.Millisecond

// errTooLarge says that a header section or chunk line does not fit.
var errTooLarge = errors.New("header section too large")

// conn is one connection to an upstream that speaks HTTP/1, with a read buffer.
type conn struct {
	nc  net.Conn
	raw syscall.RawConn // to read without blocking; nil if nc cannot
	chk syscall.RawConn // to see whether the other side has closed; nil if nc cannot

	slab  *[]byte // where buf came from, nil if there is no buffer
	buf   []byte
	large bool // the next buffer is to be a large one
	r, w  int  // buf[r:w] was read and not yet used

	x         *exchange // whose reads these are, for what to do when one must wait
	readFD    func(fd uintptr) bool
	peekFD    func(fd uintptr) bool
	ioErr     error     // of the last readFD
	stale     bool      // of the last peekFD
	armed     time.Time // the read deadline set last, zero for none
	fields    []Field   // memory for a header section's fields
	idleSince time.Time
	idleUntil time.Time
	reused    bool
}

func newConn(nc net.Conn) *conn {
	c := &conn{nc: nc}
	c.readFD, c.peekFD = c.readOnce, c.peekOnce
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw = rawConn(sc)
		c.chk = c.raw
	} else if t, ok := nc.(*tls.Conn); ok {
		if sc, ok := t.NetConn().(syscall.Conn); ok {
			c.chk = rawConn(sc)
		}
	}
	return c
}

// abort closes the connection at once. Closing one with TLS would first say
// goodbye, and wait for room to say it.
func (c *conn) abort() {
	if t, ok := c.nc.(*tls.Conn); ok {
		t.NetConn().Close()
		return
	}
	c.nc.Close()
}

// buffered returns what was read and not yet used.
func (c *conn) buffered() []byte { return c.buf[c.r:c.w] }

// hold makes sure that there is a buffer.
func (c *conn) hold() {
	switch {
	case c.slab != nil:
		return
	case c.large:
		c.slab = largeBuffers.Get().(*[]byte)
	default:
		c.slab = buffers.Get().(*[]byte)
	}
	c.buf, c.r, c.w = *c.slab, 0, 0
}

// release gives the buffer back if nothing is in it.
func (c *conn) release() {
	if c.slab == nil || c.r != c.w {
		return
	}
	// A buffer that grew for a giant header replaced the one of the slab.
	if len(*c.slab) == largeSize {
		largeBuffers.Put(c.slab)
	} else {
		buffers.Put(c.slab)
	}
	c.slab, c.buf, c.r, c.w = nil, nil, 0, 0
}

// room makes sure that the buffer can take more, growing it up to limit.
func (c *conn) room(limit int) error {
	if c.r == c.w {
		if c.large && len(c.buf) < largeSize {
			c.release()
		}
		c.r, c.w = 0, 0
	}
	c.hold()
	if c.w < len(c.buf) {
		return nil
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
		return nil
	}
	if len(c.buf) >= limit {
		return errTooLarge
	}
	grown := make([]byte, min(2*len(c.buf), max(limit, bufferSize)))
	copy(grown, c.buf)
	c.buf = grown
	return nil
}

// read reads at least one byte into the buffer, waiting until the deadline.
// Before it waits it calls the exchange's pause.
func (c *conn) read(limit int) error {
	if err := c.room(limit); err != nil {
		return err
	}
	if c.raw != nil {
		c.ioErr = nil
		if err := c.raw.Read(c.readFD); err != nil {
			return err
		}
		return c.ioErr
	}
	c.x.pause()
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil // an error will come again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// readOnce is read's attempt at the descriptor. It returns false to wait.
func (c *conn) readOnce(fd uintptr) bool {
	c.hold()
	n, again, err := readNonblock(fd, c.buf[c.w:])
	switch {
	case again:
		c.x.pause()
		c.release()
		return false
	case err != nil:
		c.ioErr = err
	case n == 0:
		c.ioErr = io.EOF
	default:
		c.w += n
	}
	return true
}

// isStale reports whether an idle connection was closed by the other side, or
// has said something unasked.
func (c *conn) isStale() bool {
	if c.chk == nil {
		return false
	}
	c.stale = true
	if err := c.chk.Read(c.peekFD); err != nil {
		return true
	}
	return c.stale
}

func (c *conn) peekOnce(fd uintptr) bool {
	c.stale = !quiet(fd)
	return true
}

// arm sets the read deadline to about now+d. Setting it costs a lock and a
// timer; one that is already set and still leaves half the time is as good.
func (c *conn) arm(now time.Time, d time.Duration) {
	if !c.armed.IsZero() {
		if left := c.armed.Sub(now); left > d/2 && left <= d {
			return
		}
	}
	c.armed = now.Add(d)
	// An error means that the connection is closed, which the next read reports.
	_ = c.nc.SetReadDeadline(c.armed)
}

// disarm lifts the read deadline.
func (c *conn) disarm() {
	if !c.armed.IsZero() {
		c.armed = time.Time{}
		_ = c.nc.SetReadDeadline(time.Time{})
	}
}

// headEnd returns the length of the header section at the start of b, with the
// empty line that ends it, or -1. Lines end in LF, with or without CR before it
// (RFC 9112 §2.2). from is how much of b has been searched before.
func headEnd(b []byte, from int) int {
	// Step back over what could be the beginning of the end.
	i := max(from-3, 0)
	for {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return -1
		}
		i += n + 1
		switch {
		case i < len(b) && b[i] == '\n':
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}
