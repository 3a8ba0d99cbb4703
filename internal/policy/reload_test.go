package policy

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// site is a policy folder with a reloader on it.
type site struct {
	t    *testing.T
	dir  string
	log  *bytes.Buffer
	r    *Reloader
	last []fileState
}

func newSite(t *testing.T, src string) *site {
	s := &site{t: t, dir: t.TempDir(), log: &bytes.Buffer{}}
	s.write("policy.yaml", src)
	var err error
	s.r, err = NewReloader(func() (*Policy, error) { return Load(filepath.Join(s.dir, "policy.yaml"), Options{}) },
		slog.New(slog.NewTextHandler(s.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) write(name, src string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(src), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// poll is one tick of Watch.
func (s *site) poll() { s.last = s.r.poll(s.last) }

func (s *site) expect(name string, errorLines int) {
	s.t.Helper()
	if got := s.r.Current().Name(); got != name {
		s.t.Errorf("policy %q is in force, want %q", got, name)
	}
	if got := strings.Count(s.log.String(), "level=ERROR"); got != errorLines {
		s.t.Errorf("%d errors were logged, want %d:\n%s", got, errorLines, s.log)
	}
}

func TestReloadKeepsTheOldPolicyWhenTheNewOneIsWrong(t *testing.T) {
	s := newSite(t, "name: one\nrules: []\n")
	s.write("policy.yaml", "name: two\nruels: []\n")
	for range 3 {
		if err := s.r.Reload(); err == nil || !strings.Contains(err.Error(), `did you mean "rules"`) {
			t.Errorf("error %v", err)
		}
	}
	s.expect("one", 1)
	if !s.r.Stale() {
		t.Error("the policy in force is older than the one on disk, and not said to be stale")
	}
	s.write("policy.yaml", "name: three\nrules: []\n")
	if err := s.r.Reload(); err != nil {
		t.Fatal(err)
	}
	s.expect("three", 1)
	if s.r.Stale() {
		t.Error("stale after a good reload")
	}
	if !strings.Contains(s.log.String(), "the policy was reloaded") {
		t.Errorf("the recovery was not logged:\n%s", s.log)
	}
}

func TestTheFirstPolicyMustBeRight(t *testing.T) {
	bad := errors.New("bad")
	if _, err := NewReloader(func() (*Policy, error) { return nil, bad }, slog.New(slog.DiscardHandler)); !errors.Is(err, bad) {
		t.Errorf("error %v", err)
	}
}

func TestChangesAreTakenWhenTheyHaveSettled(t *testing.T) {
	s := newSite(t, "name: one\nrules: []\n")
	s.poll()
	s.write("policy.yaml", "name: half-writ")
	s.poll() // changed: waits
	s.write("policy.yaml", "name: two\nrules: []\n")
	s.poll() // changed again: waits
	s.expect("one", 0)
	s.poll()
	s.expect("two", 0)
}

func TestRenamedAndSwappedFilesAreSeen(t *testing.T) {
	s := newSite(t, "name: one\nrules: []\n")
	s.poll()
	// An editor writes a new file and renames it; the length and time may be equal.
	info, err := os.Stat(filepath.Join(s.dir, "policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("new", "name: two\nrules: []\n")
	for _, err := range []error{os.Chtimes(filepath.Join(s.dir, "new"), info.ModTime(), info.ModTime()), os.Rename(filepath.Join(s.dir, "new"), filepath.Join(s.dir, "policy.yaml"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.poll()
	s.poll()
	s.expect("two", 0)

	// Kubernetes points a symbolic link at a new folder.
	link := filepath.Join(s.dir, "data")
	for i, src := range []string{"name: k1\nrules: []\n", "name: k2\nrules: []\n"} {
		dir := filepath.Join(s.dir, "v"+string(rune('1'+i)))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.write(filepath.Join(filepath.Base(dir), "policy.yaml"), src)
	}
	if err := os.Symlink("v1", link); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	k := &site{t: t, dir: link, log: &bytes.Buffer{}}
	k.r, err = NewReloader(func() (*Policy, error) { return Load(filepath.Join(link, "policy.yaml"), Options{}) }, slog.New(slog.NewTextHandler(k.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	k.poll()
	if err := os.Symlink("v2", link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
	k.poll()
	k.poll()
	k.expect("k2", 0)
}

func TestAMissingImportIsTriedAgain(t *testing.T) {
	s := newSite(t, "name: one\nrules: []\n")
	s.poll()
	s.write("policy.yaml", "name: two\nimports: [./more.yaml]\n")
	for range 4 {
		s.poll()
	}
	s.expect("one", 1)
	s.write("more.yaml", "rules: []\n")
	s.poll()
	s.expect("two", 1)
	s.write("more.yaml", "rules: []\nthresholds: []\n") // the import is watched now
	before := s.r.Current().Hash()
	s.poll()
	s.poll()
	if s.r.Current().Hash() == before {
		t.Error("a change of the import was not seen")
	}
}

func TestADeletedFileKeepsThePolicy(t *testing.T) {
	s := newSite(t, "name: one\nrules: []\n")
	s.poll()
	if err := os.Remove(filepath.Join(s.dir, "policy.yaml")); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		s.poll()
	}
	s.expect("one", 1)
}

func TestWatchEndsWithItsContext(t *testing.T) {
	s := newSite(t, "name: one\nrules: []\n")
	s.write("policy.yaml", "name: two\nrules: [ ]\n")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var err error
		wg.Go(func() { err = s.r.Watch(ctx, time.Second) })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		s.expect("two", 0)
		cancel()
		wg.Wait()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	})
}

func TestOnlyRegularFilesOfBoundedSizeAreRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir+"/.", Options{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, bytes.Repeat([]byte("#"), maxSource*2), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big, Options{}); err == nil || !strings.Contains(err.Error(), "a policy file may have") {
		t.Errorf("a big file: %v", err)
	}
}
