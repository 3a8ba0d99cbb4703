package compose

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for something that is certain to come.
const patience = time.Minute

// output collects what a script says while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// waitFor waits until the script has said it n times.
func (o *output) waitFor(t *testing.T, text string, n int) {
	t.Helper()
	eventually(t, func() bool { return strings.Count(o.String(), text) >= n }, "%q, %d times, in\n%s", text, n, o)
}

func eventually(t *testing.T, done func() bool, format string, args ...any) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not come: "+format, args...)
		}
	}
}

// program writes an executable shell script the way build.sh does: renamed into place.
func program(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".part", []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".part", path); err != nil {
		t.Fatal(err)
	}
}

// script starts one of ours with dir in front of PATH, and ends it with all its children when the test ends.
func script(t *testing.T, dir string, env []string, args ...string) (*exec.Cmd, *output) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, args[0]))
	if err != nil {
		t.Fatal(err)
	}
	out := &output{}
	c := exec.Command("/bin/sh", append([]string{path}, args[1:]...)...)
	c.Env = append(os.Environ(), append(env, "PATH="+dir+":"+os.Getenv("PATH"))...)
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = patience
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Kill(-c.Process.Pid, syscall.SIGKILL); err == nil {
			_ = c.Wait() // it was waited for already, or it was killed
		}
	})
	return c, out
}

// status waits for a script's end; one that does not come is killed, and fails the test.
func status(t *testing.T, c *exec.Cmd) int {
	t.Helper()
	late := time.AfterFunc(patience, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
	err := c.Wait()
	if !late.Stop() {
		t.Fatalf("%v did not end", c.Args)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode()
}

func TestEntrypoint(t *testing.T) {
	dir := t.TempDir()
	program(t, filepath.Join(dir, "quickthorn"), `[ "$1" != migrate ] || { echo "migrate: $*"; exit "$MIGRATE"; }
echo "runs: $*"
exit 7
`)
	for _, tc := range []struct {
		name, migrate string
		args          []string
		want          string
		status        int
	}{
		{"a service with stores waits for them", "0", []string{"ai-service"}, "migrate: migrate --wait 60s\nruns: ai-service\n", 7},
		{"one that runs a single job as well", "0", []string{"sync", "--once", "retention"}, "migrate: migrate --wait 60s\nruns: sync --once retention\n", 7},
		{"without a store in time it starts all the same", "75", []string{"ai-service"}, "starts without it and tries on\nruns: ai-service\n", 7},
		{"a schema that cannot be brought up to date ends it", "1", []string{"ai-service"}, "migrate: migrate --wait 60s\n", 1},
		{"a service without stores starts at once", "1", []string{"escalation-engine"}, "runs: escalation-engine\n", 7},
		{"flags are the program's", "1", []string{"--version"}, "runs: --version\n", 7},
		{"arguments stay as they are", "1", []string{"check", "my policy.yaml", "*"}, "runs: check my policy.yaml *\n", 7},
		{"no arguments are none", "1", nil, "runs: \n", 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, out := script(t, dir, []string{"MIGRATE=" + tc.migrate}, append([]string{"docker-entrypoint.sh"}, tc.args...)...)
			if got := status(t, c); got != tc.status {
				t.Errorf("exit status %d, want %d", got, tc.status)
			}
			if got := out.String(); !strings.HasSuffix(got, tc.want) {
				t.Errorf("said\n%swant\n%s", got, tc.want)
			}
		})
	}

	t.Run("the time to wait is set by STORE_WAIT", func(t *testing.T) {
		c, out := script(t, dir, []string{"MIGRATE=0", "STORE_WAIT=5s"}, "docker-entrypoint.sh", "sync")
		status(t, c)
		if want := "migrate: migrate --wait 5s\n"; !strings.HasPrefix(out.String(), want) {
			t.Errorf("said\n%swant\n%s", out, want)
		}
	})
	t.Run("the program takes the place of the shell", func(t *testing.T) {
		program(t, filepath.Join(dir, "quickthorn"), "echo \"process $$\"\n")
		c, out := script(t, dir, nil, "docker-entrypoint.sh", "proxy")
		status(t, c)
		if want := "process " + strconv.Itoa(c.Process.Pid) + "\n"; out.String() != want {
			t.Errorf("said %q, want %q", out, want)
		}
	})
	t.Run("a stop while it waits for a store ends it", func(t *testing.T) {
		program(t, filepath.Join(dir, "quickthorn"), `trap 'echo "told to stop"; exit 1' TERM
echo waits
while :; do sleep 0.05; done
`)
		c, out := script(t, dir, nil, "docker-entrypoint.sh", "ai-service")
		out.waitFor(t, "waits\n", 1)
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if got := status(t, c); got != 143 {
			t.Errorf("exit status %d, want 143", got)
		}
		out.waitFor(t, "told to stop\n", 1)
	})
}

func TestReload(t *testing.T) {
	start := func(t *testing.T, args ...string) (string, *exec.Cmd, *output) {
		t.Helper()
		dir := t.TempDir()
		bin := filepath.Join(dir, "quickthorn")
		c, out := script(t, dir, []string{"RELOAD_PROGRAM=" + bin}, append([]string{"deploy/dev/reload.sh"}, args...)...)
		return bin, c, out
	}
	service := func(name string) string {
		return "trap 'echo \"" + name + " stops\"; exit 5' TERM\necho \"" + name + " runs: $*\"\nwhile :; do sleep 0.05; done\n"
	}

	t.Run("waits for the first build, then follows every new one", func(t *testing.T) {
		bin, _, out := start(t, "escalation-engine", "--set", "a b=c")
		out.waitFor(t, "waits for the first build", 1)
		program(t, bin, service("one"))
		out.waitFor(t, "one runs: escalation-engine --set a b=c\n", 1)
		program(t, bin, service("two"))
		out.waitFor(t, "two runs: escalation-engine --set a b=c\n", 1)
		if got := out.String(); !strings.Contains(got, "one stops\n") {
			t.Errorf("the first was not told to stop:\n%s", got)
		}
		program(t, bin, service("three"))
		out.waitFor(t, "three runs: ", 1)
	})
	t.Run("hands a stop on and ends as the service does", func(t *testing.T) {
		bin, c, out := start(t, "proxy")
		program(t, bin, service("one"))
		out.waitFor(t, "one runs: ", 1)
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if got := status(t, c); got != 5 {
			t.Errorf("exit status %d, want the service's own, 5", got)
		}
		out.waitFor(t, "one stops\n", 1)
	})
	t.Run("a stop before the first build ends it", func(t *testing.T) {
		_, c, out := start(t, "proxy")
		out.waitFor(t, "waits for the first build", 1)
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if got := status(t, c); got != 143 {
			t.Errorf("exit status %d, want 143", got)
		}
	})
	t.Run("a service that ends by itself ends the container, for its restart policy", func(t *testing.T) {
		// Many at once: one that ended sooner than its watcher had started left the container hanging.
		for range 30 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				bin, c, _ := start(t, "proxy")
				program(t, bin, "exit 3\n")
				if got := status(t, c); got != 3 {
					t.Errorf("exit status %d, want the service's own, 3", got)
				}
			})
		}
	})
	t.Run("a build that is being written is not started", func(t *testing.T) {
		bin, _, out := start(t, "proxy")
		program(t, bin, service("one"))
		out.waitFor(t, "one runs: ", 1)
		if err := os.WriteFile(bin+".new", []byte("half a program"), 0o600); err != nil {
			t.Fatal(err)
		}
		program(t, bin, service("two"))
		out.waitFor(t, "two runs: ", 1)
		if n := strings.Count(out.String(), " runs: "); n != 2 {
			t.Errorf("started %d times, want 2:\n%s", n, out)
		}
	})
}

