package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/explain"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
	"github.com/quickthorn/quickthorn/internal/testlog"
)

type started struct {
	*Program
	dir  string
	log  *testlog.Buffer
	stop func()
}

// start runs a program on ephemeral ports in front of a small site.
func start(t *testing.T, dir string, sets ...string) *started {
	t.Helper()
	return startSite(t, dir, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "the page") }), sets...)
}

// startSite runs a program on ephemeral ports in front of a site.
func startSite(t *testing.T, dir string, h http.Handler, sets ...string) *started {
	t.Helper()
	site := httptest.NewServer(h)
	t.Cleanup(site.Close)
	c, err := config.Load(config.LoadOptions{Sets: append([]string{
		"upstream.url=" + site.URL, "edge.listen=127.0.0.1:0", "private.listen=127.0.0.1:0", "data.directory=" + dir,
	}, sets...)})
	if err != nil {
		t.Fatal(err)
	}
	log := &testlog.Buffer{}
	p, err := Open(t.Context(), service.Options{Config: c, Log: slog.New(slog.NewTextHandler(log, nil)), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	s := &started{Program: p, dir: dir, log: log, stop: func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}}
	t.Cleanup(s.stop)
	return s
}

func (s *started) get(t *testing.T, agent string) int {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+s.Addr().String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("User-Agent", agent)
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// api calls the private listener with its key.
func (s *started) api(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(s.dir, "api.key"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(method, "http://"+s.PrivateAddr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	r.Header.Set("Content-Type", "application/json")
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

const gptbot = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"

func TestFirstStartCarriesOutWhatIsCertain(t *testing.T) {
	s := start(t, t.TempDir())
	if code := s.get(t, gptbot); code != 403 {
		t.Errorf("a declared AI crawler: %d", code)
	}
	if code := s.get(t, "curl/8.0"); code != 200 {
		t.Errorf("curl: %d", code)
	}
}

func TestModeAndDecisionsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	if code, out := s.api(t, "POST", "/v1/decisions", `{"value":"127.0.0.1","action":"deny","origin":"operator"}`); code >= 300 {
		t.Fatalf("%d %s", code, out)
	}
	if code := s.get(t, "curl/8.0"); code != 403 {
		t.Errorf("after the ban: %d", code)
	}
	if code, out := s.api(t, "PUT", "/v1/mode", `{"mode":"off"}`); code != 200 {
		t.Fatalf("%d %s", code, out)
	}
	if code := s.get(t, gptbot); code != 200 {
		t.Errorf("mode off: %d", code)
	}
	s.stop()
	s = start(t, dir)
	if _, out := s.api(t, "GET", "/v1/mode", ""); !strings.Contains(out, `"off"`) {
		t.Errorf("mode after a restart: %s", out)
	}
	if code, out := s.api(t, "PUT", "/v1/mode", `{"mode":"enforce"}`); code != 200 {
		t.Fatalf("%d %s", code, out)
	}
	if code := s.get(t, "curl/8.0"); code != 403 {
		t.Errorf("the ban after a restart: %d", code)
	}
}

func TestBrokenArchiveIsMovedAsideAndTheSiteServed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sqlite.FileName), bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	if code := s.get(t, "curl/8.0"); code != 200 {
		t.Errorf("%d", code)
	}
	if broken, _ := filepath.Glob(filepath.Join(dir, sqlite.FileName+".broken-*")); len(broken) != 1 {
		t.Errorf("set aside: %v; log: %s", broken, s.log)
	}
}

func TestArchiveThatCannotBeOpenedCostsOnlyTheRecord(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, sqlite.FileName), 0o700); err != nil { // a folder in its place
		t.Fatal(err)
	}
	s := start(t, dir)
	if code := s.get(t, gptbot); code != 403 {
		t.Errorf("%d", code)
	}
	if _, out := s.api(t, "GET", "/metrics", ""); !strings.Contains(out, "quickthorn_archive_up 0") {
		t.Error("quickthorn_archive_up is not 0")
	}
	if !strings.Contains(s.log.String(), "serving without the archive") {
		t.Errorf("log: %s", s.log)
	}
}

func TestWrongPolicyIsRefusedAtStartAndKeptOutLater(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("name: mine\nrules:\n  - name: all\n    when: \"true\"\n    action: blokc\n")
	c, err := config.Load(config.LoadOptions{Sets: []string{"upstream.url=http://127.0.0.1:1", "data.directory=" + t.TempDir(), "policy.source=" + file}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), service.Options{Config: c, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "policy.yaml:5") {
		t.Errorf("start with a wrong policy: %v", err)
	}
	write("name: mine\nrules:\n  - name: all\n    when: \"true\"\n    action: deny\n    reason: a test\n")
	s := start(t, t.TempDir(), "policy.source="+file)
	if code := s.get(t, "curl/8.0"); code != 403 {
		t.Fatalf("%d", code)
	}
	write("name: mine\nrules: [")
	if err := s.Reload(); err == nil {
		t.Error("a wrong policy was loaded")
	}
	if code := s.get(t, "curl/8.0"); code != 403 {
		t.Errorf("with the old policy: %d", code)
	}
	write("name: mine\nrules: []\n")
	if err := s.Reload(); err != nil {
		t.Error(err)
	}
	if code := s.get(t, "curl/8.0"); code != 200 {
		t.Errorf("with the new policy: %d", code)
	}
}

func TestEventsOfRefusalsCanBeReadWithTheirReasons(t *testing.T) {
	s := start(t, t.TempDir())
	s.get(t, gptbot)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		code, out := s.api(t, "GET", "/v1/events?action=deny", "")
		if code == 200 && strings.Contains(out, `"crawler":"gptbot"`) && strings.Contains(out, `"rule":"ai-training"`) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d %s", code, out)
		}
	}
}

func TestExplainUsesWhatIsInForce(t *testing.T) {
	s := start(t, t.TempDir())
	if code, out := s.api(t, "POST", "/v1/decisions", `{"value":"203.0.113.0/24","action":"deny","origin":"operator","reason":"a test"}`); code >= 300 {
		t.Fatalf("%d %s", code, out)
	}
	rep, err := s.Explain(&explain.Question{URL: "http://site.example/", Client: "203.0.113.7"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := rep.WriteText(&b, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "deny") || !strings.Contains(b.String(), "a test") {
		t.Errorf("%s", &b)
	}
}
