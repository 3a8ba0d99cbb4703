package decision_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/testlog"
)

// within bounds what would otherwise hang a test. It is no expectation.
const within = 30 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// served is a log behind HTTP that can be away.
type served struct {
	*fixture
	url      string
	api      atomic.Pointer[http.ServeMux]
	away     atomic.Bool
	requests atomic.Int64
	mode     atomic.Uint32
	mu       sync.Mutex
	changed  chan struct{} // closed when the mode changes
	done     chan struct{}
}

func serveLog(t testing.TB) *served {
	s := &served{fixture: newLog(t), changed: make(chan struct{}), done: make(chan struct{})}
	s.publish()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.away.Load() {
			http.Error(w, "away", http.StatusBadGateway)
			return
		}
		s.api.Load().ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(s.done) }) // before the server's Close, which waits for requests
	s.url = srv.URL
	return s
}

// publish serves the log as it is now, as after a restart.
func (s *served) publish() {
	mux := http.NewServeMux()
	api := decision.NewAPI(s.Log, s.clock)
	api.Mode = func() defense.Mode { return defense.Mode(s.mode.Load()) }
	api.ModeChanged = func() <-chan struct{} {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.changed
	}
	api.Done = s.done
	api.Register(mux)
	s.api.Store(mux)
}

func (s *served) setMode(m defense.Mode) {
	s.mode.Store(uint32(m))
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// edge is a set that follows.
type edge struct {
	*decision.Follower
	set  *decision.Set
	log  *testlog.Buffer
	stop func() error
}

func startEdge(t testing.TB, s *served, o decision.FollowerOptions, protected ...netip.Prefix) *edge {
	t.Helper()
	e := &edge{set: decision.NewSet(protected), log: new(testlog.Buffer)}
	o.Log, o.Now = slog.New(slog.NewTextHandler(e.log, nil)), s.clock
	e.Follower = decision.NewFollower(e.set, &decision.Client{Base: s.url, HTTP: &http.Client{Timeout: time.Millisecond}}, o)
	if _, err := e.Load(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	e.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { e.stop() })
	return e
}

func inForce(s *decision.Set, now time.Time) []defense.Decision {
	return s.List(decision.Filter{}, now, 100_000)
}

// inStep waits until the edge has what the log has.
func (e *edge) inStep(t testing.TB, s *served) {
	t.Helper()
	want := inForce(s.Set(), s.clock())
	end := time.Now().Add(within)
	for {
		got := inForce(e.set, s.clock())
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never in step: %s\n%+v\n%s", cmp.Diff(want, got), e.Stats(), e.log.String())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestAnEdgeLearnsOfChangesByWaitingForThem(t *testing.T) {
	s := serveLog(t)
	ds := s.add(t, deny("192.0.2.1"), deny("192.0.2.0/24"))
	e := startEdge(t, s, decision.FollowerOptions{})
	e.inStep(t, s)
	s.add(t, deny("198.51.100.1"), defense.Decision{Scope: defense.ScopeFingerprint, Value: "program:9f2c41d07b3ea865", Action: defense.Challenge, Origin: "engine", Expires: noon.Add(time.Minute)})
	e.inStep(t, s)
	if _, err := s.Delete(t.Context(), ds[0].ID); err != nil {
		t.Fatal(err)
	}
	e.inStep(t, s)
	if st := e.Stats(); !st.Synced || !st.Connected || st.Last != 5 || st.Lag != 0 || st.Decisions != 3 || st.Failures != 0 || st.Err != nil || st.Comparisons != 1 {
		t.Errorf("%+v", st)
	}
	if n := s.requests.Load(); n > 10 {
		t.Errorf("%d requests for three changes: it does not wait", n)
	}
	if err := e.stop(); err != nil {
		t.Error(err)
	}
}

func TestTheModeReachesTheEdges(t *testing.T) {
	s := serveLog(t)
	modes := make(chan defense.Mode, 10)
	path := filepath.Join(t.TempDir(), "decisions.snapshot")
	o := decision.FollowerOptions{Snapshot: path, OnMode: func(m defense.Mode) { modes <- m }}
	e := startEdge(t, s, o)
	for _, m := range []defense.Mode{defense.ModeCertain, defense.ModeEnforce, defense.ModeOff} {
		if m != defense.ModeCertain {
			s.setMode(m)
		}
		select {
		case got := <-modes:
			if got != m {
				t.Errorf("mode %s, want %s", got, m)
			}
		case <-time.After(within):
			t.Fatalf("mode %s never came", m)
		}
	}
	s.add(t, deny("192.0.2.1"))
	e.inStep(t, s)
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	// An edge that starts while the log is away goes on in the mode that was in force.
	s.away.Store(true)
	startEdge(t, s, o)
	select {
	case got := <-modes:
		if got != defense.ModeOff {
			t.Errorf("after a restart: %s", got)
		}
	case <-time.After(within):
		t.Fatal("after a restart the mode is not known")
	}
}

func TestWhileTheLogIsAwayTheEdgeGoesOnWithWhatItKnows(t *testing.T) {
	s := serveLog(t)
	s.add(t, deny("192.0.2.1"))
	e := startEdge(t, s, decision.FollowerOptions{Wait: 50 * time.Millisecond})
	e.inStep(t, s)
	s.away.Store(true)
	eventually(t, "the edge to notice", func() bool { return !e.Stats().Connected && e.Stats().Failures > 1 })
	s.pass(time.Minute)
	if st := e.Stats(); st.Lag != time.Minute || st.Err == nil || st.Decisions != 1 {
		t.Errorf("%+v", st)
	}
	s.add(t, deny("192.0.2.2"))
	s.away.Store(false)
	e.inStep(t, s)
	eventually(t, "the edge to be connected", func() bool { return e.Stats().Connected })
	if n := strings.Count(e.log.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times:\n%s", n, e.log.String())
	}
}

func TestASnapshotSurvivesWithoutTheLog(t *testing.T) {
	s := serveLog(t)
	path := filepath.Join(t.TempDir(), "decisions.snapshot")
	long := deny("192.0.2.1")
	long.Reason, long.Site, long.CaseID, long.Expires = strings.Repeat("ü", 500), strings.Repeat("s", 255), strings.Repeat("c", 64), noon.Add(time.Hour)
	s.add(t, long, deny("2001:db8::/32"), defense.Decision{Scope: defense.ScopeAgent, Value: "BadBot", Action: defense.Deny, Origin: "peer:x"},
		defense.Decision{Scope: defense.ScopeFingerprint, Value: "shape:00000000000000ab", Action: defense.Throttle, Origin: "engine", Expires: noon.Add(time.Minute)})
	e := startEdge(t, s, decision.FollowerOptions{Snapshot: path})
	e.inStep(t, s)
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	s.away.Store(true)
	again := startEdge(t, s, decision.FollowerOptions{Snapshot: path}, netip.MustParsePrefix("192.0.2.0/24"))
	want := slices.DeleteFunc(inForce(s.Set(), noon), func(d defense.Decision) bool { return d.Value == "192.0.2.1" }) // a proxy was made trusted
	if diff := cmp.Diff(want, inForce(again.set, noon)); diff != "" {
		t.Error(diff)
	}
	if st := again.Stats(); !st.Synced || st.Last != 4 || st.Refused != 1 || st.Connected {
		t.Errorf("%+v", st)
	}
	// It goes on from there: only the change comes.
	s.away.Store(false)
	s.add(t, deny("198.51.100.1"))
	eventually(t, "the change", func() bool { return again.Stats().Last == 5 && again.Stats().Connected })
	if st := again.Stats(); st.Changes != 1 || st.Comparisons != 0 {
		t.Errorf("%+v", st)
	}
}

func TestADamagedSnapshotIsMovedAsideAndNothingOfItUsed(t *testing.T) {
	s := serveLog(t)
	path := filepath.Join(t.TempDir(), "decisions.snapshot")
	for i := range 200 {
		s.add(t, deny(fmt.Sprintf("192.0.2.%d", i)))
	}
	e := startEdge(t, s, decision.FollowerOptions{Snapshot: path})
	e.inStep(t, s)
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"cut short":        func(b []byte) []byte { return b[:len(b)-len(b)/3] },
		"without its end":  func(b []byte) []byte { return b[:len(b)-1] },
		"empty":            func([]byte) []byte { return nil },
		"another file":     func([]byte) []byte { return []byte("192.0.2.1\n192.0.2.2\n192.0.2.3\n") },
		"a flipped bit":    func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"of a new version": func(b []byte) []byte { b[7] = 9; return b },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "decisions.snapshot")
			bad := damage(bytes.Clone(whole))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			set := decision.NewSet(nil)
			f := decision.NewFollower(set, &decision.Client{Base: s.url}, decision.FollowerOptions{Snapshot: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if r, err := f.Load(); err != nil || r.Decisions != 0 || set.Len() != 0 || f.Stats().Synced {
				t.Errorf("%+v, %v, %d in the set", r, err, set.Len())
			}
			if b, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.Equal(b, bad) {
				t.Errorf("moved aside: %v", err)
			}
			if !strings.Contains(log.String(), "moved aside") {
				t.Error("nothing was said")
			}
		})
	}
}

