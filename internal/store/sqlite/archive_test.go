package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"

func options() Options {
	return Options{
		Privacy: Privacy{KeepQuery: true},
		Now:     func() time.Time { return noon },
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func open(t testing.TB, path string, o Options) *Archive {
	t.Helper()
	a, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func newArchive(t testing.TB, change ...func(*Options)) *Archive {
	t.Helper()
	o := options()
	for _, f := range change {
		f(&o)
	}
	return open(t, filepath.Join(t.TempDir(), "archive.db"), o)
}

// event makes the nth event: n seconds after noon, with an id of that time.
func event(n int, change ...func(*defense.Event)) *defense.Event {
	at := noon.Add(time.Duration(n) * time.Second)
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

func appendAll(t testing.TB, a *Archive, events ...*defense.Event) {
	t.Helper()
	if _, err := a.Append(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB, a *Archive, f record.Filter) []defense.Event {
	t.Helper()
	page, err := a.Events(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return page.Events
}

func contractEvents(t testing.TB) []*defense.Event {
	t.Helper()
	text, err := os.ReadFile("../../defense/testdata/event.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var events []*defense.Event
	if err := json.Unmarshal(text, &events); err != nil {
		t.Fatal(err)
	}
	return events
}

func TestEventsComeBackAsTheyWereWritten(t *testing.T) {
	a := newArchive(t)
	appendAll(t, a, contractEvents(t)...)
	got := find(t, a, record.Filter{})
	want := contractEvents(t)
	if diff := cmp.Diff([]defense.Event{*want[1], *want[0]}, got); diff != "" {
		t.Errorf("(-written +read)\n%s", diff)
	}
}

func TestABatchSentAgainIsNotStoredTwice(t *testing.T) {
	a := newArchive(t)
	appendAll(t, a, event(1), event(2))
	n, err := a.Append(t.Context(), []*defense.Event{event(1), event(2), event(3)})
	if err != nil || n != 2 {
		t.Fatalf("%d duplicates, %v; want 2", n, err)
	}
	if got := find(t, a, record.Filter{}); len(got) != 3 {
		t.Errorf("%d events, want 3", len(got))
	}
}

func TestHostileTextIsStoredSafely(t *testing.T) {
	a := newArchive(t)
	appendAll(t, a, event(1, func(e *defense.Event) {
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

func TestFilters(t *testing.T) {
	a := newArchive(t)
	deny := func(e *defense.Event) {
		e.Verdict.Action, e.Verdict.Intended, e.Verdict.Rule = defense.Deny, defense.Deny, "ai-training"
	}
	appendAll(t, a,
		event(1),
		event(2, deny, func(e *defense.Event) {
			e.Client.Address = "2001:db8:1:2::5"
			e.Request.Agent, e.Request.Family = "GPTBot/1.2", defense.AgentCrawler
			e.Identity.Crawler, e.Identity.Status = "gptbot", defense.IdentityVerified
			e.Request.Path = "/Special:Log_100%"
		}),
		event(3, func(e *defense.Event) {
			e.Site, e.Request.Host, e.Client.Address = "forge", "git.example.org", "192.0.2.200"
		}),
		event(4, func(e *defense.Event) { e.Kind, e.Request.Kind = "challenge", defense.KindAPI }),
		// Its bytes begin like those of 192.0.2.77.
		event(5, func(e *defense.Event) { e.Client.Address = "c000:24d::1" }),
	)
	prefix := netip.MustParsePrefix
	tests := []struct {
		name string
		f    record.Filter
		want string
	}{
		{"none", record.Filter{}, "5 4 3 2 1"},
		{"since is inclusive", record.Filter{Since: noon.Add(4 * time.Second)}, "5 4"},
		{"until is exclusive", record.Filter{Until: noon.Add(2 * time.Second)}, "1"},
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
		{"id of an event", record.Filter{ID: event(3).ID}, "3"},
		{"id of a request", record.Filter{ID: event(3).RequestID}, "3"},
		{"unknown id", record.Filter{ID: "nothing"}, ""},
		{"all at once", record.Filter{Site: "wiki", Action: new(defense.Observe), Client: prefix("192.0.2.77/32"), Kind: new(defense.KindNavigation)}, "1"},
		{"injection", record.Filter{Site: "' OR 1=1 --"}, ""},
		{"limit", record.Filter{Limit: 2}, "5 4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, e := range find(t, a, tt.f) {
				got = append(got, fmt.Sprint(int(e.Time.Sub(noon)/time.Second)))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("events %q, want %q", s, tt.want)
			}
		})
	}
}

func TestPagesTileTheArchiveEvenWithinOneMillisecond(t *testing.T) {
	a := newArchive(t)
	var events []*defense.Event
	for n := range 25 {
		events = append(events, event(n, func(e *defense.Event) { e.Time = noon.Add(time.Duration(n/10) * time.Millisecond) }))
	}
	appendAll(t, a, events...)
	seen := map[string]bool{}
	f := record.Filter{Limit: 7}
	for pages := 0; ; pages++ {
		page, err := a.Events(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			if seen[e.ID] {
				t.Fatalf("%s came twice", e.ID)
			}
			seen[e.ID] = true
		}
		if f.Before = page.Next; f.Before == "" {
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

func TestSenselessFiltersAreTold(t *testing.T) {
	a := newArchive(t)
	hashed := newArchive(t, func(o *Options) { o.Privacy = Privacy{Addresses: Hashed, Key: bytes.Repeat([]byte("k"), 32)} })
	for _, tt := range []struct {
		a *Archive
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

func TestQueriesUseTheIndexesMadeForThem(t *testing.T) {
	a := newArchive(t)
	for _, tt := range []struct {
		f     record.Filter
		index string
	}{
		{record.Filter{}, "events_time"},
		{record.Filter{Since: noon}, "events_time"},
		{record.Filter{ID: event(1).ID}, "events_time"},
		{record.Filter{Client: netip.MustParsePrefix("192.0.2.77/32")}, "events_client"},
		{record.Filter{Action: new(defense.Deny)}, "events_action"},
	} {
		c, err := a.conditions(tt.f)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := a.files.r.Query("EXPLAIN QUERY PLAN "+selectEvents+c.where()+" ORDER BY time DESC, events.id DESC LIMIT 10", c.args...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var plan string
		for rows.Next() {
			var id, parent, unused int
			var s string
			if err := rows.Scan(&id, &parent, &unused, &s); err != nil {
				t.Fatal(err)
			}
			plan += s + "\n"
		}
		if !strings.Contains(plan, tt.index) {
			t.Errorf("%+v: plan without %s:\n%s", tt.f, tt.index, plan)
		}
	}
}

func TestCountersAddUpExactly(t *testing.T) {
	a := newArchive(t)
	c := func(hour int, site string, action, intended defense.Action, n uint64) record.Counter {
		return record.Counter{Hour: noon.Add(time.Duration(hour) * time.Hour), Site: site, Action: action, Intended: intended, Count: n}
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
	s, err := a.Summary(t.Context(), noon.Add(30*time.Minute), noon.Add(2*time.Hour))
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

func TestSummaryTalliesWhatWasRecorded(t *testing.T) {
	a := newArchive(t)
	appendAll(t, a,
		event(1),
		event(2),
		event(3, func(e *defense.Event) {
			e.Verdict.Action, e.Verdict.Intended, e.Verdict.Rule = defense.Deny, defense.Deny, "decision:01KAXE5B1M8E9H4C2F7G5J3V9A"
			e.Request.Agent, e.Request.Family, e.Identity.Crawler = "GPTBot/1.2", defense.AgentCrawler, "gptbot"
			e.Client.Address = "203.0.113.9"
		}),
		event(4, func(e *defense.Event) {
			e.Verdict = defense.EventVerdict{}
			e.Request.Kind = defense.KindFeed
		}),
		event(7200), // after the period
	)
	s, err := a.Summary(t.Context(), noon, noon.Add(time.Hour))
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

func TestHarmGroupsReadersByNeighbourhood(t *testing.T) {
	a := newArchive(t)
	appendAll(t, a,
		event(1),
		event(2, func(e *defense.Event) { e.Client.Address, e.Verdict.Score = "192.0.2.5", 81 }),
		event(3, func(e *defense.Event) { e.Verdict.Action = defense.Challenge }),
		event(4, func(e *defense.Event) { // a feed reader that the catalogue knows
			e.Request.Agent, e.Request.Family, e.Request.Kind, e.Identity.Crawler = "Miniflux/2.2.6", defense.AgentFeed, defense.KindFeed, "miniflux"
			e.Verdict.Action, e.Verdict.Intended, e.Verdict.Rule = defense.Throttle, defense.Throttle, "budget:feeds"
			e.Client.Address = "2001:db8:9::1"
		}),
	)
	h, err := a.Harm(t.Context(), noon, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if h.Events != 4 || h.Clients != 3 || h.Prefixes != 2 || h.Omitted != 0 || len(h.Groups) != 2 {
		t.Fatalf("got %+v", h)
	}
	want := record.HarmGroup{
		Prefix: "192.0.2.0/24", LooksLike: "browser", Rule: "threshold:50", Intended: defense.Challenge,
		Stopped: 1, Held: 2, Clients: 2, Score: 67, First: noon.Add(time.Second), Last: noon.Add(3 * time.Second),
		Example: *event(3, func(e *defense.Event) { e.Verdict.Action = defense.Challenge }),
	}
	if diff := cmp.Diff(want, h.Groups[0]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if g := h.Groups[1]; g.LooksLike != "feed" || g.Prefix != "2001:db8:9::/48" || g.Stopped != 1 {
		t.Errorf("second group %+v", g)
	}
}

func TestWhoLooksLikeAReader(t *testing.T) {
	stopped := func(f func(*defense.Event)) *defense.Event { return event(1, f) }
	tests := []struct {
		name string
		e    *defense.Event
		want string
	}{
		{"browser that would be challenged", event(1), "browser"},
		{"browser that passed", stopped(func(e *defense.Event) { e.Verdict.Action, e.Verdict.Intended = 0, 0 }), ""},
		{"application", stopped(func(e *defense.Event) { e.Request.Family = defense.AgentApp }), "app"},
		{"declared crawler", stopped(func(e *defense.Event) {
			e.Request.Family, e.Identity.Crawler = defense.AgentCrawler, "gptbot"
		}), ""},
		{"crawler that wears a browser's name", stopped(func(e *defense.Event) { e.Identity.Crawler = "bytespider" }), ""},
		{"tool", stopped(func(e *defense.Event) { e.Request.Family = defense.AgentTool }), ""},
		{"feed fetched by who knows what", stopped(func(e *defense.Event) {
			e.Request.Family, e.Request.Kind = defense.AgentUnknown, defense.KindFeed
		}), "feed"},
		{"git clone", stopped(func(e *defense.Event) { e.Request.Family, e.Request.Kind = defense.AgentGit, defense.KindGit }), "git"},
		{"link preview judged by score", stopped(func(e *defense.Event) {
			e.Request.Kind, e.Identity.Crawler = defense.KindPreview, "facebookexternalhit"
		}), "preview"},
		{"verified search engine judged by score", stopped(func(e *defense.Event) {
			e.Identity.Crawler, e.Identity.Status = "googlebot", defense.IdentityVerified
		}), "crawler"},
		{"verified crawler that the owner refuses", stopped(func(e *defense.Event) {
			e.Identity.Crawler, e.Identity.Status, e.Verdict.Basis = "gptbot", defense.IdentityVerified, defense.BasisCertain
		}), ""},
		{"impostor", stopped(func(e *defense.Event) { e.Identity.Status = defense.IdentityImpostor }), ""},
	}
	for _, tt := range tests {
		if got := harm(tt.e); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestBackupIsACompleteArchive(t *testing.T) {
	a := newArchive(t)
	appendAll(t, a, event(1), event(2))
	dest := filepath.Join(t.TempDir(), "copy.db")
	if err := a.Backup(t.Context(), dest); err != nil {
		t.Fatal(err)
	}
	appendAll(t, a, event(3))
	if fi, err := os.Stat(dest); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if got := find(t, open(t, dest, options()), record.Filter{}); len(got) != 2 {
		t.Errorf("%d events in the copy, want 2", len(got))
	}
	if err := a.Backup(t.Context(), dest); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second backup to the same file: %v", err)
	}
	if left, _ := filepath.Glob(dest + ".partial*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestACanceledContextEndsAppendWithoutATrace(t *testing.T) {
	a := newArchive(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Append(ctx, []*defense.Event{event(1)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if got := find(t, a, record.Filter{}); len(got) != 0 {
		t.Errorf("%d events", len(got))
	}
}
