package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/rows"
)

// A case that comes back with its key masked already, as it was read, shows less of its client than the row does: what the row has stays.
const putCases = `INSERT INTO cases (id, kind, key, site, last, score, outcome, label, client, prefix, body)
	SELECT id, kind, key, site, last, score, outcome, label, client, prefix, body::jsonb
	FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::float8[], $7::text[], $8::text[], $9::bytea[], $10::bytea[], $11::text[])
		AS new (id, kind, key, site, last, score, outcome, label, client, prefix, body)
	ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, key = excluded.key, site = excluded.site, last = excluded.last, score = excluded.score,
		outcome = excluded.outcome, label = CASE excluded.label WHEN '' THEN cases.label ELSE excluded.label END, body = excluded.body,
		client = CASE octet_length(excluded.client) WHEN 0 THEN cases.client ELSE excluded.client END,
		prefix = CASE octet_length(excluded.prefix) WHEN 0 THEN cases.prefix ELSE excluded.prefix END`

// PutCases keeps the cases as they are now, all or none. They are not changed. What is written has the addresses in the
// form of the privacy settings, and so have the cases that are read. A case is nevertheless found by its client's address: with
// hashed addresses it then has the key that was asked for; with truncated ones every case of the
// neighbourhood is found, with the neighbourhood as key.
func (a *Archive) PutCases(ctx context.Context, cases []defense.Case) error {
	if len(cases) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var list []rows.Case
	at := map[string]int{} // the last of several with one id counts
	for i := range cases {
		r, err := rows.EncodeCase(&cases[i], a.privacy)
		if err != nil {
			return fmt.Errorf("keeping %d cases: %w", len(cases), err)
		}
		if j, again := at[r.ID]; again {
			if r.Label == "" {
				r.Label = list[j].Label
			}
			list[j] = r
			continue
		}
		at[r.ID] = len(list)
		list = append(list, r)
	}
	// In one order, so that programs that write the same cases at once wait for each other, instead of both for both.
	slices.SortFunc(list, func(x, y rows.Case) int { return cmp.Compare(x.ID, y.ID) })
	var (
		ids, kinds, keys, sites, outcomes, labels, bodies []string
		lasts                                             []time.Time
		scores                                            []float64
		clients, prefixes                                 [][]byte
	)
	for i := range list {
		r := &list[i]
		ids, kinds, keys, sites = append(ids, r.ID), append(kinds, r.Kind), append(keys, r.Key), append(sites, r.Site)
		lasts, scores, outcomes = append(lasts, stamp(r.LastSeen)), append(scores, r.Score), append(outcomes, r.Outcome)
		labels, clients, prefixes, bodies = append(labels, r.Label), append(clients, r.Client), append(prefixes, r.Prefix), append(bodies, r.Body)
	}
	err := a.write(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, putCases, ids, kinds, keys, sites, lasts, scores, outcomes, labels, clients, prefixes, bodies)
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping %d cases: %w", len(cases), err)
	}
	return nil
}

