//go:build unix

package drip

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
)

// socketOf returns the connection's socket, nil if it is hidden, and whether what is written to the connection goes to it as it is.
func socketOf(conn net.Conn) (raw syscall.RawConn, direct bool) {
	t, encrypted := conn.(*tls.Conn)
	if encrypted {
		conn = t.NetConn()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, false
	}
	return raw, !encrypted
}

// socket reads and writes without waiting. Its fields are those of the call under way: a function that is bound once needs no memory
// for each call.
type socket struct {
	bound func(fd uintptr)
	out   []byte
	n     int
	err   error
	sink  [512]byte
}

// maxSinks bounds how often a socket is read at a time. A client that sends more than that is kept waiting by its window.
const maxSinks = 4

// exchange throws away what the client sent and writes out as far as there is room; n is how much that is. The error is io.EOF when the
// client has closed its side, and another when the connection is broken.
func (s *socket) exchange(raw syscall.RawConn, out []byte) (n int, err error) {
	if s.bound == nil {
		s.bound = s.do
	}
	s.out, s.n, s.err = out, 0, nil
	if err := raw.Control(s.bound); err != nil {
		return 0, err
	}
	return s.n, s.err
}

func (s *socket) do(fd uintptr) {
	for range maxSinks {
		n, err := syscall.Read(int(fd), s.sink[:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
		case err != nil:
			s.err = err
			return
		case n == 0:
			s.err = io.EOF
			return
		case n == len(s.sink):
			continue
		}
		break
	}
	for s.n < len(s.out) {
		n, err := syscall.Write(int(fd), s.out[s.n:])
		switch err {
		case nil:
			s.n += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return
		default:
			s.err = err
			return
		}
	}
}

// limitBuffers bounds what the system keeps for a connection: a client may send what it wants or read nothing. Sockets that do not
// have such bounds keep the system's.
func limitBuffers(conn net.Conn) {
	const size = 4 << 10
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if b, ok := conn.(interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	}); ok {
		_, _ = b.SetReadBuffer(size), b.SetWriteBuffer(size)
	}
}
