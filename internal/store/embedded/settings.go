package embedded

import (
	"bytes"
	"context"
	"fmt"

	"go.etcd.io/bbolt"
)

// MaxSetting is the size of the largest setting, in bytes.
const MaxSetting = 64 << 10

// Settings are small values that survive a restart, such as the mode.
type Settings struct{ db *DB }

// Settings returns the DB's settings.
func (db *DB) Settings() *Settings { return &Settings{db: db} }

// Get returns the value of a setting; nil when it was never put.
func (s *Settings) Get(ctx context.Context, key string) ([]byte, error) {
	var v []byte
	err := s.db.view(ctx, func(tx *bbolt.Tx) error {
		b, err := bucket(tx, bucketSettings)
		if err == nil {
			v = bytes.Clone(b.Get([]byte(key)))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("getting setting %q: %w", key, err)
	}
	return v, nil
}

// Put makes the value of a setting durable.
func (s *Settings) Put(ctx context.Context, key string, value []byte) error {
	if len(value) > MaxSetting {
		return fmt.Errorf("putting setting %q: %d bytes, at most %d", key, len(value), MaxSetting)
	}
	err := s.db.update(ctx, func(tx *bbolt.Tx) error {
		b, err := bucket(tx, bucketSettings)
		if err == nil {
			err = b.Put([]byte(key), value)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("putting setting %q: %w", key, err)
	}
	return nil
}
