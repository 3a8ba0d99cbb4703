package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
)

// intake is a webhook that remembers lines once for each key and place, as the real one does.
type intake struct {
	mu      sync.Mutex
	lines   []string
	ids     map[string]bool
	refuse  int           // answers 503 before it takes anything
	forget  int           // takes, but answers 503
	reached chan struct{} // closed when want lines are there
	want    int
}

func (in *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer the-key" {
		http.Error(w, `{"detail":"wrong key"}`, http.StatusUnauthorized)
		return
	}
	if in.refuse > 0 {
		in.refuse--
		http.Error(w, "later", http.StatusServiceUnavailable)
		return
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, _ := io.ReadAll(z)
	accepted, duplicate := 0, 0
	for i, line := range strings.Split(strings.TrimSuffix(string(body), "\n"), "\n") {
		id := fmt.Sprint(r.Header.Get("Idempotency-Key"), i)
		if in.ids[id] {
			duplicate++
			continue
		}
		in.ids[id] = true
		accepted++
		in.lines = append(in.lines, line)
	}
	if len(in.lines) == in.want {
		close(in.reached)
		in.want = -1
	}
	if in.forget > 0 {
		in.forget--
		http.Error(w, "the answer is lost", http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]any{"accepted": accepted, "duplicate": duplicate, "rejected": []any{}})
}

func (in *intake) expect(t *testing.T, n int) {
	t.Helper()
	in.mu.Lock()
	in.reached = make(chan struct{})
	if in.want = n; len(in.lines) == n {
		close(in.reached)
		in.want = -1
	}
	reached := in.reached
	in.mu.Unlock()
	select {
	case <-reached:
	case <-time.After(20 * time.Second):
		in.mu.Lock()
		defer in.mu.Unlock()
		t.Fatalf("%d lines, want %d: %q", len(in.lines), n, in.lines)
	}
}

