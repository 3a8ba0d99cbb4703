package decision

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/race"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"

// testID returns a valid ULID of that number.
func testID(n uint64) string {
	var id ulid.ULID
	for i := range 8 {
		id[15-i] = byte(n >> (8 * i))
	}
	return id.String()
}

// dec makes a decision from "value action origin".
func dec(n uint64, text string) defense.Decision {
	f := strings.Fields(text)
	a, err := defense.ParseAction(f[1])
	if err != nil {
		panic(err)
	}
	d := defense.Decision{ID: testID(n), Value: f[0], Action: a, Origin: f[2], Created: noon, Sequence: n}
	if _, err := defense.ParseFingerprint(f[0]); err == nil {
		d.Scope = defense.ScopeFingerprint
	} else if _, err := defense.ParseAddressOrPrefix(f[0]); err != nil {
		d.Scope = defense.ScopeAgent
	}
	return d
}

func fingerprintsOf(q *Subject) [defense.FingerprintKinds]defense.Fingerprint {
	return defense.Fingerprints(q.Agent, q.Shape, q.JA4, q.Path, q.Query)
}

func newSet(t testing.TB, ds ...defense.Decision) *Set {
	t.Helper()
	s := NewSet(nil)
	if err := s.Put(ds...); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWinnerByRankThenScopeThenLateness(t *testing.T) {
	tests := []struct {
		name         string
		ds           []string // later ones have the higher sequence
		addr, agent  string
		strong, weak int // index into ds, -1 for none
	}{
		{"nothing fits", []string{"192.0.2.1 deny operator"}, "192.0.2.2", chrome, -1, -1},
		{"an address", []string{"192.0.2.1 deny operator"}, "192.0.2.1", chrome, 0, -1},
		{"a range", []string{"192.0.2.0/24 deny operator"}, "192.0.2.1", chrome, 0, -1},
		{"an IPv6 range", []string{"2001:db8::/32 deny list:x"}, "2001:db8::1", chrome, -1, 0},
		{"IPv4 is not its IPv6 namesake", []string{"0.0.0.0/8 deny list:x", "::/16 deny list:y"}, "::1", chrome, -1, 1},
		{"an agent", []string{"GPTBot deny operator"}, "192.0.2.1", "Mozilla/5.0 (compatible; gptbot/1.2)", 0, -1},
		{"an agent without address", []string{"GPTBot deny operator"}, "", "GPTBot/1.2", 0, -1},
		{"an agent only at token boundaries", []string{"LCC deny operator"}, "192.0.2.1", "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.0; SLCC1; .NET CLR 2.0.50727)", -1, -1},
		{"an operator's allow beats the operator's narrower, later ban", []string{"192.0.2.0/24 allow operator", "192.0.2.1 deny operator"}, "192.0.2.1", chrome, 0, -1},
		{"an operator's wide ban beats a list's narrow allow", []string{"10.0.0.0/8 deny operator", "10.1.1.1 allow list:friends"}, "10.1.1.1", chrome, 0, 1},
		{"operator before engine", []string{"192.0.2.0/24 tarpit operator", "192.0.2.1 deny engine"}, "192.0.2.1", chrome, 0, -1},
		{"an engine's allow does not beat an operator's ban", []string{"192.0.2.1 deny operator", "192.0.2.1 allow engine"}, "192.0.2.1", chrome, 0, -1},
		{"rule before peer before list", []string{"192.0.2.1 deny list:x", "192.0.2.0/24 deny peer:x", "192.0.0.0/16 challenge rule:x"}, "192.0.2.1", chrome, -1, 2},
		{"a list's allow does not beat a peer's ban", []string{"192.0.2.0/24 deny peer:x", "192.0.2.1 allow list:x"}, "192.0.2.1", chrome, -1, 0},
		{"the narrower of two lists", []string{"192.0.2.0/28 deny list:x", "192.0.2.0/24 challenge list:y"}, "192.0.2.1", chrome, -1, 0},
		{"an address before its range", []string{"192.0.2.1 challenge list:x", "192.0.2.0/31 deny list:x"}, "192.0.2.1", chrome, -1, 0},
		{"a range before an agent", []string{"192.0.0.0/8 challenge list:x", "badbot deny list:x"}, "192.0.2.1", "badbot", -1, 0},
		{"a longer agent before a shorter", []string{"badbot/2 challenge list:x", "badbot deny list:y"}, "192.0.2.1", "badbot/2", -1, 0},
		{"a range before a fingerprint", []string{"192.0.0.0/8 challenge list:x", "pattern:P deny list:x"}, "192.0.2.1", chrome, -1, 0},
		{"a fingerprint before an agent", []string{"badbot deny list:x", "program:P challenge list:x"}, "192.0.2.1", "badbot", -1, 1},
		{"a pattern before a shape before a program", []string{"program:P deny engine", "pattern:P challenge engine", "shape:P throttle engine"}, "192.0.2.1", chrome, 1, -1},
		{"a fingerprint without address", []string{"shape:P challenge engine"}, "", chrome, 0, -1},
		{"an operator's allow on a fingerprint", []string{"192.0.2.1 deny engine", "program:P allow operator"}, "192.0.2.1", chrome, 1, -1},
		{"the fingerprint of another program", []string{"program:00000000000000ab challenge engine"}, "192.0.2.1", chrome, -1, -1},
		{"the later among equals", []string{"192.0.2.1 deny list:x", "192.0.2.1 challenge list:y"}, "192.0.2.1", chrome, -1, 1},
		{"strong and weak side by side", []string{"192.0.2.1 deny engine", "192.0.2.0/24 deny list:x", "badbot deny list:y"}, "192.0.2.1", "badbot", 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewSet(nil)
			q := Subject{Agent: tt.agent, Shape: 7, JA4: "t13d", Path: "/wiki/Hedge", Query: "oldid=1"}
			for i, text := range tt.ds {
				for _, f := range fingerprintsOf(&q) { // "shape:P" is that of the request
					text = strings.ReplaceAll(text, f.Kind.String()+":P", f.String())
				}
				if err := s.Put(dec(uint64(i+1), text)); err != nil {
					t.Fatal(err)
				}
			}
			if tt.addr != "" {
				q.Addr = netip.MustParseAddr(tt.addr)
			}
			m := s.Lookup(&q, noon)
			for _, c := range []struct {
				what string
				got  Found
				want int
			}{{"strong", m.Strong, tt.strong}, {"weak", m.Weak, tt.weak}} {
				got := -1
				if c.got.OK {
					got = int(c.got.Decision().Sequence) - 1
				}
				if got != c.want {
					t.Errorf("%s: got decision %d, want %d", c.what, got, c.want)
				}
			}
		})
	}
}

