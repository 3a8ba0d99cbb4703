package intake

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

// accept accepts events that must be taken.
func accept(t testing.TB, s *Service, events ...*defense.Event) Receipt {
	t.Helper()
	r, err := s.Accept(t.Context(), "edge-1", events, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// later is the time in a bubble of synctest, moved to after the events of storetest.
func later() time.Time {
	return time.Now().Add(evening().Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)))
}

func TestAcceptedEventsAreArchivedAndSeenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		first := varied(0, 100)
		accept(t, p.s, first...) // before Run
		stop := run(t, p.s)
		accept(t, p.s, varied(100, 200)...)
		synctest.Wait()
		if p.archive.len() != 200 || p.observed(t) != 200 || p.queue.left() != 0 {
			t.Errorf("%d archived, %d observed, %d still queued", p.archive.len(), p.observed(t), p.queue.left())
		}
		// All again, and some twice in one batch.
		again := append(varied(150, 250), varied(240, 260)...)
		if diff := cmp.Diff(Receipt{Accepted: 60, Duplicate: 60}, accept(t, p.s, again...)); diff != "" {
			t.Error(diff)
		}
		synctest.Wait()
		if p.archive.len() != 260 || p.observed(t) != 260 {
			t.Errorf("%d archived, %d observed", p.archive.len(), p.observed(t))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if s := p.s.Stats(); s.Accepted != 260 || s.Duplicate != 60 || s.Archived != 260 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestTransientEventsAreSeenButNeverArchived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		stop := run(t, p.s)
		passing := func(from, to int) []*defense.Event {
			list := varied(from, to)
			for _, e := range list {
				e.Transient = true
			}
			return list
		}
		p.s.Observe(passing(0, 10))
		accept(t, p.s, append(passing(10, 20), varied(20, 25)...)...) // as they come from another process
		accept(t, p.s, passing(30, 40)...)
		synctest.Wait()
		if p.archive.len() != 5 || p.observed(t) != 35 || p.queue.left() != 0 {
			t.Errorf("%d archived, %d observed, %d queued", p.archive.len(), p.observed(t), p.queue.left())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		p.s.Observe(passing(50, 60))
		if s := p.s.Stats(); s.Transient != 20 || s.Unobserved != 10 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestEventsThatAreNoneAreRejectedFromThisProcessToo(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening)
	list := varied(0, 5)
	list[0].Client.Address = "" // who comes by a Unix socket has none
	list[1].Client.Address = "unix"
	list[3].Response.Duration /= 0
	before := append([]*defense.Event(nil), list...)
	r := accept(t, p.s, list...)
	if r.Accepted != 3 || len(r.Rejected) != 2 || r.Rejected[0].Index != 1 || r.Rejected[1].Index != 3 || p.s.Stats().Rejected != 2 {
		t.Errorf("receipt %+v", r)
	}
	if !cmp.Equal(before, list, cmp.Comparer(func(a, b *defense.Event) bool { return a == b })) {
		t.Error("the caller's slice was changed")
	}
}

func TestAnEventOfAWrongClockIsTheSameEventWhenItIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The archive knows an event by id and time: a time that was corrected by ours would be another one each time.
		p := newParts(t, later)
		ahead := func() *defense.Event {
			return storetest.Event(1, func(e *defense.Event) { e.Time = evening().Add(5 * time.Hour) })
		}
		accept(t, p.s, ahead())
		time.Sleep(time.Minute)
		restarted := newParts(t, later)
		accept(t, restarted.s, ahead())
		var times []time.Time
		for _, q := range []*memoryQueue{p.queue, restarted.queue} {
			events, err := p.s.codec.unpack(q.waiting[0].Body)
			if err != nil {
				t.Fatal(err)
			}
			times = append(times, events[0].Time)
		}
		if !times[0].Equal(times[1]) {
			t.Errorf("its time is %v, and sent again %v", times[0], times[1])
		}
		far := storetest.Event(2, func(e *defense.Event) { e.Time = later().Add(25 * time.Hour) })
		if r := accept(t, p.s, far); len(r.Rejected) != 1 {
			t.Errorf("an event of tomorrow evening: %+v", r)
		}
	})
}

