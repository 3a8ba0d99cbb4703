package drip

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// quick makes a wheel whose streams are as fast as they may be.
func quick(t testing.TB) *Wheel {
	w, _ := running(t, Options{Connections: 10, Handlers: 10, MinRate: 100, MaxRate: 1000, MinWait: lowestWait, MaxWait: lowestWait})
	return w
}

// site answers each request with a stream, over HTTP/1.1 by Hijack and over HTTP/2 by Serve. change makes something of the server before it starts.
func site(t *testing.T, w *Wheel, s Stream, change func(*httptest.Server)) (server *httptest.Server, stays chan Stay) {
	t.Helper()
	stays = make(chan Stay, 10)
	s.Done = func(v Stay) { stays <- v }
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mine := s
		mine.Next = letters()
		if r.ProtoMajor == 1 {
			if !w.Hijack(rw, mine) {
				http.Error(rw, "no place", http.StatusServiceUnavailable)
			}
			return
		}
		rw.Header().Set("Content-Type", "text/plain")
		if _, ok := w.Serve(r.Context(), rw, mine); !ok {
			http.Error(rw, "no place", http.StatusServiceUnavailable)
		}
	}))
	change(server)
	t.Cleanup(server.Close)
	return server, stays
}

// hidden are connections that do not show their socket.
type hidden struct{ net.Listener }

func (l hidden) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

// wrapped are connections that pass their socket through.
type wrapped struct{ net.Listener }

type passing struct{ net.Conn }

func (c passing) SyscallConn() (syscall.RawConn, error) { return c.Conn.(syscall.Conn).SyscallConn() }

func (l wrapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return passing{c}, err
}

// servers are the ways in which a client may come.
var servers = map[string]func(*httptest.Server){
	"plain":              func(s *httptest.Server) { s.Start() },
	"a hidden socket":    func(s *httptest.Server) { s.Listener = hidden{s.Listener}; s.Start() },
	"a wrapped socket":   func(s *httptest.Server) { s.Listener = wrapped{s.Listener}; s.Start() },
	"TLS":                func(s *httptest.Server) { s.StartTLS() },
	"TLS, wrapped":       func(s *httptest.Server) { s.Listener = wrapped{s.Listener}; s.StartTLS() },
	"HTTP/2":             func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	"HTTP/2, no sockets": func(s *httptest.Server) { s.Listener = hidden{s.Listener}; s.EnableHTTP2 = true; s.StartTLS() },
}

func TestClientsGetAWholeAnswer(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := quick(t)
			server, stays := site(t, w, Stream{Head: []byte(chunkedHead), Chunked: true, Max: time.Second}, start)
			res, err := server.Client().Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || len(body) < 50 || !isLetters(body) || res.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("%v %.60q, %v", res.Header, body, err)
			}
			if s := ended(t, stays, Finished); s.Bytes < int64(len(body)) {
				t.Errorf("%d bytes counted, %d received", s.Bytes, len(body))
			}
		})
	}
}

func TestAClientThatHangsUpIsNoticed(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := quick(t)
			server, stays := site(t, w, Stream{Head: []byte(chunkedHead), Chunked: true}, start)
			ctx, hangUp := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if _, err := io.ReadFull(res.Body, make([]byte, 20)); err != nil {
				t.Fatal(err)
			}
			hangUp()
			ended(t, stays, Gone)
		})
	}
}

func TestSwitchedOffEveryKindOfStreamEnds(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := quick(t)
			server, stays := site(t, w, Stream{Head: []byte(chunkedHead), Chunked: true}, start)
			res, err := server.Client().Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			w.SetOff(true)
			ended(t, stays, Ended)
			_, _ = io.Copy(io.Discard, res.Body) // it ends, well or not
			res, err = server.Client().Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("switched off it answers %s", res.Status)
			}
		})
	}
}

// dial opens a connection with a small window, and asks.
func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return smallWindow(c) }}
	conn, err := d.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if server.TLS != nil {
		c := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		c.ServerName = "example.com" // a name of the test's certificate
		conn = tls.Client(conn, c)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestAClientThatDoesNotReadLosesItsStream(t *testing.T) {
	for _, name := range []string{"plain", "a hidden socket", "a wrapped socket", "TLS", "TLS, wrapped"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := quick(t)
			server, stays := site(t, w, Stream{Head: bytes.Repeat([]byte("x"), 4<<20), Chunked: true}, servers[name])
			dial(t, server)
			ended(t, stays, Stalled)
		})
	}
}

