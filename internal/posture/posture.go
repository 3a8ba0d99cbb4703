// Package posture tells how tense the edge should be: calm, guarded or siege.
//
// Three things about the upstream raise the posture: how long it takes to begin
// its answers, how many requests fail, and how many wait for it at once. They are looked at in
// windows of some seconds, and a rise needs two windows in a row, so that one slow query or a
// restarted application raises nothing. Easing goes one step at a time and only when every
// window of the dwell time was better, so that the edge does not swing when a crawl comes in waves.
//
// What takes long by nature must not be taken for distress. A request is measured
// only until the header of its answer: downloads, event streams and upgraded
// connections count neither as slow nor as waiting once they have begun. A long poll, whose header is
// what is waited for, looks like a slow answer; leave it out if a site has many of them.
package posture

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// Config says what raises the posture. A field that is zero has its default.
type Config struct {
	// Fixed pins the posture; nil lets the load decide.
	Fixed *defense.Posture

	// GuardedLatency and SiegeLatency raise the posture when more than a tenth of
	// a window's answers took longer to begin. Defaults 1 s and 3 s.
	GuardedLatency, SiegeLatency time.Duration
	// GuardedErrors and SiegeErrors raise it when at least that share of a window's
	// requests failed, 0..1. Defaults 0.05 and 0.2.
	GuardedErrors, SiegeErrors float64
	// GuardedInFlight and SiegeInFlight raise it when at least so many requests
	// wait for the upstream on average over a window. Defaults 100 and 400.
	GuardedInFlight, SiegeInFlight int

	// MinRequests is how many requests a window needs before latency and errors are
	// judged. Default 10.
	MinRequests int
	// Window is how long one window lasts. With fewer than MinRequests requests it
	// is prolonged, up to six times, so that a small site is judged as well. Default 5 s.
	Window time.Duration
	// Dwell is how long a posture lasts at least, and how long the load must have
	// been better, before it eases by one step. Default 60 s.
	Dwell time.Duration
}

// slowShare is the share of answers that may be slow: the latency that counts is the 90th percentile.
const slowShare = 0.1

// maxStretch is how many times Window a window with few requests may last.
const maxStretch = 6

