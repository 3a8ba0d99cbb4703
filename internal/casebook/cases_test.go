package casebook

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func parse(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// hammer adds a client that does everything that readers do not.
func (w *world) hammer(address string, from time.Duration, pages int) {
	for i := range pages {
		w.event(address, from+time.Duration(i)*time.Second, fmt.Sprintf("/item/%d", i), chrome)
	}
}

func TestALoudScraperIsACase(t *testing.T) {
	w := newWorld(t)
	w.hammer("2001:db8:1:2:3:4:5:6", 0, 100)
	w.play(20 * time.Second)
	c := w.the(defense.CaseClient)
	if c.Key != "2001:db8:1:2::/64" || c.Site != "wiki" || c.ID == "" || c.Revision == 0 || c.Members.Count != 1 || !slices.Equal(c.Members.Sample, []string{c.Key}) ||
		!c.FirstSeen.Equal(start) || c.Posture != defense.Guarded || c.Family != defense.AgentBrowser || c.ObserveOnly {
		t.Errorf("case %+v", c)
	}
	if c.EventCount < 15 || c.EventCount > 21 {
		t.Errorf("%d events", c.EventCount)
	}
	w.play(2 * time.Minute)
	c, ok := w.Case(c.ID)
	if !ok || c.EventCount != 100 || c.Features.Values["navigations"] != 100 || c.Features.Values["sequential"] != 1 || c.Features.Values["assets"] != 0 {
		t.Errorf("open %v, %d events, features %v", ok, c.EventCount, c.Features.Values)
	}
	if len(c.Paths) != clientPaths || len(c.Agents) != 1 {
		t.Errorf("examples %q, %q", c.Agents, c.Paths)
	}
}

func TestOneOddThingIsNoCase(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(w *world)
	}{
		{"no assets", func(w *world) {
			w.read("192.0.2.1", 0, 12, chrome)
			w.events = slices.DeleteFunc(w.events, func(e *defense.Event) bool { return e.Request.Kind == defense.KindAsset })
		}},
		{"no referrers", func(w *world) {
			w.read("192.0.2.1", 0, 12, chrome)
			for _, e := range w.events {
				e.Request.Referrer = ""
			}
		}},
		{"ten tabs at once", func(w *world) {
			w.asset("192.0.2.1", 0, chrome)
			for i := range 16 {
				w.event("192.0.2.1", time.Second, fmt.Sprintf("/wiki/%c", 'a'+i), chrome).Request.Referrer = "https://wiki.example/"
			}
		}},
		{"a page that reloads itself", func(w *world) {
			for i := range 60 {
				w.event("192.0.2.1", time.Duration(i)*30*time.Second, "/wiki/Status", chrome).Request.Referrer = "https://wiki.example/wiki/Status"
				w.asset("192.0.2.1", time.Duration(i)*30*time.Second, chrome)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.play(w)
			w.play(35 * time.Minute)
			w.none()
		})
	}
}

func TestATrapAloneIsACaseButNotOfWhoBehavesLikeAReader(t *testing.T) {
	for _, reads := range []bool{false, true} {
		w := newWorld(t)
		if reads {
			w.read("192.0.2.1", 0, 3, chrome)
		}
		w.event("192.0.2.1", 2*time.Minute, "/trap", chrome).Kind = "trap"
		w.play(2*time.Minute + 2*time.Second)
		if got := len(w.cases()); got != 0 == reads {
			t.Errorf("a reader: %v; cases: %d", reads, got)
		}
	}
}

func TestACaseIsDueWhenItsEvidenceHasGrown(t *testing.T) {
	w := newWorld(t)
	w.hammer("192.0.2.1", 0, 300)
	w.play(20 * time.Second)
	c := w.the(defense.CaseClient)
	w.play(21 * time.Second)
	w.none() // it is being judged
	w.judge(c, defense.OutcomeWatch)
	w.play(22 * time.Second)
	w.none() // there is little new
	w.play(45 * time.Second)
	again := w.the(defense.CaseClient) // twice as many events
	if again.ID != c.ID || again.Revision <= c.Revision || again.Outcome != defense.OutcomeWatch {
		t.Errorf("case %s at revision %d, outcome %q", again.ID, again.Revision, again.Outcome)
	}
	w.judge(again, defense.OutcomeWatch)
	w.play(70 * time.Second)
	w.none()
	w.play(106 * time.Second)
	again = w.the(defense.CaseClient) // a minute has passed
	w.play(150 * time.Second)
	w.none()
	w.play(170 * time.Second)
	again = w.the(defense.CaseClient) // nobody judged it
	w.judge(again, defense.OutcomeClear)
	w.play(290 * time.Second)
	w.none() // a clear one has more time
	w.play(10 * time.Minute)
	w.cases()
	w.play(12 * time.Minute)
	for _, c := range w.cases() {
		w.judge(c, defense.OutcomeWatch)
	}
	w.play(20 * time.Minute)
	w.none() // nothing new at all
}

func TestTheLimitGoesToThoseThatWereNeverJudged(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		w.hammer(fmt.Sprintf("192.0.2.%d", i), 0, 400)
	}
	w.play(30 * time.Second)
	old := w.cases()
	for _, c := range old {
		w.judge(c, defense.OutcomeWatch)
	}
	w.hammer("198.51.100.1", 2*time.Minute, 60)
	w.play(3 * time.Minute)
	if got := w.Due(w.at, 1); len(got) != 1 || got[0].Key != "198.51.100.1" {
		t.Errorf("first is %s", keys(got))
	}
	seen := map[string]bool{}
	for range 5 {
		for _, c := range w.Due(w.at, 1) {
			seen[c.Key] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("of five others %d got their turn", len(seen))
	}
}

func TestStrikesAreForRepeatersAndAreForgiven(t *testing.T) {
	w := newWorld(t)
	w.hammer("192.0.2.1", 0, 1200)
	w.play(30 * time.Second)
	c := w.the(defense.CaseClient)
	w.decide(c)
	w.play(10 * time.Minute)
	c = w.the(defense.CaseClient)
	w.judge(c, defense.OutcomeDecided, "decision", "another")
	if c, _ = w.Case(c.ID); c.Strikes != 1 || !slices.Equal(c.DecisionIDs, []string{"decision", "another"}) {
		t.Fatalf("while the decision holds: %d strikes, decisions %q", c.Strikes, c.DecisionIDs)
	}
	w.hammer("192.0.2.1", 2*time.Hour, 600)
	w.play(2*time.Hour + 10*time.Minute)
	c = w.the(defense.CaseClient)
	w.decide(c)
	if c, _ = w.Case(c.ID); c.Strikes != 2 {
		t.Fatalf("after another offence: %d strikes", c.Strikes)
	}
	strikes := func() int {
		if s := w.byID[c.ID]; s != nil {
			return s.c.Strikes
		}
		return -1
	}
	for _, step := range []struct {
		at   time.Duration
		want int
	}{{20 * time.Hour, 2}, {28 * time.Hour, 1}, {52 * time.Hour, -1}} {
		w.at = start.Add(step.at)
		w.Tick(w.at)
		if got := strikes(); got != step.want {
			t.Errorf("after %s: %d strikes, want %d", step.at, got, step.want)
		}
	}
}

func TestAnOldJudgementIsIgnored(t *testing.T) {
	w := newWorld(t)
	w.hammer("192.0.2.1", 0, 100)
	w.play(30 * time.Second)
	first := w.the(defense.CaseClient)
	w.play(100 * time.Second)
	second := w.the(defense.CaseClient)
	w.judge(second, defense.OutcomeWatch)
	w.judge(first, defense.OutcomeDecided, "x")
	w.Judged("nobody", 1, &defense.Judgement{}, nil, w.at)
	w.Judged(second.ID, second.Revision, nil, nil, w.at)
	if c, _ := w.Case(first.ID); c.Outcome != defense.OutcomeWatch || c.Strikes != 0 {
		t.Errorf("outcome %q, %d strikes", c.Outcome, c.Strikes)
	}
}

func TestRestoredCasesWaitForTheirSubject(t *testing.T) {
	w := newWorld(t)
	stored := []defense.Case{
		{ID: "old", Kind: defense.CaseClient, Key: "192.0.2.1", Site: "wiki", Revision: 7, EventCount: 50, Strikes: 2, Outcome: defense.OutcomeDecided, LastSeen: w.at, JudgedAt: w.at, DecisionIDs: []string{"d"}, Label: defense.LabelBot},
		{ID: "older", Kind: defense.CaseClient, Key: "192.0.2.1", Site: "wiki", LastSeen: w.at},
		{Kind: defense.CaseClient, Key: "192.0.2.3"},
	}
	w.Restore(stored)
	w.none()
	if s := w.Stats(); s.Dormant != 1 {
		t.Errorf("%d dormant", s.Dormant)
	}
	w.read("192.0.2.2", 0, 3, chrome)
	w.hammer("192.0.2.1", 0, 100)
	w.play(2 * time.Minute)
	c := w.the(defense.CaseClient)
	if c.ID != "old" || c.Revision <= 7+lostRevisions || c.EventCount <= 50 || c.Strikes != 2 || c.Label != defense.LabelBot || !slices.Equal(c.DecisionIDs, []string{"d"}) {
		t.Errorf("case %+v", c)
	}
	// The decision of before the restart still holds: to have it renewed is no new offence.
	w.judge(c, defense.OutcomeDecided, "d")
	if c, _ := w.Case("old"); c.Strikes != 2 {
		t.Errorf("%d strikes after the decision of before was renewed", c.Strikes)
	}
	w.Restore(stored) // it is there already
	if s := w.Stats(); s.Dormant != 0 || s.OpenClients != 1 {
		t.Errorf("%+v", s)
	}
}

func TestEventsThatNobodyVouchesForAreKeptApart(t *testing.T) {
	w := newWorld(t)
	for i := range 10 { // so that the source is known to show assets
		w.read(fmt.Sprintf("100.65.%d.1", i), -time.Minute, 2, firefox)
	}
	w.hammer("192.0.2.1", 0, 60)
	for _, e := range w.events {
		e.Edge = "webhook:nginx"
	}
	w.play(2 * time.Minute)
	if c := w.the(defense.CaseClient); !c.ObserveOnly {
		t.Error("a decision could come of it")
	}
	w.hammer("192.0.2.1", 2*time.Minute, 60)
	w.play(4 * time.Minute)
	open := 0
	for _, c := range w.cases() {
		if c.Key == "192.0.2.1" && !c.ObserveOnly {
			open++
			if c.EventCount > 60 {
				t.Errorf("%d events: those of the webhook are among them", c.EventCount)
			}
		}
	}
	if open != 1 {
		t.Errorf("%d cases of what the edge saw, want 1", open)
	}

	w = newWorld(t, func(o *Options) { o.Vouched = func(e *defense.Event) bool { return e.Edge == "webhook:nginx" } })
	w.hammer("192.0.2.1", 0, 60)
	for _, e := range w.events {
		e.Edge = "webhook:nginx"
	}
	w.play(2 * time.Minute)
	if c := w.the(defense.CaseClient); c.ObserveOnly {
		t.Error("the source vouches for the client, and the case is for looking at only")
	}
}

func TestACaseOfSeveralSitesNamesNone(t *testing.T) {
	w := newWorld(t)
	w.hammer("192.0.2.1", 0, 60)
	w.play(30 * time.Second)
	w.hammer("192.0.2.1", 40*time.Second, 60)
	for _, e := range w.events[len(w.events)-60:] {
		e.Site = "forge"
	}
	w.play(3 * time.Minute)
	if c := w.the(defense.CaseClient); c.Site != "" {
		t.Errorf("site %q", c.Site)
	}
}

func TestAClearanceIsAClientOfItsOwn(t *testing.T) {
	w := newWorld(t)
	for i := range 30 { // readers behind one address, with clearances
		e := w.event("192.0.2.1", time.Duration(i)*time.Second, "/wiki/A", chrome)
		e.Client.Token = fmt.Sprint("token", i)
	}
	w.hammer("192.0.2.1", 0, 60)
	w.play(2 * time.Minute)
	c := w.the(defense.CaseClient)
	if c.Key != "192.0.2.1" || c.EventCount != 60 {
		t.Errorf("%s with %d events", c.Key, c.EventCount)
	}
	if c.Readers < 20 || c.Readers > 40 {
		t.Errorf("%d readers beside it, want about 30", c.Readers)
	}
	// Who earned a clearance and then behaves like a scraper is a case all the same.
	w = newWorld(t)
	w.hammer("192.0.2.1", 0, 100)
	for _, e := range w.events {
		e.Client.Token = "token"
		e.Request.Referrer = "https://wiki.example/elsewhere"
	}
	w.play(2 * time.Minute)
	if c := w.the(defense.CaseClient); c.Key != "192.0.2.1" {
		t.Errorf("key %q", c.Key)
	}
}

func TestForgettingAClientLeavesNoTrace(t *testing.T) {
	w := newWorld(t)
	w.hammer("203.0.113.7", 0, 60)
	w.hammer("203.0.114.7", 0, 60)
	for i := range 100 {
		w.scrape(fmt.Sprintf("198.51.100.%d", i), time.Duration(i)*time.Second/2, 2, firefox, revisions(i))
	}
	w.play(2 * time.Minute)
	before := w.cases()
	if len(before) != 3 {
		t.Fatalf("cases %s", keys(before))
	}
	w.Forget(netip.MustParsePrefix("203.0.113.7/32"))
	w.Forget(netip.MustParsePrefix("198.51.100.99/32"))
	w.Forget(netip.Prefix{})
	open := 0
	for _, c := range before {
		now, ok := w.Case(c.ID)
		if ok {
			open++
		}
		if ok != (c.Key != "203.0.113.7") || slices.Contains(now.Members.Sample, "198.51.100.99") {
			t.Errorf("%s is open: %v, members %v", c.Key, ok, now.Members.Sample)
		}
	}
	if text := fmt.Sprintf("%+v", w.Due(w.at.Add(time.Hour), 100)); open != 2 || strings.Contains(text, "203.0.113.7") {
		t.Errorf("%d cases are left: %s", open, text)
	}
	w.Forget(netip.MustParsePrefix("0.0.0.0/0"))
	if s := w.Stats(); s.Clients != 0 {
		t.Errorf("%d clients are left", s.Clients)
	}
}

func TestEventsWithoutClientOrTimeAreSkipped(t *testing.T) {
	w := newWorld(t)
	w.Observe(&defense.Event{})
	w.Observe(&defense.Event{Time: start, Client: defense.EventClient{Address: "hash:1234"}})
	w.Observe(&defense.Event{Client: defense.EventClient{Address: "192.0.2.1"}})
	w.Observe(&defense.Event{Time: time.Unix(-5, 0), Client: defense.EventClient{Address: "192.0.2.1"}})
	if s := w.Stats(); s.Skipped != 4 {
		t.Errorf("%d were skipped", s.Skipped)
	}
	// A clock that is wrong must not carry the book's along.
	w.Observe(&defense.Event{Time: start.Add(1000 * time.Hour), Client: defense.EventClient{Address: "192.0.2.1"}})
	if ahead := time.UnixMilli(w.Book.now).Sub(w.at); ahead > 0 {
		t.Errorf("the book is %s ahead", ahead)
	}
}
