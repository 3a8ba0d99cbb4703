package clientaddr

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// pipeListener hands out connections whose peer is what the test says.
type pipeListener struct{ conns chan net.Conn }

func (l *pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *pipeListener) Close() error   { close(l.conns); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// dial connects as a peer and returns the client's end.
func (l *pipeListener) dial(peer net.Addr) net.Conn {
	client, server := net.Pipe()
	l.conns <- peerConn{server, peer}
	return client
}

type peerConn struct {
	net.Conn
	peer net.Addr
}

func (c peerConn) RemoteAddr() net.Addr { return c.peer }

// SetReadDeadline makes up for a difference between net.Pipe and sockets: a
// pipe refuses deadlines as soon as the other end is closed.
func (c peerConn) SetReadDeadline(t time.Time) error {
	if err := c.Conn.SetReadDeadline(t); err != io.ErrClosedPipe {
		return err
	}
	return nil
}

func tcp(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// v2 builds a version 2 header.
func v2(t testing.TB, command, family byte, payload []byte) string {
	t.Helper()
	b := append([]byte{}, proxyproto.SIGV2...)
	b = append(b, command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return string(append(b, payload...))
}

func v2TCP4(t testing.TB, src string, tlv ...byte) string {
	t.Helper()
	ap := netip.MustParseAddrPort(src)
	ip := ap.Addr().As4()
	p := append(ip[:], 192, 0, 2, 1)
	p = binary.BigEndian.AppendUint16(p, ap.Port())
	p = binary.BigEndian.AppendUint16(p, 443)
	return v2(t, 0x21, 0x11, append(p, tlv...))
}

func TestProxyHeader(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
	const lb = "10.0.0.1:5000"
	v6 := append(append(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice()...), 0x30, 0x39, 1, 187)
	tests := []struct {
		name, peer, sent string
		mode             ProxyMode
		remote, read     string // read "" when the connection must be closed
	}{
		{"v1", lb, "PROXY TCP4 203.0.113.5 192.0.2.1 51234 443\r\n" + get, ProxyRequired, "203.0.113.5:51234", get},
		{"v1 IPv6", lb, "PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n" + get, ProxyOptional, "[2001:db8::7]:51234", get},
		{"v1 folded", lb, "PROXY TCP6 ::ffff:203.0.113.5 2001:db8::1 51234 443\r\n" + get, ProxyOptional, "203.0.113.5:51234", get},
		{"v1 unknown", lb, "PROXY UNKNOWN\r\n" + get, ProxyRequired, lb, get},
		{"v1 unknown with addresses", lb, "PROXY UNKNOWN 1.1.1.1 2.2.2.2 1 2\r\n" + get, ProxyRequired, lb, get},
		{"v2", lb, v2TCP4(t, "203.0.113.5:51234") + get, ProxyRequired, "203.0.113.5:51234", get},
		{"v2 IPv6", lb, v2(t, 0x21, 0x21, v6) + get, ProxyOptional, "[2001:db8::7]:12345", get},
		{"v2 with TLVs longer than a packet's usual", lb, v2TCP4(t, "203.0.113.5:51234", bytes.Repeat([]byte{4, 0, 0}, 400)...) + get, ProxyRequired, "203.0.113.5:51234", get},
		{"v2 local", lb, v2(t, 0x20, 0x00, nil) + get, ProxyRequired, lb, get},
		{"v2 local with address", lb, strings.Replace(v2TCP4(t, "203.0.113.5:1"), "\x21\x11", "\x20\x11", 1) + get, ProxyRequired, lb, get},
		{"v2 from a Unix socket", lb, v2(t, 0x21, 0x31, make([]byte, 216)) + get, ProxyRequired, lb, get},
		{"v2 unspecified source", lb, v2TCP4(t, "0.0.0.0:0") + get, ProxyRequired, lb, get},
		{"none though optional", lb, get, ProxyOptional, lb, get},
		{"none, but begins alike", lb, "PROPFIND / HTTP/1.1\r\n\r\n", ProxyOptional, lb, "PROPFIND / HTTP/1.1\r\n\r\n"},
		{"none though required", lb, get, ProxyRequired, lb, ""},
		{"from an untrusted peer, optional: bytes as they are", "203.0.113.9:1", "PROXY TCP4 6.6.6.6 192.0.2.1 1 2\r\n", ProxyOptional, "203.0.113.9:1", "PROXY TCP4 6.6.6.6 192.0.2.1 1 2\r\n"},
		{"v1 bad address", lb, "PROXY TCP4 203.0.113 192.0.2.1 51234 443\r\n" + get, ProxyOptional, lb, ""},
		{"v1 wrong family", lb, "PROXY TCP4 2001:db8::7 192.0.2.1 51234 443\r\n" + get, ProxyOptional, lb, ""},
		{"v1 bad port", lb, "PROXY TCP4 203.0.113.5 192.0.2.1 70000 443\r\n" + get, ProxyOptional, lb, ""},
		{"v1 endless", lb, "PROXY TCP4 " + strings.Repeat("1", 4000), ProxyOptional, lb, ""},
		{"v1 no CR", lb, "PROXY TCP4 203.0.113.5 192.0.2.1 51234 443\n" + get, ProxyOptional, lb, ""},
		{"v1 cut off", lb, "PROXY TCP4 203", ProxyOptional, lb, ""},
		{"v2 cut off", lb, v2TCP4(t, "203.0.113.5:51234")[:20], ProxyOptional, lb, ""},
		{"v2 version 3", lb, v2(t, 0x31, 0x11, make([]byte, 12)), ProxyOptional, lb, ""},
		{"v2 too short for its family", lb, v2(t, 0x21, 0x21, make([]byte, 12)), ProxyOptional, lb, ""},
		{"v2 enormous", lb, v2(t, 0x21, 0x11, make([]byte, 65000)), ProxyOptional, lb, ""},
		{"signature cut off", lb, "\r\n\r\n\x00", ProxyOptional, lb, ""},
	}
	r := trusting(t, "10.0.0.0/8")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inner := &pipeListener{make(chan net.Conn, 1)}
			l := r.Listener(inner, tt.mode, time.Minute)
			client := inner.dial(tcp(tt.peer))
			go func() {
				io.WriteString(client, tt.sent) // fails when the connection is closed before all was read
				client.Close()
			}()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.RemoteAddr().String(); got != tt.remote {
				t.Errorf("remote %s, want %s", got, tt.remote)
			}
			got, err := io.ReadAll(c)
			if tt.read == "" {
				if err == nil || len(got) > 0 {
					t.Fatalf("read %q, %v from a connection that must be closed", got, err)
				}
				if _, err := client.Read(make([]byte, 1)); err == nil {
					t.Error("the client's end is still open")
				}
				return
			}
			if err != nil || string(got) != tt.read {
				t.Errorf("read %q, %v, want %q", got, err, tt.read)
			}
		})
	}
}

