package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestUpstreamAwayIsAFailureToConnect(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	for _, url := range []string{"http://" + addr, "https://" + addr, "h2c://" + addr, "unix:" + t.TempDir() + "/none.sock"} {
		f := newFront(t, frontOptions{cfg: Config{URL: url}})
		for _, request := range []string{
			"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20000),
		} {
			res, _ := f.ask(t, request)
			o := f.outcome(t)
			if res.StatusCode != 502 || o.Failure != FailureConnect || !errors.Is(o.err, ErrConnect) || o.Started || o.Status != 0 {
				t.Errorf("%s: status %d, %+v", url, res.StatusCode, o)
			}
		}
	}
}

func TestUpstreamWithAnotherCertificateIsNotTrusted(t *testing.T) {
	cfg := serve(t, "https", func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	cfg.TLS = nil
	f := newFront(t, frontOptions{cfg: cfg})
	f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if o := f.outcome(t); o.Failure != FailureConnect || !strings.Contains(o.err.Error(), "certificate") {
		t.Errorf("%+v", o)
	}
}

func TestConnectingTooLongIsATimeout(t *testing.T) {
	u, err := New(Config{URL: "http://a", ConnectTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.dial = func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, u.cfg.ConnectTimeout)
		defer cancel()
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	res, err := u.Forward(&sink{h: http.Header{}}, get(t, t.Context(), "http://a/"), nil)
	if !errors.Is(err, ErrTimeout) || res.Failure.Status() != 504 {
		t.Errorf("%+v %v", res, err)
	}
}

// silent is an origin that reads and never answers.
func silent(t testing.TB) Config {
	return rawOrigin(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
}

func TestNoHeaderInTimeIsATimeout(t *testing.T) {
	for _, out := range []string{"h1", "h2c"} {
		var cfg Config
		if out == "h1" {
			cfg = silent(t)
		} else {
			cfg = serve(t, "h2c", func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			})
		}
		for name, request := range map[string]string{
			"no body":    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
			"short body": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
			"long body":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20000),
			"expecting":  "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
		} {
			t.Run(out+" "+name, func(t *testing.T) {
				cfg := cfg
				cfg.ResponseHeaderTimeout = 60 * time.Millisecond
				cfg.ContinueTimeout = 10 * time.Millisecond
				f := newFront(t, frontOptions{cfg: cfg})
				c := f.dial(t)
				c.send(t, request)
				res, _ := c.answer(t, "POST")
				if res.StatusCode == 100 {
					res, _ = c.answer(t, "POST")
				}
				if o := f.outcome(t); res.StatusCode != 504 || o.Failure != FailureTimeout || o.Started {
					t.Errorf("status %d, %+v", res.StatusCode, o)
				}
			})
		}
	}
}

func TestHeaderTimeoutDoesNotCountWhileTheClientUploads(t *testing.T) {
	cfg := serve(t, "http", counting)
	cfg.ResponseHeaderTimeout = 50 * time.Millisecond
	f := newFront(t, frontOptions{cfg: cfg})
	c := f.dial(t)
	c.send(t, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	for range 5 {
		time.Sleep(30 * time.Millisecond) // a slow client; more than the time-out in sum
		c.send(t, "1\r\nx\r\n")
	}
	c.send(t, "0\r\n\r\n")
	if res, body := c.answer(t, "POST"); body != "5 <nil> -1 [chunked]" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestUpstreamThatTakesNoMoreIsATimeout(t *testing.T) {
	stop := make(chan struct{})
	cfg := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		c.(*net.TCPConn).SetReadBuffer(4 << 10)
		readHeader(r)
		<-stop
	})
	cfg.SendTimeout = 50 * time.Millisecond
	f := newFront(t, frontOptions{cfg: cfg})
	t.Cleanup(func() { close(stop) })
	c := f.dial(t)
	go func() { // until the front gives up
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
		io.Copy(c, &zeros{n: 1e9, each: func(int64) {}})
	}()
	if o := f.outcome(t); o.Failure != FailureTimeout {
		t.Errorf("%+v", o)
	}
}

func TestConnectionThatEndsWithoutAnAnswerIsAReset(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"closed": func(c net.Conn) { c.Close() },
		"reset":  func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: rawOrigin(t, func(c net.Conn, r *bufio.Reader) { readHeader(r); end(c) })})
			for _, request := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20000)} {
				res, _ := f.ask(t, request)
				if o := f.outcome(t); res.StatusCode != 502 || o.Failure != FailureReset {
					t.Errorf("status %d, %+v", res.StatusCode, o)
				}
			}
		})
	}
}

