package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quickthorn/quickthorn/internal/store/rows"
)

const (
	// chunk is how many rows one transaction removes, so that batches that wait meanwhile hardly notice.
	chunk = 5000
	// dropLockTime bounds how long a partition's end waits for who reads: who wants to read or write waits behind it.
	dropLockTime = 2 * time.Second
)

// Prune removes the oldest events until none is older than maxAge and the tables and indexes together are no larger than
// maxBytes; 0 sets no limit. Whole days are dropped; the day in which the limit of age falls is thinned. When not
// even the latest day fits, its oldest events go and its partition is written anew, during which nobody can append to it. Where
// space is short, cases without label have no more than a quarter of it. Empty tables take about 300 KiB, whatever maxBytes
// says. How many events a dropped day had is counted before, without those that arrive meanwhile.
func (a *Archive) Prune(ctx context.Context, maxAge time.Duration, maxBytes int64, now time.Time) (removed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, upkeepTime)
	defer cancel()
	a.mu.Lock()
	a.horizon = maxHorizon
	if maxAge > 0 {
		a.horizon = min(maxAge, maxHorizon)
	}
	a.mu.Unlock()
	if maxAge > 0 {
		removed, err = a.pruneAge(ctx, now.Add(-maxAge).UnixMilli())
	}
	if err == nil && maxBytes > 0 {
		var n int
		n, err = a.pruneSize(ctx, maxBytes)
		removed += n
	}
	if err == nil {
		err = a.use(ctx, func(c *pgx.Conn) error {
			_, err := c.Exec(ctx, "DELETE FROM counters WHERE hour < $1", stamp(now.Add(-rows.CountersFor).UnixMilli()))
			return err
		})
	}
	if err != nil {
		return removed, fmt.Errorf("pruning archive: %w", err)
	}
	return removed, nil
}

// pruneAge removes the events before a time in Unix milliseconds.
func (a *Archive) pruneAge(ctx context.Context, cutoff int64) (removed int, err error) {
	days, err := a.listDays(ctx)
	if err != nil {
		return 0, err
	}
	thin := []string{rest}
	for _, d := range days {
		switch {
		case (d+1)*dayMillis <= cutoff:
			n, err := a.dropDay(ctx, d)
			removed += n
			if err != nil {
				return removed, err
			}
		case d*dayMillis < cutoff:
			thin = append(thin, dayName(d))
		}
	}
	for _, name := range thin {
		n, err := a.remove(ctx, name, "time < $1", stamp(cutoff))
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, a.use(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "DELETE FROM agents_rest WHERE day < $1", int32(dayOf(cutoff)))
		return err
	})
}

