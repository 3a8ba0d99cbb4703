package posture

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// load is what the upstream goes through for some seconds.
type load struct {
	seconds int
	rate    int           // requests that end each second
	latency time.Duration // of most of them
	slow    int           // how many of rate take 5 s
	failed  int           // how many of rate answer 500
	dead    int           // requests more that end without any answer
	waiting int           // in flight meanwhile
	gone    int           // requests whose client left
}

// run lives through the loads and returns the changes, such as "10s guarded".
func run(g *Gauge, loads []load) []string {
	var changes []string
	now, was, waiting := noon, g.Current(), 0
	for _, l := range loads {
		for range l.seconds {
			for ; waiting < l.waiting; waiting++ {
				g.Begin()
			}
			for ; waiting > l.waiting; waiting-- {
				g.End(now, 0, false)
			}
			end := func(d time.Duration, failed bool) { g.Begin(); g.End(now, d, failed) }
			for i := range l.rate {
				d := l.latency
				if i < l.slow {
					d = 5 * time.Second
				}
				end(d, i >= l.rate-l.failed)
			}
			for range l.dead {
				end(0, true)
			}
			for range l.gone {
				end(0, false)
			}
			now = now.Add(time.Second)
			g.Tick(now)
			if p := g.Current(); p != was {
				changes = append(changes, fmt.Sprintf("%v %v", now.Sub(noon), p))
				was = p
			}
		}
	}
	return changes
}

const (
	fast = 50 * time.Millisecond
	lame = 1500 * time.Millisecond
	dire = 4 * time.Second
)

