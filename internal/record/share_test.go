package record

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// slow takes a while for every batch.
type slow struct {
	*memory
	takes time.Duration
}

func (s slow) Append(ctx context.Context, events []*defense.Event) (int, error) {
	time.Sleep(s.takes)
	return s.memory.Append(ctx, events)
}

func TestWritingTakesItsShareOfTheTimeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r, stop := start(t, Options{Batch: 5, Share: 0.1}, slow{m, 10 * time.Millisecond}, new(bytes.Buffer))
		for n := range 50 {
			r.Record(numbered(n))
		}
		time.Sleep(505 * time.Millisecond)
		synctest.Wait()
		if got := m.stored(); got != 25 {
			t.Errorf("%d stored in half a second, want 25: a batch of 5 takes 10 ms and 90 ms of rest", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if got := m.stored(); got != 50 {
			t.Errorf("%d stored at the end, want all", got)
		}
	})
}

func TestNothingIsWantedThatWouldBeDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.hang = make(chan struct{})
		r, stop := start(t, Options{Queue: 4, Batch: 1, Drain: time.Hour}, m, new(bytes.Buffer))
		r.Record(numbered(0)) // hangs in the archive
		synctest.Wait()
		for n := range 4 {
			if r.Wants(deny) != Keep {
				t.Fatalf("event %d is not wanted though there is room", n)
			}
			r.Record(numbered(1 + n))
		}
		if r.Wants(deny) != None {
			t.Error("wanted with a full queue")
		}
		if s := r.Stats(); s.Dropped != 1 || s.Queued != 4 {
			t.Errorf("%+v", s)
		}
		close(m.hang)
		if err := stop(); err != nil {
			t.Error(err)
		}
		if r.Wants(deny) != Keep {
			t.Error("not wanted though there is room again")
		}
	})
}
