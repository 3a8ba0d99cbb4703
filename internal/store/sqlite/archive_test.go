package sqlite

import (
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store"
	"github.com/quickthorn/quickthorn/internal/store/storetest"
)

var (
	noon           = storetest.Noon()
	event          = storetest.Event
	contractEvents = storetest.ContractEvents
)

func TestArchive(t *testing.T) {
	storetest.Archive(t, storetest.ArchiveFactory{
		Open: func(t *testing.T, p Privacy) store.Archive { return newArchive(t, func(o *Options) { o.Privacy = p }) },
		Reopen: func(t *testing.T, a store.Archive, p Privacy) store.Archive {
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			o := options()
			o.Privacy = p
			return open(t, a.(*Archive).path, o)
		},
	})
}

func FuzzArchive(f *testing.F) {
	storetest.FuzzArchiveText(f, func(f *testing.F) store.Archive { return newArchive(f) })
}

func options() Options {
	return Options{
		Privacy: Privacy{KeepQuery: true},
		Now:     func() time.Time { return noon },
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func open(t testing.TB, path string, o Options) *Archive {
	t.Helper()
	a, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func newArchive(t testing.TB, change ...func(*Options)) *Archive {
	t.Helper()
	o := options()
	for _, f := range change {
		f(&o)
	}
	return open(t, filepath.Join(t.TempDir(), "archive.db"), o)
}

func appendAll(t testing.TB, a *Archive, events ...*defense.Event) {
	t.Helper()
	if _, err := a.Append(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

func find(t testing.TB, a *Archive, f record.Filter) []defense.Event {
	t.Helper()
	page, err := a.Events(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return page.Events
}

func TestQueriesUseTheIndexesMadeForThem(t *testing.T) {
	a := newArchive(t)
	for _, tt := range []struct {
		f     record.Filter
		index string
	}{
		{record.Filter{}, "events_time"},
		{record.Filter{Since: noon}, "events_time"},
		{record.Filter{ID: event(1).ID}, "events_time"},
		{record.Filter{Client: netip.MustParsePrefix("192.0.2.77/32")}, "events_client"},
		{record.Filter{Action: new(defense.Deny)}, "events_action"},
	} {
		c, err := a.conditions(tt.f)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := a.files.r.Query("EXPLAIN QUERY PLAN "+selectEvents+c.where()+" ORDER BY time DESC, events.id DESC LIMIT 10", c.args...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var plan string
		for rows.Next() {
			var id, parent, unused int
			var s string
			if err := rows.Scan(&id, &parent, &unused, &s); err != nil {
				t.Fatal(err)
			}
			plan += s + "\n"
		}
		if !strings.Contains(plan, tt.index) {
			t.Errorf("%+v: plan without %s:\n%s", tt.f, tt.index, plan)
		}
	}
}

func TestBackupIsACompleteArchive(t *testing.T) {
	a := newArchive(t)
	appendAll(t, a, event(1), event(2))
	dest := filepath.Join(t.TempDir(), "copy.db")
	if err := a.Backup(t.Context(), dest); err != nil {
		t.Fatal(err)
	}
	appendAll(t, a, event(3))
	if fi, err := os.Stat(dest); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if got := find(t, open(t, dest, options()), record.Filter{}); len(got) != 2 {
		t.Errorf("%d events in the copy, want 2", len(got))
	}
	if err := a.Backup(t.Context(), dest); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second backup to the same file: %v", err)
	}
	if left, _ := filepath.Glob(dest + ".partial*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
