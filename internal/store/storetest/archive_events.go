package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store"
)

const chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"

// Noon is the time of the events that tests make.
func Noon() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

// Event makes the nth event: n seconds after Noon, with an id of that time.
func Event(n int, change ...func(*defense.Event)) *defense.Event {
	at := Noon().Add(time.Duration(n) * time.Second)
	var id ulid.ULID
	if err := id.SetTime(ulid.Timestamp(at)); err != nil {
		panic(err)
	}
	id[15], id[14], id[13] = byte(n), byte(n>>8), byte(n>>16)
	request := id
	request[6] = 1
	e := &defense.Event{
		Schema: 1, Kind: "request", ID: id.String(), RequestID: request.String(), Time: at, Site: "wiki", Edge: "edge-1",
		Client: defense.EventClient{Address: "192.0.2.77", Prefix: "192.0.2.0/24"},
		Request: defense.EventRequest{
			Method: "GET", Host: "wiki.example.org", Path: "/Hedge", Kind: defense.KindNavigation, Protocol: "HTTP/2.0",
			Agent: chrome, Family: defense.AgentBrowser,
		},
		Verdict: defense.EventVerdict{
			Action: defense.Observe, Intended: defense.Challenge, Score: 60, Rule: "threshold:50",
			Reason: "the score 60 reaches the threshold 50",
		},
		Signals:  []defense.Signal{{Name: "no-sec-fetch", Weight: 60, Sentence: "claims Chrome 141 but sends no Sec-Fetch headers"}},
		Response: defense.EventResponse{Status: 200, Bytes: 1024, Duration: 0.0123},
	}
	for _, f := range change {
		f(e)
	}
	return e
}

// Varied makes the nth event of a crowd of clients with a few hundred agents.
func Varied(n int) *defense.Event {
	return Event(n, func(e *defense.Event) {
		e.Time = Noon().Add(time.Duration(n) * time.Millisecond)
		h := uint32(n) * 2654435761
		e.Client.Address = fmt.Sprintf("%d.%d.%d.%d", 1+h>>24%200, h>>16&255, h>>8&255, h&255)
		e.Request.Agent = fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) Chrome/%d.0.0.0", h%300)
		e.Request.Path = fmt.Sprintf("/wiki/Page_%d", h%100000)
		e.Request.Query = fmt.Sprintf("oldid=%d&action=history", h)
	})
}

// ContractEvents returns the events of the contract that producers and consumers test against. It expects to run in a folder beside this package's.
func ContractEvents(t testing.TB) []*defense.Event {
	t.Helper()
	text, err := os.ReadFile("../../defense/testdata/event.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var events []*defense.Event
	if err := json.Unmarshal(text, &events); err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		e.Transient = false // an archive is never given those
	}
	return events
}

