package embedded

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// LockTimeout is how long Open waits for another process to let go of a file.
const LockTimeout = 2 * time.Second

// mapping is the address space set aside for a file, so that a long read (a backup)
// does not hold up a write which makes the file grow. It takes no memory.
const mapping = 1 << 30

// growth is by how much a file grows at once, in bytes.
const growth = 1 << 20

// file is an open bbolt file.
type file struct {
	bolt    *bbolt.DB
	path    string
	damaged error // what damage is called
}

// openFile opens the file at path, makes it if there is none, and has prepare make or check what is in
// it. Errors wrap ErrInUse, ErrNewer, damaged or the file system's.
func openFile(ctx context.Context, path string, damaged error, o *bbolt.Options, prepare func(*bbolt.Tx) error) (*file, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	var opened *os.File // bbolt leaves it open, and locked, when it panics
	o.Timeout = LockTimeout
	o.FreelistType = bbolt.FreelistMapType
	o.NoStatistics = true
	o.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		opened = f
		return f, err
	}
	if runtime.GOOS != "windows" && math.MaxInt > math.MaxInt32 {
		o.InitialMmapSize = mapping
	}
	f := &file{path: path, damaged: damaged}
	err := f.guard("opening", func() (err error) {
		if f.bolt, err = bbolt.Open(path, 0o600, o); err != nil {
			return err
		}
		f.bolt.AllocSize = growth
		return f.bolt.Update(prepare)
	})
	if err != nil {
		// bbolt has no error of its own for every damage: what is neither the system's
		// word nor ours is its.
		var errno syscall.Errno
		if !errors.As(err, &errno) && !errors.Is(err, ErrInUse) && !errors.Is(err, ErrNewer) && !errors.Is(err, damaged) {
			err = fmt.Errorf("%w: %w", damaged, err)
		}
		if f.bolt != nil {
			err = errors.Join(err, f.Close())
		} else if opened != nil {
			unlock(opened)
			opened.Close() // may be closed already; the first error counts
		}
		return nil, err
	}
	return f, nil
}

// Close closes the file; it waits for transactions under way.
func (f *file) Close() error {
	if err := f.bolt.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", f.path, err)
	}
	return nil
}

// guard runs fn and turns the panics and memory faults of reading a damaged
// file, and bbolt's words for it, into errors that wrap f.damaged.
func (f *file) guard(doing string, fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a truncated file faults where it is mapped
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s %s: %w: %v", doing, f.path, f.damaged, p)
		}
	}()
	err = fn()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrTimeout):
		err = ErrInUse
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum),
		errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrInvalidMapping):
		err = fmt.Errorf("%w: %w", f.damaged, err)
	}
	return fmt.Errorf("%s %s: %w", doing, f.path, err)
}

// view runs a read transaction.
func (f *file) view(ctx context.Context, fn func(*bbolt.Tx) error) error {
	return f.guard("reading", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return f.bolt.View(fn)
	})
}

// update runs a write transaction and syncs it to disk.
func (f *file) update(ctx context.Context, fn func(*bbolt.Tx) error) error {
	return f.guard("writing", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return f.bolt.Update(fn)
	})
}