func TestNothingIsAcknowledgedThatTheQueueHasNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		stop := run(t, p.s)
		for _, fault := range []func(q *memoryQueue){
			func(q *memoryQueue) { q.full = true },
			func(q *memoryQueue) { q.full, q.lost = false, true },
		} {
			p.queue.set(fault)
			if _, err := p.s.Accept(t.Context(), "edge-1", varied(0, 10), nil); !errors.Is(err, ErrBusy) {
				t.Errorf("error %v, want ErrBusy", err)
			}
			if err := p.s.AcceptCounters(t.Context(), someCounters(1)); !errors.Is(err, ErrBusy) {
				t.Errorf("counters: error %v, want ErrBusy", err)
			}
			synctest.Wait()
		}
		// The second time the queue had it, and did not get to say so. It is sent again, with more.
		p.queue.set(func(q *memoryQueue) { q.lost = false })
		if r := accept(t, p.s, varied(0, 20)...); r.Accepted+r.Duplicate != 20 {
			t.Errorf("receipt %+v", r)
		}
		if err := p.s.AcceptCounters(t.Context(), someCounters(1)); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if p.archive.len() != 20 || p.observed(t) != 20 {
			t.Errorf("%d archived, %d observed, want 20 of each", p.archive.len(), p.observed(t))
		}
		if got := p.archive.counted(someCounters(1).ID); got != 7 {
			t.Errorf("counted %d, want 7", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func someCounters(n int) CounterBatch {
	return CounterBatch{ID: storetest.Varied(n).ID, Edge: "edge-1", Counters: []record.Counter{
		{Hour: noon, Site: "wiki", Action: defense.Deny, Intended: defense.Deny, Count: 4}, {Hour: noon, Site: "", Action: defense.Allow, Intended: defense.Allow, Count: 3},
	}}
}

func TestTheCasebookGoesOnSeeingEventsWhileTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		stop := run(t, p.s)
		p.archive.set(func(a *memoryArchive) { a.away = errors.New("disk full") })
		accept(t, p.s, varied(0, 50)...)
		p.queue.set(func(q *memoryQueue) { q.full = true })
		for range 3 { // as an edge tries again and again, with more each time
			if _, err := p.s.Accept(t.Context(), "edge-1", varied(50, 100), nil); !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if _, err := p.s.Accept(t.Context(), "edge-1", varied(50, 120), nil); !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := p.observed(t); got != 120 {
			t.Errorf("%d events observed, want each of 120 once", got)
		}
		if !p.s.ArchiveFailing() {
			t.Error("the archive does not seem to fail")
		}
		p.archive.set(func(a *memoryArchive) { a.away = nil })
		p.queue.set(func(q *memoryQueue) { q.full = false })
		if r := accept(t, p.s, varied(50, 130)...); r.Accepted != 80 {
			t.Errorf("receipt %+v", r)
		}
		time.Sleep(2 * maxRetry)
		if p.archive.len() != 130 || p.observed(t) != 130 || p.s.ArchiveFailing() {
			t.Errorf("%d archived, %d observed", p.archive.len(), p.observed(t))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnArchiveThatIsAwayForLongIsNotHammeredAndCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		stop := run(t, p.s)
		p.archive.set(func(a *memoryArchive) { a.away = errors.New("connection refused") })
		const batches = 100
		for i := range batches {
			accept(t, p.s, varied(i*10, i*10+10)...)
			time.Sleep(6 * time.Second)
		}
		calls := p.archive.attempts()
		// Once a turn, and one by one until that has failed thrice; a turn every ten seconds or so.
		if most := 4 * (batches*6/10 + 20); calls > most {
			t.Errorf("%d attempts in %d s, at most %d are well", calls, batches*6, most)
		}
		if p.s.Stats().Buried != 0 {
			t.Errorf("%d batches were put aside though nothing is wrong with them", p.s.Stats().Buried)
		}
		if got := p.observed(t); got != batches*10 {
			t.Errorf("%d events observed meanwhile, want %d", got, batches*10)
		}
		p.archive.set(func(a *memoryArchive) { a.away = nil })
		time.Sleep(2 * maxRetry)
		if p.archive.len() != batches*10 || p.queue.left() != 0 {
			t.Errorf("%d archived, %d batches left", p.archive.len(), p.queue.left())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestABatchThatTheArchiveNeverTakesDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		p.archive.poison = storetest.Varied(5).ID
		stop := run(t, p.s)
		accept(t, p.s, varied(0, 10)...)
		time.Sleep(10 * time.Minute)
		// As long as there is no other batch, it may as well be the archive.
		if s := p.s.Stats(); s.Buried != 0 || !p.s.ArchiveFailing() {
			t.Errorf("alone: %+v", s)
		}
		for i := 1; i <= 5; i++ {
			accept(t, p.s, varied(10*i, 10*i+10)...)
			time.Sleep(30 * time.Second)
			if got := p.archive.len(); got != 10*i {
				t.Errorf("%d events archived, want %d", got, 10*i)
			}
		}
		if s := p.s.Stats(); s.Buried != 1 || p.s.ArchiveFailing() || p.queue.left() != 0 {
			t.Errorf("in the end: %+v", s)
		}
		d := p.queue.firstDead()
		contains(t, d.Reason, "the archive refuses it", "a value that no column holds")
		if list := p.alerts.all(); len(list) != 1 || list[0].Kind != "intake" || list[0].Numbers[0].Value != 10 {
			t.Errorf("alerts %+v", list)
		}
		// Mended, it can be put back.
		p.archive.set(func(a *memoryArchive) { a.poison = "" })
		if _, err := p.queue.Replay(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p.archive.len() != 60 || p.observed(t) != 60 {
			t.Errorf("%d archived, %d observed after the replay", p.archive.len(), p.observed(t))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestSeveralBatchesThatTheArchiveNeverTakesDoNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		stop := run(t, p.s)
		p.archive.poison = storetest.Varied(0).ID
		refused := 0
		for i := range 12 { // each of them holds the event, under a time of its own
			e := storetest.Varied(0)
			b, err := p.s.codec.pack([]*defense.Event{e, storetest.Varied(1000 + i)})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.queue.Append(t.Context(), queue.Batch{Source: "edge", Body: b[0].body, Events: 2}); err != nil {
				t.Fatal(err)
			}
			refused++
		}
		for i := range 20 {
			accept(t, p.s, varied(10+i, 11+i)...)
			time.Sleep(10 * time.Second)
		}
		if got := p.archive.len(); got != 20 {
			t.Errorf("%d of 20 good events archived", got)
		}
		if s := p.s.Stats(); s.Buried != uint64(refused) {
			t.Errorf("%d of %d batches put aside", s.Buried, refused)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestAQueueThatIsAwayIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		stop := run(t, p.s)
		accept(t, p.s, varied(0, 10)...)
		synctest.Wait()
		p.queue.set(func(q *memoryQueue) { q.broken = errors.New("no route to host") })
		time.Sleep(time.Minute)
		p.queue.set(func(q *memoryQueue) { q.broken = nil })
		accept(t, p.s, varied(10, 20)...)
		time.Sleep(2 * maxRetry)
		if p.archive.len() != 20 || p.queue.left() != 0 {
			t.Errorf("%d archived, %d queued", p.archive.len(), p.queue.left())
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatIsInHandAtTheEndIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParts(t, later)
		p.archive.away = errors.New("away")
		stop := run(t, p.s)
		for i := range 40 {
			accept(t, p.s, varied(i, i+1)...)
		}
		time.Sleep(time.Minute)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if n := p.queue.handedOut(); n != 0 || p.queue.left() != 40 {
			t.Errorf("%d of %d batches are still handed out", n, p.queue.left())
		}
		if _, err := p.s.Accept(t.Context(), "edge-1", varied(100, 101), nil); !errors.Is(err, ErrBusy) {
			t.Errorf("after the end: %v, want ErrBusy", err)
		}
		if err := p.s.AcceptCounters(t.Context(), someCounters(1)); !errors.Is(err, ErrBusy) {
			t.Errorf("counters after the end: %v, want ErrBusy", err)
		}
		if err := p.s.With(t.Context(), func(*casebook.Book) {}); !errors.Is(err, ErrBusy) {
			t.Errorf("the casebook after the end: %v, want ErrBusy", err)
		}

		// The next one takes them up, as after a restart.
		next := newParts(t, later, func(o *Options) { o.Queue = p.queue })
		stop = run(t, next.s)
		synctest.Wait()
		if next.archive.len() != 40 || next.observed(t) != 40 {
			t.Errorf("%d archived, %d observed by the next", next.archive.len(), next.observed(t))
		}
		// Its senders may not know that they were accepted.
		if r := accept(t, next.s, varied(0, 40)...); r.Duplicate != 40 {
			t.Errorf("sent again: %+v", r)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestRunEndsWhateverItIsWaitingFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		defer close(block)
		p := newParts(t, later, func(o *Options) {
			o.Judge = judgeFunc(func(ctx context.Context, _ *defense.Case) (*defense.Judgement, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			o.Archive = blockedArchive{}
			o.History = blockedHistory{}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.s.Run(ctx) }()
		time.Sleep(time.Minute) // past the warm-up
		for i := range 50 {
			accept(t, p.s, trapped(i))
		}
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

type judgeFunc func(ctx context.Context, c *defense.Case) (*defense.Judgement, error)

func (f judgeFunc) Judge(ctx context.Context, c *defense.Case) (*defense.Judgement, error) {
	return f(ctx, c)
}

type blockedArchive struct{ Archive }

func (blockedArchive) Append(ctx context.Context, _ []*defense.Event) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

type blockedHistory struct{}

func (blockedHistory) Events(ctx context.Context, _ record.Filter) (record.Page, error) {
	<-ctx.Done()
	return record.Page{}, ctx.Err()
}

// trapped is an event that opens a case of its client at once.
func trapped(n int) *defense.Event {
	return storetest.Event(n, func(e *defense.Event) {
		e.Time, e.Kind, e.Client.Address = later(), "trap", fmt.Sprintf("198.51.%d.%d", 100+n/250, 1+n%250)
		e.Request.Path = "/trap"
	})
}

func TestTheMemoryBetweenTheGoroutinesIsBounded(t *testing.T) {
	t.Parallel()
	p := newParts(t, evening) // nobody works
	heavy := func(n int) []*defense.Event {
		list := varied(n*300, n*300+300)
		for _, e := range list {
			e.Request.Path = "/" + strings.Repeat("x", 2000)
		}
		return list
	}
	for n := range 40 {
		accept(t, p.s, heavy(n)...)
		p.s.Observe(heavy(1000 + n))
	}
	m := &p.s.memory
	m.Lock()
	handed, weight := len(m.handed), m.heavy
	m.Unlock()
	if weight > handedBytes || handed > handedOver || handed == 0 {
		t.Errorf("%d lots of %d bytes are kept for the archive", handed, weight)
	}
	waiting := int64(0)
	for len(p.s.observe) > 0 {
		waiting += (<-p.s.observe).weight
	}
	if waiting > observingBytes || waiting == 0 {
		t.Errorf("events of %d bytes wait for the casebook", waiting)
	}
	// Many small ones.
	for n := range 3 * (observing + handedOver) {
		accept(t, p.s, varied(200_000+n, 200_001+n)...)
	}
	if len(m.handed) > handedOver {
		t.Errorf("%d lots are kept for the archive", len(m.handed))
	}
	// Ids and bodies.
	m.Lock()
	defer m.Unlock()
	one := []*defense.Event{{}}
	for i := range 5 * rememberedIDs / 2 {
		id := ulid.ULID{15: byte(i), 14: byte(i >> 8), 13: byte(i >> 16)}
		one[0].ID = id.String()
		m.note(one, idAccepted)
		m.markSeen(uint64(i))
	}
	if n := len(m.ids[0]) + len(m.ids[1]); n > 2*rememberedIDs || n < rememberedIDs {
		t.Errorf("%d ids are remembered", n)
	}
	if n := len(m.seen[0]) + len(m.seen[1]); n > 2*rememberedKeys {
		t.Errorf("%d bodies are remembered", n)
	}
}

func TestALotThatWasNeverFetchedMakesRoomAfterAMinute(t *testing.T) {
	t.Parallel()
	m := newMemory()
	for i := range handedOver + 10 {
		m.handOver(uint64(i), &lot{weight: 10, at: noon})
	}
	if len(m.handed) != handedOver || m.heavy != 10*handedOver {
		t.Errorf("%d lots of %d bytes", len(m.handed), m.heavy)
	}
	m.handOver(999, &lot{weight: 10, at: noon.Add(2 * handedAge)})
	if l := m.takeBack(999); l == nil || len(m.handed) != 0 || m.heavy != 0 {
		t.Errorf("%v, %d lots of %d bytes", l, len(m.handed), m.heavy)
	}
}

// TestManySendersAtOnce is for the race detector: the archive changes the events that the casebook reads.
func TestManySendersAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, t.TempDir())
	stop := run(t, r.s)
	var senders sync.WaitGroup
	const each, batches = 20, 15
	for s := range 4 {
		senders.Go(func() {
			for b := range batches {
				from := (s*batches + b) * each
				if _, code := post(t, r.handler, varied(from, from+each)...); code != 202 {
					t.Errorf("answered %d", code)
				}
				if b%3 == 0 { // the answer was lost
					if got, _ := post(t, r.handler, varied(from, from+each)...); got.Duplicate != each {
						t.Errorf("sent again: %+v", got)
					}
				}
				r.s.Observe(varied(100_000+from, 100_000+from+each))
				runtime.Gosched()
			}
		})
	}
	senders.Wait()
	until(t, "all is archived", func() bool { return r.s.Stats().Archived == 4*batches*each })
	if got := archived(t, r.archive); len(got) != 4*batches*each {
		t.Errorf("%d events in the archive", len(got))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
