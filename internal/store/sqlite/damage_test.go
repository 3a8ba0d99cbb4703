package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

// childFile tells the test binary, started again, to write to that archive until it is killed.
const childFile = "QUICKTHORN_TEST_ARCHIVE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		writeUntilKilled(path)
	}
	os.Exit(m.Run())
}

// writeUntilKilled appends batches and prints the number of each when Append has acknowledged it.
func writeUntilKilled(path string) {
	ctx := context.Background()
	a, err := Open(ctx, path, options())
	for n := 0; err == nil; n++ {
		batch := make([]*defense.Event, 10)
		for i := range batch {
			batch[i] = event(n*10 + i)
		}
		if _, err = a.Append(ctx, batch); err == nil {
			err = a.AddCounters(ctx, []record.Counter{{Hour: noon, Site: "wiki", Count: 10}})
		}
		if err == nil {
			_, err = fmt.Println(n)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func TestAcknowledgedBatchesSurviveKill9(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "archive.db")
	child := exec.CommandContext(t.Context(), exe)
	child.Env = append(os.Environ(), childFile+"="+path)
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for lines := bufio.NewScanner(out); acknowledged < 40 && lines.Scan(); {
		acknowledged++
	}
	if err := child.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the child ended by itself: %v, %s", err, stderr.String())
	}

	a := open(t, path, options())
	s, err := a.Summary(t.Context(), noon, noon.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if acknowledged < 40 || s.Events < acknowledged*10 || s.Requests < uint64(acknowledged)*10 {
		t.Errorf("%d batches of 10 were acknowledged; %d events and a count of %d are left", acknowledged, s.Events, s.Requests)
	}
	if s.Events%10 != 0 {
		t.Errorf("%d events: a batch is there in part", s.Events)
	}
	if got := check(t, a); got != "ok" {
		t.Errorf("integrity: %s", got)
	}
}

func check(t *testing.T, a *Archive) (s string) {
	t.Helper()
	if err := a.files.r.QueryRow("PRAGMA integrity_check").Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func fill(t testing.TB, a *Archive, from, to int, change ...func(*defense.Event)) {
	t.Helper()
	var batch []*defense.Event
	for n := from; n < to; n++ {
		batch = append(batch, event(n, change...))
		if len(batch) == 500 || n == to-1 {
			appendAll(t, a, batch...)
			batch = batch[:0]
		}
	}
}

// closedFile returns the path of a closed archive with n events, all of it in the main file.
func closedFile(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path, options())
	fill(t, a, 0, n)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func overwrite(t testing.TB, path string, offset int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

func TestABrokenFileIsToldAndLeftAloneUnlessQuarantineIsAllowed(t *testing.T) {
	for name, damage := range map[string]func(path string){
		"no database":     func(path string) { overwrite(t, path, 0, []byte("this is no database at all")) },
		"truncated":       func(path string) { os.Truncate(path, 5000) },
		"a page of noise": func(path string) { overwrite(t, path, 4096, bytes.Repeat([]byte{0xa5}, 3*4096)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := closedFile(t, 50)
			damage(path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), path, options()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Fatalf("opened as: %v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the broken file was changed (%v)", err)
			}

			var log bytes.Buffer
			o := options()
			o.Quarantine, o.Log = true, slog.New(slog.NewTextHandler(&log, nil))
			a := open(t, path, o)
			appendAll(t, a, event(1))
			kept, err := os.ReadFile(path + ".broken-20261125T120000Z")
			if err != nil || !bytes.Equal(before, kept) {
				t.Errorf("the broken file was not kept as it was (%v)", err)
			}
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
				t.Errorf("said %d times:\n%s", n, log.String())
			}
		})
	}
}

func TestAFileThatBreaksInUseIsReplacedAndTheBatchCanBeSentAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "archive.db")
	o := options()
	o.Quarantine = true
	a := open(t, path, o)
	fill(t, a, 0, 3000)
	if err := a.shrink(t.Context()); err != nil { // everything into the main file
		t.Fatal(err)
	}
	// An older broken file, which must make room.
	older := path + ".broken-20200101T000000Z"
	if err := os.WriteFile(older, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, 4096, bytes.Repeat([]byte{0xa5}, int(fi.Size()-4096)))
	// The connections have pages cached; a bystander's write makes them look at the file again.
	stir(t, path)

	if _, err := a.Append(t.Context(), []*defense.Event{event(5000)}); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("writing to a broken file: %v", err)
	}
	appendAll(t, a, event(5000))
	if got := find(t, a, record.Filter{}); len(got) != 1 {
		t.Errorf("%d events in the new file, want 1", len(got))
	}
	broken, err := filepath.Glob(path + ".broken-*")
	if err != nil || len(broken) == 0 {
		t.Errorf("the broken file was not kept: %v", err)
	}
	for _, b := range broken {
		if b == older {
			t.Error("the older broken file is still there")
		}
	}
}