func TestRequiredModeClosesUntrustedPeersAndGoesOn(t *testing.T) {
	inner := &pipeListener{make(chan net.Conn, 2)}
	l := trusting(t, "10.0.0.0/8").Listener(inner, ProxyRequired, time.Minute)
	forger := inner.dial(tcp("203.0.113.9:1"))
	inner.dial(tcp("10.0.0.1:1"))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if pc, ok := c.(*proxyConn); !ok || pc.Conn.RemoteAddr().String() != "10.0.0.1:1" {
		t.Errorf("accepted %v", c)
	}
	if _, err := forger.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the untrusted connection: %v", err)
	}
}

func TestHeaderFromUnixSocketIsBelievedOnlyWhenTrusted(t *testing.T) {
	for _, trust := range []bool{false, true} {
		inner := &pipeListener{make(chan net.Conn, 1)}
		l := newResolver(t, Config{TrustUnix: trust}).Listener(inner, ProxyOptional, time.Minute)
		client := inner.dial(&net.UnixAddr{Net: "unix", Name: "@"})
		go io.WriteString(client, "PROXY TCP4 203.0.113.5 192.0.2.1 51234 443\r\n")
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := c.RemoteAddr().String(); (got == "203.0.113.5:51234") != trust {
			t.Errorf("trust %v: remote %s", trust, got)
		}
		c.Close()
	}
}

