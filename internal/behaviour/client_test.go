package behaviour

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quickthorn/quickthorn/internal/defense"
)

const missing = -1 // in tables: not observed

func TestAFeatureIsWhatTheEventsShow(t *testing.T) {
	robots := func(_, _, path string) (bool, bool) { return strings.HasPrefix(path, "/w/"), true }
	hidden := func(_, _, _ string) (bool, bool) { return false, false }
	six := func(p string) (out []*defense.Event) {
		for i := range 6 {
			out = append(out, page(time.Duration(i)*time.Minute, fmt.Sprintf(p, i+10)))
		}
		return out
	}
	for _, c := range []struct {
		name    string
		ctx     Context
		events  []*defense.Event
		after   time.Duration // since the first event
		feature string
		want    float64
	}{
		{"requests of all kinds count", seen, []*defense.Event{page(0, "/"), asset(1 * time.Second)}, time.Minute, "requests", 2},
		{"navigations are documents", seen, []*defense.Event{page(0, "/"), asset(1 * time.Second)}, time.Minute, "navigations", 1},
		{"the way through a challenge is no navigation", seen, []*defense.Event{page(0, "/", challenged("issued")), page(3*time.Second, "/.quickthorn/pass", challenged("passed"))}, time.Minute, "navigations", 1},
		{"appeals are not behaviour", seen, []*defense.Event{page(0, "/", func(e *defense.Event) { e.Kind = "appeal" })}, time.Minute, "requests", 0},

		{"a rate is at least over a minute", seen, pages(10, time.Second), time.Minute, "rate", 10},
		{"a rate is over the time of activity", seen, pages(21, 6*time.Second), time.Hour / 2, "rate", 10.5},
		{"long pauses do not hide a rate", seen, []*defense.Event{page(0, "/a"), page(25*time.Minute, "/b")}, 26 * time.Minute, "rate", 0.4},
		{"a burst is of ten seconds", seen, pages(9, time.Second), time.Minute, "burst", 9},
		{"a burst across periods is one", seen, []*defense.Event{page(8*time.Second, "/a"), page(9*time.Second, "/b"), page(11*time.Second, "/c"), page(12*time.Second, "/d")}, time.Minute, "burst", 3},
		{"a clock is regular", seen, pages(8, 20*time.Second), 5 * time.Minute, "regularity", 1},
		{"people are not", seen, []*defense.Event{page(0, "/a"), page(5*time.Second, "/b"), page(95*time.Second, "/c"), page(99*time.Second, "/d"), page(300*time.Second, "/e")}, 5 * time.Minute, "regularity", 0.48},
		{"tabs opened at once have no rhythm", seen, pages(12, time.Millisecond), time.Minute, "regularity", missing},
		{"regularity needs five navigations", seen, pages(4, time.Second), time.Minute, "regularity", missing},
		{"events a little out of order are in order", seen, []*defense.Event{page(2*time.Second, "/a"), page(1*time.Second, "/b"), page(62*time.Second, "/c"), page(122*time.Second, "/d"), page(182*time.Second, "/e")}, 5 * time.Minute, "burst", 2},
		{"events that come much later tell nothing of the pace", seen, []*defense.Event{page(60*time.Second, "/a"), page(10*time.Second, "/b"), page(11*time.Second, "/c"), page(12*time.Second, "/d")}, 5 * time.Minute, "burst", 1},

		{"different pages", seen, pages(10, time.Minute), 10 * time.Minute, "breadth", 1},
		{"one page again and again", seen, slices.Repeat([]*defense.Event{page(0, "/a")}, 10), time.Minute, "breadth", 0.1},
		{"the order of parameters makes no other page", seen, []*defense.Event{page(0, "/w", query("a=1&b=2")), page(1, "/w", query("b=2&a=1")), page(2, "/w", query("&a=1&b=2")), page(3, "/w", query("a=1&b=3"))}, time.Minute, "breadth", 0.5},
		{"breadth needs three navigations", seen, pages(2, time.Second), time.Minute, "breadth", missing},
		{"depth is of paths", seen, []*defense.Event{page(0, "/"), page(1, "/a/b//c/")}, time.Minute, "depth", 1.5},
		{"one kind of page", seen, six("/wiki/Page_%d/history"), time.Hour / 4, "patternShare", 1},
		{"several kinds of page", seen, []*defense.Event{page(0, "/wiki/A"), page(1, "/wiki/A/history"), page(2, "/user/7/posts"), page(3, "/wiki/B")}, time.Minute, "patternShare", 0.5},
		{"numbers in order", seen, six("/item/%d"), time.Hour / 4, "sequential", 1},
		{"numbers in no order", seen, []*defense.Event{page(0, "/item/5"), page(1, "/item/900"), page(2, "/item/17"), page(3, "/item/44"), page(4, "/item/2")}, time.Minute, "sequential", 0},
		{"steps of the same size are an order", seen, []*defense.Event{page(0, "/list", query("start=0")), page(1, "/list", query("start=20")), page(2, "/list", query("start=40")), page(3, "/list", query("start=60")), page(4, "/list", query("start=80"))}, time.Minute, "sequential", 0.5},
		{"neighbouring revisions are an order", seen, []*defense.Event{page(0, "/w", query("diff=8&oldid=7")), page(1, "/w", query("diff=9&oldid=8")), page(2, "/w", query("diff=10&oldid=9")), page(3, "/w", query("diff=11&oldid=10"))}, time.Minute, "sequential", 1},
		{"hashes are no numbers", seen, six("/commit/a%db"), time.Hour / 4, "sequential", 0},
		{"queries", seen, []*defense.Event{page(0, "/w", query("a=1")), page(1, "/a")}, time.Minute, "queried", 0.5},

		{"assets for each page", seen, []*defense.Event{page(0, "/"), asset(1 * time.Second), asset(1 * time.Second), page(time.Minute, "/a")}, 2 * time.Minute, "assets", 1},
		{"no assets", seen, pages(3, time.Minute), 10 * time.Minute, "assets", 0},
		{"assets may still come", seen, pages(1, time.Minute), 5 * time.Second, "assets", missing},
		{"they have had their time", seen, pages(1, time.Minute), 10 * time.Second, "assets", 0},
		{"after a slow page they come later", seen, pages(1, time.Minute, func(e *defense.Event) { e.Response.Duration = 30 }), 35 * time.Second, "assets", missing},
		{"a page that is not modified needs none", seen, []*defense.Event{page(0, "/"), page(time.Minute, "/a", status(304))}, 5 * time.Minute, "assets", missing},
		{"a redirect has none", seen, pages(3, time.Minute, status(302)), 10 * time.Minute, "assets", missing},
		{"a page that the edge answered has none", seen, pages(3, time.Minute, challenged("issued")), 10 * time.Minute, "assets", missing},
		{"an earlier visit explains that there are none", seen, append([]*defense.Event{asset(-2 * time.Hour)}, pages(3, time.Minute)...), 2*time.Hour + 10*time.Minute, "assets", missing},
		{"a clearance does", seen, pages(3, time.Minute, func(e *defense.Event) { e.Client.Token = "1" }), 10 * time.Minute, "assets", missing},
		{"a source that does not see assets tells nothing", Context{}, pages(3, time.Minute), 10 * time.Minute, "assets", missing},
		{"a part of the requests tells nothing of the rest", Context{Assets: true, Referrers: true, Sampled: true}, pages(3, time.Minute), 10 * time.Minute, "assets", missing},
		{"revalidations", seen, []*defense.Event{page(0, "/"), asset(1, status(304)), page(2, "/a", status(304)), asset(3)}, time.Minute, "revalidated", 0.5},

		{"referrers do not count for the first page", seen, pages(1, time.Second, from("/")), time.Minute, "referred", missing},
		{"half of the later pages are referred", seen, []*defense.Event{page(0, "/"), page(1, "/a", from("/")), page(2, "/b")}, time.Minute, "referred", 0.5},
		{"a log without referrers tells nothing of them", Context{}, pages(5, time.Second, fromLog), time.Minute, "referred", missing},
		{"a log with referrers does", Context{Referrers: true}, pages(5, time.Second, fromLog), time.Minute, "referred", 0},
		{"a referrer that was visited is not odd", seen, []*defense.Event{page(0, "/a"), page(1, "/b", from("/a"))}, time.Minute, "referrerOdd", 0},
		{"one that was never visited is", seen, []*defense.Event{page(0, "/a"), page(1, "/b", from("/c"))}, time.Minute, "referrerOdd", 1},
		{"also of a client with many pages", seen, append(pages(40, time.Second), page(time.Minute, "/b", from("/c"))), time.Minute, "referrerOdd", 1.0 / 40},
		{"the name of the site alone says little", seen, []*defense.Event{page(0, "/a"), page(1, "/b", from("/"))}, time.Minute, "referrerOdd", 0},
		{"another site's page is none of ours", seen, []*defense.Event{page(0, "/a"), page(1, "/b", func(e *defense.Event) { e.Request.Referrer = "https://news.example/wiki" })}, time.Minute, "referrerOdd", 0},
		{"encoded referrers are understood", seen, []*defense.Event{page(0, "/bär"), page(1, "/b", from("/b%C3%A4r#top"))}, time.Minute, "referrerOdd", 0},

		{"disallowed pages", Context{Robots: robots}, []*defense.Event{page(0, "/w/a"), page(1, "/b")}, time.Minute, "disallowed", 0.5},
		{"without robots.txt none is", Context{Robots: hidden}, pages(3, time.Second), time.Minute, "disallowed", missing},
		{"traps", seen, []*defense.Event{page(0, "/trap", func(e *defense.Event) { e.Kind = "trap" })}, time.Minute, "traps", 1},
		{"errors", seen, []*defense.Event{page(0, "/a", status(403)), page(1, "/b", status(404)), page(2, "/c"), page(3, "/d", status(500))}, time.Minute, "errors", 0.5},
		{"what is not there", seen, []*defense.Event{page(0, "/a", status(410)), page(1, "/b", status(404)), page(2, "/c"), page(3, "/d", status(403))}, time.Minute, "notFound", 0.5},
		{"to be told to slow down is no error", seen, pages(3, time.Second, status(429)), time.Minute, "errors", 0},
		{"the edge's own refusals are none", seen, []*defense.Event{page(0, "/a"), page(1, "/b", func(e *defense.Event) { e.Verdict.Action, e.Response.Status = defense.Deny, 403 })}, time.Minute, "errors", 0},

		{"the hours of the day need acquaintance", seen, pages(3, time.Hour), 5 * time.Hour, "hours", missing},
		{"the hours of the day", seen, pages(7, time.Hour), 6 * time.Hour, "hours", 7.0 / 24},
		{"the hours of yesterday do not count", seen, []*defense.Event{page(0, "/a"), page(1*time.Hour, "/b"), page(30*time.Hour, "/c")}, 30 * time.Hour, "hours", 1.0 / 24},
		{"agents", seen, []*defense.Event{page(0, "/a"), page(1, "/b", func(e *defense.Event) { e.Request.Agent = "curl/8" }), page(2, "/c")}, time.Minute, "agents", 2},
		{"shapes", seen, []*defense.Event{page(0, "/a"), page(1, "/b", func(e *defense.Event) { e.Request.Headers.Shape = "1" }), page(2, "/c")}, time.Minute, "shapes", 2},
		{"a log shows no shapes", seen, pages(3, time.Second, fromLog), time.Minute, "shapes", missing},
		{"a language is named", seen, []*defense.Event{page(0, "/a"), page(1, "/b", func(e *defense.Event) { e.Request.Headers.AcceptLanguage = "" })}, time.Minute, "languageless", 0.5},
		{"a log shows no languages", seen, pages(3, time.Second, fromLog), time.Minute, "languageless", missing},
		{"the score is a mean", seen, []*defense.Event{page(0, "/a", func(e *defense.Event) { e.Verdict.Score = 40 }), page(1, "/b")}, time.Minute, "score", 20},
		{"challenges", seen, pages(3, time.Second, challenged("issued")), time.Minute, "challenged", 3},
		{"challenges that are passed", seen, []*defense.Event{page(0, "/a", challenged("issued")), page(1, "/p", challenged("passed"))}, time.Minute, "solved", 1},
		{"challenges that are not", seen, []*defense.Event{page(0, "/a", challenged("issued")), page(1, "/p", challenged("failed"))}, time.Minute, "solved", 0},
		{"nobody passes what is not shown", seen, pages(3, time.Second), time.Minute, "solved", missing},
		{"sizes", seen, pages(3, time.Second), time.Minute, "bytes", 10240},

		{"what is older than the window does not count", seen, pages(3, time.Second), 2 * time.Hour, "navigations", 0},
		{"of a client that goes on, the last half hour and the one before count", seen, pages(100, time.Minute), 99 * time.Minute, "navigations", 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := watch(c.ctx, c.events...)
			first := c.events[0].Time
			v, ok := client.Features(first.Add(c.after)).Values[c.feature]
			switch {
			case c.want == missing && ok:
				t.Errorf("%s is %v; it was not observed", c.feature, v)
			case c.want != missing && (!ok || math.Abs(v-c.want) > 0.011):
				t.Errorf("%s is %v (observed: %v), want %v", c.feature, v, ok, c.want)
			}
		})
	}
}

