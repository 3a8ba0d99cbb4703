package edge

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// guardedListener bounds the number of connections and how long a client may
// leave us waiting to write. Connections beyond the bound are closed at once: if
// they were left in the accept queue, readers behind them would wait as well.
type guardedListener struct {
	net.Listener
	connections *Connections
	writeIdle   time.Duration
}

func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if k := l.connections; k.open.Add(1) > k.max {
			k.open.Add(-1)
			k.refused.Add(1)
			c.Close()
			continue
		}
		return &guardedConn{Conn: c, listener: l}, nil
	}
}

// guardedConn ends a connection whose client does not read. It moves the write
// deadline only now and then, because setting one costs a timer operation.
type guardedConn struct {
	net.Conn
	listener *guardedListener
	closed   sync.Once
	// armed is when the deadline was last set. Only the one writer that net/http
	// or a hijacked copy has at a time touches it.
	armed time.Time
}

func (c *guardedConn) Write(b []byte) (int, error) {
	if idle := c.listener.writeIdle; idle > 0 {
		if now := time.Now(); now.Sub(c.armed) > idle/4 {
			if err := c.Conn.SetWriteDeadline(now.Add(idle)); err != nil {
				return 0, err
			}
			c.armed = now
		}
	}
	return c.Conn.Write(b)
}

// CloseWrite passes half-close through: an upgraded connection may end one direction first.
func (c *guardedConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SyscallConn is the socket, for what writes to it without waiting and so needs no guard. What is read and written is the socket's own.
func (c *guardedConn) SyscallConn() (syscall.RawConn, error) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// SetReadBuffer bounds what the system keeps for the connection.
func (c *guardedConn) SetReadBuffer(bytes int) error {
	if b, ok := c.Conn.(interface{ SetReadBuffer(bytes int) error }); ok {
		return b.SetReadBuffer(bytes)
	}
	return errors.ErrUnsupported
}

// SetWriteBuffer is like SetReadBuffer, for what is written.
func (c *guardedConn) SetWriteBuffer(bytes int) error {
	if b, ok := c.Conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		return b.SetWriteBuffer(bytes)
	}
	return errors.ErrUnsupported
}

func (c *guardedConn) Close() error {
	c.closed.Do(func() { c.listener.connections.open.Add(-1) })
	return c.Conn.Close()
}
