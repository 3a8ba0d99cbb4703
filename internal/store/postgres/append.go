package postgres

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/rows"
)

// columns are those of events, with the types of their arrays in insertEvents.
var columns = [...]struct{ name, kind string }{
	{"time", "timestamptz"}, {"id", "text"}, {"request", "text"}, {"event", "text"}, {"site", "text"}, {"client", "bytea"}, {"prefix", "bytea"},
	{"action", "text"}, {"intended", "text"}, {"score", "int4"}, {"rule", "text"}, {"kind", "text"}, {"family", "text"}, {"harm", "text"},
	{"crawler", "text"}, {"identity", "text"}, {"status", "int4"}, {"bytes", "int8"}, {"duration", "int8"}, {"agent", "int8"},
	{"method", "text"}, {"host", "text"}, {"path", "text"}, {"query", "text"}, {"details", "text"},
}

// insertEvents returns the statement that inserts rows given as an array for each column.
func insertEvents() string {
	var names, arrays []string
	for i, c := range columns {
		names = append(names, c.name)
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", i+1, c.kind))
	}
	return "INSERT INTO events (" + strings.Join(names, ",") + ") SELECT * FROM unnest(" + strings.Join(arrays, ",") + ") ON CONFLICT DO NOTHING"
}

const insertAgents = `INSERT INTO agents (day, id, text) SELECT * FROM unnest($1::int4[], $2::int8[], $3::text[]) ON CONFLICT DO NOTHING`

// batch is a number of events as arrays of columns, and the texts of their agents.
type batch struct {
	time                                                          []time.Time
	id, request, event, site                                      []string
	client, prefix                                                [][]byte
	action, intended, rule, kind, family, harm, crawler, identity []string
	score, status                                                 []int32
	bytes, duration, agent                                        []int64
	method, host, path, query, details                            []string
	days                                                          []int64 // that occur
	agentDay                                                      []int32
	agentID                                                       []int64
	agentText                                                     []string
}

func (b *batch) args() []any {
	return []any{b.time, b.id, b.request, b.event, b.site, b.client, b.prefix, b.action, b.intended, b.score, b.rule, b.kind, b.family, b.harm,
		b.crawler, b.identity, b.status, b.bytes, b.duration, b.agent, b.method, b.host, b.path, b.query, b.details}
}

// encode puts a batch together, in the order of the index on events: two programs that write the same
// events at once then wait for each other, instead of both for both.
func (a *Archive) encode(events []*defense.Event) (*batch, error) {
	list := make([]rows.Event, len(events))
	for i, e := range events {
		var err error
		if list[i], err = rows.EncodeEvent(e, a.privacy); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(x, y rows.Event) int { return cmp.Or(cmp.Compare(x.Time, y.Time), cmp.Compare(x.ID, y.ID)) })
	type agentKey struct {
		day int32
		id  int64
	}
	agents, ids := map[agentKey]string{}, map[string]int64{}
	b := &batch{}
	for i := range list {
		r := &list[i]
		id, known := ids[r.Agent]
		if !known {
			id = rows.AgentID(r.Agent)
			ids[r.Agent] = id
		}
		day := dayOf(r.Time)
		if n := len(b.days); n == 0 || b.days[n-1] != day {
			b.days = append(b.days, day)
		}
		agents[agentKey{int32(day), id}] = r.Agent
		b.time = append(b.time, stamp(r.Time))
		b.id, b.request, b.event, b.site = append(b.id, r.ID), append(b.request, r.RequestID), append(b.event, r.Kind), append(b.site, r.Site)
		b.client, b.prefix = append(b.client, r.Client), append(b.prefix, r.Prefix)
		b.action, b.intended = append(b.action, r.Action), append(b.intended, r.Intended)
		b.score, b.status = append(b.score, int32(clamp(r.Score))), append(b.status, int32(clamp(r.Status)))
		b.rule, b.kind, b.family = append(b.rule, r.Rule), append(b.kind, r.Request), append(b.family, r.Family)
		b.harm, b.crawler, b.identity = append(b.harm, r.Harm), append(b.crawler, r.Crawler), append(b.identity, r.Identity)
		b.bytes, b.duration, b.agent = append(b.bytes, r.Bytes), append(b.duration, r.Duration), append(b.agent, id)
		b.method, b.host, b.path = append(b.method, r.Method), append(b.host, r.Host), append(b.path, r.Path)
		b.query, b.details = append(b.query, r.Query), append(b.details, r.Details)
	}
	keys := make([]agentKey, 0, len(agents))
	for k := range agents {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y agentKey) int { return cmp.Or(cmp.Compare(x.day, y.day), cmp.Compare(x.id, y.id)) })
	for _, k := range keys {
		b.agentDay, b.agentID, b.agentText = append(b.agentDay, k.day), append(b.agentID, k.id), append(b.agentText, agents[k])
	}
	return b, nil
}