func TestDecisionOfOneSiteAppliesThereOnlyAndBeforeThoseOfEverySite(t *testing.T) {
	one := dec(1, "192.0.2.1 challenge list:x")
	one.Site = "wiki"
	s := newSet(t, one, dec(2, "192.0.2.1 deny list:y"))
	a := netip.MustParseAddr("192.0.2.1")
	if got := s.Lookup(&Subject{Addr: a, Site: "wiki"}, noon).Weak; got.Action != defense.Challenge {
		t.Errorf("on its site: %v", got.Action)
	}
	if got := s.Lookup(&Subject{Addr: a, Site: "shop"}, noon).Weak; got.Action != defense.Deny {
		t.Errorf("on another site: %v", got.Action)
	}
}

func TestFoundTellsWhoDecidedAndWhy(t *testing.T) {
	d := dec(7, "192.0.2.0/24 deny operator")
	d.Reason, d.CaseID, d.Site, d.Expires = "scrapes", "01CASE", "wiki", noon.Add(time.Hour)
	s := newSet(t, d)
	f := s.Lookup(&Subject{Addr: netip.MustParseAddr("192.0.2.9"), Site: "wiki"}, noon).Strong
	want := d
	want.Scope = defense.ScopeRange
	if diff := cmp.Diff(want, f.Decision()); diff != "" {
		t.Error(diff)
	}
	if f.ID != d.ID || f.Origin != "operator" || f.Reason != "scrapes" || f.Rank != defense.RankOperatorBan || f.Scope != defense.ScopeRange {
		t.Errorf("%+v", f)
	}
	if none := (&Found{}); none.Decision() != (defense.Decision{}) {
		t.Error("nothing found, but a decision")
	}
}

