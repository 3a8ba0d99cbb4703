package run

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/quickthorn/quickthorn/internal/clearance"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/service"
	"github.com/quickthorn/quickthorn/internal/store/embedded"
	"github.com/quickthorn/quickthorn/internal/store/sqlite"
)

// plain asks the private listener without the key, or with the one given.
func (s *started) plain(t *testing.T, method, path, key string) *http.Response {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+s.PrivateAddr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", key)
	}
	r.Close = true
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestThePrivateAPIAsksForItsKey(t *testing.T) {
	s := start(t, t.TempDir(), "private.pprof=true")
	for _, path := range []string{"/v1/mode", "/v1/decisions", "/v1/events", "/v1/report", "/v1/backup", "/v1/explain", "/v1/none", "/debug/pprof/"} {
		for _, key := range []string{"", "Bearer ", "Bearer wrong", "Basic " + strings.Repeat("a", 48), strings.Repeat("a", 48)} {
			res := s.plain(t, "GET", path, key)
			if res.StatusCode != http.StatusUnauthorized || res.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q: %d", path, key, res.StatusCode)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if res := s.plain(t, "GET", path, ""); res.StatusCode != 200 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if fi, err := os.Stat(filepath.Join(s.dir, private.KeyFile)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", fi, err)
	}
	if code := s.get(t, "curl/8.0"); code != 200 {
		t.Fatal(code)
	}
	// The public side knows nothing of the private one.
	res, err := http.Get("http://" + s.Addr().String() + "/v1/mode")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); string(b) != "the page" {
		t.Errorf("the public listener answers /v1/mode with %q", b)
	}
}

func TestAModeThatIsNoneIsRefused(t *testing.T) {
	s := start(t, t.TempDir())
	for _, body := range []string{`{"mode":"on"}`, `{"mod":"off"}`, `off`, ``, `{"mode":7}`} {
		if code, out := s.api(t, "PUT", "/v1/mode", body); code != 400 {
			t.Errorf("%s: %d %s", body, code, out)
		}
	}
	if _, out := s.api(t, "GET", "/v1/mode", ""); !strings.Contains(out, `"certain"`) {
		t.Errorf("then: %s", out)
	}
}

// What is shown must be well-formed, and the documentation must name all of it and nothing else.
func TestMetricsAreWellFormedAndDocumented(t *testing.T) {
	s := start(t, t.TempDir())
	s.get(t, gptbot)
	if code, out := s.api(t, "POST", "/v1/decisions", `{"value":"203.0.113.1","action":"deny","origin":"operator"}`); code >= 300 {
		t.Fatalf("%d %s", code, out)
	}
	_, out := s.api(t, "GET", "/metrics", "")
	problems, err := promlint.New(strings.NewReader(out)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	var shown, documented []string
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "# TYPE quickthorn_"); ok {
			name, _, _ := strings.Cut(rest, " ")
			shown = append(shown, "quickthorn_"+name)
		}
	}
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(quickthorn_[a-z_]+)").FindAllStringSubmatch(string(doc), -1) {
		documented = append(documented, m[1])
	}
	slices.Sort(shown)
	slices.Sort(documented)
	if !cmp.Equal(shown, documented) {
		t.Errorf("shown but not documented (-), documented but not shown (+):\n%s", cmp.Diff(shown, documented))
	}
	for _, line := range []string{
		`quickthorn_requests_total{action="deny",intended="deny",site="default"} 1`, `quickthorn_decisions{action="deny",origin="operator"} 1`,
		"quickthorn_archive_up 1", "quickthorn_mode 0", "quickthorn_posture 0", "quickthorn_upstream_in_flight 0",
	} {
		if !strings.Contains(out, line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
}

func TestDrainingIsNotReadyButFinishesWhatItBegan(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/robots.txt" { // asked for by the intake, at any time
			http.NotFound(w, r)
			return
		}
		close(entered)
		<-release
		io.WriteString(w, "late but whole")
	}))
	t.Cleanup(site.Close)
	s := start(t, t.TempDir(), "upstream.url="+site.URL)
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.stop() }()
	ready := 0
	for end := time.Now().Add(10 * time.Second); ready != 503 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		ready = s.plain(t, "GET", "/readyz", "").StatusCode
	}
	if ready != 503 {
		t.Errorf("/readyz while draining: %d", ready)
	}
	if res := s.plain(t, "GET", "/healthz", ""); res.StatusCode != 200 {
		t.Errorf("/healthz while draining: %d", res.StatusCode)
	}
	close(release)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "late but whole" {
		t.Errorf("%q, %v", b, err)
	}
	<-stopped
}

func TestABrokenArchiveIsSaidOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sqlite.FileName), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	for range 5 {
		s.get(t, gptbot)
	}
	if _, out := s.api(t, "GET", "/metrics", ""); !strings.Contains(out, "quickthorn_archive_up 1\n") {
		t.Error("the new archive is not up")
	}
	s.stop()
	n := 0
	for line := range strings.Lines(s.log.String()) {
		if !strings.Contains(line, "level=INFO") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("said %d times:\n%s", n, s.log)
	}
}

// What fails closed is an error at the start, and leaves nothing open or half made.
func TestAStartThatIsRefusedLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, clearance.KeyFile), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(sets ...string) *config.Config {
		t.Helper()
		c, err := config.Load(config.LoadOptions{Sets: append([]string{"edge.listen=127.0.0.1:0", "private.listen=127.0.0.1:0", "data.directory=" + dir}, sets...)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	open := func(c *config.Config) (*Program, error) {
		return Open(t.Context(), service.Options{Config: c, Log: slog.New(slog.DiscardHandler)})
	}
	if _, err := open(load()); err == nil || !strings.Contains(err.Error(), "--upstream") {
		t.Errorf("without an upstream: %v", err)
	}
	good := load("upstream.url=http://127.0.0.1:1")
	if _, err := open(good); err == nil || !strings.Contains(err.Error(), clearance.KeyFile) {
		t.Errorf("with a broken clearance key: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, clearance.KeyFile)); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, key := range []string{"edge.listen=", "private.listen="} {
		if _, err := open(load("upstream.url=http://127.0.0.1:1", key+taken.Addr().String())); err == nil || !strings.Contains(err.Error(), "listener") {
			t.Errorf("%s in use: %v", key, err)
		}
	}
	p, err := open(good) // the stores were closed each time, or this could not have them
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(good); !errors.Is(err, embedded.ErrInUse) {
		t.Errorf("a second program on the directory: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestReloadTakesARenewedCertificate(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, certFile, keyFile)
	s := start(t, t.TempDir(), "edge.tls.listen=127.0.0.1:0", "edge.tls.certificateFile="+certFile, "edge.tls.keyFile="+keyFile)
	serial := func() string {
		t.Helper()
		c, err := tls.Dial("tcp", s.Addrs()[1].String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	writePair(t, certFile, keyFile)
	later := time.Now().Add(time.Minute)
	for _, name := range []string{certFile, keyFile} {
		if err := os.Chtimes(name, later, later); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	second := serial()
	if second == first {
		t.Error("the old certificate is still served")
	}
	if err := os.WriteFile(certFile, []byte("half a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil || !strings.Contains(s.log.String(), "certificate could not be read") {
		t.Errorf("a broken one: %v; log: %s", err, s.log)
	}
	if got := serial(); got != second {
		t.Error("after a broken one another certificate is served")
	}
}

func TestExplainOverTheAPIChargesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("name: mine\nbudgets:\n  - {name: one, per: client, rate: 0.001/s, burst: 1, basis: certain, reason: a test}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, t.TempDir(), "policy.source="+file)
	for range 5 {
		code, out := s.api(t, "POST", "/v1/explain", `{"url":"/","client":"127.0.0.1"}`)
		var rep struct{ Verdict struct{ Action string } }
		if err := json.Unmarshal([]byte(out), &rep); err != nil || code != 200 || rep.Verdict.Action != "allow" {
			t.Fatalf("%d %s, %v", code, out, err)
		}
	}
	if a, b := s.get(t, "curl/8.0"), s.get(t, "curl/8.0"); a != 200 || b != 429 {
		t.Errorf("two requests with one in the budget: %d, %d", a, b)
	}
}
