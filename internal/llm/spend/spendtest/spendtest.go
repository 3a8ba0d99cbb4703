// Package spendtest holds implementations of spend.Store to what that says.
package spendtest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quickthorn/quickthorn/internal/llm/price"
	"github.com/quickthorn/quickthorn/internal/llm/spend"
)

// Factory makes the stores that [Store] tests.
type Factory struct {
	// Open returns a store with nothing in it.
	Open func(t *testing.T) spend.Store
	// Crash opens the same data as after the end of s without a Close.
	Crash func(t *testing.T, s spend.Store) spend.Store
	// Later has the time go on by more than spend.Hold.
	Later func(t *testing.T, s spend.Store)
}

// Store holds a spend.Store to what its interface says.
func Store(t *testing.T, f Factory) {
	amount := func(n int64) spend.Amount {
		return spend.Amount{Calls: min(n, 1), Tokens: n, Cost: price.Money(1000 * n)}
	}
	entry := func(id string) spend.Entry { return spend.Entry{Account: "blog", Date: 20000, ID: id} }
	sums := func(t *testing.T, s spend.Store, used, reserved int64) {
		t.Helper()
		got, err := s.Sums(t.Context(), "blog", 20000)
		got.Used.Calls, got.Reserved.Calls = min(got.Used.Calls, 1), min(got.Reserved.Calls, 1)
		if want := (spend.Sums{Used: amount(used), Reserved: amount(reserved)}); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	reserve := func(t *testing.T, s spend.Store, id string, most int64, limit spend.Limit, want bool) {
		t.Helper()
		if _, ok, err := s.Reserve(t.Context(), entry(id), amount(most), limit); err != nil || ok != want {
			t.Errorf("reserving %d: %v, %v, want %v", most, ok, err, want)
		}
	}
	t.Run("a reservation counts until the call is settled, and then what it took", func(t *testing.T) {
		s := f.Open(t)
		reserve(t, s, "a", 100, spend.Limit{Tokens: 150}, true)
		reserve(t, s, "a", 100, spend.Limit{Tokens: 150}, true) // asked for again
		sums(t, s, 0, 100)
		reserve(t, s, "b", 51, spend.Limit{Tokens: 150}, false)
		reserve(t, s, "b", 51, spend.Limit{Cost: 150_000}, false)
		sums(t, s, 0, 100)
		for range 2 { // a lost answer
			if err := s.Settle(t.Context(), entry("a"), amount(30), spend.Amount{}); err != nil {
				t.Fatal(err)
			}
		}
		sums(t, s, 30, 0)
		reserve(t, s, "b", 120, spend.Limit{Tokens: 150, Cost: 150_000}, true)
		reserve(t, s, "c", 1<<40, spend.Limit{}, true)
	})
	t.Run("calls are counted and bounded", func(t *testing.T) {
		s := f.Open(t)
		for i, want := range []bool{true, true, false} {
			reserve(t, s, fmt.Sprint(i), 10, spend.Limit{Calls: 2}, want)
		}
		if err := s.Settle(t.Context(), entry("0"), spend.Amount{}, spend.Amount{}); err != nil { // nobody answered it
			t.Fatal(err)
		}
		if err := s.Settle(t.Context(), entry("1"), amount(5), spend.Amount{}); err != nil {
			t.Fatal(err)
		}
		reserve(t, s, "3", 10, spend.Limit{Calls: 2}, true)
		got, err := s.Sums(t.Context(), "blog", 20000)
		if err != nil || got.Used.Calls != 1 || got.Reserved.Calls != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("accounts and days are apart", func(t *testing.T) {
		s := f.Open(t)
		reserve(t, s, "a", 100, spend.Limit{Tokens: 100}, true)
		for _, e := range []spend.Entry{{Account: "shop", Date: 20000, ID: "b"}, {Account: "blog", Date: 20001, ID: "c"}} {
			if _, ok, err := s.Reserve(t.Context(), e, amount(100), spend.Limit{Tokens: 100}); err != nil || !ok {
				t.Errorf("%+v: %v, %v", e, ok, err)
			}
		}
		if _, _, err := s.Reserve(t.Context(), spend.Entry{Date: 20000, ID: "d"}, amount(1), spend.Limit{}); err == nil {
			t.Error("an account without a name")
		}
	})
	t.Run("what was used without a reservation counts once", func(t *testing.T) {
		s := f.Open(t)
		for range 2 {
			if err := s.Settle(t.Context(), entry("a"), amount(7), spend.Amount{}); err != nil {
				t.Fatal(err)
			}
		}
		sums(t, s, 7, 0)
	})
	t.Run("of a call whose process was killed counts what it had noted", func(t *testing.T) {
		s := f.Open(t)
		reserve(t, s, "a", 100, spend.Limit{}, true)
		if err := s.Note(t.Context(), entry("a"), amount(40)); err != nil {
			t.Fatal(err)
		}
		s = f.Crash(t, s)
		sums(t, s, 0, 100)
		f.Later(t, s)
		sums(t, s, 40, 0)
		// It lives on after all, and has gone on.
		if err := s.Settle(t.Context(), entry("a"), amount(55), amount(40)); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a call that goes on holds its reservation", func(t *testing.T) {
		s := f.Open(t)
		reserve(t, s, "a", 100, spend.Limit{}, true)
		if err := s.Note(t.Context(), entry("a"), amount(140)); err != nil { // more than it had thought
			t.Fatal(err)
		}
		sums(t, s, 0, 140)
		if err := s.Note(t.Context(), entry("unknown"), amount(5)); err != nil {
			t.Fatal(err)
		}
		sums(t, s, 0, 140)
	})
	t.Run("of many at once no more than the limit lets are served", func(t *testing.T) {
		s := f.Open(t)
		var served atomic.Int32
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if _, ok, err := s.Reserve(t.Context(), entry(fmt.Sprint(i)), amount(10), spend.Limit{Tokens: 75}); err != nil {
					t.Error(err)
				} else if ok {
					served.Add(1)
				}
			})
		}
		all.Wait()
		if n := served.Load(); n != 7 {
			t.Errorf("%d, want 7", n)
		}
	})
}
