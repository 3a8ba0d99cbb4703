package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/rows"
)

// AddCountersOnce adds to the exact counters in one transaction, unless a set with that id, a ULID, was added within the last days.
func (a *Archive) AddCountersOnce(ctx context.Context, id string, counters []record.Counter) error {
	oldest, err := rows.OldestCounted(id, a.o.Now())
	if err != nil {
		return fmt.Errorf("adding counters: %w", err)
	}
	err = a.write(ctx, func(tx *sql.Tx, db *files) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM counted WHERE id < ?", oldest); err != nil {
			return err
		}
		r, err := tx.ExecContext(ctx, "INSERT INTO counted (id) VALUES (?) ON CONFLICT DO NOTHING", id)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return addCounters(ctx, tx, db, counters)
	})
	if err != nil {
		return fmt.Errorf("adding to %d counters: %w", len(counters), err)
	}
	return nil
}
