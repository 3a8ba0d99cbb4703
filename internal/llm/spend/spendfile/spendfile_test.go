package spendfile_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/llm/spend"
	"github.com/quickthorn/quickthorn/internal/llm/spend/spendfile"
	"github.com/quickthorn/quickthorn/internal/llm/spend/spendtest"
)

func open(t *testing.T, path string, now func() time.Time) *spendfile.Store {
	t.Helper()
	s, err := spendfile.Open(path, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestTheBooksAreKept(t *testing.T) {
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	path := ""
	spendtest.Store(t, spendtest.Factory{
		Open: func(t *testing.T) spend.Store {
			path = filepath.Join(t.TempDir(), spendfile.FileName)
			return open(t, path, now)
		},
		Crash: func(t *testing.T, s spend.Store) spend.Store { // every change is on disk: a Close adds nothing
			if err := s.(*spendfile.Store).Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, path, now)
		},
		Later: func(*testing.T, spend.Store) { later.Add(int64(spend.Hold + time.Second)) },
	})
}

func TestOldDaysAreForgotten(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), time.Now)
	for _, d := range []spend.Date{20000, 20001, 20000 + spend.Keep, 20001 + spend.Keep} {
		if err := s.Settle(t.Context(), spend.Entry{Account: "a", Date: d, ID: "x"}, spend.Amount{Tokens: 1}, spend.Amount{}); err != nil {
			t.Fatal(err)
		}
	}
	for d, want := range map[spend.Date]int64{20000: 0, 20001: 1, 20001 + spend.Keep: 1} {
		if got, err := s.Sums(t.Context(), "a", d); err != nil || got.Used.Tokens != want {
			t.Errorf("%s: %+v, %v, want %d", d, got, err, want)
		}
	}
}

func TestTwoProcessesDoNotShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	open(t, path, time.Now)
	if _, err := spendfile.Open(path, time.Now); err == nil {
		t.Error("it is opened twice")
	}
}
