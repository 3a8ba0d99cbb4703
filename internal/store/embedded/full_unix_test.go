//go:build linux || darwin

package embedded

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
)

// A limit on the size of files does to bbolt what a full disk does.
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
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	small := old
	small.Cur = uint64(info.Size())
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		t.Fatal(err)
	}
	batch := make([]defense.Decision, 5000)
	for i := range batch {
		batch[i] = numbered(i + 100)
		batch[i].Reason = strings.Repeat("a long story ", 50)
	}
	_, addErr := l.Add(t.Context(), batch, decision.AddOptions{})
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
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
