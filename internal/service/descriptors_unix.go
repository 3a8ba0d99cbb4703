//go:build unix

package service

import (
	"math"
	"syscall"
)

// openFiles is how many files the process may have open, which Go has raised to the hard limit; 0: it is not known, or there is none.
func openFiles() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || uint64(l.Cur) > math.MaxInt32 {
		return 0
	}
	return int(l.Cur)
}