func TestAClientStartsSmallAndGrowsOnce(t *testing.T) {
	c := new(Client)
	for i, e := range pages(50, time.Second) {
		c.Observe(e, seen)
		if got := c.Grown(); got != (i >= 2) {
			t.Fatalf("after %d navigations Grown is %v", i+1, got)
		}
	}
	if lean := watch(Context{Lean: true}, pages(50, time.Second)...); lean.Grown() || lean.Navigations() != 50 {
		t.Error("a lean client grew, or lost count")
	}
	c.Shrink()
	if c.Grown() || c.Navigations() != 50 {
		t.Error("a client that was made small is large, or lost count")
	}
	if _, ok := c.Features(start.Add(time.Minute)).Values["breadth"]; ok {
		t.Error("the breadth of a client that was made small is known")
	}
}

func TestBreadthIsRightForThousandsOfPages(t *testing.T) {
	c := watch(seen, pages(2000, 500*time.Millisecond)...)
	if v := c.Features(start.Add(1000 * time.Second)).Values["breadth"]; v < 0.85 {
		t.Errorf("2,000 different pages have a breadth of %v", v)
	}
	var twice []*defense.Event
	for range 2 {
		twice = append(twice, pages(500, 500*time.Millisecond)...)
	}
	if v := watch(seen, twice...).Features(start.Add(1000 * time.Second)).Values["breadth"]; math.Abs(v-0.5) > 0.05 {
		t.Errorf("500 pages read twice have a breadth of %v", v)
	}
}

