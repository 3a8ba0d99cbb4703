package record

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// memory is an archive that can be told to fail or to hang.
type memory struct {
	mu       sync.Mutex
	err      error
	hang     chan struct{} // Append waits until it is closed, or its context ends
	ids      map[string]bool
	counts   map[string]uint64
	batches  []int
	attempts int
	prunes   []time.Time
}

func newMemory() *memory { return &memory{ids: map[string]bool{}, counts: map[string]uint64{}} }

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) Append(ctx context.Context, events []*defense.Event) (duplicates int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attempts++
	if m.hang != nil {
		select {
		case <-m.hang:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if m.err != nil {
		return 0, m.err
	}
	m.batches = append(m.batches, len(events))
	for _, e := range events {
		if m.ids[e.ID] {
			duplicates++
		}
		m.ids[e.ID] = true
	}
	return duplicates, nil
}

func (m *memory) AddCounters(_ context.Context, counters []Counter) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	for _, c := range counters {
		m.counts[c.Hour.Format("15:04 ")+c.Site+" "+c.Action.String()+" "+c.Intended.String()] += c.Count
	}
	return nil
}

func (m *memory) Prune(_ context.Context, _ time.Duration, _ int64, now time.Time) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prunes = append(m.prunes, now)
	return 3, m.err
}

func (m *memory) Size() (int64, error) { return 4096, nil }

func (m *memory) stored() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ids)
}

var deny = &defense.Verdict{Action: defense.Deny, Intended: defense.Deny}

func numbered(n int) *defense.Event {
	return &defense.Event{ID: string(rune('A' + n)), Request: defense.EventRequest{Path: "/"}}
}

// start runs a recorder until the returned function is called, which gives Run's error.
func start(t *testing.T, o Options, a Archive, log *bytes.Buffer) (*Recorder, func() error) {
	t.Helper()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Uint64
	}
	r := New(o, Direct(a), slog.New(slog.NewTextHandler(log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	stop := func() error {
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if !stopped {
			stop()
		}
	})
	return r, stop
}

func TestWhatIsRecorded(t *testing.T) {
	v := func(action, intended defense.Action, shadow ...defense.ShadowHit) *defense.Verdict {
		return &defense.Verdict{Action: action, Intended: intended, Shadow: shadow}
	}
	r := New(Options{Now: time.Now, Random: rand.Uint64}, Direct(newMemory()), slog.New(slog.DiscardHandler))
	observing := New(Options{Now: time.Now, Random: rand.Uint64, Observe: true}, Direct(newMemory()), slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		name string
		v    *defense.Verdict
		want Want
	}{
		{"plainly allowed", v(defense.Allow, defense.Allow), None},
		{"denied", v(defense.Deny, defense.Deny), Keep},
		{"observed", v(defense.Observe, defense.Challenge), Keep},
		{"allowed, but intended otherwise", v(defense.Allow, defense.Challenge), Keep},
		{"allowed, but a shadow rule matched", v(defense.Allow, defense.Allow, defense.ShadowHit{Rule: "x"}), Keep},
	} {
		if got := r.Wants(tt.v); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
		if got := observing.Wants(tt.v); got != tt.want && (got != Transient || tt.want != None) {
			t.Errorf("%s, with every request observed: %v", tt.name, got)
		}
	}
}

func TestAllowedRequestsAreSampledAtTheGivenShare(t *testing.T) {
	allow := &defense.Verdict{}
	for _, tt := range []struct {
		share     float64
		low, high int // of 100,000
	}{{0, 0, 0}, {-1, 0, 0}, {0.01, 850, 1150}, {0.5, 49_000, 51_000}, {1, 100_000, 100_000}, {7, 100_000, 100_000}} {
		random := rand.New(rand.NewPCG(1, 1))
		r := New(Options{SampleAllow: tt.share, Now: time.Now, Random: random.Uint64}, Direct(newMemory()), slog.New(slog.DiscardHandler))
		n := 0
		for range 100_000 {
			if r.Wants(allow) == Keep {
				n++
			}
		}
		if n < tt.low || n > tt.high {
			t.Errorf("share %v: %d of 100,000", tt.share, n)
		}
	}
}

func TestEventsAreWrittenInBatchesWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r, stop := start(t, Options{Batch: 10}, m, new(bytes.Buffer))
		for n := range 25 {
			r.Record(numbered(n))
		}
		synctest.Wait()
		if got := m.stored(); got != 20 {
			t.Errorf("%d stored at once, want two full batches", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := m.stored(); got != 25 {
			t.Errorf("%d stored after a second, want all", got)
		}
		r.Record(numbered(3))
		if err := stop(); err != nil {
			t.Error(err)
		}
		if s := r.Stats(); s.Recorded != 25 || s.Duplicates != 1 || s.Dropped != 0 || s.Queued != 0 || s.QueuedBytes != 0 || s.Err != nil {
			t.Errorf("%+v", s)
		}
	})
}

func TestAFullQueueDropsAndCountsButNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.hang = make(chan struct{})
		var log bytes.Buffer
		r, stop := start(t, Options{Queue: 50, Batch: 10, Drain: time.Hour}, m, &log)
		for n := range 10 { // one batch hangs in the archive
			r.Record(numbered(n))
		}
		synctest.Wait()
		// If one of these blocked, the bubble would deadlock and the test fail.
		for n := range 200 {
			r.Record(numbered(10 + n))
		}
		if s := r.Stats(); s.Queued != 50 || s.Dropped != 150 {
			t.Errorf("%d queued, %d dropped; want 50 and 150", s.Queued, s.Dropped)
		}
		close(m.hang)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if got := m.stored(); got != 60 {
			t.Errorf("%d stored, want 60", got)
		}
		r.Record(numbered(1))
		if s := r.Stats(); s.Dropped != 151 || s.QueuedBytes != 0 {
			t.Errorf("after the end: %+v", s)
		}
	})
}

func TestTheQueueIsBoundedByBytesToo(t *testing.T) {
	r := New(Options{QueueBytes: 100_000, Now: time.Now, Random: rand.Uint64}, Direct(newMemory()), slog.New(slog.DiscardHandler))
	for range 200 {
		r.Record(&defense.Event{Request: defense.EventRequest{Path: strings.Repeat("x", 1<<20), Agent: strings.Repeat("y", 1<<20)}})
	}
	s := r.Stats()
	if s.QueuedBytes > 100_000 || s.Queued < 20 || s.Queued > 40 || s.Dropped != uint64(200-s.Queued) {
		t.Errorf("%+v", s)
	}
}

func TestAnArchiveThatFailsIsTriedAgainAndSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var log bytes.Buffer
		r, stop := start(t, Options{Sites: []string{"wiki"}, Queue: 100, Batch: 10}, m, &log)
		time.Sleep(500 * time.Millisecond)
		full := errors.New("disk full")
		m.fail(full)
		for n := range 30 {
			r.Count(deny, "wiki")
			r.Record(numbered(n))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := r.Stats(); !errors.Is(s.Err, full) || s.Failed < 5 || s.Failed > 20 {
			t.Errorf("while away: %+v; the waits between attempts should grow to a minute", s)
		}
		m.fail(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := m.stored(); got != 30 {
			t.Errorf("%d stored after the archive came back, want all 30", got)
		}
		if s := r.Stats(); s.Err != nil {
			t.Errorf("still %v", s.Err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		var total uint64
		for _, n := range m.counts {
			total += n
		}
		if total != 30 {
			t.Errorf("counted %d, want 30: %v", total, m.counts)
		}
		if e, i := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "level=INFO"); e != 1 || i != 1 {
			t.Errorf("%d errors and %d recoveries said, want one each:\n%s", e, i, log.String())
		}
	})
}

func TestDroppingIsSaidOnceWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r, stop := start(t, Options{Queue: 10}, newMemory(), &log)
		for range 5 { // every other second is overfull
			for n := range 40 {
				r.Record(numbered(n))
			}
			time.Sleep(2 * time.Second)
		}
		time.Sleep(2 * time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if r.Stats().Dropped == 0 {
			t.Fatal("nothing was dropped")
		}
		if n := strings.Count(log.String(), "queue is full"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log.String())
		}
		if n := strings.Count(log.String(), "has room again"); n != 1 {
			t.Errorf("its end was said %d times:\n%s", n, log.String())
		}
	})
}

func TestShutdownWritesWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r, stop := start(t, Options{Batch: 10}, m, new(bytes.Buffer))
		synctest.Wait()
		for n := range 95 {
			r.Count(deny, "")
			r.Record(numbered(n))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if got := m.stored(); got != 95 {
			t.Errorf("%d stored, want 95", got)
		}
		for k, n := range m.counts {
			if !strings.HasSuffix(k, " deny deny") || n != 95 {
				t.Errorf("%s: %d", k, n)
			}
		}
	})
}

