//go:build clients

package clients

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/quickthorn/quickthorn/internal/demo"
)

const (
	chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
	gptbot = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)"
)

func demoSite(t *testing.T) string {
	t.Helper()
	h, err := demo.Handler("")
	if err != nil {
		t.Fatal(err)
	}
	return site(t, h)
}

func TestCurlReadsPagesAndCrawlersAreRefused(t *testing.T) {
	curl := need(t, "curl")
	e := start(t, demoSite(t))
	if out := run(t, nil, "", curl, "-sS", "-i", e.URL+"/articles/gates"); !strings.Contains(out, "A hedge without a gate") {
		t.Errorf("curl got:\n%s", out)
	}
	out := run(t, nil, "", curl, "-sS", "-i", "-A", gptbot, "-H", "Accept: text/html", e.URL+"/articles/gates")
	if !strings.HasPrefix(out, "HTTP/1.1 403") || !strings.Contains(out, "Cache-Control: no-store") || strings.Contains(out, "A hedge without") {
		t.Errorf("a declared AI crawler got:\n%s", out)
	}
	if out := run(t, nil, "", curl, "-sS", "-A", gptbot, e.URL+"/robots.txt"); !strings.Contains(out, "User-agent: GPTBot") {
		t.Errorf("the refused crawler cannot read robots.txt:\n%s", out)
	}
	if out := run(t, nil, "", curl, "-sS", "--http2-prior-knowledge", "-o", os.DevNull, "-w", "%{http_version} %{http_code}", e.URL+"/"); out != "2 200" {
		t.Errorf("HTTP/2 without TLS: %s", out)
	}
}

func TestCurlUploadsStreamThrough(t *testing.T) {
	curl := need(t, "curl")
	const size = 64 << 20
	e := start(t, site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
	})))
	file := filepath.Join(t.TempDir(), "upload")
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	want := fmt.Sprintf("%d %s <nil>", size, hex.EncodeToString(sum[:]))
	if out := run(t, nil, "", curl, "-sS", "-T", file, e.URL+"/put"); out != want {
		t.Errorf("Content-Length upload: %s, want %s", out, want)
	}
	if out := run(t, nil, "", curl, "-sS", "-T", file, "-H", "Transfer-Encoding: chunked", e.URL+"/put"); out != want {
		t.Errorf("chunked upload: %s, want %s", out, want)
	}
}

// TestFourGigabyteUploadTakesNoMemory is the issue's own figure: 4 GiB through, less than 10 MiB more memory.
func TestFourGigabyteUploadTakesNoMemory(t *testing.T) {
	curl := need(t, "curl")
	e := start(t, site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", n, err)
	})))
	for range 50 { // warm: pools and connections exist
		get(t, e.URL+"/", "User-Agent", chrome)
	}
	run(t, nil, "", "sh", "-c", fmt.Sprintf("head -c 67108864 /dev/zero | %s -sS -T - %s/put", curl, e.URL))
	before := e.rss(t)
	c := exec.Command("sh", "-c", fmt.Sprintf("head -c 4294967296 /dev/zero | %s -sS -T - %s/put", curl, e.URL))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	most := before
	for ended := false; !ended; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			ended = true
		case <-time.After(50 * time.Millisecond):
			most = max(most, e.rss(t))
		}
	}
	if out.String() != "4294967296 <nil>" {
		t.Errorf("the site received %s", &out)
	}
	if grown := most - before; grown >= 10<<20 {
		t.Errorf("memory grew by %d KiB, from %d KiB", grown>>10, before>>10)
	} else {
		t.Logf("memory grew by %d KiB, from %d KiB", grown>>10, before>>10)
	}
}

// rss is the program's resident memory in bytes.
func (e *edge) rss(t *testing.T) int64 { return e.memory(t, "VmRSS:") }

// memory is a field of the program's status, in bytes.
func (e *edge) memory(t *testing.T, field string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.cmd.Process.Pid))
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no " + field)
	return 0
}