func TestCountersDoNotOverflow(t *testing.T) {
	c := new(Client)
	e := page(0, "/w/1", query("a=1"), from("/x"), status(404), func(e *defense.Event) {
		e.Verdict.Score, e.Response.Bytes = math.MaxInt, math.MaxInt64
		e.Request.Headers.AcceptLanguage = ""
	})
	for i := range 200_000 {
		e.Time = start.Add(time.Duration(i) * time.Millisecond)
		c.Observe(e, Context{Assets: true, Referrers: true, Robots: func(_, _, _ string) (bool, bool) { return true, true }})
	}
	f := c.Features(e.Time)
	for name, want := range map[string]float64{"requests": 200_000, "navigations": 200_000, "errors": 1, "disallowed": 1, "languageless": 1, "referred": 1, "referrerOdd": 1, "queried": 1, "score": 100} {
		if got := f.Values[name]; math.Abs(got-want) > 0.001*want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestHostileEventsDoNoHarm(t *testing.T) {
	c := new(Client)
	for _, e := range []*defense.Event{
		{}, {Time: time.Unix(-1, 0)}, {Time: time.Unix(1<<60, 0)}, {Kind: "challenge", Time: start},
		page(0, "", func(e *defense.Event) { e.Request.Referrer = "://" }), page(0, "\xff%", from("%zz\x00?#")), page(0, "/a", func(e *defense.Event) { e.Request.Referrer = "https://wiki.example:443" }),
		page(0, "/a", func(e *defense.Event) { e.Response.Duration, e.Response.Bytes, e.Verdict.Score = math.NaN(), -5, -7 }),
		page(0, "/a", func(e *defense.Event) { e.Response.Duration = math.Inf(1) }),
		page(0, "/9999999999999999999999999999999/1", query(strings.Repeat("&", 5000))),
	} {
		c.Observe(e, Context{Assets: true, Referrers: true, Links: NewLinkGraph(0)})
	}
	for name, v := range c.Features(start.Add(time.Minute)).Values {
		if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
			t.Errorf("%s is %v", name, v)
		}
	}
}

func TestMeasuringIsReproducible(t *testing.T) {
	a := watch(seen, pages(300, 3*time.Second)...).Features(start.Add(15 * time.Minute))
	b := watch(seen, pages(300, 3*time.Second)...).Features(start.Add(15 * time.Minute))
	if d := cmp.Diff(a, b); d != "" {
		t.Error(d)
	}
}

func TestAVectorHasNaNForWhatIsMissing(t *testing.T) {
	f := NewFeatures([]float64{3, math.NaN(), 2, math.Inf(1)})
	if want := map[string]float64{"requests": 3, "rate": 2}; !cmp.Equal(f.Values, want) {
		t.Errorf("values %v, want %v", f.Values, want)
	}
	v := Vector(f)
	if len(v) != len(Schema()) || v[0] != 3 || !math.IsNaN(v[1]) || v[2] != 2 {
		t.Errorf("vector %v", v)
	}
	f.Schema++
	if v := Vector(f); !math.IsNaN(v[0]) {
		t.Error("features of another schema have a vector")
	}
}

func TestCampaignFeaturesAreMeansOfWhatMostMembersShow(t *testing.T) {
	var a, b Measured
	for i := range a {
		a[i], b[i] = math.NaN(), math.NaN()
	}
	a[iRate], b[iRate], a[iDepth] = 2, 4, 3
	nan := math.NaN()
	f := CampaignFeatures([]Measured{a, b, b, b, b}, Crowd{Clients: 5, Fresh: nan, Quiet: 1, Spread: nan, AgentsPerShape: nan, Onset: nan, Readers: 0})
	if want := map[string]float64{"rate": 18.0 / 5, "clients": 5, "quiet": 1, "readers": 0}; !cmp.Equal(f.Values, want) {
		t.Errorf("values %v, want %v: depth is known of a fifth only", f.Values, want)
	}
}

func TestEveryFeatureHasASentence(t *testing.T) {
	for _, f := range Schema() {
		for _, v := range []float64{0, 0.004, 0.5, 0.999, 1, 3, 212.4, 5e6} {
			if s := Describe(f.Name, v); strings.Contains(s, f.Name+" is") || strings.Contains(s, "%!") || strings.HasSuffix(s, ".") || len(s) < 10 {
				t.Errorf("%s = %v: %q", f.Name, v, s)
			}
		}
	}
	for name, want := range map[string]string{
		Describe("navigations", 212):    "asked for 212 pages within the hour",
		Describe("rate", 20):            "asked for 20 pages a minute while active, one every 3 s",
		Describe("assets", 0):           "fetched no style sheet, script or image of any page",
		Describe("traps", 1):            "followed 1 link that people do not see",
		Describe("bytes", 20480):        "was given 20 KiB for each page on average",
		Describe("traps", 2):            "followed 2 links that people do not see",
		Describe("assets", math.NaN()):  `"assets" was not observed`,
		Describe("something else", 1.5): "something else is 1.5",
	} {
		if name != want {
			t.Errorf("got %q, want %q", name, want)
		}
	}
}

func FuzzObserve(f *testing.F) {
	f.Add("/a/1", "b=2&c", "https://wiki.example/x?y#z", "request", int64(1), 200, 0.5, int64(3))
	f.Fuzz(func(t *testing.T, path, q, referrer, kind string, ms int64, code int, duration float64, size int64) {
		c, ctx := new(Client), Context{Assets: true, Referrers: true, Links: NewLinkGraph(4)}
		for i := range 6 {
			e := page(0, path, query(q), status(code))
			e.Kind, e.Request.Referrer, e.Response.Duration, e.Response.Bytes = kind, referrer, duration, size
			e.Time = time.UnixMilli(ms + int64(i)*ms/3)
			c.Observe(e, ctx)
		}
		m := c.Measure(time.UnixMilli(ms))
		for i, v := range m {
			if math.IsInf(v, 0) || v < 0 {
				t.Errorf("feature %d is %v", i, v)
			}
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	events := pages(512, 2*time.Second, func(e *defense.Event) {
		e.Request.Query = "title=Some_Page&oldid=1042"
		e.Request.Referrer = "https://wiki.example/wiki/Page_b1?x=1"
	})
	ctx := Context{Assets: true, Referrers: true, Links: NewLinkGraph(0)}
	c := new(Client)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c.Observe(events[i%len(events)], ctx)
		i++
	}
}