func TestBuild(t *testing.T) {
	source, bin := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module example.org/quickthorn\n\ngo 1.26\n")
	write("cmd/quickthorn/main.go", "package main\n\nimport \"example.org/quickthorn/internal/page\"\n\nfunc main() { print(page.Text) }\n")
	write("internal/page/page.go", "package page\n\nimport _ \"embed\"\n\n//go:embed page.html\nvar Text string\n")
	write("internal/page/page.html", "one")
	_, out := script(t, t.TempDir(), []string{"CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off"}, "deploy/dev/build.sh", source, bin)
	path := filepath.Join(bin, "quickthorn")
	says := func(want string) {
		t.Helper()
		got, err := exec.Command(path).CombinedOutput()
		if err != nil || string(got) != want {
			t.Fatalf("the program says %q (%v), want %q\n%s", got, err, want, out)
		}
	}

	out.waitFor(t, "compiled in", 1)
	says("one")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v (%v): the services run as another user", info.Mode(), err)
	}

	write("internal/page/page.html", "two") // a template, as any file
	out.waitFor(t, "compiled in", 2)
	says("two")

	write("internal/page/page.go", "package page\n\nthis is no Go\n")
	out.waitFor(t, "does not compile", 1)
	says("two")
	if !strings.Contains(out.String(), "page.go:3:1: syntax error") {
		t.Errorf("the compiler's own words are missing:\n%s", out)
	}

	write("internal/page/page.go", "package page\n\nvar Text = \"three\"\n")
	out.waitFor(t, "compiled in", 3)
	says("three")

	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write("internal/page/page_test.go", "package page\n") // no part of the program
	out.waitFor(t, "no change in the program", 1)
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the program was replaced by the same, which restarts every service for nothing")
	}

	// A checkout can bring back an older file.
	write("internal/page/page.go", "package page\n\nvar Text = \"older\"\n")
	old := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(filepath.Join(source, "internal/page/page.go"), old, old); err != nil {
		t.Fatal(err)
	}
	out.waitFor(t, "compiled in", 4)
	eventually(t, func() bool {
		got, err := exec.Command(path).CombinedOutput()
		return err == nil && string(got) == "older"
	}, "the older file in the program\n%s", out)

	for _, name := range []string{"go.sum", "cmd/quickthorn/quickthorn", "quickthorn"} {
		if _, err := os.Stat(filepath.Join(source, name)); err == nil {
			t.Errorf("wrote %s into the source", name)
		}
	}
}

func TestScriptsAreClean(t *testing.T) {
	checker, err := exec.LookPath("shellcheck")
	if err != nil {
		if os.Getenv("STRICT_TESTS") != "" {
			t.Fatal(err)
		}
		t.Skip("shellcheck is not installed")
	}
	for _, name := range []string{"docker-entrypoint.sh", "deploy/dev/build.sh", "deploy/dev/reload.sh"} {
		path := filepath.Join(root, name)
		if out, err := exec.Command(checker, path).CombinedOutput(); err != nil {
			t.Errorf("%s", out)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", name, err)
		}
		if strings.Contains(string(read(t, name)), "\r") {
			t.Errorf("%s has line ends that sh does not take", name)
		}
	}
}
