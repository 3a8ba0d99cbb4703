package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store"
)

func fill(t testing.TB, a store.Archive, from, to int, change ...func(*defense.Event)) {
	t.Helper()
	var batch []*defense.Event
	for n := from; n < to; n++ {
		batch = append(batch, Event(n, change...))
		if len(batch) == 500 || n == to-1 {
			put(t, a, batch...)
			batch = batch[:0]
		}
	}
}

// numbers names events by how many seconds after Noon they are.
func numbers(events []defense.Event) string {
	var b []string
	for _, e := range events {
		b = append(b, fmt.Sprint(int64(e.Time.Sub(Noon())/time.Second)))
	}
	return strings.Join(b, " ")
}

func testWhatWasWrittenIsThereAfterARestart(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	put(t, a, Event(1), Event(2))
	if err := a.AddCounters(t.Context(), []record.Counter{{Hour: Noon(), Site: "wiki", Count: 7}}); err != nil {
		t.Fatal(err)
	}
	if err := a.PutCases(t.Context(), []defense.Case{caseOf(1)}); err != nil {
		t.Fatal(err)
	}
	a = f.Reopen(t, a, keepAll())
	if diff := cmp.Diff([]defense.Event{*Event(2), *Event(1)}, find(t, a, record.Filter{})); diff != "" {
		t.Errorf("events (-want +got)\n%s", diff)
	}
	if n, err := a.Append(t.Context(), []*defense.Event{Event(1)}); n != 1 || err != nil {
		t.Errorf("an event of before: %d duplicates, %v; want 1", n, err)
	}
	if s, err := a.Summary(t.Context(), Noon(), Noon().Add(time.Hour)); err != nil || s.Requests != 7 {
		t.Errorf("a count of %d, %v; want 7", s.Requests, err)
	}
	if _, err := a.Case(t.Context(), caseOf(1).ID); err != nil {
		t.Error(err)
	}
}

func testEventsOfAnyTimeAreKeptAndFound(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	const day = 24 * 60 * 60
	var batch []*defense.Event
	// Of the edges of a day, of the days around today, long ago, before 1970, and of the future.
	for i, n := range []int{100000 * day, 4000 * day, 3 * day, day, 12 * 60 * 60, 12*60*60 - 1, 0, -1, -day, -30 * day, -5000 * day, -30000 * day} {
		batch = append(batch, Event(i, func(e *defense.Event) {
			e.ID, e.Time = fmt.Sprint("e", n), Noon().Add(time.Duration(n)*time.Second)
			if n == 100000*day {
				e.Time = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
			}
		}))
	}
	put(t, a, batch...)
	got := find(t, a, record.Filter{})
	if len(got) != len(batch) {
		t.Fatalf("%d events, want %d", len(got), len(batch))
	}
	for i := range got {
		if !got[i].Time.Equal(batch[i].Time) || got[i].ID != batch[i].ID || got[i].Request.Agent != chrome {
			t.Errorf("place %d: %s at %s by %q, want %s at %s", i, got[i].ID, got[i].Time, got[i].Request.Agent, batch[i].ID, batch[i].Time)
		}
	}
	if n, err := a.Append(t.Context(), batch); n != len(batch) || err != nil {
		t.Errorf("sent again: %d duplicates, %v; want %d", n, err, len(batch))
	}
	if s, err := a.Summary(t.Context(), Noon().AddDate(-100, 0, 0), Noon().AddDate(100, 0, 0)); err != nil || s.Events != len(batch)-1 || len(s.Agents) != 1 || s.Agents[0].Name != chrome {
		t.Errorf("the summary has %d events by %v, %v", s.Events, s.Agents, err)
	}
	// Everything but the future is too old a few days on.
	n, err := a.Prune(t.Context(), time.Hour, 0, Noon().AddDate(0, 0, 2))
	if err != nil || n != 9 {
		t.Errorf("%d removed, %v; want 9", n, err)
	}
	if got := find(t, a, record.Filter{}); len(got) != 3 {
		t.Errorf("%d events left, want 3", len(got))
	}
}