func TestIdleMemoryIsSmall(t *testing.T) {
	e := start(t, demoSite(t))
	get(t, e.URL+"/", "User-Agent", chrome)
	// Pages of the program's own file count as resident as long as nobody else wants the memory; what is the program's own
	// cannot be taken from it. How many pages of the file the system brings in for each that is touched differs by 15 MiB from one time to another.
	const most, own = 76 << 20, 20 << 20
	var rss, anonymous int64
	for range 50 { // what starting up has left is given back shortly after
		if rss, anonymous = e.rss(t), e.memory(t, "RssAnon:"); rss <= most && anonymous <= own {
			t.Logf("idle: %.1f MiB resident, %.1f of them its own", float64(rss)/(1<<20), float64(anonymous)/(1<<20))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("idle: %.1f MiB resident, %.1f of them its own; want at most 76 and 20", float64(rss)/(1<<20), float64(anonymous)/(1<<20))
}

func TestGitClonesAndPushesOverSmartHTTP(t *testing.T) {
	git := need(t, "git")
	root := t.TempDir()
	env := []string{"GIT_AUTHOR_NAME=Wren", "GIT_AUTHOR_EMAIL=wren@example.org", "GIT_COMMITTER_NAME=Wren", "GIT_COMMITTER_EMAIL=wren@example.org", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0"}
	run(t, env, root, git, "init", "-q", "--bare", "-b", "main", "repo.git")
	run(t, env, filepath.Join(root, "repo.git"), git, "config", "http.receivepack", "true")
	core := strings.TrimSpace(run(t, env, root, git, "--exec-path"))
	backend := &cgi.Handler{Path: filepath.Join(core, "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}}
	var chunked atomic.Bool
	e := start(t, site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 { // CGI needs a length; git's large pushes have none
			chunked.Store(true)
			b, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
		}
		backend.ServeHTTP(w, r)
	})))
	work := filepath.Join(t.TempDir(), "work")
	run(t, env, root, git, "clone", "-q", e.URL+"/repo.git", work)
	// Larger than git's http.postBuffer, so that the push is chunked.
	noise := make([]byte, 3<<20)
	x := uint32(1)
	for i := range noise {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	if err := os.WriteFile(filepath.Join(work, "big.bin"), noise, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, env, work, git, "add", ".")
	run(t, env, work, git, "commit", "-q", "-m", "a hedge")
	run(t, env, work, git, "push", "-q", "origin", "HEAD:main")
	again := filepath.Join(t.TempDir(), "again")
	run(t, env, root, git, "clone", "-q", "-b", "main", e.URL+"/repo.git", again)
	got, err := os.ReadFile(filepath.Join(again, "big.bin"))
	if err != nil || !bytes.Equal(got, noise) {
		t.Fatalf("the clone differs: %v", err)
	}
	if !chunked.Load() {
		t.Error("the push was not chunked: the test does not test what it should")
	}
}

func TestWebSocketTalksThroughTheEdge(t *testing.T) {
	e := start(t, site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, append([]byte("echo "), b...)); err != nil {
				return
			}
		}
	})))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(e.URL, "http")+"/socket", &websocket.DialOptions{HTTPHeader: http.Header{"User-Agent": {chrome}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	for i := range 100 {
		if err := c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, "message %d", i)); err != nil {
			t.Fatal(err)
		}
		_, b, err := c.Read(ctx)
		if err != nil || string(b) != fmt.Sprintf("echo message %d", i) {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Fatal(err)
	}
}

// challengeAll sends every navigation through the check, whatever the posture.
const challengeAll = `name: challenge-all
rules:
  - name: everyone
    when: request.kind == "navigation"
    action: challenge
    basis: certain
    reason: a test
`

func TestChromiumPassesTheCheckAndSeesThePage(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte(challengeAll), 0o600); err != nil {
		t.Fatal(err)
	}
	e := start(t, demoSite(t), "policy.source="+policy)
	p := openChromium(t, "").tab()
	p.open(e.URL + "/articles/wrens")
	p.shows(wrens, 30*time.Second)
	res, body := get(t, e.URL+"/articles/wrens", "User-Agent", chrome, "Accept", "text/html")
	if res.StatusCode != 429 || strings.Contains(body, "Wrens,") || res.Header.Get("Retry-After") == "" {
		t.Errorf("without a cookie: %d", res.StatusCode)
	}
	var events string
	for range 100 { // events are written within a second
		if events = e.cli(t, "events", "--json"); strings.Contains(events, `"outcome":"passed"`) && strings.Contains(events, `"outcome":"issued"`) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("the check is not in the archive:\n%s", events)
}

