package embedded

import (
	"path/filepath"
	"testing"

	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

func openState(t testing.TB, dir string, o StateOptions) *State {
	t.Helper()
	s, err := OpenState(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStateDoesWhatStoreSays(t *testing.T) {
	t.Parallel()
	bounds := map[string]int64{} // of directories
	storetest.State(t, storetest.StateFactory{
		Open: func(t *testing.T) store.State { return openState(t, t.TempDir(), StateOptions{}) },
		Bounded: func(t *testing.T, queueBytes int64) store.State {
			dir := t.TempDir()
			bounds[dir] = queueBytes
			return openState(t, dir, StateOptions{QueueBytes: queueBytes})
		},
		Reopen: func(t *testing.T, s store.State) store.State {
			dir := filepath.Dir(s.(*State).db.path)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return openState(t, dir, StateOptions{QueueBytes: bounds[dir]})
		},
	})
}
