package redis

import (
	"testing"

	"github.com/quickthorn/quickthorn/internal/redisconn"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

func open(t testing.TB, o Options) *State {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// suite runs the common tests with options for a server. Each store gets a prefix of its own below
// theirs.
func suite(t *testing.T, o Options) {
	if o.Prefix == "" {
		o.Prefix = redisconn.DefaultPrefix
	}
	fresh := func(t *testing.T, queueBytes int64) store.State {
		o := o
		o.Prefix += token()[:8] + ":"
		o.QueueBytes = queueBytes
		return open(t, o)
	}
	again := func(t *testing.T, s store.State) store.State { return open(t, s.(*State).o) }
	storetest.State(t, storetest.StateFactory{
		Open:    func(t *testing.T) store.State { return fresh(t, 0) },
		Bounded: fresh,
		Reopen: func(t *testing.T, s store.State) store.State {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return again(t, s)
		},
		Crash:  again,
		Second: again,
	})
}

func TestStateDoesWhatStoreSays(t *testing.T) {
	t.Parallel()
	suite(t, Options{Options: redisconn.Options{Addresses: []string{testserver.Redis(t).Address}}})
}
