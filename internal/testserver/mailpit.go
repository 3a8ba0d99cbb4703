//go:build unix

package testserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mailpitVersion is the release of Mailpit that is built where none is installed.
const mailpitVersion = "v1.27.11"

// MailpitOptions are the settings of a Mailpit server.
type MailpitOptions struct {
	TLSCert, TLSKey string // files, PEM; "": no encryption
	RequireSTARTTLS bool   // refuse mail before STARTTLS
	ImplicitTLS     bool   // speak TLS from the first byte
	AuthFile        string // lines of name:password; "": no authentication
	AuthInClear     bool   // offer authentication without encryption
}

// MailpitServer is a real mail server that keeps what it is sent and shows it by an API.
type MailpitServer struct {
	SMTP string // address
	API  string // base URL
}

// Mailpit starts a mail server on loopback and stops it when the test ends. The program is looked for in
// PATH, then in the user's cache directory, where it is built if STRICT_TESTS is set;
// without it the test is skipped.
func Mailpit(t testing.TB, o MailpitOptions) *MailpitServer {
	t.Helper()
	program := mailpitProgram(t)
	var problem error
	for range 5 { // a port that was free may be taken by the time it is used
		m, err := startMailpit(t, program, o)
		if err == nil {
			return m
		}
		problem = err
	}
	t.Fatalf("mailpit does not start: %v", problem)
	return nil
}

func mailpitProgram(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("mailpit"); err == nil {
		return path
	}
	strict := os.Getenv(Strict) != ""
	cache, err := os.UserCacheDir()
	if err != nil {
		if strict {
			t.Fatal(err)
		}
		t.Skip("mailpit is not installed, and there is no cache directory to build it in")
	}
	dir := filepath.Join(cache, "quickthorn-test", "mailpit-"+mailpitVersion)
	path := filepath.Join(dir, "mailpit")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if !strict {
		t.Skipf("mailpit is neither in PATH nor in %s; with %s=1 it is built there", dir, Strict)
	}
	if err := buildMailpit(t.Context(), dir, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// buildMailpit builds the program, once, whichever test process comes first.
func buildMailpit(ctx context.Context, dir, path string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close() // and with it goes the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	bin, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	// The same as in test/images, so that Go's cache serves both.
	build := exec.CommandContext(ctx, "go", "install", "-trimpath", "-ldflags=-s -w", "github.com/axllent/mailpit@"+mailpitVersion)
	build.Dir = bin
	build.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0", "GOTOOLCHAIN=local")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build mailpit: %w: %s", err, out)
	}
	return os.Rename(filepath.Join(bin, "mailpit"), path)
}

func startMailpit(t testing.TB, program string, o MailpitOptions) (*MailpitServer, error) {
	t.Helper()
	listen := FreeAddress(t)
	m := &MailpitServer{SMTP: FreeAddress(t), API: "http://" + listen}
	args := []string{"--smtp", m.SMTP, "--listen", listen, "--database", filepath.Join(t.TempDir(), "mail.db"), "--disable-version-check", "--smtp-disable-rdns"}
	if o.TLSCert != "" {
		args = append(args, "--smtp-tls-cert", o.TLSCert, "--smtp-tls-key", o.TLSKey)
	}
	if o.RequireSTARTTLS {
		args = append(args, "--smtp-require-starttls")
	}
	if o.ImplicitTLS {
		args = append(args, "--smtp-require-tls")
	}
	if o.AuthFile != "" {
		args = append(args, "--smtp-auth-file", o.AuthFile)
	}
	if o.AuthInClear {
		args = append(args, "--smtp-auth-allow-insecure")
	}
	var out bytes.Buffer // read once the program has ended
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = dieWithParent()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := func() error {
		_ = cmd.Process.Kill() // it may have ended
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { _ = stop() }) // killed, which is an error of its own

	client := &http.Client{Timeout: time.Second}
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			return nil, fmt.Errorf("it ended: %w: %s", err, &out)
		default:
		}
		answer, err := client.Get(m.API + "/readyz")
		if err != nil {
			continue
		}
		answer.Body.Close()
		if conn, err := net.Dial("tcp", m.SMTP); err == nil && answer.StatusCode == http.StatusOK {
			conn.Close()
			return m, nil
		}
	}
	return nil, fmt.Errorf("it is not ready after %s: %w: %s", startTimeout, stop(), &out)
}

// MailpitMessage is what Mailpit tells of a message.
type MailpitMessage struct {
	ID        string
	MessageID string
	From      MailpitAddress
	To        []MailpitAddress
	Subject   string
	Text      string
	HTML      string
	// Header holds all header fields; Raw is the message as it was received.
	Header map[string][]string `json:"-"`
	Raw    string              `json:"-"`
}

// MailpitAddress is somebody's name and address.
type MailpitAddress struct{ Name, Address string }

// Messages returns the messages that have been received, the oldest first.
func (m *MailpitServer) Messages(t testing.TB) []MailpitMessage {
	t.Helper()
	var list struct {
		Messages []struct{ ID string }
	}
	mailpitGet(t, m.API+"/api/v1/messages?limit=500", &list)
	var all []MailpitMessage
	for k := len(list.Messages) - 1; k >= 0; k-- {
		id := list.Messages[k].ID
		var one MailpitMessage
		mailpitGet(t, m.API+"/api/v1/message/"+id, &one)
		mailpitGet(t, m.API+"/api/v1/message/"+id+"/headers", &one.Header)
		var raw strings.Builder
		mailpitGet(t, m.API+"/api/v1/message/"+id+"/raw", &raw)
		one.Raw = raw.String()
		all = append(all, one)
	}
	return all
}

// mailpitGet reads JSON, or text where v is a strings.Builder.
func mailpitGet(t testing.TB, url string, v any) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", url, answer.Status, body)
	}
	if text, ok := v.(*strings.Builder); ok {
		text.Write(body)
		return
	}
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}
