//go:build unix

package upstream

import (
	"os"
	"syscall"
)

// rawConn returns sc's raw connection, nil if it has none.
func rawConn(sc syscall.Conn) syscall.RawConn {
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// readNonblock reads what the descriptor has at once; again says that it has
// nothing yet.
func readNonblock(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), p)
		switch err {
		case nil:
			return n, false, nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, true, nil
		default:
			return 0, false, os.NewSyscallError("read", err)
		}
	}
}

// quiet reports whether the descriptor is open and has nothing to read.
func quiet(fd uintptr) bool {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		if err != syscall.EINTR {
			return err == syscall.EAGAIN
		}
	}
}
