package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

const defaultLimit = 100

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
	limit := f.Limit
	switch {
	case limit == 0:
		limit = defaultLimit
	case limit < 0 || limit > record.MaxEvents:
		return page, fmt.Errorf("%w: limit %d is not between 1 and %d", record.ErrBadFilter, limit, record.MaxEvents)
	}
	c, err := a.conditions(f)
	if err != nil {
		return page, err
	}
	query := selectEvents + c.where() + " ORDER BY time DESC, events.id DESC LIMIT ?"
	// One more than asked for tells whether there is a next page.
	err = a.read(ctx, query, append(c.args, limit+1), func(rows *sql.Rows) error {
		if len(page.Events) == limit {
			last := &page.Events[limit-1]
			page.Next = strconv.FormatInt(last.Time.UnixMilli(), 10) + "." + last.ID
			return nil
		}
		page.Events = append(page.Events, defense.Event{})
		return scanEvent(rows, &page.Events[len(page.Events)-1])
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
		c.add(`agent IN (SELECT id FROM agents WHERE text LIKE ? ESCAPE '\')`, "%"+likeEscaper.Replace(f.Agent)+"%")
	}
	if f.Client.IsValid() {
		if err := a.privacy.match(c, f.Client); err != nil {
			return nil, err
		}
	}
	if f.Before != "" {
		ms, id, ok := strings.Cut(f.Before, ".")
		n, err := strconv.ParseInt(ms, 10, 64)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: before: %q is not from the page before", record.ErrBadFilter, f.Before)
		}
		c.add("(time, events.id) < (?, ?)", n, idValue(id))
	}
	return c, nil
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// match adds the condition that an event is of a client within p, in whatever form its address may have been stored.
func (m *masker) match(c *conditions, p netip.Prefix) error {
	if m.Addresses == Truncated {
		// All that is known of a truncated address is its neighbourhood.
		if wide := defense.NewClient(p.Addr()).Prefix; p.Bits() > wide.Bits() {
			p = wide
		}
	}
	low, high := p.Masked().Addr().AsSlice(), lastAddr(p).AsSlice()
	// The lengths tell an IPv4 address from an IPv6 one that begins with its bytes.
	sql, args := "client BETWEEN ? AND ? AND length(client) = ?", []any{low, high, len(low)}
	if m.Addresses == Hashed {
		client := defense.NewClient(p.Addr())
		// An IPv6 address is hashed by its /64, so that it matches whoever shares that.
		switch {
		case p.Bits() >= client.Counted.Bits():
			sql, args = "("+sql+" OR client = ?)", append(args, m.hash(client.Counted))
		case p == client.Prefix:
			sql, args = "("+sql+" OR prefix = ?)", append(args, m.hash(p))
		default:
			return fmt.Errorf("%w: client: addresses are stored hashed, which allows to look for one address, one /24 or one /48, not for %s", record.ErrBadFilter, p)
		}
	}
	c.add(sql, args...)
	return nil
}

// lastAddr returns the last address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func scanEvent(rows *sql.Rows, e *defense.Event) error {
	var (
		ms, duration                           int64
		id, request                            any
		client, prefix                         []byte
		action, intended, kind, family, status string
		text                                   []byte
		d                                      details
	)
	err := rows.Scan(&ms, &id, &request, &e.Kind, &e.Site, &client, &prefix, &action, &intended, &e.Verdict.Score, &e.Verdict.Rule,
		&kind, &family, &e.Identity.Crawler, &status, &e.Response.Status, &e.Response.Bytes, &duration, &e.Request.Agent,
		&e.Request.Method, &e.Request.Host, &e.Request.Path, &e.Request.Query, &text)
	if err != nil {
		return err
	}
	e.ID, e.RequestID = readID(id), readID(request)
	for _, p := range []struct {
		to interface{ UnmarshalText([]byte) error }
		s  string
	}{{&e.Verdict.Action, action}, {&e.Verdict.Intended, intended}, {&e.Request.Kind, kind}, {&e.Request.Family, family}, {&e.Identity.Status, status}} {
		if err := p.to.UnmarshalText([]byte(p.s)); err != nil {
			return fmt.Errorf("event %s: %w", e.ID, err)
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return fmt.Errorf("event %s: details: %w", e.ID, err)
	}
	e.Schema, e.Edge = d.Schema, d.Edge
	e.Time = time.UnixMilli(ms).UTC()
	e.Client.Address, e.Client.Prefix = readClient(client, prefix)
	e.Client.ASN, e.Client.Country, e.Client.Token = d.ASN, d.Country, d.Token
	r, v := &e.Request, &e.Verdict
	r.Class, r.Protocol, r.Referrer, r.Headers, r.TLS = d.Class, d.Protocol, d.Referrer, d.Headers, d.TLS
	e.Identity.How = d.How
	e.Signals = d.Signals
	v.Reason, v.Basis, v.Mode, v.Posture, v.Decision, v.Shadow = d.Reason, d.Basis, d.Mode, d.Posture, d.Decision, d.Shadow
	e.Response.Duration, e.Response.UpstreamDuration = float64(duration)/1e6, d.Upstream
	e.Challenge, e.Tarpit = d.Challenge, d.Tarpit
	return nil
}

// read runs a query on a reading connection and calls each for every row.
func (a *Archive) read(ctx context.Context, query string, args []any, each func(*sql.Rows) error) error {
	a.mu.RLock()
	defer a.mu.RUnlock()
	rows, err := a.files.r.QueryContext(ctx, query, args...)
	if err != nil {
		return explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return explain(rows.Err())
}
