package clientaddr

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// ProxyMode says whether connections begin with a PROXY header, in which HAProxy and the load
// balancers of clouds announce the client (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt).
type ProxyMode uint8

// The modes.
const (
	// ProxyOff passes connections as they are.
	ProxyOff ProxyMode = iota
	// ProxyOptional believes the header of a trusted peer that sends one. Other
	// peers' bytes are passed as they are, so that a PROXY header from one of them is
	// a malformed request to the HTTP server.
	ProxyOptional
	// ProxyRequired closes connections of untrusted peers and those without a header.
	ProxyRequired
)

// ParseProxyMode returns the mode called "off", "optional" or "required".
func ParseProxyMode(s string) (ProxyMode, error) {
	switch s {
	case "off":
		return ProxyOff, nil
	case "optional":
		return ProxyOptional, nil
	case "required":
		return ProxyRequired, nil
	}
	return 0, fmt.Errorf("unknown PROXY protocol mode %q: use off, optional, required", s)
}

// maxProxyHeader bounds a header with its TLVs, in bytes. A version 2 header may
// announce 64 KiB; balancers send a few hundred bytes, with a client certificate's names in the TLVs.
const maxProxyHeader = 2 << 10

// maxProxyV1 is the longest version 1 header, line end included.
const maxProxyV1 = 107

// Listener returns inner with connections whose RemoteAddr is the client that a
// trusted peer announces by the PROXY protocol, version 1 or 2. A trusted peer is one that
// [Resolver.Trusts], Unix sockets included. UNKNOWN, LOCAL and a source that is no IP address leave the peer's own
// address, as they do in health checks by the balancer itself.
//
// The header must come complete within timeout, else the connection is closed;
// so it is when the header is malformed. Accept itself never reads: the first Read or RemoteAddr of
// the connection waits for the header. net/http calls both in the connection's own goroutine; a ConnState
// or ConnContext hook must not ask for RemoteAddr.
func (r *Resolver) Listener(inner net.Listener, mode ProxyMode, timeout time.Duration) net.Listener {
	if mode == ProxyOff {
		return inner
	}
	return &proxyListener{Listener: inner, resolver: r, required: mode == ProxyRequired, timeout: timeout}
}

type proxyListener struct {
	net.Listener
	resolver *Resolver
	required bool
	timeout  time.Duration
}

func (l *proxyListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.trusts(c.RemoteAddr()) {
			return newProxyConn(c, l.required, l.timeout), nil
		}
		if !l.required {
			return c, nil
		}
		c.Close()
	}
}

func (l *proxyListener) trusts(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		ip := a.AddrPort().Addr()
		return ip.IsValid() && l.resolver.Trusts(ip)
	case *net.UnixAddr:
		return l.resolver.Trusts(netip.Addr{})
	}
	return false
}

// proxyConn reads the PROXY header before anything else. As with any connection
// under net/http, one goroutine at a time may read.
type proxyConn struct {
	net.Conn
	required bool
	timeout  time.Duration

	once   sync.Once // guards the reading of the header, which sets the next three
	err    error
	remote net.Addr      // announced, nil if none was
	buffer *bufio.Reader // what was read beyond the header; nil when used up

	mu       sync.Mutex // guards the deadlines, never held while reading
	header   time.Time  // deadline of the header while it is being read, else zero
	deadline time.Time  // what the connection's user asked for
}

func newProxyConn(c net.Conn, required bool, timeout time.Duration) *proxyConn {
	return &proxyConn{Conn: c, required: required, timeout: timeout}
}

// Read reads what follows the header.
func (c *proxyConn) Read(b []byte) (int, error) {
	c.once.Do(c.readHeader)
	if c.err != nil {
		return 0, c.err
	}
	if c.buffer != nil {
		if c.buffer.Buffered() > 0 {
			return c.buffer.Read(b)
		}
		c.buffer = nil
	}
	return c.Conn.Read(b)
}

// RemoteAddr returns the announced client, or the peer. It waits for the header.
func (c *proxyConn) RemoteAddr() net.Addr {
	c.once.Do(c.readHeader)
	if c.remote != nil {
		return c.remote
	}
	return c.Conn.RemoteAddr()
}

