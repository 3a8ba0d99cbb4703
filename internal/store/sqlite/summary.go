package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/rows"
)

// Summary counts what happened from since until before until.
func (a *Archive) Summary(ctx context.Context, since, until time.Time) (record.Summary, error) {
	s := record.Summary{Since: since, Until: until}
	if err := a.countExactly(ctx, &s); err != nil {
		return s, fmt.Errorf("summing counters: %w", err)
	}
	if err := a.tally(ctx, &s); err != nil {
		return s, fmt.Errorf("counting events: %w", err)
	}
	return s, nil
}

// countExactly fills in what comes from the counters.
func (a *Archive) countExactly(ctx context.Context, s *record.Summary) error {
	s.Totals, s.Hours = []record.Counter{}, []record.Counter{}
	// until is exclusive: at the full hour, that hour does not belong to the period.
	period := []any{rows.FloorHour(s.Since.UnixMilli()), rows.FloorHour(s.Until.UnixMilli() - 1)}
	scan := func(r *sql.Rows, hour *int64, c *record.Counter) error {
		var action, intended string
		if err := r.Scan(hour, &c.Site, &action, &intended, &c.Count); err != nil {
			return err
		}
		c.Hour = time.Unix(*hour*3600, 0).UTC()
		var err error
		if c.Action, err = defense.ParseAction(action); err == nil {
			c.Intended, err = defense.ParseAction(intended)
		}
		return err
	}
	err := a.read(ctx, `SELECT 0, site, action, intended, sum(count) FROM counters WHERE hour BETWEEN ? AND ?
		GROUP BY site, action, intended ORDER BY site, 5 DESC, action, intended`, period, func(r *sql.Rows) error {
		var c record.Counter
		var hour int64
		err := scan(r, &hour, &c)
		c.Hour = time.Time{} // a total over all hours
		s.Totals = append(s.Totals, c)
		s.Requests += c.Count
		return err
	})
	if err != nil {
		return err
	}
	return a.read(ctx, `SELECT hour, '', action, intended, sum(count) FROM counters WHERE hour BETWEEN ? AND ?
		GROUP BY hour, action, intended ORDER BY hour, action, intended`, period, func(r *sql.Rows) error {
		var c record.Counter
		var hour int64
		err := scan(r, &hour, &c)
		s.Hours = append(s.Hours, c)
		return err
	})
}

// tally fills in what comes from the events.
func (a *Archive) tally(ctx context.Context, s *record.Summary) error {
	var (
		period  = []any{s.Since.UnixMilli(), s.Until.UnixMilli()}
		stopped = "action IN " + rows.Stopping()
		counts  = "count(*), sum(" + stopped + "), sum(intended IN " + rows.Stopping() + " AND NOT " + stopped + ")"
		within  = " FROM events WHERE time >= ? AND time < ?"
	)
	rules, kinds, families, crawlers := rows.Tallies{}, rows.Tallies{}, rows.Tallies{}, rows.Tallies{}
	// One pass serves four lists. Each decision has its own name; they are counted together.
	err := a.read(ctx, `SELECT CASE WHEN rule LIKE 'decision:%' THEN 'decision' ELSE rule END, kind, family, crawler, `+counts+within+` GROUP BY 1, 2, 3, 4`,
		period, func(r *sql.Rows) error {
			var rule, kind, family, crawler string
			var t record.Tally
			if err := r.Scan(&rule, &kind, &family, &crawler, &t.Events, &t.Stopped, &t.Held); err != nil {
				return err
			}
			s.Events += t.Events
			rules.Add(rule, t)
			kinds.Add(kind, t)
			families.Add(family, t)
			crawlers.Add(crawler, t)
			return nil
		})
	if err != nil {
		return err
	}
	// What has no rule or no crawler is no entry of those lists.
	delete(rules, "")
	delete(crawlers, "")
	s.Rules, s.Kinds, s.Families, s.Crawlers = rules.Top(), kinds.Top(), families.Top(), crawlers.Top()

	top := fmt.Sprintf(" ORDER BY 2 DESC, 1 LIMIT %d", rows.MaxTallies)
	s.Agents, s.Prefixes = []record.Tally{}, []record.Tally{}
	err = a.read(ctx, `SELECT coalesce(agents.text, ''), n, s, h FROM (SELECT agent, count(*) n, sum(`+stopped+`) s, sum(intended IN `+rows.Stopping()+` AND NOT `+stopped+`) h`+
		within+` GROUP BY agent`+top+`) LEFT JOIN agents ON agents.id = agent ORDER BY n DESC, 1`, period, func(r *sql.Rows) error {
		var t record.Tally
		err := r.Scan(&t.Name, &t.Events, &t.Stopped, &t.Held)
		s.Agents = append(s.Agents, t)
		return err
	})
	if err != nil {
		return err
	}
	return a.read(ctx, "SELECT prefix, "+counts+within+" GROUP BY prefix"+top, period, func(r *sql.Rows) error {
		var t record.Tally
		var prefix []byte
		err := r.Scan(&prefix, &t.Events, &t.Stopped, &t.Held)
		t.Name = privacy.ReadPrefix(prefix)
		s.Prefixes = append(s.Prefixes, t)
		return err
	})
}