func (c *Config) setDefaults() {
	setDefault(&c.GuardedLatency, time.Second)
	setDefault(&c.SiegeLatency, 3*time.Second)
	setDefault(&c.GuardedErrors, 0.05)
	setDefault(&c.SiegeErrors, 0.2)
	setDefault(&c.GuardedInFlight, 100)
	setDefault(&c.SiegeInFlight, 400)
	setDefault(&c.MinRequests, 10)
	setDefault(&c.Window, 5*time.Second)
	setDefault(&c.Dwell, time.Minute)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Gauge measures the upstream and holds the posture. Begin, End and Current may
// be called by any number of goroutines and take no lock; one goroutine calls Tick.
type Gauge struct {
	cfg     Config
	posture atomic.Uint32

	// The window that is being filled.
	inFlight    atomic.Int64
	requests    atomic.Int64 // that ended, those without an answer because the client left excepted
	failed      atomic.Int64
	answers     atomic.Int64 // of which the latency is known
	overGuarded atomic.Int64
	overSiege   atomic.Int64
	latency     atomic.Int64 // sum, nanoseconds
	lastAnswer  atomic.Int64 // Unix nanoseconds, 0 for none

	mu         sync.Mutex // guards what follows, for Tick and Snapshot
	began      time.Time  // of the window
	samples    int64      // of inFlight in this window
	sampled    int64      // their sum
	before     level      // of the window before this one
	since      time.Time  // of the latest change of posture
	better     time.Time  // since when every window asked for less than the posture
	changes    uint64
	lastWindow Window
}

// level is what a window asks for, by each of the three measures.
type level struct{ latency, errors, inFlight defense.Posture }

func (l level) posture() defense.Posture { return max(l.latency, l.errors, l.inFlight) }

// New returns a Gauge that is calm, or as c.Fixed says.
func New(c Config, now time.Time) *Gauge {
	c.setDefaults()
	g := &Gauge{cfg: c, began: now, since: now, better: now}
	if c.Fixed != nil {
		g.posture.Store(uint32(*c.Fixed))
	}
	return g
}

// Current returns the posture.
func (g *Gauge) Current() defense.Posture { return defense.Posture(g.posture.Load()) }

// Begin counts a request that is being sent to the upstream. Each Begin needs one End.
func (g *Gauge) Begin() { g.inFlight.Add(1) }

// End says that the answer's header has come, or that none will. Call it then,
// not when the body has been passed on.
//
// latency is the time from Begin to the header, 0 if there was none. failed says that the upstream
// could not be reached, took too long or answered with a status of 500 or more. A request that neither
// failed nor has a latency, because its client left, is not judged.
func (g *Gauge) End(now time.Time, latency time.Duration, failed bool) {
	g.inFlight.Add(-1)
	if latency <= 0 && !failed {
		return
	}
	g.requests.Add(1)
	if failed {
		g.failed.Add(1)
	}
	if latency <= 0 {
		return
	}
	g.answers.Add(1)
	g.latency.Add(int64(latency))
	if latency > g.cfg.GuardedLatency {
		g.overGuarded.Add(1)
	}
	if latency > g.cfg.SiegeLatency {
		g.overSiege.Add(1)
	}
	if !failed {
		g.lastAnswer.Store(now.UnixNano())
	}
}

// Tick looks at the load and, when a window is over, changes the posture if
// there is reason to. Call it about each second; the requests in flight are sampled by it.
func (g *Gauge) Tick(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.samples++
	g.sampled += g.inFlight.Load()

	elapsed := now.Sub(g.began)
	if elapsed < 0 { // the clock was set
		g.began, g.since, g.better = now, now, now
		return
	}
	if elapsed < g.cfg.Window {
		return
	}
	waiting := float64(g.sampled) / float64(g.samples)
	if g.requests.Load() < int64(g.cfg.MinRequests) && waiting < float64(g.cfg.GuardedInFlight) && elapsed < maxStretch*g.cfg.Window {
		return
	}

	w := Window{
		Length:   elapsed,
		InFlight: waiting,
		Requests: g.requests.Swap(0),
	}
	failed, answers, latency := g.failed.Swap(0), g.answers.Swap(0), g.latency.Swap(0)
	w.ErrorShare = share(failed, w.Requests)
	w.SlowShare = share(g.overGuarded.Swap(0), answers)
	w.VerySlowShare = share(g.overSiege.Swap(0), answers)
	if answers > 0 {
		w.MeanLatency = time.Duration(latency / answers)
	}
	g.began, g.samples, g.sampled, g.lastWindow = now, 0, 0, w

	l := g.judge(w, answers)
	both := min(l.posture(), g.before.posture())
	g.before = l
	if g.cfg.Fixed != nil {
		return
	}
	current := g.Current()
	if l.posture() >= current {
		g.better = now
	}
	switch {
	case both > current:
		g.change(both, now)
	case current > defense.Calm && now.Sub(g.better) >= g.cfg.Dwell && now.Sub(g.since) >= g.cfg.Dwell:
		g.change(current-1, now)
	}
}

// change sets the posture and starts its dwell time.
func (g *Gauge) change(p defense.Posture, now time.Time) {
	g.posture.Store(uint32(p))
	g.since = now
	g.changes++
}

// judge returns what the window asks for.
func (g *Gauge) judge(w Window, answers int64) level {
	l := level{inFlight: rise(w.InFlight, float64(g.cfg.GuardedInFlight), float64(g.cfg.SiegeInFlight))}
	if w.Requests >= int64(g.cfg.MinRequests) {
		l.errors = rise(w.ErrorShare, g.cfg.GuardedErrors, g.cfg.SiegeErrors)
	}
	if answers >= int64(g.cfg.MinRequests) {
		switch {
		case w.VerySlowShare > slowShare:
			l.latency = defense.Siege
		case w.SlowShare > slowShare:
			l.latency = defense.Guarded
		}
	}
	return l
}

func rise(v, guarded, siege float64) defense.Posture {
	switch {
	case v >= siege:
		return defense.Siege
	case v >= guarded:
		return defense.Guarded
	}
	return defense.Calm
}

// share returns part/whole, never more than 1: the two are counted one after
// the other, so that a request may end between them.
func share(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return math.Min(1, float64(part)/float64(whole))
}

// Window is what was measured in one window.
type Window struct {
	Length        time.Duration
	Requests      int64         // that ended
	ErrorShare    float64       // of requests, 0..1
	SlowShare     float64       // of answers, longer than GuardedLatency
	VerySlowShare float64       // of answers, longer than SiegeLatency
	MeanLatency   time.Duration // until the header
	InFlight      float64       // mean number waiting
}

// Snapshot is the gauge's state, for metrics and health.
type Snapshot struct {
	Posture    defense.Posture
	Fixed      bool      // pinned by the operator
	Since      time.Time // when the posture was taken
	Changes    uint64    // of posture, since the start
	Causes     []string  // what the latest window found too high: "latency", "errors", "inFlight"
	InFlight   int64     // waiting for the upstream now
	LastAnswer time.Time // when the upstream last gave a good answer, zero for never
	Window     Window    // the latest complete one
}

// Snapshot returns the current state.
func (g *Gauge) Snapshot() Snapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Snapshot{
		Posture: g.Current(), Fixed: g.cfg.Fixed != nil, Since: g.since, Changes: g.changes,
		InFlight: g.inFlight.Load(), Window: g.lastWindow,
	}
	if n := g.lastAnswer.Load(); n != 0 {
		s.LastAnswer = time.Unix(0, n)
	}
	for _, c := range []struct {
		level defense.Posture
		name  string
	}{{g.before.latency, "latency"}, {g.before.errors, "errors"}, {g.before.inFlight, "inFlight"}} {
		if c.level > defense.Calm {
			s.Causes = append(s.Causes, c.name)
		}
	}
	return s
}