// CloseWrite passes half-close through, which net/http uses to end a connection
// without losing its last answer.
func (c *proxyConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SyscallConn is the socket, for who needs no more of what was sent: what has been read beyond the header is not in it.
func (c *proxyConn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// SetReadBuffer bounds what the system keeps of what was sent.
func (c *proxyConn) SetReadBuffer(bytes int) error {
	if b, ok := c.Conn.(interface{ SetReadBuffer(bytes int) error }); ok {
		return b.SetReadBuffer(bytes)
	}
	return errors.ErrUnsupported
}

// SetWriteBuffer bounds what the system keeps of what is written.
func (c *proxyConn) SetWriteBuffer(bytes int) error {
	if b, ok := c.Conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		return b.SetWriteBuffer(bytes)
	}
	return errors.ErrUnsupported
}

// SetReadDeadline cannot put off the deadline of a header that is being read.
func (c *proxyConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetReadDeadline(earlier(c.header, t))
}

// SetDeadline sets both deadlines, the one for reading as SetReadDeadline does.
func (c *proxyConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *proxyConn) headerDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header = t
	return c.Conn.SetReadDeadline(earlier(t, c.deadline))
}

// earlier returns the earlier of two deadlines, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// readHeader consumes the header, or closes the connection.
func (c *proxyConn) readHeader() {
	err := c.headerDeadline(time.Now().Add(c.timeout))
	if err == nil {
		c.buffer = bufio.NewReaderSize(c.Conn, maxProxyHeader)
		c.remote, err = readProxyHeader(c.buffer, c.required)
	}
	if err == nil {
		err = c.headerDeadline(time.Time{})
	}
	if err != nil {
		c.err = fmt.Errorf("read PROXY header from %v: %w", c.Conn.RemoteAddr(), err)
		c.remote, c.buffer = nil, nil
		c.Conn.Close()
	}
}

var errNoProxyHeader = errors.New("the connection does not begin with one")

// readProxyHeader takes a header off b, whose buffer holds maxProxyHeader bytes,
// and returns the announced client or nil. Without a header nothing is consumed.
func readProxyHeader(b *bufio.Reader, required bool) (net.Addr, error) {
	found, err := awaitProxyHeader(b)
	if err != nil {
		return nil, err
	}
	if !found {
		if required {
			return nil, errNoProxyHeader
		}
		return nil, nil
	}
	h, err := proxyproto.Read(b)
	if err != nil {
		return nil, err
	}
	if h.Command.IsLocal() {
		return nil, nil
	}
	src, _, ok := h.IPs()
	if !ok {
		return nil, nil
	}
	ip, ok := netip.AddrFromSlice(src)
	if ip = ip.Unmap(); !ok || ip.IsUnspecified() || ip.IsMulticast() {
		return nil, nil
	}
	port, _, _ := h.Ports()
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))), nil
}

// awaitProxyHeader waits until b's buffer holds a whole header, or something
// that begins differently. The parser itself takes a header that comes in two packets for an attack.
func awaitProxyHeader(b *bufio.Reader) (bool, error) {
	version, err := awaitSignature(b)
	if err != nil {
		return false, err
	}
	switch version {
	case 1:
		for n := len(proxyproto.SIGV1) + 1; n <= maxProxyV1; n++ {
			p, err := b.Peek(n)
			if err != nil {
				return false, incomplete(err)
			}
			if p[n-1] == '\n' {
				return true, nil
			}
		}
		return false, proxyproto.ErrVersion1HeaderTooLong
	case 2:
		const fixed = 16 // signature, version, family, length
		p, err := b.Peek(fixed)
		if err != nil {
			return false, incomplete(err)
		}
		n := fixed + int(binary.BigEndian.Uint16(p[fixed-2:]))
		if n > maxProxyHeader {
			return false, fmt.Errorf("%d bytes long, at most %d are read", n, maxProxyHeader)
		}
		if _, err := b.Peek(n); err != nil {
			return false, incomplete(err)
		}
		return true, nil
	}
	return false, nil
}

// awaitSignature returns the version whose signature b begins with, 0 for none.
// It waits only as long as the bytes so far could begin a signature.
func awaitSignature(b *bufio.Reader) (int, error) {
	for n := 1; ; n++ {
		p, err := b.Peek(n)
		if err != nil {
			if n > 1 {
				err = incomplete(err)
			}
			return 0, err
		}
		switch {
		case bytes.Equal(p, proxyproto.SIGV1):
			return 1, nil
		case bytes.Equal(p, proxyproto.SIGV2):
			return 2, nil
		case !bytes.HasPrefix(proxyproto.SIGV1, p) && !bytes.HasPrefix(proxyproto.SIGV2, p):
			return 0, nil
		}
	}
}

func incomplete(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
