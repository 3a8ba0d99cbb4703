package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/quickthorn/quickthorn/internal/decision"
	"go.etcd.io/bbolt"
)

// FileName is the name of the state file in the data directory.
const FileName = "state.db"

// Errors of this package; match them with errors.Is.
var (
	// ErrInUse says that another process has the file open.
	ErrInUse = errors.New("another quickthorn uses this data directory")
	// ErrCorrupt says that the file is damaged, or not one of ours.
	ErrCorrupt = errors.New("the state file is damaged: restore it from a backup, or move it away to start without decisions")
	// ErrNewer says that a newer version has written the file.
	ErrNewer = errors.New("the state file was written by a newer quickthorn")
	// ErrQueueCorrupt says that the file of the queue is damaged, or not one of ours.
	ErrQueueCorrupt = errors.New("the queue file is damaged: move it away to start with an empty queue")
)

// formatVersion is what the file's layout is called. A version that cannot be
// read by the release before must be one higher.
const formatVersion = 1

// DB is an open state file. It is safe for concurrent use.
type DB struct{ file }

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
func Open(ctx context.Context, path string) (*DB, error) {
	f, err := openFile(ctx, path, ErrCorrupt, &bbolt.Options{}, prepare)
	if err != nil {
		return nil, err
	}
	return &DB{*f}, nil
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
