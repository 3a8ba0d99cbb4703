package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/testlog"
)

// memory is a queue in memory that can be told to fail.
type memory struct {
	queue.Queue // what is not used

	mu      sync.Mutex
	err     error                       // of every call
	hang    bool                        // Append waits for the end of its context
	batches []queue.Batch               // acknowledged ones are removed
	out     map[string]bool             // handed out
	n       int                         // appends so far
	asked   int                         // appends tried so far
	changed chan struct{}               // after an append or a release
	taken   func(queue.Batch)           // called for each append
	depth   func() (queue.Depth, error) // nil: counts
}

func newMemory() *memory {
	return &memory{out: map[string]bool{}, changed: make(chan struct{}, 1)}
}

func (m *memory) set(err error, hang bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err, m.hang = err, hang
}

func (m *memory) wake() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func (m *memory) Append(ctx context.Context, b queue.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.hang {
		m.mu.Unlock()
		<-ctx.Done()
		m.mu.Lock()
		return ctx.Err()
	}
	if m.err != nil {
		return m.err
	}
	m.n++
	b.ID = fmt.Sprintf("%06d", m.n)
	m.batches = append(m.batches, b)
	if m.taken != nil {
		m.taken(b)
	}
	m.wake()
	return nil
}

func (m *memory) Next(ctx context.Context, limit int) ([]queue.Batch, error) {
	for {
		m.mu.Lock()
		var bs []queue.Batch
		for _, b := range m.batches {
			if !m.out[b.ID] && len(bs) < limit && m.err == nil {
				m.out[b.ID] = true
				bs = append(bs, b)
			}
		}
		err := m.err
		m.mu.Unlock()
		if len(bs) > 0 || err != nil {
			return bs, err
		}
		select {
		case <-m.changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (m *memory) Ack(_ context.Context, ids ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.batches = slices.DeleteFunc(m.batches, func(b queue.Batch) bool { return slices.Contains(ids, b.ID) })
	return nil
}

func (m *memory) Release(_ context.Context, ids ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		delete(m.out, id)
	}
	m.wake()
	return nil
}

func (m *memory) Depth(context.Context) (queue.Depth, error) {
	if m.depth != nil {
		return m.depth()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return queue.Depth{Batches: len(m.batches)}, m.err
}

// bodies returns what the queue holds.
func (m *memory) bodies() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for _, b := range m.batches {
		all = append(all, string(b.Body))
	}
	return strings.Join(all, " ")
}

func (m *memory) tried() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func spool(o queue.SpoolOptions) (s *queue.Spool, primary, disk *memory, log *testlog.Buffer) {
	primary, disk, log = newMemory(), newMemory(), &testlog.Buffer{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	return queue.NewSpool(primary, disk, o), primary, disk, log
}

func appendTo(t *testing.T, q queue.Queue, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := q.Append(t.Context(), queue.Batch{Body: []byte(b), Source: "edge", Events: 1}); err != nil {
			t.Fatal(err)
		}
	}
}

func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s for a minute", what)
		}
	}
}

