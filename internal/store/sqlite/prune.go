package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"time"

	"github.com/quickthorn/quickthorn/internal/store/rows"
)

const (
	// chunk is how many events one transaction removes: few enough that a batch that waits meanwhile hardly notices.
	chunk = 1000
	// step is how many events are removed before the size is measured again: few enough that a small archive keeps most of what fits.
	step = 200
	// vacuumPages is how many free pages one step gives back to the file system.
	vacuumPages = 500
)

// Prune removes the oldest events until none is older than maxAge and file and
// WAL together are no larger than maxBytes; 0 sets no limit. It returns free space to the file system. It works in small
// transactions, between which batches are written. Where space is short, cases without label have no more than a quarter of it. An empty archive takes about 100 KiB, whatever maxBytes says.
func (a *Archive) Prune(ctx context.Context, maxAge time.Duration, maxBytes int64, now time.Time) (removed int, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("pruning archive: %w", err)
		}
	}()
	if maxAge > 0 {
		n, err := a.remove(ctx, "SELECT seq FROM events WHERE time < ? ORDER BY time LIMIT ?", now.Add(-maxAge).UnixMilli())
		removed += n
		if err != nil {
			return removed, err
		}
	}
	for trimmed := false; maxBytes > 0; {
		used, err := a.used(ctx)
		if err != nil {
			return removed, err
		}
		if used <= maxBytes {
			break
		}
		if !trimmed {
			trimmed = true
			if err := a.trimCases(ctx, maxBytes/4); err != nil {
				return removed, err
			}
		}
		n, err := a.removeOnce(ctx, step, "SELECT seq FROM events ORDER BY time LIMIT ?")
		removed += n
		if err != nil {
			return removed, err
		}
		// The texts of agents take space too, most of it when a client sends a new one each time.
		if err := a.tidy(ctx, now); err != nil {
			return removed, err
		}
		if n < step { // none is left
			break
		}
	}
	if err := a.tidy(ctx, now); err != nil {
		return removed, err
	}
	return removed, a.shrink(ctx)
}

// Erase removes the events and cases of the clients in the prefix and takes them out of the samples of campaigns, in whatever form their addresses were stored, and
// overwrites what is left of them in the file. With truncated addresses that takes their whole /24 or /48 along, for
// they cannot be told apart. It returns how many events there were.
func (a *Archive) Erase(ctx context.Context, client netip.Prefix) (removed int, err error) {
	var c conditions
	if err := a.match(&c, client); err != nil {
		return 0, err
	}
	if removed, err = a.remove(ctx, "SELECT seq FROM events"+c.where()+" LIMIT ?", c.args...); err == nil {
		err = a.eraseCases(ctx, client)
	}
	if err == nil {
		err = a.shrink(ctx)
	}
	if err != nil {
		return removed, fmt.Errorf("erasing what is kept of %s: %w", client, err)
	}
	return removed, nil
}

// remove deletes the events that the query selects by its last argument, chunk by chunk.
func (a *Archive) remove(ctx context.Context, query string, args ...any) (removed int, err error) {
	for {
		n, err := a.removeOnce(ctx, chunk, query, args...)
		removed += n
		if err != nil || n < chunk {
			return removed, err
		}
	}
}

func (a *Archive) removeOnce(ctx context.Context, limit int, query string, args ...any) (removed int, err error) {
	err = a.write(ctx, func(tx *sql.Tx, _ *files) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM events WHERE seq IN ("+query+")", append(args[:len(args):len(args)], limit)...)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		removed = int(n)
		return err
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// used returns how many bytes the pages in use take.
func (a *Archive) used(ctx context.Context) (int64, error) {
	var used int64
	err := a.read(ctx, "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size", nil,
		func(rows *sql.Rows) error { return rows.Scan(&used) })
	return used, err
}

// tidy removes the texts of agents that no event refers to and counters that are too old.
func (a *Archive) tidy(ctx context.Context, now time.Time) error {
	return a.write(ctx, func(tx *sql.Tx, _ *files) error {
		var oldest sql.NullInt64
		if err := tx.QueryRowContext(ctx, "SELECT min(time) FROM events").Scan(&oldest); err != nil {
			return err
		}
		unused, args := "1", []any{}
		if oldest.Valid {
			unused, args = "last < ?", []any{rows.Floor(oldest.Int64, minuteMillis)}
		}
		// What is left over is for the next time; the transaction stays short.
		if _, err := tx.ExecContext(ctx, "DELETE FROM agents WHERE id IN (SELECT id FROM agents WHERE "+unused+" LIMIT 10000)", args...); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM counters WHERE hour < ?", rows.FloorHour(now.Add(-rows.CountersFor).UnixMilli()))
		return err
	})
}

// shrink gives free pages back to the file system and empties the WAL.
func (a *Archive) shrink(ctx context.Context) error {
	for {
		n, err := a.free(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := a.pragma(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumPages)); err != nil {
			return err
		}
		after, err := a.free(ctx)
		if err != nil {
			return err
		}
		if after >= n { // a file without auto_vacuum, or deletions went faster
			break
		}
	}
	return a.pragma(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
}

func (a *Archive) free(ctx context.Context) (n int, err error) {
	err = a.read(ctx, "PRAGMA freelist_count", nil, func(rows *sql.Rows) error { return rows.Scan(&n) })
	return n, err
}

// pragma runs a pragma on the writing connection and reads its answer to the end,
// without which some stop half way.
func (a *Archive) pragma(ctx context.Context, sql string) error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	rows, err := a.files.w.QueryContext(ctx, sql)
	if err != nil {
		return explain(err)
	}
	defer rows.Close()
	for rows.Next() {
	}
	return explain(rows.Err())
}