// breaking is an origin that answers the first request of each connection and
// ends the connection on its second, having read it. It counts requests.
func breaking(t testing.TB) (Config, *atomic.Int32) {
	var n atomic.Int32
	return rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHeader(r); err != nil {
			return
		}
		n.Add(1)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if _, err := readHeader(r); err == nil {
			n.Add(1)
		}
	}), &n
}

func TestIdempotentRequestsAreSentAgainWhenAKeptConnectionBreaks(t *testing.T) {
	for _, test := range []struct {
		request string
		again   bool
	}{
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		{"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		{"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		{"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", true},
		{"POST / HTTP/1.1\r\nHost: a\r\n\r\n", false},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", false},
		{"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", false},
		{"purge / HTTP/1.1\r\nHost: a\r\n\r\n", false},
	} {
		cfg, asked := breaking(t)
		f := newFront(t, frontOptions{cfg: cfg})
		f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		f.outcome(t)
		res, _ := f.ask(t, test.request)
		o := f.outcome(t)
		want := int32(2)
		if test.again {
			want = 3
		}
		if (res.StatusCode == 200) != test.again || (o.err == nil) != test.again || asked.Load() != want {
			t.Errorf("%.20q: status %d, sent %d times, %+v", test.request, res.StatusCode, asked.Load(), o)
		}
	}
}

func TestFreshConnectionThatBreaksIsNotTriedAgain(t *testing.T) {
	var n atomic.Int32
	f := newFront(t, frontOptions{cfg: rawOrigin(t, func(c net.Conn, r *bufio.Reader) { readHeader(r); n.Add(1) })})
	f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if n.Load() != 1 {
		t.Errorf("sent %d times", n.Load())
	}
}

func TestRequestIsNotSentAgainAfterPartOfAnAnswer(t *testing.T) {
	var n atomic.Int32
	f := newFront(t, frontOptions{cfg: rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHeader(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		readHeader(r)
		n.Add(1)
		io.WriteString(c, "HTTP/1.1 200")
	})})
	f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	f.outcome(t)
	res, _ := f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if o := f.outcome(t); res.StatusCode != 502 || o.Failure != FailureResponse || n.Load() != 1 {
		t.Errorf("status %d, sent %d times, %+v", res.StatusCode, n.Load(), o)
	}
}

// A POST must not be risked on a connection that the upstream has closed.
func TestKeptConnectionThatWasClosedIsNotUsed(t *testing.T) {
	for _, out := range []string{"http", "https", "unix"} {
		t.Run(out, func(t *testing.T) {
			cfg := serve(t, out, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) })
			f := newFront(t, frontOptions{cfg: cfg})
			for range 5 {
				res, _ := f.ask(t, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
				if o := f.outcome(t); res.StatusCode != 200 || o.err != nil {
					t.Fatalf("status %d, %+v", res.StatusCode, o)
				}
				f.up.pool.mu.Lock()
				c := f.up.pool.idle[0]
				f.up.pool.mu.Unlock()
				// Our half of what a close of theirs does, without a race.
				if cr, ok := c.nc.(interface{ CloseRead() error }); ok {
					cr.CloseRead()
				} else {
					c.nc.Close()
				}
			}
		})
	}
}

func TestKeptConnectionThatSpeaksUnaskedIsNotUsed(t *testing.T) {
	f := newFront(t, frontOptions{cfg: rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHeader(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if _, err := r.Peek(1); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		}
	})})
	f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	f.outcome(t)
	f.up.pool.mu.Lock()
	c := f.up.pool.idle[0]
	f.up.pool.mu.Unlock()
	c.nc.Write([]byte("x")) // has the origin speak
	for end := time.Now().Add(within); !c.isStale(); {
		if time.Now().After(end) {
			t.Fatal("what was said is not seen")
		}
	}
	if _, body := f.ask(t, "POST / HTTP/1.1\r\nHost: a\r\n\r\n"); body != "ok" {
		t.Errorf("got %q", body)
	}
}

func TestSurplusAfterAnAnswerEndsTheConnection(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
		"HTTP/1.1 304 Not Modified\r\n\r\nevil",
	} {
		f := newFront(t, frontOptions{cfg: answering(t, answer, false)})
		for range 3 {
			if _, body := f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); strings.Contains(body, "evil") {
				t.Errorf("got %q", body)
			}
			f.outcome(t)
			if n := len(f.up.pool.idle); n != 0 {
				t.Errorf("%d connections kept after %.40q", n, answer)
			}
		}
	}
}

