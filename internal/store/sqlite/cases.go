package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"time"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/rows"
)

// A case that comes back with its key masked already, as it was read, shows less of its client than the row does: what the row has stays.
const putCase = `INSERT INTO cases (id, kind, key, site, last, score, outcome, label, client, prefix, body) VALUES (?,?,?,?,?,?,?,?,?,?,?)
	ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, key = excluded.key, site = excluded.site, last = excluded.last, score = excluded.score,
		outcome = excluded.outcome, label = CASE excluded.label WHEN '' THEN label ELSE excluded.label END, body = excluded.body,
		client = CASE length(excluded.client) WHEN 0 THEN client ELSE excluded.client END,
		prefix = CASE length(excluded.prefix) WHEN 0 THEN prefix ELSE excluded.prefix END`

// PutCases keeps the cases as they are now, all or none. They are not changed. What is written has the addresses in the
// form of the privacy settings, and so have the cases that are read. A case is nevertheless found by its client's address: with
// hashed addresses it then has the key that was asked for; with truncated ones every case of the
// neighbourhood is found, with the neighbourhood as key.
func (a *Archive) PutCases(ctx context.Context, cases []defense.Case) error {
	if len(cases) == 0 {
		return nil
	}
	err := a.write(ctx, func(tx *sql.Tx, db *files) error {
		put := tx.Stmt(db.putCase)
		stmtCtx := context.WithoutCancel(ctx) // see Append
		for i := range cases {
			if err := ctx.Err(); err != nil {
				return err
			}
			r, err := rows.EncodeCase(&cases[i], a.privacy)
			if err != nil {
				return err
			}
			if _, err := put.ExecContext(stmtCtx, r.ID, r.Kind, r.Key, r.Site, r.LastSeen, r.Score, r.Outcome, r.Label, r.Client, r.Prefix, r.Body); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keeping %d cases: %w", len(cases), err)
	}
	return nil
}

// Case returns one case; the error wraps [casebook.ErrNoCase] when there is none.
func (a *Archive) Case(ctx context.Context, id string) (defense.Case, error) {
	var c defense.Case
	found := false
	err := a.read(ctx, "SELECT body, label FROM cases WHERE id = ?", []any{id}, func(r *sql.Rows) error {
		var body, label string
		if err := r.Scan(&body, &label); err != nil {
			return err
		}
		found = true
		var err error
		c, err = rows.DecodeCase(body, label)
		return err
	})
	switch {
	case err != nil:
		return c, fmt.Errorf("reading case %.80q: %w", id, err)
	case !found:
		return c, rows.NoCase(id)
	}
	return c, nil
}

// Cases returns the cases that match, the latest seen first. Errors about the filter wrap [record.ErrBadFilter].
func (a *Archive) Cases(ctx context.Context, f casebook.Filter) (casebook.Page, error) {
	p, err := rows.NewCases(f)
	if err != nil {
		return casebook.Page{}, err
	}
	var c conditions
	for _, t := range []struct{ column, value string }{
		{"kind", string(f.Kind)}, {"site", f.Site}, {"outcome", string(f.Outcome)}, {"label", string(f.Label)},
	} {
		if t.value != "" {
			c.add(t.column+" = ?", t.value)
		}
	}
	if f.Key != "" {
		c.add("key IN (?, ?)", f.Key, a.privacy.Subject(f.Key)) // the former from before the addresses were masked
	}
	if f.Labelled {
		c.add("label <> ''")
	}
	if !f.Since.IsZero() {
		c.add("last >= ?", f.Since.UnixMilli())
	}
	if !f.Until.IsZero() {
		c.add("last < ?", f.Until.UnixMilli())
	}
	if f.MinScore > 0 {
		c.add("score >= ?", f.MinScore)
	}
	if f.Before != "" {
		ms, id, err := rows.ParseCursor(f.Before, record.ErrBadFilter)
		if err != nil {
			return casebook.Page{}, err
		}
		c.add("(last, id) < (?, ?)", ms, id)
	}
	query := "SELECT last, body, label FROM cases" + c.where() + " ORDER BY last DESC, id DESC LIMIT ?"
	err = a.read(ctx, query, append(c.args, p.Limit+1), func(r *sql.Rows) error {
		var last int64
		var body, label string
		if err := r.Scan(&last, &body, &label); err != nil {
			return err
		}
		return p.Add(last, body, label, a.privacy)
	})
	if err != nil {
		return casebook.Page{}, fmt.Errorf("reading cases: %w", err)
	}
	return p.Page, nil
}

// LabelCase keeps what a person says that the case was; the error wraps [casebook.ErrNoCase] when there is none.
func (a *Archive) LabelCase(ctx context.Context, id string, label defense.CaseLabel) error {
	if err := rows.CheckLabel(label); err != nil {
		return err
	}
	var n int64
	err := a.write(ctx, func(tx *sql.Tx, _ *files) error {
		res, err := tx.ExecContext(ctx, "UPDATE cases SET label = ? WHERE id = ?", string(label), id)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("labelling case %.80q: %w", id, err)
	case n == 0:
		return rows.NoCase(id)
	}
	return nil
}

// PruneCases removes cases without label last seen before t and returns how many.
func (a *Archive) PruneCases(ctx context.Context, t time.Time) (removed int, err error) {
	for n := chunk; n == chunk; removed += n {
		if n, _, err = a.removeCases(ctx, "label = '' AND last < ?", chunk, t.UnixMilli()); err != nil {
			return removed, fmt.Errorf("pruning cases: %w", err)
		}
	}
	return removed, nil
}

// removeCases deletes the oldest cases that meet the condition and returns how many there were and how long their bodies were.
func (a *Archive) removeCases(ctx context.Context, where string, limit int, args ...any) (n int, bytes int64, err error) {
	err = a.write(ctx, func(tx *sql.Tx, _ *files) error {
		n, bytes = 0, 0
		r, err := tx.QueryContext(ctx, "DELETE FROM cases WHERE id IN (SELECT id FROM cases WHERE "+where+" ORDER BY last, id LIMIT ?) RETURNING octet_length(body)",
			append(args[:len(args):len(args)], limit)...)
		if err != nil {
			return err
		}
		defer r.Close()
		for r.Next() {
			var size int64
			if err := r.Scan(&size); err != nil {
				return err
			}
			n++
			bytes += size
		}
		return r.Err()
	})
	if err != nil {
		return 0, 0, err
	}
	return n, bytes, nil
}

// trimCases removes the oldest cases without label until the cases take no more than limit bytes.
func (a *Archive) trimCases(ctx context.Context, limit int64) error {
	var used int64
	err := a.read(ctx, "SELECT coalesce(sum(octet_length(body)), 0) FROM cases", nil, func(r *sql.Rows) error { return r.Scan(&used) })
	for err == nil && used > limit {
		var n int
		var size int64
		n, size, err = a.removeCases(ctx, "label = ''", 50)
		if used -= size; n == 0 {
			break
		}
	}
	return err
}

// eraseCases removes the cases of the clients within p and takes p's clients out of the samples of others.
func (a *Archive) eraseCases(ctx context.Context, p netip.Prefix) error {
	var c conditions
	if err := a.match(&c, rows.ErasedRange(p)); err != nil {
		return err
	}
	where := "length(client) > 0 AND " + c.sql[0]
	for n, err := chunk, error(nil); n == chunk; {
		if n, _, err = a.removeCases(ctx, where, chunk, c.args...); err != nil {
			return err
		}
	}
	match, err := a.privacy.Matcher(p)
	if err != nil {
		return err
	}
	const page = 200
	for after, n := "", page; n == page; {
		err := a.write(ctx, func(tx *sql.Tx, _ *files) error {
			type row struct{ id, body string }
			var changed []row
			n = 0
			r, err := tx.QueryContext(ctx, "SELECT id, body FROM cases WHERE id > ? ORDER BY id LIMIT ?", after, page)
			if err != nil {
				return err
			}
			defer r.Close()
			for ; r.Next(); n++ {
				var id, body string
				if err := r.Scan(&id, &body); err != nil {
					return err
				}
				body, has, err := rows.WithoutMembers(body, match)
				if err != nil {
					return err
				}
				if after = id; has {
					changed = append(changed, row{id, body})
				}
			}
			if err := r.Err(); err != nil {
				return err
			}
			for _, r := range changed {
				if _, err := tx.ExecContext(ctx, "UPDATE cases SET body = ? WHERE id = ?", r.body, r.id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
