package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// companions are the suffixes of the files that make up a database.
var companions = [...]string{"", "-wal", "-shm"}

// quarantine moves the broken file aside and opens a new one in its place. The caller holds a.mu
// or is alone with the archive.
func (a *Archive) quarantine(ctx context.Context, cause error) error {
	if a.files != nil {
		// An error is to be expected of a broken file, and nothing follows from it.
		_ = a.files.close()
	}
	if err := a.dropOldBroken(); err != nil {
		return errors.Join(cause, err)
	}
	aside := a.path + ".broken-" + a.o.Now().UTC().Format("20060102T150405Z")
	for _, c := range companions {
		if err := os.Rename(a.path+c, aside+c); err != nil && !errors.Is(err, os.ErrNotExist) {
			return errors.Join(cause, fmt.Errorf("moving the broken file aside: %w", err))
		}
	}
	files, err := openFiles(ctx, a.path, migrations)
	if err != nil {
		return errors.Join(cause, fmt.Errorf("beginning a new file: %w", err))
	}
	a.files = files
	a.o.Log.Error("the archive file was broken; it is kept under another name and a new one has been begun", "file", a.path, "kept", aside, "error", cause)
	return nil
}

// dropOldBroken removes broken files of before, so that a disk that keeps breaking files is not filled by them.
func (a *Archive) dropOldBroken() error {
	entries, err := os.ReadDir(filepath.Dir(a.path))
	if err != nil {
		return fmt.Errorf("looking for older broken files: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(a.path)+".broken-") {
			if err := os.Remove(filepath.Join(filepath.Dir(a.path), e.Name())); err != nil {
				return fmt.Errorf("removing an older broken file: %w", err)
			}
		}
	}
	return nil
}

// replaceIfBroken quarantines the file that was in use when err happened, if
// err says that it is broken. It returns err, saying what was done.
func (a *Archive) replaceIfBroken(ctx context.Context, used *files, err error) error {
	if !errors.Is(err, ErrCorrupt) || !a.o.Quarantine {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.files != used {
		return err // somebody else has done it
	}
	if qerr := a.quarantine(context.WithoutCancel(ctx), err); qerr != nil {
		return qerr
	}
	return fmt.Errorf("a new file has been begun: %w", err)
}
