// Package testserver starts real servers for tests, each for one test and on data of its own.
package testserver

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startTimeout bounds how long a server may take until it answers. It is long, since tests
// run beside others on small machines; a server that is gone is noticed at once.
const startTimeout = 30 * time.Second

// Strict is the environment variable that makes a missing program fail a test instead of skipping it.
const Strict = "STRICT_TESTS"

// RedisServer is a redis-server of a test's own. It is stopped, and its data removed, when the test ends.
type RedisServer struct {
	// Address is "127.0.0.1:port"; the port stays the same over Stop and Start. Nothing listens there when the
	// arguments say "--port 0".
	Address string
	// Socket is the path of a Unix socket that the server listens on too.
	Socket string
	// Dir is the server's data directory.
	Dir string

	t    testing.TB
	args []string
	cmd  *exec.Cmd
	done chan error // closed when cmd has ended
}

// Redis starts a redis-server with these additional arguments and waits until it answers. It writes
// every change to disk before it answers, so that what was acknowledged survives Kill. The test is skipped when there
// is no redis-server, or fails when STRICT_TESTS is set.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	s := newRedis(t)
	s.args = append([]string{
		"--bind", "127.0.0.1", "--port", s.Port(), "--unixsocket", s.Socket, "--dir", s.Dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--enable-debug-command", "local",
	}, args...)
	s.Start()
	return s
}

// Sentinel starts a sentinel that watches master under this name with a quorum of one. It speaks the
// protocol at Address.
func Sentinel(t testing.TB, name string, master *RedisServer) *RedisServer {
	t.Helper()
	s := newRedis(t)
	host, port, err := net.SplitHostPort(master.Address)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(s.Dir, "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\nunixsocket %s\ndir %s\nsentinel monitor %s %s %s 1\nsentinel down-after-milliseconds %s 500\nsentinel failover-timeout %s 2000\n",
		s.Port(), s.Socket, s.Dir, name, host, port, name, name)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{config, "--sentinel"}
	s.Start()
	return s
}

// newRedis returns a server that is not started yet.
func newRedis(t testing.TB) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv(Strict) != "" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("redis-server is not installed")
	}
	// Not t.TempDir: a socket's path may have 107 bytes, and tests have long names.
	dir, err := os.MkdirTemp("", "qt-redis-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &RedisServer{Address: FreeAddress(t), Socket: filepath.Join(dir, "redis.sock"), Dir: dir, t: t}
	t.Cleanup(func() { s.end(syscall.SIGKILL) })
	return s
}

// Port returns the port of Address.
func (s *RedisServer) Port() string { return s.Address[strings.LastIndexByte(s.Address, ':')+1:] }

// Start starts the server again after Stop or Kill, on the same data and port, and waits until it answers.
func (s *RedisServer) Start() {
	s.t.Helper()
	if s.cmd != nil {
		s.t.Fatal("redis-server runs already")
	}
	output := filepath.Join(s.Dir, "output.txt")
	out, err := os.OpenFile(output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("redis-server", s.args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- cmd.Wait()
		close(done)
	}()
	s.cmd, s.done = cmd, done
	give := time.NewTimer(startTimeout)
	defer give.Stop()
	for !s.answers() {
		select {
		case err := <-done:
			s.cmd = nil
			text, _ := os.ReadFile(output)
			s.t.Fatalf("redis-server ended: %v\n%s", err, text)
		case <-give.C:
			s.t.Fatal("redis-server does not answer")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// answers reports whether the server has read its data and answers. That it wants a password is an answer.
func (s *RedisServer) answers() bool {
	c, err := net.DialTimeout("unix", s.Socket, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	if c.SetDeadline(time.Now().Add(5*time.Second)) != nil {
		return false
	}
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && (strings.HasPrefix(line, "+PONG") || strings.HasPrefix(line, "-NOAUTH"))
}

// Do sends a command, as the default user, and returns the first line of the answer, such as "+OK", ":1" or "$5". It is for what
// a test does to the server behind a client's back; an error is the test's.
func (s *RedisServer) Do(args ...string) string {
	s.t.Helper()
	c, err := net.DialTimeout("unix", s.Socket, 5*time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		s.t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := c.Write([]byte(b.String())); err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "-") {
		s.t.Fatalf("redis-server: %s: %s", strconv.Quote(strings.Join(args, " ")), line)
	}
	return line
}

// Stop ends the server as an operator would and waits for it.
func (s *RedisServer) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server as a crash would and waits for it.
func (s *RedisServer) Kill() { s.end(syscall.SIGKILL) }

func (s *RedisServer) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	// A stopped process acts on nothing but SIGKILL before it goes on.
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Signal(sig) // it may have ended by itself
	<-s.done
	s.cmd = nil
}

// Pause makes the server stop answering, with its connections open, until Resume.
func (s *RedisServer) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *RedisServer) Resume() { s.signal(syscall.SIGCONT) }

func (s *RedisServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.cmd == nil {
		s.t.Fatal("redis-server does not run")
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}