func TestShutdownGivesUpOnADeadArchiveInTime(t *testing.T) {
	for name, break_ := range map[string]func(*memory){
		"fails": func(m *memory) { m.err = errors.New("disk full") },
		"hangs": func(m *memory) { m.hang = make(chan struct{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				break_(m)
				r, stop := start(t, Options{Batch: 10, Drain: 5 * time.Second}, m, new(bytes.Buffer))
				for n := range 25 {
					r.Record(numbered(n))
				}
				begin := time.Now() // the bubble's clock
				err := stop()
				if err == nil || !strings.Contains(err.Error(), "25 not written") {
					t.Errorf("got %v", err)
				}
				if d := time.Since(begin); d > 5*time.Second {
					t.Errorf("it took %s", d)
				}
				if s := r.Stats(); s.Dropped != 25 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestCountsFallIntoTheirHourAndSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight
		m := newMemory()
		r, stop := start(t, Options{Sites: []string{"wiki", "forge"}}, m, new(bytes.Buffer))
		held := &defense.Verdict{Action: defense.Observe, Intended: defense.Challenge}
		r.Count(deny, "wiki")
		r.Count(held, "wiki")
		r.Count(held, "wiki")
		r.Count(held, "unheard-of")
		time.Sleep(time.Hour)
		r.Count(deny, "wiki")
		r.Count(&defense.Verdict{}, "forge")
		r.Count(&defense.Verdict{Action: 200, Intended: 200}, "forge") // must not panic
		if err := stop(); err != nil {
			t.Error(err)
		}
		want := map[string]uint64{
			"00:00 wiki deny deny": 1, "00:00 wiki observe challenge": 2, "00:00  observe challenge": 1,
			"01:00 wiki deny deny": 1, "01:00 forge allow allow": 1,
		}
		if len(m.counts) != len(want) {
			t.Errorf("got %v", m.counts)
		}
		for k, n := range want {
			if m.counts[k] != n {
				t.Errorf("%q: %d, want %d", k, m.counts[k], n)
			}
		}
	})
}

func TestConcurrentCountsAreExact(t *testing.T) {
	m := newMemory()
	r, stop := start(t, Options{Sites: []string{"wiki"}, Every: time.Millisecond}, m, new(bytes.Buffer))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				r.Count(deny, "wiki")
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var total uint64
	for _, n := range m.counts {
		total += n
	}
	if total != 40_000 {
		t.Errorf("counted %d of 40,000", total)
	}
}

func TestOldEventsAreRemovedAtTheStartAndThenRegularly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		p := NewPruner(PrunerOptions{MaxAge: time.Hour, Every: 5 * time.Minute, Now: time.Now}, m, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
		if s := p.Stats(); len(m.prunes) != 3 || s.Pruned != 9 || s.ArchiveBytes != 4096 || s.Err != nil {
			t.Errorf("pruned at %v: %+v", m.prunes, s)
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	r := New(Options{Queue: 8192, QueueBytes: 1 << 30, Now: time.Now, Random: rand.Uint64}, Direct(newMemory()), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case q := <-r.queue:
				r.take(q)
			case <-ctx.Done():
				return
			}
		}
	}()
	e := full()
	b.ReportAllocs()
	for b.Loop() {
		c := e
		r.Record(&c)
	}
	cancel()
	<-done
}

// BenchmarkRecordDropped is what an event costs when the queue is full.
func BenchmarkRecordDropped(b *testing.B) {
	r := New(Options{Queue: 1, Now: time.Now, Random: rand.Uint64}, Direct(newMemory()), slog.New(slog.DiscardHandler))
	e := full()
	r.Record(&e)
	b.ReportAllocs()
	for b.Loop() {
		r.Record(&e)
	}
}

func BenchmarkCountAndWants(b *testing.B) {
	r := New(Options{Sites: []string{"wiki"}, SampleAllow: 0.01, Now: time.Now, Random: rand.Uint64}, Direct(newMemory()), slog.New(slog.DiscardHandler))
	v := &defense.Verdict{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Count(v, "wiki")
			r.Wants(v)
		}
	})
}