// stir changes the database from outside, so that other connections drop their caches.
func stir(t *testing.T, path string) {
	t.Helper()
	db, err := connect(path, "_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("PRAGMA user_version = 7"); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedFilesNeverPanic(t *testing.T) {
	whole, err := os.ReadFile(closedFile(t, 60))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(t.TempDir(), "archive.db")
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		b := bytes.Clone(whole)
		for range 1 + r.IntN(200) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := Open(t.Context(), path, options())
		if err == nil {
			// Any of these may fail; none may take the process along.
			_, _ = a.Events(t.Context(), record.Filter{})
			_, _ = a.Summary(t.Context(), noon, noon.Add(time.Hour))
			_, _ = a.Append(t.Context(), []*defense.Event{event(7777)})
			_, _ = a.Prune(t.Context(), time.Hour, 0, noon.Add(2*time.Hour))
			a.Close()
		}
		for _, c := range companions {
			if err := os.Remove(path + c); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
}

func TestAnotherProgramsDatabaseIsNotTouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE mail (text)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Quarantine = true
	if _, err := Open(t.Context(), path, o); !errors.Is(err, ErrForeign) {
		t.Fatalf("got %v", err)
	}
	if moved, _ := filepath.Glob(path + ".broken-*"); len(moved) > 0 {
		t.Errorf("moved aside: %v", moved)
	}
}

func TestOpenSaysWhyAFileCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"no folder":    filepath.Join(dir, "missing", "archive.db"),
		"a folder":     dir,
		"not a folder": filepath.Join(os.Args[0], "archive.db"),
	} {
		if _, err := Open(t.Context(), path, options()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	readOnly := filepath.Join(dir, "read-only")
	if err := os.Mkdir(readOnly, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		t.Log("root may write to a read-only folder; that case is left out")
		return
	}
	if _, err := Open(t.Context(), filepath.Join(readOnly, "archive.db"), options()); !errors.Is(err, os.ErrPermission) {
		t.Errorf("read-only folder: %v", err)
	}
}

func TestAFullDiskIsAnErrorAndNoDamage(t *testing.T) {
	a := newArchive(t)
	fill(t, a, 0, 100)
	var pages int
	if err := a.files.w.QueryRow("PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		t.Helper()
		if err := a.pragma(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", n)); err != nil {
			t.Fatal(err)
		}
	}
	limit(pages)
	var batch []*defense.Event
	for n := range 500 {
		batch = append(batch, event(1000+n))
	}
	for range 2 {
		if _, err := a.Append(t.Context(), batch); !errors.Is(err, ErrFull) {
			t.Fatalf("a batch on a full disk: %v", err)
		}
	}
	if got := find(t, a, record.Filter{Limit: 1000}); len(got) != 100 {
		t.Errorf("%d events after the failure, want the 100 of before", len(got))
	}
	limit(1 << 30)
	appendAll(t, a, batch...)
	if got := check(t, a); got != "ok" {
		t.Errorf("integrity: %s", got)
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path, options())
	appendAll(t, a, event(1))
	for _, c := range companions {
		if fi, err := os.Stat(path + c); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path+c, fi, err)
		}
	}
}

func TestPathsWithSpecialLettersWork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%20é.db")
	a := open(t, path, options())
	appendAll(t, a, event(1))
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
