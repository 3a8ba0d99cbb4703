package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/quickthorn/quickthorn/internal/clientaddr"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/testlog"
	"github.com/quickthorn/quickthorn/internal/upstream"
)

// echo answers with the request's body once it has all of it: an answer that has
// begun can only be cut off.
func echo(w http.ResponseWriter, r *http.Request) {
	if b, err := io.ReadAll(r.Body); err == nil {
		w.Write(b)
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	f := start(t, setup{limits: Limits{HeaderBytes: 8 << 10}})
	for name, lines := range map[string]string{
		"one header": "X: " + strings.Repeat("a", 20_000) + "\r\n",
		"many":       strings.Repeat("X-Y: abcd\r\n", 2000),
	} {
		if res, _ := f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n"+lines+"\r\n"); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
	if res, _ := f.ask(t, "GET /"+strings.Repeat("a", 20_000)+" HTTP/1.1\r\nHost: a\r\n\r\n"); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("target: %d", res.StatusCode)
	}
	if res, _ := f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\nCookie: "+strings.Repeat("a", 7000)+"\r\n\r\n"); res.StatusCode != 200 {
		t.Errorf("a large cookie: %d", res.StatusCode)
	}
}

// A header that comes byte by byte must not hold a connection for longer than the limit.
func TestSlowHeadersEndTheConnection(t *testing.T) {
	f := start(t, setup{limits: Limits{HeaderTimeout: 200 * time.Millisecond}, recordPass: true})
	c := f.dial(t)
	c.send(t, "GET / HTTP/1.1\r\nHost: a\r\nX: ")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				if _, err := c.Write([]byte("a")); err != nil {
					return
				}
			}
		}
	}()
	c.ended(t)
	close(stop)
	<-stopped
	select {
	case ev := <-f.recorder.events:
		t.Errorf("it was served: %+v", ev)
	default:
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	f := start(t, setup{limits: Limits{IdleTimeout: 50 * time.Millisecond}})
	c := f.dial(t)
	c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.answer(t, "GET")
	c.ended(t)
}

func TestAnUploadThatStopsIsEnded(t *testing.T) {
	for name, header := range map[string]string{
		"short": "Content-Length: 10\r\n\r\nabc", "long": "Content-Length: 100000\r\n\r\nabc",
		"chunked": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, setup{origin: echo, bodyIdle: 100 * time.Millisecond, recordPass: true})
			c := f.dial(t)
			c.send(t, "PUT /file HTTP/1.1\r\nHost: a\r\n"+header)
			if res, _ := c.answer(t, "PUT"); res.StatusCode != http.StatusRequestTimeout {
				t.Errorf("%d", res.StatusCode)
			}
			c.ended(t)
			if ev := f.event(t); ev.Response.Status != http.StatusRequestTimeout {
				t.Errorf("recorded %d", ev.Response.Status)
			}
			if n := f.Posture.Snapshot().InFlight; n != 0 {
				t.Errorf("%d requests are taken for waiting", n)
			}
		})
	}
}

func TestASlowButSteadyUploadPasses(t *testing.T) {
	f := start(t, setup{origin: echo, bodyIdle: 400 * time.Millisecond})
	c := f.dial(t)
	c.send(t, "PUT /file HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n")
	for range 20 { // longer in sum than the limit for one pause
		time.Sleep(30 * time.Millisecond)
		c.send(t, "x")
	}
	res, body := c.answer(t, "PUT")
	if res.StatusCode != 200 || body != strings.Repeat("x", 20) {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	// The deadline of the upload must not end what comes after it on the connection.
	time.Sleep(500 * time.Millisecond)
	c.send(t, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
	if res, _ := c.answer(t, "GET"); res.StatusCode != 200 {
		t.Errorf("next: %d", res.StatusCode)
	}
}

func TestUploadsAboveTheLimitAreTooLarge(t *testing.T) {
	f := start(t, setup{origin: echo, maxBody: 1000})
	for _, tt := range []struct {
		name, request string
		status        int
	}{
		{"at the limit", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + strings.Repeat("x", 1000), 200},
		{"announced", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413},
		{"found out", "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + strings.Repeat("x", 1001) + "\r\n0\r\n\r\n", 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if res, _ := f.ask(t, tt.request); res.StatusCode != tt.status {
				t.Errorf("%d, want %d; log: %s", res.StatusCode, tt.status, f.log)
			}
		})
	}
}