// Case returns one case; the error wraps [casebook.ErrNoCase] when there is none.
func (a *Archive) Case(ctx context.Context, id string) (c defense.Case, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var body, label string
	err = a.use(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT body::text, label FROM cases WHERE id = $1", rows.Text(id)).Scan(&body, &label)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return c, rows.NoCase(id)
	}
	if err == nil {
		c, err = rows.DecodeCase(body, label)
	}
	if err != nil {
		return c, fmt.Errorf("reading case %.80q: %w", id, err)
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
			c.add(t.column+" = ?", rows.Text(t.value))
		}
	}
	if f.Key != "" {
		c.add("key IN (?, ?)", rows.Text(f.Key), rows.Text(a.privacy.Subject(f.Key))) // the former from before the addresses were masked
	}
	if f.Labelled {
		c.add("label <> ''")
	}
	if !f.Since.IsZero() {
		c.add("last >= ?", stamp(f.Since.UnixMilli()))
	}
	if !f.Until.IsZero() {
		c.add("last < ?", stamp(f.Until.UnixMilli()))
	}
	if f.MinScore > 0 {
		c.add("score >= ?", f.MinScore)
	}
	if f.Before != "" {
		ms, id, err := rows.ParseCursor(f.Before, record.ErrBadFilter)
		if err != nil {
			return casebook.Page{}, err
		}
		c.add("(last, id) < (?, ?)", stamp(ms), rows.Text(id))
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err = a.use(ctx, func(conn *pgx.Conn) error {
		r, err := conn.Query(ctx, "SELECT last, body::text, label FROM cases"+c.where()+" ORDER BY last DESC, id DESC LIMIT "+strconv.Itoa(p.Limit+1), c.args...)
		if err != nil {
			return err
		}
		var last time.Time
		var body, label string
		_, err = pgx.ForEachRow(r, []any{&last, &body, &label}, func() error { return p.Add(last.UnixMilli(), body, label, a.privacy) })
		return err
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
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var n int64
	err := a.use(ctx, func(c *pgx.Conn) error {
		tag, err := c.Exec(ctx, "UPDATE cases SET label = $1 WHERE id = $2", string(label), rows.Text(id))
		n = tag.RowsAffected()
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
	ctx, cancel := context.WithTimeout(ctx, upkeepTime)
	defer cancel()
	for n := chunk; n == chunk; removed += n {
		if n, _, err = a.removeCases(ctx, "label = '' AND last < $1", chunk, stamp(t.UnixMilli())); err != nil {
			return removed, fmt.Errorf("pruning cases: %w", err)
		}
	}
	return removed, nil
}

// removeCases deletes the oldest cases that meet the condition and returns how many there were and how much space their bodies took.
func (a *Archive) removeCases(ctx context.Context, where string, limit int, args ...any) (n int, bytes int64, err error) {
	err = a.write(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, "WITH gone AS (DELETE FROM cases WHERE id IN (SELECT id FROM cases WHERE "+where+" ORDER BY last, id LIMIT "+strconv.Itoa(limit)+
			") RETURNING pg_column_size(body) AS size) SELECT count(*), coalesce(sum(size), 0)::bigint FROM gone", args...).Scan(&n, &bytes)
	})
	if err != nil {
		return 0, 0, err
	}
	return n, bytes, nil
}

// trimCases removes the oldest cases without label until the cases take no more than limit bytes.
func (a *Archive) trimCases(ctx context.Context, limit int64) error {
	var used int64
	err := a.use(ctx, func(c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT coalesce(sum(pg_column_size(body)), 0)::bigint FROM cases").Scan(&used)
	})
	trimmed := false
	for err == nil && used > limit {
		var n int
		var size int64
		n, size, err = a.removeCases(ctx, "label = ''", 500)
		if used -= size; n == 0 {
			break
		}
		trimmed = true
	}
	if err != nil || !trimmed {
		return err
	}
	return a.use(ctx, func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "VACUUM (FULL, ANALYZE) cases")
		return err
	})
}

// eraseCases removes the cases of the clients within p and takes p's clients out of the samples of others.
func (a *Archive) eraseCases(ctx context.Context, p netip.Prefix) error {
	var c conditions
	if err := a.match(&c, rows.ErasedRange(p)); err != nil {
		return err
	}
	for n, err := chunk, error(nil); n == chunk; {
		if n, _, err = a.removeCases(ctx, "octet_length(client) > 0 AND "+c.sql[0], chunk, c.args...); err != nil {
			return err
		}
	}
	match, err := a.privacy.Matcher(p)
	if err != nil {
		return err
	}
	const page = 200
	for after, n := "", page; n == page; {
		first := after
		err := a.write(ctx, func(tx pgx.Tx) error {
			r, err := tx.Query(ctx, "SELECT id, body::text FROM cases WHERE id > $1 ORDER BY id LIMIT "+strconv.Itoa(page)+" FOR UPDATE", first)
			if err != nil {
				return err
			}
			var id, body string
			changes := &pgx.Batch{}
			n = 0
			_, err = pgx.ForEachRow(r, []any{&id, &body}, func() error {
				n++
				after = id
				without, has, err := rows.WithoutMembers(body, match)
				if has && err == nil {
					changes.Queue("UPDATE cases SET body = $1::text::jsonb WHERE id = $2", without, id)
				}
				return err
			})
			if err != nil || changes.Len() == 0 {
				return err
			}
			return tx.SendBatch(ctx, changes).Close()
		})
		if err != nil {
			return err
		}
	}
	return nil
}
