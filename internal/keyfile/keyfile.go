// Package keyfile keeps the small secrets that a program makes for itself.
package keyfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// LoadOrCreate returns the content of the file at path. When there is none, the
// file is made with what create returns, readable by its owner only. Two
// programs that start at once agree on the first content, and a crash leaves a whole file
// or none. Whether the content is a good key is the caller's to check.
func LoadOrCreate(path string, create func() []byte) ([]byte, error) {
	b, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(create())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	// A link, where a rename would replace what another program has made meanwhile.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return os.ReadFile(path)
}