func TestWhoIsTooFarBehindIsComparedWithoutAMomentOfMissingDecisions(t *testing.T) {
	s := serveLog(t)
	s.KeepDeletions(5)
	path := filepath.Join(t.TempDir(), "decisions.snapshot")
	keep := s.add(t, deny("192.0.2.1"), deny("198.51.100.0/24"), defense.Decision{Scope: defense.ScopeAgent, Value: "BadBot", Action: defense.Deny, Origin: "operator"})
	gone := s.add(t, deny("203.0.113.1"))
	e := startEdge(t, s, decision.FollowerOptions{Snapshot: path})
	e.inStep(t, s)
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(t.Context(), gone[0].ID); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // more deletions than are remembered
		d := s.add(t, deny(fmt.Sprintf("10.0.0.%d", i)))
		if _, err := s.Delete(t.Context(), d[0].ID); err != nil {
			t.Fatal(err)
		}
	}
	e = startEdge(t, s, decision.FollowerOptions{Snapshot: path})
	var missed atomic.Int64
	watched := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-watched:
				return
			default:
			}
			for _, q := range []decision.Subject{{Addr: netip.MustParseAddr("192.0.2.1")}, {Addr: netip.MustParseAddr("198.51.100.9")}, {Agent: "BadBot/1"}} {
				if !e.set.Lookup(&q, noon).Strong.OK {
					missed.Add(1)
				}
			}
		}
	})
	e.inStep(t, s)
	close(watched)
	watch.Wait()
	if n := missed.Load(); n > 0 {
		t.Errorf("a decision was missing %d times", n)
	}
	if st := e.Stats(); st.Comparisons != 1 || st.Repaired != 1 || st.Decisions != len(keep) {
		t.Errorf("%+v", st)
	}
}