func TestPosture(t *testing.T) {
	quiet := func(seconds int) load { return load{seconds: seconds, rate: 20, latency: fast} }
	tests := []struct {
		name  string
		loads []load
		want  string
	}{
		{"quiet day", []load{quiet(600)}, ""},
		{"nobody there", []load{{seconds: 600}}, ""},
		{"one bad window raises nothing", []load{quiet(10), {seconds: 5, rate: 20, latency: dire}, quiet(60)}, ""},
		{"bad windows apart raise nothing", []load{quiet(10), {seconds: 5, rate: 20, latency: dire}, quiet(5), {seconds: 5, rate: 20, latency: dire}, quiet(60)}, ""},
		{"sustained latency", []load{quiet(10), {seconds: 60, rate: 20, latency: lame}}, "20s guarded"},
		{"a tenth may be slow", []load{{seconds: 60, rate: 20, latency: fast, slow: 2}}, ""},
		{"more than a tenth may not", []load{{seconds: 60, rate: 20, latency: fast, slow: 3}}, "10s siege"},
		{"straight to siege", []load{quiet(10), {seconds: 20, rate: 20, latency: dire}}, "20s siege"},
		{"siege after guarded", []load{{seconds: 20, rate: 20, latency: lame}, {seconds: 20, rate: 20, latency: dire}}, "10s guarded, 30s siege"},
		{"half bad, half worse is the milder", []load{{seconds: 5, rate: 20, latency: lame}, {seconds: 5, rate: 20, latency: dire}, quiet(5)}, "10s guarded"},
		{"errors", []load{{seconds: 20, rate: 20, latency: fast, failed: 1}}, "10s guarded"},
		{"few errors", []load{{seconds: 60, rate: 50, latency: fast, failed: 2}}, ""},
		{"upstream down", []load{{seconds: 20, dead: 20}}, "10s siege"},
		{"upstream down on a small site", []load{{seconds: 200, dead: 1}}, "20s siege"},
		{"a handful of errors at night is no reason", []load{{seconds: 30, dead: 0}, {seconds: 1, dead: 4}, {seconds: 120}}, ""},
		{"clients that leave are no errors", []load{{seconds: 60, rate: 4, latency: fast, gone: 100}}, ""},
		{"clients that leave do not dilute errors", []load{{seconds: 20, rate: 20, latency: fast, failed: 10, gone: 1000}}, "10s siege"},
		{"all hang, nothing ends", []load{{seconds: 20, waiting: 150}}, "10s guarded"},
		{"all hang on a large site", []load{{seconds: 20, waiting: 500}}, "10s siege"},
		{"a spike of waiting requests is averaged", []load{{seconds: 4, waiting: 10}, {seconds: 1, waiting: 450}, {seconds: 60, waiting: 10}}, ""},
		{"slow on a small site", []load{{seconds: 60, rate: 1, latency: dire}}, "20s siege"},
		{"recovery goes step by step", []load{{seconds: 10, rate: 20, latency: dire}, quiet(300)}, "10s siege, 1m10s guarded, 2m10s calm"},
		{"recovery when all clients leave", []load{{seconds: 10, rate: 20, latency: dire}, {seconds: 300}}, "10s siege, 1m10s guarded, 2m10s calm"},
		{"recovery into a lame upstream stays guarded", []load{{seconds: 10, rate: 20, latency: dire}, {seconds: 300, rate: 20, latency: lame}}, "10s siege, 1m10s guarded"},
		{"one bad window starts the dwell time again", []load{{seconds: 10, rate: 20, latency: lame}, quiet(50), {seconds: 5, rate: 20, latency: lame}, quiet(100)}, "10s guarded, 2m5s calm"},
		{"waves do not make it swing", slices.Repeat([]load{{seconds: 10, rate: 20, latency: lame}, quiet(40)}, 12), "10s guarded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(run(New(Config{}, noon), tt.loads), ", ")
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestConfiguredThresholds(t *testing.T) {
	c := Config{
		GuardedLatency: 10 * time.Millisecond, SiegeLatency: 20 * time.Millisecond, GuardedErrors: 0.5, SiegeErrors: 0.9,
		GuardedInFlight: 3, SiegeInFlight: 5, MinRequests: 100, Window: 2 * time.Second, Dwell: 10 * time.Second,
	}
	tests := []struct {
		name string
		l    load
		want string
	}{
		{"latency", load{seconds: 4, rate: 100, latency: 15 * time.Millisecond}, "4s guarded"},
		{"siege latency", load{seconds: 4, rate: 100, latency: 25 * time.Millisecond}, "4s siege"},
		{"errors below", load{seconds: 4, rate: 100, latency: 1, failed: 49}, ""},
		{"errors", load{seconds: 4, rate: 100, latency: 1, failed: 50}, "4s guarded"},
		{"siege errors", load{seconds: 4, rate: 100, latency: 1, failed: 90}, "4s siege"},
		{"too few requests", load{seconds: 30, rate: 8, latency: 25 * time.Millisecond}, ""},
		{"in flight", load{seconds: 4, waiting: 3}, "4s guarded"},
		{"siege in flight", load{seconds: 4, waiting: 5}, "4s siege"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(run(New(c, noon), []load{tt.l}), ", ")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	got := strings.Join(run(New(c, noon), []load{{seconds: 4, waiting: 5}, {seconds: 40}}), ", ")
	if want := "4s siege, 16s guarded, 28s calm"; got != want { // windows without requests last 12 s
		t.Errorf("dwell: got %q, want %q", got, want)
	}
}

func TestPinnedPostureHolds(t *testing.T) {
	for _, p := range []defense.Posture{defense.Calm, defense.Guarded, defense.Siege} {
		g := New(Config{Fixed: &p}, noon)
		if changes := run(g, []load{{seconds: 30, rate: 20, latency: dire}, {seconds: 300, rate: 20, latency: fast}}); changes != nil || g.Current() != p {
			t.Errorf("pinned %v: %v, now %v", p, changes, g.Current())
		}
		if s := g.Snapshot(); !s.Fixed || s.Window.Requests != 100 {
			t.Errorf("the load must be measured all the same: %+v", s)
		}
	}
}

func TestLateTicksAndAClockSetBack(t *testing.T) {
	g := New(Config{}, noon)
	// Asleep for an hour: one window, however long.
	for range 100 {
		g.Begin()
		g.End(noon, dire, false)
	}
	g.Tick(noon.Add(time.Hour))
	if g.Current() != defense.Calm {
		t.Error("one window must not raise")
	}
	g.Tick(noon.Add(-time.Hour))
	now := noon.Add(-time.Hour)
	for range 10 {
		for range 20 {
			g.Begin()
			g.End(now, dire, false)
		}
		now = now.Add(time.Second)
		g.Tick(now)
	}
	if g.Current() != defense.Siege {
		t.Errorf("%v: windows must go on after the clock was set back", g.Current())
	}
}

func TestSnapshotShowsTheNumbers(t *testing.T) {
	g := New(Config{}, noon)
	run(g, []load{{seconds: 10, rate: 10, latency: lame, slow: 2, failed: 3, dead: 2, waiting: 7, gone: 5}})
	want := Snapshot{
		Posture: defense.Siege, Since: noon.Add(10 * time.Second), Changes: 1, Causes: []string{"latency", "errors"},
		InFlight: 7, LastAnswer: noon.Add(9 * time.Second),
		Window: Window{
			Length: 5 * time.Second, Requests: 60, ErrorShare: 25.0 / 60, SlowShare: 1, VerySlowShare: 0.2,
			MeanLatency: 2200 * time.Millisecond, InFlight: 7,
		},
	}
	if d := cmp.Diff(want, g.Snapshot()); d != "" {
		t.Error("(-want +got)", d)
	}
}

func TestConcurrentUse(t *testing.T) {
	g := New(Config{}, noon)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				g.Begin()
				g.Current()
				g.End(noon, fast, false)
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			g.Tick(noon.Add(time.Duration(i) * time.Second))
			g.Snapshot()
		}
	})
	wg.Wait()
	if s := g.Snapshot(); s.InFlight != 0 || s.Posture != defense.Calm {
		t.Errorf("%+v", s)
	}
}

func BenchmarkBeginEnd(b *testing.B) {
	g := New(Config{}, noon)
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g.Begin()
			g.End(noon, fast, false)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				g.Begin()
				g.End(noon, fast, false)
			}
		})
	})
}

func BenchmarkCurrent(b *testing.B) {
	g := New(Config{}, noon)
	b.ReportAllocs()
	for b.Loop() {
		g.Current()
	}
}