// dropDay drops a day's partitions and returns how many events there were.
func (a *Archive) dropDay(ctx context.Context, day int64) (removed int, err error) {
	name := dayName(day)
	for range 3 {
		err = a.write(ctx, func(tx pgx.Tx) error {
			removed = 0
			if err := lockTables(ctx, tx); err != nil {
				return err
			}
			if there, err := exists(ctx, tx, "events_"+name); err != nil || !there {
				return err
			}
			for _, sql := range []string{"SET LOCAL statement_timeout = " + millis(upkeepTime), "SET LOCAL lock_timeout = " + millis(dropLockTime)} {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
			}
			if err := tx.QueryRow(ctx, "SELECT count(*) FROM events_"+name).Scan(&removed); err != nil {
				return err
			}
			for _, table := range []string{"events_", "agents_"} {
				if _, err := tx.Exec(ctx, "DROP TABLE "+table+name); err != nil {
					return err
				}
			}
			return nil
		})
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != "55P03" { // lock timeout
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("dropping the partition of %s: %w", name, err)
	}
	a.mu.Lock()
	delete(a.days, day)
	a.mu.Unlock()
	return removed, nil
}

// remove deletes the events of one partition that meet the condition, chunk by chunk.
func (a *Archive) remove(ctx context.Context, name, where string, args ...any) (removed int, err error) {
	table := "events_" + name
	for n := chunk; n == chunk; removed += n {
		err = a.write(ctx, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s WHERE ctid = ANY(ARRAY(SELECT ctid FROM %s WHERE %s LIMIT %d))", table, table, where, chunk), args...)
			n = int(tag.RowsAffected())
			return err
		})
		if gone(err) { // somebody else has dropped it
			return removed, nil
		}
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// pruneSize removes the oldest events until all tables together take no more than maxBytes.
func (a *Archive) pruneSize(ctx context.Context, maxBytes int64) (removed int, err error) {
	size, err := a.size(ctx)
	if err != nil || size <= maxBytes {
		return 0, err
	}
	if err := a.trimCases(ctx, maxBytes/4); err != nil {
		return 0, err
	}
	for progress := true; progress; {
		if size, err = a.size(ctx); err != nil || size <= maxBytes {
			return removed, err
		}
		var n int
		n, progress, err = a.shrink(ctx, size, maxBytes)
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// shrink removes the oldest part of the archive and reports whether there was one.
func (a *Archive) shrink(ctx context.Context, size, maxBytes int64) (removed int, progress bool, err error) {
	days, err := a.listDays(ctx)
	if err != nil {
		return 0, false, err
	}
	if len(days) > 0 {
		// What is older than all days lies with the rest.
		if removed, err = a.remove(ctx, rest, "time < $1", stamp(days[0]*dayMillis)); err != nil || removed > 0 {
			if err == nil {
				err = a.rewrite(ctx, rest)
			}
			return removed, true, err
		}
		if len(days) > 1 {
			removed, err = a.dropDay(ctx, days[0])
			return removed, true, err
		}
		if removed, err = a.thin(ctx, dayName(days[0]), size, maxBytes); err != nil || removed > 0 {
			return removed, true, err
		}
	}
	removed, err = a.thin(ctx, rest, size, maxBytes)
	return removed, removed > 0, err
}

// thin removes so many of the oldest events of one partition, and the agents that only they had, that the archive
// ought to take four fifths of maxBytes.
func (a *Archive) thin(ctx context.Context, name string, size, maxBytes int64) (removed int, err error) {
	events, agents := "events_"+name, "agents_"+name
	err = a.write(ctx, func(tx pgx.Tx) error {
		removed = 0
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = "+millis(upkeepTime)); err != nil {
			return err
		}
		// Nobody appends to it meanwhile: see Append for the order of locks.
		if _, err := tx.Exec(ctx, "LOCK TABLE "+events+" IN EXCLUSIVE MODE"); err != nil {
			return err
		}
		var count, bytes int64
		if err := tx.QueryRow(ctx, "SELECT count(*), pg_total_relation_size('"+events+"') + pg_total_relation_size('"+agents+"') FROM "+events).Scan(&count, &bytes); err != nil {
			return err
		}
		if count == 0 {
			return nil
		}
		keep := max(0, maxBytes-(size-bytes)) / 5 * 4
		n := max(1, count-int64(float64(count)*float64(keep)/float64(bytes)))
		tag, err := tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s WHERE (time, id) <= (SELECT time, id FROM %s ORDER BY time, id OFFSET %d LIMIT 1)", events, events, n-1))
		if err != nil {
			return err
		}
		removed = int(tag.RowsAffected())
		_, err = tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s a WHERE NOT EXISTS (SELECT FROM %s e WHERE e.agent = a.id)", agents, events))
		return err
	})
	if err != nil || removed == 0 {
		return 0, err
	}
	return removed, a.rewrite(ctx, name)
}

// rewrite gives the space of what was removed from one partition back to the file system.
func (a *Archive) rewrite(ctx context.Context, name string) error {
	return a.use(ctx, func(c *pgx.Conn) (err error) {
		// It cannot run in a transaction, which would undo the setting.
		if _, err := c.Exec(ctx, "SET statement_timeout = "+millis(upkeepTime)); err != nil {
			return err
		}
		defer func() {
			_, rerr := c.Exec(ctx, "RESET statement_timeout")
			err = errors.Join(err, rerr)
		}()
		for _, table := range []string{"events_", "agents_"} {
			if _, err := c.Exec(ctx, "VACUUM (FULL, ANALYZE) "+table+name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Erase removes the events and cases of the clients in the prefix and takes them out of the samples of campaigns, in whatever form
// their addresses were stored. With truncated addresses that takes their whole /24 or /48 along, for
// they cannot be told apart. It returns how many events there were. The server overwrites what is left of them in its files when it cleans up, which
// is begun at once, and in its log of changes in its own time.
func (a *Archive) Erase(ctx context.Context, client netip.Prefix) (removed int, err error) {
	var c conditions
	if err := a.match(&c, client); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, upkeepTime)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("erasing what is kept of %s: %w", client, err)
		}
	}()
	days, err := a.listDays(ctx)
	if err != nil {
		return 0, err
	}
	names := []string{rest}
	for _, d := range days {
		names = append(names, dayName(d))
	}
	clean := []string{"cases"}
	for _, name := range names {
		n, err := a.remove(ctx, name, c.sql[0], c.args...)
		removed += n
		if err != nil {
			return removed, err
		}
		if n > 0 {
			clean = append(clean, "events_"+name)
		}
	}
	if err := a.eraseCases(ctx, client); err != nil {
		return removed, err
	}
	for _, table := range clean {
		err := a.use(ctx, func(c *pgx.Conn) error {
			_, err := c.Exec(ctx, "VACUUM (SKIP_LOCKED) "+table)
			return err
		})
		if err != nil && !gone(err) {
			return removed, err
		}
	}
	return removed, nil
}