func TestAComparisonRepairsAnyDifference(t *testing.T) {
	s := serveLog(t)
	ds := s.add(t, deny("192.0.2.1"), deny("192.0.2.2"))
	e := startEdge(t, s, decision.FollowerOptions{Resync: time.Hour, Wait: 20 * time.Millisecond})
	e.inStep(t, s)
	if _, err := e.set.Remove(ds[0].ID); err != nil {
		t.Fatal(err)
	}
	stray := deny("203.0.113.1")
	stray.ID, stray.Sequence = "01ARZ3NDEKTSV4RRFFQ69G5FAV", 77
	if err := e.set.Put(stray); err != nil {
		t.Fatal(err)
	}
	s.pass(time.Hour)
	e.inStep(t, s)
	if st := e.Stats(); st.Comparisons != 2 || st.Repaired != 1 {
		t.Errorf("%+v", st)
	}
}

func TestALogThatWasSetBackIsFollowed(t *testing.T) {
	s := serveLog(t)
	s.add(t, deny("192.0.2.1"))
	backup := filepath.Join(t.TempDir(), "state.db")
	out, err := os.Create(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.db.Backup(t.Context(), out), out.Close()); err != nil {
		t.Fatal(err)
	}
	s.add(t, deny("192.0.2.2"), deny("192.0.2.3"))
	e := startEdge(t, s, decision.FollowerOptions{Wait: 20 * time.Millisecond})
	e.inStep(t, s)
	s.away.Store(true)
	s.path = backup
	s.restart(t)
	s.publish()
	s.away.Store(false)
	e.inStep(t, s)
}

