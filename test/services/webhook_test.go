//go:build services

package services

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

// need returns the path of a program; without it the test is skipped, or fails in strict runs.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil {
		if os.Getenv(testserver.Strict) != "" {
			t.Fatalf("%s is not installed", program)
		}
		t.Skipf("%s is not installed", program)
	}
	return path
}

// nginx is a real nginx that serves a page and writes an access log in the combined format.
type nginx struct {
	t        *testing.T
	url, log string
	cmd      *exec.Cmd
}

func startNginx(t *testing.T) *nginx {
	t.Helper()
	program := need(t, "nginx")
	dir, address := t.TempDir(), testserver.FreeAddress(t)
	n := &nginx{t: t, url: "http://" + address, log: filepath.Join(dir, "access.log")}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; worker_processes 1; pid %[1]s/nginx.pid; error_log %[1]s/error.log;
events { worker_connections 64; }
http {
	access_log %[1]s/access.log combined;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server { listen %[2]s; location / { return 200 "the page"; } }
}
`, dir, address)
	if os.Geteuid() == 0 {
		text = "user root;\n" + text
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	n.cmd = exec.Command(program, "-p", dir, "-c", config, "-e", filepath.Join(dir, "error.log"))
	n.cmd.Stdout, n.cmd.Stderr, n.cmd.SysProcAttr = &out, &out, dieWithParent()
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = n.cmd.Wait() // what it says is shown
		close(ended)
	}()
	t.Cleanup(func() {
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() && out.Len() > 0 {
			t.Logf("nginx said:\n%s", &out)
		}
	})
	eventually(t, func() error {
		select {
		case <-ended:
			t.Fatalf("nginx has ended: %s", &out)
		default:
		}
		_, err := os.Stat(filepath.Join(dir, "nginx.pid"))
		return err
	})
	return n
}

// fetch has curl ask for /PATH/1 to /PATH/n, from an address of its own.
func (n *nginx) fetch(from, path string, count int) {
	n.t.Helper()
	c := exec.Command(need(n.t, "curl"), "-sS", "-f", "-o", os.DevNull, "--interface", from, "-A", "curl-of-the-test/1.0", fmt.Sprintf("%s/%s/[1-%d]", n.url, path, count))
	if out, err := c.CombinedOutput(); err != nil {
		n.t.Fatalf("curl: %v\n%s", err, out)
	}
}

// rotate does what logrotate does.
func (n *nginx) rotate() {
	n.t.Helper()
	if err := os.Rename(n.log, n.log+".1"); err != nil {
		n.t.Fatal(err)
	}
	if err := n.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, func() error {
		_, err := os.Stat(n.log)
		return err
	})
}

func TestFollowedAccessLogOfNginxIsArchivedWithoutLossOrDoubleOverRotationAndKill(t *testing.T) {
	t.Parallel()
	need(t, "curl")
	web := startNginx(t)
	address := testserver.FreeAddress(t)
	program := newProcess(t, "run", "run", "--upstream", newSite(t).URL).listen().set("edge.listen=" + address)
	config := filepath.Join(filepath.Dir(program.log), "quickthorn.yaml")
	text := "intake:\n  sources:\n    - name: nginx\n      key: " + sourceKey + "\n      site: wiki\n      client: client\n      format: combined\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program.args = append(program.args, "--config", config)
	program.env = append(program.env, "QUICKTHORN_PRIVATE_KEY="+operatorKey)
	program.start().await()

	follower := newProcess(t, "follow", "follow", web.log, "--source", "nginx", "--to", program.private, "--from-start")
	key := filepath.Join(filepath.Dir(follower.log), "nginx.key")
	if err := os.WriteFile(key, []byte(sourceKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	follower.args = append(follower.args, "--key-file", key)

	// seen returns the events of a client, as the command shows them.
	seen := func(from string) []defense.Event {
		t.Helper()
		out := must(t, []string{"QUICKTHORN_PRIVATE_KEY=" + operatorKey}, "events", "--json", "--limit", "0", "--client", from, "--server", program.private)
		var events []defense.Event
		for line := range strings.Lines(out) {
			var e defense.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			events = append(events, e)
		}
		return events
	}
	// awaitSeen waits until each of these paths has been seen, and checks that none has twice.
	awaitSeen := func(from string, want map[string]int) {
		t.Helper()
		total := 0
		for _, n := range want {
			total += n
		}
		var events []defense.Event
		eventually(t, func() error {
			if events = seen(from); len(events) < total {
				return fmt.Errorf("of %d requests from %s %d are seen", total, from, len(events))
			}
			return nil
		})
		paths := map[string]int{}
		for i := range events {
			e := &events[i]
			paths[e.Request.Path]++
			if e.Client.Address != from || e.Site != "wiki" || e.Edge != "webhook:nginx" || e.Request.Agent != "curl-of-the-test/1.0" || e.Response.Status != 200 {
				t.Fatalf("an event: %+v", e)
			}
		}
		for path, n := range want {
			for i := range n {
				if p := fmt.Sprintf("/%s/%d", path, i+1); paths[p] != 1 {
					t.Errorf("%s was asked for once and is seen %d times", p, paths[p])
				}
			}
		}
		if len(events) != total {
			t.Errorf("%d requests from %s are seen, want %d", len(events), from, total)
		}
	}

	web.fetch("127.0.0.2", "before", 20)
	follower.start()
	web.fetch("127.0.0.2", "live", 30)
	awaitSeen("127.0.0.2", map[string]int{"before": 20, "live": 30})

	web.fetch("127.0.0.3", "old", 40)
	web.rotate()
	web.fetch("127.0.0.3", "new", 40)
	awaitSeen("127.0.0.3", map[string]int{"old": 40, "new": 40})

	// The follower is killed while there is much to report, again and again.
	want := map[string]int{}
	for i := range 4 {
		path := fmt.Sprintf("killed%d", i)
		web.fetch("127.0.0.4", path, 300)
		want[path] = 300
		follower.kill()
		web.fetch("127.0.0.4", path+"b", 50)
		want[path+"b"] = 50
		follower.start()
	}
	// And who it reports to.
	program.kill()
	web.fetch("127.0.0.4", "away", 100)
	want["away"] = 100
	program.start().await()
	awaitSeen("127.0.0.4", want)
	if status := follower.terminate(); status != 0 {
		t.Errorf("follow ended with status %d", status)
	}

	// What a source may not do.
	event := []byte(`{"client":"203.0.113.7","method":"GET","target":"/","status":200}`)
	for _, tt := range []struct {
		name, path, key string
		want            int
	}{
		{"without a key", "/v1/webhook/nginx", "", http.StatusUnauthorized},
		{"with a wrong key", "/v1/webhook/nginx", "key-of-nobody-0123456789abcdef", http.StatusUnauthorized},
		{"to a source that is not declared", "/v1/webhook/caddy", sourceKey, http.StatusNotFound},
		{"to the edges' endpoint", "/v1/events", sourceKey, http.StatusForbidden},
		{"as it should", "/v1/webhook/nginx", sourceKey, http.StatusAccepted},
	} {
		status, body, err := call(http.MethodPost, program.private+tt.path, tt.key, "application/json", event)
		if err != nil || status != tt.want {
			t.Errorf("an event %s: %d %s, %v; want %d", tt.name, status, body, err, tt.want)
		}
		if status >= 400 {
			if _, err := problem(body); err != nil {
				t.Errorf("an event %s: %v", tt.name, err)
			}
		}
	}
}
