package keyfile

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestProgramsThatStartAtOnceAgreeOnOneKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.key")
	const programs = 16
	got := make([]string, programs)
	var all sync.WaitGroup
	for i := range programs {
		all.Go(func() {
			b, err := LoadOrCreate(path, func() []byte { return fmt.Appendf(nil, "key %d", i) })
			if err != nil {
				t.Error(err)
			}
			got[i] = string(b)
		})
	}
	all.Wait()
	for i, k := range got {
		if k != got[0] || k == "" {
			t.Errorf("program %d has %q, program 0 %q", i, k, got[0])
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Errorf("left in the directory: %v, %v", list, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

func TestWhatCannotBeReadIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.key")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreate(path, func() []byte { t.Error("made a key"); return nil }); err == nil {
		t.Error("a folder was taken for a key")
	}
}
