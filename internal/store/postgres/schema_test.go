package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

// ask returns the answer of a question that has one row and column, as text.
func ask(t testing.TB, a *Archive, sql string, args ...any) (s string) {
	t.Helper()
	err := a.use(t.Context(), func(c *pgx.Conn) error { return c.QueryRow(t.Context(), sql, args...).Scan(&s) })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exec(t testing.TB, url, sql string) {
	t.Helper()
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	s.Exec(t, url, sql)
}

func TestAnotherProgramsSchemaIsNotTouched(t *testing.T) {
	url := database(t)
	exec(t, url, "CREATE SCHEMA quickthorn; CREATE TABLE quickthorn.mail (text text)")
	a := open(t, options(url))
	if err := a.Ping(t.Context()); !errors.Is(err, ErrForeign) {
		t.Errorf("got %v", err)
	}
	exec(t, url, "DO $$ BEGIN IF (SELECT count(*) FROM pg_tables WHERE schemaname = 'quickthorn') <> 1 THEN RAISE 'touched'; END IF; END $$")
}

func TestADatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	url := database(t)
	exec(t, url, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	a := open(t, options(strings.Replace(url, url[strings.Index(url, "@/")+2:strings.Index(url, "?")], "latin", 1)))
	if err := a.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "ENCODING 'UTF8'") {
		t.Errorf("got %v", err)
	}
}