func TestHeaderInManyPacketsIsTaken(t *testing.T) {
	for _, sent := range []string{"PROXY TCP4 203.0.113.5 192.0.2.1 51234 443\r\nrest", v2TCP4(t, "203.0.113.5:51234") + "rest"} {
		client, server := net.Pipe()
		go func() {
			for i := range sent {
				client.Write([]byte{sent[i]})
			}
			client.Close()
		}()
		c := newProxyConn(peerConn{server, tcp("10.0.0.1:1")}, true, time.Minute)
		if got := c.RemoteAddr().String(); got != "203.0.113.5:51234" {
			t.Errorf("remote %s", got)
		}
		if got, err := io.ReadAll(c); string(got) != "rest" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

func TestSlowHeaderTimesOutWithoutHoldingAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &pipeListener{make(chan net.Conn, 3)}
		l := trusting(t, "10.0.0.0/8").Listener(inner, ProxyOptional, 5*time.Second)
		silent, partial := inner.dial(tcp("10.0.0.1:1")), inner.dial(tcp("10.0.0.2:1"))
		prompt := inner.dial(tcp("10.0.0.3:1"))
		var conns []net.Conn
		for range 3 {
			c, err := l.Accept() // would deadlock the bubble if it waited for silent
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			conns = append(conns, c)
		}
		go io.WriteString(partial, "PROXY TC")
		go io.WriteString(prompt, "PROXY TCP4 203.0.113.5 192.0.2.1 51234 443\r\n")
		if got := conns[2].RemoteAddr().String(); got != "203.0.113.5:51234" {
			t.Errorf("prompt client: %s", got)
		}
		start := time.Now()
		for i, c := range conns[:2] {
			// A deadline set meanwhile must not prolong the wait.
			if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			go func() {
				time.Sleep(time.Second)
				c.SetReadDeadline(time.Time{})
			}()
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("conn %d: %v", i, err)
			}
		}
		if d := time.Since(start); d != 10*time.Second { // the bubble's clock: two waits, one after the other
			t.Errorf("took %v", d)
		}
		for _, c := range []net.Conn{silent, partial} {
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("client's end: %v", err)
			}
		}
	})
}

func TestDeadlineOfTheUserHoldsAfterTheHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := newProxyConn(peerConn{server, tcp("10.0.0.1:1")}, true, time.Second)
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(time.Minute))
		go io.WriteString(client, "PROXY UNKNOWN\r\n")
		c.RemoteAddr()
		start := time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("after %v", d)
		}
	})
}

func TestServerBehindPROXYProtocol(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := trusting(t, "127.0.0.0/8").Listener(inner, ProxyRequired, 10*time.Second)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	ask := func(preface string) (string, error) {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, preface+"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	if got, err := ask("PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n"); got != "[2001:db8::7]:51234" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := ask("PROXY TCP4 nonsense\r\n"); err == nil {
		t.Errorf("a malformed header was answered %q", got)
	}
	if got, err := ask(v2TCP4(t, "203.0.113.5:51234")); got != "203.0.113.5:51234" {
		t.Errorf("after a malformed one: got %q, %v", got, err)
	}
	srv.Close()
	if err := <-done; err != http.ErrServerClosed {
		t.Error(err)
	}
}

func TestParseProxyMode(t *testing.T) {
	for s, want := range map[string]ProxyMode{"off": ProxyOff, "optional": ProxyOptional, "required": ProxyRequired} {
		if got, err := ParseProxyMode(s); got != want || err != nil {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	if _, err := ParseProxyMode("on"); err == nil || !strings.Contains(err.Error(), "required") {
		t.Errorf("got %v", err)
	}
	inner := &pipeListener{}
	if trusting(t).Listener(inner, ProxyOff, 0) != net.Listener(inner) {
		t.Error("off must leave the listener alone")
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.5 192.0.2.1 51234 443\r\nGET /"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte("PROXY TCP6 ::1 ::2 1 2\r\n"))
	f.Add([]byte(v2TCP4(f, "203.0.113.5:51234", 4, 0, 1, 0) + "GET /"))
	f.Add([]byte(v2(f, 0x20, 0, nil)))
	f.Add([]byte(v2(f, 0x21, 0x31, make([]byte, 216))))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := bufio.NewReaderSize(bytes.NewReader(in), maxProxyHeader)
		remote, err := readProxyHeader(b, false)
		if err != nil {
			if remote != nil {
				t.Errorf("%v in spite of %v", remote, err)
			}
			return
		}
		if remote != nil {
			ap, err := netip.ParseAddrPort(remote.String())
			if err != nil {
				t.Fatal(err)
			}
			checkClient(t, ap.Addr())
		}
		rest, err := io.ReadAll(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(in, rest) {
			t.Errorf("the bytes after the header were changed: %q", rest)
		}
		if !bytes.HasPrefix(in, proxyproto.SIGV1) && !bytes.HasPrefix(in, proxyproto.SIGV2) && len(rest) != len(in) {
			t.Errorf("without a header %d bytes were consumed", len(in)-len(rest))
		}
	})
}

func BenchmarkProxyHeader(b *testing.B) {
	for _, bm := range []struct{ name, in string }{
		{"v1", "PROXY TCP4 203.0.113.5 192.0.2.1 51234 443\r\n"},
		{"v2", v2TCP4(b, "203.0.113.5:51234")},
	} {
		b.Run(bm.name, func(b *testing.B) {
			src := strings.NewReader(bm.in)
			r := bufio.NewReaderSize(src, maxProxyHeader)
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(bm.in)
				r.Reset(src)
				if _, err := readProxyHeader(r, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
