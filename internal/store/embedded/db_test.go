package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"go.etcd.io/bbolt"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// childEnv makes the test binary add decisions until it is killed.
const childEnv = "QUICKTHORN_TEST_ADD_TO"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		addUntilKilled(path)
	}
	if dir := os.Getenv(queueChildEnv); dir != "" {
		queueUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func open(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func load(t testing.TB, db *DB) *decision.Log {
	t.Helper()
	l := decision.NewLog(decision.NewSet(nil), db, decision.LogOptions{})
	if _, err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func numbered(i int) defense.Decision {
	return defense.Decision{Value: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), Action: defense.Deny, Origin: "operator"}
}

// addUntilKilled adds batches of decisions and prints each id after Add returned it.
func addUntilKilled(path string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx := context.Background()
	db, err := Open(ctx, path)
	if err != nil {
		fail(err)
	}
	l := decision.NewLog(decision.NewSet(nil), db, decision.LogOptions{})
	if _, err := l.Load(ctx); err != nil {
		fail(err)
	}
	for i := l.Set().Len(); ; {
		batch := make([]defense.Decision, 1+i%7)
		for j := range batch {
			batch[j] = numbered(i)
			i++
		}
		ds, err := l.Add(ctx, batch, decision.AddOptions{})
		if err != nil {
			fail(err)
		}
		for _, d := range ds {
			fmt.Println(d.ID)
		}
		if i > 20 { // a change and a deletion, acknowledged as well
			d := numbered(i - 10)
			d.Reason = "changed"
			if ds, err = l.Add(ctx, []defense.Decision{d}, decision.AddOptions{}); err != nil {
				fail(err)
			}
			fmt.Println("?" + ds[0].ID) // about to be deleted: may be there or not
			if _, err := l.Delete(ctx, ds[0].ID); err != nil {
				fail(err)
			}
			fmt.Println("-" + ds[0].ID)
		}
	}
}

func TestEveryAcknowledgedDecisionSurvivesAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	want, gone := map[string]bool{}, map[string]bool{}
	for round, lines := range []int{1, 60, 200} {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(out)
		for n := 0; sc.Scan(); n++ {
			switch id := sc.Text(); id[0] {
			case '?':
				delete(want, id[1:])
			case '-':
				gone[id[1:]] = true
			default:
				want[id] = true
			}
			if n == lines {
				// Mid-stream: what it says until it is dead counts too.
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child was not killed")
		}
		db := open(t, path)
		l := load(t, db)
		for id := range want {
			if _, ok := l.Set().Get(id); !ok {
				t.Errorf("round %d: %s was acknowledged and is lost", round, id)
			}
		}
		for id := range gone {
			if _, ok := l.Set().Get(id); ok {
				t.Errorf("round %d: %s was deleted and is back", round, id)
			}
		}
		// One batch may have been durable and not yet acknowledged, and one deletion not yet carried out.
		if n := l.Set().Len(); n > len(want)+8 {
			t.Errorf("round %d: %d there, %d acknowledged", round, n, len(want))
		}
		for _, d := range l.Set().List(decision.Filter{}, noon, 1<<20) {
			want[d.ID] = true
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecondProcessIsToldWhoHasTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	open(t, path)
	_, err := Open(t.Context(), path) // bbolt's lock is per open file, so that the same process counts
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "another quickthorn uses this data directory") {
		t.Errorf("got %v", err)
	}
}

func TestSettingsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	db := open(t, path)
	s := db.Settings()
	if v, err := s.Get(t.Context(), "mode"); v != nil || err != nil {
		t.Errorf("never put: %q, %v", v, err)
	}
	for _, mode := range []string{"observe", "enforce"} {
		if err := s.Put(t.Context(), "mode", []byte(mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(t.Context(), "big", make([]byte, MaxSetting+1)); err == nil {
		t.Error("a setting of any size")
	}
	if err := s.Put(t.Context(), "", nil); err == nil || !strings.Contains(err.Error(), `putting setting ""`) {
		t.Errorf("no key: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if v, err := open(t, path).Settings().Get(t.Context(), "mode"); string(v) != "enforce" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
	if _, err := s.Get(t.Context(), "mode"); err == nil {
		t.Error("a closed DB answers")
	}
}

func TestFileIsForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	open(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(t.Context(), filepath.Join(dir, "none", FileName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	newer := filepath.Join(dir, "newer.db")
	db := open(t, newer)
	if err := db.bolt.Update(func(tx *bbolt.Tx) error { return putUint(tx.Bucket(bucketMeta), keyFormat, formatVersion+1) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the lock is let go of
		if _, err := Open(t.Context(), newer); !errors.Is(err, ErrNewer) {
			t.Errorf("newer: %v", err)
		}
	}
	other := filepath.Join(dir, "other.db")
	if err := os.WriteFile(other, bytes.Repeat([]byte("this is no database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Open(t.Context(), other); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("another file: %v", err)
		}
	}
}

// filled returns the bytes of a state file with a few thousand decisions.
func filled(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), FileName)
	db := open(t, path)
	l := load(t, db)
	var in strings.Builder
	for i := range 3000 {
		fmt.Fprintln(&in, numbered(i).Value)
	}
	if _, err := l.Import(t.Context(), strings.NewReader(in.String()), decision.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.DeleteWhere(t.Context(), decision.Filter{Value: "10.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer // without the room to grow
	if err := db.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// useAll opens the file and uses all of it; it must come back, with an error or without.
func useAll(t *testing.T, path string) error {
	t.Helper()
	db, err := Open(t.Context(), path)
	if err != nil {
		return err
	}
	l := decision.NewLog(decision.NewSet(nil), db, decision.LogOptions{})
	_, err = l.Load(t.Context())
	if err == nil {
		_, err = l.Add(t.Context(), []defense.Decision{numbered(1 << 20)}, decision.AddOptions{})
	}
	if err == nil {
		_, err = l.DeleteWhere(t.Context(), decision.Filter{Origin: "list:import"})
	}
	return errors.Join(err, db.Backup(t.Context(), io.Discard), db.Close())
}

func TestDamagedFileGivesAnErrorNotAPanic(t *testing.T) {
	whole := filled(t)
	path := filepath.Join(t.TempDir(), FileName)
	r := rand.New(rand.NewPCG(1, 2))
	damaged := 0
	for i := range 60 {
		b := bytes.Clone(whole)
		what := ""
		switch i % 3 {
		case 0:
			b = b[:r.IntN(len(b))]
			what = fmt.Sprintf("cut to %d bytes", len(b))
		case 1:
			at := r.IntN(len(b) / 4096)
			for j := range 4096 {
				b[at*4096+j] = byte(r.Uint32())
			}
			what = fmt.Sprintf("page %d scrambled", at)
		default:
			for range 40 {
				b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
			}
			what = "bits flipped"
		}
		if len(b) == 0 {
			continue // an empty file is a new one
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		switch err := useAll(t, path); {
		case err == nil: // in a free page
		case errors.Is(err, ErrCorrupt):
			damaged++
		default:
			t.Errorf("%s: not said to be damage: %v", what, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if damaged < 40 {
		t.Errorf("only %d of 60 damages were noticed", damaged)
	}
}

func TestBackupIsAWholeCopyWhileOthersWrite(t *testing.T) {
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, FileName))
	l := load(t, db)
	if _, err := l.Add(t.Context(), []defense.Decision{numbered(1)}, decision.AddOptions{}); err != nil {
		t.Fatal(err)
	}
	copyPath := filepath.Join(dir, "copy.db")
	file, err := os.Create(copyPath)
	if err != nil {
		t.Fatal(err)
	}
	first := true
	err = db.Backup(t.Context(), writerFunc(func(p []byte) (int, error) {
		if first { // in the middle of it
			first = false
			if _, err := l.Add(t.Context(), []defense.Decision{numbered(2)}, decision.AddOptions{}); err != nil {
				t.Error(err)
			}
		}
		return file.Write(p)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if n := load(t, open(t, copyPath)).Set().Len(); n != 1 {
		t.Errorf("the copy holds %d, want the 1 of when it began", n)
	}
	if n := l.Set().Len(); n != 2 {
		t.Errorf("%d in the original", n)
	}
	full := errors.New("no space left on device")
	if err := db.Backup(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("a full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = db.Backup(ctx, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestChangesCanBeStopped(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, filled(t), 0o600); err != nil {
		t.Fatal(err)
	}
	db := open(t, path)
	var seqs []uint64
	if err := db.Changes(t.Context(), 2998, func(c decision.Change) bool {
		seqs = append(seqs, c.Sequence)
		return len(seqs) < 3
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{2999, 3000, 3001}, seqs); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := db.Changes(ctx, 0, func(decision.Change) bool { n++; cancel(); return true })
	if !errors.Is(err, context.Canceled) || n > ctxEvery {
		t.Errorf("%d seen, %v", n, err)
	}
	if err := db.Changes(t.Context(), 1<<64-1, func(decision.Change) bool { t.Error("after the end"); return false }); err != nil {
		t.Error(err)
	}
}

func TestRecordComesBackAsItWas(t *testing.T) {
	for _, d := range []defense.Decision{
		{ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Value: "192.0.2.1"},
		{ID: "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", Scope: defense.ScopeAgent, Value: "BadBot", Action: defense.Deny, Origin: "list:x", Reason: strings.Repeat("ü", 400),
			CaseID: "01C", Site: "wiki", Created: noon, Expires: noon.Add(time.Second)},
	} {
		rec, err := appendRecord(nil, &d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseRecord(rec)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, got); diff != "" {
			t.Error(diff)
		}
		for n := range rec {
			if _, err := parseRecord(rec[:n]); err == nil {
				t.Errorf("the first %d of %d bytes parse", n, len(rec))
			}
		}
		rec[0]++
		if _, err := parseRecord(rec); err == nil || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("another version: %v", err)
		}
	}
	if _, err := appendRecord(nil, &defense.Decision{ID: "x"}); err == nil {
		t.Error("a record without an id")
	}
}

func FuzzParseRecord(f *testing.F) {
	rec, err := appendRecord(nil, &defense.Decision{ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Value: "192.0.2.1", Origin: "operator", Created: noon, Expires: noon.Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rec[:len(rec)-crc32.Size])
	f.Add([]byte{recordVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseRecord(b); err == nil && len(b) < shortestRecord {
			t.Error("too short")
		}
		b = binary.BigEndian.AppendUint32(b, checksum(b)) // so that the fuzzer gets past it
		d, err := parseRecord(b)
		if err != nil {
			return
		}
		again, err := appendRecord(nil, &d)
		if err != nil {
			t.Skip() // an id that overflows has no text
		}
		if d2, err := parseRecord(again); err != nil || d2 != d {
			t.Errorf("%+v came back as %+v, %v", d, d2, err)
		}
	})
}

func BenchmarkAddOne(b *testing.B) {
	l := load(b, open(b, filepath.Join(b.TempDir(), FileName)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := l.Add(b.Context(), []defense.Decision{numbered(i)}, decision.AddOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseRecord(b *testing.B) {
	d := numbered(77)
	d.ID, d.Created = "01ARZ3NDEKTSV4RRFFQ69G5FAV", noon
	rec, err := appendRecord(nil, &d)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseRecord(rec); err != nil {
			b.Fatal(err)
		}
	}
}