func clamp(n int) int { return max(math.MinInt32, min(math.MaxInt32, n)) }

// Append stores the events in one transaction. Times are kept to the millisecond. The events are changed: each is
// brought within the limits of [record.Bound]. An event is a duplicate of another with its id and time.
// Errors wrap ErrAway or ErrFull where they apply; the batch may then be sent again.
func (a *Archive) Append(ctx context.Context, events []*defense.Event) (duplicates int, err error) {
	if len(events) == 0 {
		return 0, nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("appending %d events: %w", len(events), err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	b, err := a.encode(events)
	if err != nil {
		return 0, err
	}
	if err := a.makeDays(ctx, b.days); err != nil {
		return 0, err
	}
	err = a.write(ctx, func(tx pgx.Tx) error {
		// Events first: prune locks them before it removes texts of agents that no event refers to.
		tag, err := tx.Exec(ctx, insertEvents(), b.args()...)
		if err != nil {
			return err
		}
		duplicates = len(events) - int(tag.RowsAffected())
		_, err = tx.Exec(ctx, insertAgents, b.agentDay, b.agentID, b.agentText)
		return err
	})
	if err != nil {
		return 0, err
	}
	return duplicates, nil
}

const addCounters = `INSERT INTO counters (hour, site, action, intended, count)
	SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::int8[])
	ON CONFLICT (hour, site, action, intended) DO UPDATE SET count = least(counters.count::numeric + excluded.count, 9223372036854775807)::bigint`

// AddCounters adds to the exact counters in one transaction. When the server or the way to it fails just as the transaction ends, it may have been
// carried out although an error is returned; whoever adds again then counts twice: see AddCountersOnce.
func (a *Archive) AddCounters(ctx context.Context, counters []record.Counter) error {
	return a.addCounters(ctx, "", "", counters)
}

// AddCountersOnce adds to the exact counters in one transaction, unless a set with that id, a ULID, was added within the last days.
func (a *Archive) AddCountersOnce(ctx context.Context, id string, counters []record.Counter) error {
	oldest, err := rows.OldestCounted(id, a.o.Now())
	if err != nil {
		return fmt.Errorf("adding counters: %w", err)
	}
	return a.addCounters(ctx, id, oldest, counters)
}

// addCounters adds counters, once if there is an id.
func (a *Archive) addCounters(ctx context.Context, id, oldest string, counters []record.Counter) error {
	if len(counters) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	// One statement may add to a row only once.
	sums := map[record.Counter]int64{}
	for _, c := range counters {
		n := int64(min(c.Count, math.MaxInt64))
		c.Hour, c.Site, c.Count = stamp(rows.FloorHour(c.Hour.UnixMilli())*60*60*1000), rows.Text(c.Site), 0
		sums[c] += min(n, math.MaxInt64-sums[c])
	}
	keys := make([]record.Counter, 0, len(sums))
	for c := range sums {
		keys = append(keys, c)
	}
	// In one order, for the reason of Append's.
	slices.SortFunc(keys, func(x, y record.Counter) int {
		return cmp.Or(x.Hour.Compare(y.Hour), cmp.Compare(x.Site, y.Site), cmp.Compare(x.Action, y.Action), cmp.Compare(x.Intended, y.Intended))
	})
	var hours []time.Time
	var sites, actions, intended []string
	var counts []int64
	for _, c := range keys {
		hours, sites, counts = append(hours, c.Hour), append(sites, c.Site), append(counts, sums[c])
		actions, intended = append(actions, c.Action.String()), append(intended, c.Intended.String())
	}
	err := a.write(ctx, func(tx pgx.Tx) error {
		if id != "" {
			if _, err := tx.Exec(ctx, "DELETE FROM counted WHERE id < $1", oldest); err != nil {
				return err
			}
			r, err := tx.Exec(ctx, "INSERT INTO counted (id) VALUES ($1) ON CONFLICT DO NOTHING", id)
			if err != nil || r.RowsAffected() == 0 {
				return err
			}
		}
		_, err := tx.Exec(ctx, addCounters, hours, sites, actions, intended, counts)
		return err
	})
	if err != nil {
		return fmt.Errorf("adding to %d counters: %w", len(counters), err)
	}
	return nil
}
