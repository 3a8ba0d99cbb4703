package behaviour

import (
	"fmt"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestOdditiesAddUp(t *testing.T) {
	everything := func(_, _, _ string) (bool, bool) { return true, true }
	wordless := func(e *defense.Event) { e.Request.Headers.AcceptLanguage = "" }
	for _, c := range []struct {
		name   string
		ctx    Context
		family defense.AgentFamily
		events []*defense.Event
		want   Oddity
	}{
		{"a reader with a cold cache", seen, defense.AgentBrowser, []*defense.Event{page(0, "/"), asset(1), asset(2), page(30*time.Second, "/a", from("/")), page(40*time.Second, "/b", from("/a"))}, 0},
		{"a text browser", seen, defense.AgentBrowser, []*defense.Event{page(0, "/"), page(30*time.Second, "/a", from("/")), page(99*time.Second, "/b", from("/a"))}, OddAssets},
		{"a scraper with a clock", seen, defense.AgentBrowser, pages(30, 2*time.Second), OddPace | OddClock | OddAssets | OddReferrers},
		{"a browser may go where robots may not", Context{Robots: everything}, defense.AgentBrowser, pages(3, time.Minute, from("/x")), 0},
		{"a tool may not", Context{Robots: everything}, defense.AgentTool, pages(3, time.Minute), OddRobots},
		{"names no language", Context{}, defense.AgentBrowser, pages(3, time.Minute, wordless), OddLanguage},
		{"passes no challenge", Context{}, defense.AgentBrowser, pages(3, time.Minute, challenged("issued")), OddChallenge},
		{"nothing is odd about nothing", Context{}, defense.AgentUnknown, []*defense.Event{asset(0)}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := watch(c.ctx, c.events...).Measure(start.Add(20 * time.Minute))
			if got := m.Oddities(c.family); got != c.want {
				t.Errorf("odd are %q, want %q", got, c.want)
			}
		})
	}
	if o := OddPace | OddAssets; o.Count() != 2 || o.Weight() != 3 || o.String() != "pace+assets" {
		t.Errorf("%d, %d, %q", o.Count(), o.Weight(), o)
	}
}

func TestAStandingNeedsTwoReasonsToBeOdd(t *testing.T) {
	external := func(e *defense.Event) { e.Request.Referrer = "https://news.example/" }
	for _, c := range []struct {
		name   string
		events []*defense.Event
		want   Standing
	}{
		{"came by a link elsewhere, and fetched nothing", []*defense.Event{page(0, "/a", external)}, StandingUnknown},
		{"came by a link elsewhere, and fetched assets", []*defense.Event{page(0, "/a", external), asset(1)}, StandingReader},
		{"opened a page within the site, and fetched nothing", []*defense.Event{page(0, "/a")}, StandingOdd},
		{"opened the start page", []*defense.Event{page(0, "/")}, StandingUnknown},
		{"names a page that it never saw", []*defense.Event{page(0, "/a", from("/b"))}, StandingOdd},
		{"two pages by forged links", []*defense.Event{page(0, "/a", external), page(time.Minute, "/b", external)}, StandingOdd},
		{"was challenged and passed", []*defense.Event{page(0, "/a", challenged("issued")), page(3*time.Second, "/p", challenged("passed"))}, StandingReader},
		{"was challenged and did not come back", []*defense.Event{page(0, "/a", challenged("issued"))}, StandingOdd},
		{"has a clearance", []*defense.Event{page(0, "/a", func(e *defense.Event) { e.Client.Token = "1" })}, StandingReader},
		{"has the page already", []*defense.Event{page(0, "/a", status(304))}, StandingReader},
		{"one asset for a hundred pages", append([]*defense.Event{asset(0)}, pages(100, time.Second)...), StandingUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := watch(seen, c.events...)
			now := c.events[len(c.events)-1].Time.Add(Settling)
			m := client.Measure(now)
			if got := client.Standing(now, &m); got != c.want {
				t.Errorf("standing %d, want %d: %s", got, c.want, fmt.Sprint(client.Features(now).Values))
			}
		})
	}
}
