//go:build linux || darwin

package embedded

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/queue"
)

// limitFiles does to bbolt what a full disk does, until the function that it returns is called. It is for the whole process: the
// test must not be parallel.
func limitFiles(t *testing.T, size int64) (roomAgain func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	t.Cleanup(func() { signal.Reset(syscall.SIGXFSZ) })
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	small := old
	small.Cur = uint64(size)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullDiskIsAnErrorAndChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	db := open(t, path)
	l := load(t, db)
	if _, err := l.Add(t.Context(), []defense.Decision{numbered(1)}, decision.AddOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	roomAgain := limitFiles(t, info.Size())
	batch := make([]defense.Decision, 5000)
	for i := range batch {
		batch[i] = numbered(i + 100)
		batch[i].Reason = strings.Repeat("a long story ", 50)
	}
	_, addErr := l.Add(t.Context(), batch, decision.AddOptions{})
	roomAgain()
	if addErr == nil || !strings.Contains(addErr.Error(), path) {
		t.Fatalf("got %v", addErr)
	}
	if n := l.Set().Len(); n != 1 {
		t.Errorf("%d in force, want 1", n)
	}
	// With room again it goes on, and nothing is lost or half there.
	ds, err := l.Add(t.Context(), []defense.Decision{numbered(2)}, decision.AddOptions{})
	if err != nil || ds[0].Sequence != 2 {
		t.Fatalf("%+v, %v", ds, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := load(t, open(t, path)).Set().Len(); n != 2 {
		t.Errorf("%d after a restart, want 2", n)
	}
}

func TestFullDiskStopsTheQueueAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openState(t, dir, StateOptions{})
	roomAgain := limitFiles(t, 4<<20)
	body := make([]byte, 100_000)
	n := 0
	var err error
	for ; n < 1000 && err == nil; n++ {
		err = s.queue.Append(t.Context(), queue.Batch{Body: body, Events: 1})
	}
	n-- // the last one failed
	full := s.queue.Append(t.Context(), queue.Batch{Body: body, Events: 1})
	ackErr := s.queue.Ack(t.Context(), batchID(1)) // needs a little room, and may find it among what is free
	if ackErr == nil {
		n--
	}
	roomAgain()
	for _, err := range []error{err, full} {
		if err == nil || errors.Is(err, queue.ErrFull) || !strings.Contains(err.Error(), QueueFileName) {
			t.Errorf("full: %v", err)
		}
	}
	if err := s.queue.Append(t.Context(), queue.Batch{Body: body, Events: 1}); err != nil {
		t.Errorf("with room again: %v", err)
	}
	for range 2 {
		if d, err := s.queue.Depth(t.Context()); err != nil || d.Batches != n+1 || d.Events != n+1 || d.Bytes != int64((n+1)*len(body)) {
			t.Errorf("%d batches were taken, there are %+v, %v", n+1, d, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openState(t, dir, StateOptions{})
	}
	for seen := 0; seen < n+1; {
		bs, err := s.queue.Next(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		seen += len(bs)
	}
}
