package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/rows"
)

// Summary counts what happened from since until before until.
func (a *Archive) Summary(ctx context.Context, since, until time.Time) (record.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	s := record.Summary{Since: since, Until: until}
	err := a.use(ctx, func(c *pgx.Conn) error {
		s = record.Summary{Since: since, Until: until}
		if err := countExactly(ctx, c, &s); err != nil {
			return fmt.Errorf("summing counters: %w", err)
		}
		if err := tally(ctx, c, &s); err != nil {
			return fmt.Errorf("counting events: %w", err)
		}
		return nil
	})
	return s, err
}

// countExactly fills in what comes from the counters.
func countExactly(ctx context.Context, c *pgx.Conn, s *record.Summary) error {
	s.Totals, s.Hours = []record.Counter{}, []record.Counter{}
	const hour = 60 * 60 * 1000
	// until is exclusive: at the full hour, that hour does not belong to the period.
	first, last := stamp(rows.FloorHour(s.Since.UnixMilli())*hour), stamp(rows.FloorHour(s.Until.UnixMilli()-1)*hour)
	for _, q := range []struct {
		sql string
		to  *[]record.Counter
	}{
		{`SELECT NULL, site, action, intended, least(sum(count), 9223372036854775807)::bigint FROM counters WHERE hour BETWEEN $1 AND $2
			GROUP BY site, action, intended ORDER BY site, 5 DESC, action, intended`, &s.Totals},
		{`SELECT hour, '', action, intended, least(sum(count), 9223372036854775807)::bigint FROM counters WHERE hour BETWEEN $1 AND $2
			GROUP BY hour, action, intended ORDER BY hour, action, intended`, &s.Hours},
	} {
		r, err := c.Query(ctx, q.sql, first, last)
		if err != nil {
			return err
		}
		var at *time.Time
		var site, action, intended string
		var n int64
		_, err = pgx.ForEachRow(r, []any{&at, &site, &action, &intended, &n}, func() error {
			k := record.Counter{Site: site, Count: uint64(n)}
			if at != nil { // else a total over all hours
				k.Hour = at.UTC()
			}
			var err error
			if k.Action, err = defense.ParseAction(action); err == nil {
				k.Intended, err = defense.ParseAction(intended)
			}
			*q.to = append(*q.to, k)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, t := range s.Totals {
		s.Requests += t.Count
	}
	return nil
}

// counts are the three numbers of a tally.
func counts() string {
	stopped := "action IN " + rows.Stopping()
	return "count(*), count(*) FILTER (WHERE " + stopped + "), count(*) FILTER (WHERE intended IN " + rows.Stopping() + " AND NOT " + stopped + ")"
}

// tally fills in what comes from the events.
func tally(ctx context.Context, c *pgx.Conn, s *record.Summary) error {
	const within = " FROM events WHERE time >= $1 AND time < $2"
	since, until := stamp(s.Since.UnixMilli()), stamp(s.Until.UnixMilli())
	ask := func(sql string, names []any, each func(t record.Tally) error) error {
		r, err := c.Query(ctx, sql, since, until)
		if err != nil {
			return err
		}
		var t record.Tally
		_, err = pgx.ForEachRow(r, append(names, &t.Events, &t.Stopped, &t.Held), func() error { return each(t) })
		return err
	}

	rules, kinds, families, crawlers := rows.Tallies{}, rows.Tallies{}, rows.Tallies{}, rows.Tallies{}
	var rule, kind, family, crawler string
	// One pass serves four lists. Each decision has its own name; they are counted together.
	err := ask(`SELECT CASE WHEN starts_with(rule, 'decision:') THEN 'decision' ELSE rule END, kind, family, crawler, `+counts()+within+` GROUP BY 1, 2, 3, 4`,
		[]any{&rule, &kind, &family, &crawler}, func(t record.Tally) error {
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

	top := " ORDER BY 2 DESC, 1 LIMIT " + strconv.Itoa(rows.MaxTallies)
	agents := rows.Tallies{}
	var id int64
	var ids []int64
	byID := map[int64]record.Tally{}
	err = ask("SELECT agent, "+counts()+within+" GROUP BY agent"+top, []any{&id}, func(t record.Tally) error {
		ids = append(ids, id)
		byID[id] = t
		return nil
	})
	if err != nil {
		return err
	}
	texts, err := agentTexts(ctx, c, ids, dayOf(s.Since.UnixMilli()), dayOf(s.Until.UnixMilli()))
	if err != nil {
		return err
	}
	for id, t := range byID {
		agents.Add(texts[id], t)
	}
	s.Agents = agents.Top()

	s.Prefixes = []record.Tally{}
	var prefix []byte
	return ask("SELECT prefix, "+counts()+within+" GROUP BY prefix"+top, []any{&prefix}, func(t record.Tally) error {
		t.Name = privacy.ReadPrefix(prefix)
		s.Prefixes = append(s.Prefixes, t)
		return nil
	})
}

// agentTexts returns the texts of agents that occur in a period, by their id.
func agentTexts(ctx context.Context, c *pgx.Conn, ids []int64, first, last int64) (map[int64]string, error) {
	texts := make(map[int64]string, len(ids))
	r, err := c.Query(ctx, "SELECT DISTINCT ON (id) id, text FROM agents WHERE id = ANY($1::int8[]) AND day BETWEEN $2 AND $3", ids, int32(first), int32(last))
	if err != nil {
		return nil, err
	}
	var id int64
	var text string
	_, err = pgx.ForEachRow(r, []any{&id, &text}, func() error {
		texts[id] = text
		return nil
	})
	return texts, err
}

// Harm lists whom verdicts stopped, or would have stopped, who looks like a
// reader: browsers and apps that name no crawler, feed readers, git, link previews, and crawlers that
// proved who they are but were judged by score.
func (a *Archive) Harm(ctx context.Context, since, until time.Time) (record.Harm, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var h record.Harm
	err := a.use(ctx, func(c *pgx.Conn) error {
		h = record.Harm{Since: since, Until: until, Groups: []record.HarmGroup{}}
		return harm(ctx, c, &h)
	})
	if err != nil {
		return h, fmt.Errorf("reporting harm: %w", err)
	}
	return h, nil
}

func harm(ctx context.Context, c *pgx.Conn, h *record.Harm) error {
	const within = " FROM events WHERE harm <> '' AND time >= $1 AND time < $2"
	since, until := stamp(h.Since.UnixMilli()), stamp(h.Until.UnixMilli())
	err := c.QueryRow(ctx, "SELECT count(*), count(DISTINCT client), count(DISTINCT prefix)"+within, since, until).Scan(&h.Events, &h.Clients, &h.Prefixes)
	if err != nil {
		return err
	}
	r, err := c.Query(ctx, "SELECT prefix, harm, rule, intended, count(*) FILTER (WHERE action IN "+rows.Stopping()+"), count(*), count(DISTINCT client), avg(score)::float8, min(time), max(time)"+within+
		" GROUP BY prefix, harm, rule, intended ORDER BY 6 DESC, 10 DESC, 1, 2, 3, 4 LIMIT "+strconv.Itoa(rows.MaxGroups), since, until)
	if err != nil {
		return err
	}
	var (
		g        record.HarmGroup
		prefix   []byte
		intended string
		events   int
		score    float64
		grouped  int
		examples = &pgx.Batch{}
	)
	_, err = pgx.ForEachRow(r, []any{&prefix, &g.LooksLike, &g.Rule, &intended, &g.Stopped, &events, &g.Clients, &score, &g.First, &g.Last}, func() error {
		g.Prefix, g.Held, g.Score = privacy.ReadPrefix(prefix), events-g.Stopped, int(score+0.5)
		g.First, g.Last = g.First.UTC(), g.Last.UTC()
		grouped += events
		examples.Queue(selectEvents+" WHERE time = $1 AND harm = $2 AND prefix = $3 AND rule = $4 AND intended = $5 ORDER BY id DESC LIMIT 1",
			g.Last, g.LooksLike, prefix, g.Rule, intended)
		var err error
		g.Intended, err = defense.ParseAction(intended)
		h.Groups = append(h.Groups, g)
		return err
	})
	if err != nil {
		return err
	}
	h.Omitted = max(0, h.Events-grouped)
	return readExamples(ctx, c, examples, h.Groups)
}

// readExamples fills in the examples of groups. A group whose events were removed meanwhile has none.
func readExamples(ctx context.Context, c *pgx.Conn, examples *pgx.Batch, groups []record.HarmGroup) error {
	if len(groups) == 0 {
		return nil
	}
	list := make([]*rows.Event, len(groups))
	ids := make([]int64, len(groups))
	br := c.SendBatch(ctx, examples)
	for i := range groups {
		r, err := br.Query()
		if err == nil {
			err = forEvents(r, func(e rows.Event, agent int64) { list[i], ids[i] = &e, agent })
		}
		if err != nil {
			_ = br.Close() // the first error says what is wrong
			return err
		}
	}
	if err := br.Close(); err != nil {
		return err
	}
	first, last := groups[0].Last, groups[0].Last
	for _, g := range groups {
		if g.Last.Before(first) {
			first = g.Last
		}
		if g.Last.After(last) {
			last = g.Last
		}
	}
	texts, err := agentTexts(ctx, c, ids, dayOf(first.UnixMilli()), dayOf(last.UnixMilli()))
	if err != nil {
		return err
	}
	for i, e := range list {
		if e == nil {
			continue
		}
		e.Agent = texts[ids[i]]
		if err := e.Decode(&groups[i].Example); err != nil {
			return err
		}
	}
	return nil
}
