package record

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func transient(n int) *defense.Event {
	e := numbered(n)
	e.Transient = true
	return e
}

func TestEveryRequestIsLookedAtWhenThatIsAskedFor(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	r := New(Options{SampleAllow: 0.1, Observe: true, Now: time.Now, Random: random.Uint64}, Direct(newMemory()), slog.New(slog.DiscardHandler))
	got := map[Want]int{}
	for range 10_000 {
		got[r.Wants(&defense.Verdict{})]++
	}
	if got[None] != 0 || got[Keep] < 850 || got[Keep] > 1150 {
		t.Errorf("%v of 10,000: all are to be looked at and a tenth kept", got)
	}
}

func TestWhatIsOnlyLookedAtLeavesRoomForWhatIsKept(t *testing.T) {
	for name, o := range map[string]Options{
		"by entries": {Queue: 100},
		"by bytes":   {QueueBytes: 100 * 800},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			o.Observe, o.Now, o.Random = true, time.Now, rand.Uint64
			r := New(o, Direct(newMemory()), slog.New(slog.NewTextHandler(&log, nil)))
			looked := 0
			for range 300 {
				if r.Wants(&defense.Verdict{}) == Transient {
					looked++
					r.Record(transient(looked))
				}
			}
			if looked < 70 || looked > 78 {
				t.Errorf("%d of 100 places taken by what is only looked at, want three quarters", looked)
			}
			if r.Wants(deny) != Keep {
				t.Error("no room for what is kept")
			}
			s := r.Stats()
			if s.Unobserved != uint64(300-looked) || s.Dropped != 0 {
				t.Errorf("%+v", s)
			}
			r.reportDrops()
			if !strings.Contains(log.String(), "more requests than can be looked at") || strings.Contains(log.String(), "queue is full") {
				t.Errorf("said:\n%s", log.String())
			}
		})
	}
}

func TestAnArchiveNeverSeesWhatIsOnlyLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r, stop := start(t, Options{Observe: true, Batch: 10}, m, new(bytes.Buffer))
		for n := range 25 {
			if n%3 == 0 {
				r.Record(numbered(n))
			} else {
				r.Record(transient(n))
			}
		}
		for range 3 { // a batch of nothing but transient events is no write
			for n := range 10 {
				r.Record(transient(100 + n))
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		for n := range 25 {
			if m.ids[numbered(n).ID] != (n%3 == 0) {
				t.Errorf("event %d: stored %v", n, m.ids[numbered(n).ID])
			}
		}
		if len(m.ids) != 9 || slices.Contains(m.batches, 0) {
			t.Errorf("%d stored, batches of %v", len(m.ids), m.batches)
		}
		if s := r.Stats(); s.Recorded != 9 || s.Observed != 46 || s.Dropped+s.Unobserved != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestDirectLeavesTheBatchAsItIs(t *testing.T) {
	batch := []*defense.Event{numbered(0), transient(1), numbered(2), transient(3)}
	before := slices.Clone(batch)
	m := newMemory()
	if d, err := Direct(m).Append(t.Context(), batch); d != 0 || err != nil || len(m.ids) != 2 {
		t.Error(d, err, m.ids)
	}
	if !slices.Equal(before, batch) {
		t.Error("the caller's slice was changed: what is sent again would be something else")
	}
}

// sink counts sets of counters by id, and may do its work and fail all the same.
type sink struct {
	mu   sync.Mutex
	sets map[string][]Counter
	ids  []string // as they came
	err  func() error
}

func (s *sink) Append(context.Context, []*defense.Event) (int, error) { return 0, nil }

func (s *sink) AddCounters(_ context.Context, id string, counters []Counter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, id)
	if old, ok := s.sets[id]; ok && !cmp.Equal(old, counters) {
		return errors.New("another set under the same id")
	}
	s.sets[id] = slices.Clone(counters)
	return s.err()
}

func TestCountersAreSentAgainAsTheyWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 3
		s := &sink{sets: map[string][]Counter{}, err: func() error {
			if failures--; failures >= 0 {
				return errors.New("the answer was lost")
			}
			return nil
		}}
		r := New(Options{Sites: []string{"wiki"}, Now: time.Now, Random: rand.Uint64}, s, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		counted := uint64(0)
		for range 20 { // it goes on while the sink fails
			r.Count(deny, "wiki")
			counted++
			time.Sleep(time.Second)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		total := uint64(0)
		for _, set := range s.sets {
			for _, c := range set {
				total += c.Count
			}
		}
		if total != counted {
			t.Errorf("%d counted by id, want %d", total, counted)
		}
		if len(s.ids) < 5 || s.ids[0] != s.ids[1] || s.ids[1] != s.ids[3] || s.ids[3] == s.ids[4] {
			t.Errorf("ids %v: the same until it was taken, then another", s.ids)
		}
	})
}

// busy is an error that asks for patience.
type busy struct{ time.Duration }

func (b busy) Error() string             { return "busy" }
func (b busy) RetryAfter() time.Duration { return b.Duration }

func TestASinkThatAsksForPatienceIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts []time.Time
		s := &sink{sets: map[string][]Counter{}, err: func() error {
			attempts = append(attempts, time.Now())
			if len(attempts) < 3 {
				return errors.Join(errors.New("sending"), busy{20 * time.Second})
			}
			return nil
		}}
		r := New(Options{Now: time.Now, Random: rand.Uint64}, s, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		r.Count(deny, "")
		time.Sleep(2 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(attempts) != 3 || attempts[1].Sub(attempts[0]) < 20*time.Second || attempts[2].Sub(attempts[1]) < 20*time.Second {
			t.Errorf("attempts at %v", attempts)
		}
	})
}

func TestAPrunerThatFailsIsSaidOnceAndOneWithoutLimitsHasNothingToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		if err := NewPruner(PrunerOptions{Now: time.Now}, m, logger).Run(t.Context()); err != nil || len(m.prunes) != 0 {
			t.Errorf("%v, pruned %v", err, m.prunes)
		}
		m.fail(errors.New("disk full"))
		p := NewPruner(PrunerOptions{MaxBytes: 1, Now: time.Now}, m, logger)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if s := p.Stats(); s.Err == nil {
			t.Errorf("%+v", s)
		}
		m.fail(nil)
		time.Sleep(10 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if e, i := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "level=INFO"); e != 1 || i != 1 || p.Stats().Err != nil {
			t.Errorf("%d errors and %d recoveries said:\n%s", e, i, log.String())
		}
	})
}

// BenchmarkObserved is what every plainly allowed request costs when all are looked at, without the event itself.
func BenchmarkObserved(b *testing.B) {
	r := New(Options{SampleAllow: 0.01, Observe: true, Now: time.Now, Random: rand.Uint64}, Direct(newMemory()), slog.New(slog.DiscardHandler))
	v := &defense.Verdict{}
	b.ReportAllocs()
	for b.Loop() {
		r.Count(v, "")
		if r.Wants(v) == None {
			b.Fatal("not wanted")
		}
	}
}
