package sqlite

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

func count(t *testing.T, a *Archive, table string) (n int) {
	t.Helper()
	if err := a.files.r.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPruneByAge(t *testing.T) {
	a := newArchive(t)
	old := func(e *defense.Event) { e.Request.Agent = "Old/1.0" }
	fill(t, a, 0, 1100, old)
	fill(t, a, 9000, 9100)
	n, err := a.Prune(t.Context(), time.Hour, 0, noon.Add(9000*time.Second))
	if err != nil || n != 1100 {
		t.Fatalf("%d removed, %v; want 1100", n, err)
	}
	if got := find(t, a, record.Filter{Limit: 1000}); len(got) != 100 {
		t.Errorf("%d events left, want 100", len(got))
	}
	if n := count(t, a, "agents"); n != 1 {
		t.Errorf("%d agents left, want the one in use", n)
	}
	if n, err = a.Prune(t.Context(), time.Hour, 0, noon.Add(9000*time.Second)); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

func TestPruneBySizeRemovesTheOldestAndTheFileShrinks(t *testing.T) {
	a := newArchive(t)
	// Every request with an agent of its own: the worst case for the table of agents.
	fill(t, a, 0, 2200, func(e *defense.Event) {
		e.Request.Agent = fmt.Sprintf("Rotating/%s %s", e.ID, strings.Repeat("x", 450))
		e.Request.Path = "/" + strings.Repeat("y", 800)
	})
	before, err := a.Size()
	if err != nil {
		t.Fatal(err)
	}
	const limit = 2 << 20
	if before < 2*limit {
		t.Fatalf("only %d bytes to begin with", before)
	}
	removed, err := a.Prune(t.Context(), 0, limit, noon)
	if err != nil {
		t.Fatal(err)
	}
	after, err := a.Size()
	if err != nil {
		t.Fatal(err)
	}
	if after > limit {
		t.Errorf("%d bytes on disk, limit %d", after, limit)
	}
	left := count(t, a, "events")
	if left != 2200-removed || left < 300 {
		t.Errorf("%d events left after %d were removed", left, removed)
	}
	newest := find(t, a, record.Filter{Limit: 1})
	if len(newest) != 1 || newest[0].ID != event(2199).ID {
		t.Errorf("the newest event is gone: %+v", newest)
	}
	if got := check(t, a); got != "ok" {
		t.Errorf("integrity: %s", got)
	}
}

func TestEraseLeavesNothingOfAPersonInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "archive.db")
	a := open(t, path, options())
	fill(t, a, 0, 1500, func(e *defense.Event) { e.Client.Address, e.Request.Path = "198.51.100.7", "/their-secret-page" })
	fill(t, a, 2000, 2100)
	n, err := a.Erase(t.Context(), netip.MustParsePrefix("198.51.100.7/32"))
	if err != nil || n != 1500 {
		t.Fatalf("%d erased, %v", n, err)
	}
	if got := find(t, a, record.Filter{Limit: 1000}); len(got) != 100 {
		t.Errorf("%d events left, want the 100 of somebody else", len(got))
	}
	for _, c := range companions[:2] {
		b, err := os.ReadFile(path + c)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("their-secret-page")) {
			t.Errorf("%s still has what they looked at", path+c)
		}
	}
}
