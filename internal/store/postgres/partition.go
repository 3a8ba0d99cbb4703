package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/quickthorn/quickthorn/internal/store/rows"
)

const (
	dayMillis = 24 * 60 * 60 * 1000
	// maxHorizon bounds how many partitions hostile times can lead to.
	maxHorizon = 400 * 24 * time.Hour
	dayFormat  = "20060102"
	rest       = "rest" // the name of the partition for all other days
)

// The times that PostgreSQL, Go and JSON can all hold.
var (
	earliest = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	latest   = time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli()
)

func stamp(ms int64) time.Time { return time.UnixMilli(min(max(ms, earliest), latest)).UTC() }

// dayOf returns the day, since 1970, of a time in Unix milliseconds.
func dayOf(ms int64) int64 { return rows.Floor(min(max(ms, earliest), latest), dayMillis) }

// dayName is the end of the names of a day's partitions.
func dayName(day int64) string { return stamp(day * dayMillis).Format(dayFormat) }

// makeDays sees to it that days that are neither too old nor in the future have partitions of their own. Events
// of other days lie with the rest, from where they are moved should their day become one of ours.
func (a *Archive) makeDays(ctx context.Context, days []int64) error {
	now := a.o.Now()
	a.mu.Lock()
	oldest := dayOf(now.Add(-a.horizon).UnixMilli())
	newest := dayOf(now.Add(24 * time.Hour).UnixMilli())
	days = slices.DeleteFunc(slices.Clone(days), func(d int64) bool { return d < oldest || d > newest || a.days[d] })
	a.mu.Unlock()
	for _, d := range days {
		if err := a.write(ctx, func(tx pgx.Tx) error { return makeDay(ctx, tx, d) }); err != nil {
			return fmt.Errorf("making the partition of %s: %w", dayName(d), err)
		}
		a.mu.Lock()
		if len(a.days) > 1000 { // days that have passed; those in use come back
			clear(a.days)
		}
		a.days[d] = true
		a.mu.Unlock()
	}
	return nil
}

// makeDay makes the day's partitions if somebody else has not, with what of that day lies with the rest.
func makeDay(ctx context.Context, tx pgx.Tx, day int64) error {
	if err := lockTables(ctx, tx); err != nil {
		return err
	}
	name := dayName(day)
	if there, err := exists(ctx, tx, "events_"+name); err != nil || there {
		return err
	}
	const format = time.RFC3339
	from, to := stamp(day*dayMillis), stamp((day+1)*dayMillis)
	for _, sql := range []string{
		// Everybody takes locks on events before those on agents.
		"LOCK TABLE events_rest, agents_rest IN ACCESS EXCLUSIVE MODE",
		fmt.Sprintf("CREATE TABLE events_%s (LIKE events)", name),
		fmt.Sprintf("CREATE TABLE agents_%s (LIKE agents)", name),
		fmt.Sprintf("WITH moved AS (DELETE FROM events_rest WHERE time >= '%s' AND time < '%s' RETURNING *) INSERT INTO events_%s SELECT * FROM moved", from.Format(format), to.Format(format), name),
		fmt.Sprintf("WITH moved AS (DELETE FROM agents_rest WHERE day = %d RETURNING *) INSERT INTO agents_%s SELECT * FROM moved", day, name),
		fmt.Sprintf("ALTER TABLE events ATTACH PARTITION events_%s FOR VALUES FROM ('%s') TO ('%s')", name, from.Format(format), to.Format(format)),
		fmt.Sprintf("ALTER TABLE agents ATTACH PARTITION agents_%s FOR VALUES FROM (%d) TO (%d)", name, day, day+1),
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// listDays returns the days that have partitions, the oldest first.
func (a *Archive) listDays(ctx context.Context) (days []int64, err error) {
	err = a.use(ctx, func(c *pgx.Conn) error {
		days = days[:0]
		r, err := c.Query(ctx, "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass", Schema+".events")
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(r, pgx.RowTo[string])
		for _, name := range names {
			// Partitions with other names are an administrator's.
			if t, err := time.Parse(dayFormat, strings.TrimPrefix(name, "events_")); err == nil {
				days = append(days, dayOf(t.UnixMilli()))
			}
		}
		slices.Sort(days)
		return err
	})
	return days, err
}
