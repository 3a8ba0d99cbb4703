package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/rows"
)

const selectEvents = `SELECT time, events.id, request, event, site, client, prefix, action, intended, score, rule, kind, family,
	crawler, identity, status, bytes, duration, coalesce(agents.text, ''), method, host, path, query, details
	FROM events LEFT JOIN agents ON agents.id = events.agent`

// conditions collects the parts of a WHERE clause.
type conditions struct {
	sql  []string
	args []any
}

func (c *conditions) add(sql string, args ...any) {
	c.sql = append(c.sql, sql)
	c.args = append(c.args, args...)
}

func (c *conditions) where() string {
	if len(c.sql) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.sql, " AND ")
}

// Events returns the events that match, the newest first. Errors about the filter wrap [record.ErrBadFilter].
func (a *Archive) Events(ctx context.Context, f record.Filter) (record.Page, error) {
	page := record.Page{Events: []defense.Event{}}
	limit, err := rows.Limit(f.Limit, record.MaxEvents, record.ErrBadFilter)
	if err != nil {
		return page, err
	}
	c, err := a.conditions(f)
	if err != nil {
		return page, err
	}
	query := selectEvents + c.where() + " ORDER BY time DESC, events.id DESC LIMIT ?"
	// One more than asked for tells whether there is a next page.
	err = a.read(ctx, query, append(c.args, limit+1), func(r *sql.Rows) error {
		if len(page.Events) == limit {
			last := &page.Events[limit-1]
			page.Next = rows.Cursor(last.Time.UnixMilli(), last.ID)
			return nil
		}
		page.Events = append(page.Events, defense.Event{})
		return scanEvent(r, &page.Events[len(page.Events)-1])
	})
	if err != nil {
		return page, fmt.Errorf("reading events: %w", err)
	}
	return page, nil
}

// conditions translates a filter.
func (a *Archive) conditions(f record.Filter) (*conditions, error) {
	c := &conditions{}
	if !f.Since.IsZero() {
		c.add("time >= ?", f.Since.UnixMilli())
	}
	if !f.Until.IsZero() {
		c.add("time < ?", f.Until.UnixMilli())
	}
	if f.ID != "" {
		v := idValue(f.ID)
		c.add("(events.id = ? OR request = ?)", v, v)
		if b, ok := v.([]byte); ok {
			// Requests begin before they get their id (the source of ids may be a second ahead of a
			// clock that was set back), so that the search backwards from there soon finds it.
			c.add("time <= ?", int64(ulid.ULID(b).Time())+1000)
		}
	}
	for _, t := range []struct{ column, value string }{
		{"site", f.Site}, {"event", f.Event}, {"host", f.Host}, {"rule", f.Rule}, {"crawler", f.Crawler},
	} {
		if t.value != "" {
			c.add(t.column+" = ?", t.value)
		}
	}
	if f.Action != nil {
		c.add("action = ?", f.Action.String())
	}
	if f.Intended != nil {
		c.add("intended = ?", f.Intended.String())
	}
	if f.Kind != nil {
		c.add("kind = ?", f.Kind.String())
	}
	if f.Path != "" {
		c.add("instr(path, ?) > 0", f.Path)
	}
	if f.Agent != "" {
		c.add(`agent IN (SELECT id FROM agents WHERE text LIKE ? ESCAPE '\')`, rows.Containing(f.Agent))
	}
	if f.Client.IsValid() {
		if err := a.match(c, f.Client); err != nil {
			return nil, err
		}
	}
	if f.Before != "" {
		ms, id, err := rows.ParseCursor(f.Before, record.ErrBadFilter)
		if err != nil {
			return nil, err
		}
		c.add("(time, events.id) < (?, ?)", ms, idValue(id))
	}
	return c, nil
}

// match adds the condition that an event or a case is of a client within p, in whatever form its address may have been stored.
func (a *Archive) match(c *conditions, p netip.Prefix) error {
	r, err := a.privacy.Range(p)
	if err != nil {
		return fmt.Errorf("%w: client: %w", record.ErrBadFilter, err)
	}
	// The lengths tell an IPv4 address from an IPv6 one that begins with its bytes.
	sql, args := "client BETWEEN ? AND ? AND length(client) = ?", []any{r.Low, r.High, len(r.Low)}
	switch {
	case r.Client != nil:
		sql, args = "("+sql+" OR client = ?)", append(args, r.Client)
	case r.Prefix != nil:
		sql, args = "("+sql+" OR prefix = ?)", append(args, r.Prefix)
	}
	c.add(sql, args...)
	return nil
}

func scanEvent(r *sql.Rows, e *defense.Event) error {
	var row rows.Event
	var id, request any
	err := r.Scan(&row.Time, &id, &request, &row.Kind, &row.Site, &row.Client, &row.Prefix, &row.Action, &row.Intended, &row.Score, &row.Rule,
		&row.Request, &row.Family, &row.Crawler, &row.Identity, &row.Status, &row.Bytes, &row.Duration, &row.Agent,
		&row.Method, &row.Host, &row.Path, &row.Query, &row.Details)
	if err != nil {
		return err
	}
	row.ID, row.RequestID = readID(id), readID(request)
	return row.Decode(e)
}

// read runs a query on a reading connection and calls each for every row.
func (a *Archive) read(ctx context.Context, query string, args []any, each func(*sql.Rows) error) error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	r, err := a.files.r.QueryContext(ctx, query, args...)
	if err != nil {
		return explain(err)
	}
	defer r.Close()
	for r.Next() {
		if err := each(r); err != nil {
			return err
		}
	}
	return explain(r.Err())
}