func testWritersAtTheSameTimeLoseNothing(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	const writers, batches, size = 6, 8, 50
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			for b := range batches {
				var batch []*defense.Event
				for i := range size {
					// Half of them are everybody's, in an order of each one's own, over several days.
					n := b*size + (i*[]int{1, 3, 7, 9, 11, 13}[w])%size
					batch = append(batch, Event(n, func(e *defense.Event) {
						e.Time = Noon().Add(-time.Duration(n%4) * 24 * time.Hour)
						if n%2 == 0 {
							e.ID = fmt.Sprintf("%s-%d", e.ID, w)
						}
						e.Request.Agent = fmt.Sprint("Agent/", n%7)
					}))
				}
				if _, err := a.Append(t.Context(), batch); err != nil {
					return err
				}
				if err := a.AddCounters(t.Context(), []record.Counter{{Hour: Noon(), Site: "a", Count: 1}, {Hour: Noon(), Site: "b", Count: 2}, {Hour: Noon(), Site: "a", Count: 1}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s, err := a.Summary(t.Context(), Noon().AddDate(0, 0, -5), Noon().AddDate(0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	if want := batches * size / 2 * (writers + 1); s.Events != want || s.Requests != writers*batches*4 {
		t.Errorf("%d events and a count of %d, want %d and %d", s.Events, s.Requests, want, writers*batches*4)
	}
	if len(s.Agents) != 7 || !strings.HasPrefix(s.Agents[0].Name, "Agent/") {
		t.Errorf("agents %v", s.Agents)
	}
}

func testPruneByAge(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	fill(t, a, -3*86400, -3*86400+300) // a whole day
	fill(t, a, 0, 1100)                // a part of the day in which the limit falls
	fill(t, a, 9000, 9100)
	n, err := a.Prune(t.Context(), time.Hour, 0, Noon().Add(9000*time.Second))
	if err != nil || n != 1400 {
		t.Fatalf("%d removed, %v; want 1400", n, err)
	}
	if got := find(t, a, record.Filter{Limit: 1000}); len(got) != 100 || got[99].Request.Agent != chrome {
		t.Errorf("%d events left, want 100", len(got))
	}
	if n, err = a.Prune(t.Context(), time.Hour, 0, Noon().Add(9000*time.Second)); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	// One that comes late is taken all the same.
	put(t, a, Event(-3*86400))
	if got := find(t, a, record.Filter{Until: Noon()}); len(got) != 1 || got[0].Request.Agent != chrome {
		t.Errorf("a late event: %d found", len(got))
	}
}

func testPruneBySizeKeepsTheNewest(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	// Every request with an agent of its own: the worst case for what is kept of agents.
	rotating := func(e *defense.Event) {
		e.Request.Agent = fmt.Sprintf("Rotating/%s %s", e.ID, strings.Repeat("x", 450))
		e.Request.Path = "/" + strings.Repeat("y", 800)
	}
	fill(t, a, -2*86400, -2*86400+400, rotating)
	fill(t, a, 0, 2200, rotating)
	before, err := a.Size()
	if err != nil {
		t.Fatal(err)
	}
	const limit = 2 << 20
	if before < 2*limit {
		t.Fatalf("only %d bytes to begin with", before)
	}
	removed, err := a.Prune(t.Context(), 0, limit, Noon())
	if err != nil {
		t.Fatal(err)
	}
	after, err := a.Size()
	if err != nil {
		t.Fatal(err)
	}
	if after > limit {
		t.Errorf("%d bytes on disk, limit %d", after, limit)
	}
	s, err := a.Summary(t.Context(), Noon().AddDate(0, 0, -3), Noon().AddDate(0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	if s.Events != 2600-removed || s.Events < 300 {
		t.Errorf("%d events left after %d were removed", s.Events, removed)
	}
	got := find(t, a, record.Filter{Limit: 2})
	if numbers(got) != "2199 2198" || !strings.HasPrefix(got[0].Request.Agent, "Rotating/"+got[0].ID) {
		t.Errorf("the newest are %s", numbers(got))
	}
	// What went is taken again: nothing of it is remembered.
	n, err := a.Append(t.Context(), []*defense.Event{Event(0, rotating)})
	if err != nil || n != 0 {
		t.Errorf("%d duplicates, %v", n, err)
	}
	if got := find(t, a, record.Filter{ID: Event(0).ID}); len(got) != 1 || !strings.HasPrefix(got[0].Request.Agent, "Rotating/") {
		t.Errorf("an event that comes again: %v", got)
	}
}

func testPruneToALimitBelowAnEmptyArchiveEnds(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	put(t, a, Event(0), Event(-86400), Event(-3000*86400), Event(1000*86400))
	if err := a.PutCases(t.Context(), []defense.Case{caseOf(1), caseOf(2, func(c *defense.Case) { c.Label = defense.LabelBot })}); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Prune(t.Context(), 0, 1, Noon()); n != 4 || err != nil {
		t.Fatalf("%d, %v; want 4", n, err)
	}
	if got := cases(t, a, anyCase()); got != "2" {
		t.Errorf("cases %q left, want the one with a label", got)
	}
	put(t, a, Event(1))
	if got := find(t, a, record.Filter{}); len(got) != 1 {
		t.Errorf("%d events", len(got))
	}
}

func testOldCountersGoRecentOnesStay(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	for _, age := range []time.Duration{0, 365 * 24 * time.Hour, 3 * 365 * 24 * time.Hour} {
		if err := a.AddCounters(t.Context(), []record.Counter{{Hour: Noon().Add(-age), Count: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Prune(t.Context(), time.Hour, 0, Noon()); err != nil {
		t.Fatal(err)
	}
	if s, err := a.Summary(t.Context(), Noon().AddDate(-10, 0, 0), Noon().Add(time.Hour)); err != nil || s.Requests != 2 {
		t.Errorf("a count of %d, %v; want 2", s.Requests, err)
	}
}
