// Package storetest holds implementations of the interfaces of package store to what those say.
package storetest

import (
	"testing"

	"github.com/quickthorn/quickthorn/internal/store"
)

// StateFactory makes the stores that [State] tests.
type StateFactory struct {
	// Open returns a store with nothing in it.
	Open func(t *testing.T) store.State
	// Bounded is Open with a bound of the queue, in bytes.
	Bounded func(t *testing.T, queueBytes int64) store.State
	// Reopen closes s and opens the same data again.
	Reopen func(t *testing.T, s store.State) store.State
	// Crash opens the same data as after the end of s without a Close, of which s may go on unknowing; nil where a test
	// within one process cannot.
	Crash func(t *testing.T, s store.State) store.State
	// Second opens the same data beside s, as another process does; nil when only one can have it.
	Second func(t *testing.T, s store.State) store.State
}

// State holds a store.State to what its interface says. Each part gets stores of its own.
func State(t *testing.T, f StateFactory) {
	t.Run("decisions", func(t *testing.T) { decisions(t, f) })
	t.Run("settings", func(t *testing.T) { settings(t, f) })
	t.Run("queue", func(t *testing.T) { queues(t, f) })
	t.Run("bell", func(t *testing.T) { bells(t, f) })
	t.Run("lease", func(t *testing.T) { leases(t, f) })
	t.Run("redemptions", func(t *testing.T) { redemptions(t, f) })
	t.Run("a store in use answers a ping, a closed one does not", func(t *testing.T) {
		s := f.Open(t)
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("open: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s.Ping(t.Context()) == nil {
			t.Error("closed: no error")
		}
	})
}
