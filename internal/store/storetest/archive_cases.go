package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/privacy"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store"
)

// caseOf makes the nth case, of a client last seen n minutes after Noon.
func caseOf(n int, change ...func(*defense.Case)) defense.Case {
	c := defense.Case{
		ID: fmt.Sprintf("case-%04d", n), Revision: uint64(n), Kind: defense.CaseClient, Key: "192.0.2.77", Site: "wiki",
		FirstSeen: Noon(), LastSeen: Noon().Add(time.Duration(n) * time.Minute), EventCount: math.MaxUint64,
		Members: defense.CaseMembers{Count: 1, Sample: []string{"192.0.2.77"}}, Readers: 3,
		Identity: defense.EventIdentity{Crawler: "gptbot", Status: defense.IdentityImpostor, How: "range"}, Family: defense.AgentBrowser,
		Agents: []string{chrome}, Paths: []string{"/Hedge", "/w?oldid=7&token=secret"}, Posture: defense.Guarded, ObserveOnly: true,
		Features: defense.Features{Schema: 1, Values: map[string]float64{"requests": 12, "rate": 1.0 / 3, "tiny": 5e-324, "huge": 1e308}},
		Stages: []defense.Stage{{
			Name: "behaviour", Score: 0.75, Weight: 1, Sentence: "192.0.2.77 asks like a clock", At: Noon().Add(time.Nanosecond),
			Contributions: []defense.Contribution{{Name: "regularity", Value: 0.97, LogOdds: 1.5, Sentence: "pauses of 192.0.2.77 are alike"}},
		}},
		Score: 0.8, Outcome: defense.OutcomeDecided, JudgedAt: Noon(), DecisionIDs: []string{"d1", "d2"}, Strikes: 2,
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func campaign(c *defense.Case) {
	c.Kind, c.Key = defense.CaseCampaign, "program:9f2c41d07b3ea865"
	c.Members = defense.CaseMembers{Count: 2000, Sample: []string{"192.0.2.7", "192.0.2.77", "2001:db8:1:2::/64", "203.0.113.9"}}
}

func anyCase() casebook.Filter { return casebook.Filter{} }

// cases names the cases that match by their number.
func cases(t testing.TB, a store.Archive, f casebook.Filter) string {
	t.Helper()
	page, err := a.Cases(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var b []string
	for _, c := range page.Cases {
		b = append(b, strings.TrimLeft(strings.TrimPrefix(c.ID, "case-"), "0"))
	}
	return strings.Join(b, " ")
}

func keep(t testing.TB, a store.Archive, list ...defense.Case) {
	t.Helper()
	if err := a.PutCases(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func readCase(t testing.TB, a store.Archive, n int) defense.Case {
	t.Helper()
	c, err := a.Case(t.Context(), caseOf(n).ID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testCasesComeBackAsTheyWereKept(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	empty := defense.Case{ID: "empty", Kind: defense.CaseCampaign}
	keep(t, a, caseOf(1), caseOf(2, campaign), empty)
	for _, c := range []defense.Case{caseOf(1), caseOf(2, campaign)} {
		c.Paths[1] = "/w?oldid=7&token=***"
		got, err := a.Case(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("(-kept +read)\n%s", diff)
		}
	}
	if got, err := a.Case(t.Context(), "empty"); err != nil || !cmp.Equal(empty, got) {
		t.Errorf("%v: %s", err, cmp.Diff(empty, got))
	}
	// The next revision replaces the whole case.
	next := caseOf(1, func(c *defense.Case) {
		c.Revision, c.Stages, c.Outcome, c.LastSeen = 9, nil, defense.OutcomeOpen, Noon().Add(time.Hour)
	})
	keep(t, a, next)
	if got := readCase(t, a, 1); got.Revision != 9 || got.Stages != nil || got.Outcome != defense.OutcomeOpen {
		t.Errorf("after the next revision: %+v", got)
	}
	if got := cases(t, a, anyCase()); got != "1 2 empty" {
		t.Errorf("in the order %s", got)
	}
	if _, err := a.Case(t.Context(), "nobody's"); !errors.Is(err, casebook.ErrNoCase) {
		t.Errorf("a case that is not there: %v", err)
	}
	// The last of several revisions in one batch counts.
	keep(t, a, caseOf(7, func(c *defense.Case) { c.Strikes, c.Label = 1, defense.LabelBot }), caseOf(7, func(c *defense.Case) { c.Strikes = 2 }))
	if got := readCase(t, a, 7); got.Strikes != 2 || got.Label != defense.LabelBot {
		t.Errorf("got %d strikes, label %q", got.Strikes, got.Label)
	}
}

func testALabelSurvivesTheNextRevision(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	keep(t, a, caseOf(1))
	if err := a.LabelCase(t.Context(), caseOf(1).ID, defense.LabelHuman); err != nil {
		t.Fatal(err)
	}
	keep(t, a, caseOf(1, func(c *defense.Case) { c.Revision = 2 }))
	if got := readCase(t, a, 1); got.Label != defense.LabelHuman || got.Revision != 2 {
		t.Errorf("label %q, revision %d", got.Label, got.Revision)
	}
	keep(t, a, caseOf(1, func(c *defense.Case) { c.Label = defense.LabelBot }))
	if got := readCase(t, a, 1); got.Label != defense.LabelBot {
		t.Errorf("a new label is %q", got.Label)
	}
	if err := a.LabelCase(t.Context(), caseOf(1).ID, defense.LabelNone); err != nil {
		t.Fatal(err)
	}
	if got := readCase(t, a, 1); got.Label != defense.LabelNone {
		t.Errorf("a label taken back is %q", got.Label)
	}
	if err := a.LabelCase(t.Context(), "nobody's", defense.LabelBot); !errors.Is(err, casebook.ErrNoCase) {
		t.Errorf("a case that is not there: %v", err)
	}
	if err := a.LabelCase(t.Context(), caseOf(1).ID, "robot"); err == nil || !strings.Contains(err.Error(), "use human, bot, crawler") {
		t.Errorf("a label that there is not: %v", err)
	}
}

func testCaseFilters(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	keep(t, a,
		caseOf(1, func(c *defense.Case) { c.Outcome = defense.OutcomeOpen }),
		caseOf(2, campaign),
		caseOf(3, func(c *defense.Case) { c.Site, c.Score, c.Label = "forge", 0.2, defense.LabelHuman }),
		caseOf(4, func(c *defense.Case) {
			c.Key, c.Outcome, c.Label = "2001:db8:1:2::/64", defense.OutcomeWatch, defense.LabelBot
		}),
	)
	for _, tt := range []struct {
		name string
		f    casebook.Filter
		want string
	}{
		{"none", casebook.Filter{}, "4 3 2 1"},
		{"kind", casebook.Filter{Kind: defense.CaseCampaign}, "2"},
		{"site", casebook.Filter{Site: "forge"}, "3"},
		{"key", casebook.Filter{Key: "192.0.2.77"}, "3 1"},
		{"key of a /64", casebook.Filter{Key: "2001:db8:1:2::/64"}, "4"},
		{"key of a campaign", casebook.Filter{Key: "program:9f2c41d07b3ea865"}, "2"},
		{"outcome", casebook.Filter{Outcome: defense.OutcomeWatch}, "4"},
		{"label", casebook.Filter{Label: defense.LabelHuman}, "3"},
		{"labelled", casebook.Filter{Labelled: true}, "4 3"},
		{"since is inclusive", casebook.Filter{Since: Noon().Add(3 * time.Minute)}, "4 3"},
		{"until is exclusive", casebook.Filter{Until: Noon().Add(2 * time.Minute)}, "1"},
		{"least score", casebook.Filter{MinScore: 0.8}, "4 2 1"},
		{"injection", casebook.Filter{Key: "' OR 1=1 --\x00\xff"}, ""},
		{"limit", casebook.Filter{Limit: 2}, "4 3"},
		{"all at once", casebook.Filter{Kind: defense.CaseClient, Site: "wiki", Labelled: true, MinScore: 0.5, Key: "2001:db8:1:2::/64"}, "4"},
	} {
		if got := cases(t, a, tt.f); got != tt.want {
			t.Errorf("%s: cases %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, f := range []casebook.Filter{{Limit: -1}, {Limit: casebook.MaxCases + 1}, {Before: "nonsense"}, {Before: "x.y"}, {MinScore: math.NaN()}} {
		if _, err := a.Cases(t.Context(), f); !errors.Is(err, record.ErrBadFilter) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func testPagesOfCasesTileTheArchive(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	var list []defense.Case
	for n := 1; n <= 25; n++ {
		list = append(list, caseOf(n, func(c *defense.Case) { c.LastSeen = Noon().Add(time.Duration(n/10) * time.Millisecond) }))
	}
	keep(t, a, list...)
	seen := map[string]bool{}
	for q, pages := (casebook.Filter{Limit: 7}), 0; ; pages++ {
		page, err := a.Cases(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Cases {
			if seen[c.ID] {
				t.Fatalf("%s came twice", c.ID)
			}
			seen[c.ID] = true
		}
		if q.Before = page.Next; q.Before == "" {
			break
		}
		if pages > 10 {
			t.Fatal("the pages do not end")
		}
	}
	if len(seen) != 25 {
		t.Errorf("%d cases in all pages, want 25", len(seen))
	}
}

func testBadCasesAreRefusedWithTheirBatch(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	for name, bad := range map[string]func(*defense.Case){
		"no id":            func(c *defense.Case) { c.ID = "" },
		"an id with NUL":   func(c *defense.Case) { c.ID = "a\x00" },
		"a long id":        func(c *defense.Case) { c.ID = strings.Repeat("x", 65) },
		"an unknown kind":  func(c *defense.Case) { c.Kind = "gang" },
		"an unknown label": func(c *defense.Case) { c.Label = "robot" },
	} {
		if err := a.PutCases(t.Context(), []defense.Case{caseOf(1), caseOf(2, bad)}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if got := cases(t, a, anyCase()); got != "" {
		t.Errorf("cases %q of refused batches are there", got)
	}
	if err := a.PutCases(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func testHostileCasesAreBounded(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	long := func(n int) (list []string) {
		for range n {
			list = append(list, "\x00\xff"+strings.Repeat("é", 10000))
		}
		return list
	}
	given := caseOf(1, func(c *defense.Case) {
		c.Key, c.Site, c.Outcome = bait()[2], bait()[3], "\x00"
		c.Agents, c.Paths, c.Members.Sample, c.DecisionIDs = long(100), long(100), long(1000), long(1000)
		c.Score = math.NaN()
		c.Features.Values = map[string]float64{"nan": math.NaN(), "inf": math.Inf(1), "\x00\xff": 1, "ok": -1}
		c.Stages = make([]defense.Stage, 100)
		for i := range c.Stages {
			c.Stages[i] = defense.Stage{Name: long(1)[0], Score: math.Inf(1), Weight: math.NaN(), Sentence: long(1)[0], Problem: long(1)[0], Contributions: make([]defense.Contribution, 100)}
			c.Stages[i].Contributions[0] = defense.Contribution{Name: long(1)[0], Value: math.Inf(-1), LogOdds: math.NaN(), Sentence: long(1)[0]}
		}
	})
	keep(t, a, given)
	if len(given.Stages) != 100 || !math.IsNaN(given.Score) || given.Agents[0][0] != 0 {
		t.Error("the given case was changed")
	}
	got := readCase(t, a, 1)
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 400<<10 || len(got.Agents) != 8 || len(got.Paths) != 16 || len(got.Members.Sample) != 64 || len(got.Stages) != 16 || len(got.Stages[0].Contributions) != 12 {
		t.Errorf("%d bytes, %d agents, %d paths, %d members, %d stages", len(text), len(got.Agents), len(got.Paths), len(got.Members.Sample), len(got.Stages))
	}
	if want := map[string]float64{"\u2400\ufffd": 1, "ok": -1}; !cmp.Equal(want, got.Features.Values) {
		t.Errorf("features %v", got.Features.Values)
	}
	if got.Score != 0 || got.Stages[0].Score != 1 || !strings.HasPrefix(got.Agents[0], "\u2400\ufffdé") {
		t.Errorf("score %v, stage %v, agent %.20q", got.Score, got.Stages[0].Score, got.Agents[0])
	}
	if found := cases(t, a, casebook.Filter{Key: got.Key}); found != "1" {
		t.Errorf("by its key %q: %q", got.Key, found)
	}
}

func testPruningCasesKeepsTheLabelledOnes(t *testing.T, f ArchiveFactory) {
	a := f.Open(t, keepAll())
	keep(t, a, caseOf(1), caseOf(2, func(c *defense.Case) { c.Label = defense.LabelBot }), caseOf(3), caseOf(4))
	n, err := a.PruneCases(t.Context(), Noon().Add(4*time.Minute))
	if n != 2 || err != nil {
		t.Errorf("%d removed, %v; want 2", n, err)
	}
	if got := cases(t, a, anyCase()); got != "4 2" {
		t.Errorf("cases %q left", got)
	}
}

func testACaseIsFoundByItsClientInEveryForm(t *testing.T, f ArchiveFactory) {
	for _, tt := range []struct {
		mode   privacy.AddressMode
		shown  string // to who lists
		found  string // to who asks for the client
		others string // that are found with it
	}{
		{privacy.Full, "192.0.2.77", "192.0.2.77", "1"},
		{privacy.Truncated, "192.0.2.0/24", "192.0.2.0/24", "2 1"},
		{privacy.Hashed, "eda90de963f99742", "192.0.2.77", "1"},
	} {
		p := privacy.Settings{Addresses: tt.mode, Key: key()}
		a := f.Open(t, p)
		keep(t, a, caseOf(1), caseOf(2, func(c *defense.Case) { c.Key = "192.0.2.78" }), caseOf(3, campaign))
		a = f.Reopen(t, a, p)
		if got := readCase(t, a, 1); got.Key != tt.shown {
			t.Errorf("%s: the key is shown as %q, want %q", tt.mode, got.Key, tt.shown)
		}
		page, err := a.Cases(t.Context(), casebook.Filter{Key: "192.0.2.77"})
		if err != nil || len(page.Cases) == 0 {
			t.Errorf("%s: not found (%v)", tt.mode, err)
			continue
		}
		c := page.Cases[len(page.Cases)-1]
		if c.Key != tt.found {
			t.Errorf("%s: found with the key %q, want %q", tt.mode, c.Key, tt.found)
		}
		if got := cases(t, a, casebook.Filter{Key: "192.0.2.77"}); got != tt.others {
			t.Errorf("%s: found %q, want %q", tt.mode, got, tt.others)
		}
		// It is found after it has come back, by either key.
		keep(t, a, c, readCase(t, a, 2))
		if got := cases(t, a, casebook.Filter{Key: "192.0.2.77"}); got != tt.others {
			t.Errorf("%s: after it came back %q, want %q", tt.mode, got, tt.others)
		}
		if tt.mode == privacy.Full {
			continue
		}
		for n := 1; n <= 3; n++ {
			text, err := json.Marshal(readCase(t, a, n))
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"192.0.2.7", "2001:db8:1:2:", "203.0.113.9", "oldid"} {
				if strings.Contains(string(text), secret) {
					t.Errorf("%s: case %d has %s in it:\n%s", tt.mode, n, secret, text)
				}
			}
		}
	}
}

func testErasingAPersonTakesTheirCasesAlong(t *testing.T, f ArchiveFactory) {
	prefix := netip.MustParsePrefix
	for _, tt := range []struct {
		mode    privacy.AddressMode
		erase   netip.Prefix
		left    string
		members int
	}{
		{privacy.Full, prefix("192.0.2.77/32"), "4 3 2", 3},
		{privacy.Full, prefix("192.0.2.0/24"), "4 3", 2},
		{privacy.Full, prefix("2001:db8:1:2::7/128"), "4 2 1", 3}, // who shares a /64 is one client
		{privacy.Full, prefix("2001:db8::/32"), "4 2 1", 3},
		{privacy.Truncated, prefix("192.0.2.77/32"), "4 3", 2}, // neighbours cannot be told apart
		{privacy.Hashed, prefix("192.0.2.77/32"), "4 3 2", 3},
		{privacy.Hashed, prefix("192.0.2.0/24"), "4 3", 2},
		{privacy.Hashed, prefix("2001:db8:1:2::7/128"), "4 2 1", 3},
		{privacy.Hashed, prefix("2001:db8:1::/48"), "4 2 1", 3},
		{privacy.Hashed, prefix("198.51.100.1/32"), "4 3 2 1", 4},
	} {
		a := f.Open(t, privacy.Settings{Addresses: tt.mode, Key: key()})
		keep(t, a,
			caseOf(1), caseOf(2, func(c *defense.Case) { c.Key = "192.0.2.78" }),
			caseOf(3, func(c *defense.Case) { c.Key = "2001:db8:1:2::/64" }), caseOf(4, campaign))
		keep(t, a, readCase(t, a, 1), readCase(t, a, 3)) // as they were read
		if n, err := a.Erase(t.Context(), tt.erase); n != 0 || err != nil {
			t.Errorf("%s, %s: %d events erased, %v", tt.mode, tt.erase, n, err)
		}
		if got := cases(t, a, anyCase()); got != tt.left {
			t.Errorf("%s, %s: cases %q left, want %q", tt.mode, tt.erase, got, tt.left)
		}
		if got := readCase(t, a, 4).Members; len(got.Sample) != tt.members || got.Count != 2000 {
			t.Errorf("%s, %s: members %v left, want %d", tt.mode, tt.erase, got.Sample, tt.members)
		}
	}
}