func TestWhatAClientReadsLaterComesWhole(t *testing.T) {
	t.Parallel()
	w := quick(t)
	head := []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Long: " + strings.Repeat("y", 40<<10) + "\r\n\r\n")
	server, stays := site(t, w, Stream{Head: head, Chunked: true, Max: 3 * time.Second}, servers["plain"])
	conn := dial(t, server)
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(answer, head) || !bytes.HasSuffix(answer, []byte("\r\n"+lastChunk)) {
		t.Errorf("%d bytes, %v", len(answer), err)
	}
	ended(t, stays, Finished)
}

func TestAClientThatSendsOnIsNotListenedTo(t *testing.T) {
	t.Parallel()
	w := quick(t)
	server, stays := site(t, w, Stream{Head: []byte(chunkedHead), Chunked: true, Max: time.Second}, servers["plain"])
	conn := dial(t, server)
	go func() { // ends when the connection does
		for _, err := conn.Write(make([]byte, 64<<10)); err == nil; {
			_, err = conn.Write(make([]byte, 64<<10))
		}
	}()
	ended(t, stays, Finished)
}

func TestAConnectionThatIsBrokenAlreadyIsGone(t *testing.T) {
	w := quick(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	stays := make(chan Stay, 2)
	if !w.Hijacked(conn, Stream{Next: letters(), Done: func(s Stay) { stays <- s }}) {
		t.Fatal("no place")
	}
	ended(t, stays, Gone)
}

func TestHandlersAreBounded(t *testing.T) {
	t.Parallel()
	w, _ := running(t, Options{Connections: 10, Handlers: 2})
	server, stays := site(t, w, Stream{}, servers["HTTP/2"])
	for i := range 3 {
		res, err := server.Client().Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if want := []int{200, 200, 503}[i]; res.StatusCode != want {
			t.Errorf("request %d: %s", i, res.Status)
		}
	}
	if st := w.Stats(); st.Handlers != 2 || st.Held != 2 || st.Refused != 1 {
		t.Errorf("%+v", st)
	}
	w.Drain()
	for range 2 {
		if s := <-stays; s.Reason != Ended {
			t.Errorf("ended as %v", s.Reason)
		}
	}
}

// deaf is an HTTP/2 client's end of things, as a handler sees it, that takes nothing.
type deaf struct {
	http.ResponseWriter
	deadline time.Time
	written  bool
}

func (d *deaf) SetWriteDeadline(t time.Time) error { d.deadline = t; return nil }

func (d *deaf) Write(b []byte) (int, error) { d.written = true; return len(b), nil }

func (d *deaf) FlushError() error {
	if !d.written {
		return nil // the header is taken
	}
	time.Sleep(time.Until(d.deadline))
	return errors.New("stream closed")
}

func TestAnHTTP2ClientWithoutWindowLosesItsStream(t *testing.T) {
	t.Parallel()
	w, _ := running(t, Options{Connections: 1})
	s, ok := w.Serve(t.Context(), &deaf{ResponseWriter: httptest.NewRecorder()}, Stream{Next: letters()})
	if !ok || s.Reason != Stalled || w.Stats().Held != 0 {
		t.Errorf("%+v, %v", s, ok)
	}
}

func TestAWriterThatCannotFlushIsLeftToItsHandler(t *testing.T) {
	w := quick(t)
	rw := struct{ http.ResponseWriter }{httptest.NewRecorder()}
	done := func(Stay) { t.Error("a stream ended that never was") }
	if _, ok := w.Serve(t.Context(), rw, Stream{Next: letters(), Done: done}); ok {
		t.Error("served")
	}
	if w.Hijack(rw, Stream{Next: letters(), Done: done}) {
		t.Error("hijacked")
	}
	if st := w.Stats(); st.Held != 0 || st.Begun != 0 || st.Refused != 2 {
		t.Errorf("%+v", st)
	}
}
