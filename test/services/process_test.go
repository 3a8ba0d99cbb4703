//go:build services

// Package services tests the services as they are run apart: the built program, several processes of it over real Redis,
// PostgreSQL and mail servers, which are killed and started again. Run it by ./test.sh, or
//
//	go test -tags services ./test/services/...
package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/testprogram"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

// binary is the built program.
var binary string

func TestMain(m *testing.M) { testprogram.Main(m, "../..", &binary) }

// patience bounds every wait for something that ought to happen soon. It is long, since tests run beside others on
// small machines; nothing is measured by it.
const patience = 45 * time.Second

// The keys of the test's services. Each caller has its own.
const (
	operatorKey = "key-of-the-operator-0123456789abcdef"
	proxyKey    = "key-of-the-proxies-0123456789abcdef"
	judgeKey    = "key-of-the-ai-service-0123456789abcdef"
	sourceKey   = "key-of-the-source-0123456789abcdef"
)

// process is one program of ours, which can be killed and started again on the same data and addresses.
type process struct {
	t    *testing.T
	name string
	args []string
	env  []string
	dir  string // its data directory

	url     string // of what it is for: the edge's site, or a service's API
	private string // base URL of its private listener

	log  string // file
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// newProcess returns a process that is not started yet. It gets no environment but the one given. When the test ends it is stopped, in
// the opposite order of creation, which must succeed.
func newProcess(t *testing.T, name string, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{t: t, name: name, dir: filepath.Join(dir, "data"), log: filepath.Join(dir, name+".log")}
	p.args = append(args, "--data", p.dir)
	p.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	t.Cleanup(func() {
		if p.running() {
			if status := p.terminate(); status != 0 {
				t.Errorf("%s ended with status %d", name, status)
			}
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.said(30<<10))
		}
	})
	return p
}

// set adds settings, as section.field=value.
func (p *process) set(sets ...string) *process {
	for _, s := range sets {
		p.args = append(p.args, "--set", s)
	}
	return p
}

// listen gives the process a private listener.
func (p *process) listen() *process {
	address := testserver.FreeAddress(p.t)
	p.private = "http://" + address
	return p.set("private.listen=" + address)
}

// said returns the end of the process's log.
func (p *process) said(most int) string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(b) > most {
		b = append([]byte("…"), b[len(b)-most:]...)
	}
	return string(b)
}

// start starts the process; await waits until it is ready.
func (p *process) start() *process {
	p.t.Helper()
	if p.running() {
		p.t.Fatalf("%s runs already", p.name)
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(binary, p.args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.env, filepath.Dir(p.log), out, out
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait() // ProcessState tells
		close(done)
	}(p.done)
	return p
}

// running reports whether the process has been started and has not ended.
func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// alive ends the test if the process has ended by itself.
func (p *process) alive() {
	p.t.Helper()
	if !p.running() {
		p.t.Fatalf("%s has ended: %v", p.name, p.cmd.ProcessState)
	}
}

// readiness returns what the process says of itself: status 0 while it does not answer.
func (p *process) readiness() (status int, text string) {
	status, body, err := call(http.MethodGet, p.private+"/readyz", "", "", nil)
	if err != nil {
		return 0, err.Error()
	}
	return status, strings.TrimSpace(string(body))
}

// await waits until the process is ready.
func (p *process) await() *process {
	p.t.Helper()
	p.awaitReadiness(http.StatusOK)
	return p
}

// awaitReadiness waits until the process answers with that status and a text that holds the words, and returns it.
func (p *process) awaitReadiness(status int, words ...string) string {
	p.t.Helper()
	var text string
	eventually(p.t, func() error {
		p.alive()
		var got int
		got, text = p.readiness()
		for _, w := range words {
			if !strings.Contains(text, w) {
				return fmt.Errorf("%s answers %d %q, want %d with %q", p.name, got, text, status, w)
			}
		}
		if got != status {
			return fmt.Errorf("%s answers %d %q, want %d", p.name, got, text, status)
		}
		return nil
	})
	return text
}

// kill ends the process as a crash would.
func (p *process) kill() {
	p.t.Helper()
	p.alive()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-p.done
}

// terminate asks the process to end, waits, and returns its status; -1 when it had to be killed.
func (p *process) terminate() int {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // it then says what it is doing
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		p.t.Errorf("%s did not end after SIGTERM", p.name)
		return -1
	}
}

// signal sends a signal to the process.
func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// refuses starts the process, which must end by itself with status 1, and returns what it said.
func (p *process) refuses() string {
	p.t.Helper()
	p.start()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s has started, though it ought to refuse to\n%s", p.name, p.said(4<<10))
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 1 {
		p.t.Errorf("%s ended with status %d, want 1", p.name, code)
	}
	return p.said(4 << 10)
}

// metric returns the value of a metric without labels that the process shows.
func (p *process) metric(name string) string {
	p.t.Helper()
	status, body, err := call(http.MethodGet, p.private+"/metrics", "", "", nil)
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("%s: metrics: %d %v", p.name, status, err)
	}
	for line := range strings.Lines(string(body)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	p.t.Fatalf("%s shows no %s", p.name, name)
	return ""
}

// eventually calls fn until it returns nil.
func eventually(t *testing.T, fn func() error) {
	t.Helper()
	for give := time.Now().Add(patience); ; time.Sleep(25 * time.Millisecond) {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(give) {
			t.Fatalf("after %s: %v", patience, err)
		}
	}
}

// client is for calls by tests. A connection is used once, so that a process that was killed is not noticed late.
var client = &http.Client{
	Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// maxAnswer bounds what a test reads of one answer.
const maxAnswer = 256 << 20

// call sends a request, with key as a bearer token unless it is empty, and reads the answer.
func call(method, url, key, contentType string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	res, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, answer, err
}

// command runs a command of the program with these settings in its environment and returns what it printed.
func command(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	c := exec.CommandContext(ctx, binary, args...)
	c.Dir = t.TempDir()
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir, "TMPDIR=" + c.Dir}, env...)
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		return out.String(), errors.Join(fmt.Errorf("quickthorn %s: %w", strings.Join(args, " "), err), errors.New(problems.String()))
	}
	return out.String(), nil
}

// must is command that succeeds.
func must(t *testing.T, env []string, args ...string) string {
	t.Helper()
	out, err := command(t, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// median returns the middle of what was measured.
func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}