func TestWhatAnEdgeMayNotEnforceIsLeftOutAndSaid(t *testing.T) {
	s := serveLog(t)
	proxy := s.add(t, deny("192.0.2.1"), deny("10.0.0.0/8"))[1]
	e := startEdge(t, s, decision.FollowerOptions{}, netip.MustParsePrefix("10.0.0.1/32"))
	eventually(t, "the refusal", func() bool { return e.Stats().Refused == 1 })
	if st := e.Stats(); st.Decisions != 1 || st.Err == nil || !strings.Contains(e.log.String(), "trusted proxy") {
		t.Errorf("%+v\n%s", st, e.log.String())
	}
	if _, err := s.Delete(t.Context(), proxy.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the refusal", func() bool { return e.Stats().Refused == 0 && e.Stats().Err == nil })
}

func TestAgentsForWhichThereIsRoomOnlyAfterDeletionsAreNotLost(t *testing.T) {
	s := serveLog(t)
	full := func(generation string) []defense.Decision {
		ds := make([]defense.Decision, decision.MaxAgents)
		for i := range ds {
			ds[i] = defense.Decision{Scope: defense.ScopeAgent, Value: fmt.Sprintf("%s-%d", generation, i), Action: defense.Deny, Origin: "list:" + generation}
		}
		return ds
	}
	s.add(t, full("old")...)
	e := startEdge(t, s, decision.FollowerOptions{})
	e.inStep(t, s)
	s.away.Store(true)
	if _, err := s.DeleteWhere(t.Context(), decision.Filter{Origin: "list:old"}); err != nil {
		t.Fatal(err)
	}
	s.add(t, full("new")...)
	s.away.Store(false)
	e.inStep(t, s)
	if st := e.Stats(); st.Refused != 0 {
		t.Errorf("%+v", st)
	}
}

// bell is a Bell in this process.
type bell struct {
	mu   sync.Mutex
	fn   func()
	errs int // Listen fails so often at first
	rang int
}

func (b *bell) Listen(ctx context.Context, fn func()) error {
	b.mu.Lock()
	b.fn = fn
	b.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (b *bell) Ring(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rang++
	if b.errs > 0 {
		b.errs--
		return errors.New("broken pipe")
	}
	if b.fn != nil {
		b.fn()
	}
	return nil
}

func TestABellIsHeardWhileTheWaitingRequestIsHeldUp(t *testing.T) {
	s := serveLog(t)
	b := &bell{errs: 1}
	ctx, cancel := context.WithCancel(context.Background())
	announced := make(chan error, 1)
	go func() { announced <- s.Announce(ctx, b, nil, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-announced; err != nil {
			t.Error(err)
		}
	})
	// Something in between holds answers to waiting requests back.
	inner := s.api.Load()
	deaf := http.NewServeMux()
	deaf.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("wait") {
			select {
			case <-r.Context().Done():
			case <-s.done:
			}
			return
		}
		inner.ServeHTTP(w, r)
	})
	s.api.Store(deaf)
	e := startEdge(t, s, decision.FollowerOptions{Bell: b, Wait: time.Minute})
	eventually(t, "the edge to wait", func() bool { return e.Stats().Synced && s.requests.Load() > 1 })
	s.add(t, deny("192.0.2.1"))
	e.inStep(t, s)
	if st := e.Stats(); st.Failures != 0 {
		t.Errorf("%+v", st)
	}
}

func TestWhatChangesWhileTheBellRingsIsRungForAgain(t *testing.T) {
	s := serveLog(t)
	rings, release := make(chan struct{}), make(chan struct{})
	slow := ringer(func(ctx context.Context) error {
		select {
		case rings <- struct{}{}:
			<-release
		case <-ctx.Done():
		}
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	announced := make(chan error, 1)
	modeChanged := func() <-chan struct{} {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.changed
	}
	started := s.Changed()
	go func() { announced <- s.Announce(ctx, slow, modeChanged, slog.New(slog.DiscardHandler)) }()
	// The first change may come before Announce looks: it is repeated until it rings.
	ringing := false
	for i := 0; !ringing; i++ {
		s.add(t, deny(fmt.Sprintf("192.0.2.%d", i%250)))
		if i%250 == 249 {
			if _, err := s.DeleteWhere(t.Context(), decision.Filter{Origin: "operator"}); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-rings:
			ringing = true
		case <-time.After(time.Millisecond):
		}
	}
	<-started
	for _, change := range []func(){func() { s.add(t, deny("198.51.100.1")) }, func() { s.setMode(defense.ModeOff) }} {
		change() // while it rings
		release <- struct{}{}
		select {
		case <-rings:
		case <-time.After(within):
			t.Fatal("a change was not announced")
		}
	}
	cancel()
	close(release)
	if err := <-announced; err != nil {
		t.Error(err)
	}
}

type ringer func(context.Context) error

func (r ringer) Ring(ctx context.Context) error { return r(ctx) }

func TestAServerThatDoesNotWaitIsNotAskedWithoutPause(t *testing.T) {
	s := serveLog(t)
	inner := s.api.Load()
	hasty := http.NewServeMux()
	hasty.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		q.Del("wait")
		r.URL.RawQuery = q.Encode()
		inner.ServeHTTP(w, r)
	})
	s.api.Store(hasty)
	e := startEdge(t, s, decision.FollowerOptions{})
	began := time.Now()
	eventually(t, "a few requests", func() bool { return s.requests.Load() >= 4 })
	if took := time.Since(began); took < 500*time.Millisecond { // two pauses between half a second and a second
		t.Errorf("four requests in %s", took)
	}
	s.add(t, deny("192.0.2.1"))
	e.inStep(t, s)
}

