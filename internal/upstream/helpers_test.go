package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// within bounds what would otherwise hang a test. It is no expectation.
const within = 10 * time.Second

// outcome is what Forward returned.
type outcome struct {
	Result
	err error
}

// front is a server whose handler is Forward, with the answers that an edge
// would give where there is none.
type front struct {
	*httptest.Server
	up       *Upstream
	outcomes chan outcome
}

// frontOptions are what a test varies.
type frontOptions struct {
	cfg     Config
	options func(*http.Request) *Options
	http2   bool // over TLS
	h2c     bool
	wrap    func(http.ResponseWriter) http.ResponseWriter
	body    func(http.ResponseWriter, *http.Request) io.ReadCloser
}

func newFront(t testing.TB, o frontOptions) *front {
	t.Helper()
	noLeaks(t)
	up, err := New(o.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	f := &front{up: up, outcomes: make(chan outcome, 4096)}
	f.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var opts *Options
		if o.options != nil {
			opts = o.options(r)
		}
		if o.wrap != nil {
			w = o.wrap(w)
		}
		if o.body != nil {
			r = r.WithContext(r.Context())
			r.Body = o.body(w, r)
		}
		res, err := up.Forward(w, r, opts)
		f.outcomes <- outcome{res, err}
		switch {
		case err == nil:
		case res.Started:
			panic(http.ErrAbortHandler)
		default:
			w.Header().Set("Failure", res.Failure.String())
			w.WriteHeader(max(res.Failure.Status(), 400))
		}
	}))
	f.Config.DisableGeneralOptionsHandler = true
	f.Config.ErrorLog = log.New(io.Discard, "", 0)
	switch {
	case o.http2:
		f.EnableHTTP2 = true
		f.StartTLS()
	case o.h2c:
		f.Config.Protocols = new(http.Protocols)
		f.Config.Protocols.SetHTTP1(true)
		f.Config.Protocols.SetUnencryptedHTTP2(true)
		f.Start()
	default:
		f.Start()
	}
	t.Cleanup(f.Server.Close)
	return f
}

// outcome returns what Forward said of the next request that ended.
func (f *front) outcome(t testing.TB) outcome {
	t.Helper()
	select {
	case o := <-f.outcomes:
		return o
	case <-time.After(within):
		t.Fatal("Forward did not return")
	}
	panic("unreachable")
}

// client returns a client that speaks what the front does, and changes nothing.
func (f *front) client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, ExpectContinueTimeout: within, DisableKeepAlives: false}
	switch {
	case f.TLS != nil:
		pool := x509.NewCertPool()
		pool.AddCert(f.Certificate())
		tr.TLSClientConfig = &tls.Config{RootCAs: pool}
		tr.ForceAttemptHTTP2 = true
	case f.Config.Protocols != nil && f.Config.Protocols.UnencryptedHTTP2():
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial returns a plain connection to the front.
func (f *front) dial(t testing.TB) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	return &rawClient{TCPConn: c.(*net.TCPConn), r: bufio.NewReader(c)}
}

// rawClient writes bytes and reads answers.
type rawClient struct {
	*net.TCPConn
	r *bufio.Reader
}

func (c *rawClient) send(t testing.TB, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// answer reads one answer with its body.
func (c *rawClient) answer(t testing.TB, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("reading the body after %d bytes: %v", len(b), err)
	}
	return res, string(b)
}

// ask sends one request and reads its answer.
func (f *front) ask(t testing.TB, request string) (*http.Response, string) {
	t.Helper()
	c := f.dial(t)
	c.send(t, request)
	method, _, _ := strings.Cut(request, " ")
	return c.answer(t, method)
}

// serve starts an origin on net/http that is reached in the given way: "http",
// "unix", "https" or "h2c".
func serve(t testing.TB, how string, h http.HandlerFunc) Config {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.DisableGeneralOptionsHandler = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	var cfg Config
	switch how {
	case "http":
		s.Start()
		cfg.URL = s.URL
	case "unix":
		path := filepath.Join(t.TempDir(), "app.sock")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s.Listener.Close()
		s.Listener = ln
		s.Start()
		cfg.URL = "unix:" + path
	case "https":
		s.StartTLS()
		cfg.URL = s.URL
		pool := x509.NewCertPool()
		pool.AddCert(s.Certificate())
		cfg.TLS = &tls.Config{RootCAs: pool}
	case "h2c":
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		cfg.URL = "h2c://" + s.Listener.Addr().String()
	default:
		t.Fatalf("no way %q", how)
	}
	t.Cleanup(s.Close)
	return cfg
}

// rawOrigin starts an origin that treats each connection with f.
func rawOrigin(t testing.TB, f func(c net.Conn, r *bufio.Reader)) Config {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				f(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return Config{URL: "http://" + ln.Addr().String()}
}

// readHeader reads up to and with the empty line.
func readHeader(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String(), err
		}
	}
}

// answering is an origin that answers every request with the same bytes, and
// closes the connection after it if told so.
func answering(t testing.TB, answer string, andClose bool) Config {
	return rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHeader(r); err != nil {
				return
			}
			if _, err := io.WriteString(c, answer); err != nil || andClose {
				return
			}
		}
	})
}

// capturing is an origin that hands over each request's head and answers 204.
func capturing(t testing.TB) (Config, <-chan string) {
	heads := make(chan string, 64)
	return rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			h, err := readHeader(r)
			if err != nil {
				return
			}
			heads <- h
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}), heads
}

// noLeaks fails the test if, after all its other clean-up, a goroutine of the
// package is still there.
func noLeaks(t testing.TB) {
	t.Cleanup(func() {
		var left string
		for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			left = ""
			buf := make([]byte, 1<<20)
			for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
				for _, of := range []string{"upstream.(*exchange)", "upstream.(*conn)", "upstream.(*pair)", "upstream.(*sharedBody)", "upstream.(*Upstream)", "upstream.(*pool)", "upstream.interruptRead"} {
					if strings.Contains(g, of) {
						left += g + "\n\n"
						break
					}
				}
			}
			if left == "" {
				return
			}
		}
		t.Errorf("goroutines left behind:\n%s", left)
	})
}

// receive takes the next value or fails the test.
func receive[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(within):
		t.Fatalf("waited in vain for %s", what)
	}
	panic("unreachable")
}

// get makes a GET request that a test may cancel.
func get(t testing.TB, ctx context.Context, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dialing returns a dialer that gives out c once.
func dialing(c net.Conn) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		if c == nil {
			return nil, io.ErrClosedPipe
		}
		defer func() { c = nil }()
		return c, nil
	}
}

// sink is a ResponseWriter that keeps nothing.
type sink struct{ h http.Header }

func (s *sink) Header() http.Header         { return s.h }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