func TestWrkFindsNoErrorUnderLoad(t *testing.T) {
	wrk := need(t, "wrk")
	// wrk is one client that asks as often as it can: the slow path would meet it as what it is.
	e := start(t, demoSite(t), "policy.source="+budgetFree(t), "slowPath.enabled=false")
	out := run(t, nil, "", wrk, "-t1", "-c32", "-d2s", "-H", "User-Agent: "+chrome,
		"-H", "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "-H", "Accept-Language: en", "-H", "Accept-Encoding: gzip, deflate", "-H", "Upgrade-Insecure-Requests: 1", e.URL+"/")
	if strings.Contains(out, "Non-2xx") || strings.Contains(out, "Socket errors") || !strings.Contains(out, "Requests/sec") {
		t.Errorf("wrk: %s", out)
	}
}

func budgetFree(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte("name: free\nimports: [readers-first]\ndisable: [pages, pages-under-load, neighbourhood, expensive, expensive-under-load, api, feeds, git, crawlers, unproved-crawlers, seo-crawlers]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDecisionsAndModeSurviveAKill(t *testing.T) {
	e := start(t, demoSite(t))
	e.cli(t, "decisions", "add", "--action", "deny", "--reason", "test", "127.0.0.1")
	if res, _ := get(t, e.URL+"/", "User-Agent", chrome); res.StatusCode != 403 {
		t.Fatalf("after the decision: %d", res.StatusCode)
	}
	e.cli(t, "observe")
	if res, _ := get(t, e.URL+"/", "User-Agent", chrome); res.StatusCode != 200 {
		t.Fatalf("in mode observe: %d", res.StatusCode)
	}
	e.stop(t, syscall.SIGKILL)
	f := startIn(t, e)
	if out := f.cli(t, "mode"); !strings.Contains(out, "observe") {
		t.Errorf("mode after the kill: %s", out)
	}
	if out := f.cli(t, "decisions", "list"); !strings.Contains(out, "127.0.0.1") {
		t.Errorf("decisions after the kill: %s", out)
	}
	f.cli(t, "enforce")
	if res, _ := get(t, f.URL+"/", "User-Agent", chrome); res.StatusCode != 403 {
		t.Errorf("in mode enforce: %d", res.StatusCode)
	}
	f.cli(t, "decisions", "add", "--action", "allow", "127.0.0.1")
	if res, _ := get(t, f.URL+"/", "User-Agent", chrome); res.StatusCode != 200 {
		t.Errorf("an operator's allow must beat the ban: %d", res.StatusCode)
	}
}

// startIn starts the program again with the same arguments.
func startIn(t *testing.T, old *edge) *edge {
	t.Helper()
	e := &edge{URL: old.URL, Private: old.Private, Data: old.Data, log: &bytes.Buffer{}, done: make(chan error, 1)}
	e.cmd = exec.Command(binary, old.cmd.Args[1:]...)
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { e.done <- e.cmd.Wait() }()
	t.Cleanup(func() {
		e.stop(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("quickthorn said:\n%s", e.log)
		}
	})
	for range 600 {
		if res, err := http.Get(e.Private + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == 200 {
				return e
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("quickthorn is not ready again\n%s", e.log)
	return nil
}

func TestSIGTERMLetsRequestsFinish(t *testing.T) {
	arrived := make(chan struct{})
	release := make(chan struct{})
	e := start(t, site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" { // robots.txt, which the intake asks for
			http.NotFound(w, r)
			return
		}
		close(arrived)
		<-release
		fmt.Fprint(w, "finished")
	})))
	type result struct {
		body string
		err  error
	}
	got := make(chan result, 1)
	go func() {
		res, err := http.Get(e.URL + "/slow")
		if err != nil {
			got <- result{err: err}
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		got <- result{string(b), err}
	}()
	<-arrived
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// The listener is closed before the request is done.
	for i := 0; ; i++ {
		res, err := http.Get(e.URL + "/")
		if err != nil {
			break
		}
		res.Body.Close()
		if i > 200 {
			t.Fatal("still accepts after SIGTERM")
		}
		time.Sleep(20 * time.Millisecond)
	}
	close(release)
	if r := <-got; r.err != nil || r.body != "finished" {
		t.Fatalf("%q, %v", r.body, r.err)
	}
	if err := <-e.done; err != nil {
		t.Errorf("exit: %v", err)
	}
	e.done <- nil
}
