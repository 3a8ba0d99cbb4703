//go:build !unix

package prose

import (
	"fmt"
	"os"
)

// mapFile reads a file: here it is not mapped.
func mapFile(path string) ([]byte, func() error, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if fi.Size() > maxModel {
		return nil, nil, fmt.Errorf("%s: %d bytes, want at most %d", path, fi.Size(), maxModel)
	}
	b, err := os.ReadFile(path)
	return b, func() error { return nil }, err
}
