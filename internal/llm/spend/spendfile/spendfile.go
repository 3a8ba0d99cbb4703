// Package spendfile keeps in a file what callers of language models have used.
package spendfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/quickthorn/quickthorn/internal/llm/spend"
)

// FileName ends the names of files in the data directory.
const FileName = "spending.db"

const (
	lockTimeout = 2 * time.Second      // for another process to let go of the file
	gather      = 1 * time.Millisecond // for calls at once to share the wait for the disk
)

// ErrDamaged says that the file's content is damaged.
var ErrDamaged = errors.New("the file of what callers have used is damaged")

var bucket = []byte("spend")

// Store is a spend.Store in a file, of one process. It is safe for concurrent use. Each change is on disk before it returns.
type Store struct {
	db  *bbolt.DB
	now func() time.Time
}

var _ spend.Store = (*Store)(nil)

// Open opens the file, and makes it if there is none; its directory must exist. Close it when done.
func Open(path string, now func() time.Time) (*Store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	db.MaxBatchDelay = gather
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), db.Close())
	}
	return &Store{db: db, now: now}, nil
}

// Close waits for what is being written and closes the file.
func (s *Store) Close() error { return s.db.Close() }

// key sorts by day, so that old ones are found at the beginning.
func key(account string, d spend.Date) []byte { return []byte(d.String() + " " + account) }

// change changes an account's day.
func (s *Store) change(ctx context.Context, account string, d spend.Date, fn func(*spend.Day)) error {
	if account == "" || len(account) > spend.MaxAccount {
		return fmt.Errorf("an account whose name has %d bytes: 1 to %d", len(account), spend.MaxAccount)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	k := key(account, d)
	err := s.db.Batch(func(tx *bbolt.Tx) error { // it may be called twice
		b := tx.Bucket(bucket)
		raw := b.Get(k)
		day, err := read(raw)
		if err != nil {
			return err
		}
		fn(day)
		out, err := json.Marshal(day)
		if err != nil {
			return err
		}
		if raw == nil {
			if err := forget(b, key("", d-spend.Keep)); err != nil {
				return err
			}
		}
		return b.Put(k, out)
	})
	if err != nil {
		return fmt.Errorf("the books of what callers have used: %w", err)
	}
	return nil
}

// forget removes the days before a key.
func forget(b *bbolt.Bucket, before []byte) error {
	c := b.Cursor()
	for k, _ := c.First(); k != nil && string(k) < string(before); k, _ = c.First() {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func read(raw []byte) (*spend.Day, error) {
	day := &spend.Day{}
	if raw == nil {
		return day, nil
	}
	if err := json.Unmarshal(raw, day); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return day, nil
}

// Reserve implements spend.Store.
func (s *Store) Reserve(ctx context.Context, e spend.Entry, most spend.Amount, limit spend.Limit) (sums spend.Sums, ok bool, err error) {
	err = s.change(ctx, e.Account, e.Date, func(d *spend.Day) { sums, ok = d.Reserve(s.now(), e.ID, most, limit) })
	return sums, ok && err == nil, err
}

// Note implements spend.Store.
func (s *Store) Note(ctx context.Context, e spend.Entry, used spend.Amount) error {
	return s.change(ctx, e.Account, e.Date, func(d *spend.Day) { d.Note(s.now(), e.ID, used) })
}

// Settle implements spend.Store.
func (s *Store) Settle(ctx context.Context, e spend.Entry, used, noted spend.Amount) error {
	return s.change(ctx, e.Account, e.Date, func(d *spend.Day) { d.Settle(s.now(), e.ID, used, noted) })
}

// Sums implements spend.Store.
func (s *Store) Sums(ctx context.Context, account string, d spend.Date) (sums spend.Sums, err error) {
	if err := ctx.Err(); err != nil {
		return sums, err
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		day, err := read(tx.Bucket(bucket).Get(key(account, d)))
		if err == nil {
			sums = day.Sums(s.now())
		}
		return err
	})
	if err != nil {
		return sums, fmt.Errorf("the books of what callers have used: %w", err)
	}
	return sums, nil
}
