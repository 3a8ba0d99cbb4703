package postgres

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/rows"
)

const selectEvents = `SELECT time, id, request, event, site, client, prefix, action, intended, score, rule, kind, family,
	crawler, identity, status, bytes, duration, agent, method, host, path, query, details FROM events`

// conditions collects the parts of a WHERE clause.
type conditions struct {
	sql  []string
	args []any
}

// add adds a condition, in which each ? stands for the next of args.
func (c *conditions) add(sql string, args ...any) {
	var b strings.Builder
	for _, arg := range args {
		before, after, _ := strings.Cut(sql, "?")
		b.WriteString(before + c.arg(arg))
		sql = after
	}
	c.sql = append(c.sql, b.String()+sql)
}

// arg adds an argument and returns its name.
func (c *conditions) arg(v any) string {
	c.args = append(c.args, v)
	return "$" + strconv.Itoa(len(c.args))
}

func (c *conditions) where() string {
	if len(c.sql) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.sql, " AND ")
}

// How far back the first searches for a page go. They most often fill a page from one or two partitions, where a
// search through all would have to find the first hit in each of them; and an event is found by its id
// among those of its minute, where there is no index for more.
const (
	near   = 24 * time.Hour
	nearID = time.Minute
)

// Events returns the events that match, the newest first. Errors about the filter wrap [record.ErrBadFilter].
func (a *Archive) Events(ctx context.Context, f record.Filter) (record.Page, error) {
	page := record.Page{Events: []defense.Event{}}
	limit, err := rows.Limit(f.Limit, record.MaxEvents, record.ErrBadFilter)
	if err != nil {
		return page, err
	}
	c, newest, err := a.conditions(f)
	if err != nil {
		return page, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	// One more than asked for tells whether there is a next page.
	enough, steps := limit+1, []time.Duration{near}
	if _, ok := rows.ULID(f.ID); ok {
		enough, steps = 1, []time.Duration{nearID, near} // the events of one request do not lie far apart
	}
	var list []rows.Event
	for _, back := range steps {
		since := newest.Add(-back)
		if len(list) >= enough || !f.Since.Before(since) {
			break
		}
		n := &conditions{slices.Clone(c.sql), slices.Clone(c.args)}
		n.add("time >= ?", since)
		if list, err = a.search(ctx, n, limit+1); err != nil {
			return page, fmt.Errorf("reading events: %w", err)
		}
	}
	if len(list) < enough {
		if list, err = a.search(ctx, c, limit+1); err != nil {
			return page, fmt.Errorf("reading events: %w", err)
		}
	}
	if len(list) > limit {
		list = list[:limit]
		page.Next = rows.Cursor(list[limit-1].Time, list[limit-1].ID)
	}
	page.Events = make([]defense.Event, len(list))
	for i := range list {
		if err := list[i].Decode(&page.Events[i]); err != nil {
			return page, fmt.Errorf("reading events: %w", err)
		}
	}
	return page, nil
}

// search returns the newest events that meet the conditions.
func (a *Archive) search(ctx context.Context, c *conditions, limit int) (list []rows.Event, err error) {
	err = a.use(ctx, func(conn *pgx.Conn) error {
		r, err := conn.Query(ctx, selectEvents+c.where()+" ORDER BY time DESC, id DESC LIMIT "+strconv.Itoa(limit), c.args...)
		if err != nil {
			return err
		}
		list, err = collectEvents(ctx, conn, r)
		return err
	})
	return list, err
}

// forEvents reads rows of selectEvents and calls each with an event without the text of its agent, and with the agent's id.
func forEvents(r pgx.Rows, each func(e rows.Event, agent int64)) error {
	var e rows.Event
	var t time.Time
	var agent int64
	_, err := pgx.ForEachRow(r, []any{&t, &e.ID, &e.RequestID, &e.Kind, &e.Site, &e.Client, &e.Prefix, &e.Action, &e.Intended, &e.Score, &e.Rule,
		&e.Request, &e.Family, &e.Crawler, &e.Identity, &e.Status, &e.Bytes, &e.Duration, &agent,
		&e.Method, &e.Host, &e.Path, &e.Query, &e.Details}, func() error {
		e.Time = t.UnixMilli()
		each(e, agent)
		return nil
	})
	return err
}

// collectEvents reads rows of selectEvents and looks up the texts of their agents.
func collectEvents(ctx context.Context, conn *pgx.Conn, r pgx.Rows) (list []rows.Event, err error) {
	var agents []int64
	var days []int32
	err = forEvents(r, func(e rows.Event, agent int64) {
		list, agents = append(list, e), append(agents, agent)
		if day := int32(dayOf(e.Time)); len(days) == 0 || days[len(days)-1] != day { // they come in the order of time
			days = append(days, day)
		}
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	type key struct {
		day int32
		id  int64
	}
	texts := map[key]string{}
	// It may answer with more pairs than were asked for, but can tell by constants which partitions have them.
	r, err = conn.Query(ctx, "SELECT day, id, text FROM agents WHERE day = ANY($1::int4[]) AND id = ANY($2::int8[])", days, agents)
	if err != nil {
		return nil, err
	}
	var k key
	var text string
	_, err = pgx.ForEachRow(r, []any{&k.day, &k.id, &text}, func() error {
		texts[k] = text
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Agent = texts[key{int32(dayOf(list[i].Time)), agents[i]}]
	}
	return list, nil
}

// conditions translates a filter. No event is newer than newest, but for those whose time is in the future.
func (a *Archive) conditions(f record.Filter) (c *conditions, newest time.Time, err error) {
	c, newest = &conditions{}, a.o.Now()
	until := func(t time.Time) {
		if t.Before(newest) {
			newest = t
		}
	}
	if !f.Since.IsZero() {
		c.add("time >= ?", stamp(f.Since.UnixMilli()))
	}
	if !f.Until.IsZero() {
		t := stamp(f.Until.UnixMilli())
		c.add("time < ?", t)
		until(t)
	}
	if f.ID != "" {
		id := rows.Text(f.ID)
		c.add("(id = ? OR request = ?)", id, id)
		if u, ok := rows.ULID(id); ok {
			// Requests begin before they get their id (the source of ids may be a second ahead of a
			// clock that was set back), so that the search backwards from there soon finds it.
			t := stamp(int64(min(u.Time(), uint64(latest))) + 1000)
			c.add("time <= ?", t)
			until(t)
		}
	}
	for _, t := range []struct{ column, value string }{
		{"site", f.Site}, {"event", f.Event}, {"host", f.Host}, {"rule", f.Rule}, {"crawler", f.Crawler},
	} {
		if t.value != "" {
			c.add(t.column+" = ?", rows.Text(t.value))
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
		c.add("strpos(path, ?) > 0", rows.Text(f.Path))
	}
	if f.Client.IsValid() {
		if err := a.match(c, f.Client); err != nil {
			return nil, newest, err
		}
	}
	if f.Before != "" {
		ms, id, err := rows.ParseCursor(f.Before, record.ErrBadFilter)
		if err != nil {
			return nil, newest, err
		}
		t := stamp(ms)
		c.add("(time, id) < (?, ?)", t, rows.Text(id))
		c.add("time <= ?", t) // which tells partitions apart
		until(t)
	}
	if f.Agent != "" {
		// In C, lower is about ASCII letters only.
		sub := "SELECT id FROM agents WHERE lower(text) LIKE lower(?)"
		args := []any{rows.Containing(rows.Text(f.Agent))}
		if !f.Since.IsZero() {
			sub, args = sub+" AND day >= ?", append(args, int32(dayOf(f.Since.UnixMilli())))
		}
		if !f.Until.IsZero() {
			sub, args = sub+" AND day <= ?", append(args, int32(dayOf(f.Until.UnixMilli())))
		}
		c.add("agent IN ("+sub+")", args...)
	}
	return c, newest, nil
}

// match adds the condition that an event or a case is of a client within p, in whatever form its address may have been stored.
func (a *Archive) match(c *conditions, p netip.Prefix) error {
	r, err := a.privacy.Range(p)
	if err != nil {
		return fmt.Errorf("%w: client: %w", record.ErrBadFilter, err)
	}
	// The lengths tell an IPv4 address from an IPv6 one that begins with its bytes.
	sql, args := "client BETWEEN ? AND ? AND octet_length(client) = ?", []any{r.Low, r.High, len(r.Low)}
	switch {
	case r.Client != nil:
		sql, args = "("+sql+" OR client = ?)", append(args, r.Client)
	case r.Prefix != nil:
		sql, args = "("+sql+" OR prefix = ?)", append(args, r.Prefix)
	}
	c.add(sql, args...)
	return nil
}
