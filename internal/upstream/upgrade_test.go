package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestWebSocketsPass(t *testing.T) {
	for _, out := range waysOut { // for h2c this is HTTP/1.1 on the same port
		t.Run(out, func(t *testing.T) {
			f := newFront(t, frontOptions{
				options: func(*http.Request) *Options {
					return &Options{OnHeader: func(status int, h http.Header) { h.Set("Status-Seen", fmt.Sprint(status)) }}
				},
				cfg: serve(t, out, func(w http.ResponseWriter, r *http.Request) {
					c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, CompressionMode: websocket.CompressionContextTakeover})
					if err != nil {
						t.Error(err)
						return
					}
					defer c.CloseNow()
					c.SetReadLimit(1 << 20)
					for {
						kind, b, err := c.Read(r.Context())
						if err != nil {
							return
						}
						if err := c.Write(r.Context(), kind, b); err != nil {
							return
						}
					}
				}),
			})
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			c, res, err := websocket.Dial(ctx, f.URL+"/socket", &websocket.DialOptions{Subprotocols: []string{"chat"}, CompressionMode: websocket.CompressionContextTakeover})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow()
			if c.Subprotocol() != "chat" || res.Header.Get("Status-Seen") != "101" {
				t.Errorf("subprotocol %q, header %v", c.Subprotocol(), res.Header)
			}
			c.SetReadLimit(1 << 20)
			for _, n := range []int{0, 1, 125, 70000, 500000} {
				want := bytes.Repeat([]byte{byte(n), 'x'}, n/2+1)
				if err := c.Write(ctx, websocket.MessageBinary, want); err != nil {
					t.Fatal(err)
				}
				if _, got, err := c.Read(ctx); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes: got %d, %v", len(want), len(got), err)
				}
			}
			if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
				t.Error(err)
			}
			if o := f.outcome(t); o.err != nil || !o.Upgraded || o.Status != 101 || o.Bytes == 0 {
				t.Errorf("%+v", o)
			}
		})
	}
}

const upgradeRequest = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: Echo\r\n\r\n"
const upgradeAnswer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\nX: y\r\n\r\n"

// upgraded connects to a front whose origin, once upgraded, does what f does.
func upgraded(t *testing.T, cfg func(*Config), origin func(c *net.TCPConn, r *bufio.Reader)) (*front, *rawClient) {
	t.Helper()
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		if head, err := readHeader(r); err != nil || !strings.Contains(head, "\r\nConnection: Upgrade\r\nUpgrade: Echo\r\n") {
			t.Errorf("the origin got %q, %v", head, err)
		}
		io.WriteString(c, upgradeAnswer)
		origin(c.(*net.TCPConn), r)
	})
	if cfg != nil {
		cfg(&o)
	}
	f := newFront(t, frontOptions{cfg: o})
	c := f.dial(t)
	c.send(t, upgradeRequest)
	res, err := http.ReadResponse(c.r, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "echo" || res.Header.Get("Connection") != "Upgrade" || res.Header.Get("X") != "y" {
		t.Fatalf("%+v, %v", res, err)
	}
	return f, c
}

func TestUpgradeHalvesEndOneByOne(t *testing.T) {
	t.Run("the client's first", func(t *testing.T) {
		f, c := upgraded(t, nil, func(c *net.TCPConn, r *bufio.Reader) {
			b, err := io.ReadAll(r) // to the client's end
			fmt.Fprintf(c, "got %s %v", b, err)
		})
		c.send(t, "question")
		c.CloseWrite()
		if b, err := io.ReadAll(c.r); err != nil || string(b) != "got question <nil>" {
			t.Errorf("%q, %v", b, err)
		}
		if o := f.outcome(t); o.err != nil || o.Bytes != 18 {
			t.Errorf("%+v", o)
		}
	})
	t.Run("the origin's first", func(t *testing.T) {
		got := make(chan string, 1)
		f, c := upgraded(t, nil, func(c *net.TCPConn, r *bufio.Reader) {
			io.WriteString(c, "greeting")
			c.CloseWrite()
			b, _ := io.ReadAll(r)
			got <- string(b)
		})
		if b, err := io.ReadAll(c.r); err != nil || string(b) != "greeting" {
			t.Errorf("%q, %v", b, err)
		}
		c.send(t, "late answer")
		c.CloseWrite()
		if b := receive(t, got, "the origin to read"); b != "late answer" {
			t.Errorf("%q", b)
		}
		if o := f.outcome(t); o.err != nil || o.Bytes != 8 {
			t.Errorf("%+v", o)
		}
	})
}