func TestExpiredDecisionHasNoEffectBeforeItIsSwept(t *testing.T) {
	d := dec(1, "192.0.2.1 deny operator")
	d.Expires = noon.Add(time.Minute)
	bot := dec(2, "badbot deny operator")
	bot.Expires = d.Expires
	s := newSet(t, d, bot, dec(3, "192.0.2.0/24 challenge operator"))
	a := netip.MustParseAddr("192.0.2.1")
	if got := s.Lookup(&Subject{Addr: a, Agent: "badbot"}, noon.Add(time.Minute-1)).Strong.Action; got != defense.Deny {
		t.Errorf("before its end: %v", got)
	}
	if got := s.Lookup(&Subject{Addr: a, Agent: "badbot"}, noon.Add(time.Minute)).Strong.Action; got != defense.Challenge {
		t.Errorf("at its end: %v, want what stands behind it", got)
	}
	if n := len(s.List(Filter{}, noon.Add(time.Minute), 10)); n != 1 {
		t.Errorf("%d listed, want 1", n)
	}
	if n := s.Len(); n != 3 {
		t.Errorf("%d held before the sweep", n)
	}
}

func TestSweepFreesWhatExpiredAFewPlacesAtATime(t *testing.T) {
	s := NewSet(nil)
	var ds []defense.Decision
	for i := range 5000 {
		d := dec(uint64(i+1), fmt.Sprintf("10.%d.%d.1 deny engine", i>>8, i&255))
		if i%5 == 0 {
			d = dec(uint64(i+1), fmt.Sprintf("10.%d.%d.0/24 deny operator", i>>8, i&255))
		}
		if i%2 == 0 {
			d.Expires = noon.Add(time.Minute)
		}
		ds = append(ds, d)
	}
	bot := dec(9999, "badbot deny operator")
	bot.Expires = noon.Add(time.Minute)
	if err := s.Put(append(ds, bot)...); err != nil {
		t.Fatal(err)
	}
	later := noon.Add(time.Hour)
	first, err := s.Sweep(later, 200)
	if err != nil || first == 0 || first > 201 {
		t.Fatalf("one sweep of 200 places took %d, %v", first, err)
	}
	total := first
	for range 200 { // 5000 entries have 16,384 places at most
		n, err := s.Sweep(later, 200)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != 2501 || s.Len() != 2500 {
		t.Errorf("swept %d, %d left", total, s.Len())
	}
	for i, d := range ds {
		p, err := defense.ParseAddressOrPrefix(d.Value)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Lookup(&Subject{Addr: p.Addr()}, noon).Strong.OK; got != (i%2 == 1) {
			t.Fatalf("%s found %v", d.Value, got)
		}
	}
	if got := s.ranges.Load().Size(); got != 500 {
		t.Errorf("%d ranges left, want 500", got)
	}
	if s.agents.Load() != nil {
		t.Error("the agents' index is still there")
	}
}

func TestNoBanOnATrustedProxy(t *testing.T) {
	s := NewSet([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::1/128")})
	for _, text := range []string{
		"10.0.0.7 deny operator", "10.0.0.0/25 tarpit list:x", "10.0.0.0/8 challenge engine", "fd00::/16 throttle operator",
		"::ffff:10.0.0.1 deny operator",
	} {
		err := s.Put(dec(1, "192.0.2.1 deny operator"), dec(2, text))
		var p *ProtectedError
		if !errors.As(err, &p) || !strings.Contains(err.Error(), "trusted proxy") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if s.Len() != 0 {
		t.Error("a refused batch was put in part")
	}
	if err := s.Put(dec(1, "10.0.0.7 allow operator"), dec(2, "10.0.1.0/24 deny operator")); err != nil {
		t.Error(err)
	}
}

func TestPutRefusesWhatCannotBeShownOrEnforced(t *testing.T) {
	with := func(change func(*defense.Decision)) defense.Decision {
		d := dec(1, "192.0.2.1 deny operator")
		change(&d)
		return d
	}
	tests := []struct {
		field string
		d     defense.Decision
	}{
		{"value", with(func(d *defense.Decision) { d.Value = "192.0.2.256" })},
		{"scope", with(func(d *defense.Decision) { d.Scope = defense.ScopeASN })},
		{"action", with(func(d *defense.Decision) { d.Action = defense.Observe })},
		{"origin", with(func(d *defense.Decision) { d.Origin = "list:" })},
		{"origin", with(func(d *defense.Decision) { d.Origin = "list:\x1b[2J" })},
		{"reason", with(func(d *defense.Decision) { d.Reason = "two\nlines" })},
		{"reason", with(func(d *defense.Decision) { d.Reason = "\xff" })},
		{"reason", with(func(d *defense.Decision) { d.Reason = strings.Repeat("x", 2000) })},
		{"site", with(func(d *defense.Decision) { d.Site = strings.Repeat("x", 300) })},
		{"caseId", with(func(d *defense.Decision) { d.CaseID = "\u202e" })},
		{"created", with(func(d *defense.Decision) { d.Created = time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC) })},
		{"expires", with(func(d *defense.Decision) { d.Expires = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC) })},
		{"expires", with(func(d *defense.Decision) { d.Expires = d.Created })},
		{"id", with(func(d *defense.Decision) { d.ID = "" })},
	}
	for _, tt := range tests {
		var invalid *InvalidError
		if err := NewSet(nil).Put(tt.d); !errors.As(err, &invalid) || invalid.Field != tt.field {
			t.Errorf("want a problem of %s, got %v", tt.field, err)
		}
	}
	if err := NewSet(nil).Put(with(func(d *defense.Decision) { d.Reason = "schürft 夜 “viel”" })); err != nil {
		t.Error(err)
	}
}

func TestTooManyAgentsAreRefusedAndTheOldOnesStay(t *testing.T) {
	s := newSet(t, dec(1, "badbot deny operator"))
	var ds []defense.Decision
	for i := range MaxAgents {
		ds = append(ds, dec(uint64(i+10), fmt.Sprintf("bot%d deny operator", i)))
	}
	if err := s.Put(ds...); !errors.Is(err, ErrTooManyAgents) {
		t.Fatalf("got %v", err)
	}
	if s.Len() != 1 || !s.Lookup(&Subject{Agent: "badbot"}, noon).Strong.OK || s.Lookup(&Subject{Agent: "bot1"}, noon).Strong.OK {
		t.Error("the set changed")
	}
}

// TestLookupAgreesWithAWalkOverEverything drives random changes and compares
// with the plainest implementation of the same.
func TestLookupAgreesWithAWalkOverEverything(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := NewSet(nil)
	model := map[string]defense.Decision{}
	origins := []string{"operator", "engine", "rule:r", "peer:p", "list:l"}
	actions := []defense.Action{defense.Allow, defense.Throttle, defense.Challenge, defense.Deny}
	agents := []string{"alpha", "beta", "alpha/2", "gamma"}
	paths := []string{"/wiki/Hedge", "/commit/1", "/search"}
	prints := func(agent, path string) [defense.FingerprintKinds]defense.Fingerprint {
		return defense.Fingerprints(agent, 7, "", path, "")
	}
	sites := []string{"", "", "wiki"}
	addr := func() netip.Addr { // few, so that many decisions meet
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(8))})
		}
		return netip.AddrFrom16([16]byte{0x20, 1, 7: byte(r.IntN(2)), 15: byte(r.IntN(8))})
	}
	random := func(seq uint64) defense.Decision {
		d := defense.Decision{
			ID: testID(uint64(r.IntN(60) + 1)), Sequence: seq, Created: noon, Origin: origins[r.IntN(len(origins))],
			Action: actions[r.IntN(len(actions))], Site: sites[r.IntN(len(sites))],
		}
		switch r.IntN(5) {
		case 0:
			d.Scope, d.Value = defense.ScopeAgent, agents[r.IntN(len(agents))]
		case 4:
			f := prints(agents[r.IntN(len(agents))], paths[r.IntN(len(paths))])[r.IntN(defense.FingerprintKinds)]
			d.Scope, d.Value = defense.ScopeFingerprint, f.String()
		case 1:
			d.Value = addr().String()
		default:
			a := addr()
			p, err := a.Prefix(a.BitLen() - r.IntN(20))
			if err != nil {
				t.Fatal(err)
			}
			d.Scope, d.Value = defense.ScopeRange, p.String()
		}
		if r.IntN(3) == 0 {
			d.Expires = noon.Add(time.Duration(1+r.IntN(100)) * time.Second)
		}
		return d
	}
	better := func(a, b defense.Decision) bool { // the design's words, once more
		width := func(d defense.Decision) int {
			if d.Scope == defense.ScopeAgent {
				return 1000 - len(d.Value)
			}
			if f, err := defense.ParseFingerprint(d.Value); err == nil {
				return 200 + int(f.Kind)
			}
			p, err := defense.ParseAddressOrPrefix(d.Value)
			if err != nil {
				t.Fatal(err)
			}
			return p.Addr().BitLen() - p.Bits()
		}
		if a.Rank() != b.Rank() {
			return a.Rank() > b.Rank()
		}
		if width(a) != width(b) {
			return width(a) < width(b)
		}
		if (a.Site == "") != (b.Site == "") {
			return a.Site != ""
		}
		return a.Sequence > b.Sequence
	}
	for step := range uint64(6000) {
		now := noon.Add(time.Duration(r.IntN(100)) * time.Second)
		switch r.IntN(6) {
		case 0:
			id := testID(uint64(r.IntN(60) + 1))
			n, err := s.Remove(id)
			if _, had := model[id]; err != nil || had != (n == 1) {
				t.Fatalf("removing %s: %d, %v", id, n, err)
			}
			delete(model, id)
		case 1:
			var ds []defense.Decision
			for range r.IntN(50) {
				ds = append(ds, random(step+1))
			}
			if err := s.Put(ds...); err != nil {
				t.Fatal(err)
			}
			for _, d := range ds {
				if err := d.Normalize(); err != nil {
					t.Fatal(err)
				}
				model[d.ID] = d
			}
		default:
			a, agent, site, path := addr(), agents[r.IntN(len(agents))], sites[r.IntN(len(sites))], paths[r.IntN(len(paths))]
			var strong, weak defense.Decision
			for _, d := range model {
				p, err := defense.ParseAddressOrPrefix(d.Value)
				fits := err == nil && p.Contains(a)
				if d.Scope == defense.ScopeAgent {
					fits = d.Value == agent || agent == "alpha/2" && d.Value == "alpha"
				}
				for _, f := range prints(agent, path) {
					fits = fits || d.Value == f.String()
				}
				if !fits || d.Site != "" && d.Site != site || !d.Expires.IsZero() && !now.Before(d.Expires) {
					continue
				}
				best := &weak
				if d.Rank() >= defense.RankEngine {
					best = &strong
				}
				if best.ID == "" || better(d, *best) {
					*best = d
				}
			}
			m := s.Lookup(&Subject{Addr: a, Agent: agent, Site: site, Shape: 7, Path: path}, now)
			// Equal in all that ranks, from one batch: either may win.
			same := func(want, got defense.Decision) bool {
				return want.ID == got.ID || got.ID != "" && want.ID != "" && !better(want, got) && !better(got, want)
			}
			if !same(strong, m.Strong.Decision()) || !same(weak, m.Weak.Decision()) {
				t.Fatalf("step %d, %v %q %q:\n got %+v\n     %+v\nwant %+v\n     %+v", step, a, agent, site, m.Strong, m.Weak, strong, weak)
			}
		}
		if s.Len() != len(model) {
			t.Fatalf("step %d: %d held, want %d", step, s.Len(), len(model))
		}
	}
	counted := 0
	for _, c := range s.Counts() {
		counted += c.N
	}
	if counted != len(model) {
		t.Errorf("counts add up to %d, want %d", counted, len(model))
	}
	for id := range model {
		if _, err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.abouts)+len(s.counts)+len(s.words)+s.ranges.Load().Size()+int(s.prints.Load()) != 0 || s.agents.Load() != nil {
		t.Errorf("an empty set still holds %d abouts, %d counts, %d words, %d ranges", len(s.abouts), len(s.counts), len(s.words), s.ranges.Load().Size())
	}
}