// What is refused may have a body that nobody reads.
func TestAStoppedUploadThatIsRefusedIsEnded(t *testing.T) {
	for name, s := range map[string]setup{
		"banned":        {decisions: []defense.Decision{deny("127.0.0.1")}},
		"upstream away": {upstream: upstream.Config{URL: "http://127.0.0.1:1"}},
		"unknown host":  {hosts: []string{"wiki.example.org"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.bodyIdle = 100 * time.Millisecond
			f := start(t, s)
			c := f.dial(t)
			c.send(t, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc")
			if res, _ := c.answer(t, "PUT"); res.StatusCode < 400 || res.StatusCode == 408 {
				t.Errorf("%d", res.StatusCode)
			}
			c.ended(t)
		})
	}
}

func TestAClientThatLeavesIsRecordedAndGetsNothing(t *testing.T) {
	entered := make(chan struct{})
	f := start(t, setup{recordPass: true, origin: func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	}})
	c := f.dial(t)
	c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	receive(t, entered, "the request")
	c.Close()
	if ev := f.event(t); ev.Response.Status != 499 || ev.Response.Bytes != 0 {
		t.Errorf("recorded %+v", ev.Response)
	}
	if s := f.Posture.Snapshot(); s.InFlight != 0 {
		t.Errorf("%d are taken for waiting", s.InFlight)
	}
}

// An upstream that answers before the upload ends must not have to wait for the rest of it.
func TestAnEarlyAnswerDoesNotWaitForTheUpload(t *testing.T) {
	f := start(t, setup{origin: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "no uploads")
		http.NewResponseController(w).Flush()
	}})
	c := f.dial(t)
	c.send(t, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
	if res, body := c.answer(t, "PUT"); res.StatusCode != 403 || body != "no uploads" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestConnectionsBeyondTheBoundAreClosedAndCounted(t *testing.T) {
	f := start(t, setup{maxConn: 2})
	one, two := f.dial(t), f.dial(t)
	for _, c := range []*raw{one, two} {
		c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		c.answer(t, "GET")
	}
	f.dial(t).ended(t)
	if n := f.connections.refused.Load(); n != 1 {
		t.Errorf("%d counted", n)
	}
	one.Close()
	eventually(t, "the place to be free", func() bool { return f.connections.open.Load() == 1 })
	if res, _ := f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); res.StatusCode != 200 {
		t.Errorf("afterwards: %d", res.StatusCode)
	}
	two.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if res, _ := two.answer(t, "GET"); res.StatusCode != 200 {
		t.Errorf("the one that stayed: %d", res.StatusCode)
	}
}

func TestAClientThatDoesNotReadIsEnded(t *testing.T) {
	f := start(t, setup{origin: func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}, limits: Limits{WriteIdle: 100 * time.Millisecond}})
	c := f.dial(t)
	c.send(t, "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
	eventually(t, "the connection to be given up", func() bool { return f.connections.open.Load() == 1 })
	eventually(t, "the connection to be given up", func() bool { return f.connections.open.Load() == 0 })
}

