package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/rows"
)

const (
	insertEvent = `INSERT INTO events (time, id, request, event, site, client, prefix, action, intended, score, rule, kind, family, harm,
		crawler, identity, status, bytes, duration, agent, method, host, path, query, details)
		VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (time, id) DO NOTHING`
	insertAgent = `INSERT INTO agents (id, last, text) VALUES (?,?,?) ON CONFLICT (id) DO UPDATE SET last = excluded.last WHERE last < excluded.last`
	addCounter  = `INSERT INTO counters (hour, site, action, intended, count) VALUES (?,?,?,?,?)
		ON CONFLICT (hour, site, action, intended) DO UPDATE SET count = count + excluded.count`
)

const minuteMillis = 60 * 1000

// Append stores the events in one transaction. Times are kept to the millisecond. The events are changed: each is
// brought within the limits of [record.Bound].
// Errors wrap ErrCorrupt or ErrFull where they apply.
func (a *Archive) Append(ctx context.Context, events []*defense.Event) (duplicates int, err error) {
	if len(events) == 0 {
		return 0, nil
	}
	err = a.write(ctx, func(tx *sql.Tx, db *files) error {
		insert, agent := tx.Stmt(db.insert), tx.Stmt(db.agent)
		// The driver starts a goroutine for each statement whose context can end; between statements is often enough.
		stmtCtx := context.WithoutCancel(ctx)
		minutes := map[int64]int64{} // by agent: the newest minute stored in this batch
		list := make([]any, 0, 25)
		duplicates = 0
		for _, e := range events {
			if err := ctx.Err(); err != nil {
				return err
			}
			row, err := rows.EncodeEvent(e, a.privacy)
			if err != nil {
				return err
			}
			id, minute := rows.AgentID(row.Agent), rows.Floor(row.Time, minuteMillis)
			if last, ok := minutes[id]; !ok || last < minute {
				if _, err := agent.ExecContext(stmtCtx, id, minute, row.Agent); err != nil {
					return err
				}
				minutes[id] = minute
			}
			list = args(list[:0], &row, id)
			res, err := insert.ExecContext(stmtCtx, list...)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			if err != nil {
				return err
			}
			duplicates += 1 - int(n)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("appending %d events: %w", len(events), err)
	}
	return duplicates, nil
}

// args appends the values of insertEvent.
func args(list []any, r *rows.Event, agent int64) []any {
	return append(list,
		r.Time, idValue(r.ID), idValue(r.RequestID), r.Kind, r.Site, r.Client, r.Prefix,
		r.Action, r.Intended, r.Score, r.Rule, r.Request, r.Family, r.Harm,
		r.Crawler, r.Identity, r.Status, r.Bytes, r.Duration,
		agent, r.Method, r.Host, r.Path, r.Query, r.Details)
}

// AddCounters adds to the exact counters in one transaction.
func (a *Archive) AddCounters(ctx context.Context, counters []record.Counter) error {
	err := a.write(ctx, func(tx *sql.Tx, db *files) error { return addCounters(ctx, tx, db, counters) })
	if err != nil {
		return fmt.Errorf("adding to %d counters: %w", len(counters), err)
	}
	return nil
}

func addCounters(ctx context.Context, tx *sql.Tx, db *files, counters []record.Counter) error {
	add := tx.Stmt(db.addCount)
	for _, c := range counters {
		n := int64(min(c.Count, math.MaxInt64))
		if _, err := add.ExecContext(ctx, rows.FloorHour(c.Hour.UnixMilli()), c.Site, c.Action.String(), c.Intended.String(), n); err != nil {
			return err
		}
	}
	return nil
}

// write runs do in a transaction of the writing connection. A file that turns out to be broken is replaced,
// if the options say so; the error is returned all the same.
func (a *Archive) write(ctx context.Context, do func(*sql.Tx, *files) error) error {
	used, err := a.tryWrite(ctx, do)
	if err != nil {
		return a.replaceIfBroken(ctx, used, explain(err))
	}
	return nil
}

func (a *Archive) tryWrite(ctx context.Context, do func(*sql.Tx, *files) error) (*files, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	db := a.files
	tx, err := db.w.BeginTx(ctx, nil)
	if err != nil {
		return db, err
	}
	defer tx.Rollback() // without effect after a commit
	if err := do(tx, db); err != nil {
		return db, err
	}
	return db, tx.Commit()
}

// idValue stores a ULID in 16 bytes and anything else as it is.
func idValue(s string) any {
	if u, ok := rows.ULID(s); ok {
		return u[:]
	}
	return s
}

// readID undoes idValue.
func readID(v any) string {
	switch v := v.(type) {
	case []byte:
		if len(v) == len(ulid.ULID{}) {
			return ulid.ULID(v).String()
		}
		return string(v)
	case string:
		return v
	}
	return ""
}
