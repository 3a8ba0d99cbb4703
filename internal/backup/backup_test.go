package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
)

// install is a data directory that is in use.
type install struct {
	Stores
	log *decision.Log
}

func open(t testing.TB, dir string) *install {
	t.Helper()
	in := &install{Stores: Stores{Dir: dir}}
	var err error
	if in.State, err = embedded.Open(t.Context(), filepath.Join(dir, embedded.FileName)); err != nil {
		t.Fatal(err)
	}
	in.Archive, err = sqlite.Open(t.Context(), filepath.Join(dir, "archive.db"), sqlite.Options{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.close)
	in.log = decision.NewLog(decision.NewSet(nil), in.State, decision.LogOptions{})
	if _, err := in.log.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return in
}

func (in *install) close() {
	in.Archive.Close()
	in.State.Close()
}

// add makes decision, event and mode number i.
func (in *install) add(t testing.TB, i int) {
	t.Helper()
	_, err := in.log.Add(t.Context(), []defense.Decision{{Value: fmt.Sprintf("192.0.2.%d", i), Action: defense.Deny, Origin: "operator", Reason: "a test"}}, decision.AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = in.Archive.Append(t.Context(), []*defense.Event{{
		Schema: defense.EventSchema, Kind: "request", ID: fmt.Sprintf("01JTEST%019d", i), Time: time.Now(), Site: "wiki",
		Client: defense.EventClient{Address: "192.0.2.1", Prefix: "192.0.2.0/24"}, Verdict: defense.EventVerdict{Action: defense.Deny, Intended: defense.Deny},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.State.Settings().Put(t.Context(), "mode", []byte(fmt.Sprint("mode-", i))); err != nil {
		t.Fatal(err)
	}
}

// contents says what an install knows.
func (in *install) contents(t testing.TB) string {
	t.Helper()
	var values []string
	for _, d := range in.log.Set().List(decision.Filter{}, time.Now(), 100) {
		values = append(values, d.Value+" "+d.Reason)
	}
	mode, err := in.State.Settings().Get(t.Context(), "mode")
	if err != nil {
		t.Fatal(err)
	}
	page, err := in.Archive.Events(t.Context(), record.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s; %s; %d events", strings.Join(values, ", "), mode, len(page.Events))
}

func withKeys(t testing.TB, dir string) {
	t.Helper()
	for _, name := range []string{"clearance.key", "api.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("secret of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// listing is the names and contents of the files below dir.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBackupOfARunningInstallIsRestoredWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	withKeys(t, dir)
	in := open(t, dir)
	for i := range 3 {
		in.add(t, i)
	}
	want := in.contents(t)
	file := filepath.Join(t.TempDir(), "backup.tar")
	if err := Write(t.Context(), file, &in.Stores); err != nil {
		t.Fatal(err)
	}
	in.add(t, 9) // after the backup

	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file, which holds keys, is %v, %v", fi.Mode(), err)
	}
	fresh := filepath.Join(t.TempDir(), "a", "b", "data")
	if old, err := Restore(t.Context(), file, fresh); err != nil || old != "" {
		t.Fatalf("%q, %v", old, err)
	}
	if got := open(t, fresh).contents(t); got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(fresh, "clearance.key")); err != nil || string(b) != "secret of clearance.key" {
		t.Errorf("the key: %q, %v", b, err)
	}
	if left := listing(t, dir); len(left) > 6 { // with SQLite's -wal and -shm
		t.Errorf("left in the data directory: %d files", len(left))
	}
}

func TestBackupWhileOthersWriteIsConsistent(t *testing.T) {
	in := open(t, t.TempDir())
	in.add(t, 0)
	file := filepath.Join(t.TempDir(), "backup.tar")
	done := make(chan error, 1)
	go func() { done <- Write(context.Background(), file, &in.Stores) }()
	for i, running := 1, true; running && i < 200; i++ {
		in.add(t, i)
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			done <- nil
			running = false
		default:
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(t.TempDir(), "data")
	if _, err := Restore(t.Context(), file, fresh); err != nil {
		t.Fatal(err)
	}
	if got := open(t, fresh).contents(t); !strings.Contains(got, "192.0.2.0 a test; mode-") {
		t.Errorf("restored %s", got)
	}
}

func TestBackupOfAStoppedInstallReplacesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	withKeys(t, dir)
	in := open(t, dir)
	in.add(t, 1)
	want := in.contents(t)
	in.close()
	file := filepath.Join(t.TempDir(), "backup.tar")
	if err := Write(t.Context(), file, Directory(dir)); err != nil {
		t.Fatal(err)
	}

	target := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	other := open(t, target)
	other.add(t, 5)
	before := other.contents(t)
	if _, err := Restore(t.Context(), file, target); !errors.Is(err, embedded.ErrInUse) {
		t.Errorf("over a directory in use: %v", err)
	}
	other.close()
	old, err := Restore(t.Context(), file, target)
	if err != nil || old == "" {
		t.Fatalf("%q, %v", old, err)
	}
	if got := open(t, target).contents(t); got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
	if got := open(t, old).contents(t); got != before {
		t.Errorf("kept within it: %s, want %s", got, before)
	}
}

func TestADirectoryThatIsMissingOrInUseIsNotBackedUp(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "backup.tar")
	if err := Write(t.Context(), file, Directory(filepath.Join(dir, "none"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	open(t, dir)
	if err := Write(t.Context(), file, Directory(dir)); !errors.Is(err, embedded.ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	if left := listing(t, filepath.Dir(file)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// source gives bytes and then an error.
type source struct {
	b   []byte
	err error
}

func (s source) WriteBackup(_ context.Context, w io.Writer) error {
	if _, err := w.Write(s.b); err != nil {
		return err
	}
	return s.err
}

func TestAFailedBackupLeavesTheOldOne(t *testing.T) {
	in := open(t, t.TempDir())
	in.add(t, 1)
	var whole bytes.Buffer
	if err := in.WriteBackup(t.Context(), &whole); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "backup.tar")
	if err := os.WriteFile(file, []byte("the old one"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]source{
		"an error":         {whole.Bytes(), errors.New("the network is away")},
		"a silent cut":     {whole.Bytes()[:whole.Len()/2], nil},
		"nothing":          {nil, nil},
		"an error page":    {[]byte("<html>502 Bad Gateway</html>"), nil},
		"only end of file": {tarOf(t, entry{name: endMark}), nil},
	} {
		if err := Write(t.Context(), file, s); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := listing(t, filepath.Dir(file)); !cmp.Equal(got, map[string]string{"backup.tar": "the old one"}) {
			t.Errorf("%s: left %v", name, got)
		}
	}
}

type entry struct {
	name, link, content string
	kind                byte
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: 0o777, Size: int64(len(e.content))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatIsNoBackupIsRefusedAndNothingReplaced(t *testing.T) {
	in := open(t, t.TempDir())
	in.add(t, 1)
	var whole bytes.Buffer
	if err := in.WriteBackup(t.Context(), &whole); err != nil {
		t.Fatal(err)
	}
	var state bytes.Buffer
	if err := in.State.Backup(t.Context(), &state); err != nil {
		t.Fatal(err)
	}
	good := entry{name: embedded.FileName, content: state.String()}
	end := entry{name: endMark}

	type bad struct {
		name string
		file []byte
	}
	tests := []bad{
		{"empty", nil},
		{"a text", []byte("hello")},
		{"a parent's file", tarOf(t, good, entry{name: "../evil", content: "x"}, end)},
		{"a parent's state", tarOf(t, entry{name: "../" + embedded.FileName, content: state.String()}, end)},
		{"an absolute path", tarOf(t, good, entry{name: "/tmp/evil", content: "x"}, end)},
		{"a known name below", tarOf(t, good, entry{name: "a/api.key", content: "x"}, end)},
		{"an unknown name", tarOf(t, good, entry{name: "policy.yaml", content: "x"}, end)},
		{"a folder", tarOf(t, good, entry{name: "api.key", kind: tar.TypeDir}, end)},
		{"a symbolic link", tarOf(t, good, entry{name: "api.key", link: "/etc/passwd", kind: tar.TypeSymlink}, end)},
		{"a hard link", tarOf(t, good, entry{name: "api.key", link: "/etc/passwd", kind: tar.TypeLink}, end)},
		{"a device", tarOf(t, good, entry{name: "api.key", kind: tar.TypeFifo}, end)},
		{"a name twice", tarOf(t, good, good, end)},
		{"no end", tarOf(t, good)},
		{"no state", tarOf(t, entry{name: "api.key", content: "x"}, end)},
		{"a state that is none", tarOf(t, entry{name: embedded.FileName, content: strings.Repeat("no database ", 2000)}, end)},
	}
	for i := range 8 {
		tests = append(tests, bad{fmt.Sprintf("cut off after %d eighths", i), whole.Bytes()[:whole.Len()*i/8]})
	}
	parent := t.TempDir()
	target := filepath.Join(parent, "data")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	withKeys(t, target)
	before := listing(t, parent)
	for _, tt := range tests {
		file := filepath.Join(t.TempDir(), "backup.tar")
		if err := os.WriteFile(file, tt.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if old, err := Restore(t.Context(), file, target); err == nil || old != "" {
			t.Errorf("%s: old %q, error %v", tt.name, old, err)
		}
		if after := listing(t, parent); !cmp.Equal(before, after) {
			t.Fatalf("%s: changed\n%s", tt.name, cmp.Diff(before, after))
		}
	}
	if _, err := Restore(t.Context(), filepath.Join(parent, "none.tar"), target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	// The same parts, put together rightly, are taken.
	file := filepath.Join(t.TempDir(), "backup.tar")
	if err := os.WriteFile(file, tarOf(t, good, end), 0o600); err != nil {
		t.Fatal(err)
	}
	if old, err := Restore(t.Context(), file, target); err != nil || old == "" {
		t.Errorf("a good one: %q, %v", old, err)
	}
}

func TestAPIStreamsABackupAndSaysWhenItCannot(t *testing.T) {
	in := open(t, t.TempDir())
	in.add(t, 1)
	mux := http.NewServeMux()
	var log bytes.Buffer
	(&API{Stores: &in.Stores, Log: slog.New(slog.NewTextHandler(&log, nil))}).Register(mux)
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/v1/backup", nil))
		return w
	}
	w := get()
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-tar" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	var names []string
	if err := read(w.Body, func(name string, _ io.Reader) error { names = append(names, name); return nil }); err != nil {
		t.Error(err)
	}
	if want := []string{embedded.FileName, "archive.db"}; !cmp.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	in.close()
	if w = get(); w.Code != 500 || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("with closed stores: %d %v %s", w.Code, w.Header(), w.Body)
	}
	if !strings.Contains(log.String(), "backup") {
		t.Errorf("log: %s", &log)
	}
}

func TestRestoreBehindALinkLeavesTheLink(t *testing.T) {
	root := t.TempDir()
	data, link, file := filepath.Join(root, "private", "data"), filepath.Join(root, "data"), filepath.Join(root, "backup.tar")
	if err := errors.Join(os.MkdirAll(data, 0o700), os.Symlink(data, link)); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	in := open(t, link)
	in.add(t, 1)
	want := in.contents(t)
	in.close()
	if err := Write(t.Context(), file, Directory(link)); err != nil {
		t.Fatal(err)
	}
	old, err := Restore(t.Context(), file, link)
	if err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != data || filepath.Dir(old) != link {
		t.Errorf("the link leads to %q (%v), the old directory is %q", to, err, old)
	}
	if got := open(t, link).contents(t); got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
}