func put(t testing.TB, a store.Archive, events ...*defense.Event) {
	t.Helper()
	if _, err := a.Append(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB, a store.Archive, f record.Filter) []defense.Event {
	t.Helper()
	page, err := a.Events(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return page.Events
}

func testEventsComeBackAsTheyWereWritten(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	put(t, a, ContractEvents(t)...)
	got := find(t, a, record.Filter{})
	want := ContractEvents(t)
	if diff := cmp.Diff([]defense.Event{*want[1], *want[0]}, got); diff != "" {
		t.Errorf("(-written +read)\n%s", diff)
	}
}

func testABatchSentAgainIsNotStoredTwice(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	put(t, a, Event(1), Event(2))
	n, err := a.Append(t.Context(), []*defense.Event{Event(1), Event(2), Event(3)})
	if err != nil || n != 2 {
		t.Fatalf("%d duplicates, %v; want 2", n, err)
	}
	if got := find(t, a, record.Filter{}); len(got) != 3 {
		t.Errorf("%d events, want 3", len(got))
	}
}

func testHostileTextIsStoredSafely(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	put(t, a, Event(1, func(e *defense.Event) {
		e.ID, e.RequestID = "not-a-ulid", "'; DROP TABLE events; --"
		e.Request.Agent = "\x1b[31mred\x00\xff" + strings.Repeat("é", 1000)
		e.Request.Path = "/\xc3" + strings.Repeat("x", 5000)
		e.Request.Query = "q='\";--&\xf0\x9f"
		e.Client.Address = "not an address"
		e.Response.UpstreamDuration = 1e300
		e.Response.Bytes = -1
	}))
	got := find(t, a, record.Filter{})
	if len(got) != 1 {
		t.Fatalf("%d events", len(got))
	}
	e := got[0]
	if e.ID != "not-a-ulid" || e.RequestID != "'; DROP TABLE events; --" {
		t.Errorf("ids %q, %q", e.ID, e.RequestID)
	}
	if want := "\x1b[31mred\u2400\uFFFDé"; !strings.HasPrefix(e.Request.Agent, want) || len(e.Request.Agent) > 512 {
		t.Errorf("agent %.40q… of %d bytes", e.Request.Agent, len(e.Request.Agent))
	}
	if !strings.HasPrefix(e.Request.Path, "/\uFFFDxxx") || len(e.Request.Path) > 2048 {
		t.Errorf("path %.40q… of %d bytes", e.Request.Path, len(e.Request.Path))
	}
	if e.Client.Address != "" || e.Client.Prefix != "" {
		t.Errorf("client %+v", e.Client)
	}
	if b, err := json.Marshal(e); err != nil || bytes.ContainsRune(b, '\x1b') {
		t.Errorf("as JSON: %v\n%s", err, b)
	}
}

func testFilters(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	deny := func(e *defense.Event) {
		e.Verdict.Action, e.Verdict.Intended, e.Verdict.Rule = defense.Deny, defense.Deny, "ai-training"
	}
	put(t, a,
		Event(1),
		Event(2, deny, func(e *defense.Event) {
			e.Client.Address = "2001:db8:1:2::5"
			e.Request.Agent, e.Request.Family = "GPTBot/1.2", defense.AgentCrawler
			e.Identity.Crawler, e.Identity.Status = "gptbot", defense.IdentityVerified
			e.Request.Path = "/Special:Log_100%"
		}),
		Event(3, func(e *defense.Event) {
			e.Site, e.Request.Host, e.Client.Address = "forge", "git.example.org", "192.0.2.200"
		}),
		Event(4, func(e *defense.Event) { e.Kind, e.Request.Kind = "challenge", defense.KindAPI }),
		// Its bytes begin like those of 192.0.2.77.
		Event(5, func(e *defense.Event) { e.Client.Address = "c000:24d::1" }),
	)
	prefix := netip.MustParsePrefix
	tests := []struct {
		name string
		f    record.Filter
		want string
	}{
		{"none", record.Filter{}, "5 4 3 2 1"},
		{"since is inclusive", record.Filter{Since: Noon().Add(4 * time.Second)}, "5 4"},
		{"until is exclusive", record.Filter{Until: Noon().Add(2 * time.Second)}, "1"},
		{"site", record.Filter{Site: "forge"}, "3"},
		{"host", record.Filter{Host: "wiki.example.org"}, "5 4 2 1"},
		{"action", record.Filter{Action: new(defense.Deny)}, "2"},
		{"intended", record.Filter{Intended: new(defense.Challenge)}, "5 4 3 1"},
		{"kind of request", record.Filter{Kind: new(defense.KindAPI)}, "4"},
		{"kind of event", record.Filter{Event: "challenge"}, "4"},
		{"rule", record.Filter{Rule: "ai-training"}, "2"},
		{"crawler", record.Filter{Crawler: "gptbot"}, "2"},
		{"part of an agent without case", record.Filter{Agent: "gptBOT/"}, "2"},
		{"an agent's wildcard is a letter", record.Filter{Agent: "%"}, ""},
		{"part of a path", record.Filter{Path: ":Log_100%"}, "2"},
		{"a path's case counts", record.Filter{Path: ":log"}, ""},
		{"address", record.Filter{Client: prefix("192.0.2.77/32")}, "4 1"},
		{"IPv4 range", record.Filter{Client: prefix("192.0.2.0/24")}, "4 3 1"},
		{"half a range", record.Filter{Client: prefix("192.0.2.128/25")}, "3"},
		{"everything in IPv4", record.Filter{Client: prefix("0.0.0.0/0")}, "4 3 1"},
		{"IPv6 range", record.Filter{Client: prefix("2001:db8::/32")}, "2"},
		{"id of an event", record.Filter{ID: Event(3).ID}, "3"},
		{"id of a request", record.Filter{ID: Event(3).RequestID}, "3"},
		{"unknown id", record.Filter{ID: "nothing"}, ""},
		{"all at once", record.Filter{Site: "wiki", Action: new(defense.Observe), Client: prefix("192.0.2.77/32"), Kind: new(defense.KindNavigation)}, "1"},
		{"injection", record.Filter{Site: "' OR 1=1 --"}, ""},
		{"limit", record.Filter{Limit: 2}, "5 4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, e := range find(t, a, tt.f) {
				got = append(got, fmt.Sprint(int(e.Time.Sub(Noon())/time.Second)))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("events %q, want %q", s, tt.want)
			}
		})
	}
}