func TestWaitingEndsWithAChangeAModeOrTheServer(t *testing.T) {
	s := serveLog(t)
	s.add(t, deny("192.0.2.1"))
	c := &decision.Client{Base: s.url}
	certain := defense.ModeCertain
	ask := func(o decision.SinceOptions) chan decision.Page {
		got := make(chan decision.Page, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			p, _, err := c.Since(ctx, decision.Position{After: 1}, o)
			if err != nil {
				t.Error(err)
			}
			got <- p
		}()
		return got
	}
	// The mode that the caller knows is another one already.
	s.setMode(defense.ModeObserve)
	if p := <-ask(decision.SinceOptions{Wait: time.Minute, Mode: &certain}); len(p.Changes) != 0 || p.Next.After != 1 {
		t.Errorf("%+v", p)
	}
	if p := <-ask(decision.SinceOptions{Wait: time.Millisecond}); len(p.Changes) != 0 {
		t.Errorf("%+v", p)
	}
	before := s.requests.Load()
	waiting := ask(decision.SinceOptions{Wait: time.Minute})
	eventually(t, "the request", func() bool { return s.requests.Load() > before })
	s.add(t, deny("192.0.2.2"))
	if p := <-waiting; len(p.Changes) != 1 || p.Next.After != 2 {
		t.Errorf("%+v", p)
	}
	if _, _, err := c.Since(t.Context(), decision.Position{After: 99}, decision.SinceOptions{Wait: time.Minute}); !errors.Is(err, decision.ErrBehind) {
		t.Errorf("ahead of the log: %v", err)
	}
	for _, q := range []string{"since=1&wait=61s", "since=1&wait=-1s", "since=1&wait=x", "since=1&mode=x", "wait=1s"} {
		if status, _, body := ask2(t, s.url, q); status/100 != 4 {
			t.Errorf("%s: %d %s", q, status, body)
		}
	}
	if status, _, body := ask2(t, s.url, "since=2&wait=0.001"); status != 200 || !strings.Contains(body, `"mode":"observe"`) {
		t.Errorf("%d %s", status, body)
	}
}

func ask2(t *testing.T, url, query string) (int, string, string) {
	return ask(t, &decision.Client{Base: url, HTTP: http.DefaultClient}, "GET", "/v1/decisions?"+query, "")
}

func TestALogThatAnotherProcessWritesToStopsWorking(t *testing.T) {
	s := serveLog(t)
	s.add(t, deny("192.0.2.1"))
	s.fail = fmt.Errorf("commit: %w", decision.ErrConflict)
	if _, err := s.Add(t.Context(), []defense.Decision{deny("192.0.2.2")}, decision.AddOptions{}); !errors.Is(err, decision.ErrConflict) {
		t.Fatalf("got %v", err)
	}
	s.fail = nil // the store would take it, but it is not ours any more
	if _, err := s.Add(t.Context(), []defense.Decision{deny("192.0.2.2")}, decision.AddOptions{}); !errors.Is(err, decision.ErrConflict) {
		t.Errorf("adding: %v", err)
	}
	if _, err := s.DeleteWhere(t.Context(), decision.Filter{Origin: "operator"}); !errors.Is(err, decision.ErrConflict) {
		t.Errorf("deleting: %v", err)
	}
	if _, err := s.Sweep(t.Context(), 1000); !errors.Is(err, decision.ErrConflict) {
		t.Errorf("sweeping: %v", err)
	}
	if status, _, body := ask2(t, s.url, "since=1"); status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", status, body)
	}
	if !s.strong("192.0.2.1").OK {
		t.Error("what is in force is no longer enforced")
	}
}