func TestConnectionThatTheAnswerEndsIsNotKept(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	} {
		f := newFront(t, frontOptions{cfg: answering(t, answer, false)})
		if _, body := f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); body != "ok" {
			t.Errorf("got %q", body)
		}
		f.outcome(t)
		if n := len(f.up.pool.idle); n != 0 {
			t.Errorf("%d connections kept after %.50q", n, answer)
		}
	}
	f := newFront(t, frontOptions{cfg: answering(t, "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", false)})
	f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	f.outcome(t)
	if n := len(f.up.pool.idle); n != 1 {
		t.Errorf("%d connections of a persistent HTTP/1.0 origin kept", n)
	}
}

func TestInterimAnswersWithoutEndAreCutOff(t *testing.T) {
	f := newFront(t, frontOptions{cfg: rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHeader(r)
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n"); err != nil {
				return
			}
		}
	})})
	c := f.dial(t)
	c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	go io.Copy(io.Discard, c)
	if o := f.outcome(t); o.Failure != FailureResponse {
		t.Errorf("%+v", o)
	}
}

func TestBodyOfAnotherLengthThanAnnouncedIsNotCompleted(t *testing.T) {
	for _, out := range []string{"http", "h2c"} {
		for _, test := range []struct{ says, is int64 }{{10, 5}, {100000, 99999}, {100000, 100001}, {100000, 300000}} {
			whole := make(chan int, 1)
			f := newFront(t, frontOptions{cfg: serve(t, out, func(w http.ResponseWriter, r *http.Request) {
				if b, err := io.ReadAll(r.Body); err == nil {
					whole <- len(b)
				}
			})})
			r, err := http.NewRequest("PUT", "http://a/", &zeros{n: test.is, each: func(int64) {}})
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = test.says
			res, err := f.up.Forward(&sink{h: http.Header{}}, r, nil)
			if out == "http" && test.is < test.says && (res.Failure == FailureNone || err == nil) {
				t.Errorf("%s %+v: %+v %v", out, test, res, err)
			}
			f.up.Close()
			f.Server.Close()
			select {
			case n := <-whole:
				if int64(n) != test.says || test.is < test.says {
					t.Errorf("%s %+v: the origin took %d bytes for the whole", out, test, n)
				}
			default:
			}
		}
	}
}

func TestPoolIsBoundedAndGrowsOld(t *testing.T) {
	p := newPool(2)
	now := time.Now()
	var conns []*conn
	add := func(until time.Duration) *conn {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		c := newConn(here)
		c.idleUntil = now.Add(until)
		conns = append(conns, c)
		p.put(c, now)
		return c
	}
	isClosed := func(c *conn) bool { return errors.Is(c.nc.SetDeadline(now.Add(time.Hour)), io.ErrClosedPipe) }
	a, b, surplus := add(10*time.Second), add(20*time.Second), add(30*time.Second)
	if !isClosed(surplus) || isClosed(a) || isClosed(b) {
		t.Error("the bound is not kept")
	}
	if p.take(now) != b {
		t.Error("not the last one first")
	}
	p.put(b, now)
	p.sweep(now.Add(15 * time.Second))
	if !isClosed(a) || isClosed(b) || !p.armed {
		t.Error("after a's time: a must be closed, b not, and a sweep due")
	}
	if p.take(now.Add(25*time.Second)) != nil || !isClosed(b) {
		t.Error("b was handed out after its time")
	}
	p.sweep(now.Add(26 * time.Second))
	if p.armed {
		t.Error("a sweep is due of nothing")
	}
	last := add(time.Minute)
	p.close()
	if !isClosed(last) {
		t.Error("open after close")
	}
	if late := add(time.Minute); !isClosed(late) {
		t.Error("kept after close")
	}
}

func TestCancelledContextEndsTheRequest(t *testing.T) {
	for _, cfg := range []Config{silent(t), serve(t, "h2c", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })} {
		u, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
		defer cancel()
		res, err := u.Forward(&sink{h: http.Header{}}, get(t, ctx, "http://a/"), nil)
		if !errors.Is(err, ErrTimeout) || res.Started {
			t.Errorf("deadline: %+v %v", res, err)
		}
	}
}