type fixture struct {
	*intake
	server *httptest.Server
	log    string
	o      Options
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	in := &intake{ids: map[string]bool{}, want: -1}
	server := httptest.NewServer(in)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	f := &fixture{intake: in, server: server, log: filepath.Join(dir, "access.log")}
	f.o = Options{
		File: f.log, URL: server.URL, Key: "the-key", Client: server.Client(), Position: filepath.Join(dir, "position"), Poll: time.Millisecond,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	return f
}

func (f *fixture) write(t *testing.T, text string) {
	t.Helper()
	w, err := os.OpenFile(f.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = w.WriteString(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a follower; the returned function stops it and returns what Run said.
func (f *fixture) start(t *testing.T) (stop func() (Stats, error)) {
	t.Helper()
	follower, err := New(f.o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- follower.Run(ctx) }()
	return func() (Stats, error) {
		cancel()
		err := <-done
		return follower.Stats(), err
	}
}

func TestLinesAreReportedOnceThroughRotationAndRestart(t *testing.T) {
	f := newFixture(t)
	f.o.FromStart = true
	f.write(t, "one\ntwo\nthr")
	stop := f.start(t)
	f.expect(t, 2)
	f.write(t, "ee\n")
	f.expect(t, 3)

	// Renamed, with a last line in the old file.
	if err := os.Rename(f.log, f.log+".1"); err != nil {
		t.Fatal(err)
	}
	f.write(t, "four\n")
	f.expect(t, 4)

	// Truncated in place, as logrotate's copytruncate does.
	if err := os.Truncate(f.log, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // so that the follower sees the short file; nothing depends on how long
	f.write(t, "5\n")
	f.expect(t, 5)

	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	f.write(t, "six\n")
	stop = f.start(t)
	f.expect(t, 6)
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "two", "three", "four", "5", "six"}; !slices.Equal(f.lines, want) {
		t.Errorf("got %q", f.lines)
	}
}

func TestNothingIsLostOrDoubledWhenTheIntakeIsAway(t *testing.T) {
	f := newFixture(t)
	f.o.FromStart = true
	f.refuse, f.forget = 1, 1
	f.write(t, "one\ntwo\n")
	stop := f.start(t)
	f.expect(t, 2)
	f.write(t, "three\n")
	f.expect(t, 3)
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "two", "three"}; !slices.Equal(f.lines, want) {
		t.Errorf("got %q", f.lines)
	}
}

func TestFollowingBeginsAtTheEnd(t *testing.T) {
	f := newFixture(t)
	f.o.Position = ""
	f.write(t, "old\n")
	follower, err := New(f.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.open(true); err != nil {
		t.Fatal(err)
	}
	f.write(t, "new\n")
	if _, err := follower.read(); err != nil {
		t.Fatal(err)
	}
	if body, _ := follower.complete(); string(body) != "new\n" {
		t.Errorf("got %q", body)
	}
	follower.file.Close()
}

func TestEndlessLineIsPassedOver(t *testing.T) {
	f := newFixture(t)
	f.o.FromStart = true
	f.write(t, "one\n"+strings.Repeat("x", 3*maxLine)+"\ntwo\n")
	stop := f.start(t)
	f.expect(t, 2)
	stats, err := stop()
	if err != nil || stats.TooLong != 1 || !slices.Equal(f.lines, []string{"one", "two"}) {
		t.Errorf("%+v %v %.60q", stats, err, f.lines)
	}
}

func TestARestartWithinAnEndlessLineDoesNotBeginAllOver(t *testing.T) {
	f := newFixture(t)
	f.o.FromStart = true
	f.write(t, "one\ntwo\n")
	stop := f.start(t)
	f.expect(t, 2)
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	f.write(t, strings.Repeat("x", 2*maxLine))
	follower, err := New(f.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.open(true); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := follower.read(); err != nil {
			t.Fatal(err)
		}
		if _, err := follower.report(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !follower.skip {
		t.Fatal("the line was not passed over")
	}
	follower.file.Close() // as a kill does

	f.write(t, "\nthree\n")
	stop = f.start(t)
	f.expect(t, 3)
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.lines, []string{"one", "two", "three"}) {
		t.Errorf("got %.60q", f.lines)
	}
}

func TestWhatIsWrittenToTheOldFileAfterTheNewOneIsThereIsReported(t *testing.T) {
	f := newFixture(t)
	f.o.FromStart = true
	f.write(t, "one\n")
	follower, err := New(f.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.open(true); err != nil {
		t.Fatal(err)
	}
	turn := func() (rotated bool) {
		t.Helper()
		if _, err := follower.read(); err != nil {
			t.Fatal(err)
		}
		if n, err := follower.report(t.Context()); err != nil || n > 0 {
			return false
		}
		rotated, err := follower.rotated()
		if err != nil {
			t.Fatal(err)
		}
		return rotated
	}
	turn()
	if err := os.Rename(f.log, f.log+".1"); err != nil {
		t.Fatal(err)
	}
	f.write(t, "new\n")
	if turn() {
		t.Error("the old file is left at once")
	}
	old := f.log
	f.log += ".1"
	f.write(t, "late\n")
	f.log = old
	if turn() || !turn() {
		t.Error("the old file is not left when there is nothing new in it")
	}
	if !slices.Equal(f.lines, []string{"one", "late"}) {
		t.Errorf("got %q", f.lines)
	}
}

func TestALogThatWasTruncatedWithinAPartOfALineBeginsAnew(t *testing.T) {
	f := newFixture(t)
	f.o.FromStart = true
	f.write(t, "one\nhalf a line")
	follower, err := New(f.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.open(true); err != nil {
		t.Fatal(err)
	}
	if _, err := follower.read(); err != nil {
		t.Fatal(err)
	}
	if _, err := follower.report(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Its place lies within the new text, but what was read does not.
	if err := os.WriteFile(f.log, []byte("new\nline\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if rotated, err := follower.rotated(); err != nil || !rotated {
		t.Errorf("rotated %t, %v", rotated, err)
	}
}

func TestRefusedKeyIsAnError(t *testing.T) {
	f := newFixture(t)
	f.o.FromStart, f.o.Key = true, "wrong"
	f.write(t, "one\n")
	follower, err := New(f.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "wrong key") {
		t.Errorf("got %v", err)
	}
}

func TestDamagedPositionIsSaid(t *testing.T) {
	f := newFixture(t)
	f.write(t, "one\n")
	if err := os.WriteFile(f.o.Position, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f.o.Log = slog.New(slog.NewTextHandler(&log, nil))
	follower, err := New(f.o)
	if err != nil {
		t.Fatal(err)
	}
	if err := follower.open(true); err == nil || !strings.Contains(err.Error(), "delete the file") {
		t.Errorf("got %v", err)
	}
}
