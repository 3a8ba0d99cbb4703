// Package atomicfile replaces files whole or not at all: neither a crash nor a full disk leaves half of one.
package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Replace makes a file, readable by its owner only, of what write writes, or puts it in place of the one that is there. After an error
// what was there is as it was.
func Replace(path string, write func(w io.Writer) error) (err error) {
	next := path + ".new" // one name: a crash leaves one such file, not many
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(next))
		}
	}()
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil // it is there; only its surviving a power loss is less sure
	}
	defer dir.Close()
	_ = dir.Sync() // likewise
	return nil
}