func testPagesTileTheArchiveEvenWithinOneMillisecond(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	var events []*defense.Event
	for n := range 25 {
		events = append(events, Event(n, func(e *defense.Event) { e.Time = Noon().Add(time.Duration(n/10) * time.Millisecond) }))
	}
	put(t, a, events...)
	seen := map[string]bool{}
	q := record.Filter{Limit: 7}
	for pages := 0; ; pages++ {
		page, err := a.Events(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if seen[e.ID] {
				t.Fatalf("%s came twice", e.ID)
			}
			seen[e.ID] = true
		}
		if q.Before = page.Next; q.Before == "" {
			break
		}
		if pages > 10 {
			t.Fatal("the pages do not end")
		}
	}
	if len(seen) != 25 {
		t.Errorf("%d events in all pages, want 25", len(seen))
	}
}

func testSenselessFiltersAreTold(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	hashed := f.Open(t, privacy.Settings{Addresses: privacy.Hashed, Key: bytes.Repeat([]byte("k"), 32)})
	for _, tt := range []struct {
		a store.Archive
		f record.Filter
	}{
		{a, record.Filter{Limit: -1}},
		{a, record.Filter{Limit: 1001}},
		{a, record.Filter{Before: "nonsense"}},
		{a, record.Filter{Before: "x.y"}},
		{hashed, record.Filter{Client: netip.MustParsePrefix("192.0.0.0/16")}},
	} {
		if _, err := tt.a.Events(t.Context(), tt.f); !errors.Is(err, record.ErrBadFilter) {
			t.Errorf("%+v: %v", tt.f, err)
		}
	}
}