func TestReadersNeverMissADecisionWhileOthersChange(t *testing.T) {
	s := newSet(t, dec(1, "192.0.2.1 deny operator"), dec(2, "198.51.100.0/24 deny operator"), dec(3, "badbot deny operator"))
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				for _, a := range []string{"192.0.2.1", "198.51.100.7"} {
					if !s.Lookup(&Subject{Addr: netip.MustParseAddr(a)}, noon).Strong.OK {
						t.Errorf("%s was missed", a)
						stop.Store(true)
					}
				}
				if !s.Lookup(&Subject{Agent: "badbot"}, noon).Strong.OK {
					t.Error("badbot was missed")
					stop.Store(true)
				}
				runtime.Gosched()
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range uint64(150) {
		var ds []defense.Decision
		var ids []string
		for j := range uint64(60) {
			d := dec(1000+i*60+j, fmt.Sprintf("10.%d.%d.%d deny list:x", r.IntN(4), r.IntN(256), r.IntN(256)))
			if j%3 == 0 {
				d.Scope, d.Value = defense.ScopeRange, d.Value+"/28"
			}
			ds, ids = append(ds, d), append(ids, testID(1000+(i*60+j)/2))
		}
		renewed := dec(1, "192.0.2.1 deny operator")
		renewed.Sequence = 1000 + i
		ds = append(ds, renewed, dec(900+i%50, "198.51.0.0/16 deny list:x"), dec(800+i%3, fmt.Sprintf("bot%d deny list:x", i)))
		if err := s.Put(ds...); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Remove(ids...); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
}

func TestListPagesBackwardsAndFilters(t *testing.T) {
	s := NewSet(nil)
	for i := range uint64(500) {
		if err := s.Put(dec(i+1, fmt.Sprintf("10.0.%d.%d deny list:x", i>>8, i&255))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(dec(501, "10.0.0.0/24 challenge operator"), dec(502, "BadBot deny operator"), dec(503, "program:00000000000000ab challenge engine")); err != nil {
		t.Fatal(err)
	}
	var seen []uint64
	f := Filter{}
	for {
		page := s.List(f, noon, 64)
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			seen = append(seen, d.Sequence)
		}
		f.Before = page[len(page)-1].Sequence
	}
	if len(seen) != 503 {
		t.Fatalf("%d seen", len(seen))
	}
	for i, seq := range seen {
		if seq != uint64(503-i) {
			t.Fatalf("place %d: sequence %d", i, seq)
		}
	}
	deny := defense.Deny
	tests := []struct {
		name string
		f    Filter
		want int
	}{
		{"client", Filter{Client: netip.MustParseAddr("::ffff:10.0.0.7")}, 2},
		{"client of a range only", Filter{Client: netip.MustParseAddr("10.0.1.7"), Origin: "operator"}, 0},
		{"value of an address", Filter{Value: "10.0.0.7"}, 1},
		{"value of a range, unmasked", Filter{Value: "10.0.0.9/24"}, 1},
		{"value of an agent, any case", Filter{Value: "BADBOT"}, 1},
		{"origin", Filter{Origin: "operator"}, 2},
		{"action and origin", Filter{Origin: "operator", Action: &deny}, 1},
		{"nothing", Filter{Value: "10.9.9.9"}, 0},
		{"value of a fingerprint, any case", Filter{Value: "Program:00000000000000AB"}, 1},
		{"value of another fingerprint", Filter{Value: "shape:00000000000000ab"}, 0},
		{"client, to whom a fingerprint says nothing", Filter{Client: netip.MustParseAddr("198.51.100.1")}, 0},
	}
	for _, tt := range tests {
		if got := s.List(tt.f, noon, 1000); len(got) != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, len(got), tt.want)
		}
	}
	want := []Count{{"engine", defense.Challenge, 1}, {"list:x", defense.Deny, 500}, {"operator", defense.Challenge, 1}, {"operator", defense.Deny, 1}}
	if diff := cmp.Diff(want, s.Counts()); diff != "" {
		t.Error(diff)
	}
}