func TestBatchesGoToDiskWhileThePrimaryQueueFails(t *testing.T) {
	t.Parallel()
	s, primary, disk, log := spool(queue.SpoolOptions{Pause: time.Hour})
	appendTo(t, s, "a")
	primary.set(iotest.ErrTimeout, false)
	appendTo(t, s, "b", "c", "d")
	if primary.bodies() != "a" || disk.bodies() != "b c d" {
		t.Errorf("primary %q, disk %q", primary.bodies(), disk.bodies())
	}
	if n := primary.tried(); n != 2 {
		t.Errorf("the primary queue was asked %d times, want 2: then there is a pause", n)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if got := s.Stats(); got != (queue.SpoolStats{Spooled: 3, Away: true}) {
		t.Errorf("%+v", got)
	}
	disk.set(errors.New("disk broken"), false)
	err := s.Append(t.Context(), queue.Batch{})
	if err == nil || !errors.Is(err, iotest.ErrTimeout) || !strings.Contains(err.Error(), "disk broken") {
		t.Errorf("both fail: %v", err)
	}
}

func TestAFullPrimaryQueueOverflowsToDisk(t *testing.T) {
	t.Parallel()
	s, primary, disk, _ := spool(queue.SpoolOptions{})
	primary.set(fmt.Errorf("wrapped: %w", queue.ErrFull), false)
	appendTo(t, s, "a")
	if disk.bodies() != "a" {
		t.Errorf("disk %q", disk.bodies())
	}
	disk.set(queue.ErrFull, false)
	if err := s.Append(t.Context(), queue.Batch{}); !errors.Is(err, queue.ErrFull) {
		t.Errorf("both full: %v", err)
	}
}

func TestAPrimaryQueueThatHangsCostsOneTimeout(t *testing.T) {
	t.Parallel()
	s, primary, disk, _ := spool(queue.SpoolOptions{Timeout: 10 * time.Millisecond, Pause: time.Hour})
	primary.set(nil, true)
	appendTo(t, s, "a", "b", "c")
	if disk.bodies() != "a b c" || primary.tried() != 1 {
		t.Errorf("disk %q, asked %d times", disk.bodies(), primary.tried())
	}
}

func TestWhoStopsWaitingIsNoFailureOfTheQueue(t *testing.T) {
	t.Parallel()
	s, primary, disk, log := spool(queue.SpoolOptions{Timeout: time.Hour, Pause: time.Hour})
	primary.set(nil, true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Append(ctx, queue.Batch{Body: []byte("a")}) }()
	await(t, "the call", func() bool { return primary.tried() == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	primary.set(nil, false)
	appendTo(t, s, "b")
	if primary.bodies() != "b" || disk.bodies() != "" || strings.Count(log.String(), "level") != 0 {
		t.Errorf("primary %q, disk %q", primary.bodies(), disk.bodies())
	}
}

func TestWhatNoQueueTakesGoesNowhere(t *testing.T) {
	t.Parallel()
	s, primary, disk, _ := spool(queue.SpoolOptions{})
	if err := s.Append(t.Context(), queue.Batch{Events: -1}); err == nil {
		t.Error("taken")
	}
	if primary.tried()+disk.tried() != 0 || s.Stats().Away {
		t.Error("a queue was asked")
	}
}

func TestWhatLiesOnDiskIsMovedInOrderOnceThePrimaryQueueIsBack(t *testing.T) {
	t.Parallel()
	s, primary, disk, log := spool(queue.SpoolOptions{Pause: time.Millisecond, MaxBackoff: 2 * time.Millisecond})
	primary.set(iotest.ErrTimeout, false)
	want := make([]string, 40)
	for i := range want {
		want[i] = fmt.Sprint(i)
		appendTo(t, s, want[i])
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tried := primary.tried()
	await(t, "a few attempts", func() bool { return primary.tried() > tried+3 })
	if disk.bodies() != strings.Join(want, " ") {
		t.Errorf("on disk is %q", disk.bodies())
	}
	primary.set(nil, false)
	await(t, "the move", func() bool { return disk.bodies() == "" })
	if got := primary.bodies(); got != strings.Join(want, " ") {
		t.Errorf("moved %q", got)
	}
	// Again, with Run waiting.
	primary.set(iotest.ErrTimeout, false)
	appendTo(t, s, "x")
	primary.set(nil, false)
	await(t, "the second move", func() bool { return strings.HasSuffix(primary.bodies(), "39 x") && disk.bodies() == "" })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := s.Stats(); got != (queue.SpoolStats{Spooled: 41, Moved: 41}) {
		t.Errorf("%+v", got)
	}
	if e, i := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "level=INFO"); e != 2 || i != 2 {
		t.Errorf("said %d errors and %d recoveries", e, i)
	}
}

func TestWhatCannotBeRemovedFromDiskIsMovedAgainNotLost(t *testing.T) {
	t.Parallel()
	s, primary, disk, log := spool(queue.SpoolOptions{Pause: time.Millisecond, MaxBackoff: 2 * time.Millisecond})
	appendTo(t, disk, "a", "b")
	primary.taken = func(b queue.Batch) {
		if b.ID == "000001" {
			disk.set(errors.New("disk broken"), false)
		}
		if b.Attempts != 0 || b.Source != "edge" {
			t.Errorf("%+v", b)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	await(t, "the disk to break", func() bool { return strings.Count(log.String(), "events kept on disk cannot be read") == 1 })
	disk.set(nil, false)
	await(t, "the move", func() bool { return disk.bodies() == "" })
	if got := primary.bodies(); got != "a a b" {
		t.Errorf("moved %q", got)
	}
	cancel()
	<-ended
}

func TestRunThatEndsReleasesWhatItHolds(t *testing.T) {
	t.Parallel()
	s, primary, disk, _ := spool(queue.SpoolOptions{Pause: time.Millisecond, MaxBackoff: time.Millisecond})
	appendTo(t, disk, "a", "b")
	primary.set(iotest.ErrTimeout, false)
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		tried := primary.tried()
		go func() { ended <- s.Run(ctx) }()
		await(t, "an attempt", func() bool { return primary.tried() > tried })
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if bs, err := disk.Next(t.Context(), 10); err != nil || len(bs) != 2 {
		t.Errorf("%v, %v", bs, err)
	}
}

func TestNextWaitsForAPrimaryQueueThatIsAway(t *testing.T) {
	t.Parallel()
	s, primary, _, log := spool(queue.SpoolOptions{MaxBackoff: time.Millisecond})
	appendTo(t, s, "a")
	primary.set(iotest.ErrTimeout, false)
	type result struct {
		bs  []queue.Batch
		err error
	}
	got := make(chan result)
	go func() {
		bs, err := s.Next(t.Context(), 1)
		got <- result{bs, err}
	}()
	await(t, "it to notice", func() bool { return strings.Count(log.String(), "the queue cannot be read") == 1 })
	primary.set(nil, false)
	if r := <-got; r.err != nil || len(r.bs) != 1 {
		t.Errorf("%+v", r)
	}
	primary.set(iotest.ErrTimeout, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestDepthAddsBothQueuesUp(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := queue.Depth{Batches: 1, Events: 2, Bytes: 3, Oldest: noon, Dead: 4}
	b := queue.Depth{Batches: 10, Events: 20, Bytes: 30, Oldest: noon.Add(-time.Hour), Dead: 40}
	for name, c := range map[string]struct {
		primary, disk queue.Depth
		err           error
		want          queue.Depth
	}{
		"both":             {a, b, nil, queue.Depth{Batches: 11, Events: 22, Bytes: 33, Oldest: b.Oldest, Dead: 4}},
		"the other way":    {b, a, nil, queue.Depth{Batches: 11, Events: 22, Bytes: 33, Oldest: b.Oldest, Dead: 40}},
		"an empty disk":    {a, queue.Depth{}, nil, a},
		"an empty primary": {queue.Depth{}, queue.Depth{Batches: 1, Oldest: noon}, nil, queue.Depth{Batches: 1, Oldest: noon}},
		"no primary":       {queue.Depth{}, queue.Depth{Batches: 1, Oldest: noon}, iotest.ErrTimeout, queue.Depth{Batches: 1, Oldest: noon}},
	} {
		s, primary, disk, _ := spool(queue.SpoolOptions{})
		primary.depth = func() (queue.Depth, error) { return c.primary, c.err }
		disk.depth = func() (queue.Depth, error) { return c.disk, nil }
		if got, err := s.Depth(t.Context()); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