func testCountersAddUpExactly(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	c := func(hour int, site string, action, intended defense.Action, n uint64) record.Counter {
		return record.Counter{Hour: Noon().Add(time.Duration(hour) * time.Hour), Site: site, Action: action, Intended: intended, Count: n}
	}
	for _, batch := range [][]record.Counter{
		{c(0, "wiki", defense.Allow, defense.Allow, 1000), c(0, "wiki", defense.Observe, defense.Challenge, 7)},
		{c(0, "wiki", defense.Allow, defense.Allow, 234), c(1, "forge", defense.Deny, defense.Deny, 5)},
		{c(2, "wiki", defense.Allow, defense.Allow, 99)}, // after the period
	} {
		if err := a.AddCounters(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	s, err := a.Summary(t.Context(), Noon().Add(30*time.Minute), Noon().Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if s.Requests != 1246 {
		t.Errorf("%d requests, want 1246", s.Requests)
	}
	totals := []record.Counter{
		{Site: "forge", Action: defense.Deny, Intended: defense.Deny, Count: 5},
		{Site: "wiki", Action: defense.Allow, Intended: defense.Allow, Count: 1234},
		{Site: "wiki", Action: defense.Observe, Intended: defense.Challenge, Count: 7},
	}
	if diff := cmp.Diff(totals, s.Totals); diff != "" {
		t.Errorf("totals (-want +got)\n%s", diff)
	}
	hours := []record.Counter{c(0, "", defense.Allow, defense.Allow, 1234), c(0, "", defense.Observe, defense.Challenge, 7), c(1, "", defense.Deny, defense.Deny, 5)}
	if diff := cmp.Diff(hours, s.Hours); diff != "" {
		t.Errorf("hours (-want +got)\n%s", diff)
	}
}

func testSummaryTalliesWhatWasRecorded(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	put(t, a,
		Event(1),
		Event(2),
		Event(3, func(e *defense.Event) {
			e.Verdict.Action, e.Verdict.Intended, e.Verdict.Rule = defense.Deny, defense.Deny, "decision:01KAXE5B1M8E9H4C2F7G5J3V9A"
			e.Request.Agent, e.Request.Family, e.Identity.Crawler = "GPTBot/1.2", defense.AgentCrawler, "gptbot"
			e.Client.Address = "203.0.113.9"
		}),
		Event(4, func(e *defense.Event) {
			e.Verdict = defense.EventVerdict{}
			e.Request.Kind = defense.KindFeed
		}),
		Event(7200), // after the period
	)
	s, err := a.Summary(t.Context(), Noon(), Noon().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if s.Events != 4 {
		t.Errorf("%d events, want 4", s.Events)
	}
	for name, tt := range map[string]struct{ got, want []record.Tally }{
		"rules":    {s.Rules, []record.Tally{{Name: "threshold:50", Events: 2, Held: 2}, {Name: "decision", Events: 1, Stopped: 1}}},
		"kinds":    {s.Kinds, []record.Tally{{Name: "navigation", Events: 3, Stopped: 1, Held: 2}, {Name: "feed", Events: 1}}},
		"families": {s.Families, []record.Tally{{Name: "browser", Events: 3, Held: 2}, {Name: "crawler", Events: 1, Stopped: 1}}},
		"crawlers": {s.Crawlers, []record.Tally{{Name: "gptbot", Events: 1, Stopped: 1}}},
		"agents":   {s.Agents, []record.Tally{{Name: chrome, Events: 3, Held: 2}, {Name: "GPTBot/1.2", Events: 1, Stopped: 1}}},
		"prefixes": {s.Prefixes, []record.Tally{{Name: "192.0.2.0/24", Events: 3, Held: 2}, {Name: "203.0.113.0/24", Events: 1, Stopped: 1}}},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func testHarmGroupsReadersByNeighbourhood(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	put(t, a,
		Event(1),
		Event(2, func(e *defense.Event) { e.Client.Address, e.Verdict.Score = "192.0.2.5", 81 }),
		Event(3, func(e *defense.Event) { e.Verdict.Action = defense.Challenge }),
		Event(4, func(e *defense.Event) { // a feed reader that the catalogue knows
			e.Request.Agent, e.Request.Family, e.Request.Kind, e.Identity.Crawler = "Miniflux/2.2.6", defense.AgentFeed, defense.KindFeed, "miniflux"
			e.Verdict.Action, e.Verdict.Intended, e.Verdict.Rule = defense.Throttle, defense.Throttle, "budget:feeds"
			e.Client.Address = "2001:db8:9::1"
		}),
	)
	h, err := a.Harm(t.Context(), Noon(), Noon().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if h.Events != 4 || h.Clients != 3 || h.Prefixes != 2 || h.Omitted != 0 || len(h.Groups) != 2 {
		t.Fatalf("got %+v", h)
	}
	want := record.HarmGroup{
		Prefix: "192.0.2.0/24", LooksLike: "browser", Rule: "threshold:50", Intended: defense.Challenge,
		Stopped: 1, Held: 2, Clients: 2, Score: 67, First: Noon().Add(time.Second), Last: Noon().Add(3 * time.Second),
		Example: *Event(3, func(e *defense.Event) { e.Verdict.Action = defense.Challenge }),
	}
	if diff := cmp.Diff(want, h.Groups[0]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if g := h.Groups[1]; g.LooksLike != "feed" || g.Prefix != "2001:db8:9::/48" || g.Stopped != 1 {
		t.Errorf("second group %+v", g)
	}
}

func testACanceledContextEndsAppendWithoutATrace(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Append(ctx, []*defense.Event{Event(1)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if got := find(t, a, record.Filter{}); len(got) != 0 {
		t.Errorf("%d events", len(got))
	}
}
