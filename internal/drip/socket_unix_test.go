//go:build unix

package drip

import "syscall"

// smallWindow makes a client's window as small as the system lets it be.
func smallWindow(c syscall.RawConn) (err error) {
	if cerr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1) }); cerr != nil {
		return cerr
	}
	return err
}