func TestKeyKeepsEveryPrefixApart(t *testing.T) {
	for _, s := range []string{"0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "::/16", "::ffff:0:0/95", "2001:db8::/32", "2001:db8::1/128", "::1/128", "::/96"} {
		p := netip.MustParsePrefix(s).Masked()
		if got := keyOf(p.Addr(), p.Bits()).prefix(); got != p {
			t.Errorf("%s came back as %s", p, got)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	race.SkipAllocations(t)
	q := Subject{Addr: netip.MustParseAddr("192.0.2.1"), Agent: chrome + " badbot", Site: "wiki", Shape: 7, Path: "/wiki/Hedge", Query: "oldid=1"}
	s := newSet(t, dec(1, "192.0.2.1 deny operator"), dec(2, "192.0.2.0/24 deny list:x"), dec(3, "badbot deny operator"))
	if n := testing.AllocsPerRun(100, func() { s.Lookup(&q, noon) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if err := s.Put(dec(4, fingerprintsOf(&q)[2].String()+" challenge engine")); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { s.Lookup(&q, noon) }); n != 0 {
		t.Errorf("%v allocations with a decision on a fingerprint", n)
	}
}

// million returns a set of n decisions: nine addresses for every range.
func million(tb testing.TB, n int) *Set {
	tb.Helper()
	s := NewSet(nil)
	r := rand.New(rand.NewPCG(1, 2))
	batch := make([]defense.Decision, 0, MaxBatch)
	for i := range n {
		d := defense.Decision{ID: testID(r.Uint64()), Action: defense.Challenge, Origin: "list:big", Reason: "seen scraping", Created: noon, Sequence: uint64(i + 1)}
		a := netip.AddrFrom4([4]byte{byte(1 + r.IntN(220)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		if i%10 == 0 {
			p, err := a.Prefix(18 + r.IntN(11))
			if err != nil {
				tb.Fatal(err)
			}
			d.Scope, d.Value = defense.ScopeRange, p.String()
		} else {
			d.Value = a.String()
		}
		if batch = append(batch, d); len(batch) == cap(batch) || i == n-1 {
			if err := s.Put(batch...); err != nil {
				tb.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	return s
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestMemoryPerDecisionIsBounded(t *testing.T) {
	const n = 100_000
	before := heap()
	s := million(t, n)
	per := float64(heap()-before) / n
	runtime.KeepAlive(s)
	// 200 MiB for a million.
	if per > 209 {
		t.Errorf("%.0f bytes a decision", per)
	}
	t.Logf("%.0f bytes a decision", per)
}

func BenchmarkLookup(b *testing.B) {
	before := heap()
	s := million(b, 1_000_000)
	per := float64(heap()-before) / 1e6
	var hits, misses []netip.Addr
	s.byKey.each(func(e *entry) bool {
		if e.scope == defense.ScopeAddress {
			hits = append(hits, e.key().prefix().Addr())
		}
		return true
	})
	r := rand.New(rand.NewPCG(3, 4))
	for len(misses) < 1<<19 {
		a := netip.AddrFrom4([4]byte{byte(1 + r.IntN(220)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		if !s.Lookup(&Subject{Addr: a}, noon).Weak.OK {
			misses = append(misses, a)
		}
	}
	r.Shuffle(len(hits), func(i, j int) { hits[i], hits[j] = hits[j], hits[i] })
	// A site has some ten thousand clients at a time; "cold" has so many that
	// nearly every look-up waits for main memory, twice when it finds something.
	const busy, cold = 1 << 13, 1 << 19
	run := func(name, agent string, addrs []netip.Addr, want bool) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if m := s.Lookup(&Subject{Addr: addrs[i&(len(addrs)-1)], Agent: agent, Site: "wiki"}, noon); m.Weak.OK != want {
					b.Fatal("wrong")
				}
			}
			b.ReportMetric(per, "heapB/decision")
		})
	}
	run("hit", chrome, hits[:busy], true)
	run("miss", chrome, misses[:busy], false)
	run("cold hit", chrome, hits[:cold], true)
	run("cold miss", chrome, misses[:cold], false)
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.Int(); pb.Next(); i++ {
				s.Lookup(&Subject{Addr: hits[i&(busy-1)], Agent: chrome, Site: "wiki"}, noon)
			}
		})
	})
	var words []defense.Decision
	for i := range uint64(600) {
		words = append(words, dec(1<<40+i, fmt.Sprintf("scraper-%d deny operator", i)))
	}
	if err := s.Put(words...); err != nil {
		b.Fatal(err)
	}
	run("miss with 600 agents", chrome, misses[:busy], false)
}

// BenchmarkLookupFingerprint is what a request pays for decisions on fingerprints: nothing while there is none.
func BenchmarkLookupFingerprint(b *testing.B) {
	q := Subject{Addr: netip.MustParseAddr("192.0.2.1"), Agent: chrome, Site: "wiki", Shape: 7, Path: "/w/index.php", Query: "title=Hedge&oldid=7&action=edit"}
	s := newSet(b, dec(1, "192.0.2.0/24 deny list:x"))
	for _, ds := range [][]defense.Decision{nil, {dec(2, "program:00000000000000ab challenge engine")}, {dec(3, fingerprintsOf(&q)[0].String()+" challenge engine")}} {
		if err := s.Put(ds...); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%d decisions", s.prints.Load()), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if m := s.Lookup(&q, noon); m.Strong.OK != (s.prints.Load() == 2) {
					b.Fatal("wrong")
				}
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	s := million(b, 1_000_000)
	r := rand.New(rand.NewPCG(5, 6))
	for i, suffix := range []string{"", "/24"} {
		name, base := [...]string{"address", "range"}[i], uint64(i+1)<<50
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				if err := s.Put(dec(base+i, fmt.Sprintf("%d.%d.%d.1%s deny list:x", 1+r.IntN(220), r.IntN(256), r.IntN(256), suffix))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSweep10000Places(b *testing.B) {
	s := million(b, 1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sweep(noon, 10_000); err != nil {
			b.Fatal(err)
		}
	}
}
