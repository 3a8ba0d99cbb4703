package decision

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func encoded(t testing.TB, k known, s *Set) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encodeSnapshot(&b, k, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzSnapshot: a file that anything may have happened to is refused or read, never more.
func FuzzSnapshot(f *testing.F) {
	d := dec(7, "192.0.2.0/24 deny operator")
	d.Scope, d.Reason, d.Expires = defense.ScopeRange, "scrapes", noon.Add(time.Hour)
	s := newSet(f, d, dec(8, "shape:00000000000000ab challenge engine"), dec(9, "badbot deny list:x"))
	f.Add(encoded(f, known{after: 9, mode: defense.ModeEnforce, hasMode: true}, s))
	f.Add(encoded(f, known{}, NewSet(nil)))
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		var ds []defense.Decision
		var k known
		err := decodeSnapshot(bytes.NewReader(b), func(head known) { k = head }, func(d *defense.Decision) error {
			ds = append(ds, *d)
			return nil
		})
		if err != nil {
			if !errors.Is(err, ErrSnapshot) {
				t.Errorf("the error is not about the file: %v", err)
			}
			return
		}
		s := NewSet(nil)
		for _, d := range ds {
			if it, err := s.check(d); err == nil {
				if err := s.put([]item{it}); err != nil && !errors.Is(err, ErrTooManyAgents) {
					t.Fatal(err)
				}
			}
		}
		again := encoded(t, k, s)
		var n int
		if err := decodeSnapshot(bytes.NewReader(again), nil, func(*defense.Decision) error { n++; return nil }); err != nil || n != s.Len() {
			t.Errorf("what was read is not written: %d of %d, %v", n, s.Len(), err)
		}
	})
}

func TestASnapshotSaysWhatTheSetHolds(t *testing.T) {
	s := million(t, 3_000)
	path := filepath.Join(t.TempDir(), "snapshot")
	k := known{after: 3_000, mode: defense.ModeObserve, hasMode: true}
	if err := writeSnapshot(path, k, s); err != nil {
		t.Fatal(err)
	}
	again := NewSet(nil)
	var got known
	if err := readSnapshot(path, func(head known) { got = head }, func(d *defense.Decision) error { return again.Put(*d) }); err != nil {
		t.Fatal(err)
	}
	if got != k {
		t.Errorf("%+v, want %+v", got, k)
	}
	if diff := cmp.Diff(s.List(Filter{}, noon, 10_000), again.List(Filter{}, noon, 10_000)); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkSnapshotOfAMillion(b *testing.B) {
	s := million(b, 1_000_000)
	path := filepath.Join(b.TempDir(), "snapshot")
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := writeSnapshot(path, known{after: 1}, s); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if err := readSnapshot(path, nil, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