// Harm lists whom verdicts stopped, or would have stopped, who looks like a
// reader: browsers and apps that name no crawler, feed readers, git, link previews, and crawlers that
// proved who they are but were judged by score.
func (a *Archive) Harm(ctx context.Context, since, until time.Time) (record.Harm, error) {
	h := record.Harm{Since: since, Until: until, Groups: []record.HarmGroup{}}
	period := []any{since.UnixMilli(), until.UnixMilli()}
	const within = " FROM events WHERE harm <> '' AND time >= ? AND time < ?"
	err := a.read(ctx, "SELECT count(*), count(DISTINCT client), count(DISTINCT prefix)"+within, period, func(r *sql.Rows) error {
		return r.Scan(&h.Events, &h.Clients, &h.Prefixes)
	})
	if err != nil {
		return h, fmt.Errorf("counting harm: %w", err)
	}
	var examples []int64
	grouped := 0
	err = a.read(ctx, "SELECT prefix, harm, rule, intended, sum(action IN "+rows.Stopping()+"), count(*), count(DISTINCT client), avg(score), min(time), max(time), max(seq)"+within+
		" GROUP BY prefix, harm, rule, intended ORDER BY 6 DESC, 10 DESC, 11 DESC LIMIT ?", append(period, rows.MaxGroups), func(r *sql.Rows) error {
		var (
			g                    record.HarmGroup
			prefix               []byte
			intended             string
			events               int
			score                float64
			first, last, example int64
		)
		if err := r.Scan(&prefix, &g.LooksLike, &g.Rule, &intended, &g.Stopped, &events, &g.Clients, &score, &first, &last, &example); err != nil {
			return err
		}
		g.Prefix, g.Held, g.Score = privacy.ReadPrefix(prefix), events-g.Stopped, int(score+0.5)
		g.First, g.Last = time.UnixMilli(first).UTC(), time.UnixMilli(last).UTC()
		h.Groups, examples = append(h.Groups, g), append(examples, example)
		grouped += events
		var err error
		h.Groups[len(h.Groups)-1].Intended, err = defense.ParseAction(intended)
		return err
	})
	if err != nil {
		return h, fmt.Errorf("grouping harm: %w", err)
	}
	h.Omitted = max(0, h.Events-grouped)
	for i, seq := range examples {
		err := a.read(ctx, selectEvents+" WHERE seq = ?", []any{seq}, func(r *sql.Rows) error {
			return scanEvent(r, &h.Groups[i].Example)
		})
		if err != nil {
			return h, fmt.Errorf("reading an example: %w", err)
		}
	}
	return h, nil
}