func TestUpgradeEndsWhenASideDies(t *testing.T) {
	t.Run("the client", func(t *testing.T) {
		ended := make(chan error, 1)
		f, c := upgraded(t, nil, func(c *net.TCPConn, r *bufio.Reader) {
			_, err := io.Copy(c, r)
			ended <- err
		})
		c.SetLinger(0)
		c.Close()
		receive(t, ended, "the origin to be told")
		f.outcome(t)
	})
	t.Run("the origin", func(t *testing.T) {
		f, c := upgraded(t, nil, func(c *net.TCPConn, r *bufio.Reader) {
			c.SetLinger(0)
			c.Close()
		})
		io.Copy(io.Discard, c.r) // until the end
		f.outcome(t)
	})
	t.Run("half of it, and the other is silent", func(t *testing.T) {
		stop := make(chan struct{})
		f, c := upgraded(t, func(c *Config) { c.HalfCloseTimeout = 20 * time.Millisecond }, func(*net.TCPConn, *bufio.Reader) { <-stop })
		t.Cleanup(func() { close(stop) })
		c.CloseWrite()
		f.outcome(t)
	})
	t.Run("half of it, and the other goes on", func(t *testing.T) {
		f, c := upgraded(t, func(c *Config) { c.HalfCloseTimeout = 100 * time.Millisecond }, func(c *net.TCPConn, r *bufio.Reader) {
			io.Copy(io.Discard, r)
			for range 15 { // longer than the time-out in sum
				time.Sleep(20 * time.Millisecond)
				io.WriteString(c, "tick")
			}
		})
		c.CloseWrite()
		if b, err := io.ReadAll(c.r); err != nil || len(b) != 60 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		f.outcome(t)
	})
	t.Run("the request's context", func(t *testing.T) {
		cfg := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
			readHeader(r)
			io.WriteString(c, upgradeAnswer)
			io.Copy(c, r)
		})
		f := newFront(t, frontOptions{cfg: cfg})
		ctx, cancel := context.WithCancel(t.Context())
		inner := f.Config.Handler
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(w, r.WithContext(ctx)) })
		c := f.dial(t)
		c.send(t, upgradeRequest)
		if _, err := http.ReadResponse(c.r, nil); err != nil {
			t.Fatal(err)
		}
		cancel()
		if o := f.outcome(t); o.Failure != FailureClientGone || !o.Started {
			t.Errorf("%+v", o)
		}
		if _, err := io.ReadAll(c.r); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
	})
}

func TestUpgradeLosesNoEarlyBytes(t *testing.T) {
	cfg := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHeader(r)
		io.WriteString(c, upgradeAnswer+"early from the origin") // in one piece
		got := make([]byte, len("early from the client"))
		io.ReadFull(r, got)
		c.Write(got)
	})
	f := newFront(t, frontOptions{cfg: cfg})
	c := f.dial(t)
	c.send(t, upgradeRequest+"early from the client")
	if _, err := http.ReadResponse(c.r, nil); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(io.LimitReader(c.r, 42)); err != nil || string(b) != "early from the originearly from the client" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestUpgradeMayBeDeclined(t *testing.T) {
	f := newFront(t, frontOptions{cfg: answering(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", false)})
	c := f.dial(t)
	for range 2 {
		c.send(t, upgradeRequest)
		if res, body := c.answer(t, "GET"); res.StatusCode != 403 || body != "no" {
			t.Errorf("%d %q", res.StatusCode, body)
		}
	}
}

func TestUpgradeToAnotherProtocolIsRefused(t *testing.T) {
	f := newFront(t, frontOptions{cfg: answering(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", false)})
	res, _ := f.ask(t, upgradeRequest)
	if o := f.outcome(t); res.StatusCode != 502 || o.Failure != FailureResponse || o.Started {
		t.Errorf("%d %+v", res.StatusCode, o)
	}
}

func TestUpgradeIsNotOfferedWithABody(t *testing.T) {
	f := newFront(t, frontOptions{cfg: serve(t, "http", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q %s", r.Header["Upgrade"], b)
	})})
	if _, body := f.ask(t, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 2\r\n\r\nhi"); body != "[] hi" {
		t.Errorf("%q", body)
	}
}
