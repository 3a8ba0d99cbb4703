package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/quickthorn/quickthorn/internal/queue"
	"github.com/quickthorn/quickthorn/internal/store"
)

// batch is one whose body is its name.
func batch(name string) queue.Batch {
	return queue.Batch{Source: "edge", At: noon(), Events: len(name), Body: []byte(name)}
}

func appendAll(t *testing.T, q queue.Queue, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := q.Append(t.Context(), batch(name)); err != nil {
			t.Fatal(err)
		}
	}
}

// next takes as many batches as are wanted, each as "BODY ATTEMPTS", and returns their ids.
func next(t *testing.T, q queue.Queue, want ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far beyond what it takes
	defer cancel()
	var got, ids []string
	for len(got) < len(want) {
		bs, err := q.Next(ctx, len(want)-len(got))
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		for _, b := range bs {
			got = append(got, fmt.Sprintf("%s %d", b.Body, b.Attempts))
			ids = append(ids, b.ID)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	return ids
}

// nothing checks that there is nothing to hand out.
func nothing(t *testing.T, q queue.Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if bs, err := q.Next(ctx, 10); !errors.Is(err, context.DeadlineExceeded) || len(bs) != 0 {
		t.Errorf("got %d batches, %v", len(bs), err)
	}
}

// dead returns all dead letters, reading as many at a time, each as "BODY ATTEMPTS REASON", and their ids.
func dead(t *testing.T, q queue.Queue, limit int) (got, ids []string) {
	t.Helper()
	for after := ""; ; {
		ls, err := q.Dead(t.Context(), after, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(ls) == 0 {
			return got, ids
		}
		for _, l := range ls {
			got = append(got, fmt.Sprintf("%s %d %s", l.Body, l.Attempts, l.Reason))
			ids = append(ids, l.ID)
			after = l.ID
		}
	}
}

func depth(t *testing.T, q queue.Queue, want queue.Depth) {
	t.Helper()
	got, err := q.Depth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func queues(t *testing.T, f StateFactory) {
	t.Run("batches come out whole and in order", func(t *testing.T) {
		q := f.Open(t).Queue()
		want := []queue.Batch{
			{Source: strings.Repeat("s", queue.MaxSource), At: noon().Add(123456 * time.Microsecond), Events: 3, Body: []byte("a\x00\r\n\xff")},
			{Source: "é \n", At: noon().In(time.FixedZone("", 3600)), Body: nil},
			{At: noon(), Events: 1 << 20, Body: bytes.Repeat([]byte("0123456789abcdef"), queue.MaxBody/16)},
		}
		for _, b := range want {
			check(t, q.Append(t.Context(), b))
		}
		got := []queue.Batch{}
		for len(got) < 3 {
			bs, err := q.Next(t.Context(), 10)
			check(t, err)
			got = append(got, bs...)
		}
		seen := map[string]bool{}
		for i := range got {
			if got[i].ID == "" || seen[got[i].ID] {
				t.Errorf("id %q", got[i].ID)
			}
			seen[got[i].ID] = true
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(queue.Batch{}, "ID"), cmp.Comparer(bytes.Equal)); diff != "" {
			t.Errorf("%.2000s", diff)
		}
	})

	t.Run("what no queue takes is refused", func(t *testing.T) {
		q := f.Open(t).Queue()
		for _, b := range []queue.Batch{{Body: make([]byte, queue.MaxBody+1)}, {Source: strings.Repeat("s", queue.MaxSource+1)}, {Events: -1}} {
			if q.Append(t.Context(), b) == nil {
				t.Errorf("took %d bytes of %q", len(b.Body), b.Source)
			}
		}
		if _, err := q.Next(t.Context(), 0); err == nil {
			t.Error("no limit")
		}
		depth(t, q, queue.Depth{})
	})

	t.Run("a batch without a time has been accepted now", func(t *testing.T) {
		q := f.Open(t).Queue()
		check(t, q.Append(t.Context(), queue.Batch{Body: []byte("x")}))
		bs, err := q.Next(t.Context(), 1)
		check(t, err)
		if bs[0].At.IsZero() {
			t.Error("no time")
		}
	})

	t.Run("next takes no more than it is asked for, and waits for what comes", func(t *testing.T) {
		q := f.Open(t).Queue()
		nothing(t, q)
		appendAll(t, q, "a", "b", "c")
		if bs, err := q.Next(t.Context(), 2); err != nil || len(bs) != 2 {
			t.Fatal(bs, err)
		}
		next(t, q, "c 0")
		nothing(t, q)
		var wg sync.WaitGroup
		wg.Go(func() { next(t, q, "d 0") })
		check(t, q.Append(t.Context(), batch("d")))
		wg.Wait()
	})

	t.Run("what is not acknowledged comes again after a restart, and what is does not", func(t *testing.T) {
		s := f.Open(t)
		appendAll(t, s.Queue(), "a", "b", "c")
		ids := next(t, s.Queue(), "a 0", "b 0")
		check(t, s.Queue().Ack(t.Context(), ids[0]))
		nothingAfter := "c 0"
		s = f.Reopen(t, s)
		next(t, s.Queue(), "b 1", nothingAfter)
		s = f.Reopen(t, s)
		ids = next(t, s.Queue(), "b 2", "c 1")
		check(t, s.Queue().Ack(t.Context(), ids...))
		s = f.Reopen(t, s)
		nothing(t, s.Queue())
		depth(t, s.Queue(), queue.Depth{})
		appendAll(t, s.Queue(), "d")
		if again := next(t, s.Queue(), "d 0"); again[0] == ids[0] || again[0] == ids[1] {
			t.Errorf("id %s comes twice", again[0])
		}
	})

	t.Run("what is not acknowledged comes again after a crash", func(t *testing.T) {
		if f.Crash == nil {
			t.Skip("the store has a test of its own for it")
		}
		s := f.Open(t)
		appendAll(t, s.Queue(), "a", "b")
		ids := next(t, s.Queue(), "a 0", "b 0")
		after := f.Crash(t, s)
		next(t, after.Queue(), "a 1", "b 1")
		// The one that was given up for dead comes back and finishes: that is no error.
		check(t, s.Queue().Ack(t.Context(), ids...))
		depth(t, after.Queue(), queue.Depth{})
		check(t, after.Queue().Ack(t.Context(), ids...))
		depth(t, after.Queue(), queue.Depth{})
	})

	t.Run("what is released comes again, before what is newer", func(t *testing.T) {
		q := f.Open(t).Queue()
		appendAll(t, q, "a", "b", "c", "d")
		ids := next(t, q, "a 0", "b 0", "c 0")
		check(t, q.Release(t.Context(), ids[2], ids[0]))
		next(t, q, "a 1", "c 1", "d 0")
		check(t, q.Release(t.Context(), ids[2]))
		check(t, q.Release(t.Context(), ids[0]))
		check(t, q.Ack(t.Context(), ids[0]))
		next(t, q, "c 2")
		nothing(t, q)
	})

	t.Run("a release wakes who waits", func(t *testing.T) {
		q := f.Open(t).Queue()
		appendAll(t, q, "a")
		ids := next(t, q, "a 0")
		var wg sync.WaitGroup
		wg.Go(func() { next(t, q, "a 1") })
		check(t, q.Release(t.Context(), ids...))
		wg.Wait()
	})

	t.Run("ids of nothing are ignored", func(t *testing.T) {
		q := f.Open(t).Queue()
		appendAll(t, q, "a", "b")
		ids := next(t, q, "a 0", "b 0")
		for _, hostile := range []string{"", "0", "-", "+", "*", "$", "1-1", "0000000000000000", "ffffffffffffffff", "99999999999999999999999-1", "\x00\r\n", strings.Repeat("9", 1000), "d" + ids[0]} {
			if err := errors.Join(q.Ack(t.Context(), hostile), q.Release(t.Context(), hostile)); err != nil {
				t.Errorf("%q: %v", hostile, err)
			}
			if err := q.Bury(t.Context(), hostile, "x"); !errors.Is(err, queue.ErrUnknown) {
				t.Errorf("burying %q: %v", hostile, err)
			}
			if n, err := q.Replay(t.Context(), hostile); n != 0 || !errors.Is(err, queue.ErrUnknown) {
				t.Errorf("replaying %q: %d, %v", hostile, n, err)
			}
			if n, err := q.Discard(t.Context(), hostile); n != 0 || !errors.Is(err, queue.ErrUnknown) {
				t.Errorf("discarding %q: %d, %v", hostile, n, err)
			}
		}
		check(t, q.Ack(t.Context()))
		check(t, q.Release(t.Context()))
		depth(t, q, queue.Depth{Batches: 2, Events: 2, Bytes: 2, Oldest: noon()})
		check(t, q.Ack(t.Context(), "nonsense", ids[1], ids[1], ids[0]))
		depth(t, q, queue.Depth{})
	})

	t.Run("what is acknowledged before it was handed out is not handed out", func(t *testing.T) {
		s := f.Open(t)
		appendAll(t, s.Queue(), "a", "b")
		ids := next(t, s.Queue(), "a 0", "b 0")
		s = f.Reopen(t, s)
		check(t, s.Queue().Ack(t.Context(), ids[0]))
		next(t, s.Queue(), "b 1")
	})

	t.Run("a buried batch is kept aside, with the reason", func(t *testing.T) {
		s := f.Open(t)
		q := s.Queue()
		appendAll(t, q, "a", "b", "cc")
		ids := next(t, q, "a 0", "b 0")
		check(t, q.Bury(t.Context(), ids[1], "no JSON"))
		check(t, q.Bury(t.Context(), ids[0], strings.Repeat("ü", 1000)+"\xff"))
		if err := q.Bury(t.Context(), ids[0], "again"); !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("again: %v", err)
		}
		check(t, q.Release(t.Context(), ids...))
		check(t, q.Ack(t.Context(), ids...))
		depth(t, q, queue.Depth{Batches: 1, Events: 2, Bytes: 2, Oldest: noon(), Dead: 2})
		want := []string{"b 1 no JSON", "a 1 " + strings.Repeat("ü", queue.MaxReason/2)}
		for _, limit := range []int{1, 2, 10} {
			got, _ := dead(t, q, limit)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d at a time: %s", limit, diff)
			}
		}
		s = f.Reopen(t, s)
		q = s.Queue()
		if got, _ := dead(t, q, 10); !cmp.Equal(want, got) {
			t.Errorf("after a restart: %v", got)
		}
		ls, err := q.Dead(t.Context(), "", 1)
		check(t, err)
		if l := ls[0]; l.BuriedAt.IsZero() || !l.At.Equal(noon()) || l.Source != "edge" || l.Events != 1 {
			t.Errorf("%+v", l)
		}
		if _, err := q.Dead(t.Context(), "no id\r\n", 1); err == nil {
			t.Error("after nonsense: no error")
		}
		next(t, q, "cc 0")
		nothing(t, q)
	})

	t.Run("a dead letter is replayed as if it were new", func(t *testing.T) {
		q := f.Open(t).Queue()
		appendAll(t, q, "a", "b", "c", "d")
		ids := next(t, q, "a 0", "b 0", "c 0")
		for _, id := range ids {
			check(t, q.Bury(t.Context(), id, "x"))
		}
		_, letters := dead(t, q, 10)
		if n, err := q.Replay(t.Context(), letters[1], letters[1]); n != 1 || !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("the same twice: %d, %v", n, err)
		}
		next(t, q, "d 0", "b 0")
		if n, err := q.Replay(t.Context()); n != 2 || err != nil {
			t.Errorf("all: %d, %v", n, err)
		}
		if n, err := q.Replay(t.Context()); n != 0 || err != nil {
			t.Errorf("all of none: %d, %v", n, err)
		}
		depth(t, q, queue.Depth{Batches: 4, Events: 4, Bytes: 4, Oldest: noon()})
		next(t, q, "a 0", "c 0")
	})

	t.Run("a discarded dead letter is gone", func(t *testing.T) {
		s := f.Open(t)
		q := s.Queue()
		appendAll(t, q, "a", "b", "c")
		for _, id := range next(t, q, "a 0", "b 0", "c 0") {
			check(t, q.Bury(t.Context(), id, "x"))
		}
		_, letters := dead(t, q, 10)
		if n, err := q.Discard(t.Context(), letters[0]); n != 1 || err != nil {
			t.Errorf("one: %d, %v", n, err)
		}
		if n, err := q.Replay(t.Context(), letters[0], letters[2]); n != 1 || !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("one of two: %d, %v", n, err)
		}
		if n, err := q.Discard(t.Context()); n != 1 || err != nil {
			t.Errorf("all: %d, %v", n, err)
		}
		s = f.Reopen(t, s)
		next(t, s.Queue(), "c 0")
		nothing(t, s.Queue())
		depth(t, s.Queue(), queue.Depth{Batches: 1, Events: 1, Bytes: 1, Oldest: noon()})
	})

	t.Run("it is full at its bound, dead letters included, and has room again afterwards", func(t *testing.T) {
		const bound = 256 << 10
		s := f.Bounded(t, bound)
		q := s.Queue()
		body := bytes.Repeat([]byte("x"), 10_000)
		n := 0
		for ; n < 100; n++ {
			err := q.Append(t.Context(), queue.Batch{At: noon(), Body: body})
			if errors.Is(err, queue.ErrFull) {
				break
			}
			check(t, err)
		}
		if n < 20 || n > bound/len(body) {
			t.Fatalf("took %d batches of %d bytes", n, len(body))
		}
		bs, err := q.Next(t.Context(), 2)
		check(t, err)
		check(t, q.Bury(t.Context(), bs[0].ID, "x"))
		if err := q.Append(t.Context(), queue.Batch{Body: body}); !errors.Is(err, queue.ErrFull) {
			t.Errorf("after a burial: %v", err)
		}
		check(t, q.Ack(t.Context(), bs[1].ID))
		check(t, q.Append(t.Context(), queue.Batch{At: noon(), Body: body}))
		s = f.Reopen(t, s)
		q = s.Queue()
		depth(t, q, queue.Depth{Batches: n - 1, Bytes: int64((n - 1) * len(body)), Oldest: noon(), Dead: 1})
		if _, err := q.Discard(t.Context()); err != nil {
			t.Fatal(err)
		}
		depth(t, q, queue.Depth{Batches: n - 1, Bytes: int64((n - 1) * len(body)), Oldest: noon()})
	})

	t.Run("of what many append at once nothing is lost or doubled", func(t *testing.T) {
		s := f.Open(t)
		q := s.Queue()
		const writers, each = 8, 40
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					if err := q.Append(t.Context(), batch(fmt.Sprintf("%d:%d", w, i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		last := map[byte]int{}
		for n := 0; n < writers*each; {
			bs, err := q.Next(t.Context(), 16)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, b := range bs {
				var w byte
				var i int
				if _, err := fmt.Sscanf(string(b.Body), "%c:%d", &w, &i); err != nil {
					t.Fatalf("%q: %v", b.Body, err)
				}
				if i != last[w] {
					t.Errorf("writer %c: %d came instead of %d", w, i, last[w])
				}
				last[w] = i + 1
				ids = append(ids, b.ID)
			}
			check(t, q.Ack(t.Context(), ids...))
			n += len(bs)
		}
		wg.Wait()
		depth(t, q, queue.Depth{})
		s = f.Reopen(t, s)
		nothing(t, s.Queue())
	})

	t.Run("nothing happens for who has stopped waiting, and a closed queue says so", func(t *testing.T) {
		s := f.Open(t)
		q := s.Queue()
		appendAll(t, q, "a")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, err := range map[string]error{
			"append": q.Append(ctx, batch("b")), "ack": q.Ack(ctx, next(t, q, "a 0")...),
		} {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		}
		depth(t, q, queue.Depth{Batches: 1, Events: 1, Bytes: 1, Oldest: noon()})
		check(t, s.Close())
		if q.Append(t.Context(), batch("c")) == nil {
			t.Error("a closed queue takes batches")
		}
		if _, err := q.Next(t.Context(), 1); err == nil {
			t.Error("a closed queue hands out batches")
		}
	})
}

func bells(t *testing.T, f StateFactory) {
	// listen runs Listen and returns a channel of calls and a function that ends it.
	listen := func(t *testing.T, s store.State) (<-chan struct{}, func()) {
		ctx, cancel := context.WithCancel(t.Context())
		called, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- s.Listen(ctx, func() {
				select {
				case called <- struct{}{}:
				case <-ctx.Done():
				}
			})
		}()
		stop := sync.OnceFunc(func() {
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("listening ended with %v", err)
			}
		})
		t.Cleanup(stop)
		return called, stop
	}

	t.Run("who listens is called at first and after a ring", func(t *testing.T) {
		s := f.Open(t)
		one, stopOne := listen(t, s)
		two, _ := listen(t, s)
		<-one
		<-two
		for range 3 {
			check(t, s.Ring(t.Context()))
			<-one
			<-two
		}
		stopOne()
		check(t, s.Ring(t.Context()))
		<-two
	})

	t.Run("a hundred rings are at least one call and then there is quiet", func(t *testing.T) {
		s := f.Open(t)
		called, _ := listen(t, s)
		<-called
		for range 100 {
			check(t, s.Ring(t.Context()))
		}
		<-called
	})

	t.Run("another process hears it", func(t *testing.T) {
		if f.Second == nil {
			t.Skip("only one process can have it open")
		}
		s := f.Open(t)
		called, _ := listen(t, f.Second(t, s))
		<-called
		check(t, s.Ring(t.Context()))
		<-called
	})
}

func leases(t *testing.T, f StateFactory) {
	const ttl = 30 * time.Second

	t.Run("one holds it, the next waits and is told who it is", func(t *testing.T) {
		first := f.Open(t)
		seconds := map[string]store.State{"the same process": first}
		if f.Second != nil {
			seconds["another process"] = f.Second(t, first)
		}
		for name, second := range seconds {
			t.Run(name, func(t *testing.T) {
				var order []string
				var wg sync.WaitGroup
				told := make(chan string, 10)
				err := first.Hold(t.Context(), "log", ttl, func(string) { t.Error("waited for nobody") }, func(ctx context.Context) error {
					wg.Go(func() {
						check := second.Hold(t.Context(), "log", ttl, func(holder string) { told <- holder }, func(context.Context) error {
							order = append(order, "second")
							return nil
						})
						if check != nil {
							t.Error(check)
						}
					})
					if holder := <-told; holder == "" {
						t.Error("held by nobody")
					}
					order = append(order, "first")
					return ctx.Err()
				})
				if err != nil {
					t.Error(err)
				}
				wg.Wait()
				if len(told) != 0 || !cmp.Equal(order, []string{"first", "second"}) {
					t.Errorf("order %v, told %d times more", order, len(told))
				}
			})
		}
	})

	t.Run("its holder's error comes back and its context ends with it", func(t *testing.T) {
		s := f.Open(t)
		var inner context.Context
		for range 2 { // it is free again
			err := s.Hold(t.Context(), "log", ttl, nil, func(ctx context.Context) error {
				inner = ctx
				return fmt.Errorf("wrapped: %w", iotest.ErrTimeout)
			})
			if !errors.Is(err, iotest.ErrTimeout) {
				t.Errorf("got %v", err)
			}
			if inner.Err() == nil {
				t.Error("the context lives on")
			}
		}
	})

	t.Run("waiting ends with the context, and leases of other names are free", func(t *testing.T) {
		s := f.Open(t)
		check(t, s.Hold(t.Context(), "log", ttl, nil, func(ctx context.Context) error {
			waiting, cancel := context.WithCancel(ctx)
			err := s.Hold(waiting, "log", ttl, func(string) { cancel() }, func(context.Context) error {
				t.Error("two hold it")
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			ran := false
			err = s.Hold(ctx, "consumer", ttl, nil, func(context.Context) error { ran = true; return nil })
			if !ran || err != nil {
				t.Errorf("another name: %t, %v", ran, err)
			}
			return nil
		}))
	})
}
