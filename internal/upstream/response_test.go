package upstream

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// hostile are answers that must be refused before the client sees any of them.
var hostile = []struct{ name, answer string }{
	{"not HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n"},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	{"version 2", "HTTP/2.0 200 OK\r\n\r\n"},
	{"version 1.2", "HTTP/1.2 200 OK\r\n\r\n"},
	{"no status", "HTTP/1.1\r\n\r\n"},
	{"short status", "HTTP/1.1 20\r\n\r\n"},
	{"long status", "HTTP/1.1 2000 OK\r\n\r\n"},
	{"status below 100", "HTTP/1.1 099 Odd\r\n\r\n"},
	{"letters for status", "HTTP/1.1 2O0 OK\r\n\r\n"},
	{"signed status", "HTTP/1.1 +20 OK\r\n\r\n"},
	{"length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"},
	{"length list", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"},
	{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"},
	{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx"},
	{"empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n"},
	{"hexadecimal length", "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello"},
	{"length overflow", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"},
	{"other coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"},
	{"two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"},
	{"coding twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"no colon", "HTTP/1.1 200 OK\r\nServer\r\n\r\n"},
	{"no name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"},
	{"first line folded", "HTTP/1.1 200 OK\r\n X: y\r\n\r\n"},
	{"colon in a folded line", "HTTP/1.1 200 OK\r\nX\r\n Y: z\r\n\r\n"},
	{"odd name", "HTTP/1.1 200 OK\r\nX(y): z\r\n\r\n"},
	{"CR in value", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n"},
	{"CR before value", "HTTP/1.1 200 OK\r\nX: \ra\r\n\r\n"},
	{"NUL in value", "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n"},
	{"escape in value", "HTTP/1.1 200 OK\r\nX: \x1b[2J\r\n\r\n"},
	{"giant header", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 300<<10) + "\r\n\r\n"},
	{"endless header line", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 1<<20)},
	{"too many fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 2000) + "\r\n"},
	{"ends in the header", "HTTP/1.1 200 OK\r\nContent-Le"},
	{"ends in the status line", "HTTP/1."},
	{"protocol switch unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
}

func TestForwardRefusesMalformedAnswers(t *testing.T) {
	for _, test := range hostile {
		t.Run(test.name, func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: answering(t, test.answer, true)})
			c := f.dial(t)
			// Not HEAD or POST: what a browser sends.
			c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			res, err := http.ReadResponse(c.r, nil)
			for err == nil && res.StatusCode < 200 {
				res, err = http.ReadResponse(c.r, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			o := f.outcome(t)
			if res.StatusCode != 502 || o.Failure != FailureResponse || o.Started {
				t.Errorf("the client got %d; %+v", res.StatusCode, o)
			}
			if len(res.Header["X"])+len(res.Header["Set-Cookie"]) > 0 {
				t.Errorf("part of the answer came through: %v", res.Header)
			}
			if o.err != nil && (len(o.err.Error()) > 300 || strings.ContainsAny(o.err.Error(), "\r\n\x1b\x00")) {
				t.Errorf("the error would spoil a log: %q", o.err)
			}
		})
	}
}

func TestForwardBreaksOffWhenTheAnswerDoes(t *testing.T) {
	for _, test := range []struct{ name, answer string }{
		{"shorter than its length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"},
		{"much shorter", "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("x", 100<<10)},
		{"no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"},
		{"short chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello\r\n"},
		{"long chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n"},
		{"bad chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nz\r\n\r\n"},
		{"signed chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n"},
		{"no chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;x\r\n\r\n"},
		{"chunk size overflow", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n"},
		{"bare LF", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n"},
		{"endless chunk line", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("x", 20<<10) + "\r\nhello\r\n0\r\n\r\n"},
		{"no end of trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n"},
		{"malformed trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX\r\n\r\n"},
		{"giant trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("y", 300<<10) + "\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFront(t, frontOptions{cfg: answering(t, test.answer, true)})
			c := f.dial(t)
			c.send(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			if res, err := http.ReadResponse(c.r, nil); err == nil {
				if n, err := io.Copy(io.Discard, res.Body); err == nil {
					t.Errorf("the client takes %d bytes for the whole answer", n)
				}
			} // or the connection ended before anything was sent on
			if o := f.outcome(t); o.Failure != FailureResponse || !o.Started || o.Status != 200 {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestHeadersOfAllSizesFit(t *testing.T) {
	for _, n := range []int{1, 4000, 16300, 16384, 20000, 100 << 10, 250 << 10} {
		value := strings.Repeat("v", n)
		f := newFront(t, frontOptions{cfg: answering(t, "HTTP/1.1 200 OK\r\nBig: "+value+"\r\nContent-Length: 3\r\n\r\nend", false)})
		r := get(t, t.Context(), "http://a/")
		r.Header.Set("Big", value)
		for range 2 {
			w := httptest.NewRecorder()
			if _, err := f.up.Forward(w, r, nil); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if w.Header().Get("Big") != value || w.Body.String() != "end" {
				t.Errorf("%d bytes: header of %d, body %q", n, len(w.Header().Get("Big")), w.Body)
			}
		}
	}
}

func TestKeepAliveHintIsHeeded(t *testing.T) {
	for _, test := range []struct {
		hint string
		want time.Duration
	}{{"timeout=5, max=100", 5 * time.Second}, {"max=3,TIMEOUT=7", 7 * time.Second}, {"timeout=-1", 0}, {"timeout=99999999999999999999", 0}, {"", 0}, {"x", 0}} {
		if got := parseKeepAlive(test.hint); got != test.want {
			t.Errorf("%q: %v", test.hint, got)
		}
	}
	f := newFront(t, frontOptions{cfg: answering(t, "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n", false)})
	f.ask(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	f.outcome(t)
	f.up.pool.mu.Lock()
	defer f.up.pool.mu.Unlock()
	if n := len(f.up.pool.idle); n != 1 {
		t.Fatalf("%d idle connections", n)
	}
	if c := f.up.pool.idle[0]; c.idleUntil.Sub(c.idleSince) != 4500*time.Millisecond {
		t.Errorf("kept for %v", c.idleUntil.Sub(c.idleSince))
	}
}

// FuzzParseHead holds the parser against net/http's: what this one accepts, that
// one accepts with the same meaning.
func FuzzParseHead(f *testing.F) {
	for _, h := range hostile {
		if len(h.answer) < 4096 {
			f.Add(h.answer)
		}
	}
	f.Add("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 0\r\nETag: \"6560b2a0-400\"\r\n\r\n")
	f.Add("HTTP/1.0 200\nA: b\n\tc\nConnection: keep-alive\n\n")
	f.Add("HTTP/1.1 200 OK\r\nContent-Length : 5\r\nConnection: x, Close\r\nX: y\r\nTrailer: a,b\r\n\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		n := headEnd([]byte(s), 0)
		if n < 0 {
			return
		}
		block := s[:n]
		h, err := parseHead(block, nil)
		if err != nil {
			return
		}
		for _, fd := range h.fields {
			if !allOf(fd.Name, tokenByte) || fd.Name == "" || !allOf(fd.Value, valueByte) {
				t.Fatalf("field %q: %q", fd.Name, fd.Value)
			}
		}
		if strings.Contains(block, " :") || strings.Contains(block, "\t:") {
			return // RFC 9112 §5.1 has a proxy take the space away; net/http keeps it
		}
		ref, err := http.ReadResponse(bufio.NewReader(strings.NewReader(block)), nil)
		if err != nil {
			t.Fatalf("net/http refuses it: %v\n%q", err, block)
		}
		if ref.StatusCode != h.status {
			t.Fatalf("status %d, net/http %d", h.status, ref.StatusCode)
		}
		if !h.bodyless("GET") && ref.ProtoMinor == 1 && (h.length >= 0 && ref.ContentLength != h.length || h.chunked != (len(ref.TransferEncoding) > 0)) {
			t.Fatalf("length %d chunked %v, net/http %d %v\n%q", h.length, h.chunked, ref.ContentLength, ref.TransferEncoding, block)
		}
		for _, fd := range h.fields {
			found := false
			for _, v := range ref.Header[fd.Name] {
				found = found || trimOWS(v) == fd.Value
			}
			if !found {
				t.Fatalf("field %q: %q, net/http %q", fd.Name, fd.Value, ref.Header[fd.Name])
			}
		}
	})
}

// FuzzAnswer gives Forward arbitrary bytes for an answer, in arbitrary pieces: it
// must return, and say that it was answered only if the framing is whole.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), uint8(3))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nA: b\r\n\r\n"), uint8(1))
	f.Add([]byte("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"), uint8(7))
	f.Add([]byte("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), uint8(0))
	f.Fuzz(func(t *testing.T, answer []byte, piece uint8) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			if _, err := readHeader(bufio.NewReader(there)); err != nil {
				return
			}
			for size := int(piece) + 1; len(answer) > 0; {
				n := min(size, len(answer))
				if _, err := there.Write(answer[:n]); err != nil {
					return
				}
				answer = answer[n:]
			}
		}()
		u, err := New(Config{URL: "http://a"})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		u.dial = dialing(here)
		whole := string(answer)
		w := httptest.NewRecorder()
		res, err := u.Forward(w, get(t, t.Context(), "http://a/"), nil)
		if err != nil {
			if res.Failure == FailureNone || !res.Started && len(w.Header()) > 0 {
				t.Fatalf("%+v %v %v", res, err, w.Header())
			}
			return
		}
		if !res.Started || res.Status < 200 || res.Bytes != int64(w.Body.Len()) || res.Bytes > int64(len(whole)) {
			t.Fatalf("%+v", res)
		}
	})
}
