package embedded

import (
	"context"
	"fmt"

	"github.com/oklog/ulid/v2"
	"github.com/quickthorn/quickthorn/internal/decision"
	"go.etcd.io/bbolt"
)

// fill is how full bbolt leaves a page that it splits. Sequences only grow, so pages
// behind the last one get nothing more.
const fill = 0.95

// ctxEvery is after how many records a long read looks whether it is still wanted.
const ctxEvery = 1024

// Commit makes the batch durable, all of it or none.
func (db *DB) Commit(ctx context.Context, b *decision.Batch) error {
	return db.update(ctx, func(tx *bbolt.Tx) error {
		decisions, err := bucket(tx, bucketDecisions)
		if err != nil {
			return err
		}
		deleted, err := bucket(tx, bucketDeleted)
		if err != nil {
			return err
		}
		meta, err := bucket(tx, bucketMeta)
		if err != nil {
			return err
		}
		decisions.FillPercent, deleted.FillPercent = fill, fill
		for _, seq := range b.Drop {
			if err := decisions.Delete(sequenceKey(seq)); err != nil {
				return fmt.Errorf("dropping decision %d: %w", seq, err)
			}
		}
		for i := range b.Put {
			d := &b.Put[i]
			rec, err := appendRecord(nil, d)
			if err != nil {
				return err
			}
			if err := decisions.Put(sequenceKey(d.Sequence), rec); err != nil {
				return fmt.Errorf("putting decision %s: %w", d.ID, err)
			}
		}
		for _, d := range b.Deleted {
			id, err := ulid.ParseStrict(d.ID)
			if err != nil {
				return fmt.Errorf("decision id %q: %w", d.ID, err)
			}
			if err := deleted.Put(sequenceKey(d.Sequence), id[:]); err != nil {
				return fmt.Errorf("putting the deletion of %s: %w", d.ID, err)
			}
		}
		if err := forget(deleted, b.Floor); err != nil {
			return err
		}
		if err := putUint(meta, keyLast, b.Last); err != nil {
			return err
		}
		return putUint(meta, keyFloor, b.Floor)
	})
}

// forget removes deletions up to floor.
func forget(deleted *bbolt.Bucket, floor uint64) error {
	var old [][]byte // a cursor does not go on reliably from what was deleted under it
	c := deleted.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		seq, err := parseSequence(k)
		if err != nil {
			return err
		}
		if seq > floor {
			break
		}
		old = append(old, k)
	}
	for _, k := range old {
		if err := deleted.Delete(k); err != nil {
			return fmt.Errorf("forgetting an old deletion: %w", err)
		}
	}
	return nil
}

// State returns what the latest batch said.
func (db *DB) State(ctx context.Context) (decision.State, error) {
	var s decision.State
	err := db.view(ctx, func(tx *bbolt.Tx) error {
		meta, err := bucket(tx, bucketMeta)
		if err != nil {
			return err
		}
		if s.Last, _, err = getUint(meta, keyLast); err != nil {
			return err
		}
		s.Floor, _, err = getUint(meta, keyFloor)
		return err
	})
	return s, err
}

// Changes calls fn for the changes after a sequence, in order, until it returns
// false. fn must not write to the DB.
func (db *DB) Changes(ctx context.Context, after uint64, fn func(decision.Change) bool) error {
	return db.view(ctx, func(tx *bbolt.Tx) error {
		decisions, err := bucket(tx, bucketDecisions)
		if err != nil {
			return err
		}
		deleted, err := bucket(tx, bucketDeleted)
		if err != nil {
			return err
		}
		puts, dels := decisions.Cursor(), deleted.Cursor()
		from := sequenceKey(after + 1)
		if after+1 == 0 {
			return nil
		}
		pk, pv := puts.Seek(from)
		dk, dv := dels.Seek(from)
		for n := 0; pk != nil || dk != nil; n++ {
			if n%ctxEvery == 0 {
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			var c decision.Change
			// The keys have one length, so that they compare like their numbers.
			if dk == nil || pk != nil && string(pk) < string(dk) {
				if c.Sequence, err = parseSequence(pk); err != nil {
					return err
				}
				d, err := parseRecord(pv)
				if err != nil {
					return fmt.Errorf("%w: decision %d: %w", ErrCorrupt, c.Sequence, err)
				}
				d.Sequence = c.Sequence
				c.Decision = &d
				pk, pv = puts.Next()
			} else {
				if c.Sequence, err = parseSequence(dk); err != nil {
					return err
				}
				if len(dv) != len(ulid.ULID{}) {
					return fmt.Errorf("%w: deletion %d: an id of %d bytes", ErrCorrupt, c.Sequence, len(dv))
				}
				c.Deleted = ulid.ULID(dv).String()
				dk, dv = dels.Next()
			}
			if !fn(c) {
				return nil
			}
		}
		return nil
	})
}
