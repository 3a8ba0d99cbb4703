package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
)

// testdata/v1.sql is a file of schema version 1 as the first release wrote it. It is never changed.
func TestAFileOfVersion1IsStillRead(t *testing.T) {
	text, err := os.ReadFile("testdata/v1.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "archive.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(text)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	a := open(t, path, options())
	want := contractEvents(t)
	if diff := cmp.Diff([]defense.Event{*want[1], *want[0]}, find(t, a, record.Filter{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	appendAll(t, a, event(1))
}

func TestUpgradeKeepsTheDataAndCanBeRolledBackByOneVersion(t *testing.T) {
	path := closedFile(t, 3)
	now := migrations
	next := append(slices.Clip(now), migration{oldest: len(now), sql: "ALTER TABLE events ADD COLUMN weather TEXT NOT NULL DEFAULT ''; CREATE TABLE forecasts (x)"})
	afterNext := append(slices.Clip(next), migration{oldest: len(next), sql: "CREATE TABLE storms (x)"})

	for _, step := range []struct {
		name  string
		steps []migration
		err   error
	}{
		{"upgrade", next, nil},
		{"rolled back by one", now, nil},
		{"and forward again", next, nil},
		{"by two at once", afterNext, nil},
		{"rolled back by one again", next, nil},
		{"rolled back by two", now, ErrNewer},
	} {
		files, err := openFiles(t.Context(), path, step.steps)
		if !errors.Is(err, step.err) {
			t.Fatalf("%s: %v", step.name, err)
		}
		if err != nil {
			if !strings.Contains(err.Error(), "restore the backup") {
				t.Errorf("%s: the error does not say what to do: %v", step.name, err)
			}
			continue
		}
		a := &Archive{path: path, o: options(), privacy: Privacy{}.Masker(), files: files}
		appendAll(t, a, event(100))
		if got := find(t, a, record.Filter{}); len(got) != 4 {
			t.Errorf("%s: %d events, want 4", step.name, len(got))
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFailedUpgradeChangesNothing(t *testing.T) {
	path := closedFile(t, 3)
	bad := append(slices.Clip(migrations), migration{oldest: 1, sql: "CREATE TABLE half (x)"}, migration{oldest: 1, sql: "CREATE NONSENSE"})
	if _, err := openFiles(t.Context(), path, bad); err == nil || !strings.Contains(err.Error(), fmt.Sprint("version ", len(bad))) {
		t.Fatalf("got %v", err)
	}
	a := open(t, path, options())
	var n int
	if err := a.files.r.QueryRow("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").Scan(&n); err != nil || n != 0 {
		t.Errorf("a part of the failed upgrade is there: %d, %v", n, err)
	}
}

func TestEveryMigrationAllowsARollBackByOneOrSaysSo(t *testing.T) {
	for i, m := range migrations {
		if m.oldest < 1 || m.oldest > i+1 {
			t.Errorf("step %d: oldest %d", i+1, m.oldest)
		}
	}
}
