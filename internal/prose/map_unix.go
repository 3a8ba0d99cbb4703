//go:build unix

package prose

import (
	"fmt"
	"os"
	"syscall"
)

// mapFile maps a file into memory.
func mapFile(path string) ([]byte, func() error, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if size := fi.Size(); !fi.Mode().IsRegular() || size > maxModel || size == 0 {
		return nil, nil, fmt.Errorf("%s: want a file of 1 to %d bytes", path, maxModel)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(fi.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %s: %w", path, err)
	}
	return b, func() error { return syscall.Munmap(b) }, nil
}
