package decision_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fixture is a log on a real store, with a clock that stands still until it is moved.
type fixture struct {
	*decision.Log
	path string
	db   *embedded.DB
	mu   sync.Mutex
	now  time.Time
	fail error // returned by the store's commits when set
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// failingStore fails commits on request.
type failingStore struct {
	decision.Store
	f *fixture
}

func (s failingStore) Commit(ctx context.Context, b *decision.Batch) error {
	if s.f.fail != nil {
		return s.f.fail
	}
	return s.Store.Commit(ctx, b)
}

func newLog(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{path: filepath.Join(t.TempDir(), embedded.FileName), now: noon}
	f.open(t, nil)
	t.Cleanup(func() { f.db.Close() })
	return f
}

func (f *fixture) open(t testing.TB, protected []netip.Prefix) decision.Loaded {
	t.Helper()
	db, err := embedded.Open(t.Context(), f.path)
	if err != nil {
		t.Fatal(err)
	}
	f.db = db
	f.Log = decision.NewLog(decision.NewSet(protected), failingStore{db, f}, decision.LogOptions{Now: f.clock})
	loaded, err := f.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// restart closes the store and loads it into a new set.
func (f *fixture) restart(t testing.TB, protected ...netip.Prefix) decision.Loaded {
	t.Helper()
	if err := f.db.Close(); err != nil {
		t.Fatal(err)
	}
	return f.open(t, protected)
}

func deny(value string) defense.Decision {
	return defense.Decision{Value: value, Action: defense.Deny, Origin: "operator"}
}

func (f *fixture) add(t testing.TB, ds ...defense.Decision) []defense.Decision {
	t.Helper()
	out, err := f.Add(t.Context(), ds, decision.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *fixture) strong(addr string) decision.Found {
	return f.Set().Lookup(&decision.Subject{Addr: netip.MustParseAddr(addr)}, f.clock()).Strong
}

func (f *fixture) all() []defense.Decision { return f.Set().List(decision.Filter{}, f.clock(), 1000) }

func TestDecisionsSurviveARestart(t *testing.T) {
	f := newLog(t)
	full := defense.Decision{
		Scope: defense.ScopeAgent, Value: "BadBot", Action: defense.Challenge, Origin: "peer:friend", Reason: "lies", CaseID: "01CASE",
		Site: "wiki", Created: noon.Add(-time.Hour), Expires: noon.Add(1500 * time.Millisecond),
	}
	got := f.add(t, deny("192.0.2.1"), deny("2001:db8:0::/48"), full)
	if got[2].Expires != noon.Add(2*time.Second) || got[2].Created != full.Created {
		t.Errorf("an expiry is rounded up and a creation kept: %+v", got[2])
	}
	if got[0].Created != noon || got[0].Sequence != 1 || got[2].Sequence != 3 || len(got[0].ID) != 26 || got[0].ID >= got[1].ID {
		t.Errorf("%+v", got)
	}
	before := f.all()
	if l := f.restart(t); l.Decisions != 3 || l.Expired+l.Refused != 0 {
		t.Errorf("%+v", l)
	}
	if diff := cmp.Diff(before, f.all()); diff != "" {
		t.Error(diff)
	}
	if again := f.add(t, deny("192.0.2.2")); again[0].Sequence != 4 {
		t.Errorf("the sequence went on with %d, want 4", again[0].Sequence)
	}
}

func TestSequenceGoesOnThoughTheLatestDecisionIsGone(t *testing.T) {
	f := newLog(t)
	d := deny("192.0.2.1")
	d.Expires = noon.Add(time.Second)
	f.add(t, d)
	f.pass(time.Minute)
	if n, err := f.Sweep(t.Context(), 1<<20); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	f.restart(t)
	if got := f.add(t, deny("192.0.2.2"))[0].Sequence; got != 2 {
		t.Errorf("sequence %d, want 2", got)
	}
}

func TestAddingTheSameAgainChangesTheOneThereIs(t *testing.T) {
	f := newLog(t)
	bot := deny("BadBot")
	bot.Scope = defense.ScopeAgent
	first := f.add(t, deny("192.0.2.0/24"), bot)
	f.pass(time.Minute)
	if same := f.add(t, deny("192.0.2.77/24")); same[0] != first[0] {
		t.Errorf("nothing new, but it changed:\n%+v\n%+v", first[0], same[0])
	}
	longer := deny("192.0.2.0/24")
	longer.Expires, longer.Reason = noon.Add(time.Hour), "still at it"
	bot.Value, bot.Reason = "BADBOT", "shouts"
	got := f.add(t, longer, bot)
	if got[0].ID != first[0].ID || got[0].Created != noon || got[0].Reason != "still at it" || got[1].ID != first[1].ID {
		t.Errorf("%+v", got)
	}
	if got[0].Sequence <= first[1].Sequence {
		t.Error("a change has no new sequence")
	}
	other := deny("192.0.2.0/24")
	other.Site = "wiki"
	f.add(t, other, defense.Decision{Value: "192.0.2.0/24", Action: defense.Tarpit, Origin: "operator"})
	if n := f.Set().Len(); n != 4 {
		t.Errorf("%d decisions, want 4", n)
	}
	if f.restart(t); f.Set().Len() != 4 {
		t.Errorf("%d decisions after a restart", f.Set().Len())
	}
}

func TestOfTheSameTwiceInABatchTheLaterCounts(t *testing.T) {
	f := newLog(t)
	a, b := deny("192.0.2.1"), deny("192.0.2.1")
	a.Reason, b.Reason = "first", "second"
	got := f.add(t, a, b)
	if got[0] != got[1] || got[0].Reason != "second" || f.Set().Len() != 1 {
		t.Errorf("%+v", got)
	}
}

func TestRefusals(t *testing.T) {
	hour := noon.Add(time.Hour)
	agent := func(v string) defense.Decision {
		return defense.Decision{Scope: defense.ScopeAgent, Value: v, Action: defense.Deny, Origin: "operator"}
	}
	by := func(origin, value string, a defense.Action, expires time.Time) defense.Decision {
		return defense.Decision{Value: value, Action: a, Origin: origin, Expires: expires}
	}
	fingerprint := func(origin string, a defense.Action, expires time.Time) defense.Decision {
		return defense.Decision{Scope: defense.ScopeFingerprint, Value: "program:9f2c41d07b3ea865", Action: a, Origin: origin, Expires: expires}
	}
	tests := []struct {
		name string
		d    defense.Decision
		want any // a pointer to the error's type, nil: accepted
	}{
		{"everything", deny("0.0.0.0/0"), new(*decision.WideError)},
		{"everything in IPv6", deny("::/0"), new(*decision.WideError)},
		{"half of everything", deny("128.0.0.0/1"), new(*decision.WideError)},
		{"an /8 is an operator's to ban", deny("11.0.0.0/8"), nil},
		{"everything may be allowed", by("operator", "0.0.0.0/0", defense.Allow, time.Time{}), nil},
		{"browsers", agent("Mozilla"), new(*decision.WideError)},
		{"browsers of one kind", agent("firefox"), new(*decision.WideError)},
		{"a robot", agent("GPTBot"), nil},
		{"a word inside a browser's word", agent("zilla"), nil},
		{"a trusted proxy", deny("10.0.0.0/24"), new(*decision.ProtectedError)},
		{"no address", deny("example.org"), new(*decision.InvalidError)},
		{"in the past", by("operator", "192.0.2.1", defense.Deny, noon), new(*decision.InvalidError)},
		{"the engine bans a client", by("engine", "192.0.2.1", defense.Deny, time.Time{}), nil},
		{"the engine bans an IPv6 client", by("engine", "2001:db8:1:2::/64", defense.Deny, time.Time{}), nil},
		{"the engine bans a network", by("engine", "192.0.2.0/24", defense.Deny, hour), new(*decision.AutomaticError)},
		{"the engine challenges a network", by("engine", "192.0.2.0/24", defense.Challenge, hour), nil},
		{"the engine challenges a network for a day", by("engine", "192.0.2.0/24", defense.Challenge, noon.Add(24*time.Hour)), new(*decision.AutomaticError)},
		{"a rule challenges an agent for ever", defense.Decision{Scope: defense.ScopeAgent, Value: "botty", Action: defense.Challenge, Origin: "rule:x"}, new(*decision.AutomaticError)},
		{"the engine allows a network", by("engine", "192.0.2.0/24", defense.Allow, time.Time{}), nil},
		{"the engine bans a fingerprint", fingerprint("engine", defense.Deny, hour), new(*decision.AutomaticError)},
		{"the engine holds a fingerprint in the tarpit", fingerprint("engine", defense.Tarpit, hour), new(*decision.AutomaticError)},
		{"the engine allows a fingerprint", fingerprint("engine", defense.Allow, hour), new(*decision.AutomaticError)},
		{"the engine challenges a fingerprint", fingerprint("engine", defense.Challenge, hour), nil},
		{"a rule slows a fingerprint down", fingerprint("rule:x", defense.Throttle, hour), nil},
		{"the engine challenges a fingerprint for two hours", fingerprint("engine", defense.Challenge, hour.Add(time.Hour)), new(*decision.AutomaticError)},
		{"the engine challenges a fingerprint for ever", fingerprint("engine", defense.Challenge, time.Time{}), new(*decision.AutomaticError)},
		{"the operator bans a fingerprint", fingerprint("operator", defense.Deny, time.Time{}), new(*decision.WideError)},
		{"a list bans a fingerprint", fingerprint("list:x", defense.Deny, time.Time{}), new(*decision.WideError)},
		{"the operator challenges a fingerprint", fingerprint("operator", defense.Challenge, time.Time{}), nil},
		{"no fingerprint", defense.Decision{Scope: defense.ScopeFingerprint, Value: "program:xyz", Action: defense.Challenge, Origin: "operator"}, new(*decision.InvalidError)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newLog(t)
			if tt.name == "a trusted proxy" {
				f.restart(t, netip.MustParsePrefix("10.0.0.1/32"))
			}
			_, err := f.Add(t.Context(), []defense.Decision{deny("198.51.100.1"), tt.d}, decision.AddOptions{})
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var item *decision.ItemError
			if !errors.As(err, tt.want) || !errors.As(err, &item) || item.Index != 1 {
				t.Fatalf("got %v", err)
			}
			if f.Set().Len() != 0 {
				t.Error("the rest of the batch was added")
			}
			_, err = f.Add(t.Context(), []defense.Decision{tt.d}, decision.AddOptions{Force: true})
			if _, wide := tt.want.(**decision.WideError); wide != (err == nil) {
				t.Errorf("forced: %v", err)
			}
		})
	}
}

func TestWhatTheStoreDoesNotTakeHasNoEffect(t *testing.T) {
	f := newLog(t)
	kept := f.add(t, deny("192.0.2.1"))[0]
	f.fail = errors.New("no space left on device")
	for name, do := range map[string]func() error{
		"add": func() error {
			_, err := f.Add(t.Context(), []defense.Decision{deny("192.0.2.2")}, decision.AddOptions{})
			return err
		},
		"update": func() error {
			d := deny("192.0.2.1")
			d.Expires = noon.Add(time.Hour)
			_, err := f.Add(t.Context(), []defense.Decision{d}, decision.AddOptions{})
			return err
		},
		"delete": func() error { _, err := f.Delete(t.Context(), kept.ID); return err },
		"import": func() error {
			_, err := f.Import(t.Context(), strings.NewReader("192.0.2.3\n"), decision.ImportOptions{})
			return err
		},
	} {
		if err := do(); !errors.Is(err, f.fail) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff([]defense.Decision{kept}, f.all()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	f.fail = nil
	if got := f.add(t, deny("192.0.2.2"))[0]; got.Sequence != kept.Sequence+1 {
		t.Errorf("sequence %d: one was lost", got.Sequence)
	}
}

func TestDeletedStaysDeleted(t *testing.T) {
	f := newLog(t)
	ds := f.add(t, deny("192.0.2.1"), deny("192.0.2.0/24"), deny("192.0.2.2"))
	if n, err := f.Delete(t.Context(), ds[0].ID, ds[0].ID, "nobody"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := f.strong("192.0.2.1"); got.ID != ds[1].ID {
		t.Errorf("found %+v", got)
	}
	if n, err := f.DeleteWhere(t.Context(), decision.Filter{Client: netip.MustParseAddr("192.0.2.2")}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := f.DeleteWhere(t.Context(), decision.Filter{}); !errors.Is(err, decision.ErrEverything) {
		t.Errorf("deleting everything: %v", err)
	}
	f.restart(t)
	if n := f.Set().Len(); n != 0 {
		t.Errorf("%d came back", n)
	}
}

func TestLoadLeavesOutWhatExpiredAndKeepsWhatANewProxyForbids(t *testing.T) {
	f := newLog(t)
	soon := deny("192.0.2.1")
	soon.Expires = noon.Add(time.Minute)
	f.add(t, soon, deny("10.0.0.7"), deny("192.0.2.2"))
	f.pass(time.Hour)
	l := f.restart(t, netip.MustParsePrefix("10.0.0.0/8"))
	var protected *decision.ProtectedError
	if l.Decisions != 1 || l.Expired != 1 || l.Refused != 1 || !errors.As(l.Reason, &protected) {
		t.Fatalf("%+v", l)
	}
	if f.strong("10.0.0.7").OK {
		t.Error("the trusted proxy is banned")
	}
	if n, err := f.Sweep(t.Context(), 100); n != 1 || err != nil {
		t.Errorf("what Load found expired: %d swept, %v", n, err)
	}
	if l := f.restart(t); l.Decisions != 2 || l.Expired != 0 {
		t.Errorf("without the setting again: %+v", l)
	}
}

// follower is an edge that keeps a copy by Since.
type follower struct {
	at   decision.Position
	have map[string]defense.Decision
}

func (w *follower) follow(t testing.TB, l *decision.Log, limit int) {
	t.Helper()
	for {
		p, err := l.Since(t.Context(), w.at, limit)
		if err != nil {
			t.Fatal(err)
		}
		last := w.at.After
		for _, c := range p.Changes {
			if c.Sequence <= last {
				t.Fatalf("sequence %d after %d", c.Sequence, last)
			}
			if last = c.Sequence; c.Decision != nil {
				w.have[c.Decision.ID] = *c.Decision
			} else {
				delete(w.have, c.Deleted)
			}
		}
		w.at = p.Next
		if !p.More {
			return
		}
	}
}

func (w *follower) inForce(now time.Time) []defense.Decision {
	var ds []defense.Decision
	for _, d := range w.have {
		if d.Expires.IsZero() || d.Expires.After(now) {
			ds = append(ds, d)
		}
	}
	return ds
}

func TestWhoFollowsTheLogHasWhatTheLogHas(t *testing.T) {
	f := newLog(t)
	w := &follower{have: map[string]defense.Decision{}}
	same := func(step string) {
		t.Helper()
		w.follow(t, f.Log, 3)
		byID := cmpopts.SortSlices(func(a, b defense.Decision) bool { return a.ID < b.ID })
		if diff := cmp.Diff(f.all(), w.inForce(f.clock()), byID, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", step, diff)
		}
	}
	var ds []defense.Decision
	for i := range 10 {
		ds = append(ds, deny(fmt.Sprintf("192.0.2.%d", i)))
	}
	ds = f.add(t, ds...)
	same("added")
	if _, err := f.Delete(t.Context(), ds[2].ID, ds[3].ID); err != nil {
		t.Fatal(err)
	}
	same("deleted")
	ds[4].Reason, ds[5].Expires = "changed", noon.Add(time.Minute)
	f.add(t, ds[4], ds[5])
	// It ends and is swept before the follower asks: the longer one must not stay.
	f.pass(2 * time.Minute)
	if n, err := f.Sweep(t.Context(), 1<<20); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	same("shortened and swept")
	f.restart(t)
	if _, err := f.DeleteWhere(t.Context(), decision.Filter{Origin: "operator"}); err != nil {
		t.Fatal(err)
	}
	same("all deleted after a restart")
	if _, err := f.Since(t.Context(), w.at, 3); err != nil {
		t.Error(err)
	}
}

func TestWhoIsTooFarBehindTakesASnapshot(t *testing.T) {
	f := newLog(t)
	f.KeepDeletions(2_000)
	var all strings.Builder
	for i := range 2_200 {
		fmt.Fprintf(&all, "10.%d.%d.%d\n", i>>16, i>>8&255, i&255)
	}
	first := f.add(t, deny("192.0.2.1"), deny("192.0.2.2"), deny("192.0.2.3"))
	w := &follower{have: map[string]defense.Decision{}}
	w.follow(t, f.Log, 100)
	snap, err := f.Since(t.Context(), decision.Position{}, 1) // has begun a snapshot before the flood
	if err != nil || !snap.More {
		t.Fatal(snap, err)
	}
	if _, err := f.Delete(t.Context(), first[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Import(t.Context(), strings.NewReader(all.String()), decision.ImportOptions{Origin: "list:big"}); err != nil {
		t.Fatal(err)
	}
	if n, err := f.DeleteWhere(t.Context(), decision.Filter{Origin: "list:big"}); n != 2_200 || err != nil {
		t.Fatal(n, err)
	}
	for name, at := range map[string]decision.Position{"follower": w.at, "snapshot": snap.Next} {
		if _, err := f.Since(t.Context(), at, 100); !errors.Is(err, decision.ErrBehind) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	fresh := &follower{have: map[string]defense.Decision{}}
	fresh.follow(t, f.Log, 140) // pages that lie below what is forgotten
	if n := len(fresh.have); n != 2 {
		t.Errorf("the snapshot holds %d, want 2", n)
	}
}

func TestExportIsReadBackAsItWas(t *testing.T) {
	f, g := newLog(t), newLog(t)
	d := deny("192.0.2.1")
	d.Reason, d.Expires = `says "no", twice`, noon.Add(time.Hour)
	gone := deny("192.0.2.9")
	gone.Expires = noon.Add(time.Minute)
	f.add(t, d, gone, defense.Decision{Scope: defense.ScopeAgent, Value: "BadBot", Action: defense.Tarpit, Origin: "peer:x", Site: "wiki"})
	f.pass(2 * time.Minute)
	g.pass(2 * time.Minute)
	var b bytes.Buffer
	if err := f.Export(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(b.String(), "\n"); lines != 2 {
		t.Errorf("%d lines, want the 2 in force", lines)
	}
	r, err := g.Import(t.Context(), &b, decision.ImportOptions{})
	if err != nil || r.Added != 2 || r.Rejected != 0 {
		t.Fatal(r, err)
	}
	if diff := cmp.Diff(f.all(), g.all(), cmpopts.IgnoreFields(defense.Decision{}, "ID", "Sequence")); diff != "" {
		t.Error(diff)
	}
}

func TestNothingIsWrittenBeforeTheLogIsLoaded(t *testing.T) {
	l := decision.NewLog(decision.NewSet(nil), nil, decision.LogOptions{})
	if _, err := l.Add(t.Context(), []defense.Decision{deny("192.0.2.1")}, decision.AddOptions{}); err == nil || !strings.Contains(err.Error(), "not loaded") {
		t.Errorf("got %v", err)
	}
}

func TestWaitingForTheLogEndsWithTheContext(t *testing.T) {
	f := newLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Add(ctx, []defense.Decision{deny("192.0.2.1")}, decision.AddOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if f.Set().Len() != 0 {
		t.Error("it was added all the same")
	}
}

func TestWritersAtOnceGetSequencesOfTheirOwn(t *testing.T) {
	f := newLog(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				ds, err := f.Add(t.Context(), []defense.Decision{deny(fmt.Sprintf("192.0.%d.%d", i, j))}, decision.AddOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := f.Since(t.Context(), decision.Position{After: ds[0].Sequence - 1}, 10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[uint64]bool{}
	for _, d := range f.all() {
		seen[d.Sequence] = true
	}
	if len(seen) != 40 {
		t.Errorf("%d sequences for 40 decisions", len(seen))
	}
	before := f.all()
	f.restart(t)
	if diff := cmp.Diff(before, f.all()); diff != "" {
		t.Error(diff)
	}
}

func TestChangeIsOneOrTheOtherInJSON(t *testing.T) {
	d := deny("192.0.2.1")
	d.Created = noon
	for _, tt := range []struct {
		c    decision.Change
		want string
	}{
		{decision.Change{Sequence: 7, Deleted: "01X"}, `{"sequence":7,"deleted":"01X"}`},
		{decision.Change{Sequence: 8, Decision: &d}, `{"sequence":8,"decision":{"id":"","scope":"address","value":"192.0.2.1","action":"deny","origin":"operator","created":"2026-03-01T12:00:00Z","sequence":0}}`},
	} {
		b, err := json.Marshal(tt.c)
		if err != nil || string(b) != tt.want {
			t.Errorf("%s, %v", b, err)
		}
	}
}
