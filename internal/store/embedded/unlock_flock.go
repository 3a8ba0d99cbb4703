//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package embedded

import (
	"os"
	"syscall"
)

// unlock lets go of a file that bbolt has locked. Closing it is not enough: where bbolt
// panicked, the file is still mapped, and its lock lives as long as the mapping.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
