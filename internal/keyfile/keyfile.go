// Package keyfile keeps the small secrets that a program makes for itself.
package keyfile

import (
	"crypto/rand"
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

// Size is the length of the keys that Key returns, in bytes.
const Size = 32

// Key returns the first Size bytes of the file at path. When there is none, it is made
// of random bytes. A file that is too short is an error: what rests on a guessable key would be worth nothing.
func Key(path string) ([]byte, error) {
	b, err := LoadOrCreate(path, Random)
	if err != nil {
		return nil, err
	}
	return whole(path, b)
}

// Existing is Key for a file that is not made: ok is false if there is none.
func Existing(path string) (key []byte, ok bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err == nil {
		key, err = whole(path, b)
	}
	return key, err == nil, err
}

// Random returns Size random bytes.
func Random() []byte {
	key := make([]byte, Size)
	rand.Read(key) // never fails (crypto/rand since Go 1.24)
	return key
}

func whole(path string, b []byte) ([]byte, error) {
	if len(b) < Size {
		return nil, fmt.Errorf("key %q: %d bytes, want at least %d", path, len(b), Size)
	}
	return b[:Size], nil
}