func TestARoleThatOwnsTheSchemaNeedsNoMore(t *testing.T) {
	url := database(t)
	exec(t, url, "CREATE ROLE hedge LOGIN; CREATE SCHEMA quickthorn AUTHORIZATION hedge")
	a := open(t, options(strings.Replace(url, "postgres@", "hedge@", 1)))
	if _, err := a.Append(t.Context(), []*defense.Event{storetest.Event(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Prune(t.Context(), time.Hour, 1, storetest.Noon()); err != nil {
		t.Error(err)
	}
	if _, err := a.Erase(t.Context(), netip.MustParsePrefix("192.0.2.77/32")); err != nil {
		t.Error(err)
	}
}

func TestUpgradeKeepsTheDataAndCanBeRolledBackByOneVersion(t *testing.T) {
	a := newArchive(t)
	if _, err := a.Append(t.Context(), []*defense.Event{storetest.Event(1)}); err != nil {
		t.Fatal(err)
	}
	now := migrations
	next := append(slices.Clip(now), migration{oldest: len(now), sql: "ALTER TABLE events ADD COLUMN weather text NOT NULL DEFAULT ''; CREATE TABLE forecasts (x int)"})
	afterNext := append(slices.Clip(next), migration{oldest: len(next), sql: "CREATE TABLE storms (x int)"})
	bad := append(slices.Clip(afterNext), migration{oldest: 1, sql: "CREATE TABLE half (x int)"}, migration{oldest: 1, sql: "CREATE NONSENSE"})
	for i, step := range []struct {
		name  string
		steps []migration
		want  string
	}{
		{"upgrade", next, ""},
		{"rolled back by one", now, ""},
		{"and forward again", next, ""},
		{"a failed upgrade", bad, fmt.Sprint("version ", len(bad))},
		{"by two at once", afterNext, ""},
		{"rolled back by one again", next, ""},
		{"rolled back by two", now, "restore the backup"},
	} {
		err := a.pool.with(t.Context(), func(c *pgx.Conn) error { return migrate(t.Context(), c, step.steps) })
		if (step.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Fatalf("%s: %v", step.name, err)
		}
		if errors.Is(err, ErrNewer) != (step.name == "rolled back by two") {
			t.Errorf("%s: %v", step.name, err)
		}
		// The program of this version goes on with the tables of the others, also on a new day.
		if n, err := a.Append(t.Context(), []*defense.Event{storetest.Event(1), storetest.Event(-86400 * (i + 1))}); n != 1 || err != nil {
			t.Errorf("%s: %d duplicates, %v", step.name, n, err)
		}
	}
	if got := ask(t, a, "SELECT coalesce(to_regclass('quickthorn.half')::text, 'none')"); got != "none" {
		t.Error("a part of the failed upgrade is there")
	}
}

func TestEveryMigrationAllowsARollBackByOneOrSaysSo(t *testing.T) {
	for i, m := range migrations {
		if m.oldest < 1 || m.oldest > i+1 {
			t.Errorf("step %d: oldest %d", i+1, m.oldest)
		}
	}
}

// partitions lists how many events each partition has.
func partitions(t testing.TB, a *Archive) string {
	t.Helper()
	return ask(t, a, "SELECT coalesce(string_agg(p || ':' || n, ' ' ORDER BY p), '') FROM (SELECT tableoid::regclass::text p, count(*) n FROM events GROUP BY 1) AS x")
}

func TestEventsLieInAPartitionForEachDay(t *testing.T) {
	now := storetest.Noon()
	a := newArchive(t, func(o *Options) { o.Now = func() time.Time { return now } })
	const day = 86400
	send := func(offsets ...int) {
		t.Helper()
		for _, n := range offsets {
			e := storetest.Event(0, func(e *defense.Event) {
				e.ID, e.Time, e.Request.Agent = fmt.Sprint("e", n), storetest.Noon().Add(time.Duration(n)*time.Second), fmt.Sprint("Agent/", n)
			})
			if dup, err := a.Append(t.Context(), []*defense.Event{e}); err != nil || dup != 0 {
				t.Fatalf("%d: %d duplicates, %v", n, dup, err)
			}
		}
	}
	send(0, day/2-1, day/2, -day, 3*day, 3*day+1, -500*day)
	if got, want := partitions(t, a), "events_20261124:1 events_20261125:2 events_20261126:1 events_rest:3"; got != want {
		t.Fatalf("partitions %s, want %s", got, want)
	}
	// What was in the future becomes today.
	now = now.AddDate(0, 0, 3)
	send(3*day + 2)
	if got, want := partitions(t, a), "events_20261124:1 events_20261125:2 events_20261126:1 events_20261128:3 events_rest:1"; got != want {
		t.Errorf("partitions %s, want %s", got, want)
	}
	page, err := a.Events(t.Context(), record.Filter{})
	if err != nil || len(page.Events) != 8 {
		t.Fatalf("%d events, %v", len(page.Events), err)
	}
	for _, e := range page.Events {
		if e.Request.Agent != "Agent/"+e.ID[1:] {
			t.Errorf("%s by %q", e.ID, e.Request.Agent)
		}
	}
	if got := ask(t, a, "SELECT count(*)::text FROM agents_rest"); got != "1" {
		t.Errorf("%s agents with the rest, want 1", got)
	}
	// A whole day is dropped; days too old get no partition again.
	if n, err := a.Prune(t.Context(), 3*24*time.Hour, 0, now); n != 2 || err != nil { // -500 days and -1 day; noon is the limit itself
		t.Errorf("%d removed, %v", n, err)
	}
	if got := ask(t, a, "SELECT coalesce(to_regclass('quickthorn.events_20261124')::text, 'none') || coalesce(to_regclass('quickthorn.agents_20261124')::text, 'none')"); got != "nonenone" {
		t.Errorf("there is still %s", got)
	}
	send(-2*day + 1)
	if got, want := partitions(t, a), "events_20261125:2 events_20261126:1 events_20261128:3 events_rest:1"; got != want {
		t.Errorf("partitions %s, want %s", got, want)
	}
}

func TestAPartitionDroppedByAnotherProgramIsNoError(t *testing.T) {
	url := database(t)
	one, other := open(t, options(url)), open(t, options(url))
	if _, err := one.Append(t.Context(), []*defense.Event{storetest.Event(1), storetest.Event(-86400)}); err != nil {
		t.Fatal(err)
	}
	if n, err := other.Prune(t.Context(), time.Hour, 0, storetest.Noon().AddDate(0, 0, 5)); n != 2 || err != nil {
		t.Fatalf("%d removed, %v", n, err)
	}
	if n, err := one.Append(t.Context(), []*defense.Event{storetest.Event(1)}); n != 0 || err != nil {
		t.Fatalf("%d duplicates, %v", n, err)
	}
	page, err := other.Events(t.Context(), record.Filter{})
	if err != nil || len(page.Events) != 1 || page.Events[0].Request.Agent != storetest.Event(1).Request.Agent {
		t.Errorf("%+v, %v", page.Events, err)
	}
}

func TestAppendAndPruneAtTheSameTimeDoNotDeadlock(t *testing.T) {
	a := newArchive(t)
	done := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < 30 && err == nil; n++ {
			var batch []*defense.Event
			for i := range 20 {
				batch = append(batch, storetest.Event(n*20+i, func(e *defense.Event) { e.Time = e.Time.Add(-time.Duration(i%5) * 24 * time.Hour) }))
			}
			_, err = a.Append(context.Background(), batch)
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		if _, err := a.Prune(t.Context(), 24*time.Hour, 1<<19, storetest.Noon()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Summary(t.Context(), storetest.Noon().AddDate(0, 0, -9), storetest.Noon().AddDate(0, 0, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQueriesUseTheIndexesMadeForThem(t *testing.T) {
	a := newArchive(t)
	var batch []*defense.Event
	for n := range 3000 {
		batch = append(batch, storetest.Varied(n))
	}
	if _, err := a.Append(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	exec(t, a.o.URL, "ANALYZE quickthorn.events")
	for _, tt := range []struct {
		f     record.Filter
		index string
	}{
		{record.Filter{}, "time_id_idx"},
		{record.Filter{Since: storetest.Noon()}, "time_id_idx"},
		{record.Filter{ID: storetest.Event(-3600).ID, Since: storetest.Noon().Add(-3600*time.Second - nearID)}, "time_id_idx"},
		{record.Filter{Before: "1795608000100.x"}, "time_id_idx"},
		{record.Filter{Client: netip.MustParsePrefix("192.0.2.77/32")}, "client_time_idx"},
		{record.Filter{Action: new(defense.Deny)}, "action_time_idx"},
	} {
		c, _, err := a.conditions(tt.f)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		err = a.use(t.Context(), func(conn *pgx.Conn) error {
			r, err := conn.Query(t.Context(), "EXPLAIN "+selectEvents+c.where()+" ORDER BY time DESC, id DESC LIMIT 10", c.args...)
			if err != nil {
				return err
			}
			plan, err = pgx.CollectRows(r, pgx.RowTo[string])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "\n"); !strings.Contains(text, "events_20261125_"+tt.index) {
			t.Errorf("%+v: plan without %s:\n%s", tt.f, tt.index, text)
		}
	}
}