func TestHTTP2WithoutTLS(t *testing.T) {
	f := start(t, setup{origin: func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto")) }, recordPass: true})
	c := f.client(t)
	tr := c.Transport.(*http.Transport)
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetUnencryptedHTTP2(true)
	res, body := do(t, c, f.request(t, "GET", "/"))
	if res.ProtoMajor != 2 || res.StatusCode != 200 || body != "http" {
		t.Errorf("%s %d %q", res.Proto, res.StatusCode, body)
	}
	if ev := f.event(t); ev.Request.Protocol != "HTTP/2.0" || ev.Request.TLS != nil {
		t.Errorf("recorded as %s, TLS %v", ev.Request.Protocol, ev.Request.TLS)
	}
	tr.CloseIdleConnections()
}

func TestTLS(t *testing.T) {
	cert := certificate(t)
	f := start(t, setup{cert: cert, recordPass: true, origin: func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto")) }})
	for _, h2 := range []bool{true, false} {
		c := f.client(t)
		tr := c.Transport.(*http.Transport)
		tr.TLSClientConfig, tr.ForceAttemptHTTP2 = trusting(t, cert), h2
		res, body := do(t, c, f.request(t, "GET", "/"))
		want := map[bool]int{true: 2, false: 1}[h2]
		if res.ProtoMajor != want || res.StatusCode != 200 || body != "https" {
			t.Errorf("%s %d %q", res.Proto, res.StatusCode, body)
		}
		if ev := f.event(t); ev.Request.TLS == nil || ev.Request.TLS.Version != "1.3" {
			t.Errorf("recorded TLS: %+v", ev.Request.TLS)
		}
		tr.CloseIdleConnections()
	}
	old := trusting(t, cert)
	old.MaxVersion = tls.VersionTLS11
	if c, err := tls.Dial("tcp", f.server.Addr().String(), old); err == nil {
		c.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

func TestPlainHTTPOnTheTLSPortIsRefused(t *testing.T) {
	f := start(t, setup{cert: certificate(t)})
	if res, _ := f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); res.StatusCode != 400 {
		t.Errorf("%d", res.StatusCode)
	}
}

func TestARenewedCertificateIsServedAndABrokenOneIsNot(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writeCertificate(t, dir, "first")
	var log testlog.Buffer
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	subject := func() string {
		got, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.Subject.CommonName
	}
	changed := func(step time.Duration) { // the files are newer, and a minute has passed
		for _, name := range []string{certFile, keyFile} {
			if err := os.Chtimes(name, time.Time{}, time.Now().Add(step)); err != nil {
				t.Fatal(err)
			}
		}
		c.read = c.read.Add(-2 * certificateAge)
	}
	writeCertificate(t, dir, "second")
	if got := subject(); got != "first" {
		t.Errorf("%s is served before the files are looked at again", got)
	}
	changed(time.Minute)
	if got := subject(); got != "second" {
		t.Errorf("after the renewal %s is served", got)
	}
	if err := os.WriteFile(certFile, []byte("half a certif"), 0o600); err != nil {
		t.Fatal(err)
	}
	changed(2 * time.Minute)
	for range 3 {
		if got := subject(); got != "second" {
			t.Errorf("with a broken file %s is served", got)
		}
	}
	if n := strings.Count(log.String(), "could not be renewed"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
	if _, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "cert.pem") {
		t.Errorf("at the start: %v", err)
	}
	if _, err := LoadCertificate(filepath.Join(dir, "none"), keyFile, slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

func TestPROXYProtocol(t *testing.T) {
	cert := certificate(t)
	seen := make(chan string, 1)
	origin := func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("X-Forwarded-For") }
	s := setup{origin: origin, trusted: "127.0.0.0/8", proxy: clientaddr.ProxyRequired, decisions: []defense.Decision{deny("203.0.113.66")}}
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	t.Run("plain", func(t *testing.T) {
		f := start(t, s)
		if res, _ := f.ask(t, "PROXY TCP4 203.0.113.9 127.0.0.1 5000 80\r\n"+get); res.StatusCode != 200 {
			t.Errorf("%d", res.StatusCode)
		}
		if got := receive(t, seen, "the request"); got != "203.0.113.9" {
			t.Errorf("forwarded for %q", got)
		}
		if res, _ := f.ask(t, "PROXY TCP4 203.0.113.66 127.0.0.1 5000 80\r\n"+get); res.StatusCode != 403 {
			t.Errorf("banned: %d", res.StatusCode)
		}
		for _, junk := range []string{get, "PROXY TCP4 nonsense\r\n" + get, strings.Repeat("\x00", 100)} {
			c := f.dial(t)
			c.send(t, junk)
			c.ended(t)
		}
	})
	t.Run("before TLS", func(t *testing.T) {
		s := s
		s.cert = cert
		f := start(t, s)
		c := f.dial(t)
		c.send(t, "PROXY TCP6 2001:db8::9 ::1 5000 443\r\n")
		conf := trusting(t, cert)
		conf.ServerName = "localhost"
		tc := tls.Client(c.Conn, conf)
		if _, err := io.WriteString(tc, get); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(tc), nil)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		if got := receive(t, seen, "the request"); got != "2001:db8::9" {
			t.Errorf("forwarded for %q", got)
		}
	})
	t.Run("not believed of strangers", func(t *testing.T) {
		s := s
		s.trusted, s.proxy = "", clientaddr.ProxyOptional
		f := start(t, s)
		if res, _ := f.ask(t, "PROXY TCP4 203.0.113.9 127.0.0.1 5000 80\r\n"+get); res.StatusCode != 400 {
			t.Errorf("%d", res.StatusCode)
		}
	})
}

func TestMalformedRequests(t *testing.T) {
	reached := make(chan string, 100)
	f := start(t, setup{recordPass: true, origin: func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil { // what breaks off was refused
			reached <- fmt.Sprintf("%s %s %s %q", r.Method, r.RequestURI, r.Header.Get("Range"), body)
		}
	}})
	const host = "Host: wiki.example.org\r\n"
	for _, tt := range []struct {
		name, request string
		status        int
		origin        string // "": does not reach it
	}{
		{"no HTTP", "hello, is this a mail server?\r\n\r\n", 400, ""},
		{"binary", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, ""},
		{"terminal escapes", "GET /\x1b]0;owned\x07 HTTP/1.1\r\n" + host + "\r\n", 400, ""},
		{"unknown version", "GET / HTTP/9.9\r\n" + host + "\r\n", 505, ""},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, ""},
		{"two Hosts", "GET / HTTP/1.1\r\n" + host + "Host: evil.example\r\n\r\n", 400, ""},
		{"Host with control bytes", "GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", 400, ""},
		{"Host with a slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, ""},
		{"NUL in the target", "GET /a\x00b HTTP/1.1\r\n" + host + "\r\n", 400, ""},
		{"NUL in a header", "GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n\r\n", 400, ""},
		{"space in a header name", "GET / HTTP/1.1\r\n" + host + "X y: a\r\n\r\n", 400, ""},
		{"space before the colon", "GET / HTTP/1.1\r\n" + host + "Content-Length : 3\r\n\r\nabc", 400, ""},
		{"folded header", "GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", 200, "GET /  \"\""},
		{"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", 400, ""},
		{"negative length", "POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400, ""},
		{"length that overflows", "POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\n", 400, ""},
		{"unknown coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n", 501, ""},
		{"broken chunk", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", 400, ""},
		{"invalid UTF-8 in the path", "GET /\xff\xfe HTTP/1.1\r\n" + host + "\r\n", 200, "GET /\xff\xfe  \"\""},
		{"broken escape", "GET /%zz HTTP/1.1\r\n" + host + "\r\n", 400, ""},
		{"absurd range", "GET / HTTP/1.1\r\n" + host + "Range: bytes=0-,0-,0-,99999999999999999999-1\r\n\r\n", 200, "GET / bytes=0-,0-,0-,99999999999999999999-1 \"\""},
		{"the server as a whole", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 200, "OPTIONS *  \"\""},
		{"a tunnel", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 405, ""},
		{"invented method", "BREW /pot HTTP/1.1\r\n" + host + "\r\n", 200, "BREW /pot  \"\""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := f.dial(t)
			c.send(t, tt.request)
			// The body may be lost: the server closes with some of the request unread.
			res, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
			if res.StatusCode != tt.status {
				t.Errorf("%d, want %d", res.StatusCode, tt.status)
			}
			if tt.origin != "" {
				if got := receive(t, reached, "the upstream's request"); got != tt.origin {
					t.Errorf("the upstream got %q, want %q", got, tt.origin)
				}
			}
		})
	}
	// Of two framings the chunked one counts (RFC 9112 section 6.3), for us and for the upstream alike:
	// what follows it is a request of its own and judged as one.
	c := f.dial(t)
	c.send(t, "POST /first HTTP/1.1\r\n"+host+"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET /second HTTP/1.1\r\n"+host+"Connection: close\r\n\r\n")
	c.answer(t, "POST")
	c.answer(t, "GET")
	c.ended(t)
	for _, want := range []string{`POST /first  "a"`, `GET /second  ""`} {
		if got := receive(t, reached, "the upstream's request"); got != want {
			t.Errorf("the upstream got %q, want %q", got, want)
		}
	}
	if len(reached) > 0 {
		t.Errorf("the upstream got %q", <-reached)
	}
	paths := map[string]bool{}
	for len(f.recorder.events) > 0 {
		paths[(<-f.recorder.events).Request.Path] = true
	}
	if !paths["/first"] || !paths["/second"] {
		t.Errorf("judged: %v", paths)
	}
	for _, b := range []byte(f.log.String()) {
		if b < 0x20 && b != '\n' || b == 0x7f {
			t.Fatalf("the log holds the byte %#x: %q", b, f.log.String())
		}
	}
}

// --- the end ----------------------------------------------------------------------

func TestShutdownLetsRequestsFinish(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	f := start(t, setup{origin: func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "late but whole")
	}})
	c := f.dial(t)
	c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	receive(t, entered, "the request")
	done := make(chan error, 1)
	go func() { done <- f.shutdown(t, within) }()
	eventually(t, "the listener to close", func() bool {
		c, err := net.Dial("tcp", f.server.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(release)
	if res, body := c.answer(t, "GET"); res.StatusCode != 200 || body != "late but whole" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	if err := receive(t, done, "the shutdown"); err != nil {
		t.Error(err)
	}
}

func TestShutdownCutsWhatHasNoEnd(t *testing.T) {
	f := start(t, setup{origin: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: hello\n\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}})
	c := f.dial(t)
	c.send(t, "GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	if err != nil || line != "data: hello\n" { // flushed at once
		t.Fatal(line, err)
	}
	if err := f.shutdown(t, 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the stream was not cut: %v", err)
	}
	c.ended(t)
}

func TestShutdownEndsWebSockets(t *testing.T) {
	f := start(t, setup{origin: func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if err := c.Write(context.Background(), kind, bytes.ToUpper(b)); err != nil {
				return
			}
		}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	c, _, err := websocket.Dial(ctx, f.url+"/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != "HELLO" {
		t.Fatalf("%q, %v", b, err)
	}
	if n := f.Posture.Snapshot().InFlight; n != 0 {
		t.Errorf("an open socket counts as %d waiting", n)
	}
	if err := f.shutdown(t, within); err != nil {
		t.Error(err)
	}
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the socket stayed open: %v", err)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	f := start(t, setup{mode: defense.ModeEnforce, policy: challengeAll, forwarder: forward(func(http.ResponseWriter, *http.Request, *upstream.Options) (upstream.Result, error) {
		return upstream.Result{}, nil
	})})
	f.get(t, "/")
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(f.Edge); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	text := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(text, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		`quickthorn_requests_total{action="challenge",intended="challenge",site="wiki"} 1`, `quickthorn_challenges_issued_total{kind="refresh"} 1`, "quickthorn_tarpit_held 0",
		`quickthorn_challenges_answered_total{outcome="no-cookie"} 0`, `quickthorn_upstream_failures_total{reason="timeout"} 0`, "quickthorn_connections 1",
	} {
		if !strings.Contains(text.Body.String(), line+"\n") {
			t.Errorf("%s is missing in\n%s", line, text.Body)
		}
	}
}
