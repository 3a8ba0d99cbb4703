//go:build clients

// Package clients tests the built program with the clients that readers use: curl, git,
// Chromium, a WebSocket client, wrk. Run it by ./test.sh, or
//
//	go test -tags clients ./test/...
package clients

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/testprogram"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

var binary string

func TestMain(m *testing.M) { testprogram.Main(m, "../..", &binary) }

// need skips the test when a program is missing, or fails it in strict runs.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("STRICT_TESTS") != "" {
			t.Fatalf("%s is not installed", program)
		}
		t.Skipf("%s is not installed", program)
	}
	return path
}

// edge is a running quickthorn.
type edge struct {
	URL, Private, Data string
	cmd                *exec.Cmd
	log                *bytes.Buffer
	done               chan error
}

// start runs the program in front of the upstream and waits until it is ready.
func start(t *testing.T, upstream string, sets ...string) *edge {
	t.Helper()
	public, private := testserver.FreeAddress(t), testserver.FreeAddress(t)
	e := &edge{URL: "http://" + public, Private: "http://" + private, Data: t.TempDir(), log: &bytes.Buffer{}, done: make(chan error, 1)}
	args := []string{"run", "--upstream", upstream, "--listen", public, "--data", e.Data, "--set", "private.listen=" + private, "--set", "policy.mode=enforce"}
	for _, s := range sets {
		args = append(args, "--set", s)
	}
	e.cmd = exec.Command(binary, args...)
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
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if res, err := http.Get(e.Private + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == 200 {
				return e
			}
		}
		select {
		case err := <-e.done:
			e.done <- err
			t.Fatalf("quickthorn ended: %v\n%s", err, e.log)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("quickthorn is not ready\n%s", e.log)
	return nil
}

// stop sends the signal and waits; it may be called again.
func (e *edge) stop(t *testing.T, s os.Signal) {
	t.Helper()
	_ = e.cmd.Process.Signal(s) // it may have ended already
	select {
	case err := <-e.done:
		e.done <- err
	case <-time.After(40 * time.Second):
		_ = e.cmd.Process.Kill()
		t.Errorf("quickthorn did not end after %v", s)
	}
}

// cli runs a quickthorn command on the edge's data and returns what it prints.
func (e *edge) cli(t *testing.T, args ...string) string {
	t.Helper()
	args = append(args, "--data", e.Data, "--set", "private.listen="+strings.TrimPrefix(e.Private, "http://"))
	out, err := exec.Command(binary, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("quickthorn %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// site serves a handler on loopback.
func site(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func run(t *testing.T, env []string, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 30 * time.Second}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}
