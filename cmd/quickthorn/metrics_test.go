package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/command"
)

// dial returns a client of a Unix socket.
func dial(socket string) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
}

func get(t *testing.T, c *http.Client, url string) (string, error) {
	t.Helper()
	res, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), nil
}

func TestOperationsPageListsEveryMetricWithItsType(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(quickthorn_\\w+)[^`]*` \\| (\\w+) \\| \\S").FindAllSubmatch(page, -1) {
		documented[string(m[1])] = string(m[2])
	}

	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer site.Close()
	dir, err := os.MkdirTemp("", "qt") // t.TempDir's path can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	public, private := filepath.Join(dir, "edge.sock"), filepath.Join(dir, "private.sock")
	ctx, stop := context.WithCancel(t.Context())
	var log bytes.Buffer
	ended := make(chan int, 1)
	env := func(args ...string) *command.Environment {
		return &command.Environment{Args: append(args, "--data", filepath.Join(dir, "data"), "--set", "private.listen=unix:"+private), Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &log}
	}
	execute := func(e *command.Environment) int { return e.Execute(ctx, commands(e)) }
	go func() { ended <- execute(env("run", "--upstream", site.URL, "--listen", "unix:"+public)) }()
	defer func() {
		stop()
		if status := <-ended; status != 0 {
			t.Errorf("status %d:\n%s", status, &log)
		}
	}()

	for {
		if _, err := get(t, dial(private), "http://private/readyz"); err == nil {
			break
		}
		select {
		case status := <-ended:
			ended <- status
			t.Fatal("it did not start")
		case <-time.After(10 * time.Millisecond):
		}
	}
	// Metrics with labels appear with the first request and decision.
	if _, err := get(t, dial(public), "http://site/"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	add := env("decisions", "add", "203.0.113.7")
	add.Stderr = &out
	if execute(add) != 0 {
		t.Fatal(out.String())
	}
	text, err := get(t, dial(private), "http://private/metrics")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (quickthorn_\w+) (\w+)$`).FindAllStringSubmatch(text, -1) {
		shown[m[1]] = m[2]
	}
	if len(shown) == 0 {
		t.Fatalf("no metrics in:\n%s", text)
	}
	for name, kind := range shown {
		if documented[name] != kind {
			t.Errorf("%s is a %s; docs/operations.md says %q", name, kind, documented[name])
		}
	}
	for name := range documented {
		if shown[name] == "" {
			t.Errorf("docs/operations.md lists %s, which is not among the metrics", name)
		}
	}
}
