package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/quickthorn/quickthorn/internal/decision"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// FileName is the name of the state file in the data directory.
const FileName = "state.db"

// LockTimeout is how long Open waits for another process to let go of the file.
const LockTimeout = 2 * time.Second

// Errors of this package; match them with errors.Is.
var (
	// ErrInUse says that another process has the file open.
	ErrInUse = errors.New("another quickthorn uses this data directory")
	// ErrCorrupt says that the file is damaged, or not one of ours.
	ErrCorrupt = errors.New("the state file is damaged: restore it from a backup, or move it away to start without decisions")
	// ErrNewer says that a newer version has written the file.
	ErrNewer = errors.New("the state file was written by a newer quickthorn")
)

// formatVersion is what the file's layout is called. A version that cannot be
// read by the release before must be one higher.
const formatVersion = 1

// mapping is the address space set aside for the file, so that a long read (a backup)
// does not hold up a write which makes the file grow. It takes no memory.
const mapping = 1 << 30

// growth is by how much the file grows at once, in bytes.
const growth = 1 << 20

// DB is an open state file. It is safe for concurrent use.
type DB struct {
	bolt *bbolt.DB
	path string
}

var _ decision.Store = (*DB)(nil)

// The buckets.
var (
	bucketMeta      = []byte("meta")      // keys below
	bucketDecisions = []byte("decisions") // sequence, big-endian: record
	bucketDeleted   = []byte("deleted")   // sequence, big-endian: id
	bucketSettings  = []byte("settings")  // key: value

	keyFormat = []byte("format")
	keyLast   = []byte("last")
	keyFloor  = []byte("floor")
)

// Open opens the state file at path and makes it if there is none; its directory
// must exist. The file can be read by its owner only. The error wraps ErrInUse,
// ErrCorrupt, ErrNewer or the file system's. Close the DB when done.
func Open(ctx context.Context, path string) (_ *DB, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	var file *os.File // bbolt leaves it open, and locked, when it panics
	o := &bbolt.Options{
		Timeout:      LockTimeout,
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			file = f
			return f, err
		},
	}
	if runtime.GOOS != "windows" && math.MaxInt > math.MaxInt32 {
		o.InitialMmapSize = mapping
	}
	db := &DB{path: path}
	err = db.guard("opening", func() (err error) {
		if db.bolt, err = bbolt.Open(path, 0o600, o); err != nil {
			return err
		}
		db.bolt.AllocSize = growth
		return db.bolt.Update(prepare)
	})
	if err != nil {
		// bbolt has no error of its own for every damage: what is neither the system's
		// word nor ours is its.
		var errno syscall.Errno
		if !errors.As(err, &errno) && !errors.Is(err, ErrInUse) && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if db.bolt != nil {
			err = errors.Join(err, db.Close())
		} else if file != nil {
			file.Close() // may be closed already; the first error counts
		}
		return nil, err
	}
	return db, nil
}

// prepare makes what a new file needs and checks an old one's format.
func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketMeta, bucketDecisions, bucketDeleted, bucketSettings} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	switch v, ok, err := getUint(meta, keyFormat); {
	case err != nil:
		return err
	case !ok:
		return putUint(meta, keyFormat, formatVersion)
	case v > formatVersion:
		return fmt.Errorf("%w: format %d, known is %d", ErrNewer, v, formatVersion)
	}
	return nil
}

// Close closes the file; it waits for transactions under way.
func (db *DB) Close() error {
	if err := db.bolt.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", db.path, err)
	}
	return nil
}

// guard runs fn and turns the panics and memory faults of reading a damaged
// file, and bbolt's words for it, into errors that wrap ErrCorrupt.
func (db *DB) guard(doing string, fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a truncated file faults where it is mapped
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s %s: %w: %v", doing, db.path, ErrCorrupt, p)
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
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("%s %s: %w", doing, db.path, err)
}

// view runs a read transaction.
func (db *DB) view(ctx context.Context, fn func(*bbolt.Tx) error) error {
	return db.guard("reading", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return db.bolt.View(fn)
	})
}

// update runs a write transaction and syncs it to disk.
func (db *DB) update(ctx context.Context, fn func(*bbolt.Tx) error) error {
	return db.guard("writing", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return db.bolt.Update(fn)
	})
}

// Backup writes a consistent copy of the file as it is now, while others go on
// reading and writing. Give it a file or something as fast: as long as it takes, the
// space of what is deleted is not used again.
func (db *DB) Backup(ctx context.Context, w io.Writer) error {
	var writing error // bbolt does not wrap it
	return db.view(ctx, func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(writerFunc(func(p []byte) (n int, err error) {
			if err = ctx.Err(); err == nil {
				n, err = w.Write(p)
			}
			if err != nil {
				writing = err
			}
			return n, err
		}))
		if writing != nil {
			err = writing
		}
		if err != nil {
			return fmt.Errorf("writing a copy: %w", err)
		}
		return nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// bucket returns a bucket that prepare made.
func bucket(tx *bbolt.Tx, name []byte) (*bbolt.Bucket, error) {
	if b := tx.Bucket(name); b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("%w: no bucket %q", ErrCorrupt, name)
}

func putUint(b *bbolt.Bucket, key []byte, v uint64) error { return b.Put(key, sequenceKey(v)) }

func getUint(b *bbolt.Bucket, key []byte) (v uint64, ok bool, err error) {
	raw := b.Get(key)
	if raw == nil {
		return 0, false, nil
	}
	v, err = parseSequence(raw)
	return v, true, err
}

func sequenceKey(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func parseSequence(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: a number of %d bytes", ErrCorrupt, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}
