package script

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/quickthorn/quickthorn/internal/challenge/script/bundle"
)

// budget is how many bytes both scripts may have when compressed: a reader on a slow
// mobile line waits a quarter of a second for them.
const budget = 15 << 10

func load(t testing.TB) *Scripts {
	t.Helper()
	s, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDistIsWhatTheSourcesGive(t *testing.T) {
	want, err := bundle.Build(".", "challenge", "worker")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("dist")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(want) {
		t.Errorf("dist has %d files, want %d", len(entries), len(want))
	}
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join("dist", name))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("dist/%s is stale: run go generate ./internal/challenge/script (%v)", name, err)
		}
	}
}

func TestBuildDependsOnTheSourcesOnly(t *testing.T) {
	elsewhere := t.TempDir()
	for _, name := range []string{"src", "tsconfig.json"} {
		if err := copyTo(elsewhere, name); err != nil {
			t.Fatal(err)
		}
	}
	here, err := bundle.Build(".", "challenge", "worker")
	if err != nil {
		t.Fatal(err)
	}
	there, err := bundle.Build(elsewhere, "challenge", "worker")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range here {
		if !bytes.Equal(content, there[name]) {
			t.Errorf("%s differs when built in another folder", name)
		}
	}
}

func copyTo(dir, name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(filepath.Join(dir, name), os.DirFS(name))
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), b, 0o600)
}

func TestBrokenSourceIsAnErrorThatSaysWhere(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "src"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "src", "challenge.ts"), []byte("\nlet x = ;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Build(dir, "challenge"); err == nil || !strings.Contains(err.Error(), "src/challenge.ts:2:") {
		t.Fatalf("error %v does not name the line", err)
	}
}

func TestScriptsAreSmall(t *testing.T) {
	total := 0
	for _, f := range load(t).Files() {
		if strings.HasSuffix(f.Name, ".js") {
			t.Logf("%s: %d bytes, %d compressed", f.Name, len(f.Body), len(f.Gzip))
			total += len(f.Gzip)
		}
	}
	if total == 0 || total > budget {
		t.Errorf("scripts have %d bytes compressed, want 1 to %d", total, budget)
	}
}

// What a strict Content-Security-Policy forbids, and what could turn text into markup or code.
var forbidden = regexp.MustCompile(`\beval\b|\bFunction\s*\(|\bsetAttribute\b|\.style\b|cssText|innerHTML|outerHTML|insertAdjacent|document\.write|WebAssembly|\bimport\s*\(|importScripts|\bblob:|\bdata:|localStorage|sessionStorage|document\.cookie|Date\b|https?://`)

func TestScriptsNeedNothingThatPoliciesForbid(t *testing.T) {
	for _, f := range load(t).Files() {
		if strings.HasSuffix(f.Name, ".js") {
			if found := forbidden.Find(f.Body); found != nil {
				t.Errorf("%s contains %q", f.Name, found)
			}
		}
	}
	for _, bad := range []string{"eval(x)", "new Function (x)", "a.innerHTML=b", "e.style.color=c"} {
		if !forbidden.MatchString(bad) {
			t.Errorf("%q is not noticed", bad)
		}
	}
}

func TestFilesCanBeServed(t *testing.T) {
	s := load(t)
	names := map[string]bool{}
	for _, f := range s.Files() {
		if names[f.Name] {
			t.Errorf("%s is there twice", f.Name)
		}
		names[f.Name] = true
		if got, ok := s.Find(f.Name); !ok || !bytes.Equal(got.Body, f.Body) {
			t.Errorf("%s is not found", f.Name)
		}
		r, err := gzip.NewReader(bytes.NewReader(f.Gzip))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, f.Body) {
			t.Errorf("%s: compressed content differs (%v)", f.Name, err)
		}
	}
	for stem, name := range map[string]string{"challenge": s.Challenge(), "worker": s.Worker()} {
		if !regexp.MustCompile(`^`+stem+`\.[0-9a-f]{8}\.js$`).MatchString(name) || !names[name] {
			t.Errorf("name %q of the %s script", name, stem)
		}
	}
	for _, name := range []string{"", "challenge.js", s.Challenge() + "x", "../script.go"} {
		if _, ok := s.Find(name); ok {
			t.Errorf("found %q", name)
		}
	}
}

func TestSourceMapsAreFound(t *testing.T) {
	s := load(t)
	for _, name := range []string{s.Challenge(), s.Worker()} {
		f, _ := s.Find(name)
		if want := fmt.Sprintf("\n//# sourceMappingURL=%s.map\n", name); !strings.HasSuffix(string(f.Body), want) {
			t.Errorf("%s does not end with %q", name, want)
		}
		f, ok := s.Find(name + ".map")
		if !ok {
			t.Fatalf("no map of %s", name)
		}
		var m struct{ Sources []string }
		if err := json.Unmarshal(f.Body, &m); err != nil || len(m.Sources) == 0 {
			t.Fatalf("map of %s: %v", name, err)
		}
		for _, source := range m.Sources {
			if !strings.HasPrefix(source, "../src/") {
				t.Errorf("%s names the source %q: a path of the machine that built it?", f.Name, source)
			}
		}
	}
}

// Types are checked where a compiler is installed; the bundler only strips them.
func TestTypesAreSound(t *testing.T) {
	tsc, err := exec.LookPath("tsc")
	if err != nil {
		t.Skip("tsc is not installed")
	}
	if out, err := exec.CommandContext(t.Context(), tsc, "--noEmit", "-p", ".").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