// TestEdgesAreInStepWhateverHappens drives a log at random, with restarts of the log and of the edges, interruptions and
// a log that forgets its deletions, and then looks whether everybody has the same.
func TestEdgesAreInStepWhateverHappens(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 7))
			s := serveLog(t)
			s.KeepDeletions(8)
			dir := t.TempDir()
			o := func(i int) decision.FollowerOptions {
				return decision.FollowerOptions{Snapshot: filepath.Join(dir, fmt.Sprint(i)), Wait: 30 * time.Millisecond, Save: time.Millisecond}
			}
			edges := []*edge{startEdge(t, s, o(0)), startEdge(t, s, o(1))}
			random := func() defense.Decision {
				d := defense.Decision{Action: []defense.Action{defense.Challenge, defense.Throttle}[r.IntN(2)], Origin: []string{"operator", "engine", "list:x"}[r.IntN(3)]}
				switch r.IntN(4) {
				case 0:
					d.Value = fmt.Sprintf("10.0.%d.0/24", r.IntN(8))
				case 1:
					d.Scope, d.Value = defense.ScopeFingerprint, defense.Fingerprint{Kind: defense.FingerprintKind(r.IntN(3)), Hash: uint64(1 + r.IntN(8))}.String()
				case 2:
					d.Scope, d.Value = defense.ScopeAgent, fmt.Sprintf("bot-%d", r.IntN(8))
				default:
					d.Value = fmt.Sprintf("10.0.0.%d", r.IntN(30))
				}
				if d.Origin == "engine" || r.IntN(3) == 0 {
					d.Expires = s.clock().Add(time.Duration(1+r.IntN(300)) * time.Second)
				}
				return d
			}
			for range 250 {
				switch n := r.IntN(100); {
				case n < 50:
					ds := make([]defense.Decision, 1+r.IntN(6))
					for i := range ds {
						ds[i] = random()
					}
					s.add(t, ds...)
				case n < 75:
					if ds := inForce(s.Set(), s.clock()); len(ds) > 0 {
						if _, err := s.Delete(t.Context(), ds[r.IntN(len(ds))].ID); err != nil {
							t.Fatal(err)
						}
					}
				case n < 83:
					s.pass(time.Duration(r.IntN(60)) * time.Second)
					if _, err := s.Sweep(t.Context(), 1<<20); err != nil {
						t.Fatal(err)
					}
				case n < 86:
					if _, err := s.DeleteWhere(t.Context(), decision.Filter{Origin: "list:x"}); err != nil {
						t.Fatal(err)
					}
				case n < 92:
					i := r.IntN(len(edges))
					if err := edges[i].stop(); err != nil {
						t.Fatal(err)
					}
					edges[i] = startEdge(t, s, o(i))
				case n < 95:
					s.away.Store(true)
					s.restart(t)
					s.KeepDeletions(8)
					s.publish()
					s.away.Store(false)
				case n < 98:
					time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
				default:
					s.away.Store(!s.away.Load())
				}
			}
			s.away.Store(false)
			for _, e := range edges {
				e.inStep(t, s)
				if _, err := e.set.Sweep(s.clock(), 1<<20); err != nil {
					t.Error(err)
				}
				if st := e.Stats(); st.Refused != 0 {
					t.Errorf("%+v", st)
				}
			}
			// And so is an edge that has nothing but the file of another.
			if err := edges[0].stop(); err != nil {
				t.Fatal(err)
			}
			s.away.Store(true)
			last := startEdge(t, s, o(0))
			if diff := cmp.Diff(inForce(s.Set(), s.clock()), inForce(last.set, s.clock())); diff != "" {
				t.Errorf("from the file: %s", diff)
			}
		})
	}
}

// BenchmarkReachingAnEdge measures the time from Add to the edge's set, over HTTP on this machine.
func BenchmarkReachingAnEdge(b *testing.B) {
	s := serveLog(b)
	e := startEdge(b, s, decision.FollowerOptions{})
	eventually(b, "the edge", func() bool { return e.Stats().Synced })
	for i := 0; b.Loop(); i++ {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if _, err := s.Add(b.Context(), []defense.Decision{deny(a.String())}, decision.AddOptions{}); err != nil {
			b.Fatal(err)
		}
		for !e.set.Lookup(&decision.Subject{Addr: a}, noon).Strong.OK {
			time.Sleep(50 * time.Microsecond)
		}
	}
}
